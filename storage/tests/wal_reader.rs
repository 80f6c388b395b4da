//! What a reader sees: what is durable, in order, once; from this and other processes; live, across rolls, retirements,
//! recycled files, deaths and takeovers.

mod wal_log;

use chronicle_core::wal::Kind;
use chronicle_platform::sim::Sim;
use chronicle_storage::wal::{
    Options, ReadError, ReaderOptions, SegmentState, SyncPolicy, Threads, Waited, Wal, WalReader, Writer, inspect,
    verify,
};
use std::{path::Path, time::Duration};
use wal_log::*;

const DIR: &str = "/log";

fn reader(sim: &Sim, from: u64) -> WalReader<Sim> {
    WalReader::open(sim, DIR, from, ReaderOptions::default()).unwrap()
}

/// Reads what is there; the seqs.
fn rest(reader: &mut WalReader<Sim>) -> Vec<u64> {
    let mut seqs = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.payload, payload(record.seq));
        assert!(!record.unproven);
        seqs.push(record.seq);
    }
    seqs
}

#[test]
fn another_process_follows_a_living_writer_across_segments() {
    let sim = Sim::new(1);
    let (wal, _) = Wal::open(&sim, DIR, &small()).unwrap();
    write(&wal, 1);
    let other = sim.start_process();
    let mut tail = reader(&other, 0);
    let mut seen = rest(&mut tail);
    for last in 2..=120 {
        wal.append(&payload(last)).unwrap();
        // A roll makes durable what it ends and begins, asked for or not.
        let early = rest(&mut tail);
        assert!(early.iter().all(|seq| *seq <= wal.durable()), "record {last} is not durable yet");
        seen.extend(early);
        wal.commit(last).unwrap();
        seen.extend(rest(&mut tail));
        assert_eq!(seen.last(), Some(&last));
    }
    assert_eq!(seen, (1..=120).collect::<Vec<_>>());
    assert!(segments(&sim, Path::new(DIR)).len() > 5);
    for from in [1, 2, 60, 119, 120] {
        assert_eq!(rest(&mut reader(&other, from)), (from..=120).collect::<Vec<_>>());
    }
    // Records that do not exist yet.
    let mut later = reader(&other, 123);
    assert!(rest(&mut later).is_empty());
    write(&wal, 125);
    assert_eq!(rest(&mut later), [123, 124, 125]);
}

#[test]
fn what_is_not_durable_is_not_presented() {
    let sim = Sim::new(1);
    let (wal, _) = Wal::open(&sim, DIR, &Options { sync: SyncPolicy::OnCommit, ..small() }).unwrap();
    write(&wal, 5);
    let other = sim.start_process();
    let mut tail = reader(&other, 1);
    assert_eq!(rest(&mut tail), [1, 2, 3, 4, 5]);
    for seq in 6..=30 {
        wal.append(&payload(seq)).unwrap();
    }
    while wal.drive() {}
    // Nobody asked for it; a roll may have made some of it durable.
    let proved = wal.durable();
    assert!((5..30).contains(&proved));
    assert_eq!(rest(&mut tail), (6..=proved).collect::<Vec<_>>());
    assert_eq!(rest(&mut reader(&other, 1)), (1..=proved).collect::<Vec<_>>());
    sim.kill();
    drop(wal);
    assert!(rest(&mut tail).is_empty(), "nobody has proved it");
    assert_eq!(tail.wait(Duration::from_secs(1)).unwrap(), Waited::NoWriter);
    // Who asks for it gets it marked.
    let options = ReaderOptions { unproven: true, ..ReaderOptions::default() };
    let mut asked = WalReader::open(&other, DIR, 1, options).unwrap();
    let mut marked = Vec::new();
    while let Some(record) = asked.next().unwrap() {
        assert_eq!(record.payload, payload(record.seq));
        marked.push((record.seq, record.unproven));
    }
    assert!(marked.len() as u64 > proved, "{marked:?}");
    assert!(marked.iter().all(|(seq, unproven)| *unproven == (*seq > proved)), "{marked:?}");
    let last = marked.last().unwrap().0;
    // The next writer makes them durable, then they are served; to nobody twice.
    let (wal, recovery) = Wal::open(&other, DIR, &small()).unwrap();
    assert_eq!(recovery.last_seq(), Some(last));
    write(&wal, 40);
    assert_eq!(rest(&mut tail), (proved + 1..=40).collect::<Vec<_>>());
    assert_eq!(rest(&mut asked), (last + 1..=40).collect::<Vec<_>>());
}

/// Readers that stand anywhere, over any number of deaths.
#[test]
fn a_takeover_is_followed_without_gap_or_repeat() {
    for seed in 0..30u64 {
        let mut sim = Sim::new(seed);
        let mut readers: Vec<(WalReader<Sim>, Vec<u64>)> = Vec::new();
        let watcher = sim.start_process();
        let mut last = 0;
        for round in 0..6 {
            let (wal, recovery) = Wal::open(&sim, DIR, &small()).unwrap();
            assert_eq!(recovery.last_seq().unwrap_or(0), last);
            for seq in last + 1..=last + 1 + seed % 9 + round {
                write(&wal, seq);
                last = seq;
                for (n, (reader, seen)) in readers.iter_mut().enumerate() {
                    if !(seq + n as u64).is_multiple_of(3) {
                        seen.extend(rest(reader));
                    }
                }
            }
            readers.push((reader(&watcher, 1), Vec::new()));
            match (seed + round) % 3 {
                0 => wal.close().unwrap(),
                _ => {
                    let next = sim.start_process();
                    sim.kill();
                    sim = next;
                    drop(wal);
                }
            }
        }
        for (reader, seen) in &mut readers {
            seen.extend(rest(reader));
            assert_eq!(*seen, (1..=last).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

#[test]
fn control_frames_are_handed_out_once_and_as_they_were_appended() {
    let mut sim = Sim::new(9);
    let watcher = sim.start_process();
    let options = ReaderOptions { controls: true, ..ReaderOptions::default() };
    let mut tail = None;
    let (mut expected, mut seen) = (Vec::new(), Vec::new());
    for round in 0..8u64 {
        let (wal, _) = Wal::open(&sim, DIR, &small()).unwrap();
        for n in 0..5 {
            let seq = wal.append(&payload(wal.next_seq())).unwrap();
            expected.push((seq, Kind::Data, payload(seq)));
            for (kind, bytes) in [(Kind::Vote, vec![round as u8; 3]), (Kind::Meta, vec![n as u8; 9])] {
                wal.append_control(kind, &bytes).unwrap();
                expected.push((seq + 1, kind, bytes));
            }
            let after = (seq - 1).to_le_bytes().to_vec();
            wal.append_control(Kind::Truncate, &after).unwrap();
            expected.push((seq + 1, Kind::Truncate, after));
            wal.commit_all().unwrap();
            let tail = tail.get_or_insert_with(|| WalReader::open(&watcher, DIR, 1, options).unwrap());
            if n != 3 {
                while let Some(frame) = tail.next().unwrap() {
                    seen.push((frame.seq, frame.kind, frame.payload.to_vec()));
                }
            }
        }
        let next = sim.start_process();
        sim.kill();
        sim = next;
        drop(wal);
    }
    let tail = tail.as_mut().unwrap();
    while let Some(frame) = tail.next().unwrap() {
        seen.push((frame.seq, frame.kind, frame.payload.to_vec()));
    }
    assert!(seen == expected, "{} of {} frames", seen.len(), expected.len());
    let mut again = WalReader::open(&watcher, DIR, 1, options).unwrap();
    let mut count = 0;
    while let Some(frame) = again.next().unwrap() {
        assert_eq!((frame.seq, frame.kind, frame.payload.to_vec()), expected[count]);
        count += 1;
    }
    assert_eq!(count, expected.len());
}

#[test]
fn a_reader_whose_segment_is_retired_is_told_what_is_left() {
    let sim = Sim::new(1);
    let (wal, _) = Wal::open(&sim, DIR, &small()).unwrap();
    write(&wal, 60);
    let other = sim.start_process();
    // One in the middle of the first segment, one before it, one that has read all.
    let (mut inside, mut before, mut all) = (reader(&other, 1), reader(&other, 1), reader(&other, 1));
    for seq in 1..=3 {
        assert_eq!(inside.next().unwrap().unwrap().seq, seq);
    }
    assert_eq!(rest(&mut all).len(), 60);
    for last in (65..=160).step_by(5) {
        write(&wal, last);
        wal.truncate_before(last - 20);
        wal.maintain().unwrap();
    }
    assert!(wal.stats().recycled > 3, "their files are used again");
    for reader in [&mut inside, &mut before] {
        let mut seen = reader.next_seq() - 1;
        let first_seq = loop {
            match reader.next() {
                Ok(Some(record)) => {
                    // What was in its memory by then.
                    assert_eq!((record.seq, record.payload), (seen + 1, &payload(seen + 1)[..]));
                    seen += 1;
                }
                Err(ReadError::Gone { first_seq }) => break first_seq,
                other => panic!("{other:?}"),
            }
        };
        assert!(first_seq > 60 && first_seq <= 140, "{first_seq}");
        assert!(matches!(reader.next(), Err(ReadError::Gone { .. })), "told again until it seeks");
        assert!(matches!(reader.seek(1), Err(ReadError::Gone { .. })));
        reader.seek(first_seq).unwrap();
        assert_eq!(rest(reader), (first_seq..=160).collect::<Vec<_>>());
    }
    assert!(matches!(all.next(), Err(ReadError::Gone { .. })));
    let mut oldest = reader(&other, 0);
    assert!(oldest.next_seq() > 60);
    assert_eq!(rest(&mut oldest).last(), Some(&160));
}

#[test]
fn a_reader_waits_and_is_woken() {
    let sim = Sim::new(1);
    let (wal, _) = Wal::open(&sim, DIR, &small()).unwrap();
    write(&wal, 3);
    let mut tail = reader(&sim.start_process(), 1);
    assert_eq!(tail.wait(Duration::from_secs(1)).unwrap(), Waited::Ready);
    assert_eq!(rest(&mut tail).len(), 3);
    assert_eq!(tail.wait(Duration::from_millis(250)).unwrap(), Waited::TimedOut);
    wal.close().unwrap();
    assert_eq!(tail.wait(Duration::from_secs(1)).unwrap(), Waited::NoWriter);
    let (wal, _) = Wal::open(&sim, DIR, &small()).unwrap();
    write(&wal, 4);
    assert_eq!(tail.wait(Duration::from_secs(1)).unwrap(), Waited::Ready);
    assert_eq!(rest(&mut tail), [4]);
}

#[cfg(target_os = "linux")]
#[test]
fn readers_on_real_files_follow_a_writer_at_work() {
    use chronicle_platform_linux::Linux;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let options = Options { threads: Threads::Own, ..small() };
    let linux = Linux;
    let (wal, _) = Wal::open(&linux, &dir, &options).unwrap();
    write(&wal, 1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let linux = Linux;
                let mut reader = WalReader::open(&linux, &dir, 1, ReaderOptions::default()).unwrap();
                let mut next = 1;
                while next <= 2000 {
                    match reader.wait(Duration::from_secs(20)).unwrap() {
                        Waited::Ready => {}
                        other => panic!("{other:?} before record {next}"),
                    }
                    while let Some(record) = reader.next().unwrap() {
                        assert_eq!((record.seq, record.payload), (next, &payload(next)[..]));
                        next += 1;
                    }
                }
            });
        }
        for seq in 2..=2000 {
            wal.append(&payload(seq)).unwrap();
            if seq % 7 == 0 || seq == 2000 {
                wal.commit(seq).unwrap();
            }
        }
    });
    let described = inspect(&linux, &dir).unwrap();
    assert_eq!(described.writer, Writer::Alive { durable_seq: Some(2000), poisoned: false });
    assert_eq!(verify(&linux, &dir, &mut |problem| panic!("{problem}")).unwrap().records, 2000);
    wal.close().unwrap();
    let described = inspect(&linux, &dir).unwrap();
    assert_eq!(described.writer, Writer::None);
    let recovery = described.recovery.unwrap();
    assert_eq!((recovery.last_seq(), recovery.clean), (Some(2000), true));
    let (last, ended) = described.segments.split_last().unwrap();
    assert_eq!(last.state, SegmentState::Closed);
    assert!(ended.iter().all(|segment| segment.state == SegmentState::Ended && segment.fault.is_none()));
    let records: u64 = described.segments.iter().map(|segment| segment.batches.unwrap().records).sum();
    assert_eq!(records, 2000);
    serde_json::to_string(&inspect(&linux, &dir).unwrap()).unwrap();
}

/// The oldest record is another one at any moment: who asks for the oldest gets what is the oldest then.
#[cfg(target_os = "linux")]
#[test]
fn a_reader_finds_the_oldest_record_while_segments_are_retired() {
    use chronicle_platform_linux::Linux;
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { segment_len: 128 << 10, batch_len: 8 << 10, retain_bytes: Some(512 << 10), ..Options::default() };
    let (wal, _) = Wal::open(&Linux, dir.path(), &options).unwrap();
    let done = AtomicBool::new(false);
    let opened = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                last = wal.append(&payload(last + 1)).unwrap();
                if last % 64 == 0 {
                    wal.commit(last).unwrap();
                }
            }
        });
        let (began, mut opened) = (std::time::Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(1) || wal.stats().retired < 20 {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", wal.stats());
            match WalReader::open(&Linux, dir.path(), 0, ReaderOptions::default()) {
                Ok(_) => opened += 1,
                // Ten other ones were the oldest meanwhile.
                Err(ReadError::Failed(chronicle_storage::Error::Busy { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        opened
    });
    assert!(opened > 0);
}
