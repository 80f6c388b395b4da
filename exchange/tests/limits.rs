//! A client that asks too often is refused as a venue refuses it: it would find that out nowhere else before it is banned.

mod client;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use client::{get, start};

/// Status and `Retry-After` of an answer.
fn asked(at: SocketAddr, path: &str) -> (u16, Option<u64>) {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: exchange\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let wait = head.to_lowercase().lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse().ok());
    (head[9..12].parse().unwrap(), wait)
}

#[test]
fn requests_past_the_weight_are_refused_and_then_banned() {
    let exchange = start(|config| config.weight_max = 100);
    let (at, depth) = (exchange.address(), "/api/v3/depth?symbol=BTCUSDT&limit=1000");
    // Two a minute; a minute may end once between them.
    let first: Vec<_> = (0..5).map(|_| asked(at, depth)).collect();
    assert_eq!(first[0], (200, None));
    let (status, wait) = *first.last().unwrap();
    assert!(status == 429 && wait.is_some_and(|wait| (1..=60).contains(&wait)), "{first:?}");
    let banned = (0..40).map(|_| asked(at, depth)).find(|(status, _)| *status == 418);
    assert_eq!(banned, Some((418, Some(120))));
    // The tests' own interface is not the venue's.
    get(at, "/local/status");
}
