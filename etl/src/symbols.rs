//! Who a symbol is, and when: the table `dim_symbol`, joined as of the time of the event.
//!
//! A venue renames what it trades, takes it off its list, and gives an old name to something new. A [`Table`] says which
//! instrument a name meant at a moment: one [`Version`] per stretch of time in which nothing about it changed (a slowly
//! changing dimension of type 2).
//!
//! ```text
//! venue         raw_symbol  symbol_id  symbol_code  symbol_version_id  valid_from  valid_to
//! binance-spot  LUNAUSDT            7  lunausdt                    11  2020-08-21  2022-05-28     renamed, its book goes on
//! binance-spot  LUNCUSDT            7  luncusdt                    12  2022-05-28  (open)
//! binance-spot  LUNAUSDT            9  luna2usdt                   13  2022-05-31  (open)         another one, with the old name
//!
//! resolve(venue, raw symbol, time)  =  the version with  valid_from <= time < valid_to,  or none
//! ```
//!
//! Three things are functions of a table, and of nothing else:
//!
//! - **a record's symbol**: [`Table::resolve`], by the venue's own text and the time of the event;
//! - **a day's directory**: [`Table::on`], by the symbol and the UTC day. A day has one code, the one that it began with,
//!   because a partition is a day; a code that changes at noon is in the paths from the next midnight on;
//! - **who owns a code**: one symbol, for ever. Whoever reads `v1/{venue}/{code}/` without the table reads one instrument.
//!
//! What is wrong in a table is found when it is read, all of it, and each [`Problem`] names its rows: see [`problems`].
//!
//! What this module never does: it guesses no symbol, takes no row for another, opens no file, and knows of no clock.

mod csv;
pub mod problems;

use core::fmt;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronicle_storage::root::{Date, Name, TimeNs};
use serde::{Deserialize, Serialize};

pub use problems::{Problem, ProblemKind, Problems, Row, RowKind};

/// Code of the partitions that keep what a table knows no symbol for. No symbol may have it.
pub const UNRESOLVED: &str = "unresolved";

/// The columns of a table, in the order in which they are written. A file may have them in any order, and others beside.
pub const COLUMNS: [&str; 7] =
    ["venue", "raw_symbol", "symbol_id", "symbol_code", "symbol_version_id", "valid_from", "valid_to"];

/// What was true of one symbol from one moment to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The venue.
    pub venue: Name,
    /// The venue's own text for it.
    pub raw_symbol: String,
    /// Which symbol: the same over all its names. A number of this venue's.
    pub symbol_id: u64,
    /// Its name in paths.
    pub symbol_code: Name,
    /// Which version: unique in the whole table.
    pub symbol_version_id: u64,
    /// The first moment at which this is so.
    pub valid_from: TimeNs,
    /// The first moment at which it is not any more; none = open.
    pub valid_to: Option<TimeNs>,
}

impl Version {
    /// Whether it is valid at a moment.
    #[must_use]
    pub fn is_valid_at(&self, ns: u64) -> bool {
        self.valid_from.0 <= ns && self.valid_to.is_none_or(|to| ns < to.0)
    }
}

/// The name that a symbol's day has in paths and in `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its code.
    pub code: Name,
    /// The venue's own text.
    pub raw: String,
    /// The version that says so.
    pub version_id: u64,
}

/// The versions of one text, of one symbol, or of both: indices into all of them, by `valid_from`.
type Line = Vec<u32>;

/// A table without fault. See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Image", into = "Image")]
pub struct Table {
    versions: Vec<Version>,
    /// Of the file that it was read from.
    sha256: [u8; 32],
    by_text: BTreeMap<Name, HashMap<String, Line>>,
    by_id: BTreeMap<(Name, u64), Line>,
    /// Per version, how often its symbol's text had changed until then: which of its names in turn it has.
    turns: Vec<u32>,
}

/// The part of a [`Table`] that a checkpoint keeps.
#[derive(Serialize, Deserialize)]
struct Image {
    versions: Vec<Version>,
    sha256: [u8; 32],
}

impl From<Table> for Image {
    fn from(Table { versions, sha256, .. }: Table) -> Self {
        Self { versions, sha256 }
    }
}

impl TryFrom<Image> for Table {
    type Error = Problems;

    fn try_from(Image { versions, sha256 }: Image) -> Result<Self, Problems> {
        if versions.is_empty() {
            // The part about a venue that a table does not have.
            return Ok(Self::of(versions, sha256));
        }
        let rows = (1..).zip(versions).map(|(number, version)| (Row(number), version)).collect();
        problems::checked(rows, problems::RowKind::Row).map(|versions| Self::of(versions, sha256))
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.versions == other.versions && self.sha256 == other.sha256
    }
}

impl Eq for Table {}

/// A resolved record: whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Resolved<'a> {
    /// The version.
    pub version: &'a Version,
    /// Which of its symbol's names in turn the record has, from 0.
    pub turn: u32,
}

impl Table {
    /// Reads a CSV file: UTF-8, a header line with the names of [`COLUMNS`], one line a version. An empty `valid_to` is
    /// open. Times are RFC 3339 with an offset or `Z`, or a date alone, which is its first moment in UTC.
    ///
    /// ```
    /// use chronicle_etl::symbols::Table;
    ///
    /// let table = Table::from_csv(b"\
    /// venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_from,valid_to
    /// binance-spot,LUNAUSDT,7,lunausdt,11,2020-08-21T10:00:00Z,2022-05-28
    /// binance-spot,LUNCUSDT,7,luncusdt,12,2022-05-28,
    /// ").unwrap();
    /// let noon = "2022-05-28T12:00:00.000000000Z".parse::<chronicle_storage::root::TimeNs>().unwrap();
    /// let lunc = table.resolve("binance-spot", "LUNCUSDT", noon.0).unwrap();
    /// assert_eq!((lunc.version.symbol_id, lunc.version.symbol_code.as_str(), lunc.turn), (7, "luncusdt", 1));
    /// assert!(table.resolve("binance-spot", "LUNAUSDT", noon.0).is_none());
    /// ```
    ///
    /// # Errors
    ///
    /// All problems that it has.
    pub fn from_csv(bytes: &[u8]) -> Result<Self, Problems> {
        csv::read(bytes)
    }

    /// Reads rows that came from elsewhere, each as the texts of its [`COLUMNS`]; none = no value. `sha256` is that of the
    /// file they came from.
    ///
    /// # Errors
    ///
    /// All problems that they have.
    pub fn from_rows<'a>(
        rows: impl IntoIterator<Item = [Option<&'a str>; COLUMNS.len()]>,
        sha256: [u8; 32],
    ) -> Result<Self, Problems> {
        let mut reader = problems::Reader::new(problems::RowKind::Row);
        for (number, cells) in (1..).zip(rows) {
            reader.row(Row(number), cells);
        }
        reader.finish().map(|versions| Self::of(versions, sha256))
    }

    /// Versions that were checked.
    fn of(mut versions: Vec<Version>, sha256: [u8; 32]) -> Self {
        // One order, whatever the file's was.
        versions.sort_by(|a, b| {
            (&a.venue, a.symbol_id, a.valid_from, a.symbol_version_id).cmp(&(
                &b.venue,
                b.symbol_id,
                b.valid_from,
                b.symbol_version_id,
            ))
        });
        let mut by_text = BTreeMap::<Name, HashMap<String, Line>>::new();
        let mut by_id = BTreeMap::<(Name, u64), Line>::new();
        let mut turns: Vec<u32> = Vec::with_capacity(versions.len());
        for (index, version) in (0..).zip(&versions) {
            by_text
                .entry(version.venue.clone())
                .or_default()
                .entry(version.raw_symbol.clone())
                .or_default()
                .push(index);
            let line = by_id.entry((version.venue.clone(), version.symbol_id)).or_default();
            let before = line.last().map(|last| (&versions[*last as usize].raw_symbol, turns[*last as usize]));
            turns.push(before.map_or(0, |(raw, turn)| turn + u32::from(*raw != version.raw_symbol)));
            line.push(index);
        }
        for line in by_text.values_mut().flat_map(HashMap::values_mut) {
            line.sort_by_key(|index| versions[*index as usize].valid_from);
        }
        Self { versions, sha256, by_text, by_id, turns }
    }

    /// SHA-256 of the file that it was read from.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// All versions, by venue, symbol and time.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The venues, sorted.
    pub fn venues(&self) -> impl Iterator<Item = &Name> {
        self.by_text.keys()
    }

    /// The part that is about one venue.
    #[must_use]
    pub fn of_venue(&self, venue: &Name) -> VenueTable {
        let versions = self.versions.iter().filter(|version| version.venue == *venue).cloned().collect();
        VenueTable { venue: venue.clone(), table: Arc::new(Self::of(versions, self.sha256)) }
    }

    /// The version that a text meant at a moment.
    #[must_use]
    pub fn resolve(&self, venue: &str, raw_symbol: &str, ns: u64) -> Option<Resolved<'_>> {
        let line = self.line(venue, raw_symbol);
        self.last_from(line, ns).filter(|found| found.version.is_valid_at(ns))
    }

    /// Whose a record without a time of its own is. Where its text was only ever one symbol's, it is that symbol's, under
    /// the name that this symbol had when the record was received, or had last; where it was several symbols', the time
    /// of receipt decides, as [`Table::resolve`] does.
    #[must_use]
    pub fn resolve_untimed(&self, venue: &str, raw_symbol: &str, ingest_ns: u64) -> Option<Resolved<'_>> {
        let line = self.line(venue, raw_symbol);
        let first = self.resolved(*line.first()?);
        let one = line.iter().all(|index| self.versions[*index as usize].symbol_id == first.version.symbol_id);
        let found = self.last_from(line, ingest_ns);
        if one { Some(found.unwrap_or(first)) } else { found.filter(|found| found.version.is_valid_at(ingest_ns)) }
    }

    /// What could have been meant by a text that resolves to nothing: the last version before the moment, and the first
    /// one behind it.
    #[must_use]
    pub fn around(&self, venue: &str, raw_symbol: &str, ns: u64) -> (Option<&Version>, Option<&Version>) {
        let line = self.line(venue, raw_symbol);
        let behind = line.iter().map(|index| &self.versions[*index as usize]).find(|version| version.valid_from.0 > ns);
        (self.last_from(line, ns).map(|found| found.version), behind)
    }

    /// The name that a symbol's day has: the version with which the day began; on the day on which it was first listed,
    /// that one; on a day that is in none, for what comes late or waited long, the last one before it.
    #[must_use]
    pub fn on(&self, venue: &Name, symbol_id: u64, date: Date) -> Option<Listing> {
        let line = self.by_id.get(&(venue.clone(), symbol_id))?;
        let at = |index: &u32| &self.versions[*index as usize];
        let began = line.partition_point(|index| at(index).valid_from.0 <= date.start_ns());
        let before = began.checked_sub(1).map(|before| at(&line[before]));
        let within = line.get(began).map(at).filter(|version| version.valid_from.0 < date.end_ns());
        let version = match (before, within) {
            (Some(before), _) if before.is_valid_at(date.start_ns()) => before,
            (_, Some(within)) => within,
            (Some(before), None) => before,
            (None, None) => at(line.first()?),
        };
        let Version { symbol_code, raw_symbol, symbol_version_id, .. } = version;
        Some(Listing { code: symbol_code.clone(), raw: raw_symbol.clone(), version_id: *symbol_version_id })
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, symbol_version_id: u64) -> Option<&Version> {
        self.versions.iter().find(|version| version.symbol_version_id == symbol_version_id)
    }

    /// A symbol's versions, in order.
    pub fn of_symbol(&self, venue: &Name, symbol_id: u64) -> impl Iterator<Item = &Version> {
        let line = self.by_id.get(&(venue.clone(), symbol_id)).map(Vec::as_slice).unwrap_or_default();
        line.iter().map(|index| &self.versions[*index as usize])
    }

    /// The symbols, by venue and number.
    pub fn symbols(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.by_id.keys().map(|(venue, id)| (venue, *id))
    }

    /// Stretches of time between two versions of a symbol in which it had none: a delisting and a listing, or a mistake.
    pub fn holes(&self) -> impl Iterator<Item = (&Version, &Version)> {
        let pairs = self.by_id.values().flat_map(|line| line.windows(2));
        pairs
            .map(|pair| (&self.versions[pair[0] as usize], &self.versions[pair[1] as usize]))
            .filter(|(before, behind)| before.valid_to.is_some_and(|to| to < behind.valid_from))
    }

    fn line(&self, venue: &str, raw_symbol: &str) -> &[u32] {
        // A venue is a path component; a text that is none has no versions.
        let texts = self.by_text.iter().find(|(name, _)| name.as_str() == venue).map(|(_, texts)| texts);
        texts.and_then(|texts| texts.get(raw_symbol)).map(Vec::as_slice).unwrap_or_default()
    }

    fn last_from(&self, line: &[u32], ns: u64) -> Option<Resolved<'_>> {
        let began = line.partition_point(|index| self.versions[*index as usize].valid_from.0 <= ns);
        began.checked_sub(1).map(|last| self.resolved(line[last]))
    }

    fn resolved(&self, index: u32) -> Resolved<'_> {
        Resolved { version: &self.versions[index as usize], turn: self.turns[index as usize] }
    }
}

/// The part of a table that is about one venue; a copy costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VenueImage", into = "VenueImage")]
pub struct VenueTable {
    venue: Name,
    table: Arc<Table>,
}

/// What a checkpoint keeps of one.
#[derive(Serialize, Deserialize)]
struct VenueImage {
    venue: Name,
    table: Table,
}

impl From<VenueTable> for VenueImage {
    fn from(VenueTable { venue, table }: VenueTable) -> Self {
        Self { venue, table: Arc::unwrap_or_clone(table) }
    }
}

impl From<VenueImage> for VenueTable {
    fn from(VenueImage { venue, table }: VenueImage) -> Self {
        Self { venue, table: Arc::new(table) }
    }
}

impl VenueTable {
    /// The venue.
    #[must_use]
    pub fn venue(&self) -> &Name {
        &self.venue
    }

    /// The table, without other venues.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// As [`Table::resolve`].
    #[must_use]
    pub fn resolve(&self, raw_symbol: &str, ns: u64) -> Option<Resolved<'_>> {
        self.table.resolve(self.venue.as_str(), raw_symbol, ns)
    }

    /// As [`Table::resolve_untimed`].
    #[must_use]
    pub fn resolve_untimed(&self, raw_symbol: &str, ingest_ns: u64) -> Option<Resolved<'_>> {
        self.table.resolve_untimed(self.venue.as_str(), raw_symbol, ingest_ns)
    }

    /// As [`Table::on`].
    #[must_use]
    pub fn on(&self, symbol_id: u64, date: Date) -> Option<Listing> {
        self.table.on(&self.venue, symbol_id, date)
    }
}

/// What becomes of a record that resolves to no symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unresolved {
    /// Refining stops before it.
    #[default]
    Error,
    /// It is kept, as it came, in the stream `opaque` of [`UNRESOLVED`].
    Unresolved,
}

impl Unresolved {
    /// The word for it on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Unresolved => UNRESOLVED,
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no [`Unresolved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what becomes of unresolved records is neither error nor unresolved")
    }
}

impl std::error::Error for UnknownPolicy {}

impl core::str::FromStr for Unresolved {
    type Err = UnknownPolicy;
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        [Self::Error, Self::Unresolved].into_iter().find(|it| it.as_str() == text).ok_or(UnknownPolicy)
    }
}
