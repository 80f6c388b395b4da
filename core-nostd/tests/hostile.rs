//! Bytes that no writer of ours made: every flip is found or does no harm, and nothing ever panics or runs on.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    Append, Appender, Begin, Checksum, Damage, Fault, Header, HeapRegion, Reader, Region, RegionMut, Seal, Spec, Step,
    format, frame, header, layout, read_seal, store_seal,
};
use seeded::{Seeded, seeds};
use std::sync::atomic::{AtomicBool, Ordering};

const LEN: usize = 768;
/// Miri takes a thousand times as long: it looks at every n-th case.
const EVERY: usize = if cfg!(miri) { 97 } else { 1 };

fn spec() -> Spec {
    Spec { salt: 0xc0ff_ee11, segment_id: 3, segment_len: LEN as u32, ..Spec::default() }
}

/// Payloads whose `length + 1` has one bit set are among them: one flip makes their commit word 0.
fn filled() -> (HeapRegion, Appender<HeapRegion>) {
    let region = HeapRegion::new(LEN);
    format(&region, &spec()).unwrap();
    let mut log = Appender::attach(region).unwrap();
    for len in [0, 1, 7, 30, 31, 64, 33] {
        log.append(Append { time_ns: 100 + len as u64, type_id: 9, flags: 1 }, &vec![0x55; len]).unwrap();
    }
    (copy_of(&bytes(log.region())), log)
}

fn bytes(region: &HeapRegion) -> Vec<u8> {
    let mut all = vec![0; region.len()];
    region.window().copy_out(0, &mut all);
    all
}

fn copy_of(bytes: &[u8]) -> HeapRegion {
    let region = HeapRegion::new(bytes.len());
    region.window_mut().copy_in(0, bytes);
    region
}

/// What `verify` does with a segment: header, every frame, end, seal. `Ok` is the place where it ended.
fn verify(region: &HeapRegion) -> Result<(u32, Option<Seal>, bool), Damage> {
    let mut reader = Reader::attach(region)?;
    let ended = loop {
        match reader.step_verified()? {
            Step::Frame(frame) => assert!(frame.payload.len() <= LEN),
            Step::Open => break false,
            Step::End { .. } => break true,
        }
    };
    let mark = reader.mark();
    let seal = read_seal(region.window(), reader.header().salt);
    if ended
        && let (Some(stored), Some(walked)) = (seal, mark.seal())
        && stored != walked
    {
        return Err(Damage::at(92, Fault::Field { name: "seal", found: 0 }));
    }
    Ok((mark.offset(), seal, ended))
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_found_or_behind_its_end() {
    let (_, mut log) = filled();
    log.end();
    let seal = log.seal();
    store_seal(log.region(), spec().salt, seal);
    let good = bytes(log.region());
    let whole = Ok((seal.end as u32, Some(seal), true));
    assert_eq!(verify(log.region()), whole);
    for bit in (0..LEN * 8).step_by(EVERY) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let outcome = verify(&copy_of(&bad));
        let behind = bit / 8 >= seal.end as usize + layout::FRAME_HEADER_LEN;
        assert_eq!(outcome == whole, behind, "byte {} bit {}: {outcome:?}", bit / 8, bit % 8);
    }
}

/// Two flips are not found: one in the zeros that belong to nobody yet, and one that turns a commit word into "open".
/// The second hides frames, so whoever knows how far the log was synced must compare; nothing else can tell.
#[test]
fn a_flipped_bit_of_an_open_segment_is_found_but_for_the_two_kinds_that_cannot_be() {
    let (region, log) = filled();
    let tail = log.tail();
    let good = bytes(&region);
    let whole = (tail, None, false);
    assert_eq!(verify(&region), Ok(whole));
    let (mut unused, mut opened) = (0, 0);
    for bit in (0..LEN * 8).step_by(EVERY) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let outcome = verify(&copy_of(&bad));
        let at = bit / 8 / 4 * 4;
        // A seal that was never stored is still absent; the bytes behind the open word are nobody's.
        let nobody_s = (92..128).contains(&(bit / 8)) || bit / 8 >= tail as usize + 4;
        match outcome {
            Err(_) => assert!(!nobody_s, "byte {}", bit / 8),
            Ok(found) if found == whole => {
                assert!(nobody_s, "byte {} bit {}", bit / 8, bit % 8);
                unused += 1;
            }
            Ok((offset, None, false)) => {
                assert_eq!(u32::from_le_bytes(bad[at..at + 4].try_into().unwrap()), 0, "byte {}", bit / 8);
                assert!(offset as usize == at && offset < tail);
                opened += 1;
            }
            Ok(other) => panic!("byte {} bit {}: {other:?}", bit / 8, bit % 8),
        }
    }
    // Payloads of 0, 1, 7 and 31 bytes.
    if EVERY == 1 {
        assert_eq!((opened, unused), (4, 8 * (36 + LEN - tail as usize - 4)));
    }
}

#[test]
fn a_header_cut_short_or_of_another_format_says_so() {
    let good = spec().to_bytes();
    for len in 0..layout::HEADER_LEN {
        let damage = Header::parse(&good[..len]).unwrap_err();
        assert_eq!(damage.fault, Fault::Short { needed: 128, found: len as u64 });
        let region = HeapRegion::new(len);
        assert!(header(region.window()).is_err() && Reader::attach(&region).is_err());
    }
    let patch = |at: usize, bytes: &[u8]| {
        let mut bad = good;
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32fast::hash(&bad[..76]);
        bad[76..80].copy_from_slice(&crc.to_le_bytes());
        Header::parse(&bad).map(|_| ()).map_err(|damage| (damage.offset, damage.fault))
    };
    assert_eq!(patch(0, b"QZSTIDX1"), Err((0, Fault::Magic { found: *b"QZSTIDX1" })));
    assert_eq!(patch(8, &[2, 0]), Err((8, Fault::Version { found: 2 })));
    assert_eq!(patch(8, &[0, 0]), Err((8, Fault::Field { name: "version", found: 0 })));
    assert_eq!(patch(10, &[2]), Err((10, Fault::Field { name: "clock", found: 2 })));
    for kind in [0, 3, 255] {
        assert_eq!(patch(11, &[kind]), Err((11, Fault::Field { name: "checksum", found: kind.into() })));
    }
    assert_eq!(patch(12, &[0, 0, 0, 1]), Err((12, Fault::Incompatible { bits: 1 << 24 })));
    for len in [1u32, 31, 480, 513, 520, (1 << 30) + 32, u32::MAX] {
        assert_eq!(patch(68, &len.to_le_bytes()), Err((68, Fault::Field { name: "segment_len", found: len.into() })));
    }
    assert_eq!(patch(68, &0u32.to_le_bytes()), Ok(()));
}

/// A segment that claims more than the region has: a file cut short.
#[test]
fn a_region_shorter_than_its_segment_is_damage() {
    let (region, _) = filled();
    let all = bytes(&region);
    for len in (0..LEN).step_by(4) {
        let damage = Reader::attach(&copy_of(&all[..len])).unwrap_err();
        let needed = if len < 128 { 128 } else { LEN as u64 };
        assert_eq!(damage.fault, Fault::Short { needed, found: len as u64 });
    }
    let partition = copy_of(&Spec { segment_len: 0, ..spec() }.to_bytes());
    assert_eq!(Reader::attach(&partition).unwrap_err().fault, Fault::Field { name: "segment_len", found: 0 });
}

#[test]
fn every_commit_word_is_a_frame_the_end_or_damage() {
    let mut rng = Seeded::new(1);
    let interesting = [1, 2, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, u32::MAX, (1 << 30) + 1, (1 << 30) + 2];
    for at in (0..600).step_by(EVERY) {
        let commit = interesting.get(at).copied().unwrap_or_else(|| rng.next() as u32 >> rng.below(32));
        let (region, log) = filled();
        // The last frame's seq, so that it gets past that check.
        region.window_mut().store(log.tail() as usize, commit);
        region.window_mut().store64(log.tail() as usize + 8, log.next_seq());
        let mut reader = Reader::attach_at(&region, log.tail(), log.next_seq()).unwrap();
        let left = u64::from(LEN as u32 - 32 - log.tail());
        match reader.step() {
            Ok(Step::Frame(frame)) => assert_eq!(frame.payload.len(), commit as usize - 1),
            Ok(Step::End { next_seq }) => assert_eq!((commit, next_seq), (layout::COMMIT_END, log.next_seq())),
            Ok(Step::Open) => assert_eq!(commit, 0),
            Err(damage) => {
                let Fault::Length { claimed, left: found } = damage.fault else { panic!("{damage}") };
                assert!(claimed > left && found == left && claimed >= u64::from(commit) + 31, "{damage}");
            }
        }
        assert!(
            commit == 0
                || commit == layout::COMMIT_END
                || reader.step_verified().is_err()
                || reader.mark().next_seq() > log.next_seq()
        );
    }
}

/// Noise behind a good header, and noise all over.
#[test]
fn noise_is_read_to_an_end_without_panic() {
    for seed in seeds(if cfg!(miri) { 3 } else { 300 }) {
        println!("seed {seed}");
        let mut rng = Seeded::new(seed);
        let (region, log) = filled();
        let mut bad = bytes(&region);
        let start = rng.below(LEN);
        let count = 1 + rng.below(64.min(LEN - start));
        let noise = rng.bytes(count);
        bad[start..start + count].copy_from_slice(&noise);
        let region = copy_of(&bad);
        if let Ok((offset, _, _)) = verify(&region) {
            assert!(offset <= log.tail());
        }
        if let Ok(mut reader) = Reader::attach(&region) {
            let mut steps = 0;
            while let Ok(Step::Frame(frame)) = reader.step() {
                let mut payload = vec![0; frame.payload.len()];
                frame.payload.copy_to(&mut payload);
                steps += 1;
                assert!(steps <= LEN / 32);
            }
            // Whatever stands there, a writer goes on behind it and its frame is read.
            let mark = reader.mark();
            let mut log = Appender::resume(&region, &mark);
            if log.append(Append::default(), b"after").is_ok() {
                let step = reader.step_verified();
                assert!(matches!(step, Ok(Step::Frame(frame)) if frame.seq == mark.next_seq()), "{step:?}");
                assert!(matches!(reader.step_verified(), Ok(Step::Open)));
            }
        }
        let size = rng.below(200);
        let noise = rng.bytes(size);
        let left = rng.next() >> rng.below(64);
        for checksum in [Checksum::Frame, Checksum::CommitWord] {
            match frame::decode(&noise, rng.next() >> 1, left, 0, checksum) {
                Ok(frame::Decoded::Frame { payload, len, .. }) => assert!(payload.len() < len && len <= noise.len()),
                Ok(frame::Decoded::More { needed }) => assert!(needed > noise.len() && needed as u64 <= left),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

#[test]
fn late_fields_that_are_torn_count_as_absent() {
    let salt = 77;
    let begin = Begin { first_seq: 12345 };
    let seal = Seal { count: 9, end: 4000, min_time: 5, max_time: 6 };
    let mut whole = Spec { salt, ..spec() }.to_bytes();
    whole[80..92].copy_from_slice(&begin.to_bytes(salt));
    whole[92..128].copy_from_slice(&seal.to_bytes(salt));
    assert_eq!((Begin::parse(&whole, salt), Seal::parse(&whole, salt)), (Some(begin), Some(seal)));
    assert_eq!((Begin::parse(&whole, salt + 1), Seal::parse(&whole, salt + 1)), (None, None));
    for bit in (80 * 8..128 * 8).step_by(EVERY) {
        let mut bad = whole;
        bad[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit / 8 < 92 { (None, Some(seal)) } else { (Some(begin), None) };
        assert_eq!((Begin::parse(&bad, salt), Seal::parse(&bad, salt)), expected);
    }
    // Salt 0 has a checksum for zeros that zeros could pass for.
    assert_eq!((Begin::parse(&[0; 128], 0), Seal::parse(&[0; 128], 0)), (None, None));
}

/// S-7: a peer that scribbles over every word while we read gets us wrong data or damage, never worse.
#[test]
fn s_7_a_peer_that_scribbles_while_we_read_does_no_worse_than_damage() {
    let (region, _) = filled();
    let good = bytes(&region);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let mut rng = Seeded::new(5);
            let window = region.window_mut();
            let mut rounds = 0u32;
            while !stop.load(Ordering::Relaxed) {
                let at = rng.below(LEN / 4) * 4;
                window.store(at, (rng.next() >> rng.below(64)) as u32);
                rounds += 1;
                if rounds.is_multiple_of(3) {
                    window.copy_in(0, &good);
                }
            }
        });
        for round in 0..if cfg!(miri) { 20 } else { 20_000 } {
            let Ok(mut reader) = Reader::attach(&region) else { continue };
            for _ in 0..LEN / 32 + 1 {
                let step = if round % 2 == 0 { reader.step() } else { reader.step_verified() };
                let Ok(Step::Frame(frame)) = step else { break };
                let mut payload = vec![0; frame.payload.len()];
                frame.payload.copy_to(&mut payload);
            }
            if let Ok(mut log) = Appender::attach(&region) {
                for _ in 0..3 {
                    let _ = log.append(Append::default(), &[1; 50]);
                }
                log.end();
                let _ = log.seal();
            }
        }
        stop.store(true, Ordering::Relaxed);
        peer.join().expect("the peer");
    });
}
