//! `chronicle plot`: a day of a symbol as a picture.
//!
//! | Where | What |
//! |---|---|
//! | `sample.rs` | the day in bins, one for each column of the picture, extremes kept |
//! | `page.rs` | panels, axes, legends |
//! | `canvas.rs` | the strokes that a page is made of; `svg.rs` and `pixels.rs` are the two ways to make them |
//!
//! A picture's size does not depend on how much happened that day. The same partitions give the same bytes: nothing is
//! asked of the machine, neither its fonts nor its clock.

mod axis;
mod canvas;
mod page;
mod pixels;
mod sample;
mod svg;

pub(crate) use canvas::Theme;
pub(crate) use svg::Escaped;

use crate::{
    book::{not_there, parse_symbol},
    run::{Failure, Outcome, RootArgs, Size, parse_moment, print_json, with_stdout},
};
use chronicle::{
    System,
    etl::Error,
    storage::{
        reader::ArchiveReader,
        root::{Date, Name, TimeNs},
    },
};
use sample::Sample;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Draw a day: price, spread, depth and gaps, as SVG or PNG
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle plot --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 -o day.svg
  chronicle plot --root market --venue binance-usdm --symbol btcusdt --date 2024-08-08 --from 23:55 --to 23:56 -o minute.png
  chronicle plot --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 --what depth --theme dark -o depth.png

The name's end decides: .svg follows its reader's light or dark, .png is of one theme. Without --from and --to the picture
reaches from the day's first event to its last. A column shows the extremes of its time, so a spike of one event is seen;
the heat map shows the book at each column's end. Where ids are missing, all panels are shaded, and in an SVG a pointer
tells which ids.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// Such as binance-spot
    #[arg(long)]
    venue: Name,
    /// The symbol code, or the venue's own symbol
    #[arg(long, value_parser = parse_symbol)]
    symbol: Name,
    /// The UTC day
    #[arg(long)]
    date: Date,
    /// Panels, in this order
    #[arg(long, value_delimiter = ',', default_value = "price,depth,spread,gaps")]
    what: Vec<What>,
    /// From this time on: 23:55, 23:55:30.5, or with the day as 2024-08-08T23:55:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Colours of a PNG
    #[arg(long, default_value = "light")]
    theme: Theme,
    /// The picture, .svg or .png; `-` is an SVG on standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// One JSON object about the picture: {file, bytes, from, to, book_events, trades, gaps, invalid_ns, price: [least, greatest]}
    #[arg(long)]
    json: bool,
}

/// A panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Best bid and ask, mid, trades.
    Price,
    /// What rests in the book, by time and price.
    Depth,
    /// Best ask less best bid.
    Spread,
    /// Where the book is valid.
    Gaps,
}

/// Which picture.
struct Wanted {
    venue: Name,
    symbol: Name,
    date: Date,
    from: Option<u64>,
    to: Option<u64>,
    /// The heat map is among the panels.
    depth: bool,
}

/// A time of day, or one with its day.
fn parse_time(text: &str, date: Date) -> Result<u64, Failure> {
    let with_day = if text.contains('T') || text.contains('-') { text.to_owned() } else { full(text, date) };
    parse_moment(&with_day).map(|moment| moment.ns).map_err(|why| Failure::Usage(format!("time \"{text}\": {why}")))
}

fn full(text: &str, date: Date) -> String {
    let seconds = if text.matches(':').count() < 2 { ":00" } else { "" };
    format!("{date}T{text}{seconds}Z")
}

pub(crate) fn run(args: Args) -> Outcome {
    let root = args.root.existing()?;
    let to_stdout = args.output == Path::new("-");
    let is_png = match args.output.extension().and_then(|end| end.to_str()) {
        _ if to_stdout => false,
        Some("svg") => false,
        Some("png") => true,
        _ => return Err(Failure::Usage(format!("{}: a picture's name ends in .svg or .png", args.output.display()))),
    };
    if to_stdout && args.json {
        return Err(Failure::Usage("--json and -o - would both be on standard output".to_owned()));
    }
    let moment = |text: &Option<String>| text.as_deref().map(|text| parse_time(text, args.date)).transpose();
    let (from, to) = (moment(&args.from)?, moment(&args.to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Failure::Usage(format!("--to {} is not behind --from {}", TimeNs(to), TimeNs(from))));
    }
    let wanted = Wanted {
        venue: args.venue.clone(),
        symbol: args.symbol.clone(),
        date: args.date,
        from,
        to,
        depth: args.what.contains(&What::Depth),
    };
    let archive = ArchiveReader::open(&System, &root)?;
    if archive.dates(&args.venue, &args.symbol)?.is_empty() {
        return Err(not_there(Error::NotFound { venue: args.venue, symbol: args.symbol }, &root));
    }
    let Some(sample) = Sample::of(&archive, &wanted, page::COLUMNS)? else {
        return Err(Failure::Usage(format!("{}/{}: nothing stored of {}", args.venue, args.symbol, args.date)));
    };
    let words = page::words(&sample, &format!("{} {}", args.venue, args.symbol), &args.date.to_string());
    let height = page::height(&args.what);
    let bytes = if is_png {
        let mut pixels = pixels::Pixels::new(page::WIDTH, height, args.theme);
        page::draw(&mut pixels, &sample, &args.what, &words)?;
        pixels.finish()?
    } else {
        let mut svg = svg::Svg::new(page::WIDTH, height, &words.title, &words.description);
        page::draw(&mut svg, &sample, &args.what, &words)?;
        svg.finish()
    };
    if to_stdout {
        return with_stdout(|out| Ok(out.write_all(&bytes)?));
    }
    fs::write(&args.output, &bytes)
        .map_err(|error| Failure::Problem(format!("{}: cannot be written: {error}", args.output.display())))?;
    if args.json {
        return print_json(&json!({
            "file": args.output,
            "bytes": bytes.len(),
            "from": TimeNs(sample.from),
            "to": TimeNs(sample.to),
            "book_events": sample.book_events,
            "trades": sample.trades,
            "gaps": sample.gap_count,
            "invalid_ns": sample.invalid_ns,
            "price": sample.price_range().map(|(low, high)| [low, high]),
        }));
    }
    with_stdout(|out| {
        writeln!(out, "{}: {}, {}", args.output.display(), Size(bytes.len() as u64), words.description)?;
        Ok(())
    })
}
