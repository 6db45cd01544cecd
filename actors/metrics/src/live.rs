//! Live queries: a result now, and again whenever the data under it gives another one.
//!
//! Nothing is polled. A change of a table, of the definitions or of the registry wakes the query;
//! it is asked again, which costs nothing where its own tables stand, and only rows that differ are
//! passed on. A reader that is slow gets the latest result, not each of them.

use std::time::Duration;

use futures_util::stream::{self, Stream};
use serde_json::Value;
use tokio::sync::watch;

use crate::handle::MetricRegistryHandle;
use crate::model::SecurityContext;
use crate::served::Served;

/// Pause after the registry could not be reached.
const AWAY: Duration = Duration::from_secs(1);

/// One live query.
struct Watch {
    handle: MetricRegistryHandle,
    request: Value,
    context: SecurityContext,
    /// Wakes with what may change the result; `None` until the first answer.
    changes: Option<watch::Receiver<u64>>,
    /// What was passed on last.
    last: Option<(u16, [u8; 32], bytes::Bytes)>,
}

impl MetricRegistryHandle {
    /// The replies to a load: the first at once, then one for each change of its data. The stream
    /// ends with its reader only. An error is passed on like a result, and once.
    pub fn watch(
        &self,
        request: Value,
        context: SecurityContext,
    ) -> impl Stream<Item = Served> + Send + use<> {
        let watch = Watch {
            handle: self.clone(),
            request,
            context,
            changes: None,
            last: None,
        };
        stream::unfold(watch, |mut watch| async move {
            let served = watch.next().await;
            Some((served, watch))
        })
    }
}

impl Watch {
    async fn next(&mut self) -> Served {
        loop {
            self.wait().await;
            let service = match self.handle.service().await {
                Ok(service) => service,
                Err(_) if self.last.is_some() => {
                    self.changes = None;
                    tokio::time::sleep(AWAY).await;
                    continue;
                }
                Err(error) => {
                    let reply = crate::ApiReply::from(error);
                    self.last = Some((reply.status, [0; 32], bytes::Bytes::new()));
                    return reply.into();
                }
            };
            // Subscribed before the answer is made: what changes meanwhile wakes the next look.
            let changes = service.results.versions.subscribe();
            self.changes = Some(changes);
            let served = service
                .load_served(None, &self.request, &self.context)
                .await;
            if self.is_news(&served) {
                return served;
            }
        }
    }

    /// Until something changed that the last answer did not see.
    async fn wait(&mut self) {
        match &mut self.changes {
            None if self.last.is_none() => {}
            // The registry was away, and with it what would have told of a change.
            None => tokio::time::sleep(AWAY).await,
            Some(changes) => {
                if changes.changed().await.is_err() {
                    self.changes = None;
                }
            }
        }
    }

    fn is_news(&mut self, served: &Served) -> bool {
        // Errors have no digest of their own: their text says what they are.
        let text = if served.has_data() {
            bytes::Bytes::new()
        } else {
            served.body.clone()
        };
        let now = Some((served.status, served.digest, text));
        let news = self.last != now;
        self.last = now;
        news
    }
}
