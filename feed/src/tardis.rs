//! Tardis' CSV files: a header and rows, the header's names say which kind.
//!
//! ```text
//! exchange,symbol,timestamp,local_timestamp, is_snapshot,side,price,amount        incremental_book_L2   book
//!                                            id,side,price,amount                 trades                a trade a row
//!                                            ask_amount,ask_price,bid_price,…     quotes                a quote a row
//!                                            asks[0].price,asks[0].amount,…       book_snapshot_N       a book a row
//!                                            anything else                        (kept verbatim)       opaque
//! ```
//!
//! Times are microseconds: `timestamp` the exchange's, `local_timestamp` the recorder's. Columns are found by name, in any
//! order.
//!
//! **Books.** Consecutive rows of one symbol with the same two times are one record, as they were one message. The first
//! such record of a run with `is_snapshot` is a snapshot and replaces the book where it stands; the others of the run, and
//! all without it, are deltas. Amount 0 removes a price. A row that no record holds is kept verbatim, and behind it stands a
//! gap of the cause `book_lost`: the book is not right from there to the next snapshot.
//!
//! **Numbers** are values, not the venue's texts: Tardis writes them without trailing zeros, small ones as `1e-7`. They are
//! kept exactly.
//!
//! **Ids of trades** are whatever the venue has: a natural number below 2^64 makes a trade, anything else (a UUID, a longer
//! number, none) a text trade, and so does a `side` that is neither `buy` nor `sell`. Liquidations have the very columns of
//! trades; a file whose name says `liquidations` is kept verbatim.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

use chronicle_protocol::{
    BookDelta, BookSnapshot, DecimalText, Head, Level, NotExact, Opaque, OpaqueReason, Quote, Record, RecordFlags,
    Scale, Side, SnapshotSource, TextTrade, Trade,
};

use crate::fields::SYMBOL_LEN_MAX;
use crate::flaw::Flaw;
use crate::format::Format;
use crate::import::{LINE_LEN_MAX, Parsed, ReadError, broken};
use crate::json::whole_decimal;
use crate::levels::{Bad, Columns, Digits, LevelDigits, Store, Writing};
use crate::report::Report;
use crate::staged::Staged;
use crate::text::{Lines, Step};

/// Levels of one record; more rows of the same times begin another.
const GROUP_MAX: usize = 1 << 20;
/// Bytes of a trade's id that a record holds.
const ID_LEN_MAX: usize = 255;
/// Nanoseconds in a microsecond.
const NS_PER_US: u64 = 1000;

const EVERY_ROW: [&str; 4] = ["exchange", "symbol", "timestamp", "local_timestamp"];
const UPDATES: [&str; 4] = ["is_snapshot", "side", "price", "amount"];
const TRADES: [&str; 4] = ["id", "side", "price", "amount"];
const QUOTES: [&str; 4] = ["bid_price", "bid_amount", "ask_price", "ask_amount"];

/// Whether these bytes begin with a header of Tardis'.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    header_of(bytes).is_some()
}

/// The exchange that the first row names.
pub(crate) fn venue_of(bytes: &[u8]) -> Option<String> {
    let exchange = header_of(bytes)?.every[0];
    let row = bytes.split(|byte| *byte == b'\n').nth(1)?;
    let exchange = row.split(|byte| *byte == b',').nth(exchange)?;
    let exchange = core::str::from_utf8(exchange).ok()?;
    (!exchange.is_empty()).then(|| exchange.to_owned())
}

fn header_of(bytes: &[u8]) -> Option<Table> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    Table::of(core::str::from_utf8(line).ok()?.trim_end_matches('\r'), "")
}

/// What a row of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Updates,
    Trades,
    Quotes,
    Snapshots,
    Other,
}

/// The columns of a file, by what they are.
#[derive(Clone, Debug)]
struct Table {
    kind: Kind,
    /// Tardis' word for the kind.
    word: String,
    count: usize,
    /// Where [`EVERY_ROW`]'s are.
    every: [usize; 4],
    /// Where those of the kind are; unused of snapshots.
    own: [usize; 4],
    /// Of snapshots: where price and amount of the levels are, bids and asks, best first.
    sides: [Vec<[usize; 2]>; 2],
}

impl Table {
    /// Reads a header; `None` if it is none of Tardis'.
    fn of(header: &str, file_name: &str) -> Option<Self> {
        let names: Vec<&str> = header.split(',').collect();
        let at = |name: &str| names.iter().position(|found| *found == name);
        let all = |wanted: [&str; 4]| -> Option<[usize; 4]> {
            let [a, b, c, d] = wanted.map(at);
            Some([a?, b?, c?, d?])
        };
        let every = all(EVERY_ROW)?;
        let side = |side: &str| -> Vec<[usize; 2]> {
            let of = |level: usize, what: &str| at(&format!("{side}[{level}].{what}"));
            (0..).map_while(|level| Some([of(level, "price")?, of(level, "amount")?])).collect()
        };
        let sides = [side("bids"), side("asks")];
        let (kind, word, own) = if let Some(own) = all(UPDATES) {
            (Kind::Updates, "incremental_book_L2".to_owned(), own)
        } else if file_name.contains("liquidations") {
            (Kind::Other, "liquidations".to_owned(), every)
        } else if let Some(own) = all(TRADES) {
            (Kind::Trades, "trades".to_owned(), own)
        } else if let Some(own) = all(QUOTES) {
            (Kind::Quotes, "quotes".to_owned(), own)
        } else if !sides[0].is_empty() && !sides[1].is_empty() {
            let depth = sides[0].len().max(sides[1].len());
            (Kind::Snapshots, format!("book_snapshot_{depth}"), every)
        } else {
            (Kind::Other, "other".to_owned(), every)
        };
        Some(Self { kind, word, count: names.len(), every, own, sides })
    }
}

/// What every row has.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    text: &'a str,
    cells: &'a [Range<usize>],
    symbol: &'a str,
    exchange_ns: u64,
    ingest_ns: u64,
    line: u64,
}

impl<'a> Row<'a> {
    fn read(
        text: &'a str,
        line: u64,
        table: &Table,
        cells: &'a mut Vec<Range<usize>>,
        venue: &str,
    ) -> Result<Self, Flaw> {
        cells.clear();
        let mut from = 0;
        for comma in memchr::memchr_iter(b',', text.as_bytes()) {
            cells.push(from..comma);
            from = comma + 1;
        }
        cells.push(from..text.len());
        if cells.len() != table.count {
            return Err(Flaw::Columns { found: cells.len(), needed: table.count });
        }
        let [exchange, symbol, timestamp, local] = table.every.map(|at| &text[cells[at].clone()]);
        if exchange != venue {
            return Err(Flaw::OtherVenue);
        }
        if symbol.is_empty() || symbol.len() > SYMBOL_LEN_MAX {
            return Err(Flaw::Absurd { field: "symbol" });
        }
        // A record says "none" with 0.
        let exchange_ns = if timestamp.is_empty() { Some(0) } else { micros(timestamp) };
        let exchange_ns = exchange_ns.ok_or(Flaw::Absurd { field: "timestamp" })?;
        let ingest_ns = micros(local).ok_or(Flaw::Absurd { field: "local_timestamp" })?;
        Ok(Self { text, cells, symbol, exchange_ns, ingest_ns, line })
    }

    fn cell(&self, at: usize) -> &'a str {
        &self.text[self.cells[at].clone()]
    }

    fn head(&self, price: Scale, qty: Scale) -> Head {
        Head { exchange_ns: self.exchange_ns, ingest_ns: self.ingest_ns, transact_ns: 0, price, qty }
    }

    fn verbatim(&self, reason: OpaqueReason) -> Record<'a> {
        let head = self.head(Scale::default(), Scale::default());
        Record::Opaque(Opaque { head, reason, symbol: self.symbol, bytes: self.text.as_bytes() })
    }

    /// A level, both of whose cells may be empty where it is not there.
    fn level(&self, [price, amount]: [usize; 2]) -> Result<Option<LevelDigits>, Bad> {
        match [price, amount].map(|at| self.cell(at)) {
            ["", ""] => Ok(None),
            [price, amount] => Ok(Some((number(price)?, positive(amount)?))),
        }
    }
}

/// Microseconds as nanoseconds.
fn micros(text: &str) -> Option<u64> {
    natural(text)?.checked_mul(NS_PER_US)
}

/// Digits alone.
fn natural(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A number by its value, whatever its spelling.
#[inline]
fn number(text: &str) -> Result<Digits, Bad> {
    match whole_decimal(text.as_bytes()) {
        Some(digits) => Ok(digits),
        None => odd_number(text),
    }
}

/// The same; one below 0 cannot be meant.
#[inline]
fn positive(text: &str) -> Result<Digits, Bad> {
    match number(text)? {
        (mantissa, _) if mantissa < 0 => Err(Bad::Absurd),
        digits => Ok(digits),
    }
}

/// A minus, many digits, an exponent.
#[cold]
fn odd_number(text: &str) -> Result<Digits, Bad> {
    match DecimalText::parse(text.as_bytes()) {
        Ok(decimal) => return Ok((decimal.mantissa, decimal.decimals)),
        Err(NotExact::NotANumber) => return Err(Bad::Absurd),
        Err(NotExact::Spelling | NotExact::TooLong) => {}
    }
    let Some((digits, exponent)) = text.split_once(['e', 'E']) else { return Err(Bad::Unfit) };
    let DecimalText { mantissa, decimals, .. } = DecimalText::parse(digits.as_bytes()).map_err(|_| Bad::Unfit)?;
    let exponent: i32 = exponent.parse().map_err(|_| Bad::Unfit)?;
    let decimals = i32::from(decimals).checked_sub(exponent).ok_or(Bad::Unfit)?;
    if let Ok(decimals) = u8::try_from(decimals) {
        // As many as a record holds.
        return if i8::try_from(decimals).is_ok() { Ok((mantissa, decimals)) } else { Err(Bad::Unfit) };
    }
    let factor = 10_i64.checked_pow(decimals.unsigned_abs()).filter(|_| decimals < 0).ok_or(Bad::Unfit)?;
    Ok((mantissa.checked_mul(factor).ok_or(Bad::Unfit)?, 0))
}

/// Rows of one message of a book, while they come.
#[derive(Debug, Default)]
struct Group {
    symbol: String,
    exchange_ns: u64,
    ingest_ns: u64,
    line: u64,
    /// They are a snapshot's.
    is_snapshot: bool,
    /// They replace the book.
    replaces: bool,
    bids: Vec<LevelDigits>,
    asks: Vec<LevelDigits>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    fn takes(&self, row: &Row<'_>, is_snapshot: bool) -> bool {
        self.exchange_ns == row.exchange_ns
            && self.ingest_ns == row.ingest_ns
            && self.is_snapshot == is_snapshot
            && self.bids.len() + self.asks.len() < GROUP_MAX
            && self.symbol == row.symbol
    }
}

/// Memory for levels on their way.
#[derive(Debug, Default)]
struct Scratch {
    levels: Vec<Level>,
    decimals: Vec<[u8; 2]>,
}

impl Scratch {
    /// Two sides under one scale for prices and one for amounts; none if no scale holds them all.
    fn settle(&mut self, bids: &[LevelDigits], asks: &[LevelDigits]) -> Option<(Scale, Scale, &[Level], &[Level])> {
        self.levels.clear();
        let mut store = Store { levels: &mut self.levels, decimals: &mut self.decimals };
        let mut columns = Columns::begin(&mut store);
        for level in bids.iter().chain(asks) {
            columns.push(&mut store, *level);
        }
        let (price, qty) = columns.settle(&mut store, Writing::TextsOrValues)?;
        let (bids, asks) = self.levels.split_at(bids.len());
        Some((price, qty, bids, asks))
    }
}

/// A file of Tardis' being read.
///
/// ```
/// use chronicle_feed::tardis::Tardis;
/// use chronicle_protocol::Record;
///
/// let file = b"exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
/// deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,ask,6421.5,18640
/// deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,bid,6421,1190
/// deribit,BTC-PERPETUAL,1585699200345000,1585699200455684,false,ask,6421.5,0
/// ";
/// let mut rows = Tardis::open("deribit", "book.csv", &file[..]);
/// let mut levels = Vec::new();
/// while let Some(parsed) = rows.advance()? {
///     match Record::parse(parsed.type_id, parsed.payload) {
///         Ok(Record::BookSnapshot(book)) => levels.push(book.bids.len() + book.asks.len()),
///         Ok(Record::BookDelta(delta)) => levels.push(delta.bids.len() + delta.asks.len()),
///         _ => panic!(),
///     }
/// }
/// assert_eq!(levels, [2, 1]);
/// assert_eq!(rows.report().by_kind["incremental_book_L2"], 3);
/// # Ok::<(), chronicle_feed::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Tardis<R> {
    lines: Lines<R>,
    venue: String,
    table: Option<Table>,
    cells: Vec<Range<usize>>,
    group: Group,
    /// Symbols whose last row was a snapshot's.
    in_snapshot: HashSet<String>,
    /// The last symbol that the report saw.
    symbol: String,
    scratch: Scratch,
    /// Levels of a row that is a book.
    sides: [Vec<LevelDigits>; 2],
    staged: Staged,
    report: Report,
}

impl<R: Read> Tardis<R> {
    /// Begins to read a file of this venue's, as its column `exchange` names it: plain, or gzip or zstd by its first bytes.
    pub fn open(venue: &str, name: impl Into<String>, file: R) -> Self {
        Self {
            lines: Lines::new(file, LINE_LEN_MAX),
            venue: venue.to_owned(),
            table: None,
            cells: Vec::new(),
            group: Group::default(),
            in_snapshot: HashSet::new(),
            symbol: String::new(),
            scratch: Scratch::default(),
            sides: [Vec::new(), Vec::new()],
            staged: Staged::default(),
            report: Report::new(name.into(), Format::Tardis, venue, &[]),
        }
    }

    /// The next record; `None` at the end of the rows, whole or cut.
    ///
    /// # Errors
    ///
    /// The reader's. Damage in the file is no error; it is in the report.
    pub fn advance(&mut self) -> Result<Option<Parsed<'_>>, ReadError> {
        while self.staged.is_drained() {
            self.staged.clear();
            let step = self
                .lines
                .advance()
                .map_err(|source| ReadError::new(&self.report.name, self.lines.file_offset(), source))?;
            match step {
                Step::Line => {
                    self.report.lines += 1;
                    self.take_line();
                }
                Step::TooLong => {
                    self.report.lines += 1;
                    let why = Flaw::TooLong { most: self.lines.line_len_max() };
                    self.report.count_malformed(self.lines.number(), self.lines.offset(), why);
                }
                Step::End if !self.group.is_empty() => self.end_group(),
                Step::End => {
                    self.report.close(&self.lines);
                    return Ok(None);
                }
            }
        }
        self.report.records += 1;
        Ok(self.staged.give())
    }

    fn take_line(&mut self) {
        if let Err(why) = self.take_row() {
            self.report.count_malformed(self.lines.number(), self.lines.offset(), why);
        }
    }

    fn take_row(&mut self) -> Result<(), Flaw> {
        let line = self.lines.line();
        let text = core::str::from_utf8(line).map_err(|error| Flaw::NotUtf8 { at: error.valid_up_to() })?;
        if text.is_empty() {
            return Err(Flaw::Empty);
        }
        // Files that were put behind one another have a header each.
        if self.table.is_none() || text.starts_with(EVERY_ROW[0]) {
            let table = Table::of(text, &self.report.name).ok_or(Flaw::NoHeader)?;
            self.report.count_kind("(header)", 1);
            self.table = Some(table);
            return Ok(());
        }
        let Some(table) = &self.table else { return Err(Flaw::NoHeader) };
        let row = Row::read(text, self.lines.number(), table, &mut self.cells, &self.venue)?;
        let reason = match table.kind {
            Kind::Updates => {
                let [is_snapshot, side, price, amount] = table.own.map(|at| row.cell(at));
                let is_snapshot = match is_snapshot {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Flaw::Absurd { field: "is_snapshot" }),
                };
                let is_bid = match side {
                    "bid" => true,
                    "ask" => false,
                    _ => return Err(Flaw::Absurd { field: "side" }),
                };
                match number(price).and_then(|price| Ok((price, positive(amount)?))) {
                    Ok(level) => {
                        if self.group.is_empty() || !self.group.takes(&row, is_snapshot) {
                            stage(&mut self.group, &mut self.scratch, &mut self.staged);
                            let Group { symbol, .. } = &mut self.group;
                            if symbol != row.symbol {
                                row.symbol.clone_into(symbol);
                            }
                            let ran = if is_snapshot {
                                !self.in_snapshot.insert(row.symbol.to_owned())
                            } else {
                                self.in_snapshot.remove(row.symbol)
                            };
                            self.group.replaces = is_snapshot && !ran;
                            self.group.is_snapshot = is_snapshot;
                            (self.group.exchange_ns, self.group.ingest_ns) = (row.exchange_ns, row.ingest_ns);
                            self.group.line = row.line;
                        }
                        if is_bid {
                            self.group.bids.push(level)
                        } else {
                            self.group.asks.push(level)
                        }
                        None
                    }
                    Err(Bad::Unfit) => Some(OpaqueReason::NotRepresentable),
                    Err(_) => {
                        return Err(Flaw::Absurd { field: if number(price).is_err() { "price" } else { "amount" } });
                    }
                }
            }
            Kind::Trades => {
                let [id, side, price, amount] = table.own.map(|at| row.cell(at));
                match (number(price), positive(amount)) {
                    (Err(Bad::Absurd | Bad::Shape), _) => return Err(Flaw::Absurd { field: "price" }),
                    (_, Err(Bad::Absurd | Bad::Shape)) => return Err(Flaw::Absurd { field: "amount" }),
                    (Ok(price), Ok(qty)) if id.len() <= ID_LEN_MAX => {
                        let head = row.head(Scale::fixed(price.1), Scale::fixed(qty.1));
                        self.staged.push(&trade(head, id, side, [price.0, qty.0], row.symbol), row.line);
                        None
                    }
                    _ => Some(OpaqueReason::NotRepresentable),
                }
            }
            Kind::Quotes => {
                let [bid_price, bid_amount, ask_price, ask_amount] = table.own;
                match (row.level([bid_price, bid_amount]), row.level([ask_price, ask_amount])) {
                    (Err(Bad::Absurd | Bad::Shape), _) | (_, Err(Bad::Absurd | Bad::Shape)) => {
                        return Err(Flaw::Absurd { field: "quote" });
                    }
                    (Ok(bid), Ok(ask)) => {
                        // A side that is not there has neither a price nor an amount.
                        let levels = [bid, ask].map(Option::unwrap_or_default);
                        match self.scratch.settle(&levels[..1], &levels[1..]) {
                            Some((price, qty, [bid], [ask])) => {
                                let quote = Record::Quote(Quote {
                                    head: row.head(price, qty),
                                    update_id: 0,
                                    bid_price: bid.price(),
                                    bid_qty: bid.qty(),
                                    ask_price: ask.price(),
                                    ask_qty: ask.qty(),
                                    symbol: row.symbol,
                                });
                                self.staged.push(&quote, row.line);
                                None
                            }
                            _ => Some(OpaqueReason::NotRepresentable),
                        }
                    }
                    _ => Some(OpaqueReason::NotRepresentable),
                }
            }
            Kind::Snapshots => {
                let mut unfit = false;
                for (levels, columns) in self.sides.iter_mut().zip(&table.sides) {
                    levels.clear();
                    for at in columns {
                        match row.level(*at) {
                            Ok(level) => levels.extend(level),
                            Err(Bad::Unfit) => unfit = true,
                            Err(_) => return Err(Flaw::Absurd { field: "level" }),
                        }
                    }
                }
                let [bids, asks] = &self.sides;
                match self.scratch.settle(bids, asks).filter(|_| !unfit) {
                    Some((price, qty, bids, asks)) => {
                        let book = snapshot(row.head(price, qty), row.symbol, bids, asks);
                        self.staged.push(&book, row.line);
                        None
                    }
                    None => Some(OpaqueReason::NotRepresentable),
                }
            }
            Kind::Other => Some(OpaqueReason::UnknownKind),
        };
        if let Some(reason) = reason {
            // What came before it stays before it.
            stage(&mut self.group, &mut self.scratch, &mut self.staged);
            let record = row.verbatim(reason);
            self.staged.push(&record, row.line);
            self.report.count_opaque(reason);
            if reason != OpaqueReason::UnknownKind && matches!(table.kind, Kind::Updates | Kind::Snapshots) {
                self.staged.push(&broken(record), row.line);
                self.report.broken_books += 1;
            }
        }
        if self.symbol != row.symbol {
            row.symbol.clone_into(&mut self.symbol);
            self.report.see_symbol(row.symbol);
        }
        self.report.see_ingest(row.ingest_ns);
        self.report.count_kind(&table.word, 1);
        Ok(())
    }

    fn end_group(&mut self) {
        stage(&mut self.group, &mut self.scratch, &mut self.staged);
    }

    /// What was found so far; complete, with [`Report::sha256`], once [`Tardis::advance`] has returned `None`.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The report without a copy.
    #[must_use]
    pub fn into_report(self) -> Report {
        self.report
    }
}

/// The rows of a message become a record.
fn stage(group: &mut Group, scratch: &mut Scratch, staged: &mut Staged) {
    if group.is_empty() {
        return;
    }
    let Group { symbol, exchange_ns, ingest_ns, line, replaces, bids, asks, .. } = group;
    let head = |price, qty| Head { exchange_ns: *exchange_ns, ingest_ns: *ingest_ns, transact_ns: 0, price, qty };
    if let Some((price, qty, bids, asks)) = scratch.settle(bids, asks) {
        staged.push(&change(*replaces, head(price, qty), symbol, bids, asks), *line);
    } else {
        // No one scale holds them all, but each has its own.
        let alone = bids.iter().map(|level| (level, true)).chain(asks.iter().map(|level| (level, false)));
        for (level, is_bid) in alone {
            let level = core::slice::from_ref(level);
            let (bids, asks) = if is_bid { (level, &[][..]) } else { (&[][..], level) };
            if let Some((price, qty, bids, asks)) = scratch.settle(bids, asks) {
                staged.push(&change(core::mem::take(replaces), head(price, qty), symbol, bids, asks), *line);
            }
        }
    }
    bids.clear();
    asks.clear();
}

/// A trade; the side is the taker's.
fn trade<'a>(head: Head, id: &'a str, side: &str, [price, qty]: [i64; 2], symbol: &'a str) -> Record<'a> {
    let side = match side {
        "buy" => Some(Side::Bid),
        "sell" => Some(Side::Ask),
        _ => None,
    };
    match (natural(id), side) {
        (Some(trade_id), Some(side)) if trade_id != 0 => Record::Trade(Trade {
            head,
            trade_id,
            price,
            qty,
            buyer_is_maker: side == Side::Ask,
            order_type: None,
            legacy_m: None,
            symbol,
        }),
        _ => Record::TextTrade(TextTrade {
            head,
            id,
            price,
            qty,
            side,
            sequence: 0,
            flags: RecordFlags::default(),
            symbol,
        }),
    }
}

fn change<'a>(replaces: bool, head: Head, symbol: &'a str, bids: &'a [Level], asks: &'a [Level]) -> Record<'a> {
    if replaces {
        snapshot(head, symbol, bids, asks)
    } else {
        Record::BookDelta(BookDelta { head, first_id: 0, last_id: 0, prev_id: None, bids, asks, symbol })
    }
}

fn snapshot<'a>(head: Head, symbol: &'a str, bids: &'a [Level], asks: &'a [Level]) -> Record<'a> {
    Record::BookSnapshot(BookSnapshot {
        head,
        last_id: 0,
        last_event_ns: 0,
        source: SnapshotSource::Venue,
        opens_partition: false,
        bids,
        asks,
        symbol,
    })
}
