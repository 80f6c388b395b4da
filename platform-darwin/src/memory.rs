//! Memory without a file that lasts: POSIX shared memory, whose name is removed at once where none was asked for.
//!
//! Its length is set once, which Darwin itself insists on, and its pages are made present one by one. There are no seals,
//! huge pages for shared memory, or nodes: what was wished of that is answered with the reason.

use crate::{DarwinFile, DarwinMapMut, lease};
use chronicle_core::Region;
use chronicle_platform::{
    File, Memory, MemoryOptions, Open, PageSize, Pages, Placement, Result, Trouble, is_memory_name, memory_len,
};
use rustix::{io::Errno, param::page_size, shm};
use std::path::Path;

/// Stands for the path of memory that has none.
const NAMELESS: &str = "memory";

pub(crate) fn make(len: usize, options: &MemoryOptions<'_>) -> Result<Memory<crate::Darwin>> {
    let path = options.name.unwrap_or(NAMELESS);
    let whole = memory_len(len, page_size()).ok_or_else(|| {
        let trouble = Trouble::new("make memory", path, Errno::INVAL);
        trouble.noting(format!("{len} bytes are no multiple of 4 above 0, or too many"))
    })?;
    let file = match options.name {
        Some(name) => open_by("make memory", name, shm::OFlags::RDWR | shm::OFlags::CREATE | shm::OFlags::EXCL)?,
        None => {
            // Nobody else draws this name, and it is gone before anybody could.
            let name = format!("chronicle-{:016x}", lease::random() as u64);
            let file = open_by("make memory", &name, shm::OFlags::RDWR | shm::OFlags::CREATE | shm::OFlags::EXCL)?;
            remove(&name)?;
            file
        }
    };
    let mapped = file.set_len(whole as u64).and_then(|()| DarwinMapMut::new(&file, 0, whole));
    let mapped = mapped.and_then(|map| map.prefault().map(|()| map));
    let map = match (mapped, options.name) {
        (Err(trouble), Some(name)) => {
            // The failure that led here is the news.
            _ = remove(name);
            return Err(trouble);
        }
        (mapped, _) => mapped?,
    };
    let pages = match options.pages {
        PageSize::Base => Pages { asked: PageSize::Base, got: PageSize::Base, huge_bytes: None, why: None },
        asked => Pages { asked, ..ask_huge(&map) },
    };
    let placement = place(&map, options.node);
    Ok(Memory { file, map, pages, placement })
}

fn open_by(operation: &'static str, name: &str, flags: shm::OFlags) -> Result<DarwinFile> {
    if !is_memory_name(name) {
        let note = "a name for shared memory is 1 to 30 of a-z A-Z 0-9 . - _, not beginning with a dot";
        return Err(Trouble::new(operation, name, Errno::INVAL).noting(note));
    }
    let mode = shm::Mode::RUSR | shm::Mode::WUSR | shm::Mode::RGRP;
    let fd = shm::open(format!("/{name}"), flags, mode).map_err(|errno| Trouble::new(operation, name, errno))?;
    Ok(DarwinFile::new(fd.into(), Path::new(name)))
}

pub(crate) fn open(name: &str, how: Open) -> Result<DarwinFile> {
    let flags = match how {
        Open::Read => shm::OFlags::RDONLY,
        Open::Write => shm::OFlags::RDWR,
        _ => return Err(Trouble::new("open memory", name, Errno::INVAL)),
    };
    open_by("open memory", name, flags)
}

pub(crate) fn remove(name: &str) -> Result<()> {
    shm::unlink(format!("/{name}")).map_err(|errno| Trouble::new("remove memory", name, errno))
}

/// Says that there are none.
pub(crate) fn ask_huge(_map: &DarwinMapMut) -> Pages {
    let why = Some("Darwin has no huge pages for shared memory".to_owned());
    Pages { asked: PageSize::Transparent, got: PageSize::Base, huge_bytes: None, why }
}

/// Says that there are none.
pub(crate) fn place(map: &DarwinMapMut, node: Option<u32>) -> Placement {
    let why = node.map(|node| format!("Darwin has no nodes: {} bytes are not on node {node} in particular", map.len()));
    Placement { asked: node, got: None, why }
}
