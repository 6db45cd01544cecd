//! The shipped seeds, in databases of their own.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::Path;

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_seeds::{SeedFiles, fill};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgPool};

pub const NOW: &str = "2026-03-31T10:00:00Z";

/// A file beside the crate's `Cargo.toml`.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

pub fn files(source: &str) -> SeedFiles {
    SeedFiles {
        directory: format!("seeds/{source}"),
        schema_sql: read(&format!("{source}/schema.sql")),
        generator_yml: read(&format!("{source}/generator.yml")),
    }
}

pub async fn filled(source: &str, rows: u64, seed: u64, now: Timestamp) -> TestDatabase {
    let database = TestDatabase::create().await;
    let mut connection = database.pool().acquire().await.unwrap();
    let filled = fill(&mut connection, &files(source), rows, seed, now)
        .await
        .unwrap();
    assert_eq!(filled, rows);
    drop(connection);
    database
}

/// The one value a query gives, as text.
pub async fn text(pool: &PgPool, sql: &str) -> Option<String> {
    let sql = format!("select answer::text from ({sql}) as asked (answer)");
    let answer = sqlx::query_scalar(AssertSqlSafe(sql.clone())).persistent(false);
    let fetched = answer.fetch_one(pool).await;
    fetched.unwrap_or_else(|error| panic!("{error} in {sql}"))
}
