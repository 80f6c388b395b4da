//! What refining found, as `chronicle refine --json` prints it.
//!
//! A row for each partition of each venue, over everything that was ever refined into this root, not over the last run
//! alone: running again with nothing new gives the same report.

use chronicle_storage::root::{Date, Name, Stream, TimeNs};
use serde::Serialize;

use crate::oddity::Oddities;
use crate::refinery::{Counts, Gap, Refinery, Symbol};
use crate::symbols::VenueTable;
use crate::venue::rules;

/// The whole report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By venue, symbol, date and stream.
    pub partitions: Vec<PartitionReport>,
    /// Records that are in no partition yet. Deltas that wait for a snapshot, and records that will be late unless a time
    /// comes for them, are counted above as if nothing came any more.
    pub waiting: u64,
    /// Records whose exchange time was not believed.
    pub absurd_time: u64,
    /// Records without exchange time that could not wait longer for one and got their receive time: their symbol had
    /// none yet, or its last one was of a day that was over for an hour.
    pub overdue: u64,
    /// By venue, the symbol tables that say who a symbol is; a venue without one has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableReport>,
}

/// A venue's symbol table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Whose.
    pub venue: Name,
    /// SHA-256 of the file that it came from, in hex.
    pub sha256: String,
    /// Versions of symbols of this venue in it.
    pub versions: u64,
}

impl From<&VenueTable> for TableReport {
    fn from(table: &VenueTable) -> Self {
        let sha256 = table.table().sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { venue: table.venue().clone(), sha256, versions: table.table().versions().len() as u64 }
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Whose.
    pub venue: Name,
    /// About what.
    pub symbol: Name,
    /// Which day.
    pub date: Date,
    /// Which stream.
    pub stream: Stream,
    /// Its numbers.
    #[serde(flatten)]
    pub counts: CountsReport,
    /// The gaps that began on this day.
    pub gaps: Vec<GapReport>,
    /// Snapshots of the book in it, the venue's and the refinery's.
    pub snapshots: u64,
    /// Of a book: what it said that a book should not; the other streams have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oddities: Option<Oddities>,
    /// Of those, how many are of kinds that the venue's feed has not by design: a reason to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unexpected: Option<u64>,
    /// Nothing is added any more.
    pub sealed: bool,
}

/// The numbers of a partition; see [`Counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountsReport {
    /// Records of the venue in the partition.
    pub events: u64,
    /// Those that took part.
    pub applied: u64,
    /// Deltas from before the snapshot.
    pub dropped_before_snapshot: u64,
    /// Records that were there before.
    pub duplicates: u64,
    /// Deltas after a gap.
    pub not_applied: u64,
    /// Records that came too late for the day: an hour or more after its end, or after it was sealed by hand.
    pub late: u64,
}

/// One gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapReport {
    /// Last id before it.
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
}

impl From<&Gap> for GapReport {
    fn from(gap: &Gap) -> Self {
        Self {
            after: gap.after,
            next: gap.next,
            missing_from: gap.missing_from,
            missing_to: gap.missing_to,
            time: TimeNs(gap.time_ns),
            cause: gap.cause.as_str(),
        }
    }
}

/// The code that a symbol's day has, or would have if it was opened now.
fn code(table: Option<&VenueTable>, symbol: &Symbol, date: Date) -> Name {
    let would_be = || table?.on(symbol.id()?, date).map(|listing| listing.code);
    let not_opened = !symbol.days().contains_key(&date);
    not_opened.then(would_be).flatten().unwrap_or_else(|| symbol.code_on(date).clone())
}

impl Report {
    /// The report of one venue.
    #[must_use]
    pub fn of(refinery: &Refinery) -> Self {
        let mut report = Self::default();
        report.add(refinery);
        report.sort();
        report
    }

    /// Adds the rows of one more venue, behind those that are there.
    pub fn add(&mut self, refinery: &Refinery) {
        self.tables.extend(refinery.table().map(TableReport::from));
        self.add_symbols(refinery.venue(), refinery.table(), refinery.symbols());
    }

    pub(crate) fn add_symbols(&mut self, venue: &Name, table: Option<&VenueTable>, symbols: &[Symbol]) {
        let ordinary = rules(venue.as_str()).ordinary;
        for symbol in symbols {
            self.waiting += symbol.waiting();
            self.absurd_time += symbol.absurd_time();
            self.overdue += symbol.overdue();
            for ((date, stream), counts) in symbol.counts_if_it_ended_now() {
                let day = symbol.days().get(&date);
                let gaps = day.filter(|_| stream == Stream::Book).map(|day| &day.gaps[..]).unwrap_or_default();
                let Counts {
                    events,
                    applied,
                    dropped_before_snapshot,
                    duplicates,
                    not_applied,
                    late,
                    snapshots,
                    oddities,
                } = counts;
                let oddities = (stream == Stream::Book).then_some(oddities);
                self.partitions.push(PartitionReport {
                    venue: venue.clone(),
                    symbol: code(table, symbol, date),
                    date,
                    stream,
                    counts: CountsReport { events, applied, dropped_before_snapshot, duplicates, not_applied, late },
                    gaps: gaps.iter().filter(|gap| !gap.carried).map(GapReport::from).collect(),
                    snapshots,
                    unexpected: oddities.map(|oddities| oddities.unexpected(ordinary)),
                    oddities,
                    sealed: day.is_some_and(|day| day.is_sealed(stream)),
                });
            }
        }
    }

    /// Adds another report, of other venues, behind this one.
    pub fn join(&mut self, other: Self) {
        let Self { partitions, waiting, absurd_time, overdue, tables } = other;
        self.partitions.extend(partitions);
        self.tables.extend(tables);
        self.waiting += waiting;
        self.absurd_time += absurd_time;
        self.overdue += overdue;
    }

    /// Puts the rows in their order.
    pub fn sort(&mut self) {
        self.tables.sort_by(|a, b| a.venue.cmp(&b.venue));
        self.partitions
            .sort_by(|a, b| (&a.venue, &a.symbol, a.date, a.stream).cmp(&(&b.venue, &b.symbol, b.date, b.stream)));
    }
}
