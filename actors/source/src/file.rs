//! CSV and NDJSON files as one table: a path or a pattern, columns named by the files, types by their
//! values.
//!
//! Types are inferred from every value of every file before a row is read, so a type never turns out
//! too narrow half-way. Each file is loaded once: its rows, and the mark that it is loaded, are
//! committed together. A file that changes is read again, and its rows take the place of its earlier
//! ones. A line that is no row goes to `_rejected` with its number.

mod columns;
mod find;
mod guess;
mod position;
mod read;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ballpoint_runtime::records::{Feed, RecordReader, StreamRead, StreamSpec, StreamWrite};
use ballpoint_runtime::segment::{
    Column, Position, Segment, SourceError, SourceReader, TableName, TableSpec,
};

use crate::airbyte::table_spec;
use crate::config::Mode;
use columns::KnownColumns;
pub use find::FileStamp;
use position::FilePosition;

/// Where a row's file, and its time of change, stand; the names are Airbyte's.
const FILE_URL: &str = "_ab_source_file_url";
const FILE_MODIFIED: &str = "_ab_source_file_last_modified";

/// How the lines of a file are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// What a file source is configured with.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// The source's name in the configuration.
    pub name: String,
    /// A file, or a pattern with `*`, `?`, `[…]`, `{…}` and `**`.
    pub path: String,
    /// What relative paths are relative to.
    pub folder: PathBuf,
    /// The table's name; the source's where it is absent.
    pub table: Option<String>,
    /// By each file's extension where it is absent.
    pub format: Option<FileFormat>,
    /// Of CSV; a tab in `.tsv` files and a comma in others where it is absent.
    pub delimiter: Option<u8>,
    pub quote: u8,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Texts that mean that there is no value.
    pub null_values: Vec<String>,
    pub mode: Option<Mode>,
    pub primary_key: Vec<String>,
    pub cursor: Option<String>,
    /// Where what is known of the files' columns is kept between starts.
    pub state_dir: PathBuf,
}

/// Reads files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FileSource {
    config: Arc<FileConfig>,
    columns: Arc<Mutex<KnownColumns>>,
}

impl FileSource {
    /// Touches no file yet.
    pub fn new(config: FileConfig) -> Self {
        let columns = KnownColumns::open(config.state_dir.join(&config.name).join("columns.json"));
        Self {
            config: Arc::new(config),
            columns: Arc::new(Mutex::new(columns)),
        }
    }

    /// The table that the files land in.
    pub fn table(&self) -> TableName {
        let name = self.config.table.as_ref().unwrap_or(&self.config.name);
        TableName::new("public", name)
    }

    /// The files as they are now, by path.
    ///
    /// # Errors
    /// When there is none, or a folder cannot be read.
    pub async fn stamps(&self) -> Result<Vec<FileStamp>, SourceError> {
        self.blocking(|source| source.find()).await
    }

    /// Whether `files` are other than those that `position` stands for, by their sizes and times.
    pub fn has_news(&self, files: &[FileStamp], position: Option<&Position>) -> bool {
        let known = position.and_then(FilePosition::parse).unwrap_or_default();
        let is_new = |file: &FileStamp| !known.holds(file);
        files.iter().any(is_new) || (self.overwrites() && known.len() != files.len())
    }

    /// What a check shows: the files, the columns found in them, and how they are kept up to date.
    ///
    /// # Errors
    /// As [`FileSource::stamps`]; and when a file cannot be read.
    pub async fn check(&self) -> Result<(usize, StreamSpec), SourceError> {
        self.blocking(|source| {
            let files = source.find()?;
            Ok((files.len(), source.stream(&files)?))
        })
        .await
    }

    fn overwrites(&self) -> bool {
        self.config.mode == Some(Mode::FullRefresh)
    }

    fn write(&self) -> StreamWrite {
        match self.config.mode {
            Some(Mode::FullRefresh) => StreamWrite::Overwrite,
            Some(Mode::FullRefreshAppend | Mode::IncrementalAppend) => StreamWrite::Append,
            Some(Mode::Incremental | Mode::Cdc) | None => {
                match self.config.primary_key.is_empty() {
                    true => StreamWrite::Append,
                    false => StreamWrite::Dedup,
                }
            }
        }
    }

    /// Whether the rows of a file that is read again take the place of its earlier ones.
    fn replaces_files(&self) -> bool {
        let keeps = self.config.mode.is_some_and(Mode::appends);
        !keeps && self.write() == StreamWrite::Append
    }

    fn find(&self) -> Result<Vec<FileStamp>, SourceError> {
        find::files(&self.config.folder, &self.config.path).map_err(|reason| self.refuse(reason))
    }

    /// The table of these files. Reads those whose columns are not known yet.
    fn stream(&self, files: &[FileStamp]) -> Result<StreamSpec, SourceError> {
        let columns = self.columns(files)?.into_iter();
        let columns: Vec<Column> = columns.map(|(_, column)| column).collect();
        for key in self.config.primary_key.iter().chain(&self.config.cursor) {
            if columns.iter().all(|column| column.name != *key) {
                let names: Vec<&str> = columns.iter().map(|it| it.name.as_str()).collect();
                return Err(self.refuse(format!(
                    "the files have no column {key:?}, which the configuration names; they have {}",
                    names.join(", ")
                )));
            }
        }
        Ok(StreamSpec {
            table: self.table(),
            columns,
            primary_key: self.config.primary_key.clone(),
            cursor: self.config.cursor.clone(),
            write: self.write(),
        })
    }

    /// Each column behind its name in the files.
    fn columns(&self, files: &[FileStamp]) -> Result<Vec<(String, Column)>, SourceError> {
        let mut known = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = known.of(files, &self.config);
        columns.map_err(|reason| self.refuse(reason))
    }

    /// Files are read on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let source = self.clone();
        let worked = tokio::task::spawn_blocking(move || work(&source)).await;
        worked.unwrap_or_else(|_| {
            Err(SourceError::Unavailable {
                source_name: self.config.name.clone(),
                reason: "reading the files stopped unexpectedly".to_owned(),
            })
        })
    }

    fn refuse(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Configuration {
            source_name: self.config.name.clone(),
            reason: reason.into(),
        }
    }
}

#[async_trait]
impl SourceReader for FileSource {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, SourceError> {
        let (_, stream) = self.check().await?;
        Ok(vec![table_spec(stream)])
    }

    async fn open(
        &self,
        spec: &TableSpec,
        _position: Option<&Position>,
    ) -> Result<Option<Segment>, SourceError> {
        Err(self.refuse(format!(
            "{} is made of files and has no segments",
            spec.table
        )))
    }

    fn records(&self) -> Option<&dyn RecordReader> {
        Some(self)
    }
}

#[async_trait]
impl RecordReader for FileSource {
    async fn streams(&self) -> Result<Vec<StreamSpec>, SourceError> {
        let (_, stream) = self.check().await?;
        Ok(vec![stream])
    }

    async fn read(&self, streams: Vec<StreamRead>) -> Result<Option<Feed>, SourceError> {
        let Some(read) = streams.into_iter().next() else {
            return Ok(None);
        };
        let files = self.stamps().await?;
        let position = read.position.as_ref().and_then(FilePosition::parse);
        if position.is_some() && !self.has_news(&files, read.position.as_ref()) {
            return Ok(None);
        }
        let known = position.unwrap_or_default();
        Ok(Some(read::start(self.clone(), read.stream, files, known)))
    }
}
