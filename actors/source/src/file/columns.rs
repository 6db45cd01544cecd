//! Which columns the files have, and of which types. What was found in a file is kept until it changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ballpoint_runtime::segment::Column;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::guess::Guess;
use super::read::lines::{Line, Lines};
use super::read::rows::{Row, Rows};
use super::{FILE_MODIFIED, FILE_URL, FileConfig, FileFormat, FileStamp};
use crate::airbyte::column_names;

/// Columns that the loader adds to each table, and the two that are added to each file's.
const TAKEN: [&str; 6] = [
    "_airbyte_extracted_at",
    "_airbyte_generation_id",
    "_ab_cdc_lsn",
    "_ab_cdc_deleted_at",
    FILE_URL,
    FILE_MODIFIED,
];

/// The columns of one file, in their order in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FileColumns {
    size: u64,
    modified: String,
    /// How the file was read: with other settings it has other columns.
    settings: String,
    columns: Vec<(String, Guess)>,
}

/// Of every file that was looked into, by its path.
#[derive(Debug)]
pub(super) struct KnownColumns {
    path: PathBuf,
    files: BTreeMap<String, FileColumns>,
}

impl KnownColumns {
    /// What an earlier process found; nothing where that cannot be read.
    pub(super) fn open(path: PathBuf) -> Self {
        let text = std::fs::read(&path).unwrap_or_default();
        Self {
            files: serde_json::from_slice(&text).unwrap_or_default(),
            path,
        }
    }

    /// The columns of all `files` together, each behind its name in the files; the last two say which
    /// file a row is of.
    pub(super) fn of(
        &mut self,
        files: &[FileStamp],
        config: &FileConfig,
    ) -> Result<Vec<(String, Column)>, String> {
        let settings = format!(
            "{:?} {:?} {} {} {:?}",
            config.format, config.delimiter, config.quote, config.header, config.null_values
        );
        let mut has_changed = false;
        for file in files {
            let known = self.files.get(&file.url);
            if known.is_some_and(|it| it.is_of(file, &settings)) {
                continue;
            }
            let columns = infer(file, config)?;
            let found = FileColumns {
                size: file.size,
                modified: file.modified.to_string(),
                settings: settings.clone(),
                columns,
            };
            self.files.insert(file.url.clone(), found);
            has_changed = true;
        }
        if has_changed {
            self.files
                .retain(|url, _| files.iter().any(|file| file.url == *url));
            self.keep();
        }
        Ok(together(
            files.iter().filter_map(|file| self.files.get(&file.url)),
        ))
    }

    fn keep(&self) {
        let kept = self
            .path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| {
                let text = serde_json::to_vec(&self.files).map_err(std::io::Error::other)?;
                std::fs::write(&self.path, text)
            });
        if let Err(error) = kept {
            // The next start looks into the files again.
            tracing::debug!(path = %self.path.display(), %error, "columns are not kept");
        }
    }
}

impl FileColumns {
    fn is_of(&self, file: &FileStamp, settings: &str) -> bool {
        self.size == file.size
            && self.modified == file.modified.to_string()
            && self.settings == settings
    }
}

/// Each column once, of a type that holds the values of all files, behind its name in the files.
fn together<'a>(files: impl Iterator<Item = &'a FileColumns>) -> Vec<(String, Column)> {
    let mut names: Vec<String> = Vec::new();
    let mut guesses: BTreeMap<String, Guess> = BTreeMap::new();
    for (name, guess) in files.flat_map(|file| &file.columns) {
        if let Some(known) = guesses.get_mut(name) {
            *known = known.with(*guess);
        } else {
            names.push(name.clone());
            guesses.insert(name.clone(), *guess);
        }
    }
    let column = |name: &str, sql_type: &str| Column {
        name: name.to_owned(),
        sql_type: sql_type.to_owned(),
        not_null: false,
    };
    let made = column_names(&names, &TAKEN);
    let of_files = names.into_iter().zip(made).map(|(name, made)| {
        let sql_type = guesses[&name].sql_type();
        (name, column(&made, sql_type))
    });
    let own = [
        (FILE_URL, "text"),
        (FILE_MODIFIED, "timestamp with time zone"),
    ];
    let own = own.map(|(name, sql_type)| (name.to_owned(), column(name, sql_type)));
    of_files.chain(own).collect()
}

/// Reads the whole file.
fn infer(file: &FileStamp, config: &FileConfig) -> Result<Vec<(String, Guess)>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.path.display());
    match format_of(&file.path, config)? {
        FileFormat::Csv => {
            let mut rows = Rows::open(&file.path, config).map_err(|error| failed(&error))?;
            let names = header_names(rows.header());
            let mut guesses = vec![Guess::Nothing; names.len()];
            while let Some(row) = rows.next().map_err(|error| failed(&error))? {
                let Row::Fields(fields) = row else { continue };
                for (guess, field) in guesses.iter_mut().zip(fields) {
                    if !config.null_values.iter().any(|it| it == field) && *guess != Guess::Text {
                        *guess = guess.with(Guess::of_text(field));
                    }
                }
            }
            Ok(names.into_iter().zip(guesses).collect())
        }
        FileFormat::Ndjson => {
            let mut lines = Lines::open(&file.path).map_err(|error| failed(&error))?;
            let mut found: Vec<(String, Guess)> = Vec::new();
            while let Some(line) = lines.next().map_err(|error| failed(&error))? {
                let Line::Whole(line) = line else { continue };
                // What is no object is refused when it is read.
                let Ok(record) = serde_json::from_slice::<Record<'_>>(line) else {
                    continue;
                };
                for (at, (name, value)) in record.0.into_iter().enumerate() {
                    let guess = Guess::of_json(value.get());
                    // Lines mostly have their properties in one order.
                    let known = match found.get(at) {
                        Some((it, _)) if *it == name => Some(at),
                        _ => found.iter().position(|(it, _)| *it == name),
                    };
                    match known {
                        Some(known) => found[known].1 = found[known].1.with(guess),
                        None => found.push((name.into_owned(), guess)),
                    }
                }
            }
            Ok(found)
        }
    }
}

/// A CSV file's columns, by its header.
pub(super) fn header_names(header: &[String]) -> Vec<String> {
    let named: Vec<String> = header
        .iter()
        .enumerate()
        .map(|(at, name)| match name.trim() {
            "" => format!("column_{}", at + 1),
            name => name.to_owned(),
        })
        .collect();
    column_names(&named, &TAKEN)
}

/// A record's properties in their order.
pub(super) struct Record<'a>(pub(super) Vec<(std::borrow::Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Record<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Properties;
        impl<'de> serde::de::Visitor<'de> for Properties {
            type Value = Record<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut properties = Vec::new();
                while let Some(name) = map.next_key::<crate::encode::Name<'de>>()? {
                    properties.push((name.0, map.next_value()?));
                }
                Ok(Record(properties))
            }
        }
        from.deserialize_map(Properties)
    }
}

/// How a file is read: as configured, else by its extension.
pub(super) fn format_of(path: &Path, config: &FileConfig) -> Result<FileFormat, String> {
    if let Some(format) = config.format {
        return Ok(format);
    }
    match extension(path).as_str() {
        "csv" | "tsv" | "tab" | "txt" | "psv" => Ok(FileFormat::Csv),
        "ndjson" | "jsonl" | "json" => Ok(FileFormat::Ndjson),
        _ => Err(format!(
            "{}: its name does not say how to read it; set `format` to \"csv\" or \"ndjson\"",
            path.display()
        )),
    }
}

/// In lower case, without the mark of compression.
pub(super) fn extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.')
        .map_or(String::new(), |(_, extension)| extension.to_owned())
}
