//! What waits to leave on one connection. It is bounded: a client that does not read is cut off, as venues do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::faults::What;

/// Something to do on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    /// Send this text.
    Text(Utf8Bytes),
    /// Misbehave so.
    Fault(What),
}

impl Out {
    /// What it counts in the backlog: its bytes, and something for being there.
    fn cost(&self) -> usize {
        64 + match self {
            Self::Text(text) => text.len(),
            Self::Fault(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Backlog {
    bytes: AtomicUsize,
    cut: Notify,
}

/// The end at which the exchange puts things in.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::UnboundedSender<Out>,
    backlog: Arc<Backlog>,
    bytes_max: usize,
    over: bool,
}

/// The end at which the connection takes them out.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: mpsc::UnboundedReceiver<Out>,
    backlog: Arc<Backlog>,
}

/// Both ends of what may hold this many bytes.
#[must_use]
pub(crate) fn outbox(bytes_max: usize) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog { bytes: AtomicUsize::new(0), cut: Notify::new() });
    (Outbox { sender, backlog: Arc::clone(&backlog), bytes_max, over: false }, Inbox { receiver, backlog })
}

impl Outbox {
    /// Whether half of what may wait does.
    pub(crate) fn is_half_full(&self) -> bool {
        // ORDERING: Relaxed: see `push`.
        self.backlog.bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    /// Puts something in. If that is too much, nothing more gets in and the connection is told to end.
    pub(crate) fn push(&mut self, out: Out) {
        if self.over {
            return;
        }
        let cost = out.cost();
        // ORDERING: Relaxed: the number is a measure; what is counted travels through the channel.
        if self.backlog.bytes.fetch_add(cost, Ordering::Relaxed) + cost > self.bytes_max {
            self.over = true;
            self.backlog.cut.notify_one();
            return;
        }
        // Nobody listens any more: the connection is ending and takes its outbox away soon.
        let _ = self.sender.send(out);
    }
}

impl Inbox {
    /// The next thing; none if the exchange has no more for this connection.
    pub(crate) async fn next(&mut self) -> Option<Out> {
        let out = self.receiver.recv().await?;
        // ORDERING: Relaxed: see `push`.
        self.backlog.bytes.fetch_sub(out.cost(), Ordering::Relaxed);
        Some(out)
    }

    /// Something that ends when too much waits.
    pub(crate) fn cut(&self) -> impl Future<Output = ()> + 'static {
        let backlog = Arc::clone(&self.backlog);
        async move { backlog.cut.notified().await }
    }
}
