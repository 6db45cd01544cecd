//! Limits on how stale the warehouse's copy of a source may be.
//!
//! What is measured: since when the warehouse may lack something that the source has. That begins
//! with the oldest change that has not landed, or when the source stopped answering; a source that
//! answers and has nothing new is fresh however old its rows are. Business time, as dbt's freshness.

use std::collections::BTreeMap;
use std::time::Duration;

use ballpoint_runtime::store::{
    IncidentKind, Incidents, Severity, SourceFreshness, Store, StoreError, Trouble,
};
use jiff::{SignedDuration, Timestamp};

/// How long a source may be stale before it is said; absent: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshnessLimits {
    pub warn_after: Option<Duration>,
    pub error_after: Option<Duration>,
}

impl FreshnessLimits {
    /// The limit that an age is beyond, and how bad that is.
    fn beyond(self, age: Duration) -> Option<(Severity, Duration)> {
        let beyond = |limit: Option<Duration>| limit.filter(|limit| age > *limit);
        let error = beyond(self.error_after).map(|limit| (Severity::Error, limit));
        error.or_else(|| beyond(self.warn_after).map(|limit| (Severity::Warning, limit)))
    }
}

/// Opens and closes an incident for each source that passed its limit at that business time.
pub(crate) async fn check(
    store: &Store,
    limits: &BTreeMap<String, FreshnessLimits>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if limits.is_empty() {
        return Ok(());
    }
    let known = store.freshness().all().await?;
    let open = store.incidents().open().await?;
    let said = |source: &str| {
        let kind = IncidentKind::Freshness.as_str();
        open.iter()
            .find(|incident| incident.kind == kind && incident.subject == source)
            .map(|incident| incident.severity.as_str())
    };
    let failed = |source| StoreError::Query {
        doing: "checking freshness",
        source,
    };
    for source in &known {
        let limit = limits.get(&source.source).copied().unwrap_or_default();
        let found = trouble(source, limit, now);
        let (is, was) = (found.as_ref(), said(&source.source));
        // Written when it changes, not at each look.
        if is.map(|it| it.severity.as_str()) == was {
            continue;
        }
        let mut connection = store.pool().acquire().await.map_err(failed)?;
        match is {
            Some(trouble) => Incidents::begin_in(&mut connection, trouble).await?,
            None => {
                let kind = IncidentKind::Freshness;
                Incidents::end_in(&mut connection, kind, &source.source, None).await?;
            }
        }
    }
    Ok(())
}

fn trouble(source: &SourceFreshness, limits: FreshnessLimits, now: Timestamp) -> Option<Trouble> {
    let since = source.complete_until()?;
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let (severity, limit) = limits.beyond(age)?;
    let why = match source.unanswered_since {
        Some(_) => "it does not answer",
        None => "its changes have not landed",
    };
    let since = since.strftime("%Y-%m-%d %H:%M:%S UTC");
    Some(Trouble {
        kind: IncidentKind::Freshness,
        subject: source.source.clone(),
        cause: "stale".into(),
        severity,
        error: format!(
            "stale since {since}, longer than {}: {why}",
            in_words(limit)
        ),
    })
}

fn in_words(limit: Duration) -> String {
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    format!("{limit:#}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LIMITS: FreshnessLimits = FreshnessLimits {
        warn_after: Some(Duration::from_secs(1800)),
        error_after: Some(Duration::from_secs(6 * 3600)),
    };

    fn severity(unanswered: Option<&str>, behind: Option<&str>) -> Option<Severity> {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let source = SourceFreshness {
            source: "orders".into(),
            unanswered_since: unanswered.map(at),
            behind_since: behind.map(at),
        };
        trouble(&source, LIMITS, at("2026-01-01T12:00:00Z")).map(|it| it.severity)
    }

    #[test]
    fn a_source_that_answers_and_has_nothing_new_is_fresh() {
        assert_eq!(severity(None, None), None);
    }

    #[test]
    fn the_older_of_what_did_not_land_and_what_did_not_answer_counts() {
        assert_eq!(severity(Some("2026-01-01T11:31:00Z"), None), None);
        assert_eq!(
            severity(Some("2026-01-01T11:29:00Z"), None),
            Some(Severity::Warning)
        );
        assert_eq!(
            severity(Some("2026-01-01T11:59:00Z"), Some("2026-01-01T05:00:00Z")),
            Some(Severity::Error)
        );
    }

    #[test]
    fn the_text_says_since_when_and_what_the_limit_is() {
        let source = SourceFreshness {
            source: "orders".into(),
            unanswered_since: None,
            behind_since: Some("2026-01-01T11:00:00Z".parse().unwrap()),
        };
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        assert_eq!(
            trouble(&source, LIMITS, now).unwrap().error,
            "stale since 2026-01-01 11:00:00 UTC, longer than 30m: its changes have not landed"
        );
    }
}
