//! The recorder keeps a venue's raw segments as files, so that books can be made from them again.
//!
//! ```text
//! for each segment of the raw queue that has its End:
//!     copy its frames, each checked, into {queue id}-{first seq}.q.tmp      every frame with its CRC, whatever the queue had
//!     seal and publish it under warm/raw/v1/{venue}/{UTC day of its first ingest time}/
//!     then move the durable cursor `recorder`, which the queue's retention waits for
//! ```
//!
//! A recorded file has a partition's layout: `segment_len` 0, begin and seal, and it ends behind its `End`. Its header
//! keeps queue id, segment id, epoch and clock; `created_ns` is the *queue's*, so that files of several queues can be
//! put in order; its salt is the CRC-32 of its name. Seqs and times are the queue's.
//!
//! A crash between publishing and moving the cursor is harmless: what exists under its name is whole, and is not
//! written again. Nothing here decides how long files stay.

use crate::{
    Error, Result,
    growing::{Birth, GrowingFile},
    queue::{EndedSegment, Queue, ReadError, Start, Subscriber, SubscriberOptions},
    raw,
    root::{Date, Name, RawName, Root, Tier},
};
use chronicle_core::{Append, Checksum, Spec};
use chronicle_platform::{Platform, Trouble};
use serde::Serialize;
use std::collections::BTreeSet;

/// Name of the recorder's cursor; the raw queue's writer requires it ([`crate::queue::PublisherOptions::required`]).
pub const RECORDER: &str = "recorder";

/// What a run of the recorder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Segments that became files.
    pub segments: u64,
    /// Segments that were files already: an earlier run was stopped before it moved its cursor.
    pub known: u64,
    /// Frames in the new files.
    pub frames: u64,
    /// Bytes of the new files.
    pub bytes: u64,
    /// Frames that a crash of the machine took from the queue; a bound.
    pub lost: u64,
    /// How often segments had left the queue before they could be recorded: it did not require its recorder.
    pub laps: u64,
}

/// Records a venue's queue; at most one at a time, by the lock of its cursor.
#[derive(Debug)]
pub struct Recorder<P: Platform> {
    platform: P,
    root: Root,
    venue: Name,
    queue: Subscriber<P>,
    /// When the queue was made.
    created_ns: u64,
    known: BTreeSet<RawName>,
    payload: Vec<u8>,
}

/// Records all segments of a venue's raw queue that have ended.
///
/// # Errors
///
/// As [`Recorder::open`] and [`Recorder::run`].
pub fn run<P: Platform>(platform: &P, root: &Root, venue: &Name) -> Result<Recorded> {
    Recorder::open(platform, root, venue)?.run()
}

impl<P: Platform> Recorder<P> {
    /// Takes the recorder's cursor.
    ///
    /// # Errors
    ///
    /// There is no queue (trouble of kind `NotFound`), somebody else records it (a refusal), or its cursor cannot be
    /// written.
    pub fn open(platform: &P, root: &Root, venue: &Name) -> Result<Self> {
        let path = root.raw_queue(venue);
        let options = SubscriberOptions { start: Start::Cursor, verify_reads: true, ..SubscriberOptions::default() };
        let queue = Queue::subscriber(platform, &path, RECORDER, options)?;
        if !queue.keeps_cursor() {
            let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(Trouble::new("write the recorder's cursor", path, denied).into());
        }
        let created_ns = raw::queue_made(platform, &path)?.map_or(0, |made| made.created_ns);
        let known = raw::files(platform, root, venue)?.into_iter().map(|file| file.name).collect();
        let (platform, root, venue) = (platform.clone(), root.clone(), venue.clone());
        Ok(Recorder { platform, root, venue, queue, created_ns, known, payload: Vec::new() })
    }

    /// Records all segments that have ended by now. Call it again for those that end later.
    ///
    /// # Errors
    ///
    /// Damage in the queue; trouble. What was recorded before it stays.
    pub fn run(&mut self) -> Result<Recorded> {
        let mut report = Recorded::default();
        loop {
            let segment = match self.queue.ended() {
                Ok(Some(segment)) => segment,
                Ok(None) => return Ok(report),
                Err(error) => {
                    self.pass(error, &mut report)?;
                    continue;
                }
            };
            self.record(&segment, &mut report)?;
            let left = loop {
                match self.queue.leave_segment() {
                    Ok(left) => break left,
                    Err(error) => self.pass(error, &mut report)?,
                }
            };
            self.queue.commit_durable()?;
            if !left {
                return Ok(report);
            }
        }
    }

    /// Events are counted and read past; anything else ends the run.
    fn pass(&self, error: ReadError, report: &mut Recorded) -> Result<()> {
        match error {
            ReadError::Lost { from, to } => report.lost += to.saturating_sub(from) + 1,
            ReadError::Lapped { .. } => report.laps += 1,
            ReadError::Reset { .. } => {}
            ReadError::Busy { path } => return Err(Error::Busy { path }),
            ReadError::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes through the segment to its `End`; makes a file of it if there is none.
    fn record(&mut self, segment: &EndedSegment, report: &mut Recorded) -> Result<()> {
        let name = RawName { queue_id: segment.queue_id, first_seq: segment.first_seq };
        let known = self.known.contains(&name);
        if !known && self.queue.position().is_some_and(|position| position.seq != segment.first_seq) {
            // A file that was there when the cursor was moved into this segment is gone.
            self.queue.seek(Start::Seq(segment.first_seq)).or_else(|error| self.pass(error, report))?;
        }
        let mut file: Option<GrowingFile<P>> = None;
        loop {
            let frame = match self.queue.next_in_segment() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(ReadError::Failed(error)) => return Err(error),
                Err(ReadError::Busy { path }) => return Err(Error::Busy { path }),
                // Told before the segment's first frame.
                Err(_) => continue,
            };
            if known {
                continue;
            }
            let append = Append { time_ns: frame.time_ns, type_id: frame.type_id, flags: frame.flags };
            self.payload.resize(frame.payload.len(), 0);
            frame.payload.copy_to(&mut self.payload);
            let file = file.get_or_insert_with(|| {
                let path = self.root.raw_file(Tier::Warm, &self.venue, Date::of_ns(append.time_ns), &name);
                let spec = Spec {
                    queue_id: segment.queue_id,
                    segment_id: segment.segment_id,
                    epoch: segment.epoch,
                    salt: crc32fast::hash(name.to_string().as_bytes()),
                    created_ns: self.created_ns,
                    clock: segment.clock,
                    checksum: Checksum::Frame,
                    ..Spec::default()
                };
                GrowingFile::create(&self.platform, &path, Birth::Hidden, &spec, segment.first_seq)
            });
            file.append(append, &self.payload)?;
        }
        report.known += u64::from(known);
        if let Some(mut file) = file {
            let committed = file.seal()?;
            file.publish()?;
            self.known.insert(name);
            report.segments += 1;
            report.frames += committed.next_seq - segment.first_seq;
            report.bytes += committed.len;
        }
        Ok(())
    }
}
