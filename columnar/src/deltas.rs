//! The table of deltas: one row for each level that changed, in the order in which the book takes them.
//!
//! ```text
//! kind      rows                               what they do
//! snapshot  one for each level, bids first     forget the book, then set each price
//! delta     one for each level, bids first     set the quantity at the price; 0 removes it
//! gap       one, without side, price and qty   the book is not known from here to the next snapshot; ids missing: first_id to last_id
//! ```
//!
//! The rows of one message have one `seq`. A range begins with a snapshot, the book that was carried into its first day;
//! the archive's own snapshots in between, which say what the deltas have said, are left out.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, StringBuilder, UInt64Builder};
use arrow_schema::{DataType, Field};
use chronicle_etl::records::Stored;
use chronicle_protocol::{Head, Level, Record, SnapshotSource};

use crate::column::{Decimals, Times, decimal_field, time_field};
use crate::error::Misfit;
use crate::scale::Scales;

/// Its columns.
pub(crate) fn fields(scales: Scales) -> Vec<Field> {
    vec![
        time_field("time"),
        time_field("ingest_time"),
        Field::new("seq", DataType::UInt64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("first_id", DataType::UInt64, false),
        Field::new("last_id", DataType::UInt64, false),
        Field::new("valid", DataType::Boolean, false),
        Field::new("side", DataType::Utf8, true),
        decimal_field("price", scales.price),
        decimal_field("qty", scales.qty),
    ]
}

/// Rows that were not given out yet.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The book is known: a snapshot came, and no gap since.
    known: bool,
    time: Times,
    ingest: Times,
    seq: UInt64Builder,
    kind: StringBuilder,
    first_id: UInt64Builder,
    last_id: UInt64Builder,
    valid: BooleanBuilder,
    side: StringBuilder,
    price: Decimals,
    qty: Decimals,
}

/// What the rows of one message have in common.
struct Message<'a> {
    stored: &'a Stored<'a>,
    kind: &'static str,
    ids: (u64, u64),
}

impl Rows {
    pub(crate) fn new(scales: Scales) -> Self {
        Self {
            known: false,
            time: Times::new(),
            ingest: Times::new(),
            seq: UInt64Builder::new(),
            kind: StringBuilder::new(),
            first_id: UInt64Builder::new(),
            last_id: UInt64Builder::new(),
            valid: BooleanBuilder::new(),
            side: StringBuilder::new(),
            price: Decimals::new(scales.price),
            qty: Decimals::new(scales.qty),
        }
    }

    /// Adds what a record says; returns how many rows that are.
    pub(crate) fn push(&mut self, stored: &Stored<'_>) -> Result<usize, Misfit> {
        let snapshot = match &stored.record {
            Record::BookSnapshot(book) => Some(book),
            Record::CountedSnapshot(counted) => Some(&counted.book),
            _ => None,
        };
        if let Some(book) = snapshot {
            if book.source == SnapshotSource::Refinery && self.known {
                return Ok(0);
            }
            self.known = true;
            let message = Message { stored, kind: "snapshot", ids: (book.last_id, book.last_id) };
            return self.levels(&message, &book.head, book.bids, book.asks);
        }
        match &stored.record {
            Record::BookDelta(delta) => {
                let message = Message { stored, kind: "delta", ids: (delta.first_id, delta.last_id) };
                self.levels(&message, &delta.head, delta.bids, delta.asks)
            }
            Record::Gap(gap) => {
                self.known = false;
                let message = Message { stored, kind: "gap", ids: (gap.missing_from, gap.missing_to) };
                self.begin(&message)?;
                self.side.append_null();
                self.price.push_none();
                self.qty.push_none();
                Ok(1)
            }
            _ => Ok(0),
        }
    }

    fn levels(&mut self, of: &Message<'_>, head: &Head, bids: &[Level], asks: &[Level]) -> Result<usize, Misfit> {
        for (side, levels) in [("bid", bids), ("ask", asks)] {
            for level in levels {
                self.begin(of)?;
                self.side.append_value(side);
                self.price.push(head.price.decimal(level.price()))?;
                self.qty.push(head.qty.decimal(level.qty()))?;
            }
        }
        Ok(bids.len() + asks.len())
    }

    fn begin(&mut self, Message { stored, kind, ids }: &Message<'_>) -> Result<(), Misfit> {
        self.time.push(stored.time_ns)?;
        self.ingest.push(stored.record.head().ingest_ns)?;
        self.seq.append_value(stored.seq);
        self.kind.append_value(kind);
        self.first_id.append_value(ids.0);
        self.last_id.append_value(ids.1);
        self.valid.append_value(self.known);
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            self.time.take(),
            self.ingest.take(),
            Arc::new(self.seq.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.first_id.finish()),
            Arc::new(self.last_id.finish()),
            Arc::new(self.valid.finish()),
            Arc::new(self.side.finish()),
            self.price.take(),
            self.qty.take(),
        ]
    }
}
