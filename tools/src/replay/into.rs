//! The raw queues of another root, written as a feed writes them: announced on its bus, each venue's own.

use super::Args;
use crate::{
    ingest::{RawStream, open_raw},
    run::{Failure, Outcome, name_of},
};
use chronicle::{
    Append, System,
    bus::{Entry, Layout, Registration, RegistrationOptions},
    etl::replay::Event,
    protocol::{Head, Source, type_id},
    storage::{
        queue::{Profile, PublisherOptions},
        root::{Name, Root},
    },
};
use std::{collections::BTreeMap, path::Path};

const SEGMENT_LEN: u32 = 64 << 20;
const SEGMENTS: u64 = 8;

/// The queues, opened when their first record comes.
pub(super) struct Queues<'a> {
    root: &'a Root,
    /// What the records' source is called.
    name: String,
    required: Vec<String>,
    open: BTreeMap<Name, Queue<'a>>,
}

struct Queue<'a> {
    stream: RawStream<'a>,
    registration: Registration<System>,
}

impl<'a> Queues<'a> {
    pub(super) fn new(root: &'a Root, into: &Path, args: &Args) -> Result<Self, Failure> {
        let same = |dir: &Path| dir.canonicalize().ok();
        if same(into).is_some() && same(into) == same(&args.root.root) {
            return Err(Failure::Usage("--into is the root that is replayed".to_owned()));
        }
        let name = format!("replay of {}", name_of(&args.root.root));
        Ok(Self { root, name, required: args.required.clone(), open: BTreeMap::new() })
    }

    pub(super) fn put(&mut self, event: &Event<'_>) -> Outcome {
        let append = Append { time_ns: event.received_ns, type_id: event.type_id, flags: 0 };
        if let Some(queue) = self.open.get_mut(&event.lane.venue) {
            return queue.stream.append(append, event.payload).map(drop);
        }
        let mut queue = self.begin(&event.lane.venue)?;
        let head = Head { ingest_ns: event.received_ns, ..Head::default() };
        let source = Source { head, sha256: None, name: &self.name };
        let mut payload = vec![0; source.encoded_len()];
        source.encode(&mut payload)?;
        queue.stream.append(Append { type_id: type_id::SOURCE, ..append }, &payload)?;
        queue.stream.append(append, event.payload)?;
        self.open.insert(event.lane.venue.clone(), queue);
        Ok(())
    }

    fn begin(&self, venue: &Name) -> Result<Queue<'a>, Failure> {
        let layout = Layout::of(self.root);
        let entry = Entry::raw(venue.as_str())?;
        let mut registration = Registration::begin(&System, &layout, entry, RegistrationOptions::default())?;
        let options = PublisherOptions {
            segment_len: SEGMENT_LEN,
            max_bytes: u64::from(SEGMENT_LEN) * SEGMENTS,
            required: self.required.clone(),
            ..PublisherOptions::new(Profile::Raw)
        };
        let publisher = open_raw(&System, self.root, venue, options)?;
        registration.ready()?;
        registration.start_renewing()?;
        Ok(Queue { stream: RawStream::of(&System, self.root, venue.clone(), publisher), registration })
    }

    /// Ends the queues' segments, so that everything is on its way to the archive.
    pub(super) fn finish(self) -> Outcome {
        for queue in self.open.into_values() {
            queue.stream.finish()?;
            queue.registration.leave()?;
        }
        Ok(())
    }
}
