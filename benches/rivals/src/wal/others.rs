//! Other people's logs, each as its documentation says that a durable append is done.
//!
//! Never in its slowest setting: files are prepared ahead where that can be asked for, many records go into one entry
//! where a log is filled, compression is off because the payloads here would flatter it. What a call of theirs really
//! does to the device the runner counts: see [`super::flushes`].

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// A log that is open for writing.
pub trait Log: Send + Sync {
    /// Appends the `nth` record of committer `who`: durable on return, if the log was opened so.
    fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String>;

    /// Appends many records of one committer, in as few entries as the log allows, durable or not.
    fn fill(&self, first: u64, records: &[&[u8]]) -> Result<(), String> {
        (first..).zip(records).try_for_each(|(nth, record)| self.put(0, nth, record))
    }
}

/// Opened: durable appends, or such that only reach the system.
pub type Open = fn(&Path, bool) -> Result<Box<dyn Log>, String>;
/// What is done with each record that is found.
pub type Each = Box<dyn FnMut(&[u8]) + Send>;
/// Opens the log again after a crash and hands out every record in order. An error is a refusal, in the log's words.
pub type Read = fn(&Path, Each) -> Result<(), String>;

/// Somebody's log.
#[derive(Clone, Copy)]
pub struct Other {
    /// The crate.
    pub name: &'static str,
    /// See [`Open`].
    pub open: Open,
    /// See [`Read`].
    pub read: Read,
    /// Threads commit at once, and the crate means them to.
    pub many: bool,
    /// Can leave the sync out.
    pub lazy: bool,
    /// Named as a rival by name: always in the rows; the others with one committer, and where damage is shown.
    pub rival: bool,
    /// It is a log on disk that it recovers from, rather than a tree of pages.
    pub log: bool,
}

const fn other(name: &'static str, open: Open, read: Read) -> Other {
    Other { name, open, read, many: true, lazy: true, rival: false, log: true }
}

/// All of them.
pub const OTHERS: &[Other] = &[
    Other { rival: true, lazy: false, ..other("okaywal", okaywal::open, okaywal::read) },
    Other { rival: true, ..other("raft-engine", raft::open, raft::read) },
    Other { rival: true, log: false, ..other("heed (LMDB)", lmdb::open, lmdb::read) },
    Other { rival: true, log: false, ..other("redb", redb_::open, redb_::read) },
    Other { rival: true, ..other("fjall", fjall_::open, fjall_::read) },
    #[cfg(feature = "rocksdb")]
    Other { rival: true, ..other("RocksDB", rocks::open, rocks::read) },
    other("wal-db", waldb::open, waldb::read),
    Other { lazy: false, ..other("writeahead", writeahead_::open, writeahead_::read) },
    other("logdb", logdb_::open, logdb_::read),
    Other { many: false, lazy: false, ..other("open-wal", openwal::open, openwal::read) },
    Other { many: false, ..other("simple_wal", simple::open, simple::read) },
    Other { many: false, ..other("commitlog", commitlog_::open, commitlog_::read) },
    other("sled", sled_::open, sled_::read),
];

/// The key of a record, where a store wants one: in order within a committer.
fn key(who: usize, nth: u64) -> u64 {
    (who as u64) << 40 | nth
}

fn words(it: impl std::fmt::Display) -> String {
    it.to_string()
}

mod okaywal {
    use super::{Each, Log, words};
    use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};
    use std::{io, path::Path};

    struct Manager(Option<Each>);

    impl std::fmt::Debug for Manager {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Manager")
        }
    }

    impl LogManager for super::Shared<Manager> {
        fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
            if let Some(chunks) = entry.read_all_chunks()?
                && let Ok(manager) = self.0.get_mut()
                && let Some(each) = &mut manager.0
            {
                chunks.iter().for_each(|chunk| each(chunk));
            }
            Ok(())
        }

        fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(dir: &Path, keep: bool) -> Configuration {
        let config = Configuration::default_for(dir).preallocate_bytes(64 << 20).buffer_bytes(64 << 10);
        config.checkpoint_after_bytes(if keep { u64::MAX / 2 } else { 48 << 20 })
    }

    struct Okay(WriteAheadLog);

    impl Log for Okay {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            self.fill(0, &[record])
        }

        fn fill(&self, _: u64, records: &[&[u8]]) -> Result<(), String> {
            let mut entry = self.0.begin_entry().map_err(words)?;
            for record in records {
                entry.write_chunk(record).map_err(words)?;
            }
            entry.commit().map(drop).map_err(words)
        }
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        // It cannot leave the sync out: asked for that, it is being filled, and keeps everything.
        let config = config(dir, !durable);
        Ok(Box::new(Okay(config.open(super::Shared::new(Manager(None))).map_err(words)?)))
    }

    pub(super) fn read(dir: &Path, each: Each) -> Result<(), String> {
        let log = config(dir, true).open(super::Shared::new(Manager(Some(each)))).map_err(words)?;
        log.shutdown().map_err(words)
    }
}

/// What one thread after another uses.
#[derive(Debug)]
struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    fn new(it: T) -> Self {
        Shared(Mutex::new(it))
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> Result<R, String>) -> Result<R, String> {
        work(&mut *self.0.lock().map_err(words)?)
    }
}

mod raft {
    use super::{Each, Log, words};
    use protobuf::well_known_types::BytesValue;
    use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
    use std::path::Path;

    /// A record with its index before it: raft-engine asks each entry for one.
    struct Indexed;

    impl MessageExt for Indexed {
        type Entry = BytesValue;

        fn index(entry: &BytesValue) -> u64 {
            entry.value.first_chunk::<8>().map_or(0, |index| u64::from_le_bytes(*index))
        }
    }

    fn config(dir: &Path) -> Config {
        Config {
            dir: dir.display().to_string(),
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize::mb(32),
            purge_threshold: ReadableSize::gb(4),
            // Files written in full ahead, as ours are.
            prefill_for_recycle: true,
            prefill_limit: Some(ReadableSize::mb(64)),
            ..Config::default()
        }
    }

    struct Raft {
        engine: Engine,
        durable: bool,
    }

    impl Raft {
        fn write(&self, group: u64, first: u64, records: &[&[u8]]) -> Result<(), String> {
            let entries: Vec<BytesValue> = (first + 1..)
                .zip(records)
                .map(|(index, record)| {
                    let mut entry = BytesValue::new();
                    entry.value.reserve_exact(8 + record.len());
                    entry.value.extend_from_slice(&index.to_le_bytes());
                    entry.value.extend_from_slice(record);
                    entry
                })
                .collect();
            let mut batch = LogBatch::with_capacity(records.len());
            batch.add_entries::<Indexed>(group, &entries).map_err(words)?;
            self.engine.write(&mut batch, self.durable).map(drop).map_err(words)
        }
    }

    impl Log for Raft {
        fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String> {
            self.write(who as u64 + 1, nth, &[record])
        }

        fn fill(&self, first: u64, records: &[&[u8]]) -> Result<(), String> {
            self.write(1, first, records)
        }
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Raft { engine: Engine::open(config(dir)).map_err(words)?, durable }))
    }

    /// Opening checks batch headers and builds an index; that each entry is whole is only seen when it is fetched.
    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let engine =
            Engine::open(Config { prefill_for_recycle: false, prefill_limit: None, ..config(dir) }).map_err(words)?;
        let Some((first, last)) = engine.first_index(1).zip(engine.last_index(1)) else { return Ok(()) };
        let mut found = Vec::with_capacity(64);
        for begin in (first..=last).step_by(64) {
            engine
                .fetch_entries_to::<Indexed>(1, begin, (begin + 64).min(last + 1), None, &mut found)
                .map_err(words)?;
            found.drain(..).for_each(|entry| each(entry.value.get(8..).unwrap_or_default()));
        }
        Ok(())
    }

    /// What raft-engine itself calls recovery.
    pub(super) fn open_only(dir: &Path) -> Result<u64, String> {
        let engine =
            Engine::open(Config { prefill_for_recycle: false, prefill_limit: None, ..config(dir) }).map_err(words)?;
        Ok(engine.first_index(1).zip(engine.last_index(1)).map_or(0, |(first, last)| last + 1 - first))
    }
}

/// Opens a raft-engine log as that crate recovers, without looking at the entries; how many it says there are.
pub fn raft_engine_open(dir: &Path) -> Result<u64, String> {
    raft::open_only(dir)
}

mod lmdb {
    use super::{Each, Log, key, words};
    use heed::{
        CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions,
        byteorder::BigEndian,
        types::{Bytes, U64},
    };
    use std::path::Path;

    type Data = Database<'static, U64<BigEndian>, Bytes>;

    struct Lmdb {
        env: Env,
        data: Data,
    }

    fn opened(dir: &Path, flags: EnvFlags) -> Result<Lmdb, String> {
        std::fs::create_dir_all(dir).map_err(words)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(4 << 30);
        // SAFETY: of a scratch file of this run, which is open once; whether the system keeps what was not synced is
        // what is measured.
        let options = unsafe { options.flags(flags) };
        // SAFETY: nobody else has this file.
        let env = unsafe { options.open(dir) }.map_err(words)?;
        let write = env.write_txn().map_err(words)?;
        let data = env
            .create_databases_and_commit(write, |opener, write| {
                opener.create_database::<U64<BigEndian>, Bytes>(write, None).map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(|it: heed::Error| words(it))?;
        match data {
            CommitOrAbort::Commit(data) => Ok(Lmdb { env, data }),
            CommitOrAbort::Abort(()) => Err("not opened".to_owned()),
        }
    }

    impl Log for Lmdb {
        fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String> {
            let mut write = self.env.write_txn().map_err(words)?;
            self.data.put(&mut write, &key(who, nth), record).map_err(words)?;
            write.commit().map_err(words)
        }
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(opened(dir, if durable { EnvFlags::empty() } else { EnvFlags::NO_SYNC })?))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let log = opened(dir, EnvFlags::empty())?;
        let read = log.env.read_txn().map_err(words)?;
        for record in log.data.iter(&read).map_err(words)? {
            each(record.map_err(words)?.1);
        }
        Ok(())
    }
}

mod redb_ {
    use super::{Each, Log, key, words};
    use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
    use std::path::Path;

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

    struct Redb {
        data: Database,
        durability: Durability,
    }

    impl Log for Redb {
        fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String> {
            let mut write = self.data.begin_write().map_err(words)?;
            write.set_durability(self.durability).map_err(words)?;
            write.open_table(TABLE).map_err(words)?.insert(key(who, nth), record).map_err(words)?;
            write.commit().map_err(words)
        }
    }

    fn database(dir: &Path) -> Result<Database, String> {
        std::fs::create_dir_all(dir).map_err(words)?;
        Database::create(dir.join("redb")).map_err(words)
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        let durability = if durable { Durability::Immediate } else { Durability::None };
        Ok(Box::new(Redb { data: database(dir)?, durability }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let data = database(dir)?;
        let read = data.begin_read().map_err(words)?;
        for record in read.open_table(TABLE).map_err(words)?.iter().map_err(words)? {
            each(record.map_err(words)?.1.value());
        }
        Ok(())
    }
}

mod fjall_ {
    use super::{Each, Log, key, words};
    use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
    use std::path::Path;

    struct Fjall {
        data: Database,
        log: Keyspace,
        durable: bool,
    }

    impl Log for Fjall {
        fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String> {
            self.log.insert(key(who, nth).to_be_bytes(), record).map_err(words)?;
            if self.durable { self.data.persist(PersistMode::SyncData).map_err(words) } else { Ok(()) }
        }
    }

    fn database(dir: &Path) -> Result<(Database, Keyspace), String> {
        let data = Database::builder(dir).open().map_err(words)?;
        let log = data.keyspace("log", KeyspaceCreateOptions::default).map_err(words)?;
        Ok((data, log))
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        let (data, log) = database(dir)?;
        Ok(Box::new(Fjall { data, log, durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let (_data, log) = database(dir)?;
        for record in log.iter() {
            each(&record.value().map_err(words)?);
        }
        Ok(())
    }
}

#[cfg(feature = "rocksdb")]
mod rocks {
    use super::{Each, Log, key, words};
    use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};
    use std::path::Path;

    struct Rocks {
        data: DB,
        durable: bool,
    }

    impl Rocks {
        fn how(&self) -> WriteOptions {
            let mut options = WriteOptions::default();
            options.set_sync(self.durable);
            options
        }
    }

    impl Log for Rocks {
        fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String> {
            self.data.put_opt(key(who, nth).to_be_bytes(), record, &self.how()).map_err(words)
        }

        fn fill(&self, first: u64, records: &[&[u8]]) -> Result<(), String> {
            let mut batch = WriteBatch::default();
            (first..).zip(records).for_each(|(nth, record)| batch.put(nth.to_be_bytes(), record));
            self.data.write_opt(batch, &self.how()).map_err(words)
        }
    }

    /// Memory tables larger than any run: what is measured is its log, and recovery replays all of it.
    fn options() -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(2 << 30);
        options.set_recycle_log_file_num(2);
        options
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Rocks { data: DB::open(&options(), dir).map_err(words)?, durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let data = DB::open(&options(), dir).map_err(words)?;
        for record in data.iterator(IteratorMode::Start) {
            each(&record.map_err(words)?.1);
        }
        Ok(())
    }
}

mod waldb {
    use super::{Each, Log, words};
    use std::path::Path;
    use wal_db::{OpenPolicy, Wal, WalConfig};

    struct WalDb {
        log: Wal,
        durable: bool,
    }

    impl Log for WalDb {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            let done = if self.durable { self.log.append_and_sync(record) } else { self.log.append(record) };
            done.map(drop).map_err(words)
        }
    }

    /// As strict as it can be: its default cuts intact records behind a damaged one.
    fn log(dir: &Path) -> Result<Wal, String> {
        std::fs::create_dir_all(dir).map_err(words)?;
        Wal::open_with(dir.join("log"), WalConfig::new().with_open_policy(OpenPolicy::Strict)).map_err(words)
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(WalDb { log: log(dir)?, durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        for record in log(dir)?.iter().map_err(words)? {
            each(record.map_err(words)?.data());
        }
        Ok(())
    }
}

mod writeahead_ {
    use super::{Each, Log, words};
    use futures::{StreamExt as _, executor::block_on};
    use std::path::Path;
    use writeahead::{SimpleFile, WriteAhead, WriteAheadOptions, WriteHandle};

    struct Ahead {
        handle: WriteHandle,
        // Reading goes through it; here only kept.
        _log: WriteAhead<SimpleFile>,
    }

    impl Log for Ahead {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            block_on(self.handle.write(record.to_vec())).map(drop).map_err(words)
        }

        fn fill(&self, _: u64, records: &[&[u8]]) -> Result<(), String> {
            block_on(self.handle.write_batch(records.iter().map(|it| it.to_vec()).collect())).map(drop).map_err(words)
        }
    }

    fn log(dir: &Path) -> Result<WriteAhead<SimpleFile>, String> {
        let options = WriteAheadOptions {
            log_dir: dir.to_owned(),
            preallocation_chunk_size: Some(64 << 20),
            ..WriteAheadOptions::default()
        };
        let mut log = WriteAhead::<SimpleFile>::with_options(options);
        log.start().map_err(words)?;
        Ok(log)
    }

    pub(super) fn open(dir: &Path, _: bool) -> Result<Box<dyn Log>, String> {
        let log = log(dir)?;
        Ok(Box::new(Ahead { handle: log.writer().map_err(words)?, _log: log }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let log = log(dir)?;
        let mut stream = log.create_stream().map_err(words)?;
        while let Some(record) = block_on(stream.next()) {
            each(&record.map_err(words)?.1);
        }
        Ok(())
    }
}

mod logdb_ {
    use super::{Each, Log, words};
    use logdb::{Config, DurabilityMode, LogDb};
    use std::path::Path;

    struct Logged {
        log: LogDb,
        durable: bool,
    }

    impl Log for Logged {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            self.log.append(record).map_err(words)?;
            if self.durable { self.log.flush().map_err(words) } else { Ok(()) }
        }

        fn fill(&self, _: u64, records: &[&[u8]]) -> Result<(), String> {
            self.log.append_batch(records).map(drop).map_err(words)
        }
    }

    fn log(dir: &Path, durable: bool) -> Result<LogDb, String> {
        let durability_mode = if durable { DurabilityMode::Sync } else { DurabilityMode::Async };
        LogDb::open(Config { data_dir: dir.to_owned(), durability_mode, ..Config::default() }).map_err(words)
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Logged { log: log(dir, durable)?, durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let log = log(dir, true)?;
        for record in log.scan(0, u64::MAX).map_err(words)? {
            each(&record.map_err(words)?.content);
        }
        Ok(())
    }
}

mod openwal {
    use super::{Each, Log, Shared, words};
    use open_wal::{Lsn, NullObserver, Wal, WalConfig};
    use std::path::Path;

    impl Log for Shared<Wal<NullObserver>> {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            self.fill(0, &[record])
        }

        fn fill(&self, _: u64, records: &[&[u8]]) -> Result<(), String> {
            self.with(|log| {
                records.iter().try_for_each(|record| log.append(record).map(drop)).map_err(words)?;
                log.commit().map(drop).map_err(words)
            })
        }
    }

    fn log(dir: &Path) -> Result<Wal<NullObserver>, String> {
        std::fs::create_dir_all(dir).map_err(words)?;
        Wal::open(dir, WalConfig { segment_size: 64 << 20, ..WalConfig::default() }).map(|it| it.0).map_err(words)
    }

    pub(super) fn open(dir: &Path, _: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Shared::new(log(dir)?)))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let log = log(dir)?;
        let mut reader = log.reader_from(Lsn(0)).map_err(words)?;
        while let Some(record) = reader.next() {
            each(record.map_err(words)?.1);
        }
        Ok(())
    }
}

mod simple {
    use super::{Each, Log, Shared, words};
    use simple_wal::LogFile;
    use std::path::Path;

    struct Simple {
        log: Shared<LogFile>,
        durable: bool,
    }

    impl Log for Simple {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            self.log.with(|log| {
                log.write(&mut record.to_vec()).map_err(words)?;
                if self.durable { log.flush().map_err(words) } else { Ok(()) }
            })
        }
    }

    fn log(dir: &Path) -> Result<LogFile, String> {
        std::fs::create_dir_all(dir).map_err(words)?;
        LogFile::open(dir.join("log")).map_err(words)
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Simple { log: Shared::new(log(dir)?), durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        for record in log(dir)?.iter(..).map_err(words)? {
            each(&record.map_err(words)?);
        }
        Ok(())
    }
}

mod commitlog_ {
    use super::{Each, Log, Shared, words};
    use commitlog::{CommitLog, LogOptions, ReadLimit, message::MessageSet as _};
    use std::path::Path;

    struct Commits {
        log: Shared<CommitLog>,
        durable: bool,
    }

    impl Log for Commits {
        fn put(&self, _: usize, _: u64, record: &[u8]) -> Result<(), String> {
            self.log.with(|log| {
                log.append_msg(record).map_err(words)?;
                if self.durable { log.flush().map_err(words) } else { Ok(()) }
            })
        }
    }

    fn log(dir: &Path) -> Result<CommitLog, String> {
        CommitLog::new(LogOptions::new(dir)).map_err(words)
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Commits { log: Shared::new(log(dir)?), durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        let log = log(dir)?;
        let mut at = 0;
        loop {
            let found = log.read(at, ReadLimit::max_bytes(1 << 20)).map_err(words)?;
            for record in found.iter() {
                if !record.verify_hash() {
                    return Err(format!("message {} fails its hash", record.offset()));
                }
                each(record.payload());
                at = record.offset() + 1;
            }
            if found.is_empty() {
                return Ok(());
            }
        }
    }
}

mod sled_ {
    use super::{Each, Log, key, words};
    use std::path::Path;

    struct Sled {
        data: sled::Db,
        durable: bool,
    }

    impl Log for Sled {
        fn put(&self, who: usize, nth: u64, record: &[u8]) -> Result<(), String> {
            self.data.insert(key(who, nth).to_be_bytes(), record).map_err(words)?;
            if self.durable { self.data.flush().map(drop).map_err(words) } else { Ok(()) }
        }
    }

    fn data(dir: &Path) -> Result<sled::Db, String> {
        sled::Config::default().path(dir).open().map_err(words)
    }

    pub(super) fn open(dir: &Path, durable: bool) -> Result<Box<dyn Log>, String> {
        Ok(Box::new(Sled { data: data(dir)?, durable }))
    }

    pub(super) fn read(dir: &Path, mut each: Each) -> Result<(), String> {
        for record in data(dir)?.iter() {
            each(&record.map_err(words)?.1);
        }
        Ok(())
    }
}

/// Counts records and adds them up, for who only wants to know that they came.
pub fn counting() -> (Each, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let its = Arc::clone(&count);
    let each = Box::new(move |record: &[u8]| {
        std::hint::black_box(crate::machine::sum(record));
        // ORDERING: Relaxed: read when the reader has returned.
        its.fetch_add(1, Ordering::Relaxed);
    });
    (each, count)
}
