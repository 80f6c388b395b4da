//! `chronicle feed` against `chronicle exchange`, both as processes, over sockets: what the one sells as its book is what the
//! other's root holds in the end, whatever happened between them; and a feed that cannot work says why.

mod support;

use chronicle::{
    System,
    storage::queue::{self, SegmentState},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};
use support::*;

/// Nothing here takes so long, even where other things run.
const SOON: Duration = Duration::from_secs(60);

/// An exchange, gone when the test is.
struct Exchange {
    child: Child,
    at: SocketAddr,
}

impl Exchange {
    fn start(venue: &str, symbols: &str, listen: &str) -> Self {
        let mut child = Command::new(BINARY)
            .args(["exchange", "--venue", venue, "--symbols", symbols, "--listen", listen])
            .args(["--seed", "7", "--rate", "400", "--depth-ms", "25"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Exchange { child, at: told["listening"].as_str().expect("an address").parse().expect("an address") }
    }

    /// One request of its own interface, and the answer.
    #[track_caller]
    fn ask(&self, method: &str, path: &str) -> Value {
        let mut tcp = TcpStream::connect(self.at).expect("it listens");
        write!(tcp, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .expect("it listens");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        serde_json::from_str(body).expect("JSON")
    }

    /// Keeps the books as they are now; gives their update ids.
    fn mark(&self) -> Vec<(String, u64)> {
        let marks = self.ask("POST", "/local/mark");
        let mark = |mark: &Value| {
            (mark["symbol"].as_str().expect("a name").to_owned(), mark["last_update_id"].as_u64().expect("an id"))
        };
        marks.as_array().expect("a list").iter().map(mark).collect()
    }

    /// A book that was kept: `side,price,quantity`, numbers without zeros at the end.
    fn book(&self, symbol: &str, at: u64) -> Vec<String> {
        let book = self.ask("GET", &format!("/local/book?symbol={symbol}&at={at}"));
        lines_of(&book)
    }

    fn kill(mut self) -> SocketAddr {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("it is ours");
        self.at
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // It may be gone already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The levels of a book in JSON, the best first, as far as venues tell them.
fn lines_of(book: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for side in ["bids", "asks"] {
        for level in book[side].as_array().expect("levels").iter().take(1000) {
            let text = |at: usize| {
                let text = level[at].as_str().expect("a number as text");
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
            };
            lines.push(format!("{side},{},{}", text(0), text(1)));
        }
    }
    lines
}

/// A feed that runs.
struct Feed {
    child: Child,
    lines: Receiver<String>,
    /// All that it told so far.
    told: Vec<Value>,
    stderr: Option<ChildStderr>,
}

impl Feed {
    fn command(venue: &str, symbols: &str, root: &Path) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(["feed", "--venue", venue, "--symbols", symbols, "--segment-mib", "1", "--root"])
            .arg(root)
            .stdin(Stdio::null());
        command
    }

    fn start(venue: &str, symbols: &str, root: &Path, at: SocketAddr) -> Self {
        let mut child = Feed::command(venue, symbols, root)
            .args(["--url", &format!("ws://{at}"), "--rest-url", &format!("http://{at}"), "--json"])
            .args(["--status-every", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = child.stderr.take();
        Feed { child, lines, told: Vec::new(), stderr }
    }

    /// Waits for a line of which this is true, among those that come from now on.
    #[track_caller]
    fn tells(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let value = self.took(&line);
                    if is(&value) {
                        return value;
                    }
                }
                Err(_) => panic!("never told {what}: {}", self.story()),
            }
        }
    }

    /// Its events and last numbers, and what it complained about if it has ended.
    fn story(&mut self) -> String {
        let mut said = String::new();
        if let (Ok(Some(_)), Some(stderr)) = (self.child.try_wait(), &mut self.stderr) {
            // What there is of it.
            _ = stderr.read_to_string(&mut said);
        }
        let last = self.told.iter().rposition(|line| line["status"].is_object());
        let shown = self.told.iter().enumerate().filter(|(at, line)| line["event"].is_string() || Some(*at) == last);
        let shown: Vec<String> = shown.map(|(_, line)| line.to_string()).collect();
        format!("{}\n{said}", shown.join("\n"))
    }

    /// Every line is one object with a time, and either an event or the numbers.
    #[track_caller]
    fn took(&mut self, line: &str) -> Value {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert_eq!(i32::from(value["event"].is_string()) + i32::from(value["status"].is_object()), 1, "{line}");
        self.told.push(value.clone());
        value
    }

    /// Asks it to end, and gives its last numbers.
    #[track_caller]
    fn ends(mut self) -> Value {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there").success());
        let status = self.child.wait().expect("it is ours");
        let mut said = String::new();
        self.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.took(&line);
        }
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{}", self.story());
        let last = self.told.iter().rev().find(|line| line["status"].is_object());
        last.expect("numbers")["status"].clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // It may be gone already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn is_event(line: &Value, event: &str) -> bool {
    line["event"] == event
}

fn books_are_whole(line: &Value) -> bool {
    let status = &line["status"];
    status.is_object() && status["books_whole"] == status["books"]
}

/// The book in a root equals the one that the exchange kept.
#[track_caller]
fn same_book(exchange: &Exchange, root: &Path, venue: &str, (symbol, id): &(String, u64), at: &str) {
    let code = symbol.replace('/', "-").to_lowercase();
    let ran = about("book", root, venue, &code, &["--at", at, "--json"]).ok();
    let book = ran.json();
    assert_eq!(book["valid"], true, "{book}");
    if venue != "kraken" {
        assert_eq!(book["last_id"], *id, "{symbol} at {at}");
    }
    let own = exchange.book(symbol, *id);
    assert!(own.len() > 20, "a book with nothing in it proves nothing");
    assert_eq!(lines_of(&book), own, "{symbol} at {at}");
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    jiff::Timestamp::from_nanosecond(now.as_nanos() as i128).expect("a time").to_string()
}

#[test]
fn the_books_in_the_root_are_those_of_the_exchange() {
    for (venue, symbols) in
        [("binance-spot", "btcusdt,ethusdt"), ("binance-usdm", "btcusdt,ethusdt"), ("kraken", "BTC/USD,ETH/USD")]
    {
        let root = scratch();
        let exchange = Exchange::start(venue, symbols, "127.0.0.1:0");
        let mut feed = Feed::start(venue, symbols, root.path(), exchange.at);
        feed.tells("a connection", |line| is_event(line, "connected"));
        feed.tells("whole books", |line| books_are_whole(line) && line["status"]["messages"].as_u64() > Some(100));
        // One moment in the midst of it, and the last one.
        exchange.ask("POST", "/local/pause");
        let marks = exchange.mark();
        std::thread::sleep(Duration::from_millis(20));
        let then = now();
        std::thread::sleep(Duration::from_millis(20));
        exchange.ask("POST", "/local/resume");
        feed.tells("numbers", books_are_whole);
        feed.tells("numbers", books_are_whole);
        exchange.ask("POST", "/local/pause");
        let last_marks = exchange.mark();
        feed.tells("numbers", books_are_whole);
        feed.tells("the last numbers", books_are_whole);
        let counts = feed.ends();
        assert_eq!(
            (&counts["gaps"], &counts["disconnects"], &counts["malformed"], &counts["raw"]["dropped"]),
            (&json!(0), &json!(0), &json!(0), &json!(0)),
            "{counts}"
        );
        assert!(counts["trades"].as_u64() > Some(0) && counts["deltas"].as_u64() > Some(10), "{counts}");
        refine(root.path(), &[]).ok();
        for (mark, last) in marks.iter().zip(&last_marks) {
            assert!(mark.1 < last.1 || venue == "kraken", "something happened between the two");
            same_book(&exchange, root.path(), venue, mark, &then);
            same_book(&exchange, root.path(), venue, last, "latest");
        }
        assert!(verify(root.path()).ok().err.is_empty());
    }
}

#[test]
fn an_exchange_that_was_killed_is_waited_for_and_followed_again() {
    for venue in ["binance-spot", "kraken"] {
        let symbols = if venue == "kraken" { "BTC/USD" } else { "btcusdt" };
        let root = scratch();
        let exchange = Exchange::start(venue, symbols, "127.0.0.1:0");
        let mut feed = Feed::start(venue, symbols, root.path(), exchange.at);
        feed.tells("whole books", books_are_whole);
        let at = exchange.kill();
        let lost = feed.tells("the end of the connection", |line| is_event(line, "disconnected"));
        assert!(lost["retry_ms"].as_u64() <= Some(250), "{lost}");
        // Each wait is drawn from a window that doubles.
        for attempt in 1..=4_u32 {
            let failed = feed.tells("an attempt", |line| is_event(line, "connect_failed"));
            assert!(failed["why"].as_str().is_some_and(|why| why.contains("refused")), "{failed}");
            assert!(failed["retry_ms"].as_u64() <= Some(250 << attempt), "{failed}");
        }
        let exchange = Exchange::start(venue, symbols, &at.to_string());
        feed.tells("a connection", |line| is_event(line, "connected"));
        feed.tells("whole books", books_are_whole);
        feed.tells("whole books", |line| books_are_whole(line) && line["status"]["snapshots"].as_u64() > Some(1));
        exchange.ask("POST", "/local/pause");
        let marks = exchange.mark();
        feed.tells("numbers", books_are_whole);
        feed.tells("the last numbers", books_are_whole);
        let counts = feed.ends();
        assert_eq!((&counts["disconnects"], &counts["connections"]), (&json!(1), &json!(2)), "{counts}");
        assert!(counts["connect_failures"].as_u64() >= Some(4), "{counts}");
        refine(root.path(), &[]).ok();
        same_book(&exchange, root.path(), venue, &marks[0], "latest");
    }
}

/// The mapping of a file that is gone still takes records, and nobody will ever read them: the feed must notice, say so, and
/// give whoever reads the stream books that are whole.
#[test]
fn a_segment_that_somebody_removes_is_told_and_the_books_come_again() {
    let root = scratch();
    let exchange = Exchange::start("binance-spot", "btcusdt", "127.0.0.1:0");
    let mut feed = Feed::start("binance-spot", "btcusdt", root.path(), exchange.at);
    feed.tells("whole books", books_are_whole);
    let queue = root.path().join("hot/streams/raw/binance-spot/queue");
    let description = queue::describe(&System, &queue).expect("a queue");
    let current = description.segments.iter().rev().find(|segment| segment.state == SegmentState::Current);
    let current = current.expect("it is written to").clone();
    fs::remove_file(&current.path).expect("it is there");
    let told = feed.tells("what is wrong", |line| is_event(line, "raw_trouble"));
    let path = current.path.to_str().expect("text");
    assert!(told["why"].as_str().is_some_and(|why| why.starts_with(path) && why.contains("missing")), "{told}");
    feed.tells("whole books", |line| is_event(line, "whole"));

    for command in ["doctor", "verify"] {
        let ran = run(Command::new(BINARY).args([command, "--json"]).arg(root.path())).exits(1);
        assert!(ran.text().contains(path) && ran.text().contains("follows it"), "{command}: {}", ran.text());
    }
    exchange.ask("POST", "/local/pause");
    let marks = exchange.mark();
    feed.tells("numbers", books_are_whole);
    feed.tells("the last numbers", books_are_whole);
    feed.ends();
    refine(root.path(), &[]).ok();
    same_book(&exchange, root.path(), "binance-spot", &marks[0], "latest");
}

/// A second feed of the same venue in one root would write the same stream twice; one after the other goes on with it.
#[test]
fn one_feed_at_a_time_and_the_next_one_goes_on() {
    let root = scratch();
    let exchange = Exchange::start("binance-spot", "btcusdt", "127.0.0.1:0");
    let mut feed = Feed::start("binance-spot", "btcusdt", root.path(), exchange.at);
    feed.tells("whole books", books_are_whole);
    run(&mut Feed::command("binance-spot", "btcusdt", root.path())).exits(1).says("binance-spot");
    feed.ends();
    let mut feed = Feed::start("binance-spot", "btcusdt", root.path(), exchange.at);
    feed.tells("whole books", books_are_whole);
    exchange.ask("POST", "/local/pause");
    let marks = exchange.mark();
    feed.tells("numbers", books_are_whole);
    feed.tells("the last numbers", books_are_whole);
    feed.ends();
    refine(root.path(), &[]).ok();
    same_book(&exchange, root.path(), "binance-spot", &marks[0], "latest");
}

#[test]
fn what_only_a_person_can_mend_is_told_and_ends_it() {
    let exchange = Exchange::start("binance-spot", "btcusdt", "127.0.0.1:0");
    let (stream, rest) = (format!("ws://{}", exchange.at), format!("http://{}", exchange.at));
    let dir = scratch();
    let root = dir.path().join("market");
    let with = |symbols: &str, more: &[&str]| {
        let mut command = Feed::command("binance-spot", symbols, &root);
        run(command.args(more))
    };
    let here = ["--url", &stream, "--rest-url", &rest];
    with("nosuch", &here).exits(1).says("NOSUCH: no snapshot: status 400").says("Invalid symbol");
    with("btc usdt", &here).exits(2).says("symbol `BTC USDT`: 1 to 64 letters");
    with("btcusdt,BTCUSDT", &here).exits(2).says("symbol `BTCUSDT`: named twice");
    with("btcusdt", &["--url", "localhost:9000"]).exits(2).says("it begins with none of wss://, ws://");
    with("btcusdt", &["--streams", "depths"]).exits(2).says("stream `depths` is not known");
    with("btcusdt", &["--ca", "/no/such/file.pem"]).exits(2).says("/no/such/file.pem: No such file");
    let pem = dir.path().join("no.pem");
    fs::write(&pem, "hello").expect("it is written");
    with("btcusdt", &["--ca", pem.to_str().expect("a path")]).exits(2).says("no.pem: no certificate in it");
    let mut okx = Feed::command("okx", "BTC-USDT", &root);
    run(&mut okx).exits(2).says("venue okx: only its recordings can be read");
    // No such path: the exchange of another venue has no such book.
    with("btcusdt", &["--url", &stream, "--rest-url", &format!("{rest}/elsewhere")]).exits(1).says("status 404");
}

/// What may pass by itself is tried again, and told.
#[test]
fn what_may_pass_is_told_and_tried_again() {
    let exchange = Exchange::start("binance-spot", "btcusdt", "127.0.0.1:0");
    let root = scratch();
    let at = exchange.at;
    // TLS where there is none; a port at which nobody listens; a name that nobody has.
    for (url, why) in [
        (format!("wss://{at}"), "TLS: "),
        ("ws://127.0.0.1:9".to_owned(), "connecting: "),
        ("ws://nobody.invalid".to_owned(), "connecting: "),
    ] {
        let ran = run(Feed::command("binance-spot", "btcusdt", root.path()).args([
            "--json",
            "--for",
            "2",
            "--url",
            &url,
            "--rest-url",
            &format!("http://{at}"),
        ]))
        .ok();
        let failed: Vec<Value> = ran
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .filter(|line| is_event(line, "connect_failed"))
            .collect();
        let told = failed.first().and_then(|line| line["why"].as_str()).unwrap_or_else(|| panic!("{}", ran.text()));
        assert!(told.starts_with(why), "{url}: {told}");
    }
}
