//! The calls that rustix lacks, each wrapped so that no caller needs `unsafe` beyond what it promises about its memory.
//!
//! Nothing is decided here: arguments in, `errno` out as an [`io::Error`].

use libc::{c_int, c_void};
use rustix::io::Errno;
use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::AtomicU32,
};

fn check(returned: c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes up to `len` bytes from `at` to `offset` of a file. No slice is formed: others may look at the memory, and change
/// what lies beside the range.
///
/// # Safety
///
/// `at..at + len` lies in a mapping of the caller's, and nothing changes there meanwhile but by atomics.
pub(crate) unsafe fn write_at(fd: impl AsFd, at: *const u8, len: usize, offset: u64) -> Result<usize, Errno> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads the range, which is the caller's, and writes nothing to memory.
    let written = unsafe { libc::pwrite(fd.as_fd().as_raw_fd(), at.cast(), len, offset) };
    usize::try_from(written).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Sleeps while `word` is `seen`, between processes.
pub(crate) fn wait(word: &AtomicU32, seen: u32, timeout_ns: u64) -> io::Result<()> {
    // SAFETY: the kernel reads 4 aligned bytes that the borrow keeps valid, atomically, and writes none.
    check(unsafe {
        libc::os_sync_wait_on_address_with_timeout(
            word.as_ptr().cast(),
            seen.into(),
            size_of::<u32>(),
            libc::OS_SYNC_WAIT_ON_ADDRESS_SHARED,
            libc::OS_CLOCK_MACH_ABSOLUTE_TIME,
            timeout_ns,
        )
    })
}

/// Wakes all who sleep on `word`, between processes.
pub(crate) fn wake(word: &AtomicU32) -> io::Result<()> {
    // SAFETY: the address is a key; the kernel neither reads nor writes there.
    check(unsafe {
        libc::os_sync_wake_by_address_all(word.as_ptr().cast(), size_of::<u32>(), libc::OS_SYNC_WAKE_BY_ADDRESS_SHARED)
    })
}

/// Reserves `len` bytes of storage behind the end of a file, all or none; its length stays.
pub(crate) fn preallocate(file: impl AsFd, len: i64) -> io::Result<()> {
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: len,
        fst_bytesalloc: 0,
    };
    // SAFETY: the descriptor is open for as long as the borrow, and `store` is what this command reads and writes.
    check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_PREALLOCATE, &raw mut store) })
}

/// Keeps a mapping from forked children.
///
/// # Safety
///
/// `base..base + len` is a mapping of the caller's.
pub(crate) unsafe fn do_not_inherit(base: *mut c_void, len: usize) -> io::Result<()> {
    // SAFETY: the range is the caller's, and what children inherit changes no byte of it.
    check(unsafe { libc::minherit(base, len, libc::VM_INHERIT_NONE) })
}

/// Fills `bytes`, up to 256 of them, with unpredictable ones.
pub(crate) fn entropy(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the call writes `len` bytes at the start of a slice of that length.
    check(unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) })
}

/// A value of the kernel's that is a text of up to 63 bytes.
pub(crate) fn text(name: &CStr) -> io::Result<String> {
    let mut bytes = [0_u8; 64];
    let mut len = bytes.len();
    // SAFETY: the name ends in a zero, the call writes at most `len` bytes to a buffer of that length and the count to
    // `len`, and nothing is set.
    check(unsafe {
        libc::sysctlbyname(name.as_ptr(), bytes.as_mut_ptr().cast(), &raw mut len, std::ptr::null_mut(), 0)
    })?;
    let text = CStr::from_bytes_until_nul(&bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(text.to_string_lossy().into_owned())
}

/// When a process started, in microseconds since 1970.
pub(crate) fn process_start(pid: c_int) -> Option<u64> {
    let mut info = std::mem::MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = size_of::<libc::proc_bsdinfo>() as c_int;
    // SAFETY: the call writes at most `size` bytes to a buffer of that size.
    let written = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, info.as_mut_ptr().cast(), size) };
    if written != size {
        return None;
    }
    // SAFETY: the structure is integers only, all of which the call wrote; before they were zeros.
    let info = unsafe { info.assume_init() };
    Some(info.pbi_start_tvsec.saturating_mul(1_000_000).saturating_add(info.pbi_start_tvusec))
}
