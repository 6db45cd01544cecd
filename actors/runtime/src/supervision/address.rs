//! How an actor is reached: by scoped name, looked up on each send, never by a kept reference (R4).

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Message, RpcReplyPort};
use tokio::time::Instant;

use super::Scope;

/// How long a restart is waited for between two looks at the registry. A restart takes well under
/// a millisecond once its supervisor acts.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why an actor did not get, or did not answer, a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not running, and it did not come back in time.
    #[error("{actor} is not running; see `ballpoint status`")]
    Unavailable { actor: String },
    /// It has the message and has not answered in time.
    #[error("{actor} did not answer within {} ms", waited.as_millis())]
    TimedOut { actor: String, waited: Duration },
    /// It was restarted while it had the message, which must not be sent twice.
    #[error("{actor} was restarted before it answered")]
    Interrupted { actor: String },
}

/// The address of the actor of that name in a scope, whichever incarnation is alive.
pub struct Address<M> {
    name: Arc<str>,
    registered: Arc<str>,
    waiting: Arc<AtomicU64>,
    message: PhantomData<fn(M)>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            registered: Arc::clone(&self.registered),
            waiting: Arc::clone(&self.waiting),
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.registered).finish()
    }
}

impl<M: Message> Address<M> {
    /// The address of `name`; whether such an actor runs shows when it is used.
    pub fn new(scope: &Scope, name: &str) -> Self {
        Self {
            name: name.into(),
            registered: scope.qualify(name).into(),
            waiting: scope.waiting(name),
            message: PhantomData,
        }
    }

    /// The actor's name, without its scope.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a message that nobody waits for. It is lost if the actor is restarted before it gets
    /// to it: only for wake-ups and notices (R2).
    ///
    /// # Errors
    /// [`AddressError::Unavailable`] when the actor is not running at this moment.
    pub fn cast(&self, message: M) -> Result<(), AddressError> {
        ractor::registry::where_is(&*self.registered)
            .and_then(|cell| cell.send_message(message).ok())
            .ok_or_else(|| self.unavailable())
    }

    /// Asks and waits for the answer. While the actor restarts, the message is built and sent
    /// again until the time is up: for queries, and for commands that may run twice (those that
    /// only write a work row or wake).
    ///
    /// # Errors
    /// [`AddressError::Unavailable`] when no incarnation took the message in time,
    /// [`AddressError::TimedOut`] when one took it and did not answer.
    pub async fn call<R: Send + 'static>(
        &self,
        build: impl Fn(RpcReplyPort<R>) -> M,
        timeout: Duration,
    ) -> Result<R, AddressError> {
        let _waiting = Waiting::begin(&self.waiting);
        let deadline = Instant::now() + timeout;
        loop {
            match self.attempt(&build, deadline).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Late => return Err(self.timed_out(timeout)),
                Attempt::NotTaken | Attempt::Dropped => self.look_again(deadline).await?,
            }
        }
    }

    /// Asks once: a message that an actor has taken is not sent again. Until one takes it, it
    /// waits for a restart as [`Address::call`] does.
    ///
    /// # Errors
    /// As [`Address::call`], and [`AddressError::Interrupted`] when the actor was restarted with
    /// the message in its hands.
    pub async fn call_once<R: Send + 'static>(
        &self,
        build: impl Fn(RpcReplyPort<R>) -> M,
        timeout: Duration,
    ) -> Result<R, AddressError> {
        let _waiting = Waiting::begin(&self.waiting);
        let deadline = Instant::now() + timeout;
        loop {
            match self.attempt(&build, deadline).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Late => return Err(self.timed_out(timeout)),
                Attempt::Dropped => {
                    return Err(AddressError::Interrupted {
                        actor: self.name.to_string(),
                    });
                }
                Attempt::NotTaken => self.look_again(deadline).await?,
            }
        }
    }

    async fn attempt<R: Send + 'static>(
        &self,
        build: impl Fn(RpcReplyPort<R>) -> M,
        deadline: Instant,
    ) -> Attempt<R> {
        let Some(cell) = ractor::registry::where_is(&*self.registered) else {
            return Attempt::NotTaken;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match ractor::rpc::call(&cell, build, Some(left)).await {
            Ok(CallResult::Success(answer)) => Attempt::Answered(answer),
            Ok(CallResult::Timeout) => Attempt::Late,
            Ok(CallResult::SenderError) => Attempt::Dropped,
            Err(_) => Attempt::NotTaken,
        }
    }

    /// Sleeps until the next look, or says that there is no time for one.
    async fn look_again(&self, deadline: Instant) -> Result<(), AddressError> {
        if Instant::now() + LOOK_AGAIN >= deadline {
            return Err(self.unavailable());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(())
    }

    fn unavailable(&self) -> AddressError {
        AddressError::Unavailable {
            actor: self.name.to_string(),
        }
    }

    fn timed_out(&self, waited: Duration) -> AddressError {
        AddressError::TimedOut {
            actor: self.name.to_string(),
            waited,
        }
    }
}

enum Attempt<R> {
    Answered(R),
    /// Nobody took the message.
    NotTaken,
    /// Somebody took it and dropped it without an answer: it was restarted.
    Dropped,
    Late,
}

/// Counts a call for as long as it waits, also when the caller gives up.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
