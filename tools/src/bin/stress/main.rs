//! Events from a thread through a ring into a log, as fast as they go, and then every one of them looked at again.
//!
//! ```text
//! producer thread ──▶ SPSC ring ──▶ this thread ──▶ mapped log ──▶ opened again, replayed, compared
//! ```
//!
//! The clock runs from before the first event until the last one is committed to the log: it is in the file then, and
//! survives this process. What it does not wait for is the medium; the sync that does is timed apart. An event counts when
//! it was read back and is, byte for byte, what was sent: what an event holds follows from its number.
//!
//! Exit codes: 0 every event that was sent was verified; 1 one was not, or the system said no; 2 called wrongly.
#![forbid(unsafe_code)]

mod event;
mod place;
mod run;

use clap::Parser;
use run::Outcome;
use std::{path::PathBuf, process::ExitCode};

/// Send events through a ring into a log, read all of them back, and say how many a second that was.
#[derive(Parser)]
#[command(
    name = "stress",
    version,
    after_help = "\
Examples:
  stress                                   5 seconds of 64-byte payloads into a file in memory (/dev/shm)
  stress --seconds 10 --payload 256
  stress --persist /data/stress.evtl       on that disk; a file of this name must not exist
  stress --memory --bytes 1GiB --json      no file at all: the log is in memory of this process

--json prints one object: sent, persisted, replayed, verified, dropped, events_per_s, bytes_per_s, seconds; then what
was prepared before the clock started and how long that took, the rate with that time, and the time of the sync after it.

The file is removed at the end. Exit code: 0 every event was verified, 1 not, 2 called wrongly."
)]
struct Args {
    /// How long to send, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: f64,
    /// Bytes of each event's payload; its header takes 16 more.
    #[arg(long, default_value = "64")]
    payload: u16,
    /// Length of the log, such as 512MiB: when it is reached the run ends early, and says so. Default: 4 GiB, or half of what
    /// is free if that is less.
    #[arg(long, value_parser = bytes)]
    bytes: Option<u64>,
    /// The log's file. Default: a temporary one where this system keeps files in memory, else where it keeps temporary
    /// files.
    #[arg(long, value_name = "PATH", conflicts_with = "memory")]
    persist: Option<PathBuf>,
    /// Keep the log in memory of this process, without a file.
    #[arg(long)]
    memory: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run::run(&args) {
        Ok(outcome) => {
            print(&outcome, args.json);
            if outcome.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("stress: {}", error.text);
            ExitCode::from(error.code)
        }
    }
}

fn print(outcome: &Outcome, json: bool) {
    use std::io::Write;
    let text = if json { format!("{}\n", outcome.json()) } else { outcome.table() };
    // Who closed the pipe has read enough.
    _ = std::io::stdout().write_all(text.as_bytes());
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("not a number of seconds above 0, and a day at most".into()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(format!("unit {unit} is not B, KiB, MiB or GiB")),
    };
    let number: u64 = number.parse().map_err(|_| "not a number of bytes, such as 512MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "not a length that a log can have".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("3KiB"), Ok(3 << 10));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for wrong in ["", "0", "MiB", "5GB", "-1", "99999999999GiB"] {
            bytes(wrong).expect_err(wrong);
        }
        for wrong in ["0", "-1", "nan", "inf", "", "1e9"] {
            seconds(wrong).expect_err(wrong);
        }
        assert_eq!(seconds("0.5"), Ok(0.5));
    }
}
