//! Two threads, each on a processor of its own, that hand messages over.
//!
//! Virtual processors move between near and far places within minutes, and a message costs several times as much when
//! they are far: so a bare cache line is sent back and forth before and after each round, and only rounds in which both
//! probes agree count.

use crate::{
    contest::{Contest, Line, Target, line},
    machine,
};
use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Trips of one probe.
const TRIPS: u64 = 20_000;
/// Probes before and after may differ by so much; beyond it the processors moved.
const SAME_PLACE: f64 = 0.25;
/// A probe that takes longer, ns a trip, was not between two processors that both had nothing else to do.
const BUSY_NS: f64 = 3_000.0;

/// A word with nothing else on its lines.
#[repr(align(128))]
struct Line128(AtomicU64);

/// Whether there are two processors; else a group says why it measures nothing.
pub fn two_processors(group: &str) -> bool {
    let two = machine::pin(1);
    machine::unpin();
    if !two {
        eprintln!("{group}: one processor alone: two threads cannot both spin, skipped");
    }
    two
}

/// Runs `produce` on the second processor and `consume` here, on the first; nanoseconds a message.
///
/// `consume` returns what it received, which must be all that was sent, in order: see [`Check`].
pub fn throughput(count: u64, produce: impl FnOnce() + Send, consume: impl FnOnce(&mut Check)) -> Result<f64, String> {
    let (start, mut check) = (Barrier::new(2), Check::new());
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            machine::pin(1);
            start.wait();
            produce();
        });
        machine::pin(0);
        start.wait();
        let began = Instant::now();
        consume(&mut check);
        began.elapsed()
    });
    machine::unpin();
    check.all(count)?;
    Ok(each(took, count))
}

/// Runs `answer` on the second processor and `ask` here, on the first; nanoseconds of the median trip.
pub fn trips(
    count: usize,
    answer: impl FnOnce() + Send,
    mut ask: impl FnMut(u64) -> Result<(), String>,
) -> Result<f64, String> {
    let tick = machine::tick_ns();
    let (start, mut took) = (Barrier::new(2), Vec::with_capacity(count));
    let result: Result<(), String> = std::thread::scope(|scope| {
        scope.spawn(|| {
            machine::pin(1);
            start.wait();
            answer();
        });
        machine::pin(0);
        start.wait();
        for number in 0..count as u64 {
            let began = machine::ticks();
            ask(number)?;
            took.push(machine::ticks() - began);
        }
        Ok(())
    });
    machine::unpin();
    result?;
    took.sort_unstable();
    Ok(took[took.len() / 2] as f64 * tick)
}

/// Sees that numbers come in order and none is missing.
pub struct Check(u64);

impl Check {
    /// Saw nothing yet.
    pub fn new() -> Self {
        Check(0)
    }

    /// The next number that came.
    #[inline(always)]
    pub fn saw(&mut self, number: u64) {
        // A wrong one makes the sum wrong for good: no branch in the measured loop.
        self.0 = self.0.wrapping_mul(3).wrapping_add(number);
    }

    /// Whether they were `0..count`.
    pub fn all(&self, count: u64) -> Result<(), String> {
        let mut expected = Check::new();
        (0..count).for_each(|number| expected.saw(number));
        if expected.0 == self.0 { Ok(()) } else { Err("messages were lost, repeated or reordered".to_owned()) }
    }
}

/// Nanoseconds each.
pub fn each(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// A bare cache line there and back between the two processors, ns.
pub fn line_round_trip() -> Result<f64, String> {
    let (there, back) = (Line128(AtomicU64::new(0)), Line128(AtomicU64::new(0)));
    let answer = || {
        for number in 1..=TRIPS {
            while there.0.load(Ordering::Acquire) != number {
                std::hint::spin_loop();
            }
            back.0.store(number, Ordering::Release);
        }
    };
    trips(TRIPS as usize, answer, |number| {
        there.0.store(number + 1, Ordering::Release);
        while back.0.load(Ordering::Acquire) != number + 1 {
            std::hint::spin_loop();
        }
        Ok(())
    })
}

/// Measures the contest's rounds at equal placement, and prints what the bare line took before and after them.
pub fn run(contest: Contest<'_>, rounds: usize, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let (group, case) = (contest.group, contest.case.clone());
    let (mut before, mut after, mut first, mut moved) = (Vec::new(), Vec::new(), 0.0, 0);
    let measured = contest.run_where(rounds, &mut |done| {
        let probe = line_round_trip()?;
        if !done {
            first = probe;
            return Ok(true);
        }
        let busy = first.max(probe) > BUSY_NS;
        let same = !busy && (first - probe).abs() <= SAME_PLACE * first.min(probe);
        moved += usize::from(!same);
        if busy && moved > 3 * rounds {
            return Err(format!("a bare line took {:.0} ns: the processors are busy", first.max(probe)));
        }
        let counts = same || moved > 3 * rounds;
        if counts {
            before.push(first);
            after.push(probe);
        }
        Ok(counts)
    })?;
    out(measured);
    let probed = |when: &str, figures: &[f64]| {
        let case = format!("{case}: bare line there and back, {when}");
        line(group, case, "ns", false, figures, None, &[], Target::None)
    };
    out(probed("probed before", &before));
    out(probed("probed after", &after));
    if moved > 0 {
        let kept = moved.saturating_sub(3 * rounds);
        eprintln!(
            "{group}: {case}: in {moved} rounds the processors moved or were busy; {kept} of them had to be kept"
        );
    }
    Ok(())
}
