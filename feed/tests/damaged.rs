//! Damage in a recording must cost nothing but what is damaged: every whole good line comes out, the rest is counted and
//! named with its place. The expected figures were computed by another program.

mod files;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;

use chronicle_feed::{Report, Venue, check, import};
use chronicle_protocol::Record;
use serde_json::Value;

fn venue_of(file: &str) -> Venue {
    let name = file.strip_suffix(".gz").and_then(|stem| stem.rsplit('_').next()).unwrap();
    format!("binance-{name}").parse().unwrap()
}

#[test]
fn the_damaged_recordings_give_the_expected_counts() {
    let Some(expected) = files::shared("damaged/expected.json") else { return };
    let expected: BTreeMap<String, Value> = serde_json::from_reader(File::open(expected).unwrap()).unwrap();
    assert_eq!(expected.len(), 7);
    for (file, expected) in &expected {
        let path = files::shared(&format!("damaged/{file}")).unwrap();
        let mut records = 0;
        let report = import(venue_of(file), file.as_str(), File::open(path).unwrap(), |parsed| {
            Record::parse(parsed.type_id, parsed.payload).unwrap();
            records += 1;
            Ok::<(), Infallible>(())
        })
        .unwrap();
        let complete = expected.get("complete_part").unwrap_or(expected);
        let by_kind: BTreeMap<String, u64> = serde_json::from_value(complete["by_kind"].clone()).unwrap();
        assert_eq!(report.by_kind, by_kind, "{file}");
        assert_eq!(report.lines, complete["lines"].as_u64().unwrap(), "{file}");
        assert_eq!(report.malformed, complete["malformed"].as_u64().unwrap(), "{file}");
        assert_eq!((report.opaque, &report.corrupt_at), (0, &None), "{file}");
        assert_eq!(records, report.records, "{file}");
        assert_eq!(report.lines, report.malformed + by_kind.values().sum::<u64>(), "{file}");
        assert_truncated(&report, expected, file);
        if let Some(bad) = expected.get("bad_lines_1based") {
            let bad: Vec<u64> = bad.as_array().unwrap().iter().map(|line| line[0].as_u64().unwrap()).collect();
            assert_eq!(report.malformed_lines.iter().map(|line| line.line).collect::<Vec<_>>(), bad, "{file}");
        }
        assert_eq!(report.is_clean(), !matches!(file.as_str(), "truncated_spot.gz" | "malformed_spot.gz"), "{file}");
    }
}

fn assert_truncated(report: &Report, expected: &Value, file: &str) {
    let Some(decodable) = expected.get("decodable_bytes") else {
        assert_eq!(report.truncated_at, None, "{file}");
        return;
    };
    let cut = report.truncated_at.as_ref().unwrap();
    assert_eq!(cut.compressed_offset, 75_996);
    assert_eq!(cut.text_offset, decodable.as_u64().unwrap());
    assert_eq!(cut.line, expected["complete_lines"].as_u64().unwrap() + 1);
    assert_eq!(cut.partial_len, expected["partial_tail_bytes"].as_u64().unwrap());
}

#[test]
fn malformed_lines_are_named_with_their_place_and_reason() {
    let Some(path) = files::shared("damaged/malformed_spot.gz") else { return };
    let report = check(Venue::BinanceSpot, "malformed_spot.gz", File::open(path).unwrap()).unwrap();
    let found: Vec<_> = report.malformed_lines.iter().map(|l| (l.line, l.offset, l.why.to_string())).collect();
    let expected = [
        (202, 110_291, "not JSON at byte 83: expected `\"`"),
        (904, 292_326, "not JSON at byte 187: expected `,` or `}`"),
        (1_506, 443_215, "not UTF-8 at byte 60"),
        (2_208, 615_399, "no receive time at its start: neither nanoseconds and a blank, nor seconds and `: `"),
        (2_756, 765_653, "not JSON at byte 20: expected a value"),
    ];
    assert_eq!(found, expected.map(|(line, offset, why)| (line, offset, why.to_owned())));
}

#[test]
fn the_report_has_the_shape_that_is_printed() {
    let Some(path) = files::shared("damaged/truncated_spot.gz") else { return };
    let report = check(Venue::BinanceSpot, "truncated_spot.gz", File::open(path).unwrap()).unwrap();
    let printed = serde_json::to_value(&report).unwrap();
    assert_eq!(
        printed["by_kind"],
        serde_json::json!({"depthUpdate": 243, "bookTicker": 1792, "trade": 392, "snapshot": 1})
    );
    for (field, value) in [("lines", 2_428), ("malformed", 0), ("opaque", 0)] {
        assert_eq!(printed[field], value, "{field}");
    }
    assert_eq!(printed["truncated_at"]["text_offset"], 666_374);
    assert_eq!(printed["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(printed["malformed_lines"], serde_json::json!([]));
}
