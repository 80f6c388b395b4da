//! A [`Disk`] behind `/dev/fuse`.
//!
//! How durable writes arrive here: a file opened with `O_DIRECT` is served with `FOPEN_DIRECT_IO`, so each write comes as
//! it was made, several at once, and `O_DSYNC` or `RWF_DSYNC` is a flag of the write itself; no `fsync` follows. Through
//! the page cache (no write-back mode: each `write` comes at once, only mappings' pages come later) the flag comes too,
//! and the kernel sends an `fsync` after it. `ci/faults/tests/fuse.rs` shows both.

use crate::disk::{Attributes, Disk};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use libc::{EINVAL, O_DIRECT, O_DSYNC, O_TRUNC};
use std::{
    ffi::OsStr,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Nobody changes a disk behind the kernel's back.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Blocks of direct writes, as of a usual device.
const ALIGNMENT: u64 = 512;

/// What is mounted.
#[derive(Debug)]
pub struct Served(pub Arc<Disk>);

impl Served {
    fn attributes(&self, inode: u64) -> Result<FileAttr, Errno> {
        let Attributes { is_dir, len, used, mode, uid, gid, modified } = self.0.attributes(inode).map_err(errno)?;
        Ok(FileAttr {
            ino: INodeNo(inode),
            size: len,
            blocks: used / 512,
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind: if is_dir { FileType::Directory } else { FileType::RegularFile },
            perm: mode,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn create(&self, req: &Request, dir: INodeNo, name: &OsStr, is_dir: bool, mode: u32) -> Result<FileAttr, Errno> {
        let owner = (req.uid(), req.gid());
        self.attributes(self.0.create(dir.0, text(name)?, is_dir, mode, owner).map_err(errno)?)
    }
}

fn errno(number: i32) -> Errno {
    Errno::from_i32(number)
}

fn text(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(errno(EINVAL))
}

/// How the kernel is to treat an open file.
fn open_flags(flags: i32) -> FopenFlags {
    if flags & O_DIRECT != 0 {
        FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
    } else {
        FopenFlags::empty()
    }
}

/// One answer, good or bad.
macro_rules! answer {
    ($reply:ident, $result:expr, |$value:pat_param| $good:expr) => {
        match $result {
            Ok($value) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Served {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // So that a file can be mapped by one and written directly by another.
        _ = config.add_capabilities(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
        _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = text(name).and_then(|name| self.attributes(self.0.lookup(parent.0, name).map_err(errno)?));
        answer!(reply, found, |attr| reply.entry(&FOR_EVER, &attr, Generation(0)));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.attributes(ino.0), |attr| reply.attr(&FOR_EVER, &attr));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self
            .0
            .set_owner(ino.0, mode, uid, gid)
            .and_then(|()| size.map_or(Ok(()), |size| self.0.resize(ino.0, size)))
            .map_err(errno)
            .and_then(|()| self.attributes(ino.0));
        answer!(reply, done, |attr| reply.attr(&FOR_EVER, &attr));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.create(req, parent, name, true, mode & !umask);
        answer!(reply, made, |attr| reply.entry(&FOR_EVER, &attr, Generation(0)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = text(name).and_then(|name| self.0.remove(parent.0, name, false).map_err(errno));
        answer!(reply, done, |()| reply.ok());
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = text(name).and_then(|name| self.0.remove(parent.0, name, true).map_err(errno));
        answer!(reply, done, |()| reply.ok());
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let exclusive = flags == RenameFlags::RENAME_NOREPLACE;
        let done = if exclusive || flags.is_empty() {
            text(name).and_then(|from| {
                self.0.rename((parent.0, from), (newparent.0, text(newname)?), exclusive).map_err(errno)
            })
        } else {
            Err(errno(EINVAL))
        };
        answer!(reply, done, |()| reply.ok());
    }

    fn open(&self, _req: &Request, _ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        // The kernel cuts the file itself (`FUSE_ATOMIC_O_TRUNC` is not asked for).
        debug_assert_eq!(flags.0 & O_TRUNC, 0);
        reply.opened(FileHandle(0), open_flags(flags.0));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.create(req, parent, name, false, mode & !umask);
        answer!(reply, made, |attr| reply.created(&FOR_EVER, &attr, Generation(0), FileHandle(0), open_flags(flags)));
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.0.read(ino.0, offset, size as usize).map_err(errno), |data| reply.data(&data));
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let aligned = (offset | data.len() as u64).is_multiple_of(ALIGNMENT);
        let written = if flags.0 & O_DIRECT != 0 && !aligned {
            Err(EINVAL)
        } else {
            self.0.write(ino.0, offset, data, flags.0 & O_DSYNC != 0)
        };
        answer!(reply, written.map_err(errno), |len| reply.written(len as u32));
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        // Closing a descriptor promises nothing.
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(reply, self.0.sync(ino.0).map_err(errno), |()| reply.ok());
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(reply, self.0.sync_dir(ino.0).map_err(errno), |()| reply.ok());
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.0.list(ino.0) {
            Ok(entries) => entries,
            Err(number) => return reply.error(errno(number)),
        };
        let special = [(ino.0, true, ".".into()), (ino.0, true, "..".into())];
        for (at, (inode, is_dir, name)) in special.into_iter().chain(entries).enumerate().skip(offset as usize) {
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(inode), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(errno(libc::EOPNOTSUPP));
        }
        answer!(reply, self.0.allocate(ino.0, offset, length, mode == 0).map_err(errno), |()| reply.ok());
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (capacity, free) = self.0.space();
        reply.statfs(capacity / 4096, free / 4096, free / 4096, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
