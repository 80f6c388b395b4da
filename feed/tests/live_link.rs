//! A connection ends in every way there is, at every step there is. None of them may lose what was said, leave a feed that
//! waits for ever, or bring it back in a storm. One that is old is replaced before it ends, and nothing is lost or kept
//! twice in between.
#![cfg(target_os = "linux")]

mod live_venue;

use std::time::{Duration, Instant};

use chronicle_feed::{
    Venue,
    live::{Event, FeedError},
};
use live_venue::{delta, options, play, quote, refined, snapshot, trade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

const X: &str = "XUSDT";

fn whole(event: &Event) -> bool {
    matches!(event, Event::Whole { .. })
}

fn disconnects(events: &[Event]) -> Vec<String> {
    let why = |event: &Event| match event {
        Event::Disconnected { why, .. } => Some(why.clone()),
        _ => None,
    };
    events.iter().filter_map(why).collect()
}

fn failures(events: &[Event]) -> Vec<String> {
    let why = |event: &Event| match event {
        Event::ConnectFailed { why, .. } => Some(why.clone()),
        _ => None,
    };
    events.iter().filter_map(why).collect()
}

#[tokio::test]
async fn after_a_drop_the_hole_is_told_and_closed_by_a_snapshot() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        drop(stream);
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 9, 9)).await;
        stream.say(delta(X, 10, 10)).await;
        venue.request().await.answer(&snapshot(9)).await;
        venue.counted("whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.connections, counts.disconnects, counts.gaps), (2, 1, 1));
    assert!(outcome.events.contains(&Event::Gap { symbol: X.to_owned(), missing_from: 5, missing_to: 8 }));
}

#[tokio::test]
async fn a_drop_in_which_nothing_happened_leaves_no_hole() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        stream.socket.close(None).await.unwrap();
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 5, 6)).await;
        venue.counted("the next", |counts| counts.deltas == 3).await;
        assert!(!venue.asks_within(Duration::from_millis(100)).await, "the book is whole");
    })
    .await;
    assert_eq!((outcome.counts().gaps, outcome.counts().books_whole), (0, 1));
}

#[tokio::test]
async fn each_way_to_end_a_connection_is_named_and_followed_by_a_new_one() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        // Before the handshake.
        drop(venue.tcp().await);
        // In the midst of it.
        let mut tcp = venue.tcp().await;
        tcp.write_all(b"HTTP/1.1 101 Switching").await.unwrap();
        drop(tcp);
        // No WebSocket at all.
        let mut tcp = venue.tcp().await;
        let mut request = [0; 2048];
        assert_ne!(tcp.read(&mut request).await.unwrap(), 0);
        tcp.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        drop(tcp);
        // Right behind the handshake.
        drop(venue.stream().await);
        // With a goodbye and a reason.
        let (mut stream, _) = venue.stream().await;
        let goodbye = CloseFrame { code: CloseCode::Away, reason: "maintenance".into() };
        stream.socket.close(Some(goodbye)).await.unwrap();
        // In the midst of a frame.
        let (mut stream, _) = venue.stream().await;
        stream.raw(&[0x81, 126, 0x10, 0x00, b'{']).await;
        drop(stream);
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 1)).await;
        stream.say(delta(X, 2, 2)).await;
        // In the midst of a snapshot, before its head, and behind it.
        drop(venue.request().await);
        let mut asked = venue.request().await;
        asked.tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"lastUpd").await.unwrap();
        drop(asked);
        let mut asked = venue.request().await;
        asked.tcp.write_all(b"HTTP/1.1 200").await.unwrap();
        drop(asked);
        venue.request().await.answer(&snapshot(1)).await;
        venue.told("that the book is whole", whole).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.connect_failures, counts.disconnects, counts.snapshot_failures), (3, 3, 3));
    assert_eq!(disconnects(&outcome.events)[1], "the venue closed it: 1001, maintenance");
    assert!(failures(&outcome.events)[2].contains("status 503"), "{:?}", failures(&outcome.events));
    assert_eq!(outcome.records(), ["delta XUSDT 1..1", "delta XUSDT 2..2", "snapshot XUSDT 1"]);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_and_nothing_else() {
    let long = "x".repeat(2000);
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.message_len_max = 1000;
    let outcome = play(options, async |venue| {
        // Compressed, which nobody agreed on: a frame with its first reserved bit set.
        let (mut stream, _) = venue.stream().await;
        stream.raw(&[0xc1, 2, 0x4b, 0x04]).await;
        // Longer than allowed; the length alone is enough.
        let (mut stream, _) = venue.stream().await;
        stream.raw(&[0x81, 127, 0, 0, 0, 0xff, 0, 0, 0, 0]).await;
        // The same in pieces.
        let (mut stream, _) = venue.stream().await;
        stream.raw(&[&[0x01, 126, 0x03, 0x00][..], &long.as_bytes()[..0x300]].concat()).await;
        stream.raw(&[&[0x80, 126, 0x03, 0x00][..], &long.as_bytes()[..0x300]].concat()).await;
        // Not UTF-8.
        let (mut stream, _) = venue.stream().await;
        stream.raw(&[0x81, 2, 0xff, 0xfe]).await;
        // A continuation of nothing.
        let (mut stream, _) = venue.stream().await;
        stream.raw(&[0x80, 1, b'x']).await;
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 1)).await;
        venue.counted("a message", |counts| counts.messages == 1).await;
    })
    .await;
    let ended = disconnects(&outcome.events);
    assert_eq!(ended.len(), 5, "{ended:?}");
    assert!(ended[0].contains("broke the WebSocket protocol"), "{ended:?}");
    assert!(ended[1].starts_with("a message of ") && ended[1].ends_with("1000 are allowed"), "{ended:?}");
    assert!(ended[2].starts_with("a message of ") && ended[2].ends_with("1000 are allowed"), "{ended:?}");
    assert_eq!(ended[3], "a text that is not UTF-8");
    assert!(ended[4].contains("broke the WebSocket protocol"), "{ended:?}");
}

#[tokio::test]
async fn garbage_is_counted_and_kept_and_the_stream_goes_on() {
    let garbage = [
        "",
        "{",
        "null",
        r#"{"stream":"xusdt@depth","data":{"e":"depthUpdate","s":"XUSDT"}}"#,
        r#"{"e":"trade","s":7}"#,
    ];
    let deep = "[".repeat(100_000);
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 1)).await;
        for text in garbage {
            stream.say(text).await;
        }
        stream.say(deep.as_str()).await;
        stream.send(Message::Binary(Bytes::from_static(&[0, 1, 0xff]))).await;
        // Well made, and of a symbol that nobody asked for.
        stream.say(delta("OTHER", 1, 1)).await;
        stream.say(r#"{"result":null,"id":1}"#).await;
        stream.say(delta(X, 2, 2)).await;
        venue.request().await.answer(&snapshot(1)).await;
        venue.told("that the book is whole", whole).await;
        venue.counted("all", |counts| counts.messages == 11).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.disconnects, counts.gaps, counts.books_whole, counts.unasked), (0, 0, 1, 1));
    // `null` is JSON of an unknown kind; the rest is no message.
    assert_eq!((counts.malformed, counts.opaque), (6, 2), "{:#?}", outcome.events);
    let kept: Vec<_> = outcome.records().into_iter().filter(|line| line.starts_with("malformed [] ")).collect();
    assert_eq!(kept.len(), 6);
    assert_eq!(kept[1], "malformed [] {");
    assert_eq!(kept[4].len(), "malformed [] ".len() + deep.len());
}

#[tokio::test]
async fn bodies_that_are_no_snapshot_are_told_and_asked_for_again() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.message_len_max = 10_000;
    let long = "x".repeat(10_001);
    let outcome = play(options, async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 1)).await;
        stream.say(delta(X, 2, 2)).await;
        let asked = venue.request().await;
        assert!(asked.head.to_lowercase().contains("accept-encoding: identity"), "{}", asked.head);
        asked.answer("<html>").await;
        venue.request().await.answer_as("200 OK", "", &[0xff, 0xfe]).await;
        venue.request().await.answer(&trade(X, 1)).await;
        venue.request().await.answer(&long).await;
        // A bomb would be 10 kB that inflate to 10 GB: it is not even read.
        venue.request().await.answer_as("200 OK", "content-encoding: gzip\r\n", &[0x1f, 0x8b, 8]).await;
        venue.request().await.answer_as("500 Oops", "", b"oops").await;
        venue.request().await.answer_as("429 Slower", "retry-after: 1\r\n", b"").await;
        let began = Instant::now();
        venue.request().await.answer(&snapshot(1)).await;
        assert!(began.elapsed() > Duration::from_millis(900), "what the venue asks for is kept");
        venue.told("that the book is whole", whole).await;
    })
    .await;
    let why: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            Event::SnapshotFailed { why, .. } => Some(why.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(why.len(), 7, "{why:?}");
    assert!(why[0].starts_with("not JSON at byte 0"), "{why:?}");
    assert_eq!(why[1], "not UTF-8 at byte 0");
    assert_eq!(why[2], "a trade instead of a snapshot");
    assert_eq!(why[3], "answer longer than 10000 bytes");
    assert_eq!(why[4], "answer encoded as `gzip`, which was not asked for");
    assert_eq!(why[5], "status 500: oops");
    assert_eq!(why[6], "status 429: too many requests, again in 1 s");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_asked_and_then_left() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.silence_max = Duration::from_millis(2000);
    let outcome = play(options, async |venue| {
        // It answers pings and is kept, however long it has nothing to say.
        let (mut stream, _) = venue.stream().await;
        let began = Instant::now();
        let mut pings = 0;
        while began.elapsed() < Duration::from_millis(5000) {
            pings += u32::from(matches!(stream.hear().await, Some(Message::Ping(_))));
        }
        assert!(pings >= 2, "{pings}");
        assert_eq!(venue.events().len(), 1, "{:?}", venue.events());
        // It no longer does.
        venue.told("the silence", |event| matches!(event, Event::Disconnected { .. })).await;
        let (mut stream, _) = venue.stream().await;
        stream.send(Message::Ping(Bytes::from_static(b"are you there"))).await;
        loop {
            if let Some(Message::Pong(back)) = stream.hear().await {
                assert_eq!(&back[..], b"are you there");
                break;
            }
        }
    })
    .await;
    assert_eq!(disconnects(&outcome.events), ["silent for 2 s"]);
}

#[tokio::test]
async fn a_refusal_that_only_a_person_can_mend_ends_the_feed_but_only_before_anything_worked() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let mut tcp = venue.tcp().await;
        let mut request = [0; 2048];
        assert_ne!(tcp.read(&mut request).await.unwrap(), 0);
        tcp.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nregion").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let error = outcome.result.unwrap_err();
    assert!(matches!(error, FeedError::Connect { .. }));
    assert!(error.to_string().contains("status 403"), "{error}");

    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        drop(venue.stream().await);
        let mut tcp = venue.tcp().await;
        let mut request = [0; 2048];
        assert_ne!(tcp.read(&mut request).await.unwrap(), 0);
        tcp.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        drop(tcp);
        venue.stream().await;
    })
    .await;
    assert_eq!(outcome.counts().connect_failures, 1);
}

#[tokio::test]
async fn an_old_connection_is_replaced_without_a_hole_and_without_a_double() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.age_max = Some(Duration::from_millis(300));
    options.overlap_max = Duration::from_secs(40);
    let outcome = play(options, async |venue| {
        let (mut old, _) = venue.stream().await;
        old.say(delta(X, 1, 1)).await;
        old.say(delta(X, 2, 2)).await;
        venue.request().await.answer(&snapshot(1)).await;
        venue.told("that the book is whole", whole).await;
        old.say(trade(X, 1)).await;
        old.say(quote(X, 100)).await;
        // The second connection comes while the first one lives, and is ahead of it.
        let (mut new, path) = venue.stream().await;
        assert!(path.contains("xusdt@depth"));
        new.say(delta(X, 4, 4)).await;
        new.say(delta(X, 5, 5)).await;
        new.say(trade(X, 3)).await;
        new.say(trade(X, 4)).await;
        new.say(quote(X, 103)).await;
        new.say(quote(X, 105)).await;
        venue.counted("what the new one said", |counts| counts.messages == 10).await;
        // What only the old one has, then what both have.
        for text in
            [delta(X, 3, 3), delta(X, 4, 4), delta(X, 5, 5), delta(X, 6, 6), trade(X, 2), trade(X, 3), quote(X, 102)]
        {
            old.say(text).await;
        }
        // Until this one the two are not joined, however long it takes.
        old.say(quote(X, 103)).await;
        new.say(delta(X, 6, 6)).await;
        venue.told("the handover", |event| *event == Event::HandedOver).await;
        new.say(delta(X, 7, 7)).await;
        new.say(trade(X, 5)).await;
        new.say(quote(X, 106)).await;
        venue.counted("the last", |counts| counts.quotes == 5).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.gaps, counts.repeated, counts.handovers, counts.disconnects), (0, 0, 1, 0));
    let of = |what: &str| -> Vec<String> {
        let rest = |line: String| line.strip_prefix(what).map(|rest| rest.trim_start_matches(" XUSDT ").to_owned());
        outcome.records().into_iter().filter_map(rest).collect()
    };
    assert_eq!(of("delta"), ["1..1", "2..2", "3..3", "4..4", "5..5", "6..6", "7..7"]);
    assert_eq!(of("trade"), ["1", "2", "3", "4", "5"]);
    assert_eq!(of("quote"), ["100", "102", "103", "105", "106"]);
    assert_eq!(of("snapshot"), ["1"]);
}

/// Two connections are one stream only while they cut the book's events at the same ids. Where they do not, no order of
/// theirs is a book: a snapshot makes it whole again, and nothing is taken for what it is not.
#[tokio::test]
async fn two_connections_that_cut_events_at_other_ids_are_not_laid_over_each_other() {
    for venue in [Venue::BinanceSpot, Venue::BinanceUsdm] {
        let delta = |first: u64, last: u64| match venue {
            Venue::BinanceUsdm => {
                delta(X, first, last).replace(r#","b":"#, &format!(r#","T":1700000000000,"pu":{},"b":"#, first - 1))
            }
            _ => delta(X, first, last),
        };
        let mut options = options(venue, &[X]);
        options.age_max = Some(Duration::from_millis(200));
        options.overlap_max = Duration::from_secs(3);
        let outcome = play(options, async |venue| {
            let (mut old, _) = venue.stream().await;
            old.say(delta(1, 2)).await;
            old.say(delta(3, 4)).await;
            venue.request().await.answer(&snapshot(3)).await;
            venue.told("that the book is whole", whole).await;
            let (mut new, _) = venue.stream().await;
            new.say(delta(5, 6)).await;
            new.say(delta(7, 9)).await;
            venue.counted("what the new one said", |counts| counts.messages == 4).await;
            // It ends within the new one's event.
            old.say(delta(5, 8)).await;
            old.say(delta(9, 10)).await;
            venue.counted("what the old one said", |counts| counts.messages == 6).await;
            new.say(delta(10, 12)).await;
            let asked = venue.request().await;
            old.say(delta(11, 11)).await;
            venue.counted("what the old one said", |counts| counts.messages == 8).await;
            drop(old);
            venue.told("the handover", |event| *event == Event::HandedOver).await;
            new.say(delta(13, 13)).await;
            new.say(delta(14, 15)).await;
            asked.answer(&snapshot(13)).await;
            venue.counted("whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
        })
        .await;
        let counts = outcome.counts();
        // One where the second connection's event begins within the first one's, and wherever they take turns after that.
        assert_eq!((counts.gaps, counts.repeated), (3, 0), "{:#?}", outcome.events);
        // Each id stands in the stream, and none of them twice without a gap between.
        let deltas: Vec<_> = outcome.records().into_iter().filter(|line| line.starts_with("delta")).collect();
        let ids = ["1..2", "3..4", "5..8", "7..9", "9..10", "10..12", "13..13", "14..15"];
        assert_eq!(deltas, ids.map(|ids| format!("delta XUSDT {ids}")), "{venue}");
        assert_eq!(refined(outcome.root.path(), venue), (true, 15), "{venue}");
    }
}

/// The same across a drop: the next connection begins within an event of the last one.
#[tokio::test]
async fn a_connection_that_begins_within_an_event_of_the_one_before_makes_a_new_book() {
    for (first, last) in [(7, 9), (7, 12)] {
        let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
            let (mut stream, _) = venue.stream().await;
            stream.say(delta(X, 1, 2)).await;
            stream.say(delta(X, 3, 4)).await;
            venue.request().await.answer(&snapshot(2)).await;
            venue.told("that the book is whole", whole).await;
            stream.say(delta(X, 5, 10)).await;
            venue.counted("it", |counts| counts.deltas == 3).await;
            drop(stream);
            let (mut stream, _) = venue.stream().await;
            stream.say(delta(X, first, last)).await;
            stream.say(delta(X, last + 1, last + 2)).await;
            venue.request().await.answer(&snapshot(last)).await;
            venue.counted("whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
        })
        .await;
        let counts = outcome.counts();
        assert_eq!((counts.gaps + counts.went_back, counts.repeated, counts.lies), (1, 0, 0));
        assert_eq!(outcome.refined(), (true, last + 2));
    }
}

#[tokio::test]
async fn the_old_connection_may_die_while_the_new_one_joins() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.age_max = Some(Duration::from_millis(200));
    let outcome = play(options, async |venue| {
        let (mut old, _) = venue.stream().await;
        old.say(delta(X, 1, 1)).await;
        old.say(delta(X, 2, 2)).await;
        venue.request().await.answer(&snapshot(1)).await;
        venue.told("that the book is whole", whole).await;
        let (mut new, _) = venue.stream().await;
        new.say(delta(X, 3, 3)).await;
        new.say(delta(X, 4, 4)).await;
        venue.counted("what the new one said", |counts| counts.messages == 4).await;
        drop(old);
        venue.told("the handover", |event| *event == Event::HandedOver).await;
        new.say(delta(X, 5, 5)).await;
        venue.counted("the last", |counts| counts.deltas == 5).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.gaps, counts.books_whole, counts.snapshots), (0, 1, 1));
    assert_eq!(outcome.records().last().unwrap(), "delta XUSDT 5..5");
}

#[tokio::test]
async fn a_venue_that_says_goodbye_first_is_left_before_it_goes() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.overlap_max = Duration::from_secs(2);
    let outcome = play(options, async |venue| {
        let (mut old, _) = venue.stream().await;
        old.say(r#"{"e":"serverShutdown","E":1700000000000}"#).await;
        let (mut new, _) = venue.stream().await;
        new.say(trade(X, 1)).await;
        venue.told("the handover", |event| *event == Event::HandedOver).await;
    })
    .await;
    assert_eq!((outcome.counts().disconnects, outcome.counts().handovers), (0, 1));
}

#[tokio::test]
async fn a_new_connection_that_stays_mute_takes_nothing_over() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.age_max = Some(Duration::from_millis(100));
    options.overlap_max = Duration::from_millis(1600);
    let outcome = play(options, async |venue| {
        let (mut old, _) = venue.stream().await;
        old.say(trade(X, 1)).await;
        let (_mute, _) = venue.stream().await;
        venue.told("that it is left", |event| matches!(event, Event::Disconnected { .. })).await;
        old.say(trade(X, 2)).await;
        venue.counted("the old one", |counts| counts.trades == 2).await;
    })
    .await;
    assert_eq!(outcome.counts().handovers, 0);
}

#[tokio::test]
async fn attempts_are_spread_and_do_not_come_in_a_storm() {
    let mut options = options(Venue::BinanceSpot, &[X]);
    options.retry = [Duration::from_millis(50), Duration::from_secs(2)];
    let began = Instant::now();
    let outcome = play(options, async |venue| {
        for _ in 0..7 {
            drop(venue.tcp().await);
        }
    })
    .await;
    let waits: Vec<u64> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            Event::ConnectFailed { retry_ms, .. } => Some(*retry_ms),
            _ => None,
        })
        .collect();
    assert!(waits.len() >= 6, "{waits:?}");
    for (attempt, wait) in (0..).zip(&waits) {
        assert!(*wait <= (50 << attempt).min(2000), "{waits:?}");
    }
    assert!(began.elapsed() >= Duration::from_millis(waits.iter().take(6).sum()), "it waited as it said");
}
