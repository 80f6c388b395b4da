//! `verify` finds what is wrong and names file and offset; what a crash may leave it calls by its name instead.
//!
//! A check that passes over one byte is worth nothing in the year when that byte flips; a check that cries over every
//! torn tail is switched off.

mod archive_fixture;

use archive_fixture::{Row, partition, read, rows, seal, write};
use chronicle_core::Append;
use chronicle_platform::{Platform, sim::Sim};
use chronicle_storage::{
    archive::{ColdFile, Options as Compression, Tables, index_path, parse_tables},
    inspect::{Description, TailText, inspect},
    meta::Meta,
    partition::PartitionWriter,
    queue::{Profile, PublisherOptions, Queue},
    root::{Date, META, PartitionId, RawName, Root, Stream, TEMPORARY, Tier},
    tier::{Policy, run_once},
    verify::{Options, Problem, Report, verify, verify_with},
};
use std::path::{Path, PathBuf};

const DATE: &str = "2024-08-08";

fn meta() -> Meta {
    Meta {
        venue: "test".into(),
        symbol_id: None,
        symbol_version_id: None,
        symbol_code: "btcusdt".into(),
        raw_symbol: "BTCUSDT".into(),
        date: DATE.parse().unwrap(),
        source: Vec::new(),
        ingest_time: None,
        event_time_range: None,
        completeness: Default::default(),
        late_policy: "reject".into(),
        sealed: true,
        counts: Default::default(),
    }
}

fn id(stream: Stream) -> PartitionId {
    partition("test", "btcusdt", DATE, stream)
}

fn day(root: &Root, tier: Tier) -> PathBuf {
    root.partitions(tier).join("test/btcusdt").join(DATE)
}

struct Machine {
    sim: Sim,
    root: Root,
    raw: String,
}

/// A root with a live queue, a raw file and a day of two streams, warm.
fn machine(frames: u64) -> Machine {
    let sim = Sim::new(1);
    let root = Root::new("/root");
    let rows = rows(1, frames, 60, 0);
    sim.create_dirs(&day(&root, Tier::Warm)).unwrap();
    for stream in [Stream::Book, Stream::Trades] {
        seal(&sim, &root.partition(Tier::Warm, &id(stream)), &id(stream), &rows);
    }
    meta().publish(&sim, &day(&root, Tier::Warm)).unwrap();
    let raw_dir = root.warm.join("raw/v1/test").join(DATE);
    sim.create_dirs(&raw_dir).unwrap();
    let of = id(Stream::Late);
    let raw = format!("{}.q", RawName { queue_id: of.queue_id(), first_seq: 1 });
    seal(&sim, &raw_dir.join(&raw), &of, &rows);

    let options = PublisherOptions {
        helper: false,
        segment_len: 1 << 16,
        max_bytes: 1 << 20,
        ..PublisherOptions::new(Profile::Clean)
    };
    let mut queue = Queue::publisher(&sim, root.hot.join("streams/raw/test/queue"), options).unwrap();
    for i in 0..10 {
        queue.append(Append { time_ns: i, type_id: 1, flags: 0 }, b"message").unwrap();
    }
    queue.close().unwrap();
    sim.create_dirs(&root.state).unwrap();
    Machine { sim, root, raw }
}

impl Machine {
    fn archive(&self) {
        let policy = Policy { compression: Compression { threads: 1, ..Compression::default() }, ..Policy::default() };
        let report = run_once(&self.sim, &self.root, DATE.parse::<Date>().unwrap().end_ns() * 2, &policy).unwrap();
        assert_eq!((report.moved.len(), report.failed.len()), (3, 0), "{report:?}");
    }

    fn verify(&self, path: impl AsRef<Path>) -> Report {
        verify_with(&self.sim, path.as_ref(), Options { threads: 1, ..Options::default() }, &mut |_, _| {}).unwrap()
    }

    fn warm(&self, name: &str) -> PathBuf {
        day(&self.root, Tier::Warm).join(name)
    }

    fn cold(&self, name: &str) -> PathBuf {
        day(&self.root, Tier::Cold).join(name)
    }
}

/// The only problem.
fn only(report: &Report) -> &Problem {
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    &report.problems[0]
}

#[test]
fn an_intact_root_is_intact_on_every_tier() {
    let machine = machine(300);
    let report = machine.verify("/root");
    assert_eq!((&report.problems[..], &report.notes[..]), (&[][..], &[][..]));
    assert_eq!((report.queues, report.frames, report.blocks), (1, 3 * 300 + 10, 0));
    assert_eq!(report.files, 3 + 1);

    machine.archive();
    let report = machine.verify("/root");
    assert_eq!((&report.problems[..], &report.notes[..]), (&[][..], &[][..]));
    assert_eq!((report.queues, report.frames, report.files), (1, 3 * 300 + 10, 4));
    assert!(report.blocks >= 3);
    for path in ["/root/cold", "/root/hot", "/root/hot/streams/raw/test/queue", "/root/cold/v1/test/btcusdt/2024-08-08"]
    {
        assert!(machine.verify(path).is_intact(), "{path}");
    }
    for path in ["book.q.zst", "book.q.zst.idx", META] {
        assert!(machine.verify(machine.cold(path)).is_intact(), "{path}");
    }
    let mut seen = Vec::new();
    verify_with(&machine.sim, Path::new("/root"), Options::default(), &mut |done, total| seen.push((done, total)))
        .unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert_eq!(seen.last().unwrap().0, seen.last().unwrap().1);

    // What is not there, or not ours, is an error and no report.
    assert!(verify(&machine.sim, Path::new("/elsewhere")).unwrap_err().is_not_found());
    write(&machine.sim, Path::new("/root/letter.txt"), b"Dear operator");
    verify(&machine.sim, Path::new("/root/letter.txt")).unwrap_err();
}

#[test]
fn every_flipped_byte_of_a_sealed_partition_is_found_and_placed() {
    let machine = machine(60);
    let path = machine.warm("book.q");
    let intact = read(&machine.sim, &path);
    let every = (0..600).chain((600..intact.len() - 300).step_by(23)).chain(intact.len() - 300..intact.len());
    for at in every {
        let mut bytes = intact.clone();
        bytes[at] ^= 1 << (at % 8);
        write(&machine.sim, &path, &bytes);
        let report = machine.verify("/root");
        let problem = only(&report);
        assert_eq!(problem.path, path, "byte {at}: {problem}");
        let offset = problem.offset.unwrap_or_else(|| panic!("byte {at}: {problem}")) as usize;
        // The header's checksum, or the field; the frame's, or its padding.
        let near = if at < 128 { offset < 128 } else { offset <= at && at - offset < 8192 + 96 };
        assert!(near, "byte {at}: {problem}");
    }
    // Cut, zeroed, longer.
    for bytes in [&intact[..intact.len() - 1], &intact[..200], &intact[..100], &intact[..0], &vec![0; 5000]] {
        write(&machine.sim, &path, bytes);
        assert_eq!(only(&machine.verify("/root")).path, path, "{} bytes", bytes.len());
        assert_eq!(only(&machine.verify(&path)).path, path, "{} bytes", bytes.len());
    }
    write(&machine.sim, &path, &[&intact[..], b"more"].concat());
    assert_eq!(only(&machine.verify("/root")).offset, Some(intact.len() as u64));
}

#[test]
fn a_flipped_byte_of_a_cold_file_is_found_and_placed() {
    let machine = machine(400);
    machine.archive();
    let path = machine.cold("book.q.zst");
    let intact = read(&machine.sim, &path);
    let tables = parse_tables(&intact, intact.len() as u64).unwrap();
    let end = tables.blocks_len() as usize;
    for at in (0..end).step_by(end / 60).chain((end..intact.len()).step_by(7)) {
        let mut bytes = intact.clone();
        bytes[at] ^= 1;
        write(&machine.sim, &path, &bytes);
        let report = machine.verify("/root");
        let problem = only(&report);
        assert_eq!(problem.path, path);
        let offset = problem.offset.unwrap();
        match tables.blocks.iter().rposition(|block| block.compressed_offset as usize <= at).filter(|_| at < end) {
            Some(block) => {
                assert_eq!(offset, tables.blocks[block].compressed_offset);
                assert!(problem.what.starts_with(&format!("block {block}: ")), "{problem}");
                // The other blocks were looked at all the same.
                let others: usize = [&machine.cold("trades.q.zst"), &path]
                    .map(|path| {
                        if *path == machine.cold("book.q.zst") {
                            tables.blocks.len() - 1
                        } else {
                            ColdFile::open(&machine.sim, path).unwrap().blocks().len()
                        }
                    })
                    .iter()
                    .sum();
                assert!(report.blocks >= others as u64);
            }
            None => assert!((end as u64..=at as u64).contains(&offset), "byte {at}: {problem}"),
        }
    }
    write(&machine.sim, &path, &intact);

    let index = index_path(&path);
    let intact = read(&machine.sim, &index);
    for at in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[at] ^= 1;
        write(&machine.sim, &index, &bytes);
        let report = machine.verify(if at % 2 == 0 { Path::new("/root") } else { &index });
        let problem = only(&report);
        assert_eq!(problem.path, index);
        assert!(problem.offset.is_some_and(|offset| offset <= at as u64 && at as u64 - offset < 8), "{problem}");
        assert!(report.frames >= 400, "a wrong index hides no frame");
    }
    write(&machine.sim, &index, &intact[..10]);
    assert_eq!(only(&machine.verify("/root")).path, index);
    machine.sim.remove(&index).unwrap();
    assert_eq!(
        (only(&machine.verify("/root")).path.clone(), only(&machine.verify("/root")).offset),
        (index.clone(), None)
    );
    // The tier manager makes it anew.
    let report = run_once(&machine.sim, &machine.root, 0, &Policy::default()).unwrap();
    assert!(report.reindexed.iter().eq([&index]));
    assert!(read(&machine.sim, &index) == intact && machine.verify("/root").is_intact());
}

#[test]
fn several_damages_are_all_reported() {
    let machine = machine(3000);
    machine.archive();
    let path = machine.cold("book.q.zst");
    let mut bytes = read(&machine.sim, &path);
    let tables = parse_tables(&bytes, bytes.len() as u64).unwrap();
    assert!(tables.blocks.len() >= 5, "{}", tables.blocks.len());
    for block in [1, 2, 4] {
        bytes[tables.blocks[block].compressed_offset as usize + 100] ^= 1;
    }
    write(&machine.sim, &path, &bytes);
    let trades = machine.cold("trades.q.zst");
    write(&machine.sim, &trades, b"nothing like it");
    for threads in [1, 3] {
        let options = Options { threads, ..Options::default() };
        let report = verify_with(&machine.sim, Path::new("/root"), options, &mut |_, _| {}).unwrap();
        let found: Vec<_> = report.problems.iter().map(|problem| (problem.path.clone(), problem.offset)).collect();
        let expected = [1, 2, 4].map(|block| (path.clone(), Some(tables.blocks[block].compressed_offset)));
        assert_eq!(found[..3], expected);
        assert_eq!((found.len(), &found[3].0), (4, &trades));
    }
}

/// Right checksums, wrong claims: only whoever looks at the frames can tell.
#[test]
fn tables_that_do_not_fit_their_frames_are_found() {
    let machine = machine(3000);
    machine.archive();
    let path = machine.cold("book.q.zst");
    let intact = read(&machine.sim, &path);
    let honest = parse_tables(&intact, intact.len() as u64).unwrap();
    let with = |change: &dyn Fn(&mut Tables)| {
        let mut tables = honest.clone();
        change(&mut tables);
        let bytes = [&intact[..honest.blocks_len() as usize], &tables.to_bytes()].concat();
        write(&machine.sim, &path, &bytes);
        let report = machine.verify(&path);
        assert!(!report.is_intact());
        report.problems[0].clone()
    };
    assert_eq!(with(&|tables| tables.blocks[1].first_seq += 1).offset, Some(honest.blocks[1].compressed_offset));
    assert_eq!(with(&|tables| tables.blocks[1].max_time += 1).offset, Some(honest.blocks[1].compressed_offset));
    assert_eq!(with(&|tables| tables.blocks[2].min_time -= 1).offset, Some(honest.blocks[2].compressed_offset));
    assert!(with(&|tables| tables.blocks[1].opens_with_snapshot ^= true).what.contains("flag for a snapshot"));
    assert!(with(&|tables| tables.blocks[1].crc ^= 1).what.contains("uncompressed checksum"));
    assert!(with(&|tables| tables.source_sha256[3] ^= 1).what.contains("SHA-256"));
}

/// A file that still grows may be torn behind what was synced, and is damaged before it.
#[test]
fn a_torn_tail_is_a_note_and_damage_before_it_a_problem() {
    let machine = machine(10);
    let id = id(Stream::Quotes);
    let path = machine.root.partition(Tier::Warm, &id);
    let mut writer = PartitionWriter::create(&machine.sim, &path, &id).unwrap();
    let append = |row: &Row| Append { time_ns: row.time_ns, type_id: row.type_id, flags: 0 };
    let rows = rows(9, 40, 1000, 0);
    for row in &rows[..30] {
        writer.append(append(row), &row.payload).unwrap();
    }
    let committed = writer.flush().unwrap().len;
    for row in &rows[30..] {
        writer.append(append(row), &row.payload).unwrap();
    }
    let len = writer.flush().unwrap().len;
    drop(writer);
    let intact = read(&machine.sim, &path);
    let checked = |synced: Option<u64>| {
        let synced_len = move |asked: &Path| synced.filter(|_| asked.ends_with("quotes.q"));
        let options = Options { synced_len: &synced_len, ..Options::default() };
        verify_with(&machine.sim, Path::new("/root"), options, &mut |_, _| {}).unwrap()
    };

    let report = checked(None);
    assert_eq!((report.problems.len(), report.notes.len()), (0, 1));
    assert_eq!(report.notes[0].what, format!("not sealed, ends at offset {len}"));

    // Cut inside the last frame: whoever asks.
    write(&machine.sim, &path, &intact[..intact.len() - 40]);
    for synced in [None, Some(committed)] {
        let report = checked(synced);
        assert_eq!((report.problems.len(), report.notes.len()), (0, 1), "{:?}", report.problems);
        assert!(report.notes[0].what.contains("torn tail at offset"), "{}", report.notes[0]);
    }
    // Cut before what was synced.
    write(&machine.sim, &path, &intact[..committed as usize - 1]);
    assert_eq!(checked(Some(committed)).problems.len(), 1);
    assert_eq!(checked(None).problems.len(), 0);
    write(&machine.sim, &path, &intact[..committed as usize]);
    assert_eq!(checked(Some(committed)).problems.len(), 0);

    // A flip behind it is torn for who knows the length; for who does not, a good frame follows.
    let mut flipped = intact.clone();
    flipped[committed as usize + 50] ^= 1;
    write(&machine.sim, &path, &flipped);
    assert_eq!(checked(Some(committed)).problems.len(), 0);
    let report = checked(None);
    assert_eq!(only(&report).offset, Some(committed));
    assert!(only(&report).what.contains("a good frame follows at"), "{}", only(&report));
    // A flip before it is damage for both.
    let mut flipped = intact.clone();
    flipped[1000] ^= 1;
    write(&machine.sim, &path, &flipped);
    for synced in [None, Some(committed)] {
        assert_eq!(only(&checked(synced)).path, path);
    }
    // Zeros behind the end, as a crash may leave them.
    write(&machine.sim, &path, &[&intact[..], &[0; 4096]].concat());
    let report = checked(Some(committed));
    assert_eq!((report.problems.len(), report.notes.len()), (0, 1));
}

#[test]
fn what_a_cut_move_leaves_is_no_damage_and_what_is_missing_is() {
    // Copies on both tiers, meta.json only on warm, an index without its file, a temporary one.
    let machine = machine(60);
    let (book, meta_bytes) = (read(&machine.sim, &machine.warm("book.q")), read(&machine.sim, &machine.warm(META)));
    machine.archive();
    machine.sim.create_dirs(&day(&machine.root, Tier::Warm)).unwrap();
    write(&machine.sim, &machine.warm("book.q"), &book);
    write(&machine.sim, &machine.warm(META), &meta_bytes);
    machine.sim.remove(&machine.cold(META)).unwrap();
    machine.sim.remove(&machine.cold("trades.q.zst")).unwrap();
    write(&machine.sim, &machine.cold(&format!("trades.q.zst{TEMPORARY}")), b"half");
    let report = machine.verify("/root");
    assert_eq!(report.problems, []);
    let noted: Vec<_> = report.notes.iter().map(|note| note.path.clone()).collect();
    assert_eq!(noted, [machine.cold("trades.q.zst.idx"), machine.cold(&format!("trades.q.zst{TEMPORARY}"))]);

    // No meta.json anywhere; one that is not JSON; a file that is not ours.
    machine.sim.remove(&machine.warm(META)).unwrap();
    let report = machine.verify("/root");
    assert_eq!(only(&report).what, "has partitions, but no meta.json");
    write(&machine.sim, &machine.warm(META), b"{\"venue\": ");
    let report = machine.verify("/root");
    assert_eq!((&only(&report).path, only(&report).offset.is_some()), (&machine.warm(META), true));
    write(&machine.sim, &machine.warm(META), &meta_bytes);
    write(&machine.sim, &machine.warm("notes.txt"), b"mine");
    let report = machine.verify("/root");
    assert_eq!((report.problems.len(), report.notes.len()), (0, 3));

    // A whole file in another's place.
    let other = partition("test", "ethusdt", DATE, Stream::Book);
    machine.sim.remove(&machine.warm("book.q")).unwrap();
    seal(&machine.sim, &machine.warm("book.q"), &other, &rows(3, 20, 5, 0));
    let report = machine.verify("/root");
    assert_eq!(only(&report).offset, Some(24));
    let cold_raw = machine.root.cold.join("raw/v1/test").join(DATE).join(format!("{}.zst", machine.raw));
    write(&machine.sim, &cold_raw, &read(&machine.sim, &machine.cold("book.q.zst")));
    write(&machine.sim, &index_path(&cold_raw), &read(&machine.sim, &machine.cold("book.q.zst.idx")));
    let report = machine.verify(&cold_raw);
    assert!(only(&report).what.contains("offset 24 of the .q: another queue's id"), "{}", only(&report));
}

#[test]
fn a_damaged_queue_is_named_from_its_root() {
    let machine = machine(10);
    let queue = machine.root.hot.join("streams/raw/test/queue");
    let segment = machine
        .sim
        .list(&queue)
        .unwrap()
        .into_iter()
        .map(|entry| queue.join(entry.name))
        .find(|path| path.extension().is_some_and(|ext| ext == "q"))
        .expect("a segment");
    let mut bytes = read(&machine.sim, &segment);
    bytes[170] ^= 1;
    write(&machine.sim, &segment, &bytes);
    for path in ["/root", "/root/hot", queue.to_str().unwrap(), segment.to_str().unwrap()] {
        let report = machine.verify(path);
        let problem = report.problems.iter().find(|problem| problem.path == segment);
        let problem = problem.unwrap_or_else(|| panic!("{path}: {report:?}"));
        assert!(problem.offset.is_some_and(|offset| (128..=170).contains(&offset)), "{path}: {problem}");
    }
}

#[test]
fn inspect_says_what_a_path_is() {
    let machine = machine(300);
    let book = machine.warm("book.q");
    let Description::Partition(warm) = inspect(&machine.sim, &book).unwrap() else { panic!("a partition") };
    assert_eq!((warm.frames.count, warm.frames.next_seq, &warm.tail), (300, 301, &TailText::Sealed));
    assert_eq!((warm.header.clock, warm.bytes), ("exchange", read(&machine.sim, &book).len() as u64));

    machine.archive();
    let Description::Archive(cold) = inspect(&machine.sim, &machine.cold("book.q.zst")).unwrap() else {
        panic!("an archive")
    };
    assert_eq!((cold.frames.count, cold.frames.times), (300, warm.frames.times));
    assert_eq!((cold.source_bytes, cold.header.queue_id.clone()), (warm.bytes, warm.header.queue_id));
    assert_eq!(cold.blocks.iter().map(|block| u64::from(block.bytes)).sum::<u64>(), cold.source_bytes);
    let Description::Archive(by_index) = inspect(&machine.sim, &machine.cold("book.q.zst.idx")).unwrap() else {
        panic!("an archive")
    };
    assert_eq!(by_index.source_sha256, cold.source_sha256);

    let Description::Day(day) = inspect(&machine.sim, &day(&machine.root, Tier::Cold)).unwrap() else {
        panic!("a day")
    };
    assert_eq!((day.files.len(), day.meta), (2, Some(meta())));
    let queue = machine.root.hot.join("streams/raw/test/queue");
    let Description::Queue(described) = inspect(&machine.sim, &queue).unwrap() else { panic!("a queue") };
    assert_eq!(described.next_seq, Some(11));
    let Description::Segment(segment) = inspect(&machine.sim, &described.segments[0].path).unwrap() else {
        panic!("a segment")
    };
    assert_eq!(segment.in_queue.unwrap().count, 10);

    // One that still grows, and one that was torn.
    let id = id(Stream::Quotes);
    let path = machine.root.partition(Tier::Warm, &id);
    machine.sim.create_dirs(path.parent().unwrap()).unwrap();
    let mut writer = PartitionWriter::create(&machine.sim, &path, &id).unwrap();
    writer.append(Append { time_ns: 7, type_id: 4, flags: 0 }, b"quote").unwrap();
    let len = writer.flush().unwrap().len;
    let Description::Partition(open) = inspect(&machine.sim, &path).unwrap() else { panic!("a partition") };
    assert_eq!(
        (open.frames.count, open.frames.times, open.frames.end, open.tail),
        (1, Some((7, 7)), len, TailText::Open)
    );
    write(&machine.sim, &path, &[&read(&machine.sim, &path)[..], b"torn"].concat());
    let Description::Partition(torn) = inspect(&machine.sim, &path).unwrap() else { panic!("a partition") };
    assert!(matches!(torn.tail, TailText::Torn { offset, .. } if offset == len));

    // Everything is JSON, and names its kind.
    let text = serde_json::to_string(&inspect(&machine.sim, &machine.cold("book.q.zst")).unwrap()).unwrap();
    assert!(text.starts_with("{\"kind\":\"archive\""), "{text}");
    for path in ["/root", "/root/state", "/nowhere"] {
        inspect(&machine.sim, Path::new(path)).unwrap_err();
    }
}
