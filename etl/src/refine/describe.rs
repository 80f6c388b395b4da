//! `meta.json`: what is known about a day of a symbol, for whoever has the partitions and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use chronicle_platform::Platform;
use chronicle_storage::meta::{Completeness, Gap as MetaGap, Meta, Range, Source as MetaSource};
use chronicle_storage::root::{Date, Name, Tier, TimeNs};

use super::files::Files;
use super::{list, stream_of};
use crate::error::Result;
use crate::refinery::{Day, Source, Symbol};

impl<P: Platform> Files<P> {
    /// Whether a day's `meta.json`, on whichever tier, says that it is final.
    pub(super) fn is_final(&self, symbol: &Symbol, date: Date) -> bool {
        let says_so = |tier| {
            let day = self.root.day(tier, &self.venue, symbol.code_on(date), date);
            Meta::read(&self.platform, &day).is_ok_and(|meta| meta.sealed)
        };
        says_so(Tier::Warm) || says_so(Tier::Cold)
    }

    /// Writes a day's `meta.json` if the day has files that are warm. Else it was moved to the archive by now, with it.
    pub(super) fn describe(&self, sources: &[Source], symbol: &Symbol, date: Date, day: &Day) -> Result<()> {
        let dir = self.root.day(Tier::Warm, &self.venue, symbol.code_on(date), date);
        match list(&self.platform, &dir)?.iter().any(|entry| stream_of(&entry.name).is_some()) {
            true => self.write_meta(sources, symbol, date, day),
            false => Ok(()),
        }
    }

    pub(super) fn write_meta(&self, sources: &[Source], symbol: &Symbol, date: Date, day: &Day) -> Result<()> {
        let meta = meta(&self.venue, sources, symbol, date, day);
        let dir = self.root.day(Tier::Warm, &self.venue, symbol.code_on(date), date);
        if Meta::read(&self.platform, &dir).is_ok_and(|found| found == meta) {
            return Ok(());
        }
        Ok(meta.publish(&self.platform, &dir)?)
    }
}

/// What `meta.json` says about a day. Late records are not in it: they may come when the day lies in the archive.
fn meta(venue: &Name, sources: &[Source], symbol: &Symbol, date: Date, day: &Day) -> Meta {
    let sources: BTreeSet<_> = day.sources.iter().map(|index| &sources[*index as usize]).collect();
    let range =
        |range: Option<(u64, u64)>| range.map(|(first, last)| Range { first: TimeNs(first), last: TimeNs(last) });
    let mut counts = BTreeMap::new();
    for (stream, partition) in day.partitions.iter().filter(|(_, partition)| partition.exists) {
        let c = partition.counts;
        let oddities = c.oddities.iter().map(|(kind, number)| (kind.as_str(), number));
        for (kind, number) in [
            ("events", c.events),
            ("applied", c.applied),
            ("dropped_before_snapshot", c.dropped_before_snapshot),
            ("duplicates", c.duplicates),
            ("not_applied", c.not_applied),
            ("snapshots", c.snapshots),
        ]
        .into_iter()
        .chain(oddities)
        {
            if number != 0 {
                counts.insert(format!("{stream}.{kind}"), number);
            }
        }
    }
    Meta {
        venue: venue.to_string(),
        symbol_id: symbol.id(),
        symbol_version_id: day.listing.as_ref().map(|listing| listing.version_id),
        symbol_code: symbol.code_on(date).to_string(),
        raw_symbol: symbol.raw_on(date).to_owned(),
        date,
        source: sources
            .into_iter()
            .map(|source| match &source.sha256 {
                Some(sha256) => MetaSource::File {
                    name: source.name.clone(),
                    sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
                },
                None => MetaSource::Feed { feed: source.name.clone() },
            })
            .collect(),
        ingest_time: range(day.ingest_ns),
        event_time_range: range(day.event_ns),
        completeness: Completeness {
            gaps: day
                .gaps
                .iter()
                .map(|gap| MetaGap {
                    after: gap.after,
                    next: gap.next,
                    missing_from: gap.missing_from,
                    missing_to: gap.missing_to,
                    time: TimeNs(gap.time_ns),
                    cause: gap.cause.as_str().to_owned(),
                    carried: gap.carried,
                })
                .collect(),
        },
        late_policy: day.late_policy.as_str().to_owned(),
        sealed: day.sealed,
        counts,
    }
}
