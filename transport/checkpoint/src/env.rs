//! LMDB itself, one transaction at a time: the only place that calls it, and the only unsafe code of this crate.
//!
//! A transaction is lent to a closure while a mutex is held, and committed behind it. So at most one exists, and LMDB's own
//! locks (a second shared mapping, robust mutexes, a table of readers in which a killed process leaves entries) are off.

use crate::{
    Error, Result,
    lock::Held,
    tree::{Checked, DATA_VERSION},
};
use chronicle_platform::{File, Platform, Trouble};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, types::Bytes};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Keys and values are bytes; LMDB's order is that of `[u8]`.
type Db = Database<'static, Bytes, Bytes>;

/// A store that LMDB has open.
pub(crate) struct Lmdb<P: Platform> {
    state: Mutex<State>,
    db: Db,
    at: At,
    /// The same file, for the platform's own sync.
    file: P::File,
    /// The process that opened it.
    pid: u32,
    /// Behind the environment, which goes first.
    _lock: Arc<Held<P>>,
}

/// Whoever has a transaction has this locked.
struct State {
    env: Env,
    /// A write or sync failed.
    poisoned: bool,
}

/// What messages need.
struct At {
    path: PathBuf,
    max_len: u64,
}

/// A transaction that looks.
pub(crate) struct Read<'a> {
    txn: &'a RoTxn<'a>,
    db: Db,
    at: &'a At,
}

/// A transaction that changes.
pub(crate) struct Write<'a> {
    txn: RwTxn<'a>,
    db: Db,
    at: &'a At,
}

/// Lets LMDB map `path`.
// The one door to LMDB: its contract is argued here, once.
#[allow(unsafe_code)]
fn open_env<P: Platform>(path: &Path, max_len: usize, checked: &Checked, _lock: &Held<P>) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(max_len);
    let mut flags = EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK;
    flags.set(EnvFlags::PREV_SNAPSHOT, checked.previous);
    // SAFETY: heed counts flags as unsafe because some give up durability or locking. NO_LOCK asks that no two transactions
    // that may meet exist at once, in any process. In this one `Lmdb` lends at most one at a time, under its mutex, and hands
    // out no environment; no other one has the file, because `_lock` is this directory's exclusive kernel lock and is kept
    // by `Lmdb` for longer than the environment lives. NO_SUB_DIR only says that the path is the file's.
    // PREV_SNAPSHOT needs to be alone, which we are.
    unsafe { options.flags(flags) };
    // SAFETY: the file becomes a memory map that LMDB follows pointers in, so its bytes must be LMDB's and must change by
    // LMDB's hand only. They are: `checked` was made by walking all that LMDB follows in this commit (or the file is empty),
    // under the same lock, and this crate never writes or cuts the file itself. What other processes do is beyond any
    // check: the directory is 0750, the file 0640, all users of this crate take the lock first, and the documentation
    // says that the directory is this store's alone and on no network file system. heed refuses a second environment on
    // the same path in this process, and the map is never resized: `max_len` is its size for life.
    unsafe { options.open(path) }
}

impl<P: Platform> Lmdb<P> {
    /// Opens the file at `path`, `checked` under `lock`.
    pub(crate) fn open(
        path: &Path,
        max_len: u64,
        file: P::File,
        checked: &Checked,
        lock: Arc<Held<P>>,
    ) -> Result<Self> {
        let at = At { path: path.to_path_buf(), max_len };
        let open = || -> heed::Result<(Env, Db)> {
            let env = open_env(path, usize::try_from(max_len).expect("64-bit"), checked, &lock)?;
            let db = env.open_databases_and_commit(env.read_txn()?, |dbs, txn| {
                dbs.open_database::<Bytes, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
            })?;
            let CommitOrAbort::Commit(Some(db)) = db else { unreachable!("the unnamed database is always there") };
            Ok((env, db))
        };
        let (env, db) = open().map_err(|error| at.error("open", error))?;
        let pid = std::process::id();
        Ok(Lmdb { state: Mutex::new(State { env, poisoned: false }), db, at, file, pid, _lock: lock })
    }

    /// The store's file.
    pub(crate) fn path(&self) -> &Path {
        &self.at.path
    }

    /// Lends a transaction to look with.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Read<'_>) -> Result<T>) -> Result<T> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_go_on(&state)?;
        let txn = state.env.read_txn().map_err(|error| self.at.error("read", error))?;
        look(&Read { txn: &txn, db: self.db, at: &self.at })
    }

    /// Lends a transaction to change with, and makes it durable. After an error nothing was changed, unless the error is a
    /// write or sync that failed: then that is known only when the store is opened again, and this handle does no more.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Write<'_>) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_go_on(&state)?;
        let State { env, poisoned } = &mut *state;
        let txn = env.write_txn().map_err(|error| self.at.error("write", error))?;
        let mut write = Write { txn, db: self.db, at: &self.at };
        let done = change(&mut write)?;
        if let Err(error) = write.txn.commit() {
            *poisoned = matches!(error, heed::Error::Io(_) | heed::Error::Mdb(MdbError::Panic));
            return Err(self.at.error("commit", error));
        }
        Ok(done)
    }

    /// What was committed, made durable by the platform's own sync. LMDB syncs the data and writes its meta page through
    /// (`O_DSYNC`), which is enough where that reaches the medium; on Darwin it reaches the drive.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_go_on(&state)?;
        self.file.sync().map_err(|trouble| {
            state.poisoned = true;
            trouble.into()
        })
    }

    fn may_go_on(&self, state: &State) -> Result<()> {
        let path = || self.at.path.clone();
        match (std::process::id() == self.pid, state.poisoned) {
            (false, _) => Err(Error::Forked { path: path() }),
            (_, true) => Err(Error::Poisoned { path: path() }),
            _ => Ok(()),
        }
    }
}

impl<P: Platform> fmt::Debug for Lmdb<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lmdb").field("path", &self.at.path).field("max_len", &self.at.max_len).finish_non_exhaustive()
    }
}

impl Read<'_> {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<&[u8]>> {
        self.db.get(self.txn, key).map_err(|error| self.at.error("read", error))
    }

    /// Every key that begins with `prefix`, in order, and its value.
    pub(crate) fn each(&self, prefix: u8, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let trouble = |error| self.at.error("read", error);
        for entry in self.db.prefix_iter(self.txn, &[prefix][..]).map_err(trouble)? {
            let (key, value) = entry.map_err(trouble)?;
            visit(key, value)?;
        }
        Ok(())
    }
}

impl Write<'_> {
    /// LMDB's number of the commit that this will be.
    pub(crate) fn txn(&self) -> u64 {
        self.txn.id() as u64
    }

    /// The same transaction, to look with.
    pub(crate) fn read(&self) -> Read<'_> {
        Read { txn: &self.txn, db: self.db, at: self.at }
    }

    /// Sets `key`.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(&mut self.txn, key, value).map_err(|error| self.at.error("write", error))
    }

    /// Removes `key`; whether it was there.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<bool> {
        self.db.delete(&mut self.txn, key).map_err(|error| self.at.error("write", error))
    }

    /// Removes every key that begins with `prefix`.
    pub(crate) fn delete_prefix(&mut self, prefix: &[u8]) -> Result<()> {
        while let Some(key) = self.first(prefix)? {
            self.delete(&key)?;
        }
        Ok(())
    }

    fn first(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        let trouble = |error| self.at.error("read", error);
        let mut keys = self.db.prefix_iter(&self.txn, prefix).map_err(trouble)?;
        Ok(keys.next().transpose().map_err(trouble)?.map(|(key, _)| key.to_vec()))
    }
}

impl At {
    fn error(&self, operation: &'static str, error: heed::Error) -> Error {
        let path = self.path.clone();
        let damage = |what: &dyn fmt::Display| Error::Damage {
            path: self.path.clone(),
            what: what.to_string(),
            previous: false,
        };
        match error {
            heed::Error::Io(source) => Error::Trouble(self.trouble(operation, source)),
            heed::Error::Mdb(MdbError::MapFull) => Error::Full { path, max_len: self.max_len },
            heed::Error::Mdb(MdbError::TxnFull) => Error::TooLarge { path },
            heed::Error::Mdb(MdbError::Panic) => Error::Poisoned { path },
            heed::Error::Mdb(MdbError::VersionMismatch) => {
                Error::Version { path, of: "LMDB data", found: 0, known: DATA_VERSION }
            }
            heed::Error::EnvAlreadyOpened => Error::Locked { path },
            heed::Error::Mdb(error) => damage(&error),
            heed::Error::Encoding(error) | heed::Error::Decoding(error) => damage(&error),
        }
    }

    fn trouble(&self, operation: &'static str, source: io::Error) -> Trouble {
        let trouble = Trouble::new(operation, &self.path, source);
        match operation {
            "open" => trouble.noting(format!("max_len reserves {} bytes of address space", self.max_len)),
            _ => trouble.noting("what was saved last is known when the store is opened again"),
        }
    }
}
