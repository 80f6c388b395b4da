//! The machine behind a simulator: its files and names, who has what open and locked, its clocks, and when it fails.

use super::{
    Faults, Medium,
    content::{Content, Survival},
    flight::Flight,
    names::{Edit, Inode, Names, ROOT},
    pages::count,
    random::Random,
    survivors::Fate,
};
use crate::Lock;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Component, Path, PathBuf},
    thread::ThreadId,
    time::Duration,
};

// The numbers that Linux and Darwin agree on.
pub(super) const EPERM: i32 = 1;
pub(super) const ENOENT: i32 = 2;
pub(super) const EIO: i32 = 5;
pub(super) const EBADF: i32 = 9;
pub(super) const EACCES: i32 = 13;
pub(super) const EEXIST: i32 = 17;
pub(super) const EXDEV: i32 = 18;
pub(super) const ENOTDIR: i32 = 20;
pub(super) const EISDIR: i32 = 21;
pub(super) const EINVAL: i32 = 22;
pub(super) const ENOSPC: i32 = 28;

pub(super) fn errno<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

/// An open file description.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) inode: Inode,
    pub(super) pid: u32,
    pub(super) writable: bool,
    pub(super) lock: Option<Lock>,
    /// Failed syncs that it has been told of, or that were before its time.
    pub(super) told: u64,
}

pub(super) struct Machine {
    pub(super) random: Random,
    pub(super) boot_id: u128,
    pub(super) faults: Faults,
    pub(super) off: bool,
    pub(super) crash_at: Option<u64>,
    /// Processes that will be killed, and at which operation.
    pub(super) kill_at: BTreeMap<u32, u64>,
    pub(super) dead: BTreeSet<u32>,
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) last: (&'static str, PathBuf),
    pub(super) wall_ns: u64,
    pub(super) monotonic_ns: u64,

    pub(super) names: Names,
    pub(super) files: BTreeMap<Inode, Content>,
    /// Directories and files on a medium that forgets.
    pub(super) memory: BTreeSet<Inode>,
    pub(super) memory_dirs: Vec<PathBuf>,
    pub(super) read_only: BTreeSet<PathBuf>,
    pub(super) descriptions: BTreeMap<u64, Description>,
    next_inode: Inode,
    next_description: u64,
    next_pid: u32,
    /// Operations that drivers of logs have taken and not told the end of.
    pub(super) in_flight: Vec<Flight>,
    /// Writes of drivers so far.
    pub(super) writes: u64,
    next_driver: u64,
    /// Threads that keep to one processor.
    pub(super) pinned: HashMap<ThreadId, u32>,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Machine {
        let mut random = Random::new(seed);
        Machine {
            boot_id: random.next128(),
            random,
            faults: Faults::default(),
            off: false,
            crash_at: None,
            kill_at: BTreeMap::new(),
            dead: BTreeSet::new(),
            operations: 0,
            syncs: 0,
            last: ("boot", PathBuf::new()),
            wall_ns: 1_700_000_000_000_000_000,
            monotonic_ns: 1_000_000_000,
            names: Names::new(),
            files: BTreeMap::new(),
            memory: BTreeSet::new(),
            memory_dirs: Vec::new(),
            read_only: BTreeSet::new(),
            descriptions: BTreeMap::new(),
            next_inode: ROOT + 1,
            next_description: 1,
            next_pid: 100,
            in_flight: Vec::new(),
            writes: 0,
            next_driver: 1,
            pinned: HashMap::new(),
        }
    }

    /// Cuts the power. What is left is as chance has it.
    pub(super) fn crash(&mut self) -> Machine {
        self.off = true;
        let survival = Survival::draw(&mut self.random);
        let seed = self.random.next();
        self.survivor(survival, Random::new(seed))
    }

    /// What is left after a power cut, booted again a minute later.
    pub(super) fn survivor(&self, survival: Survival, mut random: Random) -> Machine {
        let names = self.names.survivor(survival, &mut random, |inode| self.memory.contains(&inode));
        let named = names.named();
        let mut files = BTreeMap::new();
        for (&inode, content) in self.files.iter().filter(|(inode, _)| named.contains(inode)) {
            let on_its_way = self.in_flight.iter().filter(|flight| flight.inode == inode);
            let on_its_way: Vec<_> = on_its_way.filter_map(Flight::write).collect();
            let left = content.survivor(survival, &mut random, self.faults.garbage, |pages, random| {
                for write in on_its_way {
                    let fate = match survival {
                        Survival::Nothing => Fate::Lost,
                        Survival::Everything => Fate::Kept,
                        Survival::Some => Fate::draw(random),
                    };
                    fate.apply(write, pages, self.faults.garbage.then_some(random));
                }
            });
            files.insert(inode, left);
        }
        self.booted(random, names, files)
    }

    /// The machine, booted again with these files.
    pub(super) fn booted(&self, mut random: Random, names: Names, files: BTreeMap<Inode, Content>) -> Machine {
        Machine {
            boot_id: random.next128(),
            random,
            // What was counted from the last boot is over.
            faults: Faults {
                failing_operation: None,
                failing_sync: None,
                short_write: None,
                failing_write: None,
                ..self.faults.clone()
            },
            wall_ns: self.wall_ns + 60_000_000_000,
            memory: self.memory.iter().copied().filter(|&inode| names.is_dir(inode)).collect(),
            memory_dirs: self.memory_dirs.clone(),
            read_only: self.read_only.clone(),
            next_inode: self.next_inode,
            names,
            files,
            ..Machine::new(0)
        }
    }

    pub(super) fn advance(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_ns = self.monotonic_ns.saturating_add(ns);
        self.wall_ns = self.wall_ns.saturating_add(ns);
    }

    // Processes.

    pub(super) fn next_pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    pub(super) fn kill(&mut self, pid: u32) {
        self.dead.insert(pid);
        self.descriptions.retain(|_, description| description.pid != pid);
        self.in_flight.retain(|flight| flight.pid != pid || flight.outlives_its_process());
    }

    pub(super) fn next_driver(&mut self) -> u64 {
        self.next_driver += 1;
        self.next_driver
    }

    // The kernel's leisure.

    /// Perhaps writes back a few pages, as chance has it.
    pub(super) fn maybe_write_back(&mut self) {
        if self.random.one_in(self.faults.write_back_one_in) {
            self.write_back();
        }
    }

    pub(super) fn write_back(&mut self) {
        let files: Vec<Inode> = self.files.keys().copied().filter(|inode| !self.memory.contains(inode)).collect();
        if files.is_empty() {
            return;
        }
        for _ in 0..=self.random.below(4) {
            let inode = files[self.random.below(files.len() as u64) as usize];
            if let Some(content) = self.files.get_mut(&inode) {
                let number = self.random.below(count(content.live.len()));
                content.write_back(number);
            }
        }
    }

    // Paths.

    /// Directory and name of a path; no name for the root.
    pub(super) fn locate(&self, path: &Path) -> io::Result<(Inode, Option<String>)> {
        let mut dir = ROOT;
        let mut name: Option<String> = None;
        for component in path.components() {
            let Component::Normal(component) = component else {
                if component == Component::ParentDir {
                    return errno(EINVAL);
                }
                continue;
            };
            if let Some(above) = name.take() {
                dir = self.names.find(dir, &above).map_or_else(|| errno(ENOENT), Ok)?;
                if !self.names.is_dir(dir) {
                    return errno(ENOTDIR);
                }
            }
            name = Some(component.to_str().map_or_else(|| errno(EINVAL), Ok)?.to_owned());
        }
        Ok((dir, name))
    }

    /// What a path names.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Inode> {
        match self.locate(path)? {
            (dir, None) => Ok(dir),
            (dir, Some(name)) => self.names.find(dir, &name).map_or_else(|| errno(ENOENT), Ok),
        }
    }

    pub(super) fn resolve_dir(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.resolve(path)?;
        if self.names.is_dir(inode) { Ok(inode) } else { errno(ENOTDIR) }
    }

    pub(super) fn check_writable(&self, path: &Path) -> io::Result<()> {
        if self.read_only.iter().any(|dir| path.starts_with(dir)) { errno(EACCES) } else { Ok(()) }
    }

    pub(super) fn medium(&self, inode: Inode) -> Medium {
        if self.memory.contains(&inode) { Medium::Memory } else { Medium::Disk }
    }

    // Names.

    /// A new file or directory under a free name, on its directory's medium.
    pub(super) fn create(&mut self, dir: Inode, name: String, is_dir: bool) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        if is_dir {
            self.names.add_dir(inode);
        } else {
            self.files.insert(inode, Content::new(self.wall_ns));
        }
        if self.memory.contains(&dir) {
            self.memory.insert(inode);
        }
        self.names.edit(vec![Edit { dir, name, before: None, after: Some(inode) }]);
        inode
    }

    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.locate(path)?;
        let Some(name) = name else {
            return errno(EEXIST);
        };
        if self.names.find(dir, &name).is_some() {
            return errno(EEXIST);
        }
        self.check_writable(path)?;
        self.create(dir, name, true);
        Ok(())
    }

    pub(super) fn mount_memory(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.resolve_dir(path)?;
        self.memory.insert(inode);
        self.memory_dirs.push(path.to_owned());
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.locate(from)?;
        let (to_dir, to_name) = self.locate(to)?;
        let (Some(from_name), Some(to_name)) = (from_name, to_name) else {
            return errno(EINVAL);
        };
        let Some(inode) = self.names.find(from_dir, &from_name) else {
            return errno(ENOENT);
        };
        self.check_writable(from)?;
        self.check_writable(to)?;
        if self.medium(from_dir) != self.medium(to_dir) {
            return errno(EXDEV);
        }
        let replaced = self.names.find(to_dir, &to_name);
        if replaced == Some(inode) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            match (self.names.is_dir(inode), self.names.is_dir(replaced)) {
                (false, true) => return errno(EISDIR),
                (true, false) => return errno(ENOTDIR),
                (true, true) if self.names.entries(replaced).next().is_some() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        if to.starts_with(from) {
            return errno(EINVAL);
        }
        self.names.edit(vec![
            Edit { dir: from_dir, name: from_name, before: Some(inode), after: None },
            Edit { dir: to_dir, name: to_name, before: replaced, after: Some(inode) },
        ]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, a_dir: bool) -> io::Result<()> {
        let (dir, name) = self.locate(path)?;
        let Some(name) = name else {
            return errno(EINVAL);
        };
        let Some(inode) = self.names.find(dir, &name) else {
            return errno(ENOENT);
        };
        self.check_writable(path)?;
        match (self.names.is_dir(inode), a_dir) {
            (true, false) => return errno(EISDIR),
            (false, true) => return errno(ENOTDIR),
            (true, true) if self.names.entries(inode).next().is_some() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.names.edit(vec![Edit { dir, name, before: Some(inode), after: None }]);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.resolve_dir(path)?;
        if self.sync_goes_through(dir)? {
            self.names.sync(dir);
            self.forget_the_nameless();
        }
        Ok(())
    }

    /// Drops files that nobody can reach any more.
    fn forget_the_nameless(&mut self) {
        let open = self.open_inodes();
        let known = self.names.known();
        self.files.retain(|inode, content| open.contains(inode) || content.live.is_mapped() || known.contains(inode));
    }

    /// Files that somebody has open, or is still writing to.
    fn open_inodes(&self) -> BTreeSet<Inode> {
        let written = self.in_flight.iter().map(|flight| flight.inode);
        self.descriptions.values().map(|description| description.inode).chain(written).collect()
    }

    // Space and syncs.

    /// Bytes left on the medium of an inode.
    pub(super) fn free_bytes(&self, inode: Inode) -> u64 {
        let medium = self.medium(inode);
        let size = match medium {
            Medium::Disk => self.faults.disk_bytes,
            Medium::Memory => self.faults.memory_bytes,
        };
        if size == u64::MAX {
            return size;
        }
        let open = self.open_inodes();
        let named = self.names.named();
        let held = |inode: &Inode, content: &Content| {
            open.contains(inode) || content.live.is_mapped() || named.contains(inode)
        };
        let used = self.files.iter().filter(|(inode, content)| self.medium(**inode) == medium && held(inode, content));
        size.saturating_sub(used.map(|(_, content)| content.used()).sum())
    }

    /// Counts a sync, and says whether it reaches the medium; fails where a fault is due.
    pub(super) fn sync_goes_through(&mut self, inode: Inode) -> io::Result<bool> {
        self.syncs += 1;
        if self.medium(inode) == Medium::Memory {
            return Ok(true);
        }
        if self.faults.failing_sync == Some(self.syncs) || self.random.one_in(self.faults.sync_fails_one_in) {
            return errno(EIO);
        }
        Ok(!self.faults.lying_sync)
    }

    pub(super) fn sync_file(&mut self, description: u64) -> io::Result<()> {
        let inode = self.descriptions[&description].inode;
        let goes_through = self.sync_goes_through(inode);
        let content = self.files.get_mut(&inode).expect("bug: an open file has content");
        let told = &mut self.descriptions.get_mut(&description).expect("bug: looked up above").told;
        match goes_through {
            Err(error) => {
                content.fail_sync(&mut self.random);
                *told = content.errors;
                Err(error)
            }
            Ok(reaches) => {
                if reaches {
                    content.sync();
                }
                // An earlier failure is told once to every description that was open then, and to no later one.
                let news = *told != content.errors;
                *told = content.errors;
                if news { errno(EIO) } else { Ok(()) }
            }
        }
    }

    /// A new file without a name, in memory.
    pub(super) fn create_nameless(&mut self) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.files.insert(inode, Content::new(self.wall_ns));
        self.memory.insert(inode);
        inode
    }

    // Descriptions.

    pub(super) fn open(&mut self, inode: Inode, pid: u32, writable: bool) -> u64 {
        let id = self.next_description;
        self.next_description += 1;
        let told = self.files[&inode].errors;
        self.descriptions.insert(id, Description { inode, pid, writable, lock: None, told });
        id
    }

    pub(super) fn try_lock(&mut self, id: u64, lock: Lock) -> bool {
        let inode = self.descriptions[&id].inode;
        let conflict =
            self.descriptions.iter().filter(|(other, description)| **other != id && description.inode == inode).any(
                |(_, description)| match lock {
                    Lock::Shared => description.lock == Some(Lock::Exclusive),
                    Lock::Exclusive => description.lock.is_some(),
                },
            );
        // A failed conversion loses what was held, as on Linux.
        let held = if conflict { None } else { Some(lock) };
        self.descriptions.get_mut(&id).expect("bug: looked up above").lock = held;
        !conflict
    }

    /// The content of an open file.
    pub(super) fn content(&mut self, id: u64) -> &mut Content {
        let inode = self.descriptions[&id].inode;
        self.files.get_mut(&inode).expect("bug: an open file has content")
    }

    /// The same, for a description that may write.
    pub(super) fn writable(&mut self, id: u64) -> io::Result<&mut Content> {
        if !self.descriptions[&id].writable {
            return errno(EBADF);
        }
        Ok(self.content(id))
    }

    /// Room for `start..end` of an open file, and where it ended if there was not enough.
    pub(super) fn allocate(&mut self, id: u64, start: u64, end: u64) -> io::Result<Result<(), u64>> {
        let content = self.writable(id)?;
        if content.sealed && end > content.live.len() {
            return errno(EPERM);
        }
        let free = self.free_bytes(self.descriptions[&id].inode);
        Ok(self.content(id).allocate(start, end, free))
    }
}
