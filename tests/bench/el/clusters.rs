//! Two clusters, a source and a warehouse, and the table that goes from one to the other.

use std::path::{Path, PathBuf};

use ballpoint_postgres::cluster::{Cluster, ClusterOptions};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::Folder;

/// As the figures of the notes were taken; the rest is PostgreSQL's default, fsync on.
const SETTINGS: [&str; 4] = [
    "alter system set shared_buffers = '512MB'",
    "alter system set max_wal_size = '4GB'",
    "alter system set autovacuum = off",
    "alter system set wal_level = 'logical'",
];

pub(crate) struct Clusters {
    folder: Folder,
    source: Cluster,
    warehouse: Cluster,
}

impl Clusters {
    pub(crate) async fn start() -> Self {
        let folder = Folder::new();
        let source = cluster(&folder.path().join("source"), "shop").await;
        let warehouse = cluster(&folder.path().join("warehouse"), "warehouse").await;
        Self {
            folder,
            source,
            warehouse,
        }
    }

    pub(crate) fn source_url(&self) -> String {
        self.source.url("shop")
    }

    pub(crate) fn warehouse_url(&self) -> String {
        self.warehouse.url("warehouse")
    }

    pub(crate) async fn source(&self) -> PgPool {
        PgPool::connect(&self.source_url()).await.unwrap()
    }

    pub(crate) async fn warehouse(&self) -> PgPool {
        PgPool::connect(&self.warehouse_url()).await.unwrap()
    }

    /// A project that syncs `table` of the source into the warehouse at `url`.
    pub(crate) fn project(&self, name: &str, table: &str, url: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let config = format!(
            "[project]\nname = \"{name}\"\n[warehouse]\nurl = \"{url}\"\n\
             [sources.shop]\nkind = \"postgres\"\nurl = \"{}\"\ntables = [\"public.{table}\"]\nmode = \"full_refresh\"\n",
            self.source_url()
        );
        std::fs::write(folder.join("ballpoint.toml"), config).unwrap();
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn stop(self) {
        self.source.stop().await.unwrap();
        self.warehouse.stop().await.unwrap();
    }
}

async fn cluster(dir: &Path, database: &str) -> Cluster {
    let options = ClusterOptions::new(dir, [database]);
    let cluster = Cluster::open(&options).await.unwrap();
    let pool = PgPool::connect(&cluster.url(database)).await.unwrap();
    for setting in SETTINGS {
        sqlx::query(setting).execute(&pool).await.unwrap();
    }
    pool.close().await;
    cluster.stop().await.unwrap();
    Cluster::open(&options).await.unwrap()
}

/// A table of 27 columns, about 210 bytes a row, with a primary key and two further indexes.
pub(crate) async fn fill(pool: &PgPool, table: &str, rows: u64) {
    let sql = format!(
        "create table {table} (
           id integer primary key, batch_id varchar(50) not null, machine_id varchar(50) not null,
           operator_id varchar(50), shift varchar(20), made_at timestamp, updated_at timestamptz not null,
           diameter numeric(6,3), weight numeric(6,2), length_mm numeric(6,2), colour varchar(20),
           viscosity numeric(6,2), temperature numeric(5,2), pressure numeric(6,2), speed integer,
           cycle_seconds numeric(6,2), energy_kwh numeric(8,3), cost numeric(8,4), oee numeric(5,4),
           availability numeric(5,4), performance numeric(5,4), quality numeric(5,4),
           status varchar(20), defect varchar(50), rework boolean, note text, supplier varchar(50));
         insert into {table} select n, 'BATCH-' || n / 500, 'M-' || n % 20, 'OP-' || n % 30,
           (array['early','late','night'])[1 + n % 3], timestamp '2025-01-01' + n * interval '7 seconds',
           timestamptz '2025-01-01' + n * interval '7 seconds', 2.3 + n % 100 / 1000.0, 9 + n % 90 / 100.0,
           98 + n % 300 / 100.0, (array['blue','black','red','green'])[1 + n % 4], 10 + n % 500 / 100.0,
           20 + n % 900 / 100.0, 100 + n % 5000 / 100.0, 50 + n % 100, 3 + n % 700 / 100.0,
           0.2 + n % 1000 / 1000.0, 0.01 + n % 999 / 10000.0, 0.5 + n % 4999 / 10000.0,
           0.6 + n % 3999 / 10000.0, 0.7 + n % 2999 / 10000.0, 0.8 + n % 1999 / 10000.0,
           case when n % 17 = 0 then 'rejected' else 'passed' end,
           case when n % 17 = 0 then 'defect ' || n % 9 end, n % 23 = 0,
           case when n % 11 = 0 then 'seen by inspector ' || n % 7 end, 'supplier ' || n % 12
         from generate_series(1, {rows}) n;
         create index on {table} (updated_at); create index on {table} (batch_id);
         vacuum (freeze, analyze) {table}; checkpoint"
    );
    for statement in sql.split(';') {
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(pool)
            .await
            .unwrap();
    }
}

/// Count and hash over the source's columns, whatever the order of the rows; `like` names them.
pub(crate) async fn hash(pool: &PgPool, table: &str, columns: &str) -> String {
    let sql = format!(
        "select count(*) || ' rows, hash ' ||
           coalesce(sum(hashtextextended(row({columns})::text, 0)), 0) from {table}"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(pool)
        .await
        .unwrap()
}

pub(crate) async fn columns(pool: &PgPool, table: &str) -> String {
    sqlx::query_scalar(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
         where attrelid = $1::regclass and attnum > 0 and not attisdropped",
    )
    .bind(table)
    .fetch_one(pool)
    .await
    .unwrap()
}
