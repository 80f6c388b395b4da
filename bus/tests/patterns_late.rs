//! Who comes late must end where those are who were there from the beginning: no frame twice, none left out.

use chronicle_bus::{
    LateJoiner,
    late::{JoinError, Snapshot},
};
use chronicle_core::Append;
use chronicle_platform::sim::Sim;
use chronicle_storage::queue::{Profile, Publisher, PublisherOptions, Queue, ReadError, Start, SubscriberOptions};
use std::time::Duration;

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 8 * 4096, helper: false, ..PublisherOptions::new(Profile::Clean) }
}

fn put(queue: &mut Publisher<Sim>, number: u64) {
    let append = Append { time_ns: number, type_id: 1, flags: 0 };
    let seq = queue.append_wait(append, &number.to_le_bytes(), Duration::from_secs(1)).unwrap();
    assert_eq!(seq, number);
}

fn joiner(sim: &Sim) -> LateJoiner<Sim> {
    LateJoiner::new(Queue::observer(sim, "/live", SubscriberOptions::default()).unwrap())
}

type Never = std::convert::Infallible;

fn at(queue: &Publisher<Sim>, seq: u64) -> Result<Option<Snapshot<u64>>, Never> {
    // The state is the sum of all numbers up to there.
    Ok(Some(Snapshot { queue_id: queue.queue_id(), seq, state: seq * (seq + 1) / 2 }))
}

#[test]
fn the_stream_goes_on_right_behind_the_snapshot() {
    for seq in 0..=30 {
        let sim = Sim::new(1);
        let mut queue = Queue::publisher(&sim, "/live", options()).unwrap();
        // The snapshot may be behind what the queue has, and ahead of it.
        for number in 1..=20 {
            put(&mut queue, number);
        }
        let mut late = joiner(&sim);
        assert!(late.next().unwrap().is_none(), "nothing before it has joined");
        let mut sum = late.join(|| at(&queue, seq)).unwrap();
        for number in 21..=40 {
            while let Some(frame) = late.next().unwrap() {
                assert!(frame.seq > seq);
                sum += frame.payload.u64_at(0).unwrap();
            }
            put(&mut queue, number);
        }
        while let Some(frame) = late.next().unwrap() {
            sum += frame.payload.u64_at(0).unwrap();
        }
        assert_eq!(sum, 40 * 41 / 2, "snapshot at {seq}");
    }
}

#[test]
fn a_snapshot_that_does_not_connect_is_refused() {
    let sim = Sim::new(1);
    let mut queue = Queue::publisher(&sim, "/live", options()).unwrap();
    for number in 1..=2000 {
        put(&mut queue, number);
    }
    let mut late = joiner(&sim);
    let none = late.join(|| Ok::<Option<Snapshot<()>>, Never>(None)).unwrap_err();
    assert!(matches!(none, JoinError::None), "{none}");
    let error = late.join(|| at(&queue, 7)).unwrap_err();
    let JoinError::TooOld { snapshot: 7, oldest } = error else { panic!("{error}") };
    assert!(oldest > 8 && late.next().unwrap().is_none());
    let text = error.to_string();
    assert_eq!(text, format!("snapshot ends with seq 7, the oldest frame left is seq {oldest}"));
    // Asked again as long as it gets newer.
    let mut tries = [3, 9, 1999].into_iter();
    let sum = late.join(|| at(&queue, tries.next().unwrap())).unwrap();
    assert_eq!((sum, tries.next(), late.next().unwrap().map(|frame| frame.seq)), (1999 * 1000, None, Some(2000)));
    let other = late.join(|| Ok::<_, Never>(Some(Snapshot { queue_id: [3; 16], seq: 1999, state: () }))).unwrap_err();
    assert!(other.to_string().starts_with("snapshot is of queue 03030303"), "{other}");
    let failed = late.join(|| Err::<Option<Snapshot<()>>, _>(std::io::Error::other("no disk"))).unwrap_err();
    assert_eq!(failed.to_string(), "no disk");
}

/// Too slow behind its snapshot, it is told as any reader, and joins again.
#[test]
fn a_lap_behind_the_snapshot_is_told() {
    let sim = Sim::new(1);
    let mut queue = Queue::publisher(&sim, "/live", options()).unwrap();
    for number in 1..=10 {
        put(&mut queue, number);
    }
    let mut late = joiner(&sim);
    late.join(|| at(&queue, 5)).unwrap();
    assert_eq!(late.next().unwrap().map(|frame| frame.seq), Some(6));
    for number in 11..=2000 {
        put(&mut queue, number);
    }
    let lapped = loop {
        match late.next() {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()),
        }
    };
    assert!(matches!(lapped, Err(ReadError::Lapped { .. })), "{lapped:?}");
    late.join(|| at(&queue, 1990)).unwrap();
    assert_eq!(late.next().unwrap().map(|frame| frame.seq), Some(1991));
}

/// Joiners at all times beside a writer that never waits, and a maker of snapshots that reads the same queue and is faster
/// or slower than they are. Snapshots come by a queue of their own: the newest frame there is the newest snapshot.
#[cfg(target_os = "linux")]
#[test]
fn joiners_beside_a_running_writer_end_with_the_same_sum() {
    use chronicle_platform_linux::Linux;
    use std::sync::atomic::{AtomicBool, Ordering};
    const FRAMES: u64 = 300_000;
    let dir = tempfile::tempdir().unwrap();
    let (live, snapshots) = (dir.path().join("live"), dir.path().join("snapshots"));
    let options =
        PublisherOptions { segment_len: 1 << 16, max_bytes: 1 << 19, ..PublisherOptions::new(Profile::Clean) };
    let mut writer = Queue::publisher(&Linux, &live, options.clone()).unwrap();
    let mut keeper = Queue::publisher(&Linux, &snapshots, options).unwrap();
    let observe = |path, start| {
        Queue::observer(&Linux, path, SubscriberOptions { start, ..SubscriberOptions::default() }).unwrap()
    };
    let follow = Queue::subscriber(&Linux, &live, "keeper", SubscriberOptions::default()).unwrap();
    let over = AtomicBool::new(false);
    let joined = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=FRAMES {
                let append = Append { time_ns: number, type_id: 1, flags: 0 };
                writer.append_wait(append, &number.to_le_bytes(), Duration::from_secs(60)).unwrap();
                if number % 64 == 0 {
                    // Others have two processors between them.
                    std::thread::yield_now();
                }
            }
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let (mut follow, mut sum) = (follow, 0);
            let mut seq = 0;
            while seq < FRAMES {
                let Some(frame) = follow.next().unwrap() else {
                    std::thread::yield_now();
                    continue;
                };
                (seq, sum) = (frame.seq, sum + frame.payload.u64_at(0).unwrap());
                if seq % 100 == 0 {
                    let state = [seq.to_le_bytes(), sum.to_le_bytes()].concat();
                    keeper.append_wait(Append::default(), &state, Duration::from_secs(60)).unwrap();
                    follow.commit().unwrap();
                }
            }
        });
        let joiners: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut joined = 0;
                    while !over.load(Ordering::Acquire) || joined == 0 {
                        let live = observe(&live, Start::Latest);
                        let queue_id = live.queue_id();
                        let mut late = LateJoiner::new(live);
                        let newest = || -> Result<Option<Snapshot<u64>>, ReadError> {
                            let mut kept = observe(&snapshots, Start::Earliest);
                            let mut newest = None;
                            loop {
                                match kept.next() {
                                    Ok(Some(frame)) => {
                                        let word = |at| frame.payload.u64_at(at).unwrap();
                                        newest = Some(Snapshot { queue_id, seq: word(0), state: word(8) });
                                    }
                                    Ok(None) => return Ok(newest),
                                    Err(event) if event.is_event() => {}
                                    Err(error) => return Err(error),
                                }
                            }
                        };
                        let mut sum = match late.join(newest) {
                            Ok(sum) => sum,
                            Err(JoinError::None | JoinError::TooOld { .. }) => continue,
                            Err(error) => panic!("{error}"),
                        };
                        // Some way along with the writer, whose numbers are its seqs: the sum of all up to here is known.
                        let mut seq = 0;
                        for _ in 0..2000 {
                            match late.next() {
                                Ok(Some(frame)) => {
                                    seq = frame.seq;
                                    sum += frame.payload.u64_at(0).unwrap();
                                    assert_eq!(sum, seq * (seq + 1) / 2, "a gap or a repeat before seq {seq}");
                                }
                                Ok(None) => std::thread::yield_now(),
                                Err(ReadError::Lapped { .. }) => break,
                                Err(error) => panic!("{error}"),
                            }
                        }
                        joined += u64::from(seq > 0);
                    }
                    joined
                })
            })
            .collect();
        joiners.into_iter().map(|joiner| joiner.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(joined.iter().all(|joined| *joined > 0), "{joined:?}");
}
