//! Group `wal-sync`: commits a second, each durable before its committer goes on.

use super::{
    Field, Role, TIME,
    bare::{self, Leader},
    crowd::{self, Sample},
    flushes::Flushes,
    fresh, others, ours,
};
use crate::contest::{Line, Target};
use std::{fs::File, path::Path, sync::mpsc, time::Instant};

/// Records that are outstanding at once, where nobody waits for one.
const OUTSTANDING: usize = 64;
const ROUNDS: usize = 3;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let flushes = match Flushes::under(dir) {
        Ok(flushes) => Some(flushes),
        Err(why) => {
            eprintln!("wal-sync: device flushes are not shown: {why}");
            None
        }
    };
    let path = dir.join("floor");
    let file = bare::prepared(&path)?;
    for len in [128, 1024] {
        for committers in [1, 8, 64] {
            blocking(dir, &path, &file, flushes.as_ref(), committers, len, out)?;
        }
    }
    for len in [128, 1024] {
        outstanding(dir, &file, flushes.as_ref(), len, out)?;
    }
    Ok(())
}

/// Records that differ, so that nothing along the way can tell them from real ones.
fn record(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(151) >> 2) as u8).collect()
}

/// Counts flushes around work that does not.
fn counted(flushes: Option<&Flushes>, work: impl FnOnce() -> Result<Sample, String>) -> Result<Sample, String> {
    let (before, began) = (flushes.and_then(Flushes::so_far), Instant::now());
    let mut sample = work()?;
    let commits = sample.rate * began.elapsed().as_secs_f64();
    let after = flushes.and_then(Flushes::so_far);
    sample.flushes = before.zip(after).map(|(before, after)| (after - before) as f64 / commits.max(1.0));
    Ok(sample)
}

fn blocking(
    dir: &Path,
    path: &Path,
    file: &File,
    flushes: Option<&Flushes>,
    committers: usize,
    len: usize,
    out: &mut dyn FnMut(Line),
) -> Result<(), String> {
    let record = &record(len)[..];
    let who = if committers == 1 { "committer" } else { "committers" };
    let mut field = Field::new("wal-sync", format!("{committers} {who}, {len} B"), "commits/s");
    // Logs stay open from round to round, as they do in life: what making and removing files costs is not measured.
    let of_case = dir.join(format!("{committers}-{len}"));
    let log = ours::open_round(&of_case.join("chronicle"), committers)?;
    eprintln!("wal-sync: {committers} x {len} B: chronicle writes by {}", log.mode());
    field.add(Role::Ours, "chronicle", move || crowd::commit(committers, TIME, flushes, |_, _| log.commit(record)));
    if committers == 1 {
        field
            .add(Role::Floor, "bare: DSYNC by io_uring", move || counted(flushes, || bare::single(file, record, TIME)));
        field.add(Role::Floor, "bare: DSYNC by pwritev2", move || {
            counted(flushes, || bare::blocking(file, record, TIME))
        });
        field.add(Role::Beside, "bare: pwrite, fdatasync", move || {
            counted(flushes, || bare::buffered(path, record, TIME))
        });
    } else {
        field.add(Role::Floor, "bare: leader on io_uring", move || led(file, flushes, committers, record));
        for (name, depth) in [("bare: one of them, pwritev2", 1), ("bare: two of them, pwritev2", 2)] {
            field.add(Role::Floor, name, move || {
                let leader = Leader::new(depth);
                crowd::commit(committers, TIME, flushes, |_, _| leader.commit_or_write(file, record))
            });
        }
    }
    for other in others::OTHERS.iter().filter(|it| it.rival || it.many || committers == 1) {
        let dir = of_case.join(other.name);
        let (mut log, mut round) = (None, 0);
        field.add(Role::Rival, other.name, move || {
            let log = match &mut log {
                Some(log) => log,
                none => none.insert((other.open)(&dir, true)?),
            };
            // Nobody's numbers come twice.
            round += committers;
            crowd::commit(committers, TIME, flushes, |who, nth| log.put(round + who, nth, record))
        });
    }
    field.run(ROUNDS)?;
    field.line(Target::Ratio(if committers == 1 { 0.95 } else { 1.0 })).map(&mut *out);
    let mut lines = Vec::new();
    if committers == 64 {
        let rate = field.beside("raft-engine", "beside", "commits/s", true, |it| Some(it.rate), Target::Ratio(1.5));
        let wait = field.beside("raft-engine", "p99 beside", "us", false, |it| it.p99_us, Target::Ratio(1.0));
        lines.extend(rate.into_iter().chain(wait));
    }
    drop(field);
    lines.into_iter().for_each(&mut *out);
    std::fs::remove_dir_all(&of_case).map_err(|it| it.to_string())
}

/// Committers who sleep, and a thread that writes for all of them.
fn led(file: &File, flushes: Option<&Flushes>, committers: usize, record: &[u8]) -> Result<Sample, String> {
    let leader = Leader::new(0);
    std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let leads = scope.spawn(|| leader.lead(file, 1, move || ready.send(()).unwrap_or_default()));
        // If it fails before it is ready, its end closes the channel.
        let _ = is_ready.recv();
        let sample = crowd::commit(committers, TIME, flushes, |_, _| leader.commit(record));
        leader.stop();
        leads.join().map_err(|_| "the leader panicked".to_owned())??;
        sample
    })
}

fn outstanding(
    dir: &Path,
    file: &File,
    flushes: Option<&Flushes>,
    len: usize,
    out: &mut dyn FnMut(Line),
) -> Result<(), String> {
    let record = &record(len)[..];
    let mut field = Field::new("wal-sync", format!("{OUTSTANDING} outstanding, asynchronous, {len} B"), "commits/s");
    let of_crate = dir.join("chronicle");
    field.add(Role::Ours, "chronicle", move || {
        fresh(&of_crate, |dir| counted(flushes, || ours::outstanding(dir, record, OUTSTANDING, TIME)))
    });
    for (role, name, writes) in [
        (Role::Floor, "bare: 4 writes in flight", 4),
        (Role::Beside, "bare: 1 write in flight", 1),
        (Role::Beside, "bare: 2 writes in flight", 2),
    ] {
        field.add(role, name, move || counted(flushes, || bare::several(file, record, writes, OUTSTANDING, TIME)));
    }
    field.run(ROUNDS)?;
    field.line(Target::Ratio(0.75)).map(&mut *out);
    Ok(())
}
