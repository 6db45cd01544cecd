//! Schedules on a real PostgreSQL and a clock that the test drives.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ballpoint_orchestrator::{ScheduleSpec, Stages, Timing, advance, declare, fire_due};
use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::retry::FailureClass;
use ballpoint_runtime::store::{RunStatus, Store};
use ballpoint_runtime::trace::TraceContext;
use ballpoint_runtime::work::WorkKind;
use jiff::{SignedDuration, Timestamp};

const ALL: Stages = Stages {
    transform: true,
    metrics: true,
    write_backs: false,
};
const LEASE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn spec(cron: &str, zone: &str) -> Vec<ScheduleSpec> {
    vec![ScheduleSpec {
        name: "nightly".into(),
        timing: Timing::parse(cron, zone).unwrap(),
        full_refresh: true,
    }]
}

struct Bench {
    _database: TestDatabase,
    store: Store,
    clock: Clock,
    specs: Vec<ScheduleSpec>,
}

impl Bench {
    async fn new(specs: Vec<ScheduleSpec>, now: &str) -> Self {
        let database = TestDatabase::create().await;
        let store = Store::open(database.pool().clone()).await.unwrap();
        let clock = Clock::starting_at(at(now));
        declare(&store, &specs, clock.business_now()).await.unwrap();
        Self {
            _database: database,
            store,
            clock,
            specs,
        }
    }

    async fn look(&self) -> u64 {
        let sources = ["orders".to_owned(), "stock".to_owned()];
        fire_due(
            &self.store,
            &self.specs,
            &sources,
            self.clock.business_now(),
        )
        .await
        .unwrap()
    }

    /// Lets business time pass in steps of ten minutes, and says when something fired.
    async fn fired_within(&self, hours: i64) -> Vec<Timestamp> {
        let mut fired = Vec::new();
        for _ in 0..hours * 6 {
            self.clock.advance(SignedDuration::from_mins(10));
            if self.look().await > 0 {
                fired.push(
                    self.store.schedules().all().await.unwrap()[0]
                        .last_at
                        .unwrap(),
                );
            }
        }
        fired
    }

    /// Carries out the waiting command of that kind and scope.
    async fn carry_out(&self, kind: &str, scope: &str, rows: u64) {
        let work = self.store.work();
        let claimed = work.claim(kind, scope, LEASE).await.unwrap().unwrap();
        let trace = TraceContext::default();
        let run = self.store.runs().of_work(&claimed, &trace).await.unwrap();
        run.add_rows(rows);
        run.finish(RunStatus::Success, None).await.unwrap();
        work.complete(&claimed).await.unwrap();
    }

    async fn run(&self) -> (String, Option<i64>, Option<String>) {
        let runs = self.store.runs().recent(20).await.unwrap();
        let run = runs.into_iter().find(|run| run.kind == "schedule").unwrap();
        (run.status, run.row_count, run.error)
    }
}

#[tokio::test]
async fn a_schedule_fires_once_right_after_the_gap_of_its_zone() {
    for (zone, start, due) in [
        (
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            "2026-03-29T01:00:00Z",
        ),
        (
            "America/New_York",
            "2026-03-08T02:00:00Z",
            "2026-03-08T07:00:00Z",
        ),
    ] {
        let bench = Bench::new(spec("30 2 * * *", zone), start).await;
        assert_eq!(bench.fired_within(12).await, [at(due)], "{zone}");
    }
}

#[tokio::test]
async fn a_schedule_fires_once_in_the_hour_that_comes_twice() {
    for (zone, cron, start, due) in [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T20:00:00Z",
            "2026-10-25T00:30:00Z",
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "2026-11-01T02:00:00Z",
            "2026-11-01T05:30:00Z",
        ),
    ] {
        let bench = Bench::new(spec(cron, zone), start).await;
        assert_eq!(bench.fired_within(12).await, [at(due)], "{zone}");
    }
}

#[tokio::test]
async fn times_that_passed_while_nothing_ran_are_made_up_for_once() {
    let bench = Bench::new(spec("0 * * * *", "UTC"), "2026-01-01T00:30:00Z").await;
    // Nothing runs for five hours and a half; then a start.
    bench.clock.advance(SignedDuration::from_mins(330));
    declare(&bench.store, &bench.specs, bench.clock.business_now())
        .await
        .unwrap();
    assert_eq!(bench.look().await, 1);
    assert_eq!(bench.look().await, 0);
    let schedule = bench.store.schedules().all().await.unwrap().remove(0);
    assert_eq!(
        (schedule.last_at, schedule.next_at),
        (Some(at("2026-01-01T06:00:00Z")), at("2026-01-01T07:00:00Z"))
    );
}

#[tokio::test]
async fn a_schedule_that_is_new_or_changed_begins_now() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:00:00Z").await;
    bench.clock.advance(SignedDuration::from_hours(48));
    let changed = spec("0 7 * * *", "UTC");
    declare(&bench.store, &changed, bench.clock.business_now())
        .await
        .unwrap();
    let bench = Bench {
        specs: changed,
        ..bench
    };
    assert_eq!(
        bench.look().await,
        0,
        "what it was before is nobody's to make up for"
    );
    declare(&bench.store, &[], bench.clock.business_now())
        .await
        .unwrap();
    assert_eq!(bench.store.schedules().all().await.unwrap(), []);
}

#[tokio::test]
async fn a_fire_syncs_every_source_then_builds_then_refreshes() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:59:00Z").await;
    bench.clock.advance(SignedDuration::from_mins(2));
    assert_eq!(bench.look().await, 1);
    let claim = async |kind: &str| bench.store.work().claim(kind, "", LEASE).await.unwrap();
    bench.carry_out("sync", "orders", 5).await;
    advance(&bench.store, ALL).await.unwrap();
    assert_eq!(
        claim("build").await,
        None,
        "the other source is not through"
    );
    bench.carry_out("sync", "stock", 2).await;
    advance(&bench.store, ALL).await.unwrap();
    bench.carry_out("build", "", 0).await;
    assert_eq!(claim("refresh_metrics").await, None);
    advance(&bench.store, ALL).await.unwrap();
    bench.carry_out("refresh_metrics", "", 0).await;
    assert_eq!(bench.run().await.0, "running");
    advance(&bench.store, ALL).await.unwrap();
    assert_eq!(bench.run().await, ("success".to_owned(), Some(7), None));
    let schedule = bench.store.schedules().all().await.unwrap().remove(0);
    let steps = bench
        .store
        .runs()
        .steps(schedule.last_run.unwrap())
        .await
        .unwrap();
    let names: Vec<_> = steps.iter().map(|step| &*step.name).collect();
    assert_eq!(
        names,
        ["sync orders", "sync stock", "build", "refresh_metrics"]
    );
    assert_eq!(schedule.last_state.as_deref(), Some("success"));
}

#[tokio::test]
async fn a_source_that_fails_keeps_the_others_rows_from_nobody_and_fails_the_run() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:59:00Z").await;
    bench.clock.advance(SignedDuration::from_mins(2));
    bench.look().await;
    let work = bench.store.work();
    let claimed = work.claim("sync", "orders", LEASE).await.unwrap().unwrap();
    work.failed(&claimed, "no such table", FailureClass::SourceRefuses)
        .await
        .unwrap();
    bench.carry_out("sync", "stock", 2).await;
    let build_only = Stages {
        transform: true,
        ..Stages::default()
    };
    advance(&bench.store, build_only).await.unwrap();
    bench.carry_out("build", "", 0).await;
    advance(&bench.store, build_only).await.unwrap();
    let (status, _, error) = bench.run().await;
    assert_eq!(
        (&*status, error.as_deref()),
        ("failed", Some("sync orders: no such table"))
    );
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_fire_goes_on_with_it() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:59:00Z").await;
    bench.clock.advance(SignedDuration::from_mins(2));
    bench.look().await;
    bench.carry_out("sync", "orders", 1).await;
    bench.store.recover().await.unwrap();
    declare(&bench.store, &bench.specs, bench.clock.business_now())
        .await
        .unwrap();
    assert_eq!(bench.run().await.0, "running");
    assert_eq!(bench.look().await, 0);
    bench.carry_out("sync", "stock", 1).await;
    let nothing_follows = Stages::default();
    advance(&bench.store, nothing_follows).await.unwrap();
    assert_eq!(bench.run().await.0, "success");
}

#[tokio::test]
async fn a_command_that_moved_into_one_that_is_given_up_has_failed() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:59:00Z").await;
    bench.clock.advance(SignedDuration::from_mins(2));
    bench.look().await;
    let work = bench.store.work();
    let fired = work.claim("sync", "orders", LEASE).await.unwrap().unwrap();
    // Newer work waits by the time that the attempt fails: what was to be done goes into that.
    work.enqueue(&fired.work, &TraceContext::default())
        .await
        .unwrap();
    let class = FailureClass::SourceDown;
    work.failed(&fired, "refused", class).await.unwrap();
    bench.carry_out("sync", "stock", 2).await;
    advance(&bench.store, Stages::default()).await.unwrap();
    assert_eq!(
        bench.run().await.0,
        "running",
        "the later row is not through"
    );
    // It is due after a backoff, which a start ends.
    work.release_all_at_start().await.unwrap();
    let later = work.claim("sync", "orders", LEASE).await.unwrap().unwrap();
    assert_ne!(later.id, fired.id);
    work.abandon(&later, "no such table").await.unwrap();
    advance(&bench.store, Stages::default()).await.unwrap();
    let (status, rows, error) = bench.run().await;
    assert_eq!(
        (&*status, rows, error.as_deref()),
        ("failed", Some(2), Some("sync orders: no such table"))
    );
}

const WRITE_BACKS: Stages = Stages {
    transform: false,
    metrics: true,
    write_backs: true,
};

#[tokio::test]
async fn a_fire_ends_with_a_pass_of_the_write_backs() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:59:00Z").await;
    bench.clock.advance(SignedDuration::from_mins(2));
    bench.look().await;
    bench.carry_out("sync", "orders", 1).await;
    bench.carry_out("sync", "stock", 1).await;
    advance(&bench.store, WRITE_BACKS).await.unwrap();
    bench.carry_out("refresh_metrics", "", 0).await;
    advance(&bench.store, WRITE_BACKS).await.unwrap();
    let work = bench.store.work();
    let claimed = work.claim("write_back", "", LEASE).await.unwrap().unwrap();
    assert_eq!(claimed.work, WorkKind::WriteBack { pass: true });
    assert_eq!(bench.run().await.0, "running");
    work.abandon(&claimed, "scores: conflict").await.unwrap();
    advance(&bench.store, WRITE_BACKS).await.unwrap();
    let (status, _, error) = bench.run().await;
    assert_eq!(
        (&*status, error.as_deref()),
        ("failed", Some("write_back: scores: conflict"))
    );
}

#[tokio::test]
async fn after_a_failure_nothing_is_written_back() {
    let bench = Bench::new(spec("0 6 * * *", "UTC"), "2026-01-01T05:59:00Z").await;
    bench.clock.advance(SignedDuration::from_mins(2));
    bench.look().await;
    let work = bench.store.work();
    let claimed = work.claim("sync", "orders", LEASE).await.unwrap().unwrap();
    work.abandon(&claimed, "no such table").await.unwrap();
    bench.carry_out("sync", "stock", 1).await;
    advance(&bench.store, WRITE_BACKS).await.unwrap();
    bench.carry_out("refresh_metrics", "", 0).await;
    advance(&bench.store, WRITE_BACKS).await.unwrap();
    assert_eq!(work.claim("write_back", "", LEASE).await.unwrap(), None);
    assert_eq!(bench.run().await.0, "failed");
}
