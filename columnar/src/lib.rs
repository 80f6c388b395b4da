//! The archive as tables: what notebooks and query engines read, exact and a batch at a time.
//!
//! A [`Table`] is one symbol's books, deltas, trades or quotes over a range of days, read from whatever tier holds
//! them. It is given out as Arrow record batches, into a [`Sink`]: [`ArrowStream`] writes the IPC stream that Polars,
//! pandas and DuckDB read from a pipe, [`ParquetFile`] a file.
//!
//! ```no_run
//! # fn main() -> chronicle_columnar::Result<()> {
//! # #[cfg(target_os = "linux")] {
//! use chronicle_columnar::{ArrowStream, Request, Sink, Table, What};
//! use chronicle_platform_linux::Linux;
//! use chronicle_storage::root::Root;
//!
//! let day = "2024-08-08".parse().unwrap();
//! let trades = Request {
//!     venue: "binance-spot".parse().unwrap(),
//!     symbol: "btcusdt".parse().unwrap(),
//!     dates: day..=day,
//!     what: What::Trades,
//!     scales: None,
//! };
//! let table = Table::open(&Linux, &Root::new("market"), trades)?;
//! let mut stream = ArrowStream::new(std::io::stdout(), table.schema())?;
//! table.write(&mut stream)?;
//! stream.close()?;
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! The other way, [`symbols`] reads a symbol table from Parquet.
//!
//! **Numbers.** Prices and quantities are `Decimal128(38, s)`. A stream has one schema, so the scale `s` is the finest
//! that any record of the range uses, found by a first pass over the records' heads, or the one that was asked for; a
//! number that does not fit it exactly is an error, never rounded. **Times** are `Timestamp(ns, UTC)`: `time` is the
//! exchange's, `ingest_time` that of whoever received it.
//!
//! What this crate never does: it keeps no day in memory, turns no price into a float, and reads no clock; the same
//! partitions give the same bytes.

#![forbid(unsafe_code)]

mod books;
mod column;
mod deltas;
mod error;
mod features;
mod quotes;
mod scale;
mod sink;
pub mod symbols;
mod table;
mod trades;

/// The crates whose types stand in this one's signatures, in the versions that fit.
pub use {arrow_array, arrow_schema, parquet};

pub use error::{Error, Result};
pub use features::{derive, feature_schema};
pub use scale::Scales;
pub use sink::{ArrowStream, ParquetFile, ROW_GROUP_LEN, Sink};
pub use table::{Request, Table, What};
