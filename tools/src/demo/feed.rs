//! The demo's feed: plays the recording into the raw queue, at full speed or paced.

use super::{
    Place,
    recorded::Played,
    worker::{Ears, Mouth, write_times},
};
use crate::{
    ingest::{Input, RawStream},
    run::{Failure, Outcome},
};
use chronicle::{
    System,
    feed::{Pace, Recording, Report},
    platform::Platform,
    storage::{
        queue::{Profile, PublisherOptions},
        root::Name,
    },
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    played: Played,
    /// Seconds that the playback takes; 0 = as fast as it goes.
    #[arg(long)]
    over: u64,
    /// Readers that must be there before the first record.
    #[arg(long)]
    await_reader: Vec<String>,
    /// Leave out the 1000th record.
    #[arg(long)]
    drop_record: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
    /// Records in the recording.
    pub(crate) events: u64,
    /// Frames appended: the records, and one that names the recording.
    pub(crate) appended: u64,
    /// Bytes of the records.
    pub(crate) bytes: u64,
    /// While it was not waiting for a record's time: parsing and appending.
    pub(crate) events_per_s: f64,
    /// The same in MB of records.
    pub(crate) mb_per_s: f64,
    /// What is wrong with the recording.
    pub(crate) notes: Vec<String>,
}

/// Segments of the demo's raw queue: small, so that it rolls and fits a small /dev/shm.
const SEGMENT_LEN: u32 = 8 << 20;

pub(crate) fn run(args: Args) -> Outcome {
    let ears = Ears::open();
    let mouth = Mouth::open();
    let Place { venue, .. } = args.place;
    let system = System;
    let root = args.place.root();
    let mut input = Input::open(&args.played.input)?;
    input.name.clone_from(&args.played.name);
    let mut span = (u64::MAX, 0);
    if args.over > 0 {
        let mut recording = Recording::open(venue, input.name.clone(), input.reader()?);
        while let Some(parsed) = recording.advance()? {
            span = (span.0.min(parsed.ingest_ns), span.1.max(parsed.ingest_ns));
        }
    }
    let pace = Pace::over(span.0, span.1, Duration::from_secs(args.over));
    let options = PublisherOptions {
        segment_len: SEGMENT_LEN,
        max_bytes: u64::from(SEGMENT_LEN) * 8,
        ..PublisherOptions::new(Profile::Raw)
    };
    let mut stream = RawStream::open(&system, &root, Name::new(venue.name())?, options)?;
    await_readers(&root.raw_queue(&Name::new(venue.name())?), &args.await_reader)?;

    let name = input.name.clone();
    let first = Recording::open(venue, name.clone(), input.reader()?).advance()?.map(|parsed| parsed.ingest_ns);
    if let Some(first_ns) = first {
        let sha256 = input.sha256()?;
        stream.source(&name, sha256, first_ns)?;
    }
    let mut recording = Recording::open(venue, name, input.reader()?);
    let mut times = Vec::new();
    let mut bytes = 0;
    let mut waited = Duration::ZERO;
    let mut events = 0_u64;
    let began = Instant::now();
    while let Some(parsed) = recording.advance()? {
        events += 1;
        if args.drop_record && events == 1000 {
            continue;
        }
        let due = pace.due(parsed.ingest_ns);
        let now = began.elapsed();
        if due > now {
            std::thread::sleep(due - now);
            waited += began.elapsed() - now;
        }
        bytes += parsed.payload.len() as u64;
        let from = system.monotonic_ns();
        let seq = stream.record(parsed)?;
        times.push((seq, from));
        mouth.progress(events);
        if ears.finish_was_told() {
            break;
        }
    }
    let notes = flaws(&recording.into_report());
    let busy = (began.elapsed() - waited).as_secs_f64().max(1e-9);
    let appended = stream.appended();
    stream.finish()?;
    write_times(&args.place.scratch.join("feed.times"), &times)?;
    mouth.tell(Told {
        events,
        appended,
        bytes,
        events_per_s: events as f64 / busy,
        mb_per_s: bytes as f64 / 1e6 / busy,
        notes,
    });
    Ok(())
}

fn flaws(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.malformed > 0 {
        let lines: Vec<String> = report.malformed_lines.iter().take(5).map(|bad| bad.line.to_string()).collect();
        let more = if report.malformed > 5 { ", …" } else { "" };
        notes.push(format!("{} malformed lines were left out: {}{more}", report.malformed, lines.join(", ")));
    }
    if let Some(cut) = &report.truncated_at {
        notes.push(format!("the recording is truncated: {} whole lines were played; {}", report.lines, cut.why));
    }
    if let Some(cut) = &report.corrupt_at {
        notes.push(format!("the recording is damaged: {} whole lines were played; {}", report.lines, cut.why));
    }
    notes
}

fn await_readers(queue: &std::path::Path, readers: &[String]) -> Outcome {
    let began = Instant::now();
    for reader in readers {
        let cursor = queue.join("readers").join(format!("{reader}.meta"));
        while !cursor.exists() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err(Failure::Problem(format!("reader {reader} has not come in 20 s")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}
