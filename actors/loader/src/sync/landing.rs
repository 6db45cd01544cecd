//! A segment's rows into the raw table, by the way that its write mode asks for.

use ballpoint_runtime::segment::{
    RowStream, Rows, Segment, SyncMode, TableName, TableSpec, WriteMode,
};

use super::Loader;
use crate::counter::Counter;
use crate::error::LoadError;
use crate::merge::{self, Merged};
use crate::report::TableReport;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;
use crate::{careful, rejected, replace, shadow};

impl Loader {
    /// Lands a segment, to the row: what was read has landed, or stands in `_rejected`. `carefully`: rows
    /// that the warehouse refuses are found and rejected.
    pub(crate) async fn land_whole(
        &self,
        transaction: &mut WarehouseTransaction,
        report: &mut TableReport,
        target: Option<Target>,
        mut segment: Segment,
        carefully: bool,
    ) -> Result<(), LoadError> {
        let sent = segment.sent.clone();
        let mut refused = std::mem::take(&mut segment.refused);
        let unsent = refused.len() as u64;
        if carefully {
            let counter = Counter::begin(self.progress.clone(), &segment, &report.source);
            refused.extend(careful::land(transaction, report, target, segment).await?);
            counter.ended(report);
        } else {
            self.land(transaction, report, target, segment).await?;
        }
        report.check_counts(sent.as_deref())?;
        report.read += unsent;
        let run = self.run.as_ref().map(|run| run.id().to_string());
        rejected::keep(transaction, report, run, &refused).await
    }

    /// Lands the rows and writes into `report` what became of them.
    async fn land(
        &self,
        transaction: &mut WarehouseTransaction,
        report: &mut TableReport,
        target: Option<Target>,
        segment: Segment,
    ) -> Result<(), LoadError> {
        let counter = Counter::begin(self.progress.clone(), &segment, &report.source);
        let Segment {
            spec, write, rows, ..
        } = segment;
        let count = |rows: RowStream| counter.count(rows);
        let rows = match rows {
            Rows::Stream(rows) => count(rows),
            Rows::Ranges(ranges) => {
                let pool = self.store.pool();
                let landed = shadow::land(pool, &report.raw, &spec, ranges, &count).await?;
                let old = target.as_ref();
                replace::adopt(transaction, &report.raw, old, &spec, &landed.shadow).await?;
                report.read = landed.copied + landed.kept;
                report.kept = landed.kept;
                report.resumed = landed.resumed;
                report.inserted = landed.rows;
                counter.ended(report);
                return Ok(());
            }
        };
        if write == WriteMode::Replace {
            report.read =
                replace::replace(transaction, &report.raw, target.as_ref(), &spec, rows).await?;
            report.inserted = report.read;
        } else {
            let merged = self
                .merge(transaction, &report.raw, target, &spec, write, rows)
                .await?;
            report.read = merged.read;
            report.inserted = merged.inserted;
            report.updated = merged.updated;
        }
        counter.ended(report);
        Ok(())
    }

    async fn merge(
        &self,
        transaction: &mut WarehouseTransaction,
        raw: &TableName,
        target: Option<Target>,
        spec: &TableSpec,
        write: WriteMode,
        rows: RowStream,
    ) -> Result<Merged, LoadError> {
        let refresh = spec.mode == SyncMode::FullRefresh && write == WriteMode::Append;
        let target = replace::present(transaction, raw, target, spec, refresh).await?;
        let key = match write {
            WriteMode::Merge => target::merge_key(spec),
            WriteMode::Append | WriteMode::Replace => &[],
        };
        if !refresh {
            return merge::merge(transaction, &target, spec, key, rows).await;
        }
        let merged = merge::merge(transaction, &target, spec, key, rows).await?;
        if merged.read > 0 {
            target.keep_generation(transaction).await?;
        }
        Ok(merged)
    }
}
