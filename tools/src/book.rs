//! `chronicle book`: the order book of a symbol at a moment.

use crate::ladder::{self, Screen};
use crate::run::{Failure, Outcome, RootArgs, parse_moment, print_json, rfc3339, what_there_is, with_stdout};
use chronicle::{
    System,
    etl::{
        Error,
        orders::OrderBook,
        query::{At, BookState, book_at},
    },
    protocol::{BookOrder, Side},
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
  chronicle book --root market --venue glbx-mdp3 --symbol esh4 --at latest --orders

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
    /// Order by order, where the venue tells its orders: at each price the one that is filled first comes first
    #[arg(long, conflicts_with = "ladder")]
    orders: bool,
    /// In a stretch without a valid book, the last valid one
    #[arg(long)]
    last_valid: bool,
    /// The ladder, where the output is no terminal, too
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    ladder: bool,
    /// side,price,qty: bids from the best down, then asks from the best up, the venue's own digits; with --orders
    /// order_id,side,price,size, those at one price by their ids
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// One JSON object: {venue, symbol, valid, last_id, last_event_time, bid_levels, ask_levels, bids, asks, gap, orders}
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
    if args.orders && state.orders.is_none() && state.is_valid() {
        return Err(Failure::Usage(format!("{}/{}: the book is by price, no order is told", args.venue, args.symbol)));
    }
    let refused = !state.is_valid() && !args.last_valid;
    if args.json {
        print_json(&object(&args, &state, refused))?;
        return if refused { Err(Failure::told()) } else { Ok(()) };
    }
    let state = if args.last_valid { state } else { state.require_valid()? };
    let screen = Screen::of_stdout(args.ladder).filter(|_| !args.csv);
    with_stdout(|out| {
        let depth = args.depth.unwrap_or(if args.csv { usize::MAX } else { 10 });
        if let (true, Some(orders)) = (args.orders, &state.orders) {
            if args.csv {
                orders.write_csv(&mut Out(out), depth)?;
                return Ok(());
            }
            return orders_table(&args, &state, orders, depth, out);
        }
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
    if let (true, false, Some(orders)) = (args.orders, refused, &state.orders) {
        let side = |side| {
            let all = orders.orders_to(side, depth);
            let text = |o: BookOrder| {
                json!([o.order_id(), orders.price(o.price()).to_string(), orders.qty(o.qty()).to_string()])
            };
            all.map(text).collect::<Value>()
        };
        fields.insert(
            "orders".to_owned(),
            json!({ "count": orders.count(), "bids": side(Side::Bid), "asks": side(Side::Ask) }),
        );
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

/// The orders at the best prices, each with what stands before it in its queue.
fn orders_table(args: &Args, state: &BookState, orders: &OrderBook, depth: usize, out: &mut dyn Write) -> Outcome {
    writeln!(
        out,
        "{}/{} after sequence {} at {}: {} orders{}",
        args.venue,
        args.symbol,
        state.last_id,
        rfc3339(state.last_event_ns),
        orders.count(),
        if state.is_valid() { "" } else { " (the last valid book)" }
    )?;
    writeln!(out, "{:<4} {:>18} {:>12} {:>12}  order", "side", "price", "size", "ahead")?;
    for side in [Side::Bid, Side::Ask] {
        let (mut price, mut ahead) = (None, 0);
        for order in orders.orders_to(side, depth) {
            if price.replace(order.price()) != Some(order.price()) {
                ahead = 0;
            }
            let text = [orders.price(order.price()), orders.qty(order.qty()), orders.qty(ahead)].map(|n| n.to_string());
            let [price, size, before] = text;
            writeln!(out, "{:<4} {price:>18} {size:>12} {before:>12}  {}", side.as_str(), order.order_id())?;
            ahead += order.qty();
        }
    }
    Ok(())
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
