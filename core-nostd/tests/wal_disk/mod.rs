//! A disk for a WAL machine: files in memory that carry out its operations, each when a test says so and as it says, and
//! a reader that goes by `docs/format.md`.
//!
//! Every file has two images: what the system would give back, and what is on the medium. A write reaches the first when
//! it is done; the second by carrying its own sync, or by a sync that was handed out after it was done.

use chronicle_core::wal::{
    Batch, Entry, Header, Kind, Machine, Op, OpId, Outcome, Position, Truncation, entries,
    layout::{BatchPayload, FRAME_HEADER_LEN, HEADER_LEN},
};
use chronicle_core::{Damage, HeapRegion, Region};
use std::{collections::BTreeMap, sync::Arc};
use zerocopy::FromBytes;

pub(crate) type Log = Machine<Arc<HeapRegion>>;

/// What an operation needed when it was handed out.
pub(crate) struct UnderWay {
    pub(crate) op: Op,
    /// Bytes of a write as they were then.
    bytes: Vec<u8>,
    /// Writes that were done by then.
    covers: usize,
}

#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) cache: Vec<u8>,
    pub(crate) media: Vec<u8>,
    /// Done and not on the medium: number of the write, offset, length.
    dirty: Vec<(usize, usize, usize)>,
}

pub(crate) struct Disk {
    region: Arc<HeapRegion>,
    pub(crate) files: BTreeMap<u64, File>,
    pub(crate) spares: Vec<Vec<u8>>,
    pub(crate) under_way: Vec<UnderWay>,
    writes_done: usize,
    /// Every operation that was handed out, in order.
    pub(crate) handed: Vec<Op>,
}

// Each test uses its part of these.
#[allow(dead_code)]
impl Disk {
    pub(crate) fn new(region: &Arc<HeapRegion>) -> Self {
        Disk {
            region: Arc::clone(region),
            files: BTreeMap::new(),
            spares: Vec::new(),
            under_way: Vec::new(),
            writes_done: 0,
            handed: Vec::new(),
        }
    }

    /// Makes a file a segment, out of a spare with its old bytes if there is one.
    pub(crate) fn prepare(&mut self, header: &Header) {
        let mut bytes = self.spares.pop().unwrap_or_else(|| vec![0; header.segment_len as usize]);
        assert_eq!(bytes.len() as u64, header.segment_len);
        bytes[..header.block_size as usize].fill(0);
        bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        let file = File { cache: bytes.clone(), media: bytes, dirty: Vec::new() };
        let before = self.files.insert(header.segment_id, file);
        assert!(before.is_none(), "segment {} was prepared twice", header.segment_id);
    }

    /// Takes all that the machine hands out.
    pub(crate) fn take(&mut self, log: &mut Log) -> usize {
        let before = self.under_way.len();
        while let Some(op) = log.next_op() {
            let bytes = match op {
                Op::Write { from, len, .. } => self.look(from, len as usize),
                _ => Vec::new(),
            };
            // Evidence that recovery goes by: nobody may claim more than is so.
            let claimed = match op {
                Op::Prepare { header, .. } => header.durable,
                Op::Write { offset, .. } => claim(&bytes, offset).unwrap_or_default(),
                _ => Position::ZERO,
            };
            assert!(claimed <= log.durable_position(), "{claimed} is claimed, {} durable", log.durable_position());
            self.handed.push(op);
            self.under_way.push(UnderWay { op, bytes, covers: self.writes_done });
        }
        self.under_way.len() - before
    }

    fn look(&self, from: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.region.window().copy_out(from, &mut bytes);
        bytes
    }

    /// Carries out one of those under way and tells the machine.
    pub(crate) fn finish(&mut self, log: &mut Log, index: usize, outcome: Outcome) -> OpId {
        let UnderWay { op, bytes, covers } = self.under_way.remove(index);
        match (op, outcome) {
            (Op::Write { segment, offset, from, len, sync, .. }, Outcome::Done(done)) => {
                assert_eq!(self.look(from, len as usize), bytes, "bytes changed under a write: {op:?}");
                let (at, done) = (offset as usize, done.min(len) as usize);
                let file = self.files.get_mut(&segment).unwrap_or_else(|| panic!("no segment {segment} to write to"));
                if file.cache.len() < at + done {
                    file.cache.resize(at + done, 0);
                }
                file.cache[at..at + done].copy_from_slice(&bytes[..done]);
                self.writes_done += 1;
                file.dirty.push((self.writes_done, at, done));
                if sync {
                    file.sync(usize::MAX);
                }
            }
            (Op::Sync { segment, .. }, Outcome::Done(_)) => {
                self.files.get_mut(&segment).expect("the segment is there").sync(covers);
            }
            (Op::Prepare { header, .. }, Outcome::Done(_)) => self.prepare(&header),
            (Op::Recycle { segment, .. }, Outcome::Done(_)) => {
                let file = self.files.remove(&segment).expect("the segment is there");
                self.spares.push(file.media);
            }
            (_, Outcome::Again | Outcome::Failed(_)) => {}
        }
        log.complete(op.id(), outcome);
        op.id()
    }

    /// Carries out all there is, in order and without a fault.
    pub(crate) fn settle(&mut self, log: &mut Log) {
        while self.take(log) > 0 || !self.under_way.is_empty() {
            let done = match self.under_way[0].op {
                Op::Write { len, .. } => len,
                _ => 0,
            };
            self.finish(log, 0, Outcome::Done(done));
        }
    }

    /// What a reader finds on the medium.
    pub(crate) fn read(&self) -> Found {
        let files: Vec<_> = self.files.iter().map(|(id, file)| (*id, &file.media[..])).collect();
        read(&files)
    }
}

/// What the batch frame at the start of these bytes says to be durable, if one stands there.
fn claim(bytes: &[u8], offset: u64) -> Option<Position> {
    let payload = BatchPayload::read_from_prefix(bytes.get(FRAME_HEADER_LEN..)?).ok()?.0;
    let is_batch = bytes[FRAME_HEADER_LEN - 1] == Kind::Batch as u8 && payload.at.get() == offset;
    is_batch.then_some(Position { segment: payload.durable_segment.get(), offset: payload.durable_offset.get() })
}

impl File {
    fn sync(&mut self, covers: usize) {
        self.media.resize(self.cache.len().max(self.media.len()), 0);
        self.dirty.retain(|(number, at, len)| {
            if *number <= covers {
                self.media[*at..at + len].copy_from_slice(&self.cache[*at..at + len]);
            }
            *number > covers
        });
    }
}

/// A frame as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
}

/// What a reader found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Data and control frames, carries left out.
    pub(crate) frames: Vec<Owned>,
    pub(crate) next_seq: u64,
    /// Behind the last batch that was whole.
    pub(crate) end: Position,
    /// What ended it.
    pub(crate) fault: Option<Damage>,
    pub(crate) closed: bool,
    /// Largest durable position that anything claimed.
    pub(crate) claimed: Position,
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) meta: Option<Vec<u8>>,
    pub(crate) truncations: Vec<Truncation>,
}

#[allow(dead_code)]
impl Found {
    /// Payloads of the data frames with their numbers.
    pub(crate) fn data(&self) -> Vec<(u64, Vec<u8>)> {
        let data = self.frames.iter().filter(|frame| frame.kind == Kind::Data);
        data.map(|frame| (frame.seq, frame.payload.clone())).collect()
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Vote(vote) => self.vote = Some(vote.to_vec()),
            Entry::Meta(meta) => self.meta = Some(meta.to_vec()),
            Entry::Truncation(new) => push(&mut self.truncations, *new),
            other => panic!("an entry of no known kind: {other:?}"),
        }
    }
}

/// As `Truncation::merge` says.
pub(crate) fn push(list: &mut Vec<Truncation>, mut new: Truncation) {
    while let Some(merged) = list.last().and_then(|older| new.merge(older)) {
        list.pop();
        new = merged;
    }
    list.push(new);
}

/// Reads segments in order: each up to where its successor says, the last one up to the first thing that is not valid.
pub(crate) fn read(files: &[(u64, &[u8])]) -> Found {
    let mut found = Found::default();
    for (index, (id, bytes)) in files.iter().enumerate() {
        let header = Header::parse(bytes).unwrap_or_else(|damage| panic!("segment {id}: {damage}"));
        assert_eq!(header.segment_id, *id);
        found.claimed = found.claimed.max(header.durable);
        if index == 0 {
            found.next_seq = header.first_seq;
        }
        let stop = files.get(index + 1).map(|(_, next)| {
            let next = Header::parse(next).expect("a header");
            assert_eq!(next.predecessor_id, *id, "the chain");
            next.predecessor_end
        });
        let mut at = u64::from(header.block_size);
        loop {
            if stop == Some(at) {
                break;
            }
            let Err(damage) = batch(bytes, &mut at, &header, &mut found) else { continue };
            found.fault = Some(damage);
            return found;
        }
    }
    found
}

fn batch(bytes: &[u8], at: &mut u64, header: &Header, found: &mut Found) -> Result<(), Damage> {
    let rest = bytes.get(*at as usize..).unwrap_or_default();
    let batch = Batch::parse(rest, *at, header)?;
    let head = *batch.head();
    if head.first_seq != found.next_seq {
        let fault = chronicle_core::Fault::Seq { expected: found.next_seq, found: head.first_seq };
        return Err(Damage::at(*at, fault));
    }
    assert!(!found.closed || head.first_seq == found.next_seq);
    found.claimed = found.claimed.max(head.durable);
    let mut frames = batch.frames();
    for frame in frames.by_ref() {
        let frame = frame?;
        let payload = frame.payload.to_vec();
        match frame.kind {
            Kind::Data => found.next_seq += 1,
            Kind::Vote => found.vote = Some(payload.clone()),
            Kind::Truncate => {
                push(&mut found.truncations, Truncation::parse(frame.payload, frame.seq).expect("checked"));
            }
            Kind::Meta => {
                if frame.carry {
                    (found.vote, found.meta) = (None, None);
                    found.truncations.clear();
                }
                for entry in entries(frame.payload, frame.offset) {
                    found.entry(&entry?);
                }
            }
            Kind::Batch | Kind::Pad => panic!("never handed out"),
        }
        if !frame.carry {
            found.frames.push(Owned { seq: frame.seq, kind: frame.kind, payload });
        }
    }
    assert_eq!(frames.next_seq(), found.next_seq);
    *at = head.end();
    found.end = Position { segment: header.segment_id, offset: *at };
    found.closed = head.closed;
    Ok(())
}
