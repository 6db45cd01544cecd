//! Real dbt and this crate on one project in two databases: every relation row by row, every test's
//! unique id and verdict. Needs dbt-core 1.11 with dbt-postgres; `BALLPOINT_DBT_VENV` says where.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_transformer::Target;
use ballpoint_transformer::cli::{self, CliEnv};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Row};

fn dbt() -> PathBuf {
    let venv = std::env::var("BALLPOINT_DBT_VENV").expect(
        "BALLPOINT_DBT_VENV must name a virtual environment with dbt-core 1.11 and dbt-postgres",
    );
    let dbt = Path::new(&venv).join("bin/dbt");
    assert!(dbt.is_file(), "there is no dbt at {}", dbt.display());
    dbt
}

fn profiles(target: &Target, profile: &str) -> String {
    format!(
        "{profile}:\n  target: parity\n  outputs:\n    parity: {{type: postgres, host: \"{}\", port: {}, \
         user: \"{}\", password: \"{}\", dbname: \"{}\", schema: \"{}\", threads: 2}}\n",
        target.host, target.port, target.user, target.password, target.database, target.schema
    )
}

fn run_dbt(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(dbt())
        .args(args)
        .args(["--project-dir", ".", "--profiles-dir", "."])
        .current_dir(folder)
        .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

async fn run_ours(folder: &Path, target: &Target, args: &[&str]) -> (u8, String) {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = lines.clone();
    let env = CliEnv {
        env: HashMap::new(),
        working_dir: folder.to_owned(),
        default_target: Some(target.clone()),
        default_project_dir: None,
        clock: Clock::system(),
        out: Arc::new(move |line| sink.lock().unwrap().push(line.to_owned())),
    };
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let code = cli::run(&args, &env).await;
    (code, lines.lock().unwrap().join("\n"))
}

/// Every relation outside of `raw` with its kind, columns and rows, whatever their order.
async fn contents(database: &TestDatabase) -> BTreeMap<String, String> {
    let relations = sqlx::query(
        "select n.nspname::text, c.relname::text, c.relkind::text,
                (select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
                 from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'v', 'm') and n.nspname not in ('raw', 'pg_catalog', 'information_schema', 'pg_toast')",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let mut found = BTreeMap::new();
    for row in relations {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        let (kind, columns): (String, Option<String>) = (row.get(2), row.get(3));
        let sql = format!(
            "select count(*) || ' ' || coalesce(md5(string_agg(r, '|' order by r)), '') from (select t::text as r from \"{schema}\".\"{name}\" t) x"
        );
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(database.pool())
            .await
            .unwrap();
        found.insert(
            format!("{schema}.{name}"),
            format!("{kind} ({}) {rows}", columns.unwrap_or_default()),
        );
    }
    found
}

fn artifact(folder: &Path, name: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(folder.join("target").join(name)).unwrap())
        .unwrap()
}

fn verdicts(folder: &Path) -> BTreeMap<String, (String, Json)> {
    let results = artifact(folder, "run_results.json");
    let results = results["results"].as_array().unwrap().clone();
    results
        .iter()
        .map(|result| {
            let id = result["unique_id"].as_str().unwrap().to_owned();
            (
                id,
                (
                    result["status"].as_str().unwrap().to_owned(),
                    result["failures"].clone(),
                ),
            )
        })
        .collect()
}

/// What both manifests must say of every node of the project.
fn nodes(folder: &Path, project: &str) -> BTreeMap<String, String> {
    let manifest = artifact(folder, "manifest.json");
    let nodes = manifest["nodes"].as_object().unwrap();
    nodes
        .iter()
        .filter(|(_, node)| node["package_name"] == project)
        .map(|(id, node)| {
            let mut parents: Vec<String> = node["depends_on"]["nodes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|parent| parent.as_str().unwrap().to_owned())
                .collect();
            parents.sort();
            let facts = format!(
                "{} {} {} {:?} {:?} {}",
                node["alias"],
                node["schema"],
                node["fqn"],
                parents,
                node["config"]["materialized"],
                node["original_file_path"],
            );
            (id.clone(), facts)
        })
        .collect()
}

/// Builds a project with both and compares, after each of `steps` changed raw.
async fn compare(source: &Path, project: &str, schema: &str, vars: &str, steps: &[&str]) {
    let profile = project;
    let (theirs, ours) = (TestDatabase::create().await, TestDatabase::create().await);
    let (their_dir, our_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (database, dir) in [(&theirs, &their_dir), (&ours, &our_dir)] {
        support::copy(source, dir.path());
        let target = Target::from_url(database.url(), schema).unwrap();
        std::fs::write(dir.path().join("profiles.yml"), profiles(&target, profile)).unwrap();
    }
    let our_target = Target::from_url(ours.url(), schema).unwrap();
    for step in steps {
        for database in [&theirs, &ours] {
            match *step {
                "pens" => support::land_pens(database, 300).await,
                sql => {
                    let sql = AssertSqlSafe(sql.to_owned());
                    sqlx::raw_sql(sql).execute(database.pool()).await.unwrap();
                }
            }
        }
        let (their_success, their_log) = run_dbt(their_dir.path(), &["build", "--vars", vars]);
        let (our_code, our_log) =
            run_ours(our_dir.path(), &our_target, &["build", "--vars", vars]).await;
        assert_eq!(
            their_success,
            our_code == 0,
            "dbt said:\n{their_log}\nwe said:\n{our_log}"
        );
        assert_eq!(
            verdicts(their_dir.path()),
            verdicts(our_dir.path()),
            "{their_log}\n{our_log}"
        );
        assert_eq!(contents(&theirs).await, contents(&ours).await);
        assert_eq!(
            nodes(their_dir.path(), project),
            nodes(our_dir.path(), project)
        );
    }
}

#[tokio::test]
async fn dbt_and_we_leave_the_same_shop() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects/shop");
    let delta =
        "insert into raw.orders values (4, 'fr', 100, '2026-01-02 10:00', '2026-01-03 00:00+00');
                 update raw.orders set cents = 5, loaded_at = '2026-01-04 00:00+00' where id = 3";
    let wrong =
        "insert into raw.orders values (5, 'xx', 100, '2026-01-02 10:00', '2026-01-05 00:00+00')";
    compare(
        &shop,
        "shop",
        "analytics",
        "{}",
        &[support::ORDERS, delta, wrong],
    )
    .await;
}

#[tokio::test]
async fn dbt_and_we_leave_the_same_pens() {
    let vars = format!("{{business_now: '{}'}}", support::NOW);
    let late = "insert into raw.refills_production
        select (r).* from (select jsonb_populate_record(t, jsonb_build_object(
            'id', t.id + 100000, '_airbyte_extracted_at', '2026-03-31 09:30+00')) as r
        from raw.refills_production t where id between 20 and 24) x";
    compare(
        &support::warehouse(),
        "pens",
        "public",
        &vars,
        &["pens", late],
    )
    .await;
}
