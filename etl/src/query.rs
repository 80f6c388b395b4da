//! Books at a moment, and their minutes, from the partitions of a root, wherever these lie by now.
//!
//! [`book_at`] answers "the book of this symbol at that time": it goes to the last snapshot before the time, warm or cold,
//! and applies what follows. [`book_rows`] gives one row per interval, and [`export_book_snapshot`] writes them as the golden files have them.
//!
//! ```text
//! time         t1: last delta before a gap     t2: the delta that showed it        t3: the next snapshot's delta
//! ─────────────●────────────────────────────────●───────────────────────────────────●──────────────▶
//!   valid, t1 included   not valid: what is missing may lie anywhere between      valid from t3 on
//! ```
//!
//! The book at T holds every applied event with exchange time ≤ T; a row of an export holds every one *before* its time,
//! and exists if an event at or after it does. Where a book is not valid, [`BookState::invalid`] says since when and why
//! and where that stands, and the state is the last valid one: whoever must not use that calls
//! [`BookState::require_valid`].
//!
//! Nothing here writes, takes a lock, needs a checkpoint or a running refinery, or interpolates.

mod orders;

use core::fmt;
use core::ops::RangeInclusive;
use std::io::Write;
use std::path::{Path, PathBuf};

use chronicle_core::Frame;
use chronicle_platform::Platform;
use chronicle_protocol::{BookDelta, BookSnapshot, Gap, Record, RecordFlags, SnapshotSource, type_id};
use chronicle_storage::reader::{ArchiveReader, Partition};
use chronicle_storage::root::{Date, Name, PartitionId, Root, Stream, TimeNs};

use crate::book::Book;
use crate::error::{Error, Result};
use crate::orders::OrderBook;
use crate::refine::durable_lens;
use crate::refinery::{NOT_APPLIED, without_counts};

const NS_PER_MS: u64 = 1_000_000;

/// Which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After everything that is stored.
    Latest,
    /// After the events with this exchange time, ns since 1970.
    Time(u64),
}

/// Why a book is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The venue.
    pub venue: Name,
    /// The symbol.
    pub symbol: Name,
    /// Last id before the gap.
    pub after: u64,
    /// First id behind it.
    pub next: u64,
    /// First missing id.
    pub missing_from: u64,
    /// Last missing id.
    pub missing_to: u64,
    /// Exchange time of the event that showed it.
    pub time: TimeNs,
    /// Why.
    pub cause: &'static str,
    /// The file that the gap stands in.
    pub file: PathBuf,
    /// The last time at which the book is valid; none if it never was.
    pub last_valid: Option<TimeNs>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { venue, symbol, after, next, missing_from, missing_to, time, cause, file, last_valid } = self;
        let file = file.display();
        write!(f, "{file}: book of {venue}/{symbol} not valid: gap after id {after} before {next}, ")?;
        write!(f, "missing {missing_from} to {missing_to}, seen at {time}, cause {cause}, ")?;
        match last_valid {
            Some(time) => write!(f, "last valid at {time}"),
            None => f.write_str("never valid before"),
        }
    }
}

/// A book at a moment.
#[derive(Clone, Debug)]
pub struct BookState {
    /// The book; the last valid one where it is not valid.
    pub book: Book,
    /// The same, order by order, where the venue tells its orders.
    pub orders: Option<OrderBook>,
    /// Last id in it; of a book by order the venue's sequence.
    pub last_id: u64,
    /// Exchange time of the last delta in it, ns.
    pub last_event_ns: u64,
    /// Why it is not valid; none: it is.
    pub invalid: Option<Invalid>,
}

impl BookState {
    /// Whether it is the venue's book.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.invalid.is_none()
    }

    /// The same, or a refusal that names the gap, its file and the last valid time.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`].
    pub fn require_valid(self) -> Result<Self> {
        match self.invalid {
            None => Ok(self),
            Some(invalid) => Err(Error::Invalid(Box::new(invalid))),
        }
    }
}

/// A book that is followed through frames.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    book: Book,
    /// The book by order, if that is what it is; the other one is then empty.
    orders: Option<Box<orders::Orders>>,
    /// There is a book: a snapshot was met.
    begun: bool,
    valid: bool,
    last_id: u64,
    last_event_ns: u64,
    /// The gap that made it invalid.
    gap: Option<(GapFacts, PathBuf)>,
}

/// What a gap's record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapFacts {
    /// Last id before the gap.
    pub after: u64,
    /// First id behind it.
    pub next: u64,
    /// First missing id.
    pub missing_from: u64,
    /// Last missing id.
    pub missing_to: u64,
    /// Exchange time of the event that showed it, ns.
    pub time_ns: u64,
    /// Why.
    pub cause: &'static str,
    /// It began on an earlier day.
    pub carried: bool,
}

impl GapFacts {
    pub(crate) fn of(gap: &Gap<'_>) -> Self {
        Self {
            after: gap.after_id,
            next: gap.next_id,
            missing_from: gap.missing_from,
            missing_to: gap.missing_to,
            time_ns: gap.head.exchange_ns,
            cause: gap.cause.as_str(),
            carried: gap.carried,
        }
    }
}

impl Follower {
    pub(crate) fn is_valid(&self) -> bool {
        self.valid
    }

    pub(crate) fn valid_book(&self) -> Option<&Book> {
        self.valid.then_some(&self.book)
    }

    /// Exchange time of the last delta in the book; 0 before there is one.
    pub(crate) fn last_event_ns(&self) -> u64 {
        self.last_event_ns
    }

    /// A snapshot that stands in the stream is an event; one fetched beside it has the time of the event that it is joined to.
    pub(crate) fn snapshot(&mut self, snapshot: &BookSnapshot<'_>, time_ns: u64) {
        let venues = snapshot.source == SnapshotSource::Venue;
        // Between two of the venue's, the refinery's say what is known.
        if venues || !self.valid {
            // A snapshot alone always fits itself.
            let _ = self.book.replace(&snapshot.head, snapshot.bids, snapshot.asks);
            self.last_id = snapshot.last_id;
            self.last_event_ns = if venues { snapshot.head.exchange_ns.min(time_ns) } else { snapshot.last_event_ns };
        }
        self.begun = true;
        self.valid = true;
        self.gap = None;
    }

    pub(crate) fn delta(&mut self, delta: &BookDelta<'_>, frame: &Frame<'_>, path: &Path) -> Result<()> {
        // The refinery would have broken off here.
        self.book.apply(&delta.head, delta.bids, delta.asks).map_err(|unfit| Error::Unfit {
            place: path.display().to_string(),
            seq: frame.seq,
            unfit,
        })?;
        self.last_id = delta.last_id;
        self.last_event_ns = self.last_event_ns.max(frame.time_ns);
        Ok(())
    }

    pub(crate) fn break_off(&mut self, gap: GapFacts, file: PathBuf) {
        self.valid = false;
        self.forget_told();
        self.gap.get_or_insert((gap, file));
    }
}

/// A symbol's book partitions.
struct Books<'a, P: Platform> {
    platform: P,
    archive: ArchiveReader<P>,
    venue: &'a Name,
    symbol: &'a Name,
}

impl<'a, P: Platform> Books<'a, P> {
    fn open(platform: &P, root: &Root, venue: &'a Name, symbol: &'a Name) -> Result<Self> {
        Ok(Self { platform: platform.clone(), archive: ArchiveReader::open(platform, root)?, venue, symbol })
    }

    fn dates(&self) -> Result<Vec<Date>> {
        let dates = self.archive.dates(self.venue, self.symbol)?;
        if dates.is_empty() {
            return Err(Error::NotFound { venue: self.venue.clone(), symbol: self.symbol.clone() });
        }
        Ok(dates)
    }

    fn partition(&self, date: Date) -> Result<Option<Partition<P>>> {
        let id = PartitionId::new(self.venue.clone(), self.symbol.clone(), date, Stream::Book);
        partition(&self.platform, &self.archive, &id)
    }

    /// Whether the symbol's book is one by order: what its first record is of.
    fn is_by_order(&self) -> Result<bool> {
        for date in self.dates()? {
            let Some(mut partition) = self.partition(date)? else { continue };
            while let Some(frame) = partition.next()? {
                match frame.type_id {
                    type_id::ORDER_EVENT | type_id::ORDERS_SNAPSHOT => return Ok(true),
                    type_id::BOOK_DELTA | type_id::BOOK_SNAPSHOT | type_id::COUNTED_SNAPSHOT => return Ok(false),
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    fn invalid(&self, gap: &(GapFacts, PathBuf), last_valid: Option<u64>) -> Invalid {
        let (gap, file) = gap;
        Invalid {
            venue: self.venue.clone(),
            symbol: self.symbol.clone(),
            after: gap.after,
            next: gap.next,
            missing_from: gap.missing_from,
            missing_to: gap.missing_to,
            time: TimeNs(gap.time_ns),
            cause: gap.cause,
            file: file.clone(),
            last_valid: last_valid.map(TimeNs),
        }
    }
}

/// A partition of an archive, with what the refinery's checkpoint knows of it: in a file that still grows, what does not
/// fit before the length that was made durable is damage, and no torn tail.
///
/// # Errors
///
/// Damage in what opening looks at, or in the checkpoint; trouble.
pub fn partition<P: Platform>(
    platform: &P,
    archive: &ArchiveReader<P>,
    id: &PartitionId,
) -> Result<Option<Partition<P>>> {
    let Some(mut partition) = archive.partition(id)? else { return Ok(None) };
    if !partition.is_sealed()
        && let Some(len) = durable_lens(platform, archive.root(), &id.venue)?.get(id)
    {
        partition.require(*len);
    }
    Ok(Some(partition))
}

/// The record of a partition's frame, or where it is damaged.
///
/// # Errors
///
/// [`Error::Record`], with the file and the frame's seq.
///
/// # Panics
///
/// If the frame is not in private memory, as each one is that a [`Partition`] gives.
pub fn record<'f>(frame: &'f Frame<'_>, path: &Path) -> Result<Record<'f>> {
    let payload = frame.payload.as_slice(None).expect("bug: an archived frame's payload is in private memory");
    Record::parse(frame.type_id, payload).map_err(|malformed| Error::Record {
        place: path.display().to_string(),
        seq: frame.seq,
        malformed,
    })
}

/// The book of a symbol at a moment.
///
/// ```no_run
/// # fn main() -> chronicle_etl::error::Result<()> {
/// # #[cfg(target_os = "linux")] {
/// use chronicle_etl::query::{At, book_at};
/// use chronicle_platform_linux::Linux;
/// use chronicle_storage::root::{Name, Root};
///
/// let (venue, symbol) = (Name::new("binance-spot").unwrap(), Name::new("btcusdt").unwrap());
/// let state = book_at(&Linux, &Root::new("data"), &venue, &symbol, At::Latest)?.require_valid()?;
/// state.book.write_csv(&mut std::io::stdout(), 10)?;
/// # }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::NoBook`]; damage, trouble. That the book is not valid is no error here, see
/// [`BookState::invalid`].
pub fn book_at<P: Platform>(platform: &P, root: &Root, venue: &Name, symbol: &Name, at: At) -> Result<BookState> {
    let books = Books::open(platform, root, venue, symbol)?;
    let until = match at {
        At::Latest => u64::MAX,
        At::Time(ns) => ns,
    };
    // A gap that was carried into the days looked at, and the file in which it is counted if that was met.
    let mut carried: Option<(GapFacts, PathBuf)> = None;
    for date in books.dates()?.into_iter().rev().filter(|date| *date <= Date::of_ns(until)) {
        let Some(mut partition) = books.partition(date)? else { continue };
        let follower = follow_until(&mut partition, until)?;
        if !follower.begun {
            carried = follower.gap.or(carried);
            continue;
        }
        let Follower { book, orders, last_id, last_event_ns, gap, .. } = follower;
        let orders = orders.map(|orders| orders.book);
        let book = orders.as_ref().map_or(book, OrderBook::to_book);
        let gap = gap.or(carried);
        let invalid = gap.map(|gap| books.invalid(&gap, Some(last_event_ns)));
        return Ok(BookState { book, orders, last_id, last_event_ns, invalid });
    }
    match carried {
        Some(gap) => {
            let invalid = Some(books.invalid(&gap, None));
            Ok(BookState { book: Book::new(), orders: None, last_id: 0, last_event_ns: 0, invalid })
        }
        None => {
            let at = match at {
                At::Latest => None,
                At::Time(ns) => Some(TimeNs(ns)),
            };
            Err(Error::NoBook { venue: venue.clone(), symbol: symbol.clone(), at })
        }
    }
}

/// Moves in front of the last snapshot that is of use for the book at a time; in front of the first frame without one.
pub(crate) fn seek_book<P: Platform>(partition: &mut Partition<P>, until: u64) -> Result<()> {
    if partition.seek_snapshot(until)? {
        // A snapshot of the venue that was of no use is one all the same to who looks at types alone.
        let useful = partition.next()?.is_some_and(|frame| frame.flags & NOT_APPLIED == 0);
        if useful {
            partition.seek_snapshot(until)?;
        } else {
            partition.seek_seq(1)?;
        }
    }
    Ok(())
}

/// Follows one day's book to a time, from the last snapshot that allows it.
fn follow_until<P: Platform>(partition: &mut Partition<P>, until: u64) -> Result<Follower> {
    seek_book(partition, until)?;
    let mut follower = Follower::default();
    let path = partition.path().to_owned();
    while let Some(frame) = partition.next()? {
        if frame.flags & NOT_APPLIED != 0 {
            continue;
        }
        match without_counts(record(&frame, &path)?) {
            Record::BookSnapshot(snapshot) if frame.time_ns <= until => follower.snapshot(&snapshot, frame.time_ns),
            // The deltas of a snapshot that is too late are so too.
            Record::BookSnapshot(_) => break,
            Record::BookDelta(delta) if frame.time_ns <= until => {
                follower.delta(&delta, &frame, &path)?;
            }
            Record::BookDelta(_) => break,
            Record::OrdersSnapshot(snapshot) if frame.time_ns <= until => {
                follower.orders_snapshot(&snapshot, &frame, &path)?;
            }
            Record::OrdersSnapshot(_) => {
                follower.end_told();
                break;
            }
            Record::OrderEvent(event) if frame.time_ns <= until => follower.order_event(&event, &frame, &path)?,
            Record::OrderEvent(event) => {
                if !orders::is_part(&event) {
                    follower.end_told();
                }
                break;
            }
            Record::Gap(gap) => {
                if follower.valid && until <= follower.last_event_ns {
                    break;
                }
                // Nobody knows when the missing events were: not at `until` or before, if nothing is known up to there.
                if !follower.valid && frame.time_ns > until {
                    break;
                }
                follower.break_off(GapFacts::of(&gap), path.clone());
            }
            _ => {}
        }
    }
    Ok(follower)
}

/// Which rows to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The days; a row belongs to the day of its time.
    pub dates: RangeInclusive<Date>,
    /// From one row to the next, ns; rows stand at its multiples since 1970.
    pub every_ns: u64,
    /// Levels of each side.
    pub depth: usize,
}

/// A book at a regular time.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The row's time, a multiple of the interval.
    pub time_ns: u64,
    /// Exchange time of the last event in the book.
    pub last_event_ns: u64,
    /// The venue's id of that event.
    pub last_id: u64,
    /// Whether it is the venue's book at that time; if not, it is the last one that was.
    pub valid: bool,
    /// The book, all of it.
    pub book: &'a Book,
    /// The same, order by order, where the venue tells its orders.
    pub orders: Option<&'a OrderBook>,
}

/// What happens to a book as its partitions are read, in order; see [`follow_book`].
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A snapshot replaced it.
    Began {
        /// Exchange time, ns.
        time_ns: u64,
        /// The book.
        book: &'a Book,
    },
    /// A delta was applied to it.
    Changed {
        /// Exchange time, ns.
        time_ns: u64,
        /// The book behind the delta.
        book: &'a Book,
    },
    /// Ids are missing: it is not known from here to the next snapshot.
    Broken {
        /// Exchange time of the event that showed it, ns.
        time_ns: u64,
    },
    /// A regular time has come, before the event that comes next.
    Row(Row<'a>),
}

/// Writes books at regular times as CSV: the heading always, then [`book_rows`].
///
/// Columns: `minute_ms,last_E,last_u,bid_levels,ask_levels`, then
/// `asks[i].price,asks[i].amount,bids[i].price,bids[i].amount` for each level; cells that a side has no level for are
/// empty. Of a book by order the first ones are `minute_ms,last_ts_event,last_seq,orders,bid_levels,ask_levels`, the second
/// in nanoseconds.
///
/// # Errors
///
/// As [`book_rows`]. Rows that were written before damage was met are right, and not all.
pub fn export_book_snapshot<P: Platform>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    rows: &Rows,
    out: &mut impl Write,
) -> Result<()> {
    // Nothing is written of a symbol that is not there.
    let books = Books::open(platform, root, venue, symbol)?;
    if books.is_by_order()? {
        write!(out, "minute_ms,last_ts_event,last_seq,orders,bid_levels,ask_levels")?;
    } else {
        write!(out, "minute_ms,last_E,last_u,bid_levels,ask_levels")?;
    }
    for i in 0..rows.depth {
        write!(out, ",asks[{i}].price,asks[{i}].amount,bids[{i}].price,bids[{i}].amount")?;
    }
    writeln!(out)?;
    each_row(&books, rows, false, |row| -> Result<()> {
        let (bids, asks) = (row.book.bid_count(), row.book.ask_count());
        let (time_ms, last_ms) = (row.time_ns / NS_PER_MS, row.last_event_ns / NS_PER_MS);
        match row.orders {
            Some(orders) => write!(out, "{time_ms},{},{},{}", row.last_event_ns, row.last_id, orders.count())?,
            None => write!(out, "{time_ms},{last_ms},{}", row.last_id)?,
        }
        write!(out, ",{bids},{asks}")?;
        let (mut bids, mut asks) = (row.book.bids(), row.book.asks());
        for _ in 0..rows.depth {
            for level in [asks.next(), bids.next()] {
                match level {
                    Some((price, qty)) => write!(out, ",{},{}", row.book.price(price), row.book.qty(qty))?,
                    None => write!(out, ",,")?,
                }
            }
        }
        Ok(writeln!(out)?)
    })?;
    Ok(out.flush()?)
}

/// Gives books at regular times: for each multiple of `every_ns` the book before the first applied event at or after it.
/// What `each` returns in error ends it.
///
/// There are no rows where the book is not valid, before the first event, after the last one, and on days without any.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing is stored of the symbol; damage, trouble; what `each` returned.
pub fn book_rows<P: Platform, E: From<Error>>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    rows: &Rows,
    each: impl FnMut(Row<'_>) -> Result<(), E>,
) -> Result<(), E> {
    each_row(&Books::open(platform, root, venue, symbol)?, rows, false, each)
}

/// As [`book_rows`], and the rows between which the book is not valid, up to the snapshot from which on it is again:
/// [`Row::valid`] tells them apart. A gap that nothing ended has none.
///
/// # Errors
///
/// As [`book_rows`].
pub fn book_rows_and_gaps<P: Platform, E: From<Error>>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    rows: &Rows,
    each: impl FnMut(Row<'_>) -> Result<(), E>,
) -> Result<(), E> {
    each_row(&Books::open(platform, root, venue, symbol)?, rows, true, each)
}

/// Everything that happens to a book on the days of `rows`, and its rows where they fall due: for those who compute
/// something of their own from it.
///
/// The book that is carried into the first day is seen to begin there. Rows without a valid book are among the rows.
///
/// # Errors
///
/// As [`book_rows`].
pub fn follow_book<P: Platform, E: From<Error>>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    rows: &Rows,
    each: impl FnMut(Seen<'_>) -> Result<(), E>,
) -> Result<(), E> {
    follow(&Books::open(platform, root, venue, symbol)?, rows, true, true, each)
}

fn each_row<P: Platform, E: From<Error>>(
    books: &Books<P>,
    rows: &Rows,
    gaps: bool,
    mut each: impl FnMut(Row<'_>) -> Result<(), E>,
) -> Result<(), E> {
    follow(books, rows, gaps, false, |seen| match seen {
        Seen::Row(row) => each(row),
        _ => Ok(()),
    })
}

/// Without `changes` only rows are given: what a book by order sums up to is not computed for nobody.
fn follow<P: Platform, E: From<Error>>(
    books: &Books<P>,
    rows: &Rows,
    gaps: bool,
    changes: bool,
    each: impl FnMut(Seen<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let dates = books.dates()?;
    let mut writer = RowWriter { rows, gaps, each, days: (*rows.dates.start(), *rows.dates.start()), next: 0 };
    let mut follower = Follower::default();
    let mut begun = false;
    for date in dates.into_iter().filter(|date| date >= rows.dates.start()) {
        // Of the day behind the range only the opening is of interest: it shows that the last rows exist.
        let behind = date > *rows.dates.end();
        if behind && !begun {
            break;
        }
        let Some(mut partition) = books.partition(date)? else { continue };
        writer.days = (if begun { writer.days.1 } else { date }, date);
        begun = true;
        let path = partition.path().to_owned();
        while let Some(frame) = partition.next().map_err(Error::from)? {
            if frame.flags & NOT_APPLIED != 0 {
                continue;
            }
            match without_counts(record(&frame, &path)?) {
                Record::BookSnapshot(snapshot) if snapshot.source == SnapshotSource::Refinery => {
                    // There is an event at this time or later, and the book was this one until then.
                    if !follower.valid {
                        writer.up_to(&follower, frame.time_ns.saturating_sub(1))?;
                        writer.next = writer.multiple_from(frame.time_ns);
                        follower.snapshot(&snapshot, frame.time_ns);
                        (writer.each)(Seen::Began { time_ns: frame.time_ns, book: &follower.book })?;
                    }
                    writer.up_to(&follower, frame.time_ns)?;
                }
                Record::BookSnapshot(snapshot) => {
                    writer.up_to(&follower, frame.time_ns)?;
                    writer.next = writer.multiple_from(frame.time_ns.saturating_add(1));
                    follower.snapshot(&snapshot, frame.time_ns);
                    (writer.each)(Seen::Began { time_ns: frame.time_ns, book: &follower.book })?;
                }
                Record::BookDelta(delta) => {
                    writer.up_to(&follower, frame.time_ns)?;
                    follower.delta(&delta, &frame, &path)?;
                    (writer.each)(Seen::Changed { time_ns: frame.time_ns, book: &follower.book })?;
                }
                Record::Gap(gap) => {
                    if follower.gap.is_some() {
                        writer.up_to(&follower, frame.time_ns)?;
                    } else if !follower.valid {
                        writer.next = writer.multiple_from(frame.time_ns);
                    }
                    follower.break_off(GapFacts::of(&gap), path.clone());
                    (writer.each)(Seen::Broken { time_ns: frame.time_ns })?;
                }
                Record::OrdersSnapshot(snapshot) => {
                    if snapshot.source == SnapshotSource::Venue {
                        writer.up_to(&follower, frame.time_ns)?;
                        writer.next = NO_ROW;
                    } else if !follower.valid {
                        writer.up_to(&follower, frame.time_ns.saturating_sub(1))?;
                        writer.next = writer.multiple_from(frame.time_ns);
                    }
                    let begins = !follower.valid || snapshot.source == SnapshotSource::Venue;
                    follower.orders_snapshot(&snapshot, &frame, &path)?;
                    if begins && changes {
                        (writer.each)(Seen::Began { time_ns: frame.time_ns, book: &follower.summed() })?;
                    }
                    writer.up_to(&follower, frame.time_ns)?;
                }
                Record::OrderEvent(event) if orders::is_part(&event) => {
                    if !follower.is_being_told() {
                        writer.up_to(&follower, frame.time_ns)?;
                    }
                    writer.next = NO_ROW;
                    follower.order_event(&event, &frame, &path)?;
                    if changes && !follower.is_being_told() {
                        (writer.each)(Seen::Began { time_ns: frame.time_ns, book: &follower.summed() })?;
                    }
                }
                Record::OrderEvent(event) => {
                    if follower.is_being_told() {
                        follower.end_told();
                        if changes {
                            (writer.each)(Seen::Began { time_ns: frame.time_ns, book: &follower.summed() })?;
                        }
                    }
                    if writer.next == NO_ROW || !follower.valid {
                        writer.next = writer.multiple_from(frame.time_ns.saturating_add(1));
                    }
                    writer.up_to(&follower, frame.time_ns)?;
                    follower.order_event(&event, &frame, &path)?;
                    // What an event changed counts from its last record on.
                    if changes && event.flags.has(RecordFlags::LAST) {
                        (writer.each)(Seen::Changed { time_ns: frame.time_ns, book: &follower.summed() })?;
                    }
                }
                _ => {}
            }
            if behind {
                break;
            }
        }
        if behind {
            break;
        }
    }
    Ok(())
}

/// Time of the next row where no event followed a venue's snapshot yet: rows begin behind the first.
const NO_ROW: u64 = u64::MAX;

/// Gives rows as time goes on.
struct RowWriter<'a, F> {
    rows: &'a Rows,
    /// Rows without a valid book, too.
    gaps: bool,
    each: F,
    /// The day before the one that is read, and that one: days between them have no events and no rows.
    days: (Date, Date),
    /// Time of the next row.
    next: u64,
}

impl<F> RowWriter<'_, F> {
    fn multiple_from(&self, ns: u64) -> u64 {
        ns.checked_next_multiple_of(self.rows.every_ns.max(1)).unwrap_or(u64::MAX)
    }

    /// An event at `time_ns` exists: the rows up to there have the book as it is.
    fn up_to<E>(&mut self, follower: &Follower, time_ns: u64) -> Result<(), E>
    where
        F: FnMut(Seen<'_>) -> Result<(), E>,
    {
        let shown = follower.valid || self.gaps && follower.gap.is_some();
        if !shown || time_ns < self.next {
            return Ok(());
        }
        let orders = follower.orders.as_ref().map(|orders| &orders.book);
        let summed = orders.map(OrderBook::to_book);
        while self.next <= time_ns {
            let date = Date::of_ns(self.next);
            if date != self.days.0 && date < self.days.1 {
                self.next = self.multiple_from(self.days.1.start_ns());
                continue;
            }
            if self.rows.dates.contains(&date) {
                let Follower { last_event_ns, last_id, valid, .. } = *follower;
                let (time_ns, book) = (self.next, summed.as_ref().unwrap_or(&follower.book));
                (self.each)(Seen::Row(Row { time_ns, last_event_ns, last_id, valid, book, orders }))?;
            }
            match self.next.checked_add(self.rows.every_ns.max(1)) {
                Some(next) => self.next = next,
                None => break,
            }
        }
        Ok(())
    }
}
