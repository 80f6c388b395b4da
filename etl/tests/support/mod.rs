//! What the tests of this crate share: recordings as raw frames, golden files, and a sink in memory.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use chronicle_core::Append;
use chronicle_etl::book::Book;
use chronicle_etl::refinery::{Place, RawFrame, Refinery, Sink};
use chronicle_feed::{Venue, import};
use chronicle_protocol::{Record, Source};
use chronicle_storage::root::{Date, Name, Stream};

/// A file of the recordings, or nothing, said aloud.
pub(crate) fn shared(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("skipped: {} is not there ({error})", path.display());
            None
        }
    }
}

/// A golden file's text.
pub(crate) fn golden(name: &str) -> Option<String> {
    let bytes = shared(&format!("golden/{name}.csv.gz"))?;
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    Some(text)
}

/// One raw frame with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) ingest_ns: u64,
    pub(crate) type_id: u16,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) fn of(record: &Record<'_>, ingest_ns: u64) -> Self {
        let mut payload = vec![0; record.encoded_len()];
        record.encode(&mut payload).unwrap();
        Self { ingest_ns, type_id: record.type_id(), payload }
    }

    pub(crate) fn frame(&self) -> RawFrame<'_> {
        RawFrame { ingest_ns: self.ingest_ns, type_id: self.type_id, payload: &self.payload }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        Record::parse(self.type_id, &self.payload).unwrap()
    }
}

/// The raw frames that importing a recorded file gives: its source, then its records.
pub(crate) fn imported(venue: &str, name: &str, bytes: &[u8]) -> Vec<Raw> {
    let venue: Venue = venue.parse().unwrap();
    let mut frames = Vec::new();
    let report = import(venue, name, bytes, |parsed| {
        frames.push(Raw { ingest_ns: parsed.ingest_ns, type_id: parsed.type_id, payload: parsed.payload.to_vec() });
        Ok::<(), Infallible>(())
    })
    .unwrap();
    let mut sha256 = [0; 32];
    for (byte, pair) in sha256.iter_mut().zip(report.sha256.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    let source = Record::Source(Source { head: Default::default(), sha256: Some(sha256), name });
    frames.insert(0, Raw::of(&source, frames.first().map_or(0, |f| f.ingest_ns)));
    frames
}

/// The raw frames of some of the recordings, one file after the other; `None` if they are not there.
pub(crate) fn recordings(venue: &str, files: &[&str]) -> Option<Vec<Raw>> {
    // Several tests use the same file; reading one takes longer than refining it.
    static READ: Mutex<BTreeMap<String, Arc<Vec<Raw>>>> = Mutex::new(BTreeMap::new());
    let mut frames = Vec::new();
    for file in files {
        let mut read = READ.lock().unwrap();
        if !read.contains_key(*file) {
            let name = file.rsplit('/').next().unwrap();
            read.insert((*file).to_owned(), Arc::new(imported(venue, name, &shared(file)?)));
        }
        frames.extend_from_slice(&read[*file]);
    }
    Some(frames)
}

/// A clean frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    pub(crate) time_ns: u64,
    pub(crate) flags: u16,
    pub(crate) type_id: u16,
    pub(crate) payload: Vec<u8>,
}

impl Clean {
    pub(crate) fn record(&self) -> Record<'_> {
        Record::parse(self.type_id, &self.payload).unwrap()
    }
}

/// Partitions in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) partitions: BTreeMap<Place, Vec<Clean>>,
    pub(crate) sealed: Vec<Place>,
}

impl Sink for Memory {
    type Error = Infallible;

    fn append(&mut self, place: Place, frame: Append, payload: &[u8]) -> Result<(), Infallible> {
        assert!(!self.sealed.contains(&place), "{place:?} was sealed");
        let Append { time_ns, type_id, flags } = frame;
        let clean = Clean { time_ns, flags, type_id, payload: payload.to_vec() };
        self.partitions.entry(place).or_default().push(clean);
        Ok(())
    }

    fn seal(&mut self, place: Place) -> Result<(), Infallible> {
        assert!(!self.sealed.contains(&place), "{place:?} was sealed");
        assert!(self.partitions.contains_key(&place), "{place:?} has no frames");
        self.sealed.push(place);
        Ok(())
    }
}

impl Memory {
    pub(crate) fn get(&self, symbol: u32, date: &str, stream: Stream) -> &[Clean] {
        let place = Place { symbol, date: date.parse().unwrap(), stream };
        self.partitions.get(&place).map_or(&[], |frames| frames)
    }
}

pub(crate) fn refinery(venue: &str) -> Refinery {
    Refinery::new(Name::new(venue).unwrap())
}

pub(crate) fn refined(venue: &str, frames: &[Raw]) -> (Refinery, Memory) {
    let (mut refinery, mut memory) = (refinery(venue), Memory::default());
    for frame in frames {
        refinery.frame(frame.frame(), &mut memory).unwrap();
    }
    (refinery, memory)
}

pub(crate) fn date(text: &str) -> Date {
    text.parse().unwrap()
}

pub(crate) fn csv(book: &Book) -> String {
    let mut out = Vec::new();
    book.write_csv(&mut out, usize::MAX).unwrap();
    String::from_utf8(out).unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
