//! The first state of a table that is followed: its snapshot, landed with the LSN that it is of.

use ballpoint_runtime::changes::{ChangeSnapshot, StreamPosition};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, EventBus, Streams};
use ballpoint_runtime::trace::TraceContext;
use sqlx::PgConnection;

use super::follow::moved;
use super::table::TableState;
use crate::error::{LoadError, crash_point};
use crate::report::TableReport;
use crate::sync::Loader;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;

/// Copies one table; rows, state and event in one transaction. Ranges of an interrupted attempt stay,
/// where replaying the log from the stream's position mends what has changed since: that takes a key.
pub(super) async fn copy(
    loader: &Loader,
    source: &str,
    spec: &TableSpec,
    snapshot: &dyn ChangeSnapshot,
    stream: &StreamPosition,
) -> Result<TableReport, LoadError> {
    let raw = TableName::new(loader.schema(), &spec.table.name);
    let mut report = TableReport::begun(source, spec.table.clone(), raw);
    let mut transaction = WarehouseTransaction::begin(loader.store().pool(), &report.raw).await?;
    let target = Target::find(&mut transaction, &report.raw)
        .await
        .map_err(LoadError::warehouse("looking at the raw table"))?;
    let replayed_from = match target::merge_key(spec) {
        // No range of another snapshot is of this position.
        [] => snapshot.lsn(),
        [_, ..] => stream.end,
    };
    let segment = snapshot.open(spec, replayed_from).await?;
    report.replaced = true;
    crash_point("changes.before_snapshot")?;
    loader
        .land_whole(&mut transaction, &mut report, target, segment, false)
        .await?;
    let state = TableState::copied(spec, stream, snapshot.lsn());
    let state = match report.resumed {
        false => state,
        true => state.replayed_from(replayed_from),
    };
    Checkpoints::put_in(&mut transaction, source, &spec.table, &state.to_position()).await?;
    let loaded = Event::TableLoaded {
        source: source.to_owned(),
        table: spec.table.clone(),
        raw: report.raw.clone(),
        rows: report.changed(),
    };
    let event = EventBus::record_in(&mut transaction, loaded, TraceContext::current()).await?;
    crash_point("changes.before_snapshot_commit")?;
    // A copy that its follower has given up may still be at its commit when another one moves on.
    if !Streams::hold_in(&mut transaction, source, stream).await? {
        return Err(moved(source));
    }
    transaction.commit().await?;
    crash_point("changes.after_snapshot_commit")?;
    loader.store().events().announce(event);
    report.ended(None)
}

/// Lets copied tables join the others. A copy that became visible only after the stream had moved past its
/// snapshot, as one can whose commit was under way when its connection was lost, counts for nothing.
/// Returns how many tables' states are different now.
pub(super) async fn rejoin(
    connection: &mut PgConnection,
    source: &str,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "delete from ballpoint.checkpoints c using ballpoint.streams s
         where c.source = $1 and s.source = $1 and c.position->>'state' = 'copied'
           and (c.position->>'snapshot_lsn')::pg_lsn < s.end_lsn",
    )
    .bind(source)
    .execute(&mut *connection)
    .await?;
    let apart = part(connection, source).await?;
    let joined = sqlx::query(
        "update ballpoint.checkpoints
         set position = position || jsonb_build_object('state', 'streaming')
         where source = $1 and position->>'state' = 'copied'",
    )
    .bind(source)
    .execute(connection)
    .await?;
    Ok(apart + joined.rows_affected())
}

/// Writes into each table's state from where its changes are missing: from where it ran ahead to, or from the
/// stream's position on if they were postponed. Returns how many states are different now.
pub(super) async fn part(connection: &mut PgConnection, source: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update ballpoint.checkpoints c
         set position = c.position || case c.position->>'state'
             when 'postponed' then jsonb_build_object('state', 'streaming')
             else jsonb_build_object('snapshot_lsn',
                 greatest((c.position->>'snapshot_lsn')::pg_lsn, s.ahead_lsn)::text) end
         from ballpoint.streams s
         where c.source = $1 and s.source = $1 and s.ahead_lsn is not null
           and c.position->>'state' in ('streaming', 'postponed')",
    )
    .bind(source)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Notes whether a table's changes are postponed: in the transaction that brings those of the others that they
/// are, and in that which brings its own that they are no longer.
pub(super) async fn postpone(
    connection: &mut PgConnection,
    source: &str,
    table: &TableName,
    is_postponed: bool,
) -> Result<(), sqlx::Error> {
    let (from, to) = match is_postponed {
        true => ("streaming", "postponed"),
        false => ("postponed", "streaming"),
    };
    sqlx::query(
        "update ballpoint.checkpoints set position = position || jsonb_build_object('state', $5::text)
         where source = $1 and table_schema = $2 and table_name = $3 and position->>'state' = $4",
    )
    .bind(source)
    .bind(&table.schema)
    .bind(&table.name)
    .bind(from)
    .bind(to)
    .execute(connection)
    .await?;
    Ok(())
}

/// Those of `tables` that have no state: somebody asked for a new copy of them.
pub(super) async fn forgotten(
    connection: &mut PgConnection,
    source: &str,
    tables: &[TableName],
) -> Result<Vec<TableName>, sqlx::Error> {
    let known: Vec<(String, String)> = sqlx::query_as(
        "select table_schema, table_name from ballpoint.checkpoints
         where source = $1 and position ? 'snapshot_lsn'",
    )
    .bind(source)
    .fetch_all(connection)
    .await?;
    let is_known = |table: &TableName| {
        let mut known = known.iter();
        known.any(|(schema, name)| (schema, name) == (&table.schema, &table.name))
    };
    let forgotten = tables.iter().filter(|table| !is_known(table));
    Ok(forgotten.cloned().collect())
}

/// Whether a table's changes are missing only from after the stream's position on: a round of copies has held
/// that back.
pub(super) async fn are_ahead(
    connection: &mut PgConnection,
    source: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from ballpoint.checkpoints c join ballpoint.streams s using (source)
                        where source = $1 and (c.position->>'snapshot_lsn')::pg_lsn > s.end_lsn)",
    )
    .bind(source)
    .fetch_one(connection)
    .await
}

/// Makes `table` be copied again: its rows stay until then.
pub(super) async fn forget(
    connection: &mut PgConnection,
    source: &str,
    table: &TableName,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from ballpoint.checkpoints
         where source = $1 and table_schema = $2 and table_name = $3 and position ? 'snapshot_lsn'",
    )
    .bind(source)
    .bind(&table.schema)
    .bind(&table.name)
    .execute(connection)
    .await?;
    Ok(())
}

/// The same of every followed table of a source but `kept`: what is followed again later has missed
/// changes meanwhile.
pub(super) async fn forget_but(
    connection: &mut PgConnection,
    source: &str,
    kept: &[TableName],
) -> Result<(), sqlx::Error> {
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    sqlx::query(
        "delete from ballpoint.checkpoints
         where source = $1 and table_schema || '.' || table_name <> all($2)
           and position ? 'snapshot_lsn'",
    )
    .bind(source)
    .bind(kept)
    .execute(connection)
    .await?;
    Ok(())
}
