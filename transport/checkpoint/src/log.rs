//! Checkpoints and the log they stand in: cutting it behind them, and going on from them.

use crate::{
    Checkpoint, CheckpointId, Checkpoints, Cursor, Error, Need, Result, name,
    store::{Log, write_all},
};
use chronicle_platform::Platform;
use chronicle_storage::wal::{CommitError, ReadError, ReaderOptions, Wal, WalReader};
use std::io;

/// Which checkpoint is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The newest of a state, or the beginning of the log if there is none.
    Latest(&'a str),
    /// This one.
    Id(CheckpointId),
}

impl<'a> From<&'a str> for Which<'a> {
    fn from(state: &'a str) -> Self {
        Which::Latest(state)
    }
}

impl From<CheckpointId> for Which<'_> {
    fn from(id: CheckpointId) -> Self {
        Which::Id(id)
    }
}

/// What a program goes on from: its state, and every frame behind it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered<P: Platform> {
    /// Where the snapshot is from; `None` if the state has no checkpoint: then all the log is the tail.
    pub checkpoint: Option<Checkpoint>,
    /// The snapshot; empty without a checkpoint.
    pub snapshot: Vec<u8>,
    /// The log from the frame behind the snapshot on: what is durable, and later what becomes so.
    pub tail: WalReader<P>,
}

impl<P: Platform> Checkpoints<P> {
    /// Saves as [`save`](Self::save), and then cuts `wal` behind the oldest need of all kept checkpoints and of all cursors that
    /// hold it (rule D-9: only then). Before that the frames up to `seq` are made durable, if they are not.
    pub fn checkpoint(
        &self,
        wal: &Wal<P>,
        state: &str,
        seq: u64,
        snapshot: &[u8],
        cursors: &[(&str, Cursor)],
    ) -> Result<CheckpointId> {
        self.checkpoint_with(wal, state, cursors, write_all(snapshot, seq))
    }

    /// As [`checkpoint`](Self::checkpoint); `snapshot` writes the bytes and returns the seq that they stand for. It must not use
    /// these checkpoints itself: they wait for it.
    pub fn checkpoint_with(
        &self,
        wal: &Wal<P>,
        state: &str,
        cursors: &[(&str, Cursor)],
        snapshot: impl FnOnce(&mut dyn io::Write) -> io::Result<u64>,
    ) -> Result<CheckpointId> {
        let held = cursors.iter().filter(|(_, cursor)| cursor.holds).map(|(_, cursor)| cursor.seq).max();
        // A snapshot of frames that a crash can take back would be of a stream that never was.
        let durable = |seq: u64| wal.commit(seq.max(held.unwrap_or(0))).map_err(|source| self.not_durable(source));
        let id = self.save_in(Log::Named(wal.id(), &durable), state, cursors, snapshot)?;
        self.truncate(wal)?;
        Ok(id)
    }

    /// Cuts `wal` behind the oldest need, and says what that is: for a program that moved its cursors. Nothing is cut where
    /// nothing is needed, because then nothing says that the frames are not.
    pub fn truncate(&self, wal: &Wal<P>) -> Result<Option<Need>> {
        self.check_log(wal.id())?;
        let need = self.need()?;
        if let Some(need) = &need {
            self.sync()?;
            wal.truncate_before(need.from);
        }
        Ok(need)
    }

    /// The newest frame that anything here stands for: the log had it durable once. Goes into
    /// [`wal::Options::durable_seq`](chronicle_storage::wal::Options::durable_seq), so that a log which lost it is not opened as
    /// if it had merely been torn.
    pub fn durable_seq(&self) -> Result<u64> {
        let states = self.list()?.into_iter().map(|checkpoint| checkpoint.seq);
        let cursors = self.cursors()?.into_iter().filter(|(_, cursor)| cursor.holds).map(|(_, cursor)| cursor.seq);
        Ok(states.chain(cursors).max().unwrap_or(0))
    }

    /// The snapshot of a checkpoint, and the log behind it. Where frames between the two are missing, or the log ends before
    /// the snapshot, that is an error: a state made of what is left would be wrong and look right.
    pub fn recover<'a>(&self, wal: &Wal<P>, which: impl Into<Which<'a>>) -> Result<Recovered<P>> {
        self.check_log(wal.id())?;
        let found = match which.into() {
            Which::Id(id) => Some(self.read(id)?),
            Which::Latest(state) => {
                name::check(state)?;
                self.latest(state)?.map(|newest| self.read(newest.id)).transpose()?
            }
        };
        let (checkpoint, snapshot) = found.unzip();
        let seq = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        let last = wal.next_seq() - 1;
        if last < seq {
            return Err(Error::LogBehind { path: wal.dir().to_path_buf(), seq, last });
        }
        let from = seq.saturating_add(1);
        match WalReader::open(self.platform(), wal.dir(), from, ReaderOptions::default()) {
            Ok(tail) => Ok(Recovered { checkpoint, snapshot: snapshot.unwrap_or_default(), tail }),
            Err(ReadError::Gone { first_seq }) => {
                Err(Error::TailMissing { path: wal.dir().to_path_buf(), seq, first_seq })
            }
            Err(error) => Err(Error::Log(error)),
        }
    }

    fn not_durable(&self, source: CommitError) -> Error {
        Error::NotDurable { path: self.path().to_path_buf(), source }
    }
}
