//! A partition reads the same on every tier, seeks to the same place, and stays readable while it moves.
//!
//! The oracle is a plain vector of the frames that were appended. What is lost without these tests: a seek that skips
//! an event on one tier only, a reader that repeats or drops frames when the tier manager takes its file away, and a
//! cold seek that decompresses the whole day.

mod archive_fixture;

use archive_fixture::{Row, rows};
use chronicle_core::{Append, Frame};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{
    ErrorKind,
    archive::{self, ColdFile, Options},
    partition::{PartitionWriter, Tail},
    reader::{ArchiveReader, Partition},
    root::{Date, Name, PartitionId, Root, Stream, Tier},
};
use std::path::Path;

fn id() -> PartitionId {
    let date = "2024-03-01".parse().unwrap();
    PartitionId::new("binance-spot".parse().unwrap(), "btcusdt".parse().unwrap(), date, Stream::Book)
}

fn append<P: Platform>(writer: &mut PartitionWriter<P>, rows: &[Row]) {
    for row in rows {
        let head = Append { time_ns: row.time_ns, type_id: row.type_id, flags: 0 };
        writer.append(head, &row.payload).unwrap();
    }
}

/// A sealed partition on warm.
fn warm<P: Platform>(platform: &P, root: &Root, rows: &[Row]) {
    let mut writer = PartitionWriter::create(platform, &root.partition(Tier::Warm, &id()), &id()).unwrap();
    append(&mut writer, rows);
    writer.seal().unwrap();
}

/// What the tier manager does: the next copy first.
fn to_cold<P: Platform>(platform: &P, root: &Root) {
    let day = |tier| root.day(tier, &id().venue, &id().symbol, id().date);
    platform.create_dirs(&day(Tier::Cold)).unwrap();
    let source = root.partition(Tier::Warm, &id());
    archive::compress(platform, &source, &day(Tier::Cold), Options::default(), &mut |_, _| {}).unwrap();
    platform.remove(&source).unwrap();
    platform.sync_dir(&day(Tier::Warm)).unwrap();
}

fn same(frame: &Frame<'_>, rows: &[Row]) {
    let row = &rows[frame.seq as usize - 1];
    assert_eq!((frame.time_ns, frame.type_id), (row.time_ns, row.type_id), "seq {}", frame.seq);
    assert_eq!(frame.payload.as_slice(None).unwrap(), row.payload, "seq {}", frame.seq);
}

/// Reads to the end; every frame is the oracle's, from `from` on.
fn read_on<P: Platform>(partition: &mut Partition<P>, rows: &[Row], from: u64) -> u64 {
    let mut next = from;
    while let Some(frame) = partition.next().unwrap() {
        assert_eq!(frame.seq, next);
        same(&frame, rows);
        next += 1;
    }
    next
}

const START: u64 = 1_709_251_200_000_000_000;

fn many() -> Vec<Row> {
    rows(11, 12_000, 900, START)
}

#[test]
fn every_tier_gives_the_same_frames() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = many();
    warm(&sim, &root, &rows);
    let archive = ArchiveReader::open(&sim, &root).unwrap();
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    assert_eq!(partition.tier(), Tier::Warm);
    assert_eq!(read_on(&mut partition, &rows, 1), 12_001);
    assert_eq!(partition.tail(), Tail::Sealed);

    to_cold(&sim, &root);
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    assert_eq!(partition.tier(), Tier::Cold);
    assert_eq!(read_on(&mut partition, &rows, 1), 12_001);
    assert_eq!(partition.tail(), Tail::Sealed);
    assert!(partition.blocks_read() > 3);
    partition.rewind().unwrap();
    assert_eq!(read_on(&mut partition, &rows, 1), 12_001);

    // Hot is asked first.
    let hot = Root::new("/root").with_warm("/root/hot");
    warm(&sim, &hot, &rows[..7]);
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    assert_eq!(partition.tier(), Tier::Hot);
    assert_eq!(read_on(&mut partition, &rows, 1), 8);
}

#[test]
fn names_do_not_decide_the_format() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = rows(3, 500, 100, START);
    warm(&sim, &root, &rows);
    to_cold(&sim, &root);
    // A cold file put back on warm as it is, and under a name that says otherwise.
    let cold = root.partition(Tier::Cold, &id());
    for name in ["book.q", "book.q.zst"] {
        let path = root.partition(Tier::Warm, &id()).with_file_name(name);
        sim.rename(&cold, &path).unwrap();
        let archive = ArchiveReader::open(&sim, &root).unwrap();
        let mut partition = archive.partition(&id()).unwrap().unwrap();
        assert_eq!(partition.tier(), Tier::Warm);
        assert_eq!(read_on(&mut partition, &rows, 1), 501);
        sim.rename(&path, &cold).unwrap();
    }
}

/// Where a seek must end: the seq of the next frame, computed from the oracle alone.
fn oracle_time(rows: &[Row], time_ns: u64) -> u64 {
    rows.iter().position(|row| row.time_ns >= time_ns).unwrap_or(rows.len()) as u64 + 1
}

fn oracle_snapshot(rows: &[Row], time_ns: u64) -> Option<u64> {
    let end = rows.iter().position(|row| row.time_ns > time_ns).unwrap_or(rows.len());
    rows[..end].iter().rposition(|row| row.type_id == 2).map(|i| i as u64 + 1)
}

#[test]
fn seeks_end_at_the_same_place_on_every_tier() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = many();
    warm(&sim, &root, &rows);
    let archive = ArchiveReader::open(&sim, &root).unwrap();
    let mut on_warm = archive.partition(&id()).unwrap().unwrap();
    to_cold(&sim, &root);
    let mut on_cold = archive.partition(&id()).unwrap().unwrap();
    assert_eq!((on_warm.tier(), on_cold.tier()), (Tier::Warm, Tier::Cold));

    let mut random = archive_fixture::Random(5);
    let last = rows.iter().map(|row| row.time_ns).max().unwrap();
    let mut times = vec![0, 1, START, rows[0].time_ns, last, last + 1, u64::MAX];
    times.extend((0..60).map(|_| START + random.below(last + 1_000_000 - START)));
    times.extend((0..20).map(|_| rows[random.below(rows.len() as u64) as usize].time_ns));
    for time in times {
        for partition in [&mut on_warm, &mut on_cold] {
            let tier = partition.tier();
            // From anywhere, a frame held back by an earlier seek included.
            partition.seek_seq(random.below(rows.len() as u64 + 2)).unwrap();
            partition.seek_time(time).unwrap();
            let expected = oracle_time(&rows, time);
            assert_eq!(partition.next_seq(), expected, "{tier}, time {time}");
            let next = partition.next().unwrap().map(|frame| frame.seq);
            assert_eq!(next, (expected <= rows.len() as u64).then_some(expected), "{tier}, time {time}");

            let snapshot = oracle_snapshot(&rows, time);
            assert_eq!(partition.seek_snapshot(time).unwrap(), snapshot.is_some(), "{tier}, time {time}");
            let next = partition.next().unwrap().unwrap();
            assert_eq!(next.seq, snapshot.unwrap_or(1), "{tier}, time {time}");
            same(&next, &rows);
        }
    }
    for _ in 0..80 {
        let seq = random.below(rows.len() as u64 + 10);
        for partition in [&mut on_warm, &mut on_cold] {
            partition.seek_seq(seq).unwrap();
            let next = partition.next().unwrap().map(|frame| frame.seq);
            assert_eq!(next, (seq <= rows.len() as u64).then_some(seq.max(1)), "{}", partition.tier());
        }
    }
    // And on to the end from the middle.
    for partition in [&mut on_warm, &mut on_cold] {
        partition.seek_seq(6_000).unwrap();
        assert_eq!(read_on(partition, &rows, 6_000), 12_001);
    }
}

#[test]
fn a_cold_seek_reads_the_blocks_that_hold_the_range_and_no_other() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = many();
    warm(&sim, &root, &rows);
    to_cold(&sim, &root);
    let path = root.partition(Tier::Cold, &id());
    let blocks = ColdFile::open(&sim, &path).unwrap().blocks().to_vec();
    assert!(blocks.len() > 8, "{} blocks", blocks.len());
    let archive = ArchiveReader::open(&sim, &root).unwrap();
    for i in 0..blocks.len() - 2 {
        let mut partition = archive.partition(&id()).unwrap().unwrap();
        assert_eq!(partition.blocks_read(), 0, "opening reads no block");
        let (from, to) = (blocks[i].max_time, blocks[i + 1].max_time);
        let first = blocks.iter().position(|block| block.max_time >= from).unwrap();
        let last = blocks.iter().position(|block| block.max_time >= to).unwrap();
        partition.seek_time(from).unwrap();
        while partition.next().unwrap().is_some_and(|frame| frame.time_ns < to) {}
        assert_eq!(partition.blocks_read(), (last - first + 1) as u64, "blocks {first} to {last}");
    }
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    partition.seek_seq(blocks[5].first_seq + 1).unwrap();
    assert_eq!(partition.next().unwrap().unwrap().seq, blocks[5].first_seq + 1);
    assert_eq!(partition.blocks_read(), 1);
}

#[test]
fn a_reader_follows_a_growing_partition_through_all_its_moves() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = rows(8, 2_000, 300, START);
    let path = root.partition(Tier::Warm, &id());
    let mut writer = PartitionWriter::create(&sim, &path, &id()).unwrap();
    append(&mut writer, &rows[..100]);
    let checkpoint = writer.flush().unwrap();
    let archive = ArchiveReader::open(&sim, &root).unwrap();
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    assert_eq!(read_on(&mut partition, &rows, 1), 101);
    assert_eq!(partition.tail(), Tail::Open);

    append(&mut writer, &rows[100..700]);
    writer.flush().unwrap();
    assert_eq!(read_on(&mut partition, &rows, 101), 701);

    // The refinery dies and resumes at its checkpoint: the file is shorter than what was read, then grows again.
    drop(writer);
    let mut writer = PartitionWriter::resume(&sim, &path, &id(), &checkpoint).unwrap();
    assert_eq!(read_on(&mut partition, &rows, 701), 701);
    append(&mut writer, &rows[100..900]);
    writer.flush().unwrap();
    assert_eq!(read_on(&mut partition, &rows, 701), 901);

    // It starts from nothing: another file under the name.
    drop(writer);
    sim.remove(&path).unwrap();
    assert_eq!(read_on(&mut partition, &rows, 901), 901);
    let mut writer = PartitionWriter::create(&sim, &path, &id()).unwrap();
    append(&mut writer, &rows[..400]);
    writer.flush().unwrap();
    assert_eq!(read_on(&mut partition, &rows, 901), 901);
    append(&mut writer, &rows[400..1_000]);
    writer.flush().unwrap();
    assert_eq!(read_on(&mut partition, &rows, 901), 1_001);

    // Sealed, moved and gone while the reader stands in the middle of it.
    append(&mut writer, &rows[1_000..]);
    writer.seal().unwrap();
    to_cold(&sim, &root);
    assert_eq!(read_on(&mut partition, &rows, 1_001), 2_001);
    assert!(partition.is_sealed());
}

/// The file is found to be gone at every single operation of opening it: moved between any two of them.
#[test]
fn a_partition_that_moves_while_it_is_looked_for_is_found() {
    let rows = rows(8, 50, 10, START);
    let root = Root::new("/root");
    // With another process that moves the file as the reader goes on, on threads.
    for round in 0..60 {
        let sim = Sim::new(round);
        warm(&sim, &root, &rows);
        let mover = sim.start_process();
        let move_root = root.clone();
        let archive = ArchiveReader::open(&sim, &root).unwrap();
        let mut tiers = Vec::new();
        std::thread::scope(|scope| {
            let moving = scope.spawn(move || to_cold(&mover, &move_root));
            loop {
                let done = moving.is_finished();
                let mut partition = archive.partition(&id()).unwrap().expect("it is somewhere at any time");
                tiers.push(partition.tier());
                assert_eq!(read_on(&mut partition, &rows, 1), 51);
                if done {
                    break;
                }
            }
        });
        assert_eq!(tiers.last(), Some(&Tier::Cold));
        assert!(tiers.is_sorted(), "{tiers:?}");
    }
}

#[test]
fn damage_on_a_tier_is_not_hidden_by_the_next() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = rows(8, 50, 10, START);
    warm(&sim, &root, &rows);
    to_cold(&sim, &root);
    warm(&sim, &root, &rows);
    let file = sim.open(&root.partition(Tier::Warm, &id()), Open::Write).unwrap();
    file.write_at(b"X", 20).unwrap();
    let archive = ArchiveReader::open(&sim, &root).unwrap();
    assert_eq!(archive.partition(&id()).unwrap_err().kind(), ErrorKind::Damage);
}

#[test]
fn a_flipped_byte_of_a_cold_file_names_file_and_offset() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = rows(8, 3_000, 300, START);
    warm(&sim, &root, &rows);
    to_cold(&sim, &root);
    let path = root.partition(Tier::Cold, &id());
    let blocks = ColdFile::open(&sim, &path).unwrap().blocks().to_vec();
    let at = blocks[1].compressed_offset + 100;
    let file = sim.open(&path, Open::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1], at).unwrap();

    let mut partition = ArchiveReader::open(&sim, &root).unwrap().partition(&id()).unwrap().unwrap();
    let mut n = 0;
    let error = loop {
        match partition.next() {
            Ok(Some(_)) => n += 1,
            Ok(None) => panic!("read to the end"),
            Err(error) => break error,
        }
    };
    assert_eq!(n, blocks[1].first_seq - 1, "everything before the damage is read");
    assert_eq!((error.path(), error.offset()), (Some(path.as_path()), Some(blocks[1].compressed_offset)));
    assert!(partition.next().is_err(), "it stays damage");
    // Behind it, seeking still reads.
    partition.seek_seq(blocks[2].first_seq).unwrap();
    assert_eq!(read_on(&mut partition, &rows, blocks[2].first_seq), 3_001);
}

#[test]
fn listings_are_the_union_of_tiers_and_know_only_our_names() {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    assert!(ArchiveReader::open(&sim, &root).is_err(), "a root that is not there");
    let rows = rows(8, 50, 10, START);
    warm(&sim, &root, &rows);
    to_cold(&sim, &root);
    let venue: Name = "okx".parse().unwrap();
    let date: Date = "2024-03-02".parse().unwrap();
    let other = PartitionId::new(venue.clone(), "eth-usdt".parse().unwrap(), date, Stream::Late);
    PartitionWriter::create(&sim, &root.partition(Tier::Warm, &other), &other).unwrap().flush().unwrap();
    for junk in ["/root/warm/v1/UPPER", "/root/warm/v1/okx/..x", "/root/warm/v1/okx/eth-usdt/2024-02-30"] {
        sim.create_dirs(Path::new(junk)).unwrap();
    }
    sim.open(Path::new("/root/warm/v1/file"), Open::Create).unwrap();
    sim.open(Path::new("/root/warm/v1/okx/eth-usdt/2024-03-02/meta.json"), Open::Create).unwrap();

    let archive = ArchiveReader::open(&sim, &root).unwrap();
    assert_eq!(archive.venues().unwrap(), [id().venue, venue.clone()]);
    assert_eq!(archive.symbols(&venue).unwrap(), std::slice::from_ref(&other.symbol));
    assert_eq!(archive.dates(&venue, &other.symbol).unwrap(), [date]);
    assert_eq!(archive.streams(&venue, &other.symbol, date).unwrap(), [Stream::Late]);
    assert_eq!(archive.streams(&id().venue, &id().symbol, id().date).unwrap(), [Stream::Book]);
    assert!(archive.partition(&PartitionId { stream: Stream::Book, ..other }).unwrap().is_none());
}

#[cfg(target_os = "linux")]
#[test]
fn the_same_on_linux() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new(dir.path());
    let rows = rows(11, 3_000, 300, START);
    let linux = chronicle_platform_linux::Linux;
    warm(&linux, &root, &rows);
    let archive = ArchiveReader::open(&linux, &root).unwrap();
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    for _ in 0..10 {
        partition.next().unwrap().unwrap();
    }
    to_cold(&linux, &root);
    assert_eq!(read_on(&mut partition, &rows, 11), 3_001);
    let mut partition = archive.partition(&id()).unwrap().unwrap();
    assert_eq!(partition.tier(), Tier::Cold);
    assert_eq!(read_on(&mut partition, &rows, 1), 3_001);
    let path = root.partition(Tier::Cold, &id());
    assert!(
        chronicle_storage::reader::FrameFile::open(&linux, &archive::index_path(&path)).unwrap_err().offset()
            == Some(0)
    );
}
