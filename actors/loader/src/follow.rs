//! Which tables of a source are loaded now, after its schema has been compared with what is followed.
//!
//! [`decide`] says what a change leads to; here it is written down, told, and made to the raw table, in
//! one transaction each. A table that cannot be followed is *held*: it keeps its last good rows, is told
//! of once, and keeps no other table from anything. It is looked at again by every sync and leaves by
//! itself when its shape fits; a full refresh takes it as it is.

use std::collections::HashMap;

use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{
    Origin, SchemaPolicy, SourceReader, Survey, TableName, TableSpec, TableTrouble,
};
use ballpoint_runtime::shape::{self, Hold, SchemaChange, Shape, Verdict, decide};
use ballpoint_runtime::store::{EventBus, KnownTable, SourceTables};
use ballpoint_runtime::trace::TraceContext;

use crate::drift;
use crate::error::{LoadError, SyncError};
use crate::report::HeldTable;
use crate::sync::Loader;

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
        reader: &dyn SourceReader,
        tables: &[TableName],
        full_refresh: bool,
    ) -> Result<Settled, SyncError> {
        let survey = reader.survey().await?;
        let known = self.store().source_tables().of(reader.name()).await;
        let known = known.map_err(LoadError::Store)?;
        let first = known.is_empty();
        let mut known: HashMap<TableName, KnownTable> = known
            .into_iter()
            .map(|known| (known.table.clone(), known))
            .collect();
        check_names(reader.name(), tables, &survey, &known)?;
        let asked = |table: &TableName| tables.is_empty() || tables.contains(table);
        let source = reader.name();
        let mut settled = Settled::default();
        for gone in gone(&survey, &known) {
            let hold = self.drop_out(source, gone, &survey).await?;
            settled.held.extend(hold.filter(|held| asked(&held.table)));
        }
        for trouble in survey.troubled.iter().filter(|it| asked(&it.table)) {
            let before = known.get(&trouble.table);
            if trouble.missing && before.is_some_and(was_followed) {
                continue;
            }
            settled
                .held
                .push(self.trouble(source, trouble, before).await?);
        }
        for spec in survey.tables {
            if !asked(&spec.table) {
                continue;
            }
            let before = known.remove(&spec.table);
            let new = before.is_none() && !first;
            match self
                .settle_one(source, spec, before, new, full_refresh)
                .await?
            {
                Next::Load(due) => settled.load.push(*due),
                Next::Wait(held) => settled.held.push(held),
            }
        }
        Ok(settled)
    }

    async fn settle_one(
        &self,
        source: &str,
        mut spec: TableSpec,
        known: Option<KnownTable>,
        new: bool,
        full_refresh: bool,
    ) -> Result<Next, LoadError> {
        let policy = spec.options.on_schema_change;
        let present = Shape::from(&spec);
        let followed = known.as_ref().filter(|known| was_followed(known));
        let never = known.is_some() && followed.is_none();
        if (new || never) && !full_refresh {
            let hold = match policy {
                SchemaPolicy::Propagate => None,
                SchemaPolicy::Pause => Some(Hold::Paused),
                SchemaPolicy::Ignore => Some(Hold::Ignored),
            };
            // One that was held for another reason than being new is configured, and wanted.
            let was_new = known
                .as_ref()
                .is_none_or(|it| matches!(it.hold, Some(Hold::Paused | Hold::Ignored)));
            if let Some(hold) = hold.filter(|_| was_new) {
                let reason = "the table is new, and on_schema_change does not take new ones";
                let changes = vec![SchemaChange::TableAdded];
                return self
                    .wait(source, &spec, known.as_ref(), hold, reason, Some(changes))
                    .await;
            }
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

    /// Makes the raw table fit and writes down what it follows now, in one transaction.
    async fn follow(&self, change: &drift::Change<'_>, shape: &Shape) -> Result<(), LoadError> {
        let raw = TableName::new(self.schema(), &change.spec.table.name);
        let mut transaction = drift::apply(self.store().pool(), &raw, change).await?;
        SourceTables::follow_in(&mut transaction, change.source, &change.spec.table, shape).await?;
        let event = Event::SchemaChanged {
            source: change.source.to_owned(),
            table: change.spec.table.clone(),
            changes: change.changes.to_vec(),
            held: None,
        };
        let event = EventBus::record_in(&mut transaction, event, TraceContext::current()).await?;
        transaction.commit().await?;
        tracing::info!(source = change.source, table = %change.spec.table,
            changes = shape::describe(change.changes), "the source's schema changed");
        self.store().events().announce(event);
        Ok(())
    }

    /// The table waits; told once for each shape and reason.
    async fn wait(
        &self,
        source: &str,
        spec: &TableSpec,
        known: Option<&KnownTable>,
        hold: Hold,
        reason: &str,
        changes: Option<Vec<SchemaChange>>,
    ) -> Result<Next, LoadError> {
        let seen = Shape::from(spec);
        let held = HeldTable::new(&spec.table, hold, reason);
        let told = known.is_some_and(|known| {
            known.hold == Some(hold) && known.reason == reason && known.seen.as_ref() == Some(&seen)
        });
        if !told {
            self.hold(source, &held, Some(&seen), changes).await?;
        }
        Ok(Next::Wait(held))
    }

    async fn trouble(
        &self,
        source: &str,
        trouble: &TableTrouble,
        known: Option<&KnownTable>,
    ) -> Result<HeldTable, LoadError> {
        let held = HeldTable::new(&trouble.table, Hold::Quarantined, &trouble.reason);
        let told = known
            .is_some_and(|known| known.hold == Some(held.hold) && known.reason == trouble.reason);
        if !told {
            self.hold(source, &held, None, None).await?;
        }
        Ok(held)
    }

    /// A table that was known is there no longer. `None`: its patterns leave it out now.
    async fn drop_out(
        &self,
        source: &str,
        known: &KnownTable,
        survey: &Survey,
    ) -> Result<Option<HeldTable>, LoadError> {
        if survey.left_out.contains(&known.table) {
            self.forget(source, &known.table).await?;
            return Ok(None);
        }
        let oid = known.shape.oid;
        let mut tables = survey.tables.iter();
        let renamed = tables.find(|spec| oid != 0 && spec.origin.oid == oid);
        let change = renamed.map_or(SchemaChange::TableDropped, |to| {
            SchemaChange::TableRenamed {
                to: to.table.clone(),
            }
        });
        let held = HeldTable::new(&known.table, Hold::Gone, &change.to_string());
        if known.hold != Some(Hold::Gone) {
            self.hold(source, &held, None, Some(vec![change])).await?;
        }
        Ok(Some(held))
    }

    /// Writes down that a table waits, and tells of it.
    pub(crate) async fn hold(
        &self,
        source: &str,
        held: &HeldTable,
        seen: Option<&Shape>,
        changes: Option<Vec<SchemaChange>>,
    ) -> Result<(), LoadError> {
        let changed = changes
            .filter(|changes| !changes.is_empty())
            .map(|changes| Event::SchemaChanged {
                source: source.to_owned(),
                table: held.table.clone(),
                changes,
                held: Some(held.hold),
            });
        let waits = Event::TableHeld {
            source: source.to_owned(),
            table: held.table.clone(),
            hold: held.hold,
            reason: held.reason.clone(),
        };
        let (hold, reason) = (held.hold, held.reason.as_str());
        let mut transaction = self.noting().await?;
        SourceTables::hold_in(&mut transaction, source, &held.table, hold, reason, seen).await?;
        let events = changed.into_iter().chain([waits]);
        self.record(transaction, events).await?;
        tracing::warn!(source, table = %held.table, reason, "a table waits: {}", hold.as_str());
        Ok(())
    }

    async fn ignore(
        &self,
        source: &str,
        spec: &TableSpec,
        known: &KnownTable,
        changes: Vec<SchemaChange>,
    ) -> Result<(), LoadError> {
        let seen = Shape::from(spec);
        if known.hold.is_none() && known.seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        let mut transaction = self.noting().await?;
        SourceTables::ignore_in(&mut transaction, source, &spec.table, &seen).await?;
        let event = Event::SchemaChanged {
            source: source.to_owned(),
            table: spec.table.clone(),
            changes,
            held: None,
        };
        self.record(transaction, [event]).await
    }

    async fn forget(&self, source: &str, table: &TableName) -> Result<(), LoadError> {
        let mut transaction = self.noting().await?;
        SourceTables::forget_in(&mut transaction, source, table).await?;
        let released = Event::TableReleased {
            source: source.to_owned(),
            table: table.clone(),
        };
        self.record(transaction, [released]).await
    }

    /// After a load: what the raw table follows from now on, if that is new.
    pub(crate) async fn loaded(&self, source: &str, due: &Due) -> Result<(), LoadError> {
        let policy = due.spec.options.on_schema_change;
        let shape = Shape::from(&due.spec);
        let released = due.known.as_ref().is_some_and(|known| known.hold.is_some());
        // What was changed on the way here is written down already.
        let same = match &due.known {
            Some(known) if policy == SchemaPolicy::Ignore => {
                known.shape.columns.len() == shape.columns.len()
            }
            Some(known) => known.shape == shape,
            None => false,
        };
        if same && !released {
            return Ok(());
        }
        let table = due.spec.table.clone();
        let source_name = source.to_owned();
        let added = due.new.then(|| Event::SchemaChanged {
            source: source_name.clone(),
            table: table.clone(),
            changes: vec![SchemaChange::TableAdded],
            held: None,
        });
        let released = released.then_some(Event::TableReleased {
            source: source_name,
            table,
        });
        let mut transaction = self.noting().await?;
        SourceTables::follow_in(&mut transaction, source, &due.spec.table, &shape).await?;
        self.record(transaction, added.into_iter().chain(released))
            .await
    }

    /// A load failed for what only a change of the table, or of the configuration, can end: the table
    /// waits, and the sync has done its work.
    pub(crate) async fn failed(
        &self,
        source: &str,
        due: &Due,
        error: LoadError,
    ) -> Result<HeldTable, LoadError> {
        if !holds(&error) {
            return Err(error);
        }
        let reason = ballpoint_runtime::failure::in_one_line(&error);
        let known = due.known.as_ref();
        match self
            .wait(source, &due.spec, known, Hold::Quarantined, &reason, None)
            .await?
        {
            Next::Wait(held) => Ok(held),
            Next::Load(_) => Err(error),
        }
    }

    async fn noting(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, LoadError> {
        let begun = self.store().pool().begin().await;
        begun.map_err(LoadError::warehouse("writing what is known of a table"))
    }

    async fn record(
        &self,
        mut transaction: sqlx::Transaction<'static, sqlx::Postgres>,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<(), LoadError> {
        let mut recorded = Vec::new();
        for event in events {
            let trace = TraceContext::current();
            recorded.push(EventBus::record_in(&mut transaction, event, trace).await?);
        }
        transaction
            .commit()
            .await
            .map_err(LoadError::warehouse("writing what is known of a table"))?;
        for event in recorded {
            self.store().events().announce(event);
        }
        Ok(())
    }
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

/// Leaves only the columns that are followed.
fn restrict(spec: &mut TableSpec, followed: &Shape) {
    let origins = std::mem::take(&mut spec.origin.columns).into_iter();
    let mut origins = origins.map(Some).chain(std::iter::repeat(None));
    let columns = std::mem::take(&mut spec.columns);
    let mut kept = Vec::new();
    for column in columns {
        let origin = origins.next().flatten();
        if followed.column(&column.name).is_some() {
            kept.extend(origin);
            spec.columns.push(column);
        }
    }
    spec.origin = Origin {
        oid: spec.origin.oid,
        columns: kept,
    };
}
