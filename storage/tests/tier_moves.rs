//! What the tier manager moves, what it leaves, and what it says about it.

mod archive_fixture;

use archive_fixture::{book, partition, read, rows, seal, write};
use chronicle_platform::{File, Lock, Open, Platform, sim::Sim};
use chronicle_storage::{
    Error,
    archive::{ColdFile, Options, index_path},
    meta::Meta,
    partition::PartitionWriter,
    root::{Date, META, Root, Stream, Tier},
    tier::{Policy, Reason, Report, run_once, run_once_watched},
};
use std::path::Path;

const DATE: &str = "2024-08-08";
const DAY_NS: u64 = 86_400_000_000_000;

fn policy() -> Policy {
    Policy { compression: Options { threads: 1, ..Options::default() }, ..Policy::default() }
}

fn now(days: u64) -> u64 {
    DATE.parse::<Date>().unwrap().end_ns() + days * DAY_NS
}

fn meta(sealed: bool) -> Meta {
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
        sealed,
        counts: Default::default(),
    }
}

const RAW: &str = "00112233445566778899aabbccddeeff-00000000000000000001";

/// A root with a day of two streams and a raw file, all sealed.
fn root<P: Platform>(platform: &P, dir: &Path) -> Root {
    let root = Root::new(dir);
    let rows = rows(1, 400, 50, 0);
    for stream in [Stream::Book, Stream::Trades] {
        let id = partition("test", "btcusdt", DATE, stream);
        platform.create_dirs(&root.day(Tier::Warm, &id.venue, &id.symbol, id.date)).unwrap();
        seal(platform, &root.partition(Tier::Warm, &id), &id, &rows);
    }
    meta(true).publish(platform, &day(&root, Tier::Warm)).unwrap();
    let raw = root.warm.join("raw/v1/test").join(DATE);
    platform.create_dirs(&raw).unwrap();
    seal(platform, &raw.join(format!("{RAW}.q")), &partition("x", "y", DATE, Stream::Late), &rows);
    root
}

fn day(root: &Root, tier: Tier) -> std::path::PathBuf {
    root.partitions(tier).join("test/btcusdt").join(DATE)
}

fn names<P: Platform>(platform: &P, dir: &Path) -> Vec<String> {
    platform.list(dir).map(|list| list.into_iter().map(|entry| entry.name).collect()).unwrap_or_default()
}

fn whole<P: Platform>(platform: &P, path: &Path) -> Vec<u8> {
    let cold = ColdFile::open(platform, path).unwrap();
    assert!(cold.has_index());
    cold.source_digest(1, &mut |_, _| {}).unwrap();
    let mut out = Vec::new();
    cold.read_all(1, &mut out).unwrap();
    out
}

fn moves_a_day<P: Platform>(platform: &P, dir: &Path) {
    let root = root(platform, dir);
    let warm = day(&root, Tier::Warm);
    let (book, trades, meta) = (
        read(platform, &warm.join("book.q")),
        read(platform, &warm.join("trades.q")),
        read(platform, &warm.join(META)),
    );
    let raw = root.warm.join("raw/v1/test").join(DATE);
    let raw_bytes = read(platform, &raw.join(format!("{RAW}.q")));

    // Not before its time.
    let report = run_once(platform, &root, now(1) - 1, &policy()).unwrap();
    assert!(report.moved.is_empty() && report.skipped.iter().all(|skipped| skipped.reason == Reason::Young));
    assert_eq!(report.skipped.len(), 2);
    run_once(platform, &root, 0, &policy()).unwrap();
    assert_eq!(names(platform, &warm), ["book.q", META, "trades.q"]);

    let mut seen = Vec::new();
    let report = run_once_watched(platform, &root, now(1), &policy(), &mut |p| seen.push((p.done, p.total))).unwrap();
    assert_eq!((report.moved.len(), report.skipped.len(), report.failed.len()), (3, 0, 0));
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]) && seen.last().unwrap().0 == seen[0].1);
    let cold = day(&root, Tier::Cold);
    assert_eq!(names(platform, &cold), ["book.q.zst", "book.q.zst.idx", META, "trades.q.zst", "trades.q.zst.idx"]);
    assert!(whole(platform, &cold.join("book.q.zst")) == book);
    assert!(whole(platform, &cold.join("trades.q.zst")) == trades);
    assert!(read(platform, &cold.join(META)) == meta);
    let raw_cold = root.cold.join("raw/v1/test").join(DATE).join(format!("{RAW}.q.zst"));
    assert!(whole(platform, &raw_cold) == raw_bytes);
    assert!(!platform.exists(&warm).unwrap() && !platform.exists(&raw).unwrap());
    let (before, after) = report.bytes();
    assert_eq!(before, (book.len() + trades.len() + raw_bytes.len()) as u64);
    let on_disk: usize = names(platform, &cold)
        .iter()
        .filter(|name| *name != META)
        .map(|name| read(platform, &cold.join(name)).len())
        .sum::<usize>()
        + read(platform, &raw_cold).len()
        + read(platform, &index_path(&raw_cold)).len();
    assert_eq!(after, on_disk as u64);

    // Again: nothing is left to do.
    assert_eq!(run_once(platform, &root, now(9), &policy()).unwrap(), Report::default());
}

#[test]
fn a_day_moves_when_it_is_old_enough() {
    moves_a_day(&Sim::new(1), Path::new("/root"));
    #[cfg(target_os = "linux")]
    moves_a_day(&chronicle_platform_linux::Linux, &tempfile::tempdir().unwrap().path().join("root"));
}

#[test]
fn what_is_not_final_stays() {
    // One stream of the day is not sealed.
    let sim = Sim::new(2);
    let root = root(&sim, Path::new("/root"));
    let id = partition("test", "btcusdt", DATE, Stream::Late);
    PartitionWriter::create(&sim, &root.partition(Tier::Warm, &id), &id).unwrap().flush().unwrap();
    let report = run_once(&sim, &root, now(2), &policy()).unwrap();
    assert_eq!(report.moved.len(), 1, "the raw file");
    assert_eq!((report.skipped.len(), report.skipped[0].reason), (1, Reason::Unsealed));
    assert_eq!(names(&sim, &day(&root, Tier::Cold)), [""; 0]);

    // The refinery has not written the last word.
    for last_word in [Some(false), None] {
        let sim = Sim::new(3);
        let root = self::root(&sim, Path::new("/root"));
        match last_word {
            Some(sealed) => meta(sealed).publish(&sim, &day(&root, Tier::Warm)).unwrap(),
            None => sim.remove(&day(&root, Tier::Warm).join(META)).unwrap(),
        }
        let report = run_once(&sim, &root, now(2), &policy()).unwrap();
        assert_eq!((report.skipped.len(), report.skipped[0].reason), (1, Reason::Unfinished));
        assert_eq!(names(&sim, &day(&root, Tier::Cold)), [""; 0]);
    }

    // Names that are not ours stay, and so does their directory, with what describes it.
    let sim = Sim::new(4);
    let root = self::root(&sim, Path::new("/root"));
    let warm = day(&root, Tier::Warm);
    write(&sim, &warm.join("notes.txt"), b"mine");
    book(&sim, &root.partitions(Tier::Warm).join("test/btcusdt/yesterday"), &[]);
    let report = run_once(&sim, &root, now(2), &policy()).unwrap();
    assert_eq!((report.moved.len(), report.skipped.len(), report.failed.len()), (3, 0, 0));
    assert_eq!(names(&sim, &warm), [META, "notes.txt"]);
    assert_eq!(names(&sim, &root.partitions(Tier::Warm).join("test/btcusdt/yesterday")), ["book.q"]);

    // A directory that a refinery has just made is not taken from under it.
    let sim = Sim::new(5);
    let root = Root::new("/root");
    sim.create_dirs(&day(&root, Tier::Warm)).unwrap();
    assert_eq!(run_once(&sim, &root, now(2), &policy()).unwrap(), Report::default());
    assert!(sim.exists(&day(&root, Tier::Warm)).unwrap());
}

#[test]
fn one_damaged_file_stays_and_is_named_and_the_others_move() {
    for at in [10, 1000, 40_000] {
        let sim = Sim::new(6);
        let root = root(&sim, Path::new("/root"));
        let path = day(&root, Tier::Warm).join("book.q");
        let mut bytes = read(&sim, &path);
        bytes[at] ^= 1;
        write(&sim, &path, &bytes);
        for _ in 0..2 {
            let report = run_once(&sim, &root, now(2), &policy()).unwrap();
            assert_eq!(report.failed.len(), 1);
            assert!(report.failed[0].damage && report.failed[0].path == path, "{report:?}");
            assert!(report.failed[0].error.starts_with("/root/warm/v1/test/btcusdt/2024-08-08/book.q: offset "));
        }
        assert_eq!(names(&sim, &day(&root, Tier::Warm)), ["book.q", META]);
        assert_eq!(names(&sim, &day(&root, Tier::Cold)), [META, "trades.q.zst", "trades.q.zst.idx"]);
        assert!(read(&sim, &path) == bytes);
    }
}

#[test]
fn a_copy_that_is_there_is_compared_before_the_warm_file_goes() {
    let prepared = |seed| {
        let sim = Sim::new(seed);
        let root = root(&sim, Path::new("/root"));
        let warm = day(&root, Tier::Warm);
        let saved: Vec<_> = ["book.q", META, "trades.q"].map(|name| (name, read(&sim, &warm.join(name)))).into();
        run_once(&sim, &root, now(2), &policy()).unwrap();
        sim.create_dirs(&warm).unwrap();
        for (name, bytes) in &saved {
            write(&sim, &warm.join(name), bytes);
        }
        (sim, root, saved[0].1.clone())
    };
    let zst = |root: &Root| day(root, Tier::Cold).join("book.q.zst");

    // The same bytes: the warm ones go.
    let (sim, root, _) = prepared(1);
    let report = run_once(&sim, &root, now(2), &policy()).unwrap();
    assert_eq!((report.moved.len(), report.failed.len()), (2, 0));
    assert!(report.moved.iter().all(|moved| moved.finished_earlier_move));
    assert!(!sim.exists(&day(&root, Tier::Warm)).unwrap());

    // A missing, cut or flipped index is made anew.
    for damage in [None, Some(10), Some(40)] {
        let (sim, root, book) = prepared(2);
        let index = index_path(&zst(&root));
        let intact = read(&sim, &index);
        match damage {
            None => sim.remove(&index).unwrap(),
            Some(at) => write(&sim, &index, &intact[..at]),
        }
        let report = run_once(&sim, &root, now(2), &policy()).unwrap();
        assert_eq!(report.failed, []);
        assert!(read(&sim, &index) == intact && whole(&sim, &zst(&root)) == book);
    }

    // A damaged copy is made anew from the warm file, wherever the damage is.
    let (sim, root, book) = prepared(3);
    let intact = read(&sim, &zst(&root));
    for at in [0, 500, intact.len() - 3, intact.len() - 60] {
        let (sim, root, _) = prepared(3);
        let mut bytes = intact.clone();
        bytes[at] ^= 4;
        write(&sim, &zst(&root), &bytes);
        let report = run_once(&sim, &root, now(2), &policy()).unwrap();
        assert_eq!(report.failed, [], "byte {at}");
        assert!(read(&sim, &zst(&root)) == intact && whole(&sim, &zst(&root)) == book, "byte {at}");
    }

    // Whole, but of other bytes: neither goes.
    let (sim, root, book) = prepared(4);
    let warm = day(&root, Tier::Warm).join("book.q");
    sim.remove(&warm).unwrap();
    seal(&sim, &warm, &partition("test", "btcusdt", DATE, Stream::Book), &rows(77, 30, 10, 0));
    let other = read(&sim, &warm);
    let report = run_once(&sim, &root, now(2), &policy()).unwrap();
    assert_eq!((report.moved.len(), report.failed.len()), (1, 1));
    assert!(report.failed[0].error.contains("book.q.zst: offset 0: whole, but of other bytes"), "{report:?}");
    assert!(read(&sim, &warm) == other && whole(&sim, &zst(&root)) == book);
}

#[test]
fn one_run_at_a_time() {
    let sim = Sim::new(1);
    let root = root(&sim, Path::new("/root"));
    let other = sim.start_process();
    sim.create_dirs(&root.state).unwrap();
    let lock = other.open(&root.state.join("tier.lock"), Open::EnsurePrivate).unwrap();
    assert!(lock.try_lock(Lock::Exclusive).unwrap());
    let refused = run_once(&sim, &root, now(2), &policy()).unwrap_err();
    assert!(matches!(&refused, Error::Locked { path } if path.ends_with("state/tier.lock")), "{refused}");
    other.kill();
    assert_eq!(run_once(&sim, &root, now(2), &policy()).unwrap().moved.len(), 3);
}

#[test]
fn nothing_looks_at_the_time_of_a_file() {
    // The machine's clock and every file's time are of another century than `now`.
    let sim = Sim::new(1);
    sim.set_now_ns(u64::MAX / 2);
    let root = root(&sim, Path::new("/root"));
    assert_eq!(run_once(&sim, &root, now(0), &policy()).unwrap().moved.len(), 0);
    assert_eq!(run_once(&sim, &root, now(1), &policy()).unwrap().moved.len(), 3);
}
