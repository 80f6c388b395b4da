//! `LEASE`: who has an entry, whether it lives, and since when it has said nothing.
//!
//! ```text
//! LEASE, 256 B
//!   0  LeaseHeader 128 B, final before the file has its name
//!        0  magic "CHRONLSE"             8  version u16 = 1 │ zero u16 │ zero u32
//!       16  boot_id [u8; 16]            32  owner [u8; 16]: random, one for each registration
//!       48  epoch u64                   56  pid u32 │ zero u32
//!       64  started u64                 72  begun_ns u64: wall clock
//!       80  ttl_ns u64                  88  zero [u8; 36] │ crc u32 (CRC-32 of bytes 0..124)
//! 128  LeaseSlot 64 B ┐ the whole one with the higher count is the newest renewal
//! 192  LeaseSlot 64 B ┘
//!        0  count u64: renewals          8  renewed_ns u64: monotonic clock of the boot
//!       16  wall_ns u64                 24  zero [u8; 36] │ crc u32 (CRC-32 of bytes 0..60, started from the header's)
//! ```
//!
//! **The kernel decides who lives.** An owner holds two kernel locks for life: `owner.lock`, which keeps out other owners
//! and sweepers ([`crate::registration`]), and one on the `LEASE` file itself, taken before the file has its name. Each
//! registration makes a new file, so nobody else ever waits for that second lock: whoever may *read* a lease may try it
//! shared, and learns whether its owner lives, without standing in anybody's way. No process id, no boot id and no clock
//! decides about life; they are for people.
//!
//! **A lease that is not renewed is a sign, not a proof.** Its owner stands still: stopped, swapped out, in a long
//! computation. It still has its locks, and nobody takes its place.
//!
//! | `LEASE` | its lock | `READY` | [`State`](crate::look::State) | what the next registration does | what a sweep does |
//! |---|---|---|---|---|---|
//! | none | – | none | `Absent` | registers | nothing |
//! | none | – | there | `Dead` | removes it, registers | removes it |
//! | whole | held | none, or another owner's | `Starting` | refused: `Taken` | nothing |
//! | whole, renewed within its ttl | held | its own | `Ready` | refused: `Taken` | nothing |
//! | whole, older than its ttl | held | its own | `Stalled` | refused: `Taken` | nothing |
//! | any bytes, none included | free | any | `Dead` | removes them, registers | removes them |
//! | not whole, or of another version | held | any | `Refused` | refused: `Taken` | nothing |
//! | no regular file, or unreadable | – | any | `Refused` | refused: `Foreign`, or trouble | leaves it, and says so |
//!
//! **Clocks.** `renewed_ns` is the monotonic clock, which no step of the wall clock moves and which stands still while the
//! machine sleeps, as do those who should renew. Where owner and looker have different clocks (time namespaces of
//! containers), a stamp from the looker's future is as good as new, and a looker that saw the *count* rise within the
//! ttl, on its own clock, calls nobody stalled, whatever the stamp says: the younger of the two counts.
//!
//! **Renewing** is a few stores into a mapping of one page, into the slot that is *not* the newest: no system call but the
//! clock's, and no watcher is woken (the kernel tells watchers of writes, not of stores). A reader takes all 256 bytes by
//! one read; if one slot is torn the other one is whole, and it looks again if both are. Nothing here is ever synced: after
//! the machine has crashed nobody has the lock, and the bytes are swept whatever they are.
//!
//! Who may write the file may cut it, and a store beyond its end ends the owner (SIGBUS), as a kill does: it is created
//! 0640, so that is the owner's own user.

use crate::error::{Error, Result};
use chronicle_core::RegionMut;
use chronicle_platform::{File, Lock, Open, Platform};
use static_assertions::const_assert_eq;
use std::{
    mem::{offset_of, size_of},
    path::{Path, PathBuf},
    time::Duration,
};
use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// First bytes of a `LEASE`.
pub const MAGIC: [u8; 8] = *b"CHRONLSE";
/// The format.
pub const VERSION: u16 = 1;
/// Length of a `LEASE`.
pub const LEASE_LEN: usize = 256;
/// Where its slots stand.
pub const SLOTS: [usize; 2] = [128, 192];

/// Identifies one registration: random.
pub type Owner = u128;

/// The part of a `LEASE` that never changes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LeaseHeader {
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
    /// The owner's process.
    pub pid: U32,
    /// Zero.
    pub zero_pid: U32,
    /// When that process started, in the system's ticks since boot.
    pub started: U64,
    /// When it registered, wall clock.
    pub begun_ns: U64,
    /// After how long without renewal it is stalled.
    pub ttl_ns: U64,
    /// Zero.
    pub zero: [u8; 36],
    /// CRC-32 of all before it.
    pub crc: U32,
}

/// One renewal.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LeaseSlot {
    /// Which renewal, from 1.
    pub count: U64,
    /// When, monotonic clock of the boot.
    pub renewed_ns: U64,
    /// When, wall clock: for people.
    pub wall_ns: U64,
    /// Zero.
    pub zero: [u8; 36],
    /// CRC-32 of all before it, started from the header's.
    pub crc: U32,
}

const_assert_eq!(size_of::<LeaseHeader>(), SLOTS[0]);
const_assert_eq!(size_of::<LeaseSlot>(), SLOTS[1] - SLOTS[0]);
const_assert_eq!(SLOTS[1] + size_of::<LeaseSlot>(), LEASE_LEN);
const_assert_eq!(offset_of!(LeaseHeader, owner), 32);
const_assert_eq!(offset_of!(LeaseHeader, epoch), 48);
const_assert_eq!(offset_of!(LeaseHeader, ttl_ns), 80);
const_assert_eq!(offset_of!(LeaseHeader, crc), 124);
const_assert_eq!(offset_of!(LeaseSlot, crc), 60);

/// The checksum of a record that ends with it.
pub(crate) fn crc_of(bytes: &[u8], seed: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(&bytes[..bytes.len() - size_of::<u32>()]);
    crc.finalize()
}

/// What a `LEASE` says. It may be renewed, or its owner be gone, by the time that this is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The registration.
    pub owner: Owner,
    /// Which registration of the entry, from 1.
    pub epoch: u64,
    /// The owner's process id, in its own namespace: for people.
    pub pid: u32,
    /// When that process started, in the system's ticks since boot.
    pub started: u64,
    /// The boot of the machine that it was made in.
    pub boot_id: u128,
    /// When it registered, wall clock.
    pub begun_ns: u64,
    /// After how long without renewal it is stalled.
    pub ttl: Duration,
    /// How often it was renewed, the registration included.
    pub count: u64,
    /// The last time, monotonic clock of the boot.
    pub renewed_ns: u64,
    /// The last time, wall clock.
    pub wall_ns: u64,
}

impl Lease {
    /// Reads the bytes of a `LEASE`; what is wrong as (offset, evidence).
    ///
    /// # Errors
    ///
    /// They are of another length, version or program, or changed.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Lease, (u64, String)> {
        if bytes.len() != LEASE_LEN {
            return Err((0, format!("{LEASE_LEN} bytes needed, {} there", bytes.len())));
        }
        let Ok((header, _)) = LeaseHeader::read_from_prefix(bytes) else { unreachable!("the length was checked") };
        if header.magic != MAGIC {
            return Err((0, format!("magic is {}, not a lease's", header.magic.escape_ascii())));
        }
        if header.version.get() != VERSION {
            return Err((8, format!("version {}, this program knows {VERSION}", header.version)));
        }
        let computed = crc_of(header.as_bytes(), 0);
        if computed != header.crc.get() {
            return Err((124, format!("checksum stored {:#010x}, computed {computed:#010x}", header.crc)));
        }
        let padding = [header.zero16.get().into(), header.zero32.get(), header.zero_pid.get()];
        if padding != [0; 3] || header.zero != [0; 36] || header.epoch.get() == 0 {
            return Err((10, "a reserved byte is not zero, or the epoch is".into()));
        }
        let whole = SLOTS.into_iter().filter_map(|at| LeaseSlot::read_from_bytes(&bytes[at..at + 64]).ok());
        let whole = whole.filter(|slot| slot.crc.get() == crc_of(slot.as_bytes(), header.crc.get()));
        let Some(slot) = whole.max_by_key(|slot| slot.count.get()) else {
            return Err((SLOTS[0] as u64, "neither of two renewals is whole".into()));
        };
        Ok(Lease {
            owner: Owner::from_le_bytes(header.owner),
            epoch: header.epoch.get(),
            pid: header.pid.get(),
            started: header.started.get(),
            boot_id: u128::from_le_bytes(header.boot_id),
            begun_ns: header.begun_ns.get(),
            ttl: Duration::from_nanos(header.ttl_ns.get()),
            count: slot.count.get(),
            renewed_ns: slot.renewed_ns.get(),
            wall_ns: slot.wall_ns.get(),
        })
    }

    /// Time since the last renewal, by its stamp and this monotonic clock; zero where the stamp lies ahead.
    #[must_use]
    pub fn age(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(now_ns.saturating_sub(self.renewed_ns))
    }

    fn header(&self) -> LeaseHeader {
        let mut header = LeaseHeader::new_zeroed();
        header.magic = MAGIC;
        header.version = VERSION.into();
        header.boot_id = self.boot_id.to_le_bytes();
        header.owner = self.owner.to_le_bytes();
        header.epoch = self.epoch.into();
        header.pid = self.pid.into();
        header.started = self.started.into();
        header.begun_ns = self.begun_ns.into();
        header.ttl_ns = u64::try_from(self.ttl.as_nanos()).unwrap_or(u64::MAX).into();
        header.crc = crc_of(header.as_bytes(), 0).into();
        header
    }

    fn slot(&self, seed: u32) -> LeaseSlot {
        let mut slot = LeaseSlot::new_zeroed();
        slot.count = self.count.into();
        slot.renewed_ns = self.renewed_ns.into();
        slot.wall_ns = self.wall_ns.into();
        slot.crc = crc_of(slot.as_bytes(), seed).into();
        slot
    }

    /// The slot that the renewal of this number goes to: never that of the one before it.
    fn slot_at(&self) -> usize {
        SLOTS[(self.count % 2) as usize]
    }

    /// A `LEASE` with this as its only renewal.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEASE_LEN] {
        let mut bytes = [0; LEASE_LEN];
        let header = self.header();
        bytes[..SLOTS[0]].copy_from_slice(header.as_bytes());
        let at = self.slot_at();
        bytes[at..at + size_of::<LeaseSlot>()].copy_from_slice(self.slot(header.crc.get()).as_bytes());
        bytes
    }
}

/// A `LEASE` as a look at it found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no such file.
    None,
    /// Nobody holds its lock: its owner is dead, whatever it says. What it says, if it can be read.
    Free(Option<Lease>),
    /// Somebody holds its lock.
    Held(Lease),
    /// Somebody holds its lock, and its bytes are none of ours.
    Broken(String),
}

/// How often a lease is read again that was torn in both slots: two renewals fell into one read.
const TRIES: u32 = 3;

/// Looks at a `LEASE` without standing in anybody's way.
pub(crate) fn find<P: Platform>(platform: &P, path: &Path) -> Result<Found> {
    let file = match platform.open(path, Open::Read).map_err(Error::from) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(Found::None),
        Err(error) => return Err(error),
    };
    // One more byte than it may have: a longer file is not read, and is told.
    let mut bytes = [0; LEASE_LEN + 1];
    let mut read = || -> Result<_> {
        let len = file.read_at(&mut bytes, 0)?;
        Ok(Lease::parse(&bytes[..len]))
    };
    // Read first, then ask who lives: what a live owner's file said *before* is still its own.
    let mut lease = read()?;
    if file.try_lock(Lock::Shared)? {
        // Closing the file gives the lock back. A reader that stands still here keeps nobody from anything.
        return Ok(Found::Free(lease.ok()));
    }
    for _ in 1..TRIES {
        if lease.is_ok() {
            break;
        }
        lease = read()?;
    }
    Ok(match lease {
        Ok(lease) => Found::Held(lease),
        Err((offset, what)) => Found::Broken(format!("{}: offset {offset}: {what}", path.display())),
    })
}

/// An owner's own `LEASE`.
#[derive(Debug)]
pub(crate) struct LeaseFile<P: Platform> {
    /// Holds the lock that says that we live.
    file: P::File,
    map: P::MapMut,
    now: Lease,
    seed: u32,
    path: PathBuf,
}

impl<P: Platform> LeaseFile<P> {
    /// Makes the lease and gives it its name. Under `owner.lock`: nobody else makes one.
    pub(crate) fn create(platform: &P, path: &Path, draft: &Path, lease: Lease) -> Result<Self> {
        let file = platform.open(draft, Open::Create)?;
        // Before it has its name: a lease that can be found is held until its owner is gone.
        if !file.try_lock(Lock::Exclusive)? {
            return Err(Error::Foreign { path: draft.to_owned(), what: "a file that somebody else locked".into() });
        }
        // Storage behind every byte first: a full disk is an error here and no signal at a renewal.
        file.allocate(LEASE_LEN as u64)?;
        file.write_at(&lease.to_bytes(), 0)?;
        let map = platform.map_mut(&file, LEASE_LEN)?;
        platform.prefault_mut(&map)?;
        // No sync: see the module.
        platform.rename(draft, path)?;
        Ok(LeaseFile { seed: lease.header().crc.get(), file, map, now: lease, path: path.to_owned() })
    }

    /// What it says.
    pub(crate) fn lease(&self) -> &Lease {
        &self.now
    }

    /// Says that its owner goes on.
    pub(crate) fn renew(&mut self, platform: &P) {
        self.now.count += 1;
        self.now.renewed_ns = platform.monotonic_ns();
        self.now.wall_ns = platform.now_ns();
        // ORDERING: Relaxed stores pair with nothing: a reader believes a slot whose CRC is right, and the slot that was
        // the newest until now is not touched.
        self.map.window_mut().copy_in(self.now.slot_at(), self.now.slot(self.seed).as_bytes());
    }

    /// Whether its name still is this file's.
    pub(crate) fn has_its_name(&self, platform: &P) -> Result<bool> {
        match platform.open(&self.path, Open::Read).map_err(Error::from) {
            Ok(named) => Ok(named.id()? == self.file.id()?),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            owner: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
            epoch: 7,
            pid: 4242,
            started: 99,
            boot_id: 0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110,
            begun_ns: 1_700_000_000_000_000_000,
            ttl: Duration::from_secs(3),
            count: 1,
            renewed_ns: 5_000_000_000,
            wall_ns: 1_700_000_000_000_000_000,
        }
    }

    #[test]
    fn a_lease_is_read_as_it_is_written() {
        let first = lease();
        let mut bytes = first.to_bytes();
        assert_eq!(Lease::parse(&bytes), Ok(first));
        let second = Lease { count: 2, renewed_ns: 6_000_000_000, ..first };
        let at = second.slot_at();
        bytes[at..at + 64].copy_from_slice(second.slot(first.header().crc.get()).as_bytes());
        assert_eq!(Lease::parse(&bytes), Ok(second));
        // The next renewal, torn at every word: the one before it stands.
        let third = Lease { count: 3, renewed_ns: 7_000_000_000, ..first };
        let (at, new) = (third.slot_at(), third.slot(first.header().crc.get()));
        assert_ne!(at, second.slot_at());
        for words in 1..16 {
            let mut torn = bytes;
            torn[at..at + words * 4].copy_from_slice(&new.as_bytes()[..words * 4]);
            assert_eq!(Lease::parse(&torn), Ok(second), "{words} words");
        }
    }

    #[test]
    fn changed_bytes_are_told_or_change_nothing() {
        let bytes = lease().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            match Lease::parse(&changed) {
                // The slot that nothing was renewed into: zeros, whose CRC is not right with one bit either.
                Ok(read) => assert!(bit / 8 < 192 && bit / 8 >= 128 && read == lease(), "bit {bit}"),
                Err((_, what)) => assert!(!what.is_empty()),
            }
        }
        for len in [0, 1, 127, 255, 257, 10_000] {
            assert!(Lease::parse(&vec![0; len]).unwrap_err().1.contains("256 bytes needed"), "{len}");
        }
        let of_another = Lease { owner: 1, ..lease() }.to_bytes();
        let mut mixed = bytes;
        mixed[SLOTS[1]..].copy_from_slice(&of_another[SLOTS[1]..]);
        assert!(Lease::parse(&mixed).is_err(), "another registration's renewal");
    }
}
