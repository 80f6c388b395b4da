//! A log whose files somebody has written into: looking at it, checking it, reading it, cutting it, opening it and writing on
//! never panics, and no record that was not appended ever appears.
//!
//! The input is a choice and then patches of eight bytes: file u8, offset u16, kind u8, value u32. Two logs of a few segments
//! are made; the writer of the first one leaves, dies or loses power, the patches are laid over its files, and everybody
//! who opens a log opens it. A patch of kind 2 copies a stretch of the other log, one of kind 3 a stretch of the same one,
//! as a late write would. With the choice's fourth bit the rest of the input is a segment.
#![no_main]

use chronicle_core::wal::Header;
use chronicle_fuzz::{choices, put_crc, put_wal_right};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::wal::{Options, ReaderOptions, Threads, Verify, Wal, WalReader, cut, inspect, plan_cut, verify};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};

const DIR: &str = "/log";
const OTHER: &str = "/other";
const RECORDS: u64 = 24;

fn options(verify: Verify) -> Options {
    Options {
        block_size: 512,
        batch_len: 1024,
        segment_len: 4096,
        depth: 2,
        carry_len: 128,
        spares: 1,
        threads: Threads::Callers,
        verify,
        ..Options::default()
    }
}

fn payload(log: &str, seq: u64) -> Vec<u8> {
    let first = log.as_bytes()[1];
    (0..seq * 29 % 300).map(|n| first ^ (seq + n) as u8).collect()
}

fn write(sim: &Sim, log: &str) -> Wal<Sim> {
    let (wal, _) = Wal::open(sim, log, &options(Verify::All)).expect("an empty disk");
    for seq in 1..=RECORDS {
        wal.append(&payload(log, seq)).expect("room");
        if seq % 3 != 0 {
            wal.commit(seq).expect("nothing fails");
        }
        if seq % 5 == 0 {
            wal.append_control(chronicle_core::wal::Kind::Vote, &seq.to_le_bytes()).expect("room");
        }
    }
    wal
}

fn segments(sim: &Sim, log: &str) -> Vec<PathBuf> {
    let entries = sim.list(Path::new(log)).unwrap_or_default();
    entries.into_iter().filter(|e| e.name.ends_with(".wal")).map(|e| Path::new(log).join(e.name)).collect()
}

fn bytes(sim: &Sim, path: &Path) -> Vec<u8> {
    let Ok(file) = sim.open(path, Open::Read) else { return Vec::new() };
    let mut bytes = vec![0; file.len().unwrap_or(0).min(1 << 16) as usize];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(read);
    bytes
}

/// Whether all patches copied what was there before.
fn patch(sim: &Sim, put_right: bool, patches: &[u8]) -> bool {
    let (ours, theirs) = (segments(sim, DIR), segments(sim, OTHER));
    let mut only_copies = !put_right;
    for patch in patches.chunks_exact(8) {
        if ours.is_empty() || theirs.is_empty() {
            break;
        }
        let path = &ours[usize::from(patch[0]) % ours.len()];
        let Ok(file) = sim.open(path, Open::Write) else { continue };
        let len = file.len().unwrap_or(0);
        let offset = u64::from(u16::from_le_bytes([patch[1], patch[2]])) % (len + 1);
        let copy = |from: &PathBuf| {
            let from = bytes(sim, from);
            let at = usize::from(u16::from_le_bytes([patch[4], patch[5]])).min(from.len());
            let end = (at + 512 * (1 + usize::from(patch[6] % 8))).min(from.len());
            drop(file.write_at(&from[at..end], offset & !511));
        };
        match patch[3] % 8 {
            0 => drop(file.set_len(offset)),
            1 => drop(file.write_at(&patch[4..5], offset)),
            2 => copy(&theirs[usize::from(patch[7]) % theirs.len()]),
            3 => copy(&ours[usize::from(patch[7]) % ours.len()]),
            4 => drop(sim.rename(path, &path.with_file_name(format!("{:020}.wal", patch[4])))),
            5 => drop(sim.remove(path)),
            _ => drop(file.write_at(&patch[4..8], offset & !3)),
        }
        // The tail's bytes alone make no record; a byte or a word may.
        only_copies &= matches!(patch[3] % 8, 0 | 2..=5);
        if put_right {
            let mut all = bytes(sim, path);
            put_crc(&mut all, 0, 124, 0);
            if let Ok(header) = Header::parse(&all) {
                put_wal_right(&mut all, &header);
            }
            drop(file.write_at(&all, 0));
        }
    }
    only_copies
}

fn look(sim: &Sim, authentic: bool) {
    let _ = inspect(sim, DIR);
    let _ = verify(sim, DIR, &mut |_| {});
    for (from, controls, unproven) in [(0, false, false), (1, true, true), (7, false, true)] {
        let Ok(mut reader) = WalReader::open(sim, DIR, from, ReaderOptions { controls, unproven }) else { continue };
        for _ in 0..500 {
            match reader.next() {
                Ok(Some(record)) => {
                    let is_data = record.kind == chronicle_core::wal::Kind::Data;
                    if authentic && is_data && record.seq <= RECORDS {
                        assert_eq!(record.payload, payload(DIR, record.seq), "record {}", record.seq);
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (choice, patches) = choices(data);
    let first = Sim::new(7);
    drop(write(&first, OTHER));
    let wal = write(&first, DIR);
    let sim = match choice >> 1 & 3 {
        0 => {
            let _ = wal.close();
            first.start_process()
        }
        1 => {
            let next = first.start_process();
            first.kill();
            drop(wal);
            next
        }
        _ => {
            let next = first.crash();
            drop(wal);
            next
        }
    };
    let authentic = if choice & 8 == 8 {
        let path = Path::new(DIR).join(format!("{:020}.wal", 1 + choice / 16));
        if let Ok(file) = sim.open(&path, Open::Ensure) {
            drop(file.set_len(0));
            drop(file.write_at(&patches[..patches.len().min(1 << 16)], 0));
        }
        false
    } else {
        patch(&sim, choice & 1 == 1, &patches[..patches.len().min(64 * 8)])
    };
    look(&sim, authentic);
    let tail = if choice & 32 == 32 { Verify::Tail } else { Verify::All };
    if Wal::open(&sim, DIR, &options(tail)).is_err()
        && let Ok(Some(plan)) = plan_cut(&sim, DIR)
    {
        let _ = cut(&sim, DIR, &plan);
    }
    if let Ok((wal, recovery)) = Wal::open(&sim, DIR, &options(Verify::All)) {
        let next = wal.append(b"after").expect("room");
        assert_eq!(next, recovery.next_seq);
        wal.commit(next).expect("nothing fails");
        drop(wal);
        let (wal, again) = Wal::open(&sim, DIR, &options(Verify::All)).expect("it was just recovered");
        assert_eq!(again.next_seq, next + 1);
        drop(wal);
        look(&sim, false);
    }
});
