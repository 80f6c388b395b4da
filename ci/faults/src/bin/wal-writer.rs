//! Appends and commits until it is done or dead: `wal-writer DIRECTORY [NAME=VALUE]…`; see `chronicle_faults::writer`.

use chronicle_faults::{log, record::Tag, writer::Job};
use chronicle_platform_linux::Linux;
use chronicle_storage::wal::{AppendError, Wal};
use std::{
    env,
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(dir), Ok(job)) = (arguments.next().map(PathBuf::from), job(arguments)) else {
        eprintln!("usage: wal-writer DIRECTORY [NAME=VALUE]…");
        return ExitCode::from(2);
    };
    // Not by `print!`, whose lock and buffer are one thread's at a time: each line is one write to the pipe.
    let out = OpenOptions::new().append(true).open("/proc/self/fd/1").expect("a pipe for standard output");
    let say = |line: String| say(&out, &line);
    let options = log::options(&job).expect("checked above");
    let (wal, recovery) = match Wal::open(&Linux, &dir, &options) {
        Ok(opened) => opened,
        Err(error) => {
            say(format!("failed {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (first, next, durable) = (recovery.first_seq, recovery.next_seq, recovery.durable_seq);
    say(format!("ready {first} {next} {durable} {} {} {}", u8::from(recovery.clean), recovery.epoch, wal.mode()));
    if job.hold {
        _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    if job.threads == "one" {
        commit(&wal, &job, 0, &out);
    } else {
        thread::scope(|scope| {
            for committer in 0..job.committers {
                let (wal, job, out) = (&wal, &job, &out);
                scope.spawn(move || commit(wal, job, committer, out));
            }
        });
    }
    let (durable, stats) = (wal.durable(), wal.stats());
    let closed = wal.close();
    say(format!("end {durable} {} {} {}", stats.batches, stats.syncs, stats.appends));
    match closed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("failed {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Appends, commits, says so, again and again, until it is refused.
fn commit(wal: &Wal<Linux>, job: &Job, committer: u32, out: &File) {
    let mut n = 0;
    while n < job.count {
        let mut appended = Vec::new();
        for _ in 0..job.burst.min(job.count - n) {
            match wal.append(&Tag { life: job.life, committer, n }.payload()) {
                Ok(seq) => appended.push((n, seq)),
                Err(error) => {
                    let poisoned = matches!(error, AppendError::Poisoned);
                    return refused(wal, committer, poisoned, &error.to_string(), out);
                }
            }
            n += 1;
        }
        let Some(&(_, last)) = appended.last() else { continue };
        if let Err(error) = wal.commit(last) {
            return refused(wal, committer, true, &error.to_string(), out);
        }
        for (n, seq) in appended {
            say(out, &format!("a {committer} {n} {seq}"));
        }
    }
}

/// After a failed write or sync nothing may be granted any more.
fn refused(wal: &Wal<Linux>, committer: u32, poisoned: bool, what: &str, out: &File) {
    let trouble = wal.trouble().map_or_else(String::new, |trouble| format!(": {trouble}"));
    say(out, &format!("x {committer} {what}{trouble}"));
    for _ in 0..if poisoned { 3 } else { 0 } {
        // A record that no checker knows: it must not be found either.
        if let Ok(seq) = wal.append(b"after the end")
            && wal.commit(seq).is_ok()
        {
            say(out, &format!("lie {committer} {seq}"));
        }
    }
}

fn say(mut out: &File, line: &str) {
    // In one piece: others write too. A pipe whose reader is gone: so is the reason to be here.
    if out.write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(1);
    }
}

fn job(arguments: impl Iterator<Item = String>) -> Result<Job, String> {
    let mut job = Job::default();
    for argument in arguments {
        let (name, value) = argument.split_once('=').ok_or_else(|| format!("{argument}: NAME=VALUE"))?;
        let word = || String::leak(value.to_owned()) as &'static str;
        fn number<N: TryFrom<u64>>(value: &str) -> Result<N, String> {
            value
                .parse::<u64>()
                .ok()
                .and_then(|n| n.try_into().ok())
                .ok_or_else(|| format!("{value} is no number for it"))
        }
        match name {
            "way" => job.way = word(),
            "threads" => job.threads = word(),
            "committers" => job.committers = number(value)?,
            "count" => job.count = number(value)?,
            "life" => job.life = number(value)?,
            "segment-len" => job.segment_len = number(value)?,
            "batch-len" => job.batch_len = number(value)?,
            "depth" => job.depth = number(value)?,
            "retain-bytes" => job.retain_bytes = number(value)?,
            "hold" => job.hold = number::<u8>(value)? == 1,
            "burst" => job.burst = number(value)?,
            other => return Err(format!("nothing is called {other}")),
        }
    }
    log::options(&job)?;
    Ok(job)
}
