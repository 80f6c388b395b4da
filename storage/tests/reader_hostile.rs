//! Whatever bytes a file holds, reading it must end with frames that were written, or with damage that has a place:
//! never a panic, never a hang, never memory for a length that the file does not have.

use chronicle_core::{
    Append, Checksum, Spec, frame,
    layout::{FRAME_HEADER_LEN, HEADER_LEN, SEQ_END},
};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{
    Error, ErrorKind,
    partition::{PartitionFile, PartitionWriter, Tail},
    reader::FrameFile,
    root::{PartitionId, Stream},
};
use std::path::Path;
use zerocopy::IntoBytes;

const PATH: &str = "/d/book.q";

fn id() -> PartitionId {
    let date = "2024-03-01".parse().unwrap();
    PartitionId::new("v".parse().unwrap(), "s".parse().unwrap(), date, Stream::Book)
}

/// A file's bytes, with `frames` frames, sealed or not.
fn file(frames: u64, sealed: bool) -> Vec<u8> {
    let sim = Sim::new(1);
    let mut writer = PartitionWriter::create(&sim, Path::new(PATH), &id()).unwrap();
    for n in 1..=frames {
        let payload = vec![n as u8; (n * 17 % 71) as usize];
        writer.append(Append { time_ns: 1000 - n % 3, type_id: 1, flags: 0 }, &payload).unwrap();
    }
    if sealed {
        writer.seal().unwrap()
    } else {
        writer.flush().unwrap()
    };
    chronicle_storage::meta::read_small(&sim, Path::new(PATH), 1 << 20).unwrap()
}

/// Frames read, and how it ended.
fn read(bytes: &[u8], required: u64) -> (u64, Result<Tail, Error>) {
    let sim = Sim::new(1);
    sim.create_dirs(Path::new("/d")).unwrap();
    sim.open(Path::new(PATH), Open::Create).unwrap().write_at(bytes, 0).unwrap();
    let mut file = match FrameFile::open(&sim, Path::new(PATH)) {
        Ok(file) => file,
        Err(error) => return (0, Err(error)),
    };
    file.require(required);
    let mut n = 0;
    loop {
        match file.next() {
            Ok(Some(frame)) => {
                n += 1;
                assert_eq!(frame.seq, n);
                let payload = frame.payload.as_slice(None).unwrap();
                assert_eq!(payload, vec![n as u8; (n * 17 % 71) as usize]);
            }
            Ok(None) => return (n, Ok(file.tail())),
            Err(error) => return (n, Err(error)),
        }
    }
}

fn damage(result: Result<Tail, Error>, what: &str) -> u64 {
    match result {
        Err(error) if error.kind() == ErrorKind::Damage => {
            let text = error.to_string();
            assert!(text.starts_with(&format!("{PATH}: offset ")), "{what}: {text}");
            error.offset().unwrap()
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn every_flip_in_a_sealed_file_is_damage_at_its_frame() {
    let good = file(12, true);
    assert!(matches!(read(&good, 0), (12, Ok(Tail::Sealed))));
    for at in 0..good.len() {
        for bit in [0, 7] {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let what = format!("flip of bit {bit} at {at}");
            let (_, result) = read(&bad, 0);
            let offset = damage(result, &what);
            assert!(offset <= at.max(127) as u64 && offset + 120 > at as u64, "{what}: offset {offset}");
        }
    }
}

#[test]
fn every_cut_of_a_sealed_file_is_damage() {
    let good = file(12, true);
    for len in 0..good.len() {
        let (_, result) = read(&good[..len], 0);
        let offset = damage(result, &format!("cut to {len}"));
        assert!(offset <= len as u64);
    }
    let mut longer = good.clone();
    longer.extend_from_slice(&[0; 32]);
    damage(read(&longer, 0).1, "a tail behind End");
}

#[test]
fn a_growing_file_ends_in_front_of_what_is_torn_and_damage_is_told_apart() {
    let good = file(12, false);
    let len = good.len() as u64;
    assert!(matches!(read(&good, len), (12, Ok(Tail::Open))));
    // Cut: torn if nothing is known, damage if a checkpoint says that there was more.
    for cut in HEADER_LEN..good.len() {
        let (n, result) = read(&good[..cut], 0);
        match result.unwrap() {
            Tail::Open => {}
            Tail::Torn { damage } => assert!(damage.offset <= cut as u64),
            other => panic!("cut to {cut}: {other:?}"),
        }
        assert!(n < 12);
        damage(read(&good[..cut], len).1, &format!("cut to {cut}, {len} required"));
    }
    for at in HEADER_LEN..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let (n, result) = read(&bad, 0);
        assert!(matches!(result, Ok(Tail::Torn { .. })) && n < 12, "flip at {at}: {n} {result:?}");
        damage(read(&bad, len).1, &format!("flip at {at}, all required"));
    }
    // Zeros and noise behind the end are what a crash leaves there.
    for fill in [0, 0xff] {
        let mut torn = good.clone();
        torn.resize(good.len() + 4096, fill);
        assert!(matches!(read(&torn, len), (12, Ok(Tail::Torn { .. }))));
    }
}

/// A commit word that claims a gigabyte must not become an allocation of one.
#[test]
fn a_length_is_checked_against_the_file_before_memory_is_taken() {
    let good = file(3, false);
    let mut bad = good.clone();
    let giant = FRAME_HEADER_LEN as u32 + (1 << 30) - 200;
    let header = frame::header(Append::default(), 4, &[], id().salt(), Checksum::Frame).unwrap();
    bad.extend_from_slice(header.as_bytes());
    let at = good.len();
    for commit in [giant, u32::MAX, 0x7fff_ffff, 0x8000_0001, 1 << 30] {
        bad[at..at + 4].copy_from_slice(&commit.to_le_bytes());
        assert!(matches!(read(&bad, 0), (3, Ok(Tail::Torn { .. }))), "{commit:#x}");
        damage(read(&bad, bad.len() as u64).1, "all required");
    }
}

#[test]
fn a_frame_larger_than_the_buffer_is_read_whole() {
    let sim = Sim::new(1);
    let mut writer = PartitionWriter::create(&sim, Path::new(PATH), &id()).unwrap();
    let lens = [10, 3_000_000, 0, 262_144 - 32, 262_144, 1, 1_000_001];
    for (n, len) in lens.iter().enumerate() {
        writer.append(Append::default(), &vec![n as u8; *len]).unwrap();
    }
    writer.seal().unwrap();
    let mut file = PartitionFile::open(&sim, Path::new(PATH)).unwrap();
    for (n, len) in lens.iter().enumerate() {
        let frame = file.next().unwrap().unwrap();
        assert_eq!(frame.payload.as_slice(None).unwrap(), vec![n as u8; *len]);
    }
    assert!(file.next().unwrap().is_none());
    assert_eq!(file.tail(), Tail::Sealed);
}

#[test]
fn files_that_are_not_ours_are_told_from_ours() {
    let mut newer = file(1, true);
    newer[8] = 2;
    let queue_segment_too_short = Spec { segment_len: 4096, ..Spec::default() }.to_bytes().to_vec();
    for (bytes, what) in [
        (Vec::new(), "empty"),
        (b"{}".to_vec(), "two bytes"),
        (b"CHRONLOG".to_vec(), "magic alone"),
        (vec![0; 4096], "zeros"),
        (b"QZSTIDX1".repeat(20), "an index"),
        (b"\x28\xb5\x2f\xfd".to_vec(), "zstd's magic alone"),
        (b"\x28\xb5\x2f\xfd".repeat(100), "zstd's magic again and again"),
        (newer, "a newer version"),
        (queue_segment_too_short, "a queue's segment that was cut"),
    ] {
        damage(read(&bytes, 0).1, what);
    }
}

#[test]
fn random_bytes_never_panic() {
    let good = file(30, true);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..3000 {
        let mut bad = good.clone();
        for _ in 0..=random() % 4 {
            let at = (random() % bad.len() as u64) as usize;
            let run = (random() % 40) as usize;
            let end = (at + run).min(bad.len());
            match random() % 3 {
                0 => bad[at..end].fill(0),
                1 => bad[at..end].iter_mut().for_each(|b| *b = random() as u8),
                _ => bad.truncate(at),
            }
            if bad.is_empty() {
                break;
            }
        }
        let (n, result) = read(&bad, random() % 2 * good.len() as u64);
        assert!(n <= 30, "round {round}");
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Damage, "round {round}: {error}");
        }
    }
}

/// Valid checksums around absurd numbers: arithmetic must not be what stops the program.
#[test]
fn the_largest_seq_does_not_overflow() {
    let spec = Spec { salt: 5, ..Spec::default() };
    let mut bytes = spec.to_bytes().to_vec();
    bytes[80..92].copy_from_slice(&chronicle_core::Begin { first_seq: SEQ_END - 1 }.to_bytes(5));
    for seq in [SEQ_END - 1, SEQ_END] {
        let header = frame::header(Append::default(), seq, &[], 5, Checksum::Frame).unwrap();
        bytes.extend_from_slice(header.as_bytes());
    }
    let end = bytes.len() as u64;
    bytes.extend_from_slice(frame::end(SEQ_END + 1, 5, Checksum::Frame).as_bytes());
    let seal = chronicle_core::Seal { count: 2, end, min_time: 0, max_time: 0 };
    bytes[92..128].copy_from_slice(&seal.to_bytes(5));
    let sim = Sim::new(1);
    sim.create_dirs(Path::new("/d")).unwrap();
    sim.open(Path::new(PATH), Open::Create).unwrap().write_at(&bytes, 0).unwrap();
    let mut file = FrameFile::open(&sim, Path::new(PATH)).unwrap();
    while let Ok(Some(_)) = file.next() {}
    let _ = (file.seek_seq(0), file.seek_seq(u64::MAX), file.seek_time(u64::MAX), file.seek_snapshot(u64::MAX));
}
