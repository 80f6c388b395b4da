//! The lines of a file that may be gzip, may be cut, and may be anything else.
//!
//! ```text
//! any Read -> Bytes (hashed, counted) -> gzip by its first two bytes, member after member, or plain -> lines
//! ```
//!
//! What this module never does: it never looks at a file's name, never reads the file twice, never gives a part of a
//! line for a line, and never holds more than one line (at most [`Lines::new`]'s `line_len_max`) and one read's worth of
//! text. An error of the reader underneath is passed on; damage in the gzip is not an error but an end, a [`Cut`].

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

const CHUNK: usize = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Where a file's gzip ends before its text does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Bytes of the file that were used up; the damage is at or before this offset.
    pub compressed_offset: u64,
    /// Bytes of text that could be decompressed.
    pub text_offset: u64,
    /// The line, counted from 1, that is missing or incomplete.
    pub line: u64,
    /// Bytes of it that were there. They belong to no line and are not imported.
    pub partial_len: u64,
    /// What was found.
    pub why: String,
}

/// The two ways in which gzip ends wrongly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It ended well.
    Whole,
    /// The file ends within a gzip member.
    Truncated(Cut),
    /// The file goes on, but what comes is no gzip, or not what was compressed.
    Corrupt(Cut),
}

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

    /// The next two bytes, or as many as there are.
    fn peek_two(&mut self) -> io::Result<&[u8]> {
        while self.end - self.start < 2 && self.fill()? {}
        Ok(&self.buffer[self.start..self.end.min(self.start + 2)])
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
    /// Only while one state is made into the next.
    Moving,
    Ended(Bytes<R>, Stop),
}

/// How the source's text came to its end.
#[derive(Clone)]
enum Stop {
    Whole,
    Truncated,
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
                Self::New(bytes) => {
                    let is_gzip = bytes.peek_two()? == GZIP_MAGIC;
                    self.step(
                        |bytes| {
                            if is_gzip { Self::Member(Box::new(GzDecoder::new(bytes))) } else { Self::Plain(bytes) }
                        },
                    );
                }
                Self::Moving | Self::Ended(..) => return Ok(0),
            }
        }
    }

    fn step(&mut self, next: impl FnOnce(Bytes<R>) -> Self) {
        *self = match core::mem::replace(self, Self::Moving) {
            Self::New(bytes) | Self::Plain(bytes) | Self::Ended(bytes, _) => next(bytes),
            Self::Member(decoder) => next(decoder.into_inner()),
            Self::Moving => Self::Moving,
        };
    }

    /// Another member, the end, or bytes that are neither. Zeros behind the last member are padding.
    fn next_member(&mut self) -> io::Result<()> {
        let mut stop = None;
        if let Self::Member(decoder) = self {
            let bytes = decoder.get_mut();
            while let [0, ..] = bytes.peek_two()? {
                bytes.consume(1);
            }
            stop = match bytes.peek_two()? {
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
            Self::Moving => None,
        }
    }
}

/// What [`Lines::advance`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole line; [`Lines::line`] has it.
    Line,
    /// A line that is longer than a line may be; it was passed over.
    TooLong,
    /// No line is left.
    End,
}

pub(crate) struct Lines<R> {
    source: Source<R>,
    line_len_max: usize,
    buffer: Vec<u8>,
    /// The line, without its end.
    line: core::ops::Range<usize>,
    /// Where the next line starts in the buffer, and how far there is text.
    next: usize,
    filled: usize,
    /// Whole lines so far.
    number: u64,
    /// Text offset of the line, and of the next one.
    offset: u64,
    next_offset: u64,
    ending: Option<Ending>,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(inner: R, line_len_max: usize) -> Self {
        Self {
            source: Source::New(Bytes::new(inner)),
            line_len_max,
            buffer: vec![0; 2 * CHUNK],
            line: 0..0,
            next: 0,
            filled: 0,
            number: 0,
            offset: 0,
            next_offset: 0,
            ending: None,
        }
    }

    pub(crate) fn line_len_max(&self) -> usize {
        self.line_len_max
    }

    pub(crate) fn set_line_len_max(&mut self, line_len_max: usize) {
        self.line_len_max = line_len_max;
    }

    /// Goes to the next line.
    pub(crate) fn advance(&mut self) -> io::Result<Step> {
        let mut searched = self.next;
        // Bytes of the line that were dropped because it is too long.
        let mut dropped = 0_u64;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..self.filled]) {
                return Ok(self.give(searched + found, 1, dropped));
            }
            let pending = self.filled - self.next;
            // The line's end may be two bytes, so one more than the limit is not yet too long.
            if dropped > 0 || pending > self.line_len_max + 1 {
                dropped += pending as u64;
                (self.next, self.filled) = (0, 0);
            }
            if self.ending.is_some() {
                return Ok(Step::End);
            }
            self.make_room();
            searched = self.filled;
            let len = self.source.read(&mut self.buffer[self.filled..])?;
            self.filled += len;
            if len == 0 {
                let partial_len = dropped + (self.filled - self.next) as u64;
                if self.end(partial_len)? || partial_len == 0 {
                    return Ok(Step::End);
                }
                return Ok(self.give(self.filled, 0, dropped));
            }
        }
    }

    /// The line that ends before `end`, whose end has `end_len` bytes.
    fn give(&mut self, end: usize, end_len: usize, dropped: u64) -> Step {
        self.line = self.next..end;
        self.number += 1;
        self.offset = self.next_offset;
        self.next_offset += dropped + (end + end_len - self.next) as u64;
        self.next = end + end_len;
        if self.buffer[self.line.clone()].last() == Some(&b'\r') {
            self.line.end -= 1;
        }
        if dropped > 0 || self.line.len() > self.line_len_max { Step::TooLong } else { Step::Line }
    }

    /// Makes room for another read.
    fn make_room(&mut self) {
        if self.buffer.len() - self.filled >= CHUNK {
            return;
        }
        self.buffer.copy_within(self.next..self.filled, 0);
        (self.next, self.filled) = (0, self.filled - self.next);
        if self.buffer.len() - self.filled < CHUNK {
            let len = (self.buffer.len() * 2).min(self.line_len_max + 2 * CHUNK).max(self.filled + CHUNK);
            self.buffer.resize(len, 0);
        }
    }

    /// Settles how the text ended; true if it was cut.
    fn end(&mut self, partial_len: u64) -> io::Result<bool> {
        let text_offset = self.next_offset + partial_len;
        let (line, Source::Ended(bytes, stop)) = (self.number + 1, &mut self.source) else { return Ok(false) };
        let compressed_offset = bytes.consumed;
        let cut = |why| Cut { compressed_offset, text_offset, line, partial_len, why };
        let ending = match stop.clone() {
            Stop::Whole => Ending::Whole,
            Stop::Truncated => Ending::Truncated(cut("the file ends within its gzip".to_owned())),
            Stop::Corrupt(why) => Ending::Corrupt(cut(why)),
        };
        // The hash is of the whole file, whatever of it could be used.
        bytes.read_all()?;
        let is_cut = ending != Ending::Whole;
        self.ending = Some(ending);
        Ok(is_cut)
    }

    /// The line that `advance` went to, without its end.
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Its number, counting from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The offset of its first byte in the text.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How the text ended, once it did.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Bytes of the file read so far.
    pub(crate) fn file_offset(&self) -> u64 {
        self.source.bytes().map_or(0, |bytes| bytes.read)
    }

    /// SHA-256 of the file's bytes; of all of them once the text has ended.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.source.bytes().map_or([0; 32], |bytes| bytes.hash.clone().finalize().into())
    }
}

impl<R> core::fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).field("offset", &self.offset).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_by_the_longest_line_allowed() {
        for (line_len_max, lines) in [(100_000, 1), (1_000_000, 1), (100_000, 40), (10, 3_000)] {
            let text = [vec![b'x'; 6_000_000 / lines], vec![b'\n']].concat().repeat(lines);
            let mut found = Lines::new(&text[..], line_len_max);
            let mut too_long = 0;
            loop {
                let step = found.advance().unwrap();
                assert!(found.buffer.len() <= line_len_max + 4 * CHUNK, "{} of {line_len_max}", found.buffer.len());
                match step {
                    Step::TooLong => too_long += 1,
                    Step::Line => panic!("a line of {} bytes", found.line().len()),
                    Step::End => break,
                }
            }
            assert_eq!(too_long, lines);
            assert_eq!(found.next_offset, text.len() as u64);
        }
    }
}
