//! Files that lie: about their lengths, their numbers, their columns. Whatever the bytes, reading them ends, gives only
//! records that can be read again, counts every line, and asks for no more memory than the file is long.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use chronicle_feed::{Format, LOOK_LEN, Recorded, Report, look};
use chronicle_protocol::Record;
use dbn::encode::EncodeRecord;
use dbn::encode::dbn::Encoder;
use dbn::{MboMsg, Mbp1Msg, Mbp10Msg, Metadata, SType, StatusMsg, TradeMsg};

/// Reads any bytes as a file of this format.
fn survive(format: Format, venue: &str, bytes: &[u8]) -> Report {
    let _ = look(None, bytes).unwrap();
    let mut recorded = Recorded::open(format, venue, "hostile", bytes).unwrap();
    let mut records = 0;
    while let Some(parsed) = recorded.advance().unwrap() {
        records += 1;
        Record::parse(parsed.type_id, parsed.payload).expect("what a format gives is a record");
    }
    assert!(recorded.advance().unwrap().is_none(), "the end stays the end");
    let report = recorded.into_report();
    assert_eq!(report.records, records);
    assert_eq!(report.lines, report.malformed + report.by_kind.values().sum::<u64>());
    assert_eq!(report.bytes, bytes.len() as u64, "the hash is of the whole file");
    report
}

const TABLES: [&str; 5] = [
    "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,ask,6421.5,18640
deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,bid,6421,1190
deribit,BTC-PERPETUAL,1585699200345000,1585699200455684,false,bid,6421,1e-7
",
    "exchange,symbol,timestamp,local_timestamp,id,side,price,amount
bitmex,XBTUSD,1583020803145000,1583020803307160,ccc3c1fa-212c-e8b0-1706-9b9c4f3d5ecf,sell,8531.5,2152
bitmex,XBTUSD,1583020803145000,1583020803307160,17,unknown,8531.5,2152
",
    "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount
huobi-dm-swap,BTC-USD,1588291201099000,1588291201234268,5494,8629.3,8629.2,806
huobi-dm-swap,BTC-USD,1588291201099000,1588291201234268,,,8629.2,806
",
    "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,asks[1].amount,bids[1].price,bids[1].amount
binance-futures,BTCUSDT,1598918403696000,1598918403810979,11657.08,1.714,11657.07,10.896,11657.54,5.4,,
",
    "exchange,symbol,timestamp,local_timestamp,funding_rate
bitmex,XBTUSD,1583020803145000,1583020803307160,0.0001
",
];

fn venue(table: &str) -> &str {
    table.lines().nth(1).and_then(|row| row.split(',').next()).unwrap()
}

fn tardis(bytes: &[u8], table: &str) -> Report {
    survive(Format::Tardis, venue(table), bytes)
}

#[test]
fn tables_are_whole_to_begin_with() {
    for table in TABLES {
        let report = tardis(table.as_bytes(), table);
        assert!(report.is_clean() && report.malformed == 0 && report.records > 0, "{table}: {report:?}");
    }
}

#[test]
fn tables_cut_and_changed_anywhere() {
    for table in TABLES {
        let bytes = table.as_bytes();
        for len in 0..bytes.len() {
            tardis(&bytes[..len], table);
        }
        for at in 0..bytes.len() {
            for byte in [0, b'\n', b',', b'-', b'9', b'"', 0xff, bytes[at] ^ 1] {
                let mut changed = bytes.to_vec();
                changed[at] = byte;
                tardis(&changed, table);
            }
        }
    }
}

#[test]
fn cells_that_no_record_holds() {
    let table = TABLES[0];
    let row = |price: &str, amount: &str| format!("deribit,B,1,2,true,ask,{price},{amount}\n");
    let read = |rows: &str| tardis(format!("{}\n{rows}", table.lines().next().unwrap()).as_bytes(), table);
    for (price, amount) in
        [("a", "1"), ("1", ""), ("", "1"), ("1", "-1"), ("NaN", "1"), ("0x1", "1"), ("1e", "1"), ("1", "1 ")]
    {
        let report = read(&row(price, amount));
        assert_eq!((report.malformed, report.records), (1, 0), "{price} {amount}");
    }
    for (price, amount) in [("99999999999999999999", "1"), ("1", "1e400"), ("1e-200", "1"), ("007", "1")] {
        let report = read(&row(price, amount));
        assert_eq!((report.opaque, report.broken_books, report.records), (1, 1, 2), "{price} {amount}");
    }
    // Each fits, but no scale holds both: then each has its own.
    let report = read(&[row("1e-18", "1"), row("9000000000000000000", "1")].concat());
    assert_eq!((report.opaque, report.records), (0, 2));
    // A row of another exchange, one with too few cells, one with a time that no clock has.
    for bad in ["kraken,B,1,2,true,ask,1,1\n", "deribit,B,1\n", "deribit,B,1,99999999999999999999,true,ask,1,1\n"] {
        assert_eq!(read(bad).malformed, 1, "{bad}");
    }
    let report = survive(Format::Tardis, "deribit", b"a,b,c\n1,2,3\n");
    assert_eq!((report.malformed, report.records), (2, 0), "no header");
}

/// More rows of one message than a record should have.
#[test]
fn a_message_without_end_is_several_records() {
    let mut file = TABLES[0].lines().next().unwrap().to_owned();
    let rows = (1 << 20) + 5;
    for _ in 0..rows {
        file.push_str("\nd,B,1,2,true,ask,1,1");
    }
    let report = survive(Format::Tardis, "d", file.as_bytes());
    assert_eq!((report.by_kind["incremental_book_L2"], report.records), (rows, 2));
}

/// A file of Databento's with a record of each kind that is read.
fn databento() -> Vec<u8> {
    let metadata = Metadata::builder()
        .dataset("GLBX.MDP3".to_owned())
        .schema(None)
        .start(1_700_000_000_000_000_000)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .symbols(vec!["ESH4".to_owned()])
        .build();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, &metadata).unwrap();
    let ts_recv = 1_700_000_000_000_000_123;
    let letter = |letter: u8| letter as std::ffi::c_char;
    let (action, side) = (letter(b'T'), letter(b'A'));
    encoder.encode_record(&MboMsg { ts_recv, action: letter(b'A'), side, price: 1, ..MboMsg::default() }).unwrap();
    encoder.encode_record(&TradeMsg { ts_recv, action, side, price: 5, ..TradeMsg::default() }).unwrap();
    encoder.encode_record(&Mbp1Msg { ts_recv, action, side, price: 5, ..Mbp1Msg::default() }).unwrap();
    encoder.encode_record(&Mbp10Msg { ts_recv, ..Mbp10Msg::default() }).unwrap();
    encoder.encode_record(&StatusMsg { ts_recv, ..StatusMsg::default() }).unwrap();
    bytes
}

fn records(bytes: &[u8]) -> Report {
    survive(Format::Dbn, "glbx-mdp3", bytes)
}

#[test]
fn a_file_of_all_kinds() {
    let report = records(&databento());
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.lines, report.records, report.unmapped, report.opaque), (5, 6, 5, 1));
    assert_eq!(look(None, &databento()[..]).unwrap().venue.as_deref(), Some("glbx-mdp3"));
}

#[test]
fn records_cut_and_changed_anywhere() {
    let whole = databento();
    for len in 0..whole.len() {
        let report = records(&whole[..len]);
        // At the end of a record nobody can tell.
        assert!(report.truncated_at.is_some() || (report.is_clean() && len > 100), "{len}: {report:?}");
    }
    for at in 0..whole.len() {
        for byte in [0, 1, 0x7f, 0xff, whole[at] ^ 1, whole[at].wrapping_add(1)] {
            let mut changed = whole.clone();
            changed[at] = byte;
            records(&changed);
        }
    }
}

/// The decoder underneath trusts lengths; what stands before it does not.
#[test]
fn lengths_that_lie() {
    let whole = databento();
    let metadata_len = u32::from_le_bytes(whole[4..8].try_into().unwrap()) as usize;
    let first = 8 + metadata_len;
    for (at, value) in [(4, u32::MAX), (4, 1 << 30), (4, 0), (4, 99), (4, metadata_len as u32 - 1)] {
        let mut changed = whole.clone();
        changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let report = records(&changed);
        assert!(!report.is_clean() || report.unmapped > 0, "{value}: {report:?}");
    }
    for words in [0, 1, 3, 5, 13, 15, 255] {
        let mut changed = whole.clone();
        changed[first] = words;
        let report = records(&changed);
        let cut = report.corrupt_at.or(report.truncated_at).unwrap_or_else(|| panic!("{words} words are no record"));
        assert_eq!(cut.line, 1);
    }
    // A record of a kind that has more bytes than it says: kept as it is.
    let mut short = whole.clone();
    short[first] = 4;
    records(&short);
    for version in [0, 4, 9, 255] {
        let mut changed = whole.clone();
        changed[3] = version;
        let report = records(&changed);
        assert!(report.corrupt_at.is_some_and(|cut| cut.why.contains("1 to 3")), "version {version}");
    }
    // Lists of symbols that claim to be longer than the metadata.
    for at in 108..first - 4 {
        let mut changed = whole.clone();
        changed[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        records(&changed);
    }
}

/// Metadata with mappings, as the real ones have.
#[test]
fn real_metadata_changed_anywhere() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/databento");
    if !dir.is_dir() {
        eprintln!("skipped: no recordings at {}", dir.display());
        return;
    }
    let packed = File::open(dir.join("futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst")).unwrap();
    let mut whole = Vec::new();
    chronicle_feed::unpack(packed).read_to_end(&mut whole).unwrap();
    let some = &whole[..8 + 198 + 3 * 48];
    assert_eq!((records(some).lines, records(some).unmapped), (3, 0));
    for at in 0..some.len() {
        for byte in [0, 1, 0x7f, 0xff, some[at] ^ 4] {
            let mut changed = some.to_vec();
            changed[at] = byte;
            records(&changed);
        }
    }
}

#[test]
fn packed_by_zstd_and_damaged() {
    let whole = TABLES[0].repeat(40);
    let packed = zstd::encode_all(whole.as_bytes(), 3).unwrap();
    let venue = venue(TABLES[0]);
    let report = survive(Format::Tardis, venue, &packed);
    assert!(report.is_clean() && report.lines == 160, "{report:?}");
    let twice = survive(Format::Tardis, venue, &[&packed[..], &packed].concat());
    assert!(twice.is_clean() && twice.lines == 320, "frame after frame");
    for len in 5..packed.len() {
        let report = survive(Format::Tardis, venue, &packed[..len]);
        assert!(report.truncated_at.is_some(), "cut at {len}: {report:?}");
    }
    for at in 4..packed.len() {
        let mut changed = packed.clone();
        changed[at] ^= 0x10;
        survive(Format::Tardis, venue, &changed);
    }
    assert!(survive(Format::Tardis, venue, &[&packed[..], b"more"].concat()).corrupt_at.is_some());
    assert!(LOOK_LEN > whole.len());
}
