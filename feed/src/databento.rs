//! Databento's binary encoding (DBN), versions 1 to 3: metadata, then records of fixed layouts, decoded by the `dbn` crate.
//!
//! ```text
//! mbo              order event
//! mbp-1, tbbo      quote; with action T the trade before it
//! mbp-10           counted snapshot of up to 10 levels a side; with action T the trade before it
//! trades           text trade, without an id
//! anything else    opaque: definition, status, statistics, imbalance, ohlcv, bbo, symbol mapping, system, error
//! ```
//!
//! **Times.** `exchange_ns` is `ts_event`, `ingest_ns` is `ts_recv`, `transact_ns` is when the venue sent it: `ts_recv` less
//! `ts_in_delta`. A record without `ts_recv` has that of the one before it.
//!
//! **Numbers.** Prices are integers of 1e-9 and are kept as such, written without trailing zeros; an undefined one is a side
//! that is not there: price 0, quantity 0. Sizes are whole numbers.
//!
//! **Ids.** `sequence` is the venue's number of the message: the id of quotes and books, and kept of trades and orders.
//! Trades have no id of their own, and several may share one message, so nothing tells a repeated one: of one window import
//! its trades or its mbp-1, not both.
//!
//! **Symbols** are those of the metadata's mappings on the day of `ts_recv`; without one the instrument's id as text, counted.
//! The venue is the dataset: `GLBX.MDP3` is `glbx-mdp3`. Not kept of mbp-1 and mbp-10: which event changed the book (action,
//! side, depth, flags), as the levels say what it is after it; of mbp-1 the counts of orders. A dataset of several publishers
//! with the same symbol is one stream here: import each publisher's records into a root of its own.
//!
//! **Hostile bytes.** The crate trusts that records are aligned and that the metadata's length is meant; both are checked
//! here before it sees a byte. What is no record ends the file, because nothing says where the next one begins.

use core::fmt::Write as _;
use std::collections::HashMap;
use std::io::Read;

use chronicle_protocol::layout::OrderCount;
use chronicle_protocol::{
    BookSnapshot, CountedSnapshot, Head, Level, Opaque, OpaqueReason, OrderAction, OrderEvent, Quote, Record,
    RecordFlags, Scale, Side, SnapshotSource, TextTrade,
};
use dbn::decode::dbn::fsm::{DbnFsm, ProcessResult};
use dbn::{
    BidAskPair, HasRType, MboMsg, Mbp1Msg, Mbp10Msg, Metadata, RType, RecordHeader, RecordRef, SType, TradeMsg,
    UNDEF_PRICE, UNDEF_TIMESTAMP, VersionUpgradePolicy,
};

use crate::fields::SYMBOL_LEN_MAX;
use crate::format::Format;
use crate::import::{Parsed, ReadError, broken};
use crate::report::Report;
use crate::staged::Staged;
use crate::text::{Cut, Ending};
use crate::unpack::{Stop, Unpacked};

const MAGIC: &[u8] = b"DBN";
/// Magic, version and the metadata's length.
const PRELUDE_LEN: usize = 8;
/// Where in the file the dataset's name is, padded with zeros.
const DATASET: core::ops::Range<usize> = 8..24;
/// The newest version that is read.
const VERSION_MAX: u8 = 3;
/// Metadata longer than this cannot be meant: a mapping of every option there is takes some tens of MiB.
const METADATA_LEN_MAX: usize = 256 << 20;
const HEADER_LEN: usize = size_of::<RecordHeader>();
/// Records begin at multiples of this: their layouts have 8-byte integers.
const ALIGN: usize = 8;
/// How much is asked of the reader at once.
const CHUNK: usize = 64 << 10;
const S_PER_DAY: i64 = 86_400;
const NS_PER_DAY: i64 = S_PER_DAY * 1_000_000_000;
/// The Julian day of 1970-01-01.
const JULIAN_1970: i64 = 2_440_588;

const PRICE: Scale = Scale::trimmed(9);
const SIZE: Scale = Scale::fixed(0);

/// Whether these bytes begin as DBN does.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    // A text may begin with the letters, but not go on with such a number.
    bytes.starts_with(MAGIC) && bytes.get(3).is_some_and(|version| (1..=9).contains(version))
}

/// The dataset as a venue's name.
pub(crate) fn venue_of(bytes: &[u8]) -> Option<String> {
    let dataset = bytes.get(DATASET).filter(|_| begins(bytes))?;
    let len = dataset.iter().position(|byte| *byte == 0).unwrap_or(dataset.len());
    let dataset = core::str::from_utf8(&dataset[..len]).ok().filter(|name| !name.is_empty())?;
    Some(dataset.to_ascii_lowercase().replace('.', "-"))
}

/// Which instrument had which symbol when.
#[derive(Debug, Default)]
struct Symbols {
    /// By instrument: first ns, ns behind the last, symbol; by the first.
    of: HashMap<u32, Vec<(u64, u64, String)>>,
    /// The text of an instrument that has none.
    number: String,
}

impl Symbols {
    fn of(metadata: &Metadata) -> Self {
        let mut of: HashMap<u32, Vec<(u64, u64, String)>> = HashMap::new();
        let ids_in = metadata.stype_in == Some(SType::InstrumentId);
        let ids_out = metadata.stype_out == SType::InstrumentId;
        for mapping in metadata.mappings.iter().filter(|_| ids_in || ids_out) {
            for interval in &mapping.intervals {
                let (id, symbol) = if ids_out {
                    (&interval.symbol, &mapping.raw_symbol)
                } else {
                    (&mapping.raw_symbol, &interval.symbol)
                };
                let Ok(id) = id.parse() else { continue };
                if symbol.is_empty() || symbol.len() > SYMBOL_LEN_MAX {
                    continue;
                }
                let ns = |date: i32| (i64::from(date) - JULIAN_1970).saturating_mul(NS_PER_DAY).max(0) as u64;
                let (from, to) = (ns(interval.start_date.to_julian_day()), ns(interval.end_date.to_julian_day()));
                of.entry(id).or_default().push((from, to, symbol.clone()));
            }
        }
        of.values_mut().for_each(|intervals| intervals.sort());
        Self { of, number: String::new() }
    }

    /// The symbol on that day, and whether it is one; else the instrument's id.
    fn at(&mut self, instrument: u32, ns: u64) -> (&str, bool) {
        if let Some(intervals) = self.of.get(&instrument) {
            let behind = intervals.partition_point(|(from, ..)| *from <= ns);
            let last = behind.checked_sub(1).map(|at| &intervals[at]);
            if let Some((.., symbol)) = last.filter(|(_, to, _)| ns < *to) {
                return (symbol, true);
            }
        }
        self.number.clear();
        // A text takes any digits.
        let _ = write!(self.number, "{instrument}");
        (&self.number, false)
    }
}

/// What the market-data records have in common.
#[derive(Clone, Copy, Debug)]
struct Common {
    price: i64,
    size: u32,
    action: u8,
    side: u8,
    flags: u8,
    ts_recv: u64,
    ts_in_delta: i32,
    sequence: u32,
}

/// All of one layout; each is another type.
macro_rules! common {
    ($record:expr) => {
        Common {
            price: $record.price,
            size: $record.size,
            action: $record.action as u8,
            side: $record.side as u8,
            flags: $record.flags.raw(),
            ts_recv: $record.ts_recv,
            ts_in_delta: $record.ts_in_delta,
            sequence: $record.sequence,
        }
    };
}

/// A file of Databento's being read.
///
/// ```no_run
/// use chronicle_feed::databento::Databento;
///
/// let file = std::fs::File::open("esu4.mbp-1.dbn.zst")?;
/// let mut records = Databento::open("glbx-mdp3", "esu4.mbp-1.dbn.zst", file);
/// while let Some(parsed) = records.advance()? {
///     println!("{} {}", parsed.ingest_ns, parsed.payload.len());
/// }
/// println!("{:?}", records.report().by_kind);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Databento<R> {
    unpacked: Unpacked<R>,
    fsm: DbnFsm,
    /// The metadata is read.
    begun: bool,
    ended: bool,
    /// Bytes of the records and metadata before the next record.
    offset: u64,
    symbols: Symbols,
    /// Receive time of the last record that had one.
    ingest_ns: u64,
    /// The last symbol that the report saw.
    symbol: String,
    levels: Vec<Level>,
    counts: Vec<OrderCount>,
    staged: Staged,
    report: Report,
}

impl<R: Read> Databento<R> {
    /// Begins to read a file of this venue's: plain, or gzip or zstd by its first bytes.
    ///
    /// # Panics
    ///
    /// Never: the decoder's options are constants that it takes.
    pub fn open(venue: &str, name: impl Into<String>, file: R) -> Self {
        // Records as they are: all that is read has the same layout in each version, and what is kept verbatim must be.
        let fsm = DbnFsm::builder().upgrade_policy(VersionUpgradePolicy::AsIs).build();
        Self {
            unpacked: Unpacked::new(file),
            fsm: fsm.expect("bug: the decoder refuses its own options"),
            begun: false,
            ended: false,
            offset: 0,
            symbols: Symbols::default(),
            ingest_ns: 0,
            symbol: String::new(),
            levels: Vec::new(),
            counts: Vec::new(),
            staged: Staged::default(),
            report: Report::new(name.into(), Format::Dbn, venue, &[]),
        }
    }

    /// The next record; `None` at the end of the file, whole or cut.
    ///
    /// # Errors
    ///
    /// The reader's. Damage in the file is no error; it is in the report.
    pub fn advance(&mut self) -> Result<Option<Parsed<'_>>, ReadError> {
        while self.staged.is_drained() {
            self.staged.clear();
            if self.ended {
                return Ok(None);
            }
            let read = if self.begun { self.step() } else { self.begin() };
            read.map_err(|source| ReadError::new(&self.report.name, self.unpacked.file_offset(), source))?;
        }
        self.report.records += 1;
        Ok(self.staged.give())
    }

    /// Reads the metadata; all of it is there before the decoder is given any, so that it makes no room for what is not.
    fn begin(&mut self) -> std::io::Result<()> {
        self.begun = true;
        let mut bytes = Vec::new();
        if !self.read_up_to(&mut bytes, PRELUDE_LEN)? {
            return self.end(bytes.len(), None);
        }
        let Ok(prelude) = <[u8; PRELUDE_LEN]>::try_from(&bytes[..]) else { unreachable!("bug: so many were read") };
        let [_, _, _, version, length @ ..] = prelude;
        let length = u32::from_le_bytes(length) as usize;
        if !prelude.starts_with(MAGIC) {
            return self.end(bytes.len(), Some("it does not begin with DBN".to_owned()));
        }
        if !(1..=VERSION_MAX).contains(&version) {
            return self.end(bytes.len(), Some(format!("DBN of version {version}: 1 to {VERSION_MAX} are read here")));
        }
        if length > METADATA_LEN_MAX {
            let why = format!("metadata of {length} bytes: it may have {METADATA_LEN_MAX}");
            return self.end(bytes.len(), Some(why));
        }
        if !self.read_up_to(&mut bytes, PRELUDE_LEN + length)? {
            return self.end(bytes.len(), None);
        }
        self.fsm.write_all(&bytes);
        match self.fsm.process() {
            ProcessResult::Metadata(metadata) => {
                self.symbols = Symbols::of(&metadata);
                self.offset = bytes.len() as u64;
                Ok(())
            }
            ProcessResult::Err(error) => self.end(bytes.len(), Some(format!("metadata: {error}"))),
            ProcessResult::ReadMore(_) | ProcessResult::Record(()) => {
                self.end(bytes.len(), Some("metadata: its length is not its own".to_owned()))
            }
        }
    }

    /// Fills `bytes` up to this length; false if the file ends before.
    fn read_up_to(&mut self, bytes: &mut Vec<u8>, len: usize) -> std::io::Result<bool> {
        while bytes.len() < len {
            let from = bytes.len();
            // As it comes: a length is a stranger's word.
            bytes.resize(len.min(from + CHUNK), 0);
            let read = self.unpacked.read(&mut bytes[from..])?;
            bytes.truncate(from + read);
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a record, or reads on.
    fn step(&mut self) -> std::io::Result<()> {
        let data = self.fsm.data();
        let len = data.first().map_or(HEADER_LEN, |words| usize::from(*words) * RecordHeader::LENGTH_MULTIPLIER);
        if len < HEADER_LEN || !len.is_multiple_of(ALIGN) {
            let why = format!("record of {len} bytes: one has at least {HEADER_LEN}, in steps of {ALIGN}");
            return self.end(data.len(), Some(why));
        }
        if data.len() < len {
            let there = data.len();
            let read = self.unpacked.read(self.fsm.space())?;
            self.fsm.fill(read);
            return if read == 0 { self.end(there, None) } else { Ok(()) };
        }
        match self.fsm.process() {
            ProcessResult::Record(()) => {}
            ProcessResult::Err(error) => return self.end(len, Some(error.to_string())),
            ProcessResult::ReadMore(_) | ProcessResult::Metadata(_) => {
                return self.end(len, Some("a record that the decoder does not see".to_owned()));
            }
        }
        self.offset += len as u64;
        self.report.lines += 1;
        self.take();
        Ok(())
    }

    /// The record that the decoder stands at.
    fn take(&mut self) {
        let Self { fsm, symbols, ingest_ns, symbol: seen, levels, counts, staged, report, .. } = self;
        let Some(record) = fsm.last_record() else { return };
        let header = record.header();
        let line = report.lines;
        let (kind, common) = if let Some(record) = of::<TradeMsg>(&record) {
            ("trades", Some(common!(record)))
        } else if let Some(record) = of::<Mbp1Msg>(&record) {
            ("mbp-1", Some(common!(record)))
        } else if let Some(record) = of::<Mbp10Msg>(&record) {
            ("mbp-10", Some(common!(record)))
        } else if let Some(record) = of::<MboMsg>(&record) {
            ("mbo", Some(common!(record)))
        } else {
            (kind(header.rtype), None)
        };
        let ts_recv = match common {
            Some(common) => Some(common.ts_recv),
            // Those that have one have it first.
            None => record
                .as_ref()
                .get(HEADER_LEN..HEADER_LEN + 8)
                .filter(|_| begins_with_ts_recv(header.rtype))
                .map(|bytes| bytes.iter().rev().fold(0, |ns, byte| ns << 8 | u64::from(*byte))),
        };
        if let Some(ts_recv) = ts_recv.filter(|ns| *ns != UNDEF_TIMESTAMP) {
            *ingest_ns = ts_recv;
        }
        let known = |ns: u64| if ns == UNDEF_TIMESTAMP { 0 } else { ns };
        let (symbol, is_mapped) = symbols.at(header.instrument_id, *ingest_ns);
        let head = Head { exchange_ns: known(header.ts_event), ingest_ns: *ingest_ns, ..Head::default() };
        report.count_kind(kind, KINDS);
        report.see_ingest(*ingest_ns);
        report.unmapped += u64::from(!is_mapped);
        if seen != symbol {
            report.see_symbol(symbol);
            symbol.clone_into(seen);
        }
        let verbatim = |reason| Record::Opaque(Opaque { head, reason, symbol, bytes: record.as_ref() });
        let Some(common) = common else {
            report.count_opaque(OpaqueReason::UnknownKind);
            return staged.push(&verbatim(OpaqueReason::UnknownKind), line);
        };
        let sent = i128::from(*ingest_ns) - i128::from(common.ts_in_delta);
        let head = Head { transact_ns: u64::try_from(sent).unwrap_or(0), price: PRICE, qty: SIZE, ..head };
        let side = match common.side {
            b'B' => Some(Side::Bid),
            b'A' => Some(Side::Ask),
            _ => None,
        };
        let (qty, sequence, flags) = (common.size.into(), common.sequence.into(), RecordFlags(common.flags));
        if let Some(record) = of::<MboMsg>(&record) {
            let event = action(common.action).map(|action| {
                Record::OrderEvent(OrderEvent {
                    head,
                    action,
                    side,
                    order_id: record.order_id,
                    price: (common.price != UNDEF_PRICE).then_some(common.price),
                    qty,
                    sequence,
                    flags,
                    channel: record.channel_id,
                    symbol,
                })
            });
            let event = event.unwrap_or_else(|| {
                // The orders are not the venue's without it.
                report.count_opaque(OpaqueReason::NotRepresentable);
                report.broken_books += 1;
                verbatim(OpaqueReason::NotRepresentable)
            });
            staged.push(&event, line);
            if let Record::Opaque(_) = event {
                staged.push(&broken(event), line);
            }
            return;
        }
        if common.action == b'T' && common.price != UNDEF_PRICE {
            let price = common.price;
            let trade = TextTrade { head, id: "", price, qty, side, sequence, flags, symbol };
            staged.push(&Record::TextTrade(trade), line);
        }
        if let Some(record) = of::<Mbp1Msg>(&record) {
            let BidAskPair { bid_px, bid_sz, ask_px, ask_sz, .. } = record.levels[0];
            let side = |price, size: u32| if price == UNDEF_PRICE { (0, 0) } else { (price, i64::from(size)) };
            let ((bid_price, bid_qty), (ask_price, ask_qty)) = (side(bid_px, bid_sz), side(ask_px, ask_sz));
            let update_id = sequence;
            let quote = Quote { head, update_id, bid_price, bid_qty, ask_price, ask_qty, symbol };
            staged.push(&Record::Quote(quote), line);
        } else if let Some(record) = of::<Mbp10Msg>(&record) {
            let bids = record.levels.iter().map(|level| (level.bid_px, level.bid_sz, level.bid_ct));
            let asks = record.levels.iter().map(|level| (level.ask_px, level.ask_sz, level.ask_ct));
            levels.clear();
            counts.clear();
            let mut bid_count = 0;
            for (at, (price, size, count)) in bids.chain(asks).enumerate() {
                if price != UNDEF_PRICE {
                    bid_count += usize::from(at < record.levels.len());
                    levels.push(Level::new(price, size.into()));
                    counts.push(OrderCount::new(count));
                }
            }
            let (bids, asks) = levels.split_at(bid_count);
            let (bid_counts, ask_counts) = counts.split_at(bid_count);
            let book = BookSnapshot {
                head,
                last_id: sequence,
                last_event_ns: 0,
                source: SnapshotSource::Venue,
                opens_partition: false,
                bids,
                asks,
                symbol,
            };
            staged.push(&Record::CountedSnapshot(CountedSnapshot { book, bid_counts, ask_counts }), line);
        } else if common.action != b'T' || common.price == UNDEF_PRICE {
            // A trade that is none.
            report.count_opaque(OpaqueReason::NotRepresentable);
            staged.push(&verbatim(OpaqueReason::NotRepresentable), line);
        }
    }

    /// There is nothing more, `partial_len` bytes of what would have come next apart.
    fn end(&mut self, partial_len: usize, damage: Option<String>) -> std::io::Result<()> {
        self.ended = true;
        let partial_len = partial_len as u64;
        let stop = match (damage, self.unpacked.stop()) {
            (Some(why), _) => Stop::Corrupt(why),
            (None, Some(Stop::Whole)) if partial_len == 0 && self.offset > 0 => Stop::Whole,
            (None, Some(Stop::Whole) | None) => Stop::Truncated,
            (None, Some(stop)) => stop.clone(),
        };
        let (compressed_offset, line) = (self.unpacked.consumed(), self.report.lines + 1);
        let text_offset = self.offset + partial_len;
        let ending = Ending::of(stop, |why| Cut { compressed_offset, text_offset, line, partial_len, why });
        self.unpacked.read_all()?;
        self.report.end(Some(&ending), self.unpacked.sha256(), self.unpacked.file_offset());
        Ok(())
    }

    /// What was found so far; complete, with [`Report::sha256`], once [`Databento::advance`] has returned `None`.
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

/// The record, if it is one of these and is long enough for it.
fn of<'a, T: HasRType<Header = RecordHeader>>(record: &RecordRef<'a>) -> Option<&'a T> {
    if record.has::<T>() && record.header().record_size() >= size_of::<T>() { record.get::<T>() } else { None }
}

/// What a letter of theirs says.
fn action(letter: u8) -> Option<OrderAction> {
    Some(match letter {
        b'A' => OrderAction::Add,
        b'M' => OrderAction::Modify,
        b'C' => OrderAction::Cancel,
        b'R' => OrderAction::Clear,
        b'T' => OrderAction::Trade,
        b'F' => OrderAction::Fill,
        b'N' => OrderAction::None,
        _ => return None,
    })
}

/// Kinds that are counted by name.
const KINDS: usize = 32;

/// Databento's word for what is kept verbatim.
fn kind(rtype: u8) -> &'static str {
    match RType::try_from(rtype) {
        Ok(RType::InstrumentDef) => "definition",
        Ok(rtype) => rtype.as_str(),
        Err(_) => "unknown",
    }
}

fn begins_with_ts_recv(rtype: u8) -> bool {
    let of = |rtype| matches!(rtype, RType::InstrumentDef | RType::Status | RType::Statistics | RType::Imbalance);
    RType::try_from(rtype).is_ok_and(of)
}
