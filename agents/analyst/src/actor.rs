//! Actor `analyst`: answers questions.
//!
//! **In**: [`AnalystMsg::Answer`]. **Out**: an answer and the dialogue's next state. Each question
//! runs in its own task, which outlives this actor: a restart fails no question. State: none.
//! It keeps no conversation; that is the chat's.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ballpoint_llm::{ModelBackend, ModelSettings, PlanBackend, PlannerBackend};
use ballpoint_metrics::MetricRegistryHandle;
use ballpoint_planner::DialogueState;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{Address, AddressError, Scope};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use futures_util::FutureExt;
use jiff::tz::TimeZone;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument;

use crate::answer::Answer;
use crate::answerer::Answerer;
use crate::progress::{Step, Turn};
use crate::verified::VerifiedQuestions;

/// Questions answered at the same time; each holds a connection of the warehouse.
const QUESTIONS_MAX: usize = 16;

/// Questions that wait for one of these to end; the next one is turned away.
const WAITING_MAX: usize = 256;

/// A question that waits for longer is turned away as well.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What an incarnation works with.
#[derive(Clone)]
pub struct AnalystArgs {
    pub metrics: MetricRegistryHandle,
    /// Where proofs are kept.
    pub store: Store,
    pub clock: Clock,
    /// The language model that the project configures.
    pub model: Option<ModelSettings>,
    /// Questions whose queries people have checked.
    pub verified: Arc<VerifiedQuestions>,
}

/// An answer, or why there is none.
pub type AnalystReply = Result<(Answer, DialogueState), String>;

/// Messages of the analyst.
pub enum AnalystMsg {
    /// Answer a question, given the dialogue so far.
    Answer {
        question: String,
        state: Box<DialogueState>,
        trace: TraceContext,
        turn: Turn,
        reply: RpcReplyPort<Box<AnalystReply>>,
    },
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// More questions at a time than are answered; to be asked again a little later.
    #[error("too many questions at the same time; ask again in a moment")]
    Busy,
    #[error("the question could not be asked: {0}")]
    Address(#[from] AddressError),
    #[error("{0}")]
    Failed(String),
}

/// The way in. Its clones share the permits.
#[derive(Clone, Debug)]
pub struct AnalystHandle {
    address: Address<AnalystMsg>,
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    timeout: Duration,
}

impl AnalystHandle {
    pub fn new(scope: &Scope) -> Self {
        Self {
            address: Address::new(scope, Analyst::NAME),
            permits: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            timeout: Duration::from_secs(60),
        }
    }

    /// A permit to answer, at once or after those that came before.
    async fn permit(&self) -> Result<SemaphorePermit<'_>, AskError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _place = self.waiting.try_acquire().map_err(|_| AskError::Busy)?;
        match tokio::time::timeout(WAIT_MAX, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(AskError::Busy),
        }
    }

    /// Answers a question, given the dialogue so far. Dropping the future stops the work.
    ///
    /// # Errors
    /// [`AskError::Busy`] over the limit; otherwise why there is no answer.
    pub async fn answer(
        &self,
        question: &str,
        state: &DialogueState,
        turn: &Turn,
    ) -> Result<(Answer, DialogueState), AskError> {
        let _permit = self.permit().await?;
        let trace = TraceContext::current();
        let turn = Turn {
            progress: turn.progress.child(),
            ..turn.clone()
        };
        let _stop = turn.progress.stop_token().clone().drop_guard();
        let attempts = AtomicU32::new(0);
        let ask = |reply| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            if attempt > 1 {
                turn.progress.retrying(&Step::PLAN, attempt);
            }
            AnalystMsg::Answer {
                question: question.to_owned(),
                state: Box::new(state.clone()),
                trace: trace.clone(),
                turn: turn.clone(),
                reply,
            }
        };
        let reply = self.address.call(ask, self.timeout).await?;
        (*reply).map_err(AskError::Failed)
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Analyst;

impl Analyst {
    /// The actor's name in its scope.
    pub const NAME: &'static str = "analyst";
}

/// What one incarnation works with.
#[derive(Clone)]
pub struct AnalystState {
    metrics: MetricRegistryHandle,
    answerer: Answerer,
}

impl Actor for Analyst {
    type Msg = AnalystMsg;
    type State = AnalystState;
    type Arguments = AnalystArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let local = Arc::new(PlannerBackend::default());
        let backend: Arc<dyn PlanBackend> = match args.model {
            Some(settings) => Arc::new(ModelBackend::new(settings, Arc::clone(&local))),
            None => Arc::clone(&local) as Arc<dyn PlanBackend>,
        };
        let answerer = Answerer {
            store: Some(args.store),
            clock: args.clock,
            time_zone: TimeZone::UTC,
            backend,
            verified: args.verified,
            local,
        };
        Ok(AnalystState {
            metrics: args.metrics,
            answerer,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AnalystMsg::Answer {
                question,
                state: dialogue,
                trace,
                turn,
                reply,
            } => {
                on_answer(state.clone(), question, dialogue, &trace, turn, reply);
            }
        }
        Ok(())
    }
}

fn on_answer(
    state: AnalystState,
    question: String,
    dialogue: Box<DialogueState>,
    trace: &TraceContext,
    turn: Turn,
    reply: RpcReplyPort<Box<AnalystReply>>,
) {
    let span = tracing::info_span!(
        "invoke_agent analyst",
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = Analyst::NAME
    );
    set_parent(&span, trace);
    let work = async move {
        let answering = AssertUnwindSafe(answer(&state, &question, &dialogue, &turn));
        let answered = tokio::select! {
            () = turn.progress.stopped() => return,
            answered = answering.catch_unwind() => answered,
        };
        // A reply port that is dropped has its question asked again: a bug would be met again.
        let answered = answered.unwrap_or_else(|_| Err("a bug ended the turn; see the log".into()));
        if let Err(error) = &answered {
            tracing::warn!(error, "a question got no answer");
        }
        // Whoever asked may have gone.
        let _ = reply.send(Box::new(answered));
    };
    tokio::spawn(work.instrument(span));
}

async fn answer(
    state: &AnalystState,
    question: &str,
    dialogue: &DialogueState,
    turn: &Turn,
) -> AnalystReply {
    let service = state
        .metrics
        .service()
        .await
        .map_err(|error| error.to_string())?;
    state
        .answerer
        .answer(&service, question, dialogue, turn)
        .await
        .map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
}
