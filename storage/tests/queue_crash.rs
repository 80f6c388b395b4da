//! What a crash may take from a queue, and what it may not.
//!
//! The simulator cuts the power, or kills the writer, in every operation of a small life of a queue, with a kernel that
//! writes pages back when it likes. Of a cut: what `sync` covered is there, what is there is a prefix of what was
//! appended, no seq is ever used twice, and readers are told of the hole once. Of a kill: everything is there.

use chronicle_core::Append;
use chronicle_platform::{
    Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::queue::{
    Profile, Publisher, PublisherOptions, Queue, ReadError, Refused, Start, Subscriber, SubscriberOptions, SyncPolicy,
    verify,
};
use std::{path::Path, time::Duration};

const DIR: &str = "/q";

fn options(sync: SyncPolicy) -> PublisherOptions {
    PublisherOptions {
        segment_len: 4096,
        max_bytes: 6 * 4096,
        segments_ahead: 2,
        sync,
        helper: false,
        reader_ttl: Duration::from_millis(1),
        ..PublisherOptions::new(Profile::Raw)
    }
}

/// What the writer knows when it is cut off.
#[derive(Debug, Default)]
struct Told {
    /// Highest seq that was returned, by all writers so far.
    appended: u64,
    /// Highest seq that a sync covered.
    durable: u64,
    /// Holes that readers may be told of.
    begun_at: Vec<u64>,
}

/// A payload that says which frame it is; large enough that sectors tear within frames.
fn payload(seq: u64) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().to_vec();
    bytes.extend((0..seq * 7 % 400).map(|at| (seq * 31 + at) as u8));
    bytes
}

fn alive(sim: &Sim) -> bool {
    sim.list(Path::new("/")).is_ok()
}

/// Appends, syncs, reads and rolls until it is done or cut off.
fn live(sim: &Sim, sync: SyncPolicy, frames: u64, told: &mut Told) {
    let Ok(mut queue) = Queue::publisher(sim, DIR, options(sync)) else { return };
    told.begun_at.push(queue.next_seq());
    assert!(queue.next_seq() > told.appended, "seq {} again after {}", queue.next_seq(), told.appended);
    let mut reader = Queue::subscriber(sim, DIR, "reader", SubscriberOptions::default()).ok();
    for n in 0..frames {
        sim.tick();
        if !alive(sim) {
            return;
        }
        let seq = queue.next_seq();
        match queue.append(Append { time_ns: seq, type_id: 1, flags: 0 }, &payload(seq)) {
            Ok(found) => {
                assert_eq!(found, seq);
                told.appended = seq;
            }
            Err(Refused::NotReady | Refused::QueueFull { .. }) => {
                sim.advance(Duration::from_millis(2));
                queue.maintain();
            }
            Err(_) => return,
        }
        if n % 11 == 10 {
            match queue.sync() {
                Ok(durable) => told.durable = durable.seq,
                Err(_) => return,
            }
        }
        if n % 5 == 0 {
            queue.maintain();
        }
        if let Some(reader) = &mut reader {
            while let Ok(Some(_)) = reader.next() {}
            if n % 3 == 0 {
                _ = reader.commit();
            }
        }
    }
    if frames.is_multiple_of(2) && queue.close().is_ok() {
        told.durable = told.appended;
    }
}

/// Everything a reader gets until there is no more, and what it was told.
fn read_all(reader: &mut Subscriber<Sim>) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut seqs, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(frame)) => {
                let mut bytes = [0; 512];
                assert_eq!(frame.payload.copy_to(&mut bytes), payload(frame.seq), "seq {}", frame.seq);
                seqs.push(frame.seq);
            }
            Ok(None) => return (seqs, lost),
            Err(ReadError::Lost { from, to }) => lost.push((from, to)),
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

fn earliest(sim: &Sim) -> Subscriber<Sim> {
    let options = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
    Queue::observer(sim, DIR, options).unwrap()
}

/// What is left is whole, in order, and reaches `at_least`; holes were told, and only where a writer began behind one.
fn check(sim: &Sim, told: &Told, at_least: u64, context: &str) {
    let (seqs, lost) = read_all(&mut earliest(sim));
    let mut expected = seqs.first().copied().unwrap_or(1);
    for seq in &seqs {
        if *seq != expected {
            // Two crashes without a frame between them are two holes, side by side.
            let mut hole = lost.iter().skip_while(|lost| lost.0 != expected).take_while(|lost| lost.1 < *seq);
            let covered = hole.try_fold(expected, |from, lost| (lost.0 == from).then_some(lost.1 + 1));
            assert_eq!(covered, Some(*seq), "{context}: hole before {seq}, told {lost:?}");
            assert!(told.begun_at.contains(seq), "{context}: {seq} was not begun at");
        }
        expected = seq + 1;
    }
    // Older ones may have retired.
    if at_least > 0 && seqs.first().is_none_or(|first| *first <= at_least) {
        let last = seqs.iter().rev().find(|seq| **seq <= at_least);
        assert_eq!(last, Some(&at_least), "{context}: durable up to {at_least}, found {seqs:?}");
    }
    let mut problems = Vec::new();
    verify(sim, Path::new(DIR), &mut |problem| problems.push(problem.to_string())).unwrap();
    assert_eq!(problems, Vec::<String>::new(), "{context}");
}

/// A reader that committed before the crash goes on: it sees no frame twice and misses none without a word.
fn named(sim: &Sim, next_seq: u64, context: &str) {
    let mut reader = match Queue::subscriber(sim, DIR, "reader", SubscriberOptions::default()) {
        Ok(reader) => reader,
        Err(error) => panic!("{context}: {error}: {error:?}"),
    };
    let mut expected = None;
    loop {
        match reader.next() {
            Ok(Some(frame)) => {
                assert!(frame.seq < next_seq, "{context}");
                assert_eq!(expected.replace(frame.seq + 1).unwrap_or(frame.seq), frame.seq, "{context}");
            }
            Ok(None) => break,
            Err(ReadError::Lost { from, to }) => {
                assert!(expected.is_none_or(|expected| expected == from) && from <= to, "{context}");
                expected = Some(to + 1);
            }
            Err(ReadError::Lapped { resume_at }) => {
                assert!(expected.is_none_or(|expected| expected < resume_at), "{context}");
                expected = Some(resume_at);
            }
            Err(error) => panic!("{context}: {error}: {error:?}"),
        }
    }
    assert!(expected.is_none_or(|expected| expected == next_seq), "{context}: {expected:?}, next is {next_seq}");
}

/// Opens the survivor and appends to it; nothing may be used twice.
fn revive(sim: &Sim, sync: SyncPolicy, told: &mut Told, context: &str) {
    let before = told.appended;
    let mut queue = match Queue::publisher(sim, DIR, options(sync)) {
        Ok(queue) => queue,
        Err(error) => panic!("{context}: {error}: {error:?}"),
    };
    let first = queue.next_seq();
    assert!(first > before, "{context}: seq {first} again, {before} was appended");
    told.begun_at.push(first);
    check(sim, told, told.durable, context);
    named(sim, first, context);
    for _ in 0..3 {
        let seq = queue.next_seq();
        let append = Append { time_ns: seq, type_id: 1, flags: 0 };
        told.appended = queue.append_wait(append, &payload(seq), Duration::from_millis(100)).unwrap();
    }
    told.durable = queue.sync().unwrap().seq;
    check(sim, told, told.durable, context);
}

#[test]
fn a_power_cut_in_any_operation_takes_nothing_that_was_synced() {
    for (seed, sync) in [(1, SyncPolicy::None), (2, SyncPolicy::Roll), (3, SyncPolicy::Every(Duration::from_millis(3)))]
    {
        let sim = Sim::new(seed);
        live(&sim, sync, 60, &mut Told::default());
        let operations = sim.operations();
        for at in 1..=operations {
            let context = format!("seed {seed}, {sync:?}, cut at operation {at} of {operations}");
            let sim = Sim::new(seed);
            sim.crash_at(at);
            let mut told = Told::default();
            live(&sim, sync, 60, &mut told);
            for survivor in 0..2 {
                let mut told = Told { begun_at: told.begun_at.clone(), ..told };
                let sim = sim.crash();
                let context = format!("{context}, survivor {survivor}");
                // Once more while it recovers.
                sim.crash_at(1 + at % 97);
                _ = Queue::publisher(&sim, DIR, options(sync)).map(|queue| told.begun_at.push(queue.next_seq()));
                sim.crash_at(u64::MAX);
                let sim = if sim.is_off() { sim.crash() } else { sim };
                revive(&sim, sync, &mut told, &context);
                let sim = sim.crash();
                revive(&sim, sync, &mut told, &format!("{context}, and again"));
            }
        }
    }
}

#[test]
fn s_18_a_writer_killed_in_any_operation_takes_nothing_at_all() {
    for seed in 1..=2 {
        let sync = SyncPolicy::None;
        let machine = Sim::new(seed);
        live(&machine.start_process(), sync, 61, &mut Told::default());
        let operations = machine.operations();
        for at in 1..=operations {
            let context = format!("seed {seed}, killed at operation {at} of {operations}");
            let machine = Sim::new(seed);
            let writer = machine.start_process();
            writer.kill_at(at);
            let mut told = Told::default();
            live(&writer, sync, 61, &mut told);
            writer.kill();
            let mut queue: Publisher<Sim> = match Queue::publisher(&machine.start_process(), DIR, options(sync)) {
                Ok(queue) => queue,
                Err(error) => panic!("{context}: {error}: {error:?}"),
            };
            assert_eq!(queue.next_seq(), told.appended + 1, "{context}");
            let (seqs, lost) = read_all(&mut earliest(&machine));
            assert_eq!(lost, [], "{context}");
            if told.appended > 0 {
                let all: Vec<u64> = (seqs[0]..=told.appended).collect();
                assert_eq!(seqs, all, "{context}");
            }
            let seq = queue.next_seq();
            queue
                .append_wait(Append { time_ns: seq, type_id: 1, flags: 0 }, &payload(seq), Duration::from_secs(1))
                .unwrap();
            told.appended = seq;
            check(&machine, &told, told.appended, &context);
        }
    }
}

#[test]
fn s_13_a_full_disk_is_a_refusal_with_nothing_lost_and_clears() {
    let sim = Sim::new(5);
    // Enough for the small files and a few segments, not for the budget.
    sim.faults(Faults { disk_bytes: 48 << 10, ..Faults::default() });
    let options = PublisherOptions {
        segment_len: 8192,
        max_bytes: 1 << 20,
        helper: false,
        ..PublisherOptions::new(Profile::Raw)
    };
    let mut queue = Queue::publisher(&sim, DIR, options).unwrap();
    let mut appended = 0;
    let refused = loop {
        match queue.append(Append::default(), &[7; 200]) {
            Ok(seq) => appended = seq,
            Err(Refused::NotReady) => queue.maintain(),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::NoSpace);
    let trouble = queue.last_trouble().unwrap().to_string();
    assert!(trouble.contains("/q/") && trouble.contains(".fresh"), "{trouble}");
    assert!(appended > 50);
    let mut reader = earliest_any(&sim);
    let mut count = 0;
    while reader.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, appended, "nothing lost");
    sim.faults(Faults::default());
    let seq = queue.append_wait(Append::default(), &[8; 200], Duration::from_secs(5)).unwrap();
    assert_eq!(seq, appended + 1);
    assert!(queue.last_trouble().is_none(), "cleared");
    assert_eq!(reader.next().unwrap().unwrap().seq, seq);
}

fn earliest_any(sim: &Sim) -> Subscriber<Sim> {
    Queue::observer(sim, DIR, SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() }).unwrap()
}

#[test]
fn a_failed_sync_is_never_followed_by_one_that_is_believed() {
    let sim = Sim::new(9);
    live(&sim, SyncPolicy::None, 30, &mut Told::default());
    let syncs = sim.syncs();
    for failing in 1..=syncs + 5 {
        let sim = Sim::new(9);
        sim.faults(Faults { failing_sync: Some(failing), ..Faults::default() });
        let Ok(mut queue) = Queue::publisher(&sim, DIR, options(SyncPolicy::None)) else { continue };
        let mut failed = false;
        let mut durable = 0;
        for _ in 0..40 {
            let seq = queue.next_seq();
            match queue.append(Append { time_ns: seq, type_id: 1, flags: 0 }, &payload(seq)) {
                Ok(_) => {}
                Err(Refused::Poisoned) => {
                    assert!(queue.sync().is_err(), "poisoned and yet it syncs, failing {failing}");
                    failed = true;
                }
                Err(_) => queue.maintain(),
            }
            match queue.sync() {
                Ok(found) => {
                    assert!(!failed, "sync {failing} failed and a later one was believed");
                    durable = found.seq;
                }
                Err(_) => failed = true,
            }
        }
        drop(queue);
        let after = sim.crash();
        let mut told = Told { appended: 0, durable, begun_at: Vec::new() };
        let queue = Queue::publisher(&after, DIR, options(SyncPolicy::None)).unwrap();
        told.begun_at.push(queue.next_seq());
        drop(queue);
        check(&after, &told, durable, &format!("failing sync {failing}"));
    }
}
