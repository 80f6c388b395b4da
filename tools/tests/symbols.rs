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

/// A symbol renamed at midnight is two directories with one symbol_id, and nothing else knows of it.
#[test]
fn refine_by_a_table() {
    let Some(recordings) = recordings() else { return };
    let files = ["btcusdt_20240808.gz", "btcusdt_20240809.gz"].map(|name| recordings.join("binance-spot").join(name));
    let (dir, file) = written(
        "venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_from,valid_to\n\
         binance-spot,BTCUSDT,1,btc-old,1,2017-08-17T04:00:00Z,2024-08-09\n\
         binance-spot,BTCUSDT,1,btc-new,2,2024-08-09,\n",
    );
    let (with, without) = (dir.path().join("with"), dir.path().join("without"));
    for root in [&with, &without] {
        import(root, "binance-spot", &files).ok();
    }
    let file = file.to_str().expect("text");
    refine(&with, &["--symbols", file, "--seal"]).ok();
    refine(&without, &["--seal"]).ok();
    verify(&with).ok();
    let days = |root: &PathBuf| {
        let named = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "q");
        tree(&root.join("warm/v1")).into_iter().filter(|(path, _)| named(path)).collect::<Vec<_>>()
    };
    let dirs: Vec<_> = days(&with).iter().map(|(path, _)| path.display().to_string()).collect();
    assert!(dirs.contains(&"binance-spot/btc-old/2024-08-08/book.q".to_owned()), "{dirs:?}");
    assert!(dirs.contains(&"binance-spot/btc-new/2024-08-09/book.q".to_owned()), "{dirs:?}");
    assert_eq!(days(&with).len(), days(&without).len());
    for (code, date, version) in [("btc-old", "2024-08-08", 1), ("btc-new", "2024-08-09", 2)] {
        let meta = fs::read(with.join(format!("warm/v1/binance-spot/{code}/{date}/meta.json"))).expect("meta.json");
        let meta: serde_json::Value = serde_json::from_slice(&meta).expect("JSON");
        assert_eq!((&meta["symbol_id"], &meta["symbol_version_id"]), (&1.into(), &version.into()), "{meta}");
        assert_eq!((&meta["symbol_code"], &meta["raw_symbol"]), (&code.into(), &"BTCUSDT".into()), "{meta}");
    }
    let last =
        |root: &PathBuf, code| about("book", root, "binance-spot", code, &["--at", "latest", "--csv"]).ok().text();
    assert_eq!(last(&with, "btc-new"), last(&without, "btcusdt"));
    // Nobody may go on with another table, and nobody must bring the same one again.
    let again = refine(&with, &[]).ok().json();
    assert_eq!(again["tables"][0]["sha256"], sha256(&fs::read(file).expect("the table")), "{again}");
    let other = dir.path().join("other.csv");
    fs::write(&other, fs::read_to_string(file).expect("text").replace("btc-old,1", "btc-was,1")).expect("a file");
    refine(&with, &["--symbols", other.to_str().expect("text")])
        .exits(1)
        .says("binance-spot/btc-old/2024-08-08: symbol table does not extend the one before");
    refine(&without, &["--symbols", file]).exits(1).says("it was refined without one");
}

#[test]
fn a_stranger_stops_refining_or_is_kept() {
    let (dir, file) = written(TABLE);
    let file = file.to_str().expect("text");
    let root = dir.path().join("root");
    import(&root, "binance-spot", &[excerpt()]).ok();
    refine(&root, &["--symbols", file])
        .exits(1)
        .says("symbol ETHUSDT at 2024-08-0")
        .says("is not in the symbol table; add it to the table, or keep such records with --unresolved unresolved");
    let report = refine(&root, &["--symbols", file, "--unresolved", "unresolved"]).ok().json();
    let rows = report["partitions"].as_array().expect("rows");
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row["symbol"] == "unresolved" && row["stream"] == "opaque"),
        "{report}"
    );
    verify(&root).ok();
    refine(&root, &["--unresolved", "error"]).exits(2).says("--symbols <FILE>");
}

/// A command that is none of ours is a program on the PATH, with its arguments and its exit code.
#[test]
fn a_command_may_be_a_program_of_its_own() {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    let dir = scratch();
    let program = dir.path().join("chronicle-hello");
    fs::write(&program, "#!/bin/sh\necho \"$# $1 $2\"\nexit 7\n").expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may be run");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let ran = run(Command::new(BINARY).args(["hello", "--json", "a b"]).env("PATH", path)).exits(7);
    assert_eq!(ran.text(), "2 --json a b\n");
    run(Command::new(BINARY).arg("hello").env("PATH", "/nowhere"))
        .exits(2)
        .says("hello: no such command, and no program chronicle-hello: `chronicle --help` lists the commands");
    run(Command::new(BINARY).arg("../hello")).exits(2).says("../hello: no such command");
}
