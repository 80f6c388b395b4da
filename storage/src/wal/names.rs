//! Names in a WAL's directory. Nothing here touches a file.
//!
//! ```text
//! {id, 20 digits}.wal          a segment
//! next-{id}.tmp                one that is being written, before it is published
//! spare-{n, 20 digits}.spare   a file at full length, to become a segment; its content means nothing
//! spare-{n}.tmp                one that is being written
//! {id}.wal.cut                 what `cut` put aside: kept for people, read by nobody
//! state.meta writer.lock alive.lock
//! ```
//!
//! Whatever has another name is not ours, and is left alone.

use std::path::{Path, PathBuf};

/// Digits of an id in a name: any `u64`, so that names sort as numbers do.
const DIGITS: usize = 20;

/// A WAL's directory.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    dir: PathBuf,
}

impl Names {
    pub(crate) fn new(dir: &Path) -> Self {
        Names { dir: dir.to_path_buf() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A segment.
    pub(crate) fn segment(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:0DIGITS$}.wal"))
    }

    /// A segment that a takeover writes, before it is published.
    pub(crate) fn next(&self, id: u64) -> PathBuf {
        self.dir.join(format!("next-{id:0DIGITS$}.tmp"))
    }

    /// A file that can become a segment.
    pub(crate) fn spare(&self, n: u64) -> PathBuf {
        self.dir.join(format!("spare-{n:0DIGITS$}.spare"))
    }

    /// A spare before all of it is written and synced.
    pub(crate) fn making_spare(&self, n: u64) -> PathBuf {
        self.dir.join(format!("spare-{n:0DIGITS$}.tmp"))
    }

    /// A segment that was put aside.
    pub(crate) fn cut(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:0DIGITS$}.wal.cut"))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state.meta")
    }
    pub(crate) fn writer_lock(&self) -> PathBuf {
        self.dir.join("writer.lock")
    }
    pub(crate) fn alive_lock(&self) -> PathBuf {
        self.dir.join("alive.lock")
    }
}

/// What a name in the directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A segment of this id.
    Segment(u64),
    /// One that was never published.
    Next(u64),
    /// A spare.
    Spare(u64),
    /// A spare that is not whole.
    MakingSpare(u64),
    /// A segment that was put aside.
    Cut(u64),
    /// Not ours, or no file of the log.
    Other,
}

/// What `name` means.
pub(crate) fn parse(name: &str) -> Named {
    let id = |before: &str, behind: &str| {
        let digits = name.strip_prefix(before)?.strip_suffix(behind)?;
        if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok()
    };
    let segment = id("", ".wal").map(Named::Segment);
    segment
        .or_else(|| id("next-", ".tmp").map(Named::Next))
        .or_else(|| id("spare-", ".spare").map(Named::Spare))
        .or_else(|| id("spare-", ".tmp").map(Named::MakingSpare))
        .or_else(|| id("", ".wal.cut").map(Named::Cut))
        .unwrap_or(Named::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_one_to_one() {
        let names = Names::new(Path::new("log"));
        let of = |path: PathBuf| parse(path.file_name().unwrap().to_str().unwrap());
        for id in [0, 1, 42, u64::MAX] {
            assert_eq!(of(names.segment(id)), Named::Segment(id));
            assert_eq!(of(names.next(id)), Named::Next(id));
            assert_eq!(of(names.spare(id)), Named::Spare(id));
            assert_eq!(of(names.making_spare(id)), Named::MakingSpare(id));
            assert_eq!(of(names.cut(id)), Named::Cut(id));
        }
        for other in [
            "1.wal",
            "00000000000000000001.wal.bak",
            "99999999999999999999.wal",
            "+0000000000000000001.wal",
            ".wal",
            "next-1.tmp",
            "state.meta",
            "00000000000000000001.q",
        ] {
            assert_eq!(parse(other), Named::Other, "{other}");
        }
    }
}
