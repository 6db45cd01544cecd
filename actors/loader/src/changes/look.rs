//! What a follower saw of its source and decided to follow.

use ballpoint_runtime::changes::Lsn;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::segment::{Survey, SyncMode, TableName, TableSpec};
use ballpoint_runtime::shape::Hold;

use super::Follower;
use super::copies::Copies;
use crate::error::{LoadError, SyncError};
use crate::report::HeldTable;
use crate::settle::{Due, Share};

/// A source's tables at one moment.
#[derive(Debug)]
pub(super) struct Look {
    /// Where the log ended just before: what it tells of later may be of another shape.
    pub(super) log_end: Lsn,
    /// The tables that are kept by the log, as the source has them.
    seen: Vec<TableSpec>,
    /// Those that wait.
    held: Vec<TableName>,
    /// What is followed of the others.
    pub(super) specs: Vec<TableSpec>,
    due: Vec<Due>,
    /// The tables that were not published before, where that was asked; `None`: the publication is gone.
    pub(super) published: Option<Vec<TableName>>,
}

impl Follower {
    /// Looks at the source and settles what its changes lead to. Only who holds the source's session
    /// does: what is decided is then decided once.
    pub(super) async fn look(&self) -> Result<Look, SyncError> {
        let log_end = self.source().log_end().await?;
        let survey = self.source().survey().await?;
        let seen = kept_by_the_log(&survey);
        let share = Share::Followed(self.source());
        let name = self.source().name();
        let settled = self
            .loader()
            .settle(name, survey, share, &[], false)
            .await?;
        let specs: Vec<TableSpec> = settled.load.iter().map(|due| due.spec.clone()).collect();
        let held: Vec<TableName> = settled.held.iter().map(|it| it.table.clone()).collect();
        self.noting(|status| {
            status.tables = specs.len();
            status.held = settled.held.iter().map(in_words).collect();
        });
        Ok(Look {
            log_end,
            seen,
            held,
            specs,
            due: settled.load,
            published: Some(Vec::new()),
        })
    }

    /// Whether the source's tables are other ones since, or somebody accepted one that waits.
    pub(super) async fn has_news_since(&self, look: &Look) -> Result<bool, SyncError> {
        let now = kept_by_the_log(&self.source().survey().await?);
        if !same_but_for_files(&now, &look.seen) {
            return Ok(true);
        }
        if look.held.is_empty() {
            return Ok(false);
        }
        let held = self.held().await?;
        let waits = |table: &TableName| held.iter().any(|it| it.table == *table);
        Ok(!look.held.iter().all(waits))
    }

    /// The tables of the source that wait, whoever follows it.
    pub(crate) async fn held(&self) -> Result<Vec<HeldTable>, LoadError> {
        let tables = self.loader().store().source_tables();
        let known = tables.of(self.source().name()).await?;
        let held = known.into_iter().filter_map(|known| {
            let hold: Hold = known.hold?;
            Some(HeldTable::new(&known.table, hold, &known.reason))
        });
        Ok(held.collect())
    }

    /// Writes down what became of the tables that were looked at: those whose rows have landed are followed;
    /// those that could not be copied for what only a change of theirs can end wait, and are no failure.
    pub(super) async fn account_for(
        &self,
        look: &Look,
        copies: &mut Copies,
        is_followed: &(dyn Fn(&TableName) -> bool + Sync),
    ) -> Result<(), LoadError> {
        let (source, loader) = (self.source().name(), self.loader());
        for due in look.due.iter().filter(|it| is_followed(&it.spec.table)) {
            loader.loaded(source, due).await?;
        }
        for waiting in copies.waiting() {
            let table = &waiting.spec.table;
            let due = look.due.iter().find(|due| due.spec.table == *table);
            if let Some(due) = due
                && let Some(error) = waiting.error.take()
            {
                match loader.failed(source, due, error).await {
                    Ok(held) => waiting.reason = in_words(&held),
                    Err(error) => {
                        waiting.reason = format!("{table}: {}", in_one_line(&error));
                        waiting.error = Some(error);
                    }
                }
            }
            let waits = format!("{}; next try at {}", waiting.reason, waiting.next_try);
            self.noting(|status| status.held.push(waits));
        }
        Ok(())
    }

    /// Takes tables as they are now, whatever was decided before, and has them copied again.
    pub(super) async fn accept(
        &self,
        survey: Survey,
        tables: &[TableName],
    ) -> Result<(), SyncError> {
        let (source, loader) = (self.source().name(), self.loader());
        let share = Share::Followed(self.source());
        let settled = loader.settle(source, survey, share, tables, true).await?;
        for due in &settled.load {
            loader.loaded(source, due).await?;
        }
        Ok(())
    }
}

pub(super) fn names(specs: &[TableSpec]) -> Vec<TableName> {
    specs.iter().map(|spec| spec.table.clone()).collect()
}

/// The tables that are kept by the source's log.
pub(super) fn kept_by_the_log(survey: &Survey) -> Vec<TableSpec> {
    let tables = survey.tables.iter();
    tables
        .filter(|it| it.mode == SyncMode::Cdc)
        .cloned()
        .collect()
}

/// A table that is emptied or written anew every now and then is no news: its log tells of it, or it has
/// the same rows.
fn same_but_for_files(now: &[TableSpec], before: &[TableSpec]) -> bool {
    let same = |(now, before): (&TableSpec, &TableSpec)| {
        let mut now = now.clone();
        now.origin.file = before.origin.file;
        now == *before
    };
    now.len() == before.len() && now.iter().zip(before).all(same)
}

fn in_words(held: &HeldTable) -> String {
    let (table, state, reason) = (&held.table, held.hold.as_str(), &held.reason);
    format!("{table} is {state}: {reason}")
}
