//! The last id of a symbol's records of one kind, over its names.
//!
//! When a symbol is renamed the venue may go on numbering or begin anew. An id that is not above the last one is then no
//! duplicate, because the new name had none yet; and of what still comes under an older name nothing can be told.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastId {
    id: Option<u64>,
    /// Under which of the symbol's names in turn it came.
    turn: u32,
}

impl LastId {
    /// Whether an id is new; then it is the last one.
    pub(super) fn is_new(&mut self, id: u64, turn: u32) -> bool {
        if turn < self.turn {
            return true;
        }
        let is_new = turn > self.turn || self.id.is_none_or(|last| last < id);
        if is_new {
            *self = Self { id: Some(id), turn };
        }
        is_new
    }

    pub(super) fn forget(&mut self) {
        self.id = None;
    }
}
