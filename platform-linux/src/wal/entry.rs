//! Operations of a log in a ring that the *program* owns, among its sockets and timers.
//!
//! ```text
//! machine.next_op() ──▶ entry(op, file, memory, buffer).user_data(…) ──▶ the program's queue
//! machine.complete(op.id(), outcome(result)) ◀── its completion
//! ```
//!
//! What a driver otherwise sees to is then the program's:
//!
//! - The memory stays mapped until the completion. What the kernel finds at the address is what goes into the file.
//! - The file was opened with `O_DIRECT` where that works, and all its bytes were written before.
//! - The file whose lock makes this process the log's writer is among the ring's registered files, so that
//!   the lock is not free before a dead process's last write has landed.
//! - Completions are as many as entries: a queue that overflows loses nothing on kernels since 5.5, but stops.
//! - No `IO_LINK` between operations of a log: the machine hands out a sync when what it covers has completed.
//!
//! Never here: the ring.

use chronicle_core::{
    Region,
    wal::{Op, Outcome},
};
use chronicle_platform::{Result, Trouble};
use io_uring::{IoUring, Probe, opcode, squeue, types};
use std::io;

/// A segment's file, as a ring names it.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// By its descriptor.
    Fd(types::Fd),
    /// By its place among the ring's registered files.
    Fixed(types::Fixed),
}

impl From<types::Fd> for Target {
    fn from(fd: types::Fd) -> Target {
        Target::Fd(fd)
    }
}

impl From<types::Fixed> for Target {
    fn from(fixed: types::Fixed) -> Target {
        Target::Fixed(fixed)
    }
}

/// The write flag by which a write is done only when its bytes, and what is needed to find them, are durable.
const DURABLE: i32 = libc::RWF_DSYNC;

/// Whether this ring carries out the operations of a log; if not, why.
///
/// # Errors
///
/// [`chronicle_platform::TroubleKind::Unsupported`] on a kernel before 5.6.
pub fn supports_wal(ring: &IoUring) -> Result<()> {
    let trouble = |source: io::Error| Trouble::new("probe io_uring", "io_uring", source);
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(trouble)?;
    let needed = [opcode::Write::CODE, opcode::WriteFixed::CODE, opcode::Fsync::CODE];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        return Ok(());
    }
    Err(trouble(io::ErrorKind::Unsupported.into()).noting("writes of a log need kernel 5.6"))
}

/// An operation as an entry, whose user data is the operation's number
/// ([`OpId::from_number`](chronicle_core::wal::OpId::from_number) takes it back); a program that
/// has other operations in its ring sets its own. `memory` is the machine's region, and `buffer` its place among the
/// ring's registered buffers, if the whole region is one of them. `None` for operations that change names.
///
/// Pushing an entry is `unsafe` in that crate. The kernel writes nothing to the program's memory for these; it reads the
/// write's range until completion, so `memory` must stay, and the machine promises that those bytes do not change.
///
/// # Panics
///
/// If the operation's range is not inside `memory`.
pub fn entry<R: Region>(op: &Op, target: impl Into<Target>, memory: &R, buffer: Option<u16>) -> Option<squeue::Entry> {
    let target = target.into();
    let entry = match *op {
        Op::Write { offset, from, len, sync, .. } => {
            let all = memory.len();
            assert!(
                from.checked_add(len as usize).is_some_and(|end| end <= all),
                "bug: a write of {len} bytes from {from} of a memory of {all}"
            );
            let at = memory.base().as_ptr().wrapping_add(from).cast_const();
            let flags = if sync { DURABLE } else { 0 };
            match (target, buffer) {
                (Target::Fd(fd), None) => opcode::Write::new(fd, at, len).offset(offset).rw_flags(flags).build(),
                (Target::Fixed(fixed), None) => {
                    opcode::Write::new(fixed, at, len).offset(offset).rw_flags(flags).build()
                }
                (Target::Fd(fd), Some(buffer)) => {
                    opcode::WriteFixed::new(fd, at, len, buffer).offset(offset).rw_flags(flags).build()
                }
                (Target::Fixed(fixed), Some(buffer)) => {
                    opcode::WriteFixed::new(fixed, at, len, buffer).offset(offset).rw_flags(flags).build()
                }
            }
        }
        Op::Sync { .. } => match target {
            Target::Fd(fd) => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            Target::Fixed(fixed) => opcode::Fsync::new(fixed).flags(types::FsyncFlags::DATASYNC).build(),
        },
        Op::Prepare { .. } | Op::Recycle { .. } => return None,
    };
    Some(entry.user_data(op.id().number().into()))
}

/// What a completion says. Fewer bytes than asked for are [`Outcome::Done`] with so many: the machine knows the rest.
///
/// A cancelled operation did not begin, and is to be tried again: the kernel cancels what a thread has left to its
/// workers when that thread ends. It never counts as done.
#[must_use]
pub fn outcome(result: i32) -> Outcome {
    match u32::try_from(result) {
        Ok(done) => Outcome::Done(done),
        Err(_) => failed(result.saturating_neg()),
    }
}

/// What an error says, of a completion or of a call.
pub(super) fn failed(errno: i32) -> Outcome {
    match errno {
        libc::EINTR | libc::EAGAIN | libc::ECANCELED => Outcome::Again,
        errno => Outcome::Failed(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_core::{RegionMut, wal::OpId};
    use chronicle_platform::{MemoryOptions, Platform};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_completion_is_what_it_says_and_nothing_more() {
        for (result, expected) in [
            (4096, Outcome::Done(4096)),
            (512, Outcome::Done(512)),
            (0, Outcome::Done(0)),
            (-4, Outcome::Again),
            (-11, Outcome::Again),
            (-125, Outcome::Again),
            (-5, Outcome::Failed(5)),
            (-28, Outcome::Failed(28)),
        ] {
            assert_eq!(outcome(result), expected, "{result}");
        }
        assert_eq!(outcome(i32::MIN), Outcome::Failed(i32::MAX), "no result of the kernel's");
    }

    #[test]
    fn a_programs_own_ring_writes_the_log() {
        let Ok(mut ring) = IoUring::new(8) else { return eprintln!("skipped: no io_uring here") };
        supports_wal(&ring).unwrap();
        let file = tempfile::tempfile().unwrap();
        let fd = types::Fd(file.as_raw_fd());
        ring.submitter().register_files(&[fd.0]).unwrap();
        let memory = Linux.memory(8192, &MemoryOptions::default()).unwrap().map;
        let whole = libc::iovec { iov_base: memory.base().as_ptr().cast(), iov_len: 8192 };
        // SAFETY: the mapping outlives the ring's use, below.
        unsafe { ring.submitter().register_buffers(&[whole]) }.unwrap();
        memory.window_mut().copy_in(0, &[1; 4096]);
        memory.window_mut().copy_in(4096, &[2; 4096]);

        let op = |number, from, offset| Op::Write {
            op: OpId::from_number(number),
            segment: 1,
            offset,
            from,
            len: 4096,
            sync: number % 2 == 0,
        };
        let sync = Op::Sync { op: OpId::from_number(4), segment: 1 };
        let entries = [
            entry(&op(0, 0, 4096), fd, &memory, None).unwrap(),
            entry(&op(1, 4096, 0), types::Fixed(0), &memory, None).unwrap(),
            entry(&op(2, 0, 12288), fd, &memory, Some(0)).unwrap(),
            entry(&op(3, 4096, 8192), types::Fixed(0), &memory, Some(0)).unwrap(),
            entry(&sync, fd, &memory, None).unwrap(),
        ];
        // SAFETY: the memory stays until all have completed, below.
        unsafe { ring.submission().push_multiple(&entries) }.unwrap();
        ring.submit_and_wait(entries.len()).unwrap();
        let mut done: Vec<_> = ring.completion().map(|done| (done.user_data(), outcome(done.result()))).collect();
        done.sort_by_key(|(op, _)| *op);
        let written = Outcome::Done(4096);
        assert_eq!(done, [(0, written), (1, written), (2, written), (3, written), (4, Outcome::Done(0))]);
        let mut bytes = vec![0; 4 * 4096];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(bytes.chunks(4096).map(|block| block[7]).collect::<Vec<_>>(), [2, 1, 2, 1]);

        assert!(entry(&Op::Recycle { op: OpId::from_number(1), segment: 1 }, fd, &memory, None).is_none());
        std::panic::catch_unwind(|| entry(&op(0, 8192, 0), fd, &memory, None)).expect_err("outside");
    }
}
