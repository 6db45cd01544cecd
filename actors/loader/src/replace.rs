//! A full load: the new table is built beside the old one and swapped in.
//!
//! Readers are never kept from the old table while rows flow; they wait only for the swap itself. A
//! truncate in the same transaction would shut them out for the whole COPY.

use ballpoint_postgres::copy::copy_in;
use ballpoint_postgres::ident::{quote, quote_qualified};
use ballpoint_runtime::segment::{Column, RowStream, TableName, TableSpec};

use crate::error::LoadError;
use crate::sync::copy_failure;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;
use crate::{dependents, extraction, shadow};

/// Creates `raw` from `rows`, in place of `old` where there is one. Returns the number of rows.
pub(crate) async fn replace(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    old: Option<&Target>,
    spec: &TableSpec,
    rows: RowStream,
) -> Result<u64, LoadError> {
    let built = create_beside(transaction, raw, spec).await?;
    let loaded = copy_in(transaction, &built.copy, rows)
        .await
        .map_err(copy_failure)?;
    finish(transaction, raw, old, spec, &built.table).await?;
    Ok(loaded)
}

/// Swaps in a table whose ranges have all landed.
pub(crate) async fn adopt(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    old: Option<&Target>,
    spec: &TableSpec,
    shadow: &TableName,
) -> Result<(), LoadError> {
    // A large table's default sample is most of its pages; autovacuum takes that at leisure.
    let sql = format!(
        "{}; set local default_statistics_target = 10",
        shadow::adopt(shadow)
    );
    transaction
        .run(sql)
        .await
        .map_err(LoadError::warehouse("completing the new table"))?;
    finish(transaction, raw, old, spec, shadow).await
}

/// Makes `new`, which holds all rows, the raw table.
async fn finish(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    old: Option<&Target>,
    spec: &TableSpec,
    new: &TableName,
) -> Result<(), LoadError> {
    key(transaction, new, target::merge_key(spec)).await?;
    analyse_and_swap(transaction, raw, old, new).await
}

/// A table that is being built beside the raw one.
pub(crate) struct Building {
    table: TableName,
    /// The COPY into it.
    pub(crate) copy: String,
}

/// Creates an empty table beside the raw one, without a key.
async fn create_beside(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    spec: &TableSpec,
) -> Result<Building, LoadError> {
    let table = TableName::new(&raw.schema, beside(raw));
    transaction
        .run(shadow::forget(&table))
        .await
        .map_err(LoadError::warehouse("creating the new table"))?;
    create(transaction, &table, &spec.columns).await?;
    let names = target::names(&spec.columns);
    Ok(Building {
        copy: format!(
            "COPY {} ({names}) FROM STDIN (FORMAT binary)",
            target::quoted(&table)
        ),
        table,
    })
}

/// Keys a new table, if it has a key.
pub(crate) async fn key(
    transaction: &mut WarehouseTransaction,
    new: &TableName,
    columns: &[String],
) -> Result<(), LoadError> {
    if columns.is_empty() {
        return Ok(());
    }
    let (new, columns) = (target::quoted(new), target::quote_all(columns));
    transaction
        .run(format!("alter table {new} add primary key ({columns})"))
        .await
        .map_err(LoadError::warehouse("keying the new table"))?;
    Ok(())
}

/// Begins a table whose rows come in several copies, keyed from the first row on.
pub(crate) async fn begin(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    spec: &TableSpec,
) -> Result<Building, LoadError> {
    let built = create_beside(transaction, raw, spec).await?;
    key(transaction, &built.table, target::merge_key(spec)).await?;
    Ok(built)
}

/// Swaps in what [`begin`] began.
pub(crate) async fn complete(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    old: Option<&Target>,
    built: &Building,
) -> Result<(), LoadError> {
    analyse_and_swap(transaction, raw, old, &built.table).await
}

/// The raw table that rows are merged into or appended to, made if it is missing. Each full `refresh`
/// that is appended is a generation.
pub(crate) async fn present(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    target: Option<Target>,
    spec: &TableSpec,
    refresh: bool,
) -> Result<Target, LoadError> {
    if let Some(mut target) = target {
        target.generation += i64::from(refresh);
        return Ok(target);
    }
    create_empty(transaction, raw, spec).await?;
    let made = Target::find(transaction, raw)
        .await
        .map_err(LoadError::warehouse("looking at the raw table"))?;
    made.ok_or(LoadError::Warehouse {
        doing: "creating the raw table",
        source: sqlx::Error::RowNotFound,
    })
}

async fn create(
    transaction: &mut WarehouseTransaction,
    table: &TableName,
    columns: &[Column],
) -> Result<(), LoadError> {
    let sql = format!(
        "create table {} ({})",
        target::quoted(table),
        target::definitions(columns)
    );
    transaction
        .run(sql)
        .await
        .map_err(LoadError::warehouse("creating the new table"))?;
    Ok(())
}

/// Creates `raw` without rows, for the first merge or append into it.
pub(crate) async fn create_empty(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    spec: &TableSpec,
) -> Result<(), LoadError> {
    create(transaction, raw, &spec.columns).await?;
    let quoted = target::quoted(raw);
    let failed = LoadError::warehouse("creating the table");
    let mut sql = target::add_metadata(&quoted, "clock_timestamp()", 1);
    if let [_, ..] = target::merge_key(spec) {
        let key = target::quote_all(target::merge_key(spec));
        sql = format!("{sql}; alter table {quoted} add primary key ({key})");
    }
    transaction.run(sql).await.map_err(failed)?;
    Ok(())
}

/// Makes `new`, which is complete, the raw table, with what depended on the old one.
pub(crate) async fn analyse_and_swap(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    old: Option<&Target>,
    new: &TableName,
) -> Result<(), LoadError> {
    transaction
        .run(format!("analyze {}", target::quoted(new)))
        .await
        .map_err(LoadError::warehouse("analysing the new table"))?;
    swap(transaction, raw, old, new).await
}

async fn swap(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    old: Option<&Target>,
    new: &TableName,
) -> Result<(), LoadError> {
    let failed = || LoadError::warehouse("swapping the new table in");
    let quoted = target::quoted(raw);
    let extracted_at = extraction::assign(transaction).await.map_err(failed())?;
    let generation = old.map_or(0, |old| old.generation) + 1;
    let metadata = target::add_metadata(&target::quoted(new), &extracted_at, generation);
    transaction.run(metadata).await.map_err(failed())?;
    let mut views = Vec::new();
    let mut attributes = Vec::new();
    if let Some(old) = old {
        let lock = format!("lock table {quoted} in access exclusive mode");
        transaction.run(lock).await.map_err(failed())?;
        views = dependents::collect(transaction, old.oid)
            .await
            .map_err(failed())?;
        dependents::keep_columns(transaction, old, new)
            .await
            .map_err(failed())?;
        let owner = other_owner(transaction, old.oid).await.map_err(failed())?;
        attributes = dependents::attributes(transaction, old.oid, "table", &quoted, owner)
            .await
            .map_err(failed())?;
        dependents::drop_all(transaction, &views)
            .await
            .map_err(failed())?;
        transaction
            .run(format!("drop table {quoted}"))
            .await
            .map_err(failed())?;
    }
    let rename = format!(
        "alter table {} rename to {}",
        target::quoted(new),
        quote(&raw.name)
    );
    transaction.run(rename).await.map_err(failed())?;
    rename_key(transaction, raw, new).await.map_err(failed())?;
    for statement in attributes {
        transaction.run(statement).await.map_err(failed())?;
    }
    dependents::create_all(transaction, raw, &views).await
}

async fn other_owner(
    transaction: &mut WarehouseTransaction,
    oid: i64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select case when relowner <> current_user::regrole then pg_get_userbyid(relowner)::text end
         from pg_class where oid = $1::oid",
    )
    .bind(oid.to_string())
    .fetch_one(&mut **transaction)
    .await
}

/// The primary key's index still carries the name that the table was built under.
async fn rename_key(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    new: &TableName,
) -> Result<(), sqlx::Error> {
    let built = quote_qualified(&new.schema, &format!("{}_pkey", new.name));
    let wanted: String = raw.name.chars().take(50).collect::<String>() + "_pkey";
    let taken: bool =
        sqlx::query_scalar("select to_regclass($1) is null or to_regclass($2) is not null")
            .bind(&built)
            .bind(quote_qualified(&raw.schema, &wanted))
            .fetch_one(&mut **transaction)
            .await?;
    if !taken {
        transaction
            .run(format!("alter index {built} rename to {}", quote(&wanted)))
            .await?;
    }
    Ok(())
}

/// A name that no user's table has, within PostgreSQL's 63 bytes; loads of one table exclude each
/// other.
pub(crate) fn beside(raw: &TableName) -> String {
    let hash = raw
        .name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("_ballpoint_load_{hash:016x}")
}
