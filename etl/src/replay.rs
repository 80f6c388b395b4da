//! Many partitions as one stream, in the order in which their records came.
//!
//! A [`Replay`] merges the streams of any number of symbols, of any venues and from whatever tier holds them, and gives
//! what the venues sent once more: with the frames' own bytes, so that who reads it cannot tell it from the raw stream of
//! a live feed. Put it into a queue, or take the events one by one:
//!
//! ```no_run
//! # fn main() -> chronicle_etl::error::Result<()> {
//! # #[cfg(target_os = "linux")] {
//! use chronicle_etl::replay::{Replay, Request};
//! use chronicle_platform_linux::Linux;
//! use chronicle_storage::root::Root;
//!
//! let symbols = ["btcusdt", "ethusdt"].map(|symbol| ("binance-spot".parse().unwrap(), symbol.parse().unwrap()));
//! let mut replay = Replay::open(&Linux, &Root::new("market"), Request::of(symbols.to_vec()))?;
//! while let Some(event) = replay.next()? {
//!     println!("{} {}: {:?}", event.received_ns, event.lane.symbol, event.record()?);
//! }
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! lane = one stream of one symbol     book  trades  quotes  opaque  late   day after day
//!                                       \      |      |       |     /
//! tournament of losers                   the lane whose next record came first      log2(lanes) comparisons a record
//! ```
//!
//! **Order.** By receive time; among equal ones by venue, symbol, stream, and then as the partition has them. A lane keeps
//! its own order: a record that came before one that stands in front of it (a book's deltas stand behind the snapshot that
//! they were joined to) goes with that one. So the order is a function of the partitions alone.
//!
//! **What is left out** is what the refinery added: its own snapshots, and the gap markers of books, which whoever follows
//! the venue's ids finds again.
//!
//! **Beginning later** than the first record, a book's lane opens with the book at that time as a snapshot of the venue,
//! and nothing else is given that was before. Where the venue's rules want a delta to join it to that holds the
//! snapshot's own last id, an empty one with that id follows it. A book that is not valid at that time has no opening; the
//! next snapshot in the stream begins it.
//!
//! What this never does: wait, read a clock, write, or hold more than one block of each lane.

use std::collections::VecDeque;

use chronicle_platform::Platform;
use chronicle_protocol::layout::HeadLayout;
use chronicle_protocol::{BookDelta, BookSnapshot, Head, Malformed, Record, SnapshotSource, type_id};
use chronicle_storage::reader::{ArchiveReader, Partition};
use chronicle_storage::root::{Date, Name, PartitionId, Root, Stream};
use zerocopy::FromBytes as _;

use crate::error::{Error, Result};
use crate::query::{At, BookState, book_at, partition, record};
use crate::venue::{Ids, Joins, Rules, rules};

/// What to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Venues and symbols; each is given once, however often it is named.
    pub symbols: Vec<(Name, Name)>,
    /// Which of their streams.
    pub streams: Vec<Stream>,
    /// Records from this exchange time on, ns since 1970.
    pub from_ns: u64,
    /// And before this one.
    pub to_ns: u64,
}

impl Request {
    /// Everything that is stored of some symbols.
    #[must_use]
    pub fn of(symbols: Vec<(Name, Name)>) -> Self {
        Self { symbols, streams: Stream::ALL.to_vec(), from_ns: 0, to_ns: u64::MAX }
    }
}

/// One stream of one symbol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId {
    /// The venue.
    pub venue: Name,
    /// The symbol's code.
    pub symbol: Name,
    /// The stream.
    pub stream: Stream,
}

/// A record, and when it came.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When it was received, ns since 1970, and never before the event given before it.
    pub received_ns: u64,
    /// The time under which it is stored: the exchange's, but for late records their receive time.
    pub time_ns: u64,
    /// Where it is from.
    pub lane: &'a LaneId,
    /// What its payload is, see [`type_id`].
    pub type_id: u16,
    /// The record's bytes.
    pub payload: &'a [u8],
    /// Its frame's seq in the partition; 0 of a record that opens a book in the middle.
    pub seq: u64,
}

impl<'a> Event<'a> {
    /// The record.
    ///
    /// # Errors
    ///
    /// [`Error::Record`]: a newer version wrote it, or a bug did.
    pub fn record(&self) -> Result<Record<'a>> {
        Record::parse(self.type_id, self.payload).map_err(|malformed| self.malformed(malformed))
    }

    fn malformed(&self, malformed: Malformed) -> Error {
        let LaneId { venue, symbol, stream } = self.lane;
        let place = format!("{venue}/{symbol}/{}/{}.q", Date::of_ns(self.time_ns), stream.stem());
        Error::Record { place, seq: self.seq, malformed }
    }
}

/// A record that opens a book in the middle of a day.
#[derive(Debug)]
struct Opening {
    type_id: u16,
    time_ns: u64,
    payload: Vec<u8>,
}

impl Opening {
    fn of(record: &Record<'_>, time_ns: u64) -> Self {
        let mut payload = vec![0; record.encoded_len()];
        match record.encode(&mut payload) {
            Ok(_) => Self { type_id: record.type_id(), time_ns, payload },
            Err(error) => panic!("bug: a record made of a stored one cannot be written: {error}"),
        }
    }
}

/// One stream of one symbol, day after day.
#[derive(Debug)]
struct Lane<P: Platform> {
    id: LaneId,
    days: std::vec::IntoIter<Date>,
    partition: Option<Partition<P>>,
    /// Given before what is stored; the front is the current record.
    opening: VecDeque<Opening>,
    /// The partition's current record comes next: it was looked at for its time.
    held: bool,
    received_ns: u64,
}

/// Whether a record is the refinery's and not the venue's.
fn is_refinerys(stream: Stream, type_id: u16, payload: &[u8]) -> bool {
    match type_id {
        type_id::GAP => stream == Stream::Book,
        type_id::BOOK_SNAPSHOT | type_id::COUNTED_SNAPSHOT | type_id::ORDERS_SNAPSHOT => {
            let source = match Record::parse(type_id, payload) {
                Ok(Record::BookSnapshot(book)) => book.source,
                Ok(Record::CountedSnapshot(counted)) => counted.book.source,
                Ok(Record::OrdersSnapshot(orders)) => orders.source,
                // Whoever parses it says what is wrong with it.
                _ => SnapshotSource::Venue,
            };
            source == SnapshotSource::Refinery
        }
        _ => false,
    }
}

impl<P: Platform> Lane<P> {
    /// Moves to the first record; `false` if there is none.
    fn begin(&mut self, platform: &P, archive: &ArchiveReader<P>, request: &Request) -> Result<bool> {
        self.held = self.stored(platform, archive, request)?;
        if self.id.stream == Stream::Book && request.from_ns > 0 {
            if !self.held {
                self.received_ns = request.from_ns;
            }
            self.opening = opening(platform, archive, &self.id, request.from_ns, self.received_ns)?;
        }
        Ok(!self.opening.is_empty() || std::mem::take(&mut self.held))
    }

    /// Moves to the next record; `false` at the end.
    fn advance(&mut self, platform: &P, archive: &ArchiveReader<P>, request: &Request) -> Result<bool> {
        if self.opening.pop_front().is_some() {
            return Ok(!self.opening.is_empty() || std::mem::take(&mut self.held));
        }
        self.stored(platform, archive, request)
    }

    /// Moves to the next record that is stored.
    fn stored(&mut self, platform: &P, archive: &ArchiveReader<P>, request: &Request) -> Result<bool> {
        loop {
            let Some(partition) = &mut self.partition else {
                let Some(date) = self.days.next() else { return Ok(false) };
                self.open(platform, archive, date, request)?;
                continue;
            };
            if !partition.advance()? {
                self.partition = None;
                continue;
            }
            let Some(frame) = partition.current() else { continue };
            if !(request.from_ns..request.to_ns).contains(&frame.time_ns) {
                continue;
            }
            let payload = frame.payload.as_slice(None).expect("bug: an archived frame's payload is in private memory");
            if is_refinerys(self.id.stream, frame.type_id, payload) {
                continue;
            }
            let Ok((head, _)) = HeadLayout::ref_from_prefix(payload) else {
                let (type_id, len, needed) = (frame.type_id, payload.len(), size_of::<HeadLayout>());
                let malformed = Malformed::Short { type_id, len, needed };
                return Err(Error::Record { place: partition.path().display().to_string(), seq: frame.seq, malformed });
            };
            self.received_ns = self.received_ns.max(head.ingest_ns.get());
            return Ok(true);
        }
    }

    fn open(&mut self, platform: &P, archive: &ArchiveReader<P>, date: Date, request: &Request) -> Result<()> {
        let LaneId { venue, symbol, stream } = self.id.clone();
        self.partition = partition(platform, archive, &PartitionId::new(venue, symbol, date, stream))?;
        if let Some(partition) = &mut self.partition
            && date.start_ns() < request.from_ns
        {
            partition.seek_time(request.from_ns)?;
        }
        Ok(())
    }

    fn current(&self) -> Option<Event<'_>> {
        let (received_ns, lane) = (self.received_ns, &self.id);
        if let Some(Opening { type_id, time_ns, payload }) = self.opening.front() {
            return Some(Event { received_ns, time_ns: *time_ns, lane, type_id: *type_id, payload, seq: 0 });
        }
        let frame = self.partition.as_ref()?.current()?;
        let payload = frame.payload.as_slice(None)?;
        Some(Event { received_ns, time_ns: frame.time_ns, lane, type_id: frame.type_id, payload, seq: frame.seq })
    }
}

/// A merged stream. See the module.
#[derive(Debug)]
pub struct Replay<P: Platform> {
    platform: P,
    archive: ArchiveReader<P>,
    request: Request,
    lanes: Vec<Lane<P>>,
    tournament: Tournament,
    /// The winner was given out and must move on before the next is looked for.
    given: bool,
}

impl<P: Platform> Replay<P> {
    /// Opens the lanes in front of the first record.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if nothing is stored of one of the symbols; damage, trouble.
    pub fn open(platform: &P, root: &Root, request: Request) -> Result<Self> {
        let archive = ArchiveReader::open(platform, root)?;
        let mut ids = Vec::new();
        for (venue, symbol) in &request.symbols {
            if archive.dates(venue, symbol)?.is_empty() {
                return Err(Error::NotFound { venue: venue.clone(), symbol: symbol.clone() });
            }
            let lane = |stream: &Stream| LaneId { venue: venue.clone(), symbol: symbol.clone(), stream: *stream };
            ids.extend(request.streams.iter().map(lane));
        }
        ids.sort();
        ids.dedup();
        let mut lanes = Vec::with_capacity(ids.len());
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids {
            let mut dates = archive.dates(&id.venue, &id.symbol)?;
            dates.retain(|date| date.end_ns() > request.from_ns && date.start_ns() < request.to_ns);
            let (days, opening) = (dates.into_iter(), VecDeque::new());
            let mut lane = Lane { id, days, partition: None, opening, held: false, received_ns: 0 };
            keys.push(lane.begin(platform, &archive, &request)?.then_some(lane.received_ns));
            lanes.push(lane);
        }
        let tournament = Tournament::new(keys);
        let platform = platform.clone();
        Ok(Self { platform, archive, request, lanes, tournament, given: false })
    }

    /// The next record, `None` at the end.
    ///
    /// # Errors
    ///
    /// Damage, trouble; records that were given before are right.
    // Not an iterator: the event borrows the lanes.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Event<'_>>> {
        if std::mem::take(&mut self.given)
            && let Some((at, _)) = self.tournament.winner()
        {
            let lane = &mut self.lanes[at];
            let key = lane.advance(&self.platform, &self.archive, &self.request)?.then_some(lane.received_ns);
            self.tournament.replay(key);
        }
        let Some((at, _)) = self.tournament.winner() else { return Ok(None) };
        self.given = true;
        Ok(self.lanes[at].current())
    }

    /// Gives every record to `each`, whose error ends it; returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`Replay::next`]; what `each` returned.
    pub fn each<E: From<Error>>(mut self, mut each: impl FnMut(Event<'_>) -> Result<(), E>) -> Result<u64, E> {
        let mut count = 0;
        while let Some(event) = self.next()? {
            each(event)?;
            count += 1;
        }
        Ok(count)
    }
}

/// What a book's lane begins with if it begins in the middle.
fn opening<P: Platform>(
    platform: &P,
    archive: &ArchiveReader<P>,
    id: &LaneId,
    from_ns: u64,
    received_ns: u64,
) -> Result<VecDeque<Opening>> {
    let Some(before_ns) = from_ns.checked_sub(1) else { return Ok(VecDeque::new()) };
    let state = match book_at(platform, archive.root(), &id.venue, &id.symbol, At::Time(before_ns)) {
        Ok(state) if state.is_valid() => state,
        Ok(_) | Err(Error::NoBook { .. }) => return Ok(VecDeque::new()),
        Err(error) => return Err(error),
    };
    let symbol = name_at_venue(platform, archive, id, Date::of_ns(before_ns))?;
    let BookState { book, last_id, last_event_ns, .. } = &state;
    let head = Head {
        exchange_ns: *last_event_ns,
        ingest_ns: received_ns,
        transact_ns: 0,
        price: book.price_scale(),
        qty: book.qty_scale(),
    };
    let mut levels = Vec::new();
    let bid_count = book.levels_into(&mut levels);
    let (bids, asks) = levels.split_at(bid_count);
    let snapshot = Record::BookSnapshot(BookSnapshot {
        head,
        last_id: *last_id,
        last_event_ns: 0,
        source: SnapshotSource::Venue,
        opens_partition: false,
        bids,
        asks,
        symbol: &symbol,
    });
    let mut opening = VecDeque::from([Opening::of(&snapshot, *last_event_ns)]);
    let own = Ids { first: *last_id, last: *last_id, prev: None };
    let wants_own = |rules: &Rules| rules.joins == Joins::ById && (rules.bridges)(*last_id, own);
    if wants_own(rules(id.venue.as_str())) {
        let delta = BookDelta {
            head,
            first_id: *last_id,
            last_id: *last_id,
            prev_id: None,
            bids: &[],
            asks: &[],
            symbol: &symbol,
        };
        opening.push_back(Opening::of(&Record::BookDelta(delta), *last_event_ns));
    }
    Ok(opening)
}

/// What the venue calls a symbol, on the last day up to this one that says it.
fn name_at_venue<P: Platform>(platform: &P, archive: &ArchiveReader<P>, id: &LaneId, until: Date) -> Result<String> {
    for date in archive.dates(&id.venue, &id.symbol)?.into_iter().rev().filter(|date| *date <= until) {
        let day = PartitionId::new(id.venue.clone(), id.symbol.clone(), date, Stream::Book);
        if let Some(mut partition) = partition(platform, archive, &day)? {
            let path = partition.path().to_owned();
            if let Some(frame) = partition.next()? {
                return Ok(record(&frame, &path)?.symbol().to_owned());
            }
        }
    }
    // A book was found, so there is a record of it; a root that is being emptied meanwhile may say otherwise.
    Ok(id.symbol.to_string())
}

/// A tournament of losers: `losers[0]` is the lane with the least key, the others lost at their node.
#[derive(Debug)]
struct Tournament {
    /// A lane without a key is at its end, and behind all others.
    keys: Vec<Option<u64>>,
    losers: Vec<usize>,
}

impl Tournament {
    fn new(keys: Vec<Option<u64>>) -> Self {
        let count = keys.len();
        let mut this = Self { keys, losers: vec![0; count.max(1)] };
        // Who wins at each node; lane i stands at node count + i.
        let mut winners: Vec<usize> = (0..count).chain(0..count).collect();
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if this.before(right, left) { (right, left) } else { (left, right) };
            (winners[node], this.losers[node]) = (winner, loser);
        }
        this.losers[0] = winners.get(1).copied().unwrap_or(0);
        this
    }

    /// Whether lane `a` is given before lane `b`.
    fn before(&self, a: usize, b: usize) -> bool {
        let key = |lane: usize| (self.keys[lane].is_none(), self.keys[lane], lane);
        key(a) < key(b)
    }

    fn winner(&self) -> Option<(usize, u64)> {
        let lane = self.losers[0];
        self.keys.get(lane).copied().flatten().map(|key| (lane, key))
    }

    /// The winner has another key: it plays its way up again.
    fn replay(&mut self, key: Option<u64>) {
        let mut winner = self.losers[0];
        self.keys[winner] = key;
        let mut node = (winner + self.keys.len()) / 2;
        while node > 0 {
            if self.before(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
    }
}
