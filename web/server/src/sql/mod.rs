//! The SQL API: PostgreSQL's wire protocol on a port of its own, in front of the warehouse.
//!
//! A client logs in with a token, or signed claims, as its password. Its statements are translated
//! ([`ballpoint_metrics::sql_api`]) and passed on; everything else of the conversation (bound values,
//! portals, row formats, errors) goes through untouched, so that drivers find the server that they
//! know. Each client has a connection to the warehouse of its own, as the role that only reads.
//!
//! Rows of cubes are watched as they pass (`ledger`). The proof of each result is named in the
//! setting `ballpoint.proof`, which changes before the result ends; `SHOW ballpoint.proof` tells it too.

mod arrival;
mod ledger;
mod prepared;
mod reader;
mod session;
mod upstream;
mod wire;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_metrics::MetricRegistryHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::doors::Doors;

/// Clients at a time; each holds a connection to the warehouse.
const CLIENTS_MAX: usize = 16;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a session needs.
#[derive(Clone)]
pub(crate) struct SqlDoor {
    pub(crate) metrics: MetricRegistryHandle,
    pub(crate) doors: Arc<Doors>,
    clients: Arc<Semaphore>,
    program_ends: CancellationToken,
}

impl SqlDoor {
    pub(crate) fn new(
        metrics: MetricRegistryHandle,
        doors: Arc<Doors>,
        program_ends: CancellationToken,
    ) -> Self {
        Self {
            metrics,
            doors,
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
            program_ends,
        }
    }
}

/// Takes connections until the incarnation ends; their sessions go on.
pub(crate) async fn accept(listener: Arc<TcpListener>, door: SqlDoor) {
    let listener = listener.try_clone().and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%error, "the SQL API takes no connections"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let door = door.clone();
                let ends = door.program_ends.clone();
                tokio::spawn(ends.run_until_cancelled_owned(async move {
                    if let Err(error) = session::serve(stream, &door).await {
                        // A client that goes away in the middle is its own affair.
                        tracing::debug!(%error, "a SQL session ended early");
                    }
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "a SQL connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
