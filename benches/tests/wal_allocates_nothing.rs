//! An append and a commit ask nothing of the heap: not in the thread that commits, not in the log's own.
//!
//! What does is another segment, whose file gets a name: the log makes those ahead, in a thread of its own or in
//! `Wal::maintain`. So the segments here are long enough, and the counting begins when the spares are made.

#![cfg(target_os = "linux")]

use chronicle_core::wal::Kind;
use chronicle_platform::WalWay;
use chronicle_platform_linux::Linux;
use chronicle_storage::wal::{Options, Threads, Wal};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Counts what is asked of the heap, by any thread.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on as it came, to an allocator that keeps the promises of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // ORDERING: a count; who reads it has met the threads that counted at a barrier.
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, and so from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn count() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Until nothing was asked of the heap for a while: the log's own thread is done with its spares.
fn settle() {
    loop {
        let before = count();
        thread::sleep(Duration::from_millis(100));
        if count() == before {
            return;
        }
    }
}

/// One test, so that no other counts in between.
#[test]
fn appends_and_commits_allocate_nothing() {
    let before = count();
    drop(std::hint::black_box(vec![7_u8; 100]));
    assert_eq!(count() - before, 1, "what is asked of the heap is counted");
    for way in [WalWay::Auto, WalWay::Uring, WalWay::Direct, WalWay::Buffered] {
        for threads in [Threads::Own, Threads::Callers] {
            for committers in [1, 8] {
                let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
                let options = Options { segment_len: 16 << 20, spares: 1, way, threads, ..Options::default() };
                let (wal, _) = Wal::open(&Linux, dir.path(), &options).unwrap();
                settle();
                let (ready, begin, end) =
                    (Barrier::new(committers + 1), Barrier::new(committers + 1), Barrier::new(committers + 1));
                let allocations = thread::scope(|scope| {
                    for _ in 0..committers {
                        scope.spawn(|| {
                            ready.wait();
                            begin.wait();
                            for n in 0..100 {
                                let seq = wal.append(b"a frame").unwrap();
                                wal.commit(seq).unwrap();
                                let many = wal.append_batch(&[b"one", b"two", b"three"]).unwrap();
                                if n % 10 == 0 {
                                    wal.append_control(Kind::Vote, b"me").unwrap();
                                    wal.append_control(Kind::Meta, b"mine").unwrap();
                                    wal.commit_all().unwrap();
                                } else {
                                    wal.commit(many.end - 1).unwrap();
                                }
                                wal.drive();
                            }
                            end.wait();
                        });
                    }
                    ready.wait();
                    let before = count();
                    begin.wait();
                    end.wait();
                    count() - before
                });
                assert_eq!(allocations, 0, "{way}, {threads:?}, {committers} committers");
                assert_eq!(wal.stats().rolls, 0);
                wal.close().unwrap();
            }
        }
    }
}
