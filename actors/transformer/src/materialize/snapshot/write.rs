//! What was staged, written into the snapshot's table.

use ballpoint_postgres::ident;

use super::super::incremental::{Column, columns_of, quoted_list, wider};
use super::super::{Built, Sender, named};
use super::{HardDeletes, Strategy};
use crate::project::node::Node;
use crate::run::Failure;

/// The columns that the configuration needs are in the table.
pub(super) fn check_target(
    node: &Node,
    strategy: &Strategy,
    known: &[Column],
) -> Result<(), Failure> {
    let names = &strategy.names;
    let mut needed = vec![
        &names.valid_from,
        &names.valid_to,
        &names.scd_id,
        &names.updated_at,
    ];
    if strategy.hard_deletes == HardDeletes::NewRecord {
        needed.push(&names.is_deleted);
    }
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|name| {
            known
                .iter()
                .all(|(other, _)| !other.eq_ignore_ascii_case(name))
        })
        .map(String::as_str)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::lasting(format!(
            "{}: Snapshot target is missing configured columns (missing \"{}\"). See \
             https://docs.getdbt.com/docs/build/snapshots#snapshot-meta-fields for more information.",
            named(node),
            missing.join("\", \"")
        ))),
    }
}

/// Writes what was staged into the table.
pub(super) async fn apply(
    sender: &mut Sender<'_>,
    node: &Node,
    strategy: &Strategy,
    known: &[Column],
    staging: &str,
) -> Result<Built, Failure> {
    let (relation, names) = (&node.relation, &strategy.names);
    let own = strategy.key_columns();
    let staged: Vec<Column> = columns_of(sender.conn, &format!("pg_temp.{staging}"))
        .await?
        .into_iter()
        .filter(|(name, _)| name != "dbt_change_type" && !own.contains(name))
        .collect();
    for (name, data_type) in &staged {
        let before = known.iter().find(|(other, _)| other == name);
        let name = ident::quote(name);
        let change = match before {
            None => format!("add column {name} {data_type}"),
            Some((_, before)) if wider(before, data_type) => {
                format!("alter column {name} type {data_type}")
            }
            Some(_) => continue,
        };
        sender
            .run(&format!("alter table {relation} {change}"))
            .await?;
    }
    let columns: Vec<String> = staged.into_iter().map(|(name, _)| name).collect();
    let list = quoted_list(&columns);
    let (valid_to, scd_id) = (&names.valid_to, &names.scd_id);
    let holds = strategy.holds(&format!("{relation}."));
    let update = format!(
        "update {relation} set {valid_to} = DBT_INTERNAL_SOURCE.{valid_to} \
         from {staging} as DBT_INTERNAL_SOURCE \
         where DBT_INTERNAL_SOURCE.{scd_id}::text = {relation}.{scd_id}::text \
         and DBT_INTERNAL_SOURCE.dbt_change_type::text in ('update'::text, 'delete'::text) and {holds}"
    );
    sender.run(&update).await?;
    let insert = format!(
        "insert into {relation} ({list}) select {list} from {staging} as DBT_INTERNAL_SOURCE \
         where DBT_INTERNAL_SOURCE.dbt_change_type::text = 'insert'::text"
    );
    let rows = sender.run(&insert).await?;
    sender.run(&format!("drop table {staging}")).await?;
    Ok(Built::rows("INSERT 0", rows))
}
