//! The numbered migrations of schema `ballpoint`, embedded in the binary.

use sqlx::PgPool;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::StoreError;

/// Version, name and SQL. A released migration never changes: sqlx compares its checksum.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "spine", include_str!("../../migrations/0001_spine.sql")),
    (
        2,
        "claims",
        include_str!("../../migrations/0002_claims.sql"),
    ),
    (3, "plans", include_str!("../../migrations/0003_plans.sql")),
    (
        4,
        "orchestration",
        include_str!("../../migrations/0004_orchestration.sql"),
    ),
    (
        5,
        "write backs in runs",
        include_str!("../../migrations/0005_write_backs_in_runs.sql"),
    ),
    (
        6,
        "source tables",
        include_str!("../../migrations/0006_source_tables.sql"),
    ),
    (
        7,
        "streams",
        include_str!("../../migrations/0007_streams.sql"),
    ),
    (
        8,
        "slot lag",
        include_str!("../../migrations/0008_slot_lag.sql"),
    ),
    (
        9,
        "stream ahead",
        include_str!("../../migrations/0009_stream_ahead.sql"),
    ),
];

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.create_schema("ballpoint");
    migrator.dangerous_set_table_name("ballpoint._sqlx_migrations");
    migrator
}

/// Applies what is missing, on one connection, under sqlx's advisory lock: two programs that start
/// on one warehouse migrate it once.
pub(super) async fn run(pool: &PgPool) -> Result<(), StoreError> {
    let mut connection = pool
        .acquire()
        .await
        .map_err(StoreError::query("connecting to the warehouse"))?;
    let outcome = migrator().run(&mut *connection).await;
    let Err(error) = outcome else { return Ok(()) };
    // A failed run leaves the session's advisory lock taken: the connection must not be pooled.
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the migrating connection did not close cleanly");
    }
    let known = MIGRATIONS
        .iter()
        .map(|migration| migration.0)
        .max()
        .unwrap_or_default();
    Err(match error {
        MigrateError::VersionMissing(found) if found > known => StoreError::Newer { found, known },
        other => StoreError::Migrate(other),
    })
}
