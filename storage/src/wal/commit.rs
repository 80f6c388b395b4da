//! Waiting for durability: who writes, who sleeps, who is woken.
//!
//! Who *leads* gives the driver what was gathered, waits for the device, and tells whom it concerns. Whoever commits while
//! one more may lead does so itself, so a lone committer is never woken by anybody. Whoever commits meanwhile joins a
//! *group*: those whose frames go out with the next batches, and who sleep on one word.
//!
//! ```text
//! by calls       as many lead as writes may be in flight, each waits in its own write
//!                  its write ends: wake whom it concerns (one call), let them append, leave
//!                  frames were gathered meanwhile: one of those who wait for them is woken to lead
//!                  its own frame waits for a batch before it: leave, sleep with the others
//! through a ring one leads, and when its own frame is durable a thread of the log's own, the helper, for those who wait
//!                  hand out what was gathered, wait for the device
//!                  nothing else under way?  wake the group, let those who return append again, hand out when no more come
//!                  else                     hand out first, then wake
//! ```
//!
//! **Why so.** With 64 committers the device is the smaller part: the larger one is waking threads. A group is woken by one
//! system call and nobody else is; its members find the answer in one atomic word and take no lock on their way out. Since
//! those who were woken mostly come back with another frame, they are let: one yield, and one write carries them all. By
//! calls two write at once: while one batch is flushed the next one is on its way. Decision 9 has the figures.
//!
//! **Nothing is lost between two leaders.** What is gathered, handed out and done is decided under the lock; by calls an
//! outcome is taken from the driver under it too, so a leader whose outcome another one took finds it in the machine.
//! Who leaves looks under the same lock for somebody to lead next, and who is woken for that and finds others leading
//! sleeps again: the last of those looks too. Whoever sleeps looks again after a bounded time.
//!
//! Futures and callbacks are kept in order of their frames; the leader takes them out under the lock and calls them
//! without it.

use super::writer::{Core, GROUP_WORDS, Guard, Shared, Take, Word};
use crate::{Error, Result};
use chronicle_core::wal::Ticket;
use chronicle_platform::Platform;
use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

/// Why a frame is not known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    /// A write or a sync failed before the frame was durable: opening the log again may find it or not. See
    /// [`super::Wal::trouble`].
    Poisoned,
    /// There is no such frame yet.
    NotAppended {
        /// The one asked for.
        seq: u64,
        /// The number that the next frame gets.
        next: u64,
    },
    /// The log was dropped first: opening it again may find the frame or not.
    Dropped,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Poisoned => {
                f.write_str("frame not durable: a write or sync of the log failed, and whether it is kept is unknown")
            }
            CommitError::NotAppended { seq, next } => {
                write!(f, "frame {seq} not appended: the next one is {next}")
            }
            CommitError::Dropped => {
                f.write_str("frame not durable: the log was dropped, and whether it is kept is unknown")
            }
        }
    }
}

impl std::error::Error for CommitError {}

/// What a committer asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// This frame.
    Seq(u64),
    /// Everything appended so far.
    All,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Seq(u64),
    Ticket(Ticket),
    Closed,
}

/// Committers that are woken together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    number: u64,
    /// Newest frame that one of them waits for.
    seq: u64,
    /// Newest ticket.
    ticket: Option<Ticket>,
    closed: bool,
    members: u32,
}

/// Called when a frame is durable or never will be.
pub(super) type Callback = Box<dyn FnOnce(std::result::Result<(), CommitError>) + Send>;

enum Who {
    Task(Waker),
    Call(Callback),
}

impl Who {
    /// Somebody else's code: if it panics, which is told where it does, the thread that leads goes on for the others.
    fn hears(self, answer: std::result::Result<(), CommitError>) {
        _ = catch_unwind(AssertUnwindSafe(|| match self {
            Who::Task(waker) => waker.wake(),
            Who::Call(then) => then(answer),
        }));
    }
}

/// Somebody who is called, not woken from sleep.
pub(super) struct Waiting {
    seq: u64,
    id: u64,
    who: Who,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("seq", &self.seq).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Groups that are woken by one thread at once: no more are covered at a time than there are batches.
const WOKEN_MAX: usize = 16;
/// Times that a helper yields for those who come back.
const YIELDS: u32 = 128;

/// Whom to wake, taken out under the lock.
#[derive(Default)]
struct Woken {
    groups: [Option<u64>; WOKEN_MAX],
    count: usize,
    members: u32,
}

impl<P: Platform> Core<P> {
    fn is_covered(&self, target: Target) -> bool {
        match target {
            Target::Seq(seq) => self.machine.durable() >= seq,
            Target::Ticket(ticket) => self.machine.is_durable(ticket),
            Target::Closed => self.machine.is_closed(),
        }
    }

    /// The answer for who waits for it; none yet.
    fn answer(&self, target: Target) -> Option<std::result::Result<(), CommitError>> {
        if self.is_covered(target) {
            Some(Ok(()))
        } else if self.machine.is_poisoned() {
            Some(Err(CommitError::Poisoned))
        } else {
            None
        }
    }

    fn is_group_covered(&self, group: &Group) -> bool {
        self.machine.is_poisoned()
            || self.machine.durable() >= group.seq
                && group.ticket.is_none_or(|ticket| self.machine.is_durable(ticket))
                && (!group.closed || self.machine.is_closed())
    }

    /// The group that is woken when the target is reached, or a little later.
    fn join(&mut self, target: Target) -> u64 {
        let reaches = |group: &Group| match target {
            Target::Seq(seq) => group.seq >= seq,
            Target::Ticket(ticket) => group.ticket >= Some(ticket),
            Target::Closed => group.closed,
        };
        if let Some(group) = self.groups.iter_mut().find(|group| reaches(group)) {
            group.members += 1;
            return group.number;
        }
        // Batches under way are few, so groups are; were there ever more, the newest would serve for the rest.
        if self.groups.is_empty() || !self.group_open && self.groups.len() < GROUP_WORDS as usize / 2 {
            let group = Group { number: self.group_number, seq: 0, ticket: None, closed: false, members: 0 };
            self.group_number += 1;
            self.groups.push_back(group);
            self.group_open = true;
        }
        let group = self.groups.back_mut().expect("bug: there is one");
        match target {
            Target::Seq(seq) => group.seq = group.seq.max(seq),
            Target::Ticket(ticket) => group.ticket = group.ticket.max(Some(ticket)),
            Target::Closed => group.closed = true,
        }
        group.members += 1;
        group.number
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.groups.is_empty() || !self.waiting.is_empty()
    }
}

impl<P: Platform> Shared<P> {
    /// Makes the log work towards what is asked for.
    fn demand(&self, core: &mut Core<P>, asked: Asked) -> std::result::Result<Target, CommitError> {
        match asked {
            Asked::Seq(seq) => {
                let next = core.machine.next_seq();
                if seq >= next {
                    return Err(CommitError::NotAppended { seq, next });
                }
                core.machine.demand(seq);
                Ok(Target::Seq(seq))
            }
            Asked::All => Ok(Target::Ticket(core.machine.demand_all())),
        }
    }

    /// Waits until it is durable.
    pub(super) fn commit(&self, asked: Asked) -> std::result::Result<(), CommitError> {
        let mut core = self.lock();
        let target = self.demand(&mut core, asked)?;
        self.wait_for(core, target)
    }

    fn wait_for<'a>(&'a self, mut core: Guard<'a, P>, target: Target) -> std::result::Result<(), CommitError> {
        let mut joined = None;
        loop {
            if let Some(answer) = core.answer(target) {
                if joined.is_some() {
                    self.hand_on(core);
                }
                return answer;
            }
            if core.take_lead() {
                if !self.ends_in_submit() {
                    return self.lead(core, target);
                }
                core.committing += 1;
                let (answer, mut guard) = self.write(core, target);
                guard.committing -= 1;
                if let Some(answer) = answer {
                    self.leave(guard);
                    return answer;
                }
                core = guard;
            }
            let number = *joined.get_or_insert_with(|| core.join(target));
            let seen = self.look(&core, Word::Group(number));
            drop(core);
            self.sleep(Word::Group(number), seen);
            // Whoever was woken with its whole group was not woken to lead, and need not look at more than two words.
            // ORDERING: Acquire pairs with the Release in `cover`.
            if let Target::Seq(seq) = target
                && self.durable() >= seq
                && self.groups_covered.load(Ordering::Acquire) > number
            {
                return Ok(());
            }
            core = self.lock();
        }
    }

    /// Who goes while others of its group wait may be the one that was woken to lead: another one is.
    fn hand_on(&self, core: Guard<'_, P>) {
        #[cfg(feature = "planted")]
        if self.options.planted.swallows_lead {
            return;
        }
        if core.has_waiting()
            && !core.machine.is_poisoned()
            && core.leaders < core.leaders_max
            && let Some(word) = self.next_leader(&core)
        {
            self.bump(&core, word);
            drop(core);
            self.wake_one(word);
        }
    }

    /// Writes until the target is reached, beside others who do. The caller has taken the lead, and keeps it with an answer;
    /// without one it has lost it, for what is left to wait for is on its way by another thread.
    fn write<'a>(
        &'a self,
        mut core: Guard<'a, P>,
        target: Target,
    ) -> (Option<std::result::Result<(), CommitError>>, Guard<'a, P>) {
        loop {
            let did;
            (did, core) = self.hand_out_some(core, Take::All);
            let answer = core.answer(target);
            let woken = self.cover(&mut core);
            let tells = woken.count > 0 || self.is_call_due(&core);
            if tells {
                let members = woken.members;
                drop(core);
                self.tell(woken);
                if answer.is_some() && members > 0 {
                    // Those who were woken append first: what they bring goes out in the next write, together.
                    std::thread::yield_now();
                }
                core = self.lock();
            }
            if answer.is_some() {
                return (answer, core);
            }
            if did || tells {
                // What was true before the lock was let go is not any more.
                continue;
            }
            if core.is_flying() {
                core.leaders -= 1;
                return (None, core);
            }
            core = self.await_room(core);
        }
    }

    /// Leads until the target is reached. The caller has taken the lead.
    fn lead<'a>(&'a self, mut core: Guard<'a, P>, target: Target) -> std::result::Result<(), CommitError> {
        loop {
            core = self.hand_out(core);
            if let Some(answer) = core.answer(target) {
                self.leave(core);
                return answer;
            }
            core = self.step(core);
            if core.answer(target).is_some() {
                continue;
            }
            // Somebody else's is done first.
            let woken = self.cover(&mut core);
            if woken.count > 0 || self.is_call_due(&core) {
                core = self.hand_out(core);
                drop(core);
                self.tell(woken);
                core = self.lock();
            }
        }
    }

    /// Waits until something has ended; with nothing under way, for the segment that is being prepared.
    fn step<'a>(&'a self, core: Guard<'a, P>) -> Guard<'a, P> {
        if core.is_flying() { self.take_in(core, true) } else { self.await_room(core) }
    }

    /// Leaves the lead: to one of those who wait, to the helper for them, else to whoever comes.
    pub(super) fn leave<'a>(&'a self, mut core: Guard<'a, P>) {
        if core.retire_due {
            // Perhaps nobody comes for long.
            core = self.hand_out_names(core);
        }
        let woken = self.cover(&mut core);
        core.leaders -= 1;
        let mut helper = false;
        let mut next = None;
        if core.has_waiting() && !core.machine.is_poisoned() {
            next = self.next_leader(&core);
            if next.is_none() && core.leaders == 0 {
                helper = self.call_helper(&mut core);
            }
        }
        if let Some(word) = next {
            core.stats.wakeups += 1;
            self.bump(&core, word);
        }
        // Who found no lead to take waits for room.
        let room = core.leaders == 0
            && core.room_sleepers > 0
            && !core.is_preparing()
            && !(core.is_flying() && self.ends_in_submit());
        if room {
            self.bump(&core, Word::Room);
        }
        let calls = self.is_call_due(&core);
        drop(core);
        if room {
            self.wake(Word::Room);
        }
        if let Some(word) = next {
            self.wake_one(word);
        }
        if helper {
            self.wake(Word::Helper);
        }
        if woken.count > 0 || calls {
            self.tell(woken);
        }
    }

    /// Where one sleeps who shall lead next: of those whose frames are gathered, or if nobody writes, of those who wait
    /// longest.
    fn next_leader(&self, core: &Core<P>) -> Option<Word> {
        if !self.ends_in_submit() && self.has_threads() {
            // The helper: one thread that keeps a ring busy.
            return None;
        }
        let group = match core.groups.back() {
            gathered if core.group_open => gathered,
            _ if core.leaders == 0 => core.groups.front(),
            _ => None,
        };
        group.map(|group| Word::Group(group.number))
    }

    /// Makes the helper lead. It must be woken then.
    fn call_helper(&self, core: &mut Core<P>) -> bool {
        if !self.has_threads() || core.helper_leads || !core.take_lead() {
            return false;
        }
        core.helper_leads = true;
        core.stats.wakeups += 1;
        self.bump(core, Word::Helper);
        true
    }

    /// Takes out the groups that have their answer; their members do not go to sleep any more.
    fn cover(&self, core: &mut Core<P>) -> Woken {
        let mut woken = Woken::default();
        while woken.count < WOKEN_MAX
            && let Some(group) = core.groups.front().copied()
            && core.is_group_covered(&group)
        {
            core.groups.pop_front();
            // ORDERING: Release pairs with the Acquire in `wait_for`.
            self.groups_covered.store(group.number + 1, Ordering::Release);
            if core.groups.is_empty() {
                core.group_open = false;
            }
            self.bump(core, Word::Group(group.number));
            core.stats.wakeups += 1;
            woken.groups[woken.count] = Some(group.number);
            woken.count += 1;
            woken.members += group.members;
        }
        woken
    }

    /// Whether a future or a callback has its answer.
    fn is_call_due(&self, core: &Core<P>) -> bool {
        core.waiting.front().is_some_and(|first| core.answer(Target::Seq(first.seq)).is_some())
    }

    /// Wakes and calls those who have their answer. Without the lock.
    fn tell(&self, woken: Woken) {
        for number in woken.groups.into_iter().flatten() {
            self.wake(Word::Group(number));
        }
        self.call_due();
    }

    /// Calls futures and callbacks that have their answer.
    fn call_due(&self) {
        loop {
            let mut due = [const { None }; 32];
            let mut count = 0;
            let mut core = self.lock();
            while count < due.len()
                && let Some(first) = core.waiting.front()
                && let Some(answer) = core.answer(Target::Seq(first.seq))
            {
                due[count] = core.waiting.pop_front().map(|waiting| (waiting.who, answer));
                count += 1;
            }
            drop(core);
            for (who, answer) in due.into_iter().flatten() {
                who.hears(answer);
            }
            if count < 32 {
                return;
            }
        }
    }

    fn enqueue(&self, core: &mut Core<P>, seq: u64, who: Who) -> u64 {
        core.waiting_id += 1;
        let id = core.waiting_id;
        let at = match core.waiting.back() {
            Some(last) if last.seq > seq => core.waiting.partition_point(|waiting| waiting.seq <= seq),
            _ => core.waiting.len(),
        };
        core.waiting.insert(at, Waiting { seq, id, who });
        id
    }

    /// Where somebody waits in the queue.
    fn find(core: &Core<P>, seq: u64, id: u64) -> Option<usize> {
        let at = core.waiting.partition_point(|waiting| (waiting.seq, waiting.id) < (seq, id));
        core.waiting.get(at).is_some_and(|waiting| waiting.id == id).then_some(at)
    }

    pub(super) fn on_commit(&self, seq: u64, then: Callback) -> std::result::Result<(), CommitError> {
        let mut core = self.lock();
        let target = self.demand(&mut core, Asked::Seq(seq))?;
        if let Some(answer) = core.answer(target) {
            drop(core);
            then(answer);
            return Ok(());
        }
        self.enqueue(&mut core, seq, Who::Call(then));
        let helper = self.call_helper(&mut core);
        drop(core);
        if helper {
            self.wake(Word::Helper);
        }
        Ok(())
    }

    /// Does what can be done without waiting, or with one wait. Whether something is under way.
    pub(super) fn drive(&self, wait: bool) -> bool {
        let mut core = self.lock();
        if core.take_lead() {
            core = self.hand_out(core);
            core = self.take_in(core, wait);
            core = self.hand_out(core);
            let under_way = core.is_flying();
            self.leave(core);
            if !(under_way && wait && self.ends_in_submit()) {
                return under_way;
            }
            core = self.lock();
        } else if !wait {
            return true;
        }
        // By another thread.
        if core.is_flying() {
            drop(self.await_room(core));
        }
        true
    }

    /// What the helper does, as long as the log is open.
    pub(super) fn help(&self) {
        let mut core = self.lock();
        loop {
            while !core.helper_leads {
                if core.stop {
                    return;
                }
                let seen = self.look(&core, Word::Helper);
                drop(core);
                self.sleep(Word::Helper, seen);
                core = self.lock();
            }
            core = self.lead_for_others(core);
        }
    }

    /// Leads until nobody waits, or the log goes: then nobody may be there who prepares a segment.
    fn lead_for_others<'a>(&'a self, mut core: Guard<'a, P>) -> Guard<'a, P> {
        loop {
            if core.stop {
                core.helper_leads = false;
                core.leaders -= 1;
                return core;
            }
            let did;
            (did, core) = self.hand_out_some(core, Take::All);
            let due = self.is_call_due(&core) || core.groups.front().is_some_and(|group| core.is_group_covered(group));
            if self.ends_in_submit() && !did && !due && core.is_flying() {
                // Committers write; the last of them calls again if somebody is left.
                core.helper_leads = false;
                core.leaders -= 1;
                return core;
            }
            if !self.ends_in_submit() && core.is_flying() || !did && core.has_waiting() && !due {
                core = self.step(core);
            }
            let woken = self.cover(&mut core);
            // With nothing under way those who are woken now may share the next write; otherwise the device is kept busy.
            let gather = woken.members > 0 && !core.is_flying() && !core.machine.is_poisoned();
            if !gather && !self.ends_in_submit() {
                core = self.hand_out(core);
            }
            if woken.count > 0 || self.is_call_due(&core) {
                drop(core);
                self.tell(woken);
                if gather {
                    self.gather();
                }
                core = self.lock();
            }
            let more = core.has_waiting() || core.is_flying();
            if !more || core.machine.is_poisoned() && !core.has_waiting() {
                core.helper_leads = false;
                core.leaders -= 1;
                return core;
            }
        }
    }

    /// Lets others run as long as that brings frames.
    fn gather(&self) {
        let mut seen = self.appended();
        for _ in 0..YIELDS {
            std::thread::yield_now();
            let now = self.appended();
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// Makes everything durable and says that the log ended.
    pub(super) fn close(&self) -> Result<()> {
        let mut core = self.lock();
        core.machine.close();
        let closed = self.wait_for(core, Target::Closed);
        match closed {
            Ok(()) => Ok(()),
            Err(_) => {
                let core = self.lock();
                Err(match &core.failure {
                    Some(failure) => Error::Wal(failure.clone()),
                    None => Error::Poisoned { path: self.names.dir().to_path_buf() },
                })
            }
        }
    }

    /// Tells the threads to end.
    pub(super) fn stop(&self) {
        let mut core = self.lock();
        core.stop = true;
        let words = [Word::Helper, Word::Upkeep, Word::Room];
        for word in words {
            self.bump(&core, word);
        }
        drop(core);
        for word in words {
            self.wake(word);
        }
    }

    /// The log goes: whoever waits to be called is told.
    pub(super) fn give_up(&self) {
        self.call_due();
        let left = std::mem::take(&mut self.lock().waiting);
        for waiting in left {
            waiting.who.hears(Err(CommitError::Dropped));
        }
    }
}

/// Waits for a frame to be durable. See [`super::Wal::commit_async`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Commit<'w, P: Platform> {
    shared: &'w Shared<P>,
    seq: u64,
    /// Its place among those who wait.
    id: Option<u64>,
}

impl<'w, P: Platform> Commit<'w, P> {
    pub(super) fn new(shared: &'w Shared<P>, seq: u64) -> Self {
        Commit { shared, seq, id: None }
    }
}

impl<P: Platform> Future for Commit<'_, P> {
    type Output = std::result::Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (shared, seq) = (self.shared, self.seq);
        if shared.durable() >= seq {
            // Whoever took us out of the queue, or will, finds nothing to do.
            return Poll::Ready(Ok(()));
        }
        // A waker's clone and drop are somebody else's code: not under the lock.
        let waker = context.waker().clone();
        let _old;
        let mut core = shared.lock();
        let target = match shared.demand(&mut core, Asked::Seq(seq)) {
            Ok(target) => target,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(answer) = core.answer(target) {
            return Poll::Ready(answer);
        }
        let at = self.id.and_then(|id| Shared::find(&core, seq, id));
        match at.map(|at| &mut core.waiting[at].who) {
            Some(Who::Task(asleep)) => _old = std::mem::replace(asleep, waker),
            _ => self.id = Some(shared.enqueue(&mut core, seq, Who::Task(waker))),
        }
        let helper = shared.call_helper(&mut core);
        drop(core);
        if helper {
            shared.wake(Word::Helper);
        }
        Poll::Pending
    }
}

impl<P: Platform> Drop for Commit<'_, P> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut core = self.shared.lock();
            let left = Shared::find(&core, self.seq, id).and_then(|at| core.waiting.remove(at));
            drop(core);
            // A waker's drop is somebody else's code: not under the lock.
            drop(left);
        }
    }
}
