//! What a log was told and what it promised, and what may be found of it.

use chronicle_core::wal::{self, Batch, Header, Kind, Truncation};
use chronicle_platform::{File, Open, Platform};
use chronicle_storage::wal::{ReaderOptions, Recovery, WalReader};
use std::path::Path;

/// A frame that an application appended or finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// As [`chronicle_storage::wal::Record::seq`].
    pub(crate) seq: u64,
    pub(crate) payload: Vec<u8>,
}

/// What stands at the end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) meta: Option<Vec<u8>>,
    pub(crate) truncations: Vec<Truncation>,
}

/// What is found where a log is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) first_seq: u64,
    pub(crate) next_seq: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) standing: Standing,
}

/// The log as it must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// All that was appended, in order, since there is a log.
    pub(crate) entries: Vec<Entry>,
    /// So many of them are known to be gone.
    gone: usize,
    /// So many of them were promised.
    pub(crate) acked: usize,
    /// Records before this one may be gone; controls before it too.
    pub(crate) truncated_before: u64,
    /// Whatever is durable may be gone.
    pub(crate) retires_by_size: bool,
    /// Openings so far, so that a number that is used again stands for other bytes.
    pub(crate) turn: u64,
}

impl Model {
    /// The number that the next record gets.
    pub(crate) fn next_seq(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.kind == Kind::Data).count() as u64 + 1
    }

    /// Bytes for what is appended next, like nothing that was appended before.
    pub(crate) fn payload(&self, kind: Kind, len: usize) -> Vec<u8> {
        let number = self.entries.len() as u64 + (self.turn << 20);
        let mut bytes: Vec<u8> = match kind {
            Kind::Data => Vec::new(),
            _ => number.to_le_bytes().to_vec(),
        };
        let mut random = super::workload::Random(number);
        bytes.extend((0..len).map(|_| random.next() as u8));
        bytes
    }

    pub(crate) fn append(&mut self, kind: Kind, payload: Vec<u8>) {
        self.entries.push(Entry { kind, seq: self.next_seq(), payload });
    }

    /// What was found when the log was opened.
    pub(crate) fn present(&self) -> &[Entry] {
        &self.entries[self.gone..]
    }

    /// Record `seq` and all before it were promised.
    pub(crate) fn ack(&mut self, seq: u64) {
        let is_it = |entry: &Entry| entry.kind == Kind::Data && entry.seq == seq;
        if let Some(at) = self.entries.iter().position(is_it) {
            self.acked = self.acked.max(at + 1);
        }
    }

    pub(crate) fn ack_all(&mut self) {
        self.acked = self.entries.len();
    }

    /// Whether it may be gone from the log's beginning.
    fn may_be_gone(&self, at: usize) -> bool {
        let entry = &self.entries[at];
        let truncated = match entry.kind {
            Kind::Data => entry.seq < self.truncated_before,
            _ => entry.seq <= self.truncated_before,
        };
        at < self.gone || truncated || self.retires_by_size
    }

    fn name(&self, at: usize) -> String {
        match self.entries.get(at) {
            Some(Entry { kind: Kind::Data, seq, payload }) => format!("record {seq} of {} bytes", payload.len()),
            Some(Entry { kind, seq, .. }) => format!("{kind:?} before record {seq} (entry {at})"),
            None => "nothing".to_owned(),
        }
    }

    /// Where a stretch of frames begins; they must be what was appended.
    fn place(&self, entries: &[Entry]) -> Result<usize, String> {
        let start = self.entries.iter().position(|entry| *entry == entries[0]);
        let Some(start) = start else {
            let Entry { kind, seq, payload } = &entries[0];
            return Err(format!("{kind:?} with number {seq} and {} bytes was never appended", payload.len()));
        };
        for (n, found) in entries.iter().enumerate() {
            if self.entries.get(start + n) != Some(found) {
                let Entry { kind, seq, payload } = found;
                let found = format!("{kind:?} with number {seq} and {} bytes", payload.len());
                return Err(format!("{found} stands where {} was appended", self.name(start + n)));
            }
        }
        Ok(start)
    }

    /// A reader beside the writer showed these: they are the log's, and promised.
    pub(crate) fn shown(&mut self, entries: &[Entry]) -> Result<(), String> {
        if !entries.is_empty() {
            let end = self.place(entries)? + entries.len();
            self.acked = self.acked.max(end);
        }
        Ok(())
    }

    /// Checks what is found after a crash, and takes it as what is there from now on.
    pub(crate) fn accept(&mut self, found: &Found) -> Result<(), String> {
        let Found { first_seq, next_seq, entries, standing } = found;
        let (start, end) = match entries.is_empty() {
            false => {
                let start = self.place(entries)?;
                (start, start + entries.len())
            }
            true => {
                // All gone, if anything was there: where it ended is told by numbers and by what stands.
                let records = |at: usize| self.entries[..at].iter().filter(|entry| entry.kind == Kind::Data).count();
                let by_number = (0..=self.entries.len()).find(|at| records(*at) as u64 + 1 == *next_seq);
                let Some(by_number) = by_number else {
                    return Err(format!("next is {next_seq}, but {} was never appended", next_seq - 1));
                };
                let says = |entry: &Entry| match entry.kind {
                    Kind::Vote => standing.vote.as_ref() == Some(&entry.payload),
                    Kind::Meta => standing.meta.as_ref() == Some(&entry.payload),
                    _ => false,
                };
                let by_standing = self.entries.iter().rposition(says).map_or(0, |at| at + 1);
                let end = by_number.max(by_standing).max(self.acked.min(self.entries.len()));
                if records(end) as u64 + 1 != *next_seq {
                    return Err(format!(
                        "next is {next_seq}, {} was acknowledged",
                        self.name(self.acked.saturating_sub(1))
                    ));
                }
                (end, end)
            }
        };
        if end < self.acked {
            return Err(format!(
                "{} was acknowledged and is gone; the log ends before {}",
                self.name(self.acked - 1),
                self.name(end)
            ));
        }
        if let Some(lost) = (0..start).find(|at| !self.may_be_gone(*at)) {
            return Err(format!("{} is gone from the beginning, and nobody allowed it", self.name(lost)));
        }
        if start < self.gone {
            return Err(format!("{} is back", self.name(start)));
        }
        let records: Vec<u64> =
            entries.iter().filter(|entry| entry.kind == Kind::Data).map(|entry| entry.seq).collect();
        if records.first().unwrap_or(next_seq) != first_seq
            || records.last().map_or(*next_seq, |last| last + 1) != *next_seq
        {
            return Err(format!("recovery says {first_seq} to {next_seq}, readers find {records:?}"));
        }
        self.check_standing(&self.entries[..end], standing, *first_seq, *next_seq)?;
        self.entries.truncate(end);
        (self.gone, self.acked, self.truncated_before) = (start, end, 0);
        self.turn += 1;
        Ok(())
    }

    fn check_standing(&self, entries: &[Entry], found: &Standing, first: u64, next: u64) -> Result<(), String> {
        let newest = |kind| entries.iter().rfind(|entry| entry.kind == kind).map(|entry| &entry.payload);
        for (name, newest, found) in
            [("vote", newest(Kind::Vote), &found.vote), ("meta value", newest(Kind::Meta), &found.meta)]
        {
            if newest != found.as_ref() {
                let tell = |bytes: Option<&Vec<u8>>| {
                    let at = self.entries.iter().position(|entry| Some(&entry.payload) == bytes);
                    at.map_or_else(|| format!("{:?}", bytes.map(Vec::len)), |at| self.name(at))
                };
                return Err(format!("the newest {name} is {}, {} stands", tell(newest), tell(found.as_ref())));
            }
        }
        let said = entries.iter().filter(|entry| entry.kind == Kind::Truncate);
        let said: Vec<Truncation> = said.filter_map(|entry| Truncation::parse(&entry.payload, entry.seq)).collect();
        let voids = |list: &[Truncation], seq| list.iter().any(|truncation| truncation.voids(seq));
        match (first..next).find(|seq| voids(&said, *seq) != voids(&found.truncations, *seq)) {
            Some(seq) if voids(&said, seq) => Err(format!("record {seq} was voided, and stands")),
            Some(seq) => Err(format!("record {seq} was never voided, and is void")),
            None => Ok(()),
        }
    }
}

/// All that a reader gets.
pub(crate) fn read<P: Platform>(platform: &P, dir: &Path) -> Result<Vec<Entry>, String> {
    let options = ReaderOptions { controls: true, ..ReaderOptions::default() };
    let mut reader = WalReader::open(platform, dir, 0, options).map_err(|error| format!("reader: {error}"))?;
    let mut entries = Vec::new();
    while let Some(record) = reader.next().map_err(|error| format!("reader: {error}"))? {
        entries.push(Entry { kind: record.kind, seq: record.seq, payload: record.payload.to_vec() });
    }
    Ok(entries)
}

/// What stands at the end of a log that was just opened: its newest segment says so, by itself.
fn standing<P: Platform>(platform: &P, dir: &Path) -> Result<Standing, String> {
    let text = |error: &dyn std::fmt::Display| format!("newest segment: {error}");
    let names = platform.list(dir).map_err(|error| text(&error))?;
    let newest = names.iter().rfind(|entry| entry.name.ends_with(".wal")).ok_or("no segment is there")?;
    let file = platform.open(&dir.join(&newest.name), Open::Read).map_err(|error| text(&error))?;
    let mut bytes = vec![0; file.len().map_err(|error| text(&error))? as usize];
    file.read_at(&mut bytes, 0).map_err(|error| text(&error))?;
    let header = Header::parse(&bytes).map_err(|damage| text(&damage))?;
    let mut standing = Standing::default();
    let mut at = header.block_size as usize;
    while let Ok(batch) = Batch::parse(bytes.get(at..).unwrap_or(&[]), at as u64, &header) {
        for frame in batch.frames() {
            let frame = frame.map_err(|damage| text(&damage))?;
            match frame.kind {
                Kind::Vote => standing.vote = Some(frame.payload.to_vec()),
                Kind::Truncate => standing.truncations.extend(Truncation::parse(frame.payload, frame.seq)),
                Kind::Meta => {
                    for entry in wal::entries(frame.payload, frame.offset) {
                        match entry.map_err(|damage| text(&damage))? {
                            wal::Entry::Vote(bytes) => standing.vote = Some(bytes.to_vec()),
                            wal::Entry::Meta(bytes) => standing.meta = Some(bytes.to_vec()),
                            wal::Entry::Truncation(truncation) => standing.truncations.push(truncation),
                            _ => {}
                        }
                    }
                }
                Kind::Data | Kind::Batch | Kind::Pad => {}
            }
        }
        at = batch.head().end() as usize;
    }
    Ok(standing)
}

/// Looks at a log that was just opened.
pub(crate) fn find<P: Platform>(platform: &P, dir: &Path, recovery: &Recovery) -> Result<Found, String> {
    let (first_seq, next_seq) = (recovery.first_seq, recovery.next_seq);
    Ok(Found { first_seq, next_seq, entries: read(platform, dir)?, standing: standing(platform, dir)? })
}
