//! Several writes in flight, in an io_uring of its own.
//!
//! ```text
//! submit (lock) ── entry into the queue ── io_uring_enter, which waits for nothing
//! reap   (lock) ── completions that are there ──▶ outcomes
//!        none there: one thread, without the lock, waits in io_uring_enter; the others sleep until it is back
//! ```
//!
//! So a thread that waits blocks nobody who submits. While one waits, completions are that thread's alone: taking them away
//! between its last look and its system call would leave it waiting for one that has been.
//!
//! **No completion is lost.** An operation has a place in `flight` from before it is pushed until its one completion
//! was taken; there are no more places than entries in the submission queue, and the completion queue has twice as many. So
//! neither is ever full.
//!
//! **The lock file.** The ring holds on to the file whose lock makes this process the log's writer. When a process
//! is killed its writes may land later; until the last one has, the ring lives, and so the lock is not free.
//!
//! **One thread.** With `one_thread` the kernel runs completions only when that thread asks for them (`DEFER_TASKRUN`, 6.1). For
//! several threads there is no such mode, and `COOP_TASKRUN` is not used: a completion is run by the thread that submitted,
//! which may be computing while another one waits, and then only an interrupt is prompt.
//!
//! Never here: polling by the kernel (`SQPOLL`) or by us. On two cores both were 20 to 80 times slower.

use super::{
    attached_twice,
    choose::with_source,
    entry::{entry, outcome, supports_wal},
    segment::Segment,
    segment_of, unattached,
};
use crate::{LinuxMapMut, lease::pid};
use chronicle_core::{
    Region,
    wal::{Op, OpId, Outcome},
};
use chronicle_platform::{Result, Trouble, WalOptions};
use io_uring::{IoUring, types::Fixed};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};
use std::{
    fmt, io,
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::ThreadId,
    time::Duration,
};

/// Segments that can be attached at once: more than a log writes to.
const SEGMENTS: usize = 16;

/// Operations in flight at most, whatever depth was asked for: a machine has eight writes and their syncs.
const MOST: usize = 64;

/// Between two tries to hand over what the kernel had no memory for.
const PAUSE: Duration = Duration::from_millis(1);

/// Stands for a path in errors.
const PATH: &str = "io_uring";

/// The ring of one log.
pub(super) struct Ring {
    /// Dropped by hand: see [`Drop`].
    ring: ManuallyDrop<IoUring>,
    /// Kept until the kernel reads no more from it.
    memory: ManuallyDrop<Arc<LinuxMapMut>>,
    /// Whether the memory is the ring's registered buffer 0.
    registered: bool,
    /// Whether completions are run only when asked for.
    deferred: bool,
    /// The thread that made it, the only one to call where completions are deferred; its process.
    maker: (ThreadId, u32),
    options: WalOptions,
    state: Mutex<State>,
    /// The thread that waited is back, or the last outcome was told.
    news: Condvar,
    /// Made when it is asked for.
    event: OnceLock<OwnedFd>,
}

struct State {
    /// By their place among the ring's files, of which the first is the lock.
    segments: Box<[Option<Segment>]>,
    /// By user data.
    flight: Box<[Option<Flight>]>,
    in_flight: usize,
    /// A thread waits in the kernel.
    waiting: bool,
    /// Threads that sleep on `news`.
    sleeping: usize,
    /// What the kernel said when it would not go on.
    broken: Option<Errno>,
    /// So many times the kernel is taken to have no memory.
    #[cfg(test)]
    starved: u32,
}

#[derive(Clone, Copy)]
struct Flight {
    op: OpId,
    segment: u64,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("registered", &self.registered)
            .field("deferred", &self.deferred)
            .field("in_flight", &self.state().in_flight)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring, with notes on what it could not have. The calling thread is its only one where `one_thread` says so.
    pub(super) fn new(
        memory: Arc<LinuxMapMut>,
        lock: impl AsFd,
        options: &WalOptions,
        notes: &mut Vec<String>,
    ) -> Result<Ring> {
        let limit = (2 * usize::from(options.depth)).clamp(1, MOST);
        let entries = limit.next_power_of_two() as u32;
        let (ring, deferred) =
            make(entries, options.one_thread, notes).map_err(|error| Trouble::new("set up", PATH, error))?;
        supports_wal(&ring)?;
        let trouble = |error| Trouble::new("register with", PATH, error);
        let mut files = [-1; SEGMENTS + 1];
        files[0] = lock.as_fd().as_raw_fd();
        ring.submitter().register_files(&files).map_err(trouble)?;
        let iovec = libc::iovec { iov_base: memory.base().as_ptr().cast(), iov_len: memory.len() };
        // SAFETY: the range is the mapping, which stays until the ring is gone or for ever: see `close`.
        let registered = match unsafe { ring.submitter().register_buffers(&[iovec]) } {
            Ok(()) => true,
            Err(error) => {
                notes.push(format!("buffers are not registered: {error}"));
                false
            }
        };
        let state = State {
            segments: (0..SEGMENTS).map(|_| None).collect(),
            flight: vec![None; limit].into(),
            in_flight: 0,
            waiting: false,
            sleeping: 0,
            broken: None,
            #[cfg(test)]
            starved: 0,
        };
        Ok(Ring {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(memory),
            registered,
            deferred,
            maker: (std::thread::current().id(), pid()),
            options: options.clone(),
            state: Mutex::new(state),
            news: Condvar::new(),
            event: OnceLock::new(),
        })
    }

    /// The descriptor that tells of completions. Not the ring's own: with deferred completions nobody would be woken by it.
    pub(super) fn event(&self) -> Result<BorrowedFd<'_>> {
        let _one_at_a_time = self.state();
        if self.event.get().is_none() {
            let trouble = |error| Trouble::new("wait for", PATH, error);
            let event =
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| trouble(errno.into()))?;
            self.ring.submitter().register_eventfd(event.as_raw_fd()).map_err(trouble)?;
            // It tells of what completes from now on; whatever has completed is found by looking.
            _ = rustix::io::write(&event, &1_u64.to_ne_bytes());
            _ = self.event.set(event);
        }
        Ok(self.event.get().expect("bug: set above").as_fd())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave a half-changed state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attach(&self, id: u64, path: &Path) -> Result<()> {
        let segment = Segment::open(id, path, true, self.options.block_size)?;
        let mut state = self.state();
        if state.find(id).is_some() {
            return Err(attached_twice(path));
        }
        let Some(place) = state.segments.iter().position(Option::is_none) else {
            let note = format!("{SEGMENTS} segments are attached, which is as many as there can be");
            return Err(Trouble::new("attach", path, Errno::MFILE).noting(note));
        };
        self.set_file(place, segment.file.as_fd().as_raw_fd()).map_err(|error| Trouble::new("attach", path, error))?;
        state.segments[place] = Some(segment);
        Ok(())
    }

    pub(super) fn detach(&self, id: u64) -> Result<()> {
        let mut state = self.state();
        let (place, segment) = state.find(id).ok_or_else(|| unattached("detach", id))?;
        let trouble = |error| Trouble::new("detach", segment.file.path(), error);
        if state.flight.iter().flatten().any(|flight| flight.segment == id) {
            let note = "operations are in flight, or their outcomes have not been told";
            return Err(trouble(Errno::BUSY.into()).noting(note));
        }
        self.set_file(place, -1).map_err(trouble)?;
        state.segments[place] = None;
        Ok(())
    }

    /// Puts a descriptor into the place of a segment among the ring's files; -1 for none.
    fn set_file(&self, place: usize, fd: i32) -> io::Result<()> {
        self.ring.submitter().register_files_update(fixed(place).0, &[fd]).map(drop)
    }

    pub(super) fn submit(&self, op: &Op) -> Result<()> {
        let Some(id) = segment_of(op) else { return self.options.check(op, Path::new("wal"), 0, 0) };
        let mut state = self.state();
        state.check_sound("submit")?;
        let (place, segment) = state.find(id).ok_or_else(|| unattached("submit", id))?;
        self.options.check(op, segment.file.path(), self.memory.len(), segment.len)?;
        let Some(free) = state.flight.iter().position(Option::is_none) else {
            let note = format!("{} operations are in flight, which is as many as there can be", state.flight.len());
            return Err(Trouble::new("submit", segment.file.path(), Errno::BUSY).noting(note));
        };
        let buffer = self.registered.then_some(0);
        let entry = entry(op, fixed(place), &**self.memory, buffer)
            .expect("bug: an operation on a segment has an entry")
            .user_data(free as u64);
        {
            // SAFETY: this is the only way to the queue, and the lock is held.
            let mut queue = unsafe { self.ring.submission_shared() };
            // SAFETY: the kernel reads from the range and writes nothing. `check` proved the range inside the mapping,
            // which stays until the completion was taken or for ever (`close`), and by the machine's promise does not change.
            unsafe { queue.push(&entry) }.expect("bug: there are as many entries as places in flight");
        }
        state.flight[free] = Some(Flight { op: op.id(), segment: id });
        state.in_flight += 1;
        self.hand_over(&mut state)
    }

    /// Gives what is in the queue to the kernel. What it has no memory for just now stays there for the next time; `reap`
    /// does not wait before it has gone over.
    fn hand_over(&self, state: &mut State) -> Result<()> {
        #[cfg(test)]
        if let Some(left) = state.starved.checked_sub(1) {
            state.starved = left;
            return Ok(());
        }
        loop {
            match self.ring.submit().map_err(errno_of) {
                Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOMEM) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return state.give_up("submit", errno),
            }
        }
    }

    /// Whether the queue holds what the kernel has not taken.
    fn is_left(&self, _: &State) -> bool {
        // SAFETY: this is the only way to the queue, and the lock is held.
        let queue = unsafe { self.ring.submission_shared() };
        !queue.is_empty()
    }

    pub(super) fn reap(&self, wait: bool, done: &mut dyn FnMut(OpId, Outcome)) -> Result<usize> {
        let mut outcomes = [None; MOST];
        let count = self.collect(wait, &mut outcomes)?;
        outcomes[..count].iter().flatten().for_each(|(op, outcome)| done(*op, *outcome));
        Ok(count)
    }

    fn collect(&self, wait: bool, outcomes: &mut [Option<(OpId, Outcome)>; MOST]) -> Result<usize> {
        let mut state = self.state();
        loop {
            state.check_sound("reap")?;
            if state.waiting {
                if !wait {
                    return Ok(0);
                }
                state.sleeping += 1;
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleeping -= 1;
                continue;
            }
            if let Some(event) = self.event.get() {
                // Before looking, so that what completes after the look makes it readable again.
                _ = rustix::io::read(event, &mut [0_u8; 8]);
            }
            if state.in_flight == 0 {
                return Ok(0);
            }
            if self.is_left(&state) {
                self.hand_over(&mut state)?;
            }
            let count = self.take(&mut state, outcomes);
            if count > 0 {
                // Perhaps there is nothing left for the others to wait for, or one of them is to wait in the kernel.
                self.tell(state);
                return Ok(count);
            }
            if !wait {
                return Ok(0);
            }
            if self.is_left(&state) {
                // The kernel had no memory for it. Waiting for completions might be for ever: there may be none to come.
                drop(state);
                std::thread::sleep(PAUSE);
                state = self.state();
                continue;
            }
            state.waiting = true;
            drop(state);
            let entered = self.enter(1);
            state = self.state();
            state.waiting = false;
            match entered {
                Ok(()) | Err(Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::NOMEM) => {}
                Err(errno) => {
                    let refused = state.give_up("wait for", errno);
                    self.tell(state);
                    return refused.map(|()| 0);
                }
            }
        }
    }

    /// Takes the completions that are there.
    fn take(&self, state: &mut State, outcomes: &mut [Option<(OpId, Outcome)>; MOST]) -> usize {
        if self.deferred && self.has_work() {
            // What is ready becomes a completion. An error is one of the next call, too.
            _ = self.enter(0);
        }
        let mut count = 0;
        // SAFETY: this is the only way to the queue, and the lock is held.
        let queue = unsafe { self.ring.completion_shared() };
        for completion in queue {
            // Ours alone come out of this ring, each once.
            let place = completion.user_data() as usize;
            let flight = state.flight.get_mut(place).and_then(Option::take).expect("bug: a completion of nothing");
            state.in_flight -= 1;
            outcomes[count] = Some((flight.op, outcome(completion.result())));
            count += 1;
        }
        count
    }

    /// Whether the kernel has completions that wait for the only thread to ask.
    fn has_work(&self) -> bool {
        // SAFETY: this is the only way to the queue, and the lock is held.
        unsafe { self.ring.submission_shared() }.taskrun()
    }

    /// Submits nothing; returns when there are `least` completions.
    fn enter(&self, least: u32) -> std::result::Result<(), Errno> {
        const GETEVENTS: u32 = 1;
        // SAFETY: no set of signals is given, and nothing is submitted.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, least, GETEVENTS, None) }.map(drop).map_err(errno_of)
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let sleeping = state.sleeping;
        drop(state);
        if sleeping > 0 {
            self.news.notify_all();
        }
    }

    /// Waits for what is in flight; whether the kernel reads nothing of the memory any more.
    fn settle(&mut self) -> bool {
        let (thread, process) = self.maker;
        if process != pid() {
            // A forked child's copy of the ring: a descriptor and a mapping. The memory was never mapped here.
            return true;
        }
        if !self.deferred || thread == std::thread::current().id() {
            while self.state().in_flight > 0 && self.reap(true, &mut |_, _| ()).is_ok() {}
            // The kernel takes its time to bury a ring: this way files and memory are free now and not in some
            // milliseconds. Where it fails they are free then.
            _ = self.ring.submitter().unregister_files();
            _ = self.ring.submitter().unregister_buffers();
        }
        self.state().in_flight == 0
    }
}

impl Drop for Ring {
    /// Waits for what is in flight, then gives back the ring and the memory.
    ///
    /// Where another thread than the only one drops it, or the ring is broken, nobody can wait, and writes may go on
    /// after the ring is gone. Then the memory is never given back: the kernel reads what it was told to, and nothing else
    /// gets to lie there.
    fn drop(&mut self) {
        let is_idle = self.settle();
        // SAFETY: dropped once, here, and not used below.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if is_idle {
            // SAFETY: as above. The completion of each write was taken, so the kernel reads nothing more.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl State {
    fn find(&self, id: u64) -> Option<(usize, &Segment)> {
        let attached = self.segments.iter().enumerate().filter_map(|(place, segment)| Some((place, segment.as_ref()?)));
        attached.into_iter().find(|(_, segment)| segment.id == id)
    }

    fn check_sound(&self, operation: &'static str) -> Result<()> {
        match self.broken {
            Some(errno) => Err(broken(operation, errno)),
            None => Ok(()),
        }
    }

    fn give_up(&mut self, operation: &'static str, errno: Errno) -> Result<()> {
        self.broken = Some(errno);
        Err(broken(operation, errno))
    }
}

fn broken(operation: &'static str, errno: Errno) -> Trouble {
    Trouble::new(operation, PATH, errno).noting("what was in flight is in doubt: open the log anew")
}

/// The place of a segment among the ring's files.
fn fixed(place: usize) -> Fixed {
    Fixed(place as u32 + 1)
}

fn errno_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// A ring, and whether its completions are deferred.
fn make(entries: u32, one_thread: bool, notes: &mut Vec<String>) -> io::Result<(IoUring, bool)> {
    if one_thread {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        match builder.build(entries) {
            Ok(ring) => return Ok((ring, true)),
            // Flags that this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                notes.push("no DEFER_TASKRUN before kernel 6.1".to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    IoUring::new(entries).map(|ring| (ring, false))
}

/// Why there is no ring, in words an operator can act on.
pub(super) fn why_refused(trouble: &Trouble) -> String {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let said = with_source(trouble);
    match (trouble.errno(), sysctl.trim()) {
        (Some(libc::EPERM), "1") => {
            "io_uring is refused: kernel.io_uring_disabled is 1, and this process is not in kernel.io_uring_group"
                .to_owned()
        }
        (Some(libc::EPERM), "2") => "io_uring is refused: kernel.io_uring_disabled is 2".to_owned(),
        (Some(libc::EPERM | libc::EACCES), _) => {
            format!("io_uring is refused, as containers do by a seccomp filter ({said})")
        }
        (Some(libc::ENOSYS), _) => format!("no io_uring in this kernel, or a filter hides it ({said})"),
        (Some(libc::ENOMEM), _) => format!("io_uring finds no memory, perhaps by RLIMIT_MEMLOCK ({said})"),
        _ => format!("io_uring cannot be used: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linux;
    use chronicle_platform::{File, MemoryOptions, Open, Platform};
    use io_uring::{opcode, types::Fd};
    use std::{thread, time::Duration};

    /// A ring with segment 1 attached; `None` where there is no io_uring.
    fn ring(dir: &Path, one_thread: bool) -> Option<Ring> {
        let memory = Arc::new(Linux.memory(1 << 16, &MemoryOptions::default()).unwrap().map);
        let lock = Linux.open(&dir.join("lock"), Open::Ensure).unwrap();
        let options = WalOptions { one_thread, depth: 2, ..WalOptions::default() };
        let ring = match Ring::new(memory, &lock, &options, &mut Vec::new()) {
            Ok(ring) => ring,
            Err(trouble) => {
                eprintln!("skipped: {}", why_refused(&trouble));
                return None;
            }
        };
        let path = dir.join("1.wal");
        let file = Linux.open(&path, Open::Ensure).unwrap();
        file.fill(0, 1 << 16).unwrap();
        ring.attach(1, &path).unwrap();
        Some(ring)
    }

    fn write(number: u32) -> Op {
        let op = OpId::from_number(number);
        Op::Write { op, segment: 1, offset: 4096 * u64::from(number), from: 0, len: 4096, sync: true }
    }

    /// Puts an operation in flight that ends when somebody writes to `event`.
    fn stall(ring: &Ring, event: &OwnedFd, number: u32) {
        let mut state = ring.state();
        let free = state.flight.iter().position(Option::is_none).unwrap();
        let entry = opcode::PollAdd::new(Fd(event.as_raw_fd()), libc::POLLIN as u32).build().user_data(free as u64);
        // SAFETY: the lock is held.
        let mut queue = unsafe { ring.ring.submission_shared() };
        // SAFETY: no memory is involved.
        unsafe { queue.push(&entry) }.unwrap();
        drop(queue);
        state.flight[free] = Some(Flight { op: OpId::from_number(number), segment: 1 });
        state.in_flight += 1;
        ring.hand_over(&mut state).unwrap();
    }

    fn one(ring: &Ring) -> u32 {
        let mut told = None;
        assert_eq!(ring.reap(true, &mut |op, _| told = Some(op.number())).unwrap(), 1);
        told.unwrap()
    }

    #[test]
    fn who_waits_stops_nobody_who_submits() {
        let dir = tempfile::tempdir().unwrap();
        let Some(ring) = ring(dir.path(), false) else { return };
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        stall(&ring, &event, 90);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| one(&ring));
            while !ring.state().waiting {
                thread::yield_now();
            }
            // What is there is the waiting thread's; this one is not held up by that.
            assert_eq!(ring.reap(false, &mut |_, _| ()).unwrap(), 0);
            let second = scope.spawn(|| one(&ring));
            thread::sleep(Duration::from_millis(5));
            ring.submit(&write(3)).unwrap();
            // One of them takes the write's outcome, and the other goes on waiting: now in the kernel.
            while ring.state().in_flight == 2 {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(5));
            rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
            let mut told = [waiting.join().unwrap(), second.join().unwrap()];
            told.sort_unstable();
            assert_eq!(told, [3, 90]);
        });
        assert_eq!(ring.reap(true, &mut |_, _| ()).unwrap(), 0);
    }

    #[test]
    fn there_are_never_more_in_flight_than_completions_have_room() {
        let dir = tempfile::tempdir().unwrap();
        let Some(ring) = ring(dir.path(), false) else { return };
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        (0..4).for_each(|number| stall(&ring, &event, number));
        let refusal = ring.submit(&write(4)).unwrap_err();
        assert!(refusal.to_string().contains("4 operations are in flight"), "{refusal}");
        assert!(ring.ring.params().cq_entries() >= 4);
        rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
        let mut told = 0;
        while told < 4 {
            told += ring.reap(true, &mut |_, _| ()).unwrap();
        }
        ring.submit(&write(4)).unwrap();
        assert_eq!(one(&ring), 4);
    }

    #[test]
    fn what_the_kernel_had_no_memory_for_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let Some(ring) = ring(dir.path(), false) else { return };
        ring.state().starved = 3;
        ring.submit(&write(3)).unwrap();
        assert_eq!(ring.reap(false, &mut |_, _| ()).unwrap(), 0, "it is still in the queue");
        // Nothing is in the kernel: who waited there would not come back.
        let (told, heard) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| told.send(one(&ring)).unwrap());
            let heard = heard.recv_timeout(Duration::from_secs(20));
            // Lets a thread that does wait there go, so that the test fails and does not hang.
            ring.hand_over(&mut ring.state()).unwrap();
            assert_eq!(heard, Ok(3));
        });
        assert_eq!(ring.state().starved, 0);
    }

    #[test]
    fn dropping_waits_and_where_it_cannot_the_memory_stays() {
        let dir = tempfile::tempdir().unwrap();
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let Some(shared) = ring(dir.path(), false) else { return };
        let memory = Arc::downgrade(&shared.memory);
        stall(&shared, &event, 1);
        let dropping = thread::spawn(move || drop(shared));
        thread::sleep(Duration::from_millis(20));
        assert!(memory.upgrade().is_some() && !dropping.is_finished(), "something is in flight");
        rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
        dropping.join().unwrap();
        assert!(memory.upgrade().is_none());

        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let only = ring(dir.path(), true).unwrap();
        let memory = Arc::downgrade(&only.memory);
        stall(&only, &event, 1);
        let deferred = only.deferred;
        if !deferred {
            rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
        }
        thread::spawn(move || drop(only)).join().unwrap();
        assert_eq!(memory.upgrade().is_some(), deferred, "another thread cannot wait");

        let idle = ring(dir.path(), true).unwrap();
        let memory = Arc::downgrade(&idle.memory);
        thread::spawn(move || drop(idle)).join().unwrap();
        assert!(memory.upgrade().is_none(), "nothing was in flight");
    }

    #[test]
    fn a_forked_child_touches_nothing_of_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut ring) = ring(dir.path(), false) else { return };
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        stall(&ring, &event, 1);
        ring.maker.1 += 1;
        let began = std::time::Instant::now();
        drop(ring);
        assert!(began.elapsed() < Duration::from_secs(5), "as a child sees it, there is nothing to wait for");
    }

    #[test]
    fn a_refusal_says_what_an_operator_can_change() {
        let refused = |errno: i32| why_refused(&Trouble::new("set up", PATH, io::Error::from_raw_os_error(errno)));
        assert!(refused(libc::EPERM).starts_with("io_uring is refused"));
        assert!(refused(libc::ENOSYS).starts_with("no io_uring in this kernel"));
        assert!(refused(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(refused(libc::EMFILE).contains("Too many open files"));
    }
}
