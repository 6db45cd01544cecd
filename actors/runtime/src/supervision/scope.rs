//! A stack's own corner of ractor's process-global registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Prefixes the names of one stack's actors, so that several stacks live in one process. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Scope {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    prefix: String,
    /// Calls that wait for an answer, by actor.
    waiting: Mutex<HashMap<String, Arc<AtomicU64>>>,
}

impl Scope {
    /// The scope of that name.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                prefix: prefix.into(),
                waiting: Mutex::default(),
            }),
        }
    }

    /// A scope that no other part of this process uses.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self::new(format!("stack-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The name in ractor's registry.
    pub fn qualify(&self, name: &str) -> String {
        format!("{}/{name}", self.inner.prefix)
    }

    /// The counter of calls that wait for an answer from `name`.
    pub(super) fn waiting(&self, name: &str) -> Arc<AtomicU64> {
        let mut waiting = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(waiting.entry(name.to_owned()).or_default())
    }
}
