//! Snapshots: blocks in SQL files, and declarations that name a relation.

use serde_json::{Map, Value as Json};

use super::nodes::relative;
use super::{Loader, Patches, config};
use crate::error::{Place, ProjectError};
use crate::jinja::lift::LiftedBlock;
use crate::project::node::{Materialization, ResourceType};
use crate::project::properties::DeclaredSnapshot;

impl Loader {
    pub(super) fn snapshot_file(
        &mut self,
        folder: &str,
        file: &str,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let shown = self.package.shown(file);
        let text = self.package.reader.text(file)?;
        let package = self.package.name.clone();
        for block in self.engine.snapshot_blocks(&package, &shown, &text)? {
            self.snapshot_block(folder, file, &shown, block, patches)?;
        }
        Ok(())
    }

    fn snapshot_block(
        &mut self,
        folder: &str,
        file: &str,
        shown: &str,
        block: LiftedBlock,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let mut fqn = self.fqn(folder, file);
        fqn.push(block.name.clone());
        let template = format!("{shown}#snapshot.{}", block.name);
        self.engine.add_template(&template, &block.body)?;
        let place = Place::line(shown, block.line);
        let raw = block.body.trim_end_matches("{##}").to_owned();
        let raw = raw.split_once("#}").map_or(raw.as_str(), |(_, body)| body);
        let written = Written {
            name: block.name,
            template,
            raw_code: raw.to_owned(),
            path: relative(folder, file),
            settings: Map::new(),
        };
        self.snapshot(written, fqn, file, place, patches)
    }

    pub(super) fn declared_snapshot(
        &mut self,
        declared: &DeclaredSnapshot,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let mut fqn = self.fqn(
            "",
            declared.file.split_once('/').map_or("", |(_, rest)| rest),
        );
        fqn.pop();
        fqn.push(declared.name.clone());
        let template = format!("<snapshot.{}.{}>", self.package.name, declared.name);
        let raw_code = format!("select * from {{{{ {} }}}}", declared.relation);
        self.engine.add_template(&template, &raw_code)?;
        let written = Written {
            name: declared.name.clone(),
            template,
            raw_code,
            path: relative(
                declared.file.split('/').next().unwrap_or_default(),
                &declared.file,
            ),
            settings: declared.config.clone(),
        };
        let (file, place) = (declared.file.clone(), declared.place.clone());
        self.snapshot(written, fqn, &file, place, patches)
    }

    fn snapshot(
        &mut self,
        written: Written,
        fqn: Vec<String>,
        file: &str,
        place: Place,
        patches: &Patches,
    ) -> Result<(), ProjectError> {
        let name = written.name;
        let patch = patches.get(&("snapshot", name.clone()));
        let mut settings = self.folder_config("snapshots", &fqn);
        self.merge_patch(&mut settings, patch)?;
        config::merge_all(
            &mut settings,
            &self.rendered_config(&written.settings, &place)?,
        );
        let recorded = self.parse(&written.template, &place, &name, &settings, Vec::new())?;
        config::merge_all(&mut settings, &recorded.config);
        let unique_id = format!("snapshot.{}.{name}", self.package.name);
        if self.is_disabled(&settings, &name, &unique_id) {
            return Ok(());
        }
        check(&settings, &name, &place)?;
        let mut node = self.node(
            unique_id,
            ResourceType::Snapshot,
            Materialization::Snapshot,
            name,
            fqn,
        );
        node.path = written.path;
        node.template = written.template;
        node.raw_code = written.raw_code;
        node.config = settings;
        self.finish(node, file, place, patch, recorded)
    }
}

/// A snapshot as it is written, whichever form it has.
struct Written {
    name: String,
    template: String,
    raw_code: String,
    path: String,
    settings: Map<String, Json>,
}

/// What a snapshot cannot run without.
fn check(settings: &Map<String, Json>, name: &str, place: &Place) -> Result<(), ProjectError> {
    let wrong = |message: String| ProjectError::Yaml {
        place: place.clone(),
        message: format!("snapshot '{name}': {message}"),
    };
    let has = |key: &str| settings.get(key).is_some_and(|value| !value.is_null());
    if !has("strategy") || !has("unique_key") {
        return Err(wrong(
            "Snapshots must be configured with a 'strategy' and 'unique_key'.".to_owned(),
        ));
    }
    match config::text(settings, "strategy") {
        Some("timestamp") if !has("updated_at") => Err(wrong(
            "When using the timestamp strategy, you must provide a value for 'updated_at'"
                .to_owned(),
        )),
        Some("check") if !has("check_cols") => Err(wrong(
            "When using the check strategy, you must provide a value for 'check_cols'".to_owned(),
        )),
        Some("timestamp" | "check") => Ok(()),
        other => Err(wrong(format!(
            "the strategy '{}' is not supported: it is 'timestamp' or 'check'",
            other.unwrap_or_default()
        ))),
    }
}
