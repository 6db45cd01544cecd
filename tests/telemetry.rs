//! One trace from a source's change to the queryable metric, one from a question to its answer, as
//! a collector receives them.

use serde_json::json;

use crate::freshness::INSERT_ONE;
use crate::support::collector::Collector;
use crate::support::{Folder, PATIENCE, Stack, until};

#[tokio::test]
async fn traces_run_from_a_sources_change_to_the_metric_and_from_question_to_answer() {
    let collector = Collector::start().await;
    let folder = Folder::new();
    let stack = Stack::launch(&folder.path().join("data"), |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    });
    stack.until_ready().await;
    let source = stack.pool("springs").await;
    let count = json!({"measures": ["Production.count"]});
    let before = stack.load(count.clone()).await;
    let seen = collector.spans().len();
    sqlx::query(INSERT_ONE).execute(&source).await.unwrap();
    until("the row is counted", PATIENCE, || async {
        (stack.load(count.clone()).await != before).then_some(())
    })
    .await;

    let chain = until(
        "a refresh's chain reaches the source's change",
        PATIENCE,
        || async {
            let refreshes = collector
                .spans()
                .into_iter()
                .skip(seen)
                .filter(|s| s.name == "refresh_metrics");
            let chains = refreshes.map(|span| collector.ancestry(&span));
            chains
                .into_iter()
                .find(|chain| chain.last().is_some_and(|root| root == "source.changed"))
        },
    )
    .await;
    let order: Vec<_> = ["refresh_metrics", "build", "sync springs", "source.changed"]
        .iter()
        .map(|name| chain.iter().position(|n| n == name))
        .collect();
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{chain:?}"
    );

    let answer = stack.ask("pass rate by component").await;
    let trace_id = answer["trace_id"].as_str().unwrap().to_owned();
    let chain = until(
        "the question's chain reaches its request",
        PATIENCE,
        || async {
            let spans = collector.spans();
            let query = spans
                .iter()
                .find(|s| s.trace_id == trace_id && s.name == "metrics_query")?;
            let chain = collector.ancestry(query);
            chain
                .last()
                .is_some_and(|root| root.starts_with("POST /api/ask"))
                .then_some(chain)
        },
    )
    .await;
    for name in ["invoke_agent chat", "invoke_agent analyst"] {
        assert!(
            chain.iter().any(|n| n == name),
            "{name} is missing: {chain:?}"
        );
    }
    says_what_the_agents_did(&collector, &trace_id, "pass rate by component").await;
}

/// Spans by OpenTelemetry's conventions for generative AI, without the content of the question.
async fn says_what_the_agents_did(collector: &Collector, trace_id: &str, question: &str) {
    let expected = [
        ("invoke_agent chat", "gen_ai.agent.name", "chat"),
        ("invoke_agent analyst", "gen_ai.agent.name", "analyst"),
        ("plan", "gen_ai.operation.name", "plan"),
        ("plan", "gen_ai.provider.name", "ballpoint.local"),
        (
            "execute_tool query_metrics",
            "gen_ai.tool.name",
            "query_metrics",
        ),
        (
            "execute_tool query_metrics",
            "gen_ai.operation.name",
            "execute_tool",
        ),
    ];
    let own = || {
        collector
            .spans()
            .into_iter()
            .filter(|it| it.trace_id == trace_id)
    };
    until("the spans of the agents arrive", PATIENCE, || async {
        let named = |name: &str| own().any(|it| it.name == name);
        expected
            .iter()
            .all(|(name, _, _)| named(name))
            .then_some(())
    })
    .await;
    for (name, key, value) in expected {
        let said =
            own().any(|it| it.name == name && it.attributes.get(key).is_some_and(|v| v == value));
        assert!(said, "{name} has no {key} = {value}");
    }
    let talks = own().find(|it| it.attributes.values().any(|text| text.contains(question)));
    assert!(talks.is_none(), "content is captured: {talks:?}");
}
