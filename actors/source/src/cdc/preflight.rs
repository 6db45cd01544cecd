//! Whether a source's log can be followed, table by table; where not, why, and what to grant.
//!
//! Read-only and cheap. A table whose rows its replica identity does not name is never published:
//! PostgreSQL would refuse the application's own updates of it.

use std::collections::HashMap;

use ballpoint_postgres::ident::{quote, quote_qualified};
use sqlx::postgres::PgConnection;

use super::endpoint::Endpoint;

/// Why a source off this machine is not followed: docs/adr/0020.
const UNENCRYPTED: &str = "its log would travel unencrypted: connect over loopback or a Unix socket, or accept that \
     with sslmode=disable in its url";

/// What a source allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preflight {
    /// Why its log cannot be read at all.
    refusal: Option<String>,
    /// By object id.
    tables: HashMap<i64, TableLog>,
}

/// What the log says of one table's rows.
#[derive(Clone, Debug)]
struct TableLog {
    /// The columns by which the log names a row; none where it gives the whole row.
    key: Result<Vec<String>, String>,
}

impl Preflight {
    /// A source whose log cannot be read, for this reason.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self {
            refusal: Some(reason.into()),
            tables: HashMap::new(),
        }
    }

    /// The columns by which the log names the rows of a table; or why it cannot be followed, and what
    /// to do about that.
    pub(crate) fn key(&self, oid: i64) -> Result<Vec<String>, String> {
        if let Some(reason) = &self.refusal {
            return Err(reason.clone());
        }
        match self.tables.get(&oid) {
            Some(table) => table.key.clone(),
            None => Err("it was not there when the log was looked at".to_owned()),
        }
    }
}

const SERVER: &str = "
select current_setting('wal_level'), current_user::text, current_database()::text,
       r.rolsuper or r.rolreplication
         or exists (select from pg_roles m where m.rolname = 'rds_replication'
                    and pg_has_role(r.oid, m.oid, 'member')),
       has_database_privilege(current_database(), 'CREATE'),
       current_setting('max_replication_slots')::int > (select count(*) from pg_replication_slots),
       current_setting('max_wal_senders')::int > (select count(*) from pg_stat_replication),
       exists (select from pg_replication_slots where slot_name ~ '^ballpoint_'
               and database = current_database()),
       current_setting('server_version_num')::int
from pg_roles r where r.rolname = current_user";

type ServerRow = (String, String, String, bool, bool, bool, bool, bool, i32);

const TABLES: &str = "
select c.oid::bigint, n.nspname::text, c.relname::text, c.relreplident::text, c.relpersistence = 'p',
       pg_has_role(c.relowner, 'USAGE')
         or exists (select from pg_publication_rel p join pg_publication b on b.oid = p.prpubid
                    where p.prrelid = c.oid and b.pubname ~ '^ballpoint_'),
       coalesce((select array_agg(a.attname::text order by k.position)
                 from pg_index i
                 cross join unnest(i.indkey::int2[]) with ordinality k(attnum, position)
                 join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                 where i.indrelid = c.oid
                   and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end),
                '{}'),
       (select min(a.attname::text) from pg_attribute a
        where a.attrelid = c.oid and a.attgenerated <> '' and not a.attisdropped),
       exists (select from pg_partition_tree(c.oid) t join pg_class p on p.oid = t.relid
               where t.isleaf and p.relreplident <> c.relreplident)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'";

type TableRow = (
    i64,
    String,
    String,
    String,
    bool,
    bool,
    Vec<String>,
    Option<String>,
    bool,
);

/// What the source at `url` allows.
pub(crate) async fn of(connection: &mut PgConnection, url: &str) -> Result<Preflight, sqlx::Error> {
    match Endpoint::parse(url) {
        Some(endpoint) if endpoint.may_be_plain() => ask(connection).await,
        Some(_) => Ok(Preflight::refused(UNENCRYPTED)),
        None => Ok(Preflight::refused("its url lacks the host or the user")),
    }
}

/// Asks the source.
async fn ask(connection: &mut PgConnection) -> Result<Preflight, sqlx::Error> {
    let server: ServerRow = sqlx::query_as(SERVER).fetch_one(&mut *connection).await?;
    if let Some(reason) = refusal(&server) {
        return Ok(Preflight::refused(reason));
    }
    let user = server.1;
    let rows: Vec<TableRow> = sqlx::query_as(TABLES).fetch_all(connection).await?;
    let tables = rows.into_iter().map(|row| (row.0, table(row, &user)));
    Ok(Preflight {
        refusal: None,
        tables: tables.collect(),
    })
}

fn refusal(
    (
        wal_level,
        user,
        database,
        may_replicate,
        may_publish,
        free_slot,
        free_sender,
        installed,
        version,
    ): &ServerRow,
) -> Option<String> {
    let user = quote(user);
    if *version < 140_000 {
        return Some(format!(
            "the server is older than PostgreSQL 14 ({version})"
        ));
    }
    if wal_level != "logical" {
        return Some(format!(
            "the server's wal_level is {wal_level}: ALTER SYSTEM SET wal_level = logical, and restart it"
        ));
    }
    if !may_replicate {
        return Some(format!(
            "the configured user may not read the log: ALTER ROLE {user} REPLICATION"
        ));
    }
    if *installed {
        return None;
    }
    if !may_publish {
        return Some(format!(
            "the configured user may not create a publication: GRANT CREATE ON DATABASE {} TO {user}",
            quote(database)
        ));
    }
    if !free_slot {
        return Some("no replication slot is free: raise max_replication_slots".to_owned());
    }
    (!free_sender).then(|| "no WAL sender is free: raise max_wal_senders".to_owned())
}

fn table(
    (_, schema, name, identity, is_logged, may_publish, key, generated, partitions_differ): TableRow,
    user: &str,
) -> TableLog {
    let quoted = quote_qualified(&schema, &name);
    let key = if !is_logged {
        Err(format!(
            "it is not in the log: ALTER TABLE {quoted} SET LOGGED"
        ))
    } else if let Some(column) = generated {
        Err(format!(
            "the log leaves out its generated column {column:?}"
        ))
    } else if partitions_differ {
        Err("its partitions' replica identities differ from its own".to_owned())
    } else if !may_publish {
        Err(format!(
            "only its owner may publish it: ALTER TABLE {quoted} OWNER TO {}",
            quote(user)
        ))
    } else if identity == "n" || (key.is_empty() && identity != "f") {
        Err(format!(
            "the log does not say which row changed: give it a primary key, or \
             ALTER TABLE {quoted} REPLICA IDENTITY FULL"
        ))
    } else {
        Ok(key)
    };
    TableLog { key }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ballpoint_postgres::testing::TestDatabase;

    use super::*;

    #[tokio::test]
    async fn each_table_is_followed_by_its_identity_or_says_what_it_lacks() {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(
            "create table keyed (b int, a int, primary key (b, a));
             create table plain (a int);
             create table whole (a int); alter table whole replica identity full;
             create table silent (a int primary key); alter table silent replica identity nothing;
             create table indexed (a int primary key, b int not null);
             create unique index by_b on indexed (b);
             alter table indexed replica identity using index by_b;
             create unlogged table fleeting (a int primary key);
             create table computed (a int primary key, b int generated always as (a * 2) stored);",
        )
        .execute(database.pool())
        .await
        .unwrap();
        let mut connection = database.pool().acquire().await.unwrap();
        let answer = ask(&mut connection).await.unwrap();
        for (name, expected) in [
            ("keyed", Ok(vec!["b", "a"])),
            ("plain", Err("REPLICA IDENTITY FULL")),
            ("whole", Ok(vec![])),
            ("silent", Err("REPLICA IDENTITY FULL")),
            ("indexed", Ok(vec!["b"])),
            ("fleeting", Err("SET LOGGED")),
            ("computed", Err("generated column \"b\"")),
        ] {
            let oid: i64 = sqlx::query_scalar("select $1::regclass::oid::bigint")
                .bind(name)
                .fetch_one(&mut *connection)
                .await
                .unwrap();
            match (answer.key(oid), expected) {
                (Ok(key), Ok(expected)) => assert_eq!(key, expected, "{name}"),
                (Err(reason), Err(words)) => assert!(reason.contains(words), "{name}: {reason}"),
                (answer, _) => panic!("{name}: {answer:?}"),
            }
        }
    }

    #[test]
    fn a_server_that_keeps_no_readable_log_says_what_to_change() {
        let good: ServerRow = (
            "logical".to_owned(),
            "me".to_owned(),
            "shop".to_owned(),
            true,
            true,
            true,
            true,
            false,
            150_000,
        );
        assert_eq!(refusal(&good), None);
        let changed = |change: fn(&mut ServerRow)| {
            let mut row = good.clone();
            change(&mut row);
            refusal(&row).unwrap()
        };
        let replica = changed(|row| row.0 = "replica".to_owned());
        assert!(
            replica.contains("ALTER SYSTEM SET wal_level = logical"),
            "{replica}"
        );
        assert!(changed(|row| row.3 = false).contains("ALTER ROLE \"me\" REPLICATION"));
        assert!(changed(|row| row.4 = false).contains("GRANT CREATE ON DATABASE \"shop\""));
        assert!(changed(|row| row.5 = false).contains("max_replication_slots"));
        assert!(changed(|row| row.6 = false).contains("max_wal_senders"));
        assert!(changed(|row| row.8 = 130_000).contains("PostgreSQL 14"));
    }
}
