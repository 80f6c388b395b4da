//! What was saved is there, what was to go is gone, and nobody's need is forgotten.
#![cfg(target_os = "linux")]

use chronicle_checkpoint::{Checkpoints, Cursor, Error, ErrorKind, Holder, MAX_NAME, NameError, Options};
use chronicle_platform_linux::Linux;
use std::{collections::BTreeMap, io, os::unix::fs::PermissionsExt, path::Path};

fn open(dir: &Path) -> Checkpoints<Linux> {
    Checkpoints::open(&Linux, dir, &Options::default()).unwrap()
}

/// `len` bytes that differ from one `salt` to another.
fn bytes(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ salt).collect()
}

#[test]
fn snapshots_of_any_length_come_back() {
    let dir = tempfile::tempdir().unwrap();
    const MIB: usize = 1 << 20;
    let lens = [0, 1, 4_000, MIB - 21, MIB - 20, MIB - 19, 3 * MIB + 7];
    let mut saved = Vec::new();
    {
        let checkpoints = Checkpoints::open(&Linux, dir.path(), &keep(100)).unwrap();
        for (seq, len) in lens.into_iter().enumerate() {
            let id = checkpoints.save("state", seq as u64, &bytes(len, seq as u8), &[]).unwrap();
            saved.push((id, len, seq));
        }
    }
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &keep(100)).unwrap();
    for (id, len, seq) in saved {
        let (checkpoint, snapshot) = checkpoints.read(id).unwrap();
        assert!(snapshot == bytes(len, seq as u8), "{len} bytes");
        assert_eq!((checkpoint.seq, checkpoint.len, checkpoint.id), (seq as u64, len as u64, id));
    }
}

fn keep(keep: u32) -> Options {
    let mut options = Options::default();
    options.keep = keep;
    options
}

#[test]
fn the_newest_of_each_state_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path());
    for seq in 1..=5 {
        checkpoints.save("a", seq, b"a", &[]).unwrap();
        checkpoints.save("b", seq * 10, b"b", &[]).unwrap();
    }
    let list: Vec<_> = checkpoints.list().unwrap().into_iter().map(|c| (c.state, c.seq)).collect();
    let expected = [("a", 4), ("b", 40), ("a", 5), ("b", 50)];
    assert_eq!(list, expected.map(|(state, seq)| (state.to_owned(), seq)));
    assert_eq!(checkpoints.latest("a").unwrap().unwrap().seq, 5);
    assert_eq!(checkpoints.latest("c").unwrap(), None);
    let id = checkpoints.latest("a").unwrap().unwrap().id;
    assert!(checkpoints.remove(id).unwrap() && !checkpoints.remove(id).unwrap());
    assert!(matches!(checkpoints.read(id), Err(Error::Unknown { .. })));
    assert_eq!(checkpoints.latest("a").unwrap().unwrap().seq, 4);
}

#[test]
fn state_and_cursor_are_saved_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path());
    checkpoints.save("sum", 10, b"55", &[("in", Cursor::elsewhere(1, 10, 320))]).unwrap();
    let failed = checkpoints.save_with("sum", &[("in", Cursor::elsewhere(1, 11, 352))], |out| {
        out.write_all(&bytes(3 << 20, 1))?;
        Err(io::Error::other("the application changed its mind"))
    });
    assert!(matches!(&failed, Err(Error::Application(error)) if error.to_string().contains("changed its mind")));
    drop(checkpoints);
    let checkpoints = open(dir.path());
    assert_eq!(checkpoints.cursor("in").unwrap(), Some(Cursor::elsewhere(1, 10, 320)));
    let newest = checkpoints.latest("sum").unwrap().unwrap();
    assert_eq!((newest.seq, checkpoints.read(newest.id).unwrap().1), (10, b"55".to_vec()));
}

/// Against a plain model: random saves, cursors and removals from a printed seed.
#[test]
fn the_need_is_the_oldest_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &keep(3)).unwrap();
    let mut random = Random(0x5eed);
    let mut states: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let mut cursors: BTreeMap<String, Cursor> = BTreeMap::new();
    assert_eq!(checkpoints.need().unwrap(), None);
    for step in 0..400 {
        let (name, seq) = (["a", "b", "c"][random.below(3)].to_owned(), random.below(1_000) as u64);
        match random.below(6) {
            0..=2 => {
                let id = checkpoints.save(&name, seq, b"", &[]).unwrap().0;
                let kept = states.entry(name).or_default();
                kept.push((id, seq));
                if kept.len() > 3 {
                    kept.remove(0);
                }
            }
            3 => {
                let cursor = if random.below(2) == 0 { Cursor::at(seq) } else { Cursor::elsewhere(1, seq, 0) };
                checkpoints.set_cursors(&[(&name, cursor)]).unwrap();
                cursors.insert(name, cursor);
            }
            4 => assert_eq!(checkpoints.remove_cursor(&name).unwrap(), cursors.remove(&name).is_some()),
            _ => {
                if let Some((id, _)) = states.get_mut(&name).and_then(|kept| (!kept.is_empty()).then(|| kept.remove(0)))
                {
                    assert!(checkpoints.remove(chronicle_checkpoint::CheckpointId(id)).unwrap());
                }
            }
        }
        let oldest = states.values().flatten().map(|(_, seq)| seq + 1);
        let oldest = oldest.chain(cursors.values().filter(|c| c.holds).map(|c| c.seq + 1)).min();
        assert_eq!(checkpoints.need().unwrap().map(|need| need.from), oldest, "step {step}");
        assert_eq!(checkpoints.cursors().unwrap(), cursors.clone().into_iter().collect::<Vec<_>>());
    }
    checkpoints.set_cursors(&[("slow", Cursor::at(0))]).unwrap();
    assert_eq!(checkpoints.need().unwrap().unwrap().holder, Holder::Cursor { name: "slow".into() });
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn names_and_options_from_outside_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path());
    for bad in ["", "..", "a b", "a\0b", &"n".repeat(MAX_NAME + 1)] {
        let refused = [
            checkpoints.save(bad, 1, b"", &[]).map(drop),
            checkpoints.save("good", 1, b"", &[(bad, Cursor::at(1))]).map(drop),
            checkpoints.set_cursors(&[(bad, Cursor::at(1))]),
            checkpoints.cursor(bad).map(drop),
            checkpoints.latest(bad).map(drop),
            checkpoints.remove_cursor(bad).map(drop),
        ];
        for result in refused {
            assert!(matches!(&result, Err(Error::Name(_))), "{bad}: {result:?}");
        }
    }
    assert!(checkpoints.list().unwrap().is_empty() && checkpoints.cursors().unwrap().is_empty());
    assert!(matches!(checkpoints.save("", 1, b"", &[]), Err(Error::Name(NameError::Empty))));
    for (max_len, keep) in [(4096, 2), (u64::MAX, 2), (1 << 30, 0)] {
        let mut options = Options::default();
        (options.max_len, options.keep) = (max_len, keep);
        let refused = Checkpoints::open(&Linux, &dir.path().join("other"), &options);
        assert!(matches!(refused, Err(Error::Options { .. })), "{refused:?}");
    }
}

#[test]
fn the_store_is_private_to_owner_and_group() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/checkpoints");
    let checkpoints = open(&dir);
    checkpoints.save("a", 1, b"", &[]).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir), 0o750);
    assert_eq!(mode(checkpoints.path()), 0o640);
    assert_eq!(mode(&dir.join("checkpoints.lock")), 0o600);
    let mut names: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["checkpoints.lock", "checkpoints.mdb"]);
}

#[test]
fn a_full_store_says_so_loses_nothing_and_opens_larger() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_len = 4 << 20;
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &options).unwrap();
    let first = checkpoints.save("a", 1, &bytes(1 << 20, 1), &[]).unwrap();
    let refused = checkpoints.save("a", 2, &bytes(8 << 20, 2), &[]).unwrap_err();
    assert!(refused.is_no_space() && refused.kind() == ErrorKind::Refusal);
    let text = refused.to_string();
    assert!(text.contains("4194304") && text.contains("max_len") && text.contains("remove"), "{text}");
    assert!(text.contains("checkpoints.mdb"), "{text}");
    // Nothing is lost, and what fits still fits.
    assert_eq!(checkpoints.read(first).unwrap().1, bytes(1 << 20, 1));
    checkpoints.set_cursors(&[("c", Cursor::at(1))]).unwrap();
    drop(checkpoints);
    options.max_len = 64 << 20;
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &options).unwrap();
    let second = checkpoints.save("a", 2, &bytes(8 << 20, 2), &[]).unwrap();
    assert_eq!(checkpoints.read(second).unwrap().1, bytes(8 << 20, 2));
    assert_eq!(checkpoints.read(first).unwrap().1, bytes(1 << 20, 1));
}

/// Pages of replaced checkpoints are used again: the file does not grow for ever.
#[test]
fn the_file_stays_within_a_few_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path());
    for seq in 0..40 {
        checkpoints.save("a", seq, &bytes(2 << 20, seq as u8), &[]).unwrap();
    }
    let len = checkpoints.path().metadata().unwrap().len();
    assert!(len < 12 << 20, "{len} bytes for 2 snapshots of 2 MiB");
}

#[test]
fn d_21_a_second_handle_and_another_process_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = open(dir.path());
    let refused = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap_err();
    assert!(matches!(&refused, Error::Locked { path } if path.ends_with("checkpoints.lock")), "{refused}");
    let status = std::process::Command::new("flock")
        .args(["--nonblock", "--conflict-exit-code", "9"])
        .arg(dir.path().join("checkpoints.lock"))
        .arg("true")
        .status();
    if let Ok(status) = status {
        assert_eq!(status.code(), Some(9), "the kernel's lock is held");
    }
    drop(checkpoints);
    open(dir.path());
}
