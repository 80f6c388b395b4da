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
    /// Negative, with a fraction or an exponent, or too large.
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
    #[inline]
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
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, NotJson> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
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
    #[inline]
    pub(crate) fn number(&mut self) -> Result<Number, NotJson> {
        let negative = self.take(b'-');
        let start = self.at;
        let mut value = Some(0_u64);
        while let digit @ b'0'..=b'9' = self.peek() {
            value = value.and_then(|v| v.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            self.at += 1;
        }
        let digits = self.at - start;
        if digits == 0 {
            return self.flaw("a digit");
        }
        if digits > 1 && self.text.as_bytes()[start] == b'0' {
            self.at = start + 1;
            return self.flaw("no digit after a leading zero");
        }
        let mut natural = !negative;
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
            Some(value) if natural => Number::Natural(value),
            _ => Number::Other,
        })
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
        let mut mantissa = 0_u64;
        let mut len = 0;
        let mut digits = |mut len: usize| {
            while let Some(digit @ b'0'..=b'9') = bytes.get(len) {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
                len += 1;
            }
            len
        };
        len = digits(len);
        let whole = len;
        let mut decimals = 0;
        if bytes.get(len) == Some(&b'.') {
            len = digits(len + 1);
            decimals = len - whole - 1;
            if decimals == 0 {
                return None;
            }
        }
        if bytes.get(len) != Some(&b'"') || whole == 0 || (whole > 1 && bytes[0] == b'0') || whole + decimals > 18 {
            return None;
        }
        self.at += len + 2;
        // 18 digits fit both.
        Some((mantissa as i64, decimals as u8))
    }
}
