//! Which structure holds one side of a book best? Plays the level updates of recorded files into several.
//!
//! ```text
//! cargo run --release -p chronicle-etl --example book_shapes -- VENUE FILE...
//! ```
//!
//! A shape of figures that the choice in `book.rs` rests on, not a gate: times on a shared machine wander.

use std::collections::BTreeMap;
use std::time::Instant;

use chronicle_feed::{Venue, import};
use chronicle_protocol::Record;

/// One side: prices so that the best is the largest.
trait Side: Default {
    fn set(&mut self, key: i64, qty: i64);
    fn len(&self) -> usize;
    fn best(&self) -> Option<(i64, i64)>;
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
    fn len(&self) -> usize {
        self.0.len()
    }
    fn best(&self) -> Option<(i64, i64)> {
        self.0.last_key_value().map(|(k, q)| (*k, *q))
    }
}

/// Sorted pairs, the best last, bisected.
#[derive(Default)]
struct Pairs(Vec<(i64, i64)>);

impl Side for Pairs {
    fn set(&mut self, key: i64, qty: i64) {
        match self.0.binary_search_by_key(&key, |l| l.0) {
            Ok(at) if qty == 0 => {
                self.0.remove(at);
            }
            Ok(at) => self.0[at].1 = qty,
            Err(_) if qty == 0 => {}
            Err(at) => self.0.insert(at, (key, qty)),
        }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn best(&self) -> Option<(i64, i64)> {
        self.0.last().copied()
    }
}

/// Sorted pairs, the best last, searched in doubling steps from the best.
#[derive(Default)]
struct Galloping(Vec<(i64, i64)>);

impl Side for Galloping {
    fn set(&mut self, key: i64, qty: i64) {
        let n = self.0.len();
        let mut step = 8;
        let mut low = n;
        loop {
            low = low.saturating_sub(step);
            if low == 0 || self.0[low].0 <= key {
                break;
            }
            step *= 2;
        }
        let high = (low + step).min(n);
        let at = low + self.0[low..high].partition_point(|l| l.0 < key);
        match self.0.get_mut(at) {
            Some(level) if level.0 == key => {
                if qty == 0 {
                    self.0.remove(at);
                } else {
                    level.1 = qty;
                }
            }
            _ if qty == 0 => {}
            _ => self.0.insert(at, (key, qty)),
        }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn best(&self) -> Option<(i64, i64)> {
        self.0.last().copied()
    }
}

/// Two columns, the best last.
#[derive(Default)]
struct Columns(Vec<i64>, Vec<i64>);

impl Side for Columns {
    fn set(&mut self, key: i64, qty: i64) {
        let at = self.0.partition_point(|k| *k < key);
        if self.0.get(at) == Some(&key) {
            if qty == 0 {
                self.0.remove(at);
                self.1.remove(at);
            } else {
                self.1[at] = qty;
            }
        } else if qty != 0 {
            self.0.insert(at, key);
            self.1.insert(at, qty);
        }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn best(&self) -> Option<(i64, i64)> {
        Some((*self.0.last()?, *self.1.last()?))
    }
}

/// Sorted chunks of sorted pairs.
struct Chunks(Vec<Vec<(i64, i64)>>);

impl Default for Chunks {
    fn default() -> Self {
        Chunks(vec![Vec::new()])
    }
}

impl Side for Chunks {
    fn set(&mut self, key: i64, qty: i64) {
        let c = self.0.partition_point(|c| c.first().is_some_and(|l| l.0 <= key)).saturating_sub(1);
        let chunk = &mut self.0[c];
        match chunk.binary_search_by_key(&key, |l| l.0) {
            Ok(at) if qty == 0 => {
                chunk.remove(at);
                if chunk.is_empty() && self.0.len() > 1 {
                    self.0.remove(c);
                }
            }
            Ok(at) => chunk[at].1 = qty,
            Err(_) if qty == 0 => {}
            Err(at) => {
                chunk.insert(at, (key, qty));
                if chunk.len() > 512 {
                    let upper = chunk.split_off(256);
                    self.0.insert(c + 1, upper);
                }
            }
        }
    }
    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
    fn best(&self) -> Option<(i64, i64)> {
        self.0.last()?.last().copied()
    }
}

struct Update {
    ask: bool,
    key: i64,
    qty: i64,
}

fn play<S: Side>(name: &str, updates: &[Update]) {
    let mut rates = Vec::new();
    let mut end = None;
    for _ in 0..7 {
        let (mut bids, mut asks) = (S::default(), S::default());
        let start = Instant::now();
        for u in updates {
            if u.ask { asks.set(u.key, u.qty) } else { bids.set(u.key, u.qty) }
        }
        rates.push(updates.len() as f64 / start.elapsed().as_secs_f64() / 1e6);
        end = Some((bids.len(), asks.len(), bids.best(), asks.best()));
    }
    rates.sort_by(f64::total_cmp);
    println!("  {name:<10} {:7.1} M updates/s (worst {:.1}, best {:.1})  {end:?}", rates[3], rates[0], rates[6]);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let venue: Venue = args.next().expect("a venue").parse().expect("a known venue");
    for path in args {
        let mut updates = Vec::new();
        let file = std::fs::File::open(&path).expect("the file opens");
        import(venue, path.clone(), file, |parsed| {
            let (bids, asks) = match Record::parse(parsed.type_id, parsed.payload).expect("a record") {
                Record::BookDelta(d) => (d.bids.to_vec(), d.asks.to_vec()),
                Record::BookSnapshot(s) => (s.bids.to_vec(), s.asks.to_vec()),
                _ => return Ok::<(), std::convert::Infallible>(()),
            };
            updates.extend(bids.iter().map(|l| Update { ask: false, key: l.price(), qty: l.qty() }));
            updates.extend(asks.iter().map(|l| Update { ask: true, key: !l.price(), qty: l.qty() }));
            Ok(())
        })
        .expect("the file reads");
        println!("{path}: {} updates", updates.len());
        play::<Tree>("BTreeMap", &updates);
        play::<Pairs>("pairs", &updates);
        play::<Galloping>("galloping", &updates);
        play::<Columns>("columns", &updates);
        play::<Chunks>("chunks", &updates);
    }
}
