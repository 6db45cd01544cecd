//! What is known of an actor, as `/api/actors` shows it.

use std::fmt;

use serde::Serialize;

/// What an actor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    #[default]
    Starting,
    Running,
    /// Failed; a restart is scheduled.
    Backoff,
    /// Used up its restarts; waits for a person.
    Parked,
    /// Stopped by a person until they resume it.
    Paused,
    Stopped,
}

impl fmt::Display for ActorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// One actor, with the actors that it supervises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActorStatus {
    pub name: String,
    pub state: ActorState,
    /// Counts the times it was started, from 1.
    pub incarnation: u64,
    /// How often it was started again, for whatever reason.
    pub restarts: u64,
    /// Since this incarnation started; absent when it is not running.
    pub uptime_ms: Option<u64>,
    /// Calls that wait for its answer.
    pub queue: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
    pub children: Vec<ActorStatus>,
}

impl ActorStatus {
    /// It and all below it.
    pub fn all(&self) -> Vec<&ActorStatus> {
        let below = self.children.iter().flat_map(ActorStatus::all);
        std::iter::once(self).chain(below).collect()
    }
}
