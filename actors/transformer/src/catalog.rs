//! What exists in the warehouse, read with one query and kept up to date by the run.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::jinja::relation::Relation;

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelationKind {
    Table,
    View,
    MaterializedView,
}

impl RelationKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
        }
    }

    pub(crate) fn is_table(self) -> bool {
        self == Self::Table
    }
}

/// The tables and views of some schemas.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    relations: RwLock<HashMap<(String, String), RelationKind>>,
    /// PostgreSQL's estimate of rows when the catalog was read; negative when it has none.
    estimates: HashMap<(String, String), f64>,
}

impl Catalog {
    /// Reads the schemas that a project builds into and reads from.
    pub(crate) async fn read(
        conn: &mut PgConnection,
        schemas: &[String],
    ) -> Result<Self, sqlx::Error> {
        let sql = "select n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::float8 \
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                   where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname = any($1)";
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(schemas)
            .fetch_all(conn)
            .await?;
        let mut relations = HashMap::new();
        let mut estimates = HashMap::new();
        for row in rows {
            let kind = match row.get::<String, _>(2).as_str() {
                "v" => RelationKind::View,
                "m" => RelationKind::MaterializedView,
                _ => RelationKind::Table,
            };
            estimates.insert((row.get(0), row.get(1)), row.get(3));
            relations.insert((row.get(0), row.get(1)), kind);
        }
        Ok(Self {
            relations: RwLock::new(relations),
            estimates,
        })
    }

    /// What the relation is, if it exists.
    pub(crate) fn kind(&self, relation: &Relation) -> Option<RelationKind> {
        let key = (relation.schema.clone(), relation.identifier.clone());
        self.relations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied()
    }

    /// About how many rows a table holds.
    pub(crate) fn estimated_rows(&self, relation: &Relation) -> f64 {
        let key = (relation.schema.clone(), relation.identifier.clone());
        self.estimates.get(&key).copied().unwrap_or(-1.0)
    }

    /// Notes that the run made or replaced a relation.
    pub(crate) fn set(&self, relation: &Relation, kind: RelationKind) {
        let key = (relation.schema.clone(), relation.identifier.clone());
        self.relations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, kind);
    }
}
