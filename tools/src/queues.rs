//! Which queues lie under a directory: found by looking, as everything here is found.

use std::{
    fs,
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
