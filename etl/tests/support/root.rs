//! A root on any platform: raw frames in through a real queue, partitions out, trees compared byte by byte.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chronicle_core::Append;
use chronicle_platform::{File, Open, Platform, TroubleKind};
use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
use chronicle_storage::recorder::{self, RECORDER};
use chronicle_storage::root::{Name, Root};

use crate::support::Raw;

pub(crate) fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// Appends raw frames to a venue's queue as an importer does: roll at the end, then the recorder.
pub(crate) fn append<P: Platform>(platform: &P, root: &Root, venue: &str, frames: &[Raw], segment_len: u32) {
    let venue = name(venue);
    let path = root.raw_queue(&venue);
    platform.create_dirs(&path).unwrap();
    let options = PublisherOptions {
        segment_len,
        max_bytes: u64::from(segment_len) * 8,
        helper: false,
        required: vec![RECORDER.to_owned()],
        ..PublisherOptions::new(Profile::Raw)
    };
    let mut publisher = Queue::publisher(platform, &path, options).unwrap();
    for frame in frames {
        let append = Append { time_ns: frame.ingest_ns, type_id: frame.type_id, flags: 0 };
        let mut tries = 0;
        while let Err(refused) = publisher.append(append, &frame.payload) {
            recorder::run(platform, root, &venue).unwrap();
            publisher.maintain();
            platform.sleep(Duration::from_millis(1));
            tries += 1;
            assert!(tries < 1_000, "{refused}");
        }
    }
    while publisher.roll().is_err() {
        recorder::run(platform, root, &venue).unwrap();
        publisher.maintain();
    }
    publisher.close().unwrap();
    recorder::run(platform, root, &venue).unwrap();
}

/// All files under a directory with their bytes, by their path in it.
pub(crate) fn tree<P: Platform>(platform: &P, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk<P: Platform>(platform: &P, top: &Path, dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        let entries = match platform.list(dir) {
            Ok(entries) => entries,
            Err(trouble) if trouble.kind() == TroubleKind::NotFound => return,
            Err(trouble) => panic!("{trouble}"),
        };
        for entry in entries {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                walk(platform, top, &path, into);
            } else {
                let file = platform.open(&path, Open::Read).unwrap();
                let mut bytes = vec![0; file.len().unwrap() as usize];
                assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
                into.insert(path.strip_prefix(top).unwrap().to_owned(), bytes);
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(platform, dir, dir, &mut files);
    files
}

/// The first difference of two trees, in words; nothing if they are equal.
pub(crate) fn difference(left: &BTreeMap<PathBuf, Vec<u8>>, right: &BTreeMap<PathBuf, Vec<u8>>) -> Option<String> {
    for path in left.keys().chain(right.keys()) {
        match (left.get(path), right.get(path)) {
            (Some(l), Some(r)) if l == r => {}
            (Some(l), Some(r)) => {
                let at = l.iter().zip(r).position(|(l, r)| l != r);
                return Some(format!("{}: {} and {} bytes, differ at {at:?}", path.display(), l.len(), r.len()));
            }
            (left, _) => {
                return Some(format!("{}: only {}", path.display(), if left.is_some() { "left" } else { "right" }));
            }
        }
    }
    None
}
