//! Which zstd level for cold files? Measured on partitions made of recorded messages.
//!
//! ```text
//! cargo run --release -p chronicle-storage --example archive_levels -- binance-spot FILE.gz [binance-usdm FILE.gz …]
//! ```
//!
//! For each recording it makes the files that a day would have (book, trades, quotes, and the raw stream), cuts them as
//! the archive does, and prints for each level the size and the speed of one thread; then how fast the archive reads
//! its own file against bare libzstd over the same blocks. Rounds are interleaved and the best of each is shown: on a
//! shared machine the fastest round is the one that was disturbed least. The numbers behind
//! `docs/decisions/0003-zstd-level.md`.

use chronicle_core::Append;
use chronicle_feed::{Venue, import};
use chronicle_platform::{File as _, Open, Platform};
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    archive::{ColdFile, Options, SealedFile, compress},
    partition::PartitionWriter,
    root::{Name, PartitionId, Stream},
};
use std::{error::Error, hint::black_box, path::Path, time::Instant};

const LEVELS: [i32; 10] = [-5, -1, 1, 2, 3, 4, 5, 7, 9, 12];
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() || !args.len().is_multiple_of(2) {
        return Err("usage: archive_levels VENUE FILE [VENUE FILE …]".into());
    }
    let dir = tempfile::tempdir()?;
    for pair in args.chunks_exact(2) {
        let venue: Venue = pair[0].parse()?;
        println!("\n{}", Path::new(&pair[1]).file_name().unwrap_or_default().display());
        for (name, path) in partitions(venue, &pair[1], dir.path())? {
            levels(&name, &path)?;
            reading(&path, dir.path())?;
        }
    }
    Ok(())
}

/// The recording as sealed files: name and path.
fn partitions(venue: Venue, file: &str, dir: &Path) -> Result<Vec<(String, std::path::PathBuf)>, Box<dyn Error>> {
    let mut files = Vec::new();
    for (name, stream) in
        [("book", Stream::Book), ("trades", Stream::Trades), ("quotes", Stream::Quotes), ("raw", Stream::Late)]
    {
        let path = dir.join(format!("{name}-{}.q", files.len()));
        let _ = std::fs::remove_file(&path);
        let id = PartitionId::new(Name::new("venue")?, Name::new("symbol")?, "2024-08-08".parse()?, stream);
        files.push((name, PartitionWriter::create(&Linux, &path, &id)?, path));
    }
    let mut last = 0;
    import(venue, "recording", std::fs::File::open(file)?, |parsed| {
        let exchange_ns = parsed.payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        last = if exchange_ns == 0 { last } else { exchange_ns };
        let append = Append { time_ns: last, type_id: parsed.type_id, flags: 0 };
        let stream = match parsed.type_id {
            3 => 1,
            4 => 2,
            _ => 0,
        };
        files[stream].1.append(append, parsed.payload)?;
        let raw = Append { time_ns: parsed.ingest_ns, ..append };
        files[3].1.append(raw, parsed.payload).map(drop)
    })?;
    let mut made = Vec::new();
    for (name, mut writer, path) in files {
        writer.seal()?;
        made.push((name.to_owned(), path));
    }
    Ok(made)
}

fn best(best: &mut f64, seconds: f64) {
    *best = best.min(seconds);
}

fn levels(name: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut sealed = SealedFile::<Linux>::open(&Linux, path)?;
    let mut blocks = Vec::new();
    let mut block = Vec::new();
    while sealed.next_block(&mut block)?.is_some() {
        blocks.push(block.clone());
    }
    let source = sealed.len() as f64;
    println!("  {name}: {:.2} MB in {} blocks", source / 1e6, blocks.len());
    let mut results = LEVELS.map(|level| (level, 0usize, f64::MAX, f64::MAX));
    let mut frame = Vec::new();
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        for (level, size, packing, unpacking) in &mut results {
            let mut compressor = zstd::bulk::Compressor::new(*level)?;
            let mut decompressor = zstd::bulk::Decompressor::new()?;
            let (mut pack, mut unpack) = (0.0, 0.0);
            *size = 0;
            for block in &blocks {
                frame.clear();
                frame.reserve(zstd::compress_bound(block.len()));
                let start = Instant::now();
                *size += compressor.compress_to_buffer(block, &mut frame)?;
                pack += start.elapsed().as_secs_f64();
                out.clear();
                out.reserve_exact(block.len());
                let start = Instant::now();
                black_box(decompressor.decompress_to_buffer(&frame, &mut out)?);
                unpack += start.elapsed().as_secs_f64();
            }
            best(packing, pack);
            best(unpacking, unpack);
        }
    }
    println!("    level      bytes   ratio   compress MB/s   decompress MB/s");
    for (level, size, pack, unpack) in results {
        println!(
            "    {level:>5} {size:>10}   {:>5.2}   {:>13.0}   {:>15.0}",
            source / size as f64,
            source / pack / 1e6,
            source / unpack / 1e6
        );
    }
    Ok(())
}

/// Our reader against bare libzstd, over the same blocks of the same file.
fn reading(path: &Path, dir: &Path) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    compress(&Linux, path, dir, Options { threads: 1, ..Options::default() }, &mut |_, _| {})?;
    let made = started.elapsed().as_secs_f64();
    let zst = chronicle_storage::archive::cold_path(path, dir);
    let cold = ColdFile::open(&Linux, &zst)?;
    let file = Linux.open(&zst, Open::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(&mut bytes, 0)?;

    let mut times = [f64::MAX; 4];
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    let mut out = Vec::new();
    for _ in 0..3 * ROUNDS {
        let start = Instant::now();
        for block in cold.blocks() {
            let at = block.compressed_offset as usize;
            out.clear();
            out.reserve_exact(block.len as usize);
            decompressor.decompress_to_buffer(&bytes[at..at + block.compressed_len as usize], &mut out)?;
            black_box(&out);
        }
        best(&mut times[0], start.elapsed().as_secs_f64());
        for threads in [1, 2] {
            let start = Instant::now();
            cold.scan(0, threads, |loaded| {
                black_box(loaded.bytes);
                Ok(())
            })?;
            best(&mut times[threads], start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        black_box(cold.source_digest(1, &mut |_, _| {})?);
        best(&mut times[3], start.elapsed().as_secs_f64());
    }
    let rate = |seconds: f64| cold.tables().source_len as f64 / seconds / 1e6;
    let [bare, one, two, checked] = times.map(rate);
    println!(
        "    read MB/s: libzstd {bare:.0}, ours {one:.0} ({:.1} %), two threads {two:.0}, with both sums and SHA-256 \
         {checked:.0}; made, synced and read back at {:.0} MB/s",
        100.0 * one / bare,
        rate(made)
    );
    Ok(())
}
