//! The lines of a file that may be packed, may be cut, and may be anything else.
//!
//! What this module never does: it never gives a part of a line for a line, and never holds more than one line (at most
//! [`Lines::new`]'s `line_len_max`) and one read's worth of text. Damage in the packing is not an error but an end, a [`Cut`].

use std::io::{self, Read};

use serde::Serialize;

use crate::unpack::{Stop, Unpacked};

const CHUNK: usize = 64 * 1024;

/// Where what a file packs, with gzip or zstd, ends before its text does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Bytes of the file that were used up; the damage is at or before this offset.
    pub compressed_offset: u64,
    /// Bytes of text that could be unpacked.
    pub text_offset: u64,
    /// The line, or the record of a binary file, counted from 1, that is missing or incomplete.
    pub line: u64,
    /// Bytes of it that were there. They belong to no line and are not imported.
    pub partial_len: u64,
    /// What was found.
    pub why: String,
}

/// How a text came to its end, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It ended well.
    Whole,
    /// The file ends within what is packed.
    Truncated(Cut),
    /// The file goes on, but what comes is not what was packed.
    Corrupt(Cut),
}

impl Ending {
    pub(crate) fn of(stop: Stop, cut: impl FnOnce(String) -> Cut) -> Self {
        match stop {
            Stop::Whole => Self::Whole,
            Stop::Truncated => Self::Truncated(cut("the file ends within its compressed text".to_owned())),
            Stop::Corrupt(why) => Self::Corrupt(cut(why)),
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
    source: Unpacked<R>,
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
            source: Unpacked::new(inner),
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
        let (text_offset, line) = (self.next_offset + partial_len, self.number + 1);
        let Some(stop) = self.source.stop().cloned() else { return Ok(false) };
        let compressed_offset = self.source.consumed();
        let ending = Ending::of(stop, |why| Cut { compressed_offset, text_offset, line, partial_len, why });
        self.source.read_all()?;
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
        self.source.file_offset()
    }

    /// SHA-256 of the file's bytes; of all of them once the text has ended.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.source.sha256()
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
