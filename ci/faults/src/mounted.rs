//! A disk that fails, mounted, as a test holds it.

use crate::control::{Counts, Fault, Survival};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A mounted disk, served by another process until this is dropped.
#[derive(Debug)]
pub struct Mounted {
    child: Child,
    pipes: Mutex<(Option<ChildStdin>, BufReader<ChildStdout>)>,
    root: PathBuf,
    path: PathBuf,
}

/// A disk, empty and healthy; where FUSE is missing that is said on standard error, whatever a test harness captures, and
/// there is none. With `CHRONICLE_FUSE=must` in the environment it is a panic instead.
///
/// `server` is the program `faultfs`: `env!("CARGO_BIN_EXE_faultfs")`.
///
/// # Panics
///
/// If FUSE is there and the server does not start.
#[must_use]
pub fn mounted(server: &str) -> Option<Mounted> {
    match Mounted::start(server) {
        Ok(disk) => Some(disk),
        Err(why) if std::env::var("CHRONICLE_FUSE").is_ok_and(|must| must == "must") => panic!("no FUSE: {why}"),
        Err(why) => {
            _ = writeln!(std::io::stderr(), "SKIPPED: no FUSE file system can be mounted here: {why}");
            None
        }
    }
}

impl Mounted {
    fn start(server: &str) -> Result<Mounted, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|error| format!("/dev/fuse: {error}"))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("chronicle-faults-{}-{number}", process::id()));
        fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let mut child = Command::new(server)
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{server}: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let mut disk = Mounted { child, pipes: Mutex::new((stdin, stdout)), path: PathBuf::new(), root };
        match disk.read_answer() {
            Ok(path) => {
                disk.path = path.into();
                Ok(disk)
            }
            Err(_) => {
                let mut why = String::new();
                if let Some(stderr) = disk.child.stderr.take() {
                    _ = BufReader::new(stderr).read_line(&mut why);
                }
                Err(why.trim_end().into())
            }
        }
    }

    fn read_answer(&self) -> Result<String, String> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut pipes.1)
    }

    fn ask(&self, command: &str) -> String {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = pipes.0.as_mut().expect("taken only by drop");
        writeln!(stdin, "{command}").unwrap_or_else(|error| panic!("faultfs: {command}: {error}"));
        read(&mut pipes.1).unwrap_or_else(|why| panic!("faultfs: {command}: {why}"))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on this goes wrong, besides what already does.
    pub fn fault(&self, fault: &Fault) {
        self.ask(&format!("fault {fault}"));
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.ask("clear");
    }

    /// What it was asked so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ask("counts").parse().unwrap_or_else(|why| panic!("faultfs: counts: {why}"))
    }

    /// Room for so many bytes from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.ask(&format!("capacity {bytes}"));
    }

    /// The power goes: whatever is asked of the mounted disk from now on fails with `EIO`.
    pub fn cut(&self) {
        self.ask("cut");
    }

    /// Where a disk is mounted that has what is left if the power goes now, or was left when it went. Each call makes
    /// another one, which works until `self` is dropped.
    #[must_use]
    pub fn survivor(&self, seed: u64, survival: Survival) -> PathBuf {
        self.ask(&format!("survivor {seed} {}", survival.word())).into()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The end of its input is the server's end: it takes its mounts along. A killed one would leave them behind.
        self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner).0.take();
        let end = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                _ = self.child.kill();
                _ = self.child.wait();
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        for at in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            _ = fs::remove_dir(at.path());
        }
        _ = fs::remove_dir(&self.root);
    }
}

fn read(out: &mut BufReader<ChildStdout>) -> Result<String, String> {
    let mut line = String::new();
    match out.read_line(&mut line) {
        Ok(0) => Err("the server ended".into()),
        Ok(_) => match line.trim_end().split_once(' ') {
            Some(("ok", text)) => Ok(text.into()),
            _ if line.trim_end() == "ok" => Ok(String::new()),
            _ => Err(line.trim_end().into()),
        },
        Err(error) => Err(error.to_string()),
    }
}
