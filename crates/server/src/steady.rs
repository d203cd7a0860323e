//! Whether the wall clock can be believed. It may be set, and a machine may sleep; timers do neither. What is decided by
//! silence begins anew after a jump, and what is destroyed by age waits until the clock has gone evenly for a while.

use std::time::Duration;

use kluis_core::clock::Timestamp;
use tokio::time::Instant;

/// How long the wall clock must have gone evenly before anything is destroyed by it.
const STEADY: Duration = Duration::from_mins(10);
/// How far wall clock and timers may part between two looks.
const DRIFT: Duration = Duration::from_secs(5);

/// The wall clock, compared with the runtime's timers at each look.
#[derive(Debug)]
pub(crate) struct SteadyClock {
    wall: Timestamp,
    timer: Instant,
    since: Instant,
}

impl SteadyClock {
    /// Begins to watch; not steady yet.
    pub(crate) fn new(now: Timestamp) -> Self {
        let timer = Instant::now();
        Self { wall: now, timer, since: timer }
    }

    /// By how many milliseconds the wall clock has jumped since the last look; negative when it was set back.
    pub(crate) fn jump(&mut self, now: Timestamp) -> Option<i64> {
        let passed = i64::try_from(self.timer.elapsed().as_millis()).unwrap_or(i64::MAX);
        let parted = now.millis().saturating_sub(self.wall.millis()).saturating_sub(passed);
        (self.wall, self.timer) = (now, Instant::now());
        if parted.unsigned_abs() <= DRIFT.as_millis() as u64 {
            return None;
        }
        tracing::warn!("the clock jumped; nothing is destroyed by it until it has gone evenly for ten minutes");
        self.since = self.timer;
        Some(parted)
    }

    /// Whether it has gone evenly for long enough, as of the last look.
    pub(crate) fn is_steady(&self) -> bool {
        self.timer.duration_since(self.since) >= STEADY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_destroyed_by_a_clock_that_jumped() {
        let minute = Duration::from_mins(1);
        let mut wall = Timestamp::from_seconds(1_000_000);
        let mut clock = SteadyClock::new(wall);
        let mut pass = async |minutes: u64, jump: u64| {
            for passed in 0..minutes {
                tokio::time::advance(minute).await;
                wall = wall.plus(minute + Duration::from_secs(if passed == 0 { jump } else { 0 }));
                assert_eq!(clock.jump(wall).is_some(), passed == 0 && jump > 0);
            }
            clock.is_steady()
        };
        assert!(!pass(9, 0).await);
        assert!(pass(1, 0).await);
        assert!(!pass(9, 100 * 24 * 3600).await, "a jump of a hundred days destroys nothing");
        assert!(pass(2, 0).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_back_starts_anew() {
        let wall = Timestamp::from_seconds(1_000_000);
        let mut clock = SteadyClock::new(wall);
        tokio::time::advance(STEADY).await;
        assert!(clock.jump(wall.plus(STEADY)).is_none() && clock.is_steady());
        assert!(clock.jump(wall).is_some() && !clock.is_steady());
    }
}
