//! What a recorded file is, told by its content: its format, and whose data it is where it says so.
//!
//! ```text
//! DBN…                                             dbn           the metadata's dataset: GLBX.MDP3 is glbx-mdp3
//! exchange,symbol,timestamp,local_timestamp,…      tardis        the column `exchange`
//! wss://host <-> <s>   https://host… -> <s>: …     cryptofeed    the host
//! <s>: <json>                                      cryptofeed    does not say
//! <ns> {"channel":"l2Book"|"trades",…              hyperliquid   hyperliquid
//! <ns> <json>                                      binance       does not say which of its markets
//! ```
//!
//! All of it may be packed by gzip or zstd. What this module never does: it never looks at a file's name, reads more than
//! [`LOOK_LEN`] bytes, or guesses a venue that the bytes do not name.

use core::fmt;
use core::str::FromStr;
use std::io::{self, Read};

use serde::Serialize;

use crate::databento;
use crate::line::Line;
use crate::tardis;
use crate::unpack::Unpacked;
use crate::venue::Venue;

/// So many unpacked bytes are looked at: a header with thousands of columns, or the metadata of thousands of symbols' start.
pub const LOOK_LEN: usize = 64 * 1024;

/// How a recorded file is laid out.
///
/// ```
/// use chronicle_feed::Format;
///
/// assert_eq!("tardis".parse(), Ok(Format::Tardis));
/// let unknown = "csv".parse::<Format>().unwrap_err().to_string();
/// assert_eq!(unknown, "format `csv` is not known: binance, cryptofeed, tardis, dbn, hyperliquid are");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Lines of `<ns> <message>`, as hftbacktest collects them.
    Binance,
    /// Lines as cryptofeed captures them, of any venue with a dialect here.
    Cryptofeed,
    /// Tardis' CSV files.
    Tardis,
    /// Databento's binary encoding.
    Dbn,
    /// Lines of `<ns> <message>` of Hyperliquid's.
    Hyperliquid,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Binance, Self::Cryptofeed, Self::Tardis, Self::Dbn, Self::Hyperliquid];

    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binance => "binance",
            Self::Cryptofeed => "cryptofeed",
            Self::Tardis => "tardis",
            Self::Dbn => "dbn",
            Self::Hyperliquid => "hyperliquid",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no format's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "format `{}` is not known: ", self.name.escape_debug())?;
        for (i, format) in Format::ALL.iter().enumerate() {
            write!(f, "{}{format}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(" are")
    }
}

impl core::error::Error for UnknownFormat {}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }
}

/// What the first bytes of a file say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Look {
    /// The format; none if the bytes are of none that is known.
    pub format: Option<Format>,
    /// Whose data it is, as the name of a venue in paths; none if the bytes do not say it.
    pub venue: Option<String>,
}

/// Looks at the beginning of a file. Of one whose format is known already, only that one's venue is looked for.
///
/// ```
/// use chronicle_feed::{Format, look};
///
/// let file = b"exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nbitmex,XBTUSD,1583020803145000,1583020803307160,a,buy,8531.5,2152\n";
/// let look = look(None, &file[..])?;
/// assert_eq!((look.format, look.venue.as_deref()), (Some(Format::Tardis), Some("bitmex")));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The reader's.
pub fn look<R: Read>(format: Option<Format>, file: R) -> io::Result<Look> {
    let mut unpacked = Unpacked::new(file);
    let mut bytes = vec![0; LOOK_LEN];
    let mut len = 0;
    while len < LOOK_LEN {
        match unpacked.read(&mut bytes[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(look_at(format, &bytes[..len]))
}

fn look_at(format: Option<Format>, bytes: &[u8]) -> Look {
    let format = format.or_else(|| format_of(bytes));
    let venue = match format {
        Some(Format::Tardis) => tardis::venue_of(bytes),
        Some(Format::Dbn) => databento::venue_of(bytes),
        Some(Format::Hyperliquid) => Some(Venue::Hyperliquid.name().to_owned()),
        Some(Format::Cryptofeed) => lines(bytes).find_map(host).and_then(venue_at).map(|venue| venue.name().to_owned()),
        Some(Format::Binance) | None => None,
    };
    Look { format, venue }
}

/// Whole lines, and what there is of the last one.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').map_while(|line| match core::str::from_utf8(line) {
        Ok(line) => Some(line),
        // A letter may be cut where the look ends.
        Err(error) => core::str::from_utf8(&line[..error.valid_up_to()]).ok(),
    })
}

fn format_of(bytes: &[u8]) -> Option<Format> {
    if databento::begins(bytes) {
        return Some(Format::Dbn);
    }
    if tardis::begins(bytes) {
        return Some(Format::Tardis);
    }
    // A recorder's first lines may be broken; the first that can be read decides.
    lines(bytes).find_map(|line| match Line::read(line) {
        Ok(Line::Own(_) | Line::Message { captured: true, .. }) => Some(Format::Cryptofeed),
        Ok(Line::Message { text, .. }) => {
            Some(if is_hyperliquid(text) { Format::Hyperliquid } else { Format::Binance })
        }
        Err(_) => None,
    })
}

fn is_hyperliquid(text: &str) -> bool {
    let text: String = text.chars().take(64).filter(|c| !c.is_ascii_whitespace()).collect();
    ["l2Book", "trades", "bbo", "subscriptionResponse"]
        .iter()
        .any(|channel| text.strip_prefix("{\"channel\":\"").is_some_and(|rest| rest.starts_with(channel)))
}

/// The host that a line of the recorder's own names.
fn host(line: &str) -> Option<&str> {
    let (scheme, rest) = line.split_once("://")?;
    ["wss", "ws", "https", "http"].contains(&scheme).then(|| rest.split(['/', ':', ' ', '?']).next())?
}

/// Which venue answers there.
fn venue_at(host: &str) -> Option<Venue> {
    const HOSTS: [(&str, Venue); 14] = [
        ("stream.binance.com", Venue::BinanceSpot),
        ("data-stream.binance.vision", Venue::BinanceSpot),
        ("api.binance.com", Venue::BinanceSpot),
        ("fstream.binance.com", Venue::BinanceUsdm),
        ("fapi.binance.com", Venue::BinanceUsdm),
        ("dstream.binance.com", Venue::BinanceCoinm),
        ("dapi.binance.com", Venue::BinanceCoinm),
        ("ws.kraken.com", Venue::Kraken),
        ("ws.okx.com", Venue::Okx),
        ("ws.okex.com", Venue::Okx),
        ("wsaws.okx.com", Venue::Okx),
        ("ws-feed.pro.coinbase.com", Venue::Coinbase),
        ("ws-feed.exchange.coinbase.com", Venue::Coinbase),
        ("api.hyperliquid.xyz", Venue::Hyperliquid),
    ];
    HOSTS.iter().find(|(of, _)| *of == host).map(|(_, venue)| *venue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_says_what_a_file_is() {
        for (text, format, venue) in [
            ("1723161256207640365 {\"stream\":\"x\"}\n", Some(Format::Binance), None),
            ("broken\n1723161256207640365 {}", Some(Format::Binance), None),
            ("1737918843893903000 {\"channel\":\"l2Book\",", Some(Format::Hyperliquid), Some("hyperliquid")),
            ("1737918843893903000 {\"channel\": \"trades\"", Some(Format::Hyperliquid), Some("hyperliquid")),
            ("wss://ws.kraken.com <-> 1618678132.3858151\n", Some(Format::Cryptofeed), Some("kraken")),
            (
                "https://fapi.binance.com/fapi/v1/depth?symbol=A -> 1.5: {}",
                Some(Format::Cryptofeed),
                Some("binance-usdm"),
            ),
            (
                "wss://stream.binance.com:9443/stream?streams=a@b <-> 1.5",
                Some(Format::Cryptofeed),
                Some("binance-spot"),
            ),
            ("wss://somewhere.else <-> 1.5\n", Some(Format::Cryptofeed), None),
            ("1618678133.370507: []\n", Some(Format::Cryptofeed), None),
            ("exchange,symbol,timestamp,local_timestamp,x\n", Some(Format::Tardis), None),
            ("exchange,symbol,timestamp,local_timestamp,x\nderibit,B,1,2,3\n", Some(Format::Tardis), Some("deribit")),
            ("a,b,c\n1,2,3\n", None, None),
            ("", None, None),
        ] {
            let found = look(None, text.as_bytes()).unwrap();
            assert_eq!((found.format, found.venue.as_deref()), (format, venue), "{text}");
        }
    }
}
