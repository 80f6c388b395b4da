//! A segment's seek index: sparse entries (seq, times, offset) in a file of fixed size.
//!
//! The writer stores an entry when its tail has passed a multiple of the interval: a compare on every append, a few
//! stores now and then. Entries are hints: each carries a CRC started from the segment's salt, so that an entry of a
//! segment that used the file before never passes, and what one leads to is checked frame by frame.

use super::layout::{
    INDEX_ENTRY_LEN, INDEX_HEADER_LEN, INDEX_MAGIC, IndexEntry, IndexHeader, Summed, VERSION, crc_text,
};
use super::slots::mend;
use crate::{Error, Result};
use chronicle_core::RegionMut;
use chronicle_platform::{File, Open, Platform};
use std::path::Path;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Longest index that is believed: 1 GiB in steps of 4 KiB.
const SLOTS_MAX: u32 = 1 << 18;

/// Bytes of a segment for each entry: a 256th, so that recovery has no more than that to scan, and a page at least.
pub(crate) const fn interval(segment_len: u32) -> u32 {
    let interval = segment_len / 256;
    if interval < 4096 { 4096 } else { interval & !31 }
}

const fn slots(segment_len: u32) -> u32 {
    segment_len / interval(segment_len)
}

const fn file_len(slots: u32) -> usize {
    INDEX_HEADER_LEN + slots as usize * INDEX_ENTRY_LEN
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct IndexWriter<P: Platform> {
    map: P::MapMut,
    interval: u32,
    slots: u32,
    salt: u32,
}

impl<P: Platform> IndexWriter<P> {
    /// Makes an empty index at `path`, in place of whatever is there.
    pub(crate) fn create(
        platform: &P,
        path: &Path,
        queue_id: [u8; 16],
        segment: u64,
        segment_len: u32,
        salt: u32,
    ) -> Result<Self> {
        if platform.exists(path)? {
            platform.remove(path)?;
        }
        let file = platform.open(path, Open::Create)?;
        let slots = slots(segment_len);
        file.allocate(file_len(slots) as u64)?;
        let map = platform.map_mut(&file, file_len(slots))?;
        let mut index = IndexWriter { map, interval: interval(segment_len), slots, salt };
        index.reset(queue_id, segment, salt);
        platform.prefault_mut(&index.map)?;
        Ok(index)
    }

    /// Goes on with the index at `path` if it is whole and this segment's; else makes an empty one there.
    pub(crate) fn keep(platform: &P, path: &Path, segment: &chronicle_core::Header) -> Result<Self> {
        let wanted = (interval(segment.segment_len), slots(segment.segment_len));
        let ours = bytes(platform, path).ok().and_then(|bytes| {
            let header = header(path, &bytes).ok()?;
            let ours = header.queue_id == segment.queue_id
                && header.segment_id.get() == segment.segment_id
                && header.salt.get() == segment.salt
                && (header.interval.get(), header.slots.get()) == wanted
                && bytes.len() == file_len(wanted.1);
            ours.then_some(())
        });
        if ours.is_none() {
            let id = segment.segment_id;
            return Self::create(platform, path, segment.queue_id, id, segment.segment_len, segment.salt);
        }
        let file = platform.open(path, Open::Write)?;
        let map = platform.map_mut(&file, file_len(wanted.1))?;
        platform.prefault_mut(&map)?;
        Ok(IndexWriter { map, interval: wanted.0, slots: wanted.1, salt: segment.salt })
    }

    /// Makes it the empty index of another segment of the same length.
    pub(crate) fn reset(&mut self, queue_id: [u8; 16], segment: u64, salt: u32) {
        self.salt = salt;
        let mut header = IndexHeader::new_zeroed();
        header.magic = INDEX_MAGIC;
        header.version = VERSION.into();
        header.interval = self.interval.into();
        header.queue_id = queue_id;
        header.segment_id = segment.into();
        header.salt = salt.into();
        header.slots = self.slots.into();
        let window = self.map.window_mut();
        window.zero(0, file_len(self.slots));
        window.copy_in(0, header.summed(0).as_bytes());
    }

    /// Stores where the frame with offset `offset` and what came before it stand; returns the tail from which on the next
    /// entry is due.
    pub(crate) fn note(&self, offset: u32, seq: u64, times: (u64, u64)) -> u32 {
        let slot = offset / self.interval;
        if slot < self.slots {
            let mut entry = IndexEntry::new_zeroed();
            entry.seq = seq.into();
            entry.min_time = times.0.into();
            entry.max_time = times.1.into();
            entry.offset = offset.into();
            let at = INDEX_HEADER_LEN + slot as usize * INDEX_ENTRY_LEN;
            self.map.window_mut().copy_in(at, entry.summed(self.salt).as_bytes());
        }
        (slot + 1).saturating_mul(self.interval)
    }

    /// Bytes of the segment for each entry: the tail from which on the first one is due.
    pub(crate) fn interval(&self) -> u32 {
        self.interval
    }

    /// The last entry, if there is one.
    pub(crate) fn last(&self) -> Option<Place> {
        let mut bytes = vec![0; file_len(self.slots) - INDEX_HEADER_LEN];
        self.map.window_mut().copy_out(INDEX_HEADER_LEN, &mut bytes);
        places(&bytes, self.salt).last()
    }

    /// Whether the writer is past the middle.
    pub(crate) fn is_past_half(&self) -> bool {
        if self.slots < 2 {
            return true;
        }
        let window = self.map.window_mut();
        (self.slots / 2..self.slots).any(|slot| {
            let at = INDEX_HEADER_LEN + slot as usize * INDEX_ENTRY_LEN;
            let mut bytes = [0; INDEX_ENTRY_LEN];
            window.copy_out(at, &mut bytes);
            IndexEntry::read_from_bytes(&bytes).is_ok_and(|entry| entry.is_whole(self.salt))
        })
    }
}

/// An entry that was checked against its segment's salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) min_time: u64,
    pub(crate) max_time: u64,
}

fn places(entries: &[u8], salt: u32) -> impl Iterator<Item = Place> {
    entries.chunks_exact(INDEX_ENTRY_LEN).filter_map(move |bytes| {
        let entry = IndexEntry::read_from_bytes(bytes).ok()?;
        (entry.seq.get() != 0 && entry.is_whole(salt)).then(|| Place {
            seq: entry.seq.get(),
            offset: entry.offset.get(),
            min_time: entry.min_time.get(),
            max_time: entry.max_time.get(),
        })
    })
}

/// What an index file says of itself, checked.
fn header(path: &Path, bytes: &[u8]) -> Result<IndexHeader> {
    let Ok((header, _)) = IndexHeader::read_from_prefix(bytes) else {
        return Err(Error::malformed(path, 0, format!("{INDEX_HEADER_LEN} bytes needed, {} there", bytes.len())));
    };
    if header.magic != INDEX_MAGIC {
        let found = header.magic.escape_ascii();
        return Err(Error::malformed(path, 0, format!("magic is \"{found}\", not an index")));
    }
    if !header.is_whole(0) {
        return Err(Error::malformed(path, 60, crc_text(&header, 0)));
    }
    if header.version.get() > VERSION || header.version.get() == 0 {
        return Err(Error::malformed(path, 8, format!("format version {} is not {VERSION}", header.version.get())));
    }
    if header.slots.get() > SLOTS_MAX {
        return Err(Error::malformed(path, 44, format!("slots is {}, at most {SLOTS_MAX}", header.slots.get())));
    }
    Ok(header)
}

/// All entries of a segment's index, for seeking: none if the file is absent, another segment's, or damaged. A hint that
/// cannot be read is no hint.
pub(crate) fn load<P: Platform>(platform: &P, path: &Path, segment: &chronicle_core::Header) -> Vec<Place> {
    let read = || -> Result<Vec<Place>> {
        let bytes = bytes(platform, path)?;
        let header = header(path, &bytes)?;
        let ours = header.queue_id == segment.queue_id
            && header.segment_id.get() == segment.segment_id
            && header.salt.get() == segment.salt;
        if !ours {
            return Ok(Vec::new());
        }
        Ok(places(&bytes[INDEX_HEADER_LEN..], segment.salt).collect())
    };
    read().unwrap_or_default()
}

/// All entries, for `verify`: with an error for what no writer stores.
pub(crate) fn check<P: Platform>(
    platform: &P,
    path: &Path,
    segment: &chronicle_core::Header,
) -> (Vec<Place>, Vec<Error>) {
    let (bytes, header) =
        match bytes(platform, path).and_then(|bytes| header(path, &bytes).map(|header| (bytes, header))) {
            Ok(found) => found,
            Err(error) => return (Vec::new(), vec![error]),
        };
    let mut errors = Vec::new();
    if header.queue_id != segment.queue_id {
        errors.push(Error::malformed(path, 16, "queue id is another queue's"));
    }
    if header.segment_id.get() != segment.segment_id || header.salt.get() != segment.salt {
        let (found, expected) = (header.segment_id.get(), segment.segment_id);
        errors.push(Error::malformed(path, 32, format!("index of segment {found}, segment {expected} expected")));
    }
    let (places, more) = entries(path, &bytes, &header, segment.salt);
    errors.extend(more);
    (places, errors)
}

/// As [`check`], without the segment: by what the index says of it.
pub(crate) fn check_alone<P: Platform>(platform: &P, path: &Path) -> (Vec<Place>, Vec<Error>) {
    match bytes(platform, path).and_then(|bytes| header(path, &bytes).map(|header| (bytes, header))) {
        Ok((bytes, header)) => entries(path, &bytes, &header, header.salt.get()),
        Err(error) => (Vec::new(), vec![error]),
    }
}

/// Whether what [`check`] found at `offset` is a single byte that changed; else pages of it may never have become durable.
pub(crate) fn is_flip<P: Platform>(platform: &P, path: &Path, offset: u64, salt: u32) -> bool {
    let Ok(bytes) = bytes(platform, path) else { return false };
    let at = offset as usize;
    match at.checked_sub(INDEX_HEADER_LEN) {
        Some(_) => bytes.get(at..at + INDEX_ENTRY_LEN).is_some_and(|entry| mend::<IndexEntry>(entry, salt).is_some()),
        None => bytes.get(..INDEX_HEADER_LEN).is_some_and(|header| mend::<IndexHeader>(header, 0).is_some()),
    }
}

fn entries(path: &Path, bytes: &[u8], header: &IndexHeader, salt: u32) -> (Vec<Place>, Vec<Error>) {
    let mut errors = Vec::new();
    let expected = file_len(header.slots.get());
    if bytes.len() != expected {
        errors.push(Error::malformed(path, bytes.len() as u64, format!("{expected} bytes needed")));
    }
    for (at, entry) in bytes[INDEX_HEADER_LEN..].chunks_exact(INDEX_ENTRY_LEN).enumerate() {
        let Ok(entry) = IndexEntry::read_from_bytes(entry) else { continue };
        if entry.as_bytes().iter().any(|byte| *byte != 0) && !entry.is_whole(salt) {
            let offset = (INDEX_HEADER_LEN + at * INDEX_ENTRY_LEN) as u64;
            errors.push(Error::malformed(path, offset, crc_text(&entry, salt)));
        }
    }
    (places(&bytes[INDEX_HEADER_LEN..], salt).collect(), errors)
}

fn bytes<P: Platform>(platform: &P, path: &Path) -> Result<Vec<u8>> {
    let file = platform.open(path, Open::Read)?;
    // A file is never believed about how much memory it wants.
    let len = file.len()?.min(file_len(SLOTS_MAX) as u64) as usize;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
