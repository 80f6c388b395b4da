//! A message of a combined stream, read in the one order in which the venue writes its fields.
//!
//! ```text
//! {"stream":"…@bookTicker","data":{["e":"bookTicker",]"u":…,["e":"bookTicker",]"s":…,["ps":…,]
//!                                  "b":…,"B":…,"a":…,"A":…[,"T":…,"E":…]}}
//! {"stream":"…","data":{"e":"trade","E":…,["T":…,]"s":…,"t":…,"p":…,"q":…,["T":…,]["X":…,]"m":…[,"M":…]}}
//! {"stream":"…","data":{"e":"depthUpdate","E":…,["T":…,]"s":…,["ps":…,]"U":…,"u":…,["pu":…,]"b":[…],"a":[…]}}
//! ```
//!
//! A guess, never a verdict: at the first byte that is not as expected the text is left to the reader of any order, which
//! alone says what is wrong with it. What this one reads is what that one would have read, to the last bit; the tests
//! hold them side by side. Worth it because nothing is looked up by name or kept aside: a short message takes a third
//! of the time.

use chronicle_protocol::{DecimalText, Head, OrderType, Scale};

use super::{DEPTH, TICKER, TRADE, channel};
use crate::fields::{SYMBOL_LEN_MAX, of_ms, scaled};
use crate::json::Scan;
use crate::levels::{Columns, Digits, Pair, Store, Writing};
use crate::times::AHEAD_NS_MAX;
use crate::venue::{Part, Proof, Scratch, Span, What};

/// Reads the message into `scratch` and gives its kind. After `None` there may be levels in the scratch, and nothing else.
pub(super) fn read(json: &str, ingest_ns: u64, scratch: &mut Scratch, needs_prev: bool) -> Option<&'static str> {
    let scan = &mut Scan::new(json);
    scan.literal(b"{\"stream\":")?;
    let stream = scan.quick_text()?;
    scan.literal(b",\"data\":{")?;
    let mut head = Head { ingest_ns, ..Head::default() };
    let (kind, symbol, what) = if scan.literal(b"\"e\":\"depthUpdate\",").is_some() {
        let (symbol, what) = delta(scan, stream, &mut head, scratch, needs_prev)?;
        (DEPTH, symbol, what)
    } else if scan.literal(b"\"e\":\"trade\",").is_some() {
        let (symbol, what) = trade(scan, &mut head)?;
        (TRADE, symbol, what)
    } else {
        let (symbol, what) = quote(scan, stream, &mut head)?;
        (TICKER, symbol, what)
    };
    scan.literal(b"}}")?;
    if scan.at() != json.len() || head.exchange_ns > ingest_ns.saturating_add(AHEAD_NS_MAX) {
        return None;
    }
    scratch.parts.push(Part { head, symbol: Span::of(symbol, json), what, proof: Proof::default() });
    Some(kind)
}

#[inline]
fn quote<'a>(scan: &mut Scan<'a>, stream: &str, head: &mut Head) -> Option<(&'a str, What)> {
    let mut named = scan.literal(b"\"e\":\"bookTicker\",").is_some();
    scan.literal(b"\"u\":")?;
    let update_id = scan.quick_natural()?;
    scan.literal(b",")?;
    named = named || scan.literal(b"\"e\":\"bookTicker\",").is_some();
    // Spot does not name its event: its stream's name does.
    if !named && channel(stream) != Some(TICKER) {
        return None;
    }
    let symbol = symbol(scan)?;
    pass_pair(scan)?;
    scan.literal(b"\"b\":")?;
    let bid = scan.quick_decimal()?;
    scan.literal(b",\"B\":")?;
    let bid_qty = scan.quick_decimal()?;
    scan.literal(b",\"a\":")?;
    let ask = scan.quick_decimal()?;
    scan.literal(b",\"A\":")?;
    let ask_qty = scan.quick_decimal()?;
    if scan.literal(b",\"T\":").is_some() {
        head.transact_ns = ms(scan)?;
        scan.literal(b",\"E\":")?;
        head.exchange_ns = ms(scan)?;
    }
    let (price, [bid_price, ask_price]) = both(bid, ask)?;
    let (qty, [bid_qty, ask_qty]) = both(bid_qty, ask_qty)?;
    (head.price, head.qty) = (price, qty);
    Some((symbol, What::Quote { update_id, bid_price, bid_qty, ask_price, ask_qty }))
}

#[inline]
fn trade<'a>(scan: &mut Scan<'a>, head: &mut Head) -> Option<(&'a str, What)> {
    scan.literal(b"\"E\":")?;
    head.exchange_ns = ms(scan)?;
    scan.literal(b",")?;
    let early = transact(scan, head)?;
    let symbol = symbol(scan)?;
    scan.literal(b"\"t\":")?;
    let trade_id = scan.quick_natural()?;
    scan.literal(b",\"p\":")?;
    let (price, price_decimals) = scan.quick_decimal()?;
    scan.literal(b",\"q\":")?;
    let (qty, qty_decimals) = scan.quick_decimal()?;
    scan.literal(b",")?;
    if !early && !transact(scan, head)? {
        return None;
    }
    let mut order_type = None;
    if scan.literal(b"\"X\":").is_some() {
        order_type = Some(OrderType::from_text(scan.quick_text()?.as_bytes())?);
        scan.literal(b",")?;
    }
    scan.literal(b"\"m\":")?;
    let buyer_is_maker = scan.quick_flag()?;
    let legacy_m = if scan.literal(b",\"M\":").is_some() { Some(scan.quick_flag()?) } else { None };
    (head.price, head.qty) = (Scale::fixed(price_decimals), Scale::fixed(qty_decimals));
    Some((symbol, What::Trade { trade_id, price, qty, buyer_is_maker, order_type, legacy_m }))
}

#[inline]
fn delta<'a>(
    scan: &mut Scan<'a>,
    stream: &str,
    head: &mut Head,
    scratch: &mut Scratch,
    needs_prev: bool,
) -> Option<(&'a str, What)> {
    // `@depth5` and its like send a part of the book.
    if channel(stream).and_then(|it| it.strip_prefix("depth")).is_some_and(|it| !it.is_empty() && !it.starts_with('@'))
    {
        return None;
    }
    scan.literal(b"\"E\":")?;
    head.exchange_ns = ms(scan)?;
    scan.literal(b",")?;
    transact(scan, head)?;
    let symbol = symbol(scan)?;
    pass_pair(scan)?;
    scan.literal(b"\"U\":")?;
    let first_id = scan.quick_natural()?;
    scan.literal(b",\"u\":")?;
    let last_id = scan.quick_natural()?;
    let mut prev_id = None;
    if scan.literal(b",\"pu\":").is_some() {
        prev_id = Some(scan.quick_natural()?);
    }
    if first_id > last_id || (needs_prev && prev_id.is_none()) {
        return None;
    }
    let store = &mut scratch.store();
    let mut columns = Columns::begin(store);
    scan.literal(b",\"b\":")?;
    let bids = side(scan, &mut columns, store)?;
    scan.literal(b",\"a\":")?;
    let asks = side(scan, &mut columns, store)?;
    (head.price, head.qty) = columns.settle(store, Writing::Texts)?;
    Some((symbol, What::Delta { first_id, last_id, prev_id, bids, asks }))
}

#[inline]
fn side(scan: &mut Scan<'_>, columns: &mut Columns, store: &mut Store<'_>) -> Option<Span> {
    if scan.begins() != b'[' {
        return None;
    }
    columns.side(&mut Pair, scan, store).ok()
}

/// `"s":"…",`
#[inline]
fn symbol<'a>(scan: &mut Scan<'a>) -> Option<&'a str> {
    scan.literal(b"\"s\":")?;
    let symbol = scan.quick_text().filter(|it| (1..=SYMBOL_LEN_MAX).contains(&it.len()))?;
    scan.literal(b",")?;
    Some(symbol)
}

/// `"ps":"…",`, which no record keeps, if it is there.
#[inline]
fn pass_pair(scan: &mut Scan<'_>) -> Option<()> {
    if scan.literal(b"\"ps\":").is_some() {
        scan.quick_text()?;
        scan.literal(b",")?;
    }
    Some(())
}

/// `"T":…,`, if it is there.
#[inline]
fn transact(scan: &mut Scan<'_>, head: &mut Head) -> Option<bool> {
    if scan.literal(b"\"T\":").is_none() {
        return Some(false);
    }
    head.transact_ns = ms(scan)?;
    scan.literal(b",")?;
    Some(true)
}

#[inline]
fn ms(scan: &mut Scan<'_>) -> Option<u64> {
    of_ms(scan.quick_natural()?).ok()
}

/// Two numbers under the one scale that writes both again.
#[inline]
fn both(one: Digits, other: Digits) -> Option<(Scale, [i64; 2])> {
    if one.1 == other.1 {
        return Some((Scale::fixed(one.1), [one.0, other.0]));
    }
    let text = |(mantissa, decimals): Digits| DecimalText {
        mantissa,
        decimals,
        ends_in_zero: decimals > 0 && mantissa % 10 == 0,
    };
    scaled([text(one), text(other)]).ok()
}

#[cfg(test)]
mod tests {
    //! A message that is read in its usual order must be the record that it is in any order: a digit more or less would be
    //! believed by everybody who reads the stream.

    use std::fs::File;
    use std::io::Read as _;
    use std::path::PathBuf;

    use flate2::read::MultiGzDecoder;

    use super::*;
    use crate::binance::read_any;

    const NOW_NS: u64 = 1_723_161_254_340_863_867;

    /// Reads it both ways, and says whether the quick one knew it.
    fn same(json: &str, needs_prev: bool, scratches: &mut [Scratch; 2]) -> bool {
        let [quick, any] = scratches;
        quick.clear();
        any.clear();
        let Some(kind) = read(json, NOW_NS, quick, needs_prev) else {
            assert!(quick.parts.is_empty(), "{json}");
            return false;
        };
        let quick = quick.message(kind, json);
        let any = read_any(json, NOW_NS, any, needs_prev).unwrap_or_else(|flaw| panic!("{flaw}: {json}"));
        assert_eq!(quick.kind(), any.kind(), "{json}");
        assert!(quick.items().eq(any.items()), "{json}");
        true
    }

    /// The messages of the excerpt and, where they are, of the recordings.
    fn messages(each: &mut dyn FnMut(&str, bool)) {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        for (path, needs_prev) in [
            ("testdata/binance-spot/ethusdt-20240808-excerpt.gz", false),
            ("../shared/data/binance-spot/btcusdt_20240808.gz", false),
            ("../shared/data/binance-usdm/btcusdt_20240808.gz", true),
            ("../shared/data/binance-coinm/btcusd_perp_20240808.gz", true),
        ] {
            let Ok(file) = File::open(root.join(path)) else {
                assert!(path.starts_with(".."), "the excerpt is part of the repository");
                continue;
            };
            let mut text = String::new();
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            text.lines().filter_map(|line| line.split_once(' ')).for_each(|(_, json)| each(json, needs_prev));
        }
    }

    #[test]
    fn recorded_messages_are_what_they_are_in_any_order() {
        let (mut scratches, mut known, mut others) = (Default::default(), 0, 0);
        messages(&mut |json, needs_prev| {
            let usual = ["@bookTicker", "@trade", "@depth@"].iter().any(|stream| json.contains(stream));
            let odd = json.contains("\"X\":\"") && !json.contains("\"X\":\"MARKET\"");
            match same(json, needs_prev, &mut scratches) {
                true => known += 1,
                false if usual && !odd => panic!("not as usual: {json}"),
                false => others += 1,
            }
        });
        assert!(known > 100 * others, "{known} as usual, {others} not");
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
        let alphabet = "00011239.-+eE,:\"'[]{} \\/aAbBmMtTuUxX\u{1}\u{e9}@";
        let alphabet: Vec<char> = alphabet.chars().collect();
        let (mut scratches, mut known, mut count) = (Default::default(), 0, 0_usize);
        messages(&mut |json, needs_prev| {
            count += 1;
            if count % 41 != 0 || json.len() > 2_000 || !json.is_ascii() {
                return;
            }
            for _ in 0..16 {
                let mut text = json.to_owned();
                for _ in 0..=next(2) {
                    let at = text.floor_char_boundary(next(text.len()));
                    match next(4) {
                        0 => drop(text.remove(at)),
                        1 => text.insert(at, alphabet[next(alphabet.len())]),
                        2 => {
                            text.remove(at);
                            text.insert(at, alphabet[next(alphabet.len())]);
                        }
                        _ => {
                            let from = text.floor_char_boundary(next(text.len()));
                            let piece = text[from..text.floor_char_boundary(from + next(12))].to_owned();
                            text.insert_str(at, &piece);
                        }
                    }
                }
                known += u32::from(same(&text, needs_prev, &mut scratches));
                // Read one way or the other, the whole way comes to what the general reader says.
                let [whole, any] = &mut scratches;
                whole.clear();
                any.clear();
                let whole = crate::binance::read(&text, NOW_NS, whole, needs_prev);
                let any = read_any(&text, NOW_NS, any, needs_prev);
                match (whole, any) {
                    (Ok(whole), Ok(any)) => assert!(whole.items().eq(any.items()), "{text}"),
                    (whole, any) => assert_eq!(whole.err(), any.err(), "{text}"),
                }
            }
        });
        assert!(known > 0, "some changes leave a message as usual");
    }
}
