//! A file's two contents: what processes see, and what the device would hold if the power went now.
//!
//! The kernel writes pages back when it likes. Between two syncs the device's page is therefore any version that
//! the page had at some moment since the first, and neighbours may be of different moments; a page that was on its
//! way when the power went is old in some sectors and new in others.
//!
//! A failed sync marks pages clean that it did not write. They are read as new until the power goes, are old after, and
//! no later sync writes them unless they change again: the reason why a log does not retry a sync.

use super::{
    pages::{Live, PAGE, Page, Pages, SECTOR, count},
    random::Random,
};
use std::collections::{BTreeMap, BTreeSet};

/// How much of what was not synced survives a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Survival {
    Nothing,
    Everything,
    Some,
}

impl Survival {
    pub(super) fn draw(random: &mut Random) -> Survival {
        match random.below(8) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Some,
        }
    }

    /// Whether this one thing survives.
    pub(super) fn of_one(self, random: &mut Random) -> bool {
        match self {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Some => random.coin(),
        }
    }
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) live: Live,
    durable: Pages,
    durable_len: u64,
    /// Pages that a failed sync marked clean without writing them, as they were then.
    lost: BTreeMap<u64, Box<Page>>,
    /// Pages with storage behind them.
    allocated: BTreeSet<u64>,
    /// Failed syncs so far; each description knows how many of them it has been told.
    pub(super) errors: u64,
    pub(super) modified_ns: u64,
    /// Whether its length is fixed for ever.
    pub(super) sealed: bool,
}

impl Content {
    /// Of a file created at `now_ns`.
    pub(super) fn new(now_ns: u64) -> Content {
        Content { modified_ns: now_ns, ..Content::default() }
    }

    /// Bytes of storage in use.
    pub(super) fn used(&self) -> u64 {
        self.allocated.len() as u64 * PAGE as u64
    }

    /// Gives storage to the pages of `start..end` as long as `free` bytes last; where it stopped if they did not.
    pub(super) fn allocate(&mut self, start: u64, end: u64, free: u64) -> Result<(), u64> {
        let mut free = free / PAGE as u64;
        for number in start / PAGE as u64..count(end) {
            if !self.allocated.contains(&number) {
                if free == 0 {
                    return Err((number * PAGE as u64).max(start));
                }
                free -= 1;
                self.allocated.insert(number);
            }
        }
        Ok(())
    }

    /// Whether some byte below `len` has no storage behind it.
    pub(super) fn has_holes(&self, len: u64) -> bool {
        (self.allocated.range(..count(len)).count() as u64) < count(len)
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.live.set_len(len);
        self.allocated.split_off(&count(len));
    }

    /// The kernel's leisure: writes one page.
    pub(super) fn write_back(&mut self, number: u64) {
        if number < count(self.live.len()) {
            let page = self.live.page(number);
            if self.lost.get(&number).is_some_and(|lost| **lost == page) {
                return;
            }
            self.lost.remove(&number);
            self.durable.set(number, &page);
        }
    }

    pub(super) fn sync(&mut self) {
        (0..count(self.live.len())).for_each(|number| self.write_back(number));
        self.durable_len = self.live.len();
        self.durable.cut(self.durable_len);
    }

    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        for number in 0..count(self.live.len()) {
            let page = self.live.page(number);
            if page != self.durable.page(number) {
                if random.coin() {
                    self.write_back(number);
                } else {
                    self.lost.insert(number, Box::new(page));
                }
            }
        }
        self.errors += 1;
    }

    /// What a power cut leaves.
    pub(super) fn survivor(&self, survival: Survival, random: &mut Random) -> Content {
        let (old, new) = (self.durable_len, self.live.len());
        let len = match survival {
            Survival::Nothing => old,
            Survival::Everything => new,
            Survival::Some => match random.below(3) {
                0 => old,
                1 => new,
                _ => old.min(new) + random.below(old.abs_diff(new)),
            },
        };
        let mut pages = self.durable.clone();
        for number in 0..count(len.min(new)) {
            let (before, after) = (self.durable.page(number), self.live.page(number));
            if before == after || self.lost.get(&number).is_some_and(|lost| **lost == after) {
                continue;
            }
            let mut page = before;
            let torn = survival == Survival::Some && random.one_in(3);
            let whole = survival.of_one(random);
            for at in (0..PAGE).step_by(SECTOR) {
                if if torn { random.coin() } else { whole } {
                    page[at..at + SECTOR].copy_from_slice(&after[at..at + SECTOR]);
                }
            }
            pages.set(number, &page);
        }
        pages.cut(len);
        Content {
            live: Live::new(pages.clone(), len),
            durable: pages,
            durable_len: len,
            lost: BTreeMap::new(),
            allocated: self.allocated.range(..count(len)).copied().collect(),
            errors: 0,
            modified_ns: self.modified_ns,
            sealed: self.sealed,
        }
    }
}
