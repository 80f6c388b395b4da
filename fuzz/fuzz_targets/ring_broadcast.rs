//! A broadcast ring whose words change under a live writer and live readers: no panic, no long call, no broken promise.
//!
//! The input is a script: which operation, on which end, with which length; or a word stored anywhere.
#![no_main]

use chronicle_core::{
    HeapRegion, Region, RegionMut,
    ring::broadcast::{self, INTENT, Reader, Received, Spec, Start, WAKE_MODE, Writer, format},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, script)) = data.split_first() else { return };
    let capacity = 64 << (first & 7);
    let region = HeapRegion::new(broadcast::len(capacity).expect("a power of two from 64 on"));
    format(&region, &Spec { capacity, ..Spec::default() }).expect("the region has that length");
    let mut writer = Writer::attach(&region).expect("just formatted");
    let mut readers = [Start::Oldest, Start::Newest].map(|start| Reader::attach(&region, start).expect("as above"));
    // Without a word of the fuzzer's nothing may be damaged, and every byte is what its seq says.
    let mut honest = true;
    let mut buffer = [0; 96];
    let mut script = script.chunks_exact(7);
    for step in script.by_ref() {
        let (op, which, at) = (step[0], step[1] as usize % 2, u16::from_le_bytes([step[1], step[2]]) as usize);
        let word = u32::from_le_bytes([step[3], step[4], step[5], step[6]]);
        let reader = &mut readers[which];
        let due = reader.next_seq();
        match op % 8 {
            0 | 1 => {
                let next = writer.next_seq();
                let len = at % (writer.max_payload() + 2);
                match writer.push(&vec![next as u8; len]) {
                    Ok(seq) => assert_eq!((seq, writer.next_seq()), (next, next + 1)),
                    Err(refused) => assert!(refused.len == len && len > refused.max),
                }
            }
            2 | 3 => {
                let buffer = &mut buffer[..word as usize % 97];
                match reader.receive(buffer) {
                    Ok(Received::Message { seq, len }) => {
                        assert!(seq == due && len <= buffer.len());
                        assert!(!honest || buffer[..len].iter().all(|byte| *byte == seq as u8));
                    }
                    Ok(Received::Lapped { lost, resume_seq }) => assert!(lost > 0 && resume_seq == due + lost),
                    Ok(Received::Unfit { seq, len }) => assert!(seq == due && len > buffer.len()),
                    Ok(Received::Empty) => assert!(!honest || due == writer.next_seq()),
                    Err(damage) => assert!(!honest, "{damage}"),
                }
            }
            4 => match reader.skip() {
                Ok(_) => _ = (reader.is_ready(), reader.lag()),
                Err(damage) => assert!(!honest, "{damage}"),
            },
            5 => {
                let start = [Start::Oldest, Start::Newest, Start::Seq(word.into())][at % 3];
                match Reader::attach(&region, start) {
                    Ok(attached) => *reader = attached,
                    Err(refused) => assert!(!honest || u64::from(word) > writer.next_seq(), "{refused}"),
                }
            }
            6 => match Writer::attach(&region) {
                Ok(attached) => {
                    assert!(!honest || attached.next_seq() == writer.next_seq());
                    writer = attached;
                }
                Err(damage) => assert!(!honest, "{damage}"),
            },
            _ => {
                honest = false;
                // The header and the mode are left whole, for behind broken ones there is nothing to find.
                let at = INTENT + at % ((region.len() - INTENT) / 4) * 4;
                if at != WAKE_MODE {
                    region.window_mut().store(at, word);
                }
            }
        }
    }
});
