//! A replay into a queue is the live stream over again: who refines it gets the same books, and it comes when it is due.

mod support;

use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use support::*;

const SPOT: &str = "binance-spot";

fn refined() -> tempfile::TempDir {
    let root = scratch();
    import(root.path(), SPOT, &[excerpt()]).ok();
    refine(root.path(), &[]).ok();
    root
}

fn replay(root: &Path, more: &[&str]) -> Ran {
    run(Command::new(BINARY).args(["replay", "--root"]).arg(root).args(more).stdin(Stdio::null()))
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.text().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// What the archive says about the symbol.
fn answers(root: &Path) -> [Vec<u8>; 2] {
    let book = about("book", root, SPOT, "ethusdt", &["--at", "latest", "--csv"]).ok().out;
    let days = ["--date", "2024-08-08..2024-08-09", "--as", "book-snapshot", "--depth", "10", "--every", "500ms"];
    [book, about("export", root, SPOT, "ethusdt", &days).ok().out]
}

#[test]
fn a_replay_into_queues_makes_the_same_books() {
    let root = refined();
    let other = scratch();
    let into = other.path().join("again");
    let told = replay(root.path(), &["--into", &into.display().to_string(), "--json"]).ok().json();
    assert!(told["records"].as_u64().is_some_and(|records| records > 1_000), "{told}");
    refine(&into, &[]).ok();
    assert!(answers(root.path()) == answers(&into), "other books");
    verify(&into).ok();
    let streams = |root: &Path| {
        ["trades", "quotes"].map(|stream| {
            let told = about("cat", root, SPOT, "ethusdt", &["--stream", stream, "--json"]).ok().text();
            let records =
                told.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["payload"].clone());
            records.collect::<Vec<_>>()
        })
    };
    assert_eq!(streams(root.path()), streams(&into));

    replay(root.path(), &["--into", &root.path().display().to_string()]).exits(2).says("the root that is replayed");
}

#[test]
fn lines_are_in_the_order_in_which_records_came() {
    let root = refined();
    let all = lines(&replay(root.path(), &["--json"]).ok());
    let received: Vec<&str> = all.iter().map(|line| line["received"].as_str().expect("a time")).collect();
    let times: Vec<(&str, &str)> = received.iter().map(|time| time.split_once('.').unwrap_or((time, ""))).collect();
    assert!(times.is_sorted_by_key(|(seconds, _)| *seconds));
    for stream in ["book", "trades", "quotes"] {
        assert!(all.iter().any(|line| line["stream"] == stream), "{stream}");
    }
    assert!(all.iter().all(|line| line["record"]["source"] != "refinery"), "only what the venue sent");
    let some =
        lines(&replay(root.path(), &["--venue", SPOT, "--symbols", "ETHUSDT", "--streams", "trades", "--json"]).ok());
    let trades: Vec<&Value> = all.iter().filter(|line| line["stream"] == "trades").collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), trades);
    // From the middle to later: nothing of before, nothing of behind.
    let middle = trades[trades.len() / 2]["time"].as_str().expect("a time");
    let part = lines(&replay(root.path(), &["--from", middle, "--json"]).ok());
    let book = part.iter().find(|line| line["stream"] == "book").expect("a book");
    assert_eq!(book["type_id"], 2, "it opens with the book: {book}");
    let rest = lines(&replay(root.path(), &["--to", middle, "--json"]).ok());
    let count = |lines: &[Value]| lines.iter().filter(|line| line["stream"] == "trades").count();
    assert_eq!(count(&part) + count(&rest), trades.len());

    replay(root.path(), &["--symbols", "nobody"]).exits(2).says("of which venue?");
    replay(root.path(), &["--symbols", "binance-spot/nobody"]).exits(2).says("there is binance-spot/ethusdt");
    replay(root.path(), &["--speed", "fast"]).exits(2).says("write it like 1x");
    replay(root.path(), &["--from", middle, "--to", middle]).exits(2);
}

/// A feed that follows the served replay has a whole book without a gap, and every trade that was stored.
#[test]
fn a_feed_follows_a_served_replay() {
    let root = refined();
    let mut served = Command::new(BINARY)
        .args(["replay", "--venue", SPOT, "--serve", "127.0.0.1:0", "--speed", "20x", "--root"])
        .arg(root.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(served.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("JSON");
    let address = ready["listening"].as_str().expect("an address");
    assert_eq!(ready["symbols"][0], "ethusdt", "{ready}");

    let other = scratch();
    let into = other.path().join("followed");
    let mut feed = Command::new(BINARY)
        .args(["feed", "--venue", SPOT, "--symbols", "ethusdt", "--segment-mib", "4", "--json", "--root"])
        .arg(&into)
        .args(["--url", &format!("ws://{address}"), "--rest-url", &format!("http://{address}"), "--status-every", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Until nothing comes any more: what was played is on its way then.
    let (mut records, mut still, mut whole) = (0, 0, Value::Null);
    for line in BufReader::new(feed.stdout.take().expect("piped")).lines() {
        let told: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        if let Some(now) = told["status"]["raw"]["hot"].as_u64() {
            still = if now == records && now > 0 { still + 1 } else { 0 };
            (records, whole) = (now, told["status"].clone());
        }
        if still == 3 {
            break;
        }
    }
    let stop = |child: &std::process::Child| {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    };
    stop(&feed);
    assert!(feed.wait().expect("it ends").success());
    stop(&served);
    served.wait().expect("it ends");

    assert_eq!((&whole["books_whole"], &whole["gaps"]), (&1.into(), &0.into()), "{whole}");
    // The venue's times are those of then: whoever refines it now takes all of it as late, and keeps it in order.
    refine(&into, &["--late-policy", "late_stream"]).ok();
    let trades = |root: &Path, stream: &str| {
        let told = about("cat", root, SPOT, "ethusdt", &["--stream", stream, "--json"]).ok().text();
        let records = told.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["record"].clone());
        records.filter(|record| record["kind"] == "trade").map(|record| record["trade_id"].clone()).collect::<Vec<_>>()
    };
    let stored = trades(root.path(), "trades");
    assert!(stored.len() > 1_000);
    assert_eq!(stored, trades(&into, "late"));

    replay(root.path(), &["--serve", "127.0.0.1:0", "--json"]).exits(2);
}

/// The last record comes when it is due, and not before; late by no more than a busy machine makes it.
#[test]
fn a_pace_is_kept() {
    let root = refined();
    let began = Instant::now();
    let other = scratch();
    let into = other.path().join("again").display().to_string();
    let told = replay(root.path(), &["--speed", "40x", "--into", &into, "--json"]).ok().json();
    let took = began.elapsed();
    let at = |name: &str| told[name].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()).expect("a time");
    let span = Duration::try_from(at("last") - at("first")).expect("it goes on");
    assert!(span > Duration::from_secs(60), "{told}");
    let seconds = Duration::from_secs_f64(told["seconds"].as_f64().expect("a number"));
    assert!(seconds >= span / 40, "{told}: too early");
    assert!(took >= seconds && seconds < span / 40 + Duration::from_secs(5), "{told}: took {took:?}");
}
