//! What only several processes can show: locks and sleepers across them, modes under any umask, refusals to those
//! without rights, a full device, memory that is handed over, and a peer that truncates.
//!
//! Each test starts this binary again, as a child that runs the same test in another role. If one of these fails, a
//! queue may have two writers, a reader may sleep for ever, or a full disk may kill a writer in the middle of a store.
#![cfg(target_os = "linux")]

use chronicle_core::{Region, RegionMut};
use chronicle_platform::{
    Accept, File, HUGE_PAGE, Lock, Medium, MemoryOptions, Open, PageSize, Platform, TroubleKind, Woken,
};
use chronicle_platform_linux::{Linux, LinuxFile, io_uring, uring};
use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{PermissionsExt, symlink},
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
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

/// Copies the running binary, in a process of its own: while one of ours had the copy open for writing, a child that another
/// test forks would have it too, and what is open for writing cannot be run.
fn copy_this_binary(to: &Path) {
    assert!(Command::new("cp").arg(env::current_exe().unwrap()).arg(to).status().unwrap().success());
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
    assert!(Linux.is_dir(dir.path()).unwrap() && !Linux.is_dir(&dir.path().join("here")).unwrap());
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
    copy_this_binary(&binary);
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

/// A child that runs `test` and has the other end of this socket as its standard input.
fn start_with_socket(test: &str) -> (Child, UnixStream) {
    let (mine, theirs) = UnixStream::pair().unwrap();
    mine.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let child = command(&[], test, Path::new("/")).stdin(OwnedFd::from(theirs)).spawn().unwrap();
    (child, mine)
}

/// In such a child: its end.
fn socket() -> UnixStream {
    UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap())
}

fn succeeded(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

#[test]
fn s_11_memory_is_handed_to_another_process_and_keeps_its_length_there() {
    const LEN: usize = 1 << 16;
    if child().is_some() {
        let socket = socket();
        let file = LinuxFile::receive(&socket, Accept::Sealed).unwrap();
        let flags = rustix::io::fcntl_getfd(&file).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let map = Linux.map_mut(&file, LEN).unwrap();
        assert_eq!(map.window().load(LEN - 4), 0xfeed_beef);
        for len in [0, LEN as u64 - 4096, 2 * LEN as u64] {
            file.set_len(len).expect_err("its length is the same for ever");
        }
        map.window_mut().store(0, 77);
        Linux.wake(&map, 0).unwrap();

        let trouble = LinuxFile::receive(&socket, Accept::Sealed).unwrap_err();
        assert_eq!((trouble.kind(), trouble.operation()), (TroubleKind::Denied, "attach"), "{trouble}");
        assert!(trouble.to_string().contains("not sealed"), "{trouble}");
        let unsealed = LinuxFile::receive(&socket, Accept::Any).unwrap();
        assert_eq!(unsealed.len().unwrap(), 8);
        LinuxFile::receive(&socket, Accept::Any).expect_err("a socket is no memory");
        assert_eq!(LinuxFile::receive(&socket, Accept::Any).unwrap_err().operation(), "receive", "no descriptor");
        assert!(LinuxFile::receive(&socket, Accept::Any).unwrap_err().to_string().contains("gone"));
        return;
    }
    let (child, socket) = start_with_socket("s_11_memory_is_handed_to_another_process_and_keeps_its_length_there");
    let memory = Linux.memory(LEN, &MemoryOptions::default()).unwrap();
    memory.map.window_mut().store(LEN - 4, 0xfeed_beef);
    memory.file.send(&socket).unwrap();
    while memory.map.window().load(0) != 77 {
        Linux.wait_mut(&memory.map, 0, 0, Duration::from_secs(60)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let unsealed = Linux.open(&dir.path().join("file"), Open::Create).unwrap();
    unsealed.write_at(b"unsealed", 0).unwrap();
    unsealed.send(&socket).unwrap();
    unsealed.send(&socket).unwrap();
    let (other, _) = UnixStream::pair().unwrap();
    let fds = [other.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
    let byte = [std::io::IoSlice::new(b"x")];
    rustix::net::sendmsg(&socket, &byte, &mut control, rustix::net::SendFlags::empty()).unwrap();
    (&socket).write_all(b"y").unwrap();
    drop(socket);
    succeeded(child);
}

#[test]
fn s_12_a_guarded_process_survives_a_peer_that_truncates_while_it_reads_and_writes() {
    const LEN: usize = 1 << 20;
    const ROUNDS: u32 = 20;
    if child().is_some() {
        let mut socket = socket();
        while let Ok(file) = LinuxFile::receive(&socket, Accept::Any) {
            // Somewhere in the middle of what the others do.
            std::thread::sleep(Duration::from_millis(2));
            file.set_len(0).unwrap();
            socket.write_all(b"c").unwrap();
        }
        return;
    }
    let (child, mut socket) =
        start_with_socket("s_12_a_guarded_process_survives_a_peer_that_truncates_while_it_reads_and_writes");
    let memory = Linux.memory_dir().unwrap_or_else(env::temp_dir);
    let dir = tempfile::tempdir_in(memory).unwrap();
    for round in 0..ROUNDS {
        let file = Linux.open(&dir.path().join(round.to_string()), Open::Create).unwrap();
        file.allocate(LEN as u64).unwrap();
        let (map, reading) = (Linux.map_mut(&file, LEN).unwrap(), Linux.map(&file, LEN).unwrap());
        Linux.guard_mut(&map).unwrap();
        Linux.guard(&reading).unwrap();
        file.send(&socket).unwrap();
        let touched = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut touched = 0_u64;
                while !Linux.is_damaged_mut(&map) {
                    for at in (0..LEN).step_by(4096) {
                        map.window_mut().store(at + 8, round + 1);
                    }
                    touched += 1;
                }
                touched
            });
            let mut bytes = vec![0; LEN];
            let begun = Instant::now();
            while !Linux.is_damaged(&reading) {
                reading.window().copy_out(0, &mut bytes);
                assert!(begun.elapsed() < Duration::from_secs(50), "the peer's cut is not noticed");
            }
            writer.join().unwrap()
        });
        assert!(touched > 0);
        socket.read_exact(&mut [0]).unwrap();
        assert_eq!(file.len().unwrap(), 0, "what was stored after the cut went nowhere");
        // What follows is zeros to the end, to be read and, where that was so before, to be stored to.
        assert_eq!(reading.window().load(LEN - 4), 0);
        map.window_mut().store(LEN - 4, 5);
        assert_eq!((map.window().load(LEN - 4), reading.window().load(LEN - 4)), (5, 0));
    }
    drop(socket);
    succeeded(child);
}

#[test]
fn s_12_faults_that_are_not_a_guarded_mappings_go_where_they_went_before() {
    const SIGBUS: i32 = 7;
    if let Some(dir) = child() {
        let file = Linux.open(&dir.join("file"), Open::Write).unwrap();
        if dir.ends_with("default") {
            // As in a program that is not Rust's, whose runtime handles SIGBUS.
            // SAFETY: what the kernel does by itself needs no care; this process has one thread that matters.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        }
        let (guarded, other) = (Linux.map(&file, 4096).unwrap(), Linux.map(&file, 8192).unwrap());
        Linux.guard(&guarded).unwrap();
        file.set_len(0).unwrap();
        assert_eq!(guarded.window().load(0), 0);
        assert!(Linux.is_damaged(&guarded) && !Linux.is_damaged(&other));
        if dir.ends_with("sent") || dir.ends_with("sent/default") {
            // Rust's own handler lets the first one pass and handles no other.
            for _ in 0..if dir.ends_with("default") { 1 } else { 100 } {
                let me = rustix::process::getpid();
                rustix::process::kill_process(me, rustix::process::Signal::BUS).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_secs(2));
            unreachable!("the signal was swallowed");
        }
        println!("{}", other.window().load(0));
        unreachable!("a load beyond the end returned");
    }
    for way in ["fault", "sent", "fault/default", "sent/default"] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join(way);
        Linux.create_dirs(&dir).unwrap();
        Linux.open(&dir.join("file"), Open::Create).unwrap().allocate(8192).unwrap();
        let test = "s_12_faults_that_are_not_a_guarded_mappings_go_where_they_went_before";
        let output = command(&[], test, &dir).output().unwrap();
        assert_eq!(output.status.signal(), Some(SIGBUS), "{way}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn s_12_a_forked_child_is_guarded_where_it_has_the_mapping() {
    const TEST: &str = "s_12_a_forked_child_is_guarded_where_it_has_the_mapping";
    const SIGBUS: i32 = 7;
    if let Some(dir) = child() {
        let file = Linux.open(&dir.join("file"), Open::Create).unwrap();
        file.allocate(8192).unwrap();
        let (map, unguarded) = (Linux.map(&file, 8192).unwrap(), Linux.map(&file, 8192).unwrap());
        Linux.guard(&map).unwrap();
        // Whether a child that does this lived to say yes, or what ended it.
        let in_child = |act: &dyn Fn() -> bool| {
            // SAFETY: until it ends, which is before anything is dropped, the child only loads, maps and calls `_exit`.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0, "{}", std::io::Error::last_os_error());
            if pid == 0 {
                let status = if act() { 0 } else { 1 };
                // SAFETY: it never returns.
                unsafe { libc::_exit(status) };
            }
            let mut status = 0;
            // SAFETY: the child is ours, and the place for its status is.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            std::process::ExitStatus::from_raw(status)
        };
        file.set_len(4096).unwrap();
        let survived = in_child(&|| map.window().load(4096) == 0 && Linux.is_damaged(&map));
        assert!(survived.success(), "{survived}");
        assert!(!Linux.is_damaged(&map), "its mark is its own");
        assert_eq!(in_child(&|| unguarded.window().load(4096) == 0).signal(), Some(SIGBUS));
        assert_eq!((map.window().load(4096), Linux.is_damaged(&map)), (0, true));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(command(&[], TEST, dir.path()));
}

#[test]
fn s_12_a_guard_whose_handler_was_replaced_is_refused() {
    if let Some(dir) = child() {
        let file = Linux.open(&dir.join("file"), Open::Create).unwrap();
        file.allocate(4096).unwrap();
        let (a, b) = (Linux.map(&file, 4096).unwrap(), Linux.map(&file, 4096).unwrap());
        Linux.guard(&a).unwrap();
        // SAFETY: what the kernel does by itself needs no care; nothing faults here.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        let trouble = Linux.guard(&b).unwrap_err();
        let source = std::error::Error::source(&trouble).unwrap().to_string();
        assert!(source.contains("replaced"), "{trouble}: {source}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(command(&[], "s_12_a_guard_whose_handler_was_replaced_is_refused", dir.path()));
}

#[test]
fn files_of_huge_pages_are_mapped_whole_and_guarded() {
    if let Some(dir) = child() {
        let at = dir.join("huge");
        Linux.create_dirs(&at).unwrap();
        let mount = Command::new("mount").args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"]).arg(&at).output();
        if !mount.is_ok_and(|output| output.status.success()) {
            return eprintln!("skipped: hugetlbfs cannot be mounted here");
        }
        assert_eq!(Linux.medium(&at).unwrap(), Medium::Memory);
        let len = 2 * HUGE_PAGE;
        let file = Linux.open(&at.join("file"), Open::Create).unwrap();
        if let Err(trouble) = file.allocate(len as u64) {
            assert_eq!(trouble.kind(), TroubleKind::NoSpace);
            return eprintln!("skipped: this machine has no two reserved huge pages");
        }
        Linux.map(&file, 4096).expect_err("part of a page");
        let (map, reading) = (Linux.map_mut(&file, len).unwrap(), Linux.map(&file, len).unwrap());
        Linux.prefault_mut(&map).unwrap();
        let pages = Linux.ask_huge(&map);
        assert_eq!((pages.got, pages.huge_bytes), (PageSize::Huge2M, Some(len as u64)), "{pages:?}");
        Linux.guard_mut(&map).unwrap();
        Linux.guard(&reading).unwrap();
        map.window_mut().store(0, 7);
        file.set_len(HUGE_PAGE as u64).unwrap();
        map.window_mut().store(len - 4, 1);
        assert_eq!((reading.window().load(0), reading.window().load(len - 4)), (7, 0));
        assert!(Linux.is_damaged_mut(&map) && Linux.is_damaged(&reading));
        return;
    }
    let wrapper = ["unshare", "--mount"];
    if !rustix::process::getuid().is_root() {
        return eprintln!("skipped: only root mounts hugetlbfs");
    }
    if works(&wrapper) {
        let dir = tempfile::tempdir().unwrap();
        run(command(&wrapper, "files_of_huge_pages_are_mapped_whole_and_guarded", dir.path()));
    }
}

#[test]
fn a_limit_on_pinned_memory_is_named_with_its_number() {
    const LIMIT: u64 = 64 << 10;
    if child().is_some() {
        let memory = Linux.memory(1 << 20, &MemoryOptions::default()).unwrap();
        let limit = rustix::process::Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
        rustix::process::setrlimit(rustix::process::Resource::Memlock, limit).unwrap();
        let trouble = Linux.lock_memory(&memory.map).unwrap_err();
        assert_eq!(trouble.operation(), "lock memory");
        assert!(trouble.errno().is_some(), "{trouble:?}");
        let line = trouble.to_string();
        assert!(line.contains("65536 bytes (RLIMIT_MEMLOCK") && line.contains("1048576 bytes to pin"), "{line}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The binary may lie where another account cannot reach it.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let binary = dir.path().join("test-binary");
    copy_this_binary(&binary);
    let mut command = Command::new(&binary);
    command.args(["--exact", "a_limit_on_pinned_memory_is_named_with_its_number", "--nocapture"]);
    command.env(ROLE, dir.path()).current_dir("/");
    if rustix::process::getuid().is_root() {
        // Root may pin what it likes.
        command.uid(65_534).gid(65_534);
    }
    run(command);
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
    match io_uring::IoUring::new(2).map(|ring| uring::supports_wait(&ring)) {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => eprintln!("skipped: {trouble}"),
        Err(error) => eprintln!("skipped: io_uring: {error}"),
    }
    for pages in [PageSize::Transparent, PageSize::Huge2M] {
        let memory = Linux.memory(4 << 20, &MemoryOptions { pages, ..MemoryOptions::default() }).unwrap();
        if let Some(why) = memory.pages.why {
            eprintln!("skipped: {pages:?}: {why}");
        }
    }
}
