//! Group `broadcast`: what readers cost the writer that they cannot stop.
//!
//! The writer sends while 0, 1, 2 or 4 threads read. There are two processors, and the writer has one of them: so
//! readers share the other, and what is compared is the writer's time alone. *Paced*, it sends ten million a second, and
//! the time within its pushes counts. *Flat out*, it sends as fast as it can, and what a processor pays for lines that
//! another one has read shows too: a bare writer beside bare readers, without any protocol, is measured in the same way.

use crate::{
    contest::{Contest, Line, Target},
    duel::{self, each},
    machine,
    spsc::message,
};
use chronicle_core::{
    HeapRegion,
    ring::broadcast::{self, Reader, Received, Spec, Start, Writer},
};
use std::{
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use zerocopy::IntoBytes as _;

/// Messages in one measurement.
const COUNT: u64 = 1 << 20;
/// Messages in one paced measurement.
const PACED: u64 = 1 << 18;
/// Nanoseconds from one paced message to the next.
const PACE: f64 = 100.0;
/// Bytes of the ring: more than the caches of one processor, so that no writer lives in its cache alone.
const CAPACITY: usize = 1 << 23;
const ROUNDS: usize = 9;

/// Measures the group.
pub fn run(_dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !duel::two_processors("broadcast") {
        return Ok(());
    }
    type Writing = fn(usize) -> Result<f64, String>;
    let cases: [(&str, Writing, Target); 3] = [
        ("paced", |readers| writing(readers, Some(PACE)), Target::Ratio(1.1)),
        ("flat out", |readers| writing(readers, None), Target::Ratio(1.1)),
        ("a bare writer, flat out", bare, Target::None),
    ];
    for (how, measure, target) in cases {
        for readers in [1, 2, 4] {
            let contest = Contest {
                group: "broadcast",
                case: format!("64 B, the writer's time, {how}, readers: {readers}"),
                unit: "ns",
                higher_is_better: false,
                ours: Box::new(move || measure(readers)),
                floor: Some(("the same without readers", Box::new(move || measure(0)))),
                rivals: Vec::new(),
                target,
            };
            duel::run(contest, ROUNDS, out)?;
        }
    }
    Ok(())
}

/// Nanoseconds a message of the writer, while so many readers follow; with a pace, of the pushes alone.
fn writing(readers: usize, pace_ns: Option<f64>) -> Result<f64, String> {
    let region = Arc::new(HeapRegion::new(broadcast::len(CAPACITY).ok_or("no ring has this capacity")?));
    broadcast::format(&region, &Spec { capacity: CAPACITY, ..Spec::default() }).map_err(|it| it.to_string())?;
    let mut writer = Writer::attach(region.clone()).map_err(|it| it.to_string())?;
    // Twice round before the clock starts: every page is there.
    for n in 0..2 * CAPACITY as u64 / 64 {
        writer.push(message(n).as_bytes()).map_err(|it| it.to_string())?;
    }
    let (start, done) = (Barrier::new(readers + 1), AtomicBool::new(false));
    let took = std::thread::scope(|scope| -> Result<_, String> {
        let others: Vec<_> = (0..readers)
            .map(|_| {
                let (region, start, done) = (region.clone(), &start, &done);
                scope.spawn(move || {
                    machine::pin(1);
                    let mut reader = Reader::attach(region, Start::Newest).map_err(|it| it.to_string())?;
                    start.wait();
                    read(&mut reader, done)
                })
            })
            .collect();
        machine::pin(0);
        start.wait();
        let ns = match pace_ns {
            None => {
                let began = Instant::now();
                for n in 0..COUNT {
                    writer.push(message(n).as_bytes()).map_err(|it| it.to_string())?;
                }
                each(began.elapsed(), COUNT)
            }
            Some(pace_ns) => {
                let tick = machine::tick_ns();
                let (pace, mut inside, mut due) = ((pace_ns / tick) as u64, 0, machine::ticks());
                for n in 0..PACED {
                    due += pace;
                    let mut began = machine::ticks();
                    while began < due {
                        std::hint::spin_loop();
                        began = machine::ticks();
                    }
                    writer.push(message(n).as_bytes()).map_err(|it| it.to_string())?;
                    inside += machine::ticks() - began;
                }
                inside as f64 * tick / PACED as f64
            }
        };
        done.store(true, Ordering::Release);
        for other in others {
            let seen = other.join().map_err(|_| "a reader panicked".to_owned())??;
            if seen == 0 {
                return Err("a reader saw nothing: nothing was measured".to_owned());
            }
        }
        Ok(ns)
    });
    machine::unpin();
    took
}

/// Follows until told that it is over; how many messages were seen.
fn read(reader: &mut Reader<Arc<HeapRegion>>, done: &AtomicBool) -> Result<u64, String> {
    let (mut seen, mut bytes) = (0, [0; 64]);
    loop {
        match reader.receive(&mut bytes).map_err(|it| it.to_string())? {
            Received::Message { .. } => seen += 1,
            Received::Empty => {
                if done.load(Ordering::Acquire) {
                    return Ok(seen);
                }
                std::hint::spin_loop();
            }
            _ => {}
        }
    }
}

/// Nanoseconds a message of a writer that only copies, and stores a number with Release, while so many threads read what
/// it wrote.
fn bare(readers: usize) -> Result<f64, String> {
    let circle = machine::BareCircle::new(CAPACITY);
    circle.write(2 * CAPACITY as u64 / 64, message);
    let (start, done) = (Barrier::new(readers + 1), AtomicBool::new(false));
    let took = std::thread::scope(|scope| {
        for _ in 0..readers {
            let (circle, start, done) = (&circle, &start, &done);
            scope.spawn(move || {
                machine::pin(1);
                start.wait();
                circle.follow(|| done.load(Ordering::Acquire));
            });
        }
        machine::pin(0);
        start.wait();
        let began = Instant::now();
        circle.write(COUNT, message);
        let took = began.elapsed();
        done.store(true, Ordering::Release);
        took
    });
    machine::unpin();
    Ok(each(took, COUNT))
}
