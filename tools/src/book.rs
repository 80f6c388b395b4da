//! `chronicle book`: the order book of a symbol at a moment.

use crate::ladder::{self, Screen};
use crate::run::{Failure, Outcome, RootArgs, parse_moment, print_json, rfc3339, what_there_is, with_stdout};
use chronicle::{
    System,
    etl::{
        Error,
        query::{At, BookState, book_at},
    },
    storage::root::{Name, Root, symbol_code},
};
use serde_json::{Value, json};
use std::io::Write;

/// Print the order book of a symbol at a moment
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle book --root market --venue binance-spot --symbol btcusdt --at latest --depth 5
  chronicle book --root market --venue binance-spot --symbol btcusdt --at 2024-08-08T23:58:00Z --csv

All events with exchange time up to and including TIME are in it. Where ids are missing the book is not valid: exit code
1, with the gap, its file and the last valid time; --last-valid prints that book.

On a terminal it is a ladder: asks above, bids below, a bar for each quantity; NO_COLOR takes its colours away. Elsewhere
it is a table; --ladder draws the ladder all the same.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// Such as binance-spot
    #[arg(long)]
    venue: Name,
    /// The symbol code, or the venue's own symbol
    #[arg(long, value_parser = parse_symbol)]
    symbol: Name,
    /// A time, or `latest`
    #[arg(long, value_name = "TIME|latest", value_parser = parse_at)]
    at: At,
    /// Levels of each side; the table shows 10 unless told, CSV and JSON show all
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// In a stretch without a valid book, the last valid one
    #[arg(long)]
    last_valid: bool,
    /// The ladder, where the output is no terminal, too
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    ladder: bool,
    /// side,price,qty: bids from the best down, then asks from the best up, the venue's own digits
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// One JSON object: {venue, symbol, valid, last_id, last_event_time, bid_levels, ask_levels, bids, asks, gap}
    #[arg(long)]
    json: bool,
}

pub(crate) fn parse_symbol(text: &str) -> Result<Name, String> {
    Name::new(&symbol_code(text)).map_err(|error| error.to_string())
}

fn parse_at(text: &str) -> Result<At, String> {
    if text == "latest" { Ok(At::Latest) } else { parse_moment(text).map(|moment| At::Time(moment.ns)) }
}

pub(crate) fn run(args: Args) -> Outcome {
    let root = args.root.existing()?;
    let state = match book_at(&System, &root, &args.venue, &args.symbol, args.at) {
        Err(Error::NoBook { .. }) if args.json => {
            print_json(&json!({ "venue": args.venue, "symbol": args.symbol, "valid": false, "gap": null }))?;
            return Err(Failure::told());
        }
        other => other.map_err(|error| not_there(error, &root))?,
    };
    let refused = !state.is_valid() && !args.last_valid;
    if args.json {
        print_json(&object(&args, &state, refused))?;
        return if refused { Err(Failure::told()) } else { Ok(()) };
    }
    let state = if args.last_valid { state } else { state.require_valid()? };
    let screen = Screen::of_stdout(args.ladder).filter(|_| !args.csv);
    with_stdout(|out| {
        if args.csv {
            state.book.write_csv(&mut Out(out), args.depth.unwrap_or(usize::MAX))?;
            return Ok(());
        }
        match screen {
            Some(screen) => ladder::draw(out, screen, (&args.venue, &args.symbol), &state, args.depth.unwrap_or(10)),
            None => table(&args, &state, out),
        }
    })
}

/// A name that is not there is a wrong call; a moment without a book is an answer, as a gap is.
pub(crate) fn not_there(error: Error, root: &Root) -> Failure {
    match error {
        Error::NotFound { .. } => Failure::Usage(format!("{error}{}", what_there_is(root))),
        other => other.into(),
    }
}

/// A writer behind a `dyn`, for functions that want a sized one.
pub(crate) struct Out<'a>(pub(crate) &'a mut dyn Write);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn object(args: &Args, state: &BookState, refused: bool) -> Value {
    let depth = args.depth.unwrap_or(usize::MAX);
    let book = &state.book;
    let mut value = json!({
        "venue": args.venue,
        "symbol": args.symbol,
        "valid": state.is_valid(),
        "last_id": state.last_id,
        "last_event_time": rfc3339(state.last_event_ns),
        "bid_levels": book.bid_count(),
        "ask_levels": book.ask_count(),
    });
    let Some(fields) = value.as_object_mut() else { return value };
    if !refused {
        let side = |levels: Vec<(String, String)>| json!(levels);
        let text = |price: i64, qty: i64| (book.price(price).to_string(), book.qty(qty).to_string());
        let bids = book.bids().take(depth).map(|(price, qty)| text(price, qty)).collect();
        let asks = book.asks().take(depth).map(|(price, qty)| text(price, qty)).collect();
        fields.insert("bids".to_owned(), side(bids));
        fields.insert("asks".to_owned(), side(asks));
    }
    if let Some(gap) = &state.invalid {
        fields.insert(
            "gap".to_owned(),
            json!({
                "after": gap.after, "next": gap.next, "missing_from": gap.missing_from, "missing_to": gap.missing_to,
                "time": gap.time, "cause": gap.cause, "file": gap.file, "last_valid": gap.last_valid,
            }),
        );
    }
    value
}

fn table(args: &Args, state: &BookState, out: &mut dyn Write) -> Outcome {
    let book = &state.book;
    let depth = args.depth.unwrap_or(10);
    writeln!(
        out,
        "{}/{} after id {} at {}: {} bids, {} asks{}",
        args.venue,
        args.symbol,
        state.last_id,
        rfc3339(state.last_event_ns),
        book.bid_count(),
        book.ask_count(),
        if state.is_valid() { "" } else { " (the last valid book)" }
    )?;
    writeln!(out, "{:>20} {:>18} │ {:<18} {:>20}", "quantity", "bid", "ask", "quantity")?;
    let mut bids = book.bids();
    let mut asks = book.asks();
    for _ in 0..depth {
        let (bid, ask) = (bids.next(), asks.next());
        if bid.is_none() && ask.is_none() {
            break;
        }
        let text = |level: Option<(i64, i64)>| {
            level.map_or_else(Default::default, |(price, qty)| {
                (book.price(price).to_string(), book.qty(qty).to_string())
            })
        };
        let bid = text(bid);
        let ask = text(ask);
        writeln!(out, "{:>20} {:>18} │ {:<18} {:>20}", bid.1, bid.0, ask.0, ask.1)?;
    }
    Ok(())
}
