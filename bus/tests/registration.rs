//! Registering, and what others see of it: every row of the table in `chronicle_bus::lease`.
//!
//! On the simulator, whose processes die when they are told to.

use chronicle_bus::{
    Entry, Error, Layout, Lease, Predecessor, Registration, RegistrationOptions, State, Swept, lease::LEASE_LEN, look,
    sweep, sweep_entry,
};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use std::{path::Path, time::Duration};

const TTL: Duration = Duration::from_secs(3);

fn bus() -> (Sim, Layout, Entry) {
    (Sim::new(1), Layout::new("/hot"), Entry::strategy("maker").unwrap())
}

fn begin(sim: &Sim, layout: &Layout, entry: &Entry) -> Registration<Sim> {
    Registration::begin(sim, layout, entry.clone(), RegistrationOptions::default()).unwrap()
}

fn registered(sim: &Sim, layout: &Layout, entry: &Entry) -> Registration<Sim> {
    let mut registration = begin(sim, layout, entry);
    registration.ready().unwrap();
    registration
}

fn taken(sim: &Sim, layout: &Layout, entry: &Entry) -> Option<u32> {
    let options = RegistrationOptions { patience: Duration::from_millis(50), ..RegistrationOptions::default() };
    match Registration::begin(sim, layout, entry.clone(), options) {
        Err(Error::Taken { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

fn names(sim: &Sim, dir: &Path) -> Vec<String> {
    sim.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_registration_goes_through_its_states_and_leaves_its_lock_alone() {
    let (sim, layout, entry) = bus();
    let dir = layout.dir(&entry);
    assert_eq!(look(&sim, &layout, &entry), State::Gone);
    let mut first = begin(&sim, &layout, &entry);
    assert!(matches!(look(&sim, &layout, &entry), State::Starting(_)));
    first.ready().unwrap();
    first.ready().unwrap();
    let State::Ready(lease) = look(&sim, &layout, &entry) else { panic!("ready") };
    assert_eq!((lease.epoch, lease.owner, lease.ttl), (1, first.owner(), TTL));
    assert_eq!((first.epoch(), first.predecessor()), (1, Predecessor::None));
    assert_eq!(names(&sim, &dir), ["LEASE", "READY", "owner.lock"]);
    first.leave().unwrap();
    assert_eq!(look(&sim, &layout, &entry), State::Absent);
    assert_eq!(names(&sim, &dir), ["owner.lock"]);

    let second = registered(&sim, &layout, &entry);
    assert_eq!((second.epoch(), second.predecessor()), (2, Predecessor::Left));
    drop(second);
    assert_eq!(names(&sim, &dir), ["owner.lock"]);
    assert_eq!(begin(&sim, &layout, &entry).epoch(), 3);
}

#[test]
fn one_owner_at_a_time_and_the_refusal_says_who() {
    let (sim, layout, entry) = bus();
    let first = registered(&sim, &layout, &entry);
    let other = sim.start_process();
    assert_eq!(taken(&other, &layout, &entry), Some(sim.process().pid));
    assert_eq!(taken(&sim, &layout, &entry), Some(sim.process().pid), "nor its own process");
    assert_eq!(sweep_entry(&other, &layout, &entry), Swept::Held);
    first.check().unwrap();
    drop(first);
    assert_eq!(registered(&other, &layout, &entry).epoch(), 2);
}

#[test]
fn the_dead_are_seen_swept_and_replaced() {
    for swept in [false, true] {
        let (sim, layout, entry) = bus();
        let victim = sim.start_process();
        let registration = registered(&victim, &layout, &entry);
        victim.kill();
        drop(registration);
        let State::Dead(Some(lease)) = look(&sim, &layout, &entry) else { panic!("dead") };
        assert_eq!(lease.pid, victim.process().pid);
        assert_eq!(names(&sim, &layout.dir(&entry)), ["LEASE", "READY", "owner.lock"]);
        if swept {
            let all = sweep(&sim, &layout).unwrap();
            assert_eq!((all.entries, all.removed, all.refused), (1, vec![entry.clone()], vec![]));
            assert_eq!(names(&sim, &layout.dir(&entry)), ["owner.lock"]);
            assert_eq!(look(&sim, &layout, &entry), State::Absent);
        }
        let next = begin(&sim, &layout, &entry);
        assert_eq!((next.epoch(), next.predecessor()), (2, Predecessor::Died));
        assert!(matches!(look(&sim, &layout, &entry), State::Starting(_)), "the dead one's READY is not its own");
    }
}

#[test]
fn a_stall_is_no_death_and_clock_steps_are_no_stall() {
    let (sim, layout, entry) = bus();
    let mut owner = registered(&sim, &layout, &entry);
    assert_eq!(owner.renew(), TTL / 3);
    let ready = |sim: &Sim| matches!(look(sim, &layout, &entry), State::Ready(_));
    // The wall clock, forwards and backwards by years.
    for wall_ns in [0, u64::MAX / 2, 1] {
        sim.set_now_ns(wall_ns);
        assert!(ready(&sim));
        owner.renew();
        assert!(ready(&sim));
    }
    sim.advance(TTL);
    assert!(ready(&sim), "not older than its ttl");
    sim.advance(Duration::from_nanos(1));
    assert!(matches!(look(&sim, &layout, &entry), State::Stalled(_)));
    assert_eq!(taken(&sim.start_process(), &layout, &entry), Some(sim.process().pid), "nobody takes its place");
    // However long ago: trying for its place has taken time.
    assert!(matches!(look(&sim, &layout, &entry), State::Stalled(_)));
    assert_eq!(sweep(&sim, &layout).unwrap().removed, []);
    owner.renew();
    assert!(ready(&sim));
}

#[test]
fn renewals_count_up_and_keep_what_was_said() {
    let (sim, layout, entry) = bus();
    let mut owner = registered(&sim, &layout, &entry);
    let lease = |sim: &Sim| *look(sim, &layout, &entry).lease().unwrap();
    let first = lease(&sim);
    for count in 2..20 {
        sim.advance(Duration::from_millis(10));
        owner.renew();
        let now = lease(&sim);
        assert_eq!(now, Lease { count, renewed_ns: sim.monotonic_ns(), wall_ns: sim.now_ns(), ..first });
    }
}

#[test]
fn a_renewal_is_no_operation_of_the_system() {
    let (sim, layout, entry) = bus();
    let mut owner = registered(&sim, &layout, &entry);
    let before = sim.operations();
    for _ in 0..1000 {
        owner.renew();
    }
    assert_eq!(sim.operations(), before, "clocks are read, nothing is called");
}

#[test]
fn a_removed_directory_is_told_and_not_recreated_behind_its_owners_back() {
    let (sim, layout, entry) = bus();
    let dir = layout.dir(&entry);
    let mut owner = registered(&sim, &layout, &entry);
    for name in ["LEASE", "READY", "owner.lock"] {
        sim.remove(&dir.join(name)).unwrap();
    }
    sim.remove_dir(&dir).unwrap();
    assert!(matches!(owner.check(), Err(Error::Evicted { .. })));
    assert!(matches!(owner.ready(), Err(Error::Evicted { .. })));
    owner.renew();
    // Somebody else comes; the evicted one's end takes nothing from it.
    let next = registered(&sim, &layout, &entry);
    assert_eq!(next.epoch(), 1, "it cannot know better");
    assert!(matches!(owner.leave(), Err(Error::Evicted { .. })));
    next.check().unwrap();
    assert!(matches!(look(&sim, &layout, &entry), State::Ready(_)));
}

#[test]
fn what_an_owner_of_another_version_holds_is_refused_and_left_alone() {
    let (sim, layout, entry) = bus();
    let owner = registered(&sim, &layout, &entry);
    let file = sim.open(&layout.lease(&entry), Open::Write).unwrap();
    file.write_at(&[2], 8).unwrap();
    let State::Refused(why) = look(&sim, &layout, &entry) else { panic!("refused") };
    assert_eq!(&*why, "/hot/orders/queue/maker/LEASE: offset 8: version 2, this program knows 1");
    assert_eq!(taken(&sim, &layout, &entry), None);
    assert_eq!(sweep(&sim, &layout).unwrap().refused.len(), 1);
    owner.check().unwrap();
}

#[test]
fn any_bytes_without_a_lock_are_a_dead_owners() {
    let garbage: [(&str, Vec<u8>); 4] = [
        ("READY", vec![]),
        ("READY", vec![0xff; 128]),
        ("LEASE", vec![0xff; LEASE_LEN]),
        ("LEASE.tmp", vec![7; 1 << 20]),
    ];
    for (name, bytes) in garbage {
        for registers in [false, true] {
            let (sim, layout, entry) = bus();
            let dir = layout.dir(&entry);
            sim.create_dirs(&dir).unwrap();
            sim.open(&dir.join(name), Open::Create).unwrap().write_at(&bytes, 0).unwrap();
            assert_eq!(look(&sim, &layout, &entry), State::Dead(None), "{name}");
            if registers {
                let owner = registered(&sim, &layout, &entry);
                assert!(matches!(look(&sim, &layout, &entry), State::Ready(_)), "{name}");
                drop(owner);
            } else {
                assert_eq!(sweep(&sim, &layout).unwrap().removed, std::slice::from_ref(&entry), "{name}");
            }
            assert_eq!(names(&sim, &dir), ["owner.lock"], "{name}");
        }
    }
}

#[test]
fn a_full_disk_refuses_a_registration_and_leaves_nothing() {
    use chronicle_platform::{TroubleKind, sim::Faults};
    let (sim, layout, entry) = bus();
    drop(registered(&sim, &layout, &entry));
    sim.faults(Faults { disk_bytes: 0, ..Faults::default() });
    let refused = Registration::begin(&sim, &layout, entry.clone(), RegistrationOptions::default());
    match refused {
        Err(Error::Trouble(trouble)) => assert_eq!(trouble.kind(), TroubleKind::NoSpace),
        other => panic!("{other:?}"),
    }
    sim.faults(Faults::default());
    assert_eq!(look(&sim, &layout, &entry), State::Absent);
    _ = registered(&sim, &layout, &entry);
}

#[test]
fn options_that_no_lease_has_are_refused() {
    let (sim, layout, entry) = bus();
    for ttl in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(86_401), Duration::MAX] {
        let options = RegistrationOptions { ttl, ..RegistrationOptions::default() };
        let error = Registration::begin(&sim, &layout, entry.clone(), options).unwrap_err();
        assert!(matches!(error, Error::Options { .. }), "{error}");
    }
}
