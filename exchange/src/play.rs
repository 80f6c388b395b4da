//! Recordings: a venue's own messages again, and the books that follow from them.
//!
//! ```text
//! 1723161253937085768 {"stream":"btcusdt@depth@100ms","data":{..}}     goes out as it is, when its time has come
//! 1723161255319702566 {"lastUpdateId":50093239218,"bids":[..],..}      is kept: the book that REST gives begins here
//! ```
//!
//! A recording holds one symbol. The book is that of its snapshot with every later event applied, so it can be asked for
//! at any moment, not only at the one at which somebody asked when it was recorded; what was deeper than that snapshot
//! and never changed is not in it. A request that comes before the snapshot waits for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::decimal;
use crate::faults::Channel;
use crate::market::Symbol;
use crate::snapshot::{Level, Snapshot};

/// Longest line that is read.
const LINE_LEN_MAX: u64 = 16 << 20;
/// Most events that wait for a snapshot.
const BEFORE_SNAPSHOT_MAX: usize = 10_000;
/// Lines between the reader and the player.
const AHEAD: usize = 256;
/// Digits behind the point by which prices are compared.
const KEY_DECIMALS: usize = 12;

/// What a line says.
#[derive(Debug)]
pub(crate) enum What {
    /// A message of a stream.
    Message(Channel, String),
    /// An answer to a request for a book.
    Snapshot(String),
}

/// A line.
#[derive(Debug)]
pub(crate) struct Line {
    /// When it was received, in ns since 1970.
    pub(crate) time_ns: u64,
    /// Index of the recording.
    pub(crate) market: usize,
    /// What it says.
    pub(crate) what: What,
}

/// Reads a line; none if there is nothing in it to play.
fn parse(line: &str) -> Option<(u64, Option<&str>, What)> {
    let (time, json) = line.trim_end().split_once(' ')?;
    let time_ns = time.parse().ok()?;
    if json.starts_with("{\"lastUpdateId\":") {
        return Some((time_ns, None, What::Snapshot(json.to_owned())));
    }
    let (stream, data) = json.strip_prefix("{\"stream\":\"")?.split_once("\",\"data\":")?;
    let (symbol, channel) = stream.split_once('@')?;
    let channel = match channel {
        "trade" => Channel::Trade,
        "bookTicker" => Channel::Ticker,
        _ if channel == "depth" || channel.starts_with("depth@") => Channel::Depth,
        _ => return None,
    };
    Some((time_ns, Some(symbol), What::Message(channel, data.strip_suffix('}')?.to_owned())))
}

/// A recording, read line by line.
struct Reader {
    input: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let input: Box<dyn Read + Send> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self { input: BufReader::new(input), line: Vec::new() })
    }

    /// The next line that can be played.
    fn next(&mut self) -> io::Result<Option<(u64, Option<String>, What)>> {
        loop {
            self.line.clear();
            let len = self.input.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut self.line)?;
            if len == 0 {
                return Ok(None);
            }
            if let Some((time_ns, symbol, what)) = std::str::from_utf8(&self.line).ok().and_then(parse) {
                return Ok(Some((time_ns, symbol.map(str::to_ascii_uppercase), what)));
            }
        }
    }
}

/// The book of a recording.
#[derive(Debug, Default)]
struct Book {
    bids: BTreeMap<u128, Level>,
    asks: BTreeMap<u128, Level>,
    last: u64,
    ready: bool,
    /// Events from before the snapshot.
    early: Vec<String>,
}

/// A price as a number to sort by.
fn key(price: &str) -> Option<u128> {
    let (whole, fraction) = price.split_once('.').unwrap_or((price, ""));
    if fraction.len() > KEY_DECIMALS {
        return None;
    }
    format!("{whole}{fraction:0<KEY_DECIMALS$}").parse().ok()
}

impl Book {
    fn set(&mut self, bids: &Value, asks: &Value) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for level in levels.as_array().into_iter().flatten() {
                let (Some(price), Some(qty)) = (level[0].as_str(), level[1].as_str()) else { continue };
                let Some(key) = key(price) else { continue };
                if qty.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
                    side.remove(&key);
                } else {
                    side.insert(key, (price.to_owned(), qty.to_owned()));
                }
            }
        }
    }

    fn event(&mut self, data: &str) {
        if !self.ready {
            if self.early.len() < BEFORE_SNAPSHOT_MAX {
                self.early.push(data.to_owned());
            }
            return;
        }
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        if let Some(last) = event["u"].as_u64().filter(|last| *last > self.last) {
            self.set(&event["b"], &event["a"]);
            self.last = last;
        }
    }

    fn snapshot(&mut self, text: &str) {
        let snapshot: Value = serde_json::from_str(text).unwrap_or_default();
        // A later snapshot says nothing that the events have not said.
        if let (false, Some(last)) = (self.ready, snapshot["lastUpdateId"].as_u64()) {
            self.set(&snapshot["bids"], &snapshot["asks"]);
            (self.last, self.ready) = (last, true);
            for data in std::mem::take(&mut self.early) {
                self.event(&data);
            }
        }
    }
}

/// What has been played so far.
#[derive(Debug)]
pub(crate) struct Replay {
    symbols: Vec<Symbol>,
    books: Vec<Book>,
    /// Lines played.
    pub(crate) line_count: u64,
    /// Nothing is left to play.
    pub(crate) over: bool,
}

impl Replay {
    /// Opens recordings, which a thread reads ahead, in order of their times.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<(Self, mpsc::Receiver<Line>), (PathBuf, io::Error)> {
        let mut sources = Vec::new();
        let mut symbols: Vec<Symbol> = Vec::new();
        for path in paths {
            let failed = |error| (path.clone(), error);
            let mut reader = Reader::open(path).map_err(failed)?;
            let (mut head, mut name) = (Vec::new(), None);
            while name.is_none()
                && head.len() < 1_000
                && let Some((time_ns, symbol, what)) = reader.next().map_err(failed)?
            {
                name = symbol;
                head.push((time_ns, what));
            }
            let name = name.ok_or_else(|| failed(io::Error::other("no message of a Binance stream in it")))?;
            let symbol: Symbol = name.parse().map_err(|error| failed(io::Error::other(error)))?;
            let market = symbols.iter().position(|other| other.name == symbol.name).unwrap_or(symbols.len());
            if market == symbols.len() {
                symbols.push(symbol);
            }
            sources.push(Source { market, reader, ahead: head.into() });
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        let spawned = std::thread::Builder::new().name("recording".to_owned()).spawn(move || read(sources, &sender));
        if let Err(error) = spawned {
            return Err((PathBuf::new(), error));
        }
        let books = symbols.iter().map(|_| Book::default()).collect();
        Ok((Self { symbols, books, line_count: 0, over: false }, receiver))
    }

    /// What the recordings are of.
    pub(crate) fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// Whether there is a book yet.
    pub(crate) fn ready(&self, market: usize) -> bool {
        self.books[market].ready
    }

    /// Takes what a line says about the book.
    pub(crate) fn played(&mut self, line: &Line) {
        self.line_count += 1;
        match &line.what {
            What::Message(Channel::Depth, data) => self.books[line.market].event(data),
            What::Snapshot(text) => self.books[line.market].snapshot(text),
            What::Message(..) => {}
        }
    }

    /// The book of a symbol; at most `limit` levels of each side.
    pub(crate) fn book(&self, market: usize, limit: usize) -> Snapshot {
        let book = &self.books[market];
        Snapshot {
            last_update_id: book.last,
            bids: book.bids.values().rev().take(limit).cloned().collect(),
            asks: book.asks.values().take(limit).cloned().collect(),
        }
    }
}

struct Source {
    market: usize,
    reader: Reader,
    ahead: std::collections::VecDeque<(u64, What)>,
}

impl Source {
    /// The time of the next line. A recording that breaks off has no next line: what was read of it is played.
    fn peek(&mut self) -> Option<u64> {
        if self.ahead.is_empty() {
            let (time_ns, _, what) = self.reader.next().ok().flatten()?;
            self.ahead.push_back((time_ns, what));
        }
        self.ahead.front().map(|(time_ns, _)| *time_ns)
    }
}

/// Reads all sources in order of time, until nobody listens.
fn read(mut sources: Vec<Source>, sender: &mpsc::Sender<Line>) {
    loop {
        let next = sources.iter_mut().enumerate().filter_map(|(at, source)| Some((source.peek()?, at))).min();
        let Some((time_ns, at)) = next else { return };
        let market = sources[at].market;
        let Some((_, what)) = sources[at].ahead.pop_front() else { return };
        if sender.blocking_send(Line { time_ns, market, what }).is_err() {
            return;
        }
    }
}

const _: () = assert!(KEY_DECIMALS > decimal::DECIMALS_MAX as usize);
