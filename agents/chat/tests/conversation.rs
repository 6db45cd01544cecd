//! Conversations over the shipped data model on a real PostgreSQL: answers whose rows are their
//! query's, follow-ups that survive restarts, and the public benchmark by execution.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use ballpoint_analyst::eval::case::Score;
use ballpoint_analyst::eval::{Summary, evaluate, read_cases};
use ballpoint_analyst::{Analyst, AnalystArgs, AnalystHandle, Answer, Behaviour};
use ballpoint_chat::{Chat, ChatArgs, ChatHandle};
use ballpoint_metrics::query::Query;
use ballpoint_metrics::{MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, registry};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};

/// One unit an hour and component over 90 days, with a pattern that tells rows apart.
const MARTS: &str = include_str!("marts.sql");

struct Stack {
    store: Store,
    tree: TreeHandle,
    chat: ChatHandle,
    metrics: MetricRegistryHandle,
    _database: TestDatabase,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Stack {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        sqlx::raw_sql(MARTS).execute(database.pool()).await.unwrap();
        let store = Store::open(database.pool().clone()).await.unwrap();
        let clock = Clock::starting_at("2026-03-31T10:00:00Z".parse().unwrap());
        let scope = Scope::unique();
        let (metrics, analyst) = (
            MetricRegistryHandle::new(&scope),
            AnalystHandle::new(&scope),
        );
        let registry_args = MetricRegistryArgs::new(
            repository().join("warehouse/metrics"),
            database.pool().clone(),
            Some(store.clone()),
            clock.clone(),
        );
        let analyst_args = AnalystArgs {
            metrics: metrics.clone(),
            store: store.clone(),
            clock,
        };
        let chat_args = ChatArgs {
            analyst,
            store: store.clone(),
        };
        let root = SupervisorSpec::new("root", Strategy::OneForOne)
            .child(ActorSpec::new(registry::NAME, MetricRegistry, move || {
                registry_args.clone()
            }))
            .child(ActorSpec::new(Analyst::NAME, Analyst, move || {
                analyst_args.clone()
            }))
            .child(ActorSpec::new(Chat::NAME, Chat, move || chat_args.clone()));
        let tree = Tree::start(scope.clone(), root, None).await.unwrap();
        let chat = ChatHandle::new(&scope);
        let stack = Self {
            store,
            tree,
            chat,
            metrics,
            _database: database,
        };
        stack.surveyed().await;
        stack
    }

    async fn surveyed(&self) {
        for _ in 0..400 {
            if self
                .metrics
                .describe()
                .await
                .is_ok_and(|it| it.data_version > 0)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the data was not surveyed");
    }

    async fn ask(&self, question: &str, conversation: &str) -> Answer {
        self.chat
            .ask(question, Some(conversation.to_owned()))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn an_answer_has_its_query_rows_text_chart_and_a_kept_proof() {
    let stack = Stack::start().await;
    let answer = stack.ask("pass rate by component last week", "c1").await;
    assert_eq!(answer.behaviour, Behaviour::Answer, "{}", answer.answer);
    assert_eq!(answer.conversation_id, "c1");
    assert_eq!(answer.rows.len(), 3);
    assert!(answer.sql.unwrap().to_lowercase().contains("select"));
    assert_eq!(answer.chart.unwrap().kind, "bar");
    let rerun = stack.metrics.query(&answer.query.unwrap()).await.unwrap();
    assert_eq!(answer.rows, rerun.rows);
    let proof = stack
        .store
        .proofs()
        .get(&answer.proof_id.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(proof["checksum"], rerun.checksum);
    assert_eq!(proof["definition"][0]["member"], "Production.passRate");
}

#[tokio::test]
async fn a_conversation_goes_on_after_its_agents_were_restarted() {
    let stack = Stack::start().await;
    stack.ask("pass rate of refills yesterday", "c2").await;
    stack.tree.restart(Chat::NAME).await.unwrap();
    stack.tree.restart(Analyst::NAME).await.unwrap();
    let answer = stack.ask("bodies?", "c2").await;
    let query = serde_json::to_string(&answer.query.unwrap()).unwrap();
    assert!(
        query.contains("bodies") && query.contains("2026-03-30"),
        "{query}"
    );
}

#[tokio::test]
async fn no_question_fails_while_the_agents_are_restarted() {
    let stack = Stack::start().await;
    let questions = (0..40).map(|n| {
        let chat = stack.chat.clone();
        tokio::spawn(async move { chat.ask("OEE by shift", Some(format!("r{}", n % 5))).await })
    });
    let questions: Vec<_> = questions.collect();
    for _ in 0..3 {
        stack.tree.restart(Chat::NAME).await.unwrap();
        stack.tree.restart(Analyst::NAME).await.unwrap();
    }
    for question in questions {
        let answer = question.await.unwrap();
        assert_eq!(answer.unwrap().rows.len(), 3);
    }
}

#[tokio::test]
async fn a_clarification_is_answered_by_its_choice() {
    let stack = Stack::start().await;
    let asked = stack.ask("compare line 1 and line 2", "c3").await;
    assert_eq!(asked.behaviour, Behaviour::Clarify);
    let labels: Vec<&str> = asked.options.iter().map(|it| it.label.as_str()).collect();
    let springs = labels.iter().find(|it| it.contains("SPRINGS")).unwrap();
    let answer = stack.ask(springs, "c3").await;
    assert_eq!(answer.rows.len(), 2, "{}", answer.answer);
}

#[tokio::test]
async fn the_public_benchmark_holds_by_execution() {
    let stack = Stack::start().await;
    let file = repository().join("tests/golden/questions/questions.jsonl");
    let cases = read_cases(&std::fs::read_to_string(file).unwrap()).unwrap();
    let ask = async |question: String, conversation: Option<String>| {
        stack
            .chat
            .ask(question, conversation)
            .await
            .map_err(|error| error.to_string())
    };
    let run = async |query: Query| {
        let result = stack
            .metrics
            .query(&query)
            .await
            .map_err(|error| error.to_string())?;
        Ok(result.rows)
    };
    let mut reports = Vec::new();
    for case in &cases {
        reports.push(evaluate(case, &ask, &run).await);
    }
    for report in reports.iter().filter(|it| it.points < 1) {
        println!(
            "{} {:?} {}: {} [{}]",
            report.id, report.outcome, report.question, report.detail, report.answer
        );
    }
    let summary = Summary::of(&reports);
    assert!(
        reports.iter().all(|it| it.outcome != Score::Wrong),
        "{summary:?}"
    );
    println!("{summary:?}");
    assert!(summary.right >= 80, "{summary:?}");
}
