//! Between the raw queue and the refinery no frame may be lost, doubled or put out of order, whoever stops when.
//!
//! A writer appends to a small queue that requires its recorder; the recorder makes files of segments; files move to
//! cold; a raw reader is opened again and again at its last cursor. The oracle is a plain vector of what was appended.

use chronicle_core::Append;
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{
    Error, ErrorKind,
    archive::{self, Options},
    meta::read_small,
    partition::PartitionFile,
    queue::{Profile, Publisher, PublisherOptions, Queue, Refused},
    raw::{self, RawCursor, RawEvent, RawReader},
    reader::{Event, open_any},
    recorder::{self, RECORDER, Recorder},
    root::{Name, Root, Tier},
};
use std::{collections::BTreeSet, path::Path};

const START: u64 = 1_709_251_200_000_000_000;

fn venue() -> Name {
    "binance-spot".parse().unwrap()
}

fn root() -> Root {
    Root::new("/root")
}

fn options() -> PublisherOptions {
    PublisherOptions {
        segment_len: 4096,
        max_bytes: 64 << 10,
        helper: false,
        required: vec![RECORDER.into()],
        ..PublisherOptions::new(Profile::Raw)
    }
}

fn publisher<P: Platform>(platform: &P, root: &Root) -> Publisher<P> {
    let path = root.raw_queue(&venue());
    platform.create_dirs(&path).unwrap();
    let mut publisher = Queue::publisher(platform, &path, options()).unwrap();
    publisher.maintain();
    publisher
}

fn payload(n: u64) -> Vec<u8> {
    (0..n * 37 % 300).map(|i| (i + n) as u8).collect()
}

fn append<P: Platform>(publisher: &mut Publisher<P>, n: u64) -> Result<u64, Refused> {
    // A day passes every 150 frames, so that files lie in several directories.
    let head = Append { time_ns: START + n * 576_000_000_000, type_id: (n % 7) as u16, flags: 0 };
    publisher.maintain();
    publisher.append(head, &payload(n))
}

fn append_all<P: Platform>(publisher: &mut Publisher<P>, range: std::ops::RangeInclusive<u64>) {
    for n in range {
        assert_eq!(append(publisher, n), Ok(n));
    }
}

fn roll<P: Platform>(publisher: &mut Publisher<P>) {
    publisher.maintain();
    publisher.roll().unwrap();
    publisher.maintain();
}

/// Reads up to `limit` frames; each must be the oracle's next one.
fn read<P: Platform>(reader: &mut RawReader<P>, next: &mut u64, limit: u64) -> u64 {
    let mut n = 0;
    while n < limit {
        match reader.next().unwrap() {
            None => break,
            Some(RawEvent::Frame(raw)) => {
                assert_eq!(raw.frame.seq, *next);
                assert_eq!(raw.frame.time_ns, START + *next * 576_000_000_000);
                assert_eq!(raw.frame.payload.as_slice(None).unwrap(), payload(*next));
                *next += 1;
            }
            Some(event) => panic!("at {next}: {event:?}"),
        }
        n += 1;
    }
    n
}

fn to_cold<P: Platform>(platform: &P, root: &Root, path: &Path) {
    let day = path.parent().unwrap().file_name().unwrap();
    let dir = root.raw(Tier::Cold, &venue()).join(day);
    platform.create_dirs(&dir).unwrap();
    archive::compress(platform, path, &dir, Options { threads: 1, ..Options::default() }, &mut |_, _| {}).unwrap();
    platform.remove(path).unwrap();
}

#[test]
fn recorded_and_hot_are_one_stream() {
    let (sim, root) = (Sim::new(1), root());
    let mut publisher = publisher(&sim, &root);
    append_all(&mut publisher, 1..=100);
    let mut next = 1;
    let mut live = RawReader::open(&sim, &root, &venue(), None).unwrap();
    read(&mut live, &mut next, u64::MAX);
    assert_eq!(next, 101, "nothing recorded yet: all of it is hot");

    let report = recorder::run(&sim, &root, &venue()).unwrap();
    assert!(report.segments > 3 && report.known == 0 && report.lost == 0 && report.laps == 0, "{report:?}");
    append_all(&mut publisher, 101..=250);
    let second = recorder::run(&sim, &root, &venue()).unwrap();
    append_all(&mut publisher, 251..=400);
    // The live reader goes on; one from the start reads files, then the queue.
    read(&mut live, &mut next, u64::MAX);
    assert_eq!(next, 401);
    let mut next = 1;
    let mut fresh = RawReader::open(&sim, &root, &venue(), None).unwrap();
    read(&mut fresh, &mut next, u64::MAX);
    assert_eq!(next, 401);
    assert_eq!(fresh.cursor().unwrap().seq, 400);
    assert_eq!(fresh.cursor(), live.cursor());

    // Rolled at the end, as an import does: everything becomes files, in the directory of its first ingest time.
    roll(&mut publisher);
    let more = recorder::run(&sim, &root, &venue()).unwrap();
    assert_eq!(report.frames + second.frames + more.frames, 400);
    let files = raw::files(&sim, &root, &venue()).unwrap();
    let days: BTreeSet<_> = files.iter().map(|file| file.date.to_string()).collect();
    assert_eq!(days.into_iter().collect::<Vec<_>>(), ["2024-03-01", "2024-03-02", "2024-03-03"]);
    let mut seq = 1;
    for file in &files {
        assert_eq!(file.name.first_seq, seq);
        let mut opened = PartitionFile::open(&sim, &file.path).unwrap();
        let first = opened.next().unwrap().unwrap().time_ns;
        assert_eq!(chronicle_storage::root::Date::of_ns(first), file.date);
        while opened.next().unwrap().is_some() {}
        seq = opened.next_seq();
        assert_eq!(opened.seal().unwrap().end + 32, read_small(&sim, &file.path, 1 << 20).unwrap().len() as u64);
    }
    assert_eq!(seq, 401);
    assert_eq!(recorder::run(&sim, &root, &venue()).unwrap(), recorder::Recorded::default());
}

/// Random turns of writer, recorder, tiers and reader.
#[test]
fn any_order_of_turns_gives_one_stream() {
    for seed in 0..20u64 {
        let (sim, root) = (Sim::new(seed), root());
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut publisher = Some(publisher(&sim, &root));
        let (mut written, mut next) = (0, 1);
        let mut cursor: Option<RawCursor> = None;
        let mut reader = RawReader::open(&sim, &root, &venue(), None).unwrap();
        for _ in 0..250 {
            match random(10) {
                0..4 => {
                    let publisher = publisher.get_or_insert_with(|| self::publisher(&sim, &root));
                    for _ in 0..random(30) {
                        match append(publisher, written + 1) {
                            Ok(_) => written += 1,
                            // Until the recorder has its turn.
                            Err(Refused::QueueFull { .. }) => break,
                            Err(refused) => panic!("seed {seed}: {refused}"),
                        }
                    }
                }
                4 if written > 0 => {
                    let publisher = publisher.get_or_insert_with(|| self::publisher(&sim, &root));
                    publisher.maintain();
                    match publisher.roll() {
                        Ok(()) | Err(Refused::QueueFull { .. }) => {}
                        Err(refused) => panic!("seed {seed}: {refused}"),
                    }
                }
                5 | 6 => _ = recorder::run(&sim, &root, &venue()).unwrap(),
                7 => {
                    let files = raw::files(&sim, &root, &venue()).unwrap();
                    let warm: Vec<_> = files.iter().filter(|file| file.tier == Tier::Warm).collect();
                    if !warm.is_empty() {
                        to_cold(&sim, &root, &warm[random(warm.len() as u64) as usize].path);
                    }
                }
                8 => {
                    if random(3) == 0 {
                        publisher = None;
                    }
                    reader = RawReader::open(&sim, &root, &venue(), cursor).unwrap();
                }
                _ => {
                    let limit = random(80);
                    read(&mut reader, &mut next, limit);
                    cursor = reader.cursor();
                }
            }
        }
        read(&mut reader, &mut next, u64::MAX);
        assert_eq!(next, written + 1, "seed {seed}");
        let mut from_start = 1;
        read(&mut RawReader::open(&sim, &root, &venue(), None).unwrap(), &mut from_start, u64::MAX);
        assert_eq!(from_start, written + 1, "seed {seed}");
    }
}

#[test]
fn a_killed_recorder_loses_and_doubles_nothing() {
    let operations = {
        let (sim, root) = (Sim::new(0), root());
        let mut publisher = publisher(&sim, &root);
        append_all(&mut publisher, 1..=150);
        let before = sim.operations();
        recorder::run(&sim, &root, &venue()).unwrap();
        sim.operations() - before
    };
    assert!(operations > 50);
    for n in 1..=operations {
        let (sim, root) = (Sim::new(n), root());
        let mut publisher = publisher(&sim, &root);
        append_all(&mut publisher, 1..=150);
        let process = sim.start_process();
        process.kill_at(sim.operations() + n);
        let killed = recorder::run(&process, &root, &venue());
        process.kill();
        // What it left is whole, and the next one goes on.
        let mut next = 1;
        read(&mut RawReader::open(&sim, &root, &venue(), None).unwrap(), &mut next, u64::MAX);
        assert_eq!(next, 151, "killed at {n}: {killed:?}");
        append_all(&mut publisher, 151..=200);
        roll(&mut publisher);
        recorder::run(&sim, &root, &venue()).unwrap_or_else(|error| panic!("killed at {n}: {error}"));
        let files = raw::files(&sim, &root, &venue()).unwrap();
        let mut seq = 1;
        for file in files {
            assert_eq!(file.name.first_seq, seq, "killed at {n}");
            let mut opened = PartitionFile::open(&sim, &file.path).unwrap();
            while opened.next().unwrap().is_some() {}
            seq = opened.next_seq();
        }
        assert_eq!(seq, 201, "killed at {n}");
    }
}

/// Power cuts: the raw queue lies in memory and is gone; what the recorder published is whole.
#[test]
fn a_power_cut_leaves_whole_files() {
    let mut kept = BTreeSet::new();
    for n in 1..=120 {
        let sim = Sim::new(n);
        let root = root().with_hot("/shm");
        sim.mount_memory(Path::new("/shm")).unwrap();
        let mut publisher = publisher(&sim, &root);
        append_all(&mut publisher, 1..=150);
        sim.crash_at(sim.operations() + n);
        let _ = recorder::run(&sim, &root, &venue());
        let after = sim.crash();
        let mut reader = RawReader::open(&after, &root, &venue(), None).unwrap();
        let mut next = 1;
        read(&mut reader, &mut next, u64::MAX);
        kept.insert(next);
    }
    assert!(kept.len() > 3, "{kept:?}");
}

#[test]
fn queues_follow_one_another() {
    let (sim, root) = (Sim::new(1), root().with_hot("/shm"));
    sim.mount_memory(Path::new("/shm")).unwrap();
    let mut cursor = None;
    let mut seen = Vec::new();
    let mut sim = sim;
    for round in 0..4u64 {
        // A new boot, a new queue.
        sim.set_now_ns(START + round);
        let mut publisher = publisher(&sim, &root);
        append_all(&mut publisher, 1..=60 + round);
        roll(&mut publisher);
        recorder::run(&sim, &root, &venue()).unwrap();
        let mut reader = RawReader::open(&sim, &root, &venue(), cursor).unwrap();
        let mut next = 1;
        assert_eq!(read(&mut reader, &mut next, u64::MAX), 60 + round);
        cursor = reader.cursor();
        assert!(!seen.contains(&cursor.unwrap().queue_id));
        seen.push(cursor.unwrap().queue_id);
        drop(publisher);
        sim = sim.crash();
        sim.mount_memory(Path::new("/shm")).unwrap();
    }
    // All of them from the start, in the order in which they were made.
    let mut reader = RawReader::open(&sim, &root, &venue(), None).unwrap();
    let mut order: Vec<([u8; 16], u64)> = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        let RawEvent::Frame(raw) = event else { panic!("{event:?}") };
        match order.last_mut() {
            Some((id, seq)) if *id == raw.queue_id => {
                assert_eq!(raw.frame.seq, *seq + 1);
                *seq += 1;
            }
            _ => order.push((raw.queue_id, raw.frame.seq)),
        }
    }
    let expected: Vec<_> = seen.iter().enumerate().map(|(round, id)| (*id, 60 + round as u64)).collect();
    assert_eq!(order, expected);
}

#[test]
fn what_is_gone_is_told() {
    let (sim, root) = (Sim::new(1), root());
    let mut publisher = publisher(&sim, &root);
    append_all(&mut publisher, 1..=300);
    recorder::run(&sim, &root, &venue()).unwrap();
    append_all(&mut publisher, 301..=500);
    recorder::run(&sim, &root, &venue()).unwrap();
    // Enough more that the queue has given up what was recorded.
    let mut written = 500;
    for _ in 0..20 {
        while append(&mut publisher, written + 1).is_ok() {
            written += 1;
        }
        recorder::run(&sim, &root, &venue()).unwrap();
    }
    let files = raw::files(&sim, &root, &venue()).unwrap();
    let (from, to) = (files[2].name.first_seq, files[4].name.first_seq - 1);
    sim.remove(&files[2].path).unwrap();
    sim.remove(&files[3].path).unwrap();

    let mut reader = RawReader::open(&sim, &root, &venue(), None).unwrap();
    let mut next = 1;
    read(&mut reader, &mut next, from - 1);
    assert_eq!(next, from);
    match reader.next().unwrap() {
        Some(RawEvent::Lost { from: a, to: b, .. }) => assert_eq!((a, b), (from, to)),
        other => panic!("{other:?}"),
    }
    // Told once: a reader that stored this cursor is not told again.
    let cursor = reader.cursor();
    next = to + 1;
    read(&mut reader, &mut next, u64::MAX);
    assert_eq!(next, written + 1);
    let mut again = RawReader::open(&sim, &root, &venue(), cursor).unwrap();
    let mut next = to + 1;
    read(&mut again, &mut next, u64::MAX);
    assert_eq!(next, written + 1);
    // The oldest is gone: who comes from nowhere begins with what there is.
    sim.remove(&files[0].path).unwrap();
    let mut next = files[1].name.first_seq;
    read(&mut RawReader::open(&sim, &root, &venue(), None).unwrap(), &mut next, 1);
}

#[test]
fn damage_names_the_file_and_stops() {
    let (sim, root) = (Sim::new(1), root());
    let mut publisher = publisher(&sim, &root);
    append_all(&mut publisher, 1..=100);
    roll(&mut publisher);
    recorder::run(&sim, &root, &venue()).unwrap();
    let file = raw::files(&sim, &root, &venue()).unwrap().swap_remove(1);
    let opened = sim.open(&file.path, Open::Write).unwrap();
    let good = read_small(&sim, &file.path, 1 << 20).unwrap();
    for at in [0, 24, 33, 140, good.len() / 2, good.len() - 20] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        opened.write_at(&bad, 0).unwrap();
        let mut reader = RawReader::open(&sim, &root, &venue(), None).unwrap();
        let error = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("flip at {at}: read to the end"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), error.path()), (ErrorKind::Damage, Some(file.path.as_path())), "{error}");
        assert!(error.offset().unwrap() <= at.max(127) as u64, "flip at {at}: {error}");
    }
    // An unsealed file is nobody's.
    opened.write_at(&[0; 36], 92).unwrap();
    let mut reader = RawReader::open(&sim, &root, &venue(), None).unwrap();
    opened.write_at(&good[..92], 0).unwrap();
    opened.write_at(&good[128..], 128).unwrap();
    let error = loop {
        if let Err(error) = reader.next() {
            break error;
        }
    };
    assert!(matches!(error, Error::Unsealed { .. }), "{error}");
}

#[test]
fn one_recorder_at_a_time_and_none_without_a_queue() {
    let (sim, root) = (Sim::new(1), root());
    assert!(recorder::run(&sim, &root, &venue()).unwrap_err().is_not_found());
    assert!(RawReader::open(&sim, &root, &venue(), None).unwrap().next().unwrap().is_none(), "no raw data: empty");
    let _publisher = publisher(&sim, &root);
    let first = Recorder::open(&sim, &root, &venue()).unwrap();
    let other = sim.start_process();
    assert_eq!(recorder::run(&other, &root, &venue()).unwrap_err().kind(), ErrorKind::Refusal);
    drop(first);
    recorder::run(&other, &root, &venue()).unwrap();
}

#[test]
fn any_path_of_ours_opens() {
    let (sim, root) = (Sim::new(1), root());
    let mut publisher = publisher(&sim, &root);
    append_all(&mut publisher, 1..=100);
    roll(&mut publisher);
    recorder::run(&sim, &root, &venue()).unwrap();
    let files = raw::files(&sim, &root, &venue()).unwrap();
    to_cold(&sim, &root, &files[0].path);
    let cold = raw::files(&sim, &root, &venue()).unwrap().swap_remove(0);
    assert_eq!(cold.tier, Tier::Cold);

    let count = |path: &Path| {
        let mut frames = open_any(&sim, path).unwrap();
        let (mut first, mut n) = (None, 0);
        while let Some(Event::Frame(frame)) = frames.next().unwrap() {
            first.get_or_insert(frame.seq);
            assert_eq!(
                frame.payload.as_slice(None).map_or_else(|| payload(frame.seq), <[u8]>::to_vec),
                payload(frame.seq)
            );
            n += 1;
        }
        (first, n)
    };
    let queue = root.raw_queue(&venue());
    assert_eq!(count(&queue), (Some(1), 100));
    let first_len = files[1].name.first_seq - 1;
    assert_eq!(count(&cold.path), (Some(1), first_len));
    let segment = sim.list(&queue).unwrap().into_iter().find(|entry| entry.name.ends_with(".q")).unwrap();
    assert_eq!(count(&queue.join(segment.name)), (Some(1), first_len));
    let mut frames = open_any(&sim, &queue).unwrap();
    frames.seek_seq(77).unwrap();
    assert!(matches!(frames.next().unwrap(), Some(Event::Frame(frame)) if frame.seq == 77));
    frames.seek_time(START + 33 * 576_000_000_000).unwrap();
    assert!(matches!(frames.next().unwrap(), Some(Event::Frame(frame)) if frame.seq == 33));
    assert!(open_any(&sim, &queue.join("control.meta")).is_err());
    assert!(open_any(&sim, Path::new("/root")).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn the_same_on_linux() {
    let dir = tempfile::tempdir().unwrap();
    let (linux, root) = (chronicle_platform_linux::Linux, Root::new(dir.path()));
    let mut publisher = publisher(&linux, &root);
    let mut reader = RawReader::open(&linux, &root, &venue(), None).unwrap();
    let (mut written, mut next) = (0, 1);
    for round in 0..30 {
        while written < (round + 1) * 50 && append(&mut publisher, written + 1).is_ok() {
            written += 1;
        }
        if round % 3 == 0 {
            recorder::run(&linux, &root, &venue()).unwrap();
        }
        if round % 4 == 0 {
            read(&mut reader, &mut next, 60);
        }
    }
    roll(&mut publisher);
    recorder::run(&linux, &root, &venue()).unwrap();
    read(&mut reader, &mut next, u64::MAX);
    assert_eq!(next, written + 1);
    for file in raw::files(&linux, &root, &venue()).unwrap() {
        to_cold(&linux, &root, &file.path);
    }
    drop(publisher);
    std::fs::remove_dir_all(root.raw_queue(&venue())).unwrap();
    let mut next = 1;
    read(&mut RawReader::open(&linux, &root, &venue(), None).unwrap(), &mut next, u64::MAX);
    assert_eq!(next, written + 1);

    // A reader that stood in the hot queue goes on in the one that takes its place.
    let first = reader.cursor().unwrap();
    let mut publisher = self::publisher(&linux, &root);
    append_all(&mut publisher, 1..=20);
    reader.wait(std::time::Duration::from_millis(1)).unwrap();
    let mut next = 1;
    assert_eq!(read(&mut reader, &mut next, u64::MAX), 20);
    assert_ne!(reader.cursor().unwrap().queue_id, first.queue_id);
}
