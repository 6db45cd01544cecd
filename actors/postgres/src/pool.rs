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

use crate::nodelay;

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
    // A goodbye that fails changes nothing for the pool.
    let _ = tokio::time::timeout(timeout, connection.close()).await;
    Ok(pool)
}

/// A pool at `url` as another role, whose password is known.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_as(
    url: &str,
    role: &str,
    password: &str,
    options: PoolOptions,
) -> Result<PgPool, ConnectError> {
    let connect_options = parse(url, &options.application_name)?
        .username(role)
        .password(password);
    let connection = connect_once(&connect_options, options.acquire_timeout).await?;
    let pool = build(connect_options, options);
    let _ = connection.close().await;
    Ok(pool)
}

/// The password that a URL names, as it is written there.
pub(crate) fn password_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let parameter = || url.query_pairs().find(|(name, _)| name == "password");
    url.password()
        .map(str::to_owned)
        .or_else(|| Some(parameter()?.1.into_owned()))
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
/// sqlx's own.
pub async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connection = options.connect().await?;
    nodelay::ensure();
    Ok(connection)
}

/// As [`open`], with a limit.
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
    match tokio::time::timeout(timeout, open(options)).await {
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
            nodelay::ensure();
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
pub(crate) fn reason_of(error: &sqlx::Error) -> String {
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

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::testing::TestDatabase;

    async fn is_outside_a_transaction(connection: &mut PgConnection) -> bool {
        // The simple protocol: in the extended one a statement's messages have a time each.
        let select = sqlx::raw_sql("SELECT now() = statement_timestamp()");
        select.fetch_one(connection).await.unwrap().get(0)
    }

    async fn pool_of_one(database: &TestDatabase) -> PgPool {
        let options = PoolOptions {
            max_connections: 1,
            ..PoolOptions::named("one")
        };
        connect(database.url(), options).await.unwrap()
    }

    #[tokio::test]
    async fn a_borrower_is_never_inside_somebody_elses_transaction() {
        let database = TestDatabase::create().await;
        let pool = pool_of_one(&database).await;
        let mut pids = Vec::new();
        for left_open in ["BEGIN", "BEGIN; SELECT 1/0", "SELECT 1"] {
            let mut connection = pool.acquire().await.unwrap();
            // sqlx does not know of a transaction that plain SQL opened.
            let _ = connection.execute(left_open).await;
            drop(connection);
            let mut borrowed = pool.acquire().await.unwrap();
            let outside = is_outside_a_transaction(&mut borrowed).await;
            assert!(outside, "after {left_open}");
            let fetch = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *borrowed);
            let pid: i32 = fetch.await.unwrap();
            pids.push(pid);
        }
        assert_eq!(pids[1], pids[2], "a healthy connection is used again");
    }

    #[tokio::test]
    async fn a_cancelled_begin_leaves_no_transaction_behind() {
        let database = TestDatabase::create().await;
        let pool = pool_of_one(&database).await;
        for micros in (1..1500).step_by(10) {
            let _ = tokio::time::timeout(Duration::from_micros(micros), pool.begin()).await;
            let mut borrowed = pool.acquire().await.unwrap();
            let outside = is_outside_a_transaction(&mut borrowed).await;
            assert!(outside, "cancelled after {micros} us");
        }
    }

    #[tokio::test]
    async fn a_dropped_transaction_is_rolled_back() {
        let database = TestDatabase::create().await;
        let pool = pool_of_one(&database).await;
        sqlx::query("CREATE TABLE t (id int)")
            .execute(&pool)
            .await
            .unwrap();
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES (1)")
            .execute(&mut *transaction)
            .await
            .unwrap();
        drop(transaction);
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM t")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(count, 0);
    }

    #[tokio::test]
    async fn a_terminated_connection_is_replaced_unseen() {
        let database = TestDatabase::create().await;
        let pool = pool_of_one(&database).await;
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&pool)
            .await
            .unwrap();
        let kill = "SELECT pg_terminate_backend($1, 5000)";
        sqlx::query(kill)
            .bind(pid)
            .execute(database.pool())
            .await
            .unwrap();
        let one: i32 = sqlx::query_scalar("SELECT 1")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(one, 1);
    }

    #[tokio::test]
    async fn the_statement_timeout_is_the_servers() {
        let database = TestDatabase::create().await;
        let statement_timeout = Some(Duration::from_millis(50));
        let options = PoolOptions {
            statement_timeout,
            ..PoolOptions::default()
        };
        let pool = connect(database.url(), options).await.unwrap();
        let error = sqlx::query("SELECT pg_sleep(30)")
            .execute(&pool)
            .await
            .unwrap_err();
        assert_eq!(
            error.as_database_error().unwrap().code().as_deref(),
            Some("57014")
        );
    }

    #[tokio::test]
    async fn a_failed_connection_says_where_what_and_why_in_one_line() {
        let database = TestDatabase::create().await;
        let missing = format!("{}_gone", database.url());
        let error = connect(&missing, PoolOptions::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("_gone\" does not exist"), "{error}");

        let refused = "postgres://u:s3cret@127.0.0.1:1/db";
        let error = connect(refused, PoolOptions::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("127.0.0.1:1") && error.contains("\"db\""),
            "{error}"
        );
        assert!(
            error.to_lowercase().contains("refused") && !error.contains("s3cret"),
            "{error}"
        );

        let invalid = "postgres://u:s3cret@h:notaport/db";
        let error = connect(invalid, PoolOptions::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("not valid") && !error.contains("s3cret"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1);
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_after_the_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u:p@{}/db", listener.local_addr().unwrap());
        let acquire_timeout = Duration::from_millis(100);
        let options = PoolOptions {
            acquire_timeout,
            ..PoolOptions::default()
        };
        let error = connect(&url, options).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    }

    #[test]
    fn a_redacted_url_shows_no_password() {
        for (url, shown) in [
            ("postgres://u:p@h:5432/db", "postgres://u:***@h:5432/db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            (
                "postgres://h/db?sslmode=require",
                "postgres://h/db?sslmode=require",
            ),
            ("postgres://u:a@b/c?d@h/db", "postgres://u:***@h/db"),
            (
                "postgresql://h/db?user=u&password=p",
                "postgresql://h/db?user=u&password=***",
            ),
            (
                "postgres://u:p@h/db?sslpassword=q&a=b",
                "postgres://u:***@h/db?sslpassword=***&a=b",
            ),
            ("host=h password=p", "(not a connection url)"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
