//! Giving memory to another process: a descriptor over a Unix socket, and what the receiver insists on.
//!
//! The receiver believes nothing: what arrives must be a regular file, and, unless it says otherwise, sealed against
//! shrinking and growing, so that its length is the same for ever and no page can be taken away under a mapping. It has
//! the same rights to the memory as its sender, which may still punch holes into it: they read as zeros, and only in reserved
//! huge pages, where none is left to fill them, does a touch raise SIGBUS. What the bytes mean is for the protocol's own attaching to check.
//!
//! ```
//! use chronicle_core::{Region, RegionMut};
//! use chronicle_platform::{Accept, MemoryOptions, Platform};
//! use chronicle_platform_linux::{Linux, LinuxFile};
//! use std::os::unix::net::UnixStream;
//!
//! let (mine, theirs) = UnixStream::pair()?;
//! let memory = Linux.memory(1 << 16, &MemoryOptions::default())?;
//! memory.file.send(&mine)?;
//!
//! // In the other process:
//! let file = LinuxFile::receive(&theirs, Accept::Sealed)?;
//! let map = Linux.map_mut(&file, 1 << 16)?;
//! map.window_mut().store(0, 7);
//! assert_eq!(memory.map.window().load(0), 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::LinuxFile;
use chronicle_platform::{Accept, File, Result, Trouble};
use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

/// The byte that carries the descriptor; it means nothing.
const CARRIER: u8 = b'm';

/// Stands for the path of what arrived without one.
const RECEIVED: &str = "received memory";

impl LinuxFile {
    /// Sends the descriptor, and one byte with it. The receiver gets the rights that this descriptor has.
    ///
    /// # Errors
    ///
    /// If the socket takes nothing.
    pub fn send(&self, to: &UnixStream) -> Result<()> {
        let fds = [self.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "bug: the space is for one descriptor");
        let carrier = [CARRIER];
        retry_on_intr(|| sendmsg(to, &[IoSlice::new(&carrier)], &mut control, SendFlags::NOSIGNAL))
            .map_err(|errno| Trouble::new("send", self.path(), errno))?;
        Ok(())
    }

    /// Receives what [`LinuxFile::send`] sent, waiting for it as long as the socket's read time-out says.
    ///
    /// # Errors
    ///
    /// If nothing more comes, if what comes is no file, or if it is not what is accepted.
    pub fn receive(from: &UnixStream, accept: Accept) -> Result<LinuxFile> {
        let trouble = |source: io::Error| Trouble::new("receive", RECEIVED, source);
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message =
            retry_on_intr(|| recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC));
        let message = message.map_err(|errno| trouble(errno.into()))?;
        // Those that are not kept close when they are dropped; the kernel drops what has no room.
        let mut fds: Vec<OwnedFd> = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        if message.bytes == 0 {
            return Err(trouble(io::ErrorKind::UnexpectedEof.into()).noting("the sender is gone"));
        }
        match fds.pop() {
            Some(fd) if fds.is_empty() => LinuxFile::adopt(fd, accept),
            _ => Err(trouble(io::ErrorKind::InvalidData.into()).noting("what came is not one descriptor")),
        }
    }

    /// Takes a descriptor that came some other way, such as an inherited one.
    ///
    /// # Errors
    ///
    /// If it is no regular file, or not what is accepted.
    pub fn adopt(fd: OwnedFd, accept: Accept) -> Result<LinuxFile> {
        let trouble = |source: io::Error| Trouble::new("attach", RECEIVED, source);
        let file = std::fs::File::from(fd);
        if !file.metadata().map_err(trouble)?.is_file() {
            return Err(trouble(Errno::INVAL.into()).noting("it is no regular file"));
        }
        let file = LinuxFile::new(file, Path::new(RECEIVED));
        if accept == Accept::Sealed && !file.is_sealed()? {
            let note = "it is not sealed against shrinking and growing, so whoever has it can take pages away under a \
                        mapping; seal it, or accept any and guard the mapping";
            return Err(trouble(io::ErrorKind::PermissionDenied.into()).noting(note));
        }
        Ok(file)
    }
}
