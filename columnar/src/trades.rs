//! The table of trades: one row for each, in the archive's order.
//!
//! Some venues number their trades, some name them, so an id is a text in all tables. The aggressor is who took: `buy`,
//! `sell`, or null where the venue does not say.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use arrow_schema::{DataType, Field};
use chronicle_protocol::{OrderType, Record, Side};

use crate::column::{Decimals, Times, decimal_field, time_field};
use crate::error::Misfit;
use crate::scale::Scales;

/// Its columns.
pub(crate) fn fields(scales: Scales) -> Vec<Field> {
    vec![
        time_field("time"),
        time_field("ingest_time"),
        time_field("transact_time"),
        Field::new("trade_id", DataType::Utf8, true),
        decimal_field("price", scales.price),
        decimal_field("qty", scales.qty),
        Field::new("aggressor", DataType::Utf8, true),
        Field::new("order_type", DataType::Utf8, true),
    ]
}

/// Rows that were not given out yet.
#[derive(Debug)]
pub(crate) struct Rows {
    time: Times,
    ingest: Times,
    transact: Times,
    id: StringBuilder,
    price: Decimals,
    qty: Decimals,
    aggressor: StringBuilder,
    order_type: StringBuilder,
}

impl Rows {
    pub(crate) fn new(scales: Scales) -> Self {
        Self {
            time: Times::new(),
            ingest: Times::new(),
            transact: Times::new(),
            id: StringBuilder::new(),
            price: Decimals::new(scales.price),
            qty: Decimals::new(scales.qty),
            aggressor: StringBuilder::new(),
            order_type: StringBuilder::new(),
        }
    }

    /// Adds a trade; returns how many rows that is: none, if the record is of another kind.
    pub(crate) fn push(&mut self, time_ns: u64, record: &Record<'_>) -> Result<usize, Misfit> {
        let (price, qty, aggressor) = match record {
            Record::Trade(trade) => {
                self.id.append_value(trade.trade_id.to_string());
                self.order_type.append_option(trade.order_type.map(OrderType::as_str));
                (trade.price, trade.qty, Some(if trade.buyer_is_maker { Side::Ask } else { Side::Bid }))
            }
            Record::TextTrade(trade) => {
                self.id.append_option(Some(trade.id).filter(|id| !id.is_empty()));
                self.order_type.append_null();
                (trade.price, trade.qty, trade.side)
            }
            _ => return Ok(0),
        };
        let head = record.head();
        self.time.push(time_ns)?;
        self.ingest.push(head.ingest_ns)?;
        self.transact.push(head.transact_ns)?;
        self.price.push(head.price.decimal(price))?;
        self.qty.push(head.qty.decimal(qty))?;
        self.aggressor.append_option(aggressor.map(|side| match side {
            Side::Bid => "buy",
            Side::Ask => "sell",
        }));
        Ok(1)
    }

    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            self.time.take(),
            self.ingest.take(),
            self.transact.take(),
            Arc::new(self.id.finish()),
            self.price.take(),
            self.qty.take(),
            Arc::new(self.aggressor.finish()),
            Arc::new(self.order_type.finish()),
        ]
    }
}
