//! One stream of records out of what one connection says, or two at a time.
//!
//! ```text
//! one connection     everything is kept as it came, duplicates included: the refinery counts them
//! two (an overlap)   of what both say one is kept. The new connection's records of a symbol and kind are held until the
//!                    old one has come as far as the first of them; from there on either may be first
//! a jump ahead       a delta whose ids leave a hole is held for a moment: the missing one may only be late
//!                      the missing one comes         both are kept, in order: no gap
//!                      another follows the jump      the hole is real: kept, a gap
//!                      the stream goes on below it   the ids were a lie: kept verbatim as malformed
//!                      nothing comes                 a snapshot decides; what it does not confirm is a lie
//! ```
//!
//! Why a lie must not be kept as a delta: ids only go up. One delta with an id near the end of `u64` would make everything
//! that follows a duplicate, in the refinery too, for ever.
//!
//! Never here: a socket, a clock that is read, a record dropped without being counted. What is held is bounded; beyond the
//! bound it is kept as it came.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use chronicle_etl::venue::{Follows, Ids, Joins, Rules, rules};
use chronicle_protocol::Record;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    continuity::{Follower, Verdict},
    venue::Venue,
};

/// How long a jump ahead waits for what is missing before a snapshot is asked.
pub(crate) const LATE_MAX: Duration = Duration::from_millis(500);
/// How long a jump that nothing contradicts waits for a snapshot to confirm it.
pub(crate) const UNCONFIRMED_MAX: Duration = Duration::from_secs(10);
/// So many jumps of one symbol are held.
const EARLY_MAX: usize = 32;
/// So many bytes of messages are held in all.
const HELD_LEN_MAX: usize = 32 << 20;

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that is followed.
    Leading,
    /// The one that takes over.
    Joining,
}

/// One record of a message that waits.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) text: Utf8Bytes,
    pub(crate) received_ns: u64,
    /// Which of the message's records.
    pub(crate) index: usize,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It goes into the stream.
    Keep(Verdict),
    /// The other connection has said it, or the other one is followed.
    Duplicate,
    /// It waits; [`Merge::hold`] must be given the message.
    Hold(Place),
}

/// Where something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A jump ahead, with its ids.
    Early(Ids),
    /// Of the joining connection, with its id.
    Join(Kind, u64),
}

/// What is released: a record of this symbol.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) symbol: usize,
    pub(crate) held: Held,
    pub(crate) how: How,
}

/// How a record that waited goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As if it had come now.
    Again,
    /// If it is news.
    IfNew,
    /// Whatever its ids are.
    AsItIs,
    /// Its ids were a lie.
    Lie,
}

/// What is numbered for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Book = 0,
    Trade = 1,
    Quote = 2,
}

/// A jump ahead.
#[derive(Debug)]
struct Early {
    ids: Ids,
    held: Held,
    since: Instant,
    /// The stream went on below it.
    contradicted: bool,
}

/// How far the joining connection has joined, of one symbol and kind.
#[derive(Debug, Default)]
struct Join {
    joined: bool,
    /// Id of the first that is held.
    first: u64,
    held: VecDeque<Held>,
}

/// One symbol.
#[derive(Debug)]
pub(crate) struct Symbol {
    pub(crate) name: Box<str>,
    pub(crate) follower: Follower,
    /// Last ids by [`Kind`].
    last: [Option<u64>; 3],
    early: VecDeque<Early>,
    joins: [Join; 3],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Merge {
    rules: &'static Rules,
    pub(crate) symbols: Vec<Symbol>,
    by_name: HashMap<Box<str>, usize>,
    overlapping: bool,
    held_len: usize,
    /// Jumps held, of all symbols.
    early_count: usize,
    ready: VecDeque<Released>,
}

fn kind_of(record: &Record<'_>) -> Option<(Kind, u64)> {
    Some(match record {
        Record::BookDelta(r) => (Kind::Book, r.last_id),
        Record::BookSnapshot(r) => (Kind::Book, r.last_id),
        Record::Trade(r) => (Kind::Trade, r.trade_id),
        Record::Quote(r) => (Kind::Quote, r.update_id),
        _ => return None,
    })
}

impl Merge {
    pub(crate) fn new(venue: Venue, symbols: &[String]) -> Self {
        let rules = rules(venue.name());
        let symbol = |name: &String| Symbol {
            name: name.as_str().into(),
            follower: Follower::new(venue),
            last: [None; 3],
            early: VecDeque::new(),
            joins: Default::default(),
        };
        Self {
            rules,
            symbols: symbols.iter().map(symbol).collect(),
            by_name: symbols.iter().enumerate().map(|(at, name)| (name.as_str().into(), at)).collect(),
            overlapping: false,
            held_len: 0,
            early_count: 0,
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn in_stream(&self) -> bool {
        self.rules.joins == Joins::InStream
    }

    /// What becomes of a record of this symbol that has come now.
    pub(crate) fn offer(&mut self, symbol: usize, record: &Record<'_>, from: Side) -> Offer {
        let Some((kind, id)) = kind_of(record) else {
            // Evidence of what one connection said is evidence; the other's word for it is not needed.
            return if from == Side::Leading { Offer::Keep(Verdict::Next) } else { Offer::Duplicate };
        };
        let in_stream = self.in_stream();
        let numbered = !in_stream || kind == Kind::Trade;
        let this = &mut self.symbols[symbol];
        if self.overlapping {
            let joins_now = match (numbered, record) {
                (true, _) => this.last[kind as usize].is_some_and(|last| id <= last),
                (false, Record::BookSnapshot(_)) => true,
                (false, _) => false,
            };
            // What is not numbered goes where its book goes.
            let join = &mut this.joins[if numbered { kind } else { Kind::Book } as usize];
            match (from, join.joined) {
                (Side::Joining, false) if joins_now => {
                    join.joined = true;
                    // Held ones are older than this one, which is known.
                    self.held_len -= join.held.drain(..).map(|held| held.text.len()).sum::<usize>();
                }
                (Side::Joining, false) if numbered => return Offer::Hold(Place::Join(kind, id)),
                (Side::Joining, false) => return Offer::Duplicate,
                (Side::Leading, true) if !numbered => return Offer::Duplicate,
                // Until something is joined, what the old connection says is the stream.
                (Side::Leading, false) => return self.keep_unless_early(symbol, record, kind, id),
                _ => {}
            }
            if numbered && joins_now {
                return Offer::Duplicate;
            }
        }
        self.keep_unless_early(symbol, record, kind, id)
    }

    fn keep_unless_early(&mut self, symbol: usize, record: &Record<'_>, kind: Kind, id: u64) -> Offer {
        if let Record::BookDelta(delta) = record {
            let ids = Ids { first: delta.first_id, last: delta.last_id, prev: delta.prev_id };
            let seen = self.symbols[symbol].follower.book().last_id();
            // The first one that is known follows nothing: another must follow it, or a snapshot reach it. Ids that
            // contradict each other instead of leaving a hole are no jump: nothing late could fill them.
            let is_jump = seen.is_none_or(|seen| match (self.rules.follows)(seen, ids) {
                Follows::Break { missing_from, missing_to } => missing_from <= missing_to,
                Follows::Next | Follows::Old => false,
            });
            if is_jump && !self.in_stream() {
                return Offer::Hold(Place::Early(ids));
            }
        }
        self.keep(symbol, record, kind, id)
    }

    /// What becomes of a record that waited.
    pub(crate) fn reoffer(&mut self, symbol: usize, record: &Record<'_>, how: How) -> Offer {
        let Some((kind, id)) = kind_of(record) else { return Offer::Keep(Verdict::Next) };
        match how {
            How::AsItIs | How::Lie => self.keep(symbol, record, kind, id),
            How::IfNew if self.symbols[symbol].last[kind as usize].is_some_and(|last| id <= last) => Offer::Duplicate,
            How::IfNew | How::Again => self.keep_unless_early(symbol, record, kind, id),
        }
    }

    /// A record goes into the stream.
    fn keep(&mut self, symbol: usize, record: &Record<'_>, kind: Kind, id: u64) -> Offer {
        let this = &mut self.symbols[symbol];
        let verdict = this.follower.see(record);
        if !matches!(record, Record::BookSnapshot(_)) || self.rules.joins == Joins::InStream {
            this.last[kind as usize] = Some(id);
        }
        if kind == Kind::Book && !this.early.is_empty() {
            self.after_delta(symbol);
        }
        if self.overlapping {
            self.join_if_reached(symbol, kind);
        }
        Offer::Keep(verdict)
    }

    /// Takes a message for a record that [`Merge::offer`] said to hold.
    pub(crate) fn hold(&mut self, symbol: usize, place: Place, held: Held, now: Instant) {
        self.held_len += held.text.len();
        let this = &mut self.symbols[symbol];
        match place {
            Place::Join(kind, id) => {
                let join = &mut this.joins[kind as usize];
                if join.held.is_empty() {
                    join.first = id;
                }
                join.held.push_back(held);
            }
            Place::Early(ids) => {
                let rules = self.rules;
                let follows = |one: Ids, other: Ids| (rules.follows)(one.last, other) == Follows::Next;
                let before = this.early.iter().find(|early| follows(early.ids, ids)).map(|early| early.ids);
                let behind = this.early.iter().find(|early| follows(ids, early.ids)).map(|early| early.ids);
                this.early.push_back(Early { ids, held, since: now, contradicted: false });
                self.early_count += 1;
                if before.is_some() || behind.is_some() {
                    // Two that follow each other are no lie; what is held beside them may be one.
                    let chain = [before, Some(ids), behind];
                    self.release_early(symbol, |early| chain.contains(&Some(early.ids)).then_some(How::AsItIs));
                } else if this.early.len() > EARLY_MAX {
                    self.release_early(symbol, |_| Some(How::AsItIs));
                }
            }
        }
        if self.held_len > HELD_LEN_MAX {
            self.release_all();
        }
    }

    /// The stream of a symbol's book went on: what waited for that goes on too.
    fn after_delta(&mut self, symbol: usize) {
        let Some(seen) = self.symbols[symbol].follower.book().last_id() else { return };
        let rules = self.rules;
        self.release_early(symbol, |early| {
            early.contradicted = true;
            match (rules.follows)(seen, early.ids) {
                Follows::Next | Follows::Old => Some(How::Again),
                Follows::Break { .. } => None,
            }
        });
    }

    fn release_early(&mut self, symbol: usize, mut how: impl FnMut(&mut Early) -> Option<How>) {
        let this = &mut self.symbols[symbol];
        // In the order of their ids, whatever the order in which they came.
        this.early.make_contiguous().sort_by_key(|early| early.ids.last);
        for _ in 0..this.early.len() {
            let Some(mut early) = this.early.pop_front() else { break };
            match how(&mut early) {
                None => this.early.push_back(early),
                Some(how) => {
                    self.held_len -= early.held.text.len();
                    self.early_count -= 1;
                    self.ready.push_back(Released { symbol, held: early.held, how });
                }
            }
        }
    }

    /// The leading connection may have come as far as the joining one began.
    fn join_if_reached(&mut self, symbol: usize, kind: Kind) {
        let this = &mut self.symbols[symbol];
        let (last, join) = (this.last[kind as usize], &mut this.joins[kind as usize]);
        if !join.held.is_empty() && last.is_some_and(|last| last >= join.first) {
            join.joined = true;
            self.release_join(symbol, kind);
        }
    }

    fn release_join(&mut self, symbol: usize, kind: Kind) {
        for held in std::mem::take(&mut self.symbols[symbol].joins[kind as usize].held) {
            self.held_len -= held.text.len();
            self.ready.push_back(Released { symbol, held, how: How::IfNew });
        }
    }

    /// The next record that no longer waits.
    pub(crate) fn released(&mut self) -> Option<Released> {
        self.ready.pop_front()
    }

    /// Two connections from now on.
    pub(crate) fn overlap(&mut self) {
        self.overlapping = true;
        for symbol in &mut self.symbols {
            symbol.joins = Default::default();
        }
    }

    /// The joining connection is gone: what it said and was not joined, the leading one says.
    pub(crate) fn abandon(&mut self) {
        for symbol in &mut self.symbols {
            for join in std::mem::take(&mut symbol.joins) {
                self.held_len -= join.held.iter().map(|held| held.text.len()).sum::<usize>();
            }
        }
        self.overlapping = false;
    }

    /// One connection from now on. What the one that joined has said is kept, as far as it is news.
    pub(crate) fn end_overlap(&mut self) {
        for symbol in 0..self.symbols.len() {
            for kind in [Kind::Book, Kind::Trade, Kind::Quote] {
                self.release_join(symbol, kind);
            }
        }
        self.overlapping = false;
    }

    /// Whether nothing of the joining connection waits any more.
    pub(crate) fn is_joined(&self) -> bool {
        self.symbols.iter().all(|symbol| symbol.joins.iter().all(|join| join.held.is_empty()))
    }

    fn release_all(&mut self) {
        for symbol in 0..self.symbols.len() {
            self.release_early(symbol, |_| Some(How::AsItIs));
        }
        if self.overlapping {
            self.end_overlap();
        }
    }

    /// A snapshot with this last id came: jumps that it reaches are real.
    pub(crate) fn confirm(&mut self, symbol: usize, snapshot: u64) {
        let rules = self.rules;
        self.release_early(symbol, |early| {
            let reached = (rules.covered)(snapshot, early.ids)
                || (rules.bridges)(snapshot, early.ids)
                || snapshot >= early.ids.first;
            reached.then_some(How::AsItIs)
        });
    }

    /// Looks at what has waited for long. Gives the symbols whose jumps only a snapshot can confirm, and the earliest time
    /// at which to look again.
    pub(crate) fn look(&mut self, now: Instant, mut unconfirmed: impl FnMut(usize)) -> Option<Instant> {
        let mut again: Option<Instant> = None;
        if self.early_count == 0 {
            return None;
        }
        for symbol in 0..self.symbols.len() {
            if self.symbols[symbol].early.is_empty() {
                continue;
            }
            self.release_early(symbol, |early| {
                let waited = now.saturating_duration_since(early.since);
                (waited >= UNCONFIRMED_MAX || early.contradicted && waited >= LATE_MAX).then_some(How::Lie)
            });
            for early in &self.symbols[symbol].early {
                let due = if now < early.since + LATE_MAX {
                    early.since + LATE_MAX
                } else {
                    unconfirmed(symbol);
                    early.since + UNCONFIRMED_MAX
                };
                again = Some(again.map_or(due, |again| again.min(due)));
            }
        }
        again
    }
}
