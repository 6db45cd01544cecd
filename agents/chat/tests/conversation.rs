//! Conversations over the shipped data model on a real PostgreSQL: answers whose rows are their
//! query's, follow-ups that survive restarts, and the public benchmark by execution.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use ballpoint_analyst::eval::case::Score;
use ballpoint_analyst::eval::{Summary, evaluate, read_cases};
use ballpoint_analyst::{Analyst, AnalystArgs, AnalystHandle, Answer, Behaviour};
use ballpoint_chat::{
    Chat, ChatArgs, ChatError, ChatHandle, Message, StepState, TurnPart, history,
};
use ballpoint_metrics::query::Query;
use ballpoint_metrics::{MetricRegistry, MetricRegistryArgs, MetricRegistryHandle, registry};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::store::Store;
use ballpoint_runtime::supervision::{
    ActorSpec, Scope, Strategy, SupervisorSpec, Tree, TreeHandle,
};
use tokio::sync::mpsc;

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
            model: None,
            verified: Default::default(),
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
        for _ in 0..2400 {
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

/// Everything a turn told, and its answer.
async fn told(chat: &ChatHandle, question: &str, conversation: &str) -> (Vec<TurnPart>, Answer) {
    let (sender, mut receiver) = mpsc::channel(64);
    let answer = chat
        .ask_with_progress(question, Some(conversation.to_owned()), sender)
        .await
        .unwrap();
    let mut parts = Vec::new();
    while let Ok(part) = receiver.try_recv() {
        parts.push(part);
    }
    (parts, answer)
}

fn steps(parts: &[TurnPart]) -> Vec<(String, String, StepState)> {
    let step = |part: &TurnPart| match part {
        TurnPart::Step {
            id, agent, state, ..
        } => Some((id.clone(), agent.clone(), *state)),
        _ => None,
    };
    parts.iter().filter_map(step).collect()
}

#[tokio::test]
async fn a_turn_tells_its_steps_in_order_and_its_text() {
    let stack = Stack::start().await;
    let (parts, answer) = told(&stack.chat, "pass rate by component last week", "p1").await;
    assert!(
        matches!(&parts[0], TurnPart::Started { conversation_id, .. } if conversation_id == "p1")
    );
    let done: Vec<(String, String)> = steps(&parts)
        .into_iter()
        .filter(|it| it.2 == StepState::Done)
        .map(|it| (it.0, it.1))
        .collect();
    let expected = [
        ("understood", "chat"),
        ("planned", "analyst"),
        ("ran", "metrics"),
        ("worded", "analyst"),
    ];
    assert_eq!(
        done,
        expected.map(|(id, agent)| (id.to_owned(), agent.to_owned()))
    );
    let labels = format!("{parts:?}");
    assert!(
        labels.contains("Production") && labels.contains("3 rows"),
        "{labels}"
    );
    assert_eq!(parts.last(), Some(&TurnPart::Text(answer.answer)));
}

#[tokio::test]
async fn a_turn_whose_listener_leaves_stops_and_is_not_kept() {
    let stack = Stack::start().await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let stopped = stack
        .chat
        .ask_with_progress("OEE by shift", Some("p2".to_owned()), sender)
        .await;
    assert!(matches!(stopped, Err(ChatError::Stopped)), "{stopped:?}");
    let answer = stack.ask("OEE by shift", "p2").await;
    assert_eq!(answer.rows.len(), 3);
    let kept = history::read(&stack.store, "p2").await.unwrap().unwrap();
    assert_eq!(kept.messages.len(), 2, "{kept:?}");
}

#[tokio::test]
async fn every_suggestion_is_answered() {
    let stack = Stack::start().await;
    for (n, question) in [
        "pass rate by component last week",
        "total units made",
        "defects by type",
        "OEE of refills yesterday",
        "cost per unit by month",
    ]
    .into_iter()
    .enumerate()
    {
        let conversation = format!("s{n}");
        let first = stack.ask(question, &conversation).await;
        assert!(!first.follow_ups.is_empty(), "{question}");
        assert!(first.follow_ups.len() <= 4, "{question}");
        for (k, next) in first.follow_ups.iter().enumerate() {
            // Each is asked in a conversation that stands where the suggestion was made.
            let other = format!("s{n}-{k}");
            stack.ask(question, &other).await;
            let answer = stack.ask(next, &other).await;
            assert_eq!(
                answer.behaviour,
                Behaviour::Answer,
                "{question} -> {next}: {}",
                answer.answer
            );
            assert!(!answer.rows.is_empty(), "{question} -> {next}");
        }
        println!("{question}: {:?}", first.follow_ups);
    }
}

#[tokio::test]
async fn a_choice_offered_is_a_whole_question() {
    let stack = Stack::start().await;
    let asked = stack.ask("compare line 1 and line 2", "w1").await;
    assert_eq!(asked.behaviour, Behaviour::Clarify);
    for (n, option) in asked.options.iter().enumerate() {
        // In the conversation, and in one that knows nothing of it.
        for conversation in [format!("w1-{n}"), format!("w2-{n}")] {
            if conversation.starts_with("w1") {
                stack.ask("compare line 1 and line 2", &conversation).await;
            }
            let answer = stack.ask(&option.question, &conversation).await;
            assert_eq!(answer.behaviour, Behaviour::Answer, "{}", option.question);
            assert_eq!(
                answer.query.as_ref(),
                Some(&option.query),
                "{}",
                option.question
            );
        }
    }
}

#[tokio::test]
async fn conversations_are_listed_searched_read_and_forgotten() {
    let stack = Stack::start().await;
    stack.ask("pass rate by component last week", "h1").await;
    stack.ask("OEE by shift", "h2").await;
    let conversations = stack.store.conversations();
    let all = conversations.recent(10).await.unwrap();
    let titles: Vec<&str> = all.iter().map(|it| it.title.as_str()).collect();
    assert_eq!(titles, ["OEE by shift", "pass rate by component last week"]);
    let found = conversations.search("Pass RATE", 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, "h1");
    let read = history::read(&stack.store, "h1").await.unwrap().unwrap();
    assert_eq!(read.title, "pass rate by component last week");
    assert!(
        matches!(&read.messages[1], Message::Assistant { answer, .. } if answer.rows.len() == 3)
    );
    // Its title is its first question, however much was said since.
    let more = serde_json::json!({ "text": "only refills" });
    let more = vec![("user", &more); 600];
    conversations.append_all("h1", &more).await.unwrap();
    let read = history::read(&stack.store, "h1").await.unwrap().unwrap();
    assert_eq!(read.title, "pass rate by component last week");
    assert!(conversations.delete("h1").await.unwrap());
    assert!(history::read(&stack.store, "h1").await.unwrap().is_none());
    assert!(!conversations.delete("h1").await.unwrap());
}

#[tokio::test]
async fn two_incarnations_keep_one_order_in_a_conversation() {
    let stack = Stack::start().await;
    // The locks of an incarnation end with it; the order of a conversation does not.
    let turns = (0..8).map(|n| {
        let (chat, tree) = (stack.chat.clone(), stack.tree.clone());
        tokio::spawn(async move {
            if n % 3 == 2 {
                tree.restart(Chat::NAME).await.unwrap();
            }
            chat.ask("OEE by shift", Some("o1".to_owned())).await
        })
    });
    let turns: Vec<_> = turns.collect();
    let mut answered = 0;
    for turn in turns {
        match turn.await.unwrap() {
            Ok(_) => answered += 1,
            Err(ChatError::Moving) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let kept = stack
        .store
        .conversations()
        .messages("o1", 100)
        .await
        .unwrap();
    assert_eq!(kept.len(), 2 * answered);
    let alternate = kept
        .chunks(2)
        .all(|it| it[0].role == "user" && it[1].role == "assistant");
    assert!(alternate, "{kept:?}");
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
