//! A database of its own, a project copied to a folder of its own, and dbt commands on both.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::clock::Clock;
use ballpoint_transformer::cli::{self, CliEnv};
use ballpoint_transformer::{LoadOptions, Project, Target};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

pub struct Workbench {
    pub database: TestDatabase,
    pub folder: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
}

pub const ORDERS: &str = "create schema raw;
    create table raw.orders (id int, country text, cents int, ordered_at timestamp, loaded_at timestamptz);
    insert into raw.orders values
        (1, 'de', 1050, '2026-01-01 10:00', '2026-01-01 11:00+00'),
        (2, 'fr', 250, '2026-01-01 12:00', '2026-01-01 13:00+00'),
        (3, 'de', 999, '2026-01-02 09:00', '2026-01-02 10:00+00');";

impl Workbench {
    /// A copy of `tests/projects/<name>` and an empty database.
    pub async fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/projects")
                .join(name),
            folder.path(),
        );
        Self {
            database: TestDatabase::create().await,
            folder,
            lines: Arc::default(),
        }
    }

    pub async fn shop() -> Self {
        let bench = Self::new("shop").await;
        bench.sql(ORDERS).await;
        bench
    }

    /// The raw orders of the shop, and nothing but these models in the project.
    pub async fn only(models: &[(&str, &str)]) -> Self {
        let bench = Self::shop().await;
        for folder in ["models", "seeds", "tests"] {
            std::fs::remove_dir_all(bench.folder.path().join(folder)).unwrap();
        }
        bench.write(
            "models/sources.yml",
            "sources: [{name: app, schema: raw, tables: [{name: orders}, {name: not_landed}]}]",
        );
        for (file, text) in models {
            bench.write(&format!("models/{file}"), text);
        }
        bench
    }

    pub async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    pub async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text")))
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn target(&self) -> Target {
        Target::from_url(self.database.url(), "analytics").unwrap()
    }

    pub fn options(&self) -> LoadOptions {
        LoadOptions::new(self.folder.path(), self.target())
    }

    pub fn load(&self) -> Arc<Project> {
        Arc::new(Project::load(&self.options()).unwrap())
    }

    pub fn env(&self) -> CliEnv {
        let lines = self.lines.clone();
        CliEnv {
            default_target: Some(self.target()),
            out: Arc::new(move |line| lines.lock().unwrap().push(line.to_owned())),
            ..lent(self.folder.path())
        }
    }

    /// Runs a command; its exit code and its output.
    pub async fn dbt(&self, args: &str) -> (u8, String) {
        self.lines.lock().unwrap().clear();
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let code = cli::run(&args, &self.env()).await;
        (code, self.lines.lock().unwrap().join("\n"))
    }

    pub fn artifact(&self, name: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.folder.path().join("target").join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// What a command in `folder` is lent, with nobody who listens.
pub fn lent(folder: &Path) -> CliEnv {
    CliEnv {
        env: HashMap::new(),
        working_dir: folder.to_owned(),
        default_target: None,
        default_project_dir: None,
        clock: Clock::system(),
        cancel: CancellationToken::new(),
        out: Arc::new(|_| {}),
    }
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (source, target): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)
        } else {
            std::fs::copy(source, target).map(|_| ()).unwrap()
        }
    }
}

/// The business time of the shipped seeds.
pub const NOW: &str = "2026-03-31T10:00:00Z";

/// The shipped project.
pub fn warehouse() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../warehouse")
}

/// The shipped sources, `rows` each, as the loader lands them in `raw`.
pub async fn land_pens(database: &TestDatabase, rows: u64) {
    let mut conn = database.pool().acquire().await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../seeds");
    for source in ["refills", "bodies", "springs"] {
        let read = |file: &str| std::fs::read_to_string(root.join(source).join(file)).unwrap();
        let files = ballpoint_seeds::SeedFiles {
            directory: format!("seeds/{source}"),
            schema_sql: read("schema.sql"),
            generator_yml: read("generator.yml"),
        };
        ballpoint_seeds::fill(&mut conn, &files, rows, 42, NOW.parse().unwrap())
            .await
            .unwrap();
        let land = format!(
            "create schema if not exists raw;
             alter table public.{source}_production set schema raw;
             alter table raw.{source}_production
                 add _airbyte_extracted_at timestamptz default '2026-03-31 09:00+00',
                 add _airbyte_generation_id bigint default 0, add _ab_cdc_lsn pg_lsn,
                 add _ab_cdc_deleted_at timestamptz"
        );
        sqlx::raw_sql(AssertSqlSafe(land))
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}
