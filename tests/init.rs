//! `init`: from a database that nobody has described to right answers, with no hand edit.
//!
//! Right is what plain SQL on the source says.

mod cases;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ballpoint_postgres::testing::TestDatabase;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Row};

use self::cases::{Case, ODD, SCHOOL, SENSORS, SHOP, sensors};
use crate::support::{Folder, Stack, ballpoint, finish, until};

/// For a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(300);

/// One journey after the other: their times are told.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A database filled by a script.
struct Sample(TestDatabase);

impl Sample {
    async fn new(sql: &str) -> Self {
        let database = TestDatabase::create().await;
        let script = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(script)
            .execute(database.pool())
            .await
            .unwrap();
        Self(database)
    }

    /// A name for a role, which belongs to the whole server, that no other test gives.
    fn role(&self) -> String {
        let url = self.0.url().split('?').next().unwrap();
        url.rsplit_once('/').unwrap().1.replace("test_", "reader_")
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(self.0.pool())
            .await
            .unwrap()
    }

    /// Rows that PostgreSQL's statistics have heard of: they come late.
    async fn rows_counted(&self) -> i64 {
        self.number("select sum(n_tup_ins)::bigint from pg_stat_user_tables")
            .await
    }

    /// Rows that are there.
    async fn rows(&self) -> i64 {
        self.number(
            "select sum((xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %s',
             c.oid::regclass), false, true, '')))[1]::text::bigint)::bigint
             from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace",
        )
        .await
    }

    /// Everything that a write would move: objects, rights, slots, and changes counted per table.
    async fn traces(&self) -> String {
        const SQL: &str = "select string_agg(t, '|' order by t) from (
            select 'c' || c.oid || c.relname || coalesce(c.relacl::text, '') || c.relfilenode
              from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_'
            union all select 'n' || oid || nspname || coalesce(nspacl::text, '') from pg_namespace where nspname !~ '^pg_t'
            union all select 'p' || oid || proname from pg_proc where oid >= 16384
            union all select 's' || slot_name from pg_replication_slots where database = current_database()
            union all select 'b' || pubname from pg_publication
            union all select 'w' || relname || n_tup_ins || ',' || n_tup_upd || ',' || n_tup_del from pg_stat_user_tables) x(t)";
        sqlx::query_scalar(SQL)
            .fetch_one(self.0.pool())
            .await
            .unwrap()
    }
}

/// Rows as text, numbers in one form, each row's cells and the rows in one order.
fn canonical(rows: impl IntoIterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let cell = |text: String| match text.parse::<f64>() {
        Ok(number) => format!("{number:.6}"),
        Err(_) => text.trim_end_matches("T00:00:00.000").to_owned(),
    };
    let mut rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let mut cells: Vec<String> = row.into_iter().map(cell).collect();
            cells.sort();
            cells
        })
        .collect();
    rows.sort();
    rows
}

async fn oracle(pool: &PgPool, sql: &str) -> Vec<Vec<String>> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(pool)
        .await
        .unwrap();
    let text = |row: &sqlx::postgres::PgRow| -> Vec<String> {
        (0..row.len())
            .map(|at| row.try_get_raw(at).unwrap().as_str().unwrap().to_owned())
            .collect()
    };
    canonical(rows.iter().map(text))
}

fn answered(answer: &Value) -> Vec<Vec<String>> {
    let rows = answer["rows"].as_array().into_iter().flatten();
    canonical(rows.map(|row| {
        let cells = row.as_object().unwrap().iter();
        // A time comes twice: at its step, and as its own member.
        let cells = cells.filter(|(key, _)| {
            !row.as_object()
                .unwrap()
                .keys()
                .any(|other| other.starts_with(&format!("{key}.")))
        });
        cells
            .map(|(_, cell)| {
                cell.as_str()
                    .map_or_else(|| cell.to_string(), str::to_owned)
            })
            .collect()
    }))
}

/// Init, check, up and every question; prints how long the first right answer took.
async fn journey(name: &str, url: &str, source: &PgPool, cases: &[Case]) {
    let _alone = ALONE.lock().await;
    let begun = Instant::now();
    let folder = Folder::new();
    let project = folder.path().join(name);
    let data_dir = folder.path().join("data");
    let (code, stdout, stderr) = finish(
        ballpoint(&data_dir)
            .arg("init")
            .arg(&project)
            .args(["--source", url]),
    );
    assert_eq!(code, 0, "{stderr}");
    let made = begun.elapsed();
    let at = |command: &mut std::process::Command| {
        command.arg("--project").arg(&project);
    };
    let mut check = ballpoint(&data_dir);
    at(check.arg("check"));
    let (code, _, stderr) = finish(&mut check);
    assert_eq!(code, 0, "{name}: check: {stderr}");
    let checked = begun.elapsed();
    let stack = Stack::launch(&data_dir, |command| at(command));
    until("the first pass is through", PATIENCE, || async {
        (stack.get("/readyz").await.0 == 200).then_some(())
    })
    .await;
    let (_, ready) = stack.get("/readyz").await;
    assert!(
        ready["degraded"].as_array().is_none_or(Vec::is_empty),
        "{name}: {ready}"
    );
    let mut wrong = Vec::new();
    let mut first = None;
    for (question, sql) in cases {
        let answer = stack.ask(question).await;
        let (expected, found) = (oracle(source, sql).await, answered(&answer));
        if answer["behaviour"] == "answer" && found == expected {
            first.get_or_insert_with(|| begun.elapsed());
        } else {
            wrong.push(format!(
                "{question}\n  expected {expected:?}\n  found {found:?}\n  said {} {}\n  query {}",
                answer["behaviour"], answer["answer"], answer["query"]
            ));
        }
    }
    println!(
        "{name}: init {:.1} s, check at {:.1} s, first right answer at {:.1} s, {} of {} questions right",
        made.as_secs_f64(),
        checked.as_secs_f64(),
        first.unwrap_or_default().as_secs_f64(),
        cases.len() - wrong.len(),
        cases.len()
    );
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    // What the README shows answers too.
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let examples: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.split_once("ask --project . \"")?.1.strip_suffix('"'))
        .collect();
    assert_eq!(examples.len(), 5, "{readme}");
    for question in examples {
        let answer = stack.ask(question).await;
        assert_eq!(answer["behaviour"], "answer", "{question}: {answer}");
        assert!(
            !answer["rows"].as_array().unwrap().is_empty(),
            "{question}: {answer}"
        );
    }
    assert!(stdout.contains("ballpoint up"), "{stdout}");
}

#[tokio::test]
async fn a_shop_answers_without_a_hand_edit() {
    let shop = Sample::new(include_str!("init/shop.sql")).await;
    journey("shop", shop.0.url(), shop.0.pool(), SHOP).await;
}

#[tokio::test]
async fn fifty_tables_of_sensors_answer_without_a_hand_edit() {
    let database = Sample::new(&sensors()).await;
    journey("sensors", database.0.url(), database.0.pool(), SENSORS).await;
}

#[tokio::test]
async fn a_school_answers_a_role_that_can_only_read() {
    let school = Sample::new(include_str!("init/school.sql")).await;
    let role = school.role();
    // A password with every character that a URL gives a meaning to.
    let grants = format!(
        "create role {role} login password 'p@ss:w/o?rd#1%&= ß${{x}}';
         revoke all on schema public from public; grant usage on schema public to {role};
         grant select on all tables in schema public to {role};
         revoke all on \"Salaries\" from {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(school.0.pool())
        .await
        .unwrap();
    let host = school.0.url().rsplit_once('@').unwrap().1;
    let password = "p%40ss%3Aw%2Fo%3Frd%231%25%26%3D%20%C3%9F$%7Bx%7D";
    let url = format!("postgres://{role}:{password}@{host}");
    let reader = PgPool::connect(&url).await.unwrap();
    for write in [
        "create table x ()",
        "delete from \"Grades\"",
        "create schema s",
    ] {
        assert!(
            sqlx::raw_sql(write).execute(&reader).await.is_err(),
            "the role cannot: {write}"
        );
    }
    reader.close().await;
    until("what was filled in is counted", PATIENCE, || async {
        let counted = school.rows_counted().await == school.rows().await;
        counted.then_some(())
    })
    .await;
    let before = school.traces().await;
    journey("school", &url, school.0.pool(), SCHOOL).await;
    assert_eq!(
        school.traces().await,
        before,
        "nothing was written to the source"
    );
    let gone = format!("drop owned by {role}; drop role {role}");
    sqlx::raw_sql(AssertSqlSafe(gone))
        .execute(school.0.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn odd_names_types_and_keys_are_taken_as_they_are() {
    let odd = Sample::new(include_str!("init/odd.sql")).await;
    journey("odd", odd.0.url(), odd.0.pool(), ODD).await;
}

/// Runs `init`; the code and what it said.
fn init(data_dir: &Path, project: &Path, sources: &[&str]) -> (i32, String) {
    let mut command = ballpoint(data_dir);
    command.arg("init").arg(project);
    for source in sources {
        command.args(["--source", source]);
    }
    let (code, _, stderr) = finish(&mut command);
    (code, stderr)
}

fn error_line(stderr: &str) -> &str {
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "one line says what is wrong:\n{stderr}");
    errors[0]
}

#[tokio::test]
async fn what_cannot_be_made_is_said_in_one_line_and_leaves_nothing() {
    let folder = Folder::new();
    let (data, project) = (folder.path().join("data"), folder.path().join("project"));
    let empty = TestDatabase::create().await;

    // A port that no other test can be given.
    let dead = "127.0.0.1:1";
    let (code, stderr) = init(
        &data,
        &project,
        &[&format!("postgres://u:hidden@{dead}/shop")],
    );
    assert_eq!(code, 1, "{stderr}");
    assert!(error_line(&stderr).contains(dead), "{stderr}");
    assert!(!stderr.contains("hidden"), "{stderr}");

    let (code, stderr) = init(&data, &project, &[empty.url()]);
    assert_eq!(code, 1, "{stderr}");
    assert!(error_line(&stderr).contains("has no tables"), "{stderr}");

    let (code, stderr) = init(&data, &project, &["mysql://u:hidden@h/shop"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(error_line(&stderr).contains("postgres://"), "{stderr}");
    assert!(!stderr.contains("hidden"), "{stderr}");

    let (code, stderr) = init(&data, &project, &[]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--source"), "{stderr}");

    sqlx::raw_sql("create table t (id int)")
        .execute(empty.pool())
        .await
        .unwrap();
    let (code, stderr) = init(&data, &project, &[empty.url(), empty.url()]);
    assert_eq!(code, 2, "{stderr}");
    assert!(error_line(&stderr).contains("twice"), "{stderr}");
    assert!(!project.exists(), "nothing was made");

    fs::create_dir(&project).unwrap();
    fs::write(project.join("mine.txt"), "kept").unwrap();
    let (code, stderr) = init(&data, &project, &[empty.url()]);
    assert_eq!(code, 2, "{stderr}");
    assert!(error_line(&stderr).contains("is not empty"), "{stderr}");
    let left: Vec<_> = fs::read_dir(&project)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left, ["mine.txt"]);
}

#[tokio::test]
async fn a_role_without_rights_is_told_which_it_lacks() {
    let poor = Sample::new("create table t (id int)").await;
    let (database, role) = (&poor.0, poor.role());
    let setup = format!("create role {role} login password 'p'");
    sqlx::raw_sql(AssertSqlSafe(setup))
        .execute(database.pool())
        .await
        .unwrap();
    let host = database.url().rsplit_once('@').unwrap().1;
    let folder = Folder::new();
    let (data, project) = (folder.path().join("data"), folder.path().join("project"));
    let url = format!("postgres://{role}:p@{host}");
    let (code, stderr) = init(&data, &project, &[&url]);
    assert_eq!(code, 1, "{stderr}");
    assert!(error_line(&stderr).contains("GRANT SELECT"), "{stderr}");
    assert!(stderr.contains("public.t is left out"), "{stderr}");
    let (code, stderr) = init(&data, &project, &[&url.replace(":p@", ":wrong@")]);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        error_line(&stderr).contains("password authentication failed"),
        "{stderr}"
    );
    assert!(!stderr.contains("wrong"), "{stderr}");
    let gone = format!("drop role {role}");
    sqlx::raw_sql(AssertSqlSafe(gone))
        .execute(database.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn databases_with_tables_of_one_name_land_apart_and_secrets_stay_in_one_file() {
    let (one, two) = (TestDatabase::create().await, TestDatabase::create().await);
    let items =
        "create table items (id int primary key, label text); insert into items values (1, 'a')";
    for database in [&one, &two] {
        sqlx::raw_sql(items).execute(database.pool()).await.unwrap();
    }
    let folder = Folder::new();
    let (data, project) = (folder.path().join("data"), folder.path().join("both"));
    let (code, stderr) = init(&data, &project, &[one.url(), two.url()]);
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = finish(ballpoint(&data).arg("--project").arg(&project).arg("run"));
    assert_eq!(code, 0, "{stdout}{stderr}");

    let mode = fs::metadata(project.join(".env"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ignored = fs::read_to_string(project.join(".gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == ".env"), "{ignored}");
    let secret = one
        .url()
        .rsplit_once('@')
        .unwrap()
        .0
        .rsplit_once(':')
        .unwrap()
        .1;
    for (path, text) in files(&project) {
        assert_eq!(
            text.contains(secret),
            path.ends_with(".env"),
            "{}",
            path.display()
        );
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()) {
        if entry.is_dir() {
            out.extend(files(&entry));
        } else {
            out.insert(entry.clone(), fs::read_to_string(&entry).unwrap());
        }
    }
    out
}
