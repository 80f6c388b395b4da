//! Sleeping and waking: no schedule leaves a reader asleep while there is something to read.
//!
//! The kernel's part is a lock and a condition variable for each word that is slept on: it compares and sleeps under
//! the lock, as a futex does. A sleep here has no time-out, so that one lost wake-up is a deadlock, and loom reports it.
//!
//! Loom knows no `membarrier`. Mode `Asymmetric` is modelled by a sequentially consistent fence on the writer's side,
//! where the kernel's interrupt puts one, and by [`wake::settle`] on the sleeper's; `docs/protocols.md` says why that is
//! the same.
#![cfg(loom)]

mod models;

use chronicle_core::{
    Append, Appender, Checksum, HeapRegion, Reader, Region, RegionMut, Spec, Step, format,
    twin::{Weak, with},
    wake::{self, Mode},
};
use loom::{
    sync::{Condvar, Mutex, atomic::fence},
    thread,
};
use models::{check, must_fail};
use std::sync::{Arc, atomic::Ordering};

/// What the kernel keeps for one futex word.
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    fn new() -> Self {
        Futex { lock: Mutex::new(()), sleepers: Condvar::new() }
    }

    fn wait(&self, as_expected: impl Fn() -> bool) {
        let held = self.lock.lock().unwrap();
        if as_expected() {
            drop(self.sleepers.wait(held).unwrap());
        }
    }

    fn wake_all(&self) {
        let _held = self.lock.lock().unwrap();
        self.sleepers.notify_all();
    }
}

struct Queue {
    segment: HeapRegion,
    /// `wake.meta`: one word.
    word: HeapRegion,
    futex: Futex,
}

fn queue() -> Arc<Queue> {
    let segment = HeapRegion::new(512);
    format(&segment, &Spec { segment_len: 512, checksum: Checksum::CommitWord, ..Spec::default() }).unwrap();
    Arc::new(Queue { segment, word: HeapRegion::new(4), futex: Futex::new() })
}

/// What stands between a commit and the look at the wake word, and between a mark and the second look at the log.
#[derive(Clone, Copy)]
enum Barrier {
    /// Mode `Fence`.
    Fences,
    /// Mode `Asymmetric`: the sleeper's `membarrier`.
    Membarrier,
    /// The writer orders nothing and the sleeper does.
    SleeperOnly,
    Nothing,
}

fn write(queue: &Queue, frames: u64, barrier: Barrier) {
    let mut log = Appender::attach(&queue.segment).unwrap();
    for time_ns in 1..=frames {
        log.append(Append { time_ns, ..Append::default() }, &[]).unwrap();
        let mode = match barrier {
            Barrier::Fences => Mode::Fence,
            Barrier::Membarrier => {
                fence(Ordering::SeqCst);
                Mode::Asymmetric
            }
            Barrier::SleeperOnly | Barrier::Nothing => Mode::Asymmetric,
        };
        if wake::after_commit(queue.word.window_mut(), 0, mode) {
            queue.futex.wake_all();
        }
    }
}

fn read(queue: &Queue, reader: &mut Reader<&HeapRegion>, frames: u64, barrier: Barrier) {
    loop {
        while let Step::Frame(frame) = reader.step().unwrap() {
            assert_eq!(frame.seq, frame.time_ns);
        }
        if reader.mark().next_seq() > frames {
            return;
        }
        let expected = wake::mark(queue.word.window_mut(), 0);
        if !matches!(barrier, Barrier::Nothing) {
            wake::settle();
        }
        if !reader.is_ready() {
            queue.futex.wait(|| queue.word.window().load(0) == expected);
        }
    }
}

fn one_sleeper(frames: u64, barrier: Barrier) {
    let queue = queue();
    let sleeper = {
        let queue = queue.clone();
        thread::spawn(move || read(&queue, &mut Reader::attach(&queue.segment).unwrap(), frames, barrier))
    };
    write(&queue, frames, barrier);
    sleeper.join().unwrap();
}

fn two_sleepers(barrier: Barrier) {
    let queue = queue();
    let sleepers: Vec<_> = (0..2)
        .map(|_| {
            let queue = queue.clone();
            thread::spawn(move || read(&queue, &mut Reader::attach(&queue.segment).unwrap(), 1, barrier))
        })
        .collect();
    write(&queue, 1, barrier);
    for sleeper in sleepers {
        sleeper.join().unwrap();
    }
}

#[test]
fn a_sleeper_is_woken_in_mode_fence() {
    check(Some(5), || one_sleeper(2, Barrier::Fences));
}

#[test]
fn a_sleeper_is_woken_in_mode_asymmetric() {
    check(Some(5), || one_sleeper(2, Barrier::Membarrier));
}

#[test]
fn two_sleepers_on_one_word_are_both_woken() {
    check(Some(3), || two_sleepers(Barrier::Fences));
}

#[test]
fn twin_without_a_barrier_a_sleeper_is_missed() {
    must_fail(|| check(None, || one_sleeper(1, Barrier::Nothing)));
}

#[test]
fn twin_a_barrier_on_one_side_is_none() {
    must_fail(|| check(None, || one_sleeper(1, Barrier::SleeperOnly)));
}

/// A flag of 0 and 1: the writer clears one sleeper's mark, another sets it again, and the first sleeps on it.
#[test]
fn twin_a_flag_without_generation_is_slept_on_when_another_sets_it_again() {
    must_fail(|| with(Weak::FlagOnly, || check(None, || two_sleepers(Barrier::Fences))));
}

/// Sleeping on the commit word itself: by the time that the writer sees the mark, the sleeper has moved on to the next
/// frame's word, and the writer wakes the one that it has just stored.
#[test]
fn twin_waiting_on_the_commit_word_sleeps_on_one_and_is_woken_on_another() {
    must_fail(|| check(None, waiting_on_the_commit_word));
}

fn waiting_on_the_commit_word() {
    let queue = queue();
    // One futex for each of the two frames' commit words.
    let words = Arc::new([Futex::new(), Futex::new()]);
    let sleeper = {
        let (queue, words) = (queue.clone(), words.clone());
        thread::spawn(move || {
            let mut reader = Reader::attach(&queue.segment).unwrap();
            loop {
                while let Step::Frame(_) = reader.step().unwrap() {}
                let due = reader.mark().next_seq();
                if due > 2 {
                    return;
                }
                let _ = wake::mark(queue.word.window_mut(), 0);
                wake::settle();
                words[due as usize - 1].wait(|| !reader.is_ready());
            }
        })
    };
    let mut log = Appender::attach(&queue.segment).unwrap();
    for word in words.iter() {
        log.append(Append::default(), &[]).unwrap();
        if wake::after_commit(queue.word.window_mut(), 0, Mode::Fence) {
            word.wake_all();
        }
    }
    sleeper.join().unwrap();
}
