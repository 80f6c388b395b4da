//! A segment of any bytes: readers end, writers go on behind them, and the buffered decoder agrees with both.
#![no_main]

use chronicle_core::{
    Append, Appender, HeapRegion, Reader, Region, RegionMut, Spec, Step, format, frame,
    layout::{FRAME_HEADER_LEN, HEADER_LEN},
};
use chronicle_fuzz::{choices, put_segment_right};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, rest) = choices(data);
    let mut bytes = rest.to_vec();
    bytes.resize(rest.len().next_multiple_of(4), 0);
    if choice & 1 == 1 {
        // Any bytes behind a good header.
        let len = bytes.len().next_multiple_of(32).max(512);
        bytes.resize(len, 0);
        let region = HeapRegion::new(len);
        format(&region, &Spec { segment_len: len as u32, ..Spec::default() }).expect("a length that segments have");
        let mut header = [0; HEADER_LEN];
        region.window().copy_out(0, &mut header);
        bytes[..HEADER_LEN].copy_from_slice(&header);
    }
    if choice & 2 == 2 {
        put_segment_right(&mut bytes);
    }
    let region = HeapRegion::new(bytes.len());
    region.window_mut().copy_in(0, &bytes);

    let Ok(mut fast) = Reader::attach(&region) else { return };
    let mut steps = 0;
    while let Ok(Step::Frame(frame)) = fast.step() {
        let mut payload = vec![0; frame.payload.len()];
        frame.payload.copy_to(&mut payload);
        let _ = (frame.payload.u64_at(0), frame.payload.read::<[u8; 16]>(payload.len() / 2));
        steps += 1;
        assert!(steps <= bytes.len() / FRAME_HEADER_LEN, "a segment has no more slots");
    }

    // The verified reader takes a prefix of what the fast one takes, and the decoder the same prefix.
    let mut verified = Reader::attach(&region).expect("it was attached to before");
    let header = *verified.header();
    loop {
        let at = verified.mark().offset() as usize;
        let seq = verified.mark().next_seq();
        let left = (header.segment_len as usize - FRAME_HEADER_LEN - at) as u64;
        let decoded = match left {
            0 => None,
            _ => Some(frame::decode(&bytes[at..], at as u64, left, header.salt, header.checksum)),
        };
        match (verified.step_verified(), decoded) {
            (Ok(Step::Frame(read)), Some(Ok(frame::Decoded::Frame { header, payload, .. }))) => {
                assert_eq!((read.seq, read.payload.len()), (header.seq.get(), payload.len()));
                assert_eq!(read.seq, seq);
            }
            (Ok(Step::Open), Some(Ok(frame::Decoded::Open)) | None) => break,
            (Ok(Step::End { next_seq }), Some(Ok(frame::Decoded::End { next_seq: same }))) => {
                assert_eq!(next_seq, same);
                break;
            }
            (Ok(Step::End { .. }), None) => break,
            // A wrong seq is for the caller of the decoder to see.
            (Err(_), _) => break,
            (step, decoded) => panic!("at {at}: {step:?}, but {decoded:?}"),
        }
    }
    assert!(verified.mark().offset() <= fast.mark().offset());

    // Wherever a mark says that the log ends, a writer goes on and is read.
    let mark = verified.mark();
    let _ = (mark.seal(), mark.times());
    let mut log = Appender::resume(&region, &mark);
    if log.append(Append { time_ns: 1, type_id: 2, flags: 3 }, &[7; 40]).is_ok() {
        assert!(matches!(verified.step_verified(), Ok(Step::Frame(frame)) if frame.seq == mark.next_seq()));
    }
    log.end();
    assert!(matches!(verified.step_verified(), Ok(Step::End { .. })));
    let (offset, seq) = (u32::from(choice) * 32, u64::from(choice >> 2));
    if let Ok(mut reader) = Reader::attach_at(&region, offset, seq) {
        while let Ok(Step::Frame(_)) = reader.step() {}
    }
});
