//! The calls that rustix lacks, each wrapped so that no caller needs `unsafe` beyond what it promises about its memory.
//!
//! Nothing is decided here: arguments in, `errno` out as an [`io::Error`].

use rustix::io::Errno;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
};

/// Nodes that a mask can name; what the kernel is built for at most.
pub(crate) const NODES: u32 = 1024;

const MASK_WORDS: usize = NODES as usize / usize::BITS as usize;

fn check(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets pages of a mapping that are not there yet come from `node`, or from another one where that is full.
///
/// # Safety
///
/// `base..base + len` is a mapping of the caller's, its base on a page's edge.
pub(crate) unsafe fn prefer_node(base: NonNull<u8>, len: usize, node: u32) -> io::Result<()> {
    const MPOL_PREFERRED: libc::c_int = 1;
    let mut mask = [0_usize; MASK_WORDS];
    let Some(word) = mask.get_mut((node / usize::BITS) as usize) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    *word = 1 << (node % usize::BITS);
    // The kernel reads one bit less than it is told.
    let bits = libc::c_ulong::from(NODES) + 1;
    // SAFETY: the range is the caller's, and where absent pages will come from changes no byte of it; the mask holds the
    // `NODES` bits that the kernel reads.
    check(unsafe { libc::syscall(libc::SYS_mbind, base.as_ptr(), len, MPOL_PREFERRED, mask.as_ptr(), bits, 0) })
}

/// The node of the page at `at`, which is brought in if it is absent.
///
/// # Safety
///
/// `at` lies in a mapping of the caller's, readable, with storage behind it.
pub(crate) unsafe fn node_of(at: NonNull<u8>) -> io::Result<u32> {
    const MPOL_F_NODE: libc::c_ulong = 1;
    const MPOL_F_ADDR: libc::c_ulong = 2;
    let mut node: libc::c_int = -1;
    let no_mask = std::ptr::null_mut::<libc::c_ulong>();
    // SAFETY: the kernel looks at the page, which is the caller's, without changing it, and writes one integer to `node`.
    check(unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut node, no_mask, 0, at.as_ptr(), MPOL_F_NODE | MPOL_F_ADDR)
    })?;
    u32::try_from(node).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Writes up to `len` bytes from `at` to `offset` of a file; with `durable`, done when they are. No slice is formed: others
/// may look at the memory, and change what lies beside the range.
///
/// # Safety
///
/// `at..at + len` lies in a mapping of the caller's, and nothing changes there meanwhile but by atomics.
pub(crate) unsafe fn write_at(
    fd: BorrowedFd<'_>,
    at: *const u8,
    len: usize,
    offset: u64,
    durable: bool,
) -> std::result::Result<usize, Errno> {
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    let (fd, range) = (fd.as_raw_fd(), libc::iovec { iov_base: at.cast_mut().cast(), iov_len: len });
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel reads the range, which is the caller's, and writes nothing to memory.
    let written = unsafe { libc::pwritev2(fd, &raw const range, 1, offset, flags) };
    usize::try_from(written).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// What handles a signal.
pub(crate) struct Handler(libc::sigaction);

/// A handler that is told where and why.
pub(crate) type OnSignal = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

impl Handler {
    /// Whether it is this function.
    pub(crate) fn is(&self, function: OnSignal) -> bool {
        self.0.sa_sigaction == function as usize
    }

    /// Does with a SIGBUS what the kernel would have done if this were the handler.
    ///
    /// # Safety
    ///
    /// Called by a handler, with the arguments that it got.
    pub(crate) unsafe fn call(&self, signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: by the contract `info` is the kernel's.
        let sent = unsafe { (*info).si_code } <= 0;
        match self.0.sa_sigaction {
            // Nobody can ignore a fault, but a signal that was sent.
            libc::SIG_IGN if sent => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                // SAFETY: all zeros is a valid value: no flags, no mask, and SIG_DFL is 0.
                let default: libc::sigaction = unsafe { std::mem::zeroed() };
                // SAFETY: both are async-signal-safe. A fault repeats when the handler returns, and ends the process.
                _ = unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
                if sent {
                    // SAFETY: as above; the signal waits until the handler has returned.
                    _ = unsafe { libc::raise(signal) };
                }
            }
            function if self.0.sa_flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: a handler that asked for the information was installed as a function of this type.
                let function: OnSignal = unsafe { std::mem::transmute(function) };
                function(signal, info, context);
            }
            function => {
                // SAFETY: a handler that did not is a function of one number.
                let function: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(function) };
                function(signal);
            }
        }
    }
}

/// What handles SIGBUS now.
pub(crate) fn bus_handler() -> io::Result<Handler> {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and the call writes what is there to a place of that size.
    check(unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), now.as_mut_ptr()) }.into())?;
    // SAFETY: the call succeeded, so it wrote all of it; and zeros, before, were a valid value too.
    Ok(Handler(unsafe { now.assume_init() }))
}

/// Sets it. The handler runs on the alternate stack where a thread has one.
pub(crate) fn set_bus_handler(handler: OnSignal) -> io::Result<()> {
    // SAFETY: all zeros is a valid value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler is a function of the type that SA_SIGINFO asks for, it lives for ever, and whatever it does must
    // be safe at any point of the program, which its own module argues.
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) }.into())
}

/// The address whose page does not exist, if that is why the signal came.
///
/// # Safety
///
/// `info` is what a handler of SIGBUS got.
pub(crate) unsafe fn missing_page(info: *const libc::siginfo_t) -> Option<usize> {
    const BUS_ADRERR: libc::c_int = 2;
    // SAFETY: by the contract it is the kernel's.
    let info = unsafe { &*info };
    // SAFETY: a fault has an address; the field is only looked at then.
    (info.si_code == BUS_ADRERR).then(|| unsafe { info.si_addr() } as usize)
}

/// Puts private zeros in place of whatever is mapped at `at`; whether that worked. Async-signal-safe: rustix makes the
/// system calls itself and leaves `errno` alone.
///
/// # Safety
///
/// `at..at + len` are whole pages of a mapping whose owner expects it.
pub(crate) unsafe fn map_zeros(at: *mut libc::c_void, len: usize, writable: bool) -> bool {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let rights = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: by the contract what is replaced is the caller's to replace.
    let mapped = unsafe { mmap_anonymous(at, len, rights, flags) }.is_ok();
    if mapped && writable {
        // A child does not have the rest of the mapping either. If this fails it has some zeros.
        // SAFETY: the range was mapped just now, and what children inherit changes no byte of it.
        _ = unsafe { madvise(at, len, Advice::LinuxDontFork) };
    }
    mapped
}
