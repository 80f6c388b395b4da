//! The order book as a ladder: asks above, bids below, a bar for each quantity.
//!
//! ```text
//! price         quantity       sum
//! 61837.66       0.50000   2.04698  ██▏
//! 61837.64       1.54698   1.54698  ██████▋
//! ── spread 0.01 · 0.0016 bp · mid 61837.635 ──
//! 61837.63       3.78826   3.78826  ████████████████
//! ```
//!
//! For eyes alone: numbers are the venue's own and exact, bars are rounded to an eighth of a character. Nothing here asks
//! a terminal anything but its width, and nothing is drawn twice: it is printed once and scrolls away like any output.

use crate::run::{Count, Outcome, rfc3339};
use chronicle::{
    etl::{
        book::{Book, PriceQty},
        query::BookState,
    },
    protocol::Scale,
    storage::root::Name,
};
use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

/// What it is drawn on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    width: usize,
    colour: bool,
}

/// Width where nobody says one, and beyond which bars grow no more.
const WIDTH: usize = 80;
const WIDTH_MAX: usize = 160;
/// A bar narrower than this shows nothing.
const BAR_MIN: usize = 4;

impl Screen {
    /// Standard output, if that is a terminal, or if a ladder is wanted all the same.
    pub(crate) fn of_stdout(wanted: bool) -> Option<Self> {
        let terminal = io::stdout().is_terminal();
        if !terminal && !wanted {
            return None;
        }
        let size = terminal.then(ratatui::crossterm::terminal::size).and_then(Result::ok);
        let width = size.map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(WIDTH);
        // https://no-color.org: set to anything but nothing.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Some(Screen { width: width.min(WIDTH_MAX), colour: terminal && !refused && !dumb })
    }

    fn paint<'a>(&self, colour: Colour, text: &'a str) -> Painted<'a> {
        Painted { code: if self.colour { colour.code() } else { "" }, text }
    }
}

#[derive(Clone, Copy)]
enum Colour {
    Bid,
    Ask,
    Faint,
    Strong,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Bid => "\x1b[32m",
            Self::Ask => "\x1b[31m",
            Self::Faint => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }
}

struct Painted<'a> {
    code: &'static str,
    text: &'a str,
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Painted { code, text } = self;
        if code.is_empty() { f.write_str(text) } else { write!(f, "{code}{text}\x1b[0m") }
    }
}

/// A level as text.
#[derive(Default)]
struct Rung {
    price: String,
    qty: String,
    /// Of this level and all better ones.
    sum: String,
    /// Mantissa of the quantity; what is negative, which no venue sends, has no bar.
    size: u64,
}

impl Rung {
    fn absent(what: &str) -> Vec<Self> {
        vec![Rung { price: what.to_owned(), ..Rung::default() }]
    }
}

/// The rungs of one side, the best first.
fn rungs(book: &Book, levels: impl Iterator<Item = PriceQty>, depth: usize, none: &str) -> Vec<Rung> {
    let mut sum = Some(0_i64);
    let rungs: Vec<_> = levels
        .take(depth)
        .map(|(price, qty)| {
            sum = sum.and_then(|sum| sum.checked_add(qty));
            Rung {
                price: book.price(price).to_string(),
                qty: book.qty(qty).to_string(),
                sum: sum.map_or_else(|| "-".to_owned(), |sum| book.qty(sum).to_string()),
                size: u64::try_from(qty).unwrap_or(0),
            }
        })
        .collect();
    if rungs.is_empty() { Rung::absent(none) } else { rungs }
}

/// What rungs are laid out by.
struct Layout {
    screen: Screen,
    price: usize,
    qty: usize,
    sum: usize,
    bar: usize,
    /// The quantity whose bar is full.
    most: u64,
}

impl Layout {
    fn of(screen: Screen, rungs: &[&[Rung]]) -> Self {
        let all = || rungs.iter().copied().flatten();
        let widest = |of: fn(&Rung) -> &str, least: usize| all().map(|rung| of(rung).len()).fold(least, usize::max);
        let (price, qty, sum) = (widest(|r| &r.price, 5), widest(|r| &r.qty, 8), widest(|r| &r.sum, 3));
        let left = screen.width.saturating_sub(price + qty + sum + 6);
        let bar = if left < BAR_MIN { 0 } else { left };
        Layout { screen, price, qty, sum, bar, most: all().map(|rung| rung.size).max().unwrap_or(0) }
    }

    fn rung(&self, out: &mut dyn Write, rung: &Rung, colour: Colour) -> io::Result<()> {
        let (price, qty, sum) = (self.price, self.qty, self.sum);
        let text = format!("{:>price$}", rung.price);
        let behind = format!("{:>sum$}", rung.sum);
        let (text, behind) = (self.screen.paint(colour, &text), self.screen.paint(Colour::Faint, &behind));
        write!(out, "{text}  {:>qty$}  {behind}", rung.qty)?;
        let bar = bar(rung.size, self.most, self.bar);
        if !bar.is_empty() {
            write!(out, "  {}", self.screen.paint(colour, &bar))?;
        }
        writeln!(out)
    }
}

/// A bar of `width` characters for `most`, to an eighth; what is not nothing shows.
fn bar(size: u64, most: u64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if size == 0 || most == 0 || width == 0 {
        return String::new();
    }
    let eighths = (u128::from(size) * (width as u128 * 8) / u128::from(most)).max(1) as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// What lies between the best bid and the best ask; exact, but for the basis points.
fn between(book: &Book) -> Option<String> {
    let ((bid, _), (ask, _)) = (book.bids().next()?, book.asks().next()?);
    let scale = book.price_scale();
    let (Some(spread), Some(sum)) = (ask.checked_sub(bid), ask.checked_add(bid)) else {
        return Some("spread beyond all numbers".to_owned());
    };
    let word = match spread {
        ..0 => "CROSSED by ",
        0 => "LOCKED, ",
        1.. => "",
    };
    let mut text = format!("{word}spread {}", scale.decimal(spread));
    if sum > 0 {
        let basis_points = spread as f64 / (sum as f64 / 2.0) * 10_000.0;
        // Two digits that mean something, however narrow it is.
        let digits = (1.0 - basis_points.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
        text.push_str(&format!(" · {basis_points:.digits$} bp"));
    }
    // Half of a sum has one decimal more.
    let exp = scale.exp.checked_sub(1);
    if let (Some(exp), Some(mantissa)) = (exp, sum.checked_mul(5)) {
        text.push_str(&format!(" · mid {}", Scale { exp, trimmed: true }.decimal(mantissa)));
    }
    Some(text)
}

fn heading(out: &mut dyn Write, screen: Screen, (venue, symbol): (&Name, &Name), state: &BookState) -> io::Result<()> {
    let name = format!("{venue} {symbol}");
    let last = rfc3339(state.last_event_ns);
    let (bids, asks) = (Count(state.book.bid_count() as u64), Count(state.book.ask_count() as u64));
    match &state.invalid {
        None => writeln!(out, "{}  {}", screen.paint(Colour::Strong, &name), screen.paint(Colour::Bid, "valid"))?,
        Some(gap) => {
            let why = format!("NOT VALID since id {}: gap seen at {}, cause {}", gap.after, gap.time, gap.cause);
            writeln!(out, "{}  {}", screen.paint(Colour::Strong, &name), screen.paint(Colour::Ask, &why))?;
        }
    }
    writeln!(out, "last event {last}  id {}  {bids} bids  {asks} asks", state.last_id)
}

/// Draws the best `depth` levels of each side.
pub(crate) fn draw(
    out: &mut dyn Write,
    screen: Screen,
    name: (&Name, &Name),
    state: &BookState,
    depth: usize,
) -> Outcome {
    let book = &state.book;
    let asks = rungs(book, book.asks(), depth, "no asks");
    let bids = rungs(book, book.bids(), depth, "no bids");
    let layout = Layout::of(screen, &[&asks, &bids]);
    heading(out, screen, name, state)?;
    let Layout { price, qty, sum, .. } = layout;
    let names = format!("{:>price$}  {:>qty$}  {:>sum$}", "price", "quantity", "sum");
    writeln!(out, "{}", screen.paint(Colour::Faint, &names))?;
    for ask in asks.iter().rev() {
        layout.rung(out, ask, Colour::Ask)?;
    }
    let between = between(book).unwrap_or_else(|| "no spread".to_owned());
    let rest = (price + qty + sum).saturating_sub(between.chars().count());
    let between = format!("── {between} {}", "─".repeat(rest.max(2)));
    writeln!(out, "{}", screen.paint(Colour::Strong, &between))?;
    for bid in &bids {
        layout.rung(out, bid, Colour::Bid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronicle::protocol::{Head, Level};

    fn state(bids: &[PriceQty], asks: &[PriceQty]) -> BookState {
        let levels = |side: &[PriceQty]| side.iter().map(|(p, q)| Level::new(*p, *q)).collect::<Vec<_>>();
        let head = Head { price: Scale::fixed(2), qty: Scale::fixed(1), ..Head::default() };
        let mut book = Book::new();
        book.replace(&head, &levels(bids), &levels(asks)).unwrap();
        BookState { book, orders: None, last_id: 7, last_event_ns: 1_723_161_600_000_000_000, invalid: None }
    }

    fn drawn(state: &BookState, width: usize, colour: bool) -> String {
        let (venue, symbol) = (Name::new("v").unwrap(), Name::new("s").unwrap());
        let mut out = Vec::new();
        let drawn = draw(&mut out, Screen { width, colour }, (&venue, &symbol), state, 2);
        assert!(drawn.is_ok());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn asks_above_bids_below_the_longest_bar_full() {
        let text = drawn(&state(&[(100, 40), (99, 10), (98, 999)], &[(102, 20), (103, 5)]), 40, false);
        assert_eq!(
            text,
            "v s  valid\n\
             last event 2024-08-09T00:00:00Z  id 7  3 bids  2 asks\n\
             price  quantity  sum\n \
             1.03       0.5  2.5  ██▎\n \
             1.02       2.0  2.0  █████████\n\
             ── spread 0.02 · 198 bp · mid 1.01 ──\n \
             1.00       4.0  4.0  ██████████████████\n \
             0.99       1.0  5.0  ████▌\n"
        );
        // No line is wider than the terminal, however narrow that is made; then there are no bars.
        assert!(!drawn(&state(&[(100, 40)], &[(102, 20)]), 25, false).contains('█'));
    }

    #[test]
    fn a_crossed_book_and_an_empty_side_say_so() {
        assert!(drawn(&state(&[(105, 1)], &[(102, 1)]), 80, false).contains("CROSSED by spread -0.03 · -290 bp"));
        assert!(drawn(&state(&[(105, 1)], &[(105, 1)]), 80, false).contains("LOCKED, spread 0.00"));
        let text = drawn(&state(&[], &[(102, 1)]), 80, false);
        assert!(text.contains("no bids") && text.contains("no spread"), "{text}");
    }

    #[test]
    fn numbers_at_the_ends_of_i64_are_drawn() {
        let text = drawn(&state(&[(i64::MIN, i64::MAX), (i64::MIN + 1, i64::MAX)], &[(i64::MAX, 1)]), 120, false);
        assert!(text.contains("spread beyond all numbers") && text.contains('▏'), "{text}");
    }

    #[test]
    fn colours_are_asked_for() {
        let book = state(&[(100, 40)], &[(102, 20)]);
        assert!(!drawn(&book, 80, false).contains('\x1b'));
        let text = drawn(&book, 80, true);
        assert!(text.contains("\x1b[31m") && text.contains("\x1b[32m"));
        assert_eq!(text.matches("\x1b[0m").count() * 2, text.matches('\x1b').count());
    }
}
