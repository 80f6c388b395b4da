//! Group `eventlog`: events from a thread through a ring into a log in a mapped file, every one of them read back.
//!
//! The clock runs until the last event is committed to the file; then the file is opened again and each event compared with
//! what was sent. An event that was not there would fail the measurement, not lower it. The floor hands messages over
//! through a bare ring and copies them into a mapping: no header, no checksum, nothing that could be read again.

use crate::{
    contest::{Contest, Line, Target},
    duel,
    machine::{self, BareRing, MapMut},
    spsc::{Message, message, number},
};
use chronicle_platform_linux::Linux;
use chronicle_storage::eventlog::{EventHeader, MmapReader, MmapWriter, Options, RingError, SpscRingBuffer};
use std::{hint::spin_loop, path::Path, sync::Barrier, time::Instant};
use zerocopy::IntoBytes as _;

/// Events of one measurement.
const COUNT: u64 = 1 << 21;
/// Events of one store of either end's position.
const BATCH: u64 = 64;
const RING: usize = 1 << 20;
const PAYLOAD: usize = size_of::<Message>();
/// What ringlog's own stress program claims on such a machine, events/s, of which it persists less than a fifth; it is in
/// no registry, so its claim stands for it.
const CLAIMED: f64 = 15e6;
const ROUNDS: usize = 5;

/// Measures the group.
pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !duel::two_processors("eventlog") {
        return Ok(());
    }
    let len = COUNT as usize * PAYLOAD;
    let floor = machine::warm_file(&dir.join("floor"), len)?;
    for (what, checksums) in [("with CRC", true), ("without", false)] {
        let contest = |floor, target| Contest {
            group: "eventlog",
            case: format!("64 B events, SPSC to persisted and verified, {what}"),
            unit: "events/s",
            higher_is_better: true,
            ours: Box::new(move || persisted(dir, checksums)),
            floor,
            rivals: Vec::new(),
            target,
        };
        duel::run(contest(None, Target::Median(1.5 * CLAIMED)), ROUNDS, out)?;
        let mut beside = contest(Some(("bare ring and copy", Box::new(|| bare(&floor)) as _)), Target::None);
        beside.case = format!("{}, beside a bare copy", beside.case);
        duel::run(beside, ROUNDS, out)?;
    }
    Ok(())
}

fn persisted(dir: &Path, checksums: bool) -> Result<f64, String> {
    let path = dir.join("events");
    let _ = std::fs::remove_file(&path);
    let bytes = (COUNT as usize * (EventHeader::SIZE + PAYLOAD) + 4096).next_multiple_of(4096) as u64;
    let options = Options { capacity: bytes, max_bytes: bytes, helper: false, checksums, ..Options::default() };
    let mut log = MmapWriter::create_with(&Linux, &path, options).map_err(|it| it.to_string())?;
    let (mut send, mut receive) = SpscRingBuffer::new(RING).map_err(|it| it.to_string())?.split();
    let start = Barrier::new(2);
    let took = std::thread::scope(|scope| -> Result<_, String> {
        scope.spawn(|| {
            machine::pin(1);
            start.wait();
            for n in 0..COUNT {
                let (header, message) = (EventHeader::new(n, 1, PAYLOAD as u16), message(n));
                loop {
                    match send.stage(&header, message.as_bytes()) {
                        Ok(()) => break,
                        Err(RingError::NotEnoughSpace { .. }) => {
                            send.commit();
                            spin_loop();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                if n % BATCH == BATCH - 1 {
                    send.commit();
                }
            }
            send.commit();
        });
        machine::pin(0);
        start.wait();
        let (began, mut done) = (Instant::now(), 0);
        while done < COUNT {
            let drained = log.drain_from(&mut receive, BATCH as usize).map_err(|it| it.to_string())?;
            if drained == 0 {
                spin_loop();
            }
            done += drained as u64;
        }
        Ok(began.elapsed())
    });
    machine::unpin();
    let took = took?;
    log.close().map_err(|it| it.to_string())?;
    let reader = MmapReader::open_on(&Linux, &path).map_err(|it| it.to_string())?;
    let (mut next, mut wrong) = (0, 0);
    let replayed = reader
        .replay(|event| {
            let mut found: Message = [0; 8];
            event.payload.copy_to(found.as_mut_bytes());
            wrong += u64::from(event.header.timestamp != next || found != message(next));
            next += 1;
        })
        .map_err(|it| it.to_string())?;
    let _ = std::fs::remove_file(&path);
    if (replayed, wrong) != (COUNT, 0) {
        return Err(format!("{replayed} of {COUNT} events came back, {wrong} of them wrong"));
    }
    Ok(COUNT as f64 / took.as_secs_f64())
}

fn bare(map: &MapMut) -> Result<f64, String> {
    let ring = BareRing::new();
    let (mut send, mut receive) = ring.ends();
    let mut at = 0;
    let each = duel::throughput(
        COUNT,
        move || {
            for n in 0..COUNT {
                while !send.push(message(n)) {
                    spin_loop();
                }
            }
        },
        |check| {
            while at < COUNT as usize {
                match receive.pop() {
                    Some(message) => {
                        machine::copy_at(map, at * PAYLOAD, &message);
                        check.saw(number(&message));
                        at += 1;
                    }
                    None => spin_loop(),
                }
            }
        },
    )?;
    Ok(1e9 / each)
}
