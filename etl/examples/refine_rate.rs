//! How fast is the refinery, and where does its time go? Raw frames of recorded files, encoded beforehand, go through the
//! state machine into a sink that only counts; beside it, a sink that frames them as a partition's writer would, CRC
//! included. Then the same frames from a root's files: what reading them alone takes, what writing them alone takes, and
//! the whole, from a raw file to durable partitions, with one shard and with two.
//!
//! ```text
//! cargo run --release -p chronicle-etl --example refine_rate -- VENUE FILE...
//! ```
//!
//! One object a line: `{case, frames, levels, frames_per_s, level_updates_per_s, payload_mb_per_s}`, medians of 7. Files lie
//! in memory where the machine has a directory for that: a disk's syncs are the disk's.

use std::convert::Infallible;
use std::time::Instant;

use chronicle_core::{Append, Checksum, frame};
use chronicle_etl::refine::{Options, refine};
use chronicle_etl::refinery::{Place, RawFrame, Refinery, Sink};
use chronicle_feed::{Venue, import};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_protocol::Record;
use chronicle_storage::partition::PartitionWriter;
use chronicle_storage::queue::{Profile, PublisherOptions, Queue};
use chronicle_storage::raw::{RawEvent, RawReader};
use chronicle_storage::recorder::{self, RECORDER};
use chronicle_storage::root::{Name, PartitionId, Root, Stream, Tier};

struct Raw {
    ingest_ns: u64,
    type_id: u16,
    payload: Vec<u8>,
}

#[derive(Default)]
struct Counting {
    frames: u64,
}

impl Sink for Counting {
    type Error = Infallible;
    fn append(&mut self, _: Place, _: Append, _: &[u8]) -> Result<(), Infallible> {
        self.frames += 1;
        Ok(())
    }
    fn seal(&mut self, _: Place) -> Result<(), Infallible> {
        Ok(())
    }
}

#[derive(Default)]
struct Framing {
    buffer: Vec<u8>,
    seq: u64,
}

impl Sink for Framing {
    type Error = Infallible;
    fn append(&mut self, _: Place, append: Append, payload: &[u8]) -> Result<(), Infallible> {
        self.seq += 1;
        if self.buffer.len() > 256 << 10 {
            self.buffer.clear();
        }
        let header = frame::header(append, self.seq, payload, 1, Checksum::Frame).expect("it fits");
        self.buffer.extend_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        self.buffer.extend_from_slice(payload);
        Ok(())
    }
    fn seal(&mut self, _: Place) -> Result<(), Infallible> {
        Ok(())
    }
}

fn play<S: Sink<Error = Infallible> + Default>(case: &str, venue: &str, frames: &[Raw]) {
    measure(case, frames, || {
        let mut refinery = Refinery::new(Name::new(venue).expect("a name"));
        let mut sink = S::default();
        let start = Instant::now();
        for f in frames {
            let frame = RawFrame { ingest_ns: f.ingest_ns, type_id: f.type_id, payload: &f.payload };
            refinery.frame(frame, &mut sink).expect("a counting sink takes everything");
        }
        start.elapsed().as_secs_f64()
    });
}

/// Prints the median of what a case takes, in seconds.
fn measure(case: &str, frames: &[Raw], take: impl FnMut() -> f64) {
    let levels: usize = frames
        .iter()
        .map(|f| match Record::parse(f.type_id, &f.payload).expect("a record") {
            Record::BookDelta(d) => d.bids.len() + d.asks.len(),
            _ => 0,
        })
        .sum();
    let len: usize = frames.iter().map(|f| f.payload.len()).sum();
    let mut seconds: Vec<f64> = std::iter::repeat_with(take).take(7).collect();
    seconds.sort_by(f64::total_cmp);
    let per_s = |n: usize| n as f64 / seconds[3];
    println!(
        "{{\"case\":\"{case}\",\"frames\":{},\"levels\":{levels},\"frames_per_s\":{:.0},\"level_updates_per_s\":{:.0},\
         \"payload_mb_per_s\":{:.0}}}",
        frames.len(),
        per_s(frames.len()),
        per_s(levels),
        per_s(len) / 1e6
    );
}

/// The frames as a recorded raw stream.
fn record(root: &Root, venue: &Name, frames: &[Raw]) {
    let path = root.raw_queue(venue);
    Linux.create_dirs(&path).expect("a directory");
    let options = PublisherOptions { required: vec![RECORDER.to_owned()], ..PublisherOptions::new(Profile::Raw) };
    let mut publisher = Queue::publisher(&Linux, &path, options).expect("a queue");
    for f in frames {
        let append = Append { time_ns: f.ingest_ns, type_id: f.type_id, flags: 0 };
        while publisher.append(append, &f.payload).is_err() {
            recorder::run(&Linux, root, venue).expect("the recorder runs");
            publisher.maintain();
        }
    }
    while publisher.roll().is_err() {
        recorder::run(&Linux, root, venue).expect("the recorder runs");
        publisher.maintain();
    }
    publisher.close().expect("the queue closes");
    recorder::run(&Linux, root, venue).expect("the recorder runs");
}

/// From files to files.
fn whole(venue: &str, frames: &[Raw]) {
    let dir = tempfile::tempdir_in(Linux.memory_dir().unwrap_or_else(std::env::temp_dir)).expect("a directory");
    let (root, venue) = (Root::new(dir.path()), Name::new(venue).expect("a name"));
    record(&root, &venue, frames);
    let read = |each: &mut dyn FnMut(u16, &[u8])| {
        let start = Instant::now();
        let mut raw = RawReader::open(&Linux, &root, &venue, None).expect("the raw stream opens");
        while let Some(event) = raw.next().expect("the raw stream reads") {
            if let RawEvent::Frame(raw) = event {
                each(raw.frame.type_id, raw.frame.payload.as_slice(None).expect("private memory"));
            }
        }
        start.elapsed().as_secs_f64()
    };
    measure("read", frames, || read(&mut |_, payload| _ = std::hint::black_box(payload)));
    measure("read_and_parse", frames, || {
        read(&mut |type_id, payload| _ = std::hint::black_box(Record::parse(type_id, payload)))
    });
    let clean = || {
        for dir in [root.partitions(Tier::Warm), root.state.clone()] {
            let _ = std::fs::remove_dir_all(dir);
        }
    };
    measure("write", frames, || {
        clean();
        let date = "2024-08-08".parse().expect("a date");
        let id = PartitionId::new(venue.clone(), Name::new("all").expect("a name"), date, Stream::Book);
        let start = Instant::now();
        let mut writer = PartitionWriter::create(&Linux, &root.partition(Tier::Warm, &id), &id).expect("a partition");
        for f in frames {
            let append = Append { time_ns: f.ingest_ns, type_id: f.type_id, flags: 0 };
            writer.append(append, &f.payload).expect("it is written");
        }
        writer.flush().expect("it is durable");
        start.elapsed().as_secs_f64()
    });
    for shards in [1, 2] {
        measure(&format!("refine_{shards}"), frames, || {
            clean();
            let options = Options { shards, ..Options::default() };
            let start = Instant::now();
            refine(&Linux, &root, None, &options, |_| {}).expect("it is refined");
            start.elapsed().as_secs_f64()
        });
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let venue: Venue = args.next().expect("a venue").parse().expect("a known venue");
    let mut frames = Vec::new();
    for path in args {
        let file = std::fs::File::open(&path).expect("the file opens");
        import(venue, path.clone(), file, |p| {
            frames.push(Raw { ingest_ns: p.ingest_ns, type_id: p.type_id, payload: p.payload.to_vec() });
            Ok::<(), Infallible>(())
        })
        .expect("the file reads");
    }
    play::<Counting>("state", venue.name(), &frames);
    play::<Framing>("state_and_framing", venue.name(), &frames);
    whole(venue.name(), &frames);
    // The book's own messages alone: what a level update costs without the quotes and trades around it.
    frames.retain(|f| {
        matches!(
            Record::parse(f.type_id, &f.payload),
            Ok(Record::BookDelta(_) | Record::BookSnapshot(_) | Record::Source(_))
        )
    });
    play::<Counting>("state_books_alone", venue.name(), &frames);
}
