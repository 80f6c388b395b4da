//! What opening a log finds: everything that was acknowledged, or an error that says where it is missing and how that is
//! known. A torn tail is cut, damage is not.
//!
//! Each log is written by the writer that ships and then changed through plain files, on the simulator and on this machine.

mod wal_log;

use chronicle_core::wal::{Header, Kind};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::{
    Error, ErrorKind,
    wal::{Options, ReaderOptions, SyncPolicy, Verify, Wal, WalReader, inspect, plan_cut, verify},
};
use std::path::Path;
use wal_log::*;

/// Runs a test on the simulator and on real files.
fn everywhere(test: impl Fn(&dyn Fn(&mut dyn FnMut(Case<'_>)))) {
    test(&|run| run(Case::Sim(&Sim::new(3), Path::new("/log"))));
    #[cfg(target_os = "linux")]
    test(&|run| {
        let dir = tempfile::tempdir().unwrap();
        run(Case::Linux(&chronicle_platform_linux::Linux, &dir.path().join("log")));
    });
}

enum Case<'a> {
    Sim(&'a Sim, &'a Path),
    #[cfg(target_os = "linux")]
    Linux(&'a chronicle_platform_linux::Linux, &'a Path),
}

macro_rules! on_each {
    ($test:ident) => {
        everywhere(|fresh| {
            fresh(&mut |case| match case {
                Case::Sim(sim, dir) => $test(sim, dir),
                #[cfg(target_os = "linux")]
                Case::Linux(linux, dir) => $test(linux, dir),
            });
        });
    };
}

fn refused<P: Platform>(platform: &P, dir: &Path) -> Error {
    let error = Wal::open(platform, dir, &small()).map(|_| ()).expect_err("a damaged log was opened");
    assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
    error
}

#[test]
fn an_empty_directory_is_a_log_without_records() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        platform.create_dirs(dir).unwrap();
        let (wal, recovery) = Wal::open(platform, dir, &small()).unwrap();
        assert_eq!((recovery.last_seq(), recovery.next_seq, recovery.clean), (None, 1, true));
        drop(wal);
        let options = Options { durable_seq: 7, ..small() };
        let other = dir.join("other");
        let error = Wal::open(platform, &other, &options).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().ends_with("no segment is there, but record 7 is known to have been durable"),
            "{error}"
        );
    }
    on_each!(test);
}

#[test]
fn a_half_written_last_record_is_cut() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        log(platform, dir, 40, false);
        let last = records(platform, dir).pop().unwrap();
        assert_eq!(last.seq, 40);
        put(
            platform,
            &last.path,
            last.offset + last.len / 2,
            &vec![0; (last.batch.end - last.offset - last.len / 2) as usize],
        );
        let (wal, recovery) = Wal::open(platform, dir, &small()).unwrap();
        let cut = recovery.cut.clone().expect("a torn tail");
        assert_eq!((recovery.last_seq(), cut.path, cut.offset), (Some(39), last.path, last.offset));
        assert_eq!(cut.bytes, last.batch.end - last.offset);
        assert!(cut.why.starts_with("checksum stored"), "{}", cut.why);
        drop(wal);
        assert_eq!(check(platform, dir, 1), 39);
        assert_eq!(reopen(platform, dir), 39);
    }
    on_each!(test);
}

#[test]
fn a_file_cut_inside_its_last_record_keeps_all_before() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        log(platform, dir, 40, false);
        let last = records(platform, dir).pop().unwrap();
        platform.open(&last.path, Open::Write).unwrap().set_len(last.offset + 20).unwrap();
        let (wal, recovery) = Wal::open(platform, dir, &small()).unwrap();
        let cut = recovery.cut.clone().expect("a torn tail");
        assert_eq!((recovery.last_seq(), cut.offset), (Some(39), last.offset));
        assert_eq!(cut.why, format!("{} bytes needed, {} there", last.batch.end, last.offset + 20));
        drop(wal);
        assert_eq!(reopen(platform, dir), 39);
    }
    on_each!(test);
}

/// Every record of every segment, one bit each: what was acknowledged is never dropped in silence.
#[test]
fn d_15_a_torn_tail_is_cut_and_damage_is_not() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        for close in [false, true] {
            let dir = dir.join(if close { "closed" } else { "open" });
            log(platform, &dir, 40, close);
            let records = records(platform, &dir);
            assert!(segments(platform, &dir).len() > 2, "the records are spread over segments");
            for record in &records {
                let offset = record.offset + record.len * 2 / 3;
                let sim = copy(platform, &dir);
                flip(&sim, &record.path, offset, 4);
                if record.seq == 40 && !close {
                    assert_eq!(reopen(&sim, &dir), 39, "the last batch of a log that was not closed");
                    continue;
                }
                let before = bytes(&sim, &record.path);
                let error = refused(&sim, &dir);
                assert_eq!(error.path(), Some(&*record.path), "record {}: {error}", record.seq);
                assert!((record.offset..record.offset + record.len).contains(&error.offset().unwrap()), "{error}");
                assert!(error.to_string().contains(" durable"), "no evidence: {error}");
                assert_eq!(bytes(&sim, &record.path), before, "nothing is repaired");
                let mut problems = Vec::new();
                verify(&sim, &dir, &mut |problem| {
                    problems.push((problem.path().unwrap().to_path_buf(), problem.offset()))
                })
                .unwrap();
                assert_eq!(problems, [(record.path.clone(), error.offset())], "verify says the same, once");
                let described = inspect(&sim, &dir).unwrap();
                assert_eq!(described.problem, Some(error.to_string()));
            }
        }
    }
    on_each!(test);
}

#[test]
fn every_byte_of_every_header_counts() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        log(platform, dir, 40, false);
        let paths = segments(platform, dir);
        let sim = copy(platform, dir);
        for path in [&paths[0], &paths[1], paths.last().unwrap()] {
            for at in (0..132).chain([511]) {
                flip(&sim, path, at, 0x10);
                let error = refused(&sim, dir);
                assert_eq!(error.path(), Some(&**path), "byte {at}: {error}");
                assert!(error.offset().unwrap() < 512, "byte {at}: {error}");
                flip(&sim, path, at, 0x10);
            }
        }
        assert_eq!(reopen(&sim, dir), 40);
    }
    on_each!(test);
}

#[test]
fn segments_that_do_not_belong_are_refused_and_other_files_left_alone() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        let other = dir.join("other");
        let dir = &dir.join("log");
        log(platform, dir, 40, false);
        log(platform, &other, 40, false);
        let paths = segments(platform, dir);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();

        // One in the middle is missing.
        let sim = copy(platform, dir);
        sim.remove(&paths[1]).unwrap();
        let error = refused(&sim, dir);
        assert_eq!(error.path(), Some(&*paths[1]));
        assert!(error.to_string().contains("missing: segment 3 comes behind it"), "{error}");
        let mut problems = 0;
        assert_eq!(verify(&sim, dir, &mut |_| problems += 1).unwrap().problems, problems);
        assert!(problems >= 1);

        // One has another's name.
        let sim = copy(platform, dir);
        sim.rename(&paths[1], &dir.join(format!("{:020}.wal", 77))).unwrap();
        let error = refused(&sim, dir);
        assert_eq!((error.path().map(name), error.offset()), (Some(format!("{:020}.wal", 77)), Some(32)), "{error}");

        // One is another log's; or all behind it are.
        for from in [1, 2] {
            let sim = copy(platform, dir);
            let spliced = if from == 1 { &paths[1..2] } else { &paths[2..] };
            for path in spliced {
                put(&sim, path, 0, &bytes(platform, &other.join(name(path))));
            }
            let error = refused(&sim, dir);
            assert_eq!(error.offset(), Some(16), "{error}");
            assert!(error.to_string().contains("segment of log "), "{error}");
        }

        // Batches of another log under our own header.
        let sim = copy(platform, dir);
        put(&sim, &paths[1], 512, &bytes(platform, &other.join(name(&paths[1])))[512..]);
        assert_eq!(refused(&sim, dir).path(), Some(&*paths[1]));

        let sim = copy(platform, dir);
        for foreign in ["README", "1.wal", "00000000000000000002.wal.bak", "x.tmp"] {
            sim.open(&dir.join(foreign), Open::Create).unwrap().write_at(b"mine", 0).unwrap();
        }
        assert_eq!(reopen(&sim, dir), 40);
        assert_eq!(bytes(&sim, &dir.join("README")), b"mine");
        assert_eq!(bytes(&sim, &dir.join("00000000000000000002.wal.bak")), b"mine");
    }
    on_each!(test);
}

/// A segment that is used again holds older records, and more of them. After each record that is appended to it, what is
/// found must end there.
#[test]
fn d_12_records_of_a_recycled_file_never_come_back() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        let (wal, _) = Wal::open(platform, dir, &small()).unwrap();
        for last in (5..=150).step_by(5) {
            write(&wal, last);
            wal.truncate_before(last.saturating_sub(20));
            wal.maintain().unwrap();
            let sim = copy(platform, dir);
            assert_eq!(reopen(&sim, dir), last);
            assert_eq!(reopen(&sim, dir), last, "and again");
        }
        assert!(wal.stats().recycled > 3, "files were used again: {:?}", wal.stats());
    }
    on_each!(test);
}

/// Any subset of the sectors of the last write may be there. What was written before stays; nothing else appears.
#[test]
fn d_13_any_sectors_of_the_last_write_may_be_missing() {
    let (sim, dir) = (Sim::new(5), Path::new("/log"));
    let (wal, _) = Wal::open(&sim, dir, &small()).unwrap();
    write(&wal, 15);
    let before = copy(&sim, dir);
    // One batch of four sectors.
    let range = wal.append_batch(&[&payload(16)[..], &payload(17), &payload(18)]).unwrap();
    wal.commit(range.end - 1).unwrap();
    drop(wal);
    let last = records(&sim, dir).pop().unwrap();
    assert_eq!((last.seq, last.batch.end - last.batch.start), (18, 2048), "the test's measures");
    let (old, new) = (bytes(&before, &last.path), bytes(&sim, &last.path));
    let mut found = Vec::new();
    for subset in 0..16u32 {
        let torn = copy(&sim, dir);
        for sector in (0..4).filter(|sector| subset >> sector & 1 == 0) {
            let at = last.batch.start as usize + sector * 512;
            put(&torn, &last.path, at as u64, &old[at..at + 512]);
        }
        let last = reopen(&torn, dir);
        assert!((15..=18).contains(&last));
        assert_eq!(last == 18, subset == 15, "subset {subset:04b}");
        assert_eq!(reopen(&torn, dir), last, "and again");
        found.push(last);
    }
    assert!(found.contains(&15) && found.contains(&16), "{found:?}");
    assert_ne!(old, new);
}

/// A tail that was cut lands after all, written by a dead process: it must not come back.
#[test]
fn d_16_a_tail_that_was_cut_stays_cut() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        log(platform, dir, 30, false);
        let last = records(platform, dir).pop().unwrap();
        let whole = bytes(platform, &last.path);
        flip(platform, &last.path, last.offset, 1);
        assert_eq!(reopen(platform, dir), 29);
        put(platform, &last.path, 0, &whole);
        assert_eq!(reopen(platform, dir), 29, "the first crash's tail");
        let (wal, _) = Wal::open(platform, dir, &small()).unwrap();
        write(&wal, 35);
        drop(wal);
        put(platform, &last.path, 0, &whole);
        assert_eq!(reopen(platform, dir), 35);
    }
    on_each!(test);
}

#[test]
fn d_16_a_cut_outlives_a_crash_right_behind_it() {
    let dir = Path::new("/log");
    for seed in 0..60 {
        let sim = Sim::new(seed);
        let (wal, _) = Wal::open(&sim, dir, &Options { sync: SyncPolicy::OnCommit, ..small() }).unwrap();
        write(&wal, 10);
        for seq in 11..=30 {
            wal.append(&payload(seq)).unwrap();
        }
        while wal.drive() {}
        let sim = sim.crash();
        drop(wal);
        let first = reopen(&sim, dir);
        assert!(first >= 10);
        let sim = sim.crash();
        assert_eq!(reopen(&sim, dir), first, "seed {seed}: what one recovery promised, the next one has");
    }
}

#[test]
fn d_21_who_opens_second_changes_nothing() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        let (wal, _) = Wal::open(platform, dir, &small()).unwrap();
        write(&wal, 10);
        let before: Vec<_> = segments(platform, dir).iter().map(|path| bytes(platform, path)).collect();
        for _ in 0..3 {
            let error = Wal::open(platform, dir, &small()).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Locked { .. }), "{error}");
        }
        let after: Vec<_> = segments(platform, dir).iter().map(|path| bytes(platform, path)).collect();
        assert!(before == after);
        write(&wal, 20);
        wal.close().unwrap();
        assert_eq!(reopen(platform, dir), 20);
    }
    on_each!(test);
}

/// A process dies and leaves records in the kernel's memory; the next one finds them and says so; the power goes.
#[test]
fn d_22_what_recovery_promised_survives_the_next_power_cut() {
    let dir = Path::new("/log");
    let mut found = [0; 2];
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let (wal, _) = Wal::open(&sim, dir, &Options { sync: SyncPolicy::OnCommit, ..small() }).unwrap();
        write(&wal, 3);
        for seq in 4..=30 {
            wal.append(&payload(seq)).unwrap();
            while wal.drive() {}
        }
        let next = sim.start_process();
        sim.kill();
        drop(wal);
        // The promise of a mere look is none; that of an opening is.
        let (wal, recovery) = Wal::open(&next, dir, &small()).unwrap();
        let after = next.crash();
        drop(wal);
        let promised = recovery.last_seq().unwrap();
        assert_eq!(reopen(&after, dir), promised, "seed {seed}");
        found[usize::from(promised > 3)] += 1;
    }
    assert!(found[1] > 0, "no record was in memory only: the test shows nothing");
}

#[test]
fn a_log_that_ends_before_what_a_checkpoint_knows_is_damaged() {
    let (sim, dir) = (Sim::new(1), Path::new("/log"));
    log(&sim, dir, 10, false);
    let last = records(&sim, dir).pop().unwrap();
    flip(&sim, &last.path, last.offset, 1);
    let open = |durable_seq| Wal::open(&sim, dir, &Options { durable_seq, ..small() });
    let error = open(10).map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.path(), error.offset()), (ErrorKind::Damage, Some(&*last.path), Some(last.offset)));
    assert!(error.to_string().contains("record 10 is known to have been durable"), "{error}");
    assert_eq!(open(9).unwrap().1.last_seq(), Some(9));
}

#[test]
fn reading_the_tail_alone_finds_the_same_end() {
    let (sim, dir) = (Sim::new(1), Path::new("/log"));
    log(&sim, dir, 100, false);
    let tail =
        |sim: &Sim| Wal::open(sim, dir, &Options { verify: Verify::Tail, ..small() }).map(|(_, recovery)| recovery);
    let all = Wal::open(&copy(&sim, dir), dir, &small()).unwrap().1;
    assert_eq!(tail(&copy(&sim, dir)).unwrap(), all);
    // Damage in a segment that is believed is found when it is read.
    let first = &records(&sim, dir)[2];
    flip(&sim, &first.path, first.offset, 1);
    assert_eq!(tail(&sim).unwrap(), all);
    let mut reader = WalReader::open(&sim, dir, 1, ReaderOptions::default()).unwrap();
    assert!(reader.next().unwrap().is_some() && reader.next().unwrap().is_some());
    let error = reader.next().unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: offset {}", first.path.display(), first.offset)), "{error}");
}

/// Every operation of a cut may be the last one before the power goes.
#[test]
fn a_cut_keeps_what_it_promised_whatever_crashes_when() {
    let dir = Path::new("/log");
    let mut done = [0; 2];
    for n in (0..3000).step_by(3) {
        let sim = Sim::new(n);
        log(&sim, dir, 40, true);
        let record = records(&sim, dir).into_iter().find(|record| record.seq == 17).unwrap();
        flip(&sim, &record.path, record.offset + 20, 1);
        sim.open(&record.path, Open::Read).unwrap().sync().unwrap();
        let plan = plan_cut(&sim, dir).unwrap().expect("it cannot be opened");
        assert_eq!((plan.first_seq, plan.next_seq, plan.offset), (1, 17, record.offset));
        let lost: u64 = plan.lost.iter().map(|lost| lost.records).sum();
        assert_eq!(lost, 23, "{plan}");
        sim.crash_at(sim.operations() + n);
        let cut = chronicle_storage::wal::cut(&sim, dir, &plan);
        let is_whole = cut.is_ok() && !sim.is_off();
        let sim = sim.crash();
        match plan_cut(&sim, dir).unwrap() {
            // As it was; it can be cut again.
            Some(again) => {
                assert!(!is_whole);
                assert_eq!((again.next_seq, again.offset), (plan.next_seq, plan.offset));
                assert_eq!(chronicle_storage::wal::cut(&sim, dir, &again).unwrap().last_seq(), Some(16));
                done[0] += 1;
            }
            None => done[1] += 1,
        }
        if is_whole {
            let kept = sim.list(dir).unwrap().iter().filter(|entry| entry.name.ends_with(".wal.cut")).count();
            assert_eq!(kept, plan.lost.iter().filter(|lost| lost.from == 0).count(), "put aside, not destroyed");
        }
        assert_eq!(reopen(&sim, dir), 16);
        let (wal, _) = Wal::open(&sim, dir, &small()).unwrap();
        write(&wal, 20);
        drop(wal);
        assert_eq!(reopen(&sim, dir), 20);
        if is_whole {
            break;
        }
    }
    assert!(done[0] > 20 && done[1] > 3, "{done:?}");
}

#[test]
fn a_cut_needs_a_plan_that_is_still_true() {
    let (sim, dir) = (Sim::new(1), Path::new("/log"));
    log(&sim, dir, 30, true);
    assert_eq!(plan_cut(&sim, dir).unwrap(), None, "nothing to cut");
    let (records, paths) = (records(&sim, dir), segments(&sim, dir));
    let in_segment = |n: usize| records.iter().find(|record| record.path == paths[n]).unwrap();
    flip(&sim, &paths[2], in_segment(2).offset, 1);
    let plan = plan_cut(&sim, dir).unwrap().unwrap();
    assert_eq!(plan.next_seq, in_segment(2).seq);
    flip(&sim, &paths[1], in_segment(1).offset, 1);
    let error = chronicle_storage::wal::cut(&sim, dir, &plan).unwrap_err();
    assert!(error.to_string().contains("plan it again"), "{error}");
    // A header that cannot be believed: what is behind it goes too.
    flip(&sim, &paths[1], 100, 1);
    let plan = plan_cut(&sim, dir).unwrap().unwrap();
    assert_eq!(plan.next_seq, in_segment(1).seq, "{plan}");
    chronicle_storage::wal::cut(&sim, dir, &plan).unwrap();
    assert_eq!(reopen(&sim, dir), plan.next_seq - 1);
}

#[test]
fn truncations_of_frames_that_are_gone_do_not_keep_a_log_shut() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        // Room for two truncations.
        let options = Options { carry_len: 48, ..small() };
        let (wal, _) = Wal::open(platform, dir, &options).unwrap();
        let truncate = |after: u64| wal.append_control(Kind::Truncate, &after.to_le_bytes()).unwrap();
        write(&wal, 10);
        truncate(8);
        write(&wal, 20);
        truncate(18);
        let rolls = wal.stats().rolls;
        while wal.stats().rolls < rolls + 2 {
            write(&wal, wal.next_seq());
        }
        // The head of this segment repeats both; then what they void goes, and there is room for two others.
        wal.truncate_before(wal.next_seq());
        assert!(wal.stats().retired >= 2);
        for _ in 0..2 {
            write(&wal, wal.next_seq() + 1);
            truncate(wal.next_seq() - 2);
        }
        wal.commit_all().unwrap();
        let last = wal.next_seq() - 1;
        assert_eq!(wal.stats().rolls, rolls + 2, "the head that repeats them is still the newest");
        drop(wal);
        let (wal, recovery) = Wal::open(platform, dir, &options).unwrap();
        assert_eq!(recovery.last_seq(), Some(last));
        write(&wal, last + 20);
    }
    on_each!(test);
}

#[test]
fn a_believed_segment_that_begins_behind_its_successor_is_damage() {
    fn test<P: Platform>(platform: &P, dir: &Path) {
        log(platform, dir, 100, true);
        let oldest = segments(platform, dir).remove(0);
        let mut header = Header::parse(&bytes(platform, &oldest)).unwrap();
        header.first_seq = 1 << 40;
        put(platform, &oldest, 0, &header.to_bytes());
        let options = Options { verify: Verify::Tail, ..small() };
        let error = Wal::open(platform, dir, &options).map(|(_, recovery)| recovery.to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
    }
    on_each!(test);
}
