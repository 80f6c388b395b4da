//! Group `ipc`: 64 bytes from one process to another, as many as go through, and there and back.
//!
//! Both processes spin, each on its own processor. What needs a system call a message (a pipe, a socket) is measured
//! with one a message, because that is what a message costs there. Every message is checked on arrival.

use crate::{
    contest::{Contest, Line, Measure, Target},
    duel::{self, Check, each},
    machine::{self, MapMut},
    ping::{Other, names, until},
    spsc::{Message, message, number},
};
use chronicle_core::ring::spsc::{self, Consumer, Producer};
use chronicle_platform::{Open, Platform};
use chronicle_platform_linux::Linux;
use std::{
    cell::RefCell,
    hint::spin_loop,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};
use zerocopy::{FromBytes, IntoBytes};

/// Messages in one measurement of throughput.
const COUNT: u64 = 1 << 18;
/// Of those that take a system call for each.
const COUNT_CALLS: u64 = 1 << 15;
/// Trips of one measurement.
const TRIPS: usize = 20_000;
/// Bytes of a ring.
const CAPACITY: usize = 1 << 17;
const ROUNDS: usize = 5;

/// Two one-way lanes for messages.
trait Lanes {
    fn send(&mut self, message: &Message) -> Result<(), String>;
    /// Waits until there is one.
    fn receive(&mut self) -> Result<Message, String>;
}

/// Measures the group.
pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !duel::two_processors("ipc") {
        return Ok(());
    }
    let nth = RefCell::new(0);
    let measured = |how: &'static str, what: &'static str| -> Measure<'_> {
        let nth = &nth;
        Box::new(move || {
            *nth.borrow_mut() += 1;
            let dir = dir.join(format!("{how}-{}", nth.borrow()));
            std::fs::create_dir(&dir).map_err(|it| it.to_string())?;
            let figure = if what == STREAM { stream(how, &dir) } else { trip(how, &dir) };
            machine::unpin();
            let _ = std::fs::remove_dir_all(&dir);
            figure
        })
    };
    let contest = |case: &str, what, rivals: &[&'static str], floor, target| Contest {
        group: "ipc",
        case: case.to_owned(),
        unit: "ns",
        higher_is_better: false,
        ours: measured(RING, what),
        floor,
        rivals: rivals.iter().map(|name| (*name, measured(name, what))).collect(),
        target,
    };
    let (one_way, there_and_back) = ("64 B one way, all that goes through", "64 B there and back, p50");
    if cfg!(feature = "iceoryx2") {
        duel::run(contest(one_way, STREAM, &[ICEORYX], None, Target::Ratio(0.1)), ROUNDS, out)?;
        duel::run(contest(there_and_back, TRIP, &[ICEORYX], None, Target::Ratio(1.0)), ROUNDS, out)?;
    } else {
        eprintln!("ipc: built without iceoryx2, whose figures are the targets");
    }
    let calls = [PIPE, SOCKET];
    duel::run(contest("64 B one way, beside system calls", STREAM, &calls, None, Target::None), ROUNDS, out)?;
    duel::run(contest("64 B there and back, p50, beside system calls", TRIP, &calls, None, Target::None), ROUNDS, out)?;
    let bare: Measure<'_> = Box::new(duel::line_round_trip);
    let floor = Some(("bare line between threads", bare));
    duel::run(
        contest("64 B there and back, p50, against a bare line", TRIP, &[], floor, Target::Ratio(2.0)),
        ROUNDS,
        out,
    )
}

const STREAM: &str = "ipc-stream";
const TRIP: &str = "ipc-trip";
const RING: &str = "ring";
const ICEORYX: &str = "iceoryx2";
const PIPE: &str = "pipe";
const SOCKET: &str = "socket";

fn count(how: &str) -> u64 {
    if how == PIPE || how == SOCKET { COUNT_CALLS } else { COUNT }
}

fn other(what: &str, how: &str, dir: &Path) -> Result<Other, String> {
    let path = std::env::current_exe().map_err(|it| it.to_string())?;
    let mut command = Command::new(path);
    command.args(["child", what, how]).arg(dir).stdin(Stdio::null());
    command.spawn().map(Other).map_err(|it| format!("the other process did not start: {it}"))
}

/// The other process sends and we receive; nanoseconds a message.
fn stream(how: &str, dir: &Path) -> Result<f64, String> {
    let other = other(STREAM, how, dir)?;
    machine::pin(0);
    let mut lanes = open(how, dir, true)?;
    let (count, mut check) = (count(how), Check::new());
    // It begins when it hears from us, and its first messages warm the way.
    lanes.send(&message(0))?;
    for _ in 0..count / 8 {
        lanes.receive()?;
    }
    let began = Instant::now();
    for _ in 0..count {
        check.saw(number(&lanes.receive()?));
    }
    let took = began.elapsed();
    other.ended(how, dir)?;
    check.all(count)?;
    Ok(each(took, count))
}

/// Nanoseconds of the median trip.
fn trip(how: &str, dir: &Path) -> Result<f64, String> {
    let other = other(TRIP, how, dir)?;
    machine::pin(0);
    let tick = machine::tick_ns();
    let mut lanes = open(how, dir, true)?;
    let mut took = Vec::with_capacity(TRIPS);
    for n in 0..TRIPS as u64 {
        let began = machine::ticks();
        lanes.send(&message(n))?;
        let came = number(&lanes.receive()?);
        took.push(machine::ticks() - began);
        if came != n {
            return Err(format!("{how}: sent {n}, {came} came back"));
        }
    }
    other.ended(how, dir)?;
    took.sort_unstable();
    Ok(took[took.len() / 2] as f64 * tick)
}

/// The other process.
pub fn child(what: &str, how: &str, dir: &Path) -> Result<(), String> {
    // It was born on its parent's processor, and would take that one for all there are.
    machine::unpin();
    machine::pin(1);
    let mut lanes = open(how, dir, false)?;
    if what == STREAM {
        lanes.receive()?;
        let count = count(how);
        for n in (0..count / 8).chain(0..count) {
            lanes.send(&message(n))?;
        }
    } else {
        for _ in 0..TRIPS {
            let message = lanes.receive()?;
            lanes.send(&message)?;
        }
    }
    // Who receives may still be looking at what this process made.
    until(|| if dir.join("done").exists() || !dir.exists() { Ok(()) } else { Err("never told to end".to_owned()) })
}

fn open(how: &str, dir: &Path, first: bool) -> Result<Box<dyn Lanes>, String> {
    Ok(match how {
        RING => Box::new(Rings::open(dir, first)?),
        PIPE => Box::new(pipes(dir, first)?),
        SOCKET => Box::new(sockets(dir, first)?),
        #[cfg(feature = "iceoryx2")]
        ICEORYX => Box::new(iceoryx::Iceoryx::open(dir, first)?),
        _ => return Err(format!("{how}: no such lanes")),
    })
}

/// Two of our rings in files in memory.
struct Rings {
    send: Producer<MapMut>,
    receive: Consumer<MapMut>,
}

impl Rings {
    fn open(dir: &Path, first: bool) -> Result<Self, String> {
        let (mine, theirs) = names(first);
        let len = spsc::len(CAPACITY).ok_or("no ring has this capacity")?;
        let new = dir.join(format!("{mine}.new"));
        let map = machine::warm_file(&new, len)?;
        spsc::format(&map, &spsc::Spec { capacity: CAPACITY, ..spsc::Spec::default() }).map_err(|it| it.to_string())?;
        std::fs::rename(&new, dir.join(mine)).map_err(|it| it.to_string())?;
        let send = Producer::attach(map).map_err(|it| it.to_string())?;
        let map = until(|| {
            let open = || {
                let map = Linux.map_mut(&Linux.open(&dir.join(theirs), Open::Write)?, len)?;
                Linux.prefault_mut(&map)?;
                Ok(map)
            };
            open().map_err(|it: chronicle_platform::Trouble| it.to_string())
        })?;
        Ok(Rings { send, receive: Consumer::attach(map).map_err(|it| it.to_string())? })
    }
}

impl Lanes for Rings {
    fn send(&mut self, message: &Message) -> Result<(), String> {
        loop {
            match self.send.push(message.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(spsc::PushError::Full { .. }) => spin_loop(),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn receive(&mut self) -> Result<Message, String> {
        let mut message = [0; 8];
        loop {
            if self.receive.pop(message.as_mut_bytes()).map_err(|it| it.to_string())?.is_some() {
                return Ok(message);
            }
            spin_loop();
        }
    }
}

/// What is written to and read from by system calls.
struct Calls<S, R> {
    send: S,
    receive: R,
}

impl<S: Write, R: Read> Lanes for Calls<S, R> {
    fn send(&mut self, message: &Message) -> Result<(), String> {
        self.send.write_all(message.as_bytes()).map_err(|it| it.to_string())
    }

    fn receive(&mut self) -> Result<Message, String> {
        let mut bytes = [0; 64];
        self.receive.read_exact(&mut bytes).map_err(|it| it.to_string())?;
        Message::read_from_bytes(&bytes).map_err(|_| "not a message".to_owned())
    }
}

fn pipes(dir: &Path, first: bool) -> Result<Calls<std::fs::File, std::fs::File>, String> {
    use std::{ffi::CString, os::unix::ffi::OsStrExt as _};
    let (mine, theirs) = names(first);
    if first {
        for name in [mine, theirs] {
            let path = CString::new(dir.join(name).as_os_str().as_bytes()).map_err(|it| it.to_string())?;
            machine::make_fifo(&path)?;
        }
        std::fs::write(dir.join("ready"), []).map_err(|it| it.to_string())?;
    }
    until(|| if dir.join("ready").exists() { Ok(()) } else { Err("no pipes".to_owned()) })?;
    // For both: reading and writing at once, so that neither waits for the other to open.
    let open = |name| {
        let both = std::fs::OpenOptions::new().read(true).write(true).open(dir.join(name));
        both.map_err(|it| it.to_string())
    };
    Ok(Calls { send: open(mine)?, receive: open(theirs)? })
}

fn sockets(dir: &Path, first: bool) -> Result<Calls<UnixStream, UnixStream>, String> {
    let path = dir.join("socket");
    let stream = if first {
        let listener = UnixListener::bind(&path).map_err(|it| it.to_string())?;
        listener.accept().map_err(|it| it.to_string())?.0
    } else {
        until(|| UnixStream::connect(&path).map_err(|it| it.to_string()))?
    };
    Ok(Calls { send: stream.try_clone().map_err(|it| it.to_string())?, receive: stream })
}

#[cfg(feature = "iceoryx2")]
mod iceoryx {
    use super::{Lanes, Message, names, spin_loop, until};
    use iceoryx2::prelude::*;
    use std::path::Path;

    pub struct Iceoryx {
        send: iceoryx2::port::publisher::Publisher<ipc::Service, Message, ()>,
        receive: iceoryx2::port::subscriber::Subscriber<ipc::Service, Message, ()>,
        _node: Node<ipc::Service>,
    }

    impl Iceoryx {
        pub fn open(dir: &Path, first: bool) -> Result<Self, String> {
            set_log_level(LogLevel::Error);
            let node = NodeBuilder::new().create::<ipc::Service>().map_err(|it| it.to_string())?;
            let (mine, theirs) = names(first);
            let service = |lane: &str| {
                let name = dir.join(lane).display().to_string();
                let name = ServiceName::new(&name).map_err(|it| it.to_string())?;
                // Nothing may be lost: its publisher waits, as ours does.
                let builder = node.service_builder(&name).publish_subscribe::<Message>();
                let builder = builder.subscriber_max_buffer_size(1024).enable_safe_overflow(false);
                builder.open_or_create().map_err(|it| it.to_string())
            };
            let send = service(mine)?;
            let send = send.publisher_builder().create().map_err(|it| it.to_string())?;
            let receive = service(theirs)?;
            let receive = receive.subscriber_builder().buffer_size(1024).create().map_err(|it| it.to_string())?;
            // Both sides are there before the first sample: a service keeps none for those who come late.
            std::fs::write(dir.join(format!("{mine}.ready")), []).map_err(|it| it.to_string())?;
            let ready = dir.join(format!("{theirs}.ready"));
            until(|| if ready.exists() { Ok(()) } else { Err("the other process is not ready".to_owned()) })?;
            Ok(Iceoryx { send, receive, _node: node })
        }
    }

    impl Lanes for Iceoryx {
        fn send(&mut self, message: &Message) -> Result<(), String> {
            self.send.send_copy(*message).map(|_| ()).map_err(|it| it.to_string())
        }

        fn receive(&mut self) -> Result<Message, String> {
            loop {
                if let Some(sample) = self.receive.receive().map_err(|it| it.to_string())? {
                    return Ok(*sample);
                }
                spin_loop();
            }
        }
    }
}
