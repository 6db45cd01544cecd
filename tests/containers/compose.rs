//! `docker-compose.yml`, as far as this repository uses it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_norway::Value;

/// The services and named volumes of the file, its variables filled in.
#[derive(Debug, Deserialize)]
pub(super) struct Compose {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) volumes: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) healthcheck: Option<Healthcheck>,
    pub(super) depends_on: BTreeMap<String, Dependency>,
    pub(super) volumes: Vec<String>,
    pub(super) ports: Vec<String>,
    pub(super) profiles: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) stop_signal: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Healthcheck {
    pub(super) test: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) condition: String,
}

impl Compose {
    /// Reads the file; a required variable that is not given is an error, as for the engine.
    pub(super) fn read(variables: &BTreeMap<&str, &str>) -> Result<Self, String> {
        let text = include_str!("../../docker-compose.yml");
        let mut file: Value = serde_norway::from_str(text).map_err(|e| e.to_string())?;
        // Twice: what is merged in has itself something merged in.
        file.apply_merge().map_err(|e| e.to_string())?;
        file.apply_merge().map_err(|e| e.to_string())?;
        fill_in(&mut file, variables)?;
        serde_norway::from_value(file).map_err(|e| e.to_string())
    }

    /// The services that start without a profile, each after those whose health it waits for.
    pub(super) fn start_order(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let wanted: Vec<_> = self
            .services
            .iter()
            .filter(|(_, s)| s.profiles.is_empty())
            .collect();
        while order.len() < wanted.len() {
            let next = wanted.iter().find(|(name, service)| {
                let waits = service.depends_on.iter().all(|(on, dependency)| {
                    assert_eq!(dependency.condition, "service_healthy", "{name} on {on}");
                    order.contains(on)
                });
                waits && !order.contains(name)
            });
            let (name, _) = next.expect("no circle of dependencies");
            order.push((*name).clone());
        }
        order
    }
}

/// Fills in `${NAME:?why}` and `${NAME:-default}` in every text of the file.
fn fill_in(value: &mut Value, variables: &BTreeMap<&str, &str>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            while let Some(start) = text.find("${") {
                let end = start + text[start..].find('}').ok_or("`${` without `}`")?;
                let inner = text[start + 2..end].to_owned();
                let (name, otherwise) =
                    inner.split_once(':').ok_or("a variable says what if not")?;
                let value = match (variables.get(name), otherwise.strip_prefix('-')) {
                    (Some(value), _) => (*value).to_owned(),
                    (None, Some(default)) => default.to_owned(),
                    (None, None) => return Err(format!("{name} is required")),
                };
                text.replace_range(start..=end, &value);
            }
            Ok(())
        }
        Value::Sequence(items) => items
            .iter_mut()
            .try_for_each(|item| fill_in(item, variables)),
        Value::Mapping(items) => items
            .iter_mut()
            .try_for_each(|(_, item)| fill_in(item, variables)),
        _ => Ok(()),
    }
}
