//! Group `book`: the updates of recorded books, applied by ours and by other people's.
//!
//! What is played are the snapshots and deltas that the refinery applied, decoded beforehand; hftbacktest gets the same
//! numbers as the floats that it takes. After each play the best prices, and where a rival holds them all the levels, must be
//! ours: a book that loses levels is fast.
//!
//! `BTreeMarketDepth` and `HashMapMarketDepth` hold all levels, as ours does. `ROIVectorMarketDepth` holds those of a range that
//! is fixed beforehand, a slot for each tick of it, and forgets all others: a case of its own, without a target.

use crate::contest::{Contest, Line, Measure, Target};
use crate::recordings::{self, Recording};
use chronicle_core::Append;
use chronicle_etl::book::Book;
use chronicle_etl::refinery::{NOT_APPLIED, Place, RawFrame, Refinery, Sink};
use chronicle_protocol::{Head, Level, Record, SnapshotSource};
use chronicle_storage::root::{Name, Stream};
use std::{collections::BTreeMap, convert::Infallible, time::Instant};

const ROUNDS: usize = 7;

/// One message of a book.
struct Message {
    /// It replaces the book.
    snapshot: bool,
    head: Head,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

/// What is applied, in its order.
#[derive(Default)]
struct Applied(Vec<Message>);

impl Sink for Applied {
    type Error = Infallible;

    fn append(&mut self, place: Place, frame: Append, payload: &[u8]) -> Result<(), Infallible> {
        if place.stream != Stream::Book || frame.flags & NOT_APPLIED != 0 {
            return Ok(());
        }
        let message = |snapshot, head, bids: &[Level], asks: &[Level]| Message {
            snapshot,
            head,
            bids: bids.to_vec(),
            asks: asks.to_vec(),
        };
        match Record::parse(frame.type_id, payload) {
            Ok(Record::BookDelta(d)) => self.0.push(message(false, d.head, d.bids, d.asks)),
            Ok(Record::BookSnapshot(s)) if s.source == SnapshotSource::Venue => {
                self.0.push(message(true, s.head, s.bids, s.asks));
            }
            _ => {}
        }
        Ok(())
    }

    fn seal(&mut self, _: Place) -> Result<(), Infallible> {
        Ok(())
    }
}

fn applied(recording: &Recording) -> Result<Vec<Message>, String> {
    let name = Name::new(recording.venue.name()).map_err(|it| it.to_string())?;
    let mut refinery = Refinery::new(name);
    let mut sink = Applied::default();
    for frame in recording.frames()? {
        let frame = RawFrame { ingest_ns: frame.ingest_ns, type_id: frame.type_id, payload: &frame.payload };
        refinery.frame(frame, &mut sink).map_err(|it| it.to_string())?;
    }
    if sink.0.is_empty() { Err("no book in it".to_owned()) } else { Ok(sink.0) }
}

/// The plain structures: one side, the best key last.
trait Side: Default {
    fn set(&mut self, key: i64, qty: i64);
    fn levels(&self) -> Vec<(i64, i64)>;
}

#[derive(Default)]
struct Tree(BTreeMap<i64, i64>);

impl Side for Tree {
    fn set(&mut self, key: i64, qty: i64) {
        if qty == 0 {
            self.0.remove(&key);
        } else {
            self.0.insert(key, qty);
        }
    }

    fn levels(&self) -> Vec<(i64, i64)> {
        self.0.iter().map(|(key, qty)| (*key, *qty)).collect()
    }
}

#[derive(Default)]
struct Sorted(Vec<(i64, i64)>);

impl Side for Sorted {
    fn set(&mut self, key: i64, qty: i64) {
        match self.0.binary_search_by_key(&key, |level| level.0) {
            Ok(at) if qty == 0 => {
                self.0.remove(at);
            }
            Ok(at) => self.0[at].1 = qty,
            Err(_) if qty == 0 => {}
            Err(at) => self.0.insert(at, (key, qty)),
        }
    }

    fn levels(&self) -> Vec<(i64, i64)> {
        self.0.clone()
    }
}

/// A market that is played: messages of one scale, and the book that they give.
struct Market {
    messages: Vec<Message>,
    /// As hftbacktest takes them: price and quantity.
    floats: Vec<[Vec<(f64, f64)>; 2]>,
    levels: usize,
    book: Book,
    tick: f64,
    lot: f64,
}

impl Market {
    fn of(messages: Vec<Message>) -> Result<Self, String> {
        let mut book = Book::new();
        for m in &messages {
            let fits = if m.snapshot {
                book.replace(&m.head, &m.bids, &m.asks)
            } else {
                book.apply(&m.head, &m.bids, &m.asks)
            };
            fits.map_err(|it| it.to_string())?;
        }
        let exps = (book.price_scale().exp, book.qty_scale().exp);
        let same =
            |m: &&Message| (m.head.price.exp, m.head.qty.exp) != exps && !(m.bids.is_empty() && m.asks.is_empty());
        if messages.iter().any(|m| same(&m)) {
            return Err("its numbers have several scales: plain structures have one".to_owned());
        }
        let (price, qty) = (10_f64.powi(exps.0.into()), 10_f64.powi(exps.1.into()));
        let float =
            |side: &[Level]| side.iter().map(|l| (l.price() as f64 * price, l.qty() as f64 * qty)).collect::<Vec<_>>();
        let all = || messages.iter().flat_map(|m| m.bids.iter().chain(&m.asks));
        let tick = all().map(|l| l.price().unsigned_abs()).fold(0, gcd);
        Ok(Self {
            levels: all().count(),
            floats: messages.iter().map(|m| [float(&m.bids), float(&m.asks)]).collect(),
            book,
            tick: tick as f64 * price,
            lot: qty,
            messages,
        })
    }

    fn rate(&self, start: Instant) -> f64 {
        self.levels as f64 / start.elapsed().as_secs_f64() / 1e6
    }

    fn ours(&self) -> Result<f64, String> {
        let mut book = Book::new();
        let start = Instant::now();
        for m in &self.messages {
            let done = if m.snapshot {
                book.replace(&m.head, &m.bids, &m.asks)
            } else {
                book.apply(&m.head, &m.bids, &m.asks)
            };
            std::hint::black_box(done.map_err(|it| it.to_string())?);
        }
        let rate = self.rate(start);
        if book == self.book { Ok(rate) } else { Err("another book than before".to_owned()) }
    }

    fn plain<S: Side>(&self) -> Result<f64, String> {
        let (mut bids, mut asks) = (S::default(), S::default());
        let start = Instant::now();
        for m in &self.messages {
            if m.snapshot {
                (bids, asks) = (S::default(), S::default());
            }
            for level in &m.bids {
                bids.set(level.price(), level.qty());
            }
            for level in &m.asks {
                asks.set(!level.price(), level.qty());
            }
        }
        let rate = self.rate(start);
        let same = bids.levels().into_iter().rev().eq(self.book.bids())
            && asks.levels().into_iter().rev().map(|(key, qty)| (!key, qty)).eq(self.book.asks());
        if same { Ok(rate) } else { Err("another book than ours".to_owned()) }
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(feature = "hftbacktest")]
mod backtest {
    use super::Market;
    use hftbacktest::depth::{BTreeMarketDepth, HashMapMarketDepth, L2MarketDepth, MarketDepth, ROIVectorMarketDepth};
    use std::time::Instant;

    impl Market {
        fn depth<D: L2MarketDepth + MarketDepth>(&self, new: impl Fn() -> D) -> Result<f64, String> {
            let mut depth = new();
            let start = Instant::now();
            for [bids, asks] in &self.floats {
                for (price, qty) in bids {
                    std::hint::black_box(depth.update_bid_depth(*price, *qty, 0));
                }
                for (price, qty) in asks {
                    std::hint::black_box(depth.update_ask_depth(*price, *qty, 0));
                }
            }
            let rate = self.rate(start);
            let ours = self.best().map(|price| (price / self.tick).round() as i64);
            let theirs = [depth.best_bid_tick(), depth.best_ask_tick()];
            if ours == theirs { Ok(rate) } else { Err(format!("best ticks {theirs:?}, ours {ours:?}")) }
        }

        fn best(&self) -> [f64; 2] {
            let price = |level: Option<(i64, i64)>| {
                level.map_or(f64::NAN, |(price, _)| price as f64 * 10_f64.powi(self.book.price_scale().exp.into()))
            };
            [price(self.book.bids().next()), price(self.book.asks().next())]
        }

        pub(super) fn tree(&self) -> Result<f64, String> {
            self.depth(|| BTreeMarketDepth::new(self.tick, self.lot))
        }

        pub(super) fn hash(&self) -> Result<f64, String> {
            self.depth(|| HashMapMarketDepth::new(self.tick, self.lot))
        }

        /// Of a tenth around the price.
        pub(super) fn range(&self) -> Result<f64, String> {
            let [bid, ask] = self.best();
            self.depth(|| ROIVectorMarketDepth::new(self.tick, self.lot, bid * 0.9, ask * 1.1))
        }
    }
}

/// Runs the group.
pub fn run(out: &mut dyn FnMut(Line)) -> Result<(), String> {
    for recording in recordings::all() {
        let Ok(messages) = applied(&recording) else {
            // The second half of a day has no snapshot of its own.
            continue;
        };
        let market = &Market::of(messages)?;
        let name = recording.name();
        let contest = |case, rivals, target| Contest {
            group: "book",
            case,
            unit: "M levels/s",
            higher_is_better: true,
            ours: Box::new(|| market.ours()),
            floor: None,
            rivals,
            target,
        };
        #[allow(unused_mut, reason = "without the feature there are two")]
        let mut rivals: Vec<(&'static str, Measure<'_>)> = vec![
            ("BTreeMap", Box::new(|| market.plain::<Tree>())),
            ("sorted Vec", Box::new(|| market.plain::<Sorted>())),
        ];
        #[cfg(feature = "hftbacktest")]
        {
            rivals.push(("hftbacktest BTree", Box::new(|| market.tree())));
            rivals.push(("hftbacktest HashMap", Box::new(|| market.hash())));
        }
        out(contest(format!("L2, all levels, {name}"), rivals, Target::Ratio(1.5)).run(ROUNDS)?);
        #[cfg(feature = "hftbacktest")]
        {
            let range: Vec<(&'static str, Measure<'_>)> = vec![("hftbacktest ROIVector", Box::new(|| market.range()))];
            let case = format!("L2, beside one of ±10 % of the price, {name}");
            out(contest(case, range, Target::None).run(ROUNDS)?);
        }
    }
    Ok(())
}
