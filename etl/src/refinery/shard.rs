//! Some symbols of a venue: what one thread refines.
//!
//! Symbols know nothing of each other, so how they are dealt out to shards changes no byte. Here they are numbered by
//! where they stand in their shard, and so are the [`Place`]s that the sink is given; with one shard that is
//! the venue's own number.

use chronicle_protocol::Record;
use chronicle_storage::root::{Date, Name};

use super::{Context, Item, LatePolicy, Place, Scratch, Sink, Symbol};
use crate::symbols::VenueTable;
use crate::venue::Rules;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(super) rules: &'static Rules,
    pub(super) late_policy: LatePolicy,
    /// What names a day.
    pub(super) table: Option<VenueTable>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) scratch: Scratch,
}

impl Shard {
    pub(super) fn new(
        rules: &'static Rules,
        late_policy: LatePolicy,
        table: Option<VenueTable>,
        symbols: Vec<Symbol>,
    ) -> Self {
        Self { rules, late_policy, table, symbols, scratch: Scratch::default() }
    }

    pub(crate) fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    pub(crate) fn late_policy(&self) -> LatePolicy {
        self.late_policy
    }

    /// The name in paths of a place.
    pub(crate) fn code(&self, place: Place) -> &Name {
        self.symbols[place.symbol as usize].code_on(place.date)
    }

    pub(crate) fn table(&self) -> Option<&VenueTable> {
        self.table.as_ref()
    }

    /// Adds a symbol behind those that are there.
    pub(crate) fn begin(&mut self, symbol: Symbol) {
        self.symbols.push(symbol);
    }

    /// Takes the next record of a symbol.
    pub(crate) fn take<S: Sink>(
        &mut self,
        symbol: u32,
        item: Item<'_>,
        record: &Record<'_>,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let (state, mut context) = self.context(symbol, sink);
        state.take(&mut context, item, record)
    }

    pub(crate) fn raw_lost(&mut self) {
        for symbol in &mut self.symbols {
            symbol.raw_lost();
        }
    }

    pub(crate) fn seal_until<S: Sink>(&mut self, last: Date, sink: &mut S) -> Result<(), S::Error> {
        for symbol in 0..self.symbols.len() as u32 {
            let (state, mut context) = self.context(symbol, sink);
            state.seal_until(&mut context, last)?;
        }
        Ok(())
    }

    /// Days of symbols that changed since the last call, and since the state was read from a checkpoint.
    pub(crate) fn take_changed(&mut self) -> Vec<(u32, Date)> {
        let mut changed = Vec::new();
        for (index, symbol) in (0..).zip(&mut self.symbols) {
            changed.extend(symbol.take_changed().map(|date| (index, date)));
        }
        changed
    }

    /// Its symbols, dealt out to so many shards as `to` names: each to one, in their order.
    pub(crate) fn deal(self, count: usize, mut to: impl FnMut(u32) -> usize) -> Vec<Self> {
        let Self { rules, late_policy, table, symbols, .. } = self;
        let empty = || Self::new(rules, late_policy, table.clone(), Vec::new());
        let mut shards: Vec<_> = (0..count).map(|_| empty()).collect();
        for (number, symbol) in (0..).zip(symbols) {
            shards[to(number)].symbols.push(symbol);
        }
        shards
    }

    fn context<'a, S>(&'a mut self, symbol: u32, sink: &'a mut S) -> (&'a mut Symbol, Context<'a, S>) {
        let context = Context {
            sink,
            rules: self.rules,
            table: self.table.as_ref(),
            symbol,
            late_policy: self.late_policy,
            scratch: &mut self.scratch,
        };
        (&mut self.symbols[symbol as usize], context)
    }
}
