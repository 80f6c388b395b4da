//! The demo's parts as processes: started, watched, told to finish, killed.
//!
//! A part writes JSON lines to its standard output: `{"progress": n}` while it works, `{"holding": n}` when it stands
//! still to be killed there, and `{"told": …}` once at its end. It reads its standard input: a line `finish`, or the end of it, which means that the demo is gone.

use super::{Place, Screen};
use crate::run::{Failure, Outcome};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a part may take to do anything at all before the demo gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<T> {
    Progress(u64),
    /// Stands still for its SIGKILL, so far into its work.
    Holding(u64),
    Told(T),
}

/// The parts that the demo has started. Whichever of them is waited for, all are watched: the first that fails ends the
/// wait, with what it said.
pub(crate) struct Crew<'a> {
    place: &'a Place,
    screen: &'a Screen,
    stop: &'a AtomicBool,
    parts: Vec<Part>,
}

/// One part of a crew.
#[derive(Clone, Copy)]
pub(crate) struct Id(usize);

struct Part {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    heard: Arc<Heard>,
    threads: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
    bar: ProgressBar,
}

/// What a part has said so far.
#[derive(Default)]
struct Heard {
    progress: AtomicU64,
    holding: OnceLock<u64>,
    told: OnceLock<serde_json::Value>,
    errors: OnceLock<String>,
}

impl<'a> Crew<'a> {
    pub(crate) fn new(place: &'a Place, screen: &'a Screen, stop: &'a AtomicBool) -> Self {
        Crew { place, screen, stop, parts: Vec::new() }
    }

    pub(crate) fn start(&mut self, part: &str, more: &[&str]) -> Result<Id, Failure> {
        self.look()?;
        // Two parts of a kind are told apart by the reader's name.
        let name = match more {
            ["--reader", reader, ..] => format!("{part} {reader}"),
            _ => part.to_owned(),
        };
        let bar = self.screen.bar(&name);
        self.parts.push(Part::start(part, name, self.place, more, bar)?);
        Ok(Id(self.parts.len() - 1))
    }

    fn part(&mut self, id: Id) -> &mut Part {
        &mut self.parts[id.0]
    }

    /// What a part said of its progress last.
    pub(crate) fn progress(&self, id: Id) -> u64 {
        self.parts[id.0].heard.progress.load(Ordering::Relaxed)
    }

    /// A part's result, once it has told it.
    pub(crate) fn told<T: DeserializeOwned>(&self, id: Id) -> Option<T> {
        self.parts[id.0].heard.told.get().and_then(|told| T::deserialize(told).ok())
    }

    /// Where in its work a part stands still to be killed, if it does.
    pub(crate) fn holding(&self, id: Id) -> Option<u64> {
        self.parts[id.0].heard.holding.get().copied()
    }

    /// Whether anything calls for an end: an interrupt, or a part that failed.
    fn look(&mut self) -> Outcome {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::told());
        }
        self.parts.iter_mut().try_for_each(Part::look)
    }

    /// Waits for something that the part brings about, as long as it makes progress and no part fails.
    pub(crate) fn wait_until(&mut self, id: Id, mut happened: impl FnMut(&Self) -> bool) -> Outcome {
        let mut before = self.progress(id);
        let mut quiet_since = Instant::now();
        loop {
            // First, so that what a part said before it failed is not taken for success.
            self.look()?;
            if happened(self) {
                return Ok(());
            }
            let now = self.progress(id);
            if now != before {
                before = now;
                quiet_since = Instant::now();
            }
            let part = self.part(id);
            if quiet_since.elapsed() > PATIENCE {
                return Err(Failure::Problem(format!("{} made no progress in {} s", part.name, PATIENCE.as_secs())));
            }
            part.bar.tick();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn tell(&mut self, id: Id, line: &str) {
        if let Some(input) = &mut self.part(id).input {
            // A part that has just died says why when it is waited for.
            let _ = writeln!(input, "{line}");
        }
    }

    /// SIGKILL, now.
    pub(crate) fn kill(&mut self, id: Id) -> Result<u32, Failure> {
        let part = self.part(id);
        part.look()?;
        if part.ended.is_some() {
            return Err(Failure::Problem(format!("{} ended before it was killed", part.name)));
        }
        part.child.kill()?;
        part.ended = Some(part.child.wait()?);
        part.bar.finish_with_message("killed");
        Ok(part.child.id())
    }

    /// Waits for a part's end and returns what it told.
    pub(crate) fn finish<T: DeserializeOwned>(&mut self, id: Id) -> Result<T, Failure> {
        self.wait_until(id, |crew| crew.parts[id.0].ended.is_some())?;
        let part = self.part(id);
        part.listen_to_the_end();
        part.bar.finish_with_message("done");
        let name = part.name.clone();
        self.told(id).ok_or_else(|| Failure::Problem(format!("{name} ended without a result")))
    }
}

impl Part {
    fn start(part: &str, name: String, place: &Place, more: &[&str], bar: ProgressBar) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["demo-part", part])
            .args(place.arguments())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let heard = Arc::new(Heard::default());
        let mut threads = Vec::new();
        if let Some(output) = child.stdout.take() {
            let (heard, bar) = (heard.clone(), bar.clone());
            threads.push(std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    match serde_json::from_str(&line) {
                        Ok(Line::Progress(n)) => {
                            heard.progress.store(n, Ordering::Relaxed);
                            bar.set_position(n);
                        }
                        Ok(Line::Holding(n)) => drop(heard.holding.set(n)),
                        Ok(Line::Told(value)) => drop(heard.told.set(value)),
                        Err(_) => {}
                    }
                }
            }));
        }
        if let Some(output) = child.stderr.take() {
            let heard = heard.clone();
            threads.push(std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = output.take(1 << 16).read_to_end(&mut text);
                let _ = heard.errors.set(String::from_utf8_lossy(&text).into_owned());
            }));
        }
        let input = child.stdin.take();
        Ok(Part { name, child, input, heard, threads, ended: None, bar })
    }

    /// Notices its end; a bad one is the demo's too.
    fn look(&mut self) -> Outcome {
        if self.ended.is_some() {
            return Ok(());
        }
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        self.ended = Some(status);
        if status.success() {
            return Ok(());
        }
        self.listen_to_the_end();
        let errors = self.heard.errors.get().map_or("", |text| text.trim());
        let why = errors.strip_prefix("chronicle: ").unwrap_or(errors);
        Err(Failure::Problem(format!("{} failed ({status}): {why}", self.name)))
    }

    /// Of one that has ended: hears its last words.
    fn listen_to_the_end(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Part {
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

    /// Says how far it is and stands still, for the demo's SIGKILL.
    pub(crate) fn hold(&self, n: u64) -> ! {
        say(&Line::<()>::Holding(n));
        loop {
            std::thread::park();
        }
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
