//! Partition files: one (venue, symbol, UTC date, stream), with a segment's layout and a writer of their own.
//!
//! ```text
//! 0        128                                              seal.end    seal.end + 32
//! [ header ][ frame ][ frame ] …                            [ End ]     end of the file
//!   segment_len 0, segment_id 1, epoch 0, created_ns 0, checksum 1
//!   queue_id = SHA-256("venue/symbol/date/stream")[0..16], salt = its bytes 16..20
//!   begin {first_seq 1} from the start; seal zero until the file is final
//! ```
//!
//! [`PartitionWriter`] appends through a buffer; the file grows with its content, and its bytes depend on the frames
//! alone: no time, no randomness, no trace of how often it was flushed or resumed. [`PartitionWriter::flush`] returns
//! what is durable as a [`Committed`], for the caller's checkpoint. After a crash [`PartitionWriter::resume`] cuts what
//! lies behind, unread, and writes go on there; appending the same frames again gives the same file.
//!
//! [`PartitionFile`] reads one, sealed or still growing, through a bounded buffer. Every CRC, seq, length and padding
//! byte is checked, and no length is believed before it fits the file. It also reads recorded raw segments, which have
//! the same layout. It never maps a file, so nobody who truncates one can hurt a reader.
//!
//! **What a growing file's end means.** Behind the length that a checkpoint names, a crash may have left anything: a
//! reader stops at the first incomplete frame and says so ([`Tail::Torn`]); this is no error. In front of it the same
//! finding is damage. A reader that does not know the length ([`PartitionFile::require`]) cannot tell the two apart.

use crate::{
    Error, ErrorKind, Result,
    growing::{self, Birth, GrowingFile, SEAL_AT},
    root::PartitionId,
};
use chronicle_core::{
    Append, Begin, Checksum, Damage, Fault, Frame, Header, Seal, Spec,
    frame::{self, Decoded},
    layout::{FRAME_ALIGN, FRAME_HEADER_LEN, FrameHeader, HEADER_LEN},
};
use chronicle_platform::{File, Open, Platform, Trouble};
use std::path::{Path, PathBuf};

pub use crate::growing::Committed;

/// `type_id`s of a book's snapshots, by price, by order, and by price with the number of orders: where reading may begin.
/// Archives cut their blocks there; what else storage knows about records is in [`crate::tally`].
pub const BOOK_SNAPSHOTS: [u16; 3] = [2, 9, 11];

/// The fixed part of a partition's header.
fn spec(id: &PartitionId) -> Spec {
    Spec {
        queue_id: id.queue_id(),
        segment_id: 1,
        salt: id.salt(),
        clock: id.stream.clock(),
        checksum: Checksum::Frame,
        ..Spec::default()
    }
}

/// Writes a partition's file. One at a time: who owns the venue's lock owns its partitions.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use chronicle_core::Append;
/// use chronicle_platform_linux::Linux;
/// use chronicle_storage::{partition::{PartitionFile, PartitionWriter}, root::*};
///
/// let dir = tempfile::tempdir().unwrap();
/// let date = "2024-03-01".parse().unwrap();
/// let id = PartitionId::new("binance-spot".parse().unwrap(), "btcusdt".parse().unwrap(), date, Stream::Trades);
/// let path = Root::new(dir.path()).partition(Tier::Warm, &id);
///
/// let mut writer = PartitionWriter::create(&Linux, &path, &id).unwrap();
/// writer.append(Append { time_ns: date.start_ns(), type_id: 3, flags: 0 }, b"a trade").unwrap();
/// let checkpoint = writer.flush().unwrap();
/// writer.append(Append { time_ns: date.start_ns() + 1, type_id: 3, flags: 0 }, b"lost in a crash").unwrap();
/// drop(writer);
///
/// let mut writer = PartitionWriter::resume(&Linux, &path, &id, &checkpoint).unwrap();
/// writer.seal().unwrap();
///
/// let mut file = PartitionFile::open(&Linux, &path).unwrap();
/// let frame = file.next().unwrap().unwrap();
/// assert_eq!((frame.seq, frame.payload.as_slice(None).unwrap()), (1, &b"a trade"[..]));
/// assert!(file.next().unwrap().is_none());
/// # }
/// ```
#[derive(Debug)]
pub struct PartitionWriter<P: Platform> {
    file: GrowingFile<P>,
}

impl<P: Platform> PartitionWriter<P> {
    /// Begins a partition that does not exist yet. The file appears, already whole and durable, when the buffer is
    /// first written: at the latest with [`PartitionWriter::flush`].
    ///
    /// # Errors
    ///
    /// Trouble of kind `Exists`: a file that no checkpoint knows is removed by the caller, not here.
    pub fn create(platform: &P, path: &Path, id: &PartitionId) -> Result<Self> {
        if platform.exists(path)? {
            let reason = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Trouble::new("create", path, reason).into());
        }
        Ok(PartitionWriter { file: GrowingFile::create(platform, path, Birth::Visible, &spec(id), 1) })
    }

    /// Goes on where a checkpoint was taken, after a crash: reads the file up to there to compare its CRC, and cuts the
    /// rest unread.
    ///
    /// # Errors
    ///
    /// Damage: the file is shorter, is another partition's, or its bytes are not those of the checkpoint (then with
    /// the offset of the first frame that is wrong, if one is). `Sealed`: nothing comes behind a seal. Trouble of kind
    /// `NotFound` if it is gone. The file is cut only when everything fits.
    pub fn resume(platform: &P, path: &Path, id: &PartitionId, committed: &Committed) -> Result<Self> {
        Self::go_on(platform, path, id, committed, true)
    }

    /// As [`PartitionWriter::resume`] without reading the file: for a writer that this very process parked to have fewer
    /// files open, and that nobody wrote to since.
    ///
    /// # Errors
    ///
    /// As [`PartitionWriter::resume`], of what the header and the length show.
    pub fn reopen(platform: &P, path: &Path, id: &PartitionId, committed: &Committed) -> Result<Self> {
        Self::go_on(platform, path, id, committed, false)
    }

    fn go_on(platform: &P, path: &Path, id: &PartitionId, committed: &Committed, read: bool) -> Result<Self> {
        if committed.sealed {
            return Err(Error::Sealed { path: path.into() });
        }
        let spec = spec(id);
        let file = platform.open(path, Open::Write)?;
        let found = file.len()?;
        let start = HEADER_LEN as u64;
        if committed.len < start || !committed.len.is_multiple_of(FRAME_ALIGN as u64) {
            let fault = Fault::Field { name: "checkpoint length", found: committed.len };
            return Err(Error::fault(path, committed.len, fault));
        }
        if found < committed.len {
            return Err(Error::fault(path, found, Fault::Short { needed: committed.len, found }));
        }
        let mut header = [0; HEADER_LEN];
        file.read_at(&mut header, 0)?;
        Header::parse(&header).map_err(|damage| Error::damage(path, damage))?;
        let expected = growing::header(&spec, 1);
        if let Some(at) = (0..SEAL_AT).find(|at| header[*at] != expected[*at]) {
            // Whole and valid, but not what this partition's header is.
            let fault = Fault::Field { name: "header of another partition", found: header[at].into() };
            return Err(Error::fault(path, at as u64, fault));
        }
        if read {
            let computed = crc_of(&file, start, committed.len)?;
            if computed != committed.running_crc {
                return Err(first_damage(platform, path, committed, computed));
            }
        }
        if header[SEAL_AT..] != [0; HEADER_LEN - SEAL_AT] {
            // It was sealed, and the machine stopped before the checkpoint that says so. The seal goes first, durably:
            // a file with a seal is whole at every moment.
            file.write_at(&[0; HEADER_LEN - SEAL_AT], SEAL_AT as u64)?;
            file.sync()?;
        }
        if found > committed.len {
            file.set_len(committed.len)?;
        }
        Ok(PartitionWriter { file: GrowingFile::resume(platform, path, file, &spec, committed, !read) })
    }

    /// Appends one frame to the buffer and returns its seq. May write the buffer; never syncs, but for the first bytes
    /// of a new file, which are published.
    ///
    /// # Errors
    ///
    /// Trouble of writing the buffer (nothing was appended; it may be tried again), `TooLarge`, or `Sealed`.
    pub fn append(&mut self, append: Append, payload: &[u8]) -> Result<u64> {
        self.file.append(append, payload)
    }

    /// Writes the buffer and makes it durable, which costs nothing if nothing was appended since. A partition without
    /// frames appears too.
    ///
    /// # Errors
    ///
    /// Trouble. After a failed sync every later call fails: what is on the medium is unknown, and only
    /// [`PartitionWriter::resume`] finds out.
    pub fn flush(&mut self) -> Result<Committed> {
        self.file.flush()
    }

    /// Writes the buffer, so that whoever reads the file finds it there. It is *not* durable: for that,
    /// [`PartitionWriter::flush`].
    ///
    /// # Errors
    ///
    /// As [`PartitionWriter::append`].
    pub fn show(&mut self) -> Result<()> {
        self.file.write_out().map(drop)
    }

    /// Writes the buffer and closes the file, to have fewer files open. What was written is *not* durable, and must not
    /// enter a checkpoint before [`PartitionWriter::reopen`] and [`PartitionWriter::flush`].
    ///
    /// # Errors
    ///
    /// Trouble; what was not flushed is then gone, and the partition is resumed from its last checkpoint.
    pub fn park(mut self) -> Result<Committed> {
        self.file.write_out()
    }

    /// Makes the file final and durable: its `End`, then its seal.
    ///
    /// # Errors
    ///
    /// As [`PartitionWriter::flush`]; `Sealed` if it is already.
    pub fn seal(&mut self) -> Result<Committed> {
        self.file.seal()
    }

    /// Seq that the next frame gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.file.next_seq()
    }

    /// Length of the file once the buffer is written.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Whether no frame was appended, ever.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.file.next_seq() == 1
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// CRC-32 of a file's bytes from `start` to `end`.
fn crc_of<F: File>(file: &F, start: u64, end: u64) -> Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut chunk = vec![0; growing::BUFFER.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let want = chunk.len().min((end - at) as usize);
        let n = file.read_at(&mut chunk[..want], at)?;
        if n == 0 {
            break;
        }
        crc.update(&chunk[..n]);
        at += n as u64;
    }
    Ok(crc.finalize())
}

/// Which frame makes the running CRC wrong; if all are whole, the file is another one of the same partition.
fn first_damage<P: Platform>(platform: &P, path: &Path, committed: &Committed, computed: u32) -> Error {
    let walk = || -> Result<()> {
        let mut file = PartitionFile::open(platform, path)?;
        file.require(committed.len);
        while file.offset() < committed.len && file.next()?.is_some() {}
        Ok(())
    };
    match walk() {
        Err(error) => error,
        Ok(()) => Error::fault(path, committed.len, Fault::Crc { stored: committed.running_crc, computed }),
    }
}

/// How often a seal that does not fit is read again before it is damage.
const SEAL_LOOKS: usize = 3;

/// What a reader found at the end of a file, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// It has not come to the end.
    Ahead,
    /// The end of a file that still grows, between two frames: more may come.
    Open,
    /// The end of a file that still grows, inside a frame: it is being written, or a crash tore it.
    Torn {
        /// What does not fit, and where; its offset is where the good bytes end.
        damage: Damage,
    },
    /// The end of a sealed file, and everything fitted.
    Sealed,
}

/// Reads a partition's or a recorded raw segment's file, frame by frame, each one checked.
///
/// Where the file still grows, [`PartitionFile::next`] returns `None` at its present end and more later; nothing is
/// kept open against the writer.
#[derive(Debug)]
pub struct PartitionFile<P: Platform> {
    file: P::File,
    path: PathBuf,
    header: Header,
    first_seq: u64,
    seal: Option<Seal>,
    /// Length of the file when last asked.
    len: u64,
    /// Bytes before this were synced: nothing there can be torn.
    required: u64,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte, and how many bytes of it are read.
    buffer_at: u64,
    filled: usize,
    offset: u64,
    next_seq: u64,
    tail: Tail,
    /// Times of the frames seen, while none was skipped.
    times: Option<(u64, u64)>,
    /// The frame that was moved over last, and its offset.
    current: Option<(Found, u64)>,
}

/// A frame that was found: its header, where its payload is in the buffer, and what it takes.
#[derive(Debug)]
struct Found {
    header: FrameHeader,
    payload: std::ops::Range<usize>,
    len: usize,
}

impl<P: Platform> PartitionFile<P> {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    ///
    /// Trouble; damage in the header; or it is a queue's segment, which is read by mapping it.
    pub fn open(platform: &P, path: &Path) -> Result<Self> {
        let file = platform.open(path, Open::Read)?;
        Self::of_file(file, path)
    }

    pub(crate) fn of_file(file: P::File, path: &Path) -> Result<Self> {
        let damage = |damage| Error::damage(path, damage);
        let mut bytes = [0; HEADER_LEN];
        let n = file.read_at(&mut bytes, 0)?;
        let header = Header::parse(&bytes[..n]).map_err(damage)?;
        if header.segment_len != 0 {
            let fault = Fault::Field { name: "segment_len", found: header.segment_len.into() };
            return Err(Error::fault(path, 68, fault));
        }
        let Some(Begin { first_seq }) = Begin::parse(&bytes, header.salt) else {
            return Err(Error::fault(path, 80, Fault::Field { name: "begin.first_seq", found: 0 }));
        };
        let mut this = PartitionFile {
            len: file.len()?,
            file,
            path: path.to_owned(),
            header,
            first_seq,
            seal: None,
            required: HEADER_LEN as u64,
            buffer: Vec::new(),
            buffer_at: HEADER_LEN as u64,
            filled: 0,
            offset: HEADER_LEN as u64,
            next_seq: first_seq,
            tail: Tail::Ahead,
            times: Some((u64::MAX, 0)),
            current: None,
        };
        this.take_seal(&bytes)?;
        Ok(this)
    }

    /// Takes the seal of these header bytes, if there is one, and only if the file is as long as it says.
    fn take_seal(&mut self, header: &[u8; HEADER_LEN]) -> Result<()> {
        let mut bytes = *header;
        // A writer may be storing the seal, or taking it back, just now: what does not fit is looked at again.
        for _ in 0..SEAL_LOOKS {
            self.len = self.file.len()?;
            match self.seal_of(&bytes) {
                Ok(seal) => {
                    self.seal = seal;
                    return Ok(());
                }
                Err(_) => self.file.read_at(&mut bytes, 0)?,
            };
        }
        self.seal = self.seal_of(&bytes)?;
        Ok(())
    }

    /// The seal that header bytes hold. It lies in one sector, so no crash tears it: bytes that are neither a seal nor
    /// zero are damage, and must not make a sealed file pass for one that still grows.
    fn seal_of(&self, bytes: &[u8; HEADER_LEN]) -> Result<Option<Seal>> {
        let Some(seal) = Seal::parse(bytes, self.header.salt) else {
            let field = &bytes[SEAL_AT..];
            if field.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            let (content, crc) = field.split_at(field.len() - 4);
            let mut computed = crc32fast::Hasher::new_with_initial(self.header.salt);
            computed.update(content);
            let stored = u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]);
            let fault = Fault::Crc { stored, computed: computed.finalize() };
            return Err(self.fault((HEADER_LEN - 4) as u64, fault));
        };
        let expected = seal.end.saturating_add(FRAME_HEADER_LEN as u64);
        if !seal.end.is_multiple_of(FRAME_ALIGN as u64) || expected != self.len {
            return Err(self.fault(self.len.min(expected), Fault::End { expected, found: self.len }));
        }
        Ok(Some(seal))
    }

    /// Whether the file is no longer sealed: a writer that resumed took the seal back.
    fn is_unsealed(&self) -> Result<bool> {
        let mut bytes = [0; HEADER_LEN];
        self.file.read_at(&mut bytes, 0)?;
        Ok(bytes[SEAL_AT..].iter().all(|b| *b == 0))
    }

    fn fault(&self, offset: u64, fault: Fault) -> Error {
        Error::fault(&self.path, offset, fault)
    }

    /// Says that bytes before `len` were synced, as a checkpoint knows: what does not fit there is damage, not a torn
    /// tail, and so is a file that is shorter.
    pub fn require(&mut self, len: u64) {
        self.required = self.required.max(len);
    }

    /// The next frame; `None` at the end, about which [`PartitionFile::tail`] says more. At the end of a file that
    /// still grows, a later call looks again.
    ///
    /// # Errors
    ///
    /// Damage in a sealed file or before the required length, always the same on the next call; trouble of reading.
    // Not an iterator: the frame borrows the buffer.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        Ok(if self.advance()? { self.current() } else { None })
    }

    /// Moves behind the next frame, which is then [`PartitionFile::current`]; `false` at the end. For who decides
    /// between two calls whether to go on.
    ///
    /// # Errors
    ///
    /// As [`PartitionFile::next`].
    pub fn advance(&mut self) -> Result<bool> {
        self.current = None;
        let Some(found) = self.find()? else { return Ok(false) };
        let time = found.header.time_ns.get();
        self.times = self.times.map(|(min, max)| (min.min(time), max.max(time)));
        // No writer gets to the last number; a file that claims to may not stop the reader's program.
        self.next_seq = self.next_seq.wrapping_add(1);
        let at = self.offset;
        self.offset += found.len as u64;
        self.current = Some((found, at));
        Ok(true)
    }

    /// The frame that the last call moved over, if it did.
    #[must_use]
    pub fn current(&self) -> Option<Frame<'_>> {
        let (Found { header, payload, .. }, at) = self.current.as_ref()?;
        Some(Frame::own(header, &self.buffer[payload.clone()], *at))
    }

    fn find(&mut self) -> Result<Option<Found>> {
        if self.tail == Tail::Sealed {
            return Ok(None);
        }
        if self.tail != Tail::Ahead {
            self.look_again()?;
        }
        if let Some(seal) = self.seal {
            match self.find_sealed(&seal) {
                Err(error) if error.kind() == ErrorKind::Damage && self.is_unsealed()? => {
                    self.seal = None;
                    self.look_again()?;
                }
                found => return found,
            }
        }
        match self.decode(u64::MAX)? {
            Ok(Next::Frame(found)) => Ok(Some(found)),
            // `End` without a seal: the writer is between the two, or a crash was. A later look finds out.
            Ok(Next::End) => self.stop(None),
            Ok(Next::Nothing) if self.offset == self.len => {
                let torn = Fault::Short { needed: self.required, found: self.len };
                self.stop((self.len < self.required).then_some(Damage::at(self.len, torn)))
            }
            Ok(Next::Nothing) => self.stop(Some(self.open_word())),
            Err(damage) => self.stop(Some(damage)),
        }
    }

    /// The end of a growing file, for now.
    fn stop(&mut self, torn: Option<Damage>) -> Result<Option<Found>> {
        match torn {
            Some(damage) if self.offset < self.required => return Err(Error::damage(&self.path, damage)),
            Some(damage) => self.tail = Tail::Torn { damage },
            None => self.tail = Tail::Open,
        }
        Ok(None)
    }

    fn open_word(&self) -> Damage {
        Damage::at(self.offset, Fault::Field { name: "commit", found: 0 })
    }

    fn find_sealed(&mut self, seal: &Seal) -> Result<Option<Found>> {
        if self.offset < seal.end {
            let next = self.decode(seal.end - self.offset)?.map_err(|damage| Error::damage(&self.path, damage))?;
            return match next {
                Next::Frame(found) => Ok(Some(found)),
                Next::End => Err(self.fault(self.offset, Fault::End { expected: seal.end, found: self.offset })),
                Next::Nothing => Err(Error::damage(&self.path, self.open_word())),
            };
        }
        match self.decode(FRAME_HEADER_LEN as u64)?.map_err(|damage| Error::damage(&self.path, damage))? {
            Next::End => {}
            _ => return Err(self.fault(self.offset, Fault::End { expected: seal.end, found: self.len })),
        }
        let count = self.next_seq.wrapping_sub(self.first_seq);
        if count != seal.count {
            return Err(self.fault(SEAL_AT as u64, Fault::Field { name: "seal.count", found: seal.count }));
        }
        if let Some(times) = self.times {
            let (min, max) = if count == 0 { (0, 0) } else { times };
            if min != seal.min_time {
                return Err(
                    self.fault(SEAL_AT as u64 + 16, Fault::Field { name: "seal.min_time", found: seal.min_time })
                );
            }
            if max != seal.max_time {
                return Err(
                    self.fault(SEAL_AT as u64 + 24, Fault::Field { name: "seal.max_time", found: seal.max_time })
                );
            }
        }
        self.tail = Tail::Sealed;
        Ok(None)
    }

    /// Forgets what was buffered of the end: the file may have grown, been cut and rewritten, or been sealed.
    fn look_again(&mut self) -> Result<()> {
        self.tail = Tail::Ahead;
        self.filled = 0;
        self.buffer_at = self.offset;
        self.len = self.file.len()?;
        let mut bytes = [0; HEADER_LEN];
        if self.file.read_at(&mut bytes, 0)? == HEADER_LEN {
            self.take_seal(&bytes)?;
        }
        Ok(())
    }

    /// Decodes at the present offset. `left` bounds what a frame may claim. The outer error is trouble, the inner one
    /// what does not fit.
    fn decode(&mut self, left: u64) -> Result<std::result::Result<Next, Damage>> {
        let mut need = FRAME_HEADER_LEN;
        loop {
            let have = self.fill(need)?;
            let start = (self.offset - self.buffer_at) as usize;
            if have == 0 {
                return Ok(Ok(Next::Nothing));
            }
            let bytes = &self.buffer[start..start + have];
            let decoded = frame::decode(bytes, self.offset, left, self.header.salt, self.header.checksum);
            let expect = |found: u64| match found == self.next_seq {
                true => Ok(()),
                false => Err(Damage::at(self.offset, Fault::Seq { expected: self.next_seq, found })),
            };
            return Ok(match decoded {
                Err(damage) => Err(damage),
                Ok(Decoded::Frame { header, payload, len }) => expect(header.seq.get()).map(|()| {
                    let at = start + FRAME_HEADER_LEN;
                    Next::Frame(Found { header, payload: at..at + payload.len(), len })
                }),
                Ok(Decoded::End { next_seq }) => expect(next_seq).map(|()| Next::End),
                Ok(Decoded::Open) => Ok(Next::Nothing),
                // Checked against the file before any memory is taken for it.
                Ok(Decoded::More { needed }) if needed as u64 > self.len.saturating_sub(self.offset) => {
                    let found = self.len;
                    Err(Damage::at(self.offset, Fault::Short { needed: self.offset + needed as u64, found }))
                }
                Ok(Decoded::More { needed }) if needed > have && need < needed => {
                    need = needed;
                    continue;
                }
                Ok(Decoded::More { needed }) => {
                    let found = self.offset + have as u64;
                    Err(Damage::at(self.offset, Fault::Short { needed: self.offset + needed as u64, found }))
                }
            });
        }
    }

    /// Has at least `need` bytes from the present offset in the buffer, or all that the file has. Returns how many.
    fn fill(&mut self, need: usize) -> Result<usize> {
        let start = (self.offset - self.buffer_at) as usize;
        let have = self.filled.saturating_sub(start);
        let there = self.len.saturating_sub(self.offset);
        if have >= need || have as u64 >= there {
            return Ok(have);
        }
        if start < self.filled {
            self.buffer.copy_within(start..self.filled, 0);
        }
        self.buffer_at = self.offset;
        self.filled = have;
        let size = need.max((growing::BUFFER as u64).min(there) as usize);
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        } else if self.buffer.len() > growing::BUFFER.max(size) {
            // One large frame must not keep its memory for the reader's life.
            self.buffer.truncate(growing::BUFFER.max(size));
            self.buffer.shrink_to_fit();
        }
        // Never past the length that was asked for: what appears behind it meanwhile is read next time.
        let end = (self.buffer.len() as u64).min(there) as usize;
        let n = self.file.read_at(&mut self.buffer[self.filled..end], self.offset + self.filled as u64)?;
        self.filled += n;
        Ok(self.filled)
    }

    /// Behind a tail that looks torn, the first frame that is whole and has a later seq. A crash of a process leaves none:
    /// what was written first is there first. One of the machine may, behind what was synced: who knows up to where that
    /// was ([`PartitionFile::require`]) does not ask.
    ///
    /// # Errors
    ///
    /// Trouble of reading.
    pub fn frame_behind_damage(&self) -> Result<Option<u64>> {
        /// As far as is looked; one block of an archive.
        const LOOK: usize = 1 << 20;
        let Tail::Torn { damage: Damage { offset: bad, .. } } = self.tail else { return Ok(None) };
        let mut bytes = vec![0; LOOK];
        let read = self.file.read_at(&mut bytes, bad)?;
        let len = self.file.len()?;
        for at in (FRAME_ALIGN..read).step_by(FRAME_ALIGN) {
            let offset = bad + at as u64;
            let left = len.saturating_sub(offset);
            match frame::decode(&bytes[at..read], offset, left, self.header.salt, self.header.checksum) {
                Ok(Decoded::Frame { header, .. }) if header.seq.get() > self.next_seq => return Ok(Some(offset)),
                Ok(Decoded::End { next_seq }) if next_seq > self.next_seq => return Ok(Some(offset)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Moves to a frame whose offset and seq are known. If they are wrong, the next read says so.
    ///
    /// # Panics
    ///
    /// If the offset is inside the header.
    pub fn seek(&mut self, offset: u64, seq: u64) {
        assert!(offset >= HEADER_LEN as u64, "bug: no frame stands at {offset}");
        let from_start = offset == HEADER_LEN as u64 && seq == self.first_seq;
        self.times = from_start.then_some((u64::MAX, 0));
        if offset < self.buffer_at || offset > self.buffer_at + self.filled as u64 {
            self.buffer_at = offset;
            self.filled = 0;
        }
        self.offset = offset;
        self.next_seq = seq;
        self.tail = Tail::Ahead;
        self.current = None;
    }

    /// Moves to the first frame.
    pub fn rewind(&mut self) {
        self.seek(HEADER_LEN as u64, self.first_seq);
    }

    /// What the end looks like, if the reader has come there.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// The header, checked.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The seal, if the file had one when last looked at.
    #[must_use]
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// Seq of the file's first frame.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Seq of the frame that comes next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Offset of the frame that comes next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file when last looked at.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no frame, so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len <= HEADER_LEN as u64 || self.seal.is_some_and(|seal| seal.count == 0)
    }

    /// The file's name when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &P::File {
        &self.file
    }
}

enum Next {
    Frame(Found),
    End,
    Nothing,
}
