//! What a ring looks like from outside: for people, and for programs that watch others.
//!
//! It stores nothing into the ring and makes no file. Everything in it may have changed by the time that it is read.

use super::{
    Disconnect, lock,
    place::{self, Found},
};
use crate::{Error, Result};
use chronicle_core::{
    Region,
    ring::{Identity, Kind, Occupancy, broadcast, mpsc, slots, spsc},
};
use chronicle_platform::{File, Open, Platform, TroubleKind};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A ring as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Who its ends are.
    pub kind: Kind,
    /// Bytes of its data, or slots.
    pub capacity: u32,
    /// Bytes of a value ([`Kind::Slots`]), most producers ([`Kind::Mpsc`]), else 0.
    pub unit: u32,
    /// Which ring it is, and since when.
    pub identity: Identity,
    /// What is not released yet; `None` for a broadcast ring, whose writer waits for nobody.
    pub occupancy: Option<Occupancy>,
    /// Its ends, but for a broadcast ring's readers, whom nobody knows.
    pub ends: Vec<EndStatus>,
    /// What the consumer of many will have to wait for. One that is still so a while later is a stopped producer's; a
    /// dead one's goes with the consumer's next look.
    pub blocked: Option<Blocked>,
}

/// One end of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndStatus {
    /// Which: `producer`, `consumer`, `writer`, `producer 7`.
    pub name: String,
    /// Whether anybody has it.
    pub holder: Holder,
    /// What the last one who took it wrote about itself: process, start time and boot; empty when it left in order.
    pub text: String,
}

/// Whether anybody has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Somebody, who runs or is stopped.
    Alive,
    /// Nobody.
    Missing(Disconnect),
    /// We may not look.
    Unknown,
}

/// The oldest message of a ring of many producers that is claimed and not committed: what is behind it waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// This producer's.
    Producer {
        /// Its slot.
        slot: u32,
    },
    /// That of one who is between a claim and its stamp, or was killed there.
    Unstamped {
        /// Those who say that they are there.
        claiming: Vec<u32>,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocked::Producer { slot } => {
                write!(f, "producer {slot} has claimed the oldest message and not committed it")
            }
            Blocked::Unstamped { claiming } => {
                write!(f, "the oldest message is claimed and not stamped; claiming: producers {claiming:?}")
            }
        }
    }
}

/// Looks at the ring at `path`.
///
/// # Errors
///
/// No such ring, one of an earlier boot of the machine, damage, trouble.
pub fn status<P: Platform>(platform: &P, path: &Path) -> Result<Status> {
    let file = platform.open(path, Open::Read)?;
    let found = place::find::<P>(path, &file)?;
    let Found { header, len, .. } = place::expect(platform, path, &file, found.header.kind)?;
    let map = platform.map(&file, len)?;
    let (mut ends, mut blocked) = (Vec::new(), None);
    let mut end = |name: String, path: PathBuf| -> Result<()> {
        ends.push(look(platform, name, path)?);
        Ok(())
    };
    let window = map.window();
    let capacity = header.capacity as usize;
    // The head first: a tail that is loaded behind it is no older.
    let used = |head, tail| {
        let head = window.load_acquire(head);
        Some(Occupancy { used: (window.load_acquire(tail).wrapping_sub(head) as usize).min(capacity), capacity })
    };
    let occupancy = match header.kind {
        Kind::Spsc | Kind::Slots => {
            end("producer".into(), lock::producer_lock(path))?;
            end("consumer".into(), lock::consumer_lock(path))?;
            if header.kind == Kind::Spsc { used(spsc::HEAD, spsc::TAIL) } else { used(slots::HEAD, slots::TAIL) }
        }
        Kind::Mpsc => {
            end("consumer".into(), lock::consumer_lock(path))?;
            let look = mpsc::look(&map).map_err(|damage| Error::damage(path, damage))?;
            for slot in (0..header.unit).filter(|slot| look.held >> slot & 1 == 1) {
                end(format!("producer {slot}"), lock::slot_lock(path, slot))?;
            }
            blocked = Blocked::of(&look);
            Some(look.occupancy)
        }
        Kind::Broadcast => {
            end("writer".into(), lock::alive_lock(path))?;
            broadcast::Reader::attach(&map, broadcast::Start::Newest).map(|_| None).or_else(|error| match error {
                broadcast::AttachError::Damage(damage) => Err(Error::damage(path, damage)),
                broadcast::AttachError::Overtaken | broadcast::AttachError::Ahead { .. } => Ok(None),
            })?
        }
    };
    let (capacity, unit) = (header.capacity, header.unit);
    Ok(Status { kind: header.kind, capacity, unit, identity: header.identity, occupancy, ends, blocked })
}

impl Blocked {
    pub(super) fn of(look: &mpsc::Look) -> Option<Self> {
        let slots = |mask: u64| (0..mpsc::MAX_PRODUCERS).filter(|slot| mask >> slot & 1 == 1).collect();
        look.blocked.map(|owner| match owner {
            Some(slot) => Blocked::Producer { slot },
            None => Blocked::Unstamped { claiming: slots(look.claiming) },
        })
    }
}

/// Looks at one lock, and leaves no file behind.
fn look<P: Platform>(platform: &P, name: String, path: PathBuf) -> Result<EndStatus> {
    let mut text = String::new();
    let holder = match platform.open(&path, Open::Read) {
        Ok(file) => {
            let mut bytes = [0; 256];
            let read = file.read_at(&mut bytes, 0)?;
            text = String::from_utf8_lossy(&bytes[..read]).into_owned();
            lock::Peer::new(path, Open::Read).missing(platform)?.map_or(Holder::Alive, Holder::Missing)
        }
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => Holder::Missing(Disconnect::Closed),
        Err(trouble) if trouble.kind() == TroubleKind::Denied => Holder::Unknown,
        Err(trouble) => return Err(trouble.into()),
    };
    Ok(EndStatus { name, holder, text })
}
