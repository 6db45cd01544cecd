//! What readers keep while relations are replaced, and what a build sees of itself.
#![allow(clippy::unwrap_used)]

use ballpoint_transformer::publish::{BuildStatus, Changed};

use crate::publish::{build, nothing, orders};
use crate::support::Workbench;

const STG: &str = "{{ config(materialized='table') }} select * from {{ source('app', 'orders') }}";

/// Asks the database about what stands below it, while it is rendered.
const PIVOT: &str = "{{ config(materialized='table') }}
    {% set found = run_query('select distinct country from ' ~ ref('inc') ~ ' order by 1') %}
    select {% for row in found %}count(*) filter (where country = '{{ row[0] }}') as {{ row[0] }},{% endfor %}
        count(*) as orders
    from {{ ref('inc') }}";

const INC: &str = "{{ config(materialized='incremental', unique_key='id',
        on_schema_change='append_new_columns') }}
    select * from {{ ref('stg') }}";

/// Who may not read `inc` while the build goes on.
const LOCKED: &str = "{{ config(materialized='table') }}
    -- depends_on: {{ ref('pivot') }}
    select count(*) as held from pg_locks
    where relation = to_regclass('analytics.inc') and mode = 'AccessExclusiveLock'";

#[tokio::test]
async fn a_template_asks_what_the_build_has_made_and_an_altered_table_can_be_read_meanwhile() {
    let starry = "{{ config(materialized='table') }} select {% for column in \
         adapter.get_columns_in_relation(ref('stg')) %}{{ column.name }}{{ ', ' if not loop.last }}\
         {% endfor %}, '{{ ref('stg') }}' as told, '{{ this.name }}' as me from {{ ref('stg') }}";
    let models = [
        ("stg.sql", STG),
        ("inc.sql", INC),
        ("pivot.sql", PIVOT),
        ("locked.sql", LOCKED),
        ("starry.sql", starry),
    ];
    let bench = Workbench::only(&models).await;
    let outcome = build(&bench, &bench.load(), Changed::Everything).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    let starry = "select count(country) || min(told) || min(me) from analytics.starry";
    let database = bench.text("select current_database()").await;
    let told = format!("3\"{database}\".\"analytics\".\"stg\"starry");
    assert_eq!(bench.text(starry).await, told);
    bench
        .sql(
            "grant select on analytics.inc to public; comment on table analytics.inc is 'ours';
             create index known on analytics.inc (country);
             alter table raw.orders add column colour text default 'red';
             insert into raw.orders values (4, 'it', 100, '2026-01-02', now(), 'blue');",
        )
        .await;
    let outcome = build(&bench, &bench.load(), orders()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    let seen = "select concat_ws(' ', de, fr, it, orders) from analytics.pivot";
    assert_eq!(bench.text(seen).await, "2 1 1 4");
    assert_eq!(bench.text("select held from analytics.locked").await, "0");
    let kept = "select concat_ws(' ', count(colour), obj_description('analytics.inc'::regclass),
            (select relacl::text ~ '[{,]=r/' from pg_class where oid = 'analytics.inc'::regclass),
            (select count(*) from pg_index where indrelid = 'analytics.inc'::regclass))
        from analytics.inc";
    assert_eq!(bench.text(kept).await, "4 ours t 1");
}

#[tokio::test]
async fn views_of_others_and_views_that_wait_stand_on_what_is_rebuilt() {
    let view = "select id, cents from {{ ref('stg') }}";
    let bench = Workbench::only(&[("stg.sql", STG), ("mart.sql", view)]).await;
    build(&bench, &bench.load(), Changed::Everything).await;
    bench
        .sql(
            "create schema bi;
             create view bi.dash with (security_barrier) as
                 select s.country, m.id from analytics.stg s join analytics.mart m using (id);
             comment on view bi.dash is 'theirs'; grant select on bi.dash to public;
             alter table analytics.stg add primary key (id);
             create table bi.child (id int references analytics.stg);",
        )
        .await;
    // The view waits from now on; what it stands on is built anew.
    let waits = "select id, cents from {{ ref('stg') }} -- {{ source('app', 'not_landed') }}";
    bench.write("models/mart.sql", waits);
    bench.write("models/stg.sql", &format!("{STG} where id > 1"));
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(bench.text("select count(*) from analytics.mart").await, "2");
    let dash = "select concat_ws(' ', (select count(*) from bi.dash), obj_description(oid),
            relacl::text ~ '[{,]=r/', reloptions) from pg_class where oid = 'bi.dash'::regclass";
    let kept = "2 theirs t {security_barrier=true}";
    assert_eq!(bench.text(dash).await, kept);

    // A view that does not fit any more keeps everybody's numbers as they are.
    let fewer =
        "{{ config(materialized='table') }} select id, cents from {{ source('app', 'orders') }}";
    bench.write("models/stg.sql", fewer);
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    let message = &outcome.failed[0].message;
    assert!(message.contains("the view bi.dash reads it"), "{message}");
    assert!(message.contains("country"), "{message}");
    assert_eq!(bench.text(dash).await, kept);

    // Unless it is what a model left behind that is there no more.
    bench.sql("drop view bi.dash").await;
    std::fs::remove_file(bench.folder.path().join("models/mart.sql")).unwrap();
    bench.write("models/stg.sql", &fewer.replace("id, cents", "id"));
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    let left = "select to_regclass('analytics.mart') is null";
    assert_eq!(bench.text(left).await, "true");
}

#[tokio::test]
async fn a_model_that_reads_what_is_replaced_by_its_name_is_told_so() {
    let by_name = "select id from analytics.stg -- {{ ref('stg') }}";
    let bench = Workbench::only(&[("stg.sql", STG)]).await;
    build(&bench, &bench.load(), Changed::Everything).await;
    bench.write("models/named.sql", by_name);
    bench.write("models/stg.sql", &format!("{STG} where id > 1"));
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Failed);
    let message = &outcome.failed[0].message;
    assert!(message.contains("let its model say ref()"), "{message}");
    assert_eq!(bench.text("select count(*) from analytics.stg").await, "3");
}

#[tokio::test]
async fn models_that_stand_on_each_other_the_other_way_round_are_swapped() {
    let on_source = "select id from {{ source('app', 'orders') }}";
    let on = |other: &str| format!("select id from {{{{ ref('{other}') }}}}");
    let bench = Workbench::only(&[("one.sql", on_source), ("two.sql", &on("one"))]).await;
    build(&bench, &bench.load(), Changed::Everything).await;
    // Both have a reader beside each other.
    bench
        .sql(
            "create view public.both as select id from analytics.one join analytics.two using (id)",
        )
        .await;
    bench.write("models/one.sql", &on("two"));
    bench.write("models/two.sql", on_source);
    let outcome = build(&bench, &bench.load(), nothing()).await;
    assert_eq!(outcome.status, BuildStatus::Published, "{outcome:?}");
    assert_eq!(bench.text("select count(*) from public.both").await, "3");
}
