//! Files of a queue that somebody, or something, has changed.
//!
//! Whatever the bytes: no panic, no hang, no reading beyond. What a checksum covers is named with file and offset; what
//! none can cover (the unused rest of a segment, hints) changes nothing that is read.

use chronicle_core::Append;
use chronicle_platform::{Entry, File, Lock, Open, Platform, sim::Sim};
use chronicle_storage::{
    Error,
    queue::{
        Profile, PublisherOptions, Queue, ReadError, Start, SubscriberOptions, describe, layout::META_LEN, verify,
    },
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 8192, max_bytes: 20 * 8192, helper: false, ..PublisherOptions::new(Profile::Raw) }
}

const FRAMES: u64 = 400;

/// A queue of several segments, closed; a cursor in its middle.
fn queue(sim: &Sim) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new("/origin");
    let mut queue = Queue::publisher(sim, dir, options()).unwrap();
    for n in 1..=FRAMES {
        let append = Append { time_ns: n, type_id: 3, flags: 0 };
        queue.append_wait(append, &n.to_le_bytes().repeat(1 + (n % 20) as usize), Duration::from_secs(1)).unwrap();
        if n == FRAMES / 2 {
            let mut reader = Queue::subscriber(sim, dir, "middle", SubscriberOptions::default()).unwrap();
            while reader.next().unwrap().is_some() {}
            reader.commit_durable().unwrap();
        }
    }
    queue.maintain();
    queue.close().unwrap();
    let mut files = Vec::new();
    collect(sim, dir, dir, &mut files);
    files
}

fn collect(sim: &Sim, root: &Path, dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for Entry { name, is_dir } in sim.list(dir).unwrap() {
        let path = dir.join(name);
        if is_dir {
            collect(sim, root, &path, files);
        } else {
            let file = sim.open(&path, Open::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            files.push((path.strip_prefix(root).unwrap().to_owned(), bytes));
        }
    }
}

/// The queue with one file changed, on a machine of its own.
fn place(files: &[(PathBuf, Vec<u8>)], changed: &Path, bytes: Option<&[u8]>, boot: &Sim) -> PathBuf {
    let dir = PathBuf::from("/changed");
    boot.create_dirs(&dir.join("readers")).unwrap();
    boot.create_dirs(&dir.join("index")).unwrap();
    for (path, original) in files {
        let content = if path == changed { bytes } else { Some(&original[..]) };
        let path = dir.join(path);
        if boot.exists(&path).unwrap() {
            boot.remove(&path).unwrap();
        }
        if let Some(content) = content {
            let file = boot.open(&path, Open::Create).unwrap();
            file.allocate(content.len() as u64).unwrap();
            file.write_at(content, 0).unwrap();
        }
    }
    dir
}

/// Does everything that can be done with a queue; what went wrong, as people would read it.
fn use_it(sim: &Sim, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |what: &str, error: &dyn std::fmt::Display| found.push(format!("{what}: {error}"));
    verify(sim, dir, &mut |problem| note("problem", &problem)).map(drop).unwrap_or_else(|error| note("verify", &error));
    describe(sim, dir).map(drop).unwrap_or_else(|error| note("describe", &error));
    for start in [Start::Earliest, Start::Cursor, Start::Latest, Start::Seq(FRAMES - 3), Start::Time(FRAMES / 3)] {
        let options = SubscriberOptions { start, verify_reads: true, ..SubscriberOptions::default() };
        let mut reader = match Queue::subscriber(sim, dir, "middle", options) {
            Ok(reader) => reader,
            Err(error) => {
                note("subscriber", &error);
                continue;
            }
        };
        let mut count = 0;
        let mut last = 0;
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    assert!(frame.seq > last, "backwards");
                    last = frame.seq;
                    assert_eq!(frame.payload.u64_at(0), Some(frame.seq), "a wrong frame passed for a right one");
                }
                Ok(None) => break,
                Err(error) if error.is_event() => note("event", &error),
                Err(error) => {
                    note("read", &error);
                    break;
                }
            }
            count += 1;
            assert!(count < 10 * FRAMES, "reading does not end");
        }
        reader.commit().unwrap();
    }
    match Queue::publisher(sim, dir, options()) {
        Ok(mut queue) => {
            let seq = queue.append_wait(Append::default(), &[1; 8], Duration::from_secs(1)).unwrap();
            if seq <= FRAMES {
                note("publisher", &format!("seq {seq} again"));
            }
            queue.close().map(drop).unwrap_or_else(|error| note("close", &error));
        }
        Err(error) => note("publisher", &error),
    }
    found
}

#[test]
fn an_untouched_queue_has_no_problems() {
    let sim = Sim::new(1);
    let files = queue(&sim);
    assert_eq!(use_it(&sim, &place(&files, Path::new(""), None, &sim)), Vec::<String>::new());
}

/// Where a segment's frames end: what a checksum covers.
fn used(bytes: &[u8]) -> usize {
    let mut at = 128;
    loop {
        let commit = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        match commit {
            0 => return at,
            0x8000_0000 => return at + 32,
            claimed => at += (claimed as usize - 1 + 32).next_multiple_of(32),
        }
    }
}

#[test]
fn s_7_s_10_s_15_flipped_bits_are_found_or_change_nothing() {
    let origin = Sim::new(2);
    let files = queue(&origin);
    let mut missed = Vec::new();
    for (path, bytes) in &files {
        let name = path.to_string_lossy().into_owned();
        let segment = name.ends_with(".q");
        let sealed = segment && bytes[124..128] != [0; 4];
        let begun = segment && bytes[88..92] != [0; 4];
        let step = if segment { 13 } else { 7 };
        for at in (0..bytes.len().min(2600)).step_by(step) {
            let sim = Sim::new(3);
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let dir = place(&files, path, Some(&changed), &sim);
            let found = use_it(&sim, &dir);
            // Late fields of an ended segment are computed again where they are torn, and so are not "found".
            let late = (80..128).contains(&at);
            let covered = sealed && begun && !late && at < used(bytes);
            if covered && !found.iter().any(|found| found.contains(&name) && found.contains("offset")) {
                missed.push(format!("{name} byte {at}: {found:?}"));
            }
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn s_8_short_empty_and_zeroed_files_are_refused_or_made_good() {
    let origin = Sim::new(4);
    let files = queue(&origin);
    for (path, bytes) in &files {
        let name = path.to_string_lossy().into_owned();
        let mut changes: Vec<(String, Option<Vec<u8>>)> = vec![("removed".into(), None)];
        for len in [0, 1, 63, 64, 127, 128, 129, 160, 512, 1023, 4095] {
            changes.push((format!("cut to {len}"), bytes.get(..len).map(<[u8]>::to_vec)));
        }
        changes.push(("zeroed".into(), Some(vec![0; bytes.len()])));
        changes.push(("all ones".into(), Some(vec![0xff; bytes.len()])));
        for from in [64, 128, 512, 1024, 2048] {
            let mut part = bytes.clone();
            part.iter_mut().skip(from).for_each(|byte| *byte = 0);
            changes.push((format!("zeroed from {from}"), Some(part)));
        }
        changes.push(("longer".into(), Some([&bytes[..], &[0xaa; 5000]].concat())));
        for (change, content) in changes {
            let sim = Sim::new(5);
            let dir = place(&files, path, content.as_deref(), &sim);
            let found = use_it(&sim, &dir);
            // One slot of two is enough.
            let slot = change == "longer" || change == "zeroed from 2048";
            let must = name.ends_with("control.meta") && !slot && content.is_some()
                || name == "00000000000000000002.q" && change.starts_with("cut")
                || name.ends_with("middle.meta") && (change.starts_with("cut") || change == "zeroed");
            assert!(!must || found.iter().any(|found| found.contains(&name)), "{name} {change}: {found:?}");
        }
    }
}

#[test]
fn another_queues_files_are_told_apart() {
    let sim = Sim::new(6);
    let files = queue(&sim);
    let dir = place(&files, Path::new(""), None, &sim);
    let other = Path::new("/other");
    let mut queue = Queue::publisher(&sim, other, options()).unwrap();
    queue.append(Append::default(), &1u64.to_le_bytes()).unwrap();
    queue.close().unwrap();
    // Its cursor: told once, then from the start.
    let cursor = sim.open(&dir.join("readers/middle.meta"), Open::Read).unwrap();
    let mut bytes = vec![0; META_LEN];
    cursor.read_at(&mut bytes, 0).unwrap();
    sim.create_dirs(&other.join("readers")).unwrap();
    let copy = sim.open(&other.join("readers/middle.meta"), Open::Create).unwrap();
    copy.write_at(&bytes, 0).unwrap();
    let mut reader = Queue::subscriber(&sim, other, "middle", SubscriberOptions::default()).unwrap();
    assert!(matches!(reader.next(), Err(ReadError::Reset { epoch: 0 })));
    assert_eq!(reader.next().unwrap().unwrap().seq, 1);
    drop(reader);
    // Its segment.
    let name = "00000000000000000001.q";
    let file = sim.open(&dir.join(name), Open::Read).unwrap();
    let mut bytes = vec![0; 8192];
    file.read_at(&mut bytes, 0).unwrap();
    sim.open(&other.join(name), Open::Write).unwrap().write_at(&bytes, 0).unwrap();
    let error = Queue::publisher(&sim, other, options()).unwrap_err();
    assert!(matches!(error, Error::Damage { .. }) && error.to_string().contains("queue_id"), "{error}");
    assert_eq!(error.offset(), Some(24));
}

#[test]
fn a_segment_that_stays_locked_is_told_after_a_second() {
    let sim = Sim::new(7);
    let dir = Path::new("/q");
    let mut queue = Queue::publisher(&sim, dir, options()).unwrap();
    let options = SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    let mut reader = Queue::observer(&sim, dir, options).unwrap();
    queue.append(Append::default(), &[1]).unwrap();
    queue.roll().unwrap();
    queue.append(Append::default(), &[2]).unwrap();
    let holder = sim.open(&dir.join("00000000000000000002.q"), Open::Read).unwrap();
    assert!(holder.try_lock(Lock::Exclusive).unwrap());
    assert!(reader.next().unwrap().is_some());
    assert!(reader.next().unwrap().is_none());
    sim.advance(Duration::from_millis(999));
    assert!(reader.next().unwrap().is_none());
    sim.advance(Duration::from_millis(2));
    let error = reader.next().unwrap_err();
    assert!(matches!(&error, ReadError::Busy { path } if path.ends_with("00000000000000000002.q")), "{error}");
    holder.unlock().unwrap();
    assert_eq!(reader.next().unwrap().unwrap().seq, 2);
}
