//! The demo's judge: a process of its own that has only the recording and the files on disk.
//!
//! It parses the recording's JSON with another parser than the feed's, builds its own book, and compares: every
//! message against the archive by kind, ids and exact text; every quote of the venue against the rebuilt book; every
//! minute snapshot against the replay; every checksum. It shares no state with the processes that it judges.

use super::{
    Place,
    recorded::Played,
    worker::{Ears, Mouth},
};
use crate::run::{Failure, Outcome};
use chronicle::{
    System,
    etl::{
        refine::{Options, refine},
        refinery::LatePolicy,
    },
    protocol::{Level, Record, Scale, SnapshotSource},
    storage::{
        archive::ColdFile,
        reader::ArchiveReader,
        root::{Name, PartitionId, Root, Stream, Tier},
        verify,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    time::Instant,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    played: Played,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(crate) struct Books {
    /// Quotes whose update id is that of an applied delta.
    pub(crate) checked: u64,
    pub(crate) equal: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(crate) struct Verified {
    pub(crate) files: u64,
    pub(crate) damaged: u64,
    /// Minute snapshots, and how many equal the replayed book.
    pub(crate) snapshots: u64,
    pub(crate) snapshots_equal: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(crate) struct Bytes {
    pub(crate) raw: u64,
    pub(crate) warm: u64,
    pub(crate) cold: u64,
}

/// The raw archive refined once more, beside what came out the first time.
#[derive(Serialize, Deserialize, Clone, Copy, Default)]
pub(crate) struct Again {
    pub(crate) events_per_s: f64,
    pub(crate) partitions: u64,
    /// Partitions that are the same bytes.
    pub(crate) same: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) refined_again: Again,
    pub(crate) replay: String,
    pub(crate) books: Books,
    pub(crate) verified: Verified,
    pub(crate) problems: Vec<String>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let _ears = Ears::open();
    let mouth = Mouth::open();
    let system = System;
    let root = args.place.root();
    let mut problems = Vec::new();

    let report = verify::verify(&system, &args.place.root)?;
    for problem in report.problems.iter().take(5) {
        problems.push(format!("verify: {problem}"));
    }
    let mut verified = Verified { files: report.files, damaged: report.problems.len() as u64, ..Verified::default() };

    let (replay, books) = match Archive::read(&system, &root, args.place.venue.name(), &mouth) {
        Ok(archive) => {
            verified.snapshots = archive.snapshots;
            verified.snapshots_equal = archive.snapshots_equal;
            if archive.snapshots != archive.snapshots_equal {
                problems.push(format!(
                    "{} of {} minute snapshots differ from the replayed book",
                    archive.snapshots - archive.snapshots_equal,
                    archive.snapshots
                ));
            }
            compare(&args.played.input, archive)?
        }
        Err(Failure::Problem(text) | Failure::Usage(text)) => (format!("unreadable: {text}"), Books::default()),
    };
    if replay != "identical" {
        problems.push(format!("replay: {replay}"));
    }
    if books.checked == 0 {
        problems.push("no quote of the venue could be compared with a rebuilt book".to_owned());
    }
    if books.checked != books.equal {
        problems.push(format!("books: {} of {} equal the venue's quotes", books.equal, books.checked));
    }
    let refined_again = match refine_again(&system, &root, &args.place) {
        Ok(again) => again,
        Err(Failure::Problem(text) | Failure::Usage(text)) => {
            problems.push(format!("the raw archive cannot be refined again: {text}"));
            Again::default()
        }
    };
    if refined_again.same != refined_again.partitions {
        problems.push(format!(
            "refined again, {} of {} partitions have the same bytes",
            refined_again.same, refined_again.partitions
        ));
    }
    mouth.tell(Told { refined_again, replay, books, verified, problems });
    Ok(())
}

/// Refines the raw archive into a root of its own and compares the partitions byte by byte with the archive's.
///
/// The first refinery read the queue live, in small pieces, and was killed; this one reads files in one go.
pub(super) fn refine_again(system: &System, root: &Root, place: &Place) -> Result<Again, Failure> {
    let other = Root::new(place.scratch.join("again"));
    copy(&root.cold.join("raw"), &other.cold.join("raw"))?;
    copy(&root.warm.join("raw"), &other.warm.join("raw"))?;
    let venue = Name::new(place.venue.name())?;
    let options = Options { late_policy: Some(LatePolicy::LateStream), seal: true, ..Options::default() };
    let began = Instant::now();
    let mut frames = 0;
    refine(system, &other, Some(&venue), &options, |progress| frames = progress.frames)?;
    let took = began.elapsed().as_secs_f64();

    let archive = ArchiveReader::open(system, root)?;
    let mut again = Again { events_per_s: frames as f64 / took.max(1e-9), ..Again::default() };
    let mut whole = Vec::new();
    for symbol in archive.symbols(&venue)? {
        for date in archive.dates(&venue, &symbol)? {
            for stream in archive.streams(&venue, &symbol, date)? {
                let id = PartitionId::new(venue.clone(), symbol.clone(), date, stream);
                again.partitions += 1;
                ColdFile::open(system, &root.partition(Tier::Cold, &id))?.read_all(1, &mut whole)?;
                let theirs = std::fs::read(other.partition(Tier::Warm, &id)).unwrap_or_default();
                again.same += u64::from(whole == theirs);
            }
        }
    }
    Ok(again)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target)?;
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
    }
    Ok(())
}

/// Everything that the archive gives back, in the words of the recording.
#[derive(Default)]
pub(super) struct Archive {
    /// By kind: (ingest time, text) of every record, in the archive's order.
    pub(super) records: BTreeMap<&'static str, Vec<(u64, String)>>,
    /// Messages kept verbatim, with how often.
    pub(super) opaque: HashMap<String, u64>,
    /// Best levels after each applied delta, by (symbol, id), as the venue writes them.
    best: HashMap<(String, u64), [String; 4]>,
    pub(super) snapshots: u64,
    pub(super) snapshots_equal: u64,
}

/// `not applied` in a clean frame's flags: the record is kept, the book was not changed by it.
pub(super) const NOT_APPLIED: u16 = chronicle::etl::refinery::NOT_APPLIED;

impl Archive {
    pub(super) fn read(system: &System, root: &Root, venue: &str, mouth: &Mouth) -> Result<Self, Failure> {
        let archive = ArchiveReader::open(system, root)?;
        let venue = Name::new(venue)?;
        let mut all = Archive::default();
        let mut payload = Vec::new();
        let mut done = 0;
        for symbol in archive.symbols(&venue)? {
            let mut book = Replay::default();
            for date in archive.dates(&venue, &symbol)? {
                for stream in Stream::ALL {
                    let id = PartitionId::new(venue.clone(), symbol.clone(), date, stream);
                    let Some(mut partition) = archive.partition(&id)? else { continue };
                    while let Some(frame) = partition.next()? {
                        payload.resize(frame.payload.len(), 0);
                        frame.payload.copy_to(&mut payload);
                        let record = Record::parse(frame.type_id, &payload)?;
                        if stream == Stream::Book {
                            all.replay(&mut book, &record, frame.flags & NOT_APPLIED == 0);
                        }
                        all.take(&record);
                        done += 1;
                        mouth.progress(done);
                    }
                }
            }
        }
        for records in all.records.values_mut() {
            // Days of one kind follow each other in the archive; the recording mixes symbols and days by arrival.
            records.sort_by_key(|(ingest_ns, _)| *ingest_ns);
        }
        Ok(all)
    }

    /// Puts records in an order that does not depend on how they lie.
    pub(super) fn sort(&mut self) {
        for records in self.records.values_mut() {
            records.sort();
        }
    }

    pub(super) fn take(&mut self, record: &Record<'_>) {
        let head = record.head();
        let (kind, text) = match record {
            Record::BookDelta(d) => {
                let mut text = format!(
                    "{} {} {} {} {} {}",
                    d.symbol,
                    d.first_id,
                    d.last_id,
                    d.prev_id.map_or_else(String::new, |id| id.to_string()),
                    head.exchange_ns,
                    head.transact_ns
                );
                levels(&mut text, d.bids, head.price, head.qty);
                levels(&mut text, d.asks, head.price, head.qty);
                ("depthUpdate", text)
            }
            Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => {
                let mut text = format!("{} {} {}", s.last_id, head.exchange_ns, head.transact_ns);
                levels(&mut text, s.bids, head.price, head.qty);
                levels(&mut text, s.asks, head.price, head.qty);
                ("snapshot", text)
            }
            Record::Trade(t) => (
                "trade",
                format!(
                    "{} {} {} {} {} {} {} {} {}",
                    t.symbol,
                    t.trade_id,
                    head.price.decimal(t.price),
                    head.qty.decimal(t.qty),
                    head.exchange_ns,
                    head.transact_ns,
                    t.buyer_is_maker,
                    t.order_type.map_or("", |kind| kind.as_str()),
                    t.legacy_m.map_or("", |m| if m { "true" } else { "false" })
                ),
            ),
            Record::Quote(q) => (
                "bookTicker",
                format!(
                    "{} {} {} {} {} {} {} {}",
                    q.symbol,
                    q.update_id,
                    head.price.decimal(q.bid_price),
                    head.qty.decimal(q.bid_qty),
                    head.price.decimal(q.ask_price),
                    head.qty.decimal(q.ask_qty),
                    head.exchange_ns,
                    head.transact_ns
                ),
            ),
            Record::Opaque(o) => {
                *self.opaque.entry(String::from_utf8_lossy(o.bytes).into_owned()).or_default() += 1;
                return;
            }
            _ => return,
        };
        self.records.entry(kind).or_default().push((head.ingest_ns, text));
    }

    fn replay(&mut self, book: &mut Replay, record: &Record<'_>, applied: bool) {
        let head = record.head();
        match record {
            Record::BookSnapshot(s) if s.source == SnapshotSource::Venue && applied => {
                book.clear();
                book.apply(head.price, head.qty, s.bids, s.asks);
            }
            Record::BookSnapshot(s) if s.source == SnapshotSource::Refinery => {
                let mut other = Replay::default();
                other.apply(head.price, head.qty, s.bids, s.asks);
                self.snapshots += 1;
                self.snapshots_equal += u64::from(other == *book);
            }
            Record::BookDelta(d) if applied => {
                book.apply(head.price, head.qty, d.bids, d.asks);
                if let Some(best) = book.best() {
                    self.best.insert((d.symbol.to_owned(), d.last_id), best);
                }
            }
            _ => {}
        }
    }
}

/// A book as simple as it can be: prices in 1e-18, levels as the venue's text.
#[derive(Default, PartialEq)]
pub(super) struct Replay {
    bids: BTreeMap<i128, (String, String)>,
    asks: BTreeMap<i128, (String, String)>,
}

impl Replay {
    pub(super) fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    pub(super) fn apply(&mut self, price: Scale, qty: Scale, bids: &[Level], asks: &[Level]) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for level in levels {
                let decimal = price.decimal(level.price());
                let key = scaled(&decimal.to_string());
                if level.qty() == 0 {
                    side.remove(&key);
                } else {
                    side.insert(key, (decimal.to_string(), qty.decimal(level.qty()).to_string()));
                }
            }
        }
    }

    /// The first level, from the best, in which it is not the book that a venue tells.
    pub(super) fn difference(&self, bids: &[(String, String)], asks: &[(String, String)]) -> Option<String> {
        let ours = [self.bids.values().rev().collect::<Vec<_>>(), self.asks.values().collect()];
        for ((side, ours), theirs) in ["bid", "ask"].into_iter().zip(ours).zip([bids, asks]) {
            for at in 0..ours.len().max(theirs.len()) {
                let (our, their) = (ours.get(at).copied(), theirs.get(at));
                if our != their {
                    let text = |level: Option<&(String, String)>| {
                        level.map_or("nothing".to_owned(), |(price, qty)| format!("{qty} at {price}"))
                    };
                    return Some(format!("{side} {}: ours is {}, the venue's {}", at + 1, text(our), text(their)));
                }
            }
        }
        None
    }

    fn best(&self) -> Option<[String; 4]> {
        let (_, bid) = self.bids.last_key_value()?;
        let (_, ask) = self.asks.first_key_value()?;
        Some([bid.0.clone(), bid.1.clone(), ask.0.clone(), ask.1.clone()])
    }
}

/// A decimal's text in units of 1e-18.
pub(super) fn scaled(text: &str) -> i128 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let mut digits = String::with_capacity(40);
    let _ = write!(digits, "{whole}{part:0<18}");
    digits.parse().unwrap_or_default()
}

fn levels(text: &mut String, levels: &[Level], price: Scale, qty: Scale) {
    text.push_str(" |");
    for level in levels {
        let _ = write!(text, " {} {}", price.decimal(level.price()), qty.decimal(level.qty()));
    }
}

/// Goes through the recording line by line.
fn compare(input: &Path, mut archive: Archive) -> Result<(String, Books), Failure> {
    let mut file = BufReader::new(File::open(input)?);
    let gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read> =
        if gzip { Box::new(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut lines = BufReader::new(reader);
    let mut books = Books::default();
    let mut expected: BTreeMap<&'static str, Vec<(u64, u64, String)>> = BTreeMap::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        // A cut file: what is whole was imported, and the last line is not.
        let read = lines.read_until(b'\n', &mut line);
        if !matches!(read, Ok(n) if n > 0) || (gzip && line.last() != Some(&b'\n')) {
            break;
        }
        let Some((ingest_ns, json)) = split(&line) else { continue };
        let Ok(value) = serde_json::from_str::<Value>(json) else { continue };
        if let Some(count) = archive.opaque.get_mut(json).filter(|count| **count > 0) {
            *count -= 1;
            continue;
        }
        let Some((kind, text)) = told_by(&value) else {
            return Ok((format!("line {number}: an unknown message is not in the archive"), books));
        };
        if kind == "bookTicker" {
            let data = value.get("data").unwrap_or(&value);
            let id = data["u"].as_u64().unwrap_or_default();
            let symbol = data["s"].as_str().unwrap_or_default().to_owned();
            if let Some(best) = archive.best.get(&(symbol, id)) {
                books.checked += 1;
                let quoted = ["b", "B", "a", "A"].map(|key| data[key].as_str().unwrap_or_default());
                books.equal += u64::from(best.iter().zip(quoted).all(|(ours, theirs)| ours == theirs));
            }
        }
        expected.entry(kind).or_default().push((ingest_ns, number, text));
    }
    if let Some((text, _)) = archive.opaque.iter().find(|(_, count)| **count > 0) {
        let text: String = text.chars().take(80).collect();
        return Ok((format!("the archive holds an opaque record that the recording has not: {text}"), books));
    }
    for (kind, expected) in &mut expected {
        expected.sort_by_key(|(ingest_ns, _, _)| *ingest_ns);
        let found = archive.records.remove(kind).unwrap_or_default();
        for (i, (_, number, text)) in expected.iter().enumerate() {
            match found.get(i) {
                Some((_, other)) if other == text => {}
                Some(_) => return Ok((format!("line {number}: the archive's {kind} number {} differs", i + 1), books)),
                None => return Ok((format!("line {number}: {kind} number {} is not in the archive", i + 1), books)),
            }
        }
        if found.len() > expected.len() {
            return Ok((format!("{} {kind} records more than in the recording", found.len() - expected.len()), books));
        }
    }
    if let Some((kind, found)) = archive.records.iter().find(|(_, found)| !found.is_empty()) {
        return Ok((format!("{} {kind} records that the recording has not", found.len()), books));
    }
    Ok(("identical".to_owned(), books))
}

fn split(line: &[u8]) -> Option<(u64, &str)> {
    let text = std::str::from_utf8(line).ok()?.trim_end_matches(['\n', '\r']);
    let (time, json) = text.split_once(' ')?;
    Some((time.parse().ok()?, json))
}

/// A message in the words of [`Archive::take`], straight from its JSON.
fn told_by(value: &Value) -> Option<(&'static str, String)> {
    let ms = |value: &Value| value.as_u64().map_or(0, |ms| ms * 1_000_000);
    let sides = |text: &mut String, bids: &Value, asks: &Value| {
        for side in [bids, asks] {
            text.push_str(" |");
            for level in side.as_array().into_iter().flatten() {
                let part = |i: usize| level[i].as_str().unwrap_or("?");
                let _ = write!(text, " {} {}", part(0), part(1));
            }
        }
    };
    if value.get("lastUpdateId").is_some() {
        let mut text = format!("{} {} {}", value["lastUpdateId"], ms(&value["E"]), ms(&value["T"]));
        sides(&mut text, &value["bids"], &value["asks"]);
        return Some(("snapshot", text));
    }
    let data = value.get("data")?;
    let symbol = data["s"].as_str()?;
    let stream = value["stream"].as_str()?;
    match data["e"].as_str() {
        Some("depthUpdate") => {
            let prev = data.get("pu").map_or_else(String::new, Value::to_string);
            let mut text = format!("{symbol} {} {} {prev} {} {}", data["U"], data["u"], ms(&data["E"]), ms(&data["T"]));
            sides(&mut text, &data["b"], &data["a"]);
            Some(("depthUpdate", text))
        }
        Some("trade") => Some((
            "trade",
            format!(
                "{symbol} {} {} {} {} {} {} {} {}",
                data["t"],
                data["p"].as_str()?,
                data["q"].as_str()?,
                ms(&data["E"]),
                ms(&data["T"]),
                data["m"],
                data.get("X").and_then(Value::as_str).unwrap_or(""),
                data.get("M").map_or_else(String::new, Value::to_string)
            ),
        )),
        Some("bookTicker") | None if stream.ends_with("@bookTicker") => {
            let part = |key: &str| data[key].as_str().unwrap_or("?");
            Some((
                "bookTicker",
                format!(
                    "{symbol} {} {} {} {} {} {} {}",
                    data["u"],
                    part("b"),
                    part("B"),
                    part("a"),
                    part("A"),
                    ms(&data["E"]),
                    ms(&data["T"])
                ),
            ))
        }
        _ => None,
    }
}
