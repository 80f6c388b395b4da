//! Venues whose snapshots stand in the stream: Kraken, OKX, Coinbase, Hyperliquid, and every venue without a row.
//!
//! ```text
//!                     all but OKX                 OKX
//! a snapshot          replaces the book           replaces the book; the next delta names its id
//! the next one        whatever comes              its previous id is the last one (its own may be lower: numbering begins
//!                                                 anew), or there are no ids
//! a duplicate         cannot be told              ids of one that was before
//! a hole              a gap record of the feed    (last, previous]; or a gap record of the feed
//! ```
//!
//! Kraken and Coinbase number nothing. Their feed checks what can be checked (Kraken's checksums) and writes a gap record
//! where the book is not the venue's any more; without one, what follows follows. Hyperliquid sends whole books only.
//! Its trade ids are no order, and neither are those of venues without a row (Tardis, Databento), whose quotes have none
//! at all or share one.
//!
//! Kraken and OKX speak of so many levels a side, and remove some that they never named: ordinary. Coinbase speaks of
//! all: what it removes must be there.

use super::{Follows, Ids, Joins, Repeats, Rules};
use crate::oddity::Oddity;

pub(super) const KRAKEN: Rules = Rules { venue: "kraken", ..ASCENDING };
pub(super) const COINBASE: Rules = Rules { venue: "coinbase", ordinary: &[], ..ASCENDING };
pub(super) const OKX: Rules = Rules { venue: "okx", follows: follows_okx, ..ASCENDING };
pub(super) const HYPERLIQUID: Rules = Rules { venue: "hyperliquid", ..UNNUMBERED };

/// No ids of books, but those of trades only go up.
const ASCENDING: Rules = Rules { trades: Repeats::NotAbove, quotes: Repeats::NotAbove, ..UNNUMBERED };

/// A venue of which nothing is known but that its snapshots stand in the stream.
pub(super) const UNNUMBERED: Rules = Rules {
    venue: "",
    joins: Joins::InStream,
    covered: |_, _| false,
    bridges: |_, _| true,
    follows: |_, _| Follows::Next,
    ordinary: &[Oddity::UnknownRemoval],
    trades: Repeats::Recent,
    quotes: Repeats::Unknown,
};

fn follows_okx(last: u64, event: Ids) -> Follows {
    match event.prev {
        // Sent without ids, as before 2023.
        None => Follows::Next,
        Some(prev) if prev == last => Follows::Next,
        Some(prev) if event.last <= last && prev < last => Follows::Old,
        Some(prev) => Follows::Break { missing_from: last.saturating_add(1), missing_to: prev },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn okx(last: u64, prev: Option<u64>) -> Ids {
        Ids { first: last, last, prev }
    }

    #[test]
    fn okx_follows_by_the_previous_id() {
        assert_eq!((OKX.follows)(10, okx(15, Some(10))), Follows::Next);
        assert_eq!((OKX.follows)(10, okx(10, Some(10))), Follows::Next, "nothing changed for a while");
        assert_eq!((OKX.follows)(10, okx(3, Some(10))), Follows::Next, "numbering begins anew");
        assert_eq!((OKX.follows)(10, okx(10, Some(8))), Follows::Old);
        assert_eq!((OKX.follows)(10, okx(15, Some(12))), Follows::Break { missing_from: 11, missing_to: 12 });
        assert_eq!((OKX.follows)(0, okx(0, None)), Follows::Next, "no ids at all");
    }
}
