//! A vote that outlives the frames before it, or frames that outlive the vote they were accepted under, lose what a cluster
//! has committed: votes, truncations and records are one stream, durable in one order (rule D-24).

use chronicle_core::wal::Kind;
use chronicle_platform::sim::Sim;
use chronicle_storage::wal::{Options, ReaderOptions, Threads, Wal, WalReader};

/// What a follower writes: records, a vote between them, a truncation, records of the new leader.
const STREAM: [(Kind, &[u8]); 9] = [
    (Kind::Data, b"first, of term 1"),
    (Kind::Vote, b"term 1"),
    (Kind::Data, b"second, of term 1"),
    (Kind::Data, b"third, of term 1, which no majority has"),
    (Kind::Vote, b"term 2"),
    (Kind::Truncate, &2_u64.to_le_bytes()),
    (Kind::Data, b"third, of term 2"),
    (Kind::Vote, b"term 3"),
    (Kind::Data, b"fourth, of term 3"),
];

fn options() -> Options {
    Options {
        segment_len: 16 << 10,
        batch_len: 4 << 10,
        block_size: 512,
        depth: 3,
        carry_len: 256,
        way: chronicle_platform::WalWay::Uring,
        threads: Threads::Callers,
        ..Options::default()
    }
}

/// Writes the stream and commits behind every third frame; how many frames were acknowledged when the power went.
fn write(sim: &Sim) -> usize {
    let mut acknowledged = 0;
    let Ok((wal, _)) = Wal::open(sim, "/wal", &options()) else { return acknowledged };
    for (n, (kind, payload)) in STREAM.iter().enumerate() {
        let appended = match kind {
            // Asked for and not waited for, so that batches are in flight together.
            Kind::Data => wal.append(payload).is_ok_and(|seq| wal.on_commit(seq, |_| ()).is_ok()),
            kind => wal.append_control(*kind, payload).is_ok(),
        };
        if !appended {
            return acknowledged;
        }
        if n % 3 == 2 {
            if wal.commit_all().is_err() {
                return acknowledged;
            }
            acknowledged = n + 1;
        } else {
            wal.drive();
        }
    }
    acknowledged
}

/// The frames in the order in which a reader finds them.
fn read(sim: &Sim) -> Vec<(Kind, Vec<u8>)> {
    let (wal, _) = Wal::open(sim, "/wal", &options()).expect("a crash is no damage");
    let controls = ReaderOptions { controls: true, ..ReaderOptions::default() };
    let mut reader = WalReader::open(sim, "/wal", 0, controls).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        found.push((record.kind, record.payload.to_vec()));
    }
    drop(wal);
    found
}

#[test]
fn d_24_votes_truncations_and_records_are_one_stream_and_survive_in_its_order() {
    let whole = {
        let sim = Sim::new(0);
        assert_eq!(write(&sim), STREAM.len());
        sim.operations()
    };
    let mut lengths = [0_u32; STREAM.len() + 1];
    for seed in 0..4 {
        for at in 1..=whole + 1 {
            let sim = Sim::new(seed);
            sim.crash_at(at);
            let acknowledged = write(&sim);
            for survivor in sim.survivors(8).take(8) {
                let found = read(&survivor);
                let expected = STREAM.iter().map(|(kind, payload)| (*kind, payload.to_vec()));
                let prefix: Vec<_> = expected.take(found.len()).collect();
                assert_eq!(found, prefix, "seed {seed}, operation {at}: no prefix of what was written");
                assert!(found.len() >= acknowledged, "seed {seed}, operation {at}: {acknowledged} were acknowledged");
                lengths[found.len()] += 1;
            }
        }
    }
    // Cuts fall between the acknowledgements, too.
    assert!(lengths.iter().filter(|count| **count > 0).count() > 4, "{lengths:?}");
}
