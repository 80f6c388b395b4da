//! What files say by their names, first bytes and rights.

use super::{Cure, Finding, Level, Patient};
use crate::run::{Word, name_of};
use chronicle::{
    core::layout::MAGIC,
    storage::{
        queue::layout::{CONTROL_MAGIC, CURSOR_MAGIC, INDEX_MAGIC, VERSION},
        recorder::RECORDER,
        root::is_temporary,
    },
};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A file that is being made was written to more recently than this.
const FRESH: Duration = Duration::from_secs(60);
/// How many files a sentence names.
const NAMED: usize = 3;

/// What was seen of all files, by the place that a finding is about.
#[derive(Default)]
struct Seen {
    /// Version -> files.
    versions: BTreeMap<u16, Vec<PathBuf>>,
    leftovers: BTreeMap<PathBuf, Vec<PathBuf>>,
    rights: BTreeMap<(PathBuf, Right), Vec<(PathBuf, u32)>>,
    owners: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Directories that may not be looked into.
    closed: Vec<PathBuf>,
}

/// A right that somebody has and should not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// Anybody writes it.
    AnyoneWrites,
    /// Anybody makes and removes what lies in it.
    AnyoneMakes,
    /// More than its owner opens a writer's lock.
    Lock,
    /// Its group writes the word that the writer maps.
    WakeByGroup,
    /// Anybody reads it.
    AnyoneReads,
}

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    let mut seen = Seen::default();
    let root = &patient.root;
    for dir in [&root.hot, &root.warm, &root.cold, &root.state] {
        visit(dir, dir == &root.hot, 0, &mut seen);
    }
    versions(patient, seen.versions, findings);
    leftovers(patient, seen.leftovers, findings);
    rights(seen.rights, findings);
    // What a queue says of itself, `queues` tells.
    for dir in seen.closed.into_iter().filter(|dir| !patient.queues.contains(dir)) {
        let fix = patient.as_owner_of(&dir);
        findings.push(Finding::problem(
            "no-permission",
            dir,
            "the directory may not be looked into: permission denied".to_owned(),
            "what lies in it was not examined: that nothing else is told of it does not say that it is well",
            fix,
        ));
    }
    for (dir, files) in seen.owners {
        findings.push(Finding::problem(
            "owner-mixed",
            &dir,
            format!("{} belong to others than the directory's owner: {}", files_of(files.len()), named(&files)),
            "whoever runs next under another user cannot open them, and stops",
            format!("sudo chown -R --reference={0} {0}", Word(&dir)),
        ));
    }
}

fn visit(dir: &Path, hot: bool, depth: usize, seen: &mut Seen) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                seen.closed.push(dir.to_owned());
            }
            return;
        }
    };
    let owner = fs::metadata(dir).map(|meta| meta.uid()).ok();
    for entry in entries.flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
        if meta.is_dir() {
            if meta.mode() & 0o002 != 0 {
                let mode = meta.mode() & 0o7775;
                seen.rights.entry((dir.into(), Right::AnyoneMakes)).or_default().push((path.clone(), mode));
            }
            // Deeper than anything of ours lies.
            if depth < 10 {
                visit(&path, hot, depth + 1, seen);
            }
        } else if meta.is_file() {
            let name = name_of(&path);
            if is_leftover(&name) && meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FRESH)) {
                seen.leftovers.entry(dir.into()).or_default().push(path.clone());
            }
            if let Some(version) = version(&path, &name)
                && version != VERSION
            {
                seen.versions.entry(version).or_default().push(path.clone());
            }
            if owner.is_some_and(|owner| owner != meta.uid()) && hot {
                seen.owners.entry(dir.into()).or_default().push(path.clone());
            }
            let mode = meta.mode() & 0o7777;
            let wrong = if mode & 0o002 != 0 {
                Some((Right::AnyoneWrites, mode & !0o006))
            } else if name == "writer.lock" && mode & 0o077 != 0 {
                Some((Right::Lock, mode & !0o077))
            } else if name == "wake.meta" && mode & 0o020 != 0 {
                Some((Right::WakeByGroup, mode & !0o020))
            } else if hot && mode & 0o004 != 0 {
                Some((Right::AnyoneReads, mode & !0o007))
            } else {
                None
            };
            if let Some((right, to)) = wrong {
                seen.rights.entry((dir.into(), right)).or_default().push((path, to));
            }
        }
    }
}

/// Whether a name is of a file that was being made, or that was about to go.
fn is_leftover(name: &str) -> bool {
    is_temporary(name) || name.ends_with(".fresh") || name.ends_with(".retired")
}

/// What a file of ours says that its version is.
fn version(path: &Path, name: &str) -> Option<u16> {
    if !(name.ends_with(".q") || name.ends_with(".meta") || name.ends_with(".idx")) {
        return None;
    }
    let mut first = [0; 10];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).ok()?;
    let (magic, version) = first.split_at(8);
    let ours = [MAGIC, CONTROL_MAGIC, CURSOR_MAGIC, INDEX_MAGIC].iter().any(|known| known == magic);
    // Zero is no version: a file that was never finished, or damage, which `verify` names.
    (ours && version != [0, 0]).then(|| u16::from_le_bytes([version[0], version[1]]))
}

fn versions(patient: &Patient, versions: BTreeMap<u16, Vec<PathBuf>>, findings: &mut Vec<Finding>) {
    for (version, files) in versions {
        let place = files.first().and_then(|file| file.parent()).unwrap_or(&patient.root.hot).to_owned();
        findings.push(Finding::problem(
            "versions-mixed",
            place,
            format!(
                "{} of format version {version}; this command knows {VERSION}: {}",
                files_of(files.len()),
                named(&files)
            ),
            "a newer program has written here: what is older refuses these files, so it cannot share queues with it",
            format!(
                "install the newer release for everything that uses this root; this is {}",
                env!("CARGO_PKG_VERSION")
            ),
        ));
    }
}

fn leftovers(patient: &Patient, leftovers: BTreeMap<PathBuf, Vec<PathBuf>>, findings: &mut Vec<Finding>) {
    for (dir, paths) in leftovers {
        let bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum();
        let locks = locks_of(patient, &dir, &paths);
        let fix = format!("rm {}", paths.iter().map(|path| Word(path).to_string()).collect::<Vec<_>>().join(" "));
        findings.push(
            Finding {
                level: Level::Advice,
                ..Finding::problem(
                    "leftovers",
                    &dir,
                    format!(
                        "{} that a crash left, {}: {}",
                        files_of(paths.len()),
                        crate::run::Size(bytes),
                        named(&paths)
                    ),
                    "nobody reads them and they take space; whoever makes such files next removes most of them",
                    fix,
                )
            }
            .with(Cure::Remove { paths, locks }),
        );
    }
}

/// Whoever makes such files holds one of these.
fn locks_of(patient: &Patient, dir: &Path, paths: &[PathBuf]) -> Vec<PathBuf> {
    // A queue's own files, its index, its cursors: each of those is locked itself while it is made.
    if let Some(queue) = patient.queues.iter().find(|queue| dir.starts_with(queue)) {
        let mut locks = vec![queue.join("writer.lock")];
        if dir.ends_with("readers") {
            locks.extend_from_slice(paths);
        }
        return locks;
    }
    // Tiers and checkpoints: the tier manager, the refineries, the recorders.
    let state = &patient.root.state;
    let mut locks = vec![state.join("tier.lock")];
    for entry in fs::read_dir(state.join("refine")).into_iter().flatten().flatten() {
        if name_of(&entry.path()).ends_with(".lock") {
            locks.push(entry.path());
        }
    }
    locks.extend(patient.queues.iter().map(|queue| queue.join("readers").join(format!("{RECORDER}.meta"))));
    locks
}

fn rights(rights: BTreeMap<(PathBuf, Right), Vec<(PathBuf, u32)>>, findings: &mut Vec<Finding>) {
    for ((dir, right), files) in rights {
        let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
        let (count, names) = (files_of(files.len()), named(&paths));
        let (what, why, away) = match right {
            Right::AnyoneWrites => (
                format!("{count} can be written by anyone: {names}"),
                "any user of this machine can forge frames, or cut a file under a process that maps it and end that",
                "o-rw",
            ),
            Right::AnyoneMakes => (
                match files.len() {
                    1 => format!("a directory can be written by anyone: {names}"),
                    count => format!("{count} directories can be written by anyone: {names}"),
                },
                "any user of this machine can put queues and registrations there, and take away those of others",
                "o-w",
            ),
            Right::Lock => (
                format!("{count} can be opened by others than the owner: {names}"),
                "whoever can open a writer's lock can hold it, and so keep every writer out",
                "go-rwx",
            ),
            Right::WakeByGroup => (
                format!("{count} can be written by its group: {names}"),
                "whoever can write the wake word can cut the file and end the writer; right only for readers trusted so far",
                "g-w",
            ),
            Right::AnyoneReads => (
                format!("{count} can be read by anyone: {names}"),
                "orders and cursors are for the owner and its group; files are made 0640, so somebody changed it",
                "o-rwx",
            ),
        };
        let fix = if paths.len() <= NAMED {
            let words = paths.iter().map(|path| Word(path).to_string()).collect::<Vec<_>>();
            format!("chmod {away} {}", words.join(" "))
        } else {
            format!("chmod -R {away} {}", Word(&dir))
        };
        let level = if right == Right::AnyoneReads { Level::Advice } else { Level::Problem };
        let finding = Finding { level, ..Finding::problem("rights", &dir, what, why, fix) };
        // A group that may wake is perhaps meant to.
        let safe = right != Right::WakeByGroup;
        findings.push(if safe { finding.with(Cure::Rights { paths: files }) } else { finding });
    }
}

fn files_of(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

fn named(paths: &[PathBuf]) -> String {
    let mut text = paths.iter().take(NAMED).map(|path| name_of(path)).collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        text += ", …";
    }
    text
}
