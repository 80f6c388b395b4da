//! The refinery once more, as plainly as it can be said: one symbol of a venue that numbers as Binance's spot market does.
//!
//! It shares no code with the refinery but the records. A book is never kept: where one is needed it is made again from
//! the last snapshot and every delta behind it, in maps. Nothing is bounded, nothing is fast, and what is forgotten on
//! the way is forgotten by clearing it.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};

use chronicle_protocol::{BookDelta, BookSnapshot, GapCause, Record};

const MINUTE: u64 = 60_000_000_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Days since 1970.
pub(crate) type Day = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Book,
    Trades,
    Quotes,
    Opaque,
    Late,
}

/// What stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Record number so many of the input, unchanged.
    Raw(usize),
    /// A book: last id, time of the last delta, whether it opens the partition, bids best first, asks best first.
    Book { last_id: u64, last_event_ns: u64, opens: bool, bids: Vec<(i64, i64)>, asks: Vec<(i64, i64)> },
    /// A gap.
    Gap(Missing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) after: u64,
    pub(crate) next: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) time_ns: u64,
    pub(crate) cause: GapCause,
    pub(crate) carried: bool,
}

/// Events, applied, before a snapshot, duplicates, not applied, late, snapshots.
pub(crate) type Counts = [u64; 7];
const EVENTS: usize = 0;
const APPLIED: usize = 1;
const BEFORE: usize = 2;
const DUPLICATES: usize = 3;
const NOT_APPLIED: usize = 4;
const LATE: usize = 5;
const SNAPSHOTS: usize = 6;

pub(crate) struct Input<'a> {
    pub(crate) ingest_ns: u64,
    pub(crate) record: Record<'a>,
}

type Levels = Vec<(i64, i64)>;

/// A waiting delta, or snapshot: which record, when it was received, its time.
#[derive(Clone, Copy)]
struct Waiting {
    record: usize,
    ingest_ns: u64,
    time_ns: u64,
}

/// Time, flags and what it says, of each frame in order.
pub(crate) type Frames = Vec<(u64, u16, Body)>;

#[derive(Default)]
pub(crate) struct Plain<'a> {
    inputs: Vec<Input<'a>>,
    nobody: bool,
    pub(crate) partitions: BTreeMap<(Day, Kind), Frames>,
    pub(crate) sealed: BTreeSet<(Day, Kind)>,
    pub(crate) counts: BTreeMap<(Day, Kind), Counts>,
    sealed_days: BTreeSet<Day>,
    clock: Option<u64>,
    untimed: Vec<usize>,
    trade: Option<u64>,
    quote: Option<u64>,
    seen: Option<u64>,
    valid: bool,
    /// The book's snapshot and the deltas behind it; no book without.
    base: Option<usize>,
    deltas: Vec<usize>,
    last_event_ns: u64,
    /// Day of the last delta or snapshot of the book.
    floor: Option<Day>,
    next_minute: u64,
    waiting: Vec<Waiting>,
    pending: Option<Waiting>,
    gap: Option<Missing>,
    raw_lost: bool,
    late_ids: Option<(u64, u64)>,
}

fn day(ns: u64) -> Day {
    ns / DAY
}

fn closes(day: Day) -> u64 {
    (day + 1) * DAY + HOUR
}

impl<'a> Plain<'a> {
    pub(crate) fn new(inputs: Vec<Input<'a>>, nobody: bool) -> Self {
        Self { inputs, nobody, ..Self::default() }
    }

    pub(crate) fn run(&mut self) {
        for i in 0..self.inputs.len() {
            self.record(i);
        }
    }

    fn delta(&self, i: usize) -> BookDelta<'a> {
        match self.inputs[i].record {
            Record::BookDelta(delta) => delta,
            _ => panic!("record {i} is no delta"),
        }
    }

    fn snapshot(&self, i: usize) -> BookSnapshot<'a> {
        match self.inputs[i].record {
            Record::BookSnapshot(snapshot) => snapshot,
            _ => panic!("record {i} is no snapshot"),
        }
    }

    fn record(&mut self, i: usize) {
        let Input { ingest_ns: now, record } = self.inputs[i];
        let own = record.head().exchange_ns;
        if matches!(record, Record::Gap(_)) {
            self.raw_lost = true;
        }
        if own == 0 && matches!(record, Record::BookSnapshot(_)) {
            self.take_snapshot(Waiting { record: i, ingest_ns: now, time_ns: 0 });
        } else if own == 0 || own > now + DAY {
            self.without_time(i);
        } else if now >= closes(day(own)) || self.sealed_days.contains(&day(own)) {
            self.late(i, day(own), kind(&record));
        } else {
            self.clock = self.clock.max(Some(own));
            for waiting in std::mem::take(&mut self.untimed) {
                self.with_time(waiting, self.clock.unwrap(), false);
            }
            self.with_time(i, own, true);
        }
        self.seal(now);
    }

    /// Times.
    fn without_time(&mut self, i: usize) {
        let now = self.inputs[i].ingest_ns;
        match self.clock.filter(|clock| now < closes(day(*clock))) {
            Some(clock) => self.with_time(i, clock, false),
            None if self.nobody => self.with_time(i, now, false),
            None => self.untimed.push(i),
        }
    }

    fn with_time(&mut self, i: usize, time: u64, believed: bool) {
        let record = self.inputs[i].record;
        let unbelieved = !believed && record.head().exchange_ns != 0;
        if self.sealed_days.contains(&day(time)) {
            return self.late(i, day(time), if unbelieved { Kind::Opaque } else { kind(&record) });
        }
        let (place, what) = match record {
            _ if unbelieved => (Kind::Opaque, APPLIED),
            Record::BookDelta(delta) => return self.take_delta(i, delta, time),
            Record::Trade(trade) => (Kind::Trades, once(&mut self.trade, trade.trade_id)),
            Record::Quote(quote) => (Kind::Quotes, once(&mut self.quote, quote.update_id)),
            _ => (Kind::Opaque, APPLIED),
        };
        self.put(i, day(time), place, time, what != APPLIED);
        self.count(day(time), place, what);
    }

    /// Files.
    fn count(&mut self, day: Day, kind: Kind, what: usize) {
        self.counts.entry((day, kind)).or_default()[what] += 1;
    }

    fn put(&mut self, i: usize, day: Day, kind: Kind, time: u64, not_applied: bool) {
        self.begin(day, kind);
        self.count(day, kind, EVENTS);
        self.add(day, kind, (time, u16::from(not_applied), Body::Raw(i)));
    }

    fn add(&mut self, day: Day, kind: Kind, frame: (u64, u16, Body)) {
        assert!(!self.sealed.contains(&(day, kind)), "{day} {kind:?} is sealed");
        self.partitions.entry((day, kind)).or_default().push(frame);
    }

    fn has(&self, day: Day, kind: Kind) -> bool {
        self.partitions.contains_key(&(day, kind))
    }

    /// A book's partition begins with what is carried into it: the book, or that ids are missing.
    fn begin(&mut self, day: Day, kind: Kind) {
        if self.has(day, kind) {
            return;
        }
        self.partitions.insert((day, kind), Vec::new());
        if kind == Kind::Book && self.valid {
            self.write_book(day, day * DAY, true);
            self.next_minute = self.next_minute.max(day * DAY + MINUTE);
        } else if let (Kind::Book, Some(gap)) = (kind, self.gap) {
            self.write_gap(day, Missing { carried: true, ..gap });
        }
    }

    fn write_gap(&mut self, day: Day, gap: Missing) {
        let time = gap.time_ns.max(day * DAY).min((day + 1) * DAY - 1);
        self.add(day, Kind::Book, (time, 0, Body::Gap(gap)));
    }

    fn write_book(&mut self, day: Day, time: u64, opens: bool) {
        let (bids, asks) = self.book();
        let (last_id, last_event_ns) = (self.last_id(), self.last_event_ns);
        self.add(day, Kind::Book, (time, 0, Body::Book { last_id, last_event_ns, opens, bids, asks }));
        self.count(day, Kind::Book, SNAPSHOTS);
    }

    /// Seals every day that ended an hour ago and has files. What waits and is of such a day waits in vain.
    fn seal(&mut self, now: u64) {
        let days: BTreeSet<_> = self.partitions.keys().filter(|at| !self.sealed.contains(*at)).map(|at| at.0).collect();
        for day in days.into_iter().filter(|day| closes(*day) <= now) {
            self.seal_day(day);
        }
    }

    fn seal_day(&mut self, until: Day) {
        self.let_go(until);
        self.sealed_days.insert(until);
        self.sealed.extend(self.partitions.keys().filter(|(day, _)| *day == until));
    }

    /// Everything is over: nothing comes any more.
    pub(crate) fn finish(&mut self) {
        for i in std::mem::take(&mut self.untimed) {
            let now = self.inputs[i].ingest_ns;
            let clock = self.clock.filter(|clock| now < closes(day(*clock)));
            self.with_time(i, clock.unwrap_or(now), false);
        }
        self.let_go(Day::MAX);
        if let Some(pending) = self.pending.take() {
            self.unused(pending);
        }
        self.seal(u64::MAX);
    }

    fn late(&mut self, i: usize, of: Day, kind: Kind) {
        let Input { ingest_ns: now, record } = self.inputs[i];
        if let Record::BookDelta(delta) = record
            && self.seen.is_some_and(|seen| delta.last_id > seen)
        {
            let (first, last) = self.late_ids.unwrap_or((delta.first_id, delta.last_id));
            self.late_ids = Some((first.min(delta.first_id), last.max(delta.last_id)));
        }
        self.count(of, kind, LATE);
        let arrival = (day(now)..).find(|day| !self.sealed.contains(&(*day, Kind::Late))).unwrap();
        self.put(i, arrival, Kind::Late, now, true);
    }

    /// The book.
    fn book(&self) -> (Levels, Levels) {
        let base = self.snapshot(self.base.expect("a valid book has a snapshot"));
        let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
        let mut set = |to_bids: &[chronicle_protocol::Level], to_asks: &[chronicle_protocol::Level]| {
            for (side, levels) in [(&mut bids, to_bids), (&mut asks, to_asks)] {
                for level in levels {
                    match level.qty() {
                        0 => side.remove(&level.price()),
                        qty => side.insert(level.price(), qty),
                    };
                }
            }
        };
        set(base.bids, base.asks);
        for i in &self.deltas {
            let delta = self.delta(*i);
            set(delta.bids, delta.asks);
        }
        (bids.into_iter().rev().collect(), asks.into_iter().collect())
    }

    pub(crate) fn valid_book(&self) -> Option<(u64, Levels, Levels)> {
        let (bids, asks) = self.valid.then(|| self.book())?;
        Some((self.last_id(), bids, asks))
    }

    fn last_id(&self) -> u64 {
        match (self.deltas.last(), self.base) {
            (Some(i), _) => self.delta(*i).last_id,
            (None, Some(i)) => self.snapshot(i).last_id,
            (None, None) => 0,
        }
    }

    /// The first day from `day` on that takes anything.
    fn open_day(&self, day: Day) -> Day {
        (day..).find(|day| !self.sealed_days.contains(day)).unwrap()
    }

    fn take_delta(&mut self, i: usize, delta: BookDelta<'_>, time: u64) {
        if self.seen.is_some_and(|seen| delta.last_id <= seen) {
            let day = self.beside_the_book(time);
            self.count(day, Kind::Book, DUPLICATES);
            return self.put(i, day, Kind::Book, time, true);
        }
        if let Some(seen) = self.seen.filter(|seen| delta.first_id != seen + 1) {
            self.break_off(&delta, seen, time);
        }
        (self.raw_lost, self.late_ids, self.seen) = (false, None, Some(delta.last_id));
        if self.valid {
            self.apply(i, time);
        } else {
            self.waiting.push(Waiting { record: i, ingest_ns: 0, time_ns: time });
            self.join();
        }
    }

    /// A record that is not applied opens no day before the book does.
    fn beside_the_book(&self, time: u64) -> Day {
        match self.floor {
            Some(floor) if self.valid => self.open_day(day(time).min(floor)),
            _ => self.open_day(day(time)),
        }
    }

    fn break_off(&mut self, delta: &BookDelta<'_>, seen: u64, time: u64) {
        let (from, to) = (seen + 1, delta.first_id - 1);
        let after = if self.valid { self.last_id() } else { seen };
        let at = match self.floor {
            Some(floor) if self.valid && !self.sealed_days.contains(&floor) => floor,
            _ => self.open_day(day(time)),
        };
        self.let_go(Day::MAX);
        self.valid = false;
        let cause = match self.late_ids {
            _ if self.raw_lost => GapCause::RawLost,
            Some((first, last)) if first <= to && from <= last => GapCause::Late,
            _ => GapCause::Sequence,
        };
        let time_ns = delta.head.exchange_ns;
        let gap = Missing { after, next: delta.first_id, from, to, time_ns, cause, carried: false };
        self.begin(at, Kind::Book);
        self.write_gap(at, gap);
        self.gap = self.gap.or(Some(gap));
    }

    /// Lets go what waits in vain, up to a day.
    fn let_go(&mut self, until: Day) {
        while self.waiting.first().is_some_and(|first| day(first.time_ns) <= until) {
            let first = self.waiting.remove(0);
            self.let_one_go(first);
        }
    }

    fn let_one_go(&mut self, waiting: Waiting) {
        let day = self.open_day(day(waiting.time_ns));
        self.count(day, Kind::Book, if self.gap.is_some() { NOT_APPLIED } else { BEFORE });
        self.put(waiting.record, day, Kind::Book, waiting.time_ns, true);
    }

    fn apply(&mut self, i: usize, time: u64) {
        let on = self.open_day(day(time).max(self.floor.unwrap_or(0)));
        self.minutes(time, on);
        self.begin(on, Kind::Book);
        self.deltas.push(i);
        self.last_event_ns = self.last_event_ns.max(time);
        self.floor = Some(on);
        self.count(on, Kind::Book, APPLIED);
        self.put(i, on, Kind::Book, time, false);
    }

    /// The book of each minute up to a time: in the day that it was in, if that is still open, and in the day that it comes
    /// to.
    fn minutes(&mut self, time: u64, on: Day) {
        let mut minute = self.next_minute;
        while minute <= time {
            let of = day(minute);
            let is_open = self.has(of, Kind::Book) && !self.sealed_days.contains(&of);
            if of == on && !is_open {
                self.begin(on, Kind::Book);
            } else if is_open && (of == on || Some(of) == self.floor) {
                self.write_book(of, minute, false);
            }
            minute += MINUTE;
            self.next_minute = self.next_minute.max(minute);
        }
    }

    fn take_snapshot(&mut self, snapshot: Waiting) {
        let id = |waiting: &Waiting| self.snapshot(waiting.record).last_id;
        if self.valid || self.pending.as_ref().is_some_and(|pending| id(pending) >= id(&snapshot)) {
            self.unused(snapshot);
        } else if let Some(older) = self.pending.replace(snapshot) {
            self.unused(older);
        }
        self.join();
    }

    fn unused(&mut self, snapshot: Waiting) {
        let now = snapshot.ingest_ns;
        let mut time = self.clock.filter(|clock| now < closes(day(*clock))).unwrap_or(now);
        if self.sealed_days.contains(&day(time)) {
            time = time.max(now);
        }
        if self.sealed_days.contains(&day(time)) {
            return self.late(snapshot.record, day(time), Kind::Book);
        }
        let day = self.beside_the_book(time);
        self.count(day, Kind::Book, SNAPSHOTS);
        self.put(snapshot.record, day, Kind::Book, time, true);
    }

    fn join(&mut self) {
        let Some(pending) = self.pending else { return };
        let last = self.snapshot(pending.record).last_id;
        while self.waiting.first().is_some_and(|first| self.delta(first.record).last_id <= last) {
            let first = self.waiting.remove(0);
            self.let_one_go(first);
        }
        let Some(first) = self.waiting.first().copied() else { return };
        self.pending = None;
        if self.delta(first.record).first_id > last + 1 {
            return self.unused(pending);
        }
        let on = self.open_day(day(pending.ingest_ns).max(day(first.time_ns)).max(self.floor.unwrap_or(0)));
        self.count(on, Kind::Book, SNAPSHOTS);
        self.put(pending.record, on, Kind::Book, first.time_ns.max(on * DAY), false);
        (self.valid, self.gap, self.base) = (true, None, Some(pending.record));
        self.deltas.clear();
        (self.last_event_ns, self.floor) = (0, Some(on));
        self.next_minute = (first.time_ns / MINUTE + 1) * MINUTE;
        for waiting in std::mem::take(&mut self.waiting) {
            self.apply(waiting.record, waiting.time_ns);
        }
    }
}

fn once(last: &mut Option<u64>, id: u64) -> usize {
    if last.is_some_and(|last| id <= last) {
        return DUPLICATES;
    }
    *last = Some(id);
    APPLIED
}

fn kind(record: &Record<'_>) -> Kind {
    match record {
        Record::BookDelta(_) | Record::BookSnapshot(_) => Kind::Book,
        Record::Trade(_) => Kind::Trades,
        Record::Quote(_) => Kind::Quotes,
        _ => Kind::Opaque,
    }
}
