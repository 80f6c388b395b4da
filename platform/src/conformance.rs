//! What every [`Platform`] must do, as tests.
//!
//! A platform's own test file calls [`conformance!`](crate::conformance!) once; each check below becomes a `#[test]`
//! on a fresh scratch directory. What holds here holds for the simulator and for the kernels alike, which is what
//! makes a proof on the simulator worth anything.
//!
//! Not here: what only one system can show (processes, umasks, page faults, a device that is full), which its own
//! tests do, and what only the simulator can do (crashes).
//!
//! ```
//! # mod tests {
//! use chronicle_platform::sim::Sim;
//! chronicle_platform::conformance!(Sim::new(1), "/scratch");
//! # }
//! ```

use crate::{
    Entry, File, FileId, HUGE_PAGE, Lock, MAP_ALIGN, Medium, Memory, MemoryOptions, Open, PageSize, Platform, Pool,
    Processor, Trouble, TroubleKind, WalDriver, WalOptions, WalWay, Woken,
};
use chronicle_core::{
    REGION_ALIGN, Region, RegionMut,
    wal::{Op, OpId, Outcome, SyncBy},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Makes a `#[test]` of every check, each with a platform of its own and a scratch directory of its own.
///
/// The second expression gives anything that is a path, and is kept until the test ends: a `TempDir` will do. The
/// directory is created where it does not exist.
#[macro_export]
macro_rules! conformance {
    ($platform:expr, $scratch:expr $(,)?) => {
        $crate::conformance! { @checks $platform, $scratch;
            open_says_what_it_found
            reads_and_writes_meet
            one_file_is_one_id
            names_are_listed_renamed_and_removed
            directories_are_created_with_their_parents
            publish_replaces_at_once
            locks_exclude_between_descriptions
            locks_die_with_their_description_even_while_mapped
            locks_convert
            allocation_extends_with_zeros
            maps_see_files_and_each_other
            maps_are_refused_beyond_the_end_or_without_permission
            maps_may_begin_inside_a_file
            maps_outlive_their_file_and_its_name
            prefaulting_changes_nothing
            memory_is_whole_zeroed_and_shared
            memory_without_a_name_keeps_its_length
            memory_by_name_is_opened_and_removed
            wishes_are_reported_not_pretended
            guarded_mappings_survive_a_cut
            a_pool_has_a_share_for_each_processor
            waiting_ends
            filling_writes_zeros
            wal_says_what_it_uses
            wal_writes_are_read_back
            wal_buffers_are_reused_after_their_outcome
            wal_outcomes_come_once_each
            wal_refuses_what_no_driver_takes
            wal_never_grows_a_short_file
            wal_segments_come_and_go
            wal_is_dropped_with_writes_in_flight
            wal_belongs_to_many_threads_or_to_one
            clocks_and_identities_hold
            barriers_are_what_support_says
            media_have_room
            trouble_says_what_and_where
        }
    };
    (@checks $platform:expr, $scratch:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let scratch = $scratch;
                $crate::conformance::$check(&$platform, ::std::convert::AsRef::<::std::path::Path>::as_ref(&scratch));
            }
        )*
    };
}

fn scratch<P: Platform>(platform: &P, dir: &Path) {
    platform.create_dirs(dir).expect("a scratch directory");
}

#[track_caller]
fn refused<T>(kind: TroubleKind, result: Result<T, Trouble>) {
    match result {
        Ok(_) => panic!("done, where {kind:?} was due"),
        Err(trouble) => assert_eq!(trouble.kind(), kind, "{trouble:?}"),
    }
}

fn content(file: &impl File) -> Vec<u8> {
    let mut bytes = vec![0xee; file.len().unwrap() as usize + 16];
    let n = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(n);
    bytes
}

fn holding<P: Platform>(platform: &P, path: &Path, bytes: &[u8]) -> P::File {
    let file = platform.open(path, Open::Ensure).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

/// Each way to open, and what it finds.
pub fn open_says_what_it_found<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("file");
    refused(TroubleKind::NotFound, platform.open(&path, Open::Read));
    refused(TroubleKind::NotFound, platform.open(&path, Open::Write));
    refused(TroubleKind::NotFound, platform.open(&dir.join("absent/file"), Open::Create));
    platform.open(&path, Open::Create).unwrap().write_at(b"kept", 0).unwrap();
    refused(TroubleKind::Exists, platform.open(&path, Open::Create));
    for how in [Open::Read, Open::Write, Open::Ensure, Open::EnsurePrivate] {
        assert_eq!(content(&platform.open(&path, how).unwrap()), b"kept", "{how:?}");
    }
    platform.open(&path, Open::Read).unwrap().write_at(b"x", 0).expect_err("opened for reading");
    platform.open(&path, Open::Read).unwrap().set_len(0).expect_err("opened for reading");
    for how in [Open::Read, Open::Write, Open::Create, Open::Ensure] {
        platform.open(dir, how).expect_err("a directory is no file");
    }
    platform.open(&path.join("below"), Open::Create).expect_err("a file is no directory");
    assert!(platform.open(&dir.join("new"), Open::Ensure).unwrap().is_empty().unwrap());
    assert!(platform.open(&dir.join("private"), Open::EnsurePrivate).unwrap().is_empty().unwrap());
}

/// Bytes written are read, by any description; what was never written is zero.
pub fn reads_and_writes_meet<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let file = platform.open(&dir.join("file"), Open::Create).unwrap();
    let other = platform.open(&dir.join("file"), Open::Write).unwrap();
    file.write_at(b"hello", 10_000).unwrap();
    assert_eq!(other.len().unwrap(), 10_005);
    let mut expected = vec![0; 10_000];
    expected.extend_from_slice(b"hello");
    assert_eq!(content(&other), expected);
    other.write_at(b"HE", 10_000).unwrap();
    let mut part = [0xee; 8];
    assert_eq!(file.read_at(&mut part, 10_001).unwrap(), 4, "short at the end");
    assert_eq!(&part, b"Ello\xee\xee\xee\xee");
    assert_eq!(file.read_at(&mut part, 10_005).unwrap(), 0);
    assert_eq!(file.read_at(&mut part, u64::from(u32::MAX)).unwrap(), 0);
    file.write_at(&[], 50_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_005, "nothing written, nothing extended");
    file.set_len(3).unwrap();
    file.set_len(10_005).unwrap();
    assert_eq!(content(&other), vec![0; 10_005], "what was cut does not come back");
    file.sync().unwrap();
    assert!(file.modified_ns().unwrap() <= platform.now_ns().saturating_add(60_000_000_000));
}

/// An id belongs to the file, not to its name.
pub fn one_file_is_one_id<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let (a, b) = (dir.join("a"), dir.join("b"));
    let id = |path: &Path| -> FileId { platform.open(path, Open::Read).unwrap().id().unwrap() };
    let first = holding(platform, &a, b"a");
    let second = holding(platform, &b, b"b");
    assert_ne!(id(&a), id(&b));
    assert_eq!(id(&a), first.id().unwrap());
    platform.rename(&a, &b).unwrap();
    assert_eq!(id(&b), first.id().unwrap());
    assert_ne!(id(&b), second.id().unwrap(), "an open file without a name keeps its id to itself");
}

/// Directories hold what was put there.
pub fn names_are_listed_renamed_and_removed<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let names = || platform.list(dir).unwrap();
    let entry = |name: &str, is_dir| Entry { name: name.into(), is_dir };
    assert_eq!(names(), []);
    for name in ["zebra", "Anton", "10", "9"] {
        holding(platform, &dir.join(name), name.as_bytes());
    }
    platform.create_dirs(&dir.join("middle/below")).unwrap();
    let all =
        [entry("10", false), entry("9", false), entry("Anton", false), entry("middle", true), entry("zebra", false)];
    assert_eq!(names(), all);

    platform.rename(&dir.join("zebra"), &dir.join("10")).unwrap();
    assert_eq!(content(&platform.open(&dir.join("10"), Open::Read).unwrap()), b"zebra");
    platform.rename(&dir.join("9"), &dir.join("middle/9")).unwrap();
    assert_eq!(names(), [entry("10", false), entry("Anton", false), entry("middle", true)]);
    refused(TroubleKind::NotFound, platform.rename(&dir.join("9"), &dir.join("8")));
    refused(TroubleKind::NotFound, platform.rename(&dir.join("10"), &dir.join("absent/10")));
    platform.rename(&dir.join("10"), &dir.join("middle")).expect_err("a file does not replace a directory");

    assert!(platform.exists(&dir.join("middle/9")).unwrap());
    let are_dirs = ["middle", "middle/9", "middle/9/below", "absent", "absent/below"]
        .map(|name| platform.is_dir(&dir.join(name)).unwrap());
    assert_eq!(are_dirs, [true, false, false, false, false]);
    platform.remove(&dir.join("middle/9")).unwrap();
    assert!(!platform.exists(&dir.join("middle/9")).unwrap());
    refused(TroubleKind::NotFound, platform.remove(&dir.join("middle/9")));
    platform.remove(&dir.join("middle")).expect_err("a directory is no file");
    platform.remove_dir(&dir.join("middle")).expect_err("it is not empty");
    platform.remove_dir(&dir.join("Anton")).expect_err("a file is no directory");
    platform.remove_dir(&dir.join("middle/below")).unwrap();
    platform.remove_dir(&dir.join("middle")).unwrap();
    assert_eq!(names(), [entry("10", false), entry("Anton", false)]);
    platform.sync_dir(dir).unwrap();
    refused(TroubleKind::NotFound, platform.list(&dir.join("middle")));
    refused(TroubleKind::NotFound, platform.sync_dir(&dir.join("middle")));
    refused(TroubleKind::NotFound, platform.remove_dir(&dir.join("middle")));
    platform.list(&dir.join("Anton")).expect_err("a file is no directory");
    platform.sync_dir(&dir.join("Anton")).expect_err("a file is no directory");
}

/// Missing parents come along; what exists is fine; a file in the way is not.
pub fn directories_are_created_with_their_parents<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    platform.create_dirs(&dir.join("a/b/c")).unwrap();
    platform.create_dirs(&dir.join("a/b/c")).unwrap();
    platform.create_dirs(&dir.join("a/x")).unwrap();
    assert_eq!(platform.list(&dir.join("a")).unwrap().len(), 2);
    holding(platform, &dir.join("a/file"), b"");
    refused(TroubleKind::Exists, platform.create_dirs(&dir.join("a/file")));
    platform.create_dirs(&dir.join("a/file/below")).expect_err("a file is no directory");
}

/// After `publish` the name is the new file, whole, and those who read the old one go on reading the old one.
pub fn publish_replaces_at_once<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let (draft, name) = (dir.join("name.tmp"), dir.join("name"));
    holding(platform, &name, b"the old one");
    let old = platform.open(&name, Open::Read).unwrap();
    let new = holding(platform, &draft, b"new");
    platform.publish(&new, &draft, &name).unwrap();
    assert!(!platform.exists(&draft).unwrap());
    let found = platform.open(&name, Open::Read).unwrap();
    assert_eq!(found.id().unwrap(), new.id().unwrap());
    assert_eq!(content(&found), b"new");
    assert_eq!(content(&old), b"the old one");
    refused(TroubleKind::NotFound, platform.publish(&new, &draft, &name));
}

/// Shared holders together, an exclusive one alone, on one file and no other.
pub fn locks_exclude_between_descriptions<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("lock");
    let open = |how| platform.open(&path, how).unwrap();
    let (a, b, c) = (open(Open::Create), open(Open::Write), open(Open::Read));
    assert!(a.try_lock(Lock::Exclusive).unwrap());
    assert!(a.try_lock(Lock::Exclusive).unwrap(), "what is held is granted again");
    assert!(!b.try_lock(Lock::Exclusive).unwrap());
    assert!(!b.try_lock(Lock::Shared).unwrap());
    assert!(!c.try_lock(Lock::Shared).unwrap());
    let elsewhere = holding(platform, &dir.join("elsewhere"), b"");
    assert!(elsewhere.try_lock(Lock::Exclusive).unwrap());

    platform.rename(&path, &dir.join("renamed")).unwrap();
    let renamed = platform.open(&dir.join("renamed"), Open::Read).unwrap();
    assert!(!renamed.try_lock(Lock::Shared).unwrap(), "a lock belongs to the file, not to its name");

    a.unlock().unwrap();
    a.unlock().unwrap();
    assert!(b.try_lock(Lock::Shared).unwrap());
    assert!(c.try_lock(Lock::Shared).unwrap(), "a descriptor for reading locks too");
    assert!(!a.try_lock(Lock::Exclusive).unwrap());
    b.unlock().unwrap();
    assert!(!a.try_lock(Lock::Exclusive).unwrap(), "one shared holder is left");
    c.unlock().unwrap();
    assert!(a.try_lock(Lock::Exclusive).unwrap());
}

/// Dropping a file frees its lock, whatever still maps it.
pub fn locks_die_with_their_description_even_while_mapped<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("lock");
    let holder = platform.open(&path, Open::Create).unwrap();
    holder.allocate(4096).unwrap();
    assert!(holder.try_lock(Lock::Exclusive).unwrap());
    let map = platform.map_mut(&holder, 4096).unwrap();
    let other = platform.open(&path, Open::Write).unwrap();
    assert!(!other.try_lock(Lock::Exclusive).unwrap());
    drop(holder);
    assert!(other.try_lock(Lock::Exclusive).unwrap(), "the lock outlived its file");
    map.window_mut().store(0, 7);
    let third = platform.open(&path, Open::Write).unwrap();
    drop(third);
    assert!(
        !platform.open(&path, Open::Read).unwrap().try_lock(Lock::Shared).unwrap(),
        "somebody else's drop freed it"
    );
}

/// Shared becomes exclusive for the only holder, exclusive becomes shared for all.
pub fn locks_convert<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("lock");
    let a = platform.open(&path, Open::Create).unwrap();
    let b = platform.open(&path, Open::Read).unwrap();
    assert!(a.try_lock(Lock::Shared).unwrap());
    assert!(a.try_lock(Lock::Exclusive).unwrap());
    assert!(!b.try_lock(Lock::Shared).unwrap());
    assert!(a.try_lock(Lock::Shared).unwrap());
    assert!(b.try_lock(Lock::Shared).unwrap());
    assert!(!a.try_lock(Lock::Exclusive).unwrap(), "the other shares it");
    // Whether `a` still shares it now is the kernel's affair; after an unlock it surely does not.
    a.unlock().unwrap();
    assert!(b.try_lock(Lock::Exclusive).unwrap());
}

/// Room is made at the end, and never taken away.
pub fn allocation_extends_with_zeros<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let file = holding(platform, &dir.join("file"), b"before");
    file.allocate(0).unwrap();
    assert_eq!(content(&file), b"before");
    file.allocate(100_000).unwrap();
    let mut expected = b"before".to_vec();
    expected.resize(100_000, 0);
    assert_eq!(content(&file), expected);
    file.allocate(10).unwrap();
    file.allocate(100_000).unwrap();
    assert_eq!(content(&file), expected, "allocation never shortens");
    platform.open(&dir.join("file"), Open::Read).unwrap().allocate(200_000).expect_err("opened for reading");
}

/// Mappings, files and other mappings are one memory.
pub fn maps_see_files_and_each_other<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    const LEN: usize = 3 * 4096 + 1000;
    let path = dir.join("file");
    let file = holding(platform, &path, b"first");
    file.allocate(20_000).unwrap();
    let reading = platform.open(&path, Open::Read).unwrap();
    let (a, b) = (platform.map_mut(&file, LEN).unwrap(), platform.map(&reading, LEN).unwrap());
    assert_eq!((a.len(), b.len()), (LEN, LEN));
    assert_eq!(a.base().align_offset(REGION_ALIGN), 0);
    assert_eq!(b.base().align_offset(REGION_ALIGN), 0);

    let seen = |at: usize| {
        let mut bytes = [0; 5];
        b.window().copy_out(at, &mut bytes);
        let mut mine = [0; 5];
        P::reader(&a).window().copy_out(at, &mut mine);
        assert_eq!(bytes, mine);
        reading.read_at(&mut mine, at as u64).unwrap();
        assert_eq!(bytes, mine);
        bytes
    };
    assert_eq!(&seen(0), b"first");
    file.write_at(b"later", 8190).unwrap();
    assert_eq!(&seen(8190), b"later");
    a.window_mut().copy_in(LEN - 5, b"ahead");
    assert_eq!(&seen(LEN - 5), b"ahead");

    let c = platform.map_mut(&platform.open(&path, Open::Write).unwrap(), 4096).unwrap();
    c.window_mut().store_release(64, 0xfeed_beef);
    assert_eq!(b.window().load_acquire(64), 0xfeed_beef);
    drop(c);
    assert_eq!(a.window().load(64), 0xfeed_beef);

    file.sync().unwrap();
    file.write_at(b"beyond", 30_000).unwrap();
    assert_eq!(&seen(8190), b"later", "a file that grows keeps its mappings");
}

/// A mapping never promises bytes or rights that the file does not give.
pub fn maps_are_refused_beyond_the_end_or_without_permission<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("file");
    let file = holding(platform, &path, &[1; 5002]);
    platform.map(&file, 5004).expect_err("two bytes too many");
    platform.map(&file, 5002).expect_err("no whole words");
    platform.map_mut(&file, 4099).expect_err("no whole words");
    platform.map_mut(&file, 8192).expect_err("the rest of the page is not the file");
    platform.map(&file, usize::MAX).expect_err("absurd");
    platform.map(&file, 0).expect_err("nothing to map");
    let reading = platform.open(&path, Open::Read).unwrap();
    platform.map_mut(&reading, 5000).expect_err("opened for reading");
    platform.map(&reading, 5000).unwrap();
    platform.map_mut(&file, 5000).unwrap();
}

/// A window into a file shows that part of it, also of one that has grown while another part was mapped.
pub fn maps_may_begin_inside_a_file<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    const STEP: usize = MAP_ALIGN as usize;
    let file = platform.open(&dir.join("file"), Open::Create).unwrap();
    file.allocate(3 * MAP_ALIGN).unwrap();
    let first = platform.map_mut(&file, STEP).unwrap();
    let second = platform.map_mut_at(&file, MAP_ALIGN, STEP).unwrap();
    platform.prefault_mut(&second).unwrap();
    assert_eq!((second.len(), second.base().align_offset(REGION_ALIGN)), (STEP, 0));
    first.window_mut().store(0, 0x0101_0101);
    second.window_mut().store(8, 0x0202_0202);
    let mut found = [0; 4];
    file.read_at(&mut found, MAP_ALIGN + 8).unwrap();
    assert_eq!(found, [2; 4]);
    file.allocate(4 * MAP_ALIGN).unwrap();
    let fourth = platform.map_mut_at(&file, 3 * MAP_ALIGN, STEP).unwrap();
    fourth.window_mut().store(STEP - 4, 0x0404_0404);
    drop((first, second));
    let whole = platform.map(&file, 4 * STEP).unwrap();
    let words = [0, STEP + 8, 4 * STEP - 4].map(|at| whole.window().load(at));
    assert_eq!(words, [0x0101_0101, 0x0202_0202, 0x0404_0404]);
    platform.map_mut_at(&file, MAP_ALIGN / 2, 4096).expect_err("not where a page begins everywhere");
    platform.map_mut_at(&file, 3 * MAP_ALIGN, STEP + 4).expect_err("beyond the end");
    platform.map_mut_at(&file, u64::MAX - MAP_ALIGN + 1, STEP).expect_err("absurd");
}

/// Closing and removing a file leaves its mappings whole.
pub fn maps_outlive_their_file_and_its_name<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("file");
    let file = holding(platform, &path, &[1; 4096]);
    let (a, b) = (platform.map_mut(&file, 4096).unwrap(), platform.map(&file, 4096).unwrap());
    drop(file);
    platform.remove(&path).unwrap();
    holding(platform, &path, &[2; 4096]);
    a.window_mut().store(4, 9);
    assert_eq!((b.window().load(0), b.window().load(4)), (0x0101_0101, 9));
    std::thread::spawn(move || assert_eq!(b.window().load(4), 9)).join().unwrap();
}

/// Prefaulting and pinning are for speed alone.
pub fn prefaulting_changes_nothing<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let file = holding(platform, &dir.join("file"), &[3; 1_000_003]);
    let (a, b) = (platform.map_mut(&file, 1_000_000).unwrap(), platform.map(&file, 1_000_000).unwrap());
    platform.prefault(&b).unwrap();
    platform.prefault_mut(&a).unwrap();
    platform.prefault_mut(&a).unwrap();
    assert_eq!(content(&file), [3; 1_000_003]);
    match platform.lock_memory(&a) {
        Ok(()) => assert_eq!(content(&file), [3; 1_000_003]),
        // A limit of the account that runs the test.
        Err(trouble) => {
            eprintln!("skipped: pinning memory: {trouble}: {}", std::error::Error::source(&trouble).unwrap())
        }
    }
}

/// Memory is as long as asked for, zero all over, and one with what its file maps to again.
pub fn memory_is_whole_zeroed_and_shared<P: Platform>(platform: &P, _dir: &Path) {
    let memory = platform.memory(100_000, &MemoryOptions::default()).unwrap();
    let len = memory.map.len();
    assert!(len >= 100_000 && len.is_multiple_of(4), "{len}");
    assert_eq!(memory.map.base().align_offset(REGION_ALIGN), 0);
    assert_eq!(memory.file.len().unwrap(), len as u64);
    let mut bytes = vec![1; len];
    memory.map.window().copy_out(0, &mut bytes);
    assert!(bytes.iter().all(|&byte| byte == 0));
    let again = platform.map(&memory.file, len).unwrap();
    memory.map.window_mut().store(99_996, 0xfeed_beef);
    assert_eq!(again.window().load(99_996), 0xfeed_beef);
    drop(memory);
    assert_eq!(again.window().load(99_996), 0xfeed_beef, "whoever maps it keeps it");
    for absurd in [0, 3, isize::MAX as usize & !0xffff, usize::MAX & !3] {
        platform.memory(absurd, &MemoryOptions::default()).expect_err("no length for memory");
    }
}

/// Where memory is sealed nobody changes its length, and where it cannot be, nobody is told that it is.
pub fn memory_without_a_name_keeps_its_length<P: Platform>(platform: &P, dir: &Path) {
    let memory = platform.memory(8192, &MemoryOptions::default()).unwrap();
    let len = memory.file.len().unwrap();
    assert_eq!(memory.file.is_sealed().unwrap(), platform.support().sealed_memory);
    if platform.support().sealed_memory {
        memory.file.set_len(0).expect_err("shortened");
        memory.file.set_len(len + 4096).expect_err("lengthened");
        memory.file.allocate(len + 4096).expect_err("lengthened");
        memory.file.write_at(b"beyond", len).expect_err("lengthened");
        memory.file.write_at(b"inside", 0).unwrap();
        assert_eq!(memory.map.window().load(0), u32::from_le_bytes(*b"insi"));
    }
    assert_eq!(memory.file.len().unwrap(), len);
    scratch(platform, dir);
    assert!(!holding(platform, &dir.join("file"), b"x").is_sealed().unwrap(), "a file like any other");
}

/// A name leads others to the memory until it is removed.
pub fn memory_by_name_is_opened_and_removed<P: Platform>(platform: &P, _dir: &Path) {
    let name = format!("chronicle-{:016x}", platform.random() as u64);
    let options = MemoryOptions { name: Some(&name), ..MemoryOptions::default() };
    let memory = match platform.memory(8192, &options) {
        Err(trouble) if trouble.kind() == TroubleKind::Unsupported => {
            return eprintln!("skipped: no shared memory by name here");
        }
        other => other.unwrap(),
    };
    platform.memory(8192, &options).map(drop).expect_err("the name is taken");
    let (reading, writing) = (platform.open_memory(&name, Open::Read), platform.open_memory(&name, Open::Write));
    let len = memory.map.len();
    let (a, b) = (platform.map(&reading.unwrap(), len).unwrap(), platform.map_mut(&writing.unwrap(), len).unwrap());
    b.window_mut().store(4096, 77);
    assert_eq!((memory.map.window().load(4096), a.window().load(4096)), (77, 77));
    platform.open_memory(&name, Open::Ensure).expect_err("memory is made by `memory` alone");
    platform.remove_memory(&name).unwrap();
    refused(TroubleKind::NotFound, platform.open_memory(&name, Open::Read));
    refused(TroubleKind::NotFound, platform.remove_memory(&name));
    assert_eq!(a.window().load(4096), 77);
    for name in ["", "a/b", "..", ".hidden", "a b", "a-name-that-is-longer-than-darwin-takes"] {
        platform.memory(4096, &MemoryOptions { name: Some(name), ..options }).map(drop).expect_err(name);
        platform.open_memory(name, Open::Read).map(drop).expect_err(name);
    }
}

/// Large pages and nodes are had, or the reason is told; the memory works either way.
pub fn wishes_are_reported_not_pretended<P: Platform>(platform: &P, _dir: &Path) {
    let works = |memory: &Memory<P>| {
        memory.map.window_mut().store(memory.map.len() - 4, 1);
        assert_eq!(memory.map.window().load(memory.map.len() - 4), 1);
    };
    for asked in [PageSize::Base, PageSize::Transparent, PageSize::Huge2M] {
        let memory =
            platform.memory(2 * HUGE_PAGE, &MemoryOptions { pages: asked, ..MemoryOptions::default() }).unwrap();
        let pages = &memory.pages;
        assert_eq!(pages.asked, asked);
        assert_eq!(pages.why.is_none(), pages.got == asked, "{pages:?}");
        assert!(pages.got != PageSize::Huge2M || memory.map.len().is_multiple_of(HUGE_PAGE));
        works(&memory);
    }
    for asked in [None, Some(0), Some(1_000_000)] {
        let memory = platform.memory(8192, &MemoryOptions { node: asked, ..MemoryOptions::default() }).unwrap();
        let placement = &memory.placement;
        assert_eq!(placement.asked, asked);
        assert!(asked.is_none() || placement.got == asked || placement.why.is_some(), "{placement:?}");
        assert!(asked != Some(1_000_000) || placement.got != asked, "a node that no machine has: {placement:?}");
        works(&memory);
    }
}

/// A peer's cut ends no process that guarded its mapping, and is told.
pub fn guarded_mappings_survive_a_cut<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    const LEN: usize = 1 << 16;
    let path = dir.join("file");
    let file = holding(platform, &path, &[5; LEN]);
    let (a, b) = (platform.map_mut(&file, LEN).unwrap(), platform.map(&file, LEN).unwrap());
    if !platform.support().guard {
        refused(TroubleKind::Unsupported, platform.guard(&b));
        return refused(TroubleKind::Unsupported, platform.guard_mut(&a));
    }
    platform.guard_mut(&a).unwrap();
    platform.guard(&b).unwrap();
    assert!(!platform.is_damaged_mut(&a) && !platform.is_damaged(&b));
    file.set_len(0).unwrap();
    a.window_mut().store(LEN - 4, 1);
    assert_eq!(b.window().load(0), 0);
    assert!(platform.is_damaged_mut(&a) && platform.is_damaged(&b));
    file.allocate(LEN as u64).unwrap();
    assert!(platform.is_damaged_mut(&a) && platform.is_damaged(&b), "for good");
    let fresh = platform.map(&file, LEN).unwrap();
    platform.guard(&fresh).unwrap();
    assert!(!platform.is_damaged(&fresh));
}

/// A pool gives each processor of the mask memory, on its node where that is known, and threads stay where they enter.
pub fn a_pool_has_a_share_for_each_processor<P: Platform>(platform: &P, _dir: &Path) {
    let processors = match platform.processors() {
        Err(trouble) if trouble.kind() == TroubleKind::Unsupported => {
            refused(TroubleKind::Unsupported, Pool::new(platform, 4096, &MemoryOptions::default()));
            return refused(TroubleKind::Unsupported, platform.run_on(0));
        }
        other => other.unwrap(),
    };
    let id = |processor: &Processor| processor.id;
    assert!(!processors.is_empty() && processors.is_sorted_by_key(id), "{processors:?}");
    let pool = Pool::new(platform, 8192, &MemoryOptions::default()).unwrap();
    assert_eq!(pool.shares().iter().map(|share| share.processor).collect::<Vec<_>>(), processors);
    std::thread::scope(|scope| {
        for share in pool.shares() {
            scope.spawn(move || {
                share.enter(platform).unwrap();
                assert_eq!(platform.processors().unwrap(), [share.processor]);
                share.memory.map.window_mut().store(0, share.processor.id + 1);
            });
        }
    });
    for share in pool.into_shares() {
        assert_eq!(share.memory.map.window().load(0), share.processor.id + 1, "each has memory of its own");
        assert_eq!(share.memory.placement.asked, share.processor.node);
    }
    assert_eq!(platform.processors().unwrap(), processors, "only the threads that entered were pinned");
    platform.run_on(1_000_000).expect_err("no machine has it");
    let named = MemoryOptions { name: Some("pool"), ..MemoryOptions::default() };
    Pool::new(platform, 4096, &named).map(drop).expect_err("one name for many");
}

/// A wait ends when the word is another, and when the time is over.
pub fn waiting_ends<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("word");
    let file = holding(platform, &path, &[0; 4096]);
    let map = platform.map_mut(&file, 4096).unwrap();
    let reading = platform.map(&platform.open(&path, Open::Read).unwrap(), 4096).unwrap();
    map.window_mut().store(128, 5);
    let minute = Duration::from_secs(60);
    let before = platform.monotonic_ns();
    assert_eq!(platform.wait(&reading, 128, 4, minute).unwrap(), Woken::Changed);
    assert_eq!(platform.wait_mut(&map, 128, 6, minute).unwrap(), Woken::Changed);
    assert!(platform.monotonic_ns() - before < 60_000_000_000);
    let short = Duration::from_millis(5);
    for round in 0..2 {
        let before = platform.monotonic_ns();
        let woken = match round {
            0 => platform.wait(&reading, 128, 5, short).unwrap(),
            _ => platform.wait_mut(&map, 128, 5, short).unwrap(),
        };
        // A system may wake for reasons of its own; if it says that the time is over, it is.
        assert_ne!(woken, Woken::Changed);
        assert!(woken == Woken::Signal || platform.monotonic_ns() - before >= 5_000_000);
    }
    platform.wake(&map, 128).expect("nobody sleeps, which is fine");
    assert_eq!(map.window().load(128), 5);
}

/// What is filled is zero, whatever stood there, and nothing else is touched.
pub fn filling_writes_zeros<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let file = holding(platform, &dir.join("file"), &[7; 10_000]);
    file.fill(5000, 6000).unwrap();
    file.fill(9999, 700_001).unwrap();
    file.fill(3, 3).unwrap();
    file.fill(3, 2).unwrap();
    let mut expected = vec![7; 9999];
    expected[5000..6000].fill(0);
    expected.resize(700_001, 0);
    assert_eq!(content(&file), expected);
    file.sync().unwrap();
    platform.open(&dir.join("file"), Open::Read).unwrap().fill(0, 1).expect_err("opened for reading");
}

/// Length of a block, and of a segment, in what follows.
const BLOCK: usize = 4096;
const SEGMENT: u64 = 16 * BLOCK as u64;

const WAYS: [WalWay; 4] = [WalWay::Auto, WalWay::Uring, WalWay::Direct, WalWay::Buffered];

/// A driver, its memory of so many blocks, and the directory with its segments.
struct Log<P: Platform> {
    platform: P,
    dir: PathBuf,
    memory: Arc<P::MapMut>,
    driver: P::Wal,
    /// Operations so far.
    ops: u32,
    lock: P::File,
}

impl<P: Platform> Log<P> {
    fn new(platform: &P, dir: &Path, blocks: usize, options: &WalOptions) -> Log<P> {
        scratch(platform, dir);
        let lock = platform.open(&dir.join("writer.lock"), Open::EnsurePrivate).unwrap();
        assert!(lock.try_lock(Lock::Exclusive).unwrap());
        let memory = Arc::new(platform.memory(blocks * BLOCK, &MemoryOptions::default()).unwrap().map);
        let driver = platform.wal(memory.clone(), &lock, options).unwrap();
        Log { platform: platform.clone(), dir: dir.to_owned(), memory, driver, ops: 0, lock }
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment}.wal"))
    }

    /// A whole segment, every byte of it written.
    fn attach(&self, segment: u64) {
        let file = self.platform.open(&self.path(segment), Open::Create).unwrap();
        file.allocate(SEGMENT).unwrap();
        file.fill(0, SEGMENT).unwrap();
        file.sync().unwrap();
        self.driver.attach(segment, &self.path(segment)).unwrap();
    }

    fn id(&mut self) -> OpId {
        self.ops += 1;
        OpId::from_number(self.ops)
    }

    /// A write of one block, full of `byte`, from the block of memory at `from`.
    fn write(&mut self, segment: u64, block: u64, from: usize, byte: u8) -> OpId {
        self.memory.window_mut().copy_in(from * BLOCK, &[byte; BLOCK]);
        let (op, sync) = (self.id(), self.driver.mode().sync == SyncBy::Write);
        let (offset, from, len) = (block * BLOCK as u64, from * BLOCK, BLOCK as u32);
        self.driver.submit(&Op::Write { op, segment, offset, from, len, sync }).unwrap();
        op
    }

    fn sync(&mut self, segment: u64) -> OpId {
        let op = self.id();
        self.driver.submit(&Op::Sync { op, segment }).unwrap();
        op
    }

    /// The next outcomes, at least one where something is in flight.
    fn reap(&self) -> Vec<(OpId, Outcome)> {
        let mut ended = Vec::new();
        let count = self.driver.reap(true, &mut |op, outcome| ended.push((op, outcome))).unwrap();
        assert_eq!(count, ended.len());
        ended
    }

    /// All outcomes: each of these once, and all went well.
    fn finish(&self, mut expected: Vec<(OpId, u32)>) {
        while !expected.is_empty() {
            let ended = self.reap();
            assert!(!ended.is_empty(), "{expected:?} never ended");
            for (op, outcome) in ended {
                let at = expected.iter().position(|(expected, _)| *expected == op);
                let (_, len) =
                    expected.swap_remove(at.unwrap_or_else(|| panic!("{op:?} has ended before, or never was")));
                assert_eq!(outcome, Outcome::Done(len), "{op:?}");
            }
        }
        assert_eq!(self.reap(), [], "nothing is in flight, and nobody waits for it");
        assert_eq!(self.driver.reap(false, &mut |op, _| panic!("{op:?}")).unwrap(), 0);
    }

    /// The first byte of each block, of which all are the same.
    fn blocks(&self, segment: u64) -> Vec<u8> {
        let bytes = content(&self.platform.open(&self.path(segment), Open::Read).unwrap());
        assert_eq!(bytes.len() as u64, SEGMENT, "a driver changed the length of a segment");
        let blocks = bytes.chunks(BLOCK);
        blocks.inspect(|block| assert!(block.iter().all(|byte| *byte == block[0]))).map(|block| block[0]).collect()
    }
}

fn ways() -> impl Iterator<Item = WalOptions> {
    WAYS.into_iter().map(|way| WalOptions { way, ..WalOptions::default() })
}

/// A driver says which way it goes, why not the one asked for, and whether anything is durable where it goes.
pub fn wal_says_what_it_uses<P: Platform>(platform: &P, dir: &Path) {
    for options in ways() {
        let log = Log::new(platform, dir, 1, &options);
        let mode = log.driver.mode();
        let (asked, got) = (options.way, mode.way);
        assert_ne!(got, WalWay::Auto, "{mode}");
        assert!(asked == WalWay::Auto || asked == got || mode.why.is_some(), "{asked} asked for, {mode}");
        assert!(!mode.direct || got != WalWay::Buffered, "{mode}");
        assert_ne!(mode.sync, SyncBy::Request, "when to sync is not a driver's to say");
        let durable = platform.medium(dir).unwrap() == Medium::Disk && platform.support().durable_sync;
        assert_eq!(mode.durable, durable, "{mode}");
        assert!(mode.durable || mode.why.is_some(), "{mode}");
        assert!(mode.to_string().starts_with(mode.driver) && !mode.driver.is_empty());
    }
}

/// What was written is in the file, by whatever way; a sync of its own goes with any.
pub fn wal_writes_are_read_back<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let mut log = Log::new(platform, dir, 4, &options);
        let segment = number as u64 + 1;
        log.attach(segment);
        let mut all: Vec<_> =
            (0..3).map(|i| (log.write(segment, 15 - i, i as usize, 5 + i as u8), BLOCK as u32)).collect();
        // Several blocks at once, not from the beginning of memory.
        log.finish(std::mem::take(&mut all));
        (1..4).for_each(|at| log.memory.window_mut().copy_in(at * BLOCK, &[at as u8; BLOCK]));
        let (op, from, len) = (log.id(), BLOCK, 3 * BLOCK as u32);
        log.driver.submit(&Op::Write { op, segment, offset: 2 * BLOCK as u64, from, len, sync: true }).unwrap();
        log.finish(vec![(op, len)]);
        all.push((log.sync(segment), 0));
        log.finish(all);
        assert_eq!(log.blocks(segment), [0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 7, 6, 5], "{}", log.driver.mode());
    }
}

/// A buffer is free when its write has ended, and not before: many writes through few buffers.
pub fn wal_buffers_are_reused_after_their_outcome<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let depth = usize::from(options.depth);
        let mut log = Log::new(platform, dir, depth, &options);
        let (mut free, mut busy) = ((0..depth).collect::<Vec<_>>(), Vec::new());
        let take_back = |log: &Log<P>, free: &mut Vec<usize>, busy: &mut Vec<(OpId, usize)>| {
            for (op, outcome) in log.reap() {
                assert_eq!(outcome, Outcome::Done(BLOCK as u32));
                let at = busy.iter().position(|(id, _)| *id == op).expect("an outcome of ours");
                free.push(busy.swap_remove(at).1);
            }
        };
        for round in 0..6 {
            let segment = 10 * number as u64 + round + 1;
            log.attach(segment);
            for block in 0..16 {
                if free.is_empty() {
                    take_back(&log, &mut free, &mut busy);
                }
                let from = free.pop().expect("waiting frees one");
                busy.push((log.write(segment, block, from, (16 * round + block + 1) as u8), from));
            }
        }
        while !busy.is_empty() {
            take_back(&log, &mut free, &mut busy);
        }
        for round in 0..6 {
            let expected: Vec<u8> = (0..16).map(|block| 16 * round + block + 1).collect();
            assert_eq!(log.blocks(10 * number as u64 + u64::from(round) + 1), expected, "{}", log.driver.mode());
        }
    }
}

/// Outcomes are told by whoever asks, once, and asking without waiting tells them too.
pub fn wal_outcomes_come_once_each<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let mut log = Log::new(platform, dir, 4, &options);
        let segment = number as u64 + 1;
        log.attach(segment);
        log.finish(Vec::new());
        for round in 0..5 {
            let mut all: Vec<_> = (0..4).map(|i| (log.write(segment, i, i as usize, round), BLOCK as u32)).collect();
            if round % 2 == 0 {
                let mut ended = Vec::new();
                while ended.is_empty() {
                    log.driver.reap(false, &mut |op, outcome| ended.push((op, outcome))).unwrap();
                    std::thread::yield_now();
                }
                for (op, outcome) in ended {
                    assert_eq!(outcome, Outcome::Done(BLOCK as u32));
                    all.swap_remove(all.iter().position(|(id, _)| *id == op).unwrap());
                }
            }
            all.push((log.sync(segment), 0));
            log.finish(all);
        }
    }
}

/// An operation that makes no sense is refused as it is handed in, and does nothing.
pub fn wal_refuses_what_no_driver_takes<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let mut log = Log::new(platform, dir, 2, &options);
        let segment = number as u64 + 1;
        log.attach(segment);
        let (block, op) = (BLOCK as u64, log.id());
        let write = |segment, offset, from, len| Op::Write { op, segment, offset, from, len, sync: true };
        let memory = log.memory.len();
        for (why, refusal) in [
            ("half a block off in the file", write(segment, block / 2, 0, BLOCK as u32)),
            ("a byte off in memory", write(segment, 0, 1, BLOCK as u32)),
            ("half a block off in memory", write(segment, 0, BLOCK / 2, BLOCK as u32)),
            ("half a block long", write(segment, 0, 0, BLOCK as u32 / 2)),
            ("nothing to write", write(segment, 0, 0, 0)),
            ("at the end of the segment", write(segment, SEGMENT, 0, BLOCK as u32)),
            ("across the end of the segment", write(segment, SEGMENT - block, 0, 2 * BLOCK as u32)),
            ("beyond the end of anything", write(segment, u64::MAX - block + 1, 0, BLOCK as u32)),
            ("at the end of memory", write(segment, 0, memory, BLOCK as u32)),
            ("across the end of memory", write(segment, 0, memory - BLOCK, 2 * BLOCK as u32)),
            ("beyond all memory", write(segment, 0, usize::MAX - BLOCK + 1, BLOCK as u32)),
            ("a change of names", Op::Recycle { op, segment }),
        ] {
            log.driver.submit(&refusal).expect_err(why);
        }
        refused(TroubleKind::NotFound, log.driver.submit(&write(77, 0, 0, BLOCK as u32)));
        refused(TroubleKind::NotFound, log.driver.submit(&Op::Sync { op, segment: 77 }));
        refused(TroubleKind::NotFound, log.driver.detach(77));
        refused(TroubleKind::NotFound, log.driver.attach(77, &dir.join("absent")));
        refused(TroubleKind::Exists, log.driver.attach(segment, &log.path(segment)));
        log.finish(Vec::new());
        let last = log.write(segment, 15, 1, 9);
        log.finish(vec![(last, BLOCK as u32)]);
        let mut expected = [0; 16];
        expected[15] = 9;
        assert_eq!(log.blocks(segment), expected);
    }
}

/// A file shorter than a segment should be stays as short as it is.
pub fn wal_never_grows_a_short_file<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let mut log = Log::new(platform, dir, 1, &options);
        let segment = number as u64 + 1;
        let file = holding(platform, &log.path(segment), &[1; 2 * BLOCK + 100]);
        file.sync().unwrap();
        log.driver.attach(segment, &log.path(segment)).unwrap();
        let op = log.id();
        let offset = 2 * BLOCK as u64;
        log.driver
            .submit(&Op::Write { op, segment, offset, from: 0, len: BLOCK as u32, sync: true })
            .expect_err("the block is not all there");
        log.finish(Vec::new());
        assert_eq!(content(&file), [1; 2 * BLOCK + 100]);
    }
}

/// Segments are attached and detached beside one another; one whose outcomes are not told yet stays.
pub fn wal_segments_come_and_go<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let mut log = Log::new(platform, dir, 4, &options);
        let first = 10 * number as u64 + 1;
        (first..first + 3).for_each(|segment| log.attach(segment));
        let all = (0..3).map(|i| (log.write(first + i, i, i as usize, i as u8 + 1), BLOCK as u32)).collect();
        log.driver.detach(first).expect_err("a write's outcome is not told");
        log.finish(all);
        log.driver.detach(first).unwrap();
        refused(TroubleKind::NotFound, log.driver.detach(first));
        log.driver.detach(first + 1).unwrap();
        let more = vec![(log.write(first + 2, 9, 0, 4), BLOCK as u32)];
        log.finish(more);
        // A segment goes on under its new name, and another one may get its old name.
        platform.rename(&log.path(first + 2), &log.path(first + 3)).unwrap();
        let more = vec![(log.write(first + 2, 10, 0, 5), BLOCK as u32)];
        log.finish(more);
        log.driver.attach(first, &log.path(first)).unwrap();
        let more = vec![(log.write(first, 15, 0, 6), BLOCK as u32)];
        log.finish(more);
        let expected = |set: &[(usize, u8)]| {
            let mut blocks = [0; 16];
            set.iter().for_each(|(at, byte)| blocks[*at] = *byte);
            blocks
        };
        assert_eq!(log.blocks(first), expected(&[(0, 1), (15, 6)]));
        assert_eq!(log.blocks(first + 1), expected(&[(1, 2)]));
        assert_eq!(log.blocks(first + 3), expected(&[(2, 3), (9, 4), (10, 5)]));
    }
}

/// A driver that is gone looks at nobody's memory any more: what it was writing is what was to be written.
pub fn wal_is_dropped_with_writes_in_flight<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let mut log = Log::new(platform, dir, 4, &options);
        let segment = number as u64 + 1;
        log.attach(segment);
        for round in 0..8_u8 {
            (0..4).for_each(|i| _ = log.write(segment, i, i as usize, round + 1));
            let fresh = platform.wal(log.memory.clone(), &log.lock, &options).unwrap();
            drop(std::mem::replace(&mut log.driver, fresh));
            assert_eq!(Arc::strong_count(&log.memory), 2, "the driver's and ours");
            log.memory.window_mut().zero(0, log.memory.len());
            let found = log.blocks(segment);
            assert!(found[..4].iter().all(|byte| *byte == round + 1), "{found:?} after {}", round + 1);
            assert_eq!(found[4..], [0; 12]);
            log.driver.attach(segment, &log.path(segment)).unwrap();
        }
    }
}

/// Several threads hand in and ask at once; each outcome is told to one of them. With one thread there is nothing to share.
pub fn wal_belongs_to_many_threads_or_to_one<P: Platform>(platform: &P, dir: &Path) {
    for (number, options) in ways().enumerate() {
        let log = Log::new(platform, dir, 4, &options);
        let segment = number as u64 + 1;
        log.attach(segment);
        let told = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (log, told) = (&log, &told);
                scope.spawn(move || {
                    log.memory.window_mut().copy_in(thread as usize * BLOCK, &[thread as u8 + 1; BLOCK]);
                    for round in 0..4 {
                        let block = u64::from(4 * thread + round);
                        let op = OpId::from_number(4 * thread + round);
                        let (offset, from) = (block * BLOCK as u64, thread as usize * BLOCK);
                        let write = Op::Write { op, segment, offset, from, len: BLOCK as u32, sync: true };
                        log.driver.submit(&write).unwrap();
                        let mine = |told: &Vec<(OpId, Outcome)>| told.iter().any(|(id, _)| *id == op);
                        while !mine(&told.lock().unwrap()) {
                            let mut ended = Vec::new();
                            log.driver.reap(true, &mut |op, outcome| ended.push((op, outcome))).unwrap();
                            told.lock().unwrap().extend(ended);
                        }
                    }
                });
            }
        });
        let mut told = told.into_inner().unwrap();
        told.sort_by_key(|(op, _)| op.number());
        let expected: Vec<_> = (0..16).map(|n| (OpId::from_number(n), Outcome::Done(BLOCK as u32))).collect();
        assert_eq!(told, expected);
        assert_eq!(log.blocks(segment), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]);
        drop(log);

        let mut log = Log::new(platform, dir, 1, &WalOptions { one_thread: true, ..options });
        log.driver.attach(segment, &log.path(segment)).unwrap();
        let all = vec![(log.write(segment, 0, 0, 9), BLOCK as u32)];
        log.finish(all);
        assert_eq!(log.blocks(segment)[0], 9);
    }
}

/// Clocks go forward, identities stay, random numbers do not repeat.
pub fn clocks_and_identities_hold<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let clone = platform.clone();
    let (mono, wall) = (platform.monotonic_ns(), platform.now_ns());
    assert!(wall > 1_500_000_000_000_000_000, "the wall clock counts from 1970");
    platform.sleep(Duration::from_millis(2));
    assert!(clone.monotonic_ns() - mono >= 2_000_000);
    assert_eq!(platform.boot_id(), clone.boot_id());
    assert_eq!(platform.process(), clone.process());
    let mut drawn: Vec<u128> = (0..100).map(|_| platform.random()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 100);
}

/// `Support` tells the truth about barriers.
pub fn barriers_are_what_support_says<P: Platform>(platform: &P, _dir: &Path) {
    if platform.support().barrier {
        platform.register_barrier().unwrap();
        platform.register_barrier().unwrap();
        platform.barrier().unwrap();
    } else {
        refused(TroubleKind::Unsupported, platform.register_barrier());
        refused(TroubleKind::Unsupported, platform.barrier());
    }
}

/// Free bytes and medium are those of where a path lies.
pub fn media_have_room<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let file = holding(platform, &dir.join("file"), b"x");
    assert!(platform.free_bytes(dir).unwrap() > 0);
    assert_eq!(platform.medium(dir).unwrap(), platform.medium(&dir.join("file")).unwrap());
    refused(TroubleKind::NotFound, platform.free_bytes(&dir.join("absent")));
    refused(TroubleKind::NotFound, platform.medium(&dir.join("absent")));
    if let Some(memory) = platform.memory_dir() {
        assert_eq!(platform.medium(&memory).unwrap(), Medium::Memory);
        platform.list(&memory).unwrap();
    }
    drop(file);
}

/// One line tells the operation and the path; the reason is the source.
pub fn trouble_says_what_and_where<P: Platform>(platform: &P, dir: &Path) {
    scratch(platform, dir);
    let path = dir.join("absent");
    let trouble = platform.open(&path, Open::Read).unwrap_err();
    assert_eq!((trouble.operation(), trouble.path()), ("open", path.as_path()));
    assert_eq!(trouble.to_string(), format!("{}: open failed", path.display()));
    assert!(std::error::Error::source(&trouble).is_some());
    let file = holding(platform, &dir.join("file"), b"x");
    let trouble = platform.map(&file, 4096).unwrap_err();
    assert_eq!((trouble.operation(), trouble.path()), ("map", dir.join("file").as_path()));
}
