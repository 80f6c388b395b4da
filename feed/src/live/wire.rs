//! What a venue asks of a client on the wire: where it listens, how one subscribes, how snapshots come, what its limits are.
//!
//! A venue is one module with its [`Wire`], beside the dialect that reads its messages. Nothing else in a live feed knows a
//! venue's name, its paths or its words.

mod binance;
mod kraken;

use std::time::Duration;

use crate::venue::Venue;

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Changes of the book.
    Depth,
    /// Trades.
    Trade,
    /// The best bid and ask.
    BookTicker,
}

impl Channel {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Depth, Self::Trade, Self::BookTicker];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Trade => "trade",
            Self::BookTicker => "bookTicker",
        }
    }
}

impl std::str::FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|channel| channel.as_str() == text);
        found.ok_or_else(|| format!("stream `{}` is not known: depth, trade, bookTicker are", text.escape_debug()))
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) symbols: &'a [String],
    pub(crate) channels: &'a [Channel],
}

/// A venue's limits on its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Messages to the venue on one connection, pings among them: so many in so long.
    pub(crate) messages: (u32, Duration),
    /// New connections.
    pub(crate) connections: (u32, Duration),
    /// Weight of requests beside the stream.
    pub(crate) weight: (u32, Duration),
    /// What one snapshot weighs.
    pub(crate) snapshot_weight: u32,
    /// Subscriptions on one connection.
    pub(crate) streams: usize,
    /// The venue ends a connection of this age.
    pub(crate) age: Option<Duration>,
}

/// How snapshots come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snapshots {
    /// By a request beside the stream, to be made once the stream has begun.
    Fetched,
    /// In the stream, with each subscription.
    Subscribed,
}

/// See the module.
pub(crate) trait Wire: Sync {
    /// Where the venue itself listens: WebSocket, and requests.
    fn addresses(&self) -> [&'static str; 2];

    /// A symbol in the venue's own writing, from what a user may type.
    fn symbol(&self, typed: &str) -> String;

    /// The path of a connection.
    fn path(&self, plan: Plan<'_>) -> String;

    /// What is sent once it is open.
    fn subscribe(&self, plan: Plan<'_>) -> Vec<String>;

    /// How snapshots come.
    fn snapshots(&self) -> Snapshots;

    /// The path of a snapshot that is fetched.
    fn snapshot_path(&self, symbol: &str) -> String;

    /// What is sent to get a snapshot that comes in the stream.
    fn resubscribe(&self, symbol: &str) -> Vec<String>;

    /// Its limits.
    fn limits(&self) -> Limits;

    /// The kind of a message by which the venue says that it will close the connection soon.
    fn farewell(&self) -> Option<&'static str> {
        None
    }
}

/// The wire of a venue, if it can be followed live.
pub(crate) fn wire(venue: Venue) -> Option<&'static dyn Wire> {
    Some(match venue {
        Venue::BinanceSpot => &binance::SPOT,
        Venue::BinanceUsdm => &binance::USDM,
        Venue::BinanceCoinm => &binance::COINM,
        Venue::Kraken => &kraken::Kraken,
        Venue::Okx | Venue::Coinbase | Venue::Hyperliquid => return None,
    })
}
