//! What was imported into a root, and how far: one line for each beginning and each end, appended, never changed.
//!
//! ```text
//! state/import/{venue}.ledger
//!   {crc, 8 hex digits} {JSON}\n
//!
//! {"state":"begun","file":…,"sha256":…,"format":…,"at":…,"before":{"created_ns":…,"queue":…,"seq":…}}
//! {"state":"done", "file":…,"sha256":…,"format":…,"at":…,"records":…,"first_seq":…,"last_seq":…,"first_ingest_ns":…,…}
//! ```
//!
//! A line counts once its end and its checksum are there: what a crash left of the last one is cut off before the next. A
//! file is known by its content, whatever its name. How many records of an import that never ended are in the raw stream,
//! the ledger does not say and need not: the stream itself does, behind the place that the beginning names.
//!
//! Written under the lock of the venue's raw queue; a look without it may miss what is being written.

use crate::run::Failure;
use chronicle::{
    feed::Format,
    storage::{
        raw::RawCursor,
        root::{Name, Root},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A line of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) state: State,
    /// The file's name, without directories.
    pub(crate) file: String,
    /// Of its content, in hex.
    pub(crate) sha256: String,
    /// What it was read as.
    pub(crate) format: String,
    /// When this was written.
    pub(crate) at: String,
}

/// How far an import is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(crate) enum State {
    /// Its records follow this place in the raw stream; none: they are the first of all.
    Begun { before: Option<Place> },
    /// All of them are there, and durable.
    Done(Done),
}

/// Just before a frame of the raw stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    created_ns: u64,
    #[serde(with = "hex")]
    queue: [u8; 16],
    seq: u64,
}

/// What an import came to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) records: u64,
    /// Seqs in the raw queue; 0 if there are no records.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) first_ingest_ns: Option<u64>,
    pub(crate) last_ingest_ns: Option<u64>,
    /// Nothing was wrong with the file.
    pub(crate) clean: bool,
}

impl From<RawCursor> for Place {
    fn from(RawCursor { created_ns, queue_id, seq }: RawCursor) -> Self {
        Place { created_ns, queue: queue_id, seq }
    }
}

impl From<Place> for RawCursor {
    fn from(Place { created_ns, queue, seq }: Place) -> Self {
        RawCursor { created_ns, queue_id: queue, seq }
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        format!("{:032x}", u128::from_be_bytes(*id)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(from)?;
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(&text, 16).map_err(Error::custom)?;
        if is_hex { Ok(id.to_be_bytes()) } else { Err(Error::custom("not 32 hex digits")) }
    }
}

/// A venue's ledger as far as it was read.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    /// Bytes of whole lines.
    len: u64,
    /// The last entry about each content.
    last: HashMap<String, Entry>,
}

impl Ledger {
    /// Reads a venue's ledger; an empty one if there is none.
    pub(crate) fn read(root: &Root, venue: &Name) -> Result<Self, Failure> {
        let path = root.state.join("import").join(format!("{venue}.ledger"));
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::Problem(format!("{}: {error}", path.display()))),
        }
        let mut ledger = Ledger { path, len: 0, last: HashMap::new() };
        let mut rest = &bytes[..];
        let mut number = 0;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            number += 1;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let entry = parse(line).map_err(|why| {
                let (path, at) = (ledger.path.display(), ledger.len);
                Failure::Problem(format!(
                    "{path}: line {number} at byte {at}: {why}; put the file back as it was, or move it away: then nothing \
                     is known to be imported"
                ))
            })?;
            ledger.len += end as u64 + 1;
            ledger.last.insert(entry.sha256.clone(), entry);
        }
        Ok(ledger)
    }

    /// What is known about a content.
    pub(crate) fn about(&self, sha256: &str) -> Option<&Entry> {
        self.last.get(sha256)
    }

    /// Adds a line, durably, behind the last whole one.
    pub(crate) fn append(&mut self, entry: Entry) -> Result<(), Failure> {
        let line = line_of(&entry)?;
        let failed = |path: &Path, error: io::Error| Failure::Problem(format!("{}: {error}", path.display()));
        let dir = self.path.parent().unwrap_or(&self.path).to_owned();
        let is_new = self.len == 0;
        if is_new {
            fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
        }
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
            // What a crash left of a line.
            file.set_len(self.len)?;
            file.seek(SeekFrom::Start(self.len))?;
            file.write_all(&line)?;
            file.sync_data()
        };
        write().map_err(|error| failed(&self.path, error))?;
        if is_new {
            // The names of the file and of its directory.
            for dir in [Some(dir.as_path()), dir.parent()].into_iter().flatten() {
                File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(dir, error))?;
            }
        }
        self.len += line.len() as u64;
        self.last.insert(entry.sha256.clone(), entry);
        Ok(())
    }
}

impl Entry {
    pub(crate) fn new(state: State, file: &str, sha256: &str, format: Format) -> Self {
        let at = jiff::Timestamp::now().to_string();
        Entry { state, file: file.to_owned(), sha256: sha256.to_owned(), format: format.name().to_owned(), at }
    }
}

fn line_of(entry: &Entry) -> Result<Vec<u8>, Failure> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

fn parse(line: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let (crc, json) = text.split_once(' ').ok_or("no checksum")?;
    let stored = u32::from_str_radix(crc, 16).map_err(|_| "no checksum".to_owned())?;
    let computed = crc32fast::hash(json.as_bytes());
    if stored != computed {
        return Err(format!("checksum {stored:08x} stored, {computed:08x} computed"));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: State) -> Entry {
        Entry::new(state, "day.gz", "ab12", Format::Tardis)
    }

    #[test]
    fn what_a_crash_left_of_a_line_is_cut_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (root, venue) = (Root::new(dir.path()), Name::new("deribit").unwrap());
        let mut ledger = Ledger::read(&root, &venue).unwrap_or_else(|_| panic!("an empty one"));
        assert!(ledger.about("ab12").is_none());
        let place = Place { created_ns: 5, queue: [7; 16], seq: 9 };
        assert!(ledger.append(entry(State::Begun { before: Some(place) })).is_ok());
        assert!(ledger.append(entry(State::Done(Done { records: 3, ..Done::default() }))).is_ok());
        let whole = fs::read(&ledger.path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for len in first..=whole.len() {
            fs::write(&ledger.path, &whole[..len]).unwrap();
            let read = Ledger::read(&root, &venue).unwrap_or_else(|_| panic!("cut at {len}"));
            let is_done = matches!(read.about("ab12").map(|entry| &entry.state), Some(State::Done(_)));
            assert_eq!(is_done, len == whole.len(), "cut at {len}");
        }
        fs::write(&ledger.path, &whole[..whole.len() - 4]).unwrap();
        let mut read = Ledger::read(&root, &venue).unwrap_or_else(|_| panic!("a torn line"));
        let Some(State::Begun { before: Some(found) }) = read.about("ab12").map(|entry| entry.state.clone()) else {
            panic!()
        };
        assert_eq!((found.created_ns, found.queue, found.seq), (5, [7; 16], 9));
        assert!(read.append(entry(State::Done(Done::default()))).is_ok());
        assert!(Ledger::read(&root, &venue).is_ok());
        for at in 0..first - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&ledger.path, &bytes).unwrap();
            match Ledger::read(&root, &venue) {
                Err(Failure::Problem(why)) => assert!(why.contains("line 1 at byte 0"), "{why}"),
                // Of two case spellings of a hex digit, say.
                Ok(_) if at < 8 => {}
                _ => panic!("byte {at} changed unseen"),
            }
        }
    }
}
