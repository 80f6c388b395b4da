//! `chronicle verify`: every CRC, seq, index and checksum.

use crate::run::{Count, Failure, Outcome, Size, bytes_bar, print_json, with_stdout};
use chronicle::{
    System,
    etl::{
        self,
        refine::{durable_lens, is_checkpoint, venues, verify_checkpoint},
    },
    storage::{
        root::{Root, Tier},
        verify::{Options, Problem, Report, verify_with},
    },
};
use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
};

/// Check every byte of a file, a queue, a partition's directory or a whole root
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle verify market
  chronicle verify market/cold/v1/binance-spot/btcusdt/2024-08-08/book.q.zst --json

Exit code 1 if anything is damaged; each problem names file and offset. A torn tail behind the last durable position of
a file that is still open is not damage, and is told; so is a slot of control.meta or of a reader's cursor that whoever
stored it may have been killed in. A file is known by its first bytes: meta.json, control.meta, a reader's cursor, an
index and a refinery's checkpoint can be checked by themselves.")]
pub(crate) struct Args {
    /// A root, a tier, a day's directory, a queue's directory, or a file
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// One JSON object: {files, bytes, frames, problems: [{path, offset, what}], …}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    if !args.path.exists() {
        return Err(Failure::Usage(format!("{}: no such file or directory", args.path.display())));
    }
    let bar = bytes_bar(0, "verify");
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let durable = Durable::around(&args.path);
    let options = Options { synced_len: &|path| durable.len_of(path), ..Options::default() };
    let report = if is_checkpoint(&System, &args.path) {
        let mut report = Report { small_files: 1, ..Report::default() };
        report
            .problems
            .extend(verify_checkpoint(&System, &args.path).err().map(|error| problem_of(&error, &args.path)));
        report
    } else {
        let mut report = verify_with(&System, &args.path, options, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
        // Of a file they say up to where it is durable; of a directory they are part.
        report.small_files += if args.path.is_dir() { durable.checkpoints } else { 0 };
        report.problems.extend(durable.problems);
        report
    };
    bar.finish_and_clear();
    if args.json {
        print_json(&report)?;
    } else {
        with_stdout(|out| tell(out, &report))?;
    }
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::told()) }
}

/// What the refinery's checkpoints say about files that still grow.
#[derive(Default)]
pub(crate) struct Durable {
    lens: HashMap<PathBuf, u64>,
    problems: Vec<Problem>,
    /// Checkpoints that were read.
    checkpoints: u64,
}

impl Durable {
    /// Of the root that the path is, or in whose warm tier or state it lies.
    pub(crate) fn around(path: &Path) -> Self {
        let mut durable = Durable::default();
        let has_state = |dir: &Path| dir.join("state").join("refine").is_dir();
        // Told in the words of the call where that is the root.
        let is_root = has_state(path);
        let Ok(whole) = path.canonicalize() else { return durable };
        let dir = if is_root { Some(path) } else { whole.ancestors().find(|dir| has_state(dir)) };
        let Some(dir) = dir else { return durable };
        let root = Root::new(dir);
        if !is_root && !whole.starts_with(&root.warm) && !whole.starts_with(&root.state) {
            return durable;
        }
        for venue in venues(&System, &root).unwrap_or_default() {
            match durable_lens(&System, &root, &venue) {
                Ok(lens) => {
                    durable.checkpoints += 1;
                    for (id, len) in lens {
                        let file = root.partition(Tier::Warm, &id);
                        let asked = is_root || file.starts_with(&whole);
                        if asked && !file.exists() && !root.partition(Tier::Cold, &id).exists() {
                            let what = format!("missing: {len} bytes of it were durable");
                            durable.problems.push(Problem { path: file, offset: None, what });
                        } else if let Ok(file) = file.canonicalize() {
                            durable.lens.insert(file, len);
                        }
                    }
                }
                Err(error) => durable.problems.push(problem_of(&error, dir)),
            }
        }
        durable
    }

    /// Up to where a file is durable, if that is known.
    pub(crate) fn len_of(&self, path: &Path) -> Option<u64> {
        if self.lens.is_empty() {
            return None;
        }
        self.lens.get(&path.canonicalize().ok()?).copied()
    }
}

fn problem_of(error: &etl::Error, fallback: &Path) -> Problem {
    match error {
        etl::Error::Storage(error) if error.path().is_some() => Problem {
            path: error.path().unwrap_or(fallback).to_owned(),
            offset: error.offset(),
            what: told_without_place(error),
        },
        error => Problem { path: fallback.to_owned(), offset: None, what: crate::run::chain(error) },
    }
}

/// An error's text without path and offset, which stand before it in the report.
fn told_without_place(error: &chronicle::storage::Error) -> String {
    let text = crate::run::chain(error);
    let mut rest = text.as_str();
    if let Some(path) = error.path() {
        rest = rest.strip_prefix(&format!("{}: ", path.display())).unwrap_or(rest);
    }
    if let Some(offset) = error.offset() {
        rest = rest.strip_prefix(&format!("offset {offset}: ")).unwrap_or(rest);
    }
    rest.to_owned()
}

fn tell(out: &mut dyn Write, report: &Report) -> Outcome {
    for problem in &report.problems {
        writeln!(out, "damaged: {problem}")?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(
        out,
        "{}, {} frames, {}: {}",
        match report.files + report.small_files {
            1 => "1 file".to_owned(),
            n => format!("{} files", Count(n)),
        },
        Count(report.frames),
        Size(report.bytes),
        match report.problems.len() {
            0 if report.files + report.queues + report.small_files == 0 => "nothing of ours is here".to_owned(),
            0 => "whole".to_owned(),
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        }
    )?;
    Ok(())
}
