//! Rings between processes keep their rules on a machine that dies and fills up on demand: whole or not there, one holder
//! for each end, nothing lost that was published, and never a wait for somebody who is dead.

use chronicle_core::ring::{
    Kind,
    broadcast::{Received, Start},
    mpsc, spsc,
};
use chronicle_platform::{
    File, MemoryOptions, Open, Platform, TroubleKind,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error,
    queue::WakePolicy,
    ring::{self, Disconnect, EndOptions, Holder, ReceiveError, RingOptions, SendError, WaitPolicy, Waited},
};
use std::{path::Path, time::Duration};

const RING: &str = "/ring";
const SECOND: Duration = Duration::from_secs(1);

fn path() -> &'static Path {
    Path::new(RING)
}

/// No spinning: the simulator's clock goes on while somebody sleeps.
fn options() -> EndOptions {
    EndOptions { wait: WaitPolicy::Park { spins: 1 }, ..EndOptions::default() }
}

fn spsc_ends(sim: &Sim) -> (ring::spsc::Producer<Sim>, ring::spsc::Consumer<Sim>) {
    ring::create(sim, path(), &RingOptions::spsc(1024)).unwrap();
    let producer = ring::spsc::Producer::open(&sim.start_process(), path(), options()).unwrap();
    let consumer = ring::spsc::Consumer::open(&sim.start_process(), path(), options()).unwrap();
    (producer, consumer)
}

fn bytes(frame: spsc::Frame<'_>) -> (u64, Vec<u8>) {
    let mut bytes = vec![0; frame.payload.len()];
    frame.payload.copy_to(&mut bytes);
    (frame.seq, bytes)
}

#[test]
fn s_11_a_ring_is_whole_or_not_there_wherever_its_maker_is_stopped() {
    for crash in [false, true] {
        let mut survived = false;
        for n in 0.. {
            let machine = Sim::new(n);
            let mut sim = machine.start_process();
            if crash {
                sim.crash_at(n)
            } else {
                sim.kill_at(n)
            }
            let made = ring::create(&sim, path(), &RingOptions::mpsc(4096, 3));
            if made.is_ok() {
                survived = true;
                break;
            }
            sim = if crash { machine.crash() } else { machine.start_process() };
            match ring::create(&sim, path(), &RingOptions::mpsc(4096, 3)) {
                Ok(()) => {}
                // It was published, and only its maker did not live to hear so.
                Err(Error::Trouble(trouble)) => assert_eq!(trouble.kind(), TroubleKind::Exists, "{n}: {trouble}"),
                Err(error) => panic!("{n}: {error}"),
            }
            let mut consumer = ring::mpsc::Consumer::open(&sim, path(), options()).unwrap();
            ring::mpsc::Producer::open(&sim, path(), options()).unwrap().push(b"x").unwrap();
            assert_eq!(consumer.step_wait(SECOND, |frame| frame.seq).unwrap(), 1);
            let names: Vec<_> = sim.list(Path::new("/")).unwrap().into_iter().map(|entry| entry.name).collect();
            assert!(!names.iter().any(|name| name.ends_with(".fresh")), "{n}: {names:?}");
        }
        assert!(survived, "the last one was stopped nowhere");
    }
}

#[test]
fn s_13_a_full_disk_refuses_a_ring_and_nothing_is_left() {
    let sim = Sim::new(1);
    sim.faults(Faults { disk_bytes: 60_000, ..Faults::default() });
    let error = ring::create(&sim, path(), &RingOptions::spsc(1 << 16)).unwrap_err();
    assert!(matches!(&error, Error::Trouble(trouble) if trouble.kind() == TroubleKind::NoSpace), "{error}");
    assert!(!sim.exists(Path::new("/ring.fresh")).unwrap() && !sim.exists(path()).unwrap());
    ring::create(&sim, path(), &RingOptions::spsc(1 << 12)).unwrap();
}

#[test]
fn s_1_an_end_has_one_holder_and_the_next_goes_on_where_a_killed_one_was() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::spsc(1024)).unwrap();
    let first = sim.start_process();
    let mut producer = ring::spsc::Producer::open(&first, path(), options()).unwrap();
    producer.push(b"one").unwrap();
    producer.stage(b"staged").unwrap();
    let error = ring::spsc::Producer::open(&sim.start_process(), path(), options()).unwrap_err();
    assert_eq!(error.to_string(), "/ring.producer.lock: locked by another process");
    first.kill();
    drop(producer);
    let mut producer = ring::spsc::Producer::open(&sim.start_process(), path(), options()).unwrap();
    assert_eq!(producer.push(b"two"), Ok(2));

    let reading = sim.start_process();
    let mut consumer = ring::spsc::Consumer::open(&reading, path(), options()).unwrap();
    assert_eq!(consumer.step_wait(SECOND, bytes).unwrap(), (1, b"one".to_vec()));
    consumer.release();
    assert_eq!(consumer.step_wait(SECOND, bytes).unwrap(), (2, b"two".to_vec()));
    assert!(matches!(ring::spsc::Consumer::open(&sim.start_process(), path(), options()), Err(Error::Locked { .. })));
    reading.kill();
    drop(consumer);
    // What was not released comes again.
    let mut consumer = ring::spsc::Consumer::open(&sim.start_process(), path(), options()).unwrap();
    assert_eq!(consumer.step_wait(SECOND, bytes).unwrap(), (2, b"two".to_vec()));
}

#[test]
fn s_19_a_wait_tells_who_is_gone_and_how() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::spsc(64)).unwrap();
    let mut consumer = ring::spsc::Consumer::open(&sim.start_process(), path(), options()).unwrap();
    assert_eq!(consumer.wait(SECOND).unwrap(), Waited::Disconnected(Disconnect::Closed), "nobody came yet");
    assert_eq!(consumer.wait(Duration::from_millis(50)).unwrap(), Waited::TimedOut, "it was asked just now");

    let process = sim.start_process();
    let mut producer = ring::spsc::Producer::open(&process, path(), options()).unwrap();
    assert_eq!(consumer.wait(SECOND).unwrap(), Waited::TimedOut, "somebody is there");
    while producer.push(&[7; 8]).is_ok() {}
    assert!(matches!(producer.push_wait(&[7; 8], SECOND), Err(SendError::TimedOut)));
    process.kill();
    drop(producer);
    for _ in 0..4 {
        assert_eq!(consumer.step_wait(SECOND, bytes).unwrap().1, [7; 8]);
    }
    let error = consumer.step_wait(SECOND, bytes).unwrap_err();
    assert!(matches!(error, ReceiveError::Disconnected(Disconnect::Died)), "{error}");

    let mut producer = ring::spsc::Producer::open(&sim.start_process(), path(), options()).unwrap();
    drop(consumer);
    while producer.push(&[7; 8]).is_ok() {}
    let error = producer.push_wait(&[7; 8], SECOND).unwrap_err();
    assert_eq!(error.to_string(), "the ring has no room: nobody has the other end");
    assert!(matches!(producer.push_wait(&[0; 64], SECOND), Err(SendError::TooLarge { len: 64, max: 24 })));
}

/// Short waits, one after the other, look at the other side as seldom as one long wait, and as surely.
#[test]
fn s_19_many_short_waits_find_out_too() {
    let sim = Sim::new(1);
    let (producer, mut consumer) = spsc_ends(&sim);
    assert_eq!(consumer.wait(Duration::from_millis(1)).unwrap(), Waited::TimedOut);
    drop(producer);
    let waits = (1..).find(|_| consumer.wait(Duration::from_millis(1)).unwrap() != Waited::TimedOut).unwrap();
    assert!((50..=101).contains(&waits), "{waits}");
}

#[test]
fn s_5_many_producers_die_and_the_consumer_goes_on() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::mpsc(4096, 2)).unwrap();
    let mut consumer = ring::mpsc::Consumer::open(&sim.start_process(), path(), options()).unwrap();
    let (dying, living) = (sim.start_process(), sim.start_process());
    let mut first = ring::mpsc::Producer::open(&dying, path(), options()).unwrap();
    let mut second = ring::mpsc::Producer::open(&living, path(), options()).unwrap();
    assert_eq!((first.slot(), second.slot()), (0, 1));
    first.push(b"committed").unwrap();
    let claimed = first.push_with(40, |claim| {
        claim.put(b"half");
        second.push(b"behind").unwrap();
        assert_eq!(consumer.step_wait(SECOND, |frame| frame.payload.len()).unwrap(), 9);
        assert!(matches!(consumer.step_wait(SECOND, |_| ()), Err(ReceiveError::TimedOut)), "it lives");
        let status = ring::status(&sim, path()).unwrap();
        assert_eq!(status.blocked, Some(ring::Blocked::Producer { slot: 0 }));
        assert_eq!(consumer.blocked().unwrap(), status.blocked);
        assert!(status.ends.iter().all(|end| end.holder == Holder::Alive), "{:?}", status.ends);
        dying.kill();
        // The simulated process is dead: its locks are free, and what it does from here on is nobody's doing.
        assert_eq!(consumer.step_wait(SECOND, |frame| (frame.seq, frame.payload.len())).unwrap(), (2, 6));
    });
    assert_eq!(claimed, Ok(()));
    assert_eq!(consumer.reaped(), mpsc::Reaped { claims: 1, ..mpsc::Reaped::default() });
}

#[test]
fn slots_of_the_dead_are_free_again_and_all_taken_is_said() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::mpsc(4096, 1)).unwrap();
    let process = sim.start_process();
    let producer = ring::mpsc::Producer::open(&process, path(), options()).unwrap();
    let error = ring::mpsc::Producer::open(&sim.start_process(), path(), options()).unwrap_err();
    assert!(error.to_string().contains("all 1 are held"), "{error}");
    process.kill();
    std::mem::forget(producer);
    // No consumer was there to reap it; the next one does.
    ring::mpsc::Producer::open(&sim.start_process(), path(), options()).unwrap_err();
    let mut consumer = ring::mpsc::Consumer::open(&sim.start_process(), path(), options()).unwrap();
    assert_eq!(consumer.wait(SECOND).unwrap(), Waited::Disconnected(Disconnect::Died));
    let producer = ring::mpsc::Producer::open(&sim.start_process(), path(), options()).unwrap();
    assert_eq!(consumer.wait(SECOND).unwrap(), Waited::TimedOut);
    drop(producer);
    assert_eq!(consumer.wait(SECOND).unwrap(), Waited::Disconnected(Disconnect::Closed));
}

#[test]
fn s_9_a_reader_is_told_what_it_lost_and_a_writer_waits_for_nobody() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::broadcast(1024)).unwrap();
    let process = sim.start_process();
    let mut writer = ring::broadcast::Writer::open(&process, path(), options()).unwrap();
    assert!(matches!(ring::broadcast::Writer::open(&sim, path(), options()), Err(Error::Locked { .. })));
    let mut reader = ring::broadcast::Reader::open(&sim.start_process(), path(), Start::Oldest, options()).unwrap();
    for n in 0u64..1000 {
        writer.push(&n.to_le_bytes()).unwrap();
    }
    let mut value = [0; 8];
    let Received::Lapped { lost, resume_seq } = reader.receive_wait(&mut value, SECOND).unwrap() else {
        panic!("it was lapped")
    };
    assert_eq!(resume_seq, lost + 1);
    for seq in resume_seq..=1000 {
        assert_eq!(reader.receive_wait(&mut value, SECOND).unwrap(), Received::Message { seq, len: 8 });
        assert_eq!(u64::from_le_bytes(value), seq - 1);
    }
    assert!(matches!(reader.receive_wait(&mut value, SECOND), Err(ReceiveError::TimedOut)));
    process.kill();
    drop(writer);
    assert!(matches!(reader.receive_wait(&mut value, SECOND), Err(ReceiveError::Disconnected(Disconnect::Died))));
    let mut writer = ring::broadcast::Writer::open(&sim, path(), options()).unwrap();
    assert_eq!(writer.push(b"again"), Ok(1001));
    assert_eq!(reader.skip().unwrap(), Received::Message { seq: 1001, len: 5 });
    drop(writer);
    assert_eq!(reader.wait(SECOND).unwrap(), Waited::Disconnected(Disconnect::Closed));
}

#[test]
fn s_6_a_reader_without_permission_to_write_reads_and_waits_too() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::broadcast(1024)).unwrap();
    let mut writer = ring::broadcast::Writer::open(&sim, path(), options()).unwrap();
    sim.set_read_only(path(), true);
    let mut reader = ring::broadcast::Reader::open(&sim.start_process(), path(), Start::Oldest, options()).unwrap();
    assert!(!reader.is_woken());
    assert_eq!(reader.wait(SECOND).unwrap(), Waited::TimedOut);
    writer.push(b"seen").unwrap();
    assert_eq!(reader.wait(SECOND).unwrap(), Waited::Ready);
}

#[test]
fn values_of_one_type_go_through_and_another_type_is_refused() {
    let sim = Sim::new(1);
    ring::create_slots::<[u32; 3], _>(&sim, path(), 4).unwrap();
    let mut producer = ring::slots::Producer::<[u32; 3], _>::open(&sim, path(), options()).unwrap();
    let mut consumer = ring::slots::Consumer::<[u32; 3], _>::open(&sim, path(), options()).unwrap();
    assert!(matches!(consumer.pop_wait(SECOND), Err(ReceiveError::TimedOut)));
    for n in 0..4 {
        producer.push_wait([n; 3], SECOND).unwrap();
    }
    assert!(matches!(producer.push_wait([4; 3], SECOND), Err(SendError::TimedOut)));
    assert_eq!(producer.push_slice(&[[4; 3]]), Ok(0));
    assert_eq!(ring::status(&sim, path()).unwrap().occupancy.unwrap().used, 4);
    assert_eq!(consumer.pop_wait(SECOND).unwrap(), [0; 3]);
    let mut rest = [[0; 3]; 8];
    assert_eq!(consumer.pop_slice(&mut rest), Ok(3));
    drop((producer, consumer));
    ring::slots::Producer::<u64, _>::open(&sim, path(), options()).unwrap_err();
    let error = ring::spsc::Producer::open(&sim, path(), options()).unwrap_err();
    assert_eq!(error.to_string(), "/ring: it is a ring of slots, not a ring of one producer");
}

#[test]
fn what_no_ring_can_be_is_refused_with_the_reason() {
    let sim = Sim::new(1);
    for (options, what) in [
        (RingOptions::spsc(1000), "/ring: capacity 1000 is not a power of two: the next one is 1024"),
        (RingOptions::broadcast(32), "/ring: capacity 32 is too small: a ring needs at least 64"),
        (RingOptions::mpsc(1024, 65), "/ring: unit 65 is not from 1 to 64"),
        (
            RingOptions { wake: WakePolicy::Asymmetric, ..RingOptions::spsc(1024) },
            "/ring: wake: asymmetric needs a barrier that this system does not have",
        ),
    ] {
        assert_eq!(ring::create(&sim, path(), &options).unwrap_err().to_string(), what);
    }
    assert!(ring::create_slots::<u64, _>(&sim, path(), 3).unwrap_err().to_string().contains("3 slots"));
    assert_eq!(sim.list(Path::new("/")).unwrap(), [], "nothing was made");
}

#[test]
fn a_ring_of_an_earlier_boot_is_refused_and_made_anew() {
    let sim = Sim::new(1);
    let (mut producer, _consumer) = spsc_ends(&sim);
    producer.push(b"lost").unwrap();
    let error = ring::create(&sim, path(), &RingOptions::spsc(64)).unwrap_err();
    assert!(error.to_string().contains("there is a ring"), "{error}");
    let sim = sim.crash();
    let error = ring::spsc::Consumer::open(&sim, path(), options()).unwrap_err();
    assert!(error.to_string().contains("earlier boot"), "{error}");
    ring::status(&sim, path()).unwrap_err();
    ring::create(&sim, path(), &RingOptions::spsc(64)).unwrap();
    let mut producer = ring::spsc::Producer::open(&sim, path(), options()).unwrap();
    assert_eq!(producer.push(b"new"), Ok(1));
    let status = ring::status(&sim, path()).unwrap();
    assert_eq!((status.kind, status.capacity), (Kind::Spsc, 64));
    let held: Vec<_> = status.ends.iter().map(|end| (end.name.as_str(), end.holder)).collect();
    assert_eq!(held, [("producer", Holder::Alive), ("consumer", Holder::Missing(Disconnect::Died))]);
    assert!(status.ends[0].text.starts_with("pid "));
}

/// Every byte of a ring's header and place, changed: refused with a place, never believed.
#[test]
fn a_changed_byte_of_a_header_is_found() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::spsc(1024)).unwrap();
    let file = sim.open(path(), Open::Write).unwrap();
    let len = file.len().unwrap() as usize;
    for at in (0..128).chain(len - ring::PLACE_LEN..len) {
        let mut byte = [0];
        file.read_at(&mut byte, at as u64).unwrap();
        for bit in 0..8 {
            file.write_at(&[byte[0] ^ 1 << bit], at as u64).unwrap();
            for error in [
                ring::spsc::Producer::open(&sim, path(), options()).unwrap_err(),
                ring::status(&sim, path()).unwrap_err(),
                ring::create(&sim, path(), &RingOptions::spsc(1024)).unwrap_err(),
            ] {
                assert!(error.to_string().starts_with("/ring: "), "byte {at}, bit {bit}: {error}");
            }
        }
        file.write_at(&byte, at as u64).unwrap();
    }
    file.set_len(len as u64 - 1).unwrap();
    ring::spsc::Producer::open(&sim, path(), options()).unwrap_err();
    file.set_len(100).unwrap();
    ring::spsc::Producer::open(&sim, path(), options()).unwrap_err();
}

#[test]
fn a_ring_in_memory_without_a_name() {
    let sim = Sim::new(1);
    let memory = MemoryOptions::default();
    let memory = ring::create_in_memory(&sim, path(), &RingOptions::spsc(1024), &memory).unwrap();
    assert!(memory.file.is_sealed().unwrap());
    let other = sim.start_process();
    let theirs = memory.file.hand_to(&other).unwrap();
    let mut producer = ring::spsc::Producer::over(&sim, &memory.file, path(), options()).unwrap();
    let mut consumer = ring::spsc::Consumer::over(&other, &theirs, path(), options()).unwrap();
    assert!(matches!(ring::spsc::Consumer::over(&sim, &memory.file, path(), options()), Err(Error::Locked { .. })));
    producer.push(b"through").unwrap();
    assert_eq!(consumer.step_wait(SECOND, bytes).unwrap(), (1, b"through".to_vec()));
}

/// The end of a guarded ring whose file a peer has cut says so, wherever it looks.
#[test]
fn s_12_a_cut_ring_is_damage_to_a_guarded_end() {
    let sim = Sim::new(1);
    ring::create(&sim, path(), &RingOptions::spsc(1 << 16)).unwrap();
    let guarded = EndOptions { guard: true, ..options() };
    let mut producer = ring::spsc::Producer::open(&sim, path(), guarded).unwrap();
    let mut consumer = ring::spsc::Consumer::open(&sim, path(), guarded).unwrap();
    producer.push(b"before").unwrap();
    sim.open(path(), Open::Write).unwrap().set_len(0).unwrap();
    let mut out = [0; 64];
    let (mut errors, mut waits) = (0, 0);
    for _ in 0..100 {
        errors += u32::from(consumer.pop(&mut out).is_err());
        waits += u32::from(consumer.wait(Duration::from_millis(10)).is_err());
    }
    assert!(errors >= 99 && waits > 0, "{errors} errors, {waits} waits that failed");
    assert!(consumer.is_damaged() && producer.is_damaged());
}
