//! A file that is written beside its name, and takes that when it is whole: whoever looks for it finds none, or all of it.

use crate::run::{Failure, Outcome};
use std::{
    fs::{self, File},
    io::BufWriter,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub(crate) struct Aside {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Aside {
    /// Makes the directories above it, too.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let refused = |error| Failure::Usage(format!("{}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(refused)?;
        let builder = tempfile::Builder::new()
            .prefix(".chronicle-")
            .permissions(fs::Permissions::from_mode(0o640))
            .tempfile_in(dir);
        Ok(Aside { file: builder.map_err(refused)?, path: path.to_owned() })
    }

    /// Where to write.
    pub(crate) fn out(&self) -> BufWriter<&File> {
        BufWriter::with_capacity(1 << 16, self.file.as_file())
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> Result<u64, Failure> {
        Ok(self.file.as_file().metadata()?.len())
    }

    /// Gives it its name.
    pub(crate) fn publish(self) -> Outcome {
        let Aside { file, path } = self;
        match file.persist(&path) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Problem(format!("{}: {}", path.display(), error.error))),
        }
    }
}
