//! The only place that knows the time.
//!
//! *Business* time (date phrases, seeds, freshness of sources) may be offset with `--now`; it ticks
//! on from there. *Real* time (time-outs, leases, runs, spans) is never offset.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// Shared by everything that needs the time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: Arc<SignedDuration>,
}

impl Clock {
    /// A clock whose business time is the real time.
    pub fn system() -> Self {
        Self {
            offset: Arc::new(SignedDuration::ZERO),
        }
    }

    /// A clock whose business time is `now` at this moment, and ticks on.
    pub fn starting_at(now: Timestamp) -> Self {
        Self {
            offset: Arc::new(now.duration_since(real_now())),
        }
    }

    /// Business time, UTC.
    pub fn business_now(&self) -> Timestamp {
        real_now()
            .saturating_add(*self.offset)
            .unwrap_or(Timestamp::MAX)
    }

    /// Real time, UTC: runs, leases, spans.
    pub fn real_now(&self) -> Timestamp {
        real_now()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock is the one place that reads the time"
)]
fn real_now() -> Timestamp {
    Timestamp::now()
}
