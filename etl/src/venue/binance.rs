//! Binance: spot, USD-M and COIN-M futures.
//!
//! ```text
//!                     spot                        futures
//! held by a snapshot  u <= L                      u < L
//! first one applied   U <= L + 1 <= u             U <= L <= u    (its pu is of no interest)
//! the next one        U = last u + 1              pu = last u    (U may jump: ids are shared by all symbols)
//! a duplicate         u <= last u                 u <= last u
//! missing ids         last u + 1 .. U - 1         (last u, pu]
//! ```
//!
//! Anything that is neither next nor a duplicate is a break, ids that overlap the last event included.
//!
//! A snapshot holds the best levels of each side, no more than were asked for; events of deeper ones come all the same, so that
//! removing a price that is not in the book is ordinary.

use super::{Follows, Joins, Repeats, Rules};
use crate::oddity::Oddity;

pub(super) const SPOT: Rules = Rules {
    venue: "binance-spot",
    joins: Joins::ById,
    covered: |snapshot, event| event.last <= snapshot,
    bridges: |snapshot, event| snapshot.checked_add(1).is_some_and(|next| event.first <= next && next <= event.last),
    follows: |last, event| {
        if event.last <= last {
            Follows::Old
        } else if event.first == last + 1 {
            Follows::Next
        } else {
            Follows::Break { missing_from: last + 1, missing_to: event.first.saturating_sub(1) }
        }
    },
    ordinary: BEYOND_THE_SNAPSHOT,
    trades: Repeats::NotAbove,
    quotes: Repeats::NotAbove,
};

pub(super) const USDM: Rules = Rules { venue: "binance-usdm", ..FUTURES };
pub(super) const COINM: Rules = Rules { venue: "binance-coinm", ..FUTURES };

const FUTURES: Rules = Rules {
    venue: "",
    joins: Joins::ById,
    covered: |snapshot, event| event.last < snapshot,
    bridges: |snapshot, event| event.first <= snapshot && snapshot <= event.last,
    follows: |last, event| {
        if event.last <= last {
            Follows::Old
        } else if event.prev == Some(last) {
            Follows::Next
        } else {
            // Without `pu` nobody can say what is missing up to U.
            let missing_to = event.prev.unwrap_or(event.first.saturating_sub(1));
            Follows::Break { missing_from: last + 1, missing_to }
        }
    },
    ordinary: BEYOND_THE_SNAPSHOT,
    trades: Repeats::NotAbove,
    quotes: Repeats::NotAbove,
};

const BEYOND_THE_SNAPSHOT: &[Oddity] = &[Oddity::UnknownRemoval];

#[cfg(test)]
mod tests {
    use super::super::Ids;
    use super::*;

    fn spot(first: u64, last: u64) -> Ids {
        Ids { first, last, prev: None }
    }

    fn futures(first: u64, last: u64, prev: u64) -> Ids {
        Ids { first, last, prev: Some(prev) }
    }

    #[test]
    fn bridges_of_the_recordings() {
        // The snapshot's L inside of the event, and just before it.
        assert!((SPOT.bridges)(50_093_239_218, spot(50_093_239_208, 50_093_239_224)));
        assert!((SPOT.bridges)(35_346_513_512, spot(35_346_513_513, 35_346_513_514)));
        assert!(!(SPOT.bridges)(35_346_513_511, spot(35_346_513_513, 35_346_513_514)));
        assert!((USDM.bridges)(5_123_107_852_948, futures(5_123_107_850_310, 5_123_107_853_551, 0)));
        assert!((COINM.bridges)(1_007_198_635_033, futures(1_007_198_635_026, 1_007_198_635_121, 0)));
        // Futures must contain L itself; spot must contain what comes after it.
        assert!(!(USDM.bridges)(10, futures(11, 12, 10)));
        assert!((SPOT.covered)(10, spot(9, 10)) && !(USDM.covered)(10, futures(9, 10, 8)));
    }

    #[test]
    fn the_next_one_a_duplicate_and_a_gap() {
        assert_eq!((USDM.follows)(100, futures(150, 160, 100)), Follows::Next);
        // A test of `pu != last u` alone would call this a gap.
        assert_eq!((USDM.follows)(100, futures(50, 60, 40)), Follows::Old);
        assert_eq!((USDM.follows)(100, futures(150, 160, 120)), Follows::Break { missing_from: 101, missing_to: 120 });
        assert_eq!((SPOT.follows)(100, spot(99, 104)), Follows::Break { missing_from: 101, missing_to: 98 });
        assert_eq!((USDM.follows)(100, spot(120, 130)), Follows::Break { missing_from: 101, missing_to: 119 });
    }

    #[test]
    fn ids_at_the_end_of_u64_do_not_overflow() {
        for rules in super::super::VENUES {
            for last in [0, 1, u64::MAX - 1, u64::MAX] {
                for ids in [spot(0, 0), spot(u64::MAX, u64::MAX), spot(u64::MAX, 0), futures(0, u64::MAX, u64::MAX)] {
                    let _ = ((rules.follows)(last, ids), (rules.bridges)(last, ids), (rules.covered)(last, ids));
                }
            }
        }
    }
}
