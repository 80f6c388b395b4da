//! One side of a book: most levels of most messages are near the best price, so those are reached by arithmetic and not by
//! searching.
//!
//! ```text
//! keys      far ◄────────────────────┤ window: one slot per step of the price ├────────► far
//!           0 …                      base                    best     base + slots·step      i64::MAX …
//!
//! set(key, qty):  slot = (key - base) / step, exactly          one multiplication, one rotation
//!                 slot < slots ?  window[slot] = qty           0 = no level
//!                              :  the sorted rest              searched, see `Sorted`
//! every so often: choose base, step and slots anew from the levels that there are
//! ```
//!
//! **Where the window lies is never a matter of what is right**, only of what is fast: a key is in the window exactly if
//! it stands on a slot, and everything else is in the rest, wherever the best price has gone. So it is chosen anew only when
//! about as many levels went to the rest as choosing costs: a price that jumps to and fro, or one that no tick size
//! explains, makes nothing slow but its own levels.
//!
//! **Division.** `step` is `odd · 2^k`. Multiplying by the inverse of `odd` modulo 2⁶⁴ and rotating right by `k` maps each
//! multiple of `step` to its quotient and all other numbers above `(2⁶⁴ - 1) / step`, which is kept above the number of
//! slots: one comparison tells keys that are outside, or between two slots, from those that are inside.
//!
//! **Memory** is at most [`SLOTS_PER_LEVEL`] slots of 8 bytes for a level, whatever the prices are: prices 0 and `i64::MAX` in one book
//! make no slots between them.

use serde::{Deserialize, Serialize};

use super::PriceQty;
use super::sorted::Sorted;

/// A side with fewer levels than this is searched: it is in few cache lines anyway.
const LEVELS_MIN: usize = 64;
/// Slots of a window are at most so many for each level of the side …
const SLOTS_PER_LEVEL: usize = 16;
/// … and so many in all: 128 KiB.
const SLOTS_MAX: usize = 1 << 14;
/// Slots of a window stand in words of so many.
const WORD: usize = 64;
/// So many of the best levels say nothing about where the others are: one that the venue never removed, or orders that cross
/// before an opening, may stand far ahead of them.
const OUTLIERS: usize = 16;
/// The step is the greatest that leads from each of so many levels behind those to the next.
const STEP_LEVELS: usize = 256;
/// One part of so many of a window lies ahead of these levels.
const AHEAD: usize = 4;

const _: () = assert!(LEVELS_MIN * SLOTS_PER_LEVEL / 2 >= WORD, "a window has whole words");
const _: () = assert!(LEVELS_MIN > OUTLIERS, "some levels are no outliers");

/// Levels of one side by key; the best is the highest. A bid's key is its price, an ask's the price's complement, which
/// turns the order round and, unlike minus, exists for every `i64`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<PriceQty>", into = "Vec<PriceQty>")]
pub(super) struct Side {
    window: Window,
    /// What stands on no slot of the window.
    rest: Sorted,
    /// Levels that went to the rest since the window was chosen.
    misses: usize,
}

impl Side {
    /// Sets the quantity at a key, or removes it; says whether there was nothing to remove.
    #[inline]
    pub(super) fn set(&mut self, key: i64, qty: i64) -> bool {
        match self.window.slot(key) {
            Some(slot) => self.window.set(slot, qty),
            None => self.set_rest(key, qty),
        }
    }

    #[inline(never)]
    fn set_rest(&mut self, key: i64, qty: i64) -> bool {
        let was_none = self.rest.set(key, qty);
        self.misses += 1;
        // What choosing costs: levels are put in their places, slots only zeroed.
        if self.misses > LEVELS_MIN + self.len() + self.window.slots.len() / 16 {
            self.choose();
        }
        was_none
    }

    #[cold]
    fn choose(&mut self) {
        self.misses = 0;
        let levels = Vec::from(std::mem::take(self));
        self.window = Window::over(&levels);
        let Self { window, rest, .. } = self;
        let rest_of = levels.into_iter().filter(|(key, qty)| match window.slot(*key) {
            Some(slot) => {
                window.set(slot, *qty);
                false
            }
            None => true,
        });
        *rest = rest_of.collect();
    }

    pub(super) fn len(&self) -> usize {
        self.window.count + self.rest.len()
    }

    #[inline]
    pub(super) fn best(&self) -> Option<PriceQty> {
        // Keys are different: the greater one decides. `None` is less than any.
        self.window.best().max(self.rest.best())
    }

    /// The best first.
    pub(super) fn iter(&self) -> impl Iterator<Item = PriceQty> + '_ {
        let (mut window, mut rest) = (self.window.iter().peekable(), self.rest.iter().peekable());
        std::iter::from_fn(move || if window.peek() > rest.peek() { window.next() } else { rest.next() })
    }
}

/// Ascending, as checkpoints have them.
impl From<Side> for Vec<PriceQty> {
    fn from(side: Side) -> Self {
        let mut levels: Self = side.iter().collect();
        levels.reverse();
        levels
    }
}

impl From<Vec<PriceQty>> for Side {
    fn from(levels: Vec<PriceQty>) -> Self {
        let mut side = Self::default();
        for (key, qty) in levels {
            side.set(key, qty);
        }
        side
    }
}

impl PartialEq for Side {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// Slots at equal distances from a base.
#[derive(Clone, Debug, Default)]
struct Window {
    base: i64,
    step: Step,
    /// Quantities; 0 = no level.
    slots: Vec<i64>,
    /// A bit for each slot with a level.
    levels: Vec<u64>,
    /// The last of these words that has any; 0 if none has.
    top: usize,
    /// Levels.
    count: usize,
}

impl Window {
    /// An empty one where it serves these levels best; they ascend.
    fn over(levels: &[PriceQty]) -> Self {
        if levels.len() < LEVELS_MIN {
            return Self::default();
        }
        let (others, _) = levels.split_at(levels.len() - OUTLIERS);
        let near = &others[others.len().saturating_sub(STEP_LEVELS)..];
        let step = near.windows(2).map(|pair| pair[1].0.abs_diff(pair[0].0)).fold(0, gcd);
        let anchor = near[near.len() - 1].0;
        let slots = (levels.len() * SLOTS_PER_LEVEL / 2 + 1).next_power_of_two().min(SLOTS_MAX);
        let Some(step) = Step::new(step, slots) else { return Self::default() };
        // Keys must not wrap round within it.
        let distance = |slots: usize| i64::try_from(step.divisor.checked_mul(slots as u64)?).ok();
        let base = distance(slots - slots / AHEAD).and_then(|below| anchor.checked_sub(below));
        let Some(base) = base.filter(|base| distance(slots).is_some_and(|len| base.checked_add(len).is_some())) else {
            return Self::default();
        };
        Self { base, step, slots: vec![0; slots], levels: vec![0; slots / WORD], top: 0, count: 0 }
    }

    /// The slot of a key, if it stands on one.
    #[inline]
    fn slot(&self, key: i64) -> Option<usize> {
        // What is below the base wraps round to what is far above it.
        let slot = self.step.quotient(key.wrapping_sub(self.base) as u64);
        (slot < self.slots.len() as u64).then_some(slot as usize)
    }

    #[inline]
    fn key(&self, slot: usize) -> i64 {
        self.base.wrapping_add((slot as u64).wrapping_mul(self.step.divisor) as i64)
    }

    /// Sets a slot that is there; says whether it was 0 and is.
    #[inline]
    fn set(&mut self, slot: usize, qty: i64) -> bool {
        let was = std::mem::replace(&mut self.slots[slot], qty);
        let (was, is) = (was != 0, qty != 0);
        let (at, bit) = (slot / WORD, slot % WORD);
        let word = &mut self.levels[at];
        *word = *word & !(1 << bit) | u64::from(is) << bit;
        if *word == 0 && at == self.top {
            self.lower();
        }
        self.top = self.top.max(if is { at } else { 0 });
        self.count = self.count + usize::from(is) - usize::from(was);
        !was && !is
    }

    #[cold]
    fn lower(&mut self) {
        self.top = self.levels[..self.top].iter().rposition(|word| *word != 0).unwrap_or(0);
    }

    #[inline]
    fn best(&self) -> Option<PriceQty> {
        let bit = self.levels.get(self.top)?.checked_ilog2()? as usize;
        let slot = self.top * WORD + bit;
        Some((self.key(slot), self.slots[slot]))
    }

    /// The best first.
    fn iter(&self) -> impl Iterator<Item = PriceQty> + '_ {
        let words = self.levels.iter().enumerate().take(self.top + 1);
        words.rev().flat_map(move |(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.checked_ilog2()? as usize;
                left ^= 1 << bit;
                let slot = at * WORD + bit;
                Some((self.key(slot), self.slots[slot]))
            })
        })
    }
}

/// A divisor, ready to divide by. The default has quotients of no use: it is for a window without slots.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    divisor: u64,
    /// Inverse of its odd part modulo 2⁶⁴.
    inverse: u64,
    /// Its factors 2.
    twos: u32,
}

impl Step {
    /// None for 0, and for one by which numbers that are no multiples would have quotients below `slots`.
    fn new(divisor: u64, slots: usize) -> Option<Self> {
        if u64::MAX.checked_div(divisor)? < slots as u64 {
            return None;
        }
        let twos = divisor.trailing_zeros();
        let odd = divisor >> twos;
        // Right to 5 bits; each round doubles them.
        let mut inverse = odd.wrapping_mul(3) ^ 2;
        for _ in 0..4 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Some(Self { divisor, inverse, twos })
    }

    /// The quotient, or a number above that of `u64::MAX` if there is a remainder.
    #[inline]
    fn quotient(self, number: u64) -> u64 {
        number.wrapping_mul(self.inverse).rotate_right(self.twos)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    /// Slots, rest, stale windows, keys between slots and at the ends of `i64`: whatever holds a level, the side is a
    /// sorted map.
    #[test]
    fn a_side_is_a_sorted_map_wherever_its_window_lies() {
        let seed = 0x5eed_u64;
        println!("seed {seed:#x}");
        let mut random = Random(seed);
        let steps = [1_i64, 10, 3, 250_000_000, 1_000_000, 7 << 36];
        for (step, odd) in steps.into_iter().flat_map(|step| [(step, false), (step, true)]) {
            let (mut side, mut model) = (Side::default(), BTreeMap::new());
            let (mut windows, mut middle) = (0, 0_i64);
            for round in 0..40_000 {
                middle += random.below(3) as i64 - 1 + i64::from(round % 10_000 == 0) * 50_000;
                let near = (middle + random.below(2_000) as i64) * step;
                let key = match random.below(50) {
                    0 if odd => near + 1,
                    1 => near + random.below(1 << 20) as i64 * step,
                    2 if odd => [i64::MIN, i64::MAX, -1, 0][random.below(4) as usize],
                    _ => near,
                };
                let keep = if (round / 10_000) % 2 == 0 { 9 } else { 2 };
                let qty = if random.below(10) < keep { random.below(100) as i64 - 50 } else { 0 };
                let was = if qty == 0 { model.remove(&key) } else { model.insert(key, qty) };
                assert_eq!(side.set(key, qty), was.is_none() && qty == 0, "round {round}");
                assert_eq!(side.best(), model.last_key_value().map(|(k, q)| (*k, *q)), "round {round}");
                assert_eq!(side.len(), model.len());
                windows += usize::from(side.window.count > model.len() / 2);
                if round % 997 == 0 {
                    assert!(side.iter().eq(model.iter().rev().map(|(k, q)| (*k, *q))), "round {round}");
                    let levels = Vec::from(side.clone());
                    assert!(levels.iter().eq(&model.iter().map(|(k, q)| (*k, *q)).collect::<Vec<_>>()));
                    assert_eq!(Side::from(levels), side);
                }
            }
            // It is of use, too, or a search has been tested and no window.
            assert!(odd || windows > 8_000, "step {step}: window held most levels in {windows} of 40000 rounds");
        }
    }

    /// Memory is a matter of levels, never of prices.
    #[test]
    fn prices_far_apart_make_no_slots_between_them() {
        for far in [[0, i64::MAX], [i64::MIN, i64::MAX], [-1, 1 << 60]] {
            for apart in [1_i64, 1_000, 1 << 40, 1 << 50, 1 << 55] {
                let mut side = Side::default();
                for n in 0..1_000_i64 {
                    side.set((n % 100) * apart, n + 1);
                    side.set(far[n as usize % 2], n + 1);
                }
                assert!(side.window.slots.len() <= side.len() * SLOTS_PER_LEVEL, "{far:?} {apart}");
                assert!(side.iter().is_sorted_by(|a, b| a.0 > b.0));
            }
        }
    }

    /// A level that the venue never removed, far ahead of all others, must not take the window with it.
    #[test]
    fn a_stale_level_ahead_of_all_others_changes_nothing() {
        let mut side = Side::default();
        side.set(1_000_000, 1);
        for n in 0..10_000_i64 {
            side.set(n % 500, n + 1);
        }
        assert_eq!((side.window.count, side.rest.len()), (500, 1));
        assert_eq!(side.best(), Some((1_000_000, 1)));
    }

    #[test]
    fn quotients_are_exact_or_too_large() {
        let mut random = Random(7);
        for divisor in [1, 2, 3, 5, 10, 64, 1_000_000, 250_000_000, (1 << 49) - 1, 1 << 49, 3 << 40] {
            let step = Step::new(divisor, SLOTS_MAX).expect("not too large");
            for _ in 0..2_000 {
                let number = match random.below(3) {
                    0 => random.below(1 << 31).wrapping_mul(divisor),
                    1 => random.below(1 << 31),
                    _ => random.below(1 << 31) << 33 | random.below(1 << 31),
                };
                if number % divisor == 0 {
                    assert_eq!(step.quotient(number), number / divisor, "{number} / {divisor}");
                } else {
                    assert!(step.quotient(number) > u64::MAX / divisor, "{number} / {divisor}");
                }
            }
        }
        assert!(Step::new(0, 64).is_none() && Step::new(u64::MAX / 63, 64).is_none());
        assert!(Step::new(u64::MAX / 64, 64).is_some());
    }
}
