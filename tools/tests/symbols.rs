//! `chronicle symbols`: a table is checked row by row and asked who a symbol was.

mod support;

use std::{fs, path::PathBuf};
use support::*;

const TABLE: &str = "\
venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_from,valid_to
binance-spot,LUNAUSDT,7,lunausdt,11,2020-08-21T10:00:00Z,2022-05-28
binance-spot,LUNCUSDT,7,luncusdt,12,2022-05-28,
binance-spot,LUNAUSDT,9,luna2usdt,13,2022-05-31T06:00:00Z,
";

/// A table in a directory of its own.
fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = scratch();
    let file = dir.path().join("dim_symbol.csv");
    fs::write(&file, text).expect("a file");
    (dir, file)
}

#[test]
fn a_right_table_is_described() {
    let (_dir, file) = written(TABLE);
    let file = file.to_str().expect("text");
    chronicle(["symbols", "check", file])
        .ok()
        .says("binance-spot: 2 symbols, 3 versions, 0 ended")
        .says("symbol_id 7: LUNAUSDT becomes LUNCUSDT at 2022-05-28T00:00:00Z, lunausdt becomes luncusdt on 2022-05-28")
        .says("right");
    let json = chronicle(["symbols", "check", file, "--json", "--strict"]).ok().json();
    assert_eq!((&json["right"], &json["problem_count"]), (&true.into(), &0.into()), "{json}");
    assert_eq!(json["sha256"], sha256(TABLE.as_bytes()), "{json}");
    assert_eq!(json["venues"]["binance-spot"]["versions"], 3, "{json}");
    assert_eq!(json["renames"][0]["to_code"], "luncusdt", "{json}");
}

#[test]
fn what_is_wrong_is_told_with_its_lines() {
    let (_dir, file) = written(&format!(
        "{TABLE}binance-spot,LUNCUSDT,8,lunc,12,2023-01-01,2022-01-01\nbinance-spot,FTTUSDT,10,luncusdt,14,,\n"
    ));
    let file = file.to_str().expect("text");
    chronicle(["symbols", "check", file])
        .exits(1)
        .says("line 5: valid_from 2023-01-01T00:00:00.000000000Z is not before valid_to 2022-01-01")
        .says("line 6: valid_from is missing")
        .says("2 problems");
    let json = chronicle(["symbols", "check", file, "--json"]).exits(1).json();
    assert_eq!(json["right"], false, "{json}");
    assert_eq!(json["problems"][1]["kind"], "missing", "{json}");
    assert_eq!(json["problems"][1]["rows"][0], 6, "{json}");
    assert_eq!(json["counted_by"], "line", "{json}");
    chronicle(["symbols", "resolve", file, "--venue", "v", "--symbol", "A", "--at", "2024-01-01"])
        .exits(1)
        .says("line 5: ")
        .says("(and 1 more); `chronicle symbols check` lists all");
}

/// A delisting is no mistake unless somebody says that there is none.
#[test]
fn holes_are_listed_or_refused() {
    let (_dir, file) = written(&TABLE.replace("12,2022-05-28,", "12,2022-06-28,"));
    let file = file.to_str().expect("text");
    let hole = "symbol_id 7 (lunausdt): no version from 2022-05-28T00:00:00Z to 2022-06-28T00:00:00Z";
    chronicle(["symbols", "check", file]).ok().says(hole);
    chronicle(["symbols", "check", file, "--strict"]).exits(1).says(hole).says("1 holes, and --strict allows none");
}

#[test]
fn who_a_symbol_was() {
    let (_dir, file) = written(TABLE);
    let file = file.to_str().expect("text");
    let ask = |symbol: &str, at: &str, json: bool| {
        let asked = ["symbols", "resolve", file, "--venue", "binance-spot", "--symbol", symbol, "--at", at];
        chronicle(asked.into_iter().chain(json.then_some("--json")))
    };
    ask("LUNAUSDT", "2022-05-27T23:59:59.999Z", false).ok().says("symbol_id          7").says("lunausdt/2022-05-27");
    let json = ask("LUNAUSDT", "2022-05-31T06:00:00Z", true).ok().json();
    assert_eq!(
        (&json["version"]["symbol_id"], &json["version"]["symbol_version_id"]),
        (&9.into(), &13.into()),
        "{json}"
    );
    assert_eq!(json["directory"], "binance-spot/luna2usdt/2022-05-31", "{json}");
    ask("LUNAUSDT", "2022-05-29", false).exits(1).says(
        "binance-spot/LUNAUSDT at 2022-05-29T00:00:00Z: no row is valid then; version 11 ended at 2022-05-28T00:00:00Z; \
         version 13 begins at 2022-05-31T06:00:00Z",
    );
    let json = ask("LUNAUSDT", "2022-05-29", true).exits(1).json();
    assert_eq!(
        (&json["version"], &json["behind"]["symbol_version_id"]),
        (&serde_json::Value::Null, &13.into()),
        "{json}"
    );
    ask("FTTUSDT", "2022-05-29", false).exits(1).says("the table does not have it");
    chronicle(["symbols", "check", "/no/such/table"]).exits(2).says("/no/such/table: ");
}
