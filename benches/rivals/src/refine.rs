//! Group `refine`: raw records through the refinery's state machine into clean ones.
//!
//! On one core, from memory to a sink that frames what it is given as a partition's writer does, checksum included. The
//! share of parsing is that of the whole way from the venue's text to clean frames.

use crate::{
    contest::{Line, Target, line},
    recordings::{self, Raw, Recording},
};
use chronicle_core::{Append, Checksum, frame};
use chronicle_etl::refinery::{Place, RawFrame, Refinery, Sink};
use chronicle_feed::import;
use chronicle_protocol::Record;
use chronicle_storage::root::Name;
use std::{convert::Infallible, hint::black_box, time::Instant};

const ROUNDS: usize = 9;

pub fn run(out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let recordings = recordings::all();
    let mut loaded = Vec::new();
    for recording in &recordings {
        let frames = recording.frames()?;
        let levels = levels(&frames)?;
        loaded.push((recording, recording.text()?, frames, levels));
    }
    let (mut messages, mut level_rates, mut shares, mut texts) = (vec![], vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let (mut parsing, mut refining, mut frames_in, mut levels_in, mut bytes) = (0.0, 0.0, 0, 0, 0);
        for (recording, text, frames, levels) in &loaded {
            parsing += parse(recording, text)?;
            refining += refine(recording, frames)?;
            frames_in += frames.len();
            levels_in += levels;
            bytes += text.len();
        }
        if round > 0 {
            messages.push(frames_in as f64 / refining);
            level_rates.push(levels_in as f64 / refining);
            shares.push(100.0 * parsing / (parsing + refining));
            texts.push(bytes as f64 / parsing / 1e6);
        }
    }
    let show = |case: &str, unit: &'static str, higher: bool, figures: &[f64], target| {
        line("refine", case.to_owned(), unit, higher, figures, None, &[], target)
    };
    out(show("level updates through the refinery, one core", "1/s", true, &level_rates, Target::Median(1e6)));
    out(show("state messages through the refinery, one core", "1/s", true, &messages, Target::None));
    out(show("share of parsing, text to clean frames", "%", false, &shares, Target::None));
    out(show("parsing of the venue's text, one core", "MB/s", true, &texts, Target::None));
    Ok(())
}

fn levels(frames: &[Raw]) -> Result<usize, String> {
    let mut levels = 0;
    for raw in frames {
        if let Record::BookDelta(delta) = Record::parse(raw.type_id, &raw.payload).map_err(|it| it.to_string())? {
            levels += delta.bids.len() + delta.asks.len();
        }
    }
    Ok(levels)
}

/// Seconds.
fn parse(recording: &Recording, text: &[u8]) -> Result<f64, String> {
    let began = Instant::now();
    import(recording.venue, "recording", text, |parsed| {
        black_box(parsed);
        Ok::<(), Infallible>(())
    })
    .map_err(|it| it.to_string())?;
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds.
fn refine(recording: &Recording, frames: &[Raw]) -> Result<f64, String> {
    let venue = Name::new(recording.venue.name()).map_err(|it| it.to_string())?;
    let mut refinery = Refinery::new(venue);
    let mut sink = Framing::default();
    let began = Instant::now();
    for raw in frames {
        let frame = RawFrame { ingest_ns: raw.ingest_ns, type_id: raw.type_id, payload: &raw.payload };
        refinery.frame(frame, &mut sink).map_err(|it| it.to_string())?;
    }
    let took = began.elapsed().as_secs_f64();
    if sink.seq == 0 {
        return Err(format!("{}: the refinery gave no frame", recording.path.display()));
    }
    Ok(took)
}

/// A partition's writer without its file.
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
            black_box(&self.buffer);
            self.buffer.clear();
        }
        if let Some(header) = frame::header(append, self.seq, payload, 1, Checksum::Frame) {
            self.buffer.extend_from_slice(zerocopy::IntoBytes::as_bytes(&header));
            self.buffer.extend_from_slice(payload);
        }
        Ok(())
    }

    fn seal(&mut self, _: Place) -> Result<(), Infallible> {
        Ok(())
    }
}
