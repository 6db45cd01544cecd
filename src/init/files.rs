//! The files of a project: all their texts first, then one after the other to disk, the secrets
//! readable by their owner alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use ballpoint_metrics::Model;
use ballpoint_metrics::model::SourceFile;
use ballpoint_postgres::pool::redact;

use super::layout::{Database, Layout};
use super::{cubes, names, questions, readme, staging};
use crate::config::SECRETS_FILE;

/// Every file by its path in the project.
pub(super) struct Texts {
    by_path: BTreeMap<String, String>,
    pub(super) questions: Vec<String>,
}

/// The texts of all files.
///
/// # Errors
/// When the data model that was made is not a valid one.
pub(super) fn texts(layout: &Layout, databases: &[Database]) -> anyhow::Result<Texts> {
    let mut by_path = BTreeMap::new();
    let mut add = |path: &str, text: String| by_path.insert(path.to_owned(), text);
    add("ballpoint.toml", configuration(layout, databases));
    add(SECRETS_FILE, secrets(layout, databases));
    add(
        ".gitignore",
        ".env\n.ballpoint/\nwarehouse/target/\nwarehouse/logs/\n".to_owned(),
    );
    add("warehouse/dbt_project.yml", staging::project(layout));
    add("warehouse/profiles.yml", staging::profiles(layout));
    add(
        "warehouse/macros/generate_schema_name.sql",
        staging::SCHEMA_MACRO.to_owned(),
    );
    add(
        "warehouse/tests/generic/unique_combination.sql",
        staging::COMBINATION_TEST.to_owned(),
    );
    for (at, source) in layout.sources.iter().enumerate() {
        let path = format!("warehouse/models/staging/{}/_sources.yml", source.name);
        add(&path, staging::sources(layout, at));
    }
    let mut model = Vec::new();
    for (at, table) in layout.tables.iter().enumerate() {
        let source = &layout.sources[table.source].name;
        let path = format!("warehouse/models/staging/{source}/{}", table.model);
        add(&format!("{path}.sql"), staging::model(layout, table));
        add(&format!("{path}.yml"), staging::properties(layout, table));
        let stem = names::snake(&names::words(&table.cube)).unwrap_or_default();
        let (name, text) = (format!("{stem}.yml"), cubes::file(layout, at));
        add(&format!("warehouse/metrics/{name}"), text.clone());
        model.push(SourceFile { name, text });
    }
    let model = match Model::compile(&model) {
        Ok(model) => model,
        Err(error) => bail!("the data model that was made is not valid: {error}"),
    };
    let questions = questions::examples(layout, &model);
    add("README.md", readme::text(layout, &questions));
    Ok(Texts { by_path, questions })
}

/// Writes the files; their paths in order.
pub(super) fn write(folder: &Path, texts: Texts) -> anyhow::Result<Vec<String>> {
    for (path, text) in &texts.by_path {
        let full = folder.join(path);
        let parent = full.parent().context("a file has a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let mode = if path == SECRETS_FILE { 0o600 } else { 0o644 };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&full)
            .with_context(|| format!("making {}", full.display()))?;
        file.write_all(text.as_bytes())
            .with_context(|| format!("writing {}", full.display()))?;
    }
    Ok(texts.by_path.into_keys().collect())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn configuration(layout: &Layout, databases: &[Database]) -> String {
    let mut out = format!(
        "# Made by `ballpoint init`; yours to change. ${{NAME}} is taken from the environment, else from {SECRETS_FILE}.\n\n\
         [project]\nname = {}\n",
        quoted(&layout.project)
    );
    for source in &layout.sources {
        let patterns: Vec<String> = source.patterns.iter().map(|it| quoted(it)).collect();
        out.push_str(&format!(
            "\n# {}\n[sources.{}]\nkind = \"postgres\"\nurl = \"${{{}}}\"\nschema = {}\ntables = [{}]\n\
             # true: changes arrive within milliseconds by its log, which takes a publication and a slot in it.\n\
             follow_log = false\n",
            redact(&databases[source.database].url),
            source.name,
            source.variable,
            quoted(&source.schema),
            patterns.join(", ")
        ));
    }
    out.push_str(
        "\n[transform]\nproject_dir = \"warehouse\"\n\n[metrics]\npath = \"warehouse/metrics\"\n",
    );
    out
}

fn secrets(layout: &Layout, databases: &[Database]) -> String {
    let mut out =
        "# Where the sources are, passwords included: not for version control.\n".to_owned();
    let mut written: Vec<&str> = Vec::new();
    for source in &layout.sources {
        if !written.contains(&source.variable.as_str()) {
            written.push(&source.variable);
            out.push_str(&format!(
                "{}={}\n",
                source.variable, databases[source.database].url
            ));
        }
    }
    out
}
