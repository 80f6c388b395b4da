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
    meta::{Meta, Range},
    partition::PartitionWriter,
    queue::{Profile, PublisherOptions, Queue, Start, SubscriberOptions},
    root::{Date, META, PartitionId, RawName, Root, Stream, TEMPORARY, Tier, TimeNs},
    tier::{Policy, run_once},
    verify::{Options, Problem, Report, verify, verify_with},
};
use std::path::{Path, PathBuf};

const DATE: &str = "2024-08-08";

/// Of a day with these rows as its book and, all of them, as its trades.
fn meta(rows: &[Row]) -> Meta {
    let (all, snapshots) = (rows.len() as u64, rows.iter().filter(|row| row.type_id == 2).count() as u64);
    let times = rows.iter().fold(None, |range, row| Some(Range::extended(range, row.time_ns)));
    let counts = [
        ("book.events", all),
        ("book.applied", all - snapshots),
        ("book.snapshots", snapshots),
        ("trades.events", all),
        ("trades.applied", all),
    ];
    Meta {
        venue: "test".into(),
        symbol_id: None,
        symbol_version_id: None,
        symbol_code: "btcusdt".into(),
        raw_symbol: "BTCUSDT".into(),
        date: DATE.parse().unwrap(),
        source: Vec::new(),
        ingest_time: None,
        event_time_range: times,
        completeness: Default::default(),
        late_policy: "reject".into(),
        sealed: true,
        counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
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
    meta(&rows).publish(&sim, &day(&root, Tier::Warm)).unwrap();
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

    /// Another `meta.json` in place of the warm one, with a right checksum.
    fn write_meta(&self, change: impl FnOnce(&mut Meta)) {
        let day = day(&self.root, Tier::Warm);
        let mut meta = Meta::read(&self.sim, &day).unwrap();
        change(&mut meta);
        meta.publish(&self.sim, &day).unwrap();
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
    machine.write_meta(|meta| meta.sealed = false);
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
    let [book, trades, meta_bytes] = ["book.q", "trades.q", META].map(|name| read(&machine.sim, &machine.warm(name)));
    machine.archive();
    machine.sim.create_dirs(&day(&machine.root, Tier::Warm)).unwrap();
    write(&machine.sim, &machine.warm("book.q"), &book);
    write(&machine.sim, &machine.warm("trades.q"), &trades);
    write(&machine.sim, &machine.warm(META), &meta_bytes);
    machine.sim.remove(&machine.cold(META)).unwrap();
    machine.sim.remove(&machine.cold("trades.q.zst")).unwrap();
    write(&machine.sim, &machine.cold(&format!("trades.q.zst{TEMPORARY}")), b"half");
    let report = machine.verify("/root");
    assert_eq!(report.problems, []);
    let noted: Vec<_> = report.notes.iter().map(|note| note.path.clone()).collect();
    assert_eq!(noted, [machine.cold("trades.q.zst.idx"), machine.cold(&format!("trades.q.zst{TEMPORARY}"))]);
    // Each tier by itself, and the index by itself: the other tier is looked at all the same.
    for path in [Path::new("/root/cold"), &day(&machine.root, Tier::Cold), &machine.cold("trades.q.zst.idx")] {
        let report = machine.verify(path);
        assert_eq!(report.problems, [], "{}", path.display());
        assert!(report.notes.iter().any(|note| note.what.contains("its move was cut short")), "{}", path.display());
    }

    // The same index, and nobody has the frames.
    machine.sim.remove(&machine.warm("trades.q")).unwrap();
    let index = machine.cold("trades.q.zst.idx");
    for path in [Path::new("/root"), Path::new("/root/cold"), &index] {
        let report = machine.verify(path);
        let lone = report.problems.iter().find(|problem| problem.path == index).unwrap();
        assert_eq!(lone.what, "index of trades.q.zst, which is missing, and so is trades.q");
    }
    let report = machine.verify("/root");
    let missing: Vec<_> = report.problems.iter().filter(|problem| problem.path != index).collect();
    assert_eq!((missing.len(), &missing[0].path), (1, &machine.warm("trades.q")));
    assert!(missing[0].what.starts_with("missing: meta.json counts"), "{}", missing[0]);
    write(&machine.sim, &machine.warm("trades.q"), &trades);

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

/// Numbers in a `meta.json` are what people and tools go by: a flipped digit must not pass, nor a whole one of another day.
#[test]
fn every_flipped_byte_of_a_meta_json_is_found() {
    let machine = machine(30);
    let path = machine.warm(META);
    let intact = read(&machine.sim, &path);
    for at in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[at] ^= 1 << (at % 8);
        write(&machine.sim, &path, &bytes);
        // By the way: a digit stays a digit with its lowest bit flipped.
        let report = machine.verify(if at % 3 == 0 { &path } else { Path::new("/root") });
        let problem = only(&report);
        assert_eq!(problem.path, path, "byte {at}: {problem}");
        assert!(problem.offset.is_some(), "byte {at}: {problem}");
    }
    for (i, digit) in intact.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        let mut bytes = intact.clone();
        bytes[i] = if *digit == b'9' { b'1' } else { digit + 1 };
        write(&machine.sim, &path, &bytes);
        assert_eq!(only(&machine.verify(&path)).path, path, "digit at {i}");
    }
}

#[test]
fn a_meta_json_that_does_not_fit_its_day_is_found() {
    let machine = machine(300);
    let path = machine.warm(META);
    let intact = read(&machine.sim, &path);
    let report = machine.verify(&path);
    assert!(report.is_intact() && report.small_files == 1, "it is ours: {report:?}");
    let with = |change: &dyn Fn(&mut Meta)| {
        write(&machine.sim, &path, &intact);
        machine.write_meta(change);
        let text = String::from_utf8(read(&machine.sim, &path)).unwrap();
        let report = machine.verify("/root");
        let Problem { path: found, offset, what } = only(&report).clone();
        let line =
            offset.map(|offset| text[offset as usize..].lines().next().unwrap().trim_end_matches(',').to_owned());
        (found, line.unwrap_or_default(), what)
    };
    let expect = |change: &dyn Fn(&mut Meta), line: &str, what: &str| {
        let (found, at, told) = with(change);
        assert_eq!((found, at.as_str()), (path.clone(), line));
        assert!(told.contains(what), "{told}");
    };
    expect(&|m| m.venue = "okx".into(), "\"venue\": \"okx\"", "it lies at \"test\"");
    expect(&|m| m.symbol_code = "ethusdt".into(), "\"symbol_code\": \"ethusdt\"", "it lies at \"btcusdt\"");
    expect(&|m| m.date = "2024-08-09".parse().unwrap(), "\"date\": \"2024-08-09\"", "it lies at \"2024-08-08\"");
    let set = |key: &'static str, count: u64| move |m: &mut Meta| _ = m.counts.insert(key.into(), count);
    expect(&set("book.events", 299), "\"book.events\": 299", "book.events is 299, 300 are in the book partition");
    expect(&set("book.applied", 1), "\"book.applied\": 1", "295 are in the book partition");
    expect(&set("book.snapshots", 6), "\"book.snapshots\": 6", "5 are in the book partition");
    expect(&set("book.duplicates", 2), "\"book.duplicates\": 2", "is 2, 0 are in the book partition");
    expect(&set("trades.applied", 301), "\"trades.applied\": 301", "300 are in the trades partition");
    expect(&|m| _ = m.counts.remove("trades.events"), "\"counts\": {", "trades.events is 0, 300 are in");
    let later = |m: &mut Meta| m.event_time_range = m.event_time_range.map(|r| Range::extended(Some(r), r.last.0 + 1));
    expect(&later, "\"event_time_range\": {", "event times are");
    let gap = |m: &mut Meta| {
        m.completeness.gaps.push(chronicle_storage::meta::Gap {
            after: 1,
            next: 3,
            missing_from: 2,
            missing_to: 2,
            time: TimeNs(m.date.start_ns()),
            cause: "sequence".into(),
            carried: false,
        });
    };
    expect(&gap, "\"gaps\": [", "1 gaps, 0 are in the book partition");
    // Of a stream that no tier has, by whichever path.
    let (found, _, told) = with(&set("quotes.events", 7));
    assert_eq!(found, machine.warm("quotes.q"));
    assert!(told.starts_with("missing: meta.json counts"), "{told}");
    assert_eq!(only(&machine.verify(&path)).path, machine.warm("quotes.q"));
    // Of an open day a crash may have taken it; what must be there, the checkpoint knows.
    machine.write_meta(|meta| meta.sealed = false);
    let report = machine.verify("/root");
    assert_eq!((report.problems.len(), report.notes.len()), (0, 1), "{report:?}");

    // Gone from the archive.
    write(&machine.sim, &path, &intact);
    machine.archive();
    for name in ["book.q.zst", "book.q.zst.idx"] {
        machine.sim.remove(&machine.cold(name)).unwrap();
    }
    for path in [Path::new("/root"), Path::new("/root/cold"), &day(&machine.root, Tier::Cold), &machine.cold(META)] {
        let report = machine.verify(path);
        assert_eq!(only(&report).path, machine.cold("book.q.zst"), "{}", path.display());
    }
}

/// A seal that was zeroed makes a partition look as if it still grew; the day knows better.
#[test]
fn a_partition_of_a_sealed_day_without_its_seal_is_found() {
    let machine = machine(30);
    let path = machine.warm("book.q");
    let mut bytes = read(&machine.sim, &path);
    bytes[92..128].fill(0);
    write(&machine.sim, &path, &bytes);
    let report = machine.verify("/root");
    assert_eq!((&only(&report).path, only(&report).offset), (&path, Some(92)), "{}", only(&report));
}

/// A slot of a small file that is not whole: nobody can have torn it in a queue that was closed.
#[test]
fn a_bad_slot_is_a_problem_in_a_closed_queue_and_a_note_in_one_that_was_not() {
    let machine = machine(10);
    let queue = machine.root.hot.join("streams/raw/test/queue");
    let options = || SubscriberOptions { start: Start::Earliest, ..SubscriberOptions::default() };
    let mut reader = Queue::subscriber(&machine.sim, &queue, "slow", options()).unwrap();
    for _ in 0..5 {
        reader.next().unwrap().unwrap();
        reader.commit_durable().unwrap();
    }
    drop(reader);
    let (control, cursor) = (queue.join("control.meta"), queue.join("readers/slow.meta"));
    let slots = |path: &Path| -> Vec<(usize, usize)> {
        let places: &[usize] = if *path == control { &[1024, 2048] } else { &[512, 1024, 1536, 2048] };
        places.iter().map(|at| (*at, if *path == control { 1024 } else { 64 })).collect()
    };
    let crc = |slot: &[u8]| crc32(&slot[..slot.len() - 4]).to_le_bytes();
    let asked = |path: &Path| [PathBuf::from("/root"), queue.clone(), path.to_owned()];
    for path in [&control, &cursor] {
        let intact = read(&machine.sim, path);
        assert!(machine.verify(path).is_intact(), "{}", path.display());
        for (at, len) in slots(path) {
            for byte in
                (at..at + len).filter(|byte| len == 64 || byte - at < 100 || byte % 37 == 0 || byte - at >= 1020)
            {
                let mut bytes = intact.clone();
                bytes[byte] ^= 1 << (byte % 8);
                write(&machine.sim, path, &bytes);
                let report = machine.verify(&asked(path)[byte % 3]);
                let [problem] = &report.problems[..] else { panic!("byte {byte} of {}: {report:?}", path.display()) };
                assert_eq!(&problem.path, path, "byte {byte}: {problem}");
                let offset = problem.offset.unwrap() as usize;
                assert!((at..at + len).contains(&offset), "byte {byte}: {problem}");
            }
            // Zeros, where a state stood.
            let mut bytes = intact.clone();
            bytes[at..at + len].fill(0);
            write(&machine.sim, path, &bytes);
            let report = machine.verify(path);
            assert_eq!(report.problems.len() + report.notes.len(), 1, "slot {at}: {report:?}");

            // What a kill leaves of the next store: its first words, before the old ones.
            let mut next = intact.clone();
            let generation = slot_generation(&intact, at).max(match len {
                64 => slot_generation(&intact, if at % 1024 == 512 { at + 512 } else { at - 512 }),
                _ => slot_generation(&intact, 3072 - at),
            });
            if slot_generation(&intact, at) == generation {
                continue;
            }
            next[at..at + 8].copy_from_slice(&(generation + 1).to_le_bytes());
            next[at + 8..at + 32].fill(0x5a);
            write(&machine.sim, path, &next);
            let report = machine.verify(path);
            assert_eq!((report.problems.len(), report.notes.len()), (0, 1), "slot {at}: {report:?}");
            // A state with a right checksum that nobody stores is no torn one.
            let mut absurd = intact.clone();
            absurd[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            let sum = crc(&absurd[at..at + len]);
            absurd[at + len - 4..at + len].copy_from_slice(&sum);
            write(&machine.sim, path, &absurd);
            assert_eq!(machine.verify(path).problems.len(), 1, "slot {at}");
        }
        write(&machine.sim, path, &intact);
    }

    // While a writer is at work, or after it died, a store may have been cut short.
    let options = PublisherOptions {
        helper: false,
        segment_len: 1 << 16,
        max_bytes: 1 << 20,
        ..PublisherOptions::new(Profile::Clean)
    };
    let writer = Queue::publisher(&machine.sim, &queue, options).unwrap();
    for path in [&control, &cursor] {
        let intact = read(&machine.sim, path);
        for (at, len) in slots(path) {
            let other = if len == 1024 {
                3072 - at
            } else if at % 1024 == 512 {
                at + 512
            } else {
                at - 512
            };
            if slot_generation(&intact, at) > slot_generation(&intact, other) {
                continue;
            }
            let mut bytes = intact.clone();
            bytes[at + 33] ^= 8;
            write(&machine.sim, path, &bytes);
            for asked in asked(path) {
                let report = machine.verify(&asked);
                assert_eq!(report.problems, [], "slot {at}, {}", asked.display());
                assert!(report.notes.iter().any(|note| note.path == **path), "slot {at}: {report:?}");
            }
            write(&machine.sim, path, &intact);
        }
    }
    drop(writer);
}

fn slot_generation(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Bit by bit, as `docs/format.md` says: not by what the code under test sums with.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Small files are known by their first bytes, in their queue and outside.
#[test]
fn small_files_given_by_name_are_ours() {
    let machine = machine(10);
    let queue = machine.root.hot.join("streams/raw/test/queue");
    Queue::subscriber(&machine.sim, &queue, "slow", SubscriberOptions::default()).unwrap().commit().unwrap();
    machine.archive();
    let index = queue.join("index");
    let index = index.join(&machine.sim.list(&index).unwrap()[0].name);
    let idx = machine.cold("book.q.zst.idx");
    for (i, path) in [queue.join("control.meta"), queue.join("readers/slow.meta"), index, idx].iter().enumerate() {
        let report = machine.verify(path);
        assert!(report.is_intact() && report.queues + report.files > 0, "{}: {report:?}", path.display());
        // Under a name that says nothing, far from its queue.
        let intact = read(&machine.sim, path);
        let alone = PathBuf::from(format!("/elsewhere/{i}"));
        machine.sim.create_dirs(Path::new("/elsewhere")).unwrap();
        write(&machine.sim, &alone, &intact);
        let report = machine.verify(&alone);
        assert!(report.is_intact() && report.small_files == 1, "{}: {report:?}", path.display());
        let at = if intact.starts_with(b"CHRONCTL") {
            1024 + 40
        } else if intact.starts_with(b"CHRONCUR") {
            520
        } else {
            30
        };
        let mut bytes = intact;
        bytes[at] ^= 4;
        write(&machine.sim, &alone, &bytes);
        assert_eq!(only(&machine.verify(&alone)).path, alone, "{}", path.display());
        write(&machine.sim, &alone, &bytes[..20]);
        assert_eq!(only(&machine.verify(&alone)).path, alone, "{}", path.display());
    }
    // In the place of a partition it is no partition.
    write(&machine.sim, &machine.cold("book.q.zst"), &read(&machine.sim, &queue.join("control.meta")));
    for path in [Path::new("/root"), &machine.cold("book.q.zst")] {
        let report = machine.verify(path);
        assert!(report.problems.iter().any(|problem| problem.path == machine.cold("book.q.zst")), "{report:?}");
    }
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
    assert_eq!((day.files.len(), day.meta), (2, Some(meta(&rows(1, 300, 60, 0)))));
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
