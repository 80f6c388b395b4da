//! The exchange's state in one place: markets, connections and what they hear, faults, kept books.
//!
//! One lock is around all of it, and nobody waits while holding it. That is slow next to a real venue and fast enough
//! for this one, and it makes the answers simple: a snapshot, a mark and a stream's messages agree on what came first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::faults::{Channel, Fault, Faults, NotFault, Occasion, What, lie};
use crate::market::{Event, Symbol};
use crate::matching::OrderId;
use crate::orders::Orders;
use crate::outbox::{Out, Outbox};
use crate::play::{self, Line, Replay};
use crate::simulation::{NewOrder, OrderRefused, Simulation};
use crate::snapshot::{Snapshot, Writing};
use crate::venue::Venue;
use crate::wire::binance::Words;
use crate::wire::kraken::{self, View};

/// Most books that are kept; the oldest goes first.
const MARKS_MAX: usize = 256;

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

/// A connection that listens.
#[derive(Debug)]
struct Session {
    outbox: Outbox,
    /// Messages stand in an envelope that names their stream.
    combined: bool,
    /// A message that leaves behind the next one.
    held: Option<String>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Floor {
    venue: Venue,
    simulation: Simulation,
    /// Instead of the simulation, which has no symbols then.
    replay: Option<Replay>,
    sessions: BTreeMap<SessionId, Session>,
    /// Who hears what, and by what name the client calls it.
    subscriptions: BTreeSet<(usize, Channel, SessionId, String)>,
    /// What those who asked for so many levels of a book have been told.
    views: BTreeMap<(usize, u16), View>,
    session_count: u64,
    /// What goes wrong.
    pub(crate) faults: Faults,
    /// Books as they were when somebody asked for stale ones.
    stale: Vec<Snapshot>,
    marks: VecDeque<(usize, Arc<Snapshot>)>,
    paused: bool,
    events: Vec<Event>,
    sent_count: u64,
}

impl Floor {
    /// A floor where nobody listens yet.
    #[must_use]
    pub(crate) fn new(venue: Venue, simulation: Simulation, replay: Option<Replay>) -> Self {
        Self {
            venue,
            simulation,
            replay,
            sessions: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            views: BTreeMap::new(),
            session_count: 0,
            faults: Faults::default(),
            stale: Vec::new(),
            marks: VecDeque::new(),
            paused: false,
            events: Vec::new(),
            sent_count: 0,
        }
    }

    /// The market of a symbol, whatever the case of its letters.
    #[must_use]
    pub(crate) fn find(&self, symbol: &str) -> Option<usize> {
        (0..self.market_count()).find(|market| self.symbol(*market).name.eq_ignore_ascii_case(symbol))
    }

    /// A symbol.
    #[must_use]
    pub(crate) fn symbol(&self, market: usize) -> &Symbol {
        match &self.replay {
            Some(replay) => &replay.symbols()[market],
            None => &self.simulation.markets()[market].symbol,
        }
    }

    /// How many symbols there are.
    #[must_use]
    pub(crate) fn market_count(&self) -> usize {
        self.replay.as_ref().map_or(self.simulation.markets().len(), |replay| replay.symbols().len())
    }

    /// Whether there is a book: a recording has none before its snapshot.
    pub(crate) fn ready(&self, market: usize) -> bool {
        self.replay.as_ref().is_none_or(|replay| replay.ready(market))
    }

    /// Whether the player has to wait: nobody listens, the exchange is paused, or somebody does not keep up: what is played
    /// is not lost to who reads slowly.
    pub(crate) fn holds(&self) -> bool {
        let behind = |session: &Session| session.outbox.is_half_full();
        self.paused || self.subscriptions.is_empty() || self.sessions.values().any(behind)
    }

    /// Plays a line of a recording.
    pub(crate) fn play(&mut self, line: Line) {
        if let Some(replay) = &mut self.replay {
            replay.played(&line);
        }
        if let play::What::Message(channel, data) = line.what {
            self.publish(line.market, channel, &data);
        }
    }

    /// Nothing is left to play.
    pub(crate) const fn played(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.over = true;
        }
    }

    /// The words about a symbol.
    #[must_use]
    pub(crate) fn words(&self, market: usize, now_ms: u64) -> Words<'_> {
        Words { venue: self.venue, symbol: self.symbol(market), now_ms }
    }

    /// The book of a symbol.
    #[must_use]
    pub(crate) fn book(&self, market: usize, limit: usize) -> Snapshot {
        if let Some(replay) = &self.replay {
            return replay.book(market, limit);
        }
        let market = &self.simulation.markets()[market];
        Snapshot::of(market, Writing::new(self.venue, &market.symbol), limit)
    }

    /// The book as it was when somebody asked for stale ones.
    #[must_use]
    pub(crate) fn stale_book(&self, market: usize) -> Option<&Snapshot> {
        self.stale.get(market)
    }

    /// Arms a fault.
    ///
    /// # Errors
    ///
    /// If too many are.
    pub(crate) fn misbehave(&mut self, fault: Fault) -> Result<u64, NotFault> {
        if fault.what == What::SnapshotStale {
            self.stale = (0..self.market_count()).map(|market| self.book(market, usize::MAX)).collect();
        }
        self.faults.arm(fault)
    }

    /// Lets a connection listen; it hears nothing before it subscribes.
    pub(crate) fn join(&mut self, outbox: Outbox, combined: bool) -> SessionId {
        self.session_count += 1;
        let id = SessionId(self.session_count);
        self.sessions.insert(id, Session { outbox, combined, held: None });
        id
    }

    /// Forgets a connection.
    pub(crate) fn leave(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.subscriptions.retain(|(_, _, session, _)| *session != id);
    }

    /// Lets a connection hear a stream. A name that is no stream's is taken in silence, as the venue does.
    pub(crate) fn subscribe(&mut self, id: SessionId, name: &str) {
        if let Some((market, channel)) = self.stream(name) {
            self.subscriptions.insert((market, channel, id, name.to_owned()));
        }
    }

    /// The opposite.
    pub(crate) fn unsubscribe(&mut self, id: SessionId, name: &str) {
        if let Some((market, channel)) = self.stream(name) {
            self.subscriptions.remove(&(market, channel, id, name.to_owned()));
        }
    }

    /// What a connection hears.
    #[must_use]
    pub(crate) fn subscribed(&self, id: SessionId) -> Vec<&str> {
        self.subscriptions.iter().filter(|(_, _, session, _)| *session == id).map(|(.., name)| name.as_str()).collect()
    }

    /// Tells a connection that follows anything that we are there.
    pub(crate) fn beat(&mut self, id: SessionId) {
        if self.subscriptions.iter().any(|(_, _, session, _)| *session == id) {
            self.tell(id, kraken::HEARTBEAT.to_owned());
        }
    }

    /// `btcusdt@depth@100ms` and the like. All depth streams have the exchange's one pace, whatever they ask for.
    fn stream(&self, name: &str) -> Option<(usize, Channel)> {
        let (symbol, channel) = name.split_once('@')?;
        let channel = match channel {
            "depth" | "depth@0ms" | "depth@100ms" | "depth@250ms" | "depth@500ms" | "depth@1000ms" => Channel::Depth,
            "trade" => Channel::Trade,
            "bookTicker" => Channel::Ticker,
            _ => return None,
        };
        Some((self.find(symbol)?, channel))
    }

    /// Sends an answer or a notice to one connection.
    pub(crate) fn tell(&mut self, id: SessionId, text: String) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.outbox.push(Out::Text(text.into()));
        }
    }

    /// Sends a message to all who hear the channel.
    fn publish(&mut self, market: usize, channel: Channel, data: &str) {
        let from = (market, channel, SessionId(0), String::new());
        let listeners = self.subscriptions.range(from..).take_while(|(m, c, ..)| (*m, *c) == (market, channel));
        let symbol = match &self.replay {
            Some(replay) => &replay.symbols()[market].name,
            None => &self.simulation.markets()[market].symbol.name,
        };
        for (_, _, id, name) in listeners {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let text = match session.combined {
                true => format!("{{\"stream\":\"{name}\",\"data\":{data}}}"),
                false => data.to_owned(),
            };
            self.sent_count += 1;
            session.send(text, self.faults.fire(Occasion::Message(channel), symbol));
        }
    }

    /// Lets the crowd of every symbol do so many things.
    pub(crate) fn step(&mut self, steps: u64, now_ms: u64) {
        if self.paused || self.replay.is_some() {
            return;
        }
        for market in 0..self.market_count() {
            for _ in 0..steps {
                let mut events = std::mem::take(&mut self.events);
                self.simulation.step(market, now_ms, &mut events);
                self.tell_events(market, now_ms, events);
            }
        }
    }

    /// Tells what happened in a market, and keeps the list's memory.
    fn tell_events(&mut self, market: usize, now_ms: u64, mut events: Vec<Event>) {
        for event in events.drain(..) {
            let kraken = self.venue == Venue::Kraken;
            let (channel, data) = match event {
                Event::Trade(trade) if kraken => (Channel::Trade, kraken::trade(&trade, self.symbol(market), now_ms)),
                // Its tickers are another matter, which nobody here speaks about.
                Event::Ticker(_) if kraken => continue,
                Event::Trade(trade) => (Channel::Trade, self.words(market, now_ms).trade(&trade)),
                Event::Ticker(ticker) => (Channel::Ticker, self.words(market, now_ms).ticker(&ticker)),
            };
            self.publish(market, channel, &data);
        }
        self.events = events;
    }

    /// Tells what changed in every book since the last time.
    pub(crate) fn flush(&mut self, now_ms: u64) {
        for market in 0..self.market_count() {
            self.flush_market(market, now_ms);
        }
    }

    fn flush_market(&mut self, market: usize, now_ms: u64) {
        if self.replay.is_some() {
            return;
        }
        if let Some(depth) = self.simulation.take_depth(market) {
            if self.venue == Venue::Kraken {
                return self.flush_views(market, now_ms);
            }
            let data = self.words(market, now_ms).depth(&depth);
            self.publish(market, Channel::Depth, &data);
        }
    }

    /// Tells those who hear Kraken's books what changed in theirs.
    fn flush_views(&mut self, market: usize, now_ms: u64) {
        let the_market = &self.simulation.markets()[market];
        let writing = Writing::new(self.venue, &the_market.symbol);
        let mut messages = Vec::new();
        for ((_, depth), view) in self.views.range_mut((market, 0)..=(market, u16::MAX)) {
            let now = View::of(the_market, *depth);
            let changes = view.changes_to(&now, the_market);
            let message = changes.update(&the_market.symbol, now.checksum(writing), now_ms);
            messages.extend(message.map(|message| (*depth, message)));
            *view = now;
        }
        for (depth, message) in messages {
            self.publish(market, Channel::Book(depth), &message);
        }
    }

    /// Lets a connection hear a Kraken channel; `depth` counts for books only, and there a snapshot comes first.
    pub(crate) fn subscribe_kraken(&mut self, id: SessionId, market: usize, depth: Option<u16>) {
        let channel = depth.map_or(Channel::Trade, Channel::Book);
        self.subscriptions.insert((market, channel, id, String::new()));
        if let Some(depth) = depth {
            let the_market = &self.simulation.markets()[market];
            // What the others of this depth were told last: what they are told next follows from it.
            let view = self.views.entry((market, depth)).or_insert_with(|| View::of(the_market, depth));
            let checksum = view.checksum(Writing::new(self.venue, &the_market.symbol));
            let text = view.snapshot(&the_market.symbol, checksum);
            let what = self.faults.fire(Occasion::Snapshot, &the_market.symbol.name);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.send(text, what);
            }
        }
    }

    /// The opposite.
    pub(crate) fn unsubscribe_kraken(&mut self, id: SessionId, market: usize, depth: Option<u16>) {
        let channel = depth.map_or(Channel::Trade, Channel::Book);
        self.subscriptions.remove(&(market, channel, id, String::new()));
    }

    /// Keeps the book of a symbol as it is now, after telling what changed: its update is the last of a depth event, so
    /// that whoever applied that event must have this book. Returns the update.
    pub(crate) fn mark(&mut self, market: usize, now_ms: u64) -> u64 {
        self.flush_market(market, now_ms);
        let book = self.book(market, usize::MAX);
        let id = book.last_update_id;
        if self.marked(market, id).is_none() {
            if self.marks.len() == MARKS_MAX {
                self.marks.pop_front();
            }
            self.marks.push_back((market, Arc::new(book)));
        }
        id
    }

    /// A book that was kept.
    #[must_use]
    pub(crate) fn marked(&self, market: usize, update_id: u64) -> Option<Arc<Snapshot>> {
        let mut marks = self.marks.iter();
        let found = marks.find(|(m, book)| (*m, book.last_update_id) == (market, update_id));
        found.map(|(_, book)| Arc::clone(book))
    }

    /// The updates at which the book of a symbol was kept.
    pub(crate) fn marks(&self, market: usize) -> impl Iterator<Item = u64> {
        self.marks.iter().filter(move |(m, _)| *m == market).map(|(_, book)| book.last_update_id)
    }

    /// Stops the crowd, after telling what changed: until it goes on, only clients' orders change anything.
    pub(crate) fn pause(&mut self, now_ms: u64) {
        self.paused = true;
        self.flush(now_ms);
    }

    /// Lets the crowd go on.
    pub(crate) const fn resume(&mut self) {
        self.paused = false;
    }

    /// Takes a client's order, and gives the answer in the venue's words.
    pub(crate) fn place(&mut self, new: NewOrder, now_ms: u64) -> Result<String, OrderRefused> {
        if self.replay.is_some() {
            return Err(OrderRefused::Closed);
        }
        let (market, mut events) = (new.market, std::mem::take(&mut self.events));
        let outcome = self.simulation.place(new, now_ms, &mut events).map(|order| order.id);
        self.tell_events(market, now_ms, events);
        let order = self.simulation.orders().by_id(market, outcome?);
        Ok(order.map_or_else(String::new, |order| self.words(market, now_ms).order(order)))
    }

    /// Takes a client's order out of its book; none if it does not wait there.
    pub(crate) fn cancel(&mut self, market: usize, id: OrderId, now_ms: u64) -> Option<String> {
        let mut events = std::mem::take(&mut self.events);
        let cancelled = self.simulation.cancel(market, id, now_ms, &mut events).is_some();
        self.tell_events(market, now_ms, events);
        let order = self.simulation.orders().by_id(market, id).filter(|_| cancelled)?;
        Some(self.words(market, now_ms).order(order))
    }

    /// What clients ordered.
    pub(crate) const fn orders(&self) -> &Orders {
        self.simulation.orders()
    }

    /// How things stand, as JSON.
    #[must_use]
    pub(crate) fn status(&self) -> String {
        let mut out = format!(
            "{{\"venue\":\"{}\",\"paused\":{},\"sessions\":{},\"sessions_ever\":{},\"subscriptions\":{},\
             \"messages\":{},\"orders\":{},\"symbols\":[",
            self.venue,
            self.paused,
            self.sessions.len(),
            self.session_count,
            self.subscriptions.len(),
            self.sent_count,
            self.simulation.orders().all().len(),
        );
        for market in 0..self.market_count() {
            let (id, resting) = match &self.replay {
                Some(replay) => (replay.book(market, 0).last_update_id, 0),
                None => {
                    let market = &self.simulation.markets()[market];
                    (market.last_update(), market.book().resting_count())
                }
            };
            // Writing into a `String` cannot fail.
            let _ = write!(
                out,
                "{}{{\"symbol\":\"{}\",\"last_update_id\":{id},\"resting\":{resting}}}",
                if market == 0 { "" } else { "," },
                self.symbol(market).name,
            );
        }
        out.push(']');
        if let Some(replay) = &self.replay {
            let _ = write!(out, ",\"lines\":{},\"over\":{}", replay.line_count, replay.over);
        }
        out.push('}');
        out
    }
}

impl Session {
    /// Sends a message, or does what goes wrong with it.
    fn send(&mut self, mut text: String, what: Vec<What>) {
        let (mut times, mut hold) = (1, false);
        for what in what {
            match what {
                What::Skip => times = 0,
                What::Duplicate => times = 2,
                What::Reorder => hold = true,
                What::Lie(field, by) => text = lie(&text, &field, by),
                What::Drop(_) => {
                    self.outbox.push(Out::Fault(what));
                    times = 0;
                }
                other => self.outbox.push(Out::Fault(other)),
            }
        }
        if hold && self.held.is_none() {
            self.held = Some(text);
            return;
        }
        for _ in 0..times {
            self.outbox.push(Out::Text(text.clone().into()));
        }
        if times > 0
            && let Some(held) = self.held.take()
        {
            self.outbox.push(Out::Text(held.into()));
        }
    }
}
