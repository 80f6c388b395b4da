//! Reading what was stored, wherever it lies by now.
//!
//! [`ArchiveReader`] finds a partition on the fastest tier that has it, hot, warm, cold, and reads it through one
//! iterator; the frames are the same on each. [`FrameFile`] is that iterator for a single file, whose format its first
//! bytes tell, not its name; [`open_any`] takes any path of ours, a queue's directory included.
//!
//! ```text
//! ArchiveReader::partition(id)   hot/v1/…  →  warm/v1/…  →  cold/v1/…      the first that opens
//! Partition::next                at the end of a file that still grows: does its name still mean this file?
//!                                if not, find the partition again and go on behind the last seq that was read
//! ```
//!
//! Files move while they are read: a tier manager publishes the next copy, then deletes this one. An open file stays
//! readable, one that vanished before it was opened is looked for again, so a reader misses nothing and reads nothing
//! twice. Nothing here writes, locks a partition, keeps a cursor or looks into a payload.
//!
//! **Seeking** gives the same place on every tier: by seq; by time, in front of the first frame that is not earlier;
//! by snapshot, in front of the last book snapshot from which the book at a time can be built. A cold file reads just
//! the blocks that it needs ([`FrameFile::blocks_read`]); a warm one is scanned.

use crate::{
    Error, Result,
    archive::{ColdFile, layout::ZSTD_MAGIC},
    partition::{BOOK_SNAPSHOTS, PartitionFile, Tail},
    queue::{Queue, ReadError, Start, Subscriber, SubscriberOptions},
    root::{Date, Name, PartitionId, Root, Stream, Tier},
};
use chronicle_core::{
    Checksum, Damage, Fault, Frame, Header, Payload, Reader, Step,
    frame::{self, Decoded},
    layout::{FRAME_HEADER_LEN, FrameHeader, HEADER_LEN, MAGIC, frame_len},
};
use chronicle_platform::{File, Lock, Open, Platform, Trouble, TroubleKind};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};
use zerocopy::FromBytes;

/// The frames of one file: a partition, a recorded raw segment, a cold file of either, or a queue's segment.
#[derive(Debug)]
pub struct FrameFile<P: Platform> {
    format: Format<P>,
    /// The current frame was moved over while looking for a place, and comes next all the same.
    held: bool,
}

#[derive(Debug)]
enum Format<P: Platform> {
    File(PartitionFile<P>),
    Cold(Cold<P>),
    Segment(Segment<P>),
}

/// Where a frame stands, for coming back to it.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of a cold file, the block; else 0.
    block: usize,
    /// In the `.q`.
    offset: u64,
    seq: u64,
}

impl<P: Platform> FrameFile<P> {
    /// Opens a file by its first bytes.
    ///
    /// # Errors
    ///
    /// Trouble; damage in what opening looks at; `Malformed` if it is no file with frames, `Busy` if it is a queue's
    /// segment that is just being used again.
    pub fn open(platform: &P, path: &Path) -> Result<Self> {
        let file = platform.open(path, Open::Read)?;
        let mut start = [0; HEADER_LEN];
        let n = file.read_at(&mut start, 0)?;
        let format = if start[..4] == ZSTD_MAGIC.to_le_bytes() {
            drop(file);
            Format::Cold(Cold::open(platform, path)?)
        } else if start[..8] == MAGIC || n < 8 {
            let header = Header::parse(&start[..n]).map_err(|damage| Error::damage(path, damage))?;
            match header.segment_len {
                0 => Format::File(PartitionFile::of_file(file, path)?),
                len => Format::Segment(Segment::open(platform, file, path, len as usize)?),
            }
        } else {
            let what = format!("starts with \"{}\", which no file with frames does", start[..8].escape_ascii());
            return Err(Error::malformed(path, 0, what));
        };
        Ok(FrameFile { format, held: false })
    }

    /// The next frame, `None` at the end. If the file still grows, a later call may have more.
    ///
    /// # Errors
    ///
    /// Damage; trouble of reading.
    // Not an iterator: the frame borrows the reader.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        Ok(if self.advance()? { self.current() } else { None })
    }

    /// Moves behind the next frame, which is then [`FrameFile::current`]; `false` at the end.
    ///
    /// # Errors
    ///
    /// As [`FrameFile::next`].
    #[inline]
    pub fn advance(&mut self) -> Result<bool> {
        if std::mem::take(&mut self.held) {
            return Ok(true);
        }
        match &mut self.format {
            Format::File(file) => file.advance(),
            Format::Cold(cold) => cold.advance(),
            Format::Segment(segment) => segment.advance(),
        }
    }

    /// The frame that the last call moved over, if it did.
    #[must_use]
    #[inline]
    pub fn current(&self) -> Option<Frame<'_>> {
        match &self.format {
            Format::File(file) => file.current(),
            Format::Cold(cold) => cold.current(),
            Format::Segment(segment) => segment.current(),
        }
    }

    /// Seq of the frame that comes next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        if self.held
            && let Some(frame) = self.current()
        {
            return frame.seq;
        }
        self.read_seq()
    }

    /// Seq behind the frames moved over.
    fn read_seq(&self) -> u64 {
        match &self.format {
            Format::File(file) => file.next_seq(),
            Format::Cold(cold) => cold.next_seq,
            Format::Segment(segment) => segment.next_seq(),
        }
    }

    /// What the end looks like, if the reader has come there. A cold file is always sealed.
    #[must_use]
    pub fn tail(&self) -> Tail {
        match &self.format {
            Format::File(file) => file.tail(),
            Format::Cold(cold) if cold.at_end => Tail::Sealed,
            Format::Cold(_) => Tail::Ahead,
            Format::Segment(segment) => segment.tail,
        }
    }

    /// Whether the file is final: nothing comes behind its end, ever.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        match &self.format {
            Format::File(file) => file.seal().is_some(),
            Format::Cold(_) => true,
            Format::Segment(segment) => segment.tail == Tail::Sealed,
        }
    }

    /// The file's header. Of a cold file it stands in the first block, which is read for it.
    ///
    /// # Errors
    ///
    /// Damage; trouble of reading.
    pub fn header(&mut self) -> Result<Header> {
        match &mut self.format {
            Format::File(file) => Ok(*file.header()),
            Format::Cold(cold) => cold.header(),
            Format::Segment(segment) => Ok(segment.header),
        }
    }

    /// The file's name when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        match &self.format {
            Format::File(file) => file.path(),
            Format::Cold(cold) => cold.file.path(),
            Format::Segment(segment) => &segment.path,
        }
    }

    /// How many blocks of a cold file were decompressed so far; 0 of any other.
    #[must_use]
    pub fn blocks_read(&self) -> u64 {
        match &self.format {
            Format::Cold(cold) => cold.file.blocks_read(),
            _ => 0,
        }
    }

    /// Says that bytes before `len` were synced; see [`PartitionFile::require`]. No other format can be torn there.
    pub fn require(&mut self, len: u64) {
        if let Format::File(file) = &mut self.format {
            file.require(len);
        }
    }

    /// See [`PartitionFile::frame_behind_damage`]. No other format has a tail that looks torn.
    ///
    /// # Errors
    ///
    /// Trouble of reading.
    pub fn frame_behind_damage(&self) -> Result<Option<u64>> {
        match &self.format {
            Format::File(file) => file.frame_behind_damage(),
            _ => Ok(None),
        }
    }

    /// Moves in front of the frame with this seq; of the first one, if all are later; to the end, if all are earlier.
    ///
    /// # Errors
    ///
    /// As [`FrameFile::next`].
    pub fn seek_seq(&mut self, seq: u64) -> Result<()> {
        if seq == self.next_seq() {
            return Ok(());
        }
        let back = seq < self.next_seq();
        if let Format::Cold(cold) = &mut self.format {
            cold.enter(cold.file.tables().block_of_seq(seq).unwrap_or(0))?;
            self.held = false;
        } else if back {
            self.rewind()?;
        }
        while self.next_seq() < seq && self.advance()? {}
        Ok(())
    }

    /// Moves in front of the first frame whose `time_ns` is not before `time_ns`; to the end, if there is none.
    ///
    /// # Errors
    ///
    /// As [`FrameFile::next`].
    pub fn seek_time(&mut self, time_ns: u64) -> Result<()> {
        match &mut self.format {
            Format::Cold(cold) => {
                let blocks = cold.file.blocks().len();
                cold.enter(cold.file.tables().first_block_at(time_ns).unwrap_or(blocks))?;
                self.held = false;
            }
            _ => self.rewind()?,
        }
        while self.advance()? {
            if self.current().is_some_and(|frame| frame.time_ns >= time_ns) {
                self.held = true;
                break;
            }
        }
        Ok(())
    }

    /// Moves in front of the last book snapshot that stands before the first frame later than `time_ns`: applying what
    /// follows gives the book at that time. `false`, and at the first frame, if there is no such snapshot.
    ///
    /// # Errors
    ///
    /// As [`FrameFile::next`].
    pub fn seek_snapshot(&mut self, time_ns: u64) -> Result<bool> {
        let found = match &mut self.format {
            Format::Cold(cold) => {
                let place = cold.last_snapshot(time_ns)?;
                self.held = false;
                place
            }
            _ => {
                self.rewind()?;
                let mut last = None;
                while self.advance()? {
                    let Some(frame) = self.current().filter(|frame| frame.time_ns <= time_ns) else { break };
                    if BOOK_SNAPSHOTS.contains(&frame.type_id) {
                        last = Some(Place { block: 0, offset: frame.offset, seq: frame.seq });
                    }
                }
                last
            }
        };
        match found {
            Some(place) => self.go(place)?,
            None => self.rewind()?,
        }
        Ok(found.is_some())
    }

    /// Moves in front of the first frame.
    ///
    /// # Errors
    ///
    /// Damage that appeared in the header since.
    pub fn rewind(&mut self) -> Result<()> {
        self.held = false;
        match &mut self.format {
            Format::File(file) => file.rewind(),
            Format::Cold(cold) => cold.enter(0)?,
            Format::Segment(segment) => segment.rewind()?,
        }
        Ok(())
    }

    /// Has the current frame come next once more.
    pub(crate) fn hold(&mut self) {
        self.held = self.current().is_some();
    }

    fn go(&mut self, place: Place) -> Result<()> {
        self.held = false;
        match &mut self.format {
            Format::File(file) => file.seek(place.offset, place.seq),
            Format::Cold(cold) => cold.go(place)?,
            Format::Segment(segment) => segment.go(place)?,
        }
        Ok(())
    }
}

/// A cold file, block by block. Its frames were checked, each of them, when they were compressed, and the block's own
/// CRC was before it was decompressed: so a frame that follows in order and ends in its block is taken as it is.
#[derive(Debug)]
struct Cold<P: Platform> {
    file: ColdFile<P>,
    /// The block to read in, and whether `bytes` holds it: reading it may have failed.
    block: usize,
    loaded: bool,
    bytes: Vec<u8>,
    /// A block that will be needed again.
    spare: Option<(usize, Vec<u8>)>,
    /// Where that block begins in the `.q`.
    block_offset: u64,
    /// In `bytes`, of the next frame.
    at: usize,
    next_seq: u64,
    /// The frame moved over last: where in `bytes`, and its payload's length.
    current: Option<(usize, usize)>,
    at_end: bool,
}

impl<P: Platform> Cold<P> {
    fn open(platform: &P, path: &Path) -> Result<Self> {
        let file = ColdFile::open(platform, path)?;
        // Tables that were checked have a block, because the header and `End` are in one.
        let first_seq = file.blocks().first().map_or(1, |block| block.first_seq);
        Ok(Cold {
            file,
            block: 0,
            loaded: false,
            bytes: Vec::new(),
            spare: None,
            block_offset: 0,
            at: 0,
            next_seq: first_seq,
            current: None,
            at_end: false,
        })
    }

    /// Stands in front of block `i`, which is loaded when it is needed.
    fn enter(&mut self, i: usize) -> Result<()> {
        self.at_end = false;
        self.current = None;
        match self.file.blocks().get(i) {
            Some(block) => {
                self.next_seq = block.first_seq;
                self.load(i)
            }
            // Behind the last one.
            None => {
                if let Some(last) = self.file.blocks().len().checked_sub(1) {
                    self.next_seq = self.file.blocks()[last].first_seq;
                    self.load(last)?;
                    while self.advance()? {}
                }
                Ok(())
            }
        }
    }

    fn load(&mut self, i: usize) -> Result<()> {
        if !self.loaded || self.block != i {
            (self.block, self.loaded) = (i, false);
            if let Some((_, bytes)) = self.spare.take_if(|(spare, _)| *spare == i) {
                self.bytes = bytes;
            } else {
                self.file.read_block(i, &mut self.bytes)?;
            }
            if i == 0 {
                Header::parse(&self.bytes).map_err(|damage| self.damaged(0, damage))?;
            }
            self.loaded = true;
        }
        self.block_offset = self.file.blocks()[i].offset;
        // The first block opens with the segment's header.
        self.at = if i == 0 { HEADER_LEN } else { 0 };
        Ok(())
    }

    fn header(&mut self) -> Result<Header> {
        let parsed = if self.loaded && self.block == 0 {
            Header::parse(&self.bytes)
        } else {
            let mut bytes = Vec::new();
            self.file.read_block(0, &mut bytes)?;
            let parsed = Header::parse(&bytes);
            self.spare = Some((0, bytes));
            parsed
        };
        parsed.map_err(|damage| self.damaged(0, damage))
    }

    /// Damage at an offset of the `.q`, in block `i`: the offset that is named is the cold file's.
    fn damaged(&self, i: usize, damage: Damage) -> Error {
        let at = self.file.blocks().get(i).map_or(0, |block| block.compressed_offset);
        Error::malformed(self.file.path(), at, format!("block {i}: decompressed {damage}"))
    }

    #[inline]
    fn advance(&mut self) -> Result<bool> {
        if self.loaded
            && let Some(rest) = self.bytes.get(self.at..)
            && let Ok((header, _)) = FrameHeader::ref_from_prefix(rest)
            && let Some(payload_len) = (header.commit.get() as usize).checked_sub(1)
            && let Some(len) = frame_len(payload_len)
            && len <= rest.len()
            && header.seq.get() == self.next_seq
        {
            self.current = Some((self.at, payload_len));
            self.at += len;
            // No writer gets to the last number; a file that claims to may not stop the reader's program.
            self.next_seq = self.next_seq.wrapping_add(1);
            return Ok(true);
        }
        self.advance_slowly()
    }

    /// At the end of a block, at `End`, and where something does not fit.
    #[cold]
    fn advance_slowly(&mut self) -> Result<bool> {
        self.current = None;
        if self.at_end {
            return Ok(false);
        }
        let mut i = self.block;
        if !self.loaded {
            self.load(i)?;
        }
        while self.at >= self.bytes.len() {
            i += 1;
            let Some(block) = self.file.blocks().get(i) else {
                let found = self.file.tables().source_len;
                return Err(self.damaged(i - 1, Damage::at(found, Fault::End { expected: found, found })));
            };
            if block.first_seq != self.next_seq {
                let fault = Fault::Seq { expected: self.next_seq, found: block.first_seq };
                return Err(self.damaged(i, Damage::at(block.offset, fault)));
            }
            self.load(i)?;
        }
        let offset = self.block_offset + self.at as u64;
        let left = (self.bytes.len() - self.at) as u64;
        let next_seq = self.next_seq;
        let seq = |found| match found == next_seq {
            true => Ok(()),
            false => Err(Damage::at(offset, Fault::Seq { expected: next_seq, found })),
        };
        // A frame never reaches beyond its block, so that `left` is what it may claim.
        let decoded = frame::decode(&self.bytes[self.at..], offset, left, 0, Checksum::CommitWord);
        let result = match decoded {
            Ok(Decoded::Frame { header, payload, len }) => seq(header.seq.get()).map(|()| {
                self.current = Some((self.at, payload.len()));
                self.at += len;
                self.next_seq = next_seq.wrapping_add(1);
                true
            }),
            Ok(Decoded::End { next_seq }) => seq(next_seq).and_then(|()| {
                let (expected, found) = (self.file.tables().source_len, offset + FRAME_HEADER_LEN as u64);
                self.at_end = expected == found;
                if self.at_end { Ok(false) } else { Err(Damage::at(offset, Fault::End { expected, found })) }
            }),
            Ok(Decoded::Open) => Err(Damage::at(offset, Fault::Field { name: "commit", found: 0 })),
            Ok(Decoded::More { needed }) => {
                Err(Damage::at(offset, Fault::Short { needed: needed as u64, found: left }))
            }
            Err(damage) => Err(damage),
        };
        result.map_err(|damage| self.damaged(i, damage))
    }

    #[inline]
    fn current(&self) -> Option<Frame<'_>> {
        let (at, payload_len) = self.current?;
        let (header, rest) = FrameHeader::ref_from_prefix(self.bytes.get(at..)?).ok()?;
        let offset = self.block_offset + at as u64;
        Some(Frame {
            seq: header.seq.get(),
            time_ns: header.time_ns.get(),
            type_id: header.type_id.get(),
            flags: header.flags.get(),
            offset,
            payload: Payload::own(rest.get(..payload_len)?),
        })
    }

    fn go(&mut self, place: Place) -> Result<()> {
        self.at_end = false;
        self.current = None;
        self.load(place.block)?;
        self.next_seq = place.seq;
        self.at = (place.offset - self.file.blocks()[place.block].offset) as usize;
        Ok(())
    }

    /// The last snapshot before the first frame later than `time_ns`.
    fn last_snapshot(&mut self, time_ns: u64) -> Result<Option<Place>> {
        let blocks = self.file.blocks();
        let Some(last) = blocks.len().checked_sub(1) else { return Ok(None) };
        let first_later = blocks.iter().position(|block| block.max_time > time_ns).unwrap_or(last);
        for i in (0..=first_later).rev() {
            // The block looked at before this one is read right after this one.
            if self.loaded && self.block == i + 1 {
                self.spare = Some((i + 1, std::mem::take(&mut self.bytes)));
                self.loaded = false;
            }
            self.enter(i)?;
            let end = self.file.blocks().get(i + 1).map_or(u64::MAX, |block| block.first_seq);
            let mut found = None;
            while self.next_seq < end && self.advance()? {
                let Some(frame) = self.current().filter(|frame| frame.time_ns <= time_ns) else { break };
                if BOOK_SNAPSHOTS.contains(&frame.type_id) {
                    found = Some(Place { block: i, offset: frame.offset, seq: frame.seq });
                }
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// A queue's segment, mapped, and kept from being used again by a shared lock.
#[derive(Debug)]
struct Segment<P: Platform> {
    path: PathBuf,
    header: Header,
    /// `None` if it is prepared but not yet part of its queue, or after damage.
    reader: Option<Reader<P::Map>>,
    tail: Tail,
    current: Option<(Frame<'static>, Vec<u8>)>,
    /// Holds the lock.
    _file: P::File,
}

impl<P: Platform> Segment<P> {
    fn open(platform: &P, file: P::File, path: &Path, len: usize) -> Result<Self> {
        if !file.try_lock(Lock::Shared)? {
            return Err(Error::Busy { path: path.into() });
        }
        let found = file.len()?;
        if found < len as u64 {
            return Err(Error::fault(path, found, Fault::Short { needed: len as u64, found }));
        }
        let map = platform.map(&file, len)?;
        let damage = |damage| Error::damage(path, damage);
        let header = chronicle_core::header(chronicle_core::Region::window(&map)).map_err(damage)?;
        let begun = chronicle_core::read_begin(chronicle_core::Region::window(&map), header.salt).is_some();
        let reader = if begun { Some(Reader::attach(map).map_err(damage)?) } else { None };
        Ok(Segment { path: path.into(), header, reader, tail: Tail::Ahead, current: None, _file: file })
    }

    fn advance(&mut self) -> Result<bool> {
        let spare = self.current.take().map(|(_, bytes)| bytes);
        let Some(reader) = &mut self.reader else {
            self.tail = Tail::Open;
            return Ok(false);
        };
        match reader.step_verified().map_err(|damage| Error::damage(&self.path, damage))? {
            Step::Frame(frame) => {
                // Copied out: the region may change, a frame that was handed out must not.
                let mut bytes = spare.unwrap_or_default();
                bytes.resize(frame.payload.len(), 0);
                frame.payload.copy_to(&mut bytes);
                let head = Frame { payload: Payload::own(&[]), ..frame };
                self.current = Some((head, bytes));
                Ok(true)
            }
            Step::Open => {
                self.tail = Tail::Open;
                Ok(false)
            }
            Step::End { .. } => {
                self.tail = Tail::Sealed;
                Ok(false)
            }
        }
    }

    fn current(&self) -> Option<Frame<'_>> {
        let (frame, bytes) = self.current.as_ref()?;
        Some(Frame { payload: Payload::own(bytes), ..*frame })
    }

    fn next_seq(&self) -> u64 {
        self.reader.as_ref().map_or(1, |reader| reader.mark().next_seq())
    }

    fn rewind(&mut self) -> Result<()> {
        let first = self.reader.as_ref().map_or(1, |reader| reader.mark().first_seq());
        self.go(Place { block: 0, offset: HEADER_LEN as u64, seq: first })
    }

    fn go(&mut self, place: Place) -> Result<()> {
        self.current = None;
        self.tail = Tail::Ahead;
        if let Some(reader) = self.reader.take() {
            let reader = Reader::attach_at(reader.into_region(), place.offset as u32, place.seq);
            self.reader = Some(reader.map_err(|damage| Error::damage(&self.path, damage))?);
        }
        Ok(())
    }
}

/// What comes next in any of our files; only a queue can have lost frames.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Frames that a crash took, or that left the queue before they were read.
    Lost {
        /// The first.
        from: u64,
        /// The last that it may have been.
        to: u64,
    },
}

/// The frames of any path of ours; see [`open_any`].
#[derive(Debug)]
pub struct Frames<P: Platform> {
    source: Any<P>,
}

#[derive(Debug)]
enum Any<P: Platform> {
    File(Box<FrameFile<P>>),
    Queue(Box<Subscriber<P>>),
}

/// Opens a queue's directory from its oldest frame on, or any file with frames, by what it holds.
///
/// # Errors
///
/// As [`FrameFile::open`] and [`Queue::observer`].
pub fn open_any<P: Platform>(platform: &P, path: &Path) -> Result<Frames<P>> {
    let source = match FrameFile::open(platform, path) {
        Ok(file) => Any::File(Box::new(file)),
        // A directory cannot be opened as a file.
        Err(Error::Trouble(trouble))
            if trouble.kind() != TroubleKind::NotFound
                && platform.exists(&path.join("control.meta")).unwrap_or(false) =>
        {
            let options =
                SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
            Any::Queue(Box::new(Queue::observer(platform, path, options)?))
        }
        Err(error) => return Err(error),
    };
    Ok(Frames { source })
}

impl<P: Platform> Frames<P> {
    /// What comes next; `None` at the end. Of a queue, or a file that still grows, a later call may have more.
    ///
    /// # Errors
    ///
    /// Damage; `Busy`; trouble.
    // Not an iterator: the frame borrows the reader.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Event<'_>>> {
        match &mut self.source {
            Any::File(file) => Ok(file.next()?.map(Event::Frame)),
            Any::Queue(queue) => {
                let expected = queue.position().map_or(1, |position| position.seq);
                match queue.next() {
                    Ok(frame) => Ok(frame.map(Event::Frame)),
                    Err(ReadError::Lost { from, to }) => Ok(Some(Event::Lost { from, to })),
                    Err(ReadError::Lapped { resume_at }) => {
                        Ok(Some(Event::Lost { from: expected.min(resume_at), to: resume_at.saturating_sub(1) }))
                    }
                    // Of cursors only, and this reader has none.
                    Err(ReadError::Reset { .. }) => Ok(None),
                    Err(ReadError::Busy { path }) => Err(Error::Busy { path }),
                    Err(ReadError::Failed(error)) => Err(error),
                }
            }
        }
    }

    /// Moves in front of the frame with this seq, or of the first one behind it.
    ///
    /// # Errors
    ///
    /// As [`Frames::next`].
    pub fn seek_seq(&mut self, seq: u64) -> Result<()> {
        match &mut self.source {
            Any::File(file) => file.seek_seq(seq),
            Any::Queue(queue) => queue.seek(Start::Seq(seq)).or_else(not_an_event),
        }
    }

    /// Moves so that no frame at this time or later is missed.
    ///
    /// # Errors
    ///
    /// As [`Frames::next`].
    pub fn seek_time(&mut self, time_ns: u64) -> Result<()> {
        match &mut self.source {
            Any::File(file) => file.seek_time(time_ns),
            Any::Queue(queue) => queue.seek(Start::Time(time_ns)).or_else(not_an_event),
        }
    }

    /// The file, where it is one; `None` of a queue.
    #[must_use]
    pub fn file(&self) -> Option<&FrameFile<P>> {
        match &self.source {
            Any::File(file) => Some(file),
            Any::Queue(_) => None,
        }
    }

    /// Says that bytes of a file before `len` were synced; see [`PartitionFile::require`].
    pub fn require(&mut self, len: u64) {
        if let Any::File(file) = &mut self.source {
            file.require(len);
        }
    }

    /// What the end of a file looks like, if the reader has come there; `None` of a queue.
    #[must_use]
    pub fn tail(&self) -> Option<Tail> {
        match &self.source {
            Any::File(file) => Some(file.tail()),
            Any::Queue(_) => None,
        }
    }

    /// Waits until a queue may have more, at most `timeout`; `false` if the path is a file, which wakes nobody.
    ///
    /// # Errors
    ///
    /// As [`Frames::next`].
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        match &mut self.source {
            Any::File(_) => Ok(false),
            Any::Queue(queue) => queue.wait(timeout).map(|_| true).or_else(|error| not_an_event(error).map(|()| true)),
        }
    }
}

/// Events come again with the next read; anything else is an error.
pub(crate) fn not_an_event(error: ReadError) -> Result<()> {
    match error {
        ReadError::Failed(error) => Err(error),
        ReadError::Busy { path } => Err(Error::Busy { path }),
        ReadError::Lost { .. } | ReadError::Lapped { .. } | ReadError::Reset { .. } => Ok(()),
    }
}

/// Partitions of a root, on whatever tier.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use chronicle_core::Append;
/// use chronicle_platform_linux::Linux;
/// use chronicle_storage::{partition::PartitionWriter, reader::ArchiveReader, root::*};
///
/// let dir = tempfile::tempdir().unwrap();
/// let root = Root::new(dir.path());
/// let date = "2024-03-01".parse().unwrap();
/// let id = PartitionId::new("binance-spot".parse().unwrap(), "btcusdt".parse().unwrap(), date, Stream::Trades);
/// let mut writer = PartitionWriter::create(&Linux, &root.partition(Tier::Warm, &id), &id).unwrap();
/// writer.append(Append { time_ns: 17, type_id: 3, flags: 0 }, b"a trade").unwrap();
/// writer.seal().unwrap();
///
/// let archive = ArchiveReader::open(&Linux, &root).unwrap();
/// assert_eq!(archive.dates(&id.venue, &id.symbol).unwrap(), [date]);
/// let mut trades = archive.partition(&id).unwrap().unwrap();
/// assert_eq!(trades.next().unwrap().unwrap().time_ns, 17);
/// assert!(trades.next().unwrap().is_none());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ArchiveReader<P: Platform> {
    platform: P,
    root: Root,
}

/// How often a partition is looked for before it counts as absent: a file that moves is in two places for a while,
/// never in none, but a look that crosses several moves may miss it.
const LOOKS: usize = 3;

impl<P: Platform> ArchiveReader<P> {
    /// Reads a root.
    ///
    /// # Errors
    ///
    /// Trouble of kind `NotFound` if none of its directories is there.
    pub fn open(platform: &P, root: &Root) -> Result<Self> {
        for dir in [&root.warm, &root.cold, &root.hot, &root.state] {
            if platform.exists(dir)? {
                return Ok(ArchiveReader { platform: platform.clone(), root: root.clone() });
            }
        }
        let dir = root.warm.parent().unwrap_or(&root.warm);
        Err(Trouble::new("open root", dir, std::io::Error::from(std::io::ErrorKind::NotFound)).into())
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The partition, on the fastest tier that has it; `None` if none has.
    ///
    /// # Errors
    ///
    /// Damage in what opening looks at: the next tier is not asked then, because it must not hide it. Trouble.
    pub fn partition(&self, id: &PartitionId) -> Result<Option<Partition<P>>> {
        Ok(self.find(id)?.map(|(tier, file)| Partition {
            archive: self.clone(),
            id: id.clone(),
            tier,
            file,
            required: 0,
            waited: false,
        }))
    }

    fn find(&self, id: &PartitionId) -> Result<Option<(Tier, FrameFile<P>)>> {
        for _ in 0..LOOKS {
            let mut seen = false;
            for tier in Tier::ALL {
                for path in self.names(tier, id) {
                    match FrameFile::open(&self.platform, &path) {
                        Ok(file) => return Ok(Some((tier, file))),
                        Err(error) if error.is_not_found() => {}
                        // Gone between two steps of opening it: then it has moved on.
                        Err(error) if !self.platform.exists(&path)? => {
                            seen = true;
                            let _ = error;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            // Directories that were never there need no second look.
            if !seen && !self.day_exists(id)? {
                break;
            }
        }
        Ok(None)
    }

    /// The names that a partition may have on a tier, the usual one first: the bytes decide the format.
    fn names(&self, tier: Tier, id: &PartitionId) -> [PathBuf; 2] {
        let usual = self.root.partition(tier, id);
        let stem = usual.with_file_name(id.stream.stem());
        let other = stem.with_extension(if tier == Tier::Cold { "q" } else { "q.zst" });
        [usual, other]
    }

    fn day_exists(&self, id: &PartitionId) -> Result<bool> {
        for tier in Tier::ALL {
            if self.platform.exists(&self.root.day(tier, &id.venue, &id.symbol, id.date))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Venues with partitions, sorted.
    ///
    /// # Errors
    ///
    /// Trouble.
    pub fn venues(&self) -> Result<Vec<Name>> {
        self.directories(|tier| self.root.partitions(tier))
    }

    /// Symbols of a venue with partitions, sorted.
    ///
    /// # Errors
    ///
    /// Trouble.
    pub fn symbols(&self, venue: &Name) -> Result<Vec<Name>> {
        self.directories(|tier| self.root.partitions(tier).join(venue))
    }

    /// Days of a symbol with partitions, in order.
    ///
    /// # Errors
    ///
    /// Trouble.
    pub fn dates(&self, venue: &Name, symbol: &Name) -> Result<Vec<Date>> {
        self.directories(|tier| self.root.partitions(tier).join(venue).join(symbol))
    }

    /// Streams of a day that have a partition, in the order of [`Stream::ALL`].
    ///
    /// # Errors
    ///
    /// Trouble.
    pub fn streams(&self, venue: &Name, symbol: &Name, date: Date) -> Result<Vec<Stream>> {
        let mut found = BTreeSet::new();
        for tier in Tier::ALL {
            for entry in list(&self.platform, &self.root.day(tier, venue, symbol, date))? {
                let stem = entry.name.strip_suffix(".q").or_else(|| entry.name.strip_suffix(".q.zst"));
                found.extend(stem.and_then(|stem| stem.parse::<Stream>().ok()));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// What the names of directories say, on all tiers; names that say nothing are not ours.
    fn directories<T: std::str::FromStr + Ord>(&self, dir: impl Fn(Tier) -> PathBuf) -> Result<Vec<T>> {
        let mut found = BTreeSet::new();
        for tier in Tier::ALL {
            let entries = list(&self.platform, &dir(tier))?;
            found.extend(entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.name.parse().ok()));
        }
        Ok(found.into_iter().collect())
    }
}

/// Names in a directory; none if it is not there.
pub(crate) fn list<P: Platform>(platform: &P, dir: &Path) -> Result<Vec<chronicle_platform::Entry>> {
    match platform.list(dir) {
        Ok(entries) => Ok(entries),
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => Ok(Vec::new()),
        Err(trouble) => Err(trouble.into()),
    }
}

/// A partition's frames, on whatever tier it is, and goes to.
#[derive(Debug)]
pub struct Partition<P: Platform> {
    archive: ArchiveReader<P>,
    id: PartitionId,
    tier: Tier,
    file: FrameFile<P>,
    required: u64,
    /// The last read met the end of a file that still grows.
    waited: bool,
}

impl<P: Platform> Partition<P> {
    /// The next frame, `None` at the end; of a partition that still grows, a later call may have more.
    ///
    /// # Errors
    ///
    /// Damage; trouble of reading.
    // Not an iterator: the frame borrows the reader.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        Ok(if self.advance()? { self.current() } else { None })
    }

    /// Moves behind the next frame, which is then [`Partition::current`]; `false` at the end.
    ///
    /// # Errors
    ///
    /// As [`Partition::next`].
    #[inline]
    pub fn advance(&mut self) -> Result<bool> {
        if self.waited && !self.file.is_sealed() {
            self.follow()?;
        }
        let moved = self.file.advance()?;
        self.waited = !moved;
        Ok(moved)
    }

    /// Looks whether the name still means the file that is open; if not, finds the partition again and stands where it
    /// stood. Only a file that still grows can be replaced by one that says more.
    fn follow(&mut self) -> Result<()> {
        let Format::File(open) = &self.file.format else { return Ok(()) };
        let here = open.file().id()?;
        match self.archive.platform.open(open.path(), Open::Read) {
            Ok(named) if named.id()? == here => return Ok(()),
            Ok(_) => {}
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => {}
            Err(trouble) => return Err(trouble.into()),
        }
        let next_seq = self.file.next_seq();
        if let Some((tier, mut file)) = self.archive.find(&self.id)? {
            file.require(self.required);
            file.seek_seq(next_seq)?;
            // A refinery that began anew has not come as far yet; what it writes on the way was read already.
            if file.next_seq() == next_seq {
                (self.tier, self.file) = (tier, file);
            }
        }
        Ok(())
    }

    /// The frame that the last call moved over, if it did.
    #[must_use]
    #[inline]
    pub fn current(&self) -> Option<Frame<'_>> {
        self.file.current()
    }

    /// Which partition it is.
    #[must_use]
    pub fn id(&self) -> &PartitionId {
        &self.id
    }

    /// Where it is read.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The file that is read.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Seq of the frame that comes next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.file.next_seq()
    }

    /// What the end looks like, if the reader has come there.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.file.tail()
    }

    /// Whether the partition is final.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.file.is_sealed()
    }

    /// How many blocks were decompressed so far.
    #[must_use]
    pub fn blocks_read(&self) -> u64 {
        self.file.blocks_read()
    }

    /// Says that bytes before `len` were synced; see [`PartitionFile::require`].
    pub fn require(&mut self, len: u64) {
        self.required = self.required.max(len);
        self.file.require(len);
    }

    /// See [`FrameFile::seek_seq`].
    ///
    /// # Errors
    ///
    /// As [`Partition::next`].
    pub fn seek_seq(&mut self, seq: u64) -> Result<()> {
        self.waited = false;
        self.file.seek_seq(seq)
    }

    /// See [`FrameFile::seek_time`].
    ///
    /// # Errors
    ///
    /// As [`Partition::next`].
    pub fn seek_time(&mut self, time_ns: u64) -> Result<()> {
        self.waited = false;
        self.file.seek_time(time_ns)
    }

    /// See [`FrameFile::seek_snapshot`].
    ///
    /// # Errors
    ///
    /// As [`Partition::next`].
    pub fn seek_snapshot(&mut self, time_ns: u64) -> Result<bool> {
        self.waited = false;
        self.file.seek_snapshot(time_ns)
    }

    /// Moves in front of the first frame.
    ///
    /// # Errors
    ///
    /// As [`FrameFile::rewind`].
    pub fn rewind(&mut self) -> Result<()> {
        self.waited = false;
        self.file.rewind()
    }
}
