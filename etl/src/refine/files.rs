//! The partitions of a shard: a bounded number of files open, the others' frames collected until they are worth opening.
//!
//! It writes what it is given, in order, and says what is durable. When to make it so, and what to note of it, is the
//! lane's to decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chronicle_core::Append;
use chronicle_platform::{Platform, Trouble};
use chronicle_storage::Error as StorageError;
use chronicle_storage::partition::{Committed, PartitionFile, PartitionWriter};
use chronicle_storage::root::{Date, Name, PartitionId, Root, Tier};

use crate::error::Result;
use crate::refinery::{Place, Shard, Sink};

/// Partitions that are open at once, in all shards together.
const OPEN_MAX: usize = 256;
/// Bytes that a partition collects while it cannot be open, before another one is closed for it.
const COLLECTED_LEN: usize = 64 << 10;
/// And all of them together, in all shards.
const COLLECTED_LEN_ALL: usize = 64 << 20;

/// A partition's file, open.
#[derive(Debug)]
struct OpenFile<P: Platform> {
    writer: PartitionWriter<P>,
    /// When it was last used, in appends.
    used: u64,
    /// Readers of the file see all of it.
    shown: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Files<P: Platform> {
    pub(super) platform: P,
    pub(super) root: Root,
    pub(super) venue: Name,
    open_max: usize,
    collected_max: usize,
    writers: HashMap<Place, OpenFile<P>>,
    /// Frames for partitions that are not open, each as time, type, flags, length and payload.
    collected: BTreeMap<Place, Vec<u8>>,
    collected_len: usize,
    /// Partitions that got into `collected` since it was last looked at.
    touched: Vec<Place>,
    /// Partitions that have something in their buffers, or had when they were last closed.
    unshown: Vec<Place>,
    /// What is durable of each partition that is not sealed, as of its last flush.
    pub(super) committed: BTreeMap<Place, Committed>,
    /// What is written, but not durable, of partitions that were closed to have fewer open.
    parked: BTreeMap<Place, Committed>,
    /// Partitions that were opened by this process, and so compared with the checkpoint.
    pub(super) resumed: BTreeSet<Place>,
    /// Days of symbols that nothing is added to any more.
    pub(super) sealing: BTreeSet<(u32, Date)>,
    tick: u64,
}

const COLLECTED_HEADER: usize = 16;

impl<P: Platform> Sink for Files<P> {
    type Error = StorageError;

    fn append(&mut self, place: Place, frame: Append, payload: &[u8]) -> std::result::Result<(), StorageError> {
        self.tick += 1;
        if let Some(open) = self.writers.get_mut(&place) {
            open.used = self.tick;
            open.writer.append(frame, payload)?;
            if std::mem::replace(&mut open.shown, false) {
                self.unshown.push(place);
            }
            return Ok(());
        }
        let bytes = self.collected.entry(place).or_default();
        bytes.extend(frame.time_ns.to_le_bytes());
        bytes.extend(frame.type_id.to_le_bytes());
        bytes.extend(frame.flags.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
        self.collected_len += COLLECTED_HEADER + payload.len();
        self.touched.push(place);
        Ok(())
    }

    fn seal(&mut self, place: Place) -> std::result::Result<(), StorageError> {
        self.sealing.insert((place.symbol, place.date));
        Ok(())
    }
}

impl<P: Platform> Files<P> {
    /// The files of one of `shards`, as a checkpoint knows them; none is open yet.
    pub(super) fn new(
        platform: &P,
        root: &Root,
        venue: &Name,
        shards: usize,
        committed: BTreeMap<Place, Committed>,
    ) -> Self {
        Self {
            platform: platform.clone(),
            root: root.clone(),
            venue: venue.clone(),
            open_max: (OPEN_MAX / shards).max(1),
            collected_max: COLLECTED_LEN_ALL / shards,
            writers: HashMap::new(),
            collected: BTreeMap::new(),
            collected_len: 0,
            touched: Vec::new(),
            unshown: Vec::new(),
            committed,
            parked: BTreeMap::new(),
            resumed: BTreeSet::new(),
            sealing: BTreeSet::new(),
            tick: 0,
        }
    }

    pub(super) fn id(&self, shard: &Shard, place: Place) -> PartitionId {
        PartitionId::new(self.venue.clone(), shard.code(place).clone(), place.date, place.stream)
    }

    /// Opens what was collected for, as far as it may.
    pub(super) fn settle(&mut self, shard: &Shard) -> Result<()> {
        while let Some(place) = self.touched.pop() {
            let len = self.collected.get(&place).map_or(0, Vec::len);
            if len == 0 {
                continue;
            }
            if self.writers.len() < self.open_max || len >= COLLECTED_LEN {
                self.open(shard, place)?;
            } else if self.collected_len >= self.collected_max {
                for place in self.collected.keys().copied().collect::<Vec<_>>() {
                    self.open(shard, place)?;
                }
            }
        }
        Ok(())
    }

    /// Opens a partition's file where it was left, or begins it.
    fn writer(&mut self, shard: &Shard, place: Place) -> Result<PartitionWriter<P>> {
        let id = self.id(shard, place);
        let path = self.root.partition(Tier::Warm, &id);
        let was_open = !self.resumed.insert(place);
        Ok(match (self.parked.remove(&place), self.committed.get(&place)) {
            (Some(parked), _) => PartitionWriter::reopen(&self.platform, &path, &id, &parked)?,
            (None, Some(committed)) if was_open => PartitionWriter::reopen(&self.platform, &path, &id, committed)?,
            (None, Some(committed)) => PartitionWriter::resume(&self.platform, &path, &id, committed)?,
            (None, None) => PartitionWriter::create(&self.platform, &path, &id)?,
        })
    }

    /// Opens a partition's file, another one is closed for it if need be, and writes what was collected.
    fn open(&mut self, shard: &Shard, place: Place) -> Result<()> {
        if !self.writers.contains_key(&place) {
            if self.writers.len() >= self.open_max {
                let oldest = self.writers.iter().min_by_key(|(_, open)| open.used).map(|(place, _)| *place);
                if let Some(oldest) = oldest {
                    self.park(oldest)?;
                }
            }
            let writer = self.writer(shard, place)?;
            self.writers.insert(place, OpenFile { writer, used: self.tick, shown: true });
        }
        let (Some(open), Some(bytes)) = (self.writers.get_mut(&place), self.collected.remove(&place)) else {
            return Ok(());
        };
        self.collected_len -= bytes.len();
        let mut rest = &bytes[..];
        while let Some((header, behind)) = rest.split_first_chunk::<COLLECTED_HEADER>() {
            let [a, b, c, d, e, f, g, h, t0, t1, f0, f1, l0, l1, l2, l3] = *header;
            let frame = Append {
                time_ns: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                type_id: u16::from_le_bytes([t0, t1]),
                flags: u16::from_le_bytes([f0, f1]),
            };
            let (payload, behind) = behind.split_at(u32::from_le_bytes([l0, l1, l2, l3]) as usize);
            open.writer.append(frame, payload)?;
            rest = behind;
        }
        if std::mem::replace(&mut open.shown, false) {
            self.unshown.push(place);
        }
        Ok(())
    }

    /// Writes what is buffered for open files.
    pub(super) fn show(&mut self) -> Result<()> {
        while let Some(place) = self.unshown.pop() {
            if let Some(open) = self.writers.get_mut(&place) {
                open.writer.show()?;
                open.shown = true;
            }
        }
        Ok(())
    }

    fn park(&mut self, place: Place) -> Result<()> {
        if let Some(open) = self.writers.remove(&place)
            && self.committed.get(&place).map(|committed| committed.next_seq) != Some(open.writer.next_seq())
        {
            self.parked.insert(place, open.writer.park()?);
        }
        Ok(())
    }

    /// Writes and syncs everything.
    pub(super) fn flush(&mut self, shard: &Shard) -> Result<()> {
        for place in self.collected.keys().copied().collect::<Vec<_>>() {
            self.open(shard, place)?;
        }
        // In order, so that the same run does the same operations.
        let open: BTreeMap<_, _> = self.writers.iter_mut().collect();
        for (place, open) in open {
            let known = self.committed.get(place).map(|committed| committed.next_seq);
            if known != Some(open.writer.next_seq()) {
                self.committed.insert(*place, open.writer.flush()?);
            }
        }
        for place in self.parked.keys().copied().collect::<Vec<_>>() {
            let committed = self.writer(shard, place)?.flush()?;
            self.committed.insert(place, committed);
        }
        self.unshown.clear();
        for open in self.writers.values_mut() {
            open.shown = true;
        }
        Ok(())
    }

    /// Makes a partition's file final, or finds that it is.
    pub(super) fn seal(&mut self, shard: &Shard, place: Place) -> Result<()> {
        let id = self.id(shard, place);
        let path = self.root.partition(Tier::Warm, &id);
        let Some(committed) = self.committed.get(&place).copied() else { return Ok(()) };
        if let Some(mut open) = self.writers.remove(&place) {
            open.writer.seal()?;
        } else if self.platform.exists(&path)? {
            // A file with a seal is not opened for writing: somebody may be copying it.
            let end = PartitionFile::open(&self.platform, &path)?.seal().map(|seal| seal.end);
            if end != Some(committed.len) {
                PartitionWriter::resume(&self.platform, &path, &id, &committed)?.seal()?;
            }
        } else if !self.platform.exists(&self.root.partition(Tier::Cold, &id))? {
            let reason = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Trouble::new("open", path, reason).into());
        }
        self.committed.remove(&place);
        self.resumed.remove(&place);
        Ok(())
    }
}
