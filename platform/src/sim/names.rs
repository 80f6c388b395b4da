//! Directories: what processes see of them, and what the device would know of them if the power went now.
//!
//! An operation on names is visible at once and durable when one of its directories is synced. Before that each may
//! or may not survive a power cut: sometimes the first few in their order, as a journal would have it, sometimes
//! any of them, as nobody promises otherwise. One operation is never torn: a rename happens or does not.

use super::{content::Survival, random::Random};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

pub(super) type Inode = u64;

/// The root directory.
pub(super) const ROOT: Inode = 1;

/// What one name in one directory was and becomes.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) dir: Inode,
    pub(super) name: String,
    pub(super) before: Option<Inode>,
    pub(super) after: Option<Inode>,
}

type Entries = BTreeMap<String, Inode>;
type Tree = BTreeMap<Inode, Entries>;

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: Arc<Tree>,
    durable: Arc<Tree>,
    /// Operations not yet durable, oldest first; each is a few edits that belong together.
    pending: Vec<Vec<Edit>>,
}

impl Names {
    pub(super) fn new() -> Names {
        let mut names = Names::default();
        names.add_dir(ROOT);
        names
    }

    /// A new, empty directory, so far without a name.
    pub(super) fn add_dir(&mut self, dir: Inode) {
        Arc::make_mut(&mut self.live).insert(dir, Entries::new());
        Arc::make_mut(&mut self.durable).insert(dir, Entries::new());
    }

    pub(super) fn is_dir(&self, inode: Inode) -> bool {
        self.live.contains_key(&inode)
    }

    pub(super) fn entries(&self, dir: Inode) -> impl Iterator<Item = (&String, Inode)> {
        self.live[&dir].iter().map(|(name, &inode)| (name, inode))
    }

    pub(super) fn find(&self, dir: Inode, name: &str) -> Option<Inode> {
        self.live.get(&dir)?.get(name).copied()
    }

    /// Does an operation, visibly.
    pub(super) fn edit(&mut self, edits: Vec<Edit>) {
        apply(Arc::make_mut(&mut self.live), &edits);
        self.pending.push(edits);
    }

    /// Makes what happened in `dir` durable.
    pub(super) fn sync(&mut self, dir: Inode) {
        for edits in std::mem::take(&mut self.pending) {
            if edits.iter().any(|edit| edit.dir == dir) {
                apply(Arc::make_mut(&mut self.durable), &edits);
            } else {
                self.pending.push(edits);
            }
        }
    }

    /// A path that leads to an inode now.
    pub(super) fn path(&self, inode: Inode) -> Option<PathBuf> {
        if inode == ROOT {
            return Some(PathBuf::from("/"));
        }
        let (dir, name) = self.live.iter().find_map(|(dir, entries)| {
            entries.iter().find(|(_, entry)| **entry == inode).map(|(name, _)| (*dir, name))
        })?;
        Some(self.path(dir)?.join(name))
    }

    /// All that have some name, now or perhaps after a power cut.
    pub(super) fn known(&self) -> BTreeSet<Inode> {
        let named = |tree: &Tree| tree.values().flat_map(|entries| entries.values().copied()).collect::<Vec<_>>();
        let pending = self.pending.iter().flatten().flat_map(|edit| [edit.before, edit.after]).flatten();
        named(&self.live).into_iter().chain(named(&self.durable)).chain(pending).collect()
    }

    /// All that have a name now.
    pub(super) fn named(&self) -> BTreeSet<Inode> {
        self.live.values().flat_map(|entries| entries.values().copied()).collect()
    }

    /// Operations not yet durable, oldest first.
    pub(super) fn pending(&self) -> &[Vec<Edit>] {
        &self.pending
    }

    /// What a power cut leaves, as chance has it; the directories of `emptied` stay, without their content.
    pub(super) fn survivor(&self, survival: Survival, random: &mut Random, emptied: impl Fn(Inode) -> bool) -> Names {
        let first = random.coin().then(|| random.below(self.pending.len() as u64 + 1) as usize);
        let mut survives = |number| match (survival, first) {
            (Survival::Some, Some(first)) => number < first,
            _ => survival.of_one(random),
        };
        let kept: Vec<bool> = (0..self.pending.len()).map(&mut survives).collect();
        self.left(|number| kept[number], emptied)
    }

    /// The same, where it is said which operations survive.
    pub(super) fn left(&self, kept: impl Fn(usize) -> bool, emptied: impl Fn(Inode) -> bool) -> Names {
        let mut tree = Tree::clone(&self.durable);
        for (_, edits) in self.pending.iter().enumerate().filter(|(number, _)| kept(*number)) {
            apply(&mut tree, edits);
        }
        tree.iter_mut().filter(|(dir, _)| emptied(**dir)).for_each(|(_, entries)| entries.clear());
        // What no name leads to any more is gone, and whatever was below it.
        let mut reachable = Tree::new();
        let mut reached = vec![ROOT];
        while let Some(dir) = reached.pop() {
            if let Some(entries) = tree.remove(&dir) {
                reached.extend(entries.values());
                reachable.insert(dir, entries);
            }
        }
        let reachable = Arc::new(reachable);
        Names { live: reachable.clone(), durable: reachable, pending: Vec::new() }
    }
}

/// A file has one name at a time: a name that it gets takes the others away, which only matters if the operation that
/// took them away did not survive.
fn apply(tree: &mut Tree, edits: &[Edit]) {
    for Edit { dir, name, before, after } in edits {
        match after {
            Some(inode) => {
                tree.values_mut().for_each(|entries| entries.retain(|_, entry| entry != inode));
                if let Some(entries) = tree.get_mut(dir) {
                    entries.insert(name.clone(), *inode);
                }
            }
            None => {
                if let Some(entries) = tree.get_mut(dir)
                    && entries.get(name) == before.as_ref()
                {
                    entries.remove(name);
                }
            }
        }
    }
}
