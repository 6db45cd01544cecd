//! Why schema `ballpoint` could not be read or written.

/// An error of the store. Says what was attempted; the source says why it failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The warehouse was written by a later version of Ballpoint.
    #[error(
        "this warehouse's schema ballpoint is at version {found}, this program knows up to \
         {known}: use the newer ballpoint, or another warehouse"
    )]
    Newer { found: i64, known: i64 },
    /// A migration could not be applied.
    #[error("migrating schema ballpoint failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{doing} failed")]
    Query {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// A stored JSON document is not what this version writes.
    #[error("{what} is stored in a form that this version cannot read")]
    Malformed {
        what: String,
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    pub(super) fn query(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { doing, source }
    }

    pub(super) fn malformed(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Malformed { what, source }
    }

    /// Whether trying again later can help: the database was not there, or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Newer { .. } | Self::Migrate(_) | Self::Malformed { .. } => false,
            Self::Query { source, .. } => match source {
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
                // 08 connection, 40 serialization and deadlock, 53 resources, 55P03 lock timeout,
                // 57 shut down, starting up or cancelled.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["08", "40", "53", "57"]
                        .iter()
                        .any(|class| code.starts_with(class))
                        || code == "55P03"
                }),
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_may_come_back_and_a_malformed_document_stays_so() {
        let away = StoreError::query("reading")(sqlx::Error::PoolTimedOut);
        assert!(away.is_transient());
        let missing = StoreError::query("reading")(sqlx::Error::RowNotFound);
        assert!(!missing.is_transient());
        let json = serde_json::from_str::<u8>("{").expect_err("not a number");
        assert!(!StoreError::malformed("work 1")(json).is_transient());
    }
}
