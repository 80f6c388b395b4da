//! The disk: what processes see of it, and what would be left if the power went now.
//!
//! A file has two contents, `live` and `durable`, and a list of *pending* changes that are in the first and not surely in
//! the second. A sync moves what was pending when it began; a durable write moves itself and nothing else. Directories
//! likewise: an edit of names is pending until one of its directories is synced; the sync of a file says nothing about
//! its name.
//!
//! A power cut keeps of the pending changes what it likes, in sectors of 512 bytes, in any order; a sector that was on its
//! way may hold noise. A failed sync is what Linux makes of it: everything is clean afterwards, some of it never
//! written, read as new until the power goes.
//!
//! Independent of the simulator's model on purpose: the two check each other.

use crate::control::{Action, Counts, Fault, Kind, Survival};
use libc::{EEXIST, EINVAL, EIO, EISDIR, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

/// The root directory.
pub const ROOT: u64 = 1;

/// What tears, at most.
const SECTOR: usize = 512;

/// What space is counted in.
const BLOCK: u64 = 4096;

/// `Result` whose error is an errno.
pub type Result<T> = std::result::Result<T, i32>;

/// A disk. Its methods are what FUSE asks for; they block for as long as a [`Fault`] says.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
}

/// What `stat` says of a file or directory.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes.
    pub len: u64,
    /// Bytes of storage behind it.
    pub used: u64,
    /// Mode, without the type.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub modified: SystemTime,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<u64, File>,
    names: Names,
    next_inode: u64,
    next_change: u64,
    capacity: u64,
    counts: Counts,
    faults: Vec<(Fault, u64)>,
    dice: Dice,
    /// The power is gone: nothing is answered any more.
    dead: bool,
}

#[derive(Clone, Debug)]
struct File {
    attributes: Attributes,
    /// Its last name, for faults.
    name: String,
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    blocks: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Pending {
    id: u64,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Bytes { offset: usize, data: Vec<u8> },
    Length(usize),
}

/// What an operation met.
#[derive(Default)]
struct Met {
    delay: Duration,
    action: Option<Action>,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Disk {
        let mut names = Names::default();
        names.add_dir(ROOT);
        let mut state = State {
            files: BTreeMap::new(),
            names,
            next_inode: ROOT,
            next_change: 1,
            capacity: u64::MAX,
            counts: Counts::default(),
            faults: Vec::new(),
            dice: Dice(seed),
            dead: false,
        };
        state.add(true, 0o755, (0, 0), "");
        Disk { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this goes wrong, besides what already does.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push((fault, 0));
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.state().faults.clear();
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Room for so many bytes from now on.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// The power goes.
    pub fn cut(&self) {
        self.state().dead = true;
    }

    /// What is left if the power goes now, or was left when it went.
    #[must_use]
    pub fn survivor(&self, seed: u64, survival: Survival) -> Disk {
        let state = self.state();
        let mut dice = Dice(seed);
        let names = state.names.survivor(survival, &mut dice);
        let named = names.named();
        let files = state
            .files
            .iter()
            .filter(|(inode, _)| **inode == ROOT || named.contains(inode))
            .map(|(&inode, file)| (inode, file.survivor(survival, &mut dice)))
            .collect();
        Disk {
            state: Mutex::new(State {
                files,
                names,
                next_inode: state.next_inode,
                next_change: 1,
                capacity: state.capacity,
                counts: Counts::default(),
                faults: Vec::new(),
                dice,
                dead: false,
            }),
        }
    }

    // Looking.

    /// The inode of a name.
    pub fn lookup(&self, dir: u64, name: &str) -> Result<u64> {
        self.state().alive()?.names.find(dir, name).ok_or(ENOENT)
    }

    /// What `stat` says.
    pub fn attributes(&self, inode: u64) -> Result<Attributes> {
        let state = self.state();
        let file = state.alive()?.files.get(&inode).ok_or(ENOENT)?;
        Ok(Attributes {
            len: file.live.len() as u64,
            used: file.blocks.len() as u64 * BLOCK,
            ..file.attributes.clone()
        })
    }

    /// Names in a directory: inode, whether it is one itself, name.
    pub fn list(&self, dir: u64) -> Result<Vec<(u64, bool, String)>> {
        let state = self.state();
        let entries = state.alive()?.names.live.get(&dir).ok_or(ENOTDIR)?;
        Ok(entries.iter().map(|(name, &inode)| (inode, state.names.live.contains_key(&inode), name.clone())).collect())
    }

    /// Bytes of a file.
    pub fn read(&self, inode: u64, offset: u64, len: usize) -> Result<Vec<u8>> {
        let state = self.state();
        let live = &state.alive()?.files.get(&inode).ok_or(ENOENT)?.live;
        let start = live.len().min(usize::try_from(offset).map_err(|_| EINVAL)?);
        Ok(live[start..live.len().min(start + len)].to_vec())
    }

    /// Capacity and what is left of it.
    pub fn space(&self) -> (u64, u64) {
        let state = self.state();
        let capacity = state.capacity.min(1 << 40);
        (capacity, capacity.saturating_sub(state.used()))
    }

    // Files.

    /// Writes; durable by itself if `sync`. How much was written.
    pub fn write(&self, inode: u64, offset: u64, data: &[u8], sync: bool) -> Result<usize> {
        let mut state = self.state();
        let kind = if sync { Kind::SyncWrite } else { Kind::Write };
        let met = state.meet(kind, inode)?;
        let offset = usize::try_from(offset).map_err(|_| EINVAL)?;
        let mut len = data.len();
        match met.action {
            Some(Action::Fail(ENOSPC)) => return Err(ENOSPC),
            Some(Action::Fail(errno)) => {
                // Sectors of it land, or do not, and who reads them meanwhile sees the same.
                for (at, sector) in sectors(offset, data) {
                    if state.dice.coin() {
                        let change = state.change(Change::Bytes { offset: at, data: sector.to_vec() });
                        let file = state.file(inode)?;
                        file.apply(change.clone());
                        file.harden(|pending| pending.id == change.id);
                    }
                }
                return Err(errno);
            }
            Some(Action::Short(most)) => len = len.min(most as usize),
            Some(Action::Cut) => {
                let change = state.change(Change::Bytes { offset, data: data.to_vec() });
                state.file(inode)?.apply(change);
                state.dead = true;
                return Err(EIO);
            }
            Some(Action::Delay(_)) | None => {}
        }
        let len = state.reserve(inode, offset, len)?;
        let change = state.change(Change::Bytes { offset, data: data[..len].to_vec() });
        let id = change.id;
        // One that takes its time is seen late as well: of a process that was killed meanwhile it lands behind its death.
        state.file(inode)?.pending.push(change.clone());
        let mut state = self.delayed(state, met.delay)?;
        state.file(inode)?.show(&change);
        if sync {
            state.file(inode)?.harden(|pending| pending.id == id);
        }
        Ok(len)
    }

    /// Makes what was written before this call durable.
    pub fn sync(&self, inode: u64) -> Result<()> {
        let mut state = self.state();
        let met = state.meet(Kind::Sync, inode)?;
        let end = state.next_change;
        let mut state = self.delayed(state, met.delay)?;
        match met.action {
            Some(Action::Fail(errno)) => {
                let mut dice = state.dice.clone();
                let file = state.file(inode)?;
                file.durable = file.survivor(Survival::Some, &mut dice).durable;
                file.pending.clear();
                state.dice = dice;
                Err(errno)
            }
            Some(Action::Cut) => {
                state.dead = true;
                Err(EIO)
            }
            _ => {
                state.file(inode)?.harden(|pending| pending.id < end);
                Ok(())
            }
        }
    }

    /// Cuts or extends, with a hole.
    pub fn resize(&self, inode: u64, len: u64) -> Result<()> {
        let mut state = self.state();
        let met = state.meet(Kind::Resize, inode)?;
        let change = state.change(Change::Length(usize::try_from(len).map_err(|_| EINVAL)?));
        state.edit(met, |state| {
            let file = state.file(inode)?;
            file.apply(change);
            file.blocks.split_off(&len.div_ceil(BLOCK));
            Ok(())
        })
    }

    /// Storage behind the bytes of a range; extends the file if `extend`.
    pub fn allocate(&self, inode: u64, offset: u64, len: u64, extend: bool) -> Result<()> {
        let mut state = self.state();
        let met = state.meet(Kind::Allocate, inode)?;
        let start = usize::try_from(offset).map_err(|_| EINVAL)?;
        let wanted = usize::try_from(len).map_err(|_| EINVAL)?;
        let end = start.checked_add(wanted).ok_or(EINVAL)?;
        let change = state.change(Change::Length(end));
        state.edit(met, |state| {
            if state.reserve(inode, start, wanted)? < wanted {
                return Err(ENOSPC);
            }
            let file = state.file(inode)?;
            if extend && end > file.live.len() {
                file.apply(change);
            }
            Ok(())
        })
    }

    /// Changes mode or owner.
    pub fn set_owner(&self, inode: u64, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let mut state = self.state();
        let attributes = &mut state.alive_mut()?.files.get_mut(&inode).ok_or(ENOENT)?.attributes;
        attributes.mode = mode.map_or(attributes.mode, |mode| mode as u16 & 0o7777);
        attributes.uid = uid.unwrap_or(attributes.uid);
        attributes.gid = gid.unwrap_or(attributes.gid);
        Ok(())
    }

    // Names.

    /// Makes a file or a directory.
    pub fn create(&self, dir: u64, name: &str, is_dir: bool, mode: u32, owner: (u32, u32)) -> Result<u64> {
        let mut state = self.state();
        let met = state.meet_name(Kind::Create, name)?;
        if state.names.find(dir, name).is_some() {
            return Err(EEXIST);
        }
        let mut inode = 0;
        state.edit(met, |state| {
            inode = state.add(is_dir, mode, owner, name);
            state.names.edit(vec![Edit { dir, name: name.into(), before: None, after: Some(inode) }])
        })?;
        Ok(inode)
    }

    /// Removes a name.
    pub fn remove(&self, dir: u64, name: &str, is_dir: bool) -> Result<()> {
        let mut state = self.state();
        let met = state.meet_name(Kind::Remove, name)?;
        let inode = state.names.find(dir, name).ok_or(ENOENT)?;
        match (is_dir, state.names.live.get(&inode)) {
            (true, None) => return Err(ENOTDIR),
            (false, Some(_)) => return Err(EISDIR),
            (true, Some(entries)) if !entries.is_empty() => return Err(ENOTEMPTY),
            _ => {}
        }
        state.edit(met, |state| {
            state.names.edit(vec![Edit { dir, name: name.into(), before: Some(inode), after: None }])
        })
    }

    /// Renames, replacing the target unless `exclusive`.
    pub fn rename(&self, from: (u64, &str), to: (u64, &str), exclusive: bool) -> Result<()> {
        let mut state = self.state();
        let met = state.meet_name(Kind::Rename, to.1)?;
        let inode = state.names.find(from.0, from.1).ok_or(ENOENT)?;
        let replaced = state.names.find(to.0, to.1);
        if exclusive && replaced.is_some() {
            return Err(EEXIST);
        }
        state.edit(met, |state| {
            if let Some(file) = state.files.get_mut(&inode) {
                file.name = to.1.into();
            }
            state.names.edit(vec![
                Edit { dir: from.0, name: from.1.into(), before: Some(inode), after: None },
                Edit { dir: to.0, name: to.1.into(), before: replaced, after: Some(inode) },
            ])
        })
    }

    /// Makes what happened in a directory before this call durable.
    pub fn sync_dir(&self, dir: u64) -> Result<()> {
        let mut state = self.state();
        let met = state.meet(Kind::SyncDir, dir)?;
        let end = state.names.pending.len();
        match met.action {
            Some(Action::Fail(errno)) => Err(errno),
            Some(Action::Cut) => {
                state.dead = true;
                Err(EIO)
            }
            _ => {
                let mut state = self.delayed(state, met.delay)?;
                state.names.sync(dir, end);
                Ok(())
            }
        }
    }

    /// Lets others work for a while. The power may go meanwhile.
    fn delayed<'s>(&'s self, state: MutexGuard<'s, State>, delay: Duration) -> Result<MutexGuard<'s, State>> {
        if delay.is_zero() {
            return Ok(state);
        }
        drop(state);
        thread::sleep(delay);
        let state = self.state();
        state.alive()?;
        Ok(state)
    }
}

impl State {
    fn alive(&self) -> Result<&State> {
        if self.dead { Err(EIO) } else { Ok(self) }
    }

    fn alive_mut(&mut self) -> Result<&mut State> {
        if self.dead { Err(EIO) } else { Ok(self) }
    }

    fn file(&mut self, inode: u64) -> Result<&mut File> {
        self.files.get_mut(&inode).ok_or(ENOENT)
    }

    fn add(&mut self, is_dir: bool, mode: u32, (uid, gid): (u32, u32), name: &str) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        let mode = mode as u16 & 0o7777;
        let attributes = Attributes { is_dir, len: 0, used: 0, mode, uid, gid, modified: SystemTime::now() };
        let file = File {
            attributes,
            name: name.into(),
            live: Vec::new(),
            durable: Vec::new(),
            pending: Vec::new(),
            blocks: BTreeSet::new(),
        };
        self.files.insert(inode, file);
        if is_dir {
            self.names.add_dir(inode);
        }
        inode
    }

    fn meet(&mut self, kind: Kind, inode: u64) -> Result<Met> {
        let name = self.alive()?.files.get(&inode).ok_or(ENOENT)?.name.clone();
        self.meet_name(kind, &name)
    }

    fn meet_name(&mut self, kind: Kind, name: &str) -> Result<Met> {
        self.alive_mut()?.counts.of[kind as usize] += 1;
        let mut met = Met::default();
        for (fault, seen) in &mut self.faults {
            if !fault.kinds.contains(&kind) || !name.ends_with(&fault.suffix) {
                continue;
            }
            *seen += 1;
            if *seen < fault.nth || *seen - fault.nth >= fault.times {
                continue;
            }
            match fault.action {
                Action::Delay(ms) => met.delay += Duration::from_millis(ms),
                action => met.action = Some(action),
            }
        }
        Ok(met)
    }

    /// An operation that is whole or not at all.
    fn edit(&mut self, met: Met, edit: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        if let Some(Action::Fail(errno)) = met.action {
            return Err(errno);
        }
        if !met.delay.is_zero() {
            // With everything locked: names and lengths change in one order.
            thread::sleep(met.delay);
        }
        let done = edit(self);
        if met.action == Some(Action::Cut) {
            self.dead = true;
            return Err(EIO);
        }
        done
    }

    fn change(&mut self, change: Change) -> Pending {
        self.next_change += 1;
        Pending { id: self.next_change - 1, change }
    }

    fn used(&self) -> u64 {
        let named = self.names.named();
        self.files.iter().filter(|(inode, _)| named.contains(inode)).map(|(_, f)| f.blocks.len() as u64 * BLOCK).sum()
    }

    /// Storage behind a range: how much of it there is room for, an error if none.
    fn reserve(&mut self, inode: u64, offset: usize, len: usize) -> Result<usize> {
        let mut free = self.capacity.saturating_sub(if self.capacity == u64::MAX { 0 } else { self.used() }) / BLOCK;
        let (start, end) = (offset as u64, (offset + len) as u64);
        let blocks = &mut self.file(inode)?.blocks;
        for number in start / BLOCK..end.div_ceil(BLOCK) {
            if !blocks.contains(&number) {
                if free == 0 {
                    let room = (number * BLOCK).saturating_sub(start) as usize;
                    return if room == 0 { Err(ENOSPC) } else { Ok(room) };
                }
                free -= 1;
                blocks.insert(number);
            }
        }
        Ok(len)
    }
}

impl File {
    /// A change, visible at once.
    fn apply(&mut self, pending: Pending) {
        self.show(&pending);
        self.pending.push(pending);
    }

    fn show(&mut self, pending: &Pending) {
        pending.change.apply(&mut self.live);
        self.attributes.modified = SystemTime::now();
    }

    /// Makes pending changes durable.
    fn harden(&mut self, which: impl Fn(&Pending) -> bool) {
        let mut left = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            if which(&pending) {
                pending.change.apply(&mut self.durable);
                // What is older can no longer come back where this is.
                left = left.into_iter().flat_map(|older: Pending| older.outside(&pending.change)).collect();
            } else {
                left.push(pending);
            }
        }
        self.pending = left;
    }

    /// What a power cut leaves.
    fn survivor(&self, survival: Survival, dice: &mut Dice) -> File {
        let mut left = self.durable.clone();
        match survival {
            Survival::None => {}
            Survival::All => self.pending.iter().for_each(|pending| pending.change.apply(&mut left)),
            Survival::Some => {
                let mut pending: Vec<_> = self.pending.iter().collect();
                let style = dice.below(4);
                // As a journal would have it, or as nobody promises otherwise.
                let whole = if style == 0 { dice.below(pending.len() as u64 + 1) as usize } else { 0 };
                if style == 3 {
                    for at in (1..pending.len()).rev() {
                        pending.swap(at, dice.below(at as u64 + 1) as usize);
                    }
                }
                for (number, pending) in pending.into_iter().enumerate() {
                    match &pending.change {
                        change if number < whole => change.apply(&mut left),
                        Change::Length(_) if dice.coin() => pending.change.apply(&mut left),
                        Change::Length(_) => {}
                        Change::Bytes { .. } if style == 0 && number > whole => {}
                        Change::Bytes { offset, data } => {
                            let kept = dice.below(5);
                            for (at, sector) in sectors(*offset, data) {
                                let new = Change::Bytes { offset: at, data: sector.to_vec() };
                                match kept {
                                    0 => {}
                                    1 => new.apply(&mut left),
                                    _ if dice.below(16) == 0 => {
                                        new.apply(&mut left);
                                        // All of the sector, also what the write did not touch.
                                        let start = at / SECTOR * SECTOR;
                                        let end = left.len().min(start + SECTOR);
                                        left[start..end].iter_mut().for_each(|byte| *byte = dice.next() as u8);
                                    }
                                    _ if dice.coin() => new.apply(&mut left),
                                    _ => {}
                                }
                            }
                        }
                    }
                }
            }
        }
        let blocks = self.blocks.range(..(left.len() as u64).div_ceil(BLOCK)).copied().collect();
        File { live: left.clone(), durable: left, pending: Vec::new(), blocks, ..self.clone_without_bytes() }
    }

    fn clone_without_bytes(&self) -> File {
        File {
            attributes: self.attributes.clone(),
            name: self.name.clone(),
            live: Vec::new(),
            durable: Vec::new(),
            pending: Vec::new(),
            blocks: BTreeSet::new(),
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Length(len) => content.resize(*len, 0),
            Change::Bytes { offset, data } => {
                content.resize(content.len().max(offset + data.len()), 0);
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl Pending {
    /// What can still come of this one when a newer one is durable.
    fn outside(self, newer: &Change) -> Vec<Pending> {
        let Pending { id, change } = self;
        let changes = match (change, newer) {
            (Change::Bytes { offset, data }, Change::Bytes { offset: newer_offset, data: newer }) => {
                let end = offset + data.len();
                let before = newer_offset.clamp(&offset, &end) - offset;
                let behind = (newer_offset + newer.len()).clamp(offset, end) - offset;
                let piece =
                    |from: usize, to: usize| Change::Bytes { offset: offset + from, data: data[from..to].to_vec() };
                [piece(0, before), piece(before.max(behind), data.len())].into()
            }
            (Change::Bytes { offset, mut data }, Change::Length(len)) => {
                data.truncate(len.saturating_sub(offset));
                vec![Change::Bytes { offset, data }]
            }
            // A length from before does not come back.
            (Change::Length(_), Change::Length(_)) => vec![],
            (Change::Length(older), Change::Bytes { offset, data }) => {
                vec![Change::Length(older.max(offset + data.len()))]
            }
        };
        let is_empty = |change: &Change| matches!(change, Change::Bytes { data, .. } if data.is_empty());
        changes.into_iter().filter(|change| !is_empty(change)).map(|change| Pending { id, change }).collect()
    }
}

/// A write in pieces that are torn apart or not at all.
fn sectors(offset: usize, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(data.len());
    let (head, rest) = data.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate().map(move |(n, sector)| (offset + first + n * SECTOR, sector));
    std::iter::once((offset, head)).filter(|(_, head)| !head.is_empty()).chain(rest)
}

/// What one name in one directory was and becomes.
#[derive(Clone, Debug)]
struct Edit {
    dir: u64,
    name: String,
    before: Option<u64>,
    after: Option<u64>,
}

type Tree = BTreeMap<u64, BTreeMap<String, u64>>;

#[derive(Clone, Debug, Default)]
struct Names {
    live: Tree,
    durable: Tree,
    /// Operations that are not durable yet, oldest first.
    pending: Vec<Vec<Edit>>,
}

impl Names {
    fn add_dir(&mut self, dir: u64) {
        self.live.insert(dir, BTreeMap::new());
        self.durable.insert(dir, BTreeMap::new());
    }

    fn find(&self, dir: u64, name: &str) -> Option<u64> {
        self.live.get(&dir)?.get(name).copied()
    }

    fn named(&self) -> BTreeSet<u64> {
        self.live.values().flat_map(|entries| entries.values().copied()).collect()
    }

    fn edit(&mut self, edits: Vec<Edit>) -> Result<()> {
        if edits.iter().any(|edit| !self.live.contains_key(&edit.dir)) {
            return Err(ENOTDIR);
        }
        edits.iter().for_each(|edit| edit.apply(&mut self.live));
        self.pending.push(edits);
        Ok(())
    }

    /// Makes those of the first `end` operations durable that touch `dir`.
    fn sync(&mut self, dir: u64, end: usize) {
        let mut left = Vec::new();
        for (number, edits) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if number < end && edits.iter().any(|edit| edit.dir == dir) {
                edits.iter().for_each(|edit| edit.apply(&mut self.durable));
            } else {
                left.push(edits);
            }
        }
        self.pending = left;
    }

    fn survivor(&self, survival: Survival, dice: &mut Dice) -> Names {
        let mut tree = self.durable.clone();
        let first = dice.coin().then(|| dice.below(self.pending.len() as u64 + 1) as usize);
        for (number, edits) in self.pending.iter().enumerate() {
            let survives = match (survival, first) {
                (Survival::None, _) => false,
                (Survival::All, _) => true,
                (Survival::Some, Some(first)) => number < first,
                (Survival::Some, None) => dice.coin(),
            };
            if survives {
                edits.iter().for_each(|edit| edit.apply(&mut tree));
            }
        }
        let mut kept = Tree::new();
        let mut reached = vec![ROOT];
        while let Some(dir) = reached.pop() {
            if let Some(entries) = tree.remove(&dir) {
                reached.extend(entries.values());
                kept.insert(dir, entries);
            }
        }
        Names { live: kept.clone(), durable: kept, pending: Vec::new() }
    }
}

impl Edit {
    /// A file has one name at a time: one that it gets takes the others away, which only matters where the operation that
    /// took them away did not survive.
    fn apply(&self, tree: &mut Tree) {
        match self.after {
            Some(inode) => {
                tree.values_mut().for_each(|entries| entries.retain(|_, entry| *entry != inode));
                if let Some(entries) = tree.get_mut(&self.dir) {
                    entries.insert(self.name.clone(), inode);
                }
            }
            None => {
                if let Some(entries) = tree.get_mut(&self.dir)
                    && entries.get(&self.name) == self.before.as_ref()
                {
                    entries.remove(&self.name);
                }
            }
        }
    }
}

/// SplitMix64: a seed is a story that can be told again.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_file() -> (Disk, u64) {
        let disk = Disk::new(1);
        let file = disk.create(ROOT, "a", false, 0o640, (0, 0)).unwrap();
        disk.sync_dir(ROOT).unwrap();
        (disk, file)
    }

    fn survives(disk: &Disk, survival: Survival) -> Vec<u8> {
        let left = disk.survivor(7, survival);
        let file = left.lookup(ROOT, "a").unwrap();
        left.read(file, 0, 1 << 20).unwrap()
    }

    #[test]
    fn only_what_was_synced_is_sure() {
        let (disk, file) = disk_with_file();
        disk.write(file, 0, b"first", false).unwrap();
        assert_eq!(survives(&disk, Survival::None), b"");
        assert_eq!(survives(&disk, Survival::All), b"first");
        disk.sync(file).unwrap();
        disk.write(file, 5, b" and then", false).unwrap();
        assert_eq!(survives(&disk, Survival::None), b"first");
        disk.write(file, 0, b"FIRST", true).unwrap();
        assert_eq!(survives(&disk, Survival::None), b"FIRST", "a durable write makes itself durable and nothing else");
        assert_eq!(survives(&disk, Survival::All), b"FIRST and then");
    }

    #[test]
    fn older_bytes_do_not_come_back_where_newer_ones_are_durable() {
        let (disk, file) = disk_with_file();
        disk.write(file, 0, &[1; 2048], false).unwrap();
        disk.write(file, 512, &[2; 1024], true).unwrap();
        for seed in 0..200 {
            let left = disk.survivor(seed, Survival::Some);
            let left = left.read(left.lookup(ROOT, "a").unwrap(), 0, 4096).unwrap();
            assert_eq!(left[512..1536], [2; 1024], "seed {seed}");
        }
    }

    #[test]
    fn a_torn_write_is_old_new_and_neither() {
        let (disk, file) = disk_with_file();
        disk.write(file, 0, &[1; 4096], true).unwrap();
        disk.write(file, 0, &[2; 4096], false).unwrap();
        let (mut old, mut new, mut noise, mut torn) = (0, 0, 0, 0);
        for seed in 0..500 {
            let left = disk.survivor(seed, Survival::Some);
            let left = left.read(file, 0, 4096).unwrap();
            let of = |byte| left.chunks(SECTOR).filter(|sector| *sector == [byte; SECTOR]).count();
            match (of(1), of(2)) {
                (8, _) => old += 1,
                (_, 8) => new += 1,
                (old, new) if old + new < 8 => noise += 1,
                _ => torn += 1,
            }
        }
        assert!(old > 50 && new > 50 && noise > 50 && torn > 50, "{old} old, {new} new, {noise} noise, {torn} torn");
    }

    #[test]
    fn a_failed_sync_leaves_new_bytes_to_read_and_old_ones_after() {
        let (disk, file) = disk_with_file();
        disk.write(file, 0, &[1; 1 << 16], true).unwrap();
        disk.write(file, 0, &[2; 1 << 16], false).unwrap();
        disk.fault(Fault::at(1, &[Kind::Sync], Action::Fail(EIO)));
        assert_eq!(disk.sync(file), Err(EIO));
        disk.sync(file).unwrap();
        assert_eq!(disk.read(file, 0, 1 << 16).unwrap(), [2; 1 << 16]);
        let left = survives(&disk, Survival::All);
        assert!(left.contains(&1), "a second sync that succeeds proves nothing");
    }

    #[test]
    fn names_are_durable_when_their_directory_is() {
        let (disk, file) = disk_with_file();
        disk.write(file, 0, b"x", true).unwrap();
        disk.rename((ROOT, "a"), (ROOT, "b"), false).unwrap();
        assert!(disk.survivor(0, Survival::None).lookup(ROOT, "a").is_ok());
        assert!(disk.survivor(0, Survival::All).lookup(ROOT, "b").is_ok());
        for seed in 0..50 {
            let left = disk.survivor(seed, Survival::Some);
            assert_ne!(left.lookup(ROOT, "a").is_ok(), left.lookup(ROOT, "b").is_ok(), "never both, never neither");
        }
        disk.sync_dir(ROOT).unwrap();
        assert!(disk.survivor(0, Survival::None).lookup(ROOT, "b").is_ok());
        disk.remove(ROOT, "b", false).unwrap();
        assert!(disk.survivor(0, Survival::None).lookup(ROOT, "b").is_ok());
    }

    #[test]
    fn space_is_counted_in_blocks_and_given_back() {
        let (disk, file) = disk_with_file();
        disk.set_capacity(3 * BLOCK);
        assert_eq!(disk.write(file, 0, &[1; 20_000], false), Ok(12_288), "as much as there is room for");
        assert_eq!(disk.write(file, 12_288, &[1; 1], false), Err(ENOSPC));
        assert_eq!(disk.write(file, 0, &[2; 1], false), Ok(1), "what has storage can be written");
        assert_eq!(disk.space(), (12_288, 0));
        disk.resize(file, 4096).unwrap();
        assert_eq!(disk.space(), (12_288, 8192));
        assert_eq!(disk.allocate(file, 0, 20_000, true), Err(ENOSPC));
        disk.remove(ROOT, "a", false).unwrap();
        assert_eq!(disk.space(), (12_288, 12_288));
    }

    #[test]
    fn faults_meet_the_operation_that_they_name_and_no_other() {
        let (disk, file) = disk_with_file();
        let other = disk.create(ROOT, "b.wal", false, 0o640, (0, 0)).unwrap();
        disk.fault(Fault::at(2, &[Kind::Write], Action::Fail(EIO)).of(".wal"));
        disk.fault(Fault::at(3, &[Kind::SyncWrite], Action::Cut));
        disk.write(other, 0, b"1", false).unwrap();
        disk.write(file, 0, b"1", false).unwrap();
        assert_eq!(disk.write(other, 0, b"2", false), Err(EIO));
        disk.write(other, 0, b"3", false).unwrap();
        disk.write(file, 0, b"4", true).unwrap();
        disk.write(file, 0, b"5", true).unwrap();
        assert_eq!(disk.write(file, 0, b"6", true), Err(EIO));
        assert_eq!(disk.read(file, 0, 1), Err(EIO), "the power is gone");
        assert_eq!(survives(&disk, Survival::None), b"5");
        assert_eq!(survives(&disk, Survival::All), b"6", "it was on its way");
        assert_eq!(disk.counts().of(Kind::SyncWrite), 3);
    }
}
