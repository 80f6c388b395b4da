//! One UTC day of one symbol: which partitions it has, what went into them, and what is missing.

use std::collections::{BTreeMap, BTreeSet};

use chronicle_protocol::GapCause;
use chronicle_storage::root::Stream;
use serde::{Deserialize, Serialize};

use super::LatePolicy;
use crate::oddity::Oddities;
use crate::symbols::Listing;

/// Numbers of one partition's records. Each record of the venue is counted in exactly one of `applied`,
/// `dropped_before_snapshot`, `duplicates`, `not_applied` and `late`; but the venue's own snapshots of a book, which
/// are counted in `snapshots` instead. A record in the stream `late` is counted once more among that file's `events`, and
/// nowhere else: its `late` stands with the stream and the day that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records of the venue in the partition, its snapshots included; not what the refinery adds, not late ones.
    pub events: u64,
    /// Deltas that are in the book; records of other streams that were not there before.
    pub applied: u64,
    /// Deltas that came before a snapshot which already held them, or before any.
    pub dropped_before_snapshot: u64,
    /// Records that were there before, or are older than what was.
    pub duplicates: u64,
    /// Deltas after a gap that no snapshot made useful again.
    pub not_applied: u64,
    /// Records that came an hour or more after the end of this day, or after it was sealed by hand; kept or not.
    pub late: u64,
    /// Snapshots of the book, the venue's and the refinery's.
    pub snapshots: u64,
    /// Of a book: what it said that a book should not. Counted beside everything above.
    pub oddities: Oddities,
}

impl Counts {
    /// Sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            applied: self.applied + other.applied,
            dropped_before_snapshot: self.dropped_before_snapshot + other.dropped_before_snapshot,
            duplicates: self.duplicates + other.duplicates,
            not_applied: self.not_applied + other.not_applied,
            late: self.late + other.late,
            snapshots: self.snapshots + other.snapshots,
            oddities: self.oddities.plus(other.oddities),
        }
    }
}

/// A break of the venue's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Last id before it.
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
    #[serde(with = "cause")]
    pub cause: GapCause,
    /// It began on an earlier day and is counted there.
    pub carried: bool,
}

/// The causes as their words; the protocol knows no serde.
mod cause {
    use chronicle_protocol::GapCause;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    const ALL: [GapCause; 4] = [GapCause::Sequence, GapCause::Late, GapCause::RawLost, GapCause::BookLost];

    pub(super) fn serialize<S: Serializer>(cause: &GapCause, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(cause.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GapCause, D::Error> {
        let word = String::deserialize(deserializer)?;
        ALL.into_iter().find(|c| c.as_str() == word).ok_or_else(|| D::Error::custom("unknown cause of a gap"))
    }
}

/// One partition of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Whether it has any frame, and so a file.
    pub exists: bool,
    /// Nothing is added any more.
    pub sealed: bool,
    /// Its numbers.
    pub counts: Counts,
}

/// One day of a symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Its name; none without a symbol table.
    pub listing: Option<Listing>,
    /// What happens to its late records.
    pub late_policy: LatePolicy,
    /// No record of this day is taken any more. The stream `late`, of records of other days, may still begin.
    pub sealed: bool,
    /// Its partitions.
    pub partitions: BTreeMap<Stream, Partition>,
    /// Its gaps, in order; a carried one first.
    pub gaps: Vec<Gap>,
    /// Indices of the sources that records came from.
    pub sources: BTreeSet<u32>,
    /// First and last receive time of the records.
    pub ingest_ns: Option<(u64, u64)>,
    /// First and last time of the records, without those of the stream `late`, which are of other days.
    pub event_ns: Option<(u64, u64)>,
    /// Changed since the last checkpoint, so that `meta.json` may have to change too.
    #[serde(skip)]
    pub(crate) changed: bool,
    /// The source last put into `sources`.
    #[serde(skip)]
    last_source: Option<u32>,
}

impl Day {
    pub(super) fn new(listing: Option<Listing>, late_policy: LatePolicy) -> Self {
        Self {
            listing,
            late_policy,
            sealed: false,
            partitions: BTreeMap::new(),
            gaps: Vec::new(),
            sources: BTreeSet::new(),
            ingest_ns: None,
            event_ns: None,
            changed: true,
            last_source: None,
        }
    }

    /// Whether a partition has a file.
    #[must_use]
    pub fn has(&self, stream: Stream) -> bool {
        self.partitions.get(&stream).is_some_and(|p| p.exists)
    }

    /// Whether nothing is added to a partition any more. One that has no file is as final as the day; but not `late`.
    #[must_use]
    pub fn is_sealed(&self, stream: Stream) -> bool {
        match self.partitions.get(&stream) {
            Some(partition) if partition.exists => partition.sealed,
            _ => self.sealed && stream != Stream::Late,
        }
    }

    /// Whether any partition has a file that is not sealed.
    #[must_use]
    pub fn has_open(&self) -> bool {
        self.partitions.values().any(|p| p.exists && !p.sealed)
    }

    /// Whether any partition has a file.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.partitions.values().any(|p| p.exists)
    }

    /// The numbers of a partition, to be changed.
    pub(super) fn counts(&mut self, stream: Stream) -> &mut Counts {
        self.changed = true;
        &mut self.partitions.entry(stream).or_default().counts
    }

    pub(super) fn saw(&mut self, source: Option<u32>, ingest_ns: u64, event_ns: Option<u64>) {
        self.changed = true;
        if source != self.last_source {
            self.last_source = source;
            self.sources.extend(source);
        }
        extend(&mut self.ingest_ns, ingest_ns);
        if let Some(event_ns) = event_ns {
            extend(&mut self.event_ns, event_ns);
        }
    }
}

fn extend(range: &mut Option<(u64, u64)>, ns: u64) {
    let (first, last) = range.unwrap_or((ns, ns));
    *range = Some((first.min(ns), last.max(ns)));
}
