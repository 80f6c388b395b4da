//! A segment's file that somebody takes away must not be a loss that nobody hears of.
//!
//! The writer's mapping lives on without the name: it would append for hours what no reader ever finds, and the next writer
//! would hand out the same seqs again. So the writer leaves such a segment and says so, whoever looks is told which one is
//! missing, and readers hear what they lost.

use chronicle_core::Append;
use chronicle_platform::{Platform, sim::Sim};
use chronicle_storage::queue::{
    Profile, Publisher, PublisherOptions, Queue, ReadError, Refused, Start, Subscriber, SubscriberOptions, describe,
    verify,
};
use std::{path::Path, time::Duration};

const DIR: &str = "/q";
const SEGMENT_LEN: u32 = 4096;

fn options() -> PublisherOptions {
    PublisherOptions {
        segment_len: SEGMENT_LEN,
        max_bytes: 6 * u64::from(SEGMENT_LEN),
        helper: false,
        ..PublisherOptions::new(Profile::Raw)
    }
}

/// Appends frames that hold their own seq.
fn put(queue: &mut Publisher<Sim>, count: u64) -> Result<(), Refused> {
    for _ in 0..count {
        let seq = queue.next_seq();
        let append = Append { time_ns: seq, ..Append::default() };
        queue.append_wait(append, &seq.to_le_bytes().repeat(10), Duration::from_millis(50))?;
    }
    Ok(())
}

/// Appends until the writer is in a segment other than before.
fn fill(queue: &mut Publisher<Sim>) -> u64 {
    let before = queue.segment_id();
    while queue.segment_id() == before {
        put(queue, 1).unwrap();
    }
    queue.segment_id()
}

fn observer(sim: &Sim) -> Subscriber<Sim> {
    let options = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
    Queue::observer(sim, DIR, options).unwrap()
}

/// Seqs that come, and what is said between them.
fn read(reader: &mut Subscriber<Sim>) -> (Vec<u64>, Vec<String>) {
    let (mut seqs, mut said) = (Vec::new(), Vec::new());
    loop {
        match reader.next() {
            Ok(None) => return (seqs, said),
            Ok(Some(frame)) => {
                let mut payload = vec![0; frame.payload.len()];
                frame.payload.copy_to(&mut payload);
                assert_eq!(payload, frame.seq.to_le_bytes().repeat(10), "a frame of its own");
                seqs.push(frame.seq);
            }
            Err(error @ (ReadError::Lost { .. } | ReadError::Lapped { .. })) => said.push(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
}

fn problems(sim: &Sim) -> Vec<String> {
    let mut problems = Vec::new();
    verify(sim, Path::new(DIR), &mut |error| problems.push(error.to_string())).unwrap();
    problems
}

fn missing(sim: &Sim) -> Vec<u64> {
    describe(sim, Path::new(DIR)).unwrap().missing.iter().map(|missing| missing.segment_id).collect()
}

fn path(id: u64) -> String {
    format!("{DIR}/{id:020}.q")
}

/// Lets so much time go by that the writer looks at the names again.
fn pass(sim: &Sim, queue: &mut Publisher<Sim>) {
    sim.sleep(Duration::from_secs(2));
    queue.maintain();
}

#[test]
fn the_writer_leaves_a_segment_that_nobody_finds() {
    let sim = Sim::new(1);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let current = fill(&mut queue);
    pass(&sim, &mut queue);
    assert_eq!((missing(&sim), problems(&sim)), (vec![], vec![]));
    assert!(queue.last_trouble().is_none() && !queue.leave_lost());
    let mut inside = observer(&sim);
    read(&mut inside);

    let before = queue.next_seq();
    sim.remove(Path::new(&path(current))).unwrap();
    put(&mut queue, 3).unwrap();
    pass(&sim, &mut queue);
    let trouble = queue.last_trouble().expect("it says so").to_string();
    assert!(trouble.starts_with(&path(current)) && trouble.contains("missing"), "{trouble}");
    assert!(queue.leave_lost(), "it goes on elsewhere");
    assert!(!queue.leave_lost(), "once");
    let after = queue.next_seq();
    put(&mut queue, 3).unwrap();

    assert_eq!(missing(&sim), [current]);
    let told = problems(&sim);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&path(current)) && told[0].contains("follows it"), "{told:?}");
    // Who was in it has all of it; who comes now is told.
    assert_eq!(read(&mut inside), ((before..after + 3).collect(), vec![]));
    let (seqs, said) = read(&mut observer(&sim));
    assert!(seqs.ends_with(&[after, after + 1, after + 2]), "{seqs:?}");
    assert!(seqs.iter().all(|seq| !(before..after).contains(seq)), "{seqs:?}");
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_full_queue_whose_last_segment_is_gone() {
    let sim = Sim::new(2);
    let required = PublisherOptions { required: vec!["slow".to_owned()], ..options() };
    let mut queue = Queue::publisher(&sim, DIR, required).unwrap();
    while put(&mut queue, 1).is_ok() {}
    let current = queue.segment_id();
    assert_eq!((missing(&sim), problems(&sim)), (vec![], vec![]));
    // Nothing was made behind it: that a writer goes on is all there is to tell by.
    sim.remove(Path::new(&path(current))).unwrap();
    assert_eq!(missing(&sim), [current]);
    assert!(problems(&sim)[0].contains("the writer goes on"));
}

#[test]
fn no_seq_is_used_again_by_the_next_writer() {
    for noticed in [false, true] {
        let sim = Sim::new(3);
        let writer = sim.start_process();
        let mut queue = Queue::publisher(&writer, DIR, options()).unwrap();
        let current = fill(&mut queue);
        let mut late = observer(&sim);
        let lost_from = queue.next_seq() - 1;
        put(&mut queue, 3).unwrap();
        sim.remove(Path::new(&path(current))).unwrap();
        if noticed {
            pass(&sim, &mut queue);
        }
        let handed_out = queue.next_seq();
        writer.kill();
        drop(queue);

        let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
        let trouble = queue.last_trouble().expect("it says so").to_string();
        assert!(trouble.starts_with(&path(current)), "{trouble}");
        let first = queue.next_seq();
        assert!(first >= handed_out, "{first} was handed out before");
        put(&mut queue, 2).unwrap();
        let (seqs, said) = read(&mut late);
        assert!(seqs.ends_with(&[lost_from - 1, first, first + 1]), "{seqs:?}");
        assert_eq!(said, [ReadError::Lost { from: lost_from, to: first - 1 }.to_string()]);
        // Told, and passed: the queue is whole again.
        assert_eq!((missing(&sim), problems(&sim)), (vec![], vec![]));
    }
}

#[test]
fn a_lost_old_segment_does_not_stop_the_writer() {
    let sim = Sim::new(4);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let oldest = queue.segment_id();
    fill(&mut queue);
    let lost = queue.segment_id();
    fill(&mut queue);
    for gone in [lost, oldest] {
        sim.remove(Path::new(&path(gone))).unwrap();
        assert!(missing(&sim).contains(&gone), "{gone}");
    }
    // Its turn to retire comes, several times over, and the queue is as it should be.
    for _ in 0..20 {
        fill(&mut queue);
    }
    assert_eq!((missing(&sim), problems(&sim)), (vec![], vec![]));
    assert!(queue.last_trouble().is_some_and(|trouble| trouble.to_string().contains("missing")));
}

#[test]
fn put_back_it_is_the_queues_again() {
    let sim = Sim::new(5);
    let mut queue = Queue::publisher(&sim, DIR, options()).unwrap();
    let current = fill(&mut queue);
    put(&mut queue, 3).unwrap();
    let (there, elsewhere) = (path(current), format!("{DIR}/elsewhere"));
    sim.rename(Path::new(&there), Path::new(&elsewhere)).unwrap();
    assert_eq!(missing(&sim), [current]);
    pass(&sim, &mut queue);
    assert!(queue.leave_lost());
    put(&mut queue, 3).unwrap();
    sim.rename(Path::new(&elsewhere), Path::new(&there)).unwrap();
    assert_eq!((missing(&sim), problems(&sim)), (vec![], vec![]));
    let (seqs, said) = read(&mut observer(&sim));
    assert_eq!((seqs, said), ((1..queue.next_seq()).collect(), vec![]));
}
