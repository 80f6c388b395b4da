//! Which venue's words the exchange speaks.

use std::fmt;
use std::str::FromStr;

use crate::market::Symbol;
use crate::simulation::Counting;

/// A venue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Venue {
    /// Binance spot: update ids count up by one in each symbol.
    BinanceSpot,
    /// Binance futures settled in a stablecoin: ids are shared by all symbols, an event names the one before it.
    BinanceUsdm,
    /// Binance futures settled in the coin; as USD-M.
    BinanceCoinm,
    /// Kraken, WebSocket v2: no ids; a checksum of the best ten says whether a book is right.
    Kraken,
}

impl Venue {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BinanceSpot, Self::BinanceUsdm, Self::BinanceCoinm, Self::Kraken];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BinanceSpot => "binance-spot",
            Self::BinanceUsdm => "binance-usdm",
            Self::BinanceCoinm => "binance-coinm",
            Self::Kraken => "kraken",
        }
    }

    /// What REST paths begin with.
    #[must_use]
    pub const fn rest(self) -> &'static str {
        match self {
            // Kraken's own REST interface is another matter; orders come in by Binance's words.
            Self::BinanceSpot | Self::Kraken => "/api/v3/",
            Self::BinanceUsdm => "/fapi/v1/",
            Self::BinanceCoinm => "/dapi/v1/",
        }
    }

    /// How it counts updates.
    #[must_use]
    pub const fn counting(self) -> Counting {
        match self {
            Self::BinanceSpot | Self::Kraken => Counting::PerSymbol,
            Self::BinanceUsdm | Self::BinanceCoinm => Counting::Shared,
        }
    }

    /// At least so many digits behind the points of its prices and quantities.
    #[must_use]
    pub const fn places(self, symbol: &Symbol) -> (u8, u8) {
        match self {
            Self::BinanceSpot => (8, 8),
            Self::BinanceUsdm | Self::BinanceCoinm => (symbol.price_decimals, symbol.qty_decimals),
            Self::Kraken => (symbol.price_decimals, 8),
        }
    }
}

impl fmt::Display for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no venue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVenue(String);

impl fmt::Display for UnknownVenue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "venue `{}` is not spoken here: binance-spot, binance-usdm, binance-coinm and kraken are", self.0)
    }
}

impl std::error::Error for UnknownVenue {}

impl FromStr for Venue {
    type Err = UnknownVenue;

    fn from_str(name: &str) -> Result<Self, UnknownVenue> {
        Self::ALL.into_iter().find(|venue| venue.name() == name).ok_or_else(|| UnknownVenue(name.to_owned()))
    }
}
