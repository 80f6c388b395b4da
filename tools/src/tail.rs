//! `chronicle tail`: the newest frames of a queue, a file or a symbol, and those that come.
//!
//! A queue is read as any observer reads it: no cursor, nothing held back, and the reader goes on over rolls, over a writer
//! that dies and comes back, and over a queue that is removed and made anew under the same name. Records are chosen by
//! symbol, type and time; what is no record of ours is shown by its first bytes.
//!
//! What it prints is `records.rs`, the same as `cat`. It never waits for its own reader: where the pipe is closed it ends.

use crate::{
    book::parse_symbol,
    records::{self, Said, Style},
    run::{Failure, Moment, Outcome, RootArgs, TierArgs, parse_moment, rfc3339, what_there_is, with_stdout},
    stop::Stop,
};
use chronicle::{
    Frame, System,
    etl::query::partition,
    platform::{File, FileId, Open, Platform},
    protocol::Record,
    storage::{
        queue::{self, Disconnect, Queue, ReadError, Start, Subscriber, SubscriberOptions, Waited},
        reader::{ArchiveReader, Event, Frames, Partition, open_any},
        root::{Date, Name, PartitionId, Root, Stream, symbol_code},
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Print the newest frames of a queue, a file or a symbol, and with --follow those that come
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle tail -f market/hot/streams/raw/binance-spot/queue
  chronicle tail -f --root market --venue binance-spot --symbol btcusdt --type trade,quote
  chronicle tail --root market --venue binance-spot --symbol btcusdt --stream trades --from 2024-08-08T23:59:00Z
  chronicle tail -f --root market --venue binance-spot --type gap --json
  chronicle tail -f market/hot/orders/queue/alpha/orders_out

Without --stream it is the venue's raw queue, with it the symbol's refined days. Of a queue that is followed it says on
standard error when its writer dies, closes it or comes back. Ctrl-C, and a pipe whose reader has left, end it: exit
code 0. With --json, one object a line, as `chronicle cat` prints them.")]
pub(crate) struct Args {
    /// A file or a queue's directory
    #[arg(value_name = "PATH", conflicts_with = "root")]
    path: Option<PathBuf>,
    /// A root, with --venue
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    tiers: TierArgs,
    /// Such as binance-spot; where a root has one venue alone, that one unless told
    #[arg(long, requires = "root")]
    venue: Option<Name>,
    /// Only these symbols: codes, or the venue's own names
    #[arg(long = "symbol", value_name = "A,B", value_delimiter = ',', value_parser = parse_symbol)]
    symbols: Vec<Name>,
    /// Only these types: delta, snapshot, trade, quote, gap, opaque, source, order, reply, or a number
    #[arg(long = "type", value_name = "A,B", value_delimiter = ',', value_parser = parse_kind)]
    kinds: Vec<Kind>,
    /// The symbol's refined days: book, trades, quotes, opaque or late
    #[arg(long, requires = "root")]
    stream: Option<Stream>,
    /// From this moment on, instead of the last few
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    from: Option<Moment>,
    /// Up to this moment; a later frame ends it
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    to: Option<Moment>,
    /// So many frames that pass before those that come; 10, with --from all
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Go on with what comes
    #[arg(short = 'f', long)]
    follow: bool,
    /// Levels of each side that a book's record shows
    #[arg(long, value_name = "N", default_value_t = 2)]
    levels: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Lines kept before the last ones are known.
const LINES: usize = 10;
/// Longest wait without a look at signals, at the pipe and at a file that grows.
const SLICE: Duration = Duration::from_millis(100);
/// How often days and a queue's name are looked at while nothing comes.
const LOOK: Duration = Duration::from_millis(500);

/// Symbols that are remembered, and shown, for who asks for one that is not there.
const SYMBOLS_SEEN: usize = 10_000;
const SYMBOLS_TOLD: usize = 8;

/// A record's type, as it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delta,
    Snapshot,
    Trade,
    Quote,
    Gap,
    Opaque,
    Source,
    OrderEvent,
    Order,
    Reply,
    Number(u16),
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Ok(match text {
        "delta" => Kind::Delta,
        "snapshot" => Kind::Snapshot,
        "trade" => Kind::Trade,
        "quote" => Kind::Quote,
        "gap" => Kind::Gap,
        "opaque" => Kind::Opaque,
        "source" => Kind::Source,
        "order-event" => Kind::OrderEvent,
        "order" => Kind::Order,
        "reply" => Kind::Reply,
        other => Kind::Number(other.parse().map_err(|_| {
            "one of delta, snapshot, trade, quote, gap, opaque, source, order-event, order, reply, or the number of a type"
                .to_owned()
        })?),
    })
}

/// What is left out.
struct Filter {
    symbols: Vec<Name>,
    kinds: Vec<Kind>,
    from_ns: u64,
    to_ns: u64,
}

/// What a filter says of a frame.
#[derive(PartialEq, Eq)]
enum Verdict {
    Passes,
    LeftOut,
    /// It and what comes is later than asked.
    Over,
}

impl Filter {
    fn of(args: &Args) -> Filter {
        Filter {
            symbols: args.symbols.clone(),
            kinds: args.kinds.clone(),
            from_ns: args.from.map_or(0, |from| from.ns),
            to_ns: args.to.map_or(u64::MAX, |to| to.ns),
        }
    }

    /// Whether every frame passes.
    fn is_open(&self) -> bool {
        self.symbols.is_empty() && self.kinds.is_empty() && self.from_ns == 0 && self.to_ns == u64::MAX
    }

    /// Whether it passes; the symbols of those that are of the right time are kept in `seen`.
    fn judge(&self, frame: &Frame<'_>, payload: &[u8], seen: &mut BTreeSet<String>) -> Verdict {
        if frame.time_ns > self.to_ns {
            return Verdict::Over;
        }
        if frame.time_ns < self.from_ns {
            return Verdict::LeftOut;
        }
        if self.symbols.is_empty() && self.kinds.is_empty() {
            return Verdict::Passes;
        }
        let record = Record::parse(frame.type_id, payload).ok();
        let said = if record.is_none() { records::said(frame) } else { None };
        let (kind, symbol) = match &record {
            Some(Record::BookDelta(r)) => (Some(Kind::Delta), r.symbol),
            Some(Record::BookSnapshot(r)) => (Some(Kind::Snapshot), r.symbol),
            Some(Record::Trade(r)) => (Some(Kind::Trade), r.symbol),
            Some(Record::Quote(r)) => (Some(Kind::Quote), r.symbol),
            Some(Record::Gap(r)) => (Some(Kind::Gap), r.symbol),
            Some(Record::Opaque(r)) => (Some(Kind::Opaque), r.symbol),
            Some(Record::Source(_)) => (Some(Kind::Source), ""),
            Some(Record::OrderEvent(r)) => (Some(Kind::OrderEvent), r.symbol),
            Some(Record::OrdersSnapshot(r)) => (Some(Kind::Snapshot), r.symbol),
            Some(Record::TextTrade(r)) => (Some(Kind::Trade), r.symbol),
            Some(Record::CountedSnapshot(r)) => (Some(Kind::Snapshot), r.book.symbol),
            None => match &said {
                Some(Said::Order(order)) => (Some(Kind::Order), order.symbol()),
                Some(Said::Reply(_)) => (Some(Kind::Reply), ""),
                None => (None, ""),
            },
        };
        let of_kind = self.kinds.is_empty()
            || self.kinds.iter().any(|asked| kind == Some(*asked) || *asked == Kind::Number(frame.type_id));
        // Looked at first, whatever its type: it is told what there is.
        let of_symbol = self.symbols.is_empty() || {
            let code = symbol_code(symbol);
            let is_asked = self.symbols.iter().any(|asked| asked.as_str() == code);
            if !symbol.is_empty() && seen.len() < SYMBOLS_SEEN && !seen.contains(&code) {
                seen.insert(code);
            }
            is_asked
        };
        if of_kind && of_symbol { Verdict::Passes } else { Verdict::LeftOut }
    }
}

impl Filter {
    /// Says which of the symbols that were asked for have no record here, and which others have. Of none at all that is why
    /// nothing was printed.
    fn must_have_seen(&self, seen: &BTreeSet<String>, follow: bool) -> Outcome {
        let absent: Vec<&str> = self.symbols.iter().map(Name::as_str).filter(|asked| !seen.contains(*asked)).collect();
        if absent.is_empty() || seen.is_empty() {
            return Ok(());
        }
        let mut there: Vec<&str> = seen.iter().take(SYMBOLS_TOLD).map(String::as_str).collect();
        there.extend((seen.len() > SYMBOLS_TOLD).then_some("…"));
        let why = format!("no record of {} here; there are those of {}", absent.join(", "), there.join(", "));
        if follow || absent.len() < self.symbols.len() {
            tell(&why);
            return Ok(());
        }
        Err(Failure::Problem(why))
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    let stop = Stop::on_signals()?;
    let mut source = open(&args)?;
    with_stdout(|out| match tail(&args, &stop, &mut source, out) {
        Err(Ended::Quietly) => Ok(()),
        Err(Ended::Failed(failure)) => Err(failure),
        Ok(()) => Ok(()),
    })
}

/// Why it ends before the frames do.
enum Ended {
    /// Somebody asked for it, or nobody reads.
    Quietly,
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failed(failure)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Ended::Quietly } else { Ended::Failed(error.into()) }
    }
}

fn tail(args: &Args, stop: &Stop, source: &mut Source, out: &mut dyn Write) -> Result<(), Ended> {
    let style = Style { json: args.json, levels: args.levels };
    let filter = Filter::of(args);
    let most = args.lines.unwrap_or(if args.from.is_some() { usize::MAX } else { LINES });
    // The last ones are known when there are no more; those before are forgotten on the way.
    let mut last: Option<VecDeque<Vec<u8>>> = (most != usize::MAX).then(VecDeque::new);
    // A writer may be faster than this loop: what comes after this frame is not among the last ones any more.
    let newest = source.begin(&filter, most)?;
    let (mut payload, mut seen) = (Vec::new(), BTreeSet::new());
    loop {
        let (mut over, mut caught_up) = (false, false);
        while !caught_up && let Some(event) = source.next()? {
            let mut line = Vec::new();
            match event {
                Event::Lost { from, to } => records::lost(&mut line, style, from, to)?,
                Event::Frame(frame) => {
                    caught_up = newest == Some(frame.seq);
                    payload.resize(frame.payload.len(), 0);
                    frame.payload.copy_to(&mut payload);
                    match filter.judge(&frame, &payload, &mut seen) {
                        Verdict::Passes => records::frame(&mut line, style, &frame, &payload)?,
                        Verdict::LeftOut => {}
                        Verdict::Over => {
                            over = true;
                            break;
                        }
                    }
                }
            }
            if stop.asked() {
                break;
            }
            match &mut last {
                _ if line.is_empty() => {}
                None => out.write_all(&line)?,
                Some(_) if most == 0 => {}
                Some(last) => {
                    if last.len() == most {
                        last.pop_front();
                    }
                    last.push_back(line);
                }
            }
        }
        let first = last.is_some();
        for line in last.take().into_iter().flatten() {
            out.write_all(&line)?;
        }
        out.flush()?;
        if (first || !args.follow) && !stop.asked() {
            filter.must_have_seen(&seen, args.follow)?;
        }
        if over || stop.asked() || !args.follow {
            return Ok(());
        }
        if nobody_reads() {
            return Err(Ended::Quietly);
        }
        if !caught_up && !source.wait(stop)? {
            return Ok(());
        }
    }
}

/// Whether standard output is a pipe that nobody will read from again: a frame may never come to find it out by.
fn nobody_reads() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
}

/// Where frames come from.
enum Source {
    Queue(Box<Live>),
    File(Box<Frames<System>>),
    Days(Box<Days>),
}

impl Source {
    /// Stands so that the last `most` frames that pass are before it; the newest frame's seq, where that is known.
    fn begin(&mut self, filter: &Filter, most: usize) -> Result<Option<u64>, Failure> {
        match self {
            Source::Queue(live) => {
                let next = queue::describe(&System, &live.path)?.next_seq.unwrap_or(1);
                live.seek(if filter.from_ns > 0 {
                    Start::Time(filter.from_ns)
                } else if filter.is_open() {
                    Start::Seq(next.saturating_sub(most as u64).max(1))
                } else {
                    Start::Earliest
                })?;
                return Ok(Some(next - 1));
            }
            Source::File(frames) if filter.from_ns > 0 => frames.seek_time(filter.from_ns)?,
            Source::File(_) => {}
            Source::Days(days) => days.begin(filter.from_ns)?,
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<Event<'_>>, Failure> {
        match self {
            Source::Queue(live) => live.next(),
            Source::File(frames) => Ok(frames.next()?),
            Source::Days(days) => days.next(),
        }
    }

    /// Waits a little; `false` if nothing will ever come.
    fn wait(&mut self, stop: &Stop) -> Result<bool, Failure> {
        match self {
            Source::Queue(live) => live.wait(stop)?,
            Source::File(frames) => {
                if frames.file().is_none_or(|file| file.is_sealed()) {
                    tell("the file is sealed: nothing more comes");
                    return Ok(false);
                }
                std::thread::sleep(SLICE);
            }
            Source::Days(_) => std::thread::sleep(SLICE),
        }
        Ok(true)
    }
}

/// Says something beside the frames.
fn tell(what: &str) {
    _ = writeln!(io::stderr(), "chronicle: {what}");
}

fn open(args: &Args) -> Result<Source, Failure> {
    if let Some(path) = &args.path {
        if !path.exists() {
            return Err(Failure::Usage(format!("{}: no such file or directory", path.display())));
        }
        if path.join("control.meta").exists() {
            return Ok(Source::Queue(Box::new(Live::open(path)?)));
        }
        if path.is_dir() {
            return Err(Failure::Usage(format!(
                "{}: neither a file nor a queue; of a root, ask with --root and --venue",
                path.display()
            )));
        }
        return Ok(Source::File(Box::new(open_any(&System, path)?)));
    }
    let Some(dir) = &args.root else {
        return Err(Failure::Usage("what to tail: a PATH, or --root with --venue".to_owned()));
    };
    let root = RootArgs { root: dir.clone(), tiers: args.tiers.clone() }.existing()?;
    let Some(stream) = args.stream else {
        let queue = raw_queue(&root, args.venue.as_ref())?;
        return Ok(Source::Queue(Box::new(Live::open(&queue)?)));
    };
    let venue = match &args.venue {
        Some(venue) => venue.clone(),
        None => only(ArchiveReader::open(&System, &root)?.venues()?, "venue", "--venue")?,
    };
    let [symbol] = args.symbols.as_slice() else {
        return Err(Failure::Usage(format!("--stream {stream}: one --symbol is needed{}", what_there_is(&root))));
    };
    Ok(Source::Days(Box::new(Days::open(&root, venue, symbol.clone(), stream)?)))
}

/// The raw queue of a venue, or of the only one.
fn raw_queue(root: &Root, venue: Option<&Name>) -> Result<PathBuf, Failure> {
    let there: Vec<Name> = match fs::read_dir(root.raw_queues()) {
        Ok(entries) => entries
            .filter_map(|entry| Name::new(entry.ok()?.file_name().to_str()?).ok())
            .filter(|venue| root.raw_queue(venue).join("control.meta").exists())
            .collect(),
        Err(_) => Vec::new(),
    };
    if venue.map_or(there.is_empty(), |venue| !there.contains(venue)) {
        crate::queues::must_be_open(&root.raw_queues())?;
    }
    let venue = match venue {
        Some(venue) if there.contains(venue) => venue.clone(),
        Some(venue) => {
            let others = match there.as_slice() {
                [] => "; `chronicle feed` and `chronicle import` make them".to_owned(),
                there => format!("; there is {}", there.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")),
            };
            return Err(Failure::Usage(format!("{}: no such queue{others}", root.raw_queue(venue).display())));
        }
        None => only(there, "raw queue", "--venue")?,
    };
    Ok(root.raw_queue(&venue))
}

/// The only one of these, or what to ask with.
fn only(mut there: Vec<Name>, what: &str, flag: &str) -> Result<Name, Failure> {
    there.sort();
    match there.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::Usage(format!("no {what} here; `chronicle feed` and `chronicle import` bring records"))),
        several => {
            let names = several.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
            Err(Failure::Usage(format!("more than one {what}: say {flag} with one of {names}")))
        }
    }
}

/// A queue with a writer, or one to wait for.
struct Live {
    path: PathBuf,
    reader: Subscriber<System>,
    /// Which `control.meta` it was opened with.
    control: FileId,
    gone: Option<Disconnect>,
    looked: Instant,
}

impl Live {
    fn open(path: &Path) -> Result<Live, Failure> {
        let options = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
        let control = Self::control_of(path)?;
        let reader = Queue::observer(&System, path, options)?;
        Ok(Live { path: path.to_owned(), reader, control, gone: None, looked: Instant::now() })
    }

    fn control_of(path: &Path) -> Result<FileId, Failure> {
        Ok(System.open(&path.join("control.meta"), Open::Read)?.id()?)
    }

    fn seek(&mut self, start: Start) -> Result<(), Failure> {
        match self.reader.seek(start) {
            Err(error) if !error.is_event() => Err(error.into()),
            // It comes with the next read.
            _ => Ok(()),
        }
    }

    fn next(&mut self) -> Result<Option<Event<'_>>, Failure> {
        let expected = self.reader.position().map_or(1, |position| position.seq);
        match self.reader.next() {
            Ok(frame) => Ok(frame.map(Event::Frame)),
            Err(ReadError::Lost { from, to }) => Ok(Some(Event::Lost { from, to })),
            Err(ReadError::Lapped { resume_at }) => {
                Ok(Some(Event::Lost { from: expected.min(resume_at), to: resume_at.saturating_sub(1) }))
            }
            // Of cursors only, and an observer has none.
            Err(ReadError::Reset { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&mut self, stop: &Stop) -> Outcome {
        // A signal interrupts no sleep of the reader's: it is asked after each slice.
        let waited = match self.reader.wait(SLICE) {
            Ok(waited) => waited,
            Err(error) if error.is_event() => Waited::Ready,
            Err(error) => return Err(error.into()),
        };
        match waited {
            Waited::Ready => self.came_back(),
            _ if stop.asked() || self.looked.elapsed() < LOOK => {}
            _ => self.look()?,
        }
        Ok(())
    }

    fn came_back(&mut self) {
        if self.gone.take().is_some() {
            tell("the writer is back");
        }
    }

    /// Looks whether there is a writer, and whether the queue still is the one that it was.
    fn look(&mut self) -> Outcome {
        self.looked = Instant::now();
        // Removed, it may come again; till then the writer's death is what there is to tell.
        if Self::control_of(&self.path).is_ok_and(|control| control != self.control) {
            *self = Live::open(&self.path)?;
            tell("another queue stands here now; from its first frame on");
            return Ok(());
        }
        let Some(reason) = self.reader.detect_disconnect(Duration::from_secs(5))? else {
            self.came_back();
            return Ok(());
        };
        if self.gone.map(|gone| std::mem::discriminant(&gone)) != Some(std::mem::discriminant(&reason)) {
            tell(&match reason {
                Disconnect::Closed => "the writer has closed the queue; waiting for the next one".to_owned(),
                Disconnect::Died => "the writer died; waiting for it to come back".to_owned(),
                Disconnect::Stale { age } => {
                    format!("the writer has been silent for {} s; `chronicle doctor` says why", age.as_secs())
                }
            });
        }
        self.gone = Some(reason);
        Ok(())
    }
}

/// A symbol's refined days, one after the other.
struct Days {
    archive: ArchiveReader<System>,
    venue: Name,
    symbol: Name,
    stream: Stream,
    from_ns: u64,
    partition: Option<Partition<System>>,
    looked: Option<Instant>,
}

impl Days {
    fn open(root: &Root, venue: Name, symbol: Name, stream: Stream) -> Result<Days, Failure> {
        let archive = ArchiveReader::open(&System, root)?;
        let mut days = Days { archive, venue, symbol, stream, from_ns: 0, partition: None, looked: None };
        if days.dates()?.is_empty() {
            let there = what_there_is(root);
            return Err(Failure::Usage(format!("{}/{}: no {stream}{there}", days.venue, days.symbol)));
        }
        days.begin(0)?;
        Ok(days)
    }

    fn dates(&self) -> Result<Vec<Date>, Failure> {
        Ok(self.archive.dates(&self.venue, &self.symbol)?)
    }

    /// The first day that may have this time; without one the newest.
    fn begin(&mut self, from_ns: u64) -> Outcome {
        (self.from_ns, self.partition) = (from_ns, None);
        let mut dates = self.dates()?;
        if from_ns == 0 {
            dates.reverse();
        } else {
            dates.retain(|date| date.end_ns() > from_ns);
        }
        for date in dates {
            if self.stand(date)? {
                break;
            }
        }
        Ok(())
    }

    /// Stands at the start of a day; `false` if that has no such stream.
    fn stand(&mut self, date: Date) -> Result<bool, Failure> {
        let id = PartitionId::new(self.venue.clone(), self.symbol.clone(), date, self.stream);
        let Some(mut found) = partition(&System, &self.archive, &id)? else { return Ok(false) };
        if self.from_ns > 0 {
            found.seek_time(self.from_ns)?;
        }
        self.partition = Some(found);
        Ok(true)
    }

    fn next(&mut self) -> Result<Option<Event<'_>>, Failure> {
        let moved = loop {
            if let Some(partition) = &mut self.partition
                && partition.advance()?
            {
                break true;
            }
            if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
                break false;
            }
            if !self.later()? {
                self.looked = Some(Instant::now());
                break false;
            }
        };
        let partition = self.partition.as_ref().filter(|_| moved);
        Ok(partition.and_then(|partition| partition.current()).map(Event::Frame))
    }

    /// Goes to the next day that has frames, if there is one.
    fn later(&mut self) -> Result<bool, Failure> {
        let here = self.partition.as_ref().map(|partition| partition.id().date);
        for date in self.dates()? {
            if here.is_none_or(|here| date > here) && self.stand(date)? {
                if here.is_some() {
                    tell(&format!("{date}, from {}", rfc3339(date.start_ns())));
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}
