//! The bytes of a partition depend on the records alone: not on when they came, what came between, or who was killed.
//!
//! Every way of bringing the same recordings into a root must leave the same tree under `warm/v1`, `meta.json` included.

mod support;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use support::*;

const SPOT: &str = "binance-spot";

fn partitions(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    tree(&root.join("warm/v1"))
}

fn days() -> Option<[PathBuf; 2]> {
    let data = recordings()?.join(SPOT);
    Some([data.join("btcusdt_20240808.gz"), data.join("btcusdt_20240809.gz")])
}

#[test]
fn two_days_at_once_or_in_turn() {
    let Some([first, second]) = days() else { return };
    let at_once = scratch();
    import(at_once.path(), SPOT, &[first.clone(), second.clone()]).ok();
    let report = refine(at_once.path(), &[]).ok();
    let dates: Vec<_> = partitions(at_once.path()).into_keys().filter(|name| name.ends_with("book.q")).collect();
    assert_eq!(
        dates,
        ["2024-08-08", "2024-08-09"].map(|date| Path::new("binance-spot/btcusdt").join(date).join("book.q")),
        "two days are two partitions"
    );

    let in_turn = scratch();
    import(in_turn.path(), SPOT, &[first]).ok();
    refine(in_turn.path(), &[]).ok();
    import(in_turn.path(), SPOT, &[second]).ok();
    let last = refine(in_turn.path(), &[]).ok();
    assert_eq!(report.json(), last.json());
    assert_same("in turn", &partitions(at_once.path()), &partitions(in_turn.path()));

    let before = partitions(in_turn.path());
    refine(in_turn.path(), &[]).ok();
    assert_same("refined twice", &before, &partitions(in_turn.path()));

    for root in [at_once.path(), in_turn.path()] {
        refine(root, &["--seal"]).ok();
    }
    assert_same("sealed", &partitions(at_once.path()), &partitions(in_turn.path()));
    let before = partitions(in_turn.path());
    refine(in_turn.path(), &["--seal"]).ok();
    assert_same("sealed twice", &before, &partitions(in_turn.path()));
}

#[test]
fn two_symbols_in_either_order() {
    let Some(data) = recordings() else { return };
    let [btc, eth] = ["btcusdt_20240809.gz", "ethusdt_20240808.gz"].map(|name| data.join(SPOT).join(name));
    let (one, other) = (scratch(), scratch());
    import(one.path(), SPOT, &[btc.clone(), eth.clone()]).ok();
    refine(one.path(), &["--seal"]).ok();
    import(other.path(), SPOT, &[eth]).ok();
    refine(other.path(), &[]).ok();
    import(other.path(), SPOT, &[btc]).ok();
    refine(other.path(), &["--seal"]).ok();
    assert!(partitions(one.path()).len() >= 8, "both symbols are there");
    assert_same("the other order", &partitions(one.path()), &partitions(other.path()));
}

/// Kills in the middle of what takes longest, then lets it finish; the seed is printed.
#[test]
fn refine_killed_at_random_moments() {
    let recording = days().map_or_else(excerpt, |[first, _]| first);
    let whole = scratch();
    import(whole.path(), SPOT, std::slice::from_ref(&recording)).ok();
    let root = scratch();
    copy(whole.path(), root.path());
    let began = Instant::now();
    refine(whole.path(), &["--seal"]).ok();
    let takes = began.elapsed();

    let mut random = Random::seeded();
    let mut killed = 0;
    for round in 0..12 {
        let seal: &[&str] = if round < 6 { &[] } else { &["--seal"] };
        let mut child = Command::new(BINARY)
            .args(["refine", "--root"])
            .arg(root.path())
            .args(seal)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_nanos(random.below(takes.as_nanos() as u64)));
        child.kill().expect("SIGKILL");
        let status = child.wait().expect("it ends");
        killed += u32::from(status.code().is_none());
        assert!(matches!(status.code(), None | Some(0)), "it ends by the signal or because it is done: {status}");
        if round % 4 == 1 && root.path().join("warm/v1").is_dir() {
            verify(root.path()).ok();
        }
    }
    eprintln!("killed in {killed} of 12 rounds, one run takes {} ms", takes.as_millis());
    refine(root.path(), &["--seal"]).ok();
    assert_same("after kills", &partitions(whole.path()), &partitions(root.path()));
    verify(root.path()).ok();
}

/// A killed import leaves whole records only, and the next one goes on; what came twice is counted as such.
#[test]
fn import_killed_at_random_moments() {
    let root = scratch();
    let mut random = Random::seeded();
    for _ in 0..4 {
        let mut child = Command::new(BINARY)
            .args(["import", "--venue", SPOT, "--root"])
            .arg(root.path())
            .arg(excerpt())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_millis(random.below(600)));
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
    }
    import(root.path(), SPOT, &[excerpt()]).ok();
    let report = refine(root.path(), &[]).ok().json();
    let book = report["partitions"].as_array().expect("partitions").iter().find(|p| p["stream"] == "book");
    assert_eq!(book.expect("a book")["gaps"].as_array().map(Vec::len), Some(0), "{report}");
    let once = scratch();
    import(once.path(), SPOT, &[excerpt()]).ok();
    refine(once.path(), &[]).ok();
    let book = |root: &Path| about("book", root, SPOT, "ethusdt", &["--at", "latest", "--csv"]).ok().out;
    assert!(book(root.path()) == book(once.path()), "the book is the same");
    verify(root.path()).ok();
}
