//! Group `roll`: appends that never stop for a new segment, and readers that follow.
//!
//! Writer and reader are processes of their own, each on its own processor; what prepares segments is the writer's
//! helper thread, which runs where it may. The baseline is the same writer over one segment of 1 GiB that is there from
//! the beginning. System calls and page faults are those of the two threads alone between their marks: calls as strace
//! saw them, faults as the kernel counted them.

use crate::{
    Choice,
    contest::{Line, Spread, Target, line},
    machine,
    queue::{self, Other, SEGMENT},
};
use chronicle_core::{Append, Checksum};
use chronicle_storage::queue::{Profile, PublisherOptions, Refused};
use std::{
    hint::{black_box, spin_loop},
    path::Path,
    time::Instant,
};

const PAYLOAD: [u8; 64] = [7; 64];
const FRAME: u64 = 96;
const ROUNDS: usize = 5;
/// Bytes of the baseline's writer: what its one segment takes.
const BASELINE: u64 = 1000 << 20;
/// Bytes that go before: the budget and some more, so that behind it segments are used again.
const WARM: u64 = 1500 << 20;
/// A call that nothing else makes, seen by strace as a mark: signal number 0 to itself, which does nothing.
const MARK: &str = "kill(";

/// What the two processes tell of one run.
struct Run {
    /// Mean of an append, ns, waiting included.
    mean: f64,
    /// Each roll, ns.
    rolls: Vec<f64>,
    writer_faults: f64,
    /// While segments are new files, then while they are used again.
    reader_faults: (f64, f64),
    refused: f64,
    /// Calls of writer and reader, if strace ran: while segments are new files, then while they are used again.
    calls: Option<[(f64, f64); 2]>,
}

pub fn run(dir: &Path, choice: &Choice, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let total: u64 = if choice.full { 10_000_000_000 } else { 2_000_000_000 };
    let mut nth = 0;
    let mut one = |how: How, len: u64, traced: bool| {
        nth += 1;
        let dir = dir.join(format!("queue-{nth}"));
        let run = pair(&dir, how, len, traced);
        let _ = std::fs::remove_dir_all(&dir);
        run
    };
    let (mut ours, mut floor) = (vec![], vec![]);
    for round in 0..=ROUNDS {
        let baseline = one(How::One, BASELINE, false)?;
        let rolled = one(How::Rolling, total, false)?;
        if round > 0 {
            ours.push(rolled.mean);
            floor.push(baseline.mean);
        }
        if rolled.refused > 0.0 {
            eprintln!("roll: {} appends refused and tried again: the reader or the helper was behind", rolled.refused);
        }
    }
    let name = |what: &str| format!("{what}, {} GB through 64 MiB segments", total / 1_000_000_000);
    let show = |case: String, unit: &'static str, figures: &[f64], target| {
        line("roll", case, unit, false, figures, None, &[], target)
    };
    let baseline = Some(("one prefaulted 1 GiB segment", &floor[..]));
    out(line("roll", name("append 64 B, mean"), "ns", false, &ours, baseline, &[], Target::Ratio(1.1)));

    let timed = one(How::Timed, total, false)?;
    if timed.rolls.is_empty() {
        return Err("no roll in the whole run".to_owned());
    }
    let mut sorted = timed.rolls.clone();
    sorted.sort_by(f64::total_cmp);
    let p99 = sorted[((sorted.len() - 1) as f64 * 0.99).round() as usize];
    let count = sorted.len();
    out(show(format!("the append that rolls, median of {count}"), "ns", &timed.rolls, Target::Median(1000.0)));
    out(show(format!("the append that rolls, p99 of {count}"), "ns", &[p99], Target::None));
    out(show(format!("the append that rolls, longest of {count}"), "ns", &[Spread::of(&sorted).max], Target::None));

    out(show(name("page faults, writer's thread"), "faults", &[timed.writer_faults], Target::Never(0.0)));
    let (new, again) = timed.reader_faults;
    out(show("page faults, reader, segments used again".to_owned(), "faults", &[again], Target::Never(0.0)));
    out(show("page faults, reader, segments that are new".to_owned(), "faults", &[new], Target::None));
    if !strace_works() {
        eprintln!("roll: strace is absent or may not trace: system calls were not counted");
        return Ok(());
    }
    let traced = one(How::Rolling, total, true)?.calls.unwrap_or_default();
    let still = one(How::One, BASELINE, true)?.calls.unwrap_or_default();
    let per_roll = |calls: f64, len: u64| [(calls / (len as f64 / f64::from(SEGMENT))).ceil()];
    let writer = traced[0].0 + traced[1].0 + still[1].0;
    out(show(name("system calls, writer's thread"), "calls", &[writer], Target::Never(0.0)));
    out(show("system calls between rolls, reader".to_owned(), "calls", &[still[1].1], Target::Never(0.0)));
    let (new, again) = (per_roll(traced[0].1, WARM), per_roll(traced[1].1, total));
    out(show("system calls a roll, reader, segments used again".to_owned(), "calls", &again, Target::Never(6.0)));
    out(show("system calls a roll, reader, segments that are new".to_owned(), "calls", &new, Target::None));
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// One segment of 1 GiB.
    One,
    /// Segments of 64 MiB.
    Rolling,
    /// As `Rolling`, each roll timed.
    Timed,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            How::One => "one",
            How::Rolling => "rolling",
            How::Timed => "timed",
        }
    }
}

fn strace_works() -> bool {
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "true"]).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn pair(dir: &Path, how: How, len: u64, traced: bool) -> Result<Run, String> {
    let warm = if how == How::One { 0 } else { WARM };
    let (warm, count) = ((warm / FRAME).to_string(), (len / FRAME).to_string());
    std::fs::create_dir_all(dir).map_err(|it| it.to_string())?;
    let traces = [dir.join("writer.strace"), dir.join("reader.strace")];
    let queue_dir = dir.join("queue");
    let wrapper =
        |nth: usize| traces[nth].to_str().map(|path| ["strace", "-f", "-o", path].to_vec()).unwrap_or_default();
    let wrapper = |nth: usize| if traced { wrapper(nth) } else { Vec::new() };
    let mut writer = Other::start(&wrapper(0), &["roll-write", how.word(), &warm, &count], &queue_dir)?;
    let writer_thread = writer.hear()?;
    let mut reader = Other::start(&wrapper(1), &["roll-read", &warm, &count], &queue_dir)?;
    let reader_thread = reader.hear()?;
    reader.tell("go")?;
    writer.tell("go")?;
    let wrote = numbers(&writer.hear()?)?;
    let read = numbers(&reader.hear()?)?;
    // A trace is whole when its process has left.
    reader.finish()?;
    writer.finish()?;
    let [mean, refused, writer_faults, rolls @ ..] = &wrote[..] else {
        return Err("the writer said too little".into());
    };
    let [new_faults, reader_faults] = read[..] else { return Err("the reader said too little".into()) };
    let calls = if traced {
        let (writer, reader) = (calls(&traces[0], &writer_thread)?, calls(&traces[1], &reader_thread)?);
        Some([(writer[0], reader[0]), (writer[1], reader[1])])
    } else {
        None
    };
    Ok(Run {
        mean: *mean,
        rolls: rolls.to_vec(),
        writer_faults: *writer_faults,
        reader_faults: (new_faults, reader_faults),
        refused: *refused,
        calls,
    })
}

fn numbers(line: &str) -> Result<Vec<f64>, String> {
    line.split(' ').map(|word| word.parse().map_err(|_| format!("{word}: not a number"))).collect()
}

/// Lines of a thread between its first mark and its second, and between that and its third.
fn calls(trace: &Path, thread: &str) -> Result<[f64; 2], String> {
    let text = std::fs::read_to_string(trace).map_err(|it| it.to_string())?;
    let mut marks = 0;
    let mut calls = [0.0; 2];
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(thread).and_then(|rest| rest.strip_prefix(' ')) else { continue };
        let rest = rest.trim_start();
        if rest.starts_with(MARK) {
            marks += 1;
        } else if matches!(marks, 1 | 2) && !rest.starts_with("<...") && !rest.starts_with("---") {
            calls[marks - 1] += 1.0;
        }
    }
    if marks == 3 { Ok(calls) } else { Err(format!("{marks} marks in the trace of a thread, not 3")) }
}

fn mark(this: rustix::process::Pid) {
    let _ = rustix::process::test_kill_process(this);
}

pub fn write(how: &str, warm: &str, count: &str, dir: &Path) -> Result<(), String> {
    let (warm, count) = (parsed(warm)?, parsed(count)?);
    let raw = PublisherOptions { checksum: Checksum::CommitWord, ..PublisherOptions::new(Profile::Raw) };
    let options = if how == "one" {
        // Nothing is prepared behind it: this segment is all there will be.
        PublisherOptions {
            segment_len: 1 << 30,
            segments_ahead: 1,
            max_bytes: 4 << 30,
            prepare_late: true,
            helper: false,
            ..raw
        }
    } else {
        PublisherOptions { segment_len: SEGMENT, ..raw }
    };
    let mut publisher = queue::publisher(dir, options)?;
    machine::pin(0);
    queue::say(&rustix::thread::gettid().as_raw_nonzero().to_string());
    queue::told()?;
    let (tick, timed) = (machine::tick_ns(), how == "timed");
    // Filled before it is emptied, so that its own pages are there.
    let mut rolls = vec![0.0; 4096];
    rolls.clear();
    let mut refused = 0_u64;
    let this = rustix::process::getpid();
    let mut faults = machine::Faults::count()?;
    mark(this);
    for number in 0..warm {
        append_spinning(&mut publisher, Append { time_ns: number, type_id: 1, flags: 0 }, &mut refused)?;
    }
    refused = 0;
    mark(this);
    let began = Instant::now();
    let mut segment = publisher.segment_id();
    for number in warm..warm + count {
        let append = Append { time_ns: number, type_id: 1, flags: 0 };
        if timed {
            let before = machine::ticks();
            append_spinning(&mut publisher, append, &mut refused)?;
            let after = machine::ticks();
            if publisher.segment_id() != segment {
                segment = publisher.segment_id();
                if rolls.len() < rolls.capacity() {
                    rolls.push((after - before) as f64 * tick);
                }
            }
        } else {
            append_spinning(&mut publisher, append, &mut refused)?;
        }
    }
    let mean = began.elapsed().as_nanos() as f64 / count as f64;
    mark(this);
    let faults = faults.read()?;
    let rolls: String = rolls.iter().map(|roll| format!(" {roll:.0}")).collect();
    queue::say(&format!("{mean} {refused} {faults}{rolls}"));
    // Stays until the reader is through: its end would be news to the reader.
    queue::told()?;
    Ok(())
}

type Publisher = chronicle_storage::queue::Publisher<chronicle_platform_linux::Linux>;
type Subscriber = chronicle_storage::queue::Subscriber<chronicle_platform_linux::Linux>;

#[inline(always)]
fn append_spinning(publisher: &mut Publisher, append: Append, refused: &mut u64) -> Result<(), String> {
    loop {
        match publisher.append(append, black_box(&PAYLOAD)) {
            Ok(_) => return Ok(()),
            Err(Refused::NotReady | Refused::QueueFull { .. }) => {
                *refused += 1;
                spin_loop();
            }
            Err(refusal) => return Err(refusal.to_string()),
        }
    }
}

pub fn read(warm: &str, count: &str, dir: &Path) -> Result<(), String> {
    let (warm, count) = (parsed(warm)?, parsed(count)?);
    let mut subscriber = queue::subscriber(dir)?;
    machine::pin(1);
    queue::say(&rustix::thread::gettid().as_raw_nonzero().to_string());
    queue::told()?;
    let this = rustix::process::getpid();
    let mut faults = machine::Faults::count()?;
    mark(this);
    let mut looked = 0_u64;
    follow(&mut subscriber, warm, &mut looked)?;
    let while_new = faults.read()?;
    mark(this);
    follow(&mut subscriber, warm + count, &mut looked)?;
    mark(this);
    black_box(looked);
    queue::say(&format!("{while_new} {}", faults.read()? - while_new));
    queue::told()?;
    Ok(())
}

fn parsed(count: &str) -> Result<u64, String> {
    count.parse().map_err(|_| format!("{count}: not a count"))
}

/// Reads up to this seq, committing as it goes.
fn follow(subscriber: &mut Subscriber, last: u64, looked: &mut u64) -> Result<(), String> {
    let mut seen = subscriber.position().map_or(0, |position| position.seq.saturating_sub(1));
    while seen < last {
        match subscriber.next().map_err(|it| it.to_string())? {
            Some(frame) => {
                *looked = looked.wrapping_add(frame.payload.u64_at(0).unwrap_or(0));
                seen = frame.seq;
                if seen.is_multiple_of(1024) {
                    subscriber.commit().map_err(|it| it.to_string())?;
                }
            }
            None => spin_loop(),
        }
    }
    Ok(())
}
