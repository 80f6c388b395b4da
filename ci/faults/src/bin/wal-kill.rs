//! SIGKILL for a log's writer, again and again: `wal-kill WRITER [--kills N] [--seed S] [--dir DIR] [--way WAY]… [--flushes]`
//!
//! A writer with 64 committers is killed at a random moment, most often while it works, now and then while it opens the
//! log. Its successor opens the log at once, without waiting for the death to be over. Then all that the dead one was
//! acknowledged must be there, unchanged, and nothing that nobody appended; what was accepted in earlier rounds too. What a
//! writer was acknowledged it says through a pipe.
//!
//! Between those, 32 writers with 8 writes in flight each are killed together, and what their successors accept is looked
//! at twice: writes of the dead that land late change nothing.
//!
//! `--flushes` kills nobody: it commits, and prints what the log counted beside the device's own counter of flushes. That
//! counts other programs' too, and none where a write is durable by itself (FUA).

use chronicle_faults::{
    log,
    record::{Tag, Witness},
    writer::{Job, Writer},
};
use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const COMMITTERS: u32 = 64;
/// Writers that are killed together, and writes in flight of each.
const LOGS: usize = 32;
const DEPTH: u8 = 8;
/// How often, in each hundred kills.
const STORMS: u64 = 1;
/// What a log that is killed one by one keeps, and its segments.
const RETAIN_BYTES: u64 = 6 << 20;
const SEGMENT_LEN: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

struct Arguments {
    writer: PathBuf,
    kills: u64,
    seed: u64,
    dir: PathBuf,
    ways: Vec<&'static str>,
    flushes: bool,
}

#[derive(Default)]
struct Counts {
    kills: u64,
    opening: u64,
    missed: u64,
    acked: u64,
    found: u64,
    unacked: u64,
    retired: u64,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| if arguments.flushes { flushes(&arguments) } else { run(&arguments) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("wal-kill: {why}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut words = env::args().skip(1);
    let usage = "usage: wal-kill WRITER [--kills N] [--seed S] [--dir DIR] [--way WAY]… [--flushes]";
    let mut arguments = Arguments {
        writer: words.next().ok_or(usage)?.into(),
        kills: 200,
        seed: SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_nanos() as u64,
        dir: env::temp_dir(),
        ways: Vec::new(),
        flushes: false,
    };
    while let Some(name) = words.next() {
        if name == "--flushes" {
            arguments.flushes = true;
            continue;
        }
        let value = words.next().ok_or(usage)?;
        let number = || value.parse().map_err(|error| format!("{name} {value}: {error}"));
        match &*name {
            "--kills" => arguments.kills = number()?,
            "--seed" => arguments.seed = number()?,
            "--dir" => arguments.dir = value.into(),
            "--way" => arguments.ways.push(value.leak()),
            _ => return Err(usage.into()),
        }
    }
    if arguments.ways.is_empty() {
        arguments.ways = vec!["uring", "direct", "buffered"];
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let Arguments { writer, kills, seed, dir, ways, .. } = arguments;
    println!("wal-kill: seed {seed}, {kills} kills, {COMMITTERS} committers, in {}", dir.display());
    let scratch = Scratch(dir.join(format!("chronicle-wal-kill-{}", std::process::id())));
    let began = Instant::now();
    let mut random = Random(*seed);
    let share = kills.div_ceil(ways.len() as u64);
    let mut all = Counts::default();
    for way in ways {
        let counts = kill_one_by_one(writer, way, share, &scratch.0.join(way), &mut random)
            .map_err(|why| format!("seed {seed}: {way}: {why}"))?;
        println!(
            "wal-kill: {way}: {} killed at work, {} while opening, {} missed: {} records acknowledged, {} found, {} of them never \
             acknowledged; {} times a life's first records were retired before anybody looked",
            counts.kills, counts.opening, counts.missed, counts.acked, counts.found, counts.unacked, counts.retired
        );
        all.kills += counts.kills;
        all.opening += counts.opening;
        all.acked += counts.acked;
    }
    let storms = (kills * STORMS).div_ceil(100);
    let (mut accepted, mut late) = (0, 0);
    for storm in 0..storms {
        let (more, changed) = kill_together(writer, &scratch.0.join(format!("storm-{storm}")), &mut random)
            .map_err(|why| format!("seed {seed}: {LOGS} writers: {why}"))?;
        accepted += more;
        late += changed;
    }
    println!(
        "wal-kill: {storms} times {LOGS} writers, up to {} writes in flight: {accepted} records accepted, none changed; behind them the files of \
         {late} logs did",
        LOGS * usize::from(DEPTH)
    );
    println!(
        "wal-kill: {} kills, {} records acknowledged, every one found; {:.0} s",
        all.kills + all.opening,
        all.acked,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn flushes(arguments: &Arguments) -> Result<(), String> {
    let scratch = Scratch(arguments.dir.join(format!("chronicle-wal-flushes-{}", std::process::id())));
    for way in &arguments.ways {
        for committers in [1, 64] {
            let job = Job {
                way,
                committers,
                count: 640 / u64::from(committers).min(16),
                segment_len: 16 << 20,
                hold: true,
                ..Job::default()
            };
            let at = scratch.0.join(format!("{way}-{committers}"));
            fs::create_dir_all(&at).map_err(|error| error.to_string())?;
            let mut writer =
                Writer::start(Command::new(&arguments.writer), &at, &job).map_err(|error| error.to_string())?;
            let ready = writer.ready(PATIENCE)?;
            // The files that are made ahead are on the device by then.
            thread::sleep(Duration::from_millis(500));
            let before = device_flushes(&at);
            writer.go();
            let (heard, _) = writer.wait();
            let device = match (before, device_flushes(&at)) {
                (Ok(before), Ok(after)) => format!("{} flushes of the device", after - before),
                (Err(why), _) | (_, Err(why)) => format!("no counter of the device: {why}"),
            };
            let [_, batches, syncs, _] = heard.end.ok_or("a writer that never ended")?;
            let commits = heard.acked.len();
            println!(
                "wal-kill: {way}, {committers} committers: {commits} commits, {batches} batches, {syncs} durable writes or syncs, {device}; {}",
                ready.mode
            );
        }
    }
    Ok(())
}

/// How often the device below a directory was flushed since the machine started.
fn device_flushes(dir: &Path) -> Result<u64, String> {
    let device = fs::metadata(dir).map_err(|error| error.to_string())?.dev();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let mut at = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).map_err(|error| error.to_string())?;
    if at.join("partition").exists() {
        at.pop();
    }
    let stat = fs::read_to_string(at.join("stat")).map_err(|error| error.to_string())?;
    stat.split_whitespace().nth(15).and_then(|word| word.parse().ok()).ok_or_else(|| "it counts no flushes".into())
}

/// One log, whose writer is killed `kills` times.
fn kill_one_by_one(
    program: &Path,
    way: &'static str,
    kills: u64,
    dir: &Path,
    random: &mut Random,
) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let mut witness = Witness::default();
    let mut job = Job {
        way,
        committers: COMMITTERS,
        count: u64::MAX,
        segment_len: SEGMENT_LEN,
        batch_len: 64 << 10,
        // So little that a life's first records are often gone when it is looked at.
        retain_bytes: RETAIN_BYTES,
        hold: true,
        ..Job::default()
    };
    let start =
        |job: &Job| Writer::start(Command::new(program), &dir.join("log"), job).map_err(|error| error.to_string());
    fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let mut writer = start(&job)?;
    // Of the life before this one, and of those that died while they opened the log: nothing.
    let (mut last_life, mut acked): (u32, Vec<(Tag, u64)>) = (0, Vec::new());
    loop {
        let ready = writer.ready(PATIENCE)?;
        // The successor has the log and does not write yet: what it accepted is what is there.
        let records = log::read(&dir.join("log"))?;
        let ends = records.last().map_or(ready.next_seq, |(seq, _)| seq + 1);
        if ends != ready.next_seq {
            return Err(format!("its writer goes on at {}, a reader at {ends}", ready.next_seq));
        }
        let found = witness.look(records, last_life, &acked)?;
        if let Some((known, first)) = witness.begins_behind() {
            let kept = log::segment_bytes(&dir.join("log"))?;
            if kept + SEGMENT_LEN < RETAIN_BYTES {
                let gone = format!("records {} to {}", known + 1, first - 1);
                return Err(format!(
                    "{gone} are gone, and segments of {kept} bytes are left of {RETAIN_BYTES} to keep"
                ));
            }
            counts.retired += 1;
        }
        counts.found += found;
        counts.acked += acked.len() as u64;
        counts.unacked += found - acked.len() as u64;
        if counts.kills + counts.opening >= kills {
            writer.go();
            drop(writer.kill());
            return Ok(counts);
        }
        last_life = writer.life();
        writer.go();
        thread::sleep(Duration::from_micros(random.below(60_000)));
        let killed = writer.kill_at_once();
        counts.kills += u64::from(killed.running);
        counts.missed += u64::from(!killed.running);
        job.life += 1;
        writer = start(&job)?;
        acked = killed.heard().acked;
        while random.below(8) == 0 {
            // This one does not come that far.
            thread::sleep(Duration::from_micros(random.below(15_000)));
            let killed = writer.kill_at_once();
            counts.opening += u64::from(killed.running);
            job.life += 1;
            writer = start(&job)?;
            let heard = killed.heard();
            if let Some(failed) = heard.failed {
                return Err(failed);
            }
        }
    }
}

/// Many logs, whose writers are killed at one moment: how many records were accepted, and in how many logs anything changed
/// behind those later.
fn kill_together(program: &Path, dir: &Path, random: &mut Random) -> Result<(usize, usize), String> {
    let job = Job {
        way: "uring",
        committers: 4,
        count: u64::MAX,
        burst: 100,
        depth: DEPTH,
        batch_len: 16 << 10,
        segment_len: 1 << 20,
        ..Job::default()
    };
    fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let at = |n: usize| dir.join(n.to_string());
    let start = |n| Writer::start(Command::new(program), &at(n).join("log"), &job).map_err(|error| error.to_string());
    let writers = (0..LOGS).map(|n| fs::create_dir(at(n)).map_err(|e| e.to_string()).and_then(|()| start(n)));
    let writers = writers.collect::<Result<Vec<_>, _>>()?;
    for writer in &writers {
        writer.ready(PATIENCE)?;
    }
    thread::sleep(Duration::from_micros(20_000 + random.below(60_000)));
    let killed: Vec<_> = writers.into_iter().map(Writer::kill_at_once).collect();
    let mut opened = Vec::new();
    for n in 0..LOGS {
        log::recover(&at(n).join("log"), &job).map_err(|error| format!("log {n}: {error}"))?;
        opened.push((log::read(&at(n).join("log"))?, bytes(&at(n).join("log"))));
    }
    let acked: Vec<_> = killed.into_iter().map(|killed| killed.heard().acked).collect();
    thread::sleep(Duration::from_millis(200));
    let (mut accepted, mut late) = (0, 0);
    for (n, ((records, files), acked)) in opened.into_iter().zip(acked).enumerate() {
        Witness::default().look(records.iter().cloned(), 0, &acked).map_err(|lie| format!("log {n}: {lie}"))?;
        if log::read(&at(n).join("log"))? != records {
            return Err(format!("log {n}: what was accepted has changed"));
        }
        late += usize::from(bytes(&at(n).join("log")) != files);
        accepted += records.len();
    }
    fs::remove_dir_all(dir).map_err(|error| error.to_string())?;
    Ok((accepted, late))
}

/// The bytes of a log's segments.
fn bytes(dir: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    files.into_iter().filter_map(|path| fs::read(path).ok()).collect()
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
