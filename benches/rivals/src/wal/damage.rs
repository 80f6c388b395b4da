//! Group `wal-damage`: what published logs do with what a crash or a bad disk leaves of them.
//!
//! A process appends a thousand records, each durable before the next, and is killed, or ends in order. Then, in a copy:
//!
//! | Done to it | What a log should do |
//! |---|---|
//! | the last record's second half is zeros, and nothing behind it | keep the 999 before it: it was never acknowledged, for all that can be seen |
//! | the file ends inside the last record | the same |
//! | one bit of the record in the middle is flipped | say so: 499 records behind it were acknowledged |
//! | one bit of the last record, after a clean close | say so: that record was acknowledged, too |
//!
//! Another process opens it and reads everything: a panic, an endless loop or an abort is an answer like others.
//! Records are found by their bytes, whatever surrounds them; where there are several copies, all get the flip.

use super::{fresh, others, ours, recover::copied};
use crate::{
    contest::{self, Line, Target},
    queue::{self, Other as Process},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const RECORDS: u64 = 1000;
const LEN: usize = 128;
const MIDDLE: u64 = 500;
/// Longer than any of them needs.
const PATIENCE: Duration = Duration::from_secs(20);
const OURS: &str = "chronicle";

/// What is done to a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    Half,
    Cut,
    Middle,
    Last,
}

impl Harm {
    const ALL: [Harm; 4] = [Harm::Half, Harm::Cut, Harm::Middle, Harm::Last];

    fn words(self) -> &'static str {
        match self {
            Harm::Half => "last record half written",
            Harm::Cut => "file cut inside the last record",
            Harm::Middle => "a bit flipped in the middle",
            Harm::Last => "a bit flipped in the last record, after a clean close",
        }
    }

    fn closed(self) -> bool {
        self == Harm::Last
    }
}

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let names: Vec<&'static str> =
        std::iter::once(OURS).chain(others::OTHERS.iter().filter(|it| it.log).map(|it| it.name)).collect();
    for harm in Harm::ALL {
        let (mut ours, mut rivals, mut notes) = (None, Vec::new(), Vec::new());
        for name in &names {
            let (well, says) = match case(dir, name, harm) {
                Ok(answer) => answer,
                Err(why) if *name == OURS => return Err(format!("{}: {why}", harm.words())),
                Err(why) => {
                    eprintln!("wal-damage: {name}, {}: not shown: {why}", harm.words());
                    continue;
                }
            };
            notes.push((*name, says.into()));
            let figure = f64::from(u8::from(well));
            if *name == OURS { ours = Some(figure) } else { rivals.push((*name, vec![figure])) }
        }
        let ours = ours.ok_or("ours was not shown")?;
        let case = harm.words().to_owned();
        let mut line = contest::line("wal-damage", case, "well", true, &[ours], None, &rivals, Target::Never(1.0));
        line.notes = notes;
        out(line);
    }
    Ok(())
}

/// Whether it did well, and what it did in words.
fn case(dir: &Path, name: &str, harm: Harm) -> Result<(bool, String), String> {
    let whole = dir.join(format!("{name}-{}", if harm.closed() { "closed" } else { "killed" }).replace(' ', "-"));
    if !whole.exists() {
        write_in_another(name, &whole, harm.closed())?;
    }
    let copy = dir.join("copy");
    fresh(&copy, |copy| {
        copied(&whole, copy)?;
        match read_in_another(name, copy)? {
            Answer::Read { kept: RECORDS, wrong: 0, error: None } => Ok(()),
            answer => Err(format!("unharmed, it {}", answer.words(RECORDS))),
        }
    })?;
    fresh(&copy, |copy| {
        copied(&whole, copy)?;
        harm_files(copy, harm)?;
        let answer = read_in_another(name, copy)?;
        Ok(match harm {
            Harm::Half | Harm::Cut => (answer.keeps(RECORDS - 1), answer.words(RECORDS - 1)),
            Harm::Middle | Harm::Last => (answer.reports(), answer.words(RECORDS)),
        })
    })
}

/// What opening and reading came to.
enum Answer {
    /// So many records were handed out as they were written, so many with other bytes; then perhaps an error.
    Read { kept: u64, wrong: u64, error: Option<String> },
    /// It ended on its own, with what it said last.
    Died(String),
    /// It did not end.
    Hung,
}

impl Answer {
    fn keeps(&self, expected: u64) -> bool {
        matches!(self, Answer::Read { kept, wrong: 0, error: None } if *kept == expected)
    }

    fn reports(&self) -> bool {
        matches!(self, Answer::Read { wrong: 0, error: Some(_), .. })
    }

    fn words(&self, expected: u64) -> String {
        match self {
            Answer::Read { kept: 0, wrong: 0, error: Some(error) } => format!("refuses: {error}"),
            Answer::Read { kept, wrong: 0, error: Some(error) } => format!("hands out {kept}, then reports: {error}"),
            Answer::Read { kept, wrong: 0, error: None } if *kept == expected => format!("keeps {kept}"),
            Answer::Read { kept, wrong: 0, error: None } => {
                format!("keeps {kept}, says nothing of {}", expected.saturating_sub(*kept))
            }
            Answer::Read { kept, wrong, .. } => format!("hands out {wrong} with wrong bytes beside {kept}"),
            Answer::Died(words) => format!("dies: {words}"),
            Answer::Hung => format!("still reads after {} s", PATIENCE.as_secs()),
        }
    }
}

/// The record of that number, unlike any other and unlike anything that a log writes beside it.
fn record(nth: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let mut state = nth.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for word in bytes.chunks_exact_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
    }
    bytes[..8].copy_from_slice(&nth.to_le_bytes());
    bytes
}

fn write_in_another(name: &str, dir: &Path, close: bool) -> Result<(), String> {
    let mut writer = Process::start(&[], &["wal-damage-write", name], dir)?;
    if writer.hear()? != "written" {
        return Err("it did not write".to_owned());
    }
    if close { writer.finish() } else { writer.kill() }
}

/// The child that writes, then waits for its end.
pub fn write(name: &str, dir: &Path) -> Result<(), String> {
    if name == OURS {
        let log = ours::open(dir, true)?;
        (0..RECORDS).try_for_each(|nth| log.commit(&record(nth)))?;
        queue::say("written");
        queue::told()?;
        return log.close();
    }
    let log = (other(name)?.open)(dir, true)?;
    (0..RECORDS).try_for_each(|nth| log.put(0, nth, &record(nth)))?;
    queue::say("written");
    queue::told()?;
    drop(log);
    Ok(())
}

/// The child that reads, and says what it saw.
pub fn read(name: &str, dir: &Path) -> Result<(), String> {
    let seen = Arc::new(Mutex::new((0_u64, 0_u64)));
    let its = Arc::clone(&seen);
    let each: others::Each = Box::new(move |bytes: &[u8]| {
        if let Ok(mut seen) = its.lock() {
            let nth = bytes.first_chunk::<8>().map_or(u64::MAX, |nth| u64::from_le_bytes(*nth));
            if nth < RECORDS && *bytes == record(nth) { seen.0 += 1 } else { seen.1 += 1 }
        }
    });
    let result = if name == OURS { ours::read(dir, each) } else { (other(name)?.read)(dir, each) };
    let (kept, wrong) = *seen.lock().map_err(|it| it.to_string())?;
    let error = result.err().unwrap_or_default().replace('\n', " ");
    // Where the directory is says nothing.
    queue::say(&format!("{kept} {wrong} {}", error.replace(&format!("{}/", dir.display()), "")));
    Ok(())
}

fn other(name: &str) -> Result<&'static others::Other, String> {
    others::OTHERS.iter().find(|it| it.name == name).ok_or_else(|| format!("{name}: nobody of that name"))
}

fn read_in_another(name: &str, dir: &Path) -> Result<Answer, String> {
    let words = |it: std::io::Error| it.to_string();
    let mut child = Command::new(std::env::current_exe().map_err(words)?)
        .args(["child", "wal-damage-read", name])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(words)?;
    let began = Instant::now();
    while child.try_wait().map_err(words)?.is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().and_then(|()| child.wait()).map_err(words)?;
            return Ok(Answer::Hung);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().map_err(words)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().unwrap_or_default();
    let mut parts = line.splitn(3, ' ');
    let (kept, wrong) = (parts.next().and_then(|it| it.parse().ok()), parts.next().and_then(|it| it.parse().ok()));
    match kept.zip(wrong) {
        Some((kept, wrong)) if output.status.success() => {
            let error = parts.next().filter(|it| !it.is_empty()).map(str::to_owned);
            Ok(Answer::Read { kept, wrong, error })
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|it| !it.trim().is_empty()).unwrap_or("nothing");
            Ok(Answer::Died(first.trim().to_owned()))
        }
    }
}

/// Every place where the bytes stand, in files sorted by name.
fn places(dir: &Path, bytes: &[u8]) -> Result<Vec<(PathBuf, usize)>, String> {
    let words = |it: std::io::Error| it.to_string();
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(dir).map_err(words)?.collect::<Result<_, _>>().map_err(words)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type().map_err(words)?.is_dir() {
            found.append(&mut places(&entry.path(), bytes)?);
        } else {
            let content = fs::read(entry.path()).map_err(words)?;
            // By eight bytes of its middle first: files are mostly zeros.
            let (probe, inside) = (&bytes[64..72], 64);
            for (at, _) in content.windows(8).enumerate().filter(|(_, it)| *it == probe) {
                if at >= inside && content[at - inside..].starts_with(bytes) {
                    found.push((entry.path(), at - inside));
                }
            }
        }
    }
    Ok(found)
}

fn harm_files(dir: &Path, harm: Harm) -> Result<(), String> {
    let words = |it: std::io::Error| it.to_string();
    let nth = if harm == Harm::Middle { MIDDLE } else { RECORDS - 1 };
    let found = places(dir, &record(nth))?;
    let (last, at) = found.last().cloned().ok_or("its records are not to be found in its files")?;
    match harm {
        Harm::Half => {
            let mut content = fs::read(&last).map_err(words)?;
            content[at + LEN / 2..].fill(0);
            fs::write(&last, content).map_err(words)?;
        }
        Harm::Cut => {
            let file = fs::File::options().write(true).open(&last).map_err(words)?;
            file.set_len((at + LEN / 2) as u64).map_err(words)?;
        }
        Harm::Middle | Harm::Last => {
            for (path, at) in found {
                let mut content = fs::read(&path).map_err(words)?;
                content[at + LEN / 2] ^= 0x10;
                fs::write(&path, content).map_err(words)?;
            }
        }
    }
    Ok(())
}
