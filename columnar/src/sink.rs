//! Where batches go: an Arrow stream, or a Parquet file.

use std::fmt;
use std::io::Write;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::Result;

/// Takes the batches of one table, all of one schema.
pub trait Sink {
    /// Takes a batch.
    ///
    /// # Errors
    ///
    /// What the output says.
    fn batch(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Ends the table; an output that was not closed is no whole one, and its readers see that.
    ///
    /// # Errors
    ///
    /// What the output says.
    fn close(self) -> Result<()>;
}

/// An Arrow IPC stream, uncompressed: for a pipe, or a file that is mapped.
pub struct ArrowStream<W: Write>(StreamWriter<W>);

impl<W: Write> fmt::Debug for ArrowStream<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowStream").finish_non_exhaustive()
    }
}

impl<W: Write> ArrowStream<W> {
    /// Writes the schema.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn new(out: W, schema: &Schema) -> Result<Self> {
        Ok(Self(StreamWriter::try_new(out, schema)?))
    }
}

impl<W: Write> Sink for ArrowStream<W> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.0.write(batch)?)
    }

    fn close(mut self) -> Result<()> {
        self.0.finish()?;
        Ok(self.0.get_mut().flush().map_err(arrow_schema::ArrowError::from)?)
    }
}

/// A Parquet file: zstd, statistics of each row group, which hold at most [`ROW_GROUP_LEN`] bytes.
#[derive(Debug)]
pub struct ParquetFile<W: Write + Send>(ArrowWriter<W>);

/// Bytes of a row group, about: they are in memory until it is written.
pub const ROW_GROUP_LEN: usize = 64 << 20;
/// Rows of a row group.
const ROW_GROUP_COUNT: usize = 1 << 20;
/// The archive's own level costs more than it gives here.
const ZSTD_LEVEL: i32 = 3;

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn new(out: W, schema: SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("chronicle ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(ROW_GROUP_COUNT))
            .set_max_row_group_bytes(Some(ROW_GROUP_LEN))
            .build();
        Ok(Self(ArrowWriter::try_new(out, schema, Some(properties))?))
    }
}

impl<W: Write + Send> Sink for ParquetFile<W> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.0.write(batch)?)
    }

    fn close(self) -> Result<()> {
        self.0.close()?;
        Ok(())
    }
}
