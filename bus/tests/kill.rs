//! Owners killed at any moment of registering, renewing and leaving leave nothing that the next scan does not remove, and
//! no scan ever removes what a living owner has.
//!
//! The test binary runs itself again: owners that contend for a few strategies and look all the time whether their files are
//! still theirs, and sweepers that sweep without a pause. All of them are killed at random moments, and others take their
//! places; one discovery watches it all, and what it tells must keep its order.
//!
//! `BUS_KILL_ROUNDS` makes it longer, `BUS_KILL_SEED` makes it another story; both are printed when it fails.
#![cfg(target_os = "linux")]

use chronicle_bus::{
    Change, Discovery, DiscoveryOptions, Entry, Error, Event, Kind, Layout, Registration, RegistrationOptions, State,
    sweep,
};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "BUS_KILL_ROLE";
const DIR: &str = "BUS_KILL_DIR";
const STRATEGIES: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

fn entry(number: u64) -> Entry {
    Entry::strategy(&format!("s{number}")).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn start(role: &str, dir: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["a_child_does_its_job", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .env("BUS_KILL_SEED", seed.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Ends it as the kernel does, and sees that it had not ended by itself: a child that finds something wrong panics.
fn kill(child: &mut Child, told: &str) {
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "{told}: the child found something wrong: {status}");
}

/// Not a test of its own: what a child does.
#[test]
fn a_child_does_its_job() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let layout = Layout::new(PathBuf::from(std::env::var_os(DIR).unwrap()));
    let mut random = Random(std::env::var("BUS_KILL_SEED").unwrap().parse().unwrap());
    loop {
        match role.as_str() {
            "owner" => own(&layout, &mut random),
            "sweeper" => {
                let all = sweep(&Linux, &layout).unwrap();
                assert_eq!(all.refused, []);
            }
            other => panic!("role {other}"),
        }
    }
}

/// A short life as an owner, after which it leaves.
fn own(layout: &Layout, random: &mut Random) {
    let entry = entry(random.below(STRATEGIES));
    let options = RegistrationOptions { ttl: Duration::from_secs(60), patience: Duration::from_millis(100) };
    let mut registration = match Registration::begin(&Linux, layout, entry.clone(), options) {
        Ok(registration) => registration,
        Err(Error::Taken { .. }) => return,
        Err(error) => panic!("{entry}: {error}"),
    };
    registration.check().unwrap();
    if random.below(8) == 0 {
        return;
    }
    registration.ready().unwrap();
    if random.below(2) == 0 {
        registration.start_renewing().unwrap();
    }
    for _ in 0..random.below(40) {
        registration.renew();
        // What a sweeper removed, or another owner replaced, is seen here.
        registration.check().unwrap_or_else(|error| panic!("{entry}: {error}"));
        let ready = layout.ready(&entry);
        assert!(ready.exists(), "{}: removed under its owner", ready.display());
        let state = chronicle_bus::look(&Linux, layout, &entry);
        assert!(matches!(&state, State::Ready(lease) if lease.owner == registration.owner()), "{entry}: {state}");
    }
    registration.leave().unwrap();
}

/// Checks the order of what is told of each entry: Added ( Ready Lost )* Removed, epochs rising.
#[derive(Default)]
struct Grammar(BTreeMap<Entry, (bool, u64)>);

impl Grammar {
    fn check(&mut self, events: &[Event]) {
        for event in events {
            let before = self.0.get(&event.entry).copied();
            let after = match (&event.change, before) {
                (Change::Added, None) => (false, 0),
                (Change::Ready { epoch, .. }, Some((false, last))) if *epoch > last => (true, *epoch),
                (Change::Lost { epoch, .. }, Some((true, last))) if *epoch == last => (false, *epoch),
                _ => panic!("{event} after {before:?}"),
            };
            self.0.insert(event.entry.clone(), after);
        }
    }
}

/// Names in a strategy's directory other than the lock's.
fn left_over(layout: &Layout) -> Vec<String> {
    let mut names = Vec::new();
    for number in 0..STRATEGIES {
        let Ok(listed) = fs::read_dir(layout.dir(&entry(number))) else { continue };
        let listed = listed.map(|name| name.unwrap().file_name().into_string().unwrap());
        names.extend(listed.filter(|name| name != "owner.lock").map(|name| format!("s{number}/{name}")));
    }
    names
}

#[test]
fn s_16_the_killed_leave_nothing_stale_and_the_living_lose_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("BUS_KILL_ROUNDS").unwrap_or(25);
    let seed = number("BUS_KILL_SEED").unwrap_or(0x2545_f491_4f6c_dd1d).max(1);
    let mut random = Random(seed);
    let root = match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let layout = Layout::new(root.path());
    fs::create_dir_all(layout.kind_dir(Kind::Strategy)).unwrap();
    // No rescan comes to help, and it removes nothing itself: that is the sweepers' and the next owners'.
    let options = DiscoveryOptions { rescan: Duration::from_secs(10_000), sweep: false, ..DiscoveryOptions::default() };
    let mut discovery = Discovery::open(&Linux, &layout, options).unwrap();
    let mut grammar = Grammar::default();
    let roles = ["owner", "owner", "owner", "sweeper", "sweeper"];
    let mut children: Vec<Child> = Vec::new();
    for (role, child) in roles.into_iter().zip(1..) {
        children.push(start(role, root.path(), seed ^ child));
    }
    let mut readies = 0;
    for round in 0..rounds {
        let told = format!("BUS_KILL_SEED={seed} BUS_KILL_ROUNDS={rounds}, round {round}");
        let end = Instant::now() + Duration::from_micros(2_000 + random.below(60_000));
        while Instant::now() < end {
            let events = discovery.wait(Duration::from_millis(2));
            readies += events.iter().filter(|event| matches!(event.change, Change::Ready { .. })).count();
            grammar.check(&events);
        }
        let all = round % 5 == 4 || round + 1 == rounds;
        for (at, child) in children.iter_mut().enumerate() {
            if all || random.below(2) == 0 {
                kill(child, &told);
                if !all {
                    *child = start(roles[at], root.path(), random.below(u64::MAX) | 1);
                }
            }
        }
        if !all {
            continue;
        }
        // Everybody is dead: one scan leaves nothing, and a second one finds nothing to do.
        assert_eq!(sweep(&Linux, &layout).unwrap().refused, [], "{told}");
        assert_eq!(left_over(&layout), [""; 0], "{told}");
        assert_eq!(sweep(&Linux, &layout).unwrap().removed, [], "{told}");
        let begun = Instant::now();
        while !discovery.states().all(|(_, state)| *state == State::Absent) {
            assert!(begun.elapsed() < PATIENCE, "{told}: {:?}", discovery.states().collect::<Vec<_>>());
            grammar.check(&discovery.wait(Duration::from_millis(20)));
        }
        for (at, child) in children.iter_mut().enumerate().filter(|_| round + 1 < rounds) {
            *child = start(roles[at], root.path(), random.below(u64::MAX) | 1);
        }
    }
    assert!(readies > 0, "nobody was ever ready: this tested nothing");
    // All of them can be had again, by the next epoch.
    for number in 0..STRATEGIES {
        let last = fs::read(layout.owner_lock(&entry(number))).unwrap_or_default();
        let last = chronicle_bus::owner::Last::parse(&last).unwrap().map_or(0, |last| last.epoch);
        let mut next = Registration::begin(&Linux, &layout, entry(number), RegistrationOptions::default()).unwrap();
        next.ready().unwrap();
        assert_eq!(next.epoch(), last + 1);
    }
}

/// The kernel tells a watcher of a death by closing the dead one's lease: no rescan is needed, and none comes.
#[test]
fn a_kill_is_told_at_once() {
    let root = match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let layout = Layout::new(root.path());
    fs::create_dir_all(layout.kind_dir(Kind::Strategy)).unwrap();
    let options = DiscoveryOptions { rescan: Duration::from_secs(10_000), ..DiscoveryOptions::default() };
    let mut discovery = Discovery::open(&Linux, &layout, options).unwrap();
    let mut times = Vec::new();
    for seed in 1..6 {
        let mut owner = start("owner", root.path(), seed * 0x9e37_79b9);
        let begun = Instant::now();
        while !discovery.states().any(|(_, state)| matches!(state, State::Ready(_))) {
            assert!(begun.elapsed() < PATIENCE);
            _ = discovery.wait(Duration::from_millis(1));
        }
        kill(&mut owner, "a kill");
        let killed = Instant::now();
        while discovery.states().any(|(_, state)| *state != State::Absent) {
            assert!(killed.elapsed() < PATIENCE, "{:?}", discovery.states().collect::<Vec<_>>());
            _ = discovery.wait(Duration::from_millis(1));
        }
        times.push(killed.elapsed());
        assert_eq!(left_over(&layout), [""; 0]);
    }
    println!("swept after {times:?}");
}
