//! One segment, read batch by batch through a buffer.
//!
//! Files are read with `read_at` into a buffer that stays in the processor's cache, never through a mapping: a file that
//! somebody cuts short cannot hurt, and the copy costs less than the page faults that it saves (1.05 to 1.4 times the
//! speed of a loop over a mapping, in processor time, for records of 128 bytes). No length is believed before it was
//! checked: a batch's is at most its segment's `batch_len`, and that one at most 64 MiB.
//!
//! Bytes behind the end of a file that was cut are read as zeros, so that the frames before the cut are found.

use super::names::Names;
use crate::{Error, Result};
use chronicle_core::{
    Damage, Fault,
    wal::{
        Batch, BatchHead, Frame, Header, Kind, Position,
        layout::{BATCH_FRAME_LEN, HEADER_LEN, MAX_BLOCK_SIZE},
    },
};
use chronicle_platform::{File, Open, Platform};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Bytes that are read at once, at least.
const CHUNK: usize = 256 << 10;

/// A segment's file, its header checked.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) path: PathBuf,
    pub(super) file: F,
    pub(super) header: Header,
    /// Bytes that the file has, at most those that its header says.
    pub(super) len: u64,
}

impl<F: File> Segment<F> {
    /// Opens segment `id` and checks its header.
    pub(super) fn open<P: Platform<File = F>>(platform: &P, names: &Names, id: u64, how: Open) -> Result<Self> {
        let path = names.segment(id);
        let file = platform.open(&path, how)?;
        let header = header(&path, &file)?;
        if header.segment_id != id {
            return Err(Error::fault(path, 32, Fault::Field { name: "segment_id", found: header.segment_id }));
        }
        let len = file.len()?.min(header.segment_len);
        Ok(Segment { path, file, header, len })
    }

    pub(super) fn id(&self) -> u64 {
        self.header.segment_id
    }

    /// Where its first batch stands.
    pub(super) fn start(&self) -> u64 {
        self.header.block_size.into()
    }
}

/// Reads and checks a header and the rest of its block.
fn header<F: File>(path: &Path, file: &F) -> Result<Header> {
    let mut bytes = vec![0; 4096];
    loop {
        let read = read(file, &mut bytes, 0)?;
        let header = Header::parse(&bytes[..read]).map_err(|damage| Error::damage(path, damage))?;
        let block = header.block_size as usize;
        if read >= block {
            return Ok(header);
        }
        if bytes.len() >= block {
            let fault = Fault::Short { needed: block as u64, found: read as u64 };
            return Err(Error::fault(path, 0, fault));
        }
        bytes.resize(block.min(MAX_BLOCK_SIZE as usize), 0);
    }
}

/// Fills `into` from `offset` on; fewer bytes only where the file ends.
fn read<F: File>(file: &F, into: &mut [u8], offset: u64) -> Result<usize> {
    let mut have = 0;
    while have < into.len() {
        match file.read_at(&mut into[have..], offset + have as u64)? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

/// A stretch of a file in memory.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Where it begins in the file.
    at: u64,
    /// How much of it holds the file's bytes.
    len: usize,
}

impl Window {
    /// Nothing of what was read counts any more: another file comes, or the file has changed.
    pub(super) fn forget(&mut self) {
        self.len = 0;
    }

    /// `needed` bytes from `offset` on; zeros behind `end`, where the file's bytes end for us.
    fn get<F: File>(&mut self, file: &F, offset: u64, needed: usize, end: u64) -> Result<&[u8]> {
        let skip = offset.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
        let from = match skip {
            Some(skip) if skip <= self.len => skip,
            _ => {
                self.len = 0;
                0
            }
        };
        if self.len - from >= needed {
            return Ok(&self.bytes[from..from + needed]);
        }
        self.bytes.copy_within(from..self.len, 0);
        self.len -= from;
        self.at = offset;
        let wanted = needed.max(CHUNK);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(wanted);
        if left > self.len {
            self.len += read(file, &mut self.bytes[self.len..left], offset + self.len as u64)?;
        }
        if self.len < needed {
            self.bytes[self.len..needed].fill(0);
        }
        // Zeros are given, not kept: a file that is being written grows into them.
        Ok(&self.bytes[..needed])
    }

    /// Bytes that were read with the batch that was read last.
    pub(super) fn peek(&self, offset: u64, len: usize) -> &[u8] {
        let from = (offset - self.at) as usize;
        &self.bytes[from..from + len]
    }

    /// The batch at `offset`, all of its bytes there; or why there is none. Nothing behind `end` is looked at.
    pub(super) fn batch<F: File>(
        &mut self,
        segment: &Segment<F>,
        offset: u64,
        end: u64,
    ) -> Result<std::result::Result<Batch<'_>, Damage>> {
        let head = match self.head(segment, offset, end)? {
            Ok(head) => head,
            Err(damage) => return Ok(Err(damage)),
        };
        let bytes = self.get(&segment.file, offset, head.len as usize, end)?;
        Ok(Batch::parse(bytes, offset, &segment.header))
    }

    /// What opens the batch at `offset`; or why none does.
    fn head<F: File>(
        &mut self,
        segment: &Segment<F>,
        offset: u64,
        end: u64,
    ) -> Result<std::result::Result<BatchHead, Damage>> {
        let bytes = self.get(&segment.file, offset, BATCH_FRAME_LEN, end)?;
        Ok(BatchHead::parse(bytes, offset, &segment.header))
    }
}

/// Who says that something was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// The header of a segment.
    Header(u64),
    /// A batch frame.
    Batch(Position),
    /// The batch frame of a clean close.
    Close(Position),
}

/// Something said that everything up to a position was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) durable: Position,
    /// Newest data frame before it; 0 = none.
    pub(super) seq: u64,
    pub(super) by: Witness,
}

impl Claim {
    pub(super) fn of_header(header: &Header) -> Claim {
        Claim { durable: header.durable, seq: header.durable_seq, by: Witness::Header(header.segment_id) }
    }

    fn of_batch(segment: u64, head: &BatchHead) -> Claim {
        let here = Position { segment, offset: head.offset };
        match head.closed {
            // All before it was durable when it was written, and it has no frames.
            true => Claim { durable: here, seq: head.first_seq - 1, by: Witness::Close(here) },
            false => Claim { durable: head.durable, seq: head.durable_seq, by: Witness::Batch(here) },
        }
    }

    pub(super) fn raise(&mut self, other: Claim) {
        if other.durable > self.durable {
            *self = other;
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let durable = self.durable;
        match self.by {
            Witness::Header(id) => write!(f, "the header of segment {id} says that all before {durable} was durable"),
            Witness::Batch(at) => write!(f, "the batch at {at} says that all before {durable} was durable"),
            Witness::Close(at) => write!(f, "the log was closed at {at}, with all before it durable"),
        }
    }
}

/// What a walk over a segment's batches found.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Where the first batch stands.
    pub(super) start: u64,
    /// Where what is accepted ends: behind a whole batch, or where its first bad frame stands.
    pub(super) end: u64,
    /// Behind the last whole batch.
    pub(super) boundary: u64,
    /// Of the data frame that comes next.
    pub(super) next_seq: u64,
    /// Why the walk ended before it had to.
    pub(super) fault: Option<Damage>,
    /// Where a batch ends that begins in order and has a fault.
    pub(super) torn_end: Option<u64>,
    /// The furthest claim of its header and its batches.
    pub(super) claim: Claim,
    /// Whether the last whole batch is that of a clean close.
    pub(super) closed: bool,
    /// Whole batches.
    pub(super) batches: u64,
    /// Data frames.
    pub(super) records: u64,
    /// Frames of other kinds, but batch and pad.
    pub(super) controls: u64,
    /// Bytes of the payloads of both.
    pub(super) payload_bytes: u64,
    /// Where the last vote, meta or truncate frame ends that is not the segment's carry.
    pub(super) standing: u64,
}

impl Walk {
    /// Before the first batch.
    pub(super) fn start<F: File>(segment: &Segment<F>) -> Walk {
        Walk {
            start: segment.start(),
            end: segment.start(),
            boundary: segment.start(),
            next_seq: segment.header.first_seq,
            fault: None,
            torn_end: None,
            claim: Claim::of_header(&segment.header),
            closed: false,
            batches: 0,
            records: 0,
            controls: 0,
            payload_bytes: 0,
            standing: 0,
        }
    }

    /// Walks on, up to `to`, which a successor names, or to the first block that opens no batch.
    ///
    /// Each frame that passed its checks goes to `frame`. A batch that begins before `to` and ends behind it is a fault.
    pub(super) fn on<F: File>(
        &mut self,
        segment: &Segment<F>,
        window: &mut Window,
        to: Option<u64>,
        mut frame: impl FnMut(&Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        let last = to.unwrap_or(segment.header.segment_len);
        while self.boundary < last {
            let at = self.boundary;
            let batch = match window.batch(segment, at, segment.len.min(last))? {
                Ok(batch) => batch,
                Err(damage) => {
                    self.stop(segment, damage);
                    return Ok(());
                }
            };
            let head = *batch.head();
            if head.end() > last {
                let fault = Fault::End { expected: last, found: head.end() };
                self.stop(segment, Damage::at(at, fault));
                return Ok(());
            }
            if head.first_seq != self.next_seq {
                let fault = Fault::Seq { expected: self.next_seq, found: head.first_seq };
                self.stop(segment, Damage::at(at, fault));
                return Ok(());
            }
            let first_seq = self.next_seq;
            let mut frames = batch.frames();
            let mut damage = None;
            for next in frames.by_ref() {
                match next {
                    Ok(found) => {
                        self.payload_bytes += found.payload.len() as u64;
                        if found.kind != Kind::Data {
                            self.controls += 1;
                            if !found.carry {
                                self.standing = found.offset;
                            }
                        }
                        frame(&found)?;
                    }
                    Err(bad) => damage = Some(bad),
                }
            }
            self.next_seq = frames.next_seq();
            self.records += self.next_seq - first_seq;
            self.claim.raise(Claim::of_batch(segment.id(), &head));
            if let Some(damage) = damage {
                self.end = frames.offset();
                self.torn_end = Some(head.end());
                self.closed = false;
                self.stop(segment, damage);
                return Ok(());
            }
            self.closed = head.closed;
            self.batches += 1;
            self.boundary = head.end();
            self.end = self.boundary;
        }
        Ok(())
    }

    fn stop<F: File>(&mut self, segment: &Segment<F>, damage: Damage) {
        // The file's end is why, if it stands before.
        let needed = self.torn_end.unwrap_or(damage.offset + BATCH_FRAME_LEN as u64);
        let is_cut = segment.len < needed && segment.len < segment.header.segment_len;
        self.fault = Some(match is_cut {
            true => Damage::at(damage.offset, Fault::Short { needed, found: segment.len }),
            false => damage,
        });
    }
}

/// What stands behind a place where good batches end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// The furthest claim of a valid batch there.
    pub(super) claim: Option<Claim>,
    /// Valid batches' heads.
    pub(super) batches: u64,
    /// Where the last of them ends.
    pub(super) end: u64,
}

/// The first valid batch behind `from` that begins before `to`.
pub(super) fn next_batch<F: File>(
    segment: &Segment<F>,
    window: &mut Window,
    from: u64,
    to: Option<u64>,
) -> Result<Option<BatchHead>> {
    let block = segment.start();
    let mut at = (from / block + 1) * block;
    while at < segment.len.min(to.unwrap_or(u64::MAX)) {
        if let Ok(head) = window.head(segment, at, segment.len)? {
            return Ok(Some(head));
        }
        at += block;
    }
    Ok(None)
}

/// Looks at every block behind `from` for a batch of this segment.
pub(super) fn search<F: File>(segment: &Segment<F>, window: &mut Window, from: u64) -> Result<Behind> {
    let mut behind = Behind::default();
    let mut from = from;
    while let Some(head) = next_batch(segment, window, from, None)? {
        let claim = Claim::of_batch(segment.id(), &head);
        behind.claim.get_or_insert(claim).raise(claim);
        behind.batches += 1;
        behind.end = behind.end.max(head.end());
        from = head.offset;
    }
    Ok(behind)
}

// A search reads the start of each block; a header is read with its block.
const _: () = assert!(BATCH_FRAME_LEN <= HEADER_LEN && HEADER_LEN <= 4096);
