//! One memory for each processor, on that processor's node: what a design of one ring for each core begins with.
//!
//! ```
//! use chronicle_platform::{MemoryOptions, Pool, sim::Sim};
//!
//! let machine = Sim::new(1);
//! let pool = Pool::new(&machine, 1 << 16, &MemoryOptions::default())?;
//! for share in pool.shares() {
//!     // In a thread of its own: share.enter(&machine)?, then its rings in share.memory.map.
//!     assert_eq!(share.memory.placement.got, share.processor.node);
//! }
//! # Ok::<(), chronicle_platform::Trouble>(())
//! ```
//!
//! Never here: threads. A program starts its own, and each [enters](Share::enter) its share.

use crate::{Memory, MemoryOptions, Platform, Processor, Result, Trouble};

/// One memory for each processor that the calling thread may run on.
#[derive(Debug)]
pub struct Pool<P: Platform> {
    shares: Vec<Share<P>>,
}

/// What one processor has.
#[derive(Debug)]
pub struct Share<P: Platform> {
    /// The processor.
    pub processor: Processor,
    /// Its memory, every page present; see its reports for what the pages are and where they lie.
    pub memory: Memory<P>,
    /// Why its pages are not pinned, where they are not.
    pub unpinned: Option<Trouble>,
}

impl<P: Platform> Pool<P> {
    /// Makes `len` bytes for each processor of the calling thread's mask, as `options` say but on the processor's own
    /// node, pinned where the limits allow it. A name in `options` is refused: there is one memory for each.
    ///
    /// # Errors
    ///
    /// Where processors cannot be told ([`crate::TroubleKind::Unsupported`]) or memory is not to be had.
    pub fn new(platform: &P, len: usize, options: &MemoryOptions<'_>) -> Result<Pool<P>> {
        if let Some(name) = options.name {
            let why = "a pool's memories have no names; hand over each file instead";
            return Err(Trouble::new("make pool", name, std::io::Error::new(std::io::ErrorKind::InvalidInput, why)));
        }
        let shares = platform.processors()?.into_iter().map(|processor| {
            let memory = platform.memory(len, &MemoryOptions { node: processor.node, ..*options })?;
            let unpinned = platform.lock_memory(&memory.map).err();
            Ok(Share { processor, memory, unpinned })
        });
        Ok(Pool { shares: shares.collect::<Result<_>>()? })
    }

    /// One for each processor, by its number.
    #[must_use]
    pub fn shares(&self) -> &[Share<P>] {
        &self.shares
    }

    /// The shares themselves, for the threads that will own them.
    #[must_use]
    pub fn into_shares(self) -> Vec<Share<P>> {
        self.shares
    }
}

impl<P: Platform> Share<P> {
    /// Keeps the calling thread on this share's processor.
    ///
    /// # Errors
    ///
    /// As [`Platform::run_on`].
    pub fn enter(&self, platform: &P) -> Result<()> {
        platform.run_on(self.processor.id)
    }
}
