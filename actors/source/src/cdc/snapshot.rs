//! Snapshots exported by a slot: what the tables hold at exactly one point of the log.

use std::sync::Arc;

use async_trait::async_trait;
use ballpoint_postgres::ident::quote_literal;
use ballpoint_runtime::changes::{ChangeSnapshot, Lsn};
use ballpoint_runtime::segment::{RowStream, SourceError, TableSpec};
use pgwire_replication::ReplicationClient;
use sqlx::{AssertSqlSafe, Executor};

use super::log::ChangeLog;
use super::slot;
use crate::catalog;
use crate::copy_stream::{self, After, Copy};
use crate::reader::PostgresSource;

/// A snapshot lasts as long as the idle session that made it.
struct Snapshot {
    source: Arc<PostgresSource>,
    lsn: Lsn,
    name: String,
    _session: ReplicationClient,
}

/// Makes a slot, of that name or temporary, and exports the snapshot of its beginning. Waits for the
/// transactions that are open in the server: the caller must hold none there.
pub(super) async fn export(
    log: &ChangeLog,
    name: Option<&str>,
) -> Result<Box<dyn ChangeSnapshot>, SourceError> {
    let temporary = format!("ballpoint_copy_{:016x}", rand::random::<u64>());
    let slot = name.unwrap_or(&temporary);
    let kind = match name {
        Some(_) => "",
        None => "TEMPORARY ",
    };
    let mut session = log.session(slot).await?;
    let create = format!("CREATE_REPLICATION_SLOT {slot} {kind}LOGICAL pgoutput EXPORT_SNAPSHOT");
    let rows = session
        .simple_query(&create)
        .await
        .map_err(|error| log.wire_failure(&error))?;
    let column = |at: usize| {
        let value = rows.first().and_then(|row| row.get(at)?.as_ref());
        value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let answered = column(1).and_then(|lsn| lsn.parse().ok()).zip(column(2));
    let Some((lsn, name)) = answered else {
        return Err(log.unavailable("the server did not say where the new slot begins"));
    };
    Ok(Box::new(Snapshot {
        source: Arc::clone(log.source()),
        lsn,
        name,
        _session: session,
    }))
}

#[async_trait]
impl ChangeSnapshot for Snapshot {
    fn lsn(&self) -> Lsn {
        self.lsn
    }

    async fn copy(&self, spec: &TableSpec) -> Result<RowStream, SourceError> {
        let connections = self.source.connections();
        let failed = |error: sqlx::Error| connections.failure(&error);
        let mut connection = connections.acquire(slot::COPY_SETUP_TIMEOUT).await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
             SET LOCAL statement_timeout = 0",
            quote_literal(&self.name)
        );
        connection
            .execute(AssertSqlSafe(begin))
            .await
            .map_err(failed)?;
        let found = catalog::read(&mut connection, Some(&spec.table))
            .await
            .map_err(failed)?;
        let table = found.into_iter().next().ok_or_else(|| {
            let reason = format!("table {} does not exist", spec.table);
            crate::connection::configuration(self.source.config().name.as_str(), &reason)
        })?;
        let copy = Copy {
            table: spec.table.clone(),
            sql: format!(
                "COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)",
                table.select_list(),
                table.quoted(),
            ),
            sent: Arc::default(),
            after: After::Commit,
        };
        Ok(copy_stream::rows(Arc::clone(connections), connection, copy))
    }
}
