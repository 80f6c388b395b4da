//! A store's file that lost or changed bytes: an error with the way out, or the state of an earlier commit. Never a panic, a
//! signal, or bytes that nobody saved.
//!
//! The faults are made on the file itself, between two opens: one bit of every byte that LMDB follows, samples of every
//! other, pages exchanged, the file cut, a meta page torn. A wild pointer would end the test's process.
#![cfg(target_os = "linux")]

use chronicle_checkpoint::{Checkpoints, Cursor, Error, ErrorKind, Options};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use std::{collections::BTreeSet, fs, path::Path};
use tempfile::TempDir;

const FILE: &str = "checkpoints.mdb";
const PAGE: usize = 4096;

fn memory_or_disk() -> TempDir {
    match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

fn bytes(len: usize, salt: u64) -> Vec<u8> {
    (0..len as u64).map(|at| ((at ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Everything a program can see of a store.
#[derive(Clone, Debug, PartialEq)]
struct View {
    states: Vec<(u64, String, u64, Vec<u8>)>,
    cursors: Vec<(String, Cursor)>,
}

fn view(checkpoints: &Checkpoints<Linux>) -> Result<View, Error> {
    let states = checkpoints.list()?.into_iter().map(|listed| {
        let (checkpoint, snapshot) = checkpoints.read(listed.id)?;
        Ok((checkpoint.id.0, checkpoint.state, checkpoint.seq, snapshot))
    });
    Ok(View { states: states.collect::<Result<_, Error>>()?, cursors: checkpoints.cursors()? })
}

/// A store after some life, so that it has a branch page, overflow runs and a free list, and its view at the last two commits.
struct Store {
    bytes: Vec<u8>,
    /// Before the last commit.
    before: View,
    last: View,
}

fn store() -> Store {
    let dir = memory_or_disk();
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
    let names: Vec<_> = (0..120).map(|at| format!("consumer-with-a-long-name-{at:04}")).collect();
    for round in 0..6 {
        let cursors: Vec<_> = names.iter().map(|name| (name.as_str(), Cursor::at(round * 7))).collect();
        checkpoints.set_cursors(&cursors).unwrap();
        checkpoints.save("book", round * 10, &bytes(40_000, round), &[]).unwrap();
        checkpoints.save("small", round * 10, &bytes(100, round), &[]).unwrap();
    }
    let before = view(&checkpoints).unwrap();
    checkpoints.save("book", 100, &bytes(30_000, 99), &[(&names[5], Cursor::at(100))]).unwrap();
    let last = view(&checkpoints).unwrap();
    drop(checkpoints);
    Store { bytes: fs::read(dir.path().join(FILE)).unwrap(), before, last }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Outcome {
    Refused,
    /// Opened, and a record's checksum was wrong.
    Found,
    Last,
    Before,
}

/// Opens a file of these bytes, looks at everything, writes, and looks again.
fn outcome(dir: &Path, store: &Store, content: &[u8], what: &str) -> Outcome {
    fs::write(dir.join(FILE), content).unwrap();
    let checkpoints = match Checkpoints::open(&Linux, dir, &Options::default()) {
        Ok(checkpoints) => checkpoints,
        Err(error) => {
            assert!(matches!(error, Error::Damage { .. } | Error::Version { .. }), "{what}: {error}");
            assert!(error.to_string().contains(FILE), "{error}");
            return Outcome::Refused;
        }
    };
    let seen = match view(&checkpoints) {
        Ok(seen) => seen,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damage, "{what}: {error}");
            return Outcome::Found;
        }
    };
    // LMDB goes on from what was believed: reuses pages, splits and merges.
    for round in 0..3 {
        checkpoints.save("book", 200 + round, &bytes(50_000, round), &[("new", Cursor::at(round))]).unwrap();
    }
    view(&checkpoints).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(checkpoints);
    let again = Checkpoints::open(&Linux, dir, &Options::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
    view(&again).unwrap_or_else(|error| panic!("{what}: {error}"));
    match () {
        () if seen == store.last => Outcome::Last,
        () if seen == store.before => Outcome::Before,
        () => panic!(
            "{what}: something that nobody saved: {:?}",
            seen.states.iter().map(|s| (s.0, s.2)).collect::<Vec<_>>()
        ),
    }
}

#[test]
fn every_page_flipped_is_found_or_meant_nothing() {
    let store = store();
    let dir = memory_or_disk();
    let mut seen = BTreeSet::new();
    let mut tried = 0;
    for page in 0..store.bytes.len() / PAGE {
        // The head of every page, and where slots and nodes are dense.
        let dense = if page < 2 { 0..160 } else { 0..64 };
        let sparse = (64..PAGE).step_by(149).chain(PAGE - 8..PAGE);
        for at in dense.chain(sparse) {
            for bit in [0, 3, 7] {
                let mut content = store.bytes.clone();
                content[page * PAGE + at] ^= 1 << bit;
                seen.insert(outcome(dir.path(), &store, &content, &format!("page {page}, byte {at}, bit {bit}")));
                tried += 1;
            }
        }
    }
    println!("{tried} flips in {} pages: {seen:?}", store.bytes.len() / PAGE);
    // A flip in a free page or a page's gap means nothing; one in a tree is refused; one in a snapshot is found.
    assert!(seen.contains(&Outcome::Refused) && seen.contains(&Outcome::Found) && seen.contains(&Outcome::Last));
}

#[test]
fn pages_that_are_exchanged_zeroed_or_noise_are_found() {
    let store = store();
    let dir = memory_or_disk();
    let pages = store.bytes.len() / PAGE;
    let range = |page: usize| page * PAGE..(page + 1) * PAGE;
    for page in 0..pages {
        for (what, replacement) in [("zeros", vec![0; PAGE]), ("ones", vec![0xff; PAGE]), ("noise", bytes(PAGE, 4))] {
            let mut content = store.bytes.clone();
            content[range(page)].copy_from_slice(&replacement);
            outcome(dir.path(), &store, &content, &format!("{what} in page {page}"));
        }
        for other in 0..pages {
            let mut content = store.bytes.clone();
            content.copy_within(range(other), page * PAGE);
            outcome(dir.path(), &store, &content, &format!("page {other} in place of {page}"));
            // With the number put right: what a page of another time, or of another file, looks like.
            if page >= 2 && other >= 2 {
                content[page * PAGE..page * PAGE + 8].copy_from_slice(&(page as u64).to_le_bytes());
                fs::write(dir.path().join(FILE), &content).unwrap();
                // Old pages may be whole: nothing is asked of the view but that it is one.
                if let Ok(checkpoints) = Checkpoints::open(&Linux, dir.path(), &Options::default()) {
                    _ = view(&checkpoints);
                    _ = checkpoints.save("book", 1, &bytes(50_000, 1), &[]);
                    _ = view(&checkpoints);
                }
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_or_is_none_is_refused() {
    let store = store();
    let dir = memory_or_disk();
    for len in (0..store.bytes.len()).step_by(511) {
        let outcome = outcome(dir.path(), &store, &store.bytes[..len], &format!("cut to {len}"));
        // The end of the file may be free pages.
        assert!(outcome == Outcome::Refused || len > store.bytes.len() / 2, "{len}: {outcome:?}");
    }
    for (content, expected) in [
        (&b"not a database at all"[..], "too short"),
        (&[7; 3 * PAGE][..], "no meta page"),
        (&[0; 8 * PAGE][..], "no meta page"),
    ] {
        fs::write(dir.path().join(FILE), content).unwrap();
        let error = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap_err();
        assert!(matches!(&error, Error::Damage { previous: false, .. }));
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains("restore") && text.contains(FILE), "{text}");
    }
}

#[test]
fn another_version_is_named() {
    let store = store();
    let dir = memory_or_disk();
    let mut content = store.bytes.clone();
    content[20] = 2;
    fs::write(dir.path().join(FILE), &content).unwrap();
    let error = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Version { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().ends_with("LMDB data version 2, this program knows 1"), "{error}");
}

/// D-17: LMDB's two meta pages are the slots. A commit writes one of them, 120 bytes from its byte 32 on, after its data is
/// synced. Whatever part of these bytes a crash leaves, there is the last commit, or the one before, or an error that
/// names the way to the one before.
#[test]
fn d_17_a_torn_slot_leaves_the_other() {
    const FROM: usize = 32;
    const TO: usize = 152;
    let dir = memory_or_disk();
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
    for round in 0..7 {
        checkpoints.save("book", round, &bytes(9_000, round), &[("c", Cursor::at(round))]).unwrap();
    }
    let before = view(&checkpoints).unwrap();
    drop(checkpoints);
    let old = fs::read(dir.path().join(FILE)).unwrap();
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
    checkpoints.save("book", 100, &bytes(8_000, 100), &[("c", Cursor::at(100))]).unwrap();
    let last = view(&checkpoints).unwrap();
    drop(checkpoints);
    let new = fs::read(dir.path().join(FILE)).unwrap();
    let txn = |bytes: &[u8], page: usize| u64::from_le_bytes(bytes[page * PAGE + 144..][..8].try_into().unwrap());
    let slot = usize::from(txn(&new, 1) > txn(&new, 0)) * PAGE;
    let store = Store { bytes: new.clone(), before, last };
    // The data of the new commit, with a slot of which only these bytes arrived.
    let torn = |arrived: &dyn Fn(usize) -> bool| {
        let mut content = new.clone();
        for at in (FROM..TO).filter(|&at| !arrived(at)) {
            content[slot + at] = old[slot + at];
        }
        content
    };
    // From the front, as memory is copied; the number of the transaction comes last.
    for end in FROM..=TO {
        let content = torn(&|at| at < end);
        let expected =
            if txn(&content, slot / PAGE) == txn(&new, slot / PAGE) { Outcome::Last } else { Outcome::Before };
        assert_eq!(outcome(dir.path(), &store, &content, &format!("{end} bytes arrived")), expected);
    }
    // Any part, in words: what no disk with sectors of 512 bytes does.
    let (mut refused, mut random) = (0, 0x5eed_u64);
    for _ in 0..2_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let content = torn(&|at| random >> ((at - FROM) / 4 + 8) & 1 == 1);
        if outcome(dir.path(), &store, &content, "some words arrived") == Outcome::Refused {
            refused += 1;
            fs::write(dir.path().join(FILE), &content).unwrap();
            let error = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap_err();
            assert!(matches!(&error, Error::Damage { previous: true, .. }), "{error}");
            assert!(error.to_string().contains("option previous opens it"), "{error}");
            let mut options = Options::default();
            options.previous = true;
            let checkpoints = Checkpoints::open(&Linux, dir.path(), &options).unwrap();
            assert!(checkpoints.fell_back().is_some() && view(&checkpoints).unwrap() == store.before);
            drop(checkpoints);
            // Said once: the damaged commit was replaced.
            let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
            assert!(checkpoints.fell_back().is_none() && view(&checkpoints).unwrap() == store.before);
        }
    }
    assert!(refused > 100, "{refused} of 2000 torn slots were seen through");
}

/// A snapshot's bytes are under a checksum: the error names the checkpoint, the place and an older one.
#[test]
fn a_damaged_snapshot_is_named_with_the_way_out() {
    let dir = memory_or_disk();
    let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
    let older = checkpoints.save("book", 1, &bytes(9_000, 1), &[]).unwrap();
    // Deep in its second chunk.
    let marker = b"a place that occurs once";
    let mut snapshot = bytes(2 << 20, 2);
    snapshot[(1 << 20) + 50_000..][..marker.len()].copy_from_slice(marker);
    let newer = checkpoints.save("book", 2, &snapshot, &[]).unwrap();
    drop(checkpoints);
    let path = dir.path().join(FILE);
    let mut content = fs::read(&path).unwrap();
    let at = content.windows(marker.len()).position(|window| window == marker).unwrap();
    content[at] ^= 0x10;
    fs::write(&path, &content).unwrap();

    let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
    let error = checkpoints.read(newer).unwrap_err();
    assert!(
        matches!(&error, Error::DamagedCheckpoint { id, older: Some(o), .. } if *id == newer && *o == older),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        &format!("checkpoint {newer}: snapshot at 1048556: checksum stored 0x"),
        &format!("checkpoint {older} is older: recover it, or remove {newer}"),
    ] {
        assert!(text.contains(part.as_str()), "{text}");
    }
    assert_eq!(checkpoints.read(older).unwrap().1, bytes(9_000, 1));
    assert!(checkpoints.remove(newer).unwrap());
    assert_eq!(checkpoints.latest("book").unwrap().unwrap().id, older);
}

/// A crash while the store is made leaves a file under the other name, of any content: it is made anew.
#[test]
fn d_8_a_store_that_was_half_made_is_made_again() {
    for leftover in [&b""[..], &[0; 100], &[0xff; 3 * PAGE]] {
        let dir = memory_or_disk();
        fs::write(dir.path().join("checkpoints.tmp"), leftover).unwrap();
        let checkpoints = Checkpoints::open(&Linux, dir.path(), &Options::default()).unwrap();
        checkpoints.save("a", 1, b"x", &[]).unwrap();
        assert!(!dir.path().join("checkpoints.tmp").exists());
    }
}
