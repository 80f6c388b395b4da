//! Two processes that stream through a ring make no system call and take no page fault for it, once warm: counted.
//!
//! Each of two processes marks where it is warm and where it ends by a system call of its own; `strace` writes down what
//! lies between, and the kernel counts the faults. `RING_WARM_SECONDS` sets how long they stream.
#![cfg(target_os = "linux")]

use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_storage::ring::{self, EndOptions, RingOptions, WaitPolicy, spsc};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "RING_WARM_ROLE";
const DIR: &str = "RING_WARM_DIR";
/// What reading the count takes.
const FEW: u64 = 8;

/// Minor faults of this thread so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(7).unwrap().parse().unwrap()
}

fn seconds() -> u64 {
    std::env::var("RING_WARM_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2)
}

/// Does `work` while warming up, then says so, does it for some seconds, and says so again.
fn measured(what: &str, dir: &Path, mut work: impl FnMut() -> u64) {
    let mark = |name: &str| _ = std::fs::remove_file(dir.join(name));
    let pass = |end: Instant, work: &mut dyn FnMut() -> u64| {
        let mut count = 0;
        while Instant::now() < end {
            count += (0..1000).map(|_| work()).sum::<u64>();
        }
        count
    };
    pass(Instant::now() + Duration::from_millis(500), &mut work);
    faults();
    let before = faults();
    mark("warm");
    let count = pass(Instant::now() + Duration::from_secs(seconds()), &mut work);
    mark("done");
    let during = faults() - before;
    println!("{what}: {count} messages, {during} faults");
    assert!(count > 1000 && during <= FEW, "{what}: {during} faults in {count} messages");
}

/// Not a test of its own: what a child does.
#[test]
fn a_child_does_its_job() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let path = dir.join("ring");
    let options = EndOptions { wait: WaitPolicy::Spin, ..EndOptions::default() };
    // Both outlast each other's measurement: nobody counts what it does after its own.
    let rest = Instant::now() + Duration::from_millis(1500) + Duration::from_secs(seconds());
    match role.as_str() {
        "producer" => {
            let mut producer = spsc::Producer::open(&Linux, &path, options).unwrap();
            let mut push = || u64::from(producer.push(&[7; 64]).is_ok());
            measured("producer", &dir, &mut push);
            while Instant::now() < rest {
                push();
            }
        }
        "consumer" => {
            let mut consumer = spsc::Consumer::open(&Linux, &path, options).unwrap();
            let mut buffer = [0; 64];
            let mut pop = || u64::from(consumer.pop(&mut buffer).unwrap().is_some());
            measured("consumer", &dir, &mut pop);
            while Instant::now() < rest {
                pop();
            }
        }
        other => panic!("role {other}"),
    }
}

#[test]
fn streaming_makes_no_system_call_and_takes_no_fault_once_warm() {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let traced = traced.is_ok_and(|status| status.success());
    if !traced {
        eprintln!("SKIPPED: system calls are not counted, because strace is missing or may not trace; faults are");
    }
    let parent = Linux.memory_dir().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(parent).unwrap();
    ring::create(&Linux, &dir.path().join("ring"), &RingOptions::spsc(1 << 16)).unwrap();
    let exe = std::env::current_exe().unwrap();
    let log = |role: &str| dir.path().join(format!("{role}.strace"));
    let start = |role: &str| -> Child {
        let mut command = if traced {
            let mut command = Command::new("strace");
            command.arg("-f").arg("-o").arg(log(role)).arg(&exe);
            command
        } else {
            Command::new(&exe)
        };
        command.args(["a_child_does_its_job", "--exact", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(DIR, dir.path()).spawn().unwrap()
    };
    let children = ["producer", "consumer"].map(|role| (role, start(role)));
    for (role, mut child) in children {
        assert!(child.wait().unwrap().success(), "{role}");
        if !traced {
            continue;
        }
        let log = std::fs::read_to_string(log(role)).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        let mark = |name: &str| {
            let named = format!("/{name}\"");
            lines.iter().position(|line| line.contains("unlink") && line.contains(&named)).expect(name)
        };
        // The thread that works; what others of its process do is not its hot path.
        let thread = lines[mark("warm")].split(' ').next().unwrap();
        let between = &lines[mark("warm") + 1..mark("done")];
        let calls: Vec<_> = between.iter().filter(|line| line.split(' ').next() == Some(thread)).collect();
        println!("{role}: {} system calls between the marks, of {} in all", calls.len(), lines.len());
        assert!(calls.is_empty(), "{role}: {calls:#?}");
    }
}
