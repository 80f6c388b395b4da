//! Power cuts and kills while refining, at every operation: what is made after it is what would have been made without.
//!
//! The order of partition bytes, checkpoint, seal and `meta.json` is what this stands on; any two of them swapped lose or
//! repeat frames in one of these stories.

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chronicle_etl::Error;
use chronicle_etl::refine::{Options, durable_lens, refine, seal_aged};
use chronicle_etl::refinery::LatePolicy;
use chronicle_etl::report::Report;
use chronicle_platform::Platform;
use chronicle_platform::sim::{Faults, Sim};
use chronicle_storage::archive;
use chronicle_storage::root::{Root, Tier};
use chronicle_storage::tier::{Policy, run_once};
use chronicle_storage::verify::{Options as VerifyOptions, verify_with};
use support_root::{append, difference, name, tree};
use support_synthetic::{HOUR, day, delta, quote, snapshot, source, stormy};

const VENUE: &str = "binance-spot";

fn root() -> Root {
    Root::new("/root")
}

fn options(checkpoint_frames: u64) -> Options {
    Options { checkpoint_frames, late_policy: Some(LatePolicy::LateStream), ..Options::default() }
}

/// A machine with two symbols in its raw stream, its clock on the third day.
fn machine(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.set_now_ns(day(2));
    let (btc, eth) = (stormy("BTCUSDT", "btc.gz"), stormy("ETHUSDT", "ether.gz"));
    append(&sim, &root(), VENUE, &[btc, eth].concat(), 64 << 10);
    sim
}

type Tree = BTreeMap<PathBuf, Vec<u8>>;

fn partitions(sim: &Sim) -> (Tree, Tree) {
    let root = root();
    (tree(sim, &root.partitions(Tier::Warm)), tree(sim, &root.partitions(Tier::Cold)))
}

fn take_in(sim: &Sim) -> chronicle_etl::Result<Report> {
    refine(sim, &root(), None, &options(60), |_| {})
}

/// Everything that happens to a day: refined, sealed by age, moved.
fn whole_life(sim: &Sim) -> chronicle_etl::Result<Report> {
    take_in(sim)?;
    let report = seal_aged(sim, &root(), None, day(3), Duration::from_nanos(HOUR), |_| {})?;
    let policy =
        Policy { compression: archive::Options { threads: 1, ..archive::Options::default() }, ..Policy::default() };
    let moved = run_once(sim, &root(), day(4), &policy)?;
    // The tier manager goes on with the next file; here a failed one ends the story.
    match moved.failed.first() {
        None => Ok(report),
        Some(failed) => Err(std::io::Error::other(failed.error.clone()).into()),
    }
}

fn same(left: &(Tree, Tree), right: &(Tree, Tree), story: &str) {
    for (tier, left, right) in [("warm", &left.0, &right.0), ("cold", &left.1, &right.1)] {
        if let Some(difference) = difference(left, right) {
            panic!("{story}: {tier}: {difference}");
        }
    }
}

/// What a crash leaves is no damage: `verify` says so at once, before anybody repaired anything.
fn intact(sim: &Sim, story: &str) {
    let root = root();
    let lens = durable_lens(sim, &root, &name(VENUE)).unwrap_or_else(|e| panic!("{story}: {e}"));
    let lens: BTreeMap<_, _> = lens.into_iter().map(|(id, len)| (root.partition(Tier::Warm, &id), len)).collect();
    let synced_len = |path: &Path| lens.get(path).copied();
    let options = VerifyOptions { threads: 1, synced_len: &synced_len };
    let report =
        verify_with(sim, Path::new("/root"), options, &mut |_, _| {}).unwrap_or_else(|e| panic!("{story}: {e}"));
    assert!(report.is_intact(), "{story}: verify: {:#?}", report.problems);
}

/// Every so many operations, so that a debug build takes seconds; the offset moves with the test.
fn steps(operations: u64, offset: u64) -> impl Iterator<Item = u64> {
    let step: u64 = std::env::var("CHRONICLE_CRASH_STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(29);
    (1 + offset % step..=operations + 1).step_by(step as usize)
}

#[test]
fn a_power_cut_at_any_operation_changes_no_byte() {
    let base = machine(1);
    let calm = base.crash();
    let start = calm.operations();
    let report = take_in(&calm).unwrap();
    let expected = partitions(&calm);
    assert!(expected.0.len() > 12, "{:?}", expected.0.keys());
    let operations = calm.operations() - start;
    println!("{operations} operations");
    for n in steps(operations, 0) {
        let sim = base.crash();
        sim.crash_at(sim.operations() + n);
        let _ = take_in(&sim);
        // What was not synced before is there or not, so the same work takes a few operations more or less.
        assert!(sim.is_off() || n > operations - operations / 10, "{n} of {operations} was never reached");
        // Twice: what recovery did must itself survive.
        let again = sim.crash();
        again.crash_at(again.operations() + 1 + n * 7 % operations);
        let _ = take_in(&again);
        let survivor = again.crash();
        let story = format!("cut at {n} of {operations}");
        intact(&survivor, &story);
        assert_eq!(take_in(&survivor).unwrap_or_else(|e| panic!("{story}: {e}")), report, "{story}");
        same(&expected, &partitions(&survivor), &story);
    }
}

#[test]
fn a_kill_at_any_operation_changes_no_byte() {
    let base = machine(2);
    let calm = base.crash();
    let start = calm.operations();
    let report = whole_life(&calm).unwrap();
    let expected = partitions(&calm);
    assert!(!expected.1.is_empty());
    let operations = calm.operations() - start;
    println!("{operations} operations");
    for n in steps(operations, 1) {
        let sim = base.crash();
        let victim = sim.start_process();
        victim.kill_at(sim.operations() + n);
        let killed = whole_life(&victim).is_err();
        assert!(killed || n > operations - operations / 10, "{n} of {operations} was never reached");
        let story = format!("killed at {n} of {operations}");
        intact(&sim, &story);
        assert_eq!(whole_life(&sim).unwrap_or_else(|e| panic!("{story}: {e}")), report, "{story}");
        same(&expected, &partitions(&sim), &story);
        intact(&sim, &story);
    }
}

#[test]
fn a_power_cut_in_the_life_of_a_day_changes_no_byte() {
    let base = machine(3);
    let calm = base.crash();
    let start = calm.operations();
    whole_life(&calm).unwrap();
    let expected = partitions(&calm);
    let operations = calm.operations() - start;
    for n in steps(operations, 2) {
        let sim = base.crash();
        sim.crash_at(sim.operations() + n);
        let _ = whole_life(&sim);
        let survivor = sim.crash();
        let story = format!("cut at {n} of {operations}");
        intact(&survivor, &story);
        whole_life(&survivor).unwrap_or_else(|e| panic!("{story}: {e}"));
        same(&expected, &partitions(&survivor), &story);
    }
}

/// A day that lies in the archive already still gets the stream `late`, and keeps everything else that it has.
#[test]
fn a_kill_while_records_are_late_for_a_day_in_the_archive_changes_no_byte() {
    let (noon, second) = (day(0) + 12 * HOUR, 1_000_000_000);
    let base = Sim::new(10);
    base.set_now_ns(day(2));
    let mut frames = vec![source("a.gz", 1, noon), snapshot("BTCUSDT", 0, noon)];
    for i in 1..100 {
        let now = noon + i * second;
        frames.extend([quote("BTCUSDT", i, now), delta("BTCUSDT", i, i, now, now)]);
    }
    let (before, after) = frames.split_at(100);
    append(&base, &root(), VENUE, before, 64 << 10);
    whole_life(&base).unwrap();
    let archived = partitions(&base).1;
    append(&base, &root(), VENUE, after, 64 << 10);

    let calm = base.crash();
    let start = calm.operations();
    let report = whole_life(&calm).unwrap();
    let expected = partitions(&calm);
    assert!(expected.0.is_empty(), "{:?}", expected.0.keys());
    for (path, bytes) in archived.iter().filter(|(path, _)| !path.ends_with("meta.json")) {
        assert_eq!(expected.1.get(path), Some(bytes), "{}", path.display());
    }
    assert_eq!(expected.1.len(), archived.len() + 2, "late.q.zst and its index");
    let late: Vec<_> = report.partitions.iter().map(|row| (row.stream.to_string(), row.counts.late)).collect();
    assert_eq!(late, [("book", 50), ("quotes", 50), ("late", 0)].map(|(stream, late)| (stream.to_owned(), late)));

    let operations = calm.operations() - start;
    println!("{operations} operations");
    for n in steps(operations, 5) {
        let sim = base.crash();
        let victim = sim.start_process();
        victim.kill_at(sim.operations() + n);
        let _ = whole_life(&victim);
        let story = format!("killed at {n} of {operations}");
        intact(&sim, &story);
        assert_eq!(whole_life(&sim).unwrap_or_else(|e| panic!("{story}: {e}")), report, "{story}");
        same(&expected, &partitions(&sim), &story);
        intact(&sim, &story);

        let sim = base.crash();
        sim.crash_at(sim.operations() + n);
        let _ = whole_life(&sim);
        let survivor = sim.crash();
        let story = format!("cut at {n} of {operations}");
        assert_eq!(whole_life(&survivor).unwrap_or_else(|e| panic!("{story}: {e}")), report, "{story}");
        same(&expected, &partitions(&survivor), &story);
    }
}

/// The tier manager may come at any moment, also between the last two things that the refinery does to a day: whatever it
/// takes, the `meta.json` that it takes with it tells of it.
#[test]
fn what_the_archive_takes_early_is_described() {
    let (noon, second) = (day(0) + 12 * HOUR, 1_000_000_000);
    let base = Sim::new(11);
    base.set_now_ns(day(2));
    append(&base, &root(), VENUE, &[source("a.gz", 1, noon), quote("BTCUSDT", 1, noon)], 64 << 10);
    whole_life(&base).unwrap();
    let late: Vec<_> = (2..9).map(|i| quote("BTCUSDT", i, noon + i * second)).collect();
    append(&base, &root(), VENUE, &late, 64 << 10);
    let calm = base.crash();
    whole_life(&calm).unwrap();
    let expected = partitions(&calm);

    let base = base.crash();
    take_in(&base).unwrap();
    let seal = |sim: &Sim| seal_aged(sim, &root(), None, day(3), Duration::from_nanos(HOUR), |_| {}).map(drop);
    let calm = base.crash();
    let start = calm.operations();
    seal(&calm).unwrap();
    let operations = calm.operations() - start;
    println!("{operations} operations");
    for n in 1..=operations {
        let sim = base.crash();
        let victim = sim.start_process();
        victim.kill_at(sim.operations() + n);
        assert!(seal(&victim).is_err(), "not killed at {n} of {operations}");
        run_once(&sim, &root(), day(4), &Policy::default()).unwrap();
        let story = format!("killed at {n} of {operations}");
        intact(&sim, &story);
        whole_life(&sim).unwrap_or_else(|e| panic!("{story}: {e}"));
        same(&expected, &partitions(&sim), &story);
    }
}

#[test]
fn failed_syncs_and_operations_lose_nothing() {
    let base = machine(4);
    let calm = base.crash();
    let (start, syncs) = (calm.operations(), calm.syncs());
    take_in(&calm).unwrap();
    let expected = partitions(&calm);
    let (operations, syncs) = (calm.operations() - start, calm.syncs() - syncs);
    for n in steps(operations, 3) {
        let sim = base.crash();
        sim.faults(Faults { failing_operation: Some(sim.operations() + n), ..Faults::default() });
        let _ = take_in(&sim);
        sim.faults(Faults::default());
        let story = format!("operation {n} of {operations} failed");
        take_in(&sim).unwrap_or_else(|e| panic!("{story}: {e}"));
        same(&expected, &partitions(&sim), &story);
    }
    for n in steps(syncs, 4) {
        let sim = base.crash();
        sim.faults(Faults { failing_sync: Some(sim.syncs() + n), ..Faults::default() });
        let _ = take_in(&sim);
        // A failed sync is believed: what was written then may be gone after a cut.
        let survivor = sim.crash();
        let story = format!("sync {n} of {syncs} failed");
        take_in(&survivor).unwrap_or_else(|e| panic!("{story}: {e}"));
        same(&expected, &partitions(&survivor), &story);
    }
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let base = machine(5);
    let calm = base.crash();
    take_in(&calm).unwrap();
    let expected = partitions(&calm);
    let mut refused = 0;
    for room in [0_u64, 1 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10] {
        let sim = base.crash();
        let free = sim.free_bytes(Path::new("/")).unwrap();
        sim.faults(Faults { disk_bytes: u64::MAX - free + room, ..Faults::default() });
        if let Err(error) = take_in(&sim) {
            assert_eq!(error.kind(), chronicle_storage::ErrorKind::Trouble, "{error}");
            refused += 1;
        }
        sim.faults(Faults::default());
        take_in(&sim).unwrap();
        same(&expected, &partitions(&sim), &format!("{room} bytes of room"));
    }
    assert!(refused > 0, "the disk was never full");
}

#[test]
fn checkpoints_leave_no_trace_in_the_bytes() {
    let base = machine(6);
    let mut expected = None;
    for checkpoint_frames in [1, 2, 13, 1 << 20] {
        let sim = base.crash();
        refine(&sim, &root(), None, &options(checkpoint_frames), |_| {}).unwrap();
        let found = partitions(&sim);
        same(expected.get_or_insert_with(|| found.clone()), &found, &format!("every {checkpoint_frames} frames"));
    }
}

#[test]
fn a_second_refinery_is_refused() {
    let sim = machine(7);
    let other = sim.start_process();
    let refiner = chronicle_etl::refine::Refiner::open(&other, &root(), &name(VENUE), options(60)).unwrap();
    let refused = take_in(&sim).unwrap_err();
    assert_eq!(refused.to_string(), "/root/state/refine/binance-spot.lock: locked by another process");
    drop(refiner);
    take_in(&sim).unwrap();
}

/// Without its checkpoint every partition is unknown; to go on would be to remove them all.
#[test]
fn partitions_without_a_checkpoint_are_not_removed() {
    let sim = machine(8);
    take_in(&sim).unwrap();
    let before = partitions(&sim);
    sim.remove(Path::new("/root/state/refine/binance-spot.checkpoint")).unwrap();
    let refused = take_in(&sim).unwrap_err();
    assert!(matches!(refused, Error::StateMissing { .. }), "{refused}");
    same(&before, &partitions(&sim), "refused");
}

/// Without one, a day would never be moved to the archive.
#[test]
fn a_lost_meta_json_is_made_anew() {
    let sim = machine(12);
    let seal = |sim: &Sim| seal_aged(sim, &root(), None, day(2), Duration::ZERO, |_| {}).map(drop);
    for step in [|sim: &Sim| take_in(sim).map(drop), seal] {
        step(&sim).unwrap();
        let expected = partitions(&sim);
        let metas: Vec<_> = expected.0.keys().filter(|path| path.ends_with("meta.json")).collect();
        assert!(metas.len() > 3, "{metas:?}");
        for path in metas {
            sim.remove(&root().partitions(Tier::Warm).join(path)).unwrap();
        }
        take_in(&sim).unwrap();
        same(&expected, &partitions(&sim), "made anew");
    }
}

#[test]
fn a_partition_that_is_not_what_the_checkpoint_says_is_damage() {
    use chronicle_platform::{File, Open};
    let sim = machine(9);
    take_in(&sim).unwrap();
    let book = Path::new("/root/warm/v1/binance-spot/btcusdt/2024-08-09/book.q");
    let file = sim.open(book, Open::Write).unwrap();
    file.set_len(file.len().unwrap() - 32).unwrap();
    let short = take_in(&sim).unwrap_err();
    assert_eq!(short.kind(), chronicle_storage::ErrorKind::Damage);
    assert!(short.to_string().starts_with(book.to_str().unwrap()), "{short}");
    sim.remove(book).unwrap();
    let gone = take_in(&sim).unwrap_err();
    assert_eq!(gone.to_string(), format!("{}: offset 0: partition is gone, the checkpoint knows it", book.display()));
}

#[test]
fn a_root_that_is_not_there_is_refused() {
    let error = refine(&Sim::new(1), &root(), None, &Options::default(), |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "/root: open failed");
}
