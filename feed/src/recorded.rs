//! A recorded file of any format, read the same way.

use std::io::Read;

use crate::databento::Databento;
use crate::format::Format;
use crate::import::{Parsed, ReadError, Recording};
use crate::report::Report;
use crate::tardis::Tardis;
use crate::venue::{UnknownVenue, Venue};

/// A recorded file being read, whatever its [`Format`].
///
/// ```
/// use chronicle_feed::{Format, Recorded};
///
/// let file = b"exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nbitmex,XBTUSD,1583020803145000,1583020803307160,1,buy,8531.5,2152\n";
/// let mut recorded = Recorded::open(Format::Tardis, "bitmex", "trades.csv", &file[..]).unwrap();
/// assert_eq!(recorded.advance()?.unwrap().ingest_ns, 1_583_020_803_307_160_000);
/// assert!(recorded.advance()?.is_none());
/// assert_eq!(recorded.into_report().by_kind["trades"], 1);
/// # Ok::<(), chronicle_feed::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Recorded<R>(Reader<R>);

#[derive(Debug)]
enum Reader<R> {
    Messages(Box<Recording<R>>),
    Tardis(Box<Tardis<R>>),
    Databento(Box<Databento<R>>),
}

impl<R: Read> Recorded<R> {
    /// Begins to read a file of this format and venue; see [`look`](crate::look) for what it says itself. `name` is for the
    /// report.
    ///
    /// # Errors
    ///
    /// Its lines are a venue's own messages, and no venue whose messages can be read has that name.
    pub fn open(format: Format, venue: &str, name: impl Into<String>, file: R) -> Result<Self, UnknownVenue> {
        Ok(Self(match format {
            Format::Tardis => Reader::Tardis(Box::new(Tardis::open(venue, name, file))),
            Format::Dbn => Reader::Databento(Box::new(Databento::open(venue, name, file))),
            Format::Binance | Format::Cryptofeed | Format::Hyperliquid => {
                Reader::Messages(Box::new(Recording::open(venue.parse::<Venue>()?, name, file)))
            }
        }))
    }

    /// The next record; `None` at the end, whole or cut.
    ///
    /// # Errors
    ///
    /// The reader's. Damage in the file is no error; it is in the report.
    pub fn advance(&mut self) -> Result<Option<Parsed<'_>>, ReadError> {
        match &mut self.0 {
            Reader::Messages(it) => it.advance(),
            Reader::Tardis(it) => it.advance(),
            Reader::Databento(it) => it.advance(),
        }
    }

    /// What was found so far; complete, with [`Report::sha256`], once [`Recorded::advance`] has returned `None`.
    #[must_use]
    pub fn report(&self) -> &Report {
        match &self.0 {
            Reader::Messages(it) => it.report(),
            Reader::Tardis(it) => it.report(),
            Reader::Databento(it) => it.report(),
        }
    }

    /// The report without a copy.
    #[must_use]
    pub fn into_report(self) -> Report {
        match self.0 {
            Reader::Messages(it) => it.into_report(),
            Reader::Tardis(it) => it.into_report(),
            Reader::Databento(it) => it.into_report(),
        }
    }
}
