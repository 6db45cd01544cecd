//! Wakes whoever waits for work of a kind, within this process.
//!
//! A wake-up is only a hint: work enqueued elsewhere, or before anyone listened, is found by the
//! poll that every wait falls back to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How long a lost wake-up can delay work.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// One counter a kind of work; counting up wakes.
#[derive(Clone, Debug, Default)]
pub(super) struct WakeHub {
    kinds: Arc<Mutex<HashMap<String, watch::Sender<u64>>>>,
}

impl WakeHub {
    pub(super) fn wake(&self, kind: &str) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds
            .entry(kind.to_owned())
            .or_default()
            .send_modify(|count| *count += 1);
    }

    pub(super) fn subscribe(&self, kind: &str) -> Wake {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        Wake {
            changes: kinds.entry(kind.to_owned()).or_default().subscribe(),
        }
    }
}

/// Waits for work of one kind.
#[derive(Debug)]
pub struct Wake {
    changes: watch::Receiver<u64>,
}

impl Wake {
    /// Returns when work was enqueued since the last call, or after the poll interval (1 s).
    pub async fn wait(&mut self) {
        // Both outcomes mean "look at the table"; the hub cannot close while the store lives.
        let _ = tokio::time::timeout(POLL_INTERVAL, self.changes.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_between_two_waits_is_not_lost() {
        let hub = WakeHub::default();
        let mut wake = hub.subscribe("sync");
        hub.wake("sync");
        let before = tokio::time::Instant::now();
        wake.wait().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_wake_up_the_poll_interval_ends_the_wait() {
        let hub = WakeHub::default();
        let mut wake = hub.subscribe("sync");
        hub.wake("build");
        let before = tokio::time::Instant::now();
        wake.wait().await;
        assert_eq!(before.elapsed(), POLL_INTERVAL);
    }
}
