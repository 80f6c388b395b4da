//! `chronicle tail`: the newest frames, those that come, and an end that is always clean.

mod support;

use chronicle::{
    Append, System,
    platform::Platform,
    storage::queue::{Profile, Publisher, PublisherOptions, Queue, Refused},
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use support::*;

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 1 << 20, helper: false, ..PublisherOptions::new(Profile::Orders) }
}

fn append(writer: &mut Publisher<System>, text: &str) {
    let append = Append { time_ns: System.now_ns(), type_id: 900, flags: 0 };
    match writer.append(append, text.as_bytes()) {
        Err(Refused::NotReady) => {
            writer.maintain();
            writer.append(append, text.as_bytes()).expect("there is room");
        }
        other => _ = other.expect("there is room"),
    }
}

/// Orders and replies, as an order desk reads them.
#[test]
fn what_strategies_and_routers_say() {
    use chronicle::bus::{
        Message,
        orders::{Order, Reason, Reply, Side},
        typed,
    };
    let dir = scratch();
    let path = dir.path().join("orders");
    let mut order =
        Order::limit("binance-spot", "BTCUSDT", Side::Buy, (6_180_020, -2), (5, -3)).expect("names that fit");
    (order.epoch, order.seq) = (7.into(), 3.into());
    let answer = |mut reply: Reply| {
        reply.order_seq = 1.into();
        reply
    };
    let mut orders = typed::Publisher::<System, Order>::open(&System, &path, options()).expect("a writer");
    orders.send(1, &order).expect("there is room");
    orders.into_queue().close().expect("it closes");
    let mut replies = typed::Publisher::<System, Reply>::open(&System, &path, options()).expect("a writer");
    replies.send(2, &answer(Reply::filled(&order, 99, 5, 6_180_000, 2, 2))).expect("there is room");
    replies.send(3, &answer(Reply::rejected(&order, Reason::Venue, -2010))).expect("there is room");
    replies.into_queue().close().expect("it closes");
    let tail = |more: &[&str]| run(Command::new(BINARY).arg("tail").arg(&path).args(more).stdin(Stdio::null())).ok();
    let all = lines(&tail(&[]));
    assert!(all[0].ends_with("order     BTCUSDT at binance-spot 7-3, buy 61800.20 × 0.005, limit gtc"), "{all:?}");
    assert!(all[1].ends_with("filled    7-3, 61800.00 × 0.002, 0.003 left, fill 5"), "{all:?}");
    assert!(all[2].ends_with("rejected  7-3, refused by the venue (-2010)"), "{all:?}");
    assert_eq!(lines(&tail(&["--type", "order", "--symbol", "btcusdt"])), all[..1]);
    assert_eq!(lines(&tail(&["--type", "reply"])), all[1..]);
    assert_eq!(lines(&tail(&["--type", &Reply::TYPE_ID.to_string()])), all[1..]);
    let json = tail(&["-n", "1", "--type", "order", "--json"]).json();
    assert_eq!((&json["record"]["price"], &json["record"]["id"]), (&"61800.20".into(), &"7-3".into()));
}

fn lines(ran: &Ran) -> Vec<String> {
    ran.text().lines().map(str::to_owned).collect()
}

/// A root with a recording in it.
fn market() -> (tempfile::TempDir, PathBuf) {
    let dir = scratch();
    let root = dir.path().join("market");
    import(&root, "binance-spot", &[excerpt()]).ok();
    refine(&root, &["--seal"]).ok();
    (dir, root)
}

fn tail(root: &Path, more: &[&str]) -> Ran {
    run(Command::new(BINARY).args(["tail", "--root"]).arg(root).args(more).stdin(Stdio::null()))
}

#[test]
fn the_newest_and_those_that_pass() {
    let (_dir, root) = market();
    let last = lines(&tail(&root, &[]).ok());
    assert_eq!(last.len(), 10);
    assert!(last[9].trim_start().starts_with("15001 "), "{last:?}");
    assert_eq!(lines(&tail(&root, &["-n", "3"]).ok()), last[7..]);
    assert!(tail(&root, &["-n", "0"]).ok().out.is_empty());

    // By type and symbol; the venue's name of it will do.
    let trades = lines(&tail(&root, &["--type", "trade", "--symbol", "ETHUSDT", "-n", "5"]).ok());
    assert!(trades.len() == 5 && trades.iter().all(|line| line.contains(" trade ")), "{trades:?}");
    let ran =
        tail(&root, &["--symbol", "btcusdt"]).exits(1).says("no record of btcusdt here; there are those of ethusdt");
    assert!(ran.out.is_empty());
    tail(&root, &["--symbol", "btcusdt,ethusdt", "-n", "1"]).ok().says("no record of btcusdt");
    let two = lines(&tail(&root, &["--type", "snapshot,gap", "-n", "100"]).ok());
    assert!(two.iter().all(|line| line.contains(" snapshot ") || line.contains(" gap ")), "{two:?}");
    assert!(two[0].contains(" × ") && two[0].contains("bid ") && two[0].contains(", …"), "{two:?}");

    // By time: both ends.
    let (from, to) = ("2024-08-08T23:56:42.019Z", "2024-08-08T23:56:42.0222Z");
    let between = lines(&tail(&root, &["--from", from, "--to", to]).ok());
    assert!(!between.is_empty(), "the recording has frames there");
    for line in &between {
        let time = line.split_whitespace().nth(1).expect("a time");
        let text = |time: &str| time.trim_end_matches('Z').to_owned();
        assert!(text(time) >= text(from) && text(time) <= text(to), "{line}");
    }

    // As cat prints it.
    let json = tail(&root, &["-n", "1", "--json"]).ok();
    let queue = root.join("hot/streams/raw/binance-spot/queue");
    let cat = run(Command::new(BINARY).args(["cat", "--from", "15001", "--json"]).arg(&queue));
    assert_eq!(json.text(), cat.ok().text());
    assert!(json.json()["record"]["kind"].is_string());
}

#[test]
fn a_symbols_days() {
    let (_dir, root) = market();
    let trades = lines(&tail(&root, &["--symbol", "ethusdt", "--stream", "trades", "-n", "2"]).ok());
    assert!(trades.len() == 2 && trades.iter().all(|line| line.contains(" trade ")), "{trades:?}");
    tail(&root, &["--stream", "trades"]).exits(2).says("one --symbol is needed");
    tail(&root, &["--stream", "trades", "--symbol", "dogeusdt"]).exits(2).says("no trades").says("ethusdt");
}

#[test]
fn called_wrongly() {
    let (_dir, root) = market();
    tail(&root, &["--venue", "kraken"]).exits(2).says("no such queue; there is binance-spot");
    tail(&root, &["--type", "trades"]).exits(2).says("one of delta");
    chronicle(["tail"]).exits(2);
    chronicle(["tail", "/nowhere/at/all"]).exits(2).says("no such file");
    run(Command::new(BINARY).arg("tail").arg(&root)).exits(2).says("--root and --venue");
}

/// A `tail -f` and what it prints, line by line.
struct Following {
    child: Child,
    lines: Receiver<String>,
    stderr: Receiver<String>,
}

fn follow(queue: &Path, more: &[&str]) -> Following {
    let mut child = Command::new(BINARY)
        .args(["tail", "-f"])
        .arg(queue)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines_of = |pipe: Box<dyn Read + Send>| {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        receive
    };
    let lines = lines_of(Box::new(child.stdout.take().expect("it is piped")));
    let stderr = lines_of(Box::new(child.stderr.take().expect("it is piped")));
    Following { child, lines, stderr }
}

impl Following {
    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("a line")
    }

    #[track_caller]
    fn told(&self, what: &str) {
        let line = self.stderr.recv_timeout(Duration::from_secs(20)).expect("a word on standard error");
        assert!(line.contains(what), "{line}");
    }

    #[track_caller]
    fn ends(mut self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill starts");
        assert!(status.success());
        let ended = self.child.wait().expect("it ends");
        assert_eq!(ended.code(), Some(0), "{signal}: {ended}");
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn it_follows_rolls_restarts_and_another_queue() {
    let dir = scratch();
    let path = dir.path().join("queue");
    let mut writer = Queue::publisher(&System, &path, options()).expect("a writer");
    append(&mut writer, "the first");
    let following = follow(&path, &[]);
    assert!(following.next().contains("\"the first\""));

    // Over many rolls.
    for at in 0..200 {
        append(&mut writer, &format!("frame {at} {}", "x".repeat(100)));
        assert!(following.next().contains(&format!("\"frame {at} ")), "frame {at}");
    }
    assert!(writer.counters().rolls > 3, "it rolled");

    // The writer dies, and another one goes on.
    drop(writer);
    following.told("the writer died; waiting");
    let mut writer = Queue::publisher(&System, &path, options()).expect("another writer");
    append(&mut writer, "after the death");
    assert!(following.next().contains("\"after the death\""));
    following.told("the writer is back");
    writer.close().expect("it closes");
    following.told("has closed the queue");

    // The queue is removed, and another one made in its place.
    std::fs::remove_dir_all(&path).expect("it is removed");
    let mut writer = Queue::publisher(&System, &path, options()).expect("a writer");
    append(&mut writer, "another queue");
    assert!(following.next().contains("\"another queue\""));
    following.told("another queue stands here now");
    following.ends("-INT");
}

#[test]
fn signals_and_pipes_end_it_cleanly() {
    let dir = scratch();
    let path = dir.path().join("queue");
    let mut writer = Queue::publisher(&System, &path, options()).expect("a writer");
    append(&mut writer, "one");
    for signal in ["-INT", "-TERM", "-HUP"] {
        let following = follow(&path, &["--json"]);
        let line: Value = serde_json::from_str(&following.next()).expect("a JSON object");
        assert_eq!(line["seq"], 1);
        following.ends(signal);
    }
    // Nobody reads, and nothing comes that could be written into the pipe.
    let mut child = Command::new(BINARY)
        .args(["tail", "-f"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 8];
    let mut pipe = child.stdout.take().expect("it is piped");
    pipe.read_exact(&mut first).expect("a line begins");
    drop(pipe);
    for _ in 0..200 {
        if let Some(status) = child.try_wait().expect("it is asked") {
            assert_eq!(status.code(), Some(0), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("it dies");
    panic!("it goes on though nobody reads");
}

#[test]
fn a_writer_that_never_pauses_does_not_hold_it_up() {
    let dir = scratch();
    let path = dir.path().join("queue");
    let over = std::sync::atomic::AtomicBool::new(false);
    let options = PublisherOptions { helper: true, ..options() };
    let mut writer = Queue::publisher(&System, &path, options).expect("a writer");
    append(&mut writer, "the first");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let append = Append { time_ns: System.now_ns(), type_id: 900, flags: 0 };
                if writer.append(append, b"and on").is_err() {
                    std::thread::yield_now();
                }
            }
        });
        // With a filter, so that all of the queue is looked at.
        let ran = run(Command::new(BINARY).args(["tail", "-n", "2", "--type", "900"]).arg(&path).stdin(Stdio::null()));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(lines(&ran.ok()).len(), 2);
    });
}
