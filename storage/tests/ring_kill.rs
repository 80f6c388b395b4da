//! Rings between real processes that are killed, stopped, and written to by a peer that means harm.
//!
//! The test binary runs itself again as a producer or a consumer. A supervisor kills one of them, again and again, at
//! random moments, and starts another in its place. Whatever was published must arrive, in order and once, but for what
//! was taken and not released: that comes again, with the same numbers. Nobody may wait for ever for the dead.
//!
//! `RING_KILL_ROUNDS` sets how many are killed in all; the seed is printed.
#![cfg(target_os = "linux")]

use chronicle_core::RegionMut;
use chronicle_platform::{Open, Platform};
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    Error,
    ring::{
        self, Blocked, Disconnect, EndOptions, Holder, ReceiveError, RingOptions, WaitPolicy, Waited, broadcast, mpsc,
        slots, spsc,
    },
};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const ROLE: &str = "RING_KILL_ROLE";
const DIR: &str = "RING_KILL_DIR";
const ID: &str = "RING_KILL_ID";
/// Longest that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const SLOTS: u32 = 5;

/// Where a consumer notes what it is about to release, and what it has released.
const INTENT: u64 = 0;
const DONE: u64 = 8;
/// Where it notes, for each producer of many, the last message: its number in the ring and among that producer's.
const TABLE: u64 = 64;

struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let seed = std::env::var("RING_KILL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::try_from(Linux.random() >> 65).unwrap() | 1);
        println!("RING_KILL_SEED={seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn rounds(share: u64) -> u64 {
    let all = std::env::var("RING_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(500);
    (all * share).div_ceil(100)
}

fn memory_or_disk() -> tempfile::TempDir {
    match Linux.memory_dir() {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

/// What the message of this number is, its number first.
fn payload(id: u64, n: u64) -> Vec<u8> {
    let mut bytes = [id.to_le_bytes(), n.to_le_bytes()].concat();
    let noise = |at| ((n ^ id << 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 56)) as u8;
    bytes.extend((0..n.wrapping_mul(31) % 90).map(noise));
    bytes
}

/// The number in a message, which must be all that it should be.
fn check(bytes: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (id, n) = (word(0), word(8));
    assert_eq!(bytes, payload(id, n), "message {n} of {id}");
    (id, n)
}

struct Notes(File);

impl Notes {
    fn open(dir: &Path) -> Notes {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("notes")).unwrap();
        Notes(file)
    }
    fn get(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        let read = self.0.read_at(&mut bytes, at).unwrap();
        if read < 8 { 0 } else { u64::from_le_bytes(bytes) }
    }
    fn set(&self, at: u64, value: u64) {
        self.0.write_all_at(&value.to_le_bytes(), at).unwrap();
    }
}

/// A child that does not outlive its test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs this very test binary with another job.
fn start(role: &str, dir: &Path, id: u64) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["a_child_does_its_job", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .env(ID, id.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    Killed(child)
}

/// As [`start`], and waits until it says `word`.
fn start_until(role: &str, dir: &Path, word: &str) -> (Killed, BufReader<ChildStdout>) {
    let mut child = start(role, dir, 0);
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the child ended before it said {word}");
    }
    (child, out)
}

fn signal(child: &Killed, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.0.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn kill(mut child: Killed) {
    child.0.kill().unwrap();
    let status = child.0.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "it ended by itself: {status}");
}

/// The end as soon as the one before is gone, whom nobody waited for.
fn opened<T>(open: impl Fn() -> Result<T, Error>) -> T {
    let begun = Instant::now();
    loop {
        match open() {
            Ok(end) => return end,
            Err(Error::Locked { .. } | Error::Options { .. }) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Not a test of its own: what a child does.
#[test]
fn a_child_does_its_job() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let path = dir.join("ring");
    let id: u64 = std::env::var(ID).unwrap().parse().unwrap();
    let mut random = Random(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let park = WaitPolicy::Park { spins: (random.below(3) * 100) as u32 };
    let options = EndOptions { wait: park, ..EndOptions::default() };
    match role.as_str() {
        "spsc producer" => {
            let mut producer = opened(|| spsc::Producer::open(&Linux, &path, options));
            loop {
                let seq = producer.next_seq();
                let bytes = payload(0, seq);
                match random.below(4) {
                    0 => _ = producer.push_with(bytes.len(), |claim| claim.put(&bytes)),
                    1 => {
                        _ = producer.stage(&bytes).and_then(|_| producer.stage(&payload(0, seq + 1)));
                        producer.publish();
                    }
                    _ => match producer.push_wait(&bytes, Duration::from_millis(random.below(50))) {
                        Ok(found) => assert_eq!(found, seq),
                        Err(ring::SendError::TimedOut | ring::SendError::Disconnected(_)) => {}
                        Err(error) => panic!("{error}"),
                    },
                }
            }
        }
        "spsc consumer" => {
            let mut consumer = opened(|| spsc::Consumer::open(&Linux, &path, options));
            let notes = Notes::open(&dir);
            let (done, intent) = (notes.get(DONE), notes.get(INTENT));
            let mut next = None;
            loop {
                match consumer.wait(Duration::from_millis(random.below(50))).unwrap() {
                    Waited::Ready => {}
                    Waited::TimedOut | Waited::Disconnected(_) => continue,
                }
                for _ in 0..=random.below(40) {
                    let Some(frame) = consumer.step().unwrap() else { break };
                    let mut bytes = vec![0; frame.payload.len()];
                    frame.payload.copy_to(&mut bytes);
                    assert_eq!(check(&bytes), (0, frame.seq));
                    match next {
                        Some(next) => assert_eq!(frame.seq, next, "in order"),
                        None => assert!((done + 1..=intent.max(done) + 1).contains(&frame.seq), "{done} {intent}"),
                    }
                    next = Some(frame.seq + 1);
                }
                if let Some(next) = next {
                    notes.set(INTENT, next - 1);
                    consumer.release();
                    notes.set(DONE, next - 1);
                }
            }
        }
        "slots producer" => {
            let mut producer = opened(|| slots::Producer::<[u64; 3], _>::open(&Linux, &path, options));
            loop {
                let seq = producer.next_seq();
                let values = [0, 1, 2, 3, 4].map(|more| [seq + more, !(seq + more), 7]);
                if random.below(2) == 0 {
                    producer.push_slice(&values).unwrap();
                } else {
                    _ = producer.push_wait(values[0], Duration::from_millis(20));
                }
            }
        }
        "slots consumer" => {
            let mut consumer = opened(|| slots::Consumer::<[u64; 3], _>::open(&Linux, &path, options));
            let notes = Notes::open(&dir);
            let (done, intent) = (notes.get(DONE), notes.get(INTENT));
            let mut next = None;
            loop {
                _ = consumer.wait(Duration::from_millis(20)).unwrap();
                while let Some([seq, not, seven]) = consumer.step().unwrap() {
                    assert_eq!((not, seven), (!seq, 7));
                    match next {
                        Some(next) => assert_eq!(seq, next, "in order"),
                        None => assert!((done + 1..=intent.max(done) + 1).contains(&seq), "{done} {intent} {seq}"),
                    }
                    next = Some(seq + 1);
                }
                if let Some(next) = next {
                    notes.set(INTENT, next - 1);
                    consumer.release();
                    notes.set(DONE, next - 1);
                }
            }
        }
        "mpsc producer" => {
            let mut producer = opened(|| mpsc::Producer::open(&Linux, &path, options));
            let mut n = 0;
            loop {
                let bytes = payload(id, n);
                let pushed = match random.below(8) {
                    0 => {
                        let (pause, half) = (random.below(300), bytes.len() / 2);
                        let pushed = producer.push_with(bytes.len(), |claim| {
                            claim.put(&bytes[..half]);
                            // Long enough to be killed in.
                            std::thread::sleep(Duration::from_micros(pause));
                            claim.put(&bytes[half..]);
                        });
                        u64::from(pushed.is_ok())
                    }
                    1 => {
                        let len = (0..3).map(|more| 8 + payload(id, n + more).len().next_multiple_of(8)).sum();
                        let pushed = producer.push_batch(len, |batch| {
                            (0..3).for_each(|more| batch.push(&payload(id, n + more)).unwrap());
                        });
                        3 * u64::from(pushed.is_ok())
                    }
                    _ => u64::from(producer.push_wait(&bytes, Duration::from_millis(20)).is_ok()),
                };
                n += pushed;
            }
        }
        "mpsc consumer" => {
            let mut consumer = opened(|| mpsc::Consumer::open(&Linux, &path, options));
            let notes = Notes::open(&dir);
            let (done, intent) = (notes.get(DONE), notes.get(INTENT));
            let mut next = None;
            // Of each producer: the next of its numbers, in this run.
            let mut from: HashMap<u64, u64> = HashMap::new();
            loop {
                match consumer.wait(Duration::from_millis(random.below(50))).unwrap() {
                    Waited::Ready => {}
                    Waited::TimedOut | Waited::Disconnected(_) => continue,
                }
                let mut seen: HashMap<u64, (u64, u64)> = HashMap::new();
                for _ in 0..=random.below(40) {
                    let Some(frame) = consumer.step().unwrap() else { break };
                    let mut bytes = vec![0; frame.payload.len()];
                    frame.payload.copy_to(&mut bytes);
                    let (id, n) = check(&bytes);
                    match next {
                        Some(next) => assert_eq!(frame.seq, next, "numbers in order"),
                        None => assert!((done + 1..=intent.max(done) + 1).contains(&frame.seq), "{done} {intent}"),
                    }
                    next = Some(frame.seq + 1);
                    let (last_seq, last_n) = (notes.get(TABLE + 16 * id), notes.get(TABLE + 16 * id + 8));
                    match from.get(&id) {
                        Some(expected) => assert_eq!(n, *expected, "of producer {id}"),
                        None if last_seq == 0 => assert_eq!(n, 0, "the first of producer {id}"),
                        None if frame.seq > last_seq => assert_eq!(n, last_n + 1, "of producer {id}"),
                        // Once more.
                        None => assert!(n <= last_n, "of producer {id}"),
                    }
                    if frame.seq == last_seq {
                        assert_eq!(n, last_n, "the same number, the same message");
                    }
                    from.insert(id, n + 1);
                    seen.insert(id, (frame.seq, n));
                }
                if let Some(next) = next {
                    for (id, (seq, n)) in seen {
                        // Both by one write: no kill comes between.
                        let both = [seq.to_le_bytes(), n.to_le_bytes()].concat();
                        notes.0.write_all_at(&both, TABLE + 16 * id).unwrap();
                    }
                    notes.set(INTENT, next - 1);
                    consumer.release();
                    notes.set(DONE, next - 1);
                }
            }
        }
        "claimer" => {
            let mut producer = mpsc::Producer::open(&Linux, &path, options).unwrap();
            producer
                .push_with(100, |_| {
                    println!("claimed");
                    std::thread::sleep(Duration::from_secs(600));
                })
                .unwrap();
        }
        "writer" => {
            let mut writer = opened(|| broadcast::Writer::open(&Linux, &path, options));
            loop {
                let seq = writer.next_seq();
                assert_eq!(writer.push(&payload(0, seq)), Ok(seq));
                if random.below(64) == 0 {
                    std::thread::sleep(Duration::from_micros(random.below(100)));
                }
            }
        }
        "scribbler" => {
            let file = Linux.open(&path, Open::Write).unwrap();
            let len = chronicle_platform::File::len(&file).unwrap() as usize & !3;
            let map = Linux.map_mut(&file, len).unwrap();
            let lines = [128, 256, 384, 512, 640].map(|line| line as u64);
            println!("ready");
            loop {
                let at = match random.below(3) {
                    0 => lines[random.below(5) as usize] + 4 * random.below(32),
                    _ => random.below(len as u64),
                };
                let word = if random.below(2) == 0 { random.below(1 << 12) } else { random.next() };
                map.window_mut().store((at as usize & !3).min(len - 4), word as u32);
            }
        }
        "cutter" => {
            let file = File::options().write(true).open(&path).unwrap();
            println!("ready");
            std::thread::sleep(Duration::from_millis(30));
            file.set_len(0).unwrap();
            println!("cut");
        }
        other => panic!("role {other}"),
    }
}

/// Kills one of the children at a time, `count` times, and starts another in its place.
fn supervise(dir: &Path, roles: &[&str], count: u64) {
    let mut random = Random::seeded();
    let notes = Notes::open(dir);
    let mut born = 0;
    let mut children: Vec<Killed> = roles
        .iter()
        .map(|role| {
            born += 1;
            start(role, dir, born)
        })
        .collect();
    let begun = Instant::now();
    for round in 0..count {
        // Now and then all of them must have come to work; else any moment will do, of starting and attaching too.
        if round.is_multiple_of(4) {
            let (done, patience) = (notes.get(DONE), Instant::now() + PATIENCE);
            while notes.get(DONE) <= done + 100 {
                for child in &mut children {
                    assert!(child.0.try_wait().unwrap().is_none(), "round {round}: a child ended by itself");
                }
                assert!(Instant::now() < patience, "round {round}: nothing goes through any more, at {done}");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        let victim = random.below(children.len() as u64) as usize;
        born += 1;
        // The next one comes while this one dies.
        let next = start(roles[victim], dir, born);
        kill(std::mem::replace(&mut children[victim], next));
    }
    println!("{count} kills in {:.1?}, {} messages", begun.elapsed(), notes.get(DONE));
    children.into_iter().for_each(kill);
}

#[test]
fn s_18_either_end_killed_at_any_moment_loses_and_repeats_nothing() {
    let dir = memory_or_disk();
    ring::create(&Linux, &dir.path().join("ring"), &RingOptions::spsc(2048)).unwrap();
    supervise(dir.path(), &["spsc producer", "spsc consumer"], rounds(40));
}

#[test]
fn s_18_the_same_for_values_of_one_type() {
    let dir = memory_or_disk();
    ring::create_slots::<[u64; 3], _>(&Linux, &dir.path().join("ring"), 64).unwrap();
    supervise(dir.path(), &["slots producer", "slots consumer"], rounds(15));
}

#[test]
fn s_5_one_of_many_killed_at_any_moment_stops_nobody() {
    let dir = memory_or_disk();
    ring::create(&Linux, &dir.path().join("ring"), &RingOptions::mpsc(4096, SLOTS)).unwrap();
    let roles = ["mpsc producer", "mpsc producer", "mpsc producer", "mpsc consumer"];
    supervise(dir.path(), &roles, rounds(35));
}

#[test]
fn s_9_a_broadcast_writer_killed_at_any_moment_is_followed_without_a_gap() {
    let dir = memory_or_disk();
    let path = dir.path().join("ring");
    ring::create(&Linux, &path, &RingOptions::broadcast(4096)).unwrap();
    let mut random = Random::seeded();
    let mut reader = broadcast::Reader::open(&Linux, &path, broadcast::Start::Oldest, EndOptions::default()).unwrap();
    let mut buffer = [0; 1024];
    let (mut next, mut lost) = (1, 0);
    let mut child = start("writer", dir.path(), 1);
    for round in 0..rounds(10) {
        let end = Instant::now() + Duration::from_micros(random.below(20_000));
        let mut received = 0;
        while Instant::now() < end || (received == 0 && round.is_multiple_of(4)) {
            match reader.receive_wait(&mut buffer, Duration::from_millis(random.below(5))) {
                Ok(broadcast::Received::Message { seq, len }) => {
                    assert_eq!((seq, check(&buffer[..len])), (next, (0, next)));
                    next += 1;
                    received += 1;
                }
                Ok(broadcast::Received::Lapped { lost: more, resume_seq }) => {
                    assert_eq!(next + more, resume_seq);
                    (next, lost) = (resume_seq, lost + more);
                }
                Ok(other) => panic!("{other:?}"),
                Err(ReceiveError::TimedOut | ReceiveError::Disconnected(_)) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
            assert!(end.elapsed() < PATIENCE, "round {round}: nothing comes any more");
        }
        let follower = start("writer", dir.path(), round + 2);
        kill(std::mem::replace(&mut child, follower));
    }
    println!("{next} messages, {lost} of them lost and told");
    kill(child);
}

/// A stopped producer is not dead: it is waited for, and everybody can see for whom.
#[test]
fn s_2_a_stopped_producer_of_many_is_waited_for_and_a_killed_one_is_not() {
    let dir = memory_or_disk();
    let path = dir.path().join("ring");
    ring::create(&Linux, &path, &RingOptions::mpsc(4096, SLOTS)).unwrap();
    let mut consumer = mpsc::Consumer::open(&Linux, &path, EndOptions::default()).unwrap();
    let (child, _out) = start_until("claimer", dir.path(), "claimed");
    let mut living = mpsc::Producer::open(&Linux, &path, EndOptions::default()).unwrap();
    living.push(b"behind").unwrap();
    signal(&child, "STOP");
    let error = consumer.step_wait(Duration::from_millis(400), |_| ()).unwrap_err();
    assert!(matches!(error, ReceiveError::TimedOut), "{error}");
    let status = ring::status(&Linux, &path).unwrap();
    assert_eq!(status.blocked, Some(Blocked::Producer { slot: 0 }));
    let held = status.ends.iter().find(|end| end.name == "producer 0").unwrap();
    assert_eq!(held.holder, Holder::Alive);
    assert!(held.text.starts_with(&format!("pid {}\n", child.0.id())), "{}", held.text);
    kill(child);
    let begun = Instant::now();
    consumer.step_wait(PATIENCE, |frame| assert_eq!((frame.seq, frame.payload.len()), (1, 6))).unwrap();
    println!("{:.1?} after the kill", begun.elapsed());
    assert_eq!(consumer.reaped().claims, 1);
    assert_eq!(ring::status(&Linux, &path).unwrap().blocked, None);
}

/// Words of nonsense in every place, all the time: damage, wrong messages, and nothing worse; and every wait ends.
#[test]
fn a_peer_that_writes_nonsense_ends_nobody() {
    let dir = memory_or_disk();
    let path = dir.path().join("ring");
    let short = Duration::from_millis(3);
    for kind in 0..4 {
        _ = std::fs::remove_file(&path);
        match kind {
            0 => ring::create(&Linux, &path, &RingOptions::spsc(4096)).unwrap(),
            1 => ring::create_slots::<[u64; 3], _>(&Linux, &path, 64).unwrap(),
            2 => ring::create(&Linux, &path, &RingOptions::mpsc(4096, SLOTS)).unwrap(),
            _ => ring::create(&Linux, &path, &RingOptions::broadcast(4096)).unwrap(),
        }
        let whole = std::fs::read(&path).unwrap();
        let (child, _out) = start_until("scribbler", dir.path(), "ready");
        let end = Instant::now() + Duration::from_millis(700);
        let (mut good, mut bad, mut opened) = (0u64, 0u64, 0u64);
        let mut buffer = [0; 4096];
        let options = EndOptions::default();
        // On a busy machine it may take a while until both processes run at once.
        // Of values, all are as good as each other; only positions can be impossible.
        let seldom = kind % 2 == 1;
        while Instant::now() < end || (bad == 0 && !seldom && end.elapsed() < PATIENCE / 2) {
            // A header that can be read, for a moment; what the ends find in the rest is nonsense all the same.
            File::options().write(true).open(&path).unwrap().write_all_at(&whole, 0).unwrap();
            let mut count = |result: bool| if result { good += 1 } else { bad += 1 };
            let run = |times: u32, mut each: Box<dyn FnMut() + '_>| (0..times).for_each(|_| each());
            match kind {
                0 => {
                    let Ok(mut producer) = spsc::Producer::open(&Linux, &path, options) else { continue };
                    let Ok(mut consumer) = spsc::Consumer::open(&Linux, &path, options) else { continue };
                    run(
                        200,
                        Box::new(|| {
                            count(producer.push(&[1; 50]).is_ok());
                            count(producer.push_wait(&[1; 500], short).is_ok());
                            count(consumer.pop(&mut buffer).is_ok());
                            count(
                                consumer.step_wait(short, |frame| frame.payload.copy_to(&mut [0; 4096]).len()).is_ok(),
                            );
                            consumer.release();
                        }),
                    );
                }
                1 => {
                    let Ok(mut producer) = slots::Producer::<[u64; 3], _>::open(&Linux, &path, options) else {
                        continue;
                    };
                    let Ok(mut consumer) = slots::Consumer::<[u64; 3], _>::open(&Linux, &path, options) else {
                        continue;
                    };
                    run(
                        200,
                        Box::new(|| {
                            count(producer.push_wait([1; 3], short).is_ok());
                            count(consumer.pop_wait(short).is_ok());
                        }),
                    );
                }
                2 => {
                    let Ok(mut consumer) = mpsc::Consumer::open(&Linux, &path, options) else { continue };
                    let Ok(mut producer) = mpsc::Producer::open(&Linux, &path, options) else { continue };
                    run(
                        200,
                        Box::new(|| {
                            count(producer.push_wait(&[1; 50], short).is_ok());
                            count(
                                consumer.step_wait(short, |frame| frame.payload.copy_to(&mut [0; 4096]).len()).is_ok(),
                            );
                            consumer.release();
                            count(consumer.reap().is_ok());
                            _ = ring::status(&Linux, &path);
                        }),
                    );
                }
                _ => {
                    let Ok(mut writer) = broadcast::Writer::open(&Linux, &path, options) else { continue };
                    let Ok(mut reader) = broadcast::Reader::open(&Linux, &path, broadcast::Start::Oldest, options)
                    else {
                        continue;
                    };
                    run(
                        200,
                        Box::new(|| {
                            count(writer.push(&[1; 50]).is_ok());
                            count(reader.receive_wait(&mut buffer, short).is_ok());
                        }),
                    );
                }
            }
            opened += 1;
        }
        println!("kind {kind}: {opened} times opened, {good} operations went through, {bad} did not");
        assert!(end.elapsed() < PATIENCE && opened > 0 && good > 0 && (seldom || bad > 0), "{opened} {good} {bad}");
        kill(child);
    }
}

/// A peer that cuts the file takes the pages away while both ends are at work; guarded ends live on and say so.
#[test]
fn s_12_a_peer_that_cuts_the_file_does_not_end_a_guarded_end() {
    let options = EndOptions { guard: true, ..EndOptions::default() };
    for kind in 0..3 {
        let dir = memory_or_disk();
        let path = dir.path().join("ring");
        let made = match kind {
            0 => RingOptions::spsc(1 << 16),
            1 => RingOptions::mpsc(1 << 16, SLOTS),
            _ => RingOptions::broadcast(1 << 16),
        };
        ring::create(&Linux, &path, &made).unwrap();
        let short = Duration::from_millis(10);
        let patience = Instant::now() + PATIENCE;
        let (mut buffer, mut before) = ([0; 256], 0u64);
        // From here on it has 30 ms.
        macro_rules! until_cut {
            ($one:expr, $other:expr, $work:expr) => {{
                let (mut child, _out) = start_until("cutter", dir.path(), "ready");
                while !$one.is_damaged() || !$other.is_damaged() {
                    before += u64::from($work);
                    assert!(Instant::now() < patience, "kind {kind}: nobody notices");
                }
                assert!(child.0.wait().unwrap().success());
            }};
        }
        let error = match kind {
            0 => {
                let mut producer = spsc::Producer::open(&Linux, &path, options).unwrap();
                let mut consumer = spsc::Consumer::open(&Linux, &path, options).unwrap();
                until_cut!(producer, consumer, producer.push(&[3; 100]).is_ok() && consumer.pop(&mut buffer).is_ok());
                loop {
                    if let Err(error) = consumer.wait(short) {
                        break error;
                    }
                    assert!(consumer.pop(&mut buffer).is_err());
                }
            }
            1 => {
                let mut consumer = mpsc::Consumer::open(&Linux, &path, options).unwrap();
                let mut producer = mpsc::Producer::open(&Linux, &path, options).unwrap();
                until_cut!(producer, consumer, {
                    let pushed = producer.push(&[3; 100]).is_ok();
                    let taken = consumer.step().is_ok_and(|frame| frame.is_some());
                    consumer.release();
                    pushed && taken
                });
                loop {
                    if let Err(error) = consumer.wait(short) {
                        break error;
                    }
                    _ = consumer.step();
                }
            }
            _ => {
                let mut writer = broadcast::Writer::open(&Linux, &path, options).unwrap();
                let mut reader = broadcast::Reader::open(&Linux, &path, broadcast::Start::Oldest, options).unwrap();
                until_cut!(writer, reader, {
                    writer.push(&[3; 100]).unwrap();
                    reader.receive(&mut buffer).is_ok()
                });
                loop {
                    if let Err(error) = reader.wait(short) {
                        break error;
                    }
                    assert!(reader.receive(&mut buffer).is_err());
                }
            }
        };
        assert!(before > 100, "kind {kind}: {before} went through before");
        assert!(error.to_string().contains("needed"), "kind {kind}: {error}");
        assert!(matches!(spsc::Consumer::open(&Linux, &path, options), Err(Error::Damage { .. })));
    }
}

/// What a program starts has nothing of its rings, and modes keep others away from the locks.
#[test]
fn s_17_a_child_process_holds_nothing_of_its_parents_ring() {
    use std::os::unix::fs::PermissionsExt;
    let dir = memory_or_disk();
    let path = dir.path().join("ring");
    ring::create(&Linux, &path, &RingOptions::spsc(4096)).unwrap();
    let producer = spsc::Producer::open(&Linux, &path, EndOptions::default()).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    assert!(maps.contains("sleep") && !maps.contains(path.to_str().unwrap()), "{maps}");
    drop(producer);
    spsc::Producer::open(&Linux, &path, EndOptions::default()).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it lived all the time");
    child.kill().unwrap();
    child.wait().unwrap();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ring"), mode("ring.producer.lock"), mode("ring.create.lock")), (0o640, 0o600, 0o600));
}

/// A consumer of many that waits finds out that all are gone, and how.
#[test]
fn s_19_a_waiting_consumer_of_many_learns_of_a_death() {
    let dir = memory_or_disk();
    let path = dir.path().join("ring");
    ring::create(&Linux, &path, &RingOptions::mpsc(4096, SLOTS)).unwrap();
    let mut consumer = mpsc::Consumer::open(&Linux, &path, EndOptions::default()).unwrap();
    let (child, _out) = start_until("claimer", dir.path(), "claimed");
    assert_eq!(consumer.wait(Duration::from_millis(300)).unwrap(), Waited::TimedOut);
    let begun = Instant::now();
    kill(child);
    // What the dead one claimed is passed over first.
    let error = consumer.step_wait(PATIENCE, |_| ()).unwrap_err();
    assert!(matches!(error, ReceiveError::Disconnected(Disconnect::Died)), "{error}");
    println!("{:.1?} after the kill", begun.elapsed());
    assert!(begun.elapsed() < PATIENCE / 4);
}
