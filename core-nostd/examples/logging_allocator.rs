//! A global allocator that logs every allocation into a ring in a `static`, and a thread that drains it.
//!
//! `cargo run -p chronicle-core --example logging_allocator`
//!
//! Nothing recurses: neither making the ring nor pushing to it allocates, and there is no thread-local, whose first use
//! might. One spin lock keeps the many threads to one producer; an allocator may be called where nobody may sleep. A full
//! ring never makes an allocation wait, because its consumer may be the one that allocates: such events are counted, and
//! their numbers are missing from the log.

use chronicle_core::{
    Region, RegionMut,
    ring::slots::{self, Consumer, Producer, Spec},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::UnsafeCell,
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One call of the allocator.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Event {
    /// Counts the calls, from 1, those that found the ring full too.
    seq: u64,
    address: u64,
    size: u64,
    align: u32,
    /// 1: given, 2: taken back.
    kind: u32,
}

const GIVEN: u32 = 1;
const TAKEN: u32 = 2;

/// More than this program allocates: so the counts at its end can be exact.
const SLOTS: usize = 1 << 15;
const LEN: usize = slots::layout::<Event>(SLOTS).expect("a power of two").size();

/// The ring's memory: zeros, so the program's file holds none of it.
#[repr(C, align(128))]
struct Memory(UnsafeCell<[u8; LEN]>);

// SAFETY: the field is private to this file, and its bytes are reached through windows of the region alone, which use
// atomics.
unsafe impl Sync for Memory {}

// SAFETY: a `static` does not move and is there until the program ends; `repr(align)` is 128; see `Sync` for the rest.
unsafe impl Region for &'static Memory {
    fn base(&self) -> NonNull<u8> {
        NonNull::from(&self.0).cast()
    }
    fn len(&self) -> usize {
        LEN
    }
}

// SAFETY: as above, and an `UnsafeCell` may be written through a shared reference.
unsafe impl RegionMut for &'static Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; LEN]));

struct Logging {
    is_locked: AtomicBool,
    state: UnsafeCell<State>,
}

struct State {
    producer: Option<Producer<Event, &'static Memory>>,
    seq: u64,
}

// SAFETY: `state` is reached in `note` alone, by the one thread that has set `is_locked`.
unsafe impl Sync for Logging {}

#[global_allocator]
static ALLOCATOR: Logging =
    Logging { is_locked: AtomicBool::new(false), state: UnsafeCell::new(State { producer: None, seq: 0 }) };

/// Calls so far. The two change under the allocator's lock.
static CALLS: AtomicU64 = AtomicU64::new(0);
/// Of those, the ones that found the ring full.
static LOST: AtomicU64 = AtomicU64::new(0);

impl Logging {
    fn note(&self, address: *mut u8, layout: Layout, kind: u32) {
        // ORDERING: Acquire pairs with the Release below: what the last holder did to `state` has happened.
        while self.is_locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is ours, and nothing below comes back here: none of it allocates.
        let state = unsafe { &mut *self.state.get() };
        state.seq += 1;
        let event = Event {
            seq: state.seq,
            address: address.addr() as u64,
            size: layout.size() as u64,
            align: layout.align() as u32,
            kind,
        };
        // ORDERING: Relaxed: counters; who wants them exact joins the threads first.
        CALLS.store(state.seq, Ordering::Relaxed);
        let is_logged = state.producer.as_mut().is_some_and(|producer| producer.push(event).is_ok());
        if !is_logged {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        // ORDERING: Release: see the Acquire above.
        self.is_locked.store(false, Ordering::Release);
    }

    /// Calls are logged from here on. Those before, which the start of every program makes, are counted as lost.
    fn begin(&self, producer: Producer<Event, &'static Memory>) {
        // ORDERING: as in `note`.
        while self.is_locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is ours; the producer that was there is `None`, and to drop that frees nothing.
        unsafe { &mut *self.state.get() }.producer = Some(producer);
        self.is_locked.store(false, Ordering::Release);
    }
}

// SAFETY: the system's allocator does the work, with the arguments as they came; `note` looks at no memory of the caller's.
unsafe impl GlobalAlloc for Logging {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        let address = unsafe { System.alloc(layout) };
        self.note(address, layout, GIVEN);
        address
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // Before it is free: an address that somebody else has been given by then would be logged in the wrong order.
        self.note(address, layout, TAKEN);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(address, layout) };
    }
}

/// What the threads below ask for, and nobody else here.
const ODD: Layout = match Layout::from_size_align(4099, 512) {
    Ok(layout) => layout,
    Err(_) => panic!("512 is a power of two"),
};
const THREADS: u64 = 4;
const EACH: u64 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    slots::format::<Event, _>(&&MEMORY, &Spec { count: SLOTS, ..Spec::default() })?;
    ALLOCATOR.begin(Producer::attach(&MEMORY)?);
    let mut consumer = Consumer::<Event, _>::attach(&MEMORY)?;
    // ORDERING: Relaxed: this thread is alone until it starts others.
    let before = LOST.load(Ordering::Relaxed);

    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..EACH {
                    // SAFETY: the layout's size is not 0.
                    let address = unsafe { std::alloc::alloc(ODD) };
                    // A compiler may leave out what nobody looks at.
                    let address = std::hint::black_box(address);
                    assert!(!address.is_null() && address.addr().is_multiple_of(ODD.align()));
                    // SAFETY: given a line above, with this layout.
                    unsafe { std::alloc::dealloc(address, ODD) };
                }
            })
        })
        .collect();

    let mut log = Log::default();
    while threads.iter().any(|thread| !thread.is_finished()) {
        log.drain(&mut consumer, before)?;
        std::hint::spin_loop();
    }
    for thread in threads {
        thread.join().expect("a thread that only allocates");
    }
    // Nothing allocates from here to the counts: the other threads are gone, and draining does not.
    log.drain(&mut consumer, before)?;
    let (calls, lost) = (CALLS.load(Ordering::Relaxed), LOST.load(Ordering::Relaxed));

    assert_eq!(lost, before, "the ring is larger than what this program does");
    assert_eq!(log.events + lost, calls, "every call is in the log or counted as lost");
    assert_eq!([log.odd_given, log.odd_taken], [THREADS * EACH; 2]);
    println!("{} events of {calls} calls, {} of them this program's own; {lost} before the log began", log.events, {
        2 * THREADS * EACH
    });
    Ok(())
}

#[derive(Default)]
struct Log {
    events: u64,
    odd_given: u64,
    odd_taken: u64,
}

impl Log {
    fn drain(
        &mut self,
        consumer: &mut Consumer<Event, &'static Memory>,
        before: u64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        while let Some(event) = consumer.pop()? {
            self.events += 1;
            assert_eq!(event.seq, before + self.events, "no event is missing, none comes twice");
            assert_ne!(event.address, 0);
            if (event.size, event.align) == (ODD.size() as u64, ODD.align() as u32) {
                match event.kind {
                    GIVEN => self.odd_given += 1,
                    TAKEN => self.odd_taken += 1,
                    other => panic!("no event is of kind {other}"),
                }
            }
        }
        Ok(())
    }
}
