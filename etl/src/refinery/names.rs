//! Whose a record is, and where it came from: decided once for a venue, before its symbols are dealt out to shards.
//!
//! Symbols are numbered in the order in which they were met. Which text belongs to which number depends on the records
//! alone, so it is the same however many shards there are. With a symbol table a number is one of the table's symbols,
//! under all its names; without, it is one text.
//!
//! What it never does: it sees no book, and keeps no text that is not a symbol's: hostile symbols must not fill
//! the memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronicle_protocol::Record;
use chronicle_storage::root::Name;

use super::roster::{Found, Roster};
use super::{Disagreement, NO_SYMBOL, Source, Stranger, Symbol};
use crate::symbols::{UNRESOLVED, Unresolved, VenueTable};

/// Code of what the symbol table knows nobody for.
pub(super) fn unresolved_code() -> Name {
    Name::new(UNRESOLVED).expect("bug: the code of nobody is a name")
}

/// Whose a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whose {
    /// The symbol's number: what must stay together where the work is split.
    pub(crate) number: u32,
    /// Which of its names in turn the record has.
    pub(crate) turn: u32,
}

/// The names of one venue. See the module.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    venue: Name,
    /// What the symbol table says; none = without one.
    roster: Option<Roster>,
    /// By the symbol table's number.
    by_id: HashMap<u64, u32>,
    /// The venue's own text of each symbol; empty for those of the symbol table.
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
    pub(super) fn new(
        venue: Name,
        symbols: &[Symbol],
        sources: Vec<Source>,
        source: Option<u32>,
        roster: Option<Roster>,
    ) -> Self {
        let numbered = || (0..).zip(symbols);
        let by_name = || numbered().filter(|(_, symbol)| symbol.id().is_none());
        Self {
            venue,
            roster,
            by_id: numbered().filter_map(|(number, symbol)| Some((symbol.id()?, number))).collect(),
            texts: symbols.iter().map(|symbol| symbol.raw().to_owned()).collect(),
            by_text: by_name()
                .filter(|(_, symbol)| !symbol.is_unresolved())
                .map(|(number, symbol)| (symbol.raw().to_owned(), number))
                .collect(),
            by_code: by_name().map(|(number, symbol)| (symbol.code().clone(), number)).collect(),
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

    /// The symbol table.
    pub(crate) fn table(&self) -> Option<&VenueTable> {
        self.roster().map(Roster::table)
    }

    pub(crate) fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// Goes on with another symbol table, if that says what this one said.
    pub(super) fn set_table(&mut self, table: &VenueTable, symbols: &[Symbol]) -> Result<(), Disagreement> {
        let disagreement = match &self.roster {
            Some(roster) => roster.disagreement(symbols, table),
            // Whatever was refined without one was named by its text.
            None => symbols.iter().filter(|symbol| !symbol.raw().is_empty()).find_map(|symbol| {
                let (venue, code, date) = (self.venue.clone(), symbol.code().clone(), *symbol.days().keys().next()?);
                Some(Disagreement { venue, code, date, what: "it was refined without one".to_owned() })
            }),
        };
        if let Some(disagreement) = disagreement {
            return Err(disagreement);
        }
        self.roster = Some(match self.roster.take() {
            Some(roster) => roster.with_table(table.clone()),
            None => Roster::new(table.clone()),
        });
        Ok(())
    }

    pub(super) fn set_unresolved(&mut self, unresolved: Unresolved) {
        if let Some(roster) = &mut self.roster {
            roster.set_unresolved(unresolved);
        }
    }

    /// The number of the symbol that a record is of, and under which of its names in turn. One that was never met is handed to
    /// `begin` first. A source is nobody's: the records behind it come from it.
    pub(crate) fn whose(
        &mut self,
        record: &Record<'_>,
        ingest_ns: u64,
        begin: impl FnOnce(u32, Symbol),
    ) -> Result<Option<Whose>, Stranger> {
        if let Record::Source(source) = record {
            self.take_source(source.name, source.sha256);
            return Ok(None);
        }
        let text = record.symbol();
        match &mut self.roster {
            Some(roster) if !text.is_empty() => {
                let found = roster.find(record, ingest_ns)?;
                Ok(Some(self.of_table(found, begin)))
            }
            _ => Ok(Some(Whose { number: self.of_text(text, begin), turn: 0 })),
        }
    }

    /// The number of what the symbol table found.
    fn of_table(&mut self, found: Found, begin: impl FnOnce(u32, Symbol)) -> Whose {
        let next = self.texts.len() as u32;
        let (number, turn) = match found {
            Found::Symbol { id, turn } => (*self.by_id.entry(id).or_insert(next), turn),
            Found::Nobody => (*self.by_code.entry(unresolved_code()).or_insert(next), 0),
        };
        if number == next {
            self.texts.push(String::new());
            begin(
                number,
                match found {
                    Found::Symbol { id, .. } => Symbol::of_table(id),
                    Found::Nobody => Symbol::of_nobody(unresolved_code()),
                },
            );
        }
        Whose { number, turn }
    }

    /// The number of a text.
    fn of_text(&mut self, text: &str, begin: impl FnOnce(u32, Symbol)) -> u32 {
        if let Some(last) = self.last
            && self.texts[last as usize] == text
        {
            return last;
        }
        let number = match self.by_text.get(text) {
            Some(number) => *number,
            None => self.new_text(text, begin),
        };
        self.last = Some(number);
        number
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
