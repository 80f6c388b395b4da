//! What does a reader's step cost, by length of payload and by how much it checks?
//!
//! Each sample walks a whole segment of 4 MiB on the heap and copies every payload out.

// The macros make public functions that nobody calls by name.
#![allow(missing_docs)]

use chronicle_core::{Append, Appender, Checksum, HeapRegion, Reader, Spec, Step, format};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const SEGMENT: usize = 4 << 20;

fn read(c: &mut Criterion) {
    for verify in [false, true] {
        let mut group = c.benchmark_group(if verify { "read and verify" } else { "read" });
        for len in [8, 64, 256, 1024] {
            let region = HeapRegion::new(SEGMENT);
            let checksum = Checksum::Frame;
            let spec = Spec { segment_len: SEGMENT as u32, checksum, salt: 5, ..Spec::default() };
            format(&region, &spec).expect("the region is as long as the segment");
            let mut log = Appender::attach(&region).expect("it was formatted just now");
            let mut count = 0_u64;
            while log.append(Append { time_ns: count, type_id: 1, flags: 0 }, &vec![7; len]).is_ok() {
                count += 1;
            }
            group.throughput(Throughput::Elements(count));
            let mut out = vec![0; len];
            group.bench_function(BenchmarkId::from_parameter(len), |b| {
                b.iter(|| {
                    let mut reader = Reader::attach(&region).expect("it was formatted");
                    loop {
                        let step = if verify { reader.step_verified() } else { reader.step() };
                        let Ok(Step::Frame(frame)) = step else { break };
                        black_box(frame.payload.copy_to(&mut out));
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, read);
criterion_main!(benches);
