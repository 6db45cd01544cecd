//! Snapshots exported by a slot: what the tables hold at exactly one point of the log.

use std::sync::Arc;

use async_trait::async_trait;
use ballpoint_runtime::changes::{ChangeSnapshot, Lsn};
use ballpoint_runtime::segment::{Checksum, Segment, SourceError, TableSpec};
use pgwire_replication::ReplicationClient;

use super::log::ChangeLog;
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

    async fn open(&self, spec: &TableSpec, replayed_from: Lsn) -> Result<Segment, SourceError> {
        let from = replayed_from.to_string();
        self.source.open_at(spec, &self.name, &from).await
    }

    async fn checksum(&self, spec: &TableSpec) -> Result<Checksum, SourceError> {
        let (mut connection, table) = self.source.under(&self.name, spec).await?;
        self.source.checksum(&mut connection, &table).await
    }
}
