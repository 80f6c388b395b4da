//! One symbol's records over a range of days as record batches of one schema.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use chronicle_etl::query::{Rows, book_rows_and_gaps};
use chronicle_etl::records::{Stored, each_record};
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_platform::Platform;
use chronicle_protocol::Record;
use chronicle_storage::root::{Date, Name, Root, Stream};

use crate::error::{Error, Misfit, Result};
use crate::scale::Scales;
use crate::sink::Sink;
use crate::{books, deltas, quotes, trades};

/// Rows of a batch, about: a message's levels stay together.
const BATCH_ROWS: usize = 8192;
/// Cells of a batch of books, about: 4 MiB of numbers.
const BATCH_CELLS: usize = 1 << 18;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The best `depth` levels of each side at every multiple of `every_ns`, before the first event at or after it.
    Books {
        /// From one row to the next, ns.
        every_ns: u64,
        /// Levels of each side.
        depth: usize,
    },
    /// A row for each level that changed, and for each gap.
    Deltas,
    /// A row for each trade.
    Trades,
    /// A row for each best bid and offer that the venue sent.
    Quotes,
}

impl What {
    fn stream(self) -> Stream {
        match self {
            Self::Books { .. } | Self::Deltas => Stream::Book,
            Self::Trades => Stream::Trades,
            Self::Quotes => Stream::Quotes,
        }
    }
}

/// What a table is of.
#[derive(Clone, Debug)]
pub struct Request {
    /// The venue.
    pub venue: Name,
    /// The symbol's code.
    pub symbol: Name,
    /// The days.
    pub dates: RangeInclusive<Date>,
    /// Which table.
    pub what: What,
    /// Digits behind the point; none: the finest that the records use, found by reading them once more.
    pub scales: Option<Scales>,
}

/// A table that can be given out. See the crate.
#[derive(Debug)]
pub struct Table<P: Platform> {
    platform: P,
    root: Root,
    request: Request,
    scales: Scales,
    schema: SchemaRef,
}

impl<P: Platform> Table<P> {
    /// Finds out what the columns are.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]: nothing is stored of the symbol; damage, trouble.
    pub fn open(platform: &P, root: &Root, request: Request) -> Result<Self> {
        let Request { venue, symbol, dates, what, .. } = &request;
        let scales = match request.scales {
            Some(scales) => scales,
            None => Scales::finest(platform, root, venue, symbol, what.stream(), dates)?,
        };
        let fields = match what {
            What::Books { depth, .. } => books::fields(scales, *depth),
            What::Deltas => deltas::fields(scales),
            What::Trades => trades::fields(scales),
            What::Quotes => quotes::fields(scales),
        };
        let of = [("venue", venue), ("symbol", symbol)].map(|(key, name)| (key.to_owned(), name.to_string()));
        let schema = Arc::new(Schema::new_with_metadata(fields, HashMap::from(of)));
        Ok(Self { platform: platform.clone(), root: root.clone(), request, scales, schema })
    }

    /// The columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Gives all rows to `sink`, a batch at a time, and returns their number. The sink is not closed.
    ///
    /// # Errors
    ///
    /// As [`Table::open`]; [`Error::Misfit`]; what the sink says.
    pub fn write(&self, sink: &mut impl Sink) -> Result<u64> {
        let mut batches = Batches::new(&self.schema, sink);
        match self.request.what {
            What::Books { every_ns, depth } => {
                batches.rows_max = (BATCH_CELLS / self.schema.fields().len()).clamp(1, BATCH_ROWS);
                let mut rows = books::Rows::new(self.scales, depth);
                let Request { venue, symbol, dates, .. } = &self.request;
                let asked = Rows { dates: dates.clone(), every_ns, depth };
                book_rows_and_gaps(&self.platform, &self.root, venue, symbol, &asked, |row| -> Result<()> {
                    let place = || format!("{venue}/{symbol}: book after id {}", row.last_id);
                    rows.push(&row).map_err(|misfit| Error::Misfit { place: place(), misfit })?;
                    batches.add(1, || rows.take())
                })?;
                batches.end(|| rows.take())
            }
            What::Deltas => {
                let mut rows = deltas::Rows::new(self.scales);
                self.each(|stored| {
                    let count = rows.push(&stored).map_err(|misfit| misfits(&stored, misfit))?;
                    batches.add(count, || rows.take())
                })?;
                batches.end(|| rows.take())
            }
            What::Trades => {
                let mut rows = trades::Rows::new(self.scales);
                self.each(|stored| {
                    let pushed = rows.push(stored.time_ns, &stored.record);
                    let count = pushed.map_err(|misfit| misfits(&stored, misfit))?;
                    batches.add(count, || rows.take())
                })?;
                batches.end(|| rows.take())
            }
            What::Quotes => {
                let mut rows = quotes::Rows::new(self.scales);
                self.each(|stored| {
                    let Record::Quote(quote) = &stored.record else { return Ok(()) };
                    rows.push(stored.time_ns, quote).map_err(|misfit| misfits(&stored, misfit))?;
                    batches.add(1, || rows.take())
                })?;
                batches.end(|| rows.take())
            }
        }
    }

    /// Every record that counts: those that the venue sent again are in the archive, and no row.
    fn each(&self, mut each: impl FnMut(Stored<'_>) -> Result<()>) -> Result<()> {
        let Request { venue, symbol, dates, what, .. } = &self.request;
        each_record(&self.platform, &self.root, venue, symbol, what.stream(), dates, |stored| {
            if stored.flags & NOT_APPLIED == 0 { each(stored) } else { Ok(()) }
        })
    }
}

fn misfits(stored: &Stored<'_>, misfit: Misfit) -> Error {
    Error::Misfit { place: format!("{}: frame {}", stored.path.display(), stored.seq), misfit }
}

/// Cuts rows into batches.
pub(crate) struct Batches<'a, S> {
    schema: &'a SchemaRef,
    sink: &'a mut S,
    /// Rows since the last batch.
    pending: usize,
    rows_max: usize,
    count: u64,
}

impl<'a, S: Sink> Batches<'a, S> {
    pub(crate) fn new(schema: &'a SchemaRef, sink: &'a mut S) -> Self {
        Self { schema, sink, pending: 0, rows_max: BATCH_ROWS, count: 0 }
    }

    /// So many rows were added.
    pub(crate) fn add(&mut self, rows: usize, take: impl FnOnce() -> Vec<ArrayRef>) -> Result<()> {
        self.pending += rows;
        self.count += rows as u64;
        if self.pending < self.rows_max { Ok(()) } else { self.cut(take) }
    }

    fn cut(&mut self, take: impl FnOnce() -> Vec<ArrayRef>) -> Result<()> {
        self.pending = 0;
        self.sink.batch(&RecordBatch::try_new(self.schema.clone(), take())?)
    }

    pub(crate) fn end(mut self, take: impl FnOnce() -> Vec<ArrayRef>) -> Result<u64> {
        if self.pending > 0 {
            self.cut(take)?;
        }
        Ok(self.count)
    }
}
