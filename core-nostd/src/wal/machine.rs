//! The state machine: what is gathered, what is under way, what is durable.
//!
//! ```text
//!   segment 7                                     segment 8, not prepared yet
//!   … ─┬─ batch 40 ─┬─ batch 41 ─┬─ batch 42 ─┐   ┌─ batch 43 ─┐
//!      │  written   │ in flight  │  written   │   │ gathering  │
//!   ───┴────────────┴────────────┴────────────┘   └────────────┘
//!                   ^ `first`: durable may go to here, however much behind it is written
//! ```
//!
//! Batches are numbered from 0; batch `n` lives in buffer `n % (depth + 1)` until everything up to it is written. One is
//! gathered, at most `depth` are sealed and not yet written.

use super::{
    Carry, Config, ConfigError, Header, Kind, Op, OpId, Outcome, Position, SyncBy, Truncation, carry,
    layout::{
        self, BATCH_FRAME_LEN, BatchPayload, CLOSED, ENTRY_HEADER_LEN, FRAME_HEADER_LEN, FRAME_OVERHEAD, TRUNCATION_LEN,
    },
    salt,
    sum::Salted,
};
use crate::RegionMut;
use core::fmt;
use zerocopy::IntoBytes;

/// Most writes in flight.
const MAX_DEPTH: usize = 8;
/// Writes in a row that moved nothing before a write counts as failed (rule D-4).
const EMPTY_MAX: u32 = 8;
/// Times in a row that the system may say "again" to one write or sync. A driver that waits a moment in between is
/// through a shortage by then; for ever would be a hang that nobody hears of.
const AGAIN_MAX: u32 = 4096;

/// Where a machine begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Identity of the log.
    pub wal_id: [u8; 16],
    /// The segment that is begun, from 1: a number that no file of the log ever had.
    pub segment_id: u64,
    /// Accepted end of what comes before; [`Position::ZERO`] = nothing.
    pub predecessor: Position,
    /// Number of the next data frame, from 1.
    pub first_seq: u64,
    /// Takeovers that the log has seen, this one included.
    pub epoch: u32,
    /// Random; every segment's salt comes from it.
    pub salt_seed: u64,
    /// Up to where all is proved durable.
    pub durable: Position,
    /// Newest data frame before that position; 0 = none.
    pub durable_seq: u64,
    /// What stands at that position.
    pub carry: Carry<'a>,
}

/// Names all batches up to the one that something was gathered into. See [`Machine::is_durable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why nothing was appended. The log is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// All buffers hold what is not written yet: drive the machine, then try again.
    Full,
    /// No batch can take such a payload.
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest one.
        max: usize,
    },
    /// The next segment could not be prepared: see to what was wrong, then [`Machine::retry`].
    Stalled {
        /// What the system said.
        errno: i32,
    },
    /// What stands would take more than each segment has room for at its head ([`Config::carry_len`]).
    CarryFull {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        room: usize,
    },
    /// Not a frame that an application appends: batch and pad frames are the machine's, data frames go by
    /// [`Machine::append`], and a truncation voids frames that exist.
    Control,
    /// A write or a sync failed: nothing is durable any more that was not before.
    Poisoned,
    /// The log is being closed.
    Closed,
    /// The numbers are used up.
    SeqEnd,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Full => write!(f, "log full for now: every buffer waits to be written"),
            AppendError::TooLarge { len, max } => {
                write!(f, "payload of {len} bytes is too large: a batch takes at most {max}")
            }
            AppendError::Stalled { errno } => {
                write!(f, "log stalled: the next segment could not be prepared (errno {errno})")
            }
            AppendError::CarryFull { needed, room } => {
                write!(f, "carry full: votes, meta values and truncations would take {needed} bytes, {room} there")
            }
            AppendError::Control => write!(f, "frame is not one that an application appends"),
            AppendError::Poisoned => write!(f, "log poisoned: an earlier write or sync failed"),
            AppendError::Closed => write!(f, "log closed"),
            AppendError::SeqEnd => write!(f, "log out of sequence numbers"),
        }
    }
}

impl core::error::Error for AppendError {}

/// What poisoned a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// A write failed.
    Write {
        /// What the system said.
        errno: i32,
    },
    /// A sync failed.
    Sync {
        /// What the system said.
        errno: i32,
    },
    /// A write moved nothing, several times in a row, or more than was asked.
    Short {
        /// Bytes that were missing.
        missing: u32,
    },
    /// The system said "again" until it was no answer any more.
    Again,
    /// The caller said so.
    Told {
        /// What the system said to it.
        errno: i32,
    },
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Poison::Write { errno } => write!(f, "write failed (errno {errno})"),
            Poison::Sync { errno } => write!(f, "sync failed (errno {errno})"),
            Poison::Short { missing } => write!(f, "short write could not be completed: {missing} bytes missing"),
            Poison::Again => write!(f, "operation was put off {AGAIN_MAX} times"),
            Poison::Told { errno } => write!(f, "poisoned by its owner (errno {errno})"),
        }
    }
}

impl core::error::Error for Poison {}

/// Why a segment cannot be retired now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetireError {
    /// It is the current segment, a later one, or not all of it is durable.
    NotDurable,
    /// The first batch of the current segment, which repeats what stands, is not durable yet.
    NotCarried,
    /// Another one is on its way.
    Busy,
    /// The machine is poisoned.
    Poisoned,
}

impl fmt::Display for RetireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RetireError::NotDurable => "segment is current or not durable to its end",
            RetireError::NotCarried => "what the segment says is not repeated durably yet",
            RetireError::Busy => "another segment is being retired",
            RetireError::Poisoned => "log poisoned: an earlier write or sync failed",
        })
    }
}

impl core::error::Error for RetireError {}

/// Bugs to make on purpose, so that a checker can be seen to find them. Never in a normal build.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Planted {
    /// The room of a segment is taken to be one block longer than it is.
    pub segment_end: bool,
    /// The head of a segment does not repeat the newest vote.
    pub vote_not_repeated: bool,
    /// Every segment has the same salt.
    pub ignore_salt: bool,
}

#[cfg(feature = "planted")]
impl Planted {
    /// No bug.
    pub const NONE: Planted = Planted { segment_end: false, vote_not_repeated: false, ignore_salt: false };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Sealed; its rest waits to be handed out.
    #[default]
    Ready,
    InFlight(OpId),
    Written,
}

/// A sealed batch.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    segment: u64,
    offset: u64,
    len: u32,
    /// Bytes written so far, whole blocks.
    done: u32,
    /// Number that the next data frame has behind it.
    next_seq: u64,
    stage: Stage,
    /// Tries in a row that moved nothing.
    empty: u32,
    again: u32,
}

/// How far something goes: so many batches, the position behind them and the newest data frame in them.
#[derive(Clone, Copy, Debug)]
struct Reach {
    batches: u64,
    position: Position,
    seq: u64,
}

#[derive(Clone, Copy, Debug)]
struct SyncUnderWay {
    segment: u64,
    reach: Reach,
    again: u32,
    op: Option<OpId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparing {
    No,
    Ready,
    InFlight(OpId),
    Stalled(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retiring {
    No,
    Ready(u64),
    InFlight(u64, OpId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// Waiting until all that was gathered is durable, so that the closed batch proves it.
    Closing,
    /// The closed batch is sealed.
    Sealed,
}

/// The writing end of a log. See the module.
#[derive(Debug)]
pub struct Machine<R> {
    region: R,
    config: Config,

    // What an append needs.
    /// Offset in the region of the batch that is gathered.
    base: usize,
    /// Bytes of it that are used.
    fill: usize,
    /// Bytes of it that may be used; `fill` while nothing may be appended.
    cap: usize,
    /// Starts the sums of the current segment.
    sum: Salted,
    next_seq: u64,

    // The batch that is gathered, or the one that will be.
    open: bool,
    batch: u64,
    batch_first_seq: u64,
    /// What `cap` is when nothing holds appends up.
    room: usize,
    /// Where it goes.
    at: Position,

    // The segment that it goes to.
    wal_id: [u8; 16],
    epoch: u32,
    salt_seed: u64,
    predecessor: Position,
    segment_first_seq: u64,
    /// The segment's opening batch; `None` = durable before this machine began.
    opening: Option<u64>,
    preparing: Preparing,

    // What is sealed.
    slots: [Slot; MAX_DEPTH + 1],
    in_flight: u8,
    written: Reach,
    durable: Reach,
    /// Oldest segment that a sync must still be asked for.
    unsynced: u64,
    sync: Option<SyncUnderWay>,
    /// Batches before this one shall be written, whether full or not.
    wanted: u64,
    /// Batches before this one shall be durable.
    demanded: u64,

    // What stands, in one half of the carry area.
    half: usize,
    vote: Option<u32>,
    meta: Option<u32>,
    truncations: u32,
    /// Oldest data frame that still exists, as far as is known.
    kept_from: u64,

    life: Life,
    poison: Option<Poison>,
    retiring: Retiring,
    recycle_trouble: Option<i32>,
    last_op: u32,
}

impl<R: RegionMut> Machine<R> {
    /// Begins a new segment: the first of a log, or the one that takes over from a log that was not closed.
    ///
    /// Nothing is prepared: writes go to `start.segment_id` at once. A takeover appends again, in order, every frame past
    /// the proved position; frames get the numbers that they had. Then [`Machine::flush`], drive until the ticket is
    /// durable, write [`Machine::header`] and publish the file.
    ///
    /// # Errors
    ///
    /// Measures that do not fit one another, the region or what stands; or a start that no log has.
    pub fn begin(region: R, config: Config, start: &Start<'_>) -> Result<Self, ConfigError> {
        let mut machine = Self::new(region, config, start)?;
        machine.at = Position { segment: start.segment_id, offset: config.block_size.into() };
        machine.opening = Some(0);
        machine.open_batch();
        machine.carry_in();
        Ok(machine)
    }

    /// Goes on in a segment that a clean close ended: `at` is behind its closed batch, `next_seq` the number of the next
    /// data frame.
    ///
    /// The first operation writes an empty batch. Until it is durable a crash would look like the clean close before, so
    /// it must be done before anything else.
    ///
    /// # Errors
    ///
    /// As [`Machine::begin`]; measures that are not the segment's; or no room in it: then begin a new one.
    pub fn resume(
        region: R,
        config: Config,
        header: &Header,
        at: Position,
        next_seq: u64,
        salt_seed: u64,
        carry: Carry<'_>,
    ) -> Result<Self, ConfigError> {
        let start = Start {
            wal_id: header.wal_id,
            segment_id: header.segment_id,
            predecessor: header.predecessor(),
            first_seq: next_seq,
            epoch: header.epoch,
            salt_seed,
            durable: at,
            durable_seq: next_seq.saturating_sub(1),
            carry,
        };
        let mut machine = Self::new(region, config, &start)?;
        let same = [
            ("block_size", u64::from(header.block_size), u64::from(config.block_size)),
            ("batch_len", header.batch_len.into(), config.batch_len.into()),
            ("segment_len", header.segment_len, config.segment_len),
            ("segment", header.segment_id, at.segment),
        ];
        for (name, found, expected) in same {
            if found != expected {
                return Err(ConfigError::Start { name, found });
            }
        }
        let block = u64::from(config.block_size);
        if at.offset < block || !at.offset.is_multiple_of(block) {
            return Err(ConfigError::Start { name: "offset", found: at.offset });
        }
        // One block for the batch that opens, one for the batch that closes.
        let left = config.segment_len.saturating_sub(at.offset);
        if left < 2 * block {
            return Err(ConfigError::NoRoom { left });
        }
        machine.at = at;
        machine.sum = Salted::new(header.salt);
        machine.segment_first_seq = header.first_seq;
        machine.open_batch();
        machine.seal(0);
        machine.demanded = machine.batch;
        Ok(machine)
    }

    fn new(region: R, config: Config, start: &Start<'_>) -> Result<Self, ConfigError> {
        config.check()?;
        let Some(needed) = super::layout(&config) else {
            return Err(ConfigError::BatchLen { asked: config.batch_len });
        };
        if region.len() < needed.size() {
            return Err(ConfigError::Region { needed: needed.size(), found: region.len() });
        }
        let fields = [
            ("segment_id", start.segment_id, start.segment_id != 0),
            (
                "predecessor",
                start.predecessor.segment,
                start.predecessor.segment < start.segment_id
                    && (start.predecessor.segment == 0) == (start.predecessor.offset == 0),
            ),
            ("first_seq", start.first_seq, (1..layout::SEQ_END).contains(&start.first_seq)),
            ("durable", start.durable.segment, start.durable.segment <= start.segment_id),
            ("durable_seq", start.durable_seq, start.durable_seq < start.first_seq),
        ];
        for (name, found, fits) in fields {
            if !fits {
                return Err(ConfigError::Start { name, found });
            }
        }
        let reach = Reach { batches: 0, position: start.durable, seq: start.durable_seq };
        let mut machine = Machine {
            region,
            config,
            base: 0,
            fill: 0,
            cap: 0,
            sum: Salted::new(0),
            next_seq: start.first_seq,
            open: false,
            batch: 0,
            batch_first_seq: start.first_seq,
            room: 0,
            at: Position::ZERO,
            wal_id: start.wal_id,
            epoch: start.epoch,
            salt_seed: start.salt_seed,
            predecessor: start.predecessor,
            segment_first_seq: start.first_seq,
            opening: None,
            preparing: Preparing::No,
            slots: [Slot::default(); MAX_DEPTH + 1],
            in_flight: 0,
            written: reach,
            durable: reach,
            unsynced: start.segment_id,
            sync: None,
            wanted: 0,
            demanded: 0,
            half: 0,
            vote: None,
            meta: None,
            truncations: 0,
            kept_from: 0,
            life: Life::Open,
            poison: None,
            retiring: Retiring::No,
            recycle_trouble: None,
            last_op: 0,
        };
        machine.sum = Salted::new(machine.salt_of(start.segment_id));
        machine.carry_from(&start.carry)?;
        Ok(machine)
    }

    /// Appends a data frame and says its number. It is copied; nothing is written yet.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. The log is as it was.
    #[inline]
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        if payload.len() + FRAME_OVERHEAD > self.cap - self.fill {
            self.make_room(payload.len())?;
        }
        let seq = self.next_seq;
        self.put(Kind::Data, payload);
        self.next_seq = seq + 1;
        Ok(seq)
    }

    /// Appends a vote, truncate or meta frame. Its ticket says which batch it is in.
    ///
    /// A vote's and a meta frame's payload are the application's bytes; the newest of each is repeated at the head of
    /// every segment. A truncation's begins with the number of the newest data frame that stays, a little-endian `u64`.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. The log is as it was.
    pub fn append_control(&mut self, kind: Kind, payload: &[u8]) -> Result<Ticket, AppendError> {
        let truncation = match kind {
            Kind::Vote | Kind::Meta => None,
            Kind::Truncate => match Truncation::parse(payload, self.next_seq) {
                Some(truncation) => Some(truncation),
                None => return Err(AppendError::Control),
            },
            Kind::Data | Kind::Batch | Kind::Pad => return Err(AppendError::Control),
        };
        let max = self.config.max_payload() as usize;
        let whole = if kind == Kind::Meta { carry::entry_len(payload.len().min(max)) } else { payload.len() };
        if whole > max || payload.len() > max {
            return Err(AppendError::TooLarge { len: payload.len(), max });
        }
        let standing = match kind {
            Kind::Vote => self.standing_len(Some(payload.len() as u32), self.meta, self.truncations),
            Kind::Meta => self.standing_len(self.vote, Some(payload.len() as u32), self.truncations),
            _ => self.standing_len(self.vote, self.meta, self.truncations_with(truncation)),
        };
        let room = self.config.carry_len as usize;
        if standing > room {
            return Err(AppendError::CarryFull { needed: standing, room });
        }
        if whole + FRAME_OVERHEAD > self.cap - self.fill {
            self.make_room(whole)?;
        }
        if kind == Kind::Meta {
            self.put_entry(payload);
        } else {
            self.put(kind, payload);
        }
        self.carry_on(kind, payload, truncation);
        Ok(Ticket(self.batch + 1))
    }

    /// Whether appending a payload of this length would begin a new segment: who has no spare file for it may refuse
    /// before anything is gathered that could not be written.
    #[must_use]
    pub fn rolls(&self, payload_len: usize) -> bool {
        let needed = payload_len + FRAME_OVERHEAD;
        if self.open && needed <= self.room - self.fill {
            return false;
        }
        let used = if self.open { (self.fill as u64).next_multiple_of(self.config.block_size.into()) } else { 0 };
        self.room_at(self.at.offset + used) < BATCH_FRAME_LEN + needed
    }

    /// Somebody waits until the data frame `seq`, and all before it, is durable: what is gathered is written as soon as
    /// there is a write to spare.
    #[inline]
    pub fn demand(&mut self, seq: u64) {
        if seq > self.durable.seq {
            let until = if self.open && seq >= self.batch_first_seq { self.batch + 1 } else { self.batch };
            self.wanted = self.wanted.max(until);
            self.demanded = self.demanded.max(until);
        }
    }

    /// Somebody waits until all that was appended so far is durable, control frames too: the ticket says when.
    pub fn demand_all(&mut self) -> Ticket {
        let until = self.flush();
        self.demanded = self.demanded.max(until.0);
        until
    }

    /// What was appended so far shall be written without waiting for more. It becomes durable by that too, unless
    /// [`SyncBy::Request`] leaves the sync to [`Machine::demand`].
    pub fn flush(&mut self) -> Ticket {
        let until = if self.open { self.batch + 1 } else { self.batch };
        self.wanted = self.wanted.max(until);
        Ticket(until)
    }

    /// Whether what this ticket names is durable.
    #[must_use]
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.durable.batches
    }

    /// The next thing to do, or none for now. From the same calls, the same operations.
    pub fn next_op(&mut self) -> Option<Op> {
        if self.poison.is_some() {
            return None;
        }
        self.prepare_op().or_else(|| self.sync_op()).or_else(|| self.write_op()).or_else(|| self.recycle_op())
    }

    /// As [`Machine::next_op`], of what changes names alone: no write and no sync.
    pub fn next_name_op(&mut self) -> Option<Op> {
        if self.poison.is_some() {
            return None;
        }
        self.prepare_op().or_else(|| self.recycle_op())
    }

    /// Reports how an operation ended. Each once, in any order.
    ///
    /// # Panics
    ///
    /// If no such operation is under way.
    pub fn complete(&mut self, op: OpId, outcome: Outcome) {
        if self.preparing == Preparing::InFlight(op) {
            self.prepared(outcome);
        } else if let Retiring::InFlight(segment, of) = self.retiring
            && of == op
        {
            self.recycled(segment, outcome);
        } else if let Some(sync) = self.sync
            && sync.op == Some(op)
        {
            self.synced(sync, outcome);
        } else {
            let Some(slot) = self.slots.iter().position(|slot| slot.stage == Stage::InFlight(op)) else {
                panic!("bug: {op} was completed and is not under way");
            };
            self.in_flight -= 1;
            self.wrote(slot, outcome);
        }
    }

    /// Newest data frame that is durable, with all before it; 0 = none.
    #[inline]
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.seq
    }

    /// Up to where all is durable: the end of a batch.
    #[must_use]
    pub fn durable_position(&self) -> Position {
        self.durable.position
    }

    /// Newest data frame that is written, with all before it.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.seq
    }

    /// Up to where all is written.
    #[must_use]
    pub fn written_position(&self) -> Position {
        self.written.position
    }

    /// Where the batch that is gathered goes, or the next one if none is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.at
    }

    /// The number that the next data frame gets.
    #[inline]
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The current segment's header, with what is durable now.
    #[must_use]
    pub fn header(&self) -> Header {
        Header {
            wal_id: self.wal_id,
            segment_id: self.at.segment,
            predecessor_id: self.predecessor.segment,
            predecessor_end: self.predecessor.offset,
            durable: self.durable.position,
            durable_seq: self.durable.seq,
            first_seq: self.segment_first_seq,
            segment_len: self.config.segment_len,
            created_ns: 0,
            block_size: self.config.block_size,
            batch_len: self.config.batch_len,
            epoch: self.epoch,
            salt: self.sum.salt(),
        }
    }

    /// The measures.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Whether a failed write or sync ended this machine's promises, and which.
    #[must_use]
    pub fn poisoned(&self) -> Option<Poison> {
        self.poison
    }

    /// As [`Machine::poisoned`], without the reason.
    #[inline]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// For an owner that knows of trouble which the machine does not see, such as a directory that cannot be synced:
    /// nothing is acknowledged from now on.
    pub fn poison(&mut self, errno: i32) {
        self.die(Poison::Told { errno });
    }

    /// What the system said when the next segment could not be prepared. Nothing is lost: see to it, then
    /// [`Machine::retry`].
    #[must_use]
    pub fn stalled(&self) -> Option<i32> {
        match self.preparing {
            Preparing::Stalled(errno) => Some(errno),
            _ => None,
        }
    }

    /// Hands out again the preparation that failed.
    pub fn retry(&mut self) {
        if let Preparing::Stalled(_) = self.preparing {
            self.preparing = Preparing::Ready;
            self.set_cap();
        }
    }

    /// Hands out a `Recycle` of `segment`, which nobody needs any more; which segments exist is the caller's to know, oldest
    /// first. `kept_from` is the number of the oldest data frame that stays: truncations that void only older ones need
    /// not be repeated any more.
    ///
    /// # Errors
    ///
    /// Not now; see [`RetireError`].
    pub fn retire(&mut self, segment: u64, kept_from: u64) -> Result<(), RetireError> {
        if self.poison.is_some() {
            return Err(RetireError::Poisoned);
        }
        if segment >= self.at.segment || segment >= self.durable.position.segment {
            return Err(RetireError::NotDurable);
        }
        if self.opening.is_some_and(|batch| batch >= self.durable.batches) {
            return Err(RetireError::NotCarried);
        }
        if self.retiring != Retiring::No {
            return Err(RetireError::Busy);
        }
        self.kept_from = self.kept_from.max(kept_from);
        self.carry_on(Kind::Data, &[], None);
        self.recycle_trouble = None;
        self.retiring = Retiring::Ready(segment);
        Ok(())
    }

    /// What the system said when the last segment could not be recycled. It is the caller's to retire again; the log is
    /// none the worse.
    #[must_use]
    pub fn recycle_trouble(&self) -> Option<i32> {
        self.recycle_trouble
    }

    /// Takes no frame any more. Once all is durable, a last batch says so; [`Machine::is_closed`] when that is durable too.
    pub fn close(&mut self) {
        if self.life == Life::Open {
            self.demand_all();
            self.life = Life::Closing;
            self.set_cap();
        }
    }

    /// Whether the closed batch is durable.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.life == Life::Sealed && self.durable.batches == self.batch
    }

    /// Oldest segment that operations may still be handed out for: the files of all before it may be closed.
    #[must_use]
    pub fn oldest_in_use(&self) -> u64 {
        let written = (self.written.batches..self.batch).map(|batch| self.slot(batch).segment).next();
        let oldest = written.unwrap_or(self.at.segment);
        if self.config.sync == SyncBy::Write { oldest } else { oldest.min(self.unsynced) }
    }

    /// Whether anything was handed out and not completed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0
            && self.sync.is_none_or(|sync| sync.op.is_none())
            && !matches!(self.preparing, Preparing::InFlight(_))
            && !matches!(self.retiring, Retiring::InFlight(..))
    }
}

/// Gathering.
impl<R: RegionMut> Machine<R> {
    /// Makes room for a payload of `len` bytes: seals the batch that is full, begins the next one, begins a segment.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, len: usize) -> Result<(), AppendError> {
        if self.poison.is_some() {
            return Err(AppendError::Poisoned);
        }
        if self.life != Life::Open {
            return Err(AppendError::Closed);
        }
        let max = self.config.max_payload() as usize;
        if len > max {
            return Err(AppendError::TooLarge { len, max });
        }
        if let Preparing::Stalled(errno) = self.preparing {
            return Err(AppendError::Stalled { errno });
        }
        if !self.seqs_left() {
            return Err(AppendError::SeqEnd);
        }
        let needed = len + FRAME_OVERHEAD;
        loop {
            if self.open {
                if needed <= self.room - self.fill {
                    return Ok(());
                }
                self.seal(0);
            }
            if self.batch - self.written.batches > u64::from(self.config.depth) {
                return Err(AppendError::Full);
            }
            if self.room_at(self.at.offset) >= BATCH_FRAME_LEN + needed {
                self.open_batch();
            } else {
                // One segment at a time: its header names the exact end of the one before.
                if self.preparing != Preparing::No {
                    return Err(AppendError::Full);
                }
                self.roll();
            }
        }
    }

    /// Bytes that a batch at `offset` may take: the segment's last block is kept for the batch that closes.
    fn room_at(&self, offset: u64) -> usize {
        let end = self.config.segment_len - u64::from(self.config.block_size);
        #[cfg(feature = "planted")]
        let end = if self.config.planted.segment_end { end + 2 * u64::from(self.config.block_size) } else { end };
        let left = end.saturating_sub(offset);
        left.min(self.config.batch_len.into()) as usize
    }

    fn salt_of(&self, segment: u64) -> u32 {
        #[cfg(feature = "planted")]
        if self.config.planted.ignore_salt {
            return 0;
        }
        salt(self.salt_seed, segment)
    }

    /// Begins to gather a batch at `self.at`. Its own frame is put in when it is sealed.
    fn open_batch(&mut self) {
        self.base = self.buffer(self.batch);
        self.fill = BATCH_FRAME_LEN;
        self.room = self.room_at(self.at.offset);
        self.open = true;
        self.batch_first_seq = self.next_seq;
        self.set_cap();
    }

    /// Ends the current segment and begins to gather the next one's first batch, which repeats what stands.
    fn roll(&mut self) {
        self.predecessor = self.at;
        self.at = Position { segment: self.at.segment + 1, offset: self.config.block_size.into() };
        self.sum = Salted::new(self.salt_of(self.at.segment));
        self.segment_first_seq = self.next_seq;
        self.opening = Some(self.batch);
        self.preparing = Preparing::Ready;
        self.open_batch();
        self.carry_in();
    }

    fn set_cap(&mut self) {
        let may = self.open
            && self.life == Life::Open
            && self.poison.is_none()
            && self.seqs_left()
            && !matches!(self.preparing, Preparing::Stalled(_));
        self.cap = if may { self.room } else { self.fill };
    }

    /// Whether a whole batch of the smallest frames could be numbered.
    fn seqs_left(&self) -> bool {
        self.next_seq + u64::from(self.config.batch_len) < layout::SEQ_END
    }

    fn buffer(&self, batch: u64) -> usize {
        self.index(batch) * self.config.batch_len as usize
    }

    fn index(&self, batch: u64) -> usize {
        (batch % (u64::from(self.config.depth) + 1)) as usize
    }

    fn slot(&self, batch: u64) -> &Slot {
        &self.slots[self.index(batch)]
    }

    /// Puts a frame behind what is gathered. There is room.
    #[inline]
    fn put(&mut self, kind: Kind, payload: &[u8]) {
        self.frame(self.fill, kind, self.next_seq, payload);
        self.fill += FRAME_OVERHEAD + payload.len();
    }

    /// Stores a frame at `at` of the gathering buffer.
    #[inline]
    fn frame(&self, at: usize, kind: Kind, seq: u64, payload: &[u8]) {
        let mut crc = self.crc_of_header(kind, seq, payload.len());
        crc.update(payload);
        self.region.window_mut().wal_frame(self.base + at, seq, kind as u8, payload, crc.finalize());
    }

    /// The sum so far of a frame whose payload follows.
    ///
    /// The header and the payload are two runs: putting them together first costs more than it saves, because the sum
    /// then loads bytes across the stores that have just been made (13.8 ns for 128 bytes in two runs, 30 copied together).
    #[inline]
    fn crc_of_header(&self, kind: Kind, seq: u64, len: usize) -> crc32fast::Hasher {
        let mut crc = self.sum.start();
        crc.update(&header_bytes(kind, seq, len));
        crc
    }

    /// Stores a frame whose payload is `len` bytes that `fill` stores, from an offset of the region on, and sums.
    fn frame_in_parts(&mut self, kind: Kind, len: usize, fill: impl FnOnce(&Self, usize, &mut crc32fast::Hasher)) {
        let mut crc = self.crc_of_header(kind, self.next_seq, len);
        let window = self.region.window_mut();
        let at = self.base + self.fill;
        window.copy_in(at, &header_bytes(kind, self.next_seq, len));
        fill(self, at + FRAME_HEADER_LEN, &mut crc);
        window.copy_in(at + FRAME_HEADER_LEN + len, &crc.finalize().to_le_bytes());
        self.fill += FRAME_OVERHEAD + len;
    }

    /// Puts the application's meta bytes as a frame with one entry.
    fn put_entry(&mut self, payload: &[u8]) {
        let mut head = [0; ENTRY_HEADER_LEN];
        head[0] = Kind::Meta as u8;
        head[4..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let padding = &[0; 3][..payload.len().next_multiple_of(4) - payload.len()];
        self.frame_in_parts(Kind::Meta, carry::entry_len(payload.len()), |this, mut to, crc| {
            for part in [&head[..], payload, padding] {
                crc.update(part);
                this.region.window_mut().copy_in(to, part);
                to += part.len();
            }
        });
    }

    /// Fills up the last block with a frame of zeros, or with zeros where not even an empty frame fits.
    fn pad(&mut self) {
        const ZEROS: [u8; 1024] = [0; 1024];
        let left = self.fill.next_multiple_of(self.config.block_size as usize) - self.fill;
        self.region.window_mut().zero(self.base + self.fill, left);
        if let Some(len) = left.checked_sub(FRAME_OVERHEAD) {
            self.frame_in_parts(Kind::Pad, len, |_, _, crc| {
                let mut left = len;
                while left > 0 {
                    let part = left.min(ZEROS.len());
                    crc.update(&ZEROS[..part]);
                    left -= part;
                }
            });
        } else {
            self.fill += left;
        }
    }

    /// Fills up the last block, writes the batch's own frame and hands the batch over to be written.
    fn seal(&mut self, flags: u32) {
        self.pad();
        let len = self.fill;
        let payload = BatchPayload {
            durable_segment: self.durable.position.segment.into(),
            durable_offset: self.durable.position.offset.into(),
            durable_seq: self.durable.seq.into(),
            at: self.at.offset.into(),
            len: (len as u32).into(),
            flags: flags.into(),
        };
        self.frame(0, Kind::Batch, self.batch_first_seq, payload.as_bytes());
        let index = self.index(self.batch);
        self.slots[index] = Slot {
            segment: self.at.segment,
            offset: self.at.offset,
            len: len as u32,
            next_seq: self.next_seq,
            ..Slot::default()
        };
        self.at.offset += len as u64;
        self.batch += 1;
        self.open = false;
        self.fill = 0;
        self.room = 0;
        self.cap = 0;
    }
}

/// Operations.
impl<R: RegionMut> Machine<R> {
    fn op_id(&mut self) -> OpId {
        self.last_op = self.last_op.wrapping_add(1);
        OpId::new(self.last_op)
    }

    fn prepare_op(&mut self) -> Option<Op> {
        if self.preparing != Preparing::Ready {
            return None;
        }
        let op = self.op_id();
        self.preparing = Preparing::InFlight(op);
        Some(Op::Prepare { op, header: self.header() })
    }

    fn sync_op(&mut self) -> Option<Op> {
        if let Some(sync) = &mut self.sync {
            // Only one at a time, or the one that is tried again.
            if sync.op.is_some() {
                return None;
            }
        } else {
            let due = match self.config.sync {
                SyncBy::Write => false,
                SyncBy::Op => self.written.batches > self.durable.batches,
                SyncBy::Request => self.written.batches > self.durable.batches && self.demanded > self.durable.batches,
            };
            if !due {
                return None;
            }
            // Rule D-20: what it covers is what is written now.
            let segment = self.unsynced.min(self.written.position.segment);
            self.sync = Some(SyncUnderWay { segment, reach: self.written, again: 0, op: None });
        }
        let op = self.op_id();
        let sync = self.sync.as_mut()?;
        sync.op = Some(op);
        Some(Op::Sync { op, segment: sync.segment })
    }

    fn write_op(&mut self) -> Option<Op> {
        if self.in_flight >= self.config.depth {
            return None;
        }
        if self.ready().is_none() {
            // Where it cannot be written yet, more may be gathered meanwhile.
            if self.open && self.wanted > self.batch && self.preparing == Preparing::No {
                self.seal(0);
            } else if self.life == Life::Closing && !self.open && self.durable.batches == self.batch {
                // Empty, and only now: that it is there proves all before it.
                self.open_batch();
                self.seal(CLOSED);
                self.life = Life::Sealed;
                self.demanded = self.batch;
            }
        }
        let index = self.ready()?;
        let op = self.op_id();
        let from = index * self.config.batch_len as usize;
        let slot = &mut self.slots[index];
        slot.stage = Stage::InFlight(op);
        self.in_flight += 1;
        Some(Op::Write {
            op,
            segment: slot.segment,
            offset: slot.offset + u64::from(slot.done),
            from: from + slot.done as usize,
            len: slot.len - slot.done,
            sync: self.config.sync == SyncBy::Write,
        })
    }

    /// The oldest batch that can be handed out: sealed, its segment prepared.
    fn ready(&self) -> Option<usize> {
        let unprepared = if self.preparing == Preparing::No { u64::MAX } else { self.at.segment };
        (self.written.batches..self.batch)
            .map(|batch| self.index(batch))
            .find(|index| self.slots[*index].stage == Stage::Ready && self.slots[*index].segment < unprepared)
    }

    fn recycle_op(&mut self) -> Option<Op> {
        let Retiring::Ready(segment) = self.retiring else { return None };
        let op = self.op_id();
        self.retiring = Retiring::InFlight(segment, op);
        Some(Op::Recycle { op, segment })
    }

    fn prepared(&mut self, outcome: Outcome) {
        self.preparing = match outcome {
            Outcome::Done(_) => Preparing::No,
            Outcome::Again => Preparing::Ready,
            Outcome::Failed(errno) => Preparing::Stalled(errno),
        };
        self.set_cap();
    }

    fn recycled(&mut self, segment: u64, outcome: Outcome) {
        self.retiring = match outcome {
            Outcome::Again => Retiring::Ready(segment),
            Outcome::Done(_) | Outcome::Failed(_) => Retiring::No,
        };
        if let Outcome::Failed(errno) = outcome {
            self.recycle_trouble = Some(errno);
        }
    }

    fn synced(&mut self, mut sync: SyncUnderWay, outcome: Outcome) {
        sync.op = None;
        match outcome {
            Outcome::Done(_) => {
                if sync.segment < sync.reach.position.segment {
                    // An older segment is durable to its end; the rest of what was written then follows.
                    self.unsynced = sync.segment + 1;
                    sync.segment += 1;
                    sync.again = 0;
                    self.sync = Some(sync);
                } else {
                    self.unsynced = sync.segment;
                    self.sync = None;
                    self.reached(sync.reach);
                }
            }
            Outcome::Again if sync.again < AGAIN_MAX => {
                sync.again += 1;
                self.sync = Some(sync);
            }
            Outcome::Again => self.die(Poison::Again),
            Outcome::Failed(errno) => self.die(Poison::Sync { errno }),
        }
    }

    fn wrote(&mut self, index: usize, outcome: Outcome) {
        let block = self.config.block_size;
        let slot = &mut self.slots[index];
        slot.stage = Stage::Ready;
        let left = slot.len - slot.done;
        match outcome {
            Outcome::Done(len) if len == left => {
                slot.done = slot.len;
                slot.stage = Stage::Written;
                self.advance();
            }
            Outcome::Done(len) if len < left => {
                // The block that it ended in is written again, whole.
                let whole = len - len % block;
                slot.done += whole;
                (slot.empty, slot.again) = if whole == 0 { (slot.empty + 1, slot.again) } else { (0, 0) };
                if slot.empty >= EMPTY_MAX {
                    self.die(Poison::Short { missing: left });
                }
            }
            Outcome::Done(_) => self.die(Poison::Short { missing: left }),
            Outcome::Again if slot.again < AGAIN_MAX => slot.again += 1,
            Outcome::Again => self.die(Poison::Again),
            Outcome::Failed(errno) => self.die(Poison::Write { errno }),
        }
    }

    /// Moves over the batches that are written without a hole.
    fn advance(&mut self) {
        while self.written.batches < self.batch {
            let slot = *self.slot(self.written.batches);
            if slot.stage != Stage::Written {
                break;
            }
            self.written = Reach {
                batches: self.written.batches + 1,
                position: Position { segment: slot.segment, offset: slot.offset + u64::from(slot.len) },
                seq: slot.next_seq - 1,
            };
        }
        if self.config.sync == SyncBy::Write {
            self.reached(self.written);
        }
    }

    /// Rule D-2: after a failure nothing is acknowledged, whatever still completes.
    fn reached(&mut self, reach: Reach) {
        if self.poison.is_none() {
            self.durable = reach;
        }
    }

    fn die(&mut self, poison: Poison) {
        if self.poison.is_none() {
            self.poison = Some(poison);
        }
        self.set_cap();
    }
}

/// What stands, kept as the payload of the meta frame that will repeat it: the vote, the application's meta bytes, the
/// truncations, each as an entry. Two halves, of which one is valid: a change is put together in the other.
impl<R: RegionMut> Machine<R> {
    fn carry_at(&self, half: usize) -> usize {
        let buffers = (self.config.depth as usize + 1) * self.config.batch_len as usize;
        buffers + half * self.config.carry_len as usize
    }

    fn standing_len(&self, vote: Option<u32>, meta: Option<u32>, truncations: u32) -> usize {
        let entry = |len: Option<u32>| len.map_or(0, |len| carry::entry_len(len as usize));
        entry(vote) + entry(meta) + truncations as usize * TRUNCATION_LEN
    }

    /// Offset in the region of the truncation numbered `index`.
    fn truncation_at(&self, half: usize, vote: Option<u32>, meta: Option<u32>, index: u32) -> usize {
        self.carry_at(half) + self.standing_len(vote, meta, index)
    }

    fn truncation(&self, index: u32) -> Truncation {
        let at = self.truncation_at(self.half, self.vote, self.meta, index) + ENTRY_HEADER_LEN;
        let window = self.region.window();
        Truncation { after: window.load64(at), at: window.load64(at + 8) }
    }

    /// How many truncations matter still once `new` is said: those that it does not swallow.
    fn truncations_with(&self, new: Option<Truncation>) -> u32 {
        let (mut count, mut new) = (
            self.truncations,
            match new {
                Some(new) => new,
                None => return self.truncations,
            },
        );
        while count > 0
            && let Some(merged) = new.merge(&self.truncation(count - 1))
        {
            (count, new) = (count - 1, merged);
        }
        count + 1
    }

    fn carry_from(&mut self, start: &Carry<'_>) -> Result<(), ConfigError> {
        let (needed, found) = (start.len(), self.config.carry_len as usize);
        if needed > found {
            return Err(ConfigError::Carry { needed, found });
        }
        if let Some(vote) = start.vote {
            self.carry_on(Kind::Vote, vote, None);
        }
        if let Some(meta) = start.meta {
            self.carry_on(Kind::Meta, meta, None);
        }
        let mut last = 0;
        for truncation in start.truncations {
            // Sorted, disjoint, in the past.
            if truncation.after < last || truncation.after >= truncation.at || truncation.at > self.next_seq {
                return Err(ConfigError::Start { name: "truncation", found: truncation.at });
            }
            last = truncation.at;
            self.carry_on(Kind::Truncate, &[], Some(*truncation));
        }
        Ok(())
    }

    /// Takes over what a control frame says, which fits, and drops the truncations that are done with.
    fn carry_on(&mut self, kind: Kind, payload: &[u8], truncation: Option<Truncation>) {
        let (from, to) = (self.half, 1 - self.half);
        let window = self.region.window_mut();
        let mut at = self.carry_at(to);
        let mut old = self.carry_at(from);
        let len = payload.len() as u32;
        let vote = if kind == Kind::Vote { Some(len) } else { self.vote };
        let meta = if kind == Kind::Meta { Some(len) } else { self.meta };
        for (this, before, after) in [(Kind::Vote, self.vote, vote), (Kind::Meta, self.meta, meta)] {
            if let Some(len) = after {
                let whole = carry::entry_len(len as usize);
                if this == kind {
                    window.zero(at, whole);
                    window.store(at, this as u32);
                    window.store(at + 4, len);
                    window.copy_in(at + ENTRY_HEADER_LEN, payload);
                } else {
                    self.copy(old, at, whole);
                }
                at += whole;
            }
            old += before.map_or(0, |len| carry::entry_len(len as usize));
        }
        let mut new = truncation;
        let mut count = self.truncations;
        while let Some(last) = new
            && count > 0
            && let Some(merged) = last.merge(&self.truncation(count - 1))
        {
            (count, new) = (count - 1, Some(merged));
        }
        let mut kept = 0;
        for index in 0..count {
            let one = self.truncation(index);
            // Void frames that are gone need no word any more.
            if one.at > self.kept_from {
                self.store_truncation(at, one);
                (at, kept) = (at + TRUNCATION_LEN, kept + 1);
            }
        }
        if let Some(new) = new {
            self.store_truncation(at, new);
            kept += 1;
        }
        (self.half, self.vote, self.meta, self.truncations) = (to, vote, meta, kept);
    }

    fn store_truncation(&self, at: usize, truncation: Truncation) {
        let window = self.region.window_mut();
        window.store(at, Kind::Truncate as u32);
        window.store(at + 4, (TRUNCATION_LEN - ENTRY_HEADER_LEN) as u32);
        window.store64(at + ENTRY_HEADER_LEN, truncation.after);
        window.store64(at + ENTRY_HEADER_LEN + 8, truncation.at);
    }

    /// Copies whole words from one place of the region to another.
    fn copy(&self, from: usize, to: usize, len: usize) {
        let window = self.region.window_mut();
        for at in (0..len).step_by(4) {
            window.store(to + at, window.load(from + at));
        }
    }

    /// Puts the meta frame at the head of a segment: all that stands.
    fn carry_in(&mut self) {
        let len = self.standing_len(self.vote, self.meta, self.truncations);
        let from = self.carry_at(self.half);
        #[cfg(feature = "planted")]
        let (from, len) = match self.vote {
            Some(vote) if self.config.planted.vote_not_repeated => {
                let skip = carry::entry_len(vote as usize);
                (from + skip, len - skip)
            }
            _ => (from, len),
        };
        self.frame_in_parts(Kind::Meta, len, |this, to, crc| {
            let window = this.region.window_mut();
            let mut part = [0; 64];
            for at in (0..len).step_by(part.len()) {
                let part = &mut part[..(len - at).min(64)];
                window.copy_out(from + at, part);
                crc.update(part);
                window.copy_in(to + at, part);
            }
        });
        self.set_cap();
    }
}

/// The 13 bytes before a frame's payload.
#[inline]
fn header_bytes(kind: Kind, seq: u64, len: usize) -> [u8; FRAME_HEADER_LEN] {
    let mut head = [0; FRAME_HEADER_LEN];
    head[..8].copy_from_slice(&seq.to_le_bytes());
    head[8..12].copy_from_slice(&(len as u32).to_le_bytes());
    head[12] = kind as u8;
    head
}
