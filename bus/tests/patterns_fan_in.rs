//! A merge must neither reorder nor lose nor wait for ever: every promise of `fan_in`'s first page has its test here.

use chronicle_bus::{
    FanIn,
    fan_in::{Merged, SourceEvent},
};
use chronicle_core::{Append, layout::HEADER_LEN};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use chronicle_storage::queue::{
    Profile, Publisher, PublisherOptions, Queue, ReadError, Start, Subscriber, SubscriberOptions,
};
use std::{path::Path, time::Duration};

/// Of recordings: who has no frame is at its end.
const ALL: u64 = u64::MAX;

fn options() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 8 * 4096, helper: false, ..PublisherOptions::new(Profile::Raw) }
}

fn path(nth: usize) -> String {
    format!("/q{nth}")
}

fn publisher(sim: &Sim, nth: usize, options: PublisherOptions) -> Publisher<Sim> {
    Queue::publisher(sim, path(nth), options).unwrap()
}

fn put(queue: &mut Publisher<Sim>, time_ns: u64, payload: &[u8]) -> u64 {
    let append = Append { time_ns, type_id: 7, flags: 0 };
    queue.append_wait(append, payload, Duration::from_secs(5)).unwrap()
}

fn reader(sim: &Sim, nth: usize) -> Subscriber<Sim> {
    Queue::subscriber(sim, path(nth), "merge", SubscriberOptions::default()).unwrap()
}

/// What is handed out at this clock, as (source, time, late).
fn drain(merge: &mut FanIn<Sim>, now_ns: u64) -> Vec<(u32, u64, bool)> {
    let mut out = Vec::new();
    while let Some(merged) = merge.next(now_ns) {
        match merged {
            Merged::Frame(it) => out.push((it.source, it.frame.time_ns, it.late)),
            Merged::Event(event) => panic!("{event}"),
        }
    }
    out
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Against a stable sort: whatever times and lengths, the order is by time, then by source, then as appended.
#[test]
fn what_is_there_comes_in_order_of_time_and_source() {
    for seed in 1..=40 {
        let mut random = Random(seed * 0x9e37_79b9);
        let sim = Sim::new(seed);
        let count = 1 + random.below(9) as usize;
        let mut merge = FanIn::new(&sim, Duration::from_secs(1));
        let mut expected = Vec::new();
        let large = PublisherOptions { max_bytes: 64 * 4096, ..options() };
        let mut queues: Vec<_> = (0..count).map(|nth| publisher(&sim, nth, large.clone())).collect();
        for (source, queue) in queues.iter_mut().enumerate() {
            let mut time = 0;
            for nth in 0..random.below(200) {
                time += random.below(3);
                put(queue, time, &nth.to_le_bytes());
                expected.push((time, source as u32, nth));
            }
            assert_eq!(merge.add(reader(&sim, source)), source as u32);
        }
        expected.sort();
        let mut found = Vec::new();
        while let Some(merged) = merge.next(ALL) {
            let Merged::Frame(it) = merged else { panic!("seed {seed}: {merged:?}") };
            assert!(!it.late, "seed {seed}");
            found.push((it.frame.time_ns, it.source, it.frame.payload.u64_at(0).unwrap()));
        }
        assert_eq!(found, expected, "seed {seed}, {count} sources");
        assert_eq!((merge.count(), merge.late(0)), (count, 0));
    }
}

/// The policy, said of one frame: not before all have spoken or its patience is over, and then at once.
#[test]
fn a_silent_source_is_waited_for_as_long_as_patience_says() {
    let sim = Sim::new(1);
    let (mut busy, mut silent) = (publisher(&sim, 0, options()), publisher(&sim, 1, options()));
    let mut merge = FanIn::new(&sim, Duration::from_nanos(100));
    let (a, b) = (merge.add(reader(&sim, 0)), merge.add(reader(&sim, 1)));
    put(&mut busy, 1000, b"x");
    for now in [900, 999, 1000, 1050, 1099] {
        assert!(drain(&mut merge, now).is_empty(), "at {now} the silent one may still be earlier");
    }
    assert!(merge.wait(Duration::ZERO), "held is there all the same");
    // It speaks, with something earlier: both go, in order, without waiting for the rest of the time.
    put(&mut silent, 990, b"y");
    put(&mut silent, 1150, b"y");
    assert_eq!(drain(&mut merge, 1099), [(b, 990, false), (a, 1000, false)]);
    // Now the busy one has nothing, and holds the other one.
    assert!(drain(&mut merge, 1249).is_empty());
    assert_eq!(drain(&mut merge, 1250), [(b, 1150, false)], "at the latest, its patience after its time");
    // From the future: no more than patience, and beyond that it is not our clock.
    put(&mut busy, 1500, b"x");
    assert!(drain(&mut merge, 1400).is_empty());
    assert_eq!(drain(&mut merge, 1399), [(a, 1500, false)]);
    put(&mut busy, u64::MAX, b"x");
    assert_eq!(drain(&mut merge, 2000), [(a, u64::MAX, false)], "an absurd time blocks nobody");
}

#[test]
fn without_patience_nothing_is_held() {
    let sim = Sim::new(1);
    let (mut busy, _silent) = (publisher(&sim, 0, options()), publisher(&sim, 1, options()));
    let mut merge = FanIn::new(&sim, Duration::ZERO);
    merge.add(reader(&sim, 0));
    merge.add(reader(&sim, 1));
    for time in [5, 10, 10, 20] {
        put(&mut busy, time, b"x");
    }
    assert_eq!(drain(&mut merge, 10).len(), 4);
}

/// Dropping it, or putting it silently in a wrong place, are the two ways not to.
#[test]
fn what_is_late_is_handed_out_marked_and_counted() {
    let sim = Sim::new(1);
    let mut queues: Vec<_> = (0..3).map(|nth| publisher(&sim, nth, options())).collect();
    let mut merge = FanIn::new(&sim, Duration::ZERO);
    merge.add(reader(&sim, 0));
    merge.add(reader(&sim, 1));
    put(&mut queues[0], 100, b"x");
    assert_eq!(drain(&mut merge, 1), [(0, 100, false)]);
    put(&mut queues[1], 99, b"x");
    put(&mut queues[1], 100, b"x");
    // A clock that steps back within a source.
    put(&mut queues[0], 40, b"x");
    assert_eq!(drain(&mut merge, 2), [(0, 40, true), (1, 99, true), (1, 100, false)]);
    // A source that is added with a past.
    put(&mut queues[2], 7, b"x");
    put(&mut queues[2], 101, b"x");
    assert_eq!(merge.add(reader(&sim, 2)), 2);
    assert_eq!(drain(&mut merge, 3), [(2, 7, true), (2, 101, false)]);
    assert_eq!([merge.late(0), merge.late(1), merge.late(2)], [1, 1, 1]);
}

/// A busy source must not keep the others from being looked at, even where the clock stands still.
#[test]
fn a_source_that_wakes_up_is_found_beside_a_busy_one() {
    let sim = Sim::new(1);
    let large = PublisherOptions { max_bytes: 64 * 4096, ..options() };
    let (mut busy, mut quiet) = (publisher(&sim, 0, large.clone()), publisher(&sim, 1, large));
    let mut merge = FanIn::new(&sim, Duration::ZERO);
    merge.add(reader(&sim, 0));
    merge.add(reader(&sim, 1));
    for time in 0..1000 {
        put(&mut busy, time, b"x");
    }
    let mut before = 0;
    loop {
        let Some(Merged::Frame(it)) = merge.next(5) else { panic!("the quiet one never came") };
        if it.source == 1 {
            break;
        }
        before += 1;
        if before == 10 {
            put(&mut quiet, 0, b"y");
        }
    }
    assert!(before < 10 + 70, "{before} frames went before");
}

#[test]
fn sources_come_and_go_and_numbers_are_used_again() {
    let sim = Sim::new(1);
    let mut queues: Vec<_> = (0..5).map(|nth| publisher(&sim, nth, options())).collect();
    let mut merge = FanIn::new(&sim, Duration::ZERO);
    for (nth, queue) in queues.iter_mut().enumerate() {
        put(queue, 10, b"x");
        put(queue, 20 + nth as u64, b"x");
        assert_eq!(merge.add(reader(&sim, nth)), nth as u32);
    }
    let Some(Merged::Frame(first)) = merge.next(ALL) else { panic!("five are there") };
    assert_eq!(first.source, 0);
    // The one that was just handed out, and one that has not been yet.
    let removed = merge.remove(0).unwrap();
    assert_eq!(removed.position().unwrap().seq, 2, "behind what was handed out");
    assert_eq!(merge.remove(3).unwrap().position().unwrap().seq, 1);
    assert!(merge.remove(3).is_none() && merge.remove(77).is_none());
    assert_eq!(merge.sources().collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(merge.add(removed), 0);
    let times: Vec<_> = drain(&mut merge, ALL).into_iter().map(|(source, time, _)| (source, time)).collect();
    assert_eq!(times, [(1, 10), (2, 10), (4, 10), (0, 20), (1, 21), (2, 22), (4, 24)]);
}

fn event(merge: &mut FanIn<Sim>) -> SourceEvent {
    match merge.next(ALL) {
        Some(Merged::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

/// One source's lap and one source's damage are news of these sources; the third's frames all come.
#[test]
fn what_happens_to_one_source_is_an_event_and_no_end() {
    let sim = Sim::new(1);
    let observe = |nth| Queue::observer(&sim, path(nth), SubscriberOptions::default()).unwrap();
    let (mut lapped, mut damaged, mut fine) =
        (publisher(&sim, 0, options()), publisher(&sim, 1, options()), publisher(&sim, 2, options()));
    for queue in [&mut lapped, &mut damaged, &mut fine] {
        put(queue, 1, b"x");
    }
    let mut merge = FanIn::new(&sim, Duration::ZERO);
    for nth in 0..3 {
        merge.add(observe(nth));
    }
    assert_eq!(drain(&mut merge, ALL).len(), 3);
    // Frame 2 of the damaged one says that it is another.
    put(&mut damaged, 2, b"x");
    let segment = sim.open(Path::new("/q1/00000000000000000001.q"), Open::Write).unwrap();
    segment.write_at(&77_u64.to_le_bytes(), HEADER_LEN as u64 + 64 + 8).unwrap();
    for time in 2..=2000 {
        put(&mut lapped, time, &[0; 64]);
    }
    put(&mut fine, 3, b"x");
    put(&mut fine, 5000, b"x");
    let (mut frames, mut events) = (Vec::new(), Vec::new());
    while let Some(merged) = merge.next(ALL) {
        match merged {
            Merged::Frame(it) => frames.push((it.source, it.frame.seq)),
            Merged::Event(event) => events.push(event),
        }
    }
    assert_eq!(events.len(), 2, "{events:?}");
    let of = |source| events.iter().find(|event| event.source == source).unwrap();
    let (lap, damage) = (of(0), of(1));
    let ReadError::Lapped { resume_at } = lap.error else { panic!("{lap}") };
    assert!(!lap.stopped && damage.stopped, "{damage}");
    assert!(damage.to_string().contains("source 1 set aside: "), "{damage}");
    let expected: Vec<_> = (2..=2000).filter(|seq| *seq < 3 || *seq >= resume_at).collect();
    let of_lapped: Vec<_> = frames.iter().filter(|it| it.0 == 0).map(|it| it.1).collect();
    assert_eq!(of_lapped.last(), expected.last());
    assert!(
        of_lapped.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == resume_at),
        "a hole that was not told"
    );
    assert_eq!(frames.iter().filter(|it| it.0 == 2).count(), 2);
    // Set aside it stays, and holds nobody; it goes on where somebody says.
    put(&mut damaged, 6000, b"x");
    assert!(drain(&mut merge, ALL).is_empty());
    merge.seek(1, Start::Seq(1)).unwrap();
    let Some(Merged::Frame(again)) = merge.next(ALL) else { panic!("it was sought") };
    assert_eq!((again.source, again.late), (1, true));
    assert!(event(&mut merge).stopped, "still damaged, and told again");
    // Behind it, in a segment that is whole.
    let rolled = (0..200).map(|nth| put(&mut damaged, 7000 + nth, &[0; 64])).last().unwrap();
    merge.seek(1, Start::Latest).unwrap();
    assert!(drain(&mut merge, ALL).is_empty());
    put(&mut damaged, 8000, b"x");
    let Some(Merged::Frame(behind)) = merge.next(ALL) else { panic!("it goes on") };
    assert_eq!((behind.source, behind.frame.seq), (1, rolled + 1));
}

/// Committed on demand, each source for itself, behind what was handed out and nothing that was only looked at.
#[test]
fn cursors_go_on_behind_what_was_handed_out() {
    let sim = Sim::new(5);
    let mut queues: Vec<_> = (0..4).map(|nth| publisher(&sim, nth, options())).collect();
    let mut expected = Vec::new();
    for time in 0..160 {
        let source = (time * 7 % 4) as usize;
        put(&mut queues[source], time, b"x");
        expected.push((source as u32, time));
    }
    let mut found = Vec::new();
    for step in 0.. {
        let mut merge = FanIn::new(&sim, Duration::ZERO);
        for nth in 0..4 {
            merge.add(reader(&sim, nth));
        }
        let mut some = 0;
        while some < 1 + step % 13
            && let Some(Merged::Frame(it)) = merge.next(ALL)
        {
            let (source, time) = (it.source, it.frame.time_ns);
            found.push((source, time));
            if step % 2 == 0 {
                merge.commit(source).unwrap();
            }
            some += 1;
        }
        if some == 0 {
            break;
        }
        if step % 2 == 1 {
            merge.commit_all().unwrap();
        }
    }
    assert_eq!(found, expected, "nothing twice, nothing left out");
}

#[test]
fn a_wait_ends_with_a_frame_or_with_its_time() {
    let sim = Sim::new(1);
    let mut queues: Vec<_> = (0..2).map(|nth| publisher(&sim, nth, options())).collect();
    let mut merge = FanIn::new(&sim, Duration::ZERO);
    let begun = sim.monotonic_ns();
    assert!(!merge.wait(Duration::from_millis(5)), "no sources, no frames");
    assert!(sim.monotonic_ns() - begun >= 5_000_000);
    merge.add(reader(&sim, 0));
    assert!(!merge.wait(Duration::from_millis(5)));
    merge.add(reader(&sim, 1));
    assert!(!merge.wait(Duration::from_millis(5)));
    put(&mut queues[1], 1, b"x");
    assert!(merge.wait(Duration::from_secs(1)));
    assert_eq!(drain(&mut merge, ALL).len(), 1);
}

/// Eight writers at once: of each, all frames, in order, whatever the merge makes of their times.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_lost_beside_running_writers() {
    use chronicle_platform_linux::Linux;
    const FRAMES: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let options =
        PublisherOptions { segment_len: 1 << 16, max_bytes: 1 << 22, ..PublisherOptions::new(Profile::Clean) };
    let path = |nth: u64| dir.path().join(nth.to_string());
    let mut merge = FanIn::new(&Linux, Duration::from_micros(200));
    let mut queues = Vec::new();
    for nth in 0..8 {
        queues.push(Queue::publisher(&Linux, path(nth), options.clone()).unwrap());
        let subscriber = Queue::subscriber(&Linux, path(nth), "merge", SubscriberOptions::default()).unwrap();
        merge.add(subscriber);
    }
    std::thread::scope(|scope| {
        for mut queue in queues {
            scope.spawn(move || {
                for nth in 1..=FRAMES {
                    let append = Append { time_ns: Linux.now_ns(), type_id: 1, flags: 0 };
                    queue.append_wait(append, &nth.to_le_bytes(), Duration::from_secs(60)).unwrap();
                }
            });
        }
        let (mut next, mut high, mut late) = ([1; 8], 0, [0; 8]);
        let mut left = 8 * FRAMES;
        while left > 0 {
            match merge.next(Linux.now_ns()) {
                Some(Merged::Frame(it)) => {
                    let source = it.source as usize;
                    assert_eq!((it.frame.seq, it.frame.payload.u64_at(0)), (next[source], Some(next[source])));
                    assert_eq!(it.late, it.frame.time_ns < high);
                    next[source] += 1;
                    late[source] += u64::from(it.late);
                    high = high.max(it.frame.time_ns);
                    left -= 1;
                    if left.is_multiple_of(1000) {
                        merge.commit_all().unwrap();
                    }
                }
                Some(Merged::Event(event)) => panic!("{event}"),
                None => _ = merge.wait(Duration::from_millis(1)),
            }
        }
        for (source, late) in (0..).zip(late) {
            assert_eq!(merge.late(source), late);
        }
    });
}
