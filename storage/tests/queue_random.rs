//! Random lives of a queue against a plain vector: whatever is done in whatever order, readers see what was appended.
//!
//! The seed is printed; `QUEUE_SEED` repeats a run, `QUEUE_STEPS` makes it longer.

use chronicle_core::Append;
use chronicle_platform::sim::Sim;
use chronicle_storage::queue::{
    Profile, Publisher, PublisherOptions, Queue, ReadError, Refused, Start, Subscriber, SubscriberOptions, verify,
};
use std::{path::Path, time::Duration};

const DIR: &str = "/q";

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn options(random: &mut Random) -> PublisherOptions {
    PublisherOptions {
        segment_len: 512 * (1 + random.below(5) as u32),
        max_bytes: 16 << 10,
        segments_ahead: 1 + random.below(3) as u32,
        prepare_late: random.below(2) == 0,
        helper: false,
        reader_ttl: Duration::from_secs(1),
        ..PublisherOptions::new(Profile::Raw)
    }
}

/// A reader and the seq that it must get next.
struct Follower {
    name: Option<String>,
    reader: Subscriber<Sim>,
    next: u64,
    committed: u64,
}

/// What the stream must hold: index is seq - 1.
type Model = Vec<(u64, Vec<u8>)>;

fn follow(follower: &mut Follower, model: &Model, limit: u64) {
    for _ in 0..limit {
        match follower.reader.next() {
            Ok(Some(frame)) => {
                let (time, payload) = &model[frame.seq as usize - 1];
                let mut bytes = [0; 1024];
                assert_eq!((frame.seq, frame.time_ns), (follower.next, *time));
                assert_eq!(frame.payload.copy_to(&mut bytes), payload);
                follower.next += 1;
            }
            Ok(None) => {
                assert_eq!(follower.next, model.len() as u64 + 1, "nothing more, and yet there is");
                return;
            }
            Err(ReadError::Lapped { resume_at }) => {
                assert!(resume_at > follower.next && resume_at <= model.len() as u64 + 1);
                follower.next = resume_at;
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

fn open(sim: &Sim, name: Option<&str>, start: Start) -> Subscriber<Sim> {
    let options = SubscriberOptions { start, keep_segments: 3, ..SubscriberOptions::default() };
    match name {
        Some(name) => Queue::subscriber(sim, DIR, name, options).unwrap(),
        None => Queue::observer(sim, DIR, options).unwrap(),
    }
}

/// Where a reader that was just opened stands, told lap included.
fn stands(reader: &Subscriber<Sim>) -> u64 {
    reader.position().unwrap().seq
}

fn run(seed: u64, steps: u64) {
    let mut random = Random(seed);
    let sim = Sim::new(seed);
    let mut model: Model = Vec::new();
    let mut writer = sim.start_process();
    let mut queue: Option<Publisher<Sim>> = None;
    let mut followers: Vec<Follower> = Vec::new();
    let mut names = 0;
    for _ in 0..steps {
        let Some(publisher) = &mut queue else {
            let opened = Queue::publisher(&writer, DIR, options(&mut random)).unwrap();
            assert_eq!(opened.next_seq(), model.len() as u64 + 1);
            queue = Some(opened);
            continue;
        };
        match random.below(100) {
            0..60 => {
                let time = random.below(1000) + model.len() as u64;
                let payload = vec![random.below(256) as u8; random.below(320) as usize];
                let append = Append { time_ns: time, type_id: 1, flags: 0 };
                let seq = if random.below(2) == 0 {
                    publisher.append(append, &payload)
                } else {
                    publisher.claim(payload.len()).map(|mut claim| {
                        claim.put(&payload);
                        claim.commit(append)
                    })
                };
                match seq {
                    Ok(seq) => {
                        model.push((time, payload));
                        assert_eq!(seq, model.len() as u64);
                    }
                    Err(Refused::NotReady) => publisher.maintain(),
                    Err(Refused::QueueFull { .. }) => {
                        sim.advance(Duration::from_millis(600));
                        publisher.maintain();
                    }
                    Err(refused) => panic!("{refused}: {:?}", publisher.last_trouble()),
                }
            }
            60..66 => publisher.maintain(),
            66..68 => _ = publisher.roll(),
            68..70 => assert_eq!(publisher.sync().unwrap().seq, model.len() as u64),
            70..88 if !followers.is_empty() => {
                let at = random.below(followers.len() as u64) as usize;
                let limit = 1 + random.below(60);
                follow(&mut followers[at], &model, limit);
                if random.below(3) == 0 {
                    followers[at].reader.commit().unwrap();
                    followers[at].committed = followers[at].next;
                }
            }
            88..92 if followers.len() < 4 => {
                let start = match random.below(4) {
                    0 => Start::Earliest,
                    1 => Start::Latest,
                    2 => Start::Seq(1 + random.below(model.len() as u64 + 1)),
                    _ => Start::Cursor,
                };
                let name = (random.below(3) > 0).then(|| {
                    names += 1;
                    format!("reader-{names}")
                });
                let reader = open(&sim, name.as_deref(), start);
                let oldest = stands(&open(&sim, None, Start::Earliest));
                let expected = match start {
                    Start::Latest => model.len() as u64 + 1,
                    Start::Seq(seq) => seq,
                    _ => oldest,
                };
                // A lap at the start is told by the first read, as any other.
                followers.push(Follower { name, reader, next: expected, committed: 0 });
            }
            92..94 if !followers.is_empty() => {
                let at = random.below(followers.len() as u64) as usize;
                let Follower { name, reader, committed, .. } = followers.swap_remove(at);
                drop(reader);
                if let Some(name) = name
                    && committed > 0
                {
                    let reader = open(&sim, Some(&name), Start::Cursor);
                    followers.push(Follower { name: Some(name), reader, next: committed, committed });
                }
            }
            94..96 => {
                queue.take().unwrap().close().unwrap();
            }
            96..98 => {
                // Dead, not closed.
                writer.kill();
                queue = None;
                writer = sim.start_process();
            }
            _ => {
                let mut problems = Vec::new();
                verify(&sim, Path::new(DIR), &mut |problem| problems.push(problem.to_string())).unwrap();
                assert_eq!(problems, Vec::<String>::new());
            }
        }
    }
    for follower in &mut followers {
        follow(follower, &model, u64::MAX);
    }
    assert!(model.len() as u64 > steps / 4, "seed {seed} did little");
}

#[test]
fn random_lives_agree_with_a_vector() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let steps = number("QUEUE_STEPS").unwrap_or(1500);
    let seeds = match number("QUEUE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=30,
    };
    for seed in seeds {
        eprintln!("QUEUE_SEED={seed}");
        run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, steps);
    }
}
