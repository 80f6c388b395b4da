//! The table of a feature's values, one row for each regular time: see [`chronicle_etl::features`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use chronicle_etl::features::{Feature, FeatureRow, feature_rows};
use chronicle_etl::query::Rows;
use chronicle_platform::Platform;
use chronicle_storage::root::{Name, Root};

use crate::column::{Times, time_field};
use crate::error::{Error, Misfit, Result};
use crate::sink::Sink;
use crate::table::Batches;

/// The columns of a feature: `time`, `valid`, then a `Float64` for each of its own, null where it has no value.
#[must_use]
pub fn feature_schema(venue: &Name, symbol: &Name, feature: &impl Feature) -> SchemaRef {
    let mut names = Vec::new();
    feature.columns(&mut names);
    let mut fields = vec![time_field("time"), Field::new("valid", DataType::Boolean, false)];
    fields.extend(names.into_iter().map(|name| Field::new(name, DataType::Float64, true)));
    let of = [("venue", venue), ("symbol", symbol)].map(|(key, name)| (key.to_owned(), name.to_string()));
    Arc::new(Schema::new_with_metadata(fields, HashMap::from(of)))
}

/// Runs a feature over the stored days of a symbol and gives its rows to `sink`, whose schema is the feature's; returns
/// their number. The sink is not closed.
///
/// # Errors
///
/// [`Error::Read`]; [`Error::Misfit`] for a time; what the sink says.
pub fn derive<P: Platform>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    rows: &Rows,
    feature: &mut impl Feature,
    sink: &mut impl Sink,
) -> Result<u64> {
    let schema = feature_schema(venue, symbol, feature);
    let mut columns = Columns::new(schema.fields().len() - 2);
    let mut batches = Batches::new(&schema, sink);
    feature_rows(platform, root, venue, symbol, rows, feature, |row| -> Result<()> {
        columns.push(&row).map_err(|misfit| Error::Misfit { place: format!("{venue}/{symbol}"), misfit })?;
        batches.add(1, || columns.take())
    })?;
    batches.end(|| columns.take())
}

/// Rows that were not given out yet.
#[derive(Debug)]
struct Columns {
    time: Times,
    valid: BooleanBuilder,
    values: Vec<Float64Builder>,
}

impl Columns {
    fn new(count: usize) -> Self {
        let values = (0..count).map(|_| Float64Builder::new()).collect();
        Self { time: Times::new(), valid: BooleanBuilder::new(), values }
    }

    fn push(&mut self, row: &FeatureRow<'_>) -> Result<(), Misfit> {
        self.time.push(row.time_ns)?;
        self.valid.append_value(row.valid);
        for (column, value) in self.values.iter_mut().zip(row.values) {
            column.append_option(*value);
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![self.time.take(), Arc::new(self.valid.finish())];
        columns.extend(self.values.iter_mut().map(|column| -> ArrayRef { Arc::new(column.finish()) }));
        columns
    }
}
