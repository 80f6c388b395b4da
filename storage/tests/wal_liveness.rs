//! Nobody who commits is forgotten: sleepers that look again by themselves after a while would hide it, so here none does.
//!
//! Committers on every way and with every kind of threads; a wake-up that is lost ends in silence, which a watch notices. Its
//! twin loses one on purpose.

#![cfg(all(feature = "planted", target_os = "linux"))]

use chronicle_platform::WalWay;
use chronicle_platform_linux::Linux;
use chronicle_storage::wal::{Options, Planted, Threads, Wal};
use std::{
    path::Path,
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};

const COMMITTERS: u64 = 12;

/// Lets committers go on until each has had `rounds` answers; whether all of them had, before nothing was heard of anybody
/// for that long.
fn all_are_answered(dir: &Path, options: &Options, rounds: u64, patience: Duration) -> bool {
    let (wal, _) = Wal::open(&Linux, dir, options).unwrap();
    let wal = Arc::new(wal);
    let all = Arc::new(Barrier::new(COMMITTERS as usize));
    let (heard, answers) = mpsc::channel();
    for committer in 0..COMMITTERS {
        let (wal, heard, all) = (Arc::clone(&wal), heard.clone(), Arc::clone(&all));
        thread::spawn(move || {
            // Some come together, some behind each other, some skip a turn.
            let mut state = committer + 1;
            for _ in 0..rounds {
                // Nobody comes again before all have their answer: whoever comes would help those who were forgotten.
                all.wait();
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                for _ in 0..state >> 61 {
                    thread::yield_now();
                }
                // A few fill a batch, so that those who wait together are answered by several.
                let seq = wal.append(&[committer as u8; 2600][..(state >> 52) as usize % 2600]).unwrap();
                wal.commit(seq).unwrap();
                if heard.send(()).is_err() {
                    return;
                }
            }
        });
    }
    drop(heard);
    // Those that hang are left behind, and the log with them.
    (0..COMMITTERS * rounds).all(|_| answers.recv_timeout(patience).is_ok())
}

fn options(way: WalWay, threads: Threads, planted: Planted) -> Options {
    let planted = Planted { sleeps_unbounded: true, ..planted };
    Options { segment_len: 256 << 10, batch_len: 8 << 10, way, threads, planted, ..Options::default() }
}

#[test]
fn whoever_sleeps_is_woken() {
    for way in [WalWay::Direct, WalWay::Buffered, WalWay::Uring] {
        for threads in [Threads::Own, Threads::Callers] {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let options = options(way, threads, Planted::default());
            assert!(
                all_are_answered(dir.path(), &options, 200, Duration::from_secs(60)),
                "{way}, {threads:?}: somebody was not woken"
            );
        }
    }
}

#[test]
fn a_lead_that_is_swallowed_is_noticed() {
    let swallows = Planted { swallows_lead: true, ..Planted::default() };
    for _ in 0..50 {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = options(WalWay::Direct, Threads::Callers, swallows);
        if !all_are_answered(dir.path(), &options, 200, Duration::from_secs(5)) {
            return;
        }
    }
    panic!("a lead was swallowed 50 times over, and nobody was missed");
}
