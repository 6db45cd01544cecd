//! Connection pools with one guarantee more than sqlx gives: a borrowed connection is never inside
//! somebody else's transaction.
//!
//! sqlx 0.9.0 hands out a connection with an open transaction after a cancelled `begin()`
//! (launchbadge/sqlx#4393). Each connection is therefore rolled back before it is lent; that round
//! trip is at the same time the test that the connection is still alive.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// What replaces a password wherever a URL is shown.
const REDACTED: &str = "***";

/// One round trip that leaves the connection outside any transaction. `BEGIN` first, because a bare
/// `ROLLBACK` outside a transaction is a warning in two logs on each acquire. In an aborted transaction
/// it fails, and the pool replaces the connection.
const LEAVE_ANY_TRANSACTION: &str = "BEGIN; ROLLBACK";

/// How a pool behaves.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Connections at most.
    pub max_connections: u32,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long a borrower waits, and how long the first connection may take.
    pub acquire_timeout: Duration,
    /// Server-side limit for each statement; `None` keeps the server's setting.
    pub statement_timeout: Option<Duration>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_connections: 8,
            application_name: "ballpoint".to_owned(),
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: None,
        }
    }
}

impl PoolOptions {
    /// The defaults under this application name.
    #[must_use]
    pub fn named(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            ..Self::default()
        }
    }
}

/// Why a database cannot be reached; one line, without the password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL itself is wrong.
    #[error("connection url {url} is not valid: {reason}")]
    InvalidUrl {
        /// Without the password.
        url: String,
        /// What the parser says.
        reason: String,
    },
    /// Nothing answered in time.
    #[error("database {database:?} at {address} did not answer within {} s", .timeout.as_secs_f32())]
    TimedOut {
        /// `host:port` or the socket's path.
        address: String,
        /// The database asked for.
        database: String,
        /// What was waited.
        timeout: Duration,
    },
    /// The connection failed or the server refused it.
    #[error("cannot connect to database {database:?} at {address}: {reason}")]
    Refused {
        /// `host:port` or the socket's path.
        address: String,
        /// The database asked for.
        database: String,
        /// The server's or the system's words.
        reason: String,
        /// The SQLSTATE, where the server gave one.
        code: Option<String>,
    },
}

/// Opens one connection to learn that `url` works, then gives a pool on it.
///
/// # Errors
/// At once when the server refuses; after `acquire_timeout` when nothing answers.
pub async fn connect(url: &str, options: PoolOptions) -> Result<PgPool, ConnectError> {
    let connect_options = parse(url, &options.application_name)?;
    let timeout = options.acquire_timeout;
    let connection = connect_once(&connect_options, timeout).await?;
    let pool = build(connect_options, options);
    // Said goodbye to in the background of the caller's first query would need a task; a socket
    // closed on loopback or in one round trip is cheaper than it looks.
    let _ = tokio::time::timeout(timeout, connection.close()).await;
    Ok(pool)
}

/// A pool that connects at first use.
///
/// # Errors
/// Only when the URL is not valid.
pub fn lazy(url: &str, options: PoolOptions) -> Result<PgPool, ConnectError> {
    let connect_options = parse(url, &options.application_name)?;
    Ok(build(connect_options, options))
}

/// Opens a single connection outside any pool.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_once(
    options: &PgConnectOptions,
    timeout: Duration,
) -> Result<PgConnection, ConnectError> {
    let address = match options.get_socket() {
        Some(path) => path.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username())
        .to_owned();
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let code = error.as_database_error().and_then(|error| error.code());
            let code = code.map(std::borrow::Cow::into_owned);
            Err(ConnectError::Refused {
                address,
                database,
                reason: reason_of(&error),
                code,
            })
        }
        Err(_elapsed) => Err(ConnectError::TimedOut {
            address,
            database,
            timeout,
        }),
    }
}

fn parse(url: &str, application_name: &str) -> Result<PgConnectOptions, ConnectError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| ConnectError::InvalidUrl {
        url: redact(url),
        reason: reason_of(&error),
    })?;
    Ok(options
        .application_name(application_name)
        .disable_statement_logging())
}

fn build(connect_options: PgConnectOptions, options: PoolOptions) -> PgPool {
    let statement_timeout = options.statement_timeout;
    PgPoolOptions::new()
        .max_connections(options.max_connections)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        .test_before_acquire(false)
        .before_acquire(|connection, _meta| {
            Box::pin(async move {
                connection.execute(LEAVE_ANY_TRANSACTION).await?;
                Ok(true)
            })
        })
        .after_connect(move |connection, _meta| {
            Box::pin(async move {
                if let Some(timeout) = statement_timeout {
                    let set = format!("SET statement_timeout = {}", timeout.as_millis());
                    connection.execute(AssertSqlSafe(set)).await?;
                }
                Ok(())
            })
        })
        .connect_lazy_with(connect_options)
}

/// The reason in one line, without the layers' prefixes.
fn reason_of(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) => error.to_string(),
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `url` without its passwords, for messages and logs. Rather hides too much than too little.
#[must_use]
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "(not a connection url)".to_owned();
    };
    // A password may hold an unescaped '/' or '?', so the last '@' ends it wherever it stands.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user_info, rest)) => match user_info.split_once(':') {
            Some((user, _password)) => (format!("{user}:{REDACTED}@"), rest),
            None => (format!("{user_info}@"), rest),
        },
        None => (String::new(), rest),
    };
    let rest = match rest.split_once('?') {
        Some((path, query)) => {
            let query: Vec<String> = query.split('&').map(redact_parameter).collect();
            format!("{path}?{}", query.join("&"))
        }
        None => rest.to_owned(),
    };
    format!("{scheme}://{user}{rest}")
}

fn redact_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((key, _)) if key.to_ascii_lowercase().contains("password") => {
            format!("{key}={REDACTED}")
        }
        _ => parameter.to_owned(),
    }
}
