//! The first 128 bytes of a segment: whatever is accepted is a header that a writer could have made.
#![no_main]

use chronicle_core::{Begin, Header, Seal, Spec, layout};
use chronicle_fuzz::{choices, put_crc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, rest) = choices(data);
    let mut bytes = rest.to_vec();
    if choice & 1 == 1 {
        put_crc(&mut bytes, 0, 76, 0);
    }
    let Ok(header) = Header::parse(&bytes) else { return };
    assert!(header.segment_len == 0 || layout::segment(header.segment_len as usize).is_some());
    if choice & 2 == 2 {
        put_crc(&mut bytes, 80, 88, header.salt);
        put_crc(&mut bytes, 92, 124, header.salt);
    }
    let whole: [u8; layout::HEADER_LEN] = bytes[..layout::HEADER_LEN].try_into().expect("a header was parsed");
    if let Some(begin) = Begin::parse(&whole, header.salt) {
        assert!(begin.first_seq > 0 && begin.first_seq < layout::SEQ_END);
        assert_eq!(begin.to_bytes(header.salt), whole[80..92]);
    }
    if let Some(seal) = Seal::parse(&whole, header.salt) {
        assert_eq!(seal.to_bytes(header.salt), whole[92..128]);
    }
    let spec = Spec {
        queue_id: header.queue_id,
        segment_id: header.segment_id,
        epoch: header.epoch,
        salt: header.salt,
        predecessor_id: header.predecessor_id,
        predecessor_end: header.predecessor_end,
        created_ns: header.created_ns,
        segment_len: header.segment_len,
        clock: header.clock,
        checksum: header.checksum,
    };
    if header.writable().is_ok() {
        assert_eq!(spec.to_bytes()[..80], whole[..80], "what is read is written the same");
    }
});
