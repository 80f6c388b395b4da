//! The proof of a live feed: after everything that a venue can do wrong, the book that the refinery makes of the raw stream
//! is the venue's own, level by level.
//!
//! The venue is the local exchange, which was written apart from all that reads it, and is reached over its sockets alone.
#![cfg(target_os = "linux")]

mod live_venue;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use chronicle_etl::{
    query::{At, book_at},
    refine::{self, refine},
};
use chronicle_exchange::server::{Config, Running};
use chronicle_feed::{
    Venue,
    live::{Counts, Event, RawEnd},
};
use chronicle_platform_linux::Linux;
use chronicle_protocol::Record;
use chronicle_storage::{
    queue::{Queue, Start, SubscriberOptions},
    root::{Name, Root},
};
use live_venue::{SOON, options, play_into, scratch, small, wall_ns};

/// What is followed, in the venue's own writing.
fn symbols(venue: Venue) -> [&'static str; 2] {
    if venue == Venue::Kraken { ["BTC/USD", "ETH/USD"] } else { ["BTCUSDT", "ETHUSDT"] }
}

/// Kraken names the best of each side, this many; what lies behind them nobody is told.
const KRAKEN_DEPTH: usize = 1000;

/// One request to the exchange's own interface, and its body.
fn ask(to: SocketAddr, method: &str, path: &str) -> String {
    let mut tcp = TcpStream::connect(to).unwrap();
    write!(tcp, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    body.to_owned()
}

/// `side,price,qty`, bids from the best down, then asks from the best up, without zeros at the end.
fn own_book(exchange: SocketAddr, symbol: &str) -> (u64, Vec<String>) {
    let book: serde_json::Value =
        serde_json::from_str(&ask(exchange, "GET", &format!("/local/book?symbol={symbol}"))).unwrap();
    let mut lines = Vec::new();
    for (side, word) in [("bids", "bid"), ("asks", "ask")] {
        for level in book[side].as_array().unwrap().iter().take(KRAKEN_DEPTH) {
            let text = |at: usize| trimmed(level[at].as_str().unwrap());
            lines.push(format!("{word},{},{}", text(0), text(1)));
        }
    }
    (book["last_update_id"].as_u64().unwrap(), lines)
}

fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// The last ids of all deltas and snapshots of a symbol that the raw stream has so far.
fn ids(root: &Root, venue: &Name, symbol: &str) -> BTreeSet<u64> {
    let options = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    let mut queue = Queue::observer(&Linux, root.raw_queue(venue), options).unwrap();
    let (mut ids, mut payload) = (BTreeSet::new(), Vec::new());
    while let Some(frame) = queue.next().unwrap() {
        payload.resize(frame.payload.len(), 0);
        frame.payload.copy_to(&mut payload);
        match Record::parse(frame.type_id, &payload) {
            Ok(Record::BookDelta(delta)) if delta.symbol == symbol => _ = ids.insert(delta.last_id),
            Ok(Record::BookSnapshot(snapshot)) if snapshot.symbol == symbol => _ = ids.insert(snapshot.last_id),
            _ => {}
        }
    }
    ids
}

/// Runs a feed against an exchange that does all this wrong, and compares every book at the end.
async fn survives(venue: Venue, faults: &[&str]) -> (Counts, Vec<Event>) {
    let config = Config {
        venue: venue.name().parse().unwrap(),
        symbols: symbols(venue).iter().map(|name| name.parse().unwrap()).collect(),
        seed: 7,
        first_id: 1_000_000,
        rate: 300,
        depth_every: Duration::from_millis(25),
        ..Config::default()
    };
    // It has a runtime of its own, and one may not be started within another.
    let exchange = std::thread::spawn(|| Running::start(config).unwrap()).join().unwrap();
    let to = exchange.address();
    let dir = scratch();
    let root = Root::new(dir.path());
    let name = Name::new(venue.name()).unwrap();
    let hot = Queue::publisher(&Linux, root.raw_queue(&name), small()).unwrap();
    let mut raw = RawEnd::new(&Linux, hot, &dir.path().join("overflow/queue"), small()).unwrap();
    let symbols = symbols(venue);
    let mut options = options(venue, &symbols);
    options.stream = Some(format!("ws://{to}").parse().unwrap());
    options.rest = Some(format!("http://{to}").parse().unwrap());
    options.message_len_max = 1 << 20;

    let (result, events) = play_into(options, &mut raw, wall_ns, async |script| {
        let all_whole = |counts: &Counts| counts.books_whole == symbols.len() as u64;
        script.counted("both books whole", all_whole).await;
        for fault in faults {
            ask(to, "POST", &format!("/local/misbehave?what={fault}"));
        }
        // Every fault has done what it was armed for.
        let fired = async {
            loop {
                let armed: serde_json::Value = serde_json::from_str(&ask(to, "GET", "/local/misbehave")).unwrap();
                let list = armed.as_array().or_else(|| armed["faults"].as_array()).unwrap();
                if list.iter().all(|fault| fault["fired"].as_u64().unwrap() > 0) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), fired).await.is_err() {
            panic!("not all happened: {} {:#?}", ask(to, "GET", "/local/misbehave"), script.events());
        }
        ask(to, "DELETE", "/local/misbehave");
        tokio::time::sleep(Duration::from_millis(800)).await;
        script.counted("both books whole again", all_whole).await;
        ask(to, "POST", "/local/pause");
        if venue == Venue::Kraken {
            // It numbers nothing: whether all has come cannot be seen.
            tokio::time::sleep(Duration::from_millis(1000)).await;
        }
        let last = symbols.map(|symbol| (symbol, own_book(to, symbol).0));
        let came = async {
            while venue != Venue::Kraken && !last.iter().all(|(symbol, id)| ids(&root, &name, symbol).contains(id)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(SOON, came).await.is_err() {
            panic!("the last of {last:?} has not come: {faults:?}: {:#?}", script.events());
        }
        script.counted("both books whole at the end", all_whole).await;
    })
    .await;
    let counts = result.unwrap();
    raw.into_hot().unwrap().close().unwrap();

    refine(&Linux, &root, None, &refine::Options::default(), |_| ()).unwrap();
    for symbol in symbols {
        let code = Name::of_symbol(symbol).unwrap();
        let state = book_at(&Linux, &root, &name, &code, At::Latest).unwrap();
        assert!(state.is_valid(), "{symbol}: {faults:?}: {events:#?}");
        let (last_id, own) = own_book(to, symbol);
        let mut csv = Vec::new();
        state.book.write_csv(&mut csv, usize::MAX).unwrap();
        let ours: Vec<String> = String::from_utf8(csv)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("side"))
            .map(|line| {
                let parts: Vec<&str> = line.split(',').collect();
                format!("{},{},{}", parts[0], trimmed(parts[1]), trimmed(parts[2]))
            })
            .collect();
        if venue != Venue::Kraken {
            assert_eq!(state.last_id, last_id, "{symbol}: {faults:?}");
        }
        assert!(own.len() > 20, "a book with nothing in it proves nothing");
        assert_eq!(ours, own, "{symbol}: {faults:?}");
    }
    (counts, events)
}

#[tokio::test]
async fn books_are_the_exchanges_after_nothing_special() {
    for venue in [Venue::BinanceSpot, Venue::BinanceUsdm, Venue::BinanceCoinm] {
        let (counts, events) = survives(venue, &[]).await;
        assert_eq!((counts.gaps, counts.malformed, counts.disconnects), (0, 0, 0), "{events:#?}");
        assert!(counts.deltas > 20, "{counts:?}");
    }
}

#[tokio::test]
async fn books_are_the_exchanges_after_drops_skips_duplicates_and_swaps() {
    for faults in [
        &["skip&channel=depth&times=3&every=4"][..],
        &["duplicate&channel=depth&times=5&every=3"],
        &["reorder&channel=depth&times=3&every=5"],
        &["drop&how=reset", "drop&how=silent&after=20", "drop&how=close&after=40"],
        &["delay&ms=300&channel=depth"],
    ] {
        survives(Venue::BinanceSpot, faults).await;
        survives(Venue::BinanceUsdm, faults).await;
    }
}

#[tokio::test]
async fn books_are_the_exchanges_after_garbage_of_every_kind() {
    let kinds = ["json", "numbers", "nesting", "binary", "empty", "utf8", "opcode", "continuation", "ping", "masked"];
    for kinds in kinds.chunks(3) {
        let faults: Vec<String> =
            (0..).zip(kinds).map(|(at, kind)| format!("garbage&kind={kind}&after={}", at * 15)).collect();
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        survives(Venue::BinanceSpot, &faults).await;
    }
    survives(Venue::BinanceSpot, &["garbage&kind=endless", "garbage&kind=http&after=20"]).await;
    survives(Venue::BinanceSpot, &["oversize&bytes=3000000", "bomb&bytes=100000000&after=20"]).await;
}

#[tokio::test]
async fn books_are_the_exchanges_after_snapshots_that_fail_in_every_way() {
    // A skip each, so that a snapshot is asked for.
    for fault in [
        "close_in_snapshot",
        "snapshot_garbage",
        "snapshot_bomb&bytes=100000000",
        "snapshot_delay&ms=400",
        "snapshot_stale",
        "status&code=503",
        "status&code=429",
        "close_at&step=snapshot",
    ] {
        survives(Venue::BinanceSpot, &[fault, "skip&channel=depth"]).await;
    }
}

#[tokio::test]
async fn books_are_the_exchanges_after_ids_that_lie() {
    // U beyond u, u before U: no ids at all.
    survives(Venue::BinanceSpot, &["lie&field=U&by=1000000&channel=depth"]).await;
    survives(Venue::BinanceUsdm, &["lie&field=pu&by=-3&channel=depth"]).await;
    // A last id that lies, behind a first one that does not: all that follows looks old.
    for venue in [Venue::BinanceSpot, Venue::BinanceUsdm, Venue::BinanceCoinm] {
        let (counts, events) =
            survives(venue, &["lie&field=u&channel=depth", "lie&field=u&channel=depth&after=9"]).await;
        assert!(counts.went_back >= 2, "{counts:?} {events:#?}");
        assert!(counts.repeated < 10, "{counts:?}");
    }
    // A little ahead, and behind.
    survives(Venue::BinanceSpot, &["lie&field=u&by=3&channel=depth", "lie&field=u&by=-1000000&channel=depth&after=9"])
        .await;
}

#[tokio::test]
async fn krakens_books_are_the_exchanges_and_their_checksums_are_checked() {
    let (counts, events) = survives(Venue::Kraken, &[]).await;
    assert!(counts.checksums > 20 && counts.deltas > 20 && counts.trades > 0, "{counts:?}");
    assert_eq!((counts.checksum_mismatches, counts.disconnects, counts.malformed), (0, 0, 0), "{events:#?}");
    assert_eq!(counts.snapshots, 2, "one of each symbol");
}

/// Kraken numbers nothing: a wrong checksum is the only sign that something is missing.
#[tokio::test]
async fn a_book_of_krakens_with_a_wrong_checksum_is_subscribed_anew() {
    for faults in [&["skip&channel=book&times=3&every=7"][..], &["lie&field=checksum&by=1&channel=book"]] {
        let (counts, events) = survives(Venue::Kraken, faults).await;
        assert!(counts.checksum_mismatches > 0, "{faults:?}: {counts:?} {events:#?}");
        assert!(counts.snapshots > 2 && counts.gap_markers >= counts.checksum_mismatches, "{faults:?}: {counts:?}");
        assert_eq!(counts.disconnects, 0, "{faults:?}: {events:#?}");
    }
}

#[tokio::test]
async fn krakens_books_are_the_exchanges_after_drops_and_garbage() {
    for faults in [
        &["drop&how=reset", "drop&how=silent&after=20", "drop&how=close&after=40"][..],
        &["garbage&kind=json", "garbage&kind=numbers&after=10", "garbage&kind=nesting&after=20"],
        &["close_at&step=subscribe", "drop&how=reset", "reorder&channel=book&times=2&every=5"],
    ] {
        let (counts, events) = survives(Venue::Kraken, faults).await;
        assert!(counts.disconnects > 0 || counts.malformed > 0, "{faults:?}: {events:#?}");
    }
}
