//! Lists of levels, read in one go whatever their decimals, into mantissas under one scale for each column.
//!
//! ```text
//! ["price","qty"]                     Pair     Binance, Coinbase's snapshots
//! ["price","qty",…]                   Longer   OKX: what follows is passed over
//! ["price","qty","seconds",…]         Timed    Kraken v1
//! {"price":1.5,"qty":2,…}             Named    Kraken v2: numbers are values, not texts
//! {"px":"price","sz":"qty","n":5,…}   PxSz     Hyperliquid: n orders stand there
//! ```
//!
//! While all prices of a message have the same decimals, and all quantities, a level is pushed as it is read. At the first
//! that differs the decimals of each are noted too, and [`Columns::settle`] brings them to one scale.

use chronicle_protocol::{DecimalText, Level, NotExact, OrderCount, Scale};

use crate::json::{Number, Scan};
use crate::times;
use crate::venue::Span;

/// Why a list is no list of levels, or none that a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bad {
    /// A number that no record holds or writes again.
    Unfit,
    /// A text that is no number.
    Absurd,
    /// Something other than levels.
    Shape,
}

/// A number of a level: its digits, and how many of them are behind the point.
pub(crate) type Digits = (i64, u8);

/// A level's price and quantity.
pub(crate) type LevelDigits = (Digits, Digits);

/// How a venue writes one level.
pub(crate) trait Form {
    /// Reads one level; `scan` stands at its first byte. After [`Bad::Unfit`] it stands behind the level.
    fn level(&mut self, scan: &mut Scan<'_>) -> Result<LevelDigits, Bad>;
}

/// `["price","qty"]`, and nothing else: more would say something that a record does not.
#[derive(Debug)]
pub(crate) struct Pair;

impl Form for Pair {
    #[inline]
    fn level(&mut self, scan: &mut Scan<'_>) -> Result<LevelDigits, Bad> {
        let (level, more) = pair(scan)?;
        if more {
            pass(scan)?;
            return Err(Bad::Unfit);
        }
        level
    }
}

/// `["price","qty",…]`.
#[derive(Debug)]
pub(crate) struct Longer;

impl Form for Longer {
    #[inline]
    fn level(&mut self, scan: &mut Scan<'_>) -> Result<LevelDigits, Bad> {
        let (level, more) = pair(scan)?;
        if more {
            pass(scan)?;
        }
        level
    }
}

/// `["price","qty","seconds",…]`; keeps the latest of the times.
#[derive(Debug, Default)]
pub(crate) struct Timed {
    pub(crate) last_ns: u64,
}

impl Form for Timed {
    #[inline]
    fn level(&mut self, scan: &mut Scan<'_>) -> Result<LevelDigits, Bad> {
        let (level, more) = pair(scan)?;
        if !more {
            return Err(Bad::Shape);
        }
        let (seconds, decimals) = decimal(scan)?;
        let ns = u64::try_from(seconds).ok().and_then(|seconds| times::of_seconds(seconds, decimals));
        self.last_ns = self.last_ns.max(ns.ok_or(Bad::Absurd)?);
        if !scan.take(b']') {
            comma(scan)?;
            pass(scan)?;
        }
        level
    }
}

/// `{"price":1.5,"qty":2,…}`.
#[derive(Debug)]
pub(crate) struct Named;

impl Form for Named {
    #[inline]
    fn level(&mut self, scan: &mut Scan<'_>) -> Result<LevelDigits, Bad> {
        object(scan, ["price", "qty"], value, |_, scan| scan.skip().map_err(|_| Bad::Shape))
    }
}

/// `{"px":"price","sz":"qty","n":5,…}`; keeps how many orders stand at each level.
#[derive(Debug)]
pub(crate) struct PxSz<'a> {
    pub(crate) counts: &'a mut Vec<OrderCount>,
}

impl Form for PxSz<'_> {
    #[inline]
    fn level(&mut self, scan: &mut Scan<'_>) -> Result<LevelDigits, Bad> {
        let before = self.counts.len();
        let level = object(scan, ["px", "sz"], decimal, |name, scan| {
            if name != "n" || !scan.begins().is_ascii_digit() {
                return scan.skip().map_err(|_| Bad::Shape);
            }
            let Ok(Number::Natural(count)) = scan.number() else { return Err(Bad::Absurd) };
            self.counts.push(OrderCount::new(u32::try_from(count).map_err(|_| Bad::Absurd)?));
            Ok(())
        })?;
        if self.counts.len() == before + 1 { Ok(level) } else { Err(Bad::Shape) }
    }
}

/// A level that is an object with these names of price and quantity; `other` reads the values of the other names.
#[inline]
fn object(
    scan: &mut Scan<'_>,
    names: [&str; 2],
    read: impl Fn(&mut Scan<'_>) -> Result<Digits, Bad>,
    mut other: impl FnMut(&str, &mut Scan<'_>) -> Result<(), Bad>,
) -> Result<LevelDigits, Bad> {
    if scan.begins() != b'{' {
        return Err(Bad::Shape);
    }
    scan.open();
    let (mut price, mut qty) = (None, None);
    let (mut first, mut unfit) = (true, false);
    while let Some(key) = scan.key(&mut first).map_err(|_| Bad::Shape)? {
        let column = match key.raw {
            name if name == names[0] => &mut price,
            name if name == names[1] => &mut qty,
            name => {
                other(name, scan)?;
                continue;
            }
        };
        match read(scan) {
            Ok(digits) if column.is_none() => *column = Some(digits),
            Ok(_) => return Err(Bad::Shape),
            Err(Bad::Unfit) => (unfit, *column) = (true, Some((0, 0))),
            Err(bad) => return Err(bad),
        }
    }
    match (price, qty) {
        (Some(_), Some(_)) if unfit => Err(Bad::Unfit),
        (Some(price), Some(qty)) => Ok((price, qty)),
        _ => Err(Bad::Shape),
    }
}

/// The first two values of a list, and whether there are more. The error is of a list that is a level otherwise.
pub(crate) type Opened = (Result<LevelDigits, Bad>, bool);

/// Reads the bracket, the first two values, and the list's end or the comma in front of what else is in it.
#[inline]
fn pair(scan: &mut Scan<'_>) -> Result<Opened, Bad> {
    if !scan.take(b'[') {
        if scan.begins() != b'[' {
            return Err(Bad::Shape);
        }
        scan.open();
    }
    rest(scan)
}

/// The same behind the bracket.
#[inline]
pub(crate) fn rest(scan: &mut Scan<'_>) -> Result<Opened, Bad> {
    let price = decimal(scan);
    if matches!(price, Err(Bad::Shape | Bad::Absurd)) {
        return Err(price.err().unwrap_or(Bad::Shape));
    }
    comma(scan)?;
    let qty = decimal(scan);
    if matches!(qty, Err(Bad::Shape | Bad::Absurd)) {
        return Err(qty.err().unwrap_or(Bad::Shape));
    }
    let level = price.and_then(|price| Ok((price, qty?)));
    if scan.take(b']') {
        return Ok((level, false));
    }
    if scan.begins() == b']' && scan.take(b']') {
        return Ok((level, false));
    }
    comma(scan)?;
    Ok((level, true))
}

/// Goes behind a comma.
#[inline]
pub(crate) fn comma(scan: &mut Scan<'_>) -> Result<(), Bad> {
    if scan.take(b',') {
        return Ok(());
    }
    if scan.begins() == b',' && scan.take(b',') { Ok(()) } else { Err(Bad::Shape) }
}

/// Goes behind the list that `scan` is in, in front of a value.
pub(crate) fn pass(scan: &mut Scan<'_>) -> Result<(), Bad> {
    let mut first = false;
    loop {
        scan.skip().map_err(|_| Bad::Shape)?;
        if !scan.element(&mut first).map_err(|_| Bad::Shape)? {
            return Ok(());
        }
    }
}

/// A decimal in quotes.
#[inline]
fn decimal(scan: &mut Scan<'_>) -> Result<Digits, Bad> {
    match scan.quick_decimal() {
        Some(digits) => Ok(digits),
        None => closer(scan, false),
    }
}

/// A decimal that is a number of JSON's, or in quotes after all.
#[inline]
fn value(scan: &mut Scan<'_>) -> Result<Digits, Bad> {
    match scan.quick_number() {
        Some(digits) => Ok(digits),
        None => closer(scan, true),
    }
}

/// The unusual: blanks, a minus, many digits, no number at all.
#[cold]
fn closer(scan: &mut Scan<'_>, bare: bool) -> Result<Digits, Bad> {
    let (text, escaped) = match scan.begins() {
        b'"' => {
            let text = scan.string().map_err(|_| Bad::Shape)?;
            (text.raw, text.escaped)
        }
        b'-' | b'0'..=b'9' if bare => (scan.number_text().map_err(|_| Bad::Shape)?, false),
        _ => return Err(Bad::Shape),
    };
    match DecimalText::parse(text.as_bytes()) {
        _ if escaped => Err(Bad::Unfit),
        Ok(decimal) => Ok((decimal.mantissa, decimal.decimals)),
        Err(NotExact::NotANumber) => Err(Bad::Absurd),
        Err(NotExact::Spelling | NotExact::TooLong) => Err(Bad::Unfit),
    }
}

/// What a scale must give again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Each number's very text.
    Texts,
    /// Its text if it can be, else its value: the venue proves nothing by texts, and a lost change would not show.
    TextsOrValues,
    /// Its value: it was no text. Written with the most decimals of all.
    Values,
}

/// Both columns of one record's levels while they are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Columns {
    /// Where in the scratch the record's levels begin.
    from: usize,
    /// The first level's decimals.
    first: Option<[u8; 2]>,
    /// Some level has others: those of all are noted.
    mixed: bool,
}

/// Where levels and, if they are mixed, their decimals go.
#[derive(Debug)]
pub(crate) struct Store<'a> {
    pub(crate) levels: &'a mut Vec<Level>,
    pub(crate) decimals: &'a mut Vec<[u8; 2]>,
}

impl Columns {
    /// A record whose levels begin here.
    pub(crate) fn begin(store: &mut Store<'_>) -> Self {
        store.decimals.clear();
        Self { from: store.levels.len(), ..Self::default() }
    }

    /// Adds a level.
    #[inline]
    pub(crate) fn push(&mut self, store: &mut Store<'_>, (price, qty): LevelDigits) {
        let decimals = [price.1, qty.1];
        if self.mixed || *self.first.get_or_insert(decimals) != decimals {
            self.note(store, decimals);
        }
        store.levels.push(Level::new(price.0, qty.0));
    }

    fn note(&mut self, store: &mut Store<'_>, decimals: [u8; 2]) {
        if !self.mixed {
            self.mixed = true;
            store.decimals.resize(store.levels.len() - self.from, self.first.unwrap_or(decimals));
        }
        store.decimals.push(decimals);
    }

    /// Reads one side, `[level,…]`; `scan` stands at its bracket. If it is none, `scan` stands anywhere behind that.
    #[inline]
    pub(crate) fn side<F: Form>(
        &mut self,
        form: &mut F,
        scan: &mut Scan<'_>,
        store: &mut Store<'_>,
    ) -> Result<Span, Bad> {
        let from = store.levels.len();
        scan.open();
        if scan.take(b']') {
            return Ok(Span::new(from, from));
        }
        let (mut first, mut unfit) = (true, false);
        if !scan.element(&mut first).map_err(|_| Bad::Shape)? {
            return Ok(Span::new(from, from));
        }
        loop {
            match form.level(scan) {
                Ok(level) => self.push(store, level),
                Err(Bad::Unfit) => unfit = true,
                Err(bad) => return Err(bad),
            }
            if !scan.take(b',') && !scan.element(&mut first).map_err(|_| Bad::Shape)? {
                break;
            }
        }
        if unfit { Err(Bad::Unfit) } else { Ok(Span::new(from, store.levels.len())) }
    }

    /// The scales of both columns; the mantissas are under them then. `None`: there are none.
    pub(crate) fn settle(self, store: &mut Store<'_>, writing: Writing) -> Option<(Scale, Scale)> {
        if !self.mixed {
            let [price, qty] = self.first.unwrap_or_default();
            return Some((Scale::fixed(price), Scale::fixed(qty)));
        }
        let levels = &mut store.levels[self.from..];
        let mut scales = [Scale::default(); 2];
        for (column, scale) in scales.iter_mut().enumerate() {
            let (mut least, mut most, mut zero) = (u8::MAX, 0, false);
            for (level, decimals) in levels.iter().zip(&*store.decimals) {
                let (mantissa, decimals) = (if column == 0 { level.price() } else { level.qty() }, decimals[column]);
                (least, most) = (least.min(decimals), most.max(decimals));
                zero |= decimals > 0 && mantissa % 10 == 0;
            }
            *scale = match writing {
                Writing::Values => Scale::fixed(most),
                _ if least == most => Scale::fixed(most),
                _ if !zero => Scale::trimmed(most),
                Writing::TextsOrValues => Scale::fixed(most),
                Writing::Texts => return None,
            };
        }
        for (level, decimals) in levels.iter_mut().zip(&*store.decimals) {
            for (column, of) in [&mut level.price, &mut level.qty].into_iter().enumerate() {
                let by = u32::from(scales[column].exp.unsigned_abs() - decimals[column]);
                if by > 0 && of.get() != 0 {
                    of.set(of.get().checked_mul(10_i64.checked_pow(by)?)?);
                }
            }
        }
        Some((scales[0], scales[1]))
    }
}
