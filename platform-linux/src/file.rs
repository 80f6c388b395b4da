//! Files, directories and what they lie on.
//!
//! Every descriptor is close-on-exec. Only regular files are opened: a symbolic link in the last component, a pipe or
//! a device in a file's place is refused without being followed or waited for. Modes are set after creation, whatever the umask.
//! A path in a [`Trouble`] is the name the file was opened by.

use crate::lease::Holder;
use chronicle_platform::{Entry, File, FileId, Lock, Medium, Open, Result, Trouble};
use rustix::{
    fs::{self, Access, FallocateFlags, Mode, OFlags},
    io::Errno,
    param::page_size,
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
pub struct LinuxFile {
    file: std::fs::File,
    path: Arc<Path>,
    holder: Holder,
}

impl LinuxFile {
    /// A regular file that the kernel gave.
    pub(crate) fn new(file: std::fs::File, path: &Path) -> LinuxFile {
        LinuxFile { file, path: path.into(), holder: Holder::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        self.path.clone()
    }

    /// Size of the pages that a mapping of it is made of: the kernel's own but on hugetlbfs.
    pub(crate) fn page_len(&self) -> Result<usize> {
        let metadata = self.file.metadata().map_err(self.trouble("map"))?;
        // Only hugetlbfs has blocks of more than a page that are pages; other systems' are preferred sizes of reads.
        if metadata.blksize() > page_size() as u64 {
            let stat = fs::fstatfs(&self.file).map_err(|errno| Trouble::new("map", &*self.path, errno))?;
            if stat.f_type as u64 & 0xffff_ffff == HUGETLBFS {
                return Ok(metadata.blksize() as usize);
            }
        }
        Ok(page_size())
    }

    fn trouble(&self, operation: &'static str) -> impl Fn(io::Error) -> Trouble {
        move |source| Trouble::new(operation, &*self.path, source)
    }

    /// For file systems that cannot preallocate: zeros behind the present end. Holes before it cannot be filled
    /// without racing those who write there, so a file with holes is refused.
    fn write_zeros(&self, len: u64) -> Result<()> {
        const CHUNK: usize = 1 << 16;
        let metadata = self.file.metadata().map_err(self.trouble("allocate"))?;
        if metadata.blocks() * 512 < metadata.len() {
            return Err(Trouble::new("allocate", &*self.path, Errno::OPNOTSUPP));
        }
        let mut at = metadata.len();
        while at < len {
            let n = (len - at).min(CHUNK as u64);
            self.file.write_all_at(&[0; CHUNK][..n as usize], at).map_err(self.trouble("allocate"))?;
            at += n;
        }
        Ok(())
    }
}

impl Drop for LinuxFile {
    fn drop(&mut self) {
        self.holder.close(&self.file);
    }
}

impl AsFd for LinuxFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl File for LinuxFile {
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
        if len == 0 {
            return Ok(());
        }
        match rustix::io::retry_on_intr(|| fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(len),
            other => other.map_err(|errno| Trouble::new("allocate", &*self.path, errno)),
        }
    }

    fn sync(&self) -> Result<()> {
        // fsync, not fdatasync: a length that grew is part of what must survive, and so are names' owners and modes.
        self.file.sync_all().map_err(self.trouble("sync"))
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

    fn is_sealed(&self) -> Result<bool> {
        match fs::fcntl_get_seals(&self.file) {
            Ok(seals) => Ok(seals.contains(fs::SealFlags::SHRINK | fs::SealFlags::GROW)),
            // No file of a kind that could be sealed.
            Err(Errno::INVAL) => Ok(false),
            Err(errno) => Err(Trouble::new("look at seals", &*self.path, errno)),
        }
    }

    fn modified_ns(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(self.trouble("stat"))?;
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        Ok(seconds.saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec().cast_unsigned()))
    }
}

/// The magic number of a file system whose files are made of huge pages.
const HUGETLBFS: u64 = 0x9584_58f6;

/// Mode of directories.
const DIRECTORY: u32 = 0o750;

pub(crate) fn open(path: &Path, how: Open) -> Result<LinuxFile> {
    match how {
        Open::Read => open_existing(path, OFlags::RDONLY),
        Open::Write => open_existing(path, OFlags::RDWR),
        Open::Create => create(path, 0o640),
        Open::Ensure => ensure(path, 0o640),
        Open::EnsurePrivate => ensure(path, 0o600),
    }
}

fn open_flags(path: &Path, flags: OFlags, mode: u32) -> Result<LinuxFile> {
    // NONBLOCK: opening a pipe must not wait for its other end. Regular files ignore it.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::io::retry_on_intr(|| fs::open(path, flags, Mode::from_raw_mode(mode)))
        .map_err(|errno| Trouble::new("open", path, errno))?;
    let file = std::fs::File::from(fd);
    let kind = file.metadata().map_err(|error| Trouble::new("open", path, error))?.file_type();
    if kind.is_file() {
        return Ok(LinuxFile::new(file, path));
    }
    let found = match kind {
        kind if kind.is_dir() => "a directory, not a file",
        kind if kind.is_fifo() => "a pipe, not a file",
        _ => "a device, not a file",
    };
    Err(Trouble::new("open", path, io::Error::new(io::ErrorKind::InvalidInput, found)))
}

fn open_existing(path: &Path, access: OFlags) -> Result<LinuxFile> {
    open_flags(path, access, 0)
}

fn create(path: &Path, mode: u32) -> Result<LinuxFile> {
    let file = open_flags(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)?;
    file.file
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(|error| Trouble::new("set mode", path, error))?;
    Ok(file)
}

fn ensure(path: &Path, mode: u32) -> Result<LinuxFile> {
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
    rustix::io::retry_on_intr(|| fs::fsync(&fd)).map_err(trouble)
}

pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    let stat = fs::statvfs(path).map_err(|errno| Trouble::new("free bytes", path, errno))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(crate) fn medium(path: &Path) -> Result<Medium> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let stat = fs::statfs(path).map_err(|errno| Trouble::new("medium", path, errno))?;
    // The kernel's magic numbers are 32 bits; the field's width and sign differ between machines.
    match stat.f_type as u64 & 0xffff_ffff {
        TMPFS | RAMFS | HUGETLBFS => Ok(Medium::Memory),
        _ => Ok(Medium::Disk),
    }
}

pub(crate) fn memory_dir() -> Option<PathBuf> {
    let shm = PathBuf::from("/dev/shm");
    let usable = fs::access(&shm, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (usable && matches!(medium(&shm), Ok(Medium::Memory))).then_some(shm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_stand_in_for_preallocation_and_holes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(&dir.path().join("file"), Open::Create).unwrap();
        file.write_at(b"before", 0).unwrap();
        file.write_zeros(200_001).unwrap();
        let mut bytes = vec![1; 300_000];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 200_001);
        assert!(bytes.starts_with(b"before") && bytes[6..200_001].iter().all(|&byte| byte == 0));
        assert!(file.file.metadata().unwrap().blocks() * 512 >= 200_001, "there is storage behind it");
        file.write_zeros(10).unwrap();
        assert_eq!(file.len().unwrap(), 200_001);

        let sparse = open(&dir.path().join("sparse"), Open::Create).unwrap();
        sparse.set_len(1 << 20).unwrap();
        assert_eq!(sparse.write_zeros(2 << 20).unwrap_err().errno(), Some(Errno::OPNOTSUPP.raw_os_error()));
    }

    #[test]
    fn names_without_a_directory_are_here() {
        assert_eq!(parent(Path::new("name")), Path::new("."));
        assert_eq!(parent(Path::new("a/name")), Path::new("a"));
        assert_eq!(parent(Path::new("/")), Path::new("."));
        sync_dir(Path::new("")).unwrap();
    }
}
