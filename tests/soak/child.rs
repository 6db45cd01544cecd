//! The process that follows, and dies.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ballpoint_loader::Loader;
use ballpoint_loader::changes::{Follower, Until};
use ballpoint_postgres::pool::{PoolOptions, connect};
use ballpoint_runtime::segment::SourceReader;
use ballpoint_runtime::store::Store;
use ballpoint_source::{Mode, PostgresSource, PostgresSourceConfig};
use tokio::process::Command;

use crate::pair::Pair;

const SOURCE: &str = "BALLPOINT_SOAK_SOURCE";
const WAREHOUSE: &str = "BALLPOINT_SOAK_WAREHOUSE";
const ABORT_AT: &str = "BALLPOINT_SOAK_ABORT_AT";
const TASK: &str = "BALLPOINT_SOAK_TASK";
const CONFIRM_EARLY: &str = "BALLPOINT_SOAK_CONFIRM_EARLY";

/// What a child is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// For ever.
    Follow,
    /// The same, with pauses between the ranges of a copy, so that others' changes land meanwhile.
    FollowSlowly,
    /// Until it has everything.
    CatchUp,
}

impl Task {
    const NAMED: [(&str, Self); 3] = [
        ("follow", Self::Follow),
        ("follow slowly", Self::FollowSlowly),
        ("catch up", Self::CatchUp),
    ];

    fn name(self) -> &'static str {
        let mut named = Self::NAMED.iter();
        named.find(|it| it.1 == self).unwrap().0
    }

    fn parse(name: &str) -> Self {
        let mut named = Self::NAMED.iter();
        named.find(|it| it.0 == name).unwrap().1
    }
}

/// What a child is started with.
pub(crate) struct Order {
    source: String,
    warehouse: String,
    abort_at: Option<String>,
    task: Task,
    confirms_early: bool,
}

impl Order {
    /// That of this process; `None` in the parent.
    pub(crate) fn received() -> Option<Self> {
        let of = |name: &str| std::env::var(name).ok();
        Some(Self {
            source: of(SOURCE)?,
            warehouse: of(WAREHOUSE)?,
            abort_at: of(ABORT_AT),
            task: Task::parse(&of(TASK)?),
            confirms_early: of(CONFIRM_EARLY).is_some(),
        })
    }
}

/// Follows the source until killed; or until it has caught up.
pub(crate) async fn follow(order: Order) {
    if let Some(step) = &order.abort_at {
        fail::cfg_callback(step, || std::process::abort()).unwrap();
    }
    let pausing = "loader.range.after_commit";
    if order.task == Task::FollowSlowly && order.abort_at.as_deref() != Some(pausing) {
        fail::cfg(pausing, "sleep(60)").unwrap();
    }
    if order.confirms_early {
        fail::cfg("changes.confirm_early", "return").unwrap();
    }
    let pool = connect(&order.warehouse, PoolOptions::named("soak"))
        .await
        .unwrap();
    let store = Store::open(pool).await.unwrap();
    let mut config = PostgresSourceConfig::new("shop", &order.source);
    config.mode = Some(Mode::Cdc);
    // All but the smallest table have several ranges.
    config.range_pages = 4;
    let reader = PostgresSource::new(config).unwrap();
    let follower = Follower::new(Loader::new(store, "raw"), reader.changes().unwrap());
    if order.task == Task::CatchUp {
        follower.catch_up(&[]).await.unwrap();
        return;
    }
    // A killed predecessor's session ends when its server notices.
    loop {
        match follower.follow(Until::Forever).await {
            Ok(_) => {}
            Err(error) => eprintln!("soak: following again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How a child's life ended.
pub(crate) enum Death {
    /// At the step it was told to.
    Aborted,
    /// By the parent.
    Killed,
    /// Otherwise, which it must not.
    Ended(String),
}

/// A started child; killed when dropped.
pub(crate) struct Child(tokio::process::Child);

impl Child {
    pub(crate) fn start(pair: &Pair, abort_at: Option<&str>, task: Task) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(SOURCE, pair.source.url())
            .env(WAREHOUSE, pair.warehouse.url())
            .env(TASK, task.name())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(step) = abort_at {
            command.env(ABORT_AT, step);
        }
        if task == Task::CatchUp {
            command.env_remove(CONFIRM_EARLY);
        }
        Self(command.spawn().unwrap())
    }

    /// Waits until it dies by its own hand; kills it after `patience`.
    pub(crate) async fn until_aborted(mut self, patience: Duration) -> Death {
        match tokio::time::timeout(patience, self.0.wait()).await {
            Ok(status) => death(status.unwrap()),
            Err(_) => {
                self.0.kill().await.unwrap();
                Death::Killed
            }
        }
    }

    pub(crate) async fn kill_after(mut self, life: Duration) -> Death {
        tokio::time::sleep(life).await;
        if let Some(status) = self.0.try_wait().unwrap() {
            return death(status);
        }
        self.0.kill().await.unwrap();
        Death::Killed
    }

    /// Waits until it has done what it was asked.
    pub(crate) async fn until_done(mut self, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let Ok(status) = tokio::time::timeout(limit, self.0.wait()).await else {
            return Err(format!("catching up took longer than {limit:?}"));
        };
        match status.unwrap() {
            status if status.success() => Ok(()),
            status => Err(format!(
                "catching up ended with {status} after {:?}",
                begun.elapsed()
            )),
        }
    }
}

fn death(status: ExitStatus) -> Death {
    use std::os::unix::process::ExitStatusExt as _;
    const SIGABRT: i32 = 6;
    match status.signal() {
        Some(SIGABRT) => Death::Aborted,
        _ => Death::Ended(status.to_string()),
    }
}
