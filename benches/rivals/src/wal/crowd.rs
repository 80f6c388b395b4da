//! A crowd of committers: each commits, waits, and commits again, as threads that serve requests do.

use super::flushes::Flushes;
use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What one contestant did in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Commits a second.
    pub rate: f64,
    /// Of a commit, from call to return. In µs; none where nobody waits for one.
    pub p50_us: Option<f64>,
    /// The same, slowest of a hundred.
    pub p99_us: Option<f64>,
    /// Device flushes for each commit, where they can be counted.
    pub flushes: Option<f64>,
}

impl Sample {
    /// Of `count` commits in `took`; `waits` in ns, in any order.
    pub fn of(count: u64, took: Duration, waits: &mut [u32], flushed: Option<u64>) -> Sample {
        waits.sort_unstable();
        let at = |part: f64| {
            let last = waits.len().checked_sub(1)?;
            Some(f64::from(waits[(last as f64 * part) as usize]) / 1e3)
        };
        Sample {
            rate: count as f64 / took.as_secs_f64(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            flushes: flushed.map(|flushed| flushed as f64 / count.max(1) as f64),
        }
    }
}

/// Lets `committers` threads commit for so long. `commit` is told who calls, and how many that one committed before.
pub fn commit<F>(committers: usize, time: Duration, flushes: Option<&Flushes>, commit: F) -> Result<Sample, String>
where
    F: Fn(usize, u64) -> Result<(), String> + Sync,
{
    let (stop, start) = (AtomicBool::new(false), Barrier::new(committers + 1));
    let one = |who: usize| -> Result<(Vec<u32>, Instant), String> {
        let mut waits = Vec::with_capacity(1 << 14);
        start.wait();
        let mut result = Ok(());
        let mut before = Instant::now();
        // ORDERING: Relaxed: a hint to end; what is measured is told through the join.
        while !stop.load(Ordering::Relaxed) {
            result = commit(who, waits.len() as u64);
            if result.is_err() {
                break;
            }
            let now = Instant::now();
            waits.push(now.duration_since(before).as_nanos().min(u128::from(u32::MAX)) as u32);
            before = now;
        }
        result.map(|()| (waits, before))
    };
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..committers)
            .map(|who| {
                let one = &one;
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || one(who))
            })
            .collect::<Result<_, _>>()
            .map_err(|it| format!("a committer did not start: {it}"))?;
        let flushed = flushes.and_then(Flushes::so_far);
        let began = Instant::now();
        start.wait();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let (mut waits, mut last) = (Vec::new(), began);
        for committer in crowd {
            let (mut its, ended) = committer.join().map_err(|_| "a committer panicked".to_owned())??;
            waits.append(&mut its);
            last = last.max(ended);
        }
        let flushed = flushed.zip(flushes.and_then(Flushes::so_far)).map(|(before, after)| after - before);
        Ok(Sample::of(waits.len() as u64, last - began, &mut waits, flushed))
    })
}
