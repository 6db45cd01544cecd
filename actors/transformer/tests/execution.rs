//! How runs end: lost connections, conflicts, locks, hooks, a cancel, and tests asked together.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ballpoint_transformer::cli;
use serde_json::Value as Json;

use crate::support::Workbench;

/// A function that fails the first time it is called, however that transaction ends.
fn fails_once(how: &str) -> String {
    format!(
        "create sequence if not exists public.calls;
         create or replace function public.once() returns int language plpgsql as $$
         begin
           if nextval('public.calls') = 1 then {how}; end if;
           return 1;
         end $$"
    )
}

async fn with_model(sql: &str) -> Workbench {
    let bench = Workbench::shop().await;
    bench.write("models/marts/one.sql", sql);
    bench.write("models/marts/two.sql", "select * from {{ ref('one') }}");
    bench
}

fn result<'a>(results: &'a Json, name: &str) -> &'a Json {
    let all = results["results"].as_array().unwrap();
    let found = all.iter().find(|one| {
        one["unique_id"]
            .as_str()
            .unwrap()
            .ends_with(&format!(".{name}"))
    });
    found.unwrap_or_else(|| panic!("no result of {name}: {results}"))
}

const TABLE: &str = "{{ config(materialized='table') }} select public.once() as one";

#[tokio::test]
async fn a_node_whose_connection_is_lost_is_tried_again_on_another() {
    let bench = with_model(TABLE).await;
    bench
        .sql(&fails_once(
            "perform pg_terminate_backend(pg_backend_pid())",
        ))
        .await;
    let (code, output) = bench.dbt("run --select one two").await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(bench.text("select last_value from public.calls").await, "2");
    assert_eq!(
        result(&bench.artifact("run_results.json"), "two")["status"],
        "success"
    );
}

#[tokio::test]
async fn a_node_that_met_a_conflict_is_tried_again_and_a_wrong_one_is_not() {
    let bench = with_model(TABLE).await;
    let conflict = "raise exception 'conflict' using errcode = '40001'";
    bench.sql(&fails_once(conflict)).await;
    let (code, output) = bench.dbt("run --select one").await;
    assert_eq!(code, 0, "{output}");
    bench.sql("alter sequence public.calls restart").await;
    let wrong = "raise exception 'wrong' using errcode = '22012'";
    bench.sql(&fails_once(wrong)).await;
    let (code, output) = bench.dbt("run --select one two").await;
    assert_eq!(
        (code, output.contains("wrong (SQLSTATE 22012)")),
        (1, true),
        "{output}"
    );
    assert_eq!(bench.text("select last_value from public.calls").await, "1");
    let results = bench.artifact("run_results.json");
    assert_eq!(result(&results, "one")["status"], "error");
    assert_eq!(result(&results, "two")["status"], "skipped");
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_in_time_is_an_error_with_its_name() {
    let hook = "{{ config(materialized='table', pre_hook=\"set local lock_timeout = '50ms'\") }}";
    let bench = with_model(&format!("{hook} select * from raw.orders")).await;
    let mut holder = bench.database.pool().begin().await.unwrap();
    sqlx::raw_sql("lock table raw.orders in access exclusive mode")
        .execute(&mut *holder)
        .await
        .unwrap();
    let (code, output) = bench.dbt("run --select one two").await;
    assert_eq!(
        (code, output.contains("lock timeout (SQLSTATE 55P03)")),
        (1, true),
        "{output}"
    );
    holder.rollback().await.unwrap();
    assert_eq!(
        result(&bench.artifact("run_results.json"), "two")["status"],
        "skipped"
    );
    assert_eq!(bench.dbt("run --select one two").await.0, 0);
}

/// On the node's own connection: nobody else sees the new relation before the hook has run.
#[tokio::test]
async fn a_post_hook_asks_the_relation_that_was_just_built() {
    let hook = "{{ config(materialized='table', post_hook=\"create table public.seen as select \
                {{ run_query('select count(*) from ' ~ this)[0][0] }} as rows, \
                {{ adapter.get_columns_in_relation(this) | length }} as columns\") }}";
    let bench = with_model(&format!(
        "{hook} select 1 as a, 2 as b union all select 3, 4"
    ))
    .await;
    let (code, output) = bench.dbt("run --select one").await;
    assert_eq!(code, 0, "{output}");
    let seen = "select rows || ' ' || columns from public.seen";
    assert_eq!(bench.text(seen).await, "2 2");
}

#[tokio::test]
async fn a_hook_that_fails_is_said_and_leaves_the_old_table() {
    let bench = with_model("{{ config(materialized='table') }} select 1 as one").await;
    assert_eq!(bench.dbt("run --select one").await.0, 0);
    let hook = "{{ config(materialized='table', post_hook='select no_such_thing') }}";
    bench.write("models/marts/one.sql", &format!("{hook} select 2 as one"));
    let (code, output) = bench.dbt("run --select one").await;
    assert_eq!(
        (code, output.contains("in the hook: select no_such_thing")),
        (1, true),
        "{output}"
    );
    assert_eq!(bench.text("select one from marts.one").await, "1");
    let project = std::fs::read_to_string(bench.folder.path().join("dbt_project.yml")).unwrap();
    bench.write(
        "dbt_project.yml",
        &format!("{project}\non-run-start: select no_such_hook\n"),
    );
    // dbt goes on after a hook that failed, unless the project says otherwise.
    let (code, output) = bench.dbt("run --select two").await;
    assert_eq!((code, output.contains("SKIP=0")), (1, true), "{output}");
    bench.write(
        "dbt_project.yml",
        &format!(
            "{project}\non-run-start: select no_such_hook\nflags: {{skip_nodes_if_on_run_start_fails: true}}\n"
        ),
    );
    let (code, output) = bench.dbt("run --select two").await;
    assert_eq!((code, output.contains("SKIP=1")), (1, true), "{output}");
    let results = bench.artifact("run_results.json");
    assert_eq!(result(&results, "two")["status"], "skipped");
}

#[tokio::test]
async fn a_cancelled_run_stops_on_the_server_and_writes_its_results() {
    let bench =
        with_model("{{ config(materialized='table') }} select 1 as one from pg_sleep(600)").await;
    let env = bench.env();
    let cancel = env.cancel.clone();
    let args = ["run", "--select", "one", "two"].map(str::to_owned);
    let running = tokio::spawn(async move { Box::pin(cli::run(&args, &env)).await });
    let asleep = "select count(*) from pg_stat_activity where datname = current_database() \
                  and state = 'active' and query like '%pg_sleep(600)%' and pid <> pg_backend_pid()";
    while bench.text(asleep).await != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cancel.cancel();
    let code = tokio::time::timeout(Duration::from_secs(120), running).await;
    assert_eq!(code.unwrap().unwrap(), 1);
    assert_eq!(bench.text(asleep).await, "0");
    let results = bench.artifact("run_results.json");
    assert_eq!(result(&results, "one")["status"], "error");
    assert_eq!(result(&results, "two")["status"], "skipped");
}

#[tokio::test]
async fn tests_of_a_relation_are_judged_one_by_one_even_if_one_cannot_be_asked() {
    let bench = with_model("select 1 as id, null::int as nothing union all select 1, 2").await;
    bench.write(
        "models/marts/one.yml",
        "models:\n  - name: one\n    columns:\n      - name: id\n        data_tests: [not_null, unique]\n      \
         - name: nothing\n        data_tests:\n          - not_null: {config: {severity: warn}}\n          \
         - unique: {config: {where: nothing is not null}}\n      - name: missing\n        data_tests: [not_null]\n",
    );
    let (code, output) = bench.dbt("build --select one").await;
    assert_eq!(code, 1, "{output}");
    let results = bench.artifact("run_results.json");
    let verdicts: Vec<(String, String, Json)> = results["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["unique_id"].as_str().unwrap().starts_with("test."))
        .map(|one| {
            let name = one["unique_id"]
                .as_str()
                .unwrap()
                .split('.')
                .nth(2)
                .unwrap();
            let status = one["status"].as_str().unwrap();
            (name.to_owned(), status.to_owned(), one["failures"].clone())
        })
        .collect();
    let verdict = |name: &str| {
        let found = verdicts.iter().find(|(test, _, _)| test == name);
        found
            .map(|(_, status, failures)| (status.as_str(), failures.clone()))
            .unwrap()
    };
    assert_eq!(verdict("not_null_one_id"), ("pass", 0.into()));
    assert_eq!(verdict("unique_one_id"), ("fail", 1.into()));
    assert_eq!(verdict("not_null_one_nothing"), ("warn", 1.into()));
    assert_eq!(verdict("unique_one_nothing"), ("pass", 0.into()));
    assert_eq!(verdict("not_null_one_missing").0, "error");
}

#[tokio::test]
async fn a_view_that_is_built_again_keeps_what_stands_on_it() {
    let bench = with_model("{{ config(materialized='view') }} select 1 as one").await;
    assert_eq!(bench.dbt("run --select one two").await.0, 0);
    bench
        .sql("create view public.stranger as select * from marts.one")
        .await;
    bench.write(
        "models/marts/one.sql",
        "{{ config(materialized='view') }} select 2 as one",
    );
    assert_eq!(bench.dbt("run --select one").await.0, 0);
    assert_eq!(bench.text("select one from public.stranger").await, "2");
    // Other columns are another view: it has to go, and with it what stood on it.
    bench.write(
        "models/marts/one.sql",
        "{{ config(materialized='view') }} select 'x' as other",
    );
    let (code, output) = bench.dbt("run --select one+").await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(bench.text("select other from marts.two").await, "x");
}
