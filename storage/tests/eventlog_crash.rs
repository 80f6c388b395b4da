//! Nothing that a sync covered is lost, whatever fails when; what was not synced is there in a whole prefix or is found
//! to be damaged; a full disk loses nothing.

use chronicle_platform::{
    Open, Platform, TroubleKind,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error, ErrorKind,
    eventlog::{EventHeader, MmapReader, MmapWriter, Options, WriteError},
};
use std::path::Path;

const LOG: &str = "/events.evtl";
const OPTIONS: Options =
    Options { capacity: 132 << 10, max_bytes: 196 << 10, step: 1 << 16, checksums: true, helper: false };

fn payload(seq: u64) -> Vec<u8> {
    (0..300 + seq % 500).map(|at| (seq.wrapping_mul(0x9e37_79b9) >> (at % 32)) as u8).collect()
}

fn write(log: &mut MmapWriter<Sim>, seq: u64) -> Result<(), WriteError> {
    let payload = payload(seq);
    log.write_event(&EventHeader::new(seq, 1, payload.len() as u16), &payload)
}

/// Events of the log, each as it was written.
fn count(sim: &Sim) -> Result<u64, Error> {
    let mut seq = 0;
    MmapReader::open_on(sim, LOG)?.replay(|event| {
        let expected = payload(seq);
        let mut found = vec![0; event.payload.len()];
        event.payload.copy_to(&mut found);
        assert_eq!((event.header.timestamp, found), (seq, expected));
        seq += 1;
    })
}

/// A program's day: the number of events that were promised to be durable.
fn live(sim: &Sim, made: &mut bool, durable: &mut u64) -> Result<(), Error> {
    let mut log = MmapWriter::create_with(sim, LOG, OPTIONS)?;
    *made = true;
    for round in 0..4_u64 {
        for seq in round * 60..(round + 1) * 60 {
            match write(&mut log, seq) {
                Ok(()) => sim.tick(),
                // The power is off, or the log is full.
                Err(_) => break,
            }
        }
        if round % 2 == 0 {
            let events = log.event_count();
            log.sync()?;
            *durable = events;
        } else {
            drop(log);
            log = MmapWriter::open_with(sim, LOG, OPTIONS)?;
        }
    }
    Ok(())
}

#[test]
fn power_cuts_at_every_operation() {
    let operations = {
        let sim = Sim::new(1);
        live(&sim, &mut false, &mut 0).unwrap();
        let operations = sim.operations();
        assert!(count(&sim).unwrap() > 200);
        operations
    };
    assert!(operations > 200, "{operations}");
    let (mut refused, mut cut) = (0, 0);
    for n in 1..=operations {
        let sim = Sim::new(n);
        sim.crash_at(n);
        let (mut made, mut durable) = (false, 0);
        live(&sim, &mut made, &mut durable).expect_err("the power was cut");
        let after = sim.crash();
        if !after.exists(Path::new(LOG)).unwrap() {
            assert!(!made, "cut at {n}: the log is gone");
            continue;
        }
        match MmapWriter::open_with(&after, LOG, OPTIONS) {
            Ok(log) => assert!(log.event_count() >= durable, "cut at {n}: {} of {durable}", log.event_count()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damage, "cut at {n}: {error}");
                refused += 1;
            }
        }
        let (mut log, found) =
            MmapWriter::recover(&after, LOG, OPTIONS).unwrap_or_else(|error| panic!("cut at {n}: {error}"));
        assert!(found.events >= durable, "cut at {n}: {found:?} of {durable}");
        assert_eq!(log.event_count(), found.events);
        cut += u64::from(found.damage.is_some());
        let seq = found.events;
        if log.write_event(&EventHeader::new(seq, 1, payload(seq).len() as u16), &payload(seq)).is_ok() {
            assert_eq!(count(&after).unwrap(), seq + 1, "cut at {n}");
        }
    }
    // The test would show nothing if no crash ever left anything to find.
    assert!(refused > 0 && cut > 0, "{refused} refused, {cut} cut");
}

#[test]
fn damage_before_a_sync_is_not_cut() {
    use chronicle_platform::File;
    let sim = Sim::new(3);
    let mut log = MmapWriter::create_with(&sim, LOG, OPTIONS).unwrap();
    (0..20).for_each(|seq| write(&mut log, seq).unwrap());
    log.sync().unwrap();
    (20..30).for_each(|seq| write(&mut log, seq).unwrap());
    let end = log.write_offset();
    drop(log);
    let file = sim.open(Path::new(LOG), Open::Write).unwrap();
    let flip = |at: u64| {
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 4], at).unwrap();
    };
    flip(end - 1);
    let (log, found) = MmapWriter::recover(&sim, LOG, OPTIONS).unwrap();
    assert_eq!((found.events, log.event_count()), (29, 29));
    assert_eq!(found.cut_bytes, 16 + payload(29).len() as u64);
    drop(log);
    assert_eq!(count(&sim).unwrap(), 29);
    flip(100);
    let error = MmapWriter::recover(&sim, LOG, OPTIONS).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Damage, Some(64)), "{error}");
}

#[test]
fn d_2_failed_sync_is_fatal() {
    let sim = Sim::new(4);
    let mut log = MmapWriter::create_with(&sim, LOG, OPTIONS).unwrap();
    write(&mut log, 0).unwrap();
    sim.faults(Faults { failing_sync: Some(sim.syncs() + 1), ..Faults::default() });
    let error = log.sync().unwrap_err();
    assert!(matches!(&error, Error::Trouble(trouble) if trouble.kind() == TroubleKind::Io), "{error}");
    sim.faults(Faults::default());
    assert_eq!(write(&mut log, 1), Err(WriteError::Poisoned));
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert_eq!(log.event_count(), 1);
}

#[test]
fn d_11_a_full_disk_refuses_and_loses_nothing() {
    for helper in [false, true] {
        let sim = Sim::new(5);
        let options = Options { helper, ..OPTIONS };
        // Room for what is prepared at first, and no more.
        sim.faults(Faults { disk_bytes: 140 << 10, ..Faults::default() });
        let mut log = MmapWriter::create_with(&sim, LOG, options).unwrap();
        let mut seq = 0;
        let refused = loop {
            match write(&mut log, seq) {
                Ok(()) => seq += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, WriteError::NoSpace);
        let trouble = log.last_trouble().expect("why");
        assert!(matches!(&*trouble, Error::Trouble(trouble) if trouble.kind() == TroubleKind::NoSpace), "{trouble}");
        assert_eq!((log.event_count(), count(&sim).unwrap()), (seq, seq));
        // There is room again: the same event is taken. A helper has to notice first.
        sim.faults(Faults::default());
        while let Err(error) = write(&mut log, seq) {
            assert!(helper && error == WriteError::NoSpace, "{error}");
            std::thread::yield_now();
        }
        assert_eq!(count(&sim).unwrap(), seq + 1);
    }
    // Not even room to begin: nothing is left behind, and the old log is as it was.
    let sim = Sim::new(6);
    let mut log = MmapWriter::create_with(&sim, LOG, Options { capacity: 4096, ..OPTIONS }).unwrap();
    write(&mut log, 0).unwrap();
    drop(log);
    sim.faults(Faults { disk_bytes: 64 << 10, ..Faults::default() });
    let error = MmapWriter::create_with(&sim, LOG, OPTIONS).unwrap_err();
    assert!(matches!(&error, Error::Trouble(trouble) if trouble.kind() == TroubleKind::NoSpace), "{error}");
    assert_eq!(sim.list(Path::new("/")).unwrap().len(), 1);
    assert_eq!(count(&sim).unwrap(), 1);
}
