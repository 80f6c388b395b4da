//! A live book must be whole or known not to be. Whatever the venue skips, repeats, swaps or makes up, the raw stream has
//! what makes the refinery's book the venue's own: every delta that was sent, in an order that joins a snapshot, and a new
//! snapshot behind every hole.
#![cfg(target_os = "linux")]

mod live_venue;

use std::time::Duration;

use chronicle_feed::{
    Venue,
    continuity::OLD_RUN_MAX,
    live::{Event, FeedError, RawEnd},
};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::Queue;
use live_venue::{
    delta, options, play, play_into, queue_of, quote, records, refined, scratch, small, snapshot, trade, wall_ns,
};

const X: &str = "XUSDT";

fn whole(event: &Event) -> bool {
    matches!(event, Event::Whole { .. })
}

#[tokio::test]
async fn a_snapshot_is_asked_for_once_the_stream_has_begun_and_lies_where_it_came() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, path) = venue.stream().await;
        assert_eq!(path, "/stream?streams=xusdt@depth@100ms/xusdt@trade/xusdt@bookTicker");
        stream.say(delta(X, 1, 3)).await;
        let asked = venue.request().await;
        assert_eq!(asked.path, "/api/v3/depth?symbol=XUSDT&limit=1000");
        stream.say(delta(X, 4, 6)).await;
        stream.say(trade(X, 7)).await;
        stream.say(quote(X, 8)).await;
        venue.counted("what was said", |counts| counts.messages == 4).await;
        asked.answer(&snapshot(5)).await;
        venue.told("that the book is whole", whole).await;
        stream.say(delta(X, 7, 9)).await;
        venue.counted("the last", |counts| counts.deltas == 3 && counts.books_whole == 1).await;
    })
    .await;
    assert_eq!(
        outcome.records(),
        [
            "delta XUSDT 1..3",
            "delta XUSDT 4..6",
            "trade XUSDT 7",
            "quote XUSDT 8",
            "snapshot XUSDT 5",
            "delta XUSDT 7..9"
        ]
    );
    let counts = outcome.counts();
    assert_eq!((counts.gaps, counts.duplicates, counts.malformed, counts.raw.hot), (0, 0, 0, 7));
}

#[tokio::test]
async fn a_snapshot_that_is_too_old_is_asked_for_again() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 11, 12)).await;
        stream.say(delta(X, 13, 14)).await;
        for _ in 0..3 {
            venue.request().await.answer(&snapshot(9)).await;
        }
        venue.request().await.answer(&snapshot(12)).await;
        venue.told("that the book is whole", whole).await;
    })
    .await;
    assert_eq!(outcome.counts().snapshots, 4);
    assert_eq!(outcome.records().last().unwrap(), "snapshot XUSDT 12");
}

#[tokio::test]
async fn ids_that_are_missing_make_a_gap_and_a_new_snapshot() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        // 5 to 7 are never sent.
        stream.say(delta(X, 8, 9)).await;
        stream.say(delta(X, 10, 11)).await;
        let asked = venue.request().await;
        asked.answer(&snapshot(9)).await;
        venue.counted("the book whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
    })
    .await;
    assert!(outcome.events.contains(&Event::Gap { symbol: X.to_owned(), missing_from: 5, missing_to: 7 }));
    assert_eq!(
        outcome.records(),
        [
            "delta XUSDT 1..2",
            "delta XUSDT 3..4",
            "snapshot XUSDT 2",
            "delta XUSDT 8..9",
            "delta XUSDT 10..11",
            "snapshot XUSDT 9"
        ]
    );
}

#[tokio::test]
async fn futures_are_followed_by_the_id_before() {
    let delta = |first: u64, last: u64, before: u64| {
        format!(
            r#"{{"stream":"xusdt@depth@100ms","data":{{"e":"depthUpdate","E":1700000000000,"T":1700000000000,"s":"XUSDT","U":{first},"u":{last},"pu":{before},"b":[["1.00","1"]],"a":[]}}}}"#
        )
    };
    let outcome = play(options(Venue::BinanceUsdm, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(100, 120, 90)).await;
        // Ids are shared by all symbols: a jump of U is none while pu is the last u.
        stream.say(delta(150, 160, 120)).await;
        let asked = venue.request().await;
        assert_eq!(asked.path, "/fapi/v1/depth?symbol=XUSDT&limit=1000");
        asked.answer(&snapshot(110)).await;
        venue.told("that the book is whole", whole).await;
        stream.say(delta(190, 200, 170)).await;
        stream.say(delta(210, 220, 200)).await;
        venue.request().await.answer(&snapshot(195)).await;
        venue.counted("whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
    })
    .await;
    assert!(outcome.events.contains(&Event::Gap { symbol: X.to_owned(), missing_from: 161, missing_to: 170 }));
}

#[tokio::test]
async fn two_messages_that_changed_places_are_put_in_order() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        stream.say(delta(X, 7, 8)).await;
        stream.say(delta(X, 5, 6)).await;
        stream.say(delta(X, 9, 9)).await;
        venue.counted("all", |counts| counts.deltas == 5).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.gaps, counts.reordered, counts.snapshots, counts.books_whole), (0, 1, 1, 1));
    let ends: Vec<_> = outcome.records().split_off(3);
    assert_eq!(ends, ["delta XUSDT 5..6", "delta XUSDT 7..8", "delta XUSDT 9..9"]);
}

/// Believed, it would make all that follow duplicates for ever, here and in the refinery.
#[tokio::test]
async fn a_lie_about_ids_is_kept_as_evidence_and_the_book_stays_whole() {
    const LIE: u64 = u64::MAX - 10;
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        stream.say(delta(X, LIE, LIE + 3)).await;
        for id in 5..10 {
            stream.say(delta(X, id, id)).await;
        }
        venue.counted("the lie", |counts| counts.lies == 1 && counts.deltas == 7).await;
        assert!(!venue.asks_within(Duration::from_millis(100)).await, "nothing is missing");
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.gaps, counts.books_whole), (0, 1));
    let evidence: Vec<_> = outcome.records().into_iter().filter(|line| line.starts_with("malformed")).collect();
    assert_eq!(evidence, [format!("malformed [XUSDT] {}", delta(X, LIE, LIE + 3))]);
}

#[tokio::test]
async fn a_lie_before_anything_else_is_found_out_too() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1 << 60, 1 << 60)).await;
        for id in 1..6 {
            stream.say(delta(X, id, id)).await;
        }
        venue.request().await.answer(&snapshot(3)).await;
        venue.told("that the book is whole", whole).await;
        venue.counted("the lie", |counts| counts.lies == 1).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.deltas, counts.gaps, counts.books_whole), (5, 0, 1));
}

/// Of a quiet symbol nothing follows a jump; only the venue's own book can tell whether it happened.
#[tokio::test]
async fn a_jump_that_nothing_follows_is_settled_by_a_snapshot() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        stream.say(delta(X, 8, 9)).await;
        let asked = venue.request().await;
        asked.answer(&snapshot(9)).await;
        venue.told("the gap", |event| matches!(event, Event::Gap { missing_from: 5, missing_to: 7, .. })).await;
    })
    .await;
    assert_eq!(outcome.records().split_off(3), ["delta XUSDT 8..9", "snapshot XUSDT 9"]);
    assert_eq!(outcome.counts().lies, 0);
}

/// The first id follows, so it is believed; then all that comes is older than what it claims.
#[tokio::test]
async fn a_last_id_that_lies_is_found_out_by_the_next_delta() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 1, 2)).await;
        stream.say(delta(X, 3, 4)).await;
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
        stream.say(delta(X, 5, 1_000_006)).await;
        stream.say(delta(X, 7, 8)).await;
        let asked = venue.request().await;
        stream.say(delta(X, 9, 10)).await;
        venue.counted("both", |counts| counts.deltas == 5).await;
        asked.answer(&snapshot(8)).await;
        venue.counted("whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
        stream.say(delta(X, 11, 11)).await;
        venue.counted("the last", |counts| counts.deltas == 6).await;
    })
    .await;
    assert!(outcome.events.contains(&Event::WentBack { symbol: X.to_owned(), seen: 1_000_006 }));
    assert_eq!(
        outcome.records().split_off(3),
        [
            "delta XUSDT 5..1000006",
            "gap XUSDT 6 [7..6] 7",
            "delta XUSDT 7..8",
            "delta XUSDT 9..10",
            "snapshot XUSDT 8",
            "delta XUSDT 11..11"
        ]
    );
    let counts = outcome.counts();
    assert_eq!((counts.went_back, counts.repeated, counts.gaps), (1, 0, 0));
    assert_eq!(outcome.refined(), (true, 11));
}

#[tokio::test]
async fn a_venue_that_numbers_anew_is_followed() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        stream.say(delta(X, 5001, 5001)).await;
        stream.say(delta(X, 5002, 5002)).await;
        venue.request().await.answer(&snapshot(5001)).await;
        venue.told("that the book is whole", whole).await;
        drop(stream);
        let (mut stream, _) = venue.stream().await;
        for id in 1..=u64::from(OLD_RUN_MAX) + 5 {
            stream.say(delta(X, id, id)).await;
        }
        venue.counted("all", |counts| counts.deltas == u64::from(OLD_RUN_MAX) + 7).await;
        venue.request().await.answer(&snapshot(u64::from(OLD_RUN_MAX) + 2)).await;
        venue.counted("whole again", |counts| counts.snapshots == 2 && counts.books_whole == 1).await;
    })
    .await;
    assert!(outcome.events.contains(&Event::WentBack { symbol: X.to_owned(), seen: 5002 }));
    assert_eq!(outcome.refined(), (true, u64::from(OLD_RUN_MAX) + 5));
}

/// What a feed saw before it ended the next one does not know; who reads the stream does.
#[tokio::test]
async fn a_feed_that_goes_on_with_a_stream_says_where_its_ids_begin() {
    let root = scratch();
    for (first, lie) in [(1, 1_000_000), (500, 502)] {
        let hot = Queue::publisher(&Linux, queue_of(root.path()), small()).unwrap();
        let mut raw = RawEnd::new(&Linux, hot, &root.path().join("overflow/queue"), small()).unwrap();
        let (result, _) = play_into(options(Venue::BinanceSpot, &[X]), &mut raw, wall_ns, async |venue| {
            let (mut stream, _) = venue.stream().await;
            stream.say(delta(X, first, first)).await;
            stream.say(delta(X, first + 1, first + 1)).await;
            venue.request().await.answer(&snapshot(first)).await;
            venue.told("that the book is whole", whole).await;
            // The last that this feed hears.
            stream.say(delta(X, first + 2, lie)).await;
            venue.counted("it", |counts| counts.deltas == 3).await;
        })
        .await;
        assert_eq!(result.unwrap().went_back, 0);
        raw.into_hot().unwrap().close().unwrap();
    }
    assert_eq!(refined(root.path(), Venue::BinanceSpot), (true, 502));
    let markers: Vec<_> = records(root.path()).into_iter().filter(|line| line.starts_with("gap")).collect();
    assert_eq!(markers, ["gap XUSDT 499 [500..499] 500"]);
}

#[tokio::test]
async fn what_one_connection_says_twice_is_kept_twice_and_counted() {
    let outcome = play(options(Venue::BinanceSpot, &[X]), async |venue| {
        let (mut stream, _) = venue.stream().await;
        for id in [1, 2, 2, 1, 3] {
            stream.say(delta(X, id, id)).await;
        }
        venue.request().await.answer(&snapshot(2)).await;
        venue.told("that the book is whole", whole).await;
    })
    .await;
    let counts = outcome.counts();
    assert_eq!((counts.repeated, counts.gaps, counts.books_whole), (2, 0, 1));
    // The refinery counts them as duplicates, as it does of a recording.
    assert_eq!(outcome.records().len(), 6);
}

#[tokio::test]
async fn a_symbol_that_the_venue_does_not_know_ends_the_feed_at_once() {
    let outcome = play(options(Venue::BinanceSpot, &["NOSUCH"]), async |venue| {
        let (_stream, _) = venue.stream().await;
        let body = r#"{"code":-1121,"msg":"Invalid symbol."}"#;
        venue.request().await.answer_as("400 Bad Request", "", body.as_bytes()).await;
        std::future::pending::<()>().await;
    })
    .await;
    let error = outcome.result.unwrap_err();
    assert!(matches!(error, FeedError::Snapshot { .. }));
    assert_eq!(error.to_string(), r#"NOSUCH: no snapshot: status 400: {\"code\":-1121,\"msg\":\"Invalid symbol.\"}"#);
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_with_their_reason() {
    for (venue, symbols, why) in [
        (Venue::Okx, vec!["BTC-USDT"], "venue okx: only its recordings can be read, not its live stream"),
        (Venue::BinanceSpot, vec![], "symbol ``: none is named"),
        (Venue::BinanceSpot, vec!["X", "X"], "symbol `X`: named twice"),
        (Venue::BinanceSpot, vec!["x"], "symbol `x`: not in the venue's own writing"),
        (Venue::BinanceSpot, vec!["X&limit=1"], "symbol `X&limit=1`: 1 to 64 letters"),
        (Venue::BinanceSpot, vec!["X\r\nHost: y"], r"symbol `X\r\nHost: y`: 1 to 64 letters"),
    ] {
        let outcome = play(options(venue, &symbols), async |_| std::future::pending().await).await;
        let error = outcome.result.unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
    let many: Vec<String> = (0..400).map(|n| format!("S{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outcome = play(options(Venue::BinanceSpot, &many), async |_| std::future::pending().await).await;
    assert_eq!(
        outcome.result.unwrap_err().to_string(),
        "1200 streams: the venue allows 1024 on a connection; name fewer symbols or streams"
    );
}
