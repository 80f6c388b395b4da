//! Real processes that are killed, stopped and left behind, on the machine that the tests run on.
//!
//! The test binary runs itself again as a writer or a reader. SIGKILL keeps the page cache: what `append` returned must
//! be there, all of it, and the next writer must go on with the next seq.
#![cfg(target_os = "linux")]

use chronicle_core::Append;
use chronicle_platform::{Medium, Platform};
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    Error,
    queue::{
        Disconnect, Profile, PublisherOptions, Queue, ReadError, Refused, Start, SubscriberOptions, WriterStatus,
        describe, verify,
    },
};
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "QUEUE_KILL_ROLE";

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 16 << 10, max_bytes: 256 << 10, ..PublisherOptions::new(Profile::Raw) }
}

fn payload(seq: u64) -> Vec<u8> {
    (0..8 + seq % 120).map(|at| (seq.wrapping_mul(0x9e37_79b9) >> (at % 32)) as u8).collect()
}

/// Runs this very test binary with another job.
fn start(role: &str, dir: &Path) -> (Child, BufReader<ChildStdout>) {
    start_by(Command::new(std::env::current_exe().unwrap()), role, dir)
}

/// The same, by a command that runs it.
fn start_by(mut command: Command, role: &str, dir: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = command
        .args(["a_child_does_its_job", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("QUEUE_KILL_DIR", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    // Behind what the test harness prints.
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended before it was ready");
    }
    (child, out)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Not a test of its own: what a child does.
#[test]
fn a_child_does_its_job() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = PathBuf::from(std::env::var_os("QUEUE_KILL_DIR").unwrap());
    match role.as_str() {
        "writer" => {
            let mut queue = Queue::publisher(&Linux, &dir, options()).unwrap();
            println!("ready");
            loop {
                let seq = queue.next_seq();
                let append = Append { time_ns: seq, type_id: 1, flags: 0 };
                match queue.append(append, &payload(seq)) {
                    Ok(_) => {}
                    Err(Refused::NotReady | Refused::QueueFull { .. }) => std::thread::yield_now(),
                    Err(refused) => panic!("{refused}"),
                }
            }
        }
        "reader" => {
            let options = SubscriberOptions { start: Start::Latest, ..SubscriberOptions::default() };
            let mut reader = Queue::subscriber(&Linux, &dir, "child", options).unwrap();
            println!("ready");
            loop {
                match reader.next() {
                    Ok(Some(_)) => continue,
                    Ok(None) | Err(ReadError::Lapped { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                reader.commit().unwrap();
                _ = reader.wait(Duration::from_millis(10));
            }
        }
        "cut" => {
            let mut queue = Queue::publisher(&Linux, &dir, PublisherOptions { helper: false, ..options() }).unwrap();
            for seq in 1..=10 {
                queue.append(Append { time_ns: seq, type_id: 1, flags: 0 }, &payload(seq)).unwrap();
            }
            println!("ready");
            std::fs::OpenOptions::new().write(true).open(dir.join("wake.meta")).unwrap().set_len(0).unwrap();
            _ = queue.append(Append { time_ns: 11, type_id: 1, flags: 0 }, &payload(11));
            unreachable!("a load beyond the end of a file");
        }
        other => panic!("role {other}"),
    }
}

fn memory_or_disk() -> tempfile::TempDir {
    match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

#[test]
fn s_18_a_writer_killed_at_any_moment_loses_nothing_that_was_seen() {
    let rounds: u64 = std::env::var("QUEUE_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(25);
    let dir = memory_or_disk();
    Queue::publisher(&Linux, dir.path(), options()).unwrap().close().unwrap();
    let mut live =
        Queue::subscriber(&Linux, dir.path(), "live", SubscriberOptions { verify_reads: true, ..Default::default() })
            .unwrap();
    let mut next = 1;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..rounds {
        let (mut child, _out) = start("writer", dir.path());
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let end = Instant::now() + Duration::from_micros(random % 20_000);
        loop {
            match live.next() {
                Ok(Some(frame)) => {
                    assert_eq!(frame.seq, next, "round {round}");
                    let mut bytes = [0; 256];
                    assert_eq!(frame.payload.copy_to(&mut bytes), payload(next), "round {round}");
                    next += 1;
                }
                Ok(None) if Instant::now() > end => break,
                Ok(None) => {}
                Err(error) => panic!("round {round}: {error}: {error:?}"),
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What the dead writer still appended behind our back.
        while let Some(frame) = live.next().unwrap() {
            assert_eq!(frame.seq, next, "round {round}");
            next += 1;
        }
        live.commit().unwrap();
        let queue = Queue::publisher(&Linux, dir.path(), options()).unwrap();
        assert_eq!(queue.next_seq(), next, "round {round}");
        drop(queue);
        let mut problems = Vec::new();
        let verified = verify(&Linux, dir.path(), &mut |problem| problems.push(problem.to_string())).unwrap();
        assert_eq!(problems, Vec::<String>::new(), "round {round}: {verified:?}");
    }
    assert!(next > rounds, "the writers wrote");
    let described = describe(&Linux, dir.path()).unwrap();
    assert_eq!(described.next_seq, Some(next));
    assert_eq!(described.readers[0].lag, Some(0));
}

/// What a program starts has nothing of its queues: no lock outlives them there, and no byte is in its reach.
#[test]
fn s_17_a_child_process_holds_nothing_of_its_parents_queue() {
    let dir = memory_or_disk();
    let path = dir.path().join("queue");
    let mut queue = Queue::publisher(&Linux, &path, options()).unwrap();
    queue.append(Append { time_ns: 1, type_id: 1, flags: 0 }, &payload(1)).unwrap();
    let mut reader = Queue::subscriber(&Linux, &path, "parent", SubscriberOptions::default()).unwrap();
    _ = reader.next().unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    // It may still be between fork and exec.
    std::thread::sleep(Duration::from_millis(50));
    let name = path.to_str().unwrap();
    let of_child = |what: &str| PathBuf::from(format!("/proc/{}/{what}", child.id()));
    let maps = std::fs::read_to_string(of_child("maps")).unwrap();
    assert!(maps.contains("sleep") && !maps.contains(name), "{maps}");
    for fd in std::fs::read_dir(of_child("fd")).unwrap() {
        let target = std::fs::read_link(fd.unwrap().path()).unwrap_or_default();
        assert!(!target.starts_with(&path), "{}", target.display());
    }
    // Both of ours go; at once, with the child alive, others take their places.
    drop((queue, reader));
    let mut queue = Queue::publisher(&Linux, &path, options()).unwrap();
    assert_eq!(queue.next_seq(), 2);
    let mut reader = Queue::subscriber(&Linux, &path, "parent", SubscriberOptions::default()).unwrap();
    queue.append(Append { time_ns: 2, type_id: 1, flags: 0 }, &payload(2)).unwrap();
    assert!(reader.next().unwrap().is_some());
    assert!(child.try_wait().unwrap().is_none(), "it lived all the time");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Pids mean nothing across containers, and nothing here goes by one: locks, frames and deaths are seen all the same.
#[test]
fn s_14_a_writer_in_another_pid_namespace() {
    let isolated = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
    let probe = Command::new("unshare").args(isolated).arg("true").stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to make a pid namespace");
        return;
    }
    let dir = memory_or_disk();
    Queue::publisher(&Linux, dir.path(), options()).unwrap().close().unwrap();
    let mut reader = Queue::subscriber(&Linux, dir.path(), "here", SubscriberOptions::default()).unwrap();
    let mut command = Command::new("unshare");
    command.args(isolated).arg(std::env::current_exe().unwrap());
    let (mut child, _out) = start_by(command, "writer", dir.path());
    let mut next = 1;
    while next < 5000 {
        if let Some(frame) = reader.next().unwrap() {
            assert_eq!(frame.seq, next);
            next += 1;
        }
    }
    assert!(matches!(Queue::publisher(&Linux, dir.path(), options()), Err(Error::Locked { .. })));
    assert_eq!(reader.writer_status(Duration::from_secs(60)).unwrap(), WriterStatus::Alive);
    child.kill().unwrap();
    child.wait().unwrap();
    // `unshare` is gone, and the kernel ends the writer with it, which takes a moment.
    let begun = Instant::now();
    let queue = loop {
        match Queue::publisher(&Linux, dir.path(), options()) {
            Ok(queue) => break queue,
            Err(Error::Locked { .. }) if begun.elapsed() < Duration::from_secs(10) => {}
            Err(error) => panic!("{error}"),
        }
    };
    while let Some(frame) = reader.next().unwrap() {
        assert_eq!(frame.seq, next);
        next += 1;
    }
    assert_eq!(queue.next_seq(), next, "all of it, and no more");
}

#[test]
fn s_2_a_stopped_writer_keeps_its_queue() {
    let dir = memory_or_disk();
    let (mut child, _out) = start("writer", dir.path());
    signal(&child, "STOP");
    std::thread::sleep(Duration::from_millis(50));
    let error = Queue::publisher(&Linux, dir.path(), options()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    let reader = Queue::observer(&Linux, dir.path(), SubscriberOptions::default()).unwrap();
    let status = reader.writer_status(Duration::from_millis(20)).unwrap();
    assert!(matches!(status, WriterStatus::StaleHeartbeat { .. }), "{status:?}");
    signal(&child, "CONT");
    let patience = Instant::now() + Duration::from_secs(20);
    while reader.writer_status(Duration::from_secs(1)).unwrap() != WriterStatus::Alive {
        assert!(Instant::now() < patience, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reader.detect_disconnect(Duration::from_secs(1)).unwrap(), Some(Disconnect::Died));
    Queue::publisher(&Linux, dir.path(), options()).unwrap();
}

#[test]
fn s_16_a_killed_reader_and_a_stopped_one_hold_nothing_for_ever() {
    for end in ["KILL", "STOP"] {
        let dir = memory_or_disk();
        let options = PublisherOptions { reader_ttl: Duration::from_millis(300), ..options() };
        let mut queue = Queue::publisher(&Linux, dir.path(), options).unwrap();
        let (mut child, _out) = start("reader", dir.path());
        signal(&child, end);
        let total = queue.append_wait(Append::default(), &[1; 1000], Duration::from_secs(10)).unwrap();
        for n in 0..1000 {
            let seq = queue.append_wait(Append::default(), &[1; 1000], Duration::from_secs(10));
            assert_eq!(seq, Ok(total + 1 + n), "{end}");
        }
        if end == "STOP" {
            // It wakes up in a segment that has retired under it, and learns so.
            signal(&child, "CONT");
            std::thread::sleep(Duration::from_millis(100));
        }
        _ = child.kill();
        child.wait().unwrap();
        let mut late = Queue::subscriber(&Linux, dir.path(), "child", SubscriberOptions::default()).unwrap();
        loop {
            match late.next() {
                Ok(Some(_)) | Err(ReadError::Lapped { .. }) => {}
                Ok(None) => break,
                Err(error) => panic!("{end}: {error}"),
            }
        }
        assert_eq!(late.position().unwrap().seq, queue.next_seq());
    }
}

#[test]
fn a_reader_that_cuts_what_it_may_write_hurts_itself_alone() {
    let dir = memory_or_disk();
    let mut queue = Queue::publisher(&Linux, dir.path(), options()).unwrap();
    let reader = Queue::subscriber(&Linux, dir.path(), "vandal", SubscriberOptions::default()).unwrap();
    drop(reader);
    // The writer never maps a reader's file.
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("readers/vandal.meta")).unwrap();
    file.set_len(0).unwrap();
    for n in 1..=2000 {
        assert_eq!(queue.append_wait(Append::default(), &[1; 1000], Duration::from_secs(10)), Ok(n));
    }
    let error = Queue::subscriber(&Linux, dir.path(), "vandal", SubscriberOptions::default()).unwrap_err();
    assert!(error.to_string().contains("vandal.meta"), "{error}");
    let described = describe(&Linux, dir.path()).unwrap();
    assert!(described.readers[0].error.as_ref().is_some_and(|error| error.contains("bytes needed")));
}

#[test]
fn s_6_modes_keep_mere_readers_away_from_the_writers_lock() {
    use std::os::unix::fs::PermissionsExt;
    let dir = memory_or_disk();
    let path = dir.path().join("queue");
    let _queue = Queue::publisher(&Linux, &path, options()).unwrap();
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("writer.lock"), 0o600);
    for name in ["alive.lock", "control.meta", "wake.meta", "00000000000000000001.q"] {
        assert_eq!(mode(name), 0o640, "{name}");
    }
    assert_eq!((mode("."), mode("readers")), (0o750, 0o750));
}

#[test]
fn s_13_a_full_memory_file_system_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            let mut error = String::new();
            child.stderr.take().map(|mut err| err.read_to_string(&mut error));
            Ok((child.wait()?, error))
        });
    match mounted {
        Ok((status, _)) if status.success() => {}
        other => {
            eprintln!("skipped: mounting a small tmpfs needs more rights than these tests have: {other:?}");
            return;
        }
    }
    let result = std::panic::catch_unwind(|| {
        assert_eq!(Linux.medium(dir.path()).unwrap(), Medium::Memory);
        let path = dir.path().join("queue");
        let options = PublisherOptions {
            segment_len: 256 << 10,
            max_bytes: 16 << 20,
            segments_ahead: 1,
            ..PublisherOptions::new(Profile::Raw)
        };
        let mut queue = Queue::publisher(&Linux, &path, options).unwrap();
        let ballast = dir.path().join("ballast");
        std::fs::write(&ballast, vec![0; 256 << 10]).unwrap();
        let mut appended = 0;
        let refused = loop {
            match queue.append_wait(Append::default(), &[7; 1000], Duration::from_millis(500)) {
                Ok(seq) => appended = seq,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, Refused::NoSpace);
        assert!(appended > 200, "{appended}");
        assert!(queue.last_trouble().unwrap().to_string().contains("failed"));
        std::fs::remove_file(&ballast).unwrap();
        assert_eq!(queue.append_wait(Append::default(), &[8; 1000], Duration::from_secs(10)), Ok(appended + 1));
        let mut reader = Queue::observer(
            &Linux,
            &path,
            SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() },
        )
        .unwrap();
        for seq in 1..=appended + 1 {
            assert_eq!(reader.next().unwrap().unwrap().seq, seq);
        }
    });
    let unmounted = Command::new("umount").arg("-l").arg(dir.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    result.unwrap();
}

/// The documented exit: who may write the wake word may end the writer, as a kill does, and nothing is lost.
#[test]
fn s_12_a_cut_wake_word_ends_the_writer_and_no_frame() {
    use std::os::unix::process::ExitStatusExt;
    const SIGBUS: i32 = 7;
    let dir = memory_or_disk();
    let (mut child, _out) = start("cut", dir.path());
    assert_eq!(child.wait().unwrap().signal(), Some(SIGBUS));
    let mut queue = Queue::publisher(&Linux, dir.path(), options()).unwrap();
    // The frame was whole when the writer looked for sleepers.
    assert_eq!(queue.next_seq(), 12);
    queue.append(Append { time_ns: 12, type_id: 1, flags: 0 }, &payload(12)).unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("wake.meta")).unwrap().len(), 4096);
    let options = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
    let mut reader = Queue::observer(&Linux, dir.path(), options).unwrap();
    for seq in 1..=12 {
        let frame = reader.next().unwrap().unwrap();
        let mut bytes = [0; 256];
        assert_eq!(frame.seq, seq);
        assert_eq!(frame.payload.copy_to(&mut bytes), payload(seq));
    }
    let mut problems = Vec::new();
    verify(&Linux, dir.path(), &mut |problem| problems.push(problem.to_string())).unwrap();
    assert_eq!(problems, Vec::<String>::new());
}

/// Somebody who may look at `alive.lock` may also hold it; the writer is seen all the same, and its death too.
#[test]
fn s_6_a_held_alive_lock_hides_no_writer() {
    use chronicle_platform::{File, Lock, Open};
    let dir = memory_or_disk();
    Queue::publisher(&Linux, dir.path(), options()).unwrap().close().unwrap();
    let squatter = Linux.open(&dir.path().join("alive.lock"), Open::Read).unwrap();
    assert!(squatter.try_lock(Lock::Shared).unwrap());
    let mut queue = Queue::publisher(&Linux, dir.path(), PublisherOptions { helper: false, ..options() }).unwrap();
    let reader = Queue::observer(&Linux, dir.path(), SubscriberOptions::default()).unwrap();
    queue.maintain();
    assert_eq!(reader.writer_status(Duration::from_secs(60)).unwrap(), WriterStatus::Alive);
    assert!(describe(&Linux, dir.path()).unwrap().writer);
    squatter.unlock().unwrap();
    queue.maintain();
    assert_eq!(reader.writer_status(Duration::from_secs(60)).unwrap(), WriterStatus::Alive);
    drop(queue);
    assert_eq!(reader.writer_status(Duration::from_secs(60)).unwrap(), WriterStatus::LockLost, "at once");
}
