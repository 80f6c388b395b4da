//! What only several processes can show: locks and sleepers across them, modes under any umask, refusals to those
//! without rights, a full device, and a peer that truncates.
//!
//! Each test starts this binary again, as a child that runs the same test in another role. If one of these fails, a
//! queue may have two writers, a reader may sleep for ever, or a full disk may kill a writer in the middle of a store.
#![cfg(target_os = "linux")]

use chronicle_core::{Region, RegionMut};
use chronicle_platform::{File, Lock, Open, Platform, TroubleKind, Woken};
use chronicle_platform_linux::Linux;
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "CHRONICLE_TEST_DIR";

/// In a child: the directory that it works in.
fn child() -> Option<PathBuf> {
    env::var_os(ROLE).map(PathBuf::from)
}

/// A command that runs `test` in a child, by way of `wrapper` (such as `unshare`).
fn command(wrapper: &[&str], test: &str, dir: &Path) -> Command {
    let binary = env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&binary);
            command
        }
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that is killed when the test ends.
struct Running(Child);

impl Running {
    /// Starts `test` in a child and waits until it says `ready`.
    fn start(test: &str, dir: &Path) -> Running {
        let mut child = command(&[], test, dir).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        while !lines.next().expect("a child that says that it is ready").unwrap().ends_with("ready") {}
        Running(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// In a child: tells the parent, then waits for its own end.
fn ready_for_ever() {
    ready();
    _ = std::io::stdin().read(&mut [0]);
}

fn ready() {
    println!("ready");
    std::io::stdout().flush().unwrap();
}

/// Runs `test` in a child to its end; panics with its output if it failed.
fn run(mut command: Command) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    // A filter that matches nothing succeeds too.
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

/// Whether a wrapper works here; says so if not.
fn works(wrapper: &[&str]) -> bool {
    let done = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output().is_ok_and(|out| out.status.success());
    if !done {
        eprintln!("skipped: `{}` does not work here", wrapper.join(" "));
    }
    done
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn s_1_a_lock_dies_with_its_process() {
    if let Some(dir) = child() {
        let file = Linux.open(&dir.join("lock"), Open::EnsurePrivate).unwrap();
        file.allocate(4096).unwrap();
        let _map = Linux.map_mut(&file, 4096).unwrap();
        assert!(file.try_lock(Lock::Exclusive).unwrap());
        return ready_for_ever();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Running::start("s_1_a_lock_dies_with_its_process", dir.path());
    let file = Linux.open(&dir.path().join("lock"), Open::EnsurePrivate).unwrap();
    assert!(!file.try_lock(Lock::Exclusive).unwrap());
    writer.kill();
    assert!(file.try_lock(Lock::Exclusive).unwrap(), "the kernel frees what the dead held");
}

#[test]
fn s_2_a_stopped_process_keeps_its_lock_and_a_child_does_not_inherit_it() {
    if child().is_some() {
        return ready_for_ever();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let file = Linux.open(&path, Open::EnsurePrivate).unwrap();
    assert!(file.try_lock(Lock::Exclusive).unwrap());
    let running = Running::start("s_2_a_stopped_process_keeps_its_lock_and_a_child_does_not_inherit_it", dir.path());
    let inherited = std::fs::read_dir(format!("/proc/{}/fd", running.0.id()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .any(|target| target == path);
    assert!(!inherited, "the child has a descriptor that could keep the lock");
    let other = Linux.open(&path, Open::Write).unwrap();
    assert!(!other.try_lock(Lock::Exclusive).unwrap());
    drop(file);
    assert!(other.try_lock(Lock::Exclusive).unwrap(), "freed, whatever the child has");

    let mut owner = Running::start("s_1_a_lock_dies_with_its_process", &{
        let dir = dir.path().join("stopped");
        Linux.create_dirs(&dir).unwrap();
        dir
    });
    let pid = owner.0.id().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    let taken = Linux.open(&dir.path().join("stopped/lock"), Open::Write).unwrap();
    assert!(!taken.try_lock(Lock::Exclusive).unwrap(), "a paused owner is an owner");
    owner.kill();
    assert!(taken.try_lock(Lock::Exclusive).unwrap());
}

#[test]
fn a_sleeper_in_another_process_is_woken_through_a_read_only_mapping() {
    if let Some(dir) = child() {
        let file = Linux.open(&dir.join("word"), Open::Read).unwrap();
        let map = Linux.map(&file, 8192).unwrap();
        ready();
        // The word never changes, so that only a wake ends this before its time.
        assert_eq!(Linux.wait(&map, 4096 + 64, 7, Duration::from_secs(60)).unwrap(), Woken::Signal);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = Linux.open(&dir.path().join("word"), Open::Create).unwrap();
    file.allocate(1 << 16).unwrap();
    let map = Linux.map_mut(&file, 1 << 16).unwrap();
    map.window_mut().store(4096 + 64, 7);
    let mut reader = Running::start("a_sleeper_in_another_process_is_woken_through_a_read_only_mapping", dir.path());
    let begun = Instant::now();
    let status = loop {
        Linux.wake(&map, 4096 + 64).unwrap();
        if let Some(status) = reader.0.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(50), "nobody woke the child");
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut output = String::new();
    reader.0.stderr.as_mut().unwrap().read_to_string(&mut output).unwrap();
    assert!(status.success(), "{output}");
}

#[test]
fn threads_wake_each_other_through_different_mappings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("word");
    let file = Linux.open(&path, Open::Create).unwrap();
    file.allocate(4096).unwrap();
    let map = Linux.map_mut(&file, 4096).unwrap();
    let sleepers: Vec<_> = (0..3)
        .map(|i| {
            let file = Linux.open(&path, Open::Write).unwrap();
            std::thread::spawn(move || match i {
                0 => Linux.wait_mut(&Linux.map_mut(&file, 4096).unwrap(), 8, 0, Duration::from_secs(60)),
                _ => Linux.wait(&Linux.map(&file, 4096).unwrap(), 8, 0, Duration::from_secs(60)),
            })
        })
        .collect();
    while !sleepers.iter().all(std::thread::JoinHandle::is_finished) {
        Linux.wake(&map, 8).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    for sleeper in sleepers {
        assert_eq!(sleeper.join().unwrap().unwrap(), Woken::Signal);
    }
    let longest = Linux.wait_mut(&map, 8, 1, Duration::MAX).unwrap();
    assert_eq!(longest, Woken::Changed, "any time-out is one that the kernel accepts");
}

#[test]
fn modes_are_exact_under_any_umask() {
    if let Some(dir) = child() {
        for umask in [0, 0o022, 0o077, 0o777] {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
            let dir = dir.join(format!("{umask:o}"));
            Linux.create_dirs(&dir.join("below")).unwrap();
            Linux.open(&dir.join("create"), Open::Create).unwrap().write_at(b"x", 0).unwrap();
            Linux.open(&dir.join("ensure"), Open::Ensure).unwrap();
            Linux.open(&dir.join("private"), Open::EnsurePrivate).unwrap();
            let found = ["", "below", "create", "ensure", "private"].map(|name| mode(&dir.join(name)));
            assert_eq!(found, [0o750, 0o750, 0o640, 0o640, 0o600], "umask {umask:o}");
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(command(&[], "modes_are_exact_under_any_umask", dir.path()));
}

#[test]
fn what_is_not_a_regular_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link, dangling, pipe) =
        (dir.path().join("file"), dir.path().join("link"), dir.path().join("dangling"), dir.path().join("pipe"));
    Linux.open(&file, Open::Create).unwrap().write_at(b"secret", 0).unwrap();
    symlink(&file, &link).unwrap();
    symlink(dir.path().join("elsewhere"), &dangling).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for path in [&link, &dangling, &pipe] {
        for how in [Open::Read, Open::Write, Open::Create, Open::Ensure, Open::EnsurePrivate] {
            Linux.open(path, how).expect_err(&format!("{how:?} of {}", path.display()));
        }
    }
    assert!(!dir.path().join("elsewhere").exists(), "a dangling link created its target");
    assert!(Linux.exists(&dangling).unwrap(), "a link is a name");
    let listed = Linux.list(dir.path()).unwrap();
    assert!(listed.len() == 4 && listed.iter().all(|entry| !entry.is_dir));
    // Directories above may be links: an operator's choice of disk.
    symlink(dir.path(), dir.path().join("here")).unwrap();
    Linux.open(&dir.path().join("here/file"), Open::Read).unwrap();
    assert!(!Linux.list(dir.path()).unwrap().iter().any(|entry| entry.is_dir), "a link to a directory is none");
}

#[test]
fn those_without_rights_are_denied() {
    const NOBODY: u32 = 65_534;
    if let Some(dir) = child() {
        for result in [
            Linux.open(&dir.join("new"), Open::Create).map(drop),
            Linux.open(&dir.join("new"), Open::Ensure).map(drop),
            Linux.open(&dir.join("readable"), Open::Write).map(drop),
            Linux.open(&dir.join("private"), Open::Read).map(drop),
            Linux.open(&dir.join("private"), Open::EnsurePrivate).map(drop),
            Linux.create_dirs(&dir.join("below")),
            Linux.rename(&dir.join("readable"), &dir.join("renamed")),
            Linux.remove(&dir.join("readable")),
        ] {
            let trouble = result.expect_err("this account has no right to it");
            assert_eq!(trouble.kind(), TroubleKind::Denied, "{trouble:?}");
        }
        let file = Linux.open(&dir.join("readable"), Open::Read).unwrap();
        assert!(file.try_lock(Lock::Shared).unwrap(), "a right to read is enough to lock");
        Linux.map(&file, 4096).unwrap();
        return;
    }
    if !rustix::process::getuid().is_root() {
        // Ordinary accounts show the same in their own directories, except for the private file.
        eprintln!("skipped: only root can become another account");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    let readable = Linux.open(&dir.join("readable"), Open::Create).unwrap();
    readable.allocate(4096).unwrap();
    std::fs::set_permissions(dir.join("readable"), PermissionsExt::from_mode(0o644)).unwrap();
    Linux.open(&dir.join("private"), Open::EnsurePrivate).unwrap();
    // The binary may lie where that account cannot reach it.
    let binary = dir.join("test-binary");
    std::fs::copy(env::current_exe().unwrap(), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.args(["--exact", "those_without_rights_are_denied", "--nocapture"]).env(ROLE, dir);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    run(command);
}

#[test]
fn s_13_a_full_device_is_an_error_at_allocation_and_never_a_fault() {
    if let Some(dir) = child() {
        let mount = |options: &str, name: &str| {
            let at = dir.join(name);
            Linux.create_dirs(&at).unwrap();
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).status().unwrap();
            assert!(mounted.success(), "mounting in a namespace of its own");
            at
        };
        let small = mount("size=1m", "small");
        assert!((900_000..=1 << 20).contains(&Linux.free_bytes(&small).unwrap()));
        let file = Linux.open(&small.join("file"), Open::Create).unwrap();
        let trouble = file.allocate(2 << 20).unwrap_err();
        assert_eq!((trouble.kind(), trouble.operation()), (TroubleKind::NoSpace, "allocate"));
        file.allocate(768 << 10).unwrap();
        let map = Linux.map_mut(&file, 768 << 10).unwrap();
        let second = Linux.open(&small.join("second"), Open::Create).unwrap();
        assert_eq!(second.allocate(512 << 10).unwrap_err().kind(), TroubleKind::NoSpace);
        assert_eq!(second.write_at(&[1; 512 << 10], 0).unwrap_err().kind(), TroubleKind::NoSpace);
        // What was allocated can be stored to, every byte of it, on a device without a byte to spare.
        Linux.prefault_mut(&map).unwrap();
        (0..768 << 10).step_by(4).for_each(|at| map.window_mut().store(at, 0xabcd));
        Linux.remove(&small.join("second")).unwrap();
        drop(second);
        file.allocate(1000 << 10).expect("space returned");

        let few = mount("size=1m,nr_inodes=3", "few");
        let created: Vec<_> = (0..3).map(|i| Linux.open(&few.join(i.to_string()), Open::Create)).collect();
        let trouble = created.into_iter().find_map(Result::err).expect("there were two files' worth of inodes");
        assert_eq!(trouble.kind(), TroubleKind::NoSpace);
        return;
    }
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    let as_root = ["unshare", "--mount"];
    let wrapper: &[&str] = if rustix::process::getuid().is_root() { &as_root } else { &wrapper };
    if works(wrapper) {
        let dir = tempfile::tempdir().unwrap();
        run(command(wrapper, "s_13_a_full_device_is_an_error_at_allocation_and_never_a_fault", dir.path()));
    }
}

#[test]
fn s_12_a_peer_that_truncates_ends_the_process_by_sigbus() {
    const SIGBUS: i32 = 7;
    if let Some(dir) = child() {
        let file = Linux.open(&dir.join("file"), Open::Write).unwrap();
        let map = Linux.map(&file, 8192).unwrap();
        assert_eq!(map.window().load(4096), 0);
        file.set_len(4096).unwrap();
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, 4096).unwrap(), 0, "read_at only comes back short");
        println!("{}", map.window().load(4096));
        unreachable!("a load beyond the end returned");
    }
    let dir = tempfile::tempdir().unwrap();
    Linux.open(&dir.path().join("file"), Open::Create).unwrap().allocate(8192).unwrap();
    let output = command(&[], "s_12_a_peer_that_truncates_ends_the_process_by_sigbus", dir.path()).output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGBUS), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_this_kernel_lacks_is_said() {
    let support = Linux.support();
    assert!(support.shared_wait && support.durable_sync);
    if !support.barrier {
        eprintln!("skipped: this kernel or sandbox has no membarrier");
    }
    if !support.prefault_write {
        eprintln!("skipped: this kernel has no MADV_POPULATE_WRITE");
    }
}
