//! `chronicle doctor`: each finding is made for real and reported, and is not reported where all is well.
//!
//! What the machine itself must be made to have (a small tmpfs, a low limit, another boot) is made in a namespace of its
//! own, which takes rights; without them those tests say that they are skipped.

mod support;

use chronicle::{
    Append, System,
    bus::{Entry, Layout, Registration, RegistrationOptions},
    platform::Platform,
    storage::queue::{Profile, Publisher, PublisherOptions, Queue, Refused, SubscriberOptions},
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};
use support::*;

/// Small segments, and no more than four of them.
fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 16384, helper: false, ..PublisherOptions::new(Profile::Orders) }
}

/// A root whose hot tier has the queue of a venue, with its rights as they should be.
struct Place {
    _dir: tempfile::TempDir,
    root: PathBuf,
    queue: PathBuf,
}

fn place() -> Place {
    let dir = scratch();
    let root = dir.path().join("root");
    let queue = root.join("hot/streams/raw/kraken/queue");
    Place { _dir: dir, root, queue }
}

impl Place {
    /// A writer that has appended so many frames.
    fn writer(&self, options: PublisherOptions, frames: u64) -> Publisher<System> {
        let mut writer = Queue::publisher(&System, &self.queue, options).expect("a writer");
        append(&mut writer, frames).expect("there is room");
        writer
    }

    /// A queue that was closed in order.
    fn healthy() -> Place {
        let place = place();
        place.writer(options(), 5).close().expect("it closes");
        place
    }

    fn doctor(&self, more: &[&str]) -> Ran {
        doctor(&self.root, more)
    }
}

fn append(writer: &mut Publisher<System>, frames: u64) -> Result<(), Refused> {
    for _ in 0..frames {
        let append = Append { time_ns: System.now_ns(), type_id: 900, flags: 0 };
        if writer.append(append, &[7; 200]) == Err(Refused::NotReady) {
            writer.maintain();
            writer.append(append, &[7; 200])?;
        }
    }
    Ok(())
}

fn doctor(root: &Path, more: &[&str]) -> Ran {
    run(Command::new(BINARY).args(["doctor", "--json"]).arg(root).args(more).stdin(Stdio::null()))
}

fn findings(ran: &Ran) -> Vec<Value> {
    ran.json()["findings"].as_array().expect("a list").clone()
}

/// The finding with this id; there is exactly one.
#[track_caller]
fn finding(ran: &Ran, id: &str) -> Value {
    let found: Vec<_> = findings(ran).into_iter().filter(|finding| finding["id"] == id).collect();
    assert_eq!(found.len(), 1, "{id}: {}", ran.text());
    for field in ["what", "why", "fix"] {
        assert!(found[0][field].as_str().is_some_and(|text| text.len() > 10), "{field} of {id}: {}", ran.text());
    }
    found[0].clone()
}

#[track_caller]
fn has_not(ran: &Ran, id: &str) {
    assert!(findings(ran).iter().all(|finding| finding["id"] != id), "{id}: {}", ran.text());
}

/// Advice about the machine that the tests run on is none of theirs.
#[track_caller]
fn is_healthy(ran: Ran) {
    let ran = ran.ok();
    let own = ["memlock-low", "no-huge-pages"];
    assert!(findings(&ran).iter().all(|finding| own.iter().any(|id| finding["id"] == *id)), "{}", ran.text());
}

/// A finding, what `fix` says of it, and a root on which it is gone.
#[track_caller]
fn is_fixed(place: &Place, id: &str) -> String {
    let found = finding(&place.doctor(&[]), id);
    assert_eq!(found["safe"], true, "{found}");
    let fixed = finding(&place.doctor(&["--fix"]), id);
    let did = fixed["fixed"].as_str().unwrap_or_else(|| panic!("it says what it did: {fixed}")).to_owned();
    has_not(&place.doctor(&[]), id);
    did
}

#[test]
fn a_healthy_root_has_no_problem() {
    let place = Place::healthy();
    is_healthy(place.doctor(&[]));
    // Also with a writer and a reader at work.
    let mut writer = place.writer(options(), 5);
    let mut reader = Queue::subscriber(&System, &place.queue, "busy", SubscriberOptions::default()).expect("a reader");
    while reader.next().expect("frames").is_some() {}
    reader.commit().expect("a cursor");
    writer.maintain();
    is_healthy(place.doctor(&[]));
    // And what the commands themselves make.
    let dir = scratch();
    let root = dir.path().join("market");
    import(&root, "binance-spot", &[excerpt()]).ok();
    refine(&root, &["--seal"]).ok();
    let ran = doctor(&root, &[]);
    for id in ["reader-dead", "leftovers", "rights", "writer-died", "clock-stepped", "versions-mixed"] {
        has_not(&ran, id);
    }
}

#[test]
fn called_wrongly() {
    chronicle(["doctor", "/nowhere/at/all"]).exits(2).says("/nowhere/at/all");
    let dir = scratch();
    run(Command::new(BINARY).arg("doctor").arg(dir.path())).exits(2).says("not a root");
    // A hot tier alone is enough.
    let place = Place::healthy();
    is_healthy(doctor(&place.root.join("hot"), &[]));
}

#[test]
fn people_read_what_is_wrong_why_and_what_to_do() {
    let place = place();
    drop(place.writer(options(), 5));
    let ran = run(Command::new(BINARY).arg("doctor").arg(&place.root));
    ran.exits(1)
        .says("problem  the writer died")
        .says("why  ")
        .says("fix  start its writer again")
        .says("[writer-died]");
    let place = Place::healthy();
    fs::set_permissions(place.queue.join("control.meta"), fs::Permissions::from_mode(0o666)).expect("a mode");
    let ran = run(Command::new(BINARY).arg("doctor").arg(&place.root));
    ran.exits(1).says("--fix` does one of them");
    let ran = run(Command::new(BINARY).args(["doctor", "--fix"]).arg(&place.root));
    ran.ok().says("fixed    ").says("did  ");
}

#[test]
fn a_thousand_of_a_kind_are_not_told_one_by_one() {
    let dir = scratch();
    let root = dir.path().join("root");
    for at in 0..12 {
        let queue = root.join(format!("hot/orders/queue/s{at}/orders_out"));
        drop(Queue::publisher(&System, &queue, options()).expect("a writer"));
    }
    let ran = run(Command::new(BINARY).arg("doctor").arg(&root)).exits(1).says("… and 4 more  [writer-died]");
    assert_eq!(ran.text().matches("the writer died").count(), 8, "{}", ran.text());
    assert_eq!(findings(&doctor(&root, &[]).exits(1)).iter().filter(|found| found["id"] == "writer-died").count(), 12);
}

#[test]
fn a_writer_that_died() {
    let place = place();
    let writer = place.writer(options(), 5);
    has_not(&place.doctor(&[]), "writer-died");
    // The lock goes, and the queue does not say that it was closed: what a kill leaves.
    drop(writer);
    let ran = place.doctor(&[]).exits(1);
    finding(&ran, "writer-died");
    place.writer(options(), 1).close().expect("it closes");
    is_healthy(place.doctor(&[]));
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill starts");
    assert!(status.success(), "kill {name} {pid}");
}

/// Not a test: a process that writes a queue and waits to be killed.
#[test]
#[ignore = "a part of the tests of writers"]
fn helper_writes() {
    let Some(queue) = std::env::var_os("CHRONICLE_TEST_QUEUE") else { return };
    let options = PublisherOptions { helper: true, ..options() };
    let mut writer = Queue::publisher(&System, PathBuf::from(queue), options).expect("a writer");
    append(&mut writer, 3).expect("there is room");
    is_there();
}

/// Says to whoever started this process that it may go on, and waits for the end.
fn is_there() {
    println!("it is there");
    std::io::stdout().flush().expect("a pipe");
    std::thread::sleep(Duration::from_secs(120));
}

/// A process of its own that does one of the above.
fn process(helper: &str, variable: &str, path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", helper, "--ignored", "--nocapture"])
        .env(variable, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("it is there"))), "{helper} did not come so far");
    child
}

#[test]
fn a_writer_that_stands_still() {
    let place = place();
    let mut child = process("helper_writes", "CHRONICLE_TEST_QUEUE", &place.queue);
    is_healthy(place.doctor(&[]));
    signal(child.id(), "-STOP");
    std::thread::sleep(Duration::from_millis(6500));
    let found = finding(&place.doctor(&[]).exits(1), "writer-stalled");
    assert_eq!(found["fix"], format!("kill -CONT {}", child.id()), "{found}");
    signal(child.id(), "-CONT");
    // When it gets to run again is the machine's business.
    let stands = || findings(&place.doctor(&[])).iter().any(|finding| finding["id"] == "writer-stalled");
    for _ in 0..600 {
        if !stands() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    is_healthy(place.doctor(&[]));
    child.kill().expect("it dies");
    child.wait().expect("it is dead");
    finding(&place.doctor(&[]).exits(1), "writer-died");
}

#[test]
fn a_damaged_cursor() {
    let place = Place::healthy();
    let open = || Queue::subscriber(&System, &place.queue, "alpha", SubscriberOptions::default());
    let mut reader = open().expect("a reader");
    while reader.next().expect("frames").is_some() {}
    reader.commit().expect("a cursor");
    drop(reader);
    has_not(&place.doctor(&[]), "cursor-damaged");
    let cursor = place.queue.join("readers/alpha.meta");
    let mut bytes = fs::read(&cursor).expect("its bytes");
    bytes[512..1100].fill(0xff);
    fs::write(&cursor, bytes).expect("damage");
    assert!(open().is_err(), "the reader cannot start");
    let did = is_fixed(&place, "cursor-damaged");
    assert!(did.contains("alpha.damaged-1"), "{did}");
    assert!(place.queue.join("readers/alpha.damaged-1").exists(), "the evidence is kept");
    open().expect("the reader starts");
}

#[test]
fn a_required_reader_with_a_damaged_cursor_is_left_to_people() {
    let place = place();
    let required = PublisherOptions { required: vec!["alpha".to_owned()], ..options() };
    let writer = place.writer(required, 5);
    drop(Queue::subscriber(&System, &place.queue, "alpha", SubscriberOptions::default()).expect("a reader"));
    let cursor = place.queue.join("readers/alpha.meta");
    let mut bytes = fs::read(&cursor).expect("its bytes");
    bytes[512..3000].fill(0xff);
    fs::write(&cursor, &bytes).expect("damage");
    let ran = place.doctor(&["--fix"]).exits(1);
    assert_eq!(finding(&ran, "cursor-damaged")["safe"], false);
    assert_eq!(fs::read(&cursor).expect("its bytes"), bytes, "nothing was done");
    drop(writer);
}

#[test]
fn a_dead_reader_that_holds_retention() {
    let place = place();
    let required = PublisherOptions { required: vec!["ledger".to_owned()], ..options() };
    // It has never run: the queue keeps everything for it, and is full in the end.
    let mut writer = place.writer(required, 5);
    has_not(&place.doctor(&[]), "reader-dead");
    let full = (0..1000).find_map(|_| append(&mut writer, 1).err()).expect("it fills up");
    assert!(matches!(full, Refused::QueueFull { .. }), "{full}");
    let ran = place.doctor(&[]).exits(1);
    let found = finding(&ran, "reader-dead");
    assert!(found["what"].as_str().is_some_and(|what| what.contains("\"ledger\"")), "{found}");
    assert_eq!(found["safe"], false);
    // It comes and goes, as a feed's recorder does: between two visits it is not dead.
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let reader = Queue::subscriber(&System, &place.queue, "ledger", SubscriberOptions::default());
                drop(reader.expect("a reader").next().map(|_| ()));
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        let ran = place.doctor(&[]);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        has_not(&ran, "reader-dead");
    });
    // It runs and reads: nothing is held for it any more.
    let mut reader =
        Queue::subscriber(&System, &place.queue, "ledger", SubscriberOptions::default()).expect("a reader");
    while reader.next().expect("frames").is_some() {}
    reader.commit_durable().expect("a cursor");
    drop(reader);
    writer.maintain();
    has_not(&place.doctor(&[]), "reader-dead");
}

#[test]
fn a_recorder_that_does_not_run_is_run() {
    let place = place();
    let required = PublisherOptions { required: vec!["recorder".to_owned()], ..options() };
    place.writer(required, 40).close().expect("it closes");
    let did = is_fixed(&place, "reader-dead");
    assert!(did.contains("recorded") && did.contains("kraken"), "{did}");
    let day =
        fs::read_dir(place.root.join("warm/raw/v1/kraken")).expect("its days").next().expect("a day").expect("it");
    assert!(fs::read_dir(day.path()).expect("its files").next().is_some(), "the segments are kept");
}

#[test]
fn a_slow_reader_that_fills_the_queue() {
    let place = place();
    let mut writer = place.writer(options(), 5);
    let mut reader = Queue::subscriber(&System, &place.queue, "slow", SubscriberOptions::default()).expect("a reader");
    reader.next().expect("frames").expect("a frame");
    reader.commit().expect("a cursor");
    has_not(&place.doctor(&[]), "reader-slow");
    (0..1000).find_map(|_| append(&mut writer, 1).err()).expect("it fills up");
    let found = finding(&place.doctor(&[]).exits(1), "reader-slow");
    let what = found["what"].as_str().expect("text");
    assert!(what.contains("does not look") && what.contains(&std::process::id().to_string()), "{what}");
    while reader.next().expect("frames").is_some() {}
    reader.commit().expect("a cursor");
    writer.maintain();
    has_not(&place.doctor(&[]), "reader-slow");
}

/// Not a test: a process that has read a little of a queue and waits to be stopped.
#[test]
#[ignore = "a part of the tests of readers"]
fn helper_reads() {
    let Some(queue) = std::env::var_os("CHRONICLE_TEST_QUEUE") else { return };
    let options = SubscriberOptions::default();
    let mut reader = Queue::subscriber(&System, PathBuf::from(queue), "maker", options).expect("a reader");
    reader.next().expect("frames").expect("a frame");
    reader.commit_durable().expect("a cursor");
    println!("it is there");
    std::io::stdout().flush().expect("a pipe");
    loop {
        reader.wait(Duration::from_millis(10)).expect("the queue");
    }
}

#[test]
fn a_reader_that_is_stopped() {
    for required in [true, false] {
        let place = place();
        let names = if required { vec!["maker".to_owned()] } else { Vec::new() };
        let mut writer = place.writer(PublisherOptions { required: names, ..options() }, 5);
        let mut child = process("helper_reads", "CHRONICLE_TEST_QUEUE", &place.queue);
        // Two more segments: the queue has room yet.
        append(&mut writer, 25).expect("there is room");
        writer.maintain();
        has_not(&place.doctor(&[]), "reader-stalled");
        signal(child.id(), "-STOP");
        let found = finding(&place.doctor(&[]).exits(1), "reader-stalled");
        let what = found["what"].as_str().expect("text");
        assert!(what.contains("\"maker\"") && what.contains("is stopped and holds 1 segment"), "{what}");
        assert_eq!(found["why"].as_str().is_some_and(|why| why.contains("requires")), required, "{found}");
        assert_eq!(found["fix"], format!("kill -CONT {}", child.id()), "{found}");
        signal(child.id(), "-CONT");
        let stalls = || findings(&place.doctor(&[])).iter().any(|finding| finding["id"] == "reader-stalled");
        assert!((0..100).any(|_| !stalls()), "it looks again");
        child.kill().expect("it dies");
        child.wait().expect("it is dead");
    }
}

#[test]
fn a_segment_that_was_taken_away() {
    let place = place();
    let writer = place.writer(options(), 40);
    has_not(&place.doctor(&[]), "segment-missing");
    let current = place.queue.join(format!("{:020}.q", writer.segment_id()));
    let elsewhere = place.root.join("elsewhere");
    fs::rename(&current, &elsewhere).expect("it is moved");
    let found = finding(&place.doctor(&[]).exits(1), "segment-missing");
    assert_eq!(found["path"], current.to_str().expect("text"), "{found}");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.contains(current.to_str().expect("text"))), "{found}");
    fs::rename(&elsewhere, &current).expect("it is put back");
    has_not(&place.doctor(&[]), "segment-missing");
    writer.close().expect("it closes");
}

#[test]
fn a_clock_that_was_set_back() {
    let place = place();
    let mut writer = place.writer(options(), 5);
    has_not(&place.doctor(&[]), "clock-stepped");
    // What a writer leaves whose clock was an hour ahead until somebody set it right.
    let append = Append { time_ns: System.now_ns() + 3_600_000_000_000, type_id: 900, flags: 0 };
    writer.append(append, &[7; 32]).expect("there is room");
    let found = finding(&place.doctor(&[]).exits(1), "clock-stepped");
    assert!(found["what"].as_str().is_some_and(|what| what.contains("ahead of this machine")), "{found}");
}

#[test]
fn a_newer_version() {
    let place = Place::healthy();
    for file in ["control.meta", "00000000000000000001.q"] {
        let path = place.queue.join(file);
        let mut bytes = fs::read(&path).expect("its bytes");
        bytes[8] = 2;
        fs::write(&path, &bytes).expect("a version");
        let ran = place.doctor(&[]).exits(1);
        let found = finding(&ran, "versions-mixed");
        assert!(
            found["what"].as_str().is_some_and(|what| what.contains("version 2") && what.contains(file)),
            "{found}"
        );
        has_not(&ran, "queue-damaged");
        bytes[8] = 1;
        fs::write(&path, &bytes).expect("a version");
    }
    is_healthy(place.doctor(&[]));
}

#[test]
fn a_damaged_queue() {
    let place = Place::healthy();
    let path = place.queue.join("control.meta");
    let mut bytes = fs::read(&path).expect("its bytes");
    bytes[20] ^= 0xff;
    fs::write(&path, &bytes).expect("damage");
    let found = finding(&place.doctor(&[]).exits(1), "queue-damaged");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.starts_with("chronicle verify ")), "{found}");
}

#[test]
fn remains_of_a_crash() {
    let place = Place::healthy();
    let old = SystemTime::now() - Duration::from_secs(3600);
    let leave = |path: PathBuf, age: SystemTime| {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, [0; 4096]).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(age)).expect("an age");
        path
    };
    // What is being made now is nobody's remains.
    let fresh = leave(place.queue.join("00000000000000000008.fresh"), SystemTime::now());
    is_healthy(place.doctor(&[]));
    let files = [
        leave(place.queue.join("00000000000000000009.fresh"), old),
        leave(place.root.join("warm/v1/kraken/btc-usd/2024-08-08/book.q.zst.tmp"), old),
    ];
    let ran = place.doctor(&[]).ok();
    assert_eq!(findings(&ran).iter().filter(|finding| finding["id"] == "leftovers").count(), 2, "{}", ran.text());
    // Not under the hands of a writer.
    let writer = place.writer(options(), 1);
    let again = leave(place.queue.join("00000000000000000010.fresh"), old);
    place.doctor(&["--fix"]).exits(1).says("somebody is at work");
    assert!(again.exists());
    writer.close().expect("it closes");
    let again = leave(place.queue.join("00000000000000000010.fresh"), old);
    place.doctor(&["--fix"]).ok().says("removed 1 file");
    assert!(!again.exists() && !files[1].exists());
    _ = fs::remove_file(fresh);
    is_healthy(place.doctor(&[]));
}

#[test]
fn rights_that_are_too_wide() {
    let place = Place::healthy();
    let segment = place.queue.join("00000000000000000001.q");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    for (file, wide, narrow) in
        [(&segment, 0o666, 0o660), (&segment, 0o644, 0o640), (&place.queue.join("writer.lock"), 0o640, 0o600)]
    {
        fs::set_permissions(file, fs::Permissions::from_mode(wide)).expect("a mode");
        is_fixed(&place, "rights");
        assert_eq!(mode(file), narrow, "{wide:o}");
    }
    // A group that may wake is perhaps meant to.
    let wake = place.queue.join("wake.meta");
    fs::set_permissions(&wake, fs::Permissions::from_mode(0o660)).expect("a mode");
    let found = finding(&place.doctor(&["--fix"]).exits(1), "rights");
    assert_eq!((found["safe"].as_bool(), mode(&wake)), (Some(false), 0o660));
    fs::set_permissions(&wake, fs::Permissions::from_mode(0o640)).expect("a mode");
    is_healthy(place.doctor(&[]));
}

#[test]
fn files_of_another_user() {
    let place = Place::healthy();
    let path = place.queue.join("control.meta");
    if std::os::unix::fs::chown(&path, Some(65_534), None).is_err() {
        eprintln!("skipped: this user may give no file away");
        return;
    }
    finding(&place.doctor(&[]).exits(1), "owner-mixed");
}

#[test]
fn an_overflow_that_nobody_reads() {
    let mut place = place();
    place.writer(options(), 3).close().expect("it closes");
    place.queue = place.root.join("state/overflow/kraken/queue");
    let writer = place.writer(options(), 0);
    writer.close().expect("it closes");
    has_not(&place.doctor(&[]), "overflow-unread");
    place.writer(options(), 7).close().expect("it closes");
    let found = finding(&place.doctor(&[]).exits(1), "overflow-unread");
    assert!(found["what"].as_str().is_some_and(|what| what.starts_with("7 frames of kraken")), "{found}");
    let mut reader = Queue::subscriber(&System, &place.queue, "drain", SubscriberOptions::default()).expect("a reader");
    while reader.next().expect("frames").is_some() {}
    reader.commit_durable().expect("a cursor");
    drop(reader);
    has_not(&place.doctor(&[]), "overflow-unread");
}

/// Not a test: a process that registers a strategy and waits to be killed.
#[test]
#[ignore = "a part of the tests of registrations"]
fn helper_registers() {
    let Some(hot) = std::env::var_os("CHRONICLE_TEST_HOT") else { return };
    let entry = Entry::strategy("alpha").expect("a name");
    let options = RegistrationOptions { ttl: Duration::from_millis(400), ..RegistrationOptions::default() };
    let mut registration =
        Registration::begin(&System, &Layout::new(PathBuf::from(hot)), entry, options).expect("a registration");
    registration.ready().expect("ready");
    registration.start_renewing().expect("a thread");
    is_there();
}

#[test]
fn registrations_of_the_living_the_stopped_and_the_dead() {
    let place = place();
    let hot = place.root.join("hot");
    let mut child = process("helper_registers", "CHRONICLE_TEST_HOT", &hot);
    is_healthy(place.doctor(&[]));
    signal(child.id(), "-STOP");
    std::thread::sleep(Duration::from_millis(1000));
    let ran = place.doctor(&[]).exits(1);
    assert_eq!(finding(&ran, "lease-stalled")["fix"], format!("kill -CONT {}", child.id()));
    signal(child.id(), "-CONT");
    std::thread::sleep(Duration::from_millis(500));
    is_healthy(place.doctor(&[]));
    child.kill().expect("it dies");
    child.wait().expect("it is dead");
    let did = is_fixed(&place, "lease-stale");
    assert!(did.contains("orders/alpha"), "{did}");
    is_healthy(place.doctor(&[]));
}

#[test]
fn something_else_where_a_lease_should_be() {
    let place = place();
    let dir = place.root.join("hot/orders/queue/alpha");
    fs::create_dir_all(dir.join("LEASE")).expect("a directory");
    let ran = place.doctor(&["--fix"]).exits(1);
    finding(&ran, "registration-foreign");
    assert!(dir.join("LEASE").is_dir(), "nothing was done");
}

// The machine.

/// Runs a script in mount namespaces of its own; `None`, said aloud, where that is not allowed.
fn unshared(script: &str, root: &Path) -> Option<Ran> {
    if !has_program("unshare", "--version")
        || !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success())
    {
        eprintln!("skipped: no mounts of our own here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", script]).env("C", BINARY).env("ROOT", root).env("INPUT", excerpt());
    Some(run(command.stdin(Stdio::null())))
}

#[test]
fn a_tmpfs_that_is_too_small_and_one_without_huge_pages() {
    let dir = scratch();
    let script = |options: &str| {
        format!(
            "mount -t tmpfs -o {options} tmpfs \"$ROOT\"
             $C import --venue binance-spot --root \"$ROOT/market\" \"$INPUT\" >&2
             $C doctor --json \"$ROOT/market\" || test $? = 1"
        )
    };
    // The raw queue may take a GiB.
    let Some(small) = unshared(&script("size=128m,huge=never"), dir.path()) else { return };
    let small = small.ok();
    let found = finding(&small, "tmpfs-small");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.contains("mount -o remount,size=")), "{found}");
    finding(&small, "no-huge-pages");
    let large = unshared(&script("size=3g,huge=within_size"), dir.path()).expect("as before").ok();
    has_not(&large, "tmpfs-small");
    has_not(&large, "no-huge-pages");
}

#[test]
fn a_low_limit_on_locked_memory() {
    let place = Place::healthy();
    let with = |limit: &str| {
        let script =
            format!("ulimit -l {limit} && exec setpriv --bounding-set=-ipc_lock \"$C\" doctor --json \"$ROOT\"");
        run(Command::new("sh").args(["-c", &script]).env("C", BINARY).env("ROOT", &place.root).stdin(Stdio::null()))
    };
    if !has_program("setpriv", "--version") {
        return;
    }
    if with("unlimited").code != Some(0) {
        eprintln!("skipped: this user may not raise its limits or drop its rights");
        return;
    }
    has_not(&with("unlimited"), "memlock-low");
    let ran = with("4").ok();
    let found = finding(&ran, "memlock-low");
    assert_eq!(found["level"], "advice");
    assert!(found["fix"].as_str().is_some_and(|fix| fix.starts_with("ulimit -l 8")), "{found}");
}

#[test]
fn a_machine_that_went_down() {
    let place = place();
    let writer = place.writer(options(), 5);
    drop(writer);
    let script = "cat /proc/sys/kernel/random/uuid > \"$ROOT/boot\"
        mount --bind \"$ROOT/boot\" /proc/sys/kernel/random/boot_id
        $C doctor --json \"$ROOT\" || test $? = 1";
    let Some(ran) = unshared(script, &place.root) else { return };
    let ran = ran.ok();
    finding(&ran, "not-recovered");
    has_not(&ran, "writer-died");
    has_not(&place.doctor(&[]), "not-recovered");
}
