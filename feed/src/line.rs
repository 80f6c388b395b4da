//! The lines of a recording: when a message came, and which text it is. Two layouts, told by each line itself.
//!
//! ```text
//! <ns since 1970> <json>                          a message
//!
//! <s since 1970, up to 9 decimals>: <json>        a message                          cryptofeed's captures
//! <url> <-> <s>                                   the recorder connected
//! <url> <- <s>: <json>                            the recorder said something
//! <url> -> <s>: <json>                            the answer to a request; its symbol is in the url
//! ```
//!
//! A time is exact: seconds are never a float here. What this module never does: it does not look into the JSON.

use crate::flaw::Flaw;
use crate::times::NS_PER_S;

/// One line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The venue said something.
    Message {
        received_ns: u64,
        text: &'a str,
        /// Whose it is, where the request said so; else empty.
        symbol: &'a str,
        /// Laid out as cryptofeed does.
        captured: bool,
    },
    /// The recorder's own line; nothing that the venue said.
    Own(Own),
}

/// What the recorder noted of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// A new connection: what is subscribed on it begins anew.
    Connected,
    /// A message to the venue.
    Sent,
}

impl Own {
    /// For counting; no venue's word has parentheses.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Connected => "(connected)",
            Self::Sent => "(sent)",
        }
    }
}

impl<'a> Line<'a> {
    /// Takes a line apart.
    #[inline]
    pub(crate) fn read(line: &'a str) -> Result<Self, Flaw> {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Self::with_url(line);
        }
        let (time, rest) = line.split_at(digits);
        if let Some(text) = rest.strip_prefix(' ') {
            let received_ns = time.parse().map_err(|_| Flaw::Absurd { field: "receive time" })?;
            return Ok(Self::Message { received_ns, text, symbol: "", captured: false });
        }
        let (received_ns, text) = seconds(line)?;
        Ok(Self::Message { received_ns, text, symbol: "", captured: true })
    }

    #[cold]
    fn with_url(line: &'a str) -> Result<Self, Flaw> {
        if line.trim_ascii().is_empty() {
            return Err(Flaw::Empty);
        }
        let is_url = ["wss://", "ws://", "https://", "http://"].iter().any(|scheme| line.starts_with(scheme));
        let (url, rest) = line.split_once(' ').filter(|_| is_url).ok_or(Flaw::NoTime)?;
        let (arrow, rest) = rest.split_once(' ').ok_or(Flaw::NoTime)?;
        match arrow {
            "<->" => time_ns(rest).map(|_| Self::Own(Own::Connected)),
            "<-" => seconds(rest).map(|_| Self::Own(Own::Sent)),
            "->" => {
                let (received_ns, text) = seconds(rest)?;
                Ok(Self::Message { received_ns, text, symbol: symbol(url), captured: true })
            }
            _ => Err(Flaw::NoTime),
        }
    }
}

/// `<s>: <text>`.
fn seconds(line: &str) -> Result<(u64, &str), Flaw> {
    let (time, text) = line.split_once(": ").ok_or(Flaw::NoTime)?;
    Ok((time_ns(time)?, text))
}

/// Decimal seconds as nanoseconds.
fn time_ns(seconds: &str) -> Result<u64, Flaw> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(Flaw::NoTime);
    }
    let absurd = Flaw::Absurd { field: "receive time" };
    // A ninth of a nanosecond is nobody's clock.
    let scale = u32::try_from(fraction.len()).ok().and_then(|len| 9_u32.checked_sub(len)).ok_or(absurd)?;
    let whole: u64 = whole.parse().map_err(|_| absurd)?;
    let fraction: u64 = fraction.parse().map_err(|_| absurd)?;
    whole.checked_mul(NS_PER_S).and_then(|ns| ns.checked_add(fraction * 10_u64.pow(scale))).ok_or(absurd)
}

/// The value of `symbol` in a url's query; empty if there is none.
fn symbol(url: &str) -> &str {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').find_map(|pair| pair.strip_prefix("symbol=")).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(received_ns: u64, text: &'static str, symbol: &'static str) -> Result<Line<'static>, Flaw> {
        let captured = received_ns != 1_723_161_256_207_640_365;
        Ok(Line::Message { received_ns, text, symbol, captured })
    }

    #[test]
    fn the_layouts() {
        assert_eq!(Line::read("1723161256207640365 {}"), message(1_723_161_256_207_640_365, "{}", ""));
        assert_eq!(Line::read("1618678133.370507: []"), message(1_618_678_133_370_507_000, "[]", ""));
        assert_eq!(Line::read("1618678133: []"), message(1_618_678_133_000_000_000, "[]", ""));
        assert_eq!(Line::read("7.000000001: x"), message(7_000_000_001, "x", ""));
        assert_eq!(
            Line::read("https://api.binance.com/api/v3/depth?limit=1000&symbol=NKNUSDT -> 1633998512.320639: {}"),
            message(1_633_998_512_320_639_000, "{}", "NKNUSDT")
        );
        assert_eq!(Line::read("https://x/y -> 1.5: {}"), message(1_500_000_000, "{}", ""));
        assert_eq!(Line::read("wss://ws.kraken.com <-> 1618678132.3858151"), Ok(Line::Own(Own::Connected)));
        assert_eq!(Line::read("wss://ws.kraken.com <- 1618678132.8: {\"a\":1}"), Ok(Line::Own(Own::Sent)));
    }

    #[test]
    fn what_is_no_line() {
        let absurd = Flaw::Absurd { field: "receive time" };
        for (line, flaw) in [
            ("", Flaw::Empty),
            (" \t", Flaw::Empty),
            ("{}", Flaw::NoTime),
            (" 1 {}", Flaw::NoTime),
            ("1", Flaw::NoTime),
            ("1:{}", Flaw::NoTime),
            ("1.: {}", Flaw::NoTime),
            ("1.2.3: {}", Flaw::NoTime),
            ("1.-2: {}", Flaw::NoTime),
            ("wss://x", Flaw::NoTime),
            ("wss://x <->", Flaw::NoTime),
            ("wss://x <-> soon", Flaw::NoTime),
            ("wss://x <- 1.5", Flaw::NoTime),
            ("wss://x -- 1.5: {}", Flaw::NoTime),
            ("ftp://x <-> 1.5", Flaw::NoTime),
            ("18446744073709551616 {}", absurd),
            ("18446744074.0: {}", absurd),
            ("1.0000000001: {}", absurd),
        ] {
            assert_eq!(Line::read(line), Err(flaw), "{line:?}");
        }
    }
}
