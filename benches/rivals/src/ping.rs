//! Group `ipc-queue`: 8 bytes to another process and 8 bytes back, both spinning.
//!
//! The floor is the bare round trip of a cache line between the same two processors, probed right before and right
//! after: virtual processors move between near and far places, and only rounds in which both probes agree count.

use crate::{
    contest::{Line, Target, line},
    machine::{self, MapMut},
};
use chronicle_core::{Append, Appender, Checksum, Reader, Spec, Step, format};
use chronicle_platform::{Open, Platform};
use chronicle_platform_linux::Linux;
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

const WARM: u64 = 2_000;
const TRIPS: u64 = 50_000;
/// A measurement ends after so long, however many trips there were: on a busy machine each may wait for its turn.
const LONGEST: Duration = Duration::from_secs(1);
/// Ends the other process.
const STOP: u64 = u64::MAX;
const SEGMENT: usize = 32 << 20;
/// A bare trip that takes longer, ns, was not between two processors that both had nothing else to do.
pub const BUSY_NS: f64 = 3_000.0;
/// Probes before and after may differ by so much; beyond it the processors moved.
pub const SAME_PLACE: f64 = 0.25;
const ROUNDS: usize = 7;

pub const BARE: &str = "bare";
const SEGMENT_PAIR: &str = "segments";
const QUEUE_PAIR: &str = "queues";

/// Two one-way lanes between this process and another.
trait Lanes {
    fn send(&mut self, number: u64) -> Result<(), String>;
    /// Spins until there is one.
    fn receive(&mut self) -> Result<u64, String>;
}

pub fn run(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !machine::pin(1) {
        eprintln!("ipc-queue: one processor alone: two processes cannot both spin, skipped");
        return Ok(());
    }
    machine::pin(0);
    let result = measure(dir, out);
    machine::unpin();
    result
}

fn measure(dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    let tick = machine::tick_ns();
    let mut nth = 0;
    let mut trip = |how: &str| {
        nth += 1;
        let dir = dir.join(format!("{how}-{nth}"));
        std::fs::create_dir(&dir).map_err(|it| it.to_string())?;
        let figures = round_trips(how, &dir, tick);
        let _ = std::fs::remove_dir_all(&dir);
        figures
    };
    let (mut before, mut ours, mut after, mut floor, mut tail) = (vec![], vec![], vec![], vec![], vec![]);
    let mut segments = Vec::new();
    let mut rivals: Vec<(&'static str, Vec<f64>)> = RIVALS.iter().map(|name| (*name, Vec::new())).collect();
    let mut moved = 0;
    while ours.len() < ROUNDS {
        let first = trip(BARE)?;
        let own = trip(QUEUE_PAIR)?;
        let second = trip(BARE)?;
        let busy = first.p50.max(second.p50) > BUSY_NS;
        if busy || (first.p50 - second.p50).abs() > SAME_PLACE * first.p50.min(second.p50) {
            moved += 1;
            if moved <= 2 * ROUNDS {
                continue;
            }
            if busy {
                let ns = first.p50.max(second.p50);
                return Err(format!("a bare trip took {ns:.0} ns: the processors are busy, measure when they are not"));
            }
        }
        before.push(first.p50);
        after.push(second.p50);
        floor.push(f64::midpoint(first.p50, second.p50));
        ours.push(own.p50);
        tail.push(own.p99);
        segments.push(trip(SEGMENT_PAIR)?.p50);
        for (name, figures) in &mut rivals {
            match trip(name) {
                Ok(figure) => figures.push(figure.p50),
                Err(reason) => eprintln!("ipc-queue: {name} could not be measured: {reason}"),
            }
        }
    }
    rivals.retain(|(_, figures)| figures.len() == ours.len());
    let (group, unit) = ("ipc-queue", "ns");
    let bare = "bare cache line, same processors";
    let case = "8 B there and back between processes, p50".to_owned();
    out(line(group, case, unit, false, &ours, Some((bare, &floor)), &rivals, Target::Ratio(2.0)));
    let orient =
        |case: &str, figures: &[f64]| line(group, case.to_owned(), unit, false, figures, None, &[], Target::None);
    out(orient("8 B there and back between processes, p99", &tail));
    out(orient("8 B there and back, bare segments without a queue, p50", &segments));
    out(orient("bare cache line there and back, probed before, p50", &before));
    out(orient("bare cache line there and back, probed after, p50", &after));
    if moved > 0 {
        let kept = moved.saturating_sub(2 * ROUNDS);
        eprintln!("ipc-queue: in {moved} rounds the processors moved or were busy; {kept} of them had to be kept");
    }
    Ok(())
}

pub struct Trips {
    pub p50: f64,
    pub p99: f64,
}

pub fn round_trips(how: &str, dir: &Path, tick: f64) -> Result<Trips, String> {
    let path = std::env::current_exe().map_err(|it| it.to_string())?;
    let mut other = Other(
        Command::new(path)
            .args(["child", "pong", how])
            .arg(dir)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|it| format!("the other process did not start: {it}"))?,
    );
    let mut lanes = open(how, dir, true)?;
    let mut trips = Vec::with_capacity(TRIPS as usize);
    let mut since = Instant::now();
    for number in 0..WARM + TRIPS {
        if number % 64 == 0 && since.elapsed() > LONGEST && number > 64 {
            break;
        }
        let began = machine::ticks();
        lanes.send(number)?;
        let back = lanes.receive()?;
        let took = machine::ticks() - began;
        if back != number {
            return Err(format!("{how}: sent {number}, {back} came back"));
        }
        if number == WARM {
            trips.clear();
            since = Instant::now();
        }
        trips.push(took);
    }
    lanes.send(STOP)?;
    let status = other.0.wait().map_err(|it| it.to_string())?;
    if !status.success() {
        return Err(format!("{how}: the other process ended with {status}"));
    }
    trips.sort_unstable();
    let at = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize] as f64 * tick;
    Ok(Trips { p50: at(0.5), p99: at(0.99) })
}

/// Killed if we leave early: it would spin for ever.
pub struct Other(pub Child);

impl Other {
    /// Tells it that nobody looks any more at what it made, and waits for its end.
    pub fn ended(mut self, how: &str, dir: &Path) -> Result<(), String> {
        std::fs::write(dir.join("done"), []).map_err(|it| it.to_string())?;
        let status = self.0.wait().map_err(|it| it.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{how}: the other process ended with {status}")) }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other process: sends back whatever comes.
pub fn pong(how: &str, dir: &Path) -> Result<(), String> {
    // It was born on its parent's processor, and would take that one for all there are.
    machine::unpin();
    machine::pin(1);
    let mut lanes = open(how, dir, false)?;
    loop {
        let number = lanes.receive()?;
        if number == STOP {
            return Ok(());
        }
        lanes.send(number)?;
    }
}

fn open(how: &str, dir: &Path, first: bool) -> Result<Box<dyn Lanes>, String> {
    Ok(match how {
        BARE => Box::new(Bare::open(dir, first)?),
        QUEUE_PAIR => Box::new(Queues::open(dir, first)?),
        SEGMENT_PAIR => Box::new(Pair::open(dir, first)?),
        "kekbit" => Box::new(Kekbit::open(dir, first)?),
        "ipmpsc" => Box::new(Ipmpsc::open(dir, first)?),
        #[cfg(feature = "iceoryx2")]
        "iceoryx2" => Box::new(iceoryx::Iceoryx::open(dir, first)?),
        _ => return Err(format!("{how}: no such lanes")),
    })
}

const RIVALS: &[&str] = &[
    "kekbit",
    "ipmpsc",
    #[cfg(feature = "iceoryx2")]
    "iceoryx2",
];

/// Tries until the other process has made what we open.
pub fn until<T>(mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(made) => return Ok(made),
            Err(reason) if began.elapsed() > Duration::from_secs(10) => return Err(reason),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Names of the lane that one writes and of the one that it reads.
pub fn names(first: bool) -> (&'static str, &'static str) {
    if first { ("there", "back") } else { ("back", "there") }
}

/// Two words in shared memory and nothing else.
struct Bare {
    map: MapMut,
    first: bool,
    last: u64,
}

impl Bare {
    fn open(dir: &Path, first: bool) -> Result<Self, String> {
        let path = dir.join("words");
        let map = if first {
            let map = machine::warm_file(&dir.join("new"), 4096)?;
            std::fs::rename(dir.join("new"), &path).map_err(|it| it.to_string())?;
            map
        } else {
            until(|| {
                let open = || Linux.map_mut(&Linux.open(&path, Open::Write)?, 4096);
                open().map_err(|it| it.to_string())
            })?
        };
        Ok(Bare { map, first, last: 0 })
    }
}

impl Lanes for Bare {
    fn send(&mut self, number: u64) -> Result<(), String> {
        let (there, back) = machine::words(&self.map);
        // 0 is what was never sent; the ends of the range wrap onto each other without harm.
        let word = number.wrapping_add(1).max(1);
        (if self.first { there } else { back }).store(if number == STOP { STOP } else { word }, Ordering::Release);
        Ok(())
    }

    fn receive(&mut self) -> Result<u64, String> {
        let (there, back) = machine::words(&self.map);
        let lane = if self.first { back } else { there };
        loop {
            let word = lane.load(Ordering::Acquire);
            if word != self.last {
                self.last = word;
                return Ok(if word == STOP { STOP } else { word - 1 });
            }
            std::hint::spin_loop();
        }
    }
}

/// Two of our queues, as anybody would open them.
struct Queues {
    send: chronicle_storage::queue::Publisher<Linux>,
    receive: chronicle_storage::queue::Subscriber<Linux>,
}

impl Queues {
    fn open(dir: &Path, first: bool) -> Result<Self, String> {
        use chronicle_storage::queue::{Profile, PublisherOptions};
        let (mine, theirs) = names(first);
        let options = PublisherOptions { checksum: Checksum::CommitWord, ..PublisherOptions::new(Profile::Clean) };
        let send = crate::queue::publisher(&dir.join(mine), options)?;
        let receive = until(|| crate::queue::subscriber(&dir.join(theirs)))?;
        Ok(Queues { send, receive })
    }
}

impl Lanes for Queues {
    fn send(&mut self, number: u64) -> Result<(), String> {
        let append = Append { time_ns: number, type_id: 1, flags: 0 };
        let wait = Duration::from_secs(1);
        self.send.append_wait(append, &number.to_le_bytes(), wait).map(|_| ()).map_err(|it| it.to_string())
    }

    fn receive(&mut self) -> Result<u64, String> {
        loop {
            if let Some(frame) = self.receive.next().map_err(|it| it.to_string())? {
                return frame.payload.u64_at(0).ok_or_else(|| "frame too short".to_owned());
            }
            std::hint::spin_loop();
        }
    }
}

/// Two of our segments.
struct Pair {
    send: Appender<MapMut>,
    receive: Reader<<Linux as Platform>::Map>,
}

impl Pair {
    fn open(dir: &Path, first: bool) -> Result<Self, String> {
        let (mine, theirs) = names(first);
        let new = dir.join(format!("{mine}.new"));
        let map = machine::warm_file(&new, SEGMENT)?;
        let spec = Spec { segment_len: SEGMENT as u32, checksum: Checksum::CommitWord, ..Spec::default() };
        format(&map, &spec).map_err(|it| it.to_string())?;
        let send = Appender::attach(map).map_err(|it| it.to_string())?;
        std::fs::rename(&new, dir.join(mine)).map_err(|it| it.to_string())?;
        let map = until(|| {
            let open = || {
                let map = Linux.map(&Linux.open(&dir.join(theirs), Open::Read)?, SEGMENT)?;
                Linux.prefault(&map)?;
                Ok(map)
            };
            open().map_err(|it: chronicle_platform::Trouble| it.to_string())
        })?;
        let receive = Reader::attach(map).map_err(|it| it.to_string())?;
        Ok(Pair { send, receive })
    }
}

impl Lanes for Pair {
    fn send(&mut self, number: u64) -> Result<(), String> {
        let append = Append { time_ns: number, type_id: 1, flags: 0 };
        self.send.append(append, &number.to_le_bytes()).map(|_| ()).map_err(|it| it.to_string())
    }

    fn receive(&mut self) -> Result<u64, String> {
        loop {
            if let Step::Frame(frame) = self.receive.step().map_err(|it| it.to_string())? {
                return frame.payload.u64_at(0).ok_or_else(|| "frame too short".to_owned());
            }
            std::hint::spin_loop();
        }
    }
}

struct Kekbit {
    send: kekbit::core::ShmWriter<kekbit::api::EncoderHandler>,
    receive: kekbit::core::ShmReader,
}

impl Kekbit {
    fn open(dir: &Path, first: bool) -> Result<Self, String> {
        use kekbit::{
            api::EncoderHandler,
            core::{Metadata, TickUnit, shm_reader, shm_writer},
        };
        let (mine, theirs) = if first { (1, 2) } else { (2, 1) };
        let metadata = Metadata::new(mine, mine, 32 << 20, 64, u64::MAX / 2, TickUnit::Nanos);
        let send = shm_writer(dir, &metadata, EncoderHandler::default()).map_err(|it| format!("{it:?}"))?;
        let receive = until(|| shm_reader(dir, theirs).map_err(|it| format!("{it:?}")))?;
        Ok(Kekbit { send, receive })
    }
}

impl Lanes for Kekbit {
    fn send(&mut self, number: u64) -> Result<(), String> {
        use kekbit::api::Writer;
        self.send.write(&number.to_le_bytes()).map(|_| ()).map_err(|it| format!("{it:?}"))
    }

    fn receive(&mut self) -> Result<u64, String> {
        use kekbit::api::Reader;
        loop {
            if let Some(bytes) = self.receive.try_read().map_err(|it| format!("{it:?}"))? {
                return bytes.try_into().map(u64::from_le_bytes).map_err(|_| "not 8 bytes".to_owned());
            }
            std::hint::spin_loop();
        }
    }
}

struct Ipmpsc {
    send: ipmpsc::Sender,
    receive: ipmpsc::Receiver,
}

impl Ipmpsc {
    fn open(dir: &Path, first: bool) -> Result<Self, String> {
        use ipmpsc::{Receiver, Sender, SharedRingBuffer};
        let (mine, theirs) = names(first);
        let path = |name: &str| dir.join(name).to_str().map(str::to_owned).ok_or("a path that is not UTF-8".to_owned());
        // Its receiver makes the buffer.
        let made = SharedRingBuffer::create(&path(&format!("{theirs}.new"))?, 1 << 20).map_err(|it| it.to_string())?;
        std::fs::rename(path(&format!("{theirs}.new"))?, path(theirs)?).map_err(|it| it.to_string())?;
        let mine = path(mine)?;
        let opened = until(|| {
            if Path::new(&mine).exists() {
                SharedRingBuffer::open(&mine).map_err(|it| it.to_string())
            } else {
                Err(format!("{mine}: not there"))
            }
        })?;
        Ok(Ipmpsc { send: Sender::new(opened), receive: Receiver::new(made) })
    }
}

impl Lanes for Ipmpsc {
    fn send(&mut self, number: u64) -> Result<(), String> {
        self.send.send(&number).map_err(|it| it.to_string())
    }

    fn receive(&mut self) -> Result<u64, String> {
        loop {
            if let Some(number) = self.receive.try_recv().map_err(|it| it.to_string())? {
                return Ok(number);
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(feature = "iceoryx2")]
mod iceoryx {
    use super::{Lanes, names, until};
    use iceoryx2::prelude::*;
    use std::path::Path;

    type Publisher = iceoryx2::port::publisher::Publisher<ipc::Service, u64, ()>;
    type Subscriber = iceoryx2::port::subscriber::Subscriber<ipc::Service, u64, ()>;

    pub struct Iceoryx {
        send: Publisher,
        receive: Subscriber,
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
                let builder = node.service_builder(&name).publish_subscribe::<u64>();
                builder.open_or_create().map_err(|it| it.to_string())
            };
            let send = service(mine)?;
            let send = send.publisher_builder().create().map_err(|it| it.to_string())?;
            let receive = service(theirs)?;
            let receive = receive.subscriber_builder().create().map_err(|it| it.to_string())?;
            // Both sides are there before the first sample: a service keeps none for those who come late.
            std::fs::write(dir.join(format!("{mine}.ready")), []).map_err(|it| it.to_string())?;
            let ready = dir.join(format!("{theirs}.ready"));
            until(|| if ready.exists() { Ok(()) } else { Err("the other process is not ready".to_owned()) })?;
            Ok(Iceoryx { send, receive, _node: node })
        }
    }

    impl Lanes for Iceoryx {
        fn send(&mut self, number: u64) -> Result<(), String> {
            self.send.send_copy(number).map(|_| ()).map_err(|it| it.to_string())
        }

        fn receive(&mut self) -> Result<u64, String> {
            loop {
                if let Some(sample) = self.receive.receive().map_err(|it| it.to_string())? {
                    return Ok(*sample);
                }
                std::hint::spin_loop();
            }
        }
    }
}
