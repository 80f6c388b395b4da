//! Once its file is prepared, a log takes events without a page fault: what could fault was touched before.
#![cfg(target_os = "linux")]

use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use chronicle_storage::eventlog::{EventHeader, MmapWriter, Options};

/// Minor faults of this thread so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
fn appending_faults_on_no_page() {
    const LEN: u64 = 8 << 20;
    // What reading `/proc` costs is in it.
    const FEW: u64 = 16;
    let parent = Linux.memory_dir().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let path = dir.path().join("events.evtl");
    let options = Options { capacity: LEN, max_bytes: LEN, helper: false, ..Options::default() };
    let mut log = MmapWriter::create_with(&Linux, &path, options).unwrap();
    faults();
    let before = faults();
    let header = EventHeader::new(1, 2, 64);
    while log.write_event(&header, &[7; 64]).is_ok() {}
    let during = faults() - before;
    assert_eq!(log.event_count(), (LEN - 64) / 80);
    assert!(during <= FEW, "{during} faults while {} pages were written", LEN / 4096);
    drop(log);

    // Without preparation there are as many as pages: the test can count.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(LEN).unwrap();
    let file = Linux.open(&path, chronicle_platform::Open::Write).unwrap();
    chronicle_platform::File::allocate(&file, LEN).unwrap();
    let map = Linux.map_mut(&file, LEN as usize).unwrap();
    let before = faults();
    (0..LEN as usize).step_by(4096).for_each(|at| chronicle_core::RegionMut::window_mut(&map).store(at, 1));
    let cold = faults() - before;
    assert!(cold > 4 * FEW, "{cold} faults for stores into fresh pages");
}

/// A file's length is anybody's word.
#[test]
fn a_long_hollow_file_is_prepared_a_step_at_a_time() {
    use std::os::unix::fs::MetadataExt;
    const HOLLOW: u64 = 1 << 36;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.evtl");
    let options = Options { capacity: 1 << 16, step: 1 << 17, helper: false, ..Options::default() };
    let (header, payload) = (EventHeader::new(1, 2, 1000), [7; 1000]);
    let mut log = MmapWriter::create_with(&Linux, &path, options).unwrap();
    log.write_event(&header, &payload).unwrap();
    drop(log);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    if let Err(error) = file.set_len(HOLLOW) {
        return eprintln!("skipped: no file of {HOLLOW} bytes here: {error}");
    }
    let mut log = MmapWriter::open_with(&Linux, &path, options).unwrap();
    assert!(log.available() <= 1 << 18, "{} bytes prepared", log.available());
    for _ in 0..1000 {
        log.write_event(&header, &payload).unwrap();
    }
    drop(log);
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), HOLLOW, "it is never cut");
    assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks taken", metadata.blocks());
    let reader = chronicle_storage::eventlog::MmapReader::<Linux>::open(&path).unwrap();
    assert_eq!(reader.replay(|_| {}).unwrap(), 1001);
}
