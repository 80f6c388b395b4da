//! Groups `wal-sync`, `wal-nosync`, `wal-recover` and `wal-damage`: the write-ahead log beside other people's.
//!
//! On a disk, for a log in memory says nothing: in the directory that `--dir` names, else where temporary files go. What
//! each contestant really asks of the device is counted while it runs, and printed with it: several published logs
//! return from what they call a flush without one.
//!
//! Beside the ratio to the floor, which is the better of several bare ways where there are several, lines of their own
//! compare with raft-engine, the best rival there is on such machines.

mod bare;
mod crowd;
pub mod damage;
mod flushes;
mod nosync;
mod others;
mod ours;
mod recover;
mod sync;

use crate::contest::{self, Line, Target};
use crowd::Sample;
use std::{path::Path, time::Duration};

pub use nosync::run as nosync;
pub use recover::run as recover;
pub use sync::run as sync;

/// How long one contestant is measured in one round.
const TIME: Duration = Duration::from_millis(250);

/// Who is measured, and as what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Ours,
    /// A bare way that is compared with; where there are several, the best one is.
    Floor,
    /// A bare way that is only shown.
    Beside,
    Rival,
}

/// Measures once.
type Measure<'a> = Box<dyn FnMut() -> Result<Sample, String> + 'a>;

/// One contestant and its figures, of one round after another.
struct Runner<'a> {
    name: &'static str,
    role: Role,
    measure: Measure<'a>,
    samples: Vec<Sample>,
    failed: bool,
}

/// A case whose figures are rates, with how long one waits and how often the device flushed.
struct Field<'a> {
    group: &'static str,
    case: String,
    unit: &'static str,
    runners: Vec<Runner<'a>>,
}

impl<'a> Field<'a> {
    fn new(group: &'static str, case: String, unit: &'static str) -> Self {
        Field { group, case, unit, runners: Vec::new() }
    }

    fn add(&mut self, role: Role, name: &'static str, measure: impl FnMut() -> Result<Sample, String> + 'a) {
        self.runners.push(Runner { name, role, measure: Box::new(measure), samples: Vec::new(), failed: false });
    }

    /// Measures everybody once a round, in turns, after one round that does not count.
    fn run(&mut self, rounds: usize) -> Result<(), String> {
        for round in 0..=rounds {
            for turn in 0..self.runners.len() {
                // Who goes first has the cold caches: each round somebody else does.
                let count = self.runners.len();
                let runner = &mut self.runners[(turn + round) % count];
                if runner.failed {
                    continue;
                }
                match (runner.measure)() {
                    Ok(sample) if round > 0 => runner.samples.push(sample),
                    Ok(_) => {}
                    Err(reason) if matches!(runner.role, Role::Ours | Role::Floor) => {
                        return Err(format!("{}: {}: {reason}", self.case, runner.name));
                    }
                    Err(reason) => {
                        eprintln!("{}: {} could not be measured: {reason}", self.case, runner.name);
                        runner.failed = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn ours(&self) -> Option<&Runner<'a>> {
        self.runners.iter().find(|it| it.role == Role::Ours)
    }

    fn rival(&self, name: &str) -> Option<&Runner<'a>> {
        self.runners.iter().find(|it| it.role == Role::Rival && it.name == name && !it.failed)
    }

    fn best_rival(&self) -> Option<&'static str> {
        let median = |it: &&Runner<'_>| contest::Spread::of(&it.rates()).median;
        let rivals = self.runners.iter().filter(|it| it.role == Role::Rival && !it.failed);
        rivals.max_by(|a, b| median(a).total_cmp(&median(b))).map(|it| it.name)
    }

    /// Ours beside the best floor and all others.
    fn line(&self, target: Target) -> Option<Line> {
        let ours = self.ours()?;
        let median = |it: &&Runner<'_>| contest::Spread::of(&it.rates()).median;
        let floor = self
            .runners
            .iter()
            .filter(|it| it.role == Role::Floor && !it.failed)
            .max_by(|a, b| median(a).total_cmp(&median(b)));
        let rest: Vec<(&'static str, Vec<f64>)> = self
            .runners
            .iter()
            .filter(|it| it.role != Role::Ours && !it.failed && floor.is_none_or(|floor| floor.name != it.name))
            .map(|it| (it.name, it.rates()))
            .collect();
        let floors = floor.map(|it| (it.name, it.rates()));
        let floors = floors.as_ref().map(|(name, rates)| (*name, &rates[..]));
        let mut line =
            contest::line(self.group, self.case.clone(), self.unit, true, &ours.rates(), floors, &rest, target);
        for runner in self.runners.iter().filter(|it| !it.failed) {
            let name = if runner.role == Role::Ours { "chronicle" } else { runner.name };
            let notes = runner.notes();
            if !notes.is_empty() {
                line.notes.push((name, notes.into()));
            }
        }
        Some(line)
    }

    /// Ours beside one of them alone, by a figure of one's own choice.
    fn beside(
        &self,
        name: &'static str,
        what: &str,
        unit: &'static str,
        higher_is_better: bool,
        figure: fn(&Sample) -> Option<f64>,
        target: Target,
    ) -> Option<Line> {
        let of = |runner: &Runner<'_>| runner.samples.iter().filter_map(figure).collect::<Vec<f64>>();
        let (ours, theirs) = (of(self.ours()?), of(self.rival(name)?));
        let case = format!("{}, {what} {name}", self.case);
        (!ours.is_empty() && ours.len() == theirs.len())
            .then(|| contest::line(self.group, case, unit, higher_is_better, &ours, Some((name, &theirs)), &[], target))
    }
}

impl Runner<'_> {
    fn rates(&self) -> Vec<f64> {
        self.samples.iter().map(|it| it.rate).collect()
    }

    /// Medians of what goes with the rate.
    fn notes(&self) -> serde_json::Map<String, serde_json::Value> {
        let median = |figure: fn(&Sample) -> Option<f64>| {
            let figures: Vec<f64> = self.samples.iter().filter_map(figure).collect();
            (!figures.is_empty()).then(|| contest::Spread::of(&figures).median)
        };
        let notes = [
            ("p50_us", median(|it| it.p50_us)),
            ("p99_us", median(|it| it.p99_us)),
            ("flushes_per_commit", median(|it| it.flushes)),
        ];
        notes
            .into_iter()
            .filter_map(|(name, figure)| Some((name.to_owned(), contest::rounded(figure?).into())))
            .collect()
    }
}

/// Runs in an empty directory and leaves none.
fn fresh<T>(dir: &Path, measure: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let _ = std::fs::remove_dir_all(dir);
    let result = measure(dir);
    let _ = std::fs::remove_dir_all(dir);
    result
}
