//! `chronicle tier`: moves partitions to colder tiers as they age.

use crate::run::{Count, Failure, Moment, Outcome, RootArgs, Size, bytes_bar, parse_moment, print_json};
use chronicle::{
    System,
    etl::refine::seal_aged,
    platform::Platform,
    storage::tier::{Policy, Reason, run_once_watched},
};
use clap::Subcommand;
use std::io::Write;

/// Move partitions to colder tiers
#[derive(Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
}

/// Seal the days that are over and move what is a day older than its date to the cold tier
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle tier run --once --root market
  chronicle tier run --once --root market --now 2024-08-12T00:00:00Z --json

Each move: copy, sync, verify, rename, sync the directory, delete. Interrupt it when you like; it goes on next time.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    root: RootArgs,
    /// One pass, then end
    #[arg(long, required = true)]
    once: bool,
    /// Take it to be this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    now: Option<Moment>,
    /// One JSON object: {sealed, moved: [{path, to, bytes, cold_bytes}], …}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command) -> Outcome {
    let Command::Run(args) = command;
    let root = args.root.existing()?;
    let system = System;
    let now = args.now.map_or_else(|| system.now_ns(), |moment| moment.ns);
    let policy = Policy::default();
    let refined = seal_aged(&system, &root, None, now, policy.min_age, |_| ())?;
    let sealed = refined.partitions.iter().filter(|partition| partition.sealed).count();
    let bar = bytes_bar(0, "warm → cold");
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let report = run_once_watched(&system, &root, now, &policy, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    let failed = !report.failed.is_empty();
    if args.json {
        print_json(&serde_json::json!({ "sealed": sealed, "tier": report }))?;
    } else {
        let mut out = std::io::stdout().lock();
        for moved in &report.moved {
            writeln!(
                out,
                "  {:<70} {:>12} → {:>12}",
                moved.path.display(),
                Size(moved.warm_bytes),
                Size(moved.cold_bytes)
            )?;
        }
        for skipped in &report.skipped {
            let why = match skipped.reason {
                Reason::Young => "ended less than a day ago",
                Reason::Unsealed => "has files that are not sealed",
                Reason::Unfinished => "is not finished by the refinery",
                _ => "stays",
            };
            writeln!(out, "  {:<70} stays warm: {why}", skipped.path.display())?;
        }
        for failed in &report.failed {
            writeln!(out, "  {} not moved: {}", failed.path.display(), failed.error)?;
        }
        let (warm, cold) = report.bytes();
        writeln!(
            out,
            "{} partitions are sealed, {} files moved to cold: {} → {}",
            Count(sealed as u64),
            report.moved.len(),
            Size(warm),
            Size(cold)
        )?;
    }
    if failed { Err(Failure::told()) } else { Ok(()) }
}
