//! `chronicle doctor`: what is wrong with a root and with the machine under it, why it matters, and what to do.
//!
//! A check looks and says; it changes nothing, takes no lock that a writer or reader needs for longer than a look, and a
//! root on which processes are at work may be examined. What `--fix` does is only what cannot lose a frame: registrations
//! of the dead are removed, the recorder is run, a cursor that nobody can read is put aside, remains of crashes are
//! removed under the lock of whoever makes such files, rights are taken away. All else is a command for whoever knows
//! what is to be done.
//!
//! | Where | What is looked for |
//! |---|---|
//! | `registrations.rs` | owners that died or stand still, what is no registration |
//! | `queues.rs` | damage, writers that died or stand still, readers that hold segments back, cursors, clocks, overflows |
//! | `files.rs` | versions that are not ours, remains of crashes, rights |
//! | `host.rs` | room, locked memory, huge pages |
//!
//! Never here: bytes of payloads checked (`chronicle verify` does), a process that is killed.

mod files;
mod host;
mod queues;
mod registrations;

use crate::run::{Count, Failure, Outcome, TierArgs, Word, must_be_directory, print_json, with_stdout};
use chronicle::{
    System,
    bus::{Entry, Layout, Swept, sweep_entry},
    platform::{File, Lock, Open, Platform},
    storage::{
        recorder,
        root::{Name, Root},
    },
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Find what is wrong with a root, say why it matters and what to do
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle doctor market
  chronicle doctor market --fix
  chronicle doctor market --json

Each finding is a problem or advice, with the command that fixes it. --fix does those that cannot lose a frame, and says
what it did. Exit code: 0 no problem is left, 1 a problem is, 2 called wrongly. Advice alone is exit code 0.")]
pub(crate) struct Args {
    /// A root, or its hot tier
    #[arg(value_name = "ROOT")]
    root: PathBuf,
    #[command(flatten)]
    tiers: TierArgs,
    /// Do what is safe
    #[arg(long)]
    fix: bool,
    /// One JSON object: {root, queues, findings: [{id, level, path, what, why, fix, safe, fixed}]}
    #[arg(long)]
    json: bool,
}

/// Findings of a kind that people are shown.
const TOLD: usize = 8;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Something does not work, or will not.
    Problem,
    /// It works, and could work better.
    Advice,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    /// Which check found it; the same word in every version.
    id: &'static str,
    level: Level,
    /// Where.
    path: PathBuf,
    /// What is so, in one sentence.
    what: String,
    /// What comes of it.
    why: &'static str,
    /// A command, or what to do where no command does it.
    fix: String,
    /// Whether `--fix` does it.
    safe: bool,
    /// What `--fix` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    fixed: Option<String>,
    #[serde(skip)]
    cure: Option<Cure>,
}

impl Finding {
    fn problem(id: &'static str, path: impl Into<PathBuf>, what: String, why: &'static str, fix: String) -> Finding {
        let path = path.into();
        Finding { id, level: Level::Problem, path, what, why, fix, safe: false, fixed: None, cure: None }
    }

    fn advice(id: &'static str, path: impl Into<PathBuf>, what: String, why: &'static str, fix: String) -> Finding {
        Finding { level: Level::Advice, ..Finding::problem(id, path, what, why, fix) }
    }

    /// This can be done without asking.
    fn with(self, cure: Cure) -> Finding {
        Finding { safe: true, cure: Some(cure), ..self }
    }
}

/// What cannot lose a frame.
#[derive(Debug)]
enum Cure {
    /// Copy what has ended to where it is kept, as `import` and `feed` do.
    Record { root: Root, venue: Name },
    /// Put a cursor that cannot be read beside its name, under its lock.
    Aside { path: PathBuf },
    /// Remove what a dead owner left of its registration, under the owner's lock.
    Sweep { layout: Layout, entry: Entry },
    /// Remove remains of crashes, while these locks are held.
    Remove { paths: Vec<PathBuf>, locks: Vec<PathBuf> },
    /// Take rights away.
    Rights { paths: Vec<(PathBuf, u32)> },
}

/// What is examined.
struct Patient {
    root: Root,
    /// Its name and its tiers' as it was called, for commands.
    called: String,
    queues: Vec<PathBuf>,
    now_ns: u64,
}

impl Patient {
    /// For what this user may not look at.
    fn as_owner_of(&self, path: &Path) -> String {
        format!("sudo -u $(stat -c %U {}) chronicle doctor {}", Word(path), self.called)
    }
}

#[derive(Serialize)]
struct Report {
    root: PathBuf,
    #[serde(skip)]
    called: String,
    queues: usize,
    findings: Vec<Finding>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let patient = patient(&args)?;
    let mut findings = Vec::new();
    registrations::examine(&patient, &mut findings);
    queues::examine(&patient, &mut findings);
    files::examine(&patient, &mut findings);
    host::examine(&patient, &mut findings);
    findings.sort_by(|a, b| (a.level, a.id, &a.path).cmp(&(b.level, b.id, &b.path)));
    let mut failed = Vec::new();
    if args.fix {
        for finding in &mut findings {
            match finding.cure.take().map(Cure::apply) {
                None => {}
                Some(Ok(did)) => finding.fixed = Some(did),
                Some(Err(Failure::Problem(why) | Failure::Usage(why))) => {
                    failed.push(format!("{}: not fixed: {why}", finding.path.display()));
                }
            }
        }
    }
    let left = findings.iter().any(|finding| finding.level == Level::Problem && finding.fixed.is_none());
    let report = Report { root: args.root.clone(), called: patient.called, queues: patient.queues.len(), findings };
    if args.json {
        print_json(&report)?;
    } else {
        with_stdout(|out| tell(out, &report, args.fix))?;
    }
    if !failed.is_empty() {
        return Err(Failure::Problem(failed.join("\nchronicle: ")));
    }
    if left { Err(Failure::told()) } else { Ok(()) }
}

fn patient(args: &Args) -> Result<Patient, Failure> {
    must_be_directory(&args.root)?;
    if !args.root.is_dir() {
        return Err(Failure::Usage(format!(
            "{}: no such root; `chronicle feed` and `chronicle import` make one",
            args.root.display()
        )));
    }
    let whole = args.tiers.apply(Root::new(&args.root));
    // One that may not be looked at is there.
    let absent = |dir: &Path| dir.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let has = |dirs: &[&Path]| dirs.iter().any(|dir| !absent(dir));
    let root = if has(&[&whole.hot, &whole.warm, &whole.cold, &whole.state]) {
        whole
    } else if has(&[&args.root.join("streams"), &args.root.join("orders")]) {
        // The bus knows nothing but a hot tier.
        whole.with_hot(&args.root)
    } else {
        return Err(Failure::Usage(format!(
            "{}: not a root: no hot, warm, cold or state in it, nor streams or orders; `chronicle feed` and \
             `chronicle import` make one",
            args.root.display()
        )));
    };
    let queues = crate::queues::of(&root);
    let called = format!("{}{}", Word(&args.root), args.tiers);
    Ok(Patient { root, called, queues, now_ns: System.now_ns() })
}

impl Cure {
    /// Does it, and says what it did.
    fn apply(self) -> Result<String, Failure> {
        match self {
            Cure::Record { root, venue } => {
                let recorded = recorder::run(&System, &root, &venue)?;
                Ok(format!("recorded {} segments of {venue}", recorded.segments))
            }
            Cure::Aside { path } => {
                let file = System.open(&path, Open::Write)?;
                if !file.try_lock(Lock::Exclusive)? {
                    return Err(Failure::Problem("somebody has it open".to_owned()));
                }
                let aside = (1u32..).map(|n| path.with_extension(format!("damaged-{n}"))).find(|aside| !aside.exists());
                let aside = aside.expect("bug: there are always more numbers");
                System.rename(&path, &aside)?;
                Ok(format!("put it aside as {}; the reader starts at the oldest frame", aside.display()))
            }
            Cure::Sweep { layout, entry } => match sweep_entry(&System, &layout, &entry) {
                Swept::Removed(_) => Ok(format!("removed what was left of {entry}")),
                Swept::Held => Err(Failure::Problem("somebody has registered it meanwhile".to_owned())),
                Swept::Refused(why) => Err(Failure::Problem(why)),
            },
            Cure::Remove { paths, locks } => {
                let held = hold(&locks)?.ok_or_else(|| Failure::Problem("somebody is at work there".to_owned()))?;
                let mut removed = 0;
                for path in &paths {
                    match fs::remove_file(path) {
                        Ok(()) => removed += 1,
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                drop(held);
                Ok(format!("removed {removed} {}", if removed == 1 { "file" } else { "files" }))
            }
            Cure::Rights { paths } => {
                for (path, mode) in &paths {
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
                }
                let one = if let [(path, mode)] = paths.as_slice() {
                    format!("{} has {mode:04o} now", path.display())
                } else {
                    format!("took the rights away from {}", paths.len())
                };
                Ok(one)
            }
        }
    }
}

/// Takes these locks; `None` if somebody has one of them. A lock whose file is not there is nobody's.
fn hold(locks: &[PathBuf]) -> Result<Option<Vec<<System as Platform>::File>>, Failure> {
    let mut held = Vec::new();
    for lock in locks {
        match System.open(lock, Open::Read) {
            Ok(file) if file.try_lock(Lock::Exclusive)? => held.push(file),
            Ok(_) => return Ok(None),
            Err(trouble) if trouble.kind() == chronicle::platform::TroubleKind::NotFound => {}
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Ok(Some(held))
}

fn tell(out: &mut dyn Write, report: &Report, fix: bool) -> Outcome {
    let mut told: BTreeMap<_, usize> = BTreeMap::new();
    for finding in &report.findings {
        let count = told.entry((finding.level, finding.id)).or_default();
        *count += 1;
        if *count > TOLD {
            continue;
        }
        let level = match (finding.level, &finding.fixed) {
            (_, Some(_)) => "fixed",
            (Level::Problem, None) => "problem",
            (Level::Advice, None) => "advice",
        };
        writeln!(out, "{level:<8} {}  [{}]", finding.what, finding.id)?;
        writeln!(out, "         in   {}", finding.path.display())?;
        writeln!(out, "         why  {}", finding.why)?;
        match &finding.fixed {
            Some(did) => writeln!(out, "         did  {did}")?,
            None => writeln!(out, "         fix  {}", finding.fix)?,
        }
        writeln!(out)?;
    }
    for ((_, id), count) in told.iter().filter(|(_, count)| **count > TOLD) {
        writeln!(out, "… and {} more  [{id}]; --json has all of them\n", Count((count - TOLD) as u64))?;
    }
    let open = |level| report.findings.iter().filter(|f| f.level == level && f.fixed.is_none()).count();
    let (problems, advice) = (open(Level::Problem), open(Level::Advice));
    let safe = report.findings.iter().filter(|f| f.safe && f.fixed.is_none()).count();
    let count = |n: usize, one: &str, more: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {more}") };
    write!(out, "{}: ", count(report.queues, "queue", "queues"))?;
    match (problems, advice) {
        (0, 0) => write!(out, "nothing is wrong")?,
        (0, _) => write!(out, "no problem, {}", count(advice, "piece of advice", "pieces of advice"))?,
        (_, 0) => write!(out, "{}", count(problems, "problem", "problems"))?,
        _ => write!(
            out,
            "{}, {}",
            count(problems, "problem", "problems"),
            count(advice, "piece of advice", "pieces of advice")
        )?,
    }
    if safe > 0 && !fix {
        write!(
            out,
            "; `chronicle doctor {} --fix` does {}",
            report.called,
            if safe == 1 { "one of them".to_owned() } else { format!("{safe} of them") }
        )?;
    }
    let fixed = report.findings.iter().filter(|finding| finding.fixed.is_some()).count();
    writeln!(out, "{}", if fixed > 0 { format!("; {fixed} fixed") } else { String::new() })?;
    Ok(())
}
