//! Every corruption of `corruptions.yml`: the source takes it, a reader by cursor sees it and its
//! repair, and the dbt tests it names exist.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use ballpoint_seeds::corruptions::Corruptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{NOW, filled, read, text};

/// After these the source is sound, but not what it was: the fault left no trace of it.
const NOT_UNDONE: [&str; 2] = ["duplicate_batch", "no_cycle_time"];

async fn run(pool: &PgPool, sql: &str) -> u64 {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await;
    done.unwrap_or_else(|error| panic!("{error} in {sql}"))
        .rows_affected()
}

#[tokio::test]
async fn every_corruption_can_be_planted_seen_and_repaired() {
    let corruptions = Corruptions::parse(&read("corruptions.yml")).unwrap();
    for source in ["refills", "bodies", "springs"] {
        let database = filled(source, 2160, 42, NOW.parse().unwrap()).await;
        let pool = database.pool();
        let table = format!("public.{source}_production");
        let digest = format!(
            "select md5(string_agg((to_jsonb(p) - 'updated_at')::text, '' order by id)) from {table} as p"
        );
        let newest = format!("select max(updated_at) from {table}");
        let of_source = corruptions
            .corruptions
            .iter()
            .filter(|of| of.source == source);
        for corruption in of_source {
            let name = &corruption.name;
            let before = text(pool, &digest).await;
            for (step, sql) in [("plant", &corruption.plant), ("repair", &corruption.repair)] {
                let cursor = text(pool, &newest).await.unwrap();
                let digest_before = text(pool, &digest).await;
                let changed = run(pool, sql).await;
                assert!(changed > 0, "{name}: {step} changes nothing");
                assert_ne!(text(pool, &digest).await, digest_before, "{name}: {step}");
                let seen = format!("select count(*) from {table} where updated_at > '{cursor}'");
                assert_eq!(
                    text(pool, &seen).await,
                    Some(changed.to_string()),
                    "{name}: {step}"
                );
            }
            assert_eq!(
                run(pool, &corruption.repair).await,
                0,
                "{name}: the fault is still there"
            );
            if !NOT_UNDONE.contains(&name.as_str()) {
                assert_eq!(
                    text(pool, &digest).await,
                    before,
                    "{name}: repaired to something else"
                );
            }
        }
    }
}

#[test]
fn there_are_at_least_twenty_and_their_tests_exist() {
    let corruptions = Corruptions::parse(&read("corruptions.yml"))
        .unwrap()
        .corruptions;
    assert!(corruptions.len() >= 20);
    for source in ["refills", "bodies", "springs"] {
        let models = read(&format!(
            "../warehouse/models/staging/{source}/stg_{source}.yml"
        ));
        let named: BTreeSet<&str> = models
            .lines()
            .filter_map(|line| line.trim().strip_prefix("name: "))
            .collect();
        for corruption in corruptions.iter().filter(|of| of.source == source) {
            assert!(
                !corruption.fails.is_empty(),
                "{} fails nothing",
                corruption.name
            );
            for test in &corruption.fails {
                // dbt names a test without arguments after its kind, model and column.
                let default = ["not_null", "not_in_future"].iter().find_map(|kind| {
                    let column = test.strip_prefix(&format!("{kind}_stg_{source}_"))?;
                    models
                        .contains(&format!("- name: {column}\n"))
                        .then_some(())
                });
                assert!(
                    named.contains(test.as_str()) || default.is_some(),
                    "{} names {test}, which is no test of stg_{source}",
                    corruption.name
                );
            }
        }
    }
}
