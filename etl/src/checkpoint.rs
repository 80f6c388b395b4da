//! Where a venue's refinery stands: everything that is needed to go on as if it had never stopped.
//!
//! ```text
//! state/refine/{venue}.checkpoint
//!   0               8       10      12              16                      24
//!   +---------------+-------+-------+---------------+-----------------------+---------------------+
//!   | QREFINE1      | vers. | zero  | crc           | len of the body       | body, postcard ..   |
//!   +---------------+-------+-------+---------------+-----------------------+---------------------+
//!   version u16 = 5; crc = CRC-32 of the body, started from len's low word; the file ends with the body
//!
//! body: raw cursor, state of the venue, per open partition what is durable of it, days that are being sealed
//! ```
//!
//! It is published whole, after the bytes that it speaks of are durable. The raw cursor is part of it, so the two can
//! never disagree. The file is this program's own note to itself: another version may refuse it, and then the venue is
//! refined again from its raw stream.

use std::path::{Path, PathBuf};

use chronicle_platform::{Platform, TroubleKind};
use chronicle_storage::meta::{self, read_small};
use chronicle_storage::partition::Committed;
use chronicle_storage::raw::RawCursor;
use chronicle_storage::root::{Date, Name, Root};
use chronicle_storage::{Error, Result};
use serde::{Deserialize, Serialize};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::refinery::{LatePolicy, Names, Place, Refinery};

pub(crate) const MAGIC: [u8; 8] = *b"QREFINE1";
const VERSION: u16 = 5;
/// Longest file that is read: thousands of books of a hundred thousand levels.
const LEN_MAX: u64 = 8 << 30;

/// The first bytes of the file; drawn above.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct HeaderLayout {
    magic: [u8; 8],
    version: U16,
    zero: U16,
    crc: U32,
    len: U64,
}

const HEADER: usize = 24;
const _: () = assert!(size_of::<HeaderLayout>() == HEADER);
const _: () = assert!(core::mem::offset_of!(HeaderLayout, crc) == 12);
const _: () = assert!(core::mem::offset_of!(HeaderLayout, len) == 16);

/// Where a venue's refinery stands.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Checkpoint {
    /// The last raw frame that is in it.
    pub(crate) cursor: Option<RawCursor>,
    /// Books, clocks, waiting records, counts.
    pub(crate) refinery: Refinery,
    /// What is durable of each partition that is not sealed.
    pub(crate) committed: Vec<(Place, Committed)>,
    /// Days of symbols to which nothing is added any more, and whose files may not say so yet.
    pub(crate) sealing: Vec<(u32, Date)>,
}

/// What a checkpoint keeps of a shard, by the venue's numbers of its symbols.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The states, serialized.
    pub(crate) symbols: Vec<(u32, Vec<u8>)>,
    /// What is durable of each partition that is not sealed.
    pub(crate) committed: Vec<(Place, Committed)>,
    /// Days to which nothing is added any more, and whose files may not say so yet.
    pub(crate) sealing: Vec<(u32, Date)>,
}

/// Where a venue's checkpoint is.
pub(crate) fn path(root: &Root, venue: &Name) -> PathBuf {
    directory(root).join(format!("{venue}.checkpoint"))
}

/// Where the checkpoints of all venues are.
pub(crate) fn directory(root: &Root) -> PathBuf {
    root.state.join("refine")
}

fn crc(body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(body.len() as u32);
    crc.update(body);
    crc.finalize()
}

/// Makes a checkpoint durable and visible at once; how long it is.
pub(crate) fn publish<P: Platform>(
    platform: &P,
    path: &Path,
    cursor: Option<RawCursor>,
    names: &Names,
    late_policy: LatePolicy,
    parts: Vec<Part>,
) -> Result<usize> {
    let bytes = to_bytes(cursor, names, late_policy, parts);
    meta::publish(platform, path, &bytes)?;
    Ok(bytes.len())
}

/// The bytes of a [`Checkpoint`], whose symbols the shards have serialized. Fields and elements follow each other in
/// postcard, behind a sequence's count: <https://postcard.jamesmunns.com/wire-format>.
fn to_bytes(cursor: Option<RawCursor>, names: &Names, late_policy: LatePolicy, parts: Vec<Part>) -> Vec<u8> {
    let (mut symbols, mut committed, mut sealing) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        symbols.extend(part.symbols);
        committed.extend(part.committed);
        sealing.extend(part.sealing);
    }
    symbols.sort_unstable_by_key(|(number, _)| *number);
    committed.sort_unstable_by_key(|(place, _): &(Place, Committed)| *place);
    sealing.sort_unstable();
    let mut bytes = vec![0; HEADER];
    put(&mut bytes, &(cursor, names.venue(), symbols.len()));
    for (_, symbol) in symbols {
        bytes.extend(symbol);
    }
    put(&mut bytes, &(&**names.sources(), names.source(), late_policy, names.roster(), committed, sealing));
    let body = &bytes[HEADER..];
    let header = HeaderLayout {
        magic: MAGIC,
        version: VERSION.into(),
        zero: 0.into(),
        crc: crc(body).into(),
        len: (body.len() as u64).into(),
    };
    bytes[..HEADER].copy_from_slice(header.as_bytes());
    bytes
}

fn put(bytes: &mut Vec<u8>, value: &impl Serialize) {
    *bytes = postcard::to_extend(value, std::mem::take(bytes)).expect("bug: a vector takes every byte");
}

impl Checkpoint {
    /// Reads it, if it is there.
    pub(crate) fn read<P: Platform>(platform: &P, path: &Path) -> Result<Option<Self>> {
        match read_small(platform, path, LEN_MAX) {
            Ok(bytes) => Self::parse(path, &bytes).map(Some),
            Err(Error::Trouble(trouble)) if trouble.kind() == TroubleKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let bad = |offset: usize, what: String| Error::malformed(path, offset as u64, what);
        let Ok((header, body)) = HeaderLayout::read_from_prefix(bytes) else {
            return Err(bad(bytes.len(), format!("{} bytes, a checkpoint's header takes {HEADER}", bytes.len())));
        };
        if header.magic != MAGIC {
            return Err(bad(0, format!("magic is {}, not QREFINE1", header.magic.escape_ascii())));
        }
        if header.version.get() != VERSION {
            return Err(bad(8, format!("version {}, this program knows {VERSION}", header.version)));
        }
        if header.zero.get() != 0 {
            return Err(bad(10, format!("{} where zero should be", header.zero)));
        }
        if header.len.get() != body.len() as u64 {
            return Err(bad(16, format!("body of {} bytes stored, {} found", header.len, body.len())));
        }
        let computed = crc(body);
        if header.crc.get() != computed {
            return Err(bad(12, format!("checksum stored {:#010x}, computed {computed:#010x}", header.crc.get())));
        }
        match postcard::take_from_bytes(body) {
            Ok((this, [])) => Ok(this),
            Ok((_, rest)) => Err(bad(bytes.len() - rest.len(), format!("{} bytes too many", rest.len()))),
            Err(error) => Err(bad(HEADER, format!("body is not a checkpoint's: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: RawCursor = RawCursor { created_ns: 5, queue_id: [7; 16], seq: 9 };

    fn bytes_of(refinery: Refinery, parts: Vec<Part>) -> Vec<u8> {
        to_bytes(Some(CURSOR), &refinery.into_parts().0, LatePolicy::Reject, parts)
    }

    /// One without symbols.
    fn bytes() -> Vec<u8> {
        let sealing = vec![(0, "2024-08-08".parse().unwrap())];
        let refinery = Refinery::new(Name::new("binance-spot").unwrap());
        bytes_of(refinery, vec![Part { sealing, ..Part::default() }])
    }

    /// Of a refinery with symbols, whatever the order in which the shards have them.
    #[test]
    fn what_shards_wrote_is_read_as_one() {
        use crate::refinery::{RawFrame, Sink};
        use chronicle_core::Append;
        use chronicle_protocol::{Head, Quote, Record};
        use std::convert::Infallible;

        struct Nowhere;
        impl Sink for Nowhere {
            type Error = Infallible;
            fn append(&mut self, _: Place, _: Append, _: &[u8]) -> std::result::Result<(), Infallible> {
                Ok(())
            }
            fn seal(&mut self, _: Place) -> std::result::Result<(), Infallible> {
                Ok(())
            }
        }
        let mut refinery = Refinery::new(Name::new("binance-spot").unwrap());
        for symbol in ["A", "B", "C", "D"] {
            let head = Head { exchange_ns: 86_400_000_000_000, ..Head::default() };
            let (bid_price, bid_qty, ask_price, ask_qty) = (1, 1, 2, 1);
            let quote = Quote { head, update_id: 7, bid_price, bid_qty, ask_price, ask_qty, symbol };
            let record = Record::Quote(quote);
            let mut payload = vec![0; record.encoded_len()];
            record.encode(&mut payload).unwrap();
            let frame = RawFrame { ingest_ns: 86_400_000_000_001, type_id: record.type_id(), payload: &payload };
            refinery.frame(frame, &mut Nowhere).unwrap();
        }
        refinery.set_late_policy(LatePolicy::Reject);
        let whole = postcard::to_allocvec(&refinery).unwrap();
        let part = |numbers: &[u32]| {
            let bytes = |n: &u32| (*n, postcard::to_allocvec(&refinery.symbols()[*n as usize]).unwrap());
            Part { symbols: numbers.iter().map(bytes).collect(), ..Part::default() }
        };
        let bytes = bytes_of(refinery.clone(), vec![part(&[1, 3]), part(&[0, 2])]);
        let read = Checkpoint::parse(Path::new("c"), &bytes).unwrap();
        assert_eq!(postcard::to_allocvec(&read.refinery).unwrap(), whole);
        assert_eq!(bytes, bytes_of(refinery.clone(), vec![part(&[0, 1, 2, 3])]));
    }

    #[test]
    fn there_and_back() {
        let bytes = bytes();
        assert_eq!(&bytes[..12], b"QREFINE1\x05\0\0\0");
        let read = Checkpoint::parse(Path::new("c"), &bytes).unwrap();
        assert_eq!((read.cursor, read.committed), (Some(CURSOR), Vec::new()));
        assert_eq!(read.sealing, [(0, "2024-08-08".parse().unwrap())]);
    }

    /// A flipped bit or a lost byte must be seen: a wrong book would go on being wrong without anybody noticing.
    #[test]
    fn no_bit_can_be_flipped_and_no_byte_lost() {
        let good = bytes();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::parse(Path::new("c"), &bytes).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Checkpoint::parse(Path::new("c"), &good[..len]).is_err(), "{len} bytes");
        }
        let error = Checkpoint::parse(Path::new("c"), b"QREFINE2................").unwrap_err();
        assert_eq!(error.to_string(), "c: offset 0: magic is QREFINE2, not QREFINE1");
    }

    /// A body with a right checksum and hostile lengths must not take memory for them.
    #[test]
    fn hostile_bodies_are_refused() {
        let mut seed = 0x5eed_u64;
        for round in 0..2_000 {
            let mut body = bytes().split_off(HEADER);
            for _ in 0..=round % 4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % body.len();
                body[at] = (seed >> 24) as u8;
            }
            let header = HeaderLayout {
                magic: MAGIC,
                version: VERSION.into(),
                zero: 0.into(),
                crc: crc(&body).into(),
                len: (body.len() as u64).into(),
            };
            let _ = Checkpoint::parse(Path::new("c"), &[header.as_bytes(), &body].concat());
        }
    }
}
