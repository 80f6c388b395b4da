//! What stands although the segment that first said it goes: the newest vote, the application's newest meta values, and
//! truncations that still void frames. A segment's first batch repeats them, so that older segments can be recycled.

use super::layout::{ENTRY_HEADER_LEN, EntryHeader, Kind};
use crate::{Damage, Fault};
use zerocopy::FromBytes;

/// Data frames with `after < seq < at` are void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Newest frame that stays.
    pub after: u64,
    /// Number that the next data frame had when this was said.
    pub at: u64,
}

impl Truncation {
    /// What a truncate frame with this payload and seq says; `None` if no writer makes such a one.
    #[must_use]
    pub fn parse(payload: &[u8], seq: u64) -> Option<Truncation> {
        let after = u64::from_le_bytes(*payload.first_chunk()?);
        (after < seq).then_some(Truncation { after, at: seq })
    }

    /// Whether it voids the data frame `seq`.
    #[must_use]
    pub fn voids(&self, seq: u64) -> bool {
        self.after < seq && seq < self.at
    }

    /// This and an older one as one range, where they touch; `None` if frames between the two stand.
    ///
    /// A list of truncations stays short, sorted and disjoint like this:
    ///
    /// ```
    /// use chronicle_core::wal::Truncation;
    ///
    /// fn push(list: &mut Vec<Truncation>, mut new: Truncation) {
    ///     while let Some(merged) = list.last().and_then(|older| new.merge(older)) {
    ///         list.pop();
    ///         new = merged;
    ///     }
    ///     list.push(new);
    /// }
    ///
    /// let mut list = Vec::new();
    /// push(&mut list, Truncation { after: 10, at: 15 });
    /// push(&mut list, Truncation { after: 20, at: 25 });
    /// push(&mut list, Truncation { after: 12, at: 30 });
    /// assert_eq!(list, [Truncation { after: 10, at: 30 }]);
    /// ```
    #[must_use]
    pub fn merge(&self, older: &Truncation) -> Option<Truncation> {
        (self.after < older.at).then_some(Truncation { after: self.after.min(older.after), at: self.at })
    }
}

/// What a log's standing values are where a machine begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carry<'a> {
    /// Payload of the newest vote frame.
    pub vote: Option<&'a [u8]>,
    /// The application's newest meta bytes.
    pub meta: Option<&'a [u8]>,
    /// Truncations that void frames which still exist: sorted, disjoint; see [`Truncation::merge`].
    pub truncations: &'a [Truncation],
}

impl Carry<'_> {
    /// Bytes that it takes in a meta frame: what [`super::Config::carry_len`] must have room for.
    #[must_use]
    pub fn len(&self) -> usize {
        let entry = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| entry_len(bytes.len()));
        entry(self.vote) + entry(self.meta) + self.truncations.len() * super::layout::TRUNCATION_LEN
    }

    /// Whether nothing stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes that an entry with so many bytes takes.
pub(super) const fn entry_len(len: usize) -> usize {
    ENTRY_HEADER_LEN + len.next_multiple_of(4)
}

/// One entry of a meta frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// A truncation that still voids frames.
    Truncation(Truncation),
    /// The newest vote.
    Vote(&'a [u8]),
    /// The application's newest meta bytes.
    Meta(&'a [u8]),
}

/// The entries of a meta frame's payload, which stands at `offset` of its segment. Ends after the first damage.
#[must_use]
pub fn entries(payload: &[u8], offset: u64) -> Entries<'_> {
    Entries { rest: payload, offset }
}

/// See [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Entries<'a> {
    fn step(&mut self) -> Result<Entry<'a>, Damage> {
        let offset = self.offset;
        let field = |at: usize, name, found| Damage::at(offset.saturating_add(at as u64), Fault::Field { name, found });
        let left = self.rest.len() as u64;
        let Ok((head, rest)) = EntryHeader::read_from_prefix(self.rest) else {
            let fault = Fault::Short { needed: ENTRY_HEADER_LEN as u64, found: left };
            return Err(Damage::at(offset, fault));
        };
        let len = head.len.get() as usize;
        let claimed = ENTRY_HEADER_LEN as u64 + u64::from(head.len.get()).next_multiple_of(4);
        if claimed > left {
            return Err(Damage::at(offset, Fault::Length { claimed, left }));
        }
        if let Some(found) = head.reserved.iter().find(|byte| **byte != 0) {
            return Err(field(1, "reserved", (*found).into()));
        }
        let (bytes, rest) = rest.split_at(len);
        let (padding, rest) = rest.split_at(len.next_multiple_of(4) - len);
        if let Some(found) = padding.iter().find(|byte| **byte != 0) {
            let at = offset.saturating_add((ENTRY_HEADER_LEN + len) as u64);
            return Err(Damage::at(at, Fault::Padding { found: *found }));
        }
        let entry = match Kind::from_flags(head.kind) {
            Some(Kind::Vote) => Entry::Vote(bytes),
            Some(Kind::Meta) => Entry::Meta(bytes),
            Some(Kind::Truncate) => {
                let (Some(after), Some(at), 16) = (bytes.first_chunk(), bytes.last_chunk(), len) else {
                    return Err(field(4, "len", len as u64));
                };
                let (after, at) = (u64::from_le_bytes(*after), u64::from_le_bytes(*at));
                if after >= at {
                    return Err(field(ENTRY_HEADER_LEN, "after", after));
                }
                Entry::Truncation(Truncation { after, at })
            }
            _ => return Err(field(0, "kind", head.kind.into())),
        };
        self.rest = rest;
        self.offset = offset.saturating_add(claimed);
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.rest = &[];
        }
        Some(step)
    }
}

impl core::iter::FusedIterator for Entries<'_> {}
