//! Tables of before and after, one policy each.

use super::*;
use crate::segment::Column;

fn column(number: i32, name: &str, sql_type: &str, not_null: bool) -> ShapeColumn {
    ShapeColumn {
        name: name.to_owned(),
        sql_type: sql_type.to_owned(),
        not_null,
        origin: ColumnOrigin {
            number,
            declared: sql_type.to_owned(),
        },
    }
}

fn orders(columns: Vec<ShapeColumn>) -> Shape {
    Shape {
        oid: 7,
        columns,
        primary_key: vec!["id".to_owned()],
    }
}

fn before() -> Shape {
    orders(vec![
        column(1, "id", "integer", true),
        column(2, "name", "character varying(10)", false),
    ])
}

fn propagated(new: &Shape) -> Decision {
    decide(&before(), new, SchemaPolicy::Propagate)
}

fn held(decision: &Decision) -> Option<Hold> {
    match &decision.verdict {
        Verdict::Hold(hold, _) => Some(*hold),
        Verdict::Follow { .. } => None,
    }
}

const GOES_ON: Verdict = Verdict::Follow { reload: false };

#[test]
fn an_unchanged_table_goes_on_under_every_policy() {
    use SchemaPolicy::{Ignore, Pause, Propagate};
    for policy in [Propagate, Pause, Ignore] {
        let same = decide(&before(), &before(), policy);
        assert_eq!((same.changes, same.verdict), (vec![], GOES_ON));
    }
}

#[test]
fn a_rename_is_told_from_a_drop_and_an_add_by_the_column_s_number() {
    let mut new = before();
    new.columns[1].name = "title".to_owned();
    let renamed = propagated(&new);
    let change = SchemaChange::ColumnRenamed {
        from: "name".to_owned(),
        to: "title".to_owned(),
    };
    assert_eq!((renamed.changes, renamed.verdict), (vec![change], GOES_ON));
    new.columns[1].origin.number = 3;
    let other = propagated(&new);
    assert!(
        matches!(
            other.changes.as_slice(),
            [
                SchemaChange::ColumnAdded { .. },
                SchemaChange::ColumnDropped { .. }
            ]
        ),
        "{other:?}"
    );
    assert_eq!(other.verdict, GOES_ON);
}

#[test]
fn columns_that_swap_their_names_are_two_renames() {
    let mut new = before();
    new.columns[0] = column(2, "id", "character varying(10)", false);
    new.columns[1] = column(1, "name", "integer", true);
    let swapped = propagated(&new);
    let renames = swapped.changes.iter();
    let renames = renames.filter(|c| matches!(c, SchemaChange::ColumnRenamed { .. }));
    assert_eq!(renames.count(), 2, "{swapped:?}");
}

#[test]
fn a_column_dropped_and_made_again_reads_the_table_whole() {
    let mut new = before();
    new.columns[1] = column(3, "name", "character varying(10)", false);
    let replaced = propagated(&new);
    assert_eq!(replaced.verdict, Verdict::Follow { reload: true });
}

#[test]
fn a_table_made_again_is_compared_by_names_and_read_whole() {
    let mut new = before();
    new.oid = 8;
    new.columns.reverse();
    let recreated = propagated(&new);
    assert_eq!(recreated.changes, [SchemaChange::TableRecreated]);
    assert_eq!(recreated.verdict, Verdict::Follow { reload: true });
}

#[test]
fn a_wider_type_is_followed_and_a_narrower_one_quarantined() {
    let mut new = before();
    new.columns[0] = column(1, "id", "bigint", true);
    assert_eq!(propagated(&new).verdict, GOES_ON);
    new.columns[1] = column(2, "name", "character varying(5)", false);
    let narrower = propagated(&new);
    assert_eq!(held(&narrower), Some(Hold::Quarantined));
    assert!(
        matches!(&narrower.verdict, Verdict::Hold(_, why) if why.contains("\"name\"")),
        "{narrower:?}"
    );
}

#[test]
fn an_enum_s_new_label_is_told_and_changes_nothing_that_landed() {
    let mut old = before();
    old.columns[1] = column(2, "name", "text", false);
    old.columns[1].origin.declared = "mood ('good')".to_owned();
    let mut new = old.clone();
    new.columns[1].origin.declared = "mood ('good', 'bad')".to_owned();
    let told = decide(&old, &new, SchemaPolicy::Propagate);
    assert_eq!(told.verdict, GOES_ON);
    assert!(describe(&told.changes).contains("'bad'"), "{told:?}");
}

#[test]
fn pause_holds_at_any_change_and_ignore_only_at_a_new_type() {
    let mut added = before();
    added.columns.push(column(3, "size", "integer", false));
    let mut wider = before();
    wider.columns[0] = column(1, "id", "bigint", true);
    for new in [&added, &wider] {
        let paused = decide(&before(), new, SchemaPolicy::Pause);
        assert_eq!(held(&paused), Some(Hold::Paused));
    }
    let ignored = decide(&before(), &added, SchemaPolicy::Ignore);
    assert_eq!((ignored.changes.len(), ignored.verdict), (1, GOES_ON));
    let kept = decide(&before(), &wider, SchemaPolicy::Ignore);
    assert_eq!(held(&kept), Some(Hold::Quarantined));
}

#[test]
fn a_key_that_follows_a_rename_has_not_changed() {
    let mut new = before();
    new.columns[0].name = "key".to_owned();
    new.primary_key = vec!["key".to_owned()];
    assert_eq!(propagated(&new).changes.len(), 1);
    new.primary_key = vec!["name".to_owned()];
    let moved = propagated(&new).changes;
    assert!(
        matches!(moved.last(), Some(SchemaChange::PrimaryKeyChanged { .. })),
        "{moved:?}"
    );
}

#[test]
fn without_numbers_columns_are_known_by_their_names() {
    let column = |name: &str| Column {
        name: name.to_owned(),
        sql_type: "text".to_owned(),
        not_null: false,
    };
    let spec = |names: [&str; 2]| TableSpec {
        table: TableName::new("public", "orders"),
        columns: names.iter().map(|name| column(name)).collect(),
        primary_key: vec![],
        mode: crate::segment::SyncMode::FullRefresh,
        options: crate::segment::TableOptions::default(),
        origin: crate::segment::Origin::default(),
    };
    let (old, new) = (spec(["a", "b"]), spec(["a", "c"]));
    let changes = decide(&(&old).into(), &(&new).into(), SchemaPolicy::Propagate).changes;
    assert_eq!(changes.len(), 2, "{changes:?}");
}
