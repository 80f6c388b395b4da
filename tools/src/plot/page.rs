//! A day as one page: panels under each other over one axis of time.
//!
//! ```text
//! title, what there is of it                                            legend
//! price    ┊ best bid, best ask, mid; trades as dots              ┊
//! depth    ┊ time x price, the more quantity the stronger         ┊
//! spread   ┊ its least and greatest in each column, and its last  ┊
//! book     ┊ valid, not valid, gaps                               ┊
//!            00:00      06:00      12:00      18:00      UTC
//! ```
//!
//! Stretches without a valid book are shaded through all panels.

use super::{
    What,
    axis::{numbers, times, to_the_ms},
    canvas::{Align, Canvas, Frame, Image, Ink, Size},
    sample::{Bin, Sample, Span},
};
use crate::run::Count;
use chronicle::storage::root::{Stream, TimeNs};
use std::io;

/// Columns of the panels, one for each bin.
pub(super) const COLUMNS: usize = 1080;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 28.0;
pub(super) const WIDTH: f64 = LEFT + COLUMNS as f64 + RIGHT;
const TOP: f64 = 84.0;
const BETWEEN: f64 = 38.0;
const BOTTOM: f64 = 44.0;
/// Rows of the heat map for each unit of its height.
const CELL: f64 = 2.0;

/// A panel's height.
fn height_of(what: What) -> f64 {
    match what {
        What::Price => 300.0,
        What::Depth => 280.0,
        What::Spread => 120.0,
        What::Gaps => 26.0,
    }
}

/// The height of a page with these panels.
pub(super) fn height(panels: &[What]) -> f64 {
    TOP + panels.iter().map(|what| height_of(*what) + BETWEEN).sum::<f64>() - BETWEEN + BOTTOM
}

/// What a page says in words.
pub(super) struct Words {
    pub(super) title: String,
    pub(super) description: String,
}

/// Draws the page.
pub(super) fn draw(canvas: &mut dyn Canvas, sample: &Sample, panels: &[What], words: &Words) -> io::Result<()> {
    let page = Page { sample };
    canvas.fill(Frame { x: 0.0, y: 0.0, width: WIDTH, height: height(panels) }, Ink::Paper, 1.0);
    canvas.text((LEFT, 30.0), Align::Left, Size::Title, Ink::Text, &words.title);
    canvas.text((LEFT, 50.0), Align::Left, Size::Normal, Ink::Faint, &words.description);
    let mut y = TOP;
    let mut last = Frame { x: LEFT, y, width: COLUMNS as f64, height: 0.0 };
    for what in panels {
        let frame = Frame { x: LEFT, y, width: COLUMNS as f64, height: height_of(*what) };
        canvas.fill(frame, Ink::Panel, 1.0);
        match what {
            What::Price => page.price(canvas, frame),
            What::Depth => page.depth(canvas, frame)?,
            What::Spread => page.spread(canvas, frame),
            What::Gaps => page.gaps(canvas, frame),
        }
        last = frame;
        y += frame.height + BETWEEN;
    }
    let all = Frame { x: LEFT, y: TOP, width: COLUMNS as f64, height: last.bottom() - TOP };
    for (time, text) in times(sample.from, sample.to, 10) {
        let x = page.x(time);
        canvas.fill(Frame { x, y: last.bottom(), width: 1.0, height: 5.0 }, Ink::Faint, 1.0);
        canvas.text((x, last.bottom() + 19.0), Align::Centre, Size::Normal, Ink::Faint, &text);
    }
    canvas.text((LEFT - 10.0, last.bottom() + 19.0), Align::Right, Size::Normal, Ink::Faint, "UTC");
    page.marks(canvas, all);
    Ok(())
}

/// What a legend shows beside a word.
#[derive(Clone, Copy)]
enum Key {
    Line,
    Dot,
    Area(f64),
}

struct Page<'a> {
    sample: &'a Sample,
}

/// From numbers to heights.
#[derive(Clone, Copy)]
struct Scale {
    frame: Frame,
    from: f64,
    to: f64,
}

impl Scale {
    /// With some room above and below; a single number gets some too.
    fn around(frame: Frame, (from, to): (f64, f64), room: f64) -> Self {
        let pad = ((to - from) * room).max(to.abs().max(from.abs()) * 1e-6).max(f64::MIN_POSITIVE);
        Scale { frame, from: from - pad, to: to + pad }
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from);
        self.frame.bottom() - share.clamp(0.0, 1.0) * self.frame.height
    }

    fn ticks(&self, canvas: &mut dyn Canvas, count: usize) {
        let (ticks, decimals) = numbers(self.from, self.to, count);
        for tick in ticks {
            let y = self.y(tick);
            canvas.fill(Frame { x: self.frame.x, y: y - 0.5, width: self.frame.width, height: 1.0 }, Ink::Grid, 1.0);
            let text = grouped(&format!("{tick:.decimals$}"));
            canvas.text((self.frame.x - 10.0, y + 4.0), Align::Right, Size::Normal, Ink::Faint, &text);
        }
    }
}

/// A number's text with thousands apart.
fn grouped(text: &str) -> String {
    let digits = text.find('.').unwrap_or(text.len());
    let mut grouped = String::new();
    for (at, c) in text.chars().enumerate() {
        let left = digits.saturating_sub(at);
        if at > 0 && at < digits && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped
}

impl Page<'_> {
    fn x(&self, time_ns: u64) -> f64 {
        let Sample { from, to, .. } = self.sample;
        let share = time_ns.saturating_sub(*from) as f64 / to.saturating_sub(*from).max(1) as f64;
        LEFT + share.min(1.0) * COLUMNS as f64
    }

    /// The middle of a bin.
    fn column(bin: usize) -> f64 {
        LEFT + bin as f64 + 0.5
    }

    /// What a panel is, and what means what in it.
    fn caption(&self, canvas: &mut dyn Canvas, frame: Frame, caption: &str, keys: &[(Key, Ink, &str)]) {
        canvas.text((frame.x, frame.y - 9.0), Align::Left, Size::Normal, Ink::Text, caption);
        // As wide as the PNG's glyphs; a browser's are narrower.
        let width = |text: &str| text.chars().count() as f64 * 7.0 + 34.0;
        let mut x = frame.right() + 14.0 - keys.iter().map(|(_, _, text)| width(text)).sum::<f64>();
        for (key, ink, text) in keys {
            let y = frame.y - 13.0;
            match key {
                Key::Line => canvas.fill(Frame { x, y: y - 1.0, width: 14.0, height: 2.0 }, *ink, 1.0),
                Key::Dot => canvas.dots(&[(x + 7.0, y)], *ink, 5.0),
                Key::Area(opacity) => canvas.fill(Frame { x, y: y - 5.0, width: 14.0, height: 10.0 }, *ink, *opacity),
            }
            canvas.text((x + 20.0, frame.y - 9.0), Align::Left, Size::Normal, Ink::Faint, text);
            x += width(text);
        }
    }

    /// Where the book is not valid.
    fn shade(&self, canvas: &mut dyn Canvas, frame: Frame, opacity: f64) {
        for (first, last) in stretches(&self.sample.bins, |bin| bin.invalid) {
            let width = (last + 1 - first) as f64;
            canvas.fill(Frame { x: LEFT + first as f64, width, ..frame }, Ink::Invalid, opacity);
        }
    }

    /// A line that holds its value until the next; broken where there is none.
    fn line(
        canvas: &mut dyn Canvas,
        sample: &Sample,
        scale: Scale,
        ink: Ink,
        width: f64,
        of: impl Fn(&Bin) -> Option<Span>,
    ) {
        for (first, last) in stretches(&sample.bins, |bin| of(bin).is_some()) {
            let mut corners: Vec<(f64, f64)> = Vec::new();
            for (index, bin) in sample.bins.iter().enumerate().take(last + 1).skip(first) {
                let Some(span) = of(bin) else { continue };
                let x = Self::column(index);
                if let Some((_, y)) = corners.last().copied() {
                    corners.push((x, y));
                }
                for value in [span.first, span.min, span.max, span.last] {
                    corners.push((x, scale.y(value)));
                }
            }
            if corners.len() < 8 {
                // One column alone: what is a point is seen too.
                corners.push((Self::column(last) + 0.5, corners.last().map_or(0.0, |corner| corner.1)));
            }
            corners.dedup();
            canvas.steps(&without_straight(&corners), ink, width);
        }
    }

    fn price(&self, canvas: &mut dyn Canvas, frame: Frame) {
        let of = match self.sample.source {
            Stream::Quotes => "price (best quotes: no book is stored)",
            _ => "price (quote currency)",
        };
        let mut keys = vec![
            (Key::Line, Ink::Bid, "best bid"),
            (Key::Line, Ink::Ask, "best ask"),
            (Key::Line, Ink::Mid, "mid"),
            (Key::Dot, Ink::Bought, "bought"),
            (Key::Dot, Ink::Sold, "sold"),
            (Key::Area(0.25), Ink::Invalid, "book not valid"),
        ];
        if self.sample.bins.iter().any(|bin| bin.traded.is_some()) {
            keys.insert(5, (Key::Dot, Ink::Faint, "traded"));
        }
        self.caption(canvas, frame, of, &keys);
        self.shade(canvas, frame, 0.16);
        let Some(range) = self.sample.price_range() else {
            return nothing(canvas, frame);
        };
        let scale = Scale::around(frame, range, 0.05);
        scale.ticks(canvas, 7);
        let sample = self.sample;
        Self::line(canvas, sample, scale, Ink::Mid, 1.0, |bin| bin.mid);
        // Where one pixel holds both, the bid shows around the ask.
        Self::line(canvas, sample, scale, Ink::Bid, 2.4, |bin| bin.bid);
        Self::line(canvas, sample, scale, Ink::Ask, 1.0, |bin| bin.ask);
        for ink in [Ink::Faint, Ink::Bought, Ink::Sold] {
            let of = |bin: &Bin| match ink {
                Ink::Bought => bin.bought,
                Ink::Sold => bin.sold,
                _ => bin.traded,
            };
            let mut dots = Vec::new();
            for (index, span) in sample.bins.iter().enumerate().filter_map(|(index, bin)| Some((index, of(bin)?))) {
                dots.push((Self::column(index), scale.y(span.min)));
                dots.push((Self::column(index), scale.y(span.max)));
            }
            dots.dedup();
            canvas.dots(&dots, ink, 2.2);
        }
    }

    fn spread(&self, canvas: &mut dyn Canvas, frame: Frame) {
        let keys = [(Key::Line, Ink::Mid, "best ask less best bid, extremes of each column")];
        self.caption(canvas, frame, "spread (quote currency)", &keys);
        self.shade(canvas, frame, 0.16);
        let Some((least, most)) = self.sample.range(|bin| [bin.spread, None, None, None, None]) else {
            return nothing(canvas, frame);
        };
        let scale = Scale::around(frame, (least.min(0.0), most), 0.06);
        scale.ticks(canvas, 4);
        Self::line(canvas, self.sample, scale, Ink::Mid, 1.0, |bin| bin.spread);
        if least < 0.0 {
            // Crossed: what is below nothing.
            let y = scale.y(0.0);
            canvas.fill(Frame { y, height: frame.bottom() - y, ..frame }, Ink::Ask, 0.14);
            canvas.text((frame.x + 6.0, frame.bottom() - 6.0), Align::Left, Size::Normal, Ink::Ask, "crossed");
        }
    }

    fn gaps(&self, canvas: &mut dyn Canvas, frame: Frame) {
        let keys = [
            (Key::Area(1.0), Ink::Valid, "valid"),
            (Key::Area(1.0), Ink::Invalid, "not valid"),
            (Key::Area(1.0), Ink::Grid, "no book yet"),
        ];
        let gaps = counted(self.sample.gap_count, "gap");
        let caption = format!("book: {gaps}, {} without a valid book", duration(self.sample.invalid_ns));
        self.caption(canvas, frame, &caption, &keys);
        canvas.fill(frame, Ink::Grid, 1.0);
        let has_book = |bin: &Bin| bin.bid.is_some() || bin.ask.is_some();
        for (first, last) in stretches(&self.sample.bins, has_book) {
            let width = (last + 1 - first) as f64;
            canvas.fill(Frame { x: LEFT + first as f64, width, ..frame }, Ink::Valid, 1.0);
        }
        self.shade(canvas, frame, 1.0);
    }

    /// Gaps, through all panels, with their ids where there are pointers.
    fn marks(&self, canvas: &mut dyn Canvas, all: Frame) {
        for (index, _) in self.sample.bins.iter().enumerate().filter(|(_, bin)| bin.gaps > 0) {
            canvas.fill(Frame { x: Self::column(index) - 0.5, width: 1.0, ..all }, Ink::Invalid, 0.8);
        }
        for gap in &self.sample.gaps {
            let x = (self.x(gap.time_ns) - 3.0).max(all.x);
            let (time, cause) = (TimeNs(gap.time_ns), gap.cause);
            let text = format!("gap seen at {time}: ids {} to {} missing ({cause})", gap.missing_from, gap.missing_to);
            canvas.hint(Frame { x, width: 6.0, ..all }, &text);
        }
    }

    fn depth(&self, canvas: &mut dyn Canvas, frame: Frame) -> io::Result<()> {
        let best = self.sample.range(|bin| [bin.bid, bin.ask, None, None, None]);
        let (Some(best), true) = (best, self.sample.depths.iter().any(Option::is_some)) else {
            self.caption(canvas, frame, "depth", &[]);
            self.shade(canvas, frame, 0.16);
            nothing(canvas, frame);
            return Ok(());
        };
        let scale = Scale::around(frame, best, 0.4);
        let rows = (frame.height / CELL) as usize;
        let map = Heat::of(self.sample, scale, rows);
        let caption = match map.ends {
            Some((low, high)) => format!(
                "depth: quantity resting within {} of price, at each column's end; from {} (faint) to {} (strong), logarithmic",
                short((scale.to - scale.from) / rows as f64),
                short(low),
                short(high)
            ),
            None => "depth".to_owned(),
        };
        let keys = [(Key::Area(0.8), Ink::Bid, "bids"), (Key::Area(0.8), Ink::Ask, "asks")];
        self.caption(canvas, frame, &caption, &keys);
        scale.ticks(canvas, 6);
        canvas.image(frame, &map.image())?;
        Self::line(canvas, self.sample, scale, Ink::Mid, 0.8, |bin| bin.mid);
        self.shade(canvas, frame, 0.16);
        Ok(())
    }
}

/// Quantities by column and row.
struct Heat {
    rows: usize,
    /// Bids and asks, column by column.
    cells: Vec<[f64; 2]>,
    /// What is drawn faintest and strongest.
    ends: Option<(f64, f64)>,
}

impl Heat {
    fn of(sample: &Sample, scale: Scale, rows: usize) -> Self {
        let mut cells = vec![[0.0; 2]; sample.depths.len() * rows];
        let mut put = |column: usize, side: usize, (price, qty): (f64, f64)| {
            let share = (scale.to - price) / (scale.to - scale.from);
            if (0.0..1.0).contains(&share) && qty > 0.0 {
                cells[column * rows + ((share * rows as f64) as usize).min(rows - 1)][side] += qty;
            }
        };
        for (column, depth) in sample.depths.iter().enumerate() {
            // Where the book is not valid it is not known what rests.
            let Some(depth) =
                depth.as_ref().filter(|_| sample.bins[column].bid.is_some() || sample.bins[column].ask.is_some())
            else {
                continue;
            };
            depth.bids.iter().for_each(|level| put(column, 0, *level));
            depth.asks.iter().for_each(|level| put(column, 1, *level));
        }
        let mut found: Vec<f64> = cells.iter().flatten().copied().filter(|qty| *qty > 0.0).collect();
        found.sort_unstable_by(f64::total_cmp);
        // A few cells with next to nothing, or with a wall, would make all others look alike: they are drawn as their
        // neighbours.
        let at = |share: f64| found.get(((found.len() - 1) as f64 * share) as usize).copied();
        let ends = if found.is_empty() { None } else { at(0.05).zip(at(0.998)) };
        Heat { rows, cells, ends }
    }

    fn image(&self) -> Image {
        let (rows, columns) = (self.rows, self.cells.len() / self.rows.max(1));
        let mut rgba = vec![0; rows * columns * 4];
        let Some((low, high)) = self.ends else { return Image { width: columns, height: rows, rgba } };
        let (low, span) = (low.ln(), (high.ln() - low.ln()).max(1e-9));
        for column in 0..columns {
            for row in 0..rows {
                let [bid, ask] = self.cells[column * rows + row];
                let (qty, colour) = if bid >= ask { (bid, [0x1c, 0x86, 0xd1]) } else { (ask, [0xe8, 0x76, 0x1f]) };
                if qty > 0.0 {
                    // Sixteen steps: eyes tell no more apart, and the picture is a third as large.
                    let share = ((qty.ln() - low) / span).clamp(0.0, 1.0);
                    let opacity = 14.0 + (share.powf(1.8) * 15.0).round() * 16.0;
                    let at = (row * columns + column) * 4;
                    rgba[at..at + 3].copy_from_slice(&colour);
                    rgba[at + 3] = opacity as u8;
                }
            }
        }
        Image { width: columns, height: rows, rgba }
    }
}

fn nothing(canvas: &mut dyn Canvas, frame: Frame) {
    let at = (frame.x + frame.width / 2.0, frame.y + frame.height / 2.0 + 4.0);
    canvas.text(at, Align::Centre, Size::Normal, Ink::Faint, "nothing stored");
}

/// First and last index of each run of bins of which something is so.
fn stretches(bins: &[Bin], so: impl Fn(&Bin) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in bins.iter().enumerate().filter(|(_, bin)| so(bin)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    runs
}

/// Leaves out corners on a straight line between their neighbours, but for those where it turns back.
fn without_straight(corners: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::with_capacity(corners.len());
    for corner in corners {
        if let [.., a, b] = kept[..] {
            let along_x = a.1 == b.1 && b.1 == corner.1 && (b.0 - a.0) * (corner.0 - b.0) >= 0.0;
            let along_y = a.0 == b.0 && b.0 == corner.0 && (b.1 - a.1) * (corner.1 - b.1) >= 0.0;
            if along_x || along_y {
                kept.pop();
            }
        }
        kept.push(*corner);
    }
    kept
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    if !value.is_finite() || value <= 0.0 {
        return "0".to_owned();
    }
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    grouped(text)
}

/// A time's length as people say it.
pub(super) fn duration(ns: u64) -> String {
    match ns {
        0 => "no time".to_owned(),
        1..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..60_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => {
            let seconds = ns / 1_000_000_000;
            match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
                (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
                (hours, minutes, _) => format!("{hours} h {minutes} min"),
            }
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", Count(count), if count == 1 { "" } else { "s" })
}

/// What a sample is, in words.
pub(super) fn words(sample: &Sample, name: &str, date: &str) -> Words {
    let until = sample.to.saturating_sub(1);
    let events = match sample.source {
        Stream::Quotes => "quote",
        _ => "book event",
    };
    Words {
        title: format!("{name}  {date}"),
        description: format!(
            "{} to {} UTC · {} · {} · {}",
            to_the_ms(sample.from),
            to_the_ms(until),
            counted(sample.book_events, events),
            counted(sample.trades, "trade"),
            counted(sample.gap_count, "gap")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, text) in
            [(0.012_345, "0.0123"), (1234.6, "1,235"), (0.5, "0.5"), (100.0, "100"), (1e9, "1,000,000,000")]
        {
            assert_eq!(short(value), text);
        }
        assert_eq!(
            (grouped("-1234567.25"), grouped("-123"), grouped("12")),
            ("-1,234,567.25".into(), "-123".into(), "12".into())
        );
    }

    /// A spike within a column goes up and comes back: leaving the turn out would lose the extreme.
    #[test]
    fn straight_lines_have_two_corners_and_spikes_stay() {
        let line = [(0.0, 5.0), (1.0, 5.0), (2.0, 5.0), (2.0, 1.0), (2.0, 9.0), (2.0, 5.0), (3.0, 5.0)];
        assert_eq!(without_straight(&line), [(0.0, 5.0), (2.0, 5.0), (2.0, 1.0), (2.0, 9.0), (2.0, 5.0), (3.0, 5.0)]);
    }
}
