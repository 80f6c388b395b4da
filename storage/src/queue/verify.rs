//! Checking a queue: every header, CRC, seq, link between segments, seal, index entry and cursor.
//!
//! Files are read with `read_at`, never through a mapping, so that a file that somebody cuts short cannot hurt. A live
//! queue may be checked: the current segment ends at its first open word, and segments that retire meanwhile are left
//! out. What is wrong is reported and the check goes on.

use super::{
    control::Control,
    cursor, index,
    names::Names,
    segment::{Head, head, ids},
};
use crate::{Error, Result};
use chronicle_core::{
    Damage, Fault, Seal,
    frame::{Decoded, decode},
    layout::{FRAME_HEADER_LEN, HEADER_LEN},
};
use chronicle_platform::{File, Lock, Open, Platform, TroubleKind};
use serde::Serialize;
use std::path::Path;

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Segments of the stream.
    pub segments: u64,
    /// Frames whose CRC and seq are right.
    pub frames: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Index entries that lead to a frame.
    pub index_entries: u64,
    /// Readers' files.
    pub readers: u64,
    /// What was reported.
    pub problems: u64,
}

/// Checks the queue at `path`; each problem goes to `on_problem`, with file and offset.
///
/// # Errors
///
/// There is no queue, or the system's. Damage is not an error here but a problem.
pub fn verify<P: Platform>(platform: &P, path: &Path, on_problem: &mut dyn FnMut(Error)) -> Result<Verified> {
    let names = Names::new(path);
    let mut verified = Verified::default();
    let mut problem = |verified: &mut Verified, error: Error| {
        verified.problems += 1;
        on_problem(error);
    };
    let control_path = names.control();
    let file = platform.open(&control_path, Open::Read)?;
    let control = match Control::read::<P>(&control_path, &file) {
        Ok(control) => control,
        Err(error @ Error::Malformed { .. }) => {
            problem(&mut verified, error);
            return Ok(verified);
        }
        Err(error) => return Err(error),
    };
    let unrecovered = control.is_unrecovered(platform);
    let mut before: Option<(Head, Walked)> = None;
    for id in ids(platform, &names)? {
        let path = names.segment(id);
        let file = match platform.open(&path, Open::Read) {
            Ok(file) => file,
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => continue,
            Err(trouble) => return Err(trouble.into()),
        };
        // Somebody else's for the moment: it is being used again.
        if !file.try_lock(Lock::Shared)? {
            continue;
        }
        let head = match head::<P>(&path, &file, id, control.queue_id) {
            Ok(head) => head,
            Err(Error::Trouble(trouble)) => return Err(trouble.into()),
            Err(_) if !platform.exists(&path)? => continue,
            Err(error) => {
                problem(&mut verified, error);
                before = None;
                continue;
            }
        };
        let Some(begin) = head.begin else {
            if head.seal.is_some() || control.state.synced.segment > id {
                let fault = Fault::Field { name: "begin.first_seq", found: 0 };
                problem(&mut verified, Error::fault(&path, 80, fault));
            }
            continue;
        };
        verified.segments += 1;
        if let Some((last, walked)) = &before {
            link(&path, &head, begin.first_seq, last, walked).unwrap_or_else(|error| problem(&mut verified, error));
        }
        let mut offsets = Vec::new();
        let walked = walk::<P>(&file, &head, begin.first_seq, &mut offsets)?;
        verified.frames += walked.count;
        verified.bytes += walked.end - HEADER_LEN as u64;
        if let Some(damage) = walked.damage {
            // Behind the synced position of a queue that nobody recovered, a crash explains it.
            let synced = control.state.synced;
            let torn = unrecovered && (id, damage.offset) >= (synced.segment, synced.offset.into());
            if !torn {
                problem(&mut verified, Error::damage(&path, damage));
            }
        } else if let Some(seal) = head.seal
            && let Err(damage) = walked.check(&seal)
        {
            problem(&mut verified, Error::damage(&path, damage));
        }
        let index_path = names.index(id);
        if platform.exists(&index_path)? {
            let (places, errors) = index::check(platform, &index_path, &head.header);
            for error in errors {
                problem(&mut verified, error);
            }
            for place in places {
                // The newest entry may be of a frame that is still being appended.
                let leads = offsets.binary_search(&(place.offset, place.seq)).is_ok()
                    || (u64::from(place.offset), place.seq) >= (walked.end, walked.next_seq);
                if leads {
                    verified.index_entries += 1;
                } else if walked.damage.is_none() {
                    let what = format!("entry leads to offset {}, where seq {} is not", place.offset, place.seq);
                    problem(&mut verified, Error::malformed(&index_path, 0, what));
                }
            }
        }
        before = Some((head, walked));
    }
    for (_, path) in cursor::list(platform, &names)? {
        verified.readers += 1;
        match cursor::view(platform, &path) {
            Ok(_) => {}
            Err(Error::Trouble(trouble)) if trouble.kind() != TroubleKind::NotFound => return Err(trouble.into()),
            Err(Error::Trouble(_)) => {}
            Err(error) => problem(&mut verified, error),
        }
    }
    Ok(verified)
}

/// Whether a segment follows the one before it.
fn link(path: &Path, head: &Head, first_seq: u64, last: &Head, walked: &Walked) -> Result<()> {
    if head.header.predecessor_id != last.id {
        // Segments between them retired while we looked, or this is no successor.
        let found = head.header.predecessor_id;
        if found < last.id {
            return Err(Error::fault(path, 48, Fault::Field { name: "predecessor_id", found }));
        }
        return Ok(());
    }
    let jumps = head.header.epoch > last.header.epoch && first_seq > walked.next_seq;
    if first_seq != walked.next_seq && !jumps && walked.damage.is_none() {
        let fault = Fault::Seq { expected: walked.next_seq, found: first_seq };
        return Err(Error::fault(path, 80, fault));
    }
    let end = u64::from(head.header.predecessor_end);
    if end != 0 && end != walked.end && walked.damage.is_none() {
        return Err(Error::fault(path, 64, Fault::End { expected: walked.end, found: end }));
    }
    Ok(())
}

/// What walking over a segment found.
#[derive(Clone, Copy, Debug)]
struct Walked {
    count: u64,
    next_seq: u64,
    end: u64,
    ended: bool,
    times: (u64, u64),
    damage: Option<Damage>,
}

impl Walked {
    fn check(&self, seal: &Seal) -> std::result::Result<(), Damage> {
        if !self.ended || self.end != seal.end {
            return Err(Damage::at(self.end, Fault::End { expected: seal.end, found: self.end }));
        }
        let times = if self.count == 0 { (0, 0) } else { self.times };
        let fields = [
            (92, "seal.count", seal.count, self.count),
            (108, "seal.min_time", seal.min_time, times.0),
            (116, "seal.max_time", seal.max_time, times.1),
        ];
        match fields.into_iter().find(|(_, _, stored, computed)| stored != computed) {
            Some((at, name, found, _)) => Err(Damage::at(at, Fault::Field { name, found })),
            None => Ok(()),
        }
    }
}

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Decodes a segment from its start to its first open word, its `End`, or damage.
fn walk<P: Platform>(file: &P::File, head: &Head, first_seq: u64, offsets: &mut Vec<(u32, u64)>) -> Result<Walked> {
    let len = u64::from(head.header.segment_len);
    let mut walked = Walked {
        count: 0,
        next_seq: first_seq,
        end: HEADER_LEN as u64,
        ended: false,
        times: (u64::MAX, 0),
        damage: None,
    };
    let mut buffer = Vec::new();
    let mut want = CHUNK;
    // A frame may be read while it is written: what looks wrong is read once more.
    let mut again = true;
    'read: loop {
        let left = len - walked.end;
        buffer.resize(want.min(left as usize), 0);
        let read = file.read_at(&mut buffer, walked.end)?;
        if read < buffer.len() {
            let found = walked.end + read as u64;
            walked.damage = Some(Damage::at(found, Fault::Short { needed: len, found }));
            return Ok(walked);
        }
        let mut at = 0;
        want = CHUNK;
        loop {
            let offset = walked.end;
            // The last slot is kept for End: nothing else may reach into it.
            let left = (len - FRAME_HEADER_LEN as u64).saturating_sub(offset);
            let decoded = decode(&buffer[at..], offset, left, head.header.salt, head.header.checksum);
            let decoded = match decoded {
                // Behind the last frame only End has room.
                Err(Damage { fault: Fault::Short { .. }, .. }) if left < FRAME_HEADER_LEN as u64 => {
                    decode(&buffer[at..], offset, len - offset, head.header.salt, head.header.checksum)
                }
                other => other,
            };
            match decoded {
                Ok(Decoded::Frame { header, len, .. }) if header.seq.get() == walked.next_seq => {
                    offsets.push((offset as u32, walked.next_seq));
                    walked.times.0 = walked.times.0.min(header.time_ns.get());
                    walked.times.1 = walked.times.1.max(header.time_ns.get());
                    walked.count += 1;
                    walked.next_seq += 1;
                    walked.end += len as u64;
                    at += len;
                    again = true;
                }
                Ok(Decoded::End { next_seq }) if next_seq == walked.next_seq => {
                    walked.ended = true;
                    return Ok(walked);
                }
                Ok(Decoded::Open) => return Ok(walked),
                Ok(Decoded::More { needed }) => {
                    want = needed.max(CHUNK);
                    if at == 0 && buffer.len() >= needed {
                        unreachable!("bug: {needed} bytes were there");
                    }
                    continue 'read;
                }
                wrong => {
                    if again {
                        again = false;
                        continue 'read;
                    }
                    walked.damage = Some(match wrong {
                        Err(damage) => damage,
                        Ok(Decoded::Frame { header, .. }) => {
                            let found = header.seq.get();
                            Damage::at(offset, Fault::Seq { expected: walked.next_seq, found })
                        }
                        Ok(Decoded::End { next_seq: found }) => {
                            Damage::at(offset, Fault::Seq { expected: walked.next_seq, found })
                        }
                        Ok(Decoded::Open | Decoded::More { .. }) => unreachable!("handled above"),
                    });
                    return Ok(walked);
                }
            }
        }
    }
}
