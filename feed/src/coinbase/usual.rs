//! A change of a book, read in the one order in which the venue writes its fields.
//!
//! ```text
//! {"type":"l2update","product_id":"…","changes":[["buy","price","size"],…],"time":"…"}
//! ```
//!
//! A guess, never a verdict: at the first byte that is not as expected the text is left to the reader of any order, which
//! alone says what is wrong with it. What this one reads is what that one would have read, to the last bit; the tests
//! hold them side by side. It is nearly all that the venue sends, and short: most of them change one level.

use chronicle_protocol::Head;

use super::UPDATE;
use crate::fields::SYMBOL_LEN_MAX;
use crate::json::Scan;
use crate::levels::{Columns, Store, Writing};
use crate::times::{AHEAD_NS_MAX, of_rfc3339};
use crate::venue::{Part, Proof, Scratch, Span, What};

/// Reads the message into `scratch` and gives its kind. After `None` there may be levels in the scratch, and nothing else.
pub(super) fn read(json: &str, ingest_ns: u64, scratch: &mut Scratch) -> Option<&'static str> {
    let scan = &mut Scan::new(json);
    scan.literal(b"{\"type\":\"l2update\",\"product_id\":")?;
    let symbol = scan.quick_text().filter(|it| (1..=SYMBOL_LEN_MAX).contains(&it.len()))?;
    scan.literal(b",\"changes\":[")?;
    let (store, asks) =
        (&mut Store { levels: &mut scratch.levels, decimals: &mut scratch.decimals }, &mut scratch.aside);
    let (from, mut columns) = (store.levels.len(), Columns::begin(store));
    asks.clear();
    loop {
        let is_bid = scan.literal(b"[\"buy\",").is_some();
        if !is_bid {
            scan.literal(b"[\"sell\",")?;
        }
        let price = scan.quick_decimal()?;
        scan.literal(b",")?;
        let level = (price, scan.quick_decimal()?);
        scan.literal(b"]")?;
        match is_bid {
            true => columns.push(store, level),
            false => asks.push(level),
        }
        if scan.literal(b",").is_none() {
            break;
        }
    }
    scan.literal(b"],\"time\":")?;
    let exchange_ns = of_rfc3339(scan.quick_text()?).filter(|ns| *ns != 0)?;
    scan.literal(b"}")?;
    if scan.at() != json.len() || exchange_ns > ingest_ns.saturating_add(AHEAD_NS_MAX) {
        return None;
    }
    let bids = Span::new(from, store.levels.len());
    for level in &*asks {
        columns.push(store, *level);
    }
    let asks = Span::new(store.levels.len() - asks.len(), store.levels.len());
    let (price, qty) = columns.settle(store, Writing::TextsOrValues)?;
    scratch.parts.push(Part {
        head: Head { exchange_ns, ingest_ns, price, qty, ..Head::default() },
        symbol: Span::of(symbol, json),
        what: What::Delta { first_id: 0, last_id: 0, prev_id: None, bids, asks },
        proof: Proof::default(),
    });
    Some(UPDATE)
}

#[cfg(test)]
mod tests {
    //! A message that is read in its usual order must be the record that it is in any order: a digit more or less would be
    //! believed by everybody who reads the stream.

    use std::{fs::File, io::Read as _, path::Path};

    use flate2::read::MultiGzDecoder;

    use super::*;
    use crate::coinbase::{Coinbase, read_any};
    use crate::venue::Dialect as _;

    const NOW_NS: u64 = 1_723_161_254_340_863_867;

    /// Reads it both ways, and says whether the quick one knew it.
    fn same(json: &str, scratches: &mut [Scratch; 2]) -> bool {
        let [quick, any] = scratches;
        quick.clear();
        any.clear();
        let Some(kind) = read(json, NOW_NS, quick) else {
            assert!(quick.parts.is_empty(), "{json}");
            return false;
        };
        let quick = quick.message(kind, json);
        let any = read_any(json, NOW_NS, any).unwrap_or_else(|flaw| panic!("{flaw}: {json}"));
        assert_eq!(quick.kind(), any.kind(), "{json}");
        assert!(quick.items().eq(any.items()), "{json}");
        true
    }

    /// Made ones and, where they are, those of the recording.
    fn messages() -> Vec<String> {
        let change = |changes: &str| {
            format!(
                r#"{{"type":"l2update","product_id":"SKL-BTC","changes":[{changes}],"time":"2021-04-17T16:43:37.075687Z"}}"#
            )
        };
        let mut messages: Vec<String> = [
            r#"["sell","0.00001306","660.5"]"#,
            r#"["buy","0.5762","0"],["sell","0.58","335.0"],["buy","0.57","1"]"#,
            r#"["sell","1.10","0.1"],["sell","1.1","10"]"#,
        ]
        .map(change)
        .to_vec();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/coinbase/COINBASE.ws.28.0.gz");
        if let Ok(file) = File::open(path) {
            let mut text = String::new();
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            let json = |line: &str| line.find("{\"type\"").map(|at| line[at..].to_owned());
            messages.extend(text.lines().filter_map(json));
        }
        messages
    }

    #[test]
    fn usual_messages_are_what_they_are_in_any_order() {
        let mut scratches = Default::default();
        for json in messages() {
            assert_eq!(same(&json, &mut scratches), json.starts_with("{\"type\":\"l2update\""), "{json}");
        }
    }

    #[test]
    fn others_are_left_to_the_other_reader() {
        let mut scratches = Default::default();
        let [usual, ..] = &messages()[..] else { unreachable!("there are some") };
        for (part, instead) in [
            ("[[", "[ ["),
            ("sell", "Sell"),
            ("0.00001306", "1e-5"),
            ("660.5", "-660.5"),
            ("\"660.5\"", "660.5"),
            ("[\"sell\",\"0.00001306\",\"660.5\"]", ""),
            ("SKL-BTC", ""),
            ("2021", "1969"),
            ("2021", "2500"),
            ("37.075687Z", "37.075687+00:00"),
            ("Z\"}", "Z\"}}"),
            ("Z\"}", "Z\",\"more\":1}"),
        ] {
            assert!(usual.contains(part), "{part}");
            assert!(!same(&usual.replacen(part, instead, 1), &mut scratches), "{part} -> {instead}");
        }
    }

    #[test]
    fn changed_messages_are_what_they_are_in_any_order() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let alphabet: Vec<char> = "00011239.-+eE,:\"'[]{} \\/bsuyelZT\u{1}\u{e9}".chars().collect();
        let (mut scratches, mut known) = ([Scratch::default(), Scratch::default()], 0);
        for json in messages().iter().filter(|json| json.is_ascii() && json.len() < 2_000).take(400) {
            for _ in 0..64 {
                let mut text = json.to_owned();
                for _ in 0..=next(2) {
                    let at = text.floor_char_boundary(next(text.len()));
                    match next(3) {
                        0 => drop(text.remove(at)),
                        1 => text.insert(at, alphabet[next(alphabet.len())]),
                        _ => {
                            text.remove(at);
                            text.insert(at, alphabet[next(alphabet.len())]);
                        }
                    }
                }
                known += u32::from(same(&text, &mut scratches));
                // Read one way or the other, the whole way comes to what the general reader says.
                let [whole, any] = &mut scratches;
                whole.clear();
                any.clear();
                match (Coinbase.read(&text, NOW_NS, whole), read_any(&text, NOW_NS, any)) {
                    (Ok(whole), Ok(any)) => assert!(whole.items().eq(any.items()), "{text}"),
                    (whole, any) => assert_eq!(whole.err(), any.err(), "{text}"),
                }
            }
        }
        assert!(known > 0, "some changes leave a message as usual");
    }
}
