//! Events from one thread to another: core's SPSC ring, with an event in each frame.
//!
//! The ring lives in memory of this process that nobody else has, so what it holds is what was written; between
//! processes use [`chronicle_core::ring::spsc`] itself, whose ends expect anything.

use super::{
    error::RingError,
    layout::{EventHeader, MAX_EVENT},
    ring::{check_capacity, checked_size},
};
use chronicle_core::{
    Damage, HeapRegion, Payload,
    ring::spsc::{self, PushError, Spec},
};
use std::{ops::Range, sync::Arc};

/// Events up to this length are put together first, and pushed in one piece.
const SMALL: usize = 128;

/// Bytes of events that are copied out of the ring before the first of them is looked at: a checksum loads wider than a
/// copy stores, and would wait for stores that have just been made.
const FILL: usize = 2048;

/// Makes the two ends of a ring.
#[derive(Debug)]
pub struct SpscRingBuffer {
    producer: Producer,
    consumer: Consumer,
}

impl SpscRingBuffer {
    /// A ring of `capacity` bytes. The longest event that it takes is 8 bytes shorter than half of that: an event lies in
    /// one piece, wherever the ring ends.
    ///
    /// # Errors
    ///
    /// The capacity is no power of two, below 64 or above 1 GiB.
    pub fn new(capacity: usize) -> Result<Self, RingError> {
        check_capacity(capacity)?;
        let too_large = RingError::InvalidCapacity { capacity, reason: "too large: a ring takes at most 1 GiB" };
        let len = spsc::len(capacity).ok_or(too_large)?;
        let region = Arc::new(HeapRegion::new(len));
        spsc::format(&region, &Spec { capacity, ..Spec::default() }).expect("bug: the capacity was checked");
        let producer = spsc::Producer::attach(region.clone()).expect("bug: the ring was just made");
        let ring = spsc::Consumer::attach(region).expect("bug: the ring was just made");
        let scratch = vec![0; FILL + MAX_EVENT].into_boxed_slice();
        Ok(SpscRingBuffer { producer: Producer { ring: producer }, consumer: Consumer { ring, scratch, held: 0..0 } })
    }

    /// The two ends, one for each thread.
    #[must_use]
    pub fn split(self) -> (Producer, Consumer) {
        (self.producer, self.consumer)
    }
}

/// The end that writes events. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Producer {
    ring: spsc::Producer<Arc<HeapRegion>>,
}

impl Producer {
    /// Adds an event, and shows it to the consumer with all that were staged.
    ///
    /// # Errors
    ///
    /// No room for it now, or ever if it is longer than [`SpscRingBuffer::new`] says; or the header says another length
    /// than the payload has. Nothing was written then.
    #[inline]
    pub fn write_event(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), RingError> {
        self.stage(header, payload)?;
        self.commit();
        Ok(())
    }

    /// Adds an event that the consumer does not see before [`Producer::commit`]: many events at the price of one.
    ///
    /// # Errors
    ///
    /// As [`Producer::write_event`]. Commit when there is no room: nobody can make any of what was only staged.
    #[inline]
    pub fn stage(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), RingError> {
        let size = checked_size(header, payload)?;
        if size > SMALL {
            return self.stage_large(header, payload);
        }
        let mut event = [0; SMALL];
        event[..EventHeader::SIZE].copy_from_slice(&header.bytes());
        event[EventHeader::SIZE..size].copy_from_slice(payload);
        match self.ring.stage(&event[..size]) {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal(error)),
        }
    }

    fn stage_large(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), RingError> {
        let mut claim = self.ring.claim(header.total_size()).map_err(refusal)?;
        claim.put(&header.bytes());
        claim.put(payload);
        claim.stage();
        Ok(())
    }

    /// Shows everything that was staged to the consumer.
    #[inline]
    pub fn commit(&mut self) {
        self.ring.publish();
    }

    /// Bytes that are free: the consumer may free more at any time.
    #[must_use]
    pub fn available(&self) -> usize {
        let occupancy = self.ring.occupancy();
        occupancy.capacity - occupancy.used
    }
}

#[cold]
fn refusal(error: PushError) -> RingError {
    match error {
        PushError::Full { needed, free } => RingError::NotEnoughSpace { required: needed, available: free },
        PushError::TooLarge { len, max } => RingError::NotEnoughSpace { required: len, available: max },
        PushError::Damage(damage) => damaged(damage),
    }
}

/// The end that reads events. May be sent to another thread, not shared.
#[derive(Debug)]
pub struct Consumer {
    ring: spsc::Consumer<Arc<HeapRegion>>,
    /// Events in private memory, each in one piece.
    scratch: Box<[u8]>,
    /// Bytes of `scratch` that hold events which were taken from the ring and from nowhere else yet.
    held: Range<usize>,
}

impl Consumer {
    /// Takes the oldest event. Its room is free again at the next call.
    #[inline]
    pub fn read_event(&mut self) -> Option<(EventHeader, Payload<'_>)> {
        self.ring.release();
        if let Some(event) = self.held_event() {
            self.held.start = event.end;
            let event = &self.scratch[event];
            return Some((header_of(event), Payload::own(&event[EventHeader::SIZE..])));
        }
        let frame = next(&self.ring)?;
        let mut head = [0; EventHeader::SIZE];
        let there = frame.copy_at(0, &mut head);
        assert!(there, "bug: an event of {} bytes", frame.len());
        let payload = frame.tail(EventHeader::SIZE);
        Some((EventHeader::parse(head), payload))
    }

    /// As [`Consumer::read_event`], the payload in private memory.
    pub(super) fn read_whole(&mut self) -> Option<(EventHeader, &[u8])> {
        self.fill();
        let event = self.held_event()?;
        self.held.start = event.end;
        let event = &self.scratch[event];
        Some((header_of(event), &event[EventHeader::SIZE..]))
    }

    /// Hands up to `limit` events, each in one piece, to `taker`. Stops at one that it refuses, says its length, and
    /// keeps it as the next one.
    #[inline]
    pub(super) fn take_each(&mut self, limit: usize, mut taker: impl FnMut(&[u8]) -> bool) -> Option<usize> {
        for _ in 0..limit {
            self.fill();
            let event = self.held_event()?;
            if !taker(&self.scratch[event.clone()]) {
                return Some(event.len());
            }
            self.held.start = event.end;
        }
        None
    }

    /// Where the next event lies in `scratch`, if one does.
    #[inline]
    fn held_event(&self) -> Option<Range<usize>> {
        let Range { start, end } = self.held;
        (start < end).then(|| start..start + header_of(&self.scratch[start..end]).total_size())
    }

    /// Copies events out of the ring, where none are held, and gives their room back.
    #[inline]
    fn fill(&mut self) {
        if !self.held.is_empty() {
            return;
        }
        let mut end = 0;
        while end < FILL
            && let Some(frame) = next(&self.ring)
        {
            end += frame.copy_to(&mut self.scratch[end..]).len();
        }
        self.held = 0..end;
        if end > 0 {
            self.ring.release();
        }
    }

    /// Whether there is no event now. The producer may add one at any time; nobody else can take one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && !self.ring.is_ready()
    }
}

/// The next frame of a ring.
#[inline(always)]
fn next(ring: &spsc::Consumer<Arc<HeapRegion>>) -> Option<Payload<'_>> {
    match ring.step() {
        Ok(frame) => frame.map(|frame| frame.payload),
        Err(damage) => damaged(damage),
    }
}

#[cold]
fn damaged(damage: Damage) -> ! {
    panic!("bug: a ring that nobody else has is damaged: {damage}")
}

fn header_of(event: &[u8]) -> EventHeader {
    EventHeader::parse(*event.first_chunk().expect("bug: an event shorter than its header"))
}
