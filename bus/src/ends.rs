//! The two ends of an order's way: strategies that send orders, and the router that answers them.
//!
//! Between a strategy and the router lie two queues, so either may start, die and come back at any time. What must hold
//! is that no order is lost, and that none is done twice:
//!
//! ```text
//! strategy                    orders_out                   router                            orders_in
//!   send(order) ──append──▶ seq s, id (epoch, n)
//!                                            ──next()──▶ Taken { seq s, fresh }
//!                                                          … sends it to the venue …
//!                                                        reply(taken, Acked) ──append──▶ { id, order_seq s,
//!                                                          cursor of orders_out            answered, high }
//!                                                          at answered + 1
//!   next() ◀───────────────────────────────────────────────────────────────────────────── Reply
//!   commit()
//! ```
//!
//! 1. **Who sends.** An order is sent when its frame is committed; a strategy that dies before has sent nothing. Its id is
//!    (epoch of the registration, count in it): no two orders have the same one, and ids in `orders_out` rise, but for an
//!    order that is sent *again* under its old id ([`StrategyEnd::send_again`]). What was sent and not answered, a
//!    strategy that comes back reads from its own queue ([`StrategyEnd::unanswered`]): it need not remember.
//! 2. **Who takes.** The router takes each frame of `orders_out` and owes it one *first reply*. Every reply it appends, to
//!    whichever order, also carries `answered`, the seq up to which all frames of `orders_out` have theirs, and `high`, the
//!    highest id taken. So the newest frame of `orders_in` *is* the router's book: there is no other file to agree with it.
//! 3. **In which order.** Reply first, then the cursor of `orders_out`, which is never beyond `answered`. A router that comes
//!    back reads the replies, passes over every frame that has its first reply, and takes the others once more.
//! 4. **What it cannot know.** A router that dies between sending an order to the venue and appending the reply has left
//!    no trace on this host. Every frame that an earlier router *may* have taken, and every id that is not above `high`, is
//!    therefore handed out with [`Taken::fresh`] false: look it up by its id, at the venue or in one's own books, and
//!    never send it unseen. Fresh orders were taken by nobody.
//!
//! | Killed | It leaves | Then |
//! |---|---|---|
//! | strategy, before the commit of the order's frame | nothing | it was not sent |
//! | strategy, behind it | the order | the router takes it; `unanswered` or its reply tells of it |
//! | router, before it takes the order | the order | it is taken, `fresh` if no router ever had the queue |
//! | router, before the first reply | the order, perhaps at the venue | it is taken again, not `fresh` |
//! | router, behind the reply, before its cursor | the reply | `answered` passes over the order |
//! | strategy, before it commits a reply | the reply | the reply comes again, to a strategy that knows nothing of it |
//!
//! Neither side's frames are retired before the other has finished with them, dead or alive: each queue *requires* its
//! reader, whose cursor is made durable once a segment. Who never comes back fills the queue, and the other side is
//! refused with `QueueFull`; nothing is dropped. That is so while the machine lives: a queue in memory goes with it.
//!
//! Never here: a venue, a risk limit, an order that is changed, a reply that is made up.

mod router;
mod strategy;

pub use router::{FromStrategy, News, Past, RouterEnd, RouterOptions, Taken};
pub use strategy::{StrategyEnd, StrategyOptions};

use crate::{
    error::{Error, Result},
    message,
    orders::{OrderId, Reply},
};
use chronicle_platform::Platform;
use chronicle_storage::{
    self as storage,
    queue::{Profile, PublisherOptions, Queue, ReadError, Start, SubscriberOptions},
};
use std::{collections::BTreeSet, path::Path};

/// The router's name as a reader of `orders_out`.
pub const ROUTER: &str = "router";
/// The strategy's name as a reader of `orders_in`.
pub const STRATEGY: &str = "strategy";

/// Options of the `orders` profile.
fn orders_profile() -> PublisherOptions {
    PublisherOptions::new(Profile::Orders)
}

/// With this reader waited for, dead or alive.
fn requiring(options: &PublisherOptions, reader: &str) -> PublisherOptions {
    let mut options = options.clone();
    if !options.required.iter().any(|name| name == reader) {
        options.required.push(reader.to_owned());
    }
    options
}

/// What the replies in `orders_in` say of the orders in `orders_out`.
#[derive(Debug, Default)]
struct Book {
    /// All frames up to this seq have a reply.
    answered: u64,
    /// Others that have one.
    ahead: BTreeSet<u64>,
    /// The highest id that was taken.
    high: OrderId,
}

impl Book {
    /// Reads what is left of the queue; `each` sees every reply on the way.
    fn read<P: Platform>(platform: &P, orders_in: &Path, mut each: impl FnMut(&Reply)) -> Result<Book> {
        let mut book = Book::default();
        each_frame(platform, orders_in, Start::Earliest, |frame| {
            // What is no reply says nothing; who reads the replies themselves is told of it.
            let Ok(Some(reply)) = message::read::<Reply>(&frame) else { return true };
            book.answered = book.answered.max(reply.answered.get());
            book.high = book.high.max(reply.high());
            book.ahead.insert(reply.order_seq.get());
            while book.ahead.first().is_some_and(|first| *first <= book.answered) {
                book.ahead.pop_first();
            }
            each(&reply);
            true
        })?;
        Ok(book)
    }

    /// Whether this order has had its first reply. A frame with a higher id than any that was taken has not, whatever its
    /// seq: then `orders_out` is another queue than the one that was answered.
    fn has_answered(&self, seq: u64, id: OrderId) -> bool {
        id <= self.high && (seq <= self.answered || self.ahead.contains(&seq))
    }
}

/// Hands every frame that is left to `each`, from a start, until it says false or there is none. A queue that is not there
/// has none. Reads without a trace.
fn each_frame<P: Platform>(
    platform: &P,
    path: &Path,
    start: Start,
    mut each: impl FnMut(chronicle_core::Frame<'_>) -> bool,
) -> Result<()> {
    let options = SubscriberOptions { start, ..SubscriberOptions::default() };
    let mut observer = match Queue::observer(platform, path, options) {
        Ok(observer) => observer,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    loop {
        match observer.next() {
            Ok(Some(frame)) if each(frame) => {}
            Ok(_) => return Ok(()),
            // Retired under us, or lost in a crash: what is left counts.
            Err(event) if event.is_event() => {}
            Err(error) => return Err(of_read(error)),
        }
    }
}

/// An error of a reader, outside of reading a stream.
fn of_read(error: ReadError) -> Error {
    match error {
        ReadError::Failed(error) => Error::Storage(error),
        ReadError::Busy { path } => Error::Storage(storage::Error::Busy { path }),
        event => unreachable!("an event is no failure: {event}"),
    }
}
