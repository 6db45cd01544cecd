//! SQL over cubes: what a client of the PostgreSQL protocol sends becomes what the warehouse is sent.
//!
//! A cube or view is a table; `MEASURE(x)` is its measure. A SELECT over one is rewritten to the
//! planner's statement, so that joins, access policies and rollups are those of every other query.
//! Everything else must be about the catalogue alone: PostgreSQL's own answers introspection, of
//! which the cubes are part as empty tables ([`tables`]). Nothing else of the warehouse is reached.
//!
//! The text is checked before it is parsed: its words (`words`) name no relation that is
//! not served and call no function that is not known to be harmless. Beside that, the warehouse is
//! reached as the role that can read and nothing else.

mod answer;
mod block;
mod bound;
mod columns;
mod expressions;
mod functions;
mod planned;
pub(crate) mod proof;
mod replaced;
mod rewrite;
pub mod tables;
mod tally;
mod timeouts;

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use sqlx::ConnectOptions as _;

use crate::model::{Model, SecurityContext, nearest};
use crate::plan::QueryError;
use crate::relations;
use crate::service::Service;
use crate::words::Words;

pub use bound::Bound;
pub use proof::{Asked, Witness};
pub use tally::Column;

/// The schema in which cubes and views stand as tables.
pub const SCHEMA: &str = "cubes";

/// What may begin a statement.
const STATEMENTS: [&str; 22] = [
    "select",
    "with",
    "values",
    "show",
    "explain",
    "declare",
    "fetch",
    "move",
    "close",
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "discard",
    "deallocate",
    "unlisten",
];

/// Words that change something, wherever they stand in a statement.
const CHANGING: [&str; 8] = [
    "insert", "update", "delete", "merge", "into", "truncate", "create", "execute",
];

/// Settings that a client may make its own.
const SETTINGS: [&str; 14] = [
    "application_name",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "intervalstyle",
    "timezone",
    "time",
    "extra_float_digits",
    "bytea_output",
    "transaction",
    "characteristics",
    "names",
    "jit",
    "statement_timeout",
];

/// Relations of the catalogue that hold values of rows, or what others are asking.
const TELLING: [&str; 15] = [
    "pg_authid",
    "pg_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_locks",
    "pg_subscription",
    "pg_user_mapping",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_user_mappings",
    "pg_largeobject",
    "pg_shadow",
];

/// Begin the names of views that count what others do, and rows of what is not served.
const COUNTING: [&str; 2] = ["pg_stat_", "pg_statio_"];

/// Why a statement is refused, as PostgreSQL would say it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// SQLSTATE.
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
}

impl SqlError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }
}

impl From<QueryError> for SqlError {
    fn from(error: QueryError) -> Self {
        let code = match &error {
            QueryError::Denied(_) => "42501",
            QueryError::Invalid(_) | QueryError::Unplannable(_) => "42P10",
            QueryError::TooSlow { .. } => "57014",
            QueryError::Database { .. } => "XX000",
            _ => "57P03",
        };
        Self::new(code, error.to_string())
    }
}

/// A text as the warehouse is sent it.
#[derive(Debug)]
pub struct Translated {
    pub sql: String,
    /// For each of its statements, what its rows are proved with; `None` where it reads no cube.
    pub asked: Vec<Option<Arc<Asked>>>,
}

impl Translated {
    /// A text that is sent as it is, and reads no cube.
    pub fn plain(sql: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            asked: Vec::new(),
        }
    }
}

/// What a translation depends on beside its text and its caller: while this is the same, so is it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    model: String,
    /// Of the data, which rollups follow.
    epoch: u64,
    /// What policies call "last month" is another month some day.
    today: Date,
}

/// Where the warehouse is, and who asks it.
#[derive(Clone)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// A folder of sockets, instead of the host.
    pub socket: Option<std::path::PathBuf>,
    pub user: String,
    pub password: String,
    pub database: String,
    /// Whether it is reached over TLS only.
    pub needs_tls: bool,
}

impl Service {
    /// What to send to the warehouse for a client's text.
    ///
    /// # Errors
    /// What the text asks for beyond cubes, views and the catalogue, and cubes as the planner refuses
    /// them.
    pub async fn translate(
        &self,
        sql: &str,
        context: &SecurityContext,
    ) -> Result<Translated, SqlError> {
        self.translate_in(sql, "UTC", context).await
    }

    /// What a translation that is made now depends on.
    pub fn basis(&self) -> Basis {
        Basis {
            model: self.snapshot.model.hash.clone(),
            epoch: self.results.versions.epoch(),
            today: self.clock.business_now().to_zoned(TimeZone::UTC).date(),
        }
    }

    /// The same with the days and hours of a time zone.
    pub(crate) async fn translate_in(
        &self,
        sql: &str,
        zone: &str,
        context: &SecurityContext,
    ) -> Result<Translated, SqlError> {
        let words = Words::of(sql);
        check(sql, &words)?;
        timeouts::check(sql, &words, self.runner.pool()).await?;
        if !names_a_cube(&self.snapshot.model, &words) {
            self.check_relations(sql, context).await?;
            return Ok(Translated::plain(sql));
        }
        rewrite::rewrite(self, sql, zone, context)
    }

    /// Refuses whatever names a relation beyond the catalogue and the cubes' own tables.
    async fn check_relations(&self, sql: &str, context: &SecurityContext) -> Result<(), SqlError> {
        let pool = self.runner.pool();
        let away = |error: sqlx::Error| {
            SqlError::new("57P03", format!("the warehouse cannot be reached: {error}"))
        };
        let reads = relations::reads(pool, &[sql.to_owned()])
            .await
            .map_err(away)?;
        match reads.relations.iter().find(|it| it.schema != SCHEMA) {
            None => Ok(()),
            Some(other) => Err(not_served(
                &self.snapshot.model,
                context,
                &format!("{}.{}", other.schema, other.name),
            )),
        }
    }

    /// How the warehouse is reached, for who passes statements on.
    pub fn upstream(&self) -> Option<Upstream> {
        use sqlx::postgres::PgSslMode::{Require, VerifyCa, VerifyFull};
        let options = self.runner.pool().connect_options();
        let url = options.to_url_lossy();
        let decoded = |text: &str| percent_decoded(text);
        Some(Upstream {
            host: options.get_host().to_owned(),
            port: options.get_port(),
            socket: options.get_socket().cloned(),
            user: options.get_username().to_owned(),
            password: decoded(url.password().unwrap_or_default()),
            database: options.get_database().unwrap_or("postgres").to_owned(),
            needs_tls: matches!(options.get_ssl_mode(), Require | VerifyCa | VerifyFull),
        })
    }
}

/// What no statement may hold, whatever it is about.
fn check(sql: &str, words: &Words) -> Result<(), SqlError> {
    if words.has_escaped_name || sql.contains(['\u{1}', block::OPEN, block::CLOSE]) {
        return Err(SqlError::unsupported(
            "names with escapes (U&\"…\") are not read here",
        ));
    }
    for start in &words.starts {
        if !STATEMENTS.contains(&start.as_str()) {
            let message = format!(
                "{} is not allowed: the SQL API only reads",
                start.to_uppercase()
            );
            return Err(SqlError::new("25006", message));
        }
    }
    let changing = |word: &&String| CHANGING.contains(&word.as_str());
    let lifts = |pair: &[String]| pair[0] == "read" && pair[1] == "write";
    let changing = words.bare.iter().find(changing).map(String::as_str);
    let lifting = words.bare.windows(2).any(lifts).then_some("read write");
    if let Some(word) = changing.or(lifting) {
        let message = format!(
            "{} is not allowed: the SQL API only reads",
            word.to_uppercase()
        );
        let hint = "a column of that name is written in quotes";
        return Err(SqlError::new("25006", message).hint(hint));
    }
    if let Some(call) = words
        .calls
        .iter()
        .find(|call| !functions::is_harmless(call))
    {
        let message = format!("function {call} is not allowed in the SQL API");
        return Err(SqlError::new("42501", message));
    }
    if let Some(call) = words.foreign_calls.first() {
        let message = format!("function {call} is not PostgreSQL's own: it is not called here");
        return Err(SqlError::new("42501", message));
    }
    let names = words.names.iter().flatten();
    let tells = |name: &&String| {
        TELLING.contains(&name.as_str()) || COUNTING.iter().any(|prefix| name.starts_with(prefix))
    };
    if let Some(name) = names.clone().find(tells) {
        let message = format!("{name} tells what rows hold or others ask: it is not served");
        return Err(SqlError::new("42501", message));
    }
    for head in words.heads.iter().filter(|head| head[0] == "set") {
        let scoped = |word: &&String| matches!(word.as_str(), "session" | "local");
        let mut rest = head[1..].iter().skip_while(scoped);
        let name = rest.next().map_or("", String::as_str);
        if !SETTINGS.contains(&name) {
            let message = format!("the setting {name} is not a client's to make here");
            return Err(SqlError::new("42501", message));
        }
    }
    Ok(())
}

fn names_a_cube(model: &Model, words: &Words) -> bool {
    let is_cube = |name: &String| find_cube(model, name, false).is_some();
    words.names.iter().flatten().any(is_cube)
}

/// A public cube or view by its name; in any case of letters where the name was not quoted.
pub(crate) fn find_cube(model: &Model, name: &str, quoted: bool) -> Option<usize> {
    let mut public = model
        .cubes
        .iter()
        .enumerate()
        .filter(|(_, cube)| cube.public);
    let exact = public.clone().find(|(_, cube)| cube.name == name);
    let folded = || public.find(|(_, cube)| !quoted && cube.name.eq_ignore_ascii_case(name));
    exact.or_else(folded).map(|(at, _)| at)
}

/// A relation that is no cube; the hint names those that the caller may ask.
pub(crate) fn not_served(model: &Model, context: &SecurityContext, name: &str) -> SqlError {
    let cubes = model.names_for(context);
    let mut known: Vec<&str> = cubes.filter_map(|it| Some(it.split_once('.')?.0)).collect();
    known.dedup();
    let last = name.rsplit('.').next().unwrap_or(name);
    let near = nearest(last, known.iter().copied(), 1);
    let hint = match near.first() {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the cubes and views are: {}", known.join(", ")),
    };
    let message =
        format!("relation \"{name}\" is not served here: only cubes, views and the catalogue are");
    SqlError::new("42P01", message).hint(hint)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
