//! What goes into a queue comes out, in order and once, whatever rolls, retires and restarts in between.
#![cfg(target_os = "linux")]

use chronicle_core::{Append, Checksum};
use chronicle_platform_linux::Linux;
use chronicle_storage::{
    Error,
    queue::{
        Disconnect, Profile, Publisher, PublisherOptions, Queue, ReadError, Refused, Start, Subscriber,
        SubscriberOptions, Waited, WriterStatus, detect_disconnect,
    },
};
use std::{path::Path, time::Duration};

/// Segments of 4 KiB, no helper: every step is the test's.
fn small() -> PublisherOptions {
    PublisherOptions { segment_len: 4096, max_bytes: 8 * 4096, helper: false, ..PublisherOptions::new(Profile::Raw) }
}

fn publisher(dir: &Path, options: PublisherOptions) -> Publisher<Linux> {
    Queue::publisher(&Linux, dir, options).unwrap()
}

fn at(start: Start) -> SubscriberOptions {
    SubscriberOptions { start, ..SubscriberOptions::default() }
}

fn put(queue: &mut Publisher<Linux>, n: u64) {
    let payload = n.to_le_bytes().repeat(1 + (n % 7) as usize);
    let append = Append { time_ns: n * 10, type_id: n as u16, flags: 0 };
    let seq = queue.append_wait(append, &payload, Duration::from_secs(5)).unwrap();
    assert_eq!(seq, n);
}

fn take(reader: &mut Subscriber<Linux>, n: u64) {
    let frame = reader.next().unwrap().unwrap_or_else(|| panic!("frame {n} is missing"));
    assert_eq!((frame.seq, frame.time_ns, frame.type_id), (n, n * 10, n as u16));
    let mut bytes = [0; 64];
    assert_eq!(frame.payload.copy_to(&mut bytes), n.to_le_bytes().repeat(1 + (n % 7) as usize));
}

#[test]
fn frames_come_out_as_they_went_in_over_many_rolls() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), small());
    let mut live = Queue::subscriber(&Linux, dir.path(), "live", at(Start::Earliest)).unwrap();
    for n in 1..=2000 {
        put(&mut queue, n);
        take(&mut live, n);
        assert!(live.next().unwrap().is_none());
    }
    assert!(queue.counters().rolls > 20);
    assert!(queue.counters().recycled > 10, "{:?}", queue.counters());
    // A newcomer sees what is left, without a hole.
    let mut late = Queue::observer(&Linux, dir.path(), at(Start::Earliest)).unwrap();
    let first = late.position().unwrap().seq;
    assert!(first > 1 && first < 2000);
    for n in first..=2000 {
        take(&mut late, n);
    }
    assert!(late.next().unwrap().is_none());
}

#[test]
fn a_helper_keeps_segments_ready() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), PublisherOptions { helper: true, ..small() });
    let mut live = Queue::subscriber(&Linux, dir.path(), "live", at(Start::Earliest)).unwrap();
    for n in 1..=3000 {
        put(&mut queue, n);
        take(&mut live, n);
    }
    drop(queue);
}

#[test]
fn readers_start_where_they_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), PublisherOptions { max_bytes: 1 << 20, ..small() });
    for n in 1..=1000 {
        put(&mut queue, n);
    }
    for seq in [1, 2, 37, 500, 999, 1000] {
        let mut reader = Queue::observer(&Linux, dir.path(), at(Start::Seq(seq))).unwrap();
        take(&mut reader, seq);
        let mut reader = Queue::observer(&Linux, dir.path(), at(Start::Time(seq * 10 - 3))).unwrap();
        take(&mut reader, seq);
        reader.seek(Start::Seq(1)).unwrap();
        take(&mut reader, 1);
    }
    let mut reader = Queue::observer(&Linux, dir.path(), at(Start::Latest)).unwrap();
    assert!(reader.next().unwrap().is_none());
    put(&mut queue, 1001);
    take(&mut reader, 1001);
    let mut reader = Queue::observer(&Linux, dir.path(), at(Start::Time(1_000_000))).unwrap();
    assert!(reader.next().unwrap().is_none());
    put(&mut queue, 1002);
    take(&mut reader, 1002);
}

#[test]
fn cursors_survive_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut n = 0;
    let mut next = 1;
    for round in 0..20 {
        let mut queue = publisher(dir.path(), PublisherOptions { max_bytes: 1 << 20, ..small() });
        for _ in 0..77 {
            n += 1;
            put(&mut queue, n);
        }
        let mut reader = Queue::subscriber(&Linux, dir.path(), "strategy", SubscriberOptions::default()).unwrap();
        for _ in 0..50 {
            take(&mut reader, next);
            next += 1;
        }
        if round % 3 == 0 {
            reader.commit_durable().unwrap();
        } else {
            reader.commit().unwrap();
        }
        // Read, and not committed: read again next time.
        take(&mut reader, next);
        if round % 2 == 0 {
            queue.close().unwrap();
        }
    }
}

#[test]
fn s_16_a_live_reader_holds_segments_and_a_dead_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let options = PublisherOptions { reader_ttl: Duration::from_millis(200), ..small() };
    let mut queue = publisher(dir.path(), options);
    let mut slow = Queue::subscriber(&Linux, dir.path(), "slow", at(Start::Earliest)).unwrap();
    let mut n = 0;
    let refused = loop {
        match queue.append(Append::default(), &[1; 100]) {
            Ok(seq) => n = seq,
            Err(Refused::NotReady) => {
                queue.maintain();
                slow.next().unwrap();
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::QueueFull { used: 8 * 4096, max: 8 * 4096 });
    // It reads on: room again.
    while slow.next().unwrap().is_some() {}
    queue.append_wait(Append::default(), &[2; 100], Duration::from_secs(1)).unwrap();
    let read = slow.position().unwrap().seq;
    assert!(read > n);
    // It stops: after its time-out the writer goes on, and the reader learns what it missed.
    for _ in 0..400 {
        n = queue.append_wait(Append::default(), &[3; 100], Duration::from_secs(5)).unwrap();
    }
    let mut lapped = None;
    let mut last = read - 1;
    loop {
        match slow.next() {
            Ok(Some(frame)) => {
                assert!(frame.seq == last + 1 || Some(frame.seq) == lapped);
                last = frame.seq;
            }
            Ok(None) => break,
            Err(ReadError::Lapped { resume_at }) => {
                assert_eq!(lapped.replace(resume_at), None, "told once");
                assert!(resume_at > last + 1);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(lapped.is_some());
    assert_eq!(last, n);
}

#[test]
fn a_required_reader_is_waited_for_dead_or_alive() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        || PublisherOptions { required: vec!["recorder".into()], reader_ttl: Duration::from_millis(1), ..small() };
    let mut queue = publisher(dir.path(), options());
    let fill = |queue: &mut Publisher<Linux>| loop {
        match queue.append(Append::default(), &[1; 100]) {
            Ok(_) => {}
            Err(Refused::NotReady) => queue.maintain(),
            Err(refused) => break refused,
        }
    };
    let full = Refused::QueueFull { used: 8 * 4096, max: 8 * 4096 };
    assert_eq!(fill(&mut queue), full);
    let mut recorder = Queue::subscriber(&Linux, dir.path(), "recorder", SubscriberOptions::default()).unwrap();
    let mut kept = Vec::new();
    for round in 0..30 {
        let Some(ended) = recorder.ended().unwrap() else { panic!("full of ended segments, round {round}") };
        while let Some(frame) = recorder.next_in_segment().unwrap() {
            kept.push(frame.seq);
        }
        assert!(kept.contains(&ended.first_seq));
        assert!(recorder.leave_segment().unwrap());
        recorder.commit().unwrap();
        assert_eq!(fill(&mut queue), full, "not durable yet");
        recorder.commit_durable().unwrap();
        drop(recorder);
        drop(queue);
        queue = publisher(dir.path(), options());
        queue.maintain();
        assert_eq!(fill(&mut queue), full);
        recorder = Queue::subscriber(&Linux, dir.path(), "recorder", SubscriberOptions::default()).unwrap();
    }
    let all: Vec<u64> = (1..=kept.len() as u64).collect();
    assert_eq!(kept, all, "nothing missing, nothing twice");
}

#[test]
fn s_1_a_second_writer_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let queue = publisher(dir.path(), small());
    let error = Queue::publisher(&Linux, dir.path(), small()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("writer.lock"));
    let text = std::fs::read_to_string(dir.path().join("writer.lock")).unwrap();
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    drop(queue);
    publisher(dir.path(), small());
}

#[test]
fn s_3_claims_commit_abort_and_roll() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), small());
    let mut reader = Queue::observer(&Linux, dir.path(), at(Start::Earliest)).unwrap();
    for n in 1..=300u64 {
        let mut aborted = loop {
            match queue.claim(24) {
                Ok(claim) => break claim,
                Err(Refused::NotReady) => {}
                Err(refused) => panic!("{refused}"),
            }
            queue.maintain();
        };
        aborted.put(&[0xff; 24]);
        aborted.abort();
        assert!(reader.next().unwrap().is_none());
        let mut claim = queue.claim(24).unwrap();
        claim.put(&n.to_le_bytes());
        claim.put_at(16, &[7]);
        assert_eq!(claim.commit(Append { time_ns: n, ..Append::default() }), n);
        let frame = reader.next().unwrap().unwrap();
        assert_eq!((frame.seq, frame.payload.u64_at(0), frame.payload.u64_at(8)), (n, Some(n), Some(0)));
        assert_eq!(frame.payload.u64_at(16), Some(7));
    }
    let max = 4096 - 128 - 64;
    assert_eq!(queue.append(Append::default(), &vec![0; max + 1]), Err(Refused::TooLarge { len: max + 1, max }));
    assert_eq!(queue.claim(max + 1).unwrap_err(), Refused::TooLarge { len: max + 1, max });
    queue.append_wait(Append::default(), &vec![9; max], Duration::from_secs(1)).unwrap();
    queue.maintain();
    queue.append_wait(Append::default(), &vec![9; max], Duration::from_secs(1)).unwrap();
}

#[test]
fn s_19_waiting_ends_with_a_frame_with_time_and_with_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), PublisherOptions { helper: true, ..small() });
    let mut reader = Queue::subscriber(&Linux, dir.path(), "sleeper", at(Start::Earliest)).unwrap();
    assert_eq!(reader.wait(Duration::from_millis(1)).unwrap(), Waited::TimedOut);
    assert_eq!(reader.writer_status(Duration::from_secs(5)).unwrap(), WriterStatus::Alive);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=500 {
                if n % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(3));
                }
                put(&mut queue, n);
            }
        });
        let mut n = 1;
        while n <= 500 {
            assert_eq!(reader.wait(Duration::from_secs(20)).unwrap(), Waited::Ready, "frame {n}");
            take(&mut reader, n);
            n += 1;
        }
    });
    queue.close().unwrap();
    assert_eq!(reader.writer_status(Duration::from_secs(5)).unwrap(), WriterStatus::LockLost);
    assert_eq!(reader.wait(Duration::from_secs(20)).unwrap(), Waited::Disconnected(Disconnect::Closed));
    let queue = publisher(dir.path(), small());
    drop(queue);
    assert_eq!(reader.wait(Duration::from_secs(20)).unwrap(), Waited::Disconnected(Disconnect::Died));
    let mut queue = publisher(dir.path(), small());
    put(&mut queue, 501);
    take(&mut reader, 501);
}

/// Who merges queues must know the next frame's time and stay in front of it, over rolls and a lap.
#[test]
fn a_peek_tells_the_next_time_and_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), small());
    let mut reader = Queue::observer(&Linux, dir.path(), at(Start::Earliest)).unwrap();
    assert_eq!(reader.peek_time().unwrap(), None);
    for n in 1..=300 {
        put(&mut queue, n);
        assert_eq!((reader.peek_time().unwrap(), reader.peek_time().unwrap()), (Some(n * 10), Some(n * 10)));
        take(&mut reader, n);
        assert_eq!(reader.peek_time().unwrap(), None);
    }
    assert!(queue.counters().rolls > 2);
    // Nobody holds segments back for an observer: it is lapped, is told so once, and goes on.
    for n in 301..=2000 {
        put(&mut queue, n);
    }
    let mut n = 301;
    let resume_at = loop {
        match reader.peek_time() {
            Ok(Some(_)) => take(&mut reader, n),
            Err(ReadError::Lapped { resume_at }) => break resume_at,
            other => panic!("{other:?} at {n}"),
        }
        n += 1;
    };
    assert_eq!(reader.peek_time().unwrap(), Some(resume_at * 10));
    take(&mut reader, resume_at);
}

/// Who finishes later than it reads goes on, after a restart, with what it has not finished; and that is still there.
#[test]
fn a_cursor_may_stay_behind_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = publisher(dir.path(), small());
    let open = || Queue::subscriber(&Linux, dir.path(), "slow", SubscriberOptions::default()).unwrap();
    let mut reader = open();
    let mut behind = Vec::new();
    for n in 1..=500 {
        put(&mut queue, n);
        take(&mut reader, n);
        behind.push(reader.position().unwrap());
        // Done with all but the last fifty.
        if n > 50 {
            let done = behind[n as usize - 51];
            if n % 2 == 0 { reader.commit_at(done).unwrap() } else { reader.commit_durable_at(done).unwrap() }
        }
    }
    assert!(queue.counters().rolls > 5);
    drop(reader);
    let mut reader = open();
    assert!(reader.commit_at(behind[499]).is_err(), "it does not stand there yet");
    let other = tempfile::tempdir().unwrap();
    let mut elsewhere = publisher(other.path(), small());
    put(&mut elsewhere, 1);
    let mut stranger = Queue::subscriber(&Linux, other.path(), "slow", SubscriberOptions::default()).unwrap();
    take(&mut stranger, 1);
    assert!(reader.commit_at(stranger.position().unwrap()).is_err(), "another queue");
    for n in 451..=500 {
        take(&mut reader, n);
    }
    assert!(reader.next().unwrap().is_none());
}

/// The same answer as a reader's, from two small files.
#[test]
fn a_writer_is_looked_for_without_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let ttl = Duration::from_secs(60);
    assert!(detect_disconnect(&Linux, dir.path(), ttl).unwrap_err().is_not_found());
    let queue = publisher(dir.path(), small());
    let reader = Queue::observer(&Linux, dir.path(), at(Start::Earliest)).unwrap();
    let both = |ttl| {
        let alone = detect_disconnect(&Linux, dir.path(), ttl).unwrap();
        assert_eq!(alone.is_some(), reader.detect_disconnect(ttl).unwrap().is_some());
        alone
    };
    assert_eq!(both(ttl), None);
    std::thread::sleep(Duration::from_millis(20));
    assert!(matches!(both(Duration::from_millis(5)), Some(Disconnect::Stale { .. })), "nobody maintains it");
    queue.close().unwrap();
    assert_eq!(both(ttl), Some(Disconnect::Closed));
    drop(publisher(dir.path(), small()));
    assert_eq!(both(ttl), Some(Disconnect::Died));
    std::fs::write(dir.path().join("control.meta"), b"short").unwrap();
    assert!(detect_disconnect(&Linux, dir.path(), ttl).is_err());
}

#[test]
fn names_and_options_from_outside_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    publisher(dir.path(), small());
    for name in ["../x", "", "a/b", ".hidden", "a..b", "UPPER", &"x".repeat(65)] {
        let error = Queue::subscriber(&Linux, dir.path(), name, SubscriberOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Name(_)), "{name}: {error}");
    }
    for options in [
        PublisherOptions { segment_len: 1000, ..small() },
        PublisherOptions { max_bytes: 3 * 4096, ..small() },
        PublisherOptions { segments_ahead: 0, ..small() },
        PublisherOptions { required: vec!["../x".into()], ..small() },
    ] {
        Queue::publisher(&Linux, dir.path(), options).unwrap_err();
    }
    if chronicle_platform::Platform::medium(&Linux, dir.path()).unwrap() == chronicle_platform::Medium::Disk {
        let options = PublisherOptions { checksum: Checksum::CommitWord, ..small() };
        let error = Queue::publisher(&Linux, dir.path(), options).unwrap_err();
        assert!(error.to_string().contains("commit words"), "{error}");
    }
    let error = Queue::observer(&Linux, dir.path().join("absent"), SubscriberOptions::default()).unwrap_err();
    assert!(error.is_not_found());
    // One reader for each name.
    let one = Queue::subscriber(&Linux, dir.path(), "one", SubscriberOptions::default()).unwrap();
    let error = Queue::subscriber(&Linux, dir.path(), "one", SubscriberOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(one);
    Queue::subscriber(&Linux, dir.path(), "one", SubscriberOptions::default()).unwrap();
}
