//! A payload is a stranger's word. Whatever its bytes are, reading them must end in a record or in a named refusal,
//! never in a panic or in levels that lie outside the payload; and a record that is accepted must be the only spelling
//! of itself, or two files with the same content could differ.

mod samples;

use chronicle_protocol::{Malformed, Record};
use samples::{bytes, samples};

/// SplitMix64: small, and the seed is all there is to print.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Accepted bytes are given back byte for byte; everything in the record can be looked at.
fn check(type_id: u16, payload: &[u8]) -> Result<(), Malformed> {
    let record = Record::parse(type_id, payload)?;
    let mut again = vec![0; record.encoded_len()];
    assert_eq!(record.encode(&mut again), Ok(payload.len()));
    assert_eq!(again, payload);
    if let Record::BookDelta(delta) = &record {
        for level in delta.bids.iter().chain(delta.asks) {
            let _ =
                (delta.head.price.decimal(level.price()).to_string(), delta.head.qty.decimal(level.qty()).to_string());
        }
    }
    assert!(!format!("{record:?}").is_empty());
    Ok(())
}

#[test]
fn every_cut_and_every_longer_payload_is_refused() {
    for (name, record, hex) in samples() {
        let golden = bytes(hex);
        let is_opaque = matches!(record, Record::Opaque(_));
        let fixed = 32 + record.symbol().len();
        for len in 0..golden.len() {
            let result = check(record.type_id(), &golden[..len]);
            // An opaque record's bytes are all the rest, so a cut within them is another record.
            assert_eq!(result.is_ok(), is_opaque && len >= fixed, "{name} cut to {len}");
        }
        let mut longer = golden;
        longer.push(0);
        assert_eq!(check(record.type_id(), &longer).is_ok(), is_opaque, "{name}");
    }
}

#[test]
fn counts_beyond_the_payload_are_refused() {
    let (_, record, hex) = samples().swap_remove(0);
    for (offset, count) in [(56, u32::MAX), (60, u32::MAX), (56, 3), (56, 0), (60, 0x1000_0000)] {
        let mut payload = bytes(hex);
        payload[offset..offset + 4].copy_from_slice(&count.to_le_bytes());
        let refused = check(record.type_id(), &payload).unwrap_err();
        assert!(matches!(refused, Malformed::Length { len: 119, .. }), "{offset} {count}: {refused}");
    }
    // Both at once, the sum exact again: other levels, the same length. That is another record, and fine.
    let mut payload = bytes(hex);
    payload[56] = 1;
    payload[60] = 2;
    assert_eq!(check(record.type_id(), &payload), Ok(()));
}

#[test]
fn refusals_name_what_is_wrong() {
    let with = |sample: usize, offset: usize, value: u8| {
        let (_, record, hex) = samples().swap_remove(sample);
        let mut payload = bytes(hex);
        payload[offset] = value;
        check(record.type_id(), &payload).unwrap_err().to_string()
    };
    let (delta, futures_trade, quote, gap, opaque) = (0, 5, 6, 7, 8);
    assert_eq!(with(delta, 26, 4), "record: unknown bits at offset 26, stored 0x4, known 0x3");
    assert_eq!(with(delta, 28, 2), "record: unknown bits at offset 28, stored 0x2, known 0x1");
    assert_eq!(with(delta, 48, 1), "record: field at offset 48 is not zero");
    assert_eq!(with(delta, 27, 8), "record of type 1: 119 bytes, its counts say 120");
    assert_eq!(with(delta, 114, 0xff), "record: symbol at offset 112 is not UTF-8 after 2 bytes");
    assert_eq!(with(futures_trade, 28, 0b1000), "record: unknown code 4 at offset 28");
    assert_eq!(with(futures_trade, 28, 0b10_0000), "record: unknown bits at offset 28, stored 0x20, known 0xffffffdf");
    assert_eq!(with(quote, 31, 0x80), "record: unknown bits at offset 28, stored 0x80000000, known 0x0");
    assert_eq!(with(gap, 28, 0), "record: unknown code 0 at offset 28");
    assert_eq!(with(gap, 24, 1), "record: field at offset 24 is not zero");
    assert_eq!(with(gap, 25, 1), "record: field at offset 25 is not zero");
    assert_eq!(with(opaque, 26, 1), "record: field at offset 26 is not zero");
    assert_eq!(with(opaque, 28, 6), "record: unknown code 6 at offset 28");
    assert_eq!(with(opaque, 27, 9), "record of type 6: 36 bytes, its counts say 41");
    let (order, cleared, orders, text_trade, counted) = (12, 13, 14, 16, 18);
    assert_eq!(with(order, 28, 0x28), "record: unknown code 0 at offset 28");
    assert_eq!(with(order, 28, 0x39), "record: unknown code 3 at offset 28");
    assert_eq!(with(order, 28, 0x69), "record: unknown bits at offset 28, stored 0x2869, known 0xffff3f");
    assert_eq!(with(cleared, 40, 1), "record: field at offset 40 is not zero");
    assert_eq!(with(orders, 28, 4), "record: unknown bits at offset 28, stored 0x4, known 0x3");
    assert_eq!(with(orders, 48, 3), "record of type 9: 129 bytes, its counts say 153");
    assert_eq!(with(text_trade, 28, 3), "record: unknown code 3 at offset 28");
    assert_eq!(with(text_trade, 29, 255), "record of type 10: 70 bytes, its counts say 317");
    assert_eq!(with(text_trade, 29, 9), "record of type 10: 70 bytes, its counts say 71");
    assert_eq!(with(text_trade, 58, 0xff), "record: id at offset 56 is not UTF-8 after 2 bytes");
    assert_eq!(with(counted, 40, 2), "record of type 11: 119 bytes, its counts say 139");
    let no_symbol = {
        let mut payload = bytes(samples()[quote].2);
        payload.pop();
        payload[27] = 0;
        check(4, &payload).unwrap_err().to_string()
    };
    assert_eq!(no_symbol, "record of type 4: no symbol");
    assert_eq!(check(0, &[0; 64]).unwrap_err().to_string(), "record: no record has type id 0");
    assert_eq!(check(12, &[]).unwrap_err().to_string(), "record: no record has type id 12");
    assert_eq!(check(3, &[0; 55]).unwrap_err().to_string(), "record of type 3: 55 bytes, its fixed part needs 56");
}

#[test]
fn random_bytes_never_panic_and_have_one_spelling() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let samples = samples();
    let mut accepted = 0;
    for _ in 0..200_000 {
        let (_, record, hex) = &samples[random.below(samples.len())];
        let mut payload = bytes(hex);
        for _ in 0..=random.below(3) {
            if payload.is_empty() {
                break;
            }
            let at = random.below(payload.len());
            match random.below(4) {
                0 => payload[at] = random.next() as u8,
                1 => payload[at] ^= 1 << random.below(8),
                2 => payload.truncate(at),
                _ => payload.insert(at, random.next() as u8),
            }
        }
        let type_id = if random.below(4) == 0 { random.below(13) as u16 } else { record.type_id() };
        accepted += usize::from(check(type_id, &payload).is_ok());
    }
    // Most bytes of a record are free (times, ids, mantissas): if hardly anything is accepted, the test tests nothing.
    assert!(accepted > 20_000, "{accepted} accepted");
}
