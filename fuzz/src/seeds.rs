//! Writes the seed corpora anew, from the encoders that ship: `cargo run --bin seeds`, in this folder.
//!
//! Few and small: a fuzzer needs an example of each shape, not data. Each file's first byte is the target's choice.

use chronicle_core::wal::{self, Carry, Config, Kind, Machine, Op, Outcome, Start, SyncBy};
use chronicle_core::{Append, Appender, Checksum, HeapRegion, Region, Spec, format, store_seal};
use chronicle_feed::{Venue, import};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_protocol::{
    BookOrder, BookSnapshot, CountedSnapshot, Head, Level, OrderAction, OrderCount, OrderEvent, OrdersSnapshot, Record,
    RecordFlags, Scale, Side, SnapshotSource, TextTrade,
};
use chronicle_storage::{
    archive,
    partition::PartitionWriter,
    root::{Date, Name, PartitionId, Stream},
};
use std::{fs, path::Path};

fn put(target: &str, name: &str, choice: u8, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).expect("the corpus' folder");
    let mut all = vec![choice];
    all.extend_from_slice(bytes);
    fs::write(dir.join(name), all).expect("a seed");
}

fn segment(checksum: Checksum, sealed: bool) -> Vec<u8> {
    let region = HeapRegion::new(512);
    let spec = Spec { salt: 0x1234_5678, segment_id: 1, segment_len: 512, checksum, ..Spec::default() };
    format(&region, &spec).expect("512 bytes are a segment");
    let mut log = Appender::attach(&region).expect("just formatted");
    for (len, time_ns) in [(0, 5), (7, 3), (33, 9)] {
        log.append(Append { time_ns, type_id: 1, flags: 0 }, &vec![0x5a; len]).expect("room");
    }
    if sealed {
        log.end();
        store_seal(&region, spec.salt, log.seal());
    }
    let mut bytes = vec![0; region.len()];
    region.window().copy_out(0, &mut bytes);
    bytes
}

/// Records that no line of text becomes.
fn orders() -> [(&'static str, Record<'static>); 4] {
    const ORDERS: [BookOrder; 2] = [BookOrder::new(1, 4_799, 2), BookOrder::new(2, 4_800, 3)];
    const LEVELS: [Level; 2] = [Level::new(4_799, 2), Level::new(4_800, 3)];
    const COUNTS: [OrderCount; 2] = [OrderCount::new(1), OrderCount::new(2)];
    let head = Head { price: Scale::trimmed(9), exchange_ns: 5, ingest_ns: 6, ..Head::default() };
    let (bids, asks) = ORDERS.split_at(1);
    let (source, flags, symbol) = (SnapshotSource::Venue, RecordFlags::LAST, "ESH4");
    let (action, side) = (OrderAction::Modify, Some(Side::Ask));
    let event = OrderEvent {
        head,
        action,
        side,
        order_id: 2,
        price: Some(4_800),
        qty: 3,
        sequence: 7,
        flags,
        channel: 1,
        symbol,
    };
    let orders =
        OrdersSnapshot { head, sequence: 7, last_event_ns: 5, source, opens_partition: true, bids, asks, symbol };
    let trade = TextTrade { head, id: "c0ffee", price: 4_800, qty: 3, side, sequence: 7, flags, symbol };
    let (bids, asks) = LEVELS.split_at(1);
    let book = BookSnapshot { head, last_id: 7, last_event_ns: 5, source, opens_partition: false, bids, asks, symbol };
    let counted = CountedSnapshot { book, bid_counts: &COUNTS[..1], ask_counts: &COUNTS[1..] };
    [
        ("order-event", Record::OrderEvent(event)),
        ("orders-snapshot", Record::OrdersSnapshot(orders)),
        ("text-trade", Record::TextTrade(trade)),
        ("counted-snapshot", Record::CountedSnapshot(counted)),
    ]
}

const LINES: [(Venue, &str); 5] = [
    (
        Venue::BinanceSpot,
        r#"1723161254087891268 {"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#,
    ),
    (
        Venue::BinanceSpot,
        r#"1723161253937085768 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.5"]]}}"#,
    ),
    (
        Venue::BinanceUsdm,
        r#"1723161255088176367 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","X":"MARKET","m":false}}"#,
    ),
    (
        Venue::BinanceUsdm,
        r#"1723161255319702566 {"lastUpdateId":5123107852948,"E":1723161256573,"T":1723161256569,"bids":[["61800.20","2.909"]],"asks":[["61800.30","1.2"],["61800.40","0.5"]]}"#,
    ),
    (Venue::BinanceCoinm, "1723161256207640365 {\"a\":[1,2.5e3,\"\\u00e4\"],\"b\":null}\n17 not json\n"),
];

/// Files of each format that is text, with the choice of it.
const FILES: [(u8, &str); 5] = [
    (
        0,
        "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\nd,B,1585699200245000,1585699200355684,true,ask,6421.5,18640\nd,B,1585699200245000,1585699200355685,false,bid,6421,1e-7\n",
    ),
    (
        0,
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nbitmex,XBTUSD,1583020803145000,1583020803307160,17,sell,8531.5,2152\n",
    ),
    (
        0,
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\nh,B,1588291201099000,1588291201234268,5494,8629.3,8629.2,806\n",
    ),
    (
        3,
        "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount\nb,B,1598918403696000,1598918403810979,1.08,1.7,1.07,10\n",
    ),
    (
        2,
        r#"1737918843893903000 {"channel":"l2Book","data":{"coin":"BTC","levels":[[{"n":5,"px":"105055.0","sz":"3.03622"}],[]],"time":1737918843721}}"#,
    ),
];

/// Metadata without symbols, a trade, and a record that nobody knows.
fn databento() -> Vec<u8> {
    let mut bytes = b"DBN\x03".to_vec();
    let mut metadata = b"GLBX.MDP3\0\0\0\0\0\0\0\x04\0".to_vec();
    metadata.extend([0; 24]);
    // From symbols, to instruments, no send times, 71 bytes a symbol; reserved; five empty lists.
    metadata.extend([1, 0, 0, 71, 0]);
    metadata.resize(metadata.len() + 53, 0);
    metadata.extend([0; 20]);
    bytes.extend((metadata.len() as u32).to_le_bytes());
    bytes.extend(&metadata);
    for (rtype, words) in [(0, 12), (0x77, 4)] {
        let mut record = vec![words, rtype, 1, 0, 118, 0, 0, 0];
        record.resize(usize::from(words) * 4, 1);
        if rtype == 0 {
            record[28..30].copy_from_slice(b"TA");
        }
        bytes.extend(record);
    }
    bytes
}

/// A closed segment of a WAL, with a frame of each kind, small enough to be mutated whole.
fn wal_segment() -> Vec<u8> {
    let config =
        Config { block_size: 512, batch_len: 512, segment_len: 4096, depth: 1, sync: SyncBy::Write, carry_len: 128 };
    let region = HeapRegion::new(wal::layout(&config).expect("a layout").size());
    let carry = Carry { vote: Some(b"for 1"), meta: Some(b"applied 2"), truncations: &[] };
    let start = Start { segment_id: 1, first_seq: 1, salt_seed: 9, carry, ..Start::default() };
    let mut log = Machine::begin(&region, config, &start).expect("a log begins");
    let mut bytes = vec![0; config.segment_len as usize];
    bytes[..128].copy_from_slice(&log.header().to_bytes());
    let mut write = |log: &mut Machine<&HeapRegion>| {
        log.demand_all();
        while let Some(Op::Write { op, offset, from, len, .. }) = log.next_op() {
            region.window().copy_out(from, &mut bytes[offset as usize..][..len as usize]);
            log.complete(op, Outcome::Done(len));
        }
    };
    for len in [0, 7, 100] {
        log.append(&vec![0x5a; len]).expect("room");
    }
    write(&mut log);
    log.append_control(Kind::Vote, b"for 2").expect("room");
    log.append_control(Kind::Meta, b"applied 3").expect("room");
    log.append_control(Kind::Truncate, &2u64.to_le_bytes()).expect("room");
    log.append(&[1; 20]).expect("room");
    log.close();
    write(&mut log);
    bytes
}

fn main() {
    let golden = [
        ("lease", 0, &include_bytes!("../../bus/tests/golden/lease-v1.bin")[..]),
        ("ready", 1, &include_bytes!("../../bus/tests/golden/ready-v1.bin")[..]),
        ("owner", 2, &include_bytes!("../../bus/tests/golden/owner-v1.bin")[..]),
    ];
    for (name, choice, bytes) in golden {
        put("bus_files", name, choice, bytes);
        put("bus_files", &format!("{name}-put-right"), choice | 4, bytes);
    }
    put("bus_files", "entry", 3, b"clean/kraken/btc-usd/book");

    let log = wal_segment();
    // Without what nobody wrote to: a corpus is small.
    for (name, choice) in [("closed", 0), ("closed-put-right", 3)] {
        put("wal_parse", name, choice, &log[..2560]);
    }
    put("wal_parse", "spliced", 2, &[&log[..1024], &log[512..1024]].concat());
    let both = [(Checksum::Frame, "crc"), (Checksum::CommitWord, "commit")];
    for (checksum, name) in both {
        for sealed in [false, true] {
            let bytes = segment(checksum, sealed);
            let name = format!("{name}-{}", if sealed { "sealed" } else { "open" });
            put("core_segment", &name, 0, &bytes);
            put("core_segment", &format!("{name}-put-right"), 2, &bytes);
            put("core_header", &name, 3, &bytes[..128]);
        }
    }

    for (i, (venue, line)) in LINES.iter().enumerate() {
        let choice = Venue::ALL.iter().position(|known| known == venue).expect("a venue") as u8;
        put("feed_import", &format!("line-{i}"), choice, line.as_bytes());
        let mut n = 0;
        let _ = import(*venue, "seed", line.as_bytes(), |parsed| {
            n += 1;
            put("protocol_record", &format!("record-{i}-{n}"), parsed.type_id as u8, parsed.payload);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    for (i, (choice, file)) in FILES.iter().enumerate() {
        put("feed_formats", &format!("file-{i}"), *choice, file.as_bytes());
    }
    put("feed_formats", "databento", 1, &databento());

    for (name, record) in orders() {
        let mut payload = vec![0; record.encoded_len()];
        record.encode(&mut payload).expect("room");
        put("protocol_record", name, record.type_id() as u8, &payload);
    }

    // A book: three bytes for a message, six for each of its levels; a snapshot, deltas near it, prices at the ends of i64.
    let levels = |kind: u8, count: u8| (0..count).flat_map(move |i| [kind, i.wrapping_mul(37), i, 1, 2, i]);
    let message = |kind: u8, side: u8, near: u8| [kind, side, side].into_iter().chain(levels(near, 2 * side));
    let book: Vec<u8> = message(0x80, 60, 4).chain(message(0, 20, 4)).chain(message(0, 4, 1)).collect();
    for (name, choice) in [("one-scale", 0), ("scales", 1)] {
        put("etl_book", name, choice, &book);
    }

    // A venue's stream, twelve bytes a record: deltas, a snapshot that joins them, the other records in turn.
    let stream: Vec<u8> = (1..40u8)
        .flat_map(|n| {
            let kind = if n == 3 { 3 } else { [0, 1, 4, 5, 7][usize::from(n) % 5] };
            [kind, 0, 34 + n % 8, 34 + n % 8, n, 0, n, n, n, n, 0b0110_0101, 48]
        })
        .collect();
    for venue in 0..6 {
        put("etl_refinery", &format!("stream-{venue}"), venue, &stream);
    }

    // Scripts of seven bytes a step: pushes and reads in turn; a lap and more, then reads; a word changed under a reader.
    let [push, read, attach, follow, change] = [0u8, 2, 5, 6, 7];
    let step = |op: u8, at: u8, word: u32| [&[op, at, 0][..], &word.to_le_bytes()].concat();
    let turns: Vec<u8> = (1..20).flat_map(|len| [step(push, len, 0), step(read, 0, 96)].concat()).collect();
    let laps: Vec<u8> =
        (0..40).flat_map(|_| step(push, 16, 0)).chain((0..30).flat_map(|_| step(read, 1, 96))).collect();
    let change =
        [&laps[..140], &step(change, 200, 9)[..], &step(attach, 0, 3)[..], &step(follow, 0, 0)[..], &turns].concat();
    for (name, script) in [("turns", &turns), ("laps", &laps), ("change", &change)] {
        put("ring_broadcast", name, 2, script);
    }

    // The same steps for many producers: who registers pushes, claims and batches; who dies is reaped; a word changes.
    let [register, leave, push, claim, batch, reap, take, change] = [0u8, 1, 2, 4, 5, 6, 7, 9];
    let each = |op: u8, word: u32| (0..3).flat_map(move |which| step(op, which, word)).collect::<Vec<u8>>();
    let turns: Vec<u8> = [each(register, 0), each(push, 3), each(claim, 0), each(batch, 0), step(take, 0, 1)].concat();
    let deaths: Vec<u8> =
        [&turns[..], &each(claim, 2), &step(leave, 1, 1), &step(reap, 0, 0), &step(take, 0, 8), &turns].concat();
    let nonsense: Vec<u8> = [&turns[..], &step(change, 40, 1 << 31), &step(take, 0, 1), &step(reap, 0, 0)].concat();
    for (name, script) in [("turns", &turns), ("deaths", &deaths), ("nonsense", &nonsense)] {
        put("ring_mpsc", name, 1, script);
    }

    // Scripts of four bytes a step for the rings of two ends: in turn, staged and released together, attached again.
    let turns: Vec<u8> = (1..20).flat_map(|len| [0, len, 0, 0, 6, 255, 0, 0, 7, len, 2, 3, 9, 4, 0, 0]).collect();
    let batches: Vec<u8> =
        (1..20).flat_map(|len| [1, len, 0, 0, 8, len, 0, 0]).chain([2, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0]).collect();
    let again: Vec<u8> = [&turns[..], &[11, 0, 0, 0, 12, 0, 0, 0], &batches, &[13, 0, 8, 0, 4, 0, 0, 0]].concat();
    for (name, script) in [("turns", &turns), ("batches", &batches), ("again", &again)] {
        put("ring_spsc", name, script[0], &script[1..]);
    }

    // A partition of some snapshots and deltas, growing and sealed, and what an archive makes of it.
    let sim = Sim::new(3);
    let name = |text: &str| Name::new(text).expect("a name");
    let id = PartitionId {
        venue: name("v"),
        symbol: name("s"),
        date: "2024-08-08".parse::<Date>().expect("a date"),
        stream: Stream::Book,
    };
    let path = Path::new("/warm/book.q");
    for dir in ["/warm", "/cold"] {
        sim.create_dirs(Path::new(dir)).expect("a directory");
    }
    let read = |path: &Path| {
        let file = sim.open(path, Open::Read).expect("a file");
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_at(&mut bytes, 0).expect("bytes");
        bytes
    };
    let mut partition = PartitionWriter::create(&sim, path, &id).expect("an empty disk");
    for n in 0..6u64 {
        let append = Append { time_ns: 100 + n, type_id: if n % 3 == 0 { 2 } else { 1 }, flags: 0 };
        partition.append(append, &[0x33; 40][..10 + n as usize]).expect("room");
    }
    partition.flush().expect("room");
    put("storage_partition", "growing", 0, &read(path));
    partition.seal().expect("room");
    put("storage_partition", "sealed", 0, &read(path));
    put("storage_partition", "put-right", 3, &read(path));
    archive::compress(&sim, path, Path::new("/cold"), archive::Options::default(), &mut |_, _| {}).expect("room");
    put("storage_cold", "whole", 0, &read(Path::new("/cold/book.q.zst")));
    put("storage_cold", "put-right", 1, &read(Path::new("/cold/book.q.zst")));
    let index = read(Path::new("/cold/book.q.zst.idx"));
    // This target has no choice: its first byte is the file's.
    put("storage_index", "whole", index[0], &index[1..]);

    // Patches: file, offset, kind, value.
    let patch = |file: u8, offset: u16, kind: u8, value: u32| {
        let mut bytes = vec![file];
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&value.to_le_bytes());
        bytes
    };
    for (name, choice, patches) in [
        ("closed", 0, vec![]),
        ("killed", 2, vec![]),
        ("lost-power", 4, vec![]),
        ("control", 1, vec![patch(0, 1032, 2, 7), patch(0, 2112, 2, 9)]),
        ("cursor", 1, vec![patch(2, 540, 2, 128), patch(2, 552, 2, 3)]),
        ("index", 3, vec![patch(3, 64, 2, 4), patch(4, 88, 2, 0xffff_ff80)]),
        ("segment", 3, vec![patch(6, 128, 2, 0x8000_0000), patch(7, 68, 2, 512)]),
        ("cut", 2, vec![patch(6, 500, 0, 0), patch(0, 0, 0, 0)]),
    ] {
        put("storage_queue", name, choice, &patches.concat());
    }

    // Patches of a log: as above; kinds 2 and 3 copy from the other log and from the same one, by the value's two bytes of
    // offset, one of blocks and one of which segment.
    let copy = |from: u16, blocks: u8, which: u8| {
        let [low, high] = from.to_le_bytes();
        u32::from_le_bytes([low, high, blocks - 1, which])
    };
    for (name, choice, patches) in [
        ("closed", 0, vec![]),
        ("killed", 2, vec![]),
        ("lost-power", 4, vec![]),
        ("byte", 2, vec![patch(1, 1100, 1, 0xff)]),
        ("header", 1, vec![patch(1, 48, 7, 2), patch(2, 56, 7, 512)]),
        ("batch-put-right", 3, vec![patch(0, 1024 + 32, 7, 512), patch(2, 512 + 12, 7, 3)]),
        ("torn", 34, vec![patch(2, 2000, 0, 0)]),
        ("other-tail", 2, vec![patch(0, 1024, 2, copy(1024, 8, 0))]),
        ("other-segment", 4, vec![patch(1, 0, 2, copy(0, 8, 1))]),
        ("late-write", 4, vec![patch(1, 1536, 3, copy(1024, 2, 0))]),
        ("later-head", 2, vec![patch(2, 512, 3, copy(512, 1, 1))]),
        ("renamed", 2, vec![patch(1, 0, 4, 9)]),
        ("retired", 32, vec![patch(0, 0, 5, 0)]),
        ("missing", 0, vec![patch(1, 0, 5, 0)]),
    ] {
        put("wal_recover", name, choice, &patches.concat());
    }
    // Bytes from elsewhere as the first segment, and as one behind the last.
    put("wal_recover", "segment", 8, &log[..2560]);
    put("wal_recover", "segment-behind", 8 + 112, &log[..2560]);
}
