//! Names and text into SQL: the only place where an identifier or a literal is quoted.
//!
//! Every schema, table and column that comes from a source, a model or a user passes through here.
//! A name with a NUL byte cannot exist in PostgreSQL and cannot be written in SQL: [`check`] refuses it
//! with a reason; quoted all the same, it makes a statement that the server refuses, never another one.

/// The longest identifier that PostgreSQL keeps, in bytes; it cuts longer ones off silently.
pub const IDENT_BYTES_MAX: usize = 63;

/// Why a name cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// `""` is no identifier.
    #[error("a name is empty")]
    Empty,
    /// NUL ends a string in PostgreSQL's protocol.
    #[error("name {name:?} contains a NUL byte")]
    Nul {
        /// The name as given.
        name: String,
    },
    /// The server would cut it off, and two names could become one.
    #[error("name {name:?} is {bytes} bytes long; postgresql keeps {IDENT_BYTES_MAX}")]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Checks that `name` can be an identifier, unchanged.
///
/// # Errors
/// When it is empty, contains NUL or is longer than [`IDENT_BYTES_MAX`].
pub fn check(name: &str) -> Result<(), IdentError> {
    if name.is_empty() {
        return Err(IdentError::Empty);
    }
    if name.contains('\0') {
        return Err(IdentError::Nul {
            name: name.to_owned(),
        });
    }
    if name.len() > IDENT_BYTES_MAX {
        return Err(IdentError::TooLong {
            name: name.to_owned(),
            bytes: name.len(),
        });
    }
    Ok(())
}

/// `name` as a quoted identifier: `we"ird` becomes `"we""ird"`.
#[must_use]
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for character in name.chars() {
        if character == '"' {
            quoted.push('"');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// `"schema"."name"`.
#[must_use]
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// `text` as a string literal, right whatever `standard_conforming_strings` is set to
/// (a backslash makes it an `E'…'` literal, as the server's own `quote_literal` does).
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 3);
    if text.contains('\\') {
        quoted.push('E');
    }
    quoted.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            quoted.push(character);
        }
        quoted.push(character);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::{
        strategy::Strategy,
        test_runner::{Config, TestCaseError, TestRunner},
    };
    use sqlx::{AssertSqlSafe, Column, Row};

    use super::*;
    use crate::testing::TestDatabase;

    const NASTY: [&str; 12] = [
        "plain",
        "Mixed Case",
        "select",
        "a\"b",
        "\"",
        "\"\"; DROP TABLE t; --",
        "it's",
        "back\\slash",
        "$1",
        "tab\tnew\nline",
        "crayon bleu clair ✎",
        "/* x */ -- y",
    ];

    #[tokio::test]
    async fn nasty_names_round_trip_through_the_catalogue() {
        let database = TestDatabase::create().await;
        for schema in NASTY {
            let name = schema;
            let qualified = quote_qualified(schema, name);
            let column = quote(name);
            let sql = format!(
                "CREATE SCHEMA {}; CREATE TABLE {qualified} ({column} int)",
                quote(schema)
            );
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(database.pool())
                .await
                .unwrap();
            let sql = format!(
                "SELECT count(*) FROM information_schema.columns WHERE table_schema = {0} \
                 AND table_name = {0} AND column_name = {0}",
                quote_literal(name)
            );
            let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(database.pool());
            assert_eq!(count.await.ok(), Some(1_i64), "{name:?}");
        }
    }

    #[test]
    fn any_name_and_any_text_round_trip_through_the_server() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _entered = runtime.enter();
        let database = runtime.block_on(TestDatabase::create());
        let names = proptest::string::string_regex("[^\\x00]{1,15}").unwrap();
        let dangerous = proptest::string::string_regex("[\"'\\\\$;-]{1,20}").unwrap();
        let mut runner = TestRunner::new(Config {
            cases: 200,
            ..Config::default()
        });
        let run = runner.run(&proptest::prop_oneof![names, dangerous].boxed(), |name| {
            check(&name).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let sql = format!("SELECT {} AS {}", quote_literal(&name), quote(&name));
            let fetch = sqlx::query(AssertSqlSafe(sql))
                .persistent(false)
                .fetch_one(database.pool());
            let row = runtime
                .block_on(fetch)
                .map_err(|e| TestCaseError::fail(e.to_string()))?;
            proptest::prop_assert_eq!(row.column(0).name(), &name);
            proptest::prop_assert_eq!(row.get::<String, _>(0), name);
            Ok(())
        });
        run.unwrap();
    }

    #[tokio::test]
    async fn a_nul_is_refused_here_and_by_the_server() {
        let name = "a\0; DROP SCHEMA public CASCADE; --";
        assert!(matches!(check(name), Err(IdentError::Nul { .. })));
        let database = TestDatabase::create().await;
        for sql in [quote(name), quote_literal(name)] {
            let select = format!("SELECT 1 AS x, {sql}");
            let raw = sqlx::raw_sql(AssertSqlSafe(select.clone()))
                .execute(database.pool())
                .await;
            assert!(raw.is_err(), "{sql:?}");
            let prepared = sqlx::query(AssertSqlSafe(select))
                .execute(database.pool())
                .await;
            assert!(prepared.is_err(), "{sql:?}");
        }
    }

    #[test]
    fn names_that_the_server_would_change_are_refused() {
        assert_eq!(check(""), Err(IdentError::Empty));
        assert!(check(&"é".repeat(31)).is_ok());
        assert!(matches!(
            check(&"é".repeat(32)),
            Err(IdentError::TooLong { bytes: 64, .. })
        ));
    }
}
