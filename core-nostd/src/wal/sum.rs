//! The checksum of frames: a CRC-32 that a segment's salt starts.

use core::fmt;
use crc32fast::Hasher;

/// A sum with nothing in it but the salt. Made once for a segment and copied for each frame: to make one asks what the
/// processor can do, and that costs as much as summing 16 bytes.
#[derive(Clone)]
pub(super) struct Salted {
    start: Hasher,
    salt: u32,
}

impl Salted {
    pub(super) fn new(salt: u32) -> Self {
        Salted { start: Hasher::new_with_initial(salt), salt }
    }

    pub(super) fn salt(&self) -> u32 {
        self.salt
    }

    #[inline]
    pub(super) fn start(&self) -> Hasher {
        self.start.clone()
    }
}

impl fmt::Debug for Salted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Salted").field(&self.salt).finish()
    }
}
