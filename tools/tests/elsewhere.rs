//! Tiers that lie elsewhere than under the root: every command finds them, and what it says to do next finds them too.

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::*;

struct Elsewhere {
    dir: tempfile::TempDir,
}

impl Elsewhere {
    /// A blank in a name must be quoted in what is shown.
    const TIERS: [(&str, &str); 3] = [("--hot", "fast disk/hot"), ("--warm", "middle/warm"), ("--cold", "slow's/cold")];

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--root").arg(self.path("root")).stdin(Stdio::null());
        for (flag, name) in Self::TIERS {
            command.arg(flag).arg(self.path(name));
        }
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    /// The command that a run says to do next, done by a shell.
    #[track_caller]
    fn next(&self, ran: &Ran) -> Ran {
        let text = ran.text();
        let line = text.lines().find_map(|line| line.strip_prefix("next: chronicle ")).expect("what to do next");
        run(Command::new("sh").args(["-c", &format!("\"$0\" {line}"), BINARY]).stdin(Stdio::null()))
    }
}

#[test]
fn all_tiers_elsewhere() {
    let here = Elsewhere { dir: scratch() };
    let plain = scratch();
    let recording = excerpt();
    let symbol = ["--venue", "binance-spot", "--symbol", "ethusdt"];
    let imported = run(here.command(&["import", "--venue", "binance-spot"]).arg(&recording)).ok();
    assert!(here.path("root/state").is_dir(), "the root itself, which says where checkpoints are");
    for (_, name) in &Elsewhere::TIERS[1..] {
        assert!(!here.path("root").join(Path::new(name).file_name().expect("a tier")).exists());
    }
    let refined = here.next(&imported).ok().says("next: chronicle book ");
    let book = here.next(&refined).ok().says("binance-spot/ethusdt after id");
    here.run(&["refine", "--seal"]).ok();

    import(plain.path(), "binance-spot", &[recording]).ok();
    refine(plain.path(), &["--seal"]).ok();
    assert_same("warm", &tree(&plain.path().join("warm/v1")), &tree(&here.path("middle/warm/v1")));
    let rows = ["--date", "2024-08-08", "--as", "book-snapshot", "--csv"];
    let answers = |more: [&[&str]; 3]| {
        let [cat, export, book] = [("cat", more[0]), ("export", more[1]), ("book", more[2])]
            .map(|(command, more)| here.run(&[&[command], &symbol[..], more].concat()).ok().out);
        assert!(!cat.is_empty() && !export.is_empty() && !book.is_empty());
        [cat, export, book]
    };
    let all: [&[&str]; 3] = [&["--json"], &rows, &["--at", "latest"]];
    let warm = answers(all);
    assert!(warm[2] == book.out, "the same book as by the hint");
    here.run(&["tier", "run", "--once", "--now", "2024-08-12"]).ok().says("moved to cold");
    assert!(here.path("slow's/cold/v1/binance-spot/ethusdt/2024-08-08/book.q.zst").is_file());
    assert!(warm == answers(all), "from cold as from warm");
    for (_, name) in Elsewhere::TIERS {
        verify(&here.path(name)).ok();
    }
    // Without the flags it is a root in which nothing is refined, and not a crash.
    about("book", &here.path("root"), "binance-spot", "ethusdt", &["--at", "latest"]).exits(2).says("nothing");
    assert!(!here.path("root/hot").exists() && !here.path("root/warm").exists() && !here.path("root/cold").exists());
}
