//! A writer that is killed at any moment leaves a whole prefix with everything in it that it said was written, and the
//! next writer goes on behind it.
//!
//! The test binary runs itself again as the writer. SIGKILL keeps the page cache: this is not a power cut.
#![cfg(target_os = "linux")]

use chronicle_platform_linux::Linux;
use chronicle_storage::eventlog::{EventHeader, MmapReader, MmapWriter, Options};
use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

const FILE: &str = "EVENTLOG_KILL_FILE";
const OPTIONS: Options =
    Options { capacity: 1 << 16, max_bytes: 1 << 30, step: 1 << 18, checksums: true, helper: true };

fn payload(seq: u64) -> Vec<u8> {
    (0..seq % 90).map(|at| (seq.wrapping_mul(0x9e37_79b9) >> (at % 32)) as u8).collect()
}

/// Not a test of its own: what a child does.
#[test]
fn a_child_writes() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let path = PathBuf::from(path);
    let mut log = if path.exists() {
        MmapWriter::open_with(&Linux, &path, OPTIONS).unwrap()
    } else {
        MmapWriter::create_with(&Linux, &path, OPTIONS).unwrap()
    };
    println!("\nwritten {}", log.event_count());
    for batch in 0_u64.. {
        for _ in 0..batch % 7 {
            let seq = log.event_count();
            let payload = payload(seq);
            log.stage(&EventHeader::new(seq, 1, payload.len() as u16), &payload).unwrap();
        }
        log.commit();
        if batch % 64 == 0 {
            let mut out = std::io::stdout().lock();
            writeln!(out, "written {}", log.event_count()).unwrap();
        }
    }
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_prefix() {
    let rounds = std::env::var("CHRONICLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25_u64);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.evtl");
    let (mut all, mut before) = (0, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_child_writes", "--exact", "--nocapture", "--test-threads=1"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("written") {
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended by itself");
        }
        // From at once to well into growing.
        std::thread::sleep(Duration::from_micros(round * round * 37 % 9_000));
        child.kill().unwrap();
        let written = |line: &str| line.strip_prefix("written ").and_then(|count| count.trim().parse::<u64>().ok());
        let said = out.lines().map_while(Result::ok).filter(|line| !line.is_empty());
        // The last line may be cut short, and a number with it: smaller, never larger.
        let said = said.filter_map(|line| written(&line)).max().or(written(&line)).unwrap();
        child.wait().unwrap();

        let reader = MmapReader::open_on(&Linux, &path).unwrap();
        let mut seq = 0;
        let count = reader
            .replay(|event| {
                let mut found = vec![0; event.payload.len()];
                event.payload.copy_to(&mut found);
                assert_eq!((event.header.timestamp, found), (seq, payload(seq)), "round {round}");
                seq += 1;
            })
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(count >= said && count >= before, "round {round}: {count} events, {said} said to be written");
        let log =
            MmapWriter::open_with(&Linux, &path, OPTIONS).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(log.event_count(), count, "round {round}");
        before = count;
        all += 1;
        // Short enough to be read over again and again.
        if log.write_offset() > 16 << 20 {
            drop(log);
            std::fs::remove_file(&path).unwrap();
            before = 0;
        }
    }
    assert_eq!(all, rounds);
}
