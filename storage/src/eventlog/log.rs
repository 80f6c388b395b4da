//! The writing end of an event log, and the words that make a commit whole.
//!
//! ```text
//! stage:   header and payload behind the last event         relaxed stores, nobody looks there yet
//! commit:  count_check = lower half of the new count        Release
//!          event_count = the new count                      upper half first, Release
//!          carry       = upper half of the new write_offset when it changes
//!          write_offset, lower half                         Release ── a reader Acquires it: the events are whole
//!          write_offset, upper half                         Release, when it changes
//! ```
//!
//! A writer killed between any two of these leaves one of three pictures, and they can be told from a flipped bit:
//!
//! | `event_count` | `count_check` | events up to `write_offset` | What it is |
//! |---|---|---|---|
//! | n | n | n | between two commits |
//! | n | other | n (lower halves) | cut before the count: nothing of the commit happened |
//! | n | n | fewer | cut before the offset: the rest of the n are there, whole, and are accepted |
//!
//! Anything else is damage. `carry` is what makes 64 bits of two words: while the halves disagree, a lower half above
//! 2³¹ belongs to the old upper half and one below it to `carry`, because no commit is longer than [`LONGEST_COMMIT`].
//!
//! Never here: files, growing, waiting. An event that does not fit is not taken.

use super::{
    error::WriteError,
    layout::{
        CARRY, CHECKSUMS, COUNT_CHECK, EVENT_COUNT, EventHeader, FLAGS, FileHeader, RESERVED, SYNCED_OFFSET, WORDS,
        WRITE_OFFSET,
    },
    spsc::Consumer,
};
use chronicle_core::{RegionMut, Window};
use static_assertions::const_assert;
use zerocopy::IntoBytes;

/// Bytes after which staged events are committed unasked.
const LONGEST_COMMIT: u64 = 1 << 30;
// A position before such a commit lies in the upper half of 4 GiB, one behind it in the lower.
const_assert!(LONGEST_COMMIT + super::layout::MAX_EVENT as u64 <= 1 << 31);

/// Events up to this length are put together first: their checksum is one run, and so is their copy.
const SMALL: usize = 128;

/// Appends events to a log in memory: a region of the caller's, or a window of [`super::MmapWriter`]'s into its file.
///
/// Keeps its position in private memory: nothing that a peer writes into the region changes where it writes next.
#[derive(Debug)]
pub struct LogWriter<R> {
    /// Where the file header is.
    head: R,
    /// Where events go.
    data: R,
    /// Offset in the log of the first byte of `data`.
    start: u64,
    /// Offset in the log behind the last byte that events may take.
    end: u64,
    /// Events end here, or somebody looks: `end`, or the longest commit.
    limit: u64,
    tail: u64,
    count: u64,
    committed: u64,
    checksums: bool,
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) count: u64,
    pub(super) tail: u64,
}

impl<R: RegionMut + Clone> LogWriter<R> {
    /// Makes an empty log of a region that nobody uses yet. It takes events until the region is full.
    ///
    /// # Errors
    ///
    /// The region is shorter than a file header.
    pub fn format(region: R, created_at: i64, checksums: bool) -> Result<Self, WriteError> {
        let len = region.len() as u64;
        if len < FileHeader::SIZE as u64 {
            return Err(WriteError::NotEnoughSpace { required: FileHeader::SIZE as u64, available: len });
        }
        region.window_mut().copy_in(0, FileHeader::new(created_at, checksums).as_bytes());
        let stand = Stand { count: 0, tail: FileHeader::SIZE as u64 };
        Ok(LogWriter::resume(region.clone(), region, 0, len, stand, checksums))
    }
}

impl<R: RegionMut> LogWriter<R> {
    /// Goes on at `stand`, with `data` being the bytes from `start` of the log, of which those up to `end` may be used.
    pub(super) fn resume(head: R, data: R, start: u64, end: u64, stand: Stand, checksums: bool) -> Self {
        let Stand { count, tail } = stand;
        let mut log = LogWriter { head, data, start, end, limit: 0, tail, count, committed: tail, checksums };
        assert!(start <= tail && tail <= end && end - start <= log.data.len() as u64, "bug: {tail} is not in the data");
        log.limit = log.longest();
        log
    }

    /// Stores the words that this version keeps into the header of a log that is about to be gone on with.
    pub(super) fn store_words(&self) {
        let window = self.head.window_mut();
        window.store(COUNT_CHECK, self.count as u32);
        window.store64(EVENT_COUNT, self.count);
        window.store(CARRY, (self.tail >> 32) as u32);
        window.store64(WRITE_OFFSET, self.tail);
        // ORDERING: Release pairs with the Acquire in `Stored::read`: whoever sees the flag sees the words it speaks of.
        window.store_release(FLAGS, WORDS | if self.checksums { CHECKSUMS } else { 0 });
    }

    fn longest(&self) -> u64 {
        self.end.min(self.committed + LONGEST_COMMIT)
    }

    /// Appends one event and commits it.
    ///
    /// # Errors
    ///
    /// No room, or the header says another length than the payload has. Nothing was written then.
    #[inline]
    pub fn write_event(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), WriteError> {
        self.stage(header, payload)?;
        self.commit();
        Ok(())
    }

    /// Appends one event without showing it to anybody: [`LogWriter::commit`] shows all that were staged, at the price
    /// of one.
    ///
    /// # Errors
    ///
    /// As [`LogWriter::write_event`].
    #[inline]
    pub fn stage(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), WriteError> {
        check_len(header, payload)?;
        if self.put(header, payload) { Ok(()) } else { self.put_late(header, payload) }
    }

    #[cold]
    fn put_late(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), WriteError> {
        self.commit();
        if self.put(header, payload) { Ok(()) } else { Err(self.full(header.total_size())) }
    }

    pub(super) fn full(&self, required: usize) -> WriteError {
        WriteError::NotEnoughSpace { required: required as u64, available: self.end - self.tail }
    }

    /// Stages an event; `false`, and nothing written, if it goes beyond the limit. The length was checked.
    #[inline]
    pub(super) fn put(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        let size = EventHeader::SIZE + payload.len();
        if size > SMALL {
            return self.put_large(header, payload);
        }
        let mut event = [0; SMALL];
        event[..EventHeader::SIZE].copy_from_slice(&header.bytes());
        event[EventHeader::SIZE..size].copy_from_slice(payload);
        self.put_bytes(&event[..size])
    }

    /// As `put`, of an event that lies in one piece, `reserved` zero.
    #[inline]
    pub(super) fn put_bytes(&mut self, event: &[u8]) -> bool {
        if event.len() as u64 > self.limit - self.tail {
            return false;
        }
        let at = (self.tail - self.start) as usize;
        let window = self.data.window_mut();
        window.copy_in(at, event);
        if self.checksums {
            let mut crc = crc32fast::Hasher::new_with_initial(self.tail as u32);
            crc.update(event);
            let crc = crc.finalize();
            // Stored where it belongs, not into `event` first: the copy would wait for a store that it only half covers.
            if at.is_multiple_of(4) {
                window.store(at + RESERVED, crc);
            } else {
                window.copy_in(at + RESERVED, &crc.to_le_bytes());
            }
        }
        self.tail += event.len() as u64;
        self.count += 1;
        true
    }

    fn put_large(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        let size = (EventHeader::SIZE + payload.len()) as u64;
        if size > self.limit - self.tail {
            return false;
        }
        let mut head = header.bytes();
        if self.checksums {
            let mut crc = crc32fast::Hasher::new_with_initial(self.tail as u32);
            crc.update(&head);
            crc.update(payload);
            head[RESERVED..].copy_from_slice(&crc.finalize().to_le_bytes());
        }
        let at = (self.tail - self.start) as usize;
        let window = self.data.window_mut();
        window.copy_in(at, &head);
        window.copy_in(at + EventHeader::SIZE, payload);
        self.tail += size;
        self.count += 1;
        true
    }

    /// Stages events of a ring until `taken` is `limit`, the ring is empty, or one does not fit: says its length then.
    #[inline]
    pub(super) fn take_from(&mut self, ring: &mut Consumer, limit: usize, taken: &mut usize) -> Option<usize> {
        ring.take_each(limit - *taken, |event| {
            let fits = self.put_bytes(event);
            *taken += usize::from(fits);
            fits
        })
    }

    /// Takes up to `limit` events from a ring into the log and commits them as one; says how many.
    ///
    /// # Errors
    ///
    /// No room. Events before the refused one are committed; it and those behind it are still in the ring.
    pub fn drain_from(&mut self, ring: &mut Consumer, limit: usize) -> Result<usize, WriteError> {
        let mut taken = 0;
        let mut refused = self.take_from(ring, limit, &mut taken);
        if refused.is_some() {
            self.commit();
            refused = self.take_from(ring, limit, &mut taken);
        }
        self.commit();
        match refused {
            None => Ok(taken),
            Some(needed) => Err(self.full(needed)),
        }
    }

    /// Shows everything that was staged.
    #[inline]
    pub fn commit(&mut self) {
        if self.tail == self.committed {
            return;
        }
        let window = self.head.window_mut();
        let (before, now) = (self.committed, self.tail);
        // ORDERING: Release, each after the one before it, so that `Stored::read`, which Acquires in the opposite order,
        // sees no later word without the earlier ones. A kill keeps the order by itself: one thread stored them.
        window.store_release(COUNT_CHECK, self.count as u32);
        if self.count >> 32 != 0 {
            window.store_release(EVENT_COUNT + 4, (self.count >> 32) as u32);
        }
        window.store_release(EVENT_COUNT, self.count as u32);
        let carries = before >> 32 != now >> 32;
        if carries {
            window.store_release(CARRY, (now >> 32) as u32);
        }
        // ORDERING: Release pairs with the Acquire in `Stored::read`: whoever sees this offset sees every byte before it.
        window.store_release(WRITE_OFFSET, now as u32);
        if carries {
            window.store_release(WRITE_OFFSET + 4, (now >> 32) as u32);
        }
        self.committed = now;
        self.limit = self.longest();
    }

    /// Takes no event any more.
    pub(super) fn stop(&mut self) {
        (self.end, self.limit) = (self.tail, self.tail);
    }

    /// Goes on in another window, which holds the tail too; gives back the old one.
    pub(super) fn turn(&mut self, data: R, start: u64, end: u64) -> R {
        assert!(
            start <= self.tail && end >= self.end && end - start <= data.len() as u64,
            "bug: a window from {start} to {end} does not go on at {}",
            self.tail
        );
        (self.start, self.end) = (start, end);
        self.limit = self.longest();
        std::mem::replace(&mut self.data, data)
    }

    pub(super) fn store_synced(&self, offset: u64) {
        self.head.window_mut().store64(SYNCED_OFFSET, offset);
    }

    /// Offset behind the last byte that events may take now.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Events in the log, staged ones included.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.count
    }

    /// Where the next event goes.
    #[must_use]
    pub fn write_offset(&self) -> u64 {
        self.tail
    }

    /// Bytes that events may still take without growing.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.end - self.tail
    }
}

#[inline]
pub(super) fn check_len(header: &EventHeader, payload: &[u8]) -> Result<(), WriteError> {
    let (stated, given) = (usize::from(header.payload_len), payload.len());
    if stated == given { Ok(()) } else { Err(WriteError::PayloadLength { stated, given }) }
}

/// The words of a file header that change, as one look at them found them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) flags: u32,
    pub(super) count: u64,
    pub(super) count_check: u32,
    pub(super) offset: u64,
}

impl Stored {
    pub(super) fn read(window: Window<'_>) -> Stored {
        // ORDERING: Acquire, each before the next, in the opposite order of `LogWriter::commit`'s stores.
        let flags = window.load_acquire(FLAGS);
        let mut high = window.load_acquire(WRITE_OFFSET + 4);
        let mut low = window.load_acquire(WRITE_OFFSET);
        let mut carry = window.load_acquire(CARRY);
        // The upper half moved while we looked: the lower one may be of either. It takes 2 GiB to happen again.
        for _ in 0..4 {
            let again = window.load_acquire(WRITE_OFFSET + 4);
            if again == high {
                break;
            }
            high = again;
            low = window.load_acquire(WRITE_OFFSET);
            carry = window.load_acquire(CARRY);
        }
        let upper = if flags & WORDS == 0 || low >> 31 == 1 { high } else { carry };
        let count_low = window.load_acquire(EVENT_COUNT);
        let count_high = window.load_acquire(EVENT_COUNT + 4);
        let count_check = window.load_acquire(COUNT_CHECK);
        Stored {
            flags,
            count: u64::from(count_low) | u64::from(count_high) << 32,
            count_check,
            offset: u64::from(low) | u64::from(upper) << 32,
        }
    }

    /// What `counted` events up to `offset` say of the stored count.
    pub(super) fn judge(&self, counted: u64) -> Judgement {
        let whole = self.count as u32 == self.count_check;
        let ours = self.flags & WORDS != 0;
        if self.count == counted || ours && !whole && self.count as u32 == counted as u32 {
            Judgement::Holds
        } else if ours && whole && self.count > counted {
            Judgement::Ahead { by: self.count - counted }
        } else {
            Judgement::Wrong
        }
    }
}

/// See the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Holds,
    /// Cut before the offset: so many more events are whole.
    Ahead {
        by: u64,
    },
    Wrong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::LogReader;
    use chronicle_core::{HeapRegion, Region};
    use std::sync::Arc;

    /// The words of a commit, in the order in which it stores them.
    const ORDER: [usize; 6] = [COUNT_CHECK, EVENT_COUNT + 4, EVENT_COUNT, CARRY, WRITE_OFFSET, WRITE_OFFSET + 4];

    fn event(len: u16) -> (EventHeader, Vec<u8>) {
        (EventHeader::new(9, 1, len), (0..len).map(|at| at as u8).collect())
    }

    fn stand_of<R>(log: &LogWriter<R>) -> Stand {
        Stand { count: log.count, tail: log.tail }
    }

    fn words(region: &HeapRegion) -> Vec<u32> {
        (0..FileHeader::SIZE).step_by(4).map(|at| region.window().load(at)).collect()
    }

    #[test]
    fn a_commit_cut_anywhere_is_whole_before_or_after() {
        for checksums in [true, false] {
            let region = Arc::new(HeapRegion::new(4096));
            let mut log = LogWriter::format(region.clone(), 0, checksums).unwrap();
            let (header, payload) = event(5);
            log.write_event(&header, &payload).unwrap();
            let before = words(&region);
            for _ in 0..3 {
                log.stage(&header, &payload).unwrap();
            }
            log.commit();
            let after = words(&region);
            let stands: Vec<Stand> = (0..=ORDER.len())
                .map(|cut| {
                    for (i, at) in ORDER.iter().enumerate() {
                        region.window_mut().store(*at, if i < cut { after[at / 4] } else { before[at / 4] });
                    }
                    LogReader::attach(region.clone()).unwrap().audit().unwrap()
                })
                .collect();
            let (old, new) = (Stand { count: 1, tail: 64 + 21 }, Stand { count: 4, tail: 64 + 4 * 21 });
            assert!(stands.iter().all(|stand| *stand == old || *stand == new), "{stands:?}");
            assert_eq!((stands[0], stands[ORDER.len()]), (old, new));
            assert!(stands.is_sorted_by_key(|stand| stand.count), "{stands:?}");
        }
    }

    #[test]
    fn any_flipped_bit_of_the_counts_is_found_or_harmless() {
        let region = Arc::new(HeapRegion::new(4096));
        let mut log = LogWriter::format(region.clone(), 0, true).unwrap();
        let (header, payload) = event(5);
        (0..7).for_each(|_| log.write_event(&header, &payload).unwrap());
        let stand = stand_of(&log);
        for at in [EVENT_COUNT, EVENT_COUNT + 4, WRITE_OFFSET, WRITE_OFFSET + 4, CARRY, COUNT_CHECK, FLAGS] {
            for bit in 0..32 {
                let word = region.window().load(at);
                region.window_mut().store(at, word ^ 1 << bit);
                let found = LogReader::attach(region.clone()).and_then(|reader| reader.audit());
                match at {
                    // The count says the same: nothing is lost. The offset's upper half and a check alone say nothing.
                    COUNT_CHECK => assert_eq!(found, Ok(stand), "bit {bit} at {at}"),
                    _ if at == WRITE_OFFSET + 4 => assert_eq!(found, Ok(stand), "bit {bit} at {at}"),
                    _ => match found {
                        Ok(found) => assert_eq!(found, stand, "bit {bit} at {at}"),
                        Err(damage) => assert!(damage.offset <= stand.tail, "{damage}"),
                    },
                }
                if at == EVENT_COUNT {
                    found.expect_err("another number of events");
                }
                region.window_mut().store(at, word);
            }
        }
        assert_eq!(LogReader::attach(region).unwrap().audit(), Ok(stand));
    }

    #[test]
    fn offsets_and_counts_cross_four_gib() {
        const BORDER: u64 = 1 << 32;
        let (head, data) = (Arc::new(HeapRegion::new(4096)), Arc::new(HeapRegion::new(1 << 17)));
        let start = BORDER - (1 << 16);
        let stand = Stand { count: BORDER - 2, tail: BORDER - 50 };
        let mut log = LogWriter::resume(head.clone(), data, start, start + (1 << 17), stand, false);
        log.store_words();
        let (header, payload) = event(20);
        for _ in 0..4 {
            let (before, old) = (words(&head), stand_of(&log));
            log.write_event(&header, &payload).unwrap();
            let (after, new) = (words(&head), stand_of(&log));
            for cut in 0..=ORDER.len() {
                for (i, at) in ORDER.iter().enumerate() {
                    head.window_mut().store(*at, if i < cut { after[at / 4] } else { before[at / 4] });
                }
                let stored = Stored::read(head.window());
                let offset = if cut < 5 { old.tail } else { new.tail };
                assert_eq!(stored.offset, offset, "cut {cut}");
                let counted = if cut < 5 { old.count } else { new.count };
                let judged = stored.judge(counted);
                assert!(judged == Judgement::Holds || judged == Judgement::Ahead { by: 1 }, "cut {cut}: {judged:?}");
            }
        }
        assert!(log.write_offset() > BORDER && log.event_count() > BORDER);
    }

    #[test]
    fn what_does_not_fit_is_not_there() {
        let region = Arc::new(HeapRegion::new(128));
        let mut log = LogWriter::format(region.clone(), 0, true).unwrap();
        let (header, payload) = event(20);
        log.write_event(&header, &payload).unwrap();
        let full = WriteError::NotEnoughSpace { required: 36, available: 28 };
        assert_eq!(log.write_event(&header, &payload), Err(full));
        assert_eq!(full.to_string(), "event log full: event needs 36 bytes, 28 available");
        let wrong = WriteError::PayloadLength { stated: 20, given: 19 };
        assert_eq!(log.write_event(&header, &payload[1..]), Err(wrong));
        let (header, payload) = event(12);
        log.write_event(&header, &payload).unwrap();
        assert_eq!((log.event_count(), log.available()), (2, 0));
        assert_eq!(LogReader::attach(region).unwrap().replay(|_| {}), Ok(2));
        let none = Arc::new(HeapRegion::new(60));
        assert_eq!(
            LogWriter::format(none, 0, true).unwrap_err(),
            WriteError::NotEnoughSpace { required: 64, available: 60 }
        );
    }
}
