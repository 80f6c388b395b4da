//! A segment's header: making one, believing one, and its two late fields.
//!
//! [`format`](fn@format) prepares a region; [`header`] reads one back and refuses what it cannot understand. The *begin* field
//! joins a prepared segment to the stream, the *seal* field makes it final. Both are stored once, their checksum last
//! with Release; a late field whose checksum is wrong counts as absent, because a crash may have torn it, and recovery
//! computes it again from the frames.

use crate::{
    Damage, Fault,
    layout::{self, HEADER_LEN, SegmentHeader},
    region::{RegionMut, Window},
};
use core::mem::offset_of;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// What `time_ns` of a stream's frames means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// When the record was received here.
    #[default]
    Ingest,
    /// When the venue says it happened.
    Exchange,
}

/// What protects a frame's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// A CRC-32 in every frame.
    #[default]
    Frame,
    /// Commit words only: for memory that dies with the machine, where no torn write can survive.
    CommitWord,
}

/// What [`format`](fn@format) writes into a header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spec {
    /// Identity of the queue.
    pub queue_id: [u8; 16],
    /// Position of this segment in it, from 1.
    pub segment_id: u64,
    /// Raised by one after each crash of the machine.
    pub epoch: u32,
    /// Starting value of CRCs; should be unpredictable where memory is recycled.
    pub salt: u32,
    /// Segment before this one; 0 = none.
    pub predecessor_id: u64,
    /// Where the predecessor's accepted frames end; 0 = at its `End`.
    pub predecessor_end: u32,
    /// When it was made; 0 where bytes must not depend on that.
    pub created_ns: u64,
    /// Length of the whole segment; 0 for a partition file.
    pub segment_len: u32,
    /// Meaning of `time_ns`.
    pub clock: Clock,
    /// Protection of frames.
    pub checksum: Checksum,
}

impl Spec {
    /// The header's bytes, late fields zero.
    ///
    /// ```
    /// let bytes = chronicle_core::Spec::default().to_bytes();
    /// assert_eq!(&bytes[..8], b"CHRONLOG");
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut raw = SegmentHeader::new_zeroed();
        raw.magic = layout::MAGIC;
        raw.version = layout::VERSION.into();
        raw.clock = match self.clock {
            Clock::Ingest => 0,
            Clock::Exchange => 1,
        };
        raw.checksum = match self.checksum {
            Checksum::Frame => 1,
            Checksum::CommitWord => 2,
        };
        raw.epoch = self.epoch.into();
        raw.queue_id = self.queue_id;
        raw.segment_id = self.segment_id.into();
        raw.predecessor_id = self.predecessor_id.into();
        raw.created_ns = self.created_ns.into();
        raw.predecessor_end = self.predecessor_end.into();
        raw.segment_len = self.segment_len.into();
        raw.salt = self.salt.into();
        raw.crc = crc32fast::hash(&raw.as_bytes()[..offset_of!(SegmentHeader, crc)]).into();
        zerocopy::transmute!(raw)
    }
}

/// A header that was checked. Copied out once: what a peer writes over the original later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Identity of the queue.
    pub queue_id: [u8; 16],
    /// Position in it.
    pub segment_id: u64,
    /// Crashes of the machine that the queue has seen.
    pub epoch: u32,
    /// Starting value of CRCs.
    pub salt: u32,
    /// Segment before this one; 0 = none.
    pub predecessor_id: u64,
    /// Where the predecessor's accepted frames end; 0 = at its `End`.
    pub predecessor_end: u32,
    /// When it was made; 0 = not recorded.
    pub created_ns: u64,
    /// Length of the whole segment; 0 = a partition file.
    pub segment_len: u32,
    /// Meaning of `time_ns`.
    pub clock: Clock,
    /// Protection of frames.
    pub checksum: Checksum,
    /// Features that forbid writing unless they are known; see [`Header::writable`].
    pub ro_compat: u32,
}

impl Header {
    /// Whether this version may write to the segment: reading needs no more than a `Header`, writing needs every
    /// `ro_compat` feature to be known.
    ///
    /// # Errors
    ///
    /// [`Fault::ReadOnly`], with the unknown bits.
    pub fn writable(&self) -> Result<(), Damage> {
        match self.ro_compat {
            0 => Ok(()),
            bits => Err(Damage::at(offset_of!(SegmentHeader, ro_compat) as u64, Fault::ReadOnly { bits })),
        }
    }

    /// Checks the first 128 bytes of a segment or partition file.
    ///
    /// # Errors
    ///
    /// Damage at the field's offset: short, another magic, a newer version, unknown features, a wrong checksum, or a
    /// value that no writer stores.
    pub fn parse(bytes: &[u8]) -> Result<Header, Damage> {
        let Ok((raw, _)) = SegmentHeader::read_from_prefix(bytes) else {
            let fault = Fault::Short { needed: HEADER_LEN as u64, found: bytes.len() as u64 };
            return Err(Damage::at(0, fault));
        };
        if raw.magic != layout::MAGIC {
            return Err(Damage::at(0, Fault::Magic { found: raw.magic }));
        }
        if raw.version.get() > layout::VERSION {
            return Err(Damage::at(8, Fault::Version { found: raw.version.get() }));
        }
        let crc_at = offset_of!(SegmentHeader, crc);
        let computed = crc32fast::hash(&raw.as_bytes()[..crc_at]);
        if computed != raw.crc.get() {
            return Err(Damage::at(crc_at as u64, Fault::Crc { stored: raw.crc.get(), computed }));
        }
        if raw.incompat.get() != 0 {
            return Err(Damage::at(12, Fault::Incompatible { bits: raw.incompat.get() }));
        }
        let field = |offset, name, found| Damage::at(offset, Fault::Field { name, found });
        if raw.version.get() == 0 {
            return Err(field(8, "version", 0));
        }
        let clock = match raw.clock {
            0 => Clock::Ingest,
            1 => Clock::Exchange,
            other => return Err(field(10, "clock", other.into())),
        };
        let checksum = match raw.checksum {
            1 => Checksum::Frame,
            2 => Checksum::CommitWord,
            other => return Err(field(11, "checksum", other.into())),
        };
        let segment_len = raw.segment_len.get();
        if segment_len != 0 && layout::segment(segment_len as usize).is_none() {
            return Err(field(68, "segment_len", segment_len.into()));
        }
        Ok(Header {
            queue_id: raw.queue_id,
            segment_id: raw.segment_id.get(),
            epoch: raw.epoch.get(),
            salt: raw.salt.get(),
            predecessor_id: raw.predecessor_id.get(),
            predecessor_end: raw.predecessor_end.get(),
            created_ns: raw.created_ns.get(),
            segment_len,
            clock,
            checksum,
            ro_compat: raw.ro_compat.get(),
        })
    }
}

/// The field that joins a prepared segment to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Seq of its first frame.
    pub first_seq: u64,
}

/// The field that says a segment is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Number of frames.
    pub count: u64,
    /// Offset of the `End` frame.
    pub end: u64,
    /// Smallest `time_ns`; 0 without frames.
    pub min_time: u64,
    /// Largest `time_ns`; 0 without frames.
    pub max_time: u64,
}

const BEGIN: usize = offset_of!(SegmentHeader, begin_first_seq);
const BEGIN_LEN: usize = offset_of!(SegmentHeader, begin_crc) - BEGIN;
const SEAL: usize = offset_of!(SegmentHeader, seal_count);
const SEAL_LEN: usize = offset_of!(SegmentHeader, seal_crc) - SEAL;

fn salted(salt: u32, bytes: &[u8]) -> u32 {
    crate::frame::crc_cold(salt, bytes)
}

impl Begin {
    /// The 12 bytes at offset 80, checksum included.
    #[must_use]
    pub fn to_bytes(&self, salt: u32) -> [u8; BEGIN_LEN + 4] {
        let mut out = [0; BEGIN_LEN + 4];
        out[..BEGIN_LEN].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = salted(salt, &out[..BEGIN_LEN]);
        out[BEGIN_LEN..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads it from a whole header; `None` if absent.
    #[must_use]
    pub fn parse(header: &[u8; HEADER_LEN], salt: u32) -> Option<Begin> {
        let raw = SegmentHeader::read_from_bytes(header).ok()?;
        let first_seq = raw.begin_first_seq.get();
        let computed = salted(salt, &header[BEGIN..BEGIN + BEGIN_LEN]);
        let possible = first_seq != 0 && first_seq < layout::SEQ_END;
        (possible && computed == raw.begin_crc.get()).then_some(Begin { first_seq })
    }
}

impl Seal {
    /// The 36 bytes at offset 92, checksum included.
    #[must_use]
    pub fn to_bytes(&self, salt: u32) -> [u8; SEAL_LEN + 4] {
        let mut out = [0; SEAL_LEN + 4];
        let fields = [self.count, self.end, self.min_time, self.max_time];
        for (to, field) in out.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        let crc = salted(salt, &out[..SEAL_LEN]);
        out[SEAL_LEN..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads it from a whole header; `None` if absent.
    #[must_use]
    pub fn parse(header: &[u8; HEADER_LEN], salt: u32) -> Option<Seal> {
        let raw = SegmentHeader::read_from_bytes(header).ok()?;
        let seal = Seal {
            count: raw.seal_count.get(),
            end: raw.seal_end.get(),
            min_time: raw.seal_min_time.get(),
            max_time: raw.seal_max_time.get(),
        };
        let computed = salted(salt, &header[SEAL..SEAL + SEAL_LEN]);
        // A seal of nothing still names where its `End` is, so an all-zero field is never one.
        (seal.end >= HEADER_LEN as u64 && computed == raw.seal_crc.get()).then_some(seal)
    }
}

/// Why [`format`](fn@format) refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The length is not one that a segment can have: a multiple of 32 from 512 bytes to 1 GiB.
    Length {
        /// The one asked for.
        asked: u32,
    },
    /// The region is smaller than the segment.
    Region {
        /// Bytes needed.
        needed: u32,
        /// Bytes there.
        found: usize,
    },
}

impl core::fmt::Display for FormatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FormatError::Length { asked } => write!(
                f,
                "segment length {asked} is not a multiple of {} from {} to {}",
                layout::FRAME_ALIGN,
                layout::MIN_SEGMENT_LEN,
                layout::MAX_SEGMENT_LEN
            ),
            FormatError::Region { needed, found } => {
                write!(f, "region too small: segment needs {needed} bytes, {found} there")
            }
        }
    }
}

impl core::error::Error for FormatError {}

/// Makes a region an empty segment that begins at seq 1; old bytes behind the first slot may stay.
///
/// For one segment on its own. Where segments follow one another, use [`prepare`], and [`store_begin`] when its turn
/// comes.
///
/// # Errors
///
/// The length is impossible or larger than the region.
pub fn format<R: RegionMut>(region: &R, spec: &Spec) -> Result<(), FormatError> {
    prepare(region, spec)?;
    store_begin(region, spec.salt, Begin { first_seq: 1 });
    Ok(())
}

/// Makes a region a prepared segment: header written, first slot open, late fields zero.
///
/// Only for memory that nobody reads yet: a new file under a temporary name, or a retired one that is exclusively
/// locked.
///
/// # Errors
///
/// The length is impossible or larger than the region.
pub fn prepare<R: RegionMut>(region: &R, spec: &Spec) -> Result<(), FormatError> {
    if layout::segment(spec.segment_len as usize).is_none() {
        return Err(FormatError::Length { asked: spec.segment_len });
    }
    let window = region.window_mut();
    if window.len() < spec.segment_len as usize {
        return Err(FormatError::Region { needed: spec.segment_len, found: window.len() });
    }
    // A recycled region is full of old frames: the first slot must read as open before the header is anybody's.
    window.store(HEADER_LEN, 0);
    window.copy_in(0, &spec.to_bytes());
    Ok(())
}

fn header_bytes(window: &Window<'_>) -> Result<[u8; HEADER_LEN], Damage> {
    if window.len() < HEADER_LEN {
        let fault = Fault::Short { needed: HEADER_LEN as u64, found: window.len() as u64 };
        return Err(Damage::at(0, fault));
    }
    let mut bytes = [0; HEADER_LEN];
    window.copy_out(0, &mut bytes);
    Ok(bytes)
}

/// Reads and checks a region's header, and that the region is as long as it says.
///
/// # Errors
///
/// As [`Header::parse`]; or the region is shorter than the segment.
pub fn header(window: Window<'_>) -> Result<Header, Damage> {
    let header = Header::parse(&header_bytes(&window)?)?;
    if window.len() < header.segment_len as usize {
        let fault = Fault::Short { needed: header.segment_len.into(), found: window.len() as u64 };
        return Err(Damage::at(0, fault));
    }
    Ok(header)
}

/// Stores the begin field: what this segment's first frame is numbered. Once, by the writer, before it ends the
/// predecessor.
pub fn store_begin<R: RegionMut>(region: &R, salt: u32, begin: Begin) {
    let bytes = begin.to_bytes(salt);
    let window = region.window_mut();
    window.copy_in(BEGIN, &bytes[..BEGIN_LEN]);
    let crc = u32::from_le_bytes([bytes[BEGIN_LEN], bytes[BEGIN_LEN + 1], bytes[BEGIN_LEN + 2], bytes[BEGIN_LEN + 3]]);
    // ORDERING: Release pairs with the Acquire in `read_begin`: whoever sees this checksum sees the field.
    window.store_release(BEGIN + BEGIN_LEN, crc);
}

/// The begin field, if it is there.
#[must_use]
pub fn read_begin(window: Window<'_>, salt: u32) -> Option<Begin> {
    // ORDERING: Acquire pairs with the Release in `store_begin`.
    window.load_acquire(BEGIN + BEGIN_LEN);
    Begin::parse(&header_bytes(&window).ok()?, salt)
}

/// Stores the seal: this segment is final. Once, by the writer, after `End` was committed.
pub fn store_seal<R: RegionMut>(region: &R, salt: u32, seal: Seal) {
    let bytes = seal.to_bytes(salt);
    let window = region.window_mut();
    window.copy_in(SEAL, &bytes[..SEAL_LEN]);
    let crc = u32::from_le_bytes([bytes[SEAL_LEN], bytes[SEAL_LEN + 1], bytes[SEAL_LEN + 2], bytes[SEAL_LEN + 3]]);
    // ORDERING: Release pairs with the Acquire in `read_seal`.
    window.store_release(SEAL + SEAL_LEN, crc);
}

/// The seal, if it is there.
#[must_use]
pub fn read_seal(window: Window<'_>, salt: u32) -> Option<Seal> {
    // ORDERING: Acquire pairs with the Release in `store_seal`.
    window.load_acquire(SEAL + SEAL_LEN);
    Seal::parse(&header_bytes(&window).ok()?, salt)
}
