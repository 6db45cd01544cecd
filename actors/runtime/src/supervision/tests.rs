//! The tree against an actor that can be told to fail in each way an actor can. Nothing sleeps:
//! each incarnation reports its start and end, and states are waited for on the board.

#![allow(clippy::unwrap_used)]

mod probe;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::event::Event;
use crate::trace::TraceContext;
use probe::{Probe, ProbeArgs, ProbeMsg, Stack};

const SOON: Duration = Duration::from_secs(60);

fn unchanged(spec: ActorSpec) -> ActorSpec {
    spec
}

#[tokio::test]
async fn a_panic_an_error_a_kill_and_a_stop_each_end_in_a_new_incarnation() {
    let mut stack = Stack::start(Strategy::OneForOne, unchanged).await;
    stack.tell("a", ProbeMsg::Panic);
    let status = stack.until("a", ActorState::Running, 2).await;
    assert_eq!(
        (status.restarts, status.last_error.unwrap()),
        (1, "it was told to panic".into())
    );
    stack.tell("b", ProbeMsg::Fail);
    let status = stack.until("b", ActorState::Running, 2).await;
    assert_eq!(status.last_error.as_deref(), Some("it was told to fail"));
    stack.kill("c");
    let status = stack.until("c", ActorState::Running, 2).await;
    assert_eq!(status.last_error.as_deref(), Some("killed"));
    stack.expect(&["+a", "+b", "+c"]).await;
    stack.tell("c", ProbeMsg::StopYourself);
    stack.expect(&["-c", "+c"]).await;
    stack.until("c", ActorState::Running, 3).await;
    assert_eq!(stack.status("group").incarnation, 1);
}

#[tokio::test]
async fn a_kill_loses_every_queued_message_and_no_command() {
    let database = ballpoint_postgres::testing::TestDatabase::create().await;
    let store = crate::store::Store::open(database.pool().clone())
        .await
        .unwrap();
    let command = crate::work::WorkKind::RefreshMetrics;
    let mut stack = Stack::start(Strategy::OneForOne, unchanged).await;
    let (_release, held) = tokio::sync::oneshot::channel();
    stack.tell("a", ProbeMsg::Hold(held));
    store
        .work()
        .enqueue(&command, &crate::trace::TraceContext::default())
        .await
        .unwrap();
    for number in 0..1000 {
        stack.tell("a", ProbeMsg::Note(number));
    }
    stack.kill("a");
    stack.until("a", ActorState::Running, 2).await;
    let echo = stack
        .address("a")
        .call(|reply| ProbeMsg::Echo(7, reply), SOON)
        .await;
    assert_eq!(echo, Ok(7));
    stack.expect(&["+a"]).await;
    stack.nothing_more();
    let claimed = store
        .work()
        .claim("refresh_metrics", "", SOON)
        .await
        .unwrap();
    assert_eq!(claimed.unwrap().work, command);
}

#[tokio::test]
async fn changes_of_state_are_published_as_events() {
    let database = ballpoint_postgres::testing::TestDatabase::create().await;
    let store = crate::store::Store::open(database.pool().clone())
        .await
        .unwrap();
    let mut events = store.events().subscribe();
    let (reports, _received) = mpsc::unbounded_channel();
    let args = ProbeArgs {
        name: "a",
        reports,
        broken: Arc::default(),
    };
    let spec = ActorSpec::new("a", Probe, move || args.clone()).budget(0, SOON);
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
    let tree = Tree::start(Scope::unique(), root, Some(store.events().clone()))
        .await
        .unwrap();
    Address::new(tree.scope(), "a")
        .cast(ProbeMsg::Panic)
        .unwrap();
    let mut changes = Vec::new();
    while changes.len() < 3 {
        changes.push(events.recv().await.unwrap().event);
    }
    let changed = |actor: &str, state: &str, error: Option<&str>| Event::ActorChanged {
        actor: actor.into(),
        state: state.into(),
        incarnation: 1,
        error: error.map(str::to_owned),
    };
    assert_eq!(
        changes,
        [
            changed("a", "running", None),
            changed("root", "running", None),
            changed("a", "parked", Some("it was told to panic")),
        ]
    );
}

#[tokio::test]
async fn a_transient_actor_stays_down_after_a_normal_stop_and_comes_back_after_a_kill() {
    let stack = Stack::start(Strategy::OneForOne, |spec| {
        spec.restart(RestartPolicy::Transient)
    })
    .await;
    stack.kill("a");
    stack.until("a", ActorState::Running, 2).await;
    stack.tell("a", ProbeMsg::StopYourself);
    stack.until("a", ActorState::Stopped, 2).await;
}

#[tokio::test]
async fn an_actor_that_uses_up_its_budget_is_parked_and_its_siblings_go_on() {
    let mut stack = Stack::start(Strategy::RestForOne, |spec| {
        spec.budget(2, SOON)
            .backoff(Duration::from_millis(1), Duration::from_millis(1))
    })
    .await;
    for incarnation in 2..=3 {
        stack.tell("a", ProbeMsg::Panic);
        stack.until("a", ActorState::Running, incarnation).await;
        stack.expect(&["-c", "-b", "+a", "+b", "+c"]).await;
    }
    stack.tell("a", ProbeMsg::Panic);
    stack.until("a", ActorState::Parked, 3).await;
    assert!(stack.tree.is_degraded());
    let echo = stack
        .address("b")
        .call(|reply| ProbeMsg::Echo(7, reply), SOON)
        .await;
    assert_eq!(echo, Ok(7));
    assert!(stack.address("a").cast(ProbeMsg::Note(1)).is_err());
    stack.nothing_more();

    assert_eq!(stack.tree.restart("a").await.unwrap(), ["a"]);
    let status = stack.until("a", ActorState::Running, 4).await;
    assert_eq!((status.restarts, stack.tree.is_degraded()), (3, false));
}

#[tokio::test]
async fn an_actor_that_cannot_start_is_retried_by_its_backoff_and_comes_back() {
    let mut stack = Stack::start(Strategy::OneForOne, |spec| {
        spec.budget(1000, SOON)
            .backoff(Duration::from_millis(1), Duration::from_millis(2))
    })
    .await;
    *stack.broken.lock().unwrap() = true;
    stack.tell("a", ProbeMsg::Panic);
    let status = stack.until("a", ActorState::Backoff, 1).await;
    assert!(status.last_error.unwrap().contains("it is broken"));
    *stack.broken.lock().unwrap() = false;
    stack.until("a", ActorState::Running, 2).await;
    stack.expect(&["+a"]).await;
}

#[tokio::test]
async fn rest_for_one_restarts_the_later_siblings_only() {
    let mut stack = Stack::start(Strategy::RestForOne, unchanged).await;
    stack.tell("b", ProbeMsg::Panic);
    stack.expect(&["-c", "+b", "+c"]).await;
    stack.until("c", ActorState::Running, 2).await;
    assert_eq!(stack.status("a").incarnation, 1);
}

#[tokio::test]
async fn one_for_all_restarts_every_sibling_in_order() {
    let mut stack = Stack::start(Strategy::OneForAll, unchanged).await;
    stack.tell("b", ProbeMsg::Panic);
    stack.expect(&["-c", "-a", "+a", "+b", "+c"]).await;
}

#[tokio::test]
async fn a_call_made_while_its_actor_restarts_is_answered() {
    let stack = Stack::start(Strategy::OneForOne, |spec| spec.budget(1000, SOON)).await;
    let (release, held) = tokio::sync::oneshot::channel();
    stack.tell("a", ProbeMsg::Hold(held));
    stack.tell("a", ProbeMsg::Panic);
    // Queued behind the panic: this incarnation will never answer it.
    let address = stack.address("a");
    let asked = address.call(|reply| ProbeMsg::Echo(7, reply), SOON);
    let killed = async {
        while stack.status("a").queue == 0 {
            tokio::task::yield_now().await;
        }
        drop(release);
    };
    let (answer, ()) = tokio::join!(asked, killed);
    assert_eq!(answer, Ok(7));
    assert_eq!(
        (stack.status("a").incarnation, stack.status("a").queue),
        (2, 0)
    );
}

#[tokio::test]
async fn what_must_not_run_twice_is_not_sent_twice() {
    let stack = Stack::start(Strategy::OneForOne, unchanged).await;
    let (release, held) = tokio::sync::oneshot::channel();
    stack.tell("a", ProbeMsg::Hold(held));
    stack.tell("a", ProbeMsg::Panic);
    let address = stack.address("a");
    let asked = address.call_once(|reply| ProbeMsg::Echo(7, reply), SOON);
    let ((), answer) = tokio::join!(async { drop(release) }, asked);
    assert_eq!(answer, Err(AddressError::Interrupted { actor: "a".into() }));
}

#[tokio::test]
async fn a_slow_actor_and_a_missing_one_are_told_apart() {
    let stack = Stack::start(Strategy::OneForOne, unchanged).await;
    let short = Duration::from_millis(30);
    let (_release, held) = tokio::sync::oneshot::channel();
    stack.tell("a", ProbeMsg::Hold(held));
    let slow = stack
        .address("a")
        .call(|reply| ProbeMsg::Echo(1, reply), short)
        .await;
    assert_eq!(
        slow,
        Err(AddressError::TimedOut {
            actor: "a".into(),
            waited: short
        })
    );
    let missing = stack
        .address("z")
        .call(|reply| ProbeMsg::Echo(1, reply), short)
        .await;
    assert_eq!(
        missing,
        Err(AddressError::Unavailable { actor: "z".into() })
    );
}

#[tokio::test]
async fn a_tree_stops_in_the_reverse_order_and_finishes_what_is_queued() {
    let mut stack = Stack::start(Strategy::OneForOne, unchanged).await;
    for number in 1..=3 {
        stack.tell("a", ProbeMsg::Note(number));
    }
    stack.tree.stop(SOON).await;
    let mut reports = Vec::new();
    while let Ok(report) = stack.reports.try_recv() {
        reports.push(report);
    }
    let stops: Vec<&String> = reports
        .iter()
        .filter(|report| report.starts_with('-'))
        .collect();
    assert_eq!(stops, ["-c", "-b", "-a"]);
    assert!(reports.contains(&"a:3".to_owned()));
    assert!(
        stack.tree.describe()[0]
            .all()
            .iter()
            .all(|a| a.state == ActorState::Stopped)
    );
    assert!(ractor::registry::where_is(stack.tree.scope().qualify("root")).is_none());
}

#[tokio::test]
async fn an_actor_stuck_in_a_handler_is_killed_when_the_tree_stops() {
    let stack = Stack::start(Strategy::OneForOne, |spec| {
        spec.drain(Duration::from_millis(10))
    })
    .await;
    let (_release, held) = tokio::sync::oneshot::channel();
    stack.tell("b", ProbeMsg::Hold(held));
    tokio::time::timeout(SOON, stack.tree.stop(SOON))
        .await
        .unwrap();
    assert!(ractor::registry::where_is(stack.tree.scope().qualify("b")).is_none());
}

#[tokio::test]
async fn a_paused_actor_stays_down_until_it_is_resumed() {
    let mut stack = Stack::start(Strategy::OneForAll, unchanged).await;
    stack.tree.pause("b").await.unwrap();
    stack.expect(&["-b"]).await;
    assert_eq!(stack.status("b").state, ActorState::Paused);
    stack.tell("a", ProbeMsg::Panic);
    stack.expect(&["-c", "+a", "+c"]).await;
    stack.tree.resume("b").await.unwrap();
    stack.expect(&["+b"]).await;
    stack.tree.resume("b").await.unwrap();
    assert_eq!(stack.status("b").restarts, 1);
}

#[tokio::test]
async fn a_supervisor_is_restarted_with_all_below_it_also_when_it_was_killed() {
    let mut stack = Stack::start(Strategy::OneForOne, unchanged).await;
    stack.tree.restart("group").await.unwrap();
    stack.expect(&["-c", "-b", "-a", "+a", "+b", "+c"]).await;
    stack.kill("group");
    stack.expect(&["+a", "+b", "+c"]).await;
    stack.until("group", ActorState::Running, 3).await;
    let echo = stack
        .address("c")
        .call(|reply| ProbeMsg::Echo(7, reply), SOON)
        .await;
    assert_eq!(echo, Ok(7));
}

#[tokio::test]
async fn a_role_means_all_its_members_and_an_unknown_name_offers_the_nearest() {
    let (sender, _reports) = mpsc::unbounded_channel();
    let probe = |name: &'static str| {
        let args = ProbeArgs {
            name,
            reports: sender.clone(),
            broken: Arc::default(),
        };
        ActorSpec::new(name, Probe, move || args.clone())
    };
    let names = ["loader.orders", "loader.stock", "loaders"];
    let root = SupervisorSpec::new("root", Strategy::OneForOne).children(names.map(probe));
    let tree = Tree::start(Scope::unique(), root, None).await.unwrap();
    assert_eq!(
        tree.restart("loader").await.unwrap(),
        ["loader.orders", "loader.stock"]
    );
    let restarts: Vec<u64> = tree.describe()[0]
        .children
        .iter()
        .map(|actor| actor.restarts)
        .collect();
    assert_eq!(restarts, [1, 1, 0]);
    let error = tree.restart("loader.order").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no actor `loader.order`; nearest: loader.orders, loaders, loader.stock"
    );
    assert!(matches!(
        tree.restart("root").await,
        Err(TreeError::Root { .. })
    ));
}

#[tokio::test]
async fn two_trees_with_the_same_names_live_in_one_process() {
    let one = Stack::start(Strategy::OneForOne, unchanged).await;
    let two = Stack::start(Strategy::OneForOne, unchanged).await;
    one.tree.restart("a").await.unwrap();
    assert_eq!(
        (one.status("a").incarnation, two.status("a").incarnation),
        (2, 1)
    );
}

#[tokio::test]
async fn names_are_checked_before_anything_starts() {
    let actor = |name: &str| {
        let (reports, _) = mpsc::unbounded_channel();
        let args = ProbeArgs {
            name: "x",
            reports,
            broken: Arc::default(),
        };
        ActorSpec::new(name, Probe, move || args.clone())
    };
    for (names, message) in [
        (["a", "a"], "two actors are named `a`"),
        (
            ["a", "B c"],
            "`B c` is no actor name: use a-z, 0-9, `_`, `-` and `.`",
        ),
    ] {
        let root = SupervisorSpec::new("root", Strategy::OneForOne).children(names.map(actor));
        let error = Tree::start(Scope::unique(), root, None).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[tokio::test]
async fn a_message_is_handled_in_the_trace_of_its_sender_also_after_a_restart() {
    use opentelemetry::trace::TracerProvider;
    use tracing::Instrument;
    use tracing_subscriber::prelude::*;

    let tracer = opentelemetry_sdk::trace::SdkTracerProvider::default().tracer("test");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let stack = Stack::start(Strategy::OneForOne, unchanged).await;
    for _ in 0..2 {
        let span = tracing::info_span!("asking");
        let asked = TraceContext::of(&span);
        let address = stack.address("a");
        let handled = address
            .call(ProbeMsg::Trace, SOON)
            .instrument(span)
            .await
            .unwrap();
        assert!(asked.trace_id().is_some());
        assert_eq!(handled.trace_id(), asked.trace_id());
        stack.tree.restart("a").await.unwrap();
    }
}
