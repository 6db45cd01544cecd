//! Incidents are told to a webhook once when they open and once when they close, and a schedule fires
//! in its own zone, whatever is killed meanwhile.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Folder, PATIENCE, Stack, StopCluster, until};

const SOURCE: &str = "springs";

/// A webhook's receiver: refuses until it is opened, and keeps what it was sent, by id.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    is_open: bool,
    refused: Vec<String>,
    taken: Vec<(String, String)>,
}

impl Receiver {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/hook", post(receive))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    fn open(&self) {
        self.0.lock().unwrap().is_open = true;
    }

    /// What it took about the source: id and text of each message.
    fn about_the_source(&self) -> Vec<(String, String)> {
        let taken = self.0.lock().unwrap().taken.clone();
        taken
            .into_iter()
            .filter(|(_, text)| text.contains(&format!("source {SOURCE} ")))
            .collect()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    let id = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut received = receiver.0.lock().unwrap();
    if !received.is_open {
        received.refused.push(id);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let text = body["text"].as_str().unwrap().to_owned();
    assert!(body["blocks"].is_array(), "{body}");
    received.taken.push((id, text));
    StatusCode::OK
}

/// The source's server refuses every connection to it, those that are open too, or no longer.
async fn refuse(warehouse: &PgPool, refuses: bool) {
    let allowed = !refuses;
    for statement in [
        format!("alter database {SOURCE} allow_connections {allowed}"),
        format!(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = '{SOURCE}' and not {allowed}"
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(warehouse)
            .await
            .unwrap();
    }
}

/// The incidents of the source, newest first.
async fn incidents(warehouse: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as(
        "select state, notified from ballpoint.incidents
         where kind = 'source' and subject = $1 order by opened_at desc",
    )
    .bind(SOURCE)
    .fetch_all(warehouse)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_failing_source_is_told_once_and_its_recovery_once_whatever_is_killed_meanwhile() {
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let _cluster = StopCluster(data_dir.clone());
    let launch = || {
        let stack = Stack::launch(&data_dir, |command| {
            command.env("BALLPOINT__ALERTS__WEBHOOK_URL", &url);
            command.env("BALLPOINT__ALERTS__HOLD", "1s");
        });
        stack.leaving_its_cluster()
    };
    let mut stack = launch();
    stack.until_ready().await;
    let warehouse = stack.pool("warehouse").await;

    refuse(&warehouse, true).await;
    until("the receiver refuses a message", PATIENCE, || async {
        let refused = receiver.0.lock().unwrap().refused.clone();
        let announced = incidents(&warehouse).await == [("open".into(), "open".into())];
        (announced && !refused.is_empty()).then_some(())
    })
    .await;
    stack.kill();
    receiver.open();
    refuse(&warehouse, false).await;
    let stack = launch();
    let told = until("the message arrives after the kill", PATIENCE, || async {
        receiver.about_the_source().first().cloned()
    })
    .await;
    assert!(told.1.contains("does not work"), "{told:?}");
    assert!(
        receiver.0.lock().unwrap().refused.contains(&told.0),
        "under its first id"
    );

    let told = until("the recovery is told", PATIENCE, || async {
        receiver.about_the_source().get(1).cloned()
    })
    .await;
    assert!(told.1.contains("works again"), "{told:?}");
    until("the incident is closed and told", PATIENCE, || async {
        let incidents = incidents(&warehouse).await;
        (incidents == [("closed".into(), "closed".into())]).then_some(())
    })
    .await;
    assert_eq!(receiver.about_the_source().len(), 2);
    let (status, body) = stack.get("/api/incidents").await;
    assert_eq!(status, 200, "{body}");
    drop(stack);
}

#[tokio::test]
async fn a_schedule_fires_in_its_zone_across_the_change_of_its_clocks_and_once() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let _cluster = StopCluster(data_dir.clone());
    let launch = |now: &str| {
        let stack = Stack::launch_at(&data_dir, now, |command| {
            command.env("BALLPOINT__SCHEDULES__NIGHTLY__CRON", "30 2 * * *");
            command.env("BALLPOINT__SCHEDULES__NIGHTLY__TIMEZONE", "Europe/Berlin");
        });
        stack.leaving_its_cluster()
    };
    // The evening before Berlin's clocks go from two to three o'clock.
    let mut stack = launch("2026-03-28T18:00:00Z");
    stack.until_ready().await;
    let warehouse = stack.pool("warehouse").await;
    let next = "select next_at = '2026-03-29 01:00:00+00' from ballpoint.schedules";
    until("it is due at three o'clock", PATIENCE, || async {
        let due: Option<bool> = sqlx::query_scalar(next)
            .fetch_optional(&warehouse)
            .await
            .unwrap();
        due.filter(|due| *due).map(|_| ())
    })
    .await;
    stack.kill();
    // A moment before the gap; and once more after it, which must fire nothing.
    for now in ["2026-03-29T00:59:59Z", "2026-03-29T06:00:00Z"] {
        let mut stack = launch(now);
        until("the schedule's run is through", PATIENCE, || async {
            let state: Option<String> = sqlx::query_scalar(
                "select status from ballpoint.runs where kind = 'schedule' and scope = 'nightly'
                 and status <> 'running'",
            )
            .fetch_optional(&warehouse)
            .await
            .unwrap();
            state.map(|state| assert_eq!(state, "success"))
        })
        .await;
        stack.until_ready().await;
        stack.kill();
    }
    let fires: Vec<(String, i64)> = sqlx::query_as(
        "select (due_at at time zone 'Europe/Berlin')::text,
                (select count(*) from ballpoint.run_steps s where s.run_id = f.run_id)
         from ballpoint.schedule_fires f",
    )
    .fetch_all(&warehouse)
    .await
    .unwrap();
    // Three sources, a build, a refresh, the write-backs.
    assert_eq!(fires, [("2026-03-29 03:00:00".to_owned(), 6)]);
}
