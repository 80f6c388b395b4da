//! A log has one writer, and a new one owes nothing to what a dead one still has on its way.

use chronicle_platform::{
    Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error,
    wal::{Options, Threads, Wal, WalReader},
};
use std::path::Path;

const DIR: &str = "/log";

fn options(threads: Threads) -> Options {
    Options {
        segment_len: 32 << 10,
        batch_len: 2 << 10,
        block_size: 512,
        depth: 8,
        carry_len: 256,
        threads,
        ..Options::default()
    }
}

fn payload(writer: u64, seq: u64) -> Vec<u8> {
    [writer.to_le_bytes(), seq.to_le_bytes()].concat().repeat(1 + (seq % 20) as usize)
}

/// Every record, as it is on the disk now.
fn records<P: Platform>(platform: &P, dir: &Path) -> Vec<Vec<u8>> {
    let mut reader = WalReader::open(platform, dir, 1, Default::default()).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        found.push(record.payload.to_vec());
    }
    found
}

#[test]
fn s_1_writes_of_a_dead_writer_that_land_late_change_nothing_that_was_accepted() {
    let mut late = 0;
    for seed in 0..300 {
        let sim = Sim::new(seed);
        // Nothing lands by itself: the test says when.
        sim.faults(Faults { late_one_in: 0, ..Faults::default() });
        let first = sim.start_process();
        let (wal, _) = Wal::open(&first, DIR, &options(Threads::Callers)).unwrap();
        let mut acknowledged = 0;
        for seq in 1..=60 {
            wal.append(&payload(1, seq)).unwrap();
            wal.on_commit(seq, |_| ()).unwrap();
            wal.drive();
            acknowledged = wal.durable();
        }
        // With writes in flight.
        first.kill();
        std::mem::forget(wal);
        late += sim.late_writes();

        let second = sim.start_process();
        let (wal, recovery) = Wal::open(&second, DIR, &options(Threads::Callers)).unwrap();
        let found = recovery.last_seq().unwrap_or(0);
        assert!(found >= acknowledged && !recovery.clean, "seed {seed}: {recovery}");
        let accepted = records(&second, Path::new(DIR));
        assert_eq!(accepted.len() as u64, found);
        // Now they land, between frames of the new writer.
        let mut all = accepted;
        for seq in found + 1..=found + 60 {
            wal.append(&payload(2, seq)).unwrap();
            wal.commit(seq).unwrap();
            all.push(payload(2, seq));
            sim.land();
        }
        while sim.land() {}
        assert_eq!(records(&second, Path::new(DIR)), all, "seed {seed}");
        // And a third one finds the same.
        second.kill();
        std::mem::forget(wal);
        let third = sim.start_process();
        let (_wal, recovery) = Wal::open(&third, DIR, &options(Threads::Callers)).unwrap();
        assert_eq!(recovery.last_seq(), Some(found + 60), "seed {seed}: {recovery}");
        assert_eq!(records(&third, Path::new(DIR)), all, "seed {seed}");
    }
    assert!(late > 300, "only {late} writes were on their way");
}

#[test]
fn d_21_of_two_that_open_a_log_one_is_told_that_it_is_taken() {
    let sim = Sim::new(1);
    let (first, second) = (sim.start_process(), sim.start_process());
    let (wal, _) = Wal::open(&first, DIR, &options(Threads::Callers)).unwrap();
    wal.commit(wal.append(b"frame").unwrap()).unwrap();
    let names = |sim: &Sim| sim.list(Path::new(DIR)).unwrap();
    let before = names(&sim);
    let refused = Wal::open(&second, DIR, &options(Threads::Callers));
    assert!(matches!(&refused, Err(Error::Locked { path }) if path.ends_with("writer.lock")), "{refused:?}");
    assert_eq!(names(&sim), before, "whoever has no lock changes nothing");
    wal.commit(wal.append(b"frame").unwrap()).unwrap();
    // Its holder dies: the lock goes with it.
    first.kill();
    std::mem::forget(wal);
    let (_wal, recovery) = Wal::open(&second, DIR, &options(Threads::Callers)).unwrap();
    assert_eq!(recovery.last_seq(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn d_21_two_that_race_for_a_log_on_real_files() {
    use chronicle_platform_linux::Linux;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block_size: 4096, batch_len: 8 << 10, segment_len: 64 << 10, ..options(Threads::Own) };
    for round in 1..=3u64 {
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || Wal::open(&Linux, dir.path(), &options);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 3));
        assert!(lost.iter().all(|lost| matches!(lost, Err(Error::Locked { .. }))));
        let (wal, recovery) = won.into_iter().next().unwrap().unwrap();
        assert_eq!(recovery.next_seq, round);
        wal.commit(wal.append(b"frame").unwrap()).unwrap();
    }
}

/// More than fits the next writer's segments was written and never synced: all of it is written again, and published at once.
#[test]
fn a_takeover_keeps_a_long_tail_that_was_never_synced() {
    use chronicle_storage::wal::SyncPolicy;
    let sim = Sim::new(1);
    let options = Options { sync: SyncPolicy::OnCommit, segment_len: 128 << 10, ..options(Threads::Callers) };
    let first = sim.start_process();
    let (wal, _) = Wal::open(&first, DIR, &options).unwrap();
    for seq in 1..=400 {
        wal.append(&payload(1, seq)).unwrap();
    }
    while wal.drive_waiting() {}
    let written = wal.written();
    assert!(written > 300 && wal.durable() == 0 && wal.stats().rolls == 0, "{:?}", wal.stats());
    first.kill();
    std::mem::forget(wal);
    while sim.land() {}
    let options = Options { segment_len: 8 << 10, ..options };
    let second = sim.start_process();
    let (wal, recovery) = Wal::open(&second, DIR, &options).unwrap();
    assert!(recovery.last_seq() >= Some(written), "{recovery}");
    assert_eq!(wal.durable(), recovery.last_seq().unwrap());
    drop(wal);
    let next = sim.crash();
    let (_wal, again) = Wal::open(&next, DIR, &options).unwrap();
    assert_eq!(again.last_seq(), recovery.last_seq());
    let all: Vec<_> = (1..=again.last_seq().unwrap()).map(|seq| payload(1, seq)).collect();
    assert_eq!(records(&next, Path::new(DIR)), all);
}

/// Frames of just over half a batch leave the other half empty: what is written again needs twice its length.
#[test]
fn a_takeover_has_room_for_frames_that_stand_alone_in_their_batches() {
    use chronicle_storage::wal::SyncPolicy;
    let sim = Sim::new(1);
    let options = Options {
        sync: SyncPolicy::OnCommit,
        segment_len: 512 << 10,
        block_size: 512,
        batch_len: 512,
        depth: 2,
        ..options(Threads::Callers)
    };
    let options = Options { carry_len: 64, ..options };
    let first = sim.start_process();
    let (wal, _) = Wal::open(&first, DIR, &options).unwrap();
    // One in a batch: 57 + 17 + 220, and another does not fit.
    for seq in 1..=900u64 {
        wal.append(&[seq as u8; 220]).unwrap();
    }
    while wal.drive_waiting() {}
    let written = wal.written();
    assert!(written > 800 && wal.durable() == 0, "{:?}", wal.stats());
    first.kill();
    std::mem::forget(wal);
    while sim.land() {}
    // Segments of the next writer are short: it makes this one as long as it must be.
    let options = Options { segment_len: 8 << 10, ..options };
    let (wal, recovery) = Wal::open(&sim.start_process(), DIR, &options).unwrap();
    assert!(recovery.last_seq() >= Some(written), "{recovery}");
    wal.commit(wal.append(b"more").unwrap()).unwrap();
    wal.close().unwrap();
}
