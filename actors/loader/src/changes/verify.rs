//! Whether the followed tables hold what their source holds, at one position of its log.

use ballpoint_runtime::changes::ChangeSnapshot;
use ballpoint_runtime::segment::{TableName, TableSpec};

use super::{FollowReport, Follower};
use crate::error::{LoadError, TableFailure};
use crate::proof;
use crate::transaction::WarehouseTransaction;

impl Follower {
    /// Compares each table with `snapshot`; the caller has brought the warehouse to exactly there and
    /// keeps it there. What differs is a failure, and no longer in the report.
    pub(super) async fn verify(
        &self,
        specs: &[TableSpec],
        snapshot: &dyn ChangeSnapshot,
        report: &mut FollowReport,
    ) -> Result<Vec<TableFailure>, LoadError> {
        let mut failures = Vec::new();
        for done in std::mem::take(&mut report.tables) {
            let Some(spec) = specs.iter().find(|spec| spec.table == done.table) else {
                report.tables.push(done);
                continue;
            };
            let expected = snapshot.checksum(spec).await?;
            let raw = TableName::new(self.loader().schema(), &spec.table.name);
            let pool = self.loader().store().pool();
            let mut transaction = WarehouseTransaction::begin(pool, &raw).await?;
            let found = proof::of(&mut transaction, &raw, spec, Some(expected)).await?;
            transaction.rollback().await?;
            match done.ended(found) {
                Ok(proved) => report.tables.push(proved),
                Err(error) => failures.push(TableFailure {
                    table: spec.table.clone(),
                    error,
                }),
            }
        }
        Ok(failures)
    }
}
