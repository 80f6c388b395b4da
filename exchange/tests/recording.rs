//! A recording played again gives its listener the venue's own bytes, and a book to compare with at any moment.

mod client;

use std::io::Read;
use std::path::PathBuf;

use chronicle_exchange::server::{Running, StartError};
use chronicle_exchange::venue::Venue;
use client::{Stream, TextBook, ask, get, start};

fn recording() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/binance-spot");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("ethusdt-20240808"));
    files.pop().unwrap()
}

#[test]
fn what_was_recorded_is_sent_again() {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(recording()).unwrap()).read_to_string(&mut text).unwrap();
    let messages: Vec<&str> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .filter(|json| json.starts_with("{\"stream\""))
        .collect();

    let exchange = start(|config| {
        config.symbols.clear();
        config.play = vec![recording()];
        config.speed = 1e9;
        config.backlog_max = 1 << 30;
    });
    let at = exchange.address();
    assert_eq!(get(at, "/local/status")["lines"], 0, "it waits for a listener");
    let mut stream = Stream::open(at, "/stream?streams=ethusdt@depth@100ms/ethusdt@trade/ethusdt@bookTicker");
    // It waits until the recording has come to it; by then some events have passed.
    let mut book = TextBook::of(&get(at, "/api/v3/depth?symbol=ETHUSDT&limit=5000"));
    assert!(book.last >= 35_346_513_512, "the recorded snapshot's id, or later");
    for message in &messages {
        let got = stream.next_text().unwrap();
        assert_eq!(&got, message);
        if got.starts_with("{\"stream\":\"ethusdt@depth") {
            let message: serde_json::Value = serde_json::from_str(&got).unwrap();
            assert!(book.apply(&message["data"]));
        }
    }
    client::until("it is over", || get(at, "/local/status")["over"] == true);
    let own = TextBook::of(&get(at, "/local/book?symbol=ETHUSDT"));
    assert_eq!(book.last, own.last);
    // A request is answered with 5,000 levels of a side at most; the book has no more here.
    assert_eq!(book, own);
    let (status, answer) = ask(at, "POST", "/api/v3/order?symbol=ETHUSDT&side=BUY&type=MARKET&quantity=1");
    assert_eq!((status, answer["msg"].as_str()), (400, Some("Market is closed.")));
}

#[test]
fn what_cannot_be_played_is_refused_at_once() {
    let try_start = |play: PathBuf, venue, speed| {
        let config = chronicle_exchange::server::Config { play: vec![play], venue, speed, ..Default::default() };
        Running::start(config).map(drop)
    };
    let spot = Venue::BinanceSpot;
    assert!(matches!(try_start("/nowhere/at.gz".into(), spot, 1.0), Err(StartError::Recording(..))));

    assert!(matches!(
        try_start(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(), spot, 1.0),
        Err(StartError::Recording(..))
    ));
    assert!(matches!(try_start(recording(), Venue::Kraken, 1.0), Err(StartError::NoSuchRecordings)));
    assert!(matches!(try_start(recording(), spot, 0.0), Err(StartError::Speed)));
    assert!(matches!(try_start(recording(), spot, f64::NAN), Err(StartError::Speed)));
}
