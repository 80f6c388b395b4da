//! Who works in the lanes: the thread that reads, or one thread for each.
//!
//! ```text
//! reader ──batch of records──▶ lane 0        each lane gets what is its symbols', in order
//!        ──batch of records──▶ lane 1        at most AHEAD batches wait; then the reader does
//!        ◀──empty batches────                used again
//!        ──work──▶ every lane ──results──▶   a barrier: what was sent before is done, what comes after waits
//! ```
//!
//! A lane that fails takes nothing any more; the reader learns it with the next batch or at the next barrier.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use chronicle_platform::Platform;
use chronicle_protocol::Record;

use super::lane::Lane;
use crate::error::{Error, Result};
use crate::refinery::{Item, RawFrame, Symbol};

/// Payload bytes in a batch: few enough to stay in a core's cache on their way, enough to make a hand-over cheap.
const BATCH_LEN: usize = 64 << 10;
/// Batches that wait for a lane at most. One lane may get many records in a row; the others go on meanwhile.
const AHEAD: usize = 8;

/// Who works in the lanes.
pub(super) enum Hands<'l, 'scope, P: Platform> {
    /// The thread that reads, one record after the other.
    Alone(&'l mut [Lane<P>]),
    /// A thread for each lane.
    Crew(Crew<'scope, P>),
}

impl<'l: 'scope, 'scope, P: Platform> Hands<'l, 'scope, P> {
    /// Starts a thread for each lane.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, lanes: &'l mut [Lane<P>]) -> Self {
        Self::Crew(Crew { members: lanes.iter_mut().map(|lane| Member::start(scope, lane)).collect() })
    }
}

impl<P: Platform> Hands<'_, '_, P> {
    /// Gives a lane a symbol that was never met.
    pub(super) fn begin(&mut self, lane: usize, symbol: Symbol, number: u32) {
        match self {
            Self::Alone(lanes) => lanes[lane].begin(symbol, number),
            Self::Crew(crew) => crew.members[lane].batch.begun.push((symbol, number)),
        }
    }

    /// Gives a lane the next record of one of its symbols.
    pub(super) fn take(&mut self, lane: usize, symbol: u32, item: Item<'_>, record: &Record<'_>) -> Result<()> {
        match self {
            Self::Alone(lanes) => lanes[lane].take(symbol, item, record),
            Self::Crew(crew) => crew.members[lane].take(symbol, item),
        }
    }

    /// Does something in every lane once all that was given to it is done; the results by lane.
    pub(super) fn each<T: Send + 'static>(
        &mut self,
        work: impl Fn(&mut Lane<P>) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        match self {
            Self::Alone(lanes) => lanes.iter_mut().map(work).collect(),
            Self::Crew(crew) => crew.each(work),
        }
    }
}

/// One thread for each lane; they end with it.
pub(super) struct Crew<'scope, P: Platform> {
    members: Vec<Member<'scope, P>>,
}

struct Member<'scope, P: Platform> {
    /// `None` once it is known to have failed.
    thread: Option<ScopedJoinHandle<'scope, Result<()>>>,
    tasks: SyncSender<Task<P>>,
    batch: Batch,
    done: Receiver<Batch>,
}

/// Something to do with a lane.
type Work<P> = Box<dyn FnOnce(&mut Lane<P>) -> Result<()> + Send>;

enum Task<P: Platform> {
    Batch(Batch),
    Work(Work<P>),
}

/// Records on their way to a lane.
#[derive(Default)]
struct Batch {
    /// Symbols that were never met; the records come behind them.
    begun: Vec<(Symbol, u32)>,
    records: Vec<Sent>,
    payloads: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Sent {
    symbol: u32,
    ingest_ns: u64,
    type_id: u16,
    source: Option<u32>,
    turn: u32,
    len: usize,
}

fn work<P: Platform>(lane: &mut Lane<P>, tasks: &Receiver<Task<P>>, done: &Sender<Batch>) -> Result<()> {
    for task in tasks {
        match task {
            Task::Work(work) => work(lane)?,
            Task::Batch(mut batch) => {
                batch.give(lane)?;
                // The reader may be gone.
                let _ = done.send(batch);
            }
        }
    }
    Ok(())
}

impl Batch {
    fn give<P: Platform>(&mut self, lane: &mut Lane<P>) -> Result<()> {
        for (symbol, number) in self.begun.drain(..) {
            lane.begin(symbol, number);
        }
        let mut rest = &self.payloads[..];
        for Sent { symbol, ingest_ns, type_id, source, turn, len } in self.records.drain(..) {
            let (payload, behind) = rest.split_at(len);
            rest = behind;
            let frame = RawFrame { ingest_ns, type_id, payload };
            let record = match frame.record() {
                Ok(record) => record,
                Err(malformed) => panic!("bug: a record that was read before is refused now: {malformed}"),
            };
            lane.take(symbol, Item::of(frame, source, turn), &record)?;
        }
        self.payloads.clear();
        // One large record must not keep its memory.
        self.payloads.shrink_to(2 * BATCH_LEN);
        Ok(())
    }
}

impl<'scope, P: Platform> Member<'scope, P> {
    fn start<'l: 'scope>(scope: &'scope Scope<'scope, '_>, lane: &'l mut Lane<P>) -> Self {
        let (tasks, received) = sync_channel(AHEAD);
        let (sender, done) = channel();
        let thread = Some(scope.spawn(move || work(lane, &received, &sender)));
        Member { thread, tasks, batch: Batch::default(), done }
    }

    fn take(&mut self, symbol: u32, item: Item<'_>) -> Result<()> {
        let Item { ingest_ns, type_id, source, turn, payload } = item;
        self.batch.records.push(Sent { symbol, ingest_ns, type_id, source, turn, len: payload.len() });
        self.batch.payloads.extend_from_slice(payload);
        if self.batch.payloads.len() >= BATCH_LEN { self.send_batch() } else { Ok(()) }
    }

    fn send(&mut self, task: Task<P>) -> Result<()> {
        match self.tasks.send(task) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    fn send_batch(&mut self) -> Result<()> {
        if self.batch.begun.is_empty() && self.batch.records.is_empty() {
            return Ok(());
        }
        let empty = self.done.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch, empty);
        self.send(Task::Batch(full))
    }

    /// Why it takes nothing any more.
    #[cold]
    fn failure(&mut self) -> Error {
        let thread = self.thread.take().expect("bug: a lane that failed was used again");
        match thread.join() {
            Ok(Err(error)) => error,
            Ok(Ok(())) => unreachable!("bug: a lane ended before its reader"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<P: Platform> Crew<'_, P> {
    fn each<T: Send + 'static>(
        &mut self,
        work: impl Fn(&mut Lane<P>) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let mut results = Vec::new();
        for member in &mut self.members {
            member.send_batch()?;
            let (sender, result) = channel();
            let work = work.clone();
            member.send(Task::Work(Box::new(move |lane| {
                // Nobody waits for it any more if another lane has failed.
                let _ = sender.send(work(lane)?);
                Ok(())
            })))?;
            results.push(result);
        }
        let wait = |(member, result): (&mut Member<'_, P>, Receiver<T>)| result.recv().map_err(|_| member.failure());
        self.members.iter_mut().zip(results).map(wait).collect()
    }
}
