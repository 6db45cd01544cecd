//! When a child that ended comes back: policy, budget and backoff, as pure decisions.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Which ends of a child are followed by a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Every end: the child is meant to run for as long as its supervisor.
    #[default]
    Permanent,
    /// A failure or a kill; a normal stop is its own decision.
    Transient,
    /// None.
    Temporary,
}

/// How many restarts within a window until the child is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    pub restarts_max: usize,
    pub window: Duration,
}

impl Default for RestartBudget {
    /// Five in thirty seconds: with the default backoff a child that always fails at once is
    /// parked after about three seconds.
    fn default() -> Self {
        Self {
            restarts_max: 5,
            window: Duration::from_secs(30),
        }
    }
}

/// How long a restart waits. The first within the budget's window does not wait; the second waits
/// `initial`, each later one twice as long up to `max`, shortened at random by up to a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The wait before the restart that follows `earlier` ones; `jitter` is uniform in 0..1.
    fn delay(self, earlier: usize, jitter: f64) -> Duration {
        let Some(doublings) = earlier.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.saturating_pow(u32::try_from(doublings).unwrap_or(u32::MAX));
        self.initial
            .saturating_mul(factor)
            .min(self.max)
            .mul_f64(1.0 - jitter / 2.0)
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Stopped,
    /// Killed, panicked, or left a handler with an error.
    Failed(String),
}

/// What the supervisor does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    RestartNow,
    RestartAfter(Duration),
    /// Its budget is used up.
    Park,
    /// By its policy it stays down.
    LeaveStopped,
}

/// One child's restarts within its budget's window.
#[derive(Clone, Debug, Default)]
pub(super) struct RestartTracker {
    recent: VecDeque<Instant>,
}

impl RestartTracker {
    pub(super) fn decide(
        &mut self,
        (policy, budget, backoff): (RestartPolicy, RestartBudget, Backoff),
        ending: &Ending,
        now: Instant,
        jitter: f64,
    ) -> Decision {
        let stays_down = match policy {
            RestartPolicy::Permanent => false,
            RestartPolicy::Transient => *ending == Ending::Stopped,
            RestartPolicy::Temporary => true,
        };
        if stays_down {
            return Decision::LeaveStopped;
        }
        self.recent
            .retain(|restart| now.duration_since(*restart) < budget.window);
        if self.recent.len() >= budget.restarts_max {
            return Decision::Park;
        }
        let delay = backoff.delay(self.recent.len(), jitter);
        self.recent.push_back(now);
        if delay.is_zero() {
            Decision::RestartNow
        } else {
            Decision::RestartAfter(delay)
        }
    }

    /// A person restarted the child: it has its whole budget again.
    pub(super) fn reset(&mut self) {
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: RestartBudget = RestartBudget {
        restarts_max: 4,
        window: Duration::from_secs(10),
    };
    const BACKOFF: Backoff = Backoff {
        initial: Duration::from_millis(100),
        max: Duration::from_millis(150),
    };

    fn decide(tracker: &mut RestartTracker, policy: RestartPolicy, now: Instant) -> Decision {
        let ending = Ending::Failed("broken".into());
        tracker.decide((policy, BUDGET, BACKOFF), &ending, now, 0.0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_restart_is_at_once_later_ones_wait_longer_and_then_the_child_is_parked() {
        let (mut tracker, now) = (RestartTracker::default(), Instant::now());
        let mut next = || decide(&mut tracker, RestartPolicy::Permanent, now);
        assert_eq!(next(), Decision::RestartNow);
        assert_eq!(next(), Decision::RestartAfter(Duration::from_millis(100)));
        assert_eq!(next(), Decision::RestartAfter(Duration::from_millis(150)));
        assert_eq!(next(), Decision::RestartAfter(Duration::from_millis(150)));
        assert_eq!(next(), Decision::Park);
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_that_are_older_than_the_window_do_not_count() {
        let (mut tracker, now) = (RestartTracker::default(), Instant::now());
        for _ in 0..4 {
            decide(&mut tracker, RestartPolicy::Permanent, now);
        }
        let later = now + BUDGET.window;
        assert_eq!(
            decide(&mut tracker, RestartPolicy::Permanent, later),
            Decision::RestartNow
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_policy_says_which_endings_are_followed_by_a_restart() {
        let failed = Ending::Failed("killed".into());
        for (policy, ending, restarts) in [
            (RestartPolicy::Permanent, &Ending::Stopped, true),
            (RestartPolicy::Permanent, &failed, true),
            (RestartPolicy::Transient, &Ending::Stopped, false),
            (RestartPolicy::Transient, &failed, true),
            (RestartPolicy::Temporary, &failed, false),
        ] {
            let mut tracker = RestartTracker::default();
            let decision = tracker.decide((policy, BUDGET, BACKOFF), ending, Instant::now(), 0.0);
            assert_eq!(
                decision == Decision::RestartNow,
                restarts,
                "{policy:?} {ending:?}"
            );
        }
    }

    #[test]
    fn jitter_shortens_a_delay_by_up_to_a_half() {
        assert_eq!(BACKOFF.delay(1, 1.0), Duration::from_millis(50));
        assert_eq!(BACKOFF.delay(0, 1.0), Duration::ZERO);
        assert_eq!(BACKOFF.delay(usize::MAX, 0.0), BACKOFF.max);
    }
}
