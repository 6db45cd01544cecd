//! A PostgreSQL source as a [`ChangeSource`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ballpoint_runtime::changes::{
    Attached, ChangeSnapshot, ChangeSource, ChangeStream, FollowPolicy, Lsn, OnGap, SlotLag,
    StreamPosition,
};
use ballpoint_runtime::segment::{SourceError, SourceReader, Survey, TableName, TableSpec};
use pgwire_replication::{PgWireError, ReplicationClient};
use sqlx::postgres::PgConnection;

use super::endpoint::Endpoint;
use super::{added, slot, snapshot, stream};
use crate::config::GapPolicy;
use crate::connection::configuration;
use crate::reader::PostgresSource;

/// Catalog statements, and those that change the publication.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Opening a replication session, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The log of one source.
pub struct ChangeLog {
    source: Arc<PostgresSource>,
    endpoint: Endpoint,
    /// Why the stream can never be read on from where it stands; the next attachment says it.
    broken: Arc<Mutex<Option<String>>>,
}

impl ChangeLog {
    /// The log of `source`; connects when first used.
    ///
    /// # Errors
    /// [`SourceError::Configuration`] for a URL without host, user or database.
    pub fn new(source: Arc<PostgresSource>) -> Result<Self, SourceError> {
        let endpoint = Endpoint::parse(&source.config().url).ok_or_else(|| {
            let reason = "its url lacks the host or the user, which reading the log needs";
            configuration(&source.config().name, reason)
        })?;
        Ok(Self {
            source,
            endpoint,
            broken: Arc::default(),
        })
    }

    pub(super) fn name_of_source(&self) -> &str {
        &self.source.config().name
    }

    pub(super) fn source(&self) -> &Arc<PostgresSource> {
        &self.source
    }

    pub(super) async fn connection(&self) -> Result<PgConnection, SourceError> {
        self.source.connections().acquire(STATEMENT_TIMEOUT).await
    }

    pub(super) fn failed(&self, error: &sqlx::Error) -> SourceError {
        self.source.connections().failure(error)
    }

    pub(super) fn refuse(&self, reason: &str) -> SourceError {
        configuration(self.name_of_source(), reason)
    }

    pub(super) fn unavailable(&self, reason: impl ToString) -> SourceError {
        SourceError::Unavailable {
            source_name: self.name_of_source().to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What an error of the replication session means to the caller.
    pub(super) fn wire_failure(&self, error: &PgWireError) -> SourceError {
        match error {
            PgWireError::Auth(reason) => self.refuse(reason),
            other => self.unavailable(other),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn broken(&self) -> &Arc<Mutex<Option<String>>> {
        &self.broken
    }

    pub(super) fn take_broken(&self) -> Option<String> {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// A replication session that has authenticated and streams nothing yet.
    pub(super) async fn session(&self, slot: &str) -> Result<ReplicationClient, SourceError> {
        let config = self.endpoint.session(self.name_of_source(), slot);
        let opening = async {
            let mut client = ReplicationClient::connect_gated(config).await?;
            // Connecting goes on in the background: the first answer says that it worked.
            client.simple_query("SELECT 1").await?;
            Ok::<_, PgWireError>(client)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(self.wire_failure(&error)),
            Err(_) => Err(self.unavailable(format!(
                "no answer to a replication session within {} s",
                CONNECT_TIMEOUT.as_secs()
            ))),
        }
    }
}

#[async_trait]
impl ChangeSource for ChangeLog {
    fn name(&self) -> &str {
        self.name_of_source()
    }

    fn policy(&self) -> FollowPolicy {
        let config = self.source.config();
        FollowPolicy {
            on_gap: match config.on_gap {
                GapPolicy::Resnapshot => OnGap::Resnapshot,
                GapPolicy::Refuse => OnGap::Refuse,
            },
            max_slot_wal: config.max_slot_wal,
        }
    }

    async fn survey(&self) -> Result<Survey, SourceError> {
        self.source.survey().await
    }

    async fn log_end(&self) -> Result<Lsn, SourceError> {
        slot::log_end(self).await
    }

    async fn came_empty(
        &self,
        table: &TableName,
        columns: &[&str],
        is_rewritten: bool,
    ) -> Result<bool, SourceError> {
        added::came_empty(self, table, columns, is_rewritten).await
    }

    async fn attach(
        &self,
        slot: &str,
        tables: &[TableName],
        from: Option<&StreamPosition>,
    ) -> Result<Attached, SourceError> {
        slot::attach(self, slot, tables, from).await
    }

    async fn publish(
        &self,
        slot: &str,
        tables: &[TableName],
    ) -> Result<Option<Vec<TableName>>, SourceError> {
        slot::publish(self, slot, tables).await
    }

    async fn snapshot(&self, slot: Option<&str>) -> Result<Box<dyn ChangeSnapshot>, SourceError> {
        snapshot::export(self, slot).await
    }

    async fn stream(
        &self,
        slot: &str,
        from: Lsn,
        specs: &[TableSpec],
    ) -> Result<Box<dyn ChangeStream>, SourceError> {
        stream::open(self, slot, from, specs).await
    }

    async fn mark(&self) -> Result<Lsn, SourceError> {
        slot::mark(self).await
    }

    async fn lag(&self, slot: &str) -> Result<Option<SlotLag>, SourceError> {
        slot::lag(self, slot).await
    }

    async fn retire(&self, slot: &str) -> Result<(), SourceError> {
        slot::retire(self, slot).await
    }
}
