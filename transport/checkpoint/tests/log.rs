//! Checkpoints and the log they stand in: what is cut is nobody's need any more, and what is recovered is all there was.
#![cfg(target_os = "linux")]

use chronicle_checkpoint::{CheckpointId, Checkpoints, Cursor, Error, ErrorKind, Options};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_storage::wal::{self, CommitError, ReaderOptions, Wal, WalReader};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

fn memory_or_disk() -> tempfile::TempDir {
    match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

/// Segments of a few dozen frames, so that cutting shows.
fn small(durable_seq: u64) -> wal::Options {
    wal::Options { segment_len: 64 << 10, batch_len: 16 << 10, durable_seq, ..wal::Options::default() }
}

fn open(dir: &Path, keep: u32) -> (Checkpoints<Linux>, Wal<Linux>) {
    let mut options = Options::default();
    options.keep = keep;
    let checkpoints = Checkpoints::open(&Linux, &dir.join("checkpoints"), &options).unwrap();
    let durable_seq = checkpoints.durable_seq().unwrap();
    let (wal, _) = Wal::open(&Linux, dir.join("wal"), &small(durable_seq)).unwrap();
    (checkpoints, wal)
}

fn payload(seq: u64) -> Vec<u8> {
    let mut bytes = seq.to_le_bytes().to_vec();
    bytes.resize(1_000, seq as u8);
    bytes
}

/// Appends `count` frames and commits them; the last seq.
fn append(wal: &Wal<Linux>, count: u64) -> u64 {
    for _ in 0..count {
        let next = wal.next_seq();
        assert_eq!(wal.append(&payload(next)).unwrap(), next);
    }
    let last = wal.next_seq() - 1;
    wal.commit(last).unwrap();
    last
}

/// The oldest frame that the log has.
fn first(wal: &Wal<Linux>) -> u64 {
    WalReader::open(&Linux, wal.dir(), 0, ReaderOptions::default()).unwrap().next_seq()
}

/// The log retires in the background: waits until it has what it was asked for.
fn until(what: &str, done: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_checkpoint_cuts_the_log_and_recovery_goes_on_from_it() {
    let dir = memory_or_disk();
    let (checkpoints, wal) = open(dir.path(), 1);
    append(&wal, 400);
    assert_eq!(first(&wal), 1);
    checkpoints.checkpoint(&wal, "state", 400, b"of 400", &[]).unwrap();
    until("the log is cut", || first(&wal) > 300);
    assert!(first(&wal) <= 401);
    append(&wal, 5);
    drop((checkpoints, wal));

    let (checkpoints, wal) = open(dir.path(), 1);
    let mut recovered = checkpoints.recover(&wal, "state").unwrap();
    assert_eq!((recovered.checkpoint.unwrap().seq, &recovered.snapshot[..]), (400, &b"of 400"[..]));
    for seq in 401..=405 {
        let record = recovered.tail.next().unwrap().unwrap();
        assert_eq!((record.seq, record.payload), (seq, &payload(seq)[..]));
    }
    assert!(recovered.tail.next().unwrap().is_none());
    // And on, live.
    append(&wal, 1);
    assert_eq!(recovered.tail.next().unwrap().unwrap().seq, 406);
}

#[test]
fn a_state_without_a_checkpoint_begins_with_the_log() {
    let dir = memory_or_disk();
    let (checkpoints, wal) = open(dir.path(), 1);
    append(&wal, 3);
    let mut recovered = checkpoints.recover(&wal, "state").unwrap();
    assert!(recovered.checkpoint.is_none() && recovered.snapshot.is_empty());
    assert_eq!(recovered.tail.next().unwrap().unwrap().seq, 1);
    let unknown = checkpoints.recover(&wal, CheckpointId(77)).unwrap_err();
    assert!(matches!(unknown, Error::Unknown { id: CheckpointId(77), .. }));
}

/// D-9: what supersedes the frames is durable before they go, so whatever fails before leaves the log whole.
#[test]
fn d_9_nothing_is_cut_for_a_checkpoint_that_was_not_made() {
    let dir = memory_or_disk();
    let mut options = Options::default();
    (options.keep, options.max_len) = (1, 2 << 20);
    let checkpoints = Checkpoints::open(&Linux, &dir.path().join("checkpoints"), &options).unwrap();
    let (wal, _) = Wal::open(&Linux, dir.path().join("wal"), &small(0)).unwrap();
    append(&wal, 400);
    let failed = [
        checkpoints.checkpoint(&wal, "state", 400, &vec![0; 4 << 20], &[]).unwrap_err(),
        checkpoints.checkpoint(&wal, "..", 400, b"", &[]).unwrap_err(),
        checkpoints.checkpoint_with(&wal, "state", &[], |_| Err(io::Error::other("no"))).unwrap_err(),
        checkpoints.checkpoint(&wal, "state", 401, b"", &[]).unwrap_err(),
        checkpoints.checkpoint(&wal, "state", 400, b"", &[("ahead", Cursor::at(402))]).unwrap_err(),
    ];
    assert!(failed[0].is_no_space());
    for (error, seq) in [(&failed[3], 401), (&failed[4], 402)] {
        let source = CommitError::NotAppended { seq, next: 401 };
        assert!(matches!(error, Error::NotDurable { source: s, .. } if *s == source), "{error}");
    }
    assert_eq!(checkpoints.need().unwrap(), None);
    assert_eq!(checkpoints.truncate(&wal).unwrap(), None);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(first(&wal), 1);
    // A crash between the checkpoint and the cut: the cut comes later, nothing is lost.
    checkpoints.save("state", 350, b"s", &[]).unwrap();
    drop((checkpoints, wal));
    let (checkpoints, wal) = open(dir.path(), 1);
    assert_eq!(first(&wal), 1);
    assert_eq!(checkpoints.truncate(&wal).unwrap().unwrap().from, 351);
    until("the log is cut", || first(&wal) > 250);
    assert_eq!(checkpoints.recover(&wal, "state").unwrap().tail.next().unwrap().unwrap().seq, 351);
}

/// Random states, cursors and cuts against a plain model: whoever is kept can go on.
#[test]
fn d_9_the_cut_never_passes_the_oldest_need() {
    let dir = memory_or_disk();
    let keep = 2;
    let (mut checkpoints, mut wal) = open(dir.path(), keep);
    let mut random = 0x5eed_u64;
    let mut below = move |n: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % n
    };
    let mut states: BTreeMap<&str, Vec<(CheckpointId, u64)>> = BTreeMap::new();
    let mut cursors: BTreeMap<&str, u64> = BTreeMap::new();
    let mut last = append(&wal, 10);
    // The newest need that was ever the oldest one: where the log may have been cut to.
    let mut cut = 1;
    for step in 0..150 {
        let name = ["a", "b", "c"][below(3) as usize];
        match below(8) {
            0..=2 => last = append(&wal, 1 + below(60)),
            // Not before what may be gone: that is the application's to know.
            3..=5 => {
                let seq = cut - 1 + below(last + 2 - cut);
                let id = checkpoints.checkpoint(&wal, name, seq, &seq.to_le_bytes(), &[]).unwrap();
                let kept = states.entry(name).or_default();
                kept.push((id, seq));
                if kept.len() > keep as usize {
                    kept.remove(0);
                }
            }
            6 => {
                let seq = cut - 1 + below(last + 2 - cut);
                checkpoints.set_cursors(&[(name, Cursor::at(seq))]).unwrap();
                checkpoints.truncate(&wal).unwrap();
                cursors.insert(name, seq);
            }
            _ => {
                if below(2) == 0 {
                    checkpoints.remove_cursor(name).unwrap();
                    cursors.remove(name);
                    checkpoints.truncate(&wal).unwrap();
                } else {
                    drop((checkpoints, wal));
                    (checkpoints, wal) = open(dir.path(), keep);
                }
            }
        }
        let needs = states.values().flatten().map(|(_, seq)| seq + 1).chain(cursors.values().map(|seq| seq + 1));
        cut = needs.min().unwrap_or(1).max(cut);
        for &(id, seq) in states.values().flatten() {
            let mut recovered = checkpoints.recover(&wal, id).unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert_eq!(recovered.snapshot, seq.to_le_bytes());
            goes_on(&mut recovered.tail, seq, last);
        }
        for &seq in cursors.values() {
            goes_on(&mut WalReader::open(&Linux, wal.dir(), seq + 1, ReaderOptions::default()).unwrap(), seq, last);
        }
        assert!(first(&wal) <= cut, "step {step}: cut to {}, needed from {cut}", first(&wal));
    }
    assert!(first(&wal) > 1, "nothing was ever cut");
}

fn goes_on(tail: &mut WalReader<Linux>, seq: u64, last: u64) {
    let next = tail.next().unwrap().map(|record| (record.seq, record.payload.to_vec()));
    assert_eq!(next, (seq < last).then(|| (seq + 1, payload(seq + 1))));
}

#[test]
fn a_missing_tail_is_an_error_with_both_numbers() {
    let dir = memory_or_disk();
    let (checkpoints, wal) = open(dir.path(), 2);
    append(&wal, 400);
    let id = checkpoints.save("state", 50, b"of 50", &[]).unwrap();
    wal.truncate_before(390);
    until("the log is cut", || first(&wal) > 300);
    let first_seq = first(&wal);
    for error in [checkpoints.recover(&wal, "state").unwrap_err(), checkpoints.recover(&wal, id).unwrap_err()] {
        assert!(matches!(error, Error::TailMissing { seq: 50, first_seq: f, .. } if f == first_seq), "{error}");
        assert_eq!(error.kind(), ErrorKind::Damage);
        let text = error.to_string();
        assert!(
            text.contains("of frame 50") && text.contains(&format!("begins with frame {first_seq}, not 51")),
            "{text}"
        );
    }
    // A state that lost its checkpoints must not be built from the middle of its log.
    let error = checkpoints.recover(&wal, "other").unwrap_err();
    assert!(matches!(error, Error::TailMissing { seq: 0, .. }), "{error}");
    assert!(error.to_string().contains("no checkpoint"), "{error}");
}

#[test]
fn a_log_that_lost_frames_or_is_another_one_is_refused() {
    let dir = memory_or_disk();
    let (checkpoints, wal) = open(dir.path(), 2);
    append(&wal, 20);
    checkpoints.checkpoint(&wal, "state", 20, b"", &[("slow", Cursor::at(5))]).unwrap();
    assert_eq!(checkpoints.durable_seq().unwrap(), 20);
    checkpoints.save("state", 30, b"", &[]).unwrap();
    let error = checkpoints.recover(&wal, "state").unwrap_err();
    assert!(matches!(error, Error::LogBehind { seq: 30, last: 20, .. }), "{error}");
    drop(wal);

    let (other, _) = Wal::open(&Linux, dir.path().join("other"), &small(0)).unwrap();
    append(&other, 40);
    for error in [
        checkpoints.checkpoint(&other, "state", 40, b"", &[]).unwrap_err(),
        checkpoints.recover(&other, "state").unwrap_err(),
        checkpoints.truncate(&other).unwrap_err(),
    ] {
        assert!(matches!(error, Error::OtherLog { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Refusal);
    }
    drop(other);
    // The checkpoints know what the log had durable: one that lost it is damaged, not torn.
    let refused = Wal::open(&Linux, dir.path().join("wal"), &small(checkpoints.durable_seq().unwrap()));
    assert!(refused.is_err());
}

/// The state of the killed program: folds every payload.
fn fold(state: u64, payload: &[u8]) -> u64 {
    payload.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

const DIR: &str = "CHECKPOINT_LOG_KILL_DIR";

fn recovered(checkpoints: &Checkpoints<Linux>, wal: &Wal<Linux>) -> (u64, u64) {
    let mut recovered = checkpoints.recover(wal, "fold").unwrap();
    let mut seq = recovered.checkpoint.map_or(0, |checkpoint| checkpoint.seq);
    let mut state = recovered.snapshot.try_into().map_or(0, u64::from_le_bytes);
    while let Some(record) = recovered.tail.next().unwrap() {
        assert_eq!(record.seq, seq + 1);
        (seq, state) = (record.seq, fold(state, record.payload));
    }
    (seq, state)
}

fn child(dir: &Path) {
    let (checkpoints, wal) = open(dir, 2);
    let (_, mut state) = recovered(&checkpoints, &wal);
    let mut out = io::stdout().lock();
    loop {
        let seq = wal.append(&payload(wal.next_seq())).unwrap();
        state = fold(state, &payload(seq));
        wal.commit(seq).unwrap();
        if seq.is_multiple_of(40) {
            checkpoints.checkpoint(&wal, "fold", seq, &state.to_le_bytes(), &[]).unwrap();
        }
        writeln!(out, "durable {seq}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_program_killed_anywhere_finds_all_that_was_durable() {
    if let Some(dir) = std::env::var_os(DIR) {
        return child(Path::new(&dir));
    }
    let rounds: u64 = std::env::var("CHECKPOINT_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let dir = memory_or_disk();
    let (mut known, mut state, mut checkpoints_made) = (0, 0, 0);
    for round in 0..rounds {
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_program_killed_anywhere_finds_all_that_was_durable", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map_while(Result::ok);
        let durable = |line: String| line.rsplit_once("durable ").and_then(|(_, seq)| seq.parse::<u64>().ok());
        for _ in 0..50 + round * 7 % 60 {
            acknowledged = lines.by_ref().find_map(durable).unwrap();
        }
        std::thread::sleep(Duration::from_micros(round * 977 % 5_000));
        program.kill().unwrap();
        program.wait().unwrap();
        acknowledged = lines.filter_map(durable).last().unwrap_or(acknowledged);

        let (checkpoints, wal) = open(dir.path(), 2);
        let (seq, found) = recovered(&checkpoints, &wal);
        assert!(seq >= acknowledged, "acknowledged {acknowledged}, found {seq}");
        for seq in known + 1..=seq {
            state = fold(state, &payload(seq));
        }
        assert_eq!(found, state, "snapshot and tail make another state than frames 1 to {seq}");
        known = seq;
        checkpoints_made = checkpoints.latest("fold").unwrap().map_or(0, |newest| newest.id.0);
        assert!(first(&wal) <= checkpoints.need().unwrap().map_or(1, |need| need.from));
    }
    println!("{rounds} kills, {known} frames, checkpoints up to number {checkpoints_made}");
}
