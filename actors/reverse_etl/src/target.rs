//! What the target's side of a sync looks like, and the statements that create it.

use ballpoint_postgres::ident::{quote, quote_literal};
use sqlx::{PgConnection, PgPool};

use crate::definition::{Mode, Sync};
use crate::error::WriteBackError;

/// As [`crate::warehouse::SESSION`], for a connection outside a transaction.
pub(crate) const SESSION: &str = "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; \
    set intervalstyle = 'iso_8601'; set extra_float_digits = 1";

/// A source that rows are written to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) pool: PgPool,
}

impl Target {
    pub(crate) fn failed(&self, doing: &'static str) -> impl FnOnce(sqlx::Error) -> WriteBackError {
        let source_name = self.name.clone();
        move |source| WriteBackError::Target {
            source_name,
            doing,
            source,
        }
    }

    /// The system identifier of its cluster, where its role may know it.
    pub(crate) async fn system(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<String>, WriteBackError> {
        let doing = "asking for its identity";
        let allowed: bool =
            sqlx::query_scalar("select has_function_privilege('pg_control_system()', 'execute')")
                .fetch_one(&mut *connection)
                .await
                .map_err(self.failed(doing))?;
        if !allowed {
            return Ok(None);
        }
        sqlx::query_scalar("select system_identifier::text from pg_control_system()")
            .fetch_one(connection)
            .await
            .map(Some)
            .map_err(self.failed(doing))
    }

    /// Whether the table is there, and what about it does not fit the sync.
    pub(crate) async fn look(&self, sync: &Sync) -> Result<Look, WriteBackError> {
        let doing = "looking at the table";
        let (schema, name) = sync.target();
        type Table = (i64, String, bool, bool, bool, bool);
        let table: Option<Table> = sqlx::query_as(
            "select c.oid::bigint, c.relkind::text, has_table_privilege(c.oid, 'SELECT'),
                    has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'UPDATE'),
                    has_table_privilege(c.oid, 'DELETE')
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = $2",
        )
        .bind(schema)
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .map_err(self.failed(doing))?;
        let Some((oid, kind, select, insert, update, delete)) = table else {
            return self.look_at_schema(sync).await;
        };
        let mut look = Look {
            exists: true,
            complaints: Vec::new(),
        };
        if kind != "r" && kind != "p" {
            look.say(
                "table:",
                format!("{} is not a table in source {}", sync.table, self.name),
            );
            return Ok(look);
        }
        let upserts = sync.mode != Mode::Update;
        for (right, granted, needed) in [
            ("SELECT", select, true),
            ("INSERT", insert, upserts),
            ("UPDATE", update, true),
            // Undoing an insert deletes.
            ("DELETE", delete, upserts),
        ] {
            if needed && !granted {
                look.say(
                    "table:",
                    format!(
                        "the role of source {} may not {right} {}",
                        self.name, sync.table
                    ),
                );
            }
        }
        self.look_at_columns(sync, oid, &mut look).await?;
        Ok(look)
    }

    async fn look_at_schema(&self, sync: &Sync) -> Result<Look, WriteBackError> {
        let mut look = Look::default();
        let (schema, _) = sync.target();
        if !sync.create_table {
            look.say(
                "table:",
                format!(
                    "source {} has no table {}; `create_table: true` lets a plan create it",
                    self.name,
                    sync.target_name()
                ),
            );
            return Ok(look);
        }
        let allowed: Option<bool> = sqlx::query_scalar(
            "select has_schema_privilege(oid, 'CREATE') from pg_namespace where nspname = $1",
        )
        .bind(schema)
        .fetch_optional(&self.pool)
        .await
        .map_err(self.failed("looking at the schema"))?;
        match allowed {
            Some(true) => {}
            Some(false) => look.say(
                "table:",
                format!(
                    "the role of source {} may not create tables in {schema}",
                    self.name
                ),
            ),
            None => look.say(
                "table:",
                format!("source {} has no schema {schema}", self.name),
            ),
        }
        Ok(look)
    }

    async fn look_at_columns(
        &self,
        sync: &Sync,
        oid: i64,
        look: &mut Look,
    ) -> Result<(), WriteBackError> {
        let doing = "looking at the table's columns";
        let columns: Vec<(String, String, bool, bool)> = sqlx::query_as(
            "select attname::text, format_type(atttypid, atttypmod),
                    attnotnull and not atthasdef and attidentity = '', attgenerated <> ''
             from pg_attribute where attrelid = $1::bigint::oid and attnum > 0 and not attisdropped
             order by attnum",
        )
        .bind(oid)
        .fetch_all(&self.pool)
        .await
        .map_err(self.failed(doing))?;
        for field in sync.fields() {
            let line = format!("column: {}", field.column);
            match columns.iter().find(|(name, ..)| *name == field.column) {
                None => look.say(
                    &line,
                    format!(
                        "{} has no column {} in source {}",
                        sync.table, field.column, self.name
                    ),
                ),
                Some((_, _, _, true)) => look.say(
                    &line,
                    format!("column {} is generated by the table itself", field.column),
                ),
                Some((_, found, ..)) if *found != field.r#type.to_string() => look.say(
                    &line,
                    format!(
                        "column {} is {found} in source {}, not {}",
                        field.column, self.name, field.r#type
                    ),
                ),
                Some(_) => {}
            }
        }
        for (name, _, demanded, _) in &columns {
            if sync.fields().any(|field| field.column == *name) {
                continue;
            }
            if sync.mode == Mode::Mirror {
                look.say("mode:", format!("a mirror must know every column of {}: {name} would be lost with a removed row", sync.table));
            } else if *demanded && sync.mode == Mode::Upsert {
                look.say(
                    "columns:",
                    format!(
                        "{} demands a value for column {name}, which is not written",
                        sync.table
                    ),
                );
            }
        }
        let mut key: Vec<&str> = sync.key.iter().map(|field| field.column.as_str()).collect();
        key.sort_unstable();
        let unique: bool = sqlx::query_scalar(
            "select exists (
                 select from pg_index i
                 where i.indrelid = $1::bigint::oid and i.indisunique and i.indisvalid
                   and i.indpred is null and i.indexprs is null
                   and $2 = (select array_agg(a.attname::text order by a.attname::text collate \"C\")
                             from pg_attribute a
                             where a.attrelid = i.indrelid
                               and a.attnum = any(i.indkey::int2[])
                               and array_position(i.indkey::int2[], a.attnum) < i.indnkeyatts))",
        )
        .bind(oid)
        .bind(&key)
        .fetch_one(&self.pool)
        .await
        .map_err(self.failed(doing))?;
        if !unique {
            look.say(
                "key:",
                format!("{} has no unique index on ({})", sync.table, key.join(", ")),
            );
        }
        Ok(())
    }
}

/// What was found of a sync's table.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) exists: bool,
    /// Each with the text by which its line in the sync's file is found.
    pub(crate) complaints: Vec<(String, String)>,
}

impl Look {
    fn say(&mut self, needle: &str, message: String) {
        self.complaints.push((needle.to_owned(), message));
    }
}

/// The statements that create the sync's table.
pub(crate) fn create(sync: &Sync) -> Vec<String> {
    let (schema, name) = sync.target();
    let table = format!("{}.{}", quote(schema), quote(name));
    let key: Vec<String> = sync.key.iter().map(|field| quote(&field.column)).collect();
    let mut columns: Vec<String> = Vec::new();
    for field in &sync.key {
        columns.push(format!(
            "    {} {} not null",
            quote(&field.column),
            field.r#type
        ));
    }
    for field in &sync.columns {
        columns.push(format!("    {} {}", quote(&field.column), field.r#type));
    }
    columns.push(format!("    primary key ({})", key.join(", ")));
    let mut statements = vec![format!(
        "create table {table} (\n{}\n)",
        columns.join(",\n")
    )];
    if !sync.description.is_empty() {
        let text = quote_literal(sync.description.trim());
        statements.push(format!("comment on table {table} is {text}"));
    }
    for field in sync.fields() {
        if let Some(text) = &field.description {
            statements.push(format!(
                "comment on column {table}.{} is {}",
                quote(&field.column),
                quote_literal(text)
            ));
        }
    }
    statements
}
