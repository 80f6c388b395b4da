//! Which trades and quotes were there before, by their ids.
//!
//! When a symbol is renamed the venue may go on numbering or begin anew. An id that was there under the older name is then no
//! repetition, because the new name had none yet; and of what still comes under an older name nothing can be told.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Repeats;

/// So many ids are remembered where they come in any order: some minutes of the busiest stream there is.
pub const RECENT_MAX: usize = 4096;

/// The ids of one symbol's trades, or of its quotes, that were met so far. See [`Repeats`].
///
/// ```
/// use chronicle_etl::venue::{Met, Repeats};
///
/// let mut trades = Met::default();
/// assert!([7, 3, 0, 0].map(|id| trades.is_new(Repeats::Recent, id, 0)) == [true; 4]);
/// assert!(!trades.is_new(Repeats::Recent, 7, 0));
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Met {
    /// Under which of the symbol's names in turn they came.
    turn: u32,
    /// The highest, where they only go up.
    last: Option<u64>,
    /// The last ones, the oldest first, where they come in any order.
    recent: VecDeque<u64>,
    /// The same; made anew after reading a checkpoint.
    #[serde(skip)]
    set: HashSet<u64>,
}

impl Met {
    /// Whether a record with this id, under this of the symbol's names in turn, was not there before; from now on it was.
    pub fn is_new(&mut self, rule: Repeats, id: u64, turn: u32) -> bool {
        if rule == Repeats::Unknown || turn < self.turn {
            return true;
        }
        if turn > self.turn {
            *self = Self { turn, ..Self::default() };
        }
        match rule {
            Repeats::Unknown => true,
            Repeats::NotAbove => {
                let new = self.last.is_none_or(|last| last < id);
                if new {
                    self.last = Some(id);
                }
                new
            }
            Repeats::Recent => id == 0 || self.is_not_recent(id),
        }
    }

    /// Forgets all: the venue numbers anew.
    pub fn forget(&mut self) {
        *self = Self { turn: self.turn, ..Self::default() };
    }

    fn is_not_recent(&mut self, id: u64) -> bool {
        if self.set.len() != self.recent.len() {
            self.set = self.recent.iter().copied().collect();
        }
        if !self.set.insert(id) {
            return false;
        }
        if self.recent.len() == RECENT_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.set.remove(&oldest);
        }
        self.recent.push_back(id);
        true
    }
}

/// A number for an id that is a text, to remember it by: the first 8 bytes of its SHA-256, big-endian; of none 0.
#[must_use]
pub fn id_of_text(id: &str) -> u64 {
    if id.is_empty() {
        return 0;
    }
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    digest[..8].iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_differ() {
        let ids = [5, 9, 7, 9, 5, 0, 0];
        let told = |rule| {
            let mut met = Met::default();
            ids.map(|id| met.is_new(rule, id, 0))
        };
        assert_eq!(told(Repeats::NotAbove), [true, true, false, false, false, false, false]);
        assert_eq!(told(Repeats::Recent), [true, true, true, false, false, true, true]);
        assert_eq!(told(Repeats::Unknown), [true; 7]);
    }

    #[test]
    fn a_new_name_has_none_yet_and_of_an_older_one_nothing_is_told() {
        for rule in [Repeats::NotAbove, Repeats::Recent] {
            let mut met = Met::default();
            let told = [(9, 0), (9, 0), (9, 1), (9, 0), (9, 1), (10, 1)].map(|(id, turn)| met.is_new(rule, id, turn));
            assert_eq!(told, [true, false, true, true, false, true]);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_survives_a_checkpoint() {
        let mut met = Met::default();
        for id in 1..=RECENT_MAX as u64 + 1 {
            assert!(met.is_new(Repeats::Recent, id, 0));
        }
        assert_eq!((met.recent.len(), met.set.len()), (RECENT_MAX, RECENT_MAX));
        let bytes = postcard::to_allocvec(&met).unwrap();
        let mut again: Met = postcard::from_bytes(&bytes).unwrap();
        assert!(!again.is_new(Repeats::Recent, 2, 0), "the oldest that is remembered");
        assert!(again.is_new(Repeats::Recent, 1, 0), "that one was forgotten");
        assert!(again.is_new(Repeats::Recent, 2, 0), "and now this one is");
    }
}
