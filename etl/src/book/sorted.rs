//! Levels in key order, in chunks: what of a side stands outside of its window, and the whole of a small one.
//!
//! Inserting moves what is behind it in one chunk, at most [`CHUNK`] levels; searching looks at the chunks' first keys, which
//! stand side by side, and then at one chunk.

use super::PriceQty;

/// Most levels in a chunk. Half of it is moved when one is full.
pub(super) const CHUNK: usize = 128;

/// A sorted map of levels. See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Sorted {
    /// First key of each chunk.
    firsts: Vec<i64>,
    /// None is empty.
    chunks: Vec<Vec<PriceQty>>,
    len: usize,
}

impl Sorted {
    /// Sets the quantity at a key, or removes it; says whether there was nothing to remove.
    #[inline]
    pub(super) fn set(&mut self, key: i64, qty: i64) -> bool {
        let at = self.firsts.partition_point(|first| *first <= key).saturating_sub(1);
        let Some(chunk) = self.chunks.get_mut(at) else {
            if qty != 0 {
                self.firsts.push(key);
                self.chunks.push(vec![(key, qty)]);
                self.len = 1;
            }
            return qty == 0;
        };
        match chunk.binary_search_by_key(&key, |level| level.0) {
            Ok(i) if qty != 0 => chunk[i].1 = qty,
            Ok(i) => {
                chunk.remove(i);
                self.len -= 1;
                match chunk.first() {
                    Some(first) => self.firsts[at] = first.0,
                    None => {
                        self.chunks.remove(at);
                        self.firsts.remove(at);
                    }
                }
            }
            Err(_) if qty == 0 => return true,
            Err(i) => {
                chunk.insert(i, (key, qty));
                self.firsts[at] = chunk[0].0;
                self.len += 1;
                if chunk.len() > CHUNK {
                    let upper = chunk.split_off(CHUNK / 2);
                    self.firsts.insert(at + 1, upper[0].0);
                    self.chunks.insert(at + 1, upper);
                }
            }
        }
        false
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn best(&self) -> Option<PriceQty> {
        self.chunks.last()?.last().copied()
    }

    /// The highest key first.
    pub(super) fn iter(&self) -> impl Iterator<Item = PriceQty> + '_ {
        self.chunks.iter().rev().flat_map(|chunk| chunk.iter().rev().copied())
    }
}

/// Of ascending levels.
impl FromIterator<PriceQty> for Sorted {
    fn from_iter<I: IntoIterator<Item = PriceQty>>(levels: I) -> Self {
        let mut this = Self::default();
        for level in levels {
            debug_assert!(this.best().is_none_or(|best| best.0 < level.0), "levels ascend");
            match this.chunks.last_mut() {
                // Room is left for those that will come between.
                Some(chunk) if chunk.len() < CHUNK / 2 => chunk.push(level),
                _ => {
                    this.firsts.push(level.0);
                    this.chunks.push(vec![level]);
                }
            }
            this.len += 1;
        }
        this
    }
}
