#![allow(clippy::unwrap_used)]

use ballpoint_postgres::testing::TestDatabase;
use ballpoint_runtime::segment::{TableName, TableSpec};
use ballpoint_runtime::store::{Checkpoints, RecordedEvent};
use ballpoint_runtime::supervision::{ActorSpec, Strategy, SupervisorSpec, Tree, TreeHandle};
use tokio::sync::broadcast;

use super::*;
use crate::config::PostgresSourceConfig;

const SOON: Duration = Duration::from_secs(90);
const ORDERS: &str = "create table orders (id bigint generated always as identity primary key,
    customer text, updated_at timestamptz not null default clock_timestamp());
  create index on orders (updated_at);
  insert into orders (customer) select 'c' from generate_series(1, 100);
  select pg_stat_force_next_flush()";

struct Watched {
    database: TestDatabase,
    _warehouse: TestDatabase,
    store: Store,
    source: Arc<PostgresSource>,
    events: broadcast::Receiver<RecordedEvent>,
    tree: TreeHandle,
}

impl Watched {
    async fn start(url: impl FnOnce(&TestDatabase) -> String) -> Self {
        let (database, warehouse) = (TestDatabase::create().await, TestDatabase::create().await);
        sqlx::raw_sql(ORDERS)
            .execute(database.pool())
            .await
            .unwrap();
        let store = Store::open(warehouse.pool().clone()).await.unwrap();
        let mut config = PostgresSourceConfig::new("shop", url(&database));
        config.follow_log = false;
        let source = Arc::new(PostgresSource::new(config).unwrap());
        let events = store.events().subscribe();
        let args = WatcherArgs {
            source: Arc::clone(&source),
            store: store.clone(),
            interval: SourceWatcher::INTERVAL,
        };
        let spec = ActorSpec::new(SourceWatcher::name("shop"), SourceWatcher, move || {
            args.clone()
        });
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
        let tree = Tree::start(Scope::unique(), root, None).await.unwrap();
        Self {
            database,
            _warehouse: warehouse,
            store,
            source,
            events,
            tree,
        }
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(SOON, self.events.recv())
            .await
            .expect("an event in time")
            .unwrap()
            .event
    }

    /// What a loader would do: read everything and keep the position.
    async fn load(&self) {
        let spec: TableSpec = self.source.tables().await.unwrap().remove(0);
        let before = self
            .store
            .checkpoints()
            .get("shop", &spec.table)
            .await
            .unwrap();
        if let Some(segment) = self.source.open(&spec, before.as_ref()).await.unwrap() {
            let mut connection = self.store.pool().acquire().await.unwrap();
            Checkpoints::put_in(&mut connection, "shop", &spec.table, &segment.position)
                .await
                .unwrap();
        }
    }

    /// Writes, and has PostgreSQL's counters report it at once instead of seconds later.
    async fn write(&self, sql: &'static str) {
        let sql = format!("{sql}; select pg_stat_force_next_flush()");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    /// The changes announced in all, after some looks more.
    async fn changes_after_looks(&self, more: u64) -> u64 {
        let handle = WatcherHandle::new(self.tree.scope(), "shop");
        let enough = handle.describe(SOON).await.unwrap().looks + more;
        loop {
            let status = handle.describe(SOON).await.unwrap();
            if status.looks >= enough {
                return status.changes;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn changed() -> Event {
    Event::SourceChanged {
        source: "shop".to_owned(),
        tables: vec![TableName::new("public", "orders")],
    }
}

#[tokio::test]
async fn a_new_row_is_noticed_and_announced_once() {
    let mut watched = Watched::start(|database| database.url().to_owned()).await;
    assert_eq!(
        watched.next().await,
        changed(),
        "a table that was never loaded has changed"
    );
    watched.load().await;
    // The counters may have reported after the load began: then it is announced once more.
    let mut announced = 1;
    loop {
        let now = watched.changes_after_looks(5).await;
        if now == announced {
            break;
        }
        announced = now;
        watched.load().await;
    }
    while watched.events.try_recv().is_ok() {}
    for write in [
        "insert into orders (customer) values ('new')",
        "update orders set customer = 'x', updated_at = clock_timestamp() where id = 1",
    ] {
        watched.write(write).await;
        assert_eq!(watched.next().await, changed());
        let now = watched.changes_after_looks(3).await;
        assert_eq!(now, announced + 1, "one change, one announcement: {write}");
        assert!(watched.events.try_recv().is_err(), "{write}");
        watched.load().await;
        announced = watched.changes_after_looks(3).await;
        assert_eq!(announced, now, "what was loaded is no change: {write}");
    }
}

#[tokio::test]
async fn a_backdated_update_is_noticed_by_the_counters() {
    let mut watched = Watched::start(|database| database.url().to_owned()).await;
    watched.next().await;
    watched.load().await;
    watched
        .write("update orders set customer = 'x', updated_at = '1999-01-01' where id = 5")
        .await;
    assert_eq!(watched.next().await, changed());
}

#[tokio::test]
async fn an_unreachable_source_is_told_once_and_so_is_its_recovery() {
    let mut watched = Watched::start(|database| database.url().to_owned()).await;
    watched.next().await;
    watched.load().await;
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(watched.database.pool())
        .await
        .unwrap();
    let admin = watched.store.pool();
    let allow = |allowed: bool| {
        format!(
            "alter database {} with allow_connections {allowed};
             select pg_terminate_backend(pid) from pg_stat_activity
             where datname = '{name}' and application_name like 'ballpoint/%'",
            ballpoint_postgres::ident::quote(&name)
        )
    };
    for allowed in [false, true] {
        for statement in allow(allowed).split(';') {
            let sql = sqlx::AssertSqlSafe(statement.to_owned());
            sqlx::raw_sql(sql).execute(admin).await.unwrap();
        }
        let told = loop {
            let event = watched.events.recv();
            match tokio::time::timeout(SOON, event)
                .await
                .expect("an event in time")
                .unwrap()
                .event
            {
                Event::SourceChanged { .. } => {}
                other => break other,
            }
        };
        match told {
            Event::SourceUnavailable { retry_in_ms, .. } => assert!(!allowed && retry_in_ms > 0),
            Event::SourceRecovered { .. } => assert!(allowed),
            other => panic!("unexpected {other:?}"),
        }
    }
    let handle = WatcherHandle::new(watched.tree.scope(), "shop");
    let status = handle.describe(SOON).await.unwrap();
    assert!(status.available && status.looks > 2, "{status:?}");
    assert_eq!(watched.tree.describe()[0].children[0].incarnation, 1);
}

#[tokio::test]
async fn a_restarted_watcher_takes_back_that_the_source_is_away() {
    let mut watched = Watched::start(|database| database.url().to_owned()).await;
    watched.next().await;
    watched.load().await;
    let away = Event::SourceUnavailable {
        source: "shop".to_owned(),
        error: "no answer".to_owned(),
        retry_in_ms: 1,
    };
    publish(&watched.store, away).await;
    watched.tree.restart("source_watcher.shop").await.unwrap();
    let recovered = Event::SourceRecovered {
        source: "shop".to_owned(),
    };
    while watched.next().await != recovered {}
}

#[tokio::test]
async fn a_change_that_could_not_be_announced_is_announced_by_the_next_look() {
    let mut watched = Watched::start(|database| database.url().to_owned()).await;
    watched.next().await;
    watched.load().await;
    let warehouse = watched.store.pool();
    let rename = "alter table ballpoint.events rename to away";
    sqlx::raw_sql(rename).execute(warehouse).await.unwrap();
    watched
        .write("insert into orders (customer) values ('new')")
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let back = "alter table ballpoint.away rename to events";
    sqlx::raw_sql(back).execute(warehouse).await.unwrap();
    assert_eq!(watched.next().await, changed());
}
