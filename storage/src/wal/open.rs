//! Opening a log: a new one, one that was closed in order, one whose writer or machine died.
//!
//! ```text
//! lock writer.lock (a dying owner gets half a second: its writes may still be landing, and its ring holds the lock till then)
//! recovery looks at everything and changes nothing                                     (recover.rs)
//! closed in order, same measures, room left      go on in the same segment:
//!     an empty batch behind the closed one, written and synced before anything else, so that a crash from here is seen
//! else                                           a new segment in a new file, next-{id}.tmp:
//!     1 the file, written and synced at full length
//!     2 what stands, and every frame that is not proved durable, under its own number; synced
//!     3 header: names the proved position as its predecessor's end; synced
//!     4 rename to {id}.wal, sync the directory: from here on this is the log
//!     5 what is no part of it goes; sync the directory
//! ```
//!
//! A crash before 4 leaves the old log as it was, one behind it the new one: opening again leads to the same frames. The
//! new file is a new file, not a spare that was found: writes that a dead process has handed to the kernel may land in
//! files that it had open, and never in one that it had not (rule S-1). For the same reason spares are used again only
//! after a close in order.

use super::{
    Options, Recovery, Threads, Wal,
    names::{Named, Names},
    recover::{Looking, Recovered, recover},
    state::{Progress, StateWriter},
    upkeep::{self, Live, Spare},
    writer::{Parts, Shared, WORDS_LEN},
};
use crate::{Error, Result};
use chronicle_core::{
    Region,
    wal::{self, AppendError, Config, ConfigError, Kind, Machine, Op, OpId, Outcome, Start},
};
use chronicle_platform::{File, Lock, MemoryOptions, Open, Platform, Trouble, WalDriver};
use std::{collections::VecDeque, io, path::Path, sync::Arc, time::Duration};

/// A lock of a process that is being killed goes within milliseconds; an owner that is stopped keeps it, and is not raced.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// Looks at `alive.lock` are short; who wants it tries as long as a few of them.
const LOOKS: u32 = 20;

impl<P: Platform> Wal<P> {
    /// Opens the log in directory `dir` for appending; makes it where there is none, and recovers it after a crash.
    ///
    /// # Errors
    ///
    /// Another writer has it ([`Error::Locked`]); options that no log can have; damage before what was durable, with file
    /// and offset; the system's, such as no space for a new segment. The log is as it was.
    pub fn open(platform: &P, dir: impl AsRef<Path>, options: &Options) -> Result<(Wal<P>, Recovery)> {
        let names = Names::new(dir.as_ref());
        options.check(&names)?;
        platform.create_dirs(names.dir())?;
        let lock = lock(platform, &names)?;
        let looking = Looking {
            verify: options.verify,
            known: options.durable_seq,
            threads: match options.threads {
                Threads::Own => platform.processors()?.len().max(1),
                Threads::Callers | Threads::One => 1,
            },
            #[cfg(feature = "planted")]
            next_segment_proves: options.planted.next_segment_proves,
            ..Looking::default()
        };
        let recovered = recover(platform, &names, &looking)?;
        let opening = Opening { platform, names: &names, options, recovered: &recovered, lock: &lock };
        let (ready, segment_len) = opening.ready()?;
        let Ready { driver, machine, live, spares, next_spare } = ready;

        let alive = platform.open(&names.alive_lock(), Open::Ensure)?;
        for _ in 0..LOOKS {
            if alive.try_lock(Lock::Exclusive)? {
                break;
            }
            platform.sleep(Duration::from_millis(1));
        }
        let state = StateWriter::open(platform, &names, machine.header().wal_id, &Progress::default())?;
        let words = platform.memory(WORDS_LEN, &MemoryOptions::default())?.map;
        let shared = Arc::new(Shared::new(Parts {
            platform: platform.clone(),
            names: names.clone(),
            options: options.clone(),
            segment_len,
            driver,
            machine,
            state,
            live,
            spares,
            next_spare,
            words,
            medium: platform.medium(names.dir())?,
            alive,
            lock,
        }));
        let mut wal = Wal { shared, threads: Vec::new() };
        match options.threads {
            Threads::Own => wal.start_threads(&names)?,
            // A disk that is full is the appends' to tell, when they need it.
            Threads::Callers | Threads::One => _ = wal.maintain(),
        }
        Ok((wal, recovered.report))
    }

    fn start_threads(&mut self, names: &Names) -> Result<()> {
        let jobs: [Job<P>; 2] = [("chronicle-wal", Shared::help), ("chronicle-spares", Shared::keep_up)];
        for (name, job) in jobs {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || job(&shared));
            // Dropping what there is ends the ones that run.
            self.threads.push(thread.map_err(|error| Trouble::new("start thread", names.dir(), error))?);
        }
        Ok(())
    }
}

fn lock<P: Platform>(platform: &P, names: &Names) -> Result<P::File> {
    let path = names.writer_lock();
    let file = platform.open(&path, Open::EnsurePrivate)?;
    for attempt in 1.. {
        if file.try_lock(Lock::Exclusive)? {
            break;
        }
        if attempt == TRIES {
            return Err(Error::Locked { path });
        }
        platform.sleep(PAUSE);
    }
    let (process, boot) = (platform.process(), platform.boot_id());
    let text = format!("pid {}\nstarted {}\nboot {boot:032x}\n", process.pid, process.started);
    // For people: whoever cannot write it has the lock all the same.
    _ = file.set_len(0).and_then(|()| file.write_at(text.as_bytes(), 0));
    Ok(file)
}

/// A thread's name, and what it does.
type Job<P> = (&'static str, fn(&Shared<P>));

/// A machine that writes to a segment of its own, and the segments that the log has with it.
type Begun<P> = (Machine<Arc<<P as Platform>::MapMut>>, VecDeque<Live>);

struct Opening<'a, P: Platform> {
    platform: &'a P,
    names: &'a Names,
    options: &'a Options,
    recovered: &'a Recovered,
    lock: &'a P::File,
}

/// A log that can be appended to.
struct Ready<P: Platform> {
    driver: P::Wal,
    machine: Machine<Arc<P::MapMut>>,
    live: VecDeque<Live>,
    spares: VecDeque<Spare>,
    next_spare: u64,
}

impl<P: Platform> Opening<'_, P> {
    fn ready(&self) -> Result<(Ready<P>, u64)> {
        let segment_len = self.segment_len()?;
        let mut config = Config { segment_len, ..self.options.config(wal::SyncBy::Write) };
        let layout = wal::layout(&config).ok_or_else(|| self.refused("measures that no memory has room for"))?;
        let memory = Arc::new(self.platform.memory(layout.size(), &MemoryOptions::default())?.map);
        let driver = self.platform.wal(memory.clone(), self.lock, &self.options.driver(self.names))?;
        config.sync = self.options.sync_by(driver.mode());
        config.depth = self.options.depth_by(driver.mode());

        let clean = self.recovered.report.clean;
        let resumed = match self.recovered.chain.last() {
            Some(last) if clean => self.resume(&memory, config, last.header, &driver)?,
            _ => None,
        };
        let (spares, next_spare) = self.leftovers(clean, segment_len)?;
        let (machine, live) = match resumed {
            Some(machine) => {
                self.bury(&self.recovered.report.dead)?;
                (machine, self.live(u64::MAX))
            }
            None => self.take_over(&memory, config, &driver).inspect_err(|_| {
                // Unless it has its name already, it takes space for nothing.
                _ = self.platform.remove(&self.names.next(self.recovered.next_id));
            })?,
        };
        Ok((Ready { driver, machine, live, spares, next_spare }, segment_len))
    }

    fn refused(&self, what: impl ToString) -> Error {
        Error::Options { path: self.names.dir().to_path_buf(), what: what.to_string() }
    }

    /// Length of segments from now on: what was asked for, or more, if all that a takeover writes again needs it, because
    /// that must be published at once.
    fn segment_len(&self) -> Result<u64> {
        let Options { segment_len, batch_len, block_size, .. } = *self.options;
        if self.recovered.report.clean {
            return Ok(segment_len);
        }
        let (block, batch) = (u64::from(block_size), u64::from(batch_len));
        let overhead = wal::layout::FRAME_OVERHEAD as u64;
        let batch_frame = wal::layout::BATCH_FRAME_LEN as u64;
        // As the machine packs: the batch that gathers, begun by what stands, and those before it.
        let carry = self.recovered.standing.carry().len() as u64;
        let (mut fill, mut used, mut frames) = (batch_frame + overhead + carry, 0_u64, 0_u64);
        self.recovered.unproven(self.platform, self.names, |frame| {
            let len = frame.payload.len() as u64 + overhead;
            if fill + len > batch {
                used += fill.next_multiple_of(block);
                fill = batch_frame;
            }
            fill += len;
            frames += 1;
            Ok(())
        })?;
        // The header, a whole batch to gather in wherever the last one begins, and the batch that closes.
        let needed = used + fill.next_multiple_of(block) + 2 * block + 2 * batch;
        Ok(if frames == 0 { segment_len } else { segment_len.max(needed.next_multiple_of(block)) })
    }

    /// Segments of the log up to `newest`, oldest first.
    fn live(&self, newest: u64) -> VecDeque<Live> {
        let links = self.recovered.chain.iter().filter(|link| link.header.segment_id <= newest);
        links
            .map(|link| Live {
                id: link.header.segment_id,
                first_seq: link.header.first_seq,
                len: link.header.segment_len,
            })
            .collect()
    }

    /// Goes on in the last segment, if that can be.
    fn resume(
        &self,
        memory: &Arc<P::MapMut>,
        config: Config,
        header: wal::Header,
        driver: &P::Wal,
    ) -> Result<Option<Machine<Arc<P::MapMut>>>> {
        let same = header.block_size == config.block_size
            && header.batch_len == config.batch_len
            && header.segment_len == config.segment_len;
        if !same {
            return Ok(None);
        }
        let (at, next_seq) = (self.recovered.end, self.recovered.report.next_seq);
        let carry = self.recovered.standing.carry();
        let seed = self.platform.random() as u64;
        let machine = Machine::resume(memory.clone(), config, &header, at, next_seq, seed, carry);
        let mut machine = match machine {
            Ok(machine) => machine,
            Err(ConfigError::NoRoom { .. }) => return Ok(None),
            Err(why) => return Err(self.refused(why)),
        };
        let path = self.names.segment(header.segment_id);
        let file = self.platform.open(&path, Open::Write)?;
        if file.len()? < header.segment_len {
            // Somebody cut what nobody had written: a new segment then.
            return Ok(None);
        }
        // By plain calls, not by the driver: when it returns there is nothing that could land late.
        while let Some(op) = machine.next_op() {
            let outcome = match op {
                Op::Write { offset, from, len, .. } => {
                    let mut bytes = vec![0; len as usize];
                    memory.window().copy_out(from, &mut bytes);
                    file.write_at(&bytes, offset)?;
                    file.sync()?;
                    Outcome::Done(len)
                }
                Op::Sync { .. } => {
                    file.sync()?;
                    Outcome::Done(0)
                }
                Op::Prepare { .. } | Op::Recycle { .. } => unreachable!("there is room, and nothing to retire"),
            };
            machine.complete(op.id(), outcome);
        }
        driver.attach(header.segment_id, &path)?;
        Ok(Some(machine))
    }

    /// What stands in the directory beside segments: spares to be used, and the number of the next one.
    fn leftovers(&self, clean: bool, segment_len: u64) -> Result<(VecDeque<Spare>, u64)> {
        let mut spares = VecDeque::with_capacity(self.options.spares as usize + 2);
        let mut next_spare = 0;
        for named in &self.recovered.spares {
            let path = match *named {
                Named::Spare(n) => {
                    next_spare = next_spare.max(n.saturating_add(1));
                    let path = self.names.spare(n);
                    let fits = || Ok::<_, Error>(self.platform.open(&path, Open::Read)?.len()? == segment_len);
                    if clean && spares.len() < self.options.spares as usize && fits()? {
                        spares.push_back(Spare { path, recycled: true });
                        continue;
                    }
                    path
                }
                Named::MakingSpare(n) => {
                    next_spare = next_spare.max(n.saturating_add(1));
                    self.names.making_spare(n)
                }
                Named::Next(id) => self.names.next(id),
                Named::Segment(_) | Named::Cut(_) | Named::Other => continue,
            };
            self.platform.remove(&path)?;
        }
        Ok((spares, next_spare))
    }

    /// Begins a new segment behind the proved position, and publishes it when it holds all that was accepted.
    fn take_over(&self, memory: &Arc<P::MapMut>, config: Config, driver: &P::Wal) -> Result<Begun<P>> {
        let Recovered { report, proven, proven_next_seq, standing, next_id, .. } = self.recovered;
        let (platform, names, id) = (self.platform, self.names, *next_id);
        let wal_id = self.recovered.chain.last().map(|link| link.header.wal_id);
        let making = names.next(id);
        let file = platform.open(&making, Open::Create)?;
        file.allocate(config.segment_len)?;
        file.fill(0, config.segment_len)?;
        file.sync()?;
        driver.attach(id, &making)?;
        let start = Start {
            wal_id: wal_id.unwrap_or_else(|| platform.random().to_le_bytes()),
            segment_id: id,
            predecessor: *proven,
            first_seq: *proven_next_seq,
            epoch: report.epoch.saturating_add(1),
            salt_seed: platform.random() as u64,
            durable: *proven,
            durable_seq: proven_next_seq - 1,
            carry: standing.carry(),
        };
        let mut machine = Machine::begin(memory.clone(), config, &start).map_err(|why| self.refused(why))?;
        self.recovered.unproven(platform, names, |frame| {
            loop {
                let appended = match frame.kind {
                    Kind::Data => machine.append(frame.payload).map(|seq| {
                        assert_eq!(seq, frame.seq, "bug: a frame is written again under another number");
                    }),
                    _ => append_control(&mut machine, frame),
                };
                match appended {
                    Ok(()) => return Ok(()),
                    Err(AppendError::Full) => self.step(&mut machine, driver, &making)?,
                    Err(why) => return Err(self.refused(why)),
                }
            }
        })?;
        let all = machine.demand_all();
        while !machine.is_durable(all) {
            self.step(&mut machine, driver, &making)?;
        }
        let mut header = machine.header();
        header.created_ns = platform.now_ns();
        file.write_at(&upkeep::header_block(&header), 0)?;
        platform.publish(&file, &making, &names.segment(id))?;
        self.bury(&self.recovered.dead())?;
        let mut live = self.live(proven.segment);
        live.push_back(Live { id, first_seq: header.first_seq, len: header.segment_len });
        Ok((machine, live))
    }

    /// Carries out what the machine asks for, and waits for some of it.
    fn step(&self, machine: &mut Machine<Arc<P::MapMut>>, driver: &P::Wal, path: &Path) -> Result<()> {
        while let Some(op) = machine.next_op() {
            match op {
                Op::Write { .. } | Op::Sync { .. } => driver.submit(&op)?,
                Op::Prepare { .. } | Op::Recycle { .. } => unreachable!("the segment was made long enough"),
            }
        }
        let mut done: [Option<(OpId, Outcome)>; 16] = [None; 16];
        let mut count = 0;
        driver.reap(true, &mut |id, outcome| {
            done[count] = Some((id, outcome));
            count += 1;
        })?;
        for (id, outcome) in done.into_iter().flatten() {
            machine.complete(id, outcome);
            if let (Some(poison), Outcome::Failed(errno)) = (machine.poisoned(), outcome) {
                let error = io::Error::from_raw_os_error(errno);
                let next = "the log is as it was; see to the disk, then open it again";
                return Err(Trouble::new("write", path, error).noting(format!("{poison}; {next}")).into());
            }
        }
        match machine.poisoned() {
            Some(poison) => Err(Trouble::new("write", path, io::Error::other(poison)).into()),
            None => Ok(()),
        }
    }

    /// Removes segments that are no part of the log.
    fn bury(&self, dead: &[u64]) -> Result<()> {
        for id in dead {
            self.platform.remove(&self.names.segment(*id))?;
        }
        if dead.is_empty() {
            return Ok(());
        }
        Ok(self.platform.sync_dir(self.names.dir())?)
    }
}

/// A control frame that was accepted stands again as it stood.
fn append_control<R: chronicle_core::RegionMut>(
    machine: &mut Machine<R>,
    frame: &wal::Frame<'_>,
) -> std::result::Result<(), AppendError> {
    if frame.kind != Kind::Meta {
        return machine.append_control(frame.kind, frame.payload).map(|_| ());
    }
    for entry in wal::entries(frame.payload, frame.offset).flatten() {
        // An application's meta frame holds its own value, once.
        if let wal::Entry::Meta(bytes) = entry {
            machine.append_control(Kind::Meta, bytes)?;
        }
    }
    Ok(())
}
