//! Processors: Darwin tells neither which ones a thread may run on nor lets it stay on one.

use chronicle_platform::{Processor, Result, Trouble};
use std::io;

/// Not on this system.
pub(crate) fn processors() -> Result<Vec<Processor>> {
    Err(Trouble::new("list processors", "processors", io::ErrorKind::Unsupported))
}

/// Not on this system.
pub(crate) fn run_on(_processor: u32) -> Result<()> {
    Err(Trouble::new("run on a processor", "processors", io::ErrorKind::Unsupported))
}
