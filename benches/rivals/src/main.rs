//! Measures Chronicle beside other people's work and beside what the machine can do at best, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- [GROUP…] [--json] [--full] [--dir DIR]
//! ```
//!
//! Without a group, all of them. Groups `wal-…` need a disk: `--dir` says where, else temporary files' own place. `--json` prints one object a line; else a table with bars. Figures depend on the
//! machine and on the moment; ratios within a round do so much less, and targets are ratios wherever one exists:
//! `target` bounds `ratio` or, where `ratio` is null, `ours` in the case's unit. Ends with 0 whatever the figures say,
//! with 1 if a case could not be measured, with 2 on words that it does not know.
//!
//! Never here: a rival in its slowest setting, a figure of one run beside that of another.

mod append;
mod archive;
mod book;
mod broadcast;
mod contest;
mod discovery;
mod duel;
mod eventlog;
mod fan_in;
mod feed_parse;
mod ipc;
mod machine;
mod mpsc;
mod orders;
mod ping;
mod queue;
mod read;
mod recordings;
mod recover;
mod refine;
mod roll;
mod spsc;
mod table;
mod tick_to_order;
mod wakeup;
mod wal;

use contest::Line;
use std::{path::Path, process::ExitCode};

type Run = fn(&Path, &Choice, &mut dyn FnMut(Line)) -> Result<(), String>;

/// What was asked for.
pub struct Choice {
    /// The volumes that the targets speak of, instead of ones that show the same in a fifth of the time.
    pub full: bool,
}

const GROUPS: &[(&str, Run)] = &[
    ("append", |dir, _, out| append::run(dir, out)),
    ("read", |dir, _, out| read::run(dir, out)),
    ("ipc-queue", |dir, _, out| ping::run(dir, out)),
    ("roll", roll::run),
    ("recover", |dir, _, out| recover::run(dir, out)),
    ("archive", |dir, _, out| archive::run(dir, out)),
    ("book", |_, _, out| book::run(out).and_then(|()| orders::run(out))),
    ("refine", |_, _, out| refine::run(out)),
    ("spsc", |dir, _, out| spsc::run(dir, out)),
    ("mpsc", |dir, _, out| mpsc::run(dir, out)),
    ("broadcast", |dir, _, out| broadcast::run(dir, out)),
    ("ipc", |dir, _, out| ipc::run(dir, out)),
    ("eventlog", |dir, _, out| eventlog::run(dir, out)),
    ("wakeup", |dir, _, out| wakeup::run(dir, out)),
    ("fanin", |dir, _, out| fan_in::run(dir, out)),
    ("discovery", discovery::run),
    ("tick-to-order", |dir, _, out| tick_to_order::run(dir, out)),
    ("feed-parse", |dir, _, out| feed_parse::run(dir, out)),
    ("wal-sync", |dir, _, out| wal::sync(dir, out)),
    ("wal-nosync", |dir, _, out| wal::nosync(dir, out)),
    ("wal-recover", wal::recover),
    ("wal-damage", |dir, _, out| wal::damage::run(dir, out)),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "child") {
        return child(&words[1..]);
    }
    let (mut json, mut choice, mut groups) = (false, Choice { full: false }, Vec::new());
    let mut disk = std::env::temp_dir();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--dir" => match rest.next() {
                Some(dir) => disk = dir.into(),
                None => {
                    eprintln!("--dir: a directory on a disk must follow");
                    return ExitCode::from(2);
                }
            },
            "--json" => json = true,
            "--full" => choice.full = true,
            name => match GROUPS.iter().find(|group| group.0 == name) {
                Some(group) => groups.push(group),
                None => {
                    let known: Vec<&str> = GROUPS.iter().map(|group| group.0).collect();
                    eprintln!(
                        "{name}: no such group or flag; groups: {}; flags: --json --full --dir DIR",
                        known.join(" ")
                    );
                    return ExitCode::from(2);
                }
            },
        }
    }
    if groups.is_empty() {
        groups.extend(GROUPS);
    }
    let (mut short, mut failed) = (Vec::new(), false);
    for (name, run) in groups {
        let result = scratch(name.starts_with("wal-").then_some(&*disk)).and_then(|dir| {
            run(dir.path(), &choice, &mut |line| {
                if json {
                    println!("{}", line.json());
                } else {
                    println!("{}", table::show(&line));
                }
                if !line.ok {
                    short.push(format!("{}: {}", line.group, line.case));
                }
            })
        });
        if let Err(reason) = result {
            eprintln!("{name}: {reason}");
            failed = true;
        }
    }
    if !json {
        match short.len() {
            0 if failed => println!("not everything was measured; no target of the rest is missed"),
            0 => println!("every target met"),
            n => println!("{n} short of target:\n  {}", short.join("\n  ")),
        }
    }
    ExitCode::from(u8::from(failed))
}

/// A directory in memory, or on the disk that is named, gone when dropped.
fn scratch(disk: Option<&Path>) -> Result<tempfile::TempDir, String> {
    let made = |parent: &Path| {
        let dir = tempfile::Builder::new().prefix("chronicle-rivals-").tempdir_in(parent);
        dir.map_err(|it| format!("{}: {it}", parent.display()))
    };
    if let Some(disk) = disk {
        return made(disk);
    }
    let memory = chronicle_platform::Platform::memory_dir(&chronicle_platform_linux::Linux);
    let parent = memory.unwrap_or_else(|| {
        eprintln!("no directory in memory: measured on disk, figures mean little");
        std::env::temp_dir()
    });
    made(&parent)
}

/// The other process of a case.
fn child(words: &[String]) -> ExitCode {
    // It spins: it must not outlive who started it, however that one ends.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["pong", how, dir] => ping::pong(how, Path::new(dir)),
        ["discovery-hold", from, to, dir] => discovery::hold(from, to, Path::new(dir)),
        ["tick-strategy", dir] => tick_to_order::strategy(Path::new(dir)),
        [what @ ("ipc-stream" | "ipc-trip"), how, dir] => ipc::child(what, how, Path::new(dir)),
        ["roll-write", how, warm, count, dir] => roll::write(how, warm, count, Path::new(dir)),
        ["roll-read", warm, count, dir] => roll::read(warm, count, Path::new(dir)),
        ["wal-damage-write", name, dir] => wal::damage::write(name, Path::new(dir)),
        ["wal-damage-read", name, dir] => wal::damage::read(name, Path::new(dir)),
        ["recover-write", segments, mib, dir] => recover::write(segments, mib, Path::new(dir)),
        _ => Err(format!("{}: not a child's words", words.join(" "))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("child {}: {reason}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
