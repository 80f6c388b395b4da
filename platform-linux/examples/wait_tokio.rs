//! A ring's consumer as a tokio task: it awaits an eventfd that a helper thread writes when the producer wakes it.
//!
//! `cargo run -p chronicle-platform-linux --example wait_tokio`
//!
//! With epoll, or any other loop, it is the same: register the descriptor, `clear` it when it is readable.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(on_linux::run())
}

#[cfg(target_os = "linux")]
mod on_linux {
    use chronicle_core::{
        ring::spsc::{self, Consumer, DATA_WAKE, Producer, Spec},
        wake::{self, Mode},
    };
    use chronicle_platform::{MemoryOptions, Platform};
    use chronicle_platform_linux::{EventWait, Linux};
    use std::{sync::Arc, time::Duration};
    use tokio::{io::unix::AsyncFd, time::timeout};

    const MESSAGES: u64 = 20;

    pub(super) async fn run() -> Result<(), Box<dyn std::error::Error>> {
        let capacity = 1 << 12;
        let memory = Linux.memory(spsc::len(capacity).ok_or("a capacity")?, &MemoryOptions::default())?;
        spsc::format(&memory.map, &Spec { capacity, ..Spec::default() })?;
        let map = Arc::new(memory.map);
        let mut consumer = Consumer::attach(map.clone())?;
        let mut producer = Producer::attach(map.clone())?;
        let mode = Mode::Fence;
        let sending = std::thread::spawn(move || {
            for n in 0..MESSAGES {
                // Now and then a pause that is long enough for the consumer to sleep.
                std::thread::sleep(Duration::from_millis(n % 5));
                producer.push(&n.to_le_bytes()).expect("room for a few messages");
                if producer.sleepers(mode) {
                    Linux.wake(producer.region(), DATA_WAKE).expect("a mapping of ours");
                }
            }
        });

        let event = EventWait::start(map, DATA_WAKE)?;
        // SAFETY: an `EventWait` owns its one descriptor until it is dropped, and never replaces it.
        let event = unsafe { AsyncFd::register(event) }?;
        let (mut taken, mut sleeps) = (0, 0);
        while taken < MESSAGES {
            while let Some(frame) = consumer.step()? {
                assert_eq!(frame.payload.u64_at(0), Some(taken));
                taken += 1;
            }
            consumer.release();
            if taken == MESSAGES {
                break;
            }
            let seen = consumer.mark_sleeper();
            wake::settle();
            if consumer.is_ready() {
                continue;
            }
            event.get_ref().arm(seen);
            // Other tasks run meanwhile. The time-out is for a producer that died: then look who holds the lease.
            let mut readable = timeout(Duration::from_secs(10), event.readable()).await??;
            event.get_ref().clear()?;
            readable.clear_ready();
            sleeps += 1;
        }
        sending.join().expect("the producer's thread");
        println!("{taken} messages, {sleeps} sleeps");
        assert!(sleeps > 0, "a loop that never slept shows nothing");
        Ok(())
    }
}
