//! Exported rows: the same in every form, and never taken for all of them when they are not.

mod support;

use serde_json::Value;
use std::{fs, path::Path};
use support::*;

const SPOT: &str = "binance-spot";
const DEPTH: usize = 3;

fn export(root: &Path, more: &[&str]) -> Ran {
    let always = ["--date", "2024-08-08", "--as", "book-snapshot", "--depth", "3", "--every", "1s"];
    about("export", root, SPOT, "ethusdt", &[&always, more].concat())
}

fn refined() -> tempfile::TempDir {
    let root = scratch();
    import(root.path(), SPOT, &[excerpt()]).ok();
    refine(root.path(), &["--seal"]).ok();
    root
}

/// A JSON row as the CSV has it: its names are paths into the object.
fn as_csv(row: &Value) -> String {
    let mut cells: Vec<String> =
        ["minute_ms", "last_E", "last_u", "bid_levels", "ask_levels"].map(|name| row[name].to_string()).to_vec();
    for i in 0..DEPTH {
        for side in ["asks", "bids"] {
            for cell in ["price", "amount"] {
                cells.push(row[side][i][cell].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    cells.join(",")
}

#[test]
fn json_rows_are_the_rows_of_the_csv() {
    let root = refined();
    let csv = export(root.path(), &["--csv"]).ok().text();
    assert_eq!(csv, export(root.path(), &[]).ok().text(), "CSV is what it is without a word");
    let (heading, rows) = csv.split_once('\n').expect("a heading");
    assert!(heading.starts_with("minute_ms,last_E,last_u,bid_levels,ask_levels,asks[0].price,"), "{heading}");
    let json = export(root.path(), &["--json"]).ok().text();
    let told: Vec<String> =
        json.lines().map(|line| as_csv(&serde_json::from_str(line).expect("an object a line"))).collect();
    assert!(told.len() > 60, "{}", told.len());
    assert_eq!(told, rows.lines().collect::<Vec<_>>());
    export(root.path(), &["--json", "--csv"]).exits(2);
    about("export", root.path(), SPOT, "xrpusdt", &["--date", "2024-08-08", "--as", "book-snapshot", "--json"])
        .exits(2)
        .says("there is binance-spot/ethusdt");
}

#[test]
fn rows_before_damage_are_not_taken_for_all() {
    let root = refined();
    let whole = export(root.path(), &["--csv"]).ok().text();
    let book = root.path().join("warm/v1/binance-spot/ethusdt/2024-08-08/book.q");
    let mut bytes = fs::read(&book).expect("the partition");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&book, bytes).expect("a harmed file");

    let ran = export(root.path(), &["--csv"]).exits(1).says("book.q: offset ");
    let rows = ran.text().lines().count() - 1;
    assert!(rows > 0 && whole.starts_with(&ran.text()), "{rows} rows, all of them right");
    assert!(rows < whole.lines().count() - 1);
    let said = format!("the {rows} rows printed are not all");
    assert!(ran.err.contains(&said), "{}", ran.err);

    let ran = export(root.path(), &["--json"]).exits(1).says("book.q: offset ").says(&said);
    let text = ran.text();
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(text.lines().count(), rows + 1);
    assert_eq!(last["rows"], rows, "{last}");
    assert!(last["error"].as_str().is_some_and(|error| error.contains("book.q: offset ")), "{last}");
    assert!(last["minute_ms"].is_null(), "{last}");
}
