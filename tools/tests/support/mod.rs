//! The real command, run as a user runs it, and the recordings that it is run on.
//!
//! Every test works in a directory of its own that is gone afterwards; what a command printed stands in the message of
//! every assertion. Random choices come from a seed that is printed and that `CHRONICLE_SEED` sets again.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_chronicle");

/// How a command ended and what it said.
pub(crate) struct Ran {
    pub(crate) what: String,
    /// `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\nstdout: {}\nstderr: {}", self.what, self.text(), self.err);
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.out) {
            Ok(value) => value,
            Err(error) => panic!("{}: not one JSON object: {error}\n{}", self.what, self.text()),
        }
    }

    /// Both streams hold the text between them.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let all = format!("{}\n{}", self.text(), self.err);
        assert!(all.contains(text), "{}: does not say \"{text}\":\n{all}", self.what);
        self
    }
}

/// Runs the command.
#[track_caller]
pub(crate) fn chronicle<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    run(Command::new(BINARY).args(arguments).stdin(Stdio::null()))
}

/// Runs it with text on its standard input.
#[track_caller]
pub(crate) fn chronicle_fed<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may have had enough before the end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the command ends");
    writer.join().expect("the writer ends");
    ran(&command, output)
}

#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the command starts");
    ran(command, output)
}

fn ran(command: &Command, output: std::process::Output) -> Ran {
    Ran {
        what: format!("{command:?}"),
        code: output.status.code(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The recordings that are too large for this repository; `None`, said aloud, where they are not beside it.
pub(crate) fn recordings() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no recordings at {}", dir.display());
    None
}

/// The recording that lies in this repository.
pub(crate) fn excerpt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/binance-spot/ethusdt-20240808-excerpt.gz")
}

/// Whether a program is there; if not, says what is skipped.
pub(crate) fn has_program(name: &str, probe: &str) -> bool {
    let there = Command::new(name)
        .arg(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: `{name} {probe}` does not work here");
    }
    there
}

/// A directory that is gone when the test ends.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("chronicle-test-").tempdir().expect("a temporary directory")
}

/// Imports into a root and refines.
#[track_caller]
pub(crate) fn import(root: &Path, venue: &str, files: &[PathBuf]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(["import", "--venue", venue, "--json", "--root"]).arg(root).args(files).stdin(Stdio::null());
    run(&mut command)
}

#[track_caller]
pub(crate) fn refine(root: &Path, more: &[&str]) -> Ran {
    run(Command::new(BINARY).args(["refine", "--json", "--root"]).arg(root).args(more).stdin(Stdio::null()))
}

/// A command about one symbol of a root.
#[track_caller]
pub(crate) fn about(command: &str, root: &Path, venue: &str, symbol: &str, more: &[&str]) -> Ran {
    let mut child = Command::new(BINARY);
    child.args([command, "--venue", venue, "--symbol", symbol, "--root"]).arg(root).args(more).stdin(Stdio::null());
    run(&mut child)
}

#[track_caller]
pub(crate) fn verify(path: &Path) -> Ran {
    run(Command::new(BINARY).arg("verify").arg(path).stdin(Stdio::null()))
}

/// Unpacks a gzip file.
#[track_caller]
pub(crate) fn gunzip(path: &Path) -> Vec<u8> {
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text).expect("a whole gzip file");
    text
}

/// All files under a directory with their bytes, by path within it.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: &Path, top: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, top, found);
            } else {
                let name = path.strip_prefix(top).expect("it lies under it").to_owned();
                found.insert(name, fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

/// Two trees are the same files with the same bytes.
#[track_caller]
pub(crate) fn assert_same(what: &str, left: &BTreeMap<PathBuf, Vec<u8>>, right: &BTreeMap<PathBuf, Vec<u8>>) {
    let names = |tree: &BTreeMap<PathBuf, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(left), names(right), "{what}: other files");
    for (name, bytes) in left {
        let other = &right[name];
        let at = bytes.iter().zip(other).position(|(a, b)| a != b).unwrap_or(bytes.len().min(other.len()));
        assert!(bytes == other, "{what}: {} differs from byte {at} on", name.display());
    }
}

/// Copies a tree.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory to copy") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small generator of numbers, from a seed that is printed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        let seed = std::env::var("CHRONICLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(fresh);
        eprintln!("CHRONICLE_SEED={seed}");
        Random(seed | 1)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
