//! Checkpoints by the clock, by the embedder's own loop, and on demand.
#![cfg(target_os = "linux")]

use chronicle_checkpoint::{Checkpoints, Error, Every, Interval, Options};
use chronicle_platform_linux::Linux;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

#[test]
fn an_interval_is_due_once_each_and_never_in_bursts() {
    let mut interval = Interval::new(Duration::from_nanos(100), 1_000);
    let due: Vec<u64> = (1_000..=1_350).filter(|&now| interval.due(now)).collect();
    assert_eq!(due, [1_100, 1_200, 1_300]);
    // A program that slept: one, and the next a whole interval later.
    let due: Vec<u64> = (5_000..5_150).filter(|&now| interval.due(now)).collect();
    assert_eq!(due, [5_000, 5_100]);
    assert_eq!(interval.next_ns(), 5_200);
    assert!(!Interval::new(Duration::MAX, u64::MAX - 1).due(u64::MAX - 1));
}

#[test]
fn a_thread_makes_them_until_its_handle_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Arc::new(Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap());
    let (seq, fails) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let every = Every::start(Duration::from_millis(5), {
        let (checkpoints, seq, fails) = (checkpoints.clone(), seq.clone(), fails.clone());
        move || {
            let seq = seq.fetch_add(1, Ordering::Relaxed);
            checkpoints.save_with("state", &[], |out| match fails.load(Ordering::Relaxed) {
                true => Err(io::Error::other("no state today")),
                false => out.write_all(b"state").map(|()| seq),
            })
        }
    })
    .unwrap();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    until("a few are made", &|| checkpoints.latest("state").unwrap().is_some_and(|newest| newest.seq >= 3));
    let id = every.now().unwrap();
    assert!(checkpoints.latest("state").unwrap().unwrap().id >= id);

    // A failure is kept, counted, and passes.
    fails.store(true, Ordering::Relaxed);
    until("it fails", &|| every.failed() > 1);
    assert!(matches!(every.take_trouble(), Some(Error::Application(_))));
    assert!(matches!(every.now(), Err(Error::Application(_))));
    fails.store(false, Ordering::Relaxed);
    let id = every.now().unwrap();
    assert!(every.last() >= Some(id));

    drop(every);
    let made = seq.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(seq.load(Ordering::Relaxed), made, "the thread has ended");
}

#[test]
fn a_panic_of_the_application_is_told_and_ends_nobody_else() {
    let every = Every::start(Duration::from_secs(3600), || panic!("the application's bug")).unwrap();
    for _ in 0..2 {
        assert!(every.now().unwrap_err().to_string().contains("application"));
    }
}
