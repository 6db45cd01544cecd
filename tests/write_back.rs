//! Write-backs of the shipped project end to end: planned, approved, applied and taken back in each
//! source, killed at every step, asked for in words.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Folder, NOW, PATIENCE, Stack, StopCluster, ballpoint, finish, until};

const SOURCES: [&str; 3] = ["refills", "bodies", "springs"];

/// `ballpoint reverse-etl …` or another command, on `data_dir`, without a server.
fn command(data_dir: &Path, args: &[&str]) -> Command {
    let mut command = ballpoint(data_dir);
    command.args(["--json", "--now", NOW]).args(args);
    command
}

/// What a command that works printed.
fn ask(data_dir: &Path, args: &[&str]) -> Value {
    let (code, out, error) = finish(&mut command(data_dir, args));
    assert_eq!(code, 0, "{args:?}: {out}{error}");
    serde_json::from_str(out.trim()).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Rows and an order-free checksum of what a source holds of its feedback; `None` without the table.
async fn feedback(pool: &PgPool) -> Option<(i64, String)> {
    let there: bool =
        sqlx::query_scalar("select to_regclass('public.quality_feedback') is not null")
            .fetch_one(pool)
            .await
            .unwrap();
    if !there {
        return None;
    }
    let held = "select count(*), coalesce(sum(hashtextextended(f::text, 0)::numeric), 0)::text
                from public.quality_feedback f";
    let row = sqlx::query_as(held).persistent(false).fetch_one(pool).await;
    Some(row.unwrap())
}

/// The same as the warehouse's mart wants it.
async fn wanted(warehouse: &PgPool, component: &str) -> (i64, String) {
    sqlx::query_as(
        "select count(*), sum(hashtextextended(row(batch_id, machine_id, quality_score::numeric(5,2),
             defect_share::numeric(5,2), hold)::text, 0)::numeric)::text
         from marts.quality_feedback where component_type = $1",
    )
    .bind(component)
    .fetch_one(warehouse)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_source_gets_its_feedback_and_can_have_it_taken_back() {
    let stack = Stack::start().await;
    let warehouse = stack.pool("warehouse").await;
    for source in SOURCES {
        let pool = stack.pool(source).await;
        let sync = format!("{source}_quality_feedback");
        let (status, plan) = stack
            .post(&format!("/api/write-backs/{sync}/plan"), &json!({}))
            .await;
        assert_eq!((status, text(&plan, "state")), (200, "planned"), "{plan}");
        let expected = wanted(&warehouse, source).await;
        assert_eq!(plan["counts"]["added"], expected.0, "{plan}");
        assert!(
            plan["ddl"][0]
                .as_str()
                .unwrap()
                .contains("quality_feedback")
        );
        assert_eq!(feedback(&pool).await, None, "the plan only reads");
        let path = format!("/api/write-backs/plans/{}", text(&plan, "id"));
        let (status, _) = stack.post(&format!("{path}/apply"), &json!({})).await;
        assert_eq!(status, 409, "not without an approval");
        let other = json!({ "hash": "0".repeat(64) });
        let (status, refused) = stack.post(&format!("{path}/approve"), &other).await;
        assert_eq!(status, 409, "{refused}");
        let approval = json!({ "hash": plan["hash"], "comment": "looks right" });
        let (status, approved) = stack.post(&format!("{path}/approve"), &approval).await;
        assert_eq!(
            (status, text(&approved, "state")),
            (200, "approved"),
            "{approved}"
        );
        let (status, applied) = stack.post(&format!("{path}/apply"), &json!({})).await;
        assert_eq!(
            (status, text(&applied, "state")),
            (200, "applied"),
            "{applied}"
        );
        assert_eq!(applied["read_back"]["same"], expected.0, "{applied}");
        assert_eq!(feedback(&pool).await, Some(expected), "{source}");
        let (_, again) = stack.post(&format!("{path}/apply"), &json!({})).await;
        assert_eq!(again["written"], 0, "{again}");
        let (status, undone) = stack.post(&format!("{path}/undo"), &json!({})).await;
        assert_eq!(
            (status, text(&undone, "state")),
            (200, "undone"),
            "{undone}"
        );
        assert_eq!(feedback(&pool).await, None, "{source}");
    }
    // What was written back is not read again.
    let read_back: bool = sqlx::query_scalar("select to_regclass('raw.quality_feedback') is null")
        .fetch_one(&warehouse)
        .await
        .unwrap();
    assert!(read_back, "the written table is no source");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_words_becomes_a_plan_and_not_a_write() {
    let stack = Stack::start().await;
    let refills = stack.pool("refills").await;
    applied(&stack, "refills_quality_feedback").await;
    let before = feedback(&refills).await;
    let request = json!({ "request": "hold refill batches with more than 5 % ink leaks" });
    let (status, outcome) = until_answered(&stack, &request).await;
    assert_eq!(status, 200, "{outcome}");
    let plan = &outcome["plan"];
    assert_eq!(text(plan, "state"), "planned", "{outcome}");
    assert!(
        text(plan, "reason").contains("Defect Type = ink_leak"),
        "{outcome}"
    );
    assert_eq!(
        feedback(&refills).await,
        before,
        "a proposal writes nothing"
    );
    let held: Vec<String> = sqlx::query_scalar(
        "select batch_id || '/' || machine_id from public.quality_feedback
         where batch_id = any($1) and not hold",
    )
    .bind(leaking(&refills).await)
    .fetch_all(&refills)
    .await
    .unwrap();
    assert_eq!(plan["counts"]["changed"], held.len(), "{plan}");
    decided(&stack, plan).await;
    let open: i64 = sqlx::query_scalar(
        "select count(*) from public.quality_feedback where batch_id = any($1) and not hold",
    )
    .bind(leaking(&refills).await)
    .fetch_one(&refills)
    .await
    .unwrap();
    assert_eq!(open, 0, "every leaking batch is held");
    let vague = json!({ "request": "hold the worst refill batches" });
    let (status, refused) = stack.post("/api/write-backs/propose", &vague).await;
    assert_eq!(status, 200, "{refused}");
    assert!(text(&refused, "refusal").contains("worst"), "{refused}");
    let path = format!("/api/write-backs/plans/{}/undo", text(plan, "id"));
    let (_, undone) = stack.post(&path, &json!({})).await;
    assert_eq!(text(&undone, "state"), "undone", "{undone}");
    assert_eq!(feedback(&refills).await, before);
}

/// Batches in whose units ink leaks are more than 5 %, by plain SQL over the source.
async fn leaking(refills: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "select batch_id from public.refills_production group by batch_id
         having 100.0 * count(*) filter (where defect_type = 'ink_leak') / count(*) > 5",
    )
    .fetch_all(refills)
    .await
    .unwrap()
}

/// Asks again while the metrics have not been surveyed.
async fn until_answered(stack: &Stack, request: &Value) -> (u16, Value) {
    until("the agent reads the request", PATIENCE, || async {
        let (status, outcome) = stack.post("/api/write-backs/propose", request).await;
        (status == 200 && outcome["plan"].is_object()).then_some((status, outcome))
    })
    .await
}

async fn applied(stack: &Stack, sync: &str) {
    let path = format!("/api/write-backs/{sync}/plan");
    let (_, plan) = stack.post(&path, &json!({})).await;
    decided(stack, &plan).await;
}

async fn decided(stack: &Stack, plan: &Value) {
    let path = format!("/api/write-backs/plans/{}", text(plan, "id"));
    let approval = json!({ "hash": plan["hash"] });
    let (status, approved) = stack.post(&format!("{path}/approve"), &approval).await;
    assert_eq!(status, 200, "{approved}");
    let (status, applied) = stack.post(&format!("{path}/apply"), &json!({})).await;
    assert_eq!(
        (status, text(&applied, "state")),
        (200, "applied"),
        "{applied}"
    );
}

async fn connect(url: &str) -> PgPool {
    PgPool::connect(url).await.unwrap()
}

/// Steps at which the program is killed, and whether the target is as planned by then.
const STEPS: [(&str, bool); 7] = [
    ("reverse_etl.before_intent", false),
    ("reverse_etl.after_intent", false),
    ("reverse_etl.mid_write", false),
    ("reverse_etl.before_commit", false),
    ("reverse_etl.after_commit", true),
    ("reverse_etl.after_read_back", true),
    ("reverse_etl.after_record", true),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_each_step_leaves_the_target_as_before_or_as_planned() {
    let folder = Folder::new();
    let data_dir = folder.path().join("data");
    let mut stack = Stack::launch(&data_dir, |_| {}).leaving_its_cluster();
    let _cluster = StopCluster(data_dir.clone());
    stack.until_ready().await;
    // Port and password stay with the data dir.
    let urls = stack.databases().await;
    stack.kill();
    drop(stack);
    // The pass finds a plan for each source, and applies none.
    let pass = ask(&data_dir, &["run"]);
    let waiting = pass["write_backs"].as_array().unwrap();
    assert_eq!(waiting.len(), SOURCES.len(), "{pass}");
    assert!(
        waiting.iter().all(|it| it["outcome"] == "planned"),
        "{pass}"
    );
    for (at, (step, is_written)) in STEPS.into_iter().enumerate() {
        let source = SOURCES[at % SOURCES.len()];
        let sync = format!("{source}_quality_feedback");
        ask(&data_dir, &["reverse-etl", "plan", &sync]);
        let approved = ask(&data_dir, &["reverse-etl", "approve", &sync]);
        let plan = &approved["plans"][0];
        let planned = plan["counts"]["added"].as_i64().unwrap();
        assert!(planned > 0, "{step}: {plan}");
        let mut dying = command(&data_dir, &["reverse-etl", "apply", text(plan, "id")]);
        let (code, out, _) = finish(dying.env("BALLPOINT_ABORT_AT", step));
        assert_eq!(code, -1, "{step}: killed by a signal, not ended: {out}");
        // The cluster is an orphan now, and shows what the kill left.
        let left = feedback(&connect(&urls[source]).await).await;
        let expected = wanted(&connect(&urls["warehouse"]).await, source).await;
        assert_eq!(left, is_written.then_some(expected), "{step}");
        // The next start settles it, before anything else is done.
        let history = ask(&data_dir, &["reverse-etl", "history", &sync]);
        let settled = &history["plans"][0];
        assert_eq!(text(settled, "state"), "applied", "{step}: {settled}");
        assert_eq!(settled["written"], planned, "{step}");
        let applies = history["audit"].as_array().unwrap().iter();
        let applies =
            applies.filter(|deed| deed["plan_id"] == plan["id"] && deed["action"] == "apply");
        assert_eq!(applies.count(), 1, "{step}: done once, told once");
        println!(
            "{step}: written at the kill: {is_written}; {planned} rows, once, after the start"
        );
        let undone = ask(&data_dir, &["reverse-etl", "undo", text(plan, "id")]);
        assert_eq!(undone["plans"][0]["written"], planned, "{step}");
    }
    tell_usage_errors(&data_dir, "refills_quality_feedback");
}

/// What a user got wrong has exit code 2, whoever answers. The sync's latest plan is not planned.
fn tell_usage_errors(data_dir: &Path, sync: &str) {
    let history = ask(data_dir, &["reverse-etl", "history", sync]);
    let plan = text(&history["plans"][0], "id").to_owned();
    for (args, said) in [
        (vec!["plan", "nosuch"], "no sync nosuch"),
        (
            vec!["apply", "00000000-0000-0000-0000-000000000000"],
            "no plan",
        ),
        (
            vec!["approve", &plan, "--hash", "00000000"],
            "look at it again",
        ),
        (vec!["reject", &plan], "it cannot be rejected"),
        (vec!["propose", "hold the worst refill batches"], "worst"),
    ] {
        let all: Vec<&str> = ["reverse-etl"].into_iter().chain(args).collect();
        let (code, _, error) = finish(&mut command(data_dir, &all));
        assert_eq!(code, 2, "{all:?}: {error}");
        assert!(error.contains(said), "{all:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_reaches_the_running_system_and_tells_a_conflict() {
    let stack = Stack::start().await;
    let (data_dir, springs) = (stack.data_dir(), stack.pool("springs").await);
    let sync = "springs_quality_feedback";
    let run = ask(data_dir, &["run"]);
    assert_eq!(run["write_backs"][2]["outcome"], "planned", "{run}");
    let again = ask(data_dir, &["run"]);
    assert_eq!(again["write_backs"][2]["outcome"], "nothing_new", "{again}");
    ask(data_dir, &["reverse-etl", "approve", sync]);
    let applied = ask(data_dir, &["reverse-etl", "apply", sync]);
    let rows = applied["plans"][0]["written"].as_i64().unwrap();
    assert_eq!(feedback(&springs).await.map(|(count, _)| count), Some(rows));
    let request = "hold spring batches with a pass rate below 90 %";
    let proposed = ask(data_dir, &["reverse-etl", "propose", request]);
    let plan = text(&proposed["plans"][0], "id").to_owned();
    let hash = text(&proposed["plans"][0], "hash").to_owned();
    let (code, _, error) = finish(&mut command(
        data_dir,
        &["reverse-etl", "approve", &plan, "--hash", "00000000"],
    ));
    assert_ne!(code, 0);
    assert!(error.contains("look at it again"), "{error}");
    ask(
        data_dir,
        &["reverse-etl", "approve", &plan, "--hash", &hash[..12]],
    );
    let shown = ask(data_dir, &["reverse-etl", "show", &plan, "--limit", "1"]);
    let key = &shown["rows"][0]["key"];
    sqlx::query("update public.quality_feedback set defect_share = 99 where batch_id = $1 and machine_id = $2")
        .bind(text(key, "batch_id"))
        .bind(text(key, "machine_id"))
        .execute(&springs)
        .await
        .unwrap();
    let before = feedback(&springs).await;
    let (code, out, _) = finish(&mut command(data_dir, &["reverse-etl", "apply", &plan]));
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("changed since the plan, nothing was written"),
        "{out}"
    );
    assert!(out.contains(text(key, "batch_id")), "{out}");
    assert_eq!(
        feedback(&springs).await,
        before,
        "a conflict is not overwritten"
    );
    let (code, _, error) = finish(&mut command(data_dir, &["reverse-etl", "undo", "nothing"]));
    assert_eq!(code, 2, "{error}");
    let history = ask(data_dir, &["reverse-etl", "history", sync]);
    assert_eq!(text(&history["plans"][0], "state"), "failed", "{history}");
    let deed = &history["audit"][0];
    assert_eq!(text(deed, "action"), "apply failed", "{history}");
    let refills = "refills_quality_feedback";
    ask(data_dir, &["reverse-etl", "reject", refills]);
    tell_usage_errors(data_dir, refills);
}

#[test]
fn a_check_warns_of_a_table_that_is_written_and_read_back() {
    let folder = Folder::new();
    let syncs = Path::new(env!("CARGO_MANIFEST_DIR")).join("warehouse/syncs");
    let mut config = format!("[reverse_etl]\npath = \"{}\"\n", syncs.display());
    for source in SOURCES {
        config += &format!("[sources.{source}]\nkind = \"postgres\"\n");
    }
    std::fs::write(folder.path().join("ballpoint.toml"), &config).unwrap();
    let check = |folder: &Folder| {
        let mut command = ballpoint(&folder.path().join("data"));
        finish(command.arg("check").arg("--project").arg(folder.path()))
    };
    let (code, out, error) = check(&folder);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("write-backs: 3 syncs"), "{out}");
    assert!(
        error.contains("add \"!public.quality_feedback\" to its tables"),
        "{error}"
    );
    let left_out = "tables = [\"public.*\", \"!public.quality_feedback\"]\n";
    let quiet = config.replace(
        "kind = \"postgres\"\n",
        &format!("kind = \"postgres\"\n{left_out}"),
    );
    std::fs::write(folder.path().join("ballpoint.toml"), quiet).unwrap();
    let (_, _, error) = check(&folder);
    assert!(!error.contains("warning"), "{error}");
    let unknown = config.replace("[sources.springs]", "[sources.coils]");
    std::fs::write(folder.path().join("ballpoint.toml"), unknown).unwrap();
    let (code, _, error) = check(&folder);
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains(
            "syncs/springs_quality_feedback.yml:7: sync springs_quality_feedback: no source springs"
        ),
        "{error}"
    );
}
