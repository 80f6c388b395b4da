//! The simulator itself: what it must never lose, and what it must sometimes do.
//!
//! A simulator that loses synced bytes sends us after bugs that are not there; one that never loses the others lets
//! real ones pass. So each kind of fault is shown to be impossible where it must be, for many seeds, and to happen
//! for some seed where it may.

use chronicle_core::{Region, RegionMut};
use chronicle_platform::{
    File, Lock, Medium, MemoryOptions, Open, Platform, Pool, TroubleKind, Woken,
    sim::{Faults, Sim, SimFile},
};
use std::{collections::BTreeSet, path::Path, time::Duration};

const SEEDS: std::ops::Range<u64> = 0..200;
const PAGE: usize = 4096;
const SECTOR: usize = 512;

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// A file whose name is durable.
fn named(sim: &Sim, name: &str) -> SimFile {
    let file = sim.open(path(name), Open::Create).unwrap();
    sim.sync_dir(path("/")).unwrap();
    file
}

/// A file's bytes; nothing if it has no name.
fn found(sim: &Sim, name: &str) -> Option<Vec<u8>> {
    let file = match sim.open(path(name), Open::Read) {
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => return None,
        file => file.unwrap(),
    };
    let mut bytes = vec![0xee; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

/// Every outcome over all seeds.
fn outcomes<T: Ord>(story: impl Fn(u64) -> T) -> BTreeSet<T> {
    SEEDS.map(story).collect()
}

#[test]
fn d_1_what_was_synced_is_never_lost() {
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        let mut model = Vec::new();
        for round in 0..20u8 {
            let bytes = vec![round + 1; 700 + usize::from(round) * 311];
            file.write_at(&bytes, model.len() as u64).unwrap();
            model.extend_from_slice(&bytes);
        }
        file.allocate(40_000).unwrap();
        let map = sim.map_mut(&file, 40_000).unwrap();
        map.window_mut().copy_in(39_000, b"by store");
        file.sync().unwrap();
        model.resize(40_000, 0);
        model[39_000..39_008].copy_from_slice(b"by store");
        file.write_at(&[9; 100], 50_000).unwrap();
        let mut sim = sim.crash();
        for boot in 0..3 {
            assert_eq!(found(&sim, "/log").unwrap()[..40_000], model, "seed {seed}, boot {boot}");
            sim = sim.crash();
        }
    }
}

#[test]
fn what_was_not_synced_is_lost_for_some_and_kept_for_others() {
    let story = |seed| {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        file.write_at(b"maybe", 0).unwrap();
        found(&sim.crash(), "/log").unwrap()
    };
    let all = outcomes(story);
    assert!(all.contains(&b""[..]) && all.contains(&b"maybe"[..]));
    assert!(all.iter().any(|bytes| bytes.len() == 5 && bytes != b"maybe"), "a length may survive its bytes: {all:?}");
    assert!(all.iter().all(|bytes| b"maybe".starts_with(bytes) || bytes.iter().all(|&byte| byte == 0)), "{all:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        for i in 0..50u64 {
            file.write_at(&[i as u8; 3000], i * 1000).unwrap();
        }
        let after = sim.crash();
        (found(&after, "/log"), after.boot_id(), after.random(), sim.operations())
    };
    SEEDS.for_each(|seed| assert_eq!(story(seed), story(seed)));
    assert!(outcomes(story).len() > 100, "and others tell others");
}

#[test]
fn d_7_a_name_is_lost_unless_its_directory_is_synced() {
    let story = |sync: bool| {
        move |seed| {
            let sim = Sim::new(seed);
            let file = sim.open(path("/new"), Open::Create).unwrap();
            file.write_at(b"x", 0).unwrap();
            file.sync().unwrap();
            if sync {
                sim.sync_dir(path("/")).unwrap();
            }
            found(&sim.crash(), "/new")
        }
    };
    assert_eq!(outcomes(story(false)), [None, Some(b"x".to_vec())].into());
    assert_eq!(outcomes(story(true)), [Some(b"x".to_vec())].into());
}

#[test]
fn d_8_a_published_name_is_old_or_new_and_after_a_sync_new() {
    let story = |whole: bool| {
        move |seed| {
            let sim = Sim::new(seed);
            let old = named(&sim, "/name");
            old.write_at(b"old", 0).unwrap();
            old.sync().unwrap();
            let draft = sim.open(path("/draft"), Open::Create).unwrap();
            draft.write_at(b"the new one", 0).unwrap();
            if whole {
                sim.publish(&draft, path("/draft"), path("/name")).unwrap();
            } else {
                draft.sync().unwrap();
                sim.rename(path("/draft"), path("/name")).unwrap();
            }
            assert_eq!(found(&sim, "/name").unwrap(), b"the new one", "visible at once");
            let after = sim.crash();
            if found(&after, "/name").unwrap() == b"the new one" {
                assert_eq!(found(&after, "/draft"), None, "a file has one name");
            }
            found(&after, "/name").unwrap()
        }
    };
    assert_eq!(outcomes(story(false)), [b"old".to_vec(), b"the new one".to_vec()].into());
    assert_eq!(outcomes(story(true)), [b"the new one".to_vec()].into());
    // The fault that publishing guards against: a name that is durable before its bytes are.
    let careless = |seed| {
        let sim = Sim::new(seed);
        let draft = sim.open(path("/draft"), Open::Create).unwrap();
        draft.write_at(b"the new one", 0).unwrap();
        sim.rename(path("/draft"), path("/name")).unwrap();
        sim.sync_dir(path("/")).unwrap();
        found(&sim.crash(), "/name").unwrap()
    };
    assert!(outcomes(careless).contains(&Vec::new()));
}

#[test]
fn d_9_a_removal_may_be_undone_and_operations_survive_in_any_order() {
    let story = |seed| {
        let sim = Sim::new(seed);
        for name in ["/a", "/b"] {
            named(&sim, name);
        }
        sim.remove(path("/a")).unwrap();
        sim.remove(path("/b")).unwrap();
        let after = sim.crash();
        (after.exists(path("/a")).unwrap(), after.exists(path("/b")).unwrap())
    };
    assert_eq!(outcomes(story).len(), 4, "each may be undone alone");
}

#[test]
fn a_file_renamed_twice_has_one_name_whichever_renames_survive() {
    let story = |seed| {
        let sim = Sim::new(seed);
        named(&sim, "/a");
        sim.rename(path("/a"), path("/b")).unwrap();
        sim.rename(path("/b"), path("/c")).unwrap();
        let names = sim.crash().list(path("/")).unwrap();
        assert_eq!(names.len(), 1, "seed {seed}: {names:?}");
        names[0].name.clone()
    };
    assert_eq!(outcomes(story), ["a", "b", "c"].map(String::from).into());
}

#[test]
fn directories_and_what_is_in_them_go_together() {
    let story = |seed| {
        let sim = Sim::new(seed);
        sim.create_dirs(path("/kept/below")).unwrap();
        let file = sim.open(path("/kept/below/file"), Open::Create).unwrap();
        file.sync().unwrap();
        sim.sync_dir(path("/kept/below")).unwrap();
        sim.rename(path("/kept/below"), path("/moved")).unwrap();
        let after = sim.crash();
        let places = ["/kept/below/file", "/moved/file"].map(|name| after.exists(path(name)).unwrap_or(false));
        assert_eq!(places.iter().filter(|&&here| here).count(), 1, "seed {seed}: it is in one place");
        places
    };
    assert_eq!(outcomes(story).len(), 2);
}

#[test]
fn d_13_sectors_tear_and_bytes_within_them_do_not() {
    let mut torn = 0;
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        file.write_at(&[1; PAGE], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; PAGE], 0).unwrap();
        let bytes = found(&sim.crash(), "/log").unwrap();
        for sector in bytes.chunks(SECTOR) {
            assert!(sector.iter().all(|&byte| byte == sector[0]), "seed {seed}: a torn sector");
            assert!(sector[0] == 1 || sector[0] == 2);
        }
        torn += u32::from(bytes.iter().any(|&byte| byte != bytes[0]));
    }
    assert!(torn > 10, "only {torn} of {} crashes tore a page", SEEDS.end);
}

#[test]
fn d_18_pages_of_a_mapping_survive_from_different_moments() {
    const PAGES: usize = 4;
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let file = named(&sim, "/map");
        file.allocate((PAGES * PAGE) as u64).unwrap();
        file.sync().unwrap();
        let map = sim.map_mut(&file, PAGES * PAGE).unwrap();
        for moment in 1..=20 {
            (0..PAGES).for_each(|page| map.window_mut().store(page * PAGE, moment));
            sim.tick();
        }
        let bytes = found(&sim.crash(), "/map").unwrap();
        let moments: Vec<u8> = (0..PAGES).map(|page| bytes[page * PAGE]).collect();
        assert!(moments.iter().all(|&moment| moment <= 20));
        seen.insert(moments);
    }
    let is = |moment: u8| move |moments: &Vec<u8>| moments.iter().all(|&found| found == moment);
    assert!(seen.iter().any(is(20)), "all of the last moment");
    assert!(seen.iter().any(|moments| moments.iter().any(|&moment| moment > 0 && moment < 20)), "one in between");
    assert!(seen.iter().any(|moments| moments.windows(2).any(|pair| pair[0] != pair[1])), "of different moments");
    assert!(seen.iter().any(|moments| moments[0] < moments[3]), "a later page newer than an earlier one");
    assert!(seen.iter().any(|moments| moments[0] > moments[3]), "and the other way round");
}

#[test]
fn d_2_a_failed_sync_leaves_bytes_that_are_read_until_the_power_goes_and_that_no_later_sync_saves() {
    let story = |seed| {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        let other = sim.open(path("/log"), Open::Read).unwrap();
        file.write_at(&[1; PAGE], 0).unwrap();
        file.sync().unwrap();
        sim.faults(Faults { failing_sync: Some(sim.syncs() + 1), ..Faults::default() });
        file.write_at(&[2; PAGE], 0).unwrap();
        let trouble = file.sync().unwrap_err();
        assert_eq!((trouble.kind(), trouble.operation()), (TroubleKind::Io, "sync"));
        assert_eq!(found(&sim, "/log").unwrap(), [2; PAGE], "the page cache lies");
        file.sync().expect("told once");
        assert_eq!(other.sync().unwrap_err().kind(), TroubleKind::Io, "told to each that was open");
        other.sync().expect("told once");
        sim.open(path("/log"), Open::Read).unwrap().sync().expect("opened after it was told");
        found(&sim.crash(), "/log").unwrap() == [1; PAGE]
    };
    assert_eq!(outcomes(story), [false, true].into());

    for seed in SEEDS {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        sim.faults(Faults { failing_sync: Some(sim.syncs() + 1), ..Faults::default() });
        file.write_at(&[2; PAGE], 0).unwrap();
        file.sync().unwrap_err();
        file.write_at(&[3], 7).unwrap();
        file.sync().unwrap();
        let mut expected = [2; PAGE];
        expected[7] = 3;
        assert_eq!(found(&sim.crash(), "/log").unwrap(), expected, "seed {seed}: a page that changed is dirty again");
    }
}

#[test]
fn a_failed_sync_of_a_directory_leaves_its_names_in_doubt() {
    let story = |seed| {
        let sim = Sim::new(seed);
        sim.open(path("/new"), Open::Create).unwrap();
        sim.faults(Faults { sync_fails_one_in: 1, ..Faults::default() });
        assert_eq!(sim.sync_dir(path("/")).unwrap_err().kind(), TroubleKind::Io);
        found(&sim.crash(), "/new").is_some()
    };
    assert_eq!(outcomes(story).len(), 2);
}

#[test]
fn a_disk_that_lies_says_so_in_its_support_and_loses_what_was_synced() {
    let story = |seed| {
        let sim = Sim::new(seed);
        let file = named(&sim, "/log");
        sim.faults(Faults { lying_sync: true, ..Faults::default() });
        assert!(!sim.support().durable_sync);
        file.write_at(b"promised", 0).unwrap();
        file.sync().unwrap();
        found(&sim.crash(), "/log").unwrap().len()
    };
    assert!(outcomes(story).contains(&0));
}

#[test]
fn d_11_a_full_disk_refuses_allocation_and_cuts_writes_short() {
    let sim = Sim::new(1);
    sim.faults(Faults { disk_bytes: 10 * PAGE as u64, ..Faults::default() });
    let file = named(&sim, "/a");
    assert_eq!(file.allocate(11 * PAGE as u64).unwrap_err().kind(), TroubleKind::NoSpace);
    let file = {
        sim.remove(path("/a")).unwrap();
        assert_eq!(sim.free_bytes(path("/")).unwrap(), 0, "an open file keeps its room");
        drop(file);
        assert_eq!(sim.free_bytes(path("/")).unwrap(), 10 * PAGE as u64);
        named(&sim, "/b")
    };
    file.allocate(8 * PAGE as u64).unwrap();
    assert_eq!(sim.free_bytes(path("/")).unwrap(), 2 * PAGE as u64);
    file.write_at(&[1; 8 * PAGE], 0).expect("allocated bytes can be written");
    let map = sim.map_mut(&file, 8 * PAGE).unwrap();
    map.window_mut().store(7 * PAGE, 1);
    let other = named(&sim, "/c");
    assert_eq!(other.write_at(&[2; 3 * PAGE], 100).unwrap_err().kind(), TroubleKind::NoSpace);
    assert_eq!(found(&sim, "/c").unwrap().len(), 2 * PAGE, "what fitted is there");
    other.set_len(0).unwrap();
    other.write_at(&[2; 2 * PAGE], 0).unwrap();
    sim.remove(path("/b")).unwrap();
    drop(file);
    assert_eq!(sim.free_bytes(path("/")).unwrap(), 0, "a mapping keeps its room");
    drop(map);
    assert_eq!(sim.free_bytes(path("/")).unwrap(), 8 * PAGE as u64);
    let sparse = named(&sim, "/sparse");
    sparse.set_len(PAGE as u64).unwrap();
    sim.map_mut(&sparse, PAGE).expect_err("a store into a hole would be a fault on a full disk");
    sim.map(&sparse, PAGE).unwrap();
}

#[test]
fn crash_at_every_operation_refuses_from_there_on() {
    // A story of a few operations, which stops at the first that is refused.
    let story = |sim: &Sim| -> Result<(), chronicle_platform::Trouble> {
        sim.create_dirs(path("/q"))?;
        let file = sim.open(path("/q/draft"), Open::Create)?;
        file.allocate(PAGE as u64)?;
        let map = sim.map_mut(&file, PAGE)?;
        map.window_mut().store(0, 77);
        sim.publish(&file, path("/q/draft"), path("/q/name"))
    };
    let whole = Sim::new(0);
    story(&whole).unwrap();
    let count = whole.operations();
    assert!(count >= 8);
    let mut at_last = BTreeSet::new();
    for seed in SEEDS {
        for n in 1..=count {
            let sim = Sim::new(seed);
            sim.crash_at(n);
            let trouble = story(&sim).unwrap_err();
            assert_eq!(trouble.kind(), TroubleKind::Other);
            assert_eq!(std::error::Error::source(&trouble).unwrap().to_string(), "machine is off");
            assert_eq!(sim.operations(), n, "{}", sim.last_operation());
            assert!(sim.is_off());
            sim.list(path("/")).unwrap_err();
            sim.tick();
            let after = sim.crash();
            assert!(!after.is_off());
            let name = match after.exists(path("/q/name")) {
                Ok(true) => found(&after, "/q/name"),
                _ => None,
            };
            if let Some(bytes) = &name {
                assert!(bytes.len() == PAGE && bytes[0] == 77, "seed {seed}, operation {n}: published and incomplete");
            }
            if n == count {
                at_last.insert(name.is_some());
            }
        }
    }
    assert_eq!(at_last.len(), 2, "the last sync may have happened before the power went");
    let sim = Sim::new(0);
    sim.crash_at(count + 1);
    story(&sim).expect("the operation of that number never comes");
}

#[test]
fn one_moment_has_many_survivors() {
    let sim = Sim::new(3);
    let file = named(&sim, "/log");
    file.write_at(&[5; 64 * 1024], 0).unwrap();
    let survivors: BTreeSet<Vec<u8>> = (0..50).map(|_| found(&sim.crash(), "/log").unwrap()).collect();
    assert!(survivors.len() > 10, "{} different ones", survivors.len());
}

#[test]
fn s_1_a_killed_process_leaves_its_bytes_and_loses_its_locks() {
    let sim = Sim::new(1);
    let writer = sim.start_process();
    assert_ne!(Platform::process(&sim), Platform::process(&writer));
    let file = named(&writer, "/log");
    file.allocate(PAGE as u64).unwrap();
    let map = writer.map_mut(&file, PAGE).unwrap();
    map.window_mut().store(0, 5);
    file.write_at(b"more", 100).unwrap();
    assert!(file.try_lock(Lock::Exclusive).unwrap());
    let mine = sim.open(path("/log"), Open::Write).unwrap();
    assert!(!mine.try_lock(Lock::Shared).unwrap());

    writer.kill();
    assert!(mine.try_lock(Lock::Exclusive).unwrap());
    let trouble = file.write_at(b"late", 0).unwrap_err();
    assert_eq!(std::error::Error::source(&trouble).unwrap().to_string(), "process is dead");
    file.try_lock(Lock::Shared).unwrap_err();
    writer.open(path("/log"), Open::Read).unwrap_err();
    writer.map(&file, 4).unwrap_err();
    drop(file);
    assert!(mine.try_lock(Lock::Exclusive).unwrap());
    let bytes = found(&sim, "/log").unwrap();
    assert_eq!((bytes[0], &bytes[100..104]), (5, &b"more"[..]), "memory outlives processes");
    assert_eq!(sim.boot_id(), writer.boot_id());
}

#[test]
fn kill_at_stops_one_process_and_no_other() {
    let mut done = BTreeSet::new();
    for seed in SEEDS {
        let sim = Sim::new(seed);
        let victim = sim.start_process();
        victim.kill_at(2);
        let file = victim.open(path("/a"), Open::Create).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(!sim.is_off());
        done.insert(found(&sim, "/a").unwrap().len());
    }
    assert_eq!(done, [0, 1].into(), "the operation in which it died happened or did not");
}

#[test]
fn d_19_memory_forgets_everything_and_says_what_it_is() {
    for seed in SEEDS {
        let sim = Sim::new(seed);
        sim.mount_memory(path("/dev/shm")).unwrap();
        assert_eq!(sim.memory_dir().unwrap(), path("/dev/shm"));
        sim.create_dirs(path("/dev/shm/q")).unwrap();
        let file = sim.open(path("/dev/shm/q/file"), Open::Create).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync().unwrap();
        sim.sync_dir(path("/dev/shm/q")).unwrap();
        let disk = named(&sim, "/file");
        assert_eq!(sim.medium(path("/dev/shm/q/file")).unwrap(), Medium::Memory);
        assert_eq!(sim.medium(path("/file")).unwrap(), Medium::Disk);
        assert_ne!(file.id().unwrap().device, disk.id().unwrap().device);
        sim.rename(path("/file"), path("/dev/shm/file")).expect_err("to another device");
        sim.faults(Faults { disk_bytes: 0, memory_bytes: 2 * PAGE as u64, ..Faults::default() });
        file.allocate(2 * PAGE as u64).unwrap();
        assert_eq!(disk.allocate(1).unwrap_err().kind(), TroubleKind::NoSpace);

        let after = sim.crash();
        assert_eq!(after.list(path("/dev/shm")).unwrap(), [], "seed {seed}");
        assert_eq!(after.medium(path("/dev/shm")).unwrap(), Medium::Memory);
        assert!(after.exists(path("/file")).unwrap());
    }
    let sim = Sim::new(1);
    sim.mount_memory(path("/")).unwrap();
    named(&sim, "/file");
    assert_eq!(sim.medium(path("/")).unwrap(), Medium::Memory);
    assert_eq!(sim.crash().list(path("/")).unwrap(), []);
}

#[test]
fn time_passes_when_it_is_told_to() {
    let sim = Sim::new(1);
    let (wall, mono) = (sim.now_ns(), sim.monotonic_ns());
    named(&sim, "/a").write_at(&[0; 8], 0).unwrap();
    assert_eq!((sim.now_ns(), sim.monotonic_ns()), (wall, mono));
    sim.advance(Duration::from_secs(1));
    sim.sleep(Duration::from_secs(2));
    assert_eq!((sim.now_ns() - wall, sim.monotonic_ns() - mono), (3_000_000_000, 3_000_000_000));
    let map = sim.map(&sim.open(path("/a"), Open::Read).unwrap(), 8).unwrap();
    assert_eq!(sim.wait(&map, 4, 1, Duration::from_secs(9)).unwrap(), Woken::Changed);
    assert_eq!(sim.monotonic_ns() - mono, 3_000_000_000);
    assert_eq!(sim.wait(&map, 4, 0, Duration::from_secs(9)).unwrap(), Woken::TimedOut);
    assert_eq!(sim.monotonic_ns() - mono, 12_000_000_000);
    sim.set_now_ns(5);
    assert_eq!((sim.now_ns(), sim.monotonic_ns() - mono), (5, 12_000_000_000));
    let after = sim.crash();
    assert!(after.now_ns() > sim.now_ns());
    assert_ne!(after.boot_id(), sim.boot_id());
    assert!(after.monotonic_ns() < sim.monotonic_ns(), "counted from boot");
}

#[test]
fn read_only_places_refuse_changes_and_nothing_else() {
    let sim = Sim::new(1);
    sim.create_dirs(path("/ro/below")).unwrap();
    named(&sim, "/ro/file").write_at(b"x", 0).unwrap();
    named(&sim, "/file");
    sim.set_read_only(path("/ro"), true);
    let denied = |result: Result<(), chronicle_platform::Trouble>| {
        assert_eq!(result.unwrap_err().kind(), TroubleKind::Denied);
    };
    denied(sim.open(path("/ro/new"), Open::Create).map(drop));
    denied(sim.open(path("/ro/file"), Open::Write).map(drop));
    denied(sim.open(path("/ro/below/file"), Open::Ensure).map(drop));
    denied(sim.rename(path("/ro/file"), path("/moved")));
    denied(sim.rename(path("/file"), path("/ro/moved")));
    denied(sim.remove(path("/ro/file")));
    denied(sim.remove_dir(path("/ro/below")));
    denied(sim.create_dirs(path("/ro/more")));
    assert_eq!(found(&sim, "/ro/file").unwrap(), b"x");
    sim.create_dirs(path("/ro/below")).expect("what is there is there");
    sim.set_read_only(path("/ro"), false);
    sim.remove(path("/ro/file")).unwrap();
}

#[test]
fn a_failing_operation_does_nothing() {
    let sim = Sim::new(1);
    let file = named(&sim, "/a");
    sim.faults(Faults { failing_operation: Some(sim.operations() + 1), ..Faults::default() });
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), TroubleKind::Io);
    assert_eq!(file.len().unwrap(), 0);
}

#[test]
fn a_growing_file_can_be_mapped_again_and_only_an_absurdly_grown_one_cannot() {
    let sim = Sim::new(1);
    let file = named(&sim, "/a");
    file.allocate(70_000).unwrap();
    let first = sim.map(&file, 70_000).unwrap();
    file.allocate(131_072).unwrap();
    let second = sim.map_mut(&file, 131_072).unwrap();
    second.window_mut().store(60_000, 3);
    assert_eq!(first.window().load(60_000), 3);
    file.allocate(200_000).unwrap();
    sim.map(&file, 200_000).expect_err("its memory would have to move under the mappings");
    drop((first, second));
    assert_eq!(sim.map(&file, 200_000).unwrap().window().load(60_000), 3);
}

#[test]
fn threads_may_use_it_together() {
    let sim = Sim::new(1);
    let file = named(&sim, "/a");
    file.allocate(1 << 16).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (sim, file) = (sim.clone(), &file);
            scope.spawn(move || {
                let map = sim.map_mut(file, 1 << 16).unwrap();
                for i in 0..200u32 {
                    map.window_mut().store((thread * 4096 + i * 4) as usize, i);
                    file.write_at(&i.to_le_bytes(), u64::from(thread * 4096 + 2048)).unwrap();
                    file.sync().unwrap();
                }
            });
        }
    });
    let bytes = found(&sim.crash(), "/a").unwrap();
    for thread in 0..4 {
        assert_eq!(bytes[thread * 4096 + 4 * 199], 199);
        assert_eq!(bytes[thread * 4096 + 2048], 199);
    }
}

#[test]
fn memory_is_handed_to_another_process_and_outlives_its_maker_but_no_power_cut() {
    let sim = Sim::new(3);
    sim.mount_memory(path("/shm")).unwrap();
    let other = sim.start_process();
    let memory = sim.memory(PAGE, &MemoryOptions::default()).unwrap();
    let named = sim.memory(PAGE, &MemoryOptions { name: Some("named"), ..MemoryOptions::default() }).unwrap();
    assert!(memory.file.is_sealed().unwrap() && !named.file.is_sealed().unwrap());
    memory.map.window_mut().store(0, 7);
    let received = memory.file.hand_to(&other).unwrap();
    sim.kill();
    received.set_len(0).expect_err("sealed");
    let map = other.map_mut(&received, PAGE).unwrap();
    assert_eq!(map.window().load(0), 7);
    memory.file.hand_to(&other).expect_err("the dead hand nothing over");
    assert!(other.open_memory("named", Open::Read).is_ok());
    let after = other.crash();
    assert_eq!(after.open_memory("named", Open::Read).unwrap_err().kind(), TroubleKind::NotFound);
}

#[test]
fn memory_counts_as_memory_until_the_last_one_lets_go() {
    let sim = Sim::new(4);
    sim.mount_memory(path("/shm")).unwrap();
    sim.faults(Faults { memory_bytes: 4 * PAGE as u64, ..Faults::default() });
    let memory = sim.memory(3 * PAGE, &MemoryOptions::default()).unwrap();
    assert_eq!(sim.free_bytes(path("/shm")).unwrap(), PAGE as u64);
    let refused = sim.memory(2 * PAGE, &MemoryOptions { name: Some("b"), ..MemoryOptions::default() });
    assert_eq!(refused.map(drop).unwrap_err().kind(), TroubleKind::NoSpace);
    assert_eq!(sim.list(path("/shm")).unwrap(), [], "what failed left no name");
    drop(memory);
    assert_eq!(sim.free_bytes(path("/shm")).unwrap(), 4 * PAGE as u64);
}

#[test]
fn a_pool_lies_on_both_nodes() {
    let sim = Sim::new(5);
    let pool = Pool::new(&sim, PAGE, &MemoryOptions::default()).unwrap();
    let nodes: BTreeSet<_> = pool.shares().iter().map(|share| share.memory.placement.got).collect();
    assert_eq!(nodes, [Some(0), Some(1)].into());
    assert!(pool.shares().iter().all(|share| share.unpinned.is_none()));
}
