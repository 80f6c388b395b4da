//! Serves disks that fail, as `chronicle_faults::Mounted` asks: `faultfs DIRECTORY`, commands on standard input, answers on
//! standard output. Disks are mounted in the directory; all of them go when the input ends.

use chronicle_faults::{control::Survival, disk::Disk, serve::Served};
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use std::{
    env, fs, io,
    io::{BufRead, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

/// Operations that take their time, of several writers, and whoever looks meanwhile.
const THREADS: usize = 16;

/// For those who look at what is left. Each thread has a buffer for the longest write that there is, 16 MiB.
const FEW_THREADS: usize = 2;

fn main() -> ExitCode {
    let Some(root) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: faultfs DIRECTORY");
        return ExitCode::from(2);
    };
    match serve(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faultfs: {}: {error}", root.display());
            ExitCode::FAILURE
        }
    }
}

fn serve(root: &Path) -> io::Result<()> {
    let disk = Arc::new(Disk::new(0));
    let mut sessions = vec![mount(&disk, &root.join("0"), THREADS)?];
    answer(&format!("ok {}", root.join("0").display()))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let done = match line.split_once(' ').unwrap_or((&line, "")) {
            ("fault", fault) => fault.parse().map(|fault| disk.fault(fault)).map(|()| String::new()),
            ("clear", _) => {
                disk.clear();
                Ok(String::new())
            }
            ("counts", _) => Ok(disk.counts().to_string()),
            ("cut", _) => {
                disk.cut();
                Ok(String::new())
            }
            ("capacity", bytes) => {
                bytes.parse().map(|bytes| disk.set_capacity(bytes)).map_err(|e| e.to_string()).map(|()| String::new())
            }
            ("survivor", words) => survivor(&disk, words, &root.join(sessions.len().to_string()), &mut sessions),
            (other, _) => Err(format!("no command is called {other}")),
        };
        answer(&match done {
            Ok(text) => format!("ok {text}"),
            Err(error) => format!("error {error}"),
        })?;
    }
    for (number, session) in sessions.into_iter().enumerate() {
        // Some program may still have a file open there: then the mount goes from sight, and its files with this process.
        if session.umount_and_join().is_err() {
            let at = root.join(number.to_string());
            let commands: [&[&str]; 3] = [&["umount", "-l"], &["fusermount3", "-uz"], &["fusermount", "-uz"]];
            commands.iter().any(|words| {
                Command::new(words[0]).args(&words[1..]).arg(&at).status().is_ok_and(|status| status.success())
            });
        }
    }
    Ok(())
}

fn survivor(disk: &Disk, words: &str, at: &Path, sessions: &mut Vec<BackgroundSession>) -> Result<String, String> {
    let (seed, survival) = words.split_once(' ').ok_or("a seed and what survives")?;
    let seed = seed.parse().map_err(|error| format!("{seed}: {error}"))?;
    let left = Arc::new(disk.survivor(seed, survival.parse::<Survival>()?));
    sessions.push(mount(&left, at, FEW_THREADS).map_err(|error| error.to_string())?);
    Ok(at.display().to_string())
}

fn mount(disk: &Arc<Disk>, at: &Path, threads: usize) -> io::Result<BackgroundSession> {
    fs::create_dir_all(at)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("faultfs".into()), MountOption::DefaultPermissions];
    config.acl = SessionACL::Owner;
    config.n_threads = Some(threads);
    fuser::spawn_mount(Served(disk.clone()), at, &config)
}

fn answer(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
