//! How a read ended: well, or with whose words for what went wrong.

use std::process::ExitStatus;

use ballpoint_runtime::failure::one_line;
use ballpoint_runtime::segment::SourceError;

use super::Reading;
use crate::airbyte::catalog::shown;
use crate::airbyte::message::TraceError;

impl Reading {
    /// The connector has ended.
    pub(super) async fn conclude(
        mut self,
        status: Option<ExitStatus>,
        said: String,
    ) -> Result<(), SourceError> {
        let ended_well = status.is_some_and(|it| it.success());
        if !self.has_status && ended_well && self.errors.is_empty() && self.messages > 0 {
            for at in 0..self.streams.len() {
                self.complete(at).await?;
            }
        }
        let open = self.streams.iter().position(|it| !it.complete);
        let Some(at) = open else {
            if !ended_well {
                tracing::warn!(source = %self.source.config.name, ?status, said,
                    "the connector ended badly after all of its streams were complete");
            }
            return Ok(());
        };
        if self.messages == 0 {
            let ended = status.map_or_else(|| "it was stopped".to_owned(), |it| it.to_string());
            let wrote = match self.garbage.is_empty() {
                true => "nothing".to_owned(),
                false => format!("{:?}", self.garbage),
            };
            return Err(self.source.refuse(one_line([
                format!("`read` wrote no message of the Airbyte protocol, but {wrote} ({ended})"),
                said,
            ])));
        }
        let mine = |it: &&TraceError| {
            it.stream
                .as_ref()
                .is_none_or(|name| self.place(name) == Some(at))
        };
        let error = self.errors.iter().find(mine).or(self.errors.first());
        let why = match error {
            Some(error) => error.text.clone(),
            None if self.streams[at].incomplete => one_line([
                "the connector says that the stream is incomplete, and not why".to_owned(),
                said,
            ]),
            None => one_line([
                format!(
                    "the connector ended before the stream was complete ({})",
                    status.map_or_else(|| "it was stopped".to_owned(), |it| it.to_string())
                ),
                said,
            ]),
        };
        let log = self.source.log.path().display();
        let why = format!("{}; its log is {log}", self.source.secrets.hide(&why));
        Err(match error {
            Some(error) if error.is_config => self.source.refuse(format!(
                "reading {}: {why}",
                shown(&self.streams[at].chosen.name)
            )),
            _ => self.failed(at, why),
        })
    }

    /// Of the first stream that is not complete.
    pub(super) fn broken(&self, reason: String) -> SourceError {
        let open = self.streams.iter().position(|it| !it.complete);
        let log = self.source.log.path().display();
        self.failed(open.unwrap_or(0), format!("{reason}; its log is {log}"))
    }

    pub(super) fn failed(&self, at: usize, reason: String) -> SourceError {
        SourceError::Read {
            source_name: self.source.config.name.clone(),
            table: self.streams[at].chosen.spec.table.clone(),
            reason,
        }
    }
}
