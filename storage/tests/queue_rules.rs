//! Rules that other systems paid for, each under its number: half an append, files that appear whole, clocks that jump.
//!
//! Beside them, what a reader and a writer owe each other when one of them is cut off in the middle of a change.

use chronicle_core::{Append, Header, layout::SEQ_END};
use chronicle_platform::{
    File, Lock, Open, Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error,
    queue::{
        Profile, Publisher, PublisherOptions, Queue, ReadError, Refused, Start, SubscriberOptions, WriterStatus,
        describe,
        layout::{COUNT_END, CURSOR_SLOTS, CursorSlot, DURABLE_SLOTS, FLAG_COMMITS, FLAGS},
    },
};
use core::mem::{offset_of, size_of};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

const DIR: &str = "/q";
const SEGMENT_LEN: u32 = 4096;
const MAX_BYTES: u64 = 6 * SEGMENT_LEN as u64;

fn options() -> PublisherOptions {
    PublisherOptions {
        segment_len: SEGMENT_LEN,
        max_bytes: MAX_BYTES,
        helper: false,
        reader_ttl: Duration::from_secs(5),
        ..PublisherOptions::new(Profile::Raw)
    }
}

fn put(queue: &mut Publisher<Sim>, n: u64) -> Result<u64, Refused> {
    let append = Append { time_ns: n, ..Append::default() };
    queue.append_wait(append, &n.to_le_bytes().repeat(10), Duration::from_secs(1))
}

fn at(start: Start) -> SubscriberOptions {
    SubscriberOptions { start, verify_reads: true, ..SubscriberOptions::default() }
}

/// Names in the queue's directory with their lengths, as far as they can be had.
fn files(sim: &Sim) -> BTreeMap<String, u64> {
    let dir = Path::new(DIR);
    let len = |path: PathBuf| sim.open(&path, Open::Read).and_then(|file| file.len()).unwrap_or(0);
    let entries = sim.list(dir).unwrap_or_default();
    entries.into_iter().filter(|entry| !entry.is_dir).map(|e| (e.name.clone(), len(dir.join(e.name)))).collect()
}

/// A single-writer log overwrites what a dead writer left half done; where it can be told from the end, it is counted.
#[test]
fn s_4_half_an_append_is_overwritten_and_counted() {
    for (committed, stored) in [(0, false), (0, true), (1, false), (1, true), (7, false), (7, true)] {
        let machine = Sim::new(3);
        let writer = machine.start_process();
        let mut queue = Queue::publisher(&writer, DIR, options()).unwrap();
        for n in 1..=committed {
            put(&mut queue, n).unwrap();
        }
        let mut reader = Queue::observer(&machine, DIR, at(Start::Earliest)).unwrap();
        let mut half = queue.claim(200).unwrap();
        half.put(&[0xee; 100]);
        // It dies here: nothing of it comes to anything any more.
        writer.kill();
        drop(queue);
        for n in 1..=committed {
            assert_eq!(reader.next().unwrap().unwrap().seq, n);
        }
        assert!(reader.next().unwrap().is_none(), "half a frame is no frame");
        if stored {
            // Or a little later: the header's other words stand behind the commit word, which is still open.
            let segment = machine.open(Path::new("/q/00000000000000000001.q"), Open::Write).unwrap();
            let tail = u64::from(reader.position().unwrap().offset);
            segment.write_at(&(committed + 1).to_le_bytes(), tail + 8).unwrap();
            assert!(reader.next().unwrap().is_none(), "nor with its seq");
        }

        let mut queue = Queue::publisher(&machine.start_process(), DIR, options()).unwrap();
        let aborted = u64::from(stored);
        assert_eq!(queue.counters().aborted_records, aborted);
        assert_eq!(describe(&machine, Path::new(DIR)).unwrap().counters.aborted_records, aborted);
        assert_eq!(put(&mut queue, committed + 1), Ok(committed + 1), "its seq is used again: nobody saw it");
        let frame = reader.next().unwrap().unwrap();
        let mut bytes = [0; 256];
        assert_eq!(frame.payload.copy_to(&mut bytes), (committed + 1).to_le_bytes().repeat(10));
        assert!(reader.next().unwrap().is_none());
    }
}

/// Whenever the writer dies, what has its final name is complete: readers find no file that is still being made.
#[test]
fn s_11_files_appear_whole_and_never_shrink() {
    let live = |sim: &Sim, look: &mut dyn FnMut()| {
        let Ok(mut queue) = Queue::publisher(sim, DIR, options()) else { return };
        for n in 1..=150 {
            look();
            if put(&mut queue, n).is_err() {
                return;
            }
        }
    };
    let machine = Sim::new(4);
    let mut before = BTreeMap::new();
    live(&machine.start_process(), &mut || {
        let now = files(&machine);
        for (name, len) in &before {
            assert!(now.get(name).is_none_or(|now| now >= len), "{name} shrank from {len} to {now:?}");
        }
        before = now;
    });
    assert!(before.len() > 4, "{before:?}");

    let operations = machine.operations();
    let mut segments = 0;
    for k in 1..=operations {
        let machine = Sim::new(4);
        let writer = machine.start_process();
        writer.kill_at(k);
        live(&writer, &mut || ());
        writer.kill();
        for (name, len) in files(&machine) {
            let path = Path::new(DIR).join(&name);
            let file = machine.open(&path, Open::Read).unwrap();
            if name.ends_with(".q") {
                assert_eq!(len, u64::from(SEGMENT_LEN), "killed at {k}: {name}");
                let map = machine.map(&file, SEGMENT_LEN as usize).unwrap();
                let header: Header = chronicle_core::header(chronicle_core::Region::window(&map))
                    .unwrap_or_else(|damage| panic!("killed at {k}: {name}: {damage}"));
                assert_eq!(format!("{:020}.q", header.segment_id), name);
                segments += 1;
            } else if name == "control.meta" {
                let mut magic = [0; 8];
                file.read_at(&mut magic, 0).unwrap();
                assert_eq!((len, &magic), (4096, b"CHRONCTL"), "killed at {k}");
            }
        }
    }
    assert!(segments > operations, "{segments} looked at in {operations} deaths");
}

/// The wall clock decides nothing: a reader's silence and a writer's life are measured by the monotonic one.
#[test]
fn s_20_a_wall_clock_that_jumps_expires_nothing() {
    const YEAR_NS: u64 = 365 * 86_400 * 1_000_000_000;
    for jump in [i64::MAX as u64 / 4, 1] {
        let sim = Sim::new(5);
        sim.set_now_ns(30 * YEAR_NS);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        let mut slow = Queue::subscriber(&sim, DIR, "slow", at(Start::Earliest)).unwrap();
        put(&mut queue, 1).unwrap();
        assert!(slow.next().unwrap().is_some());
        queue.maintain();
        // Forwards by centuries, or back to 1970: the reader was there a moment ago, and the writer is there.
        sim.set_now_ns(jump);
        let fill = |queue: &mut Publisher<Sim>| {
            for _ in 0..1000 {
                match queue.append(Append::default(), &[1; 100]) {
                    Ok(_) => {}
                    Err(Refused::NotReady) => queue.maintain(),
                    Err(refused) => return Some(refused),
                }
            }
            None
        };
        let full = Refused::QueueFull { used: MAX_BYTES, max: MAX_BYTES };
        assert_eq!(fill(&mut queue), Some(full), "the reader still holds what it has not read");
        assert_eq!(slow.writer_status(Duration::from_secs(1)).unwrap(), WriterStatus::Alive);
        // A deadline is so long after now, whatever the wall says of now.
        let begun = sim.monotonic_ns();
        assert_eq!(queue.append_wait(Append::default(), &[1; 100], Duration::from_secs(2)), Err(full));
        let waited = sim.monotonic_ns() - begun;
        assert!((2_000_000_000..3_000_000_000).contains(&waited), "waited {waited} ns");
        // And when its time-out has passed it holds nothing, though the wall clock stands still or runs back.
        for _ in 0..8 {
            sim.advance(Duration::from_secs(1));
            sim.set_now_ns(jump);
            queue.maintain();
        }
        assert_eq!(fill(&mut queue), None);
        let lapped = (0..1000).find_map(|_| match slow.next() {
            Ok(Some(_)) => None,
            other => Some(other.map(|frame| frame.is_some())),
        });
        assert!(matches!(lapped, Some(Err(ReadError::Lapped { .. }))), "{lapped:?}");
    }
}

/// Whether memory is believed is decided by the boot, not by any time: a kill and a crash look alike in the files.
#[test]
fn s_20_the_boot_is_compared() {
    let mut lost = 0;
    for (seed, crash) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let sim = Sim::new(seed);
        sim.faults(Faults { write_back_one_in: 0, ..Faults::default() });
        sim.set_now_ns(1_000_000_000_000);
        let mut queue = Queue::publisher(&sim, DIR, PublisherOptions { max_bytes: 1 << 20, ..options() }).unwrap();
        put(&mut queue, 1).unwrap();
        queue.sync().unwrap();
        for n in 2..=100 {
            put(&mut queue, n).unwrap();
        }
        let boot = sim.boot_id();
        let after = if crash { sim.crash() } else { sim.start_process() };
        sim.kill();
        drop(queue);
        assert_eq!(after.boot_id() != boot, crash);
        after.set_now_ns(1_000_000_000_000);
        let mut queue = Queue::publisher(&after, DIR, PublisherOptions { max_bytes: 1 << 20, ..options() }).unwrap();
        let next = queue.next_seq();
        assert_eq!(put(&mut queue, next), Ok(next));
        let mut reader = Queue::observer(&after, DIR, at(Start::Earliest)).unwrap();
        let mut found = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(frame)) => found.push(frame.seq),
                Ok(None) => break,
                Err(ReadError::Lost { .. }) => assert!(crash),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(found.pop(), Some(next));
        let all: Vec<u64> = (1..=100).collect();
        if crash {
            assert!(!found.is_empty() && all.starts_with(&found), "what was synced, and no hole: {found:?}");
            assert!(next > 100, "no seq that anybody may have seen is used again: {next}");
            lost += usize::from(found.len() < 100);
        } else {
            assert_eq!((found, next), (all, 101));
        }
    }
    assert!(lost > 0, "no crash took anything: nothing was compared");
}

/// A reader that dies while it comes back has not given up what it held: its flags change when it has a place.
#[test]
fn the_flags_of_a_reader_stay_until_it_is_placed() {
    let prepared = || {
        let sim = Sim::new(7);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        for n in 1..=60 {
            put(&mut queue, n).unwrap();
        }
        let mut reader = Queue::subscriber(&sim, DIR, "r", at(Start::Earliest)).unwrap();
        for _ in 0..5 {
            reader.next().unwrap().unwrap();
        }
        reader.commit_durable().unwrap();
        (sim, queue)
    };
    let commits = |sim: &Sim| {
        let mut word = [0; 4];
        let file = sim.open(Path::new("/q/readers/r.meta"), Open::Read).unwrap();
        file.read_at(&mut word, FLAGS as u64).unwrap();
        u32::from_le_bytes(word) & FLAG_COMMITS != 0
    };
    let (sim, _queue) = prepared();
    assert!(commits(&sim));
    let before = sim.operations();
    // From where it stands now it has committed nothing; this is what the flag is for.
    let reader = Queue::subscriber(&sim.start_process(), DIR, "r", at(Start::Latest)).unwrap();
    let operations = sim.operations() - before;
    assert!(!commits(&sim) && operations > 3, "{operations}");
    drop(reader);
    let mut unplaced = 0;
    for k in 1..=operations {
        let (sim, mut queue) = prepared();
        let process = sim.start_process();
        process.kill_at(before + k);
        let opened = Queue::subscriber(&process, DIR, "r", at(Start::Latest));
        if opened.is_err() {
            unplaced += 1;
            assert!(commits(&sim), "killed in operation {k} of {operations}");
            // So the next writer keeps what is not committed, up to the reader's time-out.
            let refused = (61..).find_map(|n| put(&mut queue, n).err());
            assert_eq!(refused, Some(Refused::QueueFull { used: MAX_BYTES, max: MAX_BYTES }), "killed in {k}");
        }
    }
    assert!(unplaced > 3, "{unplaced} of {operations}");
}

/// What was retired and could not be removed takes room all the same: the budget is a bound on the disk.
#[test]
fn what_is_retired_counts_until_it_is_gone() {
    // The operations of each pass, and in how many looks a retired segment was there; operation `failing` fails.
    let run = |failing: Option<u64>| {
        let sim = Sim::new(8);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        sim.faults(Faults { failing_operation: failing, ..Faults::default() });
        let mut holders = BTreeMap::new();
        let mut passes = Vec::new();
        let mut looks = 0;
        for n in 1..=300 {
            let append = Append { time_ns: n, ..Append::default() };
            if queue.append(append, &[n as u8; 80]) == Err(Refused::NotReady) {
                let from = sim.operations();
                queue.maintain();
                passes.push(from + 1..=sim.operations());
            }
            let found = files(&sim);
            // Somebody keeps every segment from being used again, so that retired ones are removed.
            for name in found.keys().filter(|name| name.ends_with(".q")) {
                if holders.contains_key(name) {
                    continue;
                }
                let file = sim.open(&Path::new(DIR).join(name), Open::Read).unwrap();
                assert!(file.try_lock(Lock::Shared).unwrap());
                holders.insert(name.clone(), file);
            }
            let of_segments = |name: &str| name.starts_with("000") && !name.ends_with(".idx");
            let used: u64 = found.iter().filter(|(name, _)| of_segments(name)).map(|(_, len)| len).sum();
            assert!(used <= MAX_BYTES, "{used} bytes of {MAX_BYTES}, operation {failing:?} failed: {found:?}");
            looks += usize::from(found.keys().any(|name| name.ends_with(".retired")));
        }
        (passes, looks)
    };
    let (passes, looks) = run(None);
    assert_eq!(looks, 0);
    let operations: Vec<u64> = passes.into_iter().rev().take(3).flatten().collect();
    let looks: usize = operations.iter().map(|k| run(Some(*k)).1).sum();
    assert!(looks > 0, "no removal failed in {} operations: nothing was tested", operations.len());
}

/// Numbers that no reader stores are not counted on from, though their checksum fits.
#[test]
fn absurd_numbers_in_a_cursor_are_refused() {
    for (name, offset, end) in [
        ("generation", offset_of!(CursorSlot, generation), COUNT_END),
        ("seq", offset_of!(CursorSlot, seq), SEQ_END),
        ("segment_id", offset_of!(CursorSlot, segment_id), COUNT_END),
    ] {
        for value in [end, u64::MAX] {
            for slots in [CURSOR_SLOTS, DURABLE_SLOTS] {
                let sim = Sim::new(9);
                let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
                put(&mut queue, 1).unwrap();
                let mut reader = Queue::subscriber(&sim, DIR, "r", at(Start::Earliest)).unwrap();
                reader.next().unwrap().unwrap();
                reader.commit_durable().unwrap();
                reader.commit_durable().unwrap();
                drop(reader);
                let file = sim.open(Path::new("/q/readers/r.meta"), Open::Write).unwrap();
                for slot in slots {
                    let mut bytes = [0; size_of::<CursorSlot>()];
                    file.read_at(&mut bytes, slot as u64).unwrap();
                    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
                    let sum = bytes.len() - 4;
                    let crc = crc32fast::hash(&bytes[..sum]);
                    bytes[sum..].copy_from_slice(&crc.to_le_bytes());
                    file.write_at(&bytes, slot as u64).unwrap();
                }
                let error = Queue::subscriber(&sim, DIR, "r", at(Start::Cursor)).unwrap_err();
                assert!(
                    matches!(error, Error::Damage { .. } | Error::Malformed { .. }),
                    "{name} {value:#x}: {error:?}"
                );
                let said = error.to_string();
                assert!(said.contains("/q/readers/r.meta: offset ") && said.contains(name), "{value:#x}: {said}");
                // Others are not kept from their work.
                assert_eq!(put(&mut queue, 2), Ok(2));
                let shown = describe(&sim, Path::new(DIR)).unwrap();
                assert!(shown.readers[0].error.as_ref().is_some_and(|error| error.contains(name)), "{shown:?}");
            }
        }
    }
}

/// While a segment is made its file is called fresh; whoever reads the trouble finds a file of that name, or none.
#[test]
fn a_trouble_on_a_fresh_segment_names_it_so() {
    let mut named = 0;
    for k in 1..=200 {
        let sim = Sim::new(10);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        for n in 1..=10 {
            put(&mut queue, n).unwrap();
        }
        let ready: Vec<String> = files(&sim).into_keys().collect();
        sim.faults(Faults { failing_operation: Some(sim.operations() + k), ..Faults::default() });
        for n in 11..=60 {
            _ = queue.append(Append { time_ns: n, ..Append::default() }, &[3; 300]);
            queue.maintain();
            let Some(trouble) = queue.last_trouble() else { continue };
            let text = trouble.to_string();
            let Some(at) = text.find("/q/") else { continue };
            let name: String = text[at + 3..].chars().take_while(|c| *c != ':').collect();
            // Of a segment that was not there before, no name but the fresh one is told.
            if name.ends_with(".fresh") {
                named += 1;
            } else if name.ends_with(".q") {
                let is_there = files(&sim).contains_key(&name) || ready.contains(&name);
                assert!(is_there, "operation {k}: {text}, and there is no such file: {:?}", files(&sim));
            }
            break;
        }
    }
    assert!(named > 2, "{named}");
}
