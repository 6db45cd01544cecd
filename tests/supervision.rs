//! Kill any part: the rest goes on, the part comes back, no question fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Stack, ballpoint, finish, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_actor_is_restarted_while_questions_are_asked_and_none_fails() {
    let stack = Arc::new(Stack::start().await);
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let asker = tokio::spawn({
        let (stack, stop, asked) = (Arc::clone(&stack), Arc::clone(&stop), Arc::clone(&asked));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = stack.ask("pass rate by component").await;
                assert_eq!(answer["behaviour"], "answer", "{answer}");
                assert_eq!(answer["rows"].as_array().map(Vec::len), Some(3), "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });

    let workers: Vec<_> = stack
        .actors()
        .await
        .into_iter()
        .filter(|a| is_worker(&a.0))
        .collect();
    let names: Vec<_> = workers.iter().map(|a| a.0.as_str()).collect();
    for name in EXPECTED {
        assert!(
            names.contains(&name),
            "{name} is not in the tree: {names:?}"
        );
    }
    for (name, _, incarnation, restarts) in &workers {
        let (status, body) = stack
            .post(&format!("/api/actors/{name}/restart"), &json!({}))
            .await;
        assert_eq!(status, 200, "{name}: {body}");
        let after = stack
            .actors()
            .await
            .into_iter()
            .find(|a| &a.0 == name)
            .unwrap();
        assert!(
            after.3 > *restarts,
            "{name}: restarts {restarts} -> {}",
            after.3
        );
        assert!(
            after.2 > *incarnation,
            "{name}: incarnation {incarnation} -> {}",
            after.2
        );
        // A question is asked and answered after each restart, not only between them.
        let seen = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) == seen && !asker.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    asker.await.unwrap();
    for (name, state, ..) in stack.actors().await {
        assert_eq!(state, "running", "{name}");
    }
}

const EXPECTED: [&str; 12] = [
    "web",
    "orchestrator",
    "transformer",
    "metric_registry",
    "analyst",
    "chat",
    "source_watcher.refills",
    "source_watcher.bodies",
    "source_watcher.springs",
    "loader.refills",
    "loader.bodies",
    "loader.springs",
];

/// The leaves; the supervisors above them are restarted by their own tests.
fn is_worker(name: &str) -> bool {
    EXPECTED.contains(&name)
}

#[tokio::test]
async fn the_command_restarts_a_role_and_refuses_an_unknown_name() {
    let stack = Stack::start().await;
    let before = stack.actors().await;
    let (code, _, stderr) = finish(ballpoint(stack.data_dir()).args(["restart", "loader"]));
    assert_eq!(code, 0, "{stderr}");
    for (name, .., restarts) in stack.actors().await {
        let was = before.iter().find(|a| a.0 == name).map_or(0, |a| a.3);
        if name.starts_with("loader.") {
            assert_eq!(restarts, was + 1, "{name}");
        }
    }
    let (code, _, stderr) = finish(ballpoint(stack.data_dir()).args(["restart", "loder.refills"]));
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("loader.refills"),
        "the nearest name is offered: {stderr}"
    );
}

#[tokio::test]
async fn the_embedded_server_comes_back_when_it_is_killed() {
    let stack = Stack::start().await;
    let pid_file = stack.data_dir().join("pg/postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status()
        .unwrap();
    assert!(killed.success());
    until("questions are answered again", PATIENCE, || async {
        let (status, answer) = stack
            .post("/api/ask", &json!({ "question": "pass rate by component" }))
            .await;
        (status == 200 && answer["behaviour"] == "answer").then_some(())
    })
    .await;
    let now = std::fs::read_to_string(&pid_file).unwrap();
    assert_ne!(now.lines().next().unwrap(), pid, "another server process");
    // And the pipeline works on: a new row arrives.
    let before = stack
        .load(json!({ "measures": ["Production.count"] }))
        .await;
    sqlx::query(crate::freshness::INSERT_ONE)
        .execute(&stack.pool("springs").await)
        .await
        .unwrap();
    until("the new row is counted", PATIENCE, || async {
        (stack
            .load(json!({ "measures": ["Production.count"] }))
            .await
            != before)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn status_names_address_databases_and_actors() {
    let stack = Stack::start().await;
    let (code, stdout, stderr) = finish(ballpoint(stack.data_dir()).args(["status", "--json"]));
    assert_eq!(code, 0, "{stderr}");
    let status: Value = serde_json::from_str(&stdout).unwrap();
    assert!(
        stack.base.ends_with(status["listen"].as_str().unwrap()),
        "{status}"
    );
    for database in ["warehouse", "refills", "bodies", "springs"] {
        assert!(
            status["databases"][database]
                .as_str()
                .unwrap()
                .starts_with("postgres"),
            "{status}"
        );
    }
    assert!(!status["actors"].is_null());
}
