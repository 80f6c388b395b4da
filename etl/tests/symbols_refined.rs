//! A symbol that is renamed at midnight is two directories and one symbol: its book goes on, and what the table said once
//! stays said.
//!
//! Without this, a rename is a book that ends and another one that begins empty, a name that was given away is a book of
//! two instruments, and a table that was changed in between gives partitions of which nobody can say who they are.

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use std::path::Path;
use std::time::Duration;

use chronicle_etl::query::{At, book_at};
use chronicle_etl::refine::{Options, refine, seal_aged};
use chronicle_etl::refinery::{FrameError, LatePolicy, NOT_APPLIED, Refinery};
use chronicle_etl::report::Report;
use chronicle_etl::symbols::{Table, Unresolved};
use chronicle_platform::sim::Sim;
use chronicle_protocol::{GapCause, Record, SnapshotSource};
use chronicle_storage::meta::Meta;
use chronicle_storage::root::{Root, Stream, Tier};
use support::{Clean, Memory, Raw, csv, date, refinery};
use support_root::{append, difference, name, tree};
use support_synthetic::{HOUR, MINUTE, SECOND, day, delta, opaque, quote, snapshot, source, trade};

const SPOT: &str = "binance-spot";
/// Renamed at midnight between the two days of these stories; the old name is another's from noon of the second day on.
const TABLE: &str = "\
venue,raw_symbol,symbol_id,symbol_code,symbol_version_id,valid_from,valid_to
binance-spot,FB,7,fb,1,2020-01-01,2024-08-09
binance-spot,META,7,meta,2,2024-08-09,
binance-spot,FB,8,fb2,3,2024-08-09T12:00:00Z,
";

fn table(text: &str) -> Table {
    Table::from_csv(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn with_table(text: &str, unresolved: Unresolved) -> Refinery {
    let mut refinery = refinery(SPOT);
    refinery.set_table(&table(text)).unwrap();
    refinery.set_unresolved(unresolved);
    refinery
}

fn feed(refinery: &mut Refinery, memory: &mut Memory, frames: &[Raw]) {
    for frame in frames {
        refinery.frame(frame.frame(), memory).unwrap();
    }
}

fn refined(frames: &[Raw]) -> (Refinery, Memory) {
    let (mut refinery, mut memory) = (with_table(TABLE, Unresolved::Error), Memory::default());
    feed(&mut refinery, &mut memory, frames);
    (refinery, memory)
}

/// Deltas of one id each, a second apart from `from`.
fn deltas(symbol: &str, first: u64, count: u64, from: u64) -> Vec<Raw> {
    (0..count).map(|i| delta(symbol, first + i, first + i, from + i * SECOND, from + i * SECOND)).collect()
}

/// A letter for each frame, a capital if it takes part, and under which name it is.
fn story(frames: &[Clean]) -> Vec<String> {
    frames
        .iter()
        .map(|frame| {
            let (word, symbol) = match frame.record() {
                Record::BookSnapshot(s) if s.source == SnapshotSource::Venue => ("snapshot", s.symbol),
                Record::BookSnapshot(s) if s.opens_partition => ("opening", s.symbol),
                Record::BookSnapshot(s) => ("minute", s.symbol),
                Record::BookDelta(d) => ("delta", d.symbol),
                Record::Gap(g) if g.carried => ("carried gap", g.symbol),
                Record::Gap(g) => ("gap", g.symbol),
                Record::Trade(t) => ("trade", t.symbol),
                Record::Quote(q) => ("quote", q.symbol),
                other => panic!("{other:?}"),
            };
            format!("{word} {symbol}{}", if frame.flags & NOT_APPLIED == 0 { "" } else { " not applied" })
        })
        .collect()
}

fn book<'m>(memory: &'m Memory, date: &str) -> &'m [Clean] {
    memory.get(0, date, Stream::Book)
}

/// Ten deltas of the last seconds under the old name behind a snapshot, ids 1 to 10.
fn last_evening() -> Vec<Raw> {
    let from = day(1) - 10 * SECOND;
    [vec![snapshot("FB", 0, from)], deltas("FB", 1, 10, from)].concat()
}

#[test]
fn a_book_goes_on_under_its_new_name() {
    let renamed = [last_evening(), deltas("META", 11, 3, day(1))].concat();
    let (refinery, memory) = refined(&renamed);
    assert_eq!(refinery.symbols().len(), 1, "one symbol");
    let symbol = &refinery.symbols()[0];
    assert_eq!(symbol.id(), Some(7));
    assert_eq!(symbol.code_on(date("2024-08-08")).as_str(), "fb");
    assert_eq!(symbol.code_on(date("2024-08-09")).as_str(), "meta");
    assert_eq!(story(book(&memory, "2024-08-09")), ["opening META", "delta META", "delta META", "delta META"]);
    // The book is that of a symbol that kept its name.
    let same = [last_evening(), deltas("FB", 11, 3, day(1))].concat();
    let (plain, _) = support::refined(SPOT, &same);
    assert_eq!(csv(symbol.book()), csv(plain.symbols()[0].book()));
    assert!(symbol.is_valid());
    let rows: Vec<_> = Report::of(&refinery)
        .partitions
        .iter()
        .map(|row| (row.symbol.to_string(), row.date.to_string(), row.counts.applied, row.gaps.len()))
        .collect();
    assert_eq!(rows, [("fb".into(), "2024-08-08".into(), 10, 0), ("meta".into(), "2024-08-09".into(), 3, 0)]);
}

#[test]
fn ids_that_begin_anew_are_a_gap_and_no_duplicates() {
    let mut frames = [last_evening(), deltas("META", 1, 2, day(1))].concat();
    frames.push(snapshot("META", 2, day(1) + 3 * SECOND));
    frames.extend(deltas("META", 3, 2, day(1) + 4 * SECOND));
    let (refinery, memory) = refined(&frames);
    assert_eq!(
        story(book(&memory, "2024-08-09")),
        [
            "carried gap META",
            "delta META not applied",
            "delta META not applied",
            "snapshot META",
            "delta META",
            "delta META"
        ],
    );
    let gap = refinery.symbols()[0].days()[&date("2024-08-08")].gaps[0];
    assert_eq!((gap.after, gap.next, gap.cause), (10, 1, GapCause::Sequence));
    assert!(refinery.symbols()[0].is_valid());
}

/// A recorder asks for the snapshot as soon as it sees the new name, maybe before the first delta of it.
#[test]
fn a_snapshot_in_front_of_the_new_names_first_delta_waits_for_it() {
    let mut anew = [last_evening(), vec![snapshot("META", 0, day(1))]].concat();
    anew.extend(deltas("META", 1, 2, day(1) + SECOND));
    let (refinery, memory) = refined(&anew);
    assert!(refinery.symbols()[0].is_valid());
    assert_eq!(refinery.symbols()[0].waiting(), 0);
    assert_eq!(
        story(book(&memory, "2024-08-09")),
        ["carried gap META", "snapshot META", "delta META", "delta META"],
        "numbering began anew"
    );
    let mut between =
        [last_evening(), vec![snapshot("META", 0, day(1))], deltas("FB", 11, 1, day(1) - SECOND)].concat();
    between.extend(deltas("META", 1, 2, day(1) + SECOND));
    let (refinery, memory) = refined(&between);
    assert!(refinery.symbols()[0].is_valid(), "{:?}", story(book(&memory, "2024-08-09")));
    assert_eq!(story(book(&memory, "2024-08-08")).last().unwrap(), "gap FB", "the old name had one more");
    let mut on = [last_evening(), vec![snapshot("META", 10, day(1))]].concat();
    on.extend(deltas("META", 11, 2, day(1) + SECOND));
    let (refinery, memory) = refined(&on);
    assert!(refinery.symbols()[0].is_valid());
    assert_eq!(refinery.symbols()[0].waiting(), 0);
    let both = [story(book(&memory, "2024-08-08")), story(book(&memory, "2024-08-09"))].concat();
    assert_eq!(
        both[11..],
        ["snapshot META not applied", "opening META", "delta META", "delta META"],
        "numbering went on, and nothing was needed"
    );
}

/// Two streams of one venue, or two connections, do not end and begin at one moment.
#[test]
fn what_comes_under_the_old_name_behind_the_new_one_is_kept_and_not_applied() {
    let mut frames = [last_evening(), deltas("META", 11, 1, day(1))].concat();
    let before = day(1) - SECOND;
    frames.push(delta("FB", 11, 11, before, day(1) + SECOND));
    frames.push(delta("FB", 500, 500, before, day(1) + SECOND));
    frames.extend(deltas("META", 12, 1, day(1) + SECOND));
    let (refinery, memory) = refined(&frames);
    assert!(refinery.symbols()[0].is_valid());
    assert_eq!(refinery.symbols()[0].last().0, 12);
    assert_eq!(story(book(&memory, "2024-08-09")), ["opening META", "delta META", "delta META"]);
    assert_eq!(story(book(&memory, "2024-08-08"))[11..], ["delta FB not applied", "delta FB not applied"]);
    let report = Report::of(&refinery);
    assert_eq!(report.partitions[0].counts.duplicates, 2, "{report:#?}");
}

#[test]
fn trades_and_quotes_under_a_new_name_are_new_whatever_their_ids() {
    let mut frames = last_evening();
    let now = day(1) - SECOND;
    frames.extend([trade("FB", 900, now, now), quote("FB", 900, now)]);
    let now = day(1) + SECOND;
    frames.extend([trade("META", 1, now, now), quote("META", 1, now), trade("META", 1, now, now)]);
    frames.push(trade("FB", 901, day(1) - 1, now));
    frames.push(trade("META", 2, now, now));
    let (_, memory) = refined(&frames);
    assert_eq!(story(memory.get(0, "2024-08-08", Stream::Trades)), ["trade FB", "trade FB"]);
    assert_eq!(
        story(memory.get(0, "2024-08-09", Stream::Trades)),
        ["trade META", "trade META not applied", "trade META"],
    );
    assert_eq!(story(memory.get(0, "2024-08-09", Stream::Quotes)), ["quote META"]);
}

#[test]
fn an_old_name_that_was_given_away_is_another_symbol() {
    let noon = day(1) + 12 * HOUR;
    let mut frames = [last_evening(), deltas("META", 11, 2, day(1))].concat();
    frames.push(snapshot("FB", 99, noon));
    frames.extend(deltas("FB", 100, 2, noon));
    frames.extend(deltas("META", 13, 1, noon));
    let (refinery, memory) = refined(&frames);
    let codes: Vec<_> =
        refinery.symbols().iter().map(|s| (s.id(), s.code_on(date("2024-08-09")).to_string(), s.is_valid())).collect();
    assert_eq!(codes, [(Some(7), "meta".into(), true), (Some(8), "fb2".into(), true)]);
    assert_eq!(story(memory.get(1, "2024-08-09", Stream::Book)), ["snapshot FB", "delta FB", "delta FB"]);
}

/// A code that changes while a day goes on is in the paths from the next midnight on, and each record keeps its name.
#[test]
fn a_day_keeps_the_code_that_it_began_with() {
    let text = TABLE
        .replace("2024-08-09,\n", "2024-08-08T23:59:55Z,\n")
        .replace("fb,1,2020-01-01,2024-08-09", "fb,1,2020-01-01,2024-08-08T23:59:55Z");
    let (mut refinery, mut memory) = (with_table(&text, Unresolved::Error), Memory::default());
    let from = day(1) - 10 * SECOND;
    let mut frames = [vec![snapshot("FB", 0, from)], deltas("FB", 1, 5, from)].concat();
    frames.extend(deltas("META", 6, 6, from + 5 * SECOND));
    feed(&mut refinery, &mut memory, &frames);
    assert_eq!(refinery.symbols()[0].code_on(date("2024-08-08")).as_str(), "fb");
    assert_eq!(refinery.symbols()[0].code_on(date("2024-08-09")).as_str(), "meta");
    assert_eq!(story(book(&memory, "2024-08-08"))[5..7], ["delta FB", "delta META"]);
    assert_eq!(story(book(&memory, "2024-08-09")), ["opening META", "delta META"]);
}

#[test]
fn who_nobody_knows_is_refused_with_a_name_and_a_time() {
    let (mut refinery, mut memory) = (with_table(TABLE, Unresolved::Error), Memory::default());
    let frame = delta("META", 1, 1, day(1) - 1, day(1) + SECOND);
    let Err(FrameError::Unresolved(stranger)) = refinery.frame(frame.frame(), &mut memory) else {
        panic!("it was taken")
    };
    assert_eq!(stranger.to_string(), "symbol META at 2024-08-08T23:59:59.999999999Z is not in the symbol table");
    assert!(memory.partitions.is_empty() && refinery.symbols().is_empty(), "nothing happened");
    // A record that has no symbol is nobody's with and without a table.
    refinery.frame(opaque("", b"hello", 0, day(1)).frame(), &mut memory).unwrap();
    assert_eq!(refinery.symbols()[0].code().as_str(), "_");
}

#[test]
fn who_nobody_knows_is_kept_as_it_came() {
    let (mut refinery, mut memory) = (with_table(TABLE, Unresolved::Unresolved), Memory::default());
    let now = day(1) - MINUTE;
    let frames = [
        delta("FTT", 1, 1, now, now),
        snapshot("FTT", 1, now),
        delta("SRM", 8, 8, now, now),
        quote("FTT", 1, day(1) + 1),
        delta("FTT", 2, 2, now + 25 * HOUR, now),
        delta("FTT", 3, 3, now, day(1) + HOUR),
    ];
    feed(&mut refinery, &mut memory, &frames);
    assert_eq!(refinery.symbols().len(), 1);
    assert!(refinery.symbols()[0].is_unresolved());
    let kept = |date: &str, stream| {
        memory.get(0, date, stream).iter().map(|f| (f.type_id, f.payload.clone())).collect::<Vec<_>>()
    };
    let came = |frames: &[&Raw]| frames.iter().map(|f| (f.type_id, f.payload.clone())).collect::<Vec<_>>();
    let [a, b, c, d, e, late] = &frames;
    assert_eq!(kept("2024-08-08", Stream::Opaque), came(&[a, b, c, e]));
    assert_eq!(kept("2024-08-09", Stream::Opaque), came(&[d]));
    assert_eq!(kept("2024-08-09", Stream::Late), came(&[late]));
    let report = Report::of(&refinery);
    assert_eq!(report.partitions[0].symbol.as_str(), "unresolved");
    assert_eq!((report.partitions[0].counts.applied, report.partitions[0].counts.late), (4, 1), "{report:#?}");
    assert_eq!(report.absurd_time, 1);
    assert!(memory.partitions.keys().all(|place| place.stream != Stream::Book), "no book of two strangers");
}

// Through the files.

fn root() -> Root {
    Root::new("/root")
}

fn options(text: Option<&str>, unresolved: Option<Unresolved>, checkpoint_frames: u64) -> Options {
    let symbols = text.map(table);
    let late_policy = Some(LatePolicy::LateStream);
    Options { symbols, unresolved, checkpoint_frames, late_policy, ..Options::default() }
}

/// The rename in a raw stream, with a third name that nobody knows if wished.
fn machine(seed: u64, strangers: bool) -> Sim {
    let sim = Sim::new(seed);
    sim.set_now_ns(day(2));
    let mut frames = vec![source("a.gz", 1, day(1) - MINUTE)];
    frames.extend(last_evening());
    frames.extend((0..20).map(|i| quote("FB", i, day(1) - 9 * SECOND)));
    frames.extend(deltas("META", 11, 130, day(1) + SECOND));
    frames.extend((0..20).map(|i| trade("META", i, day(1) + i * SECOND, day(1) + i * SECOND)));
    if strangers {
        frames.extend(deltas("FTT", 1, 30, day(1)));
    }
    append(&sim, &root(), SPOT, &frames, 64 << 10);
    sim
}

fn meta(sim: &Sim, code: &str, date: &str) -> Meta {
    let day = root().day(Tier::Warm, &name(SPOT), &name(code), support::date(date));
    Meta::read(sim, &day).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_rename_is_two_directories_with_one_symbol_id() {
    let sim = machine(1, false);
    refine(&sim, &root(), None, &options(Some(TABLE), None, 60), |_| {}).unwrap();
    let (fb, new) = (meta(&sim, "fb", "2024-08-08"), meta(&sim, "meta", "2024-08-09"));
    let of = |m: &Meta| (m.symbol_id, m.symbol_version_id, m.symbol_code.clone(), m.raw_symbol.clone());
    assert_eq!(of(&fb), (Some(7), Some(1), "fb".into(), "FB".into()));
    assert_eq!(of(&new), (Some(7), Some(2), "meta".into(), "META".into()));
    let days = tree(&sim, &root().partitions(Tier::Warm));
    let dirs: std::collections::BTreeSet<_> = days.keys().map(|path| path.parent().unwrap().to_owned()).collect();
    let expected = [Path::new("binance-spot/fb/2024-08-08"), Path::new("binance-spot/meta/2024-08-09")];
    assert_eq!(dirs.iter().map(|dir| dir.as_path()).collect::<Vec<_>>(), expected);
    // Midnight under the new name is the last book under the old one.
    let at = |code: &str, at| book_at(&sim, &root(), &name(SPOT), &name(code), at).unwrap().require_valid().unwrap();
    assert_eq!(csv(&at("fb", At::Latest).book), csv(&at("meta", At::Time(day(1))).book));
}

/// The table goes with the checkpoint: whoever comes later needs no file, and gets no other answer.
#[test]
fn a_kill_changes_no_byte_and_no_name() {
    let base = machine(2, true);
    let life = |sim: &Sim, text: Option<&str>| {
        refine(sim, &root(), None, &options(text, Some(Unresolved::Unresolved), 40), |_| {})?;
        seal_aged(sim, &root(), None, day(3), Duration::from_nanos(HOUR), |_| {})
    };
    let calm = base.crash();
    let start = calm.operations();
    let report = life(&calm, Some(TABLE)).unwrap();
    let expected = tree(&calm, &root().partitions(Tier::Warm));
    assert!(expected.contains_key(Path::new("binance-spot/unresolved/2024-08-09/opaque.q")), "{:?}", expected.keys());
    let operations = calm.operations() - start;
    println!("{operations} operations");
    for n in (1..=operations).step_by(11) {
        let sim = base.crash();
        let victim = sim.start_process();
        victim.kill_at(sim.operations() + n);
        let _ = life(&victim, Some(TABLE));
        let story = format!("killed at {n} of {operations}");
        // Without the file where it was used before.
        let begun = sim_has_checkpoint(&sim);
        let again = life(&sim, (!begun).then_some(TABLE)).unwrap_or_else(|e| panic!("{story}: {e}"));
        assert_eq!(again, report, "{story}");
        if let Some(difference) = difference(&expected, &tree(&sim, &root().partitions(Tier::Warm))) {
            panic!("{story}: {difference}");
        }
    }
}

/// From the first checkpoint on the table is in it.
fn sim_has_checkpoint(sim: &Sim) -> bool {
    use chronicle_platform::Platform;
    sim.exists(Path::new("/root/state/refine/binance-spot.checkpoint")).unwrap()
}

#[test]
fn shards_change_no_byte_of_renamed_symbols() {
    let base = machine(6, true);
    let made = |shards| {
        let sim = base.crash();
        let options = Options { shards, ..options(Some(TABLE), Some(Unresolved::Unresolved), 40) };
        let report = refine(&sim, &root(), None, &options, |_| {}).unwrap();
        (report, tree(&sim, &root().partitions(Tier::Warm)))
    };
    let (report, expected) = made(1);
    for shards in [2, 5] {
        let (again, found) = made(shards);
        assert_eq!(again, report, "{shards}");
        assert_eq!(difference(&expected, &found), None, "{shards}");
    }
}

#[test]
fn a_table_may_only_be_extended() {
    let base = machine(3, true);
    let keep = Some(Unresolved::Unresolved);
    refine(&base, &root(), None, &options(Some(TABLE), keep, 60), |_| {}).unwrap();
    let before = tree(&base, &root().partitions(Tier::Warm));
    let again = |text: &str| refine(&base, &root(), None, &options(Some(text), None, 60), |_| {});

    // New symbols, an end for an open version, the next rename, a name for nobody from now on.
    let longer = TABLE.replace("meta,2,2024-08-09,", "meta,2,2024-08-09,2024-08-12")
        + "binance-spot,METB,7,metb,4,2024-08-12,\nbinance-spot,ABC,9,abc,5,2020-01-01,\nbinance-spot,FTT,10,ftt,6,2024-08-09T00:00:30Z,\n";
    again(&longer).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(difference(&before, &tree(&base, &root().partitions(Tier::Warm))), None);

    let refused = |text: &str| {
        let error = again(text).expect_err(text);
        assert_eq!(error.kind(), chronicle_storage::ErrorKind::Refusal);
        error.to_string()
    };
    // From here on it must extend the longer one.
    let cases = [
        (
            "meta,2,2024-08-09,2024-08-12",
            "meta,2,2024-08-09,2024-08-09T00:00:10Z",
            "binance-spot/meta/2024-08-09: symbol table does not extend the one before: META at \
             2024-08-09T00:02:10.000000000Z was version 2 of symbol_id 7 (meta), and would be nobody; give one that only adds to it, \
             or remove all partitions of the venue and its checkpoint to make them again",
        ),
        ("FB,7,fb,1,", "FB,7,facebook,1,", "binance-spot/fb/2024-08-08: symbol table does not extend"),
        ("FB,7,fb,1,", "FB,7,fb,11,", "and would be version 11 of symbol_id 7 (fb)"),
        (
            "ftt,6,2024-08-09T00:00:30Z",
            "ftt,6,2024-08-09T00:00:29Z",
            "binance-spot/unresolved/2024-08-09: symbol table",
        ),
    ];
    for (old, new, told) in cases {
        let text = refused(&longer.replace(old, new));
        assert!(text.contains(told), "{text}");
    }
    assert_eq!(difference(&before, &tree(&base, &root().partitions(Tier::Warm))), None, "refused, nothing changed");
    again(&longer).unwrap();
}

#[test]
fn a_table_comes_first_or_never() {
    let sim = machine(4, false);
    refine(&sim, &root(), None, &options(None, None, 60), |_| {}).unwrap();
    let error = refine(&sim, &root(), None, &options(Some(TABLE), None, 60), |_| {}).unwrap_err().to_string();
    assert!(
        error.starts_with("binance-spot/fb/2024-08-08: symbol table does not extend the one before: it was refined"),
        "{error}"
    );
}

/// Refining stops before the record; once the table has it, it goes on as if the table had always had it.
#[test]
fn a_stranger_stops_refining_until_the_table_knows_him() {
    let base = machine(5, true);
    let sim = base.crash();
    let error = refine(&sim, &root(), None, &options(Some(TABLE), None, 60), |_| {}).unwrap_err();
    assert_eq!(error.kind(), chronicle_storage::ErrorKind::Refusal);
    let told = error.to_string();
    assert!(told.contains("symbol FTT at 2024-08-09T00:00:00.000000000Z is not in the symbol table"), "{told}");
    let longer = format!("{TABLE}binance-spot,FTT,10,ftt,6,2019-01-01,\n");
    refine(&sim, &root(), None, &options(Some(&longer), None, 60), |_| {}).unwrap();
    let always = base.crash();
    refine(&always, &root(), None, &options(Some(&longer), None, 60), |_| {}).unwrap();
    let (one, other) = (tree(&sim, &root().partitions(Tier::Warm)), tree(&always, &root().partitions(Tier::Warm)));
    assert_eq!(difference(&one, &other), None);
}
