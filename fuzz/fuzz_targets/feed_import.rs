//! A recording of any bytes: every line is records that parse, or is counted. And each of its lines as a message that came
//! over a connection: read, followed by its ids, compared with what the venue says about its book.
#![no_main]

use chronicle_feed::{Scratch, Venue, continuity::Follower, import, witness::Witness};
use chronicle_fuzz::choices;
use chronicle_protocol::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, file) = choices(data);
    let venue = Venue::ALL[usize::from(choice) % Venue::ALL.len()];
    let mut records = 0;
    let outcome = import(venue, "recording", file, |parsed| {
        Record::parse(parsed.type_id, parsed.payload).expect("what a feed writes is a record");
        records += 1;
        Ok::<(), std::convert::Infallible>(())
    });
    if let Ok(report) = outcome {
        assert_eq!(report.records, records);
        assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    }
    let (mut scratch, mut follower, mut witness) = (Scratch::default(), Follower::new(venue), Witness::new(venue));
    let mut payload = Vec::new();
    for text in file.split(|byte| *byte == b'\n').filter_map(|line| core::str::from_utf8(line).ok()) {
        let Ok(message) = venue.read(text, 1_700_000_000_000_000_000, &mut scratch) else { continue };
        assert!(message.items().len() > 0 && message.text() == text);
        for item in message.items() {
            // Of a fetched snapshot only the request knows whose it is.
            let record = if item.record.symbol().is_empty() { item.record.with_symbol("X") } else { item.record };
            payload.resize(record.encoded_len(), 0);
            let len = record.encode(&mut payload).expect("a dialect gives what a record holds");
            let again = Record::parse(record.type_id(), &payload[..len]).expect("what is written can be read");
            assert_eq!(again, record);
            follower.see(&item.record);
            if let Some(witness) = &mut witness {
                witness.see(&item);
            }
        }
    }
});
