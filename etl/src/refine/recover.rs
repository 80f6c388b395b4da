//! After a kill: the files of a venue, and what its checkpoint says of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chronicle_platform::Platform;
use chronicle_storage::Error as StorageError;
use chronicle_storage::partition::{PartitionFile, PartitionWriter};
use chronicle_storage::root::{Date, META, TEMPORARY, Tier};

use super::files::Files;
use super::{list, stream_of};
use crate::error::Result;
use crate::refinery::{Day, Shard, Source, Symbol};

impl<P: Platform> Files<P> {
    /// Any partition's file of the venue.
    pub(super) fn any(&self) -> Result<Option<PathBuf>> {
        for tier in [Tier::Warm, Tier::Cold] {
            let venue = self.root.partitions(tier).join(&self.venue);
            for symbol in list(&self.platform, &venue)?.iter().filter(|e| e.is_dir) {
                let symbol = venue.join(&symbol.name);
                for date in list(&self.platform, &symbol)?.iter().filter(|e| e.is_dir) {
                    let day = symbol.join(&date.name);
                    let found = list(&self.platform, &day)?;
                    if let Some(file) = found.iter().find(|e| stream_of(&e.name).is_some()) {
                        return Ok(Some(day.join(&file.name)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Makes the files what the checkpoint says: longer ones are cut, unknown ones removed; a missing or shorter one is
    /// damage, but for `meta.json`, which says nothing that the checkpoint does not.
    pub(super) fn go_back(&mut self, shard: &Shard, sources: &[Source]) -> Result<()> {
        let mut by_name = BTreeMap::<(&str, Date), (u32, &Symbol, &Day)>::new();
        for (index, symbol) in (0..).zip(shard.symbols()) {
            let named = symbol.days().iter().map(|(date, day)| (symbol.code_on(*date).as_str(), *date, day));
            by_name.extend(named.map(|(code, date, day)| ((code, date), (index, symbol, day))));
        }
        let venue = self.root.partitions(Tier::Warm).join(&self.venue);
        for entry in list(&self.platform, &venue)?.iter().filter(|e| e.is_dir) {
            let code = entry.name.as_str();
            let dir = venue.join(code);
            for entry in list(&self.platform, &dir)?.iter().filter(|e| e.is_dir) {
                let Ok(date) = entry.name.parse::<Date>() else { continue };
                let known = by_name.get(&(code, date));
                self.remove_unknown(&dir.join(&entry.name), known.map(|(_, _, day)| *day))?;
                if let Some((index, symbol, day)) = known {
                    // One of a day that is being sealed is written when its files are.
                    let is_growing = || self.committed.keys().any(|at| (at.symbol, at.date) == (*index, date));
                    let is_being_sealed = day.sealed && is_growing();
                    if !is_being_sealed && !self.platform.exists(&dir.join(&entry.name).join(META))? {
                        self.describe(sources, symbol, date, day)?;
                    }
                }
            }
        }
        for (place, committed) in self.committed.clone() {
            let id = self.id(shard, place);
            let path = self.root.partition(Tier::Warm, &id);
            if shard.symbols()[place.symbol as usize]
                .days()
                .get(&place.date)
                .is_some_and(|day| day.is_sealed(place.stream))
            {
                // About to be sealed, or sealed, or moved since: whoever finishes that looks at it.
                continue;
            }
            let is_as_it_was = match PartitionFile::open(&self.platform, &path) {
                Ok(file) => file.len() == committed.len && file.seal().is_none(),
                Err(error) if error.is_not_found() => {
                    let missing = StorageError::malformed(&path, 0, "partition is gone, the checkpoint knows it");
                    return Err(missing.into());
                }
                // Longer by less than a header, say: cutting it tells.
                Err(_) => false,
            };
            if !is_as_it_was {
                drop(PartitionWriter::resume(&self.platform, &path, &id, &committed)?);
                self.resumed.insert(place);
            }
        }
        Ok(())
    }

    fn remove_unknown(&self, dir: &Path, day: Option<&Day>) -> Result<()> {
        let mut removed = false;
        let entries = list(&self.platform, dir)?;
        let mut left = entries.len();
        for entry in &entries {
            let known = match stream_of(&entry.name) {
                Some(stream) => day.is_some_and(|day| day.has(stream)),
                // The archive's own, while it moves a day.
                None if entry.name != META && !entry.name.ends_with(TEMPORARY) => true,
                None => day.is_some_and(Day::has_any) && entry.name == META,
            };
            if !known {
                self.platform.remove(&dir.join(&entry.name))?;
                removed = true;
                left -= 1;
            }
        }
        if left == 0 && day.is_none_or(|day| !day.has_any()) {
            self.platform.remove_dir(dir)?;
            if let Some(parent) = dir.parent() {
                self.platform.sync_dir(parent)?;
            }
        } else if removed {
            self.platform.sync_dir(dir)?;
        }
        Ok(())
    }
}
