//! How often one caller may ask: a bucket of permits each, which fills steadily.
//!
//! Without it a loop in somebody's script takes every connection of the warehouse from everybody
//! else. The limit is far above what a person or a page asks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A caller that was idle may ask this many seconds' worth at once.
const BURST_SECONDS: f64 = 4.0;

/// Subjects of signed claims are anybody's names; more of them than this start over.
const CALLERS_MAX: usize = 10_000;

/// Counts each caller's requests.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    /// By the caller's name.
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    permits: f64,
    filled: Instant,
}

impl Pace {
    /// So many requests a second for each caller.
    pub fn new(requests_per_second: u32) -> Self {
        Self {
            per_second: f64::from(requests_per_second.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// Takes a permit, or says how long until there is one.
    pub(super) fn admit(&self, caller: &str, now: Instant) -> Result<(), Duration> {
        let full = self.per_second * BURST_SECONDS;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(caller) {
            if buckets.len() >= CALLERS_MAX {
                buckets.clear();
            }
            let fresh = Bucket {
                permits: full,
                filled: now,
            };
            buckets.insert(caller.to_owned(), fresh);
        }
        let Some(bucket) = buckets.get_mut(caller) else {
            return Ok(());
        };
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.permits = (bucket.permits + since * self.per_second).min(full);
        bucket.filled = now;
        if bucket.permits >= 1.0 {
            bucket.permits -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - bucket.permits) / self.per_second,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_others_do_not() {
        let (pace, now) = (Pace::new(10), Instant::now());
        for _ in 0..40 {
            pace.admit("a", now).unwrap();
        }
        let wait = pace.admit("a", now).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        pace.admit("b", now).unwrap();
        pace.admit("a", now + Duration::from_millis(101)).unwrap();
        assert!(pace.admit("a", now + Duration::from_millis(101)).is_err());
    }
}
