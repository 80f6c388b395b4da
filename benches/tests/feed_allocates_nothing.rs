//! Reading a venue's messages asks nothing of the heap, whatever they are: deltas, snapshots, trades by the dozen, what
//! is kept verbatim, and what is no message at all. Nor does following them by their ids.
//!
//! What does is a larger message than any before: so each set of messages is read once before the counting begins.

use chronicle_feed::{
    Scratch, Venue,
    continuity::{Follower, Verdict},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts what is asked of the heap.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on as it came, to an allocator that keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // ORDERING: a count; the only thread that counts reads it.
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
    ALLOCATIONS.load(Ordering::Relaxed)
}

const SETS: [(Venue, &[&str]); 4] = [
    (
        Venue::BinanceSpot,
        &[
            r#"{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":5,"u":6,"b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.50000000"]]}}"#,
            // In the unusual writing: blanks, decimals that differ, more digits than fit.
            r#"{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":7,"u":8,"b":[ ["61737.63", "0.5"], ["61737", "10.25"]],"a":[]}"#,
            r#"{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":9,"u":9,"b":[["123456789012345678901","1"]],"a":[]}"#,
            r#"{"stream":"btcusdt@bookTicker","data":{"u":10,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#,
            r#"{"e":"trade","E":1723161256323,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","m":false}"#,
            r#"{"lastUpdateId":8,"bids":[["61800.20","2.909"]],"asks":[["61800.30","1"]]}"#,
            r#"{"e":"kline","E":1723161256323,"s":"BTCUSDT","k":{}}"#,
            r#"{"e":"trade","E":1723161256323}"#,
            "no JSON",
        ],
    ),
    (
        Venue::Kraken,
        &[
            r#"[0,{"as":[["0.05275","0.00000500","1582905486.493034"]],"bs":[["0.04940","0.00000500","1500000000.0"]]},"book-1000","XBT/USD"]"#,
            r#"[0,{"a":[["0.05120","0.00000500","1582905486.493008"]]},{"b":[["0.04765","0.00000500","1582905486.493008"]],"c":"1"},"book-1000","XBT/USD"]"#,
            r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.5,"qty":0.1}],"asks":[{"price":45284,"qty":0}],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
            r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":1.5,"qty":1,"trade_id":1,"timestamp":"2023-10-06T17:35:55.440295Z"},{"symbol":"BTC/USD","side":"buy","price":1.5,"qty":1,"trade_id":2,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
            r#"{"event":"heartbeat"}"#,
        ],
    ),
    (
        Venue::Okx,
        &[
            r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["3366.8","9","0","4"],["3368","8","0","3"]],"bids":[["3366.1","7","0","3"]],"ts":"1597026383085","checksum":-855196043}]}"#,
            r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],"bids":[["3366.1","0","0","0"]],"ts":"1597026383085","checksum":1}]}"#,
            r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897"}]}"#,
        ],
    ),
    (
        Venue::Coinbase,
        &[
            r#"{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],"asks":[["10102.55","0.57753524"]]}"#,
            r#"{"type":"l2update","product_id":"BTC-USD","time":"2019-08-14T20:42:27.265Z","changes":[["sell","10102.60","0.1"],["buy","10101.80","0.16"]]}"#,
            r#"{"type":"match","trade_id":10,"side":"sell","size":"5.23512","price":"400.23","product_id":"BTC-USD","time":"2014-11-07T08:19:27.028459Z"}"#,
        ],
    ),
];

/// Reads all messages of a set. Gives records and texts that were none.
fn read(venue: Venue, messages: &[&str], scratch: &mut Scratch, follower: &mut Follower) -> (usize, usize) {
    let (mut records, mut refused) = (0, 0);
    for text in messages {
        match venue.read(black_box(text), 1_800_000_000_000_000_000, scratch) {
            Ok(message) => {
                for item in message.items() {
                    records += 1;
                    let verdict: Verdict = follower.see(black_box(&item.record));
                    black_box(verdict);
                }
            }
            Err(flaw) => {
                refused += 1;
                black_box(flaw);
            }
        }
    }
    (records, refused)
}

/// One test, so that no other counts in between.
#[test]
fn reading_messages_allocates_nothing() {
    let before = count();
    drop(black_box(vec![7_u8; 100]));
    assert_eq!(count() - before, 1, "what is asked of the heap is counted");
    for (venue, messages) in SETS {
        let (mut scratch, mut follower) = (Scratch::default(), Follower::new(venue));
        let expected = match venue {
            Venue::BinanceSpot => (7, 2),
            Venue::Kraken => (6, 0),
            _ => (3, 0),
        };
        assert_eq!(read(venue, messages, &mut scratch, &mut follower), expected, "{venue}");
        let before = count();
        for _ in 0..100 {
            read(venue, messages, &mut scratch, &mut follower);
        }
        assert_eq!(count() - before, 0, "{venue}");
    }
}
