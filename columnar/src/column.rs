//! Columns that several tables have: times and exact numbers.

use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, TimestampNanosecondBuilder};
use arrow_array::{ArrayRef, types::Decimal128Type, types::DecimalType as _};
use arrow_schema::{DataType, Field, TimeUnit};
use chronicle_protocol::Decimal;

use crate::error::Misfit;
use crate::scale::{PRECISION, at_scale};

const UTC: &str = "UTC";

/// A column of times; 0 is none.
pub(crate) fn time_field(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())), true)
}

/// A column of prices or quantities.
pub(crate) fn decimal_field(name: impl Into<String>, scale: u8) -> Field {
    Field::new(name, decimal_type(scale), true)
}

fn decimal_type(scale: u8) -> DataType {
    const { assert!(PRECISION == Decimal128Type::MAX_PRECISION) };
    // At most 38, which `Scales` sees to.
    DataType::Decimal128(PRECISION, scale.min(PRECISION) as i8)
}

/// Times of one column.
#[derive(Debug)]
pub(crate) struct Times(TimestampNanosecondBuilder);

impl Times {
    pub(crate) fn new() -> Self {
        Self(TimestampNanosecondBuilder::new().with_timezone(UTC))
    }

    /// A time; 0 is none.
    pub(crate) fn push(&mut self, ns: u64) -> Result<(), Misfit> {
        match ns {
            0 => self.0.append_null(),
            ns => self.0.append_value(i64::try_from(ns).map_err(|_| Misfit::Time { ns })?),
        }
        Ok(())
    }

    pub(crate) fn take(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Exact numbers of one column.
#[derive(Debug)]
pub(crate) struct Decimals {
    values: Decimal128Builder,
    scale: u8,
}

impl Decimals {
    pub(crate) fn new(scale: u8) -> Self {
        Self { values: Decimal128Builder::new().with_data_type(decimal_type(scale)), scale }
    }

    pub(crate) fn push(&mut self, number: Decimal) -> Result<(), Misfit> {
        self.values.append_value(at_scale(number, self.scale)?);
        Ok(())
    }

    pub(crate) fn push_none(&mut self) {
        self.values.append_null();
    }

    pub(crate) fn take(&mut self) -> ArrayRef {
        Arc::new(self.values.finish())
    }
}
