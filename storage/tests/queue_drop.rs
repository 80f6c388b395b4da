//! A writer that goes away while its helper works. In a process of its own, because it listens to every panic.
#![cfg(target_os = "linux")]

use chronicle_core::Append;
use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_writer_dropped_while_its_helper_prepares_says_nothing() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        eprintln!("{info}");
    }));
    let options = PublisherOptions { segment_len: 4096, max_bytes: 8 * 4096, ..PublisherOptions::new(Profile::Raw) };
    for n in 0..20u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = Queue::publisher(&Linux, dir.path(), options.clone()).unwrap();
        for _ in 0..200 + n {
            queue.append_wait(Append::default(), &[0; 64], Duration::from_secs(5)).unwrap();
        }
        drop(queue);
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}
