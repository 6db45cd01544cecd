//! Actor `web`: serves the routes on a listener that outlives it.
//!
//! In: nothing but its own life. Out: calls on handles. The listening socket belongs to the
//! composition root; each incarnation serves a duplicate of it, so that between two incarnations
//! connections wait in the socket's queue and none is refused. Requests that are being answered
//! finish in their own tasks after their incarnation has ended.

use std::net::TcpListener;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Everything an incarnation starts from.
pub struct WebArgs {
    pub listener: Arc<TcpListener>,
    pub app: App,
}

/// What the actor is told.
#[derive(Debug)]
pub enum WebMsg {
    /// The server ended though nobody asked it to.
    ServerEnded { error: String },
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Web;

/// Ends the server with the incarnation, however that ends.
pub struct WebState {
    _stop: tokio_util::sync::DropGuard,
}

impl Actor for Web {
    type Msg = WebMsg;
    type State = WebState;
    type Arguments = WebArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<WebMsg>,
        args: WebArgs,
    ) -> Result<WebState, ActorProcessingErr> {
        let listener = args.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, args.app.router())
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        // A task of its own: it goes on until its last request is answered.
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                let _ = myself.cast(WebMsg::ServerEnded { error: error.to_string() });
            }
        });
        Ok(WebState { _stop: stop.drop_guard() })
    }

    async fn handle(
        &self,
        _: ActorRef<WebMsg>,
        message: WebMsg,
        _: &mut WebState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WebMsg::ServerEnded { error } => Err(error.into()),
        }
    }
}
