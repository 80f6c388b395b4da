//! Removing what dead owners left: `LEASE`, `READY`, and drafts of them.
//!
//! **Why a living owner's files are never removed.** Whoever makes, renames or removes `LEASE` or `READY` holds `owner.lock`;
//! an owner from before its first file until after its last, a sweeper from before its first look until after its last
//! removal. One has it at a time, and it goes with its holder's death. So:
//!
//! - A sweeper that has the lock meets no living owner: one that lives would have it. What it then finds was made by
//!   somebody who has ended, and nobody can make new files until it lets go.
//! - A new owner that comes meanwhile waits for the lock ([`crate::RegistrationOptions::patience`]), then finds a clean directory,
//!   and cleans it itself otherwise.
//! - A sweeper that dies half-way leaves fewer files, and no lock.
//! - A sweeper that is stopped half-way keeps a new owner out, who says so (`Taken`); it never meets one.
//! - Two sweepers are as a sweeper and an owner.
//!
//! There is one lock and nobody takes a second one by waiting, so nobody waits in a circle. The other lock, that of a
//! `LEASE`, is only ever tried shared by those who look, and taken by its owner before the file has a name.
//!
//! Never here: a queue, a directory, `owner.lock`, or anything that is no regular file, which is not ours and is told.

use crate::{
    error::Result,
    layout::{Entry, Kind, LEASE, Layout, OWNER_LOCK, Place, READY, draft_of},
    look::{self, State, cause, reason},
    owner::{Held, Tried},
};
use chronicle_platform::{Open, Platform, Trouble, TroubleKind};
use std::path::{Path, PathBuf};

/// What came of sweeping one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swept {
    /// So many files were removed; none is left.
    Removed(usize),
    /// An owner or another sweeper has the lock.
    Held,
    /// Not ours to do: the files are another user's, or no files.
    Refused(String),
}

/// What came of sweeping a bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweptAll {
    /// Entries that were looked at.
    pub entries: usize,
    /// Those whose dead owner's files were removed.
    pub removed: Vec<Entry>,
    /// What could not be removed, or looked at, and why.
    pub refused: Vec<(Entry, String)>,
}

/// Removes what dead owners left, wherever they did.
///
/// # Errors
///
/// A directory above entries cannot be listed.
pub fn sweep<P: Platform>(platform: &P, layout: &Layout) -> Result<SweptAll> {
    let mut all = SweptAll::default();
    for kind in Kind::ALL {
        below(platform, layout, &layout.kind_dir(kind), &mut all)?;
    }
    Ok(all)
}

fn below<P: Platform>(platform: &P, layout: &Layout, branch: &Path, all: &mut SweptAll) -> Result<()> {
    let listed = match platform.list(branch) {
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => return Ok(()),
        listed => listed?,
    };
    for name in listed.into_iter().filter(|name| name.is_dir) {
        let dir = branch.join(name.name);
        match layout.place(&dir) {
            Place::Branch => below(platform, layout, &dir, all)?,
            Place::Entry(entry) => {
                all.entries += 1;
                match look::look(platform, layout, &entry) {
                    State::Dead(_) => match sweep_dir(platform, &dir) {
                        Swept::Removed(0) | Swept::Held => {}
                        Swept::Removed(_) => all.removed.push(entry),
                        Swept::Refused(why) => all.refused.push((entry, why)),
                    },
                    State::Refused(why) => all.refused.push((entry, why.to_string())),
                    _ => {}
                }
            }
            Place::Elsewhere => {}
        }
    }
    Ok(())
}

/// Removes what a dead owner of this entry left, if its owner is dead.
#[must_use]
pub fn sweep_entry<P: Platform>(platform: &P, layout: &Layout, entry: &Entry) -> Swept {
    sweep_dir(platform, &layout.dir(entry))
}

pub(crate) fn sweep_dir<P: Platform>(platform: &P, dir: &Path) -> Swept {
    let held = match Held::try_take(platform, &dir.join(OWNER_LOCK)) {
        Ok(Tried::Held(held)) => held,
        Ok(Tried::Busy) => return Swept::Held,
        // The directory went.
        Err(error) if error.is_not_found() => return Swept::Removed(0),
        Err(error) => return Swept::Refused(reason(&error)),
    };
    let swept = clean(platform, dir, &held);
    drop(held);
    match swept {
        Ok(count) => Swept::Removed(count),
        Err((path, what)) => Swept::Refused(format!("{}: {what}", path.display())),
    }
}

/// Removes the files of whoever had this entry before; how many there were, or what is in the way.
///
/// `READY` first: at no moment is there one without the lease that it belongs to, but where a crash of the machine did that.
pub(crate) fn clean<P: Platform>(
    platform: &P,
    dir: &Path,
    _held: &Held<P>,
) -> std::result::Result<usize, (PathBuf, String)> {
    // The path is said once, by whoever says the rest.
    let why = |trouble: Trouble| (trouble.path().to_owned(), cause(&trouble));
    let mut count = 0;
    for name in [READY, LEASE] {
        let path = dir.join(name);
        for path in [draft_of(&path), path] {
            match platform.open(&path, Open::Read) {
                // Also one that we may not read: the directory's owner may remove it.
                Ok(_) => {}
                Err(trouble) if trouble.kind() == TroubleKind::Denied => {}
                Err(trouble) if trouble.kind() == TroubleKind::NotFound => continue,
                Err(trouble) => return Err(why(trouble)),
            }
            platform.remove(&path).map_err(why)?;
            count += 1;
        }
    }
    Ok(count)
}
