//! Registering: one owner of an entry at a time, from [`Registration::begin`] until it is dropped, or dead.
//!
//! ```text
//! begin   lock owner.lock ─▶ store the epoch ─▶ remove what a dead owner left ─▶ LEASE, its lock held
//!         … the caller opens its queues, and renews if that takes long …
//! ready   publish READY
//!         … renew, on a schedule that `renew` tells, or by a thread that is asked for …
//! drop    store "left" ─▶ remove READY ─▶ remove LEASE ─▶ let both locks go
//! ```
//!
//! A process may be killed between any two of these steps. What it leaves is either no name at all, or a name whose lock
//! nobody holds, which the next registration and every sweep remove; its queues stay, because unread orders are data.
//!
//! Two descriptors and a mapping of one page for each registration; three files of a page each beside the queues. No
//! thread unless one is asked for, and no system call in [`Registration::renew`] but the clock's.
//!
//! **Fork.** A child that is forked and runs no other program shares its parent's locks. Dropped there, a registration
//! removes nothing; but as long as that child lives, the entry looks alive.

use crate::{
    error::{Error, Result},
    layout::{Entry, LEASE, Layout, OWNER_LOCK, READY, draft_of},
    lease::{self, Lease, LeaseFile, Owner},
    owner::{Held, Last, Tried},
    ready,
    sweep::clean,
};
use chronicle_platform::{Platform, TroubleKind};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

/// How an entry is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrationOptions {
    /// After how long without renewal others call it stalled. It is to be renewed three times as often.
    pub ttl: Duration,
    /// How long a lock is tried for that is held by nobody with a lease: a sweep, or an owner on its way in or out.
    pub patience: Duration,
}

impl Default for RegistrationOptions {
    fn default() -> Self {
        RegistrationOptions { ttl: Duration::from_secs(3), patience: Duration::from_secs(1) }
    }
}

/// How the registration before this one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// There was none.
    None,
    /// It left.
    Left,
    /// It died: what it was about to do may be half done.
    Died,
}

/// An entry that this process has.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #[cfg(target_os = "linux")] {
/// use chronicle_bus::{Entry, Layout, Registration, RegistrationOptions};
/// use chronicle_platform_linux::Linux;
///
/// let layout = Layout::new("/dev/shm/market");
/// let mut registration = Registration::begin(&Linux, &layout, Entry::strategy("maker")?, RegistrationOptions::default())?;
/// // Open the queues here.
/// registration.ready()?;
/// registration.start_renewing()?;
/// # }
/// # Ok(()) }
/// ```
#[must_use = "dropping it ends the registration"]
pub struct Registration<P: Platform> {
    // The lease goes before the lock, the thread before both.
    renewing: Option<Renewing>,
    lease: Arc<Mutex<LeaseFile<P>>>,
    held: Held<P>,
    platform: P,
    entry: Entry,
    dir: PathBuf,
    last: Last,
    predecessor: Predecessor,
    pid: u32,
    is_over: bool,
}

impl<P: Platform> fmt::Debug for Registration<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("entry", &self.entry)
            .field("epoch", &self.last.epoch)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// A thread that renews.
struct Renewing {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl<P: Platform> Registration<P> {
    /// Takes an entry, and cleans up behind whoever died with it. Others see it as starting, until [`Registration::ready`].
    ///
    /// # Errors
    ///
    /// Somebody has it ([`Error::Taken`]); something that is no file stands in a file's place ([`Error::Foreign`]);
    /// `owner.lock` is damaged; an option that cannot be had; the system's.
    pub fn begin(platform: &P, layout: &Layout, entry: Entry, options: RegistrationOptions) -> Result<Self> {
        if options.ttl < Duration::from_millis(1) || options.ttl > Duration::from_secs(86_400) {
            let what = format!("ttl of {:?}: a lease is renewed within 1 ms to a day", options.ttl);
            return Err(Error::options(what));
        }
        let dir = layout.dir(&entry);
        let held = take(platform, &dir, options.patience)?;
        let before = held.last()?;
        let predecessor = match before {
            None => Predecessor::None,
            Some(last) if last.left => Predecessor::Left,
            Some(_) => Predecessor::Died,
        };
        // The epoch before anything that others see: it is not used twice, whoever is killed when.
        let last = Last::next(before, platform.random());
        held.store(&last)?;
        if before.is_none() {
            // The lock's own name, without which its epoch is nobody's.
            platform.sync_dir(&dir)?;
        }
        clean(platform, &dir, &held).map_err(|(path, what)| Error::Foreign { path, what })?;
        let process = platform.process();
        let now_ns = platform.now_ns();
        let lease = Lease {
            owner: last.owner,
            epoch: last.epoch,
            pid: process.pid,
            started: process.started,
            boot_id: platform.boot_id(),
            begun_ns: now_ns,
            ttl: options.ttl,
            count: 1,
            renewed_ns: platform.monotonic_ns(),
            wall_ns: now_ns,
        };
        let path = dir.join(LEASE);
        let made = LeaseFile::create(platform, &path, &draft_of(&path), lease);
        let lease = made.inspect_err(|_| {
            // It takes a name for nothing; the failure is the news.
            _ = platform.remove(&draft_of(&path));
        })?;
        Ok(Registration {
            renewing: None,
            lease: Arc::new(Mutex::new(lease)),
            held,
            platform: platform.clone(),
            entry,
            dir,
            last,
            predecessor,
            pid: process.pid,
            is_over: false,
        })
    }

    /// Tells others that the queues may be opened. Again, it does nothing.
    ///
    /// # Errors
    ///
    /// The entry was removed or replaced under us ([`Error::Evicted`]); the system's.
    pub fn ready(&mut self) -> Result<()> {
        self.check()?;
        let path = self.dir.join(READY);
        if self.platform.exists(&path)? {
            return Ok(());
        }
        let lease = *self.lease().lease();
        ready::publish(&self.platform, &path, &draft_of(&path), &lease).inspect_err(|_| {
            _ = self.platform.remove(&draft_of(&path));
        })
    }

    /// Renews the lease, and says after how long it wants to be renewed again: a third of its ttl, so that two renewals may
    /// come late before anybody calls this owner stalled.
    pub fn renew(&mut self) -> Duration {
        let mut lease = lock(&self.lease);
        lease.renew(&self.platform);
        lease.lease().ttl / 3
    }

    /// Renews from a thread until the registration ends: it says that the *process* lives, not that its work goes on. Who
    /// wants a stalled loop to be seen renews in the loop. Again, it does nothing.
    ///
    /// # Errors
    ///
    /// The system has no thread for us.
    pub fn start_renewing(&mut self) -> Result<()> {
        if self.renewing.is_some() {
            return Ok(());
        }
        let every = self.renew();
        let (stop, stopped) = mpsc::channel();
        let (lease, platform) = (self.lease.clone(), self.platform.clone());
        let work = move || {
            while stopped.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                lock(&lease).renew(&platform);
            }
        };
        let thread = std::thread::Builder::new()
            .name("bus lease".into())
            .spawn(work)
            .map_err(|error| chronicle_platform::Trouble::new("start a thread", &*self.dir, error))?;
        self.renewing = Some(Renewing { stop, thread });
        Ok(())
    }

    /// Whether the entry is still ours by name: somebody may have removed or replaced its directory, which no lock forbids.
    /// A few system calls: now and then, not in a loop.
    ///
    /// # Errors
    ///
    /// It is not ([`Error::Evicted`]); the system's.
    pub fn check(&self) -> Result<()> {
        if !self.held.has_its_name(&self.platform)? {
            return Err(Error::Evicted { path: self.dir.join(OWNER_LOCK) });
        }
        if !self.lease().has_its_name(&self.platform)? {
            return Err(Error::Evicted { path: self.dir.join(LEASE) });
        }
        Ok(())
    }

    /// Which registration of the entry this is, from 1.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.last.epoch
    }

    /// Its random id.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.last.owner
    }

    /// How the one before it ended.
    #[must_use]
    pub fn predecessor(&self) -> Predecessor {
        self.predecessor
    }

    /// What is registered.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends the registration, as dropping it does, and says what went wrong.
    ///
    /// # Errors
    ///
    /// The entry was removed or replaced under us, and nothing is touched ([`Error::Evicted`]); the system's, and then the
    /// next scan sweeps what is left.
    pub fn leave(mut self) -> Result<()> {
        self.end()
    }

    fn lease(&self) -> MutexGuard<'_, LeaseFile<P>> {
        lock(&self.lease)
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(());
        }
        if let Some(Renewing { stop, thread }) = self.renewing.take() {
            drop(stop);
            // It does not panic; if it did, the registration ends all the same.
            _ = thread.join();
        }
        if !self.held.has_its_name(&self.platform)? {
            return Err(Error::Evicted { path: self.dir.join(OWNER_LOCK) });
        }
        // First, so that who finds the files gone finds the reason.
        self.held.store(&self.last.leaving())?;
        for name in [READY, LEASE] {
            match self.platform.remove(&self.dir.join(name)) {
                Err(trouble) if trouble.kind() == TroubleKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl<P: Platform> Drop for Registration<P> {
    fn drop(&mut self) {
        // A forked child has a copy of this value and none of the entry.
        if self.is_over || self.platform.process().pid != self.pid {
            return;
        }
        // What could not be removed is swept by the next scan.
        _ = self.end();
    }
}

fn lock<P: Platform>(lease: &Mutex<LeaseFile<P>>) -> MutexGuard<'_, LeaseFile<P>> {
    // Nothing in a renewal leaves it half done for the next one.
    lease.lock().unwrap_or_else(PoisonError::into_inner)
}

/// First and longest pause between two tries of a lock.
const PAUSE: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Takes `owner.lock`. One that a living owner has is refused at once; another one is waited for, because who holds it
/// without a lease will soon let go: it sweeps, begins or ends.
fn take<P: Platform>(platform: &P, dir: &Path, patience: Duration) -> Result<Held<P>> {
    let path = dir.join(OWNER_LOCK);
    let (mut waited, mut pause) = (Duration::ZERO, PAUSE);
    loop {
        platform.create_dirs(dir)?;
        match Held::try_take(platform, &path) {
            Ok(Tried::Held(held)) => return Ok(held),
            Ok(Tried::Busy) => {}
            // The directory was removed since.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        match lease::find(platform, &dir.join(LEASE)) {
            Ok(lease::Found::Held(lease)) => return Err(Error::Taken { path, pid: Some(lease.pid) }),
            Ok(lease::Found::Broken(_)) => return Err(Error::Taken { path, pid: None }),
            // What it is will be seen under the lock.
            Ok(_) | Err(_) => {}
        }
        if waited >= patience {
            return Err(Error::Taken { path, pid: None });
        }
        platform.sleep(pause);
        waited += pause;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
