//! Group `feed-parse`: a venue's text into records in a queue, beside general JSON parsers that end in owned structs.
//!
//! Ours is the whole way of a feed: the text is checked and read, each record laid out, and appended to a raw queue in
//! memory, checksum and all. The rivals parse alone, into structs that hold what our records hold, and are helped where
//! that can be done: they are told each message's type beforehand, pass over the fields that nobody needs, make no time of
//! a date, and simd-json may scribble over a copy that was made before. The floor copies the bytes once.

use crate::contest::{Contest, Line, Measure, Target};
use chronicle_core::Append;
use chronicle_feed::{Scratch, Venue};
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Profile, Publisher, PublisherOptions, Queue};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use std::{cell::RefCell, fmt, hint::black_box, io::Read as _, path::Path, time::Instant};

/// When each message is said to have come: behind all of them, for what is a day ahead of its arrival is kept as it is.
const INGEST_NS: u64 = 1_800_000_000_000_000_000;
const ROUNDS: usize = 9;
/// Text of one case.
const TEXT_LEN: usize = 8 << 20;
const SEGMENT: usize = 8 << 20;
/// Small captures are read again until there is so much.
const TEXT_LEN_MIN: usize = 4 << 20;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = root.join("../shared/data");
    let known = [
        ("binance-spot", "binance-spot/btcusdt_20240808.gz"),
        ("binance-usdm", "binance-usdm/btcusdt_20240808.gz"),
        ("binance-coinm", "binance-coinm/btcusd_perp_20240808.gz"),
        ("kraken", "kraken/KRAKEN.ws.50.0.gz"),
        ("okx", "okx/OKX.ws.1.0.gz"),
        ("coinbase", "coinbase/COINBASE.ws.28.0.gz"),
    ];
    let mut found: Vec<_> = known.iter().map(|(venue, file)| (*venue, data.join(file))).collect();
    found.retain(|(_, path)| path.exists());
    if found.is_empty() {
        eprintln!("recordings beside the repository are absent: the shipped excerpt alone is measured");
        found.push(("binance-spot", root.join("testdata/binance-spot/ethusdt-20240808-excerpt.gz")));
    }
    for (name, path) in found {
        let messages = messages(&path)?;
        let venue: Venue = name.parse().map_err(|it| format!("{it}"))?;
        for line in contests(venue, dir, &messages)? {
            out(line.run(ROUNDS)?);
        }
    }
    Ok(())
}

/// One message: its text, and the type that a rival is told.
struct Message {
    text: String,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Depth,
    Ticker,
    Trade,
    Snapshot,
    Kraken,
    Okx,
    OkxTrades,
    Changes,
}

/// The messages of a recording that become records, as often as it takes.
fn messages(path: &Path) -> Result<Vec<Message>, String> {
    let place = |it| format!("{}: {it}", path.display());
    let file = std::fs::File::open(path).map_err(place)?;
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).map_err(place)?;
    let mut messages = Vec::new();
    let mut len = 0;
    while len < TEXT_LEN_MIN {
        let before = len;
        for line in text.lines() {
            let Some(at) = line.find(['{', '[']).filter(|_| line.starts_with(|c: char| c.is_ascii_digit())) else {
                continue;
            };
            let json = &line[at..];
            let Some(shape) = shape(json) else { continue };
            if len + json.len() > TEXT_LEN {
                break;
            }
            len += json.len();
            messages.push(Message { text: json.to_owned(), shape });
        }
        if len == before {
            return Err(format!("{}: no message that a rival knows", path.display()));
        }
    }
    Ok(messages)
}

fn shape(json: &str) -> Option<Shape> {
    let has = |part: &str| json.contains(part);
    Some(match json {
        _ if has("\"e\":\"depthUpdate\"") => Shape::Depth,
        _ if has("@bookTicker\"") => Shape::Ticker,
        _ if has("\"e\":\"trade\"") => Shape::Trade,
        _ if json.starts_with("{\"lastUpdateId\"") => Shape::Snapshot,
        // The one message with two objects is left to us.
        _ if has("\"book-") && json.starts_with('[') && !(has("\"a\":") && has("\"b\":")) => Shape::Kraken,
        _ if has("\"channel\":\"books\"") && has("\"data\":") => Shape::Okx,
        _ if has("\"channel\":\"trades\"") && has("\"data\":") => Shape::OkxTrades,
        _ if has("\"type\":\"l2update\"") => Shape::Changes,
        _ => return None,
    })
}

fn contests<'a>(venue: Venue, dir: &'a Path, messages: &'a [Message]) -> Result<Vec<Contest<'a>>, String> {
    let len: usize = messages.iter().map(|message| message.text.len()).sum();
    let rate = move |began: Instant| len as f64 / began.elapsed().as_secs_f64() / 1e6;
    let case = |what: &str| format!("{venue}, {} messages of {} B, {what}", messages.len(), len / messages.len());
    let ours = |what: &str| -> Result<Measure<'a>, String> {
        let (mut scratch, mut payload) = (Scratch::default(), vec![0; 1 << 20]);
        let mut queue = queue(&dir.join(format!("{venue}-{what}")))?;
        let mut pass = move || {
            let began = Instant::now();
            for message in messages {
                append(venue, &message.text, &mut scratch, &mut payload, &mut queue)?;
            }
            Ok(rate(began))
        };
        // Until every segment was written once: a feed that runs has its memory.
        for _ in 0..1 + 6 * SEGMENT / len {
            pass()?;
        }
        Ok(Box::new(pass))
    };
    let floor = {
        let text: String = messages.iter().map(|message| &*message.text).collect();
        let mut copy = vec![1_u8; text.len()];
        move || {
            let began = Instant::now();
            copy.copy_from_slice(black_box(text.as_bytes()));
            black_box(&copy);
            Ok(rate(began))
        }
    };
    let rival = |parse: fn(&Message) -> Result<(), String>| -> Measure<'a> {
        Box::new(move || {
            let began = Instant::now();
            for message in messages {
                parse(message)?;
            }
            Ok(rate(began))
        })
    };
    let simd: Measure<'a> = {
        let buffers = RefCell::new(simd_json::Buffers::default());
        Box::new(move || {
            let mut copies: Vec<Vec<u8>> = messages.iter().map(|message| message.text.clone().into_bytes()).collect();
            let mut buffers = buffers.borrow_mut();
            let began = Instant::now();
            for (message, copy) in messages.iter().zip(&mut copies) {
                simd_json(message.shape, copy, &mut buffers)?;
            }
            Ok(rate(began))
        })
    };
    let same = |ours: Measure<'a>, what: &str, floor, rivals, target| Contest {
        group: "feed-parse",
        case: case(what),
        unit: "MB/s",
        higher_is_better: true,
        ours,
        floor,
        rivals,
        target,
    };
    let rivals = vec![("serde_json", rival(serde_json)), ("simd-json", simd), ("sonic-rs", rival(sonic_rs))];
    Ok(vec![
        same(ours("alone")?, "parse and append, beside parse alone", None, rivals, Target::Ratio(1.0)),
        same(
            ours("copy")?,
            "parse and append, beside a copy",
            Some(("memcpy", Box::new(floor) as _)),
            vec![],
            Target::None,
        ),
    ])
}

/// A raw queue with segments short enough that all of them are soon in memory.
fn queue(path: &Path) -> Result<Publisher<Linux>, String> {
    let options = PublisherOptions { segment_len: SEGMENT as u32, ..PublisherOptions::new(Profile::Raw) };
    Queue::publisher(&Linux, path, options).map_err(|it| it.to_string())
}

/// The whole way of one message.
fn append(
    venue: Venue,
    text: &str,
    scratch: &mut Scratch,
    payload: &mut [u8],
    queue: &mut Publisher<Linux>,
) -> Result<(), String> {
    let message = venue.read(black_box(text), INGEST_NS, scratch).map_err(|it| it.to_string())?;
    for item in message.items() {
        // Of a fetched snapshot only the request knows whose it is.
        let record = if item.record.symbol().is_empty() { item.record.with_symbol("BTCUSDT") } else { item.record };
        let len = record.encode(payload).map_err(|it| it.to_string())?;
        let append = Append { time_ns: 1_700_000_000_000_000_000, type_id: record.type_id(), flags: 0 };
        queue.append_wait(append, &payload[..len], std::time::Duration::from_secs(1)).map_err(|it| format!("{it}"))?;
    }
    Ok(())
}

/// A decimal as digits and their exponent.
#[derive(Debug)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct Digits(i64, u8);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Digits;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal in quotes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digits, E> {
                let (mut mantissa, mut decimals, mut point) = (0_i64, 0, false);
                for byte in text.bytes() {
                    match byte {
                        b'0'..=b'9' => {
                            mantissa = mantissa.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
                            decimals += u8::from(point);
                        }
                        b'.' if !point => point = true,
                        _ => return Err(E::custom("no decimal")),
                    }
                }
                Ok(Digits(mantissa, decimals))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Price and quantity, and whatever stands behind them passed over.
#[derive(Debug)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct Level(Digits, Digits);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Level;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a level")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Level, A::Error> {
                let mut next = || list.next_element::<Digits>()?.ok_or_else(|| A::Error::custom("no level"));
                let level = Level(next()?, next()?);
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(level)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct Envelope<T> {
    data: T,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, non_snake_case, reason = "they are made, and that is measured; the names are the venue's")]
struct Depth {
    E: u64,
    #[serde(default)]
    T: u64,
    s: String,
    U: u64,
    u: u64,
    #[serde(default)]
    pu: u64,
    b: Vec<Level>,
    a: Vec<Level>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, non_snake_case, reason = "they are made, and that is measured; the names are the venue's")]
struct Ticker {
    #[serde(default)]
    E: u64,
    #[serde(default)]
    T: u64,
    s: String,
    u: u64,
    b: Digits,
    B: Digits,
    a: Digits,
    A: Digits,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, non_snake_case, reason = "they are made, and that is measured; the names are the venue's")]
struct Trade {
    E: u64,
    T: u64,
    s: String,
    t: u64,
    p: Digits,
    q: Digits,
    m: bool,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, non_snake_case, reason = "they are made, and that is measured; the names are the venue's")]
struct Snapshot {
    lastUpdateId: u64,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct KrakenBook {
    a: Option<Vec<Level>>,
    b: Option<Vec<Level>>,
    r#as: Option<Vec<Level>>,
    bs: Option<Vec<Level>>,
    c: Option<Digits>,
}

type Kraken = (u64, KrakenBook, String, String);

#[derive(Debug, Deserialize)]
#[expect(dead_code, non_snake_case, reason = "they are made, and that is measured; the names are the venue's")]
struct Argument {
    instId: String,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct Okx<T> {
    arg: Argument,
    data: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct OkxBook {
    asks: Vec<Level>,
    bids: Vec<Level>,
    ts: Digits,
    checksum: i64,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, non_snake_case, reason = "they are made, and that is measured; the names are the venue's")]
struct OkxTrade {
    instId: String,
    tradeId: Digits,
    px: Digits,
    sz: Digits,
    side: String,
    ts: Digits,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "they are made, and that is measured")]
struct Changes {
    product_id: String,
    changes: Vec<(String, Digits, Digits)>,
    time: String,
}

/// Parses a message as its type with `$parse`, which is a function of one type.
macro_rules! by_shape {
    ($shape:expr, $parse:ident $(, $argument:expr)*) => {
        match $shape {
            Shape::Depth => drop(black_box($parse::<Envelope<Depth>>($($argument),*)?)),
            Shape::Ticker => drop(black_box($parse::<Envelope<Ticker>>($($argument),*)?)),
            Shape::Trade => drop(black_box($parse::<Envelope<Trade>>($($argument),*)?)),
            Shape::Snapshot => drop(black_box($parse::<Snapshot>($($argument),*)?)),
            Shape::Kraken => drop(black_box($parse::<Kraken>($($argument),*)?)),
            Shape::Okx => drop(black_box($parse::<Okx<OkxBook>>($($argument),*)?)),
            Shape::OkxTrades => drop(black_box($parse::<Okx<OkxTrade>>($($argument),*)?)),
            Shape::Changes => drop(black_box($parse::<Changes>($($argument),*)?)),
        }
    };
}

fn serde_json(message: &Message) -> Result<(), String> {
    fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
        serde_json::from_str(text).map_err(|it| it.to_string())
    }
    by_shape!(message.shape, parse, black_box(&message.text));
    Ok(())
}

fn sonic_rs(message: &Message) -> Result<(), String> {
    fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
        sonic_rs::from_str(text).map_err(|it| it.to_string())
    }
    by_shape!(message.shape, parse, black_box(&message.text));
    Ok(())
}

fn simd_json(shape: Shape, copy: &mut [u8], buffers: &mut simd_json::Buffers) -> Result<(), String> {
    fn parse<'a, T: Deserialize<'a>>(copy: &'a mut [u8], buffers: &mut simd_json::Buffers) -> Result<T, String> {
        simd_json::serde::from_slice_with_buffers(copy, buffers).map_err(|it| it.to_string())
    }
    by_shape!(shape, parse, black_box(copy), buffers);
    Ok(())
}
