//! `up`: start everything, serve, run the pipeline, keep watching.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ballpoint_postgres::cluster::data_dir;
use ballpoint_postgres::lock::DataDirLock;
use ballpoint_runtime::supervision::Scope;
use ballpoint_runtime::telemetry::{self, TelemetryConfig};
use ballpoint_web::{Backend, SystemFacts};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::cli::UpArgs;
use crate::config::{AuthMode, Project, SQL_LISTEN, otlp_endpoint};
use crate::doors::doors;
use crate::readiness::{self, Stages};
use crate::remote::{SERVER_SECTION, TOKEN_FILE};
use crate::session::Own;
use crate::{output, stack, stages};

/// From SIGTERM to the end of the last actor.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

pub(super) async fn run(context: &Context, args: UpArgs) -> anyhow::Result<ExitCode> {
    let project = context.project()?;
    let listen = args.listen.unwrap_or(project.config.server.listen);
    project.config.check_address(listen)?;
    let Some(lock) = DataDirLock::acquire(&project.data_dir)? else {
        let pid = DataDirLock::holder(&project.data_dir).unwrap_or_default();
        bail!(
            "ballpoint is already running on {} (pid {pid}); stop it, or give --data-dir another folder",
            project.data_dir.display()
        );
    };
    // Bound before anything is started: a port in use costs nothing.
    let listener = bind(listen)?;
    let sql_listener = bind_sql(&project)?;
    let _telemetry = telemetry::init(&TelemetryConfig {
        service_name: "ballpoint".to_owned(),
        otlp_endpoint: otlp_endpoint(&context.environment),
        log_filter: "warn,sqlx=error,sqlx_core=error".to_owned(),
        json_logs: context.place.json,
    })?;
    if project.is_shipped {
        output::note("no ballpoint.toml in reach: the shipped pen factory is used");
    }
    let own = Own::open(lock, Arc::clone(&project), context.clock(), args.seed).await?;
    let served = Box::pin(serve(context, &own, listener, sql_listener)).await;
    own.close().await?;
    served?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    context: &Context,
    own: &Own,
    listener: TcpListener,
    sql_listener: Option<TcpListener>,
) -> anyhow::Result<()> {
    let project = &own.project;
    let listen = listener.local_addr()?;
    let token = match project.config.auth.mode {
        AuthMode::Token => Some(token(&project.data_dir)?),
        AuthMode::None => None,
    };
    let sources: Vec<String> = project.config.sources.keys().cloned().collect();
    let readiness = readiness::follow(&own.store);
    let stages = Stages {
        sources,
        transform: project.config.transform.is_some(),
        metrics: project.config.metrics.is_some(),
    };
    let landing = project.config.sources.iter();
    let landing = landing.map(|(name, source)| (name.clone(), source.schema.clone()));
    let tree = Arc::new(OnceLock::new());
    let program_ends = CancellationToken::new();
    let sql = sql_listener.as_ref().map(TcpListener::local_addr);
    let sql = sql.transpose()?.map(|address| address.to_string());
    let door = stack::FrontDoor {
        listener,
        sql_listener,
        doors: doors(project, listen, token.as_deref(), &own.clock),
        system: SystemFacts {
            listen: listen.to_string(),
            databases: own.databases.urls().clone(),
            sources: landing.collect(),
            project: project.name.clone(),
            has_metrics: project.config.metrics.is_some(),
            backend: backend(project),
        },
        readiness: readiness.subscribe(),
        program_ends: program_ends.clone(),
        tree: Arc::clone(&tree),
    };
    let scope = Scope::unique();
    let environment = context.environment.clone().into_map().into_iter().collect();
    let root = stack::system(own, own.queries().await?, environment, &scope, Some(door))?;
    let first_pass = tokio::spawn(readiness::first_pass(own.store.clone(), stages, readiness));
    let handle = stack::start(own, scope, root).await?;
    // A second start of one tree is a bug: the slot is filled here only.
    let _ = tree.set(handle.clone());
    data_dir::write_section(
        &project.data_dir,
        SERVER_SECTION,
        json!({ "listen": listen.to_string(), "sql_listen": sql, "pid": std::process::id() }),
    )?;
    let query = token
        .map(|token| format!("?token={token}"))
        .unwrap_or_default();
    output::line(format!("Ballpoint is at http://{listen}/{query}"));
    if project.config.metrics.is_some() {
        let reader = stages::reader_of_questions(project);
        output::line(format!("Questions are read by {reader}"));
        if let Some(sql) = sql {
            output::line(format!("SQL is served at {sql}; the password is the token"));
        }
    }
    tokio::select! {
        told = until_told_to_stop() => told?,
        () = own.databases.keep_running() => {}
    }
    first_pass.abort();
    program_ends.cancel();
    output::note("stopping");
    handle.stop(SHUTDOWN_MAX).await;
    Ok(())
}

/// Who plans questions, as the page says it.
fn backend(project: &Project) -> Backend {
    let model = project.config.llm.as_ref().map(|llm| llm.model.clone());
    Backend {
        name: if model.is_some() { "llm" } else { "planner" },
        model,
    }
}

fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!(
            "{listen} is in use by another program; give --listen another port, or 127.0.0.1:0 for any free one"
        ),
        _ => anyhow::Error::new(error).context(format!("listening on {listen}")),
    })
}

/// The port of the SQL API. The usual one may be somebody's; one that was asked for may not.
fn bind_sql(project: &Project) -> anyhow::Result<Option<TcpListener>> {
    let server = &project.config.server;
    if project.config.metrics.is_none() {
        return Ok(None);
    }
    match server.sql_listen {
        Some(listen) => bind(listen).map(Some),
        None => Ok(TcpListener::bind(SQL_LISTEN)
            .inspect_err(|error| {
                output::note(format!(
                    "no SQL API: {SQL_LISTEN} cannot be listened on ({error}); server.sql_listen takes another address"
                ));
            })
            .ok()),
    }
}

/// The data dir's token: made at the first start, readable by its owner only.
fn token(data_dir: &Path) -> anyhow::Result<String> {
    use std::io::Write;
    let path = data_dir.join(TOKEN_FILE);
    match std::fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context(format!("reading {}", path.display()));
        }
        _ => {}
    }
    let token: String = uuid::Uuid::new_v4().simple().to_string();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("writing {}", path.display()))?;
    writeln!(file, "{token}")?;
    Ok(token)
}

async fn until_told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
