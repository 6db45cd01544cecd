//! What the configuration asks of the orchestrator: schedules, freshness limits, alerts.

use ballpoint_orchestrator::{AlertConfig, Duties, FreshnessLimits, ScheduleSpec, Timing};
use ballpoint_runtime::redact::Secrets;

use crate::session::Own;
use crate::stages;

/// The orchestrator's duties in this project.
///
/// # Errors
/// When a schedule cannot be kept, which the configuration's check has refused before.
pub(crate) fn of(own: &Own) -> anyhow::Result<Duties> {
    let config = &own.project.config;
    let mut schedules = Vec::new();
    for (name, schedule) in &config.schedules {
        schedules.push(ScheduleSpec {
            name: name.clone(),
            timing: Timing::parse(&schedule.cron, &schedule.timezone)?,
            full_refresh: schedule.full_refresh,
        });
    }
    let limits = |(name, source): (&String, &crate::config::SourceConfig)| {
        let limits = source.freshness?;
        let limits = FreshnessLimits {
            warn_after: limits.warn_after,
            error_after: limits.error_after,
        };
        Some((name.clone(), limits))
    };
    let alerts = config.alerts.as_ref().map(|alerts| AlertConfig {
        webhook_url: alerts.webhook_url.0.clone(),
        hold: alerts.hold,
        project: own.project.name.clone(),
        secrets: secrets(own),
    });
    Ok(Duties {
        stages: stages::of(&own.project),
        sources: config.sources.keys().cloned().collect(),
        schedules,
        freshness: config.sources.iter().filter_map(limits).collect(),
        alerts,
    })
}

/// What no message may show: passwords of databases, keys, tokens, the webhook itself.
fn secrets(own: &Own) -> Secrets {
    let config = &own.project.config;
    let passwords = own.databases.urls().values().filter_map(|url| {
        let url = reqwest::Url::parse(url).ok()?;
        url.password().map(str::to_owned)
    });
    let webhook = config.alerts.iter().map(|it| it.webhook_url.0.clone());
    let key = config
        .llm
        .iter()
        .filter_map(|it| it.api_key.clone())
        .map(|key| key.0);
    let jwt = config.auth.jwt_secret.iter().map(|secret| secret.0.clone());
    let tokens = config.auth.tokens.values().map(|it| it.token.0.clone());
    Secrets::new(passwords.chain(webhook).chain(key).chain(jwt).chain(tokens))
}
