//! Lives a workload, cuts it off, and looks at everything that may be left.

use super::{
    model::{self, Model},
    workload::{Step, Workload},
};
use chronicle_core::wal::Kind;
use chronicle_platform::{
    File, Open, Platform,
    sim::{Faults, Sim},
};
use chronicle_storage::{
    Error, ErrorKind,
    wal::{AppendError, CommitError, Wal},
};
use std::{
    fmt,
    ops::AddAssign,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Where the log lies.
const DIR: &str = "/wal";

/// A platform over a simulated machine: the simulator as it is, or one that makes a mistake.
pub(crate) trait Host: Platform {
    /// The same platform on another machine or as another process.
    fn on(&self, sim: Sim) -> Self;
    fn sim(&self) -> &Sim;
}

impl Host for Sim {
    fn on(&self, sim: Sim) -> Sim {
        sim
    }

    fn sim(&self) -> &Sim {
        self
    }
}

/// How much is gone through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Survivors that are drawn of a cut with more than is gone through exhaustively.
    pub(crate) samples: u64,
    /// Most survivors that are looked at of a cut; `u64::MAX` for all.
    pub(crate) survivors: u64,
    /// One in so many survivors is cut again in every operation of its recovery.
    pub(crate) again_one_in: u64,
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) workloads: u64,
    /// Operations in which the power was cut, and those of which everything that may be left was gone through.
    pub(crate) crash_points: u64,
    pub(crate) exhaustive: u64,
    pub(crate) survivors: u64,
    /// Openings after a cut or a kill.
    pub(crate) recoveries: u64,
    pub(crate) kills: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.workloads += other.workloads;
        self.crash_points += other.crash_points;
        self.exhaustive += other.exhaustive;
        self.survivors += other.survivors;
        self.recoveries += other.recoveries;
        self.kills += other.kills;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { workloads, crash_points, exhaustive, survivors, recoveries, kills } = self;
        let share = 100 * exhaustive / crash_points.max(&1);
        write!(
            f,
            "{workloads} workloads, {crash_points} crash points ({share} % with everything that may be left), \
             {survivors} survivors, {recoveries} recoveries, {kills} kills"
        )
    }
}

/// A promise that was broken, and how to see it again.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A log, its application, and what the two know.
struct Life<'w, H: Host> {
    host: H,
    workload: &'w Workload,
    model: Model,
    wal: Option<Wal<H>>,
    /// The operation in which the process is killed.
    kill_at: Option<u64>,
    /// Something may fail without a crash.
    may_fail: bool,
}

impl<'w, H: Host> Life<'w, H> {
    fn new(host: H, workload: &'w Workload) -> Self {
        host.sim().faults(workload.faults.clone());
        let mut model = Model::default();
        model.retires_by_size = workload.options.retain_bytes.is_some();
        Life { host, workload, model, wal: None, kill_at: None, may_fail: workload.may_fail() }
    }

    /// Somebody who comes after a crash, where nothing else goes wrong.
    fn after(host: H, workload: &'w Workload, model: Model) -> Self {
        host.sim().faults(Faults::default());
        Life { host, workload, model, wal: None, kill_at: None, may_fail: false }
    }

    fn is_over(&self) -> bool {
        let sim = self.host.sim();
        sim.is_off() || self.kill_at.is_some_and(|at| sim.operations() >= at)
    }

    /// Opens the log and compares. Whether it is open.
    fn open(&mut self) -> Result<bool, String> {
        self.wal = None;
        let dir = Path::new(DIR);
        for attempt in 0..2 {
            let opened = Wal::open(&self.host, dir, &self.workload.options);
            let error = match opened {
                Ok((wal, recovery)) => {
                    let found = model::find(&self.host, dir, &recovery);
                    if self.is_over() {
                        return Ok(false);
                    }
                    if self.workload.settles {
                        self.settle();
                    }
                    self.model.accept(&found?).map_err(|broken| format!("{broken}; {recovery}"))?;
                    self.wal = Some(wal);
                    return Ok(true);
                }
                Err(_) if self.is_over() => return Ok(false),
                Err(error) => error,
            };
            if attempt == 1 || !self.may_fail || error.kind() != ErrorKind::Trouble {
                return Err(format!("not opened: {}", chain(&error)));
            }
            // Somebody has seen to the disk.
            self.mend();
        }
        unreachable!("the second attempt returns")
    }

    /// The kernel has had time for what nobody waits for: names of lock files and the text in them. What else is open after
    /// a cut is few then, and everything that may be left can be gone through.
    fn settle(&self) {
        let dir = Path::new(DIR);
        _ = self.host.sync_dir(dir);
        _ = self.host.open(&dir.join("writer.lock"), Open::Write).and_then(|file| file.sync());
    }

    fn mend(&self) {
        let faults =
            Faults { failing_sync: None, failing_write: None, disk_bytes: u64::MAX, ..self.workload.faults.clone() };
        self.host.sim().faults(faults);
    }

    /// Opens the log and does all that is to be done, or as much as there is time for.
    fn live(&mut self, steps: &[Step]) -> Result<(), String> {
        if !self.open()? {
            return Ok(());
        }
        for (n, step) in steps.iter().enumerate() {
            self.step(step).map_err(|broken| format!("step {n}, {step:?}: {broken}"))?;
            if self.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let wal = self.wal.as_ref().expect("bug: a step on a log that is not open");
        let max = self.workload.options.batch_len as usize - 74;
        let next = self.model.next_seq();
        match step {
            Step::Append(len) => {
                let payload = self.model.payload(Kind::Data, *len.min(&max));
                match wal.append(&payload) {
                    Ok(seq) if seq == next => self.model.append(Kind::Data, payload),
                    Ok(seq) => return Err(format!("number {seq} instead of {next}")),
                    Err(error) => return self.refused(error),
                }
            }
            Step::Batch(lens) => {
                let mut ahead = self.model.clone();
                for len in lens {
                    let payload = ahead.payload(Kind::Data, *len.min(&max));
                    ahead.append(Kind::Data, payload);
                }
                let batch = &ahead.entries[self.model.entries.len()..];
                let payloads: Vec<&[u8]> = batch.iter().map(|entry| &entry.payload[..]).collect();
                let (appended, error) = match wal.append_batch(&payloads) {
                    Ok(range) if range == (next..next + lens.len() as u64) => (lens.len(), None),
                    Ok(range) => return Err(format!("numbers {range:?} instead of {next} and on")),
                    Err(error) => (error.appended, Some(error.error)),
                };
                self.model.entries.extend_from_slice(&batch[..appended]);
                if let Some(error) = error {
                    return self.refused(error);
                }
            }
            Step::Vote(len) => return self.control(Kind::Vote, Vec::new(), *len),
            Step::Meta(len) => return self.control(Kind::Meta, Vec::new(), *len),
            Step::Truncate(back) => {
                let after = (next - 1).saturating_sub(*back);
                return self.control(Kind::Truncate, after.to_le_bytes().to_vec(), 0);
            }
            Step::Commit(back) => {
                let seq = (next - 1).saturating_sub(*back);
                match wal.commit(seq) {
                    Ok(()) => self.model.ack(seq),
                    Err(error) => return self.not_committed(error),
                }
            }
            Step::CommitAll => match wal.commit_all() {
                Ok(()) => self.model.ack_all(),
                Err(error) => return self.not_committed(error),
            },
            Step::Drive => _ = wal.drive(),
            Step::Maintain => match wal.maintain() {
                Err(error) if !self.is_over() && !self.may_fail => return Err(chain(&error)),
                _ => {}
            },
            Step::TruncateBefore(back) => {
                let before = (wal.durable() + 1).saturating_sub(*back);
                self.model.truncated_before = self.model.truncated_before.max(before);
                wal.truncate_before(before);
            }
            Step::Close => return self.close(),
            Step::Drop => return self.open().map(|_| ()),
            Step::Kill => {
                self.host.sim().kill();
                let successor = self.host.sim().start_process();
                if let Some(at) = self.kill_at {
                    successor.kill_at(at);
                }
                self.host = self.host.on(successor);
                return self.open().map(|_| ());
            }
            Step::Read => {
                let entries = model::read(&self.host, Path::new(DIR));
                if !self.is_over() {
                    self.model.shown(&entries?)?;
                }
            }
            Step::Full(full) => {
                let disk_bytes = if *full { 0 } else { u64::MAX };
                self.host.sim().faults(Faults { disk_bytes, ..self.workload.faults.clone() });
            }
        }
        if let Some(wal) = &self.wal {
            self.model.ack(wal.durable());
        }
        Ok(())
    }

    fn control(&mut self, kind: Kind, mut payload: Vec<u8>, len: usize) -> Result<(), String> {
        payload.extend(self.model.payload(kind, len));
        match self.wal.as_ref().expect("bug: no log").append_control(kind, &payload) {
            Ok(()) => self.model.append(kind, payload),
            Err(AppendError::CarryFull { .. } | AppendError::TooLarge { .. }) => {}
            // After a record that does not exist.
            Err(AppendError::Control) if kind == Kind::Truncate => {}
            Err(error) => return self.refused(error),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let closed = self.wal.take().expect("bug: no log").close();
        match &closed {
            Ok(()) => self.model.ack_all(),
            Err(_) if self.is_over() => return Ok(()),
            Err(_) if self.may_fail => self.mend(),
            Err(error) => return Err(chain(error)),
        }
        let before = self.model.entries.len();
        self.open()?;
        if closed.is_ok() && self.wal.is_some() && self.model.entries.len() != before {
            return Err(format!("{} frames after a close, {before} before", self.model.entries.len()));
        }
        Ok(())
    }

    fn refused(&mut self, error: AppendError) -> Result<(), String> {
        match error {
            _ if self.is_over() => Ok(()),
            AppendError::NoSpace if self.workload.may_be_full() => Ok(()),
            AppendError::PrepareFailed if self.may_fail => Ok(()),
            AppendError::Poisoned if self.may_fail => self.poisoned(),
            _ => Err(format!("{error}; {}", self.trouble())),
        }
    }

    fn not_committed(&mut self, error: CommitError) -> Result<(), String> {
        match error {
            _ if self.is_over() => Ok(()),
            CommitError::NotAppended { seq: 0, .. } => Ok(()),
            CommitError::Poisoned if self.may_fail => self.poisoned(),
            _ => Err(format!("{error}; {}", self.trouble())),
        }
    }

    fn trouble(&self) -> String {
        let trouble = self.wal.as_ref().and_then(Wal::trouble);
        trouble.map_or_else(|| "no trouble is told".to_owned(), |error| chain(&error))
    }

    /// A log that is poisoned stays so, whatever the disk does by now; opened again it has what it promised.
    fn poisoned(&mut self) -> Result<(), String> {
        self.mend();
        let wal = self.wal.as_ref().expect("bug: no log");
        if wal.append(b"more").is_ok() || wal.commit_all().is_ok() {
            return Err("poisoned, and went on".to_owned());
        }
        self.model.ack(wal.durable());
        self.open().map(|_| ())
    }

    /// A log goes on after whatever happened.
    fn go_on(&mut self) -> Result<(), String> {
        for step in [Step::Append(100), Step::Vote(5), Step::Append(700), Step::CommitAll, Step::Close, Step::Append(3)]
        {
            self.step(&step).map_err(|broken| format!("going on, {step:?}: {broken}"))?;
        }
        Ok(())
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// One workload on one kind of platform, to be cut off wherever it can be.
pub(crate) struct Checker<'w, H: Host> {
    /// The platform, on any machine.
    pub(crate) host: H,
    pub(crate) workload: &'w Workload,
    pub(crate) extent: Extent,
    pub(crate) counts: Counts,
}

impl<'w, H: Host> Checker<'w, H> {
    fn life(&self) -> Life<'w, H> {
        Life::new(self.host.on(Sim::new(self.workload.seed)), self.workload)
    }

    /// Operations of the first `steps` steps, without a crash.
    pub(crate) fn operations(&mut self, steps: usize) -> Result<u64, Broken> {
        let mut life = self.life();
        let lived = caught(|| life.live(&self.workload.steps[..steps]));
        lived.map_err(|broken| self.broken("without a crash".to_owned(), broken))?;
        Ok(life.host.sim().operations())
    }

    /// Cuts the power in every operation behind the `first`, and after the last.
    pub(crate) fn cut_everywhere(&mut self, first: u64) -> Result<(), Broken> {
        self.counts.workloads += 1;
        let last = self.operations(self.workload.steps.len())?;
        for at in first + 1..=last + 1 {
            self.cut(at)?;
        }
        Ok(())
    }

    fn cut(&mut self, at: u64) -> Result<(), Broken> {
        let mut life = self.life();
        life.host.sim().crash_at(at);
        let lived = caught(|| life.live(&self.workload.steps));
        let (sim, model) = (life.host.sim().clone(), std::mem::take(&mut life.model));
        lived.map_err(|broken| self.broken(format!("before a cut in operation {at}"), broken))?;
        let place = sim.last_operation();
        let survivors = sim.survivors(self.extent.samples);
        self.counts.crash_points += 1;
        drop(life);
        let numbers = survivors.numbers();
        let step = numbers.end.div_ceil(self.extent.survivors.max(1)).max(1);
        self.counts.exhaustive += u64::from(survivors.is_exhaustive() && step == 1);
        for number in numbers.skip((at % step) as usize).step_by(step as usize) {
            let left = || survivors.pick(number).map(|left| self.host.on(left));
            let Some(first) = left() else { continue };
            let mut counts = Counts { survivors: 1, ..Counts::default() };
            let looked = caught(|| {
                let nothing_lost = self.look(first, &model, number, &mut counts);
                if nothing_lost.is_ok() && (at + number).is_multiple_of(self.extent.again_one_in) {
                    return self.cut_recovery(left, &model, &mut counts);
                }
                nothing_lost
            });
            self.counts += counts;
            looked.map_err(|broken| {
                self.broken(format!("power cut in {place}; {}", survivors.describe(number)), broken)
            })?;
        }
        Ok(())
    }

    /// Recovers, goes on, and is cut again.
    fn look(&self, host: H, model: &Model, number: u64, counts: &mut Counts) -> Result<(), String> {
        let mut life = Life::after(host, self.workload, model.clone());
        life.open()?;
        counts.recoveries += 1;
        if number.is_multiple_of(2) {
            life.go_on()?;
            counts.recoveries += 1;
        }
        // What recovery told is there after the next cut, and what was promised since.
        let left = life.host.sim().crash();
        let model = std::mem::take(&mut life.model);
        drop(life);
        let mut next = Life::after(self.host.on(left), self.workload, model);
        next.open().map_err(|broken| format!("{broken}; cut again behind recovery"))?;
        counts.recoveries += 1;
        Ok(())
    }

    /// Cuts the recovery itself in each of its operations.
    fn cut_recovery(&self, left: impl Fn() -> Option<H>, model: &Model, counts: &mut Counts) -> Result<(), String> {
        for at in 1.. {
            let Some(host) = left() else { return Ok(()) };
            let mut life = Life::after(host, self.workload, model.clone());
            let sim = life.host.sim().clone();
            sim.crash_at(at);
            let is_open = life.open().map_err(|broken| format!("{broken}; recovery to be cut in operation {at}"))?;
            let model = if is_open { life.model.clone() } else { model.clone() };
            drop(life);
            let mut next = Life::after(self.host.on(sim.crash()), self.workload, model);
            next.open().map_err(|broken| format!("{broken}; recovery was cut in {}", sim.last_operation()))?;
            counts.recoveries += 2;
            if is_open {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Kills the process in every operation behind the `first`; its successor opens the log at once.
    pub(crate) fn kill_everywhere(&mut self, first: u64) -> Result<(), Broken> {
        let last = self.operations(self.workload.steps.len())?;
        for at in first + 1..=last {
            let mut counts = Counts { kills: 1, ..Counts::default() };
            let killed = caught(|| self.kill(at, &mut counts));
            self.counts += counts;
            killed.map_err(|broken| self.broken(format!("process killed in operation {at}"), broken))?;
        }
        Ok(())
    }

    fn kill(&self, at: u64, counts: &mut Counts) -> Result<(), String> {
        let mut life = self.life();
        life.kill_at = Some(at);
        life.host.sim().kill_at(at);
        life.live(&self.workload.steps)?;
        let sim = life.host.sim().clone();
        let faults = Faults { late_one_in: self.workload.faults.late_one_in, ..Faults::default() };
        let mut next = Life::after(self.host.on(sim.start_process()), self.workload, std::mem::take(&mut life.model));
        sim.faults(faults);
        next.open()?;
        counts.recoveries += 1;
        // What the dead one had on its way lands now, and changes nothing that was accepted.
        while sim.land() {}
        drop(life);
        let entries = model::read(&next.host, Path::new(DIR))?;
        if entries != next.model.present() {
            return Err("late writes changed what a reader finds".to_owned());
        }
        next.go_on()?;
        let model = next.model.clone();
        drop(next.wal.take());
        let mut last = Life::after(self.host.on(sim.crash()), self.workload, model);
        last.open().map_err(|broken| format!("{broken}; cut behind a kill"))?;
        counts.recoveries += 2;
        Ok(())
    }

    fn broken(&self, how: String, what: String) -> Broken {
        let Workload { seed, options, faults, steps, .. } = self.workload;
        Broken(format!(
            "{what}\n  {how}\n  seed {seed}: {steps:?}\n  {options:?}\n  {faults:?}\n  again: WAL_CRASH_SEED={seed} cargo \
             test -p chronicle-storage --test wal_crash"
        ))
    }
}

/// A bug that ends in a panic is told like any other.
fn caught(act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("of no words")))
    })
}
