//! A scanner over one line of JSON: it checks the whole grammar (RFC 8259) and copies nothing.
//!
//! Use it where a venue's message is read field by field in the order in which it comes. It never builds a tree, never
//! unescapes (a text with an escape is marked, see [`Text`]), never turns a number into a float, never recurses and never
//! allocates. It does not check UTF-8: its input is a `str`.
//!
//! ```text
//! walk an object:  open(b'{')  then while key() gives a key: look at what begins(), read or skip() the value
//! ```
//!
//! Why by hand: it reads the recordings several times as fast as a general parser;
//! the tests hold it to the verdict of serde_json on what is JSON and what is not.

/// Nesting deeper than this is refused; the venues' own messages nest five deep.
const DEPTH_MAX: u32 = 128;

/// Where a text stops being JSON, and what would have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson {
    /// Byte in the scanned text.
    pub(crate) at: usize,
    /// What was expected there.
    pub(crate) expected: &'static str,
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    /// The bytes between the quotes, escapes and all.
    pub(crate) raw: &'a str,
    /// There is a backslash in it, so `raw` is not what it means.
    pub(crate) escaped: bool,
}

/// A number as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// Digits only, and they fit.
    Natural(u64),
    /// The same behind a minus.
    Negative(u64),
    /// With a fraction or an exponent, or too large.
    Other,
}

#[derive(Clone, Debug)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// From a byte of a text that was scanned before.
    pub(crate) fn from(text: &'a str, at: usize) -> Self {
        debug_assert!(at <= text.len(), "a byte of the text");
        Self { text, at }
    }

    /// The byte that comes next.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes to a byte seen before.
    pub(crate) fn go_back_to(&mut self, at: usize) {
        debug_assert!(at <= self.at, "only what was scanned can be scanned again");
        self.at = at;
    }

    pub(crate) fn flaw<T>(&self, expected: &'static str) -> Result<T, NotJson> {
        Err(NotJson { at: self.at, expected })
    }

    /// The next byte; 0, which no JSON has outside of strings and inside only escaped, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn blank(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// Takes `byte` if it is the very next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let is_it = self.peek() == byte;
        self.at += usize::from(is_it);
        is_it
    }

    /// The first byte of the next value, after blanks.
    #[inline]
    pub(crate) fn begins(&mut self) -> u8 {
        self.blank();
        self.peek()
    }

    /// Nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), NotJson> {
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { self.flaw("the end of the line") }
    }

    /// Steps into an object or an array; `begins` has just said that it is one.
    pub(crate) fn open(&mut self) {
        debug_assert!(matches!(self.peek(), b'{' | b'['));
        self.at += 1;
    }

    /// The next key of an object, with its colon; `None` at the object's end. `first` is true before the first key.
    #[inline(always)]
    pub(crate) fn key(&mut self, first: &mut bool) -> Result<Option<Text<'a>>, NotJson> {
        self.blank();
        if self.take(b'}') {
            return Ok(None);
        }
        if !core::mem::take(first) {
            if !self.take(b',') {
                return self.flaw("`,` or `}`");
            }
            self.blank();
        }
        if self.peek() != b'"' {
            return self.flaw("a key");
        }
        let key = self.string()?;
        self.blank();
        if !self.take(b':') {
            return self.flaw("`:`");
        }
        Ok(Some(key))
    }

    /// Whether an array has another element. `first` is true before the first.
    #[inline]
    pub(crate) fn element(&mut self, first: &mut bool) -> Result<bool, NotJson> {
        self.blank();
        if *first && self.take(b']') {
            return Ok(false);
        }
        if !core::mem::take(first) {
            if self.take(b']') {
                return Ok(false);
            }
            if !self.take(b',') {
                return self.flaw("`,` or `]`");
            }
            self.blank();
        }
        Ok(true)
    }

    /// A string; `begins` has just said so.
    // Out of line its result goes through memory in pieces of odd sizes, which costs as much as the string.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, NotJson> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return self.flaw("no bare control character in a string"),
                None => return self.flaw("`\"`"),
            }
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    #[cold]
    fn escape(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_ascii_hexdigit() {
                        return self.flaw("four hex digits");
                    }
                    self.at += 1;
                }
            }
            _ => return self.flaw("an escape"),
        }
        Ok(())
    }

    /// A number; `begins` has just shown a digit or a minus.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Result<Number, NotJson> {
        let negative = self.take(b'-');
        let start = self.at;
        let (value, digits) = digits(&self.text.as_bytes()[start..], 0);
        self.at += digits;
        // 19 digits always fit, 20 may.
        let value = if digits <= 19 { Some(value) } else { self.text[start..self.at].parse().ok() };
        if digits == 0 {
            return self.flaw("a digit");
        }
        if digits > 1 && self.text.as_bytes()[start] == b'0' {
            self.at = start + 1;
            return self.flaw("no digit after a leading zero");
        }
        let mut natural = true;
        if self.take(b'.') {
            natural = false;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            natural = false;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(match value {
            Some(value) if natural && negative => Number::Negative(value),
            Some(value) if natural => Number::Natural(value),
            _ => Number::Other,
        })
    }

    /// A number's text.
    pub(crate) fn number_text(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        self.number()?;
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        if !self.peek().is_ascii_digit() {
            return self.flaw("a digit");
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    /// `true`, `false` or `null`.
    pub(crate) fn word(&mut self) -> Result<Option<bool>, NotJson> {
        let rest = &self.text.as_bytes()[self.at..];
        for (word, value) in [("true", Some(true)), ("false", Some(false)), ("null", None)] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.flaw("a value")
    }

    /// Checks one value of any kind and goes behind it.
    pub(crate) fn skip(&mut self) -> Result<(), NotJson> {
        // One bit per open level, the innermost lowest: 1 = object, 0 = array.
        let mut open: u128 = 0;
        let mut depth = 0;
        loop {
            // A value.
            let mut first = true;
            match self.begins() {
                kind @ (b'{' | b'[') => {
                    if depth == DEPTH_MAX {
                        return self.flaw("less nesting");
                    }
                    self.at += 1;
                    open = open << 1 | u128::from(kind == b'{');
                    depth += 1;
                }
                b'"' => {
                    self.string()?;
                    first = false;
                }
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                    first = false;
                }
                _ => {
                    self.word()?;
                    first = false;
                }
            }
            // Out of all that end here, up to where another value must follow.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let another = if open & 1 == 1 { self.key(&mut first)?.is_some() } else { self.element(&mut first)? };
                if another {
                    break;
                }
                open >>= 1;
                depth -= 1;
                first = false;
            }
        }
    }

    /// A decimal between quotes, if it is written in the way in which nearly all are: digits, perhaps a point and
    /// digits, at most 18 in all, no needless leading zero. Gives the mantissa and the decimals. `None` says nothing
    /// about the text; go back and look closer.
    #[inline]
    pub(crate) fn quick_decimal(&mut self) -> Option<(i64, u8)> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let (b'"', bytes) = bytes.split_first()? else { return None };
        let (mantissa, decimals, len) = plain_decimal(bytes)?;
        if bytes.get(len) != Some(&b'"') {
            return None;
        }
        self.at += len + 2;
        Some((mantissa, decimals))
    }

    /// Goes behind these bytes if they are the very next. Like all that is quick here, `None` says nothing about the text.
    #[inline]
    pub(crate) fn literal<const N: usize>(&mut self, expected: &[u8; N]) -> Option<()> {
        let next = self.text.as_bytes().get(self.at..)?.first_chunk::<N>()?;
        (next == expected).then(|| self.at += N)
    }

    /// A string without an escape.
    #[inline]
    pub(crate) fn quick_text(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let (b'"', bytes) = bytes.split_first()? else { return None };
        let len = plain(bytes);
        if bytes.get(len) != Some(&b'"') {
            return None;
        }
        let start = self.at + 1;
        self.at = start + len + 1;
        self.text.get(start..start + len)
    }

    /// Digits that fit a number, without a needless leading zero. What follows them is for the caller to know.
    #[inline]
    pub(crate) fn quick_natural(&mut self) -> Option<u64> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let (value, len) = digits(bytes, 0);
        if !(1..=19).contains(&len) || (len > 1 && bytes[0] == b'0') {
            return None;
        }
        self.at += len;
        Some(value)
    }

    /// `true` or `false`.
    #[inline]
    pub(crate) fn quick_flag(&mut self) -> Option<bool> {
        match self.literal(b"true") {
            Some(()) => Some(true),
            None => self.literal(b"false").map(|()| false),
        }
    }

    /// The same as [`quick_decimal`](Self::quick_decimal) without quotes; what follows it must end a value.
    #[inline]
    pub(crate) fn quick_number(&mut self) -> Option<(i64, u8)> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let (mantissa, decimals, len) = plain_decimal(bytes)?;
        if !matches!(bytes.get(len), Some(b',' | b'}' | b']')) {
            return None;
        }
        self.at += len;
        Some((mantissa, decimals))
    }
}

/// How many bytes at the front of a string's rest are neither its end, nor an escape, nor a control character.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The high bit of each byte that is less than `n`; above the lowest such byte a borrow may set one too many.
    let less = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word & (ONES << 7);
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let ends =
            less(word, 0x20) | less(word ^ (ONES * u64::from(b'"')), 1) | less(word ^ (ONES * u64::from(b'\\')), 1);
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len())
}

/// A whole text that is a decimal in the usual writing; see [`Scan::quick_decimal`].
#[inline]
pub(crate) fn whole_decimal(text: &[u8]) -> Option<(i64, u8)> {
    let (mantissa, decimals, len) = plain_decimal(text)?;
    (len == text.len()).then_some((mantissa, decimals))
}

/// Digits, perhaps a point and digits, at most 18 in all, no needless leading zero: mantissa, decimals and length.
#[inline]
fn plain_decimal(bytes: &[u8]) -> Option<(i64, u8, usize)> {
    let (mut mantissa, whole) = digits(bytes, 0);
    let (mut len, mut decimals) = (whole, 0);
    if bytes.get(len) == Some(&b'.') {
        (mantissa, decimals) = digits(&bytes[len + 1..], mantissa);
        len += 1 + decimals;
        if decimals == 0 {
            return None;
        }
    }
    if whole == 0 || (whole > 1 && bytes[0] == b'0') || whole + decimals > 18 {
        return None;
    }
    // 18 digits fit both.
    Some((mantissa as i64, decimals as u8, len))
}

/// Appends the digits at the front of `bytes` to `value`, and gives their number. Wraps beyond 19 digits.
///
/// Eight at a time (the usual arithmetic within a word) was tried and was slower: most numbers are short.
#[inline]
fn digits(bytes: &[u8], mut value: u64) -> (u64, usize) {
    let mut len = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(len) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        len += 1;
    }
    (value, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(text: &str) -> Result<(), NotJson> {
        let mut scan = Scan::new(text);
        scan.skip()?;
        scan.end()
    }

    /// A second opinion, by a parser that shares nothing with this one.
    fn agrees(text: &str) -> bool {
        let ours = is_json(text);
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(text);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{text:?}: {ours:?}, {theirs:?}");
        ours.is_ok()
    }

    #[test]
    fn the_grammar_is_json() {
        let yes = [
            "{}",
            "[]",
            " [ ] ",
            "0",
            "-0",
            "-0.5e+10",
            "1E5",
            "1e-0",
            "\"\"",
            "true",
            "null",
            "\t\r\n{ }\n",
            r#"{"a":1,"a":[{},[],"x",null]}"#,
            r#""\"\\\/\b\f\n\r\t\u00e9\uD800""#,
            "\"\u{7f}\u{80}\u{10ffff}\"",
            "[1,2,3]",
            "[[[[[[]]]]]]",
            r#"{"":{"":{}}}"#,
            "123456789012345678901234567890",
            "1.0000000000000000001",
        ];
        for text in yes {
            assert!(agrees(text), "{text}");
        }
        let no = [
            "",
            " ",
            "{",
            "[",
            "}",
            "{]",
            "[}",
            "[1,]",
            "{,}",
            "[,1]",
            "[1 2]",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            "{a:1}",
            "{1:1}",
            "'a'",
            "01",
            "-",
            "-01",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "tru",
            "truee",
            "nul",
            "True",
            "\"",
            "\"a",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u12""#,
            "\"\n\"",
            "\"\u{1}\"",
            "\"\0\"",
            "{} {}",
            "[]]",
            "1 2",
            "\u{feff}{}",
            "\0",
            "{}\0",
            "[1\0]",
            "// x",
            r#"{"a":1}}"#,
            "\u{a0}1",
        ];
        for text in no {
            assert!(!agrees(text), "{text}");
        }
    }

    #[test]
    fn a_string_ends_where_it_ends_wherever_that_is() {
        for len in 0..40 {
            for end in ['"', '\\', '\u{1f}', '\0', '!', ' ', '\u{7f}', '[', ']', '#', '\u{e9}'] {
                for at in 0..=len {
                    let text: String = (0..len).map(|i| if i == at { end } else { 'x' }).collect();
                    let slow = |b: &u8| matches!(b, b'"' | b'\\' | ..0x20);
                    let expected = text.as_bytes().iter().position(slow).unwrap_or(text.len());
                    assert_eq!(plain(text.as_bytes()), expected, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(is_json(&nested(128)), Ok(()));
        assert_eq!(is_json(&nested(129)), Err(NotJson { at: 128, expected: "less nesting" }));
        assert_eq!(is_json(&"[".repeat(1 << 20)), Err(NotJson { at: 128, expected: "less nesting" }));
        assert_eq!(is_json(&r#"{"a":"#.repeat(1 << 20)), Err(NotJson { at: 640, expected: "less nesting" }));
    }

    #[test]
    fn numbers_are_natural_or_other() {
        let read = |text| {
            let mut scan = Scan::new(text);
            scan.number().map(|number| (number, scan.at()))
        };
        assert_eq!(read("0,"), Ok((Number::Natural(0), 1)));
        assert_eq!(read("18446744073709551615"), Ok((Number::Natural(u64::MAX), 20)));
        assert_eq!(read("18446744073709551616"), Ok((Number::Other, 20)));
        assert_eq!(read("-1"), Ok((Number::Negative(1), 2)));
        assert_eq!(read("-18446744073709551616"), Ok((Number::Other, 21)));
        assert_eq!(read("1.0"), Ok((Number::Other, 3)));
        assert_eq!(read("1e2"), Ok((Number::Other, 3)));
        assert_eq!(read("012"), Err(NotJson { at: 1, expected: "no digit after a leading zero" }));
    }

    #[test]
    fn quick_decimals_say_what_careful_ones_say() {
        use chronicle_protocol::DecimalText;

        for text in [
            "0",
            "35",
            "0.0",
            "61837.63000000",
            "123456789012345678",
            "0.12345678901234567",
            "999999999999999999",
            "1234567890123456789",
            "00",
            "01.5",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e5",
            "",
            "a",
            "1a",
            "1.5a",
            "1.2.3",
            "-0",
        ] {
            let quoted = format!("\"{text}\",");
            let mut scan = Scan::new(&quoted);
            match scan.quick_decimal() {
                Some((mantissa, decimals)) => {
                    let careful = DecimalText::parse(text.as_bytes()).unwrap();
                    assert_eq!((mantissa, decimals), (careful.mantissa, careful.decimals), "{text}");
                    assert_eq!(scan.at(), text.len() + 2, "{text}");
                }
                None => assert!(
                    DecimalText::parse(text.as_bytes()).is_err() || text.starts_with('-') || text.len() > 18,
                    "{text} is usual enough"
                ),
            }
        }
        for unquoted in ["1", "1\"", "\"1", "", "[1]"] {
            assert_eq!(Scan::new(unquoted).quick_decimal(), None, "{unquoted}");
        }
    }

    #[test]
    fn mutated_json_is_judged_alike() {
        let seed = 0x5eed_0002_u64;
        println!("seed {seed:#x}");
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let seeds = [
            r#"{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"pu":-5,"b":[["58710.20","0.014"],["1","2"]],"a":[]}}"#,
            r#"{"lastUpdateId":1e5,"bids":[["\u00e9\n","x"]],"asks":[[],{}],"ok":[true,false,null]}"#,
            r#"[0.5, -0, {"a" : [ [ ] , { } ] } , "\\\"" ]"#,
        ];
        let bytes = br#"{}[]",:\0123456789.eE+-tfnu ab"#;
        let (mut good, mut bad) = (0, 0);
        for _ in 0..30_000 {
            let mut text = seeds[random(seeds.len())].to_owned();
            for _ in 0..=random(3) {
                let at = random(text.len() + 1);
                match random(3) {
                    0 => text.insert(at, char::from(bytes[random(bytes.len())])),
                    1 if at < text.len() => drop(text.remove(at)),
                    _ => text.truncate(at.max(1)),
                }
                if text.is_empty() {
                    break;
                }
            }
            if agrees(&text) { good += 1 } else { bad += 1 }
        }
        assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad");
    }
}
