//! What a test says to the disk, as lines of words: one command, one answer.
//!
//! ```text
//! fault KIND,… SUFFIX|* NTH TIMES fail ERRNO|delay MS|short BYTES|cut     ok
//! clear                                                                   ok
//! counts                                                                  ok OPERATIONS n n n … one for each kind
//! cut                                                                     ok
//! capacity BYTES                                                          ok
//! survivor SEED none|some|all                                             ok PATH
//! ```

use std::{fmt, str::FromStr};

/// What is asked of a disk that changes it or makes a change last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A write that promises nothing.
    Write,
    /// A write that is durable when it returns (`O_DSYNC`, `RWF_DSYNC`).
    SyncWrite,
    /// `fsync` or `fdatasync` of a file.
    Sync,
    /// `fsync` of a directory.
    SyncDir,
    /// A new file or directory.
    Create,
    /// A rename.
    Rename,
    /// A removed name.
    Remove,
    /// A changed length.
    Resize,
    /// `fallocate`.
    Allocate,
}

impl Kind {
    /// All of them, in the order of [`Counts`].
    pub const ALL: [Kind; 9] = [
        Kind::Write,
        Kind::SyncWrite,
        Kind::Sync,
        Kind::SyncDir,
        Kind::Create,
        Kind::Rename,
        Kind::Remove,
        Kind::Resize,
        Kind::Allocate,
    ];

    /// Those that make the device flush.
    pub const FLUSHES: [Kind; 3] = [Kind::SyncWrite, Kind::Sync, Kind::SyncDir];

    fn word(self) -> &'static str {
        match self {
            Kind::Write => "write",
            Kind::SyncWrite => "sync-write",
            Kind::Sync => "sync",
            Kind::SyncDir => "sync-dir",
            Kind::Create => "create",
            Kind::Rename => "rename",
            Kind::Remove => "remove",
            Kind::Resize => "resize",
            Kind::Allocate => "allocate",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Kind, String> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| format!("no kind is called {word}"))
    }
}

/// What happens to an operation that a [`Fault`] meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It fails with this errno. Of a failed write any sectors may have landed, unless the disk was said to be full
    /// (`ENOSPC`); a failed sync marks everything clean, what it wrote and what it did not.
    Fail(i32),
    /// It takes so many milliseconds more.
    Delay(u64),
    /// A write ends after so many bytes, and says so.
    Short(u64),
    /// The power goes while it is on its way.
    Cut,
}

/// Which operations something happens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of these kinds,
    pub kinds: Vec<Kind>,
    /// of files whose name ends like this (of a rename the new name counts; empty: all),
    pub suffix: String,
    /// from the so-many-th on, counted from 1 and from now,
    pub nth: u64,
    /// so many of them.
    pub times: u64,
    /// This happens.
    pub action: Action,
}

impl Fault {
    /// The `nth` operation of `kinds` on any file meets `action`, once.
    #[must_use]
    pub fn at(nth: u64, kinds: &[Kind], action: Action) -> Fault {
        Fault { kinds: kinds.to_vec(), suffix: String::new(), nth, times: 1, action }
    }

    /// Only on files whose names end like this.
    #[must_use]
    pub fn of(mut self, suffix: &str) -> Fault {
        self.suffix = suffix.into();
        self
    }

    /// Also all that follow.
    #[must_use]
    pub fn from_then_on(mut self) -> Fault {
        self.times = u64::MAX;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.word()).collect();
        let suffix = if self.suffix.is_empty() { "*" } else { &self.suffix };
        write!(f, "{} {suffix} {} {} ", kinds.join(","), self.nth, self.times)?;
        match self.action {
            Action::Fail(errno) => write!(f, "fail {errno}"),
            Action::Delay(ms) => write!(f, "delay {ms}"),
            Action::Short(len) => write!(f, "short {len}"),
            Action::Cut => f.write_str("cut 0"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(line: &str) -> Result<Fault, String> {
        let words: Vec<_> = line.split(' ').collect();
        let [kinds, suffix, nth, times, action, value] = words[..] else {
            return Err(format!("a fault has six words, not {}", words.len()));
        };
        let number = |word: &str| word.parse::<u64>().map_err(|error| format!("{word}: {error}"));
        Ok(Fault {
            kinds: kinds.split(',').map(str::parse).collect::<Result<_, _>>()?,
            suffix: if suffix == "*" { String::new() } else { suffix.into() },
            nth: number(nth)?,
            times: number(times)?,
            action: match action {
                "fail" => Action::Fail(number(value)?.try_into().map_err(|_| format!("{value} is no errno"))?),
                "delay" => Action::Delay(number(value)?),
                "short" => Action::Short(number(value)?),
                "cut" => Action::Cut,
                other => return Err(format!("no action is called {other}")),
            },
        })
    }
}

/// How much of what was not synced survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    None,
    /// Some, by seed: any sector of any write, new, old or (if the power went while it was written) neither; a prefix of
    /// the directories' edits or any of them.
    Some,
    /// All.
    All,
}

impl Survival {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Survival::None => "none",
            Survival::Some => "some",
            Survival::All => "all",
        }
    }
}

impl FromStr for Survival {
    type Err = String;

    fn from_str(word: &str) -> Result<Survival, String> {
        [Survival::None, Survival::Some, Survival::All]
            .into_iter()
            .find(|survival| survival.word() == word)
            .ok_or_else(|| format!("no survival is called {word}"))
    }
}

/// What a disk was asked since it was mounted, failed operations included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub(crate) of: [u64; Kind::ALL.len()],
}

impl Counts {
    /// Operations of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        self.of[kind as usize]
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.of.iter().sum()
    }

    /// Operations that make the device flush.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        Kind::FLUSHES.into_iter().map(|kind| self.of(kind)).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.of.iter().map(u64::to_string).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Counts {
    type Err = String;

    fn from_str(line: &str) -> Result<Counts, String> {
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let numbers = numbers.map_err(|error| format!("{line}: {error}"))?;
        Ok(Counts { of: numbers.try_into().map_err(|_| format!("{line}: not one number for each kind"))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were_said() {
        for action in [Action::Fail(28), Action::Delay(7), Action::Short(512), Action::Cut] {
            for fault in
                [Fault::at(3, &Kind::ALL, action), Fault::at(1, &[Kind::Sync], action).of(".wal").from_then_on()]
            {
                assert_eq!(fault.to_string().parse(), Ok(fault));
            }
        }
        let counts = Counts { of: [1, 2, 3, 4, 5, 6, 7, 8, 9] };
        assert_eq!(counts.to_string().parse(), Ok(counts));
        assert_eq!((counts.of(Kind::Rename), counts.operations(), counts.flushes()), (6, 45, 9));
        "sync *".parse::<Fault>().unwrap_err();
        "explode".parse::<Survival>().unwrap_err();
    }
}
