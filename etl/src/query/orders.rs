//! A book by order, followed through a partition's frames.
//!
//! The refinery left out what takes no part in the book and marked what is missing, so this has no rules of its own but
//! one: a snapshot that is told order by order is the book once all of it was told.

use std::path::Path;

use chronicle_core::Frame;
use chronicle_protocol::{OrderAction, OrderEvent, OrdersSnapshot, RecordFlags, SnapshotSource};

use super::Follower;
use crate::book::Book;
use crate::error::{Error, Result};
use crate::orders::{OrderBook, Refusal};

/// The book by order, and the snapshot that will be the next one.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) book: OrderBook,
    told: Option<Told>,
}

/// A snapshot that is being told.
#[derive(Debug, Default)]
struct Told {
    book: OrderBook,
    /// Exchange time of its newest part.
    stamped_ns: u64,
    /// The venue's number of its last.
    sequence: u64,
}

/// Whether an event is part of a snapshot.
pub(super) fn is_part(event: &OrderEvent<'_>) -> bool {
    event.flags.has(RecordFlags::SNAPSHOT)
}

impl Follower {
    pub(super) fn order_event(&mut self, event: &OrderEvent<'_>, frame: &Frame<'_>, path: &Path) -> Result<()> {
        let refused = |refusal: Refusal| Error::Order { place: path.display().to_string(), seq: frame.seq, refusal };
        if is_part(event) {
            let told = self.orders.get_or_insert_default().told.get_or_insert_default();
            // The refinery would have broken off here.
            told.book.apply(event).map_err(refused)?;
            told.stamped_ns = told.stamped_ns.max(event.head.exchange_ns);
            told.sequence = event.sequence;
            if event.flags.has(RecordFlags::LAST) {
                self.end_told();
            }
            return Ok(());
        }
        self.end_told();
        self.orders.get_or_insert_default().book.apply(event).map_err(refused)?;
        if event.action == OrderAction::Clear && !self.valid {
            // A book without orders is a whole book.
            (self.begun, self.valid, self.gap, self.last_event_ns) = (true, true, None, 0);
        }
        self.last_id = event.sequence;
        self.last_event_ns = self.last_event_ns.max(frame.time_ns);
        Ok(())
    }

    /// The book by price.
    pub(super) fn summed(&self) -> Book {
        self.orders.as_ref().map_or_else(Book::new, |orders| orders.book.to_book())
    }

    /// Whether a snapshot is being told.
    pub(super) fn is_being_told(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.told.is_some())
    }

    /// What comes next is no part of the snapshot that was being told: it is the book now.
    pub(super) fn end_told(&mut self) {
        let Some(orders) = &mut self.orders else { return };
        let Some(told) = orders.told.take() else { return };
        orders.book = told.book;
        (self.begun, self.valid, self.gap) = (true, true, None);
        (self.last_id, self.last_event_ns) = (told.sequence, told.stamped_ns);
    }

    /// Parts of the snapshot that was being told are missing.
    pub(super) fn forget_told(&mut self) {
        if let Some(orders) = &mut self.orders {
            orders.told = None;
        }
    }

    pub(super) fn orders_snapshot(
        &mut self,
        snapshot: &OrdersSnapshot<'_>,
        frame: &Frame<'_>,
        path: &Path,
    ) -> Result<()> {
        let orders = self.orders.get_or_insert_default();
        orders.told = None;
        // Between two of the venue's, the refinery's say what is known.
        if snapshot.source == SnapshotSource::Venue || !self.valid {
            orders.book.replace(snapshot).map_err(|refusal| Error::Order {
                place: path.display().to_string(),
                seq: frame.seq,
                refusal,
            })?;
            self.last_id = snapshot.sequence;
            self.last_event_ns = match snapshot.source {
                SnapshotSource::Venue => snapshot.head.exchange_ns,
                SnapshotSource::Refinery => snapshot.last_event_ns,
            };
        }
        (self.begun, self.valid, self.gap) = (true, true, None);
        Ok(())
    }
}
