//! What a connector discovers, and what it is asked to read of it.

use ballpoint_runtime::records::{StreamSpec, StreamWrite};
use ballpoint_runtime::segment::{Column, TableName};
use globset::Glob;
use serde_json::{Value, json};

use super::AirbyteConfig;
use super::message::StreamName;
use super::schema::{column_names, sql_type};
use crate::config::{Mode, TableConfig};

/// Streams without a namespace are shown as tables of this schema.
const NO_NAMESPACE: &str = "public";

/// Columns that the loader adds to each table. A connector that reads a log sends the third itself,
/// and the mark of deletion, which lands in the loader's own column.
const METADATA: [&str; 3] = [
    "_airbyte_extracted_at",
    "_airbyte_generation_id",
    "_ab_cdc_lsn",
];
const DELETED_AT: &str = "_ab_cdc_deleted_at";

/// A stream that is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChosenStream {
    pub(crate) name: StreamName,
    pub(crate) spec: StreamSpec,
    /// The property that feeds each column.
    pub(crate) properties: Vec<String>,
    pub(crate) is_incremental: bool,
    pub(crate) cursor_field: Vec<String>,
    /// Why it is read so.
    pub(crate) reason: String,
    /// As it was discovered.
    discovered: Value,
}

/// The configured streams of a catalog.
///
/// # Errors
/// What the configuration asks for and the connector does not offer.
pub(crate) fn choose(catalog: &Value, config: &AirbyteConfig) -> Result<Vec<ChosenStream>, String> {
    let discovered: Vec<&Value> = catalog["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let names: Vec<StreamName> = discovered.iter().map(|stream| name_of(stream)).collect();
    let known = || names.iter().map(shown).collect::<Vec<_>>().join(", ");
    for pattern in &config.streams {
        let glob = Glob::new(pattern)
            .map_err(|error| {
                format!(
                    "stream pattern {pattern:?} cannot be read: {}",
                    error.kind()
                )
            })?
            .compile_matcher();
        let matches = |name: &StreamName| glob.is_match(&name.name) || glob.is_match(shown(name));
        if !names.iter().any(matches) {
            return Err(format!(
                "the connector has no stream {pattern}; it has {}",
                known()
            ));
        }
    }
    if let Some(unknown) = config.stream.keys().find(|key| {
        let is_it = |name: &StreamName| name.name == **key || shown(name) == **key;
        !names.iter().any(is_it)
    }) {
        return Err(format!(
            "settings name stream {unknown}, which the connector does not have; it has {}",
            known()
        ));
    }
    let is_chosen = |name: &StreamName| {
        let matches = |pattern: &String| {
            Glob::new(pattern).is_ok_and(|glob| {
                let glob = glob.compile_matcher();
                glob.is_match(&name.name) || glob.is_match(shown(name))
            })
        };
        config.streams.is_empty() || config.streams.iter().any(matches)
    };
    let chosen: Result<Vec<_>, String> = discovered
        .into_iter()
        .zip(&names)
        .filter(|(_, name)| is_chosen(name))
        .map(|(stream, name)| chosen(stream, name, config))
        .collect();
    match chosen {
        Ok(none) if none.is_empty() => Err("the connector has no streams".to_owned()),
        other => other,
    }
}

fn name_of(stream: &Value) -> StreamName {
    let text = |key: &str| stream[key].as_str().map(str::to_owned);
    StreamName {
        name: text("name").unwrap_or_default(),
        namespace: text("namespace").filter(|it| !it.is_empty()),
    }
}

/// `namespace.name`, or the name.
pub(crate) fn shown(name: &StreamName) -> String {
    match &name.namespace {
        Some(namespace) => format!("{namespace}.{}", name.name),
        None => name.name.clone(),
    }
}

fn chosen(
    stream: &Value,
    name: &StreamName,
    config: &AirbyteConfig,
) -> Result<ChosenStream, String> {
    let settings = config
        .stream
        .get(&name.name)
        .or_else(|| config.stream.get(&shown(name)))
        .cloned()
        .unwrap_or_default();
    let (columns, properties) = columns_of(stream);
    let column = |property: &String| {
        let at = properties.iter().position(|it| it == property)?;
        Some(columns[at].name.clone())
    };
    let wanted_key = primary_key(stream, name, &settings)?;
    let primary_key: Vec<String> = wanted_key
        .iter()
        .map(|property| {
            column(property).ok_or_else(|| {
                format!(
                    "the primary key {property:?} of stream {} is none of its properties: {}",
                    shown(name),
                    properties.join(", ")
                )
            })
        })
        .collect::<Result<_, _>>()?;
    let (is_incremental, cursor_field, reason) = way(stream, name, &settings, config.mode)?;
    let write = match (is_incremental, settings.mode.or(config.mode)) {
        (false, Some(Mode::FullRefreshAppend)) => StreamWrite::Append,
        (false, _) => StreamWrite::Overwrite,
        (true, Some(Mode::IncrementalAppend)) => StreamWrite::Append,
        (true, _) if primary_key.is_empty() => StreamWrite::Append,
        (true, _) => StreamWrite::Dedup,
    };
    let cursor = match cursor_field.as_slice() {
        [property] if is_incremental => column(property),
        _ => None,
    };
    let namespace = name.namespace.clone();
    Ok(ChosenStream {
        spec: StreamSpec {
            table: TableName::new(namespace.unwrap_or_else(|| NO_NAMESPACE.into()), &name.name),
            columns,
            primary_key,
            cursor,
            write,
        },
        name: name.clone(),
        properties,
        is_incremental,
        cursor_field,
        reason,
        discovered: stream.clone(),
    })
}

/// Each property as a column, in the schema's order.
fn columns_of(stream: &Value) -> (Vec<Column>, Vec<String>) {
    let schema = stream["json_schema"]["properties"].as_object();
    let kept = schema
        .into_iter()
        .flatten()
        .filter(|(name, _)| !METADATA.contains(&name.as_str()));
    let (properties, types): (Vec<String>, Vec<&str>) = kept
        .map(|(name, schema)| match name.as_str() {
            DELETED_AT => (name.clone(), "timestamp with time zone"),
            _ => (name.clone(), sql_type(schema)),
        })
        .unzip();
    let columns = column_names(&properties, &METADATA)
        .into_iter()
        .zip(types)
        .map(|(name, sql_type)| Column {
            name,
            sql_type: sql_type.to_owned(),
            not_null: false,
        });
    (columns.collect(), properties)
}

fn primary_key(
    stream: &Value,
    name: &StreamName,
    settings: &TableConfig,
) -> Result<Vec<String>, String> {
    if !settings.primary_key.is_empty() {
        return Ok(settings.primary_key.clone());
    }
    let paths = stream["source_defined_primary_key"].as_array();
    paths
        .into_iter()
        .flatten()
        .map(|path| match path_of(path).as_slice() {
            [property] => Ok(property.clone()),
            path => Err(format!(
                "the primary key {} of stream {} lies inside a document; name another as \
                 `primary_key`, or set its mode to full_refresh",
                path.join("."),
                shown(name)
            )),
        })
        .collect()
}

fn path_of(path: &Value) -> Vec<String> {
    let parts = path.as_array().into_iter().flatten();
    parts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether it is read from its last state on, by which cursor, and why.
fn way(
    stream: &Value,
    name: &StreamName,
    settings: &TableConfig,
    source_mode: Option<Mode>,
) -> Result<(bool, Vec<String>, String), String> {
    let supports = |mode: &str| {
        let modes = stream["supported_sync_modes"].as_array();
        modes.is_some_and(|modes| modes.iter().any(|it| it == mode))
    };
    let default = path_of(&stream["default_cursor_field"]);
    let cursor = match &settings.cursor {
        Some(cursor) => vec![cursor.clone()],
        None => default,
    };
    let has_cursor = stream["source_defined_cursor"] == true || !cursor.is_empty();
    let lacks = if !supports("incremental") {
        Some("the connector reads it only as a whole")
    } else if !has_cursor {
        Some("it has no cursor")
    } else {
        None
    };
    let asked = settings.mode.or(source_mode);
    match (asked, lacks) {
        (Some(Mode::FullRefresh | Mode::FullRefreshAppend), _) => {
            Ok((false, Vec::new(), "configured".to_owned()))
        }
        (Some(_), Some(lacks)) => Err(format!(
            "stream {} is configured as incremental but {lacks}; name one as `cursor` or set its \
             mode to full_refresh",
            shown(name)
        )),
        (Some(_), None) => Ok((true, cursor, "configured".to_owned())),
        (None, None) => {
            let why = "the connector can go on from its last state";
            Ok((true, cursor, why.to_owned()))
        }
        (None, Some(lacks)) => Ok((false, Vec::new(), lacks.to_owned())),
    }
}

/// The catalog that `read` is given.
pub(crate) fn configured(streams: &[ChosenStream]) -> Value {
    let streams: Vec<Value> = streams
        .iter()
        .map(|stream| {
            let spec = &stream.spec;
            let key: Vec<[&String; 1]> = spec
                .primary_key
                .iter()
                .filter_map(|key| {
                    let at = spec.columns.iter().position(|column| column.name == *key)?;
                    Some([&stream.properties[at]])
                })
                .collect();
            let (sync_mode, destination) = match (stream.is_incremental, spec.write) {
                (true, StreamWrite::Dedup) => ("incremental", "append_dedup"),
                (true, _) => ("incremental", "append"),
                (false, StreamWrite::Append) => ("full_refresh", "append"),
                (false, _) => ("full_refresh", "overwrite"),
            };
            json!({
                "stream": stream.discovered,
                "sync_mode": sync_mode,
                "destination_sync_mode": destination,
                "cursor_field": stream.cursor_field,
                "primary_key": key,
                "generation_id": 1,
                "minimum_generation_id": i32::from(destination == "overwrite"),
                "sync_id": 1,
            })
        })
        .collect();
    json!({ "streams": streams })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::Connector;
    use super::*;

    fn config(streams: &[&str], stream: &[(&str, TableConfig)]) -> AirbyteConfig {
        let settings = stream
            .iter()
            .map(|(name, it)| ((*name).to_owned(), it.clone()));
        AirbyteConfig {
            name: "api".to_owned(),
            connector: Connector::Command(Vec::new()),
            config: Value::Null,
            config_file: None,
            secrets: Vec::new(),
            streams: streams.iter().map(|it| (*it).to_owned()).collect(),
            mode: None,
            stream: settings.collect::<BTreeMap<_, _>>(),
            folder: "/".into(),
            connectors_dir: "/".into(),
            stall_timeout: Duration::from_secs(1),
        }
    }

    fn catalog() -> Value {
        let schema = json!({"properties": {
            "id": {"type": "integer"}, "updated_at": {"type": "string", "format": "date-time"},
            "_ab_cdc_lsn": {"type": "number"}, "_ab_cdc_deleted_at": {"type": "string"}}});
        json!({"streams": [
            {"name": "users", "json_schema": schema, "supported_sync_modes": ["full_refresh", "incremental"],
             "source_defined_cursor": true, "default_cursor_field": ["updated_at"],
             "source_defined_primary_key": [["id"]]},
            {"name": "logs", "namespace": "ops", "json_schema": schema,
             "supported_sync_modes": ["full_refresh", "incremental"]},
            {"name": "facts", "json_schema": schema, "supported_sync_modes": ["full_refresh"],
             "source_defined_primary_key": [["id"]]},
        ]})
    }

    fn with(mode: Option<Mode>, cursor: Option<&str>) -> TableConfig {
        TableConfig {
            mode,
            cursor: cursor.map(str::to_owned),
            ..TableConfig::default()
        }
    }

    #[test]
    fn each_stream_is_read_in_the_best_way_that_it_allows() {
        let chosen = choose(&catalog(), &config(&[], &[])).unwrap();
        let ways: Vec<_> = chosen
            .iter()
            .map(|it| (it.spec.table.to_string(), it.is_incremental, it.spec.write))
            .collect();
        assert_eq!(
            ways,
            [
                ("public.users".to_owned(), true, StreamWrite::Dedup),
                ("ops.logs".to_owned(), false, StreamWrite::Overwrite),
                ("public.facts".to_owned(), false, StreamWrite::Overwrite),
            ]
        );
        let types: Vec<&str> = chosen[0]
            .spec
            .columns
            .iter()
            .map(|it| it.sql_type.as_str())
            .collect();
        let tz = "timestamp with time zone";
        assert_eq!(
            types,
            ["bigint", tz, tz],
            "the loader has a column for the log's position"
        );
        let asked = configured(&chosen);
        assert_eq!(asked["streams"][0]["destination_sync_mode"], "append_dedup");
        assert_eq!(asked["streams"][0]["cursor_field"], json!(["updated_at"]));
        assert_eq!(asked["streams"][0]["primary_key"], json!([["id"]]));
        assert_eq!(asked["streams"][0]["stream"], catalog()["streams"][0]);
        assert_eq!(asked["streams"][1]["sync_mode"], "full_refresh");
    }

    #[test]
    fn settings_choose_streams_modes_and_cursors() {
        let settings = [
            ("ops.logs", with(None, Some("updated_at"))),
            ("users", with(Some(Mode::IncrementalAppend), None)),
        ];
        let chosen = choose(&catalog(), &config(&["users", "ops.*"], &settings)).unwrap();
        assert_eq!(chosen.len(), 2);
        assert_eq!(chosen[0].spec.write, StreamWrite::Append);
        assert!(chosen[1].is_incremental && chosen[1].spec.write == StreamWrite::Append);
        assert_eq!(chosen[1].spec.cursor.as_deref(), Some("updated_at"));
    }

    #[test]
    fn what_the_connector_does_not_offer_is_named() {
        for (config, words) in [
            (
                config(&["orders"], &[]),
                "no stream orders; it has users, ops.logs, facts",
            ),
            (
                config(&[], &[("odrers", with(None, None))]),
                "stream odrers",
            ),
            (
                config(&[], &[("facts", with(Some(Mode::Incremental), None))]),
                "facts is configured as incremental but the connector reads it only as a whole",
            ),
            (
                config(&[], &[("ops.logs", with(Some(Mode::Incremental), None))]),
                "ops.logs is configured as incremental but it has no cursor",
            ),
        ] {
            let error = choose(&catalog(), &config).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let key = TableConfig {
            primary_key: vec!["uid".to_owned()],
            ..TableConfig::default()
        };
        let error = choose(&catalog(), &config(&[], &[("users", key)])).unwrap_err();
        assert!(
            error.contains("\"uid\"") && error.contains("id, updated_at"),
            "{error}"
        );
    }
}
