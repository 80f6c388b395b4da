//! `chronicle wal cat`: records as text or JSON, of a log at rest or while it grows.

use crate::run::{Failure, Outcome, with_stdout};
use chronicle::{
    System,
    core::wal::Kind,
    storage::wal::{ReadError, ReaderOptions, Record, Waited, WalReader},
};
use serde_json::json;
use std::{io::Write, path::PathBuf, time::Duration};

/// Print the records of a log
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle wal cat /var/lib/app/wal --limit 10
  chronicle wal cat /var/lib/app/wal --from 1000 --json
  chronicle wal cat /var/lib/app/wal --follow

With --json, one object a line: {seq, kind, len, payload (hex), unproven}. Only what is durable is printed: of a log whose
writer died, that is what it can prove; --unproven adds, marked, what the next writer will make durable first.")]
pub(crate) struct Args {
    /// The log's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Start at this record; without it, at the oldest that is there
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// Stop after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on as the log grows, until interrupted
    #[arg(long)]
    follow: bool,
    /// Vote, meta and truncate frames too
    #[arg(long)]
    controls: bool,
    /// What a dead writer left behind the proved position too
    #[arg(long)]
    unproven: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// How long `--follow` waits before it looks whether anybody still listens.
const SLICE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: Args) -> Outcome {
    super::existing(&args.dir)?;
    let options = ReaderOptions { controls: args.controls, unproven: args.unproven };
    let mut reader = WalReader::open(&System, &args.dir, args.from, options).map_err(failure)?;
    with_stdout(|out| {
        let mut left = args.limit.unwrap_or(u64::MAX);
        while left > 0 {
            match reader.next().map_err(failure)? {
                Some(record) => {
                    print(&args, out, &record)?;
                    left -= 1;
                }
                None if args.follow => {
                    out.flush()?;
                    if reader.wait(SLICE).map_err(failure)? == Waited::NoWriter {
                        std::thread::sleep(SLICE / 10);
                    }
                }
                None => break,
            }
        }
        Ok(())
    })
}

fn failure(error: ReadError) -> Failure {
    match error {
        ReadError::Gone { first_seq } => Failure::Usage(format!(
            "records were retired: the oldest one is {first_seq}; start there with --from {first_seq}"
        )),
        error => error.into(),
    }
}

fn print(args: &Args, out: &mut dyn Write, record: &Record<'_>) -> Outcome {
    let hex = || record.payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if args.json {
        let line = json!({
            "seq": record.seq,
            "kind": record.kind.name(),
            "len": record.payload.len(),
            "payload": hex(),
            "unproven": record.unproven,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    write!(out, "{:>12}  ", record.seq)?;
    if args.controls {
        write!(out, "{:<8}  ", record.kind.name())?;
    }
    write!(out, "{:>7} B  ", record.payload.len())?;
    // Text as text, the rest as hex; a line stays a line.
    match std::str::from_utf8(record.payload) {
        Ok(text) if record.kind == Kind::Data && !text.chars().any(char::is_control) => write!(out, "{text}")?,
        _ => write!(out, "{}", hex())?,
    }
    writeln!(out, "{}", if record.unproven { "  (unproven)" } else { "" })?;
    Ok(())
}
