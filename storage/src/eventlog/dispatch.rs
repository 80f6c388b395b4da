//! Events from a ring to consumers, each of which says whether it took them.

use super::{layout::EventHeader, ring::RingBuffer, spsc::Consumer};
use std::fmt;

/// Takes events. One that is refused is counted, not offered again.
pub trait EventConsumer: Send {
    /// Takes one event; `false` if that failed.
    fn consume(&mut self, header: &EventHeader, payload: &[u8]) -> bool;

    /// Called at the end of every [`EventDispatcher::drain`].
    fn flush(&mut self) {}

    /// What it is called.
    fn name(&self) -> &str;
}

/// Where a dispatcher gets events: [`RingBuffer`] and [`Consumer`].
pub trait EventSource {
    /// Takes the oldest event.
    fn next_event(&mut self) -> Option<(EventHeader, &[u8])>;
}

impl EventSource for RingBuffer {
    fn next_event(&mut self) -> Option<(EventHeader, &[u8])> {
        self.read_event()
    }
}

impl EventSource for Consumer {
    fn next_event(&mut self) -> Option<(EventHeader, &[u8])> {
        self.read_whole()
    }
}

/// Hands each event to each of its consumers, in the order in which they were added.
#[derive(Default)]
pub struct EventDispatcher {
    consumers: Vec<(Box<dyn EventConsumer>, ConsumerStats)>,
}

impl fmt::Debug for EventDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.stats()).finish()
    }
}

impl EventDispatcher {
    /// Without consumers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer, which gets what is drained from now on.
    pub fn add_consumer<C: EventConsumer + 'static>(&mut self, consumer: C) {
        self.consumers.push((Box::new(consumer), ConsumerStats::default()));
    }

    /// Hands out all events, until the ring is empty, then flushes the consumers. A producer that never rests keeps it
    /// here: [`EventDispatcher::drain_batch`] ends.
    pub fn drain(&mut self, ring: &mut impl EventSource) -> DrainStats {
        let stats = self.drain_batch(ring, usize::MAX);
        for (consumer, _) in &mut self.consumers {
            consumer.flush();
        }
        stats
    }

    /// Hands out at most `limit` events, and flushes nobody.
    pub fn drain_batch(&mut self, ring: &mut impl EventSource, limit: usize) -> DrainStats {
        let mut stats = DrainStats::default();
        for _ in 0..limit {
            let Some((header, payload)) = ring.next_event() else { break };
            stats.events_read += 1;
            for (consumer, own) in &mut self.consumers {
                if consumer.consume(&header, payload) {
                    own.delivered += 1;
                    stats.events_delivered += 1;
                } else {
                    own.failed += 1;
                    stats.events_failed += 1;
                }
            }
        }
        stats
    }

    /// Each consumer's name, and what it was handed since it was added.
    pub fn stats(&self) -> impl Iterator<Item = (&str, ConsumerStats)> {
        self.consumers.iter().map(|(consumer, stats)| (consumer.name(), *stats))
    }
}

/// What one call handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainStats {
    /// Events that were taken from the ring.
    pub events_read: u64,
    /// Times that a consumer took one.
    pub events_delivered: u64,
    /// Times that a consumer did not.
    pub events_failed: u64,
}

impl DrainStats {
    /// The part that consumers took, from 0 to 1; 1 if nothing was handed to them.
    #[must_use]
    pub fn success_rate(&self) -> f64 {
        rate(self.events_delivered, self.events_failed)
    }
}

/// What one consumer was handed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerStats {
    /// Events that it took.
    pub delivered: u64,
    /// Events that it did not.
    pub failed: u64,
}

impl ConsumerStats {
    /// The part that it took, from 0 to 1; 1 if it was handed nothing.
    #[must_use]
    pub fn success_rate(&self) -> f64 {
        rate(self.delivered, self.failed)
    }
}

fn rate(delivered: u64, failed: u64) -> f64 {
    match delivered + failed {
        0 => 1.0,
        total => delivered as f64 / total as f64,
    }
}
