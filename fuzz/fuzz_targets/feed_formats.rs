//! Any bytes as a file of each format, told by its content or not: reading ends, every record can be read again, every line
//! or record is counted.
#![no_main]

use chronicle_feed::{Format, Recorded, look};
use chronicle_fuzz::choices;
use chronicle_protocol::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, file) = choices(data);
    let told = look(None, file).expect("bytes in memory can be read");
    let format = match choice % 4 {
        0 => Format::Tardis,
        1 => Format::Dbn,
        2 => Format::Hyperliquid,
        _ => told.format.unwrap_or(Format::Tardis),
    };
    let venue = look(Some(format), file).ok().and_then(|look| look.venue).unwrap_or_else(|| "okx".to_owned());
    // The messages of a venue that a host names can be read, or there is none.
    let Ok(mut recorded) = Recorded::open(format, &venue, "file", file) else { return };
    let mut records = 0;
    while let Some(parsed) = recorded.advance().expect("bytes in memory can be read") {
        Record::parse(parsed.type_id, parsed.payload).expect("what a format gives is a record");
        records += 1;
    }
    let report = recorded.into_report();
    assert_eq!(report.records, records);
    assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    assert_eq!(report.bytes, file.len() as u64);
});
