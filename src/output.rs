//! What the commands print: results on standard output, everything else on standard error.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks"
)]

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_loader::{Progress, ProgressSink};
use ballpoint_reverse_etl::WriteBackError;
use ballpoint_runtime::failure::one_line;
use ballpoint_runtime::segment::TableName;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

/// The user has something to mend: usage or configuration. Exit code 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UserError(pub(crate) String);

/// A line of a command's result.
pub(crate) fn line(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}

/// A command's result as JSON, on one line.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// What is going on, for a person who waits.
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// A line a table that is being loaded, on a terminal; nothing elsewhere, where each table's result
/// is told by a line of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bars {
    screen: MultiProgress,
    by_table: Arc<Mutex<HashMap<TableName, ProgressBar>>>,
}

impl Bars {
    /// Takes a loader's progress.
    pub(crate) fn sink(&self) -> ProgressSink {
        let bars = self.clone();
        Arc::new(move |progress: &Progress| bars.show(progress))
    }

    fn show(&self, progress: &Progress) {
        let mut by_table = self.by_table.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = by_table.entry(progress.table.clone()).or_insert_with(|| {
            let bar = self.screen.add(ProgressBar::new_spinner());
            bar.set_message(format!("{} {}", progress.source, progress.table));
            if let Ok(style) = ProgressStyle::with_template("{msg} {bytes} {bytes_per_sec}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_position(progress.bytes);
        if progress.rows.is_some() {
            bar.finish_and_clear();
        }
    }
}

/// Says in one line what went wrong, outermost first, and gives the exit code.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let text = one_line(error.chain().map(ToString::to_string));
    eprintln!("error: {text}");
    let is_the_users = error.chain().any(|cause| {
        cause.is::<UserError>()
            || cause.is::<crate::config::ProjectError>()
            || cause
                .downcast_ref::<WriteBackError>()
                .is_some_and(WriteBackError::is_users)
    });
    ExitCode::from(if is_the_users { 2 } else { 1 })
}
