//! Chronicle's own log, as a program uses it.

use super::{
    crowd::Sample,
    others::{Each, Log},
};
use chronicle_platform_linux::Linux;
use chronicle_storage::wal::{Options, ReaderOptions, SyncPolicy, Threads, Wal, WalReader};
use std::{
    collections::VecDeque,
    future::Future as _,
    path::Path,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// An error with what lies beneath it.
fn words(it: impl std::error::Error) -> String {
    let mut words = it.to_string();
    let mut beneath = it.source();
    while let Some(source) = beneath {
        words = format!("{words}: {source}");
        beneath = source.source();
    }
    words
}

/// An open log, shared by all committers.
pub struct Ours(Wal<Linux>);

/// Opens it as it comes, for durable commits or for appends that nobody waits for.
pub fn open(dir: &Path, durable: bool) -> Result<Ours, String> {
    let options = if durable {
        Options { measure: true, ..Options::default() }
    } else {
        // As long as the floor's file, and used again from round to round as that is.
        Options {
            sync: SyncPolicy::OnCommit,
            way: chronicle_platform::WalWay::Buffered,
            segment_len: super::bare::FILE,
            ..Options::default()
        }
    };
    open_with(dir, &options)
}

/// Opens one for durable commits that goes round, as the floor's file does: what is behind is used again, and nothing is
/// prepared beside what is measured. Which way is the fastest is found out for a lone committer; for many it is the default.
pub fn open_round(dir: &Path, committers: usize) -> Result<Ours, String> {
    let segment_len = super::bare::FILE / 4;
    let (measure, retain_bytes) = (committers == 1, Some(4 * segment_len));
    open_with(dir, &Options { measure, segment_len, retain_bytes, ..Options::default() })
}

fn open_with(dir: &Path, options: &Options) -> Result<Ours, String> {
    Wal::open(&Linux, dir, options).map(|it| Ours(it.0)).map_err(words)
}

impl Ours {
    /// Appends and waits until it is durable.
    pub fn commit(&self, record: &[u8]) -> Result<(), String> {
        let seq = self.0.append(record).map_err(words)?;
        self.0.commit(seq).map_err(words)
    }

    /// Appends, and asks for nothing.
    pub fn append(&self, record: &[u8]) -> Result<(), String> {
        self.0.append(record).map(drop).map_err(words)
    }

    /// What was appended is nobody's need any more.
    pub fn go_round(&self) -> Result<(), String> {
        let last = self.0.next_seq() - 1;
        self.0.commit(last).map_err(words)?;
        self.0.truncate_before(last);
        Ok(())
    }

    /// Ends it in order.
    pub fn close(self) -> Result<(), String> {
        self.0.close().map_err(words)
    }

    /// What goes to the device, and how, in words.
    pub fn mode(&self) -> String {
        let mode = self.0.mode();
        format!("{}{}", mode.driver, mode.why.as_ref().map_or(String::new(), |why| format!(": {why}")))
    }
}

impl Log for Ours {
    fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
        self.commit(record)
    }

    fn fill(&self, _: u64, records: &[&[u8]]) -> Result<(), String> {
        self.0.append_batch(records).map(drop).map_err(words)
    }
}

/// Hands out every record, after recovery, as a program that starts again does.
pub fn read(dir: &Path, mut each: Each) -> Result<(), String> {
    let log = open(dir, true)?;
    let mut reader = WalReader::open(&Linux, dir, 0, ReaderOptions::default()).map_err(words)?;
    while let Some(record) = reader.next().map_err(words)? {
        each(record.payload);
    }
    log.close()
}

/// Recovery alone: every frame of every segment is checked. How many records there are.
pub fn recover(dir: &Path) -> Result<(Ours, u64), String> {
    let options = Options::default();
    let (log, found) = Wal::open(&Linux, dir, &options).map_err(words)?;
    Ok((Ours(log), found.records()))
}

/// One thread that keeps so many commits outstanding, as futures, and drives the log itself.
pub fn outstanding(dir: &Path, record: &[u8], outstanding: usize, time: Duration) -> Result<Sample, String> {
    let options = Options { threads: Threads::One, measure: true, ..Options::default() };
    let (log, _) = Wal::open(&Linux, dir, &options).map_err(words)?;
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = VecDeque::with_capacity(outstanding);
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < time {
        while waiting.len() < outstanding {
            let seq = log.append(record).map_err(words)?;
            let mut commit = log.commit_async(seq);
            if let Poll::Ready(done) = Pin::new(&mut commit).poll(&mut context) {
                done.map_err(words)?;
                count += 1;
            } else {
                waiting.push_back(commit);
            }
        }
        log.drive_waiting();
        while let Some(first) = waiting.front_mut()
            && let Poll::Ready(done) = Pin::new(first).poll(&mut context)
        {
            done.map_err(words)?;
            waiting.pop_front();
            count += 1;
        }
    }
    let took = began.elapsed();
    drop(waiting);
    log.close().map_err(words)?;
    Ok(Sample::of(count, took, &mut [], None))
}
