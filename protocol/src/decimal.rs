//! Exact decimals: the venue's text as a number, and the number as the venue's text.
//!
//! A venue's checksum is computed over *text*, and a backtest that rounds is wrong, so a price is never a float here: it
//! is an integer mantissa, an exponent of ten and one bit that says how the venue writes it ([`Scale`]).
//!
//! ```text
//! texts of one message            scale                mantissas
//! "61837.63000000" "0.00000000"   fixed, 8 decimals    6183763000000, 0
//! "61804.7" "61800"               trimmed, 1 decimal   618047, 618000
//! "0.10" "12.5"                   neither: not exact   the message is kept verbatim
//! ```
//!
//! All prices of a message share one scale, and so do all its quantities. [`DecimalText::parse`] reads one text,
//! [`ScaleFinder`] finds the scale that writes all of them again, [`Decimal`] writes them.
//!
//! What this module never does: it does not round, does not accept two texts for one number under one scale (no `+`, no
//! exponent, no needless leading zero, no minus zero), and has no arithmetic.

use core::cmp::Ordering;
use core::fmt;

/// The most decimals that a record can carry: its exponent is an `i8`.
pub const DECIMALS_MAX: u8 = 127;

/// How the numbers of one field of a message are written: `value = mantissa x 10^exp`, and the text rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Scale {
    /// The exponent of ten.
    pub exp: i8,
    /// Written without trailing zeros after the point and without a trailing point; else with exactly `-exp` decimals.
    pub trimmed: bool,
}

impl Scale {
    /// Exactly `decimals` digits after the point.
    ///
    /// # Panics
    ///
    /// If `decimals` is more than [`DECIMALS_MAX`].
    #[must_use]
    pub const fn fixed(decimals: u8) -> Self {
        assert!(decimals <= DECIMALS_MAX, "more decimals than an i8 exponent holds");
        Self { exp: -(decimals as i8), trimmed: false }
    }

    /// At most `decimals` digits after the point, the last of which is not zero.
    ///
    /// # Panics
    ///
    /// If `decimals` is more than [`DECIMALS_MAX`].
    #[must_use]
    pub const fn trimmed(decimals: u8) -> Self {
        assert!(decimals <= DECIMALS_MAX, "more decimals than an i8 exponent holds");
        Self { exp: -(decimals as i8), trimmed: true }
    }

    /// The number with this mantissa.
    #[must_use]
    pub const fn decimal(self, mantissa: i64) -> Decimal {
        Decimal { mantissa, scale: self }
    }
}

/// A number that knows the venue's text for it: `Display` gives that text.
///
/// ```
/// use chronicle_protocol::Scale;
///
/// assert_eq!(Scale::fixed(8).decimal(6_183_763_000_000).to_string(), "61837.63000000");
/// assert_eq!(Scale::trimmed(3).decimal(12_500).to_string(), "12.5");
/// assert_eq!(Scale::fixed(2).decimal(-5).to_string(), "-0.05");
/// ```
///
/// Numbers are equal when both mantissa and scale are; use [`Decimal::value_cmp`] to compare values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// The digits.
    pub mantissa: i64,
    /// Where the point stands and how the text ends.
    pub scale: Scale,
}

impl Decimal {
    /// The mantissa of the same value under another exponent, if that is exact and fits.
    ///
    /// A book that meets messages with different exponents keeps its keys comparable with this.
    #[must_use]
    pub fn mantissa_at(self, exp: i8) -> Option<i64> {
        let shift = i32::from(self.scale.exp) - i32::from(exp);
        if self.mantissa == 0 {
            return Some(0);
        }
        let factor = 10_i64.checked_pow(shift.unsigned_abs())?;
        if shift >= 0 {
            self.mantissa.checked_mul(factor)
        } else if self.mantissa % factor == 0 {
            Some(self.mantissa / factor)
        } else {
            None
        }
    }

    /// Compares by value, whatever the scales.
    #[must_use]
    pub fn value_cmp(self, other: Self) -> Ordering {
        if self.scale.exp == other.scale.exp || self.mantissa.signum() != other.mantissa.signum() {
            return self.mantissa.cmp(&other.mantissa);
        }
        // Bring the number with the larger exponent to the smaller one. An i64 times 10^19 fits an i128; a factor
        // beyond that makes any nonzero mantissa larger than every i64.
        let widen = |wide: Self, exp: i8| -> Option<i128> {
            let shift = (i32::from(wide.scale.exp) - i32::from(exp)).unsigned_abs();
            (shift <= 19).then(|| i128::from(wide.mantissa) * 10_i128.pow(shift))
        };
        if self.scale.exp > other.scale.exp {
            match widen(self, other.scale.exp) {
                Some(mantissa) => mantissa.cmp(&i128::from(other.mantissa)),
                None => self.mantissa.cmp(&0),
            }
        } else {
            other.value_cmp(self).reverse()
        }
    }
}

/// Sign, 20 digits of a `u64`, up to 128 zeros and "0." fit with room to spare.
const TEXT_MAX: usize = 160;

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Filled from the end, as digits come.
        let mut buffer = [b'0'; TEXT_MAX];
        let mut start = TEXT_MAX;
        let mut put = |byte: u8| {
            start -= 1;
            buffer[start] = byte;
        };
        let mut rest = self.mantissa.unsigned_abs();
        let decimals = -i32::from(self.scale.exp);
        if decimals <= 0 {
            if rest != 0 {
                for _ in decimals..0 {
                    put(b'0');
                }
            }
        } else {
            let mut trimming = self.scale.trimmed;
            for _ in 0..decimals {
                let digit = (rest % 10) as u8;
                rest /= 10;
                if trimming && digit == 0 {
                    continue;
                }
                trimming = false;
                put(b'0' + digit);
            }
            if !trimming {
                put(b'.');
            }
        }
        loop {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let text = core::str::from_utf8(&buffer[start..]).map_err(|_| fmt::Error)?;
        f.pad_integral(self.mantissa >= 0, "", text)
    }
}

/// Why a text has no exact decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotExact {
    /// It is no number.
    NotANumber,
    /// It is a number, written in a way that no [`Scale`] writes (`+1`, `1e5`, `007`, `.5`, `5.`, `-0`).
    Spelling,
    /// Its digits do not fit an `i64`, or its decimals an `i8`.
    TooLong,
}

impl fmt::Display for NotExact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "decimal: not a number",
            Self::Spelling => "decimal: a spelling that would not be written again",
            Self::TooLong => "decimal: more digits than a record holds",
        })
    }
}

impl core::error::Error for NotExact {}

/// One text of a venue, read: its mantissa in its own decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecimalText {
    /// All digits, without the point.
    pub mantissa: i64,
    /// Digits after the point.
    pub decimals: u8,
    /// The last digit after the point is a zero, so no trimmed scale writes this text.
    pub ends_in_zero: bool,
}

impl DecimalText {
    /// Reads `[-]digits[.digits]`.
    ///
    /// ```
    /// use chronicle_protocol::{DecimalText, NotExact};
    ///
    /// let text = DecimalText::parse(b"0.0140").unwrap();
    /// assert_eq!((text.mantissa, text.decimals, text.ends_in_zero), (140, 4, true));
    /// assert_eq!(DecimalText::parse(b"1e5"), Err(NotExact::Spelling));
    /// assert_eq!(DecimalText::parse(b"many"), Err(NotExact::NotANumber));
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NotExact`]; the same number in another spelling is never guessed.
    pub fn parse(text: &[u8]) -> Result<Self, NotExact> {
        let negative = text.first() == Some(&b'-');
        let unsigned = if negative { &text[1..] } else { text };
        let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let whole = digits(unsigned);
        let (fraction, point) = match unsigned.get(whole) {
            Some(b'.') => (digits(&unsigned[whole + 1..]), 1),
            _ => (0, 0),
        };
        if whole + point + fraction != unsigned.len()
            || whole == 0
            || (point == 1 && fraction == 0)
            || (whole > 1 && unsigned[0] == b'0')
        {
            return Err(if is_number(text) { NotExact::Spelling } else { NotExact::NotANumber });
        }
        let decimals = u8::try_from(fraction).ok().filter(|d| *d <= DECIMALS_MAX).ok_or(NotExact::TooLong)?;
        let mut mantissa = 0_i64;
        for byte in unsigned.iter().filter(|b| **b != b'.') {
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_add(i64::from(byte - b'0')))
                .ok_or(NotExact::TooLong)?;
        }
        if negative && mantissa == 0 {
            return Err(NotExact::Spelling);
        }
        Ok(Self {
            mantissa: if negative { -mantissa } else { mantissa },
            decimals,
            ends_in_zero: fraction > 0 && unsigned.last() == Some(&b'0'),
        })
    }

    /// The mantissa under `scale`, if `scale` writes this very text.
    #[must_use]
    pub fn under(self, scale: Scale) -> Option<i64> {
        let own = -i32::from(self.decimals);
        let exp = i32::from(scale.exp);
        if own == exp && !(scale.trimmed && self.ends_in_zero) {
            return Some(self.mantissa);
        }
        if !scale.trimmed || self.ends_in_zero || own < exp {
            return None;
        }
        Scale { exp: i8::try_from(own).ok()?, trimmed: true }.decimal(self.mantissa).mantissa_at(scale.exp)
    }
}

/// A number in the widest sense that venues use: sign, digits with a point anywhere, exponent.
fn is_number(text: &[u8]) -> bool {
    let unsigned = match text.first() {
        Some(b'+' | b'-') => &text[1..],
        _ => text,
    };
    let (body, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let points = body.iter().filter(|b| **b == b'.').count();
    let digits = body.iter().filter(|b| b.is_ascii_digit()).count();
    let exponent_is_fine = exponent.is_none_or(|e| {
        let e = match e.first() {
            Some(b'+' | b'-') => &e[1..],
            _ => e,
        };
        !e.is_empty() && e.iter().all(u8::is_ascii_digit)
    });
    points <= 1 && digits > 0 && points + digits == body.len() && exponent_is_fine
}

/// Finds the one [`Scale`] that writes a set of texts again.
///
/// All with the same number of decimals: fixed. Else, none ending in a zero: trimmed, with the most decimals seen. Else
/// there is none.
///
/// ```
/// use chronicle_protocol::{DecimalText, Scale, ScaleFinder};
///
/// let texts = ["61804.7", "61800"].map(|t| DecimalText::parse(t.as_bytes()).unwrap());
/// let mut finder = ScaleFinder::new();
/// for text in texts {
///     finder.see(text);
/// }
/// let scale = finder.scale().unwrap();
/// assert_eq!(scale, Scale::trimmed(1));
/// assert_eq!(texts.map(|t| scale.decimal(t.under(scale).unwrap()).to_string()), ["61804.7", "61800"]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ScaleFinder {
    seen: Option<(u8, u8)>,
    ends_in_zero: bool,
}

impl ScaleFinder {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { seen: None, ends_in_zero: false }
    }

    /// Takes one more text into account.
    pub fn see(&mut self, text: DecimalText) {
        let (least, most) = self.seen.unwrap_or((text.decimals, text.decimals));
        self.seen = Some((least.min(text.decimals), most.max(text.decimals)));
        self.ends_in_zero |= text.ends_in_zero;
    }

    /// The scale of all texts seen; of none, fixed without decimals. `None`: no scale writes them all.
    ///
    /// A mantissa may still not fit under the scale: [`DecimalText::under`] says so.
    #[must_use]
    pub fn scale(self) -> Option<Scale> {
        match self.seen {
            None => Some(Scale::fixed(0)),
            Some((least, most)) if least == most => Some(Scale::fixed(most)),
            Some((_, most)) if !self.ends_in_zero => Some(Scale::trimmed(most)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    fn text(scale: Scale, mantissa: i64) -> String {
        scale.decimal(mantissa).to_string()
    }

    #[test]
    fn display_at_the_edges() {
        assert_eq!(text(Scale::fixed(0), 0), "0");
        assert_eq!(text(Scale::fixed(8), 0), "0.00000000");
        assert_eq!(text(Scale::trimmed(8), 0), "0");
        assert_eq!(text(Scale::trimmed(2), 100), "1");
        assert_eq!(text(Scale::trimmed(2), 1000), "10");
        assert_eq!(text(Scale::fixed(0), i64::MIN), "-9223372036854775808");
        assert_eq!(text(Scale::fixed(19), i64::MAX), "0.9223372036854775807");
        assert_eq!(text(Scale { exp: 3, trimmed: false }, 12), "12000");
        assert_eq!(text(Scale { exp: 3, trimmed: true }, 0), "0");
        assert_eq!(text(Scale { exp: i8::MAX, trimmed: false }, i64::MIN).len(), 1 + 19 + 127);
        assert_eq!(text(Scale { exp: i8::MIN, trimmed: false }, i64::MIN).len(), 1 + 2 + 128);
        assert_eq!(
            std::format!("{:>8}|{:<8}|", Scale::fixed(1).decimal(15), Scale::fixed(1).decimal(-15)),
            "     1.5|-1.5    |"
        );
    }

    #[test]
    fn text_survives_the_way_there_and_back() {
        for given in ["0", "35", "350", "0.1", "-0.1", "61837.63000000", "0.00000000", "9223372036854775807"] {
            let read = DecimalText::parse(given.as_bytes()).unwrap();
            assert_eq!(text(Scale::fixed(read.decimals), read.mantissa), given);
        }
    }

    #[test]
    fn spellings_that_would_be_lost_are_refused() {
        for (given, why) in [
            ("+1", NotExact::Spelling),
            ("1e5", NotExact::Spelling),
            ("1.5E-3", NotExact::Spelling),
            ("007", NotExact::Spelling),
            ("00.5", NotExact::Spelling),
            (".5", NotExact::Spelling),
            ("5.", NotExact::Spelling),
            ("-0", NotExact::Spelling),
            ("-0.00", NotExact::Spelling),
            ("", NotExact::NotANumber),
            ("-", NotExact::NotANumber),
            (".", NotExact::NotANumber),
            ("1.2.3", NotExact::NotANumber),
            ("1 ", NotExact::NotANumber),
            ("1e", NotExact::NotANumber),
            ("NaN", NotExact::NotANumber),
            ("0x10", NotExact::NotANumber),
            ("\u{661}", NotExact::NotANumber),
            ("9223372036854775808", NotExact::TooLong),
            ("99999999999999999999999999", NotExact::TooLong),
        ] {
            assert_eq!(DecimalText::parse(given.as_bytes()), Err(why), "{given}");
        }
        let tiny = std::format!("0.{}1", "0".repeat(126));
        assert_eq!(DecimalText::parse(tiny.as_bytes()).unwrap().decimals, 127);
        let tinier = std::format!("0.{}1", "0".repeat(127));
        assert_eq!(DecimalText::parse(tinier.as_bytes()), Err(NotExact::TooLong));
    }

    #[test]
    fn a_scale_writes_all_texts_or_there_is_none() {
        let cases: [(&[&str], Option<Scale>); 7] = [
            (&[], Some(Scale::fixed(0))),
            (&["35", "1645"], Some(Scale::fixed(0))),
            (&["0.10", "1.50"], Some(Scale::fixed(2))),
            (&["0.1", "1.55", "7"], Some(Scale::trimmed(2))),
            (&["0.10", "1.5"], None),
            (&["0.0", "1"], None),
            (&["100", "0.5"], Some(Scale::trimmed(1))),
        ];
        for (texts, scale) in cases {
            let mut finder = ScaleFinder::new();
            let read: Vec<_> = texts.iter().map(|t| DecimalText::parse(t.as_bytes()).unwrap()).collect();
            read.iter().for_each(|t| finder.see(*t));
            assert_eq!(finder.scale(), scale, "{texts:?}");
            if let Some(scale) = scale {
                for (given, read) in texts.iter().zip(read) {
                    assert_eq!(text(scale, read.under(scale).unwrap()), **given);
                }
            }
        }
    }

    #[test]
    fn a_text_that_the_scale_does_not_write_has_no_mantissa_under_it() {
        let read = |t: &str| DecimalText::parse(t.as_bytes()).unwrap();
        assert_eq!(read("1.50").under(Scale::trimmed(2)), None);
        assert_eq!(read("1.5").under(Scale::fixed(2)), None);
        assert_eq!(read("1.55").under(Scale::trimmed(1)), None);
        assert_eq!(read("1.5").under(Scale::trimmed(2)), Some(150));
        assert_eq!(read("9223372036854775807").under(Scale::trimmed(1)), None, "does not fit");
        assert_eq!(read("0").under(Scale::trimmed(100)), Some(0));
    }

    #[test]
    fn values_compare_across_scales() {
        let decimal = |mantissa, exp| Scale { exp, trimmed: false }.decimal(mantissa);
        assert_eq!(decimal(15, -1).value_cmp(decimal(150, -2)), Ordering::Equal);
        assert_eq!(decimal(15, -1).value_cmp(decimal(149, -2)), Ordering::Greater);
        assert_eq!(decimal(-15, -1).value_cmp(decimal(-149, -2)), Ordering::Less);
        assert_eq!(decimal(1, 127).value_cmp(decimal(i64::MAX, -128)), Ordering::Greater);
        assert_eq!(decimal(-1, 127).value_cmp(decimal(i64::MIN, -128)), Ordering::Less);
        assert_eq!(decimal(i64::MAX, -128).value_cmp(decimal(1, 127)), Ordering::Less);
        assert_eq!(decimal(0, 5).value_cmp(decimal(-1, -5)), Ordering::Greater);
        assert_eq!(decimal(0, 5).value_cmp(decimal(0, -5)), Ordering::Equal);
        assert_eq!(decimal(150, -2).mantissa_at(-1), Some(15));
        assert_eq!(decimal(155, -2).mantissa_at(-1), None);
        assert_eq!(decimal(i64::MAX, 0).mantissa_at(-1), None);
        assert_eq!(decimal(0, 127).mantissa_at(-128), Some(0));
    }
}
