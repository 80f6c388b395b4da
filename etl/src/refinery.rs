//! The refinery: raw frames in, partition writes out; a pure state machine, one per venue.
//!
//! ```text
//! raw frame ── whose? ── when? ── still open? ── what is it?
//!                │         │          │            ├ delta     next one: applied; before it the minutes that it crosses
//!                │         │          │            │           after a break, or before a snapshot: waits
//!                │         │          │            │           seen before: kept, not applied
//!                │         │          │            ├ snapshot  joined to the waiting deltas, which are then applied
//!                │         │          │            └ others    kept; an id seen before: not applied
//!                │         │          └ its day was over for an hour, or is sealed: `late`, or rejected
//!                │         └ the venue's time; none: the highest one accepted so far; none that is of use: it waits
//!                └ with a symbol table: by text and time; who is nobody then is refused, or kept beside. Without one: the
//!                  text. A record without a symbol, or with one that no path can hold, is `_`'s
//! ```
//!
//! [`Refinery::frame`] takes one raw frame and calls a [`Sink`] for every frame that goes into a partition. What comes
//! out depends on the frames and on the [`LatePolicy`] alone, never on how they were cut into runs, how often a
//! checkpoint was taken or what other symbols did: each symbol has a state of its own, and the whole of it is
//! serializable, so that a checkpoint is [`Refinery`] itself.
//!
//! Payloads go through unchanged. What the refinery adds are its own snapshots and gap markers. Frames that do not take
//! part in the book (before a snapshot, after a gap, seen before) are kept all the same, with [`NOT_APPLIED`] in their
//! flags: a replay of the partition gives every record that came in.
//!
//! **Times.** A clean frame's `time_ns` is the venue's event time. A record without one takes the highest time accepted so
//! far for its symbol. Before there is one, or when that one's day was already over for an hour as the record came in,
//! it waits for the next; at most [`WAITING_MAX`] records do, the oldest of more takes its receive time and is counted.
//! When that one's day was sealed by hand before it was over, nobody can tell yet whether the record is still of that
//! day: it waits for the symbol's next timed record. If that is accepted, and its day began within an hour of the
//! waiting one's receipt, the latter takes its time; if it is late, so is the latter, and so is what can wait no longer.
//! A venue's snapshot takes the time of the delta that it is joined to. A time more than 24 h ahead of the receive time
//! is not believed: the record goes to `opaque`, unchanged.
//!
//! **Days.** A record belongs to the UTC day of its time, but an applied delta never to an earlier day than the one
//! before it, and a venue's snapshot never to an earlier one than the day it was received on; nothing is ever added to a
//! sealed day. A day is sealed when a record received an hour or more after its end has been dealt with, or by hand. The
//! stream `late` is of the day of receipt and holds records of other days, or of that one once it is sealed: it may
//! begin on a sealed day, and is then sealed by itself. What finds it sealed too begins the next day's.
//!
//! **Names.** With a symbol table ([`crate::symbols`]) a state is that of a symbol of the table, under all its names. When it
//! is renamed its book goes on: the first partition of the new code opens with a snapshot of it. Where the venue goes on
//! numbering nothing is missing; an id that is not above the last one shows that it began anew, and is a gap, not a
//! duplicate. What still comes under an older name, after the first delta under the newer one, is kept and not applied. Each
//! day has the code and the version that [`crate::symbols::Table::on`] gives it when it is opened.
//!
//! What it never does: it reads no clock, no file and no environment, starts no thread, guesses no symbol, repairs no
//! book.

mod day;
mod names;
mod roster;
mod shard;
mod symbol;

use chronicle_core::Append;
use chronicle_protocol::{Malformed, Record};
use chronicle_storage::root::{Date, Name, Stream, TimeNs};
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::symbols::{Table, Unresolved, VenueTable};
use crate::venue::{Rules, rules};

pub use day::{Counts, Day, Gap, Partition};
pub(crate) use names::{Names, Whose};
pub use roster::Disagreement;
use roster::Roster;
pub(crate) use shard::Shard;
pub use symbol::Symbol;

/// Bit 0 of a clean frame's flags: the record takes no part in the book, or repeats one that was there before.
pub const NOT_APPLIED: u16 = 1;

/// Records of one symbol that may wait: for an exchange time, or as deltas for a snapshot.
pub const WAITING_MAX: usize = 10_000;
/// And their payload bytes.
pub const WAITING_LEN_MAX: usize = 16 << 20;

/// Symbol code of what belongs to no symbol.
pub const NO_SYMBOL: &str = "_";

/// What happens to a record that comes an hour or more after its day ended, or after it was sealed by hand. Fixed for a
/// day when it is first opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatePolicy {
    /// It is counted and not kept; the raw stream has it.
    Reject,
    /// It is counted and kept in the stream `late` of the day on which it arrived.
    #[default]
    LateStream,
}

impl LatePolicy {
    /// The word for it in files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::LateStream => "late_stream",
        }
    }
}

impl fmt::Display for LatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no [`LatePolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLatePolicy;

impl fmt::Display for UnknownLatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("late policy is neither reject nor late_stream")
    }
}

impl std::error::Error for UnknownLatePolicy {}

impl core::str::FromStr for LatePolicy {
    type Err = UnknownLatePolicy;
    fn from_str(text: &str) -> Result<Self, UnknownLatePolicy> {
        [Self::Reject, Self::LateStream].into_iter().find(|p| p.as_str() == text).ok_or(UnknownLatePolicy)
    }
}

/// One frame of the raw stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// Its `time_ns`: when the record was received.
    pub ingest_ns: u64,
    /// What the payload is.
    pub type_id: u16,
    /// The record.
    pub payload: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// The record, as the refinery sees it.
    pub(crate) fn record(&self) -> Result<Record<'a>, Malformed> {
        Record::parse(self.type_id, self.payload).map(without_counts)
    }
}

/// A partition of this refinery's venue. `symbol` counts [`Refinery::symbols`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Which symbol.
    pub symbol: u32,
    /// Which day.
    pub date: Date,
    /// Which stream.
    pub stream: Stream,
}

/// Where clean frames go.
pub trait Sink {
    /// Why a frame could not be taken.
    type Error;

    /// Adds a frame to a partition; the first one begins it.
    ///
    /// # Errors
    ///
    /// The sink's own. The refinery that called is then of no use any more: go back to the last checkpoint.
    fn append(&mut self, place: Place, frame: Append, payload: &[u8]) -> Result<(), Self::Error>;

    /// Says that nothing will be added to a partition any more.
    ///
    /// # Errors
    ///
    /// As [`Sink::append`].
    fn seal(&mut self, place: Place) -> Result<(), Self::Error>;
}

/// Where raw records came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// File name, or the feed's id.
    pub name: String,
    /// SHA-256 of the file; a live feed has none.
    pub sha256: Option<[u8; 32]>,
}

/// Why a frame could not be refined.
#[derive(Debug)]
#[non_exhaustive]
pub enum FrameError<E> {
    /// Its payload is no record: damage that its checksum did not show, or a newer version's.
    Malformed(Malformed),
    /// The symbol table knows nobody by its text at its time, and such records are not to be kept.
    Unresolved(Stranger),
    /// The sink failed.
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for FrameError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Unresolved(stranger) => stranger.fmt(f),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for FrameError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(_) | Self::Unresolved(_) => None,
            // Its own text is shown above.
            Self::Sink(error) => error.source(),
        }
    }
}

/// A text that the symbol table knows nobody by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The venue's own text.
    pub symbol: String,
    /// The time at which it was asked for.
    pub at: TimeNs,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol: String = self.symbol.chars().take(64).flat_map(char::escape_debug).collect();
        write!(f, "symbol {symbol} at {} is not in the symbol table", self.at)
    }
}

impl std::error::Error for Stranger {}

/// The state of one venue. See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Image", into = "Image")]
pub struct Refinery {
    names: Names,
    /// All symbols, by their number.
    shard: Shard,
}

/// Memory for the refinery's own records.
#[derive(Clone, Debug, Default)]
struct Scratch {
    levels: Vec<chronicle_protocol::Level>,
    orders: Vec<chronicle_protocol::BookOrder>,
    bytes: Vec<u8>,
}

/// The part of a [`Refinery`] that a checkpoint keeps, in the order in which [`crate::checkpoint`] writes it.
#[derive(Serialize, Deserialize)]
struct Image {
    venue: Name,
    symbols: Vec<Symbol>,
    sources: Vec<Source>,
    source: Option<u32>,
    late_policy: LatePolicy,
    roster: Option<Roster>,
}

impl From<Refinery> for Image {
    fn from(refinery: Refinery) -> Self {
        let Refinery { names, shard } = refinery;
        let sources = names.sources().to_vec();
        let (source, late_policy, roster) = (names.source(), shard.late_policy, names.roster().cloned());
        Self { venue: names.venue().clone(), symbols: shard.symbols, sources, source, late_policy, roster }
    }
}

impl From<Image> for Refinery {
    fn from(image: Image) -> Self {
        let Image { venue, symbols, sources, source, late_policy, roster } = image;
        let rules = rules(venue.as_str());
        let table = roster.as_ref().map(|roster| roster.table().clone());
        let names = Names::new(venue, &symbols, sources, source, roster);
        Self { names, shard: Shard::new(rules, late_policy, table, symbols) }
    }
}

/// What one call works with.
struct Context<'a, S> {
    sink: &'a mut S,
    rules: &'static Rules,
    table: Option<&'a VenueTable>,
    symbol: u32,
    late_policy: LatePolicy,
    scratch: &'a mut Scratch,
}

/// A raw record on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) ingest_ns: u64,
    pub(crate) type_id: u16,
    pub(crate) source: Option<u32>,
    /// Which of its symbol's names in turn it has; 0 without a symbol table.
    pub(crate) turn: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Item<'a> {
    pub(crate) fn of(frame: RawFrame<'a>, source: Option<u32>, turn: u32) -> Self {
        let RawFrame { ingest_ns, type_id, payload } = frame;
        Self { ingest_ns, type_id, source, turn, payload }
    }
}

/// A book does not keep how many orders stand at its levels: to the refinery such a snapshot is one as any other. The
/// record goes into its partition as it came.
pub(crate) fn without_counts(record: Record<'_>) -> Record<'_> {
    match record {
        Record::CountedSnapshot(counted) => Record::BookSnapshot(counted.book),
        other => other,
    }
}

impl Refinery {
    /// A venue of which nothing is known yet.
    #[must_use]
    pub fn new(venue: Name) -> Self {
        let (symbols, sources, late_policy) = (Vec::new(), Vec::new(), LatePolicy::default());
        Image { venue, symbols, sources, source: None, late_policy, roster: None }.into()
    }

    /// The venue.
    #[must_use]
    pub fn venue(&self) -> &Name {
        self.names.venue()
    }

    /// All symbols, in the order in which they were met.
    #[must_use]
    pub fn symbols(&self) -> &[Symbol] {
        self.shard.symbols()
    }

    /// All sources, in the order in which they were met.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        self.names.sources()
    }

    /// What happens to late records of days that are opened from now on.
    pub fn set_late_policy(&mut self, policy: LatePolicy) {
        self.shard.late_policy = policy;
    }

    /// Says from now on by this table who a symbol is.
    ///
    /// # Errors
    ///
    /// The table says otherwise about something that was refined already; nothing changed then.
    pub fn set_table(&mut self, table: &Table) -> Result<(), Disagreement> {
        let table = table.of_venue(self.venue());
        self.names.set_table(&table, self.shard.symbols())?;
        self.shard.table = Some(table);
        Ok(())
    }

    /// The symbol table, if there is one.
    #[must_use]
    pub fn table(&self) -> Option<&VenueTable> {
        self.names.table()
    }

    /// What becomes from now on of records that the symbol table knows nobody for. Without a table it says nothing.
    pub fn set_unresolved(&mut self, unresolved: Unresolved) {
        self.names.set_unresolved(unresolved);
    }

    /// Takes the next raw frame.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]. Unless the sink failed, the state is as before.
    pub fn frame<S: Sink>(&mut self, frame: RawFrame<'_>, sink: &mut S) -> Result<(), FrameError<S::Error>> {
        let record = frame.record().map_err(FrameError::Malformed)?;
        let shard = &mut self.shard;
        let whose = self.names.whose(&record, frame.ingest_ns, |_, symbol| shard.begin(symbol));
        let Some(Whose { number, turn }) = whose.map_err(FrameError::Unresolved)? else { return Ok(()) };
        let item = Item::of(frame, self.names.source(), turn);
        shard.take(number, item, &record, sink).map_err(FrameError::Sink)
    }

    /// Says that the raw stream lost frames here. Where ids turn out to be missing next, this is the cause.
    pub fn raw_lost(&mut self) {
        self.shard.raw_lost();
    }

    /// Seals every open day, whatever may still come. Records that wait are let go first.
    ///
    /// # Errors
    ///
    /// The sink's.
    pub fn seal<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.seal_until(Date::MAX, sink)
    }

    /// Seals the days up to and including `last`; records that wait and belong to them are let go first.
    ///
    /// # Errors
    ///
    /// The sink's.
    pub fn seal_until<S: Sink>(&mut self, last: Date, sink: &mut S) -> Result<(), S::Error> {
        self.shard.seal_until(last, sink)
    }

    /// The names, and the states that are dealt out to shards.
    pub(crate) fn into_parts(self) -> (Names, Shard) {
        (self.names, self.shard)
    }
}
