//! How long a first scan of thousands of strategies takes, and how soon a new one is told.
//!
//! ```text
//! cargo run --release -p chronicle-bus --example discovery_rate [STRATEGIES] [SAMPLES]
//! ```
//!
//! Real registrations without queues: directory, lock, `LEASE`, `READY`. They are held by several processes, because each
//! takes two descriptors. The reaction is from just before `READY` is published to the event in the poller's hands, so it
//! contains the publishing itself.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this measures inotify, on Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use chronicle_bus::{
        Change, Discovery, DiscoveryOptions, Entry, Kind, Layout, Registration, RegistrationOptions,
        watch::{Blind, Watch},
    };
    use chronicle_platform::Platform;
    use chronicle_platform_linux::Linux;
    use std::{
        collections::HashMap,
        error::Error,
        io::{BufRead, BufReader, Read},
        process::{Child, Command, Stdio},
        sync::mpsc,
        time::{Duration, Instant},
    };

    const HOLD: &str = "DISCOVERY_RATE_HOLD";
    /// Registrations that one process holds: two descriptors each, and a limit of 1024 is common.
    const PER_PROCESS: usize = 2500;
    const TTL: Duration = Duration::from_secs(3600);

    type Outcome<T> = Result<T, Box<dyn Error>>;

    fn register(layout: &Layout, name: &str) -> Outcome<Registration<Linux>> {
        let options = RegistrationOptions { ttl: TTL, ..RegistrationOptions::default() };
        Ok(Registration::begin(&Linux, layout, Entry::strategy(name)?, options)?)
    }

    pub(super) fn main() -> Outcome<()> {
        let mut arguments = std::env::args().skip(1);
        if let Some(dir) = std::env::var_os(HOLD) {
            return hold(&Layout::new(dir), arguments);
        }
        let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
        let (strategies, samples) = (number(10_000)?, number(1000)?);
        let dir = match Linux.memory_dir() {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        let layout = Layout::new(dir.path());
        Linux.create_dirs(&layout.kind_dir(Kind::Strategy))?;

        let begun = Instant::now();
        let children = start(&layout, strategies)?;
        println!("{strategies} registrations by {} processes: {:.1?}", children.len(), begun.elapsed());
        let options = DiscoveryOptions { kinds: vec![Kind::Strategy], ..DiscoveryOptions::default() };

        let mut blind =
            scan("without a watch", || Ok(Discovery::with_watch(&Linux, &layout, options.clone(), Blind(Linux))?))?;
        rescan(&mut blind, "rescan without a watch");
        drop(blind);
        let mut watched = scan("with a watch each", || Ok(Discovery::open(&Linux, &layout, options.clone())?))?;
        let counters = watched.counters();
        println!("  {} directories watched, {} not", counters.watched, counters.unwatched);
        react(&layout, &mut watched, samples)?;
        rescan(&mut watched, "rescan and new watches");
        for mut child in children {
            // Its standard input closes: it leaves.
            drop(child.stdin.take());
            child.wait()?;
        }
        Ok(())
    }

    /// What a child does: registers and stays until its standard input closes.
    fn hold(layout: &Layout, mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
        let mut number = || arguments.next().unwrap_or_default().parse::<usize>();
        let (first, last) = (number()?, number()?);
        let mut held = Vec::new();
        for strategy in first..last {
            let mut registration = register(layout, &format!("s{strategy}"))?;
            registration.ready()?;
            held.push(registration);
        }
        println!("ready");
        _ = std::io::stdin().read(&mut [0])?;
        Ok(())
    }

    fn start(layout: &Layout, strategies: usize) -> Outcome<Vec<Child>> {
        let mut children = Vec::new();
        for first in (0..strategies).step_by(PER_PROCESS) {
            let last = (first + PER_PROCESS).min(strategies);
            let child = Command::new(std::env::current_exe()?)
                .args([first.to_string(), last.to_string()])
                .env(HOLD, layout.hot())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            children.push(child);
        }
        for child in &mut children {
            let mut line = String::new();
            BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
            if line.trim() != "ready" {
                return Err("a child did not register: raise the limit of open files (ulimit -n 8192)".into());
            }
        }
        Ok(children)
    }

    fn scan<W: Watch>(what: &str, open: impl FnOnce() -> Outcome<Discovery<Linux, W>>) -> Outcome<Discovery<Linux, W>> {
        let begun = Instant::now();
        let mut discovery = open()?;
        let ready = discovery.poll().iter().filter(|event| matches!(event.change, Change::Ready { .. })).count();
        println!("first scan {what}: {:.1?}, {ready} ready", begun.elapsed());
        Ok(discovery)
    }

    fn rescan<W: Watch>(discovery: &mut Discovery<Linux, W>, what: &str) {
        let begun = Instant::now();
        discovery.rescan();
        println!("{what}: {:.1?}", begun.elapsed());
    }

    /// New strategies come and go, one after the other; a thread registers them, this one polls.
    fn react(layout: &Layout, discovery: &mut Discovery<Linux>, samples: usize) -> Outcome<()> {
        let (tell, told) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let mut came = Vec::new();
        let mut went = Vec::new();
        std::thread::scope(|scope| -> Outcome<()> {
            let registrar = scope.spawn(move || -> Result<(), String> {
                for sample in 0..samples {
                    let name = format!("new{sample}");
                    let mut registration = register(layout, &name).map_err(|error| error.to_string())?;
                    let readied = Instant::now();
                    registration.ready().map_err(|error| error.to_string())?;
                    let entry = registration.entry().clone();
                    tell.send((entry.clone(), true, readied)).map_err(|error| error.to_string())?;
                    goes.recv().map_err(|error| error.to_string())?;
                    let left = Instant::now();
                    registration.leave().map_err(|error| error.to_string())?;
                    tell.send((entry, false, left)).map_err(|error| error.to_string())?;
                    goes.recv().map_err(|error| error.to_string())?;
                }
                Ok(())
            });
            let mut seen: HashMap<(Entry, bool), Instant> = HashMap::new();
            'samples: for _ in 0..2 * samples {
                let mut begun = None;
                loop {
                    for event in discovery.wait(Duration::from_millis(100)) {
                        match event.change {
                            Change::Ready { .. } => _ = seen.insert((event.entry, true), Instant::now()),
                            Change::Lost { .. } => _ = seen.insert((event.entry, false), Instant::now()),
                            Change::Added | Change::Removed => {}
                        }
                    }
                    begun = begun.or_else(|| told.try_recv().ok());
                    let Some((entry, comes, at)) = &begun else {
                        if registrar.is_finished() {
                            break 'samples;
                        }
                        continue;
                    };
                    if let Some(seen) = seen.remove(&(entry.clone(), *comes)) {
                        if *comes { &mut came } else { &mut went }.push(seen.saturating_duration_since(*at));
                        go.send(())?;
                        break;
                    }
                }
            }
            drop(go);
            registrar.join().map_err(|_| "the registrar panicked")??;
            Ok(())
        })?;
        percentiles("new strategy ready", &mut came);
        percentiles("strategy left", &mut went);
        Ok(())
    }

    fn percentiles(what: &str, times: &mut [Duration]) {
        times.sort_unstable();
        let at = |permille: usize| times[(times.len() * permille / 1000).min(times.len() - 1)];
        println!(
            "{what}, {} samples: p50 {:.0?}  p99 {:.0?}  p99.9 {:.0?}  max {:.0?}",
            times.len(),
            at(500),
            at(990),
            at(999),
            at(1000)
        );
    }
}
