//! Actor `reverse_etl_agent`: requests in words become plans that wait for approval.
//!
//! **In** [`ReverseEtlAgentMsg::Propose`]. **Out** a plan, made by `reverse_etl`, or a refusal. Each
//! request is read in its own task, which outlives this actor: a restart fails no request. State:
//! none. It writes nothing itself, and approves nothing.

use std::time::Duration;

use ballpoint_metrics::MetricRegistryHandle;
use ballpoint_reverse_etl::{ReverseEtlHandle, WriteBackError};
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::supervision::{Address, AddressError, Scope};
use ballpoint_runtime::trace::{TraceContext, set_parent};
use jiff::tz::TimeZone;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tracing::Instrument;

use crate::proposer::{Outcome, Proposer};

/// In whose name plans are asked for, together with whoever asked.
const BY: &str = "reverse_etl_agent";

/// What the actor works with.
#[derive(Clone, Debug)]
pub struct ActivationArgs {
    pub metrics: MetricRegistryHandle,
    pub write_backs: ReverseEtlHandle,
    pub clock: Clock,
}

/// Why a request came to nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error("the request could not be handed over: {0}")]
    Address(#[from] AddressError),
    /// The syncs' files are wrong, or what was proposed goes beyond them.
    #[error("{0}")]
    Refused(String),
    /// The registry or the warehouse could not be asked.
    #[error("{0}")]
    Failed(String),
}

/// Messages of the agent.
pub enum ReverseEtlAgentMsg {
    /// Read a request, and have what it asks for planned.
    Propose {
        request: String,
        by: String,
        trace: TraceContext,
        reply: RpcReplyPort<Box<Result<Outcome, ActivationError>>>,
    },
}

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ActivationHandle {
    address: Address<ReverseEtlAgentMsg>,
    timeout: Duration,
}

impl ActivationHandle {
    /// The agent of that scope.
    pub fn new(scope: &Scope) -> Self {
        Self {
            address: Address::new(scope, Activation::NAME),
            timeout: Duration::from_secs(150),
        }
    }

    /// Reads a request of `by`, and has what it asks for planned. Sent once: a request that is read
    /// twice makes two plans.
    ///
    /// # Errors
    /// [`ActivationError`]; a refusal is an [`Outcome`].
    pub async fn propose(&self, request: &str, by: &str) -> Result<Outcome, ActivationError> {
        let trace = TraceContext::current();
        let propose = |reply| ReverseEtlAgentMsg::Propose {
            request: request.to_owned(),
            by: by.to_owned(),
            trace: trace.clone(),
            reply,
        };
        *self.address.call_once(propose, self.timeout).await?
    }
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct Activation;

impl Activation {
    /// Its name in the supervision tree.
    pub const NAME: &'static str = "reverse_etl_agent";
}

impl Actor for Activation {
    type Msg = ReverseEtlAgentMsg;
    type State = ActivationArgs;
    type Arguments = ActivationArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ReverseEtlAgentMsg::Propose {
                request,
                by,
                trace,
                reply,
            } => on_propose(state.clone(), request, by, &trace, reply),
        }
        Ok(())
    }
}

fn on_propose(
    args: ActivationArgs,
    request: String,
    by: String,
    trace: &TraceContext,
    reply: RpcReplyPort<Box<Result<Outcome, ActivationError>>>,
) {
    let span = tracing::info_span!(
        "invoke_agent reverse_etl_agent",
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = Activation::NAME
    );
    set_parent(&span, trace);
    let work = async move {
        let outcome = propose(&args, &request, &by).await;
        // Whoever asked may have gone; a plan that was made stands in the history.
        let _ = reply.send(Box::new(outcome));
    };
    tokio::spawn(work.instrument(span));
}

async fn propose(
    args: &ActivationArgs,
    request: &str,
    by: &str,
) -> Result<Outcome, ActivationError> {
    let told = |error: WriteBackError| {
        let text = in_one_line(&error);
        if error.is_users() {
            ActivationError::Refused(text)
        } else {
            ActivationError::Failed(text)
        }
    };
    let syncs = args.write_backs.syncs().map_err(told)?;
    let service = args.metrics.service().await;
    let service = service.map_err(|error| ActivationError::Failed(error.to_string()))?;
    let proposer = Proposer {
        clock: args.clock.clone(),
        time_zone: TimeZone::UTC,
    };
    let proposed = proposer.propose(&service, &syncs, request).await;
    match proposed.map_err(|error| ActivationError::Failed(error.to_string()))? {
        Err(refusal) => Ok(Outcome::Refusal(refusal)),
        Ok(proposal) => {
            let by = format!("{by} through {BY}");
            let plan = args
                .write_backs
                .propose(&proposal, &by)
                .await
                .map_err(told)?;
            Ok(Outcome::Plan {
                plan: Box::new(plan),
            })
        }
    }
}
