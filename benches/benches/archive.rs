//! What do compressing a day and reading it back cost, by level and by threads?
//!
//! A partition made of the shipped recording, several times over, in memory. Beside libzstd itself: `benches/rivals`,
//! group `archive`.

// The macros make public functions that nobody calls by name.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};

#[cfg(target_os = "linux")]
fn archive(c: &mut Criterion) {
    use chronicle_core::Append;
    use chronicle_feed::{Venue, import};
    use chronicle_platform::Platform;
    use chronicle_platform_linux::Linux;
    use chronicle_storage::{
        archive::{ColdFile, Options, cold_path, compress},
        partition::PartitionWriter,
        root::{Date, PartitionId, Stream},
    };
    use criterion::{BenchmarkId, Throughput};
    use std::{convert::Infallible, fs::File, hint::black_box, path::Path};

    let excerpt = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/binance-spot/ethusdt-20240808-excerpt.gz");
    let mut frames = Vec::new();
    let venue: Venue = "binance-spot".parse().expect("a known venue");
    import(venue, "excerpt", File::open(excerpt).expect("it is shipped"), |parsed| {
        frames.push((parsed.ingest_ns, parsed.type_id, parsed.payload.to_vec()));
        Ok::<(), Infallible>(())
    })
    .expect("it reads");

    let memory = Linux.memory_dir().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(memory).expect("a scratch directory");
    let source = dir.path().join("book.q");
    let date = Date::of_ns(frames[0].0);
    let name = |text: &str| text.parse().expect("a name");
    let id = PartitionId::new(name("binance-spot"), name("ethusdt"), date, Stream::Book);
    let mut writer = PartitionWriter::create(&Linux, &source, &id).expect("a new file");
    let mut len = 0;
    while len < 16 << 20 {
        for (nth, (_, type_id, payload)) in frames.iter().enumerate() {
            let append = Append { time_ns: date.start_ns() + nth as u64, type_id: *type_id, flags: 0 };
            writer.append(append, payload).expect("room");
            len += payload.len();
        }
    }
    let len = writer.seal().expect("it seals").len;

    let make = |to: &Path, level, threads| {
        compress(&Linux, &source, to, Options { level, threads }, &mut |_, _| {}).expect("it compresses")
    };
    let mut group = c.benchmark_group("compress");
    group.sample_size(10).throughput(Throughput::Bytes(len));
    for (level, threads) in [(1, 1), (1, 2), (3, 1)] {
        group.bench_function(BenchmarkId::from_parameter(format!("level {level}, threads {threads}")), |b| {
            b.iter(|| make(dir.path(), level, threads));
        });
    }
    group.finish();

    make(dir.path(), 1, 1);
    let cold = ColdFile::open(&Linux, &cold_path(&source, dir.path())).expect("it was made just now");
    let mut group = c.benchmark_group("read cold");
    group.throughput(Throughput::Bytes(len));
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::from_parameter(format!("threads {threads}")), |b| {
            b.iter(|| {
                cold.scan(0, threads, |loaded| {
                    black_box(loaded);
                    Ok(())
                })
                .expect("it reads");
            });
        });
    }
    group.finish();
}

#[cfg(not(target_os = "linux"))]
fn archive(_: &mut Criterion) {
    eprintln!("skipped: no platform to measure on here");
}

criterion_group!(benches, archive);
criterion_main!(benches);
