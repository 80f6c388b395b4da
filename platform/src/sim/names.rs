//! Directories: what processes see of them, and what the device would know of them if the power went now.
//!
//! An operation on names is visible at once and durable when one of its directories is synced. Before that each may
//! or may not survive a power cut: sometimes the first few in their order, as a journal would have it, sometimes
//! any of them, as nobody promises otherwise. One operation is never torn: a rename happens or does not.

use super::{content::Survival, random::Random};
use std::collections::{BTreeMap, BTreeSet};

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
    live: Tree,
    durable: Tree,
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
        self.live.insert(dir, Entries::new());
        self.durable.insert(dir, Entries::new());
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
        apply(&mut self.live, &edits);
        self.pending.push(edits);
    }

    /// Makes what happened in `dir` durable.
    pub(super) fn sync(&mut self, dir: Inode) {
        for edits in std::mem::take(&mut self.pending) {
            if edits.iter().any(|edit| edit.dir == dir) {
                apply(&mut self.durable, &edits);
            } else {
                self.pending.push(edits);
            }
        }
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

    /// What a power cut leaves; the directories of `emptied` stay, without their content.
    pub(super) fn survivor(&self, survival: Survival, random: &mut Random, emptied: impl Fn(Inode) -> bool) -> Names {
        let mut tree = self.durable.clone();
        let first = random.coin().then(|| random.below(self.pending.len() as u64 + 1) as usize);
        for (number, edits) in self.pending.iter().enumerate() {
            let survives = match (survival, first) {
                (Survival::Some, Some(first)) => number < first,
                _ => survival.of_one(random),
            };
            if survives {
                apply(&mut tree, edits);
            }
        }
        tree.iter_mut().filter(|(dir, _)| emptied(**dir)).for_each(|(_, entries)| entries.clear());
        // What no name leads to any more is gone, and whatever was below it.
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
