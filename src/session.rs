//! How a command reaches the system: the running one if there is one, else its own.

use std::sync::Arc;

use ballpoint_postgres::lock::DataDirLock;
use ballpoint_runtime::clock::Clock;
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::Store;

use sqlx::PgPool;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::config::Project;
use crate::databases::Databases;
use crate::remote::Remote;
use crate::{shipped, stages};

/// Held by a command while it works.
pub(crate) enum Session {
    /// `up` runs on this data dir: it does the work.
    Running(Remote),
    /// Nothing runs: this process is the system until it ends.
    Own(Box<Own>),
}

/// The databases and the store, opened by this process.
pub(crate) struct Own {
    _lock: DataDirLock,
    pub(crate) project: Arc<Project>,
    pub(crate) databases: Databases,
    pub(crate) store: Store,
    /// History that is too old goes while the command works.
    pruning: JoinHandle<()>,
    queries: OnceCell<PgPool>,
    pub(crate) clock: Clock,
}

impl Session {
    /// Forwards to the running system, or opens the project here, seeding what the project says.
    ///
    /// # Errors
    /// When the data dir, a database or the store cannot be opened.
    pub(crate) async fn open(
        project: Arc<Project>,
        clock: Clock,
        seed: u64,
    ) -> anyhow::Result<Self> {
        match DataDirLock::acquire(&project.data_dir)? {
            None => Ok(Self::Running(Remote::of(&project.data_dir)?)),
            Some(lock) => Ok(Self::Own(Box::new(
                Own::open(lock, project, clock, seed).await?,
            ))),
        }
    }
}

impl Own {
    /// Opens everything that a stage needs.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) async fn open(
        lock: DataDirLock,
        project: Arc<Project>,
        clock: Clock,
        seed: u64,
    ) -> anyhow::Result<Self> {
        if project.is_shipped {
            shipped::lay_out(&project.folder)?;
        }
        // What an earlier server wrote is stale: this process holds the lock.
        ballpoint_postgres::cluster::data_dir::write_section(
            &project.data_dir,
            crate::remote::SERVER_SECTION,
            serde_json::Value::Null,
        )?;
        let databases = Databases::open(&project).await?;
        databases
            .fill_empty_sources(&project, None, seed, clock.business_now())
            .await?;
        let opening = async {
            let store = Store::open(databases.warehouse().await?).await?;
            let store = store.with_retries(project.config.retries.policy());
            store.recover().await?;
            anyhow::Ok(store)
        };
        let comparing = stages::check_collisions(&project, &databases);
        let (store, ()) = tokio::try_join!(opening, comparing)?;
        Ok(Self {
            _lock: lock,
            project,
            databases,
            pruning: tokio::spawn(pruned(store.clone())),
            store,
            queries: OnceCell::new(),
            clock,
        })
    }

    /// The warehouse, to read and nothing else: what queries run on. Its role is made, and given its
    /// rights, when first asked for: a command that only loads and builds does without.
    ///
    /// # Errors
    /// When the warehouse refuses.
    pub(crate) async fn queries(&self) -> anyhow::Result<PgPool> {
        let open = || async {
            if self.project.config.metrics.is_none() {
                return Ok(self.store.pool().clone());
            }
            let schemas = || stages::query_schemas(&self.project, &self.databases);
            self.databases.queries(&self.project, schemas).await
        };
        self.queries.get_or_try_init(open).await.cloned()
    }

    /// Ends what this process started.
    ///
    /// # Errors
    /// When the cluster does not end.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        // It tells its failures itself.
        let _ = self.pruning.await;
        if let Some(queries) = self.queries.get() {
            queries.close().await;
        }
        self.store.pool().close().await;
        self.databases.stop().await
    }
}

/// A prune that fails is made up for by the next.
async fn pruned(store: Store) {
    if let Err(error) = store.prune().await {
        tracing::warn!(error = %in_one_line(&error), "history could not be pruned");
    }
}
