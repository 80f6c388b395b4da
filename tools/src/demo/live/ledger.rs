//! Orders and replies of a strategy as they stand in its two queues on disk.
//!
//! Both queues require a reader that never comes, [`AUDITOR`], so that no frame is retired before the demo ends.

use crate::run::Failure;
use chronicle::{
    System,
    bus::{
        Layout, Message, message,
        orders::{Order, OrderId, Reply},
    },
    storage::{
        queue::{Profile, PublisherOptions, Queue, Start, SubscriberOptions},
        root::Name,
    },
};
use std::{collections::BTreeMap, path::Path};

/// The reader whom the queues of orders wait for.
const AUDITOR: &str = "auditor";
/// A day of orders at the demo's pace.
const LEN_MAX: u64 = 1 << 30;

/// A queue of orders of which nothing is retired.
pub(crate) fn options() -> PublisherOptions {
    PublisherOptions {
        max_bytes: LEN_MAX,
        required: vec![AUDITOR.to_owned()],
        ..PublisherOptions::new(Profile::Orders)
    }
}

/// A record and its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<M> {
    pub(crate) time_ns: u64,
    pub(crate) record: M,
}

/// Both queues.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) orders: Vec<At<Order>>,
    pub(crate) replies: Vec<At<Reply>>,
}

impl Ledger {
    /// All that is in them now. Queues that are not there hold nothing.
    pub(crate) fn read(layout: &Layout, strategy: &Name) -> Result<Self, Failure> {
        Ok(Ledger { orders: records(&layout.orders_out(strategy))?, replies: records(&layout.orders_in(strategy))? })
    }

    /// Orders that have not ended, cancels not among them.
    pub(crate) fn open(&self) -> BTreeMap<OrderId, Order> {
        let news = self.orders.iter().map(|at| at.record).filter(|order| order.side().is_some());
        let mut open: BTreeMap<OrderId, Order> = news.map(|order| (order.id(), order)).collect();
        for reply in self.replies.iter().filter(|at| at.record.is_final()) {
            open.remove(&reply.record.id());
        }
        open
    }
}

fn records<M: Message>(queue: &Path) -> Result<Vec<At<M>>, Failure> {
    let options = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    let mut observer = match Queue::observer(&System, queue, options) {
        Ok(observer) => observer,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut records = Vec::new();
    while let Some(frame) = observer.next()? {
        let record = message::read::<M>(&frame)?;
        let record = record.ok_or_else(|| {
            Failure::Problem(format!("{}: frame {} is of type {}", queue.display(), frame.seq, frame.type_id))
        })?;
        records.push(At { time_ns: frame.time_ns, record });
    }
    Ok(records)
}

/// What the exchange calls an order: the strategy and the order's id, so that one sent twice is recognised.
pub(crate) fn client_id(strategy: &str, id: OrderId) -> String {
    format!("{strategy}-{id}")
}
