//! Snapshots: every version of a row, with when it held. The statements are those of dbt-postgres.

mod write;

use serde_json::Value as Json;

use ballpoint_postgres::ident;

use super::incremental::{Column, columns_of, columns_of_query};
use super::{Built, Sender, create_as, create_indexes, created, named};
use crate::catalog::RelationKind;
use crate::project::config;
use crate::project::node::Node;
use crate::run::Failure;

/// The moment of a snapshot.
const NOW: &str = "now()::timestamp without time zone";

/// What happens to rows that are gone from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HardDeletes {
    Ignore,
    Invalidate,
    NewRecord,
}

/// The names of the columns that a snapshot adds.
struct Names {
    valid_from: String,
    valid_to: String,
    scd_id: String,
    updated_at: String,
    is_deleted: String,
}

/// How a snapshot tells that a row changed.
struct Strategy {
    keys: Vec<String>,
    /// `unique_key` was given as a list: its columns are numbered.
    is_list: bool,
    updated_at: String,
    row_changed: String,
    scd_id: String,
    hard_deletes: HardDeletes,
    names: Names,
    valid_to_current: Option<String>,
}

fn meta_names(node: &Node) -> Names {
    let given = |name: &str| {
        node.config
            .get("snapshot_meta_column_names")
            .and_then(|names| names.get(name))
            .and_then(Json::as_str)
            .unwrap_or(name)
            .to_owned()
    };
    Names {
        valid_from: given("dbt_valid_from"),
        valid_to: given("dbt_valid_to"),
        scd_id: given("dbt_scd_id"),
        updated_at: given("dbt_updated_at"),
        is_deleted: given("dbt_is_deleted"),
    }
}

fn hard_deletes(node: &Node) -> Result<HardDeletes, Failure> {
    let old = config::flag(&node.config, "invalidate_hard_deletes");
    match (config::text(&node.config, "hard_deletes"), old) {
        (Some(_), Some(true)) => Err(Failure::lasting(format!(
            "{}: you cannot set both the invalidate_hard_deletes and hard_deletes config properties \
             on the same snapshot",
            named(node)
        ))),
        (None, Some(true)) | (Some("invalidate"), _) => Ok(HardDeletes::Invalidate),
        (None, _) | (Some("ignore"), _) => Ok(HardDeletes::Ignore),
        (Some("new_record"), _) => Ok(HardDeletes::NewRecord),
        (Some(other), _) => Err(Failure::lasting(format!(
            "{} has hard_deletes '{other}'; known are ignore, invalidate and new_record",
            named(node)
        ))),
    }
}

fn hash_of(parts: &[String]) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|part| format!("coalesce(cast({part} as varchar ), '')"))
        .collect();
    format!("md5({})", parts.join(" || '|' || "))
}

impl Strategy {
    async fn of(
        sender: &mut Sender<'_>,
        node: &Node,
        sql: &str,
        exists: bool,
    ) -> Result<Self, Failure> {
        let keys = config::names(&node.config, "unique_key");
        let lacks = |what: &str| {
            Failure::lasting(format!(
                "{} must be configured with a '{what}'",
                named(node)
            ))
        };
        if keys.is_empty() {
            return Err(lacks("unique_key"));
        }
        let names = meta_names(node);
        let given = config::text(&node.config, "updated_at").map(str::to_owned);
        let (updated_at, row_changed) = match config::text(&node.config, "strategy") {
            Some("timestamp") => {
                let updated_at = given.ok_or_else(|| lacks("updated_at"))?;
                let changed = format!(
                    "(snapshotted_data.{} < source_data.{updated_at})",
                    names.valid_from
                );
                (updated_at, changed)
            }
            Some("check") => {
                let changed = match exists {
                    true => changed_columns(sender, node, sql).await?,
                    false => "(TRUE)".to_owned(),
                };
                (given.unwrap_or_else(|| NOW.to_owned()), changed)
            }
            Some(other) => {
                return Err(Failure::lasting(format!(
                    "{} has the strategy '{other}'; known are timestamp and check",
                    named(node)
                )));
            }
            None => return Err(lacks("strategy")),
        };
        let mut hashed = keys.clone();
        hashed.push(updated_at.clone());
        Ok(Self {
            is_list: node.config.get("unique_key").is_some_and(Json::is_array),
            scd_id: hash_of(&hashed),
            hard_deletes: hard_deletes(node)?,
            valid_to_current: config::text(&node.config, "dbt_valid_to_current").map(str::to_owned),
            keys,
            updated_at,
            row_changed,
            names,
        })
    }

    fn key_columns(&self) -> Vec<String> {
        match self.is_list {
            true => (1..=self.keys.len())
                .map(|i| format!("dbt_unique_key_{i}"))
                .collect(),
            false => vec!["dbt_unique_key".to_owned()],
        }
    }

    /// The key's columns under names of their own.
    fn key_fields(&self) -> String {
        let fields: Vec<String> = self
            .keys
            .iter()
            .zip(self.key_columns())
            .map(|(key, name)| format!("{key} as {name}"))
            .collect();
        fields.join(", ")
    }

    fn join(&self) -> String {
        let pairs: Vec<String> = self
            .key_columns()
            .iter()
            .map(|name| format!("snapshotted_data.{name} = source_data.{name}"))
            .collect();
        pairs.join(" and ")
    }

    fn first_key(&self) -> String {
        self.key_columns().remove(0)
    }

    fn valid_to(&self) -> String {
        let Self { updated_at, .. } = self;
        let current = self.valid_to_current.as_deref().unwrap_or("null");
        format!(
            "coalesce(nullif({updated_at}, {updated_at}), {current}) as {}",
            self.names.valid_to
        )
    }

    /// Whether the version of a row holds still.
    fn holds(&self, of: &str) -> String {
        let column = format!("{of}{}", self.names.valid_to);
        match &self.valid_to_current {
            Some(current) => format!("({column} = {current} or {column} is null)"),
            None => format!("{column} is null"),
        }
    }

    /// The first snapshot: every row, as it is.
    fn first(&self, sql: &str) -> String {
        let Names {
            valid_from,
            scd_id,
            updated_at,
            is_deleted,
            ..
        } = &self.names;
        let deleted = match self.hard_deletes {
            HardDeletes::NewRecord => format!(",\n  'False' as {is_deleted}"),
            _ => String::new(),
        };
        format!(
            "select *,\n  {} as {scd_id},\n  {at} as {updated_at},\n  {at} as {valid_from},\n  \
             {}{deleted}\nfrom (\n{sql}\n) sbq",
            self.scd_id,
            self.valid_to(),
            at = self.updated_at,
        )
    }

    /// What has changed: rows to insert, and rows whose time is over.
    fn changes(&self, sql: &str, relation: &str, known: &[Column], given: &[Column]) -> String {
        let Names {
            valid_from,
            valid_to,
            scd_id,
            updated_at,
            is_deleted,
        } = &self.names;
        let at = &self.updated_at;
        let (keys, join, first) = (self.key_fields(), self.join(), self.first_key());
        let is_new_record = self.hard_deletes == HardDeletes::NewRecord;
        let when = |text: String| if is_new_record { text } else { String::new() };
        let came_back = when(format!(" or snapshotted_data.{is_deleted} = 'True'"));
        let mut sql = format!(
            "with snapshot_query as (\n{sql}\n),\nsnapshotted_data as (\n  select *, {keys}\n  \
             from {relation}\n  where {}\n),\ninsertions_source_data as (\n  select *, {keys},\n    \
             {at} as {updated_at}, {at} as {valid_from}, {},\n    {} as {scd_id}\n  from \
             snapshot_query\n),\nupdates_source_data as (\n  select *, {keys},\n    {at} as \
             {updated_at}, {at} as {valid_from}, {at} as {valid_to}\n  from snapshot_query\n),\n\
             deletes_source_data as (\n  select *, {keys}\n  from snapshot_query\n),\ninsertions as (\n  \
             select 'insert' as dbt_change_type, source_data.*{}\n  from insertions_source_data as \
             source_data\n  left outer join snapshotted_data on {join}\n  where \
             snapshotted_data.{first} is null\n    or (snapshotted_data.{first} is not null and ({}\
             {came_back}))\n),\nupdates as (\n  select 'update' as dbt_change_type, source_data.*,\n    \
             snapshotted_data.{scd_id}{}\n  from updates_source_data as source_data\n  join \
             snapshotted_data on {join}\n  where ({}{came_back})\n)",
            self.holds(""),
            self.valid_to(),
            self.scd_id,
            when(format!(", 'False' as {is_deleted}")),
            self.row_changed,
            when(format!(", snapshotted_data.{is_deleted}")),
            self.row_changed,
        );
        let mut parts = vec!["insertions", "updates"];
        if self.hard_deletes != HardDeletes::Ignore {
            sql.push_str(&self.deletes());
            parts.push("deletes");
        }
        if is_new_record {
            sql.push_str(&self.deletion_records(known, given));
            parts.push("deletion_records");
        }
        let selects: Vec<String> = parts
            .iter()
            .map(|part| format!("select * from {part}"))
            .collect();
        format!("{sql}\n{}", selects.join("\nunion all\n"))
    }

    /// The latest version of a row does not say yet that it is gone.
    fn not_yet_deleted(&self) -> String {
        format!(
            "not (snapshotted_data.{} = 'True' and {})",
            self.names.is_deleted,
            self.holds("snapshotted_data.")
        )
    }

    /// Rows whose time is over because the source has them no more.
    fn deletes(&self) -> String {
        let Names {
            valid_from,
            valid_to,
            scd_id,
            updated_at,
            is_deleted,
        } = &self.names;
        let (column, condition) = match self.hard_deletes {
            HardDeletes::NewRecord => (
                format!(", snapshotted_data.{is_deleted}"),
                format!(" and {}", self.not_yet_deleted()),
            ),
            _ => (String::new(), String::new()),
        };
        format!(
            ",\ndeletes as (\n  select 'delete' as dbt_change_type, source_data.*,\n    {NOW} as \
             {valid_from}, {NOW} as {updated_at}, {NOW} as {valid_to},\n    \
             snapshotted_data.{scd_id}{column}\n  from snapshotted_data\n  left join \
             deletes_source_data as source_data on {}\n  where source_data.{} is null{condition}\n)",
            self.join(),
            self.first_key(),
        )
    }

    /// Rows that say that a row is gone.
    fn deletion_records(&self, known: &[Column], given: &[Column]) -> String {
        let Names {
            valid_from,
            valid_to,
            scd_id,
            updated_at,
            is_deleted,
        } = &self.names;
        let columns: Vec<String> = given
            .iter()
            .map(|(name, _)| {
                let from = match known.iter().any(|(other, _)| other == name) {
                    true => "snapshotted_data",
                    false => "source_data",
                };
                format!("{from}.{}", ident::quote(name))
            })
            .chain(
                self.key_columns()
                    .iter()
                    .map(|key| format!("snapshotted_data.{key}")),
            )
            .collect();
        let hash = hash_of(&[format!("snapshotted_data.{scd_id}"), NOW.to_owned()]);
        format!(
            ",\ndeletion_records as (\n  select 'insert' as dbt_change_type, {},\n    {NOW} as \
             {valid_from}, {NOW} as {updated_at}, snapshotted_data.{valid_to} as {valid_to},\n    \
             {hash} as {scd_id}, 'True' as {is_deleted}\n  from snapshotted_data\n  left join \
             deletes_source_data as source_data on {}\n  where source_data.{} is null and {}\n)",
            columns.join(", "),
            self.join(),
            self.first_key(),
            self.not_yet_deleted(),
        )
    }
}

/// Whether one of the checked columns differs, nulls included; true if one of them is new.
async fn changed_columns(
    sender: &mut Sender<'_>,
    node: &Node,
    sql: &str,
) -> Result<String, Failure> {
    let wanted = config::names(&node.config, "check_cols");
    let checked = match wanted.as_slice() {
        [] => {
            return Err(Failure::lasting(format!(
                "{} must be configured with 'check_cols'",
                named(node)
            )));
        }
        [all] if all == "all" => columns_of_query(sender.conn, sql).await?,
        list => {
            let list = list.join(", ");
            columns_of_query(sender.conn, &format!("select {list} from (\n{sql}\n) subq")).await?
        }
    };
    let known = columns_of(sender.conn, &node.relation.in_schema()).await?;
    let is_known = |name: &str| known.iter().any(|(other, _)| other == name);
    if checked.iter().any(|(name, _)| !is_known(name)) {
        return Ok("(TRUE)".to_owned());
    }
    let parts: Vec<String> = checked
        .iter()
        .map(|(name, _)| {
            let column = ident::quote(name);
            let (old, new) = (
                format!("snapshotted_data.{column}"),
                format!("source_data.{column}"),
            );
            format!(
                "{old} != {new} or ((({old} is null) and not ({new} is null)) or \
                 ((not {old} is null) and ({new} is null)))"
            )
        })
        .collect();
    Ok(format!("({})", parts.join(" or ")))
}

/// Takes a snapshot.
pub(crate) async fn build(
    sender: &mut Sender<'_>,
    node: &Node,
    sql: &str,
    existing: Option<RelationKind>,
) -> Result<Built, Failure> {
    let relation = &node.relation;
    if let Some(kind) = existing.filter(|kind| !kind.is_table()) {
        return Err(Failure::lasting(format!(
            "{}: {relation} is a {} and not a table",
            named(node),
            kind.name()
        )));
    }
    let strategy = Strategy::of(sender, node, sql, existing.is_some()).await?;
    if existing.is_none() {
        let select = strategy.first(sql);
        let mut statements = create_as(RelationKind::Table, relation, &select);
        statements.push_str(&create_indexes(node, relation));
        let rows = sender.run(&statements).await.map_err(|error| {
            let before = statements.split(sql).next().unwrap_or_default();
            error.pointing_at(node, sql, before)
        })?;
        return Ok(created(RelationKind::Table, rows));
    }
    let known = columns_of(sender.conn, &relation.in_schema()).await?;
    write::check_target(node, &strategy, &known)?;
    let given = match strategy.hard_deletes {
        HardDeletes::NewRecord => columns_of_query(sender.conn, sql).await?,
        _ => Vec::new(),
    };
    let staging = "\"__dbt_snapshot\"";
    let select = strategy.changes(sql, &relation.to_string(), &known, &given);
    let create = format!("create temporary table {staging} on commit drop as (\n{select}\n);");
    sender.run(&create).await.map_err(|error| {
        let before = create.split(sql).next().unwrap_or_default();
        error.pointing_at(node, sql, before)
    })?;
    write::apply(sender, node, &strategy, &known, staging).await
}
