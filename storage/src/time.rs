//! UTC days and moments as storage needs them: names of directories, and times that people read.
//!
//! [`Date`] is a civil day from 1970-01-01 on, [`TimeNs`] a moment in nanoseconds since then, as long as a `u64` reaches
//! (the year 2554). No time zones, no leap seconds, no clock is read. What a user types (`10:00`, an offset) is parsed
//! by the tools.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Nanoseconds of a day.
const DAY_NS: u64 = 86_400_000_000_000;

/// A UTC day.
///
/// ```
/// use chronicle_storage::root::Date;
/// let date: Date = "2024-02-29".parse().unwrap();
/// assert_eq!(Date::of_ns(date.start_ns()), date);
/// assert_eq!(Date::of_ns(date.end_ns()).to_string(), "2024-03-01");
/// assert!("2023-02-29".parse::<Date>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(u32);

impl Date {
    /// The first one.
    pub const MIN: Date = Date(0);
    /// The last one that nanoseconds in a `u64` reach, 2554-07-21.
    pub const MAX: Date = Date((u64::MAX / DAY_NS) as u32);

    /// The day of a moment.
    #[must_use]
    pub const fn of_ns(ns: u64) -> Date {
        Date((ns / DAY_NS) as u32)
    }

    /// Its first nanosecond.
    #[must_use]
    pub const fn start_ns(self) -> u64 {
        self.0 as u64 * DAY_NS
    }

    /// The first nanosecond behind it; of [`Date::MAX`], the last there is.
    #[must_use]
    pub const fn end_ns(self) -> u64 {
        self.start_ns().saturating_add(DAY_NS)
    }

    /// The next day; [`Date::MAX`] has none.
    #[must_use]
    pub fn next(self) -> Option<Date> {
        (self < Date::MAX).then(|| Date(self.0 + 1))
    }

    /// The day before; [`Date::MIN`] has none.
    #[must_use]
    pub fn previous(self) -> Option<Date> {
        self.0.checked_sub(1).map(Date)
    }

    /// Year, month, day.
    #[must_use]
    pub fn civil(self) -> (u32, u32, u32) {
        // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days, for days from 1970 on.
        let z = self.0 + 719_468;
        let era = z / 146_097;
        let of_era = z - era * 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let mp = (5 * of_year + 2) / 153;
        let day = of_year - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        (year_of_era + era * 400 + u32::from(month <= 2), month, day)
    }

    /// The day of a year, a month from 1 and a day from 1, if there is one.
    #[must_use]
    pub fn of_civil(year: u32, month: u32, day: u32) -> Option<Date> {
        if !(1970..=2554).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        // The same source, days_from_civil.
        let y = if month <= 2 { year - 1 } else { year };
        let era = y / 400;
        let year_of_era = y - era * 400;
        let mp = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * mp + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let date = Date((era * 146_097 + of_era).checked_sub(719_468)?);
        // A 31st of June came out as the first of July: no such day.
        (date <= Date::MAX && date.civil() == (year, month, day)).then_some(date)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`Date`] or [`TimeNs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateError {
    text: String,
    expected: &'static str,
}

impl DateError {
    fn new(text: &str, expected: &'static str) -> Self {
        DateError { text: text.chars().take(40).collect(), expected }
    }
}

impl fmt::Display for DateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not {}", self.text.escape_debug(), self.expected)
    }
}

impl std::error::Error for DateError {}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')))
}

fn parse_date(text: &[u8]) -> Option<Date> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    Date::of_civil(digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..])?)
}

impl FromStr for Date {
    type Err = DateError;
    fn from_str(text: &str) -> Result<Self, DateError> {
        parse_date(text.as_bytes()).ok_or_else(|| DateError::new(text, "a day like 2024-03-01 from 1970 to 2554"))
    }
}

impl TryFrom<String> for Date {
    type Error = DateError;
    fn try_from(text: String) -> Result<Self, DateError> {
        text.parse()
    }
}

impl From<Date> for String {
    fn from(date: Date) -> String {
        date.to_string()
    }
}

/// A moment, ns since 1970; in text and JSON always `2024-03-01T10:00:00.000000000Z`, because JSON's readers round
/// integers of this size.
///
/// ```
/// use chronicle_storage::root::TimeNs;
/// let time = TimeNs(1_709_287_200_000_000_001);
/// assert_eq!(time.to_string(), "2024-03-01T10:00:00.000000001Z");
/// assert_eq!("2024-03-01T10:00:00.000000001Z".parse(), Ok(time));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeNs(pub u64);

impl fmt::Display for TimeNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_day = self.0 % DAY_NS;
        let (seconds, ns) = (of_day / 1_000_000_000, of_day % 1_000_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z", Date::of_ns(self.0))
    }
}

impl FromStr for TimeNs {
    type Err = DateError;
    fn from_str(text: &str) -> Result<Self, DateError> {
        let parse = |b: &[u8]| {
            if b.len() != 30 || (b[10], b[13], b[16], b[19], b[29]) != (b'T', b':', b':', b'.', b'Z') {
                return None;
            }
            let date = parse_date(&b[..10])?;
            let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
            let ns = digits(&b[20..29])?;
            if hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            let seconds = u64::from(hour * 3600 + minute * 60 + second);
            date.start_ns().checked_add(seconds * 1_000_000_000 + u64::from(ns)).map(TimeNs)
        };
        parse(text.as_bytes()).ok_or_else(|| DateError::new(text, "a time like 2024-03-01T10:00:00.000000000Z"))
    }
}

impl TryFrom<String> for TimeNs {
    type Error = DateError;
    fn try_from(text: String) -> Result<Self, DateError> {
        text.parse()
    }
}

impl From<TimeNs> for String {
    fn from(time: TimeNs) -> String {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_range_reads_back() {
        let mut date = Date::MIN;
        assert_eq!(date.to_string(), "1970-01-01");
        let mut before = (1969, 12, 31);
        loop {
            let civil = date.civil();
            assert!(civil > before, "{date}");
            before = civil;
            assert_eq!(Date::of_civil(civil.0, civil.1, civil.2), Some(date));
            assert_eq!(date.to_string().parse(), Ok(date));
            let Some(next) = date.next() else { break };
            assert_eq!(next.previous(), Some(date));
            date = next;
        }
        assert_eq!(date.to_string(), "2554-07-21");
        assert_eq!(date.end_ns(), u64::MAX);
    }

    #[test]
    fn what_is_no_day_or_time_is_refused() {
        for bad in [
            "",
            "2024-2-01",
            "2024-13-01",
            "2024-00-10",
            "2024-01-00",
            "2024-06-31",
            "2023-02-29",
            "1969-12-31",
            "2554-07-22",
            "9999-01-01",
            "2024-03-01 ",
            "+024-03-01",
            "2024/03/01",
            "２024-03-01",
            "../../../ab",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
        for bad in [
            "2024-03-01T10:00:00Z",
            "2024-03-01T24:00:00.000000000Z",
            "2024-03-01T10:60:00.000000000Z",
            "2024-03-01T10:00:60.000000000Z",
            "2554-07-21T23:59:59.000000000Z",
            "2024-03-01T10:00:00.00000000aZ",
        ] {
            assert!(bad.parse::<TimeNs>().is_err(), "{bad}");
        }
        let last = TimeNs(u64::MAX);
        assert_eq!(last.to_string().parse(), Ok(last));
        assert_eq!("2024-03-01".parse::<Date>().unwrap().start_ns(), 1_709_251_200_000_000_000);
    }
}
