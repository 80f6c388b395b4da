//! Rings of one producer and one consumer under a fuzzer that operates both ends and changes any word in between: damage
//! at worst, nothing taken from outside the ring, and never more frames than there is room for.
#![no_main]

use chronicle_core::{
    HeapRegion, Region, RegionMut,
    ring::{
        slots,
        spsc::{self, PopError},
    },
};
use libfuzzer_sys::fuzz_target;

const CAPACITY: usize = 256;
const COUNT: usize = 8;
type Value = [u8; 6];

fuzz_target!(|data: &[u8]| {
    let bytes = HeapRegion::new(spsc::len(CAPACITY).expect("a power of two"));
    spsc::format(&bytes, &spsc::Spec { capacity: CAPACITY, ..Default::default() }).expect("it fits");
    let values = HeapRegion::new(slots::len::<Value>(COUNT).expect("a power of two"));
    slots::format::<Value, _>(&values, &slots::Spec { count: COUNT, ..Default::default() }).expect("it fits");
    let mut producer = spsc::Producer::attach(&bytes).expect("a fresh ring");
    let mut consumer = spsc::Consumer::attach(&bytes).expect("a fresh ring");
    let mut giver = slots::Producer::<Value, _>::attach(&values).expect("a fresh ring");
    let mut taker = slots::Consumer::<Value, _>::attach(&values).expect("a fresh ring");

    let payload = [0x5a; CAPACITY];
    for step in data.chunks_exact(4) {
        let [operation, a, b, c] = step.try_into().expect("chunks of 4");
        let len = usize::from(a);
        match operation % 16 {
            0 => drop(producer.push(&payload[..len])),
            1 => drop(producer.stage(&payload[..len])),
            2 => producer.publish(),
            3 => {
                if let Ok(mut claim) = producer.claim(len) {
                    claim.put_at(len / 2, &payload[..len - len / 2]);
                    if b & 1 == 0 { drop(claim.commit()) } else { claim.abort() }
                }
            }
            4 => {
                let mut frames = 0;
                while let Ok(Some(frame)) = consumer.step() {
                    assert!(frame.payload.copy_to(&mut [0; CAPACITY]).len() <= CAPACITY - 8);
                    frames += 1;
                    assert!(frames <= CAPACITY / 8);
                }
            }
            5 => consumer.release(),
            6 => match consumer.pop(&mut vec![0; len]) {
                Ok(found) => assert!(found.is_none_or(|(_, bytes)| bytes.len() <= len)),
                Err(PopError::TooShort { needed }) => assert!(needed > len && needed <= CAPACITY - 8),
                Err(PopError::Damage(_)) => {}
            },
            7 => drop(giver.push([a, b, c, 1, 2, 3])),
            8 => assert!(giver.push_slice(&vec![[a; 6]; len % 12]).unwrap_or(0) <= COUNT),
            9 => {
                let mut out = vec![[0; 6]; len % 12];
                assert!(taker.pop_slice(&mut out).unwrap_or(0) <= COUNT);
            }
            10 => {
                if let Ok(mut chunk) = taker.chunk(len % 12) {
                    assert!(chunk.by_ref().count() <= COUNT);
                    chunk.commit();
                }
            }
            11 => {
                if let Ok(again) = spsc::Producer::attach(&bytes) {
                    producer = again;
                }
                if let Ok(again) = slots::Producer::attach(&values) {
                    giver = again;
                }
            }
            12 => {
                if let Ok(again) = spsc::Consumer::attach(&bytes) {
                    consumer = again;
                }
                if let Ok(again) = slots::Consumer::attach(&values) {
                    taker = again;
                }
            }
            // A word of the control lines, of the data, or anywhere; near what it was, or another one.
            kind => {
                for region in [&bytes, &values] {
                    let words = region.len() / 4;
                    let at = match kind {
                        13 => [spsc::TAIL, spsc::NEWEST, spsc::SEQ_HIGH, spsc::HEAD][len % 4],
                        14 => spsc::DATA + len % ((region.len() - spsc::DATA) / 4) * 4,
                        _ => (len * 4 + usize::from(c)) % words * 4,
                    };
                    let old = region.window().load(at);
                    let word = if b < 128 {
                        old.wrapping_add(u32::from(b) * 8).wrapping_sub(512)
                    } else {
                        u32::from(c) << (b % 32)
                    };
                    region.window_mut().store(at, word);
                }
            }
        }
        let _ =
            (producer.occupancy(), producer.has_room(len), consumer.is_ready(), taker.is_ready(), giver.has_room(len));
    }
});
