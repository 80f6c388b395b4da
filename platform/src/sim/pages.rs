//! Bytes in pages of 4 KiB: sparse ones, and live ones that may be mapped.

use chronicle_core::{HeapRegion, Region, RegionMut};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
    sync::Arc,
};

/// What a kernel writes back at once.
pub(super) const PAGE: usize = 4096;
/// What a device writes at once, at best.
pub(super) const SECTOR: usize = 512;

pub(super) type Page = [u8; PAGE];

/// How many pages `len` bytes reach into.
pub(super) fn count(len: u64) -> u64 {
    len.div_ceil(PAGE as u64)
}

/// The parts of `offset..offset + len`, page by page: page, range in it, range in the whole.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % PAGE as u64) as usize;
        let n = (PAGE - start).min(len - done);
        done += n;
        (n > 0).then(|| (at / PAGE as u64, start..start + n, done - n..done))
    })
}

/// A page that nobody wrote to.
pub(super) const EMPTY: &Page = &[0; PAGE];

/// Pages by number; a page that is not there is all zeros. Cheap to clone: what is shared is copied when it is written to,
/// the list of pages and each page by itself.
#[derive(Clone, Default)]
pub(super) struct Pages(Arc<BTreeMap<u64, Arc<Page>>>);

impl Pages {
    pub(super) fn page(&self, number: u64) -> &Page {
        self.0.get(&number).map_or(EMPTY, |page| page)
    }

    /// The page, to be shared; nothing if it is all zeros.
    pub(super) fn share(&self, number: u64) -> Option<Arc<Page>> {
        self.0.get(&number).cloned()
    }

    pub(super) fn set(&mut self, number: u64, page: Option<Arc<Page>>) {
        match page {
            Some(page) => _ = Arc::make_mut(&mut self.0).insert(number, page),
            None if self.0.contains_key(&number) => _ = Arc::make_mut(&mut self.0).remove(&number),
            None => {}
        }
    }

    /// Zeros from `len` on.
    pub(super) fn cut(&mut self, len: u64) {
        let inside = (len % PAGE as u64) as usize;
        let whole = count(len);
        if self.0.last_key_value().is_some_and(|(last, _)| *last >= whole) {
            Arc::make_mut(&mut self.0).split_off(&whole);
        }
        let number = len / PAGE as u64;
        if let Some(page) = self.0.get(&number)
            && page[inside..].iter().any(|&byte| byte != 0)
            && let Some(page) = Arc::make_mut(&mut self.0).get_mut(&number)
        {
            Arc::make_mut(page)[inside..].fill(0);
        }
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        for (number, inside, whole) in parts(offset, out.len()) {
            out[whole].copy_from_slice(&self.page(number)[inside]);
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let pages = Arc::make_mut(&mut self.0);
        for (number, inside, whole) in parts(offset, bytes.len()) {
            let bytes = &bytes[whole];
            match pages.entry(number) {
                Entry::Occupied(page) => Arc::make_mut(page.into_mut())[inside].copy_from_slice(bytes),
                // A file full of zeros, as a log's spare segments are, is a file of no pages.
                Entry::Vacant(_) if bytes.iter().all(|&byte| byte == 0) => {}
                Entry::Vacant(place) => Arc::make_mut(place.insert(Arc::new(*EMPTY)))[inside].copy_from_slice(bytes),
            }
        }
    }

    /// Numbers of the pages from `first` on that are there.
    pub(super) fn numbers(&self, first: u64) -> impl Iterator<Item = u64> {
        self.0.range(first..).map(|(number, _)| *number)
    }
}

/// What processes see of a file: the page cache. Once mapped, its first bytes live in a region that all mappings share
/// and that reads and writes go through, so that there is one truth.
#[derive(Default)]
pub(super) struct Live {
    pages: Pages,
    region: Option<Arc<HeapRegion>>,
    len: u64,
}

impl Live {
    pub(super) fn new(pages: Pages, len: u64) -> Live {
        Live { pages, region: None, len }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that the region holds.
    fn mapped(&self) -> u64 {
        self.region.as_ref().map_or(0, |region| region.len() as u64)
    }

    /// Whether a mapping is alive.
    pub(super) fn is_mapped(&self) -> bool {
        self.region.as_ref().is_some_and(|region| Arc::strong_count(region) > 1)
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(out.len() as u64) as usize;
        self.peek(offset, &mut out[..n]);
        n
    }

    fn peek(&self, offset: u64, out: &mut [u8]) {
        let inside = self.mapped().saturating_sub(offset).min(out.len() as u64) as usize;
        let (low, high) = out.split_at_mut(inside);
        if let (Some(region), false) = (&self.region, low.is_empty()) {
            region.window().copy_out(offset as usize, low);
        }
        self.pages.read(offset + inside as u64, high);
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let inside = self.mapped().saturating_sub(offset).min(bytes.len() as u64) as usize;
        let (low, high) = bytes.split_at(inside);
        if let (Some(region), false) = (&self.region, low.is_empty()) {
            region.window_mut().copy_in(offset as usize, low);
        }
        self.pages.write(offset + inside as u64, high);
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let mapped = self.mapped();
            if let (Some(region), true) = (&self.region, len < mapped) {
                region.window_mut().zero(len as usize, (mapped - len) as usize);
            }
            self.pages.cut(len);
        }
        self.len = len;
    }

    /// A page as it is now; nothing if it is all zeros.
    pub(super) fn share(&self, number: u64) -> Option<Arc<Page>> {
        if number * PAGE as u64 >= self.mapped() {
            return self.pages.share(number);
        }
        let mut page = [0; PAGE];
        self.peek(number * PAGE as u64, &mut page);
        (page != *EMPTY).then(|| Arc::new(page))
    }

    /// Memory that holds at least the first `len` bytes, or nothing if a mapping of a shorter region is still alive:
    /// it would have to move.
    pub(super) fn region(&mut self, len: usize) -> Option<Arc<HeapRegion>> {
        // A file of a size that is a power of two, as segments are, gets just that; one that grows gets some room.
        const LEAST: usize = 1 << 16;
        if self.mapped() < len as u64 {
            if self.is_mapped() {
                return None;
            }
            let region = HeapRegion::new(usize::try_from(self.len).ok()?.next_power_of_two().max(LEAST));
            let mut page = [0; PAGE];
            for at in (0..region.len()).step_by(PAGE) {
                self.peek(at as u64, &mut page);
                if page != [0; PAGE] {
                    region.window_mut().copy_in(at, &page);
                }
            }
            self.region = Some(Arc::new(region));
        }
        self.region.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_bytes_agree_with_a_plain_vector_before_and_after_mapping() {
        for map_at in [None, Some(0), Some(50), Some(150)] {
            let mut random = crate::sim::random::Random::new(7);
            let (mut live, mut model) = (Live::default(), Vec::new());
            let mut map = None;
            for step in 0..300 {
                if Some(step) == map_at && !model.is_empty() {
                    map = live.region(model.len());
                }
                let (offset, n) = (random.below(90_000) as usize, random.below(9_000) as usize);
                match random.below(4) {
                    0 => {
                        live.set_len(offset as u64);
                        model.resize(offset, 0);
                    }
                    _ => {
                        let bytes: Vec<u8> = (0..n).map(|_| random.next() as u8).collect();
                        live.write(offset as u64, &bytes);
                        if n > 0 {
                            model.resize(model.len().max(offset + n), 0);
                            model[offset..offset + n].copy_from_slice(&bytes);
                        }
                    }
                }
                let mut all = vec![1; model.len() + 10];
                assert_eq!(live.read(0, &mut all), model.len(), "step {step}");
                assert_eq!(all[..model.len()], model, "step {step}");
            }
            drop(map);
            let mut mapped = vec![0; model.len()];
            live.region(model.len()).unwrap().window().copy_out(0, &mut mapped);
            assert_eq!(mapped, model, "mapped anew");
        }
    }
}
