//! Sleeping on a word where only file descriptors can be waited for: epoll, tokio, any loop.
//!
//! One thread sleeps on the word in the loop's place and writes an eventfd when it wakes. It sleeps on nothing until it
//! is asked to ([`EventWait::arm`]), so a loop that always finds something to read costs it nothing.
//!
//! ```text
//! loop                                          thread
//!   nothing to read
//!   e = mark ── settle or barrier ── look again
//!   arm(e) ───────────────────────────────────▶ sleeps while word == e and nobody arms anew
//!   waits for its descriptors, this one too ◀── writes the eventfd, sleeps on nothing
//!   clear ── look again
//! ```
//!
//! Arming anew replaces what was armed before. Each wake-up means "look again", and one may come for nothing. A writer
//! that died wakes nobody: give the loop's wait a time-out, then look who holds the lease.
//!
//! The thread sleeps on both its words at once (`futex_waitv`, kernel 5.16). Without that call, or where a sandbox forbids
//! it, it looks up every 10 ms for the loop's orders; wake-ups are as prompt as before.

use crate::lease::pid;
use chronicle_core::Region;
use chronicle_platform::{Result, Trouble};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
    thread::futex,
    time::{ClockId, Timespec},
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
};

/// Stands for a path in errors.
const PATH: &str = "eventfd";

/// A descriptor that becomes readable when a word that others change is another than it was, or somebody wakes its
/// sleepers. Dropping it ends its thread.
#[derive(Debug)]
pub struct EventWait {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread.
    pid: u32,
}

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    orders: Mutex<Orders>,
    /// Counts orders; the thread sleeps on it too, so that a new one ends its sleep.
    order: AtomicU32,
}

#[derive(Debug, Default)]
struct Orders {
    /// Sleep while the word is this.
    armed: Option<u32>,
    stop: bool,
    /// Why a sleep failed, for the next `clear`.
    failed: Option<Errno>,
}

/// Why the thread woke.
enum Roused {
    ByWord,
    ByOrder,
    Failed(Errno),
}

impl EventWait {
    /// Starts the thread, for the word at `offset` of a region that it keeps until it ends.
    ///
    /// # Errors
    ///
    /// If there is no descriptor or no thread to be had.
    ///
    /// # Panics
    ///
    /// If `offset` is no word of the region.
    pub fn start<R: Region + Send + Sync + 'static>(region: R, offset: usize) -> Result<EventWait> {
        // The window's own check, which panics with the numbers.
        region.window().load(offset);
        let trouble = |source: io::Error| Trouble::new("start waiting", PATH, source);
        let event =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| trouble(errno.into()))?;
        let shared = Arc::new(Shared { event, orders: Mutex::default(), order: AtomicU32::new(0) });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("chronicle-wait".to_owned())
            .spawn(move || theirs.run(&region, offset))
            .map_err(trouble)?;
        Ok(EventWait { shared, thread: Some(thread), pid: pid() })
    }

    /// Has the descriptor become readable once the word is not `seen` any more, or its sleepers are woken.
    pub fn arm(&self, seen: u32) {
        self.shared.give(|orders| orders.armed = Some(seen));
    }

    /// Makes the descriptor unreadable again; whether it was readable.
    ///
    /// # Errors
    ///
    /// If the thread could not sleep: nothing will wake this loop but its own time-out.
    pub fn clear(&self) -> Result<bool> {
        if let Some(errno) = self.shared.orders().failed.take() {
            return Err(Trouble::new("wait", PATH, errno));
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.shared.event, &mut [0_u8; 8])) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(Trouble::new("read", PATH, errno)),
        }
    }
}

impl AsFd for EventWait {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

impl AsRawFd for EventWait {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }
}

impl Drop for EventWait {
    fn drop(&mut self) {
        // A forked child has no such thread, and would wait for it for ever.
        if self.pid != pid() {
            return;
        }
        self.shared.give(|orders| orders.stop = true);
        if let Some(thread) = self.thread.take() {
            // It cannot panic but by a bug, which it has printed.
            _ = thread.join();
        }
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the orders, and has the thread look at them.
    fn give(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = self.orders();
        change(&mut orders);
        // ORDERING: with the lock held, as the thread reads it: number and orders belong together. The kernel compares
        // the number with the one that the thread read, so an order that comes before its sleep ends it at once.
        self.order.fetch_add(1, Ordering::Relaxed);
        drop(orders);
        // Fails for no argument of ours.
        _ = futex::wake(&self.order, futex::Flags::PRIVATE, 1);
    }

    fn run(&self, region: &impl Region, offset: usize) {
        loop {
            let (armed, order) = {
                let orders = self.orders();
                if orders.stop {
                    return;
                }
                (orders.armed, self.order.load(Ordering::Relaxed))
            };
            let Some(seen) = armed else {
                // A signal, a wake, an order that has come already: all are found out above.
                _ = futex::wait(&self.order, futex::Flags::PRIVATE, order, None);
                continue;
            };
            let failed = match self.sleep(region, offset, seen, order) {
                Roused::ByOrder => continue,
                Roused::ByWord => None,
                Roused::Failed(errno) => Some(errno),
            };
            let mut orders = self.orders();
            orders.failed = failed.or(orders.failed);
            // An order that came meanwhile is for another sleep.
            if self.order.load(Ordering::Relaxed) == order {
                orders.armed = None;
            }
            drop(orders);
            // Refused only where the count is at its end, and then the descriptor is readable.
            _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.event, &1_u64.to_ne_bytes()));
        }
    }

    fn sleep(&self, region: &impl Region, offset: usize, seen: u32, order: u32) -> Roused {
        let mut both = [futex::Wait::new(), futex::Wait::new()];
        both[0].val = seen.into();
        both[0].uaddr = futex::WaitPtr::new(region.base().as_ptr().wrapping_add(offset).cast());
        both[0].flags = futex::WaitFlags::SIZE_U32;
        both[1].val = order.into();
        both[1].uaddr = futex::WaitPtr::new(self.order.as_ptr().cast());
        both[1].flags = futex::WaitFlags::SIZE_U32 | futex::WaitFlags::PRIVATE;
        loop {
            let slept = match futex::waitv(&both, futex::WaitvFlags::empty(), None, ClockId::Monotonic) {
                Ok(0) => return Roused::ByWord,
                Ok(_) => return Roused::ByOrder,
                Err(Errno::NOSYS | Errno::PERM) => self.sleep_and_look_up(region, offset, seen),
                Err(errno) => Err(errno),
            };
            let is_new = self.order.load(Ordering::Relaxed) != order;
            match slept {
                Ok(()) => return Roused::ByWord,
                _ if is_new => return Roused::ByOrder,
                Err(Errno::AGAIN) => return Roused::ByWord,
                Err(Errno::INTR | Errno::TIMEDOUT) => {}
                Err(errno) => return Roused::Failed(errno),
            }
        }
    }

    /// For kernels without `futex_waitv`: sleeps on the word alone, for 10 ms.
    fn sleep_and_look_up(&self, region: &impl Region, offset: usize, seen: u32) -> rustix::io::Result<()> {
        let word = region.base().as_ptr().wrapping_add(offset).cast();
        // SAFETY: `start` checked that the word is inside the region, which by `Region`'s contract stays mapped and is
        // only reached through atomics; the kernel loads from it.
        let word = unsafe { AtomicU32::from_ptr(word) };
        futex::wait(word, futex::Flags::empty(), seen, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_core::RegionMut;
    use chronicle_platform::{MemoryOptions, Platform};
    use rustix::event::{PollFd, PollFlags, poll};

    /// Whether the descriptor is readable within the time.
    fn is_readable(wait: &EventWait, ms: i64) -> bool {
        let time = Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
        poll(&mut [PollFd::new(wait, PollFlags::IN)], Some(&time)).unwrap() == 1
    }

    #[test]
    fn an_order_is_answered_once_and_the_last_one_counts() {
        let memory = Linux.memory(4096, &MemoryOptions::default()).unwrap();
        let map = Arc::new(memory.map);
        let wait = EventWait::start(map.clone(), 128).unwrap();
        assert!(!is_readable(&wait, 20), "nothing was armed");
        assert!(!wait.clear().unwrap());

        wait.arm(1);
        assert!(is_readable(&wait, 10_000), "the word is another already");
        assert!(wait.clear().unwrap());
        assert!(!is_readable(&wait, 20), "once for each order");

        wait.arm(0);
        assert!(!is_readable(&wait, 20));
        Linux.wake(&map, 128).unwrap();
        assert!(is_readable(&wait, 10_000), "woken, though the word is the same");
        assert!(wait.clear().unwrap());

        wait.arm(0);
        map.window_mut().store(128, 5);
        wait.arm(5);
        // Perhaps for the first order; not for the second.
        _ = is_readable(&wait, 20) && wait.clear().unwrap();
        assert!(!is_readable(&wait, 20));
        map.window_mut().store(128, 6);
        Linux.wake(&map, 128).unwrap();
        assert!(is_readable(&wait, 10_000));
        wait.arm(6);
        drop(wait);
        assert_eq!(Arc::strong_count(&map), 1, "the thread has ended");

        let mut wait = EventWait::start(map.clone(), 128).unwrap();
        wait.pid += 1;
        drop(wait);
        assert_eq!(Arc::strong_count(&map), 2, "as a forked child sees it, there is no thread to end");
    }

    #[test]
    fn without_the_call_for_two_words_the_word_alone_is_slept_on() {
        let memory = Linux.memory(4096, &MemoryOptions::default()).unwrap();
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let shared = Shared { event, orders: Mutex::default(), order: AtomicU32::new(0) };
        assert_eq!(shared.sleep_and_look_up(&memory.map, 0, 0), Err(Errno::TIMEDOUT));
        assert_eq!(shared.sleep_and_look_up(&memory.map, 0, 1), Err(Errno::AGAIN));
    }
}
