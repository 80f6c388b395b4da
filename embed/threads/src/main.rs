//! Two threads and a ring between them, in memory of this program's own: all that `chronicle-core` needs.
//!
//! `cargo run --manifest-path embed/threads/Cargo.toml`

use chronicle_core::{
    REGION_ALIGN, Region, RegionMut,
    ring::spsc::{self, Consumer, Producer, PushError, Spec},
};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// A block of the heap, as long and as aligned as a ring asks for.
struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

impl Block {
    fn new(layout: Layout) -> Self {
        assert!(layout.size() > 0 && layout.align() >= REGION_ALIGN);
        // SAFETY: the size is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Block { base, layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` got it with this layout, and nobody else frees it.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

// SAFETY: the block is this value's alone, and all that it offers is its `Region`, whose windows use atomics.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

// SAFETY: the block stays where it is, aligned to at least `REGION_ALIGN` and valid for its length, until the value is
// dropped; its bytes were initialised to zero, and `base` is private, so that nothing but a window reaches them.
unsafe impl Region for Block {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.layout.size()
    }
}

// SAFETY: as above, and a block of the heap may be written.
unsafe impl RegionMut for Block {}

const CAPACITY: usize = 1 << 12;
const MESSAGES: u64 = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let block = Block::new(spsc::layout(CAPACITY).ok_or("no ring has this capacity")?);
    spsc::format(&block, &Spec { capacity: CAPACITY, ..Spec::default() })?;
    let mut producer = Producer::attach(&block)?;
    let mut consumer = Consumer::attach(&block)?;

    let sum = std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..MESSAGES {
                // As many bytes as the number has.
                let bytes = n.to_le_bytes();
                let len = 8 - n.leading_zeros() as usize / 8;
                loop {
                    match producer.push(&bytes[..len]) {
                        Ok(_) => break,
                        Err(PushError::Full { .. }) => std::thread::yield_now(),
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
        let (mut taken, mut sum) = (0, 0_u64);
        while taken < MESSAGES {
            let mut bytes = [0; 8];
            match consumer.pop(&mut bytes)? {
                Some((seq, _)) => {
                    taken += 1;
                    assert_eq!(seq, taken);
                    sum += u64::from_le_bytes(bytes);
                }
                None => std::thread::yield_now(),
            }
        }
        Ok::<_, spsc::PopError>(sum)
    })?;
    assert_eq!(sum, MESSAGES * (MESSAGES - 1) / 2);
    println!("{MESSAGES} messages from one thread to the other");
    Ok(())
}
