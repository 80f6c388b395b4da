//! What a strategy costs, as docs/bus.md says it: descriptors, watches, bytes, threads. Measured, so that the page is true.
#![cfg(target_os = "linux")]

use chronicle_bus::{
    Layout, RouterEnd, StrategyEnd,
    ends::{RouterOptions, StrategyOptions},
};
use chronicle_platform_linux::Linux;
use std::{fs, os::unix::fs::MetadataExt, path::Path};

const STRATEGIES: usize = 20;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// inotify watches of this process.
fn watches() -> usize {
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
    let of = |info: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(info.unwrap().path()).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("inotify wd:")).count()
    };
    infos.map(of).sum()
}

/// Bytes that a tree takes, and its files.
fn taken(dir: &Path) -> (u64, usize) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        let (bytes, files) = if data.is_dir() { taken(&path) } else { (data.blocks() * 512, 1) };
        sum = (sum.0 + bytes, sum.1 + files);
    }
    sum
}

/// One test: what it counts is the whole process's.
#[test]
fn a_strategy_costs_what_the_page_says() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let layout = Layout::new(dir.path());
    let mut router = RouterEnd::open(&Linux, &layout, RouterOptions::default()).unwrap();
    let settled = |what: &dyn Fn() -> usize| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        what()
    };
    let counts = || [settled(&descriptors), settled(&threads), settled(&watches)];
    let before = counts();
    let ends: Vec<_> = (0..STRATEGIES)
        .map(|nth| StrategyEnd::open(&Linux, &layout, &format!("s{nth}"), &StrategyOptions::default()).unwrap())
        .collect();
    let with_ends = counts();
    let (bytes, files) = taken(&layout.kind_dir(chronicle_bus::Kind::Strategy));
    router.discovery().rescan();
    router.drive();
    assert_eq!(router.strategies().count(), STRATEGIES);
    let with_router = counts();
    let each =
        |after: [usize; 3], before: [usize; 3], what: usize| (after[what] - before[what]) as f64 / STRATEGIES as f64;
    let mib = bytes as f64 / STRATEGIES as f64 / 1048576.0;
    println!(
        "a strategy: {} descriptors, {} threads, {mib:.2} MiB in {} files; its router: {} descriptors, {} threads, {} watches",
        each(with_ends, before, 0),
        each(with_ends, before, 1),
        files / STRATEGIES,
        each(with_router, with_ends, 0),
        each(with_router, with_ends, 1),
        each(with_router, before, 2),
    );
    // The page's numbers, as bounds: fewer would be good news, more are not what was promised.
    assert!(each(with_ends, before, 0) <= 8.0 && each(with_ends, before, 1) <= 2.0);
    assert!(each(with_router, with_ends, 0) <= 6.0 && each(with_router, with_ends, 1) == 0.0);
    assert!(each(with_router, before, 2) <= 1.0);
    assert!(mib <= 0.6, "{mib}");
    drop(ends);
}
