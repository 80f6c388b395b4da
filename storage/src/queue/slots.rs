//! A thing that stands twice, where one of the two is not whole: was it torn, or was it changed?
//!
//! A store goes from a slot's first word to its last; whoever is killed in it leaves the beginning of the new content, its
//! generation first, and the end of the old one. Damage is mostly smaller: a bit, a byte. So a slot is *torn* if its
//! generation is the one that would come next, and no change of a single byte makes it whole; and one that a single byte
//! makes whole says what it was before that byte changed.
//!
//! For `verify` alone: trying all bytes takes milliseconds. Everybody else goes by the slot that is whole.

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
pub(crate) fn mend<S: Summed>(bytes: &[u8], seed: u32) -> Option<S> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        let found = bytes[at];
        for other in 1..=u8::MAX {
            bytes[at] = found ^ other;
            let mended = S::read_from_bytes(&bytes).ok()?;
            if mended.is_whole(seed) {
                return Some(mended);
            }
        }
        bytes[at] = found;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::layout::CursorSlot;
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
}
