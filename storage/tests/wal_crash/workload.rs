//! What is done to a log, from a seed: its options, what goes wrong, and the steps.

use chronicle_platform::{WalWay, sim::Faults};
use chronicle_storage::wal::{Options, SyncPolicy, Threads};

/// Numbers from a seed: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// One thing that is done to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record of so many bytes, or as many as fit.
    Append(usize),
    /// Records that follow one another.
    Batch(Vec<usize>),
    /// Votes and meta values of so many bytes.
    Vote(usize),
    Meta(usize),
    /// Voids so many of the newest records.
    Truncate(u64),
    /// Commits the newest record but so many.
    Commit(u64),
    CommitAll,
    Drive,
    Maintain,
    /// The newest records but so many are needed, none before them.
    TruncateBefore(u64),
    /// Closes and opens again.
    Close,
    /// Drops and opens again.
    Drop,
    /// The process is killed, and another one opens the log at once, while writes of the dead one still land.
    Kill,
    /// Another handle reads all there is.
    Read,
    /// The disk has no room any more, or has it again.
    Full(bool),
}

/// What is done to one log.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    pub(crate) steps: Vec<Step>,
    /// Whether the kernel writes back, after each opening, what nobody waits for.
    pub(crate) settles: bool,
}

/// Smallest segments, so that everything happens within a few steps.
pub(crate) fn smallest() -> Options {
    Options {
        block_size: 512,
        batch_len: 1024,
        segment_len: 6 * 512,
        depth: 2,
        carry_len: 256,
        way: WalWay::Uring,
        spares: 1,
        threads: Threads::Callers,
        ..Options::default()
    }
}

/// What may be done in sequences that are gone through exhaustively.
pub(crate) fn alphabet() -> Vec<Step> {
    let full = smallest().batch_len as usize;
    vec![
        Step::Append(20),
        Step::Append(full),
        Step::Commit(0),
        Step::Vote(9),
        Step::Batch(vec![full, full, 30]),
        Step::TruncateBefore(0),
        Step::Close,
    ]
}

impl Workload {
    /// A sequence of the alphabet's steps.
    pub(crate) fn of_sequence(number: u64, steps: Vec<Step>) -> Workload {
        Workload { seed: number, options: smallest(), faults: Faults::default(), steps, settles: true }
    }

    /// A log of nothing but votes, each in a batch of its own, that uses its segments again and again.
    pub(crate) fn of_votes(seed: u64) -> Workload {
        let mut random = Random(seed);
        let round = |_| [Step::Vote(random.below(300) as usize), Step::CommitAll, Step::TruncateBefore(0)];
        let steps = (0..16).flat_map(round).collect();
        Workload { seed, options: smallest(), faults: Faults::default(), steps, settles: true }
    }

    /// As chance has it.
    pub(crate) fn of_seed(seed: u64) -> Workload {
        let mut random = Random(seed);
        let options = options(&mut random);
        let faults = faults(&mut random, seed);
        let count = 4 + random.below(20);
        // One in eight speaks of nothing but votes: numbers that do not move tell old frames from new ones nowhere.
        let votes_only = random.one_in(8);
        let mut steps = Vec::new();
        for _ in 0..count {
            steps.push(if votes_only { vote_step(&mut random) } else { step(&mut random, &options) });
            if faults.failing_operation == Some(u64::MAX) && random.one_in(6) {
                steps.push(Step::Full(true));
            }
        }
        // Stands for disks that fill up: no operation of its own.
        let faults = Faults { failing_operation: None, ..faults };
        Workload { seed, options, faults, steps, settles: seed % 2 == 1 }
    }

    /// Whether something else than crashes goes wrong, so that a write or a sync may fail.
    pub(crate) fn may_fail(&self) -> bool {
        let Faults { failing_sync, failing_write, .. } = &self.faults;
        failing_sync.is_some() || failing_write.is_some() || self.may_be_full()
    }

    pub(crate) fn may_be_full(&self) -> bool {
        self.steps.contains(&Step::Full(true))
    }
}

fn options(random: &mut Random) -> Options {
    let block_size = random.pick(&[512, 512, 512, 1024, 4096]);
    let blocks = 2 + random.below(3) as u32;
    let batch_len = blocks * block_size;
    let segment_len = u64::from(2 * block_size) + (2 + random.below(3)) * u64::from(batch_len);
    Options {
        block_size,
        batch_len,
        segment_len,
        depth: 1 + random.below(8).min(random.below(8)) as u8,
        carry_len: 256,
        way: random.pick(&[WalWay::Uring, WalWay::Uring, WalWay::Direct, WalWay::Buffered]),
        sync: random.pick(&[SyncPolicy::Auto, SyncPolicy::Auto, SyncPolicy::OnCommit, SyncPolicy::EachBatch]),
        spares: 1 + random.below(2) as u32,
        retain_bytes: random.one_in(6).then_some(3 * segment_len),
        threads: Threads::Callers,
        ..Options::default()
    }
}

fn faults(random: &mut Random, seed: u64) -> Faults {
    let mut faults = Faults { garbage: random.one_in(4), late_one_in: 1 + random.below(6), ..Faults::default() };
    faults.write_back_one_in = random.pick(&[0, 2, 8]);
    match seed % 8 {
        1 => faults.write_is_short_one_in = 3,
        2 => faults.interrupted_one_in = 3,
        3 => faults.failing_write = Some((1 + random.below(12), random.pick(&[5, 28]))),
        4 => faults.failing_sync = Some(1 + random.below(40)),
        // The disk is full now and then.
        5 => faults.failing_operation = Some(u64::MAX),
        _ => {}
    }
    faults
}

fn len(random: &mut Random, options: &Options) -> usize {
    let most = u64::from(options.batch_len);
    match random.below(8) {
        0 => 0,
        1..=3 => random.below(60) as usize,
        4..=5 => random.below(most / 2) as usize,
        6 => random.below(most) as usize,
        _ => most as usize,
    }
}

fn step(random: &mut Random, options: &Options) -> Step {
    match random.below(32) {
        0..=8 => Step::Append(len(random, options)),
        9..=12 => Step::Batch((0..1 + random.below(5)).map(|_| len(random, options)).collect()),
        13..=14 => Step::Vote(random.below(40) as usize),
        15 => Step::Meta(random.below(40) as usize),
        16 => Step::Truncate(random.below(6)),
        17..=20 => Step::Commit(random.below(3)),
        21..=22 => Step::CommitAll,
        23..=24 => Step::Drive,
        25 => Step::Maintain,
        26..=27 => Step::TruncateBefore(random.below(4)),
        28 => Step::Close,
        29 => random.pick(&[Step::Drop, Step::Kill]),
        30 => Step::Read,
        _ => Step::Full(false),
    }
}

fn vote_step(random: &mut Random) -> Step {
    match random.below(16) {
        0..=10 => Step::Vote(random.below(400) as usize % 120),
        11..=12 => Step::CommitAll,
        13 => Step::TruncateBefore(0),
        14 => Step::Drive,
        _ => random.pick(&[Step::Close, Step::Kill]),
    }
}
