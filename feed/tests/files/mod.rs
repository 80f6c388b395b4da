//! Where recordings lie.

// A test that has use for one of the two places has none for the other.
#![allow(dead_code)]

use std::path::PathBuf;

/// A file of the repository.
pub(crate) fn testdata(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata")).join(path)
}

/// A file beside the repository; those who have only the repository do without.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let found = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: no recording at {}", found.display());
    None
}
