//! `chronicle cat`: frames as text or JSON, from any file of ours or from a root.

use crate::{
    book::parse_symbol,
    records::{self, Style},
    run::{Failure, Outcome, RootArgs, TierArgs, chain, parse_moment, what_there_is, with_stdout},
    verify::Durable,
};
use chronicle::{
    System,
    etl::query::partition,
    storage::{
        Error,
        partition::Tail,
        reader::{ArchiveReader, Event, Frames, Partition, open_any},
        root::{Date, Name, PartitionId, Stream},
    },
};
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
    let style = Style { json: args.json, levels: 0 };
    let mut payload = Vec::new();
    while left > 0 {
        let frame = match frames.next()? {
            None => break,
            Some(Event::Frame(frame)) => frame,
            Some(Event::Lost { from, to }) => {
                records::lost(out, style, from, to)?;
                continue;
            }
        };
        payload.resize(frame.payload.len(), 0);
        frame.payload.copy_to(&mut payload);
        let written = records::frame(out, style, &frame, &payload);
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
            other => other?,
        }
        left -= 1;
    }
    Ok(left)
}
