//! One thread, one loop, a log: no other thread, no wait, and no allocation once the loop has begun.
//!
//! `cargo run -p chronicle --example wal_embedded`
//!
//! A recorder samples, appends, and goes on; [`Wal::drive`] hands the device what was gathered and takes in what has ended,
//! without waiting for either. How far the log is durable is a number to be looked at. A counting allocator proves the
//! headline. What does allocate is another segment, whose file gets a name: [`Wal::maintain`] makes it when the loop has
//! time, here when it is over, and this example's first segment is long enough until then.

use chronicle::{
    System,
    storage::wal::{AppendError, Options, ReaderOptions, Threads, Wal, WalReader},
};
use std::{
    alloc::{GlobalAlloc, Layout, System as Heap},
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts what is asked of the heap.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on as it came, to an allocator that keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // ORDERING: a count that is read by the thread that counts.
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout, handed on.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, and so from `Heap`.
        unsafe { Heap.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

const SAMPLES: u64 = 50_000;

/// What is measured: its number, and a value that follows from it.
fn sample(n: u64) -> [u8; 32] {
    let mut sample = [0; 32];
    sample[..8].copy_from_slice(&n.to_le_bytes());
    sample[8..16].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    sample
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options { segment_len: 32 << 20, spares: 1, threads: Threads::One, ..Options::default() };
    let (wal, _) = Wal::open(&System, dir.path(), &options)?;
    println!("{}", wal.mode());

    let began = ALLOCATIONS.load(Ordering::Relaxed);
    let (mut put_off, mut asked) = (0, 0);
    for n in 0..SAMPLES {
        let seq = loop {
            match wal.try_append(&sample(n)) {
                Ok(seq) => break seq,
                Err(AppendError::Full) => {
                    // All buffers are on their way. A loop with other work would do that; this one has none.
                    put_off += 1;
                    wal.drive_waiting();
                }
                Err(error) => return Err(error.into()),
            }
        };
        // One request is under way at a time; what comes meanwhile goes with the next.
        if wal.durable() >= asked {
            asked = seq;
            wal.on_commit(seq, |_| {})?;
        }
        wal.drive();
    }
    while wal.durable() < asked {
        wal.drive_waiting();
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - began;

    let stats = wal.stats();
    wal.maintain()?;
    wal.close()?;
    println!(
        "{SAMPLES} samples, {} writes, {put_off} times all buffers full: {allocations} allocations",
        stats.batches
    );
    assert_eq!(allocations, 0, "the loop allocates");

    let mut reader = WalReader::open(&System, dir.path(), 0, ReaderOptions::default())?;
    let mut next = 0;
    while let Some(record) = reader.next()? {
        assert_eq!((record.seq, record.payload), (next + 1, &sample(next)[..]));
        next += 1;
    }
    assert_eq!(next, SAMPLES);
    Ok(())
}
