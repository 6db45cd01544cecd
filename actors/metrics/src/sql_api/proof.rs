//! Proofs of results of the SQL API: what a statement over cubes became, and the rows that went by.
//!
//! Rows are not kept. Each is hashed as it passes, in the bytes that the client gets, and a replay asks
//! for the same bytes again: values in PostgreSQL's text or binary form, each as the client took it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::sync::OnceCell;
use tracing::Instrument as _;

use super::bound::{Bound, written_out};
use super::tally::{Column, Form, Tally, row_of};
use crate::execute::{columns_of, text_columns};
use crate::model::SecurityContext;
use crate::proof::{Evidence, TableVersion, hex};
use crate::served::Collected;
use crate::service::Service;
use crate::versions::Known;

/// Settings of a session that change how values are written, and that PostgreSQL tells its clients.
const WRITING: [&str; 3] = ["TimeZone", "DateStyle", "IntervalStyle"];

/// A statement over cubes, translated: what its results are proved with.
#[derive(Debug)]
pub struct Asked {
    /// The client's own words.
    pub(super) statement: String,
    /// What the warehouse is sent for them.
    pub(super) sent: String,
    pub(super) zone: String,
    pub(super) context: SecurityContext,
    /// What the planner was asked.
    pub(super) queries: Vec<Value>,
    /// What the planner made of it.
    pub(super) collected: Collected,
    pub(super) definition: Vec<Value>,
    pub(super) model_hash: String,
    pub(super) data_version: u64,
}

/// Watches the rows of one result go by.
pub struct Witness {
    service: Service,
    asked: Arc<Asked>,
    id: String,
    values: Vec<Bound>,
    columns: Vec<Column>,
    settings: BTreeMap<String, String>,
    tally: Tally,
    before: Known,
}

/// A result that went out.
#[derive(Debug)]
pub(crate) struct SqlResult {
    id: String,
    asked: Arc<Asked>,
    values: Vec<Bound>,
    columns: Vec<Column>,
    settings: BTreeMap<String, String>,
    tally: Tally,
    before: Known,
    at: Timestamp,
    /// The tables and what stands behind them.
    seen: OnceCell<(Vec<TableVersion>, Value)>,
}

impl SqlResult {
    pub(crate) fn bytes(&self) -> usize {
        let values = self.values.iter().map(Bound::bytes);
        self.asked.statement.len() + values.sum::<usize>() + self.tally.bytes() + 2048
    }
}

impl Service {
    /// Begins to watch a result of a statement, with the values that were bound to it.
    pub fn witness(&self, asked: &Arc<Asked>, values: Vec<Bound>) -> Witness {
        Witness {
            service: self.clone(),
            asked: Arc::clone(asked),
            id: new_id(asked, self.clock.real_now()),
            values,
            columns: Vec::new(),
            settings: BTreeMap::new(),
            tally: Tally::default(),
            before: self.results.versions.at_present(),
        }
    }

    /// The proof of a result of the SQL API.
    pub(crate) async fn sql_proof(&self, result: &SqlResult) -> Value {
        let (tables, behind) = self.seen(result).await;
        result.proof(tables, behind)
    }

    async fn seen<'r>(&self, result: &'r SqlResult) -> &'r (Vec<TableVersion>, Value) {
        let look = async {
            let reads = self.reads_of(&result.asked.collected).await;
            let relations = reads.unwrap_or_default().relations;
            let version = |it| TableVersion::of(it, result.before.of(it));
            let tables = relations.iter().map(version).collect();
            let behind = self.look_behind(&relations);
            (tables, self.behind_of(&behind, &relations).await)
        };
        result.seen.get_or_init(|| look).await
    }

    /// The proof that the statement of `proof` would get now, for the same caller.
    ///
    /// # Errors
    /// Why it is not answered any more.
    pub async fn prove_sql(&self, proof: &Value) -> Result<Value, String> {
        if let Some(why) = proof["bound"].as_str() {
            return Err(why.to_owned());
        }
        let text = |at: &str| proof[at].as_str().unwrap_or_default();
        let columns = serde_json::from_value(proof["columns"].clone()).unwrap_or_default();
        let settings = serde_json::from_value(proof["settings"].clone()).unwrap_or_default();
        let context = SecurityContext::of_shown(&proof["context"]);
        let translated = self.translate_in(text("statement"), text("timezone"), &context);
        let translated = translated.await.map_err(|error| error.to_string())?;
        let asked = translated.asked.into_iter().flatten().next();
        let asked = asked.ok_or("it asks no cube")?;
        let mut witness = self.witness(&asked, Vec::new());
        (witness.columns, witness.settings) = (columns, settings);
        let failed = |error| self.runner.explain(error).to_string();
        let mut session = self.runner.session().await.map_err(failed)?;
        let ran = match session.connection() {
            Some(connection) => witness.run(connection, &translated.sql).await,
            None => Err(sqlx::Error::PoolClosed),
        };
        // Nothing was written that the end could lose.
        let _ = session.end("ROLLBACK").await;
        ran.map_err(failed)?;
        Ok(self.sql_proof(&witness.result()).await)
    }
}

impl Witness {
    /// Names the proof.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    pub fn columns(&mut self, columns: Vec<Column>) {
        self.columns = columns;
    }

    /// Takes note of how the session writes values.
    pub fn setting(&mut self, name: &str, value: &str) {
        if WRITING.contains(&name) {
            self.settings.insert(name.to_owned(), value.to_owned());
        }
    }

    /// A row passes: the number of its values, and each with its length.
    pub fn row(&mut self, row: &[u8]) {
        self.tally.add(&self.columns, row);
    }

    /// The last row has passed: from now on the proof can be asked for by the id.
    pub fn end(self) -> String {
        let service = self.service.clone();
        let result = Arc::new(self.result());
        let id = result.id.clone();
        let answered = crate::given::Answered::Sql(Arc::clone(&result));
        service.results.given.add(&id, answered);
        // Beside the client's way: what stands behind the rows now is looked up now.
        let look = async move {
            service.seen(&result).await;
        };
        tokio::spawn(look.in_current_span());
        id
    }

    fn result(self) -> SqlResult {
        SqlResult {
            id: self.id,
            asked: self.asked,
            values: self.values,
            columns: self.columns,
            settings: self.settings,
            tally: self.tally,
            before: self.before,
            at: self.service.clock.real_now(),
            seen: OnceCell::new(),
        }
    }

    /// Reads the rows again, each value in the form that the client took it in.
    async fn run(&mut self, connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
        for (name, value) in &self.settings {
            let set = sqlx::query("select set_config($1, $2, true)").bind(name);
            set.bind(value).execute(&mut *connection).await?;
        }
        let sql = sql.trim_end().trim_end_matches(';');
        let described = columns_of(connection, sql).await?;
        let kinds: Vec<String> = described.into_iter().map(|(_, kind)| kind).collect();
        let (names, texts) = text_columns(&kinds);
        let is_json = |it: &Column| it.form == Form::Json;
        let selected = if self.columns.iter().all(is_json) {
            texts
        } else {
            let forms = self.columns.iter().map(|it| it.form);
            let selected: Vec<String> = forms.enumerate().map(|(at, it)| it.read(at)).collect();
            selected.join(", ")
        };
        // A newline ends a comment that the text may end with.
        let sql = format!("SELECT {selected} FROM (\n{sql}\n) AS result ({names})");
        let mut rows = sqlx::query(AssertSqlSafe(sql))
            .persistent(false)
            .fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let mut cells = Vec::with_capacity(row.len());
            for at in 0..row.len() {
                cells.push(row.try_get_raw(at)?.as_bytes().ok());
            }
            self.tally.add(&self.columns, &row_of(&cells));
        }
        Ok(())
    }
}

impl SqlResult {
    fn proof(&self, tables: &[TableVersion], behind: &Value) -> Value {
        let asked = &self.asked;
        let parts = asked.collected.parts();
        let statement = written_out(&asked.statement, &self.values);
        let (statement, bound) = match statement {
            Ok(statement) => (statement, None),
            Err(why) => (asked.statement.clone(), Some(why)),
        };
        let sent = written_out(&asked.sent, &self.values).unwrap_or_else(|_| asked.sent.clone());
        // The rows are those of the whole statement, whatever it reads.
        let evidence = parts.iter().enumerate().map(|(at, part)| Evidence {
            policy: part.policy.clone(),
            rollup: part.rollup.clone(),
            tables: tables.to_vec(),
            rows: if at == 0 {
                self.tally.proofs().to_vec()
            } else {
                Vec::new()
            },
        });
        let mut proof = json!({
            "id": self.id,
            "at": self.at.to_string(),
            "statement": statement,
            "timezone": asked.zone,
            "settings": self.settings,
            "columns": self.columns,
            "context": asked.context.shown(),
            "query": asked.queries,
            "definition": asked.definition,
            "model_hash": asked.model_hash,
            "sql": sent,
            "rows": self.tally.rows(),
            "checksum": self.tally.checksum(),
            "behind": behind,
            "evidence": evidence.collect::<Vec<_>>(),
            "data_version": asked.data_version,
        });
        if let Some(why) = bound {
            proof["bound"] = json!(why);
        }
        proof
    }
}

/// Another for each result: it goes out before the rows are known.
fn new_id(asked: &Asked, now: Timestamp) -> String {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let mut hasher = Sha256::new();
    hasher.update(&asked.statement);
    hasher.update(asked.context.shown().to_string());
    hasher.update(now.as_nanosecond().to_le_bytes());
    hasher.update(GIVEN.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    hex(&hasher.finalize()[..16])
}
