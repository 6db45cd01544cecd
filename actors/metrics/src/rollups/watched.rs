//! Tables that somebody else writes: PostgreSQL itself is asked whether their rows are still those
//! that a rollup was built from.
//!
//! It counts the rows that were written to each table. A session adds to these counters when it
//! becomes idle, at the latest [`COUNTED_AFTER_SECS`] after that, or when it ends. So they tell of
//! every commit as soon as all other sessions of the database have been idle for that long; until
//! then nothing is known, and the source is read. Truncated, rewritten, replaced and altered tables
//! and views, attached partitions and counters that began anew show in the same text.

use ballpoint_postgres::ident::quote_qualified;
use ballpoint_runtime::segment::TableName;
use sqlx::PgPool;

/// PostgreSQL promises ten seconds.
const COUNTED_AFTER_SECS: i32 = 15;

/// Where Ballpoint keeps what it knows.
const OWN_SCHEMA: &str = "ballpoint";

/// `$1`: relations; `$2`: whose sessions write no such table; `$3`: seconds.
const SQL: &str = "
with recursive watched (oid) as (
    select to_regclass(name)::oid from unnest($1::text[]) as name
    union
    select inhrelid from pg_inherits join watched on inhparent = watched.oid
), described as (
    select class.oid, concat_ws(':', class.oid, class.relkind, pg_relation_filenode(class.oid),
        pg_stat_get_tuples_inserted(class.oid), pg_stat_get_tuples_updated(class.oid),
        pg_stat_get_tuples_deleted(class.oid),
        (select md5(string_agg(concat_ws(' ', attname, atttypid, attisdropped), ',' order by attnum))
         from pg_attribute where attrelid = class.oid and attnum > 0),
        case when class.relkind = 'v' then md5(pg_get_viewdef(class.oid)) end) as text
    from watched join pg_class as class on class.oid = watched.oid
)
select current_setting('server_version_num')::int >= 150000
       and current_setting('track_counts')::boolean,
       not exists (
           select from pg_stat_activity
           where datname = current_database() and pid <> pg_backend_pid()
             -- Of a stranger's session all of this may be null: then nothing is known of it.
             and coalesce(backend_type, '') not in ('autovacuum worker', 'walsender')
             and coalesce(application_name, '') <> all ($2::text[])
             and (state is distinct from 'idle' or state_change is null
                  or state_change > clock_timestamp() - make_interval(secs => $3))),
       concat_ws(' ', extract(epoch from pg_postmaster_start_time()),
           (select extract(epoch from stats_reset) from pg_stat_bgwriter),
           (select extract(epoch from stats_reset) from pg_stat_database
            where datname = current_database()),
           (select string_agg(text, ' ' order by oid) from described))";

/// Tables that somebody else writes, as a rollup was built from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub tables: Vec<TableName>,
    /// Another text when they hold other rows.
    pub state: String,
}

/// Asks PostgreSQL about tables.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pool: PgPool,
    /// The names of Ballpoint's own sessions: what they write, events tell of.
    own: Vec<String>,
}

/// What PostgreSQL says at one moment.
pub(super) struct Look {
    /// Whether it counts rows so that the counters can be relied on.
    pub(super) is_counted: bool,
    /// Whether every commit is in the counters.
    pub(super) is_settled: bool,
    /// Differs when rows or definitions do.
    pub(super) state: String,
}

impl Watch {
    /// `owner` sees the sessions best; `reader` is another of Ballpoint's own.
    pub(super) fn new(owner: &PgPool, reader: &PgPool) -> Self {
        let name = |pool: &PgPool| {
            let options = pool.connect_options();
            options.get_application_name().map(str::to_owned)
        };
        Self {
            pool: owner.clone(),
            own: [name(owner), name(reader)].into_iter().flatten().collect(),
        }
    }

    pub(super) async fn look(&self, tables: &[TableName]) -> Result<Look, sqlx::Error> {
        let names = tables.iter();
        let names: Vec<String> = names
            .map(|it| quote_qualified(&it.schema, &it.name))
            .collect();
        let (is_counted, is_settled, state) = sqlx::query_as(SQL)
            .bind(names)
            .bind(&self.own)
            .bind(f64::from(COUNTED_AFTER_SECS))
            .fetch_one(&self.pool)
            .await?;
        Ok(Look {
            // Ballpoint writes its own tables all the time, and no event tells of that.
            is_counted: is_counted && tables.iter().all(|table| table.schema != OWN_SCHEMA),
            is_settled,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use ballpoint_postgres::testing::TestDatabase;
    use sqlx::AssertSqlSafe;
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

    use super::*;

    /// Of other roles' sessions it sees no state and no kind.
    #[tokio::test]
    async fn a_role_that_may_not_see_the_others_never_finds_them_settled() {
        let database = TestDatabase::create().await;
        let admin = database.pool();
        let name: String = sqlx::query_scalar("select current_database()")
            .fetch_one(admin)
            .await
            .unwrap();
        let role = format!("reader_of_{name}");
        let create = format!("create role {role} login password 'pw'");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(admin)
            .await
            .unwrap();
        let options: PgConnectOptions = database.url().parse().unwrap();
        let pool = PgPoolOptions::new()
            .connect_with(options.username(&role).password("pw"))
            .await
            .unwrap();
        let look = Watch::new(&pool, &pool).look(&[]).await.unwrap();
        pool.close().await;
        let drop = format!("drop role {role}");
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(admin)
            .await
            .unwrap();
        assert!(!look.is_settled);
    }
}
