//! One measurement each, through what ships: its queue, its log, its clock.
//!
//! Every one takes a fraction of a second and gives a histogram in nanoseconds, or why there is none.

use crate::run::Failure;
use chronicle::{
    Append, System,
    platform::{File, Open, Platform},
    storage::{
        queue::{Profile, PublisherOptions, Queue, Refused, Start, SubscriberOptions, WakePolicy},
        wal::{Options, Threads, Wal},
    },
};
use hdrhistogram::Histogram;
use std::{
    hint::spin_loop,
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Nanoseconds of so many events.
pub(super) type Times = Histogram<u64>;

/// How a measurement waits, for the table.
pub(super) const SPINS: &str = "spins";
pub(super) const SLEEPS: &str = "sleeps";
pub(super) const BLOCKS: &str = "blocks";
pub(super) const NONE: &str = "-";

fn times() -> Times {
    // From a nanosecond to ten seconds, to three figures.
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("bug: the bounds are in order")
}

/// What a reading of the clock costs: batches of 64.
pub(super) fn clock(time: Duration) -> Times {
    let (mut found, began) = (times(), Instant::now());
    while began.elapsed() < time {
        let first = System.monotonic_ns();
        for _ in 0..62 {
            std::hint::black_box(System.now_ns());
        }
        let last = System.monotonic_ns();
        found.saturating_record(((last - first) / 63).max(1));
    }
    found
}

/// A word handed from one processor to another and back, by loads and stores; half of the way there and back.
pub(super) fn hand_over(pair: (u32, u32), time: Duration) -> Result<Times, Failure> {
    /// A word alone on its lines: neighbours are fetched in pairs.
    #[repr(align(128))]
    struct Line(AtomicU64);
    let (ping, pong, over) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)), AtomicBool::new(false));
    let mut found = times();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            System.run_on(pair.1)?;
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                // ORDERING: Acquire and Release as a ring has them; nothing else is carried.
                let now = ping.0.load(Ordering::Acquire);
                if now == seen {
                    spin_loop();
                    continue;
                }
                seen = now;
                pong.0.store(now, Ordering::Release);
            }
            Ok::<(), Failure>(())
        });
        let result = System.run_on(pair.0).map_err(Failure::from).map(|()| {
            let began = Instant::now();
            let mut turn = 0;
            while began.elapsed() < time {
                let first = System.monotonic_ns();
                const TURNS: u64 = 16;
                for _ in 0..TURNS {
                    turn += 1;
                    ping.0.store(turn, Ordering::Release);
                    while pong.0.load(Ordering::Acquire) != turn && !other.is_finished() {
                        spin_loop();
                    }
                }
                found.saturating_record(((System.monotonic_ns() - first) / (2 * TURNS)).max(1));
            }
        });
        over.store(true, Ordering::Relaxed);
        let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(theirs)
    })?;
    Ok(found)
}

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 4 << 20, max_bytes: 64 << 20, ..PublisherOptions::new(Profile::Raw) }
}

/// Appends of 64 bytes, in batches of 32, nobody reading.
pub(super) fn append(dir: &Path, time: Duration) -> Result<Times, Failure> {
    let mut writer = Queue::publisher(&System, dir.join("append"), options())?;
    let (mut found, payload, began) = (times(), [7; 64], Instant::now());
    while began.elapsed() < time {
        let first = System.monotonic_ns();
        let mut count = 0;
        while count < 32 {
            match writer.append(Append { time_ns: first, type_id: 1, flags: 0 }, &payload) {
                Ok(_) => count += 1,
                // Faster than segments can be prepared: what a writer that waits would see.
                Err(Refused::NotReady) => std::thread::yield_now(),
                Err(refused) => return Err(refused.into()),
            }
        }
        found.saturating_record(((System.monotonic_ns() - first) / count).max(1));
    }
    writer.close()?;
    Ok(found)
}

/// From an append until a reader in another thread has the frame: it sleeps on the wake word, or spins.
pub(super) fn to_reader(dir: &Path, sleeps: bool, pin: Option<(u32, u32)>, time: Duration) -> Result<Times, Failure> {
    let path = dir.join(if sleeps { "wake" } else { "spin" });
    let mut writer = Queue::publisher(&System, &path, PublisherOptions { wake: WakePolicy::Auto, ..options() })?;
    let options = SubscriberOptions { start: Start::Latest, ..SubscriberOptions::default() };
    let mut reader = Queue::observer(&System, &path, options)?;
    let (over, ready) = (AtomicBool::new(false), Barrier::new(2));
    let found = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut found = times();
            let pinned = pin.map_or(Ok(()), |(_, there)| System.run_on(there));
            ready.wait();
            pinned?;
            // ORDERING: Relaxed: a hint to end.
            while !over.load(Ordering::Relaxed) {
                if let Some(frame) = reader.next()? {
                    found.saturating_record(System.monotonic_ns().saturating_sub(frame.time_ns).max(1));
                } else if sleeps {
                    reader.wait(Duration::from_millis(20))?;
                } else {
                    spin_loop();
                }
            }
            Ok::<Times, Failure>(found)
        });
        let pinned = pin.map_or(Ok(()), |(here, _)| System.run_on(here));
        ready.wait();
        let (began, pause) = (Instant::now(), Duration::from_micros(if sleeps { 500 } else { 20 }));
        let mut outcome = pinned.map_err(Failure::from);
        while outcome.is_ok() && began.elapsed() < time && !other.is_finished() {
            // Long enough that the reader sleeps again; while spinning, as many as matter.
            if sleeps {
                std::thread::sleep(pause);
            } else {
                let from = Instant::now();
                while from.elapsed() < pause {
                    spin_loop();
                }
            }
            let append = Append { time_ns: System.monotonic_ns(), type_id: 1, flags: 0 };
            match writer.append(append, &[7; 64]) {
                Ok(_) | Err(Refused::NotReady) => {}
                Err(refused) => outcome = Err(refused.into()),
            }
        }
        // The last frame wakes it, so that it sees that it is over.
        over.store(true, Ordering::Relaxed);
        _ = writer.append(Append { time_ns: System.monotonic_ns(), type_id: 1, flags: 0 }, &[]);
        let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcome.and(theirs)
    })?;
    writer.close()?;
    Ok(found)
}

/// 4 KiB written over what was written before, and synced.
pub(super) fn sync(dir: &Path, time: Duration) -> Result<Times, Failure> {
    const LEN: u64 = 1 << 20;
    let file = System.open(&dir.join("sync"), Open::Create)?;
    file.allocate(LEN)?;
    file.fill(0, LEN)?;
    file.sync()?;
    System.sync_dir(dir)?;
    let (mut found, page, began, mut at) = (times(), [7; 4096], Instant::now(), 0);
    while began.elapsed() < time {
        let first = System.monotonic_ns();
        file.write_at(&page, at)?;
        file.sync()?;
        found.saturating_record(System.monotonic_ns() - first);
        at = (at + 4096) % LEN;
    }
    Ok(found)
}

/// A durable commit of 128 bytes to a write-ahead log, and how it reaches the disk.
pub(super) fn commit(dir: &Path, time: Duration) -> Result<(Times, String), Failure> {
    let options = Options { threads: Threads::Callers, ..Options::default() };
    let (wal, _) = Wal::open(&System, dir.join("wal"), &options)?;
    let way = format!("{}, {}", wal.mode().driver, wal.mode().way);
    let (mut found, record, began) = (times(), [7; 128], Instant::now());
    while began.elapsed() < time {
        let first = System.monotonic_ns();
        let seq = wal.append(&record)?;
        wal.commit(seq)?;
        found.saturating_record(System.monotonic_ns() - first);
    }
    wal.close()?;
    Ok((found, way))
}

/// How long this thread, which never sleeps, was away from its processor.
pub(super) struct Jitter {
    /// Of each absence of more than a microsecond.
    pub(super) gaps: Times,
    /// Part of the time.
    pub(super) lost: f64,
}

pub(super) fn jitter(processor: Option<u32>, time: Duration) -> Result<Jitter, Failure> {
    std::thread::scope(|scope| {
        // A thread of its own: it is pinned from then on.
        let measured = scope.spawn(|| {
            if let Some(processor) = processor {
                System.run_on(processor)?;
            }
            let mut gaps = times();
            let (began, mut lost) = (System.monotonic_ns(), 0);
            let until = began + time.as_nanos() as u64;
            let mut before = began;
            while before < until {
                let now = System.monotonic_ns();
                if now - before > 1_000 {
                    gaps.saturating_record(now - before);
                    lost += now - before;
                }
                before = now;
            }
            Ok(Jitter { gaps, lost: lost as f64 / (before - began) as f64 })
        });
        measured.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How much longer than asked a sleep of 100 µs takes.
pub(super) fn sleep(time: Duration) -> Times {
    const ASKED: Duration = Duration::from_micros(100);
    let (mut found, began) = (times(), Instant::now());
    while began.elapsed() < time {
        let first = Instant::now();
        std::thread::sleep(ASKED);
        found.saturating_record((first.elapsed().saturating_sub(ASKED).as_nanos() as u64).max(1));
    }
    found
}
