//! Bytes that nobody of ours wrote: whatever stands in a WAL segment, parsing ends, looks at nothing outside, and hands out
//! no frame whose checksum is not right.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::wal::{
    Batch, BatchHead, Frame, Header, Kind, Position, entries,
    layout::{BATCH_FRAME_LEN, BatchPayload, FRAME_HEADER_LEN, FRAME_OVERHEAD, HEADER_LEN, SEQ_END},
};
use chronicle_core::{Damage, Fault};
use seeded::{Seeded, seeds};
use zerocopy::IntoBytes;

const BLOCK: usize = 512;

fn header() -> Header {
    Header {
        wal_id: [9; 16],
        segment_id: 3,
        predecessor_id: 2,
        predecessor_end: 4096,
        durable: Position { segment: 2, offset: 2048 },
        durable_seq: 12,
        first_seq: 17,
        segment_len: 32 * BLOCK as u64,
        created_ns: 1,
        block_size: BLOCK as u32,
        batch_len: 4 * BLOCK as u32,
        epoch: 1,
        salt: 0x1234_5678,
    }
}

/// A frame with the right checksum, whatever it says.
fn frame(seq: u64, flags: u8, claimed: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().to_vec();
    bytes.extend_from_slice(&claimed.to_le_bytes());
    bytes.push(flags);
    bytes.extend_from_slice(payload);
    let mut crc = crc32fast::Hasher::new_with_initial(header().salt);
    crc.update(&bytes);
    bytes.extend_from_slice(&crc.finalize().to_le_bytes());
    bytes
}

fn plain(seq: u64, kind: Kind, payload: &[u8]) -> Vec<u8> {
    frame(seq, kind as u8, payload.len() as u32, payload)
}

fn head(at: u64, len: u32) -> BatchPayload {
    BatchPayload {
        durable_segment: 3.into(),
        durable_offset: (BLOCK as u64).into(),
        durable_seq: 16.into(),
        at: at.into(),
        len: len.into(),
        flags: 0.into(),
    }
}

/// A batch of one block at 1024 with these frames, filled up.
fn batch(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = plain(17, Kind::Batch, head(1024, BLOCK as u32).as_bytes());
    bytes.extend(frames.iter().flatten());
    let left = BLOCK - bytes.len();
    if left >= FRAME_OVERHEAD {
        let next = 17 + frames.iter().filter(|frame| frame[12] == 1).count() as u64;
        bytes.extend(plain(next, Kind::Pad, &vec![0; left - FRAME_OVERHEAD]));
    }
    bytes.resize(BLOCK, 0);
    bytes
}

fn walk(bytes: &[u8]) -> Result<usize, Damage> {
    let batch = Batch::parse(bytes, 1024, &header())?;
    batch.frames().try_fold(0, |count, frame| frame.map(|_| count + 1))
}

#[track_caller]
fn refused(bytes: &[u8], offset: u64, fault: fn(&Fault) -> bool) {
    let damage = walk(bytes).expect_err("accepted");
    assert!(damage.offset == offset && fault(&damage.fault), "{damage}");
}

/// Each thing that a batch may get wrong with all its checksums right.
#[test]
fn what_is_checked_besides_the_checksum() {
    assert_eq!(
        walk(&batch(&[plain(17, Kind::Data, b"a"), plain(18, Kind::Vote, b"b"), plain(18, Kind::Data, b"c")])),
        Ok(3)
    );
    let at = 1024 + BATCH_FRAME_LEN as u64;
    refused(&batch(&[plain(18, Kind::Data, b"a")]), at, |fault| {
        matches!(fault, Fault::Seq { expected: 17, found: 18 })
    });
    refused(&batch(&[plain(16, Kind::Vote, b"a")]), at, |fault| matches!(fault, Fault::Seq { .. }));
    for flags in [0, 7, 0x7f, 0x80, 0x81] {
        refused(&batch(&[frame(17, flags, 1, b"a")]), at + 12, |fault| {
            matches!(fault, Fault::Field { name: "flags", .. })
        });
    }
    refused(&batch(&[plain(17, Kind::Batch, head(1024, BLOCK as u32).as_bytes())]), at + 12, |fault| {
        matches!(fault, Fault::Field { name: "flags", .. })
    });
    for claimed in [500, 0x8000_0000, u32::MAX] {
        refused(&batch(&[frame(17, 1, claimed, b"a")]), at, |fault| matches!(fault, Fault::Length { .. }));
    }
    let inside = at + FRAME_HEADER_LEN as u64;
    refused(&batch(&[plain(17, Kind::Truncate, &17u64.to_le_bytes())]), inside, |fault| {
        matches!(fault, Fault::Field { name: "after", .. })
    });
    refused(&batch(&[plain(17, Kind::Truncate, b"short")]), inside, |fault| {
        matches!(fault, Fault::Field { name: "after", .. })
    });
    // A pad frame ends the batch, and holds zeros.
    refused(&batch(&[plain(17, Kind::Pad, b"")]), at, |fault| matches!(fault, Fault::End { .. }));
    let mut padded = vec![0; BLOCK - BATCH_FRAME_LEN - FRAME_OVERHEAD];
    padded[5] = 1;
    refused(&batch(&[plain(17, Kind::Pad, &padded)]), inside + 5, |fault| matches!(fault, Fault::Padding { found: 1 }));
    // Where no frame fits there are zeros.
    let mut full = batch(&[plain(17, Kind::Data, &vec![1; BLOCK - BATCH_FRAME_LEN - FRAME_OVERHEAD - 9])]);
    assert_eq!(walk(&full), Ok(1));
    full[BLOCK - 4] = 7;
    refused(&full, 1024 + BLOCK as u64 - 4, |fault| matches!(fault, Fault::Padding { found: 7 }));

    type Change = fn(&mut BatchPayload);
    let heads: [(Change, u64); 9] = [
        (|head| head.at = 512.into(), 24),
        (|head| head.len = 0.into(), 32),
        (|head| head.len = 700.into(), 32),
        (|head| head.len = (5 * BLOCK as u32).into(), 32),
        (|head| head.flags = 2.into(), 36),
        (|head| head.durable_offset = 1536.into(), 0),
        (|head| head.durable_segment = 4.into(), 0),
        (|head| head.durable_seq = 17.into(), 16),
        (|head| head.durable_seq = u64::MAX.into(), 16),
    ];
    for (change, inside) in heads {
        let mut head = head(1024, BLOCK as u32);
        change(&mut head);
        let damage = BatchHead::parse(&plain(17, Kind::Batch, head.as_bytes()), 1024, &header()).expect_err("accepted");
        assert_eq!(damage.offset, 1024 + FRAME_HEADER_LEN as u64 + inside, "{damage}");
    }
    for seq in [0, SEQ_END, u64::MAX] {
        assert!(BatchHead::parse(&plain(seq, Kind::Batch, head(1024, 512).as_bytes()), 1024, &header()).is_err());
    }
    // Longer than what is left of the segment: refused before anybody asks for so much.
    let last = 31 * BLOCK as u64;
    let damage = BatchHead::parse(&plain(17, Kind::Batch, head(last, 1024).as_bytes()), last, &header()).unwrap_err();
    assert!(matches!(damage.fault, Fault::Length { claimed: 1024, left: 512 }), "{damage}");
    for offset in [0, 1, 1000, 32 * BLOCK as u64, u64::MAX] {
        assert!(BatchHead::parse(&plain(17, Kind::Batch, head(offset, 512).as_bytes()), offset, &header()).is_err());
    }
    // The first batch of a segment begins with what stands.
    let opening = |kind| {
        let mut bytes = plain(17, Kind::Batch, head(512, BLOCK as u32).as_bytes());
        bytes.extend(plain(17, kind, b""));
        bytes.extend(plain(18 - u64::from(kind as u8 != 1), Kind::Pad, &vec![0; BLOCK - bytes.len() - FRAME_OVERHEAD]));
        let batch =
            Batch::parse(&bytes, 512, &header()).map(|batch| batch.frames().next().unwrap().map(|frame| frame.carry));
        batch.unwrap()
    };
    assert_eq!(opening(Kind::Meta), Ok(true));
    assert!(opening(Kind::Data).is_err());
}

#[test]
fn headers_with_values_that_no_writer_stores_are_refused_at_their_place() {
    type Change = fn(&mut [u8]);
    let with = |change: Change| {
        let mut bytes = header().to_bytes();
        change(&mut bytes);
        let crc = crc32fast::hash(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        Header::parse(&bytes).map_err(|damage| damage.offset)
    };
    assert_eq!(with(|_| ()), Ok(header()));
    let cases: [(Change, u64); 17] = [
        (|bytes| bytes[0] = 0, 0),
        (|bytes| bytes[8] = 2, 8),
        (|bytes| bytes[8] = 0, 8),
        (|bytes| bytes[10] = 1, 10),
        (|bytes| bytes[12] = 1, 12),
        (|bytes| bytes[32] = 0, 32),
        (|bytes| bytes[40] = 3, 40),
        (|bytes| bytes[40] = 0, 48),
        (|bytes| bytes[48..56].fill(0xff), 48),
        (|bytes| bytes[56] = 4, 56),
        (|bytes| bytes[72..80].fill(0xff), 72),
        (|bytes| bytes[80..88].fill(0), 80),
        (|bytes| bytes[80..88].fill(0xff), 80),
        (|bytes| bytes[88] = 1, 88),
        (|bytes| bytes[104..108].fill(0), 104),
        (|bytes| bytes[108..112].fill(0xff), 108),
        (|bytes| bytes[120] = 1, 120),
    ];
    for (change, offset) in cases {
        assert_eq!(with(change), Err(offset));
    }
    assert!(Header::parse(&header().to_bytes()[..127]).is_err());
    let mut block = vec![0; 600];
    block[..HEADER_LEN].copy_from_slice(&header().to_bytes());
    block[512] = 1;
    assert_eq!(Header::parse(&block), Ok(header()), "what follows the block is not the header's");
    block[511] = 1;
    assert_eq!(Header::parse(&block).map_err(|damage| damage.offset), Err(511));
}

fn check(bytes: &[u8], offset: u64, header: &Header) {
    let Ok(batch) = Batch::parse(bytes, offset, header) else { return };
    let len = batch.head().len as usize;
    assert!(len <= bytes.len() && len <= header.batch_len as usize);
    let mut next = batch.head().first_seq;
    let mut frames = batch.frames();
    for step in frames.by_ref() {
        let Ok(Frame { seq, kind, offset: at, payload, carry: _ }) = step else {
            break;
        };
        assert_eq!(seq, next);
        next += u64::from(kind == Kind::Data);
        let at = (at - offset) as usize;
        let end = at + FRAME_HEADER_LEN + payload.len();
        assert!(end + 4 <= len);
        let mut crc = crc32fast::Hasher::new_with_initial(header.salt);
        crc.update(&bytes[at..end]);
        assert_eq!(bytes[end..end + 4], crc.finalize().to_le_bytes());
        if kind == Kind::Meta {
            assert!(entries(payload, 0).count() <= payload.len());
        }
    }
    assert_eq!((frames.next(), frames.next()), (None, None));
}

/// Random and mutated bytes: nothing panics, and what is handed out has its checksum.
#[test]
fn arbitrary_bytes_are_survived() {
    let header = header();
    let good = batch(&[
        plain(17, Kind::Data, b"alpha"),
        plain(18, Kind::Meta, &[6, 0, 0, 0, 2, 0, 0, 0, 1, 2, 0, 0]),
        plain(18, Kind::Truncate, &15u64.to_le_bytes()),
        plain(18, Kind::Data, b""),
    ]);
    let (count, rounds) = if cfg!(miri) { (1, 50) } else { (4, 20_000) };
    for seed in seeds(count) {
        println!("CHRONICLE_SEED={seed}");
        let mut random = Seeded::new(seed);
        for _ in 0..rounds {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            if random.below(2) == 0 {
                mend(&mut bytes, &header, &mut random);
            }
            bytes.truncate(random.below(bytes.len() * 2).min(bytes.len()));
            check(&bytes, 1024, &header);
            let len = random.below(700);
            let noise = random.bytes(len);
            check(&noise, 1024, &header);
            _ = Header::parse(&noise);
            assert!(entries(&noise, u64::MAX - 100).count() <= noise.len() + 1);
        }
    }
}

/// Makes checksums right again, so that what lies behind them is reached.
fn mend(bytes: &mut [u8], header: &Header, random: &mut Seeded) {
    let mut at = 0;
    while at + FRAME_OVERHEAD <= bytes.len() && random.below(8) != 0 {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let end = at + FRAME_HEADER_LEN + len;
        if end + 4 > bytes.len() {
            break;
        }
        let mut crc = crc32fast::Hasher::new_with_initial(header.salt);
        crc.update(&bytes[at..end]);
        bytes[end..end + 4].copy_from_slice(&crc.finalize().to_le_bytes());
        at = end + 4;
    }
}
