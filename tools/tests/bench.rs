//! `chronicle bench host`: figures with how they were waited for, and nothing left behind.

mod support;

use std::process::{Command, Stdio};
use support::*;

#[test]
fn a_short_run() {
    let dir = scratch();
    let ran = run(Command::new(BINARY)
        .args(["bench", "host", "--seconds", "1", "--json"])
        .arg(dir.path())
        .stdin(Stdio::null()))
    .ok();
    let report = ran.json();
    let rows = report["rows"].as_array().expect("rows");
    for what in [
        "read the clock",
        "append 64 B to a queue",
        "append → reader has it",
        "write 4 KiB and sync",
        "commit 128 B to a WAL",
        "sleep 100 µs, too long by",
        "away from the core",
    ] {
        assert!(rows.iter().any(|row| row["what"] == what), "{what}: {}", ran.text());
    }
    for row in rows {
        assert!(row["wait"].is_string() && row["cores"].is_string(), "{row}");
        let at = |name: &str| row[name].as_u64().expect("a number");
        assert!(at("p50_ns") <= at("p99_ns") && at("p99_ns") <= at("p999_ns"), "{row}");
        // Histograms keep three figures; a core may never have been taken away.
        assert!(at("p999_ns") <= at("max_ns") + at("max_ns") / 100, "{row}");
        assert!(row["what"] == "away from the core" || at("count") > 0, "{row}");
    }
    let cores = report["host"]["cores"].as_array().expect("cores").len();
    let pairs = rows.iter().filter(|row| row["what"] == "cache line to another core").count();
    assert_eq!(pairs > 0, cores > 1, "{}", ran.text());
    assert!(report["verdict"].is_string() && report["advice"].is_array());
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "something is left");
}

#[test]
fn people_read_a_table() {
    let dir = scratch();
    run(Command::new(BINARY).args(["bench", "host", "--seconds", "0.5"]).arg(dir.path()).stdin(Stdio::null()))
        .ok()
        .says("waits")
        .says("p99.9")
        .says("queues in ");
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "something is left");
}

#[test]
fn called_wrongly() {
    chronicle(["bench", "host", "/nowhere/at/all"]).exits(2).says("no such directory");
    chronicle(["bench", "host", "--seconds", "0"]).exits(2).says("--seconds");
    chronicle(["bench"]).exits(2);
}
