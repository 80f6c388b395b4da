//! The demo's last screen.

use super::Summary;
use crate::run::{Count, Outcome, Size, with_stdout};
use std::{io::Write, path::Path};

pub(crate) fn print(summary: &Summary, kept: Option<&Path>) -> Outcome {
    with_stdout(|out| tell(out, summary, kept))
}

fn tell(out: &mut dyn Write, summary: &Summary, kept: Option<&Path>) -> Outcome {
    let s = summary;
    let yes = |good: bool| if good { "✓" } else { "✗" };
    writeln!(out, "Chronicle, {} through feed, queue, refinery and archive", s.input)?;
    writeln!(out)?;
    writeln!(
        out,
        "  events              {:>12}   imported at {} events/s, {:.0} MB/s",
        Count(s.events).to_string(),
        Count(s.import_events_per_s as u64),
        s.import_mb_per_s
    )?;
    writeln!(out, "  raw queue           {}", s.hot)?;
    writeln!(
        out,
        "  feed → strategy     p50 {}   p99 {}   p99.9 {}   max {}",
        time(s.latency_ns.p50),
        time(s.latency_ns.p99),
        time(s.latency_ns.p999),
        time(s.latency_ns.max)
    )?;
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
    for killed in &s.killed {
        writeln!(out, "                      process {} killed {}", killed.pid, killed.phase)?;
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
    writeln!(
        out,
        "  {} books checked against the venue's quotes: {} of {} equal",
        yes(s.books.checked == s.books.equal && s.books.checked > 0),
        Count(s.books.equal),
        Count(s.books.checked)
    )?;
    writeln!(
        out,
        "  {} minute snapshots against the replayed book: {} of {} equal",
        yes(v.snapshots == v.snapshots_equal),
        v.snapshots_equal,
        v.snapshots
    )?;
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
    writeln!(out, "  {} replay of the archive against the recording: {}", yes(s.replay == "identical"), s.replay)?;
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

/// A span as people read it.
fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}
