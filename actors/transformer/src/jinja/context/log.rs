//! What templates say: `log()`, `print()`, `exceptions.warn()`.

use std::fmt;
use std::sync::Arc;

use minijinja::Error;
use minijinja::value::Value;

use crate::jinja::macros::{Arguments, split_keywords, take};

/// Takes what templates say: `log(…, info=True)`, `print(…)`, `exceptions.warn(…)`.
#[derive(Clone, Default)]
pub(crate) struct LogSink(pub(crate) Option<Listener>);

/// Hears what templates say.
pub(crate) type Listener = Arc<dyn Fn(Said, &str) + Send + Sync>;

/// How a template says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// `log()` without `info=True`: for the log file alone.
    Debug,
    Info,
    Print,
    Warn,
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

impl LogSink {
    fn say(&self, how: Said, text: &str) {
        match &self.0 {
            Some(sink) => sink(how, text),
            None => match how {
                Said::Debug => tracing::debug!(target: "dbt", "{text}"),
                Said::Warn => tracing::warn!(target: "dbt", "{text}"),
                Said::Info | Said::Print => tracing::info!(target: "dbt", "{text}"),
            },
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        self.say(Said::Warn, text);
    }
}

/// `log(text, info=False)`.
pub(super) fn log(sink: LogSink) -> Value {
    Value::from_function(move |args: Arguments| -> Result<String, Error> {
        let (positional, mut keywords) = split_keywords(&args.into_values())?;
        let text = positional.first().map(ToString::to_string);
        let info = positional
            .get(1)
            .cloned()
            .or_else(|| take(&mut keywords, "info"));
        let how = match info.is_some_and(|flag| flag.is_true()) {
            true => Said::Info,
            false => Said::Debug,
        };
        sink.say(how, &text.unwrap_or_default());
        Ok(String::new())
    })
}

/// `print(text)`.
pub(super) fn print(sink: LogSink) -> Value {
    Value::from_function(move |text: Value| {
        sink.say(Said::Print, &text.to_string());
        String::new()
    })
}
