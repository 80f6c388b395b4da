//! A strategy's end: its registration, orders out, replies in.

use super::{Book, ROUTER, STRATEGY, each_frame, orders_profile, requiring};
use crate::{
    Entry, Layout, Registration, RegistrationOptions,
    error::Result,
    message,
    orders::{Order, OrderId, Reply},
    typed::{Publisher, Received, Subscriber},
};
use chronicle_platform::Platform;
use chronicle_storage::{
    self as storage,
    queue::{self, PublisherOptions, Queue, ReadError, Refused, Start, SubscriberOptions, Waited},
    root::Name,
};
use std::time::Duration;

/// How a strategy's end is opened.
#[derive(Clone, Debug)]
pub struct StrategyOptions {
    /// How it is registered.
    pub registration: RegistrationOptions,
    /// Renew the registration from a thread of its own; without it the caller does, by [`StrategyEnd::registration`].
    pub renew: bool,
    /// Of `orders_out`, and of `orders_in` where that is made here.
    pub queue: PublisherOptions,
    /// Of the reader of `orders_in`. [`Start::Earliest`] reads again what was committed.
    pub reader: SubscriberOptions,
}

impl Default for StrategyOptions {
    fn default() -> Self {
        StrategyOptions {
            registration: RegistrationOptions::default(),
            renew: true,
            queue: orders_profile(),
            reader: SubscriberOptions::default(),
        }
    }
}

/// Sends orders and hears of them. See [`crate::ends`].
#[derive(Debug)]
pub struct StrategyEnd<P: Platform> {
    orders: Publisher<P, Order>,
    replies: Subscriber<P, Reply>,
    next: OrderId,
    /// The segment of the last durable cursor.
    durable: u64,
    platform: P,
    layout: Layout,
    strategy: Name,
    // Declared last: the entry is left when its queues are closed.
    registration: Registration<P>,
}

impl<P: Platform> StrategyEnd<P> {
    /// Registers a strategy and opens its two queues; makes them where there are none. From then on the router finds it.
    ///
    /// # Errors
    ///
    /// The name is not one; another process is registered under it; a queue's; the system's.
    pub fn open(platform: &P, layout: &Layout, strategy: &str, options: &StrategyOptions) -> Result<Self> {
        let entry = Entry::strategy(strategy)?;
        let strategy = Name::new(strategy)?;
        let mut registration = Registration::begin(platform, layout, entry, options.registration)?;
        let out = Queue::publisher(platform, layout.orders_out(&strategy), requiring(&options.queue, ROUTER))?;
        let replies = Self::open_replies(platform, layout, &strategy, options)?;
        registration.ready()?;
        if options.renew {
            registration.start_renewing()?;
        }
        Ok(StrategyEnd {
            orders: Publisher::over(out),
            replies: Subscriber::over(replies),
            next: OrderId { epoch: registration.epoch(), seq: 1 },
            durable: 0,
            platform: platform.clone(),
            layout: layout.clone(),
            strategy,
            registration,
        })
    }

    /// The router writes that queue, but it need not be there yet, and what it does not find it cannot wait for.
    fn open_replies(
        platform: &P,
        layout: &Layout,
        strategy: &Name,
        options: &StrategyOptions,
    ) -> Result<queue::Subscriber<P>> {
        let path = layout.orders_in(strategy);
        let open = || Queue::subscriber(platform, &path, STRATEGY, options.reader.clone());
        match open() {
            Err(error) if error.is_not_found() => {}
            other => return Ok(other?),
        }
        let made = PublisherOptions { helper: false, ..requiring(&options.queue, STRATEGY) };
        match Queue::publisher(platform, &path, made) {
            Ok(queue) => _ = queue.close()?,
            // The router was faster.
            Err(storage::Error::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(open()?)
    }

    /// Sends an order and returns it with its id. The router sees it at once, or when it comes.
    ///
    /// # Errors
    ///
    /// A refusal: nothing was sent, and the id is the next order's.
    #[inline]
    pub fn send(&mut self, time_ns: u64, order: &Order) -> std::result::Result<Order, Refused> {
        let order = Order { epoch: self.next.epoch.into(), seq: self.next.seq.into(), ..*order };
        self.orders.send(time_ns, &order)?;
        self.next.seq += 1;
        Ok(order)
    }

    /// Sends an order that was sent before, under its id: the router recognises it, and does nothing twice.
    ///
    /// # Errors
    ///
    /// A refusal: nothing was sent.
    pub fn send_again(&mut self, time_ns: u64, order: &Order) -> std::result::Result<(), Refused> {
        self.orders.send(time_ns, order).map(|_| ())
    }

    /// What comes next of the router, or `None` if it has come no further.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`].
    // Not an iterator: what it hands out borrows the reader.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> std::result::Result<Option<Received<'_, Reply>>, ReadError> {
        self.replies.next()
    }

    /// Waits for a reply, at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`queue::Subscriber::wait`].
    pub fn wait(&mut self, timeout: Duration) -> std::result::Result<Waited, ReadError> {
        self.replies.queue().wait(timeout)
    }

    /// Done with all replies so far: after a restart, those behind come.
    ///
    /// # Errors
    ///
    /// Of making the cursor durable, once a segment.
    pub fn commit(&mut self) -> Result<()> {
        let replies = self.replies.queue();
        let Some(position) = replies.position() else { return Ok(()) };
        if position.segment_id == self.durable {
            return Ok(replies.commit()?);
        }
        replies.commit_durable()?;
        self.durable = position.segment_id;
        Ok(())
    }

    /// Orders of this strategy, of earlier registrations too, that no reply was made to yet, oldest first. For who comes
    /// back: they are on their way and need not be sent again.
    ///
    /// # Errors
    ///
    /// A queue's, or the system's.
    pub fn unanswered(&self) -> Result<Vec<Order>> {
        let book = Book::read(&self.platform, &self.layout.orders_in(&self.strategy), |_| {})?;
        let mut orders = Vec::new();
        let orders_out = self.layout.orders_out(&self.strategy);
        each_frame(&self.platform, &orders_out, Start::Earliest, |frame| {
            if let Ok(Some(order)) = message::read::<Order>(&frame)
                && !book.has_answered(frame.seq, order.id())
            {
                orders.push(order);
            }
            true
        })?;
        Ok(orders)
    }

    /// Which registration of the strategy this is: the first half of its orders' ids.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.next.epoch
    }

    /// The registration.
    pub fn registration(&mut self) -> &mut Registration<P> {
        &mut self.registration
    }

    /// `orders_out`.
    pub fn orders(&mut self) -> &mut Publisher<P, Order> {
        &mut self.orders
    }

    /// `orders_in`.
    pub fn replies(&mut self) -> &mut Subscriber<P, Reply> {
        &mut self.replies
    }
}
