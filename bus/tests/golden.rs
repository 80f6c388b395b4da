//! The bytes of `LEASE`, `READY` and `owner.lock`, as another implementation would write them.
//!
//! The files were made from `docs/format.md` by a program in another language. If one of these tests fails, the format has
//! changed: give it a new version there, and keep reading the old one.

use chronicle_bus::{
    Lease, Ready,
    owner::{self, Last},
};
use std::time::Duration;

const LEASE: &[u8] = include_bytes!("golden/lease-v1.bin");
const READY: &[u8] = include_bytes!("golden/ready-v1.bin");
const OWNER: &[u8] = include_bytes!("golden/owner-v1.bin");

const BOOT_ID: u128 = u128::from_le_bytes([16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]);
const OWNER_ID: u128 = u128::from_le_bytes([32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47]);

fn lease(count: u64) -> Lease {
    Lease {
        owner: OWNER_ID,
        epoch: 7,
        pid: 4242,
        started: 99,
        boot_id: BOOT_ID,
        begun_ns: 1_700_000_000_000_000_000,
        ttl: Duration::from_secs(3),
        count,
        renewed_ns: 4_000_000_000 + count * 1_000_000_000,
        wall_ns: 1_699_999_999_000_000_000 + count * 1_000_000_000,
    }
}

#[test]
fn a_lease() {
    assert_eq!(Lease::parse(LEASE), Ok(lease(2)));
    // Its first renewal is what a registration writes; the second one stands in the other slot.
    let mut first = LEASE.to_vec();
    first[128..192].fill(0);
    assert_eq!(lease(1).to_bytes(), first[..]);
}

#[test]
fn a_ready() {
    let ready = Ready { owner: OWNER_ID, epoch: 7, boot_id: BOOT_ID, ready_ns: 1_700_000_000_500_000_000 };
    assert_eq!(Ready::parse(READY), Ok(ready));
    assert_eq!(ready.to_bytes(), READY);
}

#[test]
fn an_owner_lock() {
    let first = Last::next(None, OWNER_ID);
    let mut bytes = vec![0; owner::OWNER_LEN];
    for last in [first, first.leaving()] {
        let (at, slot) = last.to_bytes();
        bytes[at..at + slot.len()].copy_from_slice(&slot);
    }
    assert_eq!(bytes, OWNER);
    assert_eq!(Last::parse(OWNER), Ok(Some(first.leaving())));
}

/// `docs/format.md` shows the bytes of the lease, and each line of it is what the file holds there.
#[test]
fn the_page_shows_these_bytes() {
    let text = include_str!("../../docs/format.md");
    let dump = &text[text.find("<!-- golden: lease-v1.bin -->").expect("the marked example")..];
    let lines = dump.lines().skip(2).take_while(|line| *line != "```");
    let mut count = 0;
    for line in lines {
        let mut words = line.split_whitespace();
        let at: usize = words.next().and_then(|at| at.parse().ok()).expect("an offset");
        let bytes: Vec<u8> = words.take(16).map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
        assert_eq!(bytes, LEASE[at..at + 16], "line at {at}");
        count += 1;
    }
    assert_eq!(count, 13);
}
