//! `chronicle bench`: what this machine can do.
//!
//! One subcommand for now: the host under a system, in seconds. The disk alone, in depth, is `chronicle wal bench`.

mod host;
mod measure;

use clap::Subcommand;

/// Measure this machine
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  chronicle bench host
  chronicle bench host /var/lib/app --json

The disk in depth: chronicle wal bench DIR.")]
pub(crate) enum Command {
    Host(host::Args),
}

pub(crate) fn run(command: Command) -> crate::run::Outcome {
    match command {
        Command::Host(args) => host::run(args),
    }
}
