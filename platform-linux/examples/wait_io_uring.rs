//! A ring's consumer inside an io_uring loop: while there is nothing to read, the sleep is one more operation in flight.
//!
//! `cargo run -p chronicle-platform-linux --example wait_io_uring`
//!
//! Both ends are threads here; in two processes the memory is handed over first (`LinuxFile::send`).

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
    use chronicle_platform::{MemoryOptions, Platform, TroubleKind};
    use chronicle_platform_linux::{
        Linux,
        io_uring::{IoUring, opcode, types::Timespec},
        uring,
    };
    use std::{sync::Arc, time::Duration};

    const MESSAGES: u64 = 20;

    /// Tells completions apart.
    const SLEEP: u64 = 1;
    const TICK: u64 = 2;

    pub(super) fn run() -> Result<(), Box<dyn std::error::Error>> {
        let mut uring = match IoUring::new(8) {
            Ok(uring) => uring,
            Err(error) => {
                println!("skipped: no io_uring here: {error}");
                return Ok(());
            }
        };
        match uring::supports_wait(&uring) {
            Err(trouble) if trouble.kind() == TroubleKind::Unsupported => {
                println!("skipped: {trouble}");
                return Ok(());
            }
            supported => supported?,
        }

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

        let (mut taken, mut sleeps) = (0, 0);
        let tick = Timespec::new().sec(10);
        // What any loop has: a time-out, here once for all, so that a dead producer is noticed.
        let entry = opcode::Timeout::new(&tick).build().user_data(TICK);
        // SAFETY: `tick` lives until the ring is dropped.
        unsafe { uring.submission().push(&entry) }?;
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
            uring::push(&mut uring.submission(), &map, DATA_WAKE, seen, SLEEP)?;
            uring.submit_and_wait(1)?;
            for done in uring.completion() {
                match done.user_data() {
                    SLEEP => {
                        println!("after message {taken}: {:?}", uring::woken(done.result())?);
                        sleeps += 1;
                    }
                    _ => return Err("nobody woke the loop for 10 s".into()),
                }
            }
        }
        sending.join().expect("the producer's thread");
        println!("{taken} messages, {sleeps} sleeps");
        assert!(sleeps > 0, "a loop that never slept shows nothing");
        Ok(())
    }
}
