//! The venues whose recordings can be read, by the names that a user types.
//!
//! A venue is one row of the table below and one file with its [`Dialect`]: how one line of its recordings becomes one
//! record. Everything else (gzip, lines, counting, symbols, damage) is the same for all of them and lives in
//! [`import`](crate::import).

use core::fmt;
use core::str::FromStr;

use chronicle_protocol::{Level, Record};

use crate::binance;
use crate::flaw::Flaw;

/// Memory that one line after another is read into.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) levels: Vec<Level>,
}

/// One line, understood.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The venue's word for the kind of message, for counting.
    pub(crate) kind: &'a str,
    /// The record; its symbol is empty if the message names none.
    pub(crate) record: Record<'a>,
    /// The message itself, for keeping it verbatim when no symbol can be told.
    pub(crate) verbatim: &'a str,
}

/// How a venue's recordings are read.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// The kinds that it makes records of, counted even when there are none.
    pub(crate) kinds: &'static [&'static str],
    /// Reads one line.
    pub(crate) read: for<'a> fn(&'a str, &'a mut Scratch) -> Result<Message<'a>, Flaw>,
}

macro_rules! venues {
    ($($(#[$doc:meta])* $venue:ident = $name:literal => $dialect:path;)*) => {
        /// A venue whose recordings can be read.
        ///
        /// ```
        /// use chronicle_feed::Venue;
        ///
        /// let venue: Venue = "binance-spot".parse().unwrap();
        /// assert_eq!(venue, Venue::BinanceSpot);
        /// assert_eq!(venue.to_string(), "binance-spot");
        /// assert_eq!(
        ///     "binance".parse::<Venue>().unwrap_err().to_string(),
        ///     "venue `binance` is not known: binance-spot, binance-usdm, binance-coinm are",
        /// );
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Venue {
            $($(#[$doc])* $venue,)*
        }

        impl Venue {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$venue),*];

            /// The name in paths and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$venue => $name,)*
                }
            }

            pub(crate) const fn dialect(self) -> &'static Dialect {
                match self {
                    $(Self::$venue => &$dialect,)*
                }
            }
        }
    };
}

venues! {
    /// Binance spot.
    BinanceSpot = "binance-spot" => binance::SPOT;
    /// Binance futures settled in a stablecoin.
    BinanceUsdm = "binance-usdm" => binance::FUTURES;
    /// Binance futures settled in the coin.
    BinanceCoinm = "binance-coinm" => binance::FUTURES;
}

impl fmt::Display for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no venue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVenue {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownVenue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "venue `{}` is not known: ", self.name.escape_debug())?;
        for (i, venue) in Venue::ALL.iter().enumerate() {
            write!(f, "{}{venue}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(" are")
    }
}

impl core::error::Error for UnknownVenue {}

impl FromStr for Venue {
    type Err = UnknownVenue;

    fn from_str(name: &str) -> Result<Self, UnknownVenue> {
        Self::ALL.iter().copied().find(|v| v.name() == name).ok_or_else(|| UnknownVenue { name: name.to_owned() })
    }
}
