//! Whose a record is, and where it came from: decided once for a venue, before its symbols are dealt out to shards.
//!
//! Symbols are numbered in the order in which they were met. Which text belongs to which number depends on the records
//! alone, so it is the same however many shards there are.
//!
//! What it never does: it sees no book and no time, and keeps no text that is not a symbol's: hostile symbols must not fill
//! the memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronicle_protocol::Record;
use chronicle_storage::root::Name;

use super::{NO_SYMBOL, Source, Symbol};

/// The names of one venue. See the module.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    venue: Name,
    /// The venue's own text of each symbol.
    texts: Vec<String>,
    /// By the venue's own text: what the hot path looks up.
    by_text: HashMap<String, u32>,
    /// By code: what decides.
    by_code: BTreeMap<Name, u32>,
    /// The symbol of the last record.
    last: Option<u32>,
    /// Shared with the shards that write them into `meta.json`.
    sources: Arc<Vec<Source>>,
    /// Index of the source that raw records now come from.
    source: Option<u32>,
}

impl Names {
    pub(super) fn new(venue: Name, symbols: &[Symbol], sources: Vec<Source>, source: Option<u32>) -> Self {
        Self {
            venue,
            texts: symbols.iter().map(|symbol| symbol.raw().to_owned()).collect(),
            by_text: (0..).zip(symbols).map(|(number, symbol)| (symbol.raw().to_owned(), number)).collect(),
            by_code: (0..).zip(symbols).map(|(number, symbol)| (symbol.code().clone(), number)).collect(),
            last: None,
            sources: Arc::new(sources),
            source,
        }
    }

    pub(crate) fn venue(&self) -> &Name {
        &self.venue
    }

    pub(crate) fn sources(&self) -> &Arc<Vec<Source>> {
        &self.sources
    }

    /// The source that records now come from.
    pub(crate) fn source(&self) -> Option<u32> {
        self.source
    }

    /// The number of the symbol that a record is of. One that was never met is handed to `begin` first. A source is nobody's:
    /// the records behind it come from it.
    pub(crate) fn whose(&mut self, record: &Record<'_>, begin: impl FnOnce(u32, Symbol)) -> Option<u32> {
        if let Record::Source(source) = record {
            self.take_source(source.name, source.sha256);
            return None;
        }
        let text = record.symbol();
        if let Some(last) = self.last
            && self.texts[last as usize] == text
        {
            return Some(last);
        }
        let number = match self.by_text.get(text) {
            Some(number) => *number,
            None => self.new_text(text, begin),
        };
        self.last = Some(number);
        Some(number)
    }

    /// A code that two symbols would share belongs to the first of them, and nothing of the second is guessed to be the
    /// same: it goes where records without symbol go.
    #[cold]
    fn new_text(&mut self, text: &str, begin: impl FnOnce(u32, Symbol)) -> u32 {
        let no_symbol = || Name::new(NO_SYMBOL).expect("bug: the code of no symbol is a name");
        let code = match Name::of_symbol(text) {
            Ok(code) if !self.by_code.contains_key(&code) && code.as_str() != NO_SYMBOL => code,
            _ => no_symbol(),
        };
        if let Some(number) = self.by_code.get(&code) {
            // Not remembered by its text.
            return *number;
        }
        let number = self.texts.len() as u32;
        let text = if code.as_str() == NO_SYMBOL { "" } else { text };
        self.texts.push(text.to_owned());
        self.by_text.insert(text.to_owned(), number);
        self.by_code.insert(code.clone(), number);
        begin(number, Symbol::new(code, text.to_owned()));
        number
    }

    fn take_source(&mut self, name: &str, sha256: Option<[u8; 32]>) {
        let known = self.sources.iter().position(|s| s.name == name && s.sha256 == sha256);
        let index = known.unwrap_or_else(|| {
            Arc::make_mut(&mut self.sources).push(Source { name: name.to_owned(), sha256 });
            self.sources.len() - 1
        });
        self.source = Some(index as u32);
    }
}
