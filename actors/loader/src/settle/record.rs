//! What was settled, written down in `ballpoint.source_tables` and told, in one transaction each.

use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{
    SchemaPolicy, Survey, SyncMode, TableName, TableSpec, TableTrouble,
};
use ballpoint_runtime::shape::{self, Hold, SchemaChange, Shape};
use ballpoint_runtime::store::{EventBus, KnownTable, SourceTables};
use ballpoint_runtime::trace::TraceContext;

use super::{Due, Next, holds};
use crate::changes::table::TableState;
use crate::error::LoadError;
use crate::report::HeldTable;
use crate::sync::Loader;
use crate::transaction::WarehouseTransaction;
use crate::{drift, replace, shadow};

impl Loader {
    /// Makes the raw table fit and writes down what it follows now, in one transaction.
    pub(super) async fn follow(
        &self,
        change: &drift::Change<'_>,
        shape: &Shape,
    ) -> Result<(), LoadError> {
        let raw = TableName::new(self.schema(), &change.spec.table.name);
        let mut transaction = drift::apply(self.store().pool(), &raw, change).await?;
        SourceTables::follow_in(&mut transaction, change.source, &change.spec.table, shape).await?;
        if change.spec.mode == SyncMode::Cdc {
            TableState::reshape_in(&mut transaction, change.source, change.spec).await?;
        }
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
    pub(super) async fn wait(
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

    pub(super) async fn trouble(
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
    pub(super) async fn drop_out(
        &self,
        source: &str,
        known: &KnownTable,
        survey: &Survey,
    ) -> Result<Option<HeldTable>, LoadError> {
        if known.hold != Some(Hold::Gone) {
            self.clear_beside(&known.table).await?;
        }
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

    /// Removes what an interrupted load of a table left in the warehouse: nobody will go on with it.
    async fn clear_beside(&self, table: &TableName) -> Result<(), LoadError> {
        let raw = TableName::new(self.schema(), &table.name);
        let shadow = TableName::new(self.schema(), replace::beside(&raw));
        let mut transaction = WarehouseTransaction::begin(self.store().pool(), &raw).await?;
        let cleared = transaction.run(shadow::forget(&shadow)).await;
        cleared.map_err(LoadError::warehouse("removing an interrupted load"))?;
        transaction.commit().await
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

    pub(super) async fn ignore(
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
