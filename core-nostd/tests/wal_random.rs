//! A WAL machine does what a plain list of frames does, whatever the order, the length and the outcome of its operations.
//!
//! What would be lost: an acknowledged frame that is not on the medium, a frame that nobody appended, an order that is not
//! the one of the appends, a vote that went with the segment that said it. After every step the medium must hold all that
//! is acknowledged.
#![cfg(not(loom))]

mod seeded;
mod wal_disk;

use chronicle_core::HeapRegion;
use chronicle_core::wal::{
    AppendError, Config, Kind, Machine, Op, Outcome, Position, RetireError, Start, SyncBy, Ticket, Truncation, layout,
};
use seeded::{Seeded, seeds};
use std::sync::Arc;
use wal_disk::{Disk, Found, Log, Owned, push};

/// Appends, operations and outcomes of one log from one seed.
struct Run {
    random: Seeded,
    log: Log,
    disk: Disk,
    /// All that was appended.
    frames: Vec<Owned>,
    tickets: Vec<(Ticket, usize)>,
    vote: Option<Vec<u8>>,
    meta: Option<Vec<u8>>,
    truncations: Vec<Truncation>,
    kept_from: u64,
    /// How many in a thousand operations fail.
    failures: usize,
}

impl Run {
    fn new(seed: u64, sync: SyncBy, failures: usize) -> Self {
        let mut random = Seeded::new(seed);
        let block_size = 512 << random.below(2);
        let batch_len = block_size * (1 + random.below(6) as u32);
        let config = Config {
            block_size,
            batch_len,
            segment_len: u64::from(2 * block_size + 2 * batch_len + block_size * random.below(20) as u32),
            depth: 1 + random.below(8) as u8,
            sync,
            carry_len: 256,
            #[cfg(feature = "planted")]
            planted: chronicle_core::wal::Planted::NONE,
        };
        let region = Arc::new(HeapRegion::new(layout(&config).unwrap().size()));
        let start = Start { segment_id: 1, first_seq: 1, salt_seed: random.next(), ..Start::default() };
        let log = Machine::begin(Arc::clone(&region), config, &start).unwrap();
        let mut disk = Disk::new(&region);
        disk.prepare(&log.header());
        Run {
            random,
            log,
            disk,
            frames: Vec::new(),
            tickets: Vec::new(),
            vote: None,
            meta: None,
            truncations: Vec::new(),
            kept_from: 0,
            failures,
        }
    }

    fn append(&mut self) {
        let max = self.log.config().max_payload() as usize;
        let len = match self.random.below(8) {
            0 => self.random.below(max + 1),
            1 => max,
            _ => self.random.below(150).min(max),
        };
        let payload = self.random.bytes(len);
        let seq = self.log.next_seq();
        let rolls = self.log.rolls(len);
        let before = self.log.header().segment_id;
        match self.log.append(&payload) {
            Ok(got) => {
                assert_eq!(got, seq);
                assert_eq!(self.log.header().segment_id != before, rolls, "a roll comes when it was said");
                self.frames.push(Owned { seq, kind: Kind::Data, payload });
            }
            Err(AppendError::Full) => {
                assert!(!self.log.is_idle() || self.disk.take(&mut self.log) > 0, "full for ever")
            }
            Err(AppendError::Stalled { .. }) => assert!(self.log.stalled().is_some()),
            Err(AppendError::Poisoned) => assert!(self.log.is_poisoned()),
            Err(other) => panic!("{other}"),
        }
    }

    fn control(&mut self) {
        let seq = self.log.next_seq();
        let (kind, payload) = match self.random.below(3) {
            0 => {
                let len = self.random.below(60);
                (Kind::Vote, self.random.bytes(len))
            }
            1 => {
                let len = self.random.below(60);
                (Kind::Meta, self.random.bytes(len))
            }
            _ => {
                let after = seq - 1 - self.random.below(seq.min(6) as usize) as u64;
                (Kind::Truncate, after.to_le_bytes().iter().copied().chain(self.random.bytes(3)).collect())
            }
        };
        match self.log.append_control(kind, &payload) {
            Ok(ticket) => {
                self.tickets.push((ticket, self.frames.len()));
                match kind {
                    Kind::Vote => self.vote = Some(payload.clone()),
                    Kind::Meta => self.meta = Some(payload.clone()),
                    _ => push(&mut self.truncations, Truncation::parse(&payload, seq).unwrap()),
                }
                let payload = if kind == Kind::Meta { entry(&payload) } else { payload };
                self.frames.push(Owned { seq, kind, payload });
            }
            Err(AppendError::Full | AppendError::Stalled { .. } | AppendError::Poisoned) => {}
            Err(AppendError::CarryFull { needed, room }) => assert!(needed > room),
            Err(other) => panic!("{other}"),
        }
    }

    fn outcome(&mut self, op: &Op) -> Outcome {
        if self.random.below(1000) < self.failures {
            return Outcome::Failed(5);
        }
        match (op, self.random.below(10)) {
            (_, 0) => Outcome::Again,
            (Op::Write { len, .. }, 1) => Outcome::Done(self.random.below(*len as usize + 1) as u32),
            (Op::Write { len, .. }, _) => Outcome::Done(*len),
            _ => Outcome::Done(0),
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..8 => self.append(),
            8 => self.control(),
            9 => {
                let seq = self.random.below(self.log.next_seq() as usize + 1) as u64;
                self.log.demand(seq);
            }
            10 => {
                self.log.demand_all();
            }
            11 => {
                self.log.flush();
            }
            12 => self.log.retry(),
            13 => self.retire(),
            14..17 => {
                self.disk.take(&mut self.log);
            }
            _ if self.disk.under_way.is_empty() => {}
            _ => {
                let index = self.random.below(self.disk.under_way.len());
                let op = self.disk.under_way[index].op;
                let outcome = self.outcome(&op);
                self.disk.finish(&mut self.log, index, outcome);
            }
        }
        let writes = self.disk.under_way.iter().filter(|one| matches!(one.op, Op::Write { .. })).count();
        assert!(writes <= self.log.config().depth.into());
    }

    fn retire(&mut self) {
        let ids: Vec<u64> = self.disk.files.keys().copied().collect();
        let [oldest, next, ..] = ids[..] else { return };
        if self.disk.under_way.iter().any(|one| one.op.segment() == oldest && !matches!(one.op, Op::Recycle { .. })) {
            return;
        }
        let kept_from = chronicle_core::wal::Header::parse(&self.disk.files[&next].media).unwrap().first_seq;
        match self.log.retire(oldest, kept_from) {
            Ok(()) => {
                self.kept_from = kept_from;
                assert!(self.log.durable_position().segment > oldest);
            }
            Err(RetireError::Busy | RetireError::NotDurable | RetireError::NotCarried | RetireError::Poisoned) => {}
        }
    }

    /// The medium holds all that is acknowledged, and nothing that nobody appended.
    fn check(&self) -> Found {
        let found = self.disk.read();
        let oldest = found.frames.first();
        // Segments before the oldest are recycled: the model is compared from there on.
        let skip = oldest.map_or(self.frames.len(), |oldest| {
            self.frames.iter().position(|frame| frame == oldest).expect("a frame that nobody appended")
        });
        let expected = &self.frames[skip..];
        assert!(found.frames.len() <= expected.len());
        assert_eq!(found.frames[..], expected[..found.frames.len()], "frames in order, unchanged");
        assert!(found.next_seq > self.log.durable(), "acknowledged and not there");
        assert!(found.end >= self.log.durable_position() || self.log.durable_position() == Position::ZERO);
        assert!(found.claimed <= found.end, "a claim beyond what is there: {:?} {:?}", found.claimed, found.end);
        for (ticket, index) in &self.tickets {
            if self.log.is_durable(*ticket) && *index >= skip {
                assert!(skip + found.frames.len() > *index, "a durable control frame is not there");
            }
        }
        found
    }

    fn finish(mut self) {
        self.log.close();
        self.log.close();
        assert_eq!(
            self.log.append(b"late"),
            Err(if self.log.is_poisoned() { AppendError::Poisoned } else { AppendError::Closed })
        );
        self.log.retry();
        while !self.log.is_poisoned() {
            self.disk.settle(&mut self.log);
            if self.log.is_closed() {
                break;
            }
            self.log.retry();
        }
        let found = self.check();
        if self.log.is_closed() {
            assert!(found.closed);
            assert_eq!(found.next_seq, self.log.next_seq());
            assert_eq!(
                (&found.vote, &found.meta),
                (&self.vote, &self.meta),
                "what stands is found, however much is recycled"
            );
            let matters = |list: &[Truncation]| -> Vec<Truncation> {
                list.iter().copied().filter(|one| one.at > self.kept_from).collect()
            };
            assert_eq!(matters(&found.truncations), matters(&self.truncations));
        }
    }
}

fn entry(bytes: &[u8]) -> Vec<u8> {
    let mut entry = vec![6, 0, 0, 0];
    entry.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    entry.extend_from_slice(bytes);
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry
}

fn runs(sync: SyncBy, failures: usize) {
    let (count, steps) = if cfg!(miri) { (1, 150) } else { (60, 1200) };
    for seed in seeds(count) {
        println!("CHRONICLE_SEED={seed}");
        let mut run = Run::new(seed, sync, failures);
        for step in 0..steps {
            run.step();
            if step % 16 == 0 {
                run.check();
            }
        }
        run.check();
        run.finish();
    }
}

#[test]
fn frames_survive_any_order_of_completions() {
    for sync in [SyncBy::Write, SyncBy::Op, SyncBy::Request] {
        runs(sync, 0);
    }
}

#[test]
fn what_is_acknowledged_survives_failures_of_any_operation() {
    for sync in [SyncBy::Write, SyncBy::Op, SyncBy::Request] {
        runs(sync, 4);
    }
}

/// Same inputs, same operations.
#[test]
fn a_machine_is_deterministic() {
    for seed in 0..if cfg!(miri) { 1 } else { 10 } {
        let run = || {
            let mut run = Run::new(seed, SyncBy::Op, 1);
            for _ in 0..400 {
                run.step();
            }
            run.disk.handed
        };
        assert_eq!(run(), run());
    }
}
