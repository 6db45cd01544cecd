//! Profiles in, files out: no database.

use ballpoint_runtime::segment::TableName;
use ballpoint_source::profile::{ColumnProfile, DatabaseProfile, ForeignKey, TableProfile};

use super::layout::{Database, Layout, lay_out};
use super::{cubes, files, staging};

fn column(name: &str, base_type: &str) -> ColumnProfile {
    ColumnProfile {
        name: name.to_owned(),
        landed_type: base_type.to_owned(),
        base_type: base_type.to_owned(),
        ..ColumnProfile::default()
    }
}

fn table(oid: i64, schema: &str, name: &str, columns: &[(&str, &str)]) -> TableProfile {
    TableProfile {
        oid,
        table: TableName::new(schema, name),
        comment: None,
        columns: columns
            .iter()
            .map(|(name, kind)| column(name, kind))
            .collect(),
        primary_key: vec![columns[0].0.to_owned()],
        unique: Vec::new(),
        foreign_keys: Vec::new(),
        rows_estimated: 10,
        bytes: 8192,
        sampled_rows: 10,
        sample_complete: true,
        sample_failure: None,
    }
}

fn refers(mut table: TableProfile, column: &str, target: i64, key: &str) -> TableProfile {
    table.foreign_keys.push(ForeignKey {
        columns: vec![column.to_owned()],
        target,
        target_columns: vec![key.to_owned()],
    });
    table
}

fn database(name: &str, tables: Vec<TableProfile>) -> Database {
    Database {
        url: format!("postgres://u:p@h/{name}"),
        profile: DatabaseProfile {
            database: name.to_owned(),
            tables,
            ..DatabaseProfile::default()
        },
        left_out: Vec::new(),
    }
}

fn laid_out(databases: &[Database]) -> Layout {
    lay_out("sample", databases, &|_, _| false)
}

#[test]
fn a_table_referred_to_twice_is_joined_under_two_names() {
    let airports = table(
        1,
        "public",
        "airports",
        &[("id", "integer"), ("name", "text")],
    );
    let flights = table(
        2,
        "public",
        "flights",
        &[
            ("id", "integer"),
            ("origin_id", "integer"),
            ("destination_id", "integer"),
        ],
    );
    let flights = refers(
        refers(flights, "origin_id", 1, "id"),
        "destination_id",
        1,
        "id",
    );
    let layout = laid_out(&[database("air", vec![airports, flights])]);
    let cubes: Vec<&str> = layout.tables[1]
        .references
        .iter()
        .map(|it| it.cube.as_str())
        .collect();
    assert_eq!(cubes, ["Airports", "FlightsDestination"]);
    let file = cubes::file(&layout, 1);
    assert!(
        file.contains("{Airports.name}") && file.contains("{FlightsDestination.name}"),
        "{file}"
    );
    assert!(file.contains("public: false"), "{file}");
}

#[test]
fn names_that_clash_or_are_reserved_become_others() {
    let menu = table(
        1,
        "public",
        "Menu Items",
        &[
            ("id", "integer"),
            ("order", "integer"),
            ("Name", "text"),
            ("name", "text"),
        ],
    );
    let twin = table(2, "public", "menu_items", &[("id", "integer")]);
    let other = table(3, "public", "menu_items", &[("id", "integer")]);
    let layout = laid_out(&[
        database("cafe", vec![menu, twin]),
        database("Cafe", vec![other]),
    ]);
    let sources: Vec<&str> = layout.sources.iter().map(|it| it.schema.as_str()).collect();
    assert_eq!(sources, ["raw_cafe", "raw_cafe_2"]);
    let models: Vec<&str> = layout.tables.iter().map(|it| it.model.as_str()).collect();
    assert_eq!(
        models,
        [
            "stg_cafe__menu_items",
            "stg_cafe__menu_items_2",
            "stg_cafe_2__menu_items"
        ]
    );
    let columns: Vec<&str> = layout.tables[0]
        .columns
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(columns, ["id", "menu_item_order", "name", "name_2"]);
    let sql = staging::model(&layout, &layout.tables[0]);
    assert!(
        sql.contains("\"order\" as menu_item_order") && sql.contains("\"Name\" as name,"),
        "{sql}"
    );
    assert!(
        files::texts(
            &layout,
            &[database("cafe", Vec::new()), database("Cafe", Vec::new())]
        )
        .is_ok()
    );
}

#[test]
fn each_schema_is_a_source_and_what_is_left_out_is_excluded() {
    let mut shop = database(
        "shop",
        vec![
            table(1, "public", "log", &[("id", "integer")]),
            table(2, "audit", "log", &[("id", "integer")]),
        ],
    );
    shop.left_out = vec![TableName::new("audit", "secret*")];
    let layout = laid_out(&[shop]);
    let of = |at: usize| {
        (
            layout.sources[at].name.as_str(),
            layout.sources[at].patterns.join(" "),
        )
    };
    assert_eq!(of(0), ("shop", "public.*".to_owned()));
    assert_eq!(of(1), ("shop_audit", "audit.* !audit.secret?".to_owned()));
    assert_eq!(layout.sources[0].variable, layout.sources[1].variable);
}

#[test]
fn a_name_says_a_reference_that_no_constraint_declares() {
    let sensors = table(
        1,
        "public",
        "sensors",
        &[("id", "integer"), ("name", "text")],
    );
    let readings = table(
        2,
        "public",
        "readings",
        &[
            ("id", "bigint"),
            ("sensor_id", "bigint"),
            ("user_id", "bigint"),
        ],
    );
    let layout = laid_out(&[database("lab", vec![sensors, readings])]);
    let references = &layout.tables[1].references;
    assert_eq!(references.len(), 1);
    assert_eq!(
        (references[0].target, references[0].cube.as_str()),
        (0, "Sensors")
    );
    let yml = staging::properties(&layout, &layout.tables[1]);
    assert!(
        yml.contains("relationships") && yml.contains("severity: warn"),
        "{yml}"
    );
}

#[test]
fn text_of_the_source_is_never_a_template() {
    let mut notes = table(
        1,
        "public",
        "notes",
        &[("id", "integer"), ("a{{b}}", "integer"), ("kind", "text")],
    );
    notes.comment = Some("uses {{ braces }} and {CUBE}".to_owned());
    notes.columns[2].enum_labels = vec!["{{x}}".to_owned()];
    let layout = laid_out(&[database("odd", vec![notes])]);
    let sql = staging::model(&layout, &layout.tables[0]);
    assert!(sql.contains("{% raw %}\"a{{b}}\"{% endraw %}"), "{sql}");
    let yml = staging::properties(&layout, &layout.tables[0]);
    assert!(
        !yml.contains("{{") && !yml.contains("accepted_values"),
        "{yml}"
    );
    let cube = cubes::file(&layout, 0);
    assert!(!cube.contains("{{"), "{cube}");
}
