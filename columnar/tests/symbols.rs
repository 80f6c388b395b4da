//! A symbol table as Parquet says what the same table says as CSV, and a hostile file is refused.

use std::sync::Arc;

use chronicle_columnar::arrow_array::{
    Array, ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use chronicle_columnar::arrow_schema::{Field, Schema};
use chronicle_columnar::parquet::arrow::ArrowWriter;
use chronicle_columnar::symbols::{MAGIC, symbols};
use chronicle_etl::symbols::{COLUMNS, ProblemKind, Table};

const CSV: &str = "\
venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_from,valid_to
binance-spot,LUNAUSDT,7,lunausdt,11,2020-08-21T10:00:00.5Z,2022-05-28
binance-spot,LUNCUSDT,7,luncusdt,12,2022-05-28,
";
/// 2020-08-21T10:00:00.5Z and 2022-05-28, µs.
const FROM: i64 = 1_598_004_000_500_000;
const TO: i64 = 1_653_696_000_000_000;

fn file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn micros(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

fn texts(values: [&str; 2]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// The table above; in another order, and with a column that is none of ours.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("tick_size", Arc::new(Int64Array::from(vec![1, 2]))),
        ("valid_to", micros(vec![Some(TO), None])),
        ("valid_from", micros(vec![Some(FROM), Some(TO)])),
        ("symbol_version_id", Arc::new(UInt64Array::from(vec![11, 12]))),
        ("symbol_code", texts(["lunausdt", "luncusdt"])),
        ("symbol_id", Arc::new(Int32Array::from(vec![7, 7]))),
        ("raw_symbol", texts(["LUNAUSDT", "LUNCUSDT"])),
        ("venue", texts(["binance-spot", "binance-spot"])),
    ]
}

fn with(name: &'static str, column: ArrayRef) -> Vec<u8> {
    file(columns().into_iter().map(|it| if it.0 == name { (name, Arc::clone(&column)) } else { it }).collect())
}

fn read(bytes: Vec<u8>) -> Result<Table, String> {
    assert!(bytes.starts_with(MAGIC));
    symbols(bytes, [1; 32]).map_err(|problems| problems.to_string())
}

#[test]
fn it_says_what_the_csv_says() {
    let csv = Table::from_csv(CSV.as_bytes()).unwrap();
    let nanos = TimestampNanosecondArray::from(vec![FROM * 1000, TO * 1000]).with_timezone("+02:00");
    let cases = [
        ("as it is", file(columns())),
        ("times of another unit and zone", with("valid_from", Arc::new(nanos))),
        ("times as text", with("valid_from", texts(["2020-08-21T12:00:00.5+02:00", "2022-05-28"]))),
        ("days", with("valid_to", Arc::new(Date32Array::from(vec![Some(19_140), None])))),
        ("9999-12-31 is open", with("valid_to", micros(vec![Some(TO), Some(253_402_214_400_000_000)]))),
    ];
    for (what, bytes) in cases {
        let table = read(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(table.versions(), csv.versions(), "{what}");
        assert_eq!(table.sha256(), [1; 32]);
    }
}

#[test]
fn what_is_wrong_is_told() {
    let naive = TimestampMicrosecondArray::from(vec![FROM, TO]);
    let told = |bytes| read(bytes).unwrap_err();
    assert_eq!(told(with("valid_from", micros(vec![None, Some(TO)]))), "row 1: valid_from is missing");
    assert_eq!(
        told(with("valid_from", Arc::new(naive))),
        "row 1: valid_from \"2020-08-21T10:00:00.500\" says no time zone: write Z behind it if it is UTC (and 1 more)"
    );
    assert_eq!(
        told(with("symbol_id", texts(["7", "seven"]))),
        "row 2: symbol_id \"seven\" is no whole number",
        "text is read as it is in CSV"
    );
    assert!(told(with("valid_to", micros(vec![None, None]))).starts_with("rows 1 and 2: symbol_id 7 of binance-spot"));
    let without = file(columns().into_iter().filter(|(name, _)| *name != "venue").collect());
    assert_eq!(told(without), "there is no column venue");
    let twice = file([columns(), vec![("venue", texts(["v", "v"]))]].concat());
    assert_eq!(told(twice), "column venue is there twice");
    let floats: ArrayRef = Arc::new(chronicle_columnar::arrow_array::Float64Array::from(vec![7.0, 7.0]));
    assert_eq!(told(with("symbol_id", floats)), "column symbol_id is Float64, not what it should be");
    assert_eq!(COLUMNS.len() + 1, columns().len());
}

/// Bytes that were flipped or cut: a table or its problems, never a panic.
#[test]
fn hostile_files_are_refused_or_read() {
    let good = file(columns());
    let mut random = 7_u64;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound
    };
    let mut refused = 0;
    for round in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + round % 3 {
            let at = below(bytes.len());
            bytes[at] ^= 1 << below(8);
        }
        if round % 5 == 0 {
            bytes.truncate(4 + below(bytes.len() - 4));
        }
        match symbols(bytes, [0; 32]) {
            Err(problems) => {
                refused += 1;
                assert!(
                    problems.list.iter().all(|problem| problem.kind != ProblemKind::Empty || problem.rows.is_empty())
                );
            }
            Ok(table) => assert!(table.versions().len() <= 2),
        }
    }
    assert!(refused > 8_000, "{refused}");
}
