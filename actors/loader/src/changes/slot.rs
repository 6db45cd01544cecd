//! The slot that a source keeps its log for: its name, how far it is behind, and its end before it fills
//! the source's disk.

use std::time::Duration;

use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::SourceError;

use super::Follower;
use super::copies::Copies;
use super::copying;
use super::session::Session;
use crate::error::{LoadError, SyncError};

/// Between looks at how much log the source keeps, while its tables are copied.
const BUDGET_INTERVAL: Duration = Duration::from_secs(5);

/// How much a slot that holds back too much is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Its log is about to be read: what a round of copies has held back is read first.
    AfterReading,
    /// It is not read.
    Now,
}

impl Follower {
    /// One slot a source and warehouse: a second warehouse on the same source has its own.
    pub(super) async fn slot_name(&self, session: &mut Session) -> Result<String, LoadError> {
        let hash: String = sqlx::query_scalar(
            "select substr(md5(system_identifier::text || current_database()), 1, 8)
             from pg_control_system()",
        )
        .fetch_one(session.connection())
        .await
        .map_err(LoadError::warehouse("naming the slot"))?;
        let source = self.source().name().to_lowercase();
        let fit = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let source: String = source.chars().map(fit).take(40).collect();
        Ok(format!("ballpoint_{hash}_{source}"))
    }

    /// Looks how much log the slot holds back; whether that is more than the source may keep.
    pub(super) async fn is_over_budget(&self) -> Result<bool, SyncError> {
        let name = self.source().name();
        let Some(slot) = self.slot().await? else {
            return Ok(false);
        };
        let Some(lag) = self.source().lag(&slot).await? else {
            return Ok(false);
        };
        // The source's disk is looked after also while the warehouse is away.
        if let Err(error) = self.loader().store().streams().note_lag(name, &lag).await {
            tracing::debug!(error = %in_one_line(&error), "the slot's lag was not written down");
        }
        let Some(budget) = self.source().policy().max_slot_wal else {
            return Ok(false);
        };
        let retained = lag.retained_bytes;
        if retained > budget / 10 * 8 {
            tracing::warn!(source = name, %slot, retained, budget, "the slot holds back much log");
        }
        Ok(retained > budget)
    }

    /// The source's slot, also while the warehouse that keeps its name is away.
    async fn slot(&self) -> Result<Option<String>, SyncError> {
        let known = self.noting(|status| status.slot.clone());
        if !known.is_empty() {
            return Ok(Some(known));
        }
        let position = self
            .loader()
            .store()
            .streams()
            .get(self.source().name())
            .await;
        Ok(position
            .map_err(LoadError::from)?
            .map(|position| position.slot))
    }

    /// Gives up a slot that holds back more log than it may: the source's disk comes first. The next
    /// attachment finds the slot missing and copies its tables again.
    pub(super) async fn guard(&self, urgency: Urgency) -> Result<(), SyncError> {
        if !self.is_over_budget().await?
            || urgency == Urgency::AfterReading && self.drains().await?
        {
            return Ok(());
        }
        if let Some(slot) = self.slot().await? {
            tracing::warn!(source = self.source().name(), %slot, "the slot is given up");
            self.source().retire(&slot).await?;
        }
        Ok(())
    }

    /// Whether the slot holds log back that a round of copies has not let be read: giving it up then would
    /// only make the next round as long.
    async fn drains(&self) -> Result<bool, LoadError> {
        let failed = || LoadError::warehouse("looking how far the tables are");
        let pool = self.loader().store().pool();
        let mut connection = pool.acquire().await.map_err(failed())?;
        let ahead = copying::are_ahead(&mut connection, self.source().name()).await;
        ahead.map_err(failed())
    }

    /// Waits for a round of copies beside which nothing flows. A copy that makes the source keep more log
    /// than it may never ends: with the slot given up, the next one would be as long.
    ///
    /// # Errors
    /// What to change in the configuration.
    pub(super) async fn wait_for(&self, copies: &Copies) -> Result<(), SyncError> {
        loop {
            tokio::select! {
                () = copies.ended() => return Ok(()),
                () = tokio::time::sleep(BUDGET_INTERVAL) => {}
            }
            if self.is_over_budget().await? {
                self.guard(Urgency::Now).await?;
                let reason = "copying its tables makes it keep more log than max_slot_wal: raise that, or \
                              copy while less is written";
                return Err(SourceError::Configuration {
                    source_name: self.source().name().to_owned(),
                    reason: reason.to_owned(),
                }
                .into());
            }
        }
    }

    /// Takes what is installed in the source away when nothing is followed any more: a slot that
    /// nobody reads fills the source's disk.
    pub(super) async fn retire(&self) -> Result<(), SyncError> {
        let (store, name) = (self.loader().store(), self.source().name());
        let position = store.streams().get(name).await.map_err(LoadError::from)?;
        let Some(position) = position else {
            return Ok(());
        };
        let Some(mut session) = Session::open(store, name).await? else {
            return Ok(());
        };
        self.source().retire(&position.slot).await?;
        self.forget_stream(&mut session).await?;
        Ok(())
    }
}
