//! The bugs that a machine makes on purpose are really made, each visible where a checker must see it. Negative twins of
//! the tests beside it; `cargo test -p chronicle-core --features planted`.
#![cfg(all(feature = "planted", not(loom)))]

mod wal_disk;

use chronicle_core::HeapRegion;
use chronicle_core::wal::{AppendError, Config, Header, Kind, Machine, Op, Planted, Start, SyncBy, layout};
use std::sync::Arc;
use wal_disk::{Disk, Log, read};

fn log(planted: Planted) -> (Log, Disk) {
    let config = Config {
        block_size: 512,
        batch_len: 1024,
        segment_len: 16 * 512,
        depth: 2,
        sync: SyncBy::Write,
        carry_len: 256,
        planted,
    };
    let region = Arc::new(HeapRegion::new(layout(&config).unwrap().size()));
    let start = Start { segment_id: 1, first_seq: 1, salt_seed: 77, ..Start::default() };
    let log = Machine::begin(Arc::clone(&region), config, &start).unwrap();
    let mut disk = Disk::new(&region);
    disk.prepare(&log.header());
    (log, disk)
}

/// Fills segments until the one with this id is current.
fn fill(log: &mut Log, disk: &mut Disk, until: u64) {
    while log.header().segment_id < until {
        while log.append(&[7; 400]) == Err(AppendError::Full) {
            disk.settle(log);
        }
    }
    log.demand_all();
    disk.settle(log);
}

fn overruns(planted: Planted) -> bool {
    let (mut log, mut disk) = log(planted);
    fill(&mut log, &mut disk, 2);
    disk.handed.iter().any(|op| matches!(op, Op::Write { offset, len, .. } if offset + u64::from(*len) > 16 * 512))
}

#[test]
fn a_segment_is_overrun_by_one_block() {
    assert!(overruns(Planted { segment_end: true, ..Planted::NONE }));
    assert!(!overruns(Planted::NONE));
}

fn vote_at_the_head_of_2(planted: Planted) -> Option<Vec<u8>> {
    let (mut log, mut disk) = log(planted);
    log.append_control(Kind::Vote, b"for one").unwrap();
    log.append_control(Kind::Meta, b"applied").unwrap();
    fill(&mut log, &mut disk, 2);
    let found = read(&[(2, &disk.files[&2].media)]);
    assert_eq!(found.meta.as_deref(), Some(&b"applied"[..]), "only the vote is left out");
    found.vote
}

#[test]
fn a_vote_is_not_repeated_at_a_roll() {
    assert_eq!(vote_at_the_head_of_2(Planted { vote_not_repeated: true, ..Planted::NONE }), None);
    assert_eq!(vote_at_the_head_of_2(Planted::NONE).as_deref(), Some(&b"for one"[..]));
}

fn old_batches_pass(planted: Planted) -> bool {
    let (mut log, mut disk) = log(planted);
    fill(&mut log, &mut disk, 2);
    let (old, new) = (&disk.files[&1].media, Header::parse(&disk.files[&2].media).unwrap());
    chronicle_core::wal::BatchHead::parse(&old[1536..], 1536, &new).is_ok()
}

#[test]
fn salts_are_ignored() {
    assert!(old_batches_pass(Planted { ignore_salt: true, ..Planted::NONE }));
    assert!(!old_batches_pass(Planted::NONE));
}
