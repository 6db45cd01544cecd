//! An empty data dir to proved numbers: every fact of `seeds/answers.yml`, at every stage.

use ballpoint_seeds::answers::{Answers, Context, Stage};
use ballpoint_seeds::{Parameters, SeedFiles};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Folder, NOW, Stack, ballpoint, finish};

const SOURCES: [&str; 3] = ["refills", "bodies", "springs"];

#[tokio::test]
async fn numbers_equal_plain_sql_on_the_sources_under_any_seed() {
    for seed in ["42", "7"] {
        let folder = Folder::new();
        let stack = Stack::launch(&folder.path().join("data"), |command| {
            command.args(["--seed", seed]);
        });
        stack.until_ready().await;
        for source in SOURCES {
            let (count, ok, material) = source_totals(&stack.pool(source).await, source).await;
            let rows = stack
                .load(json!({
                    "measures": ["Production.count", "Production.passedUnits", "Production.totalMaterialCost"],
                    "filters": [{"member": "Production.componentType", "operator": "equals", "values": [source]}],
                }))
                .await;
            let at = format!("seed {seed}, {source}");
            assert_eq!(number(&rows[0]["Production.count"]), count, "{at}");
            assert_eq!(number(&rows[0]["Production.passedUnits"]), ok, "{at}");
            assert_eq!(
                number(&rows[0]["Production.totalMaterialCost"]),
                material,
                "{at}"
            );

            let answer = stack.ask(&format!("how many {source} were made?")).await;
            assert_eq!(answer["behaviour"], "answer", "{answer}");
            let cell = answer["rows"][0]
                .as_object()
                .unwrap()
                .values()
                .next()
                .unwrap();
            assert_eq!(number(cell), count, "{at}: {answer}");
        }
    }
}

#[tokio::test]
async fn every_planted_fact_holds_from_source_to_answer() {
    let stack = Stack::start().await;
    let warehouse = stack.pool("warehouse").await;
    let answers = Answers::parse(include_str!("../seeds/answers.yml")).unwrap();
    let parameters = Parameters::parse(&SeedFiles {
        directory: "seeds/refills".to_owned(),
        schema_sql: include_str!("../seeds/refills/schema.sql").to_owned(),
        generator_yml: include_str!("../seeds/refills/generator.yml").to_owned(),
    })
    .unwrap();
    let mut checked = 0;
    for fact in answers.facts(&Context::new(&parameters, 2160, NOW.parse().unwrap())) {
        if let Some(check) = &fact.sql {
            let source = stack.pool(&fact.component).await;
            for (stage, pool) in [
                (Stage::Source, &source),
                (Stage::Raw, &warehouse),
                (Stage::Marts, &warehouse),
            ] {
                let sql = format!("select q.v::text from ({}) as q (v)", check.sql(stage));
                let value: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                    .fetch_one(pool)
                    .await
                    .unwrap();
                if let Err(error) = check.expect.check(value.as_deref()) {
                    panic!(
                        "{} of {} at {stage:?}: {}: {error}",
                        fact.id, fact.component, fact.statement
                    );
                }
                checked += 1;
            }
            source.close().await;
        }
        if let Some(cube) = &fact.cube {
            let rows = stack.load(cube.query.clone()).await;
            for (member, expectation) in &cube.expect {
                let text = match &rows[0][member] {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                };
                if let Err(error) = expectation.check(text.as_deref()) {
                    panic!(
                        "{} of {} as {member}: {}: {error}",
                        fact.id, fact.component, fact.statement
                    );
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "{checked} checks");
}

async fn source_totals(pool: &PgPool, source: &str) -> (f64, f64, f64) {
    let sql = format!(
        "select count(*)::float8, count(*) filter (where quality_status = 'ok')::float8,
                sum(material_cost_per_unit)::float8
         from public.{source}_production"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .fetch_one(pool)
        .await
        .unwrap()
}

/// Cube sends numbers as text or as numbers.
fn number(value: &Value) -> f64 {
    let parsed = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    parsed.unwrap_or_else(|| panic!("not a number: {value}"))
}

#[tokio::test]
async fn raw_and_fact_hold_exactly_the_rows_of_the_sources() {
    let stack = Stack::start().await;
    let warehouse = stack.pool("warehouse").await;
    for source in SOURCES {
        let own = stack.pool(source).await;
        let columns: String = sqlx::query_scalar(AssertSqlSafe(format!(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
             where attrelid = 'public.{source}_production'::regclass and attnum > 0 and not attisdropped"
        )))
        .fetch_one(&own)
        .await
        .unwrap();
        let hash = |table: &str| {
            format!(
                "select count(*), sum(hashtextextended(row({columns})::text, 0)::numeric)::text from {table}"
            )
        };
        let at_source: (i64, String) =
            sqlx::query_as(AssertSqlSafe(hash(&format!("public.{source}_production"))))
                .fetch_one(&own)
                .await
                .unwrap();
        let in_raw: (i64, String) =
            sqlx::query_as(AssertSqlSafe(hash(&format!("raw.{source}_production"))))
                .fetch_one(&warehouse)
                .await
                .unwrap();
        assert_eq!(at_source, in_raw, "{source}");
        let in_fact: i64 = sqlx::query_scalar(
            "select count(*) from marts.fct_production where component_type = $1",
        )
        .bind(source)
        .fetch_one(&warehouse)
        .await
        .unwrap();
        assert_eq!(at_source.0, in_fact, "{source}");
    }
}

#[test]
fn one_pass_without_a_server_answers_from_the_shell() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let (code, _, stderr) = finish(ballpoint(&data_dir).args(["run", "--now", NOW]));
    assert_eq!(code, 0, "{stderr}");
    let query = r#"{"measures":["Production.count"]}"#;
    let (code, stdout, stderr) =
        finish(ballpoint(&data_dir).args(["query", "--json", "--now", NOW, query]));
    assert_eq!(code, 0, "{stderr}");
    let body: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(number(&body["data"][0]["Production.count"]), 6480.0);
    let (code, stdout, stderr) = finish(ballpoint(&data_dir).args([
        "ask",
        "--json",
        "--now",
        NOW,
        "pass rate by component",
    ]));
    assert_eq!(code, 0, "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["behaviour"], "answer");
    assert_eq!(answer["rows"].as_array().unwrap().len(), 3);

    // Nothing new: nothing is loaded and nothing is built.
    let (code, stdout, stderr) = finish(ballpoint(&data_dir).args(["run", "--json", "--now", NOW]));
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["rows_loaded"], 0, "{report}");
    assert_eq!(report["build"]["built"], 0, "{report}");
}
