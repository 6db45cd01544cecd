//! The same data as [`crate::fill()`], as a script for psql: for a database that is not ours to fill.

use std::io::{self, Write};

use ballpoint_postgres::ident::{quote, quote_literal};
use jiff::Timestamp;

use crate::fill::quoted;
use crate::generate::generate;
use crate::parameters::{Parameters, ParametersError, SeedFiles};

/// Why no script was written, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The parameters cannot be used.
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    /// Nobody reads on.
    #[error("the script could not be written")]
    Write(#[from] io::Error),
}

/// Writes a script that makes the table and its rows in one transaction, or fails at the first error
/// and changes nothing; also where the table holds rows already.
///
/// # Errors
/// When the parameters are wrong or `out` takes no more.
pub fn script(
    files: &SeedFiles,
    rows: u64,
    seed: u64,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), ScriptError> {
    let parameters = Parameters::parse(files)?;
    let table = quoted(parameters.table());
    let columns: Vec<String> = parameters.columns().map(quote).collect();
    writeln!(out, "\\set ON_ERROR_STOP on\nbegin;")?;
    writeln!(out, "{}", files.schema_sql.trim_end())?;
    let literal = quote_literal(&format!("{table} holds rows already"));
    writeln!(
        out,
        "do $$ begin if exists (select from {table}) then raise exception using message = {literal}; end if; end $$;"
    )?;
    writeln!(out, "copy {table} ({}) from stdin;", columns.join(", "))?;
    let mut chunks = generate(&parameters, rows, seed, now);
    for chunk in &mut chunks {
        out.write_all(&chunk)?;
    }
    let literal = quote_literal(&table);
    writeln!(
        out,
        "\\.\nselect setval(pg_get_serial_sequence({literal}, 'id'), {}) where {0} > 0;\ncommit;",
        chunks.rows_made()
    )?;
    Ok(())
}
