//! A file's two contents: what processes see, and what the device would hold if the power went now.
//!
//! The kernel writes pages back when it likes. Between two syncs the device's page is therefore any version that
//! the page had at some moment since the first, and neighbours may be of different moments; a page that was on its
//! way when the power went is old in some sectors and new in others.
//!
//! Besides, what was written since the last sync is kept write by write, as long as it is not much, so that every state that
//! a power cut may leave can be made one after the other ([`super::survivors`]) and not only drawn by chance.
//!
//! A failed sync marks pages clean that it did not write. They are read as new until the power goes, are old after, and
//! no later sync writes them unless they change again: the reason why a log does not retry a sync.

use super::{
    pages::{EMPTY, Live, PAGE, Page, Pages, SECTOR, count},
    random::Random,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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

/// Bytes that were written to a file.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) offset: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl Write {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// The pages that it reaches into.
    fn pages(&self) -> std::ops::Range<u64> {
        self.offset / PAGE as u64..count(self.end())
    }
}

/// One line of what happened to a file since its last sync.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) write: Write,
    /// Durable by itself: it stands here because of those around it.
    pub(super) settled: bool,
}

/// What was written to a file since its last sync, in order.
#[derive(Clone, Default)]
struct Journal {
    lines: Vec<Line>,
    bytes: usize,
    /// More than is worth keeping, or something else than writes.
    overflown: bool,
}

impl Journal {
    const LINES: usize = 16;
    const BYTES: usize = 1 << 20;

    fn push(&mut self, write: &Write, settled: bool) {
        self.bytes += write.bytes.len();
        if self.overflown || self.lines.len() == Self::LINES || self.bytes > Self::BYTES {
            return self.overflow();
        }
        self.lines.push(Line { write: write.clone(), settled });
    }

    fn overflow(&mut self) {
        *self = Journal { overflown: true, ..Journal::default() };
    }
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) live: Live,
    durable: Pages,
    durable_len: u64,
    /// Pages that the kernel wrote since the last sync, at its leisure, as the device had them before.
    early: BTreeMap<u64, Option<Arc<Page>>>,
    /// Pages that a failed sync marked clean without writing them, as they were then.
    lost: BTreeMap<u64, Option<Arc<Page>>>,
    /// Pages that may differ from the device's, besides those that a mapping reaches.
    dirty: BTreeSet<u64>,
    /// Whether a writable mapping was made since the last sync, or was alive at it.
    stored: bool,
    journal: Journal,
    /// Pages with storage behind them.
    allocated: Arc<BTreeSet<u64>>,
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

    /// Of the same file after a power cut that left these bytes of it.
    pub(super) fn left(&self, pages: Pages, len: u64) -> Content {
        let allocated = match self.allocated.last() {
            Some(last) if *last >= count(len) => Arc::new(self.allocated.range(..count(len)).copied().collect()),
            _ => self.allocated.clone(),
        };
        Content {
            live: Live::new(pages.clone(), len),
            durable: pages,
            durable_len: len,
            allocated,
            modified_ns: self.modified_ns,
            sealed: self.sealed,
            ..Content::default()
        }
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
                Arc::make_mut(&mut self.allocated).insert(number);
            }
        }
        Ok(())
    }

    /// Whether some byte below `len` has no storage behind it.
    pub(super) fn has_holes(&self, len: u64) -> bool {
        (self.allocated.range(..count(len)).count() as u64) < count(len)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.put(&Write { offset, bytes: bytes.into() });
    }

    /// The same, of bytes that are shared already.
    pub(super) fn put(&mut self, write: &Write) {
        self.live.write(write.offset, &write.bytes);
        if !write.bytes.is_empty() {
            self.dirty.extend(write.pages());
            self.journal.push(write, false);
        }
    }

    /// Writes bytes that are durable at once, as a write with a sync flag does: these, and no others.
    pub(super) fn put_durably(&mut self, write: &Write) {
        self.live.write(write.offset, &write.bytes);
        self.durable.write(write.offset, &write.bytes);
        self.durable_len = self.durable_len.max(write.end());
        for number in write.pages() {
            if let Some(before) = self.early.get_mut(&number) {
                let mut pages = Pages::default();
                pages.set(number, before.take());
                pages.write(write.offset, &write.bytes);
                *before = pages.share(number);
            }
        }
        if !self.journal.lines.is_empty() {
            self.journal.push(write, true);
        }
    }

    /// The same, failed: it is read as new, and each of its pages is on the device or never will be.
    pub(super) fn fail_to_put(&mut self, write: &Write, random: &mut Random) {
        self.put(write);
        self.forsake(write.pages(), random);
    }

    /// Somebody may store into it from now on.
    pub(super) fn map_writable(&mut self) {
        self.stored = true;
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.live.len() {
            self.journal.overflow();
            self.dirty.extend(self.durable.numbers(len / PAGE as u64));
            Arc::make_mut(&mut self.allocated).split_off(&count(len));
        }
        self.live.set_len(len);
    }

    /// Pages that may differ from the device's.
    fn dirty(&self) -> Vec<u64> {
        let pages = count(self.live.len());
        if self.stored { (0..pages).collect() } else { self.dirty.range(..pages).copied().collect() }
    }

    /// Whether a page will never be written unless it changes.
    fn is_lost(&self, number: u64, page: &Option<Arc<Page>>) -> bool {
        self.lost.get(&number).is_some_and(|lost| lost == page)
    }

    /// The kernel's leisure: writes one page.
    pub(super) fn write_back(&mut self, number: u64) {
        if number < count(self.live.len()) {
            let page = self.live.share(number);
            if self.is_lost(number, &page) || self.durable.page(number) == bytes_of(&page) {
                return;
            }
            self.lost.remove(&number);
            self.early.entry(number).or_insert_with(|| self.durable.share(number));
            self.durable.set(number, page);
        }
    }

    pub(super) fn sync(&mut self) {
        self.dirty().into_iter().for_each(|number| self.write_back(number));
        self.durable_len = self.live.len();
        self.durable.cut(self.durable_len);
        self.early.clear();
        self.journal = Journal::default();
        self.dirty = self.lost.keys().copied().collect();
        self.stored = self.live.is_mapped();
    }

    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.forsake(self.dirty(), random);
    }

    /// Some of these pages are written, the others never will be.
    fn forsake(&mut self, pages: impl IntoIterator<Item = u64>, random: &mut Random) {
        for number in pages {
            let page = self.live.share(number);
            if bytes_of(&page) != self.durable.page(number) {
                if random.coin() {
                    self.write_back(number);
                } else {
                    self.lost.insert(number, page);
                }
            }
        }
        self.errors += 1;
    }

    /// What a power cut leaves, as chance has it, with `more` on top of it. What a torn page lost is what it was, or garbage.
    pub(super) fn survivor(
        &self,
        survival: Survival,
        random: &mut Random,
        garbage: bool,
        more: impl FnOnce(&mut Pages, &mut Random),
    ) -> Content {
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
        for number in self.dirty() {
            if number >= count(len.min(new)) {
                break;
            }
            let after = self.live.share(number);
            if self.durable.page(number) == bytes_of(&after) || self.is_lost(number, &after) {
                continue;
            }
            let mut page = *self.durable.page(number);
            let after = bytes_of(&after);
            let torn = survival == Survival::Some && random.one_in(3);
            let whole = survival.of_one(random);
            for at in (0..PAGE).step_by(SECTOR) {
                let sector = at..at + SECTOR;
                if if torn { random.coin() } else { whole } {
                    page[sector.clone()].copy_from_slice(&after[sector]);
                } else if torn && garbage && page[sector.clone()] != after[sector.clone()] {
                    page[sector].iter_mut().for_each(|byte| *byte = random.next() as u8);
                }
            }
            pages.set(number, Some(Arc::new(page)));
        }
        more(&mut pages, random);
        pages.cut(len);
        self.left(pages, len)
    }

    /// What is on the device since the last sync; with `stores`, all that was stored since as well.
    pub(super) fn synced(&self, stores: bool) -> Pages {
        let mut pages = self.durable.clone();
        self.early.iter().for_each(|(number, page)| pages.set(*number, page.clone()));
        if stores {
            self.dirty().into_iter().for_each(|number| pages.set(number, self.live.share(number)));
        }
        pages
    }

    /// Length as of the last sync.
    pub(super) fn durable_len(&self) -> u64 {
        self.durable_len
    }

    /// What is known of the time since the last sync; nothing if that is not all.
    pub(super) fn unsynced(&self) -> Option<Unsynced<'_>> {
        if self.journal.overflown {
            return None;
        }
        if self.stored {
            // Stores and writes in one file: as a whole it is old or new.
            let differs = |number: &u64| {
                let now = self.live.share(*number);
                let synced = self.early.get(number).map_or_else(|| self.durable.share(*number), Clone::clone);
                bytes_of(&now) != bytes_of(&synced)
            };
            return Some(Unsynced { lines: &[], stores: self.dirty().iter().any(differs) });
        }
        Some(Unsynced { lines: &self.journal.lines, stores: false })
    }
}

/// What happened to a file since its last sync.
pub(super) struct Unsynced<'a> {
    /// Its writes, in order.
    pub(super) lines: &'a [Line],
    /// Whether it is mapped and differs, in whatever steps it got there.
    pub(super) stores: bool,
}

fn bytes_of(page: &Option<Arc<Page>>) -> &Page {
    page.as_deref().unwrap_or(EMPTY)
}
