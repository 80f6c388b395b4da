//! What a table gives out is what readers of Arrow and Parquet read: the venue's numbers, digit for digit, its times, and
//! nothing that was not applied.
#![cfg(target_os = "linux")]

use std::fs;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, TimestampNanosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use chronicle_columnar::{ArrowStream, Error, ParquetFile, Request, Scales, Sink, Table, What, arrow_array};
use chronicle_core::Append;
use chronicle_etl::refinery::NOT_APPLIED;
use chronicle_platform_linux::Linux;
use chronicle_protocol::{Head, OrderType, Quote, Record, Scale, Trade};
use chronicle_storage::partition::PartitionWriter;
use chronicle_storage::root::{Date, PartitionId, Root, Stream, Tier};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const NS: u64 = 1_723_075_200_000_000_000;
/// More than one batch of them.
const COUNT: u64 = 20_000;

fn head(at: u64, price: Scale) -> Head {
    let time = NS + at * 1_000;
    Head { exchange_ns: time, ingest_ns: time - 7, transact_ns: 0, price, qty: Scale::trimmed(3) }
}

fn write(root: &Root, stream: Stream, records: impl Iterator<Item = (u16, Record<'static>)>) {
    let id = PartitionId::new("v".parse().unwrap(), "s".parse().unwrap(), Date::of_ns(NS), stream);
    let mut writer = PartitionWriter::create(&Linux, &root.partition(Tier::Warm, &id), &id).unwrap();
    for (flags, record) in records {
        let mut payload = vec![0; record.encoded_len()];
        record.encode(&mut payload).unwrap();
        let append = Append { time_ns: record.head().exchange_ns, type_id: record.type_id(), flags };
        writer.append(append, &payload).unwrap();
    }
    writer.seal().unwrap();
}

fn trade(at: u64) -> Record<'static> {
    // Every thousandth has one decimal more than the others.
    let (price, digits) = if at % 1_000 == 999 { (6_180_030 + at as i64, 2) } else { (618_003, 1) };
    Record::Trade(Trade {
        head: head(at, Scale::fixed(digits)),
        trade_id: at,
        price,
        qty: 5,
        buyer_is_maker: at.is_multiple_of(2),
        order_type: at.is_multiple_of(3).then_some(OrderType::Market),
        legacy_m: None,
        symbol: "S",
    })
}

fn request(what: What, scales: Option<Scales>) -> Request {
    let (venue, symbol, date) = ("v".parse().unwrap(), "s".parse().unwrap(), Date::of_ns(NS));
    Request { venue, symbol, dates: date..=date, what, scales }
}

/// A table through both formats, which must say the same.
fn batches(root: &Root, what: What) -> Vec<RecordBatch> {
    let table = Table::open(&Linux, root, request(what, None)).unwrap();
    let mut stream = Vec::new();
    let mut sink = ArrowStream::new(&mut stream, table.schema()).unwrap();
    let count = table.write(&mut sink).unwrap();
    sink.close().unwrap();
    let reader = StreamReader::try_new(&stream[..], None).unwrap();
    let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, count);
    assert!(read.iter().all(|batch| batch.num_rows() <= 8192), "a batch has a bounded size");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.parquet");
    let mut sink = ParquetFile::new(fs::File::create(&path).unwrap(), table.schema().clone()).unwrap();
    assert_eq!(table.write(&mut sink).unwrap(), count);
    sink.close().unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
    let mut left: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    for batch in &read {
        // Parquet's readers cut batches elsewhere.
        let mut at = 0;
        while at < batch.num_rows() {
            let first = left.remove(0);
            let rows = first.num_rows().min(batch.num_rows() - at);
            assert_eq!(first.slice(0, rows).columns(), batch.slice(at, rows).columns());
            at += rows;
            if rows < first.num_rows() {
                left.insert(0, first.slice(rows, first.num_rows() - rows));
            }
        }
    }
    assert!(left.is_empty());
    read
}

#[test]
fn trades_are_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    // One that the venue sent again is in the archive and not in the table.
    let again = (NOT_APPLIED, trade(3));
    write(&root, Stream::Trades, (0..COUNT).map(|at| (0, trade(at))).chain([again]));
    let mut at = 0;
    for batch in batches(&root, What::Trades) {
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let (price, qty) = (column("price"), column("qty"));
        let price = price.as_primitive::<Decimal128Type>();
        assert_eq!((price.precision(), price.scale()), (38, 2), "the finest that any record has");
        for row in 0..batch.num_rows() {
            let Record::Trade(expected) = trade(at) else { unreachable!() };
            let text = expected.head.price.decimal(expected.price).to_string();
            let told = price.value_as_string(row);
            let whole = if text.len() - text.find('.').unwrap() == 2 { format!("{text}0") } else { text };
            assert_eq!(told, whole);
            assert_eq!(qty.as_primitive::<Decimal128Type>().value_as_string(row), "0.005");
            let time = column("time");
            assert_eq!(time.as_primitive::<TimestampNanosecondType>().value(row) as u64, expected.head.exchange_ns);
            let ingest = column("ingest_time");
            assert_eq!(ingest.as_primitive::<TimestampNanosecondType>().value(row) as u64, expected.head.ingest_ns);
            assert!(column("transact_time").is_null(row), "0 is no time");
            assert_eq!(column("trade_id").as_string::<i32>().value(row), at.to_string());
            let aggressor = if expected.buyer_is_maker { "sell" } else { "buy" };
            assert_eq!(column("aggressor").as_string::<i32>().value(row), aggressor);
            let order_type = column("order_type");
            let told = (!order_type.is_null(row)).then(|| order_type.as_string::<i32>().value(row).to_owned());
            assert_eq!(told.as_deref(), expected.order_type.map(OrderType::as_str));
            at += 1;
        }
    }
    assert_eq!(at, COUNT);
}

#[test]
fn quotes_are_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    let quote = |at: u64| {
        Record::Quote(Quote {
            head: head(at, Scale::fixed(2)),
            update_id: at,
            bid_price: 100,
            bid_qty: 1,
            ask_price: 101 + at as i64,
            ask_qty: 2,
            symbol: "S",
        })
    };
    write(&root, Stream::Quotes, (0..10).map(|at| (0, quote(at))));
    let read = batches(&root, What::Quotes);
    let text = |name: &str, row: usize| {
        read[0].column_by_name(name).unwrap().as_primitive::<Decimal128Type>().value_as_string(row)
    };
    assert_eq!(
        ["bid_price", "bid_qty", "ask_price", "ask_qty"].map(|name| text(name, 9)),
        ["1.00", "0.001", "1.10", "0.002"]
    );
}

#[test]
fn a_number_is_never_rounded_to_a_scale_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    write(&root, Stream::Trades, (0..COUNT).map(|at| (0, trade(at))));
    let asked = Some(Scales { price: 1, qty: 3 });
    let table = Table::open(&Linux, &root, request(What::Trades, asked)).unwrap();
    let mut sink = ArrowStream::new(Vec::new(), table.schema()).unwrap();
    let refused = table.write(&mut sink).unwrap_err();
    assert!(matches!(refused, Error::Misfit { .. }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("trades.q: frame 1000: number 61810.29 does not fit a column with 1 of 38"), "{said}");
}
