//! Each way in which changes of one row meet in a batch.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ballpoint_runtime::changes::{Relation, RelationColumn};
use ballpoint_runtime::segment::TableName;

use super::*;

/// `-` is null, `~` unchanged.
fn row(values: &str) -> Tuple {
    tuple(values.split(' ').map(|value| match value {
        "-" => Field::Null,
        "~" => Field::Unchanged,
        value => Field::Text(value.as_bytes()),
    }))
}

fn shown(tuple: &Tuple) -> String {
    let fields = tuple.fields().map(|field| match field {
        Field::Null => "-".to_owned(),
        Field::Unchanged => "~".to_owned(),
        Field::Text(value) | Field::Binary(value) => String::from_utf8(value.to_vec()).unwrap(),
    });
    fields.collect::<Vec<_>>().join(" ")
}

fn changes(operations: Vec<Operation>) -> Vec<Change> {
    let columns = ["id", "note", "large"].map(|name| RelationColumn {
        name: name.to_owned(),
        is_key: name == "id",
        type_id: 25,
        type_modifier: -1,
    });
    let relation = Arc::new(Relation {
        table: TableName::new("public", "t"),
        columns: columns.into(),
    });
    let numbered = operations.into_iter().zip(1..);
    let changes = numbered.map(|(operation, at)| Change {
        relation: Arc::clone(&relation),
        commit_lsn: Lsn(at),
        operation,
    });
    changes.collect()
}

fn insert(new: &str) -> Operation {
    Operation::Insert { new: row(new) }
}

fn update(new: &str) -> Operation {
    Operation::Update {
        old: None,
        new: row(new),
    }
}

fn update_from(old: &str, is_whole: bool, new: &str) -> Operation {
    let tuple = row(old);
    Operation::Update {
        old: Some(OldRow { is_whole, tuple }),
        new: row(new),
    }
}

fn delete(key: &str) -> Operation {
    Operation::Delete {
        old: OldRow {
            is_whole: false,
            tuple: row(key),
        },
    }
}

/// One line a step, such as `put 1 a x, delete 2 - -`.
fn folded(operations: Vec<Operation>) -> Vec<String> {
    let steps = by_key(&changes(operations), &[0], 9);
    let shown = steps.iter().map(|step| match step {
        Step::Move { old, new, .. } => format!("move {} to {}", shown(old), shown(new)),
        Step::Net(net) => {
            let emptied = net.emptied.map(|_| "empty".to_owned());
            let rows = net.rows.iter().map(|row| match &row.effect {
                Effect::Put(row) => format!("put {}", shown(row)),
                Effect::Patch(row) => format!("patch {}", shown(row)),
                Effect::Delete(row) => format!("delete {}", shown(row)),
                Effect::Reject(row, at) => format!("reject {} for {at}", shown(row)),
            });
            emptied
                .into_iter()
                .chain(rows)
                .collect::<Vec<_>>()
                .join(", ")
        }
    });
    shown.collect()
}

#[test]
fn the_last_state_of_a_row_is_what_counts() {
    for (operations, expected) in [
        (vec![insert("1 a x"), update("1 b y")], "put 1 b y"),
        (vec![insert("1 a x"), delete("1 - -")], "delete 1 - -"),
        (vec![delete("1 - -"), insert("1 b y")], "put 1 b y"),
        (
            vec![insert("1 a x"), insert("2 b y")],
            "put 1 a x, put 2 b y",
        ),
    ] {
        assert_eq!(folded(operations), [expected]);
    }
}

#[test]
fn a_value_that_the_log_does_not_repeat_comes_from_the_batch_or_stays() {
    for (operations, expected) in [
        (vec![update("1 b ~")], "patch 1 b ~"),
        (vec![insert("1 a x"), update("1 b ~")], "put 1 b x"),
        (vec![update("1 a x"), update("1 b ~")], "put 1 b x"),
        (vec![update("1 ~ x"), update("1 b ~")], "put 1 b x"),
        (vec![update("1 a ~"), update("1 b ~")], "patch 1 b ~"),
        (vec![update_from("1 a x", true, "1 b ~")], "put 1 b x"),
    ] {
        assert_eq!(folded(operations), [expected]);
    }
}

#[test]
fn a_key_that_changes_moves_its_row() {
    for (operations, expected) in [
        (
            vec![update_from("1 - -", false, "2 b y")],
            vec!["delete 1 - -, put 2 b y"],
        ),
        (
            vec![update("7 z ~"), update_from("1 - -", false, "2 b ~")],
            vec!["patch 7 z ~", "move 1 - - to 2 b ~"],
        ),
        (
            vec![insert("1 a x"), update_from("1 - -", false, "2 b ~")],
            vec!["delete 1 - -, put 2 b x"],
        ),
        // Two rows change places by way of a third key.
        (
            vec![
                update_from("1 - -", false, "3 a x"),
                update_from("2 - -", false, "1 b y"),
                update_from("3 - -", false, "2 a x"),
            ],
            vec!["put 1 b y, delete 3 - -, put 2 a x"],
        ),
    ] {
        assert_eq!(folded(operations), expected);
    }
}

#[test]
fn a_key_that_is_not_repeated_is_read_from_the_old_row() {
    let operations = vec![update_from("1 - -", false, "~ b x"), update("2 c ~")];
    assert_eq!(folded(operations), ["put 1 b x, patch 2 c ~"]);
}

#[test]
fn a_truncation_forgets_what_came_before_it() {
    let operations = vec![insert("1 a x"), Operation::Truncate, insert("2 b y")];
    assert_eq!(folded(operations), ["empty, put 2 b y"]);
}

#[test]
fn rows_without_a_key_are_counted() {
    let gone = |old: &str| Operation::Delete {
        old: OldRow {
            is_whole: true,
            tuple: row(old),
        },
    };
    let copies = by_row(
        &changes(vec![
            insert("1 a x"),
            insert("1 a x"),
            gone("2 b y"),
            update_from("3 c z", true, "3 d ~"),
            insert("4 e -"),
            gone("4 e -"),
        ]),
        9,
    );
    let rows: Vec<(String, i64)> = copies.rows.iter().map(|r| (shown(&r.0), r.1)).collect();
    let expected = [("1 a x", 2), ("2 b y", -1), ("3 c z", -1), ("3 d z", 1)];
    assert_eq!(rows, expected.map(|(row, count)| (row.to_owned(), count)));
}

#[test]
fn rows_with_a_long_value_are_rejected_until_they_fit() {
    for (operations, expected) in [
        (
            vec![insert("1 a xxxxxxxxxx")],
            "reject 1 a xxxxxxxxxx for 2",
        ),
        (
            vec![insert("1 a x"), update("1 b xxxxxxxxxx"), update("1 c ~")],
            "reject 1 c xxxxxxxxxx for 2",
        ),
        (
            vec![update("1 bbbbbbbbbb ~")],
            "reject 1 bbbbbbbbbb ~ for 1",
        ),
        (vec![insert("1 a xxxxxxxxxx"), update("1 b y")], "put 1 b y"),
        (
            vec![insert("1 a xxxxxxxxxx"), delete("1 - -")],
            "delete 1 - -",
        ),
        (
            vec![update_from("1 - -", false, "2 b xxxxxxxxxx")],
            "delete 1 - -, reject 2 b xxxxxxxxxx for 2",
        ),
    ] {
        assert_eq!(folded(operations), [expected]);
    }
    let copies = by_row(
        &changes(vec![
            insert("1 a xxxxxxxxxx"),
            update_from("1 a xxxxxxxxxx", true, "1 b y"),
        ]),
        9,
    );
    assert_eq!((copies.rows.len(), copies.rejected.len()), (1, 1));
}
