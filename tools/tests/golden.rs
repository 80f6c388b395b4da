//! Recordings through import, refine and tiers must come out as the golden files have them, to the last digit.
//!
//! The golden files were computed by another program from the same recordings. The same questions are asked of a root
//! whose days are open, sealed, and cold; a cold file unpacked by the `zstd` command is the sealed file bit for bit; and
//! `verify`, which accepts all of it, refuses it after one changed byte anywhere.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::*;

struct Case {
    venue: &'static str,
    symbol: &'static str,
    files: &'static [&'static str],
    /// Name of its golden files.
    golden: &'static str,
}

#[test]
fn spot_btcusdt_over_two_days() {
    proves(&Case {
        venue: "binance-spot",
        symbol: "btcusdt",
        files: &["binance-spot/btcusdt_20240808.gz", "binance-spot/btcusdt_20240809.gz"],
        golden: "spot_btcusdt",
    });
}

#[test]
fn spot_ethusdt() {
    proves(&Case {
        venue: "binance-spot",
        symbol: "ethusdt",
        files: &["binance-spot/ethusdt_20240808.gz"],
        golden: "spot_ethusdt_20240808",
    });
}

#[test]
fn usdm_btcusdt() {
    proves(&Case {
        venue: "binance-usdm",
        symbol: "btcusdt",
        files: &["binance-usdm/btcusdt_20240808.gz"],
        golden: "usdm_btcusdt",
    });
}

#[test]
fn coinm_btcusd_perp() {
    proves(&Case {
        venue: "binance-coinm",
        symbol: "btcusd_perp",
        files: &["binance-coinm/btcusd_perp_20240808.gz"],
        golden: "coinm_btcusd_perp_20240808",
    });
}

/// What a root says about a symbol.
#[derive(PartialEq)]
struct Answers {
    book: Vec<u8>,
    earlier_book: Vec<u8>,
    minutes: Vec<u8>,
    frames: Vec<(&'static str, String)>,
}

impl Answers {
    fn of(case: &Case, root: &Path) -> Self {
        let ask = |command: &str, more: &[&str]| about(command, root, case.venue, case.symbol, more).ok().out;
        let minutes = ["--date", "2024-08-08..2024-08-09", "--as", "book-snapshot", "--depth", "25", "--every", "60s"];
        Answers {
            book: ask("book", &["--at", "latest", "--csv"]),
            earlier_book: ask("book", &["--at", "2024-08-08T23:57:30Z", "--csv"]),
            minutes: ask("export", &[&minutes[..], &["--csv"]].concat()),
            frames: ["book", "trades", "quotes"]
                .map(|stream| {
                    (stream, sha256(&ask("cat", &["--stream", stream, "--from", "2024-08-08T23:59:00Z", "--json"])))
                })
                .to_vec(),
        }
    }

    #[track_caller]
    fn are(&self, when: &str, other: &Answers) {
        assert!(self.book == other.book, "{when}: another book");
        assert!(self.earlier_book == other.earlier_book, "{when}: another earlier book");
        assert!(self.minutes == other.minutes, "{when}: other minutes");
        assert_eq!(self.frames, other.frames, "{when}: other frames");
    }
}

fn proves(case: &Case) {
    let Some(data) = recordings() else { return };
    let dir = scratch();
    let root = dir.path().join("root");
    let files: Vec<PathBuf> = case.files.iter().map(|file| data.join(file)).collect();
    import(&root, case.venue, &files).ok();
    refine(&root, &[]).ok();

    let open = Answers::of(case, &root);
    let golden = |what: &str| gunzip(&data.join("golden").join(format!("{}_{what}.csv.gz", case.golden)));
    assert!(open.book == golden("final_book"), "the last book is not the golden one");
    assert!(open.minutes == golden("minute_top25"), "the minutes are not the golden ones");
    verify(&root).ok();

    refine(&root, &["--seal"]).ok();
    Answers::of(case, &root).are("sealed", &open);
    verify(&root).ok();
    let warm = root.join("warm/v1");
    let sealed = dir.path().join("sealed");
    copy(&warm, &sealed);
    let mut random = Random::seeded();
    flips(&mut random, &find(&warm, "book.q"), 3);

    let moved = run(Command::new(BINARY)
        .args(["tier", "run", "--once", "--now", "2024-08-11T00:00:01Z", "--json", "--root"])
        .arg(&root)
        .stdin(Stdio::null()))
    .ok();
    assert_eq!(moved.json()["failed"].as_array().map(Vec::len), Some(0), "{}", moved.text());
    assert!(tree(&warm).is_empty(), "what is cold is gone from warm: {:?}", tree(&warm).keys());
    Answers::of(case, &root).are("cold", &open);
    verify(&root).ok();

    unpacked_by_zstd(&root.join("cold/v1"), &sealed);
    let cold = find(&root.join("cold/v1"), "book.q.zst");
    flips(&mut random, &cold, 2);
    flips(&mut random, &find(&root.join("cold/v1"), "trades.q.zst"), 2);
    flips(&mut random, &find(&root.join("cold/v1"), "book.q.zst.idx"), 3);
    verify(&root).ok();
}

/// The first file of that name under a directory.
fn find(dir: &Path, name: &str) -> PathBuf {
    let found = tree(dir).into_keys().find(|path| path.file_name().is_some_and(|file| file == name));
    dir.join(found.unwrap_or_else(|| panic!("{}: no {name}", dir.display())))
}

/// `zstd -d` knows nothing of us and gives back the sealed files.
fn unpacked_by_zstd(cold: &Path, sealed: &Path) {
    if !has_program("zstd", "--version") {
        return;
    }
    let mut count = 0;
    for name in tree(cold).into_keys().filter(|name| name.extension().is_some_and(|ending| ending == "zst")) {
        let unpacked = run(Command::new("zstd").arg("-dcq").arg(cold.join(&name)).stdin(Stdio::null())).ok().out;
        let was = fs::read(sealed.join(name.with_extension(""))).expect("the sealed file was kept");
        assert!(unpacked == was, "{}: zstd gives other bytes", name.display());
        count += 1;
    }
    assert_eq!(count, tree(sealed).keys().filter(|name| name.extension().is_some_and(|ending| ending == "q")).count());
}

/// Changes one bit at random places, one at a time: each makes `verify` fail and name file and offset.
#[track_caller]
fn flips(random: &mut Random, path: &Path, count: usize) {
    let whole = fs::read(path).expect("a file");
    for _ in 0..count {
        let at = random.below(whole.len() as u64) as usize;
        let bit = random.below(8);
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(path, &bytes).expect("a changed file");
        let ran = verify(path);
        let what = format!("{}: bit {bit} of byte {at}", path.display());
        assert_eq!(ran.code, Some(1), "{what}: {} {}", ran.text(), ran.err);
        let all = format!("{}{}", ran.text(), ran.err);
        let named = path.to_string_lossy().trim_end_matches(".idx").to_owned();
        assert!(all.contains(&named), "{what}: the file is not named: {all}");
        assert!(all.contains("offset "), "{what}: no offset: {all}");
    }
    fs::write(path, &whole).expect("the file as it was");
    verify(path).ok();
}
