//! Misbehaviour on request.
//!
//! Somebody arms a [`Fault`]: what to do, on which occasions, how often. Whoever serves a client asks at each occasion
//! which faults fire, and does what they say. A fault counts its firings, so that a test can show that what it survived
//! did happen.
//!
//! ```text
//! POST /local/misbehave?what=skip&channel=depth&after=10&every=3&times=2
//! occasions   1 .. 10    11  12  13    14  15  16    17 ..
//! skipped     none               x             x     none
//! ```
//!
//! Occasions are counted over all connections together, in the order in which messages leave.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::query::Query;

/// Most faults that are armed at once.
const ARMED_MAX: usize = 64;
/// Longest delay, in ms.
const DELAY_MS_MAX: u64 = 600_000;
/// Largest message that is made on request.
const SIZE_MAX: u64 = 256 << 20;

/// What a stream's message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// Changed levels.
    Depth,
    /// Trades.
    Trade,
    /// The best of both sides.
    Ticker,
    /// Kraken's book of so many levels.
    Book(u16),
}

/// Where something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A connection was taken.
    Accept,
    /// The head of a request was read.
    Request,
    /// A WebSocket was agreed upon.
    Upgrade,
    /// A client subscribes.
    Subscribe,
    /// A message of a stream is about to leave.
    Message(Channel),
    /// A book is about to be sent as an answer.
    Snapshot,
    /// An order was read and is about to be taken.
    Order,
    /// An order was taken and is about to be answered.
    Answer,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// TCP reset: what was on the way is lost.
    Reset,
    /// TCP ends in order, WebSocket does not.
    Silent,
    /// With a close frame of this code.
    Close(u16),
}

/// Things that no client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Garbage {
    /// Text that is cut-off JSON.
    Json,
    /// Good JSON of the right shape with numbers that are none.
    Numbers,
    /// JSON nested a hundred thousand deep.
    Nesting,
    /// A text frame that is not UTF-8.
    Utf8,
    /// A binary frame.
    Binary,
    /// A text of no length.
    Empty,
    /// A frame of an opcode that does not exist.
    Opcode,
    /// A frame that goes on with a message that was not begun.
    Continuation,
    /// A ping of more than 125 bytes.
    Ping,
    /// A masked frame, which a server must not send.
    Masked,
    /// A frame that says that 2^62 bytes follow.
    Endless,
    /// Bytes of an HTTP answer amid the frames.
    Http,
}

const GARBAGE: [(&str, Garbage); 12] = [
    ("json", Garbage::Json),
    ("numbers", Garbage::Numbers),
    ("nesting", Garbage::Nesting),
    ("utf8", Garbage::Utf8),
    ("binary", Garbage::Binary),
    ("empty", Garbage::Empty),
    ("opcode", Garbage::Opcode),
    ("continuation", Garbage::Continuation),
    ("ping", Garbage::Ping),
    ("masked", Garbage::Masked),
    ("endless", Garbage::Endless),
    ("http", Garbage::Http),
];

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A message does not leave.
    Skip,
    /// A message leaves twice.
    Duplicate,
    /// A message leaves behind the next one.
    Reorder,
    /// A message, and all behind it on that connection, leaves this much later.
    Delay(Duration),
    /// Garbage leaves before a message.
    Garbage(Garbage),
    /// A text of this many bytes leaves before a message.
    Oversize(u64),
    /// A compressed frame that inflates to this many bytes leaves before a message. Compression was not agreed upon.
    Bomb(u64),
    /// A number in a message is not what it was: this field, by so much.
    Lie(Box<str>, i64),
    /// The connection ends instead of a message.
    Drop(Ending),
    /// The connection ends at this occasion.
    CloseAt(Ending),
    /// A book's answer ends in its middle.
    CloseInSnapshot,
    /// A book's answer is not JSON.
    SnapshotGarbage,
    /// A book's answer is compressed and inflates to this many bytes.
    SnapshotBomb(u64),
    /// A book's answer comes this much later.
    SnapshotDelay(Duration),
    /// A book's answer is the book of the moment when the fault was armed.
    SnapshotStale,
    /// An answer is this status and nothing else.
    Status(u16),
}

impl What {
    const fn name(&self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Delay(_) => "delay",
            Self::Garbage(_) => "garbage",
            Self::Oversize(_) => "oversize",
            Self::Bomb(_) => "bomb",
            Self::Lie(..) => "lie",
            Self::Drop(_) => "drop",
            Self::CloseAt(_) => "close_at",
            Self::CloseInSnapshot => "close_in_snapshot",
            Self::SnapshotGarbage => "snapshot_garbage",
            Self::SnapshotBomb(_) => "snapshot_bomb",
            Self::SnapshotDelay(_) => "snapshot_delay",
            Self::SnapshotStale => "snapshot_stale",
            Self::Status(_) => "status",
        }
    }
}

/// On what occasions a fault fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Message(Option<Channel>),
    At(Occasion),
}

/// A fault, armed.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// What goes wrong.
    pub(crate) what: What,
    place: Where,
    /// Of this symbol only.
    symbol: Option<String>,
    after: u64,
    every: u64,
    /// 0 = for ever.
    times: u64,
    seen: u64,
    fired: u64,
    id: u64,
}

/// Why a request to misbehave is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotFault(String);

impl fmt::Display for NotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFault {}

/// What the parameters are called; anything else is a mistake worth telling.
const NAMES: [&str; 14] = [
    "what", "channel", "symbol", "after", "every", "times", "ms", "bytes", "kind", "how", "field", "by", "step", "code",
];

impl Fault {
    /// Reads what somebody asks for.
    ///
    /// # Errors
    ///
    /// If it names no fault, or a parameter that no fault has or that has no such value.
    pub(crate) fn parse(query: &Query) -> Result<Self, NotFault> {
        if let Some(name) = query.names().find(|name| !NAMES.contains(name)) {
            return Err(NotFault(format!(
                "parameter `{}` is not known: {} are",
                name.escape_debug(),
                NAMES.join(", ")
            )));
        }
        let number = |name: &str, default: u64, max: u64| match query.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| *number <= max)
                .ok_or_else(|| NotFault(format!("`{name}` is not a whole number up to {max}"))),
        };
        let delay = || number("ms", 1_000, DELAY_MS_MAX).map(Duration::from_millis);
        let ending = || match query.get("how").unwrap_or("reset") {
            "reset" => Ok(Ending::Reset),
            "silent" => Ok(Ending::Silent),
            "close" => number("code", 1_001, 4_999).map(|code| Ending::Close(code as u16)),
            _ => Err(NotFault("`how` is none of reset, silent, close".to_owned())),
        };
        let kind = || {
            let name = query.get("kind").unwrap_or("json");
            GARBAGE.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind).ok_or_else(|| {
                let all: Vec<&str> = GARBAGE.iter().map(|(name, _)| *name).collect();
                NotFault(format!("`kind` is none of {}", all.join(", ")))
            })
        };
        let what = match query.get("what").unwrap_or_default() {
            "skip" => What::Skip,
            "duplicate" => What::Duplicate,
            "reorder" => What::Reorder,
            "delay" => What::Delay(delay()?),
            "garbage" => What::Garbage(kind()?),
            "oversize" => What::Oversize(number("bytes", 64 << 20, SIZE_MAX)?),
            "bomb" => What::Bomb(number("bytes", 64 << 20, SIZE_MAX)?),
            "lie" => {
                let field = query.get("field").unwrap_or("u");
                let by = query.get("by").unwrap_or("1000000");
                let by = by.parse().map_err(|_| NotFault("`by` is not a whole number".to_owned()))?;
                What::Lie(field.into(), by)
            }
            "drop" => What::Drop(ending()?),
            "close_at" => What::CloseAt(ending()?),
            "close_in_snapshot" => What::CloseInSnapshot,
            "snapshot_garbage" => What::SnapshotGarbage,
            "snapshot_bomb" => What::SnapshotBomb(number("bytes", 64 << 20, SIZE_MAX)?),
            "snapshot_delay" => What::SnapshotDelay(delay()?),
            "snapshot_stale" => What::SnapshotStale,
            "status" => {
                let code = number("code", 503, 599)? as u16;
                if code < 400 {
                    return Err(NotFault("`code` is not a status from 400 to 599".to_owned()));
                }
                What::Status(code)
            }
            other => {
                return Err(NotFault(format!(
                    "`what` is `{}` and should be skip, duplicate, reorder, delay, garbage, oversize, bomb, lie, drop, \
                     close_at, close_in_snapshot, snapshot_garbage, snapshot_bomb, snapshot_delay, snapshot_stale or \
                     status",
                    other.escape_debug()
                )));
            }
        };
        let place = match &what {
            What::CloseInSnapshot
            | What::SnapshotGarbage
            | What::SnapshotBomb(_)
            | What::SnapshotDelay(_)
            | What::SnapshotStale => Where::At(Occasion::Snapshot),
            What::CloseAt(_) | What::Status(_) => {
                let default = if matches!(what, What::Status(_)) { "snapshot" } else { "request" };
                Where::At(match query.get("step").unwrap_or(default) {
                    "accept" => Occasion::Accept,
                    "request" => Occasion::Request,
                    "upgrade" => Occasion::Upgrade,
                    "subscribe" => Occasion::Subscribe,
                    "snapshot" => Occasion::Snapshot,
                    "order" => Occasion::Order,
                    "answer" => Occasion::Answer,
                    _ => {
                        return Err(NotFault(
                            "`step` is none of accept, request, upgrade, subscribe, snapshot, order, answer".to_owned(),
                        ));
                    }
                })
            }
            _ => Where::Message(match query.get("channel").unwrap_or("any") {
                "any" => None,
                "depth" => Some(Channel::Depth),
                "book" => Some(Channel::Book(0)),
                "trade" => Some(Channel::Trade),
                "bookTicker" | "ticker" => Some(Channel::Ticker),
                _ => return Err(NotFault("`channel` is none of any, depth, book, trade, bookTicker".to_owned())),
            }),
        };
        Ok(Self {
            what,
            place,
            symbol: query.get("symbol").map(str::to_ascii_uppercase),
            after: number("after", 0, u64::MAX)?,
            every: number("every", 1, u64::MAX)?.max(1),
            times: number("times", 1, u64::MAX)?,
            seen: 0,
            fired: 0,
            id: 0,
        })
    }

    fn concerns(&self, occasion: Occasion, symbol: &str) -> bool {
        let here = match (self.place, occasion) {
            (Where::Message(None), Occasion::Message(_)) => true,
            // Depth and Kraken's book are the same matter.
            (Where::Message(Some(Channel::Depth | Channel::Book(_))), Occasion::Message(channel)) => {
                matches!(channel, Channel::Depth | Channel::Book(_))
            }
            (Where::Message(Some(wanted)), Occasion::Message(channel)) => wanted == channel,
            (Where::At(wanted), occasion) => wanted == occasion,
            (Where::Message(_), _) => false,
        };
        here && self.symbol.as_deref().is_none_or(|wanted| wanted == symbol)
    }

    const fn over(&self) -> bool {
        self.times > 0 && self.fired >= self.times
    }
}

/// All that is armed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Fault>,
    count: u64,
}

impl Faults {
    /// Arms one, and says by what number it is listed.
    ///
    /// # Errors
    ///
    /// If too many are armed and none of them is over.
    pub(crate) fn arm(&mut self, mut fault: Fault) -> Result<u64, NotFault> {
        if self.armed.len() >= ARMED_MAX {
            self.armed.retain(|fault| !fault.over());
        }
        if self.armed.len() >= ARMED_MAX {
            return Err(NotFault(format!("{ARMED_MAX} faults are armed; DELETE /local/misbehave disarms them")));
        }
        self.count += 1;
        fault.id = self.count;
        self.armed.push(fault);
        Ok(self.count)
    }

    /// Disarms all.
    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    /// What goes wrong now, in the order in which it was armed.
    pub(crate) fn fire(&mut self, occasion: Occasion, symbol: &str) -> Vec<What> {
        let mut what = Vec::new();
        for fault in &mut self.armed {
            if fault.over() || !fault.concerns(occasion, symbol) {
                continue;
            }
            fault.seen += 1;
            if fault.seen > fault.after && (fault.seen - fault.after).is_multiple_of(fault.every) {
                fault.fired += 1;
                what.push(fault.what.clone());
            }
        }
        what
    }

    /// All of them with their counts, as JSON.
    #[must_use]
    pub(crate) fn json(&self) -> String {
        let mut out = String::from("[");
        for (at, fault) in self.armed.iter().enumerate() {
            // Writing into a `String` cannot fail.
            let _ = write!(
                out,
                "{}{{\"id\":{},\"what\":\"{}\",\"seen\":{},\"fired\":{},\"over\":{}}}",
                if at == 0 { "" } else { "," },
                fault.id,
                fault.what.name(),
                fault.seen,
                fault.fired,
                fault.over(),
            );
        }
        out.push(']');
        out
    }
}

/// The text with the number of a field changed by so much; the same text if it has no such number or the sum has no
/// writing as a natural number.
#[must_use]
pub(crate) fn lie(text: &str, field: &str, by: i64) -> String {
    let key = format!("\"{field}\":");
    let changed = || {
        let from = text.find(&key)? + key.len();
        let digits = text[from..].bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[from..from + digits].parse().ok()?;
        let number = number.checked_add_signed(by)?;
        Some(format!("{}{number}{}", &text[..from], &text[from + digits..]))
    };
    changed().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fault, NotFault> {
        Fault::parse(&Query::new(text, ""))
    }

    #[test]
    fn a_fault_fires_on_the_occasions_that_it_names() {
        let mut faults = Faults::default();
        faults.arm(parse("what=skip&channel=depth&symbol=btcusdt&after=10&every=3&times=2").unwrap()).unwrap();
        let fired: Vec<u64> =
            (1..=30).filter(|_| !faults.fire(Occasion::Message(Channel::Depth), "BTCUSDT").is_empty()).collect();
        assert_eq!(fired, [13, 16]);
        let mut faults = Faults::default();
        faults.arm(parse("what=skip&channel=depth&symbol=btcusdt&times=0").unwrap()).unwrap();
        assert!(faults.fire(Occasion::Message(Channel::Trade), "BTCUSDT").is_empty());
        assert!(faults.fire(Occasion::Message(Channel::Depth), "ETHUSDT").is_empty());
        assert!(faults.fire(Occasion::Snapshot, "BTCUSDT").is_empty());
        assert_eq!(faults.fire(Occasion::Message(Channel::Book(10)), "BTCUSDT"), [What::Skip]);
        assert!(faults.json().contains("\"fired\":1,\"over\":false"));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (text, why) in [
            ("", "`what` is ``"),
            ("what=burn", "`what` is `burn`"),
            ("what=skip&chanel=depth", "parameter `chanel` is not known"),
            ("what=skip&channel=kline", "`channel` is none of"),
            ("what=delay&ms=abc", "`ms` is not a whole number"),
            ("what=garbage&kind=noise", "`kind` is none of json, numbers"),
            ("what=drop&how=softly", "`how` is none of"),
            ("what=close_at&step=lunch", "`step` is none of"),
            ("what=status&code=200", "`code` is not a status"),
            ("what=bomb&bytes=99999999999", "`bytes` is not a whole number up to"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_lie_changes_one_number() {
        let text = r#"{"U":5,"u":9,"pu":4}"#;
        assert_eq!(lie(text, "u", 3), r#"{"U":5,"u":12,"pu":4}"#);
        assert_eq!(lie(text, "U", -5), r#"{"U":0,"u":9,"pu":4}"#);
        assert_eq!(lie(text, "u", -10), text);
        assert_eq!(lie(text, "x", 1), text);
    }
}
