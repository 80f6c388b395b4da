//! Whatever the payload and wherever the log: every event that `stress` sends is persisted, read back and compared.

use serde_json::Value;
use std::{fs, path::Path, process::Command};

fn stress(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stress")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn whole(args: &[&str]) -> Value {
    let (code, out, err) = stress(args);
    assert_eq!(code, Some(0), "{args:?}\n{out}\n{err}");
    let json: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}\n{out}"));
    let sent = json["sent"].as_u64().unwrap();
    for key in ["persisted", "replayed", "verified"] {
        assert_eq!(json[key].as_u64(), Some(sent), "{args:?}: {key}\n{out}");
    }
    assert_eq!(json["dropped"].as_u64(), Some(0), "{args:?}\n{out}");
    assert!(sent > 0, "{args:?}\n{out}");
    for key in ["events_per_s", "bytes_per_s", "seconds"] {
        assert!(json[key].as_f64().unwrap() > 0.0, "{args:?}: {key}\n{out}");
    }
    json
}

#[test]
fn all_is_verified_with_any_payload() {
    for payload in ["0", "1", "64", "100", "1500", "65535"] {
        let json = whole(&["--seconds", "0.5", "--payload", payload, "--bytes", "32MiB", "--json"]);
        assert_eq!(json["prepared_bytes"], 32 << 20);
        let json = whole(&["--seconds", "0.5", "--payload", payload, "--bytes", "32MiB", "--memory", "--json"]);
        let event = payload.parse::<f64>().unwrap() + 16.0;
        let ratio = json["bytes_per_s"].as_f64().unwrap() / (json["events_per_s"].as_f64().unwrap() * event);
        assert!((ratio - 1.0).abs() < 1e-6);
    }
}

#[test]
fn a_log_that_is_full_ends_the_run_early_and_says_so() {
    let json = whole(&["--seconds", "60", "--bytes", "1MiB", "--json"]);
    assert_eq!(json["stopped_early"], true);
    assert_eq!(json["sent"], ((1 << 20) - 64) / 80);
    let (code, out, _) = stress(&["--seconds", "60", "--bytes", "1MiB"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("stopped early") && out.contains("with preparation"), "{out}");
    let json = whole(&["--seconds", "0.2", "--payload", "65535", "--bytes", "1GiB", "--memory", "--json"]);
    assert!(json["seconds"].as_f64().unwrap() < 30.0);
}

#[test]
fn the_file_lies_where_it_should_and_is_gone_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.evtl");
    let path = path.to_str().unwrap();
    let (code, out, err) = stress(&["--seconds", "0.2", "--bytes", "8MiB", "--persist", path]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(path), "{out}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    fs::write(path, "mine").unwrap();
    let (code, _, err) = stress(&["--seconds", "0.2", "--bytes", "8MiB", "--persist", path]);
    assert_eq!((code, err.contains("exists")), (Some(2), true), "{err}");
    assert_eq!(fs::read(path).unwrap(), b"mine");
}

#[test]
fn wrong_calls_are_refused() {
    for args in [
        &["--seconds", "0"][..],
        &["--seconds", "x"],
        &["--bytes", "12GB"],
        &["--bytes", "10"],
        &["--payload", "65536"],
        &["--memory", "--persist", "/x"],
        &["surplus"],
    ] {
        let (code, out, err) = stress(args);
        assert_eq!(code, Some(2), "{args:?}\n{out}\n{err}");
    }
    let missing = Path::new("/no/such/directory/log");
    let (code, _, err) = stress(&["--bytes", "1MiB", "--persist", missing.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{err}");
    let (code, out, _) = stress(&["--help"]);
    assert!(code == Some(0) && out.contains("Examples"), "{out}");
}
