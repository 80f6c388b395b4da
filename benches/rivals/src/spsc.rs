//! Group `spsc`: 64 bytes from one thread to another.
//!
//! Everybody has a ring of the same number of messages and spins when it is full or empty, each in the way its own
//! documentation recommends: chunks where there are chunks. Messages are checked on arrival, all of them.

use crate::{
    contest::{Contest, Line, Measure, Target},
    duel::{self, Check, throughput, trips},
};
use std::{
    hint::{black_box, spin_loop},
    path::Path,
};

/// What is sent: a number and what comes with it.
pub type Message = [u64; 8];

/// Messages in one measurement.
const COUNT: u64 = 1 << 20;
/// Messages that a ring holds.
pub const CAPACITY: usize = 1024;
/// Messages of one batch.
const BATCH: usize = 32;
/// Trips of one measurement.
const TRIPS: usize = 50_000;
const ROUNDS: usize = 7;

/// The `number`th message.
#[inline(always)]
pub fn message(number: u64) -> Message {
    [black_box(number), 1, 2, 3, 4, 5, 6, 7]
}

/// Its number; all of it is looked at.
#[inline(always)]
pub fn number(message: &Message) -> u64 {
    black_box(message)[0]
}

/// Measures the group.
pub fn run(_dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !duel::two_processors("spsc") {
        return Ok(());
    }
    let contest = |case: &str, ours: Measure<'static>, rivals, target| Contest {
        group: "spsc",
        case: case.to_owned(),
        unit: "ns",
        higher_is_better: false,
        ours,
        floor: None,
        rivals,
        target,
    };
    duel::run(contest("64 B, batches of 32", Box::new(ours::batches), batches(), Target::Ratio(1.0)), ROUNDS, out)?;
    let disruptor_alone: Vec<(_, Measure<'_>)> = vec![("disruptor", Box::new(|| disruptor(1)))];
    let one = contest("64 B, one at a time", Box::new(ours::singles), disruptor_alone, Target::Ratio(1.0));
    duel::run(one, ROUNDS, out)?;
    let beside_all = contest("64 B, one at a time, beside all", Box::new(ours::singles), singles(), Target::None);
    duel::run(beside_all, ROUNDS, out)?;
    let shared = contest("64 B, one at a time, shared memory", Box::new(ours::slots), singles(), Target::None);
    duel::run(shared, ROUNDS, out)?;
    let bytes: Vec<(_, Measure<'_>)> = vec![("rtrb as bytes", Box::new(rtrb_bytes))];
    duel::run(contest("64 B as variable bytes", Box::new(ours::bytes), bytes, Target::Ratio(0.5)), ROUNDS, out)?;
    for (floor, target) in [(BARE_RING, 1.1), (BARE_SPIN, 2.0)] {
        let mut trip = contest(
            "64 B there and back, p50",
            Box::new(ours::round_trip),
            vec![("rtrb", Box::new(rtrb_trip)), ("crossbeam ArrayQueue", Box::new(array_queue_trip))],
            Target::Ratio(target),
        );
        trip.case = format!("{} against a {floor}", trip.case);
        let measure: Measure<'_> =
            if floor == BARE_RING { Box::new(bare_ring_trip) } else { Box::new(duel::line_round_trip) };
        trip.floor = Some((floor, measure));
        duel::run(trip, ROUNDS, out)?;
    }
    Ok(())
}

const BARE_RING: &str = "bare ring";
const BARE_SPIN: &str = "bare line";

fn batches() -> Vec<(&'static str, Measure<'static>)> {
    vec![
        ("rtrb chunks", Box::new(rtrb_chunks)),
        ("disruptor", Box::new(|| disruptor(BATCH))),
        ("ringbuf slices", Box::new(ringbuf_slices)),
    ]
}

fn singles() -> Vec<(&'static str, Measure<'static>)> {
    vec![
        ("disruptor", Box::new(|| disruptor(1))),
        ("rtrb", Box::new(rtrb)),
        ("ringbuf", Box::new(ringbuf)),
        ("crossbeam ArrayQueue", Box::new(array_queue)),
        ("crossbeam channel", Box::new(crossbeam_channel)),
        ("std sync_channel", Box::new(std_channel)),
        ("kanal", Box::new(kanal)),
    ]
}

/// Sends every message by `send`, which says whether it was taken.
fn offer(mut send: impl FnMut(Message) -> bool) {
    for number in 0..COUNT {
        while !send(message(number)) {
            spin_loop();
        }
    }
}

/// Takes every message.
fn take(check: &mut Check, mut receive: impl FnMut() -> Option<Message>) {
    for _ in 0..COUNT {
        loop {
            if let Some(message) = receive() {
                check.saw(number(&message));
                break;
            }
            spin_loop();
        }
    }
}

fn rtrb() -> Result<f64, String> {
    let (mut send, mut receive) = rtrb::RingBuffer::<Message>::new(CAPACITY);
    throughput(COUNT, move || offer(|it| send.push(it).is_ok()), |check| take(check, || receive.pop().ok()))
}

fn rtrb_chunks() -> Result<f64, String> {
    let (mut send, mut receive) = rtrb::RingBuffer::<Message>::new(CAPACITY);
    let produce = move || {
        let mut next = 0;
        while next < COUNT {
            match send.write_chunk_uninit(BATCH) {
                Ok(chunk) => next += chunk.fill_from_iter((next..COUNT).map(message)) as u64,
                Err(_) => spin_loop(),
            }
        }
    };
    throughput(COUNT, produce, |check| {
        let mut seen = 0;
        while seen < COUNT {
            let ready = receive.slots();
            let Ok(chunk) = receive.read_chunk(ready) else { unreachable!("so many are ready") };
            let (first, second) = chunk.as_slices();
            first.iter().chain(second).for_each(|it| check.saw(number(it)));
            chunk.commit_all();
            seen += ready as u64;
            if ready == 0 {
                spin_loop();
            }
        }
    })
}

/// A message of variable length in a ring of bytes: its length, then itself.
fn rtrb_bytes() -> Result<f64, String> {
    const LEN: usize = 8 + size_of::<Message>();
    let (mut send, mut receive) = rtrb::RingBuffer::<u8>::new(CAPACITY * LEN);
    let produce = move || {
        offer(|message| {
            let bytes = zerocopy::IntoBytes::as_bytes(&message);
            let mut frame = [0; LEN];
            frame[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            frame[8..].copy_from_slice(bytes);
            send.push_entire_slice(&frame).is_ok()
        });
    };
    throughput(COUNT, produce, |check| {
        take(check, || {
            let mut len = [0; 8];
            receive.pop_entire_slice(&mut len).ok()?;
            let (len, mut message) = (u64::from_le_bytes(len) as usize, [0; 8]);
            // Its frame is whole: the producer pushed both at once.
            receive.pop_entire_slice(&mut zerocopy::IntoBytes::as_mut_bytes(&mut message)[..len]).ok()?;
            Some(message)
        });
    })
}

fn ringbuf() -> Result<f64, String> {
    use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
    let (mut send, mut receive) = ringbuf::HeapRb::<Message>::new(CAPACITY).split();
    throughput(COUNT, move || offer(|it| send.try_push(it).is_ok()), |check| take(check, || receive.try_pop()))
}

fn ringbuf_slices() -> Result<f64, String> {
    use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
    let (mut send, mut receive) = ringbuf::HeapRb::<Message>::new(CAPACITY).split();
    let produce = move || {
        let mut next = 0;
        while next < COUNT {
            let batch: [Message; BATCH] = std::array::from_fn(|i| message(next + i as u64));
            let mut sent = 0;
            while sent < BATCH {
                sent += send.push_slice(&batch[sent..]);
            }
            next += BATCH as u64;
        }
    };
    throughput(COUNT, produce, |check| {
        let (mut seen, mut batch) = (0, [[0; 8]; BATCH]);
        while seen < COUNT {
            let n = receive.pop_slice(&mut batch);
            batch[..n].iter().for_each(|it| check.saw(number(it)));
            seen += n as u64;
        }
    })
}

fn array_queue() -> Result<f64, String> {
    let queue = crossbeam::queue::ArrayQueue::<Message>::new(CAPACITY);
    throughput(COUNT, || offer(|it| queue.push(it).is_ok()), |check| take(check, || queue.pop()))
}

fn crossbeam_channel() -> Result<f64, String> {
    let (send, receive) = crossbeam::channel::bounded::<Message>(CAPACITY);
    throughput(COUNT, move || offer(|it| send.try_send(it).is_ok()), |check| take(check, || receive.try_recv().ok()))
}

fn std_channel() -> Result<f64, String> {
    let (send, receive) = std::sync::mpsc::sync_channel::<Message>(CAPACITY);
    throughput(COUNT, move || offer(|it| send.try_send(it).is_ok()), |check| take(check, || receive.try_recv().ok()))
}

fn kanal() -> Result<f64, String> {
    let (send, receive) = kanal::bounded::<Message>(CAPACITY);
    let produce = move || offer(|it| matches!(send.try_send(it), Ok(true)));
    throughput(COUNT, produce, |check| take(check, || receive.try_recv().ok().flatten()))
}

/// Its consumer polls on our thread, so that both threads stand where everybody's stand.
fn disruptor(batch: usize) -> Result<f64, String> {
    use disruptor::{BusySpin, Polling, Producer as _, build_single_producer};
    let (mut poller, builder) = build_single_producer(CAPACITY, Message::default, BusySpin).new_event_poller();
    let mut send = builder.build();
    let produce = move || {
        if batch == 1 {
            (0..COUNT).for_each(|n| send.publish(|it| *it = message(n)));
        } else {
            for first in (0..COUNT).step_by(batch) {
                send.batch_publish(batch, |slots| {
                    slots.zip(first..).for_each(|(it, n)| *it = message(n));
                });
            }
        }
    };
    throughput(COUNT, produce, |check| {
        let mut seen = 0;
        while seen < COUNT {
            match poller.poll() {
                Ok(mut events) => {
                    for event in &mut events {
                        check.saw(number(event));
                        seen += 1;
                    }
                }
                Err(Polling::NoEvents) => spin_loop(),
                Err(Polling::Shutdown) => break,
            }
        }
    })
}

/// A message there and back through two rings; what came back is what was sent.
fn round_trip(
    mut there: (impl FnMut(Message) -> bool, impl FnMut() -> Option<Message> + Send),
    mut back: (impl FnMut(Message) -> bool + Send, impl FnMut() -> Option<Message>),
) -> Result<f64, String> {
    let answer = move || {
        for _ in 0..TRIPS {
            let message = loop {
                if let Some(message) = there.1() {
                    break message;
                }
                spin_loop();
            };
            while !back.0(message) {
                spin_loop();
            }
        }
    };
    trips(TRIPS, answer, |n| {
        while !there.0(message(n)) {
            spin_loop();
        }
        loop {
            if let Some(message) = back.1() {
                let came = number(&message);
                return if came == n { Ok(()) } else { Err(format!("sent {n}, {came} came back")) };
            }
            spin_loop();
        }
    })
}

fn rtrb_trip() -> Result<f64, String> {
    let (mut s1, mut r1) = rtrb::RingBuffer::<Message>::new(CAPACITY);
    let (mut s2, mut r2) = rtrb::RingBuffer::<Message>::new(CAPACITY);
    round_trip(
        (move |it| s1.push(it).is_ok(), move || r1.pop().ok()),
        (move |it| s2.push(it).is_ok(), move || r2.pop().ok()),
    )
}

fn array_queue_trip() -> Result<f64, String> {
    let new = crossbeam::queue::ArrayQueue::<Message>::new;
    let (there, back) = (new(CAPACITY), new(CAPACITY));
    round_trip((|it| there.push(it).is_ok(), || there.pop()), (|it| back.push(it).is_ok(), || back.pop()))
}

/// The least that a ring can be: an index stored by each end, a copy between. No bound is checked and nothing kept.
fn bare_ring_trip() -> Result<f64, String> {
    let (there, back) = (crate::machine::BareRing::new(), crate::machine::BareRing::new());
    let (mut s1, mut r1) = there.ends();
    let (mut s2, mut r2) = back.ends();
    round_trip((move |it| s1.push(it), move || r1.pop()), (move |it| s2.push(it), move || r2.pop()))
}
/// Ours.
mod ours {
    use super::*;
    use chronicle_core::{
        HeapRegion,
        ring::{
            local::channel,
            slots,
            spsc::{self, Consumer, Producer, PushError, Spec},
        },
    };
    use std::sync::Arc;
    use zerocopy::IntoBytes as _;

    /// Values within one process, in chunks.
    pub fn batches() -> Result<f64, String> {
        let (mut send, mut receive) = channel::<Message>(CAPACITY).map_err(|it| it.to_string())?;
        let produce = move || {
            let mut next = 0;
            while next < COUNT {
                match send.write_chunk_uninit(BATCH) {
                    Ok(chunk) => next += chunk.fill_from_iter((next..COUNT).map(message)) as u64,
                    Err(_) => spin_loop(),
                }
            }
        };
        throughput(COUNT, produce, |check| {
            let mut seen = 0;
            while seen < COUNT {
                let ready = receive.occupancy().used;
                let Ok(chunk) = receive.read_chunk(ready) else { unreachable!("so many are ready") };
                let (first, second) = chunk.as_slices();
                first.iter().chain(second).for_each(|it| check.saw(number(it)));
                chunk.commit_all();
                seen += ready as u64;
                if ready == 0 {
                    spin_loop();
                }
            }
        })
    }

    /// Values within one process, one at a time.
    pub fn singles() -> Result<f64, String> {
        let (mut send, mut receive) = channel::<Message>(CAPACITY).map_err(|it| it.to_string())?;
        throughput(COUNT, move || offer(|it| send.push(it).is_ok()), |check| take(check, || receive.pop()))
    }

    /// Two rings of values.
    pub fn round_trip() -> Result<f64, String> {
        let (mut s1, mut r1) = channel::<Message>(CAPACITY).map_err(|it| it.to_string())?;
        let (mut s2, mut r2) = channel::<Message>(CAPACITY).map_err(|it| it.to_string())?;
        super::round_trip(
            (move |it| s1.push(it).is_ok(), move || r1.pop()),
            (move |it| s2.push(it).is_ok(), move || r2.pop()),
        )
    }

    /// Values in shared memory, one at a time.
    pub fn slots() -> Result<f64, String> {
        let len = slots::len::<Message>(CAPACITY).ok_or("no ring has this capacity")?;
        let region = Arc::new(HeapRegion::new(len));
        let spec = slots::Spec { count: CAPACITY, ..slots::Spec::default() };
        slots::format::<Message, _>(&region, &spec).map_err(|it| it.to_string())?;
        let mut send = slots::Producer::<Message, _>::attach(region.clone()).map_err(|it| it.to_string())?;
        let mut receive = slots::Consumer::<Message, _>::attach(region).map_err(|it| it.to_string())?;
        throughput(
            COUNT,
            move || offer(|it| send.push(it).is_ok()),
            |check| take(check, || receive.pop().expect("no damage")),
        )
    }

    /// Messages of variable length in shared memory, read in place and copied out.
    pub fn bytes() -> Result<f64, String> {
        let capacity = CAPACITY * 64;
        // Shared, so that what the ends look up of it lies on nobody's stack.
        let region = Arc::new(HeapRegion::new(spsc::len(capacity).ok_or("no ring has this capacity")?));
        spsc::format(&region, &Spec { capacity, ..Spec::default() }).map_err(|it| it.to_string())?;
        let mut send = Producer::attach(region.clone()).map_err(|it| it.to_string())?;
        let mut receive = Consumer::attach(region).map_err(|it| it.to_string())?;
        let produce = move || {
            offer(|it| match send.push(it.as_bytes()) {
                Ok(_) => true,
                Err(PushError::Full { .. }) => false,
                Err(error) => panic!("{error}"),
            });
        };
        throughput(COUNT, produce, |check| {
            take(check, || {
                let mut message = [0; 8];
                let popped = receive.pop(message.as_mut_bytes()).expect("no damage");
                popped.is_some().then_some(message)
            });
        })
    }
}
