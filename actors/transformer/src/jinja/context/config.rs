//! `config` as templates see it: they add to it while they are parsed and ask it when they run.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use super::{Recorded, Rendering, failed};
use crate::jinja::builtins::{mutable, to_json};
use crate::jinja::macros::{split_keywords, take};

/// `config(…)` in a template, and `config.get(…)`.
#[derive(Debug)]
pub(super) struct ConfigValue {
    pub(super) rendering: Arc<Rendering>,
    pub(super) recorded: Arc<Mutex<Recorded>>,
}

impl Object for ConfigValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, mut pairs) = split_keywords(args)?;
        if let Some(given) = positional.first() {
            for key in given.try_iter()? {
                pairs.push((key.to_string(), given.get_item(&key)?));
            }
        }
        for (one, other) in [("pre_hook", "pre-hook"), ("post_hook", "post-hook")] {
            let given = |wanted: &str| pairs.iter().any(|(name, _)| name == wanted);
            if given(one) && given(other) {
                return Err(failed(format!(
                    "config() has both '{one}' and '{other}', which are one: give one of them"
                )));
            }
        }
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in pairs {
            let json = to_json(&value)?;
            crate::project::config::merge_config(&mut recorded.config, &name, json);
        }
        Ok(Value::from(""))
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let name = positional
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let known = &self.rendering.config;
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        // Once a node runs, its configuration is final: what the file says is in it already.
        let found = match self.rendering.execute {
            true => known.get(&name),
            false => recorded.config.get(&name).or_else(|| known.get(&name)),
        };
        let found = match method {
            "meta_get" | "meta_require" => known.get("meta").and_then(|meta| meta.get(&name)),
            // What is no configuration of dbt's may stand under `meta`.
            _ => found.filter(|value| !value.is_null()),
        };
        match (method, found) {
            ("get" | "require" | "meta_get" | "meta_require", Some(value)) => Ok(mutable(value)),
            ("get" | "meta_get", None) => Ok(positional
                .get(1)
                .cloned()
                .or_else(|| take(&mut keywords, "default"))
                .unwrap_or_else(|| Value::from(()))),
            ("require" | "meta_require", None) => {
                Err(failed(format!("config '{name}' is required and not set")))
            }
            ("persist_relation_docs" | "persist_column_docs", _) => {
                let what = match method {
                    "persist_relation_docs" => "relation",
                    _ => "columns",
                };
                let wanted = known.get("persist_docs").and_then(|docs| docs.get(what));
                Ok(Value::from(wanted.and_then(Json::as_bool).unwrap_or(false)))
            }
            ("set", _) => {
                drop(recorded);
                let value = positional.get(1).cloned().unwrap_or_default();
                let json = to_json(&value)?;
                let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
                crate::project::config::merge_config(&mut recorded.config, &name, json);
                Ok(Value::from(""))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}
