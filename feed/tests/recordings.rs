//! Real recordings must come out complete and exact: every line a record, every id, time, flag and level's text the
//! venue's own. A lost line, a rounded price or a swapped side shows here, against a reader that shares no code.

mod files;
mod second_opinion;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use chronicle_feed::written::write_line;
use chronicle_feed::{Recording, Report, Venue};
use chronicle_protocol::Record;
use flate2::read::GzDecoder;

/// Reads the file both ways and compares line by line. Gives the report and the number of levels compared.
fn compare(venue: Venue, path: &Path, only_symbol: &str) -> (Report, u64) {
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let mut recording = Recording::open(venue, "recording", File::open(path).unwrap());
    let mut levels = 0;
    let mut number = 0;
    let mut written = String::new();
    for line in text.lines() {
        let parsed = recording.advance().unwrap().unwrap();
        number += 1;
        assert_eq!(parsed.line, number);
        let record = Record::parse(parsed.type_id, parsed.payload).unwrap();
        assert_eq!(record.head().ingest_ns, parsed.ingest_ns);
        levels += second_opinion::assert_same(&record, line, only_symbol);
        // And back: nothing that the venue said is lost, or it could not be said again.
        written.clear();
        assert!(write_line(venue, parsed.ingest_ns, &record, &mut written), "no words for {line}");
        assert_eq!(written.strip_suffix('\n'), Some(line));
    }
    assert_eq!(recording.advance().unwrap(), None);
    let report = recording.into_report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.lines, report.opaque), (number, 0));
    assert_eq!(report.by_kind.values().sum::<u64>(), number);
    (report, levels)
}

fn kinds(report: &Report) -> [u64; 4] {
    ["depthUpdate", "bookTicker", "trade", "snapshot"].map(|kind| report.by_kind[kind])
}

#[test]
fn the_excerpt_comes_out_exact() {
    let path = files::testdata("binance-spot/ethusdt-20240808-excerpt.gz");
    let (report, levels) = compare(Venue::BinanceSpot, &path, "ETHUSDT");
    assert_eq!(report.sha256, "eafbecc425538bee9ccc99cd1351681862353b2a7c1fa1680e2522b8e4290caa");
    assert_eq!((report.bytes, report.lines), (464_503, 15_000));
    assert_eq!(kinds(&report), [1_474, 11_150, 2_375, 1]);
    assert_eq!(levels, 43_892 + 2_000);
    assert_eq!(report.symbols.into_iter().collect::<Vec<_>>(), ["ETHUSDT"]);
    assert_eq!(report.first_ingest_ns, Some(1_723_161_254_024_619_568));
    assert_eq!(report.last_ingest_ns, Some(1_723_161_402_024_540_128));
}

/// One shared recording: its SHA-256 (the first 16 digits), lines, and counts by kind.
fn shared(venue: Venue, path: &str, symbol: &str, sha256: &str, lines: u64, by_kind: [u64; 4]) {
    let Some(found) = files::shared(path) else { return };
    let (report, levels) = compare(venue, &found, symbol);
    println!("{path}: {lines} lines, {levels} levels, each as the venue wrote it");
    assert!(report.sha256.starts_with(sha256), "{path}: {}", report.sha256);
    assert_eq!(report.lines, lines, "{path}");
    assert_eq!(kinds(&report), by_kind, "{path}");
}

#[test]
fn shared_usdm_comes_out_exact() {
    let by_kind = [6_551, 66_089, 21_313, 1];
    let path = "binance-usdm/btcusdt_20240808.gz";
    shared(Venue::BinanceUsdm, path, "BTCUSDT", "0ad7b3a0f5cff220", 93_954, by_kind);
}

#[test]
fn shared_coinm_comes_out_exact() {
    let by_kind = [26_847, 19_136, 2_286, 1];
    let path = "binance-coinm/btcusd_perp_20240808.gz";
    shared(Venue::BinanceCoinm, path, "BTCUSD_PERP", "795efa5540bfca87", 48_270, by_kind);
}

#[test]
fn shared_spot_comes_out_exact() {
    let by_kind = [3_451, 28_040, 9_757, 1];
    shared(Venue::BinanceSpot, "binance-spot/btcusdt_20240808.gz", "BTCUSDT", "5d263f4c5379cfc2", 41_249, by_kind);
}

#[test]
fn shared_spot_without_a_snapshot_comes_out_exact() {
    let by_kind = [3_044, 45_134, 10_147, 0];
    shared(Venue::BinanceSpot, "binance-spot/btcusdt_20240809.gz", "BTCUSDT", "2981a27474b89031", 58_325, by_kind);
}

#[test]
fn shared_spot_of_another_symbol_comes_out_exact() {
    let by_kind = [3_434, 24_077, 6_106, 1];
    shared(Venue::BinanceSpot, "binance-spot/ethusdt_20240808.gz", "ETHUSDT", "179a67651ec90f8d", 33_618, by_kind);
}
