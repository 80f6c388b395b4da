//! A firmware without an operating system or an allocator: an interrupt writes into a ring in a `static`, the main loop
//! reads it.
//!
//! `bash ci/cross bare` type-checks it for bare machines, against a library that holds `core` and nothing else. On a
//! machine with an operating system, `cargo run --manifest-path embed/bare-metal/Cargo.toml` calls the handler where an
//! interrupt would come.
//!
//! What a board adds is left to its own crates: the table of vectors that names [`on_timer`], the clock that makes it
//! come, the linker's script.
#![cfg_attr(target_os = "none", no_std, no_main)]

use chronicle_core::{
    Region, RegionMut,
    ring::spsc::{self, Consumer, Producer, PushError, Spec},
};
use core::{cell::UnsafeCell, ptr::NonNull};

const CAPACITY: usize = 1024;
/// Known when the program is compiled: the linker finds out whether it fits the machine.
const LEN: usize = spsc::layout(CAPACITY).expect("a power of two from 64 on").size();

/// The ring's memory: zeros, so it takes no room in the flash.
#[repr(C, align(128))]
struct Memory(UnsafeCell<[u8; LEN]>);

// SAFETY: the field is private to this file, and its bytes are reached through windows of the region alone, which use
// atomics: an interrupt between any two of the main loop's instructions is one more thread.
unsafe impl Sync for Memory {}

// SAFETY: a `static` does not move and is there for ever; `repr(align)` is 128; see `Sync` for the rest.
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

/// What the interrupt's handler owns.
struct Handler {
    producer: Producer<&'static Memory>,
    ticks: u32,
    /// Readings that found the ring full. The next one that does not says so.
    lost: u32,
}

impl Handler {
    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let mut reading = [0; 8];
        reading[..4].copy_from_slice(&self.ticks.to_le_bytes());
        reading[4..].copy_from_slice(&self.lost.to_le_bytes());
        match self.producer.push(&reading) {
            Ok(_) => self.lost = 0,
            // A handler does not wait: the main loop cannot make room before it returns.
            Err(PushError::Full { .. }) => self.lost = self.lost.saturating_add(1),
            // A ring of this program's own that nobody else reaches.
            Err(_) => panic!("the ring is damaged"),
        }
    }
}

/// Empty until [`set_up`].
struct HandlerCell(UnsafeCell<Option<Handler>>);

// SAFETY: `set_up` stores it while the interrupt is off; from then on the handler alone reaches it, and no interrupt
// interrupts itself.
unsafe impl Sync for HandlerCell {}

static HANDLER: HandlerCell = HandlerCell(UnsafeCell::new(None));

/// Makes the ring and its ends, before the interrupt is on.
fn set_up() -> Consumer<&'static Memory> {
    let made = spsc::format(&&MEMORY, &Spec { capacity: CAPACITY, ..Spec::default() });
    let (Ok(()), Ok(producer), Ok(consumer)) = (made, Producer::attach(&MEMORY), Consumer::attach(&MEMORY)) else {
        panic!("the capacity and the length are constants that fit")
    };
    // SAFETY: the interrupt is off, and this is the only core: nobody else looks.
    unsafe { *HANDLER.0.get() = Some(Handler { producer, ticks: 0, lost: 0 }) };
    consumer
}

/// The interrupt's handler.
extern "C" fn on_timer() {
    // SAFETY: see `HandlerCell`: from `set_up` on, this handler is the only one that looks, and it is not entered twice.
    if let Some(handler) = unsafe { &mut *HANDLER.0.get() } {
        handler.tick();
    }
}

/// What the readings came to.
#[derive(Default)]
struct Seen {
    ticks: u32,
    lost: u32,
}

/// One turn of the main loop: takes what is there.
fn turn(consumer: &mut Consumer<&'static Memory>, seen: &mut Seen) {
    while let Ok(Some(frame)) = consumer.step() {
        let mut reading = [0; 8];
        frame.payload.copy_to(&mut reading);
        let [a, b, c, d, e, f, g, h] = reading;
        let (ticks, lost) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        // Every tick is here or counted.
        assert!(ticks == seen.ticks.wrapping_add(1).wrapping_add(lost));
        seen.ticks = ticks;
        seen.lost = seen.lost.wrapping_add(lost);
    }
    consumer.release();
}

/// Where a bare machine begins, once its memory is set up.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut consumer = set_up();
    // The board's own: puts the handler into the table of vectors and lets the interrupt come.
    let handler: extern "C" fn() = on_timer;
    core::hint::black_box(handler);
    let mut seen = Seen::default();
    loop {
        turn(&mut consumer, &mut seen);
        core::hint::spin_loop();
    }
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// A machine with an operating system: interrupts come between the turns of the loop, now and then too many of them.
#[cfg(not(target_os = "none"))]
fn main() {
    let mut consumer = set_up();
    let mut seen = Seen::default();
    let mut ticks = 0;
    for interrupts in [1, 7, 500, 0, 3, 1000, 1] {
        for _ in 0..interrupts {
            on_timer();
        }
        ticks += interrupts;
        turn(&mut consumer, &mut seen);
    }
    assert_eq!(seen.ticks, ticks);
    assert!(seen.lost > 0, "a ring that was never full shows nothing");
    println!("{ticks} interrupts, {} found the ring full and were counted", seen.lost);
}
