//! What a queue's own words say is wrong with it.

use super::{Cure, Finding, Patient};
use crate::run::{Count, Size, Word, chain, name_of, rfc3339};
use chronicle::{
    System,
    storage::{
        queue::{DescribedReader, DescribedSegment, Description, MissingSegment, SegmentState, describe, layout},
        recorder::RECORDER,
        root::Name,
    },
};
use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::Duration,
};

/// A heartbeat older than this is of a writer that stands still; it beats every few milliseconds.
const STALE: Duration = Duration::from_secs(5);
/// Clocks of processes on one host do not differ; this much a look takes.
const SLACK_NS: u64 = 1_000_000_000;
/// How long a reader's beats are watched.
const WATCH: Duration = Duration::from_millis(600);

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    for queue in &patient.queues {
        match describe(&System, queue) {
            Ok(description) => {
                cursors(queue, &description, findings);
                missing(&description, findings);
                clock(patient, queue, &description, findings);
                match crate::queues::overflow_venue(queue) {
                    // Both its ends are one feed: that it died the raw queue tells, and what waits here is the news.
                    Some(venue) => overflow(patient, queue, &description, &venue, findings),
                    None => {
                        liveness(patient, queue, &description, findings);
                        retention(patient, queue, &description, findings);
                    }
                }
            }
            Err(error) => {
                let what = chain(&error);
                // Another version is no damage: `files` tells of it.
                if !what.contains("is newer than") {
                    findings.push(unreadable(patient, queue, &what));
                }
            }
        }
    }
}

fn unreadable(patient: &Patient, queue: &Path, what: &str) -> Finding {
    let why = "its readers and its writer stop here";
    if fs::read_dir(queue).is_err() || what.contains("ermission denied") {
        let fix = patient.as_owner_of(queue);
        return Finding::problem("no-permission", queue, format!("the queue may not be read: {what}"), why, fix);
    }
    let fix = format!("chronicle verify {}", Word(queue));
    Finding::problem("queue-damaged", queue, format!("the queue cannot be read: {what}"), why, fix)
}

/// Segments that somebody took away.
fn missing(description: &Description, findings: &mut Vec<Finding>) {
    for MissingSegment { segment_id, path, evidence } in &description.missing {
        findings.push(Finding::problem(
            "segment-missing",
            path,
            format!("segment {segment_id} is not there, although {evidence}"),
            if description.writer {
                "somebody took its file away: no reader finds its frames. The writer goes on in the next one as soon as it notices"
            } else {
                "somebody took its file away: no reader finds its frames"
            },
            format!(
                "if it was moved: mv it back to {}; if not, whoever has read it has its frames, and readers that come \
                 there are told what is lost",
                Word(path)
            ),
        ));
    }
}

fn liveness(patient: &Patient, queue: &Path, description: &Description, findings: &mut Vec<Finding>) {
    let age = Duration::from_nanos(description.heartbeat_age_ns);
    if description.unrecovered {
        findings.push(Finding::problem(
            "not-recovered",
            queue,
            "the machine went down under this queue, and no writer has opened it since".to_owned(),
            "readers see only what a sync covered; the writer's next start checks the rest and keeps what is whole",
            "start its writer again".to_owned(),
        ));
    } else if !description.writer && !description.closed {
        findings.push(Finding::problem(
            "writer-died",
            queue,
            "the writer died without closing the queue, and none has taken over".to_owned(),
            "nothing new comes; readers wait. What it had appended is whole",
            match raw_venue(patient, queue) {
                Some(venue) => format!(
                    "start its writer again, as chronicle feed --venue {venue} --root {} --symbols …; it goes on behind the \
                     last frame",
                    patient.called
                ),
                None => "start its writer again; it goes on behind the last frame".to_owned(),
            },
        ));
    } else if description.writer && age > STALE {
        let holder = holder(&queue.join("alive.lock"));
        let (who, fix) = match holder {
            Some((pid, true)) => (format!("process {pid} is stopped and"), format!("kill -CONT {pid}")),
            Some((pid, false)) => (
                format!("process {pid}"),
                format!("look what process {pid} waits for: cat /proc/{pid}/wchan; if it is lost: kill -KILL {pid}"),
            ),
            None => ("a process".to_owned(), format!("fuser -v {}", Word(&queue.join("alive.lock")))),
        };
        findings.push(Finding::problem(
            "writer-stalled",
            queue,
            format!("{who} has the writer's lock, and its heart has not beaten for {} s", age.as_secs()),
            "nobody else can write while it holds the lock: that is what keeps two writers apart",
            fix,
        ));
    }
}

/// Who holds an exclusive lock on a file, and whether it is stopped, where the system tells.
fn holder(lock: &Path) -> Option<(u32, bool)> {
    let inode = fs::metadata(lock).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 4711 00:1a:332 0 EOF
        let mut words = line.split_whitespace().skip(3);
        let (kind, pid, file) = (words.next()?, words.next()?, words.next()?);
        let of_file = file.rsplit(':').next()?.parse() == Ok(inode);
        (kind == "WRITE" && of_file).then(|| pid.parse().ok()).flatten()
    })?;
    Some((pid, is_stopped(pid)?))
}

/// Whether a process was stopped by a signal, where the system tells.
pub(super) fn is_stopped(pid: u32) -> Option<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(") ").next()?.starts_with('T'))
}

fn cursors(queue: &Path, description: &Description, findings: &mut Vec<Finding>) {
    for reader in &description.readers {
        let Some(error) = &reader.error else { continue };
        if error.contains("is newer than") {
            continue;
        }
        let path = cursor(queue, &reader.name);
        let said = error.strip_prefix(&format!("{}: ", path.display())).unwrap_or(error);
        let what = format!("the cursor of reader \"{}\" cannot be read: {said}", reader.name);
        let why = if reader.required {
            "the reader cannot start, and the writer, which must wait for it, keeps every segment"
        } else {
            "the reader cannot start; without a cursor it would begin at the oldest frame"
        };
        let fix = format!("mv {} {}.damaged", Word(&path), Word(&path));
        let finding = Finding::problem("cursor-damaged", &path, what, why, fix);
        // What a required reader has kept elsewhere is for it to say.
        findings.push(if reader.required { finding } else { finding.with(Cure::Aside { path }) });
    }
}

fn cursor(queue: &Path, reader: &str) -> std::path::PathBuf {
    queue.join("readers").join(format!("{reader}.meta"))
}

fn retention(patient: &Patient, queue: &Path, description: &Description, findings: &mut Vec<Finding>) {
    for name in &description.required {
        let reader = description.readers.iter().find(|reader| reader.name == *name);
        if reader.is_some_and(|reader| reader.open || reader.error.is_some()) {
            continue;
        }
        let held = held(description, |segment| is_unread(segment, reader));
        // A feed's recorder comes four times a second, and is gone between.
        if held.is_none() || looks(&cursor(queue, name.as_str())) {
            continue;
        }
        let what = format!("reader \"{name}\" is not running and holds {}", held.unwrap_or_default());
        let why =
            "the queue requires this reader: it keeps what that has not read, and when it is full it refuses appends";
        let recorded = (name == RECORDER).then(|| raw_venue(patient, queue)).flatten();
        let fix = match &recorded {
            Some(_) => format!("chronicle doctor {} --fix", patient.called),
            None => format!(
                "start reader \"{name}\" again; if there is none any more, start the writer without requiring it"
            ),
        };
        let finding = Finding::problem("reader-dead", queue, what, why, fix);
        findings.push(match recorded {
            Some(venue) => finding.with(Cure::Record { root: patient.root.clone(), venue }),
            None => finding,
        });
    }
    if !slow_readers(queue, description, findings) {
        stalled_readers(queue, description, findings);
    }
}

/// Those of the ended segments, in words; `None` where there are none.
fn held(description: &Description, is_held: impl Fn(&DescribedSegment) -> bool) -> Option<String> {
    let ended = |segment: &&DescribedSegment| matches!(segment.state, SegmentState::Ended | SegmentState::Sealed);
    let held: Vec<_> = description.segments.iter().filter(ended).filter(|segment| is_held(segment)).collect();
    let bytes: u64 = held.iter().map(|segment| u64::from(segment.bytes)).sum();
    let count = if held.len() == 1 { "1 segment".to_owned() } else { format!("{} segments", held.len()) };
    (!held.is_empty())
        .then(|| format!("{count} ({}) of {} that the queue may take", Size(bytes), Size(description.max_bytes)))
}

/// Whether a required reader has not made it known that it has all of this segment.
fn is_unread(segment: &DescribedSegment, reader: Option<&DescribedReader>) -> bool {
    let from = reader.and_then(|reader| reader.durable_seq).unwrap_or(0);
    segment.count > 0 && segment.first_seq.is_some_and(|first| first + segment.count > from)
}

/// Whether whoever has this cursor looks at the queue: watched for a moment.
fn looks(cursor: &Path) -> bool {
    let beats = || {
        let mut word = [0; 4];
        fs::File::open(cursor).and_then(|file| file.read_exact_at(&mut word, layout::BEATS as u64)).ok()?;
        Some(word)
    };
    let before = beats();
    std::thread::sleep(WATCH);
    beats() != before
}

/// A reader that is there, does not look, and has ended segments before it.
fn stalled_readers(queue: &Path, description: &Description, findings: &mut Vec<Finding>) {
    for reader in description.readers.iter().filter(|reader| reader.open && reader.error.is_none()) {
        let stands = reader.at.map_or(reader.reading, |(segment, _)| segment.min(reader.reading));
        let held = match reader.required {
            true => held(description, |segment| is_unread(segment, Some(reader))),
            false if stands == 0 => None,
            false => held(description, |segment| segment.segment_id >= stands),
        };
        let path = cursor(queue, &reader.name);
        let Some(held) = held.filter(|_| !looks(&path)) else { continue };
        let (who, fix) = match holder(&path) {
            Some((pid, true)) => (format!(" (process {pid}) is stopped"), format!("kill -CONT {pid}")),
            Some((pid, false)) => (
                format!(" (process {pid}) does not look"),
                format!(
                    "cat /proc/{pid}/wchan says what it waits for; if it is lost: kill -KILL {pid}, and start it again"
                ),
            ),
            None => (" does not look".to_owned(), format!("fuser -v {}", Word(&path))),
        };
        findings.push(Finding::problem(
            "reader-stalled",
            queue,
            format!("reader \"{}\"{who} and holds {held}", reader.name),
            if reader.required {
                "the queue requires this reader: it keeps what that has not read, and when it is full it refuses appends"
            } else {
                "the queue keeps them for it until its time to live is over; from then on the reader loses what there is no room \
                 for"
            },
            fix,
        ));
    }
}

/// A reader that is there and keeps the writer from making the next segment; whether there is one, or none can be.
fn slow_readers(queue: &Path, description: &Description, findings: &mut Vec<Finding>) -> bool {
    let room = description.used_bytes + u64::from(description.segment_len) <= description.max_bytes;
    let prepared = description.segments.iter().any(|segment| segment.state == SegmentState::Prepared);
    let begun = || description.segments.iter().filter(|segment| segment.state != SegmentState::Prepared);
    let Some(oldest) = begun().next() else { return true };
    if !description.writer || room || prepared || begun().count() < 2 {
        return false;
    }
    let before = findings.len();
    for reader in description.readers.iter().filter(|reader| reader.open && reader.reading <= oldest.segment_id) {
        let path = cursor(queue, &reader.name);
        let looks = looks(&path);
        let pid = holder(&path);
        let who = pid.map_or_else(String::new, |(pid, _)| format!(" (process {pid})"));
        let lag = reader.lag.map_or_else(|| "so far".to_owned(), |lag| format!("{} frames", Count(lag)));
        let fix = match (looks, pid) {
            (false, Some((pid, true))) => format!("kill -CONT {pid}"),
            (false, Some((pid, false))) => format!("kill {pid}, and start it again"),
            _ => "make the reader faster, or start the writer with more max_bytes or a reader_lag_max".to_owned(),
        };
        findings.push(Finding::problem(
            "reader-slow",
            queue,
            format!(
                "reader \"{}\"{who} is {lag} behind{} and the queue is full",
                reader.name,
                if looks { "" } else { ", does not look" }
            ),
            "the writer keeps the oldest segment for it, and refuses appends until it goes on or its time to live is over",
            fix,
        ));
    }
    findings.len() > before
}

/// The venue whose raw queue this is.
fn raw_venue(patient: &Patient, queue: &Path) -> Option<Name> {
    let venue = Name::new(&name_of(queue.parent()?)).ok()?;
    (patient.root.raw_queue(&venue) == queue).then_some(venue)
}

fn clock(patient: &Patient, queue: &Path, description: &Description, findings: &mut Vec<Finding>) {
    let now = patient.now_ns + SLACK_NS;
    let newest = description.segments.iter().filter_map(|segment| segment.times).map(|(_, newest)| newest).max();
    let ahead = |ns: u64| format!("{:.1} s", (ns - patient.now_ns) as f64 / 1e9);
    let what = if description.created_ns > now {
        Some(format!("the queue was made in {}, in the future", ahead(description.created_ns)))
    } else if let Some(segment) = description.segments.iter().find(|segment| segment.created_ns > now) {
        Some(format!("segment {} was made in {}, in the future", segment.segment_id, ahead(segment.created_ns)))
    } else if let Some(pair) =
        description.segments.windows(2).find(|pair| pair[1].created_ns + SLACK_NS < pair[0].created_ns)
    {
        Some(format!(
            "segment {} was made at {}, before segment {}, which was there first",
            pair[1].segment_id,
            rfc3339(pair[1].created_ns),
            pair[0].segment_id
        ))
    } else {
        newest.filter(|newest| description.clock == "ingest" && *newest > now).map(|newest| {
            format!("the newest frame is of {}, {} ahead of this machine", rfc3339(newest), ahead(newest))
        })
    };
    if let Some(what) = what {
        findings.push(Finding::problem(
            "clock-stepped",
            queue,
            format!("the wall clock was set back: {what}"),
            "times of frames go backwards there: days, latencies and merges by time are wrong around the step",
            "timedatectl status; let chrony or ntpd slew the clock (makestep only at boot)".to_owned(),
        ));
    }
}

/// Frames that a live feed put aside when its queue was full, and that nobody has fetched.
fn overflow(patient: &Patient, queue: &Path, description: &Description, venue: &str, findings: &mut Vec<Finding>) {
    let Some(next) = description.next_seq.filter(|_| !description.writer) else { return };
    let first = description.segments.iter().find_map(|segment| segment.first_seq).unwrap_or(next);
    let read = description.readers.iter().filter_map(|reader| reader.durable_seq.max(reader.seq)).max();
    let waiting = next.saturating_sub(read.unwrap_or(first).max(first));
    if waiting == 0 {
        return;
    }
    findings.push(Finding::problem(
        "overflow-unread",
        queue,
        format!("{} frames of {venue} wait in the overflow queue, and no feed is running", Count(waiting)),
        "they came while the raw queue was full; the archive has a hole until a feed puts them behind the others",
        format!("chronicle feed --venue {venue} --root {} --symbols …", patient.called),
    ));
}
