//! The `chronicle` command.
//!
//! One file per command; `run.rs` holds what they share: the root, exit codes, output. A command never
//! prints half an answer: it collects, then prints a table or, with `--json`, one object. Those whose answers have no
//! bound, `cat` and `export`, print line by line, and their exit code says whether that was all; `tail` and `top` go on
//! until they are told to end.
//!
//! Exit codes: 0 done; 1 it found a problem (damage, a gap where a book was asked for, a check that failed);
//! 2 called wrongly (arguments, a root that does not exist, a name that is not there).
#![forbid(unsafe_code)]

mod bench;
mod book;
mod cat;
mod demo;
mod derive;
mod doctor;
mod exchange;
mod export;
mod external;
mod feed;
mod import;
mod ingest;
mod inspect;
mod ladder;
mod plot;
mod quality;
mod queues;
mod records;
mod refine;
mod replay;
mod run;
mod stop;
mod symbols;
mod tail;
mod tier;
mod top;
mod verify;
mod wal;

use clap::{Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode};

/// Messages at memory speed, events that survive a crash, a market-data archive.
#[derive(Parser)]
#[command(
    name = "chronicle",
    version,
    after_help = "\
Start here:
  chronicle demo
Your own recording, step by step:
  chronicle import --venue binance-spot --root market btcusdt_20240808.gz
  chronicle refine --root market --seal
  chronicle book   --root market --venue binance-spot --symbol btcusdt --at latest --depth 5
  chronicle tier run --once --root market --now 2024-08-12T00:00:00Z
  chronicle verify market
See what is stored:
  chronicle plot --root market --venue binance-spot --symbol btcusdt --date 2024-08-08 -o day.svg
  chronicle quality market --html -o quality.html
Watch it, and find out what is wrong:
  chronicle top market
  chronicle tail -f --root market
  chronicle doctor market
Who a symbol was, by a symbol table:
  chronicle symbols resolve dim_symbol.csv --venue binance-spot --symbol LUNAUSDT --at 2022-05-27
How fast this machine is, and how fast a disk makes records durable:
  chronicle bench host
  chronicle wal bench bench-here

Times are RFC 3339 in UTC. Exit code: 0 done, 1 a problem was found, 2 called wrongly."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Exchange(exchange::Args),
    Feed(feed::Args),
    Import(import::Args),
    Refine(refine::Args),
    #[command(subcommand)]
    Symbols(symbols::Command),
    #[command(subcommand)]
    Tier(tier::Command),
    Book(book::Args),
    Export(export::Args),
    Derive(derive::Args),
    Replay(replay::Args),
    Plot(plot::Args),
    Quality(quality::Args),
    Cat(cat::Args),
    Tail(tail::Args),
    Top(top::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Wal(wal::Command),
    #[command(subcommand)]
    Bench(bench::Command),
    /// The demo's own processes.
    #[command(subcommand, hide = true)]
    DemoPart(demo::Part),
    /// A program of its own.
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Exchange(args) => exchange::run(args),
        Command::Feed(args) => feed::run(args),
        Command::Import(args) => import::run(args),
        Command::Refine(args) => refine::run(args),
        Command::Symbols(command) => symbols::run(command),
        Command::Tier(command) => tier::run(command),
        Command::Book(args) => book::run(args),
        Command::Export(args) => export::run(args),
        Command::Derive(args) => derive::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Quality(args) => quality::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Top(args) => top::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Wal(command) => wal::run(command),
        Command::Bench(command) => bench::run(command),
        Command::DemoPart(part) => demo::part(part),
        Command::External(words) => return external::run(words),
    };
    run::exit(outcome)
}
