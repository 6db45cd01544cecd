//! Actor `web`: takes connections on a listener that outlives it.
//!
//! In: nothing but its own life. Out: calls on handles. The listening socket belongs to the
//! composition root; each incarnation accepts on a duplicate of it, so that between two incarnations
//! connections wait in the socket's queue and none is refused. A connection is served by a task of
//! its own, which goes on when its incarnation ends: a restart interrupts no request. Only the end
//! of the program asks connections to finish.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::App;
use crate::sql::{self, SqlDoor};

/// Pause after a connection could not be accepted (no file descriptor left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything an incarnation starts from.
pub struct WebArgs {
    pub listener: Arc<TcpListener>,
    /// Where clients of PostgreSQL's protocol come in; `None` lets none in.
    pub sql_listener: Option<Arc<TcpListener>>,
    pub app: App,
    /// Cancelled when the program ends: connections finish what they are at.
    pub program_ends: CancellationToken,
}

/// What the actor is told: nothing yet.
#[derive(Debug)]
pub enum WebMsg {}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Web;

/// Ends the accepting with the incarnation, however that ends.
pub struct WebState {
    _accepting: DropGuard,
}

impl Actor for Web {
    type Msg = WebMsg;
    type State = WebState;
    type Arguments = WebArgs;

    async fn pre_start(
        &self,
        _: ActorRef<WebMsg>,
        args: WebArgs,
    ) -> Result<WebState, ActorProcessingErr> {
        let listener = args.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let accepting = CancellationToken::new();
        if let Some(listener) = args.sql_listener {
            let (metrics, doors) = (args.app.metrics.clone(), Arc::clone(&args.app.doors));
            let door = SqlDoor::new(metrics, doors, args.program_ends.clone());
            let accept = sql::accept(listener, door);
            tokio::spawn(accepting.clone().run_until_cancelled_owned(accept));
        }
        let accept = accept(listener, args.app.router(), args.program_ends);
        tokio::spawn(accepting.clone().run_until_cancelled_owned(accept));
        Ok(WebState {
            _accepting: accepting.drop_guard(),
        })
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    router: Router,
    program_ends: CancellationToken,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Replies are small: waiting to fill a packet costs tens of milliseconds.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, router.clone(), program_ends.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, router: Router, program_ends: CancellationToken) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = program_ends.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is its own affair.
        tracing::debug!(%error, "a connection ended early");
    }
}
