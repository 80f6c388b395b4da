//! `chronicle inspect`: what a file or directory of ours is.

use crate::run::{Failure, Outcome, print_json};
use chronicle::{System, storage::inspect::inspect};
use serde_json::Value;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Say what a queue, segment, partition or archive file holds: header, counts, ranges, tail, readers
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle inspect market/hot/streams/raw/binance-spot/queue
  chronicle inspect market/warm/v1/binance-spot/btcusdt/2024-08-08/book.q --json")]
pub(crate) struct Args {
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    if !args.path.exists() {
        return Err(Failure::Usage(format!("{}: no such file or directory", args.path.display())));
    }
    let found = inspect(&System, &args.path)?;
    if args.json {
        return print_json(&found);
    }
    let mut out = io::stdout().lock();
    tell(&mut out, &serde_json::to_value(&found).map_err(io::Error::from)?, 0)?;
    Ok(())
}

/// A description as indented lines: the JSON without its punctuation.
fn tell(out: &mut impl Write, value: &Value, depth: usize) -> io::Result<()> {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        writeln!(out, "{pad}{name}")?;
                        tell(out, value, depth + 1)?;
                    }
                    Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                        writeln!(out, "{pad}{name}")?;
                        tell(out, value, depth + 1)?;
                    }
                    _ => writeln!(out, "{pad}{name:<20} {}", plain(name, value))?,
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    // A table's row on one line.
                    Value::Object(fields) => {
                        let row: Vec<String> =
                            fields.iter().map(|(name, value)| format!("{name} {}", plain(name, value))).collect();
                        writeln!(out, "{pad}{}", row.join("  "))?;
                    }
                    other => writeln!(out, "{pad}{}", plain("", other))?,
                }
            }
        }
        other => writeln!(out, "{pad}{}", plain("", other))?,
    }
    Ok(())
}

fn plain(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Number(n) if name.ends_with("time_ns") || name.ends_with("_time") || name == "created_ns" => n
            .as_u64()
            .map_or_else(|| n.to_string(), |ns| if ns == 0 { "-".to_owned() } else { crate::run::rfc3339(ns) }),
        other => other.to_string(),
    }
}
