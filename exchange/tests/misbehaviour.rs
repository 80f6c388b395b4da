//! What the exchange is asked to do wrong, it does, that often and no oftener, and counts it: a test that survives a
//! fault which never happened shows nothing.

mod client;

use client::{Stream, ask, get, post, request, start};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;

const DEPTH: &str = "/ws/btcusdt@depth";

fn fired(at: std::net::SocketAddr) -> Vec<u64> {
    let faults = get(at, "/local/misbehave");
    faults.as_array().unwrap().iter().map(|fault| fault["fired"].as_u64().unwrap()).collect()
}

fn span(event: &Value) -> (u64, u64) {
    (event["U"].as_u64().unwrap(), event["u"].as_u64().unwrap())
}

#[test]
fn messages_are_skipped_doubled_swapped_and_bent() {
    let exchange = start(|_| {});
    let at = exchange.address();
    for what in ["skip&after=4", "duplicate&after=8", "reorder&after=12", "lie&field=u&by=1000000&after=16"] {
        post(at, &format!("/local/misbehave?channel=depth&what={what}"));
    }
    let mut stream = Stream::open(at, DEPTH);
    let spans: Vec<(u64, u64)> = (0..20).map(|_| span(&stream.next())).collect();
    let breaks: Vec<(usize, i64)> = (1..spans.len())
        .map(|at| (at, spans[at].0.cast_signed() - spans[at - 1].1.cast_signed() - 1))
        .filter(|(_, step)| *step != 0)
        .collect();
    // Messages count from 0: the 5th is skipped, the 9th doubled, the 13th behind the 14th, the 17th says a false end.
    assert!(matches!(breaks[0], (4, 1..)), "a gap: {breaks:?}");
    assert_eq!(spans[7], spans[8], "twice: {spans:?}");
    assert!(spans[12].0 > spans[13].1, "swapped: {spans:?}");
    assert_eq!(breaks.iter().filter(|(_, step)| *step < -900_000).count(), 1, "one lie: {breaks:?}");
    assert_eq!(fired(at), [1, 1, 1, 1]);
    assert_eq!(ask(at, "DELETE", "/local/misbehave").0, 200);
    assert!(fired(at).is_empty());
}

#[test]
fn connections_end_as_asked_and_the_next_one_works() {
    let exchange = start(|_| {});
    let at = exchange.address();
    for how in ["reset", "silent", "close&code=1012"] {
        post(at, &format!("/local/misbehave?what=drop&after=3&how={how}"));
        let mut stream = Stream::open(at, DEPTH);
        let mut count = 0;
        let error = loop {
            match stream.next_text() {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(count, 3, "{how}");
        match how {
            "reset" => assert!(matches!(error, Error::Io(_)), "{error:?}"),
            "silent" => assert!(matches!(error, Error::Protocol(_) | Error::ConnectionClosed), "{error:?}"),
            _ => assert!(matches!(error, Error::ConnectionClosed | Error::Protocol(_)), "{error:?}"),
        }
        ask(at, "DELETE", "/local/misbehave");
    }
    for step in ["accept", "request", "upgrade"] {
        post(at, &format!("/local/misbehave?what=close_at&step={step}"));
        assert!(Stream::try_open(at, DEPTH).is_err(), "{step}");
        Stream::open(at, DEPTH).next();
    }
    post(at, "/local/misbehave?what=close_at&step=subscribe");
    let mut stream = Stream::open(at, "/ws");
    stream.say(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#);
    stream.next_text().unwrap_err();
}

#[test]
fn answers_break_off_lie_and_delay() {
    let exchange = start(|_| {});
    let at = exchange.address();
    let path = "/api/v3/depth?symbol=BTCUSDT&limit=1000";
    post(at, "/local/misbehave?what=close_in_snapshot");
    request(at, "GET", path).unwrap_err();
    post(at, "/local/misbehave?what=snapshot_garbage");
    let (status, body) = request(at, "GET", path).unwrap();
    assert!(status == 200 && serde_json::from_slice::<Value>(&body).is_err());
    post(at, "/local/misbehave?what=status&code=429");
    assert_eq!(ask(at, "GET", path).0, 429);
    post(at, "/local/misbehave?what=snapshot_bomb&bytes=50000000");
    let (_, body) = request(at, "GET", path).unwrap();
    assert!(body.len() < 200_000 && body.starts_with(&[0x1f, 0x8b]), "{} bytes", body.len());
    post(at, "/local/misbehave?what=snapshot_delay&ms=300");
    let begin = std::time::Instant::now();
    get(at, path);
    assert!(begin.elapsed().as_millis() >= 300);
    post(at, "/local/misbehave?what=snapshot_stale");
    let now = get(at, "/local/book?symbol=BTCUSDT")["last_update_id"].as_u64().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(get(at, path)["lastUpdateId"].as_u64().unwrap() <= now);
    assert_eq!(fired(at), [1; 6]);
    assert!(get(at, path)["lastUpdateId"].as_u64().unwrap() > now, "and then it is well again");
}

#[test]
fn garbage_breaks_a_strict_client_or_passes_it_and_never_looks_like_a_market() {
    let exchange = start(|_| {});
    let at = exchange.address();
    for kind in [
        "json",
        "numbers",
        "nesting",
        "empty",
        "utf8",
        "binary",
        "opcode",
        "continuation",
        "ping",
        "masked",
        "endless",
        "http",
    ] {
        post(at, &format!("/local/misbehave?what=garbage&kind={kind}"));
        let mut stream = Stream::open(at, DEPTH);
        let mut seen = vec![stream.next_text()];
        if seen[0].is_ok() {
            // After an error nothing more is read: what follows it has no meaning.
            seen.push(stream.next_text());
        }
        let odd = seen.iter().any(|seen| match seen {
            Err(_) => true,
            Ok(text) => serde_json::from_str::<Value>(text).is_ok_and(|v| v["e"] == "depthUpdate").eq(&false),
        });
        // A binary message is no text: this client passes over it and sees the market behind it.
        assert_eq!(odd, kind != "binary", "{kind}: {seen:?}");
    }
    assert_eq!(fired(at), [1; 12]);
    post(at, "/local/misbehave?what=bomb&bytes=30000000");
    Stream::open(at, DEPTH).next_text().unwrap_err();
    post(at, "/local/misbehave?what=oversize&bytes=20000000");
    let first = Stream::open(at, DEPTH).next_text();
    assert!(first.is_err() || first.is_ok_and(|text| text.len() == 20_000_000));
}
