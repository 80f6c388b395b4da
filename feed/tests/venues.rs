//! Recorded captures of several symbols come out whole, and every checksum that a venue sent is that of the book which
//! its messages make: one lost level, one changed digit or one message too many shows here.

mod files;

use std::fs::File;

use chronicle_feed::report::Checked;
use chronicle_feed::{Report, Venue, import};
use chronicle_protocol::Record;

/// Reads a shared capture; what it says must parse.
fn shared(venue: Venue, path: &str) -> Option<Report> {
    let found = files::shared(path)?;
    let mut records = 0;
    let report = import(venue, path, File::open(found).unwrap(), |parsed| {
        Record::parse(parsed.type_id, parsed.payload).unwrap();
        records += 1;
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    assert_eq!(report.records, records);
    println!("{report:#?}");
    Some(report)
}

fn all(sent: u64) -> Checked {
    Checked { sent, checked: sent, matched: sent }
}

fn checks(report: &Report) -> Vec<(&str, Checked)> {
    report.checksums.iter().map(|(symbol, checked)| (symbol.as_str(), *checked)).collect()
}

fn kinds(report: &Report) -> Vec<(&str, u64)> {
    report.by_kind.iter().map(|(kind, count)| (kind.as_str(), *count)).collect()
}

#[test]
fn every_checksum_of_kraken_matches() {
    let Some(report) = shared(Venue::Kraken, "kraken/KRAKEN.ws.50.0.gz") else { return };
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        checks(&report),
        [
            ("ADA/XBT", all(347)),
            ("ETH/CHF", all(317)),
            ("GRT/ETH", all(20)),
            ("KSM/XBT", all(335)),
            ("OCEAN/XBT", all(148)),
            ("OMG/USD", all(573)),
            ("SC/EUR", all(818)),
            ("XBT/CHF", all(289)),
        ]
    );
    assert_eq!((report.by_kind["book"], report.by_kind["book snapshot"]), (2_847, 8));
}

#[test]
fn every_checksum_of_okx_matches() {
    let Some(report) = shared(Venue::Okx, "okx/OKX.ws.1.0.gz") else { return };
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(checks(&report), [("BTC-USD-220527", all(99)), ("BTC-USDT", all(98))]);
    assert_eq!((report.by_kind["books"], report.by_kind["books snapshot"], report.by_kind["trades"]), (195, 2, 73));
}

#[test]
fn best_prices_of_coinbase_are_the_books() {
    let Some(report) = shared(Venue::Coinbase, "coinbase/COINBASE.ws.28.0.gz") else { return };
    assert!(report.is_clean(), "{report:?}");
    let sum = |of: fn(&Checked) -> u64| report.best_prices.values().map(of).sum::<u64>();
    assert_eq!(sum(|c| c.sent), 107);
    assert_eq!(sum(|c| c.matched), 100);
    assert_eq!((report.by_kind["l2update"], report.by_kind["snapshot"], report.by_kind["match"]), (9_719, 10, 97));
}

#[test]
fn captures_of_binance_name_every_symbol() {
    let spot = shared(Venue::BinanceSpot, "binance-multisymbol/BINANCE.ws.1.0.gz");
    let answers = shared(Venue::BinanceSpot, "binance-multisymbol/BINANCE.http.0.0.gz");
    let (Some(spot), Some(answers)) = (spot, answers) else { return };
    for report in [&spot, &answers] {
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.symbols.iter().collect::<Vec<_>>(), ["BLZETH", "LRCBTC", "NKNUSDT", "RUNEEUR"]);
        assert_eq!(report.doubtful_snapshots, 0);
    }
    assert_eq!((spot.by_kind["depthUpdate"], spot.by_kind["bookTicker"], spot.opaque), (177, 84, 4));
    assert_eq!((answers.by_kind["snapshot"], answers.opaque), (4, 0));
    let futures = shared(Venue::BinanceUsdm, "binance-multisymbol/BINANCE_FUTURES.ws.1.0.gz");
    let Some(futures) = futures else { return };
    assert!(futures.is_clean(), "{futures:?}");
    assert_eq!((futures.by_kind["depthUpdate"], futures.by_kind["bookTicker"]), (764, 613));
    assert_eq!(kinds(&futures).iter().map(|(_, n)| n).sum::<u64>(), futures.lines);
}
