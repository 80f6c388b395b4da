//! Whatever a client sends, or does not read, costs the exchange little and nobody else anything.

mod client;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use chronicle_exchange::random::Random;
use client::{Stream, get, start, until};

fn raw(at: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The exchange may hang up while we speak.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn bytes_that_are_no_request_are_refused() {
    let exchange = start(|_| {});
    let at = exchange.address();
    let mut random = Random::new(5);
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    let mut attacks: Vec<Vec<u8>> = vec![
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET /api/v3/depth?symbol=%00%ff HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        [b"GET /".to_vec(), vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 1_000_000]].concat(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(1_000), b"\r\n".to_vec()].concat(),
        b"POST /local/mark HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx".to_vec(),
        [b"POST /local/mark HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".to_vec(), vec![b'x'; 1_000_000]]
            .concat(),
        b"POST /local/mark HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        format!("{upgrade}\r\n").into_bytes(),
        format!("{upgrade}Sec-WebSocket-Version: 13\r\n\r\n").into_bytes(),
        b"GET / HTTP/1.1\r\nHost".to_vec(),
    ];
    for _ in 0..30 {
        let len = random.below(400);
        attacks.push((0..len).map(|_| random.next() as u8).collect());
    }
    for bytes in attacks {
        let answer = raw(at, &bytes);
        assert!(answer.is_empty() || !answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&bytes));
        assert!(!answer.starts_with(b"HTTP/1.1 101"));
    }
    Stream::open(at, "/ws/btcusdt@depth").next();
}

#[test]
fn frames_that_break_the_rules_end_their_own_connection_only() {
    let exchange = start(|_| {});
    let at = exchange.address();
    let mut witness = Stream::open(at, "/ws/btcusdt@depth");
    let mut random = Random::new(6);
    let mut attacks: Vec<Vec<u8>> = vec![
        vec![0x81, 0x05, b'h', b'e', b'l', b'l', b'o'],
        [&[0x81, 0xff], &u64::MAX.to_be_bytes()[..], &[0; 100]].concat(),
        vec![0xc1, 0x80, 0, 0, 0, 0],
        vec![0x83, 0x80, 0, 0, 0, 0],
        vec![0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff],
    ];
    for _ in 0..20 {
        attacks.push((0..200).map(|_| random.next() as u8).collect());
    }
    for bytes in attacks {
        let mut stream = Stream::open(at, "/ws");
        stream.0.get_mut().write_all(&bytes).unwrap();
        let _ = stream.0.get_mut().shutdown(std::net::Shutdown::Write);
        while stream.next_text().is_ok() {}
    }
    let mut chatty = Stream::open(at, "/ws");
    for _ in 0..50 {
        // It hangs up somewhere on the way.
        let _ = chatty.0.send(tokio_tungstenite::tungstenite::Message::text("{}"));
    }
    while chatty.next_text().is_ok() {}
    witness.next();
    until("all but the witness are gone", || get(at, "/local/status")["sessions"] == 1);
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let exchange = start(|config| {
        config.rate = 20_000;
        config.backlog_max = 1 << 20;
    });
    let at = exchange.address();
    let mut idle = Stream::open(at, "/stream?streams=btcusdt@depth/btcusdt@trade/btcusdt@bookTicker");
    // It does nothing else, so that a busy machine does not make it one that does not read.
    let mut reads = Stream::open(at, "/ws/btcusdt@trade");
    let (cut, told) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        while let Err(std::sync::mpsc::TryRecvError::Empty) = told.try_recv() {
            reads.next();
        }
        reads.next();
    });
    until("the idle one is cut off", || get(at, "/local/status")["sessions"] == 1);
    cut.send(()).unwrap();
    reader.join().unwrap();
    // What it was sent before is there, and then nothing.
    while idle.next_text().is_ok() {}
}

#[test]
fn connections_past_the_limit_wait_their_turn() {
    let exchange = start(|config| config.connections_max = 2);
    let at = exchange.address();
    let (one, two) = (Stream::open(at, "/ws/btcusdt@depth"), Stream::open(at, "/ws/btcusdt@depth"));
    let mut third = TcpStream::connect(at).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    third.write_all(b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = [0; 8];
    third.read_exact(&mut answer).unwrap_err();
    drop(one);
    third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    third.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1");
    drop(two);
}
