//! The only place that knows the time.
//!
//! *Business* time (date phrases, seeds, freshness of sources) may be offset with `--now`; it ticks
//! on from there. *Real* time (time-outs, leases, runs, spans) is never offset.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// Shared by everything that needs the time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Microseconds that business time is ahead of real time.
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// A clock whose business time is the real time.
    pub fn system() -> Self {
        Self {
            offset: Arc::default(),
        }
    }

    /// A clock whose business time is `now` at this moment, and ticks on.
    pub fn starting_at(now: Timestamp) -> Self {
        Self {
            offset: Arc::new(AtomicI64::new(micros(now.duration_since(real_now())))),
        }
    }

    /// Business time, UTC.
    pub fn business_now(&self) -> Timestamp {
        self.business(real_now())
    }

    /// The business time of a real time.
    pub fn business(&self, real: Timestamp) -> Timestamp {
        let offset = SignedDuration::from_micros(self.offset.load(Ordering::Relaxed));
        real.saturating_add(offset).unwrap_or(Timestamp::MAX)
    }

    /// Moves business time, for every clone: tests of what happens at some time drive it.
    pub fn advance(&self, by: SignedDuration) {
        self.offset.fetch_add(micros(by), Ordering::Relaxed);
    }

    /// Real time, UTC: runs, leases, spans.
    pub fn real_now(&self) -> Timestamp {
        real_now()
    }
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock is the one place that reads the time"
)]
fn real_now() -> Timestamp {
    Timestamp::now()
}
