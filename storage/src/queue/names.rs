//! Names in a queue's directory. Nothing here touches a file.

use crate::root::{Name, NameError};
use std::path::{Path, PathBuf};

/// Digits of a segment id in a name: any `u64`, so that names sort as numbers do.
const DIGITS: usize = 20;

/// A queue's directory.
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
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.join("control.meta")
    }
    pub(crate) fn wake(&self) -> PathBuf {
        self.dir.join("wake.meta")
    }
    pub(crate) fn writer_lock(&self) -> PathBuf {
        self.dir.join("writer.lock")
    }
    pub(crate) fn alive_lock(&self) -> PathBuf {
        self.dir.join("alive.lock")
    }
    pub(crate) fn readers(&self) -> PathBuf {
        self.dir.join("readers")
    }
    pub(crate) fn index_dir(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// A segment of the queue.
    pub(crate) fn segment(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:0DIGITS$}.q"))
    }
    /// A segment before it is published.
    pub(crate) fn fresh(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:0DIGITS$}.fresh"))
    }
    /// A segment that left the queue.
    pub(crate) fn retired(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:0DIGITS$}.retired"))
    }
    pub(crate) fn index(&self, id: u64) -> PathBuf {
        self.index_dir().join(format!("{id:0DIGITS$}.idx"))
    }
    pub(crate) fn cursor(&self, name: &Name) -> PathBuf {
        self.readers().join(format!("{name}.meta"))
    }
    /// A cursor file before it is published. No [`Name`] begins with a dot.
    pub(crate) fn fresh_cursor(&self, name: &Name) -> PathBuf {
        self.readers().join(format!(".{name}.fresh"))
    }
}

/// Which segment a file name means.
pub(crate) fn segment_id(name: &str) -> Option<u64> {
    id_of(name, ".q")
}

/// Which segment an index file's name means.
pub(crate) fn index_id(name: &str) -> Option<u64> {
    id_of(name, ".idx")
}

/// Whether a file is one that only a crash leaves: not published yet, or no longer.
pub(crate) fn is_leftover(name: &str) -> bool {
    id_of(name, ".fresh").is_some() || id_of(name, ".retired").is_some() || name == "control.meta.fresh"
}

/// Whose cursor a file name means.
pub(crate) fn reader_name(file: &str) -> Option<Name> {
    Name::new(file.strip_suffix(".meta")?).ok()
}

/// A reader's name from outside.
pub(crate) fn parse_reader(name: &str) -> Result<Name, NameError> {
    Name::new(name)
}

fn id_of(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_one_to_one() {
        let names = Names::new(Path::new("q"));
        for id in [1, 42, u64::MAX] {
            let path = names.segment(id);
            assert_eq!(segment_id(path.file_name().unwrap().to_str().unwrap()), Some(id));
        }
        for other in ["1.q", "00000000000000000001.fresh", "99999999999999999999.q", "+0000000000000000001.q", ".q"] {
            assert_eq!(segment_id(other), None, "{other}");
        }
        assert!(is_leftover("00000000000000000001.retired"));
        assert!(reader_name("../x.meta").is_none() && reader_name("slow.meta").is_some());
    }
}
