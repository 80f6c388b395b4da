//! The demo's parts as processes: started, watched, told to finish, killed.
//!
//! A part writes JSON lines to its standard output: `{"progress": n}` while it works, `{"holding": n}` when it stands
//! still to be killed there, and `{"told": …}` once at its end. It reads its standard input: a line `finish`, or the end
//! of it, which means that the demo is gone. The exchange and the live feed are commands of their own and say what those
//! say: `{"listening": address}`, and events; they are told to end by SIGTERM.

use super::{Place, Screen};
use crate::run::{Failure, Outcome};
use indicatif::ProgressBar;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
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
    /// The exchange can be reached there.
    Listening(String),
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
    arguments: Vec<OsString>,
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
    listening: OnceLock<String>,
    told: OnceLock<Value>,
    /// What a command said in lines of its own.
    events: Mutex<Vec<Value>>,
    errors: OnceLock<String>,
}

impl Heard {
    fn hear(&self, line: &str, bar: &ProgressBar) {
        match serde_json::from_str(line) {
            Ok(Line::Progress(n)) => self.far(n, bar),
            Ok(Line::Holding(n)) => drop(self.holding.set(n)),
            Ok(Line::Listening(address)) => drop(self.listening.set(address)),
            Ok(Line::Told(value)) => drop(self.told.set(value)),
            Err(_) => {
                let Ok(event) = serde_json::from_str::<Value>(line) else { return };
                if let Some(messages) = event.pointer("/status/messages").and_then(Value::as_u64) {
                    self.far(messages, bar);
                }
                self.events().push(event);
            }
        }
    }

    fn far(&self, n: u64, bar: &ProgressBar) {
        self.progress.store(n, Ordering::Relaxed);
        bar.set_position(n);
    }

    fn events(&self) -> MutexGuard<'_, Vec<Value>> {
        // Lines are pushed whole: whoever panicked beside it left a list.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Crew<'a> {
    pub(crate) fn new(place: &'a Place, screen: &'a Screen, stop: &'a AtomicBool) -> Self {
        Crew { place, screen, stop, parts: Vec::new() }
    }

    pub(crate) fn start<S: AsRef<OsStr>>(&mut self, part: &str, more: &[S]) -> Result<Id, Failure> {
        // Two parts of a kind are told apart by the reader's name.
        let name = match more {
            [flag, reader, ..] if flag.as_ref() == "--reader" => format!("{part} {}", reader.as_ref().display()),
            _ => part.to_owned(),
        };
        let mut arguments = vec!["demo-part".into(), part.into()];
        arguments.extend(self.place.arguments());
        arguments.extend(more.iter().map(|more| more.as_ref().to_owned()));
        self.spawn(name, arguments)
    }

    /// Starts a command of its own, held on the demo's leash.
    pub(crate) fn hold<S: AsRef<OsStr>>(&mut self, command: &str, more: &[S]) -> Result<Id, Failure> {
        let mut arguments: Vec<OsString> = vec!["demo-part".into(), "held".into(), "--by".into()];
        arguments.extend([self.place.scratch.clone().into_os_string(), command.into()]);
        arguments.extend(more.iter().map(|more| more.as_ref().to_owned()));
        self.spawn(command.to_owned(), arguments)
    }

    fn spawn(&mut self, name: String, arguments: Vec<OsString>) -> Result<Id, Failure> {
        self.look()?;
        let bar = self.screen.bar(&name);
        self.parts.push(Part::start(name, arguments, bar)?);
        Ok(Id(self.parts.len() - 1))
    }

    /// Starts a part that has been killed once more.
    pub(crate) fn again(&mut self, id: Id) -> Outcome {
        self.look()?;
        let part = self.part(id);
        let (name, arguments, bar) = (part.name.clone(), part.arguments.clone(), part.bar.clone());
        bar.reset();
        *part = Part::start(name, arguments, bar)?;
        Ok(())
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

    /// Where the exchange can be reached, once it has said so.
    pub(crate) fn listening(&self, id: Id) -> Option<String> {
        self.parts[id.0].heard.listening.get().cloned()
    }

    /// What a command has said in lines of its own, since it was started last.
    pub(crate) fn events(&self, id: Id) -> MutexGuard<'_, Vec<Value>> {
        self.parts[id.0].heard.events()
    }

    /// What part it is.
    pub(crate) fn name(&self, id: Id) -> &str {
        &self.parts[id.0].name
    }

    /// Whether anything calls for an end: an interrupt, or a part that failed.
    pub(crate) fn look(&mut self) -> Outcome {
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

    /// Whether a part has come to its end by itself.
    pub(crate) fn has_ended(&mut self, id: Id) -> Result<bool, Failure> {
        let part = self.part(id);
        part.look()?;
        Ok(part.ended.is_some())
    }

    /// SIGKILL, now.
    pub(crate) fn kill(&mut self, id: Id) -> Result<u32, Failure> {
        let has_ended = self.has_ended(id)?;
        let part = self.part(id);
        if has_ended {
            return Err(Failure::Problem(format!("{} ended before it was killed", part.name)));
        }
        part.child.kill()?;
        part.ended = Some(part.child.wait()?);
        part.bar.finish_with_message("killed");
        Ok(part.child.id())
    }

    /// Tells a command to end, and waits for that.
    pub(crate) fn end(&mut self, id: Id) -> Outcome {
        let pid = self.part(id).child.id();
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // One that has ended is not waited for yet, so that its number is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.wait_for_end(id)
    }

    fn wait_for_end(&mut self, id: Id) -> Outcome {
        self.wait_until(id, |crew| crew.parts[id.0].ended.is_some())?;
        let part = self.part(id);
        part.listen_to_the_end();
        part.bar.finish_with_message("done");
        Ok(())
    }

    /// Waits for a part's end and returns what it told.
    pub(crate) fn finish<T: DeserializeOwned>(&mut self, id: Id) -> Result<T, Failure> {
        self.wait_for_end(id)?;
        let part = self.part(id);
        let name = part.name.clone();
        self.told(id).ok_or_else(|| Failure::Problem(format!("{name} ended without a result")))
    }
}

impl Part {
    fn start(name: String, arguments: Vec<OsString>, bar: ProgressBar) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(&arguments)
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
                    heard.hear(&line, &bar);
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
        Ok(Part { name, arguments, child, input, heard, threads, ended: None, bar })
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

/// Writes (seq, ns) pairs for `demo::recorded`.
pub(crate) fn write_times(path: &Path, times: &[(u64, u64)]) -> Outcome {
    let mut bytes = Vec::with_capacity(times.len() * 16);
    for (seq, at) in times {
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    std::fs::write(path, bytes)?;
    Ok(())
}
