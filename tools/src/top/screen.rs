//! How `top` looks: a tick and what the keys chose, drawn into whatever size there is.
//!
//! ```text
//! header                 root, time, totals, order
//! queues                 one row each; columns leave from the right where there is no room
//! the chosen queue       latency over time, its readers          from 20 rows on
//! registrations          who has what, and since when it is silent
//! keys, or the filter
//! ```
//!
//! Drawing reads the state and nothing else: the same state and size give the same screen, which is how it is tested.

use super::observe::{Latency, Queue, Reader, ReaderState, Tick, Writer};
use crate::run::{Count, Size, rfc3339, span};
use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

/// Latencies kept of each queue, one a tick.
const HISTORY: usize = 240;
/// Intervals that `+` and `-` step through.
const STEPS_MS: [u64; 7] = [100, 250, 500, 1000, 2000, 5000, 10_000];

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Name,
    Rate,
    Bytes,
    Fill,
    Latency,
    Lag,
    Refused,
}

impl Sort {
    const ALL: [Sort; 7] = [Sort::Name, Sort::Rate, Sort::Bytes, Sort::Fill, Sort::Latency, Sort::Lag, Sort::Refused];

    fn name(self) -> &'static str {
        match self {
            Sort::Name => "queue",
            Sort::Rate => "frames/s",
            Sort::Bytes => "bytes/s",
            Sort::Fill => "fill",
            Sort::Latency => "latency",
            Sort::Lag => "lag",
            Sort::Refused => "refused",
        }
    }
}

/// What a key asks of whoever runs the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Quit,
}

/// What is shown, and what the keys chose.
pub(super) struct State {
    root: String,
    tick: Option<Tick>,
    /// Rows that pass, in order.
    rows: Vec<Queue>,
    history: HashMap<PathBuf, VecDeque<Option<u64>>>,
    sort: Sort,
    reverse: bool,
    filter: String,
    typing: bool,
    paused: bool,
    help: bool,
    chosen: Option<PathBuf>,
    interval: Duration,
}

impl State {
    pub(super) fn new(root: &Path, interval: Duration) -> State {
        State {
            root: root.display().to_string(),
            tick: None,
            rows: Vec::new(),
            history: HashMap::new(),
            sort: Sort::Name,
            reverse: false,
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
            chosen: None,
            interval,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn chosen(&self) -> Option<&Path> {
        self.chosen.as_deref()
    }

    /// Takes in what was seen, unless the screen is held.
    pub(super) fn see(&mut self, tick: Tick) {
        if self.paused {
            return;
        }
        let there: HashSet<&PathBuf> = tick.queues.iter().map(|queue| &queue.path).collect();
        self.history.retain(|path, _| there.contains(path));
        for queue in &tick.queues {
            let history = self.history.entry(queue.path.clone()).or_default();
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(queue.latency.map(|latency| latency.ns));
        }
        self.tick = Some(tick);
        self.arrange();
    }

    /// Filters and sorts.
    fn arrange(&mut self) {
        let Some(tick) = &self.tick else { return };
        let filter = self.filter.to_lowercase();
        self.rows = tick.queues.iter().filter(|queue| queue.name.to_lowercase().contains(&filter)).cloned().collect();
        let lag = |queue: &Queue| queue.slowest().and_then(|reader| reader.lag).unwrap_or(0);
        let float = |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
        // Names up, everything else down: the largest is what one looks for.
        self.rows.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Name => std::cmp::Ordering::Equal,
                Sort::Rate => float(a.frames_per_s, b.frames_per_s),
                Sort::Bytes => float(a.bytes_per_s, b.bytes_per_s),
                Sort::Fill => b.fill().total_cmp(&a.fill()),
                Sort::Latency => b.latency.map(|l| l.ns).cmp(&a.latency.map(|l| l.ns)),
                Sort::Lag => lag(b).cmp(&lag(a)),
                Sort::Refused => b.refused.cmp(&a.refused),
            };
            let order = order.then_with(|| a.name.cmp(&b.name));
            if self.reverse { order.reverse() } else { order }
        });
        if !self.rows.iter().any(|row| Some(&row.path) == self.chosen.as_ref()) {
            self.chosen = self.rows.first().map(|row| row.path.clone());
        }
    }

    fn at(&self) -> usize {
        self.rows.iter().position(|row| Some(&row.path) == self.chosen.as_ref()).unwrap_or(0)
    }

    fn choose(&mut self, at: usize) {
        self.chosen = self.rows.get(at.min(self.rows.len().saturating_sub(1))).map(|row| row.path.clone());
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Asked {
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Asked::Quit;
        }
        if self.typing {
            match key.code {
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => {
                    self.typing = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => _ = self.filter.pop(),
                KeyCode::Char(c) if self.filter.chars().count() < 64 => self.filter.push(c),
                _ => {}
            }
            self.arrange();
            return Asked::Nothing;
        }
        if self.help {
            self.help = false;
            return if matches!(key.code, KeyCode::Char('q')) { Asked::Quit } else { Asked::Nothing };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Asked::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.choose(self.at() + 1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(self.at().saturating_sub(1)),
            KeyCode::PageDown => self.choose(self.at() + 10),
            KeyCode::PageUp => self.choose(self.at().saturating_sub(10)),
            KeyCode::Home | KeyCode::Char('g') => self.choose(0),
            KeyCode::End | KeyCode::Char('G') => self.choose(usize::MAX),
            KeyCode::Char('s') => {
                let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
                self.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
            }
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('+') => self.step(|ms, now| ms > now, false),
            KeyCode::Char('-') => self.step(|ms, now| ms < now, true),
            _ => {}
        }
        self.arrange();
        Asked::Nothing
    }

    fn step(&mut self, wanted: impl Fn(u64, u64) -> bool, last: bool) {
        let now = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let mut steps = STEPS_MS.iter().filter(|ms| wanted(**ms, now));
        if let Some(ms) = if last { steps.next_back() } else { steps.next() } {
            self.interval = Duration::from_millis(*ms);
        }
    }

    /// Draws it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let leases = self.tick.as_ref().map_or(0, |tick| tick.leases.len());
        let detail = if area.height >= 20 && !self.rows.is_empty() { 5 + self.readers_shown(area) as u16 } else { 0 };
        let registered = if area.height >= 24 && leases > 0 { 2 + leases.min(6) as u16 } else { 0 };
        let [header, queues, chosen, registrations, footer] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(detail),
            Constraint::Length(registered),
            Constraint::Length(1),
        ])
        .areas(area);
        self.header(frame, header);
        self.queues(frame, queues);
        if detail > 0 {
            self.detail(frame, chosen);
        }
        if registered > 0 {
            self.registrations(frame, registrations);
        }
        self.footer(frame, footer);
        if self.help {
            help(frame, area);
        }
    }

    fn readers_shown(&self, area: Rect) -> usize {
        let most = usize::from(area.height) / 5;
        1 + self.rows.get(self.at()).map_or(0, |row| row.readers.len()).clamp(1, most.max(2))
    }

    fn header(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(tick) = &self.tick else {
            frame.render_widget(Line::from(format!("chronicle top  {}  looking …", self.root)).bold(), area);
            return;
        };
        let sum = |of: fn(&Queue) -> Option<f64>| tick.queues.iter().filter_map(of).sum::<f64>();
        let time = rfc3339(tick.at_ns / 1_000_000_000 * 1_000_000_000);
        let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock);
        let ill = tick.queues.iter().filter(|queue| !is_well(queue)).count()
            + tick.leases.iter().filter(|lease| !lease.well).count();
        let mut line = vec![Span::from(format!("chronicle top  {}  {clock}  ", self.root)).bold()];
        // What matters first stands where a narrow terminal still shows it.
        if ill > 0 {
            line.push(Span::from(format!("{ill} to look at  ")).fg(Color::Red).bold());
        }
        if self.paused {
            line.push(Span::from("held  ").fg(Color::Yellow).bold());
        }
        line.push(Span::from(format!(
            "{} {}  {} frames/s  {}/s",
            tick.queues.len(),
            if tick.queues.len() == 1 { "queue" } else { "queues" },
            rate(sum(|queue| queue.frames_per_s)),
            Size(sum(|queue| queue.bytes_per_s) as u64)
        )));
        frame.render_widget(Line::from(line), area);
    }

    fn queues(&self, frame: &mut Frame<'_>, area: Rect) {
        if self.rows.is_empty() {
            let what = match &self.tick {
                None => "".to_owned(),
                Some(tick) if tick.queues.is_empty() => {
                    format!("no queue in {} yet; `chronicle feed` and `chronicle import` make them", self.root)
                }
                Some(_) => format!("no queue has \"{}\" in its name; / and Esc show all", self.filter),
            };
            frame.render_widget(Paragraph::new(format!("\n  {what}")), area);
            return;
        }
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(12, 40) as u16;
        let columns: [(&str, Sort, u16); 8] = [
            ("WRITER", Sort::Name, 7),
            ("FRAMES/S", Sort::Rate, 11),
            ("LAG", Sort::Lag, 22),
            ("FILL", Sort::Fill, 11),
            ("LATENCY", Sort::Latency, 10),
            ("BYTES/S", Sort::Bytes, 10),
            ("REFUSED", Sort::Refused, 9),
            ("WAKES/S", Sort::Name, 9),
        ];
        // From the left as many as there is room for.
        let mut left = area.width.saturating_sub(longest + 2);
        let shown = columns
            .iter()
            .take_while(|(_, _, width)| {
                let fits = left > *width;
                left = left.saturating_sub(width + 1);
                fits
            })
            .count();
        let heading = |name: &str, sort: Sort| {
            if self.sort == sort && name.eq_ignore_ascii_case(sort.name()) {
                format!("{name}{}", if self.reverse { "▲" } else { "▼" })
            } else {
                name.to_owned()
            }
        };
        let head = std::iter::once(Cell::from(heading("QUEUE", Sort::Name))).chain(
            columns[..shown].iter().map(|(name, sort, width)| cell(heading(name, *sort), *width, is_left(name))),
        );
        let rows = self.rows.iter().map(|row| {
            let first = Cell::from(shorten(&row.name, longest.into()));
            let cells = columns[..shown].iter().map(|(name, _, width)| {
                let (text, style) = text_of(row, name);
                cell(text, *width, is_left(name)).style(style)
            });
            Row::new(std::iter::once(first).chain(cells))
        });
        let widths = std::iter::once(Constraint::Length(longest))
            .chain(columns[..shown].iter().map(|(_, _, width)| Constraint::Length(*width)));
        let table = Table::new(rows, widths)
            .header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .highlight_symbol("▶ ")
            .column_spacing(1);
        let mut state = TableState::default().with_selected(Some(self.at()));
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn detail(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(row) = self.rows.get(self.at()) else { return };
        let block = Block::new().borders(Borders::TOP).title(format!(" {} ", row.name)).bold();
        let inside = block.inner(area);
        frame.render_widget(block, area);
        let [title, chart, readers] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(3), Constraint::Min(1)]).areas(inside);
        if let Some(error) = &row.error {
            frame.render_widget(
                Paragraph::new(format!("{error}; `chronicle doctor` says what to do")).fg(Color::Red),
                inside,
            );
            return;
        }
        let empty = VecDeque::new();
        let history = self.history.get(&row.path).unwrap_or(&empty);
        let shown: Vec<Option<u64>> =
            history.iter().skip(history.len().saturating_sub(usize::from(chart.width))).copied().collect();
        let mut values: Vec<u64> = shown.iter().copied().flatten().collect();
        values.sort_unstable();
        let what = match (values.last(), row.latency.map(|latency| latency.since)) {
            (Some(most), since) => format!(
                "latency, {} → seen here: now {}  median {}  most {}  in {} ticks",
                since.unwrap_or("ingest"),
                row.latency.map_or_else(|| "-".to_owned(), latency),
                span(values[values.len() / 2]),
                span(*most),
                shown.len()
            ),
            (None, _) => "latency, ingest → seen here: no frame came while it looked, or only a recording's".to_owned(),
        };
        frame.render_widget(Line::from(what), title);
        frame.render_widget(Sparkline::default().data(shown), chart);
        self.readers(frame, readers, row);
    }

    fn readers(&self, frame: &mut Frame<'_>, area: Rect, row: &Queue) {
        let most = usize::from(area.height).saturating_sub(1);
        let mut lines = vec![
            Line::from(format!("{:<24} {:<8} {:>14} {:>12}", "READER", "DOES", "LAG", "LOOKS/S"))
                .style(Style::new().add_modifier(Modifier::BOLD)),
        ];
        if row.readers.is_empty() {
            lines.push(Line::from("none with a cursor"));
        }
        for reader in row.readers.iter().take(most) {
            let text = format!(
                "{:<24} {:<8} {:>14} {:>12}{}",
                shorten(&reader.name, 24),
                does(reader),
                reader.lag.map_or_else(|| "-".to_owned(), |lag| Count(lag).to_string()),
                reader.looks_per_s.map_or_else(|| "-".to_owned(), rate),
                if reader.required { "  the queue waits for it" } else { "" }
            );
            lines.push(if is_ill(reader) { Line::from(text).fg(Color::Red) } else { Line::from(text) });
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn registrations(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(tick) = &self.tick else { return };
        let well = tick.leases.iter().filter(|lease| lease.well).count();
        let title = format!(" registrations: {} of {} well ", well, tick.leases.len());
        let block = Block::new().borders(Borders::TOP).title(title).bold();
        let inside = block.inner(area);
        frame.render_widget(block, area);
        // Those to look at first.
        let mut leases: Vec<_> = tick.leases.iter().collect();
        leases.sort_by_key(|lease| lease.well);
        let mut lines = vec![
            Line::from(format!("{:<32} {:<10} {:>9} {:>7} {:>10}", "ENTRY", "STATE", "PID", "EPOCH", "RENEWED"))
                .style(Style::new().add_modifier(Modifier::BOLD)),
        ];
        for lease in leases.into_iter().take(usize::from(inside.height).saturating_sub(1)) {
            let text = format!(
                "{:<32} {:<10} {:>9} {:>7} {:>10}",
                shorten(&lease.entry, 32),
                lease.state,
                lease.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                lease.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
                lease.age_ns.map_or_else(|| "-".to_owned(), |age| format!("{} ago", span(age)))
            );
            lines.push(if lease.well { Line::from(text) } else { Line::from(text).fg(Color::Red) });
        }
        frame.render_widget(Paragraph::new(lines), inside);
    }

    fn footer(&self, frame: &mut Frame<'_>, area: Rect) {
        if self.typing {
            frame.render_widget(Line::from(format!("/{}▏  Enter keeps it, Esc shows all", self.filter)), area);
            return;
        }
        let filter = if self.filter.is_empty() { String::new() } else { format!("  /{}", self.filter) };
        let text = format!(
            "q quit  ↑↓ choose  s by {}  r turn  / filter  p hold  +- every {}  ? help{filter}",
            self.sort.name(),
            span(self.interval.as_nanos() as u64)
        );
        frame.render_widget(Line::from(text).style(Style::new().add_modifier(Modifier::DIM)), area);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    const TEXT: &str = "\
FRAMES/S  appended in the last interval
LAG       the reader furthest behind, in frames it has not committed
FILL      what segments take of the queue's budget; full only hurts if readers hold it
LATENCY   from the stamp that the writer gave a frame until it was seen here, without
          waking anybody; ≤ where looks were further apart than a tenth of it
REFUSED   appends that found no segment ready: a feed's overflow or dropped records
WAKES/S   how often the writer woke a sleeping reader
WRITER    alive · stalled: has the lock, its heart stands still · closed · died
DOES      spins · reads · sleeps · silent: there, does not look · gone: only its cursor

`chronicle doctor ROOT` says why, and what to do.    Any key goes back.";
    let (width, height) = (90.min(area.width), 13.min(area.height));
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(TEXT).block(Block::bordered().title(" what it says ")), place);
}

fn is_left(column: &str) -> bool {
    matches!(column, "WRITER" | "FILL")
}

fn cell(text: String, width: u16, left: bool) -> Cell<'static> {
    let width = usize::from(width);
    Cell::from(if left { text } else { format!("{text:>width$}") })
}

/// A cell of a queue's row, and how it stands out.
fn text_of(row: &Queue, column: &str) -> (String, Style) {
    let (plain, red, yellow) = (Style::new(), Style::new().fg(Color::Red), Style::new().fg(Color::Yellow));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    match column {
        "WRITER" => {
            let style = match row.writer {
                Writer::Alive => plain,
                Writer::Closed => yellow,
                Writer::Stalled | Writer::Died | Writer::Unknown => red,
            };
            (writer(row.writer).to_owned(), style)
        }
        "FRAMES/S" => (or_dash(row.frames_per_s.map(rate)), plain),
        "BYTES/S" => (or_dash(row.bytes_per_s.map(|bytes| Size(bytes as u64).to_string())), plain),
        "FILL" => {
            let full = (row.fill() * 5.0).round() as usize;
            let bar = "█".repeat(full.min(5)) + &"░".repeat(5 - full.min(5));
            (format!("{bar} {:>3.0} %", row.fill() * 100.0), plain)
        }
        "LATENCY" => (or_dash(row.latency.map(latency)), plain),
        "LAG" => match row.slowest() {
            None => ("-".to_owned(), plain),
            Some(reader) => {
                let lag = or_dash(reader.lag.map(|lag| Count(lag).to_string()));
                let style = if row.readers.iter().any(is_ill) { red } else { plain };
                (format!("{} {lag:>9}", shorten(&reader.name, 12)), style)
            }
        },
        "REFUSED" => (Count(row.refused).to_string(), if row.refused_per_s > Some(0.0) { red } else { plain }),
        _ => (or_dash(row.wakes_per_s.map(rate)) + if row.sleeper { " z" } else { "  " }, plain),
    }
}

pub(super) fn writer(writer: Writer) -> &'static str {
    match writer {
        Writer::Alive => "alive",
        Writer::Stalled => "stalled",
        Writer::Closed => "closed",
        Writer::Died => "died",
        Writer::Unknown => "?",
    }
}

pub(super) fn does(reader: &Reader) -> &'static str {
    match reader.state {
        ReaderState::Spins => "spins",
        ReaderState::Reads => "reads",
        ReaderState::Sleeps => "sleeps",
        ReaderState::Silent => "silent",
        ReaderState::Gone => "gone",
        ReaderState::Unknown => "…",
        ReaderState::Damaged => "damaged",
    }
}

fn is_ill(reader: &Reader) -> bool {
    match reader.state {
        ReaderState::Damaged | ReaderState::Silent => true,
        // What the queue waits for, and what will not come by itself.
        ReaderState::Gone => reader.required && reader.lag != Some(0),
        _ => false,
    }
}

fn is_well(queue: &Queue) -> bool {
    matches!(queue.writer, Writer::Alive | Writer::Closed)
        && queue.error.is_none()
        && !queue.readers.iter().any(is_ill)
        && queue.refused_per_s.is_none_or(|rate| rate == 0.0)
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    // The end tells more than the beginning: venue/symbol/stream.
    let skip = text.chars().count() + 1 - most;
    format!("…{}", text.chars().skip(skip).collect::<String>())
}

/// So many a second.
pub(super) fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { Count(rate.round() as u64).to_string() }
}

pub(super) fn latency(latency: Latency) -> String {
    let about = if latency.slack_ns > latency.ns / 10 { "≤ " } else { "" };
    format!("{about}{}", span(latency.ns))
}

#[cfg(test)]
mod tests {
    //! The screens as text, in `top/screens/`. `CHRONICLE_BLESS=1 cargo test` writes them anew; read what changed.

    use super::*;
    use crate::top::observe::Lease;
    use ratatui::{Terminal, backend::TestBackend};
    use std::fs;

    fn reader(name: &str, state: ReaderState, lag: u64, required: bool) -> Reader {
        Reader { name: name.to_owned(), required, state, lag: Some(lag), looks_per_s: Some(12_345.6) }
    }

    fn queue(name: &str, writer: Writer, rate: f64) -> Queue {
        Queue {
            name: name.to_owned(),
            path: PathBuf::from("/hot").join(name),
            writer,
            frames: 1_000_000,
            frames_per_s: Some(rate),
            bytes_per_s: Some(rate * 96.0),
            used_bytes: 48 << 20,
            max_bytes: 64 << 20,
            refused: 0,
            refused_per_s: Some(0.0),
            rolls: 7,
            sleeper: false,
            wakes_per_s: Some(rate / 10.0),
            latency: None,
            readers: Vec::new(),
            error: None,
        }
    }

    /// A small market, and what is wrong with it.
    fn market() -> Tick {
        let mut raw = queue("raw/binance-spot", Writer::Alive, 123_456.7);
        raw.latency = Some(Latency { since: "ingest", ns: 12_300, slack_ns: 900 });
        raw.readers = vec![
            reader("recorder", ReaderState::Sleeps, 1_204, true),
            reader("alpha", ReaderState::Spins, 0, false),
            reader("slow", ReaderState::Silent, 9_876_543, false),
        ];
        raw.sleeper = true;
        let mut out = queue("orders/alpha/orders_out", Writer::Alive, 4.25);
        out.latency = Some(Latency { since: "ingest", ns: 310_000, slack_ns: 150_000 });
        out.readers = vec![reader("router", ReaderState::Reads, 2, false)];
        let mut back = queue("orders/alpha/orders_in", Writer::Died, 0.0);
        (back.refused, back.refused_per_s) = (42, Some(1.5));
        let mut broken = queue("clean/binance-spot/btcusdt/book", Writer::Unknown, 0.0);
        broken.error = Some("/hot/x/control.meta: offset 60: checksum stored 0x1, computed 0x2".to_owned());
        let lease = |entry: &str, state: &str, pid, age_ns, well| Lease {
            entry: entry.to_owned(),
            state: state.to_owned(),
            pid: Some(pid),
            epoch: Some(3),
            age_ns: Some(age_ns),
            well,
        };
        Tick {
            at_ns: 1_700_000_000_123_456_789,
            queues: vec![raw, out, back, broken],
            leases: vec![
                lease("raw/binance-spot", "ready", 4711, 412_000_000, true),
                lease("orders/alpha", "stalled", 4712, 8_000_000_000, false),
            ],
        }
    }

    fn seen() -> State {
        let mut state = State::new(Path::new("market"), Duration::from_secs(1));
        for at in 0..40 {
            let mut tick = market();
            if let Some(latency) = &mut tick.queues[0].latency {
                latency.ns += (at % 8) * 9_000;
            }
            state.see(tick);
        }
        state
    }

    fn press(state: &mut State, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                key => KeyCode::Char(key),
            };
            assert_eq!(state.key(KeyEvent::new(code, KeyModifiers::NONE)), Asked::Nothing, "{key:?}");
        }
    }

    /// The screen's text, without blanks at the ends of lines.
    fn text(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal of memory");
        terminal.draw(|frame| state.draw(frame)).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        let lines = (0..height).map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned() + "\n"
        });
        lines.collect()
    }

    #[track_caller]
    fn is(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/top/screens/{name}.txt"));
        if std::env::var_os("CHRONICLE_BLESS").is_some() {
            fs::write(&path, text).expect("the screen is written");
        }
        let expected = fs::read_to_string(&path).expect("a screen of this name");
        assert!(text == expected, "{name}: the screen is\n{text}\nand should be\n{expected}");
    }

    #[test]
    fn screens() {
        is("wide", &text(&seen(), 130, 32));
        is("narrow", &text(&seen(), 80, 24));
        is("low", &text(&seen(), 60, 10));
        let mut chosen = seen();
        press(&mut chosen, "G");
        is("chosen", &text(&chosen, 130, 32));
        let mut sorted = seen();
        press(&mut sorted, "sjj");
        is("by-rate", &text(&sorted, 100, 24));
        let mut filtered = seen();
        press(&mut filtered, "/orders\n");
        is("filtered", &text(&filtered, 100, 20));
        let mut typing = seen();
        press(&mut typing, "/nothing has this");
        is("nothing-passes", &text(&typing, 80, 10));
        let mut help = seen();
        press(&mut help, "?");
        is("help", &text(&help, 100, 24));
        is("empty", &{
            let mut state = State::new(Path::new("market"), Duration::from_secs(1));
            state.see(Tick { at_ns: 1_700_000_000_000_000_000, queues: Vec::new(), leases: Vec::new() });
            text(&state, 80, 6)
        });
        is("before-the-first-look", &text(&State::new(Path::new("market"), Duration::from_secs(1)), 80, 6));
    }

    #[test]
    fn any_size_is_drawn() {
        let mut helped = seen();
        press(&mut helped, "?");
        for width in [1, 2, 3, 7, 20, 39, 80, 200, 500] {
            for height in [1, 2, 3, 5, 10, 19, 20, 24, 60, 200] {
                assert_eq!(text(&seen(), width, height).lines().count(), usize::from(height));
                text(&helped, width, height);
            }
        }
    }

    #[test]
    fn a_held_screen_stays() {
        let mut state = seen();
        press(&mut state, "p");
        let before = text(&state, 100, 30);
        state.see(Tick { at_ns: 1, queues: Vec::new(), leases: Vec::new() });
        assert_eq!(text(&state, 100, 30), before);
        press(&mut state, "p");
        state.see(Tick { at_ns: 1, queues: Vec::new(), leases: Vec::new() });
        assert!(text(&state, 100, 30).contains("no queue in market yet"));
    }

    #[test]
    fn the_choice_stays_with_its_queue() {
        let mut state = seen();
        press(&mut state, "jj");
        let chosen = state.chosen().map(Path::to_owned);
        press(&mut state, "ssr");
        assert_eq!(state.chosen().map(Path::to_owned), chosen, "sorting chose another one");
        // Until it is gone.
        let mut tick = market();
        tick.queues.retain(|queue| Some(&queue.path) != chosen.as_ref());
        state.see(tick);
        assert_ne!(state.chosen().map(Path::to_owned), chosen);
        assert!(state.chosen().is_some());
    }

    #[test]
    fn thousands_of_queues_do_not_hold_up_a_key() {
        let tick = || {
            let queues =
                (0..10_000).map(|at| queue(&format!("orders/s{at:05}/orders_out"), Writer::Alive, f64::from(at)));
            Tick { at_ns: 1_700_000_000_000_000_000, queues: queues.collect(), leases: Vec::new() }
        };
        let mut state = State::new(Path::new("market"), Duration::from_secs(1));
        state.see(tick());
        let began = std::time::Instant::now();
        state.see(tick());
        press(&mut state, "G");
        let shown = text(&state, 100, 30);
        assert!(shown.contains("▶ orders/s09999/orders_out"), "{shown}");
        // Far more than it takes, far less than a step for each pair of them.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }

    #[test]
    fn keys_that_end_it() {
        for (code, modifiers) in [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(seen().key(KeyEvent::new(code, modifiers)), Asked::Quit);
        }
        // While a filter is typed, q is a letter.
        let mut typing = seen();
        press(&mut typing, "/q");
        assert_eq!(typing.filter, "q");
        assert_eq!(typing.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Asked::Quit);
    }

    #[test]
    fn intervals_stay_within_their_steps() {
        let mut state = seen();
        press(&mut state, &"+".repeat(20));
        assert_eq!(state.interval(), Duration::from_secs(10));
        press(&mut state, &"-".repeat(20));
        assert_eq!(state.interval(), Duration::from_millis(100));
    }
}
