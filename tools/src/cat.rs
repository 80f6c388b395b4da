//! `chronicle cat`: frames as text or JSON, from any file of ours or from a root.

use crate::{
    book::parse_symbol,
    run::{Failure, Outcome, RootArgs, TierArgs, chain, parse_moment, rfc3339, what_there_is, with_stdout},
    verify::Durable,
};
use chronicle::{
    System,
    etl::query::partition,
    protocol::{Head, Level, Record, SnapshotSource},
    storage::{
        Error,
        partition::Tail,
        reader::{ArchiveReader, Event, Frames, Partition, open_any},
        root::{Date, Name, PartitionId, Stream},
    },
};
use serde_json::{Value, json};
use std::{io::Write, path::PathBuf};

/// Print the frames of a queue, segment, partition, raw or archive file, or of a symbol's days in a root
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle cat market/warm/v1/binance-spot/btcusdt/2024-08-08/book.q --limit 10
  chronicle cat market/hot/streams/raw/binance-spot/queue --from 5000 --json
  chronicle cat --root market --venue binance-spot --symbol btcusdt --stream trades --from 2024-08-08T23:59:00Z

With --json, one object a line: {seq, time_ns, type_id, flags, len, payload (hex), record}.
A partition that still grows ends at a torn tail; a bad frame before its last durable position, or before a good one, is
damage: exit code 1.")]
pub(crate) struct Args {
    /// A file or a queue's directory
    #[arg(value_name = "PATH", required_unless_present = "root", conflicts_with = "root")]
    path: Option<PathBuf>,
    /// A root, with --venue and --symbol
    #[arg(long, value_name = "DIR", requires_all = ["venue", "symbol"])]
    root: Option<PathBuf>,
    #[command(flatten)]
    tiers: TierArgs,
    /// Such as binance-spot
    #[arg(long, requires = "root")]
    venue: Option<Name>,
    /// The symbol code, or the venue's own symbol
    #[arg(long, requires = "root", value_parser = parse_symbol)]
    symbol: Option<Name>,
    /// A day, or a range of days `A..B` with both ends
    #[arg(long, requires = "root", value_parser = parse_dates)]
    date: Option<(Date, Date)>,
    /// book, trades, quotes, opaque or late
    #[arg(long, requires = "root", default_value = "book")]
    stream: Stream,
    /// Start at a seq, or at a time
    #[arg(long, value_name = "SEQ|TIME", value_parser = parse_from)]
    from: Option<From>,
    /// Stop after so many frames
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum From {
    Seq(u64),
    Time(u64),
}

fn parse_from(text: &str) -> Result<From, String> {
    match text.parse() {
        Ok(seq) => Ok(From::Seq(seq)),
        Err(_) => parse_moment(text).map(|moment| From::Time(moment.ns)),
    }
}

/// `2024-08-08` or `2024-08-08..2024-08-09`.
pub(crate) fn parse_dates(text: &str) -> Result<(Date, Date), String> {
    let one = |text: &str| text.parse::<Date>().map_err(|error| error.to_string());
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (one(first)?, one(last)?),
        None => (one(text)?, one(text)?),
    };
    if last < first {
        return Err(format!("{first} is after {last}"));
    }
    Ok((first, last))
}

pub(crate) fn run(args: Args) -> Outcome {
    let system = System;
    with_stdout(|out| match (&args.path, &args.root, &args.venue, &args.symbol) {
        (Some(path), ..) => {
            if !path.exists() {
                return Err(Failure::Usage(format!("{}: no such file or directory", path.display())));
            }
            if path.is_dir() && !path.join("control.meta").exists() {
                return Err(Failure::Usage(format!(
                    "{}: neither a file nor a queue; of a root, ask with --root, --venue and --symbol",
                    path.display()
                )));
            }
            let mut frames = open_any(&system, path)?;
            // Up to where a partition that still grows is durable, its root's checkpoint says.
            let open = frames.file().is_some_and(|file| !file.is_sealed());
            let durable = if open { Durable::around(path).len_of(path) } else { None };
            frames.require(durable.unwrap_or(0));
            if let Some(from) = args.from {
                match from {
                    From::Seq(seq) => frames.seek_seq(seq)?,
                    From::Time(ns) => frames.seek_time(ns)?,
                }
            }
            let left = print(&args, out, &mut frames, args.limit.unwrap_or(u64::MAX))?;
            if left > 0 && durable.is_none() { no_frame_behind(&frames) } else { Ok(()) }
        }
        (None, Some(root), Some(venue), Some(symbol)) => of_root(&args, &system, out, root, venue, symbol),
        _ => Err(Failure::Usage("a PATH, or --root with --venue and --symbol".to_owned())),
    })
}

/// A tail that looks torn, with a frame behind it: nothing was torn there, it is damaged.
fn no_frame_behind(frames: &Frames<System>) -> Outcome {
    let Some(file) = frames.file() else { return Ok(()) };
    match (file.tail(), file.frame_behind_damage()?) {
        (Tail::Torn { damage }, Some(offset)) => {
            let damaged = chain(&Error::damage(file.path(), damage));
            Err(Failure::Problem(format!("{damaged}; a good frame follows at offset {offset}")))
        }
        _ => Ok(()),
    }
}

fn of_root(
    args: &Args,
    system: &System,
    out: &mut dyn Write,
    root: &std::path::Path,
    venue: &Name,
    symbol: &Name,
) -> Outcome {
    let root = RootArgs { root: root.to_owned(), tiers: args.tiers.clone() }.existing()?;
    let archive = ArchiveReader::open(system, &root)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut found = false;
    for date in archive.dates(venue, symbol)? {
        if args.date.is_some_and(|(first, last)| date < first || date > last) {
            continue;
        }
        let id = PartitionId::new(venue.clone(), symbol.clone(), date, args.stream);
        let Some(mut partition) = partition(system, &archive, &id)? else { continue };
        found = true;
        match args.from {
            // Seqs begin anew each day: the first day that has it.
            Some(From::Seq(seq)) if left == args.limit.unwrap_or(u64::MAX) => partition.seek_seq(seq)?,
            Some(From::Time(ns)) if ns >= date.end_ns() => continue,
            Some(From::Time(ns)) => partition.seek_time(ns)?,
            _ => {}
        }
        left = print(args, out, &mut partition, left)?;
        if left == 0 {
            break;
        }
    }
    if !found {
        return Err(Failure::Usage(format!(
            "{venue}/{symbol}: no {}{}{}",
            args.stream,
            if args.date.is_some() { " on such a day" } else { "" },
            what_there_is(&root)
        )));
    }
    Ok(())
}

/// What can be printed frame by frame.
trait Source {
    fn next(&mut self) -> Result<Option<Event<'_>>, Error>;
}

impl Source for Frames<System> {
    fn next(&mut self) -> Result<Option<Event<'_>>, Error> {
        self.next()
    }
}

impl Source for Partition<System> {
    fn next(&mut self) -> Result<Option<Event<'_>>, Error> {
        Ok(self.next()?.map(Event::Frame))
    }
}

fn print(args: &Args, out: &mut dyn Write, frames: &mut dyn Source, mut left: u64) -> Result<u64, Failure> {
    let mut payload = Vec::new();
    while left > 0 {
        let frame = match frames.next()? {
            None => break,
            Some(Event::Frame(frame)) => frame,
            Some(Event::Lost { from, to }) => {
                if args.json {
                    writeln!(out, "{}", json!({ "lost": { "from": from, "to": to } }))?;
                } else {
                    writeln!(out, "frames {from} to at most {to} are lost")?;
                }
                continue;
            }
        };
        payload.resize(frame.payload.len(), 0);
        frame.payload.copy_to(&mut payload);
        let record = Record::parse(frame.type_id, &payload);
        let written = if args.json {
            let mut line = json!({
                "seq": frame.seq,
                "time_ns": frame.time_ns,
                "type_id": frame.type_id,
                "flags": frame.flags,
                "len": payload.len(),
                "payload": hex(&payload),
            });
            if let (Ok(record), Some(line)) = (&record, line.as_object_mut()) {
                line.insert("record".to_owned(), decoded(record));
            }
            writeln!(out, "{line}")
        } else {
            let what = record.as_ref().map_or_else(|_| format!("type {}", frame.type_id), brief);
            let flags = if frame.flags == 0 { String::new() } else { format!(" flags {:#x}", frame.flags) };
            writeln!(out, "{:>10}  {:<30}  {what}{flags}", frame.seq, rfc3339(frame.time_ns))
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
            other => other?,
        }
        left -= 1;
    }
    Ok(left)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn brief(record: &Record<'_>) -> String {
    let head = record.head();
    match record {
        Record::BookDelta(d) => format!(
            "delta     {} ids {}..{}, {} bids, {} asks",
            d.symbol,
            d.first_id,
            d.last_id,
            d.bids.len(),
            d.asks.len()
        ),
        Record::BookSnapshot(s) => format!(
            "snapshot  {} id {}, {} bids, {} asks, by the {}",
            s.symbol,
            s.last_id,
            s.bids.len(),
            s.asks.len(),
            match s.source {
                SnapshotSource::Venue => "venue",
                SnapshotSource::Refinery => "refinery",
            }
        ),
        Record::Trade(t) => format!(
            "trade     {} id {}, {} × {}, {}",
            t.symbol,
            t.trade_id,
            head.price.decimal(t.price),
            head.qty.decimal(t.qty),
            if t.buyer_is_maker { "sell" } else { "buy" }
        ),
        Record::Quote(q) => format!(
            "quote     {} id {}, {} × {} / {} × {}",
            q.symbol,
            q.update_id,
            head.price.decimal(q.bid_price),
            head.qty.decimal(q.bid_qty),
            head.price.decimal(q.ask_price),
            head.qty.decimal(q.ask_qty)
        ),
        Record::Gap(g) => {
            format!("gap       {} ids {}..{} missing ({})", g.symbol, g.missing_from, g.missing_to, g.cause.as_str())
        }
        Record::Opaque(o) => {
            let text = String::from_utf8_lossy(o.bytes);
            format!("opaque    {} ({}) {}", o.symbol, o.reason.as_str(), text.chars().take(100).collect::<String>())
        }
        Record::Source(s) => format!("source    {}", s.name),
    }
}

fn decoded(record: &Record<'_>) -> Value {
    let head = record.head();
    let mut value = match record {
        Record::BookDelta(d) => json!({
            "kind": "book_delta", "symbol": d.symbol, "first_id": d.first_id, "last_id": d.last_id, "prev_id": d.prev_id,
            "bids": levels(d.bids, head), "asks": levels(d.asks, head),
        }),
        Record::BookSnapshot(s) => json!({
            "kind": "book_snapshot", "symbol": s.symbol, "last_id": s.last_id, "last_event_ns": s.last_event_ns,
            "source": match s.source { SnapshotSource::Venue => "venue", SnapshotSource::Refinery => "refinery" },
            "opens_partition": s.opens_partition, "bids": levels(s.bids, head), "asks": levels(s.asks, head),
        }),
        Record::Trade(t) => json!({
            "kind": "trade", "symbol": t.symbol, "trade_id": t.trade_id,
            "price": head.price.decimal(t.price).to_string(), "qty": head.qty.decimal(t.qty).to_string(),
            "buyer_is_maker": t.buyer_is_maker, "order_type": t.order_type.map(|kind| kind.as_str()),
        }),
        Record::Quote(q) => json!({
            "kind": "quote", "symbol": q.symbol, "update_id": q.update_id,
            "bid_price": head.price.decimal(q.bid_price).to_string(), "bid_qty": head.qty.decimal(q.bid_qty).to_string(),
            "ask_price": head.price.decimal(q.ask_price).to_string(), "ask_qty": head.qty.decimal(q.ask_qty).to_string(),
        }),
        Record::Gap(g) => json!({
            "kind": "gap", "symbol": g.symbol, "after": g.after_id, "next": g.next_id,
            "missing_from": g.missing_from, "missing_to": g.missing_to, "cause": g.cause.as_str(), "carried": g.carried,
        }),
        Record::Opaque(o) => json!({
            "kind": "opaque", "symbol": o.symbol, "reason": o.reason.as_str(), "text": String::from_utf8_lossy(o.bytes),
        }),
        Record::Source(s) => json!({
            "kind": "source", "name": s.name, "sha256": s.sha256.map(|sha256| hex(&sha256)),
        }),
    };
    if let Some(value) = value.as_object_mut() {
        for (name, ns) in
            [("exchange_ns", head.exchange_ns), ("ingest_ns", head.ingest_ns), ("transact_ns", head.transact_ns)]
        {
            if ns != 0 {
                value.insert(name.to_owned(), ns.into());
            }
        }
    }
    value
}

fn levels(levels: &[Level], head: &Head) -> Value {
    levels
        .iter()
        .map(|level| json!([head.price.decimal(level.price()).to_string(), head.qty.decimal(level.qty()).to_string()]))
        .collect()
}
