//! Incidents, their announcements, and the outbox.

use super::*;

const AT_ONCE: Duration = Duration::ZERO;

fn down(cause: &'static str) -> Trouble {
    Trouble {
        kind: IncidentKind::Source,
        subject: "orders".into(),
        cause: cause.into(),
        severity: Severity::Error,
        error: format!("{cause}: refused"),
    }
}

async fn begin(store: &Store, cause: &'static str) {
    let mut connection = store.pool().acquire().await.unwrap();
    Incidents::begin_in(&mut connection, &down(cause))
        .await
        .unwrap();
}

async fn end(store: &Store, cause: Option<&str>) {
    let mut connection = store.pool().acquire().await.unwrap();
    Incidents::end_in(&mut connection, IncidentKind::Source, "orders", cause)
        .await
        .unwrap();
}

/// Announces what is due, and says which states.
async fn announce(store: &Store, hold: Duration) -> Vec<String> {
    let mut transaction = store.pool().begin().await.unwrap();
    let due = Incidents::unannounced_in(&mut transaction, hold)
        .await
        .unwrap();
    for incident in &due {
        Alerts::announce_in(&mut transaction, incident, "{\"text\": \"t\"}")
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    due.into_iter().map(|incident| incident.state).collect()
}

#[tokio::test]
async fn failures_of_one_subject_are_one_incident_until_the_last_cause_is_gone() {
    let (_database, store) = open().await;
    for cause in ["unreachable", "shape", "unreachable"] {
        begin(&store, cause).await;
    }
    let open = store.incidents().open().await.unwrap();
    assert_eq!((open.len(), &*open[0].error), (1, "unreachable: refused"));
    end(&store, Some("unreachable")).await;
    assert_eq!(store.incidents().open().await.unwrap().len(), 1);
    end(&store, Some("shape")).await;
    assert_eq!(store.incidents().open().await.unwrap(), []);
    let closed = store.incidents().recent(5).await.unwrap().remove(0);
    assert!(closed.closed_at.unwrap() >= closed.opened_at);
}

#[tokio::test]
async fn two_that_fail_at_once_are_one_incident() {
    let (_database, store) = open().await;
    tokio::join!(begin(&store, "unreachable"), begin(&store, "shape"));
    let open = store.incidents().open().await.unwrap();
    assert_eq!((open.len(), open[0].count), (1, 1));
}

#[tokio::test]
async fn each_state_is_announced_once() {
    let (_database, store) = open().await;
    begin(&store, "unreachable").await;
    assert_eq!(announce(&store, AT_ONCE).await, ["open"]);
    begin(&store, "unreachable").await;
    assert_eq!(announce(&store, AT_ONCE).await, [""; 0]);
    end(&store, None).await;
    assert_eq!(announce(&store, AT_ONCE).await, ["closed"]);
    assert_eq!(announce(&store, AT_ONCE).await, [""; 0]);
}

#[tokio::test]
async fn what_flaps_is_one_incident_that_has_to_last_longer_each_time() {
    let (database, store) = open().await;
    let hour = Duration::from_secs(3600);
    for _ in 0..4 {
        begin(&store, "unreachable").await;
        assert_eq!(
            announce(&store, hour).await,
            [""; 0],
            "it may be gone in a moment"
        );
        end(&store, None).await;
        assert_eq!(
            announce(&store, AT_ONCE).await,
            [""; 0],
            "nobody was told that it began"
        );
    }
    begin(&store, "unreachable").await;
    let seen = store.incidents().recent(5).await.unwrap();
    assert_eq!((seen.len(), seen[0].count), (1, 5));
    // Five seconds are longer than the hold of one second, not than its fourth doubling.
    sqlx::query("update ballpoint.incidents set changed_at = changed_at - interval '5 seconds'")
        .execute(database.pool())
        .await
        .unwrap();
    assert_eq!(announce(&store, Duration::from_secs(1)).await, [""; 0]);
    sqlx::query("update ballpoint.incidents set changed_at = changed_at - interval '12 seconds'")
        .execute(database.pool())
        .await
        .unwrap();
    assert_eq!(announce(&store, Duration::from_secs(1)).await, ["open"]);
}

#[tokio::test]
async fn what_comes_back_after_a_long_rest_is_a_new_incident() {
    let (database, store) = open().await;
    begin(&store, "unreachable").await;
    announce(&store, AT_ONCE).await;
    end(&store, None).await;
    announce(&store, AT_ONCE).await;
    sqlx::query("update ballpoint.incidents set closed_at = closed_at - interval '1 hour'")
        .execute(database.pool())
        .await
        .unwrap();
    begin(&store, "unreachable").await;
    assert_eq!(store.incidents().recent(5).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_alert_is_due_until_it_is_sent_and_a_later_one_of_its_incident_waits_for_it() {
    let (_database, store) = open().await;
    begin(&store, "unreachable").await;
    announce(&store, AT_ONCE).await;
    end(&store, None).await;
    announce(&store, AT_ONCE).await;
    let first = store.alerts().next().await.unwrap().unwrap();
    assert_eq!(first.attempt, 1);
    store
        .alerts()
        .not_sent(&first, "refused", Some(Duration::from_secs(3600)))
        .await
        .unwrap();
    assert_eq!(
        store.alerts().next().await.unwrap(),
        None,
        "the end waits for the beginning"
    );
    store
        .alerts()
        .not_sent(&first, "refused", Some(Duration::ZERO))
        .await
        .unwrap();
    let again = store.alerts().next().await.unwrap().unwrap();
    assert_eq!((again.id, again.attempt), (first.id, 2));
    store.alerts().sent(&again).await.unwrap();
    let second = store.alerts().next().await.unwrap().unwrap();
    assert_ne!(second.id, first.id);
    store
        .alerts()
        .not_sent(&second, "gone", None)
        .await
        .unwrap();
    assert_eq!(store.alerts().next().await.unwrap(), None);
    let told = store.incidents().recent(1).await.unwrap().remove(0);
    assert_eq!(told.delivery.as_deref(), Some("dead"));
}

#[tokio::test]
async fn a_gap_is_open_for_as_long_as_its_incident_though_its_event_is_gone() {
    let (_database, store) = open().await;
    let has_gap = async || store.incidents().has_log_gap("orders").await.unwrap();
    begin(&store, "unreachable").await;
    assert!(!has_gap().await);
    begin(&store, LOG_GAP).await;
    assert!(has_gap().await);
    end(&store, Some(LOG_GAP)).await;
    assert!(!has_gap().await);
}
