//! Plan → approve → apply → undo on real databases.

use ballpoint_reverse_etl::{PlanCounts, PlanState, WriteBackError};
use serde_json::json;

use crate::support::{Bench, SYNC, WRITTEN};

#[tokio::test]
async fn a_plan_shows_every_row_and_writes_none() {
    let bench = Bench::new().await;
    let plan = bench.plan().await;
    assert_eq!(plan.state, PlanState::Planned);
    let added = PlanCounts {
        added: 5,
        ..PlanCounts::default()
    };
    assert_eq!(plan.counts, added);
    assert!(
        plan.ddl[0].starts_with("create table \"public\".\"feedback\""),
        "{:?}",
        plan.ddl
    );
    assert_eq!(plan.hash.as_deref().map(str::len), Some(64));
    assert_eq!(bench.rows().await, None, "the target is only read");
    let first = bench.library.rows(plan.id, None, 0, 2).await.unwrap();
    assert_eq!(first[1].key, json!({"id": "a", "part": "2"}));
    assert_eq!(
        first[1].new,
        Some(json!({"score": "12.35", "held": "true", "note": null}))
    );
    let rest = bench
        .library
        .rows(plan.id, Some("added"), first[1].seq, 10)
        .await
        .unwrap();
    assert_eq!(rest.len(), 3);
}

#[tokio::test]
async fn an_approved_plan_is_written_read_back_and_taken_back() {
    let bench = Bench::new().await;
    let applied = bench.applied().await;
    assert_eq!(applied.written, Some(5));
    assert_eq!(applied.read_back.unwrap()["same"], 5);
    assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN));
    let undone = bench.library.undo(applied.id, "bo").await.unwrap();
    assert_eq!((undone.state, undone.written), (PlanState::Undone, Some(5)));
    assert_eq!(bench.rows().await, None, "the table went with its last row");
    let deeds: Vec<String> = bench
        .library
        .history(Some("scores"), 10)
        .await
        .unwrap()
        .into_iter()
        .rev()
        .map(|deed| format!("{} {}", deed.who, deed.action))
        .collect();
    assert_eq!(deeds, ["ana plan", "bo approve", "bo apply", "bo undo"]);
}

#[tokio::test]
async fn what_is_applied_is_not_written_again() {
    let bench = Bench::new().await;
    let applied = bench.applied().await;
    let stamps = "select string_agg(xmin::text, ' ' order by id, part) from public.feedback";
    let before: String = sqlx::query_scalar(stamps)
        .fetch_one(bench.target.pool())
        .await
        .unwrap();
    let again = bench.library.apply(applied.id, "bo").await.unwrap();
    assert_eq!((again.state, again.written), (PlanState::Applied, Some(0)));
    let next = bench.plan().await;
    assert_eq!((next.counts.writes(), next.counts.unchanged), (0, 5));
    let after: String = sqlx::query_scalar(stamps)
        .fetch_one(bench.target.pool())
        .await
        .unwrap();
    assert_eq!(after, before, "no row was touched");
}

#[tokio::test]
async fn changes_go_there_and_back_with_every_old_value() {
    let bench = Bench::new().await;
    bench.applied().await;
    bench
        .target_sql(
            "alter table public.feedback add column remark text default 'theirs';
             update public.feedback set note = 'by hand', score = null where id = 'b'",
        )
        .await;
    let before = bench.rows().await;
    bench
        .warehouse_sql(
            "update marts.scores set score = 1.5, note = null where id = 'a';
             insert into marts.scores values ('e', 1, 3, false, 'new')",
        )
        .await;
    let plan = bench.applied().await;
    let counts = plan.counts;
    assert_eq!((counts.added, counts.changed, counts.unchanged), (1, 3, 2));
    let rows = bench.changed(plan.id).await;
    assert_eq!(
        rows[2].old,
        Some(json!({"score": null, "held": "false", "note": "by hand"}))
    );
    assert_eq!(
        rows[2].new,
        Some(json!({"score": "50.00", "held": "false", "note": ""}))
    );
    let theirs = "select count(*) from public.feedback where remark = 'theirs'";
    let kept: i64 = sqlx::query_scalar(theirs)
        .fetch_one(bench.target.pool())
        .await
        .unwrap();
    assert_eq!(kept, 6, "a column that is not ours is left alone");
    assert_ne!(bench.rows().await, before);
    bench.library.undo(plan.id, "bo").await.unwrap();
    assert_eq!(bench.rows().await, before);
}

#[tokio::test]
async fn rows_that_cannot_be_written_are_told_and_left_out() {
    let bench = Bench::new().await;
    bench
        .warehouse_sql(
            "insert into marts.scores values
               (null, 1, 1, true, 'no id'), ('x', 1, 1000, true, 'too large'),
               ('longer than ten', 1, 1, true, ''), ('y', 3000000000, 1, true, 'wide'),
               ('z', 1, 1, true, 'twice'), ('z', 1, 2, true, 'twice'), ('n', 1, 'NaN', true, '')",
        )
        .await;
    let plan = bench.applied().await;
    assert_eq!((plan.counts.added, plan.counts.invalid), (5, 7));
    assert_eq!(bench.rows().await.as_deref(), Some(WRITTEN));
    let invalid = bench
        .library
        .rows(plan.id, Some("invalid"), 0, 10)
        .await
        .unwrap();
    let mut problems: Vec<String> = invalid.into_iter().filter_map(|row| row.problem).collect();
    problems.sort();
    assert_eq!(
        problems,
        [
            "duplicate key",
            "duplicate key",
            "id: longer than ten does not fit character varying(10)",
            "key column id is null",
            "part: 3000000000 does not fit integer",
            "score: 1000 does not fit numeric(5,2)",
            "score: NaN does not fit numeric(5,2)",
        ]
    );
}

#[tokio::test]
async fn a_mirror_removes_what_it_added_and_nothing_else() {
    let bench = Bench::new().await;
    bench.write(&SYNC.replace("upsert", "mirror"));
    bench.applied().await;
    bench
        .target_sql("insert into public.feedback values ('theirs', 1, 1, true, 'not ours')")
        .await;
    bench
        .warehouse_sql("delete from marts.scores where id in ('a', 'd')")
        .await;
    let before = bench.rows().await;
    let plan = bench.applied().await;
    assert_eq!((plan.counts.removed, plan.counts.unchanged), (3, 2));
    let left = bench.rows().await.unwrap();
    assert!(left.contains("theirs") && !left.contains("(a,"), "{left}");
    bench.library.undo(plan.id, "bo").await.unwrap();
    assert_eq!(bench.rows().await, before);
    bench.warehouse_sql("delete from marts.scores").await;
    bench
        .target_sql("delete from public.feedback where id = 'theirs'")
        .await;
    let refused = bench.refusal().await.to_string();
    assert!(refused.contains("would remove every row"), "{refused}");
}

#[tokio::test]
async fn an_update_adds_nothing() {
    let bench = Bench::new().await;
    bench.applied().await;
    bench.write(
        &SYNC
            .replace("upsert", "update")
            .replace("    create_table: true\n", ""),
    );
    bench
        .warehouse_sql(
            "insert into marts.scores values ('e', 1, 3, false, 'new');
             update marts.scores set score = 2 where id = 'b'",
        )
        .await;
    let plan = bench.applied().await;
    let counts = plan.counts;
    assert_eq!((counts.added, counts.changed, counts.skipped), (0, 1, 1));
    assert!(!bench.rows().await.unwrap().contains("(e,"));
}

#[tokio::test]
async fn a_row_that_changed_since_the_plan_is_a_conflict_and_nothing_is_written() {
    let bench = Bench::new().await;
    bench.applied().await;
    bench
        .warehouse_sql("update marts.scores set score = 5")
        .await;
    let plan = bench.approved().await;
    bench
        .target_sql("update public.feedback set note = 'meanwhile' where id = 'c'")
        .await;
    let before = bench.rows().await;
    let error = bench.library.apply(plan.id, "bo").await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, WriteBackError::Conflict { count: 1, .. }),
        "{text}"
    );
    assert!(text.contains("c / 1"), "{text}");
    assert_eq!(bench.rows().await, before);
    let failed = bench.library.get(plan.id).await.unwrap();
    assert_eq!(failed.state, PlanState::Failed);
    assert_eq!(failed.error.as_deref(), Some(text.as_str()));
}

#[tokio::test]
async fn a_table_or_row_that_appeared_since_the_plan_is_a_conflict() {
    let bench = Bench::new().await;
    let plan = bench.approved().await;
    bench
        .target_sql(
            "create table public.feedback (id varchar(10), part integer, score numeric(5,2),
                 held boolean, note text, primary key (id, part))",
        )
        .await;
    let error = bench
        .library
        .apply(plan.id, "bo")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("exists by now"), "{error}");
    let plan = bench.approved().await;
    bench
        .target_sql("insert into public.feedback values ('a', 1)")
        .await;
    let error = bench
        .library
        .apply(plan.id, "bo")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("a / 1"), "{error}");
    assert_eq!(bench.rows().await.as_deref(), Some("(a,1,,,)"));
}

#[tokio::test]
async fn what_changed_since_the_apply_is_not_undone() {
    let bench = Bench::new().await;
    let plan = bench.applied().await;
    bench
        .target_sql("update public.feedback set score = 1 where id = 'b'")
        .await;
    let before = bench.rows().await;
    let error = bench.library.undo(plan.id, "bo").await.unwrap_err();
    assert!(
        matches!(error, WriteBackError::Conflict { count: 1, .. }),
        "{error}"
    );
    assert_eq!(bench.rows().await, before);
    let kept = bench.library.get(plan.id).await.unwrap();
    assert_eq!(kept.state, PlanState::Applied);
    assert!(kept.error.unwrap().contains("b / 1"));
}

#[tokio::test]
async fn a_trigger_that_alters_what_is_written_stops_the_write() {
    let bench = Bench::new().await;
    bench.applied().await;
    bench
        .target_sql(
            "create function public.alter_it() returns trigger language plpgsql as
                 'begin new.score = 42; return new; end';
             create trigger alter_it before update on public.feedback
                 for each row execute function public.alter_it()",
        )
        .await;
    bench
        .warehouse_sql("update marts.scores set score = 5 where id = 'b'")
        .await;
    let plan = bench.approved().await;
    let before = bench.rows().await;
    let error = bench.library.apply(plan.id, "bo").await.unwrap_err();
    assert!(matches!(error, WriteBackError::Altered { .. }), "{error}");
    assert_eq!(bench.rows().await, before);
}

#[tokio::test]
async fn a_row_that_is_being_added_while_a_plan_is_undone_keeps_the_table() {
    let bench = Bench::new().await;
    let plan = bench.applied().await;
    let mut theirs = bench.target.pool().begin().await.unwrap();
    sqlx::query("insert into public.feedback values ('theirs', 1)")
        .execute(&mut *theirs)
        .await
        .unwrap();
    let library = bench.library.clone();
    let undoing = tokio::spawn(async move { library.undo(plan.id, "bo").await });
    let waits = "select exists (select from pg_locks where not granted
                 and relation = 'public.feedback'::regclass)";
    loop {
        let waits: bool = sqlx::query_scalar(waits)
            .fetch_one(bench.target.pool())
            .await
            .unwrap();
        if waits || undoing.is_finished() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    theirs.commit().await.unwrap();
    let undone = undoing.await.unwrap().unwrap();
    assert_eq!(undone.state, PlanState::Undone);
    assert_eq!(bench.rows().await.as_deref(), Some("(theirs,1,,,)"));
}
