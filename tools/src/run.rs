//! What every command shares: where a root is, how an outcome becomes an exit code, times, progress.

use chronicle::{
    System,
    storage::{reader::ArchiveReader, root::Root},
};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::{
    error::Error,
    fmt::{self, Write as _},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// How a command ended other than well.
pub(crate) enum Failure {
    /// It found a problem: exit 1. What there was to say is on standard output already if the text is empty.
    Problem(String),
    /// It was called wrongly: exit 2.
    Usage(String),
}

impl Failure {
    /// A problem that standard output already tells.
    pub(crate) fn told() -> Self {
        Failure::Problem(String::new())
    }
}

/// Any library error is a problem, told with its causes.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Problem(chain(&error))
    }
}

pub(crate) type Outcome = Result<(), Failure>;

/// An error with its causes on one line, none of them said twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = next.source();
    }
    text
}

pub(crate) fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Problem(text)) => {
            if !text.is_empty() {
                let _ = writeln!(io::stderr(), "chronicle: {text}");
            }
            ExitCode::from(1)
        }
        Err(Failure::Usage(text)) => {
            let _ = writeln!(io::stderr(), "chronicle: {text}");
            ExitCode::from(2)
        }
    }
}

/// Where a root lies.
#[derive(clap::Args, Clone)]
pub(crate) struct RootArgs {
    /// Directory that has hot/ warm/ cold/ state/ under it
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,
    #[command(flatten)]
    pub(crate) tiers: TierArgs,
}

/// Tiers elsewhere than under the root.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct TierArgs {
    /// Hot tier elsewhere than under the root
    #[arg(long, value_name = "DIR")]
    pub(crate) hot: Option<PathBuf>,
    /// Warm tier elsewhere than under the root
    #[arg(long, value_name = "DIR")]
    pub(crate) warm: Option<PathBuf>,
    /// Cold tier elsewhere than under the root
    #[arg(long, value_name = "DIR")]
    pub(crate) cold: Option<PathBuf>,
}

impl TierArgs {
    pub(crate) fn apply(&self, mut root: Root) -> Root {
        if let Some(hot) = &self.hot {
            root.hot = hot.clone();
        }
        if let Some(warm) = &self.warm {
            root.warm = warm.clone();
        }
        if let Some(cold) = &self.cold {
            root.cold = cold.clone();
        }
        root
    }
}

impl RootArgs {
    /// The root, which must exist.
    pub(crate) fn existing(&self) -> Result<Root, Failure> {
        let root = self.named()?;
        if !self.root.is_dir() {
            return Err(Failure::Usage(format!(
                "{}: no such root; `chronicle feed` and `chronicle import` make one",
                self.root.display()
            )));
        }
        // One that may not be looked at is there.
        let absent = |dir: &PathBuf| dir.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if [&root.hot, &root.warm, &root.cold, &root.state].into_iter().all(absent) {
            return Err(Failure::Usage(format!(
                "{}: not a root: no hot, warm, cold or state in it; `chronicle feed` and `chronicle import` make one",
                self.root.display()
            )));
        }
        Ok(root)
    }

    /// The root, whether it exists or not.
    pub(crate) fn named(&self) -> Result<Root, Failure> {
        let root = self.tiers.apply(Root::new(&self.root));
        for dir in [&self.root, &root.hot, &root.warm, &root.cold, &root.state] {
            must_be_directory(dir)?;
        }
        Ok(root)
    }
}

/// Refuses what is there and is no directory.
pub(crate) fn must_be_directory(path: &Path) -> Outcome {
    match path.metadata() {
        Ok(there) if !there.is_dir() => Err(Failure::Usage(format!("{}: is a file, not a directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Failure::Usage(format!("{}: goes through a file", path.display())))
        }
        _ => Ok(()),
    }
}

/// The arguments that name this root again, for a command line that is shown.
impl fmt::Display for RootArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--root {}{}", Word(&self.root), self.tiers)
    }
}

/// As they stand behind a root's name on a command line.
impl fmt::Display for TierArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TierArgs { hot, warm, cold } = self;
        for (flag, dir) in [("--hot", hot), ("--warm", warm), ("--cold", cold)] {
            if let Some(dir) = dir {
                write!(f, " {flag} {}", Word(dir))?;
            }
        }
        Ok(())
    }
}

/// A path as one word of a shell's command line.
pub(crate) struct Word<'a>(pub(crate) &'a Path);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "/._-+@%".contains(c)) {
            return f.write_str(&text);
        }
        write!(f, "'{}'", text.replace('\'', r"'\''"))
    }
}

/// A moment given on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) ns: u64,
}

/// Reads RFC 3339, or a date alone, which is its first moment in UTC.
pub(crate) fn parse_moment(text: &str) -> Result<Moment, String> {
    let stamp = text
        .parse::<jiff::Timestamp>()
        .or_else(|error| match text.parse::<jiff::civil::Date>() {
            Ok(date) if !text.contains('T') => date.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp()),
            _ => Err(error),
        })
        .map_err(|error| format!("{error}; write it like 2024-08-09T10:00:00Z"))?;
    u64::try_from(stamp.as_nanosecond()).map(|ns| Moment { ns }).map_err(|_| "it is before 1970".to_owned())
}

/// A moment as people and files write it.
pub(crate) fn rfc3339(ns: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(stamp) => stamp.to_string(),
        Err(_) => format!("{ns} ns"),
    }
}

/// Bytes as people read them.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        let text = if unit == 0 { format!("{} B", self.0) } else { format!("{value:.1} {}", units[unit]) };
        f.pad(&text)
    }
}

/// A length of time as people read it.
pub(crate) fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// A whole number with thousands apart.
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// A bar for something long; shown on a terminal only, on standard error.
pub(crate) fn bytes_bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) =
        ProgressStyle::with_template("{msg:<24!} [{bar:32}] {bytes:>10}/{total_bytes:<10} {bytes_per_sec} {eta} left")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar
}

/// A spinner with a count, where the end is not known.
pub(crate) fn count_bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} records, {rate}") {
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{} a second", Count(state.per_sec() as u64));
        }));
    }
    bar.set_message(what.to_owned());
    bar
}

/// Prints one JSON object on a line.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> Outcome {
    with_stdout(|out| {
        serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        Ok(())
    })
}

/// One JSON object on a line, from a command that goes on.
pub(crate) fn line<T: serde::Serialize>(value: &T) {
    if let Ok(mut text) = serde_json::to_string(value) {
        text.push('\n');
        say(&text);
    }
}

/// Tells on standard output. A reader that has left is no reason for a command that goes on to end.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What a root has, for somebody who asked for something else.
pub(crate) fn what_there_is(root: &Root) -> String {
    let list = || -> Result<Vec<String>, chronicle::storage::Error> {
        let archive = ArchiveReader::open(&System, root)?;
        let mut found = Vec::new();
        for venue in archive.venues()? {
            found.extend(archive.symbols(&venue)?.iter().map(|symbol| format!("{venue}/{symbol}")));
        }
        Ok(found)
    };
    match list() {
        Err(_) => String::new(),
        Ok(found) if found.is_empty() => "; nothing is refined yet, `chronicle refine` does it".to_owned(),
        Ok(found) if found.len() > 8 => format!("; there are {} and {} more", found[..8].join(", "), found.len() - 8),
        Ok(found) if found.len() == 1 => format!("; there is {}", found[0]),
        Ok(found) => format!("; there are {}", found.join(", ")),
    }
}

/// Standard output that is flushed at the end, and whose reader may leave early without that being a problem.
pub(crate) fn with_stdout(write: impl FnOnce(&mut dyn Write) -> Outcome) -> Outcome {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let outcome = write(&mut out);
    match out.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => outcome,
    }
}

/// A file's name without its directories, for reports.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
