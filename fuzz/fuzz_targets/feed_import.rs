//! A recording of any bytes: every line is a record that parses, or is counted.
#![no_main]

use chronicle_feed::{Venue, import};
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
    }
});
