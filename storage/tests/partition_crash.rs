//! A crash at any moment must not change what a partition's file says in the end.
//!
//! A writer appends, flushes, stores a checkpoint, and seals. The machine loses power at its n-th operation, for every
//! n. After the restart a program does what the refinery does: it removes a file that no checkpoint knows, resumes one
//! that it knows at the checkpoint's length, appends from there, and seals. The bytes must be those of a run without a
//! crash. Meanwhile every state that a crash left must read without damage up to the checkpoint.

use chronicle_core::Append;
use chronicle_platform::{
    File, Open, Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error, Result,
    meta::{publish, read_small},
    partition::{Committed, PartitionFile, PartitionWriter, Tail},
    root::{PartitionId, Root, Stream, Tier},
};
use std::path::{Path, PathBuf};

const FRAMES: u64 = 120;
const FLUSH_EVERY: u64 = 25;

fn id() -> PartitionId {
    let date = "2024-03-01".parse().unwrap();
    PartitionId::new("binance-spot".parse().unwrap(), "btcusdt".parse().unwrap(), date, Stream::Book)
}

fn path() -> PathBuf {
    Root::new("/root").partition(Tier::Warm, &id())
}

fn checkpoint_path() -> PathBuf {
    PathBuf::from("/root/state/checkpoint")
}

/// The n-th frame; some are larger than a page, so that their bytes are torn, one is larger than the writer's buffer.
fn frame(n: u64) -> (Append, Vec<u8>) {
    let len = match n {
        60 => 300_000,
        _ if n.is_multiple_of(7) => 5_000 + n as usize,
        _ => (n * 13 % 90) as usize,
    };
    let payload = (0..len).map(|i| (i as u64 * 31 + n) as u8).collect();
    (Append { time_ns: 1_000_000 + n * 10, type_id: (n % 6) as u16, flags: 0 }, payload)
}

/// Checkpoint and file: what the refinery does, from whatever state it finds.
fn refine(sim: &Sim) -> Result<()> {
    let checkpoint = match read_small(sim, &checkpoint_path(), 1 << 20) {
        Ok(bytes) => Some(serde_json::from_slice::<Committed>(&bytes).expect("a published checkpoint is whole")),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let path = path();
    let mut writer = match checkpoint {
        Some(committed) if committed.sealed => return Ok(()),
        Some(committed) => PartitionWriter::resume(sim, &path, &id(), &committed)?,
        None => {
            match sim.remove(&path) {
                Err(trouble) if trouble.kind() == chronicle_platform::TroubleKind::NotFound => {}
                other => other?,
            }
            PartitionWriter::create(sim, &path, &id())?
        }
    };
    let store = |committed: &Committed| publish(sim, &checkpoint_path(), &serde_json::to_vec(committed).unwrap());
    for n in writer.next_seq()..=FRAMES {
        let (append, payload) = frame(n);
        assert_eq!(writer.append(append, &payload)?, n);
        if n.is_multiple_of(FLUSH_EVERY) {
            store(&writer.flush()?)?;
        }
    }
    store(&writer.seal()?)
}

/// Nothing that is closed for want of descriptors may be forgotten by the next sync.
#[test]
fn a_parked_writer_is_synced_when_it_is_flushed_again() {
    let (expected, _) = reference();
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let mut writer = PartitionWriter::create(&sim, &path(), &id()).unwrap();
        let mut committed = writer.flush().unwrap();
        for n in 1..=FRAMES {
            let (append, payload) = frame(n);
            writer.append(append, &payload).unwrap();
            if n % 9 == 0 {
                let parked = writer.park().unwrap();
                writer = PartitionWriter::reopen(&sim, &path(), &id(), &parked).unwrap();
            }
            if n % 27 == 0 {
                committed = writer.flush().unwrap();
                let before = sim.syncs();
                assert_eq!(writer.flush().unwrap(), committed);
                assert_eq!(sim.syncs(), before, "nothing new, no sync");
            }
        }
        let sim = sim.crash();
        let mut writer = PartitionWriter::resume(&sim, &path(), &id(), &committed).unwrap();
        for n in writer.next_seq()..=FRAMES {
            let (append, payload) = frame(n);
            writer.append(append, &payload).unwrap();
        }
        writer.seal().unwrap();
        assert!(bytes(&sim, &path()) == expected, "seed {seed}");
    }
}

fn bytes(sim: &Sim, path: &Path) -> Vec<u8> {
    read_small(sim, path, 1 << 30).unwrap()
}

/// What a reader makes of the file as a crash left it.
fn check_readable(sim: &Sim, what: &str) {
    let checkpoint = read_small(sim, &checkpoint_path(), 1 << 20).ok();
    let committed = checkpoint.map(|bytes| serde_json::from_slice::<Committed>(&bytes).unwrap());
    let mut file = match PartitionFile::open(sim, &path()) {
        Ok(file) => file,
        // Published with its first bytes: it is whole or it is not there.
        Err(error) => {
            assert!(error.is_not_found() && committed.is_none(), "{what}: {error}");
            return;
        }
    };
    file.require(committed.map_or(0, |committed| committed.len));
    let mut n = 0;
    loop {
        match file.next() {
            Ok(Some(found)) => {
                n += 1;
                let (append, payload) = frame(n);
                assert_eq!((found.seq, found.time_ns, found.type_id), (n, append.time_ns, append.type_id), "{what}");
                assert_eq!(found.payload.as_slice(None), Some(&payload[..]), "{what}");
            }
            Ok(None) => break,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    assert!(n + 1 >= committed.map_or(1, |committed| committed.next_seq), "{what}: {n} frames");
    if file.tail() == Tail::Sealed {
        assert_eq!(n, FRAMES, "{what}");
    }
}

fn reference() -> (Vec<u8>, u64) {
    let sim = Sim::new(1);
    refine(&sim).unwrap();
    (bytes(&sim, &path()), sim.operations())
}

#[test]
fn a_crash_at_every_operation_changes_no_byte() {
    let (expected, operations) = reference();
    assert!(operations > 40, "{operations} operations");
    let mut resumed = 0;
    for seed in 0..4 {
        for n in 1..=operations {
            let what = format!("seed {seed}, crash at operation {n}");
            let sim = Sim::new(seed * 1000 + n);
            sim.crash_at(n);
            let first = refine(&sim);
            let mut after = sim.crash();
            check_readable(&after, &what);
            // A second crash, in the recovery.
            if seed % 2 == 1 {
                after.crash_at(after.operations() + 1 + n * 7 % 23);
                let _ = refine(&after);
                after = after.crash();
                check_readable(&after, &what);
            }
            refine(&after).unwrap_or_else(|error| panic!("{what}: {error} (before: {first:?})"));
            assert!(bytes(&after, &path()) == expected, "{what}: other bytes");
            resumed += u64::from(first.is_err());
        }
    }
    assert!(resumed > 3 * operations, "{resumed} of {operations} crashes hit");
}

#[test]
fn a_killed_process_changes_no_byte() {
    let (expected, operations) = reference();
    for n in 1..=operations {
        let sim = Sim::new(n);
        let process = sim.start_process();
        process.kill_at(n);
        let _ = refine(&process);
        check_readable(&sim, &format!("killed at {n}"));
        refine(&sim).unwrap_or_else(|error| panic!("killed at {n}: {error}"));
        assert!(bytes(&sim, &path()) == expected, "killed at {n}: other bytes");
    }
}

/// The negative twin: when a disk lies about syncs, some crash must show. Otherwise the test above proves nothing.
#[test]
fn a_disk_that_lies_is_noticed() {
    let (expected, operations) = reference();
    let mut noticed = 0;
    for n in 1..=operations {
        let sim = Sim::new(n);
        sim.faults(Faults { lying_sync: true, ..Faults::default() });
        sim.crash_at(n);
        let _ = refine(&sim);
        let after = sim.crash();
        after.faults(Faults::default());
        let checkpoint_lost = read_small(&after, &checkpoint_path(), 1 << 20)
            .is_ok_and(|bytes| serde_json::from_slice::<Committed>(&bytes).is_err());
        if checkpoint_lost {
            noticed += 1;
            continue;
        }
        match refine(&after) {
            // Refused as shorter, absent, or of another CRC: noticed.
            Err(_) => noticed += 1,
            Ok(()) => {
                let sealed_checkpoint_only = bytes(&after, &path()) != expected;
                noticed += u64::from(sealed_checkpoint_only);
            }
        }
    }
    assert!(noticed > 0, "none of {operations} crashes on a lying disk was noticed");
}

#[test]
fn a_failed_sync_poisons_the_writer() {
    let sim = Sim::new(7);
    let mut writer = PartitionWriter::create(&sim, &path(), &id()).unwrap();
    let (append, payload) = frame(1);
    writer.append(append, &payload).unwrap();
    let before = writer.flush().unwrap();
    writer.append(append, &payload).unwrap();
    sim.faults(Faults { failing_sync: Some(sim.syncs() + 1), ..Faults::default() });
    assert!(matches!(writer.flush(), Err(Error::Trouble(_))));
    // A sync that succeeds now must not be believed.
    writer.append(append, &payload).unwrap();
    assert!(matches!(writer.flush(), Err(Error::Trouble(_))));
    assert!(matches!(writer.seal(), Err(Error::Trouble(_))));
    drop(writer);
    let writer = PartitionWriter::resume(&sim, &path(), &id(), &before).unwrap();
    assert_eq!(writer.next_seq(), 2);
}

#[test]
fn a_full_disk_loses_nothing_and_passes() {
    let (expected, _) = reference();
    let sim = Sim::new(3);
    let mut writer = PartitionWriter::create(&sim, &path(), &id()).unwrap();
    let mut refused = 0;
    for n in 1..=FRAMES {
        if n == 40 || n == 70 {
            sim.faults(Faults { disk_bytes: 0, ..Faults::default() });
        }
        let (append, payload) = frame(n);
        loop {
            let result = writer.append(append, &payload);
            let result = result
                .and_then(|seq| if n.is_multiple_of(FLUSH_EVERY) { writer.flush().map(|_| seq) } else { Ok(seq) });
            match result {
                Ok(seq) => {
                    assert_eq!(seq, n);
                    break;
                }
                Err(error) => {
                    refused += 1;
                    assert!(
                        matches!(&error, Error::Trouble(t) if t.kind() == chronicle_platform::TroubleKind::NoSpace),
                        "{error}"
                    );
                    sim.faults(Faults::default());
                    if writer.next_seq() == n + 1 {
                        writer.flush().unwrap();
                        break;
                    }
                }
            }
        }
    }
    writer.seal().unwrap();
    assert!(refused >= 1);
    assert!(bytes(&sim, &path()) == expected);
}

#[test]
fn a_checkpoint_that_the_file_does_not_fit_is_damage() {
    let sim = Sim::new(5);
    let mut writer = PartitionWriter::create(&sim, &path(), &id()).unwrap();
    let mut marks = Vec::new();
    for n in 1..=40 {
        let (append, payload) = frame(n);
        writer.append(append, &payload).unwrap();
        if n % 20 == 0 {
            marks.push(writer.flush().unwrap());
        }
    }
    drop(writer);
    let whole = bytes(&sim, &path());
    let file = sim.open(&path(), Open::Write).unwrap();

    // Shorter than the checkpoint says.
    file.set_len(marks[1].len - 32).unwrap();
    let error = PartitionWriter::resume(&sim, &path(), &id(), &marks[1]).unwrap_err();
    assert_eq!(error.offset(), Some(marks[1].len - 32), "{error}");
    assert_eq!(bytes(&sim, &path()).len() as u64, marks[1].len - 32, "a file that does not fit is left as it is");
    file.write_at(&whole, 0).unwrap();

    // One flipped byte in front of it: the frame is named.
    for at in [0, 20, 72, 84, 130, 160, marks[1].len as usize - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        file.write_at(&flipped, 0).unwrap();
        let error = PartitionWriter::resume(&sim, &path(), &id(), &marks[1]).unwrap_err();
        let offset = error.offset().unwrap_or_else(|| panic!("flip at {at}: {error}"));
        // A flip in the header shows at its checksum.
        assert!(offset <= (at as u64).max(127), "flip at {at}: {error}");
        assert_eq!(bytes(&sim, &path()), flipped, "a file that does not fit is left as it is");
    }
    // Behind it: cut, unread.
    let mut flipped = whole.clone();
    flipped[marks[0].len as usize + 3] ^= 1;
    file.write_at(&flipped, 0).unwrap();
    let writer = PartitionWriter::resume(&sim, &path(), &id(), &marks[0]).unwrap();
    assert_eq!((writer.next_seq(), writer.len()), (21, marks[0].len));
    drop(writer);
    assert_eq!(bytes(&sim, &path()), whole[..marks[0].len as usize]);

    // Whole frames, but other ones.
    let mut other = marks[0];
    other.running_crc ^= 1;
    let error = PartitionWriter::resume(&sim, &path(), &id(), &other).unwrap_err();
    assert_eq!(error.offset(), Some(marks[0].len), "{error}");
    // Another partition's file.
    let trades = PartitionId { stream: Stream::Trades, ..id() };
    let error = PartitionWriter::resume(&sim, &path(), &trades, &marks[0]).unwrap_err();
    assert!(error.offset().is_some(), "{error}");
    // A checkpoint that nobody wrote.
    for len in [0, 96, 127, 129, u64::MAX] {
        let error = PartitionWriter::resume(&sim, &path(), &id(), &Committed { len, ..marks[0] }).unwrap_err();
        assert!(error.offset().is_some(), "{error}");
    }
    assert!(PartitionWriter::create(&sim, &path(), &id()).is_err(), "a file that exists is not begun again");
}
