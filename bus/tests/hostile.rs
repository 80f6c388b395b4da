//! Whatever stands in the place of a file of the bus has a clear outcome, and keeps nobody else from being found.
//!
//! Each thing is put beside a healthy strategy, which must be found, lost and found again all the same.
#![cfg(target_os = "linux")]

use chronicle_bus::{
    Discovery, DiscoveryOptions, Entry, Error, Kind, Layout, Registration, RegistrationOptions, State, Swept, look,
    sweep, sweep_entry,
};
use chronicle_platform::Platform;
use chronicle_platform_linux::Linux;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    process::Command,
    time::Duration,
};

fn memory_or_disk() -> tempfile::TempDir {
    match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

fn entry() -> Entry {
    Entry::strategy("odd").unwrap()
}

fn begin(layout: &Layout, entry: &Entry) -> Result<Registration<Linux>, Error> {
    let options = RegistrationOptions { patience: Duration::from_millis(200), ..RegistrationOptions::default() };
    Registration::begin(&Linux, layout, entry.clone(), options)
}

/// With an error, all that lies beneath it.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(beneath) = source {
        text = format!("{text}: {beneath}");
        source = beneath.source();
    }
    text
}

/// A healthy strategy is found beside whatever `layout` holds, by a discovery that says so much of the odd one.
fn found_beside(layout: &Layout, expected: &State) {
    let well = Entry::strategy("well").unwrap();
    let mut registration = begin(layout, &well).unwrap();
    registration.ready().unwrap();
    let options = DiscoveryOptions { rescan: Duration::from_secs(10_000), ..DiscoveryOptions::default() };
    let mut discovery = Discovery::open(&Linux, layout, options).unwrap();
    _ = discovery.poll();
    assert!(matches!(discovery.state(&well), State::Ready(_)));
    assert_eq!(discovery.state(&entry()), expected);
    drop(registration);
    while *discovery.state(&well) != State::Absent {
        _ = discovery.wait(Duration::from_millis(50));
    }
    fs::remove_dir_all(layout.dir(&well)).unwrap();
}

fn put(path: &Path, what: &str) {
    match what {
        "a directory" => fs::create_dir(path).unwrap(),
        "a link" => symlink("/etc/passwd", path).unwrap(),
        "a dangling link" => symlink("/nowhere/at/all", path).unwrap(),
        "a pipe" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_no_file_is_refused_named_and_left_alone() {
    for name in ["READY", "LEASE"] {
        for (what, words) in [
            ("a directory", "a directory, not a file"),
            ("a link", "symbolic links"),
            ("a dangling link", "symbolic links"),
            ("a pipe", "a pipe, not a file"),
        ] {
            let root = memory_or_disk();
            let layout = Layout::new(root.path());
            fs::create_dir_all(layout.dir(&entry())).unwrap();
            let path = layout.dir(&entry()).join(name);
            put(&path, what);
            let state = look(&Linux, &layout, &entry());
            let State::Refused(why) = &state else { panic!("{name} is {what}: {state}") };
            assert!(why.contains(words) && why.starts_with(path.to_str().unwrap()), "{why}");
            found_beside(&layout, &state);
            let all = sweep(&Linux, &layout).unwrap();
            assert_eq!((all.removed.len(), all.refused.len()), (0, 1), "{name} is {what}");
            let Swept::Refused(why) = sweep_entry(&Linux, &layout, &entry()) else { panic!("{name} is {what}") };
            assert!(why.contains(words), "{why}");
            match begin(&layout, &entry()) {
                Err(error @ Error::Foreign { .. }) => {
                    let text = error.to_string();
                    let at = path.to_str().unwrap();
                    assert!(text.contains(words) && text.starts_with(at), "{text}");
                    assert_eq!(text.matches(root.path().to_str().unwrap()).count(), 1, "{text}");
                }
                other => panic!("{name} is {what}: {other:?}"),
            }
            assert!(path.symlink_metadata().is_ok(), "it is not ours to remove");
            // Once it is out of the way all is well, and what a refused registration had begun is nothing to anybody.
            match what {
                "a directory" => fs::remove_dir(&path).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
            begin(&layout, &entry()).unwrap().ready().unwrap();
        }
    }
}

#[test]
fn the_lock_too() {
    for (what, words) in [("a directory", "directory"), ("a link", "symbolic links"), ("a pipe", "a pipe")] {
        let root = memory_or_disk();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.dir(&entry())).unwrap();
        put(&layout.owner_lock(&entry()), what);
        // Something to sweep, which nobody can prove to be a dead owner's.
        fs::write(layout.ready(&entry()), b"stale").unwrap();
        found_beside(&layout, &State::Dead(None));
        let error = begin(&layout, &entry()).unwrap_err();
        assert!(text(&error).contains(words), "{}", text(&error));
        assert_eq!(sweep(&Linux, &layout).unwrap().refused.len(), 1);
        assert!(layout.ready(&entry()).exists());
    }
    let root = memory_or_disk();
    let layout = Layout::new(root.path());
    fs::create_dir_all(layout.dir(&entry())).unwrap();
    fs::write(layout.owner_lock(&entry()), [0xee; 1024]).unwrap();
    let error = begin(&layout, &entry()).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }) && error.to_string().contains("magic"), "{error}");
}

#[test]
fn ten_gigabytes_are_not_read() {
    for name in ["READY", "LEASE"] {
        let root = memory_or_disk();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.dir(&entry())).unwrap();
        fs::File::create(layout.dir(&entry()).join(name)).unwrap().set_len(10 << 30).unwrap();
        assert_eq!(look(&Linux, &layout, &entry()), State::Dead(None), "nobody holds it");
        assert_eq!(sweep_entry(&Linux, &layout, &entry()), Swept::Removed(1));
        fs::File::create(layout.dir(&entry()).join(name)).unwrap().set_len(10 << 30).unwrap();
        found_beside(&layout, &State::Absent);
    }
    // Beside a living owner's lease it says why that one is not ready.
    let root = memory_or_disk();
    let layout = Layout::new(root.path());
    let _owner = begin(&layout, &entry()).unwrap();
    fs::File::create(layout.ready(&entry())).unwrap().set_len(10 << 30).unwrap();
    let State::Refused(why) = look(&Linux, &layout, &entry()) else { panic!("refused") };
    assert!(why.ends_with("READY: offset 0: 128 bytes needed, 129 there"), "{why}");
}

#[test]
fn names_that_no_entry_has_are_counted_and_passed_over() {
    let root = memory_or_disk();
    let layout = Layout::new(root.path());
    let dir = layout.kind_dir(Kind::Strategy);
    fs::create_dir_all(&dir).unwrap();
    let long = "a".repeat(255);
    for name in ["UPPER", "two..dots", ".hidden", "sp ace", &"a".repeat(65), &long] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("READY"), b"x").unwrap();
    }
    // No text at all: listings leave it out.
    fs::create_dir(dir.join(OsStr::from_bytes(b"\xff\xfe"))).unwrap();
    fs::write(dir.join("file"), b"x").unwrap();
    // A link to a directory: whatever is behind it is not the bus's, and above all nothing is removed there.
    let elsewhere = memory_or_disk();
    fs::write(elsewhere.path().join("READY"), b"precious").unwrap();
    symlink(elsewhere.path(), dir.join("link")).unwrap();
    let mut discovery = Discovery::open(&Linux, &layout, DiscoveryOptions::default()).unwrap();
    assert_eq!(discovery.poll(), []);
    assert_eq!(discovery.counters().foreign, 6);
    // The same, told by the watch.
    for name in ["UPPER2", "two..dots2"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    symlink(elsewhere.path(), dir.join("link2")).unwrap();
    fs::create_dir(dir.join(OsStr::from_bytes(b"\xff"))).unwrap();
    assert_eq!(discovery.wait(Duration::from_millis(200)), []);
    assert_eq!(sweep(&Linux, &layout).unwrap(), Default::default());
    assert!(elsewhere.path().join("READY").exists());
    assert!(!elsewhere.path().join("owner.lock").exists());

    for name in ["", ".", "..", "a/b", "../x", "a\0b", &"a".repeat(10_000), "naïve"] {
        let error = Entry::strategy(name).unwrap_err();
        assert!(matches!(error, Error::Name(_)) && error.to_string().len() < 300, "{error}");
    }
}

/// Others' files: what may not be read cannot be judged, and is not removed.
#[test]
fn without_rights_nothing_is_judged_and_nothing_removed() {
    const ROLE: &str = "BUS_HOSTILE_DIR";
    const NOBODY: u32 = 65_534;
    if let Some(dir) = std::env::var_os(ROLE) {
        let layout = Layout::new(dir);
        let state = look(&Linux, &layout, &entry());
        assert!(matches!(&state, State::Refused(why) if why.contains("ermission denied")), "{state}");
        let dead = Entry::strategy("dead").unwrap();
        // Its lease may be read: so its death is known, and the lock that would let us sweep is not ours to take.
        assert!(matches!(look(&Linux, &layout, &dead), State::Dead(_)), "{}", look(&Linux, &layout, &dead));
        let Swept::Refused(why) = sweep_entry(&Linux, &layout, &dead) else { panic!("swept") };
        assert!(why.contains("ermission denied"), "{why}");
        let error = begin(&layout, &dead).unwrap_err();
        assert!(text(&error).contains("ermission denied"), "{}", text(&error));
        let mut discovery = Discovery::open(&Linux, &layout, DiscoveryOptions::default()).unwrap();
        assert_eq!(discovery.poll().len(), 2, "two directories, added");
        assert!(discovery.refusal().is_some_and(|why| why.contains("ermission denied")));
        println!("as nobody: done");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    if root.path().metadata().unwrap().uid() != 0 {
        eprintln!("skipped: only root can become another account");
        return;
    }
    let layout = Layout::new(root.path().join("hot"));
    let dead = Entry::strategy("dead").unwrap();
    for entry in [entry(), dead.clone()] {
        let mut registration = begin(&layout, &entry).unwrap();
        registration.ready().unwrap();
        // As killed: nothing is removed.
        let (ready, lease) = (fs::read(layout.ready(&entry)).unwrap(), fs::read(layout.lease(&entry)).unwrap());
        drop(registration);
        fs::write(layout.ready(&entry), ready).unwrap();
        fs::write(layout.lease(&entry), lease).unwrap();
    }
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for dir in [&layout.dir(&entry()), &layout.dir(&dead)] {
        dir.ancestors().take_while(|dir| dir.starts_with(root.path())).for_each(|dir| open(dir, 0o755));
        open(&dir.join("READY"), 0o644);
        open(&dir.join("LEASE"), 0o644);
    }
    open(&layout.lease(&entry()), 0o600);
    // The binary may lie where nobody may go.
    let binary = root.path().join("binary");
    // Copied by a process of its own: no child that another test forks may have it open for writing when it is run.
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&binary).status().unwrap().success());
    open(&binary, 0o755);
    let output = Command::new(&binary)
        .args(["without_rights_nothing_is_judged_and_nothing_removed", "--exact", "--nocapture"])
        .env(ROLE, layout.hot())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("as nobody: done"), "{said}");
    assert!(layout.ready(&dead).exists() && layout.ready(&entry()).exists());
}
