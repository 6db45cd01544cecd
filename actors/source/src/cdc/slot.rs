//! The publication and the slot of a source: made, compared with the warehouse's position, removed.

use std::time::{Duration, Instant};

use ballpoint_postgres::ident::{quote, quote_literal, quote_qualified};
use ballpoint_runtime::changes::{Attached, Lsn, SlotLag, StreamPosition};
use ballpoint_runtime::segment::{SourceError, TableName};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::log::ChangeLog;

/// A session of a killed predecessor is noticed by its server within moments.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);
const RELEASE_POLL: Duration = Duration::from_millis(5);

/// What the server says of a slot.
#[derive(Debug)]
struct Slot {
    plugin: String,
    in_this_database: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`; none when it reserves nothing.
    wal_status: Option<String>,
    confirmed: Option<Lsn>,
}

/// See [`ballpoint_runtime::changes::ChangeSource::attach`].
pub(super) async fn attach(
    log: &ChangeLog,
    name: &str,
    tables: &[TableName],
    from: Option<&StreamPosition>,
) -> Result<Attached, SourceError> {
    let mut session = log.session(name).await?;
    let system = session
        .identify_system()
        .await
        .map_err(|error| log.wire_failure(&error))?;
    drop(session);
    let mut connection = log.connection().await?;
    let failed = |error: sqlx::Error| log.failed(&error);
    let published = published(&mut connection, name).await.map_err(failed)?;
    if let Some(from) = from {
        let slot = find(&mut connection, name).await.map_err(failed)?;
        let here = (
            system.system_id.as_str(),
            system.timeline,
            Lsn(system.xlogpos.0),
        );
        let reason = log
            .take_broken()
            .or_else(|| gap(name, from, slot.as_ref(), here))
            .or_else(|| {
                let gone = published.is_none();
                gone.then(|| format!("publication {name} is gone"))
            });
        if let Some(reason) = reason {
            return Ok(Attached::Gap { reason });
        }
    } else {
        drop_slot(log, &mut connection, name).await?;
    }
    let added = beyond(tables, published.as_deref().unwrap_or_default());
    publish_exactly(&mut connection, name, tables, published)
        .await
        .map_err(failed)?;
    log.source().connections().give_back(connection);
    Ok(match from {
        Some(_) => Attached::Continues { added },
        None => Attached::Begins {
            system: system.system_id,
            timeline: system.timeline,
        },
    })
}

/// Why changes after the warehouse's position cannot be read, if they cannot.
fn gap(
    name: &str,
    from: &StreamPosition,
    slot: Option<&Slot>,
    (system, timeline, end): (&str, u32, Lsn),
) -> Option<String> {
    let at = from.end;
    if from.system != system {
        return Some(format!(
            "the server is another one: its system identifier is {system}, that of the warehouse's \
             position {at} is {}",
            from.system
        ));
    }
    if from.timeline != timeline {
        return Some(format!(
            "the server is on timeline {timeline}, the warehouse's position {at} on {}: it was \
             restored or failed over",
            from.timeline
        ));
    }
    if end < at {
        return Some(format!(
            "the server's log ends at {end}, before the warehouse's position {at}: it was restored"
        ));
    }
    let Some(slot) = slot else {
        return Some(format!(
            "slot {name} is missing; the warehouse stands at {at}, the server at {end}"
        ));
    };
    if slot.plugin != "pgoutput" || !slot.in_this_database {
        return Some(format!("slot {name} is somebody else's"));
    }
    if slot.wal_status.as_deref() == Some("lost") {
        return Some(format!(
            "slot {name} is lost: the server needed its log's space (max_slot_wal_keep_size) before \
             the warehouse had read on from {at}; the server stands at {end}"
        ));
    }
    match slot.confirmed {
        Some(confirmed) if confirmed > at => Some(format!(
            "slot {name} was moved to {confirmed}, past the warehouse's position {at}"
        )),
        _ => None,
    }
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Slot>, sqlx::Error> {
    type Row = (String, bool, Option<String>, Option<String>);
    let row: Option<Row> = sqlx::query_as(
        "select coalesce(plugin::text, ''), coalesce(database = current_database(), false),
                wal_status, confirmed_flush_lsn::text
         from pg_replication_slots where slot_name = $1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    Ok(
        row.map(|(plugin, in_this_database, wal_status, confirmed)| Slot {
            plugin,
            in_this_database,
            wal_status,
            confirmed: confirmed.and_then(|text| text.parse().ok()),
        }),
    )
}

/// The tables of the publication; `None` where there is none.
async fn published(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<Vec<TableName>>, sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_publication where pubname = $1)")
            .bind(name)
            .fetch_one(&mut *connection)
            .await?;
    if !exists {
        return Ok(None);
    }
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select n.nspname::text, c.relname::text
         from pg_publication b join pg_publication_rel r on r.prpubid = b.oid
         join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
         where b.pubname = $1",
    )
    .bind(name)
    .fetch_all(connection)
    .await?;
    let named = rows
        .into_iter()
        .map(|(schema, name)| TableName { schema, name });
    Ok(Some(named.collect()))
}

/// See [`ballpoint_runtime::changes::ChangeSource::publish`].
pub(super) async fn publish(
    log: &ChangeLog,
    name: &str,
    tables: &[TableName],
) -> Result<Option<Vec<TableName>>, SourceError> {
    let failed = |error: sqlx::Error| log.failed(&error);
    let mut connection = log.connection().await?;
    let published = published(&mut connection, name).await.map_err(failed)?;
    let added = published
        .as_ref()
        .map(|published| beyond(tables, published));
    if added.is_some() {
        publish_exactly(&mut connection, name, tables, published)
            .await
            .map_err(failed)?;
    }
    log.source().connections().give_back(connection);
    Ok(added)
}

/// Those of `tables` that are not among `published`.
fn beyond(tables: &[TableName], published: &[TableName]) -> Vec<TableName> {
    let added = tables.iter().filter(|table| !published.contains(table));
    added.cloned().collect()
}

/// Publishes exactly `tables`; says nothing to the server when it does already.
async fn publish_exactly(
    connection: &mut PgConnection,
    name: &str,
    tables: &[TableName],
    published: Option<Vec<TableName>>,
) -> Result<(), sqlx::Error> {
    let list = |tables: &[TableName]| {
        let quoted = tables
            .iter()
            .map(|table| quote_qualified(&table.schema, &table.name));
        quoted.collect::<Vec<_>>().join(", ")
    };
    let name = quote(name);
    let statement = match published {
        None => format!(
            "create publication {name} for table {} with (publish_via_partition_root = true)",
            list(tables)
        ),
        Some(published) => {
            let same = tables.len() == published.len()
                && tables.iter().all(|table| published.contains(table));
            if same {
                return Ok(());
            }
            format!("alter publication {name} set table {}", list(tables))
        }
    };
    write(connection, statement).await
}

/// Our sessions read only, but for these.
async fn write(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    let statement = format!("begin read write; {statement}; commit");
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

/// Drops a slot that exists, once nobody reads from it.
async fn drop_slot(
    log: &ChangeLog,
    connection: &mut PgConnection,
    name: &str,
) -> Result<(), SourceError> {
    let started = Instant::now();
    loop {
        let dropped = sqlx::query(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots
             where slot_name = $1",
        )
        .bind(name)
        .execute(&mut *connection)
        .await;
        match dropped {
            Ok(_) => return Ok(()),
            Err(error) if is(&error, "42704") => return Ok(()),
            Err(error) if is(&error, "55006") && started.elapsed() < RELEASE_TIMEOUT => {
                tokio::time::sleep(RELEASE_POLL).await;
            }
            Err(error) => return Err(log.failed(&error)),
        }
    }
}

/// Waits until no session reads from the slot: a killed predecessor's may be noticed late.
pub(super) async fn until_free(log: &ChangeLog, name: &str) -> Result<(), SourceError> {
    let mut connection = log.connection().await?;
    let started = Instant::now();
    loop {
        let active: Option<i32> = sqlx::query_scalar(
            "select active_pid from pg_replication_slots where slot_name = $1 and active",
        )
        .bind(name)
        .fetch_optional(&mut connection)
        .await
        .map_err(|error| log.failed(&error))?
        .flatten();
        let Some(pid) = active else { break };
        if started.elapsed() > RELEASE_TIMEOUT {
            return Err(log.unavailable(format!("slot {name} is read by another session ({pid})")));
        }
        tokio::time::sleep(RELEASE_POLL).await;
    }
    log.source().connections().give_back(connection);
    Ok(())
}

pub(super) fn is(error: &sqlx::Error, code: &str) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.code().as_deref() == Some(code))
}

/// See [`ballpoint_runtime::changes::ChangeSource::mark`].
pub(super) async fn mark(log: &ChangeLog) -> Result<Lsn, SourceError> {
    let mut connection = log.connection().await?;
    let marked: Result<String, _> =
        sqlx::query_scalar("select pg_logical_emit_message(true, 'ballpoint', '')::text")
            .fetch_one(&mut connection)
            .await;
    let at = marked.map_err(|error| log.failed(&error))?;
    log.source().connections().give_back(connection);
    position(log, &at)
}

/// See [`ballpoint_runtime::changes::ChangeSource::log_end`].
pub(super) async fn log_end(log: &ChangeLog) -> Result<Lsn, SourceError> {
    let mut connection = log.connection().await?;
    let at: Result<String, _> = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
        .fetch_one(&mut connection)
        .await;
    let at = at.map_err(|error| log.failed(&error))?;
    log.source().connections().give_back(connection);
    position(log, &at)
}

fn position(log: &ChangeLog, text: &str) -> Result<Lsn, SourceError> {
    text.parse()
        .map_err(|error: ballpoint_runtime::changes::LsnError| log.unavailable(error))
}

/// See [`ballpoint_runtime::changes::ChangeSource::lag`].
pub(super) async fn lag(log: &ChangeLog, name: &str) -> Result<Option<SlotLag>, SourceError> {
    let mut connection = log.connection().await?;
    // The age is its reader's to know: without one nobody does.
    let row: Option<(i64, Option<f64>, i64)> = sqlx::query_as(
        "select greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn))::bigint,
                case when r.pid is not null
                     then coalesce(extract(epoch from r.replay_lag), 0)::float8 end,
                greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn))::bigint
         from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid
         where s.slot_name = $1 and s.confirmed_flush_lsn is not null",
    )
    .bind(name)
    .fetch_optional(&mut connection)
    .await
    .map_err(|error| log.failed(&error))?;
    log.source().connections().give_back(connection);
    Ok(row.map(|(bytes, seconds, retained)| SlotLag {
        bytes: bytes.unsigned_abs(),
        seconds,
        retained_bytes: retained.unsigned_abs(),
    }))
}

/// See [`ballpoint_runtime::changes::ChangeSource::retire`].
pub(super) async fn retire(log: &ChangeLog, name: &str) -> Result<(), SourceError> {
    let mut connection = log.connection().await?;
    drop_slot(log, &mut connection, name).await?;
    let statement = format!("drop publication if exists {}", quote(name));
    write(&mut connection, statement)
        .await
        .map_err(|error| log.failed(&error))?;
    tracing::info!(slot = %quote_literal(name), "slot and publication removed from the source");
    log.source().connections().give_back(connection);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(end: u64) -> StreamPosition {
        StreamPosition {
            slot: "s".to_owned(),
            system: "7".to_owned(),
            timeline: 1,
            end: Lsn(end),
        }
    }

    fn slot(confirmed: u64, status: &str) -> Slot {
        Slot {
            plugin: "pgoutput".to_owned(),
            in_this_database: true,
            wal_status: Some(status.to_owned()),
            confirmed: Some(Lsn(confirmed)),
        }
    }

    #[test]
    fn a_slot_at_or_before_the_position_is_no_gap() {
        let here = ("7", 1, Lsn(300));
        assert_eq!(gap("s", &at(200), Some(&slot(200, "reserved")), here), None);
        assert_eq!(gap("s", &at(200), Some(&slot(100, "extended")), here), None);
    }

    #[test]
    fn every_way_to_lose_the_log_is_a_gap_that_says_where() {
        let good = slot(100, "reserved");
        for (slot, here, words) in [
            (None, ("7", 1, Lsn(300)), "slot s is missing"),
            (
                Some(&slot(250, "reserved")),
                ("7", 1, Lsn(300)),
                "past the warehouse's position 0/C8",
            ),
            (Some(&slot(100, "lost")), ("7", 1, Lsn(300)), "is lost"),
            (Some(&good), ("8", 1, Lsn(300)), "another one"),
            (Some(&good), ("7", 2, Lsn(300)), "timeline 2"),
            (Some(&good), ("7", 1, Lsn(150)), "ends at 0/96"),
        ] {
            let reason = gap("s", &at(200), slot, here).unwrap();
            assert!(reason.contains(words), "{reason}");
            assert!(reason.contains("0/C8"), "{reason} names the position");
        }
    }
}
