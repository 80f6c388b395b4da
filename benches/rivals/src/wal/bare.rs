//! The floors: a file that was written in full before and is gone round, and nothing of what a log promises.
//!
//! No checksum, no header, no sequence, no recovery. What is left is what no log on this machine can leave out: the
//! records, copied into whole blocks; one durable write for as many of them as are there; and waking who waits.
//!
//! ```text
//! single      a write, its completion, the next write            one thread, and nobody to wake
//! leader      committers copy into what gathers and sleep        one thread writes for all, and wakes them by the batch
//! follower    the same, and whoever finds no writer becomes it   no thread of its own, one wake-up more a batch
//! several     so many writes in flight, records in turns         one thread, and nobody to wake
//! ```
//!
//! Beside `machine.rs` the one file here that says `unsafe`: the kernel reads memory of ours that a ring was told of.

use super::crowd::Sample;
use io_uring::{IoUring, opcode, types};
use rustix::{
    fs::OFlags,
    io::ReadWriteFlags,
    thread::futex::{self, Flags},
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{IoSlice, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// What every batch begins on and is padded to: as a log does that never writes a block twice.
pub const BLOCK: usize = 4096;
/// Of the file that is gone round.
pub const FILE: u64 = 64 << 20;
/// Of one batch.
const BUFFER: usize = 256 << 10;

/// Writes the file in full, for good, and opens it past the page cache.
pub fn prepared(path: &Path) -> Result<File, String> {
    let words = |it: std::io::Error| format!("{}: {it}", path.display());
    let mut file = File::create(path).map_err(words)?;
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..FILE >> 20 {
        file.write_all(&zeros).map_err(words)?;
    }
    file.sync_all().map_err(words)?;
    let mut options = File::options();
    options.write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path).map_err(words)
}

/// Memory that begins on a block, known to a ring by its number.
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
    number: u16,
}

impl Buffer {
    fn new(number: u16) -> Self {
        let bytes = vec![0; BUFFER + BLOCK];
        let from = bytes.as_ptr().align_offset(BLOCK);
        Buffer { bytes, from, len: 0, number }
    }

    fn push(&mut self, record: &[u8]) -> Result<(), String> {
        let at = self.from + self.len;
        let room = self.bytes.get_mut(at..at + record.len()).ok_or("a batch is full")?;
        room.copy_from_slice(record);
        self.len += record.len();
        Ok(())
    }

    /// What is there, padded to whole blocks.
    fn blocks(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.len.next_multiple_of(BLOCK)]
    }
}

/// A ring and a file that it knows, for one thread alone.
struct Ring {
    ring: IoUring,
    /// What the kernel reads now.
    flying: Vec<Option<Buffer>>,
    in_flight: usize,
    at: u64,
}

impl Ring {
    /// With so many buffers that it knows.
    fn new(file: &File, buffers: u16) -> Result<(Self, Vec<Buffer>), String> {
        let buffers: Vec<Buffer> = (0..buffers).map(Buffer::new).collect();
        let make = || -> std::io::Result<IoUring> {
            let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(32)?;
            ring.submitter().register_files(&[file.as_raw_fd()])?;
            Ok(ring)
        };
        let ring = make().map_err(|it| format!("io_uring: {it}"))?;
        let known: Vec<libc::iovec> = buffers
            .iter()
            .map(|it| libc::iovec { iov_base: it.bytes[it.from..].as_ptr().cast_mut().cast(), iov_len: BUFFER })
            .collect();
        // SAFETY: the kernel pins these pages for as long as it knows them, and this program only ever lets it read them:
        // at worst it reads what is something else by then.
        unsafe { ring.submitter().register_buffers(&known) }.map_err(|it| format!("io_uring: buffers: {it}"))?;
        let flying = buffers.iter().map(|_| None).collect();
        Ok((Ring { ring, flying, in_flight: 0, at: 0 }, buffers))
    }

    /// Submits one durable write of a buffer, and does not wait for it.
    fn write(&mut self, buffer: Buffer) -> Result<(), String> {
        let blocks = buffer.blocks();
        if self.at + blocks.len() as u64 > FILE {
            self.at = 0;
        }
        let entry = opcode::WriteFixed::new(types::Fixed(0), blocks.as_ptr(), blocks.len() as u32, buffer.number)
            .offset(self.at)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(buffer.number.into());
        self.at += blocks.len() as u64;
        let number = usize::from(buffer.number);
        // Its heap memory does not move with it.
        self.flying[number] = Some(buffer);
        // SAFETY: the bytes are inside the registered buffer of that number, which stays in `flying` until it is written.
        unsafe { self.ring.submission().push(&entry) }.map_err(|_| "io_uring: queue full".to_owned())?;
        self.in_flight += 1;
        Ok(())
    }

    /// Waits until something is written, and hands out its buffer, empty.
    fn complete(&mut self, mut done: impl FnMut(Buffer)) -> Result<(), String> {
        match self.ring.submit_and_wait(1) {
            Err(it) if it.raw_os_error() != Some(libc::EINTR) => return Err(format!("io_uring: {it}")),
            _ => {}
        }
        for completion in self.ring.completion() {
            if completion.result() <= 0 {
                return Err(format!("io_uring: write: {}", completion.result()));
            }
            self.in_flight -= 1;
            if let Some(mut buffer) = self.flying[completion.user_data() as usize].take() {
                buffer.len = 0;
                done(buffer);
            }
        }
        Ok(())
    }
}

/// One committer by the best single durable way: a registered write with `RWF_DSYNC`, on blocks that exist.
pub fn single(file: &File, payload: &[u8], time: Duration) -> Result<Sample, String> {
    let (mut ring, mut buffers) = Ring::new(file, 1)?;
    let mut waits = Vec::with_capacity(1 << 14);
    let began = Instant::now();
    let mut before = began;
    while before - began < time {
        if let Some(mut buffer) = buffers.pop() {
            buffer.push(payload)?;
            ring.write(buffer)?;
        }
        ring.complete(|buffer| buffers.push(buffer))?;
        let now = Instant::now();
        waits.push((now - before).as_nanos() as u32);
        before = now;
    }
    Ok(Sample::of(waits.len() as u64, before - began, &mut waits, None))
}

/// The same without a ring: the thread that commits writes, and the part of it that follows the device's interrupt.
pub fn blocking(file: &File, payload: &[u8], time: Duration) -> Result<Sample, String> {
    let mut buffer = Buffer::new(0);
    let mut waits = Vec::with_capacity(1 << 14);
    let (began, mut at) = (Instant::now(), 0);
    let mut before = began;
    while before - began < time {
        buffer.len = 0;
        buffer.push(payload)?;
        let blocks = buffer.blocks();
        at = if at + blocks.len() as u64 > FILE { 0 } else { at };
        rustix::io::pwritev2(file, &[IoSlice::new(blocks)], at, ReadWriteFlags::DSYNC).map_err(|it| it.to_string())?;
        at += blocks.len() as u64;
        let now = Instant::now();
        waits.push((now - before).as_nanos() as u32);
        before = now;
    }
    Ok(Sample::of(waits.len() as u64, before - began, &mut waits, None))
}

/// One committer as most logs do it: `pwrite` through the page cache, then `fdatasync`. On blocks that exist, too.
pub fn buffered(path: &Path, payload: &[u8], time: Duration) -> Result<Sample, String> {
    use std::os::unix::fs::FileExt as _;
    let file = File::options().write(true).open(path).map_err(|it| it.to_string())?;
    let mut waits = Vec::with_capacity(1 << 14);
    let (began, mut at) = (Instant::now(), 0);
    let mut before = began;
    while before - began < time {
        at = if at + payload.len() as u64 > FILE { 0 } else { at };
        file.write_all_at(payload, at).and_then(|()| file.sync_data()).map_err(|it| it.to_string())?;
        at += payload.len() as u64;
        let now = Instant::now();
        waits.push((now - before).as_nanos() as u32);
        before = now;
    }
    Ok(Sample::of(waits.len() as u64, before - began, &mut waits, None))
}

/// So many writes in flight, each with its share of the records that are outstanding, and no thread woken.
pub fn several(file: &File, payload: &[u8], writes: u16, outstanding: usize, time: Duration) -> Result<Sample, String> {
    let (mut ring, mut free) = Ring::new(file, writes)?;
    let each = outstanding / usize::from(writes);
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        while let Some(mut buffer) = free.pop() {
            for _ in 0..each {
                buffer.push(payload)?;
            }
            ring.write(buffer)?;
        }
        ring.complete(|buffer| free.push(buffer))?;
        count += (free.len() * each) as u64;
    }
    let took = began.elapsed();
    while ring.in_flight > 0 {
        ring.complete(|_| {})?;
    }
    Ok(Sample::of(count, took, &mut [], None))
}

/// Batches whose sleepers have a word of their own: more than can be on their way at once.
const WORDS: usize = 16;

/// What committers fill while a batch is being written.
struct Gather {
    buffer: Option<Buffer>,
    /// Counts from 1. Its sleepers sleep on word `batch % WORDS`: see [`Leader::word`].
    batch: u32,
    /// The leader sleeps on its bell: nothing is gathered and nothing in flight.
    idle: bool,
    /// Whoever leads had trouble: nobody waits any more.
    failed: bool,
    /// Without a leader of its own: buffers to write from next, and batches that are being written.
    free: Vec<Buffer>,
    writing: usize,
    at: u64,
}

/// A log's committers, and who writes for them.
pub struct Leader {
    gather: Mutex<Gather>,
    /// At least `2 * batch` when that is durable; `2 * batch - 1` when it wants one of its own to write it.
    words: [AtomicU32; WORDS],
    bell: AtomicU32,
    stop: AtomicBool,
}

impl Leader {
    /// Nothing gathered. Without a leader of its own, so many batches are written at once.
    pub fn new(depth: u16) -> Self {
        let gather = Gather {
            buffer: None,
            batch: 1,
            idle: false,
            failed: false,
            free: (0..depth).map(Buffer::new).collect(),
            writing: 0,
            at: 0,
        };
        Leader {
            gather: Mutex::new(gather),
            words: [const { AtomicU32::new(0) }; WORDS],
            bell: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        }
    }

    fn word(&self, batch: u32) -> &AtomicU32 {
        &self.words[batch as usize % WORDS]
    }

    /// Copies the record into what gathers, and sleeps until the leader has written it.
    pub fn commit(&self, payload: &[u8]) -> Result<(), String> {
        let (batch, ring) = {
            let mut gather = self.gather.lock().map_err(|it| it.to_string())?;
            if gather.failed {
                return Err("the leader failed".to_owned());
            }
            gather.buffer.as_mut().ok_or("nobody leads")?.push(payload)?;
            (gather.batch, std::mem::take(&mut gather.idle))
        };
        if ring {
            // ORDERING: Release pairs with the Acquire of `heard`; the records themselves the lock shows.
            self.bell.fetch_add(1, Ordering::Release);
            let _ = futex::wake(&self.bell, Flags::PRIVATE, 1);
        }
        let word = self.word(batch);
        loop {
            // ORDERING: Acquire pairs with the Release of `wake`.
            let seen = word.load(Ordering::Acquire);
            if seen >= 2 * batch {
                return Ok(());
            }
            let _ = futex::wait(word, Flags::PRIVATE, seen, None);
        }
    }

    fn wake(&self, batch: u32) {
        // ORDERING: Release pairs with the Acquire in `commit` and `commit_or_write`.
        self.word(batch).store(2 * batch, Ordering::Release);
        let _ = futex::wake(self.word(batch), Flags::PRIVATE, i32::MAX as u32);
    }

    /// Says that nobody commits any more: the leader comes home.
    pub fn stop(&self) {
        // ORDERING: Release pairs with the Acquire of the leader, who looks after it heard the bell.
        self.stop.store(true, Ordering::Release);
        self.bell.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&self.bell, Flags::PRIVATE, 1);
    }

    /// Writes for all, `depth` batches at a time, until told to stop.
    pub fn lead(&self, file: &File, depth: u16, ready: impl FnOnce()) -> Result<(), String> {
        let result = self.lead_on(file, depth, ready);
        if result.is_err() {
            self.fail()?;
        }
        result
    }

    /// Nobody waits for a leader that is gone.
    fn fail(&self) -> Result<(), String> {
        let mut gather = self.gather.lock().map_err(|it| it.to_string())?;
        gather.failed = true;
        for batch in (gather.batch + 1).saturating_sub(WORDS as u32)..=gather.batch {
            self.wake(batch);
        }
        Ok(())
    }

    fn lead_on(&self, file: &File, depth: u16, ready: impl FnOnce()) -> Result<(), String> {
        let (mut ring, mut free) = Ring::new(file, depth + 1)?;
        self.gather.lock().map_err(|it| it.to_string())?.buffer = free.pop();
        ready();
        // Batches in order, with the buffer's number and whether it is written.
        let mut pending: VecDeque<(u32, u16, bool)> = VecDeque::new();
        let mut durable = Vec::new();
        loop {
            // ORDERING: Acquire pairs with the Release in `commit` and `stop`.
            let heard = self.bell.load(Ordering::Acquire);
            if !durable.is_empty() {
                // Those who wake run first, and are part of the next batch: half as many writes, and more commits.
                durable.drain(..).for_each(|batch| self.wake(batch));
                std::thread::yield_now();
            }
            let mut alone = false;
            if let Some(next) = free.pop() {
                let mut gather = self.gather.lock().map_err(|it| it.to_string())?;
                if gather.buffer.as_ref().is_some_and(|it| it.len > 0) {
                    let batch = gather.batch;
                    gather.batch += 1;
                    let full = gather.buffer.replace(next);
                    drop(gather);
                    if let Some(full) = full {
                        pending.push_back((batch, full.number, false));
                        ring.write(full)?;
                    }
                } else {
                    alone = ring.in_flight == 0;
                    gather.idle = alone;
                    free.push(next);
                }
            }
            if alone {
                // ORDERING: Acquire pairs with the Release of `stop`.
                if self.stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                let _ = futex::wait(&self.bell, Flags::PRIVATE, heard, None);
                continue;
            }
            if ring.in_flight > 0 {
                ring.complete(|buffer| {
                    if let Some(it) = pending.iter_mut().find(|it| it.1 == buffer.number && !it.2) {
                        it.2 = true;
                    }
                    free.push(buffer);
                })?;
            }
            while let Some(&(batch, _, true)) = pending.front() {
                pending.pop_front();
                durable.push(batch);
            }
        }
    }

    /// As [`Leader::commit`] without a leader: whoever finds nobody writing writes what has gathered, for all.
    pub fn commit_or_write(&self, file: &File, payload: &[u8]) -> Result<(), String> {
        let mut gather = self.gather.lock().map_err(|it| it.to_string())?;
        if gather.buffer.is_none() {
            gather.buffer = Some(Buffer::new(u16::MAX));
        }
        gather.buffer.as_mut().ok_or("no buffer")?.push(payload)?;
        let batch = gather.batch;
        loop {
            if gather.failed {
                return Err("a leader failed".to_owned());
            }
            // ORDERING: Acquire pairs with the Release of `wake` and of the call.
            let seen = self.word(batch).load(Ordering::Acquire);
            if seen >= 2 * batch {
                return Ok(());
            }
            if gather.batch == batch
                && let Some(next) = gather.free.pop()
            {
                gather.batch += 1;
                gather.writing += 1;
                let Some(mut full) = gather.buffer.replace(next) else { return Err("no buffer".to_owned()) };
                let len = full.blocks().len() as u64;
                let at = if gather.at + len > FILE { 0 } else { gather.at };
                gather.at = at + len;
                drop(gather);
                let written = rustix::io::pwritev2(file, &[IoSlice::new(full.blocks())], at, ReadWriteFlags::DSYNC);
                full.len = 0;
                if written.is_ok() {
                    self.wake(batch);
                    std::thread::yield_now();
                }
                let mut gather = self.gather.lock().map_err(|it| it.to_string())?;
                gather.writing -= 1;
                gather.free.push(full);
                let next = gather.batch;
                let wanted = gather.buffer.as_ref().is_some_and(|it| it.len > 0);
                drop(gather);
                if let Err(it) = written {
                    self.fail()?;
                    return Err(it.to_string());
                }
                if wanted {
                    // ORDERING: Release pairs with the Acquire above; a maximum, for somebody may have written it since.
                    self.word(next).fetch_max(2 * next - 1, Ordering::Release);
                    let _ = futex::wake(self.word(next), Flags::PRIVATE, 1);
                }
                return Ok(());
            }
            drop(gather);
            let _ = futex::wait(self.word(batch), Flags::PRIVATE, seen, None);
            if self.word(batch).load(Ordering::Acquire) >= 2 * batch {
                return Ok(());
            }
            gather = self.gather.lock().map_err(|it| it.to_string())?;
        }
    }
}
