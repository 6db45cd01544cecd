//! What properties files say, with its Jinja rendered.

use serde_json::{Map, Value as Json};

use super::Loader;
use crate::error::{Place, ProjectError};
use crate::jinja::context::package_scope;
use crate::project::node::ColumnDoc;
use crate::project::yaml;

impl Loader {
    pub(super) fn rendered_config(
        &self,
        config: &Map<String, Json>,
        place: &Place,
    ) -> Result<Map<String, Json>, ProjectError> {
        let scope = package_scope(&self.globals, &self.package.name);
        let rendered = yaml::rendered(&Json::Object(config.clone()), &self.engine, place, &scope)?;
        Ok(rendered.as_object().cloned().unwrap_or_default())
    }

    pub(super) fn rendered_list(
        &self,
        list: &[Json],
        place: &Place,
    ) -> Result<Vec<Json>, ProjectError> {
        let scope = package_scope(&self.globals, &self.package.name);
        let items = list.iter();
        items
            .map(|item| yaml::rendered(item, &self.engine, place, &scope))
            .collect()
    }

    /// Columns with the Jinja of their descriptions, types and constraints rendered.
    pub(super) fn columns(
        &self,
        columns: &[ColumnDoc],
        place: &Place,
    ) -> Result<Vec<ColumnDoc>, ProjectError> {
        let columns = columns.iter().map(|column| {
            let mut column = column.clone();
            column.description = self.described(&column.description, place)?;
            column.constraints = self.rendered_list(&column.constraints, place)?;
            if let Some(data_type) = &mut column.data_type {
                *data_type = self.described(data_type, place)?;
            }
            Ok(column)
        });
        columns.collect()
    }

    /// A description with its `doc()` calls filled in.
    pub(super) fn described(&self, text: &str, place: &Place) -> Result<String, ProjectError> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let scope = package_scope(&self.globals, &self.package.name);
        self.engine.render_text(text, place, scope)
    }
}
