//! Cubes and views as empty tables of the warehouse's schema `cubes`, so that PostgreSQL's own
//! catalogue answers what there is: psql's `\d`, a driver's reflection, a tool's list of tables.
//!
//! The tables hold no row and nobody reads them: a SELECT over one is rewritten before it is sent.

use ballpoint_postgres::ident::{quote, quote_literal, quote_qualified};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgPool, SqlSafeStr as _, Statement as _,
    TypeInfo as _,
};

use super::SCHEMA;
use crate::model::{Aggregation, Cube, Member, SecurityContext};
use crate::plan;
use crate::service::Service;

/// Begins the schema's comment: without it, it is somebody else's.
const MARK: &str = "Cubes and views, served by the SQL API. ";

/// Why the catalogue does not show the cubes.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    #[error("the warehouse has a schema \"{SCHEMA}\" of somebody else's")]
    Taken,
    #[error("the warehouse refused: {0}")]
    Database(#[from] sqlx::Error),
}

impl Service {
    /// Makes the tables what the model says, unless they are already. `owner` may make schemas.
    ///
    /// # Errors
    /// See [`TablesError`]; queries over cubes work all the same.
    pub async fn publish_tables(&self, owner: &PgPool) -> Result<(), TablesError> {
        let reader: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(self.runner.pool())
            .await?;
        let mut tables = String::new();
        for cube in self.snapshot.model.cubes.iter().filter(|cube| cube.public) {
            tables.push_str(&self.table(cube).await);
        }
        let hash: String = Sha256::digest(format!("{reader}\n{tables}").as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let found: Option<Option<String>> = sqlx::query_scalar(
            "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = $1",
        )
        .bind(SCHEMA)
        .fetch_optional(owner)
        .await?;
        let comment = format!("{MARK}{hash}");
        match found {
            Some(Some(text)) if text == comment => return Ok(()),
            Some(text) if !text.as_ref().is_some_and(|text| text.starts_with(MARK)) => {
                return Err(TablesError::Taken);
            }
            _ => {}
        }
        let schema = quote(SCHEMA);
        let sql = format!(
            "drop schema if exists {schema} cascade; create schema {schema};
             comment on schema {schema} is {}; {tables}
             grant usage on schema {schema} to {reader};
             grant select on all tables in schema {schema} to {reader};",
            quote_literal(&comment),
            reader = quote(&reader),
        );
        let mut transaction = owner.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The statements that make one table.
    async fn table(&self, cube: &Cube) -> String {
        let members: Vec<&Member> = cube
            .members
            .iter()
            .filter(|it| it.public && it.segment().is_none())
            .collect();
        let found = self.kinds(&members).await;
        let name = quote_qualified(SCHEMA, &cube.name);
        let mut columns = Vec::new();
        let mut comments = String::new();
        let mut comment = |on: String, text: &Option<String>| {
            if let Some(text) = text {
                comments.push_str(&format!("comment on {on} is {};", quote_literal(text)));
            }
        };
        comment(format!("table {name}"), &cube.description);
        for (at, member) in members.iter().enumerate() {
            let kind = match &found {
                Some(kinds) => kinds[at].clone(),
                None => declared(member).to_owned(),
            };
            columns.push(format!("{} {kind}", quote(&member.name)));
            let column = format!("column {name}.{}", quote(&member.name));
            comment(column, &member.description);
        }
        format!("create table {name} ({});{comments}", columns.join(", "))
    }

    /// The types that PostgreSQL gives to the members; `None` where they cannot be asked for at once.
    async fn kinds(&self, members: &[&Member]) -> Option<Vec<String>> {
        let of = |measure: bool| {
            let wanted = members
                .iter()
                .filter(move |it| it.measure().is_some() == measure);
            wanted.map(|it| it.full_name.clone()).collect::<Vec<_>>()
        };
        let query = json!({ "measures": of(true), "dimensions": of(false) });
        let (_, mut queries) = plan::normalize(&query, self.clock.business_now()).ok()?;
        let open = self.snapshot.model.open_to_all();
        let plan = plan::plan(&open, &queries.pop()?, &SecurityContext::default()).ok()?;
        let sql = AssertSqlSafe(plan.statement.sql()).into_sql_str();
        let mut connection = self.runner.pool().acquire().await.ok()?;
        let statement = (&mut *connection).prepare(sql).await.ok()?;
        let kind = |member: &&Member| {
            let at = plan
                .columns
                .iter()
                .position(|it| it.key == member.full_name)?;
            let name = statement.columns().get(at)?.type_info().name().to_owned();
            Some(if name == "\"CHAR\"" {
                "\"char\"".to_owned()
            } else {
                name
            })
        };
        members.iter().map(kind).collect()
    }
}

/// What the model says of a member's type.
fn declared(member: &Member) -> &'static str {
    let counts = member.measure().is_some_and(|it| {
        matches!(
            it.aggregation,
            Aggregation::Count | Aggregation::CountDistinct | Aggregation::CountDistinctApprox
        )
    });
    match member.value_type() {
        _ if counts => "bigint",
        "number" => "numeric",
        "boolean" => "boolean",
        "time" => "timestamp",
        _ => "text",
    }
}
