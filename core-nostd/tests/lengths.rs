//! A frame's checksum must not depend on how its payload was brought to the sum.
//!
//! `append` puts small frames together in blocks, sums long ones in two parts, and a claim is summed from the region:
//! one wrong byte at one length and recovery would throw away frames that were committed.
#![cfg(not(loom))]

use chronicle_core::{Append, Appender, Checksum, HeapRegion, Reader, Spec, Step, format, frame};

#[test]
fn every_short_payload_is_summed_alike_by_append_claim_and_buffer() {
    let region = HeapRegion::new(256 << 10);
    let salt = 0x5eed_cafe;
    format(&region, &Spec { segment_len: 256 << 10, checksum: Checksum::Frame, salt, ..Spec::default() }).unwrap();
    let mut log = Appender::attach(&region).unwrap();
    let mut reader = Reader::attach(&region).unwrap();
    for len in 0..300_usize {
        let payload: Vec<u8> = (0..len).map(|i| (i * 151 + len * 7 + 1) as u8).collect();
        let append = Append { time_ns: u64::MAX - len as u64, type_id: 0xfffe, flags: 0x8001 };
        let first = log.append(append, &payload).unwrap();
        let mut claim = log.claim(len).unwrap();
        claim.put(&payload);
        claim.commit(append);
        for seq in [first.seq, first.seq + 1] {
            // The reader computes it anew, and the buffered form a third time.
            let Ok(Step::Frame(frame)) = reader.step_verified() else { panic!("payload of {len} bytes refused") };
            let mut stored = [0; 300];
            assert_eq!(frame.payload.copy_to(&mut stored), payload);
            let offset = frame.offset as usize;
            let mut word = [0; 4];
            chronicle_core::Region::window(&region).copy_out(offset + 4, &mut word);
            let header = frame::header(append, seq, &payload, salt, Checksum::Frame).unwrap();
            assert_eq!(u32::from_le_bytes(word), header.crc.get(), "payload of {len} bytes");
        }
    }
}
