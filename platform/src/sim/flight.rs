//! Operations on their way to the device: taken by a log's driver, their end not yet told.
//!
//! They end in any order. A write that has not ended when the power goes is on the device whole, in part or not at all; one
//! that has not ended when its process dies lands later, or never.

use super::{
    content::Write,
    machine::{EIO, ENOSPC, Machine},
    names::Inode,
};
use chronicle_core::wal::{OpId, Outcome};
use std::io;

/// An operation on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) driver: u64,
    pub(super) pid: u32,
    pub(super) op: OpId,
    pub(super) segment: u64,
    pub(super) inode: Inode,
    /// The open file that it goes through.
    pub(super) description: u64,
    pub(super) work: Work,
    /// Where its bytes lie in the machine's memory.
    pub(super) from: usize,
    /// How it ended, if it has.
    pub(super) ended: Option<Outcome>,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Bytes, and whether they shall be durable at the end.
    Write(Write, bool),
    Sync,
}

impl Flight {
    /// The write that it is, if the device may or may not have it.
    pub(super) fn write(&self) -> Option<&Write> {
        match &self.work {
            Work::Write(write, _) if self.ended.is_none() => Some(write),
            _ => None,
        }
    }

    pub(super) fn outlives_its_process(&self) -> bool {
        self.write().is_some()
    }
}

fn failed(error: &io::Error) -> Outcome {
    Outcome::Failed(error.raw_os_error().unwrap_or(EIO))
}

impl Machine {
    /// Does what an operation on its way asks for.
    pub(super) fn carry_out(&mut self, flight: &Flight) -> Outcome {
        match &flight.work {
            Work::Write(write, sync) => self.carry_out_write(flight, write, *sync),
            Work::Sync => match self.sync_file(flight.description) {
                Ok(()) => Outcome::Done(0),
                Err(error) => failed(&error),
            },
        }
    }

    fn carry_out_write(&mut self, flight: &Flight, write: &Write, sync: bool) -> Outcome {
        self.writes += 1;
        if self.random.one_in(self.faults.interrupted_one_in) {
            return Outcome::Again;
        }
        let len = write.bytes.len() as u64;
        let free = self.free_bytes(flight.inode);
        let content = self.files.get_mut(&flight.inode).expect("bug: a file that is written to has content");
        let room = content.allocate(write.offset, write.end(), free).map_or_else(|stop| stop - write.offset, |()| len);
        let short = match self.faults.short_write {
            Some((number, len)) if number == self.writes => u64::from(len),
            _ if self.random.one_in(self.faults.write_is_short_one_in) => 1 + self.random.below(len - 1),
            _ => len,
        };
        let failing = match self.faults.failing_write {
            Some((number, errno)) if number == self.writes => Some(errno),
            _ => self.random.one_in(self.faults.write_fails_one_in).then_some(EIO),
        };
        let done = match failing {
            Some(_) => self.random.below(len),
            None => room.min(short).min(len),
        };
        let part = match done == len {
            true => write.clone(),
            false => Write { offset: write.offset, bytes: write.bytes[..done as usize].into() },
        };
        if let Some(errno) = failing.or((room == 0).then_some(ENOSPC)) {
            self.content_of(flight.inode).put(&part);
            return Outcome::Failed(errno);
        }
        // What a write carries is for the bytes that it wrote, also if it ended short.
        if !sync {
            self.content_of(flight.inode).put(&part);
            return Outcome::Done(done as u32);
        }
        match self.sync_goes_through(flight.inode) {
            Ok(true) => self.content_of(flight.inode).put_durably(&part),
            Ok(false) => self.content_of(flight.inode).put(&part),
            Err(error) => {
                let content = self.files.get_mut(&flight.inode).expect("bug: looked up above");
                content.fail_to_put(&part, &mut self.random);
                let errors = content.errors;
                if let Some(description) = self.descriptions.get_mut(&flight.description) {
                    description.told = errors;
                }
                return failed(&error);
            }
        }
        Outcome::Done(done as u32)
    }

    fn content_of(&mut self, inode: Inode) -> &mut super::content::Content {
        self.files.get_mut(&inode).expect("bug: a file that is written to has content")
    }

    /// Writes of dead processes that are still on their way.
    pub(super) fn late(&self) -> impl Iterator<Item = usize> {
        self.in_flight.iter().enumerate().filter(|(_, flight)| self.dead.contains(&flight.pid)).map(|(at, _)| at)
    }

    /// Lets one of them land; whether there was one.
    pub(super) fn land(&mut self) -> bool {
        let count = self.late().count() as u64;
        if count == 0 {
            return false;
        }
        let chosen = self.random.below(count) as usize;
        let at = self.late().nth(chosen).expect("bug: counted above");
        let flight = self.in_flight.swap_remove(at);
        // Nobody is told.
        self.carry_out(&flight);
        true
    }

    /// Perhaps lets one land, as chance has it.
    pub(super) fn maybe_land(&mut self) {
        if self.late().next().is_some() && self.random.one_in(self.faults.late_one_in) {
            self.land();
        }
    }
}
