//! How many threads share the work out must not be visible: not in a byte of a partition, not in the checkpoint, and not
//! in what a kill leaves.
//!
//! Symbols know nothing of each other, so any way of dealing them out is right; what could break it is what they share:
//! the numbering of symbols, the sources, the codes that two of them would have, the barrier at a checkpoint.

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use std::path::{Path, PathBuf};

use chronicle_etl::refine::{Options, Refiner, refine};
use chronicle_etl::refinery::LatePolicy;
use chronicle_etl::report::Report;
use chronicle_platform::sim::{Faults, Sim};
use chronicle_platform::{File, Open, Platform};
use chronicle_storage::root::{Root, Tier};
use support::Raw;
use support_root::{append, difference, name, tree};
use support_synthetic::{HOUR, day, delta, feed_gap, quote, snapshot, source, stormy};

const VENUE: &str = "binance-spot";

fn root() -> Root {
    Root::new("/root")
}

/// Several stormy symbols, some of them interleaved, and two texts that would have one code.
fn frames() -> Vec<Raw> {
    let noon = day(0) + 12 * HOUR;
    let mut frames = vec![source("first.gz", 1, noon)];
    for (i, symbol) in ["LOW", "low", "HIGH", "B", "C"].into_iter().enumerate() {
        frames.push(snapshot(symbol, 0, noon + i as u64));
    }
    for i in 1..200_u64 {
        let now = noon + i * 1_000_000_000;
        frames.push(delta("LOW", i, i, now, now));
        frames.push(delta("HIGH", i, i, now, now));
        // No two symbols have one code: these go where records without a symbol go.
        frames.push(quote("low", i, now));
        if i % 40 == 0 {
            frames.push(source(&format!("{i}.gz"), i as u8, now));
            frames.push(feed_gap("B", now));
        }
        frames.push(delta(["B", "C"][i as usize % 2], i, i, now, now));
    }
    for symbol in ["BTCUSDT", "ETHUSDT", "SOLUSDT"] {
        frames.extend(stormy(symbol, &format!("{symbol}.gz")));
    }
    frames
}

fn machine(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.set_now_ns(day(2));
    append(&sim, &root(), VENUE, &frames(), 64 << 10);
    sim
}

fn options(shards: usize, checkpoint_frames: u64) -> Options {
    Options { shards, checkpoint_frames, late_policy: Some(LatePolicy::LateStream), ..Options::default() }
}

fn take_in(sim: &Sim, shards: usize, checkpoint_frames: u64) -> chronicle_etl::Result<Report> {
    refine(sim, &root(), None, &options(shards, checkpoint_frames), |_| {})
}

type Tree = std::collections::BTreeMap<PathBuf, Vec<u8>>;

fn warm(sim: &Sim) -> Tree {
    tree(sim, &root().partitions(Tier::Warm))
}

fn checkpoint(sim: &Sim) -> Vec<u8> {
    let file = sim.open(Path::new("/root/state/refine/binance-spot.checkpoint"), Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn any_number_of_shards_gives_the_same_bytes_and_the_same_checkpoint() {
    let base = machine(1);
    let one = base.crash();
    let report = take_in(&one, 1, 1 << 20).unwrap();
    let expected = warm(&one);
    assert!(expected.len() > 30, "{:?}", expected.keys());
    assert!(report.partitions.iter().any(|row| row.symbol.as_str() == "_"));
    for (shards, checkpoint_frames) in [(2, 1 << 20), (3, 100), (7, 1), (64, 1 << 20), (1, 50)] {
        let sim = base.crash();
        let story = format!("{shards} shards, a checkpoint every {checkpoint_frames} frames");
        assert_eq!(take_in(&sim, shards, checkpoint_frames).unwrap(), report, "{story}");
        assert_eq!(difference(&expected, &warm(&sim)), None, "{story}");
        assert!(checkpoint(&one) == checkpoint(&sim), "{story}: another checkpoint");
    }
}

/// Every life has another number of shards, and ends where the dice say.
#[test]
fn lives_of_any_number_of_shards_give_the_same_bytes() {
    let base = machine(2);
    let calm = base.crash();
    let start = calm.operations();
    let report = take_in(&calm, 1, 60).unwrap();
    let expected = warm(&calm);
    let operations = calm.operations() - start;
    let mut seed = 0x5eed_u64;
    let mut dice = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut killed = 0;
    for round in 0..24 {
        let mut sim = base.crash();
        let mut story = format!("round {round}:");
        for _ in 0..1 + dice(4) {
            let (shards, at) = (1 + dice(5) as usize, 1 + dice(operations / 2));
            story += &format!(" {shards} shards until operation {at};");
            if dice(2) == 0 {
                let victim = sim.start_process();
                victim.kill_at(sim.operations() + at);
                killed += u64::from(take_in(&victim, shards, 60).is_err());
            } else {
                sim.crash_at(sim.operations() + at);
                killed += u64::from(take_in(&sim, shards, 60).is_err());
                sim = sim.crash();
            }
        }
        let shards = 1 + dice(5) as usize;
        assert_eq!(take_in(&sim, shards, 60).unwrap_or_else(|e| panic!("{story} {e}")), report, "{story}");
        assert_eq!(difference(&expected, &warm(&sim)), None, "{story}");
    }
    assert!(killed > 30, "only {killed} lives were cut short");
}

/// The thread that reads learns that another one cannot go on, and says why; the work is done again later.
#[test]
fn a_full_disk_in_any_shard_is_said() {
    let base = machine(3);
    let calm = base.crash();
    take_in(&calm, 1, 60).unwrap();
    let expected = warm(&calm);
    let mut refused = 0;
    for room in [0_u64, 16 << 10, 64 << 10, 128 << 10, 200 << 10] {
        let sim = base.crash();
        let free = sim.free_bytes(Path::new("/")).unwrap();
        sim.faults(Faults { disk_bytes: u64::MAX - free + room, ..Faults::default() });
        if let Err(error) = take_in(&sim, 4, 60) {
            assert_eq!(error.kind(), chronicle_storage::ErrorKind::Trouble, "{error}");
            refused += 1;
        }
        sim.faults(Faults::default());
        take_in(&sim, 4, 60).unwrap();
        assert_eq!(difference(&expected, &warm(&sim)), None, "{room} bytes of room");
    }
    assert!(refused > 0, "the disk was never full");
}

/// Runs of one refiner, as it stays and takes in what comes: symbols that are met later find a shard too.
#[test]
fn a_refiner_that_stays_has_the_same_bytes() {
    let frames = frames();
    let whole = machine(4);
    take_in(&whole, 1, 1 << 20).unwrap();
    let sim = Sim::new(4);
    sim.set_now_ns(day(2));
    sim.create_dirs(Path::new("/root/hot")).unwrap();
    let mut refiner = Refiner::open(&sim, &root(), &name(VENUE), options(3, 1 << 20)).unwrap();
    for some in frames.chunks(frames.len() / 7) {
        append(&sim, &root(), VENUE, some, 64 << 10);
        refiner.run(|_| {}).unwrap();
    }
    let found = warm(&sim);
    assert_eq!(difference(&warm(&whole), &found), None);
}
