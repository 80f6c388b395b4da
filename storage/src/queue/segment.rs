//! One segment in the writer's hands: its file, mapping and index; making one, and using one again.

use super::{index::IndexWriter, layout::COUNT_END, names::Names};
use crate::{Error, Result};
use chronicle_core::{Begin, Damage, Fault, Header, Region, Seal, Spec, layout::HEADER_LEN};
use chronicle_platform::{File, Medium, Open, Platform};
use std::{path::Path, sync::Arc};

/// What the append path needs of a segment. Shared between writer and helper until the helper uses it again.
#[derive(Debug)]
pub(crate) struct Segment<P: Platform> {
    pub(crate) id: u64,
    pub(crate) header: Header,
    pub(crate) map: Arc<P::MapMut>,
    pub(crate) index: IndexWriter<P>,
}

/// A retired segment whose file nobody reads: locked exclusively, about to be another one.
#[derive(Debug)]
pub(crate) struct Spare<P: Platform> {
    pub(crate) was: u64,
    pub(crate) file: P::File,
    pub(crate) map: Arc<P::MapMut>,
    pub(crate) index: IndexWriter<P>,
}

/// How segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) medium: Medium,
    pub(crate) lock_memory: bool,
}

/// An unpredictable salt; never zero, which is what an empty file's bytes would be salted with.
pub(crate) fn salt<P: Platform>(platform: &P) -> u32 {
    (platform.random() as u32).max(1)
}

impl<P: Platform> Segment<P> {
    /// Makes a segment in a file of its own. `before_publish` runs when all space is there and nothing is visible yet.
    pub(crate) fn make(
        platform: &P,
        names: &Names,
        spec: &Spec,
        begin: Option<Begin>,
        making: Making,
        before_publish: impl FnOnce() -> Result<()>,
    ) -> Result<(Self, P::File)> {
        let fresh = names.fresh(spec.segment_id);
        let made = Self::make_at(platform, names, spec, begin, making, &fresh, before_publish);
        if made.is_err() {
            // Gives back what space it took. If not even that works, the next opening does.
            _ = platform.remove(&fresh);
        }
        made
    }

    fn make_at(
        platform: &P,
        names: &Names,
        spec: &Spec,
        begin: Option<Begin>,
        making: Making,
        fresh: &Path,
        before_publish: impl FnOnce() -> Result<()>,
    ) -> Result<(Self, P::File)> {
        let id = spec.segment_id;
        if platform.exists(fresh)? {
            platform.remove(fresh)?;
        }
        let file = platform.open(fresh, Open::Create)?;
        file.allocate(spec.segment_len.into())?;
        let map = Arc::new(platform.map_mut(&file, spec.segment_len as usize)?);
        let index = IndexWriter::create(platform, &names.index(id), spec.queue_id, id, spec.segment_len, spec.salt)?;
        chronicle_core::prepare(&*map, spec).expect("bug: the length was checked with the options");
        if let Some(begin) = begin {
            chronicle_core::store_begin(&*map, spec.salt, begin);
        }
        // In memory, pages come first, so that a lack of them is an error with nothing visible. On a disk they come
        // last: publishing writes dirty pages out, and all of them would be dirty.
        if making.medium == Medium::Memory {
            platform.prefault_mut(&map)?;
        }
        if making.lock_memory {
            platform.lock_memory(&map)?;
        }
        before_publish()?;
        platform.publish(&file, fresh, &names.segment(id))?;
        if making.medium == Medium::Disk {
            // For speed alone: the space is there.
            _ = platform.prefault_mut(&map);
        }
        let header = chronicle_core::header(map.window()).map_err(|damage| Error::damage(names.segment(id), damage))?;
        Ok((Segment { id, header, map, index }, file))
    }

    /// Makes a segment of a spare one, in pages that are faulted in already.
    pub(crate) fn make_of(
        platform: &P,
        names: &Names,
        spec: &Spec,
        spare: Spare<P>,
        making: Making,
    ) -> Result<(Self, P::File)> {
        let Spare { was, file, map, mut index } = spare;
        let id = spec.segment_id;
        chronicle_core::prepare(&*map, spec).expect("bug: a spare of another length");
        match platform.rename(&names.index(was), &names.index(id)) {
            Ok(()) => index.reset(spec.queue_id, id, spec.salt),
            // Somebody removed a hint: make another.
            Err(_) => {
                index =
                    IndexWriter::create(platform, &names.index(id), spec.queue_id, id, spec.segment_len, spec.salt)?;
            }
        }
        platform.publish(&file, &names.retired(was), &names.segment(id))?;
        if making.medium == Medium::Disk {
            // Pages that were written out have become write-protected.
            _ = platform.prefault_mut(&map);
        }
        file.unlock()?;
        let header = chronicle_core::header(map.window()).map_err(|damage| Error::damage(names.segment(id), damage))?;
        Ok((Segment { id, header, map, index }, file))
    }

    /// Maps a published segment for writing on, with an index of its own.
    pub(crate) fn adopt(platform: &P, names: &Names, header: &Header, file: &P::File, index: IndexUse) -> Result<Self> {
        let map = Arc::new(platform.map_mut(file, header.segment_len as usize)?);
        platform.prefault_mut(&map)?;
        let path = names.index(header.segment_id);
        let index_writer = match index {
            IndexUse::Fresh => IndexWriter::create(
                platform,
                &path,
                header.queue_id,
                header.segment_id,
                header.segment_len,
                header.salt,
            )?,
            IndexUse::Keep => IndexWriter::keep(platform, &path, header)?,
        };
        Ok(Segment { id: header.segment_id, header: *header, map, index: index_writer })
    }
}

/// What to do with the index that a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexUse {
    /// Empty it.
    Fresh,
    /// Keep its entries, if it is this segment's.
    Keep,
}

/// What the start of a segment's file says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) id: u64,
    pub(crate) header: Header,
    pub(crate) begin: Option<Begin>,
    pub(crate) seal: Option<Seal>,
}

/// Reads a segment's head with `read_at` and checks it against its name and its queue.
pub(crate) fn head<P: Platform>(path: &Path, file: &P::File, id: u64, queue_id: [u8; 16]) -> Result<Head> {
    let mut bytes = [0; HEADER_LEN];
    let read = file.read_at(&mut bytes, 0)?;
    let header = Header::parse(&bytes[..read]).map_err(|damage| Error::damage(path, damage))?;
    let field = |offset, name, found| Err(Error::damage(path, Damage::at(offset, Fault::Field { name, found })));
    if header.queue_id != queue_id {
        let [a, b, c, d, e, f, g, h, ..] = header.queue_id;
        return field(24, "queue_id", u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
    if header.segment_id != id || id >= COUNT_END {
        return field(40, "segment_id", header.segment_id);
    }
    if header.segment_len == 0 {
        return field(68, "segment_len", 0);
    }
    let len = file.len()?;
    if len < header.segment_len.into() {
        let fault = Fault::Short { needed: header.segment_len.into(), found: len };
        return Err(Error::damage(path, Damage::at(len, fault)));
    }
    Ok(Head { id, header, begin: Begin::parse(&bytes, header.salt), seal: Seal::parse(&bytes, header.salt) })
}

/// The queue's segments by id, as their names say.
pub(crate) fn ids<P: Platform>(platform: &P, names: &Names) -> Result<Vec<u64>> {
    let entries = platform.list(names.dir())?;
    Ok(entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| super::names::segment_id(&entry.name)).collect())
}
