//! An acknowledgement is true, and everybody who asks for one gets an answer.
//!
//! On the simulator each fault is planted at every place where it can be; what was acknowledged before it must be there when
//! the machine comes up again, and nobody may hang.

use chronicle_platform::{
    Medium, Platform, WalWay,
    sim::{Faults, Sim},
};
use chronicle_storage::wal::{AppendError, CommitError, Options, Recovery, SyncPolicy, Threads, Wal, WalReader};
use std::{
    future::Future,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Duration,
};

const DIR: &str = "/log";

fn options(threads: Threads) -> Options {
    Options {
        segment_len: 256 << 10,
        batch_len: 16 << 10,
        depth: 4,
        carry_len: 512,
        spares: 1,
        threads,
        ..Options::default()
    }
}

fn open(sim: &Sim, options: &Options) -> (Wal<Sim>, Recovery) {
    Wal::open(sim, DIR, options).unwrap()
}

fn payload(seq: u64) -> Vec<u8> {
    seq.to_le_bytes().repeat(1 + (seq % 30) as usize)
}

/// The records of a log, each checked against what was appended under its number.
fn records<P: Platform>(platform: &P, dir: &Path) -> u64 {
    let mut reader = WalReader::open(platform, dir, 1, Default::default()).unwrap();
    let mut last = 0;
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.seq, last + 1);
        assert_eq!(record.payload, payload(record.seq), "record {}", record.seq);
        last = record.seq;
    }
    last
}

/// Wakes the thread that blocks on a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// Threads that append and commit, each its own frames, in one log; returns how many frames there are.
fn crowd<P: Platform>(wal: &Wal<P>, threads: u64, each: u64) -> u64 {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for n in 0..each {
                    let seq = wal.append(&(thread * each + n).to_le_bytes()).unwrap();
                    if n % 5 == 4 {
                        block_on(wal.commit_async(seq)).unwrap();
                    } else {
                        wal.commit(seq).unwrap();
                    }
                    assert!(wal.durable() >= seq);
                }
            });
        }
    });
    threads * each
}

#[test]
fn threads_that_commit_share_batches_on_the_simulator() {
    for seed in 0..10 {
        for (way, threads) in
            [(WalWay::Uring, Threads::Own), (WalWay::Direct, Threads::Own), (WalWay::Buffered, Threads::Own)]
        {
            let sim = Sim::new(seed);
            let options = Options { way, ..options(threads) };
            let (wal, _) = open(&sim, &options);
            let all = crowd(&wal, 8, 25);
            assert_eq!(wal.durable(), all);
            wal.close().unwrap();
            let (_, recovery) = open(&sim, &options);
            assert_eq!((recovery.last_seq(), recovery.clean), (Some(all), true));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_commit_share_batches_on_real_files() {
    for way in [WalWay::Uring, WalWay::Direct, WalWay::Buffered] {
        for threads in [Threads::Own, Threads::Callers] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { way, ..options(threads) };
            let (wal, _) = Wal::open(&chronicle_platform_linux::Linux, dir.path(), &options).unwrap();
            // Callers alone make no progress for futures: nobody drives here, so they take turns.
            let done = AtomicU64::new(0);
            let all = std::thread::scope(|scope| {
                if threads == Threads::Callers {
                    scope.spawn(|| {
                        while done.load(Ordering::Relaxed) == 0 {
                            wal.drive_waiting();
                            std::thread::yield_now();
                        }
                    });
                }
                let all = crowd(&wal, 8, 50);
                done.store(1, Ordering::Relaxed);
                all
            });
            let stats = wal.stats();
            assert!(stats.batches < all, "{way}: nothing was shared: {stats:?}");
            wal.close().unwrap();
        }
    }
}

#[test]
fn a_callback_is_called_once_with_the_answer_and_a_dropped_log_says_so() {
    let (wal, _) = open(&Sim::new(3), &options(Threads::Callers));
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = |seq| {
        let told = told.clone();
        move |answer| told.lock().unwrap().push((seq, answer))
    };
    for seq in 1..=10 {
        wal.append(&payload(seq)).unwrap();
        wal.on_commit(seq, tell(seq)).unwrap();
    }
    assert_eq!(
        wal.on_commit(11, |_| panic!("there is no such frame")),
        Err(CommitError::NotAppended { seq: 11, next: 11 })
    );
    assert!(told.lock().unwrap().is_empty(), "nobody has driven yet");
    while wal.drive_waiting() {}
    assert_eq!(*told.lock().unwrap(), (1..=10).map(|seq| (seq, Ok(()))).collect::<Vec<_>>());
    // Of a frame that is durable it is called at once.
    wal.on_commit(4, tell(4)).unwrap();
    assert_eq!(told.lock().unwrap().pop(), Some((4, Ok(()))));
    let seq = wal.append(&payload(11)).unwrap();
    wal.on_commit(seq, tell(seq)).unwrap();
    drop(wal);
    assert_eq!(told.lock().unwrap().pop(), Some((11, Err(CommitError::Dropped))));
}

#[test]
fn a_future_that_is_dropped_takes_nothing_but_its_waiting_back() {
    let (wal, _) = open(&Sim::new(4), &options(Threads::Callers));
    let mut context = Context::from_waker(Waker::noop());
    for seq in 1..=20 {
        wal.append(&payload(seq)).unwrap();
    }
    let mut futures: Vec<_> = (1..=20).rev().map(|seq| Box::pin(wal.commit_async(seq))).collect();
    assert!(futures.iter_mut().all(|future| future.as_mut().poll(&mut context).is_pending()));
    // Every other one goes, in no order.
    let mut n = 0;
    futures.retain(|_| {
        n += 1;
        n % 2 == 0
    });
    while wal.drive_waiting() {}
    assert_eq!(wal.durable(), 20);
    assert!(futures.iter_mut().all(|future| future.as_mut().poll(&mut context) == Poll::Ready(Ok(()))));
    let mut early = Box::pin(wal.commit_async(21));
    let answer = early.as_mut().poll(&mut context);
    assert_eq!(answer, Poll::Ready(Err(CommitError::NotAppended { seq: 21, next: 21 })));
}

/// One thread drives by hand: what was appended while a sync was under way waits for the next one.
#[test]
fn d_20_a_sync_covers_only_what_was_written_before_it() {
    for way in [WalWay::Uring, WalWay::Buffered] {
        for seed in 0..50 {
            let sim = Sim::new(seed);
            let options = Options { way, ..options(Threads::Callers) };
            let (wal, _) = open(&sim, &options);
            let mut acknowledged = 0;
            for seq in 1..=30 {
                wal.append(&payload(seq)).unwrap();
                wal.on_commit(seq, |_| ()).unwrap();
                wal.drive();
                acknowledged = wal.durable();
                assert!(acknowledged <= seq);
            }
            drop(wal);
            // At each seed the machine dies at another moment of the last batches.
            let (wal, recovery) = open(&sim.crash(), &options);
            assert!(recovery.last_seq().unwrap_or(0) >= acknowledged, "{way} {seed}: {recovery}");
            drop(wal);
        }
    }
}

/// What a run acknowledged, whatever went wrong in it.
fn run(sim: &Sim, options: &Options) -> u64 {
    let Ok((wal, recovery)) = Wal::open(sim, DIR, options) else { return 0 };
    let mut acknowledged = recovery.last_seq().unwrap_or(0);
    let mut failed = false;
    for n in 1..=40 {
        match wal.append(&payload(recovery.next_seq + n - 1)) {
            Ok(seq) if n % 3 == 0 => match wal.commit(seq) {
                Ok(()) => {
                    // Rule D-2: after one failure nothing is acknowledged, whatever succeeds later.
                    assert!(!failed, "acknowledged {seq} after a failure");
                    acknowledged = seq;
                }
                Err(error) => {
                    assert_eq!(error, CommitError::Poisoned);
                    assert!(wal.trouble().is_some());
                    failed = true;
                }
            },
            Ok(_) => {}
            Err(AppendError::Poisoned) => failed = true,
            Err(AppendError::NoSpace | AppendError::PrepareFailed) if sim.is_off() => break,
            Err(error) => panic!("{error}"),
        }
    }
    if failed {
        assert_eq!(wal.append(b"more"), Err(AppendError::Poisoned));
        assert!(wal.close().is_err(), "a poisoned log does not close as if nothing was");
    } else if wal.close().is_ok() {
        acknowledged = recovery.next_seq + 39;
    }
    acknowledged
}

/// Rules D-1 to D-4: a crash, a failed sync, a failed and a short write, at every place.
fn survives(what: &str, ways: &[WalWay], mut plant: impl FnMut(&Sim, u64) -> bool) {
    for &way in ways {
        let options = Options { way, ..options(Threads::Callers) };
        for k in 1.. {
            let sim = Sim::new(k);
            if !plant(&sim, k) {
                break;
            }
            let acknowledged = run(&sim, &options);
            for round in 0..3 {
                let next = sim.crash();
                let opened = Wal::open(&next, DIR, &options);
                let (wal, recovery) = opened.unwrap_or_else(|error| panic!("{what} {k}, {way}: {error}"));
                let found = recovery.last_seq().unwrap_or(0);
                assert!(found >= acknowledged, "{what} {k}, {way}, {round}: {acknowledged} lost: {recovery}");
                // What recovery served is durable: it is there after another crash.
                drop(wal);
                let last = next.crash();
                drop(open(&last, &options));
                assert_eq!(records(&last, Path::new(DIR)), found, "{what} {k}, {way}, {round}");
            }
        }
    }
}

const WAYS: [WalWay; 3] = [WalWay::Uring, WalWay::Direct, WalWay::Buffered];

#[test]
fn d_1_no_acknowledgement_before_the_sync_that_covers_it() {
    let whole = Sim::new(0);
    assert_eq!(run(&whole, &options(Threads::Callers)), 40);
    let operations = whole.operations();
    survives("crash in operation", &WAYS, |sim, k| {
        sim.crash_at(k);
        k <= operations
    });
}

#[test]
fn d_2_a_failed_sync_is_fatal() {
    let whole = Sim::new(0);
    run(&whole, &options(Threads::Callers));
    let syncs = whole.syncs();
    survives("failing sync", &WAYS, |sim, k| {
        sim.faults(Faults { failing_sync: Some(k), ..Faults::default() });
        k <= syncs
    });
}

#[test]
fn d_4_a_failed_or_endlessly_short_write_is_fatal_and_a_short_one_is_completed() {
    let whole = Sim::new(0);
    run(&whole, &options(Threads::Callers));
    let writes = whole.writes();
    for errno in [5, 28] {
        survives("failing write", &WAYS, |sim, k| {
            sim.faults(Faults { failing_write: Some((k, errno)), ..Faults::default() });
            k <= writes
        });
    }
    for short in [0, 1, 511, 512, 4095, 4096] {
        survives("short write", &[WalWay::Uring], |sim, k| {
            sim.faults(Faults { short_write: Some((k, short)), ..Faults::default() });
            k <= writes
        });
        let sim = Sim::new(9);
        sim.faults(Faults { short_write: Some((3, short)), ..Faults::default() });
        assert_eq!(run(&sim, &options(Threads::Callers)), 40, "a short write of {short} is gone on with");
    }
}

/// Many committers, and the device fails: every one of them hears of it.
#[test]
fn nobody_hangs_when_a_write_fails() {
    for k in 1..=12 {
        for threads in [Threads::Own, Threads::Callers] {
            let sim = Sim::new(k);
            let (wal, _) = open(&sim, &options(threads));
            sim.faults(Faults { failing_write: Some((sim.writes() + k, 5)), ..Faults::default() });
            let failures = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        loop {
                            let answer = wal.append(b"frame").map_err(|_| ()).and_then(|seq| match seq % 3 {
                                0 if threads == Threads::Own => block_on(wal.commit_async(seq)).map_err(|_| ()),
                                _ => wal.commit(seq).map_err(|_| ()),
                            });
                            if answer.is_err() {
                                failures.fetch_add(1, Ordering::Relaxed);
                                return;
                            }
                        }
                    });
                }
            });
            assert_eq!(failures.into_inner(), 8);
            let trouble = wal.trouble().unwrap().to_string();
            assert!(trouble.contains(".wal: write failed: ") && trouble.contains("at offset"), "{trouble}");
            assert!(wal.close().is_err());
        }
    }
}

#[test]
fn d_19_a_log_in_memory_says_that_nothing_is_durable() {
    let sim = Sim::new(1);
    sim.mount_memory(Path::new("/shm")).unwrap();
    let (wal, _) = Wal::open(&sim, "/shm/log", &options(Threads::Callers)).unwrap();
    wal.commit(wal.append(b"frame").unwrap()).unwrap();
    assert_eq!((wal.medium(), wal.mode().durable), (Medium::Memory, false));
    let (wal, _) = Wal::open(&sim, "/log", &options(Threads::Callers)).unwrap();
    assert_eq!((wal.medium(), wal.mode().durable), (Medium::Disk, true));
}

#[test]
fn a_log_that_is_not_asked_syncs_nothing() {
    let sim = Sim::new(1);
    let options = Options { sync: SyncPolicy::OnCommit, ..options(Threads::Callers) };
    let (wal, _) = open(&sim, &options);
    let before = sim.syncs();
    for seq in 1..=300 {
        wal.append(&payload(seq)).unwrap();
    }
    assert!(wal.stats().batches > 0 && wal.written() > 0, "{:?}", wal.stats());
    assert_eq!((sim.syncs(), wal.durable()), (before, 0));
    wal.commit(300).unwrap();
    assert!(sim.syncs() > before);
    wal.close().unwrap();
}

/// A batch of frames that all buffers together do not hold, while nobody commits, and no call ends a write.
#[test]
fn a_batch_longer_than_the_memory_makes_its_own_room() {
    for way in WAYS {
        for threads in [Threads::Callers, Threads::Own] {
            let options = Options { way, depth: 2, ..options(threads) };
            let (wal, _) = open(&Sim::new(1), &options);
            let payloads = vec![&[7u8; 1000][..]; 200];
            assert_eq!(wal.append_batch(&payloads), Ok(1..201));
            wal.commit(200).unwrap();
            wal.close().unwrap();
        }
    }
}

/// A segment is asked for and nobody is left to make it; the log goes all the same.
#[test]
fn a_log_that_is_dropped_while_it_rolls_ends() {
    for seed in 0..40 {
        let sim = Sim::new(seed);
        let options = Options { segment_len: 64 << 10, ..options(Threads::Own) };
        let (wal, _) = open(&sim, &options);
        let told = Arc::new(AtomicU64::new(0));
        for _ in 0..100 + seed {
            let seq = wal.append(&[7; 1500]).unwrap();
            let told = told.clone();
            wal.on_commit(seq, move |_| _ = told.fetch_add(1, Ordering::Relaxed)).unwrap();
        }
        drop(wal);
        assert_eq!(told.load(Ordering::Relaxed), 100 + seed, "each is told something");
    }
}

#[test]
fn a_callback_that_panics_takes_nobody_with_it() {
    for threads in [Threads::Own, Threads::Callers] {
        let (wal, _) = open(&Sim::new(1), &options(threads));
        let told = Arc::new(AtomicU64::new(0));
        for n in 0..20 {
            let seq = wal.append(b"frame").unwrap();
            let told = told.clone();
            wal.on_commit(seq, move |_| {
                assert_ne!(n % 5, 0, "planted: this panic is part of the test");
                told.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
        }
        wal.commit(20).unwrap();
        wal.commit(wal.append(b"more").unwrap()).unwrap();
        wal.close().unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 16);
    }
}
