//! Tables for notebooks: what Polars reads from the command is what its text says, digit for digit, and a file that has a
//! name is whole.

mod support;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::*;

const SPOT: &str = "binance-spot";

fn refined() -> tempfile::TempDir {
    let root = scratch();
    import(root.path(), SPOT, &[excerpt()]).ok();
    refine(root.path(), &["--seal"]).ok();
    root
}

fn export(root: &Path, more: &[&str]) -> Ran {
    about("export", root, SPOT, "ethusdt", &[&["--date", "2024-08-08..2024-08-09"], more].concat())
}

/// A Python in which this can be imported, or nothing, said aloud. `CHRONICLE_PYTHON` names another than `python3`.
fn python(module: &str) -> Option<String> {
    let python = std::env::var("CHRONICLE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    has_program(&python, &format!("-cimport {module}")).then_some(python)
}

/// Runs a script beside docs/notebook.py, which it can import.
fn script(python: &str, root: &Path, text: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut command = Command::new(python);
    command.args(["-B", "-c", text, BINARY]).arg(root).env("PYTHONPATH", docs).stdin(Stdio::null());
    run(&mut command).ok().text()
}

#[test]
fn polars_reads_the_books_that_the_text_says() {
    let Some(python) = python("polars") else { return };
    let root = refined();
    let text = export(root.path(), &["--as", "book-snapshot", "--depth", "3", "--every", "1s"]).ok().text();
    let read = script(
        &python,
        root.path(),
        r#"
import sys
from notebook import read
command, root = sys.argv[1:]
books = read(root, "binance-spot", "ethusdt", "2024-08-08..2024-08-09", "books", "--every", "1s", "--depth", "3",
             command=command)
assert books["valid"].all(), books
assert str(books.schema["time"]) == "Datetime(time_unit='ns', time_zone='UTC')", books.schema
assert str(books.schema["bid_price_0"]) == "Decimal(precision=38, scale=8)", books.schema
for row in books.with_columns(t=books["time"].dt.epoch("ms"), e=books["last_event_time"].dt.epoch("ms")).iter_rows(named=True):
    cells = [row["t"], row["e"], row["last_id"], row["bid_levels"], row["ask_levels"]]
    for i in range(3):
        cells += [row[f"ask_price_{i}"], row[f"ask_qty_{i}"], row[f"bid_price_{i}"], row[f"bid_qty_{i}"]]
    print(",".join(f"{cell}" for cell in cells))
"#,
    );
    let (_, rows) = text.split_once('\n').expect("a heading");
    assert!(rows.lines().count() > 60);
    assert_eq!(read, rows);
}

/// Following the table of deltas by three lines of Python gives the final book.
#[test]
fn deltas_make_the_book() {
    let Some(python) = python("polars") else { return };
    let root = refined();
    let book = about("book", root.path(), SPOT, "ethusdt", &["--at", "latest", "--csv"]).ok().text();
    let read = script(
        &python,
        root.path(),
        r#"
import sys
from notebook import read
command, root = sys.argv[1:]
deltas = read(root, "binance-spot", "ethusdt", "2024-08-08..2024-08-09", "deltas", command=command)
sides, begun = {"bid": {}, "ask": {}}, None
for row in deltas.iter_rows(named=True):
    if row["kind"] == "snapshot" and row["seq"] != begun:
        sides, begun = {"bid": {}, "ask": {}}, row["seq"]
    sides[row["side"]][row["price"]] = row["qty"]
print("side,price,qty")
for side, back in [("bid", True), ("ask", False)]:
    for price, qty in sorted(sides[side].items(), reverse=back):
        if qty:
            print(f"{side},{price},{qty}")
"#,
    );
    assert!(book.lines().count() > 1_000);
    assert_eq!(read, book);
}

#[test]
fn pandas_reads_the_trades_behind_a_pipe() {
    let Some(python) = python("pandas, pyarrow") else { return };
    let root = refined();
    let stream = export(root.path(), &["--as", "arrow", "--what", "trades", "-"]).ok().out;
    let path = root.path().join("trades.arrow");
    fs::write(&path, &stream).expect("a file");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/notebook.py");
    let input = fs::File::open(&path).expect("a file");
    let shown = run(Command::new(python).args(["-B"]).arg(docs).arg("--pandas").stdin(input)).ok().text();
    let count = trades(root.path());
    assert!(shown.contains(&format!("[{count} rows x 8 columns]")), "{count}: {shown}");
}

/// Trades that count, as `cat` says.
fn trades(root: &Path) -> usize {
    let told = about("cat", root, SPOT, "ethusdt", &["--stream", "trades", "--json"]).ok().text();
    told.lines().filter(|line| serde_json::from_str::<Value>(line).expect("JSON")["flags"] == 0).count()
}

#[test]
fn a_file_is_whole_and_always_the_same() {
    let root = refined();
    let count = trades(root.path());
    let path = |name: &str| root.path().join(name).display().to_string();
    let mut bytes = Vec::new();
    for (name, format) in
        [("a.arrow", "arrow"), ("b.arrow", "arrow"), ("a.parquet", "parquet"), ("b.parquet", "parquet")]
    {
        let ran = export(root.path(), &["--as", format, "--what", "trades", "--json", &path(name)]).ok();
        let told = ran.json();
        let file = fs::read(path(name)).expect("the file");
        assert_eq!((&told["rows"], &told["len"]), (&count.into(), &file.len().into()), "{told}");
        assert_eq!(told["columns"][4][0], "price", "{told}");
        bytes.push(file);
    }
    assert!(bytes[0] == bytes[1] && bytes[2] == bytes[3], "twice the same bytes");
    assert_eq!(
        bytes[0],
        export(root.path(), &["--as", "arrow", "--what", "trades"]).ok().out,
        "and on standard output"
    );
    assert_eq!((&bytes[2][..4], &bytes[2][bytes[2].len() - 4..]), (&b"PAR1"[..], &b"PAR1"[..]));

    let book = root.path().join("warm/v1/binance-spot/ethusdt/2024-08-08/book.q");
    let mut harmed = fs::read(&book).expect("the partition");
    let middle = harmed.len() / 2;
    harmed[middle] ^= 0x20;
    fs::write(&book, harmed).expect("a harmed file");
    export(root.path(), &["--as", "parquet", "--what", "deltas", &path("c.parquet")]).exits(1).says("book.q: offset ");
    let left: Vec<PathBuf> =
        fs::read_dir(root.path()).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    let leftover =
        |path: &&PathBuf| path.to_string_lossy().contains("c.parquet") || path.to_string_lossy().contains("/.chr");
    assert_eq!(left.iter().find(leftover), None, "no half of a file");
}

#[test]
fn a_wrong_call_is_told() {
    let root = refined();
    export(root.path(), &["--as", "parquet"]).exits(2).says("needs a FILE");
    export(root.path(), &["--as", "arrow", "--json"]).exits(2);
    export(root.path(), &["--as", "book-snapshot", "--what", "trades"]).exits(2);
    export(root.path(), &["--as", "arrow", "--what", "trades", "--price-scale", "1"]).exits(2).says("--qty-scale");
    export(root.path(), &["--as", "arrow", "--what", "trades", "--price-scale", "1", "--qty-scale", "8"])
        .exits(1)
        .says("trades.q: frame ")
        .says("does not fit a column with 1 of 38 digits behind the point");
    about("export", root.path(), SPOT, "nobody", &["--date", "2024-08-08", "--as", "arrow"])
        .exits(2)
        .says("there is binance-spot/ethusdt");
}

#[test]
fn features_lie_where_query_engines_look() {
    let root = refined();
    let told = about("derive", root.path(), SPOT, "ethusdt", &["--every", "1s", "--json"]).ok().json();
    let file = root.path().join("derived/book/venue=binance-spot/symbol=ethusdt/date=2024-08-08/book.parquet");
    assert_eq!(told["files"][0]["file"], file.display().to_string(), "{told}");
    assert!(told["files"][0]["rows"].as_u64().is_some_and(|rows| rows > 60), "{told}");
    let first = fs::read(&file).expect("the file");
    about("derive", root.path(), SPOT, "ethusdt", &["--every", "1s"]).ok();
    assert!(first == fs::read(&file).expect("the file"), "twice the same bytes");
    about("derive", root.path(), SPOT, "nobody", &[]).exits(2).says("there is binance-spot/ethusdt");
    let Some(python) = python("polars") else { return };
    let read = script(
        &python,
        root.path(),
        r#"
import polars, sys
frame = polars.read_parquet(sys.argv[2] + "/derived/**/*.parquet", hive_partitioning=True)
assert frame.columns == ["time", "valid", "mid", "spread", "microprice", "imbalance_1", "imbalance_5", "ofi", "venue",
                         "symbol", "date"], frame.columns
first = frame.row(0, named=True)
assert first["spread"] > 0 and -1 <= first["imbalance_5"] <= 1, first
print(len(frame), first["venue"], first["symbol"], first["date"])
"#,
    );
    let rows = &told["files"].as_array().expect("files").iter().map(|f| f["rows"].as_u64().expect("rows")).sum::<u64>();
    assert_eq!(read.trim(), format!("{rows} binance-spot ethusdt 2024-08-08"));
}
