//! A thing that stands twice, where one of the two is not whole: was it torn, or was it changed?
//!
//! A store goes from a slot's first word to its last; whoever is killed in it leaves the beginning of the new content, its
//! generation first, and the end of the old one. Damage is mostly smaller: a bit, a byte. So a slot is *torn* if its
//! generation is the one that would come next, and no change of a single byte makes it whole; and one that a single byte
//! makes whole says what it was before that byte changed.
//!
//! For `verify` alone. Everybody else goes by the slot that is whole.

use super::layout::Summed;

/// A slot that is not whole, beside one that is and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadSlot {
    /// Where it stands in the file.
    pub(crate) at: usize,
    /// What in it does not fit.
    pub(crate) offset: u64,
    pub(crate) what: String,
}

/// What is the matter with a slot.
#[derive(Clone, Debug)]
pub(crate) enum Cause<S> {
    /// Its checksum is right, its content absurd: no crash does that.
    Absurd,
    /// A store of the next content was cut short.
    Torn,
    /// Something else; what it was, if that can be told.
    Changed(Option<S>),
}

/// Why the slot with these bytes is not whole, where the other one has generation `whole`.
pub(crate) fn cause<S: Summed>(bytes: &[u8], whole: u64) -> Cause<S> {
    let slot = |bytes: &[u8]| S::read_from_bytes(bytes).expect("bug: a slot's bytes are a slot");
    if slot(bytes).is_whole(0) && bytes.iter().any(|byte| *byte != 0) {
        return Cause::Absurd;
    }
    if let Some(before) = mend(bytes, 0) {
        return Cause::Changed(Some(before));
    }
    // Every slot begins with its generation.
    let generation = u64::from_le_bytes(std::array::from_fn(|byte| bytes[byte]));
    if generation == whole.saturating_add(1) { Cause::Torn } else { Cause::Changed(None) }
}

/// What these bytes were before one of them changed, if one did; their checksum is started from `seed`.
///
/// No change is tried on the bytes: what a change does to a CRC depends on the change alone, and what several bits do is
/// what each of them does, one on top of the other.
pub(crate) fn mend<S: Summed>(bytes: &[u8], seed: u32) -> Option<S> {
    let computed = |bytes: &[u8]| S::read_from_bytes(bytes).map(|slot| slot.computed(seed)).ok();
    let slot = S::read_from_bytes(bytes).ok()?;
    let wrong = slot.crc() ^ slot.computed(seed);
    let mut changed = vec![0; bytes.len()];
    let unchanged = computed(&changed)?;
    for at in 0..bytes.len() - size_of::<u32>() {
        let mut effects = [0; 8];
        for (bit, effect) in effects.iter_mut().enumerate() {
            changed[at] = 1 << bit;
            *effect = computed(&changed)? ^ unchanged;
        }
        changed[at] = 0;
        let effect = |change: u8| (0..8).filter(|bit| change >> bit & 1 == 1).fold(0, |all, bit| all ^ effects[bit]);
        if let Some(change) = (1..=u8::MAX).find(|change| effect(*change) == wrong) {
            let mut mended = bytes.to_vec();
            mended[at] ^= change;
            return S::read_from_bytes(&mended).ok();
        }
    }
    // The checksum itself.
    let bytes_wrong = wrong.to_le_bytes().iter().filter(|byte| **byte != 0).count();
    (bytes_wrong == 1).then(|| slot.summed(seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::layout::{CursorSlot, IndexEntry};
    use zerocopy::{FromZeros, IntoBytes};

    fn slot(generation: u64, seq: u64) -> Vec<u8> {
        let mut slot = CursorSlot::new_zeroed();
        slot.generation = generation.into();
        slot.seq = seq.into();
        slot.segment_id = (seq / 3).into();
        slot.summed(0).as_bytes().to_vec()
    }

    #[test]
    fn a_store_that_was_cut_short_is_told_from_a_byte_that_changed() {
        let (old, new) = (slot(7, 1000), slot(9, 2000));
        for words in 9..16 {
            let torn = [&new[..words * 4], &old[words * 4..]].concat();
            assert!(matches!(cause::<CursorSlot>(&torn, 8), Cause::Torn), "{words} words");
        }
        // The generation alone, in one byte: it may have been either, and damage is not to be overlooked.
        let either = [&new[..32], &old[32..]].concat();
        let Cause::Changed(Some(before)) = cause::<CursorSlot>(&either, 8) else { panic!("the old one") };
        assert_eq!(before.as_bytes(), old);
        for at in 0..new.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = new.clone();
                changed[at] ^= flip;
                let Cause::Changed(Some(before)) = cause::<CursorSlot>(&changed, 8) else { panic!("byte {at}") };
                assert_eq!(before.as_bytes(), new, "byte {at}");
            }
        }
        assert!(matches!(cause::<CursorSlot>(&[0; 64], 8), Cause::Changed(None)));
        assert!(matches!(cause::<CursorSlot>(&slot(u64::MAX, 5), 8), Cause::Absurd));
    }

    #[test]
    fn every_single_byte_is_mended_whatever_the_seed() {
        for seed in [0, 1, 0xdead_beef] {
            let mut entry = IndexEntry::new_zeroed();
            entry.seq = 77.into();
            entry.offset = 4096.into();
            let whole = entry.summed(seed).as_bytes().to_vec();
            assert!(mend::<IndexEntry>(&whole, seed).is_none(), "nothing changed");
            for at in 0..whole.len() {
                for change in 1..=u8::MAX {
                    let mut changed = whole.clone();
                    changed[at] ^= change;
                    let mended = mend::<IndexEntry>(&changed, seed).expect("one byte changed");
                    assert_eq!(mended.as_bytes(), whole, "byte {at}, {change:#04x}");
                }
            }
            let two = [&[!whole[0], !whole[1]], &whole[2..]].concat();
            assert!(mend::<IndexEntry>(&two, seed).is_none(), "two changed");
        }
    }
}
