//! Every state that a power cut may leave: none is left out, and none is there that cannot be.
//!
//! What a search of crash points does not go through it does not prove. So the survivors of small stories are counted
//! against what can be said by hand, and compared with what chance draws from the same machine.

use chronicle_core::{
    Region, RegionMut,
    wal::{Op, OpId},
};
use chronicle_platform::{
    File, MemoryOptions, Open, Platform, WalDriver, WalOptions,
    sim::{Faults, Sim, SimFile, Survivors},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

const SECTOR: usize = 512;
const BLOCK: usize = 4096;

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// A file whose name and first bytes are durable.
fn durable(sim: &Sim, name: &str, bytes: &[u8]) -> SimFile {
    let file = sim.open(path(name), Open::Create).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    sim.sync_dir(path("/")).unwrap();
    file
}

/// All files of the root, with their bytes.
fn disk(sim: &Sim) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &str| {
        let file = sim.open(&path("/").join(name), Open::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    sim.list(path("/")).unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

fn disks(survivors: Survivors) -> BTreeSet<BTreeMap<String, Vec<u8>>> {
    survivors.map(|sim| disk(&sim)).collect()
}

/// Of a file of whole sectors that are each of one byte, those bytes.
fn sectors(disk: &BTreeMap<String, Vec<u8>>, name: &str) -> Vec<u8> {
    disk[name]
        .chunks(SECTOR)
        .map(|sector| sector.iter().fold(sector[0], |a, b| if a == *b { a } else { 0xff }))
        .collect()
}

#[test]
fn nothing_open_leaves_one_survivor() {
    let sim = Sim::new(1);
    durable(&sim, "/a", b"synced");
    let mut survivors = sim.survivors(1000);
    assert!(survivors.is_exhaustive() && sim.is_off());
    assert_eq!((survivors.operations(), survivors.numbers()), (0, 0..1));
    assert_eq!(disk(&survivors.next().unwrap()), [("a".to_owned(), b"synced".to_vec())].into());
    assert!(survivors.next().is_none());
}

#[test]
fn d_13_a_write_of_three_sectors_survives_in_all_eight_ways() {
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[1; 3 * SECTOR]);
    file.write_at(&[2; 3 * SECTOR], 0).unwrap();
    let survivors = sim.survivors(0);
    assert!(survivors.is_exhaustive());
    assert_eq!(survivors.operations(), 1);
    let all: BTreeSet<Vec<u8>> = disks(survivors).iter().map(|disk| sectors(disk, "a")).collect();
    let expected: BTreeSet<Vec<u8>> = (0..8_u8).map(|mask| (0..3).map(|bit| 1 + (mask >> bit & 1)).collect()).collect();
    assert_eq!(all, expected);
}

#[test]
fn several_writes_survive_in_every_combination_of_lost_kept_and_torn_at_an_edge() {
    const WRITES: usize = 4;
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[0; WRITES * BLOCK]);
    (0..WRITES).for_each(|at| file.write_at(&[at as u8 + 1; BLOCK], (at * BLOCK) as u64).unwrap());
    let survivors = sim.survivors(0);
    assert_eq!((survivors.is_exhaustive(), survivors.operations()), (true, 4));
    let count = survivors.numbers().end;
    let all: Vec<Vec<u8>> = survivors.map(|sim| sectors(&disk(&sim), "a")).collect();
    assert_eq!(all.len() as u64, count);
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "none comes twice");
    // 6 fates of each with the others'; 24 more of each with the others lost or kept.
    assert_eq!(all.len(), 6_usize.pow(4) + 4 * 24 * 8);
    for survivor in &all {
        let ok = survivor.iter().enumerate().all(|(at, byte)| *byte == 0 || usize::from(*byte) == at / 8 + 1);
        assert!(ok, "{survivor:?} holds what nobody wrote");
    }
    for fates in 0..6_usize.pow(4) {
        let edge = |at: usize| -> [bool; 8] {
            std::array::from_fn(|sector| match fates / 6_usize.pow(at as u32) % 6 {
                0 => false,
                1 => true,
                2 => sector == 0,
                3 => sector == 7,
                4 => sector != 0,
                _ => sector != 7,
            })
        };
        let expected: Vec<u8> =
            (0..WRITES).flat_map(|at| edge(at).map(|kept| u8::from(kept) * (at as u8 + 1))).collect();
        assert!(distinct.contains(&expected), "{expected:?} is left out");
    }
}

#[test]
fn d_7_changes_of_names_survive_each_by_itself() {
    let sim = Sim::new(1);
    durable(&sim, "/a", b"a");
    durable(&sim, "/b", b"b");
    sim.rename(path("/a"), path("/c")).unwrap();
    sim.remove(path("/b")).unwrap();
    sim.open(path("/d"), Open::Create).unwrap();
    let survivors = sim.survivors(0);
    assert_eq!((survivors.is_exhaustive(), survivors.operations()), (true, 3));
    let names = |disk: &BTreeMap<String, Vec<u8>>| disk.keys().cloned().collect::<String>();
    let all: BTreeSet<String> = disks(survivors).iter().map(names).collect();
    assert_eq!(all, ["a", "ab", "abd", "ad", "bc", "bcd", "c", "cd"].map(str::to_owned).into());
}

#[test]
fn d_8_a_file_published_without_a_sync_may_be_named_and_not_whole() {
    let publish = |sync: bool| {
        let sim = Sim::new(1);
        durable(&sim, "/name", b"old");
        let draft = sim.open(path("/draft"), Open::Create).unwrap();
        draft.write_at(&[7; 2 * SECTOR], 0).unwrap();
        if sync {
            draft.sync().unwrap();
        }
        sim.rename(path("/draft"), path("/name")).unwrap();
        let survivors = sim.survivors(0);
        assert!(survivors.is_exhaustive());
        disks(survivors).into_iter().map(|mut disk| disk.remove("name").unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(publish(true), [b"old".to_vec(), vec![7; 2 * SECTOR]].into());
    let all = publish(false);
    assert!(all.contains(&Vec::new()) && all.contains(&vec![0; 2 * SECTOR]), "its name without its bytes");
}

#[test]
fn d_10_a_length_is_old_or_new_or_where_a_write_ended() {
    let lens = |story: &dyn Fn(&SimFile)| {
        let sim = Sim::new(1);
        let file = durable(&sim, "/a", &[1; 100]);
        story(&file);
        let survivors = sim.survivors(0);
        assert!(survivors.is_exhaustive());
        let operations = survivors.operations();
        (operations, disks(survivors).iter().map(|disk| disk["a"].len()).collect::<BTreeSet<_>>())
    };
    let allocated = |file: &SimFile| file.allocate(9000).unwrap();
    assert_eq!(lens(&allocated), (1, [100, 9000].into()));
    let appended = |file: &SimFile| {
        file.write_at(&[2; 100], 100).unwrap();
        file.write_at(&[3; 100], 200).unwrap();
    };
    assert_eq!(lens(&appended), (2, [100, 200, 300].into()));
}

#[test]
fn d_18_what_was_stored_through_a_mapping_is_there_or_not() {
    let story = |seed| {
        let sim = Sim::new(seed);
        let file = durable(&sim, "/a", &[1; 2 * BLOCK]);
        let map = sim.map_mut(&file, 2 * BLOCK).unwrap();
        map.window_mut().store(0, 0x0202_0202);
        sim.tick();
        map.window_mut().store(BLOCK, 0x0202_0202);
        sim
    };
    let pages = |disk: BTreeMap<String, Vec<u8>>| (disk["a"][0], disk["a"][BLOCK]);
    for seed in 0..20 {
        let survivors = story(seed).survivors(0);
        assert_eq!((survivors.is_exhaustive(), survivors.operations()), (true, 1));
        assert_eq!(disks(survivors).into_iter().map(pages).collect::<BTreeSet<_>>(), [(1, 1), (2, 2)].into());
    }
    // Which of the pages were written when is for chance to draw.
    let drawn: BTreeSet<_> = (0..200).map(|seed| pages(disk(&story(seed).crash()))).collect();
    assert_eq!(drawn.len(), 4);
}

#[test]
fn writes_that_the_kernel_wrote_back_on_its_own_are_still_lost_and_kept() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        sim.faults(Faults { write_back_one_in: 1, ..Faults::default() });
        let file = durable(&sim, "/a", &[1; BLOCK]);
        file.write_at(&[2; SECTOR], 0).unwrap();
        (0..20).for_each(|_| sim.tick());
        let all: BTreeSet<u8> = disks(sim.survivors(0)).iter().map(|disk| disk["a"][0]).collect();
        assert_eq!(all, [1, 2].into(), "seed {seed}");
    }
}

#[test]
fn d_2_a_page_that_a_failed_sync_dropped_is_in_doubt_until_the_next_one_and_then_gone_or_there() {
    let mut after = BTreeSet::new();
    for seed in 0..50 {
        let story = |again: bool| {
            let sim = Sim::new(seed);
            sim.faults(Faults { write_back_one_in: 0, ..Faults::default() });
            let file = durable(&sim, "/a", &[1; BLOCK]);
            file.write_at(&[2; SECTOR], 0).unwrap();
            sim.faults(Faults { write_back_one_in: 0, failing_sync: Some(sim.syncs() + 1), ..Faults::default() });
            file.sync().unwrap_err();
            if again {
                file.sync().unwrap();
            }
            let survivors = sim.survivors(0);
            assert!(survivors.is_exhaustive());
            disks(survivors).iter().map(|disk| disk["a"][0]).collect::<BTreeSet<u8>>()
        };
        assert_eq!(story(false), [1, 2].into());
        after.insert(story(true));
    }
    assert_eq!(after, [[1].into(), [2].into()].into(), "one of them, for good, though the second sync succeeded");
}

/// A log of two blocks under `/log`, with a driver and some writes of it in flight.
fn log(sim: &Sim, writes: u32, sync: bool, reaped: bool) {
    let lock = sim.open(path("/lock"), Open::EnsurePrivate).unwrap();
    sim.sync_dir(path("/")).unwrap();
    durable(sim, "/log", &[0; 8 * BLOCK]);
    let memory = Arc::new(sim.memory(8 * BLOCK, &MemoryOptions::default()).unwrap().map);
    memory.window_mut().copy_in(0, &[9; 8 * BLOCK]);
    let driver = sim.wal(memory, &lock, &WalOptions::default()).unwrap();
    driver.attach(1, path("/log")).unwrap();
    for at in 0..writes {
        let (op, offset) = (OpId::from_number(at), u64::from(at) * BLOCK as u64);
        driver.submit(&Op::Write { op, segment: 1, offset, from: 0, len: BLOCK as u32, sync }).unwrap();
    }
    while reaped && driver.reap(true, &mut |_, _| {}).unwrap() > 0 {}
    // A driver that is dropped would wait for its writes.
    std::mem::forget(driver);
}

#[test]
fn d_20_writes_in_a_drivers_hands_are_open_and_those_that_are_durable_are_not() {
    for (sync, reaped, open) in [(true, false, 2), (false, false, 2), (true, true, 0), (false, true, 2)] {
        let sim = Sim::new(1);
        log(&sim, 2, sync, reaped);
        let survivors = sim.survivors(0);
        assert_eq!((survivors.is_exhaustive(), survivors.operations()), (true, open), "{sync} {reaped}");
        let blocks = |disk: BTreeMap<String, Vec<u8>>| (disk["log"][0], disk["log"][BLOCK]);
        let all: BTreeSet<_> = disks(survivors).into_iter().map(blocks).collect();
        match open {
            0 => assert_eq!(all, [(9, 9)].into()),
            _ => assert_eq!(all, [(0, 0), (0, 9), (9, 0), (9, 9)].into()),
        }
    }
}

#[test]
fn s_1_late_writes_of_a_dead_process_are_open_too() {
    let sim = Sim::new(1);
    sim.faults(Faults { late_one_in: 0, ..Faults::default() });
    let writer = sim.start_process();
    log(&writer, 3, true, false);
    writer.kill();
    let survivors = sim.survivors(0);
    assert_eq!((survivors.is_exhaustive(), survivors.operations()), (true, 3));
}

#[test]
fn a_durable_write_over_an_open_one_stays_whatever_becomes_of_that() {
    let sim = Sim::new(1);
    log(&sim, 0, true, false);
    let file = sim.open(path("/log"), Open::Write).unwrap();
    file.write_at(&[5; BLOCK], 0).unwrap();
    let lock = sim.open(path("/lock"), Open::EnsurePrivate).unwrap();
    let memory = Arc::new(sim.memory(BLOCK, &MemoryOptions::default()).unwrap().map);
    memory.window_mut().copy_in(0, &[9; BLOCK]);
    let driver = sim.wal(memory.clone(), &lock, &WalOptions::default()).unwrap();
    driver.attach(1, path("/log")).unwrap();
    let op = OpId::from_number(1);
    let len = memory.len() as u32;
    driver.submit(&Op::Write { op, segment: 1, offset: 0, from: 0, len, sync: true }).unwrap();
    while driver.reap(true, &mut |_, _| {}).unwrap() > 0 {}
    for disk in disks(sim.survivors(0)) {
        assert_eq!(disk["log"][..BLOCK], [9; BLOCK]);
    }
}

#[test]
fn with_more_than_four_operations_survivors_are_samples_and_say_so() {
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[0; 8 * BLOCK]);
    (0..5).for_each(|at| file.write_at(&[at as u8 + 1; BLOCK], (at * BLOCK) as u64).unwrap());
    let survivors = sim.survivors(300);
    assert_eq!((survivors.is_exhaustive(), survivors.operations()), (false, 5));
    assert_eq!(survivors.numbers(), 0..300);
    let again: Vec<_> = survivors.numbers().map(|number| disk(&survivors.pick(number).unwrap())).collect();
    let all: Vec<_> = survivors.map(|sim| disk(&sim)).collect();
    assert_eq!(all, again, "a number is a survivor");
    assert!(all.iter().collect::<BTreeSet<_>>().len() > 200);

    // Too much to keep write by write.
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[0; BLOCK]);
    file.write_at(&vec![1; 2 << 20], 0).unwrap();
    assert!(!sim.survivors(1).is_exhaustive());
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[1; BLOCK]);
    file.set_len(10).unwrap();
    assert!(!sim.survivors(1).is_exhaustive(), "a cut file is not a file of writes");
}

#[test]
fn what_chance_draws_is_among_the_survivors_where_tears_cannot_hide_it() {
    for seed in 0..100 {
        let story = |sim: &Sim| {
            let file = durable(sim, "/a", &[0; 2 * SECTOR]);
            file.write_at(&[1; SECTOR], 0).unwrap();
            file.write_at(&[2; SECTOR], SECTOR as u64).unwrap();
            sim.rename(path("/a"), path("/b")).unwrap();
            sim.open(path("/c"), Open::Create).unwrap();
        };
        let (drawn, all) = (Sim::new(seed), Sim::new(seed));
        story(&drawn);
        story(&all);
        let all = disks(all.survivors(0));
        assert_eq!(all.len(), 16);
        for _ in 0..20 {
            let drawn = disk(&drawn.crash());
            assert!(all.contains(&drawn), "{drawn:?}");
        }
    }
}

#[test]
fn a_number_tells_its_story_and_gives_the_same_survivor_again() {
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[0; BLOCK]);
    file.write_at(&[1; BLOCK], 0).unwrap();
    sim.rename(path("/a"), path("/b")).unwrap();
    let mut survivors = sim.survivors(0);
    let mut stories = BTreeSet::new();
    while let Some(sim) = survivors.next() {
        let number = survivors.number();
        assert_eq!(disk(&survivors.pick(number).unwrap()), disk(&sim));
        let story = survivors.describe(number);
        assert!(story.starts_with(&format!("survivor {number} of ")), "{story}");
        assert!(story.contains("change of a to b: ") && story.contains("4096 bytes at 0 of /b: "), "{story}");
        stories.insert(story);
    }
    assert!(stories.iter().any(|story| story.ends_with("torn: the first 3 sectors kept")));
    assert!(survivors.pick(survivors.numbers().end).is_none());
}

#[test]
fn a_survivor_is_a_machine_like_any_other_and_its_siblings_do_not_notice() {
    let sim = Sim::new(1);
    let file = durable(&sim, "/a", &[0; BLOCK]);
    file.write_at(&[1; SECTOR], 0).unwrap();
    let survivors: Vec<Sim> = sim.survivors(0).collect();
    let before: Vec<_> = survivors.iter().map(disk).collect();
    let first = &survivors[0];
    let file = first.open(path("/a"), Open::Write).unwrap();
    file.write_at(&[7; 3 * BLOCK], 100).unwrap();
    file.sync().unwrap();
    first.remove(path("/a")).unwrap();
    let after: Vec<_> = survivors[1..].iter().map(disk).collect();
    assert_eq!(before[1..], after);
    assert_ne!(survivors[0].boot_id(), survivors[1].boot_id());
    // Crashed again, as a recovery is.
    assert_eq!(disks(survivors[1].survivors(0)), [before[1].clone()].into());
}

#[test]
fn d_19_memory_is_no_part_of_what_may_survive() {
    let sim = Sim::new(1);
    sim.mount_memory(path("/shm")).unwrap();
    let file = sim.open(path("/shm/ring"), Open::Create).unwrap();
    (0..10).for_each(|at| file.write_at(&[1; BLOCK], at).unwrap());
    let survivors: Vec<Sim> = sim.survivors(0).collect();
    assert_eq!(survivors.len(), 1);
    assert_eq!(survivors[0].list(path("/shm")).unwrap(), []);
}
