//! What the role can and cannot do, on a real server: the measured table as regression tests.

use sqlx::AssertSqlSafe;

use super::*;
use crate::cluster::{Cluster, ClusterOptions};
use crate::testing::TestDatabase;

const SETUP: &str = "
    create schema ballpoint; create table ballpoint.work (secret text);
    create schema marts; create table marts.sales as select 1 as id, 10 as amount;
    create view marts.totals as select sum(amount) as total from marts.sales;
    create function marts.leak() returns text language sql security definer
        as 'select max(secret) from ballpoint.work';
    insert into ballpoint.work values ('canary');";

/// Ballpoint's own cluster with a role on its warehouse, in a folder that goes with it.
struct Own {
    cluster: Cluster,
    url: String,
    owner: PgPool,
    reader: PgPool,
    _folder: tempfile::TempDir,
}

impl Own {
    async fn start() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = ClusterOptions::new(folder.path().join("data"), ["warehouse", "orders"]);
        let cluster = Cluster::open(&options.throw_away()).await.unwrap();
        let url = cluster.url("warehouse");
        let owner = pool::connect(&url, PoolOptions::named("owner"))
            .await
            .unwrap();
        sqlx::raw_sql(SETUP).execute(&owner).await.unwrap();
        let reader = reader(&url).await;
        Self {
            cluster,
            url,
            owner,
            reader,
            _folder: folder,
        }
    }

    async fn stop(self) {
        self.reader.close().await;
        self.owner.close().await;
        self.cluster.stop().await.unwrap();
    }
}

fn role() -> QueryRole {
    QueryRole {
        hidden: vec!["ballpoint".to_owned()],
        temp_file_kb_max: 1024,
        ..QueryRole::new("ballpoint_query", Scope::OwnCluster)
    }
}

async fn reader(url: &str) -> PgPool {
    let (pool, notes) = connect_as_query_role(url, &role(), PoolOptions::named("reader"))
        .await
        .unwrap();
    assert_eq!(notes, Vec::<String>::new());
    pool
}

/// What a statement came to; its reason when it was refused. Each on a connection that tried to take
/// its read-only default back.
async fn attempted(pool: &PgPool, statement: &str) -> Result<(), String> {
    let mut connection = pool.acquire().await.unwrap();
    let loosened = "set default_transaction_read_only = off; set statement_timeout = 0;
                    set work_mem = '64kB'";
    sqlx::raw_sql(loosened)
        .execute(&mut *connection)
        .await
        .unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut *connection)
        .await;
    // What a statement set must not reach the next one.
    connection.close().await.unwrap();
    done.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_reader_reads_and_does_nothing_else() {
    let own = Own::start().await;
    for allowed in [
        "select * from marts.sales",
        "select total from marts.totals",
    ] {
        attempted(&own.reader, allowed).await.unwrap();
    }
    for (statement, reason) in [
        ("insert into marts.sales values (2, 2)", "permission denied"),
        ("update marts.sales set amount = 0", "permission denied"),
        ("truncate marts.sales", "permission denied"),
        (
            "with x as (delete from marts.sales returning 1) select * from x",
            "permission denied",
        ),
        (
            "explain analyze delete from marts.sales",
            "permission denied",
        ),
        ("select * from marts.sales for update", "permission denied"),
        ("create table marts.mine ()", "permission denied"),
        ("create table public.mine ()", "permission denied"),
        ("create temporary table mine ()", "permission denied"),
        ("create schema mine", "permission denied"),
        ("select * from ballpoint.work", "permission denied"),
        ("select marts.leak()", "permission denied"),
        ("select lo_from_bytea(0, 'x')", "permission denied"),
        (
            "select set_config('work_mem', '1GB', false)",
            "permission denied",
        ),
        (
            "select pg_notify('ballpoint_work', '')",
            "permission denied",
        ),
        ("select pg_advisory_lock(42)", "permission denied"),
        (
            "select pg_try_advisory_lock_shared(1, 2)",
            "permission denied",
        ),
        ("select pg_sleep(1)", "permission denied"),
        ("select pg_terminate_backend(1)", "permission denied"),
        ("select pg_read_file('PG_VERSION')", "permission denied"),
        ("select * from pg_authid", "permission denied"),
        ("copy marts.sales to program 'true'", "permission denied"),
        ("copy marts.sales to '/tmp/never'", "permission denied"),
        ("set temp_file_limit = -1", "permission denied"),
        ("set role postgres", "permission denied"),
        ("alter role ballpoint_query superuser", "permission denied"),
        (
            "select count(*) from (select md5(i::text) as m from generate_series(1, 200000) i order by m) s",
            "temp_file_limit",
        ),
    ] {
        let refused = attempted(&own.reader, statement).await;
        let refused = refused.expect_err(statement);
        let says = refused.contains(reason)
            || refused.contains("must be superuser")
            || refused.contains("must be owner");
        assert!(says, "{statement}: {refused}");
    }
    let elsewhere = own.cluster.url("orders");
    let password = derive(&own.url, &role()).unwrap();
    let refused = pool::connect_as(
        &elsewhere,
        "ballpoint_query",
        &password,
        PoolOptions::default(),
    )
    .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("permission denied for database"),
        "{refused}"
    );
    own.stop().await;
}

#[tokio::test]
async fn what_is_made_or_swapped_in_later_is_read_too_and_what_is_hidden_stays_hidden() {
    let own = Own::start().await;
    // As a build publishes: made under a shadow, put in the place of the former one.
    let later = "create schema shadow; create table shadow.sales as select 2 as id, 20 as amount;
        drop table marts.sales cascade; alter table shadow.sales set schema marts;
        create schema reports; create table reports.daily as select 1 as day;
        create materialized view reports.weekly as select 1 as week;
        create table ballpoint.plans (secret text)";
    sqlx::raw_sql(later).execute(&own.owner).await.unwrap();
    let amount: i32 = sqlx::query_scalar("select amount from marts.sales")
        .fetch_one(&own.reader)
        .await
        .unwrap();
    assert_eq!(amount, 20);
    for relation in ["reports.daily", "reports.weekly"] {
        attempted(&own.reader, &format!("select * from {relation}"))
            .await
            .unwrap();
    }
    let hidden = attempted(&own.reader, "select * from ballpoint.plans").await;
    assert!(hidden.unwrap_err().contains("permission denied"));
    // A second start finds everything as it should be; who is connected stays so.
    let again = reader(&own.url).await;
    for pool in [&own.reader, &again] {
        attempted(pool, "select * from marts.sales").await.unwrap();
    }
    again.close().await;
    own.stop().await;
}

#[tokio::test]
async fn on_somebodys_server_the_role_reads_the_schemas_it_is_given_and_nothing_made_elsewhere() {
    let database = TestDatabase::create().await;
    let setup = "create schema marts; create table marts.sales (id int);
                 create schema private; create table private.salaries (id int)";
    sqlx::raw_sql(setup).execute(database.pool()).await.unwrap();
    let name = format!("reader_{}", uuid::Uuid::new_v4().simple());
    let given = ["marts", "not there yet", "pg_catalog_of_ours"].map(str::to_owned);
    let role = QueryRole::new(&name, Scope::Schemas(given.to_vec()));
    let options = PoolOptions::named("reader");
    let (reader, notes) = connect_as_query_role(database.url(), &role, options)
        .await
        .unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("pg_catalog_of_ours"), "{notes:?}");
    let later = "create table marts.later (id int); create table \"not there yet\".first (id int);
                 create table private.later (id int);
                 create schema theirs; create table theirs.later (id int)";
    sqlx::raw_sql(later).execute(database.pool()).await.unwrap();
    for open in ["marts.sales", "marts.later", "\"not there yet\".first"] {
        attempted(&reader, &format!("select * from {open}"))
            .await
            .unwrap();
    }
    for closed in ["private.salaries", "private.later", "theirs.later"] {
        let refused = attempted(&reader, &format!("select * from {closed}")).await;
        assert!(
            refused.unwrap_err().contains("permission denied"),
            "{closed}"
        );
    }
    // A schema that is opened later opens nothing but what it is given.
    let open = "grant usage on schema private, theirs to public";
    sqlx::raw_sql(open).execute(database.pool()).await.unwrap();
    for closed in ["private.later", "theirs.later"] {
        let refused = attempted(&reader, &format!("select * from {closed}")).await;
        assert!(
            refused.unwrap_err().contains("permission denied"),
            "{closed}"
        );
    }
    reader.close().await;
    let drop = format!("drop owned by \"{name}\"; drop role \"{name}\"");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(database.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn who_may_make_no_roles_is_told_so_and_nothing_is_changed() {
    let database = TestDatabase::create().await;
    let name = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let create = format!("create role {name} login password 'pw'");
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(database.pool())
        .await
        .unwrap();
    let (_, rest) = database.url().split_once('@').unwrap();
    let url = format!("postgres://{name}:pw@{rest}");
    let wanted = QueryRole::new(format!("{name}_query"), Scope::Schemas(Vec::new()));
    let refused = connect_as_query_role(&url, &wanted, PoolOptions::default()).await;
    assert!(matches!(refused, Err(RoleError::Refused { .. })));
    let bare = format!("postgres://{name}@{rest}");
    let refused = connect_as_query_role(&bare, &wanted, PoolOptions::default()).await;
    assert!(matches!(refused, Err(RoleError::NoPassword { .. })));
    let drop = format!("drop role {name}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(database.pool())
        .await
        .unwrap();
}
