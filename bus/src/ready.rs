//! `READY`: an owner's word that its queues may be opened.
//!
//! ```text
//! READY, 128 B
//!   0  magic "CHRONRDY"             8  version u16 = 1 │ zero u16 │ zero u32
//!  16  boot_id [u8; 16]            32  owner [u8; 16]: the LEASE's
//!  48  epoch u64: the LEASE's      56  ready_ns u64: wall clock
//!  64  zero [u8; 60]              124  crc u32 (CRC-32 of bytes 0..124)
//! ```
//!
//! It is published: whoever finds the name finds all of it. Alone it means nothing: an owner that was killed leaves it
//! behind, so it counts only beside the held `LEASE` of the same owner ([`crate::lease`]).

use crate::{
    error::{Error, Result},
    lease::{Lease, Owner, crc_of},
};
use chronicle_platform::{File, Open, Platform};
use static_assertions::const_assert_eq;
use std::{
    mem::{offset_of, size_of},
    path::Path,
};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of a `READY`.
pub const MAGIC: [u8; 8] = *b"CHRONRDY";
/// The format.
pub const VERSION: u16 = 1;
/// Length of a `READY`.
pub const READY_LEN: usize = 128;

/// A `READY`'s bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawReady {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U16,
    /// Zero.
    pub zero16: U16,
    /// Zero.
    pub zero32: U32,
    /// The boot of the machine that it was made in.
    pub boot_id: [u8; 16],
    /// The registration.
    pub owner: [u8; 16],
    /// Which registration of the entry, from 1.
    pub epoch: U64,
    /// When it was made, wall clock.
    pub ready_ns: U64,
    /// Zero.
    pub zero: [u8; 60],
    /// CRC-32 of all before it.
    pub crc: U32,
}

const_assert_eq!(size_of::<RawReady>(), READY_LEN);
const_assert_eq!(offset_of!(RawReady, owner), 32);
const_assert_eq!(offset_of!(RawReady, epoch), 48);
const_assert_eq!(offset_of!(RawReady, crc), 124);

/// What a `READY` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The registration.
    pub owner: Owner,
    /// Which registration of the entry, from 1.
    pub epoch: u64,
    /// The boot of the machine that it was made in.
    pub boot_id: u128,
    /// When it was made, wall clock.
    pub ready_ns: u64,
}

impl Ready {
    /// Reads the bytes of a `READY`; what is wrong as (offset, evidence).
    ///
    /// # Errors
    ///
    /// They are of another length, version or program, or changed.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Ready, (u64, String)> {
        let Ok(raw) = RawReady::read_from_bytes(bytes) else {
            return Err((0, format!("{READY_LEN} bytes needed, {} there", bytes.len())));
        };
        if raw.magic != MAGIC {
            return Err((0, format!("magic is {}, not that of READY", raw.magic.escape_ascii())));
        }
        if raw.version.get() != VERSION {
            return Err((8, format!("version {}, this program knows {VERSION}", raw.version)));
        }
        let computed = crc_of(bytes, 0);
        if computed != raw.crc.get() {
            return Err((124, format!("checksum stored {:#010x}, computed {computed:#010x}", raw.crc)));
        }
        if raw.zero16.get() != 0 || raw.zero32.get() != 0 || raw.zero != [0; 60] || raw.epoch.get() == 0 {
            return Err((10, "a reserved byte is not zero, or the epoch is".into()));
        }
        Ok(Ready {
            owner: Owner::from_le_bytes(raw.owner),
            epoch: raw.epoch.get(),
            boot_id: u128::from_le_bytes(raw.boot_id),
            ready_ns: raw.ready_ns.get(),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; READY_LEN] {
        let mut raw = RawReady::new_zeroed();
        raw.magic = MAGIC;
        raw.version = VERSION.into();
        raw.boot_id = self.boot_id.to_le_bytes();
        raw.owner = self.owner.to_le_bytes();
        raw.epoch = self.epoch.into();
        raw.ready_ns = self.ready_ns.into();
        raw.crc = crc_of(raw.as_bytes(), 0).into();
        zerocopy::transmute!(raw)
    }
}

/// A `READY` as a look at it found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no such file.
    None,
    /// It is whole.
    Whole(Ready),
    /// Its bytes are none of ours.
    Broken(String),
}

/// Reads a `READY` without believing it.
pub(crate) fn find<P: Platform>(platform: &P, path: &Path) -> Result<Found> {
    let file = match platform.open(path, Open::Read).map_err(Error::from) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(Found::None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; READY_LEN + 1];
    let len = file.read_at(&mut bytes, 0)?;
    Ok(match Ready::parse(&bytes[..len]) {
        Ok(ready) => Found::Whole(ready),
        Err((offset, what)) => Found::Broken(format!("{}: offset {offset}: {what}", path.display())),
    })
}

/// Publishes an owner's `READY`. Under `owner.lock`: nobody else makes one.
pub(crate) fn publish<P: Platform>(platform: &P, path: &Path, draft: &Path, lease: &Lease) -> Result<()> {
    let Lease { owner, epoch, boot_id, .. } = *lease;
    let ready = Ready { owner, epoch, boot_id, ready_ns: platform.now_ns() };
    let file = platform.open(draft, Open::Create)?;
    file.write_at(&ready.to_bytes(), 0)?;
    Ok(platform.publish(&file, draft, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready { owner: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100, epoch: 7, boot_id: 1 << 120, ready_ns: 12 }
    }

    #[test]
    fn changed_bytes_are_told() {
        let bytes = ready().to_bytes();
        assert_eq!(Ready::parse(&bytes), Ok(ready()));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Ready::parse(&changed).is_err(), "bit {bit}");
        }
        for len in [0, 1, 127, 129, 10_000] {
            assert!(Ready::parse(&vec![0; len]).unwrap_err().1.contains("128 bytes needed"), "{len}");
        }
    }
}
