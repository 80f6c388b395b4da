//! The simulator's driver of write-ahead logs: what it must never do, and what it must sometimes do.
//!
//! A log that survives here is believed to survive on devices. So what this driver promises (a write that carries its sync
//! is durable when it is told) is shown for many seeds, and what it may do to those who rely on more (outcomes out of order,
//! writes cut short, failed and late ones) is shown to happen.

use chronicle_core::{
    RegionMut,
    wal::{Op, OpId, Outcome, SyncBy},
};
use chronicle_platform::{
    File, MemoryOptions, Open, Platform, TroubleKind, WalDriver, WalOptions, WalWay,
    sim::{Faults, Sim, SimFile, SimMapMut, SimWal},
};
use std::{collections::BTreeSet, path::Path, sync::Arc};

const SEEDS: std::ops::Range<u64> = 0..200;
const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const SEGMENT: u64 = 8 * BLOCK as u64;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// Nothing is written back before a sync, unless a test says so.
fn calm() -> Faults {
    Faults { write_back_one_in: 0, ..Faults::default() }
}

/// A log of one segment, `/1.wal`, whose every byte was written.
struct Log {
    memory: Arc<SimMapMut>,
    driver: SimWal,
    file: SimFile,
}

impl Log {
    fn new(sim: &Sim, way: WalWay) -> Log {
        let lock = sim.open(path("/writer.lock"), Open::EnsurePrivate).unwrap();
        let file = sim.open(path("/1.wal"), Open::Create).unwrap();
        file.allocate(SEGMENT).unwrap();
        file.fill(0, SEGMENT).unwrap();
        file.sync().unwrap();
        sim.sync_dir(path("/")).unwrap();
        let memory = Arc::new(sim.memory(8 * BLOCK, &MemoryOptions::default()).unwrap().map);
        let driver = sim.wal(memory.clone(), &lock, &WalOptions { way, ..WalOptions::default() }).unwrap();
        driver.attach(1, path("/1.wal")).unwrap();
        Log { memory, driver, file }
    }

    /// Hands in a write of a block full of `block + 1`; its number is the block's.
    fn write(&self, block: u32, sync: bool) {
        self.write_blocks(block, 1, sync);
    }

    fn write_blocks(&self, block: u32, count: u32, sync: bool) {
        let at = block as usize * BLOCK;
        let bytes = vec![block as u8 + 1; count as usize * BLOCK];
        self.memory.window_mut().copy_in(at, &bytes);
        let (op, len) = (OpId::from_number(block), bytes.len() as u32);
        self.driver.submit(&Op::Write { op, segment: 1, offset: at as u64, from: at, len, sync }).unwrap();
    }

    fn sync(&self) {
        self.driver.submit(&Op::Sync { op: OpId::from_number(99), segment: 1 }).unwrap();
    }

    /// The outcomes of one look.
    fn reap(&self) -> Vec<(u32, Outcome)> {
        let mut ended = Vec::new();
        self.driver.reap(true, &mut |op, outcome| ended.push((op.number(), outcome))).unwrap();
        ended
    }

    /// All that is in flight.
    fn finish(&self) -> Vec<(u32, Outcome)> {
        let mut all = Vec::new();
        loop {
            match self.reap() {
                ended if ended.is_empty() => return all,
                ended => all.extend(ended),
            }
        }
    }
}

/// The segment's bytes.
fn found(sim: &Sim) -> Vec<u8> {
    let file = sim.open(path("/1.wal"), Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn block(bytes: &[u8], block: u32) -> &[u8] {
    &bytes[block as usize * BLOCK..][..BLOCK]
}

fn outcomes<T: Ord>(story: impl Fn(u64) -> T) -> BTreeSet<T> {
    SEEDS.map(story).collect()
}

const DONE: Outcome = Outcome::Done(BLOCK as u32);

#[test]
fn d_1_a_write_that_carries_its_sync_is_durable_when_its_outcome_is_told_and_not_before() {
    for way in [WalWay::Uring, WalWay::Direct] {
        let mut lost = 0;
        for seed in SEEDS {
            let sim = Sim::new(seed);
            let log = Log::new(&sim, way);
            (0..4).for_each(|at| log.write(at, true));
            let told: Vec<u32> = log.reap().into_iter().map(|(op, _)| op).collect();
            let after = found(&sim.crash());
            for at in 0..4 {
                let whole = block(&after, at).iter().all(|byte| *byte == at as u8 + 1);
                assert!(whole || !told.contains(&at), "{way}, seed {seed}: {told:?} were told, {at} is gone");
                lost += u32::from(!whole);
            }
        }
        assert_eq!(lost > 0, way == WalWay::Uring, "{way}: what is on its way is lost now and then");
    }
}

#[test]
fn d_1_a_write_of_its_own_is_durable_by_a_sync_that_was_submitted_after_its_outcome() {
    let story = |sync: bool| {
        move |seed| {
            let sim = Sim::new(seed);
            let log = Log::new(&sim, WalWay::Buffered);
            assert_eq!(log.driver.mode().sync, SyncBy::Op);
            log.write(0, false);
            assert_eq!(log.finish(), [(0, DONE)]);
            if sync {
                log.sync();
                assert_eq!(log.finish(), [(99, Outcome::Done(0))]);
            }
            block(&found(&sim.crash()), 0) == [1; BLOCK]
        }
    };
    assert_eq!(outcomes(story(true)), [true].into());
    assert_eq!(outcomes(story(false)), [false, true].into(), "an acknowledgement here would be one before its sync");
}

#[test]
fn d_2_a_failed_sync_is_told_for_every_write_and_sync_that_may_fail() {
    for (way, failing) in [(WalWay::Uring, 1..=4), (WalWay::Direct, 1..=4), (WalWay::Buffered, 1..=1)] {
        for seed in SEEDS.step_by(10) {
            for k in failing.clone() {
                let sim = Sim::new(seed);
                let log = Log::new(&sim, way);
                sim.faults(Faults { failing_sync: Some(sim.syncs() + k), ..calm() });
                (0..4).for_each(|at| log.write(at, way != WalWay::Buffered));
                let mut all = log.finish();
                if way == WalWay::Buffered {
                    log.sync();
                    all.extend(log.finish());
                }
                let failed = all.iter().filter(|(_, outcome)| *outcome == Outcome::Failed(EIO)).count();
                assert_eq!(failed, 1, "{way}, sync {k}: {all:?}");
            }
        }
    }
}

#[test]
fn d_3_after_a_failed_sync_reads_return_new_bytes_until_the_power_goes_and_old_ones_after() {
    for way in [WalWay::Uring, WalWay::Direct, WalWay::Buffered] {
        let story = |seed| {
            let sim = Sim::new(seed);
            let log = Log::new(&sim, way);
            sim.faults(Faults { failing_sync: Some(sim.syncs() + 1), ..calm() });
            log.write(0, way != WalWay::Buffered);
            if way == WalWay::Buffered {
                log.finish();
                log.sync();
            }
            let failed = log.finish();
            assert!(matches!(failed[..], [(_, Outcome::Failed(EIO))]), "{way}: {failed:?}");
            assert_eq!(block(&found(&sim), 0), [1; BLOCK], "{way}: the cache tells what the device may not have");
            // A sync that succeeds later saves nothing that the failed one dropped.
            sim.open(path("/1.wal"), Open::Write).unwrap().sync().unwrap();
            assert_eq!(block(&found(&sim), 0), [1; BLOCK]);
            block(&found(&sim.crash()), 0) == [1; BLOCK]
        };
        assert_eq!(outcomes(story), [false, true].into(), "{way}");
    }
}

#[test]
fn d_4_a_write_ends_short_at_every_length_and_what_it_told_is_there() {
    for way in [WalWay::Uring, WalWay::Direct, WalWay::Buffered] {
        for len in (0..BLOCK as u32).step_by(37).chain([1, 511, 512, 513, 4095]) {
            let sim = Sim::new(u64::from(len));
            let log = Log::new(&sim, way);
            sim.faults(Faults { short_write: Some((sim.writes() + 1, len)), ..calm() });
            log.write(0, true);
            assert_eq!(log.finish(), [(0, Outcome::Done(len))]);
            let bytes = found(&sim);
            assert!(
                bytes[..len as usize].iter().all(|byte| *byte == 1) && bytes[len as usize..].iter().all(|b| *b == 0)
            );
            log.write(0, true);
            assert_eq!(log.finish(), [(0, DONE)], "the next one is not cut short");
            assert_eq!(block(&found(&sim.crash()), 0), [1; BLOCK]);
        }
    }
    let lens = outcomes(|seed| {
        let sim = Sim::new(seed);
        let log = Log::new(&sim, WalWay::Uring);
        sim.faults(Faults { write_is_short_one_in: 2, ..calm() });
        log.write(0, true);
        let [(0, Outcome::Done(len))] = log.finish()[..] else { panic!("one write") };
        len
    });
    assert!(lens.len() > 50 && lens.contains(&(BLOCK as u32)) && !lens.contains(&0));
}

#[test]
fn d_4_a_write_fails_with_any_errno_and_nobody_knows_what_of_it_is_there() {
    for errno in [EIO, ENOSPC] {
        let kept = outcomes(|seed| {
            let sim = Sim::new(seed);
            let log = Log::new(&sim, WalWay::Uring);
            sim.faults(Faults { failing_write: Some((2, errno)), ..calm() });
            (0..3).for_each(|at| log.write(at, true));
            let all = log.finish();
            let failed: Vec<u32> =
                all.iter().filter(|(_, outcome)| *outcome == Outcome::Failed(errno)).map(|(op, _)| *op).collect();
            let [failed] = failed[..] else { panic!("one fails: {all:?}") };
            let after = found(&sim.crash());
            (0..3).filter(|at| *at != failed).for_each(|at| assert_eq!(block(&after, at), [at as u8 + 1; BLOCK]));
            block(&after, failed).iter().filter(|byte| **byte != 0).count().div_ceil(SECTOR)
        });
        assert!(kept.contains(&0) && kept.len() > 5, "{kept:?} sectors");
    }
    // A device that fails now and then.
    let failures = outcomes(|seed| {
        let sim = Sim::new(seed);
        let log = Log::new(&sim, WalWay::Uring);
        sim.faults(Faults { write_fails_one_in: 3, ..calm() });
        (0..4).for_each(|at| log.write(at, true));
        log.finish().iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(EIO))).count()
    });
    assert!(failures.len() >= 3, "{failures:?}");
}

#[test]
fn d_4_a_full_disk_cuts_a_write_short_and_then_refuses_it() {
    let sim = Sim::new(1);
    let log = Log::new(&sim, WalWay::Uring);
    let file = sim.open(path("/2.wal"), Open::Create).unwrap();
    file.set_len(SEGMENT).unwrap();
    log.driver.attach(2, path("/2.wal")).unwrap();
    sim.faults(Faults { disk_bytes: SEGMENT + BLOCK as u64, ..calm() });
    let write = |op, offset, len| {
        let op = OpId::from_number(op);
        log.driver.submit(&Op::Write { op, segment: 2, offset, from: 0, len, sync: true }).unwrap();
        log.finish()
    };
    assert_eq!(write(1, 0, 3 * BLOCK as u32), [(1, DONE)], "a sparse segment: what fitted");
    assert_eq!(write(2, BLOCK as u64, BLOCK as u32), [(2, Outcome::Failed(ENOSPC))]);
    log.write(0, true);
    assert_eq!(log.finish(), [(0, DONE)], "one that was written before needs no room");
}

#[test]
fn interrupted_writes_did_nothing_and_may_be_handed_in_again() {
    let mut again = 0;
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let log = Log::new(&sim, WalWay::Uring);
        sim.faults(Faults { interrupted_one_in: 2, ..calm() });
        log.write(0, true);
        let [(0, outcome)] = log.finish()[..] else { panic!("one write") };
        let done = outcome == DONE;
        assert!(done || outcome == Outcome::Again);
        assert_eq!(block(&found(&sim), 0), [u8::from(done); BLOCK]);
        again += u32::from(!done);
    }
    assert!((50..150).contains(&again));
}

#[test]
fn d_5_a_failure_is_told_once_to_each_descriptor_that_was_open_and_the_drivers_is_one_of_them() {
    let sim = Sim::new(5);
    sim.faults(calm());
    let log = Log::new(&sim, WalWay::Buffered);
    let elsewhere = sim.open(path("/1.wal"), Open::Write).unwrap();
    log.write(0, false);
    log.finish();
    sim.faults(Faults { failing_sync: Some(sim.syncs() + 1), ..calm() });
    assert_eq!(elsewhere.sync().unwrap_err().kind(), TroubleKind::Io, "somebody else's sync met the failure");
    let late = sim.open(path("/1.wal"), Open::Write).unwrap();
    late.sync().expect("opened after it was told: opening to sync would harvest nothing");
    log.sync();
    assert_eq!(log.finish(), [(99, Outcome::Failed(EIO))], "the driver's descriptor hears of it");
    log.sync();
    assert_eq!(log.finish(), [(99, Outcome::Done(0))], "once");
    assert_eq!(log.file.sync().unwrap_err().kind(), TroubleKind::Io, "and so does each of the others");
}

#[test]
fn d_6_outcomes_come_out_of_order_and_late() {
    let orders = outcomes(|seed| {
        let log = Log::new(&Sim::new(seed), WalWay::Uring);
        (0..4).for_each(|at| log.write(at, true));
        log.finish().into_iter().map(|(op, _)| op).collect::<Vec<_>>()
    });
    assert_eq!(orders.len(), 24, "every order of four");
    let counts = outcomes(|seed| {
        let log = Log::new(&Sim::new(seed), WalWay::Uring);
        (0..4).for_each(|at| log.write(at, true));
        log.driver.reap(false, &mut |_, _| {}).unwrap()
    });
    assert_eq!(counts, [0, 1, 2, 3, 4].into(), "who does not wait may get nothing yet");
    let in_order = outcomes(|seed| {
        let log = Log::new(&Sim::new(seed), WalWay::Direct);
        (0..4).for_each(|at| log.write(at, true));
        log.finish().into_iter().map(|(op, _)| op).collect::<Vec<_>>()
    });
    assert_eq!(in_order, [vec![0, 1, 2, 3]].into());
}

#[test]
fn d_6_a_sync_in_flight_beside_a_write_need_not_cover_it() {
    let covered = outcomes(|seed| {
        let sim = Sim::new(seed);
        sim.faults(calm());
        let log = Log::new(&sim, WalWay::Buffered);
        log.write(0, false);
        log.sync();
        assert_eq!(log.finish().len(), 2);
        block(&found(&sim.crash()), 0) == [1; BLOCK]
    });
    assert_eq!(covered, [false, true].into(), "both ended well, and the bytes may be gone");
}

#[test]
fn d_10_a_length_is_lost_without_a_sync_and_comes_with_a_write_that_carries_one() {
    let story = |sync: bool| {
        move |seed| {
            let sim = Sim::new(seed);
            let log = Log::new(&sim, WalWay::Uring);
            let file = sim.open(path("/2.wal"), Open::Create).unwrap();
            sim.sync_dir(path("/")).unwrap();
            file.allocate(SEGMENT).unwrap();
            log.driver.attach(2, path("/2.wal")).unwrap();
            let op = OpId::from_number(1);
            let offset = BLOCK as u64;
            log.driver.submit(&Op::Write { op, segment: 2, offset, from: 0, len: BLOCK as u32, sync }).unwrap();
            log.finish();
            sim.crash().open(path("/2.wal"), Open::Read).unwrap().len().unwrap()
        }
    };
    assert!(outcomes(story(false)).contains(&0));
    let least = *outcomes(story(true)).first().unwrap();
    assert!(least >= 2 * BLOCK as u64, "{least}: the bytes that were told are within the length");
    assert!(least < SEGMENT, "the rest of the length was not synced");
}

#[test]
fn d_13_a_write_on_its_way_is_torn_between_any_sectors() {
    let mut sectors = BTreeSet::new();
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let log = Log::new(&sim, WalWay::Uring);
        log.write(0, true);
        let after = found(&sim.crash());
        let kept: Vec<bool> = block(&after, 0)
            .chunks(SECTOR)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]) && sector[0] <= 1, "a sector is old or new");
                sector[0] == 1
            })
            .collect();
        sectors.insert(kept);
    }
    assert!(sectors.len() > 50, "{} ways of tearing", sectors.len());
}

#[test]
fn d_14_a_device_without_power_safe_overwrite_leaves_garbage_in_the_sectors_of_a_torn_write_and_in_no_other() {
    let mut garbage = 0;
    for seed in SEEDS {
        let sim = Sim::new(seed);
        sim.faults(Faults { garbage: true, ..calm() });
        let log = Log::new(&sim, WalWay::Uring);
        log.write(0, true);
        log.finish();
        log.write(1, true);
        let after = found(&sim.crash());
        assert_eq!(block(&after, 0), [1; BLOCK], "seed {seed}: an acknowledged block of its own");
        assert_eq!(block(&after, 2), [0; BLOCK]);
        garbage += u32::from(block(&after, 1).iter().any(|byte| *byte > 2));
    }
    assert!(garbage > 50);
}

#[test]
fn d_19_a_driver_says_that_nothing_is_durable_in_memory_or_on_a_disk_that_lies() {
    let mode = |sim: &Sim| {
        let lock = sim.open(path("/log/writer.lock"), Open::EnsurePrivate).unwrap();
        let memory = Arc::new(sim.memory(BLOCK, &MemoryOptions::default()).unwrap().map);
        sim.wal(memory, &lock, &WalOptions::default()).unwrap().mode().clone()
    };
    let disk = Sim::new(1);
    disk.create_dirs(path("/log")).unwrap();
    assert!(mode(&disk).durable);
    assert_eq!(mode(&disk).to_string(), "simulated, past the page cache, durable with each write");
    disk.faults(Faults { lying_sync: true, ..Faults::default() });
    assert!(!mode(&disk).durable);
    let memory = Sim::new(1);
    memory.mount_memory(path("/log")).unwrap();
    let mode = mode(&memory);
    assert!(!mode.durable);
    let told = "simulated, past the page cache, never durable (the log lies in memory, where nothing is durable)";
    assert_eq!(mode.to_string(), told);
}

#[test]
fn d_19_a_lying_disk_loses_what_it_acknowledged() {
    let kept = outcomes(|seed| {
        let sim = Sim::new(seed);
        let log = Log::new(&sim, WalWay::Uring);
        sim.faults(Faults { lying_sync: true, ..calm() });
        log.write(0, true);
        assert_eq!(log.finish(), [(0, DONE)]);
        block(&found(&sim.crash()), 0) == [1; BLOCK]
    });
    assert!(kept.contains(&false));
}

#[test]
fn s_1_writes_of_a_dead_process_land_after_a_successor_has_opened_the_file() {
    let mut by_chance = BTreeSet::new();
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let writer = sim.start_process();
        let log = Log::new(&writer, WalWay::Uring);
        sim.faults(Faults { late_one_in: 0, ..calm() });
        (0..4).for_each(|at| log.write(at, true));
        writer.kill();
        log.driver.reap(true, &mut |op, _| panic!("{op:?} ended in a dead process")).unwrap_err();
        log.driver.submit(&Op::Sync { op: OpId::from_number(9), segment: 1 }).unwrap_err();
        // Its memory may be anybody's by now.
        log.memory.window_mut().zero(0, 8 * BLOCK);
        drop(log);
        assert_eq!((sim.late_writes(), found(&sim).iter().any(|byte| *byte != 0)), (4, false));
        let successor = sim.open(path("/1.wal"), Open::Write).unwrap();
        successor.write_at(&[9; BLOCK], 0).unwrap();
        successor.sync().unwrap();
        let mut landed = 0;
        while sim.land() {
            landed += 1;
        }
        assert_eq!((landed, sim.late_writes()), (4, 0));
        let bytes = found(&sim);
        (0..4).for_each(|at| assert_eq!(block(&bytes, at), [at as u8 + 1; BLOCK], "over the successor's bytes"));
        assert_eq!(found(&sim.crash()), bytes, "and for good");
    }
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let writer = sim.start_process();
        let log = Log::new(&writer, WalWay::Uring);
        (0..4).for_each(|at| log.write(at, true));
        writer.kill();
        (0..8).for_each(|_| sim.tick());
        by_chance.insert(sim.late_writes());
        assert_eq!(block(&found(&sim.crash()), 7), [0; BLOCK]);
    }
    assert!(by_chance.len() > 3, "they land when they like: {by_chance:?}");
}

#[test]
fn s_1_a_write_that_lands_late_keeps_its_file_whatever_became_of_its_name() {
    let sim = Sim::new(3);
    sim.faults(Faults { late_one_in: 0, ..calm() });
    let writer = sim.start_process();
    let log = Log::new(&writer, WalWay::Uring);
    log.write(0, true);
    writer.kill();
    drop(log);
    sim.rename(path("/1.wal"), path("/spare")).unwrap();
    sim.sync_dir(path("/")).unwrap();
    let other = sim.open(path("/1.wal"), Open::Create).unwrap();
    other.allocate(SEGMENT).unwrap();
    other.sync().unwrap();
    assert!(sim.land());
    assert_eq!(block(&found(&sim), 0), [0; BLOCK], "another file of that name");
    let spare = sim.open(path("/spare"), Open::Read).unwrap();
    let mut bytes = [0; BLOCK];
    spare.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [1; BLOCK]);
    // Removed: it lands in a file that nobody can see.
    let writer = sim.start_process();
    sim.remove(path("/1.wal")).unwrap();
    let log = Log::new(&writer, WalWay::Uring);
    log.write(0, true);
    writer.kill();
    drop(log);
    sim.remove(path("/1.wal")).unwrap();
    sim.sync_dir(path("/")).unwrap();
    assert!(sim.land() && !sim.land());
}

#[test]
#[should_panic(expected = "was changed in memory")]
fn a_buffer_that_changes_on_its_way_is_a_bug() {
    let log = Log::new(&Sim::new(1), WalWay::Uring);
    log.write(0, true);
    log.memory.window_mut().store(8, 1);
    log.finish();
}

#[test]
fn a_driver_of_one_thread_refuses_another() {
    let sim = Sim::new(1);
    let lock = sim.open(path("/writer.lock"), Open::EnsurePrivate).unwrap();
    let memory = Arc::new(sim.memory(BLOCK, &MemoryOptions::default()).unwrap().map);
    let driver = sim.wal(memory, &lock, &WalOptions { one_thread: true, ..WalOptions::default() }).unwrap();
    driver.reap(false, &mut |_, _| {}).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| driver.reap(false, &mut |_, _| {}).unwrap_err());
    });
}

#[test]
fn power_goes_and_processes_die_inside_every_operation_of_a_driver() {
    let story = |sim: &Sim| -> chronicle_platform::Result<Vec<u32>> {
        let lock = sim.open(path("/writer.lock"), Open::EnsurePrivate)?;
        let memory = Arc::new(sim.memory(4 * BLOCK, &MemoryOptions::default())?.map);
        memory.window_mut().copy_in(0, &[1; 4 * BLOCK]);
        let file = sim.open(path("/1.wal"), Open::Create)?;
        file.allocate(SEGMENT)?;
        file.sync()?;
        sim.sync_dir(path("/"))?;
        let driver = sim.wal(memory, &lock, &WalOptions::default())?;
        driver.attach(1, path("/1.wal"))?;
        let mut told = Vec::new();
        let mut run = || -> chronicle_platform::Result<()> {
            for at in 0..4_u32 {
                let (op, offset) = (OpId::from_number(at), u64::from(at) * BLOCK as u64);
                let from = at as usize * BLOCK;
                driver.submit(&Op::Write { op, segment: 1, offset, from, len: BLOCK as u32, sync: true })?;
            }
            while driver.reap(true, &mut |op, _| told.push(op.number()))? > 0 {}
            Ok(())
        };
        match run() {
            Err(trouble) if trouble.operation() == "reap" || trouble.operation() == "submit" => Ok(told),
            other => other.map(|()| told),
        }
    };
    let whole = Sim::new(0);
    assert_eq!(story(&whole).unwrap().len(), 4);
    for seed in SEEDS.step_by(4) {
        for n in 1..=whole.operations() {
            let sim = Sim::new(seed);
            sim.crash_at(n);
            let told = story(&sim).unwrap_or_default();
            let after = sim.crash();
            if !told.is_empty() {
                let bytes = found(&after);
                told.iter().for_each(|at| assert_eq!(block(&bytes, *at), [1; BLOCK], "seed {seed}, operation {n}"));
            }
            let sim = Sim::new(seed);
            let writer = sim.start_process();
            writer.kill_at(n);
            let told = story(&writer).unwrap_or_default();
            while sim.land() {}
            if !told.is_empty() {
                let bytes = found(&sim.crash());
                told.iter().for_each(|at| assert_eq!(block(&bytes, *at), [1; BLOCK], "seed {seed}, operation {n}"));
            }
        }
    }
}
