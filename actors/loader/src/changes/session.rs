//! The warehouse session of one source's stream: it alone writes the source's followed tables.

use ballpoint_postgres::copy::copy_in;
use ballpoint_postgres::ident::quote;
use ballpoint_runtime::changes::{Change, Lsn, Operation, Tuple};
use ballpoint_runtime::segment::{SourceError, TableSpec};
use ballpoint_runtime::store::{RAW_LOCK, Store, Streams};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::copying;
use super::encode::{Format, Own, Rows};
use super::net::{self, Copies, Effect, Net, Step};
use super::statements::{DELETE, PATCH, PUT, REJECT};
use super::table::Table;
use crate::error::{LoadError, crash_point};
use crate::extraction;
use crate::sync::copy_failure;
use crate::transaction::LOCK_TIMEOUT;
use crate::{rejected, target};

/// Namespace of the locks that keep two streams of one source apart.
const STREAM_LOCKS: i32 = 0x6270_6c73;

/// Nested loops, because staged rows are few and the table's key has an index; without statistics
/// of the staging table the planner may read the whole table instead.
const SETTINGS: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;
    set jit = off; set enable_hashjoin = off; set enable_mergejoin = off";

/// How far a commit brings the tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    /// Every table, and so the stream; with the commit time of the last transaction.
    All(Lsn, Option<i64>),
    /// Those that are not being copied, and whose changes are not postponed.
    Ahead(Lsn),
}

/// A session that holds the source's lock; both end when it is dropped.
pub(super) struct Session {
    connection: PgConnection,
    source: String,
    /// The extraction time of the transaction that is open, in microseconds since 1970.
    open: Option<i64>,
}

impl Session {
    /// `None` when another session, here or in another process, follows the source.
    pub(super) async fn open(store: &Store, source: &str) -> Result<Option<Self>, LoadError> {
        let failed = || LoadError::warehouse("opening a session for changes");
        let pooled = store.pool().acquire().await.map_err(failed())?;
        let mut connection = pooled.detach();
        let is_free: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, hashtext($2))")
            .bind(STREAM_LOCKS)
            .bind(source)
            .fetch_one(&mut connection)
            .await
            .map_err(failed())?;
        if !is_free {
            return Ok(None);
        }
        connection.execute(SETTINGS).await.map_err(failed())?;
        Ok(Some(Self {
            connection,
            source: source.to_owned(),
            open: None,
        }))
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Whether a transaction of the source is half-way in.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Begins, unless a transaction is open, and takes the extraction time: see [`extraction`].
    pub(super) async fn begin(&mut self) -> Result<(), LoadError> {
        if self.open.is_some() {
            return Ok(());
        }
        let begin = format!(
            "begin; set local lock_timeout = 0; select pg_advisory_xact_lock({RAW_LOCK});
             set local lock_timeout = '{LOCK_TIMEOUT}'"
        );
        let failed = || LoadError::warehouse("beginning to write changes");
        self.connection
            .execute(AssertSqlSafe(begin))
            .await
            .map_err(failed())?;
        let at = extraction::next(&mut self.connection)
            .await
            .map_err(failed())?;
        self.open = Some(at);
        Ok(())
    }

    /// Begins a transaction that writes no rows, and so needs no extraction time.
    pub(super) async fn begin_quietly(&mut self) -> Result<(), LoadError> {
        let begun = self.connection.execute("begin").await;
        begun.map_err(LoadError::warehouse(
            "beginning to move a stream's position",
        ))?;
        Ok(())
    }

    /// Writes down how far the rows reach and commits that with them.
    pub(super) async fn commit(&mut self, reach: Reach) -> Result<(), LoadError> {
        crash_point("changes.before_checkpoint")?;
        match reach {
            Reach::All(end, committed_at) => {
                Streams::advance_in(&mut self.connection, &self.source, end, committed_at).await?;
            }
            Reach::Ahead(ahead) => {
                Streams::run_ahead_in(&mut self.connection, &self.source, ahead).await?;
                crash_point("changes.before_commit_ahead")?;
            }
        }
        crash_point("changes.before_commit")?;
        self.end("commit", "committing changes").await
    }

    /// After a round of copies, also one that was killed: see [`copying::rejoin`].
    pub(super) async fn rejoin(&mut self) -> Result<(), LoadError> {
        self.begin_quietly().await?;
        let rejoined = copying::rejoin(&mut self.connection, &self.source).await;
        let rejoined = rejoined.map_err(LoadError::warehouse("letting copied tables join"))?;
        Streams::rejoin_in(&mut self.connection, &self.source).await?;
        if rejoined > 0 {
            crash_point("changes.before_rejoin")?;
        }
        self.end("commit", "letting copied tables join").await?;
        if rejoined > 0 {
            crash_point("changes.after_rejoin")?;
        }
        Ok(())
    }

    /// Before the stream is opened at its position: see [`copying::part`]. Staging tables of what was followed
    /// before go, whose numbers are given anew.
    pub(super) async fn part(&mut self) -> Result<(), LoadError> {
        let failed = || LoadError::warehouse("noting how far each table is");
        self.connection
            .execute("discard temp")
            .await
            .map_err(failed())?;
        self.begin_quietly().await?;
        copying::part(&mut self.connection, &self.source)
            .await
            .map_err(failed())?;
        Streams::rejoin_in(&mut self.connection, &self.source).await?;
        self.end("commit", "noting how far each table is").await
    }

    /// Lets a column of the raw table be null, of which the source's log has shown that it is.
    pub(super) async fn allow_null(
        &mut self,
        table: &Table,
        column: &str,
    ) -> Result<(), LoadError> {
        self.begin().await?;
        let (raw, column) = (target::quoted(&table.raw), quote(column));
        let alter = format!("alter table {raw} alter column {column} drop not null");
        let altered = self.connection.execute(AssertSqlSafe(alter)).await;
        altered.map_err(LoadError::warehouse("changing the raw table"))?;
        self.end("commit", "changing the raw table").await
    }

    pub(super) async fn rollback(&mut self) -> Result<(), LoadError> {
        self.end("rollback", "undoing changes").await
    }

    async fn end(&mut self, statement: &'static str, doing: &'static str) -> Result<(), LoadError> {
        let ended = self.connection.execute(statement).await;
        ended.map_err(LoadError::warehouse(doing))?;
        self.open = None;
        Ok(())
    }

    /// Writes the changes of one table. `plainly`: new rows may go straight into the table, because a
    /// failure can be undone. Returns how many rows are different now.
    pub(super) async fn write(
        &mut self,
        table: &mut Table,
        changes: &[Change],
        plainly: bool,
    ) -> Result<u64, LoadError> {
        let format = Format::of(changes.iter().flat_map(tuples));
        let limit = table.limit();
        let only_new = || {
            let is_new = |change: &Change| match &change.operation {
                Operation::Insert { new } => net::too_long(new, limit).is_none(),
                _ => false,
            };
            changes.iter().all(is_new)
        };
        if plainly && format == Format::Binary && only_new() {
            return self.append(table, changes).await;
        }
        self.stage_for(table).await?;
        if table.key.is_empty() {
            return self
                .write_copies(table, net::by_row(changes, limit), format)
                .await;
        }
        let mut rows = 0;
        let replayed = table.replays(changes);
        for step in net::by_key(changes, &table.key, limit) {
            rows += match step {
                Step::Net(net) => self.write_net(table, net, format, replayed).await?,
                // Which row has the old key by now nobody knows.
                Step::Move { .. } if replayed => return Err(unmatched(table)),
                Step::Move { old, new, lsn } => {
                    self.write_move(table, &old, &new, lsn, format).await?
                }
            };
            crash_point("changes.mid_apply")?;
        }
        Ok(rows)
    }

    async fn append(&mut self, table: &Table, changes: &[Change]) -> Result<u64, LoadError> {
        let mut rows = Rows::new(Format::Binary);
        let at = self.extracted_at();
        for change in changes {
            if let Operation::Insert { new } = &change.operation {
                let lsn = Own::Lsn(change.commit_lsn);
                rows.push(&[], new, &[Own::Time(at), Own::Big(table.generation), lsn]);
            }
        }
        self.copy(&table.statements.copy_raw, rows, Format::Binary)
            .await
    }

    async fn write_net(
        &mut self,
        table: &mut Table,
        net: Net,
        format: Format,
        replayed: bool,
    ) -> Result<u64, LoadError> {
        let mut changed = self.empty(table, net.emptied).await?;
        let mut rows = Rows::new(format);
        let mut staged = [0_u64; 4];
        for row in &net.rows {
            let (tuple, op, at) = match &row.effect {
                Effect::Delete(tuple) => (tuple, DELETE, 0),
                Effect::Put(tuple) => (tuple, PUT, 1),
                Effect::Patch(tuple) => (tuple, PATCH, 2),
                Effect::Reject(tuple, column) => {
                    staged[3] += 1;
                    push_rejected(&mut rows, table, tuple, *column, row.lsn);
                    continue;
                }
            };
            staged[at] += 1;
            push(&mut rows, op, 1, row.lsn, tuple);
        }
        self.stage(table, rows, format).await?;
        let [deleted, put, patched, rejected] = staged;
        self.keep_rejected(table, rejected, deleted + put).await?;
        let statements = &table.statements;
        if deleted + rejected > 0 {
            changed += self.run(&statements.delete).await?;
        }
        if put > 0 {
            changed += self.run(&statements.put).await?;
        }
        if patched > 0 {
            let found = self.run(&statements.patch).await?;
            if replayed && found < patched {
                return Err(unmatched(table));
            }
            changed += found;
        }
        Ok(changed)
    }

    async fn write_move(
        &mut self,
        table: &mut Table,
        old: &Tuple,
        new: &Tuple,
        lsn: Lsn,
        format: Format,
    ) -> Result<u64, LoadError> {
        let mut rows = Rows::new(format);
        push(&mut rows, DELETE, 1, lsn, old);
        push(&mut rows, PATCH, 1, lsn, new);
        self.stage(table, rows, format).await?;
        self.run(&table.statements.shift).await
    }

    async fn write_copies(
        &mut self,
        table: &mut Table,
        copies: Copies,
        format: Format,
    ) -> Result<u64, LoadError> {
        let mut changed = self.empty(table, copies.emptied).await?;
        let mut rows = Rows::new(format);
        for (tuple, count, lsn) in &copies.rows {
            let op = if *count < 0 { DELETE } else { PUT };
            push(&mut rows, op, count.unsigned_abs(), *lsn, tuple);
        }
        for (tuple, column, lsn) in &copies.rejected {
            push_rejected(&mut rows, table, tuple, *column, *lsn);
        }
        self.stage(table, rows, format).await?;
        let rejected = copies.rejected.len() as u64;
        self.keep_rejected(table, rejected, 0).await?;
        changed += self.run(&table.statements.remove_copies).await?;
        changed += self.run(&table.statements.add_copies).await?;
        Ok(changed)
    }

    /// Keeps the rejected rows that are staged, as a copy keeps them, and forgets those of `replaced` rows that have
    /// come to fit, or are gone.
    async fn keep_rejected(
        &mut self,
        table: &mut Table,
        rejected: u64,
        replaced: u64,
    ) -> Result<(), LoadError> {
        let failed = || LoadError::warehouse("keeping the rejected rows");
        let connection = &mut self.connection;
        if rejected > 0 {
            rejected::create(connection, &table.raw.schema).await?;
        }
        let before = match table.has_rejected {
            Some(before) => before,
            None => rejected::has_any(
                connection,
                &table.raw.schema,
                &self.source,
                &table.spec.table,
            )
            .await
            .map_err(failed())?,
        };
        table.has_rejected = Some(before || rejected > 0);
        let statements = &table.statements;
        let forget = (before && rejected + replaced > 0).then_some(&statements.forget_rejected);
        let keep = (rejected > 0).then_some(&statements.reject);
        for sql in forget.into_iter().chain(keep) {
            sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(&self.source)
                .execute(&mut *connection)
                .await
                .map_err(failed())?;
        }
        table.rejected += rejected;
        Ok(())
    }

    async fn empty(&mut self, table: &Table, emptied: Option<Lsn>) -> Result<u64, LoadError> {
        let Some(lsn) = emptied else { return Ok(0) };
        let at = self.extracted_at();
        let done = sqlx::query(AssertSqlSafe(table.statements.empty.clone()))
            .bind(at)
            .bind(lsn.to_string())
            .execute(&mut self.connection)
            .await
            .map_err(LoadError::warehouse("emptying a truncated table"))?;
        Ok(done.rows_affected())
    }

    /// Goes on with other columns of a table, which the raw one has.
    pub(super) async fn reshape(
        &mut self,
        table: &mut Table,
        spec: TableSpec,
    ) -> Result<(), LoadError> {
        let drop = AssertSqlSafe(table.statements.drop_stage.clone());
        let dropped = self.connection.execute(drop).await;
        dropped.map_err(LoadError::warehouse("staging changes"))?;
        table.reshape(spec);
        Ok(())
    }

    async fn stage_for(&mut self, table: &mut Table) -> Result<(), LoadError> {
        if !table.is_staged {
            let create = AssertSqlSafe(table.statements.create_stage.clone());
            let created = self.connection.execute(create).await;
            created.map_err(LoadError::warehouse("staging changes"))?;
            table.is_staged = true;
        }
        Ok(())
    }

    async fn stage(
        &mut self,
        table: &mut Table,
        rows: Rows,
        format: Format,
    ) -> Result<(), LoadError> {
        if rows.count() == 0 {
            return Ok(());
        }
        if std::mem::replace(&mut table.stage_in_use, true) {
            let clear = AssertSqlSafe(table.statements.clear_stage.clone());
            let cleared = self.connection.execute(clear).await;
            cleared.map_err(LoadError::warehouse("staging changes"))?;
        }
        self.copy(&table.statements.copy_stage, rows, format)
            .await?;
        Ok(())
    }

    async fn copy(&mut self, sql: &str, rows: Rows, format: Format) -> Result<u64, LoadError> {
        let sql = format!("{sql} ({})", format.option());
        let chunks = rows.finish().into_iter().map(Ok::<Bytes, SourceError>);
        let chunks = stream::iter(chunks).boxed();
        copy_in(&mut self.connection, &sql, chunks)
            .await
            .map_err(copy_failure)
    }

    async fn run(&mut self, sql: &str) -> Result<u64, LoadError> {
        let at = self.extracted_at();
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .bind(at)
            .execute(&mut self.connection)
            .await
            .map_err(LoadError::warehouse("writing changes"))?;
        Ok(done.rows_affected())
    }

    fn extracted_at(&self) -> i64 {
        self.open.expect("changes are written in a transaction")
    }
}

/// A change that is replayed over ranges of several snapshots, and whose row, or a value of it that the
/// log does not repeat, is in none of them: the row had moved, when its new place was read already.
fn unmatched(table: &Table) -> LoadError {
    LoadError::Unmatched {
        table: table.spec.table.clone(),
    }
}

/// Stages a row; the bits of its unchanged values are set.
fn push(rows: &mut Rows, op: i16, count: u64, lsn: Lsn, tuple: &Tuple) {
    let mut kept = Vec::new();
    if op == PATCH {
        kept.resize(tuple.len().div_ceil(8), 0_u8);
        for (at, field) in tuple.fields().enumerate() {
            if field == ballpoint_runtime::changes::Field::Unchanged {
                // PostgreSQL's get_bit counts from the lowest bit of each byte.
                kept[at / 8] |= 1 << (at % 8);
            }
        }
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let own = [
        Own::Small(op),
        Own::Big(count),
        Own::Lsn(lsn),
        Own::Bits(&kept),
    ];
    rows.push(&own, tuple, &[]);
}

/// Stages a row that is rejected for one of its columns.
fn push_rejected(rows: &mut Rows, table: &Table, tuple: &Tuple, column: usize, lsn: Lsn) {
    push(
        rows,
        REJECT,
        column as u64 + 1,
        lsn,
        &table.shortened(tuple),
    );
}

fn tuples(change: &Change) -> impl Iterator<Item = &Tuple> {
    let (old, new) = match &change.operation {
        Operation::Insert { new } => (None, Some(new)),
        Operation::Update { old, new } => (old.as_ref().map(|old| &old.tuple), Some(new)),
        Operation::Delete { old } => (Some(&old.tuple), None),
        Operation::Truncate => (None, None),
    };
    old.into_iter().chain(new)
}
