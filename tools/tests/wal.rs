//! `chronicle wal`, as an operator meets it: a log looked at, checked, printed, damaged, cut, and measured.

mod support;

use chronicle::{
    System,
    core::wal::Kind,
    platform::WalWay,
    storage::wal::{Options, Threads, Wal},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use support::*;

/// Small segments, so that a log has several.
fn options() -> Options {
    Options {
        segment_len: 64 << 10,
        batch_len: 16 << 10,
        depth: 1,
        way: WalWay::Buffered,
        threads: Threads::Callers,
        ..Options::default()
    }
}

fn payload(seq: u64) -> String {
    format!("record {seq} {}", "x".repeat(seq as usize % 700))
}

/// A log of so many records, each committed; closed in order or dropped.
fn log(records: u64, close: bool) -> (tempfile::TempDir, PathBuf) {
    let dir = scratch();
    let path = dir.path().join("wal");
    let (wal, _) = Wal::open(&System, &path, &options()).unwrap();
    for seq in 1..=records {
        assert_eq!(wal.append(payload(seq).as_bytes()).unwrap(), seq);
        if seq == records / 2 {
            wal.append_control(Kind::Vote, b"for me").unwrap();
        }
        wal.commit(seq).unwrap();
    }
    if close {
        wal.close().unwrap();
    }
    (dir, path)
}

fn wal(verb: &str, dir: &Path, more: &[&str]) -> Ran {
    let dir = dir.to_str().expect("text");
    chronicle(["wal", verb, dir].into_iter().chain(more.iter().copied()))
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.text().lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// Flips a byte of record 20, far from the log's end.
fn damage(dir: &Path) -> (PathBuf, usize) {
    let found = (1..).map(|id| dir.join(format!("{id:020}.wal"))).take_while(|path| path.exists()).find_map(|path| {
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(10).position(|window| window == b"record 20 ")?;
        Some((path, at, bytes))
    });
    let (path, at, mut bytes) = found.expect("it is somewhere");
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    (path, at)
}

#[test]
fn a_whole_log_is_described_checked_and_printed() {
    let (_dir, path) = log(300, true);
    let described = wal("inspect", &path, &["--json"]).ok().json();
    assert_eq!(described["recovery"]["next_seq"], 301);
    assert_eq!(described["recovery"]["clean"], true);
    let segments = described["segments"].as_array().unwrap();
    assert!(segments.len() > 2);
    assert_eq!(segments.last().unwrap()["state"], "closed");
    let records: u64 = segments.iter().map(|segment| segment["batches"]["records"].as_u64().unwrap()).sum();
    assert_eq!(records, 300);
    wal("inspect", &path, &[]).ok().says("records 1 to 300").says("closed");

    let verified = wal("verify", &path, &["--json"]).ok().json();
    assert_eq!((&verified["records"], &verified["problems"]), (&300.into(), &Value::Array(vec![])));
    wal("verify", &path, &[]).ok().says("300 records").says("whole");

    let printed = lines(&wal("cat", &path, &["--json"]).ok());
    assert_eq!(printed.len(), 300);
    for (record, seq) in printed.iter().zip(1..) {
        let hex: String = payload(seq).bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((&record["seq"], &record["payload"]), (&seq.into(), &hex.into()));
    }
    let some = lines(&wal("cat", &path, &["--json", "--from", "150", "--limit", "3", "--controls"]).ok());
    let kinds: Vec<_> = some.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["data", "vote", "data"], "the vote stands where it was appended");
    wal("cat", &path, &["--limit", "1"]).ok().says("record 1 x");
    wal("truncate", &path, &[]).ok().says("nothing to cut");
}

#[test]
fn what_a_dead_writer_left_unproved_is_shown_on_request() {
    let (_dir, path) = log(10, false);
    // What its writer said of durability stays true as long as the machine is up; as after a restart, without that:
    assert_eq!(lines(&wal("cat", &path, &["--json"]).ok()).len(), 10);
    fs::remove_file(path.join("state.meta")).unwrap();
    let described = wal("inspect", &path, &["--json"]).ok().json();
    assert_eq!(described["recovery"]["clean"], false);
    assert_eq!(described["recovery"]["next_seq"], 11);
    let proved = lines(&wal("cat", &path, &["--json"]).ok());
    assert!(proved.len() < 10 && proved.iter().all(|record| record["unproven"] == false));
    let all = lines(&wal("cat", &path, &["--json", "--unproven"]).ok());
    assert_eq!(all.len(), 10);
    assert_eq!(all[9]["unproven"], true);
    wal("verify", &path, &[]).ok().says("whole");
}

#[test]
fn damage_is_named_with_file_and_offset_and_cut_only_when_told() {
    let (_dir, path) = log(300, true);
    let (file, at) = damage(&path);
    let found = wal("verify", &path, &["--json"]).exits(1).json();
    let problem = &found["problems"][0];
    assert_eq!(problem["path"], file.to_str().unwrap());
    let offset = problem["offset"].as_u64().unwrap() as usize;
    assert!(offset <= at && at - offset < 100, "{offset} is the frame around {at}");
    wal("inspect", &path, &[]).exits(1).says("damaged");
    assert!(Wal::open(&System, &path, &options()).is_err(), "nothing is repaired in silence");

    let before = fs::read(&file).unwrap();
    wal("truncate", &path, &[]).exits(1).says("lost").says("records 1 to 19").says("--discard");
    assert_eq!(fs::read(&file).unwrap(), before, "without --discard nothing changes");
    let told = wal("truncate", &path, &["--json"]).exits(1).json();
    assert_eq!((&told["done"], &told["plan"]["next_seq"]), (&false.into(), &20.into()));

    wal("truncate", &path, &["--discard"]).ok().says("done");
    assert_eq!(fs::read(&file).unwrap(), before, "the damaged file keeps its bytes");
    assert!(fs::read_dir(&path).unwrap().any(|entry| entry.unwrap().path().extension().is_some_and(|it| it == "cut")));
    let (log, recovery) = Wal::open(&System, &path, &options()).unwrap();
    assert_eq!((recovery.first_seq, recovery.next_seq), (1, 20));
    assert_eq!(log.append(b"on").unwrap(), 20);
    log.commit(20).unwrap();
    log.close().unwrap();
    wal("verify", &path, &[]).ok().says("20 records");
}

#[test]
fn a_living_log_is_looked_at_and_followed() {
    let dir = scratch();
    let path = dir.path().join("wal");
    let (log, _) = Wal::open(&System, &path, &options()).unwrap();
    log.append(b"first").unwrap();
    log.commit(1).unwrap();
    let described = wal("inspect", &path, &["--json"]).ok().json();
    assert_eq!((&described["writer"]["state"], &described["writer"]["durable_seq"]), (&"alive".into(), &1.into()));
    log.append(b"not yet durable").unwrap();
    assert_eq!(lines(&wal("cat", &path, &["--json"]).ok()).len(), 1);

    let at = path.clone();
    let follower = std::thread::spawn(move || wal("cat", &at, &["--json", "--follow", "--limit", "3"]).ok());
    std::thread::sleep(Duration::from_millis(50));
    log.commit(2).unwrap();
    log.append(b"third").unwrap();
    log.commit(3).unwrap();
    let seen: Vec<_> = lines(&follower.join().unwrap()).iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn bench_prints_what_was_asked_and_leaves_nothing() {
    let dir = scratch();
    let path = dir.path().join("made").join("here");
    let rows = lines(&wal("bench", &path, &["--json", "--seconds", "0.03", "--async"]).ok());
    assert!(!dir.path().join("made").exists(), "what was not there is gone again");
    let shape: Vec<_> =
        rows.iter().map(|row| (row["committers"].as_u64().unwrap(), row["record_bytes"].as_u64().unwrap())).collect();
    assert_eq!(shape, [(1, 128), (1, 1024), (8, 128), (8, 1024), (64, 128), (64, 1024), (1, 128), (1, 1024)]);
    for row in &rows {
        assert!(row["commits_per_s"].as_f64().unwrap() > 0.0 && row["floor_commits_per_s"].as_f64().unwrap() > 0.0);
        assert!(row["driver"].is_string());
        assert_eq!(row["p99_us"].is_null(), row["wait"] == "async");
        assert!(row["p50_us"].as_f64() <= row["p99_us"].as_f64());
    }
    fs::create_dir(dir.path().join("mine")).unwrap();
    wal("bench", &dir.path().join("mine"), &["--seconds", "0.01", "--way", "buffered"]).ok().says("of floor");
    assert!(dir.path().join("mine").read_dir().unwrap().next().is_none(), "what was there stays, and stays empty");
}

#[test]
fn called_wrongly_it_says_so() {
    let dir = scratch();
    for verb in ["inspect", "verify", "cat", "truncate"] {
        wal(verb, &dir.path().join("none"), &[]).exits(2).says("no such directory");
    }
    wal("inspect", dir.path(), &[]).exits(2).says("no log");
    wal("verify", dir.path(), &[]).exits(2).says("no log");
    wal("bench", dir.path(), &["--way", "fast"]).exits(2);
    wal("bench", dir.path(), &["--seconds", "-1"]).exits(2);
    let file = dir.path().join("file");
    fs::write(&file, b"no log").unwrap();
    wal("cat", &file, &[]).exits(2).says("is a file");
    wal("bench", &file, &[]).exits(2).says("is a file");
}
