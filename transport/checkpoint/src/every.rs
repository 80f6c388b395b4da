//! When the next checkpoint is due, and a thread that makes it.

use crate::{CheckpointId, Result};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Says when a checkpoint is due, to a program that makes them in its own loop. Reads no clock: the time is passed in, in ns of
/// any clock that does not go back, such as [`monotonic_ns`](chronicle_platform::Platform::monotonic_ns).
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    every_ns: u64,
    next_ns: u64,
}

impl Interval {
    /// Due for the first time one interval after `now_ns`.
    #[must_use]
    pub fn new(every: Duration, now_ns: u64) -> Self {
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        Interval { every_ns, next_ns: now_ns.saturating_add(every_ns) }
    }

    /// Whether it is due, which it then is again one interval from now: a program that slept makes one checkpoint, not many.
    #[must_use]
    pub fn due(&mut self, now_ns: u64) -> bool {
        let due = now_ns >= self.next_ns;
        if due {
            self.next_ns = now_ns.saturating_add(self.every_ns);
        }
        due
    }

    /// When it is due.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }
}

/// A thread that makes a checkpoint at every interval, and whenever it is asked to. Ends when this is dropped, after the
/// checkpoint that it is making.
///
/// ```
/// use chronicle_checkpoint::{Checkpoints, Every, Options};
/// use std::{sync::{Arc, Mutex}, time::Duration};
/// # use chronicle_platform_linux::Linux as System;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let checkpoints = Arc::new(Checkpoints::open(&System, dir, &Options::default())?);
/// let book = Arc::new(Mutex::new((7, b"state after frame 7".to_vec())));
/// let every = Every::start(Duration::from_secs(10), {
///     let (checkpoints, book) = (checkpoints.clone(), book.clone());
///     move || {
///         let (seq, bytes) = book.lock().unwrap().clone();
///         checkpoints.save("book", seq, &bytes, &[])
///     }
/// })?;
/// let id = every.now()?;
/// assert_eq!(checkpoints.latest("book")?.unwrap().id, id);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Every {
    /// `None` once it is to end.
    requests: Option<Sender<Sender<Result<CheckpointId>>>>,
    last: Arc<Mutex<Last>>,
    thread: Option<JoinHandle<()>>,
}

/// How the thread's own checkpoints went.
#[derive(Debug, Default)]
struct Last {
    id: Option<CheckpointId>,
    trouble: Option<crate::Error>,
    failed: u64,
}

impl Every {
    /// Starts it; `checkpoint` serialises the application's state and saves it.
    pub fn start(
        interval: Duration,
        mut checkpoint: impl FnMut() -> Result<CheckpointId> + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, asked) = mpsc::channel::<Sender<Result<CheckpointId>>>();
        let last = Arc::new(Mutex::new(Last::default()));
        let shared = last.clone();
        let run = move || {
            let mut next = Instant::now() + interval;
            loop {
                let request = match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(request) => Some(request),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let result = checkpoint();
                let mut last = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match &result {
                    Ok(id) => (last.id, last.trouble) = (Some(*id), None),
                    Err(_) => last.failed += 1,
                }
                match (request, result) {
                    // Who asked may have gone.
                    (Some(request), result) => _ = request.send(result),
                    (None, Err(error)) => last.trouble = Some(error),
                    (None, Ok(_)) => {}
                }
                drop(last);
                next = Instant::now() + interval;
            }
        };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(run)?;
        Ok(Every { requests: Some(requests), last, thread: Some(thread) })
    }

    /// Makes one now and waits for it; one that is being made is finished first. The next interval begins behind it.
    pub fn now(&self) -> Result<CheckpointId> {
        let (answer, answered) = mpsc::channel();
        let asked = self.requests.as_ref().is_some_and(|requests| requests.send(answer).is_ok());
        match asked.then(|| answered.recv()) {
            Some(Ok(result)) => result,
            // The application's closure panicked, now or before.
            _ => Err(crate::Error::Application(io::Error::other("the thread that makes checkpoints has panicked"))),
        }
    }

    /// The last checkpoint that was made.
    #[must_use]
    pub fn last(&self) -> Option<CheckpointId> {
        self.look().id
    }

    /// Checkpoints that failed, asked for or not.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.look().failed
    }

    /// Why the last one that nobody asked for failed, if none was made since. It is tried again at every interval.
    #[must_use]
    pub fn take_trouble(&self) -> Option<crate::Error> {
        self.look().trouble.take()
    }

    fn look(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Every {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the closure was the application's, and was seen by `now`.
            _ = thread.join();
        }
    }
}
