//! Being told which directories changed, instead of looking at all of them.
//!
//! A [`Watch`] is a hint and nothing else. It may tell late, twice, or of what is long over; it may lose everything and say
//! so ([`Changes::missed`]); it may refuse. Whoever uses one looks at what it names, and now and then at everything, and is
//! right without it: [`crate::discovery`] is.
//!
//! [`Notify`] asks the system: inotify, FSEvents, kqueue. [`Blind`] asks nobody: for the simulator, and where nothing else
//! can be had.
//!
//! **What it costs on Linux.** One inotify instance for each [`Notify`] (a user has 128 by default,
//! `fs.inotify.max_user_instances`), three descriptors, one thread that sleeps, and one watch for each directory
//! (`fs.inotify.max_user_watches`, about 1 KiB of the kernel's memory each, no descriptor). A directory that finds no
//! watch is found by looking.

use chronicle_platform::Platform;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use std::{
    collections::HashSet,
    fmt::Debug,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What is told of changed names in directories.
pub trait Watch: Debug + Send {
    /// From now on tells of names that appear, change or vanish in a directory, which need not stay. Again, it makes sure
    /// that it is the directory which has the name now.
    ///
    /// # Errors
    ///
    /// It will not be told of.
    fn watch(&mut self, dir: &Path) -> Result<(), Unwatched>;

    /// Tells no more of a directory.
    fn unwatch(&mut self, dir: &Path);

    /// Takes what has changed since the last call.
    fn take(&mut self, changes: &mut Changes);

    /// Sleeps until something has changed, at most so long.
    fn wait(&mut self, timeout: Duration);
}

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names that appeared, changed or vanished.
    pub paths: Vec<PathBuf>,
    /// Whether more has changed than is told: everything is to be looked at.
    pub missed: bool,
}

/// Why a directory is not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwatched {
    /// It is not there.
    Absent,
    /// The system watches no more directories for us, or none at all.
    Limit(String),
    /// Something else.
    Other(String),
}

/// Distinct names that wait to be taken; beyond it they are forgotten and [`Changes::missed`] is told, so that nobody who
/// takes seldom makes memory grow.
pub const PENDING_MAX: usize = 16_384;

/// The system's watch.
#[derive(Debug)]
pub struct Notify {
    inbox: Arc<Inbox>,
    watcher: Result<RecommendedWatcher, String>,
}

#[derive(Debug, Default)]
struct Inbox {
    pending: Mutex<Pending>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    paths: HashSet<PathBuf>,
    missed: bool,
}

impl Inbox {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing here leaves it half done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the system told, on its thread.
    fn receive(&self, told: notify::Result<Event>) {
        let mut pending = self.pending();
        match told {
            Ok(event) if event.need_rescan() => pending.missed = true,
            // Somebody looked: we do, all the time. A file closed after writing is another thing: its owner may have died.
            Ok(Event { kind: EventKind::Access(kind), .. }) if kind != AccessKind::Close(AccessMode::Write) => return,
            Ok(event) => pending.paths.extend(event.paths),
            Err(_) => pending.missed = true,
        }
        if pending.paths.len() > PENDING_MAX {
            *pending = Pending { paths: HashSet::new(), missed: true };
        }
        self.arrived.notify_one();
    }
}

impl Notify {
    /// Where the system has none left, one that refuses every directory: [`Notify::refusal`] says why.
    #[must_use]
    pub fn new() -> Self {
        let inbox = Arc::new(Inbox::default());
        let receiver = inbox.clone();
        let watcher = notify::recommended_watcher(move |told| receiver.receive(told));
        Notify { inbox, watcher: watcher.map_err(|error| error.to_string()) }
    }

    /// Why nothing is watched at all, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.watcher.as_ref().err().map(String::as_str)
    }
}

impl Default for Notify {
    fn default() -> Self {
        Notify::new()
    }
}

impl Watch for Notify {
    fn watch(&mut self, dir: &Path) -> Result<(), Unwatched> {
        let watcher = self.watcher.as_mut().map_err(|why| Unwatched::Limit(why.clone()))?;
        watcher.watch(dir, RecursiveMode::NonRecursive).map_err(|error| match error.kind {
            notify::ErrorKind::PathNotFound => Unwatched::Absent,
            notify::ErrorKind::MaxFilesWatch => Unwatched::Limit(error.to_string()),
            notify::ErrorKind::Io(ref io) if io.kind() == std::io::ErrorKind::NotFound => Unwatched::Absent,
            _ => Unwatched::Other(error.to_string()),
        })
    }

    fn unwatch(&mut self, dir: &Path) {
        if let Ok(watcher) = &mut self.watcher {
            // The system forgets a directory that went by itself.
            _ = watcher.unwatch(dir);
        }
    }

    fn take(&mut self, changes: &mut Changes) {
        let mut pending = self.inbox.pending();
        changes.paths.extend(pending.paths.drain());
        changes.missed |= std::mem::take(&mut pending.missed);
    }

    fn wait(&mut self, timeout: Duration) {
        let pending = self.inbox.pending();
        let nothing = |pending: &mut Pending| pending.paths.is_empty() && !pending.missed;
        _ = self.inbox.arrived.wait_timeout_while(pending, timeout, nothing);
    }
}

/// No watch: everything is found by looking.
#[derive(Debug)]
pub struct Blind<P>(pub P);

impl<P: Platform> Watch for Blind<P> {
    fn watch(&mut self, _dir: &Path) -> Result<(), Unwatched> {
        Err(Unwatched::Limit("nothing is watched".into()))
    }

    fn unwatch(&mut self, _dir: &Path) {}

    fn take(&mut self, _changes: &mut Changes) {}

    fn wait(&mut self, timeout: Duration) {
        self.0.sleep(timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, Flag};

    fn created(name: String) -> notify::Result<Event> {
        Ok(Event::new(EventKind::Create(CreateKind::Folder)).add_path(name.into()))
    }

    fn take(inbox: &Inbox) -> Changes {
        let mut watch = Notify { inbox: Arc::new(Inbox::default()), watcher: Err("none".into()) };
        *watch.inbox.pending() = std::mem::take(&mut *inbox.pending());
        let mut changes = Changes::default();
        watch.take(&mut changes);
        changes
    }

    #[test]
    fn what_the_system_lost_is_told_and_what_it_repeats_is_not() {
        let inbox = Inbox::default();
        for _ in 0..3 {
            inbox.receive(created("a".into()));
        }
        inbox.receive(Ok(Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any))).add_path("b".into())));
        assert_eq!(take(&inbox), Changes { paths: vec!["a".into()], missed: false });
        inbox.receive(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert_eq!(take(&inbox), Changes { paths: vec![], missed: true });
        inbox.receive(Err(notify::Error::generic("no more")));
        assert!(take(&inbox).missed);
        assert_eq!(take(&inbox), Changes::default());
    }

    #[test]
    fn who_never_takes_makes_no_memory_grow() {
        let inbox = Inbox::default();
        for number in 0..3 * PENDING_MAX {
            inbox.receive(created(number.to_string()));
            assert!(inbox.pending().paths.len() <= PENDING_MAX);
        }
        assert!(take(&inbox).missed);
    }
}
