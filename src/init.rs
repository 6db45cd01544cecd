//! A project for databases that nobody has described: `ballpoint init`.
//!
//! Reads what their catalogues and a bounded sample of their rows say, lays the whole project out as
//! values ([`layout`]), and writes it: configuration, a dbt project with tests that hold of the data
//! at hand, a Cube data model with the words that people use, and a README with questions that the
//! planner reads. Nothing is written to a source, and nothing to the folder before all is known.

mod cubes;
mod files;
mod layout;
mod measures;
mod members;
mod names;
mod questions;
mod readme;
mod references;
mod roles;
mod staging;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

use anyhow::{Context, bail};
use ballpoint_postgres::pool::redact;
use ballpoint_source::profile::{self, TableProfile};
use sqlx::postgres::PgConnectOptions;

use self::layout::{Database, Layout};
use crate::config::Environment;
use crate::output::{self, UserError};

/// What is to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: Option<&'a str>,
    /// Connection URLs.
    pub(crate) urls: &'a [String],
}

/// What was made.
pub(crate) struct Made {
    pub(crate) project: String,
    /// (source, tables).
    pub(crate) sources: Vec<(String, usize)>,
    pub(crate) files: Vec<String>,
    pub(crate) questions: Vec<String>,
}

/// Makes the project.
///
/// # Errors
/// [`UserError`] for a folder that is not empty or a URL that cannot be read; otherwise what a
/// database answered.
pub(crate) async fn make(wanted: &Wanted<'_>, environment: &Environment) -> anyhow::Result<Made> {
    check_folder(wanted.folder)?;
    let project = project_name(wanted)?;
    let mut databases: Vec<Database> = Vec::new();
    for url in wanted.urls {
        if databases.iter().any(|known| known.url == *url) {
            bail!(UserError(format!("{} is given twice", redact(url))));
        }
        databases.push(look_at(url).await?);
    }
    // A variable of the shell beats the project's file: one that says something else is no name.
    let taken = |name: &str, url: &str| environment.get(name).is_some_and(|held| held != url);
    let layout = layout::lay_out(&project, &databases, &taken);
    let texts = files::texts(&layout, &databases)?;
    let questions = texts.questions.clone();
    let files = files::write(wanted.folder, texts)?;
    Ok(Made {
        project,
        sources: summary(&layout),
        files,
        questions,
    })
}

fn summary(layout: &Layout) -> Vec<(String, usize)> {
    let tables = |at: usize| layout.tables.iter().filter(|it| it.source == at).count();
    let named = layout.sources.iter().enumerate();
    named
        .map(|(at, source)| (source.name.clone(), tables(at)))
        .collect()
}

fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!(UserError(format!(
                "{shown} is not empty: name a new folder, nothing was changed"
            ))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!(UserError(format!("{shown}: {error}"))),
    }
}

/// The given name, else the folder's, in the letters that a project's name may have.
fn project_name(wanted: &Wanted<'_>) -> anyhow::Result<String> {
    if let Some(name) = wanted.name {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            bail!(UserError(format!(
                "--name {name:?}: a name is lower-case letters, digits, `_` and `-`"
            )));
        }
        return Ok(name.to_owned());
    }
    let folder = std::path::absolute(wanted.folder).context("finding the folder")?;
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let words = names::words(&name.unwrap_or_default());
    Ok(names::snake(&words).unwrap_or_else(|| "analytics".to_owned()))
}

async fn look_at(url: &str) -> anyhow::Result<Database> {
    let shown = redact(url);
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let options = url.parse::<PgConnectOptions>().ok().filter(|_| is_postgres);
    let Some(options) = options else {
        bail!(UserError(format!(
            "--source {shown} cannot be read: it looks like postgres://user:password@host:5432/database; \
             in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25"
        )));
    };
    let name = options
        .get_database()
        .unwrap_or(options.get_username())
        .to_owned();
    output::note(format!("{name}: reading the catalogue of {shown}"));
    let progress = |table: &ballpoint_runtime::segment::TableName| {
        output::note(format!("{name}: looking at {table}"));
    };
    let mut profile = profile::profile(&name, url, &progress).await?;
    let mut left_out = profile.unreadable.clone();
    let (hollow, tables) = profile
        .tables
        .into_iter()
        .partition(|it| it.columns.is_empty());
    profile.tables = tables;
    let hollow: Vec<TableProfile> = hollow;
    for table in hollow {
        output::note(format!(
            "{name}: {} is left out: it has no columns",
            table.table
        ));
        left_out.push(table.table);
    }
    for table in &profile.unreadable {
        output::note(format!(
            "{name}: {table} is left out: the role may not read it"
        ));
    }
    for table in &profile.tables {
        if let Some(reason) = &table.sample_failure {
            output::note(format!(
                "{name}: {} could not be sampled: {reason}",
                table.table
            ));
        }
    }
    if !profile.views.is_empty() {
        let count = profile.views.len();
        output::note(format!(
            "{name}: {count} views are left out: their tables are loaded"
        ));
    }
    if profile.tables.is_empty() {
        match profile.unreadable.as_slice() {
            [] => bail!("{name} has no tables"),
            [first, ..] => bail!(
                "{name}: the role may read none of its {} tables: GRANT USAGE ON SCHEMA and GRANT SELECT \
                 ON ALL TABLES IN SCHEMA {}",
                profile.unreadable.len(),
                ballpoint_postgres::ident::quote(&first.schema)
            ),
        }
    }
    Ok(Database {
        url: url.to_owned(),
        profile,
        left_out,
    })
}
