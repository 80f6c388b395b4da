//! Commands that are programs of their own: `chronicle x …` runs `chronicle-x …` from the `PATH`, as git does.
//!
//! For what few need and takes long to build. The program has the terminal, the arguments and the last word: its exit code
//! is the command's.

use crate::run::{self, Failure};
use std::{
    ffi::OsString,
    io,
    process::{Command, ExitCode},
};

/// Runs the program of a command that is not one of ours; `words` begin with its name.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    started(words).unwrap_or_else(|failure| run::exit(Err(failure)))
}

fn started(words: Vec<OsString>) -> Result<ExitCode, Failure> {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_default();
    let is_word = name.to_str().is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    let unknown = || {
        let name = name.to_string_lossy();
        let name = name.escape_debug();
        let why = "no such command, and no program";
        Failure::Usage(format!("{name}: {why} chronicle-{name}: `chronicle --help` lists the commands"))
    };
    if !is_word || name.is_empty() {
        return Err(unknown());
    }
    let mut program = OsString::from("chronicle-");
    program.push(&name);
    match Command::new(&program).args(words).status() {
        // Ended by a signal: what a shell makes of it is not ours to say.
        Ok(status) => {
            Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(1), ExitCode::from))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown()),
        Err(error) => Err(Failure::Usage(format!("{}: {error}", program.to_string_lossy()))),
    }
}
