//! A look at a source beside its stream: what it finds is settled while changes flow.

use std::sync::Arc;

use ballpoint_runtime::segment::TableName;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::Follower;
use super::copying;
use super::look::{Look, names};
use crate::error::{LoadError, SyncError};

/// What a look found.
pub(super) enum News {
    Nothing,
    /// The tables, or a table's columns, are other ones.
    Tables(Look),
    /// Somebody asked for new copies of these.
    Forgotten(Vec<TableName>),
    /// The slot holds back more log than it may.
    OverBudget,
}

/// What is known before a look.
pub(super) struct Known {
    pub(super) look: Arc<Look>,
    /// The tables whose changes flow.
    pub(super) followed: Vec<TableName>,
    /// Whether there is news already, whatever the source says.
    pub(super) is_asked_for: bool,
    /// Whether the stream is still busy with what a round of copies has held back.
    pub(super) is_draining: bool,
}

/// A look at work; dropping it ends it.
pub(super) struct Looking {
    task: JoinHandle<Result<News, SyncError>>,
    /// Whether what it finds is waited for.
    pub(super) is_asked_for: bool,
}

impl Looking {
    pub(super) fn start(follower: &Follower, known: Known) -> Self {
        let is_asked_for = known.is_asked_for;
        let follower = follower.clone();
        let look = async move { follower.news(known).await };
        Self {
            task: tokio::spawn(look.in_current_span()),
            is_asked_for,
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Result<News, SyncError> {
        match (&mut self.task).await {
            Ok(news) => news,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only dropping a look cancels its task.
            Err(_) => Ok(News::Nothing),
        }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    pub(super) async fn news(&self, known: Known) -> Result<News, SyncError> {
        if !known.is_asked_for {
            if self.is_over_budget().await? && !known.is_draining {
                return Ok(News::OverBudget);
            }
            let forgotten = self.forgotten(&known.followed).await?;
            if !forgotten.is_empty() {
                return Ok(News::Forgotten(forgotten));
            }
            if !self.has_news_since(&known.look).await? {
                return Ok(News::Nothing);
            }
        }
        let mut look = self.look().await?;
        let tables = names(&look.specs);
        if !tables.is_empty() && tables != names(&known.look.specs) {
            let slot = self.noting(|status| status.slot.clone());
            look.published = self.source().publish(&slot, &tables).await?;
        }
        Ok(News::Tables(look))
    }

    async fn forgotten(&self, followed: &[TableName]) -> Result<Vec<TableName>, LoadError> {
        let failed = || LoadError::warehouse("looking for tables to copy again");
        let pool = self.loader().store().pool();
        let mut connection = pool.acquire().await.map_err(failed())?;
        let name = self.source().name();
        let forgotten = copying::forgotten(&mut connection, name, followed).await;
        forgotten.map_err(failed())
    }
}
