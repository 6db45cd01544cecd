//! An incremental load: rows go to a staging table by COPY and from there into the raw table.
//!
//! A row that is equal to what is there, byte for byte, is left alone: it makes no new version, keeps
//! its extraction time, and so wakes no model. That is also what makes re-reading harmless.

use ballpoint_postgres::copy::copy_in;
use ballpoint_postgres::ident::quote;
use ballpoint_runtime::segment::{RowStream, TableSpec};

use crate::drift::{self, Drift};
use crate::error::LoadError;
use crate::extraction;
use crate::sync::copy_failure;
use crate::target::{self, EXTRACTED_AT, GENERATION_ID, Target};
use crate::transaction::WarehouseTransaction;

const STAGE: &str = "pg_temp._ballpoint_stage";

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) read: u64,
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
}

/// Brings `rows` into `raw`: by `key` where it has columns, else by appending.
pub(crate) async fn merge(
    transaction: &mut WarehouseTransaction,
    raw: &Target,
    spec: &TableSpec,
    key: &[String],
    rows: RowStream,
) -> Result<Merged, LoadError> {
    let widening = widening(raw, spec)?;
    let names = target::names(&spec.columns);
    // Constraints are the raw table's business; staged types are the source's.
    let mut staged = spec.columns.clone();
    staged.iter_mut().for_each(|column| column.not_null = false);
    let stage = format!(
        "create temporary table _ballpoint_stage ({}) on commit drop",
        target::definitions(&staged)
    );
    transaction
        .run(stage)
        .await
        .map_err(LoadError::warehouse("staging rows"))?;
    let copy = format!("COPY {STAGE} ({names}) FROM STDIN (FORMAT binary)");
    let read = copy_in(transaction, &copy, rows)
        .await
        .map_err(copy_failure)?;
    if read == 0 && widening.is_none() {
        return Ok(Merged::default());
    }
    let failed = || LoadError::warehouse("merging rows");
    let extracted_at = extraction::assign(transaction).await.map_err(failed())?;
    // After the clock's lock: a build holds that one while it reads the table.
    if let Some(sql) = widening {
        transaction
            .run(sql)
            .await
            .map_err(LoadError::warehouse("widening the table"))?;
    }
    let (inserted, updated): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(merge_sql(
        raw,
        spec,
        key,
        &extracted_at,
    )))
    .persistent(false)
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed())?;
    Ok(Merged {
        read,
        inserted: inserted.unsigned_abs(),
        updated: updated.unsigned_abs(),
    })
}

/// Makes room for a further merge in the same transaction.
pub(crate) async fn clear(transaction: &mut WarehouseTransaction) -> Result<(), LoadError> {
    transaction
        .run(format!("drop table {STAGE}"))
        .await
        .map_err(LoadError::warehouse("staging rows"))?;
    Ok(())
}

fn merge_sql(raw: &Target, spec: &TableSpec, key: &[String], extracted_at: &str) -> String {
    let names = target::names(&spec.columns);
    let on_conflict = if key.is_empty() {
        String::new()
    } else {
        on_conflict(spec, key)
    };
    format!(
        "with merged as (
           insert into {} as present ({names}, {EXTRACTED_AT}, {GENERATION_ID})
           select {names}, {extracted_at}, {} from {STAGE} {on_conflict}
           returning (xmax = 0) as inserted)
         select count(*) filter (where inserted), count(*) filter (where not inserted) from merged",
        target::quoted(&raw.raw),
        raw.generation,
    )
}

/// `*<>` compares the stored bytes: it knows 1.0 from 1.00, and types that have no `=` (json, xml).
/// The casts keep PostgreSQL from comparing column by column, for which there is no such operator.
fn on_conflict(spec: &TableSpec, key: &[String]) -> String {
    let image = |alias: &str| {
        let columns: Vec<String> = spec
            .columns
            .iter()
            .map(|c| format!("{alias}.{}", quote(&c.name)))
            .collect();
        format!("row({})::record", columns.join(", "))
    };
    let mut set: Vec<String> = spec
        .columns
        .iter()
        .filter(|column| !key.contains(&column.name))
        .map(|column| format!("{0} = excluded.{0}", quote(&column.name)))
        .collect();
    set.extend([EXTRACTED_AT, GENERATION_ID].map(|name| format!("{name} = excluded.{name}")));
    format!(
        "on conflict ({}) do update set {} where {} operator(pg_catalog.*<>) {}",
        target::quote_all(key),
        set.join(", "),
        image("present"),
        image("excluded"),
    )
}

/// The statement that adds what the source has gained, if it has. What cannot be mended by widening is
/// an error.
fn widening(raw: &Target, spec: &TableSpec) -> Result<Option<String>, LoadError> {
    let (added, nullable) = match drift::compare(&raw.columns, &spec.columns) {
        Drift::None => return Ok(None),
        Drift::Widened { added, nullable } => (added, nullable),
        Drift::Incompatible(difference) => {
            return Err(LoadError::Drift {
                raw: raw.raw.clone(),
                difference,
            });
        }
    };
    let add = added
        .iter()
        .map(|c| format!("add column {} {}", quote(&c.name), c.sql_type));
    let free = nullable
        .iter()
        .map(|name| format!("alter column {} drop not null", quote(name)));
    let changes = add.chain(free).collect::<Vec<_>>().join(", ");
    tracing::info!(table = %raw.raw, changes, "the source's columns changed");
    let table = target::quoted(&raw.raw);
    Ok(Some(format!("alter table {table} {changes}")))
}
