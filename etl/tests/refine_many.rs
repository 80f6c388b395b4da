//! Thousands of symbols on one machine: as many partitions, a bounded number of open files, and bytes that do not show it.
#![cfg(target_os = "linux")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/root.rs"]
mod support_root;
#[path = "support/synthetic.rs"]
mod support_synthetic;

use chronicle_etl::refine::{Options, refine};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_storage::root::{Root, Tier};
use support_root::{append, difference, tree};
use support_synthetic::{HOUR, SECOND, day, delta, quote, snapshot};

const VENUE: &str = "binance-spot";
const SYMBOLS: u64 = 3_000;

/// Descriptors of this process that are files under a directory.
fn open_files(under: &std::path::Path) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(under))
        .count()
}

#[test]
fn three_thousand_symbols_take_few_files() {
    // Files are counted here, not syncs of them.
    let memory = Linux.memory_dir().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(memory).unwrap();
    let noon = day(0) + 12 * HOUR;
    let mut frames = Vec::new();
    for round in 0..4 {
        for number in 0..SYMBOLS {
            let (symbol, now) = (format!("S{number}USDT"), noon + round * 20 * SECOND + number);
            match round {
                0 => frames.push(snapshot(&symbol, 0, now)),
                1 => frames.push(quote(&symbol, round, now)),
                _ => {}
            }
            frames.push(delta(&symbol, round + 1, round + 1, now, now));
        }
    }
    let root = Root::new(dir.path());
    append(&Linux, &root, VENUE, &frames, 8 << 20);
    let warm = root.partitions(Tier::Warm);
    let mut expected = None;
    for shards in [1, 3] {
        let mut most = 0;
        let options = Options { shards, checkpoint_frames: 4_000, ..Options::default() };
        let report = refine(&Linux, &root, None, &options, |progress| {
            if progress.frames.is_multiple_of(1_024) {
                most = most.max(open_files(&warm));
            }
        })
        .unwrap();
        assert_eq!(report.partitions.len() as u64, 2 * SYMBOLS);
        assert!((100..=256).contains(&most), "{most} partitions were open at once with {shards} shards");
        let found = tree(&Linux, &warm);
        assert_eq!(difference(expected.get_or_insert_with(|| found.clone()), &found), None, "{shards} shards");
        std::fs::remove_dir_all(&warm).unwrap();
        std::fs::remove_dir_all(&root.state).unwrap();
    }
}
