//! A runtime of one's own, in a hundred lines: tasks that wait for rings, one thread that sleeps in `poll` for all of them.
//!
//! `cargo run -p chronicle --example own_runtime`
//!
//! Each ring has a descriptor that becomes readable when its word changes ([`EventWait`]), so a runtime waits for rings
//! as it waits for sockets, and a ring that always has something costs it no system call.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    on_linux::run()
}

#[cfg(target_os = "linux")]
mod on_linux {
    use chronicle::{
        System,
        core::{
            ring::spsc::{self, Consumer, DATA_WAKE, Producer, PushError, Spec},
            wake::{self, Mode},
        },
        platform::{MemoryOptions, Platform},
    };
    use chronicle_platform_linux::EventWait;
    use rustix::{
        event::{PollFd, PollFlags, poll},
        time::Timespec,
    };
    use std::{
        cell::{Cell, RefCell},
        future::Future,
        os::fd::AsFd,
        pin::Pin,
        rc::Rc,
        sync::Arc,
        task::{Context, Poll, Wake, Waker},
        time::Duration,
    };

    type Ring = Arc<<System as Platform>::MapMut>;
    type Error = Box<dyn std::error::Error>;
    type Task<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

    /// What the tasks of one thread wait for.
    #[derive(Default)]
    struct Runtime {
        /// Descriptors and whom to wake, for this turn.
        waiting: RefCell<Vec<(Rc<EventWait>, Waker)>>,
        sleeps: Cell<u32>,
    }

    /// Says that a task should be polled again.
    struct Flag(std::sync::atomic::AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            // ORDERING: Release pairs with the Acquire in `block_on`: the task sees what its waker did.
            self.0.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    impl Runtime {
        /// Runs the tasks to their ends.
        fn block_on(&self, mut tasks: Vec<Task<'_>>) -> Result<(), Error> {
            let mut flags: Vec<_> = tasks.iter().map(|_| Arc::new(Flag(true.into()))).collect();
            while !tasks.is_empty() {
                let mut at = 0;
                let mut is_idle = true;
                while at < tasks.len() {
                    // ORDERING: see `Flag`.
                    if flags[at].0.swap(false, std::sync::atomic::Ordering::Acquire) {
                        is_idle = false;
                        let waker = Waker::from(flags[at].clone());
                        if let Poll::Ready(done) = tasks[at].as_mut().poll(&mut Context::from_waker(&waker)) {
                            done?;
                            _ = tasks.swap_remove(at);
                            _ = flags.swap_remove(at);
                            continue;
                        }
                    }
                    at += 1;
                }
                if is_idle {
                    self.sleep()?;
                }
            }
            Ok(())
        }

        /// Until one of the descriptors is readable.
        fn sleep(&self) -> Result<(), Error> {
            let mut waiting = self.waiting.borrow_mut();
            let mut descriptors: Vec<_> =
                waiting.iter().map(|(event, _)| PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)).collect();
            // The time-out is for a producer that died: then look who holds the lease.
            let ready = poll(&mut descriptors, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))?;
            if ready == 0 {
                return Err("nobody woke the runtime for 10 s".into());
            }
            self.sleeps.set(self.sleeps.get() + 1);
            let is_ready: Vec<bool> = descriptors.iter().map(|one| !one.revents().is_empty()).collect();
            drop(descriptors);
            let mut ready = is_ready.into_iter();
            waiting.retain(|(_, waker)| {
                let is_ready = ready.next().unwrap_or(false);
                if is_ready {
                    waker.wake_by_ref();
                }
                !is_ready
            });
            Ok(())
        }
    }

    /// A ring's consumer that a task can wait for.
    struct Receiver<'r> {
        runtime: &'r Runtime,
        consumer: Consumer<Ring>,
        event: Rc<EventWait>,
    }

    impl<'r> Receiver<'r> {
        fn new(runtime: &'r Runtime, ring: &Ring) -> Result<Self, Error> {
            let event = Rc::new(EventWait::start(ring.clone(), DATA_WAKE)?);
            Ok(Receiver { runtime, consumer: Consumer::attach(ring.clone())?, event })
        }

        /// The next number.
        async fn next(&mut self) -> Result<u64, Error> {
            std::future::poll_fn(|context| self.poll_next(context)).await
        }

        fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<u64, Error>> {
            loop {
                let mut bytes = [0; 8];
                match self.consumer.pop(&mut bytes) {
                    Ok(Some(_)) => return Poll::Ready(Ok(u64::from_le_bytes(bytes))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
                // A wake-up that was asked for and came: the descriptor is to be asked anew.
                if let Err(trouble) = self.event.clear() {
                    return Poll::Ready(Err(trouble.into()));
                }
                let seen = self.consumer.mark_sleeper();
                wake::settle();
                if !self.consumer.is_ready() {
                    self.event.arm(seen);
                    self.runtime.waiting.borrow_mut().push((self.event.clone(), context.waker().clone()));
                    return Poll::Pending;
                }
            }
        }
    }

    const MESSAGES: u64 = 50;
    const RINGS: u64 = 3;

    pub(super) fn run() -> Result<(), Error> {
        let runtime = Runtime::default();
        let sum = Cell::new(0);
        let mut tasks: Vec<Task<'_>> = Vec::new();
        let mut threads = Vec::new();
        for number in 0..RINGS {
            let capacity = 256;
            let len = spsc::len(capacity).ok_or("a capacity")?;
            let ring = Arc::new(System.memory(len, &MemoryOptions::default())?.map);
            spsc::format(&ring, &Spec { capacity, wake: Mode::Fence, ..Spec::default() })?;
            let mut receiver = Receiver::new(&runtime, &ring)?;
            let sum = &sum;
            tasks.push(Box::pin(async move {
                for n in 0..MESSAGES {
                    assert_eq!(receiver.next().await?, n);
                    sum.set(sum.get() + n);
                }
                Ok(())
            }));
            let producer = Producer::attach(ring)?;
            threads.push(std::thread::spawn(move || send(producer, number)));
        }
        runtime.block_on(tasks)?;
        for thread in threads {
            thread.join().expect("a producer's thread");
        }
        assert_eq!(sum.get(), RINGS * MESSAGES * (MESSAGES - 1) / 2);
        assert!(runtime.sleeps.get() > 0, "a runtime that never slept shows nothing");
        println!("{} messages of {RINGS} rings, {} sleeps", RINGS * MESSAGES, runtime.sleeps.get());
        Ok(())
    }

    fn send(mut producer: Producer<Ring>, number: u64) {
        let mode = producer.wake_mode();
        for n in 0..MESSAGES {
            // Now and then a pause that is long enough for the runtime to sleep.
            std::thread::sleep(Duration::from_millis((n + number) % 4));
            while let Err(error) = producer.push(&n.to_le_bytes()) {
                assert!(matches!(error, PushError::Full { .. }), "{error}");
                std::thread::yield_now();
            }
            if producer.sleepers(mode) {
                System.wake(producer.region(), DATA_WAKE).expect("memory of ours");
            }
        }
    }
}
