//! How often the device was really told to write its cache down: what a promise of durability comes to in the end.
//!
//! The kernel counts flushes per device, whoever asked for them; a quiet machine makes the figure the contestant's own.
//! A device that takes a write with FUA instead (`queue/fua` is 1) flushes without being counted, a file system in memory
//! has no device at all: then the figure is absent, never 0.

use std::{
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The counter of the device under a directory.
#[derive(Clone, Debug)]
pub struct Flushes(PathBuf);

impl Flushes {
    /// Of the device that `dir` is on.
    ///
    /// # Errors
    ///
    /// In words, if its flushes cannot be counted.
    pub fn under(dir: &Path) -> Result<Self, String> {
        let device = std::fs::metadata(dir).map_err(|it| format!("{}: {it}", dir.display()))?.st_dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let found = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
            .map_err(|_| format!("{}: on no block device (device {major}:{minor})", dir.display()))?;
        // A partition's flushes are counted by the disk.
        let disk = if found.join("partition").exists() { found.parent().unwrap_or(&found).to_owned() } else { found };
        let cache = std::fs::read_to_string(disk.join("queue/write_cache")).unwrap_or_default();
        if cache.trim() != "write back" {
            return Err(format!("{}: the device says that it has no cache to flush", disk.display()));
        }
        if std::fs::read_to_string(disk.join("queue/fua")).is_ok_and(|fua| fua.trim() == "1") {
            return Err(format!("{}: the device takes FUA writes, which are not counted", disk.display()));
        }
        let counter = Flushes(disk.join("stat"));
        counter.so_far().ok_or_else(|| format!("{}: no flush counter", disk.display()))?;
        Ok(counter)
    }

    /// Flushes since the machine started.
    pub fn so_far(&self) -> Option<u64> {
        // The sixteenth of seventeen numbers: "flush I/Os".
        std::fs::read_to_string(&self.0).ok()?.split_whitespace().nth(15)?.parse().ok()
    }
}
