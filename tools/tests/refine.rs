//! `chronicle refine` as a process: killed, followed, with any number of shards, it leaves the same bytes.

#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{BINARY, assert_same, excerpt, import, refine, scratch, tree, verify};

const VENUE: &str = "binance-spot";

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in tree(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn warm(root: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    tree(&root.join("warm/v1"))
}

fn start(root: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.args(["refine", "--json", "--root"]).arg(root).args(more).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ends it as Ctrl-C does.
fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

/// A short `ci/refine-kill`.
#[test]
fn a_killed_refinery_leaves_the_same_bytes_with_any_number_of_shards() {
    let dir = scratch();
    let (raw, whole) = (dir.path().join("raw"), dir.path().join("whole"));
    import(&raw, VENUE, &[excerpt()]).ok();
    copy(&raw, &whole);
    let began = Instant::now();
    refine(&whole, &["--shards", "1", "--seal"]).ok();
    let took = began.elapsed();
    let expected = warm(&whole);
    let seed = std::env::var("CHRONICLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7_u64);
    println!("seed {seed}");
    let mut dice = seed;
    let mut below = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % sides
    };
    let mut hits = 0;
    for round in 0..4 {
        let root = dir.path().join(format!("root-{round}"));
        copy(&raw, &root);
        for _ in 0..3 {
            let shards = (1 + below(4)).to_string();
            let mut life = vec!["--shards", &shards, "--checkpoint-frames", "700"];
            if below(2) == 0 {
                life.push("--follow");
            }
            let mut child = start(&root, &life);
            thread::sleep(took.mul_f64(below(1000) as f64 / 1000.0));
            hits += u32::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        verify(&root).ok();
        refine(&root, &["--shards", "3", "--seal"]).ok();
        assert_same(&format!("seed {seed}, round {round}"), &warm(&root), &expected);
    }
    assert!(hits > 3, "{hits} kills hit a running process");
}

#[test]
fn a_follower_shows_what_comes_and_ends_when_it_is_asked() {
    let dir = scratch();
    let (root, whole) = (dir.path().join("root"), dir.path().join("whole"));
    // Two recordings of which the second comes while the first is refined already.
    let text = support::gunzip(&excerpt());
    let middle = text.len() / 2 + text[text.len() / 2..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    fs::write(&first, &text[..middle]).unwrap();
    fs::write(&second, &text[middle..]).unwrap();
    for file in [&first, &second] {
        import(&whole, VENUE, std::slice::from_ref(file)).ok();
    }
    refine(&whole, &["--shards", "1"]).ok();
    let expected = warm(&whole);

    import(&root, VENUE, std::slice::from_ref(&first)).ok();
    let follower = start(&root, &["--follow", "--venue", VENUE, "--shards", "2", "--status-every", "1"]);
    import(&root, VENUE, std::slice::from_ref(&second)).ok();
    // Without a checkpoint, and with the follower alive: what it shows is what readers find.
    let book = expected.keys().find(|path| path.ends_with("2024-08-08/book.q")).unwrap();
    let shown = root.join("warm/v1").join(book);
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&shown).map_or(0, |meta| meta.len()) < expected[book].len() as u64 {
        assert!(Instant::now() < deadline, "{}: not all of it is shown", shown.display());
        thread::sleep(Duration::from_millis(20));
    }
    interrupt(&follower);
    let output = follower.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let report = lines.last().unwrap();
    assert!(!report["partitions"].as_array().unwrap().is_empty(), "{out}");
    for status in &lines[..lines.len() - 1] {
        assert_eq!((&status["status"]["venue"], &status["status"]["shards"]), (&VENUE.into(), &2.into()), "{out}");
    }
    assert_same("followed", &warm(&root), &expected);
}

#[test]
fn a_follower_is_called_rightly() {
    let dir = scratch();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("hot")).unwrap();
    refine(&root, &["--follow"]).exits(2).says("no venue has a raw stream yet; name the one to wait for with --venue");
    refine(&root, &["--follow", "--seal"]).exits(2);
    refine(&root, &["--wait", "spin"]).exits(2);
    refine(&root, &["--shards", "0"]).exits(2);
    // One that waits for a venue of which nothing is there yet.
    refine(&root, &["--follow", "--venue", VENUE, "--lasts", "1"]).ok();
}
