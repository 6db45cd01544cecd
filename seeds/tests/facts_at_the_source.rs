//! Every fact of `answers.yml`, checked in real databases filled from the shipped parameters.
#![allow(clippy::unwrap_used)]

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_seeds::{
    FillError, Parameters,
    answers::{Answers, Context, Fact, Stage},
    fill,
};
use jiff::Timestamp;

use crate::support::{NOW, files, filled, read, text};

fn facts_of(source: &str, rows: u64, now: Timestamp) -> Vec<Fact> {
    let parameters = Parameters::parse(&files(source)).unwrap();
    let answers = Answers::parse(&read("answers.yml")).unwrap();
    let facts = answers.facts(&Context::new(&parameters, rows, now));
    facts
        .into_iter()
        .filter(|fact| fact.component == source)
        .collect()
}

async fn check(source: &str, rows: u64, seed: u64, now: &str) {
    let now: Timestamp = now.parse().unwrap();
    let database = filled(source, rows, seed, now).await;
    let mut wrong = Vec::new();
    let mut checked = 0;
    for fact in facts_of(source, rows, now) {
        let Some(of_source) = &fact.sql else { continue };
        let actual = text(database.pool(), &of_source.sql(Stage::Source)).await;
        if let Err(message) = of_source.expect.check(actual.as_deref()) {
            wrong.push(format!("{}: {}: {message}", fact.id, fact.statement));
        }
        checked += 1;
    }
    assert!(checked >= 25, "only {checked} facts about {source}");
    assert!(
        wrong.is_empty(),
        "{source}, seed {seed}, {rows} rows:\n{}",
        wrong.join("\n")
    );
}

#[tokio::test]
async fn every_fact_holds_under_every_seed_and_scale() {
    for source in ["refills", "bodies", "springs"] {
        for seed in [1, 7, 42] {
            for rows in [2160, 8640] {
                check(source, rows, seed, NOW).await;
            }
        }
    }
}

#[tokio::test]
async fn every_fact_holds_at_another_time_and_an_uneven_count() {
    for source in ["refills", "bodies", "springs"] {
        check(source, 3_000, 99, "2026-07-05T23:59:59Z").await;
        check(source, 2_160, 3, "2027-01-01T00:00:00Z").await;
    }
}

#[tokio::test]
async fn filling_a_table_that_holds_rows_is_refused_and_changes_nothing() {
    let database = filled("refills", 2160, 1, NOW.parse().unwrap()).await;
    let digest = "select md5(string_agg(p::text, '' order by id)) from refills_production as p";
    let before = text(database.pool(), digest).await;
    let mut connection = database.pool().acquire().await.unwrap();
    let again = fill(
        &mut connection,
        &files("refills"),
        10,
        1,
        NOW.parse().unwrap(),
    )
    .await;
    let error = again.unwrap_err();
    assert!(matches!(error, FillError::NotEmpty { .. }));
    assert_eq!(
        error.to_string(),
        "public.refills_production holds rows already; seeding only fills an empty table"
    );
    assert_eq!(text(database.pool(), digest).await, before);
}

#[tokio::test]
async fn the_next_row_of_the_source_gets_the_next_id() {
    let database = filled("springs", 350, 1, NOW.parse().unwrap()).await;
    let insert = "insert into springs_production (quality_status) values ('ok') returning id";
    let id: i64 = sqlx::query_scalar(insert)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(id, 351);
}

#[tokio::test]
async fn a_failed_schema_leaves_nothing_behind() {
    let database = TestDatabase::create().await;
    let mut connection = database.pool().acquire().await.unwrap();
    let mut broken = files("bodies");
    broken
        .schema_sql
        .push_str("create table bodies_production (wrong int);");
    let error = fill(&mut connection, &broken, 10, 1, NOW.parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "seeds/bodies/schema.sql failed");
    let table = text(
        database.pool(),
        "select to_regclass('public.bodies_production')",
    )
    .await;
    assert_eq!(table, None);
}

#[tokio::test]
async fn the_schema_describes_every_column_and_indexes_the_cursor() {
    for source in ["refills", "bodies", "springs"] {
        let database = filled(source, 0, 1, NOW.parse().unwrap()).await;
        let table = format!("'public.{source}_production'::regclass");
        let undescribed = format!(
            "select string_agg(attname, ' ') from pg_attribute where attrelid = {table} \
             and attnum > 0 and col_description(attrelid, attnum) is null"
        );
        assert_eq!(text(database.pool(), &undescribed).await, None);
        let columns = format!(
            "select string_agg(attname, ' ' order by attnum) from pg_attribute \
             where attrelid = {table} and attnum > 0"
        );
        let mut in_table: Vec<String> = text(database.pool(), &columns)
            .await
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect();
        let parameters = Parameters::parse(&files(source)).unwrap();
        let mut generated: Vec<String> = parameters.columns().map(str::to_owned).collect();
        in_table.sort();
        generated.sort();
        assert_eq!(in_table, generated);
        let index = format!(
            "select count(*) from pg_indexes where tablename = '{source}_production' \
             and indexdef like '%(updated_at)'"
        );
        assert_eq!(text(database.pool(), &index).await.as_deref(), Some("1"));
    }
}
