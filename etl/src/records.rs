//! The records of one stream of a symbol, over days and tiers, in the archive's order.
//!
//! Use it to look at every trade, quote or book record of a range: [`each_record`] opens one partition after another and
//! gives each record with its frame's facts. It knows no book; [`query`](crate::query) follows that.

use std::ops::RangeInclusive;
use std::path::Path;

use chronicle_platform::Platform;
use chronicle_protocol::Record;
use chronicle_storage::reader::ArchiveReader;
use chronicle_storage::root::{Date, Name, PartitionId, Root, Stream};

use crate::error::{Error, Result};
use crate::query::{partition, record};

/// A record of a partition, and what its frame says.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The frame's time: of refined streams the exchange's, ns since 1970.
    pub time_ns: u64,
    /// The frame's seq.
    pub seq: u64,
    /// The frame's flags, see [`NOT_APPLIED`](crate::refinery::NOT_APPLIED).
    pub flags: u16,
    /// The record.
    pub record: Record<'a>,
    /// The file that it is in.
    pub path: &'a Path,
}

/// Gives every record of these days; those without a partition have none. What `each` returns in error ends it.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing is stored of the symbol; damage, trouble; what `each` returned.
pub fn each_record<P: Platform, E: From<Error>>(
    platform: &P,
    root: &Root,
    venue: &Name,
    symbol: &Name,
    stream: Stream,
    dates: &RangeInclusive<Date>,
    mut each: impl FnMut(Stored<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let archive = ArchiveReader::open(platform, root).map_err(Error::from)?;
    let known = archive.dates(venue, symbol).map_err(Error::from)?;
    if known.is_empty() {
        return Err(Error::NotFound { venue: venue.clone(), symbol: symbol.clone() }.into());
    }
    for date in known.into_iter().filter(|date| dates.contains(date)) {
        let id = PartitionId::new(venue.clone(), symbol.clone(), date, stream);
        let Some(mut partition) = partition(platform, &archive, &id)? else { continue };
        // It may move to another tier while it is read; what is said of it is where it was found.
        let path = partition.path().to_owned();
        while let Some(frame) = partition.next().map_err(Error::from)? {
            let record = record(&frame, &path)?;
            each(Stored { time_ns: frame.time_ns, seq: frame.seq, flags: frame.flags, record, path: &path })?;
        }
    }
    Ok(())
}
