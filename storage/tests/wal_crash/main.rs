//! A crash in any operation takes nothing that a log promised, and brings nothing that nobody appended.
//!
//! The log that ships runs on a simulated machine, unchanged: the state machine, the writer, recovery, the reader. A
//! workload is lived again and again; in its first operation, its second, its third the power goes or the process dies.
//! What the medium may hold then is gone through: all of it where the device has at most four operations that it may or may
//! not have done, samples where it has more. Of each such state the log is opened, and
//!
//! - it opens: a crash is never damage;
//! - every acknowledged frame is there, in order, unchanged, and no frame that was never appended;
//! - nothing is gone from its beginning but what `truncate_before` or retention allowed;
//! - the newest vote, the newest meta value and the truncations are those of the frames that are there;
//! - what was recovered is there after the next cut, right behind recovery or in any operation of it;
//! - it goes on: append, commit, close, open.
//!
//! | | |
//! |---|---|
//! | `workload.rs` | what is done, from a seed |
//! | `model.rs` | what was promised, and what is found |
//! | `check.rs` | cuts, kills, survivors |
//! | `planted.rs` | platforms that make a mistake: a checker that finds nothing in those is none |
//!
//! `WAL_CRASH_SEED=n` goes through one seed with all that may be left; `WAL_CRASH_SECONDS=600`, in a release build, goes on
//! for that long with seeds nobody has seen and prints what it has gone through. Bugs in core and recovery are planted by
//! `--features planted`.

mod check;
mod model;
mod planted;
mod workload;

use check::{Broken, Checker, Counts, Extent, Host};
use chronicle_platform::{
    WalWay,
    sim::{Faults, Sim},
};
use chronicle_storage::wal::Options;
use planted::{Mistake, Planted};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use workload::{Step, Workload, alphabet};

/// What a test goes through that everybody waits for.
const SHORT: Extent = Extent { samples: 2, survivors: 3, again_one_in: 499 };
/// What somebody goes through who has time.
const LONG: Extent = Extent { samples: 24, survivors: u64::MAX, again_one_in: 61 };

fn check<H: Host>(host: H, workload: &Workload, extent: Extent, counts: &mut Counts) -> Result<(), Broken> {
    let mut checker = Checker { host, workload, extent, counts: Counts::default() };
    let checked = checker.cut_everywhere(0).and_then(|()| checker.kill_everywhere(0));
    *counts += checker.counts;
    checked
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn a_cut_or_a_kill_in_any_operation_takes_nothing_that_was_promised() {
    let mut counts = Counts::default();
    let (seeds, extent) = match asked("WAL_CRASH_SEED") {
        Some(seed) => (seed..seed + 1, LONG),
        None => (0..24, SHORT),
    };
    for workload in seeds.map(Workload::of_seed).chain([Workload::of_votes(0)]) {
        if let Err(broken) = check(Sim::new(0), &workload, extent, &mut counts) {
            panic!("{broken}");
        }
    }
    println!("{counts}");
}

/// Recovery reads twice: to draw the line, and to write again what was not proved durable. In between anything may land.
#[test]
fn writes_of_the_dead_that_land_while_their_successor_recovers_change_nothing() {
    let mut counts = Counts::default();
    for way in [WalWay::Uring, WalWay::Buffered] {
        let steps =
            vec![Step::Batch(vec![400, 900, 30, 900]), Step::Drive, Step::Batch(vec![900, 900, 900]), Step::Vote(3)];
        let mut workload = Workload::of_sequence(0, steps);
        workload.options = Options { depth: 6, segment_len: 24 << 10, way, ..workload.options };
        workload.faults.late_one_in = 2;
        let mut checker = Checker { host: Sim::new(0), workload: &workload, extent: SHORT, counts: Counts::default() };
        if let Err(broken) = checker.kill_everywhere(0) {
            panic!("{broken}");
        }
        counts += checker.counts;
    }
    println!("{counts}");
}

/// The whole blocks of a write that carried its sync and ended short are durable, says the driver's contract; the machine
/// writes the rest and not those again.
#[test]
fn a_short_write_that_carries_its_sync_is_durable_when_it_is_said_to_be() {
    let mut counts = Counts::default();
    for seed in 0..32 {
        let mut workload = Workload::of_seed(1 + 8 * seed);
        workload.options.way = WalWay::Direct;
        if let Err(broken) = check(Sim::new(0), &workload, SHORT, &mut counts) {
            panic!("{broken}");
        }
    }
}

/// Sequences of so many of the alphabet's steps, by their numbers.
fn sequence(number: u64, len: u32) -> Vec<Step> {
    let alphabet = alphabet();
    let radix = alphabet.len() as u64;
    (0..len).map(|at| alphabet[(number / radix.pow(at) % radix) as usize].clone()).collect()
}

/// Cuts the power in each operation of the last step, and behind it; those before are other sequences' last ones.
fn check_sequence(steps: Vec<Step>, number: u64, extent: Extent, counts: &mut Counts) -> Result<(), Broken> {
    let before = steps.len().saturating_sub(1);
    let workload = Workload::of_sequence(number, steps);
    let mut checker = Checker { host: Sim::new(0), workload: &workload, extent, counts: Counts::default() };
    let first = if workload.steps.is_empty() { 0 } else { checker.operations(before)? };
    let checked = checker.cut_everywhere(first);
    *counts += checker.counts;
    checked
}

#[test]
fn every_short_sequence_is_cut_in_every_operation() {
    let radix = alphabet().len() as u64;
    let mut counts = Counts::default();
    for len in 0..=2 {
        for number in 0..radix.pow(len) {
            if let Err(broken) = check_sequence(sequence(number, len), number, SHORT, &mut counts) {
                panic!("{broken}");
            }
        }
    }
    println!("{counts}");
}

/// Sequences of up to four steps, all of them if there is time, and beside them seeds, for as many seconds as asked for.
#[test]
fn for_as_long_as_asked() {
    let Some(seconds) = asked("WAL_CRASH_SECONDS") else { return };
    let until = Instant::now() + Duration::from_secs(seconds);
    let radix = alphabet().len() as u64;
    let sequences: u64 = (0..=4).map(|len| radix.pow(len)).sum();
    let (next_sequence, next_seed) = (AtomicU64::new(0), AtomicU64::new(1000));
    let work = &|seeds: bool| {
        let mut counts = [Counts::default(), Counts::default()];
        while Instant::now() < until {
            let mut number = if seeds { sequences } else { next_sequence.fetch_add(1, Ordering::Relaxed) };
            let checked = if number < sequences {
                let mut len = 0;
                while number >= radix.pow(len) {
                    number -= radix.pow(len);
                    len += 1;
                }
                check_sequence(sequence(number, len), number, LONG, &mut counts[0])
            } else {
                let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                check(Sim::new(0), &Workload::of_seed(seed), LONG, &mut counts[1])
            };
            if let Err(broken) = checked {
                panic!("{broken}");
            }
        }
        counts
    };
    let counts = std::thread::scope(|scope| {
        let threads = [false, true].map(|seeds| scope.spawn(move || work(seeds)));
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for (at, name) in ["sequences of up to 4 steps", "seeds"].iter().enumerate() {
        let mut sum = counts[0][at];
        sum += counts[1][at];
        println!("{name}: {sum}");
    }
    let done = next_sequence.load(Ordering::Relaxed);
    println!("{} of {sequences} sequences", done.min(sequences));
}

/// Goes through seeds until a promise is seen to be broken.
fn finds<H: Host>(host: &H, tries: u64, plant: impl Fn(&mut Workload)) -> Broken {
    let mut counts = Counts::default();
    for seed in 0..tries {
        let mut workload = Workload::of_seed(seed);
        workload.faults = Faults::default();
        workload.steps.retain(|step| *step != Step::Full(true));
        plant(&mut workload);
        if let Err(broken) = check(host.on(Sim::new(0)), &workload, SHORT, &mut counts) {
            println!("{broken}");
            // It is the bug that was found, and not one of the log's own.
            #[cfg(feature = "planted")]
            {
                workload.options.planted = chronicle_storage::wal::Planted::default();
            }
            if let Err(own) = check(Sim::new(0), &workload, SHORT, &mut counts) {
                panic!("found without the bug, too: {own}");
            }
            return broken;
        }
    }
    panic!("not found: {counts}");
}

fn planted(mistake: Mistake) -> Planted {
    Planted { sim: Sim::new(0), mistake }
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    let found = finds(&planted(Mistake::AcknowledgeEarly), 16, |_| {});
    assert!(found.0.contains("was acknowledged"), "{found}");
}

#[test]
fn a_directory_that_is_not_synced_is_found() {
    finds(&planted(Mistake::SkipDirectorySync), 16, |_| {});
}

#[test]
fn a_failed_sync_that_is_tried_again_is_found() {
    let found = finds(&planted(Mistake::RetryFailedSync), 64, |workload| {
        workload.options.way = WalWay::Buffered;
        workload.faults.write_back_one_in = 0;
        workload.faults.failing_sync = Some(10 + workload.seed);
    });
    // The frames are gone, or the log says itself that they were durable.
    assert!(found.0.contains("acknowledged") || found.0.contains("all before it durable"), "{found}");
}

/// Bugs that only the writer's own code can make.
#[cfg(feature = "planted")]
mod inside {
    use super::*;

    #[test]
    fn a_salt_that_is_ignored_is_found() {
        let found = finds(&Sim::new(0), 16, |workload| {
            *workload = Workload::of_votes(workload.seed);
            workload.options.planted.machine.ignore_salt = true;
        });
        assert!(found.0.contains("vote"), "{found}");
    }

    #[test]
    fn a_segment_that_is_overrun_is_found() {
        finds(&Sim::new(0), 16, |workload| workload.options.planted.machine.segment_end = true);
    }

    #[test]
    fn a_vote_that_is_not_repeated_is_found() {
        let found = finds(&Sim::new(0), 64, |workload| workload.options.planted.machine.vote_not_repeated = true);
        assert!(found.0.contains("the newest vote"), "{found}");
    }

    #[test]
    fn a_segment_whose_existence_is_taken_as_proof_is_found() {
        let found = finds(&Sim::new(0), 64, |workload| workload.options.planted.next_segment_proves = true);
        assert!(found.0.contains("comes behind it"), "{found}");
    }
}
