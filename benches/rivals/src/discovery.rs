//! Group `discovery`: thousands of strategies are there; how long a first look at all of them takes, and how soon a new one
//! is told.
//!
//! Registrations are real ones, without queues: directory, lock, `LEASE`, `READY`. Other processes hold them, because each
//! takes two descriptors. The floor of the scan reads the same names and bytes, and asks no lock and sets no watch. The
//! floor of the reaction is bare inotify: one directory, watched already, and a file published in it.

use crate::{
    Choice,
    contest::{Line, Target, line},
    queue::{Other, say, told},
};
use chronicle_bus::{
    Change, Discovery, DiscoveryOptions, Entry, Kind, Layout, Registration, RegistrationOptions,
    watch::{Blind, Watch},
};
use chronicle_platform::{File as _, Open, Platform as _};
use chronicle_platform_linux::Linux;
use rustix::fs::inotify;
use std::{
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

const ROUNDS: usize = 3;
/// Registrations that one process holds.
const PER_PROCESS: usize = 2_000;
/// New strategies of one round.
const SAMPLES: usize = 300;
/// Where nobody renews: longer than any run.
const TTL: Duration = Duration::from_secs(3600);
/// No new strategy takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures the group.
pub fn run(dir: &Path, choice: &Choice, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let count = if choice.full { 10_000 } else { 2_000 };
    let layout = Layout::new(dir.join("hot"));
    Linux.create_dirs(&layout.kind_dir(Kind::Strategy)).map_err(|it| it.to_string())?;
    let mut children = Vec::new();
    for first in (0..count).step_by(PER_PROCESS) {
        let (from, to) = (first.to_string(), (first + PER_PROCESS).min(count).to_string());
        children.push(Other::start(&[], &["discovery-hold", &from, &to], layout.hot())?);
    }
    for child in &mut children {
        child.hear()?;
    }

    let (mut watched, mut blind, mut bare) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        bare.push(names_and_bytes(&layout, count)?);
        blind.push(scan(count, |options| Discovery::with_watch(&Linux, &layout, options, Blind(Linux)))?);
        watched.push(scan(count, |options| Discovery::open(&Linux, &layout, options))?);
    }
    let floor = Some(("the same names and bytes, no lock asked, no watch set", &bare[..]));
    let case = |what: &str| format!("{what}, {count} strategies");
    out(line("discovery", case("first scan, each watched"), "ms", false, &watched, floor, &[], Target::None));
    out(line("discovery", case("first scan, none watched"), "ms", false, &blind, floor, &[], Target::None));

    let (mut median, mut tail, mut left, mut bare) = (vec![], vec![], vec![], vec![]);
    let mut discovery = Discovery::open(&Linux, &layout, options()).map_err(|it| it.to_string())?;
    _ = discovery.poll();
    for round in 0..ROUNDS {
        bare.push(at(&mut bare_inotify(&dir.join(format!("bare{round}")))?, 500));
        let (mut came, mut went) = reactions(&layout, &mut discovery, round)?;
        median.push(at(&mut came, 500));
        tail.push(at(&mut came, 990));
        left.push(at(&mut went, 990));
    }
    let floor = Some(("bare inotify, directory watched before", &bare[..]));
    out(line("discovery", case("READY published to told, p50"), "ms", false, &median, floor, &[], Target::None));
    out(line("discovery", case("READY published to told, p99"), "ms", false, &tail, None, &[], Target::Median(10.0)));
    out(line("discovery", case("left to told, p99"), "ms", false, &left, None, &[], Target::None));
    drop(discovery);
    children.iter_mut().try_for_each(Other::finish)
}

/// The process that holds some of them, until it is told to end.
pub fn hold(from: &str, to: &str, hot: &Path) -> Result<(), String> {
    let number = |text: &str| text.parse::<usize>().map_err(|it| it.to_string());
    let layout = Layout::new(hot);
    let mut held = Vec::new();
    for strategy in number(from)?..number(to)? {
        let mut registration = register(&layout, &format!("s{strategy}"))?;
        registration.ready().map_err(|it| it.to_string())?;
        held.push(registration);
    }
    say("ready");
    told().map(drop)
}

fn register(layout: &Layout, name: &str) -> Result<Registration<Linux>, String> {
    let options = RegistrationOptions { ttl: TTL, ..RegistrationOptions::default() };
    let entry = Entry::strategy(name).map_err(|it| it.to_string())?;
    Registration::begin(&Linux, layout, entry, options).map_err(|it| it.to_string())
}

fn options() -> DiscoveryOptions {
    DiscoveryOptions { kinds: vec![Kind::Strategy], ..DiscoveryOptions::default() }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One of a thousand, by rank.
fn at(times: &mut [f64], permille: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() * permille / 1000).min(times.len() - 1)]
}

fn scan<W: Watch>(
    count: usize,
    open: impl FnOnce(DiscoveryOptions) -> chronicle_bus::Result<Discovery<Linux, W>>,
) -> Result<f64, String> {
    let begun = Instant::now();
    let mut discovery = open(options()).map_err(|it| it.to_string())?;
    let events = discovery.poll();
    let took = ms(begun.elapsed());
    match events.iter().filter(|event| matches!(event.change, Change::Ready { .. })).count() {
        ready if ready == count => Ok(took),
        ready => Err(format!("{ready} of {count} were found ready")),
    }
}

/// What any scan has to do.
fn names_and_bytes(layout: &Layout, count: usize) -> Result<f64, String> {
    let begun = Instant::now();
    let (mut found, mut bytes) = (0, [0; 512]);
    for name in Linux.list(&layout.kind_dir(Kind::Strategy)).map_err(|it| it.to_string())? {
        let dir = layout.kind_dir(Kind::Strategy).join(name.name);
        for name in ["READY", "LEASE"] {
            let file = Linux.open(&dir.join(name), Open::Read).map_err(|it| it.to_string())?;
            found += usize::from(file.read_at(&mut bytes, 0).map_err(|it| it.to_string())? > 0);
        }
    }
    let took = ms(begun.elapsed());
    if found == 2 * count { Ok(took) } else { Err(format!("{found} files of {count} strategies")) }
}

/// New strategies come and go one after the other: how long after each the poller had been told.
fn reactions(layout: &Layout, discovery: &mut Discovery<Linux>, round: usize) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (tell, hear) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let (mut came, mut went) = (vec![], vec![]);
    std::thread::scope(|scope| {
        scope.spawn(move || -> Option<()> {
            for sample in 0..SAMPLES {
                let mut registration = register(layout, &format!("new{round}-{sample}")).ok()?;
                let entry = registration.entry().clone();
                let readied = Instant::now();
                registration.ready().ok()?;
                tell.send((entry.clone(), true, readied)).ok()?;
                goes.recv().ok()?;
                let left = Instant::now();
                registration.leave().ok()?;
                tell.send((entry, false, left)).ok()?;
                goes.recv().ok()?;
            }
            Some(())
        });
        for _ in 0..2 * SAMPLES {
            let (mut seen, mut awaited) = (Vec::new(), None);
            let begun = Instant::now();
            loop {
                for event in discovery.wait(Duration::from_millis(100)) {
                    match event.change {
                        Change::Ready { .. } => seen.push((event.entry, true, Instant::now())),
                        Change::Lost { .. } => seen.push((event.entry, false, Instant::now())),
                        Change::Added | Change::Removed => {}
                    }
                }
                awaited = awaited.or_else(|| hear.try_recv().ok());
                if let Some((entry, comes, done)) = &awaited
                    && let Some((.., told)) = seen.iter().find(|(it, came, _)| it == entry && came == comes)
                {
                    if *comes { &mut came } else { &mut went }.push(ms(told.saturating_duration_since(*done)));
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    drop(go);
                    return Err("a new strategy was never told".to_owned());
                }
            }
            go.send(()).map_err(|it| it.to_string())?;
        }
        Ok((came, went))
    })
}

/// The kernel's part: a file is published in a watched directory, and a thread that waits for that wakes up.
fn bare_inotify(dir: &Path) -> Result<Vec<f64>, String> {
    std::fs::create_dir(dir).map_err(|it| it.to_string())?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(|it| it.to_string())?;
    inotify::add_watch(&watch, dir, inotify::WatchFlags::MOVED_TO).map_err(|it| it.to_string())?;
    let (tell, hear) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || -> Option<()> {
            for sample in 0..SAMPLES {
                let draft = dir.join("READY.tmp");
                let done = Instant::now();
                let file = Linux.open(&draft, Open::Create).ok()?;
                file.write_at(&[1; 128], 0).ok()?;
                Linux.publish(&file, &draft, &dir.join(format!("READY{sample}"))).ok()?;
                tell.send(done).ok()?;
                goes.recv().ok()?;
            }
            Some(())
        });
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buffer);
        let mut times = vec![];
        for _ in 0..SAMPLES {
            reader.next().map_err(|it| it.to_string())?;
            let told = Instant::now();
            times.push(ms(told.saturating_duration_since(hear.recv().map_err(|it| it.to_string())?)));
            go.send(()).map_err(|it| it.to_string())?;
        }
        Ok(times)
    })
}
