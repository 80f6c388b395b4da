//! The features of a recording are what their formulas say, computed plainly: from decimals as text, over a map of prices,
//! with floats and without any of the shipped code.

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;

use std::collections::BTreeMap;

use chronicle_etl::error::Error;
use chronicle_etl::features::{Feature as _, feature_rows, shipped};
use chronicle_etl::query::Rows;
use chronicle_etl::refine::{Options, refine};
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_platform::sim::Sim;
use chronicle_protocol::{Decimal, Head, Level, Record, Scale, SnapshotSource};
use chronicle_storage::root::{Root, Stream};
use support::{Clean, Raw, date, imported, refined, shared};
use support_root::{append, name};

const SECOND: u64 = 1_000_000_000;

/// A side: price and quantity, by the price in units of 1e-8, in which all prices here are whole.
type Plain = BTreeMap<i128, (f64, f64)>;

fn number(decimal: Decimal) -> f64 {
    decimal.to_string().parse().unwrap()
}

fn set(side: &mut Plain, head: &Head, levels: &[Level]) {
    for level in levels {
        let price = head.price.decimal(level.price());
        let key = price.mantissa_at(-8).map(i128::from).unwrap();
        match level.qty() {
            0 => _ = side.remove(&key),
            qty => _ = side.insert(key, (number(price), number(head.qty.decimal(qty)))),
        }
    }
}

#[derive(Default)]
struct Model {
    bids: Plain,
    asks: Plain,
    ofi: f64,
    rows: BTreeMap<u64, Vec<f64>>,
}

impl Model {
    fn best(&self) -> Option<[f64; 4]> {
        let (bid, ask) = (self.bids.values().next_back()?, self.asks.values().next()?);
        Some([bid.0, bid.1, ask.0, ask.1])
    }

    fn values(&mut self) -> Vec<f64> {
        let [b, qb, a, qa] = self.best().unwrap();
        let sum = |side: &mut dyn Iterator<Item = &(f64, f64)>| side.take(5).map(|level| level.1).sum::<f64>();
        let (bids, asks) = (sum(&mut self.bids.values().rev()), sum(&mut self.asks.values()));
        let imbalance = |q: f64, r: f64| (q - r) / (q + r);
        let ofi = std::mem::take(&mut self.ofi);
        vec![(a + b) / 2.0, a - b, (a * qb + b * qa) / (qb + qa), imbalance(qb, qa), imbalance(bids, asks), ofi]
    }

    /// Cont, Kukanov and Stoikov's e, word for word.
    fn event(&mut self, before: [f64; 4]) {
        let [b, qb, a, qa] = self.best().unwrap();
        let [b0, qb0, a0, qa0] = before;
        let is = |yes: bool| f64::from(u8::from(yes));
        self.ofi += is(b >= b0) * qb - is(b <= b0) * qb0 - is(a <= a0) * qa + is(a >= a0) * qa0;
    }

    /// Everything in the book's stream, in order; rows before the first event at or after each second.
    fn follow<'a>(frames: impl Iterator<Item = &'a Clean>) -> BTreeMap<u64, Vec<f64>> {
        let mut model = Self::default();
        let mut next = u64::MAX;
        for frame in frames.filter(|frame| frame.flags & NOT_APPLIED == 0) {
            match frame.record() {
                Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => {
                    (model.bids, model.asks, model.ofi) = Default::default();
                    set(&mut model.bids, &s.head, s.bids);
                    set(&mut model.asks, &s.head, s.asks);
                    next = (frame.time_ns / SECOND + 1) * SECOND;
                }
                Record::BookDelta(d) => {
                    while next <= frame.time_ns {
                        let values = model.values();
                        model.rows.insert(next, values);
                        next += SECOND;
                    }
                    let before = model.best().unwrap();
                    set(&mut model.bids, &d.head, d.bids);
                    set(&mut model.asks, &d.head, d.asks);
                    model.event(before);
                }
                _ => {}
            }
        }
        model.rows
    }
}

fn agree(venue: &str, symbol: &str, frames: &[Raw]) {
    let (_, memory) = refined(venue, frames);
    let books = memory.partitions.iter().filter(|(place, _)| place.stream == Stream::Book);
    let expected = Model::follow(books.flat_map(|(_, frames)| frames));
    let sim = Sim::new(1);
    let root = Root::new("/root");
    append(&sim, &root, venue, frames, 4 << 20);
    refine(&sim, &root, None, &Options::default(), |_| {}).unwrap();

    let rows = Rows { dates: date("2024-08-08")..=date("2024-08-09"), every_ns: SECOND, depth: 0 };
    let mut feature = shipped();
    let mut columns = Vec::new();
    feature.columns(&mut columns);
    assert_eq!(columns, ["mid", "spread", "microprice", "imbalance_1", "imbalance_5", "ofi"]);
    let mut told = BTreeMap::new();
    feature_rows(&sim, &root, &name(venue), &name(symbol), &rows, &mut feature, |row| {
        assert!(row.valid, "nothing is missing in this recording");
        told.insert(row.time_ns, row.values.iter().map(|value| value.unwrap()).collect::<Vec<_>>());
        Ok::<(), Error>(())
    })
    .unwrap();
    assert!(told.len() > 60, "{} rows", told.len());
    assert_eq!(told.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let mut flow = 0;
    for (time_ns, values) in &told {
        for ((column, value), plain) in columns.iter().zip(values).zip(&expected[time_ns]) {
            let near = (value - plain).abs() <= 1e-9 * plain.abs().max(1.0);
            assert!(near, "{column} at {time_ns}: {value}, plainly {plain}");
        }
        flow += usize::from(values[5] != 0.0);
    }
    assert!(flow * 2 > told.len(), "the order flow says something in {flow} of {} rows", told.len());
}

#[test]
fn features_of_the_excerpt() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/binance-spot/ethusdt-20240808-excerpt.gz");
    let bytes = std::fs::read(path).expect("the excerpt is part of the project");
    agree("binance-spot", "ethusdt", &imported("binance-spot", "excerpt.gz", &bytes));
}

/// Over midnight, and of a venue whose prices have fewer decimals.
#[test]
fn features_of_recordings() {
    let Some(first) = shared("binance-spot/btcusdt_20240808.gz") else { return };
    let Some(second) = shared("binance-spot/btcusdt_20240809.gz") else { return };
    let mut frames = imported("binance-spot", "btcusdt_20240808.gz", &first);
    frames.extend(imported("binance-spot", "btcusdt_20240809.gz", &second));
    agree("binance-spot", "btcusdt", &frames);
    let Some(bytes) = shared("binance-coinm/btcusd_perp_20240808.gz") else { return };
    agree("binance-coinm", "btcusd_perp", &imported("binance-coinm", "btcusd_perp_20240808.gz", &bytes));
}

/// A gap ends what was summed up; its rows have no values.
#[test]
fn a_gap_has_rows_without_values() {
    let head = |time_ns: u64| Head {
        exchange_ns: time_ns,
        ingest_ns: time_ns,
        price: Scale::fixed(1),
        qty: Scale::fixed(0),
        ..Head::default()
    };
    let start = date("2024-08-08").start_ns();
    let at = |seconds: u64| start + seconds * SECOND + SECOND / 2;
    let delta = |id: u64, seconds: u64, qty: i64| {
        let record = Record::BookDelta(chronicle_protocol::BookDelta {
            head: head(at(seconds)),
            first_id: id,
            last_id: id,
            prev_id: None,
            bids: &[Level::new(100, qty)],
            asks: &[],
            symbol: "S",
        });
        Raw::of(&record, at(seconds))
    };
    let snapshot = |id: u64, seconds: u64| {
        let record = Record::BookSnapshot(chronicle_protocol::BookSnapshot {
            head: Head { exchange_ns: 0, ..head(at(seconds)) },
            last_id: id,
            last_event_ns: 0,
            source: SnapshotSource::Venue,
            opens_partition: false,
            bids: &[Level::new(100, 10)],
            asks: &[Level::new(102, 5)],
            symbol: "S",
        });
        Raw::of(&record, at(seconds))
    };
    let frames = [
        snapshot(1, 0),
        delta(2, 0, 11),
        delta(3, 1, 14),
        // Ids 4 to 8 are missing.
        delta(9, 4, 20),
        snapshot(9, 6),
        delta(10, 7, 30),
        delta(11, 8, 31),
    ];
    let sim = Sim::new(1);
    let root = Root::new("/root");
    append(&sim, &root, "binance-spot", &frames, 1 << 20);
    refine(&sim, &root, None, &Options::default(), |_| {}).unwrap();
    let rows = Rows { dates: date("2024-08-08")..=date("2024-08-08"), every_ns: SECOND, depth: 0 };
    let mut told = Vec::new();
    let mut feature = shipped();
    feature_rows(&sim, &root, &name("binance-spot"), &name("s"), &rows, &mut feature, |row| {
        told.push(((row.time_ns - start) / SECOND, row.valid, row.values[0], row.values[5]));
        Ok::<(), Error>(())
    })
    .unwrap();
    let mid = Some(10.1);
    let none = |second| (second, false, None, None);
    let expected = [
        // 10 became 11; that it became 14 after it is known, but not when the missing events were.
        (1, true, mid, Some(1.0)),
        none(2),
        none(3),
        none(4),
        none(5),
        none(6),
        none(7),
        // The snapshot's 10 became 30; what was before the gap is not in it.
        (8, true, mid, Some(20.0)),
    ];
    assert_eq!(told, expected);
}
