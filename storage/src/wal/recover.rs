//! What a log holds, found out before anybody writes to it.
//!
//! ```text
//! writer's lock is held
//! 1 sync every segment and the directory: what is decided upon must still be there after the next crash (rule D-22)
//! 2 headers; from the newest segment back by predecessor        what is not on this chain is dead
//! 3 each segment of the chain, batch by batch, up to the end that its successor names; the last one as far as it goes
//! 4 the first bad frame H, if there is one:
//!     anything valid, in any segment of the chain, that says "durable up to beyond H"   → damage: nothing is opened
//!     nothing does                                                                      → a torn tail, cut at H
//! 5 the last whole batch is that of a clean close, and nothing valid stands behind it   → the log goes on behind it
//!   else                                                                                → a takeover from the proved position
//! ```
//!
//! **The proved position** is the furthest one that a header or a batch says was durable. What is accepted behind it may
//! have been acknowledged or not; a takeover writes it again into a new file, and syncs that, before anybody is served.
//!
//! **Evidence.** That a later segment exists proves nothing: it is prepared while writes to the one before are in flight. A
//! batch frame or a segment header proves what its `durable_position` says; a clean close, all before it; a predecessor
//! that was retired, the batch that opens its successor; and the caller may know a seq (a checkpoint does). What stands
//! behind a segment's accepted end, and in dead segments, is nobody's: writes of a dead process may land there late.
//!
//! Damage inside the last batch of a log that was not closed cannot be told from a torn write, if no one knows better.
//!
//! Nothing here writes or repairs, so it can be done any number of times, and a reader or an operator can do all but the
//! syncs without a lock.

use super::{
    Verify,
    names::{self, Named, Names},
    scan::{Behind, Claim, Segment, Walk, Window, search},
};
use crate::{Error, Result};
use chronicle_core::{
    Damage, Fault,
    wal::{Carry, Entry, Frame, Header, Kind, Position, Truncation, entries, layout::FRAME_HEADER_LEN},
};
use chronicle_platform::{File, Open, Platform};
use serde::Serialize;
use std::{fmt, path::PathBuf, sync::Mutex};

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Recovery {
    /// Oldest record that is still there; [`Recovery::next_seq`] if none is.
    pub first_seq: u64,
    /// Number of the next record.
    pub next_seq: u64,
    /// Newest record that was proved durable; those behind it are written again, and durable before they are served.
    pub durable_seq: u64,
    /// What was cut from the end; nothing if the log ended between two batches.
    pub cut: Option<Cut>,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of their accepted batches and headers.
    pub bytes: u64,
    /// Segments that are no part of the log: begun behind what was cut, now or in an earlier recovery.
    pub dead: Vec<u64>,
    /// The log was closed in order; nothing had to be recovered.
    pub clean: bool,
    /// Takeovers that the log had seen.
    pub epoch: u32,
}

/// A torn tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where good frames end in it.
    pub offset: u64,
    /// Bytes of batches behind, which were begun and are given up. Nothing was acknowledged of them.
    pub bytes: u64,
    /// What is wrong with the first of them.
    pub why: String,
}

impl Recovery {
    /// Newest record; nothing if the log holds none.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        (self.records() > 0).then(|| self.next_seq - 1)
    }

    /// How many records are there.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.next_seq - self.first_seq
    }
}

/// One line for a log or an operator.
impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_seq() {
            Some(last) => write!(f, "records {} to {last} in {} segments", self.first_seq, self.segments)?,
            None => write!(f, "no records, next {}, in {} segments", self.next_seq, self.segments)?,
        }
        f.write_str(if self.clean { "; closed in order" } else { "; not closed in order" })?;
        if let Some(Cut { path, offset, bytes, why }) = &self.cut {
            write!(f, "; torn tail of {bytes} bytes cut at {} offset {offset}: {why}", path.display())?;
        }
        match self.dead.len() {
            0 => Ok(()),
            n => write!(f, "; {n} dead segments put away"),
        }
    }
}

/// How a log is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looking {
    pub(crate) verify: Verify,
    /// A record that somebody knows to have been durable; 0 = none.
    pub(crate) known: u64,
    /// Threads that read segments, at least 1.
    pub(crate) threads: usize,
    /// A living writer's word for how far the log is durable: nothing behind it is looked at.
    pub(crate) limit: Option<Position>,
    /// A bug to make on purpose.
    #[cfg(feature = "planted")]
    pub(crate) next_segment_proves: bool,
}

impl Default for Looking {
    fn default() -> Self {
        Looking {
            verify: Verify::All,
            known: 0,
            threads: 1,
            limit: None,
            #[cfg(feature = "planted")]
            next_segment_proves: false,
        }
    }
}

/// A segment of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) header: Header,
    /// Where its accepted frames end: behind a whole batch, but in the last one where a batch is torn.
    pub(crate) end: u64,
}

impl Link {
    pub(crate) fn id(&self) -> u64 {
        self.header.segment_id
    }
}

/// What stands at a position of the log: [`Carry`], owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    vote: Option<Vec<u8>>,
    meta: Option<Vec<u8>>,
    truncations: Vec<Truncation>,
}

impl Standing {
    /// As a machine takes it.
    pub(crate) fn carry(&self) -> Carry<'_> {
        Carry { vote: self.vote.as_deref(), meta: self.meta.as_deref(), truncations: &self.truncations }
    }

    /// Takes in a control frame.
    fn apply(&mut self, frame: &Frame<'_>) -> std::result::Result<(), Damage> {
        if frame.carry {
            *self = Standing::default();
        }
        match frame.kind {
            Kind::Vote => self.vote = Some(frame.payload.to_vec()),
            Kind::Truncate => {
                // The frame was checked, so there is one.
                Truncation::parse(frame.payload, frame.seq).into_iter().for_each(|new| self.truncate(new));
            }
            Kind::Meta => {
                for entry in entries(frame.payload, frame.offset + FRAME_HEADER_LEN as u64) {
                    match entry? {
                        Entry::Vote(bytes) => self.vote = Some(bytes.to_vec()),
                        Entry::Meta(bytes) => self.meta = Some(bytes.to_vec()),
                        Entry::Truncation(new) => self.truncate(new),
                        _ => {}
                    }
                }
            }
            Kind::Data | Kind::Batch | Kind::Pad => {}
        }
        Ok(())
    }

    fn truncate(&mut self, mut new: Truncation) {
        while let Some(merged) = self.truncations.last().and_then(|older| new.merge(older)) {
            self.truncations.pop();
            new = merged;
        }
        self.truncations.push(new);
    }
}

/// A log as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Recovered {
    pub(crate) report: Recovery,
    /// The log's segments, oldest first; none where there is no log yet.
    pub(crate) chain: Vec<Link>,
    /// Where its accepted frames end; if the log is clean, where it goes on.
    pub(crate) end: Position,
    /// Up to where it is proved durable: a batch begins there, or would.
    pub(crate) proven: Position,
    /// Number of the first record behind the proved position.
    pub(crate) proven_next_seq: u64,
    /// What stands at the proved position.
    pub(crate) standing: Standing,
    /// A number that no segment of the log ever had.
    pub(crate) next_id: u64,
    /// Files of other names that are ours: spares, and what was never finished.
    pub(crate) spares: Vec<Named>,
}

impl Recovered {
    /// Segments that are no part of the log once a takeover from the proved position is published.
    pub(crate) fn dead(&self) -> Vec<u64> {
        let superseded = self.chain.iter().map(Link::id).filter(|id| *id > self.proven.segment);
        let mut dead: Vec<u64> = self.report.dead.iter().copied().chain(superseded).collect();
        dead.sort_unstable();
        dead
    }

    /// Reads the accepted frames behind the proved position again, in order, and checks them again: what a takeover writes
    /// into its new segment. The carries at the heads of segments are left out, because the machine writes its own.
    pub(crate) fn unproven<P: Platform>(
        &self,
        platform: &P,
        names: &Names,
        mut each: impl FnMut(&Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut window = Window::default();
        let mut next_seq = self.proven_next_seq;
        let from = self.chain.iter().position(|link| link.id() == self.proven.segment);
        let behind = from.map_or(&[][..], |from| &self.chain[from..]);
        for (n, link) in behind.iter().enumerate() {
            let segment = Segment::open(platform, names, link.id(), Open::Read)?;
            let mut walk = Walk::start(&segment);
            walk.next_seq = next_seq;
            if n == 0 {
                (walk.boundary, walk.end) = (self.proven.offset, self.proven.offset);
            }
            let is_last = n + 1 == behind.len();
            window.forget();
            walk.on(&segment, &mut window, (!is_last).then_some(link.end), |frame| {
                // Writes of a dead process may land meanwhile: what was not there when the line was drawn stays out.
                if frame.carry || frame.offset >= link.end { Ok(()) } else { each(frame) }
            })?;
            if walk.end < link.end {
                let fault = Fault::End { expected: link.end, found: walk.end };
                return Err(Error::damage(&segment.path, walk.fault.unwrap_or(Damage::at(walk.end, fault))));
            }
            next_seq = walk.next_seq;
        }
        Ok(())
    }
}

/// Finds out what the log holds, after making sure that it stays. The caller has the writer's lock.
///
/// A directory without segments is a log without any: [`Recovered::chain`] is empty.
pub(crate) fn recover<P: Platform>(platform: &P, names: &Names, looking: &Looking) -> Result<Recovered> {
    for entry in platform.list(names.dir())? {
        if let Named::Segment(id) = names::parse(&entry.name) {
            platform.open(&names.segment(id), Open::Write)?.sync()?;
        }
    }
    platform.sync_dir(names.dir())?;
    look(platform, names, looking)
}

/// As [`recover`], without a lock and without a sync: what is found may be gone after the next crash.
pub(crate) fn look<P: Platform>(platform: &P, names: &Names, looking: &Looking) -> Result<Recovered> {
    let survey = Survey::of(platform, names, looking.limit)?;
    if survey.chain.is_empty() {
        return empty(names, &survey, looking);
    }
    let read = survey.to_read(looking);
    let walked = walk_all(platform, names, &survey.chain[read..], looking)?;
    judge(platform, names, &survey, read, &walked, looking)
}

/// The files of a log, by their names and headers.
#[derive(Debug)]
pub(super) struct Survey {
    /// Oldest first; each names the one before it.
    pub(super) chain: Vec<Header>,
    /// Segments between two of the chain: of recoveries that never came to put them away.
    pub(super) outside: Vec<u64>,
    pub(super) spares: Vec<Named>,
    newest_id: u64,
    epoch: u32,
}

impl Survey {
    /// Looks at the log as it is, or as it is up to `limit`.
    pub(super) fn of<P: Platform>(platform: &P, names: &Names, limit: Option<Position>) -> Result<Self> {
        let (mut headers, mut spares, mut newest_id) = (Vec::<Header>::new(), Vec::new(), 0);
        for entry in platform.list(names.dir())? {
            match names::parse(&entry.name) {
                Named::Segment(id) => {
                    newest_id = newest_id.max(id);
                    if limit.is_none_or(|limit| id <= limit.segment) {
                        headers.push(Segment::open(platform, names, id, Open::Read)?.header);
                    }
                }
                Named::Other => {}
                other => {
                    if let Named::Next(id) | Named::Cut(id) = other {
                        newest_id = newest_id.max(id);
                    }
                    spares.push(other);
                }
            }
        }
        headers.sort_unstable_by_key(|header| header.segment_id);
        let epoch = headers.iter().map(|header| header.epoch).max().unwrap_or(0);
        let (chain, outside) = chain(names, &headers)?;
        Ok(Survey { chain, outside, spares, newest_id, epoch })
    }

    /// The first segment of the chain whose frames are to be read.
    fn to_read(&self, looking: &Looking) -> usize {
        let believed = |header: &Header| header.segment_id < self.chain[self.chain.len() - 1].durable.segment;
        match looking.verify {
            Verify::All => 0,
            Verify::Tail => self.chain.iter().take_while(|header| believed(header)).count(),
        }
    }
}

/// From the newest segment back by predecessor, and what is not met on that way. `headers` are sorted by id.
fn chain(names: &Names, headers: &[Header]) -> Result<(Vec<Header>, Vec<u64>)> {
    let Some(mut at) = headers.last() else { return Ok((Vec::new(), Vec::new())) };
    if let Some(other) = headers.iter().find(|header| header.wal_id != at.wal_id) {
        let (id, newest) = (hex(&other.wal_id), at.segment_id);
        let what = format!("segment of log {id}, but segment {newest} is of log {}", hex(&at.wal_id));
        return Err(Error::malformed(names.segment(other.segment_id), 16, what));
    }
    let mut chain = vec![*at];
    while let Ok(n) = headers.binary_search_by_key(&at.predecessor_id, |header| header.segment_id) {
        let (before, end, block) = (&headers[n], at.predecessor_end, u64::from(headers[n].block_size));
        if end < block || end > before.segment_len || !end.is_multiple_of(block) {
            let fault = Fault::Field { name: "predecessor_end", found: end };
            return Err(Error::fault(names.segment(at.segment_id), 48, fault));
        }
        at = before;
        chain.push(*at);
    }
    chain.reverse();
    if headers[0].segment_id < at.segment_id {
        let (older, first) = (headers[0].segment_id, at.segment_id);
        return Err(match at.predecessor_id {
            0 => {
                let what = format!("no part of the log, which begins with segment {first}");
                Error::malformed(names.segment(older), 32, what)
            }
            missing => {
                let what =
                    format!("missing: segment {first} comes behind it, and segment {older} is there, which is older");
                Error::malformed(names.segment(missing), 0, what)
            }
        });
    }
    let is_outside = |id: &u64| chain.binary_search_by_key(id, |header| header.segment_id).is_err();
    let outside = headers.iter().map(|header| header.segment_id).filter(is_outside).collect();
    Ok((chain, outside))
}

/// What reading a segment of the chain found.
#[derive(Debug)]
struct Walked {
    walk: Walk,
    /// What stands at its end.
    standing: Standing,
    /// What is behind it, if it had an end of its own to find.
    behind: Behind,
}

/// Reads each segment of the chain up to the end that its successor names. They do not depend on one another: each header
/// says which record comes first.
fn walk_all<P: Platform>(platform: &P, names: &Names, chain: &[Header], looking: &Looking) -> Result<Vec<Walked>> {
    let end = |n: usize| match chain.get(n + 1) {
        Some(next) => Some(next.predecessor_end),
        None => looking.limit.map(|limit| limit.offset),
    };
    let threads = looking.threads.clamp(1, chain.len());
    if threads == 1 {
        let mut window = Window::default();
        return (0..chain.len()).map(|n| walk_one(platform, names, &chain[n], end(n), &mut window)).collect();
    }
    let turn = Mutex::new(0..chain.len());
    let next = || turn.lock().ok().and_then(|mut turn| turn.next());
    let mut walked = std::thread::scope(|scope| {
        let work = || {
            let mut window = Window::default();
            let mut done = Vec::new();
            while let Some(n) = next() {
                done.push((n, walk_one(platform, names, &chain[n], end(n), &mut window)));
            }
            done
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    walked.sort_unstable_by_key(|(n, _)| *n);
    walked.into_iter().map(|(_, walked)| walked).collect()
}

fn walk_one<P: Platform>(
    platform: &P,
    names: &Names,
    header: &Header,
    to: Option<u64>,
    window: &mut Window,
) -> Result<Walked> {
    let segment = Segment::open(platform, names, header.segment_id, Open::Read)?;
    if segment.header != *header {
        // Only without a lock: it was retired and is being used again.
        return Err(Error::Busy { path: segment.path });
    }
    window.forget();
    let (walk, standing) = stand(&segment, window, to)?;
    let behind = match walk.end < to.unwrap_or(segment.header.segment_len) {
        true => search(&segment, window, walk.end)?,
        false => Behind::default(),
    };
    Ok(Walked { walk, standing, behind })
}

/// Walks over a segment, and tells what stands where the walk ends.
pub(super) fn stand<F: File>(segment: &Segment<F>, window: &mut Window, to: Option<u64>) -> Result<(Walk, Standing)> {
    let mut walk = Walk::start(segment);
    let mut standing = Standing::default();
    walk.on(segment, window, to, |frame| match frame.kind {
        Kind::Data => Ok(()),
        _ => standing.apply(frame).map_err(|damage| Error::damage(&segment.path, damage)),
    })?;
    Ok((walk, standing))
}

fn empty(names: &Names, survey: &Survey, looking: &Looking) -> Result<Recovered> {
    if looking.known > 0 {
        let what = format!("no segment is there, but record {} is known to have been durable", looking.known);
        return Err(Error::malformed(names.dir(), 0, what));
    }
    let report = Recovery {
        first_seq: 1,
        next_seq: 1,
        durable_seq: 0,
        cut: None,
        segments: 0,
        bytes: 0,
        dead: Vec::new(),
        clean: true,
        epoch: 0,
    };
    Ok(Recovered {
        report,
        chain: Vec::new(),
        end: Position::ZERO,
        proven: Position::ZERO,
        proven_next_seq: 1,
        standing: Standing::default(),
        next_id: next_id(names, survey)?,
        spares: survey.spares.clone(),
    })
}

fn next_id(names: &Names, survey: &Survey) -> Result<u64> {
    let used_up = || Error::malformed(names.dir(), 0, "a file has the last segment id that there is");
    survey.newest_id.checked_add(1).ok_or_else(used_up)
}

/// Draws the line: what is accepted, what is proved, what is cut, and what is damage. `walked` begins with segment `read`
/// of the chain; those before it are believed.
fn judge<P: Platform>(
    platform: &P,
    names: &Names,
    survey: &Survey,
    read: usize,
    walked: &[Walked],
    looking: &Looking,
) -> Result<Recovered> {
    let chain = &survey.chain[read..];
    let position = |n: usize, offset| Position { segment: chain[n].segment_id, offset };
    // The segment in which accepted frames end: the first one with a fault, or the last.
    let last = walked.iter().position(|walked| walked.walk.fault.is_some()).unwrap_or(chain.len() - 1);
    for n in 1..=last {
        let (expected, found) = (walked[n - 1].walk.next_seq, chain[n].first_seq);
        if expected != found {
            return Err(Error::fault(names.segment(chain[n].segment_id), 80, Fault::Seq { expected, found }));
        }
    }
    let Walked { walk, behind, .. } = &walked[last];
    let end = position(last, walk.end);
    let path = names.segment(end.segment);

    let mut evidence = Claim::of_header(&chain[0]);
    for walked in walked {
        evidence.raise(walked.walk.claim);
        walked.behind.claim.into_iter().for_each(|claim| evidence.raise(claim));
    }
    let missing = |expected| Damage::at(walk.end, Fault::End { expected, found: walk.end });
    let hole = |evidence: String, expected: u64| {
        let damage = walk.fault.unwrap_or(missing(expected));
        Err(Error::Hole { path: path.clone(), damage, evidence })
    };
    if let (Some(limit), true) = (looking.limit, walk.fault.is_some()) {
        return hole(format!("its writer says that all before {limit} is durable"), limit.offset);
    }
    #[cfg(feature = "planted")]
    if looking.next_segment_proves && last + 1 < chain.len() {
        return hole(format!("segment {} comes behind it", chain[last + 1].segment_id), chain[last].segment_len);
    }
    if evidence.durable > end {
        return hole(evidence.to_string(), evidence.durable.offset);
    }
    let is_oldest = read == 0 && last == 0;
    if is_oldest && chain[0].predecessor_id != 0 && walk.batches == 0 {
        let retired = chain[0].predecessor_id;
        let evidence = format!("segment {retired} was retired, which comes behind a durable first batch of this one");
        return hole(evidence, chain[0].segment_len);
    }
    if looking.known >= walk.next_seq {
        let evidence =
            format!("record {} is known to have been durable, the next one here is {}", looking.known, walk.next_seq);
        return hole(evidence, chain[last].segment_len);
    }

    let clean = last + 1 == chain.len() && walk.closed && behind.batches == 0;
    let (proven, proven_next_seq) = match clean || looking.limit.is_some() {
        true => (end, walk.next_seq),
        false => proven(survey, read, walked, &evidence),
    };
    // Segments that are believed say only this much of how they hang together.
    for pair in survey.chain[..=read + last].windows(2) {
        let (expected, found) = (pair[0].first_seq, pair[1].first_seq);
        if expected > found {
            return Err(Error::fault(names.segment(pair[1].segment_id), 80, Fault::Seq { expected, found }));
        }
    }
    let first_seq = survey.chain[0].first_seq;
    let mut standing = standing_at(platform, names, chain, walked, proven)?;
    // The writer had dropped those whose void frames are gone: with them, what stood might fit no machine as its.
    standing.truncations.retain(|truncation| truncation.at > first_seq);
    let mut dead = survey.outside.clone();
    dead.extend(chain[last + 1..].iter().map(|header| header.segment_id));
    dead.sort_unstable();
    let ends = survey.chain[1..].iter().map(|next| next.predecessor_end);
    let chain_found: Vec<Link> = survey.chain[..read + last]
        .iter()
        .zip(ends)
        .map(|(header, end)| Link { header: *header, end })
        .chain([Link { header: chain[last], end: walk.end }])
        .collect();
    let report = Recovery {
        first_seq,
        next_seq: walk.next_seq,
        durable_seq: proven_next_seq - 1,
        cut: cut(path, walk, behind, &walked[last + 1..]),
        segments: chain_found.len() as u64,
        bytes: chain_found.iter().map(|link| link.end).sum(),
        dead,
        clean,
        epoch: survey.epoch,
    };
    Ok(Recovered {
        report,
        chain: chain_found,
        end,
        proven,
        proven_next_seq,
        standing,
        next_id: next_id(names, survey)?,
        spares: survey.spares.clone(),
    })
}

/// The furthest claim as a place in the chain, and the number of the record that comes first behind it.
fn proven(survey: &Survey, read: usize, walked: &[Walked], claim: &Claim) -> (Position, u64) {
    let chain = &survey.chain[read..];
    let Some(n) = chain.iter().rposition(|header| header.segment_id <= claim.durable.segment) else {
        // Before everything that is still there, or nothing was.
        return (Position { segment: chain[0].segment_id, offset: chain[0].block_size.into() }, chain[0].first_seq);
    };
    let (header, walk) = (&chain[n], &walked[n].walk);
    if header.segment_id < claim.durable.segment {
        return (Position { segment: header.segment_id, offset: walk.end }, walk.next_seq);
    }
    let start = u64::from(header.block_size);
    if claim.durable.offset <= start {
        return (Position { segment: header.segment_id, offset: start }, header.first_seq);
    }
    (claim.durable, claim.seq + 1)
}

/// What stands at a position of the chain.
fn standing_at<P: Platform>(
    platform: &P,
    names: &Names,
    chain: &[Header],
    walked: &[Walked],
    at: Position,
) -> Result<Standing> {
    let n = chain.iter().position(|header| header.segment_id == at.segment).unwrap_or(0);
    let is_start = at.offset <= u64::from(chain[n].block_size);
    if is_start && walked[n].walk.batches == 0 {
        // The head that repeats it is torn.
        return Ok(n.checked_sub(1).map_or_else(Standing::default, |before| walked[before].standing.clone()));
    }
    if walked[n].walk.standing < at.offset {
        return Ok(walked[n].standing.clone());
    }
    let segment = Segment::open(platform, names, at.segment, Open::Read)?;
    let mut standing = Standing::default();
    let mut damage = None;
    Walk::start(&segment).on(&segment, &mut Window::default(), Some(walked[n].walk.boundary), |frame| {
        if frame.kind != Kind::Data && damage.is_none() && (frame.carry || frame.offset < at.offset) {
            damage = standing.apply(frame).err();
        }
        Ok(())
    })?;
    damage.map_or(Ok(standing), |damage| Err(Error::damage(segment.path, damage)))
}

/// What is given up behind `walk`, where the log ends: a batch that begins in order and is torn, batches that landed
/// although one before them did not, segments begun behind those.
fn cut(path: PathBuf, walk: &Walk, behind: &Behind, later: &[Walked]) -> Option<Cut> {
    let torn_end = walk.torn_end.unwrap_or(walk.end).max(behind.end);
    let later = later.iter().map(|walked| walked.walk.end.max(walked.behind.end) - walked.walk.start);
    let bytes = torn_end - walk.end + later.sum::<u64>();
    let why = walk.fault.map_or_else(String::new, |damage| damage.fault.to_string());
    (bytes > 0).then_some(Cut { path, offset: walk.end, bytes, why })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
