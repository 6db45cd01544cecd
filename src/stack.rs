//! The supervision tree, written so that it reads as a diagram: who keeps whom alive, and how.
//!
//! Budgets: an actor that fails more often than its budget allows within the window is parked and
//! the system is *degraded*; its siblings go on. The first restart is immediate, the next ones wait.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ballpoint_activation::{Activation, ActivationArgs, ActivationHandle};
use ballpoint_analyst::{Analyst, AnalystArgs, AnalystHandle};
use ballpoint_chat::{Chat, ChatArgs, ChatHandle};
use ballpoint_loader::Loader;
use ballpoint_loader::actor::{Loader as LoaderActor, LoaderArgs};
use ballpoint_loader::changes::actor::{Stream, StreamArgs};
use ballpoint_metrics::{MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, registry};
use ballpoint_orchestrator::{Orchestrator, OrchestratorArgs};
use ballpoint_reverse_etl::{ReverseEtl, ReverseEtlArgs, ReverseEtlHandle, WriteBacks};
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use ballpoint_transformer::LoadOptions;
use ballpoint_transformer::actor::{Transformer, TransformerArgs};
use ballpoint_transformer::lineage::LineageReader;
use ballpoint_web::{App, Doors, Readiness, Suggestions, SystemFacts, Web, WebArgs};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::session::Own;
use crate::sources::Source;
use crate::{duties, evidence, stages, verified};

/// Restarts allowed within [`WINDOW`] before an actor is parked.
const RESTARTS_MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The whole system: what `up` runs.
pub(crate) fn system(
    own: &Own,
    queries: PgPool,
    environment: Vec<(String, String)>,
    scope: &Scope,
    door: Option<FrontDoor>,
) -> anyhow::Result<SupervisorSpec> {
    let mut root = SupervisorSpec::new("root", Strategy::OneForOne);
    root = root.child(ingest(own)?);
    let transform = stages::transform(&own.project, &own.databases, &own.clock, environment)?;
    let lineage = transform.clone().map(LineageReader::new).map(Arc::new);
    let tables = door
        .as_ref()
        .is_some_and(|door| door.sql_listener.is_some());
    root = root.child(analytics(own, queries, transform, tables));
    let write_backs = stages::write_backs(&own.project, &own.databases, &own.store);
    root = root.child(agents(own, scope, write_backs.as_ref()));
    if let Some(library) = &write_backs {
        root = root.child(activation(library));
    }
    root = root.child(orchestrator(own)?);
    if let Some(door) = door {
        root = root.child(web(own, scope, door, write_backs, lineage));
    }
    Ok(root)
}

/// What answers questions and queries, without watching or building: for one command.
pub(crate) fn answering(own: &Own, queries: PgPool, scope: &Scope) -> SupervisorSpec {
    SupervisorSpec::new("root", Strategy::OneForOne)
        .child(analytics(own, queries, None, false))
        .child(agents(own, scope, None))
}

/// One subtree a source, so that a bad source stays alone with its trouble.
fn ingest(own: &Own) -> anyhow::Result<SupervisorSpec> {
    let mut ingest = SupervisorSpec::new("ingest", Strategy::OneForOne);
    for (name, config) in &own.project.config.sources {
        let source = Source::open(&own.project, &own.databases, name)?;
        let watcher = kept(source.watcher(name, config, &own.store));
        let reader = source.reader();
        let library = Loader::new(own.store.clone(), &config.schema);
        let stream = match reader.changes().filter(|_| reader.follows()) {
            None => None,
            Some(source) => {
                let loader = library.clone();
                Some(kept(ActorSpec::new(
                    Stream::name(name),
                    Stream,
                    move || StreamArgs {
                        loader: loader.clone(),
                        source: source.clone(),
                    },
                )))
            }
        };
        let loader = kept(ActorSpec::new(
            LoaderActor::name(name),
            LoaderActor,
            move || LoaderArgs {
                loader: library.clone(),
                reader: reader.clone(),
            },
        ));
        let mut own_tree = SupervisorSpec::new(format!("ingest.{name}"), Strategy::RestForOne)
            .child(watcher)
            .child(loader);
        if let Some(stream) = stream {
            own_tree = own_tree.child(stream);
        }
        ingest = ingest.child(own_tree);
    }
    Ok(ingest)
}

fn analytics(
    own: &Own,
    queries: PgPool,
    transform: Option<LoadOptions>,
    tables: bool,
) -> SupervisorSpec {
    let mut analytics = SupervisorSpec::new("analytics", Strategy::OneForOne);
    let landing = own.project.config.sources.iter();
    let evidence = Arc::new(evidence::Evidence {
        store: own.store.clone(),
        graph: transform.clone().map(LineageReader::new),
        landing: landing
            .map(|(name, it)| (name.clone(), it.schema.clone()))
            .collect(),
    });
    if let Some(project) = transform {
        let (store, clock) = (own.store.clone(), own.clock.clone());
        analytics = analytics.child(kept(ActorSpec::new(
            Transformer::NAME,
            Transformer,
            move || TransformerArgs {
                store: store.clone(),
                project: project.clone(),
                clock: clock.clone(),
            },
        )));
    }
    if let Some(metrics) = &own.project.config.metrics {
        let args = MetricRegistryArgs {
            custom_granularities: metrics.custom_granularities,
            tables,
            lineage: Some(evidence),
            ..MetricRegistryArgs::new(
                own.project.folder.join(&metrics.path),
                queries,
                Some(own.store.clone()),
                own.clock.clone(),
            )
        };
        analytics = analytics.child(kept(ActorSpec::new(
            registry::NAME,
            MetricRegistry,
            move || args.clone(),
        )));
    }
    analytics
}

fn agents(own: &Own, scope: &Scope, write_backs: Option<&WriteBacks>) -> SupervisorSpec {
    let analyst = {
        let (metrics, store, clock) = (
            MetricRegistryHandle::new(scope),
            own.store.clone(),
            own.clock.clone(),
        );
        let model = stages::model(&own.project);
        let verified = Arc::new(verified::questions(&own.project));
        kept(ActorSpec::new(Analyst::NAME, Analyst, move || {
            AnalystArgs {
                metrics: metrics.clone(),
                store: store.clone(),
                clock: clock.clone(),
                model: model.clone(),
                verified: Arc::clone(&verified),
            }
        }))
    };
    let chat = {
        let (analyst, store) = (AnalystHandle::new(scope), own.store.clone());
        kept(ActorSpec::new(Chat::NAME, Chat, move || ChatArgs {
            analyst: analyst.clone(),
            store: store.clone(),
        }))
    };
    let agents = SupervisorSpec::new("agents", Strategy::OneForOne)
        .child(analyst)
        .child(chat);
    match write_backs {
        Some(library) => agents.child(reverse_etl_agent(own, scope, library)),
        None => agents,
    }
}

fn reverse_etl_agent(own: &Own, scope: &Scope, library: &WriteBacks) -> ActorSpec {
    let args = ActivationArgs {
        metrics: MetricRegistryHandle::new(scope),
        write_backs: ReverseEtlHandle::new(library.clone()),
        clock: own.clock.clone(),
    };
    kept(ActorSpec::new(Activation::NAME, Activation, move || {
        args.clone()
    }))
}

fn activation(library: &WriteBacks) -> SupervisorSpec {
    let library = library.clone();
    let reverse_etl = kept(ActorSpec::new(ReverseEtl::NAME, ReverseEtl, move || {
        ReverseEtlArgs {
            library: library.clone(),
        }
    }));
    SupervisorSpec::new("activation", Strategy::OneForOne).child(reverse_etl)
}

fn orchestrator(own: &Own) -> anyhow::Result<ActorSpec> {
    let args = OrchestratorArgs {
        store: own.store.clone(),
        clock: own.clock.clone(),
        duties: duties::of(own)?,
    };
    Ok(kept(ActorSpec::new(
        Orchestrator::NAME,
        Orchestrator,
        move || args.clone(),
    )))
}

/// What `web` stands behind.
pub(crate) struct FrontDoor {
    pub(crate) listener: TcpListener,
    /// Of the SQL API, where there are cubes to query.
    pub(crate) sql_listener: Option<TcpListener>,
    pub(crate) doors: Doors,
    pub(crate) system: SystemFacts,
    pub(crate) readiness: watch::Receiver<Readiness>,
    /// Cancelled by the caller when the program ends.
    pub(crate) program_ends: CancellationToken,
    /// Filled by the caller once the tree has started.
    pub(crate) tree: Arc<OnceLock<TreeHandle>>,
}

fn web(
    own: &Own,
    scope: &Scope,
    door: FrontDoor,
    write_backs: Option<WriteBacks>,
    lineage: Option<Arc<LineageReader>>,
) -> ActorSpec {
    let listener = Arc::new(door.listener);
    let sql_listener = door.sql_listener.map(Arc::new);
    let app = App {
        chat: ChatHandle::new(scope),
        metrics: MetricRegistryHandle::new(scope),
        tree: door.tree,
        write_backs: write_backs.map(ReverseEtlHandle::new),
        activation: ActivationHandle::new(scope),
        lineage,
        store: own.store.clone(),
        clock: own.clock.clone(),
        suggestions: Suggestions::default(),
        readiness: door.readiness,
        system: Arc::new(door.system),
        doors: Arc::new(door.doors),
        waiting: Arc::default(),
    };
    kept(ActorSpec::new("web", Web, move || WebArgs {
        listener: Arc::clone(&listener),
        sql_listener: sql_listener.clone(),
        app: app.clone(),
        program_ends: door.program_ends.clone(),
    }))
}

fn kept(actor: ActorSpec) -> ActorSpec {
    actor
        .budget(RESTARTS_MAX, WINDOW)
        .backoff(BACKOFF_FIRST, BACKOFF_MAX)
}

/// Starts a tree whose changes of state are published as events.
///
/// # Errors
/// When the tree's names are wrong; an actor that fails to start is retried instead.
pub(crate) async fn start(
    own: &Own,
    scope: Scope,
    root: SupervisorSpec,
) -> anyhow::Result<TreeHandle> {
    Ok(Tree::start(scope, root, Some(own.store.events().clone())).await?)
}
