//! `chronicle top`: queues, their readers and who has registered, as they are now.
//!
//! A thread looks (`top/observe.rs`), this one draws (`top/screen.rs`) and hears keys: a slow look never holds up a key,
//! and a slow terminal never holds up a look. Whoever writes or reads the queues notices nothing.
//!
//! The terminal is as it was before, however it ends: `q`, a signal, a panic of either thread.

mod observe;
mod screen;

use crate::{
    run::{Count, Failure, Outcome, RootArgs, Size, TierArgs, rfc3339, span, with_stdout},
    stop::Stop,
};
use chronicle::storage::root::Root;
use observe::{Observer, Tick};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use screen::{Asked, State, does, latency, rate, writer};
use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

/// Watch queues: rates, lag of each reader, latency, occupancy, who is registered
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle top market
  chronicle top market --interval 0.25
  chronicle top market --once
  chronicle top market --json --ticks 10

Keys: q quits, arrows choose a queue, s sorts, / filters, p holds, + and - change the interval, ? explains the columns.
Latency is from the stamp that a frame's writer gave it until it was seen here; nobody is woken for it. --once and --json
need no terminal.")]
pub(crate) struct Args {
    /// A root, or its hot tier
    #[arg(value_name = "ROOT")]
    root: PathBuf,
    #[command(flatten)]
    tiers: TierArgs,
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    interval: f64,
    /// Look twice, print one table, and end
    #[arg(long, conflicts_with = "json")]
    once: bool,
    /// One JSON object a tick: {at_ns, queues: [{name, writer, frames_per_s, readers, latency, …}], leases}
    #[arg(long)]
    json: bool,
    /// With --json, end after so many ticks
    #[arg(long, value_name = "N", requires = "json")]
    ticks: Option<u64>,
}

/// Longest wait for a key without a look at signals.
const SLICE: Duration = Duration::from_millis(50);

pub(crate) fn run(args: Args) -> Outcome {
    if !(0.05..=3600.0).contains(&args.interval) {
        return Err(Failure::Usage(format!("--interval {}: at least 0.05 and at most 3600", args.interval)));
    }
    let interval = Duration::from_secs_f64(args.interval);
    let root = root_of(&args)?;
    if args.once {
        return once(&root, interval);
    }
    let stop = Stop::on_signals()?;
    if args.json {
        return lines(&root, interval, args.ticks, &stop);
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage("standard output is no terminal: ask with --once or --json".to_owned()));
    }
    on_a_terminal(&args.root, &root, interval, &stop)
}

/// The root; a hot tier or a queue by itself is one, too.
fn root_of(args: &Args) -> Result<Root, Failure> {
    let is_hot = args.root.join("streams").is_dir() || args.root.join("orders").is_dir();
    if is_hot || args.root.join("control.meta").exists() {
        return Ok(args.tiers.apply(Root::new(&args.root)).with_hot(&args.root));
    }
    RootArgs { root: args.root.clone(), tiers: args.tiers.clone() }.existing()
}

/// Two looks, so that there are rates.
fn twice(root: &Root, interval: Duration) -> Tick {
    let mut observer = Observer::new(root);
    observer.look(interval, None);
    std::thread::sleep(interval);
    observer.look(interval, None)
}

fn once(root: &Root, interval: Duration) -> Outcome {
    let tick = twice(root, interval);
    if tick.queues.is_empty() {
        crate::queues::must_be_open(&root.hot)?;
    }
    with_stdout(|out| table(out, &root.hot, &tick, interval))
}

fn lines(root: &Root, interval: Duration, ticks: Option<u64>, stop: &Stop) -> Outcome {
    let mut observer = Observer::new(root);
    let mut count = 0;
    loop {
        let began = Instant::now();
        let tick = observer.look(interval, None);
        // Standard output may be a pipe whose reader has left: then this was the last one.
        let mut line = serde_json::to_vec(&tick).map_err(io::Error::from)?;
        line.push(b'\n');
        let mut out = io::stdout().lock();
        match out.write_all(&line).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
        count += 1;
        if ticks == Some(count) || stop.asked() || !rest(began, interval, stop) {
            return Ok(());
        }
    }
}

/// Sleeps until the interval is over; `false` if it is time to end.
fn rest(began: Instant, interval: Duration, stop: &Stop) -> bool {
    while let Some(left) = interval.checked_sub(began.elapsed()) {
        if stop.asked() {
            return false;
        }
        std::thread::sleep(left.min(SLICE));
    }
    !stop.asked()
}

/// What the screen tells the thread that looks.
#[derive(Clone, Default)]
struct Wishes {
    interval: Duration,
    chosen: Option<PathBuf>,
    over: bool,
}

fn on_a_terminal(called: &Path, root: &Root, interval: Duration, stop: &Stop) -> Outcome {
    let wishes = Arc::new(Mutex::new(Wishes { interval, ..Wishes::default() }));
    let (seen, ticks) = mpsc::sync_channel(4);
    // From here on a panic anywhere gives the terminal back first.
    let mut terminal = ratatui::try_init()?;
    let watcher = {
        let (wishes, root) = (wishes.clone(), root.clone());
        std::thread::Builder::new().name("look".to_owned()).spawn(move || watch(&root, &wishes, &seen))
    };
    let outcome = watcher.map_err(Failure::from).and_then(|_| {
        let mut state = State::new(called, interval);
        show(&mut terminal, &mut state, &ticks, &wishes, stop)
    });
    lock(&wishes).over = true;
    ratatui::restore();
    outcome
}

fn lock(wishes: &Mutex<Wishes>) -> std::sync::MutexGuard<'_, Wishes> {
    wishes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(root: &Root, wishes: &Mutex<Wishes>, seen: &mpsc::SyncSender<Tick>) {
    let mut observer = Observer::new(root);
    loop {
        let began = Instant::now();
        let wish = lock(wishes).clone();
        if wish.over || seen.send(observer.look(wish.interval, wish.chosen.as_deref())).is_err() {
            return;
        }
        // The interval may change while it lasts.
        while began.elapsed() < lock(wishes).interval && !lock(wishes).over {
            std::thread::sleep(SLICE.min(wish.interval));
        }
    }
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    state: &mut State,
    ticks: &mpsc::Receiver<Tick>,
    wishes: &Mutex<Wishes>,
    stop: &Stop,
) -> Outcome {
    let mut stale = true;
    loop {
        // Of several the last: taking one in must never last longer than the next takes to come.
        let mut newest = None;
        loop {
            match ticks.try_recv() {
                Ok(tick) => newest = Some(tick),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    return Err(Failure::Problem("the thread that looks has ended".to_owned()));
                }
            }
        }
        if let Some(tick) = newest {
            state.see(tick);
            stale = true;
        }
        if stop.asked() {
            return Ok(());
        }
        if stale {
            terminal.draw(|frame| state.draw(frame))?;
            stale = false;
        }
        if event::poll(SLICE)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    if state.key(key) == Asked::Quit {
                        return Ok(());
                    }
                    let mut wishes = lock(wishes);
                    (wishes.interval, wishes.chosen) = (state.interval(), state.chosen().map(Path::to_owned));
                    stale = true;
                }
                Event::Resize(..) => stale = true,
                _ => {}
            }
        }
    }
}

/// One table, for people without a terminal.
fn table(out: &mut dyn Write, hot: &Path, tick: &Tick, interval: Duration) -> Outcome {
    if tick.queues.is_empty() {
        writeln!(out, "no queue in {} yet; `chronicle feed` and `chronicle import` make them", hot.display())?;
        return Ok(());
    }
    let dash = || "-".to_owned();
    let mut rows = vec![
        ["queue", "writer", "frames", "frames/s", "bytes/s", "fill", "latency", "refused", "wakes/s"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for queue in &tick.queues {
        rows.push(vec![
            queue.name.clone(),
            writer(queue.writer).to_owned(),
            Count(queue.frames).to_string(),
            queue.frames_per_s.map_or_else(dash, rate),
            queue.bytes_per_s.map_or_else(dash, |bytes| Size(bytes as u64).to_string()),
            format!("{:.0} % of {}", queue.fill() * 100.0, Size(queue.max_bytes)),
            queue.latency.map_or_else(dash, latency),
            Count(queue.refused).to_string(),
            queue.wakes_per_s.map_or_else(dash, rate),
        ]);
    }
    crate::inspect::table(out, &rows, |column| column > 1, "")?;
    let readers: Vec<_> =
        tick.queues.iter().flat_map(|queue| queue.readers.iter().map(move |reader| (queue, reader))).collect();
    if !readers.is_empty() {
        writeln!(out)?;
        let mut rows = vec![["reader", "of", "does", "lag", "looks/s", ""].map(str::to_owned).to_vec()];
        for (queue, reader) in readers {
            rows.push(vec![
                reader.name.clone(),
                queue.name.clone(),
                does(reader).to_owned(),
                reader.lag.map_or_else(dash, |lag| Count(lag).to_string()),
                reader.looks_per_s.map_or_else(dash, rate),
                if reader.required { "the queue waits for it".to_owned() } else { String::new() },
            ]);
        }
        crate::inspect::table(out, &rows, |column| matches!(column, 3 | 4), "")?;
    }
    if !tick.leases.is_empty() {
        writeln!(out)?;
        let mut rows = vec![["registered", "state", "pid", "epoch", "renewed"].map(str::to_owned).to_vec()];
        for lease in &tick.leases {
            rows.push(vec![
                lease.entry.clone(),
                lease.state.clone(),
                lease.pid.map_or_else(dash, |pid| pid.to_string()),
                lease.epoch.map_or_else(dash, |epoch| epoch.to_string()),
                lease.age_ns.map_or_else(dash, |age| format!("{} ago", span(age))),
            ]);
        }
        crate::inspect::table(out, &rows, |column| column > 1, "")?;
    }
    for queue in tick.queues.iter().filter(|queue| queue.error.is_some()) {
        writeln!(out, "\n{}: {}", queue.name, queue.error.as_deref().unwrap_or_default())?;
    }
    writeln!(
        out,
        "\nat {}, over {}; latency is from the writer's stamp until a look at the queue saw the frame",
        rfc3339(tick.at_ns),
        span(interval.as_nanos() as u64)
    )?;
    Ok(())
}
