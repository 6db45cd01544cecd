//! Connections to a source and the words for their failures.
//!
//! No pool: a source is read by few statements at a time, and a pool hides the reason of a refused
//! connection behind its own time-out. A connection is kept for reuse only after a clean end.

use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use ballpoint_postgres::pool::open;
use ballpoint_runtime::segment::{SourceError, TableName};
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgConnection};

/// Establishing a connection, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept per source: one reader and one catalog query at a time are usual.
const IDLE_MAX: usize = 2;

/// Opens and keeps connections to one source.
#[derive(Debug)]
pub(crate) struct Connections {
    source: String,
    options: PgConnectOptions,
    idle: Mutex<Vec<PgConnection>>,
}

impl Connections {
    pub(crate) fn new(source: &str, url: &str) -> Result<Self, SourceError> {
        let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
        // The text of a URL error may quote the URL, and with it the password: it is not passed on.
        let options = PgConnectOptions::from_str(url)
            .ok()
            .filter(|_| is_postgres)
            .ok_or_else(|| {
                let form = "postgres://user@host:port/database";
                configuration(
                    source,
                    &format!("its url is not a PostgreSQL connection URL ({form})"),
                )
            })?;
        let options = options.application_name(&format!("ballpoint/{source}"));
        Ok(Self {
            source: source.to_owned(),
            options,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// A connection outside any transaction, statement time-out `statement_timeout`.
    pub(crate) async fn acquire(
        &self,
        statement_timeout: Duration,
    ) -> Result<PgConnection, SourceError> {
        let settings = settings(statement_timeout);
        while let Some(mut kept) = self.take_idle() {
            // A kept connection may have died with its server; the first statement tells.
            if kept
                .execute(sqlx::AssertSqlSafe(settings.clone()))
                .await
                .is_ok()
            {
                return Ok(kept);
            }
        }
        let connecting = async {
            let mut connection = open(&self.options).await?;
            connection.execute(sqlx::AssertSqlSafe(settings)).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => {
                Err(self.unavailable(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
            }
        }
    }

    /// Keeps a connection that is outside any transaction.
    pub(crate) fn give_back(&self, connection: PgConnection) {
        let mut idle = self
            .idle
            .lock()
            .expect("no code panics while it holds this lock");
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    fn take_idle(&self) -> Option<PgConnection> {
        self.idle
            .lock()
            .expect("no code panics while it holds this lock")
            .pop()
    }

    /// What a failed statement or connection means to the caller.
    pub(crate) fn failure(&self, error: &sqlx::Error) -> SourceError {
        match error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                let message = database.message();
                match code.as_str() {
                    "42501" => configuration(
                        &self.source,
                        &format!("{message}; grant SELECT on it to the configured user"),
                    ),
                    "28P01" | "28000" => {
                        configuration(&self.source, &format!("{message} ({})", self.at()))
                    }
                    "3D000" => configuration(
                        &self.source,
                        &format!("{message} on {}; correct the url", self.at()),
                    ),
                    "42P01" | "42703" | "22007" | "22P02" => configuration(&self.source, message),
                    _ => self.unavailable(&format!("{message} ({code})")),
                }
            }
            other => self.unavailable(&other.to_string()),
        }
    }

    /// As [`Self::failure`], for rows already flowing.
    pub(crate) fn read_failure(&self, table: &TableName, error: &sqlx::Error) -> SourceError {
        SourceError::Read {
            source_name: self.source.clone(),
            table: table.clone(),
            reason: error.to_string(),
        }
    }

    fn unavailable(&self, reason: &str) -> SourceError {
        SourceError::Unavailable {
            source_name: self.source.clone(),
            reason: format!("{} ({reason})", self.at()),
        }
    }

    fn at(&self) -> String {
        format!("{}:{}", self.options.get_host(), self.options.get_port())
    }
}

/// An error that only a change of configuration, or of rights in the source, can end.
pub(crate) fn configuration(source: &str, reason: &str) -> SourceError {
    SourceError::Configuration {
        source_name: source.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Text forms of values are compared between sessions: whatever shapes them is fixed.
fn settings(statement_timeout: Duration) -> String {
    format!(
        "SET statement_timeout = {}; SET lock_timeout = '10s'; SET TimeZone = 'UTC'; \
         SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; \
         SET default_transaction_read_only = on",
        statement_timeout.as_millis()
    )
}
