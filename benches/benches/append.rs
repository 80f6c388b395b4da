//! What does an append cost, by length of payload and kind of checksum?
//!
//! One segment of 4 MiB on the heap, written again and again from its start. Beside rivals and floors: `benches/rivals`.

// The macros make public functions that nobody calls by name.
#![allow(missing_docs)]

use chronicle_core::{Append, Appender, Checksum, HeapRegion, Spec, format};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const SEGMENT: usize = 4 << 20;

fn append(c: &mut Criterion) {
    for checksum in [Checksum::CommitWord, Checksum::Frame] {
        let mut group = c.benchmark_group(format!("append, {checksum:?}"));
        for len in [8, 64, 256, 1024] {
            let region = HeapRegion::new(SEGMENT);
            let spec = Spec { segment_len: SEGMENT as u32, checksum, salt: 5, ..Spec::default() };
            let start = || {
                format(&region, &spec).expect("the region is as long as the segment");
                Appender::attach(&region).expect("it was formatted just now")
            };
            let mut log = start();
            let payload = vec![7_u8; len];
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::from_parameter(len), |b| {
                b.iter(|| {
                    let append = Append { time_ns: 1, type_id: 1, flags: 0 };
                    if log.append(append, black_box(&payload)).is_err() {
                        log = start();
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
