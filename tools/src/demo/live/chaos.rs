//! Chaos: everybody but the exchange is killed, in random order, while the exchange does what it can to confuse them.
//!
//! The order of deaths and faults, and the times between them, are a seed's. What a process was doing when it was hit is
//! not: the same seed is the same plan, not the same run.

use super::{super::worker::Id, Cast};
use crate::run::Outcome;
use chronicle_exchange::random::Random;
use std::time::{Duration, Instant};

/// What the exchange does wrong, one each time somebody dies.
const FAULTS: [&str; 18] = [
    "what=skip&channel=depth",
    "what=skip&channel=any&times=3",
    "what=duplicate&channel=any&times=5",
    "what=reorder&channel=depth",
    "what=delay&channel=depth&ms=300",
    "what=garbage&kind=json",
    "what=garbage&kind=utf8",
    "what=garbage&kind=binary",
    "what=drop&how=reset",
    "what=drop&how=silent",
    "what=drop&how=close",
    "what=close_in_snapshot",
    "what=snapshot_garbage",
    "what=status&step=snapshot&code=503",
    "what=status&step=snapshot&code=429",
    "what=close_at&step=upgrade&times=2",
    "what=close_at&step=answer",
    "what=close_at&step=order",
];
/// Longest time between two deaths, and from a death to the next life.
const NEXT_MS: u64 = 1_500;
const DEAD_MS: u64 = 300;
/// How often the tier manager is killed, and after what time at most.
const STRIKES: u64 = 3;
const STRIKE_MS: u64 = 60;

pub(super) fn play(cast: &mut Cast<'_>, random: &mut Random, until: Instant) -> Outcome {
    cast.witness.scene("chaos");
    while Instant::now() < until {
        // Everybody once in each round, in an order of its own.
        let mut round = vec![cast.feed, cast.taker, cast.maker, cast.router, cast.refinery];
        while !round.is_empty() && Instant::now() < until {
            let who = round.swap_remove(random.below(round.len() as u64) as usize);
            let fault = FAULTS[random.below(FAULTS.len() as u64) as usize];
            let (next, dead) = (random.below(NEXT_MS), random.below(DEAD_MS));
            cast.misbehave(fault, 0)?;
            wait(cast, next)?;
            cast.kill(who, "at any moment")?;
            wait(cast, dead)?;
            cast.crew.again(who)?;
        }
    }
    Ok(())
}

/// Kills somebody who has a task with an end, some times, and starts it again; unless it was faster.
pub(super) fn strike(cast: &mut Cast<'_>, who: Id, random: &mut Random) -> Outcome {
    for _ in 0..STRIKES {
        wait(cast, random.below(STRIKE_MS))?;
        if cast.crew.has_ended(who)? {
            break;
        }
        cast.kill(who, "at any moment")?;
        cast.crew.again(who)?;
    }
    Ok(())
}

fn wait(cast: &mut Cast<'_>, ms: u64) -> Outcome {
    let until = Instant::now() + Duration::from_millis(ms);
    while Instant::now() < until {
        cast.pause()?;
    }
    Ok(())
}
