//! One case: ours, what the machine can do at best, and rivals, measured in turns.
//!
//! Clocks of virtual machines drift, caches warm and neighbours wake up. So nothing here is compared across runs, or
//! even across a run: each *round* measures every contestant once, and a ratio is taken within the round. What is
//! reported is the median of those ratios.

use serde_json::{Value, json};

/// Measures once. The number is in the case's unit.
pub type Measure<'a> = Box<dyn FnMut() -> Result<f64, String> + 'a>;

/// How much worse than its target a case may be: clocks have a grain.
pub const ALLOWANCE: f64 = 0.03;

/// A case to be measured.
pub struct Contest<'a> {
    /// The group that it is asked for by.
    pub group: &'static str,
    /// What is measured.
    pub case: String,
    /// Of all its figures.
    pub unit: &'static str,
    /// Throughputs are, times and counts are not.
    pub higher_is_better: bool,
    /// Ours.
    pub ours: Measure<'a>,
    /// What the machine can do without any of what we promise.
    pub floor: Option<(&'static str, Measure<'a>)>,
    /// Other people's work.
    pub rivals: Vec<(&'static str, Measure<'a>)>,
    /// What must be reached.
    pub target: Target,
}

/// What a case must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Nothing: a figure for orientation.
    None,
    /// A bound of `ours / floor`; a lower one where higher is better.
    Ratio(f64),
    /// A bound of ours itself, at the median.
    Median(f64),
    /// A bound of ours itself that no round may break; without allowance, because it counts things.
    Never(f64),
}

/// Median, smallest and largest of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let median = if n % 2 == 1 { sorted[n / 2] } else { (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0 };
        Spread { median, min: sorted[0], max: sorted[n - 1] }
    }

    fn json(&self) -> Value {
        json!({"median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max)})
    }
}

/// The result of one case: one line of output.
pub struct Line {
    /// See [`Contest`].
    pub group: &'static str,
    /// See [`Contest`].
    pub case: String,
    /// See [`Contest`].
    pub unit: &'static str,
    /// See [`Contest`].
    pub higher_is_better: bool,
    /// Ours.
    pub ours: Spread,
    /// Name and figures of those that ran.
    pub rivals: Vec<(&'static str, Spread)>,
    /// Name and median of the floor.
    pub floor: Option<(&'static str, f64)>,
    /// The bound, of the ratio where there is one, else of ours.
    pub target: Option<f64>,
    /// Median over rounds of ours / theirs within a round; theirs is the floor or, without one, the best rival.
    pub ratio: Option<f64>,
    /// Whether the target is met; true where there is none.
    pub ok: bool,
    /// What else was seen of somebody while it ran: words, or figures by name.
    pub notes: Vec<(&'static str, Value)>,
}

impl Line {
    /// As one JSON object.
    pub fn json(&self) -> String {
        let rivals: serde_json::Map<String, Value> =
            self.rivals.iter().map(|(name, spread)| ((*name).to_owned(), spread.json())).collect();
        let mut line = json!({
            "group": self.group,
            "case": self.case,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "ours": self.ours.json(),
            "rivals": rivals,
            "floor": self.floor.map(|(name, median)| json!({"name": name, "median": rounded(median)})),
            "target": self.target,
            "ratio": self.ratio.map(rounded),
            "ok": self.ok,
        });
        if !self.notes.is_empty() {
            line["notes"] = self.notes.iter().map(|(name, note)| ((*name).to_owned(), note.clone())).collect();
        }
        line.to_string()
    }
}

/// Six digits are more than any of these clocks knows.
pub fn rounded(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return figure;
    }
    let scale = 10_f64.powi(5 - figure.abs().log10().floor() as i32);
    (figure * scale).round() / scale
}

/// What became of one contestant.
struct Record {
    figures: Vec<f64>,
    failed: Option<String>,
}

impl Record {
    fn new() -> Self {
        Record { figures: Vec::new(), failed: None }
    }

    fn take(&mut self, who: &str, case: &str, measure: &mut Measure<'_>) {
        if self.failed.is_none() {
            match measure() {
                Ok(figure) => self.figures.push(figure),
                Err(reason) => {
                    eprintln!("{case}: {who} could not be measured: {reason}");
                    self.failed = Some(reason);
                }
            }
        }
    }
}

impl Contest<'_> {
    /// Measures every contestant once a round, after one round that does not count.
    ///
    /// # Errors
    ///
    /// Ours, or the floor, could not be measured. A rival that cannot is left out, and said so on standard error.
    pub fn run(self, rounds: usize) -> Result<Line, String> {
        self.run_where(rounds, &mut |_| Ok(true))
    }

    /// As [`Contest::run`], of rounds that count: `counts` is asked before a round (`false`) and after it (`true`), and
    /// a round of which it says no is measured again. It must give in at some time.
    ///
    /// # Errors
    ///
    /// As [`Contest::run`]; or what `counts` could not find out.
    pub fn run_where(
        mut self,
        rounds: usize,
        counts: &mut dyn FnMut(bool) -> Result<bool, String>,
    ) -> Result<Line, String> {
        let mut ours = Record::new();
        let mut floor = Record::new();
        let mut rivals: Vec<Record> = self.rivals.iter().map(|_| Record::new()).collect();
        let mut round = 0;
        while round <= rounds {
            counts(false)?;
            // Who goes first has the cold caches: take turns.
            if let Some((name, measure)) = &mut self.floor
                && round % 2 == 0
            {
                floor.take(name, &self.case, measure);
            }
            ours.take("chronicle", &self.case, &mut self.ours);
            if let Some((name, measure)) = &mut self.floor
                && round % 2 == 1
            {
                floor.take(name, &self.case, measure);
            }
            for (record, (name, measure)) in rivals.iter_mut().zip(&mut self.rivals) {
                record.take(name, &self.case, measure);
            }
            if let Some(reason) = ours.failed.take().or(floor.failed.take()) {
                return Err(format!("{}: {reason}", self.case));
            }
            let warm_up = round == 0 && rounds > 0;
            let again = !counts(true)? && !warm_up;
            for record in [&mut ours, &mut floor].into_iter().chain(&mut rivals) {
                if warm_up {
                    record.figures.clear();
                } else if again {
                    record.figures.pop();
                }
            }
            round += usize::from(!again);
        }
        let names = self.rivals.iter().map(|(name, _)| *name);
        let rivals: Vec<(&'static str, Vec<f64>)> = names
            .zip(rivals)
            .filter(|(_, record)| record.failed.is_none() && !record.figures.is_empty())
            .map(|(name, record)| (name, record.figures))
            .collect();
        let floor = self.floor.map(|(name, _)| (name, floor.figures));
        Ok(line(
            self.group,
            self.case,
            self.unit,
            self.higher_is_better,
            &ours.figures,
            floor.as_ref().map(|(name, figures)| (*name, &figures[..])),
            &rivals,
            self.target,
        ))
    }
}

/// The line that figures make, one of each contestant a round, in the rounds' order.
// Eight of them are what a line says; a struct between would be the line itself.
#[allow(clippy::too_many_arguments)]
pub fn line(
    group: &'static str,
    case: String,
    unit: &'static str,
    higher_is_better: bool,
    ours: &[f64],
    floor: Option<(&'static str, &[f64])>,
    rivals: &[(&'static str, Vec<f64>)],
    target: Target,
) -> Line {
    let theirs: Option<Vec<f64>> = match floor {
        Some((_, figures)) => Some(figures.to_vec()),
        None if rivals.is_empty() => None,
        None => Some(
            (0..ours.len())
                .filter_map(|round| {
                    let of_round = rivals.iter().filter_map(|(_, figures)| figures.get(round)).copied();
                    if higher_is_better { of_round.reduce(f64::max) } else { of_round.reduce(f64::min) }
                })
                .collect(),
        ),
    };
    let mut ratio =
        theirs.filter(|theirs| theirs.len() == ours.len() && theirs.iter().all(|it| *it > 0.0)).map(|theirs| {
            let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
            Spread::of(&ratios).median
        });
    let ours = Spread::of(ours);
    let within = |figure: f64, bound: f64| {
        if higher_is_better { figure >= bound * (1.0 - ALLOWANCE) } else { figure <= bound * (1.0 + ALLOWANCE) }
    };
    let (target, ok) = match target {
        Target::None => (None, true),
        Target::Ratio(bound) => (Some(bound), ratio.is_some_and(|ratio| within(ratio, bound))),
        Target::Median(bound) => {
            ratio = None;
            (Some(bound), within(ours.median, bound))
        }
        Target::Never(bound) => {
            ratio = None;
            (Some(bound), if higher_is_better { ours.min >= bound } else { ours.max <= bound })
        }
    };
    Line {
        group,
        case,
        unit,
        higher_is_better,
        ours,
        rivals: rivals.iter().map(|(name, figures)| (*name, Spread::of(figures))).collect(),
        floor: floor.map(|(name, figures)| (name, Spread::of(figures).median)),
        target,
        ratio,
        ok,
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(ours: &[f64], floor: &[f64], higher: bool, target: Target) -> Line {
        line("append", "case".to_owned(), "ns", higher, ours, Some(("floor", floor)), &[], target)
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The machine got three times slower on the way; ours was twice the floor all the time.
        let line = plain(&[2.0, 4.0, 6.0], &[1.0, 2.0, 3.0], false, Target::Ratio(2.0));
        assert_eq!((line.ratio, line.ok), (Some(2.0), true));
    }

    #[test]
    fn three_percent_are_allowed_and_no_more() {
        assert!(plain(&[1.029], &[1.0], false, Target::Ratio(1.0)).ok);
        assert!(!plain(&[1.031], &[1.0], false, Target::Ratio(1.0)).ok);
        assert!(plain(&[0.971], &[1.0], true, Target::Ratio(1.0)).ok);
        assert!(!plain(&[0.969], &[1.0], true, Target::Ratio(1.0)).ok);
    }

    #[test]
    fn counts_have_no_allowance() {
        assert!(plain(&[0.0, 0.0], &[0.0, 0.0], false, Target::Never(0.0)).ok);
        assert!(!plain(&[0.0, 1.0, 0.0], &[0.0, 0.0, 0.0], false, Target::Never(0.0)).ok);
    }

    #[test]
    fn without_a_floor_the_best_rival_of_the_round_is_the_measure() {
        let rivals = [("slow", vec![9.0, 9.0]), ("fast", vec![4.0, 2.0])];
        let line = line("append", "case".to_owned(), "ns", false, &[2.0, 1.0], None, &rivals, Target::None);
        assert_eq!(line.ratio, Some(0.5));
    }

    #[test]
    fn a_line_says_what_was_promised() {
        let line = plain(&[2.0], &[1.0], false, Target::Ratio(1.5));
        let json: Value = serde_json::from_str(&line.json()).unwrap();
        let mut keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected =
            ["case", "floor", "group", "higher_is_better", "ok", "ours", "ratio", "rivals", "target", "unit"];
        assert_eq!(keys, expected);
        assert_eq!(json["ok"], false);
    }
}
