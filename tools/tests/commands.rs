//! Called wrongly, fed with rubbish, cut off or shut out, the command says what is wrong and where, and breaks nothing.
//!
//! Exit codes are part of it: 0 done, 1 a problem was found, 2 called wrongly; never a panic, never a signal.

mod support;

use chronicle::{
    System,
    storage::queue::{Profile, PublisherOptions, Queue},
};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::*;

const SPOT: &str = "binance-spot";
const SYMBOL: &str = "ethusdt";

/// A few lines of the recording, the snapshot among them.
fn some_lines(count: usize) -> Vec<u8> {
    let text = gunzip(&excerpt());
    let end = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(count - 1).expect("enough lines").0;
    text[..=end].to_vec()
}

/// A root with a part of the recording in it, refined.
fn small_root(seal: bool) -> tempfile::TempDir {
    let dir = scratch();
    let root = dir.path().join("root");
    let root = root.to_str().expect("text");
    chronicle_fed(["import", "--venue", SPOT, "--root", root, "-"], &some_lines(1500)).ok();
    refine(Path::new(root), if seal { &["--seal"] } else { &[] }).ok();
    dir
}

fn move_to_cold(root: &Path) -> Ran {
    run(Command::new(BINARY).args(["tier", "run", "--once", "--now", "2024-08-12", "--json", "--root"]).arg(root))
}

const COMMANDS: [&[&str]; 26] = [
    &["demo"],
    &["import"],
    &["refine"],
    &["tier"],
    &["tier", "run"],
    &["symbols"],
    &["symbols", "check"],
    &["symbols", "resolve"],
    &["book"],
    &["export"],
    &["plot"],
    &["quality"],
    &["cat"],
    &["inspect"],
    &["verify"],
    &["tail"],
    &["top"],
    &["doctor"],
    &["bench"],
    &["bench", "host"],
    &["wal"],
    &["wal", "inspect"],
    &["wal", "verify"],
    &["wal", "cat"],
    &["wal", "truncate"],
    &["wal", "bench"],
];

#[test]
fn help_has_examples() {
    chronicle(["--help"]).ok().says("Start here").says("Exit code");
    chronicle(["--version"]).ok().says("chronicle ");
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let ran = chronicle(command.iter().chain([&flag])).ok().says("Examples:");
            assert!(ran.text().contains(&format!("chronicle {}", command.join(" "))), "{}", ran.text());
            assert!(ran.text().lines().all(|line| line.chars().count() <= 200), "{}", ran.text());
        }
    }
}

#[test]
fn called_wrongly() {
    let dir = small_root(false);
    let root = dir.path().join("root");
    let root = root.to_str().expect("text");
    let book = ["book", "--root", root, "--venue", SPOT, "--symbol", SYMBOL, "--at"];
    let with = |arguments: &[&str]| chronicle(arguments).exits(2);
    let absent = "/nowhere/at/all";

    with(&[]);
    with(&["sing"]);
    for command in [
        &["refine", "--root", absent][..],
        &["tier", "run", "--once", "--root", absent],
        &["book", "--root", absent, "--venue", SPOT, "--symbol", SYMBOL, "--at", "latest"],
        &[
            "export",
            "--root",
            absent,
            "--venue",
            SPOT,
            "--symbol",
            SYMBOL,
            "--date",
            "2024-08-08",
            "--as",
            "book-snapshot",
        ],
        &["cat", "--root", absent, "--venue", SPOT, "--symbol", SYMBOL],
        &["cat", absent],
        &["inspect", absent],
        &["verify", absent],
        &["import", "--venue", SPOT, "--root", root, absent],
    ] {
        assert!(with(command).says(absent).out.is_empty());
    }
    assert!(!Path::new(absent).exists());

    // A directory that is no root, and a root where a file should be.
    let empty = scratch();
    let empty = empty.path().to_str().expect("text");
    with(&["refine", "--root", empty]).says("not a root");
    with(&["cat", "--root", empty, "--venue", SPOT, "--symbol", SYMBOL]).says("not a root");
    with(&["cat", root]).says("--root");
    chronicle(["inspect", empty]).exits(1).says("a root, a queue's directory");
    chronicle(["verify", empty]).ok().says("nothing of ours");

    // Names.
    let recording = excerpt();
    with(&["import", "--venue", "binance", "--root", root, recording.to_str().expect("text")]).says("binance-spot");
    for name in ["../x", "..", "a/b", ""] {
        with(&["book", "--root", root, "--venue", name, "--symbol", SYMBOL, "--at", "latest"]);
        with(&["cat", "--root", root, "--venue", name, "--symbol", SYMBOL]);
    }
    with(&["book", "--root", root, "--venue", SPOT, "--symbol", "../../etc", "--at", "latest"]);
    with(&["book", "--root", root, "--venue", SPOT, "--symbol", "xrpusdt", "--at", "latest"])
        .says("binance-spot/ethusdt");
    with(&["book", "--root", root, "--venue", "kraken", "--symbol", SYMBOL, "--at", "latest"]).says("kraken");
    with(&["cat", "--root", root, "--venue", SPOT, "--symbol", "xrpusdt"]).says("xrpusdt");
    with(&["cat", "--root", root, "--venue", SPOT, "--symbol", SYMBOL, "--stream", "tea"]);
    with(&["cat", "--root", root]);
    with(&["cat"]);

    // Times and numbers.
    for time in ["yesterday", "2024-13-01", "2024-08-08T25:00:00Z", "1960-01-01T00:00:00Z", "99999-01-01", ""] {
        with(&[&book[..], &[time]].concat());
    }
    with(&["tier", "run", "--once", "--root", root, "--now", "soon"]);
    with(&["tier", "run", "--root", root]);
    let export = ["export", "--root", root, "--venue", SPOT, "--symbol", SYMBOL, "--as", "book-snapshot", "--date"];
    for more in [
        &["2024-08"][..],
        &["2024-08-09..2024-08-08"],
        &["2024-08-08..soon"],
        &["2024-08-08", "--every", "0s"],
        &["2024-08-08", "--every", "99999999999999h"],
        &["2024-08-08", "--every", "60 parsecs"],
        &["2024-08-08", "--depth", "0"],
        &["2024-08-08", "--depth", "-1"],
    ] {
        with(&[&export[..], more].concat());
    }
    with(&["refine", "--root", root, "--late-policy", "sometimes"]).says("late_stream");
    with(&["demo", "--input", "x"]).says("--venue");

    // Before the first book there is none: an answer, not a wrong call.
    chronicle([&book[..], &["2024-08-08T00:00:00Z"]].concat()).exits(1).says("no book");
    // The venue's own name for a symbol is as good as ours, everywhere.
    for command in [&["book", "--at", "latest"][..], &["cat", "--limit", "1"]] {
        about(command[0], Path::new(root), SPOT, "ETHUSDT", &command[1..]).ok();
    }
}

#[test]
fn json_is_one_object() {
    let dir = small_root(true);
    let root = dir.path().join("root");
    import(&root, SPOT, &[excerpt()]).ok().json();
    refine(&root, &[]).ok().json();
    about("book", &root, SPOT, SYMBOL, &["--at", "latest", "--json"]).ok().json();
    for tier in ["warm", "cold"] {
        for path in [root.clone(), root.join(tier).join("v1/binance-spot/ethusdt/2024-08-08")] {
            let told = chronicle(["inspect".as_ref(), path.as_os_str(), "--json".as_ref()]).ok().json();
            assert!(told["kind"].is_string(), "{told}");
            let told = chronicle(["verify".as_ref(), path.as_os_str(), "--json".as_ref()]).ok().json();
            assert_eq!(told["problems"].as_array().map(Vec::len), Some(0), "{told}");
        }
        let lines = about("cat", &root, SPOT, SYMBOL, &["--limit", "7", "--json"]).ok().text();
        assert_eq!(lines.lines().count(), 7);
        for line in lines.lines() {
            let frame: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let seven = ["seq", "time_ns", "type_id", "flags", "len", "payload", "record"];
            assert!(seven.iter().all(|name| !frame[*name].is_null()), "{frame}");
        }
        let told = move_to_cold(&root).ok().json();
        assert!(told["sealed"].is_u64() && told["moved"].is_array(), "{told}");
    }
}

#[test]
fn from_behind_the_end_there_is_nothing() {
    let dir = small_root(true);
    let root = dir.path().join("root");
    let queue = root.join("hot/streams/raw/binance-spot/queue");
    for tier in ["warm/v1/binance-spot/ethusdt/2024-08-08/book.q", "cold/v1/binance-spot/ethusdt/2024-08-08/book.q.zst"]
    {
        for from in ["2030-01-01T00:00:00Z", "999999999"] {
            let paths = [queue.clone(), root.join(tier)];
            for path in paths {
                let ran = chronicle(["cat".as_ref(), path.as_os_str(), "--from".as_ref(), from.as_ref()]).ok();
                assert_eq!(ran.text(), "", "{}", ran.what);
            }
            let ran = about("cat", &root, SPOT, SYMBOL, &["--from", from]).ok();
            assert_eq!(ran.text(), "", "{}", ran.what);
        }
        let first = about("cat", &root, SPOT, SYMBOL, &["--from", "5", "--limit", "1"]).ok().text();
        assert_eq!(first.split_whitespace().next(), Some("5"), "{first}");
        move_to_cold(&root).ok();
    }
}

#[test]
fn a_reader_that_leaves_early() {
    let dir = small_root(true);
    let root = dir.path().join("root");
    import(&root, SPOT, &[excerpt()]).ok();
    refine(&root, &["--seal"]).ok();
    for command in [
        "cat --root $1 --venue binance-spot --symbol ethusdt --stream quotes",
        "cat --root $1 --venue binance-spot --symbol ethusdt --stream quotes --json",
        "book --root $1 --venue binance-spot --symbol ethusdt --at latest --csv",
        "book --root $1 --venue binance-spot --symbol ethusdt --at latest --json",
        "export --root $1 --venue binance-spot --symbol ethusdt --date 2024-08-08 --as book-snapshot --every 10ms --csv",
        "inspect $1/hot/streams/raw/binance-spot/queue",
        "inspect $1 --json",
        "verify $1",
        "refine --root $1",
        "tier run --once --root $1",
    ] {
        for reader in ["head -c 10", "true"] {
            let script = format!("{{ \"$0\" {command}; echo $? >&2; }} | {reader}");
            let ran = run(Command::new("sh").args(["-c", &script, BINARY]).arg(&root));
            assert_eq!(ran.err, "0\n", "{command} | {reader}");
        }
    }
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let (from_file, from_input) = (scratch(), scratch());
    let root = from_input.path().to_str().expect("text");
    let mut report = import(from_file.path(), SPOT, &[excerpt()]).ok().json();
    let packed = fs::read(excerpt()).expect("the excerpt");
    let other = chronicle_fed(["import", "--venue", SPOT, "--json", "--root", root, "-"], &packed).ok().json();
    report["files"][0]["name"] = "-".into();
    assert_eq!(report, other);
    // Also unpacked, and with a last line that has no end.
    let unpacked = scratch();
    let root = unpacked.path().to_str().expect("text");
    let mut text = gunzip(&excerpt());
    text.pop();
    let told = chronicle_fed(["import", "--venue", SPOT, "--json", "--root", root, "-"], &text).ok().json();
    assert_eq!(told["files"][0]["lines"], report["files"][0]["lines"]);
    for root in [from_file.path(), from_input.path(), unpacked.path()] {
        refine(root, &["--seal"]).ok();
    }
    let partitions = |root: &Path| {
        let mut all = tree(&root.join("warm/v1"));
        // It names the file.
        all.retain(|name, _| !name.ends_with("meta.json"));
        all
    };
    assert_same("standard input", &partitions(from_file.path()), &partitions(from_input.path()));
    assert_same("unpacked", &partitions(from_file.path()), &partitions(unpacked.path()));
}

#[test]
fn strict_imports_nothing() {
    let dir = scratch();
    let root = dir.path().join("root");
    let bad = dir.path().join("bad");
    let mut text = some_lines(50);
    text.extend_from_slice(b"1723161254087891268 {\"half\n");
    fs::write(&bad, &text).expect("a file");
    let mut strict = Command::new(BINARY);
    strict.args(["import", "--strict", "--venue", SPOT, "--root"]).arg(&root).arg(excerpt()).arg(&bad);
    run(&mut strict).exits(1).says("line 51 at byte").says("nothing imported");
    assert!(!root.exists(), "not even the root is made");
    // Without it all that is whole comes in, and the same is said.
    run(Command::new(BINARY).args(["import", "--venue", SPOT, "--root"]).arg(&root).arg(&bad))
        .exits(1)
        .says("line 51 at byte");
    let before = run(Command::new(BINARY).arg("cat").arg(root.join("hot/streams/raw/binance-spot/queue"))).ok();
    assert_eq!(before.text().lines().count(), 51, "50 records and the name of the file");
    // And a root that is there stays as it is.
    run(&mut strict).exits(1);
    let after = run(Command::new(BINARY).arg("cat").arg(root.join("hot/streams/raw/binance-spot/queue"))).ok();
    assert!(before.out == after.out);
}

#[test]
fn one_of_several_files_is_missing() {
    let dir = scratch();
    let root = dir.path().join("root");
    let mut command = Command::new(BINARY);
    command.args(["import", "--venue", SPOT, "--root"]).arg(&root).arg(excerpt());
    run(command.arg(dir.path().join("absent"))).exits(2).says("absent");
    run(command.arg(dir.path())).exits(2);
    assert!(!root.exists(), "nothing of the first file was imported");
}

#[test]
fn a_small_import_takes_little_disk() {
    let dir = small_root(true);
    let bytes: usize = tree(dir.path()).values().map(Vec::len).sum();
    assert!(bytes < 20 << 20, "{bytes} bytes for 1,500 lines");
}

#[test]
fn a_second_writer() {
    let dir = small_root(false);
    let root = dir.path().join("root");
    let queue = root.join("hot/streams/raw/binance-spot/queue");
    let options = PublisherOptions { required: vec!["recorder".to_owned()], ..PublisherOptions::new(Profile::Raw) };
    let writer = Queue::publisher(&System, &queue, options).expect("the first writer");
    let ran = import(&root, SPOT, &[excerpt()]).exits(1).says("writer");
    assert!(ran.err.contains(queue.to_str().expect("text")), "{}", ran.err);
    drop(writer);
    import(&root, SPOT, &[excerpt()]).ok();
    verify(&root).ok();
}

/// Root may do everything: the command runs as somebody else.
#[test]
fn no_right_to_read_or_write() {
    let as_root = run(Command::new("id").arg("-u")).text().trim() == "0";
    if !as_root {
        eprintln!("skipped: only root can run a command as somebody else");
        return;
    }
    let dir = scratch();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(dir.path(), 0o755);
    // Where the build lies may be out of reach for others. Another process copies it: a file open for writing here would
    // be so in every process that another test forks meanwhile, until it execs, and nobody can run such a file.
    let binary = dir.path().join("chronicle");
    run(Command::new("cp").arg(BINARY).arg(&binary)).ok();
    mode(&binary, 0o755);
    let recording = dir.path().join("recording");
    // Of another content than what is imported below, which would be skipped.
    fs::write(&recording, some_lines(60)).expect("a file");
    mode(&recording, 0o644);
    let nobody = |arguments: &[&str], paths: &[&Path]| {
        let mut command = Command::new(&binary);
        command.args(arguments).args(paths).uid(65_534).gid(65_534).current_dir("/").stdin(Stdio::null());
        run(&mut command)
    };

    let root = dir.path().join("root");
    nobody(&["import", "--venue", SPOT, "--root"], &[&root, &recording])
        .exits(1)
        .says("Permission denied")
        .says("root");
    assert!(!root.exists());

    import(&root, SPOT, &[excerpt()]).ok();
    refine(&root, &[]).ok();
    let before = tree(&root);
    for (what, arguments) in [
        ("import", &["import", "--venue", SPOT, "--root"][..]),
        ("refine", &["refine", "--root"]),
        ("tier", &["tier", "run", "--once", "--root"]),
    ] {
        let paths: &[&Path] = if what == "import" { &[&root, &recording] } else { &[&root] };
        let ran = nobody(arguments, paths).exits(1).says("Permission denied");
        assert!(ran.err.contains(root.to_str().expect("text")), "{what}: {}", ran.err);
    }
    assert_same("who may not write", &before, &tree(&root));

    let secret = dir.path().join("secret");
    fs::copy(excerpt(), &secret).expect("a copy");
    mode(&secret, 0o600);
    let other = dir.path().join("other");
    nobody(&["import", "--venue", SPOT, "--root"], &[&other, &secret])
        .exits(2)
        .says("secret")
        .says("Permission denied");
    assert!(!other.exists());
}

/// A disk without room is a message, and nothing is lost or half there.
#[test]
fn a_full_disk() {
    let probe = Command::new("unshare").args(["-m", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    let as_root = run(Command::new("id").arg("-u")).text().trim() == "0";
    if !as_root || !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let whole = scratch();
    import(whole.path(), SPOT, &[excerpt()]).ok();
    refine(whole.path(), &["--seal"]).ok();
    let dir = scratch();
    let script = r#"
        set -u
        bin=$0; recording=$1; root=$2; out=$3
        mount -t tmpfs -o size=6m tmpfs "$root" || exit 90
        "$bin" import --venue binance-spot --root "$root" "$recording" >"$out/small" 2>&1; echo $? >>"$out/codes"
        mount -o remount,size=80m "$root" || exit 91
        "$bin" import --venue binance-spot --root "$root" "$recording" >"$out/import" 2>&1; echo $? >>"$out/codes"
        dd if=/dev/zero of="$root/filler" bs=64k >/dev/null 2>&1
        truncate -s -192k "$root/filler"
        "$bin" refine --root "$root" --seal >"$out/refine" 2>&1; echo $? >>"$out/codes"
        "$bin" verify "$root" >"$out/verify" 2>&1; echo $? >>"$out/codes"
        rm "$root/filler"
        "$bin" refine --root "$root" --seal >"$out/again" 2>&1; echo $? >>"$out/codes"
        cp -r "$root/warm/v1" "$out/v1"
    "#;
    let root = dir.path().join("root");
    let out = dir.path().join("out");
    fs::create_dir(&root).expect("a directory");
    fs::create_dir(&out).expect("a directory");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, BINARY]).arg(excerpt()).arg(&root).arg(&out);
    let ran = run(&mut command);
    let said = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    assert_eq!(ran.code, Some(0), "{}{}", ran.err, said("codes"));
    let all = ["small", "import", "refine", "verify", "again"].map(|name| format!("{name}: {}", said(name))).concat();
    assert_eq!(said("codes").split_whitespace().collect::<Vec<_>>(), ["1", "0", "1", "0", "0"], "{all}");
    assert!(said("small").contains("root/hot/streams/raw/binance-spot/queue"), "{all}");
    assert!(said("refine").contains("No space left") && said("refine").contains("root/"), "{all}");
    assert_same("after a full disk", &tree(&whole.path().join("warm/v1")), &tree(&out.join("v1")));
}

/// What the refinery's checkpoint calls durable may not be missing; what lies behind it may be torn.
#[test]
fn the_end_of_an_open_partition() {
    let dir = small_root(false);
    let root = dir.path().join("root");
    let book = root.join("warm/v1/binance-spot/ethusdt/2024-08-08/book.q");
    let whole = fs::read(&book).expect("the partition");
    for path in [&root, &book] {
        verify(path).ok().says("not sealed");
        for (lost, grown) in [(1, 0), (40, 0), (5_000, 0), (whole.len() - 200, 0), (0, 7), (0, 300)] {
            let mut bytes = whole[..whole.len() - lost].to_vec();
            bytes.extend((0..grown).map(|i| i as u8 | 1));
            fs::write(&book, bytes).expect("another end");
            let ran = verify(path);
            assert_eq!(ran.code, Some(i32::from(lost > 0)), "{lost} lost, {grown} more: {}{}", ran.text(), ran.err);
            assert!(lost == 0 || ran.text().contains("book.q: offset "), "{}{}", ran.text(), ran.err);
            // A reader stops at a torn tail, and never takes what is missing for one.
            for (command, more) in [("cat", &[][..]), ("book", &["--at", "latest", "--depth", "1"])] {
                let ran = about(command, &root, SPOT, SYMBOL, more);
                assert_eq!(ran.code, Some(i32::from(lost > 0)), "{command}: {lost} lost, {grown} more: {}", ran.err);
                assert!(lost == 0 || ran.err.contains("book.q: offset "), "{command}: {}", ran.err);
            }
        }
        fs::write(&book, &whole).expect("as it was");
    }
    fs::remove_file(&book).expect("removed");
    verify(&root).exits(1).says("book.q: missing");
}

/// A bad frame with a good one behind it was not torn. `cat` knows by the checkpoint of the root that the file lies in; and
/// where there is none, by the good frame.
#[test]
fn a_bad_frame_of_an_open_partition_is_no_torn_tail() {
    let dir = small_root(false);
    let root = dir.path().join("root");
    let book = root.join("warm/v1/binance-spot/ethusdt/2024-08-08/book.q");
    let whole = fs::read(&book).expect("the partition");
    let cat = |path: &Path, more: &[&str]| run(Command::new(BINARY).arg("cat").arg(path).args(more));
    let lines = |ran: &Ran| ran.text().lines().count();
    let frames = lines(&cat(&book, &[]).ok());
    assert!(frames > 100, "{frames}");
    let mut bytes = whole.clone();
    // Inside some frame's payload or header in the middle.
    let middle = whole.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&book, &bytes).expect("harmed");
    let copied = dir.path().join("copy.q");
    fs::write(&copied, &bytes).expect("a copy outside the root");
    for (path, more) in [(&book, &[][..]), (&book, &["--json"]), (&copied, &[]), (&copied, &["--json"])] {
        let ran = cat(path, more);
        assert_eq!(ran.code, Some(1), "{}: {}", path.display(), ran.err);
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        assert!(ran.err.contains(&format!("{name}: offset ")), "{}", ran.err);
        let before = lines(&ran);
        assert!(before > 0 && before < frames, "{before} of {frames}");
        // What was asked for lies before it.
        cat(path, &[more, &["--limit", "1"]].concat()).ok();
    }
    assert!(cat(&copied, &[]).err.contains("a good frame follows at offset"));
    // Without anything good behind it, it is torn where nobody says what was durable, and damage where somebody does.
    for (path, code) in [(&book, 1), (&copied, 0)] {
        fs::write(path, &bytes[..middle + 1]).expect("cut");
        let ran = cat(path, &[]);
        assert_eq!(ran.code, Some(code), "{}: {}", path.display(), ran.err);
    }
}

/// Each small file is verified by itself, and by what it is, wherever it lies.
#[test]
fn files_that_verify_is_given_by_name() {
    let dir = small_root(true);
    let root = dir.path().join("root");
    move_to_cold(&root).ok();
    let day = root.join("cold/v1/binance-spot/ethusdt/2024-08-08");
    let queue = root.join("hot/streams/raw/binance-spot/queue");
    let index = fs::read_dir(queue.join("index")).expect("indexes").next().expect("one").expect("an entry").path();
    let files = [
        day.join("meta.json"),
        day.join("book.q.zst.idx"),
        root.join("state/refine/binance-spot.checkpoint"),
        queue.join("control.meta"),
        queue.join("readers/recorder.meta"),
        index,
    ];
    for path in &files {
        let ran = verify(path).ok();
        assert!(ran.text().contains("whole") && !ran.text().contains("0 files"), "{}: {}", path.display(), ran.text());
        let whole = fs::read(path).expect("its bytes");
        let mut bytes = whole.clone();
        // In what is checked of each: a slot, an entry, the body.
        let at = match path.extension().and_then(|ending| ending.to_str()) {
            Some("meta") if path.ends_with("control.meta") => 1024 + 34,
            Some("meta") => 512 + 3,
            Some("idx") => 34,
            _ => whole.len() / 2,
        };
        bytes[at] ^= 1;
        fs::write(path, &bytes).expect("harmed");
        for (asked, code) in [(path, 1), (&root, 1)] {
            let ran = verify(asked);
            assert_eq!(ran.code, Some(code), "{} by {}: {}", path.display(), asked.display(), ran.text());
            let name = path.file_name().and_then(|name| name.to_str()).expect("text");
            assert!(ran.text().contains(&format!("{name}: offset ")), "{}: {}", path.display(), ran.text());
        }
        fs::write(path, &whole).expect("as it was");
    }
    verify(&root).ok();
    verify(&root.join("state")).ok().says("whole");

    // Gone from the archive: named by what counts it.
    fs::remove_file(day.join("trades.q.zst")).expect("removed");
    verify(&root)
        .exits(1)
        .says("trades.q.zst: missing")
        .says("trades.q.zst.idx: index of trades.q.zst, which is missing");
    fs::remove_file(day.join("trades.q.zst.idx")).expect("removed");
    for path in [&root, &day, &day.join("meta.json")] {
        verify(path).exits(1).says("trades.q.zst: missing");
    }
}

/// A system that takes no directory is asked twice, not for ever.
#[test]
fn a_root_where_no_directory_can_be() {
    if !Path::new("/proc/self").exists() {
        eprintln!("skipped: no /proc here");
        return;
    }
    let ran = chronicle_fed(["import", "--venue", SPOT, "--root", "/proc/nope", "-"], &some_lines(20));
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("create directory failed"), "{}", ran.err);
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Cut,
    Zero,
    Empty,
    Grow,
}

/// Every file of a root is harmed in turn, and every command meets it.
fn hostile(cold: bool) {
    let dir = small_root(true);
    let good = dir.path().join("root");
    if cold {
        move_to_cold(&good).ok();
    }
    let bad = dir.path().join("bad");
    let mut random = Random::seeded();
    fs::write(dir.path().join("few"), some_lines(20)).expect("a file");
    let files: Vec<PathBuf> = tree(&good).into_keys().collect();
    assert!(files.len() > 8, "{files:?}");
    let mut unseen = Vec::new();
    for name in &files {
        for harm in [Harm::Flip, Harm::Cut, Harm::Zero, Harm::Empty, Harm::Grow] {
            let path = bad.join(name);
            let _ = fs::remove_dir_all(&bad);
            copy(&good, &bad);
            let mut bytes = fs::read(&path).expect("a file");
            let len = bytes.len();
            // Headers and tables are small, and lie at the ends.
            let near = random.below(len.clamp(1, 512) as u64) as usize;
            match harm {
                Harm::Flip if len == 0 => continue,
                Harm::Flip => bytes[near] ^= 1 << random.below(8),
                Harm::Cut => bytes.truncate(random.below(len as u64) as usize),
                Harm::Zero => bytes[near..len.min(near + 4096)].fill(0),
                Harm::Empty => bytes.clear(),
                Harm::Grow => bytes.extend((0..100).map(|_| random.below(256) as u8)),
            }
            fs::write(&path, &bytes).expect("a harmed file");
            let tolerates = |ran: Ran, named: bool| {
                let what = format!("{} {harm:?} at {near}: {}: {}{}", name.display(), ran.what, ran.text(), ran.err);
                assert!(matches!(ran.code, Some(0..=2)) && !ran.err.contains("panicked"), "{what}");
                let day = path.parent().expect("a directory").to_str().expect("text");
                let all = format!("{}{}", ran.text(), ran.err);
                assert!(!named || ran.code == Some(0) || all.contains(day), "nothing names it: {what}");
            };
            let found = verify(&bad);
            let kept = name
                .extension()
                .is_some_and(|ending| ["q", "zst", "idx", "checkpoint", "json"].iter().any(|one| ending == *one));
            if kept && !name.starts_with("hot") && bytes != fs::read(good.join(name)).expect("a file") {
                assert_eq!(found.code, Some(1), "{} {harm:?} at {near} is not found", name.display());
            } else if found.code == Some(0) {
                unseen.push(format!("{} {harm:?}", name.display()));
            }
            tolerates(found, true);
            tolerates(run(Command::new(BINARY).arg("verify").arg(&path)), true);
            tolerates(run(Command::new(BINARY).arg("cat").arg(&path).args(["--json", "--limit", "50"])), true);
            tolerates(run(Command::new(BINARY).arg("inspect").arg(&path)), true);
            tolerates(run(Command::new(BINARY).arg("inspect").arg(&bad)), false);
            tolerates(about("book", &bad, SPOT, SYMBOL, &["--at", "latest"]), false);
            tolerates(refine(&bad, &[]), false);
            tolerates(move_to_cold(&bad), false);
            let more = run(Command::new(BINARY)
                .args(["import", "--venue", SPOT, "--root"])
                .arg(&bad)
                .arg(dir.path().join("few")));
            tolerates(more, false);
        }
    }
    // Locks, what is prepared, what is unused: nothing in them can be wrong.
    eprintln!("verify accepts {unseen:#?}");
}

#[test]
fn every_file_of_a_warm_root_harmed() {
    hostile(false);
}

#[test]
fn every_file_of_a_cold_root_harmed() {
    hostile(true);
}
