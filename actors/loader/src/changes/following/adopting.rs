//! What a look beside the stream has settled, taken over without opening the stream again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ballpoint_runtime::segment::TableSpec;

use super::Following;
use crate::changes::copying;
use crate::changes::look::Look;
use crate::changes::looking::{Known, Looking, News};
use crate::error::{LoadError, SyncError};

/// New tables, changed columns and asked-for copies are noticed within this.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

impl Following<'_> {
    /// Begins a look at the source where one is wanted, or due.
    pub(super) fn look_if_due(&mut self) {
        if self.looking.is_some() || self.session.is_open() {
            return;
        }
        let is_retry_due = |at| !self.copies.are_running() && Instant::now() >= at;
        let is_asked_for = self.wants_look
            || !self.postponed.is_empty()
            || self.copies.retry_at().is_some_and(is_retry_due);
        if !is_asked_for && self.looked_at.elapsed() < LOOK_INTERVAL {
            return;
        }
        self.wants_look = false;
        self.looked_at = Instant::now();
        let known = Known {
            look: Arc::clone(&self.look),
            followed: self.by_name.keys().cloned().collect(),
            is_asked_for,
            is_draining: Some(self.end) < self.drains_to,
        };
        self.looking = Some(Looking::start(self.follower, known));
    }

    /// False where the stream has to be opened again.
    pub(super) async fn take_news(&mut self, news: News) -> Result<bool, SyncError> {
        match news {
            News::Nothing => Ok(true),
            News::OverBudget => Ok(false),
            // Those that were left meanwhile are.
            News::Forgotten(tables) => {
                let is_followed = |table| self.by_name.contains_key(table);
                Ok(!tables.iter().any(is_followed))
            }
            News::Tables(look) => self.adopt(look).await,
        }
    }

    /// Goes on with what a look found. False where the stream does not carry that.
    async fn adopt(&mut self, look: Look) -> Result<bool, SyncError> {
        let Some(published) = &look.published else {
            return Ok(false);
        };
        if look.specs.is_empty() || !self.stream.carries(&look.specs) {
            return Ok(false);
        }
        let stream = self.follower.position(&mut self.session).await?;
        // Somebody had taken them out of the publication, or they are new.
        let strange = published.iter().filter_map(|table| self.by_name.get(table));
        for at in strange.copied().collect::<Vec<_>>() {
            self.leave(at).await?;
        }
        let followed: Vec<usize> = self.by_name.values().copied().collect();
        for at in followed {
            let known = &self.tables[at].spec;
            let spec = look.specs.iter().find(|spec| spec.table == known.table);
            if spec == Some(known) {
                continue;
            }
            let continues = match spec {
                Some(spec) => {
                    let session = &mut self.session;
                    self.follower.continues(session, spec, &stream).await?
                }
                None => false,
            };
            match spec.filter(|_| continues) {
                Some(spec) => {
                    let table = &mut self.tables[at];
                    self.session.reshape(table, spec.clone()).await?;
                }
                None => self.leave(at).await?,
            }
        }
        self.look = Arc::new(look);
        self.wants_look = false;
        self.resume().await?;
        self.begin_copies().await?;
        Ok(true)
    }

    /// Writes the changes that have waited, and lets the position follow.
    async fn resume(&mut self) -> Result<(), SyncError> {
        let waited = self.postponed.take();
        let is_noted = !self.postponed.to_note().is_empty();
        let Some(end) = self.ahead.filter(|_| is_noted) else {
            return Ok(());
        };
        let by_table = self.sorted(waited);
        if by_table.is_empty() {
            self.session.begin_quietly().await?;
        } else {
            self.write(&by_table, true).await?;
        }
        self.commit(end).await
    }

    /// Has the tables copied that have no state, unless changes wait that the copies' round would hold back.
    async fn begin_copies(&mut self) -> Result<(), SyncError> {
        if self.postponed.is_empty() {
            let is_missing = |spec: &&TableSpec| !self.by_name.contains_key(&spec.table);
            let missing = self.look.specs.iter().filter(is_missing);
            let missing: Vec<TableSpec> = missing.cloned().collect();
            self.follower
                .copy_missing(&mut self.session, &missing, None, self.copies)
                .await?;
        }
        Ok(self.account_for().await?)
    }

    /// See [`Follower::account_for`](crate::changes::Follower).
    pub(in crate::changes) async fn account_for(&mut self) -> Result<(), LoadError> {
        let is_followed = |table: &_| self.by_name.contains_key(table);
        self.follower
            .account_for(&self.look, self.copies, &is_followed)
            .await
    }

    /// Follows a table no longer; it is copied again if it is to be followed.
    pub(super) async fn leave(&mut self, at: usize) -> Result<(), LoadError> {
        let (name, table) = (self.follower.source().name(), &self.tables[at].spec.table);
        copying::forget(self.session.connection(), name, table)
            .await
            .map_err(LoadError::warehouse("giving a table up"))?;
        self.leave_out(at);
        Ok(())
    }

    /// The same, once that is written down.
    pub(super) fn leave_out(&mut self, at: usize) {
        let table = &mut self.tables[at];
        table.is_left = true;
        self.by_name.remove(&table.spec.table);
        self.wants_look = true;
    }
}
