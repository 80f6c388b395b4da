//! What a power cut leaves, and who looks at it first: a reader before the writer has recovered, or after; with a cursor,
//! a seq or a time behind the place where the stream was cut. What was cut is gone however it is looked for, and everybody
//! goes on behind it.

use chronicle_core::Append;
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::queue::{
    Profile, Publisher, PublisherOptions, Queue, ReadError, Start, Subscriber, SubscriberOptions,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const DIR: &str = "/q";

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 1 << 16, max_bytes: 5 << 16, helper: false, ..PublisherOptions::new(Profile::Raw) }
}

fn at(start: Start) -> SubscriberOptions {
    SubscriberOptions { start, ..SubscriberOptions::default() }
}

fn put(queue: &mut Publisher<Sim>, n: u64) -> u64 {
    let append = Append { time_ns: n, ..Append::default() };
    queue.append_wait(append, &n.to_le_bytes().repeat(4), Duration::from_secs(5)).unwrap()
}

fn write_back(sim: &Sim) {
    for dir in [DIR, "/q/index", "/q/readers"] {
        for entry in sim.list(Path::new(dir)).unwrap().iter().filter(|entry| !entry.is_dir) {
            sim.open(&Path::new(dir).join(&entry.name), Open::Write).unwrap().sync().unwrap();
        }
        sim.sync_dir(Path::new(dir)).unwrap();
    }
}

fn segments(sim: &Sim) -> Vec<PathBuf> {
    let names = sim.list(Path::new(DIR)).unwrap();
    names.into_iter().filter(|entry| entry.name.ends_with(".q")).map(|entry| Path::new(DIR).join(entry.name)).collect()
}

fn drain(reader: &mut Subscriber<Sim>) -> (Vec<u64>, Vec<String>) {
    let (mut seqs, mut events) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(frame)) => seqs.push(frame.seq),
            Ok(None) => return (seqs, events),
            Err(event @ (ReadError::Lost { .. } | ReadError::Lapped { .. })) => events.push(event.to_string()),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Nothing was ever synced and the first segment has retired. Of the oldest one left, the kernel has not written the
/// first sector since it was prepared; of the others it has.
fn oldest_without_begin() -> Sim {
    let sim = Sim::new(11);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=9000 {
        put(&mut queue, n);
    }
    // A slow reader stands in it, and is waited for.
    let mut slow = Queue::subscriber(&sim, DIR, "slow", at(Start::Earliest)).unwrap();
    slow.next().unwrap().unwrap();
    drop((queue, slow));
    sim.open(&segments(&sim)[0], Open::Write).unwrap().write_at(&[0; 52], 80).unwrap();
    write_back(&sim);
    sim.crash()
}

#[test]
fn d_3_an_oldest_segment_without_begin_hides_nothing_from_readers() {
    let sim = oldest_without_begin();
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let last = put(&mut queue, 9001);
    let mut reader = Queue::observer(&sim, DIR, at(Start::Earliest)).unwrap();
    assert_eq!(drain(&mut reader).0.last(), Some(&last));
}

#[test]
fn d_3_an_oldest_segment_without_begin_lets_the_queue_open_again_and_again() {
    let sim = oldest_without_begin();
    for n in 1..3 {
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap_or_else(|error| panic!("opening {n}: {error:?}"));
        put(&mut queue, 9001);
    }
}

/// Readers start before the writer does. Segment 1 is torn, segment 2 is whole: recovery drops it.
fn torn_in_the_middle() -> Sim {
    let sim = Sim::new(13);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=1500 {
        put(&mut queue, n);
    }
    drop(queue);
    sim.open(&segments(&sim)[0], Open::Write).unwrap().write_at(&[0; 4096], 8192).unwrap();
    write_back(&sim);
    sim.crash()
}

fn early_reader(start: Start) {
    let sim = torn_in_the_middle();
    let mut reader = Queue::observer(&sim, DIR, at(start)).unwrap();
    let (early, _) = drain(&mut reader);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let last = put(&mut queue, 1);
    sim.advance(Duration::from_secs(10));
    let (late, events) = drain(&mut reader);
    assert_eq!(
        late.last(),
        Some(&last),
        "read {:?}..{:?} of what was cut, then {late:?} {events:?}",
        early.first(),
        early.last()
    );
}

#[test]
fn an_early_reader_from_the_oldest_goes_on_after_recovery() {
    early_reader(Start::Earliest);
}

#[test]
fn an_early_reader_at_the_latest_goes_on_after_recovery() {
    early_reader(Start::Latest);
}

#[test]
fn an_early_reader_at_a_time_goes_on_after_recovery() {
    early_reader(Start::Time(1200));
}

#[test]
fn an_early_reader_at_a_seq_goes_on_after_recovery() {
    early_reader(Start::Seq(1200));
}

/// As above, by a cursor behind the torn page.
#[test]
fn an_early_reader_with_a_cursor_goes_on_after_recovery() {
    let sim = Sim::new(13);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=900 {
        put(&mut queue, n);
    }
    let mut reader = Queue::subscriber(&sim, DIR, "r", at(Start::Cursor)).unwrap();
    assert_eq!(reader.poll(500, |_| ()).unwrap(), 500);
    reader.commit_durable().unwrap();
    drop((queue, reader));
    sim.open(&segments(&sim)[0], Open::Write).unwrap().write_at(&[0; 4096], 8192).unwrap();
    write_back(&sim);
    let sim = sim.crash();
    let mut reader = Queue::subscriber(&sim, DIR, "r", at(Start::Cursor)).unwrap();
    let (early, _) = drain(&mut reader);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let last = put(&mut queue, 901);
    sim.advance(Duration::from_secs(10));
    let (late, events) = drain(&mut reader);
    let cut = (early.first(), early.last());
    assert_eq!(late.last(), Some(&last), "read {cut:?} of what was cut, then {late:?} {events:?}");
}

fn set_slot(sim: &Sim, at: usize, bytes: &[u8]) {
    // Both slots, summed anew.
    let file = sim.open(Path::new("/q/control.meta"), Open::Write).unwrap();
    for slot in [1024u64, 2048] {
        let mut whole = [0; 1024];
        file.read_at(&mut whole, slot).unwrap();
        if whole.iter().all(|byte| *byte == 0) {
            continue;
        }
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32fast::hash(&whole[..1020]);
        whole[1020..].copy_from_slice(&crc.to_le_bytes());
        file.write_at(&whole, slot).unwrap();
    }
}

/// A control file whose numbers are absurd is refused, not a panic.
#[test]
fn absurd_numbers_in_a_control_file_are_refused() {
    let mut wrong = Vec::new();
    for (name, at, bytes) in [
        ("generation", 0, vec![0xff; 8]),
        ("epoch", 24, vec![0xff; 4]),
        ("seq_bound", 32, vec![0xff; 8]),
        ("last_segment", 40, vec![0xff; 8]),
        ("synced_segment", 48, vec![0xff; 8]),
        ("synced_seq", 56, vec![0xff; 8]),
        ("synced_seq 0", 56, vec![0; 8]),
        ("synced_offset", 64, vec![0xff; 4]),
    ] {
        for crash in [false, true] {
            let sim = Sim::new(17);
            let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
            for n in 1..=1500 {
                put(&mut queue, n);
            }
            drop(queue);
            set_slot(&sim, at, &bytes);
            write_back(&sim);
            let sim = if crash { sim.crash() } else { sim };
            let opened = std::panic::catch_unwind(|| {
                let mut queue = Queue::publisher(&sim, DIR, options()).map_err(|error| error.to_string())?;
                let first = queue.next_seq();
                for n in 0..3000 {
                    queue
                        .append_wait(Append::default(), &[0; 32], Duration::from_secs(5))
                        .map_err(|error| format!("{n}: {error}"))?;
                }
                Ok::<u64, String>(first)
            });
            match opened {
                Err(_) => wrong.push(format!("{name}, crash {crash}: panic")),
                Ok(Ok(first)) if first <= 1500 => wrong.push(format!("{name}, crash {crash}: seq goes on at {first}")),
                Ok(other) => eprintln!("{name}, crash {crash}: {other:?}"),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A machine that died with 1000 frames of 64 B in segment 1, of which the kernel wrote every page but the third one; a
/// reader had read and durably committed 900.
fn crashed() -> Sim {
    let sim = Sim::new(7);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=1000 {
        assert_eq!(put(&mut queue, n), n);
    }
    let mut reader = Queue::subscriber(&sim, DIR, "r", SubscriberOptions::default()).unwrap();
    assert_eq!(reader.poll(900, |_| ()).unwrap(), 900);
    reader.commit_durable().unwrap();
    drop((reader, queue));
    let segment = sim.open(Path::new("/q/00000000000000000001.q"), Open::Write).unwrap();
    segment.write_at(&[0; 4096], 8192).unwrap();
    drop(segment);
    write_back(&sim);
    sim.crash()
}

fn read_all(sim: &Sim, start: Start) -> (Vec<u64>, Vec<String>) {
    let options = SubscriberOptions { start, ..SubscriberOptions::default() };
    let mut reader = Queue::subscriber(sim, DIR, "r", options).unwrap();
    drain(&mut reader)
}

fn check_cut(start: Start) {
    let sim = crashed();
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let first = put(&mut queue, 5000);
    assert!(first > 1000, "{first}");
    let (seqs, events) = read_all(&sim, start);
    assert!(
        !seqs.iter().any(|seq| (127..first).contains(seq)),
        "cut frames are read: {:?}..={:?}, {events:?}",
        seqs.first(),
        seqs.last()
    );
    assert_eq!(seqs.last(), Some(&first), "the stream goes on: {events:?}");
}

#[test]
fn a_cursor_behind_the_cut_finds_nothing_of_it() {
    check_cut(Start::Cursor);
}

#[test]
fn a_seq_behind_the_cut_finds_nothing_of_it() {
    check_cut(Start::Seq(800));
}

#[test]
fn a_time_behind_the_cut_finds_nothing_of_it() {
    check_cut(Start::Time(800));
}

/// The writer is killed between raising the epoch and publishing the segment that follows the cut.
#[test]
fn a_writer_killed_in_recovery_leaves_it_to_the_next() {
    let mut worst = Vec::new();
    for n in 1..400 {
        let sim = crashed();
        let second = sim.start_process();
        let base = sim.operations();
        second.kill_at(base + n);
        let done = Queue::publisher(&second, DIR, options()).is_ok();
        let mut queue = match Queue::publisher(&sim, DIR, options()) {
            Ok(queue) => queue,
            Err(error) => {
                worst.push(format!("{n}: {error:?}"));
                continue;
            }
        };
        let first = put(&mut queue, 1);
        drop(queue);
        let (seqs, events) = read_all(&sim, Start::Earliest);
        if first <= 1001 || seqs.last() != Some(&first) {
            worst.push(format!("operation {n}: appended as {first}, read up to {:?}, {events:?}", seqs.last()));
        }
        if done {
            break;
        }
    }
    assert!(worst.is_empty(), "{worst:#?}");
}

/// A hole in the stream: frames 1 to 126 of times up to 126, then, behind the hole, one of time 5000.
fn with_a_hole() -> (Sim, u64) {
    let sim = crashed();
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let first = put(&mut queue, 5000);
    (sim, first)
}

#[test]
fn a_time_in_the_hole_is_told_that_frames_were_lost() {
    let (sim, first) = with_a_hole();
    let mut reader = Queue::observer(&sim, DIR, at(Start::Time(800))).unwrap();
    match reader.next() {
        Err(ReadError::Lost { from, to }) => assert_eq!((from, to), (127, first - 1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(drain(&mut reader), (vec![first], Vec::new()));
    // A time before the hole and one behind it are as ever.
    let mut reader = Queue::observer(&sim, DIR, at(Start::Time(126))).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().seq, 126);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let second = put(&mut queue, 6000);
    let mut reader = Queue::observer(&sim, DIR, at(Start::Time(5500))).unwrap();
    assert_eq!(drain(&mut reader), (vec![second], Vec::new()));
}

#[test]
fn what_was_cut_is_counted_up_to_the_last_known_frame() {
    let sim = crashed();
    let queue = Queue::publisher(&sim, DIR, options()).unwrap();
    // Frames 127 to 1000, of 64 bytes; the last index entry stands less than its interval before the end.
    let (cut, all) = (queue.counters().cut_bytes, (1000 - 126) * 64);
    assert!((all - 4096 - 64..=all).contains(&cut), "{cut} of {all}");
}

/// A queue that was closed in order, opened again and lost with the slot that said so.
#[test]
fn closed_is_not_believed_beside_a_torn_slot() {
    let sim = Sim::new(19);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=100 {
        put(&mut queue, n);
    }
    queue.close().unwrap();
    let control = sim.open(Path::new("/q/control.meta"), Open::Write).unwrap();
    let state = |slot: u64| {
        let mut bytes = [0; 32];
        control.read_at(&mut bytes, slot).unwrap();
        u32::from_le_bytes(bytes[28..].try_into().unwrap())
    };
    let other = if state(1024) == 2 { 2048 } else { 1024 };
    // What the next writer did in the memory of a machine that died, and what became of it.
    let segment = sim.open(Path::new("/q/00000000000000000001.q"), Open::Write).unwrap();
    segment.write_at(&[0xee; 64], 128 + 100 * 64).unwrap();
    control.write_at(&[0xee; 512], other).unwrap();
    drop((segment, control));
    write_back(&sim);
    let sim = sim.crash();
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let last = put(&mut queue, 101);
    let mut reader = Queue::observer(&sim, DIR, at(Start::Earliest)).unwrap();
    let (seqs, events) = drain(&mut reader);
    assert_eq!(seqs, (1..=100).chain([last]).collect::<Vec<_>>(), "{events:?}");
}
