//! The actor `stream.<source>`.
//!
//! **In** its own task, which follows the source's log for as long as the incarnation lives. **Out**
//! rows in the warehouse, [`Event::TableLoaded`] now and then, and [`Event::SyncFailed`] once when
//! following fails, [`Event::SyncFinished`] once when it works again. It keeps nothing that a restart
//! needs: where the stream stands is in `ballpoint.streams`. Whatever ends an incarnation loses the
//! transaction at work, as a whole; the next one goes on from the last that was committed. A source
//! with nothing to follow is looked at now and then.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ballpoint_runtime::changes::ChangeSource;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::StoreError;
use ballpoint_runtime::supervision::{Address, AddressError, Scope};
use ballpoint_runtime::trace::TraceContext;
use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::slot::Urgency;
use super::{Follower, StreamStatus, Until};
use crate::error::SyncError;
use crate::sync::Loader;

/// Before the first retry; each later one waits twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A source without followed tables may get some.
const IDLE_INTERVAL: Duration = Duration::from_secs(15);
/// Somebody else follows the source: a sync, a predecessor whose session has not ended yet, or, for
/// long, another process. Each later look waits twice as long.
const BUSY_MIN: Duration = Duration::from_millis(20);
const BUSY_MAX: Duration = Duration::from_secs(2);

/// What the actor works with.
#[derive(Clone)]
pub struct StreamArgs {
    pub loader: Loader,
    pub source: Arc<dyn ChangeSource>,
}

/// What the actor is told.
#[derive(Debug)]
pub enum StreamMsg {
    /// The task panicked: a bug, and the supervisor's affair.
    Panicked,
    /// Where the stream stands.
    Describe { reply: RpcReplyPort<StreamStatus> },
}

/// The only way in.
#[derive(Clone, Debug)]
pub struct StreamHandle {
    address: Address<StreamMsg>,
}

impl StreamHandle {
    /// The stream of `source` in that scope.
    pub fn new(scope: &Scope, source: &str) -> Self {
        Self {
            address: Address::new(scope, &Stream::name(source)),
        }
    }

    /// Where the stream stands.
    ///
    /// # Errors
    /// When it is not running, or does not answer, within `timeout`.
    pub async fn describe(&self, timeout: Duration) -> Result<StreamStatus, AddressError> {
        self.address
            .call(|reply| StreamMsg::Describe { reply }, timeout)
            .await
    }
}

/// The actor.
#[derive(Clone, Copy, Debug)]
pub struct Stream;

impl Stream {
    /// Its name in the supervision tree.
    pub fn name(source: &str) -> String {
        format!("stream.{source}")
    }
}

/// One incarnation's state; dropping it ends the task.
pub struct StreamState {
    follower: Follower,
    _guard: DropGuard,
}

impl Actor for Stream {
    type Msg = StreamMsg;
    type State = StreamState;
    type Arguments = StreamArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        StreamArgs { loader, source }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let ended = CancellationToken::new();
        let follower = Follower::new(loader, source);
        let following = follower.clone();
        let task = async move {
            let kept = AssertUnwindSafe(keep_following(&following)).catch_unwind();
            if kept.await.is_err() {
                // Its actor may have ended in the same moment.
                let _ = myself.cast(StreamMsg::Panicked);
            }
        };
        tokio::spawn(ended.clone().run_until_cancelled_owned(task));
        Ok(StreamState {
            follower,
            _guard: ended.drop_guard(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StreamMsg::Panicked => Err("following the source's log panicked".into()),
            StreamMsg::Describe { reply } => {
                // Who asked may have given up.
                let _ = reply.send(state.follower.status());
                Ok(())
            }
        }
    }
}

/// Follows for ever, with growing pauses while that fails.
async fn keep_following(follower: &Follower) {
    let (mut failures, mut busy) = (0_u32, BUSY_MIN);
    loop {
        let opened = follower.status().opened;
        let pause = match Box::pin(follower.follow(Until::Forever)).await {
            Ok(Some(_)) => {
                (failures, busy) = (0, BUSY_MIN);
                IDLE_INTERVAL
            }
            Ok(None) => {
                busy = (busy * 2).min(BUSY_MAX);
                busy
            }
            Err(error) => {
                busy = BUSY_MIN;
                if follower.status().opened > opened {
                    failures = 0;
                }
                failures += 1;
                failed(follower, &error, failures).await;
                let doubled = BACKOFF_MIN * 2_u32.saturating_pow(failures.min(16) - 1);
                doubled.min(BACKOFF_MAX)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Notes a failure, tells of the first of several, and keeps the source's disk safe meanwhile.
async fn failed(follower: &Follower, error: &SyncError, failures: u32) {
    let text = in_one_line(error);
    let source = follower.source().name().to_owned();
    follower.noting(|status| {
        status.last_error = Some(text.clone());
        status.failures = failures;
    });
    if failures == 1 {
        tracing::warn!(%source, error = %text, "following the source's log is interrupted");
    }
    // One interruption is a restart of something; what goes on is a failure to be told of.
    if failures < 2 {
        return;
    }
    let failed = Event::SyncFailed {
        source,
        error: text,
        class: error.class(),
    };
    if let Err(error) = tell_once(follower, failed).await {
        tracing::debug!(error = %in_one_line(&error), "a failure was not recorded");
    }
    if let Err(error) = follower.guard(Urgency::Now).await {
        tracing::debug!(error = %in_one_line(&error), "the slot was not looked at");
    }
}

/// Tells of a failure, unless somebody has since following worked last: a predecessor, in another process.
async fn tell_once(follower: &Follower, failed: Event) -> Result<(), StoreError> {
    let store = follower.loader().store();
    let source = follower.source().name();
    if !store.incidents().has_failing_syncs(source).await? {
        let events = store.events();
        events.publish(failed, TraceContext::current()).await?;
    }
    Ok(())
}
