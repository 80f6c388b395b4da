//! A root: where each tier lies, and the names in it.
//!
//! ```text
//! hot/streams/raw/{venue}/queue/                     the raw queue
//! {warm,cold}/v1/{venue}/{symbol}/{date}/            book trades quotes opaque late, each .q or .q.zst, and meta.json
//! {warm,cold}/raw/v1/{venue}/{date}/                 {queue id}-{first seq}.q or .q.zst, kept by the recorder
//! state/                                             checkpoints, ledgers, locks
//! ```
//!
//! The file system is the index: there is no manifest, and everything that names a file is in its path. Names from
//! outside become part of a path only as a [`Name`]; [`Date`] and [`Stream`] cannot be anything else.
//!
//! Nothing here creates, opens or lists a file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

pub use crate::time::{Date, DateError, TimeNs};

/// Longest [`Name`].
pub const NAME_MAX: usize = 64;

/// A component of a path that cannot lead anywhere else: 1 to 64 of `a-z 0-9 . _ -`, no leading dot, no two dots in
/// a row.
///
/// ```
/// use chronicle_storage::root::Name;
/// assert_eq!(Name::new("binance-spot").unwrap().as_str(), "binance-spot");
/// assert!(Name::new("../etc").is_err());
/// assert!(Name::new("BTCUSDT").is_err());
/// assert_eq!(Name::of_symbol("BTC/USDT").unwrap().as_str(), "btc-usdt");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or has a character or dots that it must not have.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let fault = if name.is_empty() {
            NameFault::Empty
        } else if name.len() > NAME_MAX {
            NameFault::Long
        } else if name.starts_with('.') {
            NameFault::LeadingDot
        } else if name.contains("..") {
            NameFault::TwoDots
        } else if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
            NameFault::Character(bad)
        } else {
            return Ok(Name(name.into()));
        };
        // Hostile names can be of any length; a message must not be.
        Err(NameError { name: name.chars().take(NAME_MAX).collect(), fault })
    }

    /// The name of a venue's symbol where there is no symbol table: its [`symbol_code`], checked.
    ///
    /// # Errors
    ///
    /// As [`Name::new`], of the code.
    pub fn of_symbol(raw: &str) -> Result<Self, NameError> {
        if raw.len() > 4 * NAME_MAX {
            return Err(NameError { name: raw.chars().take(NAME_MAX).collect(), fault: NameFault::Long });
        }
        Name::new(&symbol_code(raw))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')
}

/// The symbol code of a venue's symbol where there is no symbol table: lower case, any character other than
/// `a-z 0-9 . _ -` replaced by `-`.
///
/// ```
/// use chronicle_storage::root::symbol_code;
/// assert_eq!(symbol_code("BTCUSDT"), "btcusdt");
/// assert_eq!(symbol_code("BTC/USD:perp 1"), "btc-usd-perp-1");
/// ```
#[must_use]
pub fn symbol_code(raw: &str) -> String {
    // ASCII only: other letters have lower cases of several characters, and all of them become '-' anyway.
    raw.chars().map(|c| c.to_ascii_lowercase()).map(|c| if allowed(c) { c } else { '-' }).collect()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for Name {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Name::new(name)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Name::new(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.as_str().to_owned()
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    name: String,
    fault: NameFault,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameFault {
    /// It has no characters.
    Empty,
    /// It has more than [`NAME_MAX`] bytes.
    Long,
    /// It begins with a dot.
    LeadingDot,
    /// It has two dots in a row.
    TwoDots,
    /// It has a character other than `a-z 0-9 . _ -`.
    Character(char),
}

impl NameError {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> NameFault {
        self.fault
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name \"{}\" ", self.name.escape_debug())?;
        match self.fault {
            NameFault::Empty => f.write_str("is empty"),
            NameFault::Long => write!(f, "is longer than {NAME_MAX} bytes"),
            NameFault::LeadingDot => f.write_str("begins with a dot"),
            NameFault::TwoDots => f.write_str("has two dots in a row"),
            NameFault::Character(c) => {
                write!(f, "has '{}', only a-z 0-9 . _ - are allowed", c.escape_debug())
            }
        }
    }
}

impl std::error::Error for NameError {}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Order book: snapshots, deltas, gaps.
    Book,
    /// Trades.
    Trades,
    /// Best bid and offer.
    Quotes,
    /// What no other record holds, verbatim.
    Opaque,
    /// What arrived after its day was closed, in arrival order; its `time_ns` is ingest time.
    Late,
}

impl Stream {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Stream; 5] = [Stream::Book, Stream::Trades, Stream::Quotes, Stream::Opaque, Stream::Late];

    /// Name of its file without suffix.
    #[must_use]
    pub const fn stem(self) -> &'static str {
        match self {
            Stream::Book => "book",
            Stream::Trades => "trades",
            Stream::Quotes => "quotes",
            Stream::Opaque => "opaque",
            Stream::Late => "late",
        }
    }

    /// What `time_ns` of its frames means.
    #[must_use]
    pub const fn clock(self) -> chronicle_core::Clock {
        match self {
            Stream::Late => chronicle_core::Clock::Ingest,
            _ => chronicle_core::Clock::Exchange,
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stem())
    }
}

/// A text that names no [`Stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError(());

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stream is none of book, trades, quotes, opaque, late")
    }
}

impl std::error::Error for StreamError {}

impl FromStr for Stream {
    type Err = StreamError;
    fn from_str(text: &str) -> Result<Self, StreamError> {
        Stream::ALL.into_iter().find(|stream| stream.stem() == text).ok_or(StreamError(()))
    }
}

/// One partition: what a venue sent about a symbol on a UTC day, of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionId {
    /// Who sent it.
    pub venue: Name,
    /// What it is about.
    pub symbol: Name,
    /// The day of its events.
    pub date: Date,
    /// Of which kind.
    pub stream: Stream,
}

impl PartitionId {
    /// The partition of these.
    #[must_use]
    pub fn new(venue: Name, symbol: Name, date: Date, stream: Stream) -> Self {
        PartitionId { venue, symbol, date, stream }
    }

    /// SHA-256 of its text, `venue/symbol/date/stream`: what its file's identity and salt are taken from, so that
    /// neither depends on when or where it was made.
    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_string().as_bytes()).into()
    }

    /// The `queue_id` in its file's header: the digest's first 16 bytes.
    #[must_use]
    pub fn queue_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.digest()[..16]);
        id
    }

    /// The `salt` in its file's header: the digest's bytes 16 to 20, little-endian.
    #[must_use]
    pub fn salt(&self) -> u32 {
        let digest = self.digest();
        u32::from_le_bytes([digest[16], digest[17], digest[18], digest[19]])
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.venue, self.symbol, self.date, self.stream)
    }
}

/// Where data lies, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Shared memory.
    Hot,
    /// Disk.
    Warm,
    /// Seekable zstd.
    Cold,
}

impl Tier {
    /// All of them, in the order in which readers ask.
    pub const ALL: [Tier; 3] = [Tier::Hot, Tier::Warm, Tier::Cold];
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Hot => "hot",
            Tier::Warm => "warm",
            Tier::Cold => "cold",
        })
    }
}

/// Suffix of a file that is being made; it gets its name when it is whole. What a crash leaves of it is nobody's.
pub const TEMPORARY: &str = ".tmp";

/// Whether a name in a directory of ours is of a file that was being made: of a crash's remains, if nobody makes it now.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

/// Name of the file beside a day's partitions that says what they hold.
pub const META: &str = "meta.json";

/// The directories of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The bus: raw queues. May be memory.
    pub hot: PathBuf,
    /// Partitions being written or young.
    pub warm: PathBuf,
    /// Partitions compressed.
    pub cold: PathBuf,
    /// Checkpoints, ledgers, locks.
    pub state: PathBuf,
}

impl Root {
    /// All under one directory.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        Root { hot: dir.join("hot"), warm: dir.join("warm"), cold: dir.join("cold"), state: dir.join("state") }
    }

    /// With its hot tier elsewhere, such as `/dev/shm`.
    #[must_use]
    pub fn with_hot(self, hot: impl Into<PathBuf>) -> Self {
        Root { hot: hot.into(), ..self }
    }

    /// With its warm tier elsewhere.
    #[must_use]
    pub fn with_warm(self, warm: impl Into<PathBuf>) -> Self {
        Root { warm: warm.into(), ..self }
    }

    /// With its cold tier elsewhere.
    #[must_use]
    pub fn with_cold(self, cold: impl Into<PathBuf>) -> Self {
        Root { cold: cold.into(), ..self }
    }

    /// With its state elsewhere.
    #[must_use]
    pub fn with_state(self, state: impl Into<PathBuf>) -> Self {
        Root { state: state.into(), ..self }
    }

    /// A tier's directory.
    #[must_use]
    pub fn tier(&self, tier: Tier) -> &Path {
        match tier {
            Tier::Hot => &self.hot,
            Tier::Warm => &self.warm,
            Tier::Cold => &self.cold,
        }
    }

    /// Where the venues with raw queues are.
    #[must_use]
    pub fn raw_queues(&self) -> PathBuf {
        self.hot.join("streams").join("raw")
    }

    /// A venue's raw queue.
    #[must_use]
    pub fn raw_queue(&self, venue: &Name) -> PathBuf {
        self.raw_queues().join(venue).join("queue")
    }

    /// Where a tier's partitions are: `v1`.
    #[must_use]
    pub fn partitions(&self, tier: Tier) -> PathBuf {
        self.tier(tier).join("v1")
    }

    /// The directory of a symbol's day.
    #[must_use]
    pub fn day(&self, tier: Tier, venue: &Name, symbol: &Name, date: Date) -> PathBuf {
        self.partitions(tier).join(venue).join(symbol).join(date.to_string())
    }

    /// A partition's file: `.q` in hot and warm, `.q.zst` in cold.
    #[must_use]
    pub fn partition(&self, tier: Tier, id: &PartitionId) -> PathBuf {
        let name = format!("{}{}", id.stream.stem(), suffix(tier));
        self.day(tier, &id.venue, &id.symbol, id.date).join(name)
    }

    /// Where a venue's recorded raw segments are, a directory a day.
    #[must_use]
    pub fn raw(&self, tier: Tier, venue: &Name) -> PathBuf {
        self.tier(tier).join("raw").join("v1").join(venue)
    }

    /// A recorded raw segment's file; the day is that of its first ingest time.
    #[must_use]
    pub fn raw_file(&self, tier: Tier, venue: &Name, date: Date, name: &RawName) -> PathBuf {
        self.raw(tier, venue).join(date.to_string()).join(format!("{name}{}", suffix(tier)))
    }
}

fn suffix(tier: Tier) -> &'static str {
    match tier {
        Tier::Hot | Tier::Warm => ".q",
        Tier::Cold => ".q.zst",
    }
}

/// What a recorded raw segment is called: its queue's id in hex, and its first seq in 20 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawName {
    /// The queue.
    pub queue_id: [u8; 16],
    /// Seq of its first frame.
    pub first_seq: u64,
}

impl RawName {
    /// Reads the name of a file, `.q` or `.q.zst`; `None` if it is anything else.
    #[must_use]
    pub fn of_file(name: &str) -> Option<RawName> {
        let stem = name.strip_suffix(".q").or_else(|| name.strip_suffix(".q.zst"))?;
        let (hex, seq) = stem.split_once('-')?;
        if hex.len() != 32 || seq.len() != 20 || !seq.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let queue_id = u128::from_str_radix(hex, 16).ok()?.to_be_bytes();
        Some(RawName { queue_id, first_seq: seq.parse().ok()? })
    }
}

impl fmt::Display for RawName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:020}", u128::from_be_bytes(self.queue_id), self.first_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "a".repeat(65);
        for (name, fault) in [
            ("", NameFault::Empty),
            (long.as_str(), NameFault::Long),
            (".", NameFault::LeadingDot),
            ("..", NameFault::LeadingDot),
            ("../etc", NameFault::LeadingDot),
            (".hidden", NameFault::LeadingDot),
            ("a..b", NameFault::TwoDots),
            ("/etc/passwd", NameFault::Character('/')),
            ("a/b", NameFault::Character('/')),
            ("a\\b", NameFault::Character('\\')),
            ("a\0b", NameFault::Character('\0')),
            ("BTC", NameFault::Character('B')),
            ("btc usdt", NameFault::Character(' ')),
            ("bücher", NameFault::Character('ü')),
        ] {
            assert_eq!(Name::new(name).unwrap_err().fault(), fault, "{name:?}");
        }
        assert!(Name::new(&"a".repeat(64)).is_ok());
        assert!(Name::new("1000shib_usdt.p-x").is_ok());
        assert!(serde_json::from_str::<Name>("\"../x\"").is_err());
    }

    #[test]
    fn a_message_about_a_hostile_name_is_short_and_printable() {
        let text = Name::new(&"\u{1b}[2J".repeat(100_000)).unwrap_err().to_string();
        assert!(text.len() < 1000 && !text.contains('\u{1b}'), "{text}");
        assert!(Name::of_symbol(&"x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn symbol_codes() {
        assert_eq!(symbol_code("BTCUSD_PERP"), "btcusd_perp");
        assert_eq!(symbol_code("ΑΒΓ/usd"), "----usd");
        assert!(Name::of_symbol("").is_err());
        assert!(Name::of_symbol("..").is_err());
    }

    #[test]
    fn paths_are_as_documented() {
        let root = Root::new("r").with_hot("/dev/shm/x");
        let id: PartitionId = PartitionId::new(
            Name::new("binance-spot").unwrap(),
            Name::new("btcusdt").unwrap(),
            "2024-03-01".parse().unwrap(),
            Stream::Book,
        );
        assert_eq!(root.partition(Tier::Warm, &id), Path::new("r/warm/v1/binance-spot/btcusdt/2024-03-01/book.q"));
        assert_eq!(root.partition(Tier::Cold, &id), Path::new("r/cold/v1/binance-spot/btcusdt/2024-03-01/book.q.zst"));
        assert_eq!(root.raw_queue(&id.venue), Path::new("/dev/shm/x/streams/raw/binance-spot/queue"));
        let name = RawName { queue_id: *b"0123456789abcdef", first_seq: 7 };
        let path = root.raw_file(Tier::Warm, &id.venue, id.date, &name);
        let expected = "r/warm/raw/v1/binance-spot/2024-03-01/30313233343536373839616263646566-00000000000000000007.q";
        assert_eq!(path, Path::new(expected));
        assert_eq!(RawName::of_file(path.file_name().unwrap().to_str().unwrap()), Some(name));
        for bad in ["book.q", "x-1.q", "30313233343536373839616263646566-0000000000000000000+.q", ""] {
            assert_eq!(RawName::of_file(bad), None, "{bad}");
        }
    }

    /// Whoever changes how a salt is derived changes every partition's bytes: a new format version, not a new number here.
    #[test]
    fn identity_of_a_partition_is_pinned() {
        let id = PartitionId::new(
            Name::new("v").unwrap(),
            Name::new("s").unwrap(),
            "2024-01-02".parse().unwrap(),
            Stream::Trades,
        );
        assert_eq!(id.to_string(), "v/s/2024-01-02/trades");
        let digest = Sha256::digest(b"v/s/2024-01-02/trades");
        assert_eq!(id.queue_id()[..], digest[..16]);
        assert_eq!(id.salt().to_le_bytes()[..], digest[16..20]);
    }
}
