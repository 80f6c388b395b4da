//! The ring of values in shared memory on every schedule: values whole and in order, one at a time and many by one store.
//!
//! As in `loom_spsc.rs` loom cannot refute a head that is stored Relaxed around words; `loom_local.rs` does.
#![cfg(loom)]

mod models;

use chronicle_core::{
    HeapRegion,
    ring::slots::{self, Consumer, Producer, Spec},
    twin::{Weak, mortal, with},
};
use loom::thread;
use models::{check, must_fail};
use std::sync::Arc;

type Value = [u32; 2];

fn ring(count: usize) -> Arc<HeapRegion> {
    let region = Arc::new(HeapRegion::new(slots::len::<Value>(count).unwrap()));
    slots::format::<Value, _>(&region, &Spec { count, ..Spec::default() }).unwrap();
    region
}

fn value(number: u32) -> Value {
    [number, !number]
}

fn take_all(consumer: &mut Consumer<Value, Arc<HeapRegion>>, next: &mut u32) {
    while let Some(found) = consumer.pop().expect("no damage on any schedule") {
        assert_eq!(found, value(*next));
        *next += 1;
    }
}

fn pass(produce: fn(&mut Producer<Value, Arc<HeapRegion>>) -> u32) {
    let region = ring(2);
    let mut producer = Producer::attach(region.clone()).unwrap();
    let mut consumer = Consumer::attach(region).unwrap();
    producer.push(value(0)).unwrap();
    let producing = thread::spawn(move || produce(&mut producer));
    let mut next = 0;
    take_all(&mut consumer, &mut next);
    let end = producing.join().unwrap();
    take_all(&mut consumer, &mut next);
    assert_eq!(next, end);
}

fn singles(producer: &mut Producer<Value, Arc<HeapRegion>>) -> u32 {
    (1..4).find(|number| producer.push(value(*number)).is_err()).unwrap_or(4)
}

fn slices(producer: &mut Producer<Value, Arc<HeapRegion>>) -> u32 {
    let first = producer.push_slice(&[value(1), value(2)]).unwrap() as u32;
    first + producer.push_slice(&[value(1 + first)]).unwrap() as u32 + 1
}

#[test]
fn each_value_is_whole_and_the_next() {
    check(None, || pass(singles));
    check(None, || pass(slices));
}

#[test]
fn twin_a_tail_stored_relaxed_shows_half_a_value() {
    must_fail(|| with(Weak::CommitRelaxed, || check(None, || pass(singles))));
    must_fail(|| with(Weak::CommitRelaxed, || check(None, || pass(slices))));
}

/// A producer that dies between any two stores is followed by another one.
#[test]
fn a_producer_that_dies_between_any_two_stores_leaves_whole_values() {
    for steps in 0..20 {
        check(Some(2), move || {
            let region = ring(4);
            let mut consumer = Consumer::attach(region.clone()).unwrap();
            let producing = thread::spawn(move || {
                let mut producer = Producer::<Value, _>::attach(region.clone()).unwrap();
                let _ = mortal(steps, || {
                    producer.stage(value(0)).unwrap();
                    producer.stage(value(1)).unwrap();
                    producer.publish();
                    producer.push(value(2)).unwrap();
                });
                let mut producer = Producer::<Value, _>::attach(region).unwrap();
                for number in producer.next_seq() as u32 - 1..4 {
                    producer.push(value(number)).unwrap();
                }
            });
            let mut next = 0;
            take_all(&mut consumer, &mut next);
            producing.join().unwrap();
            take_all(&mut consumer, &mut next);
            assert_eq!(next, 4);
        });
    }
}
