//! Proofs of loads. What a reply was made of stays beside it in memory, under an id that goes out with
//! it; the proof itself is written down when somebody first asks for it. So a hit costs nothing more,
//! and a dashboard that loads all day fills no table.

use ballpoint_runtime::segment::TableName;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::given;
use crate::model::SecurityContext;
use crate::plan::Plan;
use crate::proof::{Evidence, TableVersion, hex, row_proofs};
use crate::query::Filter;
use crate::served::{Collected, Served};
use crate::service::Service;

/// One statement of a load.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    sql: String,
    params: Vec<String>,
    pub(crate) policy: Vec<Filter>,
    pub(crate) rollup: Option<String>,
}

impl Part {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self {
            sql: plan.statement.sql(),
            params: plan.statement.params.clone(),
            policy: plan.row_filters.clone(),
            rollup: plan.rollup.as_ref().map(|it| it.name.clone()),
        }
    }
}

/// What a reply was made of.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Of the proof; hexadecimal.
    pub(crate) id: Bytes,
    request: Value,
    context: SecurityContext,
    parts: Vec<Part>,
    /// Each member that was asked for, by name and hash.
    definition: Vec<Value>,
    model_hash: String,
    data_version: u64,
    at: Option<Timestamp>,
}

impl Made {
    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|it| it.sql.len() + 128);
        self.request.to_string().len() + parts.sum::<usize>() + self.definition.len() * 128
    }
}

impl Service {
    /// What a reply under `key` was made of. The same rows from the same tables have the same id.
    pub(crate) fn made(
        &self,
        key: &str,
        request: &Value,
        context: &SecurityContext,
        parts: Vec<Part>,
        served: &Served,
    ) -> Made {
        let mut hasher = Sha256::new();
        hasher.update(key);
        hasher.update(served.digest);
        hasher.update(self.results.versions.epoch().to_le_bytes());
        hasher.update(self.snapshot.data_version.to_le_bytes());
        let id = hex(&hasher.finalize()[..16]);
        let mut names = Vec::new();
        members_in(&request["query"], &mut names);
        Made {
            id: id.into(),
            request: request.clone(),
            context: context.clone(),
            parts,
            definition: self.definitions_of(&names),
            model_hash: self.snapshot.model.hash.clone(),
            data_version: self.snapshot.data_version,
            at: Some(self.clock.real_now()),
        }
    }

    /// The proof behind a result that went out lately, by the id that went out with it.
    pub async fn proof_of(&self, id: &str) -> Option<Value> {
        match self.results.proved(id)? {
            given::Answered::Sql(result) => Some(self.sql_proof(&result).await),
            given::Answered::Load(kept) => {
                let behind = self.behind_of(&kept.behind, &kept.tables).await;
                let tables = kept.table_versions();
                Some(kept.made.proof(&kept.body, kept.digest, &tables, &behind))
            }
        }
    }

    /// The proof that the load of `proof` would get now, for the same caller.
    ///
    /// # Errors
    /// Why it is not answered any more.
    pub async fn prove_load(&self, proof: &Value) -> Result<Value, String> {
        let request = &proof["request"];
        let context = SecurityContext::of_shown(&proof["context"]);
        let collecting = Self {
            collected: Collected::start(),
            ..self.clone()
        };
        let reply = collecting.load(request, &context).await;
        let error = reply.body["error"].as_str().map(str::to_owned);
        let served = Served::from(reply);
        if served.status != 200 || !served.has_data() {
            return Err(error.unwrap_or_default());
        }
        let parts = collecting.collected.parts();
        let relations = self.reads_of(&collecting.collected).await;
        let relations: Vec<TableName> = relations.map(|it| it.relations).unwrap_or_default();
        let tables = self.table_versions(&relations);
        let made = self.made("", request, &context, parts, &served);
        let behind = self.behind_now(&relations).await;
        Ok(made.proof(&served.body, served.digest, &tables, &behind))
    }

    /// Members by name and hash; what is none is left out.
    pub(crate) fn definitions_of(&self, names: &[String]) -> Vec<Value> {
        let model = &self.snapshot.model;
        let found = names.iter().filter_map(|name| model.find(name));
        let definition = found.map(|id| {
            let member = model.member(id);
            json!({ "member": member.full_name, "hash": member.hash, "model_hash": model.hash })
        });
        definition.collect()
    }
}

impl Made {
    fn proof(
        &self,
        body: &[u8],
        digest: [u8; 32],
        tables: &[TableVersion],
        behind: &Value,
    ) -> Value {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let results = match body["results"].as_array() {
            Some(results) => results.clone(),
            None => vec![body],
        };
        let evidence: Vec<Evidence> = self
            .parts
            .iter()
            .zip(&results)
            .map(|(part, result)| Evidence {
                policy: part.policy.clone(),
                rollup: part.rollup.clone(),
                tables: tables.to_vec(),
                rows: row_proofs(&objects(&result["data"]), &measures(&result["query"])),
            })
            .collect();
        let statements = self.parts.iter();
        let statements = statements.map(|it| json!({ "sql": it.sql, "params": it.params }));
        let sql: Vec<&str> = self.parts.iter().map(|it| it.sql.as_str()).collect();
        json!({
            "id": String::from_utf8_lossy(&self.id),
            "at": self.at.map(|at| at.to_string()),
            "request": self.request,
            "context": self.context.shown(),
            "query": results.iter().map(|it| &it["query"]).collect::<Vec<_>>(),
            "definition": self.definition,
            "model_hash": self.model_hash,
            "sql": sql.join(";\n"),
            "statements": statements.collect::<Vec<_>>(),
            "rows": results.iter().map(|it| rows_of(&it["data"])).sum::<usize>(),
            "checksum": hex(&digest),
            "behind": behind,
            "evidence": evidence,
            "data_version": self.data_version,
        })
    }
}

/// Every text of a query; what is no member is not found in the model.
pub(crate) fn members_in(query: &Value, names: &mut Vec<String>) {
    match query {
        Value::String(text) if text.contains('.') && !names.contains(text) => {
            names.push(text.clone())
        }
        Value::Array(items) => items.iter().for_each(|it| members_in(it, names)),
        Value::Object(entries) => entries.values().for_each(|it| members_in(it, names)),
        _ => {}
    }
}

/// The rows of the default form; the others are compared as a whole.
fn objects(data: &Value) -> Vec<Map<String, Value>> {
    let rows = data.as_array().into_iter().flatten();
    rows.filter_map(|row| row.as_object().cloned()).collect()
}

fn rows_of(data: &Value) -> usize {
    let columns = |it: &Value| it[0].as_array().map_or(0, Vec::len);
    match data {
        Value::Array(rows) => rows.len(),
        other => match &other["dataset"] {
            Value::Array(rows) => rows.len(),
            _ => columns(&other["columns"]),
        },
    }
}

fn measures(query: &Value) -> Vec<String> {
    let names = query["measures"].as_array().into_iter().flatten();
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}
