//! `ballpoint dbt …` on a small project and a real PostgreSQL.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballpoint_transformer::Target;
use ballpoint_transformer::cli;

use crate::support::Workbench;

#[tokio::test]
async fn build_makes_every_relation_and_runs_every_test() {
    let bench = Workbench::shop().await;
    let (code, output) = bench.dbt("build").await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("Done. PASS=15 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=15"),
        "{output}"
    );
    assert!(
        output.contains("START sql view model staging.stg_orders"),
        "{output}"
    );
    assert_eq!(bench.text("select count(*) from marts.orders").await, "3");
    assert_eq!(
        bench.text("select string_agg(day || ' ' || orders || ' ' || total, ', ' order by day) from marts.orders_per_day").await,
        "2026-01-01 2 13.00, 2026-01-02 1 9.99"
    );
    assert_eq!(
        bench
            .text("select sum(members) from analytics.countries")
            .await,
        "151"
    );
    let leftovers = "select count(*) from pg_class where relname ~ '__dbt'";
    assert_eq!(bench.text(leftovers).await, "0");
}

#[tokio::test]
async fn a_second_build_adds_what_is_new_and_full_refresh_starts_over() {
    let bench = Workbench::shop().await;
    bench.dbt("build").await;
    bench.sql("insert into raw.orders values (4, 'fr', 100, '2026-01-02 10:00', '2026-01-03 00:00+00'); update raw.orders set cents = 0 where id = 1").await;
    let (code, output) = bench.dbt("build").await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("[MERGE 1 in "), "{output}");
    assert_eq!(
        bench.text("select sum(total) from marts.orders").await,
        "23.99"
    );
    let (code, output) = bench.dbt("build --full-refresh").await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(
        bench.text("select sum(total) from marts.orders").await,
        "13.49"
    );
}

#[tokio::test]
async fn a_failed_test_skips_what_is_downstream_and_exits_1() {
    let bench = Workbench::shop().await;
    bench.sql("insert into raw.orders values (1, 'de', 100, '2026-01-02 10:00', '2026-01-03 00:00+00')").await;
    let (code, output) = bench.dbt("build").await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("FAIL 1 source_unique_app_orders_id"),
        "{output}"
    );
    assert!(
        output.contains("SKIP relation marts.orders_per_day"),
        "{output}"
    );
    let results = bench.artifact("run_results.json");
    let failed = results["results"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["status"] == "fail")
        .unwrap();
    assert_eq!(
        failed["unique_id"],
        "test.shop.source_unique_app_orders_id.ad0374364f"
    );
    assert_eq!(failed["failures"], 1);
}

#[tokio::test]
async fn a_model_that_postgresql_refuses_is_reported_with_its_message() {
    let bench = Workbench::shop().await;
    bench.write(
        "models/marts/late.sql",
        "select nothing_like_it from {{ ref('stg_orders') }}",
    );
    let (code, output) = bench.dbt("run").await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("column \"nothing_like_it\" does not exist (SQLSTATE 42703)"),
        "{output}"
    );
    assert!(output.contains("ERROR=1"), "{output}");
}

#[tokio::test]
async fn selection_follows_names_graphs_tags_paths_and_sources() {
    let bench = Workbench::shop().await;
    let list = async |flags: &str| {
        let (code, output) = bench
            .dbt(&format!("ls --resource-type model {flags} --output name"))
            .await;
        assert_eq!(code, 0, "{output}");
        output.replace('\n', " ")
    };
    assert_eq!(
        list("").await,
        "orders orders_per_day stg_orders valid_orders"
    );
    assert_eq!(list("--select orders").await, "orders");
    assert_eq!(list("--select orders+").await, "orders orders_per_day");
    assert_eq!(
        list("--select +orders").await,
        "orders stg_orders valid_orders"
    );
    assert_eq!(list("--select 1+orders").await, "orders valid_orders");
    assert_eq!(
        list("--select stg_orders+1").await,
        "stg_orders valid_orders"
    );
    assert_eq!(
        list("--select source:app+").await,
        "orders orders_per_day stg_orders valid_orders"
    );
    assert_eq!(
        list("--select tag:mart --exclude valid_orders").await,
        "orders orders_per_day"
    );
    assert_eq!(list("--select path:models/staging").await, "stg_orders");
    assert_eq!(
        list("--select staging orders_per_day").await,
        "orders_per_day stg_orders"
    );
    assert_eq!(
        list("--select orders+,tag:mart,config.materialized:table").await,
        "orders_per_day"
    );
    let (code, output) = bench.dbt("ls --select tags:mart").await;
    assert_eq!(
        (code, output.contains("did you mean 'tag'?")),
        (2, true),
        "{output}"
    );
}

#[tokio::test]
async fn artifacts_hold_what_their_readers_look_for() {
    let bench = Workbench::shop().await;
    bench.dbt("build").await;
    let manifest = bench.artifact("manifest.json");
    assert_eq!(
        manifest["metadata"]["dbt_schema_version"],
        "https://schemas.getdbt.com/dbt/manifest/v12.json"
    );
    let orders = &manifest["nodes"]["model.shop.orders"];
    assert_eq!(orders["config"]["materialized"], "incremental");
    assert_eq!(
        orders["fqn"],
        serde_json::json!(["shop", "marts", "orders"])
    );
    assert_eq!(
        manifest["child_map"]["source.shop.app.orders"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let compiled = bench
        .folder
        .path()
        .join("target/compiled/shop/models/marts/orders_per_day.sql");
    assert!(
        std::fs::read_to_string(compiled)
            .unwrap()
            .contains("sum(total) as total")
    );
}

#[tokio::test]
async fn a_profile_of_the_command_line_beats_the_configured_target() {
    let bench = Workbench::shop().await;
    let target = bench.target();
    let mut env = bench.env();
    env.default_target = None;
    for (name, value) in [
        ("SHOP_HOST", target.host.clone()),
        ("SHOP_PORT", target.port.to_string()),
        ("SHOP_USER", target.user.clone()),
        ("SHOP_PASSWORD", target.password.clone()),
        ("SHOP_DATABASE", target.database.clone()),
    ] {
        env.env.insert(name.to_owned(), value);
    }
    let debug = ["debug", "--profiles-dir", "."].map(str::to_owned);
    assert_eq!(ballpoint_transformer::cli::run(&debug, &env).await, 0);
    env.env.remove("SHOP_HOST");
    // A profile that is no good is what `debug` is there to find: a failed check.
    assert_eq!(ballpoint_transformer::cli::run(&debug, &env).await, 1);
    let parse = ["parse", "--profiles-dir", "."].map(str::to_owned);
    assert_eq!(ballpoint_transformer::cli::run(&parse, &env).await, 2);
}

#[tokio::test]
async fn show_compile_freshness_and_unusable_commands_answer_as_dbt_does() {
    let bench = Workbench::shop().await;
    bench.dbt("build").await;
    let (code, output) = bench.dbt("show --select orders_per_day --limit 1").await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("| day | orders | total |"), "{output}");
    let (code, output) = bench.dbt("compile --select stg_orders").await;
    assert_eq!(
        (code, output.contains("round(cents / 100.0, 2) as total")),
        (0, true),
        "{output}"
    );
    let (code, output) = bench.dbt("source freshness").await;
    assert_eq!(
        (code, output.contains("ERROR freshness of app.orders")),
        (1, true),
        "{output}"
    );
    bench.sql("update raw.orders set loaded_at = now()").await;
    assert_eq!(bench.dbt("source freshness").await.0, 0);
    assert_eq!(
        bench.artifact("sources.json")["results"][0]["status"],
        "pass"
    );
    assert_eq!(bench.dbt("docs generate").await.0, 0);
    let page = std::fs::read_to_string(bench.folder.path().join("target/index.html")).unwrap();
    assert!(
        page.contains("orders_per_day") && !page.contains(">DATA<"),
        "{page}"
    );
    assert_eq!(bench.dbt("nonsense").await.0, 2);
    assert_eq!(bench.dbt("build --vars [").await.0, 2);
    assert_eq!(bench.dbt("clean").await.0, 0);
    assert!(!bench.folder.path().join("target").exists());
}

#[tokio::test]
async fn run_query_and_statement_look_into_the_database_while_rendering() {
    let bench = Workbench::shop().await;
    bench.write("models/marts/pivot.sql",
        "{% set countries = run_query('select distinct country from raw.orders order by 1') %}\
         {% call statement('total', fetch_result=True) %}select count(*) from raw.orders{% endcall %}\
         {% if execute %}{% set names = countries.columns[0].values() %}\
         {% set total = load_result('total')['data'][0][0] %}{% else %}{% set names = [] %}{% set total = 0 %}{% endif %}\
         select {{ total }} as total{% for name in names %}, '{{ name }}' as {{ name }}{% endfor %}");
    let (code, output) = bench.dbt("run --select pivot").await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(
        bench
            .text("select total || de || fr from marts.pivot")
            .await,
        "3defr"
    );
}

#[tokio::test]
async fn nodes_run_side_by_side_and_fail_fast_stops_early() {
    let bench = Workbench::shop().await;
    // Each model waits for the other three. A sequence counts across open transactions.
    bench
        .sql(
            "create sequence arrived;
             create function meet() returns int language plpgsql as $$
             begin
               perform nextval('public.arrived');
               for look in 1..6000 loop
                 if (select last_value from public.arrived) >= 4 then return 1; end if;
                 perform pg_sleep(0.01);
               end loop;
               raise exception 'the others did not come';
             end $$",
        )
        .await;
    for name in ["a", "b", "c", "d"] {
        bench.write(
            &format!("models/{name}.sql"),
            "{{ config(materialized='table') }} select public.meet() as one",
        );
    }
    let (code, output) = bench.dbt("run --select a b c d --threads 4").await;
    assert_eq!(code, 0, "{output}");
    bench.write("models/a.sql", "select oops");
    let (code, output) = bench
        .dbt("run --select a b c d --threads 1 --fail-fast")
        .await;
    assert_eq!((code, output.contains("SKIP=3")), (1, true), "{output}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_with_its_address_and_what_to_do() {
    // A port that was free a moment ago, and that nobody listens at.
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let bench = Workbench::shop().await;
    let mut env = bench.env();
    let url = format!("postgres://u:p@127.0.0.1:{port}/shop");
    env.default_target = Some(Target::from_url(&url, "public").unwrap());
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let said = lines.clone();
    env.out = Arc::new(move |line| said.lock().unwrap().push(line.to_owned()));
    for (command, code) in [("run", 2), ("compile", 2), ("debug", 1)] {
        lines.lock().unwrap().clear();
        // A pool tries again for 30 s.
        let args = [command.to_owned()];
        let ran = tokio::time::timeout(Duration::from_secs(25), cli::run(&args, &env)).await;
        let output = lines.lock().unwrap().join("\n");
        assert_eq!(ran, Ok(code), "{output}");
        assert!(output.contains(&format!("127.0.0.1:{port}")), "{output}");
        assert!(output.contains("--data-dir"), "{output}");
    }
}

#[tokio::test]
async fn what_a_command_line_leaves_unsaid_comes_from_the_environment_then_the_project() {
    let bench = Workbench::shop().await;
    let file = bench.folder.path().join("dbt_project.yml");
    let project = std::fs::read_to_string(&file).unwrap();
    bench.write(
        "dbt_project.yml",
        &format!("{project}\nflags: {{warn_error: true, fail_fast: true}}\n"),
    );
    bench.write(
        "tests/odd.sql",
        "{{ config(severity='warn') }} select 1 from {{ ref('countries') }}",
    );
    let (code, output) = bench.dbt("build").await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("fail_fast") || output.contains("SKIP"),
        "{output}"
    );
    // The environment beats the project, the command line both.
    let outcome = async |variables: &[(&str, &str)], args: &[&str]| {
        let mut env = bench.env();
        let pairs = variables.iter();
        env.env = pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        cli::run(&args, &env).await
    };
    let lenient = [("DBT_WARN_ERROR", "0"), ("DBT_FAIL_FAST", "false")];
    assert_eq!(outcome(&lenient, &["build"]).await, 0);
    assert_eq!(outcome(&lenient, &["build", "--warn-error"]).await, 1);
    let selected = [
        ("DBT_WARN_ERROR", "0"),
        ("DBT_RESOURCE_TYPES", "seed model"),
    ];
    assert_eq!(outcome(&selected, &["build"]).await, 0);
    let results = bench.artifact("run_results.json");
    let ids = results["results"].as_array().unwrap().iter();
    let mut kinds = ids.map(|it| it["unique_id"].as_str().unwrap().split('.').next().unwrap());
    assert!(
        kinds.all(|kind| ["seed", "model"].contains(&kind)),
        "{results}"
    );
}

#[tokio::test]
async fn a_profile_says_who_owns_what_is_built_and_where_names_are_looked_for() {
    let bench = Workbench::shop().await;
    let target = bench.target();
    let role = format!("owner_{}", target.database);
    bench.sql(&format!("create role {role}; grant create on database \"{}\" to {role}; grant all on schema raw to {role}; grant all on all tables in schema raw to {role}; create schema elsewhere", target.database)).await;
    let output = serde_json::json!({
        "type": "postgres", "host": target.host, "port": target.port, "user": target.user,
        "password": target.password, "dbname": target.database, "schema": "analytics",
        "role": role, "search_path": "raw, elsewhere",
    });
    let profiles = serde_json::json!({"shop": {"target": "dev", "outputs": {"dev": output}}});
    bench.write("profiles.yml", &profiles.to_string());
    bench.write(
        "models/staging/unqualified.sql",
        "select count(*) as n from orders",
    );
    let (code, output) = bench
        .dbt("run --profiles-dir . --select unqualified stg_orders")
        .await;
    assert_eq!(code, 0, "{output}");
    let owners = "select string_agg(distinct viewowner::text, ',') from pg_views where schemaname = 'staging'";
    assert_eq!(bench.text(owners).await, role);
    bench
        .sql(&format!("drop owned by {role}; drop role {role}"))
        .await;
}

#[tokio::test]
async fn a_name_that_postgres_would_cut_is_refused() {
    let bench = Workbench::shop().await;
    let name = "n".repeat(64);
    bench.write(&format!("models/marts/{name}.sql"), "select 1 as one");
    let (code, output) = bench.dbt(&format!("run --select {name}")).await;
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("is longer than 63 characters"), "{output}");
}

#[tokio::test]
async fn a_cancelled_run_begins_nothing_more_and_is_no_success() {
    let bench = Workbench::shop().await;
    bench.write(
        "models/marts/slow.sql",
        "{% if execute %}{% do run_query('select pg_sleep(0.5)') %}{% endif %} select 1 as one",
    );
    let env = bench.env();
    let args: Vec<String> = ["run", "--select", "slow"].map(str::to_owned).to_vec();
    let cancel = env.cancel.clone();
    let asks = "select count(*) from pg_stat_activity where query like '%pg_sleep(0.5)%' and pid <> pg_backend_pid()";
    let stop = async {
        while bench.text(asks).await == "0" {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (code, ()) = tokio::join!(cli::run(&args, &env), stop);
    assert_eq!(code, 1);
    let built = "select count(*) from pg_class where relname = 'slow'";
    assert_eq!(bench.text(built).await, "0");
}

#[tokio::test]
async fn a_test_of_what_is_disabled_or_missing_is_left_out_and_the_rest_is_built() {
    let bench = Workbench::shop().await;
    bench.write(
        "models/marts/off.sql",
        "{{ config(enabled=false) }} select 1 as id",
    );
    bench.write("tests/of_off.sql", "select 1 from {{ ref('off') }}");
    bench.write("tests/of_gone.sql", "select 1 from {{ ref('gone') }}");
    bench.write(
        "models/marts/units.yml",
        "unit_tests: [{name: u, model: off, given: [], expect: {rows: [{id: 1}]}}]",
    );
    let (code, output) = bench.dbt("build").await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("'gone', which does not exist"), "{output}");
    assert!(!output.contains("'off'"), "{output}");
}

#[tokio::test]
async fn a_criterion_that_names_nothing_is_said_and_an_error_where_warnings_are() {
    let bench = Workbench::shop().await;
    let (code, output) = bench.dbt("run --select stg_order stg_orders").await;
    assert_eq!(code, 0, "{output}");
    let said = "The selection criterion 'stg_order' does not match any enabled nodes";
    assert!(output.contains(said), "{output}");
    let (code, _) = bench.dbt("run --warn-error --select stg_order").await;
    assert_eq!(code, 2);
    let (code, output) = bench
        .dbt("run --no-warn-error --no-full-refresh --select stg_order")
        .await;
    assert_eq!(code, 0, "{output}");
}

#[tokio::test]
async fn a_hook_after_the_commit_may_name_its_relation() {
    let bench = Workbench::shop().await;
    bench.write(
        "models/marts/kept.sql",
        "{{ config(materialized='table', post_hook=after_commit('vacuum {{ this }}')) }} select 1 as one",
    );
    let (code, output) = bench.dbt("run --select kept").await;
    assert_eq!(code, 0, "{output}");
}

#[tokio::test]
async fn a_snapshot_grows_with_the_texts_of_its_source() {
    let bench = Workbench::shop().await;
    bench.sql("create table raw.names (id int, name varchar(3)); insert into raw.names values (1, 'Ann')").await;
    bench.write(
        "snapshots/names.sql",
        "{% snapshot names %}{{ config(target_schema='kept', unique_key='id', strategy='check', check_cols='all') }}
         select * from raw.names{% endsnapshot %}",
    );
    let (code, output) = bench.dbt("snapshot").await;
    assert_eq!(code, 0, "{output}");
    bench.sql("alter table raw.names alter name type varchar(9); update raw.names set name = 'Annabel'").await;
    let (code, output) = bench.dbt("snapshot").await;
    assert_eq!(code, 0, "{output}");
    let kept = "select string_agg(name, ',' order by name) from kept.names";
    assert_eq!(bench.text(kept).await, "Ann,Annabel");
}
