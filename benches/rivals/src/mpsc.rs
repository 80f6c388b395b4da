//! Group `mpsc`: two producers fill a ring that nobody empties meanwhile.
//!
//! Two producers and a consumer on two processors would measure the scheduler. So each round fills a ring that has room
//! for everything, and the consumer checks afterwards, outside the measured time, that all of it came, each producer's
//! in order.

use crate::{
    contest::{Contest, Line, Measure, Target},
    duel::{self, each},
    machine,
    spsc::{Message, message},
};
use std::{path::Path, sync::Barrier, time::Instant};

/// Messages of each producer.
pub const COUNT: u64 = 1 << 16;
/// Messages of one batch.
pub const BATCH: u64 = 32;
const ROUNDS: usize = 9;
/// Marks the second producer's numbers.
pub const SECOND: u64 = 1 << 40;

/// Measures the group.
pub fn run(_dir: &Path, out: &mut dyn FnMut(Line)) -> Result<(), String> {
    if !duel::two_processors("mpsc") {
        return Ok(());
    }
    let contest = |case: &str, ours: Measure<'static>, rivals, target| Contest {
        group: "mpsc",
        case: case.to_owned(),
        unit: "ns",
        higher_is_better: false,
        ours,
        floor: None,
        rivals,
        target,
    };
    let target: Vec<(&'static str, Measure<'static>)> = vec![("crossbeam ArrayQueue", Box::new(array_queue))];
    let singles: Vec<(&'static str, Measure<'static>)> = vec![
        ("crossbeam ArrayQueue", Box::new(array_queue)),
        ("crossbeam channel", Box::new(crossbeam_channel)),
        ("std mpsc", Box::new(std_mpsc)),
        ("kanal", Box::new(kanal)),
    ];
    let batches: Vec<(&'static str, Measure<'static>)> = vec![("disruptor", Box::new(disruptor_batches))];
    let one = "64 B, two producers filling, one at a time";
    duel::run(contest(one, Box::new(|| ours::filling(1)), target, Target::Ratio(1.0)), ROUNDS, out)?;
    let all = "64 B, two producers filling, one at a time, beside all";
    duel::run(contest(all, Box::new(|| ours::filling(1)), singles, Target::None), ROUNDS, out)?;
    let many = "64 B, two producers filling, batches of 32";
    let many = contest(many, Box::new(|| ours::filling(BATCH)), batches, Target::Ratio(1.0));
    duel::run(many, ROUNDS, out)
}

/// Runs `first` here and `second` on the other processor; nanoseconds a message of both together.
pub fn filling(first: impl FnOnce() + Send, second: impl FnOnce() + Send) -> f64 {
    let start = Barrier::new(2);
    let took = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            machine::pin(1);
            start.wait();
            let began = Instant::now();
            second();
            (began, Instant::now())
        });
        machine::pin(0);
        start.wait();
        let began = Instant::now();
        first();
        let ended = Instant::now();
        let (other_began, other_ended) = other.join().expect("a producer does not panic");
        ended.max(other_ended) - began.min(other_began)
    });
    machine::unpin();
    each(took, 2 * COUNT)
}

/// Sees that both producers' numbers came, all of them and in order.
pub fn check(mut receive: impl FnMut() -> Option<Message>) -> Result<(), String> {
    let mut next = [0, SECOND];
    while let Some(message) = receive() {
        let number = message[0];
        let of = usize::from(number >= SECOND);
        if number != next[of] {
            return Err(format!("{} expected, {number} came", next[of]));
        }
        next[of] += 1;
    }
    if next == [COUNT, SECOND + COUNT] { Ok(()) } else { Err(format!("messages are missing behind {next:?}")) }
}

fn send_all(first: u64, mut send: impl FnMut(Message)) {
    (first..first + COUNT).for_each(|n| send(message(n)));
}

fn array_queue() -> Result<f64, String> {
    let queue = crossbeam::queue::ArrayQueue::<Message>::new(2 * COUNT as usize);
    let fill = |first| send_all(first, |it| assert!(queue.push(it).is_ok(), "there is room for all"));
    let took = filling(|| fill(0), || fill(SECOND));
    check(|| queue.pop())?;
    Ok(took)
}

fn crossbeam_channel() -> Result<f64, String> {
    let (send, receive) = crossbeam::channel::bounded::<Message>(2 * COUNT as usize);
    let fill = |first| send_all(first, |it| send.try_send(it).expect("there is room for all"));
    let took = filling(|| fill(0), || fill(SECOND));
    check(|| receive.try_recv().ok())?;
    Ok(took)
}

fn std_mpsc() -> Result<f64, String> {
    let (send, receive) = std::sync::mpsc::sync_channel::<Message>(2 * COUNT as usize);
    let other = send.clone();
    let took = filling(
        || send_all(0, |it| send.try_send(it).expect("there is room for all")),
        || send_all(SECOND, |it| other.try_send(it).expect("there is room for all")),
    );
    check(|| receive.try_recv().ok())?;
    Ok(took)
}

fn kanal() -> Result<f64, String> {
    let (send, receive) = kanal::bounded::<Message>(2 * COUNT as usize);
    let fill = |first| send_all(first, |it| assert!(matches!(send.try_send(it), Ok(true)), "there is room for all"));
    let took = filling(|| fill(0), || fill(SECOND));
    check(|| receive.try_recv().ok().flatten())?;
    Ok(took)
}

fn disruptor_batches() -> Result<f64, String> {
    use disruptor::{BusySpin, Polling, Producer as _, build_multi_producer};
    let size = 2 * COUNT as usize;
    let (mut poller, builder) = build_multi_producer(size, Message::default, BusySpin).new_event_poller();
    let mut one = builder.build();
    let mut two = one.clone();
    let fill = |send: &mut disruptor::MultiProducer<Message, _>, first: u64| {
        for batch in (first..first + COUNT).step_by(BATCH as usize) {
            send.batch_publish(BATCH as usize, |slots| {
                slots.zip(batch..).for_each(|(it, n)| *it = message(n));
            });
        }
    };
    let took = filling(|| fill(&mut one, 0), || fill(&mut two, SECOND));
    let mut came = Vec::with_capacity(size);
    while came.len() < size {
        match poller.poll() {
            Ok(mut events) => came.extend((&mut events).copied()),
            Err(Polling::NoEvents | Polling::Shutdown) => break,
        }
    }
    let mut came = came.into_iter();
    check(|| came.next())?;
    Ok(took)
}
/// Ours.
mod ours {
    use super::*;
    use chronicle_core::{
        HeapRegion,
        ring::mpsc::{self, Consumer, Producer, Spec},
    };
    use std::sync::Arc;
    use zerocopy::{FromBytes as _, IntoBytes as _};

    /// Bytes that the ring needs for all, padding at batches' ends included.
    const CAPACITY: usize = 1 << 24;

    pub fn filling(batch: u64) -> Result<f64, String> {
        let spec = Spec { capacity: CAPACITY, producers: 2, ..Spec::default() };
        let region = Arc::new(HeapRegion::new(mpsc::len(CAPACITY, 2).ok_or("no ring has this capacity")?));
        mpsc::format(&region, &spec).map_err(|it| it.to_string())?;
        let producer = || Producer::register(region.clone()).map_err(|it| it.to_string());
        let (mut one, mut two) = (producer()?, producer()?);
        let fill = |send: &mut Producer<Arc<HeapRegion>>, first: u64| {
            if batch == 1 {
                return send_all(first, |it| send.push(it.as_bytes()).expect("there is room for all"));
            }
            let each = mpsc::frame_len(size_of::<Message>()).expect("a frame can be so long");
            for start in (first..first + COUNT).step_by(batch as usize) {
                let mut span = send.claim_batch(each * batch as usize).expect("there is room for all");
                for n in start..start + batch {
                    span.push(message(n).as_bytes()).expect("the batch has room");
                }
                span.commit();
            }
        };
        let took = filling_warm(&region, || fill(&mut one, 0), || fill(&mut two, SECOND));
        let mut receive = Consumer::attach(region.clone()).map_err(|it| it.to_string())?;
        check(|| {
            let mut message = [0; 64];
            loop {
                if let Some(frame) = receive.step().expect("no damage") {
                    frame.payload.copy_to(&mut message);
                    return Message::read_from_bytes(&message).ok();
                }
                if !receive.is_ready() {
                    receive.release();
                    return None;
                }
            }
        })?;
        Ok(took)
    }

    /// Everybody else's ring was written when it was made; a region's pages are zero, and not there before they are
    /// touched.
    fn filling_warm(region: &HeapRegion, first: impl FnOnce() + Send, second: impl FnOnce() + Send) -> f64 {
        use chronicle_core::RegionMut as _;
        let window = region.window_mut();
        for page in (CAPACITY / 4096 / 2..CAPACITY / 4096).chain(0..CAPACITY / 4096) {
            let offset = page * 4096 + window.len() - CAPACITY;
            window.store(offset, 0);
        }
        super::filling(first, second)
    }
}
