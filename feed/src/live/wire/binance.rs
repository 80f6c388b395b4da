//! Binance: spot, USD-M and COIN-M futures.
//!
//! Combined streams are named in the connection's path; a snapshot is a request beside the stream, 1000 levels a side, as
//! in the recordings. The venue pings, and closes a connection after 24 hours; spot says so ten minutes before.
//!
//! Limits as the venue's documentation states them: 5 (futures: 10) messages a second from a client on a connection, 300
//! connections in 5 minutes from an address, 1024 (futures: 200) streams on a connection; a weight of 6000 (2400) a minute,
//! of which a snapshot of 1000 levels takes 50 (20).

use std::time::Duration;

use super::{Channel, Limits, Plan, Snapshots, Wire};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// One of the three.
pub(super) struct Binance {
    addresses: [&'static str; 2],
    /// Path of a snapshot.
    depth: &'static str,
    limits: Limits,
}

const FUTURES_LIMITS: Limits = Limits {
    messages: (10, Duration::from_secs(1)),
    connections: (300, Duration::from_secs(300)),
    weight: (2400, Duration::from_secs(60)),
    snapshot_weight: 20,
    streams: 200,
    age: Some(DAY),
};

pub(super) const SPOT: Binance = Binance {
    addresses: ["wss://stream.binance.com:9443", "https://api.binance.com"],
    depth: "/api/v3/depth",
    limits: Limits {
        messages: (5, Duration::from_secs(1)),
        weight: (6000, Duration::from_secs(60)),
        snapshot_weight: 50,
        streams: 1024,
        ..FUTURES_LIMITS
    },
};
pub(super) const USDM: Binance = Binance {
    addresses: ["wss://fstream.binance.com", "https://fapi.binance.com"],
    depth: "/fapi/v1/depth",
    limits: FUTURES_LIMITS,
};
pub(super) const COINM: Binance = Binance {
    addresses: ["wss://dstream.binance.com", "https://dapi.binance.com"],
    depth: "/dapi/v1/depth",
    limits: FUTURES_LIMITS,
};

impl Wire for Binance {
    fn addresses(&self) -> [&'static str; 2] {
        self.addresses
    }

    fn symbol(&self, typed: &str) -> String {
        typed.to_ascii_uppercase()
    }

    fn path(&self, plan: Plan<'_>) -> String {
        let mut path = "/stream?streams=".to_owned();
        for symbol in plan.symbols {
            for channel in plan.channels {
                if !path.ends_with('=') {
                    path.push('/');
                }
                path.push_str(&symbol.to_ascii_lowercase());
                path.push_str(match channel {
                    Channel::Depth => "@depth@100ms",
                    Channel::Trade => "@trade",
                    Channel::BookTicker => "@bookTicker",
                });
            }
        }
        path
    }

    fn subscribe(&self, _: Plan<'_>) -> Vec<String> {
        Vec::new()
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Fetched
    }

    fn snapshot_path(&self, symbol: &str) -> String {
        format!("{}?symbol={symbol}&limit=1000", self.depth)
    }

    fn resubscribe(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn farewell(&self) -> Option<&'static str> {
        Some("serverShutdown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_every_stream_once() {
        let symbols = [SPOT.symbol("btcUSDT"), SPOT.symbol("ethusdt")];
        let plan = Plan { symbols: &symbols, channels: &[Channel::Depth, Channel::Trade] };
        let path = SPOT.path(plan);
        assert_eq!(path, "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/ethusdt@depth@100ms/ethusdt@trade");
        assert_eq!(COINM.snapshot_path("BTCUSD_PERP"), "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000");
    }
}
