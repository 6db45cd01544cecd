//! Keys between tables, unique sets, and the values that check constraints list.

use sqlx::postgres::PgConnection;

use super::{ForeignKey, TableProfile};

/// Unique indexes hold for every row only without predicate and expression.
const UNIQUE: &str = "
select i.indrelid::bigint,
       array(select a.attname::text
             from unnest(i.indkey::int2[]) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.position <= i.indnkeyatts order by k.position)
from pg_index i
where i.indrelid = any($1::bigint[]::oid[]) and i.indisunique and not i.indisprimary
  and i.indisvalid and i.indpred is null and i.indexprs is null
order by i.indrelid, i.indexrelid";

/// A reference to a partitioned table has children of its own for the partitions: left out.
const FOREIGN_KEYS: &str = "
select c.conrelid::bigint, c.confrelid::bigint,
       array(select a.attname::text from unnest(c.conkey) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum order by position),
       array(select a.attname::text from unnest(c.confkey) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.attnum order by position)
from pg_constraint c
where c.contype = 'f' and c.conparentid = 0 and c.conrelid = any($1::bigint[]::oid[])
order by c.conrelid, c.conkey";

const CHECKS: &str = "
select c.conrelid::bigint, a.attname::text, pg_get_constraintdef(c.oid)
from pg_constraint c
join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
where c.contype = 'c' and cardinality(c.conkey) = 1 and c.conrelid = any($1::bigint[]::oid[])
order by c.conrelid, c.oid";

/// Gives the tables their keys and checked values.
pub(super) async fn read(
    connection: &mut PgConnection,
    tables: &mut [TableProfile],
) -> Result<(), sqlx::Error> {
    let oids: Vec<i64> = tables.iter().map(|table| table.oid).collect();
    let unique: Vec<(i64, Vec<String>)> = sqlx::query_as(UNIQUE)
        .bind(&oids)
        .fetch_all(&mut *connection)
        .await?;
    let references: Vec<(i64, i64, Vec<String>, Vec<String>)> = sqlx::query_as(FOREIGN_KEYS)
        .bind(&oids)
        .fetch_all(&mut *connection)
        .await?;
    let checks: Vec<(i64, String, String)> = sqlx::query_as(CHECKS)
        .bind(&oids)
        .fetch_all(&mut *connection)
        .await?;
    for table in tables {
        let mine = unique.iter().filter(|(oid, _)| *oid == table.oid);
        for (_, columns) in mine {
            if !columns.is_empty() && !table.unique.contains(columns) {
                table.unique.push(columns.clone());
            }
        }
        for (_, target, columns, target_columns) in
            references.iter().filter(|(oid, ..)| *oid == table.oid)
        {
            let reference = ForeignKey {
                columns: columns.clone(),
                target: *target,
                target_columns: target_columns.clone(),
            };
            if !table.foreign_keys.contains(&reference) {
                table.foreign_keys.push(reference);
            }
        }
        for (_, name, definition) in checks.iter().filter(|(oid, ..)| *oid == table.oid) {
            let column = table.columns.iter_mut().find(|it| it.name == *name);
            if let Some((column, values)) = column.zip(listed(definition)) {
                column.checked_values = values;
            }
        }
    }
    Ok(())
}

/// The literals of `CHECK ((x = ANY (ARRAY['a'::text, 'b'::text])))`, and of nothing else: any
/// further condition could allow more.
fn listed(definition: &str) -> Option<Vec<String>> {
    let (head, rest) = definition.split_once("= ANY (")?;
    let (cast, list) = rest.split_once("ARRAY[")?;
    let plain = |text: &str| {
        !["OR ", "AND ", "NOT ", "CASE "]
            .iter()
            .any(|it| text.contains(it))
    };
    if !plain(head) || !cast.chars().all(|c| c == '(') {
        return None;
    }
    let (values, tail) = literals(list)?;
    (plain(tail) && !tail.contains('=')).then_some(values)
}

/// The quoted literals up to the closing bracket, and what follows it.
fn literals(list: &str) -> Option<(Vec<String>, &str)> {
    let mut values = Vec::new();
    let mut rest = list;
    loop {
        let start = rest.find(['\'', ']'])?;
        if rest[start..].starts_with(']') {
            // `text[]` in a cast holds a bracket of its own, but comes after the list's.
            return (!values.is_empty()).then_some((values, &rest[start + 1..]));
        }
        rest = &rest[start + 1..];
        let mut value = String::new();
        loop {
            let end = rest.find('\'')?;
            value.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('\'') {
                Some(after) => {
                    value.push('\'');
                    rest = after;
                }
                None => break,
            }
        }
        values.push(value);
    }
}

#[cfg(test)]
pub(super) fn listed_in(definition: &str) -> Option<Vec<String>> {
    listed(definition)
}
