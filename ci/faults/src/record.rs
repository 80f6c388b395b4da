//! Records that say who appended them, and what a log must hold of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Who appended a record: in which life of the log, which committer, its how-many-th. The record's bytes follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Which opening of the log, counted by who starts the writers.
    pub life: u32,
    /// Which committer.
    pub committer: u32,
    /// Its how-many-th record of this life, from 0.
    pub n: u64,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of committer {} in life {}", self.n, self.committer, self.life)
    }
}

impl Tag {
    /// The record: the tag, and 0 to 200 bytes that only it has.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(216);
        bytes.extend(self.life.to_le_bytes());
        bytes.extend(self.committer.to_le_bytes());
        bytes.extend(self.n.to_le_bytes());
        let mut state = u64::from(self.life) << 40 ^ u64::from(self.committer) << 20 ^ self.n;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let len = u64::from(next()) * 200 / 255;
        bytes.extend((0..len).map(|_| next()));
        bytes
    }

    /// Whose record this is; `None` if nobody's.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Tag> {
        let word = |at: usize| Some(u32::from_le_bytes(payload.get(at..at + 4)?.try_into().ok()?));
        let n = u64::from_le_bytes(payload.get(8..16)?.try_into().ok()?);
        let tag = Tag { life: word(0)?, committer: word(4)?, n };
        (tag.payload() == payload).then_some(tag)
    }
}

/// What a log held when it was last looked at.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    frames: BTreeMap<u64, Tag>,
    begins_behind: Option<(u64, u64)>,
}

impl Witness {
    /// Newest record seen.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.frames.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// The newest record known before the last look, and the oldest found by it, if records between the two were gone by
    /// then: nobody ever saw them.
    #[must_use]
    pub fn begins_behind(&self) -> Option<(u64, u64)> {
        self.begins_behind
    }

    /// Checks what is found now, of which `life` was appended since the last look and `acked` of that was acknowledged:
    ///
    /// - records count up without a gap, and each is somebody's, whole;
    /// - what was there before is still there, unchanged, unless it is older than what the log kept;
    /// - what is new is of this life, each committer's in its order without a gap, from its first one on; or, if the log
    ///   begins behind what was known, from the one that follows those it was told of;
    /// - what was acknowledged is there under the seq that was told, unless it is older than what the log kept.
    ///
    /// Says how many records are new, those among them that are gone already included. Whether they may be gone is the
    /// caller's to say, who knows what the log was to keep: [`Witness::begins_behind`].
    ///
    /// # Errors
    ///
    /// The first of these that does not hold.
    pub fn look<P: AsRef<[u8]>>(
        &mut self,
        found: impl IntoIterator<Item = (u64, P)>,
        life: u32,
        acked: &[(Tag, u64)],
    ) -> Result<u64, String> {
        let known = self.last_seq();
        let mut now = BTreeMap::new();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut found = found.into_iter().peekable();
        let first = found.peek().map(|(seq, _)| *seq);
        if let Some(first) = first.filter(|first| *first > known + 1) {
            for (tag, _) in acked.iter().filter(|(_, seq)| *seq < first) {
                let next = counts.entry(tag.committer).or_default();
                *next = (*next).max(tag.n + 1);
            }
        }
        self.begins_behind = first.filter(|first| *first > known + 1).map(|first| (known, first));
        for (seq, payload) in found {
            let payload = payload.as_ref();
            if let Some((&last, _)) = now.last_key_value()
                && seq != last + 1
            {
                return Err(format!("seq {seq} follows seq {last}"));
            }
            let Some(tag) = Tag::of(payload) else {
                return Err(format!("seq {seq}: {} bytes that nobody appended", payload.len()));
            };
            if seq <= known {
                match self.frames.get(&seq) {
                    Some(before) if *before != tag => return Err(format!("seq {seq} was {before} and is {tag}")),
                    Some(_) => {}
                    None => return Err(format!("seq {seq} is back: {tag}")),
                }
            } else {
                let fresh = seen.insert(tag.committer);
                let next = counts.entry(tag.committer).or_default();
                // The last one before the log's first may be durable without its committer having been told.
                let untold = fresh && self.begins_behind.is_some() && tag.n == *next + 1;
                if tag.life != life || (tag.n != *next && !untold) {
                    return Err(format!(
                        "seq {seq}: {tag}, where its committer's record {next} of life {life} was next; known up to seq {known}, \
                         the log begins at {}",
                        first.unwrap_or(0)
                    ));
                }
                *next = tag.n + 1;
            }
            now.insert(seq, tag);
        }
        let last = now.last_key_value().map_or(0, |(seq, _)| *seq);
        if last < known {
            return Err(format!("the log ended at seq {known}, which was accepted, and ends at {last}"));
        }
        for (tag, seq) in acked {
            match now.get(seq) {
                Some(found) if found == tag => {}
                Some(found) => return Err(format!("seq {seq} was acknowledged as {tag} and is {found}")),
                None if first.is_some_and(|first| *seq < first) => {}
                None => return Err(format!("seq {seq}, acknowledged as {tag}, is lost: the log ends at {last}")),
            }
        }
        self.frames = now;
        Ok(last - known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(life: u32, n: u64) -> Tag {
        Tag { life, committer: 3, n }
    }

    fn log(frames: &[(u64, Tag)]) -> Vec<(u64, Vec<u8>)> {
        frames.iter().map(|(seq, tag)| (*seq, tag.payload())).collect()
    }

    #[test]
    fn a_witness_sees_each_kind_of_lie() {
        let before = log(&[(1, tag(0, 0)), (2, tag(0, 1))]);
        let mut witness = Witness::default();
        assert_eq!(witness.look(before, 0, &[(tag(0, 1), 2)]), Ok(2));
        let check = |frames: &[(u64, Tag)], acked: &[(Tag, u64)], says: &str| {
            let error = witness.clone().look(log(frames), 1, acked).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        check(&[(1, tag(0, 0))], &[], "was accepted");
        check(&[(1, tag(0, 0)), (2, tag(0, 2))], &[], "was record");
        check(&[(1, tag(0, 0)), (3, tag(1, 0))], &[], "follows");
        check(&[(1, tag(0, 0)), (2, tag(0, 1)), (3, tag(0, 2))], &[], "of life 1 was next");
        check(&[(1, tag(0, 0)), (2, tag(0, 1)), (3, tag(1, 1))], &[], "record 0 of life 1 was next");
        check(&[(1, tag(0, 0)), (2, tag(0, 1))], &[(tag(1, 0), 3)], "is lost");
        check(&[(1, tag(0, 0)), (2, tag(0, 1)), (3, tag(1, 0))], &[(tag(1, 7), 3)], "was acknowledged as");
        let mut flipped = log(&[(1, tag(0, 0)), (2, tag(0, 1))]);
        *flipped[1].1.last_mut().unwrap() ^= 1;
        assert!(witness.clone().look(flipped, 1, &[]).unwrap_err().contains("nobody appended"));
        // The first two of life 1 went before anybody looked: one was told, one was not.
        let mut late = witness.clone();
        assert_eq!(late.look(log(&[(5, tag(1, 2)), (6, tag(1, 3))]), 1, &[(tag(1, 0), 3), (tag(1, 2), 5)]), Ok(4));
        assert_eq!(late.begins_behind(), Some((2, 5)));
        check(&[(5, tag(1, 2))], &[], "record 0 of life 1 was next; known up to seq 2, the log begins at 5");
        check(&[(5, tag(1, 2)), (6, tag(1, 4))], &[(tag(1, 1), 4)], "record 3 of life 1");
        assert_eq!(
            witness.look(log(&[(2, tag(0, 1)), (3, tag(1, 0))]), 1, &[(tag(0, 0), 1)]),
            Ok(1),
            "older ones may go"
        );
        assert!(
            witness
                .look(log(&[(1, tag(0, 0)), (2, tag(0, 1)), (3, tag(1, 0))]), 1, &[])
                .unwrap_err()
                .contains("is back")
        );
    }
}
