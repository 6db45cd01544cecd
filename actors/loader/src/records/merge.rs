//! From covered to committed: rows, refused rows, states and events of all streams in one transaction.

use ballpoint_postgres::ident::quote;
use ballpoint_runtime::event::Event;
use ballpoint_runtime::segment::{Column, TableName};
use ballpoint_runtime::store::{Checkpoints, EventBus, RecordedEvent};
use ballpoint_runtime::trace::TraceContext;
use sqlx::AssertSqlSafe;

use super::landing::{INTERVAL, Landing, ORDER, StreamLanding};
use super::refused::{self, Refused};
use super::shape;
use crate::error::{LoadError, crash_point};
use crate::extraction;
use crate::replace;
use crate::target::{self, EXTRACTED_AT, GENERATION_ID, Target};
use crate::transaction::WarehouseTransaction;

/// The column in which a connector that reads a log marks a row as deleted.
const DELETED_AT: &str = "_ab_cdc_deleted_at";

/// What a commit did to one table.
#[derive(Clone, Debug, Default)]
struct Moved {
    read: u64,
    inserted: u64,
    updated: u64,
    deleted: u64,
    refused: u64,
    /// Of the first refused row.
    reason: String,
}

impl Landing {
    /// Commits what is covered. What is not stays staged.
    pub(super) async fn commit(&mut self) -> Result<(), LoadError> {
        if !self.has_covered() || self.session().is_lost() {
            return Ok(());
        }
        self.stage_all().await?;
        let mut due: Vec<usize> = (0..self.streams().len())
            .filter(|at| self.streams()[*at].is_due())
            .collect();
        // In one order everywhere, so that two loads never wait for each other.
        due.sort_by(|a, b| self.streams()[*a].raw.cmp(&self.streams()[*b].raw));
        let connection = self.session().take();
        let first = self.streams()[due[0]].raw.clone();
        let mut transaction = WarehouseTransaction::begin_on(connection, &first).await?;
        for at in &due[1..] {
            transaction
                .keep_others_from(&self.streams()[*at].raw)
                .await?;
        }
        crash_point("loader.records_before_merge")?;
        let extracted_at = extraction::assign(&mut transaction)
            .await
            .map_err(LoadError::warehouse("taking the extraction time"))?;
        let mut events = Vec::new();
        let mut moved = Vec::new();
        for at in &due {
            let done = self.move_on(&mut transaction, *at, &extracted_at).await?;
            events.extend(self.conclude(&mut transaction, *at, &done).await?);
            moved.push(done);
        }
        crash_point("loader.records_before_commit")?;
        let connection = transaction.commit_and_keep().await?;
        self.session().give_back(connection);
        self.committed();
        for event in events {
            self.loader().store().events().announce(event);
        }
        for (at, done) in due.into_iter().zip(moved) {
            self.note(at, &done);
        }
        crash_point("loader.records_after_commit")?;
        Ok(())
    }

    async fn move_on(
        &self,
        transaction: &mut WarehouseTransaction,
        at: usize,
        extracted_at: &str,
    ) -> Result<Moved, LoadError> {
        let stream = &self.streams()[at];
        let mut moved = if stream.replaces {
            overwrite(transaction, stream).await?
        } else {
            add(transaction, stream, extracted_at).await?
        };
        let upto = covered_upto(stream);
        let refused = Refused {
            stream: at,
            upto,
            source: self.source(),
            table: &stream.spec.table,
            schema: &stream.raw.schema,
            replaces: stream.replaces,
            run: self.loader().run().map(|run| run.id().to_string()),
        };
        (moved.refused, moved.reason) = refused::keep(transaction, &refused).await?;
        moved.read += moved.refused;
        let rest = if stream.has_uncovered_rows() {
            format!("delete from {} where {INTERVAL} < {upto}", stream.stage)
        } else {
            format!("truncate {}", stream.stage)
        };
        transaction
            .run(rest)
            .await
            .map_err(LoadError::warehouse("clearing the stage"))?;
        Ok(moved)
    }

    /// The state of a stream and the events that tell of its rows, in the transaction of both.
    async fn conclude(
        &self,
        transaction: &mut WarehouseTransaction,
        at: usize,
        moved: &Moved,
    ) -> Result<Vec<RecordedEvent>, LoadError> {
        let stream = &self.streams()[at];
        let (_, position) = stream.covered.as_ref().expect("only those that are due");
        let table = &stream.spec.table;
        Checkpoints::put_in(transaction, self.source(), table, position).await?;
        let rows = moved.inserted + moved.updated + moved.deleted;
        let (source, trace) = (self.source().to_owned(), TraceContext::current());
        let mut events = Vec::new();
        if rows > 0 || stream.replaces {
            let loaded = Event::TableLoaded {
                source: source.clone(),
                table: table.clone(),
                raw: stream.raw.clone(),
                rows,
            };
            events.push(EventBus::record_in(transaction, loaded, trace.clone()).await?);
        }
        if moved.refused > 0 {
            let rejected = Event::RowsRejected {
                source,
                table: table.clone(),
                rows: moved.refused,
                reason: moved.reason.clone(),
            };
            events.push(EventBus::record_in(transaction, rejected, trace).await?);
        }
        Ok(events)
    }

    fn note(&mut self, at: usize, moved: &Moved) {
        let stream = &mut self.streams_mut()[at];
        let upto = covered_upto(stream);
        stream.covered = None;
        stream.replaced.retain(|(interval, ..)| *interval >= upto);
        let report = &mut stream.report;
        report.read += moved.read;
        report.inserted += moved.inserted;
        report.updated += moved.updated;
        report.rejected += moved.refused;
        report.unchanged = report
            .read
            .saturating_sub(report.inserted + report.updated + report.rejected);
        report.replaced |= stream.replaces || moved.deleted > 0;
        let stream = &self.streams()[at];
        self.tell(stream, Some(stream.report.read));
    }
}

fn covered_upto(stream: &StreamLanding) -> u64 {
    stream.covered.as_ref().map_or(0, |(upto, _)| *upto)
}

/// The columns that are the stream's own: those of the metadata are added to every table.
fn own_columns(stream: &StreamLanding) -> Vec<Column> {
    let columns = stream.spec.columns.iter();
    columns
        .filter(|column| column.name != DELETED_AT)
        .map(|column| Column {
            not_null: false,
            ..column.clone()
        })
        .collect()
}

fn has_delete_marks(stream: &StreamLanding) -> bool {
    stream.spec.columns.iter().any(|it| it.name == DELETED_AT)
}

/// The table is what the stage holds.
async fn overwrite(
    transaction: &mut WarehouseTransaction,
    stream: &StreamLanding,
) -> Result<Moved, LoadError> {
    let failed = || LoadError::warehouse("filling the new table");
    let old = Target::find(transaction, &stream.raw)
        .await
        .map_err(failed())?;
    let name = format!("{}_records", replace::beside(&stream.raw));
    let new = TableName::new(&stream.raw.schema, name);
    let quoted = target::quoted(&new);
    let columns = own_columns(stream);
    let names = target::names(&columns);
    let upto = covered_upto(stream);
    transaction
        .run(format!(
            "create table {quoted} ({})",
            target::definitions(&columns)
        ))
        .await
        .map_err(failed())?;
    let read = count(transaction, &stream.stage, upto).await?;
    let alive = match has_delete_marks(stream) {
        true => format!("where {DELETED_AT} is null"),
        false => String::new(),
    };
    let latest = latest(stream, upto);
    let inserted = transaction
        .run(format!(
            "insert into {quoted} {} select {names} from ({latest}) latest {alive} order by {ORDER}",
            listed(&names),
        ))
        .await
        .map_err(failed())?;
    replace::key(transaction, &new, stream.key()).await?;
    replace::analyse_and_swap(transaction, &stream.raw, old.as_ref(), &new).await?;
    Ok(Moved {
        read,
        inserted,
        ..Moved::default()
    })
}

/// `(a, b)`; nothing where there is none, which is what SQL wants.
fn listed(names: &str) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("({names})")
    }
}

/// What the stage holds comes to what is there.
async fn add(
    transaction: &mut WarehouseTransaction,
    stream: &StreamLanding,
    extracted_at: &str,
) -> Result<Moved, LoadError> {
    let failed = || LoadError::warehouse("merging rows");
    let columns = own_columns(stream);
    let target = shape::fitting(transaction, &stream.raw, &columns, stream.key()).await?;
    let upto = covered_upto(stream);
    let mut moved = Moved {
        read: count(transaction, &stream.stage, upto).await?,
        ..Moved::default()
    };
    let raw = target::quoted(&stream.raw);
    for (_, column, value) in stream.replaced.iter().filter(|(at, ..)| *at < upto) {
        let sql = format!("delete from {raw} where {} = $1", quote(column));
        let gone = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(value)
            .execute(&mut **transaction)
            .await
            .map_err(failed())?;
        moved.deleted += gone.rows_affected();
    }
    if moved.read == 0 {
        return Ok(moved);
    }
    let (inserted, updated): (i64, i64) = sqlx::query_as(AssertSqlSafe(merge_sql(
        stream,
        &target,
        upto,
        extracted_at,
    )))
    .persistent(false)
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed())?;
    moved.inserted = inserted.unsigned_abs();
    moved.updated = updated.unsigned_abs();
    if has_delete_marks(stream) && !stream.key().is_empty() {
        let sql = format!("delete from {raw} where {DELETED_AT} is not null");
        moved.deleted += transaction.run(sql).await.map_err(failed())?;
    }
    Ok(moved)
}

/// The covered rows; of those with one key only the latest.
fn latest(stream: &StreamLanding, upto: u64) -> String {
    let from = format!("from {} where {INTERVAL} < {upto}", stream.stage);
    if stream.key().is_empty() {
        return format!("select * {from}");
    }
    let key = target::quote_all(stream.key());
    let cursor = stream.spec.cursor.as_ref().map_or(String::new(), |cursor| {
        format!("{} desc nulls last, ", quote(cursor))
    });
    format!("select distinct on ({key}) * {from} order by {key}, {cursor}{ORDER} desc")
}

fn merge_sql(stream: &StreamLanding, target: &Target, upto: u64, extracted_at: &str) -> String {
    let mut columns = own_columns(stream);
    if has_delete_marks(stream) {
        columns.push(Column {
            name: DELETED_AT.to_owned(),
            sql_type: "timestamp with time zone".to_owned(),
            not_null: false,
        });
    }
    let type_of = |name: &str| {
        let known = target.columns.iter().find(|it| it.name == name);
        known.map_or("timestamp with time zone", |it| it.sql_type.as_str())
    };
    let values: Vec<String> = columns
        .iter()
        .map(|column| format!("{}::{}", quote(&column.name), type_of(&column.name)))
        .collect();
    let (names, comma) = (
        target::names(&columns),
        if columns.is_empty() { "" } else { ", " },
    );
    format!(
        "with merged as (
           insert into {raw} as present ({names}{comma}{EXTRACTED_AT}, {GENERATION_ID})
           select {values}{comma}{extracted_at}, {generation}
           from ({latest}) latest order by {ORDER} {on_conflict}
           returning (xmax = 0) as inserted)
         select count(*) filter (where inserted), count(*) filter (where not inserted) from merged",
        raw = target::quoted(&stream.raw),
        values = values.join(", "),
        generation = target.generation,
        latest = latest(stream, upto),
        on_conflict = on_conflict(stream, &columns),
    )
}

/// A row that is equal byte for byte (`*<>`) is left alone, and one whose cursor is behind that of the
/// row that is there is older than it.
fn on_conflict(stream: &StreamLanding, columns: &[Column]) -> String {
    let key = stream.key();
    if key.is_empty() {
        return String::new();
    }
    let image = |alias: &str| {
        let each = columns
            .iter()
            .map(|c| format!("{alias}.{}", quote(&c.name)));
        format!("row({})::record", each.collect::<Vec<_>>().join(", "))
    };
    let mut set: Vec<String> = columns
        .iter()
        .filter(|column| !key.contains(&column.name))
        .map(|column| format!("{0} = excluded.{0}", quote(&column.name)))
        .collect();
    set.extend([EXTRACTED_AT, GENERATION_ID].map(|name| format!("{name} = excluded.{name}")));
    let newer = stream.spec.cursor.as_ref().map_or(String::new(), |cursor| {
        let cursor = quote(cursor);
        format!(" and (present.{cursor} is null or excluded.{cursor} >= present.{cursor})")
    });
    format!(
        "on conflict ({}) do update set {} where {} operator(pg_catalog.*<>) {}{newer}",
        target::quote_all(key),
        set.join(", "),
        image("present"),
        image("excluded"),
    )
}

async fn count(
    transaction: &mut WarehouseTransaction,
    stage: &str,
    upto: u64,
) -> Result<u64, LoadError> {
    let sql = format!("select count(*) from {stage} where {INTERVAL} < {upto}");
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(&mut **transaction)
        .await
        .map_err(LoadError::warehouse("counting the staged rows"))?;
    Ok(rows.unsigned_abs())
}
