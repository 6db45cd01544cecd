//! What a turn says of itself while it runs: its steps, notices, the text as it comes.
//!
//! Nobody listening is no error, somebody gone is: a turn whose listener has left stops.

use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::answer::Notice;

/// A piece of a turn, in the order in which it happens.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum TurnPart {
    /// The first part of every turn.
    Started {
        conversation_id: String,
        message_id: String,
        trace_id: Option<String>,
    },
    /// A step begins or ends; a later part with the same `id` replaces the earlier one.
    Step {
        /// `understood`, `planned`, `ran` or `worded`.
        id: String,
        /// Who does it: `chat`, `analyst` or `metrics`.
        agent: String,
        label: String,
        state: StepState,
        /// How long it took, once it has ended.
        ms: Option<u64>,
        /// Counts from 1; more than that after a restart of who does it.
        attempt: u32,
    },
    Notice(Notice),
    /// More of the answer's text.
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Running,
    Retrying,
    Done,
    Failed,
}

/// How a question is to be answered, besides its words. Clones speak for the same turn.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    pub progress: Progress,
    /// No language model is asked, whatever is configured.
    pub local_only: bool,
}

impl From<Progress> for Turn {
    fn from(progress: Progress) -> Self {
        Self {
            progress,
            local_only: false,
        }
    }
}

/// Where a turn reports to, and how it learns that it shall stop. Clones speak for the same turn.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    parts: Option<mpsc::Sender<TurnPart>>,
    stop: CancellationToken,
}

impl Progress {
    /// Reports to a listener.
    pub fn to(parts: mpsc::Sender<TurnPart>) -> Self {
        Self {
            parts: Some(parts),
            stop: CancellationToken::new(),
        }
    }

    /// A part of a turn that stops when this one does, or by its own token.
    pub fn child(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            stop: self.stop.child_token(),
        }
    }

    /// Cancelled to stop the turn.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns when the turn shall stop: it was told to, or its listener has gone.
    pub async fn stopped(&self) {
        match &self.parts {
            Some(parts) => tokio::select! {
                () = self.stop.cancelled() => {}
                () = parts.closed() => {}
            },
            None => self.stop.cancelled().await,
        }
    }

    /// Reports a part; waits for a listener that is behind.
    pub async fn report(&self, part: TurnPart) {
        if let Some(parts) = &self.parts {
            // A listener that has gone stops the turn elsewhere.
            let _ = parts.send(part).await;
        }
    }

    /// Reports that a step starts over, from where nothing can be waited for.
    pub fn retrying(&self, step: &Step, attempt: u32) {
        if let Some(parts) = &self.parts {
            let part = step.part(StepState::Retrying, step.label, None, attempt);
            // A listener that is behind hears of the step's end.
            let _ = parts.try_send(part);
        }
    }

    /// Begins a step.
    pub async fn begin(&self, step: Step) -> Running<'_> {
        self.report(step.part(StepState::Running, step.label, None, 1))
            .await;
        Running {
            progress: self,
            step,
            since: Instant::now(),
        }
    }
}

/// One of the steps that every turn takes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub id: &'static str,
    pub agent: &'static str,
    /// What is said while it runs.
    pub label: &'static str,
}

impl Step {
    pub const UNDERSTAND: Self = Self::new("understood", "chat", "Reading the conversation");
    pub const PLAN: Self = Self::new("planned", "analyst", "Planning the query");
    pub const RUN: Self = Self::new("ran", "metrics", "Running the query");
    pub const WORD: Self = Self::new("worded", "analyst", "Checking the figures");

    const fn new(id: &'static str, agent: &'static str, label: &'static str) -> Self {
        Self { id, agent, label }
    }

    fn part(&self, state: StepState, label: &str, ms: Option<u64>, attempt: u32) -> TurnPart {
        TurnPart::Step {
            id: self.id.to_owned(),
            agent: self.agent.to_owned(),
            label: label.to_owned(),
            state,
            ms,
            attempt,
        }
    }
}

/// A step under way.
#[derive(Debug)]
pub struct Running<'a> {
    progress: &'a Progress,
    step: Step,
    since: Instant,
}

impl Running<'_> {
    /// Ends the step, saying what was done.
    pub async fn done(self, label: &str) {
        self.end(StepState::Done, label).await;
    }

    /// Ends the step without what it was for.
    pub async fn failed(self, label: &str) {
        self.end(StepState::Failed, label).await;
    }

    async fn end(self, state: StepState, label: &str) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress
            .report(self.step.part(state, label, Some(ms), 1))
            .await;
    }
}
