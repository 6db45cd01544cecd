//! What the routes reach: the handles of the running system and the facts about it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::response::IntoResponse;
use ballpoint_activation::ActivationHandle;
use ballpoint_chat::ChatHandle;
use ballpoint_metrics::MetricRegistryHandle;
use ballpoint_metrics::execute::NOT_BUILT;
use ballpoint_reverse_etl::ReverseEtlHandle;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{ActorState, ActorStatus, TreeHandle};
use ballpoint_transformer::lineage::LineageReader;
use tokio::sync::watch;
use tower::util::MapResponseLayer;
use tower_http::trace::TraceLayer;

use crate::doors::{self, Doors};
use crate::error::ApiError;
use crate::waiting::Waiting;
use crate::{routes, table};

pub use crate::routes::{Backend, Suggestions};

/// A question or a query is small; nothing larger is read.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Everything a route may need. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub chat: ChatHandle,
    pub metrics: MetricRegistryHandle,
    /// Filled once the tree that this actor is part of has started.
    pub tree: Arc<OnceLock<TreeHandle>>,
    /// `None` where the project writes nothing back.
    pub write_backs: Option<ReverseEtlHandle>,
    /// Turns requests in words into such plans.
    pub activation: ActivationHandle,
    /// `None` where the project builds no models.
    pub lineage: Option<Arc<LineageReader>>,
    pub store: Store,
    pub clock: Clock,
    pub suggestions: Suggestions,
    pub readiness: watch::Receiver<Readiness>,
    pub system: Arc<SystemFacts>,
    pub doors: Arc<Doors>,
    /// Results that take longer than their clients' patience.
    pub waiting: Arc<Waiting>,
}

/// How far the first pass is, kept by the composition root.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Every stage has finished its first pass, or has failed it and waits for its next try.
    pub first_pass_done: bool,
    /// What does not work at the moment, in words: a source, the build, a metrics file.
    pub degraded: Vec<String>,
}

/// What does not change while the process lives.
#[derive(Clone, Debug)]
pub struct SystemFacts {
    /// Host and port, as bound.
    pub listen: String,
    /// Name → connection URL, passwords included; behind the token.
    pub databases: BTreeMap<String, String>,
    /// The sources' names, each with the schema it lands in.
    pub sources: BTreeMap<String, String>,
    pub project: String,
    /// Whether there is a data model to ask.
    pub has_metrics: bool,
    /// Who plans questions.
    pub backend: Backend,
}

impl App {
    /// Refuses what needs a data model where the project has none.
    pub(crate) fn needs_metrics(&self) -> Result<(), ApiError> {
        if self.system.has_metrics {
            return Ok(());
        }
        Err(ApiError::not_found(
            "the project has no [metrics]: there is nothing to ask",
        ))
    }

    /// Whether a question failed only because the first pass has not built its data yet.
    pub(crate) fn is_early(&self, error: &str) -> bool {
        !self.readiness.borrow().first_pass_done && error.contains(NOT_BUILT)
    }

    /// The tree as it is; empty while it starts.
    pub(crate) fn actors(&self) -> Vec<ActorStatus> {
        self.tree
            .get()
            .map(TreeHandle::describe)
            .unwrap_or_default()
    }

    /// What does not work at the moment, in words.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let mut degraded = self.readiness.borrow().degraded.clone();
        for actor in self.actors().iter().flat_map(ActorStatus::all) {
            if matches!(actor.state, ActorState::Parked | ActorState::Paused) {
                degraded.push(format!("{} is {}", actor.name, actor.state));
            }
        }
        degraded
    }

    /// All routes behind the doors.
    pub(crate) fn router(self) -> Router {
        let doors = Arc::clone(&self.doors);
        let (address, guard) = (Arc::clone(&doors), Arc::clone(&doors));
        // One layer of several, the outermost first: each of its own would be a box, and a copy of
        // all the boxes in it, for every request.
        table::router(routes::all(self.system.has_metrics))
            .layer((
                MapResponseLayer::new(doors::harden),
                doors::checked(move |request: &mut Request| address.address(request)),
                doors.cors(),
                doors::checked(move |request: &mut Request| guard.guard(request)),
                MapResponseLayer::new(IntoResponse::into_response),
                TraceLayer::new_for_http()
                    .make_span_with(request_span)
                    .on_failure(()),
                DefaultBodyLimit::max(BODY_BYTES_MAX),
            ))
            .with_state(self)
    }
}

/// The root of a question's trace; named as HTTP conventions name it.
fn request_span(request: &Request) -> tracing::Span {
    let path = request.extensions().get::<MatchedPath>().map_or_else(
        || request.uri().path().to_owned(),
        |path| path.as_str().to_owned(),
    );
    let method = request.method();
    if matches!(path.as_str(), "/livez" | "/readyz" | "/health") {
        return tracing::Span::none();
    }
    tracing::info_span!("http.request", otel.name = format!("{method} {path}"), otel.kind = "server", %method, path)
}
