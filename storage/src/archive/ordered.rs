//! Work on several threads whose results come back in order, with a bounded number of pieces in memory.
//!
//! The calling thread makes the pieces and takes the results, so all that it does (reading, hashing, writing, calling
//! back) happens in one order whatever the threads do. The others only turn a piece into a result. With one thread
//! nothing is started and everything happens in place.

use std::{
    collections::BTreeMap,
    sync::{Mutex, mpsc},
    thread,
};

/// Turns pieces into results on `threads` threads, `2 * threads + 1` pieces in memory at most.
///
/// `make` returns the next piece, given a result that was taken and may be used again; `None` ends it. `worker` makes
/// each thread's own state and `turn` does the work with it. `take` gets the results in the order of the pieces.
///
/// The first error of `make` or `take` ends it, as soon as the pieces under way are done.
pub(crate) fn run<Piece, Done, State, E>(
    threads: usize,
    mut make: impl FnMut(Option<Done>) -> Result<Option<Piece>, E>,
    worker: impl Fn() -> State + Sync,
    turn: impl Fn(&mut State, Piece) -> Done + Sync,
    mut take: impl FnMut(&mut Done) -> Result<(), E>,
) -> Result<(), E>
where
    Piece: Send,
    Done: Send,
{
    if threads <= 1 {
        let mut state = worker();
        let mut spare = None;
        while let Some(piece) = make(spare.take())? {
            let mut done = turn(&mut state, piece);
            take(&mut done)?;
            spare = Some(done);
        }
        return Ok(());
    }
    let limit = 2 * threads + 1;
    thread::scope(|scope| {
        // Dropped before the scope waits for the threads: they then see that nothing more comes, on every way out.
        let (pieces, queue) = mpsc::channel::<(usize, Piece)>();
        let (results, done) = mpsc::channel::<(usize, Done)>();
        let queue = std::sync::Arc::new(Mutex::new(queue));
        let (worker, turn) = (&worker, &turn);
        for _ in 0..threads {
            let (queue, results) = (queue.clone(), results.clone());
            scope.spawn(move || {
                let mut state = worker();
                loop {
                    let Ok(next) = queue.lock() else { return };
                    let Ok((i, piece)) = next.recv() else { return };
                    drop(next);
                    if results.send((i, turn(&mut state, piece))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);

        let mut early = BTreeMap::new();
        let mut spares = Vec::new();
        let (mut made, mut taken, mut more) = (0, 0, true);
        while more || taken < made {
            while more && made - taken < limit {
                match make(spares.pop())? {
                    Some(piece) => {
                        // Fails only if every thread panicked; `recv` below then says so.
                        _ = pieces.send((made, piece));
                        made += 1;
                    }
                    None => more = false,
                }
            }
            if taken == made {
                continue;
            }
            let (i, result) = done.recv().expect("bug: a thread that worked on a piece panicked");
            early.insert(i, result);
            while let Some(mut result) = early.remove(&taken) {
                take(&mut result)?;
                spares.push(result);
                taken += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn results_come_in_order_whatever_the_threads() {
        for threads in [0, 1, 2, 7] {
            let mut next = 0u64;
            let mut seen = Vec::new();
            let (mut alive, mut most) = (0, 0);
            run::<_, _, _, Infallible>(
                threads,
                |spare: Option<u64>| {
                    alive += u64::from(spare.is_none());
                    most = most.max(alive);
                    next += 1;
                    Ok((next <= 1000).then_some(next))
                },
                || 0u64,
                |count, piece| {
                    *count += 1;
                    // Uneven work, so that later pieces overtake earlier ones.
                    (0..(piece * 7919) % 500).fold(piece, |acc, _| std::hint::black_box(acc))
                },
                |done| {
                    seen.push(*done);
                    Ok(())
                },
            )
            .unwrap();
            assert!(seen.iter().copied().eq(1..=1000), "{threads} threads");
            assert!(most <= 2 * threads as u64 + 2, "{most} pieces with {threads} threads");
        }
    }

    #[test]
    fn the_first_error_ends_it_and_nothing_hangs() {
        for threads in [1, 3] {
            let mut next = 0;
            let mut taken = 0;
            let refused = run(
                threads,
                |_| {
                    next += 1;
                    if next == 40 { Err("make") } else { Ok(Some(next)) }
                },
                || (),
                |(), piece: u32| piece,
                |_| {
                    taken += 1;
                    Ok(())
                },
            );
            assert_eq!(refused, Err("make"));
            assert!(taken < 40);
            let mut next = 0;
            let refused = run(
                threads,
                |_| {
                    next += 1;
                    Ok(Some(next))
                },
                || (),
                |(), piece: u32| piece,
                |done| if *done == 25 { Err("take") } else { Ok(()) },
            );
            assert_eq!(refused, Err("take"));
        }
    }
}
