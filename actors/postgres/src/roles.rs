//! The role that queries run as: it reads the schemas it is given and does nothing else.
//!
//! What a read-only transaction does not stop was measured: large objects, notifications, advisory
//! locks and `set_config` work inside one, and `SET` takes every session default back. So rights are
//! what this file relies on; the settings it makes as well only keep honest mistakes short.
//!
//! The password is derived from the owner's own, so that it is nowhere on disk and that two programs
//! on one warehouse give the role the same.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use ring::hmac;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, Executor, PgConnection, PgPool};

use crate::ident::{quote, quote_literal};
use crate::pool::{self, ConnectError, PoolOptions};

/// What the role may read, and how much of the server it may use.
#[derive(Clone, Debug)]
pub struct QueryRole {
    pub name: String,
    pub scope: Scope,
    /// Schemas that it never sees.
    pub hidden: Vec<String>,
    pub connections_max: u32,
    pub statement_timeout: Duration,
    /// In kilobytes, for sorts and joins that do not fit in memory.
    pub temp_file_kb_max: u64,
}

impl QueryRole {
    /// The usual limits.
    pub fn new(name: impl Into<String>, scope: Scope) -> Self {
        Self {
            name: name.into(),
            scope,
            hidden: Vec::new(),
            connections_max: 32,
            statement_timeout: Duration::from_secs(60),
            temp_file_kb_max: 2 * 1024 * 1024,
        }
    }
}

/// Whose server it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Ours alone: the role reads every schema but the hidden ones, and what PostgreSQL allows
    /// everybody by default is taken back.
    OwnCluster,
    /// Somebody's: the role reads these schemas, what they hold later too, and nothing of anybody else
    /// is changed. Those that do not exist yet are made: what lands there must be readable at once.
    Schemas(Vec<String>),
}

/// Why there is no such role.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The URL names no password that the role's could be derived from.
    #[error("the url has no password from which the password of role {role} could be derived")]
    NoPassword { role: String },
    /// The owner may not do what it takes.
    #[error("role {role} cannot be made: {reason}")]
    Refused { role: String, reason: String },
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Makes the role, or brings one that exists up to date, and gives a pool that connects as it. What
/// could not be limited is returned beside it, in words.
///
/// # Errors
/// [`RoleError::Refused`] when the owner of the URL may not make roles; nothing is changed then.
pub async fn connect_as_query_role(
    url: &str,
    role: &QueryRole,
    options: PoolOptions,
) -> Result<(PgPool, Vec<String>), RoleError> {
    let password = derive(url, role)?;
    let owner = PgConnectOptions::from_str(url).map_err(|error| ConnectError::InvalidUrl {
        url: pool::redact(url),
        reason: error.to_string(),
    })?;
    let owner = owner.disable_statement_logging();
    let mut session = pool::connect_once(&owner, options.acquire_timeout).await?;
    let made = make(&mut session, role, &password).await;
    let _ = session.close().await;
    let notes = made.map_err(|error| RoleError::Refused {
        role: role.name.clone(),
        reason: pool::reason_of(&error),
    })?;
    let pool = pool::connect_as(url, &role.name, &password, options).await?;
    Ok((pool, notes))
}

/// The same owner and role have the same password.
fn derive(url: &str, role: &QueryRole) -> Result<String, RoleError> {
    let owners = pool::password_of(url).filter(|password| !password.is_empty());
    let owners = owners.ok_or_else(|| RoleError::NoPassword {
        role: role.name.clone(),
    })?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, owners.as_bytes());
    let tag = hmac::sign(&key, format!("ballpoint role {}", role.name).as_bytes());
    Ok(tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// What is new is one transaction: a role that is half limited is not left behind.
async fn make(
    session: &mut PgConnection,
    role: &QueryRole,
    password: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = session.begin().await?;
    // Two programs that start on one warehouse do this one after the other.
    transaction
        .execute("select pg_advisory_xact_lock(hashtext('ballpoint query role'))")
        .await?;
    let mut notes = Vec::new();
    let create = create_role(role, password);
    transaction.execute(AssertSqlSafe(create)).await?;
    let limit = format!(
        "alter role {} set temp_file_limit = {}",
        quote(&role.name),
        role.temp_file_kb_max
    );
    let limited = attempt(&mut transaction, &limit).await?;
    notes.extend(limited.map(|why| format!("temporary files are not limited: {why}")));
    let schemas = match &role.scope {
        Scope::OwnCluster => {
            take_back(&mut transaction, role).await?;
            own_schemas(&mut transaction, &role.hidden).await?
        }
        Scope::Schemas(schemas) => schemas.clone(),
    };
    let name = quote(&role.name);
    // Default privileges without a schema reach every one that the owner makes tables in.
    let everywhere = match &role.scope {
        Scope::OwnCluster => format!(
            "alter default privileges grant usage on schemas to {name};
             alter default privileges grant select on tables to {name};"
        ),
        Scope::Schemas(_) => format!(
            "alter default privileges revoke usage on schemas from {name};
             alter default privileges revoke select on tables from {name};"
        ),
    };
    transaction.execute(AssertSqlSafe(everywhere)).await?;
    for schema in schemas.iter().filter(|it| !role.hidden.contains(it)) {
        let granted = attempt(&mut transaction, &grant(role, schema)).await?;
        notes.extend(granted.map(|why| format!("schema {schema}: {why}")));
    }
    for schema in &role.hidden {
        let hide = format!(
            "do $$ begin revoke all on schema {} from {name};
             exception when invalid_schema_name then null; end $$",
            quote(schema)
        );
        transaction.execute(AssertSqlSafe(hide)).await?;
    }
    transaction.commit().await?;
    Ok(notes)
}

fn create_role(role: &QueryRole, password: &str) -> String {
    let (name, timeout) = (quote(&role.name), role.statement_timeout.as_millis());
    let connections = role.connections_max;
    // A role belongs to the cluster: another database's program may make it in the same moment.
    format!(
        "do $$ begin create role {name}; exception when duplicate_object or unique_violation then null; end $$;
         alter role {name} login noinherit nocreatedb nocreaterole connection limit {connections}
             password {};
         alter role {name} set default_transaction_read_only = on;
         alter role {name} set statement_timeout = {timeout};
         alter role {name} set idle_in_transaction_session_timeout = {timeout};",
        quote_literal(password)
    )
}

fn grant(role: &QueryRole, schema: &str) -> String {
    let (name, schema) = (quote(&role.name), quote(schema));
    let now = format!(
        "grant usage on schema {schema} to {name};
         grant select on all tables in schema {schema} to {name};"
    );
    match role.scope {
        Scope::OwnCluster => now,
        // `create schema if not exists` asks for the right to make one even where there is one.
        Scope::Schemas(_) => format!(
            "do $$ begin
                 if to_regnamespace({}) is null then create schema {schema}; end if;
             end $$;
             {now}
             alter default privileges in schema {schema} grant select on tables to {name};",
            quote_literal(&schema)
        ),
    }
}

/// Runs statements that may be refused without ending the transaction; why they were.
async fn attempt(
    transaction: &mut PgConnection,
    statements: &str,
) -> Result<Option<String>, sqlx::Error> {
    let mut savepoint = transaction.begin().await?;
    let done = savepoint
        .execute(AssertSqlSafe(statements.to_owned()))
        .await;
    match done {
        Ok(_) => {
            savepoint.commit().await?;
            Ok(None)
        }
        Err(error @ sqlx::Error::Database(_)) => {
            savepoint.rollback().await?;
            Ok(Some(pool::reason_of(&error)))
        }
        Err(error) => Err(error),
    }
}

async fn own_schemas(
    transaction: &mut PgConnection,
    hidden: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    const SQL: &str = "select nspname::text from pg_namespace
         where nspname <> 'information_schema' and nspname !~ '^pg_' and nspname <> all($1)";
    sqlx::query_scalar(SQL)
        .bind(hidden)
        .fetch_all(transaction)
        .await
}

/// Functions by which a reader could leave something behind, hold others up, or get round a setting.
/// Those that run with their owner's rights are taken back too.
const TAKEN_BACK: &str = "'^(lo_.*|lowrite|loread|set_config|pg_notify|pg_(try_)?advisory_.*|pg_sleep.*|\
     pg_logical_emit_message|pg_export_snapshot|pg_(cancel|terminate)_backend)$'";

/// Takes from everybody what PostgreSQL gives everybody. Superusers, as our own sessions are, keep it.
async fn take_back(transaction: &mut PgConnection, role: &QueryRole) -> Result<(), sqlx::Error> {
    let name = quote(&role.name);
    let statements = format!(
        "do $$ declare it record; begin
             for it in select oid::regprocedure as f from pg_proc
                       where prokind = 'f'
                         and (prosecdef or pronamespace = 'pg_catalog'::regnamespace and proname ~ {TAKEN_BACK})
                         and has_function_privilege('public', oid, 'execute')
             loop execute format('revoke execute on function %s from public', it.f); end loop;
             for it in select datname as d from pg_database
                       where not datistemplate and has_database_privilege('public', oid, 'connect')
             loop execute format('revoke connect, temporary on database %I from public', it.d); end loop;
             execute format('grant connect on database %I to {name}', current_database());
         end $$;
         revoke create on schema public from public;"
    );
    transaction.execute(AssertSqlSafe(statements)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
