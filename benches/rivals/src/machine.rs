//! What the machine itself can do: the floors, and the little of the system that measuring needs.
//!
//! Beside `wal/bare.rs` the file here that says `unsafe`: a floor leaves out what we promise, checks included. Never used by
//! anything that ships.

use chronicle_platform::{File, Open, Platform};
use chronicle_platform_linux::Linux;
use std::{
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Instant,
};

/// A writable mapping of ours.
pub type MapMut = <Linux as Platform>::MapMut;
/// A readable mapping of ours.
pub type Map = <Linux as Platform>::Map;

/// A file of `len` bytes, mapped, every page present and writable.
pub fn warm_file(path: &Path, len: usize) -> Result<MapMut, String> {
    let make = || {
        let file = Linux.open(path, Open::Create)?;
        file.allocate(len as u64)?;
        let map = Linux.map_mut(&file, len)?;
        Linux.prefault_mut(&map)?;
        Ok(map)
    };
    make().map_err(|trouble: chronicle_platform::Trouble| trouble.to_string())
}

/// Bytes of a frame with 64 bytes of payload: what the floors step by, too.
pub const STRIDE: usize = 96;

/// Copies `payload` and stores a length with Release, once every [`STRIDE`] bytes, from end to end. How often.
pub fn copy_and_release(map: &MapMut, payload: &[u8; 64]) -> u64 {
    let base = chronicle_core::Region::base(map).as_ptr();
    let len = chronicle_core::Region::len(map);
    let (mut at, mut count) = (128, 0);
    while at + STRIDE + 32 <= len {
        let payload = std::hint::black_box(payload);
        // SAFETY: 64 bytes from `at + 32` are inside the mapping, which nobody else uses.
        unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), base.add(at + 32), 64) };
        // SAFETY: `at` is a multiple of 4 inside the mapping.
        let word = unsafe { AtomicU32::from_ptr(base.add(at).cast()) };
        word.store(65, Ordering::Release);
        at += STRIDE;
        count += 1;
    }
    count
}

/// As [`copy_and_release`], with one `crc32fast` call over the 88 bytes that a frame's checksum covers, in place.
pub fn copy_sum_and_release(map: &MapMut, payload: &[u8; 64]) -> u64 {
    let base = chronicle_core::Region::base(map).as_ptr();
    let len = chronicle_core::Region::len(map);
    let (mut at, mut count) = (128, 0_u64);
    while at + STRIDE + 32 <= len {
        let payload = std::hint::black_box(payload);
        // SAFETY: 64 bytes from `at + 32` are inside the mapping, which nobody else uses.
        unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), base.add(at + 32), 64) };
        // SAFETY: 88 bytes from `at + 8` are inside the mapping, and nobody writes them while the slice lives.
        let summed = unsafe { std::slice::from_raw_parts(base.add(at + 8), 88) };
        let mut crc = crc32fast::Hasher::new_with_initial(count as u32);
        crc.update(summed);
        // SAFETY: `at + 4` is a multiple of 4 inside the mapping.
        unsafe { AtomicU32::from_ptr(base.add(at + 4).cast()) }.store(crc.finalize(), Ordering::Relaxed);
        // SAFETY: as above.
        let word = unsafe { AtomicU32::from_ptr(base.add(at).cast()) };
        word.store(65, Ordering::Release);
        at += STRIDE;
        count += 1;
    }
    count
}

/// The bytes of a mapping that nobody changes any more.
///
/// Every user is this program, which has stopped writing; the files are private to it.
pub fn still_bytes<R: chronicle_core::Region>(map: &R) -> &[u8] {
    // SAFETY: the mapping lives as long as the borrow, and by the function's word nobody writes it.
    unsafe { std::slice::from_raw_parts(map.base().as_ptr(), map.len()) }
}

/// The program's word that committed bytes stay as they are: all files here are its own.
pub fn trusted() -> chronicle_core::Trusted {
    // SAFETY: this program alone opens these files, and it never changes what it committed while it reads.
    unsafe { chronicle_core::Trusted::assert() }
}

/// Adds up 8 bytes at a time: what both a scan and a reader do with what they see.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Two words, a spacing apart, that two processes take turns to store.
pub fn words(map: &MapMut) -> (&AtomicU64, &AtomicU64) {
    let base = chronicle_core::Region::base(map).as_ptr();
    assert!(chronicle_core::Region::len(map) >= 4096, "bug: the words' mapping is shorter than a page");
    // SAFETY: the first 8 bytes of a mapping that is used in no other way.
    let ping = unsafe { AtomicU64::from_ptr(base.cast()) };
    // SAFETY: 8 aligned bytes inside the same page.
    let pong = unsafe { AtomicU64::from_ptr(base.add(1024).cast()) };
    (ping, pong)
}

/// A clock that costs a few ns to read, where there is one. In its own ticks.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; a system that forbids it would end us at once.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::LazyLock;
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed().as_nanos() as u64
    }
}

/// Nanoseconds of one tick, measured over 20 ms.
pub fn tick_ns() -> f64 {
    let (began, first) = (Instant::now(), ticks());
    while began.elapsed().as_millis() < 20 {}
    began.elapsed().as_nanos() as f64 / (ticks() - first) as f64
}

/// Keeps this thread on the `nth` processor that the process may use; `false` if there are not so many.
pub fn pin(nth: usize) -> bool {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    static FIRST: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let all = FIRST.get_or_init(|| {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
    });
    let Some(cpu) = all.get(nth) else { return false };
    let mut set = CpuSet::new();
    set.set(*cpu);
    sched_setaffinity(None, &set).is_ok()
}

/// Lets this thread run anywhere again.
pub fn unpin() {
    let mut set = rustix::thread::CpuSet::new();
    for cpu in 0..rustix::thread::CpuSet::MAX_CPU {
        set.set(cpu);
    }
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Counts page faults that this thread's own instructions take from here on.
///
/// Not `/proc/thread-self/stat`: that also counts pages which a system call such as `madvise` brings in on purpose.
pub struct Faults(std::fs::File, u64);

impl Faults {
    /// Begins to count at 0.
    pub fn count() -> Result<Self, String> {
        use std::os::fd::FromRawFd as _;
        // `perf_event_attr` in its first version, 64 bytes: software events, page faults, exclude_kernel and exclude_hv.
        let attr: [u64; 8] = [1 | 64 << 32, 2, 0, 0, 0, 1 << 5 | 1 << 6, 0, 0];
        let (this_thread, any_cpu, no_group, cloexec) = (0, -1, -1, 8);
        // SAFETY: the kernel reads 64 bytes at `attr`, as its size field says, and keeps no pointer.
        let fd =
            unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), this_thread, any_cpu, no_group, cloexec) };
        let fd = i32::try_from(fd)
            .ok()
            .filter(|fd| *fd >= 0)
            .ok_or_else(|| format!("page faults cannot be counted: {}", std::io::Error::last_os_error()))?;
        // SAFETY: the descriptor was just made and has no other owner.
        let mut faults = Faults(unsafe { std::fs::File::from_raw_fd(fd) }, 0);
        // Once for nothing: what reading takes in code and stack is then there, and counted by nobody.
        faults.read()?;
        faults.1 = faults.read()?;
        Ok(faults)
    }

    /// So far.
    pub fn read(&mut self) -> Result<u64, String> {
        use std::io::Read as _;
        let mut count = [0; 8];
        self.0.read_exact(&mut count).map_err(|it| it.to_string())?;
        Ok(u64::from_le_bytes(count) - self.1)
    }
}

/// A word with nothing else on its lines.
#[repr(align(128))]
struct Alone<T>(T);

/// The least that a ring between two threads can be: two indices and a copy between.
pub struct BareRing {
    tail: Alone<AtomicU64>,
    head: Alone<AtomicU64>,
    slots: Alone<[std::cell::UnsafeCell<[u64; 8]>; BareRing::LEN]>,
}

// SAFETY: a slot is written by the one sender before `tail` covers it and read by the one receiver after; `ends` lends
// one of each, and this program calls it once a ring.
unsafe impl Sync for BareRing {}

/// The sending end of a [`BareRing`].
pub struct BareSender<'a>(&'a BareRing, u64, u64);
/// The receiving end of a [`BareRing`].
pub struct BareReceiver<'a>(&'a BareRing, u64, u64);

impl BareRing {
    const LEN: usize = 1024;

    /// Empty.
    pub fn new() -> Box<Self> {
        Box::new(BareRing {
            tail: Alone(AtomicU64::new(0)),
            head: Alone(AtomicU64::new(0)),
            slots: Alone([const { std::cell::UnsafeCell::new([0; 8]) }; Self::LEN]),
        })
    }

    /// Both ends.
    pub fn ends(&self) -> (BareSender<'_>, BareReceiver<'_>) {
        (BareSender(self, 0, 0), BareReceiver(self, 0, 0))
    }
}

impl BareSender<'_> {
    /// Sends it if there is room.
    #[inline(always)]
    pub fn push(&mut self, message: [u64; 8]) -> bool {
        if self.1 - self.2 == BareRing::LEN as u64 {
            self.2 = self.0.head.0.load(Ordering::Acquire);
            if self.1 - self.2 == BareRing::LEN as u64 {
                return false;
            }
        }
        // SAFETY: the receiver has passed this slot, and `tail` does not cover it yet.
        unsafe { *self.0.slots.0[self.1 as usize % BareRing::LEN].get() = message };
        self.1 += 1;
        self.0.tail.0.store(self.1, Ordering::Release);
        true
    }
}

impl BareReceiver<'_> {
    /// Receives one if there is one.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<[u64; 8]> {
        if self.1 == self.2 {
            self.2 = self.0.tail.0.load(Ordering::Acquire);
            if self.1 == self.2 {
                return None;
            }
        }
        // SAFETY: `tail` covers this slot, and the sender waits for `head` to pass it.
        let message = unsafe { *self.0.slots.0[self.1 as usize % BareRing::LEN].get() };
        self.1 += 1;
        self.0.head.0.store(self.1, Ordering::Release);
        Some(message)
    }
}

/// Makes a named pipe.
pub fn make_fifo(path: &std::ffi::CStr) -> Result<(), String> {
    // SAFETY: the kernel reads the string up to its end and keeps no pointer.
    match unsafe { libc::mkfifo(path.as_ptr(), 0o600) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}

/// Copies a message into a mapping.
#[inline(always)]
pub fn copy_at(map: &MapMut, offset: usize, message: &[u64; 8]) {
    assert!(offset.is_multiple_of(8) && offset + 64 <= chronicle_core::Region::len(map));
    // SAFETY: by the assertion 64 aligned bytes are inside the mapping, which nobody else uses.
    unsafe { *chronicle_core::Region::base(map).as_ptr().add(offset).cast::<[u64; 8]>() = *message };
}

/// The least that a broadcast can be: slots of 72 bytes in a circle, each with a number stored last. Nothing is checked,
/// and what a reader gets may be torn.
pub struct BareCircle {
    words: Vec<AtomicU64>,
    next: AtomicU64,
}

impl BareCircle {
    const WORDS: usize = 9;

    /// Of so many bytes.
    pub fn new(len: usize) -> Self {
        let slots = len / 8 / Self::WORDS;
        BareCircle { words: (0..slots * Self::WORDS).map(|_| AtomicU64::new(0)).collect(), next: AtomicU64::new(0) }
    }

    fn slot(&self, number: u64) -> &[AtomicU64; Self::WORDS] {
        let slots = (self.words.len() / Self::WORDS) as u64;
        let at = (number % slots) as usize * Self::WORDS;
        self.words[at..at + Self::WORDS].try_into().expect("a slot's words")
    }

    /// Writes so many more. One thread at a time.
    pub fn write(&self, count: u64, message: fn(u64) -> [u64; 8]) {
        let first = self.next.load(Ordering::Relaxed);
        for number in first..first + count {
            let slot = self.slot(number);
            for (word, value) in slot[1..].iter().zip(message(number)) {
                word.store(value, Ordering::Relaxed);
            }
            slot[0].store(number + 1, Ordering::Release);
        }
        self.next.store(first + count, Ordering::Relaxed);
    }

    /// Reads what comes, from the newest on, until told to stop.
    pub fn follow(&self, stop: impl Fn() -> bool) {
        let mut number = self.next.load(Ordering::Relaxed);
        while !stop() {
            let slot = self.slot(number);
            let found = slot[0].load(Ordering::Acquire);
            if found > number {
                // On, or past what was overwritten meanwhile.
                number = found;
                let sum = slot[1..].iter().fold(0_u64, |sum, word| sum.wrapping_add(word.load(Ordering::Relaxed)));
                std::hint::black_box(sum);
            } else {
                std::hint::spin_loop();
            }
        }
    }
}
