//! The demo proves what it shows: each of its verdicts can turn false, and it leaves nothing behind.

mod support;

use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use support::*;

/// One demo at a time: it has up to eight processes, and some of them spin.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A demo with a temporary directory of its own.
struct Demo {
    temporary: tempfile::TempDir,
    command: Command,
}

impl Demo {
    /// On the recording that lies in the repository.
    fn new(more: &[&str]) -> Self {
        let mut demo = Demo::of(more);
        demo.command.args(["--venue", "binance-spot", "--input"]).arg(excerpt());
        demo
    }

    /// On a recording that the caller names, or trading live.
    fn of(more: &[&str]) -> Self {
        let temporary = scratch();
        let mut command = Command::new(BINARY);
        command.args(["demo", "--json", "--seconds"]).args(more).env("TMPDIR", temporary.path()).stdin(Stdio::null());
        Demo { temporary, command }
    }

    /// Runs it to its end, after which nothing of it is left.
    #[track_caller]
    fn run(mut self) -> Ran {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().expect("it starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it ends");
        let ran = Ran {
            what: format!("{:?}", self.command),
            code: output.status.code(),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        self.leaves_nothing(pid);
        ran
    }

    fn spawn(&mut self) -> Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    }

    #[track_caller]
    fn leaves_nothing(&self, pid: u32) {
        let names = |dir: &Path| -> Vec<PathBuf> {
            fs::read_dir(dir).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect()
        };
        assert_eq!(names(self.temporary.path()), Vec::<PathBuf>::new(), "left in the temporary directory");
        assert_eq!(in_memory(pid), Vec::<PathBuf>::new(), "left in memory");
        assert_eq!(parts_in(self.temporary.path()), Vec::<u32>::new(), "processes left");
    }
}

fn excerpt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/binance-spot/ethusdt-20240808-excerpt.gz")
}

/// What a demo made in shared memory.
fn in_memory(pid: u32) -> Vec<PathBuf> {
    let ours = format!("chronicle-demo-{pid}-");
    fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours)))
        .collect()
}

/// Processes that were told of this directory.
fn parts_in(dir: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
        if String::from_utf8_lossy(&command).contains(&*dir.to_string_lossy()) {
            found.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
    }
    found
}

#[test]
fn every_check_holds() {
    let _turn = alone();
    let ran = Demo::new(&["1"]).run().ok();
    let told = ran.json();
    assert_eq!(told["ok"], true);
    assert_eq!(told["events"], 15_000);
    assert_eq!(told["replay"], "identical");
    assert_eq!(told["problems"], Value::Array(Vec::new()));
    // Counted by another program: quotes whose update id is that of an applied delta.
    assert_eq!(told["books"]["checked"], told["books"]["equal"]);
    assert_eq!(told["books"]["checked"], 227);
    let number = |pointer: &str| {
        let value = told.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer}: {told}"));
        assert!(value > 0.0, "{pointer} is {value}");
        value
    };
    let latencies = ["p50", "p99", "p999", "max"].map(|name| number(&format!("/latency_ns/{name}")));
    assert!(latencies.is_sorted(), "{latencies:?}");
    let bytes = ["raw", "warm", "cold"].map(|name| number(&format!("/bytes/{name}")));
    assert!(bytes[2] < bytes[1], "cold is smaller than warm: {bytes:?}");
    for name in ["/import_events_per_s", "/refine_events_per_s", "/seconds"] {
        number(name);
    }
    let killed = told["killed"].as_array().expect("a list");
    assert_eq!(killed.len(), 1, "{told}");
    assert!(killed[0]["pid"].is_u64(), "{told}");
    was_at_work(&told, 0);
    for strategy in told["strategies"].as_array().expect("a list") {
        assert_eq!(strategy["records"], 15_001, "{told}");
    }
}

/// The kill hit the refinery within a run, with about half of the recording taken in, whatever the feed did.
#[track_caller]
fn was_at_work(told: &Value, kill: usize) {
    let phase = told["killed"][kill]["phase"].as_str().expect("what was hit");
    let at = phase.strip_prefix("while it refined, ").and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(at.is_some_and(|at| (3_750..9_000).contains(&at)), "{phase}");
    // What it had taken in was not all in a checkpoint: nothing stands between two runs.
    assert!(told["refined_twice"].as_u64().is_some_and(|twice| twice > 0), "{told}");
}

#[test]
fn at_full_speed_the_kill_hits_the_refinery_at_work() {
    let _turn = alone();
    for _ in 0..3 {
        let told = Demo::new(&["0"]).run().ok().json();
        assert_eq!(told["killed"].as_array().map(Vec::len), Some(1), "{told}");
        was_at_work(&told, 0);
        assert_eq!(told["replay"], "identical");
    }
}

#[test]
fn a_record_that_is_dropped_is_missed() {
    let _turn = alone();
    let told = Demo::new(&["0", "--sabotage", "drop-record"]).run().exits(1).json();
    assert_eq!(told["ok"], false);
    assert!(told["replay"].as_str().is_some_and(|replay| replay.starts_with("line 1000: ")), "{told}");
}

#[test]
fn a_byte_that_is_flipped_is_found() {
    let _turn = alone();
    let told = Demo::new(&["0", "--sabotage", "flip-byte"]).run().exits(1).json();
    assert_eq!(told["ok"], false);
    assert_eq!(told["verified"]["damaged"], 1);
    assert_ne!(told["replay"], "identical");
    let first = told["problems"][0].as_str().expect("a problem");
    assert!(first.contains("book.q.zst: offset "), "{first}");
}

#[test]
fn two_kills_are_not_one() {
    let _turn = alone();
    let told = Demo::new(&["0", "--sabotage", "kill-twice"]).run().exits(1).json();
    assert_eq!(told["ok"], false);
    assert_eq!(told["killed"].as_array().map(Vec::len), Some(2));
    was_at_work(&told, 0);
    was_at_work(&told, 1);
    assert_eq!(told["replay"], "identical", "the archive is right all the same");
    assert_eq!(told["books"]["checked"], told["books"]["equal"]);
}

/// A container has 64 MiB of shared memory, or 16: less than the demo would like.
#[test]
fn little_shared_memory() {
    let _turn = alone();
    let mut probe = Command::new("unshare");
    probe.args(["-m", "mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", "/dev/shm"]);
    if !probe.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to mount a small /dev/shm");
        return;
    }
    let mut demo = Demo::new(&[]);
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs -o size=16m tmpfs /dev/shm && exec \"$0\" demo --json --seconds 0 --venue binance-spot --input \"$1\"",
    ]);
    command.arg(BINARY).arg(excerpt()).env("TMPDIR", demo.temporary.path()).stdin(Stdio::null());
    demo.command = command;
    let told = demo.run().ok().json();
    assert_eq!(told["ok"], true);
    let hot = told["hot"].as_str().expect("where the queue lay");
    assert!(hot.starts_with("disk: ") && hot.contains("16 MiB free"), "{hot}");
}

/// However little room there is, the demo says at once which part failed and of what, and goes.
#[test]
fn little_room_for_temporary_files() {
    let _turn = alone();
    let mut probe = Command::new("unshare");
    probe.args(["-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]);
    if !probe.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    for size in ["400k", "1m", "8m", "16m", "18m"] {
        let mut demo = Demo::new(&[]);
        let mut command = Command::new("unshare");
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs \"$TMPDIR\" || exit 90
             \"$0\" demo --json --seconds 0 --venue binance-spot --input \"$1\"; code=$?
             ls -A \"$TMPDIR\"; exit $code"
        );
        command
            .args(["-m", "sh", "-c", &script, BINARY])
            .arg(excerpt())
            .env("TMPDIR", demo.temporary.path())
            .stdin(Stdio::null());
        demo.command = command;
        let began = Instant::now();
        let ran = demo.run().exits(1).says("No space left").says("TMPDIR");
        assert!(began.elapsed() < Duration::from_secs(20), "{size}: after {:?}: {}", began.elapsed(), ran.err);
        assert!(ran.out.is_empty(), "{size}: left: {}", ran.text());
        assert!(ran.err.contains("failed") || ran.err.contains("recording"), "{size}: {}", ran.err);
        eprintln!("{size}: {}", ran.err.trim());
    }
}

/// Whichever part is waited for, the one that fails is named, with how it ended.
#[test]
fn a_part_that_fails_ends_the_demo() {
    let _turn = alone();
    for part in ["strategy --reader slow", "strategy --reader fast", "feed", "refinery"] {
        let (kind, reader) = part.split_once(" --reader ").unwrap_or((part, ""));
        let mut demo = Demo::new(&["60"]);
        demo.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = demo.command.spawn().expect("it starts");
        let is_it = |pid: &u32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments: Vec<_> = arguments.split(|byte| *byte == 0).collect();
            // The feed's arguments name the readers too.
            arguments.get(2) == Some(&kind.as_bytes())
                && (reader.is_empty() || arguments.windows(2).any(|two| two == [b"--reader", reader.as_bytes()]))
        };
        let found = || parts_in(demo.temporary.path()).into_iter().find(is_it);
        until("all parts run", || parts_in(demo.temporary.path()).len() >= 4 && found().is_some());
        let began = Instant::now();
        signal("KILL", found().expect("it runs"));
        let pid = child.id();
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{part}: {said}");
        assert!(began.elapsed() < Duration::from_secs(10), "{part}: after {:?}", began.elapsed());
        let named = [kind, reader].join(" ");
        assert!(said.contains(&format!("{} failed (signal: 9", named.trim())), "{part}: {said}");
        demo.leaves_nothing(pid);
    }
}

/// What a part says of its failure is what the demo says.
#[test]
fn a_part_that_fails_is_quoted() {
    let _turn = alone();
    let mut demo = Demo::new(&[]);
    let mut command = Command::new("sh");
    // No file may have more than 1 MiB, and who tries it anyway is told so.
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 2048; exec \"$0\" demo --json --seconds 0 --venue binance-spot --input \"$1\"",
        BINARY,
    ]);
    command.arg(excerpt()).env("TMPDIR", demo.temporary.path()).stdin(Stdio::null());
    demo.command = command;
    let began = Instant::now();
    demo.run().exits(1).says("feed failed (exit status: 1)").says(".fresh: allocate failed: File too large");
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
}

#[test]
fn interrupted_it_leaves_nothing() {
    let _turn = alone();
    let mut demo = Demo::new(&["20"]);
    let mut child = demo.spawn();
    until("parts run", || parts_in(demo.temporary.path()).len() >= 4);
    signal("INT", child.id());
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "{status}");
    demo.leaves_nothing(child.id());
}

/// A signal ends no read of a pipe into which nobody writes.
#[test]
fn interrupted_before_there_is_a_recording_it_ends() {
    let _turn = alone();
    let dir = scratch();
    let pipe = dir.path().join("pipe");
    run(Command::new("mkfifo").arg(&pipe)).ok();
    let mut demo = Demo::of(&["0"]);
    demo.command.args(["--venue", "binance-spot", "--input"]).arg(&pipe);
    let child = demo.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let began = || fs::read_dir(demo.temporary.path()).is_ok_and(|mut there| there.next().is_some());
    until("it has begun", began);
    // Its handler is there before its directory.
    signal("INT", child.id());
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "chronicle: stopped; nothing was left behind\n");
    demo.leaves_nothing(pid);
}

#[test]
fn a_temporary_directory_that_is_not_there() {
    let mut demo = Demo::of(&["0"]);
    demo.command.env("TMPDIR", "/nowhere/at/all");
    let ran = demo.run().exits(1).says("/nowhere/at/all: ").says("No such file or directory").says("TMPDIR");
    assert!(!ran.err.contains("chronicle-demo"), "{}", ran.err);
}

#[test]
fn killed_its_parts_go_too() {
    let _turn = alone();
    let mut demo = Demo::new(&["20"]);
    let mut child = demo.spawn();
    until("parts run", || parts_in(demo.temporary.path()).len() >= 4);
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
    until("parts are gone", || parts_in(demo.temporary.path()).is_empty());
    // What nobody was left to remove.
    for dir in in_memory(child.id()) {
        fs::remove_dir_all(dir).expect("removed");
    }
}

#[test]
fn a_root_that_is_kept_is_whole() {
    let _turn = alone();
    let dir = scratch();
    let kept = dir.path().join("kept");
    let mut demo = Demo::new(&["0"]);
    demo.command.arg("--keep").arg(&kept);
    demo.run().ok();
    verify(&kept).ok();
    about("book", &kept, "binance-spot", "ethusdt", &["--at", "latest", "--csv"]).ok().says("bid,");
    chronicle(["inspect".as_ref(), kept.as_os_str()]).ok().says("2024-08-08");

    let before = tree(&kept);
    let mut again = Demo::new(&["0"]);
    again.command.arg("--keep").arg(&kept);
    again.run().exits(2).says("is not empty");
    assert_same("refused", &before, &tree(&kept));
}

#[test]
fn recordings_that_are_damaged() {
    let Some(data) = recordings() else { return };
    let _turn = alone();
    for (name, events, note) in [
        ("truncated_spot.gz", 2_428, Some("truncated")),
        ("malformed_spot.gz", 3_000, Some("5 malformed lines")),
        ("gap_spot.gz", 3_988, None),
    ] {
        let mut demo = Demo::of(&["0", "--venue", "binance-spot"]);
        demo.command.arg("--input").arg(data.join("damaged").join(name));
        let told = demo.run().ok().json();
        assert_eq!(told["events"], events, "{name}: {told}");
        assert_eq!(told["replay"], "identical", "{name}: {told}");
        let notes = told["notes"].to_string();
        assert_eq!(note.is_some(), notes != "[]", "{name}: {notes}");
        assert!(notes.contains(note.unwrap_or_default()), "{name}: {notes}");
    }
}

#[test]
fn recordings_with_nothing_in_them() {
    let _turn = alone();
    let dir = scratch();
    for (name, text) in [("empty", ""), ("words", "no message at all\nnor here\n")] {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        let mut demo = Demo::of(&["0", "--venue", "binance-spot"]);
        demo.command.arg("--input").arg(&path);
        demo.run().exits(1).says(name).says("no whole message");
    }
    let mut demo = Demo::of(&["0", "--venue", "binance-spot"]);
    demo.command.arg("--input").arg(dir.path().join("absent"));
    demo.run().exits(2).says("absent");
}

#[track_caller]
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().expect("kill is there");
    assert!(status.success());
}

/// The whole cast, with everybody killed once and the exchange misbehaving.
#[test]
fn live_every_check_holds() {
    let _turn = alone();
    let told = Demo::of(&["0", "--live", "--seed", "7"]).run().ok().json();
    assert_eq!(told["ok"], true, "{told}");
    assert_eq!(told["problems"], Value::Array(Vec::new()));
    assert_eq!(told["replay"], "identical");
    assert_eq!(told["seed"], 7);
    let number = |pointer: &str| {
        let value = told.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer}: {told}"));
        assert!(value > 0.0, "{pointer} is {value}: {told}");
        value
    };
    // Calm, doubles, gap, reconnect, four deaths, calm, the end: in each a book of each symbol was compared.
    assert_eq!(told["scenes"], 10, "{told}");
    assert_eq!(told["books"]["checked"], told["books"]["equal"]);
    assert!(number("/books/checked") >= 20.0, "{told}");
    assert!(number("/noted") >= number("/books/checked"), "{told}");
    number("/gaps");
    let orders = &told["orders"];
    assert_eq!(orders["sent"], orders["at_exchange"], "{told}");
    assert_eq!(orders["sent"], orders["ended_once"], "{told}");
    assert_eq!(
        orders["answered_once"].as_u64(),
        Some((number("/orders/sent") + number("/orders/cancels")) as u64),
        "{told}"
    );
    number("/orders/fills");
    assert_eq!((&orders["lost"], &orders["doubled"]), (&Value::from(0), &Value::from(0)), "{told}");
    assert_eq!((&told["registrations"], &told["stale"]), (&Value::from(3), &Value::from(0)), "{told}");
    for name in ["latency_ns", "tick_to_order_ns", "order_to_answer_ns", "tick_to_fill_ns"] {
        let latencies = ["p50", "p99", "p999", "max"].map(|which| number(&format!("/{name}/{which}")));
        assert!(latencies.is_sorted(), "{name}: {latencies:?}");
    }
    let killed = told["killed"].as_array().expect("a list");
    for name in ["feed", "trader taker", "router", "refinery"] {
        let dead =
            |killed: &Value| killed["phase"].as_str().is_some_and(|phase| phase.starts_with(&format!("{name}: ")));
        assert_eq!(killed.iter().filter(|killed| dead(killed)).count(), 1, "{name}: {told}");
    }
}

/// Every check that holds above is one that can fail.
#[test]
fn live_what_is_wrong_is_found() {
    let _turn = alone();
    let sabotage = ["wrong-book", "lose-order", "double-order", "answer-twice", "leave-stale"];
    let mut demo = Demo::of(&["0"]);
    demo.command.args(sabotage.iter().flat_map(|sabotage| ["--sabotage", sabotage]));
    let told = demo.run().exits(1).json();
    assert_eq!(told["ok"], false);
    let number = |pointer: &str| told.pointer(pointer).and_then(Value::as_u64).expect("a number");
    // The router does wrong in each of its two lives.
    assert_eq!(number("/books/checked"), number("/books/equal") + 1, "{told}");
    assert!((1..=2).contains(&number("/orders/lost")), "{told}");
    assert!((1..=2).contains(&number("/orders/doubled")), "{told}");
    assert!(number("/orders/answered_once") < number("/orders/sent") + number("/orders/cancels"), "{told}");
    assert!(number("/orders/ended_once") < number("/orders/sent"), "{told}");
    assert_eq!(number("/stale"), 1, "{told}");
    assert_eq!(told["replay"], "identical", "what the archive holds is right all the same: {told}");
    for why in ["the venue's", "is not at the exchange", "was answered 2 times", "nobody runs"] {
        let problems = told["problems"].as_array().expect("a list");
        assert!(
            problems.iter().any(|problem| problem.as_str().is_some_and(|text| text.contains(why))),
            "{why}: {told}"
        );
    }
}

/// Killed in random order, one after the other: the same checks hold, and the archive's still can fail.
#[test]
fn live_chaos() {
    let _turn = alone();
    let told = Demo::of(&["8", "--chaos", "--seed", "11"]).run().ok().json();
    assert_eq!(told["ok"], true, "{told}");
    assert_eq!(told["seed"], 11);
    assert!(told["killed"].as_array().is_some_and(|killed| killed.len() >= 5), "{told}");
    assert!(told["books"]["checked"].as_u64() > Some(2), "{told}");

    let told = Demo::of(&["2", "--chaos", "--sabotage", "flip-byte"]).run().exits(1).json();
    assert_eq!(told["verified"]["damaged"], 1, "{told}");
    assert_ne!(told["replay"], "identical", "{told}");
}

#[test]
fn live_a_port_that_is_taken() {
    let _turn = alone();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let began = Instant::now();
    let demo = Demo::of(&["0", "--listen", &address]);
    demo.run().exits(1).says("exchange failed").says(&address).says("cannot be listened on");
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
}

#[test]
fn live_is_not_recorded() {
    for more in [&["--chaos"][..], &["--seed", "1"], &["--live"], &["--listen", "127.0.0.1:0"]] {
        let mut demo = Demo::new(&["0"]);
        demo.command.args(more);
        demo.run().exits(2).says("--input");
    }
}

#[test]
fn live_interrupted_or_killed_it_leaves_nothing() {
    let _turn = alone();
    for name in ["INT", "KILL"] {
        let mut demo = Demo::of(&["60"]);
        let mut child = demo.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        // The demo's exchange has no directory of its own, but says whose it is.
        until("parts run", || parts_in(demo.temporary.path()).len() >= 6);
        signal(name, child.id());
        let mut said = String::new();
        child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
        let status = child.wait().expect("it ends");
        if name == "INT" {
            assert_eq!((status.code(), said.as_str()), (Some(1), "chronicle: stopped; nothing was left behind\n"));
            demo.leaves_nothing(child.id());
            continue;
        }
        until("parts are gone", || parts_in(demo.temporary.path()).is_empty());
        // What nobody was left to remove.
        for dir in in_memory(child.id()) {
            fs::remove_dir_all(dir).expect("removed");
        }
    }
}

#[test]
fn live_a_root_that_is_kept_is_whole() {
    let _turn = alone();
    let dir = scratch();
    let kept = dir.path().join("kept");
    let mut demo = Demo::of(&["0"]);
    demo.command.arg("--keep").arg(&kept);
    demo.run().ok();
    verify(&kept).ok();
    about("book", &kept, "binance-spot", "btcusdt", &["--at", "latest", "--csv"]).ok().says("bid,");
}
