//! Tests declared in `schema.yml`: a macro with arguments becomes a node of its own.

use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use super::{BUILT_IN, Loader, config, versions};
use crate::error::{Place, ProjectError, nearest_hint};
use crate::jinja::builtins::mutable;
use crate::jinja::context::Recorded;
use crate::jinja::engine::Engine;
use crate::jinja::values::{MutableDict, MutableList};
use crate::project::naming;
use crate::project::node::{Materialization, ResourceType, TestMetadata, version_text};
use crate::project::properties::{Patch, TestDeclaration};

impl Loader {
    pub(super) fn test_config(&self, fqn: &[String]) -> Map<String, Json> {
        let mut settings = self.folder_config("tests", fqn);
        config::merge_all(&mut settings, &self.folder_config("data_tests", fqn));
        settings
    }

    pub(super) fn tests_of_patch(&mut self, patch: &Patch) -> Result<(), ProjectError> {
        // dbt lets the tests of a seed or a snapshot stand below `models:`.
        let kinds = [patch.kind, "seed", "snapshot"];
        let version = patch.version.as_ref();
        let full_name = versions::full_name(&patch.name, version);
        let named = |kind: &str| format!("{kind}.{}.{full_name}", self.package.name);
        let attached = kinds
            .iter()
            .take(if patch.kind == "model" { 3 } else { 1 })
            .map(|kind| named(kind))
            .find(|id| self.nodes.contains_key(id))
            .unwrap_or_else(|| named(patch.kind));
        if !self.nodes.contains_key(&attached) {
            if !self.disabled.contains(&patch.name) && !is_elsewhere(patch.kind) {
                let message = format!(
                    "{}: there is no {} named '{}'{}",
                    patch.place,
                    patch.kind,
                    patch.name,
                    nearest_hint(
                        &patch.name,
                        self.nodes.values().map(|node| node.name.as_str())
                    ),
                );
                self.warnings.push(message);
            }
            return Ok(());
        }
        let model = match version.map(|it| version_text(&it.version)) {
            Some(number) => format!("ref('{}', version='{number}')", patch.name),
            None => format!("ref('{}')", patch.name),
        };
        let target = versions::plain_name(&patch.name, version);
        for test in &patch.tests {
            self.generic_test(test, &model, &target, &attached, false)?;
        }
        Ok(())
    }

    fn knows_test(&self, namespace: Option<&str>, macro_name: &str) -> bool {
        let table = &self.engine.table;
        match namespace {
            Some(namespace) => table.find(namespace, macro_name).is_some(),
            None => [self.package.name.as_str(), &self.root, BUILT_IN]
                .into_iter()
                .any(|package| table.find(package, macro_name).is_some()),
        }
    }

    pub(super) fn generic_test(
        &mut self,
        declared: &TestDeclaration,
        model: &str,
        target: &str,
        attached: &str,
        of_source: bool,
    ) -> Result<(), ProjectError> {
        let macro_name = format!("test_{}", declared.test);
        if !self.knows_test(declared.namespace.as_deref(), &macro_name) {
            let known = self
                .engine
                .macros
                .iter()
                .filter_map(|known| known.name.strip_prefix("test_"));
            return Err(ProjectError::Yaml {
                message: format!(
                    "there is no test '{}'{}",
                    declared.test,
                    nearest_hint(&declared.test, known)
                ),
                place: declared.place.clone(),
            });
        }
        let mut kwargs = declared.arguments.clone();
        kwargs.insert(
            "model".into(),
            format!("{{{{ get_where_subquery({model}) }}}}").into(),
        );
        let test_type = match (&declared.namespace, of_source) {
            (namespace, true) => {
                prefixed(namespace.as_deref(), &format!("source_{}", declared.test))
            }
            (namespace, false) => prefixed(namespace.as_deref(), &declared.test),
        };
        let (short, name) = match &declared.custom_name {
            Some(name) => (name.clone(), name.clone()),
            None => naming::generic_test_names(&test_type, target, &kwargs),
        };
        let hash = naming::test_hash(
            &name,
            &declared.test,
            declared.namespace.as_deref(),
            &kwargs,
        );
        let unique_id = format!("test.{}.{name}.{hash}", self.package.name);
        let file = declared.file.clone();
        let mut fqn = self.fqn("", file.split_once('/').map_or("", |(_, rest)| rest));
        fqn.pop();
        fqn.push(name.clone());
        let mut settings = self.test_config(&fqn);
        config::merge_all(
            &mut settings,
            &self.rendered_config(&declared.config, &declared.place)?,
        );
        if config::flag(&settings, "enabled") == Some(false) {
            self.disabled_ids.push(unique_id);
            return Ok(());
        }
        let call = prefixed_call(declared.namespace.as_deref(), &macro_name);
        let raw_code = format!("{{{{ {call}(**_dbt_generic_test_kwargs) }}}}");
        // A name in angle brackets is no file: errors show the place of the declaration.
        let template = format!("<{unique_id}>");
        self.engine.add_template(&template, &raw_code)?;
        let metadata = TestMetadata {
            name: declared.test.clone(),
            namespace: declared.namespace.clone(),
            kwargs,
        };
        let recorded =
            self.parse_generic(&template, &declared.place, &name, &settings, &metadata)?;
        config::merge_all(&mut settings, &recorded.config);
        if short != name {
            settings
                .entry("alias".to_owned())
                .or_insert_with(|| short.clone().into());
        }
        let mut node = self.node(
            unique_id,
            ResourceType::Test,
            Materialization::Test,
            name,
            fqn,
        );
        node.path = format!("{short}.sql");
        node.raw_code = raw_code;
        node.config = settings;
        node.test = Some(metadata);
        node.column_name = declared.column.clone();
        node.attached_node = Some(attached.to_owned());
        node.description = declared.description.clone();
        node.template = template;
        self.finish(node, &file, declared.place.clone(), None, recorded)
    }

    pub(super) fn parse_generic(
        &self,
        template: &str,
        place: &Place,
        name: &str,
        settings: &Map<String, Json>,
        metadata: &TestMetadata,
    ) -> Result<Recorded, ProjectError> {
        let scope = self.scope(name, settings, Vec::new());
        let kwargs = generic_kwargs(&self.engine, metadata, place, &scope.value())?;
        let with_kwargs = self.scope(
            name,
            settings,
            vec![("_dbt_generic_test_kwargs".to_owned(), kwargs)],
        );
        self.engine.render(template, place, with_kwargs.value())?;
        let (mut all, mut more) = (scope.recorded(), with_kwargs.recorded());
        // The test's own macro stands first, as dbt has it.
        more.macros.append(&mut all.macros);
        all.macros = more.macros;
        // These two are not rendered by dbt before they run.
        let is_plain = |(package, name): &(String, String)| {
            package == BUILT_IN && ["test_unique", "test_not_null"].contains(&name.as_str())
        };
        if all.macros.first().is_some_and(is_plain) {
            all.macros.truncate(1);
        }
        all.refs.extend(more.refs);
        all.sources.extend(more.sources);
        config::merge_all(&mut all.config, &more.config);
        Ok(all)
    }
}

/// The arguments of a generic test as its macro gets them: texts that are Jinja become values.
pub(crate) fn generic_kwargs(
    engine: &Engine,
    metadata: &TestMetadata,
    place: &Place,
    scope: &Value,
) -> Result<Value, ProjectError> {
    let mut pairs = Vec::new();
    for (name, value) in &metadata.kwargs {
        let value = match name.as_str() {
            "column_name" => mutable(value),
            _ => argument(engine, value, place, scope)?,
        };
        pairs.push((name.clone(), value));
    }
    Ok(Value::from_pairs(pairs))
}

/// An argument with the texts in it that are Jinja as their values.
fn argument(
    engine: &Engine,
    value: &Json,
    place: &Place,
    scope: &Value,
) -> Result<Value, ProjectError> {
    Ok(match value {
        Json::String(text) if text.contains("{{") => engine.native(text, place, scope.clone())?,
        Json::String(text) if is_bare_call(text) => {
            engine.native(&format!("{{{{ {text} }}}}"), place, scope.clone())?
        }
        Json::Array(items) => {
            let items = items
                .iter()
                .map(|item| argument(engine, item, place, scope));
            MutableList::value(items.collect::<Result<_, _>>()?)
        }
        Json::Object(map) => {
            let pairs = map.iter().map(|(key, item)| {
                let value = argument(engine, item, place, scope)?;
                Ok((Value::from(key.as_str()), value))
            });
            MutableDict::value(pairs.collect::<Result<_, ProjectError>>()?)
        }
        other => mutable(other),
    })
}

/// Kinds whose descriptions are no nodes: `macros:`, `analyses:` of other files, singular tests.
fn is_elsewhere(kind: &str) -> bool {
    matches!(kind, "analysis" | "test")
}

/// dbt lets `to: ref('x')` and calls of these others stand without braces.
fn is_bare_call(text: &str) -> bool {
    let call = text.trim().strip_suffix(')');
    let name = call.and_then(|call| call.split_once('('));
    name.is_some_and(|(name, _)| {
        ["env_var", "ref", "var", "source", "doc"].contains(&name.trim_end())
    })
}

fn prefixed(namespace: Option<&str>, test: &str) -> String {
    namespace.map_or_else(
        || test.to_owned(),
        |namespace| format!("{namespace}_{test}"),
    )
}

fn prefixed_call(namespace: Option<&str>, macro_name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}.{macro_name}"),
        None => macro_name.to_owned(),
    }
}
