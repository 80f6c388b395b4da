//! A move that is cut short, anywhere: one complete copy stays visible, and the next run finishes.
//!
//! The warm file is removed only when the cold one, its name included, would survive a power cut (rules D-7, D-8, D-9);
//! whoever got one step of that order wrong loses a day here.

mod archive_fixture;

use archive_fixture::{partition, read, rows, seal};
use chronicle_platform::{
    Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    archive::{ColdFile, Options},
    meta::Meta,
    root::{Date, META, Root, Stream, TEMPORARY, Tier},
    tier::{Policy, Report, run_once},
};
use std::path::{Path, PathBuf};

const DATE: &str = "2024-08-08";
const RAW: &str = "00112233445566778899aabbccddeeff-00000000000000000001";

fn policy() -> Policy {
    Policy { compression: Options { threads: 1, ..Options::default() }, ..Policy::default() }
}

fn now() -> u64 {
    DATE.parse::<Date>().unwrap().end_ns() * 2
}

fn root() -> Root {
    Root::new("/root")
}

fn run(sim: &Sim) -> chronicle_storage::Result<Report> {
    run_once(sim, &root(), now(), &policy())
}

/// What must never be lost: the files that move, as (warm path, cold path, bytes).
type Files = Vec<(PathBuf, PathBuf, Vec<u8>)>;

fn prepare(seed: u64) -> (Sim, Files) {
    let sim = Sim::new(seed);
    let root = root();
    let warm = root.partitions(Tier::Warm).join("test/btcusdt").join(DATE);
    let cold = root.partitions(Tier::Cold).join("test/btcusdt").join(DATE);
    sim.create_dirs(&warm).unwrap();
    let rows = rows(1, 30, 50, 0);
    let mut files = Vec::new();
    for stream in [Stream::Book, Stream::Trades] {
        let id = partition("test", "btcusdt", DATE, stream);
        let path = root.partition(Tier::Warm, &id);
        seal(&sim, &path, &id, &rows);
        files.push((path.clone(), root.partition(Tier::Cold, &id), read(&sim, &path)));
    }
    let meta = Meta {
        venue: "test".into(),
        symbol_id: None,
        symbol_version_id: None,
        symbol_code: "btcusdt".into(),
        raw_symbol: "BTCUSDT".into(),
        date: DATE.parse().unwrap(),
        source: Vec::new(),
        ingest_time: None,
        event_time_range: None,
        completeness: Default::default(),
        late_policy: "reject".into(),
        sealed: true,
        counts: Default::default(),
    };
    meta.publish(&sim, &warm).unwrap();
    files.push((warm.join(META), cold.join(META), read(&sim, &warm.join(META))));
    let raw = Path::new("raw/v1/test").join(DATE);
    sim.create_dirs(&root.warm.join(&raw)).unwrap();
    let path = root.warm.join(&raw).join(format!("{RAW}.q"));
    seal(&sim, &path, &partition("x", "y", DATE, Stream::Late), &rows);
    files.push((path.clone(), root.cold.join(&raw).join(format!("{RAW}.q.zst")), read(&sim, &path)));
    for dir in [&warm, &root.warm.join(&raw)] {
        sim.sync_dir(dir).unwrap();
    }
    (sim, files)
}

/// Each file has a final name, on warm or on cold, and everything that has one is whole and has the right bytes.
fn assert_nothing_lost(sim: &Sim, files: &Files, when: &str) {
    for (warm, cold, bytes) in files {
        let mut copies = 0;
        if sim.exists(warm).unwrap() {
            assert!(read(sim, warm) == *bytes, "{when}: {}", warm.display());
            copies += 1;
        }
        if sim.exists(cold).unwrap() {
            let mut found = Vec::new();
            if cold.ends_with(META) {
                found = read(sim, cold);
            } else {
                let file = ColdFile::open(sim, cold).unwrap_or_else(|error| panic!("{when}: {error}"));
                assert!(file.has_index(), "{when}: who finds {} finds its index", cold.display());
                file.read_all(1, &mut found).unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            assert!(found == *bytes, "{when}: {}", cold.display());
            copies += 1;
        }
        assert!(copies > 0, "{when}: {} is lost", warm.display());
    }
}

/// The next run finishes: everything cold, nothing warm, nothing temporary.
fn assert_finishes(sim: &Sim, files: &Files, when: &str) {
    let report = run(sim).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!((&report.failed[..], &report.skipped[..]), (&[][..], &[][..]), "{when}");
    for (warm, cold, _) in files {
        assert!(!sim.exists(warm).unwrap() && sim.exists(cold).unwrap(), "{when}: {}", warm.display());
        let left = sim.list(cold.parent().unwrap()).unwrap();
        assert!(!left.iter().any(|entry| entry.name.ends_with(TEMPORARY)), "{when}: {left:?}");
    }
    assert_nothing_lost(sim, files, when);
    assert_eq!(run(sim).unwrap(), Report::default(), "{when}: a third run has nothing to do");
}

fn operations_of_a_run() -> (u64, u64) {
    let (sim, _) = prepare(1);
    let before = (sim.operations(), sim.syncs());
    run(&sim).unwrap();
    (sim.operations() - before.0, sim.syncs() - before.1)
}

#[test]
fn d_9_a_power_cut_at_every_operation_loses_nothing() {
    let (operations, _) = operations_of_a_run();
    assert!(operations > 60, "{operations}");
    let mut moved_before_the_cut = 0;
    for seed in 0..3 {
        for n in 1..=operations {
            let (sim, files) = prepare(seed * 1000 + n);
            sim.crash_at(sim.operations() + n);
            _ = run(&sim);
            let cut = format!("seed {seed}, power cut in {}", sim.last_operation());
            // One moment, several machines that may come out of it.
            for _ in 0..3 {
                let after = sim.crash();
                assert_nothing_lost(&after, &files, &cut);
                moved_before_the_cut += u64::from(after.exists(&files[0].1).unwrap());
                assert_finishes(&after, &files, &cut);
            }
        }
    }
    assert!(moved_before_the_cut > 100, "cuts fell behind the first rename too");
}

#[test]
fn a_kill_at_every_operation_loses_nothing_and_the_next_run_finishes() {
    let (operations, _) = operations_of_a_run();
    for n in 1..=operations {
        let (sim, files) = prepare(n);
        let victim = sim.start_process();
        victim.kill_at(sim.operations() + n);
        _ = run(&victim);
        let when = format!("killed in operation {n}");
        assert_nothing_lost(&sim, &files, &when);
        assert_finishes(&sim, &files, &when);
    }
}

/// Killed twice, then a power cut: the run that finishes finds names that were never made durable.
#[test]
fn kills_and_then_a_power_cut_lose_nothing() {
    let (operations, _) = operations_of_a_run();
    for n in 1..=operations {
        let (sim, files) = prepare(n);
        for _ in 0..2 {
            let victim = sim.start_process();
            victim.kill_at(sim.operations() + n);
            _ = run(&victim);
        }
        sim.crash_at(sim.operations() + 1 + n * 7 % operations);
        _ = run(&sim);
        let when = format!("killed twice in operation {n}, then {}", sim.last_operation());
        let after = sim.crash();
        assert_nothing_lost(&after, &files, &when);
        assert_finishes(&after, &files, &when);
    }
}

/// A failed sync ends that file's move: what it was to make durable is not believed (D-2), not even by the next step.
#[test]
fn d_2_a_failed_sync_is_never_followed_by_a_removal() {
    let (_, syncs) = operations_of_a_run();
    let mut reported = 0;
    for k in 1..=syncs {
        let (sim, files) = prepare(k);
        sim.faults(Faults { failing_sync: Some(sim.syncs() + k), ..Faults::default() });
        let said = run(&sim).map_or(true, |report| !report.failed.is_empty());
        reported += u64::from(said);
        let when = format!("sync {k} failed");
        assert_nothing_lost(&sim, &files, &when);
        let after = sim.crash();
        assert_nothing_lost(&after, &files, &when);
        assert_finishes(&after, &files, &when);
    }
    assert_eq!(reported, syncs, "each failed sync is reported");
}

#[test]
fn a_failing_operation_loses_nothing() {
    let (operations, _) = operations_of_a_run();
    for n in 1..=operations {
        let (sim, files) = prepare(n);
        sim.faults(Faults { failing_operation: Some(sim.operations() + n), ..Faults::default() });
        _ = run(&sim);
        let when = format!("operation {n} failed");
        assert_nothing_lost(&sim, &files, &when);
        assert_finishes(&sim, &files, &when);
    }
}

#[test]
fn a_full_disk_leaves_the_day_warm() {
    let (sim, files) = prepare(1);
    let warm: u64 = files.iter().map(|file| file.2.len() as u64).sum();
    sim.faults(Faults { disk_bytes: warm + 3000, ..Faults::default() });
    let report = run(&sim).unwrap();
    assert!(!report.failed.is_empty() && report.failed.iter().all(|failed| !failed.damage), "{report:?}");
    assert_nothing_lost(&sim, &files, "full disk");
    sim.faults(Faults::default());
    assert_finishes(&sim, &files, "after a full disk");
}
