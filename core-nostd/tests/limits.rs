//! What stands at the edges: the largest payload, the last slot, the largest seq, a resumed writer, another's region.
#![cfg(not(loom))]

use chronicle_core::{
    Append, AppendError, Appended, Appender, Begin, Claim, Damage, Fault, HeapRegion, Mark, Payload, Reader, Region,
    RegionMut, Spec, Step, Trusted, Window, WindowMut, format, frame, layout, prepare, read_begin, store_begin,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

// An end may move to another thread; a claim holds its appender; a payload and a window may be shared, being atomics.
assert_impl_all!(Appender<HeapRegion>: Send, Sync);
assert_impl_all!(Reader<HeapRegion>: Send, Sync);
assert_impl_all!(Reader<&HeapRegion>: Send, Sync, Clone);
assert_impl_all!(Claim<'static, HeapRegion>: Send);
assert_impl_all!(Payload<'static>: Send, Sync, Copy);
assert_impl_all!(Window<'static>: Send, Sync, Copy);
assert_impl_all!(WindowMut<'static>: Send, Sync, Copy);
assert_impl_all!(Mark: Send, Sync, Copy);
// One writer: its end is never duplicated, and the word of trust is never made by itself.
assert_not_impl_any!(Appender<HeapRegion>: Clone);
assert_not_impl_any!(Claim<'static, HeapRegion>: Clone);
assert_not_impl_any!(Trusted: Default);

const LEN: usize = 1024;

fn fresh(len: usize) -> HeapRegion {
    let region = HeapRegion::new(len);
    format(&region, &Spec { segment_len: len as u32, salt: 9, ..Spec::default() }).unwrap();
    region
}

fn at(time_ns: u64) -> Append {
    Append { time_ns, type_id: 1, flags: 0 }
}

#[test]
fn the_largest_payload_fills_a_segment_and_end_stands_in_the_last_slot() {
    let region = fresh(LEN);
    let mut log = Appender::attach(&region).unwrap();
    let max = layout::max_payload(LEN);
    assert_eq!(log.append(at(1), &vec![7; max + 1]), Err(AppendError::TooLarge { len: max + 1, max }));
    assert_eq!(log.claim(usize::MAX).err(), Some(AppendError::TooLarge { len: usize::MAX, max }));
    assert_eq!(log.append(at(1), &vec![7; max]), Ok(Appended { seq: 1, offset: 128 }));
    assert_eq!((log.left(), log.tail() as usize), (0, LEN - 32));
    assert_eq!(log.append(at(1), &[]), Err(AppendError::Full { needed: 32, left: 0 }));
    log.end();
    log.end();
    assert_eq!(log.append(at(1), &[]), Err(AppendError::Full { needed: 32, left: 0 }));

    let mut reader = Reader::attach(&region).unwrap();
    assert!(matches!(reader.step_verified(), Ok(Step::Frame(frame)) if frame.payload.len() == max));
    assert!(matches!(reader.step_verified(), Ok(Step::End { next_seq: 2 })));
    assert_eq!(reader.mark().seal(), Some(log.seal()));
}

#[test]
fn an_ended_segment_says_full_although_it_has_room() {
    let region = fresh(LEN);
    let mut log = Appender::attach(&region).unwrap();
    log.end();
    assert_eq!(log.append(at(1), &[]), Err(AppendError::Full { needed: 32, left: 0 }));
    assert!(matches!(log.claim(1), Err(AppendError::Full { needed: 64, left: 0 })));
    assert_eq!((log.seal().count, log.seal().end, log.seal().min_time), (0, 128, 0));
}

#[test]
fn a_claim_writes_only_into_its_own_length() {
    let region = fresh(LEN);
    let mut log = Appender::attach(&region).unwrap();
    for (offset, len) in [(5, 1), (0, 6), (6, 0), (usize::MAX, 1), (1, usize::MAX)] {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut claim = log.claim(5).unwrap();
            // No allocation of that size exists: an over-long slice is stood in for by the offset.
            claim.put_at(offset, &vec![1; len.min(8)]);
        }));
        assert!(outcome.is_err(), "{len} bytes at {offset}");
    }
    let mut claim = log.claim(5).unwrap();
    claim.put_at(5, &[]);
    claim.commit(at(1));
    let mut reader = Reader::attach(&region).unwrap();
    let Ok(Step::Frame(frame)) = reader.step_verified() else { panic!("one frame") };
    assert_eq!(
        (frame.payload.len(), frame.payload.u64_at(0), frame.payload.read::<[u8; 5]>(0)),
        (5, None, Some([0; 5]))
    );
}

/// Without the bound a hostile begin field makes the second append overflow.
#[test]
fn a_first_seq_that_could_wrap_counts_as_absent() {
    for (first_seq, ok) in
        [(0, false), (1, true), (layout::SEQ_END - 1, true), (layout::SEQ_END, false), (u64::MAX, false)]
    {
        let region = HeapRegion::new(LEN);
        prepare(&region, &Spec { segment_len: LEN as u32, ..Spec::default() }).unwrap();
        store_begin(&region, 0, Begin { first_seq });
        assert_eq!(read_begin(region.window(), 0).is_some(), ok, "{first_seq}");
        match Appender::attach(&region) {
            Ok(mut log) => {
                assert_eq!(log.append(at(1), &[]).unwrap().seq, first_seq);
                assert_eq!(log.append(at(1), &[]).unwrap().seq, first_seq + 1);
            }
            Err(damage) => assert!(!ok, "{damage}"),
        }
    }
}

#[test]
fn a_place_that_no_frame_can_have_is_refused() {
    let region = fresh(LEN);
    let mut log = Appender::attach(&region).unwrap();
    for n in 0..3 {
        log.append(at(n), &[1; 40]).unwrap();
    }
    let refused = |offset: u32, seq: u64| Reader::attach_at(&region, offset, seq).err();
    for offset in [0, 96, 129, 1024, 1025, 4096, u32::MAX] {
        assert!(refused(offset, 1).is_some(), "offset {offset}");
    }
    assert!(refused(992, 4).is_none(), "the last slot");
    assert_eq!(refused(128, 2), Some(Damage::at(128, Fault::Seq { expected: 1, found: 2 })));
    assert_eq!(refused(160, 1).map(|damage| damage.fault), Some(Fault::Seq { expected: 2, found: 1 }));
    for seq in [0, 3, u64::MAX] {
        assert!(refused(160, seq).is_some(), "only seq 2 can stand at 160, not {seq}");
    }
    // Possible, but wrong: the first step says so.
    let mut reader = Reader::attach_at(&region, 128 + 96, 3).unwrap();
    assert_eq!(reader.step().unwrap_err().fault, Fault::Seq { expected: 3, found: 2 });
    assert_eq!(reader.step().unwrap_err().fault, Fault::Seq { expected: 3, found: 2 });
}

/// A writer that opens at the last index entry has not seen the times before it; whoever knows them adds them.
#[test]
fn the_seal_covers_frames_before_the_place_of_resumption() {
    let region = fresh(LEN);
    let mut log = Appender::attach(&region).unwrap();
    let times = [500, 9, 700, 300, 400];
    let last = times.map(|time| log.append(at(time), b"x").unwrap())[3];

    let mut reader = Reader::attach_at(&region, last.offset, last.seq).unwrap();
    assert_eq!(reader.mark().times(), None);
    while let Step::Frame(_) = reader.step_verified().unwrap() {}
    assert_eq!((reader.mark().next_seq(), reader.mark().times(), reader.mark().seal()), (6, Some((300, 400)), None));
    let mut log = Appender::resume(&region, &reader.mark().including(9, 700));
    assert_eq!((log.seal().min_time, log.seal().max_time), (9, 700));
    log.append(at(1000), b"x").unwrap();
    log.end();
    let seal = log.seal();
    assert_eq!((seal.count, seal.min_time, seal.max_time), (6, 9, 1000));

    let mut whole = Reader::attach(&region).unwrap();
    while let Step::Frame(_) = whole.step_verified().unwrap() {}
    assert_eq!(whole.mark().seal(), Some(seal));
}

#[test]
#[should_panic(expected = "bug: a mark of a segment of 1024 bytes used on a region of 512")]
fn a_mark_of_a_longer_region_is_a_bug() {
    let mark = Reader::attach(&fresh(LEN)).unwrap().mark();
    let _ = Appender::resume(fresh(512), &mark);
}

/// `append` stores without looking at the region's length again, so a header that somebody made up must not get there.
#[test]
fn a_header_that_no_segment_has_begins_nothing() {
    let region = fresh(LEN);
    let good = *Reader::attach(&region).unwrap().header();
    for segment_len in [0, 31, 96, 100, 480, 1000, 2048, u32::MAX] {
        let made_up = chronicle_core::Header { segment_len, ..good };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = Appender::begin(&region, made_up, 1).append(at(1), &[1; 900]);
        }));
        assert!(outcome.is_err(), "{segment_len}");
    }
    for first_seq in [0, layout::SEQ_END, u64::MAX] {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| _ = Appender::begin(&region, good, first_seq)))
            .expect_err("no frame has such a seq");
    }
    let mut log = Appender::begin(&region, good, 7);
    assert_eq!(log.append(at(1), b"x").unwrap().seq, 7);
    assert!(matches!(Reader::attach(&region).unwrap().step_verified(), Ok(Step::Frame(frame)) if frame.seq == 7));
}

#[test]
fn an_unknown_ro_compat_feature_is_read_and_not_written() {
    let region = fresh(LEN);
    Appender::attach(&region).unwrap().append(at(1), b"old").unwrap();
    let mut bytes = [0; 80];
    region.window().copy_out(0, &mut bytes);
    bytes[16] = 2;
    let crc = crc32fast::hash(&bytes[..76]);
    bytes[76..].copy_from_slice(&crc.to_le_bytes());
    region.window_mut().copy_in(0, &bytes);

    let damage = Appender::attach(&region).unwrap_err();
    assert_eq!((damage.offset, damage.fault), (16, Fault::ReadOnly { bits: 2 }));
    assert_eq!(damage.to_string(), "offset 16: unknown ro_compat features 0x2: upgrade to write to it");
    let mut reader = Reader::attach(&region).unwrap();
    assert_eq!(reader.header().writable(), Err(damage));
    assert!(matches!(reader.step_verified(), Ok(Step::Frame(_))));
}

#[test]
fn a_frame_needs_a_header_s_room_whatever_its_bytes_say() {
    let end = frame::end(2, 0, chronicle_core::Checksum::Frame);
    let bytes = zerocopy::IntoBytes::as_bytes(&end);
    assert!(matches!(frame::decode(bytes, 0, 32, 0, chronicle_core::Checksum::Frame), Ok(frame::Decoded::End { .. })));
    for left in [0, 31] {
        let damage = frame::decode(bytes, 5, left, 0, chronicle_core::Checksum::Frame).unwrap_err();
        assert_eq!(damage.fault, Fault::Short { needed: 32, found: left });
    }
}

#[test]
fn trusted_slices_are_the_bytes_in_place() {
    let region = fresh(LEN);
    let mut log = Appender::attach(&region).unwrap();
    log.append(at(1), b"in place").unwrap();
    let mut reader = Reader::attach(&region).unwrap();
    let Ok(Step::Frame(frame)) = reader.step() else { panic!("one frame") };
    assert_eq!(frame.payload.as_slice(None), None);
    // SAFETY: nobody appends or formats while the slice lives.
    let trusted = unsafe { Trusted::assert() };
    assert_eq!(frame.payload.as_slice(Some(&trusted)), Some(&b"in place"[..]));
    assert_eq!(Payload::own(b"mine").as_slice(None), Some(&b"mine"[..]));
}
