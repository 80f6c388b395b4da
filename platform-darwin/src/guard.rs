//! Staying alive where a peer cuts a mapped file: not on this system, so far.
//!
//! Nothing here could be tried out on a Darwin, and a handler that was never run is worse than a process that ends:
//! `Support` says that there is none, asking for one is refused, and nothing is ever marked as damaged.

use chronicle_platform::{Result, Trouble};
use std::{io, path::Path};

/// Not on this system.
pub(crate) fn guard(path: &Path) -> Result<()> {
    let trouble = Trouble::new("guard", path, io::ErrorKind::Unsupported);
    Err(trouble.noting("mappings are not guarded on Darwin; take memory only from whom you trust"))
}
