//! Whether a raw table holds what its source held at the snapshot that it was loaded up to.

use ballpoint_postgres::ident::quote;
use ballpoint_runtime::segment::{Checksum, SyncMode, TableName, TableSpec};
use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::error::LoadError;
use crate::target::{self, GENERATION_ID};
use crate::transaction::WarehouseTransaction;

/// Both sides of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub source: Checksum,
    pub raw: Checksum,
}

impl Proof {
    /// Whether both sides hold the same rows.
    pub fn holds(&self) -> bool {
        self.source == self.raw
    }
}

/// Compares the raw table, as the transaction sees it, with what the source said; nothing to compare
/// with, no proof.
pub(crate) async fn of(
    transaction: &mut WarehouseTransaction,
    raw: &TableName,
    spec: &TableSpec,
    source: Option<Checksum>,
) -> Result<Option<Proof>, LoadError> {
    let Some(source) = source else {
        return Ok(None);
    };
    let failed = || LoadError::warehouse("comparing the raw table with its source");
    transaction
        .run(Checksum::SETTINGS.to_owned())
        .await
        .map_err(failed())?;
    let quoted = target::quoted(raw);
    let select: Vec<String> = spec.columns.iter().map(|it| quote(&it.name)).collect();
    let rows = match (spec.options.append, &spec.mode) {
        (true, SyncMode::FullRefresh) => {
            format!("{quoted} where {GENERATION_ID} = (select max({GENERATION_ID}) from {quoted})")
        }
        // Marked rows are gone in the source.
        _ => format!("{quoted} where _ab_cdc_deleted_at is null"),
    };
    let sql = Checksum::sql(&select.join(", "), &rows);
    let (rows, hash): (i64, String) = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_one(&mut **transaction)
        .await
        .map_err(failed())?;
    let raw = Checksum {
        rows: rows.unsigned_abs(),
        hash,
    };
    Ok(Some(Proof { source, raw }))
}
