//! What both sides left in their databases: every relation with its kind, columns and rows.

use std::collections::{BTreeMap, BTreeSet};

use ballpoint_postgres::ident;
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::{CompareError, Difference};

/// Rows of a relation that are fetched to show how two differ.
const SHOWN_ROWS_MAX: usize = 2_000;

/// Rows that a difference names.
const NAMED_ROWS_MAX: usize = 3;

/// What is left in a database.
struct Left {
    /// Kind and columns, by `schema.name`.
    shape: BTreeMap<String, String>,
    /// Number of rows and their checksum, whatever their order.
    rows: BTreeMap<String, (i64, String)>,
}

/// What two databases have in common, and what not.
pub(super) struct Compared {
    pub(super) relations: usize,
    pub(super) rows: u64,
    pub(super) differences: Vec<Difference>,
}

fn database_error(pool: &PgPool) -> impl Fn(sqlx::Error) -> CompareError + '_ {
    |error| CompareError::Database {
        database: pool
            .connect_options()
            .get_database()
            .unwrap_or_default()
            .to_owned(),
        error,
    }
}

/// A row as text, without the columns that hold the time of the run, and without the name of the
/// database, which differs on purpose.
fn row_text(volatile: &[String]) -> String {
    let text = match volatile {
        [] => "t::text".to_owned(),
        columns => {
            let list: Vec<String> = columns
                .iter()
                .map(|name| ident::quote_literal(name))
                .collect();
            format!("(to_jsonb(t) - array[{}])::text", list.join(", "))
        }
    };
    format!("replace({text}, current_database()::text, 'database')")
}

async fn left(
    pool: &PgPool,
    ignored: &[String],
    volatile: &BTreeMap<String, Vec<String>>,
) -> Result<Left, CompareError> {
    let failed = database_error(pool);
    let relations = sqlx::query(
        "select n.nspname::text, c.relname::text, c.relkind::text,
                coalesce((select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod),
                                            ', ' order by a.attnum)
                          from pg_attribute a
                          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '')
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'v', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
           and not exists (select from pg_depend d
                           where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')",
    )
    .fetch_all(pool)
    .await
    .map_err(&failed)?;
    let mut left = Left {
        shape: BTreeMap::new(),
        rows: BTreeMap::new(),
    };
    for row in relations {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let (kind, columns): (String, String) = (row.get(2), row.get(3));
        let key = format!("{schema}.{name}");
        if ignored.contains(&key) || ignored.contains(&format!("{schema}.*")) {
            continue;
        }
        let text = row_text(volatile.get(&key).map(Vec::as_slice).unwrap_or_default());
        let sql = format!(
            "select count(*), coalesce(sum(('x' || left(md5({text}), 16))::bit(64)::bigint), 0)::text \
             from {} as t",
            ident::quote_qualified(&schema, &name)
        );
        let sums = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_one(pool)
            .await
            .map_err(&failed)?;
        left.shape
            .insert(key.clone(), format!("{kind} ({columns})"));
        left.rows.insert(key, (sums.get(0), sums.get(1)));
    }
    Ok(left)
}

async fn rows(pool: &PgPool, relation: &str, text: &str) -> Result<Vec<String>, CompareError> {
    let Some((schema, name)) = relation.split_once('.') else {
        return Ok(Vec::new());
    };
    let relation = ident::quote_qualified(schema, name);
    let sql = format!("select {text} from {relation} as t order by 1 limit {SHOWN_ROWS_MAX}");
    sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_all(pool)
        .await
        .map_err(database_error(pool))
}

/// A few of the rows that the other side has not.
fn only_in(rows: &[String], others: &[String]) -> String {
    let mut left: BTreeMap<&String, i64> = BTreeMap::new();
    for row in others {
        *left.entry(row).or_default() += 1;
    }
    let mut only = Vec::new();
    for row in rows {
        let count = left.entry(row).or_default();
        *count -= 1;
        if *count < 0 && only.len() < NAMED_ROWS_MAX {
            only.push(row.as_str());
        }
    }
    only.join(" ")
}

/// Compares what two databases hold.
pub(super) async fn compare(
    pools: &(PgPool, PgPool),
    ignored: &[String],
    volatile: &BTreeMap<String, Vec<String>>,
    at: &dyn Fn(&str) -> String,
) -> Result<Compared, CompareError> {
    let theirs = left(&pools.0, ignored, volatile).await?;
    let ours = left(&pools.1, ignored, volatile).await?;
    let names: BTreeSet<&String> = theirs.shape.keys().chain(ours.shape.keys()).collect();
    let mut compared = Compared {
        relations: 0,
        rows: 0,
        differences: Vec::new(),
    };
    for name in names {
        let (their_shape, our_shape) = (theirs.shape.get(name), ours.shape.get(name));
        if their_shape != our_shape {
            let shown = |shape: Option<&String>| shape.cloned().unwrap_or("(none)".to_owned());
            compared.differences.push(Difference {
                what: "relation",
                of: at(name),
                dbt: shown(their_shape),
                ballpoint: shown(our_shape),
            });
            continue;
        }
        compared.relations += 1;
        let (their_rows, our_rows) = (&theirs.rows[name], &ours.rows[name]);
        compared.rows += u64::try_from(their_rows.0).unwrap_or(0);
        if their_rows == our_rows {
            continue;
        }
        let text = row_text(volatile.get(name).map(Vec::as_slice).unwrap_or_default());
        let shown = (
            rows(&pools.0, name, &text).await?,
            rows(&pools.1, name, &text).await?,
        );
        compared.differences.push(Difference {
            what: "rows",
            of: at(name),
            dbt: format!(
                "{} rows; only here: {}",
                their_rows.0,
                only_in(&shown.0, &shown.1)
            ),
            ballpoint: format!(
                "{} rows; only here: {}",
                our_rows.0,
                only_in(&shown.1, &shown.0)
            ),
        });
    }
    Ok(compared)
}
