//! A symbol's book by order: what each order event does to it, and when it is the venue's.
//!
//! ```text
//! book    Unknown ──snapshot told, or cleared──▶ Valid ──something is missing──▶ Broken ──snapshot told, or cleared──▶ Valid
//!
//! run     part ▶ part ▶ … ▶ part, the last   a snapshot, told order by order: it ends with the last record of its event, or
//!                                            where a record that is no part of it follows
//! event   record ▶ … ▶ record, the last      counts as a whole: no minute and no day begins within it
//! ```
//!
//! A run takes the place of the book, whatever that was, and of the orders that stood in it: two that tell the same do not
//! double it. One that was received before the last event of a valid book is old and changes nothing, as when files are given
//! in another order than that of their days. A run is worth nothing if records may be missing in it.
//!
//! **Days.** The parts of a run are of the day on which they were received, if they are stamped earlier: they say what stood in
//! the book then. A day that such a run opens has no other snapshot at its opening: it would be replaced at once. Minutes
//! begin to count with the first event behind the run.
//!
//! **What is missing.** Orders have no ids that follow each other: the venue's sequence goes back in snapshots and repeats
//! within events. So a hole is what somebody says: the feed (a gap record, frames lost in the raw stream), the venue
//! ([`MAYBE_BAD_BOOK`]), or the refinery, when an event came too late, had a time that is not believed or did not fit the book.
//! Until the next snapshot events are kept and not applied.
//!
//! A symbol has one kind of book, that of its first record: what another schema tells of its book is kept and not applied.

use chronicle_protocol::{GapCause, Head, OrderAction, OrderEvent, OrdersSnapshot, Record, RecordFlags};
use chronicle_storage::root::{Date, Stream};
use serde::{Deserialize, Serialize};

use super::super::{Context, Item, NOT_APPLIED, Sink, WAITING_MAX};
use super::{Ids, Symbol, minute_after};
use crate::book::Touch;
use crate::oddity::Oddity;
use crate::orders::OrderBook;

/// Databento's flag for a gap in the venue's channel that could not be closed.
const MAYBE_BAD_BOOK: RecordFlags = RecordFlags(1 << 2);

/// A minute that has not begun: the snapshot that the book is was followed by no event yet.
const NO_MINUTE: u64 = u64::MAX;

/// A symbol's orders, and where in the stream they stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) book: OrderBook,
    /// Receive time of the last event in the book.
    received_ns: u64,
    run: Option<Run>,
    event: Option<Event>,
}

/// A snapshot that is being told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Run {
    date: Date,
    worth: Worth,
    /// Exchange time of its newest part, and the venue's number of its last.
    stamped_ns: u64,
    sequence: u64,
}

/// What a run is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Worth {
    /// It becomes the book.
    Book,
    /// It was received before what is in the book.
    Old,
    /// Parts of it may be missing.
    Spoiled,
}

/// An event whose last record has not come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Event {
    date: Date,
    count: usize,
}

impl Symbol {
    /// When a record happened, as far as it says. A part of a snapshot says what stood in the book when it was received.
    pub(super) fn stamp(record: &Record<'_>, ingest_ns: u64) -> u64 {
        let own = record.head().exchange_ns;
        let of_snapshot = match record {
            Record::OrderEvent(event) => event.flags.has(RecordFlags::SNAPSHOT),
            Record::OrdersSnapshot(_) => true,
            _ => false,
        };
        if of_snapshot && own != 0 { own.max(Date::of_ns(ingest_ns).start_ns()) } else { own }
    }

    /// Whether its book is by price, because that is what came first.
    pub(super) fn is_by_price(&self) -> bool {
        self.orders.is_none() && (self.valid || self.seen.is_some() || self.pending.is_some())
    }

    /// A record of the book that is of another kind than the book, or of a name that the symbol no longer has.
    pub(super) fn of_another_kind<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        record: &Record<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        let date = self.day_beside_the_book(time);
        let counts = self.counts(cx, date, Stream::Book);
        match record {
            Record::BookSnapshot(_) | Record::OrdersSnapshot(_) => counts.snapshots += 1,
            _ => counts.not_applied += 1,
        }
        self.write(cx, item, date, Stream::Book, NOT_APPLIED, time)
    }

    /// A record of the book by order will not be in it.
    pub(super) fn miss<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        record: &Record<'_>,
        cause: GapCause,
        time: u64,
    ) -> Result<(), S::Error> {
        let Record::OrderEvent(event) = record else { return Ok(()) };
        if changes(event.action) {
            self.lose_orders(cx, event.sequence, (0, 0), cause, time)?;
        }
        if let Some(orders) = &mut self.orders
            && event.flags.has(RecordFlags::SNAPSHOT)
        {
            // What follows is not the whole snapshot.
            let spoiled = Run { date: Date::of_ns(time), worth: Worth::Spoiled, stamped_ns: 0, sequence: 0 };
            orders.run = (!event.flags.has(RecordFlags::LAST)).then_some(spoiled);
        }
        Ok(())
    }

    /// From here on the book by order is not the venue's, and the snapshot that is being told neither.
    pub(super) fn lose_orders<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        sequence: u64,
        missing: (u64, u64),
        cause: GapCause,
        time: u64,
    ) -> Result<(), S::Error> {
        let Some(orders) = &mut self.orders else { return Ok(()) };
        let mut was_told = false;
        if let Some(run) = &mut orders.run
            && run.worth == Worth::Book
        {
            run.worth = Worth::Spoiled;
            was_told = true;
        }
        orders.event = None;
        if self.valid || was_told {
            let ids = Ids { first: sequence, last: sequence, prev: None };
            self.break_off(cx, &Head::default(), ids, missing, Some(cause), time)?;
        }
        Ok(())
    }

    pub(super) fn order_event<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        event: &OrderEvent<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        // The same orders, whatever the symbol is called.
        self.book_turn = item.turn;
        if std::mem::take(&mut self.raw_lost) {
            self.lose_orders(cx, event.sequence, (0, 0), GapCause::RawLost, time)?;
        }
        let run = self.orders.get_or_insert_default().run;
        let is_part = event.flags.has(RecordFlags::SNAPSHOT);
        let is_last = event.flags.has(RecordFlags::LAST);
        let Some(run) = run else {
            if !is_part {
                return self.live_event(cx, item, event, time);
            }
            let run = self.begin_run(cx, item, time)?;
            return self.part(cx, item, event, run, is_last, time);
        };
        if is_part {
            return self.part(cx, item, event, run, is_last, time);
        }
        self.end_run(cx, run);
        self.live_event(cx, item, event, time)
    }

    /// The first part of a snapshot came.
    fn begin_run<S: Sink>(&mut self, cx: &mut Context<'_, S>, item: Item<'_>, time: u64) -> Result<Run, S::Error> {
        let own = Date::of_ns(time);
        let received_ns = self.orders.as_ref().map_or(0, |orders| orders.received_ns);
        if self.valid && item.ingest_ns < received_ns {
            let date = self.day_beside_the_book(time);
            return Ok(Run { date, worth: Worth::Old, stamped_ns: 0, sequence: 0 });
        }
        self.leave(cx, time)?;
        let orders = self.orders.get_or_insert_default();
        orders.book.clear();
        orders.received_ns = item.ingest_ns;
        orders.event = None;
        let date = self.open_day(self.floor.map_or(own, |floor| floor.max(own)));
        Ok(Run { date, worth: Worth::Book, stamped_ns: 0, sequence: 0 })
    }

    /// The book ends here, because another takes its place: the minutes up to here still had it.
    fn leave<S: Sink>(&mut self, cx: &mut Context<'_, S>, time: u64) -> Result<(), S::Error> {
        if self.valid
            && let Some(floor) = self.floor.filter(|floor| !self.is_sealed(*floor))
        {
            let time = time.min(floor.end_ns() - 1);
            self.cross_minutes(cx, time, floor)?;
            self.pass_time(cx, floor, time);
        }
        (self.valid, self.touch, self.next_minute) = (false, Touch::Apart, NO_MINUTE);
        Ok(())
    }

    /// A part of the snapshot that is being told.
    fn part<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        event: &OrderEvent<'_>,
        mut run: Run,
        is_last: bool,
        time: u64,
    ) -> Result<(), S::Error> {
        self.orders.get_or_insert_default().run = Some(run);
        if run.worth == Worth::Book && self.is_sealed(run.date) {
            // Its parts would be of two days, and neither would have the book.
            self.lose_orders(cx, event.sequence, (0, 0), GapCause::BookLost, time)?;
            run.worth = Worth::Spoiled;
        }
        let mut odd = None;
        if run.worth == Worth::Book {
            match self.orders.get_or_insert_default().book.apply(event) {
                Ok(it) => odd = it,
                Err(_) => {
                    self.lose_orders(cx, event.sequence, (0, 0), GapCause::BookLost, time)?;
                    run.worth = Worth::Spoiled;
                }
            }
        }
        let orders = self.orders.get_or_insert_default();
        match run.worth {
            Worth::Book => {
                orders.received_ns = orders.received_ns.max(item.ingest_ns);
                run.stamped_ns = run.stamped_ns.max(event.head.exchange_ns);
                run.sequence = event.sequence;
                orders.run = Some(run);
                let counts = self.counts(cx, run.date, Stream::Book);
                counts.applied += 1;
                counts.oddities.note(odd);
                self.write(cx, item, run.date, Stream::Book, 0, time.max(run.date.start_ns()))?;
                if is_last {
                    self.end_run(cx, run);
                }
                Ok(())
            }
            Worth::Old | Worth::Spoiled => {
                orders.run = (!is_last).then_some(run);
                let date = self.day_beside_the_book(time);
                let counts = self.counts(cx, date, Stream::Book);
                match run.worth {
                    Worth::Old => counts.duplicates += 1,
                    _ => counts.not_applied += 1,
                }
                self.write(cx, item, date, Stream::Book, NOT_APPLIED, time)
            }
        }
    }

    /// All parts of the snapshot came.
    fn end_run<S>(&mut self, cx: &Context<'_, S>, run: Run) {
        let orders = self.orders.get_or_insert_default();
        (orders.run, orders.event) = (None, None);
        if run.worth == Worth::Book {
            self.begin_book(run.date, run.sequence, run.stamped_ns, run.stamped_ns.max(run.date.start_ns()));
            self.look_at_orders(cx, run.date);
        }
    }

    /// The book is the venue's from here on.
    fn begin_book(&mut self, date: Date, sequence: u64, event_ns: u64, time: u64) {
        (self.valid, self.gap, self.raw_lost) = (true, None, false);
        (self.last_id, self.last_event_ns) = (sequence, event_ns);
        self.floor = Some(date);
        self.next_minute = NO_MINUTE;
        self.touched_ns = time;
    }

    /// An event that is no part of a snapshot.
    fn live_event<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        event: &OrderEvent<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        if event.flags.has(MAYBE_BAD_BOOK) {
            self.lose_orders(cx, event.sequence, (0, 0), GapCause::Sequence, time)?;
        }
        if !self.valid && event.action != OrderAction::Clear {
            let date = self.day_beside_the_book(time);
            let has_gap = self.gap.is_some();
            let counts = self.counts(cx, date, Stream::Book);
            if has_gap {
                counts.not_applied += 1;
            } else {
                counts.dropped_before_snapshot += 1;
            }
            return self.write(cx, item, date, Stream::Book, NOT_APPLIED, time);
        }
        let own = Date::of_ns(time);
        let orders = self.orders.get_or_insert_default();
        let date = match orders.event {
            Some(open) => self.open_day(open.date),
            None => {
                let date = self.open_day(self.floor.map_or(own, |floor| floor.max(own)));
                if self.valid {
                    self.cross_minutes(cx, time, date)?;
                    if self.next_minute == NO_MINUTE {
                        self.next_minute = minute_after(time);
                    }
                    self.open(cx, date, Stream::Book)?;
                    self.pass_time(cx, date, time);
                }
                date
            }
        };
        let orders = self.orders.get_or_insert_default();
        let odd = match orders.book.apply(event) {
            Ok(odd) => odd,
            Err(_) => {
                self.lose_orders(cx, event.sequence, (0, 0), GapCause::BookLost, time)?;
                let date = self.day_beside_the_book(time);
                self.counts(cx, date, Stream::Book).not_applied += 1;
                return self.write(cx, item, date, Stream::Book, NOT_APPLIED, time);
            }
        };
        orders.received_ns = orders.received_ns.max(item.ingest_ns);
        let is_last = event.flags.has(RecordFlags::LAST);
        let count = orders.event.map_or(0, |open| open.count) + 1;
        // An event of more records than that is none: a venue does not say where its events end.
        orders.event = (!is_last && count < WAITING_MAX).then_some(Event { date, count });
        let is_over = orders.event.is_none();
        if !self.valid {
            // Cleared: a book without orders is a whole book.
            self.open(cx, date, Stream::Book)?;
            self.begin_book(date, event.sequence, time, time);
            self.next_minute = minute_after(time);
        }
        let back = time < self.last_event_ns;
        self.last_id = event.sequence;
        self.last_event_ns = self.last_event_ns.max(time);
        self.floor = Some(date);
        if is_over {
            self.look_at_orders(cx, date);
        }
        let counts = self.counts(cx, date, Stream::Book);
        counts.applied += 1;
        counts.oddities.note(odd);
        counts.oddities.add(Oddity::TimeBack, u64::from(back));
        self.write(cx, item, date, Stream::Book, 0, time)
    }

    /// Counts how an event left the best prices.
    fn look_at_orders<S>(&mut self, cx: &Context<'_, S>, date: Date) {
        self.touch = self.orders.as_ref().map_or(Touch::Apart, |orders| orders.book.touch());
        match self.touch {
            Touch::Apart => {}
            Touch::Locked => self.counts(cx, date, Stream::Book).oddities.add(Oddity::Locked, 1),
            Touch::Crossed => self.counts(cx, date, Stream::Book).oddities.add(Oddity::Crossed, 1),
        }
    }

    /// A snapshot of the venue's, in one record.
    pub(super) fn orders_snapshot<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        snapshot: &OrdersSnapshot<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        self.book_turn = item.turn;
        let run = self.begin_run(cx, item, time)?;
        let orders = self.orders.get_or_insert_default();
        let is_whole = run.worth == Worth::Book && orders.book.replace(snapshot).is_ok();
        orders.run = Some(run);
        if run.worth == Worth::Book && !is_whole {
            self.lose_orders(cx, snapshot.sequence, (0, 0), GapCause::BookLost, time)?;
        }
        self.orders.get_or_insert_default().run = None;
        self.counts(cx, run.date, Stream::Book).snapshots += 1;
        let flags = if is_whole { 0 } else { NOT_APPLIED };
        self.write(cx, item, run.date, Stream::Book, flags, time.max(run.date.start_ns()))?;
        if is_whole {
            let stamped_ns = snapshot.head.exchange_ns;
            self.end_run(cx, Run { stamped_ns, sequence: snapshot.sequence, ..run });
        }
        Ok(())
    }
}

/// Whether a book is another one after such an event.
const fn changes(action: OrderAction) -> bool {
    matches!(action, OrderAction::Add | OrderAction::Modify | OrderAction::Cancel | OrderAction::Clear)
}
