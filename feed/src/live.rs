//! A venue's live stream into the raw stream: connect, subscribe, follow, and be there again when it breaks.
//!
//! ```text
//!   venue ──WebSocket──▶ socket ──text──▶ intake ──records──▶ raw queue (hot) ──▶ readers, recorder, refinery
//!         ◀──requests── rest  ──snapshot──▲  │ merge: one stream of two connections          ▲
//!                                            └ follow: gaps ask for snapshots      overflow ─┘ on disk, when it is full
//! ```
//!
//! What lies in the raw stream is what an import of a recording of the same connection would have put there: deltas,
//! trades, quotes, snapshots where they were received, what is not understood verbatim. The refinery knows no difference.
//!
//! [`follow`] runs one feed on the caller's runtime until it is told to stop. It handles one connection, and two while one
//! takes over from the other:
//!
//! ```text
//!          ┌────────────── wait: full jitter ◀── failed ──┐
//!   (none) ┴─▶ dialling ──▶ open ── ended ────────────────┘
//!                            │ old, or the venue says goodbye
//!                            ▼
//!                        open + dialling ──▶ overlap ──▶ open (the new one)
//! ```
//!
//! **Snapshots** are asked for once the stream has begun, after every hole, and again when one is too old to be joined, with
//! waits between. The rules by which a book is whole are the refinery's ([`continuity`](crate::continuity)).
//!
//! **Limits.** Connections, messages and the weight of requests are kept below the venue's limits before anything is sent;
//! a venue that says "slower" all the same is obeyed.
//!
//! **What it never does:** it inflates nothing (no compression is offered on either way); it holds no message longer than
//! its limit; no timeout looks at the wall clock; it drops nothing without a marker in the stream; it retries for ever,
//! except what only a person can mend before anything worked: an untrusted certificate, a symbol that does not exist.
//!
//! **Ids that go back.** Where a last id that lies, or a venue that numbers anew, would make all that comes look old, the
//! stream gets a gap record before the first delta that counts again, and a snapshot is asked for; a feed that goes on with
//! a stream writes one before the first delta of each symbol, because it does not know what the feed before it saw. While
//! two connections overlap what looks old is a duplicate: there it is found out only behind the handover.
//!
//! **Memory.** Measured on the feed's thread (`benches/tests/live_allocates_nothing.rs`): deltas, trades and quotes of one
//! connection over a plain socket, from the socket to the record in the raw queue, ask nothing of the heap, and neither does
//! the client library with messages of some hundred bytes (both below 1 in 10,000 of 54,142). Not measured: TLS, longer
//! messages, two connections that overlap, jumps that are held, a queue that rolls.

mod backoff;
mod dial;
mod intake;
mod limit;
mod merge;
mod raw;
mod report;
mod rest;
mod socket;
mod stamp;
mod wire;

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use chronicle_platform::Platform;
use tokio::time::Instant;

use self::{
    backoff::{Backoff, Dice},
    dial::Dialer,
    intake::Intake,
    limit::Bucket,
    merge::Side,
    rest::RestError,
    socket::{Ended, Heard, OpenError, Socket},
    wire::{Limits, Plan, Snapshots, Wire},
};
use crate::venue::Venue;

pub use self::{
    dial::{Address, BadAddress, Trust},
    raw::{Put, RawCounts, RawEnd, RawError},
    report::{Counts, Event},
    wire::Channel,
};

/// How we call ourselves.
const USER_AGENT: &str = concat!("chronicle/", env!("CARGO_PKG_VERSION"));

/// What to follow, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose.
    pub venue: Venue,
    /// In the venue's own writing; see [`symbol`].
    pub symbols: Vec<String>,
    /// What of each.
    pub channels: Vec<Channel>,
    /// Where the stream is; `None` = the venue itself.
    pub stream: Option<Address>,
    /// Where snapshots are; `None` = the venue itself.
    pub rest: Option<Address>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// The longest message, and the longest snapshot.
    pub message_len_max: usize,
    /// For connecting, a handshake, a request.
    pub timeout: Duration,
    /// A connection that has not sent a byte for so long is dead; half as long, and it is asked by a ping.
    pub silence_max: Duration,
    /// A connection of this age is replaced; `None` = an hour before the venue would end it, and never where it would not.
    pub age_max: Option<Duration>,
    /// How long two connections may overlap.
    pub overlap_max: Duration,
    /// The first wait before trying again, and the longest.
    pub retry: [Duration; 2],
    /// Of the random waits.
    pub seed: u64,
    /// Time between two [`Tell::Status`].
    pub status_every: Duration,
}

impl Options {
    /// All streams of these symbols, from the venue itself.
    #[must_use]
    pub fn new(venue: Venue, symbols: Vec<String>, seed: u64) -> Self {
        Self {
            venue,
            symbols,
            channels: Channel::ALL.to_vec(),
            stream: None,
            rest: None,
            trust: Trust::default(),
            message_len_max: 8 << 20,
            timeout: Duration::from_secs(10),
            silence_max: Duration::from_secs(30),
            age_max: None,
            overlap_max: Duration::from_secs(15),
            retry: [Duration::from_millis(250), Duration::from_secs(30)],
            seed,
            status_every: Duration::from_secs(5),
        }
    }
}

/// A symbol in the venue's own writing, from what a user may type; `None` for a venue that cannot be followed live.
#[must_use]
pub fn symbol(venue: Venue, typed: &str) -> Option<String> {
    wire::wire(venue).map(|wire| wire.symbol(typed))
}

/// What a feed tells while it runs.
#[derive(Debug)]
pub enum Tell<'a> {
    /// Something happened.
    Event(&'a Event),
    /// The numbers, now and then and at the end.
    Status(&'a Counts),
}

/// Why a feed ended before it was told to.
#[derive(Debug)]
#[non_exhaustive]
pub enum FeedError {
    /// The venue can only be read from recordings.
    NotLive(Venue),
    /// A symbol that cannot be one, none at all, or one twice.
    Symbol {
        /// It.
        symbol: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than a connection of this venue takes.
    TooManyStreams {
        /// Asked for.
        count: usize,
        /// Allowed.
        most: usize,
    },
    /// Never connected, and trying again will not help.
    Connect {
        /// To what.
        to: String,
        /// Why.
        why: String,
    },
    /// Never had a snapshot of this symbol, and trying again will not help.
    Snapshot {
        /// The symbol.
        symbol: String,
        /// What the venue says.
        why: String,
    },
    /// The raw stream cannot be written.
    Raw(RawError),
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLive(venue) => write!(f, "venue {venue}: only its recordings can be read, not its live stream"),
            Self::Symbol { symbol, why } => write!(f, "symbol `{}`: {why}", symbol.escape_debug()),
            Self::TooManyStreams { count, most } => {
                write!(f, "{count} streams: the venue allows {most} on a connection; name fewer symbols or streams")
            }
            Self::Connect { to, why } => write!(f, "{to}: {why}"),
            Self::Snapshot { symbol, why } => write!(f, "{symbol}: no snapshot: {why}"),
            Self::Raw(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FeedError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Raw(error) => error.source(),
            _ => None,
        }
    }
}

impl From<RawError> for FeedError {
    fn from(error: RawError) -> Self {
        Self::Raw(error)
    }
}

/// A connection and what is known of it.
#[derive(Debug)]
struct Link {
    socket: Socket,
    outbox: VecDeque<String>,
    messages: Bucket,
    opened: Instant,
    heard: Instant,
    /// It has sent a text.
    spoke: bool,
    /// It was asked whether it is alive, and has not said a byte since.
    pinged: bool,
    renew_at: Option<Instant>,
}

impl Link {
    /// Sends what may be sent. Gives when more may, or how the connection ended.
    fn send(&mut self, now: Instant, silence_max: Duration) -> Result<Option<Instant>, Ended> {
        let silent = now.saturating_duration_since(self.heard);
        if silent >= silence_max {
            return Err(Ended::Silent { after: silence_max });
        }
        if silent >= silence_max / 2 && !self.pinged && self.messages.take(1, now).is_ok() {
            self.pinged = true;
            self.socket.send(None)?;
        }
        while let Some(text) = self.outbox.pop_front() {
            if let Err(wait) = self.messages.take(1, now) {
                self.outbox.push_front(text);
                return Ok(Some(now + wait));
            }
            self.socket.send(Some(text))?;
        }
        Ok(None)
    }

    fn look_again(&self, silence_max: Duration) -> Instant {
        self.heard + if self.pinged { silence_max } else { silence_max / 2 }
    }
}

fn poll_links(
    lead: &mut Option<Link>,
    join: &mut Option<Link>,
    cx: &mut Context<'_>,
) -> Poll<(Side, Result<Heard, Ended>)> {
    // The joining connection first: while the leading one never pauses, the other would never be heard.
    for (side, link) in [(Side::Joining, join), (Side::Leading, lead)] {
        if let Some(link) = link
            && let Poll::Ready(heard) = link.socket.poll_next(cx)
        {
            return Poll::Ready((side, heard));
        }
    }
    Poll::Pending
}

/// A future that may not be there.
async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

type Dialling = Pin<Box<dyn Future<Output = Result<Socket, OpenError>> + Send>>;
type Fetching = Pin<Box<dyn Future<Output = Result<hyper::body::Bytes, RestError>> + Send>>;

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn checked(options: &Options) -> Result<(&'static dyn Wire, Limits), FeedError> {
    let wire = wire::wire(options.venue).ok_or(FeedError::NotLive(options.venue))?;
    let refuse = |symbol: &str, why| Err(FeedError::Symbol { symbol: symbol.to_owned(), why });
    if options.symbols.is_empty() {
        return refuse("", "none is named");
    }
    for (at, symbol) in options.symbols.iter().enumerate() {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c);
        if symbol.is_empty() || symbol.len() > 64 || !symbol.chars().all(allowed) {
            return refuse(symbol, "1 to 64 letters, digits, `_`, `-`, `/` or `.` are one");
        }
        if *symbol != wire.symbol(symbol) {
            return refuse(symbol, "not in the venue's own writing");
        }
        if options.symbols[..at].contains(symbol) {
            return refuse(symbol, "named twice");
        }
    }
    let (limits, count) = (wire.limits(), options.symbols.len() * options.channels.len());
    if count == 0 {
        return refuse(&options.symbols[0], "no stream of it is asked for");
    }
    if count > limits.streams {
        return Err(FeedError::TooManyStreams { count, most: limits.streams });
    }
    Ok((wire, limits))
}

/// Follows a venue until `stop` is ready, and gives what was counted.
///
/// `wall_ns` is the clock of the records: ns since 1970. Runs on the caller's tokio runtime, in one task; a current-thread
/// runtime with time and IO is enough.
///
/// # Errors
///
/// The options ask for what cannot be; what only a person can mend, before anything worked; the raw stream cannot be
/// written.
pub async fn follow<P: Platform>(
    options: &Options,
    raw: &mut RawEnd<P>,
    wall_ns: impl FnMut() -> u64,
    stop: impl Future<Output = ()>,
    tell: impl FnMut(Tell<'_>),
) -> Result<Counts, FeedError> {
    let (wire, limits) = checked(options)?;
    let tell = std::cell::RefCell::new(tell);
    let tell_event = |event: Event| tell.borrow_mut()(Tell::Event(&event));
    let [stream, rest] = wire.addresses().map(|own| own.parse::<Address>().expect("bug: a venue's own address"));
    let mut feed = Feed {
        intake: Intake::new(
            options.venue,
            wire,
            &options.symbols,
            raw,
            wall_ns,
            options.retry,
            options.seed,
            tell_event,
        ),
        options,
        wire,
        limits,
        dialer: Dialer::new(options.trust.clone(), options.timeout),
        stream: options.stream.clone().unwrap_or(stream),
        rest: options.rest.clone().unwrap_or(rest),
        backoff: Backoff::new(options.retry[0], options.retry[1], options.seed),
        dice: Dice::new(!options.seed),
        connections: Bucket::new(limits.connections.0, limits.connections.1, Instant::now()),
        weight: Bucket::new(limits.weight.0, limits.weight.1, Instant::now()),
        lead: None,
        join: None,
        overlap_ends: None,
        dial_due: Instant::now(),
        was_connected: false,
    };
    feed.intake.source(&format!("live {}", options.venue))?;
    feed.run(stop, |counts| tell.borrow_mut()(Tell::Status(counts))).await
}

struct Feed<'a, P: Platform, C, T> {
    intake: Intake<'a, P, C, T>,
    options: &'a Options,
    wire: &'static dyn Wire,
    limits: Limits,
    dialer: Dialer,
    stream: Address,
    rest: Address,
    backoff: Backoff,
    dice: Dice,
    connections: Bucket,
    weight: Bucket,
    lead: Option<Link>,
    join: Option<Link>,
    /// While two are open: the earliest end of the overlap, and the latest.
    overlap_ends: Option<(Instant, Instant)>,
    dial_due: Instant,
    was_connected: bool,
}

/// The least time for which two connections overlap: what was under way on the old one has come by then.
const OVERLAP_MIN: Duration = Duration::from_millis(1500);
/// A connection that lived so long worked: the next failure is a first one.
const WORKED: Duration = Duration::from_secs(60);
/// A stream that has said nothing of a symbol for so long has begun all the same: its snapshot is asked for.
const BEGUN: Duration = Duration::from_secs(3);
/// A subscription that has not brought its snapshot for so long is made anew.
const SUBSCRIBED: Duration = Duration::from_secs(15);
/// The least time between two snapshots by which one jump is to be confirmed.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// How long the overflow rests when the hot queue takes nothing more.
const DRAIN_EVERY: Duration = Duration::from_millis(5);

impl<P: Platform, C: FnMut() -> u64, T: FnMut(Event)> Feed<'_, P, C, T> {
    async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        mut status: impl FnMut(&Counts),
    ) -> Result<Counts, FeedError> {
        let mut stop = std::pin::pin!(stop);
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut dialling: Option<Dialling> = None;
        let mut fetching: Option<(usize, Fetching)> = None;
        let mut status_due = Instant::now() + self.options.status_every;
        loop {
            let now = Instant::now();
            let mut next = status_due;
            if now >= status_due {
                self.intake.look_after_queue(now)?;
                status(&self.intake.counts());
                status_due = now + self.options.status_every;
                next = status_due;
            }
            next = next.min(self.tend(now)?);
            if dialling.is_none()
                && let Some(due) = self.dial_wanted(now)
            {
                if now >= due {
                    dialling = Some(self.dial());
                } else {
                    next = next.min(due);
                }
            }
            if let Some(due) = self.ask(now, &mut fetching) {
                next = next.min(due);
            }
            timer.as_mut().reset(next.max(now + Duration::from_micros(100)));
            let (lead, join) = (&mut self.lead, &mut self.join);
            tokio::select! {
                // In this order: what is rare first, so that messages that never pause keep nothing else from being done.
                biased;
                () = &mut stop => break,
                opened = maybe(&mut dialling) => {
                    dialling = None;
                    self.opened(opened)?;
                }
                fetched = async {
                    match &mut fetching {
                        Some((_, fetching)) => fetching.await,
                        None => std::future::pending().await,
                    }
                } => {
                    if let Some((symbol, _)) = fetching.take() {
                        self.fetched(symbol, fetched)?;
                    }
                }
                () = &mut timer => {}
                (side, heard) = std::future::poll_fn(|cx| poll_links(lead, join, cx)) => self.heard(side, heard)?,
            }
        }
        for link in [self.lead.take(), self.join.take()].into_iter().flatten() {
            link.socket.close().await;
        }
        let counts = self.intake.counts();
        status(&counts);
        Ok(counts)
    }

    /// What is due by time. Gives when to look again.
    fn tend(&mut self, now: Instant) -> Result<Instant, FeedError> {
        let mut next = now + Duration::from_secs(3600);
        for side in [Side::Leading, Side::Joining] {
            let link = match side {
                Side::Leading => &mut self.lead,
                Side::Joining => &mut self.join,
            };
            let Some(open) = link else { continue };
            match open.send(now, self.options.silence_max) {
                Ok(more) => {
                    next = next.min(more.unwrap_or(next)).min(open.look_again(self.options.silence_max));
                    next = open.renew_at.filter(|at| *at > now).map_or(next, |at| next.min(at));
                }
                Err(ended) => self.ended(side, &ended, now)?,
            }
        }
        if let Some((earliest, latest)) = self.overlap_ends {
            let spoke = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.spoke);
            if now >= latest && !spoke(&self.join) && spoke(&self.lead) {
                self.ended(Side::Joining, &Ended::Mute { after: latest - earliest }, now)?;
            } else if now >= latest || now >= earliest && spoke(&self.join) && self.intake.merge.is_joined() {
                self.hand_over(now)?;
            } else {
                next = next.min(if now < earliest { earliest } else { latest });
            }
        }
        let intake = &mut self.intake;
        let mut unconfirmed = Vec::new();
        if let Some(again) = intake.merge.look(now, |symbol| unconfirmed.push(symbol)) {
            next = next.min(again);
        }
        for symbol in unconfirmed {
            if !intake.asks[symbol].wanted && self.wire.snapshots() == Snapshots::Fetched {
                let due = now.max(intake.asks[symbol].due);
                intake.ask(symbol, due);
            }
        }
        intake.release(now)?;
        if intake.raw.is_behind() {
            intake.drain()?;
            next = next.min(now + DRAIN_EVERY);
        }
        Ok(next)
    }

    /// When a connection is to be opened, if one is.
    fn dial_wanted(&mut self, now: Instant) -> Option<Instant> {
        let Some(lead) = &mut self.lead else { return Some(self.dial_due) };
        if self.join.is_some() {
            return None;
        }
        if self.intake.farewell {
            self.intake.farewell = false;
            lead.renew_at = Some(now);
            (self.intake.tell)(Event::Renewing { why: "the venue will close the first".to_owned() });
        }
        lead.renew_at.map(|at| at.max(self.dial_due))
    }

    fn dial(&mut self) -> Dialling {
        let now = Instant::now();
        let wait = self.connections.take(1, now).err().unwrap_or_default();
        if let Some(lead) = &self.lead {
            let why = format!("the first is {} s old", now.saturating_duration_since(lead.opened).as_secs());
            (self.intake.tell)(Event::Renewing { why });
        }
        let plan = Plan { symbols: &self.options.symbols, channels: &self.options.channels };
        let (dialer, to, path) = (self.dialer.clone(), self.stream.clone(), self.wire.path(plan));
        let len_max = self.options.message_len_max;
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Socket::open(&dialer, &to, &path, len_max).await
        })
    }

    fn opened(&mut self, opened: Result<Socket, OpenError>) -> Result<(), FeedError> {
        let now = Instant::now();
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) if error.is_final() && !self.was_connected => {
                return Err(FeedError::Connect { to: self.stream.to_string(), why: error.to_string() });
            }
            Err(error) => {
                self.intake.counts.connect_failures += 1;
                if error.is_limit() {
                    self.connections.empty(now);
                }
                let wait = self.backoff.failed();
                self.dial_due = now + wait;
                (self.intake.tell)(Event::ConnectFailed { why: error.to_string(), retry_ms: millis(wait) });
                return Ok(());
            }
        };
        self.was_connected = true;
        self.intake.counts.connections += 1;
        (self.intake.tell)(Event::Connected { to: self.stream.to_string() });
        let plan = Plan { symbols: &self.options.symbols, channels: &self.options.channels };
        // An hour before the venue would, and not all feeds of a house in the same minute.
        let hour = Duration::from_secs(3600);
        let age = self.options.age_max.or(self.limits.age.map(|age| age - hour - self.dice.up_to(hour / 4)));
        let link = Link {
            socket,
            outbox: self.wire.subscribe(plan).into(),
            messages: Bucket::new(self.limits.messages.0, self.limits.messages.1, now),
            opened: now,
            heard: now,
            spoke: false,
            pinged: false,
            renew_at: age.map(|age| now + age),
        };
        if self.lead.is_some() {
            self.join = Some(link);
            self.intake.merge.overlap();
            let latest = now + self.options.overlap_max.max(OVERLAP_MIN);
            self.overlap_ends = Some((now + OVERLAP_MIN, latest));
            return Ok(());
        }
        self.lead = Some(link);
        if self.options.channels.contains(&Channel::Depth) {
            let after = if self.wire.snapshots() == Snapshots::Fetched { BEGUN } else { SUBSCRIBED };
            for symbol in 0..self.options.symbols.len() {
                if !self.intake.merge.symbols[symbol].follower.book().is_valid() {
                    let asked_before = self.intake.asks[symbol].wanted;
                    self.intake.ask(symbol, now + after);
                    self.intake.asks[symbol].waits = !asked_before;
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, side: Side, heard: Result<Heard, Ended>) -> Result<(), FeedError> {
        let now = Instant::now();
        let link = match side {
            Side::Leading => &mut self.lead,
            Side::Joining => &mut self.join,
        };
        if let Some(link) = link {
            link.heard = now;
            link.pinged = false;
            link.spoke |= matches!(heard, Ok(Heard::Text(_)));
        }
        match heard {
            Ok(Heard::Text(text)) => self.intake.text(&text, side, now)?,
            Ok(Heard::Binary(bytes)) => self.intake.binary(&bytes, now)?,
            Ok(Heard::Beat) => {}
            Err(ended) => self.ended(side, &ended, now)?,
        }
        Ok(())
    }

    /// A connection ended, otherwise than by us.
    fn ended(&mut self, side: Side, how: &Ended, now: Instant) -> Result<(), FeedError> {
        self.intake.counts.disconnects += 1;
        let link = match side {
            Side::Leading => self.lead.take(),
            Side::Joining => self.join.take(),
        };
        let lived = link.map_or(Duration::ZERO, |link| now.saturating_duration_since(link.opened));
        if lived >= WORKED {
            self.backoff.worked();
        }
        let wait = self.backoff.failed();
        self.dial_due = now + wait;
        (self.intake.tell)(Event::Disconnected { why: how.to_string(), retry_ms: millis(wait) });
        self.overlap_ends = None;
        match (side, self.join.take()) {
            (Side::Leading, Some(join)) => {
                self.lead = Some(join);
                self.intake.merge.end_overlap();
                self.intake.counts.handovers += 1;
                (self.intake.tell)(Event::HandedOver);
            }
            (Side::Leading, None) => {}
            (Side::Joining, _) => self.intake.merge.abandon(),
        }
        self.intake.release(now)?;
        Ok(())
    }

    /// The joining connection leads from now on.
    fn hand_over(&mut self, now: Instant) -> Result<(), FeedError> {
        self.overlap_ends = None;
        let Some(join) = self.join.take() else { return Ok(()) };
        if let Some(old) = self.lead.replace(join) {
            // Its goodbye is nobody's business any more.
            tokio::spawn(old.socket.close());
        }
        self.backoff.worked();
        self.intake.merge.end_overlap();
        self.intake.counts.handovers += 1;
        (self.intake.tell)(Event::HandedOver);
        self.intake.release(now)?;
        Ok(())
    }

    /// Asks for the next snapshot that is due. Gives when the next one is.
    fn ask(&mut self, now: Instant, fetching: &mut Option<(usize, Fetching)>) -> Option<Instant> {
        if fetching.is_some() {
            return None;
        }
        let Some(lead) = &mut self.lead else { return None };
        let asks = &self.intake.asks;
        let at = (0..self.intake.wanting.len()).min_by_key(|at| asks[self.intake.wanting[*at]].due)?;
        let symbol = self.intake.wanting[at];
        let due = asks[symbol].due;
        if now < due {
            return Some(due);
        }
        let name = &self.options.symbols[symbol];
        if self.wire.snapshots() == Snapshots::Subscribed {
            self.intake.wanting.swap_remove(at);
            self.intake.asks[symbol].wanted = false;
            if !self.intake.merge.symbols[symbol].follower.book().is_valid() {
                lead.outbox.extend(self.wire.resubscribe(name));
                // Should that bring none either.
                let due = now + SUBSCRIBED + self.intake.asks[symbol].backoff.failed();
                self.intake.ask(symbol, due);
            }
            return Some(now);
        }
        if let Err(wait) = self.weight.take(self.limits.snapshot_weight, now) {
            return Some(now + wait);
        }
        self.intake.wanting.swap_remove(at);
        self.intake.asks[symbol].wanted = false;
        let (dialer, from, path) = (self.dialer.clone(), self.rest.clone(), self.wire.snapshot_path(name));
        let len_max = self.options.message_len_max;
        *fetching = Some((symbol, Box::pin(async move { rest::get(&dialer, &from, &path, len_max).await })));
        None
    }

    fn fetched(&mut self, symbol: usize, fetched: Result<hyper::body::Bytes, RestError>) -> Result<(), FeedError> {
        let now = Instant::now();
        let (why, retry_after) = match fetched {
            Ok(body) => match self.intake.snapshot(symbol, &body, now)? {
                Ok(()) => {
                    // If a jump is still unconfirmed, the venue is not asked again at once.
                    self.intake.asks[symbol].due = now + CONFIRM_EVERY;
                    return Ok(());
                }
                Err(why) => (why, None),
            },
            Err(error) if error.is_final() && !self.intake.asks[symbol].had => {
                let symbol = self.options.symbols[symbol].clone();
                return Err(FeedError::Snapshot { symbol, why: error.to_string() });
            }
            Err(error) => {
                let retry_after = match &error {
                    RestError::Limited { retry_after, .. } => {
                        self.weight.empty(now);
                        *retry_after
                    }
                    _ => None,
                };
                (error.to_string(), retry_after)
            }
        };
        self.intake.counts.snapshot_failures += 1;
        let wait = self.intake.asks[symbol].backoff.failed().max(retry_after.unwrap_or_default());
        let name = self.options.symbols[symbol].clone();
        (self.intake.tell)(Event::SnapshotFailed { symbol: name, why, retry_ms: millis(wait) });
        self.intake.ask(symbol, now + wait);
        Ok(())
    }
}
