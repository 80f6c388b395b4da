//! The table of quotes: the best bid and offer as the venue itself says them, one row for each message.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::UInt64Builder;
use arrow_schema::{DataType, Field};
use chronicle_protocol::Quote;

use crate::column::{Decimals, Times, decimal_field, time_field};
use crate::error::Misfit;
use crate::scale::Scales;

/// Its columns.
pub(crate) fn fields(scales: Scales) -> Vec<Field> {
    vec![
        time_field("time"),
        time_field("ingest_time"),
        time_field("transact_time"),
        Field::new("update_id", DataType::UInt64, false),
        decimal_field("bid_price", scales.price),
        decimal_field("bid_qty", scales.qty),
        decimal_field("ask_price", scales.price),
        decimal_field("ask_qty", scales.qty),
    ]
}

/// Rows that were not given out yet.
#[derive(Debug)]
pub(crate) struct Rows {
    time: Times,
    ingest: Times,
    transact: Times,
    id: UInt64Builder,
    bid: (Decimals, Decimals),
    ask: (Decimals, Decimals),
}

impl Rows {
    pub(crate) fn new(scales: Scales) -> Self {
        let level = || (Decimals::new(scales.price), Decimals::new(scales.qty));
        Self {
            time: Times::new(),
            ingest: Times::new(),
            transact: Times::new(),
            id: UInt64Builder::new(),
            bid: level(),
            ask: level(),
        }
    }

    pub(crate) fn push(&mut self, time_ns: u64, quote: &Quote<'_>) -> Result<(), Misfit> {
        let (price, qty) = (quote.head.price, quote.head.qty);
        self.time.push(time_ns)?;
        self.ingest.push(quote.head.ingest_ns)?;
        self.transact.push(quote.head.transact_ns)?;
        self.id.append_value(quote.update_id);
        self.bid.0.push(price.decimal(quote.bid_price))?;
        self.bid.1.push(qty.decimal(quote.bid_qty))?;
        self.ask.0.push(price.decimal(quote.ask_price))?;
        self.ask.1.push(qty.decimal(quote.ask_qty))
    }

    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            self.time.take(),
            self.ingest.take(),
            self.transact.take(),
            Arc::new(self.id.finish()),
            self.bid.0.take(),
            self.bid.1.take(),
            self.ask.0.take(),
            self.ask.1.take(),
        ]
    }
}
