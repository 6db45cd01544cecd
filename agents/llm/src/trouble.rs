//! What can go wrong with a model, as the reader of an answer is told.

use std::time::Duration;

/// Why the model's help was not had. Its text completes "the model …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("could not be reached")]
    Unreachable,
    #[error("did not answer in time")]
    Slow,
    #[error("stopped in the middle of its answer")]
    Broken,
    #[error("answered at greater length than is read")]
    TooLong,
    #[error("refused the API key (HTTP {0})")]
    Unauthorised(u16),
    #[error("is not known to its server (HTTP 404)")]
    NotFound,
    #[error("has no quota left (HTTP 429)")]
    NoQuota,
    #[error("is too busy (HTTP 429)")]
    Busy { retry_after: Option<Duration> },
    #[error("failed (HTTP {0})")]
    Failed(u16),
    #[error("reported an error in the middle of its answer")]
    Reported,
    #[error("gave an answer that cannot be read")]
    Unreadable,
    #[error("gave no answer")]
    Empty,
    #[error("asked for what does not hold")]
    Invalid,
    #[error("read the question differently than its words allow")]
    Contradicts,
}

impl Trouble {
    /// The name on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable => "model_unreachable",
            Self::Slow => "model_slow",
            Self::Broken => "model_broken",
            Self::TooLong => "model_too_long",
            Self::Unauthorised(_) => "model_unauthorised",
            Self::NotFound => "model_not_found",
            Self::NoQuota => "model_no_quota",
            Self::Busy { .. } => "model_busy",
            Self::Failed(_) => "model_failed",
            Self::Reported => "model_reported_error",
            Self::Unreadable => "model_unreadable",
            Self::Empty => "model_empty",
            Self::Invalid => "model_invalid",
            Self::Contradicts => "model_contradicts",
        }
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Busy { .. } | Self::Failed(408 | 500..=599)
        )
    }
}
