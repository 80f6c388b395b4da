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

/// Segments of the large queue, 1 GiB of frames and the ones ahead, and of the small one.
const LARGE: u64 = 18;
const SMALL: u64 = 4;
const PAYLOAD: [u8; 64] = [7; 64];

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    // Both have used up their budget and use segments again, as a queue does for all of its life but the beginning.
    let measure = |name: &str, segments: u64| -> Measure<'static> {
        let dir: PathBuf = dir.join(name);
        let mut writer: Option<Other> = None;
        Box::new(move || {
            // The killed one left all but its last moments; each round kills another that wrote a little more.
            let mib = if writer.is_some() { 1 } else { (segments + 2) * u64::from(SEGMENT >> 20) };
            let mut other = Other::start(&[], &["recover-write", &segments.to_string(), &mib.to_string()], &dir)?;
            let written: u64 = other.hear()?.parse().map_err(|it| format!("{it}"))?;
            other.kill()?;
            writer = Some(other);
            let began = Instant::now();
            let publisher = queue::publisher(&dir, options(segments))?;
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
    out(case("open a 1 GiB queue after its writer was killed", measure("large", LARGE), None, millis).run(9)?);
    let _ = std::fs::remove_dir_all(dir.join("large"));
    let small = Some(("the same with 256 MiB", measure("small", SMALL)));
    out(case("and independent of its size", measure("again", LARGE), small, Target::Ratio(1.25)).run(9)?);
    Ok(())
}

fn options(segments: u64) -> PublisherOptions {
    let max_bytes = segments * u64::from(SEGMENT);
    PublisherOptions { max_bytes, segment_len: SEGMENT, ..PublisherOptions::new(Profile::Raw) }
}

/// Writes so many MiB into a queue of so many segments, says the last seq, and goes on until it is killed.
pub fn write(segments: &str, mib: &str, dir: &Path) -> Result<(), String> {
    let number = |word: &str| word.parse::<u64>().map_err(|it| it.to_string());
    let len = number(mib)? << 20;
    let mut publisher = queue::publisher(dir, options(number(segments)?))?;
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
