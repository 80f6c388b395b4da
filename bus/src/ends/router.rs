//! The router's end: orders of all strategies as one stream, and replies to each.

use super::{Book, ROUTER, STRATEGY, each_frame, of_read, orders_profile, requiring};
use crate::{
    Change, Discovery, DiscoveryOptions, Entry, Error, Event, Kind, Layout,
    error::Result,
    fan_in::{FanIn, Merged, SourceEvent},
    message::{self, Malformed},
    orders::{Order, OrderId, Reply},
    typed::Publisher,
    watch::{Notify, Watch},
};
use chronicle_platform::Platform;
use chronicle_storage::{
    queue::{Position, PublisherOptions, Queue, Refused, Start, SubscriberOptions},
    root::Name,
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How the router's end is opened.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// How long an order may wait for earlier ones of strategies that are silent; see [`FanIn`]. Zero unless it is said:
    /// most strategies are silent most of the time.
    pub patience: Duration,
    /// Of every `orders_in`. Without a helper thread for each unless it is said: [`RouterEnd::maintain`] does its work.
    pub queue: PublisherOptions,
    /// Of the readers of every `orders_out`.
    pub reader: SubscriberOptions,
}

impl Default for RouterOptions {
    fn default() -> Self {
        RouterOptions {
            patience: Duration::ZERO,
            queue: PublisherOptions { helper: false, ..orders_profile() },
            // Two mappings of its next segments are enough for a reader of a small queue.
            reader: SubscriberOptions { keep_segments: 2, ..SubscriberOptions::default() },
        }
    }
}

/// An order that the router has taken, and owes a first reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The strategy's number, as [`RouterEnd::strategy`] knows it.
    pub from: u32,
    /// Seq of the frame, in the strategy's `orders_out`.
    pub seq: u64,
    /// Time of the frame.
    pub time_ns: u64,
    /// It.
    pub order: Order,
    /// Nobody has taken it before. Else an earlier router may have, or its id was taken: look it up by its id, never send it
    /// unseen.
    pub fresh: bool,
    /// A frame with a later time was taken before, of another strategy.
    pub late: bool,
}

/// What comes of strategies.
#[derive(Debug)]
pub enum FromStrategy {
    /// An order.
    Order(Taken),
    /// A frame that is no order. It is owed no reply: nobody could tell to what.
    Unreadable {
        /// The strategy's number.
        from: u32,
        /// Seq of the frame.
        seq: u64,
        /// Its type.
        type_id: u16,
        /// What is wrong with it, if it has an order's type.
        reason: Option<Malformed>,
    },
    /// Something that happened to a strategy's `orders_out`.
    Event(SourceEvent),
}

/// What [`RouterEnd::history`] finds.
#[derive(Clone, Copy, Debug)]
pub enum Past {
    /// An order that was answered, as it was taken.
    Order(Taken),
    /// A reply.
    Reply(Reply),
}

/// What [`RouterEnd::drive`] has to tell.
#[derive(Debug)]
pub enum News {
    /// A strategy was taken on, under this number.
    Joined {
        /// Its number.
        number: u32,
        /// Its name.
        strategy: Name,
    },
    /// A strategy could not be taken on. It is tried again once a second.
    Refused {
        /// Its name.
        strategy: Name,
        /// Why.
        error: Error,
    },
    /// Its directory is gone, and it was let go.
    Released {
        /// The number that it had.
        number: u32,
        /// Its name.
        strategy: Name,
    },
    /// It was registered, or its registration is over. Its orders are read all the same.
    Changed(Event),
}

/// Takes orders of all strategies and answers them. See [`crate::ends`].
#[derive(Debug)]
pub struct RouterEnd<P: Platform, W: Watch = Notify> {
    platform: P,
    layout: Layout,
    discovery: Discovery<P, W>,
    /// Strategies that could not be taken on, and when they are tried again.
    refused: BTreeMap<Name, u64>,
    options: RouterOptions,
    orders: FanIn<P>,
    /// By the number of their source.
    lanes: Vec<Option<Lane<P>>>,
    numbers: BTreeMap<Name, u32>,
    /// The lane that is maintained next.
    turn: usize,
}

/// One strategy.
#[derive(Debug)]
struct Lane<P: Platform> {
    strategy: Name,
    replies: Publisher<P, Reply>,
    book: Book,
    /// Frames from this seq on were not there when no router had the queue: nobody has taken them before.
    fresh_from: u64,
    /// Frames that were taken, from the first that has no reply yet.
    owed: VecDeque<Owed>,
    /// The segment of the last durable cursor.
    durable: u64,
}

/// A frame that was taken.
#[derive(Debug)]
struct Owed {
    seq: u64,
    /// Where its reader stood behind it.
    behind: Position,
    done: bool,
}

impl<P: Platform> Lane<P> {
    /// Takes note of a frame that was taken.
    fn takes(&mut self, seq: u64, behind: Position, done: bool) {
        self.owed.push_back(Owed { seq, behind, done });
    }

    /// Where a frame stands among those that were taken.
    fn find(&self, seq: u64) -> Option<usize> {
        self.owed.binary_search_by_key(&seq, |owed| owed.seq).ok()
    }

    /// Up to where all have a reply, if this one has.
    fn answered_with(&self, nth: Option<usize>) -> u64 {
        let done = self.owed.iter().enumerate().take_while(|(at, owed)| owed.done || Some(*at) == nth);
        done.last().map_or(self.book.answered, |(_, owed)| owed.seq.max(self.book.answered))
    }

    /// Forgets the frames up to the first that is owed a reply, and says where the cursor belongs.
    fn settle(&mut self) -> Option<Position> {
        let mut behind = None;
        while let Some(first) = self.owed.front()
            && first.done
        {
            self.book.answered = self.book.answered.max(first.seq);
            behind = Some(first.behind);
            self.owed.pop_front();
        }
        behind
    }
}

/// Room for orders without a reply before it has to grow.
const OWED: usize = 64;
/// Lanes that one call of [`RouterEnd::maintain`] looks after.
const MAINTAINED: usize = 16;

/// After what time a strategy is tried again that could not be taken on.
const AGAIN: Duration = Duration::from_secs(1);

impl<P: Platform> RouterEnd<P> {
    /// Looks for strategies on the bus, told of changes by the system. [`RouterEnd::drive`] takes them on.
    ///
    /// # Errors
    ///
    /// The bus's directory cannot be made or listed.
    pub fn open(platform: &P, layout: &Layout, options: RouterOptions) -> Result<Self> {
        platform.create_dirs(&layout.kind_dir(Kind::Strategy))?;
        let kinds = DiscoveryOptions { kinds: vec![Kind::Strategy], ..DiscoveryOptions::default() };
        Ok(RouterEnd::over(platform, layout, Discovery::open(platform, layout, kinds)?, options))
    }
}

impl<P: Platform, W: Watch> RouterEnd<P, W> {
    /// Over a discovery of the caller's.
    #[must_use]
    pub fn over(platform: &P, layout: &Layout, discovery: Discovery<P, W>, options: RouterOptions) -> Self {
        RouterEnd {
            platform: platform.clone(),
            layout: layout.clone(),
            discovery,
            refused: BTreeMap::new(),
            orders: FanIn::new(platform, options.patience),
            options,
            lanes: Vec::new(),
            numbers: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Follows who comes and goes, and does what a helper thread does for some of the queues ([`RouterEnd::maintain`]). To be
    /// called between orders, some hundred times a second.
    ///
    /// A strategy is taken on when its orders are there, registered or not: those of a dead one are still to be answered. It
    /// is let go when its directory is gone.
    pub fn drive(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for event in self.discovery.poll() {
            let Entry::Strategy { strategy } = &event.entry else { continue };
            let strategy = strategy.clone();
            match event.change {
                Change::Added | Change::Ready { .. } => self.try_adopt(&strategy, &mut news),
                Change::Removed => {
                    self.refused.remove(&strategy);
                    if let Some(number) = self.number(&strategy) {
                        self.release(number);
                        news.push(News::Released { number, strategy });
                    }
                }
                Change::Lost { .. } => {}
            }
            news.push(News::Changed(event));
        }
        let now = self.platform.monotonic_ns();
        let due: Vec<Name> = self.refused.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for strategy in due {
            self.try_adopt(&strategy, &mut news);
        }
        self.maintain();
        news
    }

    fn try_adopt(&mut self, strategy: &Name, news: &mut Vec<News>) {
        if self.number(strategy).is_some() {
            return;
        }
        match self.adopt(strategy) {
            Ok(number) => {
                self.refused.remove(strategy);
                news.push(News::Joined { number, strategy: strategy.clone() });
            }
            // Its queues are still being made: it will be ready when they are.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let again = self.platform.monotonic_ns().saturating_add(AGAIN.as_nanos() as u64);
                self.refused.insert(strategy.clone(), again);
                news.push(News::Refused { strategy: strategy.clone(), error });
            }
        }
    }

    /// Takes a strategy on, whose queues are there, and returns its number. Orders that earlier routers answered are passed
    /// over. One that is taken on already keeps its number, whoever is registered under its name by now.
    ///
    /// # Errors
    ///
    /// Another router has it; a queue's; the system's.
    pub fn adopt(&mut self, strategy: &Name) -> Result<u32> {
        if let Some(number) = self.number(strategy) {
            return Ok(number);
        }
        let (orders_out, orders_in) = (self.layout.orders_out(strategy), self.layout.orders_in(strategy));
        // A name in a queue's directory: documented there, and only looked for.
        let is_first = !self.platform.exists(&orders_out.join("readers").join(format!("{ROUTER}.meta")))?;
        // Both ends before anything is read: from here on no other router works on this strategy.
        let mut orders = Queue::subscriber(&self.platform, &orders_out, ROUTER, self.options.reader.clone())?;
        let replies = Queue::publisher(&self.platform, &orders_in, requiring(&self.options.queue, STRATEGY))?;
        let book = Book::read(&self.platform, &orders_in, |_| {})?;
        let fresh_from = if is_first {
            0
        } else {
            orders.seek(Start::Latest).map_err(of_read)?;
            let end = orders.position().map_or(0, |position| position.seq);
            orders.seek(Start::Cursor).map_err(of_read)?;
            end
        };
        let number = self.orders.add(orders);
        let at = number as usize;
        if self.lanes.len() <= at {
            self.lanes.resize_with(at + 1, || None);
        }
        self.numbers.insert(strategy.clone(), number);
        self.lanes[at] = Some(Lane {
            strategy: strategy.clone(),
            replies: Publisher::over(replies),
            book,
            fresh_from,
            owed: VecDeque::with_capacity(OWED),
            durable: 0,
        });
        Ok(number)
    }

    /// Lets a strategy go: its queues stay as they are, and who adopts it goes on there.
    pub fn release(&mut self, number: u32) -> bool {
        let Some(lane) = self.lanes.get_mut(number as usize).and_then(Option::take) else { return false };
        self.numbers.remove(&lane.strategy);
        self.orders.remove(number);
        true
    }

    /// What comes next of all strategies, at this clock; `None` if there is nothing.
    ///
    /// Pass one `now_ns` to many calls: each new one costs a look at every strategy that is silent.
    // Not an iterator: errors of one strategy are no end of the others.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self, now_ns: u64) -> Option<FromStrategy> {
        loop {
            let next = match self.orders.next(now_ns)? {
                Merged::Frame(next) => next,
                Merged::Event(event) => return Some(FromStrategy::Event(event)),
            };
            let (from, late, seq, time_ns) = (next.source, next.late, next.frame.seq, next.frame.time_ns);
            let type_id = next.frame.type_id;
            let read = message::read::<Order>(&next.frame);
            let behind = self.orders.source(from).and_then(|source| source.position())?;
            let lane = self.lanes.get_mut(from as usize)?.as_mut()?;
            let order = match read {
                Ok(Some(order)) => order,
                other => {
                    // Owed nothing; the cursor moves over it with the next reply.
                    lane.takes(seq, behind, true);
                    self.settle(from);
                    return Some(FromStrategy::Unreadable { from, seq, type_id, reason: other.err() });
                }
            };
            let id = order.id();
            if lane.book.has_answered(seq, id) {
                lane.takes(seq, behind, true);
                self.settle(from);
                continue;
            }
            if seq <= lane.book.answered {
                // Another queue than the one that was answered: its seqs mean nothing here.
                lane.book = Book { answered: seq - 1, high: lane.book.high, ..Book::default() };
            }
            let fresh = id > lane.book.high && seq >= lane.fresh_from;
            lane.book.high = lane.book.high.max(id);
            lane.takes(seq, behind, false);
            return Some(FromStrategy::Order(Taken { from, seq, time_ns, order, fresh, late }));
        }
    }

    /// Appends a reply to an order, the first or a later one, and stores the cursor as far as all orders have their first.
    /// Returns the reply's seq in `orders_in`.
    ///
    /// # Errors
    ///
    /// A refusal, such as a queue full of replies that the strategy has not committed: nothing was appended, and the order
    /// is as it was.
    pub fn reply(&mut self, taken: &Taken, time_ns: u64, reply: &Reply) -> std::result::Result<u64, Refused> {
        let Some(Some(lane)) = self.lanes.get_mut(taken.from as usize) else { return Err(Refused::NotReady) };
        let nth = lane.find(taken.seq);
        let OrderId { epoch, seq } = lane.book.high;
        let reply = Reply {
            order_seq: taken.seq.into(),
            answered: lane.answered_with(nth).into(),
            high_epoch: epoch.into(),
            high_seq: seq.into(),
            order_ns: taken.time_ns.into(),
            ..*reply
        };
        let sent = match lane.replies.send(time_ns, &reply) {
            Err(Refused::NotReady) => {
                // No helper thread works ahead for us.
                lane.replies.queue().maintain();
                lane.replies.send(time_ns, &reply)?
            }
            other => other?,
        };
        if let Some(nth) = nth
            && let Some(owed) = lane.owed.get_mut(nth)
        {
            owed.done = true;
            self.settle(taken.from);
        }
        Ok(sent)
    }

    /// Moves a strategy's cursor as far as it goes.
    fn settle(&mut self, from: u32) {
        let Some(Some(lane)) = self.lanes.get_mut(from as usize) else { return };
        let Some(behind) = lane.settle() else { return };
        // A cursor that cannot be stored costs a restart some reading; what was answered stands in the replies.
        if behind.segment_id == lane.durable {
            _ = self.orders.commit_at(from, behind);
        } else if self.orders.commit_durable_at(from, behind).is_ok() {
            lane.durable = behind.segment_id;
        }
    }

    /// Waits until a strategy has something, at most `timeout`; see [`FanIn::wait`].
    pub fn wait(&mut self, timeout: Duration) -> bool {
        self.orders.wait(timeout)
    }

    /// Does, for some of the `orders_in` in turn, what a helper thread does: heartbeats, segments made ready. A few times a
    /// second for every 16 strategies.
    pub fn maintain(&mut self) {
        for _ in 0..MAINTAINED.min(self.lanes.len()) {
            self.turn = (self.turn + 1) % self.lanes.len();
            if let Some(lane) = &mut self.lanes[self.turn] {
                lane.replies.queue().maintain();
            }
        }
    }

    /// What is left of a strategy's past: its answered orders, oldest first, then all replies. For a router that comes back
    /// and has to know which orders are still open at the venue, and which fills it has told of.
    ///
    /// # Errors
    ///
    /// A queue's, or the system's.
    pub fn history(&self, number: u32, mut each: impl FnMut(Past)) -> Result<()> {
        let Some(Some(lane)) = self.lanes.get(number as usize) else { return Ok(()) };
        let (orders_out, orders_in) = (self.layout.orders_out(&lane.strategy), self.layout.orders_in(&lane.strategy));
        // Read before the orders are: one that is answered in between is in neither, and comes by `next`.
        let book = Book::read(&self.platform, &orders_in, |_| {})?;
        each_frame(&self.platform, &orders_out, Start::Earliest, |frame| {
            if let Ok(Some(order)) = message::read::<Order>(&frame)
                && book.has_answered(frame.seq, order.id())
            {
                let (seq, time_ns) = (frame.seq, frame.time_ns);
                each(Past::Order(Taken { from: number, seq, time_ns, order, fresh: false, late: false }));
            }
            true
        })?;
        Book::read(&self.platform, &orders_in, |reply| each(Past::Reply(*reply)))?;
        Ok(())
    }

    /// A strategy's number, if it is taken on.
    #[must_use]
    pub fn number(&self, strategy: &Name) -> Option<u32> {
        self.numbers.get(strategy).copied()
    }

    /// A number's strategy.
    #[must_use]
    pub fn strategy(&self, number: u32) -> Option<&Name> {
        Some(&self.lanes.get(number as usize)?.as_ref()?.strategy)
    }

    /// Numbers of all strategies that are taken on, ascending.
    pub fn strategies(&self) -> impl Iterator<Item = u32> + '_ {
        self.orders.sources()
    }

    /// Orders of a strategy that have had no reply yet.
    #[must_use]
    pub fn owed(&self, number: u32) -> usize {
        let lane = self.lanes.get(number as usize).and_then(Option::as_ref);
        lane.map_or(0, |lane| lane.owed.iter().filter(|owed| !owed.done).count())
    }

    /// Who is there.
    pub fn discovery(&mut self) -> &mut Discovery<P, W> {
        &mut self.discovery
    }

    /// The merge underneath: a strategy's reader, how many of its orders came late, where a damaged one goes on.
    pub fn orders(&mut self) -> &mut FanIn<P> {
        &mut self.orders
    }
}
