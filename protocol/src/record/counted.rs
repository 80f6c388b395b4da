//! A book whose levels say how many orders stand at each.

use core::mem::size_of;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U64;

use super::{BookSnapshot, EncodeError, Front, Malformed, Parts, SnapshotSource, Writer, check_symbol, count};
use crate::layout::{BookSnapshotLayout, OrderCount};

/// A book with the number of orders at each level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedSnapshot<'a> {
    /// The book.
    pub book: BookSnapshot<'a>,
    /// Orders at each bid, as many numbers as there are bids.
    pub bid_counts: &'a [OrderCount],
    /// Orders at each ask, as many numbers as there are asks.
    pub ask_counts: &'a [OrderCount],
}

impl<'a> CountedSnapshot<'a> {
    /// The payload's length.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.book.encoded_len() + (self.bid_counts.len() + self.ask_counts.len()) * size_of::<OrderCount>()
    }

    /// Writes the payload to the front of `out` and returns its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut front = Front::of(out, self.encoded_len())?;
        self.write(|bytes| front.put(bytes))?;
        Ok(front.at)
    }

    /// Gives the payload out part by part, [`encoded_len`](Self::encoded_len) bytes in all: into claimed space, say.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing was given out then.
    pub fn write(&self, put: impl FnMut(&[u8])) -> Result<(), EncodeError> {
        let book = &self.book;
        check_symbol(book.symbol, false)?;
        for (levels, counts) in [(book.bids, self.bid_counts), (book.asks, self.ask_counts)] {
            if levels.len() != counts.len() {
                return Err(EncodeError::CountsDiffer { levels: levels.len(), counts: counts.len() });
            }
        }
        let fixed = BookSnapshotLayout {
            last_id: U64::new(book.last_id),
            bid_count: count(book.bids)?,
            ask_count: count(book.asks)?,
            last_event_ns: U64::new(book.last_event_ns),
        };
        let mut writer = Writer::new(put);
        writer.head(&book.head, book.symbol, book.source.marks(book.opens_partition));
        writer.put(fixed.as_bytes());
        writer.put(book.bids.as_bytes());
        writer.put(book.asks.as_bytes());
        writer.put(self.bid_counts.as_bytes());
        writer.put(self.ask_counts.as_bytes());
        writer.put(book.symbol.as_bytes());
        writer.close(self.encoded_len());
        Ok(())
    }

    pub(super) fn parse(mut parts: Parts<'a>) -> Result<Self, Malformed> {
        let fixed: &BookSnapshotLayout = parts.fixed()?;
        let (source, opens_partition) = SnapshotSource::of_marks(&parts)?;
        let (bids, asks) = parts.sides(fixed.bid_count, fixed.ask_count, size_of::<OrderCount>())?;
        let (bid_counts, ask_counts) = parts.sides(fixed.bid_count, fixed.ask_count, 0)?;
        let symbol = parts.symbol()?;
        let book = BookSnapshot {
            head: parts.head()?,
            last_id: fixed.last_id.get(),
            last_event_ns: fixed.last_event_ns.get(),
            source,
            opens_partition,
            bids,
            asks,
            symbol,
        };
        Ok(Self { book, bid_counts, ask_counts })
    }
}
