//! `chronicle inspect`: what a file or directory of ours is.
//!
//! The library describes queues, segments, partitions, days and archive files; a root, which is only a place for these,
//! is listed here. `--json` prints the whole description; people get the same in tables. It judges nothing:
//! `chronicle verify` does.

use crate::run::{Count, Failure, Outcome, Size, print_json, rfc3339, with_stdout};
use chronicle::{
    System,
    storage::{
        inspect::{Archive, Day, Description, Frames, Partition, TailText, inspect},
        queue,
        reader::ArchiveReader,
        root::{Date, Name, PartitionId, Root, Stream, Tier},
    },
};
use serde::Serialize;
use serde_json::Value;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Say what a root, queue, segment, partition or archive file holds: header, counts, ranges, tail, readers
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle inspect market
  chronicle inspect market/hot/streams/raw/binance-spot/queue
  chronicle inspect market/warm/v1/binance-spot/btcusdt/2024-08-08
  chronicle inspect market/warm/v1/binance-spot/btcusdt/2024-08-08/book.q --json

Headers, seals and tables are believed; `chronicle verify` checks them.")]
pub(crate) struct Args {
    /// A root, a queue's directory, a day's directory, or a file
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// One JSON object: {kind, path, …}
    #[arg(long)]
    json: bool,
}

/// What lies in a root.
#[derive(Serialize)]
struct RootText {
    kind: &'static str,
    path: PathBuf,
    raw: Vec<RawText>,
    partitions: Vec<PartitionText>,
}

/// A venue's raw stream.
#[derive(Serialize)]
struct RawText {
    venue: Name,
    queue: PathBuf,
    /// Why it could not be described.
    problem: Option<String>,
    /// Frames ever appended.
    frames: Option<u64>,
    queue_bytes: Option<u64>,
    /// Segments kept as files, and their bytes.
    recorded: u64,
    recorded_bytes: u64,
}

#[derive(Serialize)]
struct PartitionText {
    venue: Name,
    symbol: Name,
    date: Date,
    stream: Stream,
    tier: Tier,
    path: PathBuf,
    bytes: u64,
}

pub(crate) fn run(args: Args) -> Outcome {
    if !args.path.exists() {
        return Err(Failure::Usage(format!("{}: no such file or directory", args.path.display())));
    }
    if is_root(&args.path) {
        let found = list_root(&args.path)?;
        if args.json {
            return print_json(&found);
        }
        return with_stdout(|out| tell_root(out, &found));
    }
    let found = inspect(&System, &args.path).map_err(|error| {
        let text = crate::run::chain(&error);
        if args.path.is_dir() && error.offset() == Some(0) {
            Failure::Problem(format!("{text}; inspect takes a root, a queue's directory, a day's directory or a file"))
        } else {
            Failure::Problem(text)
        }
    })?;
    if args.json {
        return print_json(&found);
    }
    with_stdout(|out| {
        match &found {
            Description::Day(day) => tell_day(out, day)?,
            other => tell(out, &serde_json::to_value(other).map_err(io::Error::from)?, 0)?,
        }
        Ok(())
    })
}

/// A root is known by its directories.
fn is_root(path: &Path) -> bool {
    path.is_dir()
        && !path.join("control.meta").exists()
        && ["hot", "warm", "cold", "state"].iter().any(|tier| path.join(tier).is_dir())
}

fn list_root(path: &Path) -> Result<RootText, Failure> {
    let system = System;
    let root = Root::new(path);
    let archive = ArchiveReader::open(&system, &root)?;
    let mut found = RootText { kind: "root", path: path.to_owned(), raw: Vec::new(), partitions: Vec::new() };
    let mut venues: Vec<Name> = Vec::new();
    let mut raw_places = vec![root.raw_queues()];
    raw_places.extend([Tier::Warm, Tier::Cold].map(|tier| root.tier(tier).join("raw").join("v1")));
    for place in raw_places {
        for entry in place.read_dir().into_iter().flatten() {
            venues.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
    }
    venues.sort_unstable();
    venues.dedup();
    for venue in venues {
        let queue = root.raw_queue(&venue);
        let mut raw = RawText {
            queue: queue.clone(),
            problem: None,
            frames: None,
            queue_bytes: None,
            recorded: 0,
            recorded_bytes: 0,
            venue,
        };
        if queue.is_dir() {
            match queue::describe(&system, &queue) {
                Ok(described) => {
                    raw.frames = described.next_seq.map(|next| next - 1);
                    raw.queue_bytes = Some(described.used_bytes);
                }
                Err(error) => raw.problem = Some(crate::run::chain(&error)),
            }
        }
        for tier in [Tier::Warm, Tier::Cold] {
            let (files, bytes) = recorded(&root.raw(tier, &raw.venue));
            raw.recorded += files;
            raw.recorded_bytes += bytes;
        }
        found.raw.push(raw);
    }
    for venue in archive.venues()? {
        for symbol in archive.symbols(&venue)? {
            for date in archive.dates(&venue, &symbol)? {
                for stream in archive.streams(&venue, &symbol, date)? {
                    let id = PartitionId::new(venue.clone(), symbol.clone(), date, stream);
                    for tier in Tier::ALL {
                        let path = root.partition(tier, &id);
                        let Ok(metadata) = path.metadata() else { continue };
                        found.partitions.push(PartitionText {
                            venue: venue.clone(),
                            symbol: symbol.clone(),
                            date,
                            stream,
                            tier,
                            path,
                            bytes: metadata.len(),
                        });
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Recorded raw files under a venue's days, and their bytes.
fn recorded(dir: &Path) -> (u64, u64) {
    let mut found = (0, 0);
    for day in dir.read_dir().into_iter().flatten().flatten() {
        for file in day.path().read_dir().into_iter().flatten().flatten() {
            let name = file.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(".q") || name.ends_with(".q.zst")) {
                found.0 += 1;
                found.1 += file.metadata().map_or(0, |metadata| metadata.len());
            }
        }
    }
    found
}

fn tell_root(out: &mut dyn Write, root: &RootText) -> Outcome {
    writeln!(out, "root {}", root.path.display())?;
    if root.raw.is_empty() && root.partitions.is_empty() {
        writeln!(out, "  nothing in it yet; `chronicle import` brings records")?;
        return Ok(());
    }
    if !root.raw.is_empty() {
        let mut rows = vec![["raw stream", "frames", "queue", "recorded", ""].map(str::to_owned)];
        for raw in &root.raw {
            rows.push([
                raw.venue.to_string(),
                raw.frames.map_or_else(|| "-".to_owned(), |n| Count(n).to_string()),
                raw.queue_bytes.map_or_else(|| "-".to_owned(), |bytes| Size(bytes).to_string()),
                format!("{} in {}", Size(raw.recorded_bytes), files(raw.recorded)),
                raw.problem.clone().unwrap_or_default(),
            ]);
        }
        writeln!(out)?;
        rows_of(out, &rows, &[1, 2, 3], "  ")?;
    }
    writeln!(out)?;
    if root.partitions.is_empty() {
        writeln!(out, "  nothing is refined yet; `chronicle refine --root {}` does it", root.path.display())?;
        return Ok(());
    }
    let mut rows = vec![["venue", "symbol", "date", "stream", "tier", "bytes"].map(str::to_owned)];
    for partition in &root.partitions {
        rows.push([
            partition.venue.to_string(),
            partition.symbol.to_string(),
            partition.date.to_string(),
            partition.stream.to_string(),
            partition.tier.to_string(),
            Size(partition.bytes).to_string(),
        ]);
    }
    rows_of(out, &rows, &[5], "  ")?;
    Ok(())
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{} files", Count(count)) }
}

fn tell_day(out: &mut dyn Write, day: &Day) -> Outcome {
    writeln!(out, "day {}", day.path.display())?;
    writeln!(out)?;
    let mut rows = vec![["file", "frames", "from", "to", "bytes", "was", "state"].map(str::to_owned)];
    let row = |path: &Path, frames: &Frames, bytes: u64, was: String, state: &str| {
        let time = |pick: fn((u64, u64)) -> u64| frames.times.map_or_else(|| "-".to_owned(), |t| rfc3339(pick(t)));
        [
            crate::run::name_of(path),
            Count(frames.count).to_string(),
            time(|times| times.0),
            time(|times| times.1),
            Size(bytes).to_string(),
            was,
            state.to_owned(),
        ]
    };
    for file in &day.files {
        rows.push(match file {
            Description::Partition(Partition { path, bytes, frames, tail, .. }) => {
                let state = match tail {
                    TailText::Sealed => "sealed",
                    TailText::Open => "open",
                    TailText::Torn { .. } => "open, its end torn",
                };
                row(path, frames, *bytes, "-".to_owned(), state)
            }
            Description::Archive(Archive { path, bytes, source_bytes, frames, .. }) => {
                row(path, frames, *bytes, Size(*source_bytes).to_string(), "sealed")
            }
            _ => continue,
        });
    }
    rows_of(out, &rows, &[1, 4, 5], "  ")?;
    if let Some(meta) = &day.meta {
        writeln!(out)?;
        tell(out, &serde_json::to_value(meta).map_err(io::Error::from)?, 1)?;
    }
    Ok(())
}

/// Rows with their columns under each other; the named ones to the right.
fn rows_of<const N: usize>(
    out: &mut dyn Write,
    rows: &[[String; N]],
    to_the_right: &[usize],
    pad: &str,
) -> io::Result<()> {
    table(out, &rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>(), |column| to_the_right.contains(&column), pad)
}

pub(crate) fn table(
    out: &mut dyn Write,
    rows: &[Vec<String>],
    to_the_right: impl Fn(usize) -> bool,
    pad: &str,
) -> io::Result<()> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = pad.to_owned();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let blanks = " ".repeat(width - cell.chars().count());
            let gap = if column == 0 { "" } else { "  " };
            line += &if to_the_right(column) { format!("{gap}{blanks}{cell}") } else { format!("{gap}{cell}{blanks}") };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A description as indented lines: the JSON without its punctuation, what it is first.
fn tell(out: &mut dyn Write, value: &Value, depth: usize) -> io::Result<()> {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            let first = ["kind", "path"];
            let head = first.iter().filter_map(|name| fields.get_key_value(*name));
            let rest = fields.iter().filter(|(name, _)| !first.contains(&name.as_str()));
            // Single values before those that need lines of their own.
            let (plain_ones, nested): (Vec<_>, Vec<_>) = head.chain(rest).partition(|(name, value)| match value {
                Value::Object(inner) => inner.is_empty(),
                Value::Array(items) => name.as_str() == "times" || !items.iter().any(|i| i.is_object() || i.is_array()),
                _ => true,
            });
            let width = plain_ones.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, value) in plain_ones {
                writeln!(out, "{pad}{name:<width$}  {}", plain(name, value))?;
            }
            for (name, value) in nested {
                writeln!(out, "{pad}{name}")?;
                tell(out, value, depth + 1)?;
            }
        }
        // Objects with the same fields: a table.
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let mut names: Vec<&String> = Vec::new();
            for item in items.iter().filter_map(Value::as_object) {
                names.extend(item.keys().filter(|name| !names.contains(name)).collect::<Vec<_>>());
            }
            let mut rows =
                vec![names.iter().map(|name| name.trim_end_matches("_ns").replace('_', " ")).collect::<Vec<_>>()];
            for item in items {
                rows.push(names.iter().map(|name| plain(name, &item[name.as_str()])).collect());
            }
            let number = |column: usize| {
                names.get(column).is_some_and(|name| {
                    items.iter().all(|item| !item[name.as_str()].is_string() && !item[name.as_str()].is_array())
                })
            };
            table(out, &rows, number, &pad)?;
        }
        Value::Array(items) => {
            for item in items {
                writeln!(out, "{pad}{}", plain("", item))?;
            }
        }
        other => writeln!(out, "{pad}{}", plain("", other))?,
    }
    Ok(())
}

fn plain(name: &str, value: &Value) -> String {
    let time = |n: &Value| match n.as_u64() {
        Some(0) => "-".to_owned(),
        Some(ns) => rfc3339(ns),
        None => n.to_string(),
    };
    match value {
        Value::String(text) if name == "path" && text.contains("/queue/") => {
            text.rsplit('/').next().unwrap_or(text).to_owned()
        }
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(n) if name == "created_ns" || name.ends_with("time_ns") || name.ends_with("_time") => {
            time(&Value::Number(n.clone()))
        }
        Value::Number(n) if name.ends_with("_age_ns") => {
            n.as_u64().map_or_else(|| n.to_string(), |ns| format!("{:.1} s", ns as f64 / 1e9))
        }
        Value::Array(items) if name == "times" && items.len() == 2 => {
            format!("{} to {}", time(&items[0]), time(&items[1]))
        }
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(|item| plain("", item)).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
