//! Damaged recordings: every whole good record comes through, and what is wrong is counted as it was made wrong.
//!
//! `damaged/expected.json` beside the samples was computed by another program. Counts are asked of `--json`; what a
//! person is told, and the exit codes, of the other output.

mod support;

use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Command};
use support::*;

#[test]
fn a_gap_in_spot_ids() {
    invalid_at_its_end("gap_spot.gz", "binance-spot", "btcusdt");
}

#[test]
fn a_gap_in_usdm_ids() {
    invalid_at_its_end("gap_usdm.gz", "binance-usdm", "btcusdt");
}

#[test]
fn late_records() {
    invalid_at_its_end("late_coinm.gz", "binance-coinm", "btcusd_perp");
}

#[test]
fn a_gap_healed_by_a_snapshot() {
    valid_at_its_end("gap_resync_spot.gz", "binance-spot", "btcusdt");
}

#[test]
fn a_file_cut_short() {
    valid_at_its_end("truncated_spot.gz", "binance-spot", "btcusdt");
}

#[test]
fn lines_that_are_none() {
    valid_at_its_end("malformed_spot.gz", "binance-spot", "btcusdt");
}

#[test]
fn records_that_come_twice() {
    valid_at_its_end("duplicate_usdm.gz", "binance-usdm", "btcusdt");
}

/// A sample in a root of its own, refined.
struct Sample {
    expected: Value,
    name: &'static str,
    venue: &'static str,
    symbol: &'static str,
    dir: tempfile::TempDir,
}

impl Sample {
    fn refined(name: &'static str, venue: &'static str, symbol: &'static str) -> Option<Sample> {
        let data = recordings()?.join("damaged");
        let text = std::fs::read(data.join("expected.json")).expect("what is expected");
        let all: Value = serde_json::from_slice(&text).expect("JSON");
        let sample = Sample { expected: all[name].clone(), name, venue, symbol, dir: scratch() };
        sample.imported(&data.join(name));
        sample.refinery_counts();
        Some(sample)
    }

    /// What is expected of the part that came through.
    fn whole(&self) -> &Value {
        self.expected.get("complete_part").unwrap_or(&self.expected)
    }

    fn number(&self, name: &str) -> u64 {
        self.whole().get(name).map_or(0, |value| value.as_u64().expect("a number"))
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn imported(&self, file: &Path) {
        let name = self.name;
        let bad: Vec<u64> = self.expected["bad_lines_1based"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|line| line[0].as_u64().expect("a line number"))
            .collect();
        let cut = self.expected.get("complete_part").is_some();
        let code = i32::from(cut || !bad.is_empty());

        // What a person reads, in a root of its own.
        let other = scratch();
        let mut command = Command::new(BINARY);
        command.args(["import", "--venue", self.venue, "--root"]).arg(other.path()).arg(file);
        let told = run(&mut command).exits(code);
        assert_eq!(told.text().contains("truncated: "), cut, "{}", told.text());
        for line in &bad {
            assert!(told.text().contains(&format!("line {line} at byte ")), "{}", told.text());
        }

        let ran = import(self.root(), self.venue, &[file.to_owned()]).exits(code);
        let report = &ran.json()["files"][0];
        assert_eq!(report["name"], name);
        assert_eq!(report["sha256"], sha256(&std::fs::read(file).expect("the sample")).as_str());
        assert_eq!(report["lines"], self.number("lines"), "{name}");
        assert_eq!(report["malformed"], self.number("malformed"), "{name}");
        assert_eq!(report["opaque"], 0, "{name}");
        assert_eq!(report["by_kind"], self.whole()["by_kind"], "{name}");
        let lines: Vec<u64> = report["malformed_lines"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|bad| bad["line"].as_u64().expect("a line number"))
            .collect();
        assert_eq!(lines, bad, "{name}");
        if cut {
            let at = &report["truncated_at"];
            assert_eq!(at["text_offset"], self.expected["decodable_bytes"]);
            assert_eq!(at["partial_len"], self.expected["partial_tail_bytes"]);
            assert_eq!(at["line"], self.expected["complete_lines"].as_u64().expect("a count") + 1);
        } else {
            assert_eq!(report["truncated_at"], Value::Null, "{name}");
        }
    }

    fn refinery_counts(&self) {
        let name = self.name;
        let first = refine(self.root(), &[]).ok();
        let again = refine(self.root(), &[]).ok();
        assert_eq!(first.json(), again.json(), "{name}: refined twice");

        // Days of one stream together.
        let mut sums: BTreeMap<(String, &str), u64> = BTreeMap::new();
        let mut gaps = Vec::new();
        let report = first.json();
        for partition in report["partitions"].as_array().expect("partitions") {
            let stream = partition["stream"].as_str().expect("a stream");
            for count in ["applied", "dropped_before_snapshot", "duplicates", "not_applied", "late"] {
                *sums.entry((stream.to_owned(), count)).or_default() += partition[count].as_u64().expect("a count");
            }
            gaps.extend(partition["gaps"].as_array().expect("gaps").clone());
        }
        let sum = |stream: &str, count| sums.get(&(stream.to_owned(), count)).copied().unwrap_or(0);

        let not_applied = self.number("depth_after_gap_not_applied");
        let after_gap = if name == "gap_resync_spot.gz" { not_applied } else { 0 };
        assert_eq!(sum("book", "applied"), self.number("depth_applied"), "{name}");
        assert_eq!(sum("book", "not_applied"), not_applied, "{name}");
        assert_eq!(
            sum("book", "dropped_before_snapshot"),
            self.number("depth_before_snapshot_discarded") - after_gap,
            "{name}"
        );
        for (stream, late, stale) in [
            ("book", "late_over_1h_depthUpdate", "depth_stale_or_duplicate"),
            ("quotes", "late_over_1h_bookTicker", "bookTicker_stale_or_duplicate"),
            ("trades", "late_over_1h_trade", "trade_duplicate"),
        ] {
            assert_eq!(sum(stream, "late"), self.number(late), "{name}: {stream}");
            assert_eq!(
                sum(stream, "duplicates"),
                self.number(stale).saturating_sub(self.number(late)),
                "{name}: {stream}"
            );
        }
        let depth = self.whole()["by_kind"]["depthUpdate"].as_u64().expect("a count");
        let counted: u64 = ["applied", "dropped_before_snapshot", "duplicates", "not_applied", "late"]
            .iter()
            .map(|count| sum("book", count))
            .sum();
        assert_eq!(counted, depth, "{name}: each delta is counted in exactly one of them");

        let expected = self.whole()["gaps"].as_array().expect("gaps");
        assert_eq!(gaps.len(), expected.len(), "{name}");
        for (gap, expected) in gaps.iter().zip(expected) {
            assert_eq!(gap["after"], expected["after_u"], "{name}");
            assert_eq!(gap["next"], expected["next_U"], "{name}");
            let missing = expected.get("missing_ids").and_then(Value::as_array);
            let from = expected["after_u"].as_u64().expect("an id") + 1;
            assert_eq!(gap["missing_from"], missing.map_or(Value::from(from), |ids| ids[0].clone()), "{name}");
            // Futures name the id before: the gap ends with it.
            let to = missing.map_or_else(|| expected["next_pu"].clone(), |ids| ids[1].clone());
            assert_eq!(gap["missing_to"], to, "{name}");
            let time = gap["time"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
            assert_eq!(Some(time.as_millisecond()), expected["E_ms"].as_i64(), "{name}");
        }
    }

    fn book(&self, more: &[&str]) -> Ran {
        about("book", self.root(), self.venue, self.symbol, &[&["--at", "latest"], more].concat())
    }

    #[track_caller]
    fn is_the_book(&self, csv: &[u8], digest_name: &str) {
        let book = &self.whole()["final_book"];
        let text = String::from_utf8(csv.to_vec()).expect("text");
        let count = |side: &str| text.lines().filter(|line| line.starts_with(side)).count() as u64;
        assert_eq!((count("bid,"), count("ask,")), (book["bids"].as_u64().unwrap(), book["asks"].as_u64().unwrap()));
        assert_eq!(digest(&text), book[digest_name].as_str().expect("a digest"), "{}", self.name);
    }
}

/// The digest of a book as the recordings' README has it: rows without trailing zeros, without the header.
fn digest(csv: &str) -> String {
    let plain = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let mut rows = String::new();
    for row in csv.lines().skip(1) {
        let [side, price, qty] = row.split(',').collect::<Vec<_>>()[..] else { panic!("no row: {row}") };
        rows += &format!("{side},{},{}\n", plain(price), plain(qty));
    }
    sha256(rows.as_bytes())
}

fn valid_at_its_end(name: &'static str, venue: &'static str, symbol: &'static str) {
    let Some(sample) = Sample::refined(name, venue, symbol) else { return };
    sample.is_the_book(&sample.book(&["--csv"]).ok().out, "digest");
    let object = sample.book(&["--json"]).ok().json();
    assert_eq!(object["valid"], true);
    assert_eq!(object["last_id"], sample.whole()["final_book"]["last_u"]);
    verify(sample.root()).ok();
}

fn invalid_at_its_end(name: &'static str, venue: &'static str, symbol: &'static str) {
    let Some(sample) = Sample::refined(name, venue, symbol) else { return };
    let book = &sample.expected["final_book"];
    let gap = &sample.expected["gaps"][0];
    let told = sample.book(&["--csv"]).exits(1).says("book.q").says("last valid").says("gap after");
    assert!(told.out.is_empty(), "no half answer");
    for id in [&gap["after_u"], &gap["next_U"]] {
        assert!(told.err.contains(&id.to_string()), "{}", told.err);
    }
    let object = sample.book(&["--json"]).exits(1).json();
    assert_eq!(object["valid"], false);
    assert_eq!(object["gap"]["after"], gap["after_u"]);
    let last_valid = object["gap"]["last_valid"].as_str().expect("a time").to_owned();

    sample.is_the_book(&sample.book(&["--csv", "--last-valid"]).ok().out, "digest_at_last_valid_u");
    let object = sample.book(&["--json", "--last-valid"]).ok().json();
    assert_eq!(object["valid"], false, "the last valid book is not the book of that moment");
    assert_eq!(object["last_id"], book["last_valid_u"]);

    // At its last valid time it is valid.
    let mut command = Command::new(BINARY);
    command.args(["book", "--venue", venue, "--symbol", symbol, "--csv", "--at", &last_valid, "--root"]);
    let then = run(command.arg(sample.root())).ok();
    sample.is_the_book(&then.out, "digest_at_last_valid_u");
    verify(sample.root()).ok();
}
