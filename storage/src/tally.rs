//! What a `meta.json` counts of a partition, counted again from its frames.
//!
//! `docs/format.md` section 11 says which number is the count of which frames; `Tally::expected` is that table. The
//! four things about records that it takes to count are declared here a second time, because storage stands below the
//! protocol; a test of the refinery, which knows both, compares them.

use crate::{
    meta::{Meta, Range},
    partition::BOOK_SNAPSHOTS,
    root::Stream,
};

/// `type_id`s of what changes a book: by price, by order.
pub const BOOK_DELTAS: [u16; 2] = [1, 8];
/// `type_id` of a gap.
pub const GAP: u16 = 5;
/// Bit of a frame's flags: the record takes no part in the book, or repeats one that was there before.
pub const NOT_APPLIED: u16 = 1;
/// Where a record's marks stand; of a snapshot, bit 0 of the first byte: made by the refinery.
pub const MARKS_AT: usize = 28;

/// Frames of one partition, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// All frames, and those with [`NOT_APPLIED`].
    frames: [u64; 2],
    /// What changes a book, and what of it has [`NOT_APPLIED`].
    deltas: [u64; 2],
    /// Snapshots, and the refinery's among them.
    snapshots: [u64; 2],
    gaps: u64,
    /// First and last time of the venue's records: neither of the refinery's snapshots nor, in a book, of gaps.
    times: Option<(u64, u64)>,
}

impl Tally {
    /// Counts one more frame of `stream`'s partition.
    pub(crate) fn take(&mut self, stream: Stream, type_id: u16, flags: u16, time_ns: u64, payload: &[u8]) {
        let not_applied = u64::from(flags & NOT_APPLIED);
        let add = |[all, some]: &mut [u64; 2], is_some: u64| {
            *all += 1;
            *some += is_some;
        };
        add(&mut self.frames, not_applied);
        if stream == Stream::Book {
            match type_id {
                delta if BOOK_DELTAS.contains(&delta) => add(&mut self.deltas, not_applied),
                snapshot if BOOK_SNAPSHOTS.contains(&snapshot) => {
                    let ours = payload.get(MARKS_AT).is_some_and(|marks| marks & 1 != 0);
                    add(&mut self.snapshots, ours.into());
                    if ours {
                        return;
                    }
                }
                GAP => {
                    self.gaps += 1;
                    return;
                }
                _ => {}
            }
        }
        let (first, last) = self.times.unwrap_or((time_ns, time_ns));
        self.times = Some((first.min(time_ns), last.max(time_ns)));
    }

    /// The sums of `meta.json` that these frames give: names of counts, and their sum.
    fn expected(&self, stream: Stream) -> Vec<(&'static [&'static str], u64)> {
        const REST: &[&str] = &["dropped_before_snapshot", "duplicates", "not_applied"];
        let [frames, flagged] = self.frames;
        match stream {
            Stream::Book => {
                let ([deltas, unused], [snapshots, ours]) = (self.deltas, self.snapshots);
                vec![
                    (&["events"], frames - ours - self.gaps),
                    (&["applied"], deltas - unused),
                    (REST, unused),
                    (&["snapshots"], snapshots),
                ]
            }
            // Everything else is counted with the stream and the day that they belong to.
            Stream::Late => vec![(&["events"], frames)],
            _ => vec![(&["events"], frames), (&["applied"], frames - flagged), (REST, flagged)],
        }
    }
}

/// What a `meta.json` says of its partitions that their frames do not: the name that says so, and why it is wrong.
pub(crate) fn disagreements(meta: &Meta, tallies: &[(Stream, Tally)]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (stream, tally) in tallies {
        for (names, counted) in tally.expected(*stream) {
            let keys: Vec<_> = names.iter().map(|name| format!("{stream}.{name}")).collect();
            let said = keys.iter().filter_map(|key| meta.counts.get(key)).fold(0u64, |sum, n| sum.saturating_add(*n));
            // It may begin and grow when all else of the day is final, and `meta.json` follows it.
            let is_wrong = if *stream == Stream::Late { said > counted } else { said != counted };
            if is_wrong {
                let key = keys.iter().find(|key| meta.counts.contains_key(*key)).unwrap_or(&keys[0]).clone();
                wrong.push((key, format!("{} is {said}, {counted} are in the {stream} partition", keys.join(" + "))));
            }
        }
        let gaps = meta.completeness.gaps.len() as u64;
        if *stream == Stream::Book && gaps != tally.gaps {
            wrong.push(("gaps".into(), format!("{gaps} gaps, {} are in the book partition", tally.gaps)));
        }
    }
    let of_all = streams(meta).all(|named| tallies.iter().any(|(stream, _)| *stream == named));
    if of_all {
        let venue = tallies.iter().filter(|(stream, _)| *stream != Stream::Late).filter_map(|(_, tally)| tally.times);
        let times = venue.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let found = times.map(|(first, last)| Range::extended(Some(Range::extended(None, first)), last));
        if meta.event_time_range != found {
            let text = |range: Option<Range>| match range {
                Some(Range { first, last }) => format!("{first} to {last}"),
                None => "none".into(),
            };
            let (said, found) = (text(meta.event_time_range), text(found));
            wrong.push(("event_time_range".into(), format!("event times are {said}, those of the frames are {found}")));
        }
    }
    wrong
}

/// The streams that a `meta.json` counts anything of: each has a partition.
pub(crate) fn streams(meta: &Meta) -> impl Iterator<Item = Stream> {
    Stream::ALL.into_iter().filter(|stream| {
        let prefix = format!("{stream}.");
        meta.counts.iter().any(|(key, count)| *count != 0 && key.starts_with(&prefix))
    })
}
