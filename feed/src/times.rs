//! The ways in which venues and recorders write a time, each exactly as ns since 1970. No float, no clock.

pub(crate) const NS_PER_MS: u64 = 1_000_000;
pub(crate) const NS_PER_S: u64 = 1_000_000_000;
const S_PER_DAY: u64 = 86_400;

/// An event time further ahead of its receive time than this cannot be meant.
pub(crate) const AHEAD_NS_MAX: u64 = 24 * 3600 * NS_PER_S;

/// Seconds with up to 9 decimals, given as all their digits and the number of those behind the point.
pub(crate) fn of_seconds(digits: u64, decimals: u8) -> Option<u64> {
    digits.checked_mul(10_u64.pow(9_u32.checked_sub(u32::from(decimals))?))
}

/// `2021-04-17T16:43:37.075687Z`: RFC 3339 in UTC, with up to 9 decimals or none. From 1970 to 2554.
pub(crate) fn of_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_first_chunk::<19>()?;
    let mut digits = true;
    let mut two = |at: usize| {
        let [tens, ones] = [head[at], head[at + 1]].map(|byte| byte.wrapping_sub(b'0'));
        digits &= tens < 10 && ones < 10;
        u64::from(tens) * 10 + u64::from(ones)
    };
    let (year, month, day) = (two(0) * 100 + two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    let punctuated = digits && [head[4], head[7], head[10], head[13], head[16]] == *b"--T::";
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !punctuated || year < 1970 || day == 0 || day > in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match rest {
        b"Z" => 0,
        [b'.', decimals @ .., b'Z'] if (1..=9).contains(&decimals.len()) => {
            let digit = |n, byte: &u8| byte.is_ascii_digit().then(|| n * 10 + u64::from(byte - b'0'));
            decimals.iter().try_fold(0, digit)? * 10_u64.pow(9 - decimals.len() as u32)
        }
        _ => return None,
    };
    // Days since 1970-01-01, with years that begin in March, so that the leap day is a year's last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469;
    let seconds = days * S_PER_DAY + hour * 3600 + minute * 60 + second;
    seconds.checked_mul(NS_PER_S)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_what_date_says() {
        // `date -ud … +%s%N`
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2021-04-17T16:43:37.075687Z", 1_618_677_817_075_687_000),
            ("2000-02-29T23:59:59.999999999Z", 951_868_799_999_999_999),
            ("2024-12-31T00:00:00.5Z", 1_735_603_200_500_000_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000_000_000),
            ("2554-07-21T23:34:33.7Z", 18_446_744_073_700_000_000),
        ] {
            assert_eq!(of_rfc3339(text), Some(ns), "{text}");
        }
        for text in [
            "",
            "2021-04-17",
            "2021-04-17T16:43:37",
            "2021-04-17T16:43:37.Z",
            "2021-04-17T16:43:37.0756870000Z",
            "2021-04-17T16:43:37+00:00",
            "2021-04-17 16:43:37Z",
            "2021-02-29T00:00:00Z",
            "2021-00-01T00:00:00Z",
            "2021-13-01T00:00:00Z",
            "2021-04-00T00:00:00Z",
            "2021-04-31T00:00:00Z",
            "2021-04-17T24:00:00Z",
            "2021-04-17T16:60:00Z",
            "2021-04-17T16:43:60Z",
            "1969-12-31T23:59:59Z",
            "2555-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2021-04-17T16:43:37Z ",
            "2021-04-17T16:43:3\u{e9}Z",
        ] {
            assert_eq!(of_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let mut last = None;
        for year in 1970..2400 {
            for month in 1..=12 {
                for day in 1..=31 {
                    let Some(ns) = of_rfc3339(&format!("{year}-{month:02}-{day:02}T00:00:00Z")) else { continue };
                    assert_eq!(ns, last.map_or(0, |last: u64| last + S_PER_DAY * NS_PER_S), "{year}-{month}-{day}");
                    last = Some(ns);
                }
            }
        }
    }
}
