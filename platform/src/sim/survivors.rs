//! Every state that a power cut may leave, one after the other: what is open, the choices for each of it, and the machine
//! that a number's choices leave.

use super::{
    Sim,
    content::{Content, Survival, Write},
    flight::Flight,
    machine::Machine,
    names::{Inode, Names},
    pages::{Pages, SECTOR},
    random::Random,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::PathBuf,
};

/// What becomes of one write when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// So many sectors at its beginning survive.
    First(u64),
    /// So many at its end.
    Last(u64),
    /// This one alone.
    Only(u64),
    /// All but this one.
    Without(u64),
    /// Those whose bit is set, over and over again.
    Mask(u64),
}

impl Fate {
    pub(super) fn draw(random: &mut Random) -> Fate {
        match random.below(4) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Mask(random.next()),
        }
    }

    fn keeps(self, sector: u64, sectors: u64) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::First(n) => sector < n,
            Fate::Last(n) => sector >= sectors.saturating_sub(n),
            Fate::Only(at) => sector == at,
            Fate::Without(at) => sector != at,
            Fate::Mask(mask) => mask >> (sector % 64) & 1 == 1,
        }
    }

    /// Lets what survives of a write reach the device; with a source of garbage, what does not is garbage.
    pub(super) fn apply(self, write: &Write, pages: &mut Pages, mut garbage: Option<&mut Random>) {
        match self {
            Fate::Lost => return,
            Fate::Kept => return pages.write(write.offset, &write.bytes),
            _ => {}
        }
        let (first, sectors) = (write.offset / SECTOR as u64, sectors(write));
        for sector in 0..sectors {
            let start = ((first + sector) * SECTOR as u64).max(write.offset);
            let end = ((first + sector + 1) * SECTOR as u64).min(write.end());
            let bytes = &write.bytes[(start - write.offset) as usize..(end - write.offset) as usize];
            if self.keeps(sector, sectors) {
                pages.write(start, bytes);
            } else if let Some(random) = garbage.as_deref_mut() {
                // The whole sector, with what stood beside the write.
                pages.write((first + sector) * SECTOR as u64, &[(); SECTOR].map(|()| random.next() as u8));
            }
        }
    }

    /// Torn at an edge.
    fn edges(sectors: u64) -> Vec<Fate> {
        match sectors {
            0 | 1 => Vec::new(),
            2 => vec![Fate::First(1), Fate::Last(1)],
            n => vec![Fate::First(1), Fate::Last(1), Fate::First(n - 1), Fate::Last(n - 1)],
        }
    }

    /// Torn in the other ways that are gone through.
    fn others(sectors: u64) -> Vec<Fate> {
        const OUTER: u64 = 8;
        if sectors < 3 {
            return Vec::new();
        }
        let inner = |at: &u64| *at < OUTER || *at >= sectors - OUTER.min(sectors);
        let cuts = (2..sectors - 1).filter(inner).flat_map(|n| [Fate::First(n), Fate::Last(sectors - n)]);
        let single = (1..sectors - 1).filter(inner).flat_map(|at| [Fate::Only(at), Fate::Without(at)]);
        let combs = [0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa].map(Fate::Mask);
        cuts.chain(single).chain(combs.into_iter().filter(|_| sectors > 3)).collect()
    }
}

fn sectors(write: &Write) -> u64 {
    write.end().div_ceil(SECTOR as u64) - write.offset / SECTOR as u64
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Lost => write!(f, "lost"),
            Fate::Kept => write!(f, "kept"),
            Fate::First(n) => write!(f, "torn: the first {n} sectors kept"),
            Fate::Last(n) => write!(f, "torn: the last {n} sectors kept"),
            Fate::Only(at) => write!(f, "torn: sector {at} kept"),
            Fate::Without(at) => write!(f, "torn: sector {at} lost"),
            Fate::Mask(mask) => write!(f, "torn: sectors of {mask:#x} kept"),
        }
    }
}

/// A file, and what the device may have of it.
struct Candidate {
    inode: Inode,
    path: String,
    /// As of the last sync; and as stored since.
    pages: Vec<Pages>,
    lens: Vec<u64>,
    /// What to make the surviving file of.
    like: Content,
    /// Its writes, in order; a settled one has no choice.
    writes: Vec<(Write, bool)>,
}

/// Ways of one write: those that go with all of the others', and those that go with what is lost or kept of the others.
struct Ways {
    edges: Vec<Fate>,
    others: Vec<Fate>,
}

struct Plan {
    seed: u64,
    garbage: bool,
    names: Vec<(Names, BTreeSet<Inode>)>,
    candidates: Vec<Candidate>,
    /// Of each write that is not settled, file by file.
    ways: Vec<Ways>,
}

/// What one number means.
struct Choice {
    names: usize,
    /// Of each candidate: which pages, which length.
    files: Vec<(usize, usize)>,
    fates: Vec<Fate>,
}

impl Plan {
    /// Nothing if there is too much to go through, and how many operations there are.
    fn new(machine: &Machine, seed: u64) -> (Option<Plan>, usize) {
        let forgets = |inode: Inode| machine.memory.contains(&inode);
        let pending = machine.names.pending();
        // What happens in a directory that forgets everything makes no difference.
        let open: Vec<usize> =
            (0..pending.len()).filter(|at| pending[*at].iter().any(|edit| !forgets(edit.dir))).collect();
        let known = machine.names.known();
        let mut operations = open.len();
        let mut complete = true;
        let mut candidates = Vec::new();
        for (&inode, content) in machine.files.iter().filter(|(inode, _)| known.contains(inode) && !forgets(**inode)) {
            let Some(unsynced) = content.unsynced() else {
                complete = false;
                operations += 1;
                continue;
            };
            let settled = unsynced.lines.iter().map(|line| (line.write.clone(), line.settled));
            let landing = machine.in_flight.iter().filter(|flight| flight.inode == inode).filter_map(Flight::write);
            let writes: Vec<(Write, bool)> = settled.chain(landing.map(|write| (write.clone(), false))).collect();
            let mut pages = vec![content.synced(false)];
            if unsynced.stores {
                pages.push(content.synced(true));
            }
            let (old, new) = (content.durable_len(), content.live.len());
            let mut lens = vec![old];
            let grown = unsynced.lines.iter().map(|line| line.write.end()).filter(|end| (old + 1..=new).contains(end));
            lens.extend(grown);
            // A length of its own counts as an operation, one that a write made does not.
            let by_itself = old != new && !lens.contains(&new) && !unsynced.stores;
            lens.push(new);
            lens.sort_unstable();
            lens.dedup();
            operations += writes.iter().filter(|(_, settled)| !settled).count();
            operations += usize::from(unsynced.stores) + usize::from(by_itself);
            let like = content.left(Pages::default(), content.live.len().max(old));
            candidates.push(Candidate { inode, path: String::new(), pages, lens, like, writes });
        }
        if !complete || operations > Survivors::MOST {
            return (None, operations);
        }
        let names = (0..1_usize << open.len())
            .map(|mask| {
                let kept = |number| open.iter().position(|at| *at == number).is_none_or(|bit| mask >> bit & 1 == 1);
                let names = machine.names.left(kept, forgets);
                let named = names.named();
                (names, named)
            })
            .collect();
        for candidate in &mut candidates {
            candidate.path = machine.names.path(candidate.inode).map_or_else(
                || format!("file {} without a name", candidate.inode),
                |path: PathBuf| path.display().to_string(),
            );
        }
        let free = candidates.iter().flat_map(|candidate| &candidate.writes).filter(|(_, settled)| !settled);
        let ways = free
            .map(|(write, _)| Ways { edges: Fate::edges(sectors(write)), others: Fate::others(sectors(write)) })
            .collect();
        (Some(Plan { seed, garbage: machine.faults.garbage, names, candidates, ways }), operations)
    }

    /// Combinations of the fates of writes.
    fn fates(&self) -> u64 {
        let edges: u64 = self.ways.iter().map(|ways| 2 + ways.edges.len() as u64).product();
        let others: u64 = self.ways.iter().map(|ways| ways.others.len() as u64).sum();
        edges + others * (1 << self.ways.len().saturating_sub(1))
    }

    fn count(&self) -> u64 {
        let files = self.candidates.iter().map(|candidate| (candidate.pages.len() * candidate.lens.len()) as u64);
        self.names.len() as u64 * files.product::<u64>() * self.fates()
    }

    /// What a number below `count` means.
    fn choice(&self, mut number: u64) -> Choice {
        let mut take = |radix: usize| {
            let digit = number % radix as u64;
            number /= radix as u64;
            digit as usize
        };
        let names = take(self.names.len());
        let files = self.candidates.iter().map(|candidate| (take(candidate.pages.len()), take(candidate.lens.len())));
        let files = files.collect();
        Choice { names, files, fates: self.fates_of(number) }
    }

    fn fates_of(&self, mut number: u64) -> Vec<Fate> {
        const ENDS: [Fate; 2] = [Fate::Lost, Fate::Kept];
        let edges: u64 = self.ways.iter().map(|ways| 2 + ways.edges.len() as u64).product();
        if number < edges {
            let one = |ways: &Ways| {
                let radix = 2 + ways.edges.len() as u64;
                let digit = (number % radix) as usize;
                number /= radix;
                ENDS.get(digit).copied().unwrap_or_else(|| ways.edges[digit - 2])
            };
            return self.ways.iter().map(one).collect();
        }
        number -= edges;
        let ends = 1 << (self.ways.len() - 1);
        let (mut mask, mut which) = (number % ends, number / ends);
        let mut torn = None;
        for (at, ways) in self.ways.iter().enumerate() {
            match ways.others.get(usize::try_from(which).unwrap_or(usize::MAX)) {
                Some(fate) => {
                    torn = Some((at, *fate));
                    break;
                }
                None => which -= ways.others.len() as u64,
            }
        }
        let torn = torn.expect("bug: a number beyond the count");
        let one = |at| {
            if at == torn.0 {
                return torn.1;
            }
            let end = ENDS[(mask & 1) as usize];
            mask >>= 1;
            end
        };
        (0..self.ways.len()).map(one).collect()
    }

    /// The machine that a choice leaves, unless another number leaves the same: files that no name leads to do not matter.
    fn survivor(&self, machine: &Machine, number: u64) -> Option<Machine> {
        let choice = self.choice(number);
        let (names, named) = &self.names[choice.names];
        let mut random = Random::new(self.seed ^ number);
        let mut fates = choice.fates.into_iter();
        let mut files = BTreeMap::new();
        for (candidate, (pages, len)) in self.candidates.iter().zip(choice.files) {
            let free = candidate.writes.iter().filter(|(_, settled)| !settled).count();
            if !named.contains(&candidate.inode) {
                if (pages, len) != (0, 0) || fates.by_ref().take(free).any(|fate| fate != Fate::Lost) {
                    return None;
                }
                continue;
            }
            let mut pages = candidate.pages[pages].clone();
            for (write, settled) in &candidate.writes {
                let fate = if *settled { Fate::Kept } else { fates.next().expect("bug: a fate for each write") };
                fate.apply(write, &mut pages, self.garbage.then_some(&mut random));
            }
            let len = candidate.lens[len];
            pages.cut(len);
            files.insert(candidate.inode, candidate.like.left(pages, len));
        }
        Some(machine.booted(random, names.clone(), files))
    }
}

/// The survivors of one power cut; see [`Sim::survivors`].
///
/// [`Sim::crash`] draws one state by chance; these are all of them, as long as there is little that the device may or may
/// not have: at most [`Survivors::MOST`] operations, of which each is
///
/// - a **write** since its file's last sync, or on its way in a driver's hands: lost, kept, or torn;
/// - a **change of names** whose directory was not synced: undone or done, each by itself, so that also a later one may
///   survive an earlier one;
/// - a file that **mappings** changed: as it was at its last sync, or as it is. (Which of the pages in between were written
///   when is for [`Sim::crash`] to draw.)
/// - a file's **length** that changed without a write: old or new. A length that changed by writes is, whatever became of
///   them, the old one, or the end of one of them.
///
/// Writes survive or not whatever became of earlier ones, so all orders in which a device may do them are among these.
///
/// **Torn.** A write of *n* sectors can be torn in 2ⁿ − 2 ways, and four of them in more than anybody can wait for. What is
/// gone through: all combinations in which each write is lost, kept, or torn at an edge (its first sector alone, all but the
/// first, its last alone, all but the last); and all in which one write is torn in any of many ways (after each of its
/// sectors, from either end; one sector alone; one sector missing; every other one) and the others are lost or kept. For
/// writes of up to 3 sectors these are all ways; of those above 16, only the outer 8 sectors at either end are cut at.
///
/// With more operations survivors are drawn by chance, as many as asked for, and [`Survivors::is_exhaustive`] says so.
///
/// Making one costs what differs from the others, and a share of the disk's list of pages: bytes are shared.
pub struct Survivors {
    sim: Sim,
    seed: u64,
    plan: Option<Plan>,
    operations: usize,
    next: u64,
    count: u64,
}

impl fmt::Debug for Survivors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survivors")
            .field("operations", &self.operations)
            .field("is_exhaustive", &self.is_exhaustive())
            .field("next", &self.next)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Survivors {
    /// Operations whose every combination is gone through.
    pub const MOST: usize = 4;

    pub(super) fn new(sim: Sim, samples: u64) -> Survivors {
        let (seed, (plan, operations)) = {
            let mut machine = sim.machine();
            machine.off = true;
            let seed = machine.random.next();
            (seed, Plan::new(&machine, seed))
        };
        let count = plan.as_ref().map_or(samples, Plan::count);
        Survivors { sim, seed, plan, operations, next: 0, count }
    }

    /// Whether these are all there are, but for the ways of tearing that were left out; otherwise they are samples.
    #[must_use]
    pub fn is_exhaustive(&self) -> bool {
        self.plan.is_some()
    }

    /// Operations that the device may or may not have.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Numbers that survivors have, for [`Survivors::pick`]. A few have none, because another number leaves the same.
    #[must_use]
    pub fn numbers(&self) -> Range<u64> {
        0..self.count
    }

    /// Number of the survivor that came last.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The survivor of a number, as often as asked for; nothing where another number leaves the same.
    #[must_use]
    pub fn pick(&self, number: u64) -> Option<Sim> {
        if number >= self.count {
            return None;
        }
        let machine = self.sim.machine();
        Some(Sim::boot(match &self.plan {
            Some(plan) => plan.survivor(&machine, number)?,
            None => {
                let mut random = Random::new(self.seed ^ number);
                machine.survivor(Survival::draw(&mut random), Random::new(random.next()))
            }
        }))
    }

    /// What a number means, for the message of a test that failed.
    #[must_use]
    pub fn describe(&self, number: u64) -> String {
        let Some(plan) = self.plan.as_ref().filter(|_| number < self.count) else {
            return format!("sample {number} of {}", self.count);
        };
        let choice = plan.choice(number);
        let mut text = format!("survivor {number} of {}", self.count);
        let machine = self.sim.machine();
        let pending = machine.names.pending();
        let open = (0..pending.len()).filter(|at| pending[*at].iter().any(|edit| !machine.memory.contains(&edit.dir)));
        for (bit, at) in open.enumerate() {
            let fate = if choice.names >> bit & 1 == 1 { "kept" } else { "lost" };
            let names: Vec<&str> = pending[at].iter().map(|edit| edit.name.as_str()).collect();
            text += &format!("; change of {}: {fate}", names.join(" to "));
        }
        let mut fates = choice.fates.iter();
        for (candidate, (pages, len)) in plan.candidates.iter().zip(&choice.files) {
            let path = &candidate.path;
            if candidate.pages.len() > 1 {
                text += &format!("; stores to {path}: {}", if *pages == 1 { "kept" } else { "lost" });
            }
            if candidate.lens.len() > 1 {
                text += &format!("; length of {path}: {} of {:?}", candidate.lens[*len], candidate.lens);
            }
            for (write, _) in candidate.writes.iter().filter(|(_, settled)| !settled) {
                let fate = fates.next().expect("bug: a fate for each write");
                text += &format!("; {} bytes at {} of {path}: {fate}", write.bytes.len(), write.offset);
            }
        }
        text
    }
}

impl Iterator for Survivors {
    type Item = Sim;

    fn next(&mut self) -> Option<Sim> {
        while self.next < self.count {
            self.next += 1;
            if let Some(sim) = self.pick(self.next - 1) {
                return Some(sim);
            }
        }
        None
    }
}
