//! A file with a segment's layout that grows through a buffer: what partitions and recorded raw segments are written by.
//!
//! No mapping, no preallocation, no wake-ups: frames are put together in private memory and written in large runs, and
//! the file ends where its last frame ends. Where a queue's appender must never wait, this one may, and in return
//! costs no more disk than its content. It reads nothing back and knows nothing of tiers.

use crate::{Error, Result};
use chronicle_core::{
    Append, Begin, Checksum, Seal, Spec, frame,
    layout::{self, FRAME_ALIGN, FRAME_HEADER_LEN, HEADER_LEN},
};
use chronicle_platform::{File, Open, Platform, Trouble, TroubleKind};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// Bytes kept in memory before they are written.
pub(crate) const BUFFER: usize = 256 << 10;
/// Largest payload: what a queue's largest segment could hold, so that one bound serves all readers.
pub(crate) const MAX_PAYLOAD: usize = layout::max_payload(layout::MAX_SEGMENT_LEN);
/// Offset of the seal field.
pub(crate) const SEAL_AT: usize = core::mem::offset_of!(layout::SegmentHeader, seal_count);

/// What of a file is durable: enough to go on behind it after a crash, and to notice that it is not the same file.
///
/// Part of a checkpoint. Its own bytes are the caller's choice (serde).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Bytes of the file.
    pub len: u64,
    /// Seq of the frame that comes next.
    pub next_seq: u64,
    /// CRC-32 of the frames' bytes, from offset 128 to `len`. The header is left out: its seal is stored last.
    pub running_crc: u32,
    /// Smallest `time_ns`; 0 without frames.
    pub min_time: u64,
    /// Largest `time_ns`; 0 without frames.
    pub max_time: u64,
    /// Whether `End` and the seal are written: nothing comes next.
    pub sealed: bool,
}

/// How a new file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    /// It is published with its first bytes, and grows in everybody's sight.
    Visible,
    /// It keeps a temporary name until it is whole and [`GrowingFile::publish`] is called.
    Hidden,
}

#[derive(Debug)]
pub(crate) struct GrowingFile<P: Platform> {
    platform: P,
    path: PathBuf,
    birth: Birth,
    /// `None` until the first bytes are written: a new partition costs nothing before that.
    file: Option<P::File>,
    header: [u8; HEADER_LEN],
    salt: u32,
    first_seq: u64,
    buffer: Vec<u8>,
    /// Bytes that the file has; the buffer's come behind them.
    written: u64,
    crc: crc32fast::Hasher,
    next_seq: u64,
    min_time: u64,
    max_time: u64,
    ended: bool,
    /// Bytes were written, by this writer or one before it, that no sync covers yet.
    unsynced: bool,
    /// A sync failed: what is on the medium is unknown for ever.
    poisoned: bool,
}

/// The header of a file that grows, its begin field stored.
pub(crate) fn header(spec: &Spec, first_seq: u64) -> [u8; HEADER_LEN] {
    debug_assert_eq!(spec.segment_len, 0);
    let mut bytes = spec.to_bytes();
    let begin = Begin { first_seq }.to_bytes(spec.salt);
    bytes[SEAL_AT - begin.len()..SEAL_AT].copy_from_slice(&begin);
    bytes
}

/// Where a file stands while it has no name of its own.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(crate::root::TEMPORARY);
    name.into()
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there<P: Platform>(platform: &P, path: &Path) -> Result<()> {
    match platform.remove(path) {
        Err(trouble) if trouble.kind() != TroubleKind::NotFound => Err(trouble.into()),
        _ => Ok(()),
    }
}

impl<P: Platform> GrowingFile<P> {
    /// A new file; nothing is written yet.
    pub(crate) fn create(platform: &P, path: &Path, birth: Birth, spec: &Spec, first_seq: u64) -> Self {
        GrowingFile {
            platform: platform.clone(),
            path: path.to_owned(),
            birth,
            file: None,
            header: header(spec, first_seq),
            salt: spec.salt,
            first_seq,
            buffer: Vec::new(),
            written: HEADER_LEN as u64,
            crc: crc32fast::Hasher::new(),
            next_seq: first_seq,
            min_time: u64::MAX,
            max_time: 0,
            ended: false,
            unsynced: false,
            poisoned: false,
        }
    }

    /// An open file that was checked, and cut, to what is committed.
    pub(crate) fn resume(
        platform: &P,
        path: &Path,
        file: P::File,
        spec: &Spec,
        committed: &Committed,
        unsynced: bool,
    ) -> Self {
        let mut this = Self::create(platform, path, Birth::Visible, spec, 1);
        this.unsynced = unsynced;
        this.file = Some(file);
        this.written = committed.len;
        this.crc = crc32fast::Hasher::new_with_initial(committed.running_crc);
        this.next_seq = committed.next_seq;
        if committed.next_seq > this.first_seq {
            (this.min_time, this.max_time) = (committed.min_time, committed.max_time);
        }
        this
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(crate) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Smallest and largest time, zeros without frames.
    fn times(&self) -> (u64, u64) {
        if self.next_seq == self.first_seq { (0, 0) } else { (self.min_time, self.max_time) }
    }

    /// Appends to the buffer, which is written first if the frame would make it too long. After an error the log is as
    /// it was.
    pub(crate) fn append(&mut self, append: Append, payload: &[u8]) -> Result<u64> {
        if self.ended {
            return Err(Error::Sealed { path: self.path.clone() });
        }
        let header = match frame::header(append, self.next_seq, payload, self.salt, Checksum::Frame) {
            Some(header) if payload.len() <= MAX_PAYLOAD => header,
            _ => {
                let path = self.path.clone();
                return Err(Error::TooLarge { path, len: payload.len(), max: MAX_PAYLOAD });
            }
        };
        let len = (FRAME_HEADER_LEN + payload.len()).next_multiple_of(FRAME_ALIGN);
        if !self.buffer.is_empty() && self.buffer.len() + len > BUFFER {
            self.write()?;
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(header.as_bytes());
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(start + len, 0);
        self.crc.update(&self.buffer[start..]);
        self.next_seq += 1;
        self.min_time = self.min_time.min(append.time_ns);
        self.max_time = self.max_time.max(append.time_ns);
        Ok(self.next_seq - 1)
    }

    /// Writes the buffer. A failed write may be tried again: it goes to the same place.
    fn write(&mut self) -> Result<()> {
        if self.poisoned {
            return Err(self.poison());
        }
        match &self.file {
            Some(file) => {
                self.unsynced = true;
                file.write_at(&self.buffer, self.written)?;
            }
            None => {
                let file = self.bear()?;
                self.file = Some(file);
                // Publishing has synced it.
                self.unsynced = self.birth == Birth::Hidden;
            }
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        // One large frame must not keep its memory for the file's life.
        self.buffer.shrink_to(BUFFER);
        Ok(())
    }

    /// Makes the file, with the header and the first bytes in it.
    fn bear(&self) -> Result<P::File> {
        let temporary = temporary(&self.path);
        if let Some(dir) = self.path.parent() {
            self.platform.create_dirs(dir)?;
        }
        remove_if_there(&self.platform, &temporary)?;
        let file = self.platform.open(&temporary, Open::Create)?;
        file.write_at(&self.header, 0)?;
        file.write_at(&self.buffer, HEADER_LEN as u64)?;
        if self.birth == Birth::Visible {
            self.platform.publish(&file, &temporary, &self.path)?;
        }
        Ok(file)
    }

    /// Makes what was written durable, if anything was.
    fn sync(&mut self) -> Result<()> {
        if self.poisoned {
            return Err(self.poison());
        }
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            if let Err(trouble) = file.sync() {
                self.poisoned = true;
                return Err(trouble.into());
            }
            self.unsynced = false;
        }
        Ok(())
    }

    fn poison(&self) -> Error {
        let reason = std::io::Error::other("an earlier sync failed, the file's content is unknown");
        Trouble::new("write", &self.path, reason).into()
    }

    /// Writes the buffer and makes it durable.
    pub(crate) fn flush(&mut self) -> Result<Committed> {
        let committed = self.write_out()?;
        self.sync()?;
        Ok(committed)
    }

    /// Writes the buffer; an empty one too, if there is no file yet.
    pub(crate) fn write_out(&mut self) -> Result<Committed> {
        if self.file.is_none() || !self.buffer.is_empty() {
            self.write()?;
        }
        Ok(self.committed())
    }

    fn committed(&self) -> Committed {
        let (min_time, max_time) = self.times();
        Committed {
            len: self.written,
            next_seq: self.next_seq,
            running_crc: self.crc.clone().finalize(),
            min_time,
            max_time,
            sealed: self.ended,
        }
    }

    /// Ends the file: `End`, made durable, then the seal, made durable. A file with a seal is whole, whenever the
    /// machine stops.
    pub(crate) fn seal(&mut self) -> Result<Committed> {
        if self.ended {
            return Err(Error::Sealed { path: self.path.clone() });
        }
        let Committed { len, min_time, max_time, .. } = self.write_out()?;
        let seal = Seal { count: self.next_seq - self.first_seq, end: len, min_time, max_time };
        let end = frame::end(self.next_seq, self.salt, Checksum::Frame);
        self.store(end.as_bytes(), len)?;
        self.store(&seal.to_bytes(self.salt), SEAL_AT as u64)?;
        self.crc.update(end.as_bytes());
        self.written += FRAME_HEADER_LEN as u64;
        self.ended = true;
        Ok(self.committed())
    }

    /// Writes at a place, durably if the file is in everybody's sight.
    fn store(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        let file = self.file.as_ref().expect("bug: a file that was written is open");
        self.unsynced = true;
        file.write_at(bytes, at)?;
        if self.birth == Birth::Visible { self.sync() } else { Ok(()) }
    }

    /// Gives a hidden file its name, durable and whole.
    pub(crate) fn publish(mut self) -> Result<()> {
        debug_assert!(self.birth == Birth::Hidden && self.ended);
        let file = self.file.take().expect("bug: a sealed file is open");
        Ok(self.platform.publish(&file, &temporary(&self.path), &self.path)?)
    }
}
