//! Where the log goes, and how long it may be there.

use crate::{Args, run::Failed};
use chronicle::{
    System,
    platform::{Medium, Platform},
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The longest log that nobody asked for.
const LONGEST: u64 = 4 << 30;

/// A place for a log.
pub(crate) enum Place {
    /// Memory of this process.
    Memory,
    /// A file, and the directory that is made for it if it has one of its own.
    File { path: PathBuf, dir: Option<TempDir> },
}

impl Place {
    pub(crate) fn choose(args: &Args) -> Result<Self, Failed> {
        if args.memory {
            return Ok(Place::Memory);
        }
        if let Some(path) = &args.persist {
            if std::fs::symlink_metadata(path).is_ok() {
                return Err(Failed::call(format!("{}: exists, and would be removed at the end", path.display())));
            }
            return Ok(Place::File { path: path.clone(), dir: None });
        }
        let parent = System.memory_dir().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new().prefix("chronicle-stress-").tempdir_in(&parent);
        let dir = dir.map_err(|error| Failed::trouble(format!("{}: {error}", parent.display())))?;
        Ok(Place::File { path: dir.path().join("events.evtl"), dir: Some(dir) })
    }

    /// Bytes of the log when nobody said how many: half of what is free, and not above [`LONGEST`].
    pub(crate) fn bytes(&self) -> Result<u64, Failed> {
        let (free, in_memory) = match self {
            Place::Memory => (u64::MAX, true),
            Place::File { path, .. } => {
                let dir = match path.parent() {
                    Some(dir) if dir != Path::new("") => dir,
                    _ => Path::new("."),
                };
                let free = System.free_bytes(dir).map_err(|trouble| Failed::trouble(text(&trouble)))?;
                let medium = System.medium(dir).map_err(|trouble| Failed::trouble(text(&trouble)))?;
                (free, medium == Medium::Memory)
            }
        };
        // A file system in memory promises its whole size, whatever else is in the memory.
        let free = if in_memory { free.min(available_memory().unwrap_or(u64::MAX)) } else { free };
        Ok(LONGEST.min(free / 2))
    }

    /// What to call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Place::Memory => "memory of this process".into(),
            Place::File { path, .. } => path.display().to_string(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Place::File { path, dir: None } = self {
            // There is none if it could not be made.
            _ = std::fs::remove_file(path);
        }
    }
}

/// Memory that can be had without swapping, where the system says so in a file.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// An error with what lies beneath it.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
