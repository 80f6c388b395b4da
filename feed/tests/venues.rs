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

// What follows is written by hand after the venues' documents; Kraken's first book and its checksum are the documents'.

/// By another program, of the books below.
const INSERTED: u32 = 2_781_039_502;
const REMOVED: u32 = 823_396_869;
const V1: u32 = 2_474_947_642;
const OKX: [i64; 2] = [-1_471_518_219, -1_873_054_398];

const NOW: u64 = 1_800_000_000_000_000_000;

/// Lines of these messages, received one after the other.
fn lines(messages: &[&str]) -> String {
    messages.iter().zip(0..).map(|(message, n)| format!("{} {message}\n", NOW + n)).collect()
}

/// Each record in short, and the report.
fn read(venue: Venue, messages: &[&str]) -> (Vec<String>, Report) {
    let mut records = Vec::new();
    let report = import(venue, "by-hand", lines(messages).as_bytes(), |parsed| {
        let record = Record::parse(parsed.type_id, parsed.payload).unwrap();
        let head = *record.head();
        let levels = |levels: &[chronicle_protocol::Level]| -> String {
            let text = |l: &chronicle_protocol::Level| {
                format!("{}x{}", head.price.decimal(l.price()), head.qty.decimal(l.qty()))
            };
            levels.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let symbol = record.symbol();
        records.push(match &record {
            Record::BookDelta(r) => format!(
                "delta {symbol} {:?} at {}: {} / {}",
                (r.first_id, r.last_id, r.prev_id),
                head.exchange_ns,
                levels(r.bids),
                levels(r.asks)
            ),
            Record::BookSnapshot(r) => format!(
                "snapshot {symbol} {} at {}: {} / {}",
                r.last_id,
                head.exchange_ns,
                levels(r.bids),
                levels(r.asks)
            ),
            Record::Trade(r) => format!(
                "trade {symbol} {} at {}: {} x {} {}",
                r.trade_id,
                head.exchange_ns,
                head.price.decimal(r.price),
                head.qty.decimal(r.qty),
                if r.buyer_is_maker { "sold" } else { "bought" }
            ),
            Record::Gap(r) => format!("gap {symbol} {}", r.cause.as_str()),
            Record::Opaque(r) => format!("{} [{symbol}]", r.reason.as_str()),
            other => panic!("{}", other.type_name()),
        });
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    (records, report)
}

fn why(venue: Venue, message: &str) -> String {
    let (records, report) = read(venue, &[message]);
    assert!(records.is_empty(), "{records:?}");
    report.malformed_lines[0].why.to_string()
}

const KRAKEN_SUBSCRIBED: &str = r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,"time_in":"2023-10-06T17:35:55.219022Z"}"#;
const KRAKEN_SNAPSHOT: &str = r#"{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.10000000},{"price":45283.4,"qty":1.54582015},{"price":45282.1,"qty":0.10000000},{"price":45281.0,"qty":0.10000000},{"price":45280.3,"qty":1.54592586},{"price":45279.0,"qty":0.07990000},{"price":45277.6,"qty":0.03310103},{"price":45277.5,"qty":0.30000000},{"price":45277.3,"qty":1.54602737},{"price":45276.6,"qty":0.15445238}],"asks":[{"price":45285.2,"qty":0.00100000},{"price":45286.4,"qty":1.54571953},{"price":45286.6,"qty":1.54571109},{"price":45289.6,"qty":1.54560911},{"price":45290.2,"qty":0.15890660},{"price":45291.8,"qty":1.54553491},{"price":45294.7,"qty":0.04454749},{"price":45296.1,"qty":0.35380000},{"price":45297.5,"qty":0.09945542},{"price":45299.5,"qty":0.18772827}],"checksum":3310070434}]}"#;

fn kraken_update(asks: &str, checksum: u32) -> String {
    format!(
        r#"{{"channel":"book","type":"update","data":[{{"symbol":"BTC/USD","bids":[],"asks":[{asks}],"checksum":{checksum},"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}"#
    )
}

#[test]
fn kraken_v2_is_cut_to_its_depth_and_checked() {
    // Both checksums were computed by another program: the insert pushes the tenth ask out, and it does not come back.
    let insert = kraken_update(r#"{"price":45285.1,"qty":0.50000000}"#, INSERTED);
    let remove = kraken_update(r#"{"price":45285.1,"qty":0}"#, REMOVED);
    let messages = [KRAKEN_SUBSCRIBED, KRAKEN_SNAPSHOT, &insert, &remove];
    let (records, report) = read(Venue::Kraken, &messages);
    assert_eq!(checks(&report), [("BTC/USD", all(3))], "{report:?}");
    assert_eq!(records[0], "unknown_kind [BTC/USD]");
    assert!(records[1].starts_with("snapshot BTC/USD 0 at 0: 45283.5x0.10000000 "), "{}", records[1]);
    assert_eq!(records[2], "delta BTC/USD (0, 0, None) at 1696613755440295000:  / 45285.1x0.50000000");
    assert_eq!(records[3], "delta BTC/USD (0, 0, None) at 1696613755440295000:  / 45285.1x0");
    assert!(report.is_clean());
    // Without knowing the depth, the tenth ask would come back: the subscription's answer is heard.
    let (_, deaf) = read(Venue::Kraken, &messages[1..]);
    assert_eq!(deaf.wrong_checksums, 1);
}

#[test]
fn numbers_that_lost_their_zeros_have_the_same_checksum() {
    // A recorder that reads JSON's numbers and writes them again leaves zeros off.
    let shorter = KRAKEN_SNAPSHOT
        .replace("0000000,", "0,")
        .replace("0000000}", "}")
        .replace("00}", "}")
        .replace("45281.0", "45281");
    assert_ne!(shorter, KRAKEN_SNAPSHOT);
    let (records, report) = read(Venue::Kraken, &[&shorter]);
    assert!(records[0].starts_with("snapshot"), "{records:?}");
    assert_eq!(checks(&report), [("BTC/USD", all(1))], "{shorter}");
}

#[test]
fn a_wrong_checksum_is_told_and_marked_until_the_next_snapshot() {
    let wrong = kraken_update(r#"{"price":45285.1,"qty":0.50000000}"#, INSERTED ^ 1);
    let after = kraken_update(r#"{"price":45285.1,"qty":0.00000000}"#, REMOVED);
    let (records, report) =
        read(Venue::Kraken, &[KRAKEN_SUBSCRIBED, KRAKEN_SNAPSHOT, &wrong, &after, KRAKEN_SNAPSHOT, &wrong]);
    assert!(!report.is_clean());
    assert_eq!(checks(&report), [("BTC/USD", Checked { sent: 5, checked: 4, matched: 2 })]);
    let told: Vec<_> = report.wrong_checksum_lines.iter().map(|w| (w.line, &*w.symbol, w.sent, w.computed)).collect();
    assert_eq!(told, [(3, "BTC/USD", INSERTED ^ 1, INSERTED), (6, "BTC/USD", INSERTED ^ 1, INSERTED)]);
    let kinds: Vec<_> = records.iter().map(|record| record.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["unknown_kind", "snapshot", "delta", "gap", "delta", "snapshot", "delta", "gap"]);
    assert_eq!(records[3], "gap BTC/USD book_lost");
    assert_eq!((report.lines, report.records), (6, 8));
}

#[test]
fn a_change_that_no_record_holds_breaks_the_book() {
    let huge = kraken_update(r#"{"price":45285.1,"qty":12345678901234567890123}"#, INSERTED);
    let (records, report) = read(Venue::Kraken, &[KRAKEN_SUBSCRIBED, KRAKEN_SNAPSHOT, &huge]);
    assert_eq!(records[2..], ["not_representable [BTC/USD]", "gap BTC/USD book_lost"]);
    assert_eq!((report.broken_books, report.is_clean()), (1, false));
    // A trade that no record holds says nothing about the book.
    let trade = r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":1e5,"qty":1.0,"ord_type":"market","trade_id":7,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#;
    let (records, report) = read(Venue::Kraken, &[trade]);
    assert_eq!((records, report.broken_books), (vec!["not_representable [BTC/USD]".to_owned()], 0));
}

#[test]
fn a_message_of_many_trades_is_many_records_or_none() {
    let trade = |id: &str, side: &str| {
        format!(
            r#"{{"symbol":"BTC/USD","side":"{side}","price":45285.20,"qty":0.5,"ord_type":"limit","trade_id":{id},"timestamp":"2023-10-06T17:35:55.440295Z"}}"#
        )
    };
    let message = |trades: &[String]| format!(r#"{{"channel":"trade","type":"update","data":[{}]}}"#, trades.join(","));
    let (records, report) = read(Venue::Kraken, &[&message(&[trade("7", "sell"), trade("8", "buy")])]);
    assert_eq!(
        records,
        [
            "trade BTC/USD 7 at 1696613755440295000: 45285.20 x 0.5 sold",
            "trade BTC/USD 8 at 1696613755440295000: 45285.20 x 0.5 bought",
        ]
    );
    assert_eq!((report.lines, report.records, report.by_kind["trade"]), (1, 2, 1));
    assert_eq!(
        why(Venue::Kraken, &message(&[trade("7", "sell"), trade("8", "given")])),
        "field `side` has an absurd number",
        "the first is not kept without the second"
    );
    let (records, _) = read(Venue::Kraken, &[&message(&[])]);
    assert_eq!(records, ["unknown_kind []"]);
    let okx = r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474","px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897"},{"instId":"BTC-USDT","tradeId":"130639475","px":"42219","sz":"1","side":"sell","ts":"1630048897898","count":"3"}]}"#;
    let (records, _) = read(Venue::Okx, &[okx]);
    assert_eq!(
        records,
        [
            "trade BTC-USDT 130639474 at 1630048897897000000: 42219.9 x 0.12060306 bought",
            "trade BTC-USDT 130639475 at 1630048897898000000: 42219 x 1 sold",
        ]
    );
}

#[test]
fn kraken_v1_in_two_objects_is_one_delta() {
    let snapshot = r#"[0,{"as":[["0.05275","0.00000500","1582905486.493034"]],"bs":[["0.04940","0.00000500","1500000000.0"]]},"book-1000","XBT/USD"]"#;
    let update = format!(
        r#"[0,{{"a":[["0.05120","0.00000500","1582905486.493008"],["0.05275","0.00000500","1582905486.493034","r"]]}},{{"b":[["0.04765","0.00000500","1582905486.493008"]],"c":"{V1}"}},"book-1000","XBT/USD"]"#
    );
    let (records, report) = read(Venue::Kraken, &[snapshot, &update]);
    assert_eq!(
        records,
        [
            "snapshot XBT/USD 0 at 0: 0.04940x0.00000500 / 0.05275x0.00000500",
            "delta XBT/USD (0, 0, None) at 1582905486493034000: 0.04765x0.00000500 / 0.05120x0.00000500 0.05275x0.00000500",
        ]
    );
    assert_eq!(checks(&report), [("XBT/USD", all(1))]);
    let trades = r#"[0,[["5541.20000","0.15850568","1534614057.321597","s","l",""]],"trade","XBT/USD"]"#;
    let ticker = r#"[0,{"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.000"],"c":["5525.10000","0.00398963"]},"ticker","XBT/USD"]"#;
    let (records, report) = read(Venue::Kraken, &[trades, ticker, r#"{"event":"heartbeat"}"#]);
    assert_eq!(records, ["unknown_kind [XBT/USD]"; 3], "the heartbeat is of the only symbol");
    assert_eq!((report.by_kind["ticker"], report.by_kind["heartbeat"]), (1, 1));
}

#[test]
fn okx_with_ids_needs_no_checksum() {
    let message = |action: &str, seq: &str, sides: &str, checksum: i64| {
        format!(
            r#"{{"arg":{{"channel":"books","instId":"BTC-USDT"}},"action":"{action}","data":[{{{sides},"ts":"1597026383085","checksum":{checksum}{seq}}}]}}"#
        )
    };
    let book = r#""asks":[["3366.8","9","0","4"],["3368","8","0","3"]],"bids":[["3366.1","7","0","3"]]"#;
    let change = r#""asks":[["3366.8","0","0","0"]],"bids":[["3365","0.5","0","3"]]"#;
    let (_, report) =
        read(Venue::Okx, &[&message("snapshot", "", book, OKX[0]), &message("update", "", change, OKX[1])]);
    assert_eq!(checks(&report), [("BTC-USDT", all(2))]);
    let (records, report) = read(
        Venue::Okx,
        &[
            &message("snapshot", r#","prevSeqId":-1,"seqId":123456"#, book, 0),
            &message("update", r#","prevSeqId":123456,"seqId":123457"#, change, 0),
        ],
    );
    assert_eq!(
        records,
        [
            "snapshot BTC-USDT 123456 at 1597026383085000000: 3366.1x7 / 3366.8x9 3368x8",
            "delta BTC-USDT (123457, 123457, Some(123456)) at 1597026383085000000: 3365x0.5 / 3366.8x0",
        ]
    );
    assert!(report.checksums.is_empty() && report.is_clean(), "0 beside an id is none: {report:?}");
    let (_, report) = read(Venue::Okx, &[&message("snapshot", "", book, 0)]);
    assert_eq!(report.wrong_checksums, 1, "0 without an id is one");
    assert_eq!(
        why(Venue::Okx, &message("update", "", change, i64::from(i32::MIN) - 1)),
        "field `checksum` has an absurd number"
    );
}

#[test]
fn coinbase_changes_of_both_sides_are_one_delta() {
    let snapshot = r#"{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],"asks":[["10102.55","0.57753524"]]}"#;
    let update = r#"{"type":"l2update","product_id":"BTC-USD","time":"2019-08-14T20:42:27.265Z","changes":[["sell","10102.60","0.1"],["buy","10101.80","0.16"],["sell","10102.55","0.0"]]}"#;
    let ticker = r#"{"type":"ticker","product_id":"BTC-USD","best_bid":"10101.8","best_ask":"10102.6"}"#;
    let stale = r#"{"type":"ticker","product_id":"BTC-USD","best_bid":"10101.10","best_ask":"10102.55"}"#;
    let (records, report) = read(Venue::Coinbase, &[stale, snapshot, stale, update, ticker, stale]);
    assert_eq!(
        records,
        [
            "unknown_kind [BTC-USD]",
            "snapshot BTC-USD 0 at 0: 10101.10x0.45054140 / 10102.55x0.57753524",
            "unknown_kind [BTC-USD]",
            // No scale writes 0.1 and 0.16 and 0.0 again; their values are kept.
            "delta BTC-USD (0, 0, None) at 1565815347265000000: 10101.80x0.16 / 10102.60x0.10 10102.55x0.00",
            "unknown_kind [BTC-USD]",
            "unknown_kind [BTC-USD]",
        ]
    );
    assert_eq!(report.best_prices["BTC-USD"], Checked { sent: 4, checked: 3, matched: 2 });
    assert!(report.is_clean());
}

/// One of each kind of each venue.
const KINDS: [(Venue, &str); 12] = [
    (Venue::Kraken, KRAKEN_SUBSCRIBED),
    (Venue::Kraken, KRAKEN_SNAPSHOT),
    (
        Venue::Kraken,
        r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.1}],"asks":[{"price":45284,"qty":0}],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
    ),
    (
        Venue::Kraken,
        r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":1.5,"qty":1,"trade_id":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
    ),
    (
        Venue::Kraken,
        r#"[0,{"as":[["0.05275","0.00000500","1582905486.493034"]],"bs":[["0.04940","0.00000500","1500000000.0"]]},"book-1000","XBT/USD"]"#,
    ),
    (
        Venue::Kraken,
        r#"[0,{"a":[["0.05120","0.00000500","1582905486.493008"]]},{"b":[["0.04765","0.00000500","1582905486.493008"]],"c":"1"},"book-1000","XBT/USD"]"#,
    ),
    (
        Venue::Okx,
        r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["3366.8","9","0","4"],["3368","8","0","3"]],"bids":[["3366.1","7","0","3"]],"ts":"1597026383085","checksum":-855196043,"seqId":9,"prevSeqId":-1}]}"#,
    ),
    (
        Venue::Okx,
        r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897"}]}"#,
    ),
    (
        Venue::Coinbase,
        r#"{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],"asks":[["10102.55","0.57753524"]]}"#,
    ),
    (
        Venue::Coinbase,
        r#"{"type":"l2update","product_id":"BTC-USD","time":"2019-08-14T20:42:27.265Z","changes":[["sell","10102.60","0.1"],["buy","10101.80","0.16"]]}"#,
    ),
    (
        Venue::Coinbase,
        r#"{"type":"match","trade_id":10,"side":"sell","size":"5.23512","price":"400.23","product_id":"BTC-USD","time":"2014-11-07T08:19:27.028459Z"}"#,
    ),
    (Venue::Coinbase, r#"{"type":"ticker","product_id":"BTC-USD","best_bid":"10101.8","best_ask":"10102.6"}"#),
];

/// Reads bytes as a recording; whatever they are, the counts add up and what comes out are records.
fn survive(venue: Venue, file: &[u8]) -> Report {
    let mut records = 0;
    let report = import(venue, "hostile", file, |parsed| {
        Record::parse(parsed.type_id, parsed.payload).unwrap();
        records += 1;
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap();
    assert_eq!(report.records, records);
    assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    report
}

#[test]
fn every_message_cut_anywhere_is_malformed() {
    for (venue, message) in KINDS {
        assert_eq!(survive(venue, lines(&[message]).as_bytes()).malformed, 0, "{message}");
        for len in 0..message.len() {
            let report = survive(venue, format!("{NOW} {}", &message[..len]).as_bytes());
            assert_eq!((report.malformed, report.records), (1, 0), "{}", &message[..len]);
        }
    }
}

#[test]
fn every_byte_replaced_gives_records_or_a_flaw() {
    for (venue, message) in KINDS {
        for at in 0..message.len() {
            for byte in [b'"', b'{', b'[', b']', b'}', b',', b':', b'0', b'9', b'-', b'.', b'e', b'\\', 0x80, 0xff, 0] {
                let mut bytes = lines(&[message, message]).into_bytes();
                let from = bytes.len() - 1 - message.len();
                bytes[from + at] = byte;
                let report = survive(venue, &bytes);
                assert!(report.lines == 2 && report.malformed <= 1, "{:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn every_field_with_a_strange_value_gives_records_or_a_flaw() {
    let deep = "[".repeat(100) + &"]".repeat(100);
    let too_deep = "[".repeat(200_000);
    let digits = "9".repeat(100_000);
    let strange = [
        "null",
        "true",
        "{}",
        "[]",
        "[[]]",
        "[[[]]]",
        "[null]",
        "\"\"",
        "\"x\"",
        "\"\\u0031\"",
        "0",
        "-0",
        "1e999",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "0.000000000000000000000000000000001",
        "[[\"1\"]]",
        "[[\"1\",\"-1\"]]",
        "[[\"1\",\"1\",\"x\"]]",
        "[{\"price\":1}]",
        &deep,
        &too_deep,
        &digits,
    ];
    for (venue, message) in KINDS {
        // Behind each `:` stands a value, which is replaced by a strange one in front of it: once as a field, once more.
        for (at, _) in message.match_indices("\":") {
            for value in strange {
                let twice = format!("{NOW} {}{value},\"x\":{}", &message[..at + 2], &message[at + 2..]);
                assert_eq!(survive(venue, twice.as_bytes()).lines, 1);
            }
        }
    }
}

#[test]
fn messages_of_another_venue_are_kept_or_refused() {
    for (_, message) in KINDS {
        for venue in Venue::ALL {
            assert_eq!(survive(*venue, lines(&[message]).as_bytes()).lines, 1);
        }
    }
}
