//! Where ticks stand, and what is written beside them.

/// Ticks on round numbers, at most `count` of them, and the decimals that they need.
pub(super) fn numbers(from: f64, to: f64, count: usize) -> (Vec<f64>, usize) {
    let span = to - from;
    if !span.is_finite() || span <= 0.0 || count == 0 {
        return (Vec::new(), 0);
    }
    let rough = span / count as f64;
    let power = rough.log10().floor();
    let unit = 10f64.powf(power);
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * unit).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * unit);
    let first = (from / step).ceil();
    // By multiplication: adding up would drift.
    let ticks = (0..=count).map(|i| (first + i as f64) * step).filter(|tick| (from..=to).contains(tick)).collect();
    let decimals = (-(step * 1.000_001).log10().floor()).clamp(0.0, 12.0) as usize;
    (ticks, decimals)
}

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
const M: u64 = 60 * S;
const H: u64 = 60 * M;
/// From one tick of time to the next.
const STEPS: [u64; 31] = [
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    S,
    2 * S,
    5 * S,
    10 * S,
    15 * S,
    20 * S,
    30 * S,
    M,
    2 * M,
    5 * M,
    10 * M,
    15 * M,
    20 * M,
    30 * M,
    H,
    2 * H,
    3 * H,
    4 * H,
    6 * H,
    8 * H,
    12 * H,
    24 * H,
];

/// Ticks of time, at most `count` of them: when, and what is written there, which is UTC.
pub(super) fn times(from: u64, to: u64, count: u64) -> Vec<(u64, String)> {
    let rough = to.saturating_sub(from) / count.max(1);
    let step = STEPS.into_iter().find(|step| *step >= rough).unwrap_or(24 * H);
    let mut ticks = Vec::new();
    let mut next = from.checked_next_multiple_of(step);
    while let Some(time) = next.filter(|time| *time <= to && ticks.len() < 64) {
        ticks.push((time, clock(time, step)));
        next = time.checked_add(step);
    }
    ticks
}

/// The time of day with the digits that a step needs.
fn clock(ns: u64, step: u64) -> String {
    let of_day = ns % (24 * H);
    let (hour, minute, second) = (of_day / H, of_day / M % 60, of_day / S % 60);
    if step >= M {
        format!("{hour:02}:{minute:02}")
    } else if step >= S {
        format!("{hour:02}:{minute:02}:{second:02}")
    } else {
        format!("{hour:02}:{minute:02}:{second:02}.{:03}", of_day / MS % 1000)
    }
}

/// A time of day to the millisecond.
pub(super) fn to_the_ms(ns: u64) -> String {
    clock(ns, MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_on_round_numbers_within() {
        assert_eq!(numbers(0.0, 10.0, 5), (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], 0));
        assert_eq!(numbers(0.013, 0.027, 4), (vec![0.015, 0.02, 0.025], 3));
        assert_eq!(numbers(61_700.0, 61_900.0, 6).0, [61_700.0, 61_750.0, 61_800.0, 61_850.0, 61_900.0]);
        for (from, to) in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            assert!(numbers(from, to, 5).0.is_empty());
        }
        for (from, to) in [(1e18, 1e18 + 4096.0), (-1e-12, 1e-12), (f64::MIN_POSITIVE, 1e300)] {
            assert!(numbers(from, to, 5).0.len() <= 6);
        }
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        let day = 1_723_075_200 * S;
        let texts = |from, to| times(from, to, 8).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(
            texts(day, day + 24 * H),
            ["00:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00"]
        );
        assert_eq!(
            texts(day + 7 * S, day + 12 * S),
            ["00:00:07", "00:00:08", "00:00:09", "00:00:10", "00:00:11", "00:00:12"]
        );
        assert_eq!(texts(day + 5 * MS, day + 9 * MS).first().map(String::as_str), Some("00:00:00.005"));
        assert!(times(0, u64::MAX, 8).len() <= 64);
        assert!(texts(u64::MAX - 1, u64::MAX).is_empty());
    }
}
