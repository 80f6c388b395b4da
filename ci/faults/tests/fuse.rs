//! The disk that fails, through the kernel: what `O_DIRECT`, `RWF_DSYNC`, rings and mappings make of it.
//!
//! A test of the WAL over it proves nothing if a durable write arrives as an ordinary one, or an ordinary one as durable.

use chronicle_faults::{Action, Fault, Kind, Mounted, Survival, mounted};
use io_uring::{IoUring, opcode, types};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

const BLOCK: usize = 4096;

/// Memory that a direct write accepts.
#[repr(C, align(4096))]
struct Aligned([u8; BLOCK]);

fn disk() -> Option<Mounted> {
    mounted(env!("CARGO_BIN_EXE_faultfs"))
}

fn open(path: &Path, flags: i32) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path).unwrap()
}

/// Writes one block through a ring, as the WAL's driver does.
fn ring_write(ring: &mut IoUring, file: &File, block: &Aligned, offset: usize, flags: i32) -> io::Result<usize> {
    let write = opcode::Write::new(types::Fd(file.as_raw_fd()), block.0.as_ptr(), BLOCK as u32)
        .offset(offset as u64)
        .rw_flags(flags)
        .build();
    // SAFETY: the block and the file outlive the wait below, which is for this one operation.
    unsafe { ring.submission().push(&write) }.unwrap();
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().expect("waited for").result();
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result as usize) }
}

#[test]
fn a_durable_write_arrives_as_one_whichever_way_it_is_made() {
    let Some(disk) = disk() else { return };
    let path = disk.path().join("a");
    let block = Aligned([7; BLOCK]);
    let mut expected = disk.counts();
    let mut check = |what: &str, writes: [u64; 3]| {
        let counts = disk.counts();
        let more = [Kind::Write, Kind::SyncWrite, Kind::Sync].map(|kind| counts.of(kind) - expected.of(kind));
        assert_eq!(more, writes, "{what}: writes, durable writes, syncs");
        expected = counts;
    };

    let direct = open(&path, libc::O_DIRECT);
    direct.write_all_at(&block.0, 0).unwrap();
    check("direct", [1, 0, 0]);
    rustix::io::pwritev2(&direct, &[io::IoSlice::new(&block.0)], 0, rustix::io::ReadWriteFlags::DSYNC).unwrap();
    check("direct, RWF_DSYNC", [0, 1, 0]);
    direct.sync_data().unwrap();
    check("fdatasync", [0, 0, 1]);
    open(&path, libc::O_DIRECT | libc::O_DSYNC).write_all_at(&block.0, 0).unwrap();
    check("direct, O_DSYNC", [0, 1, 0]);
    direct.write_all_at(&block.0[..100], 0).expect_err("what is not in blocks is refused, as devices do");

    let buffered = open(&path, 0);
    buffered.write_all_at(&block.0, 0).unwrap();
    check("buffered", [1, 0, 0]);
    rustix::io::pwritev2(&buffered, &[io::IoSlice::new(&block.0)], 0, rustix::io::ReadWriteFlags::DSYNC).unwrap();
    check("buffered, RWF_DSYNC: an fsync follows", [0, 1, 1]);

    let Ok(mut ring) = IoUring::new(8) else { return eprintln!("skipped: no io_uring here") };
    assert_eq!(ring_write(&mut ring, &direct, &block, 0, 0).unwrap(), BLOCK);
    check("ring, direct", [1, 0, 0]);
    assert_eq!(ring_write(&mut ring, &direct, &block, BLOCK, libc::RWF_DSYNC).unwrap(), BLOCK);
    check("ring, direct, RWF_DSYNC", [0, 1, 0]);
}

#[test]
fn the_power_takes_what_was_not_synced_and_nothing_else() {
    let Some(disk) = disk() else { return };
    let path = disk.path().join("dir/file");
    fs::create_dir(disk.path().join("dir")).unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    let file = open(&path, 0);
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_all().unwrap();
    assert!(!disk.survivor(1, Survival::None).join("dir/file").exists(), "its name is not");
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    file.write_all_at(b"SYNCED and written", 0).unwrap();
    fs::rename(&path, disk.path().join("dir/renamed")).unwrap();
    disk.cut();
    file.write_all_at(b"too late", 0).unwrap_err();
    assert_eq!(fs::read(disk.survivor(1, Survival::None).join("dir/file")).unwrap(), b"synced");
    let all = disk.survivor(1, Survival::All);
    assert_eq!(fs::read(all.join("dir/renamed")).unwrap(), b"SYNCED and written");
    // What survived is a disk like any other.
    fs::write(all.join("dir/more"), b"more").unwrap();
    assert_eq!(fs::read_dir(all.join("dir")).unwrap().count(), 2);
}

#[test]
fn a_mapping_is_written_back_when_it_is_synced() {
    let Some(disk) = disk() else { return };
    let path = disk.path().join("map");
    let file = open(&path, 0);
    file.set_len(BLOCK as u64).unwrap();
    file.sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync};
    // SAFETY: a new mapping of a file that nobody cuts, at an address of the kernel's choice.
    let map = unsafe {
        mmap(std::ptr::null_mut(), BLOCK, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0).unwrap()
    };
    // SAFETY: inside the mapping, which is never unmapped.
    unsafe { map.cast::<u8>().write(42) };
    let first = |path: &Path| {
        let mut byte = [0];
        File::open(path).unwrap().read_exact(&mut byte).unwrap();
        byte[0]
    };
    assert_eq!(first(&disk.survivor(0, Survival::All).join("map")), 0, "the kernel has not written it yet");
    // SAFETY: the whole of the mapping above.
    unsafe { msync(map, BLOCK, MsyncFlags::SYNC).unwrap() };
    assert_eq!(first(&disk.survivor(0, Survival::None).join("map")), 42);
}

#[test]
fn faults_reach_rings_and_files_alike() {
    let Some(disk) = disk() else { return };
    let Ok(mut ring) = IoUring::new(8) else { return eprintln!("skipped: no io_uring here") };
    let block = Aligned([7; BLOCK]);
    let file = open(&disk.path().join("a.wal"), libc::O_DIRECT);
    let mut write = |offset| ring_write(&mut ring, &file, &block, offset, libc::RWF_DSYNC);
    assert_eq!(write(0).unwrap(), BLOCK);
    disk.fault(&Fault::at(2, &[Kind::SyncWrite], Action::Fail(libc::EIO)).of(".wal"));
    assert_eq!(write(0).unwrap(), BLOCK);
    assert_eq!(write(0).unwrap_err().raw_os_error(), Some(libc::EIO));
    disk.fault(&Fault::at(1, &[Kind::SyncWrite], Action::Short(512)));
    let slice = [io::IoSlice::new(&block.0)];
    let written = rustix::io::pwritev2(&file, &slice, 0, rustix::io::ReadWriteFlags::DSYNC);
    assert_eq!(written, Ok(512));
    disk.fault(&Fault::at(1, &[Kind::SyncWrite], Action::Short(512)));
    assert_eq!(write(0).unwrap(), BLOCK, "the kernel's ring writes the rest itself, in a second operation");
    disk.fault(&Fault::at(1, &[Kind::Sync], Action::Fail(libc::EIO)));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
    file.sync_data().unwrap();
    disk.set_capacity(BLOCK as u64);
    assert_eq!(write(BLOCK).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(write(0).unwrap(), BLOCK);
    disk.set_capacity(1 << 20);
    disk.fault(&Fault::at(1, &[Kind::SyncWrite], Action::Delay(100)));
    let began = Instant::now();
    assert_eq!(write(0).unwrap(), BLOCK);
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[test]
fn delayed_writes_are_on_their_way_together() {
    let Some(disk) = disk() else { return };
    let file = open(&disk.path().join("a"), libc::O_DIRECT);
    let block = Aligned([7; BLOCK]);
    for n in 0..4 {
        file.write_all_at(&block.0, n * BLOCK as u64).unwrap();
    }
    file.sync_all().unwrap();
    disk.fault(&Fault::at(1, &[Kind::SyncWrite], Action::Delay(300)).from_then_on());
    let began = Instant::now();
    thread::scope(|scope| {
        for n in 0..4 {
            let (file, block) = (&file, &block);
            scope.spawn(move || {
                let slice = [io::IoSlice::new(&block.0)];
                rustix::io::pwritev2(file, &slice, n * BLOCK as u64, rustix::io::ReadWriteFlags::DSYNC).unwrap();
            });
        }
    });
    assert!(began.elapsed() < Duration::from_millis(900), "one behind the other: {:?}", began.elapsed());
}
