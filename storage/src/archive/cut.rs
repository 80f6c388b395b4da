//! A sealed `.q` as blocks: where they are cut, and the proof on the way that it is whole.
//!
//! [`SealedFile`] opens a partition or a raw file and refuses what was not sealed. It hands out block after block,
//! each frame decoded and checked (CRC, seq, seal), so that damage is never compressed into an archive as if it were
//! data. It reads through a buffer, never maps, and holds one block and one read in memory, or one frame where that is
//! larger.

use super::{
    block::Block,
    layout::{BLOCK_SIZE, SNAPSHOT_CUT},
};
use crate::{
    error::{Error, Result},
    growing::SEAL_AT,
    partition::BOOK_SNAPSHOTS,
};
use chronicle_core::{
    Begin, Fault, Header, Seal,
    frame::{Decoded, decode},
    layout::{FRAME_HEADER_LEN, HEADER_LEN},
};
use chronicle_platform::{File, Open, Platform};
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const READ: usize = 1 << 20;

/// A sealed partition or raw file, block by block.
#[derive(Debug)]
pub struct SealedFile<P: Platform> {
    file: P::File,
    path: PathBuf,
    header: Header,
    begin: Begin,
    seal: Seal,
    len: u64,
    /// Bytes of the file from `base` on that are not yet handed out.
    buf: Vec<u8>,
    base: u64,
    next_seq: u64,
    times: Option<(u64, u64)>,
    ended: bool,
}

impl<P: Platform> SealedFile<P> {
    /// Opens a file and checks its header, its seal and its length.
    ///
    /// # Errors
    ///
    /// [`Error::Unsealed`] if it is not final; damage if its header is, or if it does not end behind its `End`.
    pub fn open(platform: &P, path: &Path) -> Result<Self> {
        let file = platform.open(path, Open::Read)?;
        let len = file.len()?;
        let mut bytes = [0; HEADER_LEN];
        let read = file.read_at(&mut bytes, 0)?;
        let header = Header::parse(&bytes[..read]).map_err(|damage| Error::damage(path, damage))?;
        let Some(seal) = Seal::parse(&bytes, header.salt) else {
            // Bytes that are neither a seal nor zero are damage: a sealed file must not pass for one that grows.
            if let Some(at) = bytes[SEAL_AT..].iter().position(|byte| *byte != 0) {
                let what = "seal field has a wrong checksum and is not zero";
                return Err(Error::malformed(path, (SEAL_AT + at) as u64, what));
            }
            return Err(Error::Unsealed { path: path.into() });
        };
        let begin = Begin::parse(&bytes, header.salt).ok_or_else(|| {
            Error::malformed(path, 80, "sealed, but its begin field is absent or has a wrong checksum")
        })?;
        let expected = seal.end.saturating_add(FRAME_HEADER_LEN as u64);
        if expected != len {
            return Err(Error::fault(path, len.min(expected), Fault::End { expected, found: len }));
        }
        Ok(SealedFile {
            file,
            path: path.into(),
            header,
            begin,
            seal,
            len,
            buf: Vec::new(),
            base: 0,
            next_seq: begin.first_seq,
            times: None,
            ended: false,
        })
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a sealed file has at least a header and an `End`.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Its checked header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its begin field.
    pub fn begin(&self) -> Begin {
        self.begin
    }

    /// Its seal.
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// Puts the next block's bytes into `out`; `None` behind the last one. Of the returned [`Block`] everything about
    /// the compressed side is still zero.
    ///
    /// # Errors
    ///
    /// Damage with its offset: a frame that does not decode, a seq out of order, or a seal that the frames do not bear
    /// out. After an error the file is not read on.
    pub fn next_block(&mut self, out: &mut Vec<u8>) -> Result<Option<Block>> {
        out.clear();
        if self.ended {
            return Ok(None);
        }
        let mut block = Block {
            offset: self.base,
            len: 0,
            compressed_offset: 0,
            compressed_len: 0,
            first_seq: self.next_seq,
            min_time: 0,
            max_time: 0,
            opens_with_snapshot: false,
            crc: 0,
            compressed_crc: 0,
        };
        // The first block carries the header, and its frames begin behind it.
        let mut pos = if self.base == 0 { HEADER_LEN } else { 0 };
        let mut count = 0u64;
        // The `End` must fit, so that it never needs a block of its own.
        let most = BLOCK_SIZE as usize - FRAME_HEADER_LEN;
        loop {
            let offset = self.base + pos as u64;
            let bytes = self.buf.get(pos..).unwrap_or_default();
            let left = self.len - offset.min(self.len);
            let decoded = decode(bytes, offset, left, self.header.salt, self.header.checksum)
                .map_err(|damage| Error::damage(&self.path, damage))?;
            match decoded {
                Decoded::More { needed } => self.fill(pos + needed)?,
                Decoded::Open => {
                    let fault = Fault::End { expected: self.seal.end, found: offset };
                    return Err(Error::fault(&self.path, offset, fault));
                }
                Decoded::Frame { header, len, .. } => {
                    let snapshot = BOOK_SNAPSHOTS.contains(&header.type_id.get());
                    if count > 0 && (pos + len > most || (snapshot && pos >= SNAPSHOT_CUT as usize)) {
                        break;
                    }
                    let found = header.seq.get();
                    if found != self.next_seq {
                        let fault = Fault::Seq { expected: self.next_seq, found };
                        return Err(Error::fault(&self.path, offset, fault));
                    }
                    self.next_seq += 1;
                    let time = header.time_ns.get();
                    let (min, max) = self.times.unwrap_or((time, time));
                    self.times = Some((min.min(time), max.max(time)));
                    if count == 0 {
                        block.opens_with_snapshot = snapshot;
                        (block.min_time, block.max_time) = (time, time);
                    }
                    block.min_time = block.min_time.min(time);
                    block.max_time = block.max_time.max(time);
                    count += 1;
                    pos += len;
                }
                Decoded::End { next_seq } => {
                    self.check_end(offset, next_seq)?;
                    pos += FRAME_HEADER_LEN;
                    self.ended = true;
                    break;
                }
            }
        }
        std::mem::swap(out, &mut self.buf);
        self.buf.extend_from_slice(&out[pos..]);
        out.truncate(pos);
        self.base += pos as u64;
        block.len = u32::try_from(pos).expect("bug: a block is one frame or at most 1 MiB");
        block.crc = crc32fast::hash(out);
        Ok(Some(block))
    }

    /// Reads until `needed` bytes of the buffer are there; the decoder has checked that the file is so long.
    fn fill(&mut self, needed: usize) -> Result<()> {
        while self.buf.len() < needed {
            let at = self.base + self.buf.len() as u64;
            let want = (needed - self.buf.len()).max(READ).min((self.len - at.min(self.len)) as usize);
            let have = self.buf.len();
            self.buf.resize(have + want, 0);
            let read = self.file.read_at(&mut self.buf[have..], at)?;
            self.buf.truncate(have + read);
            if read == 0 {
                let fault = Fault::Short { needed: self.len, found: at };
                return Err(Error::fault(&self.path, at, fault));
            }
        }
        Ok(())
    }

    fn check_end(&self, offset: u64, next_seq: u64) -> Result<()> {
        if offset != self.seal.end {
            return Err(Error::fault(&self.path, offset, Fault::End { expected: self.seal.end, found: offset }));
        }
        if next_seq != self.next_seq {
            return Err(Error::fault(&self.path, offset, Fault::Seq { expected: self.next_seq, found: next_seq }));
        }
        let (min_time, max_time) = self.times.unwrap_or((0, 0));
        let computed = Seal { count: next_seq - self.begin.first_seq, end: offset, min_time, max_time };
        if computed != self.seal {
            let Seal { count, min_time, max_time, .. } = self.seal;
            let what = format!(
                "seal says {count} frames from {min_time} to {max_time}, there are {} from {} to {}",
                computed.count, computed.min_time, computed.max_time
            );
            return Err(Error::malformed(&self.path, 92, what));
        }
        Ok(())
    }
}
