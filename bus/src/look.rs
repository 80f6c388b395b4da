//! One look at an entry: what its files and their locks say now.
//!
//! Nothing is changed and nobody is kept waiting. By the time that the answer is read it may be old; what cannot be old
//! is a death: an owner that was found dead stays dead, and its epoch never lives again.
//!
//! The table of what is found when is in [`crate::lease`].

use crate::{
    error::Result,
    layout::{Entry, Layout, draft_of},
    lease::{self, Lease, Owner},
    owner,
    ready::{self, Ready},
};
use chronicle_platform::{Platform, Trouble};
use std::{error::Error as _, fmt, path::Path, sync::Arc, time::Duration};

/// What an entry is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its directory is not there.
    Gone,
    /// Nobody is registered.
    Absent,
    /// An owner lives and is not ready.
    Starting(Lease),
    /// An owner lives and its queues may be opened.
    Ready(Lease),
    /// An owner has its locks, and has not renewed its lease for longer than its ttl.
    Stalled(Lease),
    /// An owner died and left something. Its lease, if it can be read.
    Dead(Option<Lease>),
    /// Something is in the way that is not ours to judge: why.
    Refused(Arc<str>),
}

impl State {
    /// The registration that lives and is ready, if one is.
    #[must_use]
    pub fn ready(&self) -> Option<&Lease> {
        match self {
            State::Ready(lease) => Some(lease),
            _ => None,
        }
    }

    /// What a lease says, where one could be read.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            State::Starting(lease) | State::Ready(lease) | State::Stalled(lease) => Some(lease),
            State::Dead(lease) => lease.as_ref(),
            State::Gone | State::Absent | State::Refused(_) => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Gone => f.write_str("gone"),
            State::Absent => f.write_str("absent"),
            State::Starting(_) => f.write_str("starting"),
            State::Ready(_) => f.write_str("ready"),
            State::Stalled(_) => f.write_str("stalled"),
            State::Dead(_) => f.write_str("dead"),
            State::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// A renewal, and since when a looker knows of it on its own monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The registration.
    pub owner: Owner,
    /// The renewal.
    pub count: u64,
    /// Since when.
    pub since_ns: u64,
}

impl Seen {
    /// What a looker knows of a lease, given what it knew at its look before.
    #[must_use]
    pub fn after(before: Option<Seen>, lease: &Lease, now_ns: u64) -> Seen {
        match before {
            Some(seen) if seen.owner == lease.owner && seen.count == lease.count => seen,
            _ => Seen { owner: lease.owner, count: lease.count, since_ns: now_ns },
        }
    }
}

/// Looks at an entry, once: a lease older than its ttl by its stamp counts as stalled.
///
/// Nothing that is found there is an error: what cannot be judged is [`State::Refused`], with the reason.
#[must_use]
pub fn look<P: Platform>(platform: &P, layout: &Layout, entry: &Entry) -> State {
    let state = look_unaged(platform, &layout.dir(entry));
    age(state, |lease| lease.age(platform.monotonic_ns()))
}

/// As [`look`], by one who has looked before: a lease is stalled once its stamp *and* this looker's own watch of it are
/// older than its ttl.
pub(crate) fn look_again<P: Platform>(platform: &P, dir: &Path, seen: &mut Option<Seen>) -> State {
    let state = look_unaged(platform, dir);
    let now_ns = platform.monotonic_ns();
    *seen = state.lease().map(|lease| Seen::after(*seen, lease, now_ns));
    let watched = seen.map_or(0, |seen| now_ns.saturating_sub(seen.since_ns));
    age(state, |lease| lease.age(now_ns).min(Duration::from_nanos(watched)))
}

fn age(state: State, age: impl Fn(&Lease) -> Duration) -> State {
    match state {
        State::Ready(lease) if age(&lease) > lease.ttl => State::Stalled(lease),
        state => state,
    }
}

/// How often it is looked again where one owner left and another came between two of our reads.
const TRIES: u32 = 3;

fn look_unaged<P: Platform>(platform: &P, dir: &Path) -> State {
    let mut state = State::Absent;
    for _ in 0..TRIES {
        match look_once(platform, dir) {
            Ok((found, settled)) => {
                state = found;
                if settled {
                    break;
                }
            }
            Err(error) => return State::Refused(reason(&error).into()),
        }
    }
    state
}

/// One look, and whether its two reads can have been of one moment.
fn look_once<P: Platform>(platform: &P, dir: &Path) -> Result<(State, bool)> {
    // READY before LEASE: an owner makes LEASE first and removes READY first, so a lease that is held *after* its READY
    // was read was held when it was.
    let ready = ready::find(platform, &dir.join(crate::layout::READY))?;
    let lease = lease::find(platform, &dir.join(crate::layout::LEASE))?;
    let is_of = |ready: &Ready, lease: &Lease| ready.owner == lease.owner && ready.epoch == lease.epoch;
    Ok(match (lease, ready) {
        (lease::Found::Held(lease), ready::Found::Whole(ready)) if is_of(&ready, &lease) => (State::Ready(lease), true),
        (lease::Found::Held(lease), ready::Found::None) => (State::Starting(lease), true),
        // An owner removes its predecessor's READY before it makes its LEASE: the READY is older than the lease's owner.
        (lease::Found::Held(lease), ready::Found::Whole(_)) => (State::Starting(lease), false),
        (lease::Found::Held(_), ready::Found::Broken(why)) => (State::Refused(why.into()), true),
        (lease::Found::Broken(why), _) => (State::Refused(why.into()), true),
        (lease::Found::Free(lease), _) => (State::Dead(lease), true),
        // A clean end removes READY first: this one may have been read before it went.
        (lease::Found::None, ready::Found::Whole(_) | ready::Found::Broken(_)) => (State::Dead(None), false),
        (lease::Found::None, ready::Found::None) => (remains(platform, dir)?, true),
    })
}

/// With neither file: is the directory there, and did somebody die while making one of them?
fn remains<P: Platform>(platform: &P, dir: &Path) -> Result<State> {
    for name in [crate::layout::LEASE, crate::layout::READY] {
        if platform.exists(&draft_of(&dir.join(name))).unwrap_or(false) {
            // Or makes it right now; a sweep finds out by the lock.
            return Ok(State::Dead(None));
        }
    }
    Ok(if platform.is_dir(dir)? { State::Absent } else { State::Gone })
}

/// An error and what lies beneath it, in one line.
pub(crate) fn reason(error: &crate::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(beneath) = source {
        text.push_str(": ");
        text.push_str(&beneath.to_string());
        source = beneath.source();
    }
    text
}

/// As [`reason`], of the system's no.
pub(crate) fn trouble_reason(trouble: Trouble) -> String {
    reason(&trouble.into())
}

/// What the system said when it said no, without what was asked of it.
pub(crate) fn cause(trouble: &Trouble) -> String {
    trouble.source().map_or_else(|| trouble.to_string(), ToString::to_string)
}

/// How a registration ended that is no longer there, as far as can be told: by leaving (`true`), or not.
pub(crate) fn has_left<P: Platform>(platform: &P, lock: &Path, epoch: u64, owner: Owner) -> Option<bool> {
    let last = owner::look(platform, lock)?;
    (last.epoch == epoch && last.owner == owner).then_some(last.left)
}
