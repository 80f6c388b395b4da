//! Discovery tells what is true, in its documented order, whatever the watch tells, loses or repeats.
//!
//! On the machine that the tests run on, whose watch is a real one, except where time or death is told to happen.
#![cfg(target_os = "linux")]

use chronicle_bus::{
    Change, Discovery, DiscoveryOptions, Entry, Event, Kind, Layout, LostReason, Registration, RegistrationOptions,
    State,
    watch::{Blind, Changes, Notify, Unwatched, Watch},
};
use chronicle_platform::{Platform, sim::Sim};
use chronicle_platform_linux::Linux;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn memory_or_disk() -> tempfile::TempDir {
    match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

fn strategy(name: &str) -> Entry {
    Entry::strategy(name).unwrap()
}

fn registered<P: Platform>(platform: &P, layout: &Layout, entry: &Entry) -> Registration<P> {
    let options = RegistrationOptions { patience: PATIENCE, ..RegistrationOptions::default() };
    let mut registration = Registration::begin(platform, layout, entry.clone(), options).unwrap();
    registration.ready().unwrap();
    registration
}

/// No rescan comes to help: what is told, the watch told.
fn without_rescan() -> DiscoveryOptions {
    DiscoveryOptions { rescan: Duration::from_secs(10_000), ..DiscoveryOptions::default() }
}

/// What was told of an entry, in words.
fn told(events: &[Event], entry: &Entry) -> Vec<String> {
    let of_it = events.iter().filter(|event| event.entry == *entry);
    of_it
        .map(|event| match &event.change {
            Change::Added => "added".into(),
            Change::Ready { epoch, skipped, .. } if *skipped > 0 => format!("ready {epoch}, {skipped} skipped"),
            Change::Ready { epoch, .. } => format!("ready {epoch}"),
            Change::Lost { epoch, reason } => format!("lost {epoch}: {reason}"),
            Change::Removed => "removed".into(),
        })
        .collect()
}

/// Waits until that has been told of an entry.
fn until<P: Platform, W: Watch>(discovery: &mut Discovery<P, W>, entry: &Entry, expected: &[&str]) {
    let begun = Instant::now();
    let mut events = Vec::new();
    while told(&events, entry) != expected {
        let words = told(&events, entry);
        assert!(words.len() <= expected.len() && begun.elapsed() < PATIENCE, "{words:?}, not {expected:?}");
        events.extend(discovery.wait(Duration::from_millis(100)));
    }
}

#[test]
fn what_is_there_is_found_and_what_comes_is_told_by_the_watch_alone() {
    let dir = memory_or_disk();
    let layout = Layout::new(dir.path().join("hot"));
    let early = strategy("early");
    let first = registered(&Linux, &layout, &early);
    let mut discovery = Discovery::open(&Linux, &layout, without_rescan()).unwrap();
    assert_eq!(told(&discovery.poll(), &early), ["added", "ready 1"]);
    assert_eq!(discovery.poll(), []);

    // Of every kind; of those of two no directory was there yet.
    for text in ["raw/kraken", "clean/kraken/btc-usd/book", "orders/late"] {
        let entry: Entry = text.parse().unwrap();
        let registration = registered(&Linux, &layout, &entry);
        until(&mut discovery, &entry, &["added", "ready 1"]);
        drop(registration);
        until(&mut discovery, &entry, &["lost 1: left"]);
        let again = registered(&Linux, &layout, &entry);
        until(&mut discovery, &entry, &["ready 2"]);
        drop(again);
        until(&mut discovery, &entry, &["lost 2: left"]);
        std::fs::remove_dir_all(layout.dir(&entry)).unwrap();
        until(&mut discovery, &entry, &["removed"]);
        // The same name, another directory, whose epochs begin anew.
        let anew = registered(&Linux, &layout, &entry);
        until(&mut discovery, &entry, &["added", "ready 1"]);
        drop(anew);
        until(&mut discovery, &entry, &["lost 1: left"]);
    }
    drop(first);
    until(&mut discovery, &early, &["lost 1: left"]);
    let counters = discovery.counters();
    assert_eq!((counters.scans, counters.unwatched, counters.swept), (1, 0, 0), "{counters:?}");
}

#[test]
fn a_slow_poller_is_taken_from_what_it_was_told_to_what_is_true() {
    let dir = memory_or_disk();
    let layout = Layout::new(dir.path());
    let entry = strategy("busy");
    let mut registration = registered(&Linux, &layout, &entry);
    let mut discovery = Discovery::open(&Linux, &layout, without_rescan()).unwrap();
    assert_eq!(told(&discovery.poll(), &entry), ["added", "ready 1"]);
    for epoch in 2..=9 {
        drop(registration);
        registration = registered(&Linux, &layout, &entry);
        assert_eq!(registration.epoch(), epoch);
    }
    until(&mut discovery, &entry, &["lost 1: replaced", "ready 9, 7 skipped"]);
    // Made anew between two polls: epochs begin again, which only another directory explains.
    std::fs::remove_dir_all(layout.dir(&entry)).unwrap();
    let anew = registered(&Linux, &layout, &entry);
    until(&mut discovery, &entry, &["lost 9: replaced", "removed", "added", "ready 1"]);
    drop((registration, anew));
}

#[test]
fn the_first_poll_is_sorted_and_kinds_are_chosen() {
    let dir = memory_or_disk();
    let layout = Layout::new(dir.path());
    let entries: Vec<Entry> =
        ["raw/a", "clean/a/b/book", "orders/b", "orders/a"].iter().map(|text| text.parse().unwrap()).collect();
    let registrations: Vec<_> = entries.iter().map(|entry| registered(&Linux, &layout, entry)).collect();
    let mut discovery = Discovery::open(&Linux, &layout, without_rescan()).unwrap();
    let events: Vec<String> = discovery.poll().iter().map(Event::to_string).collect();
    assert_eq!(
        events,
        [
            "raw/a added",
            "raw/a ready, epoch 1",
            "clean/a/b/book added",
            "clean/a/b/book ready, epoch 1",
            "orders/a added",
            "orders/a ready, epoch 1",
            "orders/b added",
            "orders/b ready, epoch 1"
        ]
    );
    let options = DiscoveryOptions { kinds: vec![Kind::Clean], ..without_rescan() };
    let mut of_one = Discovery::open(&Linux, &layout, options).unwrap();
    assert_eq!(of_one.poll().len(), 2);
    let watched = of_one.counters().watched;
    assert_eq!(watched, 6, "hot, streams, clean, a, b and the entry itself");
    drop(registrations);
    let mut lost = Vec::new();
    while lost.is_empty() {
        lost = of_one.wait(PATIENCE);
    }
    assert_eq!(lost.len(), 1);
    assert_eq!(told(&lost, &entries[1]), ["lost 1: left"]);
    let absent = Layout::new(dir.path().join("absent"));
    assert!(Discovery::open(&Linux, &absent, without_rescan()).unwrap_err().is_not_found());
}

/// Who is killed while it makes its lease leaves a draft and nothing else: told by the watch, it is swept at once.
#[test]
fn a_draft_that_somebody_died_with_is_swept_without_a_rescan() {
    for sweep in [true, false] {
        let dir = memory_or_disk();
        let layout = Layout::new(dir.path());
        let entry = strategy("unborn");
        std::fs::create_dir_all(layout.dir(&entry)).unwrap();
        let options = DiscoveryOptions { sweep, ..without_rescan() };
        let mut discovery = Discovery::open(&Linux, &layout, options).unwrap();
        assert_eq!(told(&discovery.poll(), &entry), ["added"]);
        for name in ["LEASE.tmp", "READY.tmp"] {
            let draft = layout.dir(&entry).join(name);
            std::fs::write(&draft, b"half").unwrap();
            let expected = if sweep { State::Absent } else { State::Dead(None) };
            let begun = Instant::now();
            while draft.exists() == sweep || *discovery.state(&entry) != expected {
                assert!(begun.elapsed() < PATIENCE, "{name}: {}", discovery.state(&entry));
                _ = discovery.wait(Duration::from_millis(20));
            }
            // By another's hand, it is seen to go, too.
            chronicle_bus::sweep(&Linux, &layout).unwrap();
            while *discovery.state(&entry) != State::Absent {
                assert!(begun.elapsed() < PATIENCE, "{name}: {}", discovery.state(&entry));
                _ = discovery.wait(Duration::from_millis(20));
            }
        }
    }
}

/// A watch that loses everything while it is told to, and says so when it is told to.
#[derive(Debug)]
struct Losing {
    inner: Notify,
    loses: Arc<AtomicBool>,
    overflows: Arc<AtomicBool>,
}

impl Watch for Losing {
    fn watch(&mut self, dir: &Path) -> Result<(), Unwatched> {
        self.inner.watch(dir)
    }
    fn unwatch(&mut self, dir: &Path) {
        self.inner.unwatch(dir);
    }
    fn take(&mut self, changes: &mut Changes) {
        let before = changes.paths.len();
        self.inner.take(changes);
        if self.loses.load(Ordering::Relaxed) {
            changes.paths.truncate(before);
        }
        changes.missed |= self.overflows.swap(false, Ordering::Relaxed);
    }
    fn wait(&mut self, timeout: Duration) {
        self.inner.wait(timeout.min(Duration::from_millis(5)));
    }
}

#[test]
fn what_the_watch_lost_is_found_when_it_says_so_and_watched_again() {
    let dir = memory_or_disk();
    let layout = Layout::new(dir.path());
    let [stays, goes, comes] = ["stays", "goes", "comes"].map(strategy);
    let registrations = [&stays, &goes].map(|entry| registered(&Linux, &layout, entry));
    let (loses, overflows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let watch = Losing { inner: Notify::new(), loses: loses.clone(), overflows: overflows.clone() };
    let mut discovery = Discovery::with_watch(&Linux, &layout, without_rescan(), watch).unwrap();
    assert_eq!(discovery.poll().len(), 4);
    loses.store(true, Ordering::Relaxed);
    let [kept, gone] = registrations;
    drop(gone);
    std::fs::remove_dir_all(layout.dir(&goes)).unwrap();
    let come = registered(&Linux, &layout, &comes);
    // Long enough for all of it to be told, and lost.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        assert_eq!(discovery.wait(Duration::from_millis(50)), []);
    }
    overflows.store(true, Ordering::Relaxed);
    let events = discovery.wait(PATIENCE);
    assert_eq!(told(&events, &stays), [""; 0]);
    assert_eq!(told(&events, &goes), ["lost 1: gone", "removed"], "nobody can say why any more");
    assert_eq!(told(&events, &comes), ["added", "ready 1"]);
    let counters = discovery.counters();
    assert_eq!((counters.missed, counters.scans), (1, 2));
    // From here on it is told again, of new directories and of old ones.
    loses.store(false, Ordering::Relaxed);
    drop((kept, come));
    until(&mut discovery, &stays, &["lost 1: left"]);
    // `comes` left too, and may have been told of first.
    let begun = Instant::now();
    while discovery.states().any(|(_, state)| *state != State::Absent) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", discovery.states().collect::<Vec<_>>());
        _ = discovery.wait(Duration::from_millis(20));
    }
}

/// The system's own queue of changes: it overflows for real where more happens than it holds before anybody reads.
#[test]
fn a_real_overflow_loses_nothing() {
    let most: usize =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if most > 100_000 {
        eprintln!("skipped: this machine queues {most} changes");
        return;
    }
    let dir = memory_or_disk();
    let layout = Layout::new(dir.path());
    let entry = strategy("hidden");
    std::fs::create_dir_all(layout.kind_dir(Kind::Strategy)).unwrap();
    let mut discovery = Discovery::open(&Linux, &layout, without_rescan()).unwrap();
    let flood = layout.kind_dir(Kind::Strategy).join("flood");
    let begun = Instant::now();
    let mut overflowed = false;
    // More names than an inbox holds, and faster than a thread takes them.
    while !overflowed && begun.elapsed() < PATIENCE {
        for round in 0..2 * most {
            let name = flood.with_extension(round.to_string());
            std::fs::create_dir(&name).unwrap();
            std::fs::remove_dir(&name).unwrap();
        }
        _ = discovery.poll();
        overflowed = discovery.counters().missed > 0;
    }
    assert!(overflowed, "nothing was lost, so this tested nothing");
    let registration = registered(&Linux, &layout, &entry);
    let begun = Instant::now();
    while !matches!(discovery.state(&entry), State::Ready(_)) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", discovery.counters());
        _ = discovery.wait(Duration::from_millis(100));
    }
    drop(registration);
}

/// A watch that takes a few directories and no more.
#[derive(Debug)]
struct Few(Notify, usize);

impl Watch for Few {
    fn watch(&mut self, dir: &Path) -> Result<(), Unwatched> {
        if self.1 == 0 {
            return Err(Unwatched::Limit("enough".into()));
        }
        self.1 -= 1;
        self.0.watch(dir)
    }
    fn unwatch(&mut self, dir: &Path) {
        self.0.unwatch(dir);
    }
    fn take(&mut self, changes: &mut Changes) {
        self.0.take(changes);
    }
    fn wait(&mut self, timeout: Duration) {
        self.0.wait(timeout);
    }
}

#[test]
fn where_no_more_is_watched_it_is_looked_at() {
    for few in [0, 2, 5] {
        let dir = memory_or_disk();
        let layout = Layout::new(dir.path());
        let entries = ["a", "b", "c"].map(strategy);
        let mut registrations = entries.each_ref().map(|entry| Some(registered(&Linux, &layout, entry)));
        let options = DiscoveryOptions { rescan_unwatched: Duration::from_millis(50), ..without_rescan() };
        let mut discovery = Discovery::with_watch(&Linux, &layout, options, Few(Notify::new(), few)).unwrap();
        assert_eq!(discovery.poll().len(), 6);
        let counters = discovery.counters();
        assert_eq!((counters.watched, counters.watched + counters.unwatched), (few, 6), "{counters:?}");
        assert_eq!(discovery.refusal(), Some("enough"));
        for (entry, registration) in entries.iter().zip(&mut registrations) {
            *registration = None;
            until(&mut discovery, entry, &["lost 1: left"]);
        }
        let late = strategy("late");
        let registration = registered(&Linux, &layout, &late);
        let begun = Instant::now();
        while !matches!(discovery.state(&late), State::Ready(_)) {
            assert!(begun.elapsed() < PATIENCE);
            _ = discovery.wait(Duration::from_millis(100));
        }
        drop(registration);
    }
}

#[test]
fn stalls_come_and_go_with_one_epoch() {
    let sim = Sim::new(3);
    let layout = Layout::new("/hot");
    let entry = strategy("slow");
    let mut owner = registered(&sim, &layout, &entry);
    let mut discovery =
        Discovery::with_watch(&sim.start_process(), &layout, DiscoveryOptions::default(), Blind(sim.clone())).unwrap();
    assert_eq!(told(&discovery.poll(), &entry), ["added", "ready 1"]);
    for _ in 0..3 {
        assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["lost 1: stalled"]);
        assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), [""; 0], "once");
        owner.renew();
        assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["ready 1"]);
    }
    assert_eq!(discovery.counters().swept, 0);
}

/// An owner whose stamps are from another clock, as of another time namespace: hours behind the looker's.
#[test]
fn an_owner_by_another_clock_is_stalled_only_when_it_does_not_renew() {
    use chronicle_platform::{File, Open};
    let sim = Sim::new(4);
    let layout = Layout::new("/hot");
    let entry = strategy("elsewhere");
    let owner = registered(&sim, &layout, &entry);
    let mut discovery =
        Discovery::with_watch(&sim.start_process(), &layout, DiscoveryOptions::default(), Blind(sim.clone())).unwrap();
    assert_eq!(told(&discovery.poll(), &entry), ["added", "ready 1"]);
    let file = sim.open(&layout.lease(&entry), Open::Write).unwrap();
    let base = *discovery.state(&entry).lease().unwrap();
    sim.advance(Duration::from_secs(3600));
    for count in 2..10 {
        // Stamps that stand still; only the count says that it goes on.
        let renewed = chronicle_bus::Lease { count, renewed_ns: count, ..base };
        file.write_at(&renewed.to_bytes(), 0).unwrap();
        assert_eq!(told(&discovery.wait(Duration::from_secs(1)), &entry), [""; 0], "renewal {count}");
    }
    assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["lost 1: stalled"]);
    drop(owner);
}

#[test]
fn the_dead_are_told_with_the_reason_and_swept_or_not() {
    for sweep in [true, false] {
        let sim = Sim::new(5);
        let layout = Layout::new("/hot");
        let entry = strategy("mortal");
        let victim = sim.start_process();
        let owner = registered(&victim, &layout, &entry);
        let options = DiscoveryOptions { sweep, ..DiscoveryOptions::default() };
        let mut discovery = Discovery::with_watch(&sim, &layout, options, Blind(sim.clone())).unwrap();
        assert_eq!(told(&discovery.poll(), &entry), ["added", "ready 1"]);
        victim.kill();
        drop(owner);
        assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["lost 1: died"]);
        let left = sim.exists(&layout.ready(&entry)).unwrap() || sim.exists(&layout.lease(&entry)).unwrap();
        assert_eq!(left, !sweep);
        assert_eq!(discovery.counters().swept, if sweep { 2 } else { 0 });
        let next = registered(&sim, &layout, &entry);
        assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["ready 2"]);
        drop(next);
        assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["lost 2: left"]);
    }
}

#[test]
fn who_died_is_told_even_if_another_swept_first() {
    let sim = Sim::new(6);
    let layout = Layout::new("/hot");
    let entry = strategy("mortal");
    let victim = sim.start_process();
    let owner = registered(&victim, &layout, &entry);
    let mut discovery = Discovery::with_watch(&sim, &layout, DiscoveryOptions::default(), Blind(sim.clone())).unwrap();
    _ = discovery.poll();
    victim.kill();
    drop(owner);
    assert_eq!(chronicle_bus::sweep(&sim.start_process(), &layout).unwrap().removed, std::slice::from_ref(&entry));
    assert_eq!(told(&discovery.wait(Duration::from_secs(60)), &entry), ["lost 1: died"]);
    assert_eq!(LostReason::Died.to_string(), "died");
}
