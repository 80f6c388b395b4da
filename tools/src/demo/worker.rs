//! A part of the demo as a process: started, watched, told to finish, killed.
//!
//! A part writes JSON lines to its standard output: `{"progress": n}` while it works and `{"told": …}` once at its
//! end. It reads its standard input: a line `finish`, or the end of it, which means that the demo is gone.

use super::{PATIENCE, Place};
use crate::run::{Failure, Outcome};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<T> {
    Progress(u64),
    Told(T),
}

/// A running part.
pub(crate) struct Worker {
    part: String,
    child: Child,
    input: Option<ChildStdin>,
    progress: Arc<AtomicU64>,
    told: Arc<Mutex<Option<serde_json::Value>>>,
    errors: Arc<Mutex<String>>,
    threads: Vec<JoinHandle<()>>,
    bar: ProgressBar,
}

impl Worker {
    pub(crate) fn start(
        part: &str,
        place: &Place,
        more: &[&str],
        bar: ProgressBar,
        stop: &AtomicBool,
    ) -> Result<Self, Failure> {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::told());
        }
        let mut child = Command::new(std::env::current_exe()?)
            .args(["demo-part", part])
            .args(place.arguments())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let progress = Arc::new(AtomicU64::new(0));
        let told = Arc::new(Mutex::new(None));
        let errors = Arc::new(Mutex::new(String::new()));
        let mut threads = Vec::new();
        if let Some(output) = child.stdout.take() {
            let (progress, told, bar) = (progress.clone(), told.clone(), bar.clone());
            threads.push(std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    match serde_json::from_str(&line) {
                        Ok(Line::Progress(n)) => {
                            progress.store(n, Ordering::Relaxed);
                            bar.set_position(n);
                        }
                        Ok(Line::Told(value)) => *told.lock().unwrap_or_else(|e| e.into_inner()) = Some(value),
                        Err(_) => {}
                    }
                }
            }));
        }
        if let Some(output) = child.stderr.take() {
            let errors = errors.clone();
            threads.push(std::thread::spawn(move || {
                let mut text = String::new();
                let _ = output.take(1 << 16).read_to_string(&mut text);
                *errors.lock().unwrap_or_else(|e| e.into_inner()) = text;
            }));
        }
        let input = child.stdin.take();
        Ok(Worker { part: part.to_owned(), child, input, progress, told, errors, threads, bar })
    }

    /// What it said of its progress last.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Whether it has told its result.
    pub(crate) fn is_done(&self) -> bool {
        self.told.lock().unwrap_or_else(|e| e.into_inner()).is_some()
    }

    /// Waits for something that other processes bring about.
    pub(crate) fn wait_until(&self, stop: &AtomicBool, mut happened: impl FnMut() -> bool) -> Outcome {
        let began = Instant::now();
        while !happened() {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::told());
            }
            if began.elapsed() > PATIENCE {
                return Err(Failure::Problem(format!("{} made no progress in {} s", self.part, PATIENCE.as_secs())));
            }
            self.bar.tick();
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(crate) fn tell(&mut self, line: &str) -> Outcome {
        if let Some(input) = &mut self.input {
            // A part that has just died says why when it is waited for.
            let _ = writeln!(input, "{line}");
        }
        Ok(())
    }

    /// SIGKILL, now.
    pub(crate) fn kill(mut self) -> Result<u32, Failure> {
        let pid = self.child.id();
        if let Some(status) = self.child.try_wait()? {
            let errors = self.errors.lock().unwrap_or_else(|e| e.into_inner());
            return Err(Failure::Problem(format!("{} ended by itself ({status}): {}", self.part, errors.trim())));
        }
        self.child.kill()?;
        self.child.wait()?;
        self.bar.finish_with_message("killed");
        Ok(pid)
    }

    /// Waits for its end and returns what it told.
    pub(crate) fn finish<T: DeserializeOwned>(mut self, stop: &AtomicBool) -> Result<T, Failure> {
        let mut quiet_since = Instant::now();
        let mut before = self.progress();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if self.progress() != before {
                before = self.progress();
                quiet_since = Instant::now();
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::told());
            }
            if quiet_since.elapsed() > PATIENCE {
                return Err(Failure::Problem(format!("{} made no progress in {} s", self.part, PATIENCE.as_secs())));
            }
            self.bar.tick();
            std::thread::sleep(Duration::from_millis(5));
        };
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let told = self.told.lock().unwrap_or_else(|e| e.into_inner()).take();
        match told {
            Some(value) if status.success() => {
                self.bar.finish_with_message("done");
                serde_json::from_value(value)
                    .map_err(|error| Failure::Problem(format!("{} told something else: {error}", self.part)))
            }
            _ => {
                let errors = self.errors.lock().unwrap_or_else(|e| e.into_inner());
                Err(Failure::Problem(format!("{} failed ({status}): {}", self.part, errors.trim())))
            }
        }
    }
}

impl Drop for Worker {
    /// Nothing outlives the demo.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a part: what the demo says to it.
pub(crate) struct Ears {
    finish: Arc<AtomicBool>,
}

impl Ears {
    /// Listens; leaves the process when the demo is gone.
    pub(crate) fn open() -> Self {
        let finish = Arc::new(AtomicBool::new(false));
        let told = finish.clone();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if line == "finish" {
                    told.store(true, Ordering::Release);
                }
            }
            std::process::exit(3);
        });
        Ears { finish }
    }

    pub(crate) fn finish_was_told(&self) -> bool {
        self.finish.load(Ordering::Acquire)
    }
}

/// In a part: a number that is shown to the demo ten times a second, off the thread that does the work.
pub(crate) struct Mouth {
    progress: Arc<AtomicU64>,
}

impl Mouth {
    pub(crate) fn open() -> Self {
        let progress = Arc::new(AtomicU64::new(0));
        let shown = progress.clone();
        std::thread::spawn(move || {
            let mut last = 0;
            loop {
                std::thread::sleep(Duration::from_millis(100));
                let now = shown.load(Ordering::Relaxed);
                if now != last {
                    last = now;
                    say(&Line::<()>::Progress(now));
                }
            }
        });
        Mouth { progress }
    }

    pub(crate) fn progress(&self, n: u64) {
        self.progress.store(n, Ordering::Relaxed);
    }

    pub(crate) fn tell<T: Serialize>(&self, told: T) {
        say(&Line::<()>::Progress(self.progress.load(Ordering::Relaxed)));
        say(&Line::Told(told));
    }
}

fn say<T: Serialize>(line: &Line<T>) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}

/// Writes (seq, ns) pairs for [`super::times`].
pub(crate) fn write_times(path: &Path, times: &[(u64, u64)]) -> Outcome {
    let mut bytes = Vec::with_capacity(times.len() * 16);
    for (seq, at) in times {
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    std::fs::write(path, bytes)?;
    Ok(())
}
