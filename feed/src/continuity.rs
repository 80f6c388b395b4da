//! What a symbol's records say about what is missing: which delta is next, which was there before, where a hole is, and
//! when a snapshot and the deltas around it are one book.
//!
//! ```text
//!            snapshot whose delta waits already              ids missing
//!   Blind ─────────────────────────────────────▶ Valid ──────────────────▶ Blind
//!     │                                            ▲
//!     └── snapshot ahead of the deltas ─▶ Pending ─┘ the delta that joins it comes
//! ```
//!
//! A [`Follower`] keeps no records and no book, only ids: give it every record of one symbol in the order of arrival, from
//! however many connections, and it says a [`Verdict`] on each. The rules are those by which the refinery makes books
//! ([`chronicle_etl::venue`]), so what is called whole here is whole there.
//!
//! ```
//! use chronicle_feed::{Venue, continuity::{Bridge, Verdict}};
//! use chronicle_etl::venue::Ids;
//!
//! let mut book = Bridge::new(Venue::BinanceSpot);
//! let event = |first, last| Ids { first, last, prev: None };
//! assert_eq!(book.delta(event(95, 99)), Verdict::Waits);
//! assert_eq!(book.delta(event(100, 103)), Verdict::Waits);
//! assert_eq!(book.snapshot(101), Verdict::Joined); // 99 <= 101: in it already; 100 <= 102 <= 103: joined
//! assert_eq!(book.delta(event(104, 104)), Verdict::Next);
//! assert_eq!(book.delta(event(104, 104)), Verdict::Old); // the other connection's copy
//! assert_eq!(book.delta(event(108, 109)), Verdict::Gap { missing_from: 105, missing_to: 107 });
//! assert!(book.needs_snapshot());
//! ```
//!
//! **Ids that go back.** Ids only go up, so one delta that claims a last id far ahead makes all that follow it look old, and
//! so does a venue that numbers anew. Two things give it away: a delta that ends inside of the last one, which no copy of an
//! earlier one can do, and [`OLD_RUN_MAX`] old ones in a row. Then it is [`Verdict::Back`]: what was seen is forgotten, a
//! snapshot is needed. Of the two mistakes this is the cheap one: it costs a snapshot, the other the book.
//!
//! **Duplicates.** [`Verdict::Old`] is how two connections that overlap become one stream: the venue's ids decide. Venues
//! that number nothing ([`Bridge::tells_duplicates`] is false) cannot be overlapped: there the new connection's snapshot
//! replaces the old one's book, and messages of the old connection behind it must not be given in.
//!
//! What this module never does: it fetches nothing, waits for nothing, repairs nothing, and drops no record: that is for
//! the caller to decide by the verdict.

use std::collections::VecDeque;

use chronicle_etl::refinery::WAITING_MAX;
use chronicle_etl::venue::{Follows, Ids, Joins, Met, Rules, rules};
use chronicle_protocol::Record;

use crate::venue::Venue;

/// So many old deltas in a row are no copies any more: at ten a second, 2 s of them. Our choice; a connection that lags so
/// far behind the one before it costs a snapshot that was not needed, and nothing else.
pub const OLD_RUN_MAX: u32 = 20;

/// What a record is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on where the last one ended; of a book's delta: the book is valid with it.
    Next,
    /// It was there before, or is older than what was: a duplicate. Not a gap.
    Old,
    /// A delta without a book under it: a snapshot may yet be joined to it.
    Waits,
    /// A snapshot without the delta that it is joined to: that one may yet come.
    Pending,
    /// Snapshot and deltas are one from here on: the book is valid.
    Joined,
    /// The snapshot is older than the deltas reach, or a delta behind it does not join it: ask for a newer one.
    Useless,
    /// Ids are missing before this delta: the book is not valid, ask for a snapshot.
    Gap {
        /// First missing id.
        missing_from: u64,
        /// Last missing id; before `missing_from` if the venue's ids contradict each other instead.
        missing_to: u64,
    },
    /// Ids go back for good: this delta is the first one of those that count from here on. The book is not valid, ask for
    /// a snapshot.
    Back {
        /// Last id that was seen before.
        seen: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Blind,
    /// With the last id of the snapshot.
    Pending(u64),
    Valid,
}

/// The ids of one symbol's book.
#[derive(Clone, Debug)]
pub struct Bridge {
    rules: &'static Rules,
    state: State,
    /// Last id of the last delta that was new.
    seen: Option<u64>,
    /// Its first id.
    seen_first: u64,
    /// Old deltas since then.
    old_run: u32,
    /// Deltas that a snapshot may be joined to; they follow each other without a break.
    waiting: VecDeque<Ids>,
}

impl Bridge {
    /// A book of which nothing is known.
    #[must_use]
    pub fn new(venue: Venue) -> Self {
        let rules = rules(venue.name());
        Self { rules, state: State::Blind, seen: None, seen_first: 0, old_run: 0, waiting: VecDeque::new() }
    }

    /// The book is whole up to the last record.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.state == State::Valid
    }

    /// Nothing can be made of what comes until there is a snapshot.
    #[must_use]
    pub fn needs_snapshot(&self) -> bool {
        self.state == State::Blind
    }

    /// Whether the venue asks for its snapshots to be fetched beside the stream; else they come in it.
    #[must_use]
    pub fn fetches_snapshots(&self) -> bool {
        self.rules.joins == Joins::ById
    }

    /// Whether duplicates of deltas can be told by the venue's ids.
    #[must_use]
    pub fn tells_duplicates(&self) -> bool {
        self.rules.joins == Joins::ById
    }

    /// Last id seen.
    #[must_use]
    pub fn last_id(&self) -> Option<u64> {
        self.seen
    }

    /// Something other than an id showed that the book is wrong (a checksum, a lost connection without an overlap):
    /// a snapshot is needed.
    pub fn lost(&mut self) {
        self.state = State::Blind;
        self.waiting.clear();
    }

    /// A delta came.
    pub fn delta(&mut self, ids: Ids) -> Verdict {
        let follows = self.seen.map_or(Follows::Next, |seen| (self.rules.follows)(seen, ids));
        let gap = match follows {
            Follows::Old => match self.goes_back(ids) {
                false => return Verdict::Old,
                true => return self.go_back(ids),
            },
            Follows::Next => None,
            Follows::Break { missing_from, missing_to } => {
                // No snapshot can be carried over a hole.
                self.waiting.clear();
                if self.state == State::Valid {
                    self.state = State::Blind;
                }
                Some(Verdict::Gap { missing_from, missing_to })
            }
        };
        self.saw(ids);
        match self.state {
            State::Valid => return Verdict::Next,
            State::Pending(last) if (self.rules.covered)(last, ids) => return gap.unwrap_or(Verdict::Waits),
            State::Pending(last) if (self.rules.bridges)(last, ids) => {
                self.state = State::Valid;
                return Verdict::Joined;
            }
            State::Pending(_) => self.state = State::Blind,
            State::Blind if self.rules.joins == Joins::InStream => return gap.unwrap_or(Verdict::Waits),
            State::Blind => {
                self.wait(ids);
                return gap.unwrap_or(Verdict::Waits);
            }
        }
        self.wait(ids);
        gap.unwrap_or(Verdict::Useless)
    }

    fn saw(&mut self, ids: Ids) {
        (self.seen, self.seen_first, self.old_run) = (Some(ids.last), ids.first, 0);
    }

    /// Whether an old delta cannot be a copy of an earlier one.
    fn goes_back(&mut self, ids: Ids) -> bool {
        if self.rules.joins != Joins::ById || ids.first > ids.last {
            return false;
        }
        self.old_run = self.old_run.saturating_add(1);
        // Earlier ones end before the last one begins, and a copy of that ends where it ends.
        let is_inside = self.seen.is_some_and(|seen| self.seen_first <= ids.last && ids.last < seen);
        is_inside || self.old_run >= OLD_RUN_MAX
    }

    #[cold]
    fn go_back(&mut self, ids: Ids) -> Verdict {
        let seen = self.seen.unwrap_or(0);
        self.lost();
        self.saw(ids);
        self.wait(ids);
        Verdict::Back { seen }
    }

    fn wait(&mut self, ids: Ids) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(ids);
    }

    /// A snapshot came, whose last id is this.
    pub fn snapshot(&mut self, last_id: u64) -> Verdict {
        if self.rules.joins == Joins::InStream {
            self.waiting.clear();
            self.state = State::Valid;
            (self.seen, self.seen_first) = (Some(last_id), last_id);
            return Verdict::Joined;
        }
        match self.state {
            State::Valid => return Verdict::Old,
            State::Pending(pending) if last_id <= pending => return Verdict::Old,
            State::Pending(_) | State::Blind => {}
        }
        while let Some(ids) = self.waiting.front() {
            if (self.rules.covered)(last_id, *ids) {
                self.waiting.pop_front();
            } else if (self.rules.bridges)(last_id, *ids) {
                self.waiting.clear();
                self.state = State::Valid;
                return Verdict::Joined;
            } else {
                self.state = State::Blind;
                return Verdict::Useless;
            }
        }
        self.state = State::Pending(last_id);
        Verdict::Pending
    }
}

/// All that is followed of one symbol.
#[derive(Clone, Debug)]
pub struct Follower {
    book: Bridge,
    trades: Met,
    quotes: Met,
}

impl Follower {
    /// A symbol of which nothing is known.
    #[must_use]
    pub fn new(venue: Venue) -> Self {
        Self { book: Bridge::new(venue), trades: Met::default(), quotes: Met::default() }
    }

    /// The book's ids.
    #[must_use]
    pub fn book(&self) -> &Bridge {
        &self.book
    }

    /// See [`Bridge::lost`].
    pub fn book_lost(&mut self) {
        self.book.lost();
    }

    /// A record of this symbol came. Records that are no venue's event are [`Verdict::Next`].
    pub fn see(&mut self, record: &Record<'_>) -> Verdict {
        let rules = self.book.rules;
        let verdict = |is_new: bool| if is_new { Verdict::Next } else { Verdict::Old };
        match record {
            Record::BookDelta(r) => self.book.delta(Ids { first: r.first_id, last: r.last_id, prev: r.prev_id }),
            Record::BookSnapshot(r) => self.book.snapshot(r.last_id),
            Record::Trade(r) => verdict(self.trades.is_new(rules.trades, r.trade_id, 0)),
            Record::Quote(r) => verdict(self.quotes.is_new(rules.quotes, r.update_id, 0)),
            // The rest has no ids, or no live feed gives it.
            _ => Verdict::Next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(first: u64, last: u64) -> Ids {
        Ids { first, last, prev: None }
    }

    fn futures(first: u64, last: u64, prev: u64) -> Ids {
        Ids { first, last, prev: Some(prev) }
    }

    #[test]
    fn a_snapshot_may_come_before_between_and_after() {
        let mut ahead = Bridge::new(Venue::BinanceSpot);
        assert_eq!(ahead.snapshot(10), Verdict::Pending);
        assert!(!ahead.is_valid() && !ahead.needs_snapshot());
        assert_eq!(ahead.delta(ids(9, 10)), Verdict::Waits);
        assert_eq!(ahead.snapshot(9), Verdict::Old);
        assert_eq!(ahead.delta(ids(11, 12)), Verdict::Joined);
        assert_eq!(ahead.snapshot(50), Verdict::Old, "a valid book needs none");
        assert_eq!(ahead.delta(ids(13, 13)), Verdict::Next);

        let mut behind = Bridge::new(Venue::BinanceSpot);
        assert_eq!(behind.delta(ids(11, 12)), Verdict::Waits);
        assert_eq!(behind.snapshot(9), Verdict::Useless, "10 never came");
        assert!(behind.needs_snapshot());
        assert_eq!(behind.snapshot(12), Verdict::Pending, "all of it is in the snapshot");
        assert_eq!(behind.delta(ids(13, 14)), Verdict::Joined);
    }

    #[test]
    fn a_pending_snapshot_that_nothing_joins_is_let_go() {
        let mut book = Bridge::new(Venue::BinanceUsdm);
        assert_eq!(book.snapshot(10), Verdict::Pending);
        assert_eq!(book.delta(futures(12, 14, 11)), Verdict::Useless, "futures must contain 10 itself");
        assert!(book.needs_snapshot());
        assert_eq!(book.snapshot(13), Verdict::Joined);
        assert_eq!(book.delta(futures(20, 22, 14)), Verdict::Next);
        assert_eq!(book.delta(futures(30, 32, 25)), Verdict::Gap { missing_from: 23, missing_to: 25 });
        assert_eq!(book.delta(futures(33, 35, 32)), Verdict::Waits);
        assert_eq!(book.snapshot(31), Verdict::Joined);
        assert!(book.is_valid());
    }

    #[test]
    fn a_hole_before_the_delta_that_joins_is_none() {
        let mut book = Bridge::new(Venue::BinanceSpot);
        assert_eq!(book.delta(ids(1, 2)), Verdict::Waits);
        assert_eq!(book.snapshot(20), Verdict::Pending);
        assert_eq!(book.delta(ids(5, 6)), Verdict::Gap { missing_from: 3, missing_to: 4 });
        assert_eq!(book.delta(ids(19, 25)), Verdict::Joined, "what is missing is in the snapshot");
    }

    #[test]
    fn a_last_id_far_ahead_is_found_out_by_the_next_delta() {
        for venue in [Venue::BinanceSpot, Venue::BinanceUsdm] {
            let mut book = Bridge::new(venue);
            assert_eq!(book.delta(futures(1, 2, 0)), Verdict::Waits);
            assert_eq!(book.snapshot(1), Verdict::Joined);
            // It says that it ends at a million.
            assert_eq!(book.delta(futures(3, 1_000_004, 2)), Verdict::Next);
            assert_eq!(book.delta(futures(1, 2, 0)), Verdict::Old, "a copy from before");
            assert_eq!(book.delta(futures(3, 1_000_004, 2)), Verdict::Old, "a copy of itself");
            assert_eq!(book.delta(futures(5, 6, 4)), Verdict::Back { seen: 1_000_004 });
            assert!(book.needs_snapshot());
            assert_eq!(book.delta(futures(7, 8, 6)), Verdict::Waits);
            assert_eq!(book.snapshot(6), Verdict::Joined);
            assert_eq!(book.delta(futures(9, 9, 8)), Verdict::Next);
        }
    }

    #[test]
    fn a_venue_that_numbers_anew_is_followed() {
        let mut book = Bridge::new(Venue::BinanceSpot);
        assert_eq!(book.delta(ids(5000, 5001)), Verdict::Waits);
        assert_eq!(book.snapshot(5000), Verdict::Joined);
        for id in 1..u64::from(OLD_RUN_MAX) {
            assert_eq!(book.delta(ids(id, id)), Verdict::Old);
        }
        let id = u64::from(OLD_RUN_MAX);
        assert_eq!(book.delta(ids(id, id)), Verdict::Back { seen: 5001 });
        assert_eq!(book.snapshot(id - 1), Verdict::Joined);
        assert_eq!(book.delta(ids(id + 1, id + 1)), Verdict::Next);
        // Copies between new ones never add up.
        for id in id + 2..id + 200 {
            assert_eq!(book.delta(ids(id, id)), Verdict::Next);
            assert_eq!(book.delta(ids(id - 1, id - 1)), Verdict::Old);
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut book = Bridge::new(Venue::BinanceSpot);
        for id in 1..=2 * WAITING_MAX as u64 {
            assert_eq!(book.delta(ids(id, id)), Verdict::Waits);
        }
        assert_eq!(book.waiting.len(), WAITING_MAX);
        assert_eq!(book.snapshot(5), Verdict::Useless, "those that it could be joined to are gone");
        assert_eq!(book.snapshot(WAITING_MAX as u64 + 7), Verdict::Joined);
    }

    #[test]
    fn lost_is_lost_until_a_snapshot() {
        let mut book = Bridge::new(Venue::BinanceSpot);
        assert_eq!(book.delta(ids(1, 2)), Verdict::Waits);
        assert_eq!(book.snapshot(1), Verdict::Joined);
        book.lost();
        assert_eq!(book.delta(ids(3, 3)), Verdict::Waits);
        assert_eq!(book.snapshot(2), Verdict::Joined);
    }
}
