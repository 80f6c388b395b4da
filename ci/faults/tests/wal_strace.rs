//! Real files on a real file system, whose system calls fail: strace makes the K-th one return an error that the kernel never
//! saw, or makes it late. And what a commit costs in system calls, counted.
//!
//! This is for the ways by calls; strace does not see what a ring does (`wal_power.rs` makes that fail from below).
//!
//! Skipped out loud where strace is missing or may not trace.

use chronicle_faults::{
    log,
    record::Witness,
    writer::{Heard, Job, Writer},
};
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

const WRITER: &str = env!("CARGO_BIN_EXE_wal-writer");

/// strace with these arguments before the program; `None` where it cannot be had.
fn strace(arguments: &[&str], trace: &Path) -> Option<Command> {
    let works =
        Command::new("strace").args(["-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        _ = writeln!(std::io::stderr(), "SKIPPED: strace is missing, or may not trace here");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-o"]).arg(trace).args(arguments).arg(WRITER);
    Some(command)
}

fn run(command: Command, dir: &Path, job: &Job) -> (Heard, ExitStatus) {
    let (heard, status) = Writer::start(command, &dir.join("log"), job).unwrap().wait();
    assert_eq!(heard.lies, [""; 0], "{job:?}");
    (heard, status)
}

/// The next process finds what was acknowledged, and goes on.
fn check(dir: &Path, job: &Job, heard: &Heard, what: &str) {
    let mut witness = Witness::default();
    log::recover(&dir.join("log"), job).unwrap_or_else(|error| panic!("{what}: {error}"));
    let records = log::read(&dir.join("log")).unwrap_or_else(|error| panic!("{what}: {error}"));
    witness.look(records, job.life, &heard.acked).unwrap_or_else(|lie| panic!("{what}: {lie}"));
    let next = Job { life: job.life + 1, count: 3, ..job.clone() };
    let (heard, status) = run(Command::new(WRITER), dir, &next);
    assert!(status.success(), "{what}: the next writer: {heard:?}");
    let records = log::read(&dir.join("log")).unwrap();
    witness.look(records, next.life, &heard.acked).unwrap_or_else(|lie| panic!("{what}: the next writer: {lie}"));
}

/// Each thread has its own count of calls in strace: one thread does everything, so that the K-th is the K-th.
fn one_thread(way: &'static str) -> Job {
    Job { way, committers: 1, count: 40, burst: 2, threads: "callers", ..Job::default() }
}

#[test]
fn d_2_d_4_the_kth_call_fails_and_nothing_is_acknowledged_that_is_not_there() {
    let (mut hits, mut poisoned, mut refused_to_open) = (0, 0, 0);
    for (way, calls) in
        [("buffered", ["fdatasync", "pwrite64", "pwritev2"]), ("direct", ["fdatasync", "pwrite64", "pwritev2"])]
    {
        for call in calls {
            for (error, ks) in [("EIO", [1, 2, 3, 5, 8, 20]), ("ENOSPC", [1, 2, 4, 6, 10, 30])] {
                for k in ks {
                    let dir = tempfile::tempdir().unwrap();
                    let inject = format!("inject={call}:error={error}:when={k}");
                    let trace = dir.path().join("trace");
                    let arguments = ["-e", &format!("trace={call}"), "-e", &inject];
                    let Some(command) = strace(&arguments, &trace) else { return };
                    let job = one_thread(way);
                    let (heard, status) = run(command, dir.path(), &job);
                    let what = format!("{way}: {inject}");
                    let trace = fs::read_to_string(&trace).unwrap();
                    let Some(injected) = trace.lines().find(|line| line.contains("(INJECTED)")) else {
                        assert!(status.success() && heard.acked.len() == 40, "{what}: {heard:?}");
                        continue;
                    };
                    hits += 1;
                    let on_segment = injected.contains(".wal>");
                    if heard.acked.is_empty() && heard.failed.is_some() && heard.end.is_none() {
                        refused_to_open += 1;
                    } else if on_segment {
                        poisoned += 1;
                        assert!(!status.success(), "{what}: {injected}: nobody was told: {heard:?}");
                        assert!(heard.acked.len() < 40, "{what}: {injected}: acknowledged all the same");
                    }
                    check(dir.path(), &job, &heard, &format!("{what}: {injected}"));
                }
            }
        }
    }
    println!("{hits} calls failed: {poisoned} ended a log, {refused_to_open} at its opening, the others cost nothing");
    assert!(poisoned >= 12, "only {poisoned} of {hits} failures were of a segment's: this shows too little");
}

#[test]
fn d_20_late_syncs_acknowledge_nothing_early_and_everything_in_the_end() {
    for (way, call) in [("buffered", "fdatasync"), ("direct", "pwritev2")] {
        let dir = tempfile::tempdir().unwrap();
        let inject = format!("inject={call}:delay_enter=4000");
        let Some(command) = strace(&["-e", &format!("trace={call}"), "-e", &inject], &dir.path().join("trace")) else {
            return;
        };
        let job = Job { way, committers: 16, count: 6, ..Job::default() };
        let (heard, status) = run(command, dir.path(), &job);
        assert!(status.success() && heard.acked.len() == 96, "{way}: {heard:?}");
        let [_, _, syncs, _] = heard.end.unwrap();
        assert!(syncs < 96, "{way}: {syncs} syncs for 96 commits: nobody shared");
        check(dir.path(), &job, &heard, way);
    }
}

/// Calls of a trace on segments, by name, before the log was closed.
fn calls_on_segments(trace: &Path, names: &[&str]) -> Vec<u64> {
    let trace = fs::read_to_string(trace).unwrap();
    names
        .iter()
        .map(|name| {
            trace.lines().filter(|line| line.contains(&format!(" {name}(")) && line.contains(".wal>")).count() as u64
        })
        .collect()
}

#[test]
fn a_commit_costs_one_write_and_one_sync_and_many_share_them() {
    for committers in [1, 64] {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        let names = ["pwritev2", "pwrite64", "fdatasync", "fsync"];
        let Some(command) = strace(&["-e", &format!("trace={}", names.join(","))], &trace) else { return };
        let count = if committers == 1 { 60 } else { 10 };
        let job = Job { way: "buffered", committers, count, segment_len: 16 << 20, ..Job::default() };
        let (heard, status) = run(command, dir.path(), &job);
        let commits = u64::from(committers) * count;
        assert!(status.success() && heard.acked.len() as u64 == commits, "{heard:?}");
        let calls = calls_on_segments(&trace, &names);
        let [writes, syncs] = [calls[0] + calls[1], calls[2] + calls[3]];
        let [_, batches, counted, _] = heard.end.unwrap();
        println!(
            "buffered, {committers} committers: {commits} commits, {writes} writes, {syncs} syncs ({batches} batches and {counted} syncs by the log's own count)"
        );
        // Besides the commits': what opening a log, its first segment and its close write and sync.
        if committers == 1 {
            assert!((commits..=commits + 8).contains(&syncs), "{syncs} syncs for {commits} commits of one thread");
            assert!((commits..=commits + 8).contains(&writes), "{writes} writes for {commits} commits of one thread");
        } else {
            assert!(syncs < commits / 2, "{syncs} syncs for {commits} commits of {committers} threads");
        }
        assert!(syncs.abs_diff(counted) <= 8, "the log counts {counted} syncs, the system {syncs}");
    }
}

#[test]
fn d_11_a_full_file_system_is_told_before_anything_is_lost() {
    let at = tempfile::tempdir().unwrap();
    let mount = |size: &str| {
        Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at.path()).stderr(Stdio::null()).status()
    };
    if !mount("size=700k").is_ok_and(|status| status.success()) {
        _ = writeln!(std::io::stderr(), "SKIPPED: no tmpfs can be mounted here");
        return;
    }
    struct Unmount<'p>(&'p Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(at.path());
    for way in ["uring", "direct", "buffered"] {
        let job = Job { way, committers: 4, count: 2000, ..Job::default() };
        let (heard, status) = run(Command::new(WRITER), at.path(), &job);
        assert!(!heard.refused.is_empty(), "{way}: nobody was told: {heard:?}");
        assert!(heard.refused.iter().all(|refused| refused.contains("out of space")), "{way}: {:?}", heard.refused);
        assert!(status.success(), "{way}: a full disk is no reason not to close: {heard:?}");
        let records = log::read(&at.path().join("log")).unwrap();
        let found = Witness::default().look(records, 0, &heard.acked).unwrap();
        println!("tmpfs of 700 KiB, {way}: {} acknowledged, {found} found", heard.acked.len());
        fs::remove_dir_all(at.path().join("log")).unwrap();
    }
}
