//! One run: prepare, send, persist, read back.

use crate::{
    Args,
    event::Pattern,
    place::{Place, text},
};
use chronicle::{
    System,
    core::HeapRegion,
    eventlog::{
        Consumer, EventHeader, EventView, FileHeader, LogReader, LogWriter, MmapReader, MmapWriter, Options, Producer,
        RingError, SpscRingBuffer, WriteError,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Bytes of the ring: more than the threads' caches would cost more than it evens out.
const RING: usize = 1 << 20;
/// Events in one store of either end's position.
const BATCH: u64 = 64;

/// Why there is no outcome.
pub(crate) struct Failed {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failed {
    pub(crate) fn call(text: String) -> Self {
        Failed { code: 2, text }
    }
    pub(crate) fn trouble(text: String) -> Self {
        Failed { code: 1, text }
    }
}

/// What came of it.
pub(crate) struct Outcome {
    place: String,
    sent: u64,
    persisted: u64,
    replayed: u64,
    verified: u64,
    event_len: u64,
    seconds: f64,
    prepared_bytes: u64,
    prepare_seconds: f64,
    sync_seconds: Option<f64>,
    replay_seconds: f64,
    stopped_early: bool,
}

/// A log to write to, of either kind.
trait Log {
    fn drain_from(&mut self, ring: &mut Consumer, limit: usize) -> Result<usize, WriteError>;
}

impl Log for MmapWriter {
    fn drain_from(&mut self, ring: &mut Consumer, limit: usize) -> Result<usize, WriteError> {
        MmapWriter::drain_from(self, ring, limit)
    }
}

impl Log for LogWriter<Arc<HeapRegion>> {
    fn drain_from(&mut self, ring: &mut Consumer, limit: usize) -> Result<usize, WriteError> {
        LogWriter::drain_from(self, ring, limit)
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failed> {
    let place = Place::choose(args)?;
    let event_len = (EventHeader::SIZE + usize::from(args.payload)) as u64;
    let least = FileHeader::SIZE as u64 + event_len;
    let bytes = args.bytes.map_or_else(|| place.bytes(), Ok)?;
    // Whole pages, so that the log is as long as it was said to be.
    let bytes = bytes / 4096 * 4096;
    if bytes < least.max(4096) {
        return Err(Failed::call(format!(
            "a log of {bytes} bytes is too short: it takes whole pages, {least} bytes at least"
        )));
    }
    let most = (bytes - FileHeader::SIZE as u64) / event_len;
    let began = Instant::now();
    let mut outcome = Outcome {
        place: place.name(),
        sent: 0,
        persisted: 0,
        replayed: 0,
        verified: 0,
        event_len,
        seconds: 0.0,
        prepared_bytes: bytes,
        prepare_seconds: 0.0,
        sync_seconds: None,
        replay_seconds: 0.0,
        stopped_early: false,
    };
    let mut check = Check { pattern: Pattern::new(args.payload), replayed: 0, verified: 0 };
    match &place {
        Place::Memory => {
            let len = usize::try_from(bytes).map_err(|_| Failed::call(format!("{bytes} bytes are no memory")))?;
            let region = Arc::new(HeapRegion::new(len));
            let mut log = LogWriter::format(region.clone(), 0, true).expect("a log of a page");
            outcome.prepare_seconds = began.elapsed().as_secs_f64();
            stream(args, &mut log, most, &mut outcome)?;
            outcome.persisted = log.event_count();
            drop(log);
            let began = Instant::now();
            let replayed = LogReader::attach(region).and_then(|reader| reader.replay(|event| check.look(&event)));
            replayed.map_err(|damage| Failed::trouble(damage.to_string()))?;
            outcome.replay_seconds = began.elapsed().as_secs_f64();
        }
        Place::File { path, .. } => {
            let failed = |error: chronicle::storage::Error| Failed::trouble(text(&error));
            let options = Options { capacity: bytes, max_bytes: bytes, helper: false, ..Options::default() };
            let mut log = MmapWriter::create_with(&System, path, options).map_err(failed)?;
            outcome.prepare_seconds = began.elapsed().as_secs_f64();
            stream(args, &mut log, most, &mut outcome)?;
            outcome.persisted = log.event_count();
            let began = Instant::now();
            log.close().map_err(failed)?;
            outcome.sync_seconds = Some(began.elapsed().as_secs_f64());
            let began = Instant::now();
            let reader = MmapReader::open(path).map_err(failed)?;
            reader.replay(|event| check.look(&event)).map_err(failed)?;
            outcome.replay_seconds = began.elapsed().as_secs_f64();
        }
    }
    (outcome.replayed, outcome.verified) = (check.replayed, check.verified);
    Ok(outcome)
}

/// Compares what is read with what was sent.
struct Check {
    pattern: Pattern,
    replayed: u64,
    verified: u64,
}

impl Check {
    fn look(&mut self, event: &EventView<'_>) {
        self.verified += u64::from(self.pattern.is(self.replayed, event));
        self.replayed += 1;
    }
}

/// Sends for as long as was asked, or until `most` events are sent, and persists what is sent.
fn stream(args: &Args, log: &mut impl Log, most: u64, outcome: &mut Outcome) -> Result<(), Failed> {
    let (producer, mut consumer) =
        SpscRingBuffer::new(RING).map_err(|error| Failed::trouble(error.to_string()))?.split();
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (finished, wait) = channel::<()>();
    let began = Instant::now();
    let (sent, persisted) = thread::scope(|scope| {
        let (stop, done) = (&stop, &done);
        let sending = scope.spawn(move || {
            let sent = send(producer, args.payload, most, stop);
            done.store(true, Ordering::Release);
            sent
        });
        // The clock has a thread of its own, so that neither of the others looks at it.
        scope.spawn(move || match wait.recv_timeout(Duration::from_secs_f64(args.seconds)) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => stop.store(true, Ordering::Relaxed),
        });
        let persisted = persist(log, &mut consumer, done);
        outcome.seconds = began.elapsed().as_secs_f64();
        // After an error nobody empties the ring any more.
        stop.store(true, Ordering::Relaxed);
        drop(finished);
        (sending.join(), persisted)
    });
    outcome.sent = sent.map_err(|_| Failed::trouble("the producer panicked".into()))?;
    outcome.stopped_early = outcome.sent == most;
    persisted.map_err(|error| Failed::trouble(text(&error)))
}

fn send(mut producer: Producer, payload: u16, most: u64, stop: &AtomicBool) -> u64 {
    let mut pattern = Pattern::new(payload);
    let mut sent = 0;
    while sent < most && !stop.load(Ordering::Relaxed) {
        let batch = most.min(sent + BATCH);
        for seq in sent..batch {
            let (header, payload) = pattern.event(seq);
            let mut spins = 0;
            while let Err(error) = producer.stage(&header, payload) {
                assert!(matches!(error, RingError::NotEnoughSpace { .. }), "bug: {error}");
                producer.commit();
                if stop.load(Ordering::Relaxed) {
                    return seq;
                }
                rest(&mut spins);
            }
        }
        sent = batch;
        producer.commit();
    }
    sent
}

fn persist(log: &mut impl Log, consumer: &mut Consumer, done: &AtomicBool) -> Result<(), WriteError> {
    let mut spins = 0;
    loop {
        // Asked before looking: what was sent before `done` is in the ring then.
        let last = done.load(Ordering::Acquire);
        if log.drain_from(consumer, BATCH as usize)? > 0 {
            spins = 0;
        } else if last {
            return Ok(());
        } else {
            rest(&mut spins);
        }
    }
}

/// Spins for a while, then lets others run.
fn rest(spins: &mut u32) {
    *spins += 1;
    if *spins < 1000 { std::hint::spin_loop() } else { thread::yield_now() }
}

impl Outcome {
    /// Whether everything that was sent is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.sent == self.persisted && self.sent == self.replayed && self.sent == self.verified
    }

    fn dropped(&self) -> u64 {
        self.sent - self.verified.min(self.sent)
    }

    fn rate(&self, seconds: f64) -> f64 {
        self.verified as f64 / seconds
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let whole_seconds = self.seconds + self.prepare_seconds;
        serde_json::json!({
            "sent": self.sent,
            "persisted": self.persisted,
            "replayed": self.replayed,
            "verified": self.verified,
            "dropped": self.dropped(),
            "events_per_s": self.rate(self.seconds),
            "bytes_per_s": self.rate(self.seconds) * self.event_len as f64,
            "seconds": self.seconds,
            "stopped_early": self.stopped_early,
            "prepared_bytes": self.prepared_bytes,
            "prepare_seconds": self.prepare_seconds,
            "events_per_s_with_preparation": self.rate(whole_seconds),
            "sync_seconds": self.sync_seconds,
        })
    }

    pub(crate) fn table(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let million = 1e6;
        let gib = f64::from(1 << 30);
        let rate = self.rate(self.seconds);
        let mut line = |name: &str, text: String| _ = writeln!(out, "{name:<18}{text}");
        line("log", self.place.clone());
        line("sent", self.sent.to_string());
        line("persisted", self.persisted.to_string());
        line("replayed", self.replayed.to_string());
        line("verified", self.verified.to_string());
        line("dropped", self.dropped().to_string());
        line("seconds", format!("{:.3}", self.seconds));
        line("rate", format!("{:.2} M events/s, {:.2} GiB/s", rate / million, rate * self.event_len as f64 / gib));
        line(
            "prepared",
            format!("{} bytes in {:.3} s, before the clock started", self.prepared_bytes, self.prepare_seconds),
        );
        let whole = self.rate(self.seconds + self.prepare_seconds);
        line("with preparation", format!("{:.2} M events/s", whole / million));
        if let Some(seconds) = self.sync_seconds {
            line("sync", format!("{seconds:.3} s, after the clock stopped"));
        }
        line("read back", format!("{:.3} s", self.replay_seconds));
        if self.stopped_early {
            line("stopped early", "the log reached its length: --bytes makes it longer".into());
        }
        if !self.is_whole() {
            line("NOT WHOLE", "what was sent is not what was read back".into());
        }
        out
    }
}
