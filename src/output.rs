//! What the commands print: results on standard output, everything else on standard error.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks"
)]

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// Between two lines about one table, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far each table's load is: a bar on a terminal, a line every few seconds elsewhere, and nothing
/// where nobody looks.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    screen: MultiProgress,
    lines: bool,
    by_table: Arc<Mutex<HashMap<TableName, Shown>>>,
}

/// What one table's load has shown.
#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    /// When the latest line was due.
    line: Duration,
}

impl Bars {
    /// `lines`: also without a terminal.
    pub(crate) fn new(lines: bool) -> Self {
        Self {
            screen: MultiProgress::new(),
            lines: lines && !std::io::stderr().is_terminal(),
            by_table: Arc::default(),
        }
    }

    /// Takes a loader's progress.
    pub(crate) fn sink(&self) -> ProgressSink {
        let bars = self.clone();
        Arc::new(move |progress: &Progress| bars.show(progress))
    }

    fn show(&self, progress: &Progress) {
        let mut by_table = self.by_table.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = by_table
            .entry(progress.table.clone())
            .or_insert_with(|| Shown {
                bar: self.bar(progress),
                line: LINE_EVERY,
            });
        if self.lines && progress.rows.is_none() && progress.elapsed >= shown.line {
            shown.line = progress.elapsed + LINE_EVERY;
            note(so_far(progress));
        }
        if shown.bar.length().is_some() {
            shown.bar.set_position(progress.sent.unwrap_or_default());
        } else {
            shown.bar.set_position(progress.bytes);
        }
        if progress.rows.is_some() {
            shown.bar.finish_and_clear();
        }
    }

    /// Rows of about so many, where the source says how many; else bytes.
    fn bar(&self, progress: &Progress) -> ProgressBar {
        let (bar, template) = match progress.expected.filter(|rows| *rows > 0) {
            Some(rows) => (
                ProgressBar::new(rows),
                "{msg} {bar:24} {human_pos} of about {human_len} rows, {per_sec}, {eta} to go",
            ),
            None => (ProgressBar::new_spinner(), "{msg} {bytes} {bytes_per_sec}"),
        };
        let bar = self.screen.add(bar);
        bar.set_message(format!("{} {}", progress.source, progress.table));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}

/// A line such as `shop public.orders: 400000 of about 1000000 rows, 96.1 MB, 350000 rows/s, 2 s to go`.
fn so_far(progress: &Progress) -> String {
    use std::fmt::Write as _;

    let mut line = format!("{} {}: ", progress.source, progress.table);
    if let Some(rows) = progress.sent {
        let of = progress.expected;
        let of = of.map_or(String::new(), |rows| format!(" of about {rows}"));
        // A String takes everything.
        let _ = write!(line, "{rows}{of} rows, ");
    }
    let _ = write!(line, "{:.1} MB", progress.bytes as f64 / 1e6);
    if let Some(rate) = progress.rows_per_second() {
        let _ = write!(line, ", {rate:.0} rows/s");
    }
    if let Some(rest) = progress.remaining() {
        let _ = write!(line, ", {:.0} s to go", rest.as_secs_f64());
    }
    line
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
