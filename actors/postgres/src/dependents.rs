//! Views that hang on relations, taken down and put up again around their replacement.
//!
//! A view refers to a table by object id, so a table cannot be swapped under it. Everything happens in
//! the transaction of the swap: readers see the old table with the old views or the new with the new.
//! Kept: definition, options, owner, grants, comments; of materialised views also indexes and whether
//! they are filled. Not kept: rules and triggers on views; the swap refuses what it cannot drop.

use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::ident::{quote, quote_literal, quote_qualified};

/// One view, and the statements that make it again.
#[derive(Debug)]
pub struct Dependent {
    pub oid: i64,
    pub schema: String,
    pub name: String,
    /// Which of the relations it hangs on, as close as it comes.
    pub on: i64,
    drop: String,
    create: Vec<String>,
}

/// A view that could not be taken down, or does not fit what it stood on any more.
#[derive(Debug, thiserror::Error)]
#[error("the view {schema}.{name}: {source}")]
pub struct ViewError {
    pub schema: String,
    pub name: String,
    /// See [`Dependent::on`].
    pub on: i64,
    pub source: sqlx::Error,
}

impl Dependent {
    async fn run(&self, connection: &mut PgConnection, statement: &str) -> Result<(), ViewError> {
        let done = connection.execute(AssertSqlSafe(statement.to_owned()));
        let failed = |source| ViewError {
            schema: self.schema.clone(),
            name: self.name.clone(),
            on: self.on,
            source,
        };
        done.await.map(drop).map_err(failed)
    }
}

/// Every view below one of `$1`, each once, at its greatest depth; some of `$1` may be below others.
const VIEWS: &str = "
with recursive below(oid, depth, root) as (
  select r.ev_class, 1, d.refobjid from pg_depend d join pg_rewrite r on r.oid = d.objid
  where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
    and d.refobjid = any($1::oid[]) and r.ev_class <> d.refobjid
  union
  select r.ev_class, below.depth + 1, below.root
  from below
  join pg_depend d on d.refobjid = below.oid and d.refclassid = 'pg_class'::regclass
                  and d.classid = 'pg_rewrite'::regclass
  join pg_rewrite r on r.oid = d.objid
  where r.ev_class <> below.oid and below.depth < 64)
select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind = 'm', c.relispopulated,
       rtrim(pg_get_viewdef(c.oid), ';'), c.reloptions,
       case when c.relowner <> current_user::regrole then pg_get_userbyid(c.relowner)::text end,
       b.root::bigint
from (select oid, max(depth) as depth, (array_agg(root order by depth, root))[1] as root
      from below group by oid) b
join pg_class c on c.oid = b.oid
join pg_namespace n on n.oid = c.relnamespace
order by b.depth, c.oid";

type ViewRow = (
    i64,
    String,
    String,
    bool,
    bool,
    String,
    Option<Vec<String>>,
    Option<String>,
    i64,
);

/// The views below the relations `oids`, in the order in which they can be created.
///
/// # Errors
/// Those of PostgreSQL.
pub async fn collect(
    connection: &mut PgConnection,
    oids: &[i64],
) -> Result<Vec<Dependent>, sqlx::Error> {
    let oids: Vec<String> = oids.iter().map(i64::to_string).collect();
    let rows: Vec<ViewRow> = sqlx::query_as(VIEWS)
        .persistent(false)
        .bind(oids)
        .fetch_all(&mut *connection)
        .await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(dependent(connection, row).await?);
    }
    Ok(views)
}

async fn dependent(
    connection: &mut PgConnection,
    (oid, schema, name, materialised, filled, definition, options, owner, on): ViewRow,
) -> Result<Dependent, sqlx::Error> {
    let quoted = quote_qualified(&schema, &name);
    let kind = if materialised {
        "materialized view"
    } else {
        "view"
    };
    let options = options.map_or(String::new(), |o| format!(" with ({})", o.join(", ")));
    let data = if materialised && !filled {
        " with no data"
    } else {
        ""
    };
    let mut create = vec![format!(
        "create {kind} {quoted}{options} as {definition}{data}"
    )];
    create.extend(attributes(connection, oid, kind, &quoted, owner).await?);
    Ok(Dependent {
        oid,
        schema,
        name,
        on,
        drop: format!("drop {kind} {quoted}"),
        create,
    })
}

const INDEXES: &str = "
select pg_get_indexdef(i.indexrelid) from pg_index i
where i.indrelid = $1::oid
  and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
order by i.indexrelid";

const GRANTS: &str = "
select g.privilege_type::text,
       case when g.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(g.grantee)) end,
       g.is_grantable
from pg_class c, aclexplode(c.relacl) g
where c.oid = $1::oid and g.grantee <> c.relowner";

const COMMENTS: &str = "
select a.attname::text, d.description from pg_description d
left join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
where d.classoid = 'pg_class'::regclass and d.objoid = $1::oid";

/// Statements that give a new relation called `quoted` what the relation `oid` has beside its columns.
///
/// # Errors
/// Those of PostgreSQL.
pub async fn attributes(
    connection: &mut PgConnection,
    oid: i64,
    kind: &str,
    quoted: &str,
    owner: Option<String>,
) -> Result<Vec<String>, sqlx::Error> {
    let mut statements: Vec<String> = sqlx::query_scalar(INDEXES)
        .bind(oid.to_string())
        .fetch_all(&mut *connection)
        .await?;
    statements.extend(rights(connection, oid, kind, quoted, owner).await?);
    Ok(statements)
}

/// As [`attributes`], for a relation that has the indexes of `oid` already.
///
/// # Errors
/// Those of PostgreSQL.
pub async fn rights(
    connection: &mut PgConnection,
    oid: i64,
    kind: &str,
    quoted: &str,
    owner: Option<String>,
) -> Result<Vec<String>, sqlx::Error> {
    let oid = oid.to_string();
    let mut statements: Vec<String> = Vec::new();
    let grants: Vec<(String, String, bool)> = sqlx::query_as(GRANTS)
        .bind(&oid)
        .fetch_all(&mut *connection)
        .await?;
    for (privilege, grantee, grantable) in grants {
        let option = if grantable { " with grant option" } else { "" };
        statements.push(format!(
            "grant {privilege} on {quoted} to {grantee}{option}"
        ));
    }
    let comments: Vec<(Option<String>, String)> = sqlx::query_as(COMMENTS)
        .bind(&oid)
        .fetch_all(connection)
        .await?;
    for (column, comment) in comments {
        let on = match column {
            Some(column) => format!("column {quoted}.{}", quote(&column)),
            None => format!("{kind} {quoted}"),
        };
        statements.push(format!("comment on {on} is {}", quote_literal(&comment)));
    }
    if let Some(owner) = owner {
        statements.push(format!("alter {kind} {quoted} owner to {}", quote(&owner)));
    }
    Ok(statements)
}

/// Drops the views, the ones on top first.
///
/// # Errors
/// With the view that cannot be dropped.
pub async fn drop_all(connection: &mut PgConnection, views: &[Dependent]) -> Result<(), ViewError> {
    for view in views.iter().rev() {
        view.run(connection, &view.drop).await?;
    }
    Ok(())
}

/// Makes the views again, the ones at the bottom first.
///
/// # Errors
/// With the view that cannot be made.
pub async fn create_all(
    connection: &mut PgConnection,
    views: &[Dependent],
) -> Result<(), ViewError> {
    for view in views {
        for statement in &view.create {
            view.run(connection, statement).await?;
        }
    }
    Ok(())
}
