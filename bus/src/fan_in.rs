//! Many queues as one stream, ordered by time.
//!
//! Each source is a queue's subscriber. The merge looks at the time of each source's next frame without moving over it,
//! and hands out the earliest; of equal times, the one of the source with the smaller number. A tournament over those times
//! makes that one comparison a level: for eight sources three a frame.
//!
//! ```text
//! next(now):  the source that gave the last frame: what time has its next?
//!             sources without a frame: looked at once per `now`, every 64 frames, and when nobody has one
//!             the winner, unless it is held; its subscriber moves over the frame
//! ```
//!
//! **Who waits for whom.** While every source has a frame, the order is exact. A source without one may get a frame that is
//! earlier than those at hand, so the merge waits for it, but never longer than the `patience` of the merge: a frame of
//! time `t` is *held* while some source has none **and** `now - patience < t <= now + patience`. `now` is the clock that
//! the caller passes in, in the sources' own time: the wall clock for what is live, `u64::MAX` for what is recorded, where
//! a source without a frame is at its end. So, said of one frame: it is handed out at the latest `patience` after its time;
//! if its time lies in the future by at most `patience`, so much later; if by more, at once, because its clock is not ours.
//! Nothing is held with a patience of zero. An idle source is asked for nothing else, and holds nobody for ever.
//!
//! **What comes too late** for its place is handed out at once, marked ([`SourceFrame::late`]) and counted
//! ([`FanIn::late`]): its time is before one that was handed out already. That is so for sources slower than `patience`, for
//! sources that are added with older frames, and where a source's own clock steps back. Nothing is dropped.
//!
//! **What happens to one source** (a loss, a lap, damage) is an [`Merged::Event`] of it and not an end of the merge. A
//! damaged one is set aside until [`FanIn::seek`] says where it goes on. Cursors are the sources' own: [`FanIn::commit`]
//! stores that of one, behind the last frame that was handed out of it.
//!
//! Never here: an allocation per frame (adding sources allocates), a thread, a clock that is read, a payload looked into.

use chronicle_core::Frame;
use chronicle_platform::Platform;
use chronicle_storage::{
    Result,
    queue::{Position, ReadError, Start, Subscriber, Waited},
};
use std::{collections::VecDeque, fmt, hint::spin_loop, time::Duration};

/// Frames handed out at one clock until sources without one are looked at again.
const LOOK_EVERY: u32 = 64;
/// Looks at all sources before a wait sleeps between them.
const SPINS: u32 = 100;
/// The first and the longest sleep between two looks.
const SLEEPS: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// What comes next of all sources.
#[derive(Debug)]
pub enum Merged<'a> {
    /// A frame.
    Frame(SourceFrame<'a>),
    /// Something that happened to a source.
    Event(SourceEvent),
}

/// A frame, and whose.
#[derive(Debug)]
pub struct SourceFrame<'a> {
    /// Number of its source.
    pub source: u32,
    /// A frame with a later time was handed out before.
    pub late: bool,
    /// It.
    pub frame: Frame<'a>,
}

/// Something that happened to a source.
#[derive(Debug)]
pub struct SourceEvent {
    /// Its number.
    pub source: u32,
    /// What happened.
    pub error: ReadError,
    /// It is set aside until [`FanIn::seek`]; else the merge goes on with it.
    pub stopped: bool,
}

impl fmt::Display for SourceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SourceEvent { source, error, stopped } = self;
        write!(f, "source {source}{}: {error}", if *stopped { " set aside" } else { "" })
    }
}

/// Merges queues. See the module's page for what is held, late, and told.
#[derive(Debug)]
pub struct FanIn<P: Platform> {
    platform: P,
    sources: Vec<Option<Source<P>>>,
    tournament: Tournament,
    patience_ns: u64,
    /// Sources that have no frame and are not set aside.
    idle: usize,
    /// The source that gave the last frame: the time of its next is not known yet.
    due: Option<u32>,
    events: VecDeque<SourceEvent>,
    /// The latest time that was handed out.
    high_ns: u64,
    /// The clock at which idle sources were looked at.
    looked_ns: u64,
    /// Frames handed out since.
    since_look: u32,
}

#[derive(Debug)]
struct Source<P: Platform> {
    subscriber: Subscriber<P>,
    state: State,
    late: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has a frame, and the tournament its time.
    Ahead,
    /// It has none.
    Idle,
    /// It is damaged, and waits for a seek.
    Stopped,
}

impl<P: Platform> FanIn<P> {
    /// A merge without sources. `patience` bounds how long a frame waits for sources that have none.
    #[must_use]
    pub fn new(platform: &P, patience: Duration) -> Self {
        FanIn {
            platform: platform.clone(),
            sources: Vec::new(),
            tournament: Tournament::default(),
            patience_ns: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
            idle: 0,
            due: None,
            events: VecDeque::new(),
            high_ns: 0,
            looked_ns: 0,
            since_look: 0,
        }
    }

    /// Adds a source, at any time, and returns its number: the smallest one that no source has. Where it reads is where its
    /// subscriber stands; frames older than what was handed out come late.
    pub fn add(&mut self, subscriber: Subscriber<P>) -> u32 {
        let at = self.sources.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sources.push(None);
            self.tournament.reserve(self.sources.len());
            self.sources.len() - 1
        });
        self.sources[at] = Some(Source { subscriber, state: State::Idle, late: 0 });
        self.idle += 1;
        self.events.reserve(self.sources.len());
        let source = u32::try_from(at).expect("bug: more sources than a process has memory for");
        self.look_at(source);
        source
    }

    /// Takes a source out and gives its subscriber back, which stands behind the last frame that was handed out of it.
    pub fn remove(&mut self, source: u32) -> Option<Subscriber<P>> {
        let removed = self.sources.get_mut(source as usize)?.take()?;
        self.idle -= usize::from(removed.state == State::Idle);
        self.tournament.set(source, None);
        self.events.retain(|event| event.source != source);
        if self.due == Some(source) {
            self.due = None;
        }
        Some(removed.subscriber)
    }

    /// What comes next, at this clock; `None` if there is nothing, or nothing that may be handed out yet.
    ///
    /// Pass one `now_ns` to many calls: each new one costs a look at every source that has no frame.
    // Not an iterator: what it hands out borrows the merge.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self, now_ns: u64) -> Option<Merged<'_>> {
        if let Some(source) = self.due.take() {
            self.look_at(source);
        }
        if self.idle > 0
            && (now_ns != self.looked_ns || self.since_look >= LOOK_EVERY || self.tournament.winner().is_none())
        {
            self.look_at_idle(now_ns);
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Merged::Event(event));
        }
        let (time_ns, source) = self.tournament.winner()?;
        if self.idle > 0 && self.is_held(time_ns, now_ns) {
            // Those it waits for are looked at with the next call, also at the same clock.
            self.since_look = LOOK_EVERY;
            return None;
        }
        self.since_look = self.since_look.saturating_add(1);
        // Looked at with the next call: the frame that is handed out borrows its subscriber.
        self.due = Some(source);
        let from = self.sources.get_mut(source as usize)?.as_mut()?;
        match from.subscriber.next_peeked() {
            Ok(Some(frame)) => {
                let late = frame.time_ns < self.high_ns;
                from.late += u64::from(late);
                self.high_ns = self.high_ns.max(frame.time_ns);
                Some(Merged::Frame(SourceFrame { source, late, frame }))
            }
            // A peer changed the word under us.
            Ok(None) => None,
            Err(error) => {
                let stopped = stops(&error);
                if stopped {
                    from.state = State::Stopped;
                    self.tournament.set(source, None);
                    self.due = None;
                }
                Some(Merged::Event(SourceEvent { source, error, stopped }))
            }
        }
    }

    /// Calls `each` with up to `limit` things that come next at this clock, and returns how many there were.
    pub fn poll(&mut self, limit: usize, now_ns: u64, mut each: impl FnMut(Merged<'_>)) -> usize {
        for count in 0..limit {
            match self.next(now_ns) {
                Some(merged) => each(merged),
                None => return count,
            }
        }
        limit
    }

    /// Waits, at most `timeout`, until some source has something, held or not; whether one has.
    ///
    /// One source alone is slept on, and its writer wakes us. Of more, all are looked at again and again, with sleeps
    /// between that grow from 20 µs to 1 ms: who wants less calls [`FanIn::next`] in a loop of its own.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let deadline =
            self.platform.monotonic_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        let [mut pause, longest] = SLEEPS;
        let mut looks = 0;
        loop {
            if let Some(source) = self.due.take() {
                self.look_at(source);
            }
            self.look_at_idle(self.looked_ns);
            self.since_look = LOOK_EVERY;
            if self.tournament.winner().is_some() || !self.events.is_empty() {
                return true;
            }
            if looks < SPINS {
                looks += 1;
                spin_loop();
                continue;
            }
            let left = deadline.saturating_sub(self.platform.monotonic_ns());
            if left == 0 {
                return false;
            }
            let left = Duration::from_nanos(left);
            match self.alone() {
                Some((source, subscriber)) => match subscriber.wait(left) {
                    // No writer, told after a slice of the time: whether one comes back is for others to say.
                    Ok(Waited::Ready | Waited::TimedOut | Waited::Disconnected(_)) => {}
                    Err(error) => self.fell(source, error),
                },
                None => {
                    self.platform.sleep(pause.min(left));
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Stores a source's cursor, behind the last frame that was handed out of it.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::commit`].
    pub fn commit(&mut self, source: u32) -> Result<()> {
        match self.sources.get_mut(source as usize) {
            Some(Some(source)) => source.subscriber.commit(),
            _ => Ok(()),
        }
    }

    /// Stores a source's cursor at a place where it stood before.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::commit_at`].
    pub fn commit_at(&mut self, source: u32, position: Position) -> Result<()> {
        match self.sources.get_mut(source as usize) {
            Some(Some(source)) => source.subscriber.commit_at(position),
            _ => Ok(()),
        }
    }

    /// As [`FanIn::commit_at`], and makes it durable.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::commit_durable_at`].
    pub fn commit_durable_at(&mut self, source: u32, position: Position) -> Result<()> {
        match self.sources.get_mut(source as usize) {
            Some(Some(source)) => source.subscriber.commit_durable_at(position),
            _ => Ok(()),
        }
    }

    /// Stores the cursors of all sources.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::commit`], of the first that fails; the others' are stored.
    pub fn commit_all(&mut self) -> Result<()> {
        let mut result = Ok(());
        for source in self.sources.iter_mut().flatten() {
            result = result.and(source.subscriber.commit());
        }
        result
    }

    /// Goes elsewhere in a source; one that was set aside takes part again.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::seek`].
    pub fn seek(&mut self, source: u32, start: Start) -> std::result::Result<(), ReadError> {
        let Some(Some(it)) = self.sources.get_mut(source as usize) else { return Ok(()) };
        it.subscriber.seek(start)?;
        if it.state == State::Stopped {
            it.state = State::Idle;
            self.idle += 1;
        }
        self.look_at(source);
        Ok(())
    }

    /// A source's subscriber: where it stands, whether its writer is there.
    #[must_use]
    pub fn source(&self, source: u32) -> Option<&Subscriber<P>> {
        Some(&self.sources.get(source as usize)?.as_ref()?.subscriber)
    }

    /// Numbers of all sources, ascending.
    pub fn sources(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.sources).filter(|(_, source)| source.is_some()).map(|(number, _)| number)
    }

    /// How many sources there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sources.iter().flatten().count()
    }

    /// How many frames of a source came late.
    #[must_use]
    pub fn late(&self, source: u32) -> u64 {
        self.sources.get(source as usize).and_then(Option::as_ref).map_or(0, |source| source.late)
    }

    #[inline]
    fn is_held(&self, time_ns: u64, now_ns: u64) -> bool {
        time_ns > now_ns.saturating_sub(self.patience_ns) && time_ns <= now_ns.saturating_add(self.patience_ns)
    }

    /// What time has its next frame?
    #[inline]
    fn look_at(&mut self, source: u32) {
        let Some(Some(it)) = self.sources.get_mut(source as usize) else { return };
        match it.subscriber.peek_time() {
            Ok(Some(time_ns)) => {
                self.idle -= usize::from(it.state == State::Idle);
                it.state = State::Ahead;
                self.tournament.set(source, Some(time_ns));
            }
            Ok(None) => {
                if it.state == State::Ahead {
                    it.state = State::Idle;
                    self.idle += 1;
                    self.tournament.set(source, None);
                }
            }
            Err(error) => self.fell(source, error),
        }
    }

    #[cold]
    fn look_at_idle(&mut self, now_ns: u64) {
        self.looked_ns = now_ns;
        self.since_look = 0;
        for at in 0..self.sources.len() {
            if self.sources[at].as_ref().is_some_and(|source| source.state == State::Idle) {
                self.look_at(at as u32);
            }
        }
    }

    /// Something happened to a source while it was looked at.
    #[cold]
    fn fell(&mut self, source: u32, error: ReadError) {
        let Some(Some(it)) = self.sources.get_mut(source as usize) else { return };
        let stopped = stops(&error);
        self.events.push_back(SourceEvent { source, error, stopped });
        let before = std::mem::replace(&mut it.state, if stopped { State::Stopped } else { State::Idle });
        self.idle += usize::from(!stopped);
        self.idle -= usize::from(before == State::Idle);
        self.tournament.set(source, None);
        // Reading goes on behind it, and what is there has its place in the order: looked at before the next frame.
        self.since_look = LOOK_EVERY;
    }

    /// The only source, if there is one alone that is not set aside.
    fn alone(&mut self) -> Option<(u32, &mut Subscriber<P>)> {
        let live = |source: &Option<Source<P>>| source.as_ref().is_some_and(|it| it.state != State::Stopped);
        let at = self.sources.iter().position(live)?;
        if self.sources[at + 1..].iter().any(live) {
            return None;
        }
        Some((at as u32, &mut self.sources[at].as_mut()?.subscriber))
    }
}

/// Whether a source cannot go on by itself.
fn stops(error: &ReadError) -> bool {
    matches!(error, ReadError::Failed(_))
}

/// Who has the earliest frame: a tree whose leaves are the sources and whose nodes hold the smaller of their two.
///
/// A place holds `time << 64 | source`, so that one comparison decides and ties go to the smaller number; it is all ones
/// where there is no frame. Replaying one leaf costs a comparison a level and no branch that the data decides.
#[derive(Debug)]
struct Tournament {
    /// Node 1 is the winner, those of node n are 2n and 2n + 1, leaves are the second half.
    nodes: Vec<u128>,
}

const NOBODY: u128 = u128::MAX;

impl Default for Tournament {
    fn default() -> Self {
        Tournament { nodes: vec![NOBODY; 2] }
    }
}

impl Tournament {
    /// Makes room for so many sources.
    fn reserve(&mut self, sources: usize) {
        let leaves = sources.next_power_of_two();
        let before = self.nodes.len() / 2;
        if leaves <= before {
            return;
        }
        let mut nodes = vec![NOBODY; 2 * leaves];
        nodes[leaves..leaves + before].copy_from_slice(&self.nodes[before..]);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].min(nodes[2 * node + 1]);
        }
        self.nodes = nodes;
    }

    #[inline]
    fn set(&mut self, source: u32, time_ns: Option<u64>) {
        let mut at = self.nodes.len() / 2 + source as usize;
        let mut smaller = time_ns.map_or(NOBODY, |time_ns| (u128::from(time_ns) << 64) | u128::from(source));
        self.nodes[at] = smaller;
        while at > 1 {
            smaller = smaller.min(self.nodes[at ^ 1]);
            at /= 2;
            self.nodes[at] = smaller;
        }
    }

    /// Time and source of the earliest frame.
    #[inline]
    fn winner(&self) -> Option<(u64, u32)> {
        let winner = self.nodes[1];
        (winner != NOBODY).then_some(((winner >> 64) as u64, winner as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::Tournament;

    /// Against the smallest of a plain list, over random sets and growth.
    #[test]
    fn the_winner_is_the_smallest_and_of_equals_the_first() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let (mut tournament, mut plain) = (Tournament::default(), Vec::<Option<u64>>::new());
        assert_eq!(tournament.winner(), None);
        for step in 0..20_000 {
            if step % 500 == 0 {
                plain.push(None);
                tournament.reserve(plain.len());
            }
            let source = random(plain.len() as u64) as usize;
            let time = (random(3) > 0).then(|| if random(50) == 0 { u64::MAX } else { random(9) });
            plain[source] = time;
            tournament.set(source as u32, time);
            let expected = plain.iter().zip(0..).filter_map(|(time, at)| time.map(|time| (time, at))).min();
            assert_eq!(tournament.winner(), expected, "step {step}");
        }
    }
}
