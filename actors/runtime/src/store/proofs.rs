//! The evidence behind each answer (`ballpoint.proofs`), as JSON that only its writer interprets.

use serde_json::Value;
use sqlx::PgPool;

use super::StoreError;

/// Keeps proofs by id.
#[derive(Clone, Debug)]
pub struct Proofs {
    pool: PgPool,
}

impl Proofs {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Keeps `body` under `id`. A proof is never rewritten: a second write of one id is ignored.
    ///
    /// # Errors
    /// As every query.
    pub async fn put(&self, id: &str, body: &Value) -> Result<(), StoreError> {
        sqlx::query(
            "insert into ballpoint.proofs (id, body) values ($1, $2::text::json)
             on conflict (id) do nothing",
        )
        .bind(id)
        .bind(body.to_string())
        .execute(&self.pool)
        .await
        .map_err(StoreError::query("keeping a proof"))?;
        Ok(())
    }

    /// The proof of that id.
    ///
    /// # Errors
    /// As every query.
    pub async fn get(&self, id: &str) -> Result<Option<Value>, StoreError> {
        let row: Option<(String,)> =
            sqlx::query_as("select body::text from ballpoint.proofs where id = $1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::query("reading a proof"))?;
        row.map(|(json,)| {
            serde_json::from_str(&json).map_err(StoreError::malformed(format!("proof {id}")))
        })
        .transpose()
    }
}
