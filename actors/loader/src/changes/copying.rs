//! The first state of a table that is followed: its snapshot, landed with the LSN that it is of.

use ballpoint_runtime::changes::{ChangeSnapshot, StreamPosition};
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{Segment, TableName, TableSpec, WriteMode};
use ballpoint_runtime::store::{Checkpoints, EventBus};
use ballpoint_runtime::trace::TraceContext;
use sqlx::PgConnection;

use super::table::TableState;
use crate::error::{LoadError, crash_point};
use crate::report::TableReport;
use crate::sync::Loader;
use crate::target::Target;
use crate::transaction::WarehouseTransaction;

/// Copies one table and marks it as streaming; rows, state and event in one transaction.
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
    let rows = snapshot.copy(spec).await?;
    let position = TableState::new(spec, stream, snapshot.lsn()).to_position();
    let segment = Segment::of_stream(spec.clone(), WriteMode::Replace, position.clone(), rows);
    report.replaced = true;
    crash_point("changes.before_snapshot")?;
    loader
        .land(&mut transaction, &mut report, target, segment)
        .await?;
    Checkpoints::put_in(&mut transaction, source, &spec.table, &position).await?;
    let loaded = Event::TableLoaded {
        source: source.to_owned(),
        table: spec.table.clone(),
        raw: report.raw.clone(),
        rows: report.changed(),
    };
    let event = EventBus::record_in(&mut transaction, loaded, TraceContext::current()).await?;
    crash_point("changes.before_snapshot_commit")?;
    transaction.commit().await?;
    crash_point("changes.after_snapshot_commit")?;
    loader.store().events().announce(event);
    report.ended(None)
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
