//! Files, directories and what they lie on.
//!
//! Every descriptor is close-on-exec. Only regular files are opened: a symbolic link in the last component, a pipe or
//! a device in a file's place is refused without being followed or waited for. Modes are set after creation, whatever the umask.
//! A path in a [`Trouble`] is the name the file was opened by.

use crate::{lease::Holder, sys};
use chronicle_platform::{Entry, File, FileId, Lock, Medium, Open, Result, Trouble};
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};
use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// An open file.
#[derive(Debug)]
pub struct DarwinFile {
    file: std::fs::File,
    path: Arc<Path>,
    holder: Holder,
}

impl DarwinFile {
    /// A file that the kernel gave.
    pub(crate) fn new(file: std::fs::File, path: &Path) -> DarwinFile {
        DarwinFile { file, path: path.into(), holder: Holder::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        self.path.clone()
    }

    fn trouble(&self, operation: &'static str) -> impl Fn(io::Error) -> Trouble {
        move |source| Trouble::new(operation, &*self.path, source)
    }
}

impl Drop for DarwinFile {
    fn drop(&mut self) {
        self.holder.close(&self.file);
    }
}

impl AsFd for DarwinFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl File for DarwinFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut at = 0;
        while at < buf.len() {
            match self.file.read_at(&mut buf[at..], offset + at as u64) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::new("read", &*self.path, error)),
            }
        }
        Ok(at)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset).map_err(self.trouble("write"))
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(self.trouble("stat"))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(self.trouble("set length"))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        let metadata = self.file.metadata().map_err(self.trouble("allocate"))?;
        let Some(more) = len.checked_sub(metadata.len()).filter(|&more| more > 0) else { return Ok(()) };
        // Storage is reserved behind the end only; a file with holes before it cannot be made whole.
        if metadata.blocks() * 512 < metadata.len() {
            return Err(Trouble::new("allocate", &*self.path, io::ErrorKind::Unsupported));
        }
        let more = i64::try_from(more).map_err(|_| Trouble::new("allocate", &*self.path, Errno::FBIG))?;
        sys::preallocate(&self.file, more).map_err(self.trouble("allocate"))?;
        self.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        full_sync(&self.file).map_err(|errno| Trouble::new("sync", &*self.path, errno))
    }

    fn id(&self) -> Result<FileId> {
        let metadata = self.file.metadata().map_err(self.trouble("stat"))?;
        Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
    }

    fn try_lock(&self, lock: Lock) -> Result<bool> {
        self.holder.try_lock(self, lock)
    }

    fn unlock(&self) -> Result<()> {
        self.holder.unlock(self)
    }

    /// There are no seals on this system.
    fn is_sealed(&self) -> Result<bool> {
        Ok(false)
    }

    fn modified_ns(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(self.trouble("stat"))?;
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        Ok(seconds.saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec().cast_unsigned()))
    }
}

/// To the medium and through the device's cache; where the file system refuses that, as far as it goes.
pub(crate) fn full_sync(fd: impl AsFd) -> std::result::Result<(), Errno> {
    match rustix::io::retry_on_intr(|| fs::fcntl_fullfsync(&fd)) {
        Err(Errno::NOTSUP | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL) => {
            rustix::io::retry_on_intr(|| fs::fsync(&fd))
        }
        other => other,
    }
}

/// Mode of directories.
const DIRECTORY: u32 = 0o750;

pub(crate) fn open(path: &Path, how: Open) -> Result<DarwinFile> {
    match how {
        Open::Read => open_existing(path, OFlags::RDONLY),
        Open::Write => open_existing(path, OFlags::RDWR),
        Open::Create => create(path, 0o640),
        Open::Ensure => ensure(path, 0o640),
        Open::EnsurePrivate => ensure(path, 0o600),
    }
}

fn open_flags(path: &Path, flags: OFlags, mode: u32) -> Result<DarwinFile> {
    // NONBLOCK: opening a pipe must not wait for its other end. Regular files ignore it.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::io::retry_on_intr(|| fs::open(path, flags, Mode::from_raw_mode(mode as fs::RawMode)))
        .map_err(|errno| Trouble::new("open", path, errno))?;
    let file = std::fs::File::from(fd);
    let kind = file.metadata().map_err(|error| Trouble::new("open", path, error))?.file_type();
    if kind.is_file() {
        return Ok(DarwinFile::new(file, path));
    }
    let found = match kind {
        kind if kind.is_dir() => "a directory, not a file",
        kind if kind.is_fifo() => "a pipe, not a file",
        _ => "a device, not a file",
    };
    Err(Trouble::new("open", path, io::Error::new(io::ErrorKind::InvalidInput, found)))
}

fn open_existing(path: &Path, access: OFlags) -> Result<DarwinFile> {
    open_flags(path, access, 0)
}

fn create(path: &Path, mode: u32) -> Result<DarwinFile> {
    let file = open_flags(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)?;
    file.file
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(|error| Trouble::new("set mode", path, error))?;
    Ok(file)
}

fn ensure(path: &Path, mode: u32) -> Result<DarwinFile> {
    use chronicle_platform::TroubleKind::{Exists, NotFound};
    loop {
        match open_existing(path, OFlags::RDWR) {
            Err(trouble) if trouble.kind() == NotFound => {}
            other => return other,
        }
        match create(path, mode) {
            // Somebody else created it between the two calls, and may have removed it again: look once more.
            Err(trouble) if trouble.kind() == Exists => {}
            other => return other,
        }
    }
}

/// The directory of a name: `.` for a bare one.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

pub(crate) fn create_dirs(path: &Path) -> Result<()> {
    create_dirs_below(path, true)
}

fn create_dirs_below(path: &Path, parents: bool) -> Result<()> {
    let trouble = |error| Trouble::new("create directory", path, error);
    match std::fs::DirBuilder::new().mode(DIRECTORY).create(path) {
        Ok(()) => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(DIRECTORY)).map_err(trouble)?;
            sync_dir(parent(path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && parents && path.parent().is_some() => {
            create_dirs(parent(path))?;
            // Once: some systems say "not found" where the parent is there and takes no directory, `/proc` for one.
            create_dirs_below(path, false)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            // Whoever created it may have died before its name was durable. A parent that we may not read was not
            // created by us, and its names are its owner's business.
            match sync_dir(parent(path)) {
                Err(trouble) if trouble.kind() == chronicle_platform::TroubleKind::Denied => Ok(()),
                other => other,
            }
        }
        Err(error) => Err(trouble(error)),
    }
}

pub(crate) fn list(dir: &Path) -> Result<Vec<Entry>> {
    let trouble = |error| Trouble::new("list", dir, error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.file_type() {
            Ok(kind) => entries.push(Entry { name, is_dir: kind.is_dir() }),
            // Removed while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(trouble(error)),
        }
    }
    entries.sort();
    Ok(entries)
}

pub(crate) fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Trouble::new("stat", path, error)),
    }
}

pub(crate) fn is_dir(path: &Path) -> Result<bool> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match path.symlink_metadata() {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
        Err(error) => Err(Trouble::new("stat", path, error)),
    }
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| Trouble::new("rename", from, error))
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|error| Trouble::new("remove", path, error))
}

pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    std::fs::remove_dir(path).map_err(|error| Trouble::new("remove directory", path, error))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let dir = if dir == Path::new("") { Path::new(".") } else { dir };
    let trouble = |errno| Trouble::new("sync directory", dir, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::io::retry_on_intr(|| fs::open(dir, flags, Mode::empty()))
        .map_err(|errno| Trouble::new("open directory", dir, errno))?;
    full_sync(&fd).map_err(trouble)
}

pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    let stat = fs::statvfs(path).map_err(|errno| Trouble::new("free bytes", path, errno))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Memory if it is a tmpfs. A RAM disk looks like any other disk, and is treated as one.
pub(crate) fn medium(path: &Path) -> Result<Medium> {
    let stat = fs::statfs(path).map_err(|errno| Trouble::new("medium", path, errno))?;
    let is_tmpfs = stat.f_fstypename.iter().map(|&c| c as u8).take_while(|&c| c != 0).eq(*b"tmpfs");
    Ok(if is_tmpfs { Medium::Memory } else { Medium::Disk })
}

/// None that every machine has.
pub(crate) fn memory_dir() -> Option<PathBuf> {
    None
}
