//! The quality of a root as one page: nothing is fetched, nothing runs but a sort of the tables, and all text from outside
//! is escaped. The page forbids its reader's browser the rest (`Content-Security-Policy`), should an escape ever be
//! forgotten.
//!
//! It is HTML and XML at once, so that any parser of either reads it. Its size is bounded by the number of days; lists
//! within a day are cut, and say so.

use super::{Quality, percent, state_of, time_of, valid_permille};
use crate::{
    plot::Escaped,
    run::{Count, Size},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chronicle::{
    etl::{
        oddity::Oddity,
        quality::{DayQuality, Rates},
    },
    storage::{
        meta::Source,
        root::{Date, Name, Stream, TimeNs},
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, Write},
};

/// Rows of a list that is not the days': gaps, stretches, sources.
const ROWS_MAX: usize = 2000;
/// Days that a calendar shows, the latest ones.
const CALENDAR_DAYS_MAX: usize = 400;
/// Problems of a day that are shown.
const PROBLEMS_MAX: usize = 20;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes the page.
pub(super) fn write(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let (style, script) = (hash(STYLE), hash(SCRIPT));
    let name = Escaped(&quality.root);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; \
         script-src 'sha256-{script}'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <title>Quality of {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Quality of {name}</h1>\n"
    )?;
    totals(out, quality)?;
    problems(out, quality)?;
    calendars(out, quality)?;
    days(out, quality)?;
    gaps(out, quality)?;
    stretches(out, quality)?;
    venues(out, quality)?;
    sources(out, quality)?;
    writeln!(out, "<script>{SCRIPT}</script>\n</body>\n</html>")
}

fn totals(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let t = &quality.totals;
    let count = |number: u64| Count(number).to_string();
    let mut tiles = vec![
        (count(t.days), "days of symbols".to_owned(), false),
        (count(t.sealed), "sealed".to_owned(), false),
        (count(t.events), "records".to_owned(), false),
        (count(t.gaps), "gaps".to_owned(), t.gaps > 0),
    ];
    if quality.read {
        tiles.push((time_of(t.invalid_ns), "without a valid book".to_owned(), t.invalid_ns > 0));
    }
    tiles.push((time_of(t.crossed_ns), "crossed".to_owned(), t.crossed_ns > 0));
    tiles.push((time_of(t.locked_ns), "locked".to_owned(), t.locked_ns > 0));
    tiles.push((count(t.unexpected), "odd".to_owned(), t.unexpected > 0));
    tiles.push((count(t.late), "late".to_owned(), t.late > 0));
    tiles.push((count(t.duplicates), "duplicates".to_owned(), t.duplicates > 0));
    tiles.extend(t.bytes.iter().map(|(tier, bytes)| (Size(*bytes).to_string(), tier.to_string(), false)));
    if t.damaged > 0 {
        tiles.push((count(t.damaged), "damaged days".to_owned(), true));
    }
    out.write_all(b"<ul class=\"tiles\">\n")?;
    for (number, what, notable) in tiles {
        let class = if notable { " class=\"notable\"" } else { "" };
        writeln!(out, "<li{class}><b>{number}</b> {what}</li>")?;
    }
    out.write_all(b"</ul>\n")?;
    if !quality.read {
        out.write_all(b"<p>The partitions were not read: no valid time, no rates.</p>\n")?;
    }
    if quality.days.is_empty() {
        out.write_all(b"<p>Nothing is refined yet; <code>chronicle refine</code> does it.</p>\n")?;
    }
    Ok(())
}

fn problems(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let of_days = quality.days.iter().flat_map(|day| day.problems.iter().take(PROBLEMS_MAX));
    let all: Vec<_> = quality.problems.iter().chain(of_days).collect();
    if all.is_empty() {
        return Ok(());
    }
    out.write_all(b"<h2>Damage</h2>\n<ul class=\"damage\">\n")?;
    for problem in all.iter().take(ROWS_MAX) {
        writeln!(out, "<li>{}</li>", Escaped(problem))?;
    }
    out.write_all(b"</ul>\n")?;
    cut(out, all.len())
}

/// Says what a list left out.
fn cut(out: &mut dyn Write, count: usize) -> io::Result<()> {
    match count.checked_sub(ROWS_MAX) {
        None | Some(0) => Ok(()),
        Some(left) => writeln!(out, "<p>… and {} more; <code>--json</code> has them.</p>", Count(left as u64)),
    }
}

/// What a day is in the calendar: a class for its colour, and a word.
fn grade(day: &DayQuality) -> (&'static str, String) {
    let share = valid_permille(day);
    let class = match (day.problems.is_empty(), share) {
        (false, _) => "damaged",
        (true, Some(1000)) if day.own_gaps() == 0 => "g5",
        (true, Some(995..)) => "g4",
        (true, Some(950..)) => "g3",
        (true, Some(800..)) => "g2",
        (true, Some(500..)) => "g1",
        (true, Some(_)) => "g0",
        (true, None) if day.book.is_none() && day.own_gaps() == 0 => "other",
        (true, None) => "g3",
    };
    let word = match (day.problems.is_empty(), share) {
        (false, _) => "!".to_owned(),
        (true, Some(share)) => (share / 10).to_string(),
        (true, None) => "·".to_owned(),
    };
    (class, word)
}

/// Where a day stands in the page.
fn anchor(day: &DayQuality) -> String {
    // Names are of a-z 0-9 . _ - alone.
    format!("{}/{}/{}", day.venue, day.symbol, day.date)
}

fn calendars(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let mut venues: BTreeMap<&Name, BTreeMap<&Name, BTreeMap<Date, &DayQuality>>> = BTreeMap::new();
    for day in &quality.days {
        venues.entry(&day.venue).or_default().entry(&day.symbol).or_default().insert(day.date, day);
    }
    if venues.is_empty() {
        return Ok(());
    }
    out.write_all(
        "<h2>Coverage</h2>\n<p>Percent of the time between a day's first and last event that has a valid book: \
         <span class=\"key g5\">100, no gap</span> <span class=\"key g4\">from 99.5</span> \
         <span class=\"key g3\">from 95</span> <span class=\"key g2\">from 80</span> \
         <span class=\"key g1\">from 50</span> <span class=\"key g0\">below</span> \
         <span class=\"key other\">· no book</span> <span class=\"key damaged\">! damaged</span>. \
         The bar in a cell is the part of the 24 hours that has events; a dashed frame is a day that is not \
         sealed.</p>\n"
            .as_bytes(),
    )?;
    for (venue, symbols) in venues {
        // Every day between the first and the last one: a day of which nothing is stored is seen to be missing.
        let stored: BTreeSet<Date> = symbols.values().flat_map(|days| days.keys().copied()).collect();
        let mut dates: Vec<Date> = Vec::new();
        let mut next = stored.last().copied();
        while let Some(date) = next.filter(|date| Some(date) >= stored.first() && dates.len() < CALENDAR_DAYS_MAX) {
            dates.push(date);
            next = date.previous();
        }
        dates.reverse();
        writeln!(
            out,
            "<div class=\"wide\"><table class=\"calendar\"><caption>{venue}</caption>\n<thead><tr><th></th>"
        )?;
        let mut month = None;
        for date in &dates {
            let (year, m, day) = date.civil();
            let text = if month == Some((year, m)) { format!("{day}") } else { format!("{year:04}-{m:02}-{day:02}") };
            month = Some((year, m));
            let class = if text.len() > 2 { " class=\"long\"" } else { "" };
            write!(out, "<th{class}><span>{text}</span></th>")?;
        }
        out.write_all(b"</tr></thead>\n<tbody>\n")?;
        for (symbol, days) in symbols {
            write!(out, "<tr><th>{symbol}</th>")?;
            for date in &dates {
                match days.get(date) {
                    Some(day) => cell(out, day)?,
                    None => out.write_all(b"<td></td>")?,
                }
            }
            out.write_all(b"</tr>\n")?;
        }
        out.write_all(b"</tbody></table></div>\n")?;
    }
    Ok(())
}

fn cell(out: &mut dyn Write, day: &DayQuality) -> io::Result<()> {
    let (class, word) = grade(day);
    let mut hint = format!(
        "{} {}: {}, {} records, {} gaps",
        day.symbol,
        day.date,
        state_of(day),
        Count(day.count("events")),
        day.own_gaps()
    );
    if let Some(share) = valid_permille(day) {
        let _ = write!(hint, ", {} valid", percent(share));
    }
    let open = if day.sealed { "" } else { " open" };
    // In thousandths of a day.
    let range = day.event_time.map(|range| {
        let of_day = |ns: u64| ns.saturating_sub(day.date.start_ns()) / 86_400_000_000;
        (of_day(range.first.0).min(1000), of_day(range.last.0).min(1000))
    });
    let (first, last) = range.unwrap_or((0, 0));
    let (left, width) = (first.min(950), last.saturating_sub(first).max(50));
    write!(
        out,
        "<td><a class=\"{class}{open}\" href=\"#{}\" title=\"{}\">{word}<svg xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 1000 1\" preserveAspectRatio=\"none\"><rect x=\"{left}\" width=\"{}\" height=\"1\"/></svg></a></td>",
        Escaped(&anchor(day)),
        Escaped(&hint),
        width.min(1000 - left)
    )
}

/// A table's head: what a column is, and whether it is numbers.
fn head(out: &mut dyn Write, columns: &[(&str, bool, &str)]) -> io::Result<()> {
    out.write_all(b"<thead><tr>")?;
    for (name, number, hint) in columns {
        let class = if *number { " class=\"n\"" } else { "" };
        write!(out, "<th{class} title=\"{}\">{name}</th>", Escaped(hint))?;
    }
    out.write_all(b"</tr></thead>\n<tbody>\n")
}

/// A cell with a number, which sorts by that.
fn number(out: &mut dyn Write, value: Option<u64>, text: impl std::fmt::Display, notable: bool) -> io::Result<()> {
    let class = if notable { "n notable" } else { "n" };
    match value {
        Some(value) => write!(out, "<td class=\"{class}\" data-v=\"{value}\">{text}</td>"),
        None => out.write_all(b"<td class=\"n\" data-v=\"-1\"></td>"),
    }
}

fn days(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    if quality.days.is_empty() {
        return Ok(());
    }
    out.write_all(b"<h2>Days</h2>\n<div class=\"wide\"><table class=\"sortable\">\n")?;
    head(
        out,
        &[
            ("venue", false, ""),
            ("symbol", false, "as the venue writes it, below"),
            ("date", false, "UTC"),
            ("state", false, "sealed: nothing is added any more"),
            ("events", false, "exchange time of the first and last one, UTC"),
            ("rate", false, "records of the venue over that time: book blue, trades green, quotes grey"),
            ("most/s", true, "the most records in one second, of all streams the busiest"),
            ("records", true, "of the venue, in the day's partitions"),
            ("valid", true, "share of the time between first and last event of the book"),
            ("not valid", true, "time without a valid book, h:mm:ss"),
            ("gaps", true, "that began on this day"),
            ("unused", true, "changes behind a gap, which no snapshot made useful again"),
            ("late", true, "records that came too late for this day"),
            ("dup", true, "records that were there before"),
            ("crossed", true, "time with the best bid above the best ask"),
            ("locked", true, "time with the best bid at the best ask"),
            ("odd", true, "what the book said that a book should not, and that this venue's has not by design"),
            ("tier", false, ""),
            ("bytes", true, "there"),
        ],
    )?;
    for day in &quality.days {
        row(out, day)?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

fn row(out: &mut dyn Write, day: &DayQuality) -> io::Result<()> {
    let state = state_of(day);
    write!(
        out,
        "<tr id=\"{}\"><td>{}</td><td>{}<small>{}</small></td><td>{}</td><td class=\"{state}\">{state}</td>",
        Escaped(&anchor(day)),
        day.venue,
        day.symbol,
        Escaped(day.raw_symbol.as_deref().unwrap_or("")),
        day.date
    )?;
    match day.event_time {
        Some(range) => write!(
            out,
            "<td data-v=\"{}\" title=\"{} to {}\">{}<small>{}</small></td>",
            range.first,
            range.first,
            range.last,
            clock(range.first),
            clock(range.last)
        )?,
        None => out.write_all(b"<td></td>")?,
    }
    match &day.rates {
        Some(rates) => sparkline(out, rates)?,
        None => out.write_all(b"<td></td>")?,
    }
    let peak = day.streams.iter().filter_map(|stream| stream.peak_per_second).max();
    number(out, peak, Count(peak.unwrap_or(0)), false)?;
    let events = day.count("events");
    number(out, Some(events), Count(events), false)?;
    let share = valid_permille(day);
    number(out, share, share.map_or_else(String::new, percent), share.is_some_and(|share| share < 1000))?;
    let book = day.book.as_ref();
    let invalid = book.map(|book| book.invalid_ns);
    number(out, invalid, time_of(invalid.unwrap_or(0)), invalid.is_some_and(|ns| ns > 0))?;
    number(out, Some(day.own_gaps()), Count(day.own_gaps()), day.own_gaps() > 0)?;
    let unused = day.count("not_applied");
    number(out, Some(unused), Count(unused), unused > 0)?;
    number(out, day.late, Count(day.late.unwrap_or(0)), day.late.is_some_and(|late| late > 0))?;
    let duplicates = day.count("duplicates");
    number(out, Some(duplicates), Count(duplicates), duplicates > 0)?;
    for (ns, events) in [(Oddity::CrossedNs, Oddity::Crossed), (Oddity::LockedNs, Oddity::Locked)] {
        let (ns, events) = (day.count(ns.as_str()), day.count(events.as_str()));
        number(out, Some(ns), time_of(ns), events > 0)?;
    }
    number(out, Some(day.unexpected()), Count(day.unexpected()), day.unexpected() > 0)?;
    let tiers: BTreeSet<String> = day.streams.iter().map(|stream| stream.tier.to_string()).collect();
    write!(out, "<td>{}</td>", tiers.into_iter().collect::<Vec<_>>().join(", "))?;
    number(out, Some(day.bytes()), Size(day.bytes()), false)?;
    out.write_all(b"</tr>\n")
}

/// The time of day, to the second.
fn clock(time: TimeNs) -> String {
    time.to_string()[11..19].to_owned()
}

/// Rates as lines, each stream against its own most.
fn sparkline(out: &mut dyn Write, rates: &Rates) -> io::Result<()> {
    const WIDTH: usize = 144;
    const HEIGHT: u64 = 26;
    let bins = rates.records.values().map(Vec::len).max().unwrap_or(0);
    let mut hint = format!("from {} in steps of {} s; most in a step:", rates.from, rates.bin_seconds);
    let mut lines = String::new();
    for (stream, class) in [(Stream::Quotes, "quotes"), (Stream::Trades, "trades"), (Stream::Book, "book")] {
        let Some(records) = rates.records.get(&stream) else { continue };
        let most = records.iter().copied().max().unwrap_or(0);
        let _ = write!(hint, " {stream} {}", Count(most));
        let mut path = String::new();
        for (bin, count) in records.iter().enumerate() {
            let x = (bin * 2 + 1) * WIDTH / (bins * 2).max(1);
            // In the middle of its step, and at its whole height for the most.
            let y = HEIGHT
                - 1
                - u128::from(*count).saturating_mul(u128::from(HEIGHT - 2)).checked_div(most.into()).unwrap_or(0)
                    as u64;
            let _ = write!(path, "{}{x} {y}", if path.is_empty() { "M" } else { "L" });
        }
        if records.len() == 1 {
            path.push_str("h3");
        }
        let _ = write!(lines, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    write!(
        out,
        "<td title=\"{}\"><svg class=\"spark\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\">{lines}</svg></td>",
        Escaped(&hint)
    )
}

fn gaps(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let all = quality.days.iter().flat_map(|day| day.gaps.iter().map(move |gap| (day, gap)));
    let count = all.clone().count();
    if count == 0 {
        return Ok(());
    }
    out.write_all(b"<h2>Gaps</h2>\n<div class=\"wide\"><table class=\"sortable\">\n")?;
    head(
        out,
        &[
            ("venue", false, ""),
            ("symbol", false, ""),
            ("seen at", false, "exchange time of the event that showed it, UTC"),
            ("after id", true, "the last one before it"),
            ("missing from", true, ""),
            ("to", true, ""),
            ("next id", true, "the first one behind it"),
            (
                "cause",
                false,
                "sequence: ids do not follow; late: they came too late; raw_lost: the raw stream lost them; book_lost: the book could not be carried on",
            ),
            ("", false, ""),
        ],
    )?;
    for (day, gap) in all.take(ROWS_MAX) {
        write!(out, "<tr><td>{}</td><td>{}</td><td>{}</td>", day.venue, day.symbol, gap.time)?;
        for id in [gap.after, gap.missing_from, gap.missing_to, gap.next] {
            number(out, Some(id), id, false)?;
        }
        let carried = if gap.carried { "carried from the day before, where it is counted" } else { "" };
        writeln!(out, "<td>{}</td><td>{carried}</td></tr>", Escaped(&gap.cause))?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    cut(out, count)
}

fn stretches(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let of_day = |day: &'_ DayQuality| day.book.as_ref().map_or(0, |book| book.stretches);
    let count: u64 = quality.days.iter().map(of_day).sum();
    if count == 0 {
        return Ok(());
    }
    out.write_all(b"<h2>Time without a valid book</h2>\n<div class=\"wide\"><table class=\"sortable\">\n")?;
    head(
        out,
        &[
            ("venue", false, ""),
            ("symbol", false, ""),
            ("from", false, "the last event before the gap, UTC"),
            ("to", false, "the snapshot that made it valid again, or the last event of the day"),
            ("length", true, ""),
        ],
    )?;
    let listed = quality
        .days
        .iter()
        .flat_map(|day| day.book.iter().flat_map(|book| &book.invalid).map(move |range| (day, range)));
    for (day, range) in listed.take(ROWS_MAX) {
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            day.venue, day.symbol, range.first, range.last
        )?;
        let ns = range.last.0.saturating_sub(range.first.0);
        number(out, Some(ns), time_of(ns), false)?;
        out.write_all(b"</tr>\n")?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    cut(out, usize::try_from(count).unwrap_or(usize::MAX))
}

fn venues(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    if quality.venues.is_empty() {
        return Ok(());
    }
    out.write_all(b"<h2>Venues</h2>\n<div class=\"wide\"><table>\n")?;
    head(
        out,
        &[
            ("venue", false, ""),
            ("waiting", true, "records that are in no partition yet"),
            (
                "absurd time",
                true,
                "records whose exchange time was not believed: more than 24 h ahead of their receipt",
            ),
            ("overdue", true, "records without exchange time that got their receive time"),
        ],
    )?;
    for venue in &quality.venues {
        write!(out, "<tr><td>{}</td>", venue.venue)?;
        for count in [venue.waiting, venue.absurd_time, venue.overdue] {
            number(out, Some(count), Count(count), false)?;
        }
        out.write_all(b"</tr>\n")?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

fn sources(out: &mut dyn Write, quality: &Quality) -> io::Result<()> {
    let mut sources: BTreeMap<&Source, Vec<&DayQuality>> = BTreeMap::new();
    for day in &quality.days {
        for source in &day.sources {
            sources.entry(source).or_default().push(day);
        }
    }
    if sources.is_empty() {
        return Ok(());
    }
    out.write_all(b"<h2>Sources</h2>\n<div class=\"wide\"><table class=\"sortable\">\n")?;
    head(
        out,
        &[
            ("file or feed", false, ""),
            ("SHA-256", false, "of the file's bytes"),
            ("days", true, "made from it"),
            ("of", false, ""),
        ],
    )?;
    let count = sources.len();
    for (source, days) in sources.into_iter().take(ROWS_MAX) {
        let (name, sha256) = match source {
            Source::File { name, sha256 } => (name, sha256.as_str()),
            Source::Feed { feed } => (feed, ""),
        };
        write!(out, "<tr><td>{}</td><td><code>{}</code></td>", Escaped(name), Escaped(sha256))?;
        number(out, Some(days.len() as u64), days.len(), false)?;
        let symbols: BTreeSet<String> = days.iter().map(|day| format!("{}/{}", day.venue, day.symbol)).collect();
        let shown: Vec<_> = symbols.iter().take(4).map(String::as_str).collect();
        let more = if symbols.len() > 4 { format!(" and {} more", symbols.len() - 4) } else { String::new() };
        writeln!(out, "<td>{}{more}</td></tr>", Escaped(&shown.join(", ")))?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    cut(out, count)
}
