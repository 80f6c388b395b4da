//! `chronicle tier`: moves partitions to colder tiers as they age.

use crate::run::{Count, Failure, Moment, Outcome, RootArgs, Size, bytes_bar, parse_moment, print_json, with_stdout};
use chronicle::{
    System,
    etl::refine::seal_aged,
    platform::Platform,
    storage::tier::{Policy, Reason, Report, run_once_watched},
};
use clap::Subcommand;
use std::io::Write;

/// Move partitions to colder tiers
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  chronicle tier run --once --root market
  chronicle tier run --once --root market --now 2024-08-12T00:00:00Z")]
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
    /// One JSON object: {sealed, moved: [{path, warm_bytes, cold_bytes, …}], skipped, failed, …}
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Told<'a> {
    sealed: usize,
    #[serde(flatten)]
    report: &'a Report,
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
        print_json(&Told { sealed, report: &report })?;
    } else {
        with_stdout(|out| tell(out, sealed, &report))?;
    }
    if failed { Err(Failure::told()) } else { Ok(()) }
}

fn tell(out: &mut dyn Write, sealed: usize, report: &Report) -> Outcome {
    let paths = report.moved.iter().map(|moved| &moved.path).chain(report.skipped.iter().map(|skipped| &skipped.path));
    let width = paths.map(|path| path.as_os_str().len()).max().unwrap_or(0);
    for moved in &report.moved {
        writeln!(
            out,
            "  {:<width$} {:>10} → {:>10}",
            moved.path.display().to_string(),
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
        writeln!(out, "  {:<width$} stays warm: {why}", skipped.path.display().to_string())?;
    }
    for failed in &report.failed {
        writeln!(out, "  {} not moved: {}", failed.path.display(), failed.error)?;
    }
    let (warm, cold) = report.bytes();
    let sealed = match sealed {
        1 => "1 partition is sealed".to_owned(),
        n => format!("{} partitions are sealed", Count(n as u64)),
    };
    if report.moved.is_empty() {
        writeln!(out, "nothing moved to cold; {sealed}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{}: {} → {}; {sealed}",
        match report.moved.len() {
            1 => "1 file moved to cold".to_owned(),
            n => format!("{} files moved to cold", Count(n as u64)),
        },
        Size(warm),
        Size(cold)
    )?;
    Ok(())
}
