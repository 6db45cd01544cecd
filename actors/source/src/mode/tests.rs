#![allow(clippy::unwrap_used)]

use ballpoint_runtime::segment::{Column, ColumnOrigin};

use super::*;
use crate::catalog::SourceColumn;

fn column(name: &str, sql_type: &str, not_null: bool) -> SourceColumn {
    SourceColumn {
        column: Column {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            not_null,
        },
        portable: true,
        long: false,
        origin: ColumnOrigin::default(),
        fills_old_rows: false,
        type_id: 25,
        type_modifier: -1,
    }
}

fn table(not_null: bool, indexed: bool, keyed: bool) -> SourceTable {
    let key = |has: bool, name: &str| {
        let columns = has.then(|| name.to_owned());
        columns.into_iter().collect::<Vec<_>>()
    };
    SourceTable {
        oid: 1,
        file: 1,
        table: TableName::new("public", "orders"),
        columns: vec![
            column("id", "bigint", true),
            column("updated_at", "timestamp with time zone", not_null),
        ],
        primary_key: key(keyed, "id"),
        index_leads: key(indexed, "updated_at"),
        readable: true,
        fits: None,
    }
}

fn configured(table: TableConfig) -> PostgresSourceConfig {
    let mut config = PostgresSourceConfig::new("shop", "postgres://h/d");
    config.table.insert("public.orders".to_owned(), table);
    config
}

fn asked(mode: Mode) -> PostgresSourceConfig {
    configured(TableConfig {
        mode: Some(mode),
        ..TableConfig::default()
    })
}

const NAMES_ID: LogKey<'_> = &|_| Ok(vec!["id".to_owned()]);
const REFUSES: LogKey<'_> = &|_| Err("wal_level is replica".to_owned());

fn chosen(table: &SourceTable, config: &PostgresSourceConfig) -> Chosen {
    choose(table, config, NAMES_ID).unwrap()
}

fn by_default(table: &SourceTable) -> (SyncMode, String) {
    let chosen = choose(table, &configured(TableConfig::default()), REFUSES).unwrap();
    (chosen.spec.mode, chosen.reason)
}

#[test]
fn an_indexed_not_null_timestamp_and_a_key_make_a_table_incremental() {
    let (mode, _) = by_default(&table(true, true, true));
    assert_eq!(
        mode,
        SyncMode::Incremental {
            cursor: "updated_at".to_owned()
        }
    );
}

#[test]
fn what_a_table_lacks_is_the_reason_of_its_full_refresh() {
    for (lacking, words) in [
        (table(false, true, true), "allows null"),
        (table(true, false, true), "no index"),
        (table(true, true, false), "no primary key"),
    ] {
        let (mode, reason) = by_default(&lacking);
        assert_eq!(mode, SyncMode::FullRefresh);
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn a_cursor_that_does_not_exist_is_an_error_that_lists_the_columns() {
    let config = configured(TableConfig {
        cursor: Some("changed".to_owned()),
        ..TableConfig::default()
    });
    let error = choose(&table(true, true, true), &config, REFUSES).unwrap_err();
    assert!(
        error.contains("\"changed\"") && error.contains("id, updated_at"),
        "{error}"
    );
}

#[test]
fn a_log_that_names_the_rows_is_what_cdc_takes() {
    let table = table(true, true, true);
    assert_eq!(chosen(&table, &asked(Mode::Cdc)).spec.mode, SyncMode::Cdc);
    let whole: LogKey<'_> = &|_| Ok(vec![]);
    let by_row = choose(&table, &asked(Mode::Cdc), whole).unwrap();
    assert_eq!(by_row.spec.mode, SyncMode::Cdc);
}

#[test]
fn what_keeps_a_table_from_cdc_is_said() {
    let table = table(true, true, true);
    let error = choose(&table, &asked(Mode::Cdc), REFUSES).unwrap_err();
    assert!(error.contains("wal_level is replica"), "{error}");
    let by_other: LogKey<'_> = &|_| Ok(vec!["other".to_owned()]);
    let error = choose(&table, &asked(Mode::Cdc), by_other).unwrap_err();
    assert!(error.contains("REPLICA IDENTITY FULL"), "{error}");
    let unasked = choose(&table, &configured(TableConfig::default()), REFUSES).unwrap();
    let better = unasked.better.unwrap();
    assert_eq!(
        (better.mode, better.lacks.as_str()),
        ("cdc", "wal_level is replica")
    );
    // Who chose a mode knows of the others.
    let chosen = choose(&table, &asked(Mode::Incremental), REFUSES).unwrap();
    assert_eq!(chosen.better, None);
}

#[test]
fn airbyte_s_append_modes_only_ever_add_rows() {
    for (mode, appends) in [
        (Mode::FullRefresh, false),
        (Mode::FullRefreshAppend, true),
        (Mode::Incremental, false),
        (Mode::IncrementalAppend, true),
        (Mode::Cdc, false),
    ] {
        let spec = chosen(&table(true, true, true), &asked(mode)).spec;
        assert_eq!(spec.options.append, appends, "{mode:?}");
    }
}
