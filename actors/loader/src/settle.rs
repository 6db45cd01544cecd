//! Which tables of a source are loaded now, after its schema has been compared with what is followed.
//!
//! [`decide`] says what a change leads to; `record` writes that down, tells of it, and makes it to the
//! raw table. A table that cannot be followed is *held*: it keeps its last good rows, is told of once, and
//! keeps no other table from anything. It is looked at again by every sync, and whenever the log's
//! follower looks at the source, and leaves by itself when its shape fits; a full refresh takes it as it
//! is.

use std::collections::HashMap;

use ballpoint_runtime::changes::ChangeSource;
use ballpoint_runtime::segment::{
    Column, Origin, SchemaPolicy, Survey, SyncMode, TableName, TableSpec,
};
use ballpoint_runtime::shape::{Hold, SchemaChange, Shape, Verdict, decide};
use ballpoint_runtime::store::KnownTable;

use crate::changes::table::TableState;
use crate::drift;
use crate::error::{LoadError, SyncError};
use crate::report::HeldTable;
use crate::sync::Loader;

mod record;

/// Whose tables are settled: each of a source's tables has one that does it.
#[derive(Clone, Copy)]
pub(crate) enum Share<'a> {
    /// A sync's: the tables that it reads, and what is gone or cannot be read.
    Read,
    /// The tables that are kept by this log: of whoever follows it.
    Followed(&'a dyn ChangeSource),
}

impl Share<'_> {
    fn has(&self, spec: &TableSpec) -> bool {
        (spec.mode == SyncMode::Cdc) == matches!(self, Self::Followed(_))
    }
}

/// What a sync does with the tables that it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) load: Vec<Due>,
    pub(crate) held: Vec<HeldTable>,
}

/// A table to load.
#[derive(Debug)]
pub(crate) struct Due {
    /// With the columns that are followed.
    pub(crate) spec: TableSpec,
    /// What is known of it before this load.
    known: Option<KnownTable>,
    /// It was not there before, and the others were.
    new: bool,
}

impl Loader {
    /// Compares what the source has with what is followed, makes the raw tables fit, and returns what
    /// is to be loaded.
    pub(crate) async fn settle(
        &self,
        source: &str,
        survey: Survey,
        share: Share<'_>,
        tables: &[TableName],
        full_refresh: bool,
    ) -> Result<Settled, SyncError> {
        let known = self.store().source_tables().of(source).await;
        let known = known.map_err(LoadError::Store)?;
        let is_others = |known: &KnownTable| {
            let mut there = survey.tables.iter();
            there.any(|spec| spec.table == known.table && !share.has(spec))
        };
        let first = known.iter().all(is_others);
        let mut known: HashMap<TableName, KnownTable> = known
            .into_iter()
            .map(|known| (known.table.clone(), known))
            .collect();
        check_names(source, tables, &survey, &known)?;
        let asked = |table: &TableName| tables.is_empty() || tables.contains(table);
        let mut settled = Settled::default();
        if matches!(share, Share::Read) {
            settled.held = self.settle_absent(source, &survey, &known, &asked).await?;
        }
        for spec in survey.tables {
            if !(asked(&spec.table) && share.has(&spec)) {
                continue;
            }
            let before = known.remove(&spec.table);
            let new = before.is_none() && !first;
            let seen = Seen {
                source,
                share,
                spec,
                known: before,
                new,
            };
            match self.settle_one(seen, full_refresh).await? {
                Next::Load(due) => settled.load.push(*due),
                Next::Wait(held) => settled.held.push(held),
            }
        }
        Ok(settled)
    }

    /// The tables that are gone, or cannot be read as they are configured.
    async fn settle_absent(
        &self,
        source: &str,
        survey: &Survey,
        known: &HashMap<TableName, KnownTable>,
        asked: &(dyn Fn(&TableName) -> bool + Sync),
    ) -> Result<Vec<HeldTable>, LoadError> {
        let mut held = Vec::new();
        for gone in gone(survey, known) {
            let hold = self.drop_out(source, gone, survey).await?;
            held.extend(hold.filter(|held| asked(&held.table)));
        }
        for trouble in survey.troubled.iter().filter(|it| asked(&it.table)) {
            let before = known.get(&trouble.table);
            if trouble.missing && before.is_some_and(was_followed) {
                continue;
            }
            held.push(self.trouble(source, trouble, before).await?);
        }
        Ok(held)
    }

    async fn settle_one(&self, seen: Seen<'_>, full_refresh: bool) -> Result<Next, LoadError> {
        let Seen {
            source,
            share,
            mut spec,
            known,
            new,
        } = seen;
        let policy = spec.options.on_schema_change;
        let present = Shape::from(&spec);
        let followed = known.as_ref().filter(|known| was_followed(known));
        let never = known.is_some() && followed.is_none();
        if (new || never)
            && !full_refresh
            && let Some(hold) = hold_of_new(policy, known.as_ref())
        {
            let reason = "the table is new, and on_schema_change does not take new ones";
            let changes = vec![SchemaChange::TableAdded];
            return self
                .wait(source, &spec, known.as_ref(), hold, reason, Some(changes))
                .await;
        }
        let Some(followed) = followed.filter(|_| !full_refresh) else {
            return Ok(Next::Load(Box::new(Due { spec, known, new })));
        };
        let decision = decide(&followed.shape, &present, policy);
        match decision.verdict {
            Verdict::Hold(hold, reason) => {
                let changes = Some(decision.changes);
                self.wait(source, &spec, Some(followed), hold, &reason, changes)
                    .await
            }
            Verdict::Follow { .. } if decision.changes.is_empty() => {
                Ok(Next::Load(Box::new(Due { spec, known, new })))
            }
            Verdict::Follow { .. } if policy == SchemaPolicy::Ignore => {
                self.ignore(source, &spec, followed, decision.changes)
                    .await?;
                restrict(&mut spec, &followed.shape);
                Ok(Next::Load(Box::new(Due { spec, known, new })))
            }
            Verdict::Follow { reload } => {
                let goes_on = match share {
                    Share::Read => true,
                    Share::Followed(log) => self.goes_on(log, &spec, &decision.changes).await?,
                };
                let reload = reload || !goes_on;
                let change = drift::Change {
                    source,
                    spec: &spec,
                    changes: &decision.changes,
                    reload,
                };
                match self.follow(&change, &present).await {
                    Ok(()) => Ok(Next::Load(Box::new(Due { spec, known, new }))),
                    Err(error) if holds(&error) => {
                        let changes = Some(decision.changes);
                        let reason = error.to_string();
                        let hold = Hold::Quarantined;
                        self.wait(source, &spec, Some(followed), hold, &reason, changes)
                            .await
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }
}

impl Loader {
    /// Whether the log tells of all that `changes` did to the rows. It tells of rows that are written by
    /// themselves: not of what a new column's default says of those that are there, nor of rows that
    /// were all written anew.
    async fn goes_on(
        &self,
        log: &dyn ChangeSource,
        spec: &TableSpec,
        changes: &[SchemaChange],
    ) -> Result<bool, LoadError> {
        let checkpoints = self.store().checkpoints();
        let position = checkpoints.get(log.name(), &spec.table).await?;
        let state = position.as_ref().and_then(TableState::parse);
        let Some(state) = state else { return Ok(false) };
        let is_rewritten = !state.has_rows_of(spec);
        let mut added = Vec::new();
        for change in changes {
            match change {
                SchemaChange::ColumnAdded { column, .. } => added.push(column.as_str()),
                SchemaChange::ColumnDropped { .. } | SchemaChange::NullabilityChanged { .. } => {}
                SchemaChange::ColumnRetyped { .. } if !is_rewritten => {}
                _ => return Ok(false),
            }
        }
        Ok(added.is_empty() || log.came_empty(&spec.table, &added, is_rewritten).await?)
    }
}

/// A table as it is seen, and what is known of it.
struct Seen<'a> {
    source: &'a str,
    share: Share<'a>,
    spec: TableSpec,
    known: Option<KnownTable>,
    /// It was not there before, and the others were.
    new: bool,
}

/// What is next for a table.
enum Next {
    Load(Box<Due>),
    Wait(HeldTable),
}

/// Whether the failure is of this table alone, and trying again does not help.
fn holds(error: &LoadError) -> bool {
    use ballpoint_runtime::retry::FailureClass::{SourceChangedShape, SourceRefuses};
    // A comparison that was asked for is an answer, not a state of the table.
    !matches!(error, LoadError::Differs { .. })
        && matches!(error.class(), SourceChangedShape | SourceRefuses)
}

/// What becomes of a table that was not followed before.
fn hold_of_new(policy: SchemaPolicy, known: Option<&KnownTable>) -> Option<Hold> {
    // One that was held for another reason than being new is configured, and wanted.
    let was_new = known.is_none_or(|it| matches!(it.hold, Some(Hold::Paused | Hold::Ignored)));
    match policy {
        SchemaPolicy::Pause if was_new => Some(Hold::Paused),
        SchemaPolicy::Ignore if was_new => Some(Hold::Ignored),
        _ => None,
    }
}

/// Whether rows of it have landed, or were to.
fn was_followed(known: &KnownTable) -> bool {
    !known.shape.columns.is_empty()
}

/// The known tables that the source has no longer.
fn gone<'a>(survey: &Survey, known: &'a HashMap<TableName, KnownTable>) -> Vec<&'a KnownTable> {
    let there = |table: &TableName| {
        survey.tables.iter().any(|spec| spec.table == *table)
            || survey
                .troubled
                .iter()
                .any(|it| it.table == *table && !it.missing)
    };
    let followed = known.values().filter(|it| was_followed(it));
    let mut gone: Vec<&KnownTable> = followed.filter(|it| !there(&it.table)).collect();
    gone.sort_by(|a, b| a.table.cmp(&b.table));
    gone
}

fn check_names(
    source: &str,
    asked: &[TableName],
    survey: &Survey,
    known: &HashMap<TableName, KnownTable>,
) -> Result<(), SyncError> {
    let is_there = |table: &&TableName| {
        known.contains_key(table)
            || survey.tables.iter().any(|spec| spec.table == **table)
            || survey.troubled.iter().any(|it| it.table == **table)
    };
    let Some(unknown) = asked.iter().find(|table| !is_there(table)) else {
        return Ok(());
    };
    let known: Vec<String> = survey
        .tables
        .iter()
        .map(|it| it.table.to_string())
        .collect();
    Err(SyncError::UnknownTable {
        source_name: source.to_owned(),
        table: unknown.clone(),
        known: known.join(", "),
    })
}

/// Leaves those of a list's that are to be kept; a list may be shorter than what it is about.
fn keep<T>(list: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    list.retain(|_| kept.next().is_none_or(|kept| *kept));
}

/// Leaves only the columns that are followed.
fn restrict(spec: &mut TableSpec, followed: &Shape) {
    let is_followed = |column: &Column| followed.column(&column.name).is_some();
    let kept: Vec<bool> = spec.columns.iter().map(is_followed).collect();
    let Origin { columns, types, .. } = &mut spec.origin;
    keep(&mut spec.columns, &kept);
    keep(columns, &kept);
    keep(types, &kept);
}
