//! What an edit of a project does to what is published, and the hooks of a build.
#![allow(clippy::unwrap_used)]

use ballpoint_runtime::segment::TableName;
use ballpoint_transformer::publish::{BuildStatus, Changed, PublishOptions, publish};

use crate::publish::{build, nothing, orders};
use crate::support::Workbench;

#[tokio::test]
async fn an_edit_adds_to_an_incremental_model_and_only_a_full_refresh_starts_over() {
    let model = |name: &str, config: &str| {
        let text = format!(
            "{{{{ config(materialized='incremental', unique_key='id'{config}) }}}}
             select id, country from {{{{ source('app', 'orders') }}}}"
        );
        (format!("{name}.sql"), text)
    };
    let kept = model("kept", ", full_refresh=false");
    let free = model("free", "");
    let bench = Workbench::only(&[(&kept.0, &kept.1), (&free.0, &free.1)]).await;
    build(&bench, &bench.load(), Changed::Everything).await;
    bench.sql("delete from raw.orders where id = 1").await;
    for (file, text) in [&kept, &free] {
        bench.write(&format!("models/{file}"), &format!("{text} -- edited"));
    }
    let held = "select concat_ws(' ', (select count(*) from analytics.kept),
        (select count(*) from analytics.free))";
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.relations.len(), 2, "{outcome:?}");
    assert_eq!(bench.text(held).await, "3 3");
    let full = PublishOptions {
        full_refresh: true,
        ..PublishOptions::new(nothing())
    };
    publish(&bench.load(), bench.database.pool(), &full)
        .await
        .unwrap();
    assert_eq!(bench.text(held).await, "3 2");
}

const CONTRACTED: &str = "models:
  - name: signed
    description: DESCRIPTION
    config: {contract: {enforced: true}, persist_docs: {relation: true}}
    columns:
      - {name: id, data_type: TYPE, constraints: [{type: not_null}]}
  - name: below
    columns:
      - {name: id, data_tests: [TESTS]}";

#[tokio::test]
async fn what_properties_declare_is_published_and_a_new_test_judges_what_is_there() {
    let properties = |description: &str, data_type: &str, tests: &str| {
        let text = CONTRACTED.replace("DESCRIPTION", description);
        text.replace("TYPE", data_type).replace("TESTS", tests)
    };
    let first = properties("old", "int", "not_null");
    let models = [
        (
            "signed.sql",
            "{{ config(materialized='table') }} select id{{ var('cast', '') }} from {{ source('app', 'orders') }}",
        ),
        (
            "below.sql",
            "{{ config(materialized='table') }} select id::int as id from {{ ref('signed') }}",
        ),
        ("properties.yml", &first),
    ];
    let bench = Workbench::only(&models).await;
    build(&bench, &bench.load(), Changed::Everything).await;
    let again = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(again.status, BuildStatus::Unchanged, "{again:?}");

    bench.write(
        "models/properties.yml",
        &properties("new", "int", "not_null"),
    );
    let outcome = build(&bench, &bench.load(), nothing()).await;
    let told = "select obj_description('analytics.signed'::regclass)";
    assert_eq!(bench.text(told).await, "new");
    assert_eq!(outcome.relations.len(), 2, "{outcome:?}");

    // The query gives no bigint: a contract that is not kept is not published.
    bench.write(
        "models/properties.yml",
        &properties("new", "bigint", "not_null"),
    );
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    assert_eq!(outcome.failed[0].name, "signed");

    let tests = "not_null, {accepted_values: {arguments: {values: [1, 2], quote: false}}}";
    bench.write("models/properties.yml", &properties("new", "int", tests));
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Failed, "{outcome:?}");
    assert_eq!(outcome.failed[0].failures, Some(1));
    let passes = tests.replace("[1, 2]", "[1, 2, 3]");
    bench.write("models/properties.yml", &properties("new", "int", &passes));
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!((outcome.relations.len(), outcome.tests_passed), (0, 1));
    let again = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(again.status, BuildStatus::Unchanged, "{again:?}");
}

const HOOKED: &str = "{{ config(materialized='table',
        pre_hook=\"insert into public.log select 'pre ' || coalesce(to_regclass('{{ this }}')::text, '-')\",
        post_hook=[\"insert into public.log select '{{ this }} ' || count(*) from {{ this }}; commit;\",
            {'sql': \"insert into public.log values ('after {{ this.name }}')\", 'transaction': false}]) }}
    select * from {{ source('app', 'orders') }}";

const HOOKS: &str = "
on-run-start:
  - create table if not exists public.log (said text)
  - insert into public.log values ('start')
on-run-end:
  - insert into public.log values ('{{ results | length }} in {{ schemas | join }}')
seeds:
  +post-hook: insert into public.log values ('{{ this.name }}')
  +grants: {select: [public]}
  +persist_docs: {relation: true}
";

#[tokio::test]
async fn hooks_of_a_build_run_once_and_under_the_names_that_readers_will_see() {
    let bench = Workbench::only(&[("hooked.sql", HOOKED)]).await;
    bench.write("seeds/colours.csv", "name\nred\n");
    bench.write(
        "seeds/colours.yml",
        "seeds: [{name: colours, description: Inks.}]",
    );
    let file = bench.folder.path().join("dbt_project.yml");
    let project = std::fs::read_to_string(&file).unwrap();
    bench.write("dbt_project.yml", &format!("{project}{HOOKS}"));
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    let log = "select string_agg(said, ', ' order by said collate \"C\") from public.log";
    let database = bench.text("select current_database()").await;
    let hooked = |rows: u32| format!("\"{database}\".\"analytics\".\"hooked\" {rows}");
    let first = format!(
        "{}, 2 in analytics, after hooked, colours, pre -, start",
        hooked(3)
    );
    assert_eq!(bench.text(log).await, first);
    let seed = "select concat_ws(' ', obj_description(oid), relacl::text ~ '[{,]=r/') from pg_class
        where oid = 'analytics.colours'::regclass";
    assert_eq!(bench.text(seed).await, "Inks. t");

    // Filled again in place, until it is seen that its columns are others.
    let changed = "truncate public.log; alter table raw.orders add colour text";
    bench.sql(changed).await;
    let outcome = build(&bench, &bench.load(), orders()).await;
    assert_eq!(outcome.relations, [TableName::new("analytics", "hooked")]);
    let second = format!(
        "{}, 1 in analytics, after hooked, pre analytics.hooked, start",
        hooked(3)
    );
    assert_eq!(bench.text(log).await, second);

    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Unchanged);
    assert_eq!(bench.text(log).await, second);

    // Nothing but the build ends its transaction.
    bench.write(
        "models/hooked.sql",
        &HOOKED.replace("; commit;", "; rollback;"),
    );
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    let message = &outcome.failed[0].message;
    assert!(
        message.contains("rollback") && message.contains("in the hook"),
        "{message}"
    );
    assert_eq!(bench.text(log).await, second);
    let hooks = format!("{project}{}", HOOKS.replace("'start'", "no_such_column"));
    bench.write("dbt_project.yml", &hooks);
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.failed.len(), 1, "{outcome:?}");
    assert!(outcome.reason().contains("no_such_column"), "{outcome:?}");
}

#[tokio::test]
async fn a_model_finds_what_its_template_made_and_leaves_nothing_to_others() {
    let models = [
        (
            "a_marked.sql",
            "{{ config(materialized='table') }}
             {% do run_query('create temporary table made as select 7 as n') %}
             {% do run_query(\"set application_name to 'marked'\") %}
             select n, current_setting('application_name') as name from made",
        ),
        (
            "b_clean.sql",
            "{{ config(materialized='table') }}
             select current_setting('application_name') <> 'marked' as clean",
        ),
    ];
    let bench = Workbench::only(&models).await;
    let (code, output) = bench.dbt("run --threads 1").await;
    assert_eq!(code, 0, "{output}");
    let marked = "select n || name from analytics.a_marked";
    assert_eq!(bench.text(marked).await, "7marked");
    assert_eq!(
        bench.text("select clean from analytics.b_clean").await,
        "true"
    );
}
