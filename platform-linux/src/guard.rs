//! Staying alive where a peer cuts a mapped file: a handler for SIGBUS that maps zeros over the hole.
//!
//! ```text
//! load or store ── page is gone ── SIGBUS ── handler: whose address is this?
//!                                              a guarded mapping's: mark it damaged, map zeros from that page to
//!                                              the mapping's end, return; the instruction repeats and succeeds
//!                                              anybody else's: the handler that was there before, or the default
//! ```
//!
//! It is opt-in ([`chronicle_platform::Platform::guard`]): the first guard of the process installs the handler, for good.
//! From then on a damaged mapping is private memory: what is stored there reaches nobody, so its ends must look at the
//! mark and give up. Memory that is sealed against shrinking needs none of this.
//!
//! The handler makes system calls and touches atomics, nothing else: no allocation, no lock, no thread-local. Its table
//! is fixed, and an entry that is changing meanwhile is not the faulting thread's own: a mapping is guarded before, and
//! let go after, anybody can reach into it.
//!
//! A forked child has the read-only mappings and their guards, with marks of its own. It has none of the writable ones:
//! what lies at their addresses is somebody else's, and nothing of it is healed.
//!
//! Never here: faults of broken memory (`BUS_MCEERR_*`) and signals that somebody sent, which go to the handler before.

use crate::{lease::pid, sys};
use chronicle_platform::{Result, Trouble};
use std::{
    io,
    path::Path,
    ptr::NonNull,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence},
    },
};

/// Mappings that can be guarded at once.
const SLOTS: usize = 1024;

static TABLE: [Slot; SLOTS] = [const { Slot::free() }; SLOTS];

/// Slots below this one have been in use: where the handler stops looking.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Held while an entry changes; never by the handler.
static CHANGING: Mutex<()> = Mutex::new(());

/// The handler that was there before ours.
static BEFORE: OnceLock<sys::Handler> = OnceLock::new();

/// One guarded mapping.
struct Slot {
    /// Odd while the entry changes; another number after each change.
    version: AtomicU32,
    /// The process whose mapping it is; of a read-only one also its forked children.
    pid: AtomicU32,
    /// First byte of the mapping.
    base: AtomicUsize,
    /// Its length; 0: the slot is free.
    len: AtomicUsize,
    /// Length of its pages.
    page: AtomicUsize,
    writable: AtomicBool,
    damaged: AtomicBool,
}

/// What a slot holds.
#[derive(Clone, Copy)]
struct Entry {
    pid: u32,
    base: usize,
    len: usize,
    page: usize,
    writable: bool,
}

impl Slot {
    const fn free() -> Slot {
        Slot {
            version: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            base: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            page: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }
    }

    /// With [`CHANGING`] held.
    fn set(&self, entry: Entry) {
        // ORDERING: the fence keeps the stores below behind the odd version: a handler that reads one of them and then
        // fences sees the version changed.
        self.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.pid.store(entry.pid, Ordering::Relaxed);
        self.base.store(entry.base, Ordering::Relaxed);
        self.len.store(entry.len, Ordering::Relaxed);
        self.page.store(entry.page, Ordering::Relaxed);
        self.writable.store(entry.writable, Ordering::Relaxed);
        self.damaged.store(false, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `get`: whoever sees this version sees the entry.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The entry, unless it is changing or free.
    fn get(&self) -> Option<Entry> {
        // ORDERING: Acquire pairs with the Release in `set`.
        let version = self.version.load(Ordering::Acquire);
        let entry = Entry {
            pid: self.pid.load(Ordering::Relaxed),
            base: self.base.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            page: self.page.load(Ordering::Relaxed),
            writable: self.writable.load(Ordering::Relaxed),
        };
        // ORDERING: pairs with the Release fence in `set`.
        fence(Ordering::Acquire);
        let stable = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (stable && entry.len > 0).then_some(entry)
    }
}

/// A mapping's place in the table, free again when dropped. It is dropped before the mapping is unmapped.
#[derive(Debug)]
pub(crate) struct Guard(usize);

impl Guard {
    /// Guards `len` bytes at `base`, made of pages of `page` bytes.
    ///
    /// # Safety
    ///
    /// The range is a mapping that the caller owns for as long as it has the guard, on pages' edges, of which no reference
    /// to plain memory exists: from the first fault on its bytes are others.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize, page: usize, writable: bool, path: &Path) -> Result<Guard> {
        let trouble = |source: io::Error| Trouble::new("guard", path, source);
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        install().map_err(trouble)?;
        let free = TABLE.iter().position(|slot| slot.len.load(Ordering::Relaxed) == 0);
        let at = free.ok_or_else(|| {
            trouble(io::ErrorKind::QuotaExceeded.into()).noting(format!("{SLOTS} mappings are guarded already"))
        })?;
        TABLE[at].set(Entry { pid: pid(), base: base.as_ptr().expose_provenance(), len, page, writable });
        // ORDERING: Relaxed, because the handler only needs it for faults of threads that got the mapping after this.
        USED.fetch_max(at + 1, Ordering::Relaxed);
        Ok(Guard(at))
    }

    /// Whether pages were missing.
    pub(crate) fn is_damaged(&self) -> bool {
        // ORDERING: the fence keeps this load behind the loads from the mapping that the caller did before: who has read a
        // zero of ours sees the mark, which was stored before the zeros were mapped, by a system call between the two.
        fence(Ordering::Acquire);
        TABLE[self.0].damaged.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        TABLE[self.0].set(Entry { pid: 0, base: 0, len: 0, page: 0, writable: false });
    }
}

/// Makes ours the handler of SIGBUS, with [`CHANGING`] held; or says that somebody has replaced it since.
fn install() -> io::Result<()> {
    let now = sys::bus_handler()?;
    if now.is(handle) {
        return Ok(());
    }
    if BEFORE.set(now).is_err() {
        let why = "another handler for SIGBUS has replaced the guard's: install it before the first guard";
        return Err(io::Error::other(why));
    }
    // What was there is known before ours can run.
    sys::set_bus_handler(handle)
}

/// Runs on the faulting thread, in the middle of whatever it did.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel calls this with a valid `info` of a SIGBUS.
    let fault = unsafe { sys::missing_page(info) };
    if fault.is_some_and(heal) {
        return;
    }
    if let Some(before) = BEFORE.get() {
        // SAFETY: these are the kernel's own arguments, and `before` is what it would have called.
        unsafe { before.call(signal, info, context) };
    }
}

/// Maps zeros where `address` lies in a guarded mapping; whether it does.
fn heal(address: usize) -> bool {
    let used = USED.load(Ordering::Relaxed).min(SLOTS);
    let mut found = None;
    for slot in &TABLE[..used] {
        let Some(entry) = slot.get() else { continue };
        let ours = !entry.writable || entry.pid == pid();
        if ours && address >= entry.base && address - entry.base < entry.len {
            // ORDERING: Release, before the zeros are mapped: see `is_damaged`.
            slot.damaged.store(true, Ordering::Release);
            // Perhaps not the only one: two threads may guard a mapping at once, of which one guard is kept.
            found = Some(entry);
        }
    }
    let Some(entry) = found else { return false };
    let skip = (address - entry.base) / entry.page * entry.page;
    let hole = std::ptr::with_exposed_provenance_mut(entry.base + skip);
    // SAFETY: the range is the rest of a mapping whose owner guards it, from a page's edge inside; it cannot go away
    // meanwhile because the faulting thread holds a borrow of it, and by `Guard::new` nothing but atomics reaches it.
    unsafe { sys::map_zeros(hole, entry.len - skip, entry.writable) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_core::{Region, RegionMut};
    use chronicle_platform::{File, Open, Platform};

    #[test]
    fn slots_are_free_again_and_a_new_mapping_is_not_damaged_by_the_old() {
        let memory = Linux.memory_dir().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::tempdir_in(memory).unwrap();
        let file = Linux.open(&dir.path().join("file"), Open::Create).unwrap();
        for _ in 0..SLOTS + 10 {
            file.allocate(4096).unwrap();
            let map = Linux.map_mut(&file, 4096).unwrap();
            Linux.guard_mut(&map).unwrap();
            Linux.guard_mut(&map).unwrap();
            assert!(!Linux.is_damaged_mut(&map));
            file.set_len(0).unwrap();
            map.window_mut().store(0, 1);
            assert!(Linux.is_damaged_mut(&map));
            assert_eq!(map.window().load(0), 1, "zeros that can be stored to");
        }
    }

    #[test]
    fn only_what_is_gone_is_replaced_and_only_in_the_guarded_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let file = Linux.open(&dir.path().join("file"), Open::Create).unwrap();
        file.write_at(&[7; 4 * 4096], 0).unwrap();
        let (map, other) = (Linux.map(&file, 4 * 4096).unwrap(), Linux.map(&file, 4096).unwrap());
        Linux.guard(&map).unwrap();
        file.set_len(2 * 4096).unwrap();
        let words = [0, 4096, 8192, 3 * 4096].map(|at| map.window().load(at));
        assert_eq!(words, [0x0707_0707, 0x0707_0707, 0, 0]);
        assert!(map.is_damaged() && !other.is_damaged());
        file.write_at(&[8; 4096], 0).unwrap();
        assert_eq!(map.window().load(0), 0x0808_0808, "what is left is still the file");
    }
}
