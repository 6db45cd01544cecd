//! The projects of the benchmark: the shipped one with its rows, many views, one large table.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The moment that the shipped seeds live in.
const NOW: &str = "2026-03-31T10:00:00Z";

/// Rows of each shipped source, as in the first look of a user.
const PENS_ROWS: u64 = 2_160;

/// The schema of a profile without anything in it.
pub(crate) const EMPTY_SCHEMA: &str = "drop schema public cascade; create schema public;";

/// A million rows to read from.
pub(crate) const ROWS_SOURCE: &str = "create schema raw;
    create table raw.events as select i as id, timestamp '2026-01-01' + i * interval '1 second' as at,
        md5(i::text) as what, i % 1000 as amount from generate_series(1, 1000000) i;
    analyze raw.events;";

/// A thousand more, half of them later versions of rows that are there.
pub(crate) const ROWS_NEW: &str = "insert into raw.events
    select case when i % 2 = 0 then i else m.id + i end, m.at + i * interval '1 second', md5(i::text), i
    from generate_series(1, 1000) i, (select max(id) as id, max(at) as at from raw.events) m;";

/// What has to be done with them, as one would write it.
pub(crate) const ROWS_BARE: &str = "begin;
    create temporary table fresh on commit drop as
        select id, at, what, amount from raw.events where at > (select max(at) from public.events);
    delete from public.events as old where (id) in (select distinct id from fresh);
    insert into public.events (id, at, what, amount) (select id, at, what, amount from fresh);
    commit;";

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (source, name) = (entry.path(), entry.file_name());
        match source.is_dir() {
            true if name != "target" => copy(&source, &to.join(name)),
            true => {}
            false => {
                std::fs::copy(&source, to.join(name)).unwrap();
            }
        }
    }
}

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A profile for the database behind a URL of the embedded cluster.
pub(crate) fn write_profile(folder: &Path, profile: &str, url: &str, threads: usize) {
    let target = ballpoint_transformer::Target::from_url(url, "public").unwrap();
    let output = serde_json::json!({
        "type": "postgres", "host": target.host, "port": target.port, "user": target.user,
        "password": target.password, "dbname": target.database, "schema": "public",
        "threads": threads,
    });
    let profile = serde_json::json!({ profile: {"target": "bench", "outputs": {"bench": output}}});
    write(folder, "profiles.yml", &profile.to_string());
}

/// The shipped sources as the loader lands them.
pub(crate) async fn land_pens(url: &str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for source in ["refills", "bodies", "springs"] {
        let read = |file: &str| std::fs::read_to_string(root.join(source).join(file)).unwrap();
        let files = ballpoint_seeds::SeedFiles {
            directory: format!("seeds/{source}"),
            schema_sql: read("schema.sql"),
            generator_yml: read("generator.yml"),
        };
        ballpoint_seeds::fill(&mut conn, &files, PENS_ROWS, 42, NOW.parse().unwrap())
            .await
            .unwrap();
        let land = format!(
            "create schema if not exists raw;
             alter table public.{source}_production set schema raw;
             alter table raw.{source}_production
                 add _airbyte_extracted_at timestamptz default '2026-03-31 09:00+00',
                 add _airbyte_generation_id bigint default 0, add _ab_cdc_lsn pg_lsn,
                 add _ab_cdc_deleted_at timestamptz;
             analyze raw.{source}_production"
        );
        sqlx::raw_sql(AssertSqlSafe(land))
            .execute(&mut conn)
            .await
            .unwrap();
    }
}

/// A project of views in layers of fifty, each over two of the layer below.
pub(crate) fn write_views(folder: &Path, count: usize) {
    write(
        folder,
        "dbt_project.yml",
        "name: views\nversion: '1.0'\nprofile: views\nmodels: {views: {+materialized: view}}\n",
    );
    let mut properties = "models:\n".to_owned();
    for number in 0..count {
        let (layer, place) = (number / 50, number % 50);
        let body = match layer {
            0 => format!("select {place} as id, 'n{place}' as name, current_date as day"),
            _ => {
                let below = |shift: usize| (layer - 1) * 50 + (place + shift) % 50;
                format!(
                    "with a as (select * from {{{{ ref('m_{}') }}}}),\nb as (select * from \
                     {{{{ ref('m_{}') }}}})\nselect a.id, b.name, a.day from a join b on a.id <> b.id",
                    below(0),
                    below(7)
                )
            }
        };
        write(
            folder,
            &format!("models/layer_{layer}/m_{number}.sql"),
            &body,
        );
        properties.push_str(&format!(
            "  - name: m_{number}\n    description: View {number}\n    columns:\n      - {{name: id, \
             description: A number}}\n"
        ));
    }
    write(folder, "models/schema.yml", &properties);
}

/// A project of one incremental model over a million rows.
pub(crate) fn write_rows(folder: &Path) {
    write(
        folder,
        "dbt_project.yml",
        "name: rows\nversion: '1.0'\nprofile: rows\n",
    );
    write(
        folder,
        "models/sources.yml",
        "sources: [{name: raw, schema: raw, tables: [{name: events}]}]\n",
    );
    write(
        folder,
        "models/events.sql",
        "{{ config(materialized='incremental', unique_key='id', incremental_strategy='delete+insert') }}\n\
         select id, at, what, amount from {{ source('raw', 'events') }}\n\
         {% if is_incremental() %}where at > (select max(at) from {{ this }}){% endif %}\n",
    );
}
