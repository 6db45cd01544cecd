//! Semantic models, metrics and saved queries: read, and what each stands on found.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::unit_tests::{Input, input};
use super::{Loader, config};
use crate::error::{Place, ProjectError, nearest_hint};
use crate::project::node::{Materialization, Node, ResourceType};
use crate::project::properties::DeclaredSemantic;
use crate::project::semantic::{self, Semantic};

impl Loader {
    pub(super) fn semantic(&mut self, declared: &DeclaredSemantic) -> Result<(), ProjectError> {
        self.add_semantic(
            declared.kind,
            &declared.item,
            &declared.file,
            &declared.place,
        )?;
        if declared.kind != ResourceType::SemanticModel {
            return Ok(());
        }
        let measures = declared.item.get("measures").and_then(Json::as_array);
        let metrics = measures.into_iter().flatten();
        for metric in metrics.filter_map(semantic::metric_of_measure) {
            self.add_semantic(
                ResourceType::Metric,
                &metric,
                &declared.file,
                &declared.place,
            )?;
        }
        Ok(())
    }

    fn add_semantic(
        &mut self,
        kind: ResourceType,
        item: &Json,
        file: &str,
        place: &Place,
    ) -> Result<(), ProjectError> {
        let name = item.get("name").and_then(Json::as_str).unwrap_or_default();
        let unique_id = format!("{}.{}.{name}", kind.name(), self.package.name);
        let mut fqn = self.fqn("", file.split_once('/').map_or("", |(_, rest)| rest));
        fqn.pop();
        fqn.push(name.to_owned());
        let (section, facts) = match kind {
            ResourceType::SemanticModel => ("semantic-models", semantic::semantic_model(item)),
            ResourceType::Metric => ("metrics", semantic::metric(item)),
            _ => ("saved-queries", semantic::saved_query(item)),
        };
        let mut settings = Map::from_iter([
            ("enabled".to_owned(), true.into()),
            ("group".to_owned(), Json::Null),
            ("meta".to_owned(), json!({})),
        ]);
        config::merge_all(&mut settings, &self.folder_config(section, &fqn));
        let own = item.get("config").and_then(Json::as_object).cloned();
        let own = self.rendered_config(&own.unwrap_or_default(), place)?;
        config::merge_all(&mut settings, &own);
        for key in ["meta", "tags"] {
            if let Some(given) = item.get(key) {
                config::merge_config(&mut settings, key, given.clone());
            }
        }
        if config::flag(&settings, "enabled") == Some(false) {
            self.disabled_ids.push(unique_id);
            return Ok(());
        }
        if let Some(known) = self.semantics.get(&unique_id) {
            return Err(ProjectError::Duplicate {
                what: kind.name(),
                name: name.to_owned(),
                first: known.place.clone(),
                second: place.clone(),
            });
        }
        let semantic = Semantic {
            unique_id: unique_id.clone(),
            kind,
            name: name.to_owned(),
            package: self.package.name.clone(),
            original_file_path: file.to_owned(),
            fqn,
            tags: config::names(&settings, "tags"),
            config: settings,
            depends_on: Vec::new(),
            facts,
            place: place.clone(),
        };
        self.semantics.insert(unique_id, semantic);
        Ok(())
    }

    /// What semantic models, metrics and saved queries stand on.
    pub(super) fn resolve_semantics(
        &mut self,
        resolved: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<(), ProjectError> {
        let mut measures: BTreeMap<String, String> = BTreeMap::new();
        let ids: Vec<String> = self.semantics.keys().cloned().collect();
        for id in &ids {
            let semantic = &self.semantics[id];
            if semantic.kind != ResourceType::SemanticModel {
                continue;
            }
            for measure in semantic.facts["measures"].as_array().into_iter().flatten() {
                let name = measure["name"].as_str().unwrap_or_default();
                measures.insert(name.to_owned(), id.clone());
            }
            let model = self.model_of(semantic)?;
            let relation = json!({
                "alias": model.relation.identifier, "schema_name": model.relation.schema,
                "database": model.relation.database, "relation_name": model.relation_name(),
            });
            let (model, name) = (model.unique_id.clone(), model.name.clone());
            if let Some(semantic) = self.semantics.get_mut(id) {
                semantic.facts.insert("node_relation".into(), relation);
                let read = json!([{"name": name, "package": null, "version": null}]);
                semantic.facts.insert("refs".into(), read);
            }
            resolved.insert(id.clone(), vec![model]);
        }
        for id in ids {
            if self.semantics[&id].kind != ResourceType::SemanticModel {
                self.resolve_metric(&id, &measures, resolved)?;
            }
        }
        Ok(())
    }

    /// The node that a semantic model describes.
    fn model_of(&self, semantic: &Semantic) -> Result<&Node, ProjectError> {
        let asking = self.asking(&semantic.unique_id, &semantic.package, &semantic.place);
        let text = semantic.facts["model"].as_str().unwrap_or_default();
        let Some(Input::Ref(package, name)) = input(text) else {
            return Err(ProjectError::Yaml {
                place: semantic.place.clone(),
                message: format!(
                    "semantic model '{}' is of '{text}', which is no ref(…)",
                    semantic.name
                ),
            });
        };
        let id = self.resolve_ref(&asking, package.as_deref(), &name)?;
        Ok(&self.nodes[&id])
    }

    /// A node to resolve names for.
    pub(super) fn asking(&self, id: &str, package: &str, place: &Place) -> Node {
        let name = id.rsplit('.').next().unwrap_or(id).to_owned();
        let (kind, materialization) = (ResourceType::Exposure, Materialization::Nothing);
        let mut asking = self.node(id.to_owned(), kind, materialization, name, Vec::new());
        asking.package = package.to_owned();
        asking.place = place.clone();
        asking
    }

    /// The semantic models and the metrics that a metric or a saved query stands on.
    fn resolve_metric(
        &mut self,
        id: &str,
        measures: &BTreeMap<String, String>,
        resolved: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<(), ProjectError> {
        let semantic = self.semantics[id].clone();
        let mut parents = Vec::new();
        for measure in semantic::measures_named(&semantic.facts) {
            let name = measure["name"].as_str().unwrap_or_default();
            let model = measures.get(name).ok_or_else(|| {
                let known = measures.keys().map(String::as_str);
                unknown(&semantic, "measure", name, &nearest_hint(name, known))
            })?;
            parents.push(model.clone());
        }
        for name in semantic::metrics_read(&semantic.facts) {
            parents.push(self.metric_id(&semantic, &name)?);
        }
        if semantic.kind == ResourceType::Metric {
            let inputs = self.measures_below(id, &mut Vec::new());
            if let Some(known) = self.semantics.get_mut(id) {
                known.facts["type_params"]["input_measures"] = inputs.into();
            }
        }
        parents.dedup();
        resolved.insert(id.to_owned(), parents);
        Ok(())
    }

    fn metric_id(&self, asking: &Semantic, name: &str) -> Result<String, ProjectError> {
        self.find_metric(&asking.package, name).ok_or_else(|| {
            let known = self.semantics.values();
            let known = known.filter(|known| known.kind == ResourceType::Metric);
            let hint = nearest_hint(name, known.map(|known| known.name.as_str()));
            unknown(asking, "metric", name, &hint)
        })
    }

    /// The metric of a name: of the asking package, of the root project, of any.
    pub(super) fn find_metric(&self, package: &str, name: &str) -> Option<String> {
        let of = |package: &str| {
            let id = format!("metric.{package}.{name}");
            self.semantics.contains_key(&id).then_some(id)
        };
        let mut all = self.semantics.values();
        of(package).or_else(|| of(&self.root)).or_else(|| {
            let is_it = |it: &&Semantic| it.kind == ResourceType::Metric && it.name == name;
            all.find(is_it).map(|found| found.unique_id.clone())
        })
    }

    /// Every measure that a metric counts, those of its parts included; a ring is cut.
    fn measures_below(&self, id: &str, seen: &mut Vec<String>) -> Vec<Json> {
        if seen.iter().any(|known| known == id) {
            return Vec::new();
        }
        seen.push(id.to_owned());
        let semantic = &self.semantics[id];
        let mut all = semantic::measures_named(&semantic.facts);
        for name in semantic::metrics_read(&semantic.facts) {
            if let Some(id) = self.find_metric(&semantic.package, &name) {
                for measure in self.measures_below(&id, seen) {
                    if !all.contains(&measure) {
                        all.push(measure);
                    }
                }
            }
        }
        all
    }
}

fn unknown(asking: &Semantic, what: &str, name: &str, hint: &str) -> ProjectError {
    ProjectError::Yaml {
        place: asking.place.clone(),
        message: format!(
            "{} '{}' reads the {what} '{name}', which is not declared{hint}",
            asking.kind.name(),
            asking.name
        ),
    }
}
