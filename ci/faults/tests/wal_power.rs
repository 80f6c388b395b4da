//! The shipped drivers on a disk that fails: what was acknowledged is there, what nobody appended is not.
//!
//! Another process appends and commits (`wal-writer`), by io_uring, direct calls and the page cache in turn; it says
//! through a pipe what it was acknowledged. Then the power is gone, or a sync has failed, or the disk is full, and what
//! is left is opened here.
//!
//! `CHRONICLE_CUTS=n` takes n moments of each way instead of a few; `CHRONICLE_FUSE=must` fails where FUSE is missing.

use chronicle_faults::{
    Action, Fault, Kind, Mounted, Survival, log, mounted,
    record::{Tag, Witness},
    writer::{Heard, Job, Writer},
};
use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

const WAYS: [&str; 3] = ["uring", "direct", "buffered"];

/// What makes a segment's bytes durable.
const SYNCS: [Kind; 2] = [Kind::SyncWrite, Kind::Sync];

fn disk() -> Option<Mounted> {
    mounted(env!("CARGO_BIN_EXE_faultfs"))
}

fn start(dir: &Path, job: &Job) -> Writer {
    Writer::start(Command::new(env!("CARGO_BIN_EXE_wal-writer")), &dir.join("log"), job).unwrap()
}

fn run(disk: &Mounted, job: &Job) -> (Heard, ExitStatus) {
    let (heard, status) = start(disk.path(), job).wait();
    assert_eq!(heard.lies, [""; 0], "{job:?}");
    (heard, status)
}

fn moments() -> u64 {
    std::env::var("CHRONICLE_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(6)
}

/// Opens what is left, twice: what was acknowledged is there, and the second opening finds what the first one found.
fn check(at: &Path, job: &Job, acked: &[(Tag, u64)], what: &str) -> u64 {
    let dir = at.join("log");
    let mut witness = Witness::default();
    let mut found = 0;
    for opening in 0..2 {
        let recovery = log::recover(&dir, job).unwrap_or_else(|error| panic!("{what}: opening {opening}: {error}"));
        let records = log::read(&dir).unwrap_or_else(|error| panic!("{what}: opening {opening}: {error}"));
        found = records.len() as u64;
        assert_eq!(found, recovery.records(), "{what}: {recovery}");
        let new = witness.look(records, job.life, acked).unwrap_or_else(|lie| panic!("{what}: {lie}"));
        assert!(opening == 0 || new == 0, "{what}: {new} records more than at the first opening");
    }
    found
}

#[test]
fn d_1_what_was_acknowledged_survives_a_power_cut_at_any_operation() {
    for way in WAYS {
        let Some(healthy) = disk() else { return };
        let job = Job { way, committers: 8, count: 12, ..Job::default() };
        let (heard, status) = run(&healthy, &job);
        assert!(status.success() && heard.acked.len() == 96, "{way}: {heard:?}");
        let operations = healthy.counts().operations();
        drop(healthy);
        let (mut cuts, mut acknowledged, mut survivors) = (0, 0, 0);
        for moment in 1..=moments() {
            let Some(disk) = disk() else { return };
            let at = operations * moment / (moments() + 1);
            disk.fault(&Fault::at(at, &Kind::ALL, Action::Cut));
            let (heard, status) = run(&disk, &job);
            assert!(!status.success(), "{way}: operation {at} of {operations} took no power");
            let left = [(0, Survival::None), (0, Survival::All), (1, Survival::Some), (2, Survival::Some)];
            for (seed, survival) in left {
                let what = format!("{way}: power cut at operation {at}, {survival:?} of seed {seed} kept");
                check(&disk.survivor(seed, survival), &job, &heard.acked, &what);
                survivors += 1;
            }
            cuts += 1;
            acknowledged += heard.acked.len();
        }
        assert!(acknowledged > 0, "{way}: no cut came after an acknowledgement: this shows nothing");
        println!(
            "{way}: {cuts} power cuts of {operations} operations, {acknowledged} acknowledged, {survivors} opened"
        );
    }
}

#[test]
fn d_2_d_3_after_a_failed_sync_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    for way in WAYS {
        let mut hits = 0;
        for nth in [1, 2, 3, 5, 9, 14] {
            let Some(disk) = disk() else { return };
            let job = Job { way, committers: 4, count: 12, ..Job::default() };
            // Once: whoever tries again succeeds, and lies.
            disk.fault(&Fault::at(nth, &SYNCS, Action::Fail(libc::EIO)).of(".wal"));
            let (heard, status) = run(&disk, &job);
            if disk.counts().of(Kind::SyncWrite) + disk.counts().of(Kind::Sync) == 0 || status.success() {
                assert_eq!(heard.acked.len(), 48, "{way}: sync {nth} was met and nobody was told");
                continue;
            }
            hits += 1;
            assert!(heard.failed.is_some(), "{way}: sync {nth}: a log that failed was closed in order");
            // The power goes behind the failure: what the page cache shows is not what the device has.
            for (seed, survival) in [(0, Survival::None), (1, Survival::Some), (2, Survival::Some)] {
                let what = format!("{way}: sync {nth} failed, {survival:?} of seed {seed} kept");
                check(&disk.survivor(seed, survival), &job, &heard.acked, &what);
            }
            // Or the next process comes first, believes what it reads, and makes it last; then the power goes.
            let what = format!("{way}: sync {nth} failed, opened, power cut");
            let found = check(disk.path(), &job, &heard.acked, &what);
            let after = check(&disk.survivor(0, Survival::None), &job, &heard.acked, &what);
            assert_eq!(found, after, "{what}");
        }
        assert!(hits >= 4, "{way}: {hits} syncs failed: this shows too little");
    }
}

#[test]
fn d_4_a_failed_write_ends_the_log_and_a_short_one_is_completed() {
    for way in WAYS {
        let writes = [Kind::Write, Kind::SyncWrite];
        for (nth, action) in [
            (2, Action::Fail(libc::EIO)),
            (5, Action::Fail(libc::EIO)),
            (3, Action::Fail(libc::ENOSPC)),
            (2, Action::Short(512)),
            (4, Action::Short(4096)),
        ] {
            let Some(disk) = disk() else { return };
            let job = Job { way, ..Job::default() };
            disk.fault(&Fault::at(nth, &writes, action).of(".wal"));
            let (heard, status) = run(&disk, &job);
            let what = format!("{way}: write {nth}: {action:?}");
            if let Action::Fail(_) = action {
                assert!(!status.success() && heard.acked.len() < 100, "{what}");
            } else {
                assert!(status.success() && heard.acked.len() == 100, "{what}: {heard:?}");
            }
            check(&disk.survivor(nth, Survival::None), &job, &heard.acked, &what);
            check(disk.path(), &job, &heard.acked, &what);
        }
    }
}

#[test]
fn d_6_d_20_late_syncs_and_writes_out_of_order_acknowledge_nothing_early() {
    for way in WAYS {
        for nth in [3, 6, 10] {
            let Some(disk) = disk() else { return };
            let job = Job { way, committers: 16, count: 8, batch_len: 8192, ..Job::default() };
            // One write or sync takes its time, those behind it overtake it, and then the power goes.
            disk.fault(&Fault::at(nth, &SYNCS, Action::Delay(60)).of(".wal"));
            disk.fault(&Fault::at(nth + 3, &[Kind::Write, Kind::SyncWrite, Kind::Sync], Action::Cut).of(".wal"));
            let (heard, _) = run(&disk, &job);
            for (seed, survival) in [(0, Survival::None), (1, Survival::Some), (2, Survival::Some), (0, Survival::All)]
            {
                let what = format!("{way}: {nth} late, then power cut, {survival:?} of seed {seed} kept");
                check(&disk.survivor(seed, survival), &job, &heard.acked, &what);
            }
        }
        // All late: nothing fails, and those who wait share.
        let Some(disk) = disk() else { return };
        let job = Job { way, committers: 16, count: 8, ..Job::default() };
        disk.fault(&Fault::at(1, &SYNCS, Action::Delay(4)).of(".wal").from_then_on());
        let (heard, status) = run(&disk, &job);
        assert!(status.success() && heard.acked.len() == 128, "{way}: {heard:?}");
        let [_, _, syncs, _] = heard.end.unwrap();
        assert!(syncs < 128, "{way}: {syncs} syncs for 128 commits: nobody shared");
    }
}

#[test]
fn d_11_a_full_disk_is_told_before_anything_is_lost_and_passes() {
    for way in WAYS {
        for kib in [160, 320, 450, 600, 900] {
            let Some(disk) = disk() else { return };
            disk.set_capacity(kib << 10);
            let job = Job { way, committers: 4, count: 900, ..Job::default() };
            let (heard, status) = run(&disk, &job);
            let what = format!("{way}: a disk of {kib} KiB");
            if let Some(failed) = &heard.failed {
                assert!(heard.acked.is_empty() && !status.success(), "{what}: {failed}");
                assert!(failed.contains("o space") || failed.contains("No space"), "{what}: {failed}");
            } else {
                assert!(
                    heard.refused.iter().all(|refused| refused.contains("out of space")),
                    "{what}: {:?}",
                    heard.refused
                );
                assert!(!heard.refused.is_empty() && status.success(), "{what}: nobody was told");
            }
            // Room again: the next writer finds everything, and goes on.
            disk.set_capacity(16 << 20);
            let mut witness = Witness::default();
            let records = log::read(&disk.path().join("log")).unwrap_or_default();
            witness.look(records, 0, &heard.acked).unwrap_or_else(|lie| panic!("{what}: {lie}"));
            let next = Job { life: 1, count: 10, ..job.clone() };
            let (heard, status) = run(&disk, &next);
            assert!(status.success() && heard.acked.len() == 40, "{what}: {heard:?}");
            let records = log::read(&disk.path().join("log")).unwrap();
            witness.look(records, 1, &heard.acked).unwrap_or_else(|lie| panic!("{what}: {lie}"));
        }
        // At single operations of each kind, and gone again at once.
        for kind in [Kind::Create, Kind::Allocate, Kind::Write, Kind::Resize, Kind::Rename] {
            for nth in [1, 3, 40] {
                let Some(disk) = disk() else { return };
                disk.fault(&Fault::at(nth, &[kind], Action::Fail(libc::ENOSPC)));
                let job = Job { way, ..Job::default() };
                let (heard, _) = run(&disk, &job);
                disk.clear();
                let what = format!("{way}: no space at {kind:?} {nth}");
                check(disk.path(), &job, &heard.acked, &what);
                check(&disk.survivor(nth, Survival::None), &job, &heard.acked, &what);
            }
        }
    }
}

#[test]
fn the_drivers_count_of_durable_writes_is_what_the_disk_was_asked() {
    for (way, committers) in
        [("uring", 1), ("uring", 32), ("direct", 1), ("direct", 32), ("buffered", 1), ("buffered", 32)]
    {
        let Some(disk) = disk() else { return };
        let job =
            Job { way, committers, count: 64 / u64::from(committers).min(8), segment_len: 8 << 20, ..Job::default() };
        let commits = job.count * u64::from(committers);
        let (heard, status) = run(&disk, &job);
        assert!(status.success() && heard.acked.len() as u64 == commits, "{way}: {heard:?}");
        let [_, batches, counted, _] = heard.end.unwrap();
        // The syncs of whole files made ahead are no commit's. They are no writes that carry one.
        let asked = match way {
            "buffered" => disk.counts().of(Kind::Sync),
            _ => disk.counts().of(Kind::SyncWrite),
        };
        println!(
            "{way}, {committers} committers: {commits} commits, {batches} batches, {counted} syncs counted by the log, {asked} asked of the disk"
        );
        // Besides: opening, publishing and closing, and through the page cache the files made ahead.
        assert!((counted..=counted + 12).contains(&asked), "{way}: {counted} syncs counted, {asked} asked of the disk");
        if committers == 1 {
            assert!(
                (commits..=commits + 4).contains(&counted),
                "{way}: {counted} syncs for {commits} commits of one thread"
            );
        } else {
            assert!(counted < commits, "{way}: {counted} syncs for {commits} commits of {committers} threads");
        }
    }
}

#[test]
fn d_22_what_recovery_promised_survives_the_power() {
    for (way, after) in WAYS.into_iter().zip([30, 60, 90]) {
        let Some(disk) = disk() else { return };
        let job = Job { way, committers: 8, count: u64::MAX, burst: 3, ..Job::default() };
        let writer = start(disk.path(), &job);
        writer.ready(Duration::from_secs(30)).unwrap();
        thread::sleep(Duration::from_millis(after));
        let (heard, running) = writer.kill();
        assert!(running && !heard.acked.is_empty(), "{way}: killed too early: this shows nothing");
        // What the dead process left in the page cache looks as good as what is durable.
        let what = format!("{way}: killed, opened, power cut");
        let found = check(disk.path(), &job, &heard.acked, &what);
        assert_eq!(check(&disk.survivor(0, Survival::None), &job, &heard.acked, &what), found, "{what}");
    }
}

#[test]
fn s_1_writes_of_the_dead_that_land_late_change_nothing_that_was_accepted() {
    const LOGS: usize = 32;
    let Some(disk) = disk() else { return };
    let job = Job {
        way: "uring",
        committers: 8,
        count: u64::MAX,
        burst: 60,
        depth: 8,
        batch_len: 8192,
        segment_len: 1 << 20,
        ..Job::default()
    };
    let dir = |n: usize| disk.path().join(format!("log-{n}"));
    let start = |n: usize| Writer::start(Command::new(env!("CARGO_BIN_EXE_wal-writer")), &dir(n), &job).unwrap();
    let writers: Vec<_> = (0..LOGS).map(start).collect();
    for writer in &writers {
        writer.ready(Duration::from_secs(60)).unwrap();
    }
    // From now on each write is on its way for a while: up to 8 of each of 32 logs.
    disk.fault(&Fault::at(1, &[Kind::SyncWrite], Action::Delay(40)).of(".wal").from_then_on());
    thread::sleep(Duration::from_millis(300));
    let killed: Vec<_> = writers.into_iter().map(Writer::kill_at_once).collect();
    assert!(killed.iter().all(|killed| killed.running));
    // Successors come at once. Each keeps its log open, as a writer does.
    let bytes = |n: usize| -> Vec<_> {
        let mut files: Vec<_> = fs::read_dir(dir(n)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
        files.sort();
        files.into_iter().map(|path| fs::read(path).unwrap()).collect()
    };
    let opened: Vec<_> = (0..LOGS)
        .map(|n| {
            log::recover(&dir(n), &job).unwrap_or_else(|error| panic!("log {n}: {error}"));
            (log::read(&dir(n)).unwrap(), bytes(n))
        })
        .collect();
    let acked: Vec<_> = killed.into_iter().map(|killed| killed.heard().acked).collect();
    thread::sleep(Duration::from_millis(500));
    let (mut accepted, mut late) = (0, 0);
    for (n, ((records, files), acked)) in opened.into_iter().zip(acked).enumerate() {
        Witness::default().look(records.clone(), 0, &acked).unwrap_or_else(|lie| panic!("log {n}: {lie}"));
        assert_eq!(log::read(&dir(n)).unwrap(), records, "log {n}: what was accepted has changed");
        late += usize::from(bytes(n) != files);
        accepted += records.len();
    }
    println!("{LOGS} logs: {accepted} records accepted, unchanged; files of {late} changed behind what was accepted");
}
