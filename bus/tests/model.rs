//! Registering, dying and power cuts at every operation, against a plain model, from a printed seed.
//!
//! The simulator kills a process in the middle of any operation, which may or may not have happened then, and cuts the
//! power under a disk of which any unsynced part may be there. Whatever it was: the next scan leaves nothing stale, a
//! living owner keeps its files, epochs never come twice, and discovery tells what is true.

use chronicle_bus::{
    Change, Discovery, DiscoveryOptions, Entry, Error, Layout, Registration, RegistrationOptions, State, look, sweep,
    watch::Blind,
};
use chronicle_platform::{Platform, sim::Sim};
use std::{collections::BTreeMap, time::Duration};

const TTL: Duration = Duration::from_secs(3);

fn options() -> RegistrationOptions {
    RegistrationOptions { ttl: TTL, patience: Duration::from_millis(20) }
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

fn layout() -> Layout {
    Layout::new("/hot")
}

fn entries() -> [Entry; 3] {
    ["orders/a", "orders/b", "raw/kraken"].map(|text| text.parse().unwrap())
}

/// What is in an entry's directory besides its lock.
fn left_over(sim: &Sim, entry: &Entry) -> Vec<String> {
    let listed = sim.list(&layout().dir(entry)).unwrap_or_default();
    listed.into_iter().map(|name| name.name).filter(|name| name != "owner.lock").collect()
}

/// One registration from begin to end by a process of its own.
fn life(sim: &Sim, entry: &Entry, stage: u64) -> Result<Option<Registration<Sim>>, Error> {
    let mut registration = Registration::begin(sim, &layout(), entry.clone(), options())?;
    if stage > 0 {
        registration.ready()?;
    }
    registration.renew();
    if stage > 1 {
        registration.leave()?;
        return Ok(None);
    }
    Ok(Some(registration))
}

/// How many operations a whole life takes, the first one of an entry or a later one.
fn operations_of_a_life(second: bool) -> u64 {
    let sim = Sim::new(1);
    let entry = &entries()[0];
    if second {
        _ = life(&sim, entry, 2).unwrap();
    }
    let before = sim.operations();
    _ = life(&sim, entry, 2).unwrap();
    sim.operations() - before
}

#[test]
fn killed_in_any_operation_nothing_stale_is_left() {
    for second in [false, true] {
        let most = operations_of_a_life(second);
        assert!(most > 15, "{most} operations in a life");
        for (operation, seed) in (1..=most).flat_map(|operation| [(operation, 1), (operation, 2), (operation, 3)]) {
            let told = format!("operation {operation} of {most}, seed {seed}, second life {second}");
            let sim = Sim::new(seed);
            let entry = &entries()[0];
            let mut epochs = 0;
            if second {
                _ = life(&sim, entry, 2).unwrap();
                epochs = 1;
            }
            let victim = sim.start_process();
            victim.kill_at(sim.operations() + operation);
            let ended = life(&victim, entry, 2);
            assert!(ended.is_err() || operation == most, "{told}");
            assert!(!matches!(look(&sim, &layout(), entry), State::Ready(_) | State::Starting(_)), "{told}");
            let all = sweep(&sim, &layout()).unwrap();
            assert_eq!(all.refused, [], "{told}");
            assert_eq!(left_over(&sim, entry), [""; 0], "{told}");
            let next = life(&sim, entry, 1).unwrap().unwrap();
            assert!(next.epoch() > epochs && next.epoch() <= epochs + 2, "{told}: epoch {}", next.epoch());
            assert!(matches!(look(&sim, &layout(), entry), State::Ready(_)), "{told}");
        }
    }
}

#[test]
fn after_a_power_cut_in_any_operation_nobody_is_ready_and_nothing_stale_is_left() {
    let most = operations_of_a_life(false);
    for (operation, seed) in (1..=most + 1).flat_map(|operation| (1..6).map(move |seed| (operation, seed))) {
        let sim = Sim::new(seed);
        let entry = &entries()[0];
        sim.crash_at(sim.operations() + operation);
        let ended = life(&sim, entry, 2);
        for survivor in 0..3 {
            let told = format!("operation {operation}, seed {seed}, survivor {survivor}");
            let after = sim.crash();
            let state = look(&after, &layout(), entry);
            assert!(matches!(state, State::Dead(_) | State::Absent | State::Gone), "{told}: {state}");
            assert_eq!(sweep(&after, &layout()).unwrap().refused, [], "{told}");
            assert_eq!(left_over(&after, entry), [""; 0], "{told}");
            let next = life(&after, entry, 1).unwrap().unwrap();
            // Whoever saw a registration saw an epoch that is durable.
            assert!(ended.is_err() || next.epoch() >= 2, "{told}: epoch {}", next.epoch());
        }
    }
}

/// An epoch that others may have seen, ready or not, is not given to another registration.
#[test]
fn an_epoch_that_was_begun_survives_the_power() {
    for seed in 1..40 {
        let sim = Sim::new(seed);
        let entry = &entries()[0];
        let _registration = life(&sim, entry, 0).unwrap();
        for survivor in 0..5 {
            let next = life(&sim.crash(), entry, 1).unwrap().unwrap();
            assert_eq!(next.epoch(), 2, "seed {seed}, survivor {survivor}");
        }
    }
}

/// A sweeper is killed, too, and its half of the work is done by the next one.
#[test]
fn a_sweeper_killed_in_any_operation_leaves_the_rest_to_the_next() {
    for operation in 1..40 {
        let sim = Sim::new(operation);
        let entry = &entries()[0];
        let victim = sim.start_process();
        let registration = life(&victim, entry, 1).unwrap();
        victim.kill();
        drop(registration);
        let sweeper = sim.start_process();
        sweeper.kill_at(sim.operations() + operation);
        _ = sweep(&sweeper, &layout());
        sweeper.kill();
        sweep(&sim, &layout()).unwrap();
        assert_eq!(left_over(&sim, entry), [""; 0], "operation {operation}");
        assert_eq!(life(&sim, entry, 1).unwrap().unwrap().epoch(), 2);
    }
}

/// What the model knows of an entry.
#[derive(Default)]
struct Modelled {
    owner: Option<Held>,
    epoch: u64,
}

struct Held {
    sim: Sim,
    registration: Registration<Sim>,
    ready: bool,
    renewed_ns: u64,
}

#[test]
fn random_lives_are_what_the_model_says() {
    let runs: u64 = std::env::var("BUS_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(30);
    for seed in 1..=runs {
        run(seed);
    }
}

fn run(seed: u64) {
    let sim = Sim::new(seed);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let layout = layout();
    sim.create_dirs(layout.hot()).unwrap();
    let looker = sim.start_process();
    let sweeps = random.below(2) == 0;
    let discovery_options = DiscoveryOptions { sweep: sweeps, ..DiscoveryOptions::default() };
    let mut discovery = Discovery::with_watch(&looker, &layout, discovery_options, Blind(looker.clone())).unwrap();
    let mut model: BTreeMap<Entry, Modelled> = BTreeMap::new();
    let mut told: BTreeMap<Entry, (bool, u64)> = BTreeMap::new();
    for step in 0..200 {
        let entry = entries()[random.below(3) as usize].clone();
        let context = format!("seed {seed}, step {step}, {entry}");
        let known = model.entry(entry.clone()).or_default();
        match (random.below(9), &mut known.owner) {
            (0..=1, None) => {
                let process = sim.start_process();
                let registration = Registration::begin(&process, &layout, entry.clone(), options()).unwrap();
                known.epoch += 1;
                assert_eq!(registration.epoch(), known.epoch, "{context}");
                let renewed_ns = sim.monotonic_ns();
                known.owner = Some(Held { sim: process, registration, ready: false, renewed_ns });
            }
            (0..=1, Some(_)) => {
                let refused = Registration::begin(&sim.start_process(), &layout, entry.clone(), options());
                assert!(matches!(refused, Err(Error::Taken { pid: Some(_), .. })), "{context}: {refused:?}");
            }
            (2..=3, Some(held)) => {
                held.registration.ready().unwrap();
                held.ready = true;
            }
            (4, Some(held)) => {
                held.registration.renew();
                held.renewed_ns = sim.monotonic_ns();
            }
            (5, Some(_)) => {
                let held = known.owner.take().unwrap();
                held.registration.leave().unwrap();
            }
            (6, Some(_)) => {
                let held = known.owner.take().unwrap();
                held.sim.kill();
                drop(held.registration);
            }
            (7, _) => _ = sweep(&sim.start_process(), &layout).unwrap(),
            (8, _) => {
                sim.advance(Duration::from_millis(random.below(4000)));
                sim.set_now_ns(random.below(u64::MAX));
            }
            _ => {}
        }
        if random.below(3) > 0 {
            continue;
        }
        discovery.rescan();
        for event in discovery.poll() {
            let before = told.get(&event.entry).copied();
            let after = match (&event.change, before) {
                (Change::Added, None) => (false, 0),
                (Change::Ready { epoch, .. }, Some((false, last))) if *epoch >= last => (true, *epoch),
                (Change::Lost { epoch, .. }, Some((true, last))) if *epoch == last => (false, *epoch),
                _ => panic!("seed {seed}, step {step}: {event} after {before:?}"),
            };
            told.insert(event.entry, after);
        }
        for (entry, known) in &model {
            let context = format!("seed {seed}, step {step}, {entry}, sweeps {sweeps}");
            let state = discovery.state(entry);
            let expected = match &known.owner {
                None => matches!(state, State::Absent | State::Gone) || !sweeps && matches!(state, State::Dead(_)),
                Some(held) if !held.ready => matches!(state, State::Starting(_)),
                Some(held) => {
                    held.registration.check().unwrap();
                    let old = sim.monotonic_ns() - held.renewed_ns > TTL.as_nanos() as u64;
                    match state {
                        State::Ready(lease) => lease.epoch == known.epoch,
                        // By its stamp alone it may be called fresh for as long as this looker has not seen it stand.
                        State::Stalled(_) => old,
                        _ => false,
                    }
                }
            };
            assert!(expected, "{context}: {state:?}");
            let is_told = told.get(entry).is_some_and(|(ready, _)| *ready);
            assert_eq!(is_told, matches!(state, State::Ready(_)), "{context}");
        }
    }
}
