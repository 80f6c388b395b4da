//! What is appended gets its number, and is there when the log is opened again: closed in order or not, on every way to the
//! device, on a machine and on the simulator.

use chronicle_core::wal::Kind;
use chronicle_platform::{Platform, WalWay, sim::Sim};
use chronicle_storage::wal::{AppendError, CommitError, Options, SyncPolicy, Threads, Wal};
use std::path::Path;

/// Small segments; every step is the test's.
fn small(threads: Threads) -> Options {
    Options { segment_len: 256 << 10, batch_len: 8 << 10, depth: 2, carry_len: 512, threads, ..Options::default() }
}

fn goes_on<P: Platform>(platform: &P, dir: &Path, options: &Options) {
    let (wal, recovery) = Wal::open(platform, dir, options).unwrap();
    assert_eq!((recovery.last_seq(), recovery.clean), (None, true));
    assert_eq!(wal.commit(1), Err(CommitError::NotAppended { seq: 1, next: 1 }));
    for n in 1..=100u64 {
        assert_eq!(wal.append(&n.to_le_bytes().repeat(1 + n as usize % 20)), Ok(n));
        if n % 7 == 0 {
            wal.commit(n).unwrap();
            assert!(wal.durable() >= n);
        }
    }
    wal.append_control(Kind::Vote, b"me").unwrap();
    wal.commit_all().unwrap();
    assert_eq!(wal.durable(), 100);
    assert_eq!(wal.append_batch(&[b"a", b"b", b"c"]), Ok(101..104));
    let stats = wal.stats();
    assert_eq!(stats.appends, 104);
    wal.close().unwrap();

    // Closed in order: it goes on in the same segment.
    let (wal, recovery) = Wal::open(platform, dir, options).unwrap();
    assert_eq!((recovery.last_seq(), recovery.clean, recovery.segments), (Some(103), true, 1), "{recovery}");
    let here = wal.durable_position().segment;
    assert_eq!(wal.append(b"again"), Ok(104));
    wal.commit(104).unwrap();
    assert_eq!(wal.durable_position().segment, here);
    drop(wal);

    // Not closed: another segment, the same frames.
    let (wal, recovery) = Wal::open(platform, dir, options).unwrap();
    assert_eq!((recovery.last_seq(), recovery.clean), (Some(104), false), "{recovery}");
    assert!(wal.durable_position().segment > here);
    assert_eq!(wal.durable(), 104);
    assert_eq!(wal.append(b"and again"), Ok(105));
    wal.commit(105).unwrap();
    wal.close().unwrap();
    let (wal, recovery) = Wal::open(platform, dir, options).unwrap();
    assert_eq!((recovery.last_seq(), recovery.clean), (Some(105), true), "{recovery}");
    wal.close().unwrap();
}

#[test]
fn a_log_goes_on_on_the_simulator() {
    for seed in 0..20 {
        for threads in [Threads::Callers, Threads::One, Threads::Own] {
            goes_on(&Sim::new(seed), Path::new("/log"), &small(threads));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_goes_on_on_every_way_to_the_device() {
    for way in [WalWay::Auto, WalWay::Uring, WalWay::Direct, WalWay::Buffered] {
        for sync in [SyncPolicy::Auto, SyncPolicy::OnCommit, SyncPolicy::EachBatch] {
            for threads in [Threads::Own, Threads::Callers, Threads::One] {
                let dir = tempfile::tempdir().unwrap();
                let options = Options { way, sync, ..small(threads) };
                goes_on(&chronicle_platform_linux::Linux, &dir.path().join("log"), &options);
            }
        }
    }
}

#[test]
fn what_cannot_be_a_frame_is_refused_and_leaves_the_log_as_it_was() {
    let options = small(Threads::Callers);
    let (wal, _) = Wal::open(&Sim::new(1), "/log", &options).unwrap();
    let max = options.batch_len as usize - 74;
    assert_eq!(wal.append(&vec![0; max + 1]), Err(AppendError::TooLarge { len: max + 1, max }));
    assert_eq!(wal.append_control(Kind::Data, b""), Err(AppendError::Control));
    assert_eq!(wal.append_control(Kind::Truncate, &9u64.to_le_bytes()), Err(AppendError::Control));
    let refused = wal.append_control(Kind::Vote, &[0; 600]);
    assert!(matches!(refused, Err(AppendError::CarryFull { room: 512, .. })), "{refused:?}");
    assert_eq!(wal.append(&vec![7; max]), Ok(1));
    wal.commit(1).unwrap();
}
