//! The table of books: the best levels of both sides at regular times, one row for each.
//!
//! A row whose book is not the venue's, because ids are missing, is there all the same: `valid` is false, its levels and
//! counts are null, and `last_id` and `last_event_time` say up to where the book was known.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, UInt32Builder, UInt64Builder};
use arrow_schema::{DataType, Field};
use chronicle_etl::query::Row;

use crate::column::{Decimals, Times, decimal_field, time_field};
use crate::error::Misfit;
use crate::scale::Scales;

/// Its columns: a level's are together, bid before ask.
pub(crate) fn fields(scales: Scales, depth: usize) -> Vec<Field> {
    let mut fields = vec![
        time_field("time"),
        Field::new("valid", DataType::Boolean, false),
        time_field("last_event_time"),
        Field::new("last_id", DataType::UInt64, false),
        Field::new("bid_levels", DataType::UInt32, true),
        Field::new("ask_levels", DataType::UInt32, true),
    ];
    for at in 0..depth {
        for side in ["bid", "ask"] {
            fields.push(decimal_field(format!("{side}_price_{at}"), scales.price));
            fields.push(decimal_field(format!("{side}_qty_{at}"), scales.qty));
        }
    }
    fields
}

/// One side's level, in all rows.
#[derive(Debug)]
struct Level {
    price: Decimals,
    qty: Decimals,
}

/// Rows that were not given out yet.
#[derive(Debug)]
pub(crate) struct Rows {
    time: Times,
    valid: BooleanBuilder,
    last_event: Times,
    last_id: UInt64Builder,
    bid_levels: UInt32Builder,
    ask_levels: UInt32Builder,
    /// Bid and ask of each level, the best first.
    levels: Vec<[Level; 2]>,
}

impl Rows {
    pub(crate) fn new(scales: Scales, depth: usize) -> Self {
        let level = || Level { price: Decimals::new(scales.price), qty: Decimals::new(scales.qty) };
        Self {
            time: Times::new(),
            valid: BooleanBuilder::new(),
            last_event: Times::new(),
            last_id: UInt64Builder::new(),
            bid_levels: UInt32Builder::new(),
            ask_levels: UInt32Builder::new(),
            levels: (0..depth).map(|_| [level(), level()]).collect(),
        }
    }

    pub(crate) fn push(&mut self, row: &Row<'_>) -> Result<(), Misfit> {
        let Row { time_ns, last_event_ns, last_id, valid, book, orders: _ } = *row;
        self.time.push(time_ns)?;
        self.valid.append_value(valid);
        self.last_event.push(last_event_ns)?;
        self.last_id.append_value(last_id);
        // More levels than 32 bits count fit no memory.
        let count = |count: usize| valid.then_some(u32::try_from(count).unwrap_or(u32::MAX));
        self.bid_levels.append_option(count(book.bid_count()));
        self.ask_levels.append_option(count(book.ask_count()));
        let (mut bids, mut asks) = (book.bids(), book.asks());
        for [bid, ask] in &mut self.levels {
            for (column, level) in [(bid, bids.next()), (ask, asks.next())] {
                match level.filter(|_| valid) {
                    Some((price, qty)) => {
                        column.price.push(book.price(price))?;
                        column.qty.push(book.qty(qty))?;
                    }
                    None => {
                        column.price.push_none();
                        column.qty.push_none();
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![
            self.time.take(),
            Arc::new(self.valid.finish()),
            self.last_event.take(),
            Arc::new(self.last_id.finish()),
            Arc::new(self.bid_levels.finish()),
            Arc::new(self.ask_levels.finish()),
        ];
        for level in self.levels.iter_mut().flatten() {
            columns.push(level.price.take());
            columns.push(level.qty.take());
        }
        columns
    }
}
