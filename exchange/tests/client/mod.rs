//! A client with nothing in it of the exchange's own code: std's sockets for HTTP, tungstenite's client for streams.

#![allow(dead_code, reason = "each test file uses what it needs of it")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use chronicle_exchange::server::{Config, Running};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// An exchange with one symbol, lively.
pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config {
        symbols: vec!["btcusdt=61800.00".parse().unwrap()],
        rate: 2_000,
        depth_every: Duration::from_millis(20),
        ..Config::default()
    };
    change(&mut config);
    Running::start(config).unwrap()
}

/// Status and body of an answer; an error if there was none, or half of one.
pub(crate) fn request(at: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: exchange\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..head]).to_lowercase(), bytes[head + 4..].to_vec());
    let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let promised = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    if promised.is_some_and(|promised: usize| promised != body.len()) {
        return Err(broken());
    }
    Ok((status, body))
}

/// The answer as JSON, with its status.
pub(crate) fn ask(at: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    let (status, body) = request(at, method, path).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// The answer of a request that must go well.
pub(crate) fn get(at: SocketAddr, path: &str) -> Value {
    let (status, value) = ask(at, "GET", path);
    assert_eq!(status, 200, "{path}: {value}");
    value
}

/// As [`get`], for what changes something.
pub(crate) fn post(at: SocketAddr, path: &str) -> Value {
    let (status, value) = ask(at, "POST", path);
    assert_eq!(status, 200, "{path}: {value}");
    value
}

/// A stream of messages.
pub(crate) struct Stream(pub(crate) WebSocket<TcpStream>);

impl Stream {
    /// Opens one; the server may refuse or break off.
    pub(crate) fn try_open(at: SocketAddr, path: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(at).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{at}{path}"), stream).map_err(|error| error.to_string())?;
        Ok(Self(socket))
    }

    pub(crate) fn open(at: SocketAddr, path: &str) -> Self {
        Self::try_open(at, path).unwrap()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    /// The next text; pings are answered on the way.
    pub(crate) fn next_text(&mut self) -> Result<String, tungstenite::Error> {
        loop {
            if let Message::Text(text) = self.0.read()? {
                return Ok(text.to_string());
            }
        }
    }

    pub(crate) fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().unwrap()).unwrap()
    }
}

/// A book kept as texts by the venue's rules for spot: an implementation of its own, short and slow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TextBook {
    pub(crate) last: u64,
    pub(crate) bids: BTreeMap<String, String>,
    pub(crate) asks: BTreeMap<String, String>,
}

impl TextBook {
    pub(crate) fn of(snapshot: &Value) -> Self {
        let mut book = Self::default();
        book.set(&snapshot["bids"], &snapshot["asks"]);
        book.last = snapshot["lastUpdateId"].as_u64().or(snapshot["last_update_id"].as_u64()).unwrap();
        book
    }

    pub(crate) fn set(&mut self, bids: &Value, asks: &Value) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for level in levels.as_array().unwrap() {
                let (price, qty) = (level[0].as_str().unwrap().to_owned(), level[1].as_str().unwrap().to_owned());
                if qty.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
                    side.remove(&price);
                } else {
                    side.insert(price, qty);
                }
            }
        }
    }

    /// Applies a spot depth event; false if it does not follow.
    pub(crate) fn apply(&mut self, event: &Value) -> bool {
        let (first, last) = (event["U"].as_u64().unwrap(), event["u"].as_u64().unwrap());
        if last <= self.last {
            return true;
        }
        if first > self.last + 1 {
            return false;
        }
        self.set(&event["b"], &event["a"]);
        self.last = last;
        true
    }
}

/// Waits until it is true.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
