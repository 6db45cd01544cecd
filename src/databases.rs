//! Where each database of a project is: at its configured URL, or on the embedded cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use ballpoint_postgres::cluster::{Cluster, ClusterOptions};
use ballpoint_postgres::ident::IDENT_BYTES_MAX;
use ballpoint_postgres::pool::{self, PoolOptions};
use ballpoint_postgres::roles::{self, QueryRole, RoleError, Scope};
use ballpoint_seeds::SeedFiles;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;

use crate::config::{Project, SourceKind};
use crate::output;

/// The warehouse's name among the databases.
pub(crate) const WAREHOUSE: &str = "warehouse";

/// The databases of a project, reachable.
pub(crate) struct Databases {
    /// `None` when every database has a URL of its own.
    cluster: Option<Mutex<Cluster>>,
    embedded: ClusterOptions,
    urls: BTreeMap<String, String>,
}

impl Databases {
    /// Brings the embedded cluster up if any database needs it. The caller holds the data dir's lock.
    ///
    /// # Errors
    /// When the cluster cannot be started.
    pub(crate) async fn open(project: &Project) -> anyhow::Result<Self> {
        let config = &project.config;
        let mut urls = BTreeMap::new();
        let mut embedded = Vec::new();
        // Files and connectors have no database.
        let configured = config
            .sources
            .iter()
            .filter(|(_, source)| source.kind == SourceKind::Postgres)
            .map(|(name, source)| (name.as_str(), &source.url));
        for (name, url) in configured.chain([(WAREHOUSE, &config.warehouse.url)]) {
            match url {
                Some(url) => {
                    urls.insert(name.to_owned(), url.clone());
                }
                None => embedded.push(name.to_owned()),
            }
        }
        let mut cluster = None;
        let options = ClusterOptions::new(&project.data_dir, embedded.clone());
        if !embedded.is_empty() {
            let opened = Cluster::open(&options).await?;
            urls.extend(embedded.into_iter().map(|name| {
                let url = opened.url(&name);
                (name, url)
            }));
            cluster = Some(Mutex::new(opened));
        }
        Ok(Self {
            cluster,
            embedded: options,
            urls,
        })
    }

    /// Starts the embedded cluster again whenever it dies; never returns. Port and password stay,
    /// so every pool finds it again by itself.
    pub(crate) async fn keep_running(&self) {
        let Some(cluster) = &self.cluster else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(CLUSTER_LOOK_INTERVAL).await;
            let mut cluster = cluster.lock().await;
            if cluster.is_running() {
                continue;
            }
            tracing::warn!("the embedded PostgreSQL has died and is started again");
            match Cluster::open(&self.embedded).await {
                Ok(started) => *cluster = started,
                Err(error) => tracing::error!(%error, "the embedded PostgreSQL cannot be started"),
            }
        }
    }

    /// The connection URL of a source, or of [`WAREHOUSE`].
    pub(crate) fn url(&self, name: &str) -> anyhow::Result<&str> {
        self.urls
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no database {name}"))
    }

    /// Name → URL, passwords included: for the data dir's owner only.
    pub(crate) fn urls(&self) -> &BTreeMap<String, String> {
        &self.urls
    }

    /// A pool on the warehouse.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(crate) async fn warehouse(&self) -> anyhow::Result<PgPool> {
        let options = PoolOptions {
            max_connections: 16,
            ..PoolOptions::named("ballpoint")
        };
        pool::connect(self.url(WAREHOUSE)?, options)
            .await
            .context("opening the warehouse")
    }

    /// A pool for queries on the warehouse, as a role that can only read. `schemas` are those that a
    /// configured warehouse is asked for; on the embedded one every schema but our own is read. A
    /// configured user who may make no roles queries as himself, in read-only transactions, and
    /// `check` says so.
    ///
    /// # Errors
    /// When the warehouse cannot be reached.
    pub(crate) async fn queries(
        &self,
        project: &Project,
        schemas: impl FnOnce() -> Vec<String>,
    ) -> anyhow::Result<PgPool> {
        let url = self.url(WAREHOUSE)?;
        let options = PoolOptions {
            max_connections: QUERY_CONNECTIONS_MAX,
            ..PoolOptions::named("ballpoint queries")
        };
        let scope = match project.config.warehouse.url {
            None => Scope::OwnCluster,
            Some(_) => Scope::Schemas(schemas()),
        };
        let is_own = scope == Scope::OwnCluster;
        let role = query_role(url, scope);
        match roles::connect_as_query_role(url, &role, options.clone()).await {
            Ok((pool, notes)) => {
                for note in notes {
                    tracing::warn!(role = role.name, "{note}");
                }
                Ok(pool)
            }
            Err(error @ (RoleError::NoPassword { .. } | RoleError::Refused { .. })) if !is_own => {
                tracing::warn!(%error, "queries run as the configured user, read-only");
                Ok(pool::connect(url, options).await?)
            }
            Err(error) => Err(error).context("opening the warehouse for queries"),
        }
    }

    /// Fills each embedded source that has a seed and is empty; `rows` of each, or the seed's own
    /// number. Returns the sources that were filled.
    ///
    /// # Errors
    /// When a seed cannot be read or its database not written.
    pub(crate) async fn fill_empty_sources(
        &self,
        project: &Project,
        rows: Option<u64>,
        seed: u64,
        now: Timestamp,
    ) -> anyhow::Result<Vec<String>> {
        let seeded = project.config.sources.iter();
        let seeded = seeded.filter_map(|(name, source)| Some((name, source.seed.as_deref()?)));
        let filling = seeded.map(|(name, folder)| async move {
            let rows = self.fill_if_empty(project, name, folder, rows, seed, now);
            anyhow::Ok((name, rows.await.with_context(|| format!("seeding {name}"))?))
        });
        let mut filled = Vec::new();
        for (name, rows) in try_join_all(filling).await? {
            if let Some(rows) = rows {
                output::note(format!("seeded {name}: {rows} rows"));
                filled.push(name.clone());
            }
        }
        Ok(filled)
    }

    /// The rows it was filled with; `None` when it has tables.
    async fn fill_if_empty(
        &self,
        project: &Project,
        name: &str,
        folder: &str,
        rows: Option<u64>,
        seed: u64,
        now: Timestamp,
    ) -> anyhow::Result<Option<u64>> {
        let pool = pool::connect(self.url(name)?, PoolOptions::named("ballpoint seed")).await?;
        let rows = match has_tables(&pool).await? {
            true => None,
            false => Some(rows.unwrap_or(ROWS_BY_DEFAULT)),
        };
        if let Some(rows) = rows {
            let files = seed_files(project, folder)?;
            let mut connection = pool.acquire().await?;
            ballpoint_seeds::fill(&mut connection, &files, rows, seed, now).await?;
        }
        pool.close().await;
        Ok(rows)
    }

    /// Stops the embedded cluster: whoever started or adopted it stops it.
    ///
    /// # Errors
    /// When the server does not end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.cluster {
            Some(cluster) => Ok(cluster.into_inner().stop().await?),
            None => Ok(()),
        }
    }
}

/// Who queries the embedded warehouse.
const QUERY_ROLE: &str = "ballpoint_query";

/// Who queries a configured one. A role is its whole server's: without the database's name, two
/// projects of different owners would take each other's password.
pub(crate) fn query_role_on(url: &str) -> String {
    let options = url.parse::<PgConnectOptions>().unwrap_or_default();
    let database = options.get_database().unwrap_or(options.get_username());
    let mut name = format!("{QUERY_ROLE}_{database}");
    while name.len() > IDENT_BYTES_MAX {
        name.pop();
    }
    name
}

/// Ballpoint's own schema: checkpoints, conversations, audit. No query reads it.
const OWN_SCHEMA: &str = "ballpoint";

/// Queries at a time.
const QUERY_CONNECTIONS_MAX: u32 = 16;

fn query_role(url: &str, scope: Scope) -> QueryRole {
    let name = match scope {
        Scope::OwnCluster => QUERY_ROLE.to_owned(),
        Scope::Schemas(_) => query_role_on(url),
    };
    QueryRole {
        hidden: vec![OWN_SCHEMA.to_owned()],
        ..QueryRole::new(name, scope)
    }
}

/// Between two looks at the embedded server's process.
const CLUSTER_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Hourly over 90 days.
pub(crate) const ROWS_BY_DEFAULT: u64 = 2160;

/// Of an embedded source that a command finds empty.
pub(crate) const SEED_BY_DEFAULT: u64 = 42;

async fn has_tables(pool: &PgPool) -> anyhow::Result<bool> {
    const SQL: &str =
        "select exists (select from pg_class c join pg_namespace n on n.oid = relnamespace
         where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema')";
    Ok(sqlx::query_scalar(SQL).fetch_one(pool).await?)
}

pub(crate) fn seed_files(project: &Project, folder: &str) -> anyhow::Result<SeedFiles> {
    let folder = project.folder.join(folder);
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    Ok(SeedFiles {
        directory: folder.display().to_string(),
        schema_sql: read("schema.sql")?,
        generator_yml: read("generator.yml")?,
    })
}
