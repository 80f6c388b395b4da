//! How fast is the refinery itself? Raw frames of recorded files, encoded beforehand, go through the state machine into a
//! sink that only counts; beside it, a sink that frames them as a partition's writer would, CRC included.
//!
//! ```text
//! cargo run --release -p chronicle-etl --example refine_rate -- VENUE FILE...
//! ```
//!
//! One object a line: `{case, frames, levels, frames_per_s, level_updates_per_s, payload_mb_per_s}`, medians of 7.

use std::convert::Infallible;
use std::time::Instant;

use chronicle_core::{Append, Checksum, frame};
use chronicle_etl::refinery::{Place, RawFrame, Refinery, Sink};
use chronicle_feed::{Venue, import};
use chronicle_protocol::Record;
use chronicle_storage::root::Name;

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
    let levels: usize = frames
        .iter()
        .map(|f| match Record::parse(f.type_id, &f.payload).expect("a record") {
            Record::BookDelta(d) => d.bids.len() + d.asks.len(),
            _ => 0,
        })
        .sum();
    let len: usize = frames.iter().map(|f| f.payload.len()).sum();
    let mut seconds: Vec<f64> = (0..7)
        .map(|_| {
            let mut refinery = Refinery::new(Name::new(venue).expect("a name")).expect("a known venue");
            let mut sink = S::default();
            let start = Instant::now();
            for f in frames {
                let frame = RawFrame { ingest_ns: f.ingest_ns, type_id: f.type_id, payload: &f.payload };
                refinery.frame(frame, &mut sink).expect("a counting sink takes everything");
            }
            start.elapsed().as_secs_f64()
        })
        .collect();
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
    // The book's own messages alone: what a level update costs without the quotes and trades around it.
    frames.retain(|f| {
        matches!(
            Record::parse(f.type_id, &f.payload),
            Ok(Record::BookDelta(_) | Record::BookSnapshot(_) | Record::Source(_))
        )
    });
    play::<Counting>("state_books_alone", venue.name(), &frames);
}
