//! One symbol of a venue: its clock, its days, its book and what waits.
//!
//! ```text
//! book      Unknown ──snapshot joined──▶ Valid ──ids missing──▶ Broken ──snapshot joined──▶ Valid
//!           where snapshots stand in the stream, each replaces the book where it stands, and joins at once
//!           a gap record of the feed whose ids begin at or below one that was seen: Broken, and what was seen is forgotten
//!
//! waiting   deltas that no snapshot was joined to yet. They follow each other without a break: at a break the ones
//!           before it are let go, not applied, because no snapshot can be carried over it.
//! pending   a venue's snapshot that the delta which joins it has not come to yet
//! untimed   records without exchange time while there is none to take, or only one of a day that was sealed by hand
//! orders    the book by order, where the first record of the book was one of an order: see `orders`
//! floor     the day of the last applied delta: the next one goes to this day or a later one
//! next_minute   the first minute that no snapshot was written for yet
//! book_turn  with a symbol table, which of the names the last delta had. One under an older name is kept, not applied
//! ```

mod orders;

use std::collections::{BTreeMap, VecDeque};

use chronicle_core::Append;
use chronicle_protocol::{
    BookDelta, BookSnapshot, Gap as GapRecord, GapCause, Head, OrdersSnapshot, Record, SnapshotSource, type_id,
};
use chronicle_storage::root::{Date, Name, Stream};
use serde::{Deserialize, Serialize};

use super::{
    Context, Counts, Day, Gap, Item, LatePolicy, NO_SYMBOL, NOT_APPLIED, Place, Sink, WAITING_LEN_MAX, WAITING_MAX,
    without_counts,
};
use crate::book::{Book, Changes, Touch};
use crate::oddity::Oddity;
use crate::orders::OrderBook;
use crate::symbols::Listing;
use crate::venue::{Follows, Ids, Joins, Met, Repeats, Rules, id_of_text};

const HOUR_NS: u64 = 3_600_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;
/// An exchange time further ahead of its receive time is not believed.
pub(super) const AHEAD_NS_MAX: u64 = 24 * HOUR_NS;

/// When records of a day begin to be late.
const fn closing(date: Date) -> u64 {
    date.end_ns().saturating_add(HOUR_NS)
}

/// Whether a clock has a time for a record that has none: not before it was set, nor once its day was over for an hour.
fn says_something(clock: u64, ingest_ns: u64) -> bool {
    clock != 0 && ingest_ns < closing(Date::of_ns(clock))
}

const fn minute_after(ns: u64) -> u64 {
    (ns / MINUTE_NS).saturating_add(1).saturating_mul(MINUTE_NS)
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    ingest_ns: u64,
    type_id: u16,
    source: Option<u32>,
    turn: u32,
    /// Its accepted time; 0 = none yet.
    time_ns: u64,
    payload: Vec<u8>,
}

impl Kept {
    fn new(item: Item<'_>, time_ns: u64) -> Self {
        let Item { ingest_ns, type_id, source, turn, payload } = item;
        Self { ingest_ns, type_id, source, turn, time_ns, payload: payload.to_vec() }
    }

    fn item(&self) -> Item<'_> {
        let Self { ingest_ns, type_id, source, turn, .. } = *self;
        Item { ingest_ns, type_id, source, turn, payload: &self.payload }
    }

    fn record(&self) -> Record<'_> {
        match Record::parse(self.type_id, &self.payload) {
            Ok(record) => without_counts(record),
            Err(malformed) => panic!("bug: a record that was read before is refused now: {malformed}"),
        }
    }
}

/// Records in order of arrival, bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    records: VecDeque<Kept>,
    len: usize,
}

impl Waiting {
    fn push(&mut self, kept: Kept) {
        self.len += kept.payload.len();
        self.records.push_back(kept);
    }

    fn pop(&mut self) -> Option<Kept> {
        let kept = self.records.pop_front()?;
        self.len -= kept.payload.len();
        Some(kept)
    }

    fn is_too_much(&self) -> bool {
        self.records.len() > WAITING_MAX || self.len > WAITING_LEN_MAX
    }
}

/// One symbol's state. See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Symbol {
    code: Name,
    raw: String,
    /// Its number in the symbol table; none without one.
    id: Option<u64>,
    /// It is what the symbol table knows nobody for.
    is_unresolved: bool,
    /// Which of its names in turn the last new delta had.
    book_turn: u32,
    /// Highest exchange time accepted; 0 = none yet.
    clock: u64,
    days: BTreeMap<Date, Day>,
    /// When the first open day that has files is to be sealed.
    next_seal: u64,
    untimed: Waiting,
    /// Records that got their receive time because they could not wait longer.
    overdue: u64,
    /// Records whose exchange time was not believed.
    absurd_time: u64,
    trades: Met,
    quotes: Met,
    /// Last id of the last delta that was new.
    seen: Option<u64>,
    book: Book,
    valid: bool,
    /// Last id in the book.
    last_id: u64,
    /// Exchange time of the last delta applied.
    last_event_ns: u64,
    /// How the best prices of a valid book stand.
    touch: Touch,
    /// Up to when that was counted.
    touched_ns: u64,
    floor: Option<Date>,
    next_minute: u64,
    waiting: Waiting,
    pending: Option<Kept>,
    /// The break that made the book invalid; none while it never was valid, or is.
    gap: Option<Gap>,
    /// Ids that the last break found missing, first and last.
    missing: Option<(u64, u64)>,
    raw_lost: bool,
    /// Ids of deltas that came too late, first and last.
    late_ids: Option<(u64, u64)>,
    /// The book by order, if that is what it is; the other one is then empty.
    orders: Option<Box<orders::Orders>>,
}

impl Symbol {
    pub(super) fn new(code: Name, raw: String) -> Self {
        Self {
            code,
            raw,
            id: None,
            is_unresolved: false,
            book_turn: 0,
            clock: 0,
            days: BTreeMap::new(),
            next_seal: u64::MAX,
            untimed: Waiting::default(),
            overdue: 0,
            absurd_time: 0,
            trades: Met::default(),
            quotes: Met::default(),
            seen: None,
            book: Book::new(),
            valid: false,
            last_id: 0,
            last_event_ns: 0,
            touch: Touch::Apart,
            touched_ns: 0,
            floor: None,
            next_minute: 0,
            waiting: Waiting::default(),
            pending: None,
            gap: None,
            missing: None,
            raw_lost: false,
            late_ids: None,
            orders: None,
        }
    }

    /// One of a symbol table: its days have its names.
    pub(super) fn of_table(id: u64) -> Self {
        let code = Name::new(NO_SYMBOL).expect("bug: the code of no symbol is a name");
        Self { id: Some(id), ..Self::new(code, String::new()) }
    }

    /// What a symbol table knows nobody for.
    pub(super) fn of_nobody(code: Name) -> Self {
        Self { is_unresolved: true, ..Self::new(code, String::new()) }
    }

    /// Its name in paths, where it has one for all days: where there is no symbol table.
    #[must_use]
    pub fn code(&self) -> &Name {
        &self.code
    }

    /// The venue's own name, without a symbol table; empty for the records that have none.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Its number in the symbol table.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// Whether it is what the symbol table knows nobody for.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        self.is_unresolved
    }

    /// Its name in the paths of a day that was opened.
    #[must_use]
    pub fn code_on(&self, date: Date) -> &Name {
        self.listing(date).map_or(&self.code, |listing| &listing.code)
    }

    /// The venue's own name for it on a day that was opened.
    #[must_use]
    pub fn raw_on(&self, date: Date) -> &str {
        self.listing(date).map_or(&self.raw, |listing| &listing.raw)
    }

    fn listing(&self, date: Date) -> Option<&Listing> {
        self.days.get(&date).and_then(|day| day.listing.as_ref())
    }

    /// Whether it holds what belongs to no symbol.
    fn is_nobodys(&self) -> bool {
        // One of a symbol table has its names from the days.
        self.id.is_none() && self.code.as_str() == NO_SYMBOL
    }

    /// Its days.
    #[must_use]
    pub fn days(&self) -> &BTreeMap<Date, Day> {
        &self.days
    }

    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = Date> {
        self.days.iter_mut().filter_map(|(date, day)| std::mem::take(&mut day.changed).then_some(*date))
    }

    /// The book as far as it was followed; valid only if [`Symbol::is_valid`].
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The book by order as far as it was followed, if the venue tells its orders; valid only if [`Symbol::is_valid`].
    #[must_use]
    pub fn orders(&self) -> Option<&OrderBook> {
        self.orders.as_ref().map(|orders| &orders.book)
    }

    /// Whether the book is what the venue has.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.valid
    }

    /// Last id in the book, and the exchange time of the last delta applied.
    #[must_use]
    pub fn last(&self) -> (u64, u64) {
        (self.last_id, self.last_event_ns)
    }

    /// Records that are in no partition yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        (self.waiting.records.len() + self.untimed.records.len() + usize::from(self.pending.is_some())) as u64
    }

    /// Records that got their receive time because they could not wait longer for another.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.overdue
    }

    /// Records whose exchange time was not believed.
    #[must_use]
    pub fn absurd_time(&self) -> u64 {
        self.absurd_time
    }

    /// Numbers of a day's partition, with what waits counted as if nothing came any more.
    pub(crate) fn counts_if_it_ended_now(&self) -> BTreeMap<(Date, Stream), Counts> {
        let mut all = BTreeMap::new();
        for (date, day) in &self.days {
            for (stream, partition) in &day.partitions {
                all.insert((*date, *stream), partition.counts);
            }
        }
        let mut add = |time_ns: u64, counts: Counts| {
            let place = (self.open_day(Date::of_ns(time_ns)), Stream::Book);
            let sum: &mut Counts = all.entry(place).or_default();
            *sum = sum.plus(counts);
        };
        for kept in &self.waiting.records {
            add(kept.time_ns, self.let_go_counts());
        }
        if let Some(pending) = &self.pending {
            let time = self.time_to_let_go(pending);
            if !self.is_sealed(Date::of_ns(time)) {
                add(time, Counts { events: 1, snapshots: 1, ..Counts::default() });
            }
        }
        let pending = self.pending.iter().map(|kept| (kept, self.time_to_let_go(kept), Stream::Book));
        let untimed = self.untimed.records.iter();
        let untimed =
            untimed.map(|kept| (kept, self.time_to_settle_for(kept.ingest_ns), stream_without_time(&kept.record())));
        for (kept, time, stream) in pending.chain(untimed) {
            let date = Date::of_ns(time);
            let Some(day) = self.days.get(&date).filter(|day| day.sealed) else { continue };
            all.entry((date, stream)).or_default().late += 1;
            if day.late_policy == LatePolicy::LateStream {
                all.entry((self.late_day(kept.ingest_ns), Stream::Late)).or_default().events += 1;
            }
        }
        all
    }

    /// How a waiting delta counts that is not applied.
    fn let_go_counts(&self) -> Counts {
        if self.gap.is_some() {
            Counts { events: 1, not_applied: 1, ..Counts::default() }
        } else {
            Counts { events: 1, dropped_before_snapshot: 1, ..Counts::default() }
        }
    }

    pub(super) fn raw_lost(&mut self) {
        self.raw_lost = true;
    }

    fn is_sealed(&self, date: Date) -> bool {
        self.days.get(&date).is_some_and(|day| day.sealed)
    }

    fn is_late(&self, date: Date, ingest_ns: u64) -> bool {
        ingest_ns >= closing(date) || self.is_sealed(date)
    }

    /// The first day from `date` on of which this is not true, or the last day that exists.
    fn first_day(&self, mut date: Date, closed: impl Fn(&Day) -> bool) -> Date {
        while self.days.get(&date).is_some_and(&closed) {
            match date.next() {
                Some(next) => date = next,
                None => break,
            }
        }
        date
    }

    /// The first day from `date` on that is not sealed.
    fn open_day(&self, date: Date) -> Date {
        self.first_day(date, |day| day.sealed)
    }

    /// Under which day a late record is kept: the one on which it was received. That day may be sealed, by hand, and
    /// still get the stream `late`, which holds nothing of the day itself; but if that was sealed too, a later day gets
    /// the record.
    fn late_day(&self, ingest_ns: u64) -> Date {
        self.first_day(Date::of_ns(ingest_ns), |day| day.is_sealed(Stream::Late))
    }

    /// The highest time accepted so far, for a record that has none; its day may be sealed. One of a day that was over
    /// for an hour when the record came in says nothing about it.
    fn clock_for(&self, ingest_ns: u64) -> Option<u64> {
        says_something(self.clock, ingest_ns).then_some(self.clock)
    }

    /// The time of a record that has none and cannot wait for a better one.
    fn time_to_settle_for(&self, ingest_ns: u64) -> u64 {
        self.clock_for(ingest_ns).unwrap_or(ingest_ns)
    }

    /// Takes a record of this symbol.
    pub(super) fn take<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        record: &Record<'_>,
    ) -> Result<(), S::Error> {
        if self.is_unresolved {
            return self.take_aside(cx, item, record);
        }
        if let Record::Gap(gap) = record {
            // The feed says that it could not keep up. The marker itself is kept with what no other stream holds.
            self.raw_lost |= !self.goes_back(cx.rules, gap);
        }
        let own = Self::stamp(record, item.ingest_ns);
        if own > item.ingest_ns.saturating_add(AHEAD_NS_MAX) {
            self.absurd_time += 1;
            self.miss(cx, record, GapCause::BookLost, item.ingest_ns)?;
            self.take_untimed(cx, item)?;
        } else if own != 0 {
            let date = Date::of_ns(own);
            if self.is_late(date, item.ingest_ns) {
                self.release_untimed(cx, self.clock)?;
                self.late(cx, item, record, stream_of(record), date)?;
            } else {
                let before = self.clock;
                self.clock = before.max(own);
                self.release_untimed(cx, before)?;
                self.dispatch(cx, item, record, own)?;
            }
        } else if let (Record::BookSnapshot(snapshot), Joins::ById, None, false) =
            (record, cx.rules.joins, &self.orders, self.is_nobodys())
        {
            // It has the time of the delta that it will be joined to.
            self.snapshot(cx, item, snapshot)?;
        } else {
            self.take_untimed(cx, item)?;
        }
        if item.ingest_ns >= self.next_seal {
            self.seal_due(cx, item.ingest_ns)?;
        }
        Ok(())
    }

    /// A record of nobody: kept as it came, under its own time, or that of its receipt.
    fn take_aside<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        record: &Record<'_>,
    ) -> Result<(), S::Error> {
        let own = record.head().exchange_ns;
        let is_believed = own <= item.ingest_ns.saturating_add(AHEAD_NS_MAX);
        self.absurd_time += u64::from(!is_believed);
        let time = if own != 0 && is_believed { own } else { item.ingest_ns };
        let date = Date::of_ns(time);
        if self.is_late(date, item.ingest_ns) {
            self.late(cx, item, record, Stream::Opaque, date)?;
        } else {
            self.counts(cx, date, Stream::Opaque).applied += 1;
            self.write(cx, item, date, Stream::Opaque, 0, time)?;
        }
        if item.ingest_ns >= self.next_seal {
            self.seal_due(cx, item.ingest_ns)?;
        }
        Ok(())
    }

    // Times.

    fn take_untimed<S: Sink>(&mut self, cx: &mut Context<'_, S>, item: Item<'_>) -> Result<(), S::Error> {
        if self.untimed.records.is_empty() {
            let time = match self.clock_for(item.ingest_ns) {
                Some(time) if !self.is_sealed(Date::of_ns(time)) => Some(time),
                // Nobody's records have no clock to wait for.
                _ => self.is_nobodys().then_some(item.ingest_ns),
            };
            if let Some(time) = time {
                return self.dispatch_untimed(cx, item, time);
            }
        }
        self.untimed.push(Kept::new(item, 0));
        while self.untimed.is_too_much() {
            self.release_overdue(cx)?;
        }
        Ok(())
    }

    /// A timed record came; the clock stood at `before`. If it was accepted, its time is what those in front of it waited
    /// for, unless its day began more than an hour after one of them was received. If it was late, and the clock still
    /// stands in a day that was sealed by hand, they are late as it is.
    fn release_untimed<S: Sink>(&mut self, cx: &mut Context<'_, S>, before: u64) -> Result<(), S::Error> {
        while let Some(front) = self.untimed.records.front() {
            let ingest_ns = front.ingest_ns;
            let Some(now) = self.clock_for(ingest_ns) else { return Ok(()) };
            let Some(kept) = self.untimed.pop() else { return Ok(()) };
            let too_far = Date::of_ns(now).start_ns() > ingest_ns.saturating_add(HOUR_NS);
            let time = if too_far && says_something(before, ingest_ns) { before } else { now };
            self.dispatch_untimed(cx, kept.item(), time)?;
        }
        Ok(())
    }

    fn release_overdue<S: Sink>(&mut self, cx: &mut Context<'_, S>) -> Result<(), S::Error> {
        let Some(kept) = self.untimed.pop() else { return Ok(()) };
        if self.clock_for(kept.ingest_ns).is_none() {
            self.overdue += 1;
        }
        let time = self.time_to_settle_for(kept.ingest_ns);
        self.dispatch_untimed(cx, kept.item(), time)
    }

    /// A record with the time that was found for it: late if the day of that one is sealed.
    fn dispatch_untimed<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        let kept_record = Record::parse(item.type_id, item.payload);
        let Ok(record) = kept_record else { unreachable!("bug: it was a record when it came in") };
        let record = without_counts(record);
        let date = Date::of_ns(time);
        if self.is_sealed(date) {
            return self.late(cx, item, &record, stream_without_time(&record), date);
        }
        if record.head().exchange_ns != 0 {
            // A time that was not believed: no other stream can use the record.
            self.counts(cx, date, Stream::Opaque).applied += 1;
            return self.write(cx, item, date, Stream::Opaque, 0, time);
        }
        self.dispatch(cx, item, &record, time)
    }

    /// A record whose time is accepted and whose day is open.
    fn dispatch<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        record: &Record<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        let (stream, new) = match record {
            // Of several symbols, perhaps, and so of no book.
            _ if self.is_nobodys() && stream_of(record) == Stream::Book => (Stream::Opaque, true),
            Record::BookDelta(_) | Record::BookSnapshot(_) if self.orders.is_some() => {
                return self.of_another_kind(cx, item, record, time);
            }
            Record::OrderEvent(_) | Record::OrdersSnapshot(_) if self.is_by_price() || item.turn < self.book_turn => {
                return self.of_another_kind(cx, item, record, time);
            }
            Record::OrderEvent(event) => return self.order_event(cx, item, event, time),
            Record::OrdersSnapshot(snapshot) => return self.orders_snapshot(cx, item, snapshot, time),
            Record::BookDelta(delta) => return self.delta(cx, item, delta, time),
            Record::BookSnapshot(_) if item.turn < self.book_turn => {
                return self.write_unjoined(cx, &Kept::new(item, time));
            }
            Record::BookSnapshot(snapshot) if cx.rules.joins == Joins::InStream => {
                return self.restart(cx, item, snapshot, time);
            }
            Record::BookSnapshot(snapshot) => return self.snapshot(cx, item, snapshot),
            Record::Trade(trade) => (Stream::Trades, self.trades.is_new(cx.rules.trades, trade.trade_id, item.turn)),
            Record::Quote(quote) => (Stream::Quotes, self.quotes.is_new(cx.rules.quotes, quote.update_id, item.turn)),
            Record::Gap(_) if item.turn < self.book_turn => (Stream::Opaque, true),
            Record::Gap(gap) if self.orders.is_some() => {
                self.lose_orders(cx, gap.next_id, (gap.missing_from, gap.missing_to), gap.cause, time)?;
                (Stream::Opaque, true)
            }
            Record::Gap(gap) if self.valid && cx.rules.joins == Joins::InStream => {
                // No ids will show it.
                let ids = Ids { first: gap.next_id, last: gap.next_id, prev: None };
                self.break_off(cx, &gap.head, ids, (gap.missing_from, gap.missing_to), Some(gap.cause), time)?;
                (Stream::Opaque, true)
            }
            Record::Gap(gap) if self.goes_back(cx.rules, gap) => {
                self.go_back(cx, gap, time)?;
                (Stream::Opaque, true)
            }
            Record::TextTrade(trade) => {
                (Stream::Trades, self.trades.is_new(Repeats::Recent, id_of_text(trade.id), item.turn))
            }
            Record::CountedSnapshot(_) | Record::Opaque(_) | Record::Gap(_) | Record::Source(_) => {
                (Stream::Opaque, true)
            }
        };
        let date = self.open_day(Date::of_ns(time));
        let counts = self.counts(cx, date, stream);
        if new {
            counts.applied += 1;
        } else {
            counts.duplicates += 1;
        }
        self.write(cx, item, date, stream, if new { 0 } else { NOT_APPLIED }, time)
    }

    /// A record of a day that takes nothing any more.
    fn late<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        record: &Record<'_>,
        stream: Stream,
        date: Date,
    ) -> Result<(), S::Error> {
        if let Record::Gap(gap) = record
            && self.goes_back(cx.rules, gap)
        {
            // However late it is: what follows it has the new ids.
            self.go_back(cx, gap, item.ingest_ns)?;
        }
        if let (Record::BookDelta(delta), Stream::Book) = (record, stream)
            && self.seen.is_some_and(|seen| delta.last_id > seen)
        {
            let (first, last) = self.late_ids.unwrap_or((delta.first_id, delta.last_id));
            self.late_ids = Some((first.min(delta.first_id), last.max(delta.last_id)));
        }
        self.miss(cx, record, GapCause::Late, item.ingest_ns)?;
        self.counts(cx, date, stream).late += 1;
        match self.day(cx, date).late_policy {
            LatePolicy::Reject => Ok(()),
            LatePolicy::LateStream => {
                let arrival = self.late_day(item.ingest_ns);
                self.write(cx, item, arrival, Stream::Late, NOT_APPLIED, item.ingest_ns)
            }
        }
    }

    // Days.

    fn day<S>(&mut self, cx: &Context<'_, S>, date: Date) -> &mut Day {
        let id = self.id;
        self.days.entry(date).or_insert_with(|| {
            let listing = id.and_then(|id| cx.table?.on(id, date));
            Day::new(listing, cx.late_policy)
        })
    }

    fn counts<S>(&mut self, cx: &Context<'_, S>, date: Date, stream: Stream) -> &mut Counts {
        self.day(cx, date).counts(stream)
    }

    /// Adds a record of the venue to a partition that is not sealed.
    fn write<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        date: Date,
        stream: Stream,
        flags: u16,
        time_ns: u64,
    ) -> Result<(), S::Error> {
        self.open(cx, date, stream)?;
        let day = self.day(cx, date);
        day.saw(item.source, item.ingest_ns, (stream != Stream::Late).then_some(time_ns));
        day.counts(stream).events += 1;
        let append = Append { time_ns, type_id: item.type_id, flags };
        cx.sink.append(Place { symbol: cx.symbol, date, stream }, append, item.payload)
    }

    /// Begins a partition that does not exist yet; a book's with what is carried into it.
    fn open<S: Sink>(&mut self, cx: &mut Context<'_, S>, date: Date, stream: Stream) -> Result<(), S::Error> {
        let day = self.day(cx, date);
        debug_assert!(!day.sealed || stream == Stream::Late, "a sealed day is not opened again");
        let partition = day.partitions.entry(stream).or_default();
        debug_assert!(!partition.sealed, "nor is a sealed partition");
        if partition.exists {
            return Ok(());
        }
        partition.exists = true;
        day.changed = true;
        self.next_seal = self.next_seal.min(closing(date));
        if stream != Stream::Book {
            return Ok(());
        }
        // A day before that of the book is opened by what takes no part in it: no book was carried into it.
        if self.valid && self.floor.is_none_or(|floor| floor <= date) {
            self.write_snapshot(cx, date, date.start_ns(), true)?;
            self.next_minute = self.next_minute.max(date.start_ns().saturating_add(MINUTE_NS));
        } else if let Some(gap) = self.gap {
            self.write_gap(cx, date, Gap { carried: true, ..gap })?;
        }
        Ok(())
    }

    fn seal_due<S: Sink>(&mut self, cx: &mut Context<'_, S>, ingest_ns: u64) -> Result<(), S::Error> {
        while self.next_seal <= ingest_ns {
            let Some(date) = self.first_open() else { break };
            self.seal_day(cx, date)?;
        }
        Ok(())
    }

    pub(super) fn seal_until<S: Sink>(&mut self, cx: &mut Context<'_, S>, last: Date) -> Result<(), S::Error> {
        while self.untimed.records.front().is_some_and(|kept| Date::of_ns(kept.ingest_ns) <= last) {
            self.release_overdue(cx)?;
        }
        self.let_go(cx, Some(last))?;
        if let Some(pending) = self.pending.take_if(|pending| Date::of_ns(pending.ingest_ns) <= last) {
            self.write_unjoined(cx, &pending)?;
        }
        while let Some(date) = self.first_open().filter(|date| *date <= last) {
            self.seal_day(cx, date)?;
        }
        Ok(())
    }

    /// The first day with files that are not sealed. The last day that exists never is: nothing could come after it.
    fn first_open(&self) -> Option<Date> {
        let open = self.days.iter().find(|(date, day)| day.has_open() && **date < Date::MAX);
        open.map(|(date, _)| *date)
    }

    fn seal_day<S: Sink>(&mut self, cx: &mut Context<'_, S>, date: Date) -> Result<(), S::Error> {
        self.let_go(cx, Some(date))?;
        let Some(day) = self.days.get_mut(&date) else { return Ok(()) };
        day.sealed = true;
        day.changed = true;
        for (stream, partition) in day.partitions.iter_mut().filter(|(_, p)| p.exists && !p.sealed) {
            partition.sealed = true;
            cx.sink.seal(Place { symbol: cx.symbol, date, stream: *stream })?;
        }
        self.next_seal = self.first_open().map_or(u64::MAX, closing);
        Ok(())
    }

    // The book.

    fn delta<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        delta: &BookDelta<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        let ids = ids_of(delta);
        let mut follows = self.seen.map_or(Follows::Next, |seen| (cx.rules.follows)(seen, ids));
        if item.turn < self.book_turn {
            follows = Follows::Old;
        } else if item.turn > self.book_turn {
            follows = self.renamed(cx, item.turn, ids, follows)?;
        }
        match follows {
            Follows::Old => {
                let date = self.day_beside_the_book(time);
                let was_missing = self.missing.is_some_and(|(first, last)| first <= ids.last && ids.first <= last);
                let counts = self.counts(cx, date, Stream::Book);
                counts.duplicates += 1;
                counts.oddities.add(Oddity::OutOfOrder, u64::from(was_missing));
                return self.write(cx, item, date, Stream::Book, NOT_APPLIED, time);
            }
            Follows::Break { missing_from, missing_to } => {
                self.break_off(cx, &delta.head, ids, (missing_from, missing_to), None, time)?;
            }
            Follows::Next if self.raw_lost && self.valid && proves_nothing(cx.rules, delta) => {
                self.break_off(cx, &delta.head, ids, (0, 0), Some(GapCause::RawLost), time)?;
            }
            Follows::Next => {}
        }
        self.raw_lost = false;
        self.late_ids = None;
        self.seen = Some(ids.last);
        if self.valid {
            if let Some(pending) = self.pending.take_if(|pending| pending.turn == self.book_turn) {
                // It came with the new name, and the book went on without it.
                self.write_unjoined(cx, &pending)?;
            }
            return self.apply(cx, item, delta, time);
        }
        self.waiting.push(Kept::new(item, time));
        if self.waiting.is_too_much() {
            self.let_go_one(cx)?;
        }
        self.join(cx)
    }

    /// The first delta under a newer name: the book goes on under it. Where ids go on, nothing is missing; one that would be
    /// a duplicate shows that they began anew.
    fn renamed<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        turn: u32,
        ids: Ids,
        follows: Follows,
    ) -> Result<Follows, S::Error> {
        self.book_turn = turn;
        if let Some(older) = self.pending.take_if(|pending| pending.turn < turn) {
            self.write_unjoined(cx, &older)?;
        }
        Ok(match (follows, self.seen) {
            (Follows::Old, Some(seen)) => {
                Follows::Break { missing_from: seen.saturating_add(1), missing_to: ids.first.saturating_sub(1) }
            }
            (follows, _) => follows,
        })
    }

    /// The day of a record of the book that is not applied: while the book is valid no day is opened by it, because what
    /// a day opens with is the book carried into it, and that book is not complete yet.
    fn day_beside_the_book(&self, time: u64) -> Date {
        let date = Date::of_ns(time);
        let date = match self.floor {
            Some(floor) if self.valid => date.min(floor),
            _ => date,
        };
        self.open_day(date)
    }

    fn apply<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        delta: &BookDelta<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        let own = Date::of_ns(time);
        let date = self.open_day(self.floor.map_or(own, |floor| floor.max(own)));
        self.cross_minutes(cx, time, date)?;
        self.open(cx, date, Stream::Book)?;
        let ids = ids_of(delta);
        self.pass_time(cx, date, time);
        let Ok(changes) = self.book.apply(&delta.head, delta.bids, delta.asks) else {
            self.break_off(cx, &delta.head, ids, (ids.first, ids.last), Some(GapCause::BookLost), time)?;
            let date = self.day_beside_the_book(time);
            self.counts(cx, date, Stream::Book).not_applied += 1;
            return self.write(cx, item, date, Stream::Book, NOT_APPLIED, time);
        };
        let back = time < self.last_event_ns;
        self.last_id = ids.last;
        self.last_event_ns = self.last_event_ns.max(time);
        self.floor = Some(date);
        let counts = self.look(cx, date, changes);
        counts.applied += 1;
        counts.oddities.add(Oddity::TimeBack, u64::from(back));
        self.write(cx, item, date, Stream::Book, 0, time)
    }

    /// The time from the last event to this one belongs to how the best prices stood in between: to each day its part,
    /// but not to days without a partition.
    fn pass_time<S>(&mut self, cx: &Context<'_, S>, date: Date, time: u64) {
        let from = self.touched_ns;
        self.touched_ns = from.max(time);
        let kind = match self.touch {
            Touch::Apart => return,
            Touch::Locked => Oddity::LockedNs,
            Touch::Crossed => Oddity::CrossedNs,
        };
        let here = time.saturating_sub(from.max(date.start_ns()));
        self.counts(cx, date, Stream::Book).oddities.add(kind, here);
        if let Some(floor) = self.floor.filter(|floor| *floor < date && !self.is_sealed(*floor)) {
            let there = time.min(floor.end_ns()).saturating_sub(from);
            self.counts(cx, floor, Stream::Book).oddities.add(kind, there);
        }
    }

    /// Counts what an event did to the book, and how it left the best prices.
    fn look<S>(&mut self, cx: &Context<'_, S>, date: Date, changes: Changes) -> &mut Counts {
        self.touch = self.book.touch();
        let touch = self.touch;
        let counts = self.counts(cx, date, Stream::Book);
        counts.oddities.add(Oddity::UnknownRemoval, changes.unknown_removals);
        counts.oddities.add(Oddity::RepeatedPrice, changes.repeated_prices);
        match touch {
            Touch::Apart => {}
            Touch::Locked => counts.oddities.add(Oddity::Locked, 1),
            Touch::Crossed => counts.oddities.add(Oddity::Crossed, 1),
        }
        counts
    }

    /// Writes the book of every minute that begins up to `time` and has none yet. Whole days that are passed over have
    /// no partition, and so no minutes.
    fn cross_minutes<S: Sink>(&mut self, cx: &mut Context<'_, S>, time: u64, date: Date) -> Result<(), S::Error> {
        // `u64::MAX` is no minute: it stands for those after the last.
        while self.next_minute <= time && self.next_minute < u64::MAX {
            let minute = self.next_minute;
            let of = Date::of_ns(minute);
            let open = !self.is_sealed(of) && self.days.get(&of).is_some_and(|day| day.has(Stream::Book));
            if of == date && !open {
                // Opening it writes this minute, which is its first.
                self.open(cx, date, Stream::Book)?;
            } else if of == date || (Some(of) == self.floor && open) {
                self.write_snapshot(cx, of, minute, false)?;
            } else {
                // The book may be in a later day than its next minute: in that of the snapshot's receipt.
                let next = self.floor.filter(|floor| of < *floor).unwrap_or(date);
                self.next_minute = next.start_ns().max(minute);
                if self.next_minute > minute {
                    continue;
                }
            }
            self.next_minute = self.next_minute.max(minute.saturating_add(MINUTE_NS));
        }
        Ok(())
    }

    fn write_snapshot<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        date: Date,
        time_ns: u64,
        opens_partition: bool,
    ) -> Result<(), S::Error> {
        if let Some(orders) = &self.orders {
            let book = &orders.book;
            let bids = book.orders_into(&mut cx.scratch.orders);
            let (bids, asks) = cx.scratch.orders.split_at(bids);
            let snapshot = Record::OrdersSnapshot(OrdersSnapshot {
                head: Head {
                    exchange_ns: time_ns,
                    price: book.price_scale(),
                    qty: book.qty_scale(),
                    ..Head::default()
                },
                sequence: self.last_id,
                last_event_ns: self.last_event_ns,
                source: SnapshotSource::Refinery,
                opens_partition,
                bids,
                asks,
                symbol: self.raw_on(date),
            });
            encode(&snapshot, &mut cx.scratch.bytes);
            return self.append_snapshot(cx, date, time_ns, type_id::ORDERS_SNAPSHOT);
        }
        let bids = self.book.levels_into(&mut cx.scratch.levels);
        let (bids, asks) = cx.scratch.levels.split_at(bids);
        let snapshot = Record::BookSnapshot(BookSnapshot {
            head: Head {
                exchange_ns: time_ns,
                price: self.book.price_scale(),
                qty: self.book.qty_scale(),
                ..Head::default()
            },
            last_id: self.last_id,
            last_event_ns: self.last_event_ns,
            source: SnapshotSource::Refinery,
            opens_partition,
            bids,
            asks,
            symbol: self.raw_on(date),
        });
        encode(&snapshot, &mut cx.scratch.bytes);
        self.append_snapshot(cx, date, time_ns, type_id::BOOK_SNAPSHOT)
    }

    /// Adds the snapshot that was made of the book.
    fn append_snapshot<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        date: Date,
        time_ns: u64,
        type_id: u16,
    ) -> Result<(), S::Error> {
        let append = Append { time_ns, type_id, flags: 0 };
        cx.sink.append(Place { symbol: cx.symbol, date, stream: Stream::Book }, append, &cx.scratch.bytes)?;
        self.counts(cx, date, Stream::Book).snapshots += 1;
        Ok(())
    }

    fn write_gap<S: Sink>(&mut self, cx: &mut Context<'_, S>, date: Date, gap: Gap) -> Result<(), S::Error> {
        let record = Record::Gap(GapRecord {
            head: Head { exchange_ns: gap.time_ns, ..Head::default() },
            after_id: gap.after,
            next_id: gap.next,
            missing_from: gap.missing_from,
            missing_to: gap.missing_to,
            cause: gap.cause,
            carried: gap.carried,
            symbol: self.raw_on(date),
        });
        encode(&record, &mut cx.scratch.bytes);
        let time_ns = gap.time_ns.clamp(date.start_ns(), date.end_ns() - 1);
        let append = Append { time_ns, type_id: type_id::GAP, flags: 0 };
        cx.sink.append(Place { symbol: cx.symbol, date, stream: Stream::Book }, append, &cx.scratch.bytes)?;
        let day = self.day(cx, date);
        day.gaps.push(gap);
        day.changed = true;
        Ok(())
    }

    /// Ids are missing before an event.
    fn break_off<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        head: &Head,
        ids: Ids,
        (missing_from, missing_to): (u64, u64),
        cause: Option<GapCause>,
        time: u64,
    ) -> Result<(), S::Error> {
        let was_valid = self.valid;
        self.let_go(cx, None)?;
        // What opens from here on is not the valid book's.
        self.valid = false;
        self.touch = Touch::Apart;
        self.missing = Some((missing_from, missing_to));
        let own = Date::of_ns(time);
        let date = match self.floor {
            // It begins where the book was last known: over midnight it stands in both days.
            Some(floor) if was_valid && !self.is_sealed(floor) => floor,
            _ => self.open_day(own),
        };
        let late = |(first, last): (u64, u64)| first <= missing_to && missing_from <= last;
        let cause = cause.unwrap_or(if self.raw_lost {
            GapCause::RawLost
        } else if self.late_ids.is_some_and(late) {
            GapCause::Late
        } else {
            GapCause::Sequence
        });
        let after = if was_valid { self.last_id } else { self.seen.unwrap_or(0) };
        let time_ns = if head.exchange_ns == 0 { time } else { head.exchange_ns };
        let gap = Gap { after, next: ids.first, missing_from, missing_to, time_ns, cause, carried: false };
        self.open(cx, date, Stream::Book)?;
        self.write_gap(cx, date, gap)?;
        self.gap.get_or_insert(gap);
        Ok(())
    }

    /// Whether the feed says that ids begin again at or below one that was seen: by the ids alone all that follows would be
    /// a duplicate, for ever.
    fn goes_back(&self, rules: &Rules, gap: &GapRecord<'_>) -> bool {
        rules.joins == Joins::ById
            && gap.cause == GapCause::Sequence
            && self.seen.is_some_and(|seen| gap.next_id <= seen)
    }

    /// Forgets which ids were seen: the next delta follows nothing, and a snapshot must be joined to it.
    fn go_back<S: Sink>(&mut self, cx: &mut Context<'_, S>, gap: &GapRecord<'_>, time: u64) -> Result<(), S::Error> {
        let ids = Ids { first: gap.next_id, last: gap.next_id, prev: None };
        self.break_off(cx, &gap.head, ids, (gap.missing_from, gap.missing_to), Some(gap.cause), time)?;
        // It may have an id that is never reached again.
        if let Some(pending) = self.pending.take() {
            self.write_unjoined(cx, &pending)?;
        }
        // The best prices are numbered as the book is.
        (self.seen, self.late_ids, self.missing) = (None, None, None);
        self.quotes.forget();
        Ok(())
    }

    /// Lets the oldest waiting delta go, not applied.
    fn let_go_one<S: Sink>(&mut self, cx: &mut Context<'_, S>) -> Result<(), S::Error> {
        let Some(kept) = self.waiting.pop() else { return Ok(()) };
        let date = self.open_day(Date::of_ns(kept.time_ns));
        let Counts { not_applied, dropped_before_snapshot, .. } = self.let_go_counts();
        let counts = self.counts(cx, date, Stream::Book);
        counts.not_applied += not_applied;
        counts.dropped_before_snapshot += dropped_before_snapshot;
        self.write(cx, kept.item(), date, Stream::Book, NOT_APPLIED, kept.time_ns)
    }

    /// Lets waiting deltas go: all, or those before the first one of a day after `until`.
    fn let_go<S: Sink>(&mut self, cx: &mut Context<'_, S>, until: Option<Date>) -> Result<(), S::Error> {
        while let Some(front) = self.waiting.records.front() {
            if until.is_some_and(|until| Date::of_ns(front.time_ns) > until) {
                break;
            }
            self.let_go_one(cx)?;
        }
        Ok(())
    }

    /// The time of a venue's snapshot that no delta joins. It is late only if the day on which it was received is sealed.
    fn time_to_let_go(&self, kept: &Kept) -> u64 {
        let own = kept.record().head().exchange_ns;
        let time = if own != 0 && own <= kept.ingest_ns.saturating_add(AHEAD_NS_MAX) {
            own
        } else {
            self.time_to_settle_for(kept.ingest_ns)
        };
        if self.is_sealed(Date::of_ns(time)) { time.max(kept.ingest_ns) } else { time }
    }

    /// Keeps a venue's snapshot that is of no use.
    fn write_unjoined<S: Sink>(&mut self, cx: &mut Context<'_, S>, kept: &Kept) -> Result<(), S::Error> {
        let time = self.time_to_let_go(kept);
        let own = Date::of_ns(time);
        if self.is_sealed(own) {
            return self.late(cx, kept.item(), &kept.record(), Stream::Book, own);
        }
        let date = self.day_beside_the_book(time);
        self.counts(cx, date, Stream::Book).snapshots += 1;
        self.write(cx, kept.item(), date, Stream::Book, NOT_APPLIED, time)
    }

    /// A snapshot of the venue.
    fn snapshot<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        snapshot: &BookSnapshot<'_>,
    ) -> Result<(), S::Error> {
        let mut unused = Some(Kept::new(item, 0));
        // One under a newer name waits for that name's first delta: the book may not go on.
        if item.turn > self.book_turn || !self.valid && item.turn == self.book_turn {
            let newer = match self.pending.as_ref().map(|kept| (kept.turn, kept.record())) {
                Some((turn, Record::BookSnapshot(pending))) => (turn, pending.last_id) < (item.turn, snapshot.last_id),
                _ => true,
            };
            if newer {
                std::mem::swap(&mut self.pending, &mut unused);
            }
        }
        if let Some(unused) = unused {
            self.write_unjoined(cx, &unused)?;
        }
        self.join(cx)
    }

    /// A snapshot that stands in the stream: from here on the book is this one, whatever it was.
    fn restart<S: Sink>(
        &mut self,
        cx: &mut Context<'_, S>,
        item: Item<'_>,
        snapshot: &BookSnapshot<'_>,
        time: u64,
    ) -> Result<(), S::Error> {
        self.let_go(cx, None)?;
        let own = Date::of_ns(time);
        let date = self.open_day(self.floor.map_or(own, |floor| floor.max(own)));
        if self.valid {
            // Those minutes still had the book before it.
            self.cross_minutes(cx, time, date)?;
        }
        self.pass_time(cx, date, time);
        self.counts(cx, date, Stream::Book).snapshots += 1;
        self.write(cx, item, date, Stream::Book, 0, time.max(date.start_ns()))?;
        self.replace(cx, date, snapshot);
        if !self.valid {
            self.next_minute = minute_after(time);
        }
        (self.valid, self.gap, self.raw_lost, self.late_ids) = (true, None, false, None);
        (self.last_id, self.seen) = (snapshot.last_id, Some(snapshot.last_id));
        self.book_turn = item.turn;
        self.last_event_ns = 0;
        self.floor = Some(date);
        Ok(())
    }

    /// The book is a venue's snapshot from here on.
    fn replace<S>(&mut self, cx: &Context<'_, S>, date: Date, snapshot: &BookSnapshot<'_>) {
        // A snapshot alone always fits itself.
        let changes = self.book.replace(&snapshot.head, snapshot.bids, snapshot.asks).unwrap_or_default();
        self.look(cx, date, changes);
    }

    /// Joins the pending snapshot to the waiting deltas, if there is one that it can be joined to.
    fn join<S: Sink>(&mut self, cx: &mut Context<'_, S>) -> Result<(), S::Error> {
        let Some(pending) = self.pending.take_if(|pending| pending.turn == self.book_turn) else { return Ok(()) };
        let Record::BookSnapshot(snapshot) = pending.record() else { unreachable!("bug: only snapshots are pending") };
        loop {
            let Some(front) = self.waiting.records.front() else {
                // Its delta has not come yet.
                self.pending = Some(pending);
                return Ok(());
            };
            let Record::BookDelta(delta) = front.record() else { unreachable!("bug: only deltas wait") };
            let ids = ids_of(&delta);
            if (cx.rules.covered)(snapshot.last_id, ids) {
                self.let_go_one(cx)?;
            } else if (cx.rules.bridges)(snapshot.last_id, ids) {
                break;
            } else {
                // Events between the two never came: a newer snapshot is needed.
                return self.write_unjoined(cx, &pending);
            }
        }
        let Some(time) = self.waiting.records.front().map(|front| front.time_ns) else { return Ok(()) };
        let received = Date::of_ns(pending.ingest_ns);
        let date = self.floor.map_or(received, |floor| floor.max(received)).max(Date::of_ns(time));
        let date = self.open_day(date);
        self.counts(cx, date, Stream::Book).snapshots += 1;
        self.write(cx, pending.item(), date, Stream::Book, 0, time.max(date.start_ns()))?;
        self.replace(cx, date, &snapshot);
        self.touched_ns = time;
        self.valid = true;
        self.gap = None;
        self.last_id = snapshot.last_id;
        self.last_event_ns = 0;
        self.floor = Some(date);
        self.next_minute = minute_after(time);
        while self.valid
            && let Some(kept) = self.waiting.pop()
        {
            let Record::BookDelta(delta) = kept.record() else { unreachable!("bug: only deltas wait") };
            self.apply(cx, kept.item(), &delta, kept.time_ns)?;
        }
        Ok(())
    }
}

/// Where a record belongs, by what it is.
fn stream_of(record: &Record<'_>) -> Stream {
    match record {
        Record::BookDelta(_)
        | Record::BookSnapshot(_)
        | Record::CountedSnapshot(_)
        | Record::OrderEvent(_)
        | Record::OrdersSnapshot(_) => Stream::Book,
        Record::Trade(_) | Record::TextTrade(_) => Stream::Trades,
        Record::Quote(_) => Stream::Quotes,
        Record::Opaque(_) | Record::Gap(_) | Record::Source(_) => Stream::Opaque,
    }
}

/// Where a record belongs whose own time is none, or not believed: no other stream can use one with a false time.
fn stream_without_time(record: &Record<'_>) -> Stream {
    if record.head().exchange_ns == 0 { stream_of(record) } else { Stream::Opaque }
}

/// Whether a delta that seems to follow could follow anything, because the venue does not number its deltas.
fn proves_nothing(rules: &Rules, delta: &BookDelta<'_>) -> bool {
    rules.joins == Joins::InStream && delta.prev_id.is_none()
}

fn ids_of(delta: &BookDelta<'_>) -> Ids {
    Ids { first: delta.first_id, last: delta.last_id, prev: delta.prev_id }
}

fn encode(record: &Record<'_>, bytes: &mut Vec<u8>) {
    bytes.resize(record.encoded_len(), 0);
    if let Err(error) = record.encode(bytes) {
        panic!("bug: the refinery's own record cannot be written: {error}");
    }
}
