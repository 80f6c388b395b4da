//! Group `recover`: a queue is opened again after its writer was killed.
//!
//! Opening looks at the last segment behind its last index entry, whatever stands before: the same for a large queue as
//! for a small one. What it takes includes the segments that must be ready before the first append.

use crate::{
    contest::{Contest, Line, Measure, Target},
    queue::{self, Other, SEGMENT},
};
use chronicle_core::Append;
use chronicle_storage::queue::{Profile, PublisherOptions};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const PAYLOAD: [u8; 64] = [7; 64];

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let measure = |name: &str, mib: u64| -> Measure<'static> {
        let dir: PathBuf = dir.join(name);
        let mut writer: Option<Other> = None;
        Box::new(move || {
            // The killed one left all but its last moments; each round kills another that wrote a little more.
            let full = writer.is_some();
            let mib = if full { 1 } else { mib }.to_string();
            let mut other = Other::start(&[], &["recover-write", &mib], &dir)?;
            let written: u64 = other.hear()?.parse().map_err(|it| format!("{it}"))?;
            other.kill()?;
            writer = Some(other);
            let began = Instant::now();
            let publisher = queue::publisher(&dir, options())?;
            let took = began.elapsed().as_secs_f64() * 1e3;
            if publisher.next_seq() <= written {
                return Err(format!("seq {written} was acknowledged, and the next one is {}", publisher.next_seq()));
            }
            Ok(took)
        })
    };
    let case = |case: &str, ours, floor, target| Contest {
        group: "recover",
        case: case.to_owned(),
        unit: "ms",
        higher_is_better: false,
        ours,
        floor,
        rivals: Vec::new(),
        target,
    };
    let millis = Target::Median(50.0);
    out(case("open a 1 GiB queue after its writer was killed", measure("large", 1000), None, millis).run(9)?);
    let _ = std::fs::remove_dir_all(dir.join("large"));
    let small = Some(("the same with 192 MiB", measure("small", 130)));
    out(case("and independent of its size", measure("again", 1000), small, Target::Ratio(1.25)).run(9)?);
    Ok(())
}

fn options() -> PublisherOptions {
    // Room for a GiB of frames and the segments ahead.
    PublisherOptions { max_bytes: 1200 << 20, segment_len: SEGMENT, ..PublisherOptions::new(Profile::Raw) }
}

/// Writes so many MiB, says the last seq, and goes on until it is killed.
pub fn write(mib: &str, dir: &Path) -> Result<(), String> {
    let len: u64 = mib.parse::<u64>().map_err(|it| it.to_string())? << 20;
    let mut publisher = queue::publisher(dir, options())?;
    let mut written = 0;
    let mut last = 0;
    while written < len {
        let append = Append { time_ns: last, type_id: 1, flags: 0 };
        last = publisher.append_wait(append, &PAYLOAD, Duration::from_secs(10)).map_err(|it| it.to_string())?;
        written += 96;
    }
    queue::say(&last.to_string());
    loop {
        let append = Append { time_ns: last, type_id: 1, flags: 0 };
        // The budget may be used up: then it only waits to be killed.
        let _ = publisher.append_wait(append, &PAYLOAD, Duration::from_secs(1));
    }
}
