//! A log goes from segment to segment without losing a frame, uses files again, and says in time when the disk is full.

use chronicle_platform::{
    Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::wal::{AppendError, Options, Threads, Wal, WalReader};
use std::path::Path;

const DIR: &str = "/log";

/// Segments of a few batches.
fn tiny(depth: u8, threads: Threads) -> Options {
    Options {
        segment_len: 8 << 10,
        batch_len: 2 << 10,
        block_size: 512,
        depth,
        carry_len: 256,
        spares: 2,
        threads,
        ..Options::default()
    }
}

fn payload(seq: u64) -> Vec<u8> {
    seq.to_le_bytes().repeat(1 + (seq % 40) as usize)
}

fn check<P: Platform>(platform: &P, dir: &Path, from: u64) -> u64 {
    let mut reader = WalReader::open(platform, dir, from, Default::default()).unwrap();
    let mut next = from;
    while let Some(record) = reader.next().unwrap() {
        assert_eq!((record.seq, record.payload), (next, &payload(next)[..]));
        next += 1;
    }
    next - 1
}

fn segments<P: Platform>(platform: &P, dir: &Path) -> usize {
    platform.list(dir).unwrap().iter().filter(|entry| entry.name.ends_with(".wal")).count()
}

fn until(done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "nothing came of it");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn rolls<P: Platform>(platform: &P, dir: &Path, options: &Options) {
    let (wal, _) = Wal::open(platform, dir, options).unwrap();
    for seq in 1..=300 {
        assert_eq!(wal.append(&payload(seq)), Ok(seq));
        if seq % 11 == 0 {
            wal.commit(seq).unwrap();
        }
    }
    wal.commit(300).unwrap();
    let stats = wal.stats();
    assert!(stats.rolls > 5, "{stats:?}");
    assert_eq!(check(platform, dir, 1), 300);
    let before = segments(platform, dir);
    // Behind a checkpoint the files are used again.
    wal.truncate_before(250);
    for seq in 301..=700 {
        assert_eq!(wal.append(&payload(seq)), Ok(seq));
        if seq % 11 == 0 {
            wal.commit(seq).unwrap();
            wal.truncate_before(seq - 20);
        }
    }
    wal.commit(700).unwrap();
    let stats = wal.stats();
    assert!(stats.retired > 10 && stats.recycled > 5, "{stats:?}");
    // What nobody needs goes in the background.
    let oldest = || WalReader::open(platform, dir, 0, Default::default()).map_or(0, |reader| reader.next_seq());
    until(|| segments(platform, dir) < before && oldest() > 600);
    wal.close().unwrap();
    let (wal, recovery) = Wal::open(platform, dir, options).unwrap();
    assert_eq!((recovery.last_seq(), recovery.clean), (Some(700), true), "{recovery}");
    assert!(recovery.first_seq > 600 && recovery.first_seq <= 680, "{recovery}");
    assert_eq!(check(platform, dir, recovery.first_seq), 700);
    drop(wal);
}

#[test]
fn a_log_rolls_and_recycles_at_every_depth_on_the_simulator() {
    for depth in 1..=8 {
        for threads in [Threads::Callers, Threads::Own] {
            rolls(&Sim::new(depth.into()), Path::new(DIR), &tiny(depth, threads));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_rolls_and_recycles_on_real_files() {
    for depth in [1, 4, 8] {
        for threads in [Threads::Callers, Threads::Own] {
            let dir = tempfile::tempdir().unwrap();
            let options =
                Options { segment_len: 64 << 10, batch_len: 8 << 10, block_size: 4096, ..tiny(depth, threads) };
            let (wal, _) = Wal::open(&chronicle_platform_linux::Linux, dir.path(), &options).unwrap();
            for seq in 1..=2000 {
                assert_eq!(wal.append(&payload(seq)), Ok(seq));
                if seq % 50 == 0 {
                    wal.commit(seq).unwrap();
                    wal.truncate_before(seq - 40);
                }
            }
            let stats = wal.stats();
            assert!(stats.rolls > 5 && stats.retired > 3, "{stats:?}");
            wal.close().unwrap();
        }
    }
}

#[test]
fn a_window_of_bytes_is_kept() {
    let sim = Sim::new(1);
    let options = Options { retain_bytes: Some(4 * (8 << 10)), ..tiny(2, Threads::Callers) };
    let (wal, _) = Wal::open(&sim, DIR, &options).unwrap();
    for seq in 1..=500 {
        wal.append(&payload(seq)).unwrap();
        wal.commit(seq).unwrap();
    }
    assert!(segments(&sim, Path::new(DIR)) <= 5);
    wal.close().unwrap();
    let (_, recovery) = Wal::open(&sim, DIR, &options).unwrap();
    assert!(recovery.first_seq > 300 && recovery.last_seq() == Some(500), "{recovery}");
}

/// Whatever is acknowledged while segments begin, end and are used again is there after a crash in any operation.
fn crashes(seeds: std::ops::Range<u64>, truncates: bool) {
    let options = tiny(3, Threads::Callers);
    let work = |sim: &Sim| {
        let (mut acknowledged, mut kept) = (0, 1);
        let Ok((wal, _)) = Wal::open(sim, DIR, &options) else { return (0, 1) };
        for seq in 1..=60 {
            if wal.append(&payload(seq)).is_err() {
                break;
            }
            if seq % 4 == 0 {
                if wal.commit(seq).is_err() {
                    break;
                }
                acknowledged = seq;
                if truncates && seq > 20 {
                    kept = seq - 8;
                    wal.truncate_before(kept);
                }
            }
        }
        (acknowledged, kept)
    };
    for seed in seeds {
        let whole = Sim::new(seed);
        assert_eq!(work(&whole).0, 60);
        for k in 1..=whole.operations() {
            let sim = Sim::new(seed);
            sim.crash_at(k);
            let (acknowledged, kept) = work(&sim);
            let next = sim.crash();
            let opened = Wal::open(&next, DIR, &options);
            let (wal, recovery) = opened.unwrap_or_else(|error| panic!("seed {seed}, operation {k}: {error}"));
            assert!(recovery.next_seq > acknowledged, "seed {seed}, operation {k}: {acknowledged} lost: {recovery}");
            assert!(recovery.first_seq <= kept, "seed {seed}, operation {k}: {kept} was to be kept: {recovery}");
            // It goes on.
            let seq = wal.append(&payload(recovery.next_seq)).unwrap();
            wal.commit(seq).unwrap();
            assert_eq!(check(&next, Path::new(DIR), recovery.first_seq), seq, "seed {seed}, operation {k}");
        }
    }
}

#[test]
fn d_7_d_8_a_segment_is_found_by_its_name_when_frames_in_it_are_acknowledged() {
    crashes(0..2, false);
}

#[test]
fn d_9_only_what_nobody_needs_is_used_again() {
    crashes(2..4, true);
}

#[test]
fn d_11_a_full_disk_is_told_before_anything_is_gathered_that_could_not_be_written() {
    for threads in [Threads::Callers, Threads::Own] {
        let sim = Sim::new(1);
        let options = tiny(2, threads);
        let (wal, _) = Wal::open(&sim, DIR, &options).unwrap();
        wal.maintain().unwrap();
        let full = Faults { disk_bytes: 40 << 10, ..Faults::default() };
        sim.faults(full.clone());
        let mut seq = 0;
        let refused = loop {
            match wal.append(&payload(seq + 1)) {
                Ok(next) => seq = next,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AppendError::NoSpace);
        let trouble = wal.trouble().unwrap().to_string();
        assert!(trouble.contains("spare-") && trouble.contains("allocate"), "{trouble}");
        // All that was taken can be written.
        wal.commit(seq).unwrap();
        assert_eq!(wal.append(&payload(seq + 1)), Err(AppendError::NoSpace));
        assert_eq!(wal.durable(), seq);
        // It clears: by space that comes back, or by what is retired.
        if threads == Threads::Callers {
            sim.faults(Faults::default());
        } else {
            wal.truncate_before(seq);
        }
        let appended = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            wal.append(&payload(seq + 1)).ok()
        });
        assert_eq!(appended, Some(seq + 1));
        wal.commit(seq + 1).unwrap();
        wal.close().unwrap();
        let (_, recovery) = Wal::open(&sim, DIR, &options).unwrap();
        assert_eq!(recovery.last_seq(), Some(seq + 1));
    }
}

/// A segment that could not be retired stays the log's oldest: a newer one that went before it would leave a gap, and a log
/// that nobody opens.
#[test]
fn whatever_fails_while_segments_are_retired_the_log_opens_again() {
    let options = tiny(2, Threads::Callers);
    let work = |sim: &Sim| {
        let Ok((wal, _)) = Wal::open(sim, DIR, &options) else { return 0 };
        let mut acknowledged = 0;
        for seq in 1..=150 {
            if wal.append(&payload(seq)).is_err() || seq % 5 == 0 && wal.commit(seq).is_err() {
                break;
            }
            if seq % 5 == 0 {
                acknowledged = seq;
                wal.truncate_before(seq.saturating_sub(10));
            }
        }
        acknowledged
    };
    let whole = Sim::new(1);
    assert_eq!(work(&whole), 150);
    for k in 1..=whole.operations() {
        let sim = Sim::new(1);
        sim.faults(Faults { failing_operation: Some(k), ..Faults::default() });
        let acknowledged = work(&sim);
        sim.faults(Faults::default());
        let check = |sim: &Sim| {
            let opened = Wal::open(sim, DIR, &options);
            let (_, recovery) = opened.unwrap_or_else(|error| panic!("operation {k}: {error}"));
            assert!(recovery.next_seq > acknowledged, "operation {k}: {acknowledged} lost: {recovery}");
        };
        check(&sim);
        check(&sim.crash());
    }
}

/// Of many segments that nobody needs all go, though the log is idle.
#[test]
fn a_truncation_over_several_segments_retires_them_all() {
    for threads in [Threads::Callers, Threads::Own] {
        let sim = Sim::new(1);
        let options = tiny(2, threads);
        let (wal, _) = Wal::open(&sim, DIR, &options).unwrap();
        for seq in 1..=300 {
            wal.append(&payload(seq)).unwrap();
        }
        wal.commit(300).unwrap();
        assert!(segments(&sim, Path::new(DIR)) > 4);
        wal.truncate_before(300);
        let left = (0..200).find_map(|_| {
            let left = segments(&sim, Path::new(DIR));
            if left > 2 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            (left <= 2).then_some(left)
        });
        assert!(left.is_some(), "{threads:?}: {} segments are left", segments(&sim, Path::new(DIR)));
        wal.close().unwrap();
    }
}

/// A log that nobody commits to grows through more segments than a ring has places for, and keeps its window.
#[test]
fn a_segment_that_has_ended_becomes_durable_though_nobody_asks() {
    use chronicle_storage::wal::SyncPolicy;
    fn fills<P: Platform>(platform: &P, dir: &Path, options: &Options) {
        let (wal, _) = Wal::open(platform, dir, options).unwrap();
        let mut seq = 0;
        while wal.stats().rolls < 40 {
            seq += 1;
            wal.append(&payload(seq)).unwrap_or_else(|error| panic!("frame {seq}: {error}: {:?}", wal.trouble()));
        }
        assert!(wal.durable() > 0, "{:?}", wal.stats());
        wal.commit(seq).unwrap();
        let began = std::time::Instant::now();
        while segments(platform, dir) > 6 {
            assert!(began.elapsed().as_secs() < 10, "{options:?}: {:?}, {:?}", wal.stats(), wal.trouble());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(wal.stats().retired > 30, "{:?}", wal.stats());
        wal.close().unwrap();
    }
    for threads in [Threads::Callers, Threads::Own] {
        for way in [chronicle_platform::WalWay::Uring, chronicle_platform::WalWay::Direct] {
            let options = Options {
                sync: SyncPolicy::OnCommit,
                way,
                segment_len: 32 << 10,
                retain_bytes: Some(128 << 10),
                ..tiny(2, threads)
            };
            fills(&Sim::new(1), Path::new(DIR), &options);
            #[cfg(target_os = "linux")]
            {
                let dir = tempfile::tempdir().unwrap();
                let options = Options {
                    block_size: 4096,
                    batch_len: 8 << 10,
                    segment_len: 128 << 10,
                    retain_bytes: Some(512 << 10),
                    ..options
                };
                fills(&chronicle_platform_linux::Linux, dir.path(), &options);
            }
        }
    }
}
