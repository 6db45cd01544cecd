//! Plans as they are shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{PlanState, Plans};
use crate::store::{StoreError, timestamp};

/// How many rows a plan is about, by what happens to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCounts {
    pub added: i64,
    pub changed: i64,
    pub removed: i64,
    /// Stand in the target as they should; only counted.
    pub unchanged: i64,
    /// Cannot be written; each says why.
    pub invalid: i64,
    /// Not in the target, and the sync's mode adds none.
    #[serde(default)]
    pub skipped: i64,
}

impl PlanCounts {
    /// Rows that applying the plan writes.
    pub fn writes(&self) -> i64 {
        self.added + self.changed + self.removed
    }
}

/// A plan: what is to be done to a table of a source, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub id: Uuid,
    pub sync: String,
    pub source: String,
    /// `schema.table` in the source.
    pub table: String,
    /// `upsert`, `update` or `mirror`.
    pub mode: String,
    /// `sync`, or `proposal` where an agent or a person proposed it.
    pub origin: String,
    pub state: PlanState,
    /// What is being done at this moment: `plan`, `apply` or `undo`.
    pub under_way: Option<String>,
    /// What an approval is bound to; `None` until it is planned.
    pub hash: Option<String>,
    /// Who asked for the latest step.
    pub requested_by: String,
    pub reason: String,
    /// What the reason rests on: queries, figures, relation.
    pub evidence: Value,
    pub counts: PlanCounts,
    /// Statements that the target gets first.
    pub ddl: Vec<String>,
    /// Why it failed, or why the latest step could not be done.
    pub error: Option<String>,
    pub approved_by: Option<String>,
    pub approved_at: Option<Timestamp>,
    pub comment: Option<String>,
    /// Rows that the latest apply or undo wrote.
    pub written: Option<i64>,
    /// What was found in the target after the latest apply or undo: `{"same": n, "different": n, …}`.
    pub read_back: Option<Value>,
    pub created_at: Timestamp,
    pub applied_at: Option<Timestamp>,
    pub undone_at: Option<Timestamp>,
}

/// One row of a plan. Values are PostgreSQL's text of them, or null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRow {
    /// Its place in key order: what the next page starts after.
    pub seq: i64,
    pub key: Value,
    /// `added`, `changed`, `removed` or `invalid`.
    pub kind: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
    /// Why an invalid row cannot be written.
    pub problem: Option<String>,
}

const COLUMNS: &str = "select id, sync, source, target, mode, origin, state, request, hash,
    requested_by, reason, evidence::text as evidence, ddl, added, changed, removed, unchanged,
    invalid, skipped, error, approved_by, comment, written, read_back::text as read_back,
    (extract(epoch from created_at) * 1000000)::bigint as created_at,
    (extract(epoch from approved_at) * 1000000)::bigint as approved_at,
    (extract(epoch from applied_at) * 1000000)::bigint as applied_at,
    (extract(epoch from undone_at) * 1000000)::bigint as undone_at
    from ballpoint.plans";

impl Plans {
    /// A plan by its id.
    ///
    /// # Errors
    /// As every query.
    pub async fn get(&self, id: Uuid) -> Result<Option<Plan>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} where id = $1")))
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::query("reading a plan"))?;
        row.map(|row| plan(&row)).transpose()
    }

    /// The latest plans, newest first: of one sync or of all, in any of these states or in all.
    ///
    /// # Errors
    /// As every query.
    pub async fn recent(
        &self,
        sync: Option<&str>,
        states: &[PlanState],
        limit: u32,
    ) -> Result<Vec<Plan>, StoreError> {
        let states: Vec<&str> = states.iter().map(|state| state.name()).collect();
        let sql = format!(
            "{COLUMNS} where ($1::text is null or sync = $1)
               and (cardinality($2::text[]) = 0 or state = any($2))
             order by id desc limit $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(sync)
            .bind(states)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::query("listing plans"))?;
        rows.iter().map(plan).collect()
    }

    /// Plans of a sync in any of these states, newest first.
    ///
    /// # Errors
    /// As every query.
    pub async fn in_states(&self, states: &[PlanState]) -> Result<Vec<Plan>, StoreError> {
        let states: Vec<&str> = states.iter().map(|state| state.name()).collect();
        let sql = format!("{COLUMNS} where state = any($1) order by id desc");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(states)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::query("listing open plans"))?;
        rows.iter().map(plan).collect()
    }

    /// A page of a plan's rows in key order: of one kind or of all, after the row `after`.
    ///
    /// # Errors
    /// As every query.
    pub async fn rows(
        &self,
        id: Uuid,
        kind: Option<&str>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PlanRow>, StoreError> {
        type Fields = (
            i64,
            String,
            String,
            Option<String>,
            Option<String>,
            Option<String>,
        );
        let rows: Vec<Fields> = sqlx::query_as(
            "select seq, kind, key::text, old::text, new::text, problem
             from ballpoint.plan_rows
             where plan_id = $1 and ($2::text is null or kind = $2) and seq > $3
             order by seq limit $4",
        )
        .bind(id)
        .bind(kind)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::query("reading a plan's rows"))?;
        rows.into_iter()
            .map(|(seq, kind, key, old, new, problem)| {
                Ok(PlanRow {
                    seq,
                    kind,
                    key: json(&key)?,
                    old: old.as_deref().map(json).transpose()?,
                    new: new.as_deref().map(json).transpose()?,
                    problem,
                })
            })
            .collect()
    }

    /// The sync as it stood when the plan was made, and what was proposed.
    ///
    /// # Errors
    /// As every query.
    pub async fn made_from(&self, id: Uuid) -> Result<(Value, Option<Value>), StoreError> {
        let (definition, proposal): (String, Option<String>) = sqlx::query_as(
            "select definition::text, proposal::text from ballpoint.plans where id = $1",
        )
        .bind(id)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::query("reading what a plan was made from"))?;
        Ok((
            json(&definition)?,
            proposal.as_deref().map(json).transpose()?,
        ))
    }
}

fn json(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(StoreError::malformed("a plan"))
}

fn plan(row: &PgRow) -> Result<Plan, StoreError> {
    let failed = StoreError::query("reading a plan");
    let read = || -> Result<Plan, sqlx::Error> {
        let moment = |name: &str| -> Result<Option<Timestamp>, sqlx::Error> {
            Ok(row.try_get::<Option<i64>, _>(name)?.map(timestamp))
        };
        let state: String = row.try_get("state")?;
        Ok(Plan {
            id: row.try_get("id")?,
            sync: row.try_get("sync")?,
            source: row.try_get("source")?,
            table: row.try_get("target")?,
            mode: row.try_get("mode")?,
            origin: row.try_get("origin")?,
            state: PlanState::of(&state),
            under_way: row.try_get("request")?,
            hash: row.try_get("hash")?,
            requested_by: row.try_get("requested_by")?,
            reason: row.try_get("reason")?,
            evidence: Value::Null,
            counts: PlanCounts {
                added: row.try_get("added")?,
                changed: row.try_get("changed")?,
                removed: row.try_get("removed")?,
                unchanged: row.try_get("unchanged")?,
                invalid: row.try_get("invalid")?,
                skipped: row.try_get("skipped")?,
            },
            ddl: row.try_get("ddl")?,
            error: row.try_get("error")?,
            approved_by: row.try_get("approved_by")?,
            approved_at: moment("approved_at")?,
            comment: row.try_get("comment")?,
            written: row.try_get("written")?,
            read_back: None,
            created_at: timestamp(row.try_get("created_at")?),
            applied_at: moment("applied_at")?,
            undone_at: moment("undone_at")?,
        })
    };
    let mut plan = read().map_err(failed)?;
    let text = |name: &str| {
        row.try_get::<Option<String>, _>(name)
            .map_err(StoreError::query("reading a plan"))
    };
    plan.evidence = text("evidence")?.as_deref().map_or(Ok(Value::Null), json)?;
    plan.read_back = text("read_back")?.as_deref().map(json).transpose()?;
    Ok(plan)
}
