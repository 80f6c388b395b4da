//! A segment of a WAL: whatever stands in it, reading ends, looks at nothing outside, and hands out no frame whose checksum
//! is wrong or whose number is not the next.
#![no_main]

use chronicle_core::wal::{Batch, BatchHead, Header, Kind, Truncation, entries, layout};
use chronicle_fuzz::{choices, put_crc, put_wal_right};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, rest) = choices(data);
    let mut bytes = rest.to_vec();
    if choice & 1 == 1 {
        put_crc(&mut bytes, 0, 124, 0);
    }
    let Ok(header) = Header::parse(&bytes) else { return };
    assert_eq!(header.to_bytes(), bytes[..layout::HEADER_LEN], "what is read is written the same");
    if choice & 2 == 2 {
        put_wal_right(&mut bytes, &header);
    }
    let block = header.block_size as usize;
    // The stride of a search: each block by itself.
    for at in (block..bytes.len()).step_by(block) {
        if let Ok(head) = BatchHead::parse(&bytes[at..], at as u64, &header) {
            assert!(head.len <= header.batch_len && head.end() <= header.segment_len && head.offset == at as u64);
            assert!(head.durable.segment <= header.segment_id && head.durable_seq < head.first_seq);
        }
    }
    let (mut at, mut expected) = (block, header.first_seq);
    while let Some(rest) = bytes.get(at..)
        && let Ok(batch) = Batch::parse(rest, at as u64, &header)
        && batch.head().first_seq == expected
    {
        let mut frames = batch.frames();
        for frame in frames.by_ref() {
            let Ok(frame) = frame else { return };
            assert_eq!(frame.seq, expected);
            expected += u64::from(frame.kind == Kind::Data);
            let end = frame.offset as usize + layout::FRAME_HEADER_LEN + frame.payload.len();
            assert!(end + 4 <= at + batch.head().len as usize);
            let mut crc = crc32fast::Hasher::new_with_initial(header.salt);
            crc.update(&bytes[frame.offset as usize..end]);
            assert_eq!(bytes[end..end + 4], crc.finalize().to_le_bytes());
            match frame.kind {
                Kind::Meta => assert!(entries(frame.payload, frame.offset).count() <= frame.payload.len()),
                Kind::Truncate => assert!(Truncation::parse(frame.payload, frame.seq).is_some()),
                Kind::Data | Kind::Vote => {}
                Kind::Batch | Kind::Pad => panic!("never handed out"),
            }
        }
        assert_eq!(frames.next_seq(), expected);
        at += batch.head().len as usize;
    }
});
