//! How many digits behind the point a column has.
//!
//! A venue's records say for themselves how many decimals they have, and one that is finer may come at any time. A stream
//! of batches has one schema, and a number must not be rounded: so the finest is looked for before the first batch.

use std::ops::RangeInclusive;

use chronicle_etl::records::each_record;
use chronicle_platform::Platform;
use chronicle_protocol::{Decimal, Record, Scale};
use chronicle_storage::root::{Date, Name, Root, Stream};

use crate::error::{Misfit, Result};

/// Digits of a `Decimal128`.
pub(crate) const PRECISION: u8 = 38;

/// Digits behind the point in the columns of prices and of quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Scales {
    /// Of prices.
    pub price: u8,
    /// Of quantities.
    pub qty: u8,
}

impl Scales {
    /// The finest that records of these days use. It reads them all once.
    ///
    /// # Errors
    ///
    /// [`Error::Read`](crate::Error::Read).
    pub fn finest<P: Platform>(
        platform: &P,
        root: &Root,
        venue: &Name,
        symbol: &Name,
        stream: Stream,
        dates: &RangeInclusive<Date>,
    ) -> Result<Self> {
        let mut scales = Self::default();
        each_record(platform, root, venue, symbol, stream, dates, |stored| -> Result<()> {
            // The scales of a record without numbers are of nothing.
            if !matches!(stored.record, Record::Gap(_) | Record::Opaque(_) | Record::Source(_)) {
                let head = stored.record.head();
                scales.price = scales.price.max(decimals(head.price));
                scales.qty = scales.qty.max(decimals(head.qty));
            }
            Ok(())
        })?;
        Ok(scales)
    }
}

fn decimals(scale: Scale) -> u8 {
    // A record that has more than a column can hold is refused when its numbers are met.
    u8::try_from(-i16::from(scale.exp)).unwrap_or(0).min(PRECISION)
}

/// The number as its column has it.
pub(crate) fn at_scale(number: Decimal, scale: u8) -> Result<i128, Misfit> {
    let misfit = || Misfit::Digits { number: number.to_string(), scale };
    if number.mantissa == 0 {
        return Ok(0);
    }
    let shift = i32::from(number.scale.exp) + i32::from(scale);
    let mantissa = i128::from(number.mantissa);
    let factor = 10_i128.checked_pow(shift.unsigned_abs()).ok_or_else(misfit)?;
    let scaled = if shift >= 0 {
        mantissa.checked_mul(factor).ok_or_else(misfit)?
    } else if mantissa % factor == 0 {
        mantissa / factor
    } else {
        return Err(misfit());
    };
    if scaled.unsigned_abs() < 10_u128.pow(u32::from(PRECISION)) { Ok(scaled) } else { Err(misfit()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(mantissa: i64, exp: i8) -> Decimal {
        Scale { exp, trimmed: false }.decimal(mantissa)
    }

    /// A number in a column is the venue's number, or the export says that it is not: the two ways in which a rounding
    /// would creep in are a coarser column and a number beyond 38 digits.
    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(at_scale(number(6_180_030, -2), 2), Ok(6_180_030));
        assert_eq!(at_scale(number(6_180_030, -2), 8), Ok(6_180_030_000_000));
        assert_eq!(at_scale(number(-5, -1), 1), Ok(-5));
        assert_eq!(at_scale(number(120, -2), 1), Ok(12), "a needless zero goes");
        assert!(at_scale(number(125, -2), 1).is_err());
        assert_eq!(at_scale(number(12, 3), 0), Ok(12_000));
        assert_eq!(at_scale(number(i64::MAX, 0), 19), Ok(i128::from(i64::MAX) * 10_i128.pow(19)));
        assert!(at_scale(number(i64::MAX, 0), 20).is_err(), "39 digits");
        assert!(at_scale(number(1, 127), 0).is_err());
        assert!(at_scale(number(1, -128), 38).is_err());
        assert_eq!(at_scale(number(0, 127), 38), Ok(0));
    }
}
