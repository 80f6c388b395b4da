//! Is a log intact? Every header, every checksum, every number, the links between segments, and the evidence.
//!
//! What recovery would refuse is a problem, and so is every further batch that does not fit in a segment of the log. What
//! a crash may leave is none: a torn tail, dead segments. Nothing is written and no lock is taken; of a log that is being
//! written only what its writer says is durable is checked, and segments that retire meanwhile are left out.

use super::{
    Cut,
    inspect::writer,
    names::{self, Named, Names},
    recover::{Looking, look},
    scan::{Segment, Walk, Window, next_batch},
};
use crate::{Error, Result};
use chronicle_core::wal::Header;
use chronicle_platform::{Open, Platform};
use serde::Serialize;
use std::path::Path;

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Segments of the log.
    pub segments: u64,
    /// Batches whose frames are right.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of those batches.
    pub bytes: u64,
    /// What a crash left at the end: no problem, and nothing that was acknowledged.
    pub torn: Option<Cut>,
    /// What was reported.
    pub problems: u64,
}

/// Checks the log in `dir`; each problem goes to `on_problem`, with file and offset.
///
/// # Errors
///
/// The system's. Damage is not an error here but a problem.
pub fn verify<P: Platform>(platform: &P, dir: impl AsRef<Path>, on_problem: &mut dyn FnMut(Error)) -> Result<Verified> {
    let names = Names::new(dir.as_ref());
    let mut verified = Verified::default();
    let mut seen = Vec::new();
    let mut problem = |verified: &mut Verified, error: Error| {
        // What recovery says and what a walk says may be the same.
        let place = (error.path().map(Path::to_path_buf), error.offset());
        if !seen.contains(&place) {
            seen.push(place);
            verified.problems += 1;
            on_problem(error);
        }
    };
    let mut headers = Vec::new();
    for entry in platform.list(names.dir())? {
        let Named::Segment(id) = names::parse(&entry.name) else { continue };
        match Segment::open(platform, &names, id, Open::Read) {
            Ok(segment) => headers.push(segment.header),
            Err(error) if error.is_not_found() => {}
            Err(Error::Trouble(trouble)) => return Err(trouble.into()),
            Err(error) => problem(&mut verified, error),
        }
    }
    let (_, limit) = writer(platform, &names, headers.last().map(|header| header.wal_id))?;
    let mut dead = Vec::new();
    match look(platform, &names, &Looking { limit, ..Looking::default() }) {
        Ok(found) => {
            verified.torn = found.report.cut;
            dead = found.report.dead;
        }
        Err(Error::Trouble(trouble)) => return Err(trouble.into()),
        // Without the writer's lock files may go while they are looked at.
        Err(Error::Busy { .. }) => {}
        Err(error) => problem(&mut verified, error),
    }
    let mut window = Window::default();
    for header in &headers {
        let id = header.segment_id;
        if dead.contains(&id) || limit.is_some_and(|limit| id > limit.segment) {
            continue;
        }
        let segment = match Segment::open(platform, &names, id, Open::Read) {
            Ok(segment) if segment.header == *header => segment,
            Err(error @ Error::Trouble(_)) if !error.is_not_found() => return Err(error),
            _ => continue,
        };
        let next = headers.iter().rev().find(|next: &&Header| next.predecessor_id == id);
        let here = limit.filter(|limit| limit.segment == id).map(|limit| limit.offset);
        let to = next.map(|next| next.predecessor_end).or(here);
        let mut walk = Walk::start(&segment);
        window.forget();
        loop {
            walk.on(&segment, &mut window, to, |_| Ok(()))?;
            let Some(damage) = walk.fault.take() else { break };
            // Behind it good batches may stand, of which the last segment of a log that died need not have any.
            let after = next_batch(&segment, &mut window, walk.end, to)?;
            if to.is_some() || (after.is_some() && verified.problems > 0) {
                problem(&mut verified, Error::damage(&segment.path, damage));
            }
            let Some(head) = after else { break };
            (walk.boundary, walk.end, walk.next_seq, walk.torn_end) = (head.offset, head.offset, head.first_seq, None);
        }
        verified.segments += 1;
        verified.batches += walk.batches;
        verified.records += walk.records;
        verified.bytes += walk.end - walk.start;
    }
    Ok(verified)
}
