//! `chronicle replay`: what was stored of any number of symbols, once more, as one stream and at a chosen pace.

mod into;
mod serve;

use crate::{
    book::not_there,
    records,
    run::{
        Count, Failure, Outcome, RootArgs, TierArgs, count_bar, parse_moment, print_json, rfc3339, what_there_is,
        with_stdout,
    },
    stop::Stop,
};
use chronicle::{
    System,
    etl::{
        self,
        replay::{Event, Replay, Request},
    },
    feed::Pace,
    storage::{
        reader::ArchiveReader,
        root::{Name, Root, Stream, symbol_code},
    },
};
use serde_json::json;
use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

/// Give what was stored once more, merged and in the order in which it came
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle replay --root market --venue binance-spot --symbols btcusdt,ethusdt --json | head
  chronicle replay --root market --symbols binance-spot/btcusdt,binance-usdm/btcusdt --streams trades --speed 10x
  chronicle replay --root market --venue binance-spot --from 2024-08-08T23:57:00Z --to 2024-08-08T23:59:00Z \\
                   --speed 1x --into /dev/shm/again
  chronicle replay --root market --venue binance-spot --speed 10x --serve 127.0.0.1:9000

Records come by receive time, ties by venue, symbol and stream; --from and --to are exchange times, as everywhere, and TO
is not included. What the refinery added is left out. Begun in the middle, each book opens with a snapshot. At 1x or 10x
a record is given when it is due on a schedule that begins with the first one, so that delays do not add up; who reads
slowly holds the replay up, loses nothing, and is given the rest as fast as it reads until the schedule is met again.

With --into ROOT the records go into the raw queues of another root, made if there is none, where a feed would put them:
strategies find and read them as live ones, `chronicle refine --root ROOT` makes the same books. The queue's recorder runs
here unless somebody else runs it; --required names readers besides it for whom the replay waits.

With --serve ADDR a local exchange speaks Binance's words from the records of one venue, and prints {listening} when it is
ready: `chronicle feed --url ws://ADDR --rest-url http://ADDR` or any client of the venue follows it and gets the same books.
The times are those of then, so the refinery takes what a feed receives from it as late; to refine again, use --into. It begins when somebody subscribes, waits for who does not keep up, and goes on serving the last book until Ctrl-C.

Text and JSON lines go to standard output without --into. With --json a line is {received, time, venue, symbol, stream,
type_id, record}; with --into, one object at the end: {records, first, last, seconds}.")]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// Of which venue the symbols are that are named without one; alone: all symbols of this venue
    #[arg(long)]
    venue: Option<Name>,
    /// Which symbols, as SYMBOL or VENUE/SYMBOL; all, if none is named
    #[arg(long, value_delimiter = ',', value_name = "SYMBOL,…")]
    symbols: Vec<String>,
    /// Which streams: book, trades, quotes, opaque, late
    #[arg(long, value_delimiter = ',', default_value = "book,trades,quotes,opaque,late", value_name = "STREAM,…")]
    streams: Vec<Stream>,
    /// Records from this exchange time on
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    from: Option<u64>,
    /// Records before this exchange time
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    to: Option<u64>,
    /// How fast: 1x, 10x, 0.5x, or max
    #[arg(long, default_value = "max", value_name = "SPEED")]
    speed: Speed,
    /// Into the raw queues of this root
    #[arg(long, value_name = "ROOT")]
    into: Option<PathBuf>,
    /// As the venue itself: WebSocket and REST on this address, port 0 = a free one
    #[arg(long, conflicts_with_all = ["into", "streams", "json"], value_name = "ADDR")]
    serve: Option<SocketAddr>,
    /// Readers of the queues, besides the recorder, that the replay waits for
    #[arg(long, value_delimiter = ',', requires = "into", value_name = "READER,…")]
    required: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn parse_ns(text: &str) -> Result<u64, String> {
    parse_moment(text).map(|moment| moment.ns)
}

/// How many times as fast as it came.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Max,
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let times = text.strip_suffix('x').and_then(|number| number.parse::<f64>().ok());
        match times.filter(|times| (0.001..=1e6).contains(times)) {
            Some(times) => Ok(Speed::Times(times)),
            None => Err("write it like 1x, 10x or 0.5x, from 0.001x to 1000000x, or max".to_owned()),
        }
    }
}

impl Speed {
    /// When records are due, if the first one came at `first_ns`.
    fn pace(self, first_ns: u64) -> Pace {
        match self {
            Speed::Max => Pace::full_speed(),
            Speed::Times(times) => {
                let over_ns = (u64::MAX - first_ns) as f64 / times;
                Pace::over(first_ns, u64::MAX, Duration::from_secs_f64(over_ns / 1e9))
            }
        }
    }
}

/// How long is slept before it is looked whether somebody wants this to end.
const STOP_EVERY: Duration = Duration::from_millis(50);

/// Gives records when they are due.
struct Schedule {
    speed: Speed,
    begun: Option<(Instant, Pace)>,
    stop: Stop,
}

impl Schedule {
    /// Waits until a record is due; `false` if this is to end.
    fn wait(&mut self, received_ns: u64) -> bool {
        if self.speed == Speed::Max {
            return !self.stop.asked();
        }
        let (begin, pace) = self.begun.get_or_insert_with(|| (Instant::now(), self.speed.pace(received_ns)));
        let due = pace.due(received_ns);
        loop {
            if self.stop.asked() {
                return false;
            }
            match due.checked_sub(begin.elapsed()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(STOP_EVERY)),
                _ => return true,
            }
        }
    }
}

/// What was given.
#[derive(Default)]
struct Given {
    records: u64,
    first_ns: u64,
    last_ns: u64,
}

pub(crate) fn run(args: Args) -> Outcome {
    let root = args.root.existing()?;
    let request = Request {
        symbols: symbols(&args, &root)?,
        streams: args.streams.clone(),
        from_ns: args.from.unwrap_or(0),
        to_ns: args.to.unwrap_or(u64::MAX),
    };
    if request.to_ns <= request.from_ns {
        return Err(Failure::Usage("--to is not after --from".to_owned()));
    }
    if let Some(listen) = args.serve {
        return serve::run(&root, request, args.speed, listen);
    }
    let replay = Replay::open(&System, &root, request).map_err(|error| not_there(error, &root))?;
    let stop = Stop::on_signals().map_err(|error| Failure::Problem(format!("signals: {error}")))?;
    let schedule = Schedule { speed: args.speed, begun: None, stop };
    let Some(into) = &args.into else {
        return with_stdout(|out| {
            give(replay, schedule, |event| print(out, args.json, &event, args.speed != Speed::Max)).map(drop)
        });
    };
    let bar = count_bar("replayed");
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let into_root = RootArgs { root: into.clone(), tiers: TierArgs::default() }.named()?;
    let mut queues = into::Queues::new(&into_root, into, &args)?;
    let began = Instant::now();
    let given = give(replay, schedule, |event| {
        bar.inc(1);
        queues.put(&event)
    });
    // What is there goes to the archive, whatever ended it.
    queues.finish()?;
    let given = given?;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let (first, last) = (rfc3339(given.first_ns), rfc3339(given.last_ns));
    if args.json {
        return print_json(&json!({ "records": given.records, "first": first, "last": last, "seconds": seconds }));
    }
    println!("{} records, received from {first} to {last}, in {seconds:.3} s", Count(given.records));
    println!("next: chronicle refine --root {}", crate::run::Word(into));
    Ok(())
}

/// Gives every record when it is due.
fn give(
    mut replay: Replay<System>,
    mut schedule: Schedule,
    mut each: impl FnMut(Event<'_>) -> Outcome,
) -> Result<Given, Failure> {
    let mut given = Given::default();
    while let Some(event) = replay.next()? {
        let received_ns = event.received_ns;
        if !schedule.wait(received_ns) {
            break;
        }
        each(event)?;
        if given.records == 0 {
            given.first_ns = received_ns;
        }
        given.records += 1;
        given.last_ns = received_ns;
    }
    Ok(given)
}

/// The symbols that were named, or all there are.
fn symbols(args: &Args, root: &Root) -> Result<Vec<(Name, Name)>, Failure> {
    let archive = ArchiveReader::open(&System, root)?;
    if args.symbols.is_empty() {
        let venues = match &args.venue {
            Some(venue) => vec![venue.clone()],
            None => archive.venues()?,
        };
        let mut all = Vec::new();
        for venue in venues {
            all.extend(archive.symbols(&venue)?.into_iter().map(|symbol| (venue.clone(), symbol)));
        }
        if all.is_empty() {
            return Err(Failure::Usage(format!("nothing to replay{}", what_there_is(root))));
        }
        return Ok(all);
    }
    let named = args.symbols.iter().map(|text| {
        // A symbol may have a slash of its own: it is a venue in front of it only if there is such a venue.
        let (venue, symbol) = match text.split_once('/') {
            Some((venue, symbol)) if args.venue.is_none() => (Name::new(venue)?, symbol),
            _ => match &args.venue {
                Some(venue) => (venue.clone(), text.as_str()),
                None => return Err(Failure::Usage(format!("{text}: of which venue? say --venue, or VENUE/{text}"))),
            },
        };
        Ok((venue, Name::new(&symbol_code(symbol))?))
    });
    named.collect()
}

/// Prints a record; at a pace, each when it is due.
fn print(out: &mut dyn Write, json: bool, event: &Event<'_>, at_once: bool) -> Outcome {
    let record = event.record()?;
    let etl::replay::LaneId { venue, symbol, stream } = event.lane;
    if json {
        let line = json!({
            "received": rfc3339(event.received_ns),
            "time": rfc3339(event.time_ns),
            "venue": venue,
            "symbol": symbol,
            "stream": stream.stem(),
            "type_id": event.type_id,
            "record": records::decoded(&record),
        });
        writeln!(out, "{line}")?;
    } else {
        let what = records::brief(&record);
        writeln!(out, "{:<30}  {venue}/{symbol}  {what}", rfc3339(event.received_ns))?;
    }
    if at_once {
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_and_kept() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("1x".parse(), Ok(Speed::Times(1.0)));
        assert_eq!("0.5x".parse(), Ok(Speed::Times(0.5)));
        for wrong in ["", "x", "1", "0x", "-1x", "NaNx", "infx", "1e9x"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    /// Years of records must not drift by what a float cannot hold.
    #[test]
    fn the_schedule_is_exact_to_a_microsecond() {
        let first_ns = 1_723_161_255_000_000_000;
        for (times, divisor) in [(1.0, 1), (10.0, 10), (1000.0, 1000)] {
            let pace = Speed::Times(times).pace(first_ns);
            for after_ns in [0, 1_000, 1_000_000_000, 86_400_000_000_000, 31_536_000_000_000_000] {
                let due = pace.due(first_ns + after_ns).as_nanos() as i128;
                let exact = i128::from(after_ns / divisor);
                assert!((due - exact).abs() <= 1_000, "{times}x after {after_ns} ns: {due}, not {exact}");
            }
        }
    }
}
