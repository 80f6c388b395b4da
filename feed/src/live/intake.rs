//! What comes in becomes records in the raw stream: read, merged, followed, written.
//!
//! Everything between a socket and a queue that needs neither. A message is read in place, by the same dialect as a
//! recorded one; its records borrow from it and go straight into claimed space. In the steady state, one connection and no
//! jump, nothing here asks anything of the heap.

use std::{error::Error as _, time::Duration};

use chronicle_platform::Platform;
use chronicle_protocol::{BookDelta, Gap, GapCause, Head, Opaque, OpaqueReason, Record};
use chronicle_storage::ErrorKind;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    backoff::Backoff,
    merge::{Held, How, Merge, Offer, Side},
    raw::{Put, RawEnd, RawError},
    report::{Counts, Event},
    stamp::Stamps,
    wire::{Snapshots, Wire},
};
use crate::{
    Flaw,
    continuity::Verdict,
    venue::{Item, Message, Scratch, Venue},
    witness::{Answer, Subject, Witness},
};

/// So many malformed messages are told one by one.
const MALFORMED_TOLD: u64 = 10;

/// What was dropped of one symbol and not yet told in the stream.
#[derive(Clone, Copy, Debug)]
struct Lost {
    /// Last id of the book in the stream.
    after: u64,
    /// Last id dropped.
    to: u64,
    /// When the first was dropped.
    since_ns: u64,
}

/// A snapshot that is needed, or was.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) wanted: bool,
    /// It waits for the stream to begin, no longer than until `due`.
    pub(super) waits: bool,
    pub(super) due: Instant,
    pub(super) backoff: Backoff,
    /// There was one at some time: the venue knows the symbol.
    pub(super) had: bool,
}

/// See the module.
pub(super) struct Intake<'a, P: Platform, C, T> {
    venue: Venue,
    wire: &'static dyn Wire,
    pub(super) merge: Merge,
    pub(super) raw: &'a mut RawEnd<P>,
    stamps: Stamps<C>,
    scratch: Scratch,
    pub(super) counts: Counts,
    pub(super) tell: T,
    pub(super) asks: Vec<Ask>,
    /// One for each symbol, of venues that say something to check a book by.
    witnesses: Vec<Option<Witness>>,
    /// Those of `asks` that are wanted.
    pub(super) wanting: Vec<usize>,
    lost: Vec<Option<Lost>>,
    /// Symbols whose next delta follows nothing that lies in the stream: it must be said before it.
    anew: Vec<bool>,
    lost_nameless: u64,
    was_behind: bool,
    /// What was told of the raw queue last.
    trouble: String,
    /// The venue said that it will close the connection.
    pub(super) farewell: bool,
}

impl<'a, P: Platform, C: FnMut() -> u64, T: FnMut(Event)> Intake<'a, P, C, T> {
    #[allow(clippy::too_many_arguments, reason = "called once; each is a part of its own")]
    pub(super) fn new(
        venue: Venue,
        wire: &'static dyn Wire,
        symbols: &[String],
        raw: &'a mut RawEnd<P>,
        wall_ns: C,
        retry: [Duration; 2],
        seed: u64,
        tell: T,
    ) -> Self {
        let now = Instant::now();
        let ask = |at: u64| Ask {
            wanted: false,
            waits: false,
            due: now,
            backoff: Backoff::new(retry[0], retry[1], seed.wrapping_add(1 + at)),
            had: false,
        };
        let was_behind = raw.is_behind();
        // What a feed before this one saw is not known here. Did it see a lie last, or has the venue numbered anew since,
        // whoever reads the stream would take all that comes for old.
        let goes_on = raw.hot().next_seq() > 1 || was_behind;
        Self {
            venue,
            wire,
            merge: Merge::new(venue, symbols),
            raw,
            stamps: Stamps::new(wall_ns, now),
            scratch: Scratch::default(),
            counts: Counts { books: symbols.len() as u64, ..Counts::default() },
            tell,
            asks: (0..symbols.len() as u64).map(ask).collect(),
            witnesses: symbols.iter().map(|_| Witness::new(venue)).collect(),
            wanting: Vec::with_capacity(symbols.len()),
            lost: vec![None; symbols.len()],
            anew: vec![goes_on && wire.snapshots() == Snapshots::Fetched; symbols.len()],
            lost_nameless: 0,
            was_behind,
            trouble: String::new(),
            farewell: false,
        }
    }

    /// The numbers as they are now.
    pub(super) fn counts(&mut self) -> Counts {
        self.counts.raw = self.raw.counts();
        self.counts.books_whole =
            self.merge.symbols.iter().filter(|symbol| symbol.follower.book().is_valid()).count() as u64;
        self.counts
    }

    /// Looks after the raw queue, and tells what is wrong with it, once. Where frames of it were taken away, its readers need
    /// new snapshots.
    pub(super) fn look_after_queue(&mut self, now: Instant) -> Result<(), RawError> {
        let mut is_lost = false;
        let why = self.raw.look().map_or_else(String::new, |error| {
            is_lost = error.kind() == ErrorKind::Damage;
            match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            }
        });
        if why == self.trouble {
            return Ok(());
        }
        self.trouble.clone_from(&why);
        if !why.is_empty() {
            (self.tell)(Event::RawTrouble { why });
        }
        if is_lost {
            let head = Head { ingest_ns: self.stamp(now), ..Head::default() };
            for symbol in 0..self.asks.len() {
                self.lose_book(symbol, head)?;
                self.ask(symbol, now);
            }
        }
        Ok(())
    }

    fn stamp(&mut self, now: Instant) -> u64 {
        let (received_ns, step) = self.stamps.stamp(now);
        if let Some(step) = step {
            self.counts.clock_steps += 1;
            (self.tell)(Event::ClockStep { by_ms: step.by_ns / 1_000_000 });
        }
        received_ns
    }

    /// The source that the records of this feed have.
    pub(super) fn source(&mut self, name: &str) -> Result<(), RawError> {
        let ingest_ns = self.stamp(Instant::now());
        let source = chronicle_protocol::Source { head: Head { ingest_ns, ..Head::default() }, sha256: None, name };
        self.raw.put(&Record::Source(source)).map(drop)
    }

    /// A text came.
    pub(super) fn text(&mut self, text: &Utf8Bytes, from: Side, now: Instant) -> Result<(), RawError> {
        self.counts.messages += 1;
        self.counts.bytes += text.len() as u64;
        let received_ns = self.stamp(now);
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = match self.venue.read(text, received_ns, &mut scratch) {
            Ok(message) => self.message(&message, text, received_ns, from, now),
            Err(flaw) => self.malformed(text.as_bytes(), received_ns, &flaw),
        };
        self.scratch = scratch;
        outcome?;
        self.release(now)
    }

    /// Bytes came that are not even text.
    pub(super) fn binary(&mut self, bytes: &[u8], now: Instant) -> Result<(), RawError> {
        self.counts.messages += 1;
        self.counts.bytes += bytes.len() as u64;
        let received_ns = self.stamp(now);
        match core::str::from_utf8(bytes) {
            Ok(_) => self.malformed(bytes, received_ns, &"a binary message"),
            Err(error) => self.malformed(bytes, received_ns, &Flaw::NotUtf8 { at: error.valid_up_to() }),
        }
    }

    #[cold]
    fn malformed(&mut self, bytes: &[u8], ingest_ns: u64, why: &dyn std::fmt::Display) -> Result<(), RawError> {
        self.counts.malformed += 1;
        if self.counts.malformed <= MALFORMED_TOLD {
            (self.tell)(Event::Malformed { why: why.to_string() });
        }
        self.evidence(bytes, ingest_ns, OpaqueReason::Malformed, None)
    }

    /// Keeps a message verbatim.
    fn evidence(
        &mut self,
        bytes: &[u8],
        ingest_ns: u64,
        reason: OpaqueReason,
        symbol: Option<usize>,
    ) -> Result<(), RawError> {
        let name = symbol.map(|at| self.merge.symbols[at].name.clone()).unwrap_or_default();
        let head = Head { ingest_ns, ..Head::default() };
        self.put(symbol, &Record::Opaque(Opaque { head, reason, symbol: &name, bytes })).map(drop)
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        text: &Utf8Bytes,
        received_ns: u64,
        from: Side,
        now: Instant,
    ) -> Result<(), RawError> {
        if self.wire.farewell().is_some_and(|word| word == message.kind()) {
            self.farewell = true;
        }
        let mut unasked = false;
        for (index, item) in message.items().enumerate() {
            let record = item.record;
            if record.symbol().is_empty() {
                if from == Side::Leading {
                    self.counts.opaque += 1;
                    self.put(None, &record)?;
                }
                continue;
            }
            let Some(symbol) = self.merge.find(record.symbol()) else {
                self.counts.unasked += 1;
                unasked = true;
                continue;
            };
            match self.merge.offer(symbol, &record, from) {
                Offer::Keep(verdict) => self.kept(symbol, &item, verdict, now)?,
                Offer::Duplicate => self.counts.duplicates += 1,
                Offer::Hold(place) => {
                    self.merge.hold(symbol, place, Held { text: text.clone(), received_ns, index }, now);
                    // Something of this symbol has come: the stream has begun, a snapshot can be asked for.
                    self.ask_if_needed(symbol, now);
                }
            }
        }
        if unasked {
            self.evidence(text.as_bytes(), received_ns, OpaqueReason::UnknownKind, None)?;
        }
        Ok(())
    }

    /// What no longer waits goes on.
    pub(super) fn release(&mut self, now: Instant) -> Result<(), RawError> {
        while let Some(released) = self.merge.released() {
            let Held { text, received_ns, index } = released.held;
            let mut scratch = std::mem::take(&mut self.scratch);
            let message = self.venue.read(&text, received_ns, &mut scratch);
            let item = message.ok().and_then(|message| message.items().nth(index));
            let Some(item) = item else { panic!("bug: a message that was read before is refused now") };
            let outcome = if released.how == How::Lie {
                self.lie(released.symbol, &item, text.as_bytes(), received_ns)
            } else {
                match self.merge.reoffer(released.symbol, &item.record, released.how) {
                    Offer::Keep(verdict) => {
                        self.counts.reordered += u64::from(released.how == How::Again && verdict != Verdict::Old);
                        self.kept(released.symbol, &item, verdict, now)
                    }
                    Offer::Duplicate => {
                        self.counts.duplicates += 1;
                        Ok(())
                    }
                    Offer::Hold(place) => {
                        let held = Held { text: text.clone(), received_ns, index };
                        self.merge.hold(released.symbol, place, held, now);
                        Ok(())
                    }
                }
            };
            self.scratch = scratch;
            outcome?;
        }
        Ok(())
    }

    #[cold]
    fn lie(&mut self, symbol: usize, item: &Item<'_>, text: &[u8], received_ns: u64) -> Result<(), RawError> {
        self.counts.lies += 1;
        let id = match item.record {
            Record::BookDelta(delta) => delta.last_id,
            _ => 0,
        };
        let name = self.name(symbol);
        (self.tell)(Event::Lie { symbol: name, id });
        self.evidence(text, received_ns, OpaqueReason::Malformed, Some(symbol))
    }

    fn name(&self, symbol: usize) -> String {
        self.merge.symbols[symbol].name.to_string()
    }

    /// A record of the stream.
    fn kept(&mut self, symbol: usize, item: &Item<'_>, verdict: Verdict, now: Instant) -> Result<(), RawError> {
        let last_id = match &item.record {
            Record::BookDelta(delta) => {
                self.counts.deltas += 1;
                Some(delta.last_id)
            }
            Record::BookSnapshot(snapshot) => {
                self.counts.snapshots += 1;
                Some(snapshot.last_id)
            }
            Record::Trade(_) => {
                self.counts.trades += 1;
                None
            }
            Record::Quote(_) => {
                self.counts.quotes += 1;
                None
            }
            _ => {
                self.counts.opaque += 1;
                None
            }
        };
        if let Verdict::Back { seen } = verdict {
            self.went_back(symbol, seen);
        }
        if let Record::BookDelta(delta) = &item.record
            && self.anew[symbol]
            && !self.tell_anew(symbol, delta)?
        {
            self.dropped(Some(symbol), &item.record);
            return Ok(());
        }
        if !self.put(Some(symbol), &item.record)? {
            return Ok(());
        }
        if let Some(witness) = &mut self.witnesses[symbol] {
            match witness.see(item) {
                Answer::Matched(Subject::Checksum) => {
                    self.counts.checksums += 1;
                    self.asks[symbol].backoff.worked();
                }
                Answer::WrongChecksum { .. } | Answer::Broken => {
                    return self.wrong_book(symbol, item.record.head(), now);
                }
                _ => {}
            }
        }
        match verdict {
            Verdict::Next | Verdict::Pending => {}
            Verdict::Old => self.counts.repeated += u64::from(!matches!(item.record, Record::BookSnapshot(_))),
            Verdict::Waits => self.ask_if_needed(symbol, now),
            Verdict::Joined => {
                if self.witnesses[symbol].is_none() {
                    self.asks[symbol].backoff.worked();
                }
                let symbol = self.name(symbol);
                (self.tell)(Event::Whole { symbol, last_id: last_id.unwrap_or(0) });
            }
            Verdict::Useless => {
                let ask = &mut self.asks[symbol];
                let due = now + ask.backoff.failed();
                self.ask(symbol, due);
            }
            Verdict::Gap { missing_from, missing_to } => {
                self.counts.gaps += 1;
                let name = self.name(symbol);
                (self.tell)(Event::Gap { symbol: name, missing_from, missing_to });
                self.ask_if_needed(symbol, now);
            }
            Verdict::Back { .. } => self.ask_if_needed(symbol, now),
        }
        Ok(())
    }

    #[cold]
    fn went_back(&mut self, symbol: usize, seen: u64) {
        self.counts.went_back += 1;
        self.anew[symbol] = true;
        let name = self.name(symbol);
        (self.tell)(Event::WentBack { symbol: name, seen });
    }

    /// Says in the stream that the ids of a symbol's book begin anew with this delta. Who has seen lower ones only goes on.
    /// Gives whether there was room.
    #[cold]
    fn tell_anew(&mut self, symbol: usize, next: &BookDelta<'_>) -> Result<bool, RawError> {
        let name = self.merge.symbols[symbol].name.clone();
        let gap = Gap {
            head: Head { exchange_ns: next.head.exchange_ns, ingest_ns: next.head.ingest_ns, ..Head::default() },
            after_id: next.first_id.saturating_sub(1),
            next_id: next.first_id,
            // None that is known.
            missing_from: next.first_id,
            missing_to: next.first_id.saturating_sub(1),
            cause: GapCause::Sequence,
            carried: false,
            symbol: &name,
        };
        if !self.put(Some(symbol), &Record::Gap(gap))? {
            return Ok(false);
        }
        self.counts.gap_markers += 1;
        self.anew[symbol] = false;
        Ok(true)
    }

    /// The venue's checksum is not the book's: only a new snapshot helps.
    #[cold]
    fn wrong_book(&mut self, symbol: usize, shown_by: &Head, now: Instant) -> Result<(), RawError> {
        self.counts.checksum_mismatches += 1;
        // No ids will show it to whoever makes books of the stream: as behind such a record in an import.
        let Head { exchange_ns, ingest_ns, transact_ns, .. } = *shown_by;
        self.lose_book(symbol, Head { exchange_ns, ingest_ns, transact_ns, ..Head::default() })?;
        let name = self.name(symbol);
        (self.tell)(Event::ChecksumMismatch { symbol: name });
        // Not at once: a venue whose checksums are never right must not be asked without a pause.
        let due = now + self.asks[symbol].backoff.failed();
        self.ask(symbol, due);
        Ok(())
    }

    /// Says in the stream that a symbol's book is none until the next snapshot.
    #[cold]
    fn lose_book(&mut self, symbol: usize, head: Head) -> Result<(), RawError> {
        let name = self.name(symbol);
        let marker = Record::Gap(Gap {
            head,
            after_id: 0,
            next_id: 0,
            missing_from: 0,
            missing_to: 0,
            cause: GapCause::BookLost,
            carried: false,
            symbol: &name,
        });
        // Is there no room, what was lost is told before the next record, and that says no less.
        self.counts.gap_markers += u64::from(self.put(Some(symbol), &marker)?);
        self.merge.symbols[symbol].follower.book_lost();
        Ok(())
    }

    fn ask_if_needed(&mut self, symbol: usize, now: Instant) {
        let book = self.merge.symbols[symbol].follower.book();
        let ask = &self.asks[symbol];
        if book.needs_snapshot() && self.wire.snapshots() == Snapshots::Fetched && (!ask.wanted || ask.waits) {
            self.ask(symbol, now);
        }
    }

    /// Wants a snapshot, not before `due`.
    pub(super) fn ask(&mut self, symbol: usize, due: Instant) {
        let ask = &mut self.asks[symbol];
        (ask.due, ask.waits) = (due, false);
        if !ask.wanted {
            ask.wanted = true;
            self.wanting.push(symbol);
        }
    }

    /// A snapshot was fetched. Gives what is wrong with it.
    pub(super) fn snapshot(
        &mut self,
        symbol: usize,
        body: &[u8],
        now: Instant,
    ) -> Result<Result<(), String>, RawError> {
        let received_ns = self.stamp(now);
        let text = match core::str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return Ok(Err(Flaw::NotUtf8 { at: error.valid_up_to() }.to_string())),
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let outcome = match self.venue.read(text, received_ns, &mut scratch) {
            Err(flaw) => Ok(Err(flaw.to_string())),
            Ok(message) => self.fetched(symbol, &message, now),
        };
        self.scratch = scratch;
        outcome
    }

    fn fetched(&mut self, symbol: usize, message: &Message<'_>, now: Instant) -> Result<Result<(), String>, RawError> {
        let mut items = message.items();
        let (Some(item), None) = (items.next(), items.next()) else {
            return Ok(Err("more than a snapshot".to_owned()));
        };
        let name = self.merge.symbols[symbol].name.clone();
        let Record::BookSnapshot(snapshot) = &item.record else {
            return Ok(Err(format!("a {} instead of a snapshot", message.kind())));
        };
        if !snapshot.symbol.is_empty() && snapshot.symbol != &*name {
            return Ok(Err(format!("a snapshot of `{}`", snapshot.symbol.escape_debug())));
        }
        // Jumps that it reaches are real, and stand before it.
        self.merge.confirm(symbol, snapshot.last_id);
        let record = item.record.with_symbol(&name);
        // `release` needs the scratch that this snapshot lies in: it gets one of its own, this once.
        self.release(now)?;
        self.asks[symbol].had = true;
        let verdict = self.merge.symbols[symbol].follower.see(&record);
        self.kept(symbol, &Item { record, ..item }, verdict, now)?;
        Ok(Ok(()))
    }

    /// Puts a record into the raw stream, after what must be said before it. Gives whether there was room.
    fn put(&mut self, symbol: Option<usize>, record: &Record<'_>) -> Result<bool, RawError> {
        let told = match symbol {
            Some(at) if self.lost[at].is_some() => self.tell_lost(at, record)?,
            None if self.lost_nameless > 0 => self.tell_lost_nameless(record.head().ingest_ns)?,
            _ => true,
        };
        let put = if told { self.raw.put(record)? } else { Put::Dropped };
        if put == Put::Dropped {
            self.dropped(symbol, record);
        }
        let behind = self.raw.is_behind();
        if behind != self.was_behind {
            self.was_behind = behind;
            (self.tell)(if behind { Event::Overflowing } else { Event::Drained });
        }
        Ok(put != Put::Dropped)
    }

    /// Moves on what lies in the overflow.
    pub(super) fn drain(&mut self) -> Result<(), RawError> {
        let behind = self.raw.drain(DRAINED_AT_ONCE)?;
        if self.was_behind && !behind {
            self.was_behind = false;
            (self.tell)(Event::Drained);
        }
        Ok(())
    }

    #[cold]
    fn dropped(&mut self, symbol: Option<usize>, record: &Record<'_>) {
        let Some(at) = symbol else {
            self.lost_nameless += 1;
            return;
        };
        let follower = &mut self.merge.symbols[at].follower;
        let id = match record {
            Record::BookDelta(delta) => Some((delta.first_id, delta.last_id)),
            _ => None,
        };
        let is_of_book = matches!(record, Record::BookDelta(_) | Record::BookSnapshot(_));
        match &mut self.lost[at] {
            Some(lost) => lost.to = id.map_or(lost.to, |(_, to)| to),
            none => {
                let seen = follower.book().last_id().unwrap_or(0);
                let (after, to) = id.map_or((seen, seen), |(from, to)| (from.saturating_sub(1), to));
                *none = Some(Lost { after, to, since_ns: record.head().ingest_ns });
                let symbol = self.merge.symbols[at].name.to_string();
                (self.tell)(Event::Dropping { symbol });
            }
        }
        if is_of_book {
            // Known here at once: the snapshot is on its way when there is room again.
            self.merge.symbols[at].follower.book_lost();
            let due = Instant::now() + self.asks[at].backoff.failed();
            if self.wire.snapshots() == Snapshots::Fetched {
                self.ask(at, due);
            }
        }
    }

    /// Says in the stream what of a symbol is missing. Gives whether there was room.
    #[cold]
    fn tell_lost(&mut self, at: usize, next: &Record<'_>) -> Result<bool, RawError> {
        let Some(lost) = self.lost[at] else { return Ok(true) };
        let next_id = match next {
            Record::BookDelta(delta) => delta.first_id,
            Record::BookSnapshot(snapshot) => snapshot.last_id,
            _ => lost.to.saturating_add(1),
        };
        let name = self.merge.symbols[at].name.clone();
        let gap = Gap {
            head: Head { ingest_ns: lost.since_ns, ..Head::default() },
            after_id: lost.after,
            next_id,
            missing_from: lost.after.saturating_add(1),
            missing_to: lost.to,
            cause: GapCause::RawLost,
            carried: false,
            symbol: &name,
        };
        if self.raw.put(&Record::Gap(gap))? == Put::Dropped {
            return Ok(false);
        }
        self.counts.gap_markers += 1;
        self.lost[at] = None;
        Ok(true)
    }

    /// The same for records that are of no symbol: there is no book to break, so a note is enough.
    #[cold]
    fn tell_lost_nameless(&mut self, ingest_ns: u64) -> Result<bool, RawError> {
        let note = format!(r#"{{"chronicle":"dropped","records":{}}}"#, self.lost_nameless);
        let head = Head { ingest_ns, ..Head::default() };
        let note = Opaque { head, reason: OpaqueReason::NoSymbol, symbol: "", bytes: note.as_bytes() };
        if self.raw.put(&Record::Opaque(note))? == Put::Dropped {
            return Ok(false);
        }
        self.counts.gap_markers += 1;
        self.lost_nameless = 0;
        Ok(true)
    }
}

/// Records moved from the overflow between two looks at the sockets.
const DRAINED_AT_ONCE: usize = 1024;
