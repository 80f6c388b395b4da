//! A ring's consumer in an epoll loop: a helper thread writes an eventfd when the producer wakes it.
//!
//! `cargo run -p chronicle-platform-linux --example wait_epoll`
//!
//! Register the descriptor once; arm it when there is nothing to read; `clear` it when it is readable.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    on_linux::run()
}

#[cfg(target_os = "linux")]
mod on_linux {
    use chronicle_core::{
        ring::spsc::{self, Consumer, DATA_WAKE, Producer, Spec},
        wake::{self, Mode},
    };
    use chronicle_platform::{MemoryOptions, Platform};
    use chronicle_platform_linux::{EventWait, Linux};
    use rustix::{buffer::spare_capacity, event::epoll, time::Timespec};
    use std::{sync::Arc, time::Duration};

    const MESSAGES: u64 = 20;

    /// Tells descriptors apart.
    const RING: u64 = 1;

    pub(super) fn run() -> Result<(), Box<dyn std::error::Error>> {
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
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &event, epoll::EventData::new_u64(RING), epoll::EventFlags::IN)?;
        let mut ready = Vec::with_capacity(4);
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
            event.arm(seen);
            ready.clear();
            // The time-out is for a producer that died: then look who holds the lease.
            epoll::wait(&epoll, spare_capacity(&mut ready), Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))?;
            match ready.first() {
                Some(one) if one.data.u64() == RING => _ = event.clear()?,
                _ => return Err("nobody woke the loop for 10 s".into()),
            }
            sleeps += 1;
        }
        sending.join().expect("the producer's thread");
        println!("{taken} messages, {sleeps} sleeps");
        assert!(sleeps > 0, "a loop that never slept shows nothing");
        Ok(())
    }
}
