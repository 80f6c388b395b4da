//! Group `fanin`: a million frames of 64 bytes, spread over 2, 8 and 64 queues at random, as one stream by time.
//!
//! The floor is one reader of one queue that has the same frames in that order already: what a merge can at best be. Both
//! copy every payload out, as who does not trust his writers must. The rivals merge plain vectors in private memory, with
//! no queue around them: what they are given for free, they may keep.

use crate::{
    contest::{Contest, Line, Target},
    machine,
};
use chronicle_bus::{FanIn, fan_in::Merged};
use chronicle_core::{Append, Payload};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Profile, PublisherOptions, Queue, Start, Subscriber, SubscriberOptions};
use itertools::Itertools;
use std::{
    cell::RefCell, cmp::Reverse, collections::BinaryHeap, hint::black_box, path::Path, time::Duration, time::Instant,
};

const FRAMES: u64 = 1_000_000;
const PAYLOAD: usize = 64;
const ROUNDS: usize = 7;

/// A frame of a rival.
#[derive(Clone, Copy)]
struct Plain {
    time_ns: u64,
    payload: [u8; PAYLOAD],
}

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    for sources in [2, 8, 64_usize] {
        let dir = dir.join(sources.to_string());
        let spread = spread(sources);
        let mut plain: Vec<Vec<Plain>> = vec![Vec::new(); sources];
        for (time_ns, source) in (1..).zip(&spread) {
            plain[*source].push(Plain { time_ns, payload: payload(time_ns) });
        }
        let one = RefCell::new(filled(&dir.join("one"), &(1..=FRAMES).collect::<Vec<_>>())?);
        let many = plain.iter().enumerate().map(|(nth, frames)| {
            let times: Vec<u64> = frames.iter().map(|frame| frame.time_ns).collect();
            filled(&dir.join(nth.to_string()), &times)
        });
        let mut many: Vec<Subscriber<Linux>> = many.collect::<Result<_, _>>()?;
        let plain = &plain;
        let expected = (1..=FRAMES).fold(0, |sum, time| mixed(sum, &payload(time)));
        let checked = move |sum: u64, began: Instant| {
            let rate = FRAMES as f64 / began.elapsed().as_secs_f64() / 1e6;
            if sum == expected { Ok(rate) } else { Err("not every frame came, or not in order".to_owned()) }
        };
        out(Contest {
            group: "fanin",
            case: format!("{sources} queues by time, 64 B payloads copied"),
            unit: "M frames/s",
            higher_is_better: true,
            ours: Box::new(move || {
                let mut merge = FanIn::new(&Linux, Duration::ZERO);
                for mut subscriber in std::mem::take(&mut many) {
                    subscriber.seek(Start::Earliest).map_err(|it| it.to_string())?;
                    merge.add(subscriber);
                }
                let began = Instant::now();
                let mut sum = 0;
                let mut left = FRAMES;
                while left > 0 {
                    match merge.next(u64::MAX) {
                        Some(Merged::Frame(it)) => sum = copied(sum, &it.frame.payload),
                        Some(Merged::Event(event)) => return Err(event.to_string()),
                        None => return Err(format!("{left} frames are missing")),
                    }
                    left -= 1;
                }
                let rate = checked(sum, began);
                many = (0..sources as u32).filter_map(|source| merge.remove(source)).collect();
                rate
            }),
            floor: Some((
                "one reader of one queue",
                Box::new(|| {
                    let mut one = one.borrow_mut();
                    one.seek(Start::Earliest).map_err(|it| it.to_string())?;
                    let began = Instant::now();
                    let mut sum = 0;
                    while let Some(frame) = one.next().map_err(|it| it.to_string())? {
                        sum = copied(sum, &frame.payload);
                    }
                    checked(sum, began)
                }),
            )),
            rivals: vec![
                (
                    "itertools kmerge, vectors",
                    Box::new(move || {
                        let began = Instant::now();
                        let merged = plain.iter().map(|frames| frames.iter()).kmerge_by(|a, b| a.time_ns < b.time_ns);
                        let sum = merged.fold(0, |sum, frame| mixed(sum, &black_box(frame.payload)));
                        checked(sum, began)
                    }),
                ),
                (
                    "std BinaryHeap, vectors",
                    Box::new(move || {
                        let began = Instant::now();
                        let mut at = vec![0; plain.len()];
                        let heads =
                            plain.iter().enumerate().filter_map(|(nth, frames)| Some((frames.first()?.time_ns, nth)));
                        let mut heap: BinaryHeap<Reverse<(u64, usize)>> = heads.map(Reverse).collect();
                        let mut sum = 0;
                        while let Some(mut top) = heap.peek_mut() {
                            let source = top.0.1;
                            sum = mixed(sum, &black_box(plain[source][at[source]].payload));
                            at[source] += 1;
                            match plain[source].get(at[source]) {
                                Some(next) => top.0.0 = next.time_ns,
                                None => _ = std::collections::binary_heap::PeekMut::pop(top),
                            }
                        }
                        checked(sum, began)
                    }),
                ),
            ],
            target: if sources == 8 { Target::Ratio(0.7) } else { Target::None },
        }
        .run(ROUNDS)?);
        let _ = std::fs::remove_dir_all(&dir);
    }
    Ok(())
}

/// Which source each frame comes from: without a pattern that a processor could learn.
fn spread(sources: usize) -> Vec<usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..FRAMES).map(|_| (random() >> 20) as usize % sources).collect()
}

fn payload(time_ns: u64) -> [u8; PAYLOAD] {
    let mut payload = [time_ns as u8; PAYLOAD];
    payload[..8].copy_from_slice(&time_ns.to_le_bytes());
    payload
}

fn copied(sum: u64, payload: &Payload<'_>) -> u64 {
    mixed(sum, &black_box(payload.read::<[u8; PAYLOAD]>(0).unwrap_or([0; PAYLOAD])))
}

/// Depends on the order, so that a merge in a wrong one is no result; and on every byte.
fn mixed(sum: u64, payload: &[u8; PAYLOAD]) -> u64 {
    sum.rotate_left(5).wrapping_add(machine::sum(payload))
}

/// A queue with frames of these times, and a reader whose mappings are warm.
fn filled(dir: &Path, times: &[u64]) -> Result<Subscriber<Linux>, String> {
    let profile = PublisherOptions::new(Profile::Raw);
    let options = PublisherOptions { segment_len: 4 << 20, max_bytes: 256 << 20, ..profile };
    let mut queue = crate::queue::publisher(dir, options)?;
    for time_ns in times {
        let append = Append { time_ns: *time_ns, type_id: 1, flags: 0 };
        queue.append_wait(append, &payload(*time_ns), Duration::from_secs(10)).map_err(|it| it.to_string())?;
    }
    queue.close().map_err(|it| it.to_string())?;
    let options = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    Queue::observer(&Linux, dir, options).map_err(|it| it.to_string())
}
