//! What a venue's book says that a book should not: counted for each partition, never repaired, never a reason to leave
//! an event out.
//!
//! ```text
//! applied event ──▶ its levels    a removal of what is not there · a price twice in one side
//!               ──▶ its order     not there · there already · less of it left than is taken
//!               ──▶ its time      before that of an event applied earlier
//!               ──▶ the book now  best bid above best ask: crossed · equal to it: locked; and how long, by exchange time
//! old event     ──▶ its ids       they were missing until now: it is no duplicate, it came out of order
//! ```
//!
//! Whether a kind is a fault is the venue's to say: [`Rules::ordinary`](crate::venue::Rules::ordinary) names those that
//! its feed has by design. All others are *unexpected*, which is a reason to look, not to act.

use core::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

/// A kind of oddity. Names are as in `meta.json` and in reports; they only grow in number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oddity {
    /// Applied events after which the best bid was above the best ask.
    Crossed,
    /// Exchange time, in ns, from each such event to the next applied one.
    CrossedNs,
    /// Applied events after which the best bid was equal to the best ask.
    Locked,
    /// Exchange time, in ns, from each such event to the next applied one.
    LockedNs,
    /// Levels of applied events that removed a price which was not in the book.
    UnknownRemoval,
    /// Levels of applied events whose price had been in the same side of the same message before.
    RepeatedPrice,
    /// Applied deltas with an exchange time before that of one applied earlier.
    TimeBack,
    /// Deltas whose ids had been found missing before: late by order, and so among the duplicates, but none.
    OutOfOrder,
    /// Applied cancels and modifies of orders that were not in the book; a modify puts its order there.
    UnknownOrder,
    /// Applied adds of orders that were in the book, and modifies to its other side: their last word counts.
    RepeatedOrder,
    /// Applied cancels of more than was left of their order, which is gone then.
    OverCancel,
}

impl Oddity {
    /// All of them, in their order.
    pub const ALL: [Self; 11] = [
        Self::Crossed,
        Self::CrossedNs,
        Self::Locked,
        Self::LockedNs,
        Self::UnknownRemoval,
        Self::RepeatedPrice,
        Self::TimeBack,
        Self::OutOfOrder,
        Self::UnknownOrder,
        Self::RepeatedOrder,
        Self::OverCancel,
    ];

    /// Its name in files and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crossed => "crossed",
            Self::CrossedNs => "crossed_ns",
            Self::Locked => "locked",
            Self::LockedNs => "locked_ns",
            Self::UnknownRemoval => "unknown_removals",
            Self::RepeatedPrice => "repeated_prices",
            Self::TimeBack => "time_back",
            Self::OutOfOrder => "out_of_order",
            Self::UnknownOrder => "unknown_orders",
            Self::RepeatedOrder => "repeated_orders",
            Self::OverCancel => "over_cancels",
        }
    }

    /// Whether it is a time and not a number of events or levels.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::CrossedNs | Self::LockedNs)
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How often each [`Oddity`] was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "[u64; Oddity::ALL.len()]")]
pub struct Oddities([u64; Oddity::ALL.len()]);

impl Oddities {
    /// One kind's number.
    #[must_use]
    pub const fn get(&self, kind: Oddity) -> u64 {
        self.0[kind as usize]
    }

    /// Adds to one kind.
    #[inline]
    pub fn add(&mut self, kind: Oddity, number: u64) {
        let sum = &mut self.0[kind as usize];
        *sum = sum.saturating_add(number);
    }

    /// Adds one of a kind, if there was one.
    #[inline]
    pub fn note(&mut self, kind: Option<Oddity>) {
        if let Some(kind) = kind {
            self.add(kind, 1);
        }
    }

    /// Sum of two.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        for kind in Oddity::ALL {
            self.add(kind, other.get(kind));
        }
        self
    }

    /// Each kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Oddity, u64)> + '_ {
        Oddity::ALL.into_iter().map(|kind| (kind, self.get(kind)))
    }

    /// How many there were of kinds that are not ordinary; times are not counted.
    #[must_use]
    pub fn unexpected(&self, ordinary: &[Oddity]) -> u64 {
        let counted = self.iter().filter(|(kind, _)| !kind.is_time() && !ordinary.contains(kind));
        counted.fold(0, |sum, (_, number)| sum.saturating_add(number))
    }
}

impl From<[u64; Oddity::ALL.len()]> for Oddities {
    fn from(numbers: [u64; Oddity::ALL.len()]) -> Self {
        Self(numbers)
    }
}

/// By name where people read it, as bare numbers in a checkpoint.
impl Serialize for Oddities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(Oddity::ALL.len()))?;
        for (kind, number) in self.iter() {
            map.serialize_entry(kind.as_str(), &number)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_number() {
        let mut oddities = Oddities::default();
        for (number, kind) in (1..).zip(Oddity::ALL) {
            oddities.add(kind, number);
        }
        assert!(oddities.iter().map(|(_, number)| number).eq(1..=Oddity::ALL.len() as u64));
        assert_eq!(oddities.plus(oddities).get(Oddity::Locked), 6);
        let json = serde_json::to_value(oddities).unwrap();
        assert_eq!(json["unknown_removals"], 5);
        let bytes = postcard::to_stdvec(&oddities).unwrap();
        assert_eq!(postcard::from_bytes::<Oddities>(&bytes).unwrap(), oddities);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn what_is_not_ordinary_is_unexpected_but_times_are_no_numbers() {
        let mut oddities = Oddities::default();
        oddities.add(Oddity::UnknownRemoval, 7);
        oddities.add(Oddity::Crossed, 2);
        oddities.add(Oddity::CrossedNs, 1_000);
        assert_eq!((oddities.unexpected(&[]), oddities.unexpected(&[Oddity::UnknownRemoval])), (9, 2));
        oddities.add(Oddity::TimeBack, u64::MAX);
        assert_eq!(oddities.unexpected(&[]), u64::MAX, "no overflow");
    }
}
