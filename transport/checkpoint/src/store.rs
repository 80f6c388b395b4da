//! The store: states and their snapshots, cursors, and what both still need of the log.

use crate::{
    Error, Result,
    env::{Lmdb, Read, Write},
    lock::Held,
    name,
    record::{
        self, CHECKPOINTS, CHUNK, CURSORS, CheckpointRecord, CursorRecord, MAGIC, STORE_KEY, StoreRecord, VERSION,
    },
    tree::{self, Checked, Fault},
};
use chronicle_platform::{File, MAP_ALIGN, Open, Platform};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use zerocopy::IntoBytes;

const FILE: &str = "checkpoints.mdb";
const TEMPORARY: &str = "checkpoints.tmp";
/// The store has not seen one yet.
const NO_LOG: [u8; 16] = [0; 16];
const LOCK: &str = "checkpoints.lock";

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Bytes that the store's file may grow to: 16 GiB unless said otherwise. The file takes what is used; this is address
    /// space, reserved once, because a map cannot be moved under a transaction. Room for `keep + 2` snapshots of each state
    /// is needed, as pages are used again only two commits after they became free. It may be raised, or lowered to what is
    /// used, at every open.
    pub max_len: u64,
    /// Checkpoints kept of each state, at least 1: two unless said otherwise, so that damage to the newest one's bytes leaves
    /// another. The WAL is kept for all of them.
    pub keep: u32,
    /// Where the last commit is damaged, open the one before it and lose the last one: the way out that
    /// [`Error::Damage`] names when it exists. What was lost stands in [`Checkpoints::fell_back`].
    pub previous: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_len: 16 << 30, keep: 2, previous: false }
    }
}

/// Names one checkpoint of a store; never used again, larger than all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A checkpoint, without its snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Its name in this store.
    pub id: CheckpointId,
    /// The state it is one of.
    pub state: String,
    /// Every frame of the log up to this seq is in the snapshot, none behind it.
    pub seq: u64,
    /// Bytes in the snapshot.
    pub len: u64,
    /// When it was made, ns since 1970: for people.
    pub created_ns: u64,
}

/// How far a consumer came: everything up to `seq` is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Last seq that is done.
    pub seq: u64,
    /// Of the stream it is in, where streams have epochs; else 0.
    pub epoch: u64,
    /// In that stream, where it helps to find the place; else 0.
    pub position: u64,
    /// Whether it stands in this store's WAL, which is then kept from `seq + 1` on.
    pub holds: bool,
}

impl Cursor {
    /// In the store's own WAL, which is kept for it.
    #[must_use]
    pub const fn at(seq: u64) -> Self {
        Cursor { seq, epoch: 0, position: 0, holds: true }
    }

    /// In another stream: kept here, and nothing kept for it.
    #[must_use]
    pub const fn elsewhere(epoch: u64, seq: u64, position: u64) -> Self {
        Cursor { seq, epoch, position, holds: false }
    }
}

/// Who needs the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A kept checkpoint.
    Checkpoint {
        /// Which.
        id: CheckpointId,
        /// Its state.
        state: String,
    },
    /// A cursor.
    Cursor {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Checkpoint { id, state } => write!(f, "checkpoint {id} of {state}"),
            Holder::Cursor { name } => write!(f, "cursor {name}"),
        }
    }
}

/// The oldest frame that a store still needs, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Frames before this seq may go.
    pub from: u64,
    /// Who needs it.
    pub holder: Holder,
}

/// The checkpoints and cursors beside one log. Any number of threads may use it; one operation runs at a time.
///
/// ```
/// use chronicle_checkpoint::{Checkpoints, Cursor, Options};
/// # use chronicle_platform_linux::Linux as System;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let checkpoints = Checkpoints::open(&System, dir, &Options::default())?;
/// // State and place in one transaction: after any crash, both or neither.
/// let id = checkpoints.save("book", 1_000, b"all that the program knows", &[("orders", Cursor::elsewhere(3, 77, 9_856))])?;
///
/// let newest = checkpoints.latest("book")?.expect("saved above");
/// assert_eq!((newest.id, newest.seq), (id, 1_000));
/// assert_eq!(checkpoints.read(id)?.1, b"all that the program knows");
/// assert_eq!(checkpoints.need()?.expect("held by the state").from, 1_001);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Checkpoints<P: Platform> {
    lmdb: Lmdb<P>,
    platform: P,
    keep: usize,
    fell_back: Option<String>,
}

impl<P: Platform> Checkpoints<P> {
    /// Opens the store in `dir`, which it makes where there is none, and which is its alone.
    pub fn open(platform: &P, dir: &Path, options: &Options) -> Result<Self> {
        let max_len =
            options.max_len.checked_next_multiple_of(MAP_ALIGN).filter(|&len| len >= 1 << 20 && len >> 46 == 0);
        let max_len = max_len.ok_or_else(|| Error::Options {
            path: dir.to_path_buf(),
            what: format!("max_len of {} bytes, expected 1 MiB to 64 TiB", options.max_len),
        })?;
        if options.keep == 0 {
            return Err(Error::Options { path: dir.to_path_buf(), what: "keep of 0, at least 1".into() });
        }
        platform.create_dirs(dir)?;
        let lock = Arc::new(Held::take(platform, &dir.join(LOCK))?);
        let path = dir.join(FILE);
        if !platform.exists(&path)? {
            create(platform, dir, &path, max_len, &lock)?;
        }
        let file = platform.open(&path, Open::Write)?;
        // D-22: nothing is believed that a dead process wrote and nobody synced.
        file.sync()?;
        platform.sync_dir(dir)?;
        let (checked, fell_back) = check(&path, &file, options.previous)?;
        let lmdb = Lmdb::open(&path, max_len, file, &checked, lock)?;
        let checkpoints = Checkpoints { lmdb, platform: platform.clone(), keep: options.keep as usize, fell_back };
        if checkpoints.fell_back.is_some() {
            // Takes the place of the damaged commit.
            checkpoints.lmdb.write(|write| begin(write).map(drop))?;
        }
        Ok(checkpoints)
    }

    /// What was wrong with the last commit, if [`Options::previous`] let the one before it be opened.
    #[must_use]
    pub fn fell_back(&self) -> Option<&str> {
        self.fell_back.as_deref()
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.lmdb.path()
    }

    /// Saves `snapshot` as what `state` is after frame `seq`, and `cursors`, in one transaction. When it returns they are
    /// durable, and checkpoints of the state beyond [`Options::keep`] are gone. (On Darwin the last step reaches the drive, not
    /// its medium: LMDB's doing. Before anything is given up for a checkpoint there, the platform's own sync is called.)
    ///
    /// The frame must be durable in its log: after a crash, a snapshot of frames that the log lost would be of a stream that
    /// never was.
    pub fn save(&self, state: &str, seq: u64, snapshot: &[u8], cursors: &[(&str, Cursor)]) -> Result<CheckpointId> {
        self.save_with(state, cursors, write_all(snapshot, seq))
    }

    /// As [`save`](Self::save); `snapshot` writes the bytes and returns the seq that they stand for. Until the transaction is
    /// over LMDB has them all in memory. It must not use these checkpoints itself: they wait for it.
    pub fn save_with(
        &self,
        state: &str,
        cursors: &[(&str, Cursor)],
        snapshot: impl FnOnce(&mut dyn io::Write) -> io::Result<u64>,
    ) -> Result<CheckpointId> {
        self.save_in(Log::Unnamed, state, cursors, snapshot)
    }

    pub(crate) fn save_in(
        &self,
        log: Log<'_>,
        state: &str,
        cursors: &[(&str, Cursor)],
        snapshot: impl FnOnce(&mut dyn io::Write) -> io::Result<u64>,
    ) -> Result<CheckpointId> {
        name::check(state)?;
        cursors.iter().try_for_each(|(name, _)| name::check(name))?;
        let created_ns = self.platform.now_ns();
        self.lmdb.write(|write| {
            // Before anything is written: a record that cannot be read makes it unknown what may go.
            let mut kept: Vec<CheckpointId> = self.of_state(&write.read(), state)?;
            let generation = self.begin_in(write, log)?;
            let id = CheckpointId(generation);
            let (seq, len) = write_snapshot(write, id, snapshot)?;
            if let Log::Named(_, durable) = log {
                durable(seq)?;
            }
            let record = CheckpointRecord {
                generation: generation.into(),
                seq: seq.into(),
                created_ns: created_ns.into(),
                len: len.into(),
            };
            put(write, &record::checkpoint_key(id), [record.as_bytes(), state.as_bytes()].concat())?;
            put_cursors(write, generation, cursors)?;
            kept.push(id);
            for old in &kept[..kept.len().saturating_sub(self.keep)] {
                delete(write, *old)?;
            }
            Ok(id)
        })
    }

    /// Sets `cursors` in one transaction.
    pub fn set_cursors(&self, cursors: &[(&str, Cursor)]) -> Result<()> {
        cursors.iter().try_for_each(|(name, _)| name::check(name))?;
        self.lmdb.write(|write| {
            let generation = begin(write)?;
            put_cursors(write, generation, cursors)
        })
    }

    /// The cursor of that name.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>> {
        name::check(name)?;
        let key = record::cursor_key(name);
        self.lmdb.read(|read| read.get(&key)?.map(|value| self.parse_cursor(&key, value)).transpose())
    }

    /// All cursors, by name.
    pub fn cursors(&self) -> Result<Vec<(String, Cursor)>> {
        self.lmdb.read(|read| self.all_cursors(read))
    }

    /// Removes a cursor, and with it what it needed; whether it was there.
    pub fn remove_cursor(&self, name: &str) -> Result<bool> {
        name::check(name)?;
        self.lmdb.write(|write| {
            begin(write)?;
            write.delete(&record::cursor_key(name))
        })
    }

    /// All checkpoints, oldest first.
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        self.lmdb.read(|read| self.all(read))
    }

    /// The newest checkpoint of `state`.
    pub fn latest(&self, state: &str) -> Result<Option<Checkpoint>> {
        name::check(state)?;
        let mut all = self.list()?;
        Ok(all.iter().rposition(|checkpoint| checkpoint.state == state).map(|at| all.swap_remove(at)))
    }

    /// A checkpoint and its snapshot, every byte of which was checked.
    pub fn read(&self, id: CheckpointId) -> Result<(Checkpoint, Vec<u8>)> {
        let mut snapshot = Vec::new();
        let checkpoint = self.read_to(id, &mut snapshot)?;
        Ok((checkpoint, snapshot))
    }

    /// As [`read`](Self::read), chunk by chunk into `out`; what reached it before an error was checked and is not all. It
    /// must not use these checkpoints itself: they wait for it.
    pub fn read_to(&self, id: CheckpointId, out: &mut dyn io::Write) -> Result<Checkpoint> {
        self.lmdb.read(|read| {
            let key = record::checkpoint_key(id);
            let unknown = || Error::Unknown { path: self.path().to_path_buf(), id };
            let checkpoint = self.parse(read, &key, read.get(&key)?.ok_or_else(unknown)?)?;
            let damaged = |what| self.damaged(read, id, Some(&checkpoint.state), what);
            let mut left = checkpoint.len;
            for index in 0.. {
                let key = record::chunk_key(id, index);
                let Some(value) = read.get(&key)? else { break };
                let chunk = record::open(&key, value)
                    .map_err(|what| damaged(format!("snapshot at {}: {what}", checkpoint.len - left)))?;
                let expected = left.min(CHUNK as u64);
                if chunk.len() as u64 != expected {
                    return Err(damaged(format!("chunk {index} of {} bytes, expected {expected}", chunk.len())));
                }
                left -= expected;
                out.write_all(chunk).map_err(Error::Application)?;
            }
            match left {
                0 => Ok(checkpoint),
                left => Err(damaged(format!("snapshot of {} bytes lacks the last {left}", checkpoint.len))),
            }
        })
    }

    /// Removes a checkpoint, and with it what it needed; whether it was there. A damaged one too.
    pub fn remove(&self, id: CheckpointId) -> Result<bool> {
        self.lmdb.write(|write| {
            begin(write)?;
            delete(write, id)
        })
    }

    /// The oldest need of all checkpoints and of the cursors that hold the WAL; `None` if nothing here needs anything.
    pub fn need(&self) -> Result<Option<Need>> {
        self.lmdb.read(|read| {
            let states = self.all(read)?.into_iter().map(|checkpoint| Need {
                from: checkpoint.seq.saturating_add(1),
                holder: Holder::Checkpoint { id: checkpoint.id, state: checkpoint.state },
            });
            let cursors = self
                .all_cursors(read)?
                .into_iter()
                .filter(|(_, cursor)| cursor.holds)
                .map(|(name, cursor)| Need { from: cursor.seq.saturating_add(1), holder: Holder::Cursor { name } });
            Ok(states.chain(cursors).min_by_key(|need| need.from))
        })
    }

    pub(crate) fn platform(&self) -> &P {
        &self.platform
    }

    /// Makes what was saved durable by the platform's own sync: before something is given up for it.
    pub(crate) fn sync(&self) -> Result<()> {
        self.lmdb.sync()
    }

    /// Refuses another log than the one that the seqs here count in.
    pub(crate) fn check_log(&self, log: [u8; 16]) -> Result<()> {
        let stored = self.lmdb.read(|read| Ok(store_record(read)?.map_or(NO_LOG, |record| record.log)))?;
        if stored == NO_LOG || stored == log {
            return Ok(());
        }
        Err(Error::OtherLog { path: self.path().to_path_buf(), stored, found: log })
    }

    /// As [`begin`], in a log.
    fn begin_in(&self, write: &mut Write<'_>, log: Log<'_>) -> Result<u64> {
        let Log::Named(log, _) = log else { return begin(write) };
        let stored = store_record(&write.read())?.map_or(NO_LOG, |record| record.log);
        if stored != NO_LOG && stored != log {
            return Err(Error::OtherLog { path: self.path().to_path_buf(), stored, found: log });
        }
        begin_with(write, Some(log))
    }

    fn all(&self, read: &Read<'_>) -> Result<Vec<Checkpoint>> {
        let mut all = Vec::new();
        read.each(CHECKPOINTS, |key, value| {
            all.push(self.parse(read, key, value)?);
            Ok(())
        })?;
        Ok(all)
    }

    fn all_cursors(&self, read: &Read<'_>) -> Result<Vec<(String, Cursor)>> {
        let mut all = Vec::new();
        read.each(CURSORS, |key, value| {
            let cursor = self.parse_cursor(key, value)?;
            all.push((String::from_utf8_lossy(&key[1..]).into_owned(), cursor));
            Ok(())
        })?;
        Ok(all)
    }

    fn of_state(&self, read: &Read<'_>, state: &str) -> Result<Vec<CheckpointId>> {
        let all = self.all(read)?.into_iter().filter(|checkpoint| checkpoint.state == state);
        Ok(all.map(|checkpoint| checkpoint.id).collect())
    }

    fn parse(&self, read: &Read<'_>, key: &[u8], value: &[u8]) -> Result<Checkpoint> {
        let Some(id) = record::id_of(key) else {
            let what = format!("key of {} bytes among the checkpoints", key.len());
            return Err(Error::Damage { path: self.path().to_path_buf(), what, previous: false });
        };
        let damaged = |what| self.damaged(read, id, None, what);
        let (record, state) =
            record::parse::<CheckpointRecord>(key, value).map_err(|what| damaged(format!("record: {what}")))?;
        let state = std::str::from_utf8(state).ok().filter(|state| name::check(state).is_ok());
        let state = state.ok_or_else(|| damaged("record: the state's name is none".into()))?.to_owned();
        Ok(Checkpoint { id, state, seq: record.seq.get(), len: record.len.get(), created_ns: record.created_ns.get() })
    }

    fn parse_cursor(&self, key: &[u8], value: &[u8]) -> Result<Cursor> {
        match record::parse::<CursorRecord>(key, value) {
            Ok((record, [])) => Ok(Cursor {
                seq: record.seq.get(),
                epoch: record.epoch.get(),
                position: record.position.get(),
                holds: record.flags.get() & 1 == 1,
            }),
            other => Err(Error::DamagedCursor {
                path: self.path().to_path_buf(),
                name: String::from_utf8_lossy(&key[1..]).into_owned(),
                what: other.map_or_else(|what| what, |(_, rest)| format!("{} bytes too many", rest.len())),
            }),
        }
    }

    /// The error, with the newest older checkpoint of `state` that can be read; of any state where that is not known.
    fn damaged(&self, read: &Read<'_>, id: CheckpointId, state: Option<&str>, what: String) -> Error {
        let mut older = None;
        // What cannot be read here either is passed over: the error is about `id`.
        let looked = read.each(CHECKPOINTS, |key, value| {
            let valid = record::parse::<CheckpointRecord>(key, value);
            if let (Some(found), Ok((_, name))) = (record::id_of(key), valid)
                && found < id
                && state.is_some_and(|state| name == state.as_bytes())
            {
                older = Some(found);
            }
            Ok(())
        });
        match looked {
            Ok(()) => Error::DamagedCheckpoint { path: self.path().to_path_buf(), id, what, older },
            Err(error) => error,
        }
    }
}

/// The log whose frames a checkpoint counts.
#[derive(Clone, Copy)]
pub(crate) enum Log<'a> {
    /// The application's business.
    Unnamed,
    /// This one, and how its frames up to a seq are made durable.
    Named([u8; 16], &'a dyn Fn(u64) -> Result<()>),
}

/// Writes these bytes, which stand for `seq`.
pub(crate) fn write_all(snapshot: &[u8], seq: u64) -> impl FnOnce(&mut dyn io::Write) -> io::Result<u64> {
    move |out| out.write_all(snapshot).map(|()| seq)
}

/// Makes the store under another name and publishes it whole (D-7, D-8).
fn create<P: Platform>(platform: &P, dir: &Path, path: &Path, max_len: u64, lock: &Arc<Held<P>>) -> Result<()> {
    let temporary: PathBuf = dir.join(TEMPORARY);
    if platform.exists(&temporary)? {
        platform.remove(&temporary)?;
    }
    let file = platform.open(&temporary, Open::Create)?;
    let checked = Checked::empty(&file).map_err(|fault| refusal(&temporary, fault, false))?;
    let lmdb = Lmdb::open(&temporary, max_len, file, &checked, lock.clone())?;
    lmdb.write(|write| begin(write).map(drop))?;
    drop(lmdb);
    let file = platform.open(&temporary, Open::Write)?;
    platform.publish(&file, &temporary, path)?;
    Ok(())
}

/// Walks the last commit and, where that fails, the one before it; and what was wrong with the last, if `previous` may stand in.
fn check<F: File>(path: &Path, file: &F, previous: bool) -> Result<(Checked, Option<String>)> {
    let [last, before] = tree::commits(file).map_err(|fault| refusal(path, fault, false))?;
    let walk = |commit: &tree::Commit| commit.check(file, &STORE_KEY, |record| is_whole(record, commit.txn()));
    match walk(&last) {
        Ok(checked) => Ok((checked, None)),
        Err(Fault::Damage(what)) => match walk(&before) {
            Ok(checked) if previous => Ok((checked, Some(what))),
            whole => Err(refusal(path, Fault::Damage(what), whole.is_ok())),
        },
        Err(fault) => Err(refusal(path, fault, false)),
    }
}

fn refusal(path: &Path, fault: Fault, previous: bool) -> Error {
    let path = path.to_path_buf();
    match fault {
        Fault::Trouble(trouble) => trouble.into(),
        Fault::Version { of, found, known } => Error::Version { path, of, found, known },
        Fault::Damage(what) => Error::Damage { path, what, previous },
    }
}

/// Whether the store's record is there and was written by transaction `txn`.
fn is_whole(record: Option<&[u8]>, txn: u64) -> std::result::Result<(), Fault> {
    let value = record.ok_or_else(|| Fault::Damage("the store's own record is missing".into()))?;
    let (record, _) = record::parse::<StoreRecord>(&STORE_KEY, value)
        .map_err(|what| Fault::Damage(format!("the store's own record: {what}")))?;
    if record.magic != MAGIC {
        return Err(Fault::Damage("an LMDB file, but no store of checkpoints".into()));
    }
    if record.version.get() != VERSION {
        return Err(Fault::Version { of: "checkpoint", found: record.version.get().into(), known: VERSION.into() });
    }
    if record.txn.get() != txn {
        let what = format!("meta page of transaction {txn} leads to what transaction {} wrote", record.txn);
        return Err(Fault::Damage(what));
    }
    Ok(())
}

/// The store's record; checked at open, and written by nobody else since.
fn store_record(read: &Read<'_>) -> Result<Option<StoreRecord>> {
    let value = read.get(&STORE_KEY)?;
    Ok(value.and_then(|value| record::parse::<StoreRecord>(&STORE_KEY, value).ok()).map(|(record, _)| *record))
}

/// Writes the store's record, as every transaction must, and returns the new generation.
fn begin(write: &mut Write<'_>) -> Result<u64> {
    begin_with(write, None)
}

fn begin_with(write: &mut Write<'_>, log: Option<[u8; 16]>) -> Result<u64> {
    let before = store_record(&write.read())?;
    let generation = before.map_or(0, |record| record.generation.get()) + 1;
    let record = StoreRecord {
        magic: MAGIC,
        version: VERSION.into(),
        reserved: [0; 6],
        txn: write.txn().into(),
        generation: generation.into(),
        log: log.or(before.map(|record| record.log)).unwrap_or(NO_LOG),
    };
    put(write, &STORE_KEY, record.as_bytes().to_vec())?;
    Ok(generation)
}

fn put(write: &mut Write<'_>, key: &[u8], mut body: Vec<u8>) -> Result<()> {
    record::seal(key, &mut body);
    write.put(key, &body)
}

fn put_cursors(write: &mut Write<'_>, generation: u64, cursors: &[(&str, Cursor)]) -> Result<()> {
    cursors.iter().try_for_each(|(name, cursor)| {
        let record = CursorRecord {
            generation: generation.into(),
            seq: cursor.seq.into(),
            epoch: cursor.epoch.into(),
            position: cursor.position.into(),
            flags: u32::from(cursor.holds).into(),
            reserved: 0.into(),
        };
        put(write, &record::cursor_key(name), record.as_bytes().to_vec())
    })
}

fn delete(write: &mut Write<'_>, id: CheckpointId) -> Result<bool> {
    let prefix = record::chunk_key(id, 0);
    write.delete_prefix(&prefix[..9])?;
    write.delete(&record::checkpoint_key(id))
}

/// The application's bytes, cut into chunks; the seq they stand for, and how many they were.
fn write_snapshot(
    write: &mut Write<'_>,
    id: CheckpointId,
    snapshot: impl FnOnce(&mut dyn io::Write) -> io::Result<u64>,
) -> Result<(u64, u64)> {
    let mut chunks = Chunks { write, id, index: 0, pending: Vec::new(), len: 0, refused: None };
    let done = snapshot(&mut chunks).and_then(|seq| chunks.cut().map(|()| seq));
    match (chunks.refused, done) {
        (Some(error), _) => Err(error),
        (None, Ok(seq)) => Ok((seq, chunks.len)),
        (None, Err(error)) => Err(Error::Application(error)),
    }
}

struct Chunks<'a, 'w> {
    write: &'a mut Write<'w>,
    id: CheckpointId,
    index: u32,
    pending: Vec<u8>,
    len: u64,
    /// Ours, behind the `io::Error` that the application saw.
    refused: Option<Error>,
}

impl Chunks<'_, '_> {
    /// Writes what is pending as a chunk.
    fn cut(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let key = record::chunk_key(self.id, self.index);
        record::seal(&key, &mut self.pending);
        self.write.put(&key, &self.pending).map_err(|error| {
            let shown = io::Error::other(error.to_string());
            self.refused = Some(error);
            shown
        })?;
        self.pending.clear();
        self.index = self.index.checked_add(1).ok_or_else(|| io::Error::other("a snapshot of more than 4 PiB"))?;
        Ok(())
    }
}

impl io::Write for Chunks<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() == CHUNK {
            self.cut()?;
        }
        let taken = bytes.len().min(CHUNK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        self.len += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
