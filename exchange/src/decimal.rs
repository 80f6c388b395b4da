//! Whole ticks and lots as the decimal texts that venues write, and back. Nothing is rounded.

use std::fmt::{self, Write as _};

/// The most ticks or lots that one number may be: products of two stay far from the end of a `u128`, sums of millions
/// from the end of a `u64`.
pub const UNITS_MAX: u64 = 1 << 40;
/// The most decimals that a symbol may have: a venue's eight are common, more than nine are not seen.
pub const DECIMALS_MAX: u8 = 9;

/// Writes `units` times 10^-`decimals`, with at least `places` digits behind the point.
pub fn push(out: &mut String, units: u128, decimals: u8, places: u8) {
    let one = 10_u128.pow(u32::from(decimals));
    // Writing into a `String` cannot fail.
    let _ = write!(out, "{}", units / one);
    if decimals.max(places) == 0 {
        return;
    }
    out.push('.');
    if decimals > 0 {
        let _ = write!(out, "{:0width$}", units % one, width = usize::from(decimals));
    }
    for _ in decimals..places {
        out.push('0');
    }
}

/// The same as [`push`], as a text of its own.
#[must_use]
pub fn text(units: u128, decimals: u8, places: u8) -> String {
    let mut out = String::new();
    push(&mut out, units, decimals, places);
    out
}

/// Why a text is no number of ticks or lots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUnits {
    /// It is not digits with at most one point among them.
    Malformed,
    /// It has a digit other than 0 behind the last decimal that the symbol has.
    TooFine,
    /// It is more than [`UNITS_MAX`].
    TooLarge,
}

impl fmt::Display for NotUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a decimal number",
            Self::TooFine => "has more decimals than the symbol",
            Self::TooLarge => "too large",
        })
    }
}

impl std::error::Error for NotUnits {}

/// Reads a decimal text as units of 10^-`decimals`.
///
/// # Errors
///
/// If it is no such number; see [`NotUnits`].
pub fn parse(text: &str, decimals: u8) -> Result<u64, NotUnits> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(NotUnits::Malformed);
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(usize::from(decimals)));
    if rest.bytes().any(|byte| byte != b'0') {
        return Err(NotUnits::TooFine);
    }
    let padding = usize::from(decimals) - kept.len();
    let mut units = 0_u64;
    for digit in whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', padding)) {
        units = units * 10 + u64::from(digit - b'0');
        if units > UNITS_MAX {
            return Err(NotUnits::TooLarge);
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (units, decimals, places, written) in [
            (6_173_763, 2, 8, "61737.63000000"),
            (5, 2, 2, "0.05"),
            (5, 2, 0, "0.05"),
            (7, 0, 0, "7"),
            (7, 0, 2, "7.00"),
            (UNITS_MAX, 9, 9, "1099.511627776"),
        ] {
            assert_eq!(text(u128::from(units), decimals, places), written);
            assert_eq!(parse(written, decimals), Ok(units));
        }
        assert_eq!(parse(".5", 1), Ok(5));
        assert_eq!(parse("5.", 1), Ok(50));
    }

    #[test]
    fn what_is_no_number_of_units_is_refused() {
        for wrong in ["", ".", "-1", "+1", "1e3", "1.2.3", "½", " 1", "0x1"] {
            assert_eq!(parse(wrong, 2), Err(NotUnits::Malformed), "{wrong}");
        }
        assert_eq!(parse("0.001", 2), Err(NotUnits::TooFine));
        assert_eq!(parse("0.010000", 2), Ok(1));
        assert_eq!(parse(&"9".repeat(100), 0), Err(NotUnits::TooLarge));
    }
}
