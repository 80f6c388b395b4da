//! Group `archive`: a cold file read from end to end, and from the middle.
//!
//! The file is made of recorded market data, several times over so that it has blocks to speak of, and lies in memory:
//! what is compared is the work on top of zstd, not a disk. The floor is libzstd's own single-thread decompression of
//! the same frames from memory into one buffer.

use crate::{
    contest::{Contest, Line, Measure, Target, line},
    recordings,
};
use chronicle_core::Append;
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    archive::{self, ColdFile},
    partition::PartitionWriter,
    reader::ArchiveReader,
    root::{Date, PartitionId, Root, Stream, Tier},
};
use std::{hint::black_box, path::Path, rc::Rc, time::Instant};

/// Bytes of the `.q`, about.
const SOURCE_LEN: usize = 96 << 20;
/// Ranges that are looked up.
const SEEKS: usize = 50;

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let Made { root, id, cold } = make(dir)?;
    let source_len = cold.tables().source_len as f64;
    let compressed = std::fs::read(cold.path()).map_err(|it| it.to_string())?;
    let compressed: Rc<[u8]> = compressed.into();
    let speed = move |work: &mut dyn FnMut() -> Result<(), String>| {
        let began = Instant::now();
        work()?;
        Ok(source_len / began.elapsed().as_secs_f64() / 1e6)
    };
    let scan = |threads: usize| {
        let cold = Rc::clone(&cold);
        let measure: Measure<'static> = Box::new(move || {
            speed(&mut || {
                cold.scan(0, threads, |loaded| {
                    black_box(loaded);
                    Ok(())
                })
                .map_err(|it| it.to_string())
            })
        });
        measure
    };
    let mut out_buffer = Vec::new();
    let (frames, blocks) = (Rc::clone(&compressed), Rc::clone(&cold));
    out(Contest {
        group: "archive",
        case: "cold read from end to end, 1 thread".to_owned(),
        unit: "MB/s",
        higher_is_better: true,
        ours: scan(1),
        floor: Some((
            "libzstd, 1 thread, same frames",
            Box::new(move || {
                let mut zstd = zstd::bulk::Decompressor::new().map_err(|it| it.to_string())?;
                speed(&mut || {
                    for block in blocks.blocks() {
                        let from = block.compressed_offset as usize;
                        let frame = &frames[from..from + block.compressed_len as usize];
                        out_buffer.clear();
                        out_buffer.reserve(block.len as usize);
                        zstd.decompress_to_buffer(frame, &mut out_buffer).map_err(|it| it.to_string())?;
                        black_box(&out_buffer);
                    }
                    Ok(())
                })
            }),
        )),
        rivals: vec![("zeekstd", zeekstd(compressed, speed))],
        target: Target::Ratio(0.95),
    }
    .run(9)?);

    let threads = std::thread::available_parallelism().map_or(1, |it| it.get());
    out(Contest {
        group: "archive",
        case: format!("cold read from end to end, {threads} threads"),
        unit: "MB/s",
        higher_is_better: true,
        ours: scan(threads),
        floor: Some(("the same with 1 thread", scan(1))),
        rivals: Vec::new(),
        target: Target::None,
    }
    .run(9)?);
    frames_case(&root, &id, source_len, out)?;
    seeks(&root, &id, &cold, out)
}

/// The universal reader over the same file: every frame handed out and its checksum checked.
fn frames_case(root: &Root, id: &PartitionId, source_len: f64, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let reader = ArchiveReader::open(&Linux, root).map_err(|it| it.to_string())?;
    let (root, id) = (reader, id.clone());
    out(Contest {
        group: "archive",
        case: "every frame through the universal reader, cold".to_owned(),
        unit: "MB/s",
        higher_is_better: true,
        ours: Box::new(move || {
            let opened = root.partition(&id).map_err(|it| it.to_string())?;
            let mut partition = opened.ok_or("the partition is not there")?;
            let began = Instant::now();
            while let Some(frame) = partition.next().map_err(|it| it.to_string())? {
                black_box(frame.seq);
            }
            Ok(source_len / began.elapsed().as_secs_f64() / 1e6)
        }),
        floor: None,
        rivals: Vec::new(),
        target: Target::None,
    }
    .run(5)?);
    Ok(())
}

/// Looks up ranges of time and counts blocks that were read and blocks that hold frames of the range.
fn seeks(root: &Root, id: &PartitionId, cold: &ColdFile<Linux>, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let reader = ArchiveReader::open(&Linux, root).map_err(|it| it.to_string())?;
    let blocks = cold.blocks();
    let (first, last) = (blocks[0].min_time, blocks[blocks.len() - 1].max_time);
    let (mut read, mut holding, mut times) = (vec![], vec![], vec![]);
    for nth in 0..SEEKS {
        let from = first + (last - first) / (SEEKS as u64 + 1) * (nth as u64 + 1);
        let until = from + (last - first) / 200;
        let opened = reader.partition(id).map_err(|it| it.to_string())?;
        let mut partition = opened.ok_or("the partition is not there")?;
        let (before, began) = (partition.blocks_read(), Instant::now());
        partition.seek_time(from).map_err(|it| it.to_string())?;
        let mut seen = 0_u64;
        // Blocks of a range end before the first block that begins behind it: nothing more needs to be looked at.
        let end = blocks.iter().rfind(|block| block.min_time <= until).map_or(0, |block| block.first_seq);
        let next = blocks.iter().find(|block| block.first_seq > end).map_or(u64::MAX, |block| block.first_seq);
        while partition.next_seq() < next {
            let Some(frame) = partition.next().map_err(|it| it.to_string())? else { break };
            seen += u64::from(frame.time_ns >= from && frame.time_ns <= until);
        }
        times.push(began.elapsed().as_secs_f64() * 1e6);
        if seen == 0 {
            return Err(format!("a range from {from} to {until} has no frame: the recording has a hole there"));
        }
        read.push((partition.blocks_read() - before) as f64);
        holding.push(blocks.iter().filter(|block| block.max_time >= from && block.min_time <= until).count() as f64);
    }
    let beyond: Vec<f64> = read.iter().zip(&holding).map(|(read, holding)| (read - holding).abs()).collect();
    let (group, blocks_unit) = ("archive", "blocks");
    let case = format!("blocks read beside those that hold the range, {SEEKS} seeks by time");
    out(line(group, case, blocks_unit, false, &beyond, None, &[], Target::Never(0.0)));
    out(line(group, "blocks read for a range".to_owned(), blocks_unit, false, &read, None, &[], Target::None));
    out(line(group, "range found by time and read".to_owned(), "µs", false, &times, None, &[], Target::None));
    Ok(())
}

fn zeekstd(
    compressed: Rc<[u8]>,
    speed: impl Fn(&mut dyn FnMut() -> Result<(), String>) -> Result<f64, String> + 'static,
) -> Measure<'static> {
    let mut buffer = vec![0; 1 << 20];
    Box::new(move || {
        speed(&mut || {
            let cursor = std::io::Cursor::new(&compressed[..]);
            let mut decoder = zeekstd::Decoder::new(cursor).map_err(|it| it.to_string())?;
            loop {
                let n = decoder.decompress(&mut buffer).map_err(|it| it.to_string())?;
                if n == 0 {
                    return Ok(());
                }
                black_box(&buffer[..n]);
            }
        })
    })
}

struct Made {
    root: Root,
    id: PartitionId,
    cold: Rc<ColdFile<Linux>>,
}

/// A day of book records, sealed and compressed, under a root.
fn make(dir: &Path) -> Result<Made, String> {
    let root = Root::new(dir);
    let recordings = recordings::all();
    let mut frames = Vec::new();
    for recording in &recordings {
        frames.extend(recording.frames()?);
    }
    let date = Date::of_ns(frames[0].ingest_ns);
    let name = |text: &str| text.parse().map_err(|it: chronicle_storage::root::NameError| it.to_string());
    let id = PartitionId::new(name("binance-spot")?, name("btcusdt")?, date, Stream::Book);
    let warm = root.partition(Tier::Warm, &id);
    let write = || -> chronicle_storage::Result<()> {
        let mut writer = PartitionWriter::create(&Linux, &warm, &id)?;
        let (mut written, mut time_ns) = (0, date.start_ns());
        while written < SOURCE_LEN {
            for raw in &frames {
                time_ns += 20_000;
                writer.append(Append { time_ns, type_id: raw.type_id, flags: 0 }, &raw.payload)?;
                written += raw.payload.len() + 32;
            }
        }
        writer.seal()?;
        let cold = root.partition(Tier::Cold, &id);
        let cold_dir = cold.parent().unwrap_or(dir);
        chronicle_platform::Platform::create_dirs(&Linux, cold_dir)?;
        archive::compress(&Linux, &warm, cold_dir, archive::Options::default(), &mut |_, _| {})?;
        Ok(())
    };
    write().map_err(|it| it.to_string())?;
    std::fs::remove_file(&warm).map_err(|it| it.to_string())?;
    let cold = root.partition(Tier::Cold, &id);
    let cold = if cold.extension().is_some_and(|it| it == "zst") {
        cold
    } else {
        archive::cold_path(&cold, cold.parent().unwrap_or(dir))
    };
    let cold = ColdFile::open(&Linux, &cold).map_err(|it| it.to_string())?;
    Ok(Made { root, id, cold: Rc::new(cold) })
}
