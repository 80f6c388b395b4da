//! Peers that write anything anywhere into a broadcast ring: at worst damage, for as long as the bytes are bad.
//!
//! No call may panic, run on or allocate. What a reader is given may then be wrong, but never longer than what it gave
//! to hold it, and its own seq and position never go back.
#![cfg(not(loom))]

mod seeded;

use chronicle_core::{
    Fault, HeapRegion, Region, RegionMut,
    ring::{
        self,
        broadcast::{
            self, AttachError, BLOCKS, DATA, INTENT, Reader, Received, Spec, Start, WAKE_MODE, Writer, format,
        },
    },
};
use seeded::{Seeded, seeds};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Where the peers write. Miri does not model accesses of different sizes to the same bytes: the 64-bit word is left out.
const FROM: usize = if cfg!(miri) { INTENT + 8 } else { INTENT };

fn ring(capacity: usize) -> HeapRegion {
    let region = HeapRegion::new(broadcast::len(capacity).unwrap());
    format(&region, &Spec { capacity, ..Spec::default() }).unwrap();
    region
}

/// A word that is more likely than most to be believed.
fn plausible(random: &mut Seeded, capacity: usize) -> u32 {
    match random.below(6) {
        0 => 0,
        1 => u32::MAX,
        2 => random.below(capacity) as u32,
        3 => random.below(capacity) as u32 & !15,
        4 => 1 << random.below(32),
        _ => random.next() as u32,
    }
}

fn scribble(region: &HeapRegion, random: &mut Seeded, from: usize) {
    let capacity = region.len() - DATA;
    let at = match random.below(4) {
        0 => INTENT + random.below(2) * 4,
        1 => BLOCKS + random.below(128) * 4,
        _ => from + random.below((region.len() - from) / 4) * 4,
    };
    // An unknown mode ends every attempt to attach, and there are more interesting words.
    if at != WAKE_MODE {
        region.window_mut().store(at.max(from), plausible(random, capacity));
    }
}

/// One call; what it says must keep the reader's own promises.
fn look(reader: &mut Reader<impl Region>, buffer: &mut [u8], skip: bool) -> bool {
    let due = reader.next_seq();
    let received = if skip { reader.skip() } else { reader.receive(buffer) };
    match received {
        Ok(Received::Message { seq, len }) => {
            assert!(seq == due && (skip || len <= buffer.len()));
            assert_eq!(reader.next_seq(), due + 1);
        }
        Ok(Received::Lapped { lost, resume_seq }) => assert!(lost > 0 && resume_seq == due + lost),
        Ok(Received::Unfit { seq, len }) => assert!(seq == due && len > buffer.len()),
        Ok(Received::Empty) => {}
        Err(damage) => {
            assert_eq!(reader.next_seq(), due);
            assert!(!damage.to_string().is_empty());
            return false;
        }
    }
    true
}

#[test]
fn random_words_between_operations_do_no_harm() {
    for seed in seeds(if cfg!(miri) { 1 } else { 60 }) {
        println!("CHRONICLE_SEED={seed}");
        let mut random = Seeded::new(seed);
        let region = ring(64 << random.below(6));
        let mut writer = Writer::attach(&region).unwrap();
        let mut readers = [Start::Oldest, Start::Newest].map(|start| Reader::attach(&region, start).unwrap());
        let mut buffer = vec![0; 64];
        for _ in 0..if cfg!(miri) { 200 } else { 10_000 } {
            match random.below(10) {
                0..=2 => {
                    let len = random.below(writer.max_payload() + 1);
                    writer.push(&random.bytes(len)).expect("nothing that lies in the region stops a writer");
                }
                3..=5 => {
                    let which = random.below(2);
                    _ = readers[which].is_ready();
                    _ = readers[which].lag();
                    look(&mut readers[which], &mut buffer, random.below(5) == 0);
                }
                6 => {
                    let start = [Start::Oldest, Start::Newest, Start::Seq(random.below(1000) as u64)][random.below(3)];
                    if let Ok(reader) = Reader::attach(&region, start) {
                        readers[1] = reader;
                    }
                }
                7 if random.below(4) == 0 => {
                    if let Ok(next) = Writer::attach(&region) {
                        writer = next;
                    }
                }
                // A header that is not whole ends every attempt to attach: `every_flipped_bit…` does that.
                _ => scribble(&region, &mut random, FROM),
            }
        }
    }
}

#[test]
fn a_peer_that_scribbles_all_the_time_does_no_harm() {
    let region = Arc::new(ring(1024));
    let stop = Arc::new(AtomicBool::new(false));
    let mut writer = Writer::attach(region.clone()).unwrap();
    let mut reader = Reader::attach(region.clone(), Start::Oldest).unwrap();
    let peer = {
        let (region, stop, mut random) = (region.clone(), stop.clone(), Seeded::new(5));
        std::thread::spawn(move || {
            let mut scribbled = 0u64;
            while !stop.load(Ordering::Relaxed) || scribbled < 1000 {
                scribble(&region, &mut random, FROM);
                scribbled += 1;
                if scribbled.is_multiple_of(16) {
                    std::thread::yield_now();
                }
            }
            scribbled
        })
    };
    let until = Instant::now() + Duration::from_millis(if cfg!(miri) { 3000 } else { 300 });
    let (mut buffer, mut looks) = ([0; 256], 0u64);
    let [mut damaged, mut unattached, mut received] = [0u64; 3];
    while Instant::now() < until && !(cfg!(miri) && looks > 500) {
        writer.push(&[1; 24]).unwrap();
        let due = reader.next_seq();
        damaged += u64::from(!look(&mut reader, &mut buffer, false));
        received += u64::from(reader.next_seq() == due + 1);
        looks += 1;
        match Reader::attach(region.clone(), Start::Oldest) {
            Ok(next) => reader = next,
            Err(_) => unattached += 1,
        }
        if let Ok(next) = Writer::attach(region.clone()) {
            writer = next;
        }
        if looks.is_multiple_of(16) {
            std::thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let scribbled = peer.join().unwrap();
    println!(
        "{scribbled} words, {looks} looks: {received} received, {damaged} found damage, {unattached} attempts to attach failed"
    );
}

/// Every word of a quiet ring, each bit: a reader finds damage, or what it reads is in order.
#[test]
fn every_flipped_bit_is_found_or_changes_no_more_than_data() {
    let region = ring(256);
    let mut writer = Writer::attach(&region).unwrap();
    for seq in 0..40u64 {
        writer.push(&seq.to_le_bytes()).unwrap();
    }
    let window = region.window_mut();
    for at in (0..region.len()).step_by(if cfg!(miri) { 36 } else { 4 }) {
        if at == INTENT && cfg!(miri) {
            continue;
        }
        for bit in (0..32).step_by(if cfg!(miri) { 7 } else { 1 }) {
            let good = window.load(at);
            window.store(at, good ^ 1 << bit);
            for start in [Start::Oldest, Start::Newest, Start::Seq(38)] {
                if let Ok(mut reader) = Reader::attach(&region, start) {
                    for _ in 0..20 {
                        look(&mut reader, &mut [0; 64], false);
                    }
                }
            }
            _ = Writer::attach(&region);
            window.store(at, good);
        }
    }
    // Attaching repairs the block table, from frames that were bad then: the ring is whole again one lap later.
    let mut reader = Reader::attach(&region, Start::Newest).unwrap();
    assert_eq!(writer.push(b"whole"), Ok(41));
    assert!(look(&mut reader, &mut [0; 64], false));
}

#[test]
#[cfg_attr(miri, ignore = "stores to half of the 64-bit word")]
fn damage_says_where_and_what() {
    let region = ring(256);
    let mut writer = Writer::attach(&region).unwrap();
    for _ in 0..3 {
        writer.push(b"12345678").unwrap();
    }
    let window = region.window_mut();
    let fault = |start| match Reader::attach(&region, start) {
        Ok(mut reader) => reader.receive(&mut [0; 64]).unwrap_err(),
        Err(AttachError::Damage(damage)) => damage,
        Err(other) => panic!("{other}"),
    };
    window.store(DATA, 57 + 256);
    assert_eq!(
        (fault(Start::Oldest).offset, fault(Start::Oldest).fault),
        (DATA as u64, Fault::Length { claimed: 57 + 256 + 7, left: 256 })
    );
    window.store(DATA, 9);
    window.store(DATA + 4, 2);
    assert_eq!(fault(Start::Oldest).fault, Fault::Seq { expected: 1, found: 2 });
    window.store(DATA + 4, 1);
    window.store(DATA, u32::MAX);
    assert!(matches!(fault(Start::Oldest).fault, Fault::Length { .. }), "a pad of a whole lap");
    window.store(DATA, 9);
    let intent = window.load(INTENT);
    window.store(INTENT, intent + 8);
    assert_eq!(fault(Start::Oldest).fault, Fault::Field { name: "intent", found: u64::from(intent) + 8 });
    window.store(INTENT, intent);
    let mut reader = Reader::attach(&region, Start::Oldest).unwrap();
    assert_eq!(reader.receive(&mut [0; 64]), Ok(Received::Message { seq: 1, len: 8 }));

    assert!(ring::header(&region).is_ok());
    window.store(16, 512);
    assert!(matches!(fault(Start::Oldest).fault, Fault::Crc { .. }));
}
