//! Recorded files into records, one line at a time.
//!
//! [`Recording`] reads any `Read` and gives out one record after another; [`import`] pushes them into a sink; [`check`]
//! only reports. The rules are the same for all venues:
//!
//! ```text
//! a good line                  its records, at least one, in the order of the lines
//! a line of the recorder       none; counted as `(connected)`, `(sent)` or `(empty)`
//! a line that is no message    none; counted and listed with line, offset and reason
//! the gzip is cut              all whole lines before the cut, then the end; the partial line is not a line
//! a message without a symbol   belongs to the file's only symbol, see below
//! ```
//!
//! **Books that can be checked are.** Where the venue sends checksums, each symbol's book is followed beside the records
//! ([`witness`](crate::witness)) and compared; the report counts what was sent, checked and matched. Behind a record after
//! which the book is not what the venue has stands a gap record of the cause `book_lost`, so that nobody who makes books of
//! these records takes a wrong one for right.
//!
//! Two layouts of such recordings are known, and each line says itself which it has: `<ns> <json>`, and cryptofeed's captures
//! with `<s>: <json>`, lines that say when the recorder connected and what it sent, and answers to requests behind their
//! url.
//!
//! **Whose is a message that names no symbol?** A REST snapshot of spot or USD-M has none. If its request is told, it
//! belongs to the symbol in that. Else it belongs to the only symbol
//! that the file has named *before* it. If the file has named none yet, it waits for the next message that names one, and
//! everything without a symbol behind it waits too, so that the order stays; if too much waits, or the file ends, there
//! is no symbol. If the file has named more than one, there is none either. A snapshot without a symbol is kept verbatim
//! with the reason `no_symbol`; it cannot be part of a book.
//!
//! To import nothing unless all is well, read twice: [`check`] first, and only if [`Report::is_clean`] says so read again
//! and compare [`Report::sha256`], because a file can change in between. What cannot be read twice must be kept
//! somewhere first; that is the caller's, who knows where.
//!
//! What this module never does: it opens no file, reads no clock, sleeps never, stores nothing, and never reorders.

use core::fmt;
use core::ops::Range;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};

use chronicle_protocol::{Gap, GapCause, Head, Opaque, OpaqueReason, Record};

use crate::flaw::Flaw;
use crate::format::Format;
use crate::line::{Line, Own};
use crate::report::{Report, SYMBOLS_MAX};
use crate::text::{Lines, Step};
use crate::venue::{Item, Scratch, Venue};
use crate::witness::{Answer, Witness};

/// A line may have so many bytes unless [`Recording::with_line_len_max`] says otherwise. A level takes at least 10 bytes
/// of text (`["1","2"],`) and 16 in a record, so the payload of such a line has less than 27 MiB: it fits in any
/// segment from 32 MiB on.
pub const LINE_LEN_MAX: usize = 16 * 1024 * 1024;

/// Messages without a symbol that wait for one.
const WAITING_COUNT_MAX: usize = 1024;
/// And their text.
const WAITING_LEN_MAX: usize = 2 * LINE_LEN_MAX;

/// A record that came out of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Which record the payload is.
    pub type_id: u16,
    /// The recording's own receive time: the raw frame's `time_ns`.
    pub ingest_ns: u64,
    /// The record's bytes, see [`Record::parse`].
    pub payload: &'a [u8],
    /// The line, or the first of those, that it was, counted from 1; of a binary file the record.
    pub line: u64,
}

/// The file could not be read to its end.
#[derive(Debug)]
pub struct ReadError {
    name: String,
    offset: u64,
    source: io::Error,
}

impl ReadError {
    pub(crate) fn new(name: &str, offset: u64, source: io::Error) -> Self {
        Self { name: name.to_owned(), offset, source }
    }

    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Bytes of the file that were read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot be read on at byte {}", self.name, self.offset)
    }
}

impl core::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why [`import`] stopped before the end.
#[derive(Debug)]
pub enum ImportError<E> {
    /// The file could not be read on.
    Read(ReadError),
    /// The sink took no more.
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for ImportError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for ImportError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(error) => error.source(),
            Self::Sink(error) => error.source(),
        }
    }
}

/// The symbols that a file has named so far.
#[derive(Debug)]
enum Named {
    None,
    One(String),
    Several,
}

/// A message without a symbol, waiting for one.
#[derive(Debug)]
struct Waiting {
    line: u64,
    text: String,
}

/// A recorded file being read.
///
/// ```
/// use chronicle_feed::{Recording, Venue};
/// use chronicle_protocol::Record;
///
/// let file = br#"1723161254340863867 {"stream":"ethusdt@trade","data":{"e":"trade","E":1723161255612,"s":"ETHUSDT","t":1520538925,"p":"2683.80000000","q":"0.00200000","T":1723161255611,"m":true,"M":true}}
/// 1723161254340864567 {"stream":"ethusdt@trade","data":{"e":"tr
/// "#;
/// let mut recording = Recording::open(Venue::BinanceSpot, "two-lines", &file[..]);
/// while let Some(parsed) = recording.advance()? {
///     let Ok(Record::Trade(trade)) = Record::parse(parsed.type_id, parsed.payload) else { panic!() };
///     assert_eq!(trade.head.price.decimal(trade.price).to_string(), "2683.80000000");
/// }
/// let report = recording.report();
/// assert_eq!((report.lines, report.by_kind["trade"], report.malformed), (2, 1, 1));
/// assert_eq!(report.malformed_lines[0].line, 2);
/// # Ok::<(), chronicle_feed::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Recording<R> {
    venue: Venue,
    lines: Lines<R>,
    scratch: Scratch,
    payload: Vec<u8>,
    named: Named,
    /// Snapshots given the only symbol so far.
    guessed_snapshots: u64,
    waiting: VecDeque<Waiting>,
    waiting_len: usize,
    /// What waits has its answer and goes out before anything else.
    releasing: bool,
    /// The line that `lines` stands at goes out after those that waited.
    held: bool,
    current: Option<Current>,
    /// The books, where the venue says something to check them by.
    witnesses: HashMap<String, Witness>,
    /// A line was laid out as cryptofeed does, which ends files with an empty one.
    cryptofeed: bool,
    report: Report,
}

/// A message that was understood and is given out, record by record; its parts are in the scratch.
#[derive(Debug)]
struct Current {
    line: u64,
    /// Its line, if it waited; else the one that `lines` stands at.
    kept: Option<String>,
    /// Where in the line its text is.
    text: Range<usize>,
    /// Where in the line the symbol is that its request named.
    symbol: Range<usize>,
    /// Parts that are given out.
    given: usize,
    /// The last one showed that its book is wrong: that is said before anything else.
    gap: bool,
}

/// A record in the payload buffer.
#[derive(Clone, Copy)]
struct Given {
    type_id: u16,
    ingest_ns: u64,
    len: usize,
    line: u64,
}

impl<R: Read> Recording<R> {
    /// Begins to read a recording of `venue`: lines, plain, or gzip or zstd by their first bytes. `name` is for the report.
    pub fn open(venue: Venue, name: impl Into<String>, file: R) -> Self {
        let format = if venue == Venue::Hyperliquid { Format::Hyperliquid } else { Format::Binance };
        Self {
            venue,
            lines: Lines::new(file, LINE_LEN_MAX),
            scratch: Scratch::default(),
            payload: Vec::new(),
            named: Named::None,
            guessed_snapshots: 0,
            waiting: VecDeque::new(),
            waiting_len: 0,
            releasing: false,
            held: false,
            current: None,
            witnesses: HashMap::new(),
            cryptofeed: false,
            report: Report::new(name.into(), format, venue.name(), venue.kinds()),
        }
    }

    /// Another limit than [`LINE_LEN_MAX`]; a longer line is malformed, and is never held in memory.
    #[must_use]
    pub fn with_line_len_max(mut self, line_len_max: usize) -> Self {
        self.lines.set_line_len_max(line_len_max);
        self
    }

    /// The next record; `None` at the end of the text, whole or cut.
    ///
    /// # Errors
    ///
    /// The reader's. Damage in the file is no error; it is in the report.
    pub fn advance(&mut self) -> Result<Option<Parsed<'_>>, ReadError> {
        let given = loop {
            if let Some(given) = self.give() {
                break given;
            }
            if self.releasing {
                if let Some(waiting) = self.waiting.pop_front() {
                    self.waiting_len -= waiting.text.len();
                    self.take_again(waiting);
                    continue;
                }
                self.releasing = false;
            }
            if core::mem::take(&mut self.held) {
                self.take_line(true);
                continue;
            }
            let step = self
                .lines
                .advance()
                .map_err(|source| ReadError::new(&self.report.name, self.lines.file_offset(), source))?;
            match step {
                Step::Line => {
                    self.report.lines += 1;
                    self.take_line(false);
                }
                Step::TooLong => {
                    self.report.lines += 1;
                    let why = Flaw::TooLong { most: self.lines.line_len_max() };
                    self.report.count_malformed(self.lines.number(), self.lines.offset(), why);
                }
                Step::End if !self.waiting.is_empty() => self.releasing = true,
                Step::End => {
                    self.close();
                    return Ok(None);
                }
            }
        };
        Ok(Some(Parsed {
            type_id: given.type_id,
            ingest_ns: given.ingest_ns,
            payload: &self.payload[..given.len],
            line: given.line,
        }))
    }

    /// Reads the line that `lines` stands at; `again` if it was counted already.
    fn take_line(&mut self, again: bool) {
        let (number, offset) = (self.lines.number(), self.lines.offset());
        let line = self.lines.line();
        let line = core::str::from_utf8(line).map_err(|error| Flaw::NotUtf8 { at: error.valid_up_to() });
        let read = line.and_then(|line| {
            Ok(match Line::read(line)? {
                Line::Message { received_ns, text, symbol, captured } => {
                    self.cryptofeed |= captured;
                    let at = line.len() - text.len();
                    let message = self.venue.read(text, received_ns, &mut self.scratch);
                    Some((message.map_err(|flaw| flaw.moved(at))?, received_ns, symbol, line))
                }
                Line::Own(own) => {
                    self.cryptofeed = true;
                    if own == Own::Connected {
                        self.witnesses.values_mut().for_each(Witness::lost);
                    }
                    self.report.count_kind(own.kind(), self.venue.kinds().len());
                    None
                }
            })
        });
        let (message, received_ns, symbol, line) = match read {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(Flaw::Empty) if self.cryptofeed => {
                return self.report.count_kind("(empty)", self.venue.kinds().len());
            }
            Err(why) => return self.report.count_malformed(number, offset, why),
        };
        if !again {
            self.report.count_kind(message.kind(), self.venue.kinds().len());
            self.report.see_ingest(received_ns);
        }
        let mut nameless = true;
        for item in message.items() {
            let symbol = if item.record.symbol().is_empty() { symbol } else { item.record.symbol() };
            if symbol.is_empty() {
                continue;
            }
            nameless = false;
            match &self.named {
                Named::One(one) if one == symbol => {}
                Named::Several => self.report.see_symbol(symbol),
                Named::None => {
                    self.report.see_symbol(symbol);
                    self.named = Named::One(symbol.to_owned());
                }
                Named::One(_) => {
                    self.report.see_symbol(symbol);
                    self.report.doubtful_snapshots = self.guessed_snapshots;
                    self.named = Named::Several;
                }
            }
        }
        if nameless && matches!(self.named, Named::None) {
            self.waiting_len += line.len();
            self.waiting.push_back(Waiting { line: number, text: line.to_owned() });
            self.releasing = self.waiting.len() >= WAITING_COUNT_MAX || self.waiting_len >= WAITING_LEN_MAX;
        } else if !nameless && !self.waiting.is_empty() {
            // Those that waited now have their symbol, and came first.
            (self.releasing, self.held) = (true, true);
        } else {
            let text = line.len() - message.text().len()..line.len();
            self.current =
                Some(Current { line: number, kept: None, text, symbol: place(symbol, line), given: 0, gap: false });
        }
    }

    /// A line that was understood before, now that it is settled whose it is.
    fn take_again(&mut self, Waiting { line: number, text: line }: Waiting) {
        let Ok(Line::Message { received_ns, text, symbol, .. }) = Line::read(&line) else {
            panic!("bug: line {number} was a message and is none now")
        };
        if let Err(why) = self.venue.read(text, received_ns, &mut self.scratch) {
            panic!("bug: line {number} was a message and now {why}");
        }
        let (text, symbol) = (line.len() - text.len()..line.len(), place(symbol, &line));
        self.current = Some(Current { line: number, kept: Some(line), text, symbol, given: 0, gap: false });
    }

    /// The next record of the message that is given out.
    fn give(&mut self) -> Option<Given> {
        let current = self.current.as_mut()?;
        let line = current.kept.as_ref().map_or(self.lines.line(), |line| line.as_bytes());
        let (text, symbol) = (&line[current.text.clone()], &line[current.symbol.clone()]);
        let (Ok(text), Ok(symbol)) = (core::str::from_utf8(text), core::str::from_utf8(symbol)) else {
            panic!("bug: line {} was UTF-8 and is not now", current.line)
        };
        let wrong = core::mem::take(&mut current.gap);
        current.given -= usize::from(wrong);
        let Some(item) = self.scratch.item(current.given, text) else {
            self.current = None;
            return None;
        };
        current.given += 1;
        let mut record = item.record;
        if record.symbol().is_empty() {
            record = match (&self.named, record) {
                _ if !symbol.is_empty() => record.with_symbol(symbol),
                (Named::One(symbol), _) => {
                    self.guessed_snapshots += u64::from(matches!(record, Record::BookSnapshot(_)));
                    record.with_symbol(symbol)
                }
                (_, Record::Opaque(_)) => record,
                (_, _) => {
                    let Head { exchange_ns, ingest_ns, transact_ns, .. } = *record.head();
                    Record::Opaque(Opaque {
                        head: Head { exchange_ns, ingest_ns, transact_ns, ..Head::default() },
                        reason: OpaqueReason::NoSymbol,
                        symbol: "",
                        bytes: text.as_bytes(),
                    })
                }
            };
        }
        if wrong {
            record = broken(record);
        } else {
            if let Record::Opaque(opaque) = &record {
                self.report.count_opaque(opaque.reason);
            }
            let answer = ask(&mut self.witnesses, self.venue, Item { record, proof: item.proof });
            current.gap = matches!(answer, Answer::WrongChecksum { .. } | Answer::Broken);
            self.report.count_answer(answer, record.symbol(), current.line);
        }
        self.report.records += 1;
        let needed = record.encoded_len();
        if self.payload.len() < needed {
            self.payload.resize(needed, 0);
        }
        match record.encode(&mut self.payload[..needed]) {
            Ok(len) => {
                Some(Given { type_id: record.type_id(), ingest_ns: record.head().ingest_ns, len, line: current.line })
            }
            // The dialect refuses what a record cannot hold.
            Err(why) => panic!("bug: line {} became a record that cannot be written: {why}", current.line),
        }
    }

    fn close(&mut self) {
        if self.cryptofeed {
            self.report.format = Format::Cryptofeed;
        }
        self.report.close(&self.lines);
    }

    /// What was found so far; complete, with [`Report::sha256`], once [`Recording::advance`] has returned `None`.
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

/// What an item says about its symbol's book.
fn ask(witnesses: &mut HashMap<String, Witness>, venue: Venue, item: Item<'_>) -> Answer {
    let symbol = item.record.symbol();
    if let Some(witness) = witnesses.get_mut(symbol) {
        return witness.see(&item);
    }
    match Witness::new(venue) {
        Some(mut witness) if !symbol.is_empty() && witnesses.len() < SYMBOLS_MAX => {
            let answer = witness.see(&item);
            witnesses.insert(symbol.to_owned(), witness);
            answer
        }
        _ => Answer::Nothing,
    }
}

/// What stands behind a record that showed that its book is wrong.
pub(crate) fn broken(record: Record<'_>) -> Record<'_> {
    let Head { exchange_ns, ingest_ns, transact_ns, .. } = *record.head();
    Record::Gap(Gap {
        head: Head { exchange_ns, ingest_ns, transact_ns, ..Head::default() },
        after_id: 0,
        next_id: 0,
        missing_from: 0,
        missing_to: 0,
        cause: GapCause::BookLost,
        carried: false,
        symbol: record.symbol(),
    })
}

/// Where `part`, a piece of `line` or empty, stands in it.
fn place(part: &str, line: &str) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let from = part.as_ptr().addr() - line.as_ptr().addr();
    from..from + part.len()
}

/// Reads a whole file into `sink`.
///
/// # Errors
///
/// The reader's or the sink's; records given to the sink before stay given. Damage in the file is in the report.
pub fn import<R: Read, E>(
    venue: Venue,
    name: impl Into<String>,
    file: R,
    mut sink: impl FnMut(Parsed<'_>) -> Result<(), E>,
) -> Result<Report, ImportError<E>> {
    let mut recording = Recording::open(venue, name, file);
    while let Some(parsed) = recording.advance().map_err(ImportError::Read)? {
        sink(parsed).map_err(ImportError::Sink)?;
    }
    Ok(recording.into_report())
}

/// Reads a whole file and only reports: the first of the two passes of `--strict`.
///
/// Any bytes will do; this is the function to fuzz.
///
/// # Errors
///
/// The reader's.
pub fn check<R: Read>(venue: Venue, name: impl Into<String>, file: R) -> Result<Report, ReadError> {
    let mut recording = Recording::open(venue, name, file);
    while recording.advance()?.is_some() {}
    Ok(recording.into_report())
}
