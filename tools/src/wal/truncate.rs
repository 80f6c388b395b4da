//! `chronicle wal truncate`: the way out for a log that cannot be opened.

use crate::run::{Failure, Outcome, print_json, with_stdout};
use chronicle::{
    System,
    storage::wal::{CutPlan, cut, plan_cut},
};
use std::path::PathBuf;

/// Cut a damaged log where it can no longer be believed, after showing what is lost by it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle wal truncate /var/lib/app/wal
  chronicle wal truncate /var/lib/app/wal --discard

Without --discard nothing is changed: it prints what would stay and what would be lost, and exits 1 if the log is damaged.
Segments behind the cut are put aside as `.cut` files, not destroyed. A torn tail needs no cut: opening the log does it, and
loses nothing that was acknowledged.")]
pub(crate) struct Args {
    /// The log's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Do it: give up the records that are shown
    #[arg(long)]
    discard: bool,
    /// One JSON object: {damaged, done, plan: {reason, path, offset, first_seq, next_seq, lost: […]}}
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Told<'a> {
    damaged: bool,
    done: bool,
    plan: Option<&'a CutPlan>,
}

pub(crate) fn run(args: Args) -> Outcome {
    super::existing(&args.dir)?;
    let Some(plan) = plan_cut(&System, &args.dir)? else {
        if args.json {
            return print_json(&Told { damaged: false, done: false, plan: None });
        }
        return with_stdout(|out| Ok(writeln!(out, "nothing to cut: the log can be opened as it is")?));
    };
    if !args.json {
        with_stdout(|out| Ok(write!(out, "{plan}")?))?;
    }
    if args.discard {
        cut(&System, &args.dir, &plan)?;
    }
    if args.json {
        print_json(&Told { damaged: true, done: args.discard, plan: Some(&plan) })?;
    } else {
        with_stdout(|out| {
            let done = if args.discard { "done" } else { "nothing was changed; --discard does it" };
            Ok(writeln!(out, "{done}")?)
        })?;
    }
    if args.discard { Ok(()) } else { Err(Failure::told()) }
}
