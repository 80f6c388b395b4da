//! Events in memory, for one thread.
//!
//! A circle of bytes without any padding: an event takes its own length, wherever the circle ends. The one that lies
//! around the end is put together when it is read. Nothing is shared, so nothing is atomic.

use super::{
    error::RingError,
    layout::{EventHeader, MAX_EVENT},
};

/// Smallest capacity.
const LEAST: usize = 64;

/// Keeps events until they are read, in order.
#[derive(Clone, Debug)]
pub struct RingBuffer {
    bytes: Box<[u8]>,
    /// Bytes ever written, and ever read: their lower bits are where in `bytes`.
    written: u64,
    read: u64,
    /// The event that lies around the end, in one piece.
    whole: Vec<u8>,
}

impl RingBuffer {
    /// A ring of `capacity` bytes, headers included.
    ///
    /// # Errors
    ///
    /// The capacity is no power of two, or below 64.
    pub fn new(capacity: usize) -> Result<Self, RingError> {
        check_capacity(capacity)?;
        Ok(RingBuffer { bytes: vec![0; capacity].into_boxed_slice(), written: 0, read: 0, whole: Vec::new() })
    }

    /// Adds an event.
    ///
    /// # Errors
    ///
    /// No room for it, or the header says another length than the payload has. Nothing was written then.
    #[inline]
    pub fn write_event(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), RingError> {
        let (required, available) = (checked_size(header, payload)?, self.available());
        if required > available {
            return Err(RingError::NotEnoughSpace { required, available });
        }
        self.put(&header.bytes());
        self.put(payload);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = self.index(self.written);
        let (first, rest) = bytes.split_at(bytes.len().min(self.bytes.len() - at));
        self.bytes[at..at + first.len()].copy_from_slice(first);
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.written += bytes.len() as u64;
    }

    /// Takes the oldest event.
    #[inline]
    pub fn read_event(&mut self) -> Option<(EventHeader, &[u8])> {
        if self.is_empty() {
            return None;
        }
        let mut head = [0; EventHeader::SIZE];
        let at = self.index(self.read);
        let first = head.len().min(self.bytes.len() - at);
        head[..first].copy_from_slice(&self.bytes[at..at + first]);
        head[first..].copy_from_slice(&self.bytes[..EventHeader::SIZE - first]);
        let header = EventHeader::parse(head);
        let len = usize::from(header.payload_len);
        let at = self.index(self.read + EventHeader::SIZE as u64);
        self.read += header.total_size() as u64;
        let first = len.min(self.bytes.len() - at);
        if first == len {
            return Some((header, &self.bytes[at..at + len]));
        }
        self.whole.clear();
        self.whole.extend_from_slice(&self.bytes[at..at + first]);
        self.whole.extend_from_slice(&self.bytes[..len - first]);
        Some((header, &self.whole))
    }

    fn index(&self, position: u64) -> usize {
        position as usize & (self.bytes.len() - 1)
    }

    /// Bytes of the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that events take.
    #[must_use]
    pub fn used(&self) -> usize {
        (self.written - self.read) as usize
    }

    /// Bytes that are free.
    #[must_use]
    pub fn available(&self) -> usize {
        self.capacity() - self.used()
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written == self.read
    }
}

/// Whether a ring can have this capacity.
pub(super) fn check_capacity(capacity: usize) -> Result<(), RingError> {
    let reason = if !capacity.is_power_of_two() {
        "not a power of two"
    } else if capacity < LEAST {
        "too small: a ring needs at least 64 bytes"
    } else {
        return Ok(());
    };
    Err(RingError::InvalidCapacity { capacity, reason })
}

/// Bytes of the whole event, if its header and payload agree.
#[inline]
pub(super) fn checked_size(header: &EventHeader, payload: &[u8]) -> Result<usize, RingError> {
    let (stated, given) = (usize::from(header.payload_len), payload.len());
    debug_assert!(header.total_size() <= MAX_EVENT);
    if stated == given { Ok(header.total_size()) } else { Err(RingError::PayloadLength { stated, given }) }
}
