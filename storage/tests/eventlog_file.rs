//! A log file is what was written to it: byte for byte as the format says, after any reopening, however it grew; and what
//! is no such file, or no longer, is refused with the place where it shows.

use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{
    Error, ErrorKind,
    eventlog::{EventHeader, LogReader, MmapReader, MmapWriter, Options, SpscRingBuffer, WriteError},
};
use std::path::Path;

const LOG: &str = "/events.evtl";
const SMALL: Options =
    Options { capacity: 640 << 10, max_bytes: u64::MAX, step: 1 << 16, checksums: true, helper: false };

fn payload(seq: u64) -> Vec<u8> {
    (0..seq * 7 % 101).map(|at| (seq.wrapping_mul(0x9e37_79b9) >> (at % 32)) as u8).collect()
}

fn write(log: &mut MmapWriter<Sim>, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        let payload = payload(seq);
        let header = EventHeader { flags: seq as u8, ..EventHeader::new(seq, 3, payload.len() as u16) };
        log.write_event(&header, &payload).unwrap();
    }
}

#[track_caller]
fn holds<P: Platform>(reader: &MmapReader<P>, count: u64) {
    let mut seq = 0;
    let replayed = reader.replay(|event| {
        let expected = payload(seq);
        let mut found = vec![0; event.payload.len()];
        event.payload.copy_to(&mut found);
        assert_eq!((event.header.timestamp, event.header.event_type, event.header.flags), (seq, 3, seq as u8));
        assert_eq!((event.header.reserved, found), (0, expected), "event {seq}");
        seq += 1;
    });
    assert_eq!(replayed.unwrap(), count);
    assert_eq!(reader.event_count(), count);
    assert_eq!(reader.iter().filter(|event| event.is_ok()).count() as u64, count);
}

fn content(sim: &Sim) -> Vec<u8> {
    let file = sim.open(Path::new(LOG), Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn put(sim: &Sim, bytes: &[u8]) {
    let file = sim.open(Path::new(LOG), Open::Ensure).unwrap();
    file.set_len(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

fn refused(sim: &Sim) -> (Error, Error) {
    let open = MmapWriter::open_with(sim, LOG, SMALL).map(drop).expect_err("a writer opened it");
    let read = MmapReader::open_on(sim, LOG).and_then(|reader| reader.replay(|_| {}));
    (open, read.expect_err("a reader read it"))
}

/// The CRC-32 of zlib, bit by bit, to have it from somewhere else.
fn crc(start: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn the_bytes_are_those_of_the_format() {
    for checksums in [true, false] {
        let sim = Sim::new(1);
        sim.set_now_ns(1_700_000_000_999_999_999);
        let mut log = MmapWriter::create_with(&sim, LOG, Options { checksums, ..SMALL }).unwrap();
        log.write_event(&EventHeader { flags: 7, ..EventHeader::new(0x0102_0304_0506_0708, 9, 5) }, b"hello").unwrap();
        log.write_event(&EventHeader::new(1, 2, 0), b"").unwrap();
        drop(log);
        let bytes = content(&sim);
        assert_eq!(bytes.len(), 640 << 10);
        assert_eq!(&bytes[..8], b"EVTL\x01\0\0\0");
        assert_eq!(bytes[8..16], 1_700_000_000_u64.to_le_bytes());
        assert_eq!(bytes[16..24], 2_u64.to_le_bytes());
        assert_eq!(bytes[24..32], (64_u64 + 21 + 16).to_le_bytes());
        assert_eq!(bytes[32..36], if checksums { 3_u32 } else { 1 }.to_le_bytes());
        assert_eq!(bytes[36..64], [[0; 4], 2_u32.to_le_bytes(), [0; 4], [0; 4], [0; 4], [0; 4], [0; 4]].concat());
        let mut event = [8, 7, 6, 5, 4, 3, 2, 1, 9, 7, 5, 0, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'];
        let sum = if checksums { crc(64, &event) } else { 0 };
        event[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(bytes[64..85], event);
        let mut event = [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        let sum = if checksums { crc(85, &event) } else { 0 };
        event[12..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(bytes[85..101], event);
        assert!(bytes[101..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_file_of_another_program_is_read_and_gone_on_with() {
    // As ringlog leaves it: nothing behind byte 32 of its header, no checksums, and a length that is its own affair.
    let mut bytes = b"EVTL\x01\0\0\0".to_vec();
    bytes.extend([77, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(3_u64.to_le_bytes());
    bytes.extend([0; 40]);
    for seq in 0..3_u64 {
        bytes.extend(seq.to_le_bytes());
        let payload = payload(seq);
        bytes.extend([3, seq as u8, payload.len() as u8, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
    }
    let end = bytes.len();
    bytes[24..32].copy_from_slice(&(end as u64).to_le_bytes());
    assert_ne!(end % 4, 0, "the last event ends inside a word");
    for slack in [0, 1, 2, 3, 4, 5000] {
        let sim = Sim::new(slack);
        let mut bytes = bytes.clone();
        bytes.resize(end + slack as usize, 0);
        put(&sim, &bytes);
        let reader = MmapReader::open_on(&sim, LOG).unwrap();
        assert_eq!((reader.created_at(), reader.has_checksums()), (77, false));
        holds(&reader, 3);
        drop(reader);
        let mut log = MmapWriter::open_with(&sim, LOG, SMALL).unwrap();
        assert_eq!((log.event_count(), log.write_offset()), (3, end as u64));
        write(&mut log, 3..40);
        drop(log);
        holds(&MmapReader::open_on(&sim, LOG).unwrap(), 40);

        // Its count is its word: another number is damage, here and there.
        bytes[16] ^= 1;
        put(&sim, &bytes);
        let (open, read) = refused(&sim);
        assert_eq!((open.offset(), read.offset()), (Some(16), Some(16)), "{open}; {read}");
    }
}

#[test]
fn reopening_appends_and_growing_changes_nothing() {
    let sim = Sim::new(2);
    let mut log = MmapWriter::create_with(&sim, LOG, SMALL).unwrap();
    write(&mut log, 0..5_000);
    drop(log);
    // Over the end of what was prepared, and over the end of several parts.
    for (from, to) in [(5_000, 5_001), (5_001, 12_000), (12_000, 13_000)] {
        let mut log = MmapWriter::open_with(&sim, LOG, SMALL).unwrap();
        assert_eq!(log.event_count(), from);
        write(&mut log, from..to);
        assert!(matches!(MmapWriter::open_with(&sim, LOG, SMALL), Err(Error::Locked { .. })));
        assert!(matches!(MmapWriter::create_with(&sim, LOG, SMALL), Err(Error::Locked { .. })));
        drop(log);
        holds(&MmapReader::open_on(&sim, LOG).unwrap(), to);
    }
    assert!(content(&sim).len() > 704 << 10, "it has grown");
}

#[test]
fn a_reader_sees_what_is_committed_and_refreshes_what_has_grown() {
    let sim = Sim::new(3);
    let mut log = MmapWriter::create_with(&sim, LOG, SMALL).unwrap();
    let mut reader = MmapReader::open_on(&sim, LOG).unwrap();
    holds(&reader, 0);
    write(&mut log, 0..10);
    holds(&reader, 10);
    let at = payload(10);
    log.stage(&EventHeader { flags: 10, ..EventHeader::new(10, 3, at.len() as u16) }, &at).unwrap();
    holds(&reader, 10);
    log.commit();
    holds(&reader, 11);
    write(&mut log, 11..13_000);
    reader.refresh().unwrap();
    holds(&reader, 13_000);
    // A new log takes the name; who reads the old one goes on reading it.
    drop(log);
    let created = MmapWriter::create_with(&sim, LOG, SMALL).unwrap();
    assert_eq!(created.event_count(), 0);
    holds(&reader, 13_000);
    holds(&MmapReader::open_on(&sim, LOG).unwrap(), 0);
}

#[test]
fn a_log_at_its_limit_refuses_and_keeps_what_landed() {
    for helper in [false, true] {
        let sim = Sim::new(4);
        let options = Options { capacity: 4096, max_bytes: 64 << 10, helper, ..SMALL };
        let mut log = MmapWriter::create_with(&sim, LOG, options).unwrap();
        let header = EventHeader::new(1, 2, 1000);
        let mut landed = 0;
        let refused = loop {
            match log.write_event(&header, &[5; 1000]) {
                Ok(()) => landed += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(landed, ((64 << 10) - 64) / 1016);
        let left = (64 << 10) - 64 - landed * 1016;
        assert_eq!(refused, WriteError::NotEnoughSpace { required: 1016, available: left });
        assert_eq!(log.try_write_event(&header, &[5; 1000]), Err(refused));
        assert_eq!(log.event_count(), landed);
        log.write_event(&EventHeader::new(1, 2, left as u16 - 16), &vec![5; left as usize - 16]).unwrap();
        drop(log);
        let reader = MmapReader::open_on(&sim, LOG).unwrap();
        assert_eq!(reader.replay(|_| {}).unwrap(), landed + 1);
        assert_eq!(reader.event_count(), landed + 1);
        let options = Options { capacity: 1 << 20, ..options };
        assert!(matches!(MmapWriter::create_with(&sim, "/other", options), Err(Error::Options { .. })));
        let options = Options { capacity: u64::MAX, max_bytes: u64::MAX, ..options };
        assert!(matches!(MmapWriter::create_with(&sim, "/other", options), Err(Error::Options { .. })));
    }
}

#[test]
fn a_refused_event_stays_in_the_ring() {
    let sim = Sim::new(5);
    let options = Options { capacity: 4096, max_bytes: 4096, ..SMALL };
    let mut log = MmapWriter::create_with(&sim, LOG, options).unwrap();
    let (mut producer, mut consumer) = SpscRingBuffer::new(1 << 16).unwrap().split();
    for seq in 0..5 {
        producer.write_event(&EventHeader::new(seq, 1, 1000), &[seq as u8; 1000]).unwrap();
    }
    let refused = log.drain_from(&mut consumer, 100).unwrap_err();
    assert!(matches!(refused, WriteError::NotEnoughSpace { required: 1016, .. }), "{refused}");
    assert_eq!(log.event_count(), 3);
    assert_eq!(log.drain_from(&mut consumer, 100).unwrap_err(), refused);
    assert!(!consumer.is_empty());
    let mut second = MmapWriter::create_with(&sim, "/second", options).unwrap();
    assert_eq!(second.drain_from(&mut consumer, 1), Ok(1));
    assert_eq!(second.drain_from(&mut consumer, 100), Ok(1));
    assert!(consumer.is_empty());
    let seqs: Vec<u64> = [LOG, "/second"]
        .iter()
        .flat_map(|path| {
            let reader = MmapReader::open_on(&sim, path).unwrap();
            reader.iter().map(|event| event.unwrap().header.timestamp).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(seqs, [0, 1, 2, 3, 4]);
}

#[test]
fn what_is_no_log_is_refused() {
    let sim = Sim::new(6);
    let missing = MmapWriter::open_with(&sim, LOG, SMALL).unwrap_err();
    assert!(missing.is_not_found());
    assert!(MmapReader::open_on(&sim, LOG).unwrap_err().is_not_found());
    for (bytes, says) in [
        (&b""[..], "64 bytes needed, 0 there"),
        (b"not a valid log file", "64 bytes needed, 20 there"),
        (&[b'x'; 100], "magic is \"xxxxxxxx\", not ours"),
        (&[0; 4096], "not ours"),
    ] {
        put(&sim, bytes);
        let (open, read) = refused(&sim);
        assert!(open.to_string().contains(says), "{open}");
        assert_eq!((open.to_string(), open.kind()), (read.to_string(), ErrorKind::Damage));
    }
}

#[test]
fn any_byte_that_changes_is_found() {
    let sim = Sim::new(7);
    let mut log = MmapWriter::create_with(&sim, LOG, Options { capacity: 4096, ..SMALL }).unwrap();
    write(&mut log, 0..20);
    drop(log);
    let whole = content(&sim);
    let end = MmapReader::open_on(&sim, LOG).unwrap().write_offset() as usize;
    for at in (0..8).chain(16..28).chain(33..36).chain(64..end) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        put(&sim, &bytes);
        let (open, read) = refused(&sim);
        assert_eq!((open.kind(), read.kind()), (ErrorKind::Damage, ErrorKind::Damage), "byte {at}: {open}; {read}");
        // An offset that lies is seen where it leads to.
        assert!(open.offset().unwrap() <= at as u64 || (24..32).contains(&at), "byte {at}: {open}");
    }
    // Cut anywhere before its end.
    for len in 0..end {
        put(&sim, &whole[..len]);
        let (open, read) = refused(&sim);
        assert_eq!((open.kind(), read.kind()), (ErrorKind::Damage, ErrorKind::Damage), "{len} bytes: {open}; {read}");
    }
    // Without the flag of our words the log is read as another program's, by those that it has too.
    let mut bytes = whole;
    bytes[32] ^= 1;
    put(&sim, &bytes);
    holds(&MmapReader::open_on(&sim, LOG).unwrap(), 20);
}

#[test]
fn hostile_bytes_give_an_error_or_an_answer() {
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..if cfg!(miri) { 20 } else { 20_000 } {
        let region = chronicle_core::HeapRegion::new(256);
        use chronicle_core::RegionMut;
        let window = region.window_mut();
        for at in (0..256).step_by(4) {
            window.store(at, if next() % 3 == 0 { next() as u32 } else { 0 });
        }
        window.copy_in(0, b"EVTL\x01\0\0\0");
        window.store64(24, next() % 300);
        window.store(32, next() as u32 % 4);
        if let Ok(reader) = LogReader::attach(&region) {
            let seen = reader.iter().map(|event| event.map_or(0, |event| event.payload.len())).sum::<usize>();
            assert!(seen <= 256, "round {round}");
            _ = reader.replay(|_| {});
            // And the header's words change under the reader.
            for at in [16, 20, 24, 28, 32, 36, 40] {
                window.store(at, if next() % 2 == 0 { next() as u32 } else { next() as u32 % 300 });
            }
            let most = 1 + 256 / EventHeader::SIZE;
            assert!(reader.iter().size_hint().1.is_some_and(|events| events <= most), "round {round}");
            assert!(reader.iter().count() <= most, "round {round}");
            _ = (reader.replay(|_| {}), reader.event_count(), reader.write_offset());
        }
    }
}
