//! The reading end of an event log: events in order, in place.
//!
//! Nothing is copied or allocated to hand an event out: an [`EventView`] is its header and a [`Payload`] that borrows the
//! log's memory. Lengths and offsets are the file's word, so each is checked against what is there before it is used;
//! checksums, where the log has them, are compared through a small buffer on the stack.
//!
//! Never here: following a writer as it goes. A look at the log ends where it was committed when the look began.

use super::{
    layout::{CHECKSUMS, EventHeader, FileHeader, WORDS},
    log::{Judgement, Stand, Stored},
};
use chronicle_core::{Damage, Fault, Payload, Region, Window};
use zerocopy::FromBytes;

/// One event of a log, in place.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// What stands before the payload; `reserved` is zero where it held a checksum.
    pub header: EventHeader,
    /// The payload.
    pub payload: Payload<'a>,
    /// Its offset in the log.
    pub offset: u64,
}

/// Reads an event log in memory: a region of the caller's, or [`super::MmapReader`]'s mapping of a file.
#[derive(Debug)]
pub struct LogReader<R> {
    region: R,
    /// Bytes of the log: the region's, and those of `last` that are beyond it.
    len: u64,
    /// An event that the region, whole words, does not hold to its end, and its offset.
    last: Option<(u64, Box<[u8]>)>,
    created_at: i64,
    flags: u32,
}

impl<R: Region> LogReader<R> {
    /// Begins to read a log.
    ///
    /// # Errors
    ///
    /// Too short for a header, another format's magic, a version or flag that this one does not know, or an offset of the
    /// next event that is outside.
    pub fn attach(region: R) -> Result<Self, Damage> {
        let len = region.len() as u64;
        Self::attach_part(region, len)
    }

    /// As `attach`, of a log that is `len` bytes long, up to three more than the region.
    pub(super) fn attach_part(region: R, len: u64) -> Result<Self, Damage> {
        let window = region.window();
        let needed = FileHeader::SIZE as u64;
        if (window.len() as u64) < needed {
            return Err(Damage::at(0, Fault::Short { needed, found: len }));
        }
        let mut bytes = [0; FileHeader::SIZE];
        window.copy_out(0, &mut bytes);
        let header = FileHeader::read_from_bytes(&bytes).expect("a header has 64 bytes");
        if header.magic != FileHeader::MAGIC {
            let [a, b, c, d, e, f, g, h, ..] = bytes;
            return Err(Damage::at(0, Fault::Magic { found: [a, b, c, d, e, f, g, h] }));
        }
        match header.version.get() {
            FileHeader::VERSION => {}
            0 => return Err(Damage::at(4, Fault::Field { name: "version", found: 0 })),
            newer => return Err(Damage::at(4, Fault::Version { found: u16::try_from(newer).unwrap_or(u16::MAX) })),
        }
        let flags = header.flags.get();
        if flags & !(WORDS | CHECKSUMS) != 0 {
            return Err(Damage::at(32, Fault::Incompatible { bits: flags & !(WORDS | CHECKSUMS) }));
        }
        let reader = LogReader { region, len, last: None, created_at: header.created_at.get(), flags };
        reader.stored_inside(Stored::read(reader.region.window()))?;
        Ok(reader)
    }

    /// Gives the reader the event at `offset`, whole, which the region does not hold to its end.
    pub(super) fn with_last(mut self, offset: u64, bytes: Box<[u8]>) -> Self {
        self.last = Some((offset, bytes));
        self
    }

    /// Whether the next event's offset is inside what this reader sees of the log.
    fn stored_inside(&self, stored: Stored) -> Result<(), Damage> {
        if stored.offset < FileHeader::SIZE as u64 {
            return Err(Damage::at(24, Fault::Field { name: "write_offset", found: stored.offset }));
        }
        if stored.offset > self.len {
            return Err(Damage::at(24, Fault::Short { needed: stored.offset, found: self.len }));
        }
        Ok(())
    }

    /// Events in the log, by its header: more may have been committed since, none fewer.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        Stored::read(self.region.window()).count
    }

    /// Where the next event goes: more may have been committed since.
    #[must_use]
    pub fn write_offset(&self) -> u64 {
        Stored::read(self.region.window()).offset
    }

    /// When the log was made, seconds since 1970.
    #[must_use]
    pub fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Whether events carry checksums, which reading compares.
    #[must_use]
    pub fn has_checksums(&self) -> bool {
        self.flags & CHECKSUMS != 0
    }

    /// The memory.
    pub(super) fn region(&self) -> &R {
        &self.region
    }

    /// Every event that is committed now, in order. After damage there is nothing more.
    #[must_use]
    pub fn iter(&self) -> Events<'_> {
        // A log that has grown beyond what this reader sees is read to where that ends.
        self.events(FileHeader::SIZE as u64, Stored::read(self.region.window()).offset.min(self.len))
    }

    pub(super) fn events(&self, at: u64, end: u64) -> Events<'_> {
        Events {
            window: self.region.window(),
            last: self.last.as_ref().map(|(at, bytes)| (*at, &**bytes)),
            at,
            end,
            checksums: self.has_checksums(),
        }
    }

    /// Hands every event that is committed now to `callback`, and says how many there were.
    ///
    /// # Errors
    ///
    /// Damage, after the events before it were handed out; or the header counts other events than there are.
    pub fn replay<'a>(&'a self, mut callback: impl FnMut(EventView<'a>)) -> Result<u64, Damage> {
        let offset = Stored::read(self.region.window()).offset;
        let mut events = self.events(FileHeader::SIZE as u64, offset.min(self.len));
        let mut count = 0;
        for event in &mut events {
            callback(event?);
            count += 1;
        }
        if offset > self.len {
            return Ok(count);
        }
        let more = self.uncounted(offset, count)?;
        for event in self.events(events.at, self.len).take(usize::try_from(more).unwrap_or(usize::MAX)) {
            callback(event?);
            count += 1;
        }
        Ok(count)
    }

    /// How many events more than the `counted` ones before `offset` the header counts: those of a commit that is being
    /// made, or was cut, see [`super::log`]. A writer that goes on meanwhile is looked at again.
    fn uncounted(&self, offset: u64, counted: u64) -> Result<u64, Damage> {
        let mut stored = Stored::read(self.region.window());
        for _ in 0..64 {
            match stored.judge(counted) {
                _ if stored.offset != offset => return Ok(0),
                Judgement::Holds => return Ok(0),
                // No event is shorter than its header: a count beyond that is no commit that was cut.
                Judgement::Ahead { by } if by <= (self.len - offset) / EventHeader::SIZE as u64 => return Ok(by),
                Judgement::Ahead { .. } | Judgement::Wrong => std::thread::yield_now(),
            }
            stored = Stored::read(self.region.window());
        }
        Err(Damage::at(16, Fault::Field { name: "event_count", found: stored.count }))
    }

    /// Walks over the whole log: where whoever goes on with it stands.
    pub(super) fn audit(&self) -> Result<Stand, Damage> {
        let stored = Stored::read(self.region.window());
        self.stored_inside(stored)?;
        let (at, counted) = walk(self.events(FileHeader::SIZE as u64, stored.offset), u64::MAX)?;
        let wrong = Damage::at(16, Fault::Field { name: "event_count", found: stored.count });
        let more = match stored.judge(counted) {
            Judgement::Holds => 0,
            Judgement::Ahead { by } => by,
            Judgement::Wrong => return Err(wrong),
        };
        match walk(self.events(at, self.len), more) {
            Ok((tail, found)) if found == more => Ok(Stand { count: counted + found, tail }),
            _ => Err(wrong),
        }
    }

    /// The longest whole prefix of what is committed, and the damage that ends it, if any does.
    pub(super) fn prefix(&self) -> (Stand, Option<Damage>) {
        let offset = Stored::read(self.region.window()).offset.clamp(FileHeader::SIZE as u64, self.len);
        let mut events = self.events(FileHeader::SIZE as u64, offset);
        let mut stand = Stand { count: 0, tail: events.at };
        loop {
            match events.next() {
                Some(Ok(_)) => stand = Stand { count: stand.count + 1, tail: events.at },
                Some(Err(damage)) => return (stand, Some(damage)),
                None => return (stand, None),
            }
        }
    }
}

impl<'a, R: Region> IntoIterator for &'a LogReader<R> {
    type Item = Result<EventView<'a>, Damage>;
    type IntoIter = Events<'a>;
    fn into_iter(self) -> Events<'a> {
        self.iter()
    }
}

/// Goes over at most `most` events: where it ends, and how many there were.
fn walk(mut events: Events<'_>, most: u64) -> Result<(u64, u64), Damage> {
    let mut count = 0;
    while count < most
        && let Some(event) = events.next()
    {
        event?;
        count += 1;
    }
    Ok((events.at, count))
}

/// Events of a log, in order; see [`LogReader::iter`].
#[derive(Clone, Debug)]
pub struct Events<'a> {
    window: Window<'a>,
    last: Option<(u64, &'a [u8])>,
    at: u64,
    end: u64,
    checksums: bool,
}

impl<'a> Events<'a> {
    fn read(&self) -> Result<(EventView<'a>, u64), Damage> {
        let (offset, left) = (self.at, self.end - self.at);
        let short = |claimed: usize| Damage::at(offset, Fault::Length { claimed: claimed as u64, left });
        // The end is inside a `usize`: it was compared with the length of a region, or of one and a word.
        let at = offset as usize;
        let inside = |len: usize| len as u64 <= left;
        if !inside(EventHeader::SIZE) {
            return Err(short(EventHeader::SIZE));
        }
        if let Some((_, bytes)) = self.last.filter(|(last, _)| *last == offset) {
            let head = bytes.first_chunk().ok_or_else(|| short(EventHeader::SIZE))?;
            let header = EventHeader::parse(*head);
            let event = bytes.get(EventHeader::SIZE..header.total_size()).filter(|_| inside(header.total_size()));
            let payload = event.map(Payload::own).ok_or_else(|| short(header.total_size()))?;
            return self.check(header, payload);
        }
        let mut head = [0; EventHeader::SIZE];
        let Some(bytes) = Payload::within(self.window, at, EventHeader::SIZE) else {
            return Err(short(EventHeader::SIZE));
        };
        bytes.copy_to(&mut head);
        let header = EventHeader::parse(head);
        let payload = Payload::within(self.window, at + EventHeader::SIZE, usize::from(header.payload_len));
        match payload.filter(|_| inside(header.total_size())) {
            Some(payload) => self.check(header, payload),
            None => Err(short(header.total_size())),
        }
    }

    #[inline]
    fn check(&self, header: EventHeader, payload: Payload<'a>) -> Result<(EventView<'a>, u64), Damage> {
        if self.checksums {
            let computed = checksum(self.at, &header, &payload);
            if computed != header.reserved {
                return Err(Damage::at(self.at, Fault::Crc { stored: header.reserved, computed }));
            }
        }
        let next = self.at + header.total_size() as u64;
        let header = EventHeader { reserved: if self.checksums { 0 } else { header.reserved }, ..header };
        Ok((EventView { header, payload, offset: self.at }, next))
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<EventView<'a>, Damage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        match self.read() {
            Ok((event, next)) => {
                self.at = next;
                Some(Ok(event))
            }
            Err(damage) => {
                self.end = self.at;
                Some(Err(damage))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The end is the header's word, which anybody may have stored since the log was attached: perhaps before the first event.
        (0, usize::try_from(self.end.saturating_sub(self.at).div_ceil(EventHeader::SIZE as u64)).ok())
    }
}

impl std::iter::FusedIterator for Events<'_> {}

/// The CRC-32 of an event at `offset`.
fn checksum(offset: u64, header: &EventHeader, payload: &Payload<'_>) -> u32 {
    const BUFFER: usize = 128;
    let mut crc = crc32fast::Hasher::new_with_initial(offset as u32);
    let mut buffer = [0; BUFFER];
    buffer[..EventHeader::SIZE].copy_from_slice(&header.bytes());
    let (mut at, mut filled) = (0, EventHeader::SIZE);
    loop {
        let part = (payload.len() - at).min(BUFFER - filled);
        payload.copy_at(at, &mut buffer[filled..filled + part]);
        crc.update(&buffer[..filled + part]);
        at += part;
        filled = 0;
        if at == payload.len() {
            return crc.finalize();
        }
    }
}
