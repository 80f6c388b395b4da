//! A sync that failed once.
//!
//! The kernel says so once, marks the pages clean and shows them ever after: a later sync of the same file succeeds and
//! has done nothing. What a writer acknowledges after a failure, its own or a dead writer's, must be durable all the same.

use chronicle_core::Append;
use chronicle_platform::{
    File, Open, Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error,
    queue::{
        Profile, Publisher, PublisherOptions, Queue, ReadError, Refused, Start, Subscriber, SubscriberOptions, verify,
    },
};
use std::{path::Path, time::Duration};

const DIR: &str = "/q";

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 1 << 14, max_bytes: 32 << 14, helper: false, ..PublisherOptions::new(Profile::Raw) }
}

fn put(queue: &mut Publisher<Sim>, n: u64) -> Result<u64, Refused> {
    let append = Append { time_ns: n, ..Append::default() };
    queue.append_wait(append, &n.to_le_bytes().repeat(4), Duration::from_secs(5))
}

fn earliest(sim: &Sim) -> Subscriber<Sim> {
    let all = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
    Queue::observer(sim, DIR, all).unwrap()
}

/// Every frame there is, and the holes that were told.
fn read_all(reader: &mut Subscriber<Sim>) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut seqs, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(Some(frame)) => seqs.push(frame.seq),
            Ok(None) => return (seqs, lost),
            Err(ReadError::Lost { from, to }) => lost.push((from, to)),
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

/// A machine whose kernel writes nothing back by itself, and the sync of number `failing`, counted from now, fails.
fn fail(sim: &Sim, failing: u64) {
    let failing_sync = Some(sim.syncs() + failing);
    sim.faults(Faults { write_back_one_in: 0, failing_sync, ..Faults::default() });
}

/// The sync of one writer fails; the next writer, on the same machine, acknowledges the same frames.
#[test]
fn d_3_what_a_later_writer_acknowledges_is_durable() {
    for seed in 0..40 {
        let sim = Sim::new(seed);
        fail(&sim, u64::MAX / 2);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        for n in 1..=500 {
            assert_eq!(put(&mut queue, n), Ok(n));
        }
        fail(&sim, 1);
        queue.sync().unwrap_err();
        drop(queue);
        let mut live = earliest(&sim);
        assert_eq!(read_all(&mut live).0.len(), 500);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        let first = queue.next_seq();
        assert!(first > 500, "memory may have forgotten frames, so none of these seqs is used again: {first}");
        // Who was there before goes on, and is told.
        assert_eq!(put(&mut queue, 501), Ok(first));
        assert_eq!(read_all(&mut live), (vec![first], vec![(501, first - 1)]));
        assert_eq!(queue.sync().unwrap().seq, first);
        drop(queue);
        let after = sim.crash();
        drop(Queue::publisher(&after, DIR, options()).unwrap());
        let (seqs, lost) = read_all(&mut earliest(&after));
        assert_eq!(seqs, (1..=500).chain([first]).collect::<Vec<_>>(), "seed {seed}: all was acknowledged");
        assert_eq!(lost[0], (501, first - 1));
        verify(&after, Path::new(DIR), &mut |problem| panic!("{problem}")).unwrap();
    }
}

/// After a failed sync memory forgets a page that a reader has read, and that lies behind the last one synced. The reader
/// stands behind what the next writer accepts, and goes on all the same.
#[test]
fn d_3_a_reader_of_what_memory_forgot_is_told() {
    let sim = Sim::new(2);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=200 {
        put(&mut queue, n).unwrap();
    }
    let mut live = earliest(&sim);
    assert_eq!(read_all(&mut live).0.len(), 200);
    fail(&sim, 1);
    queue.sync().unwrap_err();
    drop(queue);
    let segment = sim.open(Path::new("/q/00000000000000000001.q"), Open::Write).unwrap();
    segment.write_at(&[0; 4096], 8192).unwrap();
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let first = put(&mut queue, 201).unwrap();
    // It looks for that now and then only.
    let (mut seqs, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..3000 {
        let (more, told) = read_all(&mut live);
        seqs.extend(more);
        lost.extend(told);
    }
    assert_eq!((seqs, lost), (vec![first], vec![(201, first - 1)]));
    let (seqs, lost) = read_all(&mut earliest(&sim));
    assert_eq!(seqs, (1..=126).chain([first]).collect::<Vec<_>>());
    assert_eq!(lost, [(127, first - 1)]);
}

/// Once the tail is in new files, the next writer goes on without a word.
#[test]
fn d_3_a_failure_is_forgotten_when_all_is_durable() {
    let sim = Sim::new(1);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    put(&mut queue, 1).unwrap();
    fail(&sim, 1);
    queue.sync().unwrap_err();
    drop(queue);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let second = put(&mut queue, 2).unwrap();
    drop(queue);
    let queue = Queue::publisher(&sim, DIR, options()).unwrap();
    assert_eq!(queue.next_seq(), second + 1);
}

/// Each sync of a life fails in turn, the opening's and the preparations' included; so does each sync of the opening that
/// makes up for it, and then that writer is killed or the power is cut. What any writer acknowledged is there.
#[test]
fn d_2_any_sync_may_fail_and_nothing_acknowledged_is_lost() {
    let (mut failures, mut k) = (0, 0);
    loop {
        k += 1;
        let mut done = false;
        for again in [0, 1, 2, 3, 4, 5, 6, 8, 11] {
            let context = format!("sync {k} fails, then sync {again} of the next opening");
            let sim = Sim::new(3);
            let first = sim.start_process();
            fail(&sim, k);
            let (mut appended, mut durable) = (0, 0);
            let mut failed = false;
            if let Ok(mut queue) = Queue::publisher(&first, DIR, options()) {
                for n in 1..=1500 {
                    match put(&mut queue, n) {
                        Ok(seq) => appended = seq,
                        Err(refused) => {
                            assert_eq!(refused, Refused::Poisoned, "{context}");
                            failed = true;
                            break;
                        }
                    }
                    if n % 200 == 0 {
                        match queue.sync() {
                            Ok(found) => {
                                assert!(!failed, "{context}: believed after a failure");
                                durable = found.seq;
                            }
                            Err(_) => failed = true,
                        }
                    }
                }
                if !failed {
                    done = true;
                }
            } else {
                failed = true;
            }
            failures += u64::from(failed);
            first.kill();
            if again > 0 {
                fail(&sim, again);
                let second = sim.start_process();
                if let Ok(mut queue) = Queue::publisher(&second, DIR, options()) {
                    assert!(queue.next_seq() > appended, "{context}");
                    if let Ok(seq) = put(&mut queue, 7) {
                        appended = seq;
                    }
                    if queue.sync().is_ok() {
                        durable = appended;
                    }
                }
                second.kill();
            }
            fail(&sim, u64::MAX / 2);
            let mut queue = match Queue::publisher(&sim, DIR, options()) {
                Ok(queue) => queue,
                Err(error) => panic!("{context}: does not open again: {error}: {error:?}"),
            };
            assert!(queue.next_seq() > appended, "{context}: {} again", queue.next_seq());
            let seq = put(&mut queue, 8).unwrap();
            let (before, _) = read_all(&mut earliest(&sim));
            assert_eq!(before.last(), Some(&seq), "{context}");
            assert!(appended == 0 || before.contains(&appended), "{context}: {appended} is missing");
            let acknowledged = if queue.sync().is_ok() { before } else { vec![durable] };
            drop(queue);
            let after = sim.crash();
            drop(Queue::publisher(&after, DIR, options()).unwrap());
            let (seqs, _) = read_all(&mut earliest(&after));
            let missing = acknowledged.iter().find(|seq| **seq != 0 && !seqs.contains(seq));
            assert_eq!(missing, None, "{context}: acknowledged, not there");
            verify(&after, Path::new(DIR), &mut |problem| panic!("{context}: {problem}")).unwrap();
        }
        if done {
            break;
        }
    }
    assert!(failures > 100, "{failures}");
}

/// Any one sync of a preparation fails, then all is well; the queue opens again, and readers get everything.
#[test]
fn d_2_a_failed_sync_leaves_no_segment_that_belongs_nowhere() {
    for k in 1.. {
        let sim = Sim::new(3);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        fail(&sim, k);
        let last = sim.syncs() + k;
        let mut appended = 0;
        for n in 1..=2000 {
            match put(&mut queue, n) {
                Ok(seq) => appended = seq,
                Err(_) => break,
            }
        }
        if sim.syncs() < last {
            assert!(k > 15, "{k}");
            break;
        }
        drop(queue);
        let (seqs, _) = read_all(&mut earliest(&sim));
        assert_eq!(seqs.last(), Some(&appended), "sync {k}");
        drop(Queue::publisher(&sim, DIR, options()).unwrap());
        let (seqs, _) = read_all(&mut earliest(&sim));
        assert_eq!(seqs.last(), Some(&appended), "sync {k}");
    }
}

/// Where there is no room for the copy the queue stays closed, and as it was.
#[test]
fn d_3_without_room_for_new_blocks_the_queue_does_not_open() {
    let sim = Sim::new(5);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=100 {
        put(&mut queue, n).unwrap();
    }
    fail(&sim, 1);
    queue.sync().unwrap_err();
    drop(queue);
    let used: u64 = 16 << 10;
    sim.faults(Faults { disk_bytes: used, ..Faults::default() });
    for _ in 0..2 {
        let error = Queue::publisher(&sim, DIR, options()).unwrap_err();
        assert!(matches!(&error, Error::Trouble(trouble) if trouble.path().starts_with(DIR)), "{error:?}");
    }
    assert_eq!(read_all(&mut earliest(&sim)).0.len(), 100);
    sim.faults(Faults::default());
    drop(Queue::publisher(&sim, DIR, options()).unwrap());
    assert_eq!(read_all(&mut earliest(&sim)).0.len(), 100);
}

/// No frame goes where no sync is believed, and the writer that heard of it is the first to know.
#[test]
fn d_2_after_a_failed_sync_nothing_is_appended() {
    let sim = Sim::new(6);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    put(&mut queue, 1).unwrap();
    fail(&sim, 1);
    queue.sync().unwrap_err();
    for _ in 0..3 {
        assert_eq!(queue.append(Append::default(), b"x"), Err(Refused::Poisoned));
        assert_eq!(queue.claim(8).map(drop), Err(Refused::Poisoned));
        assert_eq!(queue.append_wait(Append::default(), b"x", Duration::from_secs(1)), Err(Refused::Poisoned));
        assert!(matches!(queue.sync(), Err(Error::Poisoned { .. })));
    }
    assert_eq!(queue.next_seq(), 2);
    assert_eq!(read_all(&mut earliest(&sim)).0, [1]);
}

/// Too many open files, say: what fails before anything is synced passes, and nothing is poisoned.
#[test]
fn a_trouble_that_is_no_failed_sync_passes() {
    let sim = Sim::new(8);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    for n in 1..=600 {
        put(&mut queue, n).unwrap();
    }
    drop(queue);
    // Segments of another process have to be opened to be synced.
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    sim.faults(Faults { failing_operation: Some(sim.operations() + 1), ..Faults::default() });
    let error = queue.sync().unwrap_err();
    assert!(matches!(&error, Error::Trouble(trouble) if trouble.operation() == "open"), "{error:?}");
    assert_eq!(put(&mut queue, 601), Ok(601));
    assert_eq!(queue.sync().unwrap().seq, 601);
    drop(queue);
    assert_eq!(Queue::publisher(&sim, DIR, options()).unwrap().next_seq(), 602, "no seq is skipped");
}

/// An operator reads the name that the file has.
#[test]
fn a_trouble_names_the_control_file() {
    let named = (1..).find_map(|k| {
        let sim = Sim::new(8);
        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        put(&mut queue, 1).unwrap();
        fail(&sim, k);
        match queue.sync() {
            Err(Error::Trouble(trouble)) => {
                let path = trouble.path().to_path_buf();
                path.to_string_lossy().contains("control").then_some(path)
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(named.unwrap(), Path::new("/q/control.meta"));
}
