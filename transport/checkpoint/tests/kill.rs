//! A program that is killed while it saves: every checkpoint that it was told of is there.
//!
//! The test binary runs itself again as a program that saves in a loop and prints what was acknowledged, and is killed at
//! random moments. `CHECKPOINT_KILL_ROUNDS` sets how often.
#![cfg(target_os = "linux")]

use chronicle_checkpoint::{Checkpoints, Cursor, Options};
use chronicle_platform_linux::Linux;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const DIR: &str = "CHECKPOINT_KILL_DIR";

/// What the state is after frame `seq`: it names its seq, and its length changes.
fn snapshot(seq: u64) -> Vec<u8> {
    let len = 1_000 + (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 45) as usize;
    seq.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// The program: goes on from what it finds.
fn child(dir: &Path) {
    let checkpoints = Checkpoints::open(&Linux, dir, &Options::default()).unwrap();
    let mut seq = checkpoints.latest("state").unwrap().map_or(0, |newest| newest.seq);
    let mut out = std::io::stdout().lock();
    loop {
        seq += 1;
        checkpoints.save("state", seq, &snapshot(seq), &[("in", Cursor::elsewhere(1, seq * 2, seq * 64))]).unwrap();
        writeln!(out, "saved {seq}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn every_acknowledged_checkpoint_survives_its_writer() {
    if let Some(dir) = std::env::var_os(DIR) {
        return child(Path::new(&dir));
    }
    let rounds: u32 = std::env::var("CHECKPOINT_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut ahead) = (0_u64, 0);
    for round in 0..rounds {
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "every_acknowledged_checkpoint_survives_its_writer", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        // Some saves, then a moment that falls anywhere in the next ones.
        for _ in 0..1 + round % 5 {
            let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains("saved ")).unwrap();
            acknowledged = line.rsplit(' ').next().unwrap().parse().unwrap();
        }
        std::thread::sleep(Duration::from_micros(u64::from(round) * 977 % 9_000));
        program.kill().unwrap();
        program.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(seq) = line.strip_prefix("saved ").and_then(|seq| seq.parse().ok()) {
                acknowledged = seq;
            }
        }
        let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
        let newest = checkpoints.latest("state").unwrap().unwrap();
        assert!(newest.seq >= acknowledged, "acknowledged {acknowledged}, found {}", newest.seq);
        assert!(newest.seq <= acknowledged + 1, "one save was under way: {acknowledged}, found {}", newest.seq);
        ahead += newest.seq - acknowledged;
        acknowledged = newest.seq;
        for listed in checkpoints.list().unwrap() {
            let (checkpoint, bytes) = checkpoints.read(listed.id).unwrap();
            assert!(bytes == snapshot(checkpoint.seq), "checkpoint {} is not what was saved", checkpoint.id);
        }
        // Exactly once: state and place never part.
        let cursor = Cursor::elsewhere(1, newest.seq * 2, newest.seq * 64);
        assert_eq!(checkpoints.cursor("in").unwrap(), Some(cursor));
    }
    println!("{rounds} kills, {acknowledged} checkpoints, {ahead} durable before they were told of");
}
