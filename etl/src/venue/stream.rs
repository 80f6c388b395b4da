//! Venues whose snapshots stand in the stream: Kraken, OKX, Coinbase.
//!
//! ```text
//!                     Kraken, Coinbase            OKX
//! a snapshot          replaces the book           replaces the book; the next delta names its id
//! the next one        whatever comes              its previous id is the last one (its own may be lower: numbering begins
//!                                                 anew), or there are no ids
//! a duplicate         cannot be told              ids of one that was before
//! a hole              a gap record of the feed    (last, previous]; or a gap record of the feed
//! ```
//!
//! Kraken and Coinbase number nothing. Their feed checks what can be checked (Kraken's checksums) and writes a gap record
//! where the book is not the venue's any more; without one, what follows follows.
//!
//! Kraken and OKX speak of so many levels a side, and remove some that they never named: ordinary. Coinbase speaks of
//! all: what it removes must be there.

use super::{Follows, Ids, Joins, Rules};
use crate::oddity::Oddity;

pub(super) const KRAKEN: Rules = Rules { venue: "kraken", ..UNNUMBERED };
pub(super) const COINBASE: Rules = Rules { venue: "coinbase", ordinary: &[], ..UNNUMBERED };
pub(super) const OKX: Rules = Rules { venue: "okx", follows: follows_okx, ..UNNUMBERED };

const UNNUMBERED: Rules = Rules {
    venue: "",
    joins: Joins::InStream,
    covered: |_, _| false,
    bridges: |_, _| true,
    follows: |_, _| Follows::Next,
    ordinary: &[Oddity::UnknownRemoval],
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
