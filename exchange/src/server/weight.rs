//! What requests cost, as Binance counts: each has a weight, and in a minute of the clock there is only so much of it.
//!
//! ```text
//! within it             answered
//! past it               429, Retry-After: the seconds to the next minute
//! asked on all the same 418, Retry-After: a ban that begins anew with each further request
//! ```
//!
//! All clients share one account: they come from one host. Orders are not counted; venues limit those apart.

/// Requests past the limit in one minute after which it is a ban.
const PATIENCE: u32 = 10;
/// How long that lasts.
const BAN_MS: u64 = 120_000;
const MINUTE_MS: u64 = 60_000;

/// What was asked for in the present minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weights {
    minute: u64,
    used: u32,
    refused: u32,
    banned_until_ms: u64,
}

/// A request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    /// 429 or 418.
    pub(super) status: u16,
    /// When it may be asked again.
    pub(super) retry_after_s: u64,
}

impl Weights {
    /// Counts a request of this weight; what was used up in this minute, it included.
    pub(super) fn take(&mut self, weight: u32, most: u32, now_ms: u64) -> Result<u32, TooMuch> {
        if self.minute != now_ms / MINUTE_MS {
            *self = Self { minute: now_ms / MINUTE_MS, banned_until_ms: self.banned_until_ms, ..Self::default() };
        }
        let is_banned = now_ms < self.banned_until_ms;
        let used = self.used.saturating_add(weight);
        if !is_banned && used <= most {
            self.used = used;
            return Ok(used);
        }
        self.refused += 1;
        if is_banned || self.refused > PATIENCE {
            self.banned_until_ms = now_ms + BAN_MS;
            return Err(TooMuch { status: 418, retry_after_s: BAN_MS / 1000 });
        }
        Err(TooMuch { status: 429, retry_after_s: (MINUTE_MS - now_ms % MINUTE_MS).div_ceil(1000) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_much_and_who_does_not_wait_is_banned() {
        let (mut weights, most, now) = (Weights::default(), 100, 600_000 + 12_345);
        assert_eq!(weights.take(50, most, now), Ok(50));
        assert_eq!(weights.take(50, most, now), Ok(100));
        for _ in 0..PATIENCE {
            assert_eq!(weights.take(1, most, now), Err(TooMuch { status: 429, retry_after_s: 48 }));
        }
        // Who waits for the next minute is answered again.
        assert_eq!(weights.clone().take(1, most, 660_000), Ok(1));
        let ban = Err(TooMuch { status: 418, retry_after_s: 120 });
        assert_eq!(weights.take(1, most, now), ban);
        assert_eq!(weights.take(1, most, 660_000), ban, "a new minute does not end it");
        assert_eq!(weights.take(1, most, 660_000 + BAN_MS - 1), ban, "and asking makes it longer");
        assert_eq!(weights.take(1, most, 660_000 + 2 * BAN_MS), Ok(1));
    }
}
