//! What `roll` and `recover` share: a queue in memory and the processes around it.

use chronicle_platform_linux::Linux;
use chronicle_storage::queue::{Publisher, PublisherOptions, Queue, Subscriber, SubscriberOptions};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

pub const SEGMENT: u32 = 64 << 20;

pub fn publisher(dir: &Path, options: PublisherOptions) -> Result<Publisher<Linux>, String> {
    Queue::publisher(&Linux, dir, options).map_err(|it| it.to_string())
}

pub fn subscriber(dir: &Path) -> Result<Subscriber<Linux>, String> {
    let options = SubscriberOptions { trusted: Some(crate::machine::trusted()), ..SubscriberOptions::default() };
    Queue::subscriber(&Linux, dir, "bench", options).map_err(|it| it.to_string())
}

/// A process of ours that says lines and is told lines. Killed when dropped.
pub struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    /// Starts this program with the words of a child, under `wrapper` where one is given.
    pub fn start(wrapper: &[&str], words: &[&str], dir: &Path) -> Result<Self, String> {
        let path = std::env::current_exe().map_err(|it| it.to_string())?;
        let mut command = match wrapper {
            [] => Command::new(path),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(path);
                command
            }
        };
        command.arg("child").args(words).arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|it| format!("the other process did not start: {it}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        Ok(Other { child, lines })
    }

    pub fn tell(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("no standard input")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).map_err(|it| it.to_string())
    }

    pub fn hear(&mut self) -> Result<String, String> {
        match self.lines.next() {
            Some(line) => line.map_err(|it| it.to_string()),
            None => Err("the other process ended early".to_owned()),
        }
    }

    /// Lets it go, and waits until it went.
    pub fn finish(&mut self) -> Result<(), String> {
        self.tell("end")?;
        self.child.wait().map(|_| ()).map_err(|it| it.to_string())
    }

    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(|_| ()).map_err(|it| it.to_string())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A child's side of [`Other::tell`].
pub fn told() -> Result<String, String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|it| it.to_string())?;
    Ok(line.trim().to_owned())
}

/// A child's side of [`Other::hear`].
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
