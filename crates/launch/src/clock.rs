//! The launcher's clock: the machine's wall time once, at the start, and from then on the time since boot. A clock that
//! is set while a run runs would otherwise carry every signed request out of the server's window.

use std::time::Duration;

use kluis_core::clock::{Clock, SystemClock, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// A clock that never jumps, and goes on while the machine sleeps.
#[derive(Debug)]
pub(crate) struct SteadyClock {
    start: Timestamp,
    boot: Duration,
}

impl SteadyClock {
    pub(crate) fn start() -> Self {
        Self { start: SystemClock.now(), boot: since_boot() }
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.start.plus(since_boot().saturating_sub(self.boot))
    }
}
