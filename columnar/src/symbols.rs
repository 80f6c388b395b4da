//! A symbol table as Parquet: the columns of [`COLUMNS`], in any order, others beside them passed over.
//!
//! | Column | Parquet type |
//! |---|---|
//! | `venue`, `raw_symbol`, `symbol_code` | UTF-8 text |
//! | `symbol_id`, `symbol_version_id` | any integer |
//! | `valid_from`, `valid_to` | a timestamp adjusted to UTC, of any unit; a date; or text as in CSV. Null `valid_to` = open |
//!
//! What is wrong in it is found where it is found for CSV: each value goes to [`Table::from_rows`] as its text. A timestamp that is not
//! adjusted to UTC says no time zone, and is refused as such a text is.

use core::fmt::Display;

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::{
    date32_to_datetime, timestamp_ms_to_datetime, timestamp_ns_to_datetime, timestamp_s_to_datetime,
    timestamp_us_to_datetime,
};
use arrow_array::types::{
    Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use chronicle_etl::symbols::{COLUMNS, Problem, ProblemKind, Problems, RowKind, Table};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

/// Most rows of a table: a small file may claim any number of them.
const ROWS_MAX: i64 = 2_000_000;

/// The first bytes of every Parquet file.
pub const MAGIC: &[u8; 4] = b"PAR1";

/// Reads a symbol table from the bytes of a Parquet file, whose SHA-256 is given.
///
/// # Errors
///
/// All problems that it has; rows are counted from 1.
pub fn symbols(bytes: Vec<u8>, sha256: [u8; 32]) -> Result<Table, Problems> {
    // The Parquet crate panics at some bytes that no writer made: lengths below nothing, say.
    std::panic::catch_unwind(|| read(bytes, sha256)).unwrap_or_else(|_| {
        Err(wrong(
            ProblemKind::Unreadable,
            "no Parquet file that any program wrote: its lengths contradict it".to_owned(),
        ))
    })
}

fn wrong(kind: ProblemKind, what: String) -> Problems {
    let list = vec![Problem { kind, rows: Vec::new(), what }];
    Problems { counted_by: RowKind::Row, list, count: 1 }
}

fn read(bytes: Vec<u8>, sha256: [u8; 32]) -> Result<Table, Problems> {
    let len = bytes.len() as u64;
    let unreadable = |error: &dyn Display| wrong(ProblemKind::Unreadable, error.to_string());
    // Parquet's own types: whether a program meant a text to be large, or in a dictionary, is no business of ours.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::from(bytes), options);
    let builder = builder.map_err(|error| unreadable(&error))?;
    let count = builder.metadata().file_metadata().num_rows();
    if !(0..=ROWS_MAX).contains(&count) {
        return Err(wrong(ProblemKind::Unreadable, format!("{count} rows, at most {ROWS_MAX} are read")));
    }
    for column in builder.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let from = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = u64::try_from(from).ok().zip(u64::try_from(column.compressed_size()).ok());
        if end.and_then(|(from, size)| from.checked_add(size)).is_none_or(|end| end > len) {
            let (size, path) = (column.compressed_size(), column.column_path());
            let what = format!("column {path}: {size} bytes at offset {from}, the file has {len}");
            return Err(wrong(ProblemKind::Unreadable, what));
        }
    }
    let schema = builder.schema();
    let mut places = Vec::new();
    for column in COLUMNS {
        let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == column);
        match (found.next(), found.next()) {
            (Some((place, field)), None) if is_readable(field.data_type()) => places.push(place),
            (Some((_, field)), None) => {
                let what = format!("column {column} is {}, not what it should be", field.data_type());
                return Err(wrong(ProblemKind::Columns, what));
            }
            (None, _) => return Err(wrong(ProblemKind::Columns, format!("there is no column {column}"))),
            (Some(_), Some(_)) => return Err(wrong(ProblemKind::Columns, format!("column {column} is there twice"))),
        }
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), places);
    let batches = builder.with_projection(mask).build().map_err(|error| unreadable(&error))?;
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|error| unreadable(&error))?;
        take(&batch, &mut rows).map_err(|what| wrong(ProblemKind::Unreadable, what))?;
    }
    Table::from_rows(rows.iter().map(|row| row.each_ref().map(Option::as_deref)), sha256)
}

/// The texts of a row.
type Texts = [Option<String>; COLUMNS.len()];

fn is_readable(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::Date32 | DataType::Timestamp(..))
}

/// Takes the texts of a batch's rows.
fn take(batch: &RecordBatch, rows: &mut Vec<Texts>) -> Result<(), String> {
    let mut columns = Vec::with_capacity(COLUMNS.len());
    for name in COLUMNS {
        let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"))?;
        columns.push(texts(column)?);
    }
    for row in 0..batch.num_rows() {
        let mut texts: Texts = Default::default();
        for (text, column) in texts.iter_mut().zip(&mut columns) {
            *text = column[row].take();
        }
        rows.push(texts);
    }
    Ok(())
}

/// A column's values as texts.
fn texts(column: &dyn Array) -> Result<Vec<Option<String>>, String> {
    fn each<T: ArrowPrimitiveType>(column: &dyn Array, text: impl Fn(T::Native) -> String) -> Vec<Option<String>> {
        column.as_primitive::<T>().iter().map(|value| value.map(&text)).collect()
    }
    fn number<T: ArrowPrimitiveType>(column: &dyn Array) -> Vec<Option<String>>
    where
        T::Native: Display,
    {
        each::<T>(column, |value| value.to_string())
    }
    // One that no calendar holds is shown as the number that it is, and refused as no time.
    let time = |shown: Option<String>, value: i64, zone: &str| {
        shown.map_or_else(|| value.to_string(), |shown| format!("{shown}{zone}"))
    };
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect(),
        DataType::Int8 => number::<Int8Type>(column),
        DataType::Int16 => number::<Int16Type>(column),
        DataType::Int32 => number::<Int32Type>(column),
        DataType::Int64 => number::<Int64Type>(column),
        DataType::UInt8 => number::<UInt8Type>(column),
        DataType::UInt16 => number::<UInt16Type>(column),
        DataType::UInt32 => number::<UInt32Type>(column),
        DataType::UInt64 => number::<UInt64Type>(column),
        DataType::Date32 => each::<Date32Type>(column, |days| {
            time(date32_to_datetime(days).map(|at| format!("{:?}", at.date())), days.into(), "")
        }),
        DataType::Timestamp(unit, zone) => {
            let zone = if zone.is_some() { "Z" } else { "" };
            match unit {
                TimeUnit::Second => each::<TimestampSecondType>(column, |value| {
                    time(timestamp_s_to_datetime(value).map(|at| format!("{at:?}")), value, zone)
                }),
                TimeUnit::Millisecond => each::<TimestampMillisecondType>(column, |value| {
                    time(timestamp_ms_to_datetime(value).map(|at| format!("{at:?}")), value, zone)
                }),
                TimeUnit::Microsecond => each::<TimestampMicrosecondType>(column, |value| {
                    time(timestamp_us_to_datetime(value).map(|at| format!("{at:?}")), value, zone)
                }),
                TimeUnit::Nanosecond => each::<TimestampNanosecondType>(column, |value| {
                    time(timestamp_ns_to_datetime(value).map(|at| format!("{at:?}")), value, zone)
                }),
            }
        }
        other => return Err(format!("a column is {other}, which no column of a symbol table is")),
    })
}
