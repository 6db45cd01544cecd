//! Carrying a plan out: one transaction in the target. Undoing a plan is the same plan backwards:
//! added and removed change places, and so do old and new.

use ballpoint_postgres::copy::{copy_in, copy_out};
use ballpoint_postgres::ident::{quote, quote_literal};
use ballpoint_runtime::failure::in_one_line;
use ballpoint_runtime::store::{Intent, Plan, PlanRequest};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::definition::{Field, Sync};
use crate::error::{WriteBackError, copy_failed, crash_point};
use crate::library::WriteBacks;
use crate::target::Target;
use crate::warehouse;

/// The plan's rows in the target's transaction.
const ROWS: &str = "pg_temp.ballpoint_write_back";

/// Conflicting keys that are named.
const KEYS_SHOWN: i64 = 10;

/// How long another transaction may keep a row that the plan writes. Longer means that somebody is
/// at work on the table.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '10s'";

/// A plan on its way into, or out of, the target.
pub(crate) struct Writing<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sync: &'a Sync,
    pub(crate) target: &'a Target,
    pub(crate) request: PlanRequest,
}

impl WriteBacks {
    /// Writes the rows; returns how many. On any error nothing of it is kept, except where the
    /// connection was lost while committing: the intent tells what became of it.
    pub(crate) async fn write(&self, writing: &Writing<'_>) -> Result<i64, WriteBackError> {
        let Writing {
            plan,
            sync,
            target,
            request,
        } = writing;
        let mut transaction = target
            .pool
            .begin()
            .await
            .map_err(target.failed("beginning to write"))?;
        let intent = begin(&mut transaction, target, *request).await?;
        crash_point("reverse_etl.before_intent")?;
        self.store.plans().intend(plan.id, &intent).await?;
        crash_point("reverse_etl.after_intent")?;
        if *request == PlanRequest::Apply {
            for statement in &plan.ddl {
                create(&mut transaction, target, sync, statement).await?;
            }
        }
        self.load(&mut transaction, writing).await?;
        lock(&mut transaction, target, sync).await?;
        let (count, keys) = conflicts(&mut transaction, target, sync).await?;
        if count > 0 {
            return Err(WriteBackError::Conflict { count, keys });
        }
        let written = write_rows(&mut transaction, writing).await?;
        let (different, keys) = differences(&mut transaction, target, sync).await?;
        if different > 0 {
            return Err(WriteBackError::Altered {
                table: sync.target_name(),
                difference: format!("{different} rows differ, such as {}", keys.join(", ")),
            });
        }
        if *request == PlanRequest::Undo && !plan.ddl.is_empty() {
            drop_if_empty(&mut transaction, target, sync).await?;
        }
        crash_point("reverse_etl.before_commit")?;
        transaction
            .commit()
            .await
            .map_err(target.failed("committing"))?;
        crash_point("reverse_etl.after_commit")?;
        Ok(written)
    }

    /// Brings the plan's rows into a temporary table of the target's transaction, turned round for an
    /// undo.
    pub(crate) async fn load(
        &self,
        connection: &mut PgConnection,
        writing: &Writing<'_>,
    ) -> Result<(), WriteBackError> {
        let Writing {
            plan, sync, target, ..
        } = writing;
        let doing = "bringing the plan's rows";
        run(connection, target, doing, create_rows(sync)).await?;
        let warehouse = self
            .store
            .pool()
            .acquire()
            .await
            .map_err(WriteBackError::warehouse(doing))?;
        let backwards = writing.request == PlanRequest::Undo;
        let rows = copy_out(warehouse, read_rows(plan, sync, backwards));
        copy_in(connection, &format!("copy {ROWS} from stdin"), rows)
            .await
            .map_err(copy_failed(&target.name, doing, true))?;
        run(connection, target, doing, format!("analyze {ROWS}")).await
    }
}

/// Sets the transaction up and says which one it is.
async fn begin(
    connection: &mut PgConnection,
    target: &Target,
    request: PlanRequest,
) -> Result<Intent, WriteBackError> {
    let doing = "beginning to write";
    let settings = format!("{}; {LOCK_TIMEOUT}", warehouse::SESSION);
    run(connection, target, doing, settings).await?;
    let xid: i64 = sqlx::query_scalar("select txid_current()")
        .fetch_one(&mut *connection)
        .await
        .map_err(target.failed(doing))?;
    Ok(Intent {
        request,
        xid,
        system: target.system(connection).await?,
    })
}

async fn create(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
    statement: &str,
) -> Result<(), WriteBackError> {
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await
    {
        Ok(_) => Ok(()),
        // 42P07 duplicate table: somebody made it since the plan.
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "42P07") => {
            Err(WriteBackError::Conflict {
                count: 1,
                keys: vec![format!("table {} exists by now", sync.target_name())],
            })
        }
        Err(error) => Err(target.failed("creating the table")(error)),
    }
}

/// Locks every row that the plan changes or removes, in the plan's order, so that two writers cannot
/// wait for each other.
async fn lock(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
) -> Result<(), WriteBackError> {
    let sql = format!(
        "select count(*) from (
             select 1 from {} t join {ROWS} p on {} order by p.seq for update of t
         ) locked",
        table(sync),
        on_key(sync)
    );
    run(connection, target, "locking the rows", sql).await
}

/// Deletes, updates and inserts; each must touch as many rows as the plan says.
async fn write_rows(
    connection: &mut PgConnection,
    writing: &Writing<'_>,
) -> Result<i64, WriteBackError> {
    let Writing {
        plan,
        sync,
        target,
        request,
    } = writing;
    let (added, removed) = match request {
        PlanRequest::Undo => (plan.counts.removed, plan.counts.added),
        _ => (plan.counts.added, plan.counts.removed),
    };
    let steps = [
        ("removing rows", delete_rows(sync), removed),
        ("changing rows", update_rows(sync), plan.counts.changed),
        ("adding rows", insert_rows(sync), added),
    ];
    let mut written = 0;
    for (doing, sql, expected) in steps {
        if expected == 0 {
            continue;
        }
        let done = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .execute(&mut *connection)
            .await
            .map_err(target.failed(doing))?;
        let touched = i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
        if touched != expected {
            // A row that another transaction added in this moment, or a trigger that keeps one out.
            return Err(WriteBackError::Conflict {
                count: expected - touched,
                keys: vec![format!("{doing} touched {touched} of {expected} rows")],
            });
        }
        written += touched;
        crash_point("reverse_etl.mid_write")?;
    }
    Ok(written)
}

/// The table goes with its last row, where the plan made it and nothing has come to hang on it.
async fn drop_if_empty(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
) -> Result<(), WriteBackError> {
    let doing = "removing the table";
    let savepoint = "savepoint before_drop".to_owned();
    run(connection, target, doing, savepoint).await?;
    let why = match drop_alone(connection, target, sync).await {
        Ok(true) => return Ok(()),
        Ok(false) => "others have rows in it".to_owned(),
        Err(error) => in_one_line(&error),
    };
    tracing::info!(why, table = sync.target_name(), "the table stays");
    let back = "rollback to savepoint before_drop".to_owned();
    run(connection, target, doing, back).await
}

/// Drops the table unless it has rows. It is locked before it is looked at: whoever is writing a row
/// at this moment has committed it by then, or waits until the table is gone.
async fn drop_alone(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
) -> Result<bool, WriteBackError> {
    let doing = "removing the table";
    let lock = format!("lock table {} in access exclusive mode", table(sync));
    run(connection, target, doing, lock).await?;
    let look = format!("select exists (select from {})", table(sync));
    let has_rows: bool = sqlx::query_scalar(AssertSqlSafe(look))
        .persistent(false)
        .fetch_one(&mut *connection)
        .await
        .map_err(target.failed(doing))?;
    if !has_rows {
        run(
            connection,
            target,
            doing,
            format!("drop table {}", table(sync)),
        )
        .await?;
    }
    Ok(!has_rows)
}

/// Rows of the target that are not as the plan found them: how many, and the first keys.
pub(crate) async fn conflicts(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
) -> Result<(i64, Vec<String>), WriteBackError> {
    let wrong = format!(
        "case p.kind when 'added' then t.{key} is not null
         else t.{key} is null or {} end",
        distinct(sync, 'o'),
        key = quote(&sync.key[0].column),
    );
    wrong_rows(connection, target, sync, &wrong).await
}

/// Rows of the target that are not as the plan leaves them: how many, and the first keys.
pub(crate) async fn differences(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
) -> Result<(i64, Vec<String>), WriteBackError> {
    let wrong = format!(
        "case p.kind when 'removed' then t.{key} is not null
         else t.{key} is null or {} end",
        distinct(sync, 'n'),
        key = quote(&sync.key[0].column),
    );
    wrong_rows(connection, target, sync, &wrong).await
}

async fn wrong_rows(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
    wrong: &str,
) -> Result<(i64, Vec<String>), WriteBackError> {
    let keys: Vec<String> = (0..sync.key.len()).map(|n| format!("p.k{n}")).collect();
    let sql = format!(
        "select count(*) over (), concat_ws(' / ', {}) from {ROWS} p left join {} t on {}
         where {wrong} order by p.seq limit {KEYS_SHOWN}",
        keys.join(", "),
        table(sync),
        on_key(sync)
    );
    let rows: Vec<(i64, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(target.failed("comparing rows"))?;
    let count = rows.first().map_or(0, |(count, _)| *count);
    Ok((count, rows.into_iter().map(|(_, key)| key).collect()))
}

/// Whether the sync's table is there.
pub(crate) async fn table_exists(
    connection: &mut PgConnection,
    target: &Target,
    sync: &Sync,
) -> Result<bool, WriteBackError> {
    sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table(sync))
        .fetch_one(connection)
        .await
        .map_err(target.failed("looking for the table"))
}

async fn run(
    connection: &mut PgConnection,
    target: &Target,
    doing: &'static str,
    sql: String,
) -> Result<(), WriteBackError> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map_err(target.failed(doing))?;
    Ok(())
}

fn table(sync: &Sync) -> String {
    let (schema, name) = sync.target();
    format!("{}.{}", quote(schema), quote(name))
}

fn create_rows(sync: &Sync) -> String {
    let typed = |letter: char, fields: &[Field]| -> Vec<String> {
        let each = fields.iter().enumerate();
        each.map(|(n, field)| format!("{letter}{n} {}", field.r#type))
            .collect()
    };
    let columns = [
        typed('k', &sync.key),
        typed('o', &sync.columns),
        typed('n', &sync.columns),
    ];
    format!(
        "create temp table ballpoint_write_back (seq bigint, kind text, {}) on commit drop",
        columns.concat().join(", ")
    )
}

fn read_rows(plan: &Plan, sync: &Sync, backwards: bool) -> String {
    let (kind, old, new) = if backwards {
        let kind =
            "case kind when 'added' then 'removed' when 'removed' then 'added' else kind end";
        (kind, "new", "old")
    } else {
        ("kind", "old", "new")
    };
    let take = |object: &str, fields: &[Field]| -> Vec<String> {
        let each = fields.iter();
        each.map(|field| format!("{object} ->> {}", quote_literal(&field.column)))
            .collect()
    };
    let values = [
        take("key", &sync.key),
        take(old, &sync.columns),
        take(new, &sync.columns),
    ];
    format!(
        "copy (select seq, {kind}, {} from ballpoint.plan_rows
               where plan_id = '{}' and kind <> 'invalid' order by seq) to stdout",
        values.concat().join(", "),
        plan.id
    )
}

/// `t."id" = p.k0 and …`
fn on_key(sync: &Sync) -> String {
    let each = sync.key.iter().enumerate();
    let each: Vec<String> = each
        .map(|(n, field)| format!("t.{} = p.k{n}", quote(&field.column)))
        .collect();
    each.join(" and ")
}

/// `(t."hold", …) is distinct from (p.o0, …)`
fn distinct(sync: &Sync, letter: char) -> String {
    let theirs: Vec<String> = sync
        .columns
        .iter()
        .map(|field| format!("t.{}", quote(&field.column)))
        .collect();
    let ours: Vec<String> = (0..sync.columns.len())
        .map(|n| format!("p.{letter}{n}"))
        .collect();
    format!(
        "row({}) is distinct from row({})",
        theirs.join(", "),
        ours.join(", ")
    )
}

fn delete_rows(sync: &Sync) -> String {
    format!(
        "delete from {} t using {ROWS} p where p.kind = 'removed' and {}",
        table(sync),
        on_key(sync)
    )
}

fn update_rows(sync: &Sync) -> String {
    let sets: Vec<String> = sync
        .columns
        .iter()
        .enumerate()
        .map(|(n, field)| format!("{} = p.n{n}", quote(&field.column)))
        .collect();
    format!(
        "update {} t set {} from {ROWS} p where p.kind = 'changed' and {}",
        table(sync),
        sets.join(", "),
        on_key(sync)
    )
}

fn insert_rows(sync: &Sync) -> String {
    let names: Vec<String> = sync.fields().map(|field| quote(&field.column)).collect();
    let values: Vec<String> = (0..sync.key.len())
        .map(|n| format!("k{n}"))
        .chain((0..sync.columns.len()).map(|n| format!("n{n}")))
        .collect();
    format!(
        "insert into {} ({}) select {} from {ROWS} where kind = 'added' order by seq
         on conflict do nothing",
        table(sync),
        names.join(", "),
        values.join(", ")
    )
}
