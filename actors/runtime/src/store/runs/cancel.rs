//! Ending a run that somebody does not want any more, at once.
//!
//! Only the process that carries a run out can end it, so this is not in a table: who works on a run
//! that may be cancelled keeps a [`Cancellation`] while it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The runs of this process that can be cancelled now.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Cancellations {
    running: Arc<Mutex<Running>>,
}

/// Each run's token, and the reason for whoever hears it.
type Running = HashMap<Uuid, (CancellationToken, Arc<Mutex<String>>)>;

impl Cancellations {
    fn with<T>(&self, act: impl FnOnce(&mut Running) -> T) -> T {
        act(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn listen(&self, run: Uuid) -> Cancellation {
        let (token, why) = (CancellationToken::new(), Arc::default());
        self.with(|running| running.insert(run, (token.clone(), Arc::clone(&why))));
        Cancellation {
            all: self.clone(),
            run,
            token,
            why,
        }
    }

    /// False when nobody here works on the run, or nobody who can stop.
    pub(super) fn cancel(&self, run: Uuid, why: &str) -> bool {
        self.with(|running| {
            let Some((token, reason)) = running.get(&run) else {
                return false;
            };
            why.clone_into(&mut reason.lock().unwrap_or_else(PoisonError::into_inner));
            token.cancel();
            true
        })
    }
}

/// Held by whoever works on a run and stops when it is cancelled.
#[derive(Debug)]
pub struct Cancellation {
    all: Cancellations,
    run: Uuid,
    token: CancellationToken,
    why: Arc<Mutex<String>>,
}

impl Cancellation {
    /// Waits until the run is cancelled; tells why, such as `cancelled by ada`.
    pub async fn cancelled(&self) -> String {
        self.token.cancelled().await;
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        self.all.with(|running| running.remove(&self.run));
    }
}
