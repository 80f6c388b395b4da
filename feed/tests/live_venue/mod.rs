//! A venue that does what a test says, word for word: accepts a connection when it is told to, says this, breaks that.
//!
//! It listens on loopback for WebSocket connections and, on another port, for requests. A test is a script: it awaits what
//! the feed does and answers; when the script ends, the feed is stopped, and what lies in the raw queue is the result.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    cell::RefCell,
    future::Future,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use chronicle_core::Append;
use chronicle_etl::refinery::{Place, RawFrame, Refinery, Sink};
use chronicle_feed::{
    Venue,
    live::{Counts, Event, FeedError, Options, RawEnd, Tell, follow},
};
use chronicle_platform_linux::Linux;
use chronicle_protocol::Record;
use chronicle_storage::{
    queue::{Profile, PublisherOptions, Queue, SubscriberOptions},
    root::Name,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

/// Nothing on loopback takes so long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The time in all messages of this venue.
const SENT_NS: u64 = 1_700_000_000_000_000_000;

/// See the module.
pub(crate) struct Script {
    stream: TcpListener,
    rest: TcpListener,
    events: Rc<RefCell<Vec<Event>>>,
    counts: Rc<RefCell<Counts>>,
}

/// What a feed did.
pub(crate) struct Outcome {
    pub(crate) result: Result<Counts, FeedError>,
    pub(crate) events: Vec<Event>,
    pub(crate) root: tempfile::TempDir,
}

/// In memory, where there is some: a queue that is closed is synced, and a busy disk takes seconds for that.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A raw queue's options that fit a test: no helper's leisure, small segments.
pub(crate) fn small() -> PublisherOptions {
    PublisherOptions { segment_len: 1 << 20, max_bytes: 64 << 20, ..PublisherOptions::new(Profile::Clean) }
}

pub(crate) fn queue_of(root: &Path) -> PathBuf {
    root.join("raw/queue")
}

pub(crate) fn options(venue: Venue, symbols: &[&str]) -> Options {
    let mut options = Options::new(venue, symbols.iter().map(|s| (*s).to_owned()).collect(), 1);
    options.timeout = Duration::from_secs(8);
    options.retry = [Duration::from_millis(20), Duration::from_millis(200)];
    options.status_every = Duration::from_millis(20);
    options
}

/// Runs a feed against a script.
pub(crate) async fn play<F: Future<Output = ()>>(options: Options, script: impl FnOnce(Rc<Script>) -> F) -> Outcome {
    let root = scratch();
    let hot = Queue::publisher(&Linux, queue_of(root.path()), small()).unwrap();
    let mut raw = RawEnd::new(&Linux, hot, &root.path().join("overflow/queue"), small()).unwrap();
    let (result, events) = play_into(options, &mut raw, wall_ns, script).await;
    raw.into_hot().unwrap().close().unwrap();
    Outcome { result, events, root }
}

/// The same into a raw stream of the caller's, by a clock of the caller's.
pub(crate) async fn play_into<F: Future<Output = ()>>(
    mut options: Options,
    raw: &mut RawEnd<Linux>,
    clock: impl FnMut() -> u64,
    script: impl FnOnce(Rc<Script>) -> F,
) -> (Result<Counts, FeedError>, Vec<Event>) {
    let stream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = |scheme: &str, of: &TcpListener| format!("{scheme}://{}", of.local_addr().unwrap()).parse().unwrap();
    options.stream.get_or_insert_with(|| address("ws", &stream));
    options.rest.get_or_insert_with(|| address("http", &rest));
    let events = Rc::new(RefCell::new(Vec::new()));
    let counts = Rc::new(RefCell::new(Counts::default()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let told = (events.clone(), counts.clone());
    let feed = follow(
        &options,
        raw,
        clock,
        async {
            _ = stopped.await;
        },
        move |tell| match tell {
            Tell::Event(event) => told.0.borrow_mut().push(event.clone()),
            Tell::Status(counts) => *told.1.borrow_mut() = *counts,
        },
    );
    let script = script(Rc::new(Script { stream, rest, events: events.clone(), counts }));
    let script = async {
        timeout(Duration::from_secs(60), script).await.expect("the script ends within a minute");
        drop(stop);
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = feed => result,
        () = script => unreachable!("it is pending for ever"),
    };
    let events = events.borrow().clone();
    (result, events)
}

pub(crate) fn wall_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

impl Script {
    /// The next connection for a stream, as it comes: not even a handshake has been made.
    pub(crate) async fn tcp(&self) -> TcpStream {
        timeout(SOON, self.stream.accept()).await.expect("the feed connects").unwrap().0
    }

    /// The next stream, and the path that it asked for.
    pub(crate) async fn stream(&self) -> (Stream, String) {
        let tcp = self.tcp().await;
        let mut path = String::new();
        // The type is tungstenite's.
        #[allow(clippy::result_large_err)]
        let seen = |request: &Request, response: Response| {
            path = request.uri().to_string();
            let headers = request.headers();
            assert!(!headers.contains_key("sec-websocket-extensions"), "no compression is offered");
            Ok(response)
        };
        let socket = accept_hdr_async(tcp, seen).await.unwrap();
        (Stream { socket }, path)
    }

    /// The next request beside the stream.
    pub(crate) async fn request(&self) -> Asked {
        let mut tcp = timeout(SOON, self.rest.accept()).await.expect("the feed asks").unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        Asked { tcp, path, head }
    }

    /// Whether the feed asks for something within this time.
    pub(crate) async fn asks_within(&self, time: Duration) -> bool {
        timeout(time, self.rest.accept()).await.is_ok()
    }

    /// Whether the feed connects within this time.
    pub(crate) async fn connects_within(&self, time: Duration) -> bool {
        timeout(time, self.stream.accept()).await.is_ok()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits until the feed has told something.
    pub(crate) async fn told(&self, what: &str, is: impl Fn(&Event) -> bool) {
        let seen = async {
            while !self.events.borrow().iter().any(&is) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if timeout(SOON, seen).await.is_err() {
            panic!("never told {what}: {:#?} {:?}", self.events(), self.counts.borrow());
        }
    }

    /// Waits until the feed has counted something.
    pub(crate) async fn counted(&self, what: &str, is: impl Fn(&Counts) -> bool) {
        let seen = async {
            while !is(&self.counts.borrow()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if timeout(SOON, seen).await.is_err() {
            panic!("never counted {what}: {:?} {:#?}", self.counts.borrow(), self.events());
        }
    }
}

/// One stream of the venue's.
pub(crate) struct Stream {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Stream {
    pub(crate) async fn say(&mut self, text: impl Into<String>) {
        self.send(Message::Text(text.into().into())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Bytes below WebSocket's own rules.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
        self.socket.get_mut().flush().await.unwrap();
    }

    /// What the feed says next.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        timeout(SOON, self.socket.next()).await.expect("the feed says something").map(|message| message.unwrap())
    }

    /// The next text of the feed's.
    pub(crate) async fn hear_text(&mut self) -> String {
        loop {
            match self.hear().await {
                Some(Message::Text(text)) => return text.to_string(),
                Some(_) => {}
                None => panic!("the feed has left"),
            }
        }
    }
}

/// A request of the feed's.
pub(crate) struct Asked {
    pub(crate) tcp: TcpStream,
    pub(crate) path: String,
    pub(crate) head: String,
}

impl Asked {
    pub(crate) async fn answer(self, body: &str) {
        self.answer_as("200 OK", "", body.as_bytes()).await;
    }

    pub(crate) async fn answer_as(mut self, status: &str, headers: &str, body: &[u8]) {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        // The feed may have heard enough and left.
        _ = self.tcp.write_all(head.as_bytes()).await;
        _ = self.tcp.write_all(body).await;
        _ = self.tcp.flush().await;
    }
}

impl Outcome {
    pub(crate) fn counts(&self) -> Counts {
        match &self.result {
            Ok(counts) => *counts,
            Err(error) => panic!("{error}: {:#?}", self.events),
        }
    }

    /// See [`refined`].
    pub(crate) fn refined(&self) -> (bool, u64) {
        refined(self.root.path(), Venue::BinanceSpot)
    }

    /// The raw queue as text, one line a record, its source left out.
    pub(crate) fn records(&self) -> Vec<String> {
        records(self.root.path())
    }
}

pub(crate) fn records(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    each_record(&queue_of(root), |_, record| {
        if let Some(line) = line(record) {
            lines.push(line);
        }
    });
    lines
}

pub(crate) fn each_record(queue: &Path, mut each: impl FnMut(u64, &Record<'_>)) {
    let mut reader = Queue::observer(
        &Linux,
        queue,
        SubscriberOptions { start: chronicle_storage::queue::Start::Earliest, ..SubscriberOptions::default() },
    )
    .unwrap();
    let mut payload = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        payload.resize(frame.payload.len(), 0);
        frame.payload.copy_to(&mut payload);
        let record = Record::parse(frame.type_id, &payload).unwrap();
        assert_eq!(frame.time_ns, record.head().ingest_ns);
        each(frame.seq, &record);
    }
}

/// Keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    type Error = std::convert::Infallible;

    fn append(&mut self, _: Place, _: Append, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn seal(&mut self, _: Place) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Whether the refinery's book of the first symbol in the raw queue is valid at its end, and its last id.
pub(crate) fn refined(root: &Path, venue: Venue) -> (bool, u64) {
    let mut refinery = Refinery::new(Name::new(venue.name()).unwrap());
    each_record(&queue_of(root), |_, record| {
        let mut payload = vec![0; record.encoded_len()];
        record.encode(&mut payload).unwrap();
        // Received when it was sent: the days of these messages are long over.
        let frame = RawFrame { ingest_ns: SENT_NS, type_id: record.type_id(), payload: &payload };
        refinery.frame(frame, &mut Nowhere).unwrap();
    });
    let symbol = &refinery.symbols()[0];
    (symbol.is_valid(), symbol.last().0)
}

fn line(record: &Record<'_>) -> Option<String> {
    Some(match record {
        Record::BookDelta(r) => format!("delta {} {}..{}", r.symbol, r.first_id, r.last_id),
        Record::BookSnapshot(r) => format!("snapshot {} {}", r.symbol, r.last_id),
        Record::Trade(r) => format!("trade {} {}", r.symbol, r.trade_id),
        Record::Quote(r) => format!("quote {} {}", r.symbol, r.update_id),
        Record::Gap(r) => {
            format!("gap {} {} [{}..{}] {}", r.symbol, r.after_id, r.missing_from, r.missing_to, r.next_id)
        }
        Record::Opaque(r) => {
            format!("{} [{}] {}", r.reason.as_str(), r.symbol, String::from_utf8_lossy(r.bytes))
        }
        _ => return None,
    })
}

/// A spot delta.
pub(crate) fn delta(symbol: &str, first: u64, last: u64) -> String {
    format!(
        r#"{{"stream":"{}@depth@100ms","data":{{"e":"depthUpdate","E":1700000000000,"s":"{symbol}","U":{first},"u":{last},"b":[["1.00","{}.0"]],"a":[]}}}}"#,
        symbol.to_lowercase(),
        last % 1000 + 1
    )
}

pub(crate) fn trade(symbol: &str, id: u64) -> String {
    format!(
        r#"{{"stream":"{}@trade","data":{{"e":"trade","E":1700000000000,"s":"{symbol}","t":{id},"p":"1.00","q":"2.0","T":1700000000000,"m":true,"M":true}}}}"#,
        symbol.to_lowercase()
    )
}

pub(crate) fn quote(symbol: &str, id: u64) -> String {
    format!(
        r#"{{"stream":"{}@bookTicker","data":{{"u":{id},"s":"{symbol}","b":"1.00","B":"2.0","a":"1.01","A":"3.0"}}}}"#,
        symbol.to_lowercase()
    )
}

/// A spot snapshot.
pub(crate) fn snapshot(last: u64) -> String {
    format!(r#"{{"lastUpdateId":{last},"bids":[["1.00","5.0"]],"asks":[["1.01","6.0"]]}}"#)
}
