//! The bytes that a file packs: gzip or zstd by its first bytes, frame after frame, or the file itself.
//!
//! ```text
//! any Read -> Bytes (hashed, counted) -> gzip member after member | zstd frame after frame | plain
//! ```
//!
//! What this module never does: it never looks at a file's name, never reads the file twice, and holds no more than one
//! read's worth of it and what the format's window takes (zstd: 128 MiB at most; a frame that asks for more is damage). An
//! error of the reader underneath is passed on; damage in the packing is not an error but an end, a [`Stop`].

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder as ZstdDecoder;

const CHUNK: usize = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A reader's bytes, buffered, hashed and counted.
struct Bytes<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
    read: u64,
    hash: Sha256,
    /// The reader said no; what the decoder makes of that is not damage.
    failed: bool,
}

impl<R: Read> Bytes<R> {
    fn new(inner: R) -> Self {
        let buffer = vec![0; CHUNK].into_boxed_slice();
        Self { inner, buffer, start: 0, end: 0, consumed: 0, read: 0, hash: Sha256::new(), failed: false }
    }

    /// Reads once more, behind what is buffered. False at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(len) => {
                    self.hash.update(&self.buffer[self.end..self.end + len]);
                    self.end += len;
                    self.read += len as u64;
                    return Ok(len > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }

    /// The next `count` bytes, or as many as there are.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end - self.start < count && self.fill()? {}
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }

    fn read_all(&mut self) -> io::Result<()> {
        while !self.fill_buf()?.is_empty() {
            let len = self.end - self.start;
            self.consume(len);
        }
        Ok(())
    }
}

impl<R: Read> Read for Bytes<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffered = self.fill_buf()?;
        let len = buffered.len().min(out.len());
        out[..len].copy_from_slice(&buffered[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl<R: Read> BufRead for Bytes<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        self.consumed += len as u64;
    }
}

enum Source<R> {
    /// Nothing was looked at.
    New(Bytes<R>),
    Plain(Bytes<R>),
    Member(Box<GzDecoder<Bytes<R>>>),
    Frames(Box<ZstdDecoder<'static, Bytes<R>>>),
    /// Only while one state is made into the next.
    Moving,
    Ended(Bytes<R>, Stop),
}

/// How the bytes came to their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All that was packed came out.
    Whole,
    /// The file ends within what is packed.
    Truncated,
    /// The file goes on, but what comes is not what was packed, or nothing that was.
    Corrupt(String),
}

impl<R: Read> Source<R> {
    /// The next bytes of text; 0 at the end, for which see `self`.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Plain(bytes) => {
                    let len = bytes.read(out)?;
                    if len > 0 {
                        return Ok(len);
                    }
                    self.end(Stop::Whole)?;
                }
                Self::Member(decoder) => match decoder.read(out) {
                    Ok(0) => self.next_member()?,
                    Ok(len) => return Ok(len),
                    Err(error) if decoder.get_ref().failed => return Err(error),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end(Stop::Truncated)?,
                    Err(error) => self.end(Stop::Corrupt(error.to_string()))?,
                },
                Self::Frames(decoder) => match decoder.read(out) {
                    Ok(0) => self.end(Stop::Whole)?,
                    Ok(len) => return Ok(len),
                    Err(error) if decoder.get_ref().failed => return Err(error),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end(Stop::Truncated)?,
                    Err(error) => self.end(Stop::Corrupt(format!("zstd: {error}")))?,
                },
                Self::New(bytes) => {
                    let magic = bytes.peek(4)?;
                    let (is_gzip, is_zstd) = (magic.starts_with(&GZIP_MAGIC), magic == ZSTD_MAGIC);
                    self.begin(is_gzip, is_zstd)?;
                }
                Self::Moving | Self::Ended(..) => return Ok(0),
            }
        }
    }

    fn begin(&mut self, is_gzip: bool, is_zstd: bool) -> io::Result<()> {
        *self = match core::mem::replace(self, Self::Moving) {
            Self::New(bytes) if is_gzip => Self::Member(Box::new(GzDecoder::new(bytes))),
            Self::New(bytes) if is_zstd => Self::Frames(Box::new(ZstdDecoder::with_buffer(bytes)?)),
            Self::New(bytes) => Self::Plain(bytes),
            other => other,
        };
        Ok(())
    }

    fn step(&mut self, next: impl FnOnce(Bytes<R>) -> Self) {
        *self = match core::mem::replace(self, Self::Moving) {
            Self::New(bytes) | Self::Plain(bytes) | Self::Ended(bytes, _) => next(bytes),
            Self::Member(decoder) => next(decoder.into_inner()),
            Self::Frames(decoder) => next(decoder.finish()),
            Self::Moving => Self::Moving,
        };
    }

    /// Another member, the end, or bytes that are neither. Zeros behind the last member are padding.
    fn next_member(&mut self) -> io::Result<()> {
        let mut stop = None;
        if let Self::Member(decoder) = self {
            let bytes = decoder.get_mut();
            while let [0, ..] = bytes.peek(2)? {
                bytes.consume(1);
            }
            stop = match bytes.peek(2)? {
                [] => Some(Stop::Whole),
                two if two == GZIP_MAGIC => None,
                [0x1f] => Some(Stop::Truncated),
                _ => Some(Stop::Corrupt("bytes behind the last gzip member are no gzip".to_owned())),
            };
        }
        match stop {
            Some(stop) => self.end(stop),
            None => {
                self.step(|bytes| Self::Member(Box::new(GzDecoder::new(bytes))));
                Ok(())
            }
        }
    }

    fn end(&mut self, stop: Stop) -> io::Result<()> {
        self.step(|bytes| Self::Ended(bytes, stop));
        Ok(())
    }

    fn bytes(&self) -> Option<&Bytes<R>> {
        match self {
            Self::New(bytes) | Self::Plain(bytes) | Self::Ended(bytes, _) => Some(bytes),
            Self::Member(decoder) => Some(decoder.get_ref()),
            Self::Frames(decoder) => Some(decoder.get_ref()),
            Self::Moving => None,
        }
    }
}

/// A file being unpacked.
pub(crate) struct Unpacked<R> {
    source: Source<R>,
}

/// The bytes that a file packs with gzip or zstd, or the file itself, by its first bytes. Damage in the packing ends them.
pub fn unpack<R: Read>(file: R) -> impl Read {
    Unpacked::new(file)
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.source.read(out)
    }
}

impl<R> core::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unpacked").finish_non_exhaustive()
    }
}

impl<R: Read> Unpacked<R> {
    pub(crate) fn new(file: R) -> Self {
        Self { source: Source::New(Bytes::new(file)) }
    }

    /// How it ended, once it did.
    pub(crate) fn stop(&self) -> Option<&Stop> {
        match &self.source {
            Source::Ended(_, stop) => Some(stop),
            _ => None,
        }
    }

    /// Ends here and reads the file to its end, unused: the hash is of all of it, whatever of it could be used.
    pub(crate) fn read_all(&mut self) -> io::Result<()> {
        if self.stop().is_none() {
            self.source.end(Stop::Whole)?;
        }
        match &mut self.source {
            Source::Ended(bytes, _) => bytes.read_all(),
            _ => Ok(()),
        }
    }

    /// Bytes of the file that were used up.
    pub(crate) fn consumed(&self) -> u64 {
        self.source.bytes().map_or(0, |bytes| bytes.consumed)
    }

    /// Bytes of the file that were read so far.
    pub(crate) fn file_offset(&self) -> u64 {
        self.source.bytes().map_or(0, |bytes| bytes.read)
    }

    /// SHA-256 of what was read of the file so far.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.source.bytes().map_or([0; 32], |bytes| bytes.hash.clone().finalize().into())
    }
}
