//! How large should a frame's header be, and what should frames be aligned to?
//!
//! Takes every record of the recordings, encoded as it is stored, and lays the same stream out in each candidate:
//! bytes per record as it lies on disk (warm), compressed with zstd level 1 in blocks of 1 MiB (cold), and the time of
//! an append in memory, without a checksum, with one over a contiguous run, and with the same in two calls.
//! `docs/decisions/0001-frame-header.md` has a run of it and what was decided.
//!
//! `cargo bench -p chronicle-benches --bench frame_header [-- DIR]`; DIR holds `{venue}/*.gz`.

use chronicle_core::{HeapRegion, RegionMut, WindowMut};
use chronicle_feed::{Venue, import};
use chronicle_protocol::type_id;
use std::{collections::BTreeMap, fs, hint::black_box, path::Path, time::Instant};

/// A header of so many bytes, frames aligned to so many.
#[derive(Clone, Copy)]
struct Candidate {
    header: usize,
    align: usize,
    what: &'static str,
}

/// What fits: 16 bytes have no room for a seq beside a whole time, 64 hold nothing that 32 do not.
const CANDIDATES: [Candidate; 6] = [
    Candidate { header: 16, align: 16, what: "commit, crc, 48-bit time offset, 8-bit type and flags; no seq" },
    Candidate { header: 24, align: 8, what: "commit, crc, 32-bit seq and type, time" },
    Candidate { header: 32, align: 8, what: "all fields" },
    Candidate { header: 32, align: 32, what: "all fields; two frames a cache line" },
    Candidate { header: 32, align: 64, what: "all fields; a frame never shares a line with another" },
    Candidate { header: 64, align: 64, what: "a line for the header alone" },
];

struct Stored {
    type_id: u16,
    time_ns: u64,
    payload: Vec<u8>,
}

impl Candidate {
    fn len(self, payload: usize) -> usize {
        (self.header + payload).next_multiple_of(self.align)
    }

    /// The fields behind commit word and CRC, as many as the header has room for.
    fn fields(self, seq: u64, record: &Stored) -> [u8; 56] {
        let mut fields = [0; 56];
        match self.header {
            16 => {
                fields[..6].copy_from_slice(&(record.time_ns & ((1 << 48) - 1)).to_le_bytes()[..6]);
                fields[6] = record.type_id as u8;
            }
            24 => {
                fields[..4].copy_from_slice(&(seq as u32).to_le_bytes());
                fields[4..6].copy_from_slice(&record.type_id.to_le_bytes());
                fields[8..16].copy_from_slice(&record.time_ns.to_le_bytes());
            }
            _ => {
                fields[..8].copy_from_slice(&seq.to_le_bytes());
                fields[8..16].copy_from_slice(&record.time_ns.to_le_bytes());
                fields[16..18].copy_from_slice(&record.type_id.to_le_bytes());
            }
        }
        fields
    }

    fn lay_out(self, records: &[Stored]) -> Vec<u8> {
        let mut out = Vec::new();
        for (seq, record) in records.iter().enumerate() {
            let at = out.len();
            let fields = &self.fields(seq as u64 + 1, record)[..self.header - 8];
            let commit = record.payload.len() as u32 + 1;
            let mut crc = crc32fast::Hasher::new_with_initial(commit);
            crc.update(fields);
            crc.update(&record.payload);
            out.extend_from_slice(&commit.to_le_bytes());
            out.extend_from_slice(&crc.finalize().to_le_bytes());
            out.extend_from_slice(fields);
            out.extend_from_slice(&record.payload);
            out.resize(at + self.len(record.payload.len()), 0);
        }
        out
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sum {
    None,
    OneRun,
    TwoCalls,
}

/// Appends every record into a region that is used again and again, as the log does it: payload, fields, the
/// next commit word 0, this one with Release. The same code for each candidate; only the sizes differ.
fn append_all(candidate: Candidate, window: WindowMut<'_>, records: &[&Stored], sum: Sum) {
    let mut at = 0;
    let mut whole = [0; 56 + 1024];
    for (seq, record) in records.iter().enumerate() {
        let len = candidate.len(record.payload.len());
        if at + len + 4 > window.len() {
            at = 0;
        }
        let fields = candidate.fields(seq as u64, record);
        let fields = &fields[..candidate.header - 8];
        let commit = record.payload.len() as u32 + 1;
        let crc = match sum {
            Sum::None => 0,
            Sum::OneRun if fields.len() + record.payload.len() <= whole.len() => {
                whole[..fields.len()].copy_from_slice(fields);
                whole[fields.len()..fields.len() + record.payload.len()].copy_from_slice(&record.payload);
                let mut crc = crc32fast::Hasher::new_with_initial(commit);
                crc.update(&whole[..fields.len() + record.payload.len()]);
                crc.finalize()
            }
            Sum::OneRun | Sum::TwoCalls => {
                let mut crc = crc32fast::Hasher::new_with_initial(commit);
                crc.update(fields);
                crc.update(&record.payload);
                crc.finalize()
            }
        };
        window.store(at + 4, crc);
        window.copy_in(at + 8, fields);
        window.copy_in(at + candidate.header, &record.payload);
        let end = candidate.header + record.payload.len();
        window.zero(at + end, len - end);
        window.store(at + len, 0);
        window.store_release(at, commit);
        at += len;
    }
}

/// Records that are timed: few enough to stay in the cache, so that the append is measured and not the source.
const TIMED: usize = 1024;
/// Runs over them. The lowest counts: what else the machine does only ever adds.
const ROUNDS: usize = 400;

/// ns per append, all cases interleaved so that a noisy moment hits all of them.
fn times(records: &[Stored]) -> Vec<[f64; 3]> {
    // Every n-th record, so that kinds come in their proportions; those few that are larger than a page are left out.
    let usual = || records.iter().filter(|record| record.payload.len() < 4096);
    let records: Vec<&Stored> = usual().step_by((usual().count() / TIMED).max(1)).take(TIMED).collect();
    let region = HeapRegion::new(1 << 18);
    let sums = [Sum::None, Sum::OneRun, Sum::TwoCalls];
    let mut lowest = vec![[f64::MAX; 3]; CANDIDATES.len()];
    for _ in 0..ROUNDS {
        for (candidate, cases) in CANDIDATES.iter().zip(&mut lowest) {
            for (sum, case) in sums.iter().zip(cases) {
                let began = Instant::now();
                append_all(*candidate, black_box(region.window_mut()), black_box(&records), *sum);
                *case = case.min(began.elapsed().as_nanos() as f64 / records.len() as f64);
            }
        }
    }
    lowest
}

/// One CRC call over header part and payload in one run, against a call for each; ns, the lowest of many.
fn crc_calls(payload: usize) -> [f64; 2] {
    const CALLS: usize = 1000;
    let bytes = vec![7; 24 + payload];
    let (header, rest) = bytes.split_at(24);
    let mut lowest = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        for (two, lowest) in [false, true].into_iter().zip(&mut lowest) {
            let began = Instant::now();
            for salt in 0..CALLS as u32 {
                let mut crc = crc32fast::Hasher::new_with_initial(black_box(salt));
                if two {
                    crc.update(black_box(header));
                    crc.update(black_box(rest));
                } else {
                    crc.update(black_box(&bytes));
                }
                black_box(crc.finalize());
            }
            *lowest = lowest.min(began.elapsed().as_nanos() as f64 / CALLS as f64);
        }
    }
    lowest
}

fn cold(bytes: &[u8]) -> usize {
    bytes.chunks(1 << 20).map(|block| zstd::bulk::compress(block, 1).expect("zstd").len()).sum()
}

fn kind(type_id: u16) -> &'static str {
    match type_id {
        type_id::BOOK_DELTA => "book delta",
        type_id::BOOK_SNAPSHOT => "book snapshot",
        type_id::TRADE => "trade",
        type_id::QUOTE => "quote",
        type_id::OPAQUE => "opaque",
        _ => "other",
    }
}

fn percentile(sorted: &[usize], percent: usize) -> usize {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn sizes(name: &str, records: &[Stored]) {
    let mut by_kind: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for record in records {
        by_kind.entry(kind(record.type_id)).or_default().push(record.payload.len());
    }
    for (kind, mut lens) in by_kind {
        lens.sort_unstable();
        let mean = lens.iter().sum::<usize>() / lens.len();
        let [p10, p50, p90] = [10, 50, 90].map(|percent| percentile(&lens, percent));
        let max = lens[lens.len() - 1];
        println!("| {name} | {kind} | {} | {} | {p10} | {p50} | {p90} | {max} | {mean} |", lens.len(), lens[0]);
    }
}

fn main() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let excerpt = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata");
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = given.unwrap_or_else(|| if Path::new(shared).is_dir() { shared.into() } else { excerpt.into() });
    println!("recordings: {dir}\n");

    let mut streams: Vec<(String, Vec<Stored>)> = Vec::new();
    for venue in Venue::ALL {
        let Ok(entries) = fs::read_dir(Path::new(&dir).join(venue.name())) else { continue };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "gz"));
        paths.sort();
        let mut records = Vec::new();
        for path in paths {
            let file = fs::File::open(&path).expect("the recording");
            let read = import(*venue, path.to_string_lossy(), file, |parsed| {
                let payload = parsed.payload.to_vec();
                records.push(Stored { type_id: parsed.type_id, time_ns: parsed.ingest_ns, payload });
                Ok::<(), std::convert::Infallible>(())
            });
            if let Err(error) = read {
                println!("{}: {error}", path.display());
            }
        }
        if !records.is_empty() {
            streams.push((venue.name().into(), records));
        }
    }
    assert!(!streams.is_empty(), "no recordings under {dir}");

    println!(
        "| venue | record | count | min | p10 | p50 | p90 | max | mean |\n|---|---|---:|---:|---:|---:|---:|---:|---:|"
    );
    for (venue, records) in &streams {
        sizes(venue, records);
    }
    for (venue, records) in &streams {
        let payload: usize = records.iter().map(|record| record.payload.len()).sum();
        let count = records.len() as f64;
        println!("\n{venue}: {} records, {:.1} payload bytes each\n", records.len(), payload as f64 / count);
        println!(
            "| header/align | warm B | overhead | zstd-1 B | append ns | + CRC, one run | + CRC, two calls | holds |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---|");
        for (candidate, [bare, one, two]) in CANDIDATES.iter().zip(times(records)) {
            let bytes = candidate.lay_out(records);
            println!(
                "| {}/{} | {:.1} | {:.0} % | {:.2} | {bare:.1} | {one:.1} | {two:.1} | {} |",
                candidate.header,
                candidate.align,
                bytes.len() as f64 / count,
                (bytes.len() as f64 / payload as f64 - 1.0) * 100.0,
                cold(&bytes) as f64 / count,
                candidate.what
            );
        }
    }

    println!("\nCRC of 24 header bytes and a payload, ns:\n\n| payload B | one run | two calls |\n|---:|---:|---:|");
    for payload in [0, 8, 40, 63, 64, 79, 104, 128, 256, 1024] {
        let [one, two] = crc_calls(payload);
        println!("| {payload} | {one:.1} | {two:.1} |");
    }
}
