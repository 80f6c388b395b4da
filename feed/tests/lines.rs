//! What a single line becomes decides what an archive holds for ever: a record, a message kept verbatim, or a counted
//! piece of damage. Each rule has its line here; a line that slips from one class into another loses data or poisons a
//! book.

use std::convert::Infallible;

use chronicle_feed::{Report, Venue, import};
use chronicle_protocol::{BookDelta, Head, OpaqueReason, Record, Scale};

const DAY_NS: u64 = 86_400_000_000_000;

/// Each record as text, and the report.
fn read(venue: Venue, file: &str) -> (Vec<String>, Report) {
    let mut records = Vec::new();
    let report = import(venue, "lines", file.as_bytes(), |parsed| {
        let record = Record::parse(parsed.type_id, parsed.payload).unwrap();
        assert_eq!(record.head().ingest_ns, parsed.ingest_ns);
        records.push(describe(&record));
        Ok::<(), Infallible>(())
    })
    .unwrap();
    assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    assert_eq!(records.len() as u64, report.records);
    (records, report)
}

fn describe(record: &Record<'_>) -> String {
    let head = record.head();
    let levels = |bids: &[_], asks: &[_]| format!("{bids:?} {asks:?} 1e{} 1e{}", head.price.exp, head.qty.exp);
    match record {
        Record::BookDelta(r) => format!("delta {} {} {}", r.symbol, r.last_id, levels(r.bids, r.asks)),
        Record::BookSnapshot(r) => format!("snapshot {} {} {}", r.symbol, r.last_id, levels(r.bids, r.asks)),
        Record::Trade(r) => format!("trade {} {}", r.symbol, r.trade_id),
        Record::Quote(r) => format!("quote {} {}", r.symbol, r.update_id),
        Record::Opaque(r) => {
            let bytes = std::str::from_utf8(r.bytes).unwrap();
            format!("{} [{}] {} {bytes}", r.reason.as_str(), r.symbol, r.head.exchange_ns)
        }
        other => panic!("a recording has no {}", other.type_name()),
    }
}

fn one(venue: Venue, line: &str) -> Result<String, String> {
    let (mut records, report) = read(venue, line);
    assert_eq!(report.lines, 1, "{line}");
    match report.malformed_lines.first() {
        Some(malformed) => Err(malformed.why.to_string()),
        None => Ok(records.remove(0)),
    }
}

fn spot(line: &str) -> Result<String, String> {
    one(Venue::BinanceSpot, line)
}

/// A spot delta with these sides, as JSON.
fn delta(bids: &str, asks: &str) -> String {
    format!(r#"9 {{"data":{{"e":"depthUpdate","E":1,"s":"X","U":5,"u":6,"b":{bids},"a":{asks}}}}}"#)
}

/// A spot delta with these bids becomes so; verbatim messages are cut to their reason.
fn bids(bids: &str) -> Result<String, String> {
    spot(&delta(bids, "[]")).map(|text| match text.split_once(' ') {
        Some(("delta", rest)) => rest.to_owned(),
        Some((reason, _)) => reason.to_owned(),
        None => text,
    })
}

fn err(text: &str) -> Result<String, String> {
    Err(text.to_owned())
}

fn ok(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[test]
fn lines_without_time_or_json_are_malformed() {
    let no_time = "no receive time at its start: neither nanoseconds and a blank, nor seconds and `: `";
    for empty in ["\n", "\r\n", "   \n", "\t"] {
        assert_eq!(spot(empty), err("empty line"), "{empty:?}");
    }
    assert_eq!(spot("{}"), err(no_time));
    assert_eq!(spot(" 5 {}"), err(no_time));
    assert_eq!(spot("5"), err(no_time));
    assert_eq!(spot("5\t{}"), err(no_time));
    assert_eq!(spot("-5 {}"), err(no_time));
    assert_eq!(spot("1.5 {}"), err(no_time));
    assert_eq!(spot("99999999999999999999 {}"), err("field `receive time` has an absurd number"));
    assert_eq!(spot("5 "), err("not JSON at byte 2: expected a value"));
    assert_eq!(spot("5 {} x"), err("not JSON at byte 5: expected the end of the line"));
    assert_eq!(spot(r#"17 {"a":[1,}"#), err("not JSON at byte 11: expected a value"));
    assert_eq!(spot("5 \u{feff}{}"), err("not JSON at byte 2: expected a value"));
}

#[test]
fn json_that_is_no_known_message_is_kept_verbatim() {
    assert_eq!(spot("5 null"), ok("unknown_kind [] 0 null"));
    assert_eq!(spot("5  [1, 2] \r\n"), ok("unknown_kind [] 0  [1, 2] "), "a line end may be two bytes");
    assert_eq!(spot(r#"5 {"result":null,"id":1}"#), ok(r#"unknown_kind [] 0 {"result":null,"id":1}"#));
    for json in [
        r#"{"stream":"x@kline_1m","data":{"e":"kline","E":7,"s":"X","k":{"t":1,"b":[["1"]]}}}"#,
        r#"{"e":"aggTrade","E":7,"s":"X","a":26129,"p":"0.1","b":null}"#,
        r#"{"stream":"x@depth20@100ms","data":{"e":"depthUpdate","E":7,"s":"X","U":1,"u":2,"pu":0,"b":[],"a":[]}}"#,
        r#"{"e":7,"E":7,"s":"X"}"#,
        r#"{"e":"trade\u0000","E":7,"s":"X"}"#,
    ] {
        assert_eq!(spot(&format!("9 {json}")), Ok(format!("unknown_kind [X] 7000000 {json}")));
    }
    let partial = r#"{"stream":"x@depth5","data":{"lastUpdateId":1,"bids":[],"asks":[]}}"#;
    assert_eq!(spot(&format!("9 {partial}")), Ok(format!("unknown_kind [] 0 {partial}")), "it is no REST snapshot");
    let (_, report) = read(
        Venue::BinanceSpot,
        concat!(
            "1 {\"e\":\"kline\"}\n1 {\"e\":\"kline\"}\n1 {\"stream\":\"x@miniTicker\",\"data\":{}}\n1 5\n",
            "1 {\"e\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}\n"
        ),
    );
    let others: Vec<_> = report.by_kind.iter().filter(|(_, n)| **n > 0).map(|(kind, n)| (kind.as_str(), *n)).collect();
    assert_eq!(others, [("(further kinds)", 1), ("kline", 2), ("miniTicker", 1), ("unknown", 1)]);
    assert_eq!((report.opaque, report.opaque_by_reason[OpaqueReason::UnknownKind.as_str()]), (5, 5));
    assert!(report.is_clean(), "what the parser does not know is no damage");
}

#[test]
fn kinds_without_a_bound_are_counted_in_bounded_space() {
    let file: String = (0..1000).map(|i| format!("1 {{\"e\":\"kind{i}\"}}\n")).collect();
    let (_, report) = read(Venue::BinanceSpot, &file);
    assert_eq!(report.by_kind.len(), 4 + 64 + 1);
    assert_eq!(report.by_kind["(further kinds)"], 1000 - 64);
}

#[test]
fn messages_come_with_and_without_an_envelope() {
    let quote = r#"{"u":3,"s":"X","b":"1.0","B":"2","a":"1.1","A":"4"}"#;
    for json in [
        format!(r#"{{"stream":"x@bookTicker","data":{quote}}}"#),
        format!(r#"{{"data":{quote},"stream":"x@bookTicker"}}"#),
        format!(r#"{{ "u":1, "s":"Y", "b":[["1","2"]], "stream" : "x@bookTicker" , "data" : {quote} , "u":2 }}"#),
        quote.to_owned(),
    ] {
        assert_eq!(spot(&format!("9 {json}")), ok("quote X 3"), "{json}");
    }
    // Without its stream's name it cannot be told from other messages with these fields.
    assert!(spot(&format!("9 {{\"data\":{quote}}}")).unwrap().starts_with("unknown_kind [X]"));
}

#[test]
fn a_message_that_lacks_a_field_is_malformed() {
    let venues = [
        (Venue::BinanceSpot, r#"{"e":"depthUpdate","E":1,"s":"X","U":5,"u":6,"b":[],"a":[]}"#),
        (Venue::BinanceUsdm, r#"{"e":"depthUpdate","E":1,"s":"X","U":5,"u":6,"pu":4,"b":[],"a":[]}"#),
        (Venue::BinanceSpot, r#"{"e":"bookTicker","u":5,"s":"X","b":"1","B":"2","a":"3","A":"4"}"#),
        (Venue::BinanceCoinm, r#"{"e":"trade","E":1,"T":1,"s":"X","t":5,"p":"1","q":"2","m":true}"#),
        (Venue::BinanceCoinm, r#"{"lastUpdateId":5,"symbol":"X","bids":[],"asks":[]}"#),
    ];
    for (venue, json) in venues {
        assert!(!one(venue, &format!("9 {json}")).unwrap().contains("verbatim"), "{json}");
        let whole: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
        for field in whole.keys().filter(|key| !matches!(key.as_str(), "e" | "lastUpdateId" | "symbol")) {
            let mut without = whole.clone();
            without.remove(field);
            let line = format!("9 {}", serde_json::to_string(&without).unwrap());
            assert_eq!(one(venue, &line), Err(format!("lacks the field `{field}`")));
        }
    }
    assert_eq!(one(Venue::BinanceSpot, &delta("[]", "[]")).unwrap(), "delta X 6 [] [] 1e0 1e0", "spot has no pu");
    assert_eq!(one(Venue::BinanceUsdm, &delta("[]", "[]")), err("lacks the field `pu`"));
}

#[test]
fn fields_of_another_type_and_absurd_numbers_are_malformed() {
    let with = |field: &str, value: &str| {
        let mut fields =
            vec![("E", "1"), ("T", "1"), ("s", r#""X""#), ("t", "5"), ("p", r#""1""#), ("q", r#""2""#), ("m", "true")];
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        let rest: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        spot(&format!("9 {{\"e\":\"trade\",{}}}", rest.join(",")))
    };
    assert_eq!(with("t", "5"), ok("trade X 5"));
    assert_eq!(with("t", "18446744073709551615"), ok("trade X 18446744073709551615"));
    for absurd in ["-5", "5.0", "5e3", "18446744073709551616", "1e999"] {
        assert_eq!(with("t", absurd), err("field `t` has an absurd number"), "{absurd}");
        assert_eq!(with("E", absurd), err("field `E` has an absurd number"), "{absurd}");
    }
    assert_eq!(with("t", r#""5""#), err("field `t` is not a number"));
    assert_eq!(with("t", "null"), err("field `t` is not a number"));
    assert_eq!(with("m", "1"), err("field `m` is not true or false"));
    assert_eq!(with("M", "null"), err("field `M` is not true or false"));
    assert_eq!(with("p", "1.5"), err("field `p` is not a text"));
    assert_eq!(with("p", r#""""#), err("field `p` has an absurd number"));
    assert_eq!(with("p", r#""Infinity""#), err("field `p` has an absurd number"));
    assert_eq!(with("s", r#""""#), err("lacks the field `s`"));
    assert_eq!(with("s", "{}"), err("field `s` is not a text"));
    assert_eq!(with("X", "1"), err("field `X` is not a text"));
    let twice = r#"9 {"e":"trade","E":1,"T":1,"s":"X","t":5,"t":6,"p":"1","q":"2","m":true}"#;
    assert_eq!(spot(twice), err("has the field `t` twice"));
    let backwards = r#"9 {"e":"depthUpdate","E":1,"s":"X","U":7,"u":6,"b":[],"a":[]}"#;
    assert_eq!(spot(backwards), err("field `U` has an absurd number"));
}

#[test]
fn levels_are_exact_or_the_message_is_verbatim() {
    assert_eq!(bids(r#"[["1.50","2"],["0.25","0"]]"#), ok("X 6 [150 x 2, 25 x 0] [] 1e-2 1e0"));
    assert_eq!(bids(r#" [ [ "1.50" , "2" ] ] "#), ok("X 6 [150 x 2] [] 1e-2 1e0"));
    assert_eq!(bids(r#"[["1.5","2"],["0.25","0"]]"#), ok("X 6 [150 x 2, 25 x 0] [] 1e-2 1e0"), "trimmed");
    assert_eq!(bids(r#"[["-1.5","2"]]"#), ok("X 6 [-15 x 2] [] 1e-1 1e0"));
    assert_eq!(bids(r#"[["9223372036854775807","0"]]"#), ok("X 6 [9223372036854775807 x 0] [] 1e0 1e0"));
    for odd in [
        r#"[["1.50","2"],["0.5","0"]]"#,
        r#"[["9223372036854775808","0"]]"#,
        r#"[["9223372036854775807","0"],["0.1","0"]]"#,
        r#"[["1e5","0"]]"#,
        r#"[["007","0"]]"#,
        r#"[["+1","0"]]"#,
        r#"[["-0","0"]]"#,
        r#"[["1.","0"]]"#,
        r#"[["\u0031","0"]]"#,
        r#"[["1","2","3"]]"#,
        r#"[["1","2",[]]]"#,
    ] {
        assert_eq!(bids(odd), ok("not_representable"), "{odd}");
    }
    let no_levels = "field `b` is not a list of [price, quantity] texts";
    for bad in [r#"["1","2"]"#, r#"[["1"]]"#, "[[]]", "[[1,2]]", r#"[["1",2]]"#, "[null]", r#"[["1","2"],{}]"#] {
        assert_eq!(bids(bad), err(no_levels), "{bad}");
    }
    for bad in [r#""1""#, "{}", "null", "5", "true"] {
        assert_eq!(bids(bad), err("field `b` is not a list of levels"), "{bad}");
    }
    for bad in [r#"[["","2"]]"#, r#"[["1","x"]]"#, r#"[["1","NaN"]]"#, r#"[["1e5","0"],["1","--1"]]"#] {
        assert_eq!(bids(bad), err("field `b` has an absurd number"), "{bad}");
    }
    // Both sides share a scale, and what is odd on one side is odd on both.
    assert_eq!(spot(&delta(r#"[["1.5","2"]]"#, r#"[["1.75","2"]]"#)), ok("delta X 6 [150 x 2] [175 x 2] 1e-2 1e0"));
    assert!(spot(&delta(r#"[["1.5","2"]]"#, r#"[["1.70","2"]]"#)).unwrap().starts_with("not_representable [X]"));
    assert_eq!(spot(&delta(r#"[["1.5","2"]]"#, r#"[["x","2"]]"#)), err("field `a` has an absurd number"));
}

#[test]
fn quotes_and_trades_keep_their_text() {
    let file = concat!(
        r#"9 {"u":3,"s":"X","b":"0.5","B":"10","a":"12","A":"0.125"}"#,
        "\n",
        r#"9 {"u":3,"s":"X","b":"0.50","B":"10","a":"12","A":"0"}"#,
        "\n",
        r#"9 {"e":"trade","E":1,"T":1,"s":"X","t":5,"p":"1.0","q":"2","m":true,"X":"MARKET"}"#,
        "\n",
        r#"9 {"e":"trade","E":1,"T":1,"s":"X","t":5,"p":"1.0","q":"2","m":true,"X":"ADL"}"#,
        "\n",
    );
    let mut seen = Vec::new();
    import(Venue::BinanceSpot, "x", file.as_bytes(), |parsed| {
        match Record::parse(parsed.type_id, parsed.payload).unwrap() {
            Record::Quote(q) => {
                let price = |m| q.head.price.decimal(m).to_string();
                let qty = |m| q.head.qty.decimal(m).to_string();
                seen.push([price(q.bid_price), qty(q.bid_qty), price(q.ask_price), qty(q.ask_qty)].join(" "));
            }
            Record::Trade(t) => seen.push(format!("{} {:?}", t.head.price.decimal(t.price), t.order_type)),
            Record::Opaque(o) => seen.push(o.reason.as_str().to_owned()),
            _ => panic!(),
        }
        Ok::<(), Infallible>(())
    })
    .unwrap();
    assert_eq!(seen, ["0.5 10 12 0.125", "not_representable", "1.0 Some(Market)", "not_representable"]);
}

#[test]
fn times_are_exact_absent_or_absurd() {
    let at = |event_ms: u64, ingest_ns: u64| {
        let json = format!(r#"{{"e":"trade","E":{event_ms},"T":1,"s":"X","t":5,"p":"1","q":"2","m":true}}"#);
        spot(&format!("{ingest_ns} {json}")).map(|text| text.replace(&json, "J"))
    };
    let now_ms = 1_723_161_255_000_u64;
    let now_ns = now_ms * 1_000_000;
    assert_eq!(at(now_ms, now_ns - DAY_NS), ok("trade X 5"), "24 h ahead is not more than 24 h ahead");
    assert_eq!(at(now_ms, now_ns - DAY_NS - 1), ok("absurd_time [X] 0 J"));
    assert_eq!(at(now_ms * 1_000, now_ns), ok("absurd_time [X] 0 J"), "microseconds");
    assert_eq!(at(u64::MAX, now_ns), ok("absurd_time [X] 0 J"));
    assert_eq!(at(1, now_ns), ok("trade X 5"), "the past is not absurd");
    assert_eq!(at(0, now_ns), ok("not_representable [X] 0 J"), "0 says that there is none");
    assert_eq!(at(u64::MAX / 1_000_000, u64::MAX), ok("trade X 5"));
    let kline = r#"{"e":"kline","E":99999999999999,"s":"X"}"#;
    assert_eq!(spot(&format!("9 {kline}")), Ok(format!("absurd_time [X] 0 {kline}")));
}

#[test]
fn odd_symbols_never_break_a_record() {
    let trade = |symbol: &str| {
        let line = format!(r#"9 {{"e":"trade","E":1,"T":1,"s":"{symbol}","t":5,"p":"1","q":"2","m":true}}"#);
        spot(&line).map(|text| text.split(" 0").next().unwrap().to_owned())
    };
    assert_eq!(trade("\u{5e01}\u{5b89}"), ok("trade \u{5e01}\u{5b89} 5"));
    assert_eq!(trade("../../etc"), ok("trade ../../etc 5"), "what a path may be made of is not decided here");
    assert_eq!(trade(&"S".repeat(255)), Ok(format!("trade {} 5", "S".repeat(255))));
    assert!(trade(&"S".repeat(256)).unwrap().starts_with("not_representable [] "));
    assert!(trade(r"\u0041").unwrap().starts_with("not_representable [] "));
}

const SNAPSHOT: &str = r#"{"lastUpdateId":7,"bids":[["1.0","2"]],"asks":[]}"#;
const TRADE_X: &str = r#"{"e":"trade","E":1,"T":1,"s":"X","t":5,"p":"1","q":"2","m":true}"#;
const TRADE_Y: &str = r#"{"e":"trade","E":1,"T":1,"s":"Y","t":6,"p":"1","q":"2","m":true}"#;

fn file(messages: &[&str]) -> String {
    messages.iter().enumerate().map(|(i, json)| format!("{} {json}\n", i + 10)).collect()
}

#[test]
fn a_snapshot_belongs_to_the_only_symbol_before_it() {
    let (records, report) = read(Venue::BinanceSpot, &file(&[TRADE_X, SNAPSHOT, TRADE_X]));
    assert_eq!(records, ["trade X 5", "snapshot X 7 [10 x 2] [] 1e-1 1e0", "trade X 5"]);
    assert_eq!((report.by_kind["snapshot"], report.opaque, report.doubtful_snapshots), (1, 0, 0));
}

#[test]
fn a_snapshot_before_any_symbol_waits_for_one_and_keeps_its_place() {
    let (records, report) = read(Venue::BinanceSpot, &file(&[SNAPSHOT, "null", "x", TRADE_X, TRADE_Y, SNAPSHOT]));
    let verbatim = format!("no_symbol [] 0 {SNAPSHOT}");
    let expected =
        ["snapshot X 7 [10 x 2] [] 1e-1 1e0", "unknown_kind [X] 0 null", "trade X 5", "trade Y 6", verbatim.as_str()];
    assert_eq!(records, expected);
    assert_eq!((report.malformed, report.malformed_lines[0].line), (1, 3));
    assert_eq!((report.opaque, report.by_kind["snapshot"]), (2, 2));
    assert_eq!(report.doubtful_snapshots, 1, "the first could have been of Y");
}

#[test]
fn a_snapshot_that_never_meets_a_symbol_is_kept_verbatim() {
    let (records, _) = read(Venue::BinanceSpot, &file(&[SNAPSHOT, "null"]));
    assert_eq!(records, [format!("no_symbol [] 0 {SNAPSHOT}"), "unknown_kind [] 0 null".to_owned()]);
}

#[test]
fn only_so_much_waits() {
    let mut messages = vec![SNAPSHOT; 1500];
    messages.push(TRADE_X);
    let (records, report) = read(Venue::BinanceSpot, &file(&messages));
    assert_eq!(records.len(), 1501);
    assert!(records[..1024].iter().all(|text| text.starts_with("no_symbol")), "the first 1,024 waited long enough");
    assert!(records[1024..1500].iter().all(|text| text.starts_with("snapshot X")));
    assert_eq!(records[1500], "trade X 5");
    assert_eq!(report.opaque, 1024);
}

#[test]
fn a_snapshot_with_a_symbol_needs_no_other() {
    let coinm = SNAPSHOT.replace("{\"last", "{\"symbol\":\"Z\",\"pair\":\"P\",\"last");
    let (records, report) = read(Venue::BinanceCoinm, &file(&[&coinm, TRADE_X, TRADE_Y, &coinm]));
    assert_eq!(records[0], "snapshot Z 7 [10 x 2] [] 1e-1 1e0");
    assert_eq!(records[3], records[0]);
    assert_eq!(report.symbols.into_iter().collect::<Vec<_>>(), ["X", "Y", "Z"]);
    assert_eq!(report.doubtful_snapshots, 0);
}

#[test]
fn a_futures_delta_keeps_every_number() {
    let line = r#"1723161255030314667 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"]],"a":[]}}"#;
    import(Venue::BinanceUsdm, "x", line.as_bytes(), |parsed| {
        let Record::BookDelta(delta) = Record::parse(parsed.type_id, parsed.payload).unwrap() else { panic!() };
        let expected = BookDelta {
            head: Head {
                exchange_ns: 1_723_161_256_299_000_000,
                ingest_ns: 1_723_161_255_030_314_667,
                transact_ns: 1_723_161_256_298_000_000,
                price: Scale::fixed(2),
                qty: Scale::fixed(3),
            },
            first_id: 5_123_107_832_006,
            last_id: 5_123_107_837_557,
            prev_id: Some(5_123_107_831_937),
            bids: &[chronicle_protocol::Level::new(5_871_020, 14)],
            asks: &[],
            symbol: "BTCUSDT",
        };
        assert_eq!(delta, expected);
        Ok::<(), Infallible>(())
    })
    .unwrap();
}
