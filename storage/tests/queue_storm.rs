//! Random lives of a queue: power cuts and kills while it is opened, written to, synced, read and closed, one after
//! another; every sync policy, and budgets from four segments up.
//!
//! No seq is given twice, what a sync covered is there, whatever is missing was told, and readers that came before the last
//! recovery, with any start, arrive where the writer is. `QUEUE_STORM_SEEDS` and `QUEUE_STORM_FROM` say how many lives, and
//! from which.

use chronicle_core::Append;
use chronicle_platform::sim::{Faults, Sim};
use chronicle_storage::queue::{
    Profile, PublisherOptions, Queue, ReadError, Start, Subscriber, SubscriberOptions, SyncPolicy,
};
use std::{collections::BTreeSet, time::Duration};

const DIR: &str = "/q";
struct R(u64);
impl R {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn one(seed: u64) -> Result<(), String> {
    let mut r = R(seed * 7919 + 1);
    for _ in 0..10 {
        r.next(2);
    }
    let mut sim = Sim::new(seed);
    let policy = [SyncPolicy::None, SyncPolicy::Roll, SyncPolicy::Every(Duration::from_millis(5))][r.next(3) as usize];
    let len = [4096, 8192, 32768][r.next(3) as usize];
    let options = PublisherOptions {
        segment_len: len,
        max_bytes: [4, 8, 64][r.next(3) as usize] * u64::from(len),
        helper: false,
        sync: policy,
        ..PublisherOptions::new(Profile::Raw)
    };
    let mut used: BTreeSet<u64> = BTreeSet::new();
    let (mut acked, mut live): (BTreeSet<u64>, Vec<u64>) = Default::default();
    let mut log = String::new();
    for round in 0..6 {
        // Possibly die in the middle of opening or running.
        let cut = r.next(2) == 0;
        let most = if r.next(2) == 0 { 120 } else { 800 };
        let n = sim.operations() + 1 + r.next(most);
        let process = sim.start_process();
        if cut {
            sim.crash_at(n)
        } else {
            process.kill_at(n)
        }
        log += &format!("round {round}: {} at +{}\n", if cut { "cut" } else { "kill" }, n - sim.operations());
        match Queue::publisher(&process, DIR, options.clone()) {
            Ok(mut queue) => {
                let mut readers = Vec::new();
                for _ in 0..r.next(1500) {
                    let seq = queue.next_seq();
                    let bytes = seq.to_le_bytes().repeat(1 + (seq % 20) as usize);
                    // A crash in the middle may or may not have ended the process: stores go on until somebody notices.
                    match queue.append_wait(
                        Append { time_ns: seq, ..Append::default() },
                        &bytes,
                        Duration::from_millis(50),
                    ) {
                        Ok(got) => {
                            live.push(seq);
                            if got != seq || !used.insert(seq) {
                                return Err(format!("{log}seq {got} given twice"));
                            }
                        }
                        Err(_) => break,
                    }
                    if r.next(40) == 0
                        && let Ok(durable) = queue.sync()
                    {
                        acked.extend(live.iter().filter(|seq| **seq <= durable.seq));
                    }
                    if r.next(10) == 0 {
                        queue.maintain();
                    }
                    if r.next(50) == 0 {
                        sim.tick();
                    }
                    if r.next(200) == 0 && !sim.is_off() {
                        let o = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
                        if let Ok(mut reader) = Queue::observer(&sim, DIR, o) {
                            _ = reader.next().is_ok();
                            readers.push(reader);
                        }
                    }
                }
                if r.next(5) == 0
                    && let Ok(durable) = queue.close()
                {
                    acked.extend(live.iter().filter(|seq| **seq <= durable.seq));
                }
            }
            Err(error) => {
                let text = format!("{error:?}");
                if !text.contains("off") && !text.contains("dead") {
                    return Err(format!("{log}round {round}: does not open: {text}"));
                }
            }
        }
        if cut || r.next(4) == 0 {
            sim = sim.crash();
            live.clear();
            log += "  power\n";
        } else {
            process.kill();
        }
        sim.faults(Faults { write_back_one_in: 1 + r.next(3), ..Faults::default() });
    }
    let starts = [Start::Earliest, Start::Latest, Start::Seq(1 + r.next(500)), Start::Time(1 + r.next(500))];
    let early: Vec<_> = starts
        .into_iter()
        .filter_map(|start| {
            let options = SubscriberOptions { start, ..SubscriberOptions::default() };
            let mut reader = Queue::observer(&sim, DIR, options).ok()?;
            Some((start, follow(&mut reader), reader))
        })
        .collect();
    let mut queue = Queue::publisher(&sim, DIR, options.clone()).map_err(|e| format!("{log}last: {e:?}"))?;
    let seq = queue.next_seq();
    if used.iter().next_back().is_some_and(|last| *last >= seq) {
        return Err(format!("{log}goes on at {seq}"));
    }
    queue
        .append_wait(
            Append { time_ns: seq, ..Append::default() },
            &seq.to_le_bytes().repeat(1 + (seq % 20) as usize),
            Duration::from_secs(1),
        )
        .map_err(|e| format!("{log}{e:?}"))?;
    let o = SubscriberOptions { start: Start::Earliest, verify_reads: true, ..SubscriberOptions::default() };
    let mut reader = Queue::observer(&sim, DIR, o).map_err(|e| format!("{log}{e:?}"))?;
    let mut next = None;
    let mut last = 0;
    loop {
        match reader.next() {
            Ok(Some(frame)) => {
                let mut bytes = vec![0; frame.payload.len()];
                frame.payload.copy_to(&mut bytes);
                if bytes != frame.seq.to_le_bytes().repeat(1 + (frame.seq % 20) as usize) {
                    return Err(format!("{log}wrong bytes of {}", frame.seq));
                }
                if next.is_some_and(|next| next != frame.seq) {
                    return Err(format!("{log}{next:?} expected, {}", frame.seq));
                }
                if frame.seq != seq && !used.contains(&frame.seq) {
                    return Err(format!("{log}{} never appended", frame.seq));
                }
                next = Some(frame.seq + 1);
                last = frame.seq;
            }
            Ok(None) => break,
            Err(ReadError::Lost { from, to }) => {
                if next != Some(from) && next.is_some() {
                    return Err(format!("{log}lost {from}..{to}, {next:?}"));
                }
                if let Some(seq) = acked.range(from..=to).next() {
                    return Err(format!("{log}acknowledged {seq}, lost {from}..{to}"));
                }
                next = Some(to + 1);
            }
            Err(error) => return Err(format!("{log}{error:?}")),
        }
    }
    if last != seq {
        return Err(format!("{log}read to {last}, appended {seq}"));
    }
    for (start, before, mut reader) in early {
        let before = before.map_err(|what| format!("{log}early reader at {start:?}: {what}"))?;
        sim.advance(Duration::from_secs(1));
        let after = follow(&mut reader).map_err(|what| format!("{log}early reader at {start:?}: {what}"))?;
        let Some((first, end)) = after else {
            return Err(format!("{log}early reader at {start:?} read {before:?} and stays there, appended {seq}"));
        };
        if end != seq || before.is_some_and(|(_, before)| before + 1 != first) {
            return Err(format!(
                "{log}early reader at {start:?} read {before:?}, then {first}..={end}, appended {seq}"
            ));
        }
    }
    Ok(())
}

/// Reads on: the first and last seq that was read or told of; an error if some are missing between them.
fn follow(reader: &mut Subscriber<Sim>) -> Result<Option<(u64, u64)>, String> {
    let mut seen: Option<(u64, u64)> = None;
    loop {
        let (from, to) = match reader.next() {
            Ok(Some(frame)) => (frame.seq, frame.seq),
            Ok(None) => return Ok(seen),
            Err(ReadError::Lost { from, to }) => (from, to),
            // It held nothing back.
            Err(ReadError::Lapped { resume_at }) => {
                seen = seen.map(|(first, _)| (first, resume_at - 1));
                continue;
            }
            Err(error) => return Err(format!("{error:?} after {seen:?}")),
        };
        if seen.is_some_and(|(_, last)| last + 1 != from) {
            return Err(format!("{from}..={to} after {seen:?}"));
        }
        seen = Some((seen.map_or(from, |seen| seen.0), to));
    }
}

#[test]
fn d_3_no_story_of_cuts_and_kills_loses_what_was_promised() {
    let from: u64 = std::env::var("QUEUE_STORM_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("QUEUE_STORM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut wrong = Vec::new();
    for seed in from..from + count {
        match std::panic::catch_unwind(|| one(seed)) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => wrong.push(format!("seed {seed}: {what}")),
            Err(_) => wrong.push(format!("seed {seed}: panic")),
        }
    }
    let short: Vec<&String> = wrong.iter().take(12).collect();
    assert!(wrong.is_empty(), "{} of {count}: {short:#?}", wrong.len());
}
