//! A venue's symbol table at work: what it was asked so far, what it said, and whether another one would say the same.
//!
//! ```text
//! record ── a table? ── no: its text, in lower case ([`Names`](super::Names))
//!              └ yes ── its text and time ── a version: that version's symbol
//!                                                └ none: refused, or kept beside, as configured
//! ```
//!
//! **A table may only be extended.** What it answered is remembered by what was asked: per version the times at which it
//! was the answer, per text that resolved to nothing the times at which it did, and with each day its name. Another table
//! is taken if it gives the same answers to all of that, whatever else it says: new symbols, new versions and an end for
//! an open one are taken, and no partition, open or sealed, becomes one of two tables. See [`Roster::disagreement`].
//!
//! The table is part of the checkpoint. Whoever goes on needs no file, and cannot go on with another table by mistake.

use std::collections::BTreeMap;

use chronicle_protocol::Record;
use chronicle_storage::root::{Date, Name, TimeNs};
use serde::{Deserialize, Serialize};

use super::symbol::AHEAD_NS_MAX;
use super::{Stranger, Symbol};
use crate::symbols::{Listing, Resolved, Unresolved, VenueTable, Version};

/// Texts that resolved to nothing and are told apart; of more, only the times are known.
const TEXTS_MAX: usize = 10_000;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Roster {
    table: VenueTable,
    unresolved: Unresolved,
    /// By version.
    used: BTreeMap<u64, Used>,
    nobody: Nobody,
}

/// Whose a record is, as the table says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Symbol {
        id: u64,
        /// Which of the symbol's names in turn the record has.
        turn: u32,
    },
    Nobody,
}

/// By which time a table was asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// That of the event.
    Event(u64),
    /// That of receipt: there was no other that is believed.
    Receipt(u64),
}

/// First and last of some times.
type Span = Option<(u64, u64)>;

fn extend(span: &mut Span, ns: u64) {
    let (first, last) = span.unwrap_or((ns, ns));
    *span = Some((first.min(ns), last.max(ns)));
}

fn ends(span: Span) -> impl Iterator<Item = u64> {
    span.into_iter().flat_map(|(first, last)| [first, last])
}

/// At which times something was the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    event: Span,
    receipt: Span,
}

impl Used {
    fn at(&mut self, asked: Asked) {
        match asked {
            Asked::Event(ns) => extend(&mut self.event, ns),
            Asked::Receipt(ns) => extend(&mut self.receipt, ns),
        }
    }
}

/// Texts that resolved to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Nobody {
    texts: BTreeMap<String, Used>,
    /// Those of all the others: hostile texts must not fill the memory.
    others: Used,
}

impl Nobody {
    fn add(&mut self, text: &str, asked: Asked) {
        if let Some(used) = self.texts.get_mut(text) {
            used.at(asked);
        } else if self.texts.len() < TEXTS_MAX {
            self.texts.entry(text.to_owned()).or_default().at(asked);
        } else {
            self.others.at(asked);
        }
    }
}

/// A partition that another table would have made otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The venue.
    pub venue: Name,
    /// Code of the partition that it is about.
    pub code: Name,
    /// Its day.
    pub date: Date,
    /// What the other table says otherwise.
    pub what: String,
}

impl Roster {
    pub(super) fn new(table: VenueTable) -> Self {
        Self { table, unresolved: Unresolved::default(), used: BTreeMap::new(), nobody: Nobody::default() }
    }

    pub(super) fn table(&self) -> &VenueTable {
        &self.table
    }

    /// With another table, which was found to agree.
    pub(super) fn with_table(self, table: VenueTable) -> Self {
        Self { table, ..self }
    }

    pub(super) fn set_unresolved(&mut self, unresolved: Unresolved) {
        self.unresolved = unresolved;
    }

    /// Whose a record is that has a text.
    pub(super) fn find(&mut self, record: &Record<'_>, ingest_ns: u64) -> Result<Found, Stranger> {
        let (text, exchange_ns) = (record.symbol(), record.head().exchange_ns);
        let is_believed = exchange_ns != 0 && exchange_ns <= ingest_ns.saturating_add(AHEAD_NS_MAX);
        let (resolved, asked) = if is_believed {
            (self.table.resolve(text, exchange_ns), Asked::Event(exchange_ns))
        } else {
            (self.table.resolve_untimed(text, ingest_ns), Asked::Receipt(ingest_ns))
        };
        match (resolved, self.unresolved) {
            (Some(Resolved { version, turn }), _) => {
                let (id, turn) = (version.symbol_id, turn);
                self.used.entry(version.symbol_version_id).or_default().at(asked);
                Ok(Found::Symbol { id, turn })
            }
            (None, Unresolved::Unresolved) => {
                self.nobody.add(text, asked);
                Ok(Found::Nobody)
            }
            (None, Unresolved::Error) => {
                let (Asked::Event(ns) | Asked::Receipt(ns)) = asked;
                Err(Stranger { symbol: text.to_owned(), at: TimeNs(ns) })
            }
        }
    }

    /// The first answer that was given, and that another table would not give.
    pub(super) fn disagreement(&self, symbols: &[Symbol], table: &VenueTable) -> Option<Disagreement> {
        let about = |code: Name, date: Date, what: String| {
            Some(Disagreement { venue: table.venue().clone(), code, date, what })
        };
        for (version_id, used) in &self.used {
            let Some(version) = self.table.table().version(*version_id) else { continue };
            if let Some((ns, what)) = differs(version, *used, table) {
                let date = Date::of_ns(ns);
                let code = self.table.on(version.symbol_id, date).map_or(version.symbol_code.clone(), |on| on.code);
                return about(code, date, what);
            }
        }
        if let Some((ns, what)) = self.is_somebody(table) {
            return about(super::names::unresolved_code(), Date::of_ns(ns), what);
        }
        for symbol in symbols {
            let Some(id) = symbol.id() else { continue };
            for (date, day) in symbol.days() {
                let (was, now) = (day.listing.as_ref(), table.on(id, *date));
                if was != now.as_ref() {
                    let what =
                        format!("the day of symbol_id {id} was {}, and would be {}", told(was), told(now.as_ref()));
                    return about(symbol.code_on(*date).clone(), *date, what);
                }
            }
        }
        None
    }

    /// A text that resolved to nothing, and may not any more.
    fn is_somebody(&self, table: &VenueTable) -> Option<(u64, String)> {
        let meets = |version: &Version, span: Span| {
            let (first, last) = span?;
            let meets = version.valid_from.0 <= last && version.valid_to.is_none_or(|to| first < to.0);
            meets.then(|| first.max(version.valid_from.0))
        };
        table.table().versions().iter().find_map(|version| {
            let text = version.raw_symbol.as_str();
            let used = self.nobody.texts.get(text).copied().unwrap_or(self.nobody.others);
            let met = meets(version, used.event).or_else(|| meets(version, used.receipt));
            let receipt = || ends(used.receipt).find(|ns| table.resolve_untimed(text, *ns).is_some());
            let ns = met.or_else(receipt)?;
            let (id, at) = (version.symbol_id, TimeNs(ns));
            Some((ns, format!("{text} at {at} was nobody, and may now be symbol_id {id}")))
        })
    }
}

/// A time at which a version was the answer, and would not be by another table.
fn differs(version: &Version, used: Used, table: &VenueTable) -> Option<(u64, String)> {
    let text = version.raw_symbol.as_str();
    let differs = |ns: u64, found: Option<Resolved<'_>>| {
        let key = |v: &Version| (v.symbol_id, v.symbol_code.clone(), v.symbol_version_id);
        let now = found.map(|found| found.version);
        if now.is_some_and(|now| key(now) == key(version)) {
            return None;
        }
        let told =
            |v: &Version| format!("version {} of symbol_id {} ({})", v.symbol_version_id, v.symbol_id, v.symbol_code);
        let now = now.map_or_else(|| "nobody".to_owned(), told);
        Some((ns, format!("{text} at {} was {}, and would be {now}", TimeNs(ns), told(version))))
    };
    let event = ends(used.event).find_map(|ns| differs(ns, table.resolve(text, ns)));
    event.or_else(|| ends(used.receipt).find_map(|ns| differs(ns, table.resolve_untimed(text, ns))))
}

fn told(listing: Option<&Listing>) -> String {
    match listing {
        None => "nobody's".to_owned(),
        Some(Listing { code, raw, version_id }) => format!("{code} ({raw}, version {version_id})"),
    }
}
