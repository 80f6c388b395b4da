//! The demo's last screen.

use super::{Summary, live::Traded};
use crate::run::{Count, Outcome, Size, with_stdout};
use std::{collections::BTreeMap, io::Write, path::Path};

pub(crate) fn print(summary: &Summary, kept: Option<&Path>) -> Outcome {
    with_stdout(|out| tell(out, summary, kept))
}

fn tell(out: &mut dyn Write, summary: &Summary, kept: Option<&Path>) -> Outcome {
    let s = summary;
    let yes = |good: bool| if good { "✓" } else { "✗" };
    match &s.live {
        None => writeln!(out, "Chronicle, {} through feed, queue, refinery and archive", s.input)?,
        Some(_) => writeln!(out, "Chronicle, {}: feed, strategies, router, refinery and archive", s.input)?,
    }
    writeln!(out)?;
    let events = Count(s.events).to_string();
    match &s.live {
        None => writeln!(
            out,
            "  events              {events:>12}   imported at {} events/s, {:.0} MB/s",
            Count(s.import_events_per_s as u64),
            s.import_mb_per_s
        )?,
        Some(live) => writeln!(
            out,
            "  events              {events:>12}   followed live, {} events/s for {:.1} s",
            Count(s.import_events_per_s as u64),
            live.traded_seconds
        )?,
    }
    writeln!(out, "  raw queue           {}", s.hot)?;
    writeln!(
        out,
        "  feed → strategy     p50 {}   p99 {}   p99.9 {}   max {}",
        time(s.latency_ns.p50),
        time(s.latency_ns.p99),
        time(s.latency_ns.p999),
        time(s.latency_ns.max)
    )?;
    if let Some(live) = &s.live {
        let judged = &live.judged;
        for (name, times) in [
            ("tick → order     ", judged.tick_to_order_ns),
            ("order → answer   ", judged.order_to_answer_ns),
            ("tick→order→fill  ", judged.tick_to_fill_ns),
        ] {
            let [p50, p99, max] = [times.p50, times.p99, times.max].map(time);
            writeln!(out, "  {name}   p50 {p50}   p99 {p99}   max {max}")?;
        }
    }
    writeln!(out, "                      wait: {}; {} cores", s.wait, s.cores)?;
    for told in &s.strategies {
        writeln!(
            out,
            "  strategy {:<10} {:>12}   records read, {} quotes, mean spread {:.3} bp",
            told.reader,
            Count(told.records).to_string(),
            Count(told.quotes),
            told.mean_spread_bp
        )?;
    }
    writeln!(
        out,
        "  refinery            {:>12}   events/s from the raw archive; live, it kept up in steps of 20 ms",
        Count(s.refine_events_per_s as u64).to_string()
    )?;
    match &s.live {
        Some(live) => traded(out, s, live)?,
        None => {
            for killed in &s.killed {
                writeln!(out, "                      process {} killed {}", killed.pid, killed.phase)?;
            }
        }
    }
    if let Some(twice) = s.refined_twice {
        writeln!(
            out,
            "                      started again: {} records were in no checkpoint, refined twice",
            Count(twice)
        )?;
    }
    writeln!(out)?;
    let most = s.bytes.raw.max(s.bytes.warm).max(s.bytes.cold).max(1);
    for (tier, bytes) in [("raw", s.bytes.raw), ("warm", s.bytes.warm), ("cold", s.bytes.cold)] {
        let width = (bytes * 40 / most) as usize;
        writeln!(out, "  {tier:<6} {:>12}  {}", Size(bytes).to_string(), "█".repeat(width.max(1)))?;
    }
    writeln!(out)?;
    let v = &s.verified;
    let books = yes(s.books.checked == s.books.equal && s.books.checked > 0);
    let [equal, checked] = [s.books.equal, s.books.checked].map(Count);
    match &s.live {
        None => writeln!(out, "  {books} books checked against the venue's quotes: {equal} of {checked} equal")?,
        Some(live) => {
            let judged = &live.judged;
            writeln!(
                out,
                "  {books} books against the exchange's own, whole: {equal} of {checked} equal; {} more were noted where it had gaps",
                Count(judged.noted.saturating_sub(s.books.checked))
            )?;
            let orders = &judged.orders;
            let all = orders.sent + orders.cancels;
            writeln!(
                out,
                "  {} every order at the exchange once: {} sent, {} there, {} lost, {} doubled",
                yes(orders.lost == 0 && orders.doubled == 0 && orders.sent > 0),
                Count(orders.sent),
                Count(orders.at_exchange),
                orders.lost,
                orders.doubled
            )?;
            writeln!(
                out,
                "  {} every order and cancel answered once: {} of {}; ended once, with the exchange's fills: {} of {}",
                yes(orders.answered_once == all && orders.ended_once == orders.sent),
                Count(orders.answered_once),
                Count(all),
                Count(orders.ended_once),
                Count(orders.sent)
            )?;
            writeln!(
                out,
                "  {} registrations left behind: {} of {}",
                yes(judged.stale == 0),
                judged.stale,
                judged.registrations
            )?;
        }
    }
    // There is one a minute; trading may be shorter.
    if s.live.is_none() || v.snapshots > 0 {
        writeln!(
            out,
            "  {} minute snapshots against the replayed book: {} of {} equal",
            yes(v.snapshots == v.snapshots_equal),
            v.snapshots_equal,
            v.snapshots
        )?;
    }
    writeln!(
        out,
        "  {} refined again from the raw archive: {} of {} partitions the same bytes",
        yes(s.refined_again.same == s.refined_again.partitions && s.refined_again.partitions > 0),
        s.refined_again.same,
        s.refined_again.partitions
    )?;
    writeln!(
        out,
        "  {} every checksum, seq and index of {} files: {}",
        yes(v.damaged == 0),
        v.files,
        if v.damaged == 0 { "whole".to_owned() } else { format!("{} problems", v.damaged) }
    )?;
    let against = if s.live.is_some() { "raw stream" } else { "recording" };
    writeln!(out, "  {} replay of the archive against the {against}: {}", yes(s.replay == "identical"), s.replay)?;
    writeln!(out)?;
    for problem in &s.problems {
        writeln!(out, "  problem: {problem}")?;
    }
    for note in &s.notes {
        writeln!(out, "  note: {note}")?;
    }
    let verdict = if s.ok { "every check holds" } else { "a check does not hold" };
    writeln!(out, "{verdict}, in {:.1} s", s.seconds)?;
    if let Some(dir) = kept {
        writeln!(out, "the root is in {0}; look at it with: chronicle inspect {0}", dir.display())?;
    }
    Ok(())
}

/// What happened while it was traded.
fn traded(out: &mut dyn Write, s: &Summary, live: &Traded) -> Outcome {
    let orders = &live.judged.orders;
    writeln!(
        out,
        "  router              {:>12}   orders and {} cancels to the exchange, {} fills back",
        Count(orders.sent).to_string(),
        Count(orders.cancels),
        Count(orders.fills)
    )?;
    let asked: Vec<String> = live.misbehaved.iter().map(|(what, count)| format!("{count} {what}")).collect();
    writeln!(out, "  exchange            asked to misbehave: {}", asked.join(", "))?;
    writeln!(out, "                      {} gaps in the archive", live.judged.gaps)?;
    // With chaos there are hundreds: of each part, how often.
    if s.killed.len() <= KILLED_TOLD {
        for killed in &s.killed {
            writeln!(out, "  killed              {:>12}   {}", killed.pid, killed.phase)?;
        }
        return Ok(());
    }
    let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
    for killed in &s.killed {
        *parts.entry(killed.phase.split(':').next().unwrap_or_default()).or_default() += 1;
    }
    let parts: Vec<String> = parts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    writeln!(out, "  killed              {:>12}   {}", Count(s.killed.len() as u64).to_string(), parts.join(", "))?;
    Ok(())
}

/// So many killed processes are told one by one.
const KILLED_TOLD: usize = 8;

/// A span as people read it.
fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}
