//! `chronicle bench host`: what this machine can do in a few seconds, and what would make it do better.
//!
//! Figures of one run on one machine, beside what else that machine does just now: good for "is this host set up right?",
//! and no claim about anything else. The verdict names what was measured or read, and the command that changes it.

use super::measure::{self, BLOCKS, Jitter, NONE, SLEEPS, SPINS, Times};
use crate::run::{Failure, Outcome, must_be_directory, print_json, with_stdout};
use chronicle::{
    System,
    platform::{Medium, Platform},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Measure this machine in a few seconds: hand-over between cores, append, wake-up, durable write, clock, jitter
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chronicle bench host
  chronicle bench host /var/lib/app --seconds 10
  chronicle bench host /var/lib/app --json

Queues are measured in memory where the machine keeps files there, writes in DIR; what is made is removed again. Each row
says how it waits and on which cores. Exit code 0 whatever the verdict: advice is no failure.")]
pub(crate) struct Args {
    /// Where durable writes are measured; this directory unless told
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How long all of it takes, about
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    seconds: f64,
    /// One JSON object: {host, rows: [{what, wait, cores, count, p50_ns, p99_ns, max_ns}], advice}
    #[arg(long)]
    json: bool,
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    what: String,
    wait: &'static str,
    cores: String,
    count: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Row {
    fn new(what: impl Into<String>, wait: &'static str, cores: String, times: &Times) -> Row {
        Row {
            what: what.into(),
            wait,
            cores,
            count: times.len(),
            p50_ns: times.value_at_quantile(0.5),
            p99_ns: times.value_at_quantile(0.99),
            p999_ns: times.value_at_quantile(0.999),
            max_ns: times.max(),
            note: None,
        }
    }
}

/// What the machine says of itself.
#[derive(Serialize)]
struct Host {
    kernel: Option<String>,
    processor: Option<String>,
    cores: Vec<u32>,
    virtual_machine: bool,
    /// Of the first core.
    governor: Option<String>,
    clock_source: Option<String>,
    isolated: Option<String>,
    /// Two threads of a core share it.
    smt: bool,
    huge_pages: Option<String>,
    /// How many processes wanted a core, on average over the last minute.
    load: Option<f64>,
    queues_in: PathBuf,
    queues_in_memory: bool,
    writes_in: PathBuf,
    writes_in_memory: bool,
}

/// What would be better.
#[derive(Serialize)]
struct Advice {
    what: String,
    command: String,
}

#[derive(Serialize)]
struct Report {
    host: Host,
    rows: Vec<Row>,
    /// Part of the time that a thread which never sleeps was away from its core.
    lost: f64,
    verdict: String,
    advice: Vec<Advice>,
}

/// Pairs of cores that are tried; all of a small machine, the first with each other of a large one.
const PAIRS: usize = 6;

pub(crate) fn run(args: Args) -> Outcome {
    must_be_directory(&args.dir)?;
    if !args.dir.is_dir() {
        return Err(Failure::Usage(format!("{}: no such directory", args.dir.display())));
    }
    if !(0.5..=600.0).contains(&args.seconds) {
        return Err(Failure::Usage(format!("--seconds {}: at least 0.5 and at most 600", args.seconds)));
    }
    let scratch = |dir: &Path| tempfile::Builder::new().prefix("chronicle-bench-").tempdir_in(dir);
    let disk = scratch(&args.dir)?;
    let memory = match System.memory_dir() {
        Some(dir) => scratch(&dir)?,
        None => scratch(&args.dir)?,
    };
    let report = measured(&args, disk.path(), memory.path())?;
    if args.json { print_json(&report) } else { with_stdout(|out| tell(out, &report)) }
}

fn measured(args: &Args, disk: &Path, memory: &Path) -> Result<Report, Failure> {
    let host = host(args, disk, memory)?;
    let cores = host.cores.clone();
    let pairs = pairs(&cores);
    let steps = 8 + pairs.len() as u64;
    let share = Duration::from_secs_f64(args.seconds / steps as f64);
    let bar = ProgressBar::new(steps);
    if args.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{msg:<24!} [{bar:32}] {pos} of {len}, {eta} left") {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut rows = Vec::new();
    let step = |what: &str| {
        bar.set_message(what.to_owned());
        bar.inc(1);
    };
    let one = cores.first().copied();
    let alone = one.map_or_else(|| "any".to_owned(), |core| core.to_string());
    let two = pairs.first().copied();
    let both = two.map_or_else(|| "any".to_owned(), |(a, b)| format!("{a} → {b}"));

    step("clock");
    rows.push(Row::new("read the clock", NONE, "any".to_owned(), &measure::clock(share)));
    for pair in &pairs {
        step("hand-over");
        let times = measure::hand_over(*pair, share)?;
        rows.push(Row::new("cache line to another core", SPINS, format!("{} → {}", pair.0, pair.1), &times));
    }
    step("append");
    rows.push(Row::new("append 64 B to a queue", NONE, "any".to_owned(), &measure::append(memory, share)?));
    if two.is_some() {
        step("to a reader");
        let times = measure::to_reader(memory, false, two, share)?;
        rows.push(Row::new("append → reader has it", SPINS, both.clone(), &times));
    }
    step("wake-up");
    rows.push(Row::new("append → reader has it", SLEEPS, both, &measure::to_reader(memory, true, two, share)?));
    step("sync");
    rows.push(Row::new("write 4 KiB and sync", BLOCKS, "any".to_owned(), &measure::sync(disk, share)?));
    step("commit");
    let (times, way) = measure::commit(disk, share)?;
    rows.push(Row { note: Some(way), ..Row::new("commit 128 B to a WAL", BLOCKS, "any".to_owned(), &times) });
    step("sleep");
    rows.push(Row::new("sleep 100 µs, too long by", SLEEPS, "any".to_owned(), &measure::sleep(share)));
    step("jitter");
    let Jitter { gaps, lost } = measure::jitter(one, share)?;
    rows.push(Row {
        note: Some(format!("{:.2} % of the time", lost * 100.0)),
        ..Row::new("away from the core", SPINS, alone, &gaps)
    });
    bar.finish_and_clear();
    let advice = advice(&host, &rows, lost);
    let verdict = match advice.len() {
        0 => "nothing to advise: this host is set up for it".to_owned(),
        1 => "one thing would help".to_owned(),
        n => format!("{n} things would help, the first most"),
    };
    Ok(Report { host, rows, lost, verdict, advice })
}

fn pairs(cores: &[u32]) -> Vec<(u32, u32)> {
    let mut pairs = Vec::new();
    for (at, a) in cores.iter().enumerate() {
        pairs.extend(cores[at + 1..].iter().map(|b| (*a, *b)));
    }
    if pairs.len() > PAIRS {
        // The first with the next, the last, and some between: near ones share a cache, far ones do not.
        let others = &cores[1..];
        let apart = others.len().div_ceil(PAIRS - 1);
        pairs = others.iter().step_by(apart).chain(others.last()).map(|b| (cores[0], *b)).collect();
        pairs.dedup();
    }
    pairs
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

fn host(args: &Args, disk: &Path, memory: &Path) -> Result<Host, Failure> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let found = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(found.split_once(':')?.1.trim().to_owned())
    };
    let in_memory = |dir: &Path| System.medium(dir).map(|medium| medium == Medium::Memory);
    Ok(Host {
        kernel: line("/proc/sys/kernel/osrelease"),
        processor: field("model name"),
        cores: System.processors()?.iter().map(|processor| processor.id).collect(),
        virtual_machine: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        isolated: line("/sys/devices/system/cpu/isolated"),
        smt: line("/sys/devices/system/cpu/smt/active").is_some_and(|text| text == "1"),
        huge_pages: line("/sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| Some(text.split(['[', ']']).nth(1)?.to_owned())),
        load: line("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        queues_in: memory.parent().unwrap_or(memory).to_owned(),
        queues_in_memory: in_memory(memory)?,
        writes_in: args.dir.clone(),
        writes_in_memory: in_memory(disk)?,
    })
}

fn advice(host: &Host, rows: &[Row], lost: f64) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut say = |what: String, command: &str| all.push(Advice { what, command: command.to_owned() });
    let find = |what: &str, wait: &str| rows.iter().find(|row| row.what == what && row.wait == wait);
    let cores = host.cores.len();
    if host.load.is_some_and(|load| load > cores as f64 * 0.5) {
        say(
            format!(
                "{:.1} processes want {cores} cores just now: these figures are of a busy machine",
                host.load.unwrap_or(0.0)
            ),
            "uptime; measure again when it is quiet",
        );
    }
    if cores < 4 {
        say(
            format!(
                "{cores} cores: a writer, a reader and a helper that spin take them all; sleep instead of spinning"
            ),
            "chronicle and its examples spin briefly, then sleep; keep spinning for machines with a core for each thread",
        );
    }
    if let Some(governor) = host.governor.as_deref().filter(|governor| *governor != "performance") {
        say(
            format!("the frequency governor is {governor}: cores slow down between events"),
            "sudo cpupower frequency-set -g performance",
        );
    }
    if let Some(clock) = host
        .clock_source
        .as_deref()
        .filter(|clock| !matches!(*clock, "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page"))
    {
        let cost = find("read the clock", NONE).map_or(0, |row| row.p50_ns);
        say(
            format!("the clock source is {clock}: a reading costs {cost} ns, and each needs the kernel"),
            "boot with tsc=reliable if the machine's TSC is, or: echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
        );
    }
    let worst = find("away from the core", SPINS).map_or(0, |row| row.max_ns);
    if lost > 0.001 || worst > 100_000 {
        let isolated = host.isolated.is_some();
        say(
            format!(
                "a thread that never sleeps was away for {:.2} % of the time, once for {}",
                lost * 100.0,
                ns(worst)
            ),
            if isolated {
                "pin the hot threads to the isolated cores (taskset -c), and move interrupts away (/proc/irq/*/smp_affinity)"
            } else {
                "isolate cores for hot threads: boot with isolcpus=…, nohz_full=…, rcu_nocbs=…, then taskset -c"
            },
        );
    }
    let slept = find("append → reader has it", SLEEPS).map_or(0, |row| row.p50_ns);
    if slept > 50_000 {
        say(
            format!("waking a sleeper takes {}: cores sleep deeply or threads wait for a core", ns(slept)),
            "limit idle states: boot with processor.max_cstate=1 (intel_idle.max_cstate=0), or hold /dev/cpu_dma_latency at 0",
        );
    }
    if host.smt && cores >= 4 {
        say(
            "two threads share each core: neighbours of a hot thread take half of it".to_owned(),
            "echo off | sudo tee /sys/devices/system/cpu/smt/control, or leave the siblings of hot cores idle",
        );
    }
    if host.huge_pages.as_deref() == Some("never") {
        say(
            "transparent huge pages are off: large regions miss the TLB".to_owned(),
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        );
    }
    if !host.queues_in_memory {
        say(
            format!(
                "queues lie on a disk here ({}): pages are written back under the writer",
                host.queues_in.display()
            ),
            "sudo mount -t tmpfs -o size=4g,huge=within_size tmpfs /mnt/hot, and --hot /mnt/hot",
        );
    }
    if host.writes_in_memory {
        say(
            format!(
                "{} lies in memory: nothing written there is durable, and its rows say nothing of a disk",
                host.writes_in.display()
            ),
            "chronicle bench host DIR, with a directory on the disk that is meant",
        );
    } else if let Some(row) = find("write 4 KiB and sync", BLOCKS).filter(|row| row.p50_ns > 2_000_000) {
        say(
            format!("a durable write takes {}: group commits, or another device", ns(row.p50_ns)),
            "chronicle wal bench DIR shows how many commits share one write; a device with power-loss protection takes 20 to 100 µs",
        );
    }
    all
}

fn ns(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn tell(out: &mut dyn Write, report: &Report) -> Outcome {
    let host = &report.host;
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    writeln!(
        out,
        "{}, {} {}{}, Linux {}",
        or(&host.processor),
        host.cores.len(),
        if host.cores.len() == 1 { "core" } else { "cores" },
        if host.virtual_machine { ", virtual" } else { "" },
        or(&host.kernel)
    )?;
    writeln!(
        out,
        "governor {}, clock {}, isolated cores {}, load {}",
        or(&host.governor),
        or(&host.clock_source),
        host.isolated.as_deref().unwrap_or("none"),
        host.load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.1}"))
    )?;
    writeln!(
        out,
        "queues in {} ({}), writes in {} ({})",
        host.queues_in.display(),
        if host.queues_in_memory { "memory" } else { "disk" },
        host.writes_in.display(),
        if host.writes_in_memory { "memory" } else { "disk" }
    )?;
    writeln!(out)?;
    let mut rows = vec![["", "waits", "cores", "p50", "p99", "p99.9", "most", "times", ""].map(str::to_owned).to_vec()];
    for row in &report.rows {
        let time = |time: u64| if row.count == 0 { "-".to_owned() } else { ns(time) };
        rows.push(vec![
            row.what.clone(),
            row.wait.to_owned(),
            row.cores.clone(),
            time(row.p50_ns),
            time(row.p99_ns),
            time(row.p999_ns),
            time(row.max_ns),
            crate::run::Count(row.count).to_string(),
            row.note.clone().unwrap_or_default(),
        ]);
    }
    crate::inspect::table(out, &rows, |column| (3..8).contains(&column), "")?;
    writeln!(out, "\n{}", report.verdict)?;
    for advice in &report.advice {
        writeln!(out, "  · {}", advice.what)?;
        writeln!(out, "      {}", advice.command)?;
    }
    Ok(())
}
