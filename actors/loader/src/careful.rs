//! A load whose rows are landed in batches, each under a savepoint: after PostgreSQL has refused a
//! value, the batch is halved until the row stands alone, which is then kept in `_rejected`. Slower
//! than one COPY, and only taken once that has failed for a row.

use ballpoint_postgres::copy::copy_in;
use ballpoint_postgres::ident::quote;
use ballpoint_runtime::records::RefusedRow;
use ballpoint_runtime::segment::{
    PageRange, RowStream, Rows, Segment, SourceError, SyncMode, TableName, TableSpec, WriteMode,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sqlx::AssertSqlSafe;

use crate::error::LoadError;
use crate::merge::{self, Merged};
use crate::rejected::REFUSED_MAX;
use crate::replace::{self, Building};
use crate::report::TableReport;
use crate::sync::copy_failure;
use crate::target::{self, Target};
use crate::transaction::WarehouseTransaction;
use crate::tuples::{self, Splitter};

/// Rows and bytes that are landed, and halved, together.
const BATCH_ROWS: usize = 2_000;
const BATCH_BYTES: usize = 1 << 20;
/// Of a rejected row's text, in characters.
const SHOWN_CHARS: usize = 10_000;
const SAVEPOINT: &str = "savepoint _ballpoint_batch";
const TAKE_BACK: &str =
    "rollback to savepoint _ballpoint_batch; release savepoint _ballpoint_batch";
const KEEP: &str = "release savepoint _ballpoint_batch";

/// Lands what can be landed and returns the rest; counts into `report`.
pub(crate) async fn land(
    transaction: &mut WarehouseTransaction,
    report: &mut TableReport,
    target: Option<Target>,
    segment: Segment,
) -> Result<Vec<RefusedRow>, LoadError> {
    let Segment {
        spec, write, rows, ..
    } = segment;
    let into = match write {
        WriteMode::Replace => {
            let new = replace::begin(transaction, &report.raw, &spec).await?;
            Into::New(new)
        }
        WriteMode::Merge | WriteMode::Append => {
            let refresh = spec.mode == SyncMode::FullRefresh;
            let raw = replace::present(transaction, &report.raw, target.clone(), &spec, refresh);
            Into::Present(raw.await?, write == WriteMode::Merge)
        }
    };
    let mut landing = Landing {
        transaction,
        spec: &spec,
        into,
        landed: Merged::default(),
        refused: Vec::new(),
        table: report.table.clone(),
    };
    landing.take(rows).await?;
    let Landing {
        into,
        landed,
        refused,
        ..
    } = landing;
    match into {
        Into::New(new) => {
            replace::complete(transaction, &report.raw, target.as_ref(), &new).await?;
        }
        Into::Present(raw, _) if spec.mode == SyncMode::FullRefresh => {
            raw.keep_generation(transaction).await?;
        }
        Into::Present(..) => {}
    }
    report.read = landed.read + refused.len() as u64;
    report.inserted = landed.inserted;
    report.updated = landed.updated;
    Ok(refused)
}

/// Where the rows go.
enum Into {
    /// A table that is swapped in at the end.
    New(Building),
    /// The raw table; merged by key, or appended.
    Present(Target, bool),
}

struct Landing<'a> {
    transaction: &'a mut WarehouseTransaction,
    spec: &'a TableSpec,
    into: Into,
    landed: Merged,
    refused: Vec<RefusedRow>,
    table: TableName,
}

impl Landing<'_> {
    async fn take(&mut self, rows: Rows) -> Result<(), LoadError> {
        match rows {
            Rows::Stream(rows) => self.take_stream(rows).await,
            Rows::Ranges(mut ranges) => {
                let all = PageRange::remaining(ranges.pages, ranges.step, &[]);
                let mut readers = ranges.readers.drain(..);
                let mut reader = readers
                    .next()
                    .expect("ranges come with at least one reader");
                for range in all {
                    let rows = reader.read(range).await?;
                    self.take_stream(rows).await?;
                }
                reader.end().await;
                for reader in readers {
                    reader.end().await;
                }
                Ok(())
            }
        }
    }

    async fn take_stream(&mut self, mut rows: RowStream) -> Result<(), LoadError> {
        let mut splitter = Splitter::default();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(chunk) = rows.next().await {
            let split = splitter.push(&chunk?);
            for row in split.map_err(|error| self.malformed(&error))? {
                bytes += row.len();
                batch.push(row);
                if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                    self.land_batch(&batch).await?;
                    batch.clear();
                    bytes = 0;
                }
            }
        }
        splitter.end().map_err(|error| self.malformed(&error))?;
        self.land_batch(&batch).await
    }

    fn malformed(&self, error: &tuples::Malformed) -> LoadError {
        LoadError::Source(SourceError::Read {
            source_name: String::new(),
            table: self.table.clone(),
            reason: error.to_string(),
        })
    }

    /// Lands the batch, or its halves, down to the rows that cannot be.
    async fn land_batch(&mut self, batch: &[Bytes]) -> Result<(), LoadError> {
        let mut waiting = vec![batch];
        while let Some(rows) = waiting.pop() {
            if rows.is_empty() {
                continue;
            }
            self.run(SAVEPOINT).await?;
            match self.try_land(rows).await {
                Ok(landed) => {
                    self.run(KEEP).await?;
                    self.landed.read += landed.read;
                    self.landed.inserted += landed.inserted;
                    self.landed.updated += landed.updated;
                }
                Err(error) if error.is_of_a_row() => {
                    self.run(TAKE_BACK).await?;
                    if let [row] = rows {
                        self.refuse(row, &error).await?;
                    } else {
                        // In their order: of two rows with one key the later one stays.
                        let (first, second) = rows.split_at(rows.len() / 2);
                        waiting.extend([second, first]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn try_land(&mut self, rows: &[Bytes]) -> Result<Merged, LoadError> {
        let whole = tuples::join(rows);
        let rows: RowStream = stream::iter([Ok::<_, SourceError>(whole)]).boxed();
        match &self.into {
            Into::New(new) => {
                let read = copy_in(self.transaction, &new.copy, rows)
                    .await
                    .map_err(copy_failure)?;
                Ok(Merged {
                    read,
                    inserted: read,
                    updated: 0,
                })
            }
            Into::Present(raw, merges) => {
                let key = match merges {
                    true => target::merge_key(self.spec),
                    false => &[],
                };
                let merged = merge::merge(self.transaction, raw, self.spec, key, rows).await?;
                merge::clear(self.transaction).await?;
                Ok(merged)
            }
        }
    }

    async fn refuse(&mut self, row: &Bytes, error: &LoadError) -> Result<(), LoadError> {
        if self.refused.len() >= REFUSED_MAX {
            return Err(LoadError::Refused {
                table: self.table.clone(),
                limit: REFUSED_MAX,
                reason: error.to_string(),
            });
        }
        let (reason, column) = reason_of(error, self.spec);
        let culprit = column.as_deref();
        let (key, text) = match self.describe(row, culprit, false).await? {
            Some(described) => described,
            None => {
                let as_bytes = self.describe(row, culprit, true).await?;
                as_bytes.unwrap_or_else(|| (None, format!("{row:?}")))
            }
        };
        self.refused.push(RefusedRow {
            key,
            column,
            reason,
            row: text.chars().take(SHOWN_CHARS).collect(),
        });
        Ok(())
    }

    /// The key and the text of a row, as PostgreSQL writes them; the culprit, or with `all` every
    /// column, as bytes. `None`: it does not take the row that way either.
    async fn describe(
        &mut self,
        row: &Bytes,
        culprit: Option<&str>,
        all: bool,
    ) -> Result<Option<(Option<String>, String)>, LoadError> {
        let is_bytes = |name: &str| all || culprit == Some(name);
        let columns: Vec<String> = self
            .spec
            .columns
            .iter()
            .map(|column| {
                let sql_type = match is_bytes(&column.name) {
                    true => "bytea",
                    false => column.sql_type.as_str(),
                };
                format!("{} {sql_type}", quote(&column.name))
            })
            .collect();
        let shown = |name: &String| match is_bytes(name) {
            true => format!("encode({}, 'escape')", quote(name)),
            false => format!("{}::text", quote(name)),
        };
        let key: Vec<String> = self.spec.primary_key.iter().map(shown).collect();
        let key = match key.as_slice() {
            [] => "null::text".to_owned(),
            some => format!("concat_ws(', ', {})", some.join(", ")),
        };
        let names = self.spec.columns.iter().map(|column| &column.name);
        let row_text: Vec<String> = names.map(shown).collect();
        self.run(SAVEPOINT).await?;
        let create = format!(
            "create temporary table _ballpoint_refused ({}) on commit drop",
            columns.join(", ")
        );
        self.run(&create).await?;
        let rows: RowStream = stream::iter([Ok(tuples::join(std::slice::from_ref(row)))]).boxed();
        let copy = "COPY pg_temp._ballpoint_refused FROM STDIN (FORMAT binary)";
        let described = match copy_in(self.transaction, copy, rows).await {
            Ok(_) => {
                let sql = format!(
                    "select {key}, row({})::text from pg_temp._ballpoint_refused",
                    row_text.join(", ")
                );
                let text = sqlx::query_as(AssertSqlSafe(sql))
                    .persistent(false)
                    .fetch_one(&mut **self.transaction)
                    .await
                    .map_err(LoadError::warehouse("describing a rejected row"))?;
                Some(text)
            }
            Err(_) => None,
        };
        self.run(TAKE_BACK).await?;
        Ok(described)
    }

    async fn run(&mut self, sql: &str) -> Result<(), LoadError> {
        self.transaction
            .run(sql.to_owned())
            .await
            .map_err(LoadError::warehouse("setting a row aside"))?;
        Ok(())
    }
}

/// Why PostgreSQL refused the row, and which column, where it says so.
fn reason_of(error: &LoadError, spec: &TableSpec) -> (String, Option<String>) {
    let LoadError::Warehouse { source, .. } = error else {
        return (error.to_string(), None);
    };
    let Some(refusal) = source
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
    else {
        return (source.to_string(), None);
    };
    // A COPY names the column at the end of its context: `COPY t, line 1, column "name"`.
    let named = refusal.column().map(str::to_owned).or_else(|| {
        let context = refusal.r#where()?;
        let (_, column) = context.lines().next()?.rsplit_once(", column ")?;
        let column = column.split(": ").next().unwrap_or(column);
        Some(column.trim_matches('"').to_owned())
    });
    let known = named.filter(|name| spec.columns.iter().any(|column| column.name == *name));
    (refusal.message().to_owned(), known)
}
