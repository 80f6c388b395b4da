//! The fields of one object of a message: found by their names, in whatever order they come, and read as what their kind
//! of message has there.
//!
//! A venue's module lists the names that any of its kinds cares for; all others are passed over. What is wrong with a
//! field is told only once the kind is known, because the same name is something else in another kind.

use chronicle_protocol::{DecimalText, NotExact, OpaqueReason, Scale, ScaleFinder};

use crate::flaw::Flaw;
use crate::json::{NotJson, Number, Scan, Text, whole_decimal};
use crate::levels::{Bad, Columns, Form, Store};
use crate::times;
use crate::venue::Span;

/// What a record holds.
pub(crate) const SYMBOL_LEN_MAX: usize = 255;

/// Why a message of a known kind becomes no record of that kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unfit {
    Flaw(Flaw),
    Verbatim(OpaqueReason),
}

impl From<Flaw> for Unfit {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

pub(crate) const NOT_REPRESENTABLE: Unfit = Unfit::Verbatim(OpaqueReason::NotRepresentable);

/// The value of a field, as far as any kind of message cares.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Value<'a> {
    #[default]
    Absent,
    Number(Number),
    Text(Text<'a>),
    Bool(bool),
    /// An array: levels in the scratch, or why not.
    Levels(Result<Span, Bad>),
    /// Null or an object.
    Other,
}

/// The fields of one object, in the order of the venue's names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Value<'a>; N],
    /// There are fields.
    pub(crate) any: bool,
    /// The first field met twice.
    pub(crate) twice: Option<&'static str>,
}

impl<'a, const N: usize> Fields<'a, N> {
    pub(crate) fn new(names: &'static [&'static str; N]) -> Self {
        Self { names, values: [Value::Absent; N], any: false, twice: None }
    }

    /// Takes the value that `scan` stands in front of. A list is read as levels, written in this form.
    #[inline]
    pub(crate) fn take<F: Form>(
        &mut self,
        slot: usize,
        scan: &mut Scan<'a>,
        form: &mut F,
        columns: &mut Columns,
        store: &mut Store<'_>,
    ) -> Result<(), NotJson> {
        if !matches!(self.values[slot], Value::Absent) {
            self.twice = self.twice.or(Some(self.names[slot]));
            return scan.skip();
        }
        self.any = true;
        // Each is stored where it is made: made first and moved then, its few bytes wait for each other on the way.
        match scan.begins() {
            b'"' => self.values[slot] = Value::Text(scan.string()?),
            b'-' | b'0'..=b'9' => self.values[slot] = Value::Number(scan.number()?),
            b'[' => {
                let start = scan.at();
                let side = columns.side(form, scan, store);
                if side.is_err() {
                    scan.go_back_to(start);
                    scan.skip()?;
                }
                self.values[slot] = Value::Levels(side);
            }
            b'{' => {
                scan.skip()?;
                self.values[slot] = Value::Other;
            }
            _ => self.values[slot] = scan.word()?.map_or(Value::Other, Value::Bool),
        }
        Ok(())
    }

    pub(crate) fn value(&self, slot: usize) -> Value<'a> {
        self.values[slot]
    }

    pub(crate) fn has(&self, slot: usize) -> bool {
        !matches!(self.values[slot], Value::Absent)
    }

    /// All that a kind of message must have.
    ///
    /// Damage first: what a message lacks makes it malformed, however odd the rest of it is.
    pub(crate) fn require(&self, slots: &[usize]) -> Result<(), Flaw> {
        if let Some(field) = self.twice {
            return Err(Flaw::Twice { field });
        }
        match slots.iter().find(|slot| !self.has(**slot)) {
            Some(missing) => Err(Flaw::Lacks { field: self.names[*missing] }),
            None => Ok(()),
        }
    }

    fn wrong<T>(&self, slot: usize, expected: &'static str) -> Result<T, Flaw> {
        let field = self.names[slot];
        Err(if self.has(slot) { Flaw::WrongType { field, expected } } else { Flaw::Lacks { field } })
    }

    pub(crate) fn absurd(&self, slot: usize) -> Flaw {
        Flaw::Absurd { field: self.names[slot] }
    }

    pub(crate) fn natural(&self, slot: usize) -> Result<u64, Flaw> {
        match self.values[slot] {
            Value::Number(Number::Natural(value)) => Ok(value),
            Value::Number(_) => Err(self.absurd(slot)),
            _ => self.wrong(slot, "a number"),
        }
    }

    /// A number between quotes.
    pub(crate) fn natural_text(&self, slot: usize) -> Result<u64, Flaw> {
        let text = self.text(slot)?;
        let is_number = !text.raw.is_empty() && text.raw.bytes().all(|b| b.is_ascii_digit());
        match text.raw.parse() {
            Ok(value) if is_number => Ok(value),
            _ => Err(self.absurd(slot)),
        }
    }

    /// The value, or none when the field is absent.
    pub(crate) fn optional<T, E>(
        &self,
        slot: usize,
        get: impl Fn(&Self, usize) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        if self.has(slot) { get(self, slot).map(Some) } else { Ok(None) }
    }

    pub(crate) fn flag(&self, slot: usize) -> Result<bool, Flaw> {
        match self.values[slot] {
            Value::Bool(value) => Ok(value),
            _ => self.wrong(slot, "true or false"),
        }
    }

    pub(crate) fn text(&self, slot: usize) -> Result<Text<'a>, Flaw> {
        match self.values[slot] {
            Value::Text(text) => Ok(text),
            _ => self.wrong(slot, "a text"),
        }
    }

    /// The text, if it is one that means what it says; for telling kinds apart.
    pub(crate) fn word(&self, slot: usize) -> Option<&'a str> {
        match self.values[slot] {
            Value::Text(Text { raw, escaped: false }) => Some(raw),
            _ => None,
        }
    }

    pub(crate) fn symbol(&self, slot: usize) -> Result<&'a str, Unfit> {
        let symbol = self.text(slot)?;
        match symbol.raw.len() {
            0 => Err(Flaw::Lacks { field: self.names[slot] }.into()),
            1..=SYMBOL_LEN_MAX if !symbol.escaped => Ok(symbol.raw),
            _ => Err(NOT_REPRESENTABLE),
        }
    }

    /// A number between quotes, as it is written.
    pub(crate) fn decimal(&self, slot: usize) -> Result<DecimalText, Unfit> {
        let text = self.text(slot)?;
        if text.escaped {
            return Err(NOT_REPRESENTABLE);
        }
        if let Some((mantissa, decimals)) = whole_decimal(text.raw.as_bytes()) {
            return Ok(DecimalText { mantissa, decimals, ends_in_zero: decimals > 0 && text.raw.ends_with('0') });
        }
        DecimalText::parse(text.raw.as_bytes()).map_err(|why| match why {
            NotExact::NotANumber => self.absurd(slot).into(),
            NotExact::Spelling | NotExact::TooLong => NOT_REPRESENTABLE,
        })
    }

    /// A time in ns from a number of ms; 0 when the venue sent none.
    pub(crate) fn ms(&self, slot: usize) -> Result<u64, Unfit> {
        self.optional(slot, Self::natural)?.map_or(Ok(0), of_ms)
    }

    /// A time in ns from a number of ms between quotes.
    pub(crate) fn ms_text(&self, slot: usize) -> Result<u64, Unfit> {
        of_ms(self.natural_text(slot)?)
    }

    /// A time in ns from RFC 3339.
    pub(crate) fn rfc3339(&self, slot: usize) -> Result<u64, Unfit> {
        match times::of_rfc3339(self.text(slot)?.raw) {
            Some(0) => Err(NOT_REPRESENTABLE),
            Some(ns) => Ok(ns),
            None => Err(self.absurd(slot).into()),
        }
    }

    /// One side.
    pub(crate) fn side(&self, slot: usize) -> Result<Span, Unfit> {
        match self.values[slot] {
            Value::Levels(Ok(side)) => Ok(side),
            Value::Levels(Err(Bad::Unfit)) => Err(NOT_REPRESENTABLE),
            Value::Levels(Err(Bad::Absurd)) => Err(self.absurd(slot).into()),
            Value::Levels(Err(Bad::Shape)) => {
                Err(Flaw::WrongType { field: self.names[slot], expected: "a list of [price, quantity] texts" }.into())
            }
            _ => Ok(self.wrong(slot, "a list of levels")?),
        }
    }

    /// Both sides; of two that are wrong, the one that is damage counts.
    pub(crate) fn sides(&self, [bids, asks]: [usize; 2]) -> Result<[Span; 2], Unfit> {
        match (self.side(bids), self.side(asks)) {
            (Ok(bids), Ok(asks)) => Ok([bids, asks]),
            (Err(Unfit::Flaw(flaw)), _) | (_, Err(Unfit::Flaw(flaw))) => Err(flaw.into()),
            (Err(why), _) | (_, Err(why)) => Err(why),
        }
    }
}

/// A time in ns from ms.
#[inline]
pub(crate) fn of_ms(ms: u64) -> Result<u64, Unfit> {
    match ms {
        // A record says "none" with 0, so it cannot say 1970.
        0 => Err(NOT_REPRESENTABLE),
        ms => ms.checked_mul(times::NS_PER_MS).ok_or(NOT_REPRESENTABLE),
    }
}

/// The one scale that writes two texts again, and their mantissas under it.
pub(crate) fn scaled(texts: [DecimalText; 2]) -> Result<(Scale, [i64; 2]), Unfit> {
    let mut finder = ScaleFinder::new();
    texts.iter().for_each(|text| finder.see(*text));
    let scale = finder.scale().ok_or(NOT_REPRESENTABLE)?;
    match texts.map(|text| text.under(scale)) {
        [Some(one), Some(other)] => Ok((scale, [one, other])),
        _ => Err(NOT_REPRESENTABLE),
    }
}
