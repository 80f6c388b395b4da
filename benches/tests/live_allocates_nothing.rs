//! A live feed asks nothing of the heap for a message: not between the text that the client library hands over and the record
//! in the raw queue.
//!
//! Counted on the feed's thread, over real sockets: a whole feed, and beside it the bare client library that does nothing
//! but receive the same messages. What the feed asks for beyond the library must be less than one in a thousand messages.
#![cfg(target_os = "linux")]

use chronicle_feed::{
    Venue,
    live::{Options, RawEnd, Tell, follow},
};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
use futures_util::{SinkExt, StreamExt};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

/// Counts what each thread asks of the heap.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on as it came, to an allocator that keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has nothing to count in any more.
        _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about the layout, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, and so from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn count() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

const MESSAGES: u64 = 60_000;
/// A book is whole by then.
const BEGUN: u64 = 300;
/// Buffers have grown by then.
const WARM: u64 = 5_000;

fn message(number: u64) -> String {
    match number % 3 {
        0 => format!(
            r#"{{"stream":"xusdt@depth@100ms","data":{{"e":"depthUpdate","E":1700000000000,"s":"XUSDT","U":{id},"u":{id},"b":[["1.00","{id}.0"],["0.99","2.0"]],"a":[["1.01","0.0"]]}}}}"#,
            id = number / 3 + 1
        ),
        1 => format!(
            r#"{{"stream":"xusdt@trade","data":{{"e":"trade","E":1700000000000,"s":"XUSDT","t":{number},"p":"1.00","q":"2.0","T":1700000000000,"m":true,"M":true}}}}"#
        ),
        _ => format!(
            r#"{{"stream":"xusdt@bookTicker","data":{{"u":{number},"s":"XUSDT","b":"1.00","B":"2.0","a":"1.01","A":"3.0"}}}}"#
        ),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Says all messages to whoever comes, and then nothing.
fn venue() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut socket = accept_async(tcp).await.unwrap();
                for number in 0..MESSAGES {
                    if number == BEGUN {
                        // A snapshot takes its time.
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    // Whoever listens may have heard enough.
                    if socket.send(Message::Text(message(number).into())).await.is_err() {
                        break;
                    }
                }
                while let Some(Ok(_)) = socket.next().await {}
            }
        });
    });
    at
}

/// Answers every request with a snapshot.
fn snapshots() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let mut head = [0; 4096];
            _ = tcp.read(&mut head).unwrap();
            let body = r#"{"lastUpdateId":1,"bids":[["1.00","5.0"]],"asks":[["1.01","6.0"]]}"#;
            write!(tcp, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    at
}

/// What the client library asks for, from the warm message on.
fn library(venue: SocketAddr) -> u64 {
    runtime().block_on(async {
        let tcp = tokio::net::TcpStream::connect(venue).await.unwrap();
        let (mut socket, _) = client_async(format!("ws://{venue}/stream"), tcp).await.unwrap();
        let mut before = 0;
        for number in 0..MESSAGES {
            if number == WARM {
                before = count();
            }
            assert!(matches!(socket.next().await, Some(Ok(Message::Text(_)))));
        }
        count() - before
    })
}

/// What a feed asks for, all in all, for how many messages.
fn feed(venue: SocketAddr) -> (u64, u64) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let room =
        PublisherOptions { segment_len: 32 << 20, max_bytes: 128 << 20, ..PublisherOptions::new(Profile::Clean) };
    let hot = Queue::publisher(&Linux, dir.path().join("raw/queue"), room.clone()).unwrap();
    let mut raw = RawEnd::new(&Linux, hot, &dir.path().join("overflow/queue"), room).unwrap();
    let mut options = Options::new(Venue::BinanceSpot, vec!["XUSDT".to_owned()], 1);
    options.stream = Some(format!("ws://{venue}").parse().unwrap());
    options.rest = Some(format!("http://{}", snapshots()).parse().unwrap());
    options.status_every = Duration::from_millis(1);
    let (first, last) = (Cell::new(None), Cell::new((0, 0)));
    let stop = async {
        while last.get().0 < MESSAGES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let wall_ns = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let tell = |told: Tell<'_>| {
        if let Tell::Status(counts) = told
            && last.get().0 < MESSAGES
        {
            last.set((counts.messages, count()));
            if first.get().is_none() && counts.messages >= WARM && counts.books_whole == 1 {
                first.set(Some(last.get()));
            }
        }
    };
    let counts = runtime().block_on(follow(&options, &mut raw, wall_ns, stop, tell)).unwrap();
    assert_eq!((counts.deltas + counts.trades + counts.quotes, counts.gaps), (MESSAGES, 0), "{counts:?}");
    let ((first, before), (last, after)) =
        (first.get().unwrap_or_else(|| panic!("no whole book: {counts:?}")), last.get());
    (after - before, last - first)
}

/// One test, so that nothing else runs in between.
#[test]
fn a_message_asks_nothing_of_the_heap() {
    let before = count();
    drop(std::hint::black_box(vec![7_u8; 100]));
    assert_eq!(count() - before, 1, "what is asked of the heap is counted");
    let venue = venue();
    let library = library(venue);
    let (feed, messages) = feed(venue);
    let share = |asked: u64, messages: u64| asked as f64 / messages as f64;
    let (library, feed) = (share(library, MESSAGES - WARM), share(feed, messages));
    eprintln!("asked of the heap a message: the client library alone {library:.4}, a feed {feed:.4}, of {messages}");
    assert!(messages > 1000, "{messages}");
    assert!(feed < library + 0.001, "the client library alone {library}, a feed {feed}");
}
