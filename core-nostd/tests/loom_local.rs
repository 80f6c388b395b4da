//! The ring of values on every schedule. loom watches each slot: an access by one end that is not ordered after the other
//! end's last one is a failure, whatever value it would see.
#![cfg(loom)]

mod models;

use chronicle_core::{
    ring::local::{self, Consumer, Producer, Ring},
    twin::{Weak, with},
};
use loom::thread;
use models::{check, must_fail};

fn take_all(consumer: &mut Consumer<'_, u32>, next: &mut u32) {
    while let Some(value) = consumer.pop() {
        assert_eq!(value, *next);
        *next += 1;
    }
}

fn push_all(producer: &mut Producer<'_, u32>, values: std::ops::Range<u32>) -> u32 {
    for value in values.clone() {
        if producer.push(value).is_err() {
            return value;
        }
    }
    values.end
}

/// Two slots, one of them used before: each end reuses what the other one gives back.
fn pass() {
    let (mut producer, mut consumer) = local::channel(2).unwrap();
    push_all(&mut producer, 0..1);
    let producing = thread::spawn(move || push_all(&mut producer, 1..4));
    let mut next = 0;
    take_all(&mut consumer, &mut next);
    let end = producing.join().unwrap();
    take_all(&mut consumer, &mut next);
    assert_eq!(next, end);
}

fn pass_chunks() {
    let (mut producer, mut consumer) = local::channel(2).unwrap();
    push_all(&mut producer, 0..2);
    let producing = thread::spawn(move || {
        let filled = producer.write_chunk_uninit(1).map_or(0, |chunk| chunk.fill_from_iter([2]));
        push_all(&mut producer, 2 + filled as u32..4)
    });
    let mut values = consumer.read_chunk(2).unwrap().into_iter();
    assert_eq!(values.next(), Some(0));
    drop(values);
    let mut next = 1;
    take_all(&mut consumer, &mut next);
    let end = producing.join().unwrap();
    take_all(&mut consumer, &mut next);
    assert_eq!(next, end);
}

#[test]
fn each_value_is_handed_over() {
    check(None, pass);
    check(None, pass_chunks);
}

/// The ring goes with the second end, on either thread, and what is left in it too.
#[test]
fn the_last_end_drops_what_is_left() {
    check(None, || {
        let (mut producer, mut consumer) = local::channel(2).unwrap();
        let value = std::sync::Arc::new(());
        let clones = [value.clone(), value.clone()];
        let producing = thread::spawn(move || clones.map(|clone| producer.push(clone).unwrap()));
        drop(consumer.pop());
        drop(consumer);
        producing.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    });
}

/// Whoever sees that the producer is gone sees all that it pushed.
#[test]
fn after_the_producer_is_gone_nothing_comes() {
    check(None, || {
        let (mut producer, mut consumer) = local::channel(4).unwrap();
        let producing = thread::spawn(move || {
            push_all(&mut producer, 0..2);
        });
        let mut next = 0;
        take_all(&mut consumer, &mut next);
        if consumer.is_abandoned() {
            take_all(&mut consumer, &mut next);
            assert_eq!(next, 2);
        }
        producing.join().unwrap();
    });
}

#[test]
fn twin_a_tail_stored_relaxed_hands_over_a_slot_that_is_being_written() {
    must_fail(|| with(Weak::CommitRelaxed, || check(None, pass)));
    must_fail(|| with(Weak::CommitRelaxed, || check(None, pass_chunks)));
}

#[test]
fn twin_a_head_stored_relaxed_gives_back_a_slot_that_is_being_read() {
    must_fail(|| with(Weak::HeadRelaxed, || check(None, pass)));
    must_fail(|| with(Weak::HeadRelaxed, || check(None, pass_chunks)));
}

#[test]
fn a_lent_ring_keeps_what_is_left_for_the_next_ends() {
    check(None, || {
        let mut ring: Ring<u32, 2> = Ring::new();
        ring.split().0.push(7).unwrap();
        assert_eq!(ring.split().1.pop(), Some(7));
    });
}
