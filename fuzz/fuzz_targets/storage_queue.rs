//! A queue whose files somebody has written into: looking at it, verifying it, reading it and writing on never panics.
//!
//! The input is a choice and then patches of eight bytes: file u8, offset u16, kind u8, value u32. A queue with a few
//! segments, an index and a cursor is made, its writer leaves or dies, the patches are laid over its files, and
//! everybody who opens a queue opens it.
#![no_main]

use chronicle_core::Append;
use chronicle_fuzz::{choices, put_crc, put_segment_right};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::queue::{
    Profile, PublisherOptions, Queue, Start, SubscriberOptions, WakePolicy, describe, verify,
};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};

const DIR: &str = "/queue";

fn options() -> PublisherOptions {
    PublisherOptions {
        segment_len: 1024,
        max_bytes: 8 * 1024,
        helper: false,
        wake: WakePolicy::Fence,
        ..PublisherOptions::new(Profile::Raw)
    }
}

/// Files of the queue, segments last.
fn files(sim: &Sim) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in [DIR.into(), format!("{DIR}/readers"), format!("{DIR}/index")] {
        for entry in sim.list(Path::new(&dir)).unwrap_or_default() {
            files.push(Path::new(&dir).join(&entry.name));
        }
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending != "lock"));
    files.sort_by_key(|path| (path.extension().is_some_and(|ending| ending == "q"), path.clone()));
    files
}

fn put_right(path: &Path, bytes: &mut [u8]) {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("q") => put_segment_right(bytes),
        Some("idx") => {
            put_crc(bytes, 0, 60, 0);
            let salt = bytes.get(40..44).map_or(0, |salt| u32::from_le_bytes(salt.try_into().expect("four")));
            for at in (64..bytes.len()).step_by(32) {
                put_crc(bytes, at, at + 28, salt);
            }
        }
        _ => {
            put_crc(bytes, 0, 60, 0);
            let control = path.file_stem().is_some_and(|stem| stem == "control");
            let slots: &[(usize, usize)] =
                if control { &[(1024, 1020), (2048, 1020)] } else { &[(512, 60), (1024, 60), (1536, 60), (2048, 60)] };
            for (at, len) in slots {
                put_crc(bytes, *at, at + len, 0);
            }
        }
    }
}

fn patch(sim: &Sim, choice: u8, patches: &[u8]) {
    let files = files(sim);
    for patch in patches.chunks_exact(8) {
        let path = &files[usize::from(patch[0]) % files.len()];
        let Ok(file) = sim.open(path, Open::Write) else { continue };
        let len = file.len().unwrap_or(0);
        let offset = u64::from(u16::from_le_bytes([patch[1], patch[2]])) % (len + 1);
        match patch[3] % 8 {
            0 => drop(file.set_len(offset)),
            1 => drop(file.write_at(&patch[4..5], offset)),
            _ => drop(file.write_at(&patch[4..8], offset & !3)),
        }
        if choice & 1 == 1 {
            let mut bytes = vec![0; file.len().unwrap_or(0) as usize];
            let read = file.read_at(&mut bytes, 0).unwrap_or(0);
            put_right(path, &mut bytes[..read]);
            drop(file.write_at(&bytes[..read], 0));
        }
    }
}

fn look(sim: &Sim) {
    let dir = Path::new(DIR);
    let _ = describe(sim, dir);
    let _ = verify(sim, dir, &mut |_| {});
    for start in [Start::Earliest, Start::Seq(5), Start::Time(30), Start::Latest] {
        let options = SubscriberOptions { start, verify_reads: start == Start::Earliest, ..Default::default() };
        let Ok(mut reader) = Queue::observer(sim, dir, options) else { continue };
        for _ in 0..200 {
            match reader.next() {
                Ok(Some(frame)) => {
                    let mut payload = vec![0; frame.payload.len()];
                    frame.payload.copy_to(&mut payload);
                }
                Ok(None) => break,
                Err(error) if error.is_event() => {}
                Err(_) => break,
            }
        }
    }
    if let Ok(mut reader) = Queue::subscriber(sim, dir, "reader", SubscriberOptions::default()) {
        for _ in 0..200 {
            match reader.next() {
                Ok(Some(_)) => {}
                Err(error) if error.is_event() => {}
                Ok(None) | Err(_) => break,
            }
        }
        let _ = reader.commit();
    }
}

fuzz_target!(|data: &[u8]| {
    let (choice, patches) = choices(data);
    let first = Sim::new(7);
    let dir = Path::new(DIR);
    let mut queue = Queue::publisher(&first, dir, options()).expect("an empty disk");
    for n in 0..40u64 {
        let append = Append { time_ns: n * 2, type_id: 1, flags: 0 };
        if queue.append(append, &[7; 50][..n as usize]).is_err() {
            queue.maintain();
        }
    }
    if let Ok(mut reader) = Queue::subscriber(&first, dir, "reader", SubscriberOptions::default()) {
        for _ in 0..7 {
            let _ = reader.next();
        }
        let _ = reader.commit_durable();
    }
    // Closed, killed, or gone with its machine.
    let sim = match choice >> 1 & 3 {
        0 => {
            let _ = queue.close();
            first.start_process()
        }
        1 => {
            first.kill();
            drop(queue);
            first.start_process()
        }
        _ => {
            let _ = queue.sync();
            let next = first.crash();
            drop(queue);
            next
        }
    };
    patch(&sim, choice, &patches[..patches.len().min(64 * 8)]);
    look(&sim);
    if let Ok(mut queue) = Queue::publisher(&sim, dir, options()) {
        for n in 0..10 {
            if queue.append(Append { time_ns: 1000 + n, type_id: 1, flags: 0 }, b"after").is_err() {
                queue.maintain();
            }
        }
        let _ = queue.close();
        look(&sim);
    }
});
