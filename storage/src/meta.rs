//! `meta.json`: what lies in the directory of a symbol's day, for people and for tools that do not read frames.
//!
//! One file beside the partitions of a (venue, symbol, date), written anew and published whole whenever a checkpoint
//! changes what it says. Its bytes depend on its content alone: fields in the order below, maps sorted, times as text
//! with nine digits, one line feed at the end. It holds names, never paths of the machine that wrote it.
//!
//! ```text
//! {
//!   "venue": …                 the fields of Meta
//!   …
//!   "crc32": "1a2b3c4d"        CRC-32 of every byte before "crc32", eight hex digits
//! }
//! ```
//!
//! There is one way to write a content, and the checksum stands behind all of it: no byte of the file can change and pass
//! [`Meta::parse`]. `docs/format.md` section 11 is normative.
//!
//! Nothing reads it to find data: partitions speak for themselves, and it may be lost without losing any of them.

use crate::{
    Error, Result, growing,
    root::{META, TimeNs},
};
use chronicle_platform::{File, Open, Platform};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// Longest `meta.json` that is read: a day with a million gaps is not one that we wrote.
pub(crate) const MAX_LEN: u64 = 64 << 20;

/// The content of a `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Whose data: the venue.
    pub venue: String,
    /// The symbol's number in the symbol table; absent without one.
    pub symbol_id: Option<u64>,
    /// The version of that symbol that was valid; absent without a symbol table.
    pub symbol_version_id: Option<u64>,
    /// The symbol's name in paths.
    pub symbol_code: String,
    /// The symbol as the venue writes it.
    pub raw_symbol: String,
    /// The UTC day.
    pub date: crate::root::Date,
    /// Where the raw frames came from, in order of first use.
    pub source: Vec<Source>,
    /// Receive times of the raw frames; absent if there are none.
    pub ingest_time: Option<Range>,
    /// Times of the events; absent if there are none.
    pub event_time_range: Option<Range>,
    /// What is missing.
    pub completeness: Completeness,
    /// What was done with records that came too late: `reject` or `late_stream`, fixed when the day was first opened.
    pub late_policy: String,
    /// Whether the partitions are final.
    pub sealed: bool,
    /// Numbers of records, per stream and kind.
    pub counts: BTreeMap<String, u64>,
}

/// Where raw frames came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// A file that was imported.
    File {
        /// Its name without directories.
        name: String,
        /// SHA-256 of its bytes, in hex.
        sha256: String,
    },
    /// A live feed.
    Feed {
        /// Its id.
        feed: String,
    },
}

/// First and last of some times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The smallest.
    pub first: TimeNs,
    /// The largest.
    pub last: TimeNs,
}

impl Range {
    /// The range that holds one more moment.
    #[must_use]
    pub fn extended(range: Option<Range>, ns: u64) -> Range {
        let time = TimeNs(ns);
        match range {
            None => Range { first: time, last: time },
            Some(Range { first, last }) => Range { first: first.min(time), last: last.max(time) },
        }
    }
}

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completeness {
    /// Breaks of the venue's sequence, in order.
    pub gaps: Vec<Gap>,
}

/// One break of the venue's sequence; the book is not valid until the next snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// Last id before it.
    pub after: u64,
    /// First id behind it.
    pub next: u64,
    /// First id that is missing.
    pub missing_from: u64,
    /// Last id that is missing.
    pub missing_to: u64,
    /// Time of the event that showed it.
    pub time: TimeNs,
    /// Why: `sequence`, `late`, `raw_lost`, `book_lost`.
    pub cause: String,
    /// Whether it began on an earlier day, where it is counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub carried: bool,
}

/// How the object of the other fields ends, which the checksum is put in place of.
const END: &str = "\n}";
/// What stands between the other fields and the checksum.
const BETWEEN: &str = ",\n  ";
/// The checksum's name, up to its digits.
const CRC: &str = "\"crc32\": \"";
/// And what stands behind them.
const BEHIND: &str = "\"\n}\n";
/// Hex digits of the checksum.
const DIGITS: usize = 8;

impl Meta {
    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("bug: strings, integers and vectors are always JSON");
        bytes.truncate(bytes.len() - END.len());
        bytes.extend_from_slice(BETWEEN.as_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(format!("{CRC}{crc:08x}{BEHIND}").as_bytes());
        bytes
    }

    /// Reads the bytes of `path`.
    ///
    /// # Errors
    ///
    /// `Malformed`, with the offset of what is not JSON, not one of the fields or not written as we write it; or with that
    /// of the checksum, if it is another one.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Meta> {
        let bad = |offset: usize, what: String| Error::malformed(path, offset as u64, what);
        let fields = bytes.len().checked_sub(CRC.len() + DIGITS + BEHIND.len()).map(|at| bytes.split_at(at));
        let fields = fields.filter(|(fields, sum)| {
            fields.ends_with(BETWEEN.as_bytes()) && sum.starts_with(CRC.as_bytes()) && sum.ends_with(BEHIND.as_bytes())
        });
        let Some((fields, sum)) = fields else {
            // Of bytes that are no JSON at all, where they cease to be says more.
            return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                Err(error) => bad(offset_of(bytes, &error), error.to_string()),
                Ok(_) => {
                    let expected = CRC.len() + DIGITS + BEHIND.len();
                    bad(bytes.len().saturating_sub(expected), "does not end with its checksum".into())
                }
            });
        };
        let mut object = fields[..fields.len() - BETWEEN.len()].to_vec();
        object.extend_from_slice(END.as_bytes());
        let meta: Meta =
            serde_json::from_slice(&object).map_err(|error| bad(offset_of(&object, &error), error.to_string()))?;
        let written = meta.to_bytes();
        if let Some(at) = fields.iter().zip(&written).position(|(found, written)| found != written) {
            return Err(bad(at, "not as it is written: another spelling of the same, or a field of no meaning".into()));
        }
        if written != bytes {
            let stored = String::from_utf8_lossy(&sum[CRC.len()..CRC.len() + DIGITS]);
            let computed = crc32fast::hash(fields);
            let what = format!("checksum stored {stored:?}, computed \"{computed:08x}\"");
            return Err(bad(fields.len() + CRC.len(), what));
        }
        Ok(meta)
    }

    /// Writes it into the directory of a day and publishes it under its name, whole, in place of an older one.
    ///
    /// # Errors
    ///
    /// Trouble; the older one then stays.
    pub fn publish<P: Platform>(&self, platform: &P, day: &Path) -> Result<()> {
        publish(platform, &day.join(META), &self.to_bytes())
    }

    /// Reads the one in the directory of a day.
    ///
    /// # Errors
    ///
    /// Trouble, of kind `NotFound` if there is none; or `Malformed`.
    pub fn read<P: Platform>(platform: &P, day: &Path) -> Result<Meta> {
        let path = day.join(META);
        Meta::parse(&path, &read_small(platform, &path, MAX_LEN)?)
    }
}

/// Lines and columns become the offset that every other message of damage has.
fn offset_of(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines = bytes.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

/// Makes `bytes` the content of `path`, at once and durably; whoever opens it sees the old content or the new one.
///
/// For small files: checkpoints, ledgers, `meta.json`. One writer at a time.
///
/// # Errors
///
/// Trouble; the old content then stays, unless the very last step, making the new name durable, is what failed.
pub fn publish<P: Platform>(platform: &P, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = growing::temporary(path);
    if let Some(dir) = path.parent() {
        platform.create_dirs(dir)?;
    }
    growing::remove_if_there(platform, &temporary)?;
    let file = platform.open(&temporary, Open::Create)?;
    file.write_at(bytes, 0)?;
    Ok(platform.publish(&file, &temporary, path)?)
}

/// Reads a whole small file.
///
/// # Errors
///
/// Trouble; `Malformed` if it is longer than `max`, before memory is taken for it.
pub fn read_small<P: Platform>(platform: &P, path: &Path, max: u64) -> Result<Vec<u8>> {
    let file = platform.open(path, Open::Read)?;
    let len = file.len()?;
    if len > max {
        return Err(Error::malformed(path, max, format!("{len} bytes, at most {max} expected")));
    }
    let mut bytes = vec![0; len as usize];
    let n = file.read_at(&mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            venue: "binance-spot".into(),
            symbol_id: None,
            symbol_version_id: None,
            symbol_code: "btcusdt".into(),
            raw_symbol: "BTCUSDT".into(),
            date: "2024-03-01".parse().unwrap(),
            source: vec![
                Source::File { name: "a.txt.gz".into(), sha256: "00ff".into() },
                Source::Feed { feed: "binance-spot-1".into() },
            ],
            ingest_time: Some(Range::extended(Some(Range::extended(None, 1_709_251_200_000_000_000)), 5)),
            event_time_range: None,
            completeness: Completeness {
                gaps: vec![Gap {
                    after: 10,
                    next: 13,
                    missing_from: 11,
                    missing_to: 12,
                    time: TimeNs(1_709_251_200_000_000_001),
                    cause: "sequence".into(),
                    carried: false,
                }],
            },
            late_policy: "reject".into(),
            sealed: true,
            counts: [("trades.trade".to_owned(), 2), ("book.delta".to_owned(), 1)].into(),
        }
    }

    #[test]
    fn golden_text() {
        let golden = r#"{
  "venue": "binance-spot",
  "symbol_id": null,
  "symbol_version_id": null,
  "symbol_code": "btcusdt",
  "raw_symbol": "BTCUSDT",
  "date": "2024-03-01",
  "source": [
    {
      "name": "a.txt.gz",
      "sha256": "00ff"
    },
    {
      "feed": "binance-spot-1"
    }
  ],
  "ingest_time": {
    "first": "1970-01-01T00:00:00.000000005Z",
    "last": "2024-03-01T00:00:00.000000000Z"
  },
  "event_time_range": null,
  "completeness": {
    "gaps": [
      {
        "after": 10,
        "next": 13,
        "missing_from": 11,
        "missing_to": 12,
        "time": "2024-03-01T00:00:00.000000001Z",
        "cause": "sequence"
      }
    ]
  },
  "late_policy": "reject",
  "sealed": true,
  "counts": {
    "book.delta": 1,
    "trades.trade": 2
  },
  "crc32": "3dc991b2"
}
"#;
        let bytes = meta().to_bytes();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), golden);
        // The page shows the end of this one.
        let page = include_str!("../../docs/format.md");
        assert!(page.contains(&golden[golden.find("  \"late_policy\"").unwrap()..]));
        assert_eq!(Meta::parse(Path::new("meta.json"), &bytes).unwrap(), meta());
    }

    #[test]
    fn damage_has_an_offset() {
        let bytes = meta().to_bytes();
        let good = String::from_utf8(bytes).unwrap();
        assert_eq!(Meta::parse(Path::new("m"), good.as_bytes()).unwrap(), meta());
        let at = good.find("\"reject\"").unwrap();
        let bad = good.replacen("\"reject\"", "?reject\"", 1);
        let error = Meta::parse(Path::new("d/meta.json"), bad.as_bytes()).unwrap_err();
        assert_eq!(error.offset(), Some(at as u64), "{error}");
        for len in 0..good.len() {
            assert!(Meta::parse(Path::new("d/meta.json"), &good.as_bytes()[..len]).is_err());
        }
        assert!(Meta::parse(Path::new("m"), &[0; 100]).is_err());
        assert!(Meta::parse(Path::new("m"), "[".repeat(1 << 20).as_bytes()).is_err());
    }

    /// A flipped digit of a number is as good a number as it was before: only a checksum can tell. And what another
    /// writer wrote of the same content, checksum and all, is not ours.
    #[test]
    fn no_byte_can_change() {
        let good = meta().to_bytes();
        for at in 0..good.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let error = Meta::parse(Path::new("m"), &bytes).unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Damage, "byte {at}: {error}");
                assert!(error.offset().is_some_and(|offset| offset <= good.len() as u64), "byte {at}: {error}");
            }
        }
        let text = std::str::from_utf8(&good).unwrap();
        // A digit of a number, and one of a hash: what is found is the checksum.
        for (from, to) in [("\"missing_to\": 12", "\"missing_to\": 13"), ("00ff", "00fe")] {
            let error = Meta::parse(Path::new("m"), text.replacen(from, to, 1).as_bytes()).unwrap_err();
            let at = text.find("\"crc32\": \"").unwrap() + 10;
            assert_eq!(error.offset(), Some(at as u64), "{error}");
            assert!(error.to_string().contains("checksum stored \""), "{error}");
        }
        // The same content in other words, with the checksum of these words.
        for (from, to) in [
            ("  \"venue\"", " \"venue\""),
            ("\"after\": 10", "\"after\": 1e1"),
            ("\"sha256\": \"00ff\"", "\"sha256\": \"00ff\", \"size\": 3"),
            ("\"cause\": \"sequence\"", "\"cause\": \"sequence\",\n        \"carried\": false"),
            ("1970-01-01T00:00:00.000000005Z", "1970-01-01T00:00:00.000000005+00:00"),
        ] {
            let changed = text.replacen(from, to, 1);
            let fields = &changed[..changed.find("\"crc32\"").unwrap()];
            let bytes = format!("{fields}\"crc32\": \"{:08x}\"\n}}\n", crc32fast::hash(fields.as_bytes()));
            assert_ne!(changed, text, "{from}");
            let error = Meta::parse(Path::new("m"), bytes.as_bytes()).unwrap_err();
            let first = text.bytes().zip(bytes.bytes()).position(|(a, b)| a != b).unwrap() as u64;
            assert!(error.offset().is_some_and(|at| at >= first && at < first + 40), "{from}: {first}: {error}");
        }
        let without = text[..text.find(",\n  \"crc32\"").unwrap()].to_owned() + "\n}\n";
        let error = Meta::parse(Path::new("m"), without.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("does not end with its checksum"), "{error}");
    }
}
