//! Which directory is whose. The bus lies in a root's hot tier; its paths are its index.
//!
//! ```text
//! {hot}/streams/raw/{venue}/                       one raw stream, all symbols      ┐ queue/
//! {hot}/streams/clean/{venue}/{symbol}/{stream}/   one refined stream               ┘
//! {hot}/orders/queue/{strategy}/                   one strategy                     orders_out/ orders_in/
//!      each with  owner.lock  LEASE  READY         who has it: see crate::lease
//! ```
//!
//! An [`Entry`] is what can be registered; a [`Layout`] says where it lies. Names from outside become part of a path only
//! as a [`Name`]: no separators, no `..`, at most 64 bytes.
//!
//! Nothing here creates, opens or lists a file.

use crate::error::{Error, Result};
use chronicle_storage::root::{Name, Root, TEMPORARY};
use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

/// The file whose kernel lock keeps owners and sweepers apart.
pub const OWNER_LOCK: &str = "owner.lock";
/// The file whose kernel lock says that an owner lives, and whose bytes say who it is.
pub const LEASE: &str = "LEASE";
/// The file that says that an entry's queues may be opened.
pub const READY: &str = "READY";

/// The name under which a file is made until it is whole.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(TEMPORARY);
    draft.into()
}

/// Whether a name in an entry's directory is of a file that its owner makes and removes, or of a draft of one.
pub(crate) fn is_file_of_an_owner(name: &str) -> bool {
    [LEASE, READY].contains(&name.strip_suffix(TEMPORARY).unwrap_or(name))
}

/// What an [`Entry`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// All messages of a venue, as they came.
    Raw,
    /// One refined stream.
    Clean,
    /// A strategy's orders, and what became of them.
    Strategy,
}

impl Kind {
    /// All of them, in the order in which events tell of them.
    pub const ALL: [Kind; 3] = [Kind::Raw, Kind::Clean, Kind::Strategy];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Raw => "raw",
            Kind::Clean => "clean",
            Kind::Strategy => "orders",
        })
    }
}

/// Something that one process at a time registers, and others find.
///
/// ```
/// use chronicle_bus::Entry;
/// let entry: Entry = "clean/binance-spot/btcusdt/book".parse()?;
/// assert_eq!(entry, Entry::clean("binance-spot", "btcusdt", "book")?);
/// assert!(Entry::strategy("../orders").is_err());
/// # Ok::<(), chronicle_bus::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// A venue's raw stream.
    Raw {
        /// Who sends it.
        venue: Name,
    },
    /// A refined stream.
    Clean {
        /// Who sent it.
        venue: Name,
        /// What it is about.
        symbol: Name,
        /// What it holds, such as `book` or `trades`.
        stream: Name,
    },
    /// A strategy.
    Strategy {
        /// What it is called.
        strategy: Name,
    },
}

impl Entry {
    /// A venue's raw stream.
    ///
    /// # Errors
    ///
    /// It is no [`Name`].
    pub fn raw(venue: &str) -> Result<Entry> {
        Ok(Entry::Raw { venue: Name::new(venue)? })
    }

    /// A refined stream.
    ///
    /// # Errors
    ///
    /// One of them is no [`Name`].
    pub fn clean(venue: &str, symbol: &str, stream: &str) -> Result<Entry> {
        Ok(Entry::Clean { venue: Name::new(venue)?, symbol: Name::new(symbol)?, stream: Name::new(stream)? })
    }

    /// A strategy.
    ///
    /// # Errors
    ///
    /// It is no [`Name`].
    pub fn strategy(strategy: &str) -> Result<Entry> {
        Ok(Entry::Strategy { strategy: Name::new(strategy)? })
    }

    /// Of which kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Entry::Raw { .. } => Kind::Raw,
            Entry::Clean { .. } => Kind::Clean,
            Entry::Strategy { .. } => Kind::Strategy,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Raw { venue } => write!(f, "raw/{venue}"),
            Entry::Clean { venue, symbol, stream } => write!(f, "clean/{venue}/{symbol}/{stream}"),
            Entry::Strategy { strategy } => write!(f, "orders/{strategy}"),
        }
    }
}

impl FromStr for Entry {
    type Err = Error;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Entry> {
        let mut parts = text.split('/');
        // More parts than any entry has, and no more: a hostile text is of any length.
        let parts: [Option<&str>; 5] = std::array::from_fn(|_| parts.next());
        match parts {
            [Some("raw"), Some(venue), None, ..] => Entry::raw(venue),
            [Some("clean"), Some(venue), Some(symbol), Some(stream), None] => Entry::clean(venue, symbol, stream),
            [Some("orders"), Some(strategy), None, ..] => Entry::strategy(strategy),
            _ => Err(Error::options(format!(
                "\"{}\" is none of raw/VENUE, clean/VENUE/SYMBOL/STREAM, orders/STRATEGY",
                text.chars().take(80).collect::<String>().escape_debug()
            ))),
        }
    }
}

/// Where the bus lies: the hot tier of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    hot: PathBuf,
}

impl Layout {
    /// In this directory, the hot tier.
    #[must_use]
    pub fn new(hot: impl Into<PathBuf>) -> Self {
        Layout { hot: hot.into() }
    }

    /// In this root's hot tier.
    #[must_use]
    pub fn of(root: &Root) -> Self {
        Layout::new(&root.hot)
    }

    /// The directory it all lies in.
    #[must_use]
    pub fn hot(&self) -> &Path {
        &self.hot
    }

    /// The directory below which entries of a kind lie.
    #[must_use]
    pub fn kind_dir(&self, kind: Kind) -> PathBuf {
        match kind {
            Kind::Raw => self.hot.join("streams").join("raw"),
            Kind::Clean => self.hot.join("streams").join("clean"),
            Kind::Strategy => self.hot.join("orders").join("queue"),
        }
    }

    /// An entry's directory.
    #[must_use]
    pub fn dir(&self, entry: &Entry) -> PathBuf {
        let mut dir = self.kind_dir(entry.kind());
        match entry {
            Entry::Raw { venue } => dir.push(venue),
            Entry::Clean { venue, symbol, stream } => dir.extend([venue, symbol, stream]),
            Entry::Strategy { strategy } => dir.push(strategy),
        }
        dir
    }

    /// The queue of a venue's raw stream.
    #[must_use]
    pub fn raw_queue(&self, venue: &Name) -> PathBuf {
        self.kind_dir(Kind::Raw).join(venue).join("queue")
    }

    /// The queue of a refined stream.
    #[must_use]
    pub fn clean_queue(&self, venue: &Name, symbol: &Name, stream: &Name) -> PathBuf {
        let mut dir = self.kind_dir(Kind::Clean);
        dir.extend([venue, symbol, stream]);
        dir.join("queue")
    }

    /// The queue of a strategy's orders: the strategy writes it, the router reads it.
    #[must_use]
    pub fn orders_out(&self, strategy: &Name) -> PathBuf {
        self.kind_dir(Kind::Strategy).join(strategy).join("orders_out")
    }

    /// The queue of what became of a strategy's orders: the router writes it, the strategy reads it.
    #[must_use]
    pub fn orders_in(&self, strategy: &Name) -> PathBuf {
        self.kind_dir(Kind::Strategy).join(strategy).join("orders_in")
    }

    /// An entry's `owner.lock`.
    #[must_use]
    pub fn owner_lock(&self, entry: &Entry) -> PathBuf {
        self.dir(entry).join(OWNER_LOCK)
    }

    /// An entry's `LEASE`.
    #[must_use]
    pub fn lease(&self, entry: &Entry) -> PathBuf {
        self.dir(entry).join(LEASE)
    }

    /// An entry's `READY`.
    #[must_use]
    pub fn ready(&self, entry: &Entry) -> PathBuf {
        self.dir(entry).join(READY)
    }

    /// What a path below the bus is, by its names alone; whether anything is there is another question.
    #[must_use]
    pub fn place(&self, path: &Path) -> Place {
        let Ok(rest) = path.strip_prefix(&self.hot) else { return Place::Elsewhere };
        let mut names = [""; 6];
        let mut count = 0;
        for component in rest.components() {
            let Component::Normal(name) = component else { return Place::Elsewhere };
            let (Some(name), true) = (name.to_str(), count < names.len()) else { return Place::Elsewhere };
            names[count] = name;
            count += 1;
        }
        let entry = |entry: Result<Entry>| entry.map_or(Place::Elsewhere, Place::Entry);
        let branch = |names: &[&str]| match names.iter().all(|name| Name::new(name).is_ok()) {
            true => Place::Branch,
            false => Place::Elsewhere,
        };
        match &names[..count] {
            [] | ["streams" | "orders"] | ["streams", "raw" | "clean"] | ["orders", "queue"] => Place::Branch,
            ["streams", "raw", venue] => entry(Entry::raw(venue)),
            ["streams", "clean", names @ ..] if names.len() < 3 => branch(names),
            ["streams", "clean", venue, symbol, stream] => entry(Entry::clean(venue, symbol, stream)),
            ["orders", "queue", strategy] => entry(Entry::strategy(strategy)),
            _ => Place::Elsewhere,
        }
    }
}

/// What a path is to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory above entries.
    Branch,
    /// An entry's own directory.
    Entry(Entry),
    /// Nothing of the bus's: elsewhere, inside an entry, or by a name that no entry has.
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        ["raw/kraken", "clean/kraken/btc-usd/book", "orders/s1"].map(|text| text.parse().unwrap()).into()
    }

    #[test]
    fn paths_are_the_documented_ones() {
        let layout = Layout::new("/h");
        let dirs: Vec<String> = entries().iter().map(|entry| layout.dir(entry).to_str().unwrap().to_owned()).collect();
        assert_eq!(dirs, ["/h/streams/raw/kraken", "/h/streams/clean/kraken/btc-usd/book", "/h/orders/queue/s1"]);
        let [kraken, symbol, book, s1] = ["kraken", "btc-usd", "book", "s1"].map(|name| Name::new(name).unwrap());
        assert_eq!(layout.raw_queue(&kraken), Path::new("/h/streams/raw/kraken/queue"));
        assert_eq!(layout.raw_queue(&kraken), Root::new("/").with_hot("/h").raw_queue(&kraken), "storage's own");
        assert_eq!(
            layout.clean_queue(&kraken, &symbol, &book),
            Path::new("/h/streams/clean/kraken/btc-usd/book/queue")
        );
        assert_eq!(layout.orders_out(&s1), Path::new("/h/orders/queue/s1/orders_out"));
        assert_eq!(layout.orders_in(&s1), Path::new("/h/orders/queue/s1/orders_in"));
        assert_eq!(layout.lease(&entries()[2]), Path::new("/h/orders/queue/s1/LEASE"));
    }

    #[test]
    fn a_path_is_an_entry_a_branch_or_nothing() {
        let layout = Layout::new("/h");
        for entry in entries() {
            assert_eq!(layout.place(&layout.dir(&entry)), Place::Entry(entry.clone()));
            assert_eq!(layout.place(&layout.ready(&entry)), Place::Elsewhere);
            for branch in layout.dir(&entry).ancestors().skip(1).take_while(|dir| dir.starts_with("/h")) {
                assert_eq!(layout.place(branch), Place::Branch, "{}", branch.display());
            }
        }
        let long = format!("/h/orders/queue/{}", "a".repeat(10_000));
        let deep = format!("/h/{}", "a/".repeat(10_000));
        for path in ["/", "/other/orders", "/h/orders/queue/UPPER", "/h/orders/queue/..", "/h/orders/x", "/h/warm"] {
            assert_eq!(layout.place(Path::new(path)), Place::Elsewhere, "{path}");
        }
        assert_eq!(layout.place(Path::new("/h/streams/clean/UPPER")), Place::Elsewhere);
        assert_eq!(layout.place(Path::new(&long)), Place::Elsewhere);
        assert_eq!(layout.place(Path::new(&deep)), Place::Elsewhere);
    }

    #[test]
    fn an_entry_is_read_as_it_is_written_and_nothing_else_is() {
        for entry in entries() {
            assert_eq!(entry.to_string().parse::<Entry>().unwrap(), entry);
        }
        let long = format!("orders/{}", "a".repeat(10_000));
        for text in ["", "raw", "raw/", "raw/a/b", "raw/../x", "clean/a/b", "clean/a/b/c/d", "orders/A", "s1", &long] {
            let error = text.parse::<Entry>().unwrap_err().to_string();
            assert!(error.len() < 300, "{error}");
        }
        let error = Entry::strategy("a/b").unwrap_err();
        assert_eq!(error.to_string(), "name \"a/b\" has '/', only a-z 0-9 . _ - are allowed");
    }
}
