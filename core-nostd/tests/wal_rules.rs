//! Rules of durability that other systems paid for, each a test with its number: those that the machine and the reading
//! of batches answer for by themselves. The others stand where files are opened, recovered and crashed.
#![cfg(not(loom))]

mod wal_disk;

use chronicle_core::wal::{
    AppendError, Batch, BatchHead, Carry, Config, ConfigError, Header, Kind, Machine, Op, Outcome, Poison, Position,
    RetireError, Start, SyncBy, Truncation, entries, layout,
};
use chronicle_core::{Fault, HeapRegion};
use std::sync::Arc;
use wal_disk::{Disk, Log, read};

const BLOCK: u32 = 512;

fn config(depth: u8, sync: SyncBy) -> Config {
    Config {
        block_size: BLOCK,
        batch_len: 4 * BLOCK,
        segment_len: 16 * u64::from(BLOCK),
        depth,
        sync,
        carry_len: 256,
        #[cfg(feature = "planted")]
        planted: chronicle_core::wal::Planted::NONE,
    }
}

fn log(config: Config) -> (Log, Disk) {
    let region = Arc::new(HeapRegion::new(layout(&config).unwrap().size()));
    let start = Start { segment_id: 1, first_seq: 1, salt_seed: 77, ..Start::default() };
    let mut log = Machine::begin(Arc::clone(&region), config, &start).unwrap();
    let mut disk = Disk::new(&region);
    disk.prepare(&log.header());
    log.demand_all();
    disk.settle(&mut log);
    disk.handed.clear();
    (log, disk)
}

/// Appends one frame and demands it.
fn put(log: &mut Log, payload: &[u8]) -> u64 {
    let seq = log.append(payload).unwrap();
    log.demand(seq);
    seq
}

fn all(op: &Op) -> Outcome {
    match op {
        Op::Write { len, .. } => Outcome::Done(*len),
        _ => Outcome::Done(0),
    }
}

/// What is acknowledged before its sync returned is lost by a power cut.
#[test]
fn d_1_nothing_is_durable_before_its_sync_is_done() {
    for sync in [SyncBy::Write, SyncBy::Op, SyncBy::Request] {
        let (mut log, mut disk) = log(config(1, sync));
        let seq = put(&mut log, b"one");
        assert_eq!(log.durable(), 0);
        while log.durable() < seq {
            assert!(!disk.read().data().contains(&(seq, b"one".to_vec())), "durable and not said");
            disk.take(&mut log);
            assert_eq!(log.durable(), 0, "handing out is not doing");
            let op = disk.under_way[0].op;
            assert_eq!(matches!(op, Op::Write { sync: true, .. }), sync == SyncBy::Write);
            disk.finish(&mut log, 0, all(&op));
        }
        assert_eq!(disk.read().data(), [(seq, b"one".to_vec())]);
    }
}

/// Without a demand, `SyncBy::Request` writes what is full and syncs nothing; a roll does not wait for a sync either.
#[test]
fn d_1_without_a_demand_nothing_is_said_to_be_durable() {
    let (mut log, mut disk) = log(config(2, SyncBy::Request));
    for _ in 0..40 {
        while log.append(&[7; 900]) == Err(AppendError::Full) {
            disk.settle(&mut log);
        }
    }
    disk.settle(&mut log);
    assert!(disk.files.len() > 2 && log.written() > 30);
    assert_eq!(log.durable(), 0);
    assert!(!disk.handed.iter().any(|op| matches!(op, Op::Sync { .. })));
    assert_eq!(log.oldest_in_use(), 1, "its sync is still to come");
    log.demand(log.next_seq() - 1);
    disk.settle(&mut log);
    assert_eq!(log.durable(), 40);
    let synced: Vec<u64> = disk.handed.iter().filter(|op| matches!(op, Op::Sync { .. })).map(Op::segment).collect();
    assert!(synced.is_sorted() && synced.first() == Some(&1) && synced.last() == Some(&log.header().segment_id));
    assert_eq!(disk.read().data().len(), 40);
    assert_eq!(log.oldest_in_use(), log.header().segment_id);
}

/// After a failed sync the page cache calls pages clean that never reached the disk: a later sync that succeeds proves
/// nothing.
#[test]
fn d_2_failed_sync_is_fatal() {
    for sync in [SyncBy::Write, SyncBy::Op, SyncBy::Request] {
        for depth in [1, 3] {
            for fail in 0..9 {
                let (mut log, mut disk) = log(config(depth, sync));
                let (mut count, mut acknowledged) = (0, 0);
                for round in 0..8u8 {
                    for _ in 0..depth {
                        match log.append(&[round; 40]) {
                            Ok(seq) => log.demand(seq),
                            Err(refusal) => assert_eq!(refusal, AppendError::Poisoned),
                        }
                        disk.take(&mut log);
                    }
                    // Newest first: what came before the failure completes behind it.
                    while let Some(one) = disk.under_way.last() {
                        let syncs = matches!(one.op, Op::Write { sync: true, .. } | Op::Sync { .. });
                        let outcome = if syncs && count == fail { Outcome::Failed(5) } else { all(&one.op) };
                        count += u32::from(syncs);
                        let was_poisoned = log.is_poisoned();
                        let last = disk.under_way.len() - 1;
                        disk.finish(&mut log, last, outcome);
                        if was_poisoned {
                            assert_eq!(log.durable(), acknowledged, "acknowledged after a failed sync");
                        }
                        acknowledged = log.durable();
                        disk.take(&mut log);
                    }
                }
                assert_eq!(log.is_poisoned(), count > fail);
                if log.is_poisoned() {
                    let expected =
                        if sync == SyncBy::Write { Poison::Write { errno: 5 } } else { Poison::Sync { errno: 5 } };
                    assert_eq!(log.poisoned(), Some(expected));
                    assert_eq!(log.append(b"late"), Err(AppendError::Poisoned));
                    assert_eq!(log.append_control(Kind::Vote, b"late"), Err(AppendError::Poisoned));
                    assert_eq!(log.retire(1, 1), Err(RetireError::Poisoned));
                    log.demand_all();
                    log.close();
                    log.retry();
                    assert_eq!(log.next_op(), None);
                    assert!(!log.is_closed());
                }
                assert!(disk.read().next_seq > acknowledged);
            }
        }
    }
}

/// A write that moved only a part of its bytes goes on at the block where it stopped; one that cannot is a failed write.
#[test]
fn d_4_short_writes_of_every_length_are_completed_or_poison() {
    let blocks = 4 * BLOCK;
    for done in (0..blocks).step_by(if cfg!(miri) { 300 } else { 1 }) {
        let (mut log, mut disk) = log(config(1, SyncBy::Write));
        let payload = vec![9; log.config().max_payload() as usize];
        let seq = put(&mut log, &payload);
        disk.take(&mut log);
        let Op::Write { offset, from, len, .. } = disk.under_way[0].op else { panic!("a write") };
        assert_eq!(len, blocks);
        disk.finish(&mut log, 0, Outcome::Done(done));
        assert_eq!(log.durable(), 0, "{done} bytes are not all");
        disk.take(&mut log);
        let whole = done - done % BLOCK;
        let Op::Write { offset: rest_at, from: rest_from, len: rest, sync: true, .. } = disk.under_way[0].op else {
            panic!("the rest is written")
        };
        assert_eq!((rest_at, rest_from, rest), (offset + u64::from(whole), from + whole as usize, len - whole));
        disk.finish(&mut log, 0, Outcome::Done(rest));
        assert_eq!(log.durable(), seq);
        assert_eq!(disk.read().data(), [(seq, payload)]);
    }
    // One that moves nothing, again and again; and one that says it wrote more than there was.
    for claim in [0, 511, u32::MAX] {
        let (mut log, mut disk) = log(config(1, SyncBy::Write));
        put(&mut log, b"one");
        let mut tries = 0;
        while disk.take(&mut log) > 0 {
            disk.finish(&mut log, 0, Outcome::Done(claim));
            tries += 1;
            assert!(tries <= 8, "no end");
        }
        assert_eq!(log.poisoned(), Some(Poison::Short { missing: BLOCK }));
        assert_eq!(log.durable(), 0);
    }
}

/// "Again" is no answer for ever.
#[test]
fn d_4_an_operation_that_is_always_put_off_poisons() {
    for sync in [SyncBy::Write, SyncBy::Op] {
        let (mut log, mut disk) = log(config(1, sync));
        put(&mut log, b"one");
        let mut tries = 0;
        while disk.take(&mut log) > 0 {
            let op = disk.under_way[0].op;
            let outcome = if sync == SyncBy::Op && matches!(op, Op::Write { .. }) { all(&op) } else { Outcome::Again };
            disk.finish(&mut log, 0, outcome);
            tries += 1;
            assert!(tries < 10_000, "no end");
        }
        assert_eq!((log.poisoned(), log.durable()), (Some(Poison::Again), 0));
    }
}

/// Completions come in any order; durable moves only over a prefix without a hole.
#[test]
fn d_6_out_of_order_completions_move_durable_over_a_whole_prefix_only() {
    for sync in [SyncBy::Write, SyncBy::Op] {
        // Every order of four writes.
        for order in 0..24usize {
            let (mut log, mut disk) = log(config(4, sync));
            for round in 0..4u8 {
                put(&mut log, &[round; 10]);
                disk.take(&mut log);
            }
            assert_eq!(disk.under_way.len(), 4);
            let mut left = vec![1u64, 2, 3, 4];
            let mut rest = order;
            for n in (1..=4).rev() {
                let pick = rest % n;
                rest /= n;
                left.remove(pick);
                let write =
                    disk.under_way.iter().enumerate().filter(|(_, one)| matches!(one.op, Op::Write { .. })).nth(pick);
                let (index, op) = write.map(|(index, one)| (index, one.op)).unwrap();
                disk.finish(&mut log, index, all(&op));
                let prefix = left.first().map_or(4, |first| first - 1);
                assert_eq!(log.written(), prefix);
                if sync == SyncBy::Write {
                    assert_eq!(log.durable(), prefix);
                    assert_eq!(disk.read().next_seq, prefix + 1);
                } else {
                    assert_eq!(log.durable(), 0, "no sync was done");
                    disk.take(&mut log);
                }
            }
            disk.settle(&mut log);
            assert_eq!(log.durable(), 4);
        }
    }
}

/// Valid frames of what a file was before must not be read as frames of what it is.
#[test]
fn d_12_a_recycled_segment_never_shows_what_it_held_before() {
    let (mut log, mut disk) = log(config(2, SyncBy::Write));
    let mut next = 0u32;
    let mut fill = |log: &mut Log, disk: &mut Disk, until: u64| {
        while log.header().segment_id < until {
            next += 1;
            let payload = next.to_le_bytes();
            while log.append(&payload) == Err(AppendError::Full) {
                disk.settle(log);
            }
        }
    };
    fill(&mut log, &mut disk, 2);
    log.demand_all();
    disk.settle(&mut log);
    assert_eq!(log.retire(1, log.durable()), Ok(()));
    disk.settle(&mut log);
    assert_eq!(disk.spares.len(), 1);
    let old = disk.spares[0].clone();
    fill(&mut log, &mut disk, 3);
    log.demand_all();
    disk.settle(&mut log);
    let new = disk.files[&3].media.clone();
    let header = Header::parse(&new).unwrap();
    assert!(Header::parse(&old).is_ok(), "the spare was whole and long");
    // A crash at any block of the new content, with the old content behind it.
    for cut in (0..=new.len()).step_by(BLOCK as usize) {
        let mut bytes = new[..cut].to_vec();
        bytes.extend_from_slice(&old[cut..]);
        if cut < BLOCK as usize {
            continue;
        }
        let found = read(&[(3, &bytes)]);
        let whole = read(&[(3, &new)]);
        assert!(whole.frames.starts_with(&found.frames), "cut at {cut}: an old frame came back");
        assert!(found.end.offset <= cut.max(BLOCK as usize) as u64);
    }
    // Even in its own place, with the right number, an old batch does not pass: its salt is another segment's.
    let old_header = Header::parse(&old).unwrap();
    for at in (BLOCK as usize..old.len()).step_by(BLOCK as usize) {
        if BatchHead::parse(&old[at..], at as u64, &old_header).is_ok() {
            assert!(BatchHead::parse(&old[at..], at as u64, &header).is_err());
        }
    }
    // And a whole batch of this segment in another place does not, though salt and all its sums are right.
    let first = BLOCK as usize;
    let Err(damage) = Batch::parse(&new[first..], 2 * first as u64, &header) else { panic!("moved and accepted") };
    assert!(matches!(damage.fault, Fault::Field { name: "at", .. }));
}

/// A block that holds acknowledged bytes is never written again: each batch ends with its block.
#[test]
fn d_14_no_block_is_written_twice() {
    let (mut log, mut disk) = log(config(3, SyncBy::Write));
    let mut written = std::collections::BTreeMap::new();
    for round in 0..200u64 {
        let seq = loop {
            match log.append(&vec![round as u8; (round * 37 % 700) as usize]) {
                Ok(seq) => break seq,
                Err(refusal) => assert_eq!(refusal, AppendError::Full),
            }
            disk.settle(&mut log);
        };
        if round % 3 == 0 {
            log.demand(seq);
        }
        disk.settle(&mut log);
    }
    for op in &disk.handed {
        if let Op::Write { segment, offset, len, from, .. } = *op {
            let block = u64::from(BLOCK);
            assert!(offset.is_multiple_of(block) && len.is_multiple_of(BLOCK) && from.is_multiple_of(BLOCK as usize));
            assert!(
                offset >= block && offset + u64::from(len) <= 15 * block,
                "inside, the last block kept for the close"
            );
            for at in (offset..offset + u64::from(len)).step_by(BLOCK as usize) {
                assert_eq!(written.insert((segment, at), ()), None, "segment {segment} offset {at} was written twice");
            }
        }
    }
    assert!(written.len() > 100);
    // Garbling what follows a batch's last block harms nothing before it.
    let found = disk.read();
    let (id, file) = disk.files.iter_mut().next_back().unwrap();
    if found.end.segment == *id {
        file.media[found.end.offset as usize..].fill(0xa5);
    }
    assert_eq!(disk.read().frames, found.frames);
}

/// One sync covers what was written before it was handed out, and nothing that was written while it ran.
#[test]
fn d_20_a_sync_covers_only_what_was_written_before_it_was_handed_out() {
    let (mut log, mut disk) = log(config(4, SyncBy::Op));
    let first = put(&mut log, b"first");
    disk.take(&mut log);
    disk.finish(&mut log, 0, Outcome::Done(BLOCK));
    disk.take(&mut log);
    assert!(matches!(disk.under_way[..], [ref one] if matches!(one.op, Op::Sync { .. })));
    let second = put(&mut log, b"second");
    disk.take(&mut log);
    disk.finish(&mut log, 1, Outcome::Done(BLOCK));
    assert_eq!((log.written(), log.durable()), (second, 0));
    assert_eq!(disk.take(&mut log), 0, "one sync at a time");
    disk.finish(&mut log, 0, Outcome::Done(0));
    assert_eq!(log.durable(), first, "the second was written while the sync ran");
    assert_eq!(disk.read().data().len(), 1);
    disk.settle(&mut log);
    assert_eq!((log.durable(), disk.read().data().len()), (second, 2));
}

/// A sync that was put off covers no more when it is tried again than when it was first handed out.
#[test]
fn d_20_a_sync_that_is_tried_again_covers_what_it_covered() {
    let (mut log, mut disk) = log(config(4, SyncBy::Op));
    let first = put(&mut log, b"first");
    disk.take(&mut log);
    disk.finish(&mut log, 0, Outcome::Done(BLOCK));
    disk.take(&mut log);
    put(&mut log, b"second");
    disk.take(&mut log);
    disk.finish(&mut log, 0, Outcome::Again);
    disk.finish(&mut log, 0, Outcome::Done(BLOCK));
    disk.take(&mut log);
    disk.finish(&mut log, 0, Outcome::Done(0));
    assert_eq!(log.durable(), first);
}

/// A preparation that fails loses nothing: what was gathered is written once it succeeds, and nothing more is gathered
/// meanwhile.
#[test]
fn a_failed_preparation_stalls_and_loses_nothing() {
    let (mut log, mut disk) = log(config(2, SyncBy::Write));
    let mut appended = 0;
    while !log.rolls(400) {
        match log.append(&[1; 400]) {
            Ok(_) => appended += 1,
            Err(refusal) => {
                assert_eq!(refusal, AppendError::Full);
                disk.settle(&mut log);
            }
        }
    }
    disk.settle(&mut log);
    let end = log.position();
    log.append(&[2; 400]).unwrap();
    appended += 1;
    log.demand_all();
    disk.take(&mut log);
    let prepare = disk.under_way.iter().position(|one| matches!(one.op, Op::Prepare { .. })).unwrap();
    let Op::Prepare { header, .. } = disk.under_way[prepare].op else { unreachable!() };
    assert_eq!((header.segment_id, header.predecessor_id), (2, 1));
    assert!(header.predecessor_end >= end.offset);
    disk.finish(&mut log, prepare, Outcome::Failed(28));
    disk.settle(&mut log);
    assert_eq!((log.stalled(), log.is_poisoned()), (Some(28), false));
    let full = AppendError::Stalled { errno: 28 };
    assert_eq!(log.append(b"x"), Err(full));
    assert_eq!(log.append_control(Kind::Vote, b"x"), Err(full));
    assert_eq!(full.to_string(), "log stalled: the next segment could not be prepared (errno 28)");
    assert_eq!(log.next_op(), None);
    log.retry();
    assert_eq!(log.stalled(), None);
    disk.settle(&mut log);
    assert_eq!(log.durable(), appended);
    let found = disk.read();
    assert_eq!(found.data().len() as u64, appended);
    assert!(log.append(b"x").is_ok());
}

/// The first write to a new segment waits for its file; `predecessor_end` is exact; nothing is claimed that is not so.
#[test]
fn a_roll_overtakes_writes_in_flight_and_claims_nothing() {
    let (mut log, mut disk) = log(config(8, SyncBy::Write));
    while log.header().segment_id == 1 {
        log.append(&[3; 700]).unwrap();
        disk.take(&mut log);
    }
    log.demand_all();
    disk.take(&mut log);
    assert!(disk.under_way.len() > 2 && log.durable() == 0);
    for one in &disk.under_way {
        match one.op {
            Op::Prepare { header, .. } => {
                assert_eq!(header.durable, log.durable_position());
                assert_eq!(header.first_seq, log.next_seq() - 1);
            }
            _ => assert_eq!(one.op.segment(), 1, "its segment is not prepared"),
        }
    }
    // The preparation is done first, then the newest write: a reader of the medium sees a hole, and no claim beyond it.
    let prepare = disk.under_way.iter().position(|one| matches!(one.op, Op::Prepare { .. })).unwrap();
    disk.finish(&mut log, prepare, Outcome::Done(0));
    disk.take(&mut log);
    let last = disk.under_way.len() - 1;
    assert_eq!(disk.under_way[last].op.segment(), 2);
    let op = disk.under_way[last].op;
    disk.finish(&mut log, last, all(&op));
    assert_eq!(log.durable(), 0);
    let found = disk.read();
    assert!(found.fault.is_some() && found.claimed <= found.end);
    disk.settle(&mut log);
    assert_eq!(log.durable() + 1, log.next_seq());
    assert_eq!(disk.read().data().len() as u64, log.durable());
}

/// Recycling waits for the durable repetition of what stands (rule D-9).
#[test]
fn d_9_recycle_waits_for_the_opening_batch() {
    let (mut log, mut disk) = log(config(4, SyncBy::Write));
    log.append_control(Kind::Vote, b"for seven").unwrap();
    while log.header().segment_id == 1 {
        while log.append(&[3; 700]) == Err(AppendError::Full) {
            disk.settle(&mut log);
        }
    }
    assert_eq!(log.retire(1, 1), Err(RetireError::NotDurable));
    // All but the first write to the new segment.
    log.demand_all();
    loop {
        disk.take(&mut log);
        let Some(index) =
            disk.under_way.iter().position(|one| one.op.segment() == 1 || matches!(one.op, Op::Prepare { .. }))
        else {
            break;
        };
        let op = disk.under_way[index].op;
        disk.finish(&mut log, index, all(&op));
    }
    assert_eq!(log.durable_position().segment, 1);
    assert_eq!(log.retire(1, 1), Err(RetireError::NotDurable));
    disk.settle(&mut log);
    assert_eq!(log.retire(2, 1), Err(RetireError::NotDurable), "never the current one");
    assert_eq!(log.retire(1, 1), Ok(()));
    assert_eq!(log.retire(1, 1), Err(RetireError::Busy));
    // A failure is the caller's to try again.
    disk.take(&mut log);
    disk.finish(&mut log, 0, Outcome::Failed(13));
    assert_eq!((log.recycle_trouble(), log.is_poisoned()), (Some(13), false));
    assert_eq!(log.retire(1, 1), Ok(()));
    assert_eq!(log.recycle_trouble(), None);
    disk.settle(&mut log);
    assert_eq!(disk.files.len(), 1);
    assert_eq!(disk.read().vote.as_deref(), Some(&b"for seven"[..]));
}

/// The segment before the current one is durable, and says what stands, but it is not the one that will be kept.
#[test]
fn d_9_an_older_segment_waits_for_the_opening_batch_too() {
    let (mut log, mut disk) = log(config(1, SyncBy::Write));
    while log.header().segment_id < 3 {
        while log.append(&[3; 700]) == Err(AppendError::Full) {
            disk.settle(&mut log);
        }
    }
    assert_eq!(log.durable_position().segment, 2);
    assert_eq!(log.retire(1, 1), Err(RetireError::NotCarried));
    log.demand_all();
    disk.settle(&mut log);
    assert_eq!(log.retire(1, 1), Ok(()));
}

/// A truncation is repeated as long as it voids anything that exists.
#[test]
fn truncations_are_merged_repeated_and_forgotten() {
    let (mut log, mut disk) = log(config(2, SyncBy::Write));
    for _ in 0..10 {
        log.append(b"x").unwrap();
    }
    let truncate = |log: &mut Log, after: u64| log.append_control(Kind::Truncate, &after.to_le_bytes()).map(|_| ());
    truncate(&mut log, 8).unwrap();
    log.append(b"x").unwrap();
    log.append(b"x").unwrap();
    truncate(&mut log, 11).unwrap();
    assert_eq!(truncate(&mut log, 13), Err(AppendError::Control), "it voids nothing that exists");
    assert_eq!(log.append_control(Kind::Truncate, &[1; 7]), Err(AppendError::Control));
    for kind in [Kind::Data, Kind::Batch, Kind::Pad] {
        assert_eq!(log.append_control(kind, b""), Err(AppendError::Control));
    }
    let roll = |log: &mut Log, disk: &mut Disk| {
        let segment = log.header().segment_id;
        while log.header().segment_id == segment {
            while log.append(&[3; 700]) == Err(AppendError::Full) {
                disk.settle(log);
            }
        }
        log.demand_all();
        disk.settle(log);
    };
    roll(&mut log, &mut disk);
    let only = |disk: &Disk, id: u64| read(&[(id, &disk.files[&id].media)]).truncations;
    let both = [Truncation { after: 8, at: 11 }, Truncation { after: 11, at: 13 }];
    assert_eq!(only(&disk, 2), both);
    log.retire(1, 11).unwrap();
    disk.settle(&mut log);
    roll(&mut log, &mut disk);
    assert_eq!(only(&disk, 3), both[1..], "frames 9 and 10 are gone");
    truncate(&mut log, 5).unwrap();
    let at = log.next_seq();
    roll(&mut log, &mut disk);
    assert_eq!(only(&disk, 4), [Truncation { after: 5, at }], "one swallows the other");
}

/// A log that was closed says so, and one that goes on behind it says that it does.
#[test]
fn a_closed_log_goes_on_at_the_next_block() {
    for sync in [SyncBy::Write, SyncBy::Op, SyncBy::Request] {
        let config = config(3, sync);
        let (mut log, mut disk) = log(config);
        put(&mut log, b"one");
        log.append_control(Kind::Vote, b"v").unwrap();
        log.append_control(Kind::Meta, b"applied 1").unwrap();
        log.append(b"two").unwrap();
        log.close();
        assert_eq!(log.append(b"late"), Err(AppendError::Closed));
        // The closed batch is handed out only when all before it is durable.
        disk.take(&mut log);
        assert!(disk.read().next_seq < 3 && !log.is_closed());
        disk.settle(&mut log);
        assert!(log.is_closed());
        let found = disk.read();
        assert!(found.closed && found.next_seq == 3);
        assert_eq!(found.end, log.durable_position());

        let region = Arc::new(HeapRegion::new(layout(&config).unwrap().size()));
        let header = Header::parse(&disk.files[&1].media).unwrap();
        let carry = Carry { vote: found.vote.as_deref(), meta: found.meta.as_deref(), truncations: &found.truncations };
        let resume = |at, next_seq| Machine::resume(Arc::clone(&region), config, &header, at, next_seq, 5, carry);
        assert!(matches!(resume(Position { segment: 2, ..found.end }, 3), Err(ConfigError::Start { .. })));
        assert!(matches!(resume(Position { offset: 5, ..found.end }, 3), Err(ConfigError::Start { .. })));
        let last = Position { offset: config.segment_len - u64::from(BLOCK), ..found.end };
        assert_eq!(resume(last, 3).err(), Some(ConfigError::NoRoom { left: BLOCK.into() }));
        let mut again = resume(found.end, 3).unwrap();
        assert_eq!(again.durable(), 2);
        let mut files = Disk::new(&region);
        files.files = std::mem::take(&mut disk.files);
        let Some(Op::Write { op, offset, len, from, .. }) = again.next_op() else { panic!("a write comes first") };
        assert_eq!((offset, len), (found.end.offset, BLOCK));
        let mut bytes = vec![0; len as usize];
        chronicle_core::Region::window(&*region).copy_out(from, &mut bytes);
        for image in [0, 1] {
            let file = files.files.get_mut(&1).unwrap();
            let to = if image == 0 { &mut file.cache } else { &mut file.media };
            to[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        again.complete(op, Outcome::Done(len));
        let opened = files.read();
        assert!(!opened.closed && opened.next_seq == 3, "a crash from here on is seen");
        let seq = put(&mut again, b"three");
        files.settle(&mut again);
        assert_eq!((seq, again.durable()), (3, 3));
        assert_eq!(files.read().data().last(), Some(&(3, b"three".to_vec())));
        // What stood before the close stands after the next roll.
        while again.header().segment_id == 1 {
            while again.append(&[3; 700]) == Err(AppendError::Full) {
                files.settle(&mut again);
            }
        }
        again.demand_all();
        files.settle(&mut again);
        let head = read(&[(2, &files.files[&2].media)]);
        assert_eq!((head.vote.as_deref(), head.meta.as_deref()), (Some(&b"v"[..]), Some(&b"applied 1"[..])));
    }
}

/// A takeover appends what is past the proved position once more: same numbers, before anybody sees the file.
#[test]
fn a_takeover_keeps_numbers_and_claims_its_own_frames() {
    let config = config(2, SyncBy::Write);
    let region = Arc::new(HeapRegion::new(layout(&config).unwrap().size()));
    let durable = Position { segment: 4, offset: 2048 };
    let truncations = [Truncation { after: 7, at: 9 }];
    let start = Start {
        wal_id: [3; 16],
        segment_id: 9,
        predecessor: durable,
        first_seq: 42,
        epoch: 6,
        salt_seed: 5,
        durable,
        durable_seq: 41,
        carry: Carry { vote: Some(b"v"), meta: None, truncations: &truncations },
    };
    let mut log = Machine::begin(Arc::clone(&region), config, &start).unwrap();
    assert_eq!(log.append(b"forty-two"), Ok(42));
    log.append_control(Kind::Vote, b"w").unwrap();
    assert_eq!(log.append(b"forty-three"), Ok(43));
    let ticket = log.flush();
    let mut disk = Disk::new(&region);
    disk.prepare(&log.header());
    assert!(!log.is_durable(ticket));
    disk.settle(&mut log);
    assert!(log.is_durable(ticket));
    let header = log.header();
    assert_eq!((header.durable.segment, header.durable_seq, header.epoch), (9, 43, 6));
    assert_eq!(header.predecessor(), durable);
    let file = disk.files.get_mut(&9).unwrap();
    file.media[..128].copy_from_slice(&header.to_bytes());
    let found = disk.read();
    assert_eq!(found.data(), [(42, b"forty-two".to_vec()), (43, b"forty-three".to_vec())]);
    assert_eq!((found.vote.as_deref(), found.end), (Some(&b"w"[..]), header.durable));
    assert_eq!(found.truncations, truncations);
}

/// What makes no sense is refused by name.
#[test]
fn a_start_or_measures_that_make_no_sense_are_refused() {
    let good = config(2, SyncBy::Write);
    for (config, expected) in [
        (Config { block_size: 600, ..good }, ConfigError::BlockSize { asked: 600 }),
        (Config { block_size: 128 << 10, ..good }, ConfigError::BlockSize { asked: 128 << 10 }),
        (Config { batch_len: 600, ..good }, ConfigError::BatchLen { asked: 600 }),
        (Config { batch_len: 0, ..good }, ConfigError::BatchLen { asked: 0 }),
        (Config { segment_len: 8 * 512, ..good }, ConfigError::SegmentLen { asked: 8 * 512 }),
        (Config { depth: 0, ..good }, ConfigError::Depth { asked: 0 }),
        (Config { depth: 9, ..good }, ConfigError::Depth { asked: 9 }),
        (Config { carry_len: 2048, ..good }, ConfigError::CarryLen { asked: 2048, max: 4 * 512 - 74 }),
    ] {
        assert_eq!(config.check(), Err(expected));
        assert_eq!(layout(&config), None);
    }
    let begin = |len: usize, start: Start<'_>| Machine::begin(HeapRegion::new(len), good, &start).err();
    let needed = layout(&good).unwrap().size();
    let start = Start { segment_id: 2, first_seq: 1, ..Start::default() };
    assert_eq!(begin(needed, start), None);
    assert_eq!(begin(needed - 4, start), Some(ConfigError::Region { needed, found: needed - 4 }));
    let vote = [0; 300];
    let carry = Carry { vote: Some(&vote), ..Carry::default() };
    assert_eq!(begin(needed, Start { carry, ..start }), Some(ConfigError::Carry { needed: 308, found: 256 }));
    let truncations = [Truncation { after: 0, at: 2 }];
    let named = |start| match begin(needed, start) {
        Some(ConfigError::Start { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(named(Start { segment_id: 0, ..start }), "segment_id");
    assert_eq!(named(Start { first_seq: 0, ..start }), "first_seq");
    assert_eq!(named(Start { first_seq: u64::MAX, ..start }), "first_seq");
    assert_eq!(named(Start { durable_seq: 1, ..start }), "durable_seq");
    assert_eq!(named(Start { durable: Position { segment: 3, offset: 0 }, ..start }), "durable");
    assert_eq!(named(Start { predecessor: Position { segment: 2, offset: 512 }, ..start }), "predecessor");
    assert_eq!(named(Start { predecessor: Position { segment: 1, offset: 0 }, ..start }), "predecessor");
    assert_eq!(named(Start { carry: Carry { truncations: &truncations, ..Carry::default() }, ..start }), "truncation");
}

/// Numbers end before they wrap.
#[test]
fn the_last_number_is_never_given() {
    let config = config(2, SyncBy::Write);
    let end = chronicle_core::wal::layout::SEQ_END;
    let start = Start { segment_id: 1, first_seq: end - 1, durable_seq: end - 2, ..Start::default() };
    let mut log = Machine::begin(HeapRegion::new(layout(&config).unwrap().size()), config, &start).unwrap();
    let mut last = 0;
    loop {
        match log.append(b"") {
            Ok(seq) => last = seq,
            Err(refusal) => {
                assert_eq!(refusal, AppendError::SeqEnd);
                break;
            }
        }
    }
    assert!(last < end);
}

#[test]
fn a_payload_as_large_as_a_batch_takes_and_one_larger() {
    let (mut log, mut disk) = log(config(1, SyncBy::Write));
    let max = log.config().max_payload() as usize;
    assert_eq!(log.append(&vec![1; max + 1]), Err(AppendError::TooLarge { len: max + 1, max }));
    assert_eq!(log.append_control(Kind::Meta, &vec![1; max]), Err(AppendError::TooLarge { len: max, max }));
    let large = AppendError::CarryFull { needed: 264, room: 256 };
    assert_eq!(log.append_control(Kind::Vote, &[1; 253]), Err(large));
    assert!(log.append_control(Kind::Vote, &[1; 248]).is_ok());
    let seq = loop {
        match log.append(&vec![1; max]) {
            Ok(seq) => break seq,
            Err(refusal) => assert_eq!(refusal, AppendError::Full),
        }
        disk.settle(&mut log);
    };
    log.demand(seq);
    disk.settle(&mut log);
    assert_eq!(disk.read().data(), [(1, vec![1; max])]);
}

#[test]
#[should_panic(expected = "bug: operation 99 was completed and is not under way")]
fn completing_what_is_not_under_way_is_a_bug() {
    let (mut log, _) = log(config(1, SyncBy::Write));
    log.complete(chronicle_core::wal::OpId::from_number(99), Outcome::Done(0));
}

#[test]
fn entries_end_at_the_first_damage() {
    let good =
        [6, 0, 0, 0, 2, 0, 0, 0, 1, 2, 0, 0, 4, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(entries(&good, 0).count(), 2);
    assert!(entries(&good, 0).all(|entry| entry.is_ok()));
    for (at, byte) in [(0, 1), (1, 1), (4, 9), (10, 1), (16, 15), (20, 2)] {
        let mut bad = good;
        bad[at] = byte;
        let last = entries(&bad, 100).last().unwrap();
        let damage = last.expect_err("damage");
        assert!((100..136).contains(&damage.offset), "{damage}");
    }
    assert!(entries(&good[..7], 0).next().unwrap().is_err());
}
