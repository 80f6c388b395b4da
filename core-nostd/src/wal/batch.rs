//! Reading batches: for recovery, readers and inspection, over bytes that nobody vouches for.
//!
//! A [`BatchHead`] is checked before any length in it is used; then a [`Batch`] borrows just that many bytes, and its
//! [`Frames`] are checked one by one, each by the CRC that its segment's salt starts. Nothing here allocates, looks past
//! the bytes given, or repairs.

use super::{
    Header, Kind, Position,
    layout::{self, BATCH_FRAME_LEN, BatchPayload, FRAME_HEADER_LEN, FRAME_OVERHEAD, FrameHeader, HEADER_LEN},
    sum::Salted,
};
use crate::{Damage, Fault};
use zerocopy::FromBytes;

/// What the frame that opens a batch says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// Where it stands in its segment.
    pub offset: u64,
    /// Bytes of the whole batch, padding included: the next one stands behind them.
    pub len: u32,
    /// Number of its first data frame, or of the next one if it has none.
    pub first_seq: u64,
    /// Up to where all was durable when it was built.
    pub durable: Position,
    /// Newest data frame before that position; 0 = none.
    pub durable_seq: u64,
    /// Whether a clean close wrote it: all before it was durable then, and nothing follows.
    pub closed: bool,
}

impl BatchHead {
    /// Checks the batch frame at the start of `bytes`, which stand at `offset` of the segment that `header` opens.
    ///
    /// Costs little where there is none, so that a search may try each block of a segment.
    ///
    /// # Errors
    ///
    /// Damage with its offset: too few bytes, another kind of frame, a wrong checksum, another place's batch, or a value
    /// that no writer stores.
    pub fn parse(bytes: &[u8], offset: u64, header: &Header) -> Result<BatchHead, Damage> {
        let block = u64::from(header.block_size);
        let segment_len = header.segment_len.min(layout::MAX_SEGMENT_LEN);
        if offset < block || !offset.is_multiple_of(block) || offset >= segment_len {
            return Err(Damage::at(offset, Fault::Field { name: "at", found: offset }));
        }
        let Some(frame) = bytes.get(..BATCH_FRAME_LEN) else {
            let fault = Fault::Short { needed: BATCH_FRAME_LEN as u64, found: bytes.len() as u64 };
            return Err(Damage::at(offset, fault));
        };
        let field = |at: usize, name, found| Err(Damage::at(offset + at as u64, Fault::Field { name, found }));
        if frame[12] != Kind::Batch as u8 {
            return field(12, "flags", frame[12].into());
        }
        let raw = Raw::parse(frame, offset, &Salted::new(header.salt))?;
        let Ok(payload) = BatchPayload::read_from_bytes(raw.payload) else {
            return field(8, "len", raw.payload.len() as u64);
        };
        let head = BatchHead {
            offset,
            len: payload.len.get(),
            first_seq: raw.seq,
            durable: Position { segment: payload.durable_segment.get(), offset: payload.durable_offset.get() },
            durable_seq: payload.durable_seq.get(),
            closed: payload.flags.get() & layout::CLOSED != 0,
        };
        let left = segment_len - offset;
        let here = Position { segment: header.segment_id, offset };
        if payload.at.get() != offset {
            return field(FRAME_HEADER_LEN + 24, "at", payload.at.get());
        }
        if u64::from(head.len) > left {
            return Err(Damage::at(offset, Fault::Length { claimed: head.len.into(), left }));
        }
        if head.len == 0 || head.len > header.batch_len || !head.len.is_multiple_of(header.block_size) {
            return field(FRAME_HEADER_LEN + 32, "len", head.len.into());
        }
        if payload.flags.get() & !layout::CLOSED != 0 {
            return field(FRAME_HEADER_LEN + 36, "flags", payload.flags.get().into());
        }
        if !(1..layout::SEQ_END).contains(&head.first_seq) {
            return field(0, "seq", head.first_seq);
        }
        if head.durable > here {
            return field(FRAME_HEADER_LEN, "durable_position", head.durable.offset);
        }
        if head.durable_seq >= head.first_seq {
            return field(FRAME_HEADER_LEN + 16, "durable_seq", head.durable_seq);
        }
        Ok(head)
    }

    /// Where the batch ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

/// A batch whose head was checked and whose bytes are all there. Its frames are checked when they are read.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    head: BatchHead,
    bytes: &'a [u8],
    salt: u32,
    opens_segment: bool,
}

impl<'a> Batch<'a> {
    /// Checks the head of the batch at the start of `bytes`, which stand at `offset` of the segment that `header` opens,
    /// and that all of the batch is there. More bytes may follow.
    ///
    /// # Errors
    ///
    /// As [`BatchHead::parse`]; or fewer bytes than the batch has.
    pub fn parse(bytes: &'a [u8], offset: u64, header: &Header) -> Result<Batch<'a>, Damage> {
        let head = BatchHead::parse(bytes, offset, header)?;
        let Some(bytes) = bytes.get(..head.len as usize) else {
            let fault = Fault::Short { needed: head.len.into(), found: bytes.len() as u64 };
            return Err(Damage::at(offset, fault));
        };
        Ok(Batch { head, bytes, salt: header.salt, opens_segment: offset == u64::from(header.block_size) })
    }

    /// What its batch frame says.
    #[must_use]
    pub fn head(&self) -> &BatchHead {
        &self.head
    }

    /// The frames behind the batch frame, each checked; padding is checked and not handed out.
    ///
    /// The first batch of a segment begins with its carry: [`Frame::carry`] tells it from an application's meta frame.
    #[must_use]
    pub fn frames(&self) -> Frames<'a> {
        Frames {
            bytes: self.bytes,
            at: BATCH_FRAME_LEN,
            base: self.head.offset,
            sum: Salted::new(self.salt),
            next_seq: self.head.first_seq,
            carry: self.opens_segment,
        }
    }
}

/// A frame that passed its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// A data frame's number; any other's is the number of the next data frame.
    pub seq: u64,
    /// What it is; never `Batch` or `Pad`.
    pub kind: Kind,
    /// Whether it is the meta frame at the head of a segment, written by the machine.
    pub carry: bool,
    /// Where it stands in its segment.
    pub offset: u64,
    /// Its payload. For a meta frame a list of [`super::entries`].
    pub payload: &'a [u8],
}

/// The frames of a batch. Ends after the last one or after the first damage.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    base: u64,
    sum: Salted,
    next_seq: u64,
    carry: bool,
}

impl<'a> Frames<'a> {
    /// Number that the next data frame must have.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Where the next frame stands, or where the damage is.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The data frame that comes next, if what comes next is one in which nothing is wrong: what a log mostly holds.
    #[inline]
    fn data(&mut self) -> Option<Frame<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let (head, rest) = rest.split_first_chunk::<FRAME_HEADER_LEN>()?;
        let seq = u64::from_le_bytes(*head.first_chunk()?);
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        if head[12] != Kind::Data as u8 || seq != self.next_seq || seq + 1 >= layout::SEQ_END || self.carry {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        let stored = u32::from_le_bytes(*rest.first_chunk()?);
        let mut crc = self.sum.start();
        crc.update(&self.bytes[self.at..self.at + FRAME_HEADER_LEN + len]);
        if crc.finalize() != stored {
            return None;
        }
        let offset = self.offset();
        self.at += FRAME_OVERHEAD + len;
        self.next_seq = seq + 1;
        Some(Frame { seq, kind: Kind::Data, carry: false, offset, payload })
    }

    /// What else may come next: any frame, the end, or damage and which.
    fn step(&mut self) -> Result<Option<Frame<'a>>, Damage> {
        let offset = self.offset();
        let rest = &self.bytes[self.at..];
        if rest.len() < FRAME_OVERHEAD {
            zeros(rest, offset)?;
            return Ok(None);
        }
        let raw = Raw::parse(rest, offset, &self.sum)?;
        if raw.seq != self.next_seq {
            return Err(Damage::at(offset, Fault::Seq { expected: self.next_seq, found: raw.seq }));
        }
        let carry = core::mem::take(&mut self.carry);
        let field = |at, name, found| Err(Damage::at(offset + at, Fault::Field { name, found }));
        if carry && raw.kind != Kind::Meta {
            return field(12, "flags", raw.kind as u64);
        }
        match raw.kind {
            // `data` has taken every other.
            Kind::Data => return field(0, "seq", raw.seq),
            Kind::Batch => return field(12, "flags", raw.kind as u64),
            Kind::Pad => {
                zeros(raw.payload, offset + FRAME_HEADER_LEN as u64)?;
                let len = FRAME_OVERHEAD + raw.payload.len();
                if len != rest.len() {
                    let fault =
                        Fault::End { expected: self.base + self.bytes.len() as u64, found: offset + len as u64 };
                    return Err(Damage::at(offset, fault));
                }
                return Ok(None);
            }
            Kind::Truncate => {
                let after = super::Truncation::parse(raw.payload, raw.seq);
                if after.is_none() {
                    return field(FRAME_HEADER_LEN as u64, "after", raw.payload.len() as u64);
                }
            }
            Kind::Vote | Kind::Meta => {}
        }
        self.at += FRAME_OVERHEAD + raw.payload.len();
        Ok(Some(Frame { seq: raw.seq, kind: raw.kind, carry, offset, payload: raw.payload }))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Damage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.data() {
            Some(frame) => Some(Ok(frame)),
            None => self.other(),
        }
    }
}

impl<'a> Frames<'a> {
    #[inline(never)]
    fn other(&mut self) -> Option<Result<Frame<'a>, Damage>> {
        match self.step() {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => {
                self.at = self.bytes.len();
                None
            }
            Err(damage) => {
                // `offset` goes on naming the place; nothing more is read there.
                self.bytes = &self.bytes[..self.at];
                Some(Err(damage))
            }
        }
    }
}

impl core::iter::FusedIterator for Frames<'_> {}

/// A frame whose length fits, whose kind is known and whose CRC is right.
struct Raw<'a> {
    seq: u64,
    kind: Kind,
    payload: &'a [u8],
}

impl<'a> Raw<'a> {
    /// `bytes` end where the frame must end at the latest, and hold at least an empty one.
    #[inline]
    fn parse(bytes: &'a [u8], offset: u64, sum: &Salted) -> Result<Raw<'a>, Damage> {
        let Ok((head, _)) = FrameHeader::read_from_prefix(bytes) else {
            let fault = Fault::Short { needed: FRAME_OVERHEAD as u64, found: bytes.len() as u64 };
            return Err(Damage::at(offset, fault));
        };
        let Some(kind) = Kind::from_flags(head.flags) else {
            let fault = Fault::Field { name: "flags", found: head.flags.into() };
            return Err(Damage::at(offset + 12, fault));
        };
        let payload_len = head.len.get() as usize;
        let room = bytes.len().saturating_sub(FRAME_OVERHEAD);
        if payload_len > room {
            let claimed = payload_len as u64 + FRAME_OVERHEAD as u64;
            return Err(Damage::at(offset, Fault::Length { claimed, left: bytes.len() as u64 }));
        }
        let (summed, behind) = bytes.split_at(FRAME_HEADER_LEN + payload_len);
        let stored = u32::from_le_bytes([behind[0], behind[1], behind[2], behind[3]]);
        let mut crc = sum.start();
        crc.update(summed);
        let computed = crc.finalize();
        if computed != stored {
            return Err(Damage::at(offset, Fault::Crc { stored, computed }));
        }
        Ok(Raw { seq: head.seq.get(), kind, payload: &summed[FRAME_HEADER_LEN..] })
    }
}

fn zeros(bytes: &[u8], offset: u64) -> Result<(), Damage> {
    match bytes.iter().position(|byte| *byte != 0) {
        Some(at) => Err(Damage::at(offset + at as u64, Fault::Padding { found: bytes[at] })),
        None => Ok(()),
    }
}

// The stride looks at one block at a time, and a header block is one.
const _: () = assert!(BATCH_FRAME_LEN <= HEADER_LEN);
