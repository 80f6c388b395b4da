//! Cutting a log that cannot be opened: the operator's way out, after seeing what it costs.
//!
//! ```text
//! plan    the longest stretch of segments, from the oldest, that is whole: what stays
//!         everything behind it, durable once or not: what would be lost, file by file
//! cut     1 writer's lock; the plan again: the same, or nothing is done
//!         2 a new segment that names the end of what stays as its predecessor's end; in it the good frames of the batch
//!           in which the damage is, written again; synced, published
//!         3 files behind the cut get names that nobody reads ({id}.wal.cut), the directory synced
//! ```
//!
//! The cut is durable before anything can be appended behind it (rule D-16): the next writer walks the chain from the new
//! segment. Nothing is destroyed: the damaged file keeps its bytes, and what comes behind it is put aside. A crash before the
//! end of step 2 leaves the log as it was, one behind it leaves files that the next writer removes.
//!
//! A torn tail needs none of this: opening the log cuts it, and loses nothing that was acknowledged.

use super::{
    Recovery,
    names::{self, Named, Names},
    recover::{Looking, Standing, look, recover, stand},
    scan::{Segment, Walk, Window, next_batch},
    state::{Progress, StateWriter},
};
use crate::{Error, Result};
use chronicle_core::{
    HeapRegion, Region,
    wal::{
        AppendError, Config, Entry, Frame, Header, Kind, Machine, Op, Outcome, Position, Start, SyncBy, entries,
        layout, layout::FRAME_HEADER_LEN,
    },
};
use chronicle_platform::{File, Lock, Open, Platform};
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What cutting a log would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CutPlan {
    /// Why the log cannot be opened.
    pub reason: String,
    /// The file in which the log would end; nothing if no segment stays, and then nothing can be done.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// Oldest record that stays; [`CutPlan::next_seq`] if none does.
    pub first_seq: u64,
    /// Number that the next record would get: all from it on are lost.
    pub next_seq: u64,
    /// What would be lost, file by file.
    pub lost: Vec<Lost>,
}

/// What would be lost of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lost {
    /// It.
    pub path: PathBuf,
    /// From where on; 0 = all of it, and it is put aside.
    pub from: u64,
    /// Bytes of batches behind that place which can still be read, or of the whole file if its header cannot.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// The first and the last of those.
    pub seqs: Option<(u64, u64)>,
}

impl fmt::Display for CutPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reason)?;
        match self.next_seq - self.first_seq {
            0 => writeln!(f, "stays: no record")?,
            _ => writeln!(f, "stays: records {} to {}", self.first_seq, self.next_seq - 1)?,
        }
        for Lost { path, from, bytes, records, seqs } in &self.lost {
            write!(f, "lost: {} from offset {from}, {bytes} bytes", path.display())?;
            match seqs {
                Some((first, last)) => writeln!(f, ", {records} readable records from {first} to {last}")?,
                None => writeln!(f, ", no readable record")?,
            }
        }
        Ok(())
    }
}

/// Says what cutting the log in `dir` would do; nothing if it can be opened as it is.
///
/// # Errors
///
/// No segment can be believed, so that there is nothing to keep; the system's.
pub fn plan_cut<P: Platform>(platform: &P, dir: impl AsRef<Path>) -> Result<Option<CutPlan>> {
    let names = Names::new(dir.as_ref());
    match look(platform, &names, &Looking::default()) {
        Ok(_) => Ok(None),
        Err(error @ (Error::Trouble(_) | Error::Busy { .. })) => Err(error),
        Err(error) => Ok(Some(Prefix::of(platform, &names)?.plan(platform, &names, error.to_string())?)),
    }
}

/// Does what `plan` says.
///
/// # Errors
///
/// The log has a writer; it is not as it was when the plan was made; the system's.
pub fn cut<P: Platform>(platform: &P, dir: impl AsRef<Path>, plan: &CutPlan) -> Result<Recovery> {
    let names = Names::new(dir.as_ref());
    let lock = platform.open(&names.writer_lock(), Open::EnsurePrivate)?;
    if !lock.try_lock(Lock::Exclusive)? {
        return Err(Error::Locked { path: names.writer_lock() });
    }
    // What is cut must be durable, and what is kept too, before anything is decided (rule D-22).
    if let Err(error @ (Error::Trouble(_) | Error::Busy { .. })) = recover(platform, &names, &Looking::default()) {
        return Err(error);
    }
    if plan_cut(platform, dir.as_ref())?.as_ref() != Some(plan) {
        let what = "the log is not as it was when the cut was planned: plan it again".into();
        return Err(Error::Options { path: names.dir().to_path_buf(), what });
    }
    let prefix = Prefix::of(platform, &names)?;
    // What a dead writer said of durability lies behind the cut.
    let wal_id = prefix.last.header.wal_id;
    drop(StateWriter::open(platform, &names, wal_id, &Progress::default())?);
    prefix.publish(platform, &names)?;
    for lost in plan.lost.iter().filter(|lost| lost.from == 0) {
        if let Some(Named::Segment(id)) = lost.path.file_name().and_then(|name| name.to_str()).map(names::parse) {
            platform.rename(&lost.path, &names.cut(id))?;
        }
    }
    platform.sync_dir(names.dir())?;
    Ok(look(platform, &names, &Looking::default())?.report)
}

/// What stays of a log.
struct Prefix<F> {
    /// Its segments, oldest first.
    chain: Vec<Header>,
    /// The last of them.
    last: Segment<F>,
    walk: Walk,
    /// What stands behind its last whole batch.
    standing: Standing,
    /// Number of the first record behind that.
    next_seq: u64,
    /// Every segment's file, by id.
    ids: Vec<u64>,
    epoch: u32,
    newest_id: u64,
}

impl<F: File> Prefix<F> {
    fn of<P: Platform<File = F>>(platform: &P, names: &Names) -> Result<Self> {
        let (mut ids, mut newest_id) = (Vec::new(), 0);
        for entry in platform.list(names.dir())? {
            let named = names::parse(&entry.name);
            if let Named::Segment(id) | Named::Next(id) | Named::Cut(id) = named {
                newest_id = newest_id.max(id);
            }
            if let Named::Segment(id) = named {
                ids.push(id);
            }
        }
        let mut headers = Vec::<Header>::new();
        for id in &ids {
            match Segment::open(platform, names, *id, Open::Read) {
                Ok(segment) => headers.push(segment.header),
                Err(error @ Error::Trouble(_)) => return Err(error),
                Err(_) => {}
            }
        }
        let Some(first) = headers.first().copied() else {
            let what = "no segment's header can be believed: nothing can be kept";
            return Err(Error::malformed(names.dir(), 0, what));
        };
        let epoch = headers.iter().map(|header| header.epoch).max().unwrap_or(0);
        let (mut chain, mut window) = (vec![first], Window::default());
        loop {
            let here = chain[chain.len() - 1];
            let last = Segment::open(platform, names, here.segment_id, Open::Read)?;
            // Of several, the one that was made last: a takeover.
            let follows = |next: &&Header| next.predecessor_id == here.segment_id && next.wal_id == here.wal_id;
            let next = headers.iter().rev().find(follows).copied();
            window.forget();
            let (walk, _) = stand(&last, &mut window, next.map(|next| next.predecessor_end))?;
            match next {
                Some(next)
                    if walk.fault.is_none() && walk.end == next.predecessor_end && walk.next_seq == next.first_seq =>
                {
                    chain.push(next);
                }
                _ => {
                    window.forget();
                    let (whole, mut standing) = stand(&last, &mut window, Some(walk.boundary))?;
                    if whole.batches == 0 && chain.len() > 1 {
                        // The head that repeats what stands is torn: it stands at the end of the one before.
                        let before = chain[chain.len() - 2].segment_id;
                        let before = Segment::open(platform, names, before, Open::Read)?;
                        window.forget();
                        standing = stand(&before, &mut window, Some(here.predecessor_end))?.1;
                    }
                    return Ok(Prefix { chain, last, walk, standing, next_seq: whole.next_seq, ids, epoch, newest_id });
                }
            }
        }
    }

    fn plan<P: Platform<File = F>>(&self, platform: &P, names: &Names, reason: String) -> Result<CutPlan> {
        let mut lost = Vec::new();
        for id in &self.ids {
            let path = names.segment(*id);
            if self.chain.iter().any(|header| header.segment_id == *id) {
                if *id == self.last.id() {
                    lost.extend(behind(&self.last, path, self.walk.end, false)?);
                }
                continue;
            }
            match Segment::open(platform, names, *id, Open::Read) {
                Ok(segment) => lost.extend(behind(&segment, path, segment.start(), true)?),
                Err(error @ Error::Trouble(_)) => return Err(error),
                Err(_) => {
                    let bytes = platform.open(&path, Open::Read)?.len()?;
                    lost.push(Lost { path, from: 0, bytes, records: 0, seqs: None });
                }
            }
        }
        Ok(CutPlan {
            reason,
            path: self.last.path.clone(),
            offset: self.walk.end,
            first_seq: self.chain[0].first_seq,
            next_seq: self.walk.next_seq,
            lost,
        })
    }

    /// Makes the segment behind which the log goes on.
    fn publish<P: Platform<File = F>>(&self, platform: &P, names: &Names) -> Result<()> {
        let refused = |what: String| Error::Options { path: names.dir().to_path_buf(), what };
        let header = &self.last.header;
        // Core has one field more where somebody else has asked it for its planted bugs.
        #[allow(clippy::needless_update, reason = "it is not needless then")]
        let config = Config {
            block_size: header.block_size,
            batch_len: header.batch_len,
            segment_len: header.segment_len,
            depth: 1,
            sync: SyncBy::Op,
            // What stands fits a batch, because it did.
            carry_len: (self.standing.carry().len() as u32).next_multiple_of(4),
            ..Config::default()
        };
        let size = layout(&config).ok_or_else(|| refused("the log's measures are no machine's".into()))?.size();
        let region = Arc::new(HeapRegion::new(size));
        let at = Position { segment: header.segment_id, offset: self.walk.boundary };
        let id = self.newest_id.checked_add(1).ok_or_else(|| refused("no segment id is left".into()))?;
        let start = Start {
            wal_id: header.wal_id,
            segment_id: id,
            predecessor: at,
            first_seq: self.next_seq,
            epoch: self.epoch.saturating_add(1),
            salt_seed: platform.random() as u64,
            durable: at,
            durable_seq: self.next_seq - 1,
            carry: self.standing.carry(),
        };
        let mut machine = Machine::begin(region.clone(), config, &start).map_err(|why| refused(why.to_string()))?;
        let making = names.next(id);
        let file = platform.open(&making, Open::Create)?;
        let made = self.fill(&file, &mut machine, &region, &config).and_then(|()| {
            let mut block = vec![0; config.block_size as usize];
            let mut header = machine.header();
            header.created_ns = platform.now_ns();
            let bytes = header.to_bytes();
            block[..bytes.len()].copy_from_slice(&bytes);
            file.write_at(&block, 0)?;
            Ok(platform.publish(&file, &making, &names.segment(id))?)
        });
        if made.is_err() {
            _ = platform.remove(&making);
        }
        made
    }

    /// Writes the good frames of the batch in which the damage is.
    fn fill(
        &self,
        file: &F,
        machine: &mut Machine<Arc<HeapRegion>>,
        region: &HeapRegion,
        config: &Config,
    ) -> Result<()> {
        file.allocate(config.segment_len)?;
        file.fill(0, config.segment_len)?;
        let refused = |why: AppendError| Error::Options { path: self.last.path.clone(), what: why.to_string() };
        let mut walk = self.walk.clone();
        (walk.end, walk.next_seq, walk.fault) = (walk.boundary, self.next_seq, None);
        walk.on(&self.last, &mut Window::default(), None, |frame| {
            if frame.carry || frame.offset >= self.walk.end {
                return Ok(());
            }
            loop {
                match append(machine, frame) {
                    Err(AppendError::Full) => drive(machine, region, file)?,
                    other => return other.map_err(refused),
                }
            }
        })?;
        let all = machine.demand_all();
        while !machine.is_durable(all) {
            drive(machine, region, file)?;
        }
        Ok(())
    }
}

/// What can be read of a segment behind `from`.
fn behind<F: File>(segment: &Segment<F>, path: PathBuf, from: u64, whole: bool) -> Result<Option<Lost>> {
    let mut window = Window::default();
    let mut lost = Lost { path, from: if whole { 0 } else { from }, bytes: 0, records: 0, seqs: None };
    let mut at = if whole { from - 1 } else { from };
    while let Some(head) = next_batch(segment, &mut window, at, None)? {
        let mut walk = Walk::start(segment);
        (walk.boundary, walk.end, walk.next_seq) = (head.offset, head.offset, head.first_seq);
        walk.on(segment, &mut window, None, |_| Ok(()))?;
        lost.bytes += walk.end - head.offset;
        lost.records += walk.records;
        if walk.records > 0 {
            let first = lost.seqs.map_or(head.first_seq, |(first, _)| first);
            lost.seqs = Some((first, walk.next_seq - 1));
        }
        at = walk.boundary.max(head.offset);
    }
    Ok((whole || lost.bytes > 0).then_some(lost))
}

fn append<R: chronicle_core::RegionMut>(
    machine: &mut Machine<R>,
    frame: &Frame<'_>,
) -> std::result::Result<(), AppendError> {
    match frame.kind {
        Kind::Data => machine.append(frame.payload).map(|_| ()),
        Kind::Meta => {
            for entry in entries(frame.payload, frame.offset + FRAME_HEADER_LEN as u64).flatten() {
                if let Entry::Meta(bytes) = entry {
                    machine.append_control(Kind::Meta, bytes)?;
                }
            }
            Ok(())
        }
        _ => machine.append_control(frame.kind, frame.payload).map(|_| ()),
    }
}

/// Carries out what the machine asks for, one by one.
fn drive<F: File>(machine: &mut Machine<Arc<HeapRegion>>, region: &HeapRegion, file: &F) -> Result<()> {
    while let Some(op) = machine.next_op() {
        let outcome = match op {
            Op::Write { offset, from, len, .. } => {
                let mut bytes = vec![0; len as usize];
                region.window().copy_out(from, &mut bytes);
                file.write_at(&bytes, offset)?;
                Outcome::Done(len)
            }
            Op::Sync { .. } => {
                file.sync()?;
                Outcome::Done(0)
            }
            Op::Prepare { .. } | Op::Recycle { .. } => unreachable!("bug: one batch fits a segment"),
        };
        machine.complete(op.id(), outcome);
    }
    Ok(())
}
