//! What event number `seq` holds: anybody can say it again, so a log is compared with what was sent and not with a copy.

use chronicle::eventlog::{EventHeader, EventView};

/// Odd, so that no two words of one event are alike.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// An event of a fixed length whose content changes.
pub(crate) struct Pattern {
    words: Vec<u8>,
    found: Vec<u8>,
}

impl Pattern {
    pub(crate) fn new(payload: u16) -> Self {
        Pattern { words: vec![0; usize::from(payload)], found: vec![0; usize::from(payload)] }
    }

    /// The header and payload of event `seq`.
    #[inline]
    pub(crate) fn event(&mut self, seq: u64) -> (EventHeader, &[u8]) {
        let mut word = mix(seq);
        let mut parts = self.words.chunks_exact_mut(8);
        for part in &mut parts {
            part.copy_from_slice(&word.to_le_bytes());
            word = word.wrapping_add(SPREAD);
        }
        let rest = parts.into_remainder();
        rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
        (header(seq, self.words.len()), &self.words)
    }

    /// Whether an event that was read is number `seq`, as it was sent.
    #[inline]
    pub(crate) fn is(&mut self, seq: u64, event: &EventView<'_>) -> bool {
        let mut found = std::mem::take(&mut self.found);
        event.payload.copy_to(&mut found);
        let (header, payload) = self.event(seq);
        let same = event.header == header && event.payload.len() == payload.len() && found == payload;
        self.found = found;
        same
    }
}

fn header(seq: u64, len: usize) -> EventHeader {
    let len = u16::try_from(len).expect("bug: a payload is as long as a u16 says");
    EventHeader { timestamp: seq, event_type: seq as u8, flags: (seq >> 8) as u8, payload_len: len, reserved: 0 }
}

/// SplitMix64's last steps: neighbours have nothing in common.
fn mix(seq: u64) -> u64 {
    let mut x = seq.wrapping_mul(SPREAD);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronicle::{Payload, eventlog::EventView};

    #[test]
    fn any_change_is_noticed() {
        let mut pattern = Pattern::new(20);
        let (header, payload) = pattern.event(7);
        let sent = payload.to_vec();
        let mut is = |seq, header, payload: &[u8]| {
            pattern.is(seq, &EventView { header, payload: Payload::own(payload), offset: 64 })
        };
        assert!(is(7, header, &sent));
        assert!(!is(8, header, &sent));
        assert!(!is(7, EventHeader { flags: 1, ..header }, &sent));
        assert!(!is(7, header, &sent[..19]));
        for at in 0..sent.len() {
            let mut changed = sent.clone();
            changed[at] ^= 1;
            assert!(!is(7, header, &changed), "byte {at}");
        }
    }
}
