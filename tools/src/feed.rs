//! `chronicle feed`: a venue's live stream into the raw stream of a root.

use crate::{
    ingest::{RawStream, open_raw},
    run::{Count, Failure, Outcome, RootArgs, Size, line, rfc3339, say},
    stop::Stop,
};
use chronicle::{
    System,
    bus::{Entry, Layout, Registration, RegistrationOptions},
    feed::{
        Venue,
        live::{Address, Channel, Counts, Event, FeedError, Options, RawEnd, Tell, Trust, follow, symbol},
    },
    platform::Platform,
    storage::{
        Error,
        queue::{Profile, PublisherOptions},
        recorder,
        root::{Name, Root},
    },
};
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Follow a venue live into a root's raw stream; makes the root if there is none
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle feed --venue binance-spot --symbols btcusdt,ethusdt --root market
  chronicle feed --venue kraken --symbols BTC/USD --streams depth,trade --root market --hot /dev/shm/market
  chronicle feed --venue binance-spot --symbols btcusdt --root market --url ws://127.0.0.1:9000 --rest-url http://127.0.0.1:9000
While it runs, from another terminal:
  chronicle refine --root market --follow     chronicle tail -f …     chronicle top …

It connects again by itself, asks for a snapshot behind every hole, and opens a second connection before the venue ends
the first, so that nothing is lost. When readers do not keep up it writes to an overflow queue on disk and drains that in
order; only when that is full too are records dropped, and the stream says so with a gap marker. The raw stream's recorder
runs here too, unless somebody else runs it.

Ends on Ctrl-C or SIGTERM with everything on its way to the archive: exit 0. Exit 1: the raw stream could not be written,
records were dropped, or, before anything worked, what only you can mend: a certificate that is not trusted, a symbol that
the venue does not have. With --json, one object a line: {time, event, …} and every few seconds {time, status: {…}}.")]
pub(crate) struct Args {
    /// Whose: binance-spot, binance-usdm, binance-coinm or kraken
    #[arg(long)]
    venue: Venue,
    /// Which symbols, as the venue names them
    #[arg(long, required = true, value_delimiter = ',', value_name = "SYMBOL,…")]
    symbols: Vec<String>,
    /// What of each: depth, trade, bookTicker
    #[arg(long, value_delimiter = ',', default_value = "depth,trade,bookTicker", value_name = "STREAM,…")]
    streams: Vec<Channel>,
    #[command(flatten)]
    root: RootArgs,
    /// Where the stream is, if not at the venue: ws:// or wss://, host and port
    #[arg(long, value_name = "ADDRESS")]
    url: Option<Address>,
    /// Where snapshots are, if not at the venue: http:// or https://, host and port
    #[arg(long, value_name = "ADDRESS")]
    rest_url: Option<Address>,
    /// PEM file of an authority to believe beside those compiled in
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Overflow queue elsewhere than under state/; it should be on a disk
    #[arg(long, value_name = "DIR")]
    overflow: Option<PathBuf>,
    /// MiB that the overflow queue may take
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(3..=1 << 20))]
    overflow_mib: u64,
    /// MiB of one segment of the raw queue, which rolls into the archive when it is full
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    segment_mib: u64,
    /// Segments that the raw queue may have
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u64).range(4..=1 << 16))]
    segments: u64,
    /// Seconds after which a second connection takes over from the first; by default an hour before the venue ends it
    #[arg(long, value_name = "S")]
    renew_after: Option<u64>,
    /// Seconds between two lines of numbers
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    status_every: u64,
    /// End after so many seconds
    #[arg(long = "for", value_name = "S")]
    lasts: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// How often the recorder looks for segments that have ended.
const RECORD_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether somebody wants this to end.
const STOP_EVERY: Duration = Duration::from_millis(50);
/// How long the end waits for readers to make room for what lies in the overflow.
const DRAIN_MAX: Duration = Duration::from_secs(5);

pub(crate) fn run(args: Args) -> Outcome {
    let options = options(&args)?;
    let root = args.root.named()?;
    let stop = Stop::on_signals().map_err(|error| Failure::Problem(format!("signals: {error}")))?;
    let venue = Name::new(args.venue.name())?;

    let layout = Layout::of(&root);
    let mut registration =
        Registration::begin(&System, &layout, Entry::raw(args.venue.name())?, RegistrationOptions::default())?;
    let hot = open_raw(&System, &root, &venue, hot_options(&args))?;
    let overflow =
        args.overflow.clone().unwrap_or_else(|| root.state.join("overflow").join(venue.as_str()).join("queue"));
    let mut raw = RawEnd::new(&System, hot, &overflow, overflow_options(&args))?;
    registration.ready()?;
    registration.start_renewing()?;
    let recording = Recording::start(&root, &venue)?;

    let mut teller = Teller::new(&args);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let deadline = args.lasts.map(|lasts| Instant::now() + Duration::from_secs(lasts));
    let stopped = async {
        while !stop.asked() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            tokio::time::sleep(STOP_EVERY).await;
        }
    };
    let result = runtime.block_on(follow(
        &options,
        &mut raw,
        || System.now_ns(),
        stopped,
        |told| match told {
            Tell::Event(event) => teller.event(event),
            Tell::Status(counts) => teller.status(counts),
        },
    ));

    // Whatever ended it: what is there goes to the archive.
    let drained = drain(&mut raw);
    let dropped = raw.counts().dropped;
    recording.stop();
    RawStream::of(&System, &root, venue, raw.into_hot()?).finish()?;
    registration.leave()?;
    match result {
        Err(error @ (FeedError::NotLive(_) | FeedError::Symbol { .. } | FeedError::TooManyStreams { .. })) => {
            return Err(Failure::Usage(error.to_string()));
        }
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    if drained? {
        eprintln!("chronicle: records are left in {}; the next feed brings them in first", overflow.display());
    }
    match dropped {
        0 => Ok(()),
        dropped => {
            Err(Failure::Problem(format!("{} records were dropped: queue and overflow were full", Count(dropped))))
        }
    }
}

fn options(args: &Args) -> Result<Options, Failure> {
    let symbols = args.symbols.iter().map(|typed| symbol(args.venue, typed).unwrap_or_default()).collect();
    let mut options = Options::new(args.venue, symbols, System.random() as u64);
    options.channels.clone_from(&args.streams);
    (options.stream, options.rest) = (args.url.clone(), args.rest_url.clone());
    options.age_max = args.renew_after.map(Duration::from_secs);
    options.status_every = Duration::from_secs(args.status_every);
    // A message becomes a record that is shorter than twice its text, and a segment must hold it.
    options.message_len_max = options.message_len_max.min((args.segment_mib as usize) << 18);
    if let Some(path) = &args.ca {
        let bad = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let mut trust = Trust::default();
        trust.add_pem(&pem).map_err(bad)?;
        options.trust = trust;
    }
    Ok(options)
}

fn hot_options(args: &Args) -> PublisherOptions {
    let segment_len = (args.segment_mib << 20) as u32;
    PublisherOptions {
        segment_len,
        max_bytes: (args.segment_mib << 20) * args.segments,
        ..PublisherOptions::new(Profile::Raw)
    }
}

/// Segments of the overflow can hold what the hot queue's can, but where less than three of them are allowed.
fn overflow_options(args: &Args) -> PublisherOptions {
    let segment_mib = args.segment_mib.min(args.overflow_mib / 3).max(1);
    PublisherOptions {
        segment_len: (segment_mib << 20) as u32,
        max_bytes: args.overflow_mib << 20,
        segments_ahead: 1,
        prepare_late: true,
        ..PublisherOptions::new(Profile::Raw)
    }
}

/// Moves what lies in the overflow, as long as readers make room for it. Gives whether any is left.
fn drain(raw: &mut RawEnd<System>) -> Result<bool, Failure> {
    let began = Instant::now();
    while raw.drain(4096)? {
        if began.elapsed() > DRAIN_MAX {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// The raw stream's recorder, beside the feed: copying a segment must not keep messages waiting.
struct Recording {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Recording {
    fn start(root: &Root, venue: &Name) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, root, venue) = (stop.clone(), root.clone(), venue.clone());
        let thread = std::thread::Builder::new().name("chronicle-recorder".into()).spawn(move || {
            let mut told = String::new();
            // ORDERING: Relaxed: nothing else is read because of it.
            while !stopped.load(Ordering::Relaxed) {
                match recorder::run(&System, &root, &venue) {
                    Ok(_) | Err(Error::Locked { .. }) => told.clear(),
                    Err(error) => {
                        // Told once while it stays the same: the queue fills up meanwhile, and that is told too.
                        let why = crate::run::chain(&error);
                        if why != told {
                            eprintln!("chronicle: recorder: {why}");
                            told = why;
                        }
                    }
                }
                std::thread::park_timeout(RECORD_EVERY);
            }
        })?;
        Ok(Recording { stop, thread })
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // If it panicked it has said so already.
        _ = self.thread.join();
    }
}

/// Tells what happens, on standard output. Nobody has to listen.
struct Teller {
    json: bool,
    terminal: bool,
    before: (Instant, Counts),
}

#[derive(serde::Serialize)]
struct EventLine<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

#[derive(serde::Serialize)]
struct StatusLine<'a> {
    time: String,
    status: &'a Counts,
}

impl Teller {
    fn new(args: &Args) -> Self {
        let terminal = io::stdout().is_terminal() && !args.json;
        Teller { json: args.json, terminal, before: (Instant::now(), Counts::default()) }
    }

    fn event(&mut self, event: &Event) {
        if self.json {
            return line(&EventLine { time: rfc3339(System.now_ns()), event });
        }
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        say(&format!("{clear}{}  {event}\n", rfc3339(System.now_ns())));
    }

    fn status(&mut self, counts: &Counts) {
        if self.json {
            return line(&StatusLine { time: rfc3339(System.now_ns()), status: counts });
        }
        let (at, before) = std::mem::replace(&mut self.before, (Instant::now(), *counts));
        let seconds = at.elapsed().as_secs_f64().max(1e-3);
        let rate = |now: u64, before: u64| ((now - before) as f64 / seconds) as u64;
        let mut text = format!(
            "{}/{} books whole, {} messages/s, {}/s, {} records, {} gaps, {} reconnects",
            counts.books_whole,
            counts.books,
            Count(rate(counts.messages, before.messages)),
            Size(rate(counts.bytes, before.bytes)),
            Count(counts.raw.hot + counts.raw.overflowed),
            Count(counts.gaps),
            Count(counts.disconnects),
        );
        for (what, count) in [
            ("malformed", counts.malformed),
            ("in overflow", (counts.raw.overflowed).saturating_sub(counts.raw.drained)),
            ("DROPPED", counts.raw.dropped),
        ] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", Count(count)));
            }
        }
        // One line that is written again on a terminal; lines elsewhere.
        say(&if self.terminal { format!("\r\x1b[K{text}") } else { format!("{}  {text}\n", rfc3339(System.now_ns())) });
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.terminal {
            say("\n");
        }
    }
}
