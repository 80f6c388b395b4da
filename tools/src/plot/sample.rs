//! A day in as many bins as the picture has columns, with the extremes of each.
//!
//! However many events a day has, what is kept of it is bounded by the picture: for each bin the first, least, greatest
//! and last best bid and ask, the spread's likewise, the least and greatest trade of each side, and the book as it was at
//! the bin's end. A spike of one event is seen at any width.
//!
//! Numbers are floats from here on: they become pixels.

use super::Wanted;
use crate::run::Failure;
use chronicle::{
    System,
    etl::{
        book::Book,
        query::{GapFacts, partition, record},
        refinery::NOT_APPLIED,
        walk::{Change, Walk},
    },
    protocol::{Record, Scale, Side},
    storage::{
        reader::ArchiveReader,
        root::{Date, PartitionId, Stream},
    },
};
use std::rc::Rc;

/// Levels of a side that a column of the heat map looks at.
const LEVELS_MAX: usize = 1000;
/// Gaps that are told one by one.
pub(super) const GAPS_MAX: usize = 200;

/// First, least, greatest, last: what a line looks like within a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) first: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) last: f64,
}

impl Span {
    pub(super) fn meet(span: &mut Option<Span>, value: f64) {
        match span {
            None => *span = Some(Span { first: value, min: value, max: value, last: value }),
            Some(span) => {
                span.min = span.min.min(value);
                span.max = span.max.max(value);
                span.last = value;
            }
        }
    }
}

/// What happened in a bin.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bin {
    pub(super) bid: Option<Span>,
    pub(super) ask: Option<Span>,
    pub(super) mid: Option<Span>,
    pub(super) spread: Option<Span>,
    /// Trades by which the taker bought, and those by which it sold.
    pub(super) bought: Option<Span>,
    pub(super) sold: Option<Span>,
    /// Trades of which nobody says which.
    pub(super) traded: Option<Span>,
    /// Some of its time has no valid book.
    pub(super) invalid: bool,
    pub(super) gaps: u32,
}

/// A book at the end of a bin: price and quantity, the best first.
#[derive(Clone, Debug, Default)]
pub(super) struct Depth {
    pub(super) bids: Vec<(f64, f64)>,
    pub(super) asks: Vec<(f64, f64)>,
}

/// A day, sampled.
#[derive(Debug)]
pub(super) struct Sample {
    /// From here, ns.
    pub(super) from: u64,
    /// Up to here.
    pub(super) to: u64,
    pub(super) bins: Vec<Bin>,
    /// The book at the end of each bin, if the heat map is wanted; bins in which nothing changed share one.
    pub(super) depths: Vec<Option<Rc<Depth>>>,
    /// The first [`GAPS_MAX`] of them.
    pub(super) gaps: Vec<GapFacts>,
    pub(super) gap_count: u64,
    pub(super) invalid_ns: u64,
    pub(super) book_events: u64,
    pub(super) trades: u64,
    /// Where the prices come from: `book`, or `quotes` where there is no book.
    pub(super) source: Stream,
}

/// The number as pixels need it.
pub(super) fn float(mantissa: i64, scale: Scale) -> f64 {
    let exp = i32::from(scale.exp);
    // Dividing by a power of ten is exact to the last bit where multiplying by its inverse is not.
    if exp < 0 { mantissa as f64 / 10f64.powi(-exp) } else { mantissa as f64 * 10f64.powi(exp) }
}

impl Sample {
    /// Samples one day; `None` where nothing of it is stored, or nothing between the two times.
    pub(super) fn of(
        archive: &ArchiveReader<System>,
        wanted: &Wanted,
        columns: usize,
    ) -> Result<Option<Self>, Failure> {
        let id = |stream| PartitionId::new(wanted.venue.clone(), wanted.symbol.clone(), wanted.date, stream);
        let streams = archive.streams(&wanted.venue, &wanted.symbol, wanted.date)?;
        let has_book = streams.contains(&Stream::Book);
        let source = if has_book { Stream::Book } else { Stream::Quotes };
        let mut range = None;
        if wanted.from.is_none() || wanted.to.is_none() {
            for stream in [source, Stream::Trades] {
                extent(archive, &id(stream), &mut range)?;
            }
        }
        let (Some(from), Some(to)) = (wanted.from.or(range.map(|r| r.0)), wanted.to.or(range.map(|r| r.1 + 1))) else {
            return Ok(None);
        };
        let mut sampler = Sampler::new(from, to.max(from + 1), columns, wanted.depth, source);
        if has_book {
            if let Some(walk) = Walk::open(&System, archive, &id(Stream::Book))? {
                sampler.book(walk, wanted.from)?;
            }
        } else {
            sampler.quotes(archive, &id(Stream::Quotes))?;
        }
        sampler.trades(archive, &id(Stream::Trades))?;
        Ok(Some(sampler.sample))
    }

    /// Least and greatest price that the picture shows.
    pub(super) fn price_range(&self) -> Option<(f64, f64)> {
        self.range(|bin| [bin.bid, bin.ask, bin.bought, bin.sold, bin.traded])
    }

    /// Least and greatest of something over all bins.
    pub(super) fn range(&self, of: impl Fn(&Bin) -> [Option<Span>; 5]) -> Option<(f64, f64)> {
        let spans = self.bins.iter().flat_map(of).flatten();
        spans.map(|span| (span.min, span.max)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

/// First and last time of a partition's frames.
fn extent(archive: &ArchiveReader<System>, id: &PartitionId, range: &mut Option<(u64, u64)>) -> Result<(), Failure> {
    let Some(mut partition) = partition(&System, archive, id)? else { return Ok(()) };
    while let Some(frame) = partition.next()? {
        let (first, last) = range.unwrap_or((frame.time_ns, frame.time_ns));
        *range = Some((first.min(frame.time_ns), last.max(frame.time_ns)));
    }
    Ok(())
}

/// Best bid and ask, and what is between them.
#[derive(Clone, Copy, Debug, Default)]
struct Top {
    bid: Option<f64>,
    ask: Option<f64>,
    spread: Option<f64>,
}

impl Top {
    fn of(bid: Option<i64>, ask: Option<i64>, scale: Scale) -> Self {
        let spread = bid.zip(ask).and_then(|(bid, ask)| ask.checked_sub(bid));
        let value = |mantissa: Option<i64>| mantissa.map(|mantissa| float(mantissa, scale));
        Top { bid: value(bid), ask: value(ask), spread: value(spread) }
    }

    fn of_book(book: &Book) -> Self {
        Self::of(book.bids().next().map(|l| l.0), book.asks().next().map(|l| l.0), book.price_scale())
    }
}

struct Sampler {
    sample: Sample,
    wants_depth: bool,
    /// The bin that is being filled.
    at: usize,
    /// What is so since the last event, if that is known.
    top: Option<Top>,
    invalid_since: Option<u64>,
}

impl Sampler {
    fn new(from: u64, to: u64, columns: usize, wants_depth: bool, source: Stream) -> Self {
        let sample = Sample {
            from,
            to,
            bins: vec![Bin::default(); columns],
            depths: vec![None; columns],
            gaps: Vec::new(),
            gap_count: 0,
            invalid_ns: 0,
            book_events: 0,
            trades: 0,
            source,
        };
        Sampler { sample, wants_depth, at: 0, top: None, invalid_since: None }
    }

    /// The bin of a time within the picture.
    fn bin(&self, time_ns: u64) -> Option<usize> {
        let Sample { from, to, bins, .. } = &self.sample;
        if !(*from..*to).contains(&time_ns) {
            return None;
        }
        let bin = u128::from(time_ns - from) * bins.len() as u128 / u128::from(to - from);
        Some((bin as usize).min(bins.len() - 1))
    }

    /// The same, with what is outside at the edge.
    fn bin_or_edge(&self, time_ns: u64) -> usize {
        self.bin(time_ns).unwrap_or(if time_ns < self.sample.from { 0 } else { self.sample.bins.len() - 1 })
    }

    /// What is known holds up to `time_ns`: the bins up to there have it.
    fn up_to(&mut self, time_ns: u64) {
        let to = self.bin_or_edge(time_ns);
        if time_ns < self.sample.from || self.top.is_none() {
            self.at = self.at.max(to);
            return;
        }
        // What was so before the picture begins is so in its first bin.
        self.put();
        while self.at < to {
            self.at += 1;
            self.sample.depths[self.at] = self.sample.depths[self.at - 1].clone();
            self.put();
        }
    }

    /// The present top, into the present bin.
    fn put(&mut self) {
        let Some(Top { bid, ask, spread }) = self.top else { return };
        let bin = &mut self.sample.bins[self.at];
        let mid = bid.zip(ask).map(|(bid, ask)| f64::midpoint(bid, ask));
        for (span, value) in [(&mut bin.bid, bid), (&mut bin.ask, ask), (&mut bin.mid, mid), (&mut bin.spread, spread)]
        {
            if let Some(value) = value {
                Span::meet(span, value);
            }
        }
    }

    /// From `time_ns` on it is so.
    fn is_now(&mut self, time_ns: u64, top: Top) {
        if let Some(since) = self.invalid_since.take() {
            self.shade(since, time_ns);
        }
        self.up_to(time_ns);
        self.top = Some(top);
        if time_ns >= self.sample.from {
            self.put();
        }
    }

    /// Not valid between these.
    fn shade(&mut self, since: u64, until: u64) {
        let (since, until) = (since.max(self.sample.from), until.min(self.sample.to));
        if since >= until {
            return;
        }
        self.sample.invalid_ns += until - since;
        for bin in self.bin_or_edge(since)..=self.bin_or_edge(until - 1) {
            self.sample.bins[bin].invalid = true;
        }
    }

    fn book(&mut self, mut walk: Walk<System>, from: Option<u64>) -> Result<(), Failure> {
        if let Some(from) = from {
            // What is so before the picture begins.
            walk.seek(from.saturating_sub(1))?;
        }
        let mut last = self.sample.from;
        while let Some(time_ns) = walk.peek()?.filter(|time_ns| *time_ns < self.sample.to) {
            if self.wants_depth && self.bin_or_edge(time_ns) > self.at && time_ns >= self.sample.from {
                self.sample.depths[self.at] = walk.book().map(|book| Rc::new(Depth::of(book)));
            }
            let Some(step) = walk.next()? else { break };
            last = last.max(time_ns);
            let within = time_ns >= self.sample.from;
            self.sample.book_events += u64::from(within && step.change.is_venues());
            match (step.change, step.book) {
                (Change::Delta | Change::Snapshot { .. }, Some(book)) => {
                    self.is_now(time_ns, Top::of_book(book));
                }
                (Change::Gap { gap, valid_until }, _) => {
                    // Where it was carried into the day, that is not valid from its first moment on.
                    let since = valid_until.unwrap_or(Date::of_ns(time_ns).start_ns());
                    self.invalid_since.get_or_insert(since);
                    self.top = None;
                    if within && !gap.carried {
                        self.sample.gap_count += 1;
                        let bin = self.bin_or_edge(gap.time_ns);
                        self.sample.bins[bin].gaps = self.sample.bins[bin].gaps.saturating_add(1);
                        if self.sample.gaps.len() < GAPS_MAX {
                            self.sample.gaps.push(gap);
                        }
                    }
                }
                _ => {}
            }
        }
        // The picture may end before the day does: then what is so holds to its end, else to the last event.
        let end = if walk.peek()?.is_some() { self.sample.to - 1 } else { last };
        if let Some(since) = self.invalid_since.take() {
            self.shade(since, end + 1);
        }
        if self.wants_depth && self.top.is_some() {
            self.sample.depths[self.at] = walk.book().map(|book| Rc::new(Depth::of(book)));
        }
        self.up_to(end);
        Ok(())
    }

    /// Best bids and asks from quotes, where there is no book.
    fn quotes(&mut self, archive: &ArchiveReader<System>, id: &PartitionId) -> Result<(), Failure> {
        let Some(mut partition) = partition(&System, archive, id)? else { return Ok(()) };
        let path = partition.path().to_owned();
        while let Some(frame) = partition.next()? {
            if frame.time_ns >= self.sample.to {
                break;
            }
            if let Record::Quote(quote) = record(&frame, &path)? {
                let scale = quote.head.price;
                self.sample.book_events += u64::from(frame.time_ns >= self.sample.from);
                self.is_now(frame.time_ns, Top::of(Some(quote.bid_price), Some(quote.ask_price), scale));
            }
        }
        Ok(())
    }

    fn trades(&mut self, archive: &ArchiveReader<System>, id: &PartitionId) -> Result<(), Failure> {
        let Some(mut partition) = partition(&System, archive, id)? else { return Ok(()) };
        let path = partition.path().to_owned();
        while let Some(frame) = partition.next()? {
            let Some(bin) = self.bin(frame.time_ns) else { continue };
            if frame.flags & NOT_APPLIED != 0 {
                continue;
            }
            let (price, scale, side) = match record(&frame, &path)? {
                Record::Trade(trade) => {
                    let side = if trade.buyer_is_maker { Side::Ask } else { Side::Bid };
                    (trade.price, trade.head.price, Some(side))
                }
                Record::TextTrade(trade) => (trade.price, trade.head.price, trade.side),
                _ => continue,
            };
            self.sample.trades += 1;
            let bin = &mut self.sample.bins[bin];
            let span = match side {
                Some(Side::Bid) => &mut bin.bought,
                Some(Side::Ask) => &mut bin.sold,
                None => &mut bin.traded,
            };
            Span::meet(span, float(price, scale));
        }
        Ok(())
    }
}

impl Depth {
    fn of(book: &Book) -> Self {
        let (price, qty) = (book.price_scale(), book.qty_scale());
        let level = |(p, q)| (float(p, price), float(q, qty));
        Depth {
            bids: book.bids().take(LEVELS_MAX).map(level).collect(),
            asks: book.asks().take(LEVELS_MAX).map(level).collect(),
        }
    }
}
