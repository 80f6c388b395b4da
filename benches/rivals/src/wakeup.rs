//! Group `wakeup`: a message to a reader that sleeps, and back to one that sleeps too.
//!
//! The floor is a bare futex: a word is stored, its sleeper woken. Ours is a ring's push, a look whether anybody sleeps, and
//! the same two system calls; before a reader sleeps it marks itself, has a barrier run, and looks once more.

use crate::{
    contest::{Contest, Line, Target},
    duel::{self, each, trips},
    machine::{self, MapMut},
};
use chronicle_core::{
    RegionMut as _,
    ring::spsc::{self, Consumer, DATA_WAKE, Producer, Spec},
    wake::{self, Mode},
};
use chronicle_platform::Platform as _;
use chronicle_platform_linux::Linux;
use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Trips of one measurement.
const TRIPS: usize = 2_000;
/// Pushes of one measurement.
const PUSHES: u64 = 1 << 20;
const CAPACITY: usize = 1 << 16;
const ROUNDS: usize = 7;
/// Longer than any trip: who sleeps is woken.
const LONG: Duration = Duration::from_secs(5);

/// Measures the group.
pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !duel::two_processors("wakeup") {
        return Ok(());
    }
    Linux.register_barrier().map_err(|it| it.to_string())?;
    let map = |name: &str| -> Result<Arc<MapMut>, String> {
        let len = spsc::len(CAPACITY).ok_or("no ring has this capacity")?;
        machine::warm_file(&dir.join(name), len).map(Arc::new)
    };
    let (there, back) = (map("there")?, map("back")?);
    let (bare_there, bare_back) = (map("bare-there")?, map("bare-back")?);
    for mode in [Mode::Asymmetric, Mode::Fence] {
        let (there, back) = (there.clone(), back.clone());
        let (bare_there, bare_back) = (bare_there.clone(), bare_back.clone());
        let contest = Contest {
            group: "wakeup",
            case: format!("64 B there and back between sleepers, p50, {}", name(mode)),
            unit: "ns",
            higher_is_better: false,
            ours: Box::new(move || ours(&there, &back, mode)),
            floor: Some(("bare futex", Box::new(move || bare(&bare_there, &bare_back)))),
            rivals: Vec::new(),
            target: Target::Ratio(1.1),
        };
        out(contest.run(ROUNDS)?);
    }
    for mode in [Mode::Asymmetric, Mode::Fence] {
        let (with, without) = (there.clone(), back.clone());
        let contest = Contest {
            group: "wakeup",
            case: format!("push and take of 64 B, nobody sleeps, {}", name(mode)),
            unit: "ns",
            higher_is_better: false,
            ours: Box::new(move || pushing(&with, Some(mode))),
            floor: Some(("the same, asking nobody", Box::new(move || pushing(&without, None)))),
            rivals: Vec::new(),
            target: Target::None,
        };
        out(contest.run(ROUNDS)?);
    }
    Ok(())
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Asymmetric => "sleepers pay (membarrier)",
        Mode::Fence => "the writer pays (fence)",
    }
}

fn ring(map: &Arc<MapMut>) -> Result<(Producer<Arc<MapMut>>, Consumer<Arc<MapMut>>), String> {
    spsc::format(map, &Spec { capacity: CAPACITY, ..Spec::default() }).map_err(|it| it.to_string())?;
    let producer = Producer::attach(map.clone()).map_err(|it| it.to_string())?;
    Ok((producer, Consumer::attach(map.clone()).map_err(|it| it.to_string())?))
}

fn send(producer: &mut Producer<Arc<MapMut>>, mode: Mode) -> Result<(), String> {
    producer.push(&[7; 64]).map_err(|it| it.to_string())?;
    if producer.sleepers(mode) {
        Linux.wake(producer.region(), DATA_WAKE).map_err(|it| it.to_string())?;
    }
    Ok(())
}

fn receive(consumer: &mut Consumer<Arc<MapMut>>, mode: Mode) -> Result<(), String> {
    loop {
        if consumer.pop(&mut [0; 64]).map_err(|it| it.to_string())?.is_some() {
            return Ok(());
        }
        let seen = consumer.mark_sleeper();
        match mode {
            Mode::Asymmetric => Linux.barrier().map_err(|it| it.to_string())?,
            Mode::Fence => wake::settle(),
        }
        if !consumer.is_ready() {
            Linux.wait_mut(consumer.region(), DATA_WAKE, seen, LONG).map_err(|it| it.to_string())?;
        }
    }
}

fn ours(there: &Arc<MapMut>, back: &Arc<MapMut>, mode: Mode) -> Result<f64, String> {
    let (mut ask, mut heard) = ring(there)?;
    let (mut answer, mut came) = ring(back)?;
    let other = move || {
        for _ in 0..TRIPS {
            receive(&mut heard, mode).expect("the other side is there");
            send(&mut answer, mode).expect("there is room");
        }
    };
    trips(TRIPS, other, |_| {
        send(&mut ask, mode)?;
        receive(&mut came, mode)
    })
}

/// A word each way.
fn bare(there: &MapMut, back: &MapMut) -> Result<f64, String> {
    let post = |map: &MapMut, number: u32| {
        map.window_mut().store_release(0, number);
        Linux.wake(map, 0).map_err(|it| it.to_string())
    };
    let pend = |map: &MapMut, number: u32| {
        while map.window_mut().load_acquire(0) != number {
            Linux.wait_mut(map, 0, number.wrapping_sub(1), LONG).map_err(|it| it.to_string())?;
        }
        Ok::<_, String>(())
    };
    there.window_mut().store(0, 0);
    back.window_mut().store(0, 0);
    let other = move || {
        for number in 1..=TRIPS as u32 {
            pend(there, number).expect("the other side is there");
            post(back, number).expect("a word can be woken");
        }
    };
    trips(TRIPS, other, |number| {
        post(there, number as u32 + 1)?;
        pend(back, number as u32 + 1)
    })
}

/// One thread that pushes and takes, so that the look is all that differs.
fn pushing(map: &Arc<MapMut>, mode: Option<Mode>) -> Result<f64, String> {
    let (mut producer, mut consumer) = ring(map)?;
    let began = Instant::now();
    for _ in 0..PUSHES {
        producer.push(black_box(&[7; 64])).map_err(|it| it.to_string())?;
        if let Some(mode) = mode
            && producer.sleepers(mode)
        {
            return Err("somebody sleeps: not what is measured".to_owned());
        }
        black_box(consumer.pop(&mut [0; 64]).map_err(|it| it.to_string())?);
    }
    Ok(each(began.elapsed(), PUSHES))
}
