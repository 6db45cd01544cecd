//! What is retried, what is not, and how long a retry waits.
//!
//! Every failure of a stage is of a class, and the class alone says what happens next:
//! [`FailureClass::directive`] is the one table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// The same command again after a pause: what was in its way goes away by itself.
    Retry,
    /// Nothing until a file is edited or new data arrives: that makes a command of its own.
    WaitForChange,
    /// Nothing until somebody mends the configuration, a right or the table, and asks again.
    WaitForPerson,
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The source is down, refuses, is slow, or the connection broke.
    SourceDown,
    /// The source lacks a table, a column or a right that the configuration asks for.
    SourceRefuses,
    /// The source's columns no longer fit those of the raw table, or of what depends on it.
    SourceChangedShape,
    /// The warehouse is down, busy, or gave up a statement.
    WarehouseDown,
    /// Files of the dbt project cannot be read or compiled.
    ProjectBroken,
    /// A model's SQL fails, or a test found wrong rows.
    ModelWrong,
    /// There is no data model that could be served.
    DataModelBroken,
    /// A bug; another attempt may take another way.
    #[default]
    Unexpected,
}

impl FailureClass {
    /// The table: which failure is retried, and which waits for what.
    pub fn directive(self) -> Directive {
        match self {
            Self::SourceDown | Self::WarehouseDown | Self::Unexpected => Directive::Retry,
            // The stage sees the edit itself, and the next load is a build of its own.
            Self::ProjectBroken | Self::ModelWrong | Self::DataModelBroken => {
                Directive::WaitForChange
            }
            Self::SourceRefuses | Self::SourceChangedShape => Directive::WaitForPerson,
        }
    }
}

/// How often a command is tried, and how long the pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// All in all; 1 never tries again.
    pub attempts: u32,
    /// The first pause, each later one is twice as long.
    pub backoff: Duration,
    /// No pause is longer.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The pause after so many attempts, shortened by up to a half, so that what failed together
    /// does not return together: `jitter` is uniform in 0..1.
    pub fn delay(self, attempts: u32, jitter: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(16);
        self.backoff
            .saturating_mul(1 << doublings)
            .min(self.backoff_max.max(self.backoff))
            .mul_f64(1.0 - jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_twice_as_long_each_time_up_to_a_minute() {
        let policy = RetryPolicy::default();
        let delays: Vec<u64> = (1..=8)
            .map(|attempts| policy.delay(attempts, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.delay(1, 1.0), Duration::from_millis(500));
        assert_eq!(policy.delay(u32::MAX, 0.0), policy.backoff_max);
    }

    #[test]
    fn what_time_mends_is_retried_and_what_an_edit_mends_waits_for_it() {
        assert_eq!(FailureClass::SourceDown.directive(), Directive::Retry);
        assert_eq!(
            FailureClass::ModelWrong.directive(),
            Directive::WaitForChange
        );
        assert_eq!(
            FailureClass::SourceRefuses.directive(),
            Directive::WaitForPerson
        );
    }
}
