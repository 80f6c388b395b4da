//! Group `read`: a reader that looks at every byte of 256-byte payloads.
//!
//! The floor adds up every byte of the same segment, headers and all, and checks nothing: the same pages, because where
//! the kernel put them decides more than what is done with them. Both are bytes of the segment by time. A reader loads a commit word and a
//! header for each frame, checks seq and length, and then looks at the payload: in place where the program trusts its
//! writers, else copied word by word, because who does not trust may not have a slice of memory that others write.

use crate::{
    contest::{Contest, Line, Target},
    machine::{self, Map, sum},
};
use chronicle_core::{Append, Appender, Checksum, Payload, Reader, Spec, Step, format};
use chronicle_platform::{Open, Platform};
use chronicle_platform_linux::Linux;
use std::{hint::black_box, path::Path, rc::Rc, time::Instant};

const PAYLOAD: usize = 256;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    for mib in [1, 64_usize] {
        let segment = filled(dir, mib << 20)?;
        let bytes = (mib << 20) as f64;
        let repeat = if mib == 1 { 50 } else { 1 };
        let speed = move |work: &mut dyn FnMut() -> Result<u64, String>| {
            let began = Instant::now();
            for _ in 0..repeat {
                black_box(work()?);
            }
            Ok(bytes * f64::from(repeat) / began.elapsed().as_secs_f64() / 1e9)
        };
        for (name, safe) in [("trusted slices", false), ("safe copies", true)] {
            let (segment, bare) = (Rc::clone(&segment), Rc::clone(&segment));
            out(Contest {
                group: "read",
                case: format!("256 B payloads, {name}, {mib} MiB"),
                unit: "GB/s",
                higher_is_better: true,
                ours: Box::new(move || {
                    speed(&mut || {
                        if safe {
                            let mut buffer = [0; PAYLOAD];
                            walk(&segment, |payload| sum(payload.copy_to(&mut buffer)))
                        } else {
                            let trusted = machine::trusted();
                            walk(&segment, |payload| sum(payload.as_slice(Some(&trusted)).unwrap_or_default()))
                        }
                    })
                }),
                floor: Some((
                    "bare scan of the segment",
                    Box::new(move || speed(&mut || Ok(sum(machine::still_bytes(&*bare))))),
                )),
                rivals: Vec::new(),
                // A segment that fits a core's own cache is no memory scan: there the walk costs more than the bytes.
                target: if safe || mib < 64 { Target::None } else { Target::Ratio(0.8) },
            }
            .run(15)?);
        }
    }
    Ok(())
}

/// A segment full of frames, mapped for reading.
fn filled(dir: &Path, len: usize) -> Result<Rc<Map>, String> {
    let path = dir.join(format!("segment-{len}"));
    let map = machine::warm_file(&path, len)?;
    let spec = Spec { segment_len: len as u32, checksum: Checksum::CommitWord, ..Spec::default() };
    format(&map, &spec).map_err(|it| it.to_string())?;
    let mut log = Appender::attach(&map).map_err(|it| it.to_string())?;
    let mut count = 0;
    while log.append(Append { time_ns: count as u64, type_id: 1, flags: 0 }, &[count as u8; PAYLOAD]).is_ok() {
        count += 1;
    }
    let open = || {
        let map = Linux.map(&Linux.open(&path, Open::Read)?, len)?;
        Linux.prefault(&map)?;
        Ok(map)
    };
    let map = open().map_err(|it: chronicle_platform::Trouble| it.to_string())?;
    Ok(Rc::new(map))
}

fn walk(segment: &Map, mut look: impl FnMut(&Payload<'_>) -> u64) -> Result<u64, String> {
    let mut reader = Reader::attach(segment).map_err(|it| it.to_string())?;
    let mut total = 0_u64;
    while let Step::Frame(frame) = reader.step().map_err(|it| it.to_string())? {
        total = total.wrapping_add(look(&frame.payload));
    }
    Ok(total)
}
