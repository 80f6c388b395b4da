//! Checking a queue: every header, CRC, seq, link between segments, seal, index entry and cursor.
//!
//! Files are read with `read_at`, never through a mapping, so that a file that somebody cuts short cannot hurt. A live
//! queue may be checked: the current segment ends at its first open word, and segments that retire meanwhile are left
//! out. What is wrong is reported and the check goes on.
//!
//! **Slots that are not whole.** The state in `control.meta` and the cursors stand twice, so that a store that is cut
//! short leaves one; a slot that is not whole hurts nobody as long as the other one is. Whether it is *damage* depends
//! on whether a store can have been cut short there:
//!
//! | The slot | A queue that was closed in order | One that was not: its writer is at work, or died |
//! |---|---|---|
//! | was torn by whoever stored the very next content ([`slots`]) | a note | a note |
//! | was changed otherwise, zeroed, lost | a problem | a note |
//! | has a right checksum over what no writer stores | a problem | a problem |
//!
//! A queue was closed in order if the newer slot says so, or said so before one byte of it changed. While somebody has a
//! file locked, what does not fit in it is a note: it is being stored. Where none of two slots is whole it is damage
//! always.
//!
//! **Segments that are not there** are a problem, whatever became of them, unless they retired: see [`missing`](super::missing).
//!
//! **Indexes** are never synced, because they can be made again: once the machine was started anew since a writer was
//! there, what is not whole in one is a note, but for a single byte that changed.

use super::{
    control::{Control, State},
    cursor, index,
    layout::{ControlSlot, CursorSlot, META_LEN},
    missing::{Chain, missing},
    names::{self, Names},
    segment::{Head, head, ids},
    slots::{self, BadSlot, Cause},
};
use crate::{Error, Result};
use chronicle_core::{
    Damage, Fault, Seal,
    frame::{Decoded, decode},
    layout::{FRAME_HEADER_LEN, HEADER_LEN},
};
use chronicle_platform::{File, Lock, Open, Platform, TroubleKind};
use serde::Serialize;
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// Errors of an index that are looked at for a single changed byte: more than that are no flip.
const FLIPS_MAX: usize = 64;

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
    verify_noting(platform, path, on_problem, &mut |_| {})
}

/// As [`verify`]; what does not fit and a crash explains goes to `on_note`.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_noting<P: Platform>(
    platform: &P,
    path: &Path,
    on_problem: &mut dyn FnMut(Error),
    on_note: &mut dyn FnMut(Error),
) -> Result<Verified> {
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
    let rebooted = control.state.boot_id != platform.boot_id();
    let mut closed = control.state.closed;
    if let Some(BadSlot { at, offset, what }) = control.bad.clone() {
        let bytes = slot_bytes(&file, at, size_of::<ControlSlot>())?;
        let cause = slots::cause::<ControlSlot>(&bytes, control.state.generation);
        if let Cause::Changed(Some(before)) = &cause
            && let Ok(Some(before)) = State::parse(before.as_bytes())
            && before.generation > control.state.generation
        {
            closed = before.closed;
        }
        let error = Error::malformed(&control_path, offset, what);
        match is_problem(&cause, closed) && !is_open(platform, &names.alive_lock())? {
            true => problem(&mut verified, error),
            false => on_note(error),
        }
    }
    let mut before: Option<(Head, Walked)> = None;
    let mut chain = Chain::default();
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
        chain.links.push((id, head.header.predecessor_id));
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
            for (i, error) in errors.into_iter().enumerate() {
                let salt = head.header.salt;
                let flip = i < FLIPS_MAX
                    && error.offset().is_some_and(|offset| index::is_flip(platform, &index_path, offset, salt));
                match rebooted && !flip {
                    true => on_note(error),
                    false => problem(&mut verified, error),
                }
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
        chain.newest_ended = walked.ended.then_some(id);
        before = Some((head, walked));
    }
    if !unrecovered {
        chain.writer = is_open(platform, &names.alive_lock())?;
        for gone in missing(platform, &names, &control, &chain)? {
            problem(&mut verified, gone.to_error());
        }
    }
    for (_, path) in cursor::list(platform, &names)? {
        verified.readers += 1;
        match cursor::view(platform, &path) {
            Ok(view) => {
                for (BadSlot { at, offset, what }, whole) in view.bad {
                    let file = platform.open(&path, Open::Read)?;
                    let bytes = slot_bytes(&file, at, size_of::<CursorSlot>())?;
                    let cause = slots::cause::<CursorSlot>(&bytes, whole);
                    let error = Error::malformed(&path, offset, what);
                    match is_problem(&cause, closed) && !is_open(platform, &path)? {
                        true => problem(&mut verified, error),
                        false => on_note(error),
                    }
                }
            }
            Err(Error::Trouble(trouble)) if trouble.kind() != TroubleKind::NotFound => return Err(trouble.into()),
            Err(Error::Trouble(_)) => {}
            Err(error) => problem(&mut verified, error),
        }
    }
    Ok(verified)
}

/// Whether a slot that is not whole is damage; see the module.
fn is_problem<S>(cause: &Cause<S>, closed: bool) -> bool {
    match cause {
        Cause::Absurd => true,
        Cause::Torn => false,
        Cause::Changed(_) => closed,
    }
}

fn slot_bytes<F: File>(file: &F, at: usize, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; META_LEN];
    // The file was long enough a moment ago; if it is no more, the rest is zeros.
    file.read_at(&mut bytes, 0)?;
    Ok(bytes[at..at + len].to_vec())
}

/// Whether somebody has this file locked.
fn is_open<P: Platform>(platform: &P, path: &Path) -> Result<bool> {
    match platform.open(path, Open::Read) {
        Ok(file) => Ok(!file.try_lock(Lock::Shared)?),
        Err(trouble) if trouble.kind() == TroubleKind::NotFound => Ok(false),
        Err(trouble) => Err(trouble.into()),
    }
}

/// The queue that one of its small files belongs to, by the names; `None` where there is none.
pub(crate) fn queue_of<P: Platform>(platform: &P, path: &Path) -> Result<Option<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let up =
        |levels: usize| path.ancestors().nth(levels).map(|dir| if dir == Path::new("") { Path::new(".") } else { dir });
    let (queue, ours): (_, fn(&Names, &str) -> Option<PathBuf>) = match path.parent().and_then(Path::file_name) {
        _ if name == "control.meta" => (up(1), |names, _| Some(names.control())),
        Some(dir) if dir == "readers" => (up(2), |names, file| Some(names.cursor(&names::reader_name(file)?))),
        // One whose segment has left the queue is checked by itself.
        Some(dir) if dir == "index" => (up(2), |names, file| Some(names.segment(names::index_id(file)?))),
        _ => return Ok(None),
    };
    let Some(queue) = queue else { return Ok(None) };
    let names = Names::new(queue);
    let known = platform.exists(&names.control())?
        && match ours(&names, name) {
            Some(file) => platform.exists(&file)?,
            None => false,
        };
    Ok(known.then(|| queue.to_owned()))
}

/// Checks a `control.meta` that lies outside a queue. Nobody can say there whether a crash tore it.
pub(crate) fn verify_control<P: Platform>(platform: &P, path: &Path, on_problem: &mut dyn FnMut(Error)) -> Result<()> {
    let control = Control::read::<P>(path, &platform.open(path, Open::Read)?);
    match control.map(|control| control.bad) {
        Ok(Some(bad)) => on_problem(Error::malformed(path, bad.offset, bad.what)),
        Ok(None) => {}
        Err(error @ Error::Trouble(_)) => return Err(error),
        Err(error) => on_problem(error),
    }
    Ok(())
}

/// As [`verify_control`], a reader's cursor.
pub(crate) fn verify_cursor<P: Platform>(platform: &P, path: &Path, on_problem: &mut dyn FnMut(Error)) -> Result<()> {
    match cursor::view(platform, path) {
        Ok(view) => {
            for (bad, _) in view.bad {
                on_problem(Error::malformed(path, bad.offset, bad.what));
            }
        }
        Err(error @ Error::Trouble(_)) => return Err(error),
        Err(error) => on_problem(error),
    }
    Ok(())
}

/// As [`verify_control`], a segment's index: that what it says fits the segment is not looked at.
pub(crate) fn verify_index<P: Platform>(platform: &P, path: &Path, on_problem: &mut dyn FnMut(Error)) -> Result<()> {
    let (_, errors) = index::check_alone(platform, path);
    for error in errors {
        match error {
            Error::Trouble(_) => return Err(error),
            error => on_problem(error),
        }
    }
    Ok(())
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
