//! A process that appends and commits, as whoever kills it holds it.
//!
//! What it was acknowledged comes through a pipe, not through the disk: a line is written when `commit` has returned, and
//! what is in a pipe outlives its writer.
//!
//! ```text
//! ready FIRST NEXT DURABLE CLEAN EPOCH MODE…       the log is open, and this process its writer
//! a COMMITTER N SEQ                                record N of this committer is durable as SEQ
//! x COMMITTER WHAT…                                its append or commit was refused
//! lie COMMITTER SEQ                                one after that was not
//! end DURABLE BATCHES SYNCS APPENDS               its committers are done, and the log is closed, if it could be
//! failed WHAT…                                     the log could not be opened, or closed
//! ```

use crate::record::Tag;
use std::{
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
    time::Duration,
};

/// What a writer shall do. As `NAME=VALUE` arguments of the program `wal-writer`.
#[derive(Clone, Debug)]
pub struct Job {
    /// `auto`, `uring`, `direct` or `buffered`.
    pub way: &'static str,
    /// Threads that append and commit.
    pub committers: u32,
    /// Records of each; `u64::MAX`: until it is killed.
    pub count: u64,
    /// Which life of the log: goes into each record.
    pub life: u32,
    /// `own`, `callers` or `one`.
    pub threads: &'static str,
    /// Length of a segment.
    pub segment_len: u64,
    /// Length of the largest batch.
    pub batch_len: u32,
    /// Writes in flight.
    pub depth: u8,
    /// Most bytes of segments; 0: all are kept.
    pub retain_bytes: u64,
    /// How many records a committer appends before it commits the last of them.
    pub burst: u64,
    /// Opens the log, then waits for [`Writer::go`] before the first append.
    pub hold: bool,
}

impl Default for Job {
    fn default() -> Self {
        Job {
            way: "auto",
            committers: 4,
            count: 25,
            life: 0,
            threads: "own",
            segment_len: 128 << 10,
            batch_len: 16 << 10,
            depth: 4,
            retain_bytes: 0,
            burst: 1,
            hold: false,
        }
    }
}

impl Job {
    /// As arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let Job { way, committers, count, life, threads, segment_len, batch_len, depth, retain_bytes, burst, hold } =
            self;
        vec![
            format!("way={way}"),
            format!("committers={committers}"),
            format!("count={count}"),
            format!("life={life}"),
            format!("threads={threads}"),
            format!("segment-len={segment_len}"),
            format!("batch-len={batch_len}"),
            format!("depth={depth}"),
            format!("retain-bytes={retain_bytes}"),
            format!("burst={burst}"),
            format!("hold={}", u8::from(*hold)),
        ]
    }
}

/// What `ready` says.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Oldest record that recovery found; the next one if there is none.
    pub first_seq: u64,
    /// Number of the next record.
    pub next_seq: u64,
    /// Newest record that recovery found proved durable.
    pub durable_seq: u64,
    /// The log was closed in order.
    pub clean: bool,
    /// Takeovers.
    pub epoch: u32,
    /// How bytes go to the device.
    pub mode: String,
}

/// What was heard of a writer until it ended.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// What it was acknowledged.
    pub acked: Vec<(Tag, u64)>,
    /// What it was refused.
    pub refused: Vec<String>,
    /// What was acknowledged after something had been refused.
    pub lies: Vec<String>,
    /// Durable seq, batches, syncs and appends, if it came to its end.
    pub end: Option<[u64; 4]>,
    /// Why the log could not be opened or closed.
    pub failed: Option<String>,
}

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    child: Child,
    life: u32,
    ready: Receiver<Result<Ready, String>>,
    reader: Option<JoinHandle<Heard>>,
}

impl Writer {
    /// Starts `program` (`wal-writer`, or something that runs it) on the log in `dir`.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn start(mut program: Command, dir: &Path, job: &Job) -> io::Result<Writer> {
        let mut child = program.arg(dir).args(job.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().expect("piped above"));
        let (sender, ready) = mpsc::channel();
        let life = job.life;
        let reader = thread::spawn(move || listen(out, life, &sender));
        Ok(Writer { child, life, ready, reader: Some(reader) })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Which life of the log it is.
    #[must_use]
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Waits until it has the log.
    ///
    /// # Errors
    ///
    /// Why it could not be opened; or it takes too long.
    pub fn ready(&self, timeout: Duration) -> Result<Ready, String> {
        self.ready.recv_timeout(timeout).map_err(|error| format!("the writer never had the log: {error}"))?
    }

    /// Lets a writer that holds begin.
    ///
    /// # Panics
    ///
    /// If it was told before.
    pub fn go(&mut self) {
        // The end of its input is the word; one that died meanwhile does not hear it.
        self.child.stdin.take().expect("told once");
    }

    /// SIGKILL, and all that was in the pipe; whether it was still running.
    ///
    /// # Panics
    ///
    /// If it wrote what nobody understands.
    pub fn kill(mut self) -> (Heard, bool) {
        let running = matches!(self.child.try_wait(), Ok(None));
        _ = self.child.kill();
        (self.heard().0, running)
    }

    /// As [`Writer::kill`], but does not wait for the end of the process: as a successor that comes at once.
    #[must_use]
    pub fn kill_at_once(mut self) -> Killed {
        let running = matches!(self.child.try_wait(), Ok(None));
        _ = self.child.kill();
        Killed { writer: self, running }
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// As [`Writer::kill`].
    #[must_use]
    pub fn wait(mut self) -> (Heard, ExitStatus) {
        self.heard()
    }

    fn heard(&mut self) -> (Heard, ExitStatus) {
        let reader = self.reader.take().expect("heard once");
        let heard = reader.join().expect("lines of a writer");
        (heard, self.child.wait().expect("a child of ours"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.reader.is_some() {
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

/// A writer to which SIGKILL was sent.
#[derive(Debug)]
pub struct Killed {
    writer: Writer,
    /// Whether it was running then.
    pub running: bool,
}

impl Killed {
    /// What it said while it lived.
    ///
    /// # Panics
    ///
    /// As [`Writer::kill`].
    #[must_use]
    pub fn heard(mut self) -> Heard {
        self.writer.heard().0
    }
}

fn listen(out: BufReader<ChildStdout>, life: u32, ready: &mpsc::Sender<Result<Ready, String>>) -> Heard {
    let mut heard = Heard::default();
    for line in out.lines() {
        // The last one may be cut by the death of who wrote it, but for a pipe: lines are short enough to be whole.
        let line = line.expect("UTF-8");
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"));
        match kind {
            "ready" => {
                _ = ready.send(Ok(Ready {
                    first_seq: number(),
                    next_seq: number(),
                    durable_seq: number(),
                    clean: number() == 1,
                    epoch: number() as u32,
                    mode: words.collect::<Vec<_>>().join(" "),
                }));
            }
            "a" => heard.acked.push((Tag { life, committer: number() as u32, n: number() }, number())),
            "x" => heard.refused.push(line),
            "lie" => heard.lies.push(line),
            "end" => heard.end = Some([number(), number(), number(), number()]),
            "failed" => {
                _ = ready.send(Err(line.clone()));
                heard.failed = Some(line);
            }
            _ => panic!("a writer says: {line}"),
        }
    }
    heard
}
