//! `chronicle top` on a real terminal, and beside a real writer that must not notice it.

mod support;

use chronicle::{
    Append, System,
    platform::Platform,
    storage::queue::{Profile, PublisherOptions, Queue, SubscriberOptions},
};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use support::*;

/// A queue that somebody writes to and somebody reads, until it is dropped.
struct Market {
    _dir: tempfile::TempDir,
    root: PathBuf,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn market() -> Market {
    let dir = scratch();
    let root = dir.path().join("root");
    let queue = root.join("hot/streams/raw/kraken/queue");
    let over = Arc::new(AtomicBool::new(false));
    let options = PublisherOptions { segment_len: 64 << 10, max_bytes: 1 << 20, ..PublisherOptions::new(Profile::Raw) };
    let mut writer = Queue::publisher(&System, &queue, options).expect("a writer");
    let mut reader = Queue::subscriber(&System, &queue, "alpha", SubscriberOptions::default()).expect("a reader");
    let (stop, stop_too) = (over.clone(), over.clone());
    let threads = vec![
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                _ = writer.append(Append { time_ns: System.now_ns(), type_id: 900, flags: 0 }, &[7; 100]);
                std::thread::sleep(Duration::from_micros(200));
            }
            writer.close().expect("it closes");
        }),
        std::thread::spawn(move || {
            while !stop_too.load(Ordering::Relaxed) {
                while reader.next().expect("frames").is_some() {}
                reader.commit().expect("a cursor");
                std::thread::sleep(Duration::from_millis(1));
            }
        }),
    ];
    Market { _dir: dir, root, over, threads }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

fn at_least_1(n: u16) -> std::num::NonZeroU16 {
    std::num::NonZeroU16::new(n).expect("more than none")
}

/// A terminal, what is on its screen, and the command that runs in it.
struct Screen {
    master: File,
    slave: OwnedFd,
    shown: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

const SIZE: Winsize = Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };

fn on_a_terminal(arguments: &[&str], root: &Path) -> Option<Screen> {
    if !has_program("setsid", "--version") {
        return None;
    }
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it may be opened");
    let name = ptsname(&master, Vec::new()).expect("its name");
    let slave = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
    tcsetwinsize(&slave, SIZE).expect("a size");
    let end = || Stdio::from(slave.try_clone().expect("a copy"));
    // A shell leads the session: were it the command itself, its end would hang the terminal up and reset its modes.
    let script = "\"$C\" top \"$ROOT\" \"$@\"; echo \"ended $?\"; stty -a; read -r line";
    let child = Command::new("setsid")
        .args(["--ctty", "sh", "-c", script, "sh"])
        .args(arguments)
        .env("C", BINARY)
        .env("ROOT", root)
        .env("TERM", "xterm-256color")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("it starts");
    let shown = Arc::new(Mutex::new(vt100::Parser::new(at_least_1(SIZE.ws_row), at_least_1(SIZE.ws_col), 0)));
    let master = File::from(master);
    let (mut reading, parser) = (master.try_clone().expect("a copy"), shown.clone());
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = reading.read(&mut bytes) {
            parser.lock().expect("no panic").process(&bytes[..read]);
        }
    });
    Some(Screen { master, slave, shown, child })
}

impl Screen {
    fn text(&self) -> String {
        self.shown.lock().expect("no panic").screen().contents()
    }

    #[track_caller]
    fn shows(&self, what: impl Fn(&str) -> bool, name: &str) -> String {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            let text = self.text();
            if what(&text) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{name}: not within 30 s; the screen is\n{}", self.text());
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("keys");
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.shown.lock().expect("no panic").screen_mut().set_size(at_least_1(rows), at_least_1(columns));
        tcsetwinsize(&self.slave, Winsize { ws_row: rows, ws_col: columns, ..SIZE }).expect("a size");
    }

    /// The process of the command.
    fn pid(&self) -> u32 {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("this shell's children");
        let mut pids = children.split_whitespace().map(|pid| pid.parse().expect("a process"));
        pids.next().expect("the command runs")
    }

    /// It ends with this code, and the terminal is as it was.
    #[track_caller]
    fn ends(&mut self, code: i32) {
        let modes = self.shows(|text| text.contains("ended ") && text.contains("icanon"), "an end");
        assert!(modes.contains(&format!("ended {code}\n")), "{modes}");
        assert!(!modes.contains("-icanon") && !modes.contains("-echo "), "the terminal is raw:\n{modes}");
        let parser = self.shown.lock().expect("no panic");
        assert!(!parser.screen().alternate_screen(), "the other screen is shown");
        assert!(!parser.screen().hide_cursor(), "the cursor is hidden");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn it_shows_sorts_filters_resizes_and_quits() {
    let market = market();
    let Some(mut screen) = on_a_terminal(&["--interval", "0.2"], &market.root) else { return };
    let text = screen.shows(|text| text.contains("raw/kraken") && text.contains("alpha"), "the queue and its reader");
    assert!(text.contains("WAKES/S") && text.contains("q quit"), "{text}");
    screen.shows(|text| text.contains("seen here: now"), "a latency");
    assert!(tcgetattr(&screen.slave).is_ok_and(|modes| !modes.local_modes.contains(LocalModes::ECHO)), "it is raw");
    assert!(screen.shown.lock().expect("no panic").screen().alternate_screen());

    screen.resize(12, 50);
    screen.shows(|text| text.contains("raw/kraken") && !text.contains("WAKES/S"), "fewer columns");
    screen.resize(40, 150);
    screen.shows(|text| text.contains("WAKES/S") && text.contains("READER"), "all columns");

    screen.types("s");
    screen.shows(|text| text.contains("s by frames/s"), "sorted by rate");
    screen.types("/no-such\r");
    screen.shows(|text| text.contains("no queue has \"no-such\""), "the filter");
    screen.types("/\x1b");
    std::thread::sleep(Duration::from_millis(300));
    screen.shows(|text| text.contains("raw/kraken"), "all queues");
    screen.types("?");
    screen.shows(|text| text.contains("what it says"), "the help");
    screen.types("x");
    screen.types("q");
    screen.ends(0);
}

#[test]
fn signals_give_the_terminal_back() {
    let market = market();
    for signal in ["-TERM", "-HUP", "-INT"] {
        let Some(mut screen) = on_a_terminal(&["--interval", "0.2"], &market.root) else { return };
        screen.shows(|text| text.contains("raw/kraken"), "the queue");
        let status = Command::new("kill").args([signal, &screen.pid().to_string()]).status().expect("kill starts");
        assert!(status.success());
        screen.ends(0);
    }
    // Ctrl-C is a key there.
    let Some(mut screen) = on_a_terminal(&[], &market.root) else { return };
    screen.shows(|text| text.contains("raw/kraken"), "the queue");
    screen.types("\x03");
    screen.ends(0);
}

/// More queues than a tick can take in: keys and signals are heard all the same.
#[test]
fn fifteen_hundred_queues() {
    let dir = scratch();
    let root = dir.path().join("root");
    let first = root.join("hot/orders/queue/s0000/orders_out");
    let options = PublisherOptions { segment_len: 512, max_bytes: 2048, ..PublisherOptions::new(Profile::Orders) };
    Queue::publisher(&System, &first, options).expect("a writer").close().expect("it closes");
    for at in 1..1500 {
        let copy = root.join(format!("hot/orders/queue/s{at:04}/orders_out"));
        fs::create_dir_all(copy.join("index")).expect("a directory");
        for name in ["control.meta", "alive.lock", "00000000000000000001.q"] {
            fs::copy(first.join(name), copy.join(name)).expect("a copy");
        }
    }
    let Some(mut screen) = on_a_terminal(&["--interval", "0.05"], &root) else { return };
    screen.shows(|text| text.contains("1500 queues"), "all queues");
    let began = Instant::now();
    screen.types("G");
    screen.shows(|text| text.contains("▶ orders/s1499/orders_out"), "the last one");
    screen.types("q");
    screen.ends(0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn without_a_terminal() {
    let market = market();
    let root = market.root.to_str().expect("text");
    chronicle(["top", root]).exits(2).says("--once or --json");
    let table = chronicle(["top", root, "--once", "--interval", "0.3"]).ok();
    let text = table.text();
    assert!(text.contains("raw/kraken  alive") && text.contains("alpha"), "{text}");
    chronicle(["top", "/nowhere/at/all", "--once"]).exits(2).says("/nowhere/at/all");
    chronicle(["top", root, "--interval", "0", "--once"]).exits(2).says("--interval");

    let ran = chronicle(["top", root, "--json", "--ticks", "5", "--interval", "0.4"]).ok();
    let ticks: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(ticks.len(), 5);
    assert_eq!(ticks[0]["queues"][0]["frames_per_s"], Value::Null, "one look has no rate");
    let last = &ticks[4]["queues"][0];
    assert!(last["frames_per_s"].as_f64().is_some_and(|rate| rate > 50.0), "{last}");
    assert!(last["bytes_per_s"].as_f64().is_some_and(|rate| rate > 5000.0), "{last}");
    assert_eq!((&last["writer"], &last["readers"][0]["name"]), (&"alive".into(), &"alpha".into()));
    let latency = ticks.iter().find_map(|tick| tick["queues"][0]["latency"]["ns"].as_u64());
    // From a stamp of this machine to a look on this machine: something, and less than the interval.
    assert!(latency.is_some_and(|ns| ns > 0 && ns < 400_000_000), "{latency:?}");
}

/// Names in a queue that a reader could have left, and the wake word.
fn traces(queue: &Path) -> (Vec<String>, [u8; 4]) {
    let mut names = Vec::new();
    for dir in [queue.to_owned(), queue.join("readers")] {
        names.extend(
            fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().into_string().expect("text")),
        );
    }
    // The writer's own: segments, those that it makes and those that it takes away.
    names.retain(|name| ![".q", ".fresh", ".retired"].iter().any(|of_segments| name.ends_with(of_segments)));
    names.sort();
    let word = fs::read(queue.join("wake.meta")).expect("the wake word");
    (names, word[..4].try_into().expect("four bytes"))
}

#[test]
fn nobody_notices_it() {
    let dir = scratch();
    let path = dir.path().join("root/hot/streams/raw/kraken/queue");
    let options = PublisherOptions { segment_len: 64 << 10, max_bytes: 1 << 20, ..PublisherOptions::new(Profile::Raw) };
    let mut writer = Queue::publisher(&System, &path, options).expect("a writer");
    let append = |writer: &mut chronicle::storage::queue::Publisher<System>| {
        let append = Append { time_ns: System.now_ns(), type_id: 900, flags: 0 };
        writer.append_wait(append, &[7; 100], Duration::from_secs(5)).expect("there is room");
    };
    append(&mut writer);
    let before = traces(&path);
    let mut child = Command::new(BINARY)
        .args(["top", "--json", "--interval", "0.05"])
        .arg(dir.path().join("root"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let began = Instant::now();
    while writer.counters().rolls < 60 && began.elapsed() < Duration::from_secs(30) {
        for _ in 0..20 {
            append(&mut writer);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.try_wait().expect("it is asked").is_none(), "it looked all the time");
    child.kill().expect("it dies");
    child.wait().expect("it is dead");
    assert_eq!(traces(&path), before, "a file came, or the wake word was marked");
    // The budget is sixteen segments; from then on files are used again, unless somebody has them locked.
    let counters = writer.counters();
    assert!(counters.rolls >= 60 && counters.recycled >= (counters.rolls - 16) * 3 / 4, "{counters:?}");
    assert!(writer.last_trouble().is_none(), "{:?}", writer.last_trouble());
}
