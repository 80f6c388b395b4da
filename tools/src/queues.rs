//! Which queues and registrations lie under a directory: found by looking, as everything here is found.

use crate::run::{Failure, Outcome};
use chronicle::{
    bus::{Entry, Kind, Layout, layout::Place},
    storage::root::Root,
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Levels below which no queue of ours lies: `streams/clean/{venue}/{symbol}/{stream}/queue`, and two to spare.
const DEEP: usize = 8;

/// The queues under `dir`, itself included, in the order of their paths. Symbolic links are not followed, and what may not
/// be looked into is passed over.
pub(crate) fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit(dir, DEEP, &mut found);
    found.sort();
    found
}

fn visit(dir: &Path, deep: usize, found: &mut Vec<PathBuf>) {
    if fs::symlink_metadata(dir.join("control.meta")).is_ok() {
        found.push(dir.to_owned());
        return;
    }
    let Some(deep) = deep.checked_sub(1) else { return };
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), deep, found);
        }
    }
}

/// The first directory under `dir`, itself included, that may not be looked into, and why: queues may lie in it.
pub(crate) fn closed(dir: &Path) -> Option<(PathBuf, io::Error)> {
    fn visit(dir: &Path, deep: usize) -> Option<(PathBuf, io::Error)> {
        let mut below: Vec<PathBuf> = match fs::read_dir(dir) {
            Ok(entries) => entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some((dir.to_owned(), error)),
        };
        below.sort();
        let deep = deep.checked_sub(1)?;
        below.iter().find_map(|dir| visit(dir, deep))
    }
    visit(dir, DEEP)
}

/// Refuses to say that there is no queue under `dir` where some of it may not be looked into.
pub(crate) fn must_be_open(dir: &Path) -> Outcome {
    match closed(dir) {
        None => Ok(()),
        Some((closed, why)) => {
            let owner = closed.metadata().map(|it| it.uid()).ok();
            let ask =
                owner.map_or_else(String::new, |uid| format!("; it is user {uid}'s: ask as that user, or as root"));
            Err(Failure::Problem(format!("{}: may not be looked into: {why}{ask}", closed.display())))
        }
    }
}

/// The entries of the bus in a hot tier, registered or not, in their order.
pub(crate) fn entries(hot: &Path) -> Vec<Entry> {
    fn visit(layout: &Layout, branch: &Path, found: &mut Vec<Entry>) {
        for entry in fs::read_dir(branch).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match layout.place(&entry.path()) {
                Place::Branch => visit(layout, &entry.path(), found),
                Place::Entry(entry) => found.push(entry),
                Place::Elsewhere => {}
            }
        }
    }
    let (layout, mut found) = (Layout::new(hot), Vec::new());
    for kind in Kind::ALL {
        visit(&layout, &layout.kind_dir(kind), &mut found);
    }
    found.sort();
    found
}

/// All queues of a root: of its hot tier, and those that feeds overflow into.
pub(crate) fn of(root: &Root) -> Vec<PathBuf> {
    let mut found = below(&root.hot);
    found.extend(below(&overflows(root)));
    found
}

/// Where feeds put their overflow queues, unless told otherwise.
pub(crate) fn overflows(root: &Root) -> PathBuf {
    root.state.join("overflow")
}

/// The venue whose records overflowed into this queue, if it is such a queue.
pub(crate) fn overflow_venue(queue: &Path) -> Option<String> {
    let mut above = queue.ancestors().skip(1).map(|dir| dir.file_name().and_then(|name| name.to_str()));
    let (venue, overflow) = (above.next()??, above.next()??);
    (overflow == "overflow").then(|| venue.to_owned())
}

/// A queue's name for people: its path below the hot tier, without what is the same for all of its kind.
pub(crate) fn name(hot: &Path, queue: &Path) -> String {
    if let (Err(_), Some(venue)) = (queue.strip_prefix(hot), overflow_venue(queue)) {
        return format!("overflow/{venue}");
    }
    let path = queue.strip_prefix(hot).unwrap_or(queue);
    let text = path.to_string_lossy();
    let text = text.strip_prefix("streams/").unwrap_or(&text);
    match text.strip_prefix("orders/queue/") {
        Some(rest) => format!("orders/{rest}"),
        None if text.is_empty() => queue.to_string_lossy().into_owned(),
        None => text.strip_suffix("/queue").unwrap_or(text).to_owned(),
    }
}
