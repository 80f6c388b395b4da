//! How long is it from a full segment to the first frame of the next?
//!
//! A queue of small segments in memory whose helper keeps two ready; each sample ends a segment and appends once. In a
//! stream that never pauses, beside the same stream without rolls: `benches/rivals`, group `roll`.

// The macros make public functions that nobody calls by name.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};

#[cfg(target_os = "linux")]
fn roll(c: &mut Criterion) {
    use chronicle_core::Append;
    use chronicle_platform::Platform;
    use chronicle_platform_linux::Linux;
    use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
    use std::time::{Duration, Instant};

    let memory = Linux.memory_dir().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(memory).expect("a scratch directory");
    let options = PublisherOptions { prepare_late: false, segments_ahead: 2, ..PublisherOptions::new(Profile::Clean) };
    let mut queue = Queue::publisher(&Linux, dir.path().join("queue"), options).expect("a new queue");
    let append = Append { time_ns: 1, type_id: 1, flags: 0 };
    c.bench_function("roll and append", |b| {
        b.iter_custom(|rolls| {
            let mut took = Duration::ZERO;
            for _ in 0..rolls {
                // The helper's work is beside the point: wait until it has something ready.
                queue.append_wait(append, &[7; 64], Duration::from_secs(10)).expect("room");
                std::thread::sleep(Duration::from_micros(200));
                let began = Instant::now();
                let rolled = queue.roll();
                let appended = rolled.and_then(|()| queue.append(append, &[7; 64]));
                if appended.is_ok() {
                    took += began.elapsed();
                }
            }
            took
        });
    });
}

#[cfg(not(target_os = "linux"))]
fn roll(_: &mut Criterion) {
    eprintln!("skipped: only Linux maps queues here");
}

criterion_group!(benches, roll);
criterion_main!(benches);
