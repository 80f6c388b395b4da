//! A shard at work: its symbols and their partitions, which nobody else touches.

use std::collections::BTreeMap;

use chronicle_platform::Platform;
use chronicle_protocol::Record;
use chronicle_storage::root::{Date, Root};

use super::files::Files;
use crate::checkpoint::Part;
use crate::error::Result;
use crate::refinery::{Item, Names, Place, Shard, Source, Symbol};
use crate::symbols::VenueTable;

/// See the module.
#[derive(Debug)]
pub(super) struct Lane<P: Platform> {
    shard: Shard,
    files: Files<P>,
    /// The venue's numbers of the shard's symbols.
    numbers: Vec<u32>,
    /// Days that the last checkpoint said were to be sealed.
    sealing: Vec<(u32, Date)>,
}

impl<P: Platform> Lane<P> {
    /// Deals the symbols of a venue out to `count` lanes, so that each has about as many records behind it.
    pub(super) fn deal(
        shard: Shard,
        files: Files<P>,
        root: &Root,
        names: &Names,
        sealing: Vec<(u32, Date)>,
        count: usize,
    ) -> (Vec<Self>, Seats) {
        let seats = Seats::of(shard.symbols(), count);
        let mut committed = vec![BTreeMap::new(); count];
        for (place, durable) in &files.committed {
            let seat = seats.of_symbol[place.symbol as usize];
            committed[seat.lane].insert(Place { symbol: seat.symbol, ..*place }, *durable);
        }
        let mut numbers = vec![Vec::new(); count];
        for (number, seat) in (0..).zip(&seats.of_symbol) {
            numbers[seat.lane].push(number);
        }
        let shards = shard.deal(count, |number| seats.of_symbol[number as usize].lane);
        let mut lanes: Vec<_> = shards
            .into_iter()
            .zip(numbers)
            .zip(committed)
            .map(|((shard, numbers), committed)| {
                let files = Files::new(&files.platform, root, names.venue(), count, committed);
                Self { shard, files, numbers, sealing: Vec::new() }
            })
            .collect();
        for place in files.resumed {
            let seat = seats.of_symbol[place.symbol as usize];
            lanes[seat.lane].files.resumed.insert(Place { symbol: seat.symbol, ..place });
        }
        for (symbol, date) in sealing {
            let seat = seats.of_symbol[symbol as usize];
            lanes[seat.lane].sealing.push((seat.symbol, date));
        }
        (lanes, seats)
    }

    pub(super) fn symbols(&self) -> &[Symbol] {
        self.shard.symbols()
    }

    pub(super) fn table(&self) -> Option<&VenueTable> {
        self.shard.table()
    }

    /// Adds a symbol that was never met.
    pub(super) fn begin(&mut self, symbol: Symbol, number: u32) {
        self.shard.begin(symbol);
        self.numbers.push(number);
    }

    /// Takes the next record of a symbol.
    pub(super) fn take(&mut self, symbol: u32, item: Item<'_>, record: &Record<'_>) -> Result<()> {
        self.shard.take(symbol, item, record, &mut self.files)?;
        self.files.settle(&self.shard)
    }

    pub(super) fn raw_lost(&mut self) {
        self.shard.raw_lost();
    }

    /// Seals open days; whether that changed anything.
    pub(super) fn seal_until(&mut self, last: Date) -> Result<bool> {
        let waiting = |shard: &Shard| shard.symbols().iter().map(Symbol::waiting).sum::<u64>();
        let before = waiting(&self.shard);
        self.shard.seal_until(last, &mut self.files)?;
        self.files.settle(&self.shard)?;
        Ok(before != waiting(&self.shard) || !self.files.sealing.is_empty())
    }

    /// Makes everything durable that a checkpoint will speak of.
    pub(super) fn flush(&mut self, sources: &[Source]) -> Result<Part> {
        self.files.flush(&self.shard)?;
        self.sealing.extend(std::mem::take(&mut self.files.sealing));
        self.write_metas(sources)?;
        Ok(self.part())
    }

    fn part(&self) -> Part {
        let number = |symbol: u32| self.numbers[symbol as usize];
        let bytes = |symbol| postcard::to_allocvec(symbol).expect("bug: a vector takes every byte");
        Part {
            symbols: self.numbers.iter().copied().zip(self.shard.symbols().iter().map(bytes)).collect(),
            committed: self
                .files
                .committed
                .iter()
                .map(|(place, committed)| (Place { symbol: number(place.symbol), ..*place }, *committed))
                .collect(),
            sealing: self.sealing.iter().map(|(symbol, date)| (number(*symbol), *date)).collect(),
        }
    }

    /// The `meta.json` of open days that changed. One of a day to be sealed is written when its files are: it says that
    /// they are final.
    fn write_metas(&mut self, sources: &[Source]) -> Result<()> {
        for (index, date) in self.shard.take_changed() {
            let symbol = &self.shard.symbols()[index as usize];
            let Some(day) = symbol.days().get(&date) else { continue };
            if !day.sealed && day.has_any() {
                self.files.write_meta(sources, symbol, date, day)?;
            }
        }
        Ok(())
    }

    /// Seals the files of the days that the published checkpoint says are to be sealed.
    pub(super) fn finish_sealing(&mut self, sources: &[Source]) -> Result<Part> {
        for (index, date) in std::mem::take(&mut self.sealing) {
            let symbol = &self.shard.symbols()[index as usize];
            let Some(day) = symbol.days().get(&date) else { continue };
            // The archive takes a day once all its files are sealed and its meta.json says that they are. Where that says so
            // already, and `late` alone came behind it, the seal is what the archive waits for: it comes last.
            let was_final = self.files.is_final(symbol, date);
            if was_final {
                self.files.describe(sources, symbol, date, day)?;
            }
            for (stream, _) in day.partitions.iter().filter(|(_, partition)| partition.exists) {
                self.files.seal(&self.shard, Place { symbol: index, date, stream: *stream })?;
            }
            if !was_final {
                self.files.describe(sources, symbol, date, day)?;
            }
        }
        Ok(self.part())
    }

    /// Writes what is buffered for open files, so that whoever reads them sees it.
    pub(super) fn show(&mut self) -> Result<()> {
        self.files.show()
    }
}

/// Where a symbol of the venue sits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) lane: usize,
    /// Its number in the lane's shard.
    pub(super) symbol: u32,
}

/// Which lane has which symbol. It is chosen by how much there was to do so far, and changes no byte.
#[derive(Debug)]
pub(super) struct Seats {
    of_symbol: Vec<Seat>,
    /// Symbols of each lane.
    counts: Vec<u32>,
    /// Records of each lane.
    loads: Vec<u64>,
}

impl Seats {
    /// The busiest symbol first, each to the lane that has least to do.
    fn of(symbols: &[Symbol], count: usize) -> Self {
        let load = |symbol: &Symbol| -> u64 {
            let partitions = symbol.days().values().flat_map(|day| day.partitions.values());
            partitions.map(|partition| partition.counts.events).sum()
        };
        let mut busiest: Vec<_> = (0..symbols.len()).map(|number| (load(&symbols[number]), number)).collect();
        busiest.sort_by_key(|(load, number)| (u64::MAX - load, *number));
        let mut this = Self { of_symbol: Vec::new(), counts: vec![0; count], loads: vec![0; count] };
        let mut lanes = vec![0; symbols.len()];
        for (load, number) in busiest {
            lanes[number] = this.idlest();
            this.loads[lanes[number]] += load.max(1);
        }
        for lane in lanes {
            this.seat(lane);
        }
        this
    }

    /// Seats a symbol that was never met, which gets the next number.
    pub(super) fn begin(&mut self) -> Seat {
        let lane = self.idlest();
        self.seat(lane)
    }

    /// Where the next record of a symbol goes.
    pub(super) fn next(&mut self, number: u32) -> Seat {
        let seat = self.of_symbol[number as usize];
        self.loads[seat.lane] += 1;
        seat
    }

    fn seat(&mut self, lane: usize) -> Seat {
        let seat = Seat { lane, symbol: self.counts[lane] };
        self.counts[lane] += 1;
        self.of_symbol.push(seat);
        seat
    }

    fn idlest(&self) -> usize {
        (0..self.loads.len()).min_by_key(|lane| (self.loads[*lane], self.counts[*lane])).unwrap_or(0)
    }
}
