//! Notes the exchange's books while everything else goes on, for the judge.
//!
//! Each note is the exchange's own answer about a moment that it was told to mark: the book behind the last depth event
//! that it sent. Whoever follows the stream comes by that event, unless it is lost on the way.

use super::exchange::Exchange;
use crate::run::{Failure, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// A book as the exchange had it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    /// What was going on.
    pub(crate) scene: String,
    pub(crate) symbol: String,
    pub(crate) last_update_id: u64,
    /// Price and quantity as the exchange writes them.
    pub(crate) bids: Vec<(String, String)>,
    pub(crate) asks: Vec<(String, String)>,
}

/// Where the notes of a demo are.
fn path(scratch: &Path) -> PathBuf {
    scratch.join("notes")
}

/// All notes, in the order of time.
pub(crate) fn notes(scratch: &Path) -> Result<Vec<Note>, Failure> {
    let mut notes = Vec::new();
    for line in BufReader::new(File::open(path(scratch))?).lines() {
        notes.push(serde_json::from_str(&line?)?);
    }
    Ok(notes)
}

/// Changes the quantity of one level in a note that the judge will need, and keeps the rest.
pub(crate) fn spoil(scratch: &Path) -> Outcome {
    let mut notes = notes(scratch)?;
    // The end of trading: the feed has it for certain.
    let last = notes.last_mut().and_then(|note| note.bids.last_mut());
    let (_, qty) = last.ok_or_else(|| Failure::Problem("no book was noted".to_owned()))?;
    let digit = if qty.ends_with('1') { '2' } else { '1' };
    qty.pop();
    qty.push(digit);
    let mut out = BufWriter::new(File::create(path(scratch))?);
    for note in &notes {
        serde_json::to_writer(&mut out, note)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

struct Shared {
    scene: Mutex<String>,
    stop: AtomicBool,
    /// Moments noted.
    count: AtomicU64,
    failure: Mutex<Option<String>>,
}

/// The thread that notes.
pub(crate) struct Witness {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Once `over` is set, nobody wants to know any more.
    pub(crate) fn start(
        exchange: SocketAddr,
        scratch: &Path,
        every: Duration,
        over: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            scene: Mutex::default(),
            stop: AtomicBool::new(false),
            count: AtomicU64::new(0),
            failure: Mutex::default(),
        });
        let out = File::create(path(scratch))?;
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("witness".into()).spawn(move || {
            let exchange = Exchange::until(exchange, over);
            if let Err(Failure::Problem(why) | Failure::Usage(why)) = witness(&theirs, exchange, out, every) {
                *theirs.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
        })?;
        Ok(Witness { shared, thread: Some(thread) })
    }

    /// What goes on from now.
    pub(crate) fn scene(&self, name: &str) {
        name.clone_into(&mut self.shared.scene.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Moments noted so far.
    pub(crate) fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Whether it can note no more, and why.
    pub(crate) fn look(&self) -> Outcome {
        match &*self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(why) => Err(Failure::Problem(why.clone())),
            None => Ok(()),
        }
    }

    /// Notes one more moment, and ends.
    pub(crate) fn finish(&mut self) -> Outcome {
        self.join();
        self.look()
    }

    fn join(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.join();
    }
}

fn witness(shared: &Shared, mut exchange: Exchange, out: File, every: Duration) -> Outcome {
    let mut out = BufWriter::new(out);
    loop {
        let last = shared.stop.load(Ordering::Relaxed);
        let scene = shared.scene.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let marks = exchange.must("POST", "/local/mark")?;
        for mark in marks.as_array().into_iter().flatten() {
            let symbol = mark["symbol"].as_str().unwrap_or_default();
            let mut book = exchange.get(&format!("/local/book?symbol={symbol}&at={}", mark["last_update_id"]))?;
            book["scene"] = Value::from(scene.as_str());
            let note: Note = serde_json::from_value(book)?;
            serde_json::to_writer(&mut out, &note)?;
            out.write_all(b"\n")?;
        }
        shared.count.fetch_add(1, Ordering::Relaxed);
        if last {
            out.flush()?;
            return Ok(());
        }
        std::thread::park_timeout(every);
    }
}
