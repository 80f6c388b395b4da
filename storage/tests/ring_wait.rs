//! No wake-up of a sleeping end is lost, in either mode: one that is lost shows as a sleep of the whole 100 ms.
#![cfg(target_os = "linux")]

use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    queue::WakePolicy,
    ring::{self, EndOptions, RingOptions, WaitPolicy, Waited, broadcast, spsc},
};
use std::time::{Duration, Instant};

const TRIPS: u64 = 400;
const LONG: Duration = Duration::from_secs(20);

/// Each waits for the other's message, in turn, always asleep.
#[test]
fn two_that_sleep_wake_each_other() {
    for wake in [WakePolicy::Fence, WakePolicy::Auto] {
        for policy in [WaitPolicy::Park { spins: 0 }, WaitPolicy::Park { spins: 50 }, WaitPolicy::Yield] {
            let dir = tempfile::tempdir_in(Linux.memory_dir().unwrap_or_else(std::env::temp_dir)).unwrap();
            let (there, back) = (dir.path().join("there"), dir.path().join("back"));
            let options = EndOptions { wait: policy, ..EndOptions::default() };
            for path in [&there, &back] {
                ring::create(&Linux, path, &RingOptions { wake, ..RingOptions::spsc(64) }).unwrap();
            }
            let mut to = spsc::Producer::open(&Linux, &there, options).unwrap();
            let mut from = spsc::Consumer::open(&Linux, &back, options).unwrap();
            let other = std::thread::spawn(move || {
                let mut from = spsc::Consumer::open(&Linux, &there, options).unwrap();
                let mut to = spsc::Producer::open(&Linux, &back, options).unwrap();
                for n in 1..=TRIPS {
                    // One who is not there yet is no reason to give up.
                    while from.wait(LONG).unwrap() != Waited::Ready {}
                    assert_eq!(from.step_wait(LONG, |frame| frame.seq).unwrap(), n);
                    from.release();
                    to.push_wait(&n.to_le_bytes(), LONG).unwrap();
                }
            });
            let (mut slow, begun) = (0, Instant::now());
            for n in 1..=TRIPS {
                let begun = Instant::now();
                to.push_wait(&n.to_le_bytes(), LONG).unwrap();
                while from.wait(LONG).unwrap() != Waited::Ready {}
                assert_eq!(from.step_wait(LONG, |frame| frame.seq).unwrap(), n);
                from.release();
                slow += u32::from(begun.elapsed() >= Duration::from_millis(90));
            }
            other.join().unwrap();
            println!("{wake:?} {policy:?}: {TRIPS} trips in {:.1?}, {slow} slow", begun.elapsed());
            // A busy machine makes some trips slow; wake-ups that are lost make all of them so.
            assert!(slow < TRIPS as u32 / 10, "{wake:?} {policy:?}: {slow} of {TRIPS} trips slept to the end");
        }
    }
}

/// A reader that sleeps is woken by the writer.
#[test]
fn a_sleeping_reader_is_woken() {
    let dir = tempfile::tempdir_in(Linux.memory_dir().unwrap_or_else(std::env::temp_dir)).unwrap();
    let path = dir.path().join("ring");
    ring::create(&Linux, &path, &RingOptions::broadcast(4096)).unwrap();
    let options = EndOptions { wait: WaitPolicy::Park { spins: 0 }, ..EndOptions::default() };
    let mut writer = broadcast::Writer::open(&Linux, &path, options).unwrap();
    let mut reader = broadcast::Reader::open(&Linux, &path, broadcast::Start::Oldest, options).unwrap();
    assert!(reader.is_woken());
    let reading = std::thread::spawn(move || {
        let mut sent = [0; 8];
        let mut slow = 0;
        for _ in 0..100 {
            reader.receive_wait(&mut sent, LONG).unwrap();
            slow += u32::from(Linux.monotonic_ns() - u64::from_le_bytes(sent) > 60_000_000);
        }
        slow
    });
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(2));
        writer.push(&Linux.monotonic_ns().to_le_bytes()).unwrap();
    }
    let slow = reading.join().unwrap();
    assert!(slow < 20, "{slow} of 100 were not woken");
}
