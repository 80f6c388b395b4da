//! What can be known of live queues from outside, read again and again.
//!
//! ```text
//! each tick, each queue:  describe          positions, cursors, counters, whether a writer is there
//!                         wake.meta         somebody sleeps? how often was somebody woken?
//!                         cursors' beats    does a reader look, sleep or stand still?
//! then, together:         a look at the word where the next frame will begin, until it is there or the time is over:
//!                         now − its time is the latency from its writer's stamp to here
//! ```
//!
//! Everything is read with `read`: nothing is mapped for longer than a description takes, no wake word is set, no cursor is
//! kept, and the locks that a description tries are those that any look tries, for microseconds. Where there are more queues
//! than half an interval suffices for, they take turns and keep their last figures meanwhile.

use crate::{queues, run::chain};
use chronicle::{
    System,
    bus::{Layout, State, look},
    core::{
        Checksum, Header,
        frame::{Decoded, decode},
        layout::{COMMIT_END, HEADER_LEN},
    },
    platform::Platform,
    storage::{
        queue::{Description, SegmentState, describe, layout},
        root::Root,
    },
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often directories are looked through for new queues.
const RESCAN: Duration = Duration::from_secs(2);
/// A heartbeat older than this is of a writer that stands still.
const STALE: Duration = Duration::from_secs(5);
/// How long a tick looks for the next frames without a pause, and how long in all.
const SPIN: Duration = Duration::from_millis(2);
const WINDOW: Duration = Duration::from_millis(150);
/// The pause between two looks of the slower kind.
const PAUSE: Duration = Duration::from_micros(100);
/// Queues that are looked at for their next frame in one tick.
const PROBES: usize = 16;
/// Chunks of 256 KiB that a queue may have grown by between its description and the look at its end.
const CHUNKS: u32 = 64;
/// A frame older than this when it came is a recording's.
const LIVE_NS: u64 = 3_600_000_000_000;
/// Looks a second up to which a reader sleeps between them: a sleeper looks about every 100 ms, and at every wake.
const SLEEPS: f64 = 50.0;

/// What one tick saw.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tick {
    /// When, ns since 1970.
    pub(super) at_ns: u64,
    pub(super) queues: Vec<Queue>,
    pub(super) leases: Vec<Lease>,
}

/// Whether a queue has a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Writer {
    Alive,
    /// Its heart does not beat.
    Stalled,
    /// It closed the queue in order.
    Closed,
    Died,
    /// The queue could not be read.
    Unknown,
}

/// A queue.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) writer: Writer,
    /// Frames since the queue began.
    pub(super) frames: u64,
    pub(super) frames_per_s: Option<f64>,
    pub(super) bytes_per_s: Option<f64>,
    pub(super) used_bytes: u64,
    pub(super) max_bytes: u64,
    /// Appends that found nothing ready: what a feed puts into its overflow, or drops with a gap.
    pub(super) refused: u64,
    pub(super) refused_per_s: Option<f64>,
    pub(super) rolls: u64,
    /// Whether somebody sleeps on the wake word.
    pub(super) sleeper: bool,
    pub(super) wakes_per_s: Option<f64>,
    pub(super) latency: Option<Latency>,
    pub(super) readers: Vec<Reader>,
    /// Why nothing more is known.
    pub(super) error: Option<String>,
}

impl Queue {
    /// Part of the budget that segments take.
    pub(super) fn fill(&self) -> f64 {
        if self.max_bytes == 0 { 0.0 } else { self.used_bytes as f64 / self.max_bytes as f64 }
    }

    /// The reader that is furthest behind, of those that are there.
    pub(super) fn slowest(&self) -> Option<&Reader> {
        self.readers.iter().filter(|reader| reader.state != ReaderState::Gone).max_by_key(|reader| reader.lag)
    }
}

/// From a frame's stamp to its being seen here.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    /// `ingest` or `exchange`: what the stamp means.
    pub(super) since: &'static str,
    pub(super) ns: u64,
    /// It may have been there so much earlier: the pause since the look before.
    pub(super) slack_ns: u64,
}

/// What a reader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReaderState {
    /// Looks again and again without sleeping.
    Spins,
    /// Looks about as often as frames come.
    Reads,
    /// Sleeps until it is woken.
    Sleeps,
    /// Has its cursor and does not look.
    Silent,
    /// Not there; its cursor is.
    Gone,
    /// Seen once.
    Unknown,
    /// Its cursor cannot be read.
    Damaged,
}

/// A reader with a cursor.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reader {
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) state: ReaderState,
    /// Frames between its committed cursor and the tail.
    pub(super) lag: Option<u64>,
    pub(super) looks_per_s: Option<f64>,
}

/// Who has registered something.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Lease {
    pub(super) entry: String,
    pub(super) state: String,
    pub(super) pid: Option<u32>,
    pub(super) epoch: Option<u64>,
    /// Since its last renewal.
    pub(super) age_ns: Option<u64>,
    /// Whether somebody should look.
    pub(super) well: bool,
}

/// What is needed of the last look to say how fast something moves.
struct Before {
    at: Instant,
    next_seq: u64,
    segment: u64,
    end: u64,
    refused: u64,
    generation: u32,
    beats: HashMap<String, u32>,
}

/// Looks at all queues of a root.
pub(super) struct Observer {
    root: Root,
    paths: Vec<PathBuf>,
    scanned: Option<Instant>,
    /// Whose turn it is, where all do not fit into a tick.
    turn: usize,
    rows: BTreeMap<PathBuf, Queue>,
    before: HashMap<PathBuf, Before>,
}

impl Observer {
    pub(super) fn new(root: &Root) -> Self {
        Observer {
            root: root.clone(),
            paths: Vec::new(),
            scanned: None,
            turn: 0,
            rows: BTreeMap::new(),
            before: HashMap::new(),
        }
    }

    /// One tick; `chosen` is looked at first.
    pub(super) fn look(&mut self, interval: Duration, chosen: Option<&Path>) -> Tick {
        if self.scanned.is_none_or(|scanned| scanned.elapsed() >= RESCAN) {
            self.paths = queues::of(&self.root);
            self.paths.sort();
            self.scanned = Some(Instant::now());
            let there = &self.paths;
            self.rows.retain(|path, _| there.binary_search(path).is_ok());
            self.before.retain(|path, _| there.binary_search(path).is_ok());
        }
        let began = Instant::now();
        let count = self.paths.len();
        let mut probes = Vec::new();
        let mut seen = 0;
        while seen < count && (seen == 0 || began.elapsed() < interval / 2) {
            let path = self.paths[(self.turn + seen) % count].clone();
            self.queue(&path, chosen, &mut probes);
            seen += 1;
        }
        self.turn = if count == 0 { 0 } else { (self.turn + seen) % count };
        for (path, latency) in probe(probes, chosen, interval) {
            if let Some(row) = self.rows.get_mut(&path) {
                row.latency = Some(latency);
            }
        }
        Tick { at_ns: System.now_ns(), queues: self.rows.values().cloned().collect(), leases: leases(&self.root.hot) }
    }

    fn queue(&mut self, path: &Path, chosen: Option<&Path>, probes: &mut Vec<Probe>) {
        let name = queues::name(&self.root.hot, path);
        let row = match describe(&System, path) {
            Ok(description) => {
                let before = self.before.remove(path);
                let now = now(path, &description);
                let row = row(name, path, &description, before.as_ref(), &now);
                let moves = row.frames_per_s.is_some_and(|rate| rate > 0.0);
                if moves || chosen == Some(path) {
                    probes.extend(Probe::of(path, &description, row.frames_per_s.unwrap_or(0.0)));
                }
                self.before.insert(path.to_owned(), now);
                row
            }
            Err(error) => {
                self.before.remove(path);
                unreadable(name, path, chain(&error))
            }
        };
        self.rows.insert(path.to_owned(), row);
    }
}

fn now(path: &Path, description: &Description) -> Before {
    let tail = description.segments.iter().rev().find(|segment| segment.first_seq.is_some());
    let word = |file: &Path, at: usize| {
        let mut word = [0; 4];
        fs::File::open(file).and_then(|file| file.read_exact_at(&mut word, at as u64)).ok()?;
        Some(u32::from_le_bytes(word))
    };
    let beats = description.readers.iter().filter_map(|reader| {
        let file = path.join("readers").join(format!("{}.meta", reader.name));
        Some((reader.name.clone(), word(&file, layout::BEATS)?))
    });
    Before {
        at: Instant::now(),
        next_seq: description.next_seq.unwrap_or(1),
        segment: tail.map_or(0, |tail| tail.segment_id),
        end: tail.map_or(0, |tail| tail.end),
        refused: description.counters.refused,
        generation: word(&path.join("wake.meta"), 0).unwrap_or(0),
        beats: beats.collect(),
    }
}

fn row(name: String, path: &Path, description: &Description, before: Option<&Before>, now: &Before) -> Queue {
    let seconds = before.map(|before| now.at.duration_since(before.at).as_secs_f64()).filter(|s| *s > 0.0);
    let rate = |now: u64, before: u64| seconds.map(|seconds| now.saturating_sub(before) as f64 / seconds);
    let frames_per_s = before.and_then(|before| rate(now.next_seq, before.next_seq));
    let stalled = Duration::from_nanos(description.heartbeat_age_ns) > STALE;
    let readers = description.readers.iter().map(|reader| {
        let beats = |of: &Before| of.beats.get(&reader.name).copied();
        let looks = before.and_then(|before| Some(beats(now)?.wrapping_sub(beats(before)?)));
        let looks_per_s = looks.zip(seconds).map(|(looks, seconds)| f64::from(looks) / seconds);
        let state = match looks_per_s {
            _ if reader.error.is_some() => ReaderState::Damaged,
            // One that comes, reads and goes, as a feed's recorder does, sleeps between.
            _ if !reader.open && looks.is_none_or(|looks| looks == 0) => ReaderState::Gone,
            None => ReaderState::Unknown,
            Some(0.0) => ReaderState::Silent,
            Some(looks) if looks <= SLEEPS => ReaderState::Sleeps,
            Some(looks) if looks > 4.0 * frames_per_s.unwrap_or(0.0) + 1000.0 => ReaderState::Spins,
            Some(_) => ReaderState::Reads,
        };
        Reader { name: reader.name.clone(), required: reader.required, state, lag: reader.lag, looks_per_s }
    });
    Queue {
        name,
        path: path.to_owned(),
        writer: match (description.writer, stalled, description.closed) {
            (true, false, _) => Writer::Alive,
            (true, true, _) => Writer::Stalled,
            (false, _, true) => Writer::Closed,
            (false, _, false) => Writer::Died,
        },
        frames: now.next_seq - 1,
        frames_per_s,
        bytes_per_s: before.and_then(|before| rate(bytes_since(description, before, now), 0)),
        used_bytes: description.used_bytes,
        max_bytes: description.max_bytes,
        refused: description.counters.refused,
        refused_per_s: before.and_then(|before| rate(now.refused, before.refused)),
        rolls: description.counters.rolls,
        sleeper: now.generation & 1 == 1,
        // 31 bits that go round; bit 0 is the mark.
        wakes_per_s: before.and_then(|before| {
            let wakes = (now.generation >> 1).wrapping_sub(before.generation >> 1) & (u32::MAX >> 1);
            rate(wakes.into(), 0)
        }),
        latency: None,
        readers: readers.collect(),
        error: None,
    }
}

/// Bytes of frames between two looks; of segments that are gone since, their length.
fn bytes_since(description: &Description, before: &Before, now: &Before) -> u64 {
    let header = HEADER_LEN as u64;
    if now.segment == before.segment {
        return now.end.saturating_sub(before.end);
    }
    let ids = before.segment.max(1)..=now.segment;
    // Ids jump after a crash: no more of them than there are files, and those that went since.
    let gone = ids.clone().count().saturating_sub(description.segments.len()) as u64;
    let there: u64 = description
        .segments
        .iter()
        .filter(|segment| ids.contains(&segment.segment_id))
        .map(|segment| {
            segment.end.saturating_sub(if segment.segment_id == before.segment { before.end } else { header })
        })
        .sum();
    there + gone.min(1 << 20) * u64::from(description.segment_len)
}

fn unreadable(name: String, path: &Path, error: String) -> Queue {
    Queue {
        name,
        path: path.to_owned(),
        writer: Writer::Unknown,
        frames: 0,
        frames_per_s: None,
        bytes_per_s: None,
        used_bytes: 0,
        max_bytes: 0,
        refused: 0,
        refused_per_s: None,
        rolls: 0,
        sleeper: false,
        wakes_per_s: None,
        latency: None,
        readers: Vec::new(),
        error: Some(error),
    }
}

/// A look at where a queue's next frame will begin.
struct Probe {
    path: PathBuf,
    file: fs::File,
    offset: u64,
    /// Up to the last slot, which is `End`'s.
    left: u64,
    salt: u32,
    checksum: Checksum,
    seq: u64,
    since: &'static str,
    rate: f64,
    looked: Instant,
}

impl Probe {
    fn of(path: &Path, description: &Description, rate: f64) -> Option<Probe> {
        let tail = description.segments.iter().rev().find(|segment| segment.state == SegmentState::Current)?;
        let file = fs::File::open(&tail.path).ok()?;
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).ok()?;
        let header = Header::parse(&header).ok()?;
        Some(Probe {
            path: path.to_owned(),
            file,
            offset: tail.end,
            left: u64::from(header.segment_len).checked_sub(tail.end)?,
            salt: header.salt,
            checksum: header.checksum,
            seq: description.next_seq?,
            since: description.clock,
            rate,
            looked: Instant::now(),
        })
    }

    /// Goes to where nothing is yet; `false` if that cannot be reached.
    fn catch_up(&mut self) -> bool {
        let mut bytes = vec![0; 256 << 10];
        for _ in 0..CHUNKS {
            let want = bytes.len().min(self.left as usize);
            let Ok(read) = self.file.read_at(&mut bytes[..want], self.offset) else { return false };
            let mut at = 0;
            loop {
                match decode(&bytes[at..read], self.offset, self.left, self.salt, self.checksum) {
                    Ok(Decoded::Frame { header, len, .. }) if header.seq.get() == self.seq => {
                        (at, self.seq) = (at + len, self.seq + 1);
                        (self.offset, self.left) = (self.offset + len as u64, self.left.saturating_sub(len as u64));
                    }
                    Ok(Decoded::Open) => {
                        self.looked = Instant::now();
                        return true;
                    }
                    // The rest of it, unless one frame is more than a chunk.
                    Ok(Decoded::More { .. }) if at > 0 => break,
                    _ => return false,
                }
            }
        }
        false
    }

    /// `Err` where nothing will come here.
    fn look(&mut self) -> Result<Option<Latency>, ()> {
        let mut word = [0; 4];
        self.file.read_exact_at(&mut word, self.offset).map_err(|_| ())?;
        let (now_ns, looked) = (System.now_ns(), Instant::now());
        let slack = looked.duration_since(self.looked);
        self.looked = looked;
        match u32::from_le_bytes(word) {
            0 => return Ok(None),
            COMMIT_END => return Err(()),
            _ => {}
        }
        let mut bytes = vec![0; self.left.min(64 << 10) as usize];
        let read = self.file.read_at(&mut bytes, self.offset).map_err(|_| ())?;
        // The file may be another segment by now: then neither salt nor seq fit.
        match decode(&bytes[..read], self.offset, self.left, self.salt, self.checksum) {
            Ok(Decoded::Frame { header, .. }) if header.seq.get() == self.seq => {
                let ns = now_ns.checked_sub(header.time_ns.get()).filter(|ns| *ns < LIVE_NS).ok_or(())?;
                Ok(Some(Latency { since: self.since, ns, slack_ns: slack.as_nanos() as u64 }))
            }
            _ => Err(()),
        }
    }
}

/// Waits for the next frames of several queues at once.
fn probe(mut probes: Vec<Probe>, chosen: Option<&Path>, interval: Duration) -> Vec<(PathBuf, Latency)> {
    // The fastest are the surest; the chosen one is what somebody looks at.
    probes.sort_by(|a, b| {
        let first = |probe: &Probe| chosen != Some(probe.path.as_path());
        first(a).cmp(&first(b)).then(b.rate.total_cmp(&a.rate))
    });
    probes.truncate(PROBES);
    let mut seen = Vec::new();
    // What has come since it was described came at a moment that nobody looked.
    probes.retain_mut(Probe::catch_up);
    let began = Instant::now();
    let window = WINDOW.min(interval / 4);
    while !probes.is_empty() && began.elapsed() < window {
        probes.retain_mut(|probe| match probe.look() {
            Ok(None) => true,
            Ok(Some(latency)) => {
                seen.push((probe.path.clone(), latency));
                false
            }
            Err(()) => false,
        });
        if began.elapsed() < SPIN {
            std::thread::yield_now();
        } else {
            std::thread::sleep(PAUSE);
        }
    }
    seen
}

/// Who has registered, or has left something: an entry without either is nobody's.
fn leases(hot: &Path) -> Vec<Lease> {
    let layout = Layout::new(hot);
    let now_ns = System.monotonic_ns();
    let entries = queues::entries(hot).into_iter().filter_map(|entry| {
        let state = look(&System, &layout, &entry);
        if matches!(state, State::Gone | State::Absent) {
            return None;
        }
        let lease = state.lease();
        Some(Lease {
            entry: entry.to_string(),
            pid: lease.map(|lease| lease.pid),
            epoch: lease.map(|lease| lease.epoch),
            age_ns: lease.map(|lease| lease.age(now_ns).as_nanos() as u64),
            well: matches!(state, State::Starting(_) | State::Ready(_)),
            state: match state {
                State::Refused(_) => "refused".to_owned(),
                state => state.to_string(),
            },
        })
    });
    entries.collect()
}
