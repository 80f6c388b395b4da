//! How a log's file grows in front of its writer, and never under it.
//!
//! The writer sees its file through one window at a time. The next part is allocated, mapped and faulted in before it is
//! needed, by a helper thread or, where the program wants no thread, when it is needed. The writer turns to it once an
//! event does not fit into the present one; parts overlap by the longest event, so no event lies in two. Nothing that
//! is mapped ever moves.
//!
//! ```text
//! file    |0..............................|capacity................|+ step ................|
//! windows |--------- first ---------------|
//!                                     |----------- second ---------|
//!                                                              |---------- third ----------|
//! ```
//!
//! Never here: cutting a file. What is prepared and not used stays, because a reader may have it mapped.

use super::{error::WriteError, layout::MAX_EVENT};
use crate::{Error, Result};
use chronicle_platform::{File, MAP_ALIGN, Platform, TroubleKind};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Parts that the helper keeps ready.
const AHEAD: usize = 2;
/// How often the helper looks while parts are being used, and while none is.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(20);

/// A window into the file.
#[derive(Debug)]
pub(super) struct Part<M> {
    pub(super) map: M,
    /// Offset in the file of its first byte.
    pub(super) start: u64,
    /// Offset in the file behind its last byte.
    pub(super) end: u64,
}

/// Extends one file.
#[derive(Debug)]
pub(super) struct Growth<P: Platform> {
    pub(super) platform: P,
    pub(super) file: Arc<P::File>,
    /// Bytes by which it grows at a time.
    pub(super) step: u64,
    /// Bytes beyond which it does not.
    pub(super) max_bytes: u64,
}

impl<P: Platform> Growth<P> {
    /// The bytes from `start` to `end`, faulted in.
    pub(super) fn part(&self, start: u64, end: u64) -> Result<Part<P::MapMut>> {
        self.file.allocate(end)?;
        let map = self.platform.map_mut_at(&self.file, start, (end - start) as usize)?;
        self.platform.prefault_mut(&map)?;
        Ok(Part { map, start, end })
    }

    /// The part behind the one that ends at `end`; `None` if the file is as long as it may be.
    fn next(&self, end: u64) -> Result<Option<Part<P::MapMut>>> {
        let new = end.saturating_add(self.step).min(self.max_bytes) & !3;
        if new <= end {
            return Ok(None);
        }
        let start = end.saturating_sub(MAX_EVENT as u64) / MAP_ALIGN * MAP_ALIGN;
        self.part(start, new).map(Some)
    }
}

/// Where the next part comes from.
#[derive(Debug)]
pub(super) struct Source<P: Platform> {
    origin: Origin<P>,
    trouble: Arc<Signs>,
}

#[derive(Debug)]
enum Origin<P: Platform> {
    /// Whoever asks, waits.
    Caller(Growth<P>),
    Helper {
        parts: Receiver<Part<P::MapMut>>,
        /// Windows that are done with: unmapping is a system call, and not the writer's.
        retired: SyncSender<P::MapMut>,
        /// `None` when it is being joined.
        thread: Option<JoinHandle<()>>,
    },
}

/// What the helper tells without being asked. In-process flags, not shared memory.
#[derive(Debug, Default)]
struct Signs {
    state: AtomicU8,
    stop: AtomicBool,
    trouble: Mutex<Option<Arc<Error>>>,
}

const PREPARING: u8 = 0;
const FULL: u8 = 1;
const NO_SPACE: u8 = 2;
const FAILED: u8 = 3;

impl Signs {
    fn fail(&self, error: Error) -> WriteError {
        let no_space = matches!(&error, Error::Trouble(trouble) if trouble.kind() == TroubleKind::NoSpace);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        self.state.store(if no_space { NO_SPACE } else { FAILED }, Ordering::Release);
        if no_space { WriteError::NoSpace } else { WriteError::PrepareFailed }
    }

    fn clear(&self) {
        if self.state.swap(PREPARING, Ordering::AcqRel) != PREPARING {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// Why there is no next part now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPart {
    /// The file is as long as it may be.
    Full,
    NotReady,
    Failed(WriteError),
}

impl<P: Platform> Source<P> {
    /// Parts behind the one that ends at `end`, from a helper thread or from whoever asks.
    pub(super) fn new(growth: Growth<P>, end: u64, helper: bool) -> Result<Self> {
        let trouble = Arc::<Signs>::default();
        // A log that is as long as it may be from the start needs nobody's help.
        if !helper || growth.max_bytes & !3 <= end {
            return Ok(Source { origin: Origin::Caller(growth), trouble });
        }
        let (give, parts) = sync_channel(AHEAD);
        let (retired, take_back) = sync_channel(2 * AHEAD);
        let signs = trouble.clone();
        let thread = std::thread::Builder::new()
            .name("eventlog-growth".into())
            .spawn(move || help(&growth, end, &give, &take_back, &signs))
            .map_err(|error| chronicle_platform::Trouble::new("start a thread", "", error))?;
        Ok(Source { origin: Origin::Helper { parts, retired, thread: Some(thread) }, trouble })
    }

    /// The part behind the one that ends at `end`. Waits for it only where there is no helper.
    pub(super) fn next(&mut self, end: u64) -> std::result::Result<Part<P::MapMut>, NoPart> {
        match &self.origin {
            Origin::Caller(growth) => match growth.next(end) {
                Ok(Some(part)) => {
                    self.trouble.clear();
                    Ok(part)
                }
                Ok(None) => Err(NoPart::Full),
                Err(error) => Err(NoPart::Failed(self.trouble.fail(error))),
            },
            Origin::Helper { parts, .. } => match parts.try_recv() {
                Ok(part) => Ok(part),
                // The helper leaves when it has nothing more to give, and says so first.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    // ORDERING: Acquire pairs with the helper's Release of the state: what it gave before, we find.
                    Err(match self.trouble.state.load(Ordering::Acquire) {
                        FULL => match parts.try_recv() {
                            Ok(part) => return Ok(part),
                            Err(_) => NoPart::Full,
                        },
                        NO_SPACE => NoPart::Failed(WriteError::NoSpace),
                        FAILED => NoPart::Failed(WriteError::PrepareFailed),
                        _ => NoPart::NotReady,
                    })
                }
            },
        }
    }

    /// Takes a window that the writer has turned away from.
    pub(super) fn retire(&self, map: P::MapMut) {
        if let Origin::Helper { retired, .. } = &self.origin {
            // A helper that is behind or gone: unmapped here.
            _ = retired.try_send(map);
        }
    }

    /// Why the last preparation failed, until one succeeds.
    pub(super) fn trouble(&self) -> Option<Arc<Error>> {
        self.trouble.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<P: Platform> Drop for Source<P> {
    fn drop(&mut self) {
        self.trouble.stop.store(true, Ordering::Relaxed);
        if let Origin::Helper { thread, .. } = &mut self.origin
            && let Some(thread) = thread.take()
        {
            // A helper that panicked has said so.
            _ = thread.join();
        }
    }
}

/// The helper's life: prepare, hand over, unmap what comes back. Looks instead of being woken: the writer makes no call.
fn help<P: Platform>(
    growth: &Growth<P>,
    mut end: u64,
    give: &SyncSender<Part<P::MapMut>>,
    take_back: &Receiver<P::MapMut>,
    signs: &Signs,
) {
    let mut pause = BUSY;
    let rest = |pause: Duration| {
        take_back.try_iter().for_each(drop);
        growth.platform.sleep(pause);
        !signs.stop.load(Ordering::Relaxed)
    };
    while !signs.stop.load(Ordering::Relaxed) {
        let mut part = match growth.next(end) {
            Ok(Some(part)) => part,
            Ok(None) => {
                // ORDERING: Release pairs with the Acquire in `Source::next`, which looks for a part once more.
                signs.state.store(FULL, Ordering::Release);
                while rest(IDLE) {}
                return;
            }
            Err(error) => {
                signs.fail(error);
                if !rest(IDLE) {
                    return;
                }
                continue;
            }
        };
        signs.clear();
        end = part.end;
        loop {
            match give.try_send(part) {
                Ok(()) => {
                    pause = BUSY;
                    break;
                }
                Err(TrySendError::Full(back)) => part = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            if !rest(pause) {
                return;
            }
            pause = (pause * 2).min(IDLE);
        }
    }
}
