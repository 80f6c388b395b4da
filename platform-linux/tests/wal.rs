//! A driver that reports more than the kernel did makes every acknowledgement above it a guess.
//!
//! Each way is forced, on a disk and in memory: what comes back is what was written, each outcome is its own operation's,
//! a short or refused write is told as such, and what could not be had is said. The process tests kill a writer with
//! writes in flight: until the last one has landed its lock must not be free.
#![cfg(target_os = "linux")]

use chronicle_core::{
    RegionMut,
    wal::{Op, OpId, Outcome, SyncBy},
};
use chronicle_platform::{
    File, Lock, MemoryOptions, Open, Platform, TroubleKind, WalDriver, WalMode, WalOptions, WalWay,
};
use chronicle_platform_linux::{Linux, LinuxFile, LinuxMapMut, LinuxWal};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, Signal, setrlimit},
    time::Timespec,
};
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

const BLOCK: usize = 4096;
const BLOCKS: usize = 64;
const WAYS: [WalWay; 3] = [WalWay::Uring, WalWay::Direct, WalWay::Buffered];

fn options(way: WalWay) -> WalOptions {
    WalOptions { way, depth: 8, ..WalOptions::default() }
}

/// A directory on a disk and, where there is one, a directory in memory.
fn dirs() -> Vec<tempfile::TempDir> {
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let memory = Linux.memory_dir().map(|shm| tempfile::tempdir_in(shm).unwrap());
    [disk].into_iter().chain(memory).collect()
}

/// Memory in which block `n` is full of `n + 1`.
fn blocks() -> Arc<LinuxMapMut> {
    let map = Linux.memory(BLOCKS * BLOCK, &MemoryOptions::default()).unwrap().map;
    (0..BLOCKS).for_each(|n| map.window_mut().copy_in(n * BLOCK, &[n as u8 + 1; BLOCK]));
    Arc::new(map)
}

/// A segment's file, every byte of it written.
fn segment(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let file = Linux.open(&path, Open::Create).unwrap();
    let len = (BLOCKS * BLOCK) as u64;
    file.allocate(len).unwrap();
    file.fill(0, len).unwrap();
    file.sync().unwrap();
    path
}

fn lock(dir: &Path) -> LinuxFile {
    let lock = Linux.open(&dir.join("writer.lock"), Open::EnsurePrivate).unwrap();
    assert!(lock.try_lock(Lock::Exclusive).unwrap());
    lock
}

/// A driver with segment 1 attached.
fn driver(dir: &Path, options: &WalOptions) -> (LinuxWal, LinuxFile) {
    let lock = lock(dir);
    let wal = Linux.wal(blocks(), &lock, options).unwrap();
    let path = dir.join("1.wal");
    wal.attach(1, &if path.exists() { path } else { segment(dir, "1.wal") }).unwrap();
    (wal, lock)
}

/// Block `n` of the memory to block `to` of segment 1, by the number `n`.
fn write(n: usize, to: usize, count: usize, sync: bool) -> Op {
    let (offset, from, len) = ((to * BLOCK) as u64, n * BLOCK, (count * BLOCK) as u32);
    Op::Write { op: OpId::from_number(n as u32), segment: 1, offset, from, len, sync }
}

fn sync(number: u32) -> Op {
    Op::Sync { op: OpId::from_number(number), segment: 1 }
}

/// All outcomes of what is in flight.
fn reap_all(wal: &LinuxWal) -> BTreeMap<u32, Outcome> {
    let mut outcomes = BTreeMap::new();
    while wal.reap(true, &mut |op, outcome| assert_eq!(outcomes.insert(op.number(), outcome), None)).unwrap() > 0 {}
    outcomes
}

#[test]
fn each_way_writes_what_it_was_given() {
    for dir in dirs() {
        for way in WAYS {
            _ = std::fs::remove_file(dir.path().join("1.wal"));
            let (wal, _lock) = driver(dir.path(), &options(way));
            // From the last to the first, so that no order hides a wrong offset; eight in flight.
            for eight in (0..BLOCKS).rev().collect::<Vec<_>>().chunks(8) {
                for &n in eight {
                    wal.submit(&write(n, BLOCKS - 1 - n, 1, n % 2 == 0)).unwrap();
                }
                let outcomes = reap_all(&wal);
                let expected = eight.iter().map(|&n| (n as u32, Outcome::Done(BLOCK as u32))).collect();
                assert_eq!(outcomes, expected, "{way}");
            }
            wal.submit(&sync(99)).unwrap();
            assert_eq!(reap_all(&wal), [(99, Outcome::Done(0))].into(), "{way}");
            wal.detach(1).unwrap();
            let bytes = std::fs::read(dir.path().join("1.wal")).unwrap();
            for (n, block) in bytes.chunks(BLOCK).enumerate() {
                assert!(block.iter().all(|&byte| usize::from(byte) == BLOCKS - n), "{way}: block {n}");
            }
        }
    }
}

/// An acknowledgement rests on the completion of exactly its own write: with several in flight, some of them refused, each
/// is told once and by its own name.
#[test]
fn d_6_every_completion_is_checked_and_is_its_own_operations() {
    let Some(dir) = child() else {
        for way in WAYS {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let output = command("d_6_every_completion_is_checked_and_is_its_own_operations", dir.path())
                .env("CHRONICLE_TEST_WAY", way.to_string())
                .output()
                .unwrap();
            assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        }
        return;
    };
    let asked = env::var("CHRONICLE_TEST_WAY").unwrap();
    let way = WAYS.into_iter().find(|way| way.to_string() == asked).unwrap();
    let (wal, _lock) = driver(&dir, &options(way));
    // A limit in the middle of the file: a write across it is cut short there, one behind it is refused. The signal that
    // comes with it is ignored.
    // SAFETY: the signal's action is set to what the kernel does by itself.
    unsafe { libc::signal(Signal::XFSZ.as_raw(), libc::SIG_IGN) };
    let half = (BLOCKS / 2 * BLOCK) as u64;
    setrlimit(Resource::Fsize, Rlimit { current: Some(half), maximum: None }).unwrap();
    for round in 0..20 {
        let sync = round % 2 == 0;
        wal.submit(&write(0, 0, 1, sync)).unwrap();
        wal.submit(&write(1, BLOCKS / 2, 1, sync)).unwrap();
        wal.submit(&write(2, BLOCKS / 2 - 2, 4, sync)).unwrap();
        wal.submit(&write(3, BLOCKS / 2 + 1, 1, sync)).unwrap();
        wal.submit(&write(6, 3, 2, sync)).unwrap();
        let outcomes = reap_all(&wal);
        let whole = BLOCK as u32;
        let expected = [
            (0, Outcome::Done(whole)),
            (1, Outcome::Failed(libc::EFBIG)),
            (2, Outcome::Done(2 * whole)),
            (3, Outcome::Failed(libc::EFBIG)),
            (6, Outcome::Done(2 * whole)),
        ];
        assert_eq!(outcomes, expected.into(), "{way}, round {round}");
    }
}

/// The mode is printed at the start, so it must be what is really used.
#[test]
fn d_23_the_mode_is_reported() {
    let calls = |mode: &WalMode| (mode.way, mode.driver, mode.direct, mode.sync);
    for (dir, durable) in dirs().into_iter().zip([true, false]) {
        for way in WAYS {
            let (wal, _lock) = driver(dir.path(), &options(way));
            let mode = wal.mode();
            let expected = match way {
                WalWay::Uring => (way, "io_uring", true, SyncBy::Write),
                WalWay::Direct => (way, "pwritev2", true, SyncBy::Write),
                _ => (way, "pwritev2 and fdatasync", false, SyncBy::Op),
            };
            if mode.way != way {
                eprintln!("skipped: {way} cannot be had in {}: {mode}", dir.path().display());
                assert!(mode.why.is_some(), "{mode}");
                continue;
            }
            assert_eq!(calls(mode), expected);
            assert_eq!(mode.durable, durable, "{mode}");
            let text = mode.to_string();
            assert!(text.starts_with(expected.1), "{text}");
            assert_eq!(text.contains("never durable"), !durable, "{text}");
            assert_eq!(text.contains("the log lies in memory"), !durable, "{text}");
        }
    }
}

#[test]
fn d_23_by_itself_one_in_flight_is_a_call_and_more_are_a_ring() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (depth, expected) in [(1, WalWay::Direct), (4, WalWay::Uring)] {
        let (wal, _lock) = driver(dir.path(), &WalOptions { depth, ..WalOptions::default() });
        assert!(wal.mode().way == expected || wal.mode().why.is_some(), "{}", wal.mode());
    }
}

#[test]
fn d_23_asked_to_it_measures_and_removes_what_it_wrote() {
    for dir in dirs() {
        let options = WalOptions { measure: Some(dir.path().to_owned()), ..WalOptions::default() };
        let (wal, _lock) = driver(dir.path(), &options);
        let mode = wal.mode();
        let fastest = mode.measured.iter().min_by_key(|(_, time)| *time).expect("figures");
        assert_eq!(mode.way, fastest.0, "{mode:?}");
        assert!(mode.measured.iter().any(|(way, _)| *way == WalWay::Buffered), "it works everywhere");
        assert!(mode.measured.iter().all(|(_, time)| *time > Duration::ZERO && *time < Duration::from_secs(10)));
        let names = Linux.list(dir.path()).unwrap();
        assert_eq!(names.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), ["1.wal", "writer.lock"]);
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = WalOptions { measure: Some(dir.path().join("missing")), ..WalOptions::default() };
    let (wal, _lock) = driver(dir.path(), &options);
    let why = wal.mode().why.as_ref().expect("a reason");
    assert!(why.starts_with("nothing was measured: ") && why.contains("No such file"), "{why}");
}

/// What a container does: the call that makes a ring is refused.
#[test]
fn d_23_without_a_ring_calls_are_used_and_the_reason_is_said() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        thread::spawn(move || {
            if !refuse_io_uring(errno) {
                return eprintln!("skipped: this kernel filters no system calls");
            }
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            for way in [WalWay::Uring, WalWay::Auto] {
                let (wal, _lock) = driver(dir.path(), &options(way));
                assert_ne!(wal.mode().way, WalWay::Uring);
                let why = wal.mode().why.as_ref().expect("a reason");
                assert!(why.contains("io_uring"), "{why}");
                wal.submit(&write(5, 0, 1, true)).unwrap();
                assert_eq!(reap_all(&wal), [(5, Outcome::Done(BLOCK as u32))].into());
            }
        })
        .join()
        .unwrap();
    }
}

/// From now on this thread gets `errno` for `io_uring_setup`; whether that could be had.
fn refuse_io_uring(errno: i32) -> bool {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a switch of this thread's, with no pointer.
    let is_set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    // SAFETY: the kernel copies the program, which lives as long as the call.
    is_set && unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } == 0
}

#[test]
fn one_thread_is_the_only_one_that_may_call() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for way in WAYS {
        let (wal, _lock) = driver(dir.path(), &WalOptions { one_thread: true, ..options(way) });
        for round in 0..50 {
            wal.submit(&write(round, round, 1, true)).unwrap();
            let mut count = 0;
            // By looking, as a loop does that has other work too.
            while count == 0 {
                count = wal.reap(false, &mut |_, outcome| assert_eq!(outcome, Outcome::Done(BLOCK as u32))).unwrap();
            }
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let refusals = [
                    wal.submit(&write(0, 0, 1, true)).unwrap_err(),
                    wal.reap(false, &mut |_, _| ()).unwrap_err(),
                    wal.attach(2, Path::new("x")).unwrap_err(),
                    wal.detach(1).unwrap_err(),
                ];
                for refusal in refusals {
                    assert!(refusal.to_string().contains("another thread"), "{refusal}");
                }
            });
        });
        wal.submit(&write(0, 0, 1, true)).unwrap();
        assert_eq!(reap_all(&wal).len(), 1, "and it still works");
        // Dropped by another thread with a write in flight: no wait is possible, and none is tried.
        wal.submit(&write(1, 1, 1, true)).unwrap();
        thread::spawn(move || drop(wal)).join().unwrap();
    }
}

#[test]
fn outcomes_outlive_the_thread_that_submitted() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for way in WAYS {
        let (wal, _lock) = driver(dir.path(), &options(way));
        for round in 0..20 {
            thread::scope(|scope| {
                scope.spawn(|| {
                    wal.submit(&write(round, round, 1, true)).unwrap();
                    wal.submit(&sync(100)).unwrap();
                });
            });
            let outcomes = reap_all(&wal);
            assert_eq!(outcomes[&(round as u32)], Outcome::Done(BLOCK as u32), "{way}");
            // A sync that the kernel had left to a worker of that thread's did perhaps not begin; it never counts as done.
            assert!(matches!(outcomes[&100], Outcome::Done(0) | Outcome::Again), "{way}: {outcomes:?}");
        }
    }
}

#[test]
fn many_threads_submit_and_wait_and_each_outcome_is_told_once() {
    const EACH: usize = 100;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for way in WAYS {
        let (wal, _lock) = driver(dir.path(), &options(way));
        let (told, outcomes) = mpsc::channel();
        thread::scope(|scope| {
            for worker in 0..4 {
                let (wal, told) = (&wal, told.clone());
                scope.spawn(move || {
                    for round in 0..EACH {
                        let n = worker * 16 + round % 16;
                        let Op::Write { segment, offset, from, len, .. } = write(n, n, 1, true) else { unreachable!() };
                        let op = OpId::from_number((worker * EACH + round) as u32);
                        let write = Op::Write { op, segment, offset, from, len, sync: true };
                        let take = |wait| {
                            wal.reap(wait, &mut |op, outcome| told.send((op.number(), outcome)).unwrap()).unwrap();
                        };
                        // On a slow disk those that nobody waited for fill all there is.
                        while let Err(full) = wal.submit(&write) {
                            assert_eq!(full.errno(), Some(rustix::io::Errno::BUSY.raw_os_error()), "{full}");
                            take(true);
                        }
                        // Three in four wait; all of them take what there is, whoever's it is.
                        take(round % 4 != 0);
                    }
                });
            }
        });
        reap_all(&wal).into_iter().for_each(|pair| told.send(pair).unwrap());
        drop(told);
        let mut outcomes: Vec<_> = outcomes.into_iter().collect();
        outcomes.sort_by_key(|(op, _)| *op);
        let expected: Vec<_> = (0..4 * EACH as u32).map(|op| (op, Outcome::Done(BLOCK as u32))).collect();
        assert_eq!(outcomes, expected, "{way}");
        assert_eq!(wal.reap(true, &mut |_, _| ()).unwrap(), 0, "nothing in flight, nothing to wait for");
    }
}

#[test]
fn what_is_not_the_logs_is_refused_and_nothing_comes_of_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for way in WAYS {
        let (wal, _lock) = driver(dir.path(), &options(way));
        let path = dir.path().join("1.wal");
        assert_eq!(wal.attach(1, &path).unwrap_err().kind(), TroubleKind::Exists);
        assert_eq!(wal.attach(2, &dir.path().join("missing")).unwrap_err().kind(), TroubleKind::NotFound);
        assert_eq!(wal.detach(2).unwrap_err().kind(), TroubleKind::NotFound);
        let op = OpId::from_number(7);
        let elsewhere = Op::Sync { op, segment: 2 };
        assert_eq!(wal.submit(&elsewhere).unwrap_err().kind(), TroubleKind::NotFound);
        let refused = [
            Op::Write { op, segment: 1, offset: (BLOCKS * BLOCK) as u64, from: 0, len: BLOCK as u32, sync: true },
            Op::Write { op, segment: 1, offset: 0, from: BLOCKS * BLOCK, len: BLOCK as u32, sync: true },
            Op::Write { op, segment: 1, offset: 512, from: 0, len: BLOCK as u32, sync: true },
            Op::Write { op, segment: 1, offset: 0, from: 4, len: BLOCK as u32, sync: true },
            Op::Write { op, segment: 1, offset: 0, from: 0, len: 0, sync: true },
            Op::Recycle { op, segment: 1 },
        ];
        for op in &refused {
            wal.submit(op).expect_err("outside");
        }
        assert!(reap_all(&wal).is_empty());

        wal.submit(&write(0, 0, 1, true)).unwrap();
        let busy = wal.detach(1).unwrap_err();
        assert!(busy.to_string().contains("in flight"), "{busy}");
        assert_eq!(reap_all(&wal).len(), 1);
        wal.detach(1).unwrap();
        wal.attach(1, &path).unwrap();
        // As many as a ring has places for, then one more.
        let others: Vec<_> = (2..40).map_while(|id| wal.attach(id, &path).ok().map(|()| id)).collect();
        assert!(others.len() >= 15, "{way}: {}", others.len());
        others.into_iter().for_each(|id| wal.detach(id).unwrap());
        wal.attach(2, &path).unwrap();
    }
}

#[test]
fn a_ring_can_be_waited_for_with_poll() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for one_thread in [false, true] {
        let (wal, _lock) = driver(dir.path(), &WalOptions { one_thread, ..options(WalWay::Uring) });
        let Some(event) = wal.event().unwrap() else { return eprintln!("skipped: no io_uring here: {}", wal.mode()) };
        let is_readable = |ms: i64| {
            let time = Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
            poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&time)).unwrap() == 1
        };
        assert!(is_readable(0), "what completed before it was asked for");
        assert_eq!(wal.reap(false, &mut |_, _| ()).unwrap(), 0);
        assert!(!is_readable(0));
        for n in 0..10 {
            wal.submit(&write(n, n, 1, true)).unwrap();
            assert!(is_readable(10_000), "one thread: {one_thread}");
            assert_eq!(wal.reap(false, &mut |_, _| ()).unwrap(), 1, "one thread: {one_thread}");
            // It may have become readable once more for what has just been taken.
            assert!(!is_readable(0) || wal.reap(false, &mut |_, _| ()).unwrap() == 0);
            assert!(!is_readable(0), "one thread: {one_thread}");
        }
    }
    let (wal, _lock) = driver(dir.path(), &options(WalWay::Buffered));
    assert!(wal.event().unwrap().is_none());
}

#[test]
fn pages_behind_the_log_are_given_back_if_asked() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for drop_cache in [false, true] {
        let (wal, _lock) = driver(dir.path(), &WalOptions { drop_cache, ..options(WalWay::Buffered) });
        for n in 0..BLOCKS {
            wal.submit(&write(n, n, 1, false)).unwrap();
        }
        wal.submit(&sync(99)).unwrap();
        assert_eq!(reap_all(&wal).len(), BLOCKS + 1);
        wal.detach(1).unwrap();
        let file = std::fs::File::open(dir.path().join("1.wal")).unwrap();
        let mut byte = [0];
        let read = rustix::io::preadv2(
            &file,
            &mut [std::io::IoSliceMut::new(&mut byte)],
            0,
            rustix::io::ReadWriteFlags::NOWAIT,
        );
        // A read that must not wait finds a page in the cache or nothing.
        assert_eq!(read.is_ok(), !drop_cache, "{read:?}");
    }
}

// Between processes.

const ROLE: &str = "CHRONICLE_TEST_DIR";

/// In a child: the directory that it works in.
fn child() -> Option<PathBuf> {
    env::var_os(ROLE).map(PathBuf::from)
}

/// A command that runs `test` in a child.
fn command(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A writer is killed with as many writes in flight as its ring takes. Once its successor has the lock, nothing of the
/// dead one's may land any more; and it gets it within half a second.
#[test]
fn s_1_the_lock_of_a_killed_writer_is_free_when_its_last_write_has_landed() {
    const NAME: &str = "s_1_the_lock_of_a_killed_writer_is_free_when_its_last_write_has_landed";
    const DEPTH: usize = 32;
    if let Some(dir) = child() {
        let way = if env::var_os("CHRONICLE_TEST_WAY").is_some() { WalWay::Uring } else { WalWay::Direct };
        let (wal, _lock) = driver(&dir, &WalOptions { depth: DEPTH as u8, ..options(way) });
        println!("{} ready", if wal.mode().way == way { "as asked" } else { "skipped" });
        std::io::stdout().flush().unwrap();
        // Every write changes bytes: the blocks of two places in memory by turns.
        for n in (0..).map(|n: usize| n % (BLOCKS / 2) + n / BLOCKS % 2 * (BLOCKS / 2)) {
            while wal.submit(&write(n, n % (BLOCKS / 2), 1, true)).is_err() {
                wal.reap(true, &mut |_, _| ()).unwrap();
            }
        }
        return;
    }
    for way in [None, Some("uring")] {
        for round in 0..10 {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let mut command = command(NAME, dir.path());
            command.envs(way.map(|way| ("CHRONICLE_TEST_WAY", way)));
            let mut writer = command.spawn().unwrap();
            let mut lines = BufReader::new(writer.stdout.as_mut().unwrap()).lines();
            let said = loop {
                let line = lines.next().expect("a child that says that it is ready").unwrap();
                if line.ends_with("ready") {
                    break line;
                }
            };
            if said.contains("skipped") {
                eprintln!("skipped: no io_uring here");
            }
            thread::sleep(Duration::from_millis(5 + round));
            let lock = Linux.open(&dir.path().join("writer.lock"), Open::EnsurePrivate).unwrap();
            assert!(!lock.try_lock(Lock::Exclusive).unwrap(), "the writer has it");
            writer.kill().unwrap();
            let killed = Instant::now();
            while !lock.try_lock(Lock::Exclusive).unwrap() {
                assert!(killed.elapsed() < Duration::from_secs(30), "the lock is never free");
                thread::sleep(Duration::from_millis(1));
            }
            let free = killed.elapsed();
            let then = std::fs::read(dir.path().join("1.wal")).unwrap();
            writer.wait().unwrap();
            thread::sleep(Duration::from_millis(30));
            let later = std::fs::read(dir.path().join("1.wal")).unwrap();
            assert!(then == later, "{way:?}: bytes landed after the lock was free, {free:?} after the kill");
        }
    }
}

/// A process that dies slowly: its own descriptors are gone, its ring is not.
#[test]
fn s_1_the_ring_itself_holds_the_lock() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (wal, lock) = driver(dir.path(), &options(WalWay::Uring));
    if wal.mode().way != WalWay::Uring {
        return eprintln!("skipped: no io_uring here: {}", wal.mode());
    }
    let other = Linux.open(&dir.path().join("writer.lock"), Open::EnsurePrivate).unwrap();
    // As the kernel closes it for a killed process: without a word to the lock. A descriptor of the same description, taken
    // over from the file, which is not told.
    let number = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&lock));
    std::mem::forget(lock);
    // SAFETY: the file that had it was forgotten, so nobody else closes it.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
    for _ in 0..20 {
        assert!(!other.try_lock(Lock::Exclusive).unwrap(), "the ring has it");
        thread::sleep(Duration::from_millis(1));
    }
    wal.submit(&write(0, 0, 1, true)).unwrap();
    drop(wal);
    let began = Instant::now();
    while !other.try_lock(Lock::Exclusive).unwrap() {
        assert!(began.elapsed() < Duration::from_millis(500), "the ring is gone, the lock is not");
        thread::sleep(Duration::from_millis(1));
    }
}
