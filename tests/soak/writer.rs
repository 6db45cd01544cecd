//! An application that writes to the source all the while.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, PgPool};

/// Writes until told to stop.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<u64>>,
}

impl Writer {
    /// Two sessions, so that transactions overlap.
    pub(crate) fn start(pool: PgPool, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = [seed, seed ^ 0xFFFF].map(|seed| {
            let (pool, stop) = (pool.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(seed);
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let sql = transaction(&mut random);
                    // Two of them may meet on a key or lock each other out: the application's affair.
                    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await;
                    written += u64::from(done.is_ok());
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..8))).await;
                }
                written
            })
        });
        Self {
            stop,
            tasks: tasks.into(),
        }
    }

    /// Stops it; how many transactions it has committed.
    pub(crate) async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = 0;
        for task in self.tasks {
            written += task.await.unwrap();
        }
        written
    }
}

/// More than what the follower keeps in memory of one transaction.
pub(crate) async fn large_transaction(pool: &PgPool) {
    let sql = "begin; insert into items select n, 9, repeat('y', 1600) from generate_series(100000, 107000) n;
               update orders set amount = amount + 1 where id < 300;
               delete from items where line = 9; commit";
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

/// Adds a column to two tables now and then, and rows that have something in it.
pub(crate) async fn new_columns(pool: &PgPool, life: u32) -> Infallible {
    for n in 0.. {
        let column = format!("c{life}_{n}");
        let sql = format!(
            "begin; alter table log add column {column} int; alter table items add column {column} text;
             insert into log (line, {column}) values ('drift', {n}), ('drift', {n});
             insert into items (order_id, line, {column}) values ({n}, 100 + {life}, 'drift');
             update items set {column} = 'x' where order_id < 10; commit"
        );
        // The writers may be in the way.
        let mut connection = pool.acquire().await.unwrap();
        if sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await
            .is_err()
        {
            let _ = sqlx::raw_sql("rollback").execute(&mut *connection).await;
        }
        drop(connection);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    unreachable!("there are more numbers than lives are long")
}

/// One of everything that an application does.
fn transaction(random: &mut StdRng) -> String {
    let id = random.random_range(1..1600);
    let n: u32 = random.random_range(0..1_000_000);
    match random.random_range(0..100) {
        0..20 => format!("insert into orders values ({}, 'n', {n}, repeat('q', 2600), now())", 2000 + n),
        20..40 => format!("update orders set customer = 'u{n}' where id = {id}"),
        40..48 => format!("update orders set large = repeat('z', 2700) || {n} where id = {id}"),
        48..54 => format!("update orders set id = {} where id = {id}", 3_000_000 + n),
        54..60 => format!("delete from orders where id = {id}"),
        60..68 => format!("insert into log values ('l{}', {}), ('l1', 1)", n % 50, n % 7),
        68..73 => "delete from log where ctid = (select ctid from log order by random() limit 1)".to_owned(),
        73..78 => format!("update log set n = {n} where ctid = (select ctid from log order by random() limit 1)"),
        78..84 => format!(
            "begin; insert into items values ({n}, 1, 'a'), ({n}, 2, 'b'); update items set note = 'c'
             where order_id = {n}; delete from items where order_id = {n} and line = 1; commit"
        ),
        84..88 => format!("update items set note = 'm{n}' where order_id = {}", id % 400),
        88..91 => format!("begin; delete from orders where id < {id}; rollback"),
        91..94 => format!("update indexed set b = 'v{n}', a = a + 1000 where a = {}", n % 300),
        94..96 => format!("insert into indexed values ({}, 'new')", 10_000 + n),
        96..98 => format!("update orders set amount = {n} where id % 10 = {}", n % 10),
        98 => "truncate log; insert into log values ('after', 1)".to_owned(),
        _ => "begin; truncate items; insert into items values (1, 1, 'after'), (1, 2, 'after'); commit".to_owned(),
    }
}
