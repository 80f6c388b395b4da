//! A ring of many producers whose words change under live ends, and whose producers forget, abort and die: no panic, no
//! long call, and as long as nobody scribbles every committed message arrives, once, whole and in order.
//!
//! The input is a script: which operation, by which producer, with which length; or a word stored anywhere.
#![no_main]

use chronicle_core::{
    HeapRegion, RegionMut,
    ring::{
        SPACING,
        mpsc::{Consumer, Producer, PushError, RegisterError, Spec, format, len},
    },
};
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;

const PRODUCERS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let Some((first, script)) = data.split_first() else { return };
    let capacity = 64 << (first & 3);
    let total = len(capacity, PRODUCERS as u32).expect("a power of two from 64 on");
    let region = HeapRegion::new(total);
    let spec = Spec { capacity, producers: PRODUCERS as u32, ..Spec::default() };
    format(&region, &spec).expect("the region has that length");
    let mut consumer = Consumer::attach(&region).expect("just formatted");
    let mut producers: [Option<Producer<&HeapRegion>>; PRODUCERS] = [const { None }; PRODUCERS];
    let mut dead = [false; PRODUCERS];
    // Without a word of the fuzzer's nothing may be damaged, and these messages are what arrives.
    let (mut honest, mut sent, mut received) = (true, VecDeque::new(), 0u64);
    let mut taken = 0;
    for step in script.chunks_exact(7) {
        let (op, which, at) = (step[0], step[1] as usize % PRODUCERS, u16::from_le_bytes([step[1], step[2]]) as usize);
        let word = u32::from_le_bytes([step[3], step[4], step[5], step[6]]);
        let message = vec![step[3]; at % (capacity / 2 + 2)];
        match op % 10 {
            0 => match Producer::register_at(&region, which as u32) {
                Ok(producer) => producers[which] = Some(producer),
                Err(RegisterError::Taken { .. }) => assert!(!honest || producers[which].is_some() || dead[which]),
                Err(refused) => assert!(!honest, "{refused}"),
            },
            1 => {
                if let Some(producer) = producers[which].take() {
                    if word & 1 == 1 {
                        std::mem::forget(producer);
                        dead[which] = true;
                    }
                }
            }
            2 | 3 => {
                let Some(producer) = &mut producers[which] else { continue };
                let room = producer.has_room(message.len());
                match producer.push(&message) {
                    Ok(()) => {
                        assert!(room || !honest);
                        sent.push_back(message);
                    }
                    Err(PushError::Full { .. }) => assert!(!room || !honest),
                    Err(PushError::TooLarge { max, .. }) => assert!(message.len() > max),
                    Err(refused) => assert!(!honest, "{refused}"),
                }
            }
            4 => {
                let Some(producer) = &mut producers[which] else { continue };
                if let Ok(mut claim) = producer.claim(message.len()) {
                    claim.put(&message);
                    match word % 3 {
                        0 => {
                            claim.commit();
                            sent.push_back(message);
                        }
                        1 => claim.abort(),
                        _ => std::mem::forget(claim),
                    }
                }
            }
            5 => {
                let Some(producer) = &mut producers[which] else { continue };
                if let Ok(mut batch) = producer.claim_batch(message.len()) {
                    while batch.push(&[step[4]; 5]).is_ok() {
                        sent.push_back(vec![step[4]; 5]);
                    }
                    if batch.left() == message.len().next_multiple_of(8).max(8) {
                        batch.publish();
                    } else {
                        batch.commit();
                    }
                }
            }
            6 => match consumer.reap(|slot, _| !dead[slot as usize]) {
                Ok(reaped) => {
                    assert!(!honest || reaped.slots as usize == dead.iter().filter(|dead| **dead).count());
                    dead = [false; PRODUCERS];
                }
                Err(damage) => assert!(!honest, "{damage}"),
            },
            7 | 8 => {
                loop {
                    match consumer.step() {
                        Ok(Some(frame)) => {
                            received += 1;
                            taken += 1;
                            assert!(taken <= capacity / 8, "more frames than a ring has room for");
                            let mut payload = vec![0; frame.payload.len()];
                            frame.payload.copy_to(&mut payload);
                            assert!(!honest || (sent.pop_front() == Some(payload) && frame.seq == received));
                        }
                        Ok(None) => break,
                        Err(damage) => {
                            assert!(!honest, "{damage}");
                            break;
                        }
                    }
                }
                if op & 16 == 0 {
                    consumer.release();
                    taken = 0;
                    if word & 7 == 0 {
                        match Consumer::attach(&region) {
                            Ok(attached) => consumer = attached,
                            Err(damage) => assert!(!honest, "{damage}"),
                        }
                    }
                }
            }
            _ => {
                honest = false;
                // The header is left whole, for behind a broken one there is nothing to find.
                region.window_mut().store(SPACING + at % ((total - SPACING) / 4) * 4, word);
            }
        }
    }
});
