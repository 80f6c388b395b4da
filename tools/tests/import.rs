//! What an import says of its files, also when it cannot go on; and roots that cannot be one.

mod support;

use std::{fs, path::Path, process::Command, process::Stdio};
use support::*;

const SPOT: &str = "binance-spot";

/// No recorder writes an empty line: it counts as malformed, and is called what it is.
#[test]
fn empty_lines() {
    let dir = scratch();
    let text = gunzip(&excerpt());
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').take(30).collect();
    let with_empty = [&lines[..10].concat()[..], b"\n", &lines[10..20].concat(), b"  \r\n\n", &lines[20..].concat()];
    let file = dir.path().join("recording");
    fs::write(&file, with_empty.concat()).expect("a file");
    let told = import(&dir.path().join("root"), SPOT, std::slice::from_ref(&file)).exits(1).json();
    let report = &told["files"][0];
    assert_eq!((&report["lines"], &report["malformed"]), (&33.into(), &3.into()), "{told}");
    let found: Vec<_> = report["malformed_lines"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|bad| (bad["line"].as_u64(), bad["why"].as_str()))
        .collect();
    assert_eq!(found, [11, 22, 23].map(|line| (Some(line), Some("empty line"))), "{told}");
    assert!(told["error"].is_null(), "{told}");
    let mut command = Command::new(BINARY);
    command.args(["import", "--venue", SPOT, "--root"]).arg(dir.path().join("other")).arg(&file);
    run(&mut command).exits(1).says("line 11 at byte").says(": empty line");
}

/// What was imported before the disk was full is reported, with what stopped the rest.
#[test]
fn a_full_disk_takes_no_report_away() {
    let probe = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let dir = scratch();
    let full = |size: &str, json: &str, files: &[&Path]| {
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs \"$1\" || exit 90; root=$1; shift
             exec \"$0\" import {json} --venue binance-spot --root \"$root\" \"$@\""
        );
        run(Command::new("unshare").args(["-m", "sh", "-c", &script, BINARY]).arg(dir.path()).args(files))
    };
    // Not even the queue has room.
    let ran = full("2m", "--json", &[&excerpt()]).exits(1).says("No space left");
    let told = ran.json();
    assert_eq!(told["files"], serde_json::json!([]), "{told}");
    assert_eq!(told["imported"], false, "{told}");
    assert!(told["error"]["file"].is_null(), "{told}");
    assert!(told["error"]["why"].as_str().is_some_and(|why| why.contains(".fresh: allocate failed")), "{told}");

    // All of both files goes in, and what comes after has no room.
    let ran = full("36m", "--json --again", &[&excerpt(), &excerpt()]).exits(1).says("No space left");
    let told = ran.json();
    let lines: Vec<_> = told["files"].as_array().into_iter().flatten().map(|file| file["lines"].as_u64()).collect();
    assert_eq!(lines, [Some(15_000); 2], "{told}");
    assert_eq!(told["imported"], true, "{told}");
    assert!(told["error"]["file"].is_null(), "{told}");

    // The disk is full in the middle of the second file: so many of its records are in.
    let long = dir.path().with_extension("long");
    fs::write(&long, fs::read(excerpt()).expect("the excerpt").repeat(32)).expect("a file");
    let ran = full("68m", "--json", &[&excerpt(), &long]);
    fs::remove_file(&long).expect("removed");
    let told = ran.exits(1).says("No space left").says("stopped after").json();
    assert_eq!(told["files"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told["error"]["file"], long.file_name().and_then(|name| name.to_str()).expect("text"), "{told}");
    let records = told["error"]["records"].as_u64().expect("a count");
    assert!((100_000..32 * 15_000).contains(&records), "{told}");

    full("36m", "--again", &[&excerpt(), &excerpt()]).exits(1).says("15,000 lines, sha256").says("No space left");
}

/// A root, a tier or what lies above them that is a plain file: called wrongly, whatever the command.
#[test]
fn roots_that_are_files() {
    let dir = scratch();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    let behind = file.join("root");
    let whole = dir.path().join("whole");
    import(&whole, SPOT, &[excerpt()]).ok();
    let book = ["--venue", SPOT, "--symbol", "ethusdt"];
    let recording = excerpt();
    let recording = recording.to_str().expect("text");
    for (command, more) in [
        (&["import"][..], &["--venue", SPOT, recording][..]),
        (&["refine"], &[]),
        (&["tier", "run", "--once"], &[]),
        (&["book"], &[&book[..], &["--at", "latest"]].concat()),
        (&["export"], &[&book[..], &["--date", "2024-08-08", "--as", "book-snapshot"]].concat()),
        (&["cat"], &book),
    ] {
        let with = |root: &Path, tiers: &[&str]| {
            run(Command::new(BINARY).args(command).arg("--root").arg(root).args(tiers).args(more))
        };
        let name = file.to_str().expect("text");
        with(&file, &[]).exits(2).says(&format!("{name}: is a file, not a directory"));
        with(&behind, &[]).exits(2).says(&format!("{name}/root: goes through a file"));
        for tier in ["--hot", "--warm", "--cold"] {
            with(&whole, &[tier, name]).exits(2).says(&format!("{name}: is a file, not a directory"));
        }
    }
    chronicle(["demo", "--seconds", "0", "--keep", file.to_str().expect("text")]).exits(2).says("is a file");
    assert_eq!(fs::read(&file).expect("the file"), b"not a directory");
}
