//! Recordings of every format through `import` and `refine`: told by their content, imported once, gone on with after a kill.
//!
//! What would be lost without it: a book that depends on the order of two files, a record twice or not at all after a kill, a
//! file that is imported again under another name.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use support::*;

const SPOT: &str = "binance-spot";

/// Imports what its content tells.
#[track_caller]
fn told(root: &Path, more: &[&str], files: &[PathBuf]) -> Ran {
    let mut command = Command::new(BINARY);
    run(command.args(["import", "--json", "--root"]).arg(root).args(more).args(files).stdin(Stdio::null()))
}

/// A book's lines, its numbers without trailing zeros.
fn trimmed(csv: &[u8]) -> Vec<String> {
    let trim = |cell: &str| match cell.contains('.') {
        true => cell.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => cell.to_owned(),
    };
    let line = |line: &str| line.split(',').map(trim).collect::<Vec<_>>().join(",");
    String::from_utf8_lossy(csv).lines().map(line).collect()
}

fn partition<'a>(report: &'a serde_json::Value, stream: &str) -> &'a serde_json::Value {
    let all = report["partitions"].as_array().expect("partitions");
    all.iter().find(|p| p["stream"] == stream).unwrap_or_else(|| panic!("no {stream}: {report}"))
}

#[test]
fn tardis_books_are_those_of_the_recording() {
    let Some(data) = recordings() else { return };
    let (derived, own) = (scratch(), scratch());
    let files = ["incremental_book_L2", "trades"]
        .map(|kind| data.join(format!("tardis-schema-derived/binance_{kind}_2024-08-08_BTCUSDT.csv.gz")));
    let ran = told(derived.path(), &[], &files).ok().json();
    let file = |index: usize| &ran["files"][index];
    assert_eq!((&file(0)["format"], &file(0)["venue"]), (&"tardis".into(), &"binance".into()));
    assert_eq!((&file(0)["by_kind"]["incremental_book_L2"], &file(0)["records"]), (&126_058.into(), &3_449.into()));
    assert_eq!(file(1)["by_kind"]["trades"], 9_757);
    let report = refine(derived.path(), &[]).ok().json();
    let applied = |stream: &str| {
        let all = report["partitions"].as_array().into_iter().flatten().filter(|p| p["stream"] == stream);
        all.map(|p| p["applied"].as_u64().expect("a count")).sum::<u64>()
    };
    assert_eq!((applied("book"), applied("trades")), (3_448, 9_757), "{report}");

    import(own.path(), SPOT, &[data.join("binance-spot/btcusdt_20240808.gz")]).ok();
    refine(own.path(), &[]).ok();
    let book = |root: &Path, venue: &str, at: &str| {
        trimmed(&about("book", root, venue, "btcusdt", &["--at", at, "--csv"]).ok().out)
    };
    for at in ["latest", "2024-08-08T23:57:00Z"] {
        let books = [book(derived.path(), "binance", at), book(own.path(), SPOT, at)];
        assert!(books[0].len() > 2_000 && books[0] == books[1], "{at}: another book");
    }
}

#[test]
fn hyperliquids_repeated_trades_are_counted() {
    let Some(data) = recordings() else { return };
    let root = scratch();
    let ran = told(root.path(), &[], &[data.join("hyperliquid/btcusd_20250126.gz")]).ok().json();
    assert_eq!((&ran["files"][0]["lines"], &ran["files"][0]["venue"]), (&55.into(), &"hyperliquid".into()));
    // As after a new subscription, whose first message has what was there before.
    told(root.path(), &["--again"], &[data.join("hyperliquid/btcusd_20250126.gz")]).ok();
    let report = refine(root.path(), &[]).ok().json();
    let trades = partition(&report, "trades");
    assert_eq!((&trades["events"], &trades["applied"], &trades["duplicates"]), (&128.into(), &64.into(), &64.into()));
    let book = partition(&report, "book");
    assert_eq!(book["gaps"].as_array().map(Vec::len), Some(0));
    let csv = about("book", root.path(), "hyperliquid", "btc", &["--at", "latest", "--csv"]).ok().text();
    assert_eq!(csv.lines().count(), 41, "20 levels a side:\n{csv}");
}

/// Snapshots lie in one file and deltas in the other: ids join them, whichever comes first.
#[test]
fn two_files_in_either_order() {
    let Some(data) = recordings() else { return };
    for (name, venue, golden) in [("BINANCE", SPOT, "spot"), ("BINANCE_FUTURES", "binance-usdm", "usdm")] {
        let golden = gunzip(&data.join(format!("golden/multisymbol_{golden}_final_books.csv.gz")));
        let golden = String::from_utf8(golden).expect("text");
        let files = ["ws.1.0", "http.0.0"].map(|kind| data.join(format!("binance-multisymbol/{name}.{kind}.gz")));
        let [stream, answers] = files.clone();
        for files in [[stream.clone(), answers.clone()], [answers, stream]] {
            let root = scratch();
            let ran = told(root.path(), &[], &files).ok().json();
            assert_eq!(ran["files"][1]["venue"], venue);
            refine(root.path(), &[]).ok();
            let mut symbols: Vec<_> = golden.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
            symbols.dedup();
            assert_eq!(symbols.len(), 4);
            for symbol in symbols {
                let code = symbol.to_lowercase();
                let book = about("book", root.path(), venue, &code, &["--at", "latest", "--csv"]).ok().text();
                let own = golden.lines().filter_map(|line| line.strip_prefix(symbol)?.strip_prefix(','));
                assert!(book.lines().skip(1).eq(own), "{name} {symbol}: another book");
            }
        }
    }
}

#[test]
fn databento_files_are_counted_by_kind() {
    let Some(data) = recordings() else { return };
    let root = scratch();
    let files = [
        ("esh4-glbx-mdp3-20231225.mbo", "mbo", 68_792),
        ("futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02", "mbp-1", 2_288),
        ("dbn-fixtures/test_data.definition.v2", "definition", 2),
        ("dbn-fixtures/test_data.status.v3", "status", 4),
    ];
    let paths: Vec<_> = files.iter().map(|(name, ..)| data.join(format!("databento/{name}.dbn.zst"))).collect();
    let ran = told(root.path(), &[], &paths).ok().json();
    for (index, (name, kind, count)) in files.iter().enumerate() {
        let report = &ran["files"][index];
        assert_eq!((&report["by_kind"][kind], &report["format"]), (&(*count).into(), &"dbn".into()), "{name}");
    }
    assert_eq!(ran["files"][0]["venue"], "glbx-mdp3");
    assert!(root.path().join("hot/streams/raw/glbx-mdp3/queue").is_dir());
    verify(root.path()).ok();
}

/// What cannot be known is asked for, and what contradicts the data is refused.
#[test]
fn whose_and_what() {
    let dir = scratch();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let root = dir.path().join("root");
    let row = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n../x,B,1583020803145000,1583020803307160,1,buy,1,1\n";
    let nobodys = file("tardis", row);
    let tardis = file("other", &row.replace("../x", "bitmex"));
    let letters = file("letters", "a,b,c\n1,2,3\n");
    told(&root, &[], &[excerpt()]).exits(2).says("does not say whose data it is").says("--venue");
    told(&root, &[], std::slice::from_ref(&letters)).exits(2).says("--format");
    told(&root, &[], &[nobodys]).exits(2).says("../x");
    told(&root, &["--venue", "deribit"], std::slice::from_ref(&tardis)).exits(2).says("it is of bitmex");
    told(&root, &["--venue", "deribit"], &[excerpt()]).exits(2).says("binance-spot");
    told(&root, &["--format", "csv"], &[excerpt()]).exits(2).says("tardis");
    assert!(!root.exists(), "nothing was made of it");
    told(&root, &["--format", "tardis", "--venue", "bitmex"], &[letters]).exits(1).says("no header");
    told(&root, &["--venue", "bitmex"], &[tardis]).ok();
    refine(&root, &[]).ok().says("bitmex");
}

#[test]
fn a_file_is_imported_once() {
    let dir = scratch();
    let root = dir.path().join("root");
    import(&root, SPOT, &[excerpt()]).ok();
    let report = refine(&root, &[]).ok().json();
    let before = tree(&root.join("warm/v1"));
    // Also under another name, and unpacked it is another file.
    let other = dir.path().join("other-name.gz");
    fs::copy(excerpt(), &other).expect("a copy");
    let ran = import(&root, SPOT, &[excerpt(), other.clone()]).ok().json();
    assert_eq!(ran["files"], serde_json::json!([]));
    let skipped = &ran["skipped"][1];
    assert_eq!((&skipped["name"], &skipped["records"]), (&"other-name.gz".into(), &15_000.into()), "{ran}");
    let words = run(Command::new(BINARY).args(["import", "--venue", SPOT, "--root"]).arg(&root).arg(&other)).ok();
    assert!(words.text().contains("other-name.gz: skipped: already imported as ethusdt-"), "{}", words.text());
    assert_eq!(refine(&root, &[]).ok().json(), report);
    assert_same("skipped", &before, &tree(&root.join("warm/v1")));
    // Twice at once it is one, and on demand it is there again.
    let once = scratch();
    let ran = import(once.path(), SPOT, &[excerpt(), excerpt()]).ok().json();
    assert_eq!((ran["files"].as_array().map(Vec::len), ran["skipped"].as_array().map(Vec::len)), (Some(1), Some(1)));
    let again =
        run(Command::new(BINARY).args(["import", "--again", "--venue", SPOT, "--root"]).arg(&root).arg(excerpt()));
    again.ok().says("15,000 lines");
    let report = refine(&root, &[]).ok().json();
    assert!(partition(&report, "book")["duplicates"].as_u64() > Some(1_000), "{report}");
}

#[test]
fn a_ledger_that_was_changed() {
    let dir = scratch();
    let root = dir.path().join("root");
    import(&root, SPOT, &[excerpt()]).ok();
    let ledger = root.join("state/import/binance-spot.ledger");
    let text = fs::read_to_string(&ledger).expect("the ledger");
    assert_eq!(text.lines().count(), 2, "{text}");
    fs::write(&ledger, text.replace("15000", "15001")).expect("changed");
    import(&root, SPOT, &[excerpt()]).exits(1).says("line 2 at byte").says("checksum");
    // Half a line is what a crash leaves.
    fs::write(&ledger, &text[..text.len() - 7]).expect("cut");
    let ran = import(&root, SPOT, &[excerpt()]).ok().json();
    assert_eq!((&ran["files"][0]["already"], &ran["files"][0]["records"]), (&15_000.into(), &15_000.into()));
    assert_eq!(fs::read_to_string(&ledger).expect("the ledger").lines().count(), 2);
}

/// Kills at random moments; whatever was in is not imported twice, and nothing is left out. The seed is printed.
#[test]
fn half_an_import_goes_on() {
    let mut files = vec![excerpt()];
    if let Some(data) = recordings() {
        files.push(data.join("binance-spot/btcusdt_20240808.gz"));
    }
    let whole = scratch();
    let began = Instant::now();
    import(whole.path(), SPOT, &files).ok();
    let takes = began.elapsed();
    refine(whole.path(), &["--seal"]).ok();
    let mut random = Random::seeded();
    let (mut killed, mut went_on) = (0, 0);
    for round in 0..3 {
        let root = scratch();
        for _ in 0..4 {
            let mut child = Command::new(BINARY)
                .args(["import", "--json", "--venue", SPOT, "--root"])
                .arg(root.path())
                .args(&files)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            std::thread::sleep(Duration::from_nanos(random.below(takes.as_nanos() as u64)));
            child.kill().expect("SIGKILL");
            killed += u32::from(child.wait().expect("it ends").code().is_none());
        }
        let ran = import(root.path(), SPOT, &files).ok().json();
        let reports = ran["files"].as_array().expect("files");
        went_on += reports.iter().filter(|file| file["already"].as_u64() > Some(0)).count();
        let skipped = ran["skipped"].as_array().map_or(0, Vec::len);
        assert_eq!(reports.len() + skipped, files.len(), "{ran}");
        refine(root.path(), &["--seal"]).ok();
        let trees = [whole.path(), root.path()].map(|root| tree(&root.join("warm/v1")));
        assert_same(&format!("round {round}"), &trees[0], &trees[1]);
        verify(root.path()).ok();
    }
    eprintln!("killed {killed} of 12, went on in the middle of {went_on} files");
}
