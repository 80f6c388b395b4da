//! A day of a symbol's book, step by step: the book behind each record, and the stretches without a valid one.
//!
//! ```text
//! frames   snapshot  delta  delta ┄┄┄┄┄┄ gap   delta*   snapshot  delta          * kept, not applied
//! book     ├───────── valid ─────┤        none          ├──────── valid ──▶
//!                                └ `valid_until` of the gap's step: what is missing may lie anywhere behind it
//! ```
//!
//! Use it to draw a day or to take its measure: it goes once through one partition, on whatever tier that is, from its
//! first frame or from any time ([`Walk::seek`]). For the book at one moment there is [`book_at`](crate::query::book_at),
//! which reads no more than it needs.
//!
//! What it never does: it crosses no midnight, looks at no stream but `book`, repairs nothing, and gives no book where
//! there is none that the venue would own.

use std::path::{Path, PathBuf};

use chronicle_platform::Platform;
use chronicle_protocol::{CountedSnapshot, Record, SnapshotSource};
use chronicle_storage::reader::{ArchiveReader, Partition};
use chronicle_storage::root::{PartitionId, Tier};

use crate::book::Book;
use crate::error::Result;
use crate::query::{Follower, GapFacts, partition, record, seek_book};
use crate::refinery::NOT_APPLIED;

/// What a frame did to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The venue's own snapshot, or the refinery's: in a valid stretch the latter says what is known.
    Snapshot {
        /// Who made it.
        source: SnapshotSource,
    },
    /// It changed levels.
    Delta,
    /// It is kept and takes no part: before a snapshot, after a gap, or seen before.
    NotApplied,
    /// Ids are missing: the book is not valid any more.
    Gap {
        /// Which, and why.
        gap: GapFacts,
        /// The last time at which the book was valid; none in a stretch in which it was not.
        valid_until: Option<u64>,
    },
    /// A record that has nothing to do with the book.
    Other,
}

impl Change {
    /// Whether the frame is a record of the venue's about its book, and not one that the refinery added.
    #[must_use]
    pub fn is_venues(&self) -> bool {
        match self {
            Self::Snapshot { source } => *source == SnapshotSource::Venue,
            Self::Delta | Self::NotApplied => true,
            Self::Gap { .. } | Self::Other => false,
        }
    }
}

/// One frame, and the book behind it.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Exchange time of the frame, ns since 1970.
    pub time_ns: u64,
    /// What it did.
    pub change: Change,
    /// The book, if there is a valid one.
    pub book: Option<&'a Book>,
}

/// A walk through one day's book partition. See the module.
#[derive(Debug)]
pub struct Walk<P: Platform> {
    partition: Partition<P>,
    path: PathBuf,
    follower: Follower,
    /// Time of the last frame that the venue changed the book with.
    changed_ns: u64,
    /// The partition stands behind the next frame already.
    peeked: bool,
}

impl<P: Platform> Walk<P> {
    /// In front of the first frame; `None` if there is no such partition.
    ///
    /// # Errors
    ///
    /// Damage in what opening looks at, or in the checkpoint; trouble.
    pub fn open(platform: &P, archive: &ArchiveReader<P>, id: &PartitionId) -> Result<Option<Self>> {
        Ok(partition(platform, archive, id)?.map(Self::of))
    }

    /// Of a partition that was opened before, and stands in front of its first frame or of a snapshot.
    #[must_use]
    pub fn of(partition: Partition<P>) -> Self {
        let path = partition.path().to_owned();
        Self { partition, path, follower: Follower::default(), changed_ns: 0, peeked: false }
    }

    /// Goes to the last snapshot from which the book at `time_ns` can be built, and forgets the book.
    ///
    /// # Errors
    ///
    /// Damage; trouble of reading.
    pub fn seek(&mut self, time_ns: u64) -> Result<()> {
        (self.follower, self.changed_ns, self.peeked) = (Follower::default(), 0, false);
        seek_book(&mut self.partition, time_ns)
    }

    /// Exchange time of the next frame, before it is taken: until then the book is [`Walk::book`]. `None` at the end.
    ///
    /// # Errors
    ///
    /// Damage; trouble of reading.
    pub fn peek(&mut self) -> Result<Option<u64>> {
        if !self.peeked {
            self.peeked = self.partition.advance()?;
        }
        Ok(if self.peeked { self.partition.current().map(|frame| frame.time_ns) } else { None })
    }

    /// The book behind the last step, if there is a valid one.
    #[must_use]
    pub fn book(&self) -> Option<&Book> {
        self.follower.valid_book()
    }

    /// Takes the next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// Damage; trouble of reading.
    // Not an iterator: the step borrows the walk.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Step<'_>>> {
        let Self { partition, path, follower, changed_ns, peeked } = self;
        if !std::mem::take(peeked) && !partition.advance()? {
            return Ok(None);
        }
        let Some(frame) = partition.current() else { return Ok(None) };
        let time_ns = frame.time_ns;
        let change = if frame.flags & NOT_APPLIED != 0 {
            Change::NotApplied
        } else {
            match record(&frame, path)? {
                Record::BookSnapshot(snapshot) | Record::CountedSnapshot(CountedSnapshot { book: snapshot, .. }) => {
                    follower.snapshot(&snapshot, frame.time_ns);
                    if snapshot.source == SnapshotSource::Venue {
                        *changed_ns = time_ns.max(*changed_ns);
                    }
                    Change::Snapshot { source: snapshot.source }
                }
                Record::BookDelta(delta) => {
                    follower.delta(&delta, &frame, path)?;
                    *changed_ns = time_ns.max(*changed_ns);
                    Change::Delta
                }
                Record::Gap(gap) => {
                    // A venue's snapshot may say no time of its own.
                    let valid_until = follower.is_valid().then(|| follower.last_event_ns().max(*changed_ns));
                    let gap = GapFacts::of(&gap);
                    follower.break_off(gap, path.clone());
                    Change::Gap { gap, valid_until }
                }
                _ => Change::Other,
            }
        };
        Ok(Some(Step { time_ns, change, book: follower.valid_book() }))
    }

    /// The file that is read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.partition.tier()
    }

    /// Whether the partition is final.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.partition.is_sealed()
    }
}
