//! A payload of any type: what is accepted is written again byte for byte.
#![no_main]

use chronicle_fuzz::choices;
use chronicle_protocol::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, payload) = choices(data);
    let Ok(record) = Record::parse(u16::from(choice) % 13, payload) else { return };
    let mut again = vec![0xa5; payload.len()];
    let len = record.encode(&mut again).expect("what was parsed can be written");
    assert_eq!(&again[..len], payload);
    let _ = format!("{record:?}");
});
