//! What a root's days are worth: how much of each is covered by a valid book, what is missing, late, repeated or crossed,
//! and how fast it came.
//!
//! ```text
//! meta.json ─────▶ sources, counts, gaps, crossed time    what the refinery knew when it made the day
//! book.q    ─────▶ time with a valid book, and without    what the partition says, walked from end to end
//! *.q       ─────▶ bytes, tier, frames, rates
//! checkpoint ────▶ late records, which no day keeps        where it is there
//! ```
//!
//! [`days`] lists what a root has, [`look`] takes the measure of one; they are apart so that a caller can spread the
//! looking over as many threads as it likes. Everything here is a whole number, and the same root gives the same numbers.
//!
//! What it never does: it writes nothing, holds no lock, believes no file that does not pass its checksums, and stops at
//! no damage: a day that cannot be read to its end says so in [`DayQuality::problems`], beside what could be read.

use std::collections::BTreeMap;
use std::path::Path;

use chronicle_platform::{File, Open, Platform};
use chronicle_storage::meta::{Meta, Range, Source};
use chronicle_storage::reader::ArchiveReader;
use chronicle_storage::root::{Date, Name, PartitionId, Root, Stream, Tier, TimeNs};
use serde::Serialize;

use crate::error::Result;
use crate::oddity::Oddity;
use crate::query::record;
use crate::refine::last_report;
use crate::report::Report;
use crate::venue::rules;
use crate::walk::{Change, Walk};

/// Seconds of a day.
const DAY_SECONDS: usize = 86_400;
/// Bins that a day's rates have at most.
pub const BINS_MAX: usize = 96;
/// Widths of a bin, seconds: the first one that needs no more than [`BINS_MAX`] of them is taken.
const BIN_SECONDS: [usize; 11] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900];
/// Stretches without a valid book that are listed; all of them are counted and measured.
pub const STRETCHES_MAX: usize = 1000;

/// A day of a symbol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayId {
    /// Whose.
    pub venue: Name,
    /// About what.
    pub symbol: Name,
    /// Which day.
    pub date: Date,
}

/// What the look at a day found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayQuality {
    /// Whose.
    pub venue: Name,
    /// About what.
    pub symbol: Name,
    /// Which day.
    pub date: Date,
    /// The symbol as the venue writes it; none without `meta.json`, and so with the next ones.
    pub raw_symbol: Option<String>,
    /// The symbol's number in the symbol table.
    pub symbol_id: Option<u64>,
    /// What is done with late records.
    pub late_policy: Option<String>,
    /// Whether the day is final.
    pub sealed: bool,
    /// Where it came from.
    pub sources: Vec<Source>,
    /// Receive times of its records.
    pub ingest_time: Option<Range>,
    /// Exchange times of its records.
    pub event_time: Option<Range>,
    /// Numbers of records by stream and kind, as the refinery counted them.
    pub counts: BTreeMap<String, u64>,
    /// What is missing.
    pub gaps: Vec<GapQuality>,
    /// Records of this day that came too late for it, wherever they are now; none without a checkpoint.
    pub late: Option<u64>,
    /// Its files.
    pub streams: Vec<StreamQuality>,
    /// The book, if the day has one and it was read.
    pub book: Option<BookQuality>,
    /// Updates over the day, if it was read.
    pub rates: Option<Rates>,
    /// What is wrong with its files; empty if nothing is.
    pub problems: Vec<String>,
}

/// One gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapQuality {
    /// Last id before it.
    pub after: u64,
    /// First id behind it.
    pub next: u64,
    /// First missing id.
    pub missing_from: u64,
    /// Last missing id.
    pub missing_to: u64,
    /// Exchange time of the event that showed it.
    pub time: TimeNs,
    /// Why.
    pub cause: String,
    /// It began on an earlier day, where it is counted.
    pub carried: bool,
}

/// One file of a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamQuality {
    /// Which.
    pub stream: Stream,
    /// Where it lies.
    pub tier: Tier,
    /// Its length there.
    pub bytes: u64,
    /// Nothing is added any more.
    pub sealed: bool,
    /// Its frames, if it was read.
    pub frames: Option<u64>,
    /// The most records of the venue in one second, if it was read.
    pub peak_per_second: Option<u64>,
}

/// The time that a day's book had, ns of exchange time, between its first and its last event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BookQuality {
    /// First and last frame.
    pub time: Option<Range>,
    /// There was a valid book at some time.
    pub begun: bool,
    /// With a valid book.
    pub valid_ns: u64,
    /// Without one, after there was one or where it is known that ids are missing.
    pub invalid_ns: u64,
    /// Number of stretches without a valid book.
    pub stretches: u64,
    /// The first [`STRETCHES_MAX`] of them.
    pub invalid: Vec<Range>,
}

/// Records of the venue over a day, in bins of one width.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// The first bin's first moment.
    pub from: TimeNs,
    /// Width of a bin.
    pub bin_seconds: u64,
    /// Records per bin, by stream.
    pub records: BTreeMap<Stream, Vec<u64>>,
}

impl DayQuality {
    /// Records of a kind over all streams, as the refinery counted them: `events`, `duplicates`, `not_applied` …
    #[must_use]
    pub fn count(&self, kind: &str) -> u64 {
        let of_kind = |key: &str| key.split_once('.').is_some_and(|(_, found)| found == kind);
        self.counts.iter().filter(|(key, _)| of_kind(key)).map(|(_, number)| number).sum()
    }

    /// What its book said that a book should not, and that the venue's feed has not by design: a reason to look.
    #[must_use]
    pub fn unexpected(&self) -> u64 {
        let ordinary = rules(self.venue.as_str()).ordinary;
        let kinds = Oddity::ALL.into_iter().filter(|kind| !kind.is_time() && !ordinary.contains(kind));
        kinds.map(|kind| self.count(kind.as_str())).sum()
    }

    /// Gaps that began on this day.
    #[must_use]
    pub fn own_gaps(&self) -> u64 {
        self.gaps.iter().filter(|gap| !gap.carried).count() as u64
    }

    /// Length of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.bytes).sum()
    }
}

/// What all days together have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Number of days of symbols.
    pub days: u64,
    /// Of these, final.
    pub sealed: u64,
    /// Of these, with files that are damaged.
    pub damaged: u64,
    /// Records of venues in partitions.
    pub events: u64,
    /// Breaks of venues' sequences; one that is carried over midnight counts once.
    pub gaps: u64,
    /// Records that were there before.
    pub duplicates: u64,
    /// Deltas after a gap.
    pub not_applied: u64,
    /// Records that came too late; of the days of which it is known.
    pub late: u64,
    /// Time with a valid book, ns, over all symbols.
    pub valid_ns: u64,
    /// Time without one.
    pub invalid_ns: u64,
    /// Time with the best bid above the best ask.
    pub crossed_ns: u64,
    /// Time with the best bid at the best ask.
    pub locked_ns: u64,
    /// What books said that they should not; see [`DayQuality::unexpected`].
    pub unexpected: u64,
    /// Length of files by tier.
    pub bytes: BTreeMap<Tier, u64>,
}

impl Totals {
    /// Of these days.
    #[must_use]
    pub fn of(days: &[DayQuality]) -> Self {
        let mut totals = Self::default();
        for day in days {
            totals.days += 1;
            totals.sealed += u64::from(day.sealed);
            totals.damaged += u64::from(!day.problems.is_empty());
            totals.events += day.count("events");
            totals.gaps += day.own_gaps();
            totals.duplicates += day.count("duplicates");
            totals.not_applied += day.count("not_applied");
            totals.late += day.late.unwrap_or(0);
            totals.crossed_ns += day.count(Oddity::CrossedNs.as_str());
            totals.locked_ns += day.count(Oddity::LockedNs.as_str());
            totals.unexpected += day.unexpected();
            for stream in &day.streams {
                *totals.bytes.entry(stream.tier).or_default() += stream.bytes;
            }
            if let Some(book) = &day.book {
                totals.valid_ns += book.valid_ns;
                totals.invalid_ns += book.invalid_ns;
            }
        }
        totals
    }
}

/// What a venue's refinery knows beside its days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VenueQuality {
    /// Whose.
    pub venue: Name,
    /// Records that are in no partition yet.
    pub waiting: u64,
    /// Records whose exchange time was not believed.
    pub absurd_time: u64,
    /// Records without exchange time that got their receive time.
    pub overdue: u64,
}

/// What the refinery's last checkpoint of a venue says that no day keeps: it is put into the days of that venue, and the
/// rest given back; `None` where there is no checkpoint.
///
/// # Errors
///
/// The checkpoint is damaged, or cannot be read.
pub fn join_checkpoint<P: Platform>(
    platform: &P,
    root: &Root,
    venue: &Name,
    days: &mut [DayQuality],
) -> Result<Option<VenueQuality>> {
    let Some(report) = last_report(platform, root, venue)? else { return Ok(None) };
    let mut late: BTreeMap<(&Name, Date), u64> = BTreeMap::new();
    for partition in &report.partitions {
        *late.entry((&partition.symbol, partition.date)).or_default() += partition.counts.late;
    }
    for day in days.iter_mut().filter(|day| day.venue == *venue) {
        day.late = late.get(&(&day.symbol, day.date)).copied();
    }
    let Report { waiting, absurd_time, overdue, .. } = report;
    Ok(Some(VenueQuality { venue: venue.clone(), waiting, absurd_time, overdue }))
}

/// Days of a root, in order of venue, symbol and date.
///
/// # Errors
///
/// Trouble; of kind `NotFound` if the root is not there.
pub fn days<P: Platform>(platform: &P, root: &Root) -> Result<Vec<DayId>> {
    let archive = ArchiveReader::open(platform, root)?;
    let mut days = Vec::new();
    for venue in archive.venues()? {
        for symbol in archive.symbols(&venue)? {
            for date in archive.dates(&venue, &symbol)? {
                days.push(DayId { venue: venue.clone(), symbol: symbol.clone(), date });
            }
        }
    }
    Ok(days)
}

/// How to look at a day.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Read the partitions; else their names, lengths and `meta.json` alone.
    pub read: bool,
    /// Up to which length files that still grow are durable, see [`durable_lens`](crate::refine::durable_lens).
    pub durable: &'a BTreeMap<PartitionId, u64>,
}

/// Takes the measure of one day.
///
/// # Errors
///
/// Trouble of listing its directory. What is wrong with its files is in the answer.
pub fn look<P: Platform>(platform: &P, archive: &ArchiveReader<P>, day: &DayId, look: Look<'_>) -> Result<DayQuality> {
    let DayId { venue, symbol, date } = day;
    let mut quality = DayQuality {
        venue: venue.clone(),
        symbol: symbol.clone(),
        date: *date,
        raw_symbol: None,
        symbol_id: None,
        late_policy: None,
        sealed: false,
        sources: Vec::new(),
        ingest_time: None,
        event_time: None,
        counts: BTreeMap::new(),
        gaps: Vec::new(),
        late: None,
        streams: Vec::new(),
        book: None,
        rates: None,
        problems: Vec::new(),
    };
    let root = archive.root();
    let dirs = [Tier::Warm, Tier::Cold].map(|tier| root.day(tier, venue, symbol, *date));
    match dirs.iter().map(|dir| Meta::read(platform, dir)).find(|read| !read.as_ref().is_err_and(|e| e.is_not_found()))
    {
        Some(Ok(meta)) => quality.take_meta(meta),
        Some(Err(error)) => quality.problems.push(error.to_string()),
        None => quality.problems.push(format!("{}: no meta.json", dirs[0].display())),
    }
    let mut seconds = Seconds::of(*date);
    for stream in archive.streams(venue, symbol, *date)? {
        let id = PartitionId::new(venue.clone(), symbol.clone(), *date, stream);
        if let Err(error) = quality.take_stream(platform, archive, &id, look, &mut seconds) {
            quality.problems.push(error.to_string());
        }
    }
    if look.read {
        quality.rates = seconds.rates();
    }
    Ok(quality)
}

impl DayQuality {
    fn take_meta(&mut self, meta: Meta) {
        self.raw_symbol = Some(meta.raw_symbol);
        self.symbol_id = meta.symbol_id;
        self.late_policy = Some(meta.late_policy);
        self.sealed = meta.sealed;
        self.sources = meta.source;
        self.ingest_time = meta.ingest_time;
        self.event_time = meta.event_time_range;
        self.counts = meta.counts;
        let gap = |gap: chronicle_storage::meta::Gap| {
            let chronicle_storage::meta::Gap { after, next, missing_from, missing_to, time, cause, carried } = gap;
            GapQuality { after, next, missing_from, missing_to, time, cause, carried }
        };
        self.gaps = meta.completeness.gaps.into_iter().map(gap).collect();
    }

    fn take_stream<P: Platform>(
        &mut self,
        platform: &P,
        archive: &ArchiveReader<P>,
        id: &PartitionId,
        look: Look<'_>,
        seconds: &mut Seconds,
    ) -> Result<()> {
        let Some(mut partition) = archive.partition(id)? else { return Ok(()) };
        if let Some(len) = look.durable.get(id).filter(|_| !partition.is_sealed()) {
            partition.require(*len);
        }
        let bytes = platform.open(partition.path(), Open::Read)?.len()?;
        let (tier, sealed) = (partition.tier(), partition.is_sealed());
        let at = self.streams.len();
        self.streams.push(StreamQuality {
            stream: id.stream,
            tier,
            bytes,
            sealed,
            frames: None,
            peak_per_second: None,
        });
        if !look.read {
            return Ok(());
        }
        let mut frames = 0;
        let outcome = if id.stream == Stream::Book {
            let mut measure = Measure::new(id.date);
            let outcome = measure.all(Walk::of(partition), seconds, &mut frames);
            self.book = Some(measure.end());
            outcome
        } else {
            let path = partition.path().to_owned();
            count(&mut partition, &path, id.stream, seconds, &mut frames)
        };
        let stream = &mut self.streams[at];
        stream.frames = Some(frames);
        stream.peak_per_second = Some(seconds.peak(id.stream));
        outcome
    }
}

/// Counts the frames of a stream without book.
fn count<P: Platform>(
    partition: &mut chronicle_storage::reader::Partition<P>,
    path: &Path,
    stream: Stream,
    seconds: &mut Seconds,
    frames: &mut u64,
) -> Result<()> {
    while let Some(frame) = partition.next()? {
        // What it counts it has understood.
        record(&frame, path)?;
        *frames += 1;
        seconds.add(stream, frame.time_ns);
    }
    Ok(())
}

/// Adds up the time of a book.
struct Measure {
    date: Date,
    book: BookQuality,
    /// Valid, and last changed at this time.
    valid: Option<u64>,
    /// Not valid since.
    invalid_since: Option<u64>,
}

impl Measure {
    fn new(date: Date) -> Self {
        Measure { date, book: BookQuality::default(), valid: None, invalid_since: None }
    }

    fn all<P: Platform>(&mut self, mut walk: Walk<P>, seconds: &mut Seconds, frames: &mut u64) -> Result<()> {
        while let Some(step) = walk.next()? {
            *frames += 1;
            self.book.time = Some(Range::extended(self.book.time, step.time_ns));
            match step.change {
                Change::Snapshot { source } => {
                    let fresh = self.valid.is_none();
                    if source == chronicle_protocol::SnapshotSource::Venue {
                        seconds.add(Stream::Book, step.time_ns);
                    } else if !fresh {
                        continue;
                    }
                    self.changed(step.time_ns);
                }
                Change::Delta => {
                    seconds.add(Stream::Book, step.time_ns);
                    self.changed(step.time_ns);
                }
                Change::NotApplied => seconds.add(Stream::Book, step.time_ns),
                Change::Gap { valid_until, .. } => self.broke(valid_until),
                Change::Other => {}
            }
        }
        Ok(())
    }

    /// The book was valid up to now if it was so before, and is from now on.
    fn changed(&mut self, now: u64) {
        if let Some(since) = self.invalid_since.take() {
            self.stretch(since, now);
        }
        let before = self.valid.unwrap_or(now);
        let now = now.max(before);
        self.book.valid_ns += now - before;
        self.valid = Some(now);
        self.book.begun = true;
    }

    fn broke(&mut self, valid_until: Option<u64>) {
        // Carried into the day, it is not valid from its first moment on.
        let since = self.valid.take().or(valid_until).unwrap_or(self.date.start_ns());
        self.invalid_since.get_or_insert(since.max(self.date.start_ns()));
    }

    fn stretch(&mut self, from: u64, to: u64) {
        let to = to.max(from);
        self.book.invalid_ns += to - from;
        self.book.stretches += 1;
        if self.book.invalid.len() < STRETCHES_MAX {
            self.book.invalid.push(Range { first: TimeNs(from), last: TimeNs(to) });
        }
    }

    fn end(mut self) -> BookQuality {
        if let (Some(since), Some(time)) = (self.invalid_since.take(), self.book.time) {
            self.stretch(since, time.last.0);
        }
        self.book
    }
}

/// Records per second of a day, by stream. What is outside of the day, which is only what `late` has, counts to its edge.
struct Seconds {
    start_ns: u64,
    counts: BTreeMap<Stream, Vec<u32>>,
}

impl Seconds {
    fn of(date: Date) -> Self {
        Seconds { start_ns: date.start_ns(), counts: BTreeMap::new() }
    }

    fn add(&mut self, stream: Stream, time_ns: u64) {
        let second = time_ns.saturating_sub(self.start_ns) / 1_000_000_000;
        let second = usize::try_from(second).unwrap_or(usize::MAX).min(DAY_SECONDS - 1);
        let counts = self.counts.entry(stream).or_insert_with(|| vec![0; DAY_SECONDS]);
        counts[second] = counts[second].saturating_add(1);
    }

    fn peak(&self, stream: Stream) -> u64 {
        self.counts.get(&stream).and_then(|counts| counts.iter().max()).copied().unwrap_or(0).into()
    }

    /// The bins from the first second with a record to the last one.
    fn rates(&self) -> Option<Rates> {
        let busy = |counts: &Vec<u32>| {
            let first = counts.iter().position(|count| *count > 0)?;
            Some((first, counts.iter().rposition(|count| *count > 0)?))
        };
        let (first, last) = self.counts.values().filter_map(busy).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let bins = |width: usize| last / width + 1 - first / width;
        let width = BIN_SECONDS.into_iter().find(|width| bins(*width) <= BINS_MAX).unwrap_or(900);
        let from = first / width * width;
        let sum = |counts: &Vec<u32>| {
            let bin = |bin: usize| {
                let at = from + bin * width;
                counts[at..(at + width).min(DAY_SECONDS)].iter().map(|count| u64::from(*count)).sum()
            };
            (0..bins(width)).map(bin).collect()
        };
        Some(Rates {
            from: TimeNs(self.start_ns.saturating_add(from as u64 * 1_000_000_000)),
            bin_seconds: width as u64,
            records: self.counts.iter().map(|(stream, counts)| (*stream, sum(counts))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn date() -> Date {
        "2024-08-08".parse().unwrap()
    }

    #[test]
    fn a_stretch_lasts_from_the_last_event_to_the_next_snapshot() {
        let start = date().start_ns();
        let mut measure = Measure::new(date());
        // Carried into the day: not valid from its first moment on.
        measure.broke(None);
        measure.changed(start + 3 * S);
        measure.changed(start + 8 * S);
        measure.broke(Some(start + 8 * S));
        // A break in a stretch that is not valid is part of it.
        measure.broke(None);
        measure.changed(start + 10 * S);
        // Time that goes back adds nothing twice.
        measure.changed(start + 9 * S);
        measure.changed(start + 11 * S);
        let book = measure.end();
        assert_eq!((book.valid_ns, book.invalid_ns, book.stretches), (6 * S, 5 * S, 2));
        let range = |first, last| Range { first: TimeNs(start + first * S), last: TimeNs(start + last * S) };
        assert_eq!(book.invalid, [range(0, 3), range(8, 10)]);
    }

    #[test]
    fn a_day_that_ends_without_a_book_is_not_valid_up_to_its_last_frame() {
        let start = date().start_ns();
        let mut measure = Measure::new(date());
        measure.changed(start + S);
        measure.broke(Some(start + S));
        measure.book.time = Some(Range::extended(None, start + 5 * S));
        let book = measure.end();
        assert_eq!((book.valid_ns, book.invalid_ns, book.begun), (0, 4 * S, true));
    }

    #[test]
    fn stretches_beyond_the_list_are_measured_all_the_same() {
        let start = date().start_ns();
        let mut measure = Measure::new(date());
        for i in 0..3 * STRETCHES_MAX as u64 {
            measure.changed(start + 2 * i * S);
            measure.broke(Some(start + 2 * i * S));
        }
        let book = measure.end();
        assert_eq!(
            (book.stretches, book.invalid_ns),
            (3 * STRETCHES_MAX as u64 - 1, 2 * S * (3 * STRETCHES_MAX as u64 - 1))
        );
        assert_eq!(book.invalid.len(), STRETCHES_MAX);
    }

    #[test]
    fn rates_have_every_record_in_few_bins() {
        let start = date().start_ns();
        for (times, width) in [
            (vec![5, 5, 6], 1),
            (vec![0, 300], 5),
            (vec![0, 86_399], 900),
            // What is outside counts to the edge.
            (vec![3, 90_000], 900),
        ] {
            let mut seconds = Seconds::of(date());
            for second in &times {
                seconds.add(Stream::Trades, start + second * S);
            }
            let rates = seconds.rates().unwrap();
            let bins = &rates.records[&Stream::Trades];
            assert_eq!(rates.bin_seconds, width, "{times:?}");
            assert!(bins.len() <= BINS_MAX && bins.iter().sum::<u64>() == times.len() as u64, "{bins:?}");
            assert!(rates.from.0 <= start + times[0] * S && bins[0] > 0);
        }
        assert_eq!(Seconds::of(date()).rates(), None);
        let mut seconds = Seconds::of(date());
        (0..7).for_each(|_| seconds.add(Stream::Book, start));
        assert_eq!((seconds.peak(Stream::Book), seconds.peak(Stream::Trades)), (7, 0));
    }
}
